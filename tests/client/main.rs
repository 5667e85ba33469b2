//! The client over real sockets and TLS: every kind of event, content, several mailboxes.
#![cfg(feature = "sim")]

mod refusals;
#[path = "../common/watching.rs"]
mod watching;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use ewsnotify::sim::exchange::Deletion;
use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::sim::{Answer, Style};
use ewsnotify::{Client, Content, ErrorKind, Event, EventKind, Fetch, Next, Options, Reason};
use watching::{ADA, Watching, modes, server};

const BOB: &str = "bob@example.test";
const HOUR: Duration = Duration::from_secs(3600);

// Each kind of event, told with the ids of its thing, in each mode and style.
#[test]
fn every_kind_of_event() {
    for style in [Style::Exchange, Style::Gromox] {
        for &mode in modes(style) {
            let mut w = Watching::start(server(style), &[("mode", mode), ("folders", "inbox,calendar")]);
            w.connected();
            let exchange = w.sim.exchange();
            let inbox = exchange.folder_id(ADA, "inbox").unwrap();
            let calendar = exchange.folder_id(ADA, "calendar").unwrap();
            let mail = exchange.deliver(ADA, b"Subject: one\r\n\r\n").unwrap();
            exchange.set_read(&mail, true).unwrap();
            let copy = exchange.copy_item(&mail, "inbox").unwrap();
            // A move renames what has not been taken.
            w.until("the copy", |e| e.kind == EventKind::Copied);
            let exchange = w.sim.exchange();
            let moved = exchange.move_item(&mail, "drafts").unwrap();
            exchange.delete_item(&copy, Deletion::Hard).unwrap();
            let appointment = exchange.create_appointment(ADA, "noon", SystemTime::now(), HOUR).unwrap();
            exchange.create_folder(ADA, "inbox", "Bills").unwrap();
            w.until("the last one", |e| e.kind == EventKind::Created && e.folder_id.is_some());

            let find = |kind: EventKind, id: &str| -> &Event {
                let found = w.events.iter().filter(|e| e.kind == kind && e.item_id.as_deref() == Some(id));
                let found: Vec<_> = found.collect();
                assert_eq!(found.len(), 1, "{style:?} {mode} {kind:?}: {:#?}", w.events);
                found[0]
            };
            assert_eq!(find(EventKind::Created, &mail).parent_folder_id.as_ref(), Some(&inbox));
            find(EventKind::NewMail, &mail);
            find(EventKind::Modified, &mail);
            let copied = find(EventKind::Copied, &copy);
            assert_eq!(copied.old_item_id.as_ref(), Some(&mail));
            assert_eq!(copied.old_parent_folder_id.as_ref(), Some(&inbox));
            assert_eq!(find(EventKind::Moved, &moved).old_item_id.as_ref(), Some(&mail));
            find(EventKind::Deleted, &copy);
            find(EventKind::Created, &appointment);
            if style == Style::Exchange {
                let busy = w.events.iter().find(|e| e.kind == EventKind::FreeBusyChanged);
                assert_eq!(
                    busy.and_then(|e| e.parent_folder_id.as_ref()),
                    Some(&calendar),
                    "{:#?}",
                    w.events
                );
            }
            let folder = |e: &&Event| e.kind == EventKind::Modified && e.folder_id.as_ref() == Some(&inbox);
            let unread: Vec<_> = w.events.iter().filter(folder).filter_map(|e| e.unread_count).collect();
            assert!(unread.contains(&1), "{unread:?}");
            let seqs: Vec<u64> = w.events.iter().map(|e| e.seq).collect();
            assert!(seqs.is_sorted() && seqs.iter().collect::<BTreeSet<_>>().len() == seqs.len(), "{seqs:?}");
            assert_eq!(w.count(EventKind::Gap), 0);
            w.assert_no_busy_loop(10);
        }
    }
}

// Only what was asked for, although more is subscribed to.
#[test]
fn only_the_kinds_that_were_asked_for() {
    let mut w = Watching::start(server(Style::Exchange), &[("events", "NewMail,Deleted")]);
    w.connected();
    let id = w.deliver();
    w.sim.exchange().delete_item(&id, Deletion::Hard).unwrap();
    w.until("Deleted", |e| e.kind == EventKind::Deleted);
    let kinds: Vec<EventKind> = w.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Connected, EventKind::NewMail, EventKind::Deleted]);
}

