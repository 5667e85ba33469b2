//! Acknowledgements, and what a restart finds in the store.

use super::host::{Run, Shelf, manual};
use super::*;
use crate::engine::Nack;

// Mail that came while the program was not running would never be told; mail that was dealt with would be dealt with twice.
#[test]
fn a_restart_tells_what_was_not_acknowledged_and_nothing_else() {
    let mut run = Run::start(Shelf::default(), vec!["old".into()], manual);
    assert_eq!(run.told(), [""; 0]);
    run.mail("a");
    run.mail("b");
    let (text, seq) = run.next().unwrap();
    assert_eq!(text, "NewMail a");
    run.ack(seq);
    assert_eq!(run.next().unwrap().0, "NewMail b");
    run.mailbox.push("while away".into());
    let mut run = run.restart(manual);
    assert_eq!(run.told(), ["NewMail b 2", "NewMail while away"]);
    // Also behind a checkpoint, which knows them all.
    run.wait(4000);
    let mut run = run.restart(manual);
    let mut told = Vec::new();
    while let Some((text, seq)) = run.next() {
        assert!(seq > 10_000, "above every earlier run's: {seq}");
        told.push(text);
        run.ack(seq);
    }
    assert_eq!(told, ["NewMail b 3", "NewMail while away 2"]);
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
    run.wait(10_000);
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
    // Nothing is left but the folder, the subscription and the numbers.
    run.wait(10_000);
    let keys: Vec<&String> = run.shelf.0.keys().filter(|k| k.contains("/d/") || k.contains("/p/")).collect();
    assert!(keys.is_empty(), "{keys:?}");
}

// A host that asks for the next event has dealt with the last: it need not say so.
#[test]
fn asking_for_more_acknowledges_and_close_does_too() {
    let auto = |spec: &mut WatchSpec| spec.events = vec![EventKind::NewMail];
    let mut run = Run::start(Shelf::default(), Vec::new(), auto);
    for id in ["a", "b", "c"] {
        run.mail(id);
    }
    assert_eq!(run.next().unwrap().0, "NewMail a");
    assert_eq!(run.next().unwrap().0, "NewMail b");
    run.wait(1);
    // Killed while it deals with b.
    let mut run = run.restart(auto);
    assert_eq!(run.next().unwrap().0, "NewMail b");
    run.feed(Input::Close);
    let mut run = run.restart(auto);
    assert_eq!(run.told(), ["NewMail c"]);
}

// One bad mail would stop a help desk, or be lost.
#[test]
fn an_event_is_given_again_or_parked() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    run.mail("bad");
    run.mail("good");
    let (_, bad) = run.next().unwrap();
    run.nack(bad, Nack::Retry(Duration::from_secs(60)));
    let (text, good) = run.next().unwrap();
    assert_eq!(text, "NewMail good", "others do not wait");
    run.ack(good);
    assert_eq!(run.told(), [""; 0]);
    run.wait(60);
    let (text, bad) = run.next().unwrap();
    assert_eq!(text, "NewMail bad 2");
    run.nack(bad, Nack::Park);
    run.wait(100_000);
    assert_eq!(run.told(), [""; 0]);
    // It is parked in the next run too, attempts and all.
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
    let parked = run.engine.parked();
    assert_eq!((parked.len(), parked[0].attempts), (1, 2));
    run.engine.release(run.now, parked[0].id).unwrap();
    let (text, bad) = run.next().unwrap();
    assert_eq!(text, "NewMail bad 3");
    run.ack(bad);
    assert!(run.engine.ack(run.now, bad).is_err(), "twice");
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
}

// A mail that crashes the host would crash it for ever: nobody would see that it is always the same one.
#[test]
fn an_attempt_counts_from_the_hand_out_on() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    run.mail("deadly");
    run.mail("behind it");
    for attempt in ["", " 2", " 3"] {
        assert_eq!(run.next().unwrap().0, format!("NewMail deadly{attempt}"));
        assert!(run.waited.is_some(), "it is durable before the host sees it");
        run = run.restart(manual);
    }
    // What was not the mail's fault counts none.
    let (text, deadly) = run.next().unwrap();
    assert_eq!(text, "NewMail deadly 4");
    run.nack(deadly, Nack::Later(Duration::ZERO));
    let mut run = run.restart(manual);
    let (text, deadly) = run.next().unwrap();
    assert_eq!(text, "NewMail deadly 4");
    run.nack(deadly, Nack::Park);
    assert_eq!(run.engine.parked()[0].attempts, 4);
    let mut run = run.restart(manual);
    assert_eq!(run.engine.parked()[0].attempts, 4);
    // It was not given before, and sync does not tell any of them a second time.
    let (text, seq) = run.next().unwrap();
    assert_eq!(text, "NewMail behind it");
    run.ack(seq);
    run.wait(4000);
    assert_eq!(run.told(), [""; 0]);
}

