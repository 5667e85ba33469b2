//! `coalesce`: one event for an item and a window.

use super::host::{Run, Shelf};
use super::*;
use NoticeKind::{Created, Deleted, Modified, NewMail};

fn five_seconds(spec: &mut WatchSpec) {
    spec.ack = Ack::Manual;
    spec.coalesce = Duration::from_secs(5);
}

fn run() -> Run {
    let mut run = Run::start(Shelf::default(), Vec::new(), five_seconds);
    assert_eq!(run.told(), [""; 0]);
    run
}

// A help desk would open a ticket three times for a mail: it comes as NewMail, Created and a Modified or two.
#[test]
fn a_burst_is_one_event_of_the_strongest_kind() {
    for burst in [[NewMail, Created, Modified, Modified], [Modified, Created, Modified, NewMail]] {
        let mut run = run();
        for kind in burst {
            run.tell(kind, "a");
            run.wait(1);
        }
        run.tell(Modified, "b");
        assert_eq!(run.told(), [""; 0], "the window is open");
        run.wait(1);
        assert_eq!(run.told(), ["NewMail a"]);
        run.wait(3);
        assert_eq!(run.told(), [""; 0], "each item has its own");
        run.wait(1);
        assert_eq!(run.told(), ["Modified b"]);
        // What comes after the window is told anew.
        run.tell(Modified, "a");
        run.tell(Modified, "a");
        run.wait(5);
        assert_eq!(run.told(), ["Modified a"]);
    }
    let mut run = run();
    run.tell(Modified, "a");
    run.tell(Created, "a");
    run.wait(5);
    assert_eq!(run.told(), ["Created a"]);
}

// Without a store, without acknowledgements and without catch-up nothing else is kept of an event: it would be lost.
#[test]
fn an_event_that_nothing_else_keeps_is_told_at_the_end_of_its_window() {
    for catch_up in [false, true] {
        let mut d = Desk::new(settings());
        d.add(1, |spec| {
            spec.coalesce = Duration::from_secs(5);
            spec.catch_up = catch_up;
        });
        d.subscribe("s");
        let (conn, _) = d.open();
        d.begin(conn);
        d.told();
        d.message(conn, mail("s", &["a", "a"]));
        assert_eq!(d.told(), []);
        d.wait(5.0);
        assert_eq!(d.story(), ["1 NewMail a"]);
    }
}

// A host would hear that a mail is gone before it hears that there was one, or of a mail by a name that it has no more.
#[test]
fn what_is_always_told_comes_at_once_behind_what_waits_of_its_item() {
    let mut run = run();
    run.tell(NewMail, "a");
    run.tell(NewMail, "b");
    run.tell(Deleted, "a");
    assert_eq!(run.told(), ["NewMail a", "Deleted a"]);
    let mut moved = notice(NoticeKind::Moved, "b2", FOLDER);
    moved.old_target = Some(Target::Item(Id { id: "b".into(), change_key: None }));
    moved.old_parent_folder_id = Some(Id { id: FOLDER.into(), change_key: None });
    run.notice(moved);
    assert_eq!(run.told(), ["NewMail b2", "Moved b2"]);
    run.wait(10);
    assert_eq!(run.told(), [""; 0]);
}

// The stored state would be ahead of what the host was told: a mail that was waiting at a crash would be lost, or what was
// acknowledged as one event would come again as another.
#[test]
fn a_kill_loses_nothing_and_one_acknowledgement_is_for_all() {
    for checkpoint in [false, true] {
        let mut run = run();
        let id = "a".to_owned();
        run.mailbox.push(id);
        run.tell(NewMail, "a");
        run.tell(Created, "a");
        if checkpoint {
            // Sync has told of it, and so the stored state is past it.
            let wait = |run: &mut Run| {
                run.engine.checkpoint_due(1);
                run.feed(Input::Tick);
            };
            wait(&mut run);
        }
        let mut run = run.restart(five_seconds);
        run.wait(5);
        let (text, seq) = run.next().unwrap();
        assert_eq!(text, "NewMail a", "{checkpoint}");
        assert_eq!(run.told(), [""; 0]);
        run.ack(seq);
        let mut run = run.restart(|spec| {
            five_seconds(spec);
            // A lost Modified is worse than one too many; here it is not asked for.
            spec.events = vec![EventKind::NewMail, EventKind::Created];
        });
        run.wait(10_000);
        assert_eq!(run.told(), [""; 0], "{checkpoint}");
    }
}

// A job of cron that runs for less than the window would never be told.
#[test]
fn close_leaves_what_waits_to_the_next_run_which_tells_it_at_once() {
    let new = |spec: &mut WatchSpec| {
        five_seconds(spec);
        spec.events = vec![EventKind::NewMail, EventKind::Created];
    };
    let mut run = Run::start(Shelf::default(), Vec::new(), new);
    run.mailbox.push("a".into());
    run.tell(NewMail, "a");
    run.feed(Input::Close);
    let mut run = run.restart(new);
    assert_eq!(run.told(), ["NewMail a"]);
    // So does the end of a watch.
    run.mailbox.push("b".into());
    run.tell(NewMail, "b");
    run.feed(Input::Remove(1));
    let mut run = run.restart(new);
    assert_eq!(run.told(), ["NewMail a 2", "NewMail b"]);
}

// A large backlog would be told at the pace of the windows, or Drained before it.
#[test]
fn a_backlog_does_not_wait_for_windows() {
    let mut run = run();
    run.mailbox.extend((0..2000).map(|n| format!("m{n:04}")));
    let mut run = run.restart(|spec| {
        five_seconds(spec);
        spec.max_unacked = 10_000;
    });
    let mut told = 0;
    while let Some(event) = run.engine.take(run.now) {
        run.feed(Input::Tick);
        told += usize::from(event.kind == EventKind::NewMail);
        assert!(event.kind != EventKind::Drained || told == 2000, "drained after {told}");
    }
    assert_eq!(told, 2000);
}

// Without an end to what waits, a busy mailbox would fill the memory.
#[test]
fn when_too_many_wait_the_oldest_goes() {
    let mut run = run();
    let most = run.engine.settings.pending_events;
    for n in 0..most + 3 {
        run.tell(NewMail, &format!("m{n:03}"));
    }
    assert_eq!(run.told(), ["NewMail m000", "NewMail m001", "NewMail m002"]);
    run.wait(5);
    assert_eq!(run.told().len(), 97);
}
