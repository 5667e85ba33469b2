//! What the schedules of the proof have found, each by itself.

use super::host::{Run, Shelf};
use super::*;
use crate::proto::{SyncChange, SyncPage};

fn created(id: &str, date: &str) -> SyncChange {
    let id = Id { id: id.into(), change_key: None };
    SyncChange::Create(Item { id, created: Some(date.into()), ..Item::default() })
}

fn new(id: &str) -> SyncChange {
    created(id, "2026-01-01T00:00:00Z")
}

fn moved(new: &str, to: &str, old: &str, from: &str) -> Notice {
    let mut notice = notice(NoticeKind::Moved, new, to);
    notice.old_target = Some(Target::Item(Id { id: old.into(), change_key: None }));
    notice.old_parent_folder_id = Some(Id { id: from.into(), change_key: None });
    notice
}

impl Desk {
    /// Answers the sync of a folder that was asked for.
    #[track_caller]
    fn page(&mut self, of: &str, state: &str, last: bool, changes: Vec<SyncChange>) {
        let is_of = |request: &Request| matches!(request, Request::SyncFolderItems { folder, .. } if *folder == FolderRef::Id(of.into()));
        let at = self.calls.iter().position(|(.., request)| is_of(request)).expect("it is asked for");
        let (call, ..) = self.calls.remove(at).expect("it is there");
        let page = SyncPage { sync_state: Some(state.into()), includes_last: last, changes };
        self.answer(call, Answer::Synced { page, date: None });
    }

    /// A watch of these folders that streams and has read none of them.
    #[track_caller]
    fn unread(&mut self, folders: &[&str], change: impl FnOnce(&mut WatchSpec)) -> ConnId {
        self.add(1, |spec| {
            spec.catch_up = true;
            spec.folders = folders.iter().map(|id| FolderRef::Id((*id).into()).into()).collect();
            change(spec);
        });
        let (call, ..) = self.call();
        self.answer(call, Answer::Folders(folders.iter().map(|id| Ok((*id).to_owned())).collect()));
        self.subscribe("s1");
        let conn = self.open().0;
        self.begin(conn);
        conn
    }

    /// One that has read them.
    #[track_caller]
    fn watching(&mut self, folders: &[&str], events: Vec<EventKind>) -> ConnId {
        let conn = self.unread(folders, |spec| spec.events = events);
        folders.iter().for_each(|folder| self.page(folder, "1", true, vec![]));
        assert_eq!(self.story(), ["1 Connected", "1 Drained"]);
        conn
    }

    /// The subscription is lost, after a gap, and made anew: how each gap is filled.
    fn fills_of_a_loss(&mut self, conn: ConnId) -> Vec<Option<Fill>> {
        self.message(conn, bad_ids("ErrorSubscriptionNotFound", &["s1"]));
        self.end(conn, Err(error(ErrorKind::Closed)));
        self.wait(1.0);
        self.subscribe("s2");
        let gaps = self.told.iter().filter(|e| e.kind == EventKind::Gap);
        gaps.map(|e| e.detail.as_ref()?.fill).collect()
    }

    fn notices(&mut self, conn: ConnId, subscription: &str, notices: Vec<Notice>) {
        let notifications = vec![notification(subscription, notices)];
        let body = Streamed { notifications, ..Streamed::default() };
        self.message(conn, response(ResponseClass::Success, "NoError", body));
    }
}

// To acknowledge a move would count for the next move of the item, which a kill then swallows.
#[test]
fn a_move_that_is_acknowledged_says_nothing_of_the_next_one() {
    let manual = |spec: &mut WatchSpec| spec.ack = Ack::Manual;
    let mut run = Run::start(Shelf::default(), vec!["before".into()], manual);
    run.notice(moved("m2", "elsewhere", "m1", FOLDER));
    let (text, seq) = run.next().expect("the move is told");
    assert_eq!(text, "Moved m2");
    run.mailbox.push("m3".into());
    run.notice(moved("m3", FOLDER, "m2", "elsewhere"));
    run.ack(seq);
    assert_eq!(run.restart(manual).told(), ["NewMail m3"]);
}

