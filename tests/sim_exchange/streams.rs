//! Streams: their bytes, their life, what queues between them, and what ends them.

use std::sync::Arc;
use std::time::Duration;

use ewsnotify::sim::exchange::{Fate, Next};
use ewsnotify::sim::{Answer, Style};

use crate::support::{ADA, ALL_EVENTS, BOB, MAIL, Sim, code, stream_request, text, texts};

/// Foreign clients depend on these very bytes: no declaration, no prefix on the Envelope, `soap11` on Header and Body.
#[test]
fn exchange_streams_have_exchange_s_bytes() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let mut open = sim.open(&[&id]);
    let first = open.next();
    let start = "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap11:Header \
        xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\"><ServerVersionInfo MajorVersion=\"15\"";
    assert!(first.starts_with(start), "{first}");
    let end = "<m:ResponseCode>NoError</m:ResponseCode><m:ConnectionStatus>OK</m:ConnectionStatus>\
        </m:GetStreamingEventsResponseMessage></m:ResponseMessages></m:GetStreamingEventsResponse></soap11:Body></Envelope>";
    assert!(first.ends_with(end), "{first}");
    sim.exchange.deliver(ADA, MAIL).unwrap();
    let event = open.next();
    let start = format!(
        "<m:ResponseCode>NoError</m:ResponseCode><m:Notifications><m:Notification><t:SubscriptionId>{id}\
         </t:SubscriptionId><t:NewMailEvent><t:TimeStamp>"
    );
    assert!(event.contains(&start), "{event}");
    assert!(event.contains("ChangeKey=\"CQAAAA==\" /><t:ParentFolderId Id=\"AAMk"), "{event}");
    assert!(!event.contains("ConnectionStatus"), "{event}");
}

/// gromox declares XML in the first envelope only, has empty lists, and no change keys.
#[test]
fn gromox_streams_have_gromox_s_bytes() {
    let sim = Sim::new(Style::Gromox);
    let id = sim.subscribe(&["inbox"], &ALL_EVENTS);
    assert_eq!(id, "AQAAAAUAAAA=");
    let mut open = sim.open(&[&id]);
    let first = open.next();
    assert!(
        first.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><SOAP:Envelope xmlns:SOAP="),
        "{first}"
    );
    assert!(
        first.contains(
            "<m:Notifications/><m:ErrorSubscriptionIds/><m:ConnectionStatus>OK</m:ConnectionStatus>"
        )
    );
    sim.exchange.deliver(ADA, MAIL).unwrap();
    let event = open.next();
    assert!(event.starts_with("<SOAP:Envelope ") && !event.contains("ChangeKey"), "{event}");
    assert!(event.contains("<t:MoreEvents>false</t:MoreEvents><t:CreatedEvent>"), "{event}");
    sim.exchange.advance(Duration::from_secs(45));
    assert!(open.next().contains("<t:MoreEvents>false</t:MoreEvents><t:StatusEvent/></m:Notification>"));
    sim.exchange.advance(Duration::from_secs(1800));
    assert!(open.next().contains(
        "<t:StatusEvent/></m:Notification></m:Notifications><m:ErrorSubscriptionIds/>\
        <m:ConnectionStatus>Closed"
    ));
    assert!(open.last().contains("<m:Notifications/><m:ErrorSubscriptionIds/><m:ConnectionStatus>Closed"));
}

/// A stream without heartbeats looks dead to a client; one that never closes keeps a dead client's place for ever.
#[test]
fn heartbeats_come_and_the_life_ends_with_closed() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.subscribe(&["inbox"], &ALL_EVENTS);
    let mut open = sim.open_as(ADA, &[&id], 1);
    open.next();
    open.idle();
    sim.exchange.advance(Duration::from_secs(30));
    assert_eq!(text(&open.next(), "ConnectionStatus").as_deref(), Some("OK"));
    open.idle();
    sim.exchange.advance(Duration::from_secs(30));
    let last = open.last();
    assert_eq!(
        (code(&last).as_str(), text(&last, "ConnectionStatus").as_deref()),
        ("NoError", Some("Closed"))
    );
    assert_eq!(sim.exchange.open_streams(), 0);
    // The subscription outlives its stream, and what happens meanwhile waits.
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let mut again = sim.open(&[&id]);
    assert_eq!(text(&again.next(), "ConnectionStatus").as_deref(), Some("OK"));
    assert_eq!(again.lines().len(), 3);
}

