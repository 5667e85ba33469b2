//! Refusals, lost subscriptions, bad ids, versions, limits, and the end.

use super::*;

// A host whose password is wrong would lock its account out, or wait for ever without a word.
#[test]
fn a_refused_sign_in_at_the_start_stops_the_watch_loudly() {
    for error in [http(401), http(403), coded("ErrorPasswordExpired"), error(ErrorKind::Tls), http(404)] {
        let mut d = Desk::new(settings());
        d.add(1, |_| {});
        let (call, ..) = d.call();
        d.fail(call, error);
        let told = d.told.pop_front().unwrap();
        assert_eq!(told.kind, EventKind::Error);
        assert!(told.detail.unwrap().message.unwrap().contains("add the watch again"));
        assert_eq!(d.told(), [(1, EventKind::Closed)]);
        d.wait(10_000.0);
        assert!(d.calls.is_empty() && d.opens.is_empty() && d.told.is_empty());
    }
}

// A domain controller that is down for a minute would end all watches; a changed password would be tried for ever.
#[test]
fn a_refusal_after_success_is_tried_twice_more_and_slowly() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    d.wait(100.0);
    d.end(conn, Ok(()));
    let mut at = Vec::new();
    for _ in 0..3 {
        let (conn, _) = d.open();
        at.push(d.now.mono);
        d.end(conn, Err(http(401)));
        d.wait(70.0);
    }
    assert_eq!(d.story(), ["1 Disconnected ConnectionLost", "1 Error", "1 Closed SignInRefused"]);
    assert!(at.windows(2).all(|w| w[1] - w[0] >= Duration::from_secs(30)), "{at:?}");
    assert!(d.opens.is_empty());

    // The same in a call.
    let mut d = Desk::new(settings());
    d.streaming(1, "s1");
    d.message(1, bad_ids("ErrorSubscriptionNotFound", &["s1"]));
    for _ in 0..3 {
        let (call, ..) = d.call();
        d.fail(call, http(403));
        d.wait(70.0);
    }
    assert_eq!(d.told().last(), Some(&(1, EventKind::Closed)));
    assert!(d.calls.iter().all(|c| matches!(c.3, Request::Unsubscribe { .. })), "{:?}", d.calls);
}

// A server that is down would be silent, or flood the host with the same error.
#[test]
fn failures_in_a_row_are_told_at_the_first_and_each_tenth() {
    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    for n in 1..=20 {
        d.wait(80.0);
        let (call, ..) = d.call();
        d.fail(call, error(ErrorKind::Connect));
        if n == 1 {
            let detail = d.told.front().unwrap().detail.clone().unwrap();
            assert!(detail.retry_ms == Some(0) && detail.message.is_some());
        }
    }
    assert_eq!(d.told(), [(1, EventKind::Error); 3]);

    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    d.subscribe("s1");
    for _ in 1..=20 {
        d.wait(80.0);
        let (conn, _) = d.open();
        d.end(conn, Err(error(ErrorKind::Connect)));
    }
    use EventKind::{Disconnected, Error};
    assert_eq!(d.told(), [(1, Disconnected), (1, Error), (1, Error)]);
}

// A lost subscription would stay lost, or the loss would be hidden.
#[test]
fn a_lost_subscription_is_made_anew_with_a_gap_and_the_others_go_on() {
    let mut d = Desk::new(settings());
    for watch in 1..=2 {
        d.add(watch, |_| {});
    }
    d.subscribe_watch(1, "s1");
    d.subscribe_watch(2, "s2");
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1", "s2"]);
    d.begin(conn);
    d.told.clear();
    d.wait(100.0);
    d.message(conn, ok());
    let last = d.now.wall;
    d.wait(10.0);
    d.message(conn, bad_ids("ErrorSubscriptionNotFound", &["unknown", "s1"]));
    assert!(d.aborts.is_empty());
    d.message(conn, mail("s2", &["other"]));
    d.message(conn, mail("s1", &["ghost"]));
    assert_eq!(d.engine.status().counters.foreign, 1);
    d.wait(1.0);
    let (call, watch, request) = d.call();
    assert!(watch == 1 && matches!(request, Request::SubscribeStreaming { .. }));
    d.answer(call, Answer::Subscribed { id: "s1b".into(), watermark: None });
    let gap = d.told.iter().find(|e| e.kind == EventKind::Gap).unwrap().clone();
    // No event had proved that the id was still ours; from its making on it may be missing something.
    assert!(gap_of(&gap).since.unwrap() <= last && gap.time == d.now.wall);
    let (second, ids) = d.open();
    assert_eq!(ids, ["s1b"]);
    d.begin(second);
    assert_eq!(
        d.story(),
        [
            "1 Disconnected SubscriptionLost",
            "2 NewMail other",
            "1 Resubscribed",
            "1 Gap SubscriptionLost",
            "1 Connected"
        ]
    );
}

