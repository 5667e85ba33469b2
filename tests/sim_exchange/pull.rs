//! Pull subscriptions: watermarks, MoreEvents, time-outs.

use std::time::Duration;

use ewsnotify::sim::Style;

use crate::support::{ADA, ALL_EVENTS, BOB, MAIL, Sim, code, events, subscribe_request, text};

fn pull(sim: &Sim, events: &[&str], more: &str) -> (String, String) {
    let answer = sim.ask_valid(&subscribe_request("PullSubscriptionRequest", &["inbox"], events, more));
    let watermark = text(&answer, "Watermark").unwrap_or_default();
    (text(&answer, "SubscriptionId").unwrap_or_else(|| panic!("{answer}")), watermark)
}

fn get(id: &str, mark: &str) -> String {
    format!(
        "<m:GetEvents><m:SubscriptionId>{id}</m:SubscriptionId><m:Watermark>{mark}</m:Watermark></m:GetEvents>"
    )
}

/// A client that loses an answer asks again with the same watermark and must get the same events.
#[test]
fn a_watermark_gives_the_same_events_as_often_as_it_is_asked_with() {
    let sim = Sim::new(Style::Exchange);
    let (id, start) = pull(&sim, &ALL_EVENTS, "<t:Timeout>10</t:Timeout>");
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let expected =
        ["Created i1 in inbox", "NewMail i1 in inbox", "Modified inbox in msgfolderroot, 1 unread"];
    for _ in 0..3 {
        let answer = sim.ask_valid(&get(&id, &start));
        assert_eq!(sim.lines(&answer), expected);
        assert_eq!(text(&answer, "PreviousWatermark").as_deref(), Some(start.as_str()));
        assert_eq!(text(&answer, "MoreEvents").as_deref(), Some("false"));
    }
    let all = events(&sim.ask(&get(&id, &start)));
    let second = all[1].watermark.clone().unwrap();
    assert_eq!(sim.lines(&sim.ask(&get(&id, &second))), expected[2..]);
}

/// An empty answer still moves the watermark on, past events that the subscription did not ask for.
#[test]
fn a_status_event_carries_a_newer_watermark() {
    let sim = Sim::new(Style::Exchange);
    let (id, start) = pull(&sim, &["DeletedEvent"], "<t:Timeout>10</t:Timeout>");
    sim.exchange.deliver(ADA, MAIL).unwrap();
    let answer = sim.ask(&get(&id, &start));
    assert_eq!(sim.lines(&answer), ["Status"]);
    let status = events(&answer).remove(0).watermark.unwrap();
    assert_ne!(status, start);
    assert_eq!(sim.lines(&sim.ask(&get(&id, &status))), ["Status"]);
}

/// More than fifty events come in several answers, none twice, none left out.
#[test]
fn more_events_are_drained_in_batches() {
    let sim = Sim::new(Style::Exchange);
    let (id, mut mark) = pull(&sim, &["NewMailEvent"], "<t:Timeout>10</t:Timeout>");
    for n in 0..120 {
        sim.name(&format!("i{n}"), &sim.exchange.deliver(ADA, MAIL).unwrap());
    }
    let (mut lines, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let answer = sim.ask(&get(&id, &mark));
        mark = events(&answer).pop().unwrap().watermark.unwrap();
        sizes.push(sim.lines(&answer).len());
        lines.extend(sim.lines(&answer));
        if text(&answer, "MoreEvents").as_deref() == Some("false") {
            break;
        }
    }
    assert_eq!(sizes, [50, 50, 20]);
    assert_eq!(lines, (0..120).map(|n| format!("NewMail i{n} in inbox")).collect::<Vec<_>>());
}