// Sync told of a mail before the stream did, so it was in doubt; then the host had it, it moved, and was acknowledged by its new name.
#[test]
fn what_was_in_doubt_and_told_is_not_told_again_by_its_old_name() {
    let mails = |spec: &mut WatchSpec| {
        spec.ack = Ack::Manual;
        spec.events = vec![EventKind::NewMail];
    };
    let mut run = Run::start(Shelf::default(), vec!["before".into()], mails);
    run.notice(notice(NoticeKind::Created, "m1", FOLDER));
    run.mailbox.push("m1".into());
    run.wait(31);
    assert!(run.next().is_none(), "the stream is about to tell it");
    run.notice(notice(NoticeKind::NewMail, "m1", FOLDER));
    let (text, seq) = run.next().expect("and does");
    assert_eq!(text, "NewMail m1");
    run.notice(moved("m2", "elsewhere", "m1", FOLDER));
    run.ack(seq);
    assert_eq!(run.restart(mails).told(), [""; 0]);
}

// A folder was read by dates, so what was moved into it meanwhile is not told; a run later that would be forgotten.
#[test]
fn a_kill_soon_after_the_first_reading_is_a_gap_that_is_filled_in_part() {
    let run = Run::start(Shelf::default(), vec!["before".into()], |_| {});
    let mut run = run.restart(|_| {});
    let events = std::iter::from_fn(|| run.engine.take(run.now));
    let gap = events.filter_map(|e| e.detail?.fill).next();
    assert_eq!(gap, Some(Fill::Partial));
}

// What was left to a stream that had died would be taken for told when a second gap comes before the first is filled.
#[test]
fn a_second_gap_does_not_hide_what_the_first_one_is_about() {
    let mut d = Desk::new(settings());
    let conn = d.watching(&[FOLDER], vec![EventKind::NewMail]);
    d.notices(conn, "s1", vec![notice(NoticeKind::Created, "a", FOLDER)]);
    d.wait(31.0);
    d.page(FOLDER, "2", true, vec![new("a")]);
    assert_eq!(d.story(), [""; 0], "the stream is about to tell it");
    d.wait(200.0);
    d.message(conn, bad_ids("ErrorSubscriptionNotFound", &["s1"]));
    d.end(conn, Err(error(ErrorKind::Closed)));
    d.wait(1.0);
    d.subscribe("s2");
    let conn = d.open().0;
    d.begin(conn);
    d.wait(1.0);
    d.feed(Input::BadEnvelope { conn, error: error(ErrorKind::Protocol) });
    d.page(FOLDER, "3", true, vec![]);
    d.page(FOLDER, "4", true, vec![]);
    assert!(d.story().contains(&"1 NewMail a".to_owned()));
}

// In a gap an item comes into one folder and is moved into another; the one is read after that, the other before.
#[test]
fn what_was_moved_between_the_readings_of_two_folders_is_told() {
    let mut d = Desk::new(settings());
    let conn = d.watching(&["A", "B"], vec![EventKind::NewMail]);
    d.end(conn, Err(error(ErrorKind::Io)));
    d.wait(10.0);
    let conn = d.open().0;
    d.begin(conn);
    let at = |d: &Desk| Some(humantime::format_rfc3339(d.now.wall).to_string());
    d.page("A", "2", true, vec![]);
    let mut early = moved("x2", "A", "x1", "B");
    early.time_stamp = at(&d);
    d.page("B", "2", true, vec![]);
    d.story();
    d.notices(conn, "s1", vec![early]);
    // At once: it may not stay there.
    let asks =
        |r: &Request| matches!(r, Request::SyncFolderItems { folder: FolderRef::Id(f), .. } if f == "A");
    assert!(d.calls.iter().any(|(_, _, _, request)| asks(request)), "{:?}", d.calls);
    d.wait(5.0);
    // Sync has told this one where it was, if it was new.
    let mut late = moved("y2", "A", "y1", "B");
    late.time_stamp = at(&d);
    d.notices(conn, "s1", vec![late]);
    d.wait(31.0);
    d.page("A", "3", true, vec![new("y2"), new("x2")]);
    assert_eq!(d.story(), ["1 NewMail x2"]);
}

