//! Push subscriptions: signs of life, watermarks, retries, and how they end.

use std::time::Duration;

use ewsnotify::sim::Style;
use ewsnotify::sim::exchange::{Fate, Post, Posted, PushFault};

use crate::support::{ADA, MAIL, Sim, events, subscribe_request, text};

const URL: &str = "https://hook.example.test/s3cret";

/// A subscription to new mail with a sign of life each ten minutes; its id and first watermark.
fn push(sim: &Sim) -> (String, String) {
    let more = format!("<t:StatusFrequency>10</t:StatusFrequency><t:URL>{URL}</t:URL>");
    let answer =
        sim.ask_valid(&subscribe_request("PushSubscriptionRequest", &["inbox"], &["NewMailEvent"], &more));
    (text(&answer, "SubscriptionId").unwrap(), text(&answer, "Watermark").unwrap())
}

/// What is due now, which is valid by the schema.
#[track_caller]
fn due(sim: &Sim) -> (Post, String) {
    let post = sim.exchange.next_push(Duration::ZERO).expect("something is due");
    let body = sim.note(&post.body);
    (post, body)
}

#[track_caller]
fn nothing_due(sim: &Sim) {
    let post = sim.exchange.next_push(Duration::ZERO);
    assert!(post.is_none(), "{post:?}");
}

fn marks(body: &str) -> (String, String) {
    (text(body, "PreviousWatermark").unwrap(), events(body).pop().unwrap().watermark.unwrap())
}

/// A receiver that checks the chain would see a gap where there is none, or none where there is one.
#[test]
fn the_url_is_checked_at_once_and_each_notification_goes_on_from_the_last() {
    let sim = Sim::new(Style::Exchange);
    let (id, start) = push(&sim);
    let (post, body) = due(&sim);
    assert_eq!((post.url.as_str(), post.subscription.as_str()), (URL, id.as_str()));
    assert_eq!(sim.lines(&body), ["Status"]);
    let (previous, status) = marks(&body);
    assert_eq!(previous, start);
    // One at a time.
    sim.exchange.deliver(ADA, MAIL).unwrap();
    nothing_due(&sim);
    sim.exchange.pushed(&post, Posted::Ok);
    let (post, body) = due(&sim);
    assert_eq!(sim.lines(&body).len(), 1);
    assert_eq!((marks(&body).0, text(&body, "MoreEvents").as_deref()), (status, Some("false")));
    assert!(body.contains("RequestServerVersion") && !body.contains("ServerVersionInfo"));
    sim.exchange.pushed(&post, Posted::Ok);
    nothing_due(&sim);
    sim.exchange.advance(Duration::from_secs(599));
    nothing_due(&sim);
    sim.exchange.advance(Duration::from_secs(2));
    let (_, status) = due(&sim);
    assert_eq!(sim.lines(&status), ["Status"]);
    assert_eq!(marks(&status).0, marks(&body).1);
}

/// More than fifty events come in several notifications, at once one after the other.
#[test]
fn more_events_follow_at_once() {
    let sim = Sim::new(Style::Exchange);
    push(&sim);
    let (post, _) = due(&sim);
    sim.exchange.pushed(&post, Posted::Ok);
    for _ in 0..120 {
        sim.exchange.deliver(ADA, MAIL).unwrap();
    }
    for (count, more) in [(50, "true"), (50, "true"), (20, "false")] {
        let (post, body) = due(&sim);
        assert_eq!((sim.lines(&body).len(), text(&body, "MoreEvents").as_deref()), (count, Some(more)));
        sim.exchange.pushed(&post, Posted::Ok);
    }
    nothing_due(&sim);
}

/// A receiver that is away for a while would lose mail, or one that is away for ever would be called for ever.
#[test]
fn what_is_not_answered_is_sent_again_until_the_frequency_is_used_up() {
    let sim = Sim::new(Style::Exchange);
    let (id, _) = push(&sim);
    let (post, _) = due(&sim);
    sim.exchange.pushed(&post, Posted::Ok);
    sim.exchange.deliver(ADA, MAIL).unwrap();
    let (post, first) = due(&sim);
    sim.exchange.pushed(&post, Posted::Failed);
    for wait in [30, 60, 120, 240] {
        // What happens meanwhile comes after it.
        sim.exchange.deliver(ADA, MAIL).unwrap();
        sim.exchange.advance(Duration::from_secs(wait - 1));
        nothing_due(&sim);
        sim.exchange.advance(Duration::from_secs(2));
        let (post, again) = due(&sim);
        assert_eq!(again, first, "the same again");
        assert_eq!(sim.exchange.subscriptions(ADA), [id.as_str()]);
        sim.exchange.pushed(&post, Posted::Failed);
    }
    // The next one would come after more than ten minutes.
    assert_eq!(sim.exchange.subscriptions(ADA), [""; 0]);
    nothing_due(&sim);
    let lost = sim.exchange.ledger().into_iter().filter(|t| t.fate == Fate::Lost).count();
    assert_eq!(lost, 5, "and the ledger says so");

    // One that comes back in time gets it.
    push(&sim);
    let (post, _) = due(&sim);
    sim.exchange.pushed(&post, Posted::Failed);
    sim.exchange.advance(Duration::from_secs(31));
    let (post, _) = due(&sim);
    sim.exchange.pushed(&post, Posted::Ok);
    assert_eq!(sim.exchange.subscriptions(ADA).len(), 1);
}

/// A subscription that nobody wants any more would be served for ever.
#[test]
fn unsubscribe_is_obeyed() {
    let sim = Sim::new(Style::Exchange);
    let (id, _) = push(&sim);
    let unsubscribe = format!("<m:Unsubscribe><m:SubscriptionId>{id}</m:SubscriptionId></m:Unsubscribe>");
    assert_eq!(
        text(&sim.ask(&unsubscribe), "ResponseCode").as_deref(),
        Some("ErrorInvalidPullSubscriptionId")
    );
    let (post, _) = due(&sim);
    sim.exchange.pushed(&post, Posted::Unsubscribe);
    assert_eq!(sim.exchange.subscriptions(ADA), [""; 0]);
    sim.exchange.deliver(ADA, MAIL).unwrap();
    sim.exchange.advance(Duration::from_secs(3600));
    nothing_due(&sim);
}

/// A receiver is to be tried against errors too, with and without the Notification that the schema demands.
#[test]
fn an_error_ends_it() {
    for whole in [true, false] {
        let sim = Sim::new(Style::Exchange);
        push(&sim);
        let (post, _) = due(&sim);
        sim.exchange.pushed(&post, Posted::Ok);
        sim.exchange.fail_push(PushFault::Error("ErrorReadEventsFailed".into(), whole));
        sim.exchange.deliver(ADA, MAIL).unwrap();
        let post = sim.exchange.next_push(Duration::ZERO).unwrap();
        let body = String::from_utf8(post.body.clone()).unwrap();
        assert_eq!(text(&body, "ResponseCode").as_deref(), Some("ErrorReadEventsFailed"));
        assert_eq!(text(&body, "SubscriptionId").is_some(), whole);
        if whole {
            sim.note(&post.body);
        }
        sim.exchange.pushed(&post, Posted::Ok);
        assert_eq!(sim.exchange.subscriptions(ADA), [""; 0]);
    }
}