// One bad id silences a stream of two hundred mailboxes: nobody would notice.
#[test]
fn a_bad_id_at_the_opening_does_not_silence_the_good_ones() {
    for status in [None, Some(Status::Closed)] {
        let mut d = Desk::new(settings());
        for watch in 1..=3 {
            d.add(watch, |_| {});
        }
        for watch in 1..=3 {
            d.subscribe_watch(watch, &format!("s{watch}"));
        }
        let (conn, _) = d.open();
        d.feed(Input::Opened(conn));
        let mut bad = bad_ids("ErrorInvalidSubscription", &["s2"]);
        bad.body.status = status;
        d.message(conn, bad);
        assert_eq!(d.aborts, [conn]);
        d.end(conn, Err(error(ErrorKind::Closed)));
        let (conn, ids) = d.open();
        assert_eq!(ids, ["s1", "s3"]);
        d.begin(conn);
        d.subscribe_watch(2, "s2b");
        let (conn, ids) = d.open();
        assert_eq!(ids, ["s2b"]);
        d.begin(conn);
        let connected = d.told().iter().filter(|t| t.1 == EventKind::Connected).count();
        assert_eq!(connected, 3);
    }
}

// gromox puts live events into error messages: they would be thrown away.
#[test]
fn events_in_an_error_message_are_told() {
    let mut d = Desk::new(settings());
    for watch in 1..=2 {
        d.add(watch, |_| {});
    }
    d.subscribe_watch(1, "s1");
    d.subscribe_watch(2, "s2");
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    let mut both = mail("s1", &["a", "b"]);
    both.class = ResponseClass::Error;
    both.code = ResponseCode("ErrorSubscriptionNotFound".into());
    both.body.error_subscription_ids = vec!["s2".into()];
    d.message(conn, both);
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b", "2 Disconnected SubscriptionLost"]);
    assert!(d.aborts.is_empty());
}

// Old gromox says ConnectionStatus OK with a fatal error, for ever: the watch would look alive and be dead.
#[test]
fn an_error_counts_whatever_the_connection_status_says() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    d.wait(100.0);
    let mut dead = bad_ids("ErrorInvalidSubscription", &[]);
    dead.body.status = Some(Status::Ok);
    d.message(conn, dead);
    assert_eq!(d.aborts, [conn]);
    d.subscribe("s2");
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s2"]);
    d.begin(conn);
    assert_eq!(
        d.story(),
        ["1 Disconnected SubscriptionLost", "1 Resubscribed", "1 Gap SubscriptionLost", "1 Connected"]
    );
}

// After a restart the server gives an id to somebody else: a host would read a stranger's mail.
#[test]
fn an_event_of_a_folder_that_is_not_ours_is_never_told() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    let since = d.now.wall;
    d.wait(100.0);
    d.end(conn, Err(error(ErrorKind::Io)));
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    d.wait(50.0);
    d.message(conn, ok());
    let notices = vec![
        notice(NoticeKind::NewMail, "mine?", FOLDER),
        notice(NoticeKind::NewMail, "theirs", "F-stranger"),
        notice(NoticeKind::NewMail, "theirs too", "F-stranger"),
    ];
    let body = Streamed { notifications: vec![notification("s1", notices)], ..Streamed::default() };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    d.message(conn, mail("s1", &["late"]));
    assert_eq!(d.aborts, [conn]);
    d.wait(2.0);
    assert!(!d.calls.iter().any(|c| matches!(c.3, Request::Unsubscribe { .. })), "it is not ours to end");
    d.subscribe("s2");
    let gap = d.told.iter().find(|e| e.kind == EventKind::Gap).unwrap().clone();
    // Heartbeats on a stranger's subscription have proved nothing.
    assert!(gap_of(&gap).since.unwrap() <= since);
    assert_eq!(d.story(), ["1 Disconnected ForeignEvent", "1 Resubscribed", "1 Gap ForeignEvent"]);
}

