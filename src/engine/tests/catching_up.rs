//! Catch-up: what is synced when, and what of it is told.

use super::*;
use crate::proto::{SyncChange, SyncPage};

const OLD: &str = "1970-01-01T00:00:00Z";
const NEW: &str = "2026-01-01T00:00:00Z";

fn item(id: &str, date: &str) -> Item {
    Item {
        id: Id { id: id.into(), change_key: Some("k".into()) },
        created: Some(date.into()),
        received: Some(date.into()),
        ..Item::default()
    }
}

fn new(id: &str) -> SyncChange {
    SyncChange::Create(item(id, NEW))
}

fn old(id: &str) -> SyncChange {
    SyncChange::Create(item(id, OLD))
}

fn gone(id: &str) -> SyncChange {
    SyncChange::Delete(Id { id: id.into(), change_key: None })
}

impl Desk {
    /// The state that the one sync call asks from, which is then answered.
    #[track_caller]
    fn sync(&mut self, state: &str, last: bool, changes: Vec<SyncChange>) -> Option<String> {
        let (call, _, request) = self.call();
        let Request::SyncFolderItems { folder, sync_state, max_changes } = request else {
            panic!("{request:?}")
        };
        assert_eq!((folder, max_changes), (FolderRef::Id(FOLDER.into()), 512));
        let page = SyncPage { sync_state: Some(state.into()), includes_last: last, changes };
        self.answer(call, Answer::Synced { page, date: None });
        sync_state
    }

    /// A watch that streams and has its baseline, state S1.
    #[track_caller]
    fn synced(&mut self, change: impl FnOnce(&mut WatchSpec)) -> ConnId {
        self.add(1, |spec| {
            spec.catch_up = true;
            change(spec);
        });
        self.subscribe("s1");
        let conn = self.open().0;
        self.begin(conn);
        assert_eq!(self.sync("S1", true, vec![old("before")]), None);
        assert_eq!(self.story(), ["1 Connected", "1 Drained"]);
        conn
    }

    /// The stream breaks, and the next one begins.
    #[track_caller]
    fn break_link(&mut self, conn: ConnId) -> ConnId {
        self.end(conn, Err(error(ErrorKind::Io)));
        self.wait(10.0);
        let conn = self.open().0;
        self.begin(conn);
        conn
    }
}

// A new watch would be told of all the mail of years, or lose what came while it read the folder.
#[test]
fn a_baseline_tells_nothing_old_and_nothing_twice() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| spec.catch_up = true);
    d.subscribe("s1");
    let conn = d.open().0;
    d.begin(conn);
    assert_eq!(d.sync("S1", false, vec![new("n1"), old("o1")]), None);
    d.message(conn, mail("s1", &["n1", "n2"]));
    assert_eq!(d.sync("S2", true, vec![new("n3"), new("n2"), old("o2")]).as_deref(), Some("S1"));
    // n1 by sync alone, n2 by the stream alone; the oldest of a page first.
    assert_eq!(d.story(), ["1 Connected", "1 NewMail n1", "1 NewMail n2", "1 NewMail n3", "1 Drained"]);
    assert!(d.calls.is_empty());
}

// The gap of a lost connection would stay a gap.
#[test]
fn a_gap_is_filled_and_nothing_is_told_twice() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    d.message(conn, mail("s1", &["live"]));
    let conn = d.break_link(conn);
    // Live events wait for sync, so that an item is never told out of step with itself.
    d.message(conn, mail("s1", &["late"]));
    assert_eq!(d.sync("S2", true, vec![new("missed"), new("live"), gone("before")]).as_deref(), Some("S1"));
    assert_eq!(d.sync("S3", true, vec![new("late")]).as_deref(), Some("S2"));
    let fill = d.told.iter().find_map(|e| e.detail.as_ref()?.fill);
    assert_eq!(fill, Some(Fill::Pending));
    assert_eq!(
        d.story(),
        [
            "1 NewMail live",
            "1 Disconnected ConnectionLost",
            "1 Connected",
            "1 Gap ConnectionLost",
            "1 Deleted before",
            // It was told as new; it may have changed in the gap.
            "1 Modified live",
            "1 NewMail missed",
            "1 NewMail late",
            "1 Drained"
        ]
    );
    d.message(conn, mail("s1", &["missed", "after"]));
    assert_eq!(d.story(), ["1 NewMail after"]);
}