// With all folders nothing is filtered away, wherever it happens.
#[test]
fn all_folders() {
    for style in [Style::Exchange, Style::Gromox] {
        let mut w = Watching::start(server(style), &[("all_folders", "true")]);
        w.connected();
        w.sim.exchange().create_folder(ADA, "inbox", "Later").unwrap();
        let id = w.sim.exchange().deliver_into(ADA, "Inbox/Later", b"Subject: deep\r\n\r\n").unwrap();
        w.until("NewMail", |e| e.kind == EventKind::NewMail && e.item_id.as_ref() == Some(&id));
        assert_eq!(w.count(EventKind::Gap), 0);
        assert_eq!(w.count(EventKind::Resubscribed), 0);
    }
}

const MAIL: &str = "From: =?utf-8?q?J=C3=B6rg?= <joerg@example.test>\r\nTo: Ada <ada@example.test>, bob@example.test\r\n\
    Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\nMessage-ID: <m1@example.test>\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nHello\r\n\
    --x\r\nContent-Type: application/pdf; name=bill.pdf\r\nContent-Disposition: attachment; filename=bill.pdf\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--x--\r\n";

// The content is with the event, in the order of the server, whatever the fetch costs.
#[test]
fn content_comes_with_the_event() {
    for fetch in ["summary", "mime"] {
        let mut w = Watching::start(server(Style::Exchange), &[("fetch", fetch)]);
        w.connected();
        w.sim.add_fault(Fault::new(Action::SlowHead { delay: Duration::from_millis(300) }).on("GetItem"));
        let first = w.sim.exchange().deliver(ADA, MAIL.as_bytes()).unwrap();
        let second = w.deliver();
        let event =
            w.until("NewMail", |e| e.kind == EventKind::NewMail && e.item_id.as_ref() == Some(&first));
        let item = event.item.as_ref().unwrap();
        assert_eq!(item.content, Some(Content::Ok));
        assert_eq!(item.subject.as_deref(), Some("Grüße"));
        assert_eq!(item.from.as_deref(), Some("Jörg <joerg@example.test>"));
        assert_eq!(item.to, ["Ada <ada@example.test>", "bob@example.test"]);
        assert_eq!(item.message_id.as_deref(), Some("<m1@example.test>"));
        assert_eq!(item.attachments.len(), 1);
        assert_eq!(item.attachments[0].name.as_deref(), Some("bill.pdf"));
        assert_eq!(item.attachments[0].content_type.as_deref(), Some("application/pdf"));
        assert!(item.size.is_some() && item.received.is_some());
        w.until("the second NewMail", |e| {
            e.kind == EventKind::NewMail && e.item_id.as_ref() == Some(&second)
        });
        match (fetch, &item.mime_path) {
            ("mime", Some(path)) => {
                assert_eq!(std::fs::read_to_string(path).unwrap(), MAIL);
                assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
                let path = path.clone();
                drop(w);
                assert!(!std::path::Path::new(&path).exists(), "the private folder goes with the client");
            }
            ("summary", None) => {}
            other => panic!("{other:?}"),
        }
    }
}

// A mail that was gone before it could be read is still told.
#[test]
fn content_that_is_gone() {
    let mut w = Watching::start(server(Style::Exchange), &[("fetch", "summary"), ("events", "NewMail")]);
    w.connected();
    w.sim.add_fault(
        Fault::new(Action::Status { code: 503, retry_after: Some(1), retry_date: None, body: None })
            .on("GetItem"),
    );
    let id = w.deliver();
    w.sim.exchange().delete_item(&id, Deletion::Hard).unwrap();
    let event = w.until("NewMail", |e| e.kind == EventKind::NewMail);
    assert_eq!(event.item.unwrap().content, Some(Content::Gone));
}