// A move out of the folder names it only as the old parent: it would be taken for a stranger's.
#[test]
fn any_of_four_folder_ids_makes_an_event_ours() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    let id = |id: &str| Id { id: id.to_owned(), change_key: None };
    let mut moved = notice(NoticeKind::Moved, "new", "F-elsewhere");
    moved.old_target = Some(Target::Item(id("old")));
    moved.old_parent_folder_id = Some(id(FOLDER));
    let mut itself = notice(NoticeKind::Modified, "", "F-root");
    itself.target = Some(Target::Folder(id(FOLDER)));
    itself.unread_count = Some(3);
    let mut renamed = notice(NoticeKind::Moved, "", "F-elsewhere");
    renamed.target = Some(Target::Folder(id("F-new")));
    renamed.old_target = Some(Target::Folder(id(FOLDER)));
    let body = Streamed {
        notifications: vec![notification("s1", vec![moved, itself, renamed])],
        ..Streamed::default()
    };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    assert_eq!(d.told[0].old_item_id.as_deref(), Some("old"));
    assert_eq!(d.told[0].old_parent_folder_id.as_deref(), Some(FOLDER));
    assert_eq!((d.told[1].unread_count, d.told[1].item_id.clone()), (Some(3), None));
    assert_eq!(d.told[2].old_folder_id.as_deref(), Some(FOLDER));
    assert_eq!(d.story(), ["1 Moved new", "1 Modified F-inbox", "1 Moved F-new"]);
}

// A restarted gromox counts from 1 again: two watches would share an id, and one of them would be deaf.
#[test]
fn an_id_that_comes_back_belongs_to_the_newer_watch() {
    let mut d = Desk::new(settings());
    d.streaming(1, "0001");
    d.wait(100.0);
    d.add(2, |_| {});
    d.subscribe("0001");
    assert_eq!(d.told(), [(1, EventKind::Disconnected)]);
    d.wait(2.1);
    let (conn, ids) = d.open();
    assert_eq!(ids, ["0001"]);
    d.begin(conn);
    // The old stream may have been given the new subscription's first events.
    assert_eq!(d.told(), [(2, EventKind::Connected), (2, EventKind::Gap)]);
}

// The Unsubscribe of a watch that was taken back would end another watch's subscription that has its id by now: that
// one would be deaf for ever.
#[test]
fn an_unsubscribe_that_is_under_way_makes_its_id_useless() {
    for answered_first in [false, true] {
        let mut d = Desk::new(settings());
        d.streaming(1, "0001");
        d.feed(Input::Remove(1));
        let (unsubscribing, ..) = d.call();
        d.add(2, |s| s.folders.clear());
        let (subscribing, ..) = d.call();
        if answered_first {
            d.answer(unsubscribing, Answer::Unsubscribed);
        }
        d.answer(subscribing, Answer::Subscribed { id: "0001".into(), watermark: None });
        d.wait(2.0);
        assert!(d.opens.is_empty());
        d.calls.retain(|c| !matches!(c.3, Request::Unsubscribe { .. }));
        d.subscribe("0002");
        assert_eq!(d.open().1, ["0002"]);
    }
}

// Two watches wait for a stream and one loses its subscription: it would be put on a stream without one.
#[test]
fn a_watch_that_waits_for_a_stream_may_lose_its_subscription() {
    let mut d = Desk::new(settings());
    for watch in 1..=3 {
        d.add(watch, |s| s.folders.clear());
    }
    d.subscribe_watch(1, "0001");
    d.subscribe_watch(2, "0001");
    d.wait(2.1);
    assert_eq!(d.open().1, ["0001"]);
    d.subscribe_watch(1, "0002");
    d.subscribe_watch(3, "0003");
    assert_eq!(d.open().1, ["0002", "0003"]);
}