// A server that is busy for a moment would cost the folder's place: all of it would be read anew, and what a gap held would be
// taken for old.
#[test]
fn a_sync_that_fails_keeps_its_place() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    d.break_link(conn);
    for code in ["ErrorServerBusy", "ErrorInternalServerTransientError", "ErrorInternalServerError"] {
        let (call, _, request) = d.call();
        let Request::SyncFolderItems { sync_state, .. } = request else { panic!("{request:?}") };
        assert_eq!(sync_state.as_deref(), Some("S1"), "before {code}");
        d.fail(call, coded(code));
        d.wait(600.0);
    }
    assert_eq!(d.sync("S2", true, vec![new("missed")]).as_deref(), Some("S1"));
    assert!(d.story().ends_with(&["1 NewMail missed".into(), "1 Drained".into()]));
}

// A mailbox that never gets quiet, or one that always is, would be synced from an ever older state.
#[test]
fn a_checkpoint_comes_in_a_quiet_moment_and_tells_what_the_stream_has_not() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    d.message(conn, mail("s1", &["a"]));
    assert!(d.calls.is_empty());
    d.wait(31.0);
    assert_eq!(d.sync("S2", true, vec![new("b"), new("a")]).as_deref(), Some("S1"));
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b"]);
    // The stream was only a little behind.
    d.message(conn, mail("s1", &["b"]));
    d.wait(100.0);
    assert_eq!(d.sync("S3", true, vec![]).as_deref(), Some("S2"));
    assert_eq!(d.story(), [""; 0]);
}

// A subscription can die without a word in a quiet folder: nobody would hear of new mail ever again.
#[test]
fn the_audit_finds_a_dead_subscription() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    for _ in 0..135 {
        d.message(conn, ok());
        d.wait(30.0);
    }
    assert_eq!(d.sync("S2", true, vec![new("lost")]).as_deref(), Some("S1"));
    assert_eq!(d.story(), ["1 NewMail lost"]);
    d.wait(61.0);
    assert_eq!(d.aborts, [conn]);
    assert_eq!(d.story(), ["1 Disconnected Missed"]);
    let unsubscribe = d.call();
    assert!(matches!(unsubscribe.2, Request::Unsubscribe { .. }), "{unsubscribe:?}");
    d.end(conn, Err(error(ErrorKind::Closed)));
    d.subscribe("s2");
    d.sync("S3", true, vec![new("lost too")]);
    assert_eq!(d.story(), ["1 Resubscribed", "1 Gap Missed", "1 NewMail lost too", "1 Drained"]);
}

// A server that has lost its memory would have us tell the whole folder, or nothing.
#[test]
fn a_state_that_is_lost_costs_a_gap_and_not_the_folder() {
    for silent in [false, true] {
        let mut d = Desk::new(settings());
        d.now.wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        let conn = d.synced(|_| {});
        d.wait(60.0);
        d.message(conn, mail("s1", &["told"]));
        d.wait(31.0);
        let newer = |id: &str| SyncChange::Create(item(id, "2027-01-01T00:00:00Z"));
        let everything = vec![newer("untold"), newer("told"), old("before")];
        if silent {
            assert_eq!(d.sync("S2", true, everything).as_deref(), Some("S1"));
        } else {
            let (call, ..) = d.call();
            d.fail(call, coded("ErrorInvalidSyncStateData"));
            assert_eq!(d.sync("S2", true, everything), None);
        }
        let fill = d.told.iter().find_map(|e| e.detail.as_ref()?.fill);
        assert_eq!(fill, Some(Fill::Partial));
        assert_eq!(
            d.story(),
            ["1 NewMail told", "1 Gap StateReset", "1 NewMail untold", "1 Drained"],
            "{silent}"
        );
    }
}