// One read by the host itself.
#[test]
fn an_item_by_its_id() {
    let mut w = Watching::start(server(Style::Exchange), &[]);
    w.connected();
    let id = w.sim.exchange().deliver(ADA, MAIL.as_bytes()).unwrap();
    assert_eq!(w.client.get_item(1, &id, None, Fetch::Summary).unwrap().subject.as_deref(), Some("Grüße"));
    let item = w.client.get_item(1, &id, None, Fetch::Mime).unwrap();
    assert_eq!(std::fs::read_to_string(item.mime_path.unwrap()).unwrap(), MAIL);
    w.sim.exchange().delete_item(&id, Deletion::Hard).unwrap();
    let e = w.client.get_item(1, &id, None, Fetch::Summary).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Server, Some("ErrorItemNotFound")));
    assert!(!e.is_retryable());
}

/// A service account that watches mailboxes of others.
fn service(mailboxes: &[&str], settings: &[(&str, &str)]) -> (ewsnotify::sim::Sim, Client) {
    let sim = server(Style::Exchange);
    sim.add_user("svc@example.test", "secret");
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    options.set("user", "svc@example.test").unwrap().set("password", "secret").unwrap();
    options.set("access", "impersonate").unwrap().set("catch_up", "false").unwrap();
    for (key, value) in settings {
        options.set(key, value).unwrap();
    }
    let client = Client::open(&options).unwrap();
    for mailbox in mailboxes {
        sim.exchange().add_mailbox(mailbox);
        client.watch(Options::new().set("mailbox", mailbox).unwrap()).unwrap();
    }
    (sim, client)
}