// A server's overflow would be hidden, or cost a subscription that stands.
#[test]
fn missed_events_are_a_gap_and_the_subscription_stands() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    d.wait(100.0);
    d.message(conn, bad_ids("ErrorMissedNotificationEvents", &["s1"]));
    d.message(conn, mail("s1", &["a"]));
    assert_eq!(d.story(), ["1 Gap MissedByServer", "1 NewMail a"]);
    // As the first message after a break: one gap, not two.
    d.end(conn, Err(error(ErrorKind::Io)));
    let (conn, _) = d.open();
    d.message(conn, bad_ids("ErrorMissedNotificationEvents", &[]));
    assert_eq!(d.story(), ["1 Disconnected ConnectionLost", "1 Connected", "1 Gap ConnectionLost"]);
    assert!(d.aborts.is_empty() && d.calls.is_empty());
}

// The server's queue ran over between two streams, and it says so just after the new one's first message.
#[test]
fn what_was_missed_before_a_stream_is_inside_the_gap_told_on_it() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    d.wait(100.0);
    d.message(conn, closed());
    let closed_at = d.now.wall;
    d.end(conn, Ok(()));
    let (conn, _) = d.open();
    d.wait(20.0);
    d.begin(conn);
    d.wait(1.0);
    d.message(conn, ok());
    d.message(conn, bad_ids("ErrorMissedNotificationEvents", &["s1"]));
    let gap = d.told.iter().find(|e| e.kind == EventKind::Gap).unwrap();
    assert_eq!(gap_of(gap).since, Some(closed_at));
}

// An envelope that cannot be read may have told of mail.
#[test]
fn a_bad_envelope_is_a_gap_and_the_stream_goes_on() {
    let mut d = Desk::new(settings());
    for watch in 1..=2 {
        d.add(watch, |_| {});
    }
    d.subscribe_watch(1, "s1");
    d.subscribe_watch(2, "s2");
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    d.feed(Input::BadEnvelope { conn, error: error(ErrorKind::Protocol) });
    d.message(conn, mail("s1", &["a"]));
    assert_eq!(d.story(), ["1 Gap BadEnvelope", "2 Gap BadEnvelope", "1 NewMail a"]);
    assert!(d.aborts.is_empty());
}

// A throttling server would be asked by everybody at once, again and again.
#[test]
fn a_busy_answer_holds_the_whole_endpoint_back_but_no_other() {
    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorServerBusy").with_retry_after(Some(Duration::from_secs(90))));
    d.add(2, |_| {});
    d.wait(89.0);
    assert!(d.calls.is_empty());
    d.add(3, |s| s.endpoint = 2);
    assert_eq!(d.call().1, 3);
    d.wait(3.0);
    assert_eq!(d.calls.len(), 2);
    let detail = d.told.front().unwrap().detail.clone().unwrap();
    assert_eq!(detail.code.as_deref(), Some("ErrorServerBusy"));
    assert!(detail.retry_ms.is_some_and(|ms| (90_000..91_000).contains(&ms)));
}

// Too many subscriptions or streams: asking every second would keep the limit used up.
#[test]
fn limits_that_free_themselves_slowly_are_waited_for() {
    for (code, least) in [("ErrorExceededSubscriptionCount", 120.0), ("ErrorExceededConnectionCount", 30.0)] {
        let mut d = Desk::new(settings());
        d.add(1, |_| {});
        let (call, ..) = d.call();
        d.fail(call, coded(code));
        assert_eq!(d.told(), [(1, EventKind::Error)]);
        d.wait(least - 1.0);
        assert!(d.calls.is_empty());
        d.wait(10.0);
        assert_eq!(d.calls.len(), 1);
    }
}

