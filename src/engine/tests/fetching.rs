//! Content: what is fetched, in which order it is told, and what becomes of what cannot be had.

use super::*;
use crate::proto::Mailbox;
use crate::{Content, Fetch};

fn fetching(fetch: Fetch, change: impl FnOnce(&mut Settings)) -> (Desk, ConnId) {
    let mut settings = settings();
    change(&mut settings);
    let mut d = Desk::new(settings);
    d.add(1, |s| s.fetch = fetch);
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    (d, conn)
}

/// The item that was asked for, and whether with MIME.
#[track_caller]
fn wanted(d: &mut Desk) -> (CallId, String, bool) {
    let (call, _, request) = d.call();
    match request {
        Request::GetItem { items, mime } => {
            assert_eq!(items[0].change_key.as_deref(), Some("CQAAAA=="));
            (call, items[0].id.clone(), mime)
        }
        other => panic!("{other:?}"),
    }
}

fn item(subject: &str) -> Answer {
    let item = Item { subject: Some(subject.to_owned()), ..Item::default() };
    Answer::Item { item: Box::new(item), mime: None }
}

// A slow item would let later events overtake it, or stop the stream.
#[test]
fn events_wait_behind_one_that_waits_and_keep_their_order() {
    let (mut d, conn) = fetching(Fetch::Summary, |_| {});
    d.message(conn, mail("s1", &["a"]));
    let (a, ..) = wanted(&mut d);
    let deleted = vec![notice(NoticeKind::Deleted, "old", FOLDER)];
    let body = Streamed { notifications: vec![notification("s1", deleted)], ..Streamed::default() };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    d.message(conn, mail("s1", &["b"]));
    let (b, ..) = wanted(&mut d);
    d.answer(b, item("B"));
    // A break in between is told where it happened.
    d.end(conn, Err(error(ErrorKind::Io)));
    let (conn, _) = d.open();
    d.begin(conn);
    assert!(d.told.is_empty());
    d.answer(a, item("A"));
    let subject = d.told[0].item.as_ref().and_then(|i| i.subject.clone());
    assert_eq!(subject.as_deref(), Some("A"));
    assert_eq!(
        d.story(),
        [
            "1 NewMail a Ok",
            "1 Deleted old",
            "1 NewMail b Ok",
            "1 Disconnected ConnectionLost",
            "1 Connected",
            "1 Gap ConnectionLost"
        ]
    );
    assert_eq!(d.engine.status().watches[0].held, 0);
}

// A mail makes two events: its content would be fetched twice. A change after that must be fetched again.
#[test]
fn one_fetch_serves_the_events_of_a_burst() {
    let (mut d, conn) = fetching(Fetch::Summary, |_| {});
    let both = vec![notice(NoticeKind::Created, "a", FOLDER), notice(NoticeKind::NewMail, "a", FOLDER)];
    let body = Streamed { notifications: vec![notification("s1", both)], ..Streamed::default() };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    let (first, ..) = wanted(&mut d);
    assert!(d.calls.is_empty());
    let modified = vec![notice(NoticeKind::Modified, "a", FOLDER)];
    let body = Streamed { notifications: vec![notification("s1", modified)], ..Streamed::default() };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    let (second, ..) = wanted(&mut d);
    d.answer(first, item("before"));
    d.answer(second, item("after"));
    let subjects: Vec<_> = d.told.iter().map(|e| e.item.as_ref().unwrap().subject.clone().unwrap()).collect();
    assert_eq!(subjects, ["before", "before", "after"]);
}

// Content that cannot be had would hold up a mailbox for ever, or look as if it were there.
#[test]
fn what_cannot_be_had_says_why() {
    let gone = coded("ErrorItemNotFound");
    for (failure, content) in [
        (gone, Content::Gone),
        (error(ErrorKind::Limit), Content::TooLarge),
        (coded("ErrorItemCorrupt"), Content::Unreadable),
        (coded("ErrorAccessDenied"), Content::Unreadable),
        (http(404), Content::Unreadable),
    ] {
        let (mut d, conn) = fetching(Fetch::Summary, |_| {});
        d.message(conn, mail("s1", &["a"]));
        let (call, ..) = wanted(&mut d);
        d.fail(call, failure);
        assert!(d.calls.is_empty());
        let told = d.told.pop_front().unwrap();
        assert_eq!(told.item.unwrap().content, Some(content));
        assert_eq!(told.detail.is_some_and(|d| d.message.is_some()), content != Content::Gone);
        assert!(matches!(d.engine.status().watches[0].state, WatchState::Connected));
    }
}