// It has left one folder before that was read, and is no longer in the other when sync is asked for that once more.
#[test]
fn with_since_all_what_moves_between_two_first_readings_is_told_by_its_event() {
    for (read, old) in [(true, "b1"), (false, "b1"), (true, "told")] {
        let mut d = Desk::new(settings());
        let conn = d.unread(&["A", "B"], |spec| {
            spec.since_all = true;
            spec.events = vec![EventKind::NewMail];
        });
        d.page("A", "1", true, vec![]);
        if read {
            d.page("B", "1", true, vec![new("told")]);
        }
        d.story();
        let there = d.now.wall;
        d.wait(0.5);
        let mut moved = moved("a1", "A", old, "B");
        moved.time_stamp = Some(humantime::format_rfc3339(there).to_string());
        d.notices(conn, "s1", vec![moved]);
        let told = d.story();
        assert_eq!(told.contains(&"1 NewMail a1".to_owned()), old == "b1", "{read} {old}: {told:?}");
    }
}

// While a folder waits for sync, its events do; but sync no longer finds what has moved into a folder that it may not read.
#[test]
fn where_one_folder_may_not_be_read_no_event_waits_for_sync() {
    let mut d = Desk::new(settings());
    let conn = d.unread(&["A", "B"], |spec| spec.events = vec![EventKind::NewMail]);
    d.page("A", "1", true, vec![]);
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::SyncFolderItems { folder: FolderRef::Id(f), .. } if f == "B"));
    d.fail(call, coded("ErrorAccessDenied"));
    d.wait(100.0);
    d.end(conn, Err(error(ErrorKind::Io)));
    d.wait(10.0);
    let conn = d.open().0;
    d.begin(conn);
    d.story();
    d.notices(conn, "s1", vec![notice(NoticeKind::NewMail, "a1", "A")]);
    assert_eq!(d.story(), ["1 NewMail a1"]);
    d.notices(conn, "s1", vec![moved("b1", "B", "a1", "A")]);
    // Once.
    d.page("A", "2", true, vec![new("a1")]);
    assert_eq!(d.story(), [""; 0]);
}

// Folders are read one after the other; what moves meanwhile, and is gone before the next question, only its event tells.
#[test]
fn in_pull_a_gap_is_filled_when_the_server_was_asked_after_the_folders_were_read() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| {
        spec.catch_up = true;
        spec.mode = WatchMode::Pull {
            interval: Duration::from_secs(20),
            quiet: Duration::from_secs(20),
            timeout_minutes: 30,
        };
        spec.folders = vec![FolderRef::Id(FOLDER.into()).into()];
    });
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    d.subscribe("p1");
    let nothing = || {
        let notices = vec![Notice { target: None, ..notice(NoticeKind::Status, "", "") }];
        Answer::Events(notification("p1", notices))
    };
    let asked = |d: &mut Desk| {
        let at = d.calls.iter().position(|c| matches!(c.3, Request::GetEvents { .. }))?;
        d.calls.remove(at).map(|c| c.0)
    };
    let first = asked(&mut d).expect("it is asked at once");
    d.wait(1.0);
    d.page(FOLDER, "1", true, vec![]);
    d.answer(first, nothing());
    assert_eq!(d.story(), ["1 Connected"], "the question is older than the reading");
    d.wait(0.1);
    let second = asked(&mut d).expect("it is asked again at once");
    d.answer(second, nothing());
    assert_eq!(d.story(), ["1 Drained"]);
    assert!(asked(&mut d).is_none(), "and then at its pace");
}

