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
    Answer::Items(vec![Ok(item)])
}

/// The items that were asked for at once.
#[track_caller]
fn wanted_all(d: &mut Desk) -> (CallId, Vec<String>) {
    let (call, _, request) = d.call();
    match request {
        Request::GetItem { items, mime: false } => (call, items.into_iter().map(|i| i.id).collect()),
        other => panic!("{other:?}"),
    }
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
        (Error::too_large("scripted"), Content::TooLarge),
        (coded("ErrorItemCorrupt"), Content::Unreadable),
        (coded("ErrorAccessDenied"), Content::Unavailable),
        (http(404), Content::Unavailable),
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

// A host would look for mails that are too large where threads have run short; with a second try all is there.
#[test]
fn a_limit_that_is_not_of_size_is_tried_again() {
    let (mut d, conn) = fetching(Fetch::Summary, |_| {});
    d.message(conn, mail("s1", &["a"]));
    d.message(conn, mail("s1", &["b"]));
    let (a, ..) = wanted(&mut d);
    let (b, ..) = wanted(&mut d);
    d.fail(a, error(ErrorKind::Limit));
    d.wait(80.0);
    let (a, ..) = wanted(&mut d);
    d.answer(a, item("A"));
    d.fail(b, error(ErrorKind::Limit));
    for _ in 0..5 {
        d.wait(80.0);
        let (b, ..) = wanted(&mut d);
        d.fail(b, error(ErrorKind::Limit));
    }
    assert_eq!(d.story(), ["1 NewMail a Ok", "1 NewMail b Unavailable"]);
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
    let mime = path.as_ref().map(|path| Spooled::new(path.into(), None));
    d.answer(b, Answer::Message { item: Box::default(), mime });
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
    assert_eq!(d.story(), ["1 NewMail a Unavailable"]);
}

// One mailbox with a thousand mails would keep all others from being read.
#[test]
fn fetches_are_few_at_a_time_and_in_turns() {
    let mut d = Desk::new(Settings { fetches: 2, ..settings() });
    for watch in 1..=3 {
        d.add(watch, |s| s.fetch = Fetch::Mime);
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
        d.answer(call, Answer::Message { item: Box::default(), mime: None });
        order.push(id);
    }
    assert_eq!(order, ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]);
}

// A thousand mails would cost a thousand questions; one that the server cannot give would cost the others theirs.
#[test]
fn summaries_are_asked_for_in_batches_and_each_has_its_own_fate() {
    let (mut d, conn) = fetching(Fetch::Summary, |s| s.fetches = 1);
    d.message(conn, mail("s1", &["first"]));
    let (first, ..) = wanted(&mut d);
    let ids: Vec<String> = (0..12).map(|n| format!("m{n}")).collect();
    d.message(conn, mail("s1", &ids.iter().map(String::as_str).collect::<Vec<_>>()));
    d.answer(first, item("x"));
    let (call, asked) = wanted_all(&mut d);
    assert_eq!(asked, ids[..10]);
    d.told.clear();
    let mut items: Vec<Result<Item, Error>> = Vec::new();
    for id in &asked {
        items.push(match id.as_str() {
            "m2" => Err(coded("ErrorItemNotFound")),
            "m5" => Err(coded("ErrorItemCorrupt")),
            "m7" => Err(coded("ErrorInternalServerTransientError")),
            _ => Ok(Item { subject: Some(id.clone()), ..Item::default() }),
        });
    }
    d.answer(call, Answer::Items(items));
    // What may pass is asked for once more, and only that.
    let (call, asked) = wanted_all(&mut d);
    assert_eq!(asked, ["m7"]);
    d.answer(call, item("m7"));
    let (call, asked) = wanted_all(&mut d);
    assert_eq!(asked, ["m10", "m11"]);
    d.answer(call, Answer::Items(asked.iter().map(|_| Ok(Item::default())).collect()));
    for (event, id) in d.told.iter().zip(&ids) {
        let item = event.item.as_ref().unwrap();
        assert_eq!(event.item_id.as_ref(), Some(id));
        assert!(item.subject.as_ref().is_none_or(|subject| subject == id), "{id} was given {item:?}");
    }
    let fates: Vec<_> = d.story().iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    let ok = "Ok";
    assert_eq!(fates, [ok, ok, "Gone", ok, ok, "Unreadable", ok, ok, ok, ok, ok, ok]);
}