// A mail with a broken body would not be told with what can be read of it.
#[test]
fn an_unreadable_item_is_asked_for_once_more_without_mime() {
    let (mut d, conn) = fetching(Fetch::Mime, |_| {});
    d.message(conn, mail("s1", &["a", "b"]));
    let (a, _, mime) = wanted(&mut d);
    let (b, ..) = wanted(&mut d);
    assert!(mime);
    d.fail(a, coded("ErrorMimeContentConversionFailed"));
    let (again, id, mime) = wanted(&mut d);
    assert_eq!((id.as_str(), mime), ("a", false));
    d.answer(again, item("A"));
    let told = d.told.pop_front().unwrap();
    let got = told.item.unwrap();
    assert_eq!((got.content, got.subject.as_deref()), (Some(Content::Unreadable), Some("A")));
    assert!(told.detail.unwrap().message.is_some());
    let path = Some("/nowhere/b.eml".to_owned());
    let mime = path.as_ref().map(|path| Spooled::new(path.into()));
    d.answer(b, Answer::Item { item: Box::default(), mime });
    let got = d.told.pop_front().unwrap().item.unwrap();
    assert_eq!((got.content, got.mime_path), (Some(Content::Ok), path));
}

// A server in trouble would lose the content at the first failure, or be asked for ever.
#[test]
fn passing_failures_are_tried_again_five_times() {
    let (mut d, conn) = fetching(Fetch::Summary, |_| {});
    d.message(conn, mail("s1", &["a"]));
    for _ in 0..6 {
        assert!(d.told.is_empty());
        let (call, ..) = wanted(&mut d);
        d.fail(call, error(ErrorKind::Timeout));
        d.wait(60.0);
    }
    assert!(d.calls.is_empty());
    assert_eq!(d.story(), ["1 NewMail a Unreadable"]);
}

// One mailbox with a thousand mails would keep all others from being read.
#[test]
fn fetches_are_few_at_a_time_and_in_turns() {
    let mut d = Desk::new(Settings { fetches: 2, ..settings() });
    for watch in 1..=3 {
        d.add(watch, |s| s.fetch = Fetch::Summary);
    }
    for watch in 1..=3 {
        d.subscribe_watch(watch, &format!("s{watch}"));
    }
    let (conn, _) = d.open();
    d.begin(conn);
    d.message(conn, mail("s1", &["a1", "a2", "a3", "a4"]));
    d.message(conn, mail("s2", &["b1", "b2"]));
    d.message(conn, mail("s3", &["c1"]));
    let mut order = Vec::new();
    while !d.calls.is_empty() {
        assert!(d.calls.len() <= 2);
        let (call, id, _) = wanted(&mut d);
        d.answer(call, item(&id));
        order.push(id);
    }
    assert_eq!(order, ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]);
}

// A server that answers no GetItem would let the memory of the host's process grow without end.
#[test]
fn what_waits_is_bounded_and_a_gap_stands_for_the_rest() {
    let (mut d, conn) = fetching(Fetch::Summary, |s| s.pending_events = 3);
    d.message(conn, mail("s1", &["a", "b", "c"]));
    d.wait(5.0);
    let dropped = d.now.wall;
    d.message(conn, mail("s1", &["d", "e"]));
    d.wait(5.0);
    d.message(conn, mail("s1", &["f"]));
    let last = d.now.wall;
    for _ in 0..3 {
        let (call, ..) = wanted(&mut d);
        d.answer(call, item("x"));
    }
    let gap = d.told.back().unwrap().clone();
    assert_eq!((gap_of(&gap).since, gap.time), (Some(dropped), last));
    d.message(conn, mail("s1", &["g"]));
    let (call, id, _) = wanted(&mut d);
    assert_eq!(id, "g");
    d.answer(call, item("x"));
    assert_eq!(
        d.story(),
        ["1 NewMail a Ok", "1 NewMail b Ok", "1 NewMail c Ok", "1 Gap QueueOverflow", "1 NewMail g Ok"]
    );
}

// A watch that ends would take mail with it that it had heard of already.
#[test]
fn a_watch_that_stops_tells_what_it_has() {
    let (mut d, conn) = fetching(Fetch::Summary, |_| {});
    d.message(conn, mail("s1", &["a", "b"]));
    wanted(&mut d);
    let (b, ..) = wanted(&mut d);
    d.answer(b, item("B"));
    d.message(conn, bad_ids("ErrorNonExistentMailbox", &["s1"]));
    assert_eq!(d.story(), ["1 NewMail a Unreadable", "1 NewMail b Ok", "1 Error", "1 Closed ServerError"]);
}

// The sender would be shown without a name, or as an empty pair of brackets.
#[test]
fn people_are_shown_by_what_is_known_of_them() {
    let who = |name: &str, address: &str| {
        let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        Mailbox { name: some(name), address: some(address) }
    };
    let (mut d, conn) = fetching(Fetch::Summary, |_| {});
    d.message(conn, mail("s1", &["a"]));
    let (call, ..) = wanted(&mut d);
    let to = vec![
        who("", "b@x.test"),
        who("Carol", ""),
        who("", ""),
        who("d@x.test", "d@x.test"),
        who("Eve", "e@x.test "),
    ];
    let item = Item { from: Some(who("Ada", "a@x.test")), to, is_read: Some(false), ..Item::default() };
    d.answer(call, Answer::Item { item: Box::new(item), mime: None });
    let got = d.told.pop_front().unwrap().item.unwrap();
    assert_eq!(got.from.as_deref(), Some("Ada <a@x.test>"));
    assert_eq!(got.to, ["b@x.test", "Carol", "d@x.test", "Eve <e@x.test>"]);
    assert_eq!(got.is_read, Some(false));
}
