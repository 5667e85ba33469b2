//! What a stream's messages may take away: subscriptions, folders, events.

use super::*;

// A lost subscription would stay lost, or the loss would be hidden.
#[test]
fn a_lost_subscription_is_made_anew_with_a_gap_and_the_others_go_on() {
    let (mut d, conn) = streaming(2);
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
    d.answer(call, Answer::Subscribed { id: "s1b".into(), watermark: None, date: None });
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
        // Exchange ends the stream then.
        assert!(d.aborts.is_empty());
        d.end(conn, Ok(()));
        let (conn, ids) = d.open();
        assert_eq!(ids, ["s1", "s3"]);
        d.begin(conn);
        d.subscribe_watch(2, "s2b");
        let (conn, ids) = d.open();
        assert_eq!(ids, ["s2b"]);
        d.begin(conn);
        let told = d.told();
        assert_eq!(told.iter().filter(|t| t.1 == EventKind::Connected).count(), 3);
        let gaps: Vec<_> = told.iter().filter(|t| t.1 == EventKind::Gap).collect();
        assert_eq!(gaps, [&(2, EventKind::Gap)], "its neighbours have missed nothing");
    }
}

// gromox hangs on after that, and may give events to a stream that nobody takes for one.
#[test]
fn a_stream_that_refused_an_id_and_hangs_on_is_ended() {
    let (mut d, conn) = streaming(2);
    d.wait(100.0);
    let mut bad = bad_ids("ErrorInvalidSubscription", &["s2"]);
    bad.body.status = Some(Status::Closed);
    d.message(conn, bad);
    assert!(d.aborts.is_empty());
    d.wait(1.1);
    assert_eq!(d.aborts, [conn]);
    d.end(conn, Err(error(ErrorKind::Closed)));
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1"]);
    d.begin(conn);
    assert!(d.told().contains(&(1, EventKind::Gap)));
}

// gromox puts live events into error messages: they would be thrown away.
#[test]
fn events_in_an_error_message_are_told() {
    let (mut d, conn) = streaming(2);
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
    let (mut d, conn) = streaming(1);
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

// Two clients would fight for an id, each cutting the other's stream off.
#[test]
fn a_subscription_that_was_taken_over_is_left_alone() {
    let (mut d, conn) = streaming(1);
    d.wait(100.0);
    d.message(conn, bad_ids("ErrorNewEventStreamConnectionOpened", &[]));
    assert_eq!(d.aborts, [conn]);
    d.subscribe("s2");
    let (_, ids) = d.open();
    assert_eq!(ids, ["s2"]);
    assert_eq!(d.story(), ["1 Disconnected TakenOver", "1 Resubscribed", "1 Gap TakenOver"]);
}

// A deleted folder would end a watch that has others, or be asked for again for ever.
#[test]
fn a_folder_that_is_gone_is_left_out_and_the_last_one_ends_the_watch() {
    let two = |s: &mut WatchSpec| {
        s.folders.push(FolderRef::Distinguished { name: "drafts".into(), mailbox: None }.into());
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
    d.answer(call, Answer::Subscribed { id: "s2".into(), watermark: None, date: None });
    assert_eq!(
        d.story(),
        ["1 Disconnected SubscriptionLost", "1 Error", "1 Resubscribed", "1 Gap SubscriptionLost"]
    );
}

// A server's overflow would be hidden, or cost a subscription that stands.
#[test]
fn missed_events_are_a_gap_and_the_subscription_stands() {
    let (mut d, conn) = streaming(1);
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
    let (mut d, conn) = streaming(1);
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
    let (mut d, conn) = streaming(2);
    d.feed(Input::BadEnvelope { conn, error: error(ErrorKind::Protocol) });
    d.message(conn, mail("s1", &["a"]));
    assert_eq!(d.story(), ["1 Gap BadEnvelope", "2 Gap BadEnvelope", "1 NewMail a"]);
    assert!(d.aborts.is_empty());
}