// One mail over which the server stumbles would take nine others with it, or be asked for with them for ever.
#[test]
fn a_batch_that_fails_is_asked_for_one_by_one() {
    for failure in
        [error(ErrorKind::Timeout), error(ErrorKind::Limit), coded("ErrorSchemaValidation"), http(400)]
    {
        let (mut d, conn) = fetching(Fetch::Summary, |s| s.fetches = 1);
        d.message(conn, mail("s1", &["a", "b", "c"]));
        let (call, asked) = wanted_all(&mut d);
        assert_eq!(asked, ["a", "b", "c"]);
        d.fail(call, failure);
        for id in ["a", "b", "c"] {
            let (call, asked) = wanted_all(&mut d);
            assert_eq!(asked, [id]);
            match id {
                "b" => d.fail(call, Error::too_large("scripted")),
                _ => d.answer(call, item(id)),
            }
        }
        assert!(d.calls.is_empty());
        assert_eq!(d.story(), ["1 NewMail a Ok", "1 NewMail b TooLarge", "1 NewMail c Ok"]);
    }
}

// A mail that the disk has no room for would be told as if it had no subject either, or be fetched again and again.
#[test]
fn what_could_not_be_kept_is_told_with_its_summary() {
    for content in [Content::TooLarge, Content::Unreadable, Content::Unavailable] {
        let (mut d, conn) = fetching(Fetch::Mime, |_| {});
        d.message(conn, mail("s1", &["a"]));
        let (call, ..) = wanted(&mut d);
        d.answer(call, Answer::NotKept { content, message: "the disk is full".into() });
        let (call, id, mime) = wanted(&mut d);
        assert_eq!((id.as_str(), mime), ("a", false));
        d.answer(call, item("A"));
        assert!(d.calls.is_empty());
        let told = d.told.pop_front().unwrap();
        let got = told.item.unwrap();
        assert_eq!((got.content, got.subject.as_deref()), (Some(content), Some("A")));
        assert_eq!(told.detail.unwrap().message.as_deref(), Some("the disk is full"));
    }
}

