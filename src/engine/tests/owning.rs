//! Whose an event and a subscription's id are: nobody is told of a stranger's mail.

use super::*;

// After a restart the server gives an id to somebody else: a host would read a stranger's mail.
#[test]
fn an_event_of_a_folder_that_is_not_ours_is_never_told() {
    let (mut d, conn) = streaming(1);
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
    let (mut d, conn) = streaming(1);
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
    let [old] = d.aborts[..] else { panic!("{:?}", d.aborts) };
    d.end(old, Err(error(ErrorKind::Closed)));
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
        d.answer(subscribing, Answer::Subscribed { id: "0001".into(), watermark: None, date: None });
        d.wait(2.0);
        assert!(d.opens.is_empty());
        d.calls.retain(|c| !matches!(c.3, Request::Unsubscribe { .. }));
        d.subscribe("0002");
        assert_eq!(d.open().1, ["0002"]);
    }
}
