//! Streams: from the first Subscribe to a reopening, gaps and groups.

use super::*;

// The first thing a newcomer does: nothing would be told at all.
#[test]
fn a_watch_is_subscribed_streamed_and_told() {
    let mut d = Desk::new(settings());
    d.add(1, |s| s.events = vec![EventKind::NewMail, EventKind::Deleted]);
    let (call, watch, request) = d.call();
    assert!(watch == 1 && matches!(request, Request::GetFolder { folders } if folders.len() == 1));
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    let (call, _, request) = d.call();
    let Request::SubscribeStreaming { scope, mut events } = request else { panic!("{request:?}") };
    assert_eq!(scope, Scope::Folders(vec![FolderRef::Id(FOLDER.into())]));
    events.sort();
    use NoticeKind::{Copied, Created, Deleted, Moved, NewMail};
    assert_eq!(events, [Copied, Created, Deleted, Moved, NewMail]);
    assert!(d.opens.is_empty());
    d.answer(call, Answer::Subscribed { id: "s1".into(), watermark: None, date: None });
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1"]);
    d.begin(conn);
    let mut both = vec![notice(NoticeKind::Created, "a", FOLDER), notice(NoticeKind::NewMail, "a", FOLDER)];
    both[1].time_stamp = Some("2026-03-01T10:20:30.25Z".into());
    let body = Streamed { notifications: vec![notification("s1", both)], ..Streamed::default() };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    assert_eq!(d.told[1].origin, Some(crate::Origin::Live));
    assert_eq!(humantime::format_rfc3339_millis(d.told[1].time).to_string(), "2026-03-01T10:20:30.250Z");
    assert_eq!(d.told[1].change_key.as_deref(), Some("CQAAAA=="));
    assert_eq!(d.told[1].parent_folder_id.as_deref(), Some(FOLDER));
    // Created was subscribed to, and not asked for.
    assert_eq!(d.story(), ["1 Connected", "1 NewMail a"]);
}

// All folders would be asked for by a name that no server knows.
#[test]
fn all_folders_need_no_get_folder_and_no_folder_is_foreign() {
    let mut d = Desk::new(settings());
    d.add(1, |s| s.folders.clear());
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::SubscribeStreaming { scope: Scope::AllFolders, .. }));
    d.answer(call, Answer::Subscribed { id: "s1".into(), watermark: None, date: None });
    let (conn, _) = d.open();
    d.begin(conn);
    let body = Streamed {
        notifications: vec![notification("s1", vec![notice(NoticeKind::NewMail, "a", "F-any")])],
        ..Streamed::default()
    };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    assert_eq!(d.story(), ["1 Connected", "1 NewMail a"]);
}

// Every half hour the server ends the stream: the host would be told of gaps that are none, or stay without a link.
#[test]
fn a_clean_close_reopens_at_once_with_the_same_id_and_without_a_gap() {
    let mut d = Desk::new(settings());
    let mut conn = d.streaming(1, "s1");
    for _ in 0..3 {
        d.wait(1800.0);
        let mut last = mail("s1", &["a"]);
        last.body.status = Some(Status::Closed);
        d.message(conn, last);
        d.end(conn, Ok(()));
        let (next, ids) = d.open();
        assert_eq!(ids, ["s1"]);
        d.begin(next);
        conn = next;
        assert_eq!(d.story(), ["1 NewMail a", "1 Disconnected ClosedByServer", "1 Connected"]);
    }
    assert!(d.calls.is_empty());
}

// Mail that the server wrote to a dead socket would be missing without a word.
#[test]
fn a_break_is_told_with_a_gap_since_the_last_message() {
    let (mut d, conn) = streaming(1);
    d.wait(40.0);
    d.message(conn, ok());
    let last = d.now.wall;
    d.wait(30.0);
    d.end(conn, Err(error(ErrorKind::Io)));
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1"]);
    d.wait(3.0);
    d.feed(Input::Opened(conn));
    d.message(conn, mail("s1", &["queued"]));
    let gap = d.told[2].clone();
    assert_eq!(gap_of(&gap).since, Some(last));
    assert_eq!(gap.time, d.now.wall);
    assert_eq!(
        d.story(),
        ["1 Disconnected ConnectionLost", "1 Connected", "1 Gap ConnectionLost", "1 NewMail queued"]
    );
}

// What a reason looks like to an operator who asks why.
#[test]
fn an_end_has_its_reason() {
    for (result, reason) in [
        (Ok(()), Reason::ConnectionLost),
        (Err(error(ErrorKind::Timeout)), Reason::IdleTimeout),
        (Err(error(ErrorKind::Limit)), Reason::LimitExceeded),
        (Err(error(ErrorKind::Connect)), Reason::ConnectFailed),
        (Err(http(502)), Reason::HttpError),
        (Err(http(401)), Reason::SignInRefused),
        (Err(coded("ErrorServerBusy")), Reason::ServerError),
    ] {
        let (mut d, conn) = streaming(1);
        d.wait(100.0);
        d.end(conn, result);
        let down = d.told.pop_front().unwrap();
        assert_eq!(down.kind, EventKind::Disconnected);
        let detail = down.detail.unwrap();
        assert_eq!(detail.reason, Some(reason));
        assert!(detail.retry_ms.is_some() && detail.message.is_some());
    }
}