// Somebody without the right to sync would wait for a Drained that never comes, and believe that gaps are filled.
#[test]
fn without_the_right_to_sync_nothing_will_fill_a_gap_and_that_is_said() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| spec.catch_up = true);
    d.subscribe("s1");
    let conn = d.open().0;
    d.begin(conn);
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorAccessDenied"));
    assert_eq!(d.story(), ["1 Connected", "1 Error"]);
    let conn = d.break_link(conn);
    assert_eq!(gap_of(d.told.back().unwrap()).fill, Some(Fill::None));
    d.message(conn, mail("s1", &["live"]));
    assert_eq!(d.story().last().unwrap(), "1 NewMail live");
    assert!(d.calls.is_empty());
}

// A host that stops taking events would make the process grow, or lose events for good.
#[test]
fn what_does_not_fit_the_queue_is_told_by_sync_when_there_is_room() {
    let queue = Limits { events: 5, bytes: 1 << 20 };
    let mut d = Desk::new(Settings { queue, ..settings() });
    let conn = d.synced(|_| {});
    let names: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    let message = mail("s1", &names.iter().map(String::as_str).collect::<Vec<_>>());
    d.message(conn, message);
    // The desk takes at once, but an envelope is handled as a whole: there is room now.
    d.feed(Input::Tick);
    let missing = names[5..].iter().rev().map(|n| new(n)).collect();
    assert_eq!(d.sync("S2", true, missing).as_deref(), Some("S1"));
    let story = d.story();
    let mails: Vec<&str> = story.iter().filter_map(|s| s.strip_prefix("1 NewMail ")).collect();
    assert_eq!(mails, names);
    assert_eq!(story.iter().filter(|s| s.contains("Gap")).count(), 1, "{story:?}");
    assert_eq!(story.last().unwrap(), "1 Drained");
}

// Mail that a rule or a colleague has moved before it was dealt with could not be fetched any more.
#[test]
fn a_move_renames_what_waits() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|spec| spec.fetch = Fetch::Summary);
    d.message(conn, mail("s1", &["a"]));
    let mut moved = notice(NoticeKind::Moved, "b", "F-other");
    moved.old_target = Some(Target::Item(Id { id: "a".into(), change_key: None }));
    moved.old_parent_folder_id = Some(Id { id: FOLDER.into(), change_key: None });
    let (call, _, request) = d.call();
    assert!(matches!(&request, Request::GetItem { items, .. } if items[0].id == "a"));
    let body = Streamed { notifications: vec![notification("s1", vec![moved])], ..Streamed::default() };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    d.fail(call, coded("ErrorItemNotFound"));
    let (call, _, request) = d.call();
    assert!(matches!(&request, Request::GetItem { items, .. } if items[0].id == "b"), "{request:?}");
    d.answer(call, Answer::Items(vec![Ok(item("b", NEW))]));
    let first = d.told.front().unwrap();
    assert_eq!((first.item_id.as_deref(), first.old_item_id.as_deref()), (Some("b"), Some("a")));
    assert_eq!(d.story()[0], "1 NewMail b Ok");
}

// With since=all, mail that a rule moves while the folders are read for the first time would never be told.
#[test]
fn what_moves_out_of_a_folder_before_it_is_read_is_told_where_it_goes() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| {
        (spec.catch_up, spec.since_all) = (true, true);
        spec.events = vec![EventKind::NewMail];
        spec.folders = vec![FolderRef::Id(FOLDER.into()).into(), FolderRef::Id("F-other".into()).into()];
    });
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into()), Ok("F-other".into())]));
    d.subscribe("s1");
    let conn = d.open().0;
    d.begin(conn);
    let mut moved = notice(NoticeKind::Moved, "b", FOLDER);
    moved.old_target = Some(Target::Item(Id { id: "a".into(), change_key: None }));
    moved.old_parent_folder_id = Some(Id { id: "F-other".into(), change_key: None });
    let body = Streamed { notifications: vec![notification("s1", vec![moved])], ..Streamed::default() };
    d.message(conn, response(ResponseClass::Success, "NoError", body));
    for _ in 0..2 {
        let (call, _, request) = d.call();
        let here =
            matches!(&request, Request::SyncFolderItems { folder: FolderRef::Id(f), .. } if f == FOLDER);
        let changes = if here { vec![old("b")] } else { Vec::new() };
        let page = SyncPage { sync_state: Some("S1".into()), includes_last: true, changes };
        d.answer(call, Answer::Synced { page, date: None });
    }
    assert_eq!(d.story(), ["1 Connected", "1 NewMail b", "1 Drained"]);
}