/// The waiting really wakes when something happens, and when the server stops.
#[test]
fn waits_end_when_something_happens() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let mut open = sim.open(&[&id]);
    open.next();
    let mut stream = open.stream.take().unwrap();
    let exchange = Arc::new(&sim.exchange);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let event = exchange.next_envelope(&mut stream, Duration::from_secs(60));
            let idle = exchange.next_envelope(&mut stream, Duration::from_secs(60));
            (event, idle)
        });
        exchange.deliver(ADA, MAIL).unwrap();
        // Told, so the first wait is over; the second may not have begun, so it is woken until it ends.
        while !waiting.is_finished() {
            if exchange.ledger().iter().any(|t| t.fate == Fate::Told) {
                exchange.wake_all();
            }
            std::thread::yield_now();
        }
        let (event, idle) = waiting.join().unwrap();
        assert!(matches!(event, Next::Envelope(_)) && matches!(idle, Next::Idle));
    });
}

/// A stream that is not told of what happens says so only with its next heartbeat, and all that is tested against it looks slow.
#[test]
fn whatever_happens_is_said_at_once() {
    type Cause = fn(&Sim, &str);
    let causes: [(&str, Cause); 8] = [
        ("a mail", |sim, _| drop(sim.exchange.deliver(ADA, MAIL).unwrap())),
        ("a loss", |sim, id| assert_eq!(sim.exchange.lose_subscription(id), 1)),
        ("a restart", |sim, _| sim.exchange.restart()),
        ("Unsubscribe", |sim, id| {
            let id = format!("<m:SubscriptionId>{id}</m:SubscriptionId>");
            sim.ask(&format!("<m:Unsubscribe>{id}</m:Unsubscribe>"));
        }),
        ("another stream", |sim, id| drop(sim.open(&[id]))),
        ("a move", |sim, _| sim.exchange.place_mailbox(ADA, "elsewhere", "mbx2").unwrap()),
        ("time", |sim, _| sim.exchange.advance(Duration::from_secs(1800))),
        ("other settings", |sim, _| sim.exchange.configure(|s| s.heartbeat = Duration::ZERO)),
    ];
    for style in [Style::Exchange, Style::Gromox] {
        for (name, happens) in causes {
            let sim = Sim::new(style);
            sim.exchange.configure(|s| s.heartbeat = Duration::from_secs(86_400));
            sim.exchange.place_mailbox(ADA, "here", "mbx1").unwrap();
            let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
            let mut open = sim.open(&[&id]);
            open.next();
            open.idle();
            happens(&sim, &id);
            let next = sim.exchange.next_envelope(open.stream.as_mut().unwrap(), Duration::ZERO);
            assert!(!matches!(next, Next::Idle), "{style:?} says nothing of {name}");
        }
    }
}

/// What was handed over is gone, cut or not: that is the loss that a client has to find out about.
#[test]
fn events_handed_to_a_cut_socket_are_gone_and_the_ledger_knows() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let mut open = sim.open(&[&id]);
    open.next();
    let lost = sim.exchange.deliver(ADA, MAIL).unwrap();
    open.next();
    open.cut();
    let kept = sim.name("i2", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let mut open = sim.open(&[&id]);
    open.next();
    assert_eq!(open.lines(), ["NewMail i2 in inbox"]);
    let ledger = sim.exchange.ledger();
    let told: Vec<_> = ledger.iter().map(|t| (t.connection, t.item_id.clone().unwrap(), t.fate)).collect();
    assert_eq!(told, [(1, lost, Fate::Told), (2, kept, Fate::Told)]);
}