// An Exchange 2010 would refuse everything, or a new one would be spoken to in an old version after one odd answer.
#[test]
fn the_version_is_lowered_only_until_one_has_worked() {
    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    d.add(2, |_| {});
    let (first, _, version, _) = d.calls.pop_front().unwrap();
    let (second, ..) = d.calls.pop_front().unwrap();
    assert_eq!(version, RequestVersion::Exchange2013Sp1);
    d.fail(first, coded("ErrorInvalidServerVersion"));
    d.fail(second, coded("ErrorInvalidServerVersion"));
    let versions: Vec<_> = d.calls.iter().map(|c| c.2).collect();
    assert_eq!(versions, [RequestVersion::Exchange2010Sp2; 2]);
    let (first, ..) = d.call();
    d.fail(first, coded("ErrorSchemaValidation"));
    assert_eq!(d.calls.back().unwrap().2, RequestVersion::Exchange2010Sp1);
    let (second, ..) = d.call();
    d.answer(second, Answer::Folders(vec![Ok(FOLDER.into())]));
    assert!(d.calls.iter().all(|c| c.2 == RequestVersion::Exchange2010Sp1));
    assert!(d.told.is_empty());
    // One has worked: the same answer now means that the request is wrong.
    let (call, watch, _) = d.call();
    d.fail(call, coded("ErrorInvalidServerVersion"));
    assert_eq!(d.told(), [(watch, EventKind::Error), (watch, EventKind::Closed)]);
}

// A deleted folder would end a watch that has others, or be asked for again for ever.
#[test]
fn a_folder_that_is_gone_is_left_out_and_the_last_one_ends_the_watch() {
    let two = |s: &mut WatchSpec| {
        s.folders.push(FolderRef::Distinguished { name: "drafts".into(), mailbox: None });
    };
    let mut d = Desk::new(settings());
    d.add(1, two);
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into()), Err(coded("ErrorFolderNotFound"))]));
    assert!(d.told.pop_front().unwrap().detail.unwrap().message.unwrap().contains("drafts"));
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    d.message(conn, bad_ids("ErrorFolderNotFound", &["s1"]));
    assert_eq!(d.told(), [(1, EventKind::Error), (1, EventKind::Closed)]);

    // One of two goes while the stream stands.
    let mut d = Desk::new(settings());
    d.add(1, two);
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    d.message(conn, bad_ids("ErrorFolderNotFound", &["s1"]));
    d.wait(2.0);
    let (unsubscribe, _, request) = d.call();
    assert!(matches!(request, Request::Unsubscribe { .. }));
    d.answer(unsubscribe, Answer::Unsubscribed);
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::GetFolder { folders } if folders.len() == 2));
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into()), Err(coded("ErrorFolderNotFound"))]));
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::SubscribeStreaming { scope: Scope::Folders(f), .. } if f.len() == 1));
    d.answer(call, Answer::Subscribed { id: "s2".into(), watermark: None });
    assert_eq!(
        d.story(),
        ["1 Disconnected SubscriptionLost", "1 Error", "1 Resubscribed", "1 Gap SubscriptionLost"]
    );
}

// Two clients would fight for an id, each cutting the other's stream off.
#[test]
fn a_subscription_that_was_taken_over_is_left_alone() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    d.wait(100.0);
    d.message(conn, bad_ids("ErrorNewEventStreamConnectionOpened", &[]));
    assert_eq!(d.aborts, [conn]);
    d.subscribe("s2");
    let (_, ids) = d.open();
    assert_eq!(ids, ["s2"]);
    assert_eq!(d.story(), ["1 Disconnected TakenOver", "1 Resubscribed", "1 Gap TakenOver"]);
}

// A watch that was taken back would leave its subscription on the server, where it counts against a limit.
#[test]
fn remove_closes_at_once_and_unsubscribes() {
    let mut d = Desk::new(settings());
    for watch in 1..=2 {
        d.add(watch, |_| {});
    }
    d.subscribe_watch(1, "s1");
    d.subscribe_watch(2, "s2");
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    d.feed(Input::Remove(1));
    assert_eq!(d.story(), ["1 Closed ClosedByHost"]);
    let (call, watch, request) = d.call();
    assert!(
        watch == 1 && matches!(request, Request::Unsubscribe { subscription_id } if subscription_id == "s1")
    );
    d.fail(call, error(ErrorKind::Io));
    d.message(conn, mail("s1", &["late"]));
    d.message(conn, mail("s2", &["a"]));
    assert!(d.aborts.is_empty());
    assert_eq!(d.story(), ["2 NewMail a"]);
    d.feed(Input::Remove(2));
    assert_eq!(d.aborts, [conn]);
    // A Subscribe that is answered after its watch was taken back.
    d.add(3, |s| s.folders.clear());
    let (unsubscribe, ..) = d.call();
    d.answer(unsubscribe, Answer::Unsubscribed);
    let (call, ..) = d.call();
    d.feed(Input::Remove(3));
    d.told.clear();
    d.answer(call, Answer::Subscribed { id: "s3".into(), watermark: None });
    let (_, watch, request) = d.call();
    assert!(
        watch == 3 && matches!(request, Request::Unsubscribe { subscription_id } if subscription_id == "s3")
    );
    assert!(d.told.is_empty());
}