// A server that promises more for ever would be asked a thousand times a second, without a word.
#[test]
fn a_folder_that_never_ends_and_gives_nothing_is_asked_more_and_more_slowly() {
    let mut d = Desk::new(settings());
    let conn = d.watching(&[FOLDER], vec![EventKind::NewMail]);
    d.end(conn, Err(error(ErrorKind::Io)));
    d.wait(10.0);
    let conn = d.open().0;
    d.begin(conn);
    d.story();
    let mut asked = 0;
    for second in 0..100 {
        while d.calls.iter().any(|c| matches!(c.3, Request::SyncFolderItems { .. })) {
            asked += 1;
            d.page(FOLDER, &format!("state {second} {asked}"), false, vec![]);
        }
        d.wait(1.0);
    }
    assert!((3..20).contains(&asked), "{asked}");
    let told = d.told.iter().find(|e| e.kind == EventKind::Error).expect("it is told");
    let text = told.detail.as_ref().and_then(|d| d.message.clone()).unwrap();
    assert!(text.contains("SyncFolderItems") && text.contains("gives nothing"), "{text}");
    d.told.clear();
    // It goes on where it stood as soon as the server does.
    d.wait(600.0);
    d.page(FOLDER, "end", true, vec![new("a")]);
    assert_eq!(d.story(), ["1 NewMail a", "1 Drained"]);
}

// A subscription has died without a word. Before that is noticed the connection breaks, and the gap would begin with the last
// heartbeat, which knows nothing of the subscription.
#[test]
fn a_gap_reaches_back_to_the_last_word_of_a_subscription_that_may_be_dead() {
    for (dead, reason) in [(true, "it may be dead"), (false, "it is well")] {
        let mut d = Desk::new(settings());
        let conn = d.watching(&[FOLDER], vec![EventKind::NewMail]);
        d.wait(60.0);
        let mut told = notice(NoticeKind::NewMail, "a", FOLDER);
        told.time_stamp = Some(humantime::format_rfc3339(d.now.wall).to_string());
        d.notices(conn, "s1", vec![told]);
        let proved = d.now.wall;
        d.wait(31.0);
        let mut found = vec![new("a")];
        if dead {
            found.insert(0, new("b"));
        }
        d.page(FOLDER, "2", true, found);
        d.message(conn, ok());
        let heard = d.now.wall;
        d.wait(5.0);
        d.end(conn, Err(error(ErrorKind::Io)));
        d.wait(10.0);
        let conn = d.open().0;
        d.begin(conn);
        let gap = d.told.iter().find(|e| e.kind == EventKind::Gap).expect("a gap");
        let since = gap.detail.as_ref().and_then(|d| d.since).expect("since when");
        assert_eq!(since <= proved, dead, "{reason}: {since:?}, proved {proved:?}, heard {heard:?}");
    }
}

// Two checkpoints within a minute, and what the first one told would be told again by a stream that is a little behind.
#[test]
fn what_sync_has_told_is_remembered_for_a_minute() {
    let mut d = Desk::new(settings());
    let conn = d.watching(&[FOLDER], vec![EventKind::NewMail]);
    d.wait(10.0);
    d.message(conn, mail("s1", &["a"]));
    d.wait(31.0);
    d.page(FOLDER, "2", true, vec![new("b"), new("a")]);
    d.message(conn, mail("s1", &["c"]));
    d.wait(31.0);
    d.page(FOLDER, "3", true, vec![new("c")]);
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b", "1 NewMail c"]);
    d.message(conn, mail("s1", &["b"]));
    assert_eq!(d.story(), [""; 0]);
}