// Mail of the very second of the start would be taken for older.
#[test]
fn a_servers_dates_are_whole_seconds() {
    let mut d = Desk::new(settings());
    d.now.wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_900);
    d.add(1, |spec| spec.catch_up = true);
    d.subscribe("s1");
    let conn = d.open().0;
    d.begin(conn);
    d.sync("S1", true, vec![SyncChange::Create(item("now", "1970-01-12T13:46:40Z"))]);
    assert_eq!(d.story(), ["1 Connected", "1 NewMail now", "1 Drained"]);
}

// A link can be dead for a while before anybody knows. What sync left to its stream then would never be told.
#[test]
fn what_sync_left_to_a_dead_stream_is_told_when_its_death_is_known() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    let body = |kind, item| Streamed {
        notifications: vec![notification("s1", vec![notice(kind, item, FOLDER)])],
        ..Streamed::default()
    };
    let event = |kind, item| response(ResponseClass::Success, "NoError", body(kind, item));
    d.message(conn, mail("s1", &["told"]));
    d.message(conn, event(NoticeKind::Created, "half"));
    d.message(conn, event(NoticeKind::Modified, "before"));
    // From here on nothing comes through: NewMail of "half", a second change of "before", one of "told".
    d.wait(31.0);
    let update = SyncChange::Update(item("before", OLD));
    assert_eq!(d.sync("S2", true, vec![new("half"), new("told"), update]).as_deref(), Some("S1"));
    assert_eq!(d.story(), ["1 NewMail told", "1 Created half", "1 Modified before"]);
    d.break_link(conn);
    assert_eq!(d.sync("S3", true, vec![]).as_deref(), Some("S2"));
    let mut story = d.story();
    story.sort();
    assert_eq!(
        story,
        [
            "1 Connected",
            "1 Disconnected ConnectionLost",
            "1 Drained",
            "1 Gap ConnectionLost",
            "1 Modified before",
            "1 Modified told",
            "1 NewMail half"
        ]
    );
    // A stream that tells something long after has told everything.
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    d.message(conn, mail("s1", &["told"]));
    d.wait(31.0);
    d.sync("S2", true, vec![new("told")]);
    for _ in 0..3 {
        d.wait(30.0);
        d.message(conn, ok());
    }
    d.message(conn, mail("s1", &["later"]));
    d.break_link(conn);
    d.sync("S3", true, vec![new("later")]);
    assert!(!d.story().iter().any(|s| s.contains("Modified told")));
}

// What was moved in while the link was dead, and the folder was read by dates, would be missing without a word.
#[test]
fn a_gap_that_reaches_into_a_first_reading_is_not_all_filled() {
    let mut d = Desk::new(settings());
    d.add(1, |spec| spec.catch_up = true);
    d.subscribe("s1");
    let conn = d.open().0;
    d.begin(conn);
    // The link dies here, and the reading comes to its end.
    d.wait(20.0);
    d.sync("S1", true, vec![old("before"), old("moved in")]);
    let conn = d.break_link(conn);
    assert_eq!(d.told.iter().find_map(|e| e.detail.as_ref()?.fill), Some(Fill::Partial));
    // The next one is.
    d.sync("S2", true, vec![]);
    d.told.clear();
    d.break_link(conn);
    assert_eq!(d.told.iter().find_map(|e| e.detail.as_ref()?.fill), Some(Fill::Pending));
}

// Who was given the right to read a folder would have to start the program anew to be told what was missed.
#[test]
fn a_folder_that_was_denied_is_tried_again() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    let conn = d.break_link(conn);
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorAccessDenied"));
    d.message(conn, mail("s1", &["live"]));
    let story = d.story();
    assert!(
        story.ends_with(&["1 Error".into(), "1 Gap Denied".into(), "1 NewMail live".into()]),
        "{story:?}"
    );
    for _ in 0..140 {
        d.wait(30.0);
        d.message(conn, ok());
    }
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorAccessDenied"));
    assert_eq!(d.story(), [""; 0], "it is not told again");
    for _ in 0..140 {
        d.wait(30.0);
        d.message(conn, ok());
    }
    assert_eq!(d.sync("S2", true, vec![new("live"), new("missed")]).as_deref(), Some("S1"));
    assert_eq!(d.story(), ["1 NewMail missed", "1 Modified live", "1 Drained"]);
}