// A slow host would have its disk filled, or be told of mails without their content; or, if what is behind others in the
// spool waited for room there, nobody would be told of anything any more.
#[test]
fn while_the_spool_is_full_no_message_is_begun_and_begun_ones_go_on() {
    let mut d = Desk::new(settings());
    d.add(1, |s| s.fetch = Fetch::Mime);
    d.add(2, |s| s.fetch = Fetch::Summary);
    d.subscribe_watch(1, "s1");
    d.subscribe_watch(2, "s2");
    let (conn, _) = d.open();
    d.begin(conn);
    d.message(conn, mail("s1", &["a", "b"]));
    let (a, ..) = wanted(&mut d);
    let (b, ..) = wanted(&mut d);
    d.told.clear();
    d.answer(b, Answer::Message { item: Box::default(), mime: None });
    d.feed(Input::SpoolFull(true));
    d.message(conn, mail("s1", &["c"]));
    assert!(d.calls.is_empty());
    // Summaries lie in no file.
    d.message(conn, mail("s2", &["d"]));
    let (call, id, _) = wanted(&mut d);
    assert_eq!(id, "d");
    d.answer(call, item("D"));
    // The host can take b only after a.
    d.fail(a, error(ErrorKind::Timeout));
    let (a, id, mime) = wanted(&mut d);
    assert_eq!((id.as_str(), mime), ("a", true));
    d.message(conn, mail("s1", &["e"]));
    assert!(d.calls.is_empty());
    d.answer(a, Answer::Message { item: Box::default(), mime: None });
    // The host has taken all of this mailbox's: what fills the spool is another's, and the next one has room all the same.
    let (c, id, mime) = wanted(&mut d);
    assert_eq!((id.as_str(), mime), ("c", true));
    d.wait(60.0);
    assert!(d.calls.is_empty());
    assert_eq!(d.story(), ["2 NewMail d Ok", "1 NewMail a Ok", "1 NewMail b Ok"]);
    d.feed(Input::SpoolFull(false));
    let (e, id, mime) = wanted(&mut d);
    assert_eq!((id.as_str(), mime), ("e", true));
    d.answer(c, Answer::Message { item: Box::default(), mime: None });
    d.answer(e, Answer::Message { item: Box::default(), mime: None });
    assert_eq!(d.story(), ["1 NewMail c Ok", "1 NewMail e Ok"]);
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
    let (call, asked) = wanted_all(&mut d);
    d.answer(call, Answer::Items(asked.iter().map(|_| Ok(Item::default())).collect()));
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
    d.message(conn, mail("s1", &["a"]));
    d.message(conn, mail("s1", &["b"]));
    wanted(&mut d);
    let (b, ..) = wanted(&mut d);
    d.answer(b, item("B"));
    d.message(conn, bad_ids("ErrorNonExistentMailbox", &["s1"]));
    assert_eq!(d.story(), ["1 NewMail a Unavailable", "1 NewMail b Ok", "1 Error", "1 Closed ServerError"]);
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
    d.answer(call, Answer::Items(vec![Ok(item)]));
    let got = d.told.pop_front().unwrap().item.unwrap();
    assert_eq!(got.from.as_deref(), Some("Ada <a@x.test>"));
    assert_eq!(got.to, ["b@x.test", "Carol", "d@x.test", "Eve <e@x.test>"]);
    assert_eq!(got.is_read, Some(false));
}

// An id that is good for nothing would be asked for, refused and told as it is, though the server can say what it is called now.
#[test]
fn an_id_in_the_form_of_exchange_2007_is_converted_once() {
    let legacy = || coded("ErrorInvalidIdMalformedEwsLegacyIdFormat");
    for good in [true, false] {
        let mut d = Desk::new(settings());
        d.add(1, |s| s.fetch = Fetch::Summary);
        d.subscribe("s1");
        let (conn, _) = d.open();
        d.begin(conn);
        d.told.clear();
        d.message(conn, mail("s1", &["old"]));
        let (call, ..) = d.call();
        d.fail(call, legacy());
        let (call, _, request) = d.call();
        let Request::ConvertId { id, mailbox, .. } = request else { panic!("{request:?}") };
        assert_eq!((id.as_str(), mailbox.as_str()), ("old", "user1@example.test"));
        // What will pass is asked again, from the beginning.
        d.fail(call, error(ErrorKind::Connect));
        d.wait(5.0);
        let (call, ..) = d.call();
        d.fail(call, legacy());
        let (call, ..) = d.call();
        match good {
            true => d.answer(call, Answer::Converted("new".into())),
            false => d.fail(call, coded("ErrorInvalidIdMalformed")),
        }
        if good {
            let (call, _, request) = d.call();
            let wanted = Id { id: "new".into(), change_key: None };
            assert!(
                matches!(&request, Request::GetItem { items, .. } if items[..] == [wanted]),
                "{request:?}"
            );
            d.answer(call, Answer::Items(vec![Ok(Item::default())]));
            assert_eq!(d.told[0].old_item_id.as_deref(), Some("old"));
            assert_eq!(d.story(), ["1 NewMail new Ok"]);
        } else {
            assert_eq!(d.story(), ["1 NewMail old Unreadable"]);
        }
        assert!(d.calls.is_empty(), "{:?}", d.calls);
    }
}