// close() would hang on a server that does not answer, or lose the Closed events, or leave streams behind.
#[test]
fn close_tells_at_once_and_finishes_when_the_network_has() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    d.add(2, |s| s.folders.clear());
    let (subscribing, ..) = d.call();
    d.feed(Input::Close);
    assert_eq!(d.told(), [(1, EventKind::Closed), (2, EventKind::Closed), (0, EventKind::Closed)]);
    assert_eq!(d.aborts, [conn]);
    assert_eq!(d.engine.wake_at(), None);
    let (unsubscribing, ..) = d.call();
    // Whatever comes now is told to nobody.
    d.message(conn, mail("s1", &["late"]));
    d.add(3, |_| {});
    d.feed(Input::Close);
    d.feed(Input::Tick);
    d.answer(subscribing, Answer::Subscribed { id: "s2".into(), watermark: None });
    let (late, watch, request) = d.call();
    assert!(watch == 2 && matches!(request, Request::Unsubscribe { .. }));
    d.end(conn, Err(error(ErrorKind::Closed)));
    d.fail(unsubscribing, error(ErrorKind::Io));
    assert!(!d.finished);
    d.fail(late, error(ErrorKind::Timeout));
    assert!(d.finished && d.told.is_empty());

    let mut d = Desk::new(settings());
    d.feed(Input::Close);
    assert!(d.finished);
    assert_eq!(d.told(), [(0, EventKind::Closed)]);
}

// A late word of a thread that is long over would bring the engine down.
#[test]
fn words_about_unknown_calls_and_streams_are_ignored() {
    let mut d = Desk::new(settings());
    let conn = d.streaming(1, "s1");
    d.fail(99, error(ErrorKind::Io));
    d.answer(99, Answer::Unsubscribed);
    d.end(99, Ok(()));
    d.begin(99);
    d.feed(Input::BadEnvelope { conn: 99, error: error(ErrorKind::Protocol) });
    d.feed(Input::Remove(99));
    d.end(conn, Ok(()));
    d.end(conn, Ok(()));
    assert_eq!(d.opens.len(), 1);
    assert_eq!(d.story(), ["1 Disconnected ConnectionLost"]);
}

// The runtime would hold on to watches that are no more, or look for them in vain when it is to unsubscribe.
#[test]
fn a_watch_is_forgotten_after_the_last_word_about_it() {
    let mut d = Desk::new(settings());
    d.streaming(1, "s1");
    d.add(2, |_| {});
    d.feed(Input::Remove(1));
    assert!(d.forgotten.is_empty());
    let at = d.calls.iter().position(|c| matches!(c.3, Request::Unsubscribe { .. })).unwrap();
    let (unsubscribing, ..) = d.calls.remove(at).unwrap();
    d.answer(unsubscribing, Answer::Unsubscribed);
    assert_eq!(d.forgotten, [1]);

    // One that ends while it is asked something, and one while nothing is asked.
    let (asking, ..) = d.call();
    d.feed(Input::Remove(2));
    assert_eq!(d.forgotten, [1]);
    d.fail(asking, error(ErrorKind::Io));
    assert_eq!(d.forgotten, [1, 2]);
    d.add(3, |_| {});
    let (asking, ..) = d.call();
    d.fail(asking, error(ErrorKind::Invalid));
    assert_eq!(d.forgotten, [1, 2, 3]);

    d.told();
    d.streaming(4, "s4");
    d.feed(Input::Close);
    let (unsubscribing, ..) = d.call();
    d.answer(unsubscribing, Answer::Unsubscribed);
    assert_eq!(d.forgotten, [1, 2, 3, 4]);
}