// A subscription dies without a word while a large folder is read: what is moved in would be missed, and nobody would know.
#[test]
fn a_subscription_that_dies_while_a_folder_is_read_is_found_out() {
    for told in [true, false] {
        let mut d = Desk::new(settings());
        d.add(1, |spec| spec.catch_up = true);
        d.subscribe("s1");
        let conn = d.open().0;
        d.begin(conn);
        d.page(FOLDER, "1", false, vec![new("a")]);
        if told {
            d.message(conn, mail("s1", &["a"]));
        }
        d.wait(61.0);
        let lost = d.story().contains(&"1 Disconnected Missed".to_owned());
        assert_eq!(lost, !told);
    }
}

// What was told late would prove a subscription alive that had died since: the gap would not reach back to its death.
#[test]
fn an_event_that_was_told_late_proves_nothing_since_it_happened() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| spec.mode = pull(30, 30));
    d.subscribe("s1");
    let happened = d.now.wall;
    let (call, ..) = d.call();
    d.answer(call, Answer::Events(notification("s1", vec![])));
    d.wait(31.0);
    let mut told = notice(NoticeKind::NewMail, "a", FOLDER);
    told.time_stamp = Some(humantime::format_rfc3339(happened).to_string());
    let (call, ..) = d.call();
    d.answer(call, Answer::Events(notification("s1", vec![told])));
    d.wait(31.0);
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorSubscriptionNotFound"));
    d.wait(1.0);
    d.subscribe("s2");
    let gap = d.told.iter().find(|e| e.kind == EventKind::Gap).expect("a gap");
    assert!(gap_of(gap).since.expect("since when") <= happened);
}

// A folder is read by dates while the subscription is dead, nobody knows, and the host is killed: the next run's gap would begin
// with the reading, and what was moved in before would be missed without a word.
#[test]
fn a_reading_that_the_stream_has_not_proved_is_in_the_next_run_s_gap() {
    let mut run = Run::start(Shelf::default(), vec!["before".into()], |_| {});
    let proved = run.now.wall;
    run.lost_state = true;
    run.slow_sync = true;
    run.later(4000);
    run.later(1000);
    // Heartbeats go on, and prove nothing.
    run.feed(Input::Message { conn: run.conn, responses: vec![ok()] });
    run.let_go();
    // The host knows of the gap of the lost state.
    run.told();
    run.later(1);
    let mut run = run.restart(|_| {});
    let events = std::iter::from_fn(|| run.engine.take(run.now));
    let mut gaps = events.filter_map(|e| Some((e.detail.as_ref()?.reason?, e.detail?.since?)));
    let (reason, since) = gaps.next().expect("a gap");
    assert!(reason == Reason::Restarted && since <= proved, "{reason:?} {since:?} {proved:?}");
}

// Sync has found that an item is gone from one folder, and before the host hears of it the stream says where it went: the host
// would be told that the item was deleted there.
#[test]
fn what_has_left_a_folder_was_not_deleted_where_it_went() {
    let mut run = Run::start(Shelf::default(), vec!["before".into()], |spec| spec.ack = Ack::Manual);
    run.told();
    run.tell(NoticeKind::Deleted, "m1");
    run.notice(moved("m2", FOLDER, "m1", "elsewhere"));
    assert_eq!(run.told(), ["Deleted m1", "Moved m2"]);
}

// A host is killed before it takes the gap of the kill before: what came and went in that one was never spoken of.
#[test]
fn a_gap_that_the_host_has_not_taken_is_told_by_the_next_run() {
    let mut run = Run::start(Shelf::default(), vec!["before".into()], |_| {});
    run.told();
    let killed = run.now.wall;
    for taken in [false, false, true] {
        run = run.restart(|_| {});
        // Catches up, and makes a checkpoint of it.
        run.later(1000);
        if taken {
            let events = std::iter::from_fn(|| run.engine.take(run.now));
            let since = events.filter_map(|e| e.detail?.since).min();
            assert!(since.is_some_and(|since| since <= killed), "{since:?}");
        }
    }
}