/// The bounded queue runs over, the client is told, and the subscription lives on.
#[test]
fn a_full_queue_is_told_on_the_next_connection() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.configure(|s| s.queue = 2);
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    for name in ["i1", "i2", "i3"] {
        sim.name(name, &sim.exchange.deliver(ADA, MAIL).unwrap());
    }
    let mut open = sim.open(&[&id]);
    assert_eq!(text(&open.next(), "ConnectionStatus").as_deref(), Some("OK"));
    let missed = open.next();
    assert_eq!(
        (code(&missed).as_str(), texts(&missed, "SubscriptionId")),
        ("ErrorMissedNotificationEvents", vec![id])
    );
    assert_eq!(open.lines(), ["NewMail i1 in inbox", "NewMail i2 in inbox"]);
    assert_eq!(sim.exchange.ledger().iter().filter(|t| t.fate == Fate::Overflowed).count(), 1);
    sim.name("i4", &sim.exchange.deliver(ADA, MAIL).unwrap());
    assert_eq!(open.lines(), ["NewMail i4 in inbox"]);
}

/// Two clients with the same id: the newer one has it, the older one is told why it ends.
#[test]
fn a_second_stream_takes_over() {
    let sim = Sim::new(Style::Exchange);
    let (one, two) =
        (sim.subscribe(&["inbox"], &["NewMailEvent"]), sim.subscribe(&["drafts"], &["CreatedEvent"]));
    let mut first = sim.open(&[&one, &two]);
    first.next();
    let mut second = sim.open(&[&one]);
    second.next();
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let end = first.last();
    assert_eq!(code(&end), "ErrorNewEventStreamConnectionOpened");
    assert_eq!(texts(&end, "SubscriptionId"), [one]);
    first.cut();
    assert_eq!(second.lines(), ["NewMail i1 in inbox"]);
}

/// One connection for several mailboxes' subscriptions is how a pool works.
#[test]
fn several_subscriptions_share_a_stream() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.grant(BOB, ADA).unwrap();
    let bobs_inbox = sim.exchange.folder_id(BOB, "inbox").unwrap();
    let (ada, bob) =
        (sim.subscribe(&["inbox"], &["NewMailEvent"]), sim.subscribe(&[&bobs_inbox], &["NewMailEvent"]));
    let mut open = sim.open(&[&ada, &bob]);
    open.next();
    sim.exchange.deliver(ADA, MAIL).unwrap();
    sim.exchange.deliver(BOB, MAIL).unwrap();
    assert_eq!(texts(&open.next(), "SubscriptionId"), [ada, bob]);
    open.idle();
}

/// More than a batch is split, in order.
#[test]
fn batches_are_bounded() {
    for style in [Style::Exchange, Style::Gromox] {
        let sim = Sim::new(style);
        let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
        for n in 0..60 {
            sim.name(&format!("i{n}"), &sim.exchange.deliver(ADA, MAIL).unwrap());
        }
        let mut open = sim.open(&[&id]);
        open.next();
        let (one, two) = (open.next(), open.next());
        let lines: Vec<String> = [&one, &two].iter().flat_map(|xml| sim.lines(xml)).collect();
        assert_eq!((sim.lines(&one).len(), sim.lines(&two).len()), (50, 10));
        assert_eq!(lines, (0..60).map(|n| format!("NewMail i{n} in inbox")).collect::<Vec<_>>());
        if style == Style::Gromox {
            assert_eq!(
                (text(&one, "MoreEvents").unwrap(), text(&two, "MoreEvents").unwrap()),
                ("true".into(), "false".into())
            );
        }
    }
}

/// With a bad id Exchange says which, and tells the good ones nothing; a client has to leave it out and ask again.
#[test]
fn a_bad_id_silences_the_connection() {
    let sim = Sim::new(Style::Exchange);
    let good = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let gone = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    sim.exchange.lose_subscription(&gone);
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let mut open = sim.open(&[&good, &gone]);
    let end = open.last();
    assert_eq!(
        (code(&end).as_str(), texts(&end, "SubscriptionId")),
        ("ErrorSubscriptionNotFound", vec![gone])
    );
    assert!(end.contains("<m:ErrorSubscriptionIds><m:SubscriptionId>"), "{end}");
    open.cut();
    assert_eq!(code(&sim.open(&["nonsense"]).last()), "ErrorInvalidSubscription");
    let mut open = sim.open(&[&good]);
    open.next();
    assert_eq!(open.lines(), ["NewMail i1 in inbox"]);
    let mut other = sim.open_as(BOB, &[&good], 30);
    assert_eq!(code(&other.last()), "ErrorSubscriptionAccessDenied");
}