fn next(client: &Client) -> Event {
    match client.next(Duration::from_secs(60)) {
        Next::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

// One bad subscription must not silence the others on its stream.
#[test]
fn one_lost_subscription_of_two() {
    let (sim, client) = service(&[ADA, BOB], &[]);
    for _ in 0..2 {
        assert_eq!(next(&client).kind, EventKind::Connected);
    }
    assert_eq!(sim.stats().of("GetStreamingEvents"), 1, "one stream for both: {:?}", sim.stats());
    assert_eq!(sim.exchange().lose_subscription(BOB), 1);
    let mut told = BTreeSet::new();
    let mut resubscribed = false;
    let ada = sim.exchange().deliver(ADA, b"Subject: for ada\r\n\r\n").unwrap();
    while !resubscribed || !told.contains(&ada) {
        let event = next(&client);
        resubscribed |= event.kind == EventKind::Resubscribed && &*event.mailbox == BOB;
        if event.kind == EventKind::NewMail {
            told.extend(event.item_id);
        }
    }
    let bob = sim.exchange().deliver(BOB, b"Subject: for bob\r\n\r\n").unwrap();
    while !told.contains(&bob) {
        let event = next(&client);
        if event.kind == EventKind::NewMail {
            assert_eq!(&*event.mailbox, BOB);
            told.extend(event.item_id);
        }
    }
}

// Many mailboxes share few streams, and each is told of its own mail only.
#[test]
fn many_mailboxes() {
    let names: Vec<String> = (0..230).map(|n| format!("box{n}@example.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (sim, client) = service(&names, &[("events", "NewMail")]);
    let mut connected = BTreeSet::new();
    while connected.len() < names.len() {
        let event = next(&client);
        assert_ne!(event.kind, EventKind::Gap);
        if event.kind == EventKind::Connected {
            connected.insert(event.mailbox.to_string());
        }
    }
    assert_eq!(client.status().connections.len(), 2, "200 and 30");
    let sent: BTreeSet<(String, String)> = names
        .iter()
        .map(|name| (name.to_string(), sim.exchange().deliver(name, b"Subject: x\r\n\r\n").unwrap()))
        .collect();
    let mut told = BTreeSet::new();
    while told.len() < sent.len() {
        let event = next(&client);
        if event.kind == EventKind::NewMail {
            assert!(told.insert((event.mailbox.to_string(), event.item_id.unwrap())));
        }
    }
    assert_eq!(told, sent);
    assert!(client.close());
    assert!(sim.wait_until(Duration::from_secs(60), |s| s.streams == 0));
}

// A watch is taken back while others go on.
#[test]
fn a_watch_that_ends() {
    let (sim, client) = service(&[ADA, BOB], &[("events", "NewMail")]);
    for _ in 0..2 {
        assert_eq!(next(&client).kind, EventKind::Connected);
    }
    client.unwatch(1).unwrap();
    let closed = next(&client);
    assert_eq!(
        (closed.kind, closed.watch, closed.detail.unwrap().reason),
        (EventKind::Closed, 1, Some(Reason::ClosedByHost))
    );
    assert!(sim.wait_until(Duration::from_secs(60), |s| s.of("Unsubscribe") == 1));
    sim.exchange().deliver(ADA, b"Subject: unseen\r\n\r\n").unwrap();
    sim.exchange().deliver(BOB, b"Subject: seen\r\n\r\n").unwrap();
    let event = next(&client);
    assert_eq!((event.kind, event.watch), (EventKind::NewMail, 2));
    assert_eq!(client.unwatch(1).unwrap_err().kind(), ErrorKind::Invalid);
}

// A subscription can die without a word. Until its loss is told nothing can be known (an audit comes with catch-up); from
// then on all is well again, and it is told that there was a loss.
#[test]
fn a_subscription_that_dies_silently() {
    for &mode in modes(Style::Exchange) {
        let mut w = Watching::start(server(Style::Exchange), &[("mode", mode), ("push_silence", "3s")]);
        w.connected();
        w.settle();
        assert_eq!(w.sim.exchange().silent_death(ADA), 1);
        let unheard = w.sim.exchange().deliver(ADA, b"Subject: unheard\r\n\r\n").unwrap();
        assert_eq!(w.sim.exchange().lose_subscription(ADA), 1);
        w.until("Resubscribed", |e| e.kind == EventKind::Resubscribed);
        w.settle();
        // A push goes on from the last watermark, so the server tells it after all.
        let told = w.events.iter().any(|e| e.item_id.as_ref() == Some(&unheard));
        assert_eq!(told, mode == "push");
        assert!(w.count(EventKind::Gap) >= 1);
        w.assert_no_busy_loop(20);
    }
}

// Another program took our subscription: we make our own again and do not fight for the old one.
#[test]
fn a_subscription_that_is_taken_over() {
    let mut w = Watching::start(server(Style::Exchange), &[]);
    w.connected();
    w.settle();
    let id = w.sim.exchange().subscriptions(ADA)[0].clone();
    let request = format!(
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><s:Body>
        <GetStreamingEvents xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><SubscriptionIds><t:SubscriptionId>{id}</t:SubscriptionId>
        </SubscriptionIds><ConnectionTimeout>1</ConnectionTimeout></GetStreamingEvents></s:Body></s:Envelope>"#
    );
    let Answer::Stream(other) = w.sim.exchange().answer(ADA, request.as_bytes()) else { panic!("no stream") };
    w.until("Resubscribed", |e| e.kind == EventKind::Resubscribed);
    w.settle();
    let gap = w.events.iter().find(|e| e.kind == EventKind::Gap).unwrap();
    assert_eq!(gap.detail.as_ref().unwrap().reason, Some(Reason::TakenOver));
    assert!(w.sim.exchange().subscriptions(ADA).contains(&id), "the other one keeps it");
    w.sim.exchange().drop_stream(other);
}

// The form that all languages read.
#[test]
fn the_json_form() {
    let mut w = Watching::start(server(Style::Exchange), &[("fetch", "summary"), ("events", "NewMail")]);
    w.connected();
    w.sim.exchange().deliver(ADA, MAIL.as_bytes()).unwrap();
    let event = w.until("NewMail", |e| e.kind == EventKind::NewMail);
    let json: serde_json::Value = serde_json::from_str(&event.to_json()).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted = [
        "type",
        "watch",
        "mailbox",
        "seq",
        "time",
        "origin",
        "item_id",
        "change_key",
        "parent_folder_id",
        "content",
        "subject",
        "from",
        "to",
        "received",
        "message_id",
        "size",
        "is_read",
        "attachments",
    ];
    wanted.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, wanted);
    assert_eq!(json["type"], "NewMail");
    assert_eq!(json["origin"], "live");
    assert_eq!(json["content"], "ok");
    assert!(humantime::parse_rfc3339(json["time"].as_str().unwrap()).is_ok());
    let connected: serde_json::Value = serde_json::from_str(&w.events[0].to_json()).unwrap();
    assert_eq!(connected.as_object().unwrap().len(), 5, "{connected}");
}