// A folder that is deleted would be watched for ever, and nothing would ever come.
#[test]
fn a_folder_that_sync_says_is_gone_ends_its_watch() {
    let mut d = Desk::new(settings());
    let conn = d.watching(&[FOLDER], vec![EventKind::NewMail]);
    d.message(conn, mail("s1", &["a"]));
    d.wait(31.0);
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorSyncFolderNotFound"));
    let story = d.story();
    assert!(story[1].starts_with("1 Error") && story[2].starts_with("1 Closed"), "{story:?}");
}

// Sync works and no stream does; what comes and goes is in the next stream's gap. A kill before that, and the next run's gap
// would begin with the last checkpoint.
#[test]
fn a_run_without_a_stream_is_in_the_next_one_s_gap() {
    let mut run = Run::start(Shelf::default(), vec!["before".into()], |_| {});
    run.told();
    let down = run.now.wall;
    run.no_stream = true;
    run.feed(Input::Ended { conn: run.conn, result: Err(error(ErrorKind::Io)) });
    run.later(4000);
    let mut run = run.restart(|_| {});
    let events = std::iter::from_fn(|| run.engine.take(run.now));
    let since = events.filter_map(|e| e.detail?.since).min();
    assert!(since.is_some_and(|since| since <= down), "{since:?}");
}

// The server tells of something that happened a while ago, and there is no room for it: the gap would begin after it.
#[test]
fn what_finds_no_room_is_in_its_gap() {
    let mut d = Desk::new(Settings { pending_events: 1, ..settings() });
    let conn = d.watching(&[FOLDER], vec![EventKind::NewMail]);
    let happened = d.now.wall;
    d.engine.watches.get_mut(&1).expect("the watch").spec.fetch = Fetch::Summary;
    for _ in 0..4 {
        d.wait(25.0);
        d.message(conn, ok());
    }
    let mut late = notice(NoticeKind::NewMail, "b", FOLDER);
    late.time_stamp = Some(humantime::format_rfc3339(happened).to_string());
    d.notices(conn, "s1", vec![notice(NoticeKind::NewMail, "a", FOLDER), late]);
    let (call, ..) = d.call();
    let id = Id { id: "a".into(), change_key: None };
    d.answer(call, Answer::Items(vec![Ok(Item { id, ..Item::default() })]));
    let gap = d.told.iter().find(|e| e.kind == EventKind::Gap).expect("a gap");
    let since = gap.detail.as_ref().and_then(|detail| detail.since).expect("since when");
    assert!(since <= happened, "{since:?} {happened:?}");
}

// A gap that reaches into a reading by dates tells of that part; one that reaches back further has the rest to tell of.
#[test]
fn a_reading_by_dates_that_a_gap_tells_of_in_part_stays_in_doubt_for_the_rest() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| spec.catch_up = true);
    d.subscribe("s1");
    let conn = d.open().0;
    d.begin(conn);
    d.wait(50.0);
    d.message(conn, ok());
    d.wait(10.0);
    d.page(FOLDER, "1", true, vec![]);
    d.feed(Input::BadEnvelope { conn, error: error(ErrorKind::Protocol) });
    d.page(FOLDER, "2", true, vec![]);
    assert_eq!(d.fills_of_a_loss(conn), [Some(Fill::Partial); 2]);
}

// A gap since a folder was read by dates says nothing of that reading; a later one that reaches back further does.
#[test]
fn a_reading_by_dates_stays_in_doubt_until_a_gap_tells_of_it() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| spec.catch_up = true);
    d.subscribe("s1");
    let conn = d.open().0;
    d.begin(conn);
    d.wait(50.0);
    d.page(FOLDER, "1", true, vec![]);
    d.wait(50.0);
    d.message(conn, ok());
    d.wait(20.0);
    d.message(conn, ok());
    d.feed(Input::BadEnvelope { conn, error: error(ErrorKind::Protocol) });
    d.page(FOLDER, "2", true, vec![]);
    assert_eq!(d.fills_of_a_loss(conn), [Some(Fill::Pending), Some(Fill::Partial)]);
}