/// As gromox does it: Error and Closed at first, then live events inside errors.
#[test]
fn gromox_mixes_errors_and_events() {
    let sim = Sim::new(Style::Gromox);
    let good = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let bad = "/////wUAAAA=";
    let mut open = sim.open(&[&good, bad]);
    let first = open.next();
    assert_eq!(
        (code(&first).as_str(), text(&first, "ConnectionStatus").unwrap()),
        ("ErrorInvalidSubscription", "Closed".into())
    );
    assert!(
        first.contains(&format!("<m:ErrorSubscriptionIds><SubscriptionId>{bad}</SubscriptionId></m:Err"))
    );
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let live = open.next();
    assert_eq!(
        (code(&live).as_str(), text(&live, "ConnectionStatus").unwrap()),
        ("ErrorInvalidSubscription", "OK".into())
    );
    assert_eq!(sim.lines(&live), ["NewMail i1 in inbox"]);
    // A malformed id is a fault, with status 200.
    match sim.post(ADA, "", &stream_request(&["not-an-id"], 1)) {
        Answer::Whole { status, body } => {
            let body = String::from_utf8(body).unwrap();
            assert_eq!((status, text(&body, "faultcode").as_deref()), (200, Some("SOAP:Client")));
            assert!(body.starts_with("<SOAP:Envelope"), "{body}");
        }
        Answer::Stream(_) => panic!("a fault was due"),
    }
}

/// A subscription that dies under an open stream is named, and the others go on.
#[test]
fn a_death_under_an_open_stream_is_told() {
    let sim = Sim::new(Style::Exchange);
    let (one, two) =
        (sim.subscribe(&["inbox"], &["NewMailEvent"]), sim.subscribe(&["inbox"], &["CreatedEvent"]));
    let mut open = sim.open(&[&one, &two]);
    open.next();
    sim.exchange.lose_subscription(&one);
    let dead = open.next();
    assert_eq!(
        (code(&dead).as_str(), texts(&dead, "SubscriptionId")),
        ("ErrorSubscriptionNotFound", vec![one])
    );
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    assert_eq!(open.lines(), ["Created i1 in inbox"]);
    sim.ask(&format!("<m:Unsubscribe><m:SubscriptionId>{two}</m:SubscriptionId></m:Unsubscribe>"));
    assert_eq!(code(&open.last()), "ErrorSubscriptionUnsubscribed");
    let again =
        sim.ask(&format!("<m:Unsubscribe><m:SubscriptionId>{two}</m:SubscriptionId></m:Unsubscribe>"));
    assert_eq!(code(&again), "ErrorSubscriptionNotFound");
}

/// gromox ends a stream whose last subscription was given back, without an error.
#[test]
fn gromox_closes_after_unsubscribe() {
    let sim = Sim::new(Style::Gromox);
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let mut open = sim.open(&[&id]);
    open.next();
    sim.ask(&format!("<m:Unsubscribe><m:SubscriptionId>{id}</m:SubscriptionId></m:Unsubscribe>"));
    assert_eq!(text(&open.last(), "ConnectionStatus").as_deref(), Some("Closed"));
}

/// The server keeps its own bounds: how many streams an account has, and how many subscriptions a mailbox.
#[test]
fn bounds_of_streams_and_subscriptions() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.configure(|s| (s.max_streams, s.max_subscriptions) = (Some(1), 1));
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let open = sim.open(&[&id]);
    assert_eq!(code(&sim.ask(&stream_request(&[&id], 30))), "ErrorExceededConnectionCount");
    open.cut();
    let mut open = sim.open(&[&id]);
    open.next();
    let more =
        crate::support::subscribe_request("StreamingSubscriptionRequest", &["inbox"], &["NewMailEvent"], "");
    assert_eq!(code(&sim.ask(&more)), "ErrorExceededSubscriptionCount");
}