// What is remembered of a folder that may not be synced would grow as long as the program runs.
#[test]
fn what_is_remembered_of_a_denied_folder_is_bounded() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    let conn = d.break_link(conn);
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorAccessDenied"));
    for n in 0..25_000 {
        d.message(conn, mail("s1", &[&format!("m{n}")]));
        assert!(d.engine.watches[&1].folders_known[FOLDER].told.len() < 10_000);
    }
    assert_eq!(d.told.iter().filter(|e| e.kind == EventKind::NewMail).count(), 25_000);
}

// What is remembered of a flood of mail would grow until the next quiet moment.
#[test]
fn ten_thousand_items_are_a_checkpoint_at_once() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    for n in 1..10_000 {
        d.message(conn, mail("s1", &[&format!("m{n}")]));
    }
    assert!(d.calls.is_empty());
    d.message(conn, mail("s1", &["the last"]));
    assert_eq!(d.sync("S2", true, vec![]).as_deref(), Some("S1"));
}

// The server's end of a stream is a quiet moment: what it bridges to the next one is found by the checkpoint if it is not told.
#[test]
fn a_clean_close_makes_a_checkpoint_due() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    d.message(conn, mail("s1", &["a"]));
    assert!(d.calls.is_empty());
    d.message(conn, closed());
    d.end(conn, Ok(()));
    assert_eq!(d.sync("S2", true, vec![new("a")]).as_deref(), Some("S1"));
}

// A help desk would open tickets for its own drafts, and a host take for new what was only read.
#[test]
fn what_sync_tells_is_told_by_kinds() {
    let mut d = Desk::new(settings());
    let conn = d.synced(|_| {});
    d.break_link(conn);
    let draft = Item { is_draft: Some(true), ..item("draft", NEW) };
    let is_read = |id: &str, is_read| SyncChange::ReadFlagChange {
        id: Id { id: id.into(), change_key: None },
        is_read,
    };
    let changes = vec![
        gone("gone"),
        is_read("unread", false),
        is_read("read", true),
        SyncChange::Update(item("changed", OLD)),
        SyncChange::Create(draft),
        new("mail"),
    ];
    d.told.clear();
    d.sync("S2", true, changes);
    let found = d.now.wall;
    let told: Vec<Event> = d.told.drain(..).filter(|e| e.item_id.is_some()).collect();
    assert!(told.iter().all(|e| e.origin == Some(crate::Origin::CatchUp) && e.time == found));
    let told = told.iter().map(|e| (e.kind, e.item_id.as_deref().unwrap(), e.is_read)).collect::<Vec<_>>();
    use EventKind::{Created, Deleted, Modified, NewMail};
    let expected = [
        (NewMail, "mail", None),
        (Created, "draft", None),
        (Modified, "changed", None),
        (Modified, "read", Some(true)),
        (Modified, "unread", Some(false)),
        (Deleted, "gone", None),
    ];
    assert_eq!(told, expected);
}

// Between machines whose clocks differ, mail of the first minutes would be taken for old, or old mail for new.
#[test]
fn the_server_s_clock_says_what_is_new() {
    let mut d = Desk::new(settings());
    d.now.wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    d.add(1, |spec| spec.catch_up = true);
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    let (call, ..) = d.call();
    let date = humantime::parse_rfc3339("2025-05-05T05:05:05Z").unwrap();
    d.answer(call, Answer::Subscribed { id: "s1".into(), watermark: None, date: Some(date) });
    let conn = d.open().0;
    d.begin(conn);
    let dated = |id, date| SyncChange::Create(item(id, date));
    let changes = vec![dated("new", "2025-05-05T05:05:05Z"), dated("old", "2025-05-05T05:05:04Z")];
    d.sync("S1", true, changes);
    assert_eq!(d.story(), ["1 Connected", "1 NewMail new", "1 Drained"]);
}