/// A new subscription can begin where a lost one ended; a watermark that is none is refused.
#[test]
fn a_subscription_can_begin_at_a_watermark() {
    let sim = Sim::new(Style::Exchange);
    let (lost, mark) = pull(&sim, &["NewMailEvent"], "<t:Timeout>10</t:Timeout>");
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    sim.exchange.lose_subscription(&lost);
    assert_eq!(code(&sim.ask(&get(&lost, &mark))), "ErrorSubscriptionNotFound");
    let again = format!("<t:Watermark>{mark}</t:Watermark><t:Timeout>10</t:Timeout>");
    let (id, mark) = pull(&sim, &["NewMailEvent"], &again);
    assert_eq!(sim.lines(&sim.ask(&get(&id, &mark))), ["NewMail i1 in inbox"]);
    for bad in ["AAAAAA==", "nonsense", &mark.to_lowercase()] {
        assert_eq!(code(&sim.ask(&get(&id, bad))), "ErrorInvalidWatermark", "{bad}");
    }
    let more = "<t:Watermark>AAAAAA==</t:Watermark><t:Timeout>10</t:Timeout>";
    let answer = sim.ask(&subscribe_request("PullSubscriptionRequest", &["inbox"], &["NewMailEvent"], more));
    assert_eq!(code(&answer), "ErrorInvalidWatermark");
}

/// Nobody asks for ten minutes: the subscription is gone. Asking keeps it.
#[test]
fn a_pull_subscription_times_out() {
    let sim = Sim::new(Style::Exchange);
    let (id, mark) = pull(&sim, &["NewMailEvent"], "<t:Timeout>10</t:Timeout>");
    for _ in 0..3 {
        sim.exchange.advance(Duration::from_secs(9 * 60));
        assert_eq!(code(&sim.ask(&get(&id, &mark))), "NoError");
    }
    sim.exchange.advance(Duration::from_secs(10 * 60));
    assert_eq!(code(&sim.ask(&get(&id, &mark))), "ErrorSubscriptionNotFound");
}

/// Only the account that made a subscription may read it or give it back.
#[test]
fn a_subscription_belongs_to_its_owner() {
    let sim = Sim::new(Style::Exchange);
    let (id, mark) = pull(&sim, &["NewMailEvent"], "<t:Timeout>10</t:Timeout>");
    assert_eq!(code(&sim.ask_as(BOB, "", &get(&id, &mark))), "ErrorSubscriptionAccessDenied");
    let unsubscribe = format!("<m:Unsubscribe><m:SubscriptionId>{id}</m:SubscriptionId></m:Unsubscribe>");
    assert_eq!(code(&sim.ask_as(BOB, "", &unsubscribe)), "ErrorSubscriptionAccessDenied");
    assert_eq!(code(&sim.ask_valid(&unsubscribe)), "NoError");
    assert_eq!(code(&sim.ask(&get(&id, &mark))), "ErrorSubscriptionNotFound");
}

/// gromox has no watermarks: what was told is gone, and the message has a name of its own.
#[test]
fn gromox_tells_once() {
    let sim = Sim::new(Style::Gromox);
    let request =
        subscribe_request("PullSubscriptionRequest", &["inbox"], &ALL_EVENTS, "<t:Timeout>10</t:Timeout>");
    let answer = sim.ask(&request);
    let id = text(&answer, "SubscriptionId").unwrap();
    assert_eq!((id.as_str(), text(&answer, "Watermark")), ("AQAAAAoAAAA=", None));
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let answer = sim.ask(&get(&id, "AAAAAA=="));
    assert!(
        answer.contains(
            "<m:x ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode><m:Notification>"
        )
    );
    assert_eq!(sim.lines(&answer).len(), 3);
    assert!(sim.ask(&get(&id, "AAAAAA==")).contains("<t:MoreEvents>false</t:MoreEvents><t:StatusEvent/>"));
    sim.ask(&format!("<m:Unsubscribe><m:SubscriptionId>{id}</m:SubscriptionId></m:Unsubscribe>"));
    let gone = sim.ask(&get(&id, "AAAAAA=="));
    assert!(gone.contains(
        "<m:x ResponseClass=\"Error\"><m:MessageText>E-3202: invalid subscription</m:MessageText>\
         <m:ResponseCode>ErrorInvalidSubscription</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey></m:x>"
    ));
}