// The rule of what is a gap, row by row: a false one costs a sync of a mailbox, a missing one costs mail.
#[test]
fn what_is_a_gap_and_what_is_none() {
    type Between = fn(&mut Desk, ConnId) -> ConnId;
    let rows: [(&str, bool, Between); 9] = [
        ("clean close, at once", false, |d, c| {
            d.message(c, closed());
            d.end(c, Ok(()));
            d.open().0
        }),
        ("clean close, then half a minute without a connection", false, |d, c| {
            d.message(c, closed());
            d.end(c, Ok(()));
            refuse_for(d, 20.0)
        }),
        ("clean close, then more than 60 s without a connection", true, |d, c| {
            d.message(c, closed());
            d.end(c, Ok(()));
            refuse_for(d, 100.0)
        }),
        ("Closed, but the body ended with an error", true, |d, c| {
            d.message(c, closed());
            d.end(c, Err(error(ErrorKind::Io)));
            d.open().0
        }),
        ("Closed, but the stream hung on", true, |d, c| {
            d.message(c, closed());
            d.wait(6.0);
            assert_eq!(d.aborts, [c]);
            d.end(c, Err(error(ErrorKind::Closed)));
            d.open().0
        }),
        ("end without Closed", true, |d, c| {
            d.end(c, Ok(()));
            d.open().0
        }),
        ("clean close, then an open that was answered 503", false, |d, c| {
            d.message(c, closed());
            d.end(c, Ok(()));
            let (c, _) = d.open();
            d.end(c, Err(http(503)));
            d.wait(5.0);
            d.open().0
        }),
        ("clean close, then an open that broke before its head", true, |d, c| {
            d.message(c, closed());
            d.end(c, Ok(()));
            let (c, _) = d.open();
            d.end(c, Err(error(ErrorKind::Io)));
            d.wait(5.0);
            d.open().0
        }),
        ("clean close, then an open that a gateway gave up", true, |d, c| {
            d.message(c, closed());
            d.end(c, Ok(()));
            let (c, _) = d.open();
            d.end(c, Err(http(504)));
            d.wait(5.0);
            d.open().0
        }),
    ];
    for (name, gap, between) in rows {
        let (mut d, conn) = streaming(1);
        d.wait(100.0);
        let conn = between(&mut d, conn);
        d.begin(conn);
        assert_eq!(d.told().contains(&(1, EventKind::Gap)), gap, "{name}");
    }
}

fn refuse_for(d: &mut Desk, seconds: f64) -> ConnId {
    let end = d.now.mono + Duration::from_secs_f64(seconds);
    loop {
        if let Some((conn, ..)) = d.opens.pop_front() {
            if d.now.mono >= end {
                return conn;
            }
            d.end(conn, Err(error(ErrorKind::Connect)));
        }
        if d.now.mono < end {
            let step = (end - d.now.mono).as_secs_f64().min(1.0);
            d.wait(step);
        } else if d.opens.is_empty() {
            d.wait(0.1);
        }
    }
}

// The first stream after Subscribe: mail that came in between is queued by the server, unless a stream was tried.
#[test]
fn the_first_stream_has_a_gap_only_if_one_was_tried_or_it_came_late() {
    for (name, gap, wait, failure) in [
        ("at once", false, 0.0, None),
        ("after a refused connection", false, 1.0, Some(ErrorKind::Connect)),
        ("after a break", true, 1.0, Some(ErrorKind::Io)),
        ("after more than a minute", true, 70.0, Some(ErrorKind::Connect)),
    ] {
        let mut d = Desk::new(settings());
        d.add(1, |_| {});
        d.subscribe("s1");
        let (mut conn, _) = d.open();
        if let Some(kind) = failure {
            d.end(conn, Err(error(kind)));
            conn = refuse_for(&mut d, wait);
        }
        d.begin(conn);
        assert_eq!(d.told().contains(&(1, EventKind::Gap)), gap, "{name}");
    }
}

// A server that answers every stream with an immediate end would be asked thousands of times a second.
#[test]
fn immediate_ends_are_failed_attempts() {
    let ends: [fn(&mut Desk, ConnId); 4] = [
        |d, c| d.end(c, Err(error(ErrorKind::Io))),
        |d, c| {
            d.begin(c);
            d.end(c, Ok(()));
        },
        |d, c| {
            d.feed(Input::Opened(c));
            d.message(c, closed());
            d.end(c, Ok(()));
        },
        |d, c| {
            d.begin(c);
            d.message(c, bad_ids("ErrorSubscriptionNotFound", &["s1"]));
            d.end(c, Ok(()));
        },
    ];
    for (row, end) in ends.into_iter().enumerate() {
        let mut d = Desk::new(settings());
        d.add(1, |_| {});
        d.subscribe("s1");
        let mut opens = 0;
        for _ in 0..6000 {
            while let Some((conn, ..)) = d.opens.pop_front() {
                opens += 1;
                end(&mut d, conn);
            }
            if !d.calls.is_empty() {
                d.subscribe("s1");
            }
            d.wait(0.1);
        }
        assert!((10..25).contains(&opens), "{opens} in ten minutes, row {row}");
    }
}