// With a large backlog, or many folders, each acknowledgement would write more than the last, until the disk does nothing else.
#[test]
fn what_a_hand_out_and_an_acknowledgement_write_does_not_grow_with_the_backlog_or_the_folders() {
    let written = |backlog: usize, folders: usize| {
        let mut run = Run::start(Shelf::default(), Vec::new(), |spec| {
            manual(spec);
            spec.folders.extend((0..folders).map(|n| FolderRef::Id(format!("F-{n}")).into()));
        });
        assert_eq!(run.shelf.0.keys().filter(|k| k.contains("/f/")).count(), 1 + folders);
        (0..backlog).for_each(|n| run.mail(&format!("m{n:05}")));
        run.shelf.1 = 0;
        for _ in 0..10 {
            let (_, seq) = run.next().unwrap();
            run.ack(seq);
        }
        run.shelf.1
    };
    let few = written(10, 0);
    assert!(few > 0);
    assert_eq!((written(2000, 0), written(10, 500)), (few, few));
}

// A host that never acknowledges would be given everything there is, and hold up the others.
#[test]
fn who_does_not_acknowledge_is_given_no_more() {
    let mut run = Run::start(Shelf::default(), Vec::new(), |spec| {
        manual(spec);
        spec.max_unacked = 2;
    });
    for n in 0..5 {
        run.mail(&format!("m{n}"));
    }
    let (_, first) = run.next().unwrap();
    assert_eq!(run.told().len(), 1);
    assert!(!run.engine.has_event());
    let status = |run: &Run| run.engine.status().watches.remove(0);
    assert_eq!((status(&run).unacked, status(&run).blocked), (2, true));
    run.ack(first);
    assert!(run.engine.has_event() && !status(&run).blocked);
    assert_eq!(run.told(), ["NewMail m2"]);
}

// A program that is killed again and again would use up the server's subscriptions, and not be let in any more.
#[test]
fn subscriptions_of_killed_runs_are_given_up_when_the_server_is_full() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    for _ in 0..10 {
        run = run.restart(manual);
        run.wait(10);
        assert!(run.engine.watches[&1].subscription.is_some());
    }
    run.feed(Input::Close);
    assert!(run.shelf.0.keys().all(|key| !key.ends_with("/s")), "closed in order, nothing is left");
}

// A full disk would lose what was acknowledged meanwhile, or what was not.
#[test]
fn what_could_not_be_written_is_written_later() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    run.mail("a");
    run.mail("b");
    run.full = true;
    let (_, a) = run.next().unwrap();
    run.ack(a);
    run.wait(1000);
    assert!(!run.engine.is_saved());
    run.full = false;
    run.wait(100);
    assert!(run.engine.is_saved());
    let mut run = run.restart(manual);
    assert_eq!(run.told(), ["NewMail b"]);
}

// A host that is killed before it has read of a gap would never hear that something may be missing for good.
#[test]
fn a_gap_that_nothing_fills_is_told_to_the_next_run_if_this_one_was_killed_before() {
    let fills = |run: &mut Run| {
        let events = std::iter::from_fn(|| run.engine.take(run.now));
        events.filter_map(|e| e.detail?.fill).collect::<Vec<_>>()
    };
    let mut run = Run::start(Shelf::default(), vec!["before".into()], manual);
    run.told();
    run.lost_state = true;
    // The audit meets it, the folder is read anew, and the host is killed.
    run.wait(4000);
    let mut run = run.restart(manual);
    assert_eq!(fills(&mut run), [Fill::Partial]);
    run.feed(Input::Tick);
    let mut run = run.restart(manual);
    run.wait(10);
    assert_eq!(fills(&mut run), [Fill::Pending]);
}

// A mail that a colleague moves while the host works on it would be told after a crash under a name that no server knows.
#[test]
fn a_move_renames_what_is_not_acknowledged() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    run.mail("a");
    let (_, seq) = run.next().unwrap();
    let mut moved = notice(NoticeKind::Moved, "b", "F-other");
    moved.old_target = Some(Target::Item(Id { id: "a".into(), change_key: None }));
    moved.old_parent_folder_id = Some(Id { id: FOLDER.into(), change_key: None });
    run.notice(moved);
    run.feed(Input::Tick);
    let mut run = run.restart(manual);
    let event = std::iter::from_fn(|| run.engine.take(run.now)).find(|e| e.item_id.is_some()).unwrap();
    assert_eq!((event.item_id.as_deref(), event.old_item_id.as_deref()), (Some("b"), Some("a")));
    assert!(event.kind == EventKind::NewMail && event.attempt == Some(2) && event.seq > seq);
}