// Two hundred mailboxes would hang on two hundred streams, or one slow Subscribe would keep all waiting.
#[test]
fn watches_that_are_ready_together_share_a_stream() {
    let mut d = Desk::new(settings());
    for watch in 1..=5 {
        d.add(watch, |s| s.mode = WatchMode::Streaming { connection_minutes: 10 + watch as u32 });
    }
    for watch in 1..=4 {
        d.subscribe_watch(watch, &format!("s{watch}"));
    }
    // Whoever is ready waits two seconds for the others, not longer.
    assert!(d.opens.is_empty());
    d.wait(2.1);
    let (first, watch, _, request) = d.opens.pop_front().unwrap();
    let Request::GetStreamingEvents { subscription_ids, minutes } = request else { panic!() };
    assert_eq!(subscription_ids, ["s1", "s2", "s3", "s4"]);
    assert_eq!((watch, minutes), (1, 11));
    d.begin(first);
    // The late one gets a stream of its own; the others are not disturbed.
    d.subscribe_watch(5, "s5");
    let (second, ids) = d.open();
    assert_eq!(ids, ["s5"]);
    d.begin(second);
    assert_eq!(d.told(), (1..=5).map(|w| (w, EventKind::Connected)).collect::<Vec<_>>());
    // When both are between streams, they become one.
    d.wait(100.0);
    d.end(first, Err(error(ErrorKind::Connect)));
    let (first, _) = d.open();
    d.end(first, Err(error(ErrorKind::Connect)));
    d.end(second, Err(error(ErrorKind::Connect)));
    d.wait(2.0);
    let all: Vec<_> = d.opens.drain(..).collect();
    assert!(all.iter().any(|o| matches!(&o.3, Request::GetStreamingEvents { subscription_ids, .. } if subscription_ids.len() == 5)), "{all:?}");
}

// A client may hang only so many streams on a server: a watch added later would never be heard of.
#[test]
fn at_the_limit_of_connections_the_smallest_stream_is_opened_anew() {
    let mut d = Desk::new(Settings { connections: 2, ..settings() });
    for watch in 1..=2 {
        d.streaming(watch, &format!("s{watch}"));
    }
    d.wait(100.0);
    d.add(3, |_| {});
    d.subscribe("s3");
    assert_eq!(d.aborts, [1]);
    assert!(d.opens.is_empty(), "the old stream must be over before the new one hangs");
    d.message(1, mail("s1", &["late"]));
    d.end(1, Err(error(ErrorKind::Closed)));
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1", "s3"]);
    d.begin(conn);
    assert_eq!(d.story(), ["1 Disconnected Regrouped", "1 Connected", "1 Gap Regrouped", "3 Connected"]);
}

// With all streams full, a further watch would wait for ever without a word.
#[test]
fn a_watch_without_room_is_told_and_gets_room_later() {
    let mut d = Desk::new(Settings { connections: 1, subscriptions_per_connection: 1, ..settings() });
    let conn = d.streaming(1, "s1");
    d.add(2, |_| {});
    assert!(d.calls.is_empty(), "a subscription that nobody reads");
    assert_eq!(d.story(), ["2 Error"]);
    d.feed(Input::Remove(1));
    assert_eq!(d.told(), [(1, EventKind::Closed)]);
    assert_eq!(d.aborts, [conn]);
    let (call, ..) = d.call();
    d.answer(call, Answer::Unsubscribed);
    d.subscribe("s2");
    assert!(d.opens.is_empty(), "the old stream must be over before the new one hangs");
    d.end(conn, Err(error(ErrorKind::Closed)));
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s2"]);
    d.begin(conn);
    assert_eq!(d.story(), ["2 Connected"]);
}

// A host with ten thousand mailboxes would start for hours, on thousands of connections.
#[test]
fn ten_thousand_watches_start_on_fifty_streams() {
    let mut d = Desk::new(Settings { connections: 50, ..settings() });
    for watch in 1..=10_000 {
        d.add(watch, |s| s.folders.clear());
    }
    // The first of each group finds its machine, then come the others.
    for expected in [50, 9950] {
        let calls = std::mem::take(&mut d.calls);
        assert_eq!(calls.len(), expected);
        for (call, watch, ..) in calls {
            d.answer(call, Answer::Subscribed { id: format!("s{watch}"), watermark: None, date: None });
        }
    }
    assert_eq!(d.opens.len(), 50);
    while let Some((conn, ..)) = d.opens.pop_front() {
        d.begin(conn);
        d.message(conn, ok());
    }
    assert_eq!(d.told.len(), 10_000);
    assert!(d.aborts.is_empty());
    // A day of heartbeats costs no timer.
    assert_eq!(d.engine.wake_at(), None);
}
