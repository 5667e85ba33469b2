//! `after_ack`: what is done with an item when the host is done with it.

use super::host::{Run, Shelf};
use super::*;
use crate::Ack;
use NoticeKind::{Created, Deleted, Modified, Moved, NewMail};

fn with(after_ack: AfterAck) -> impl Fn(&mut WatchSpec) {
    move |spec| {
        spec.ack = Ack::Manual;
        spec.after_ack = after_ack.clone();
    }
}

fn done() -> AfterAck {
    AfterAck::Move(FolderRef::Id("F-done".into()).into())
}

fn start(after_ack: AfterAck) -> Run {
    let mut run = Run::start(Shelf::default(), Vec::new(), with(after_ack));
    assert_eq!(run.told(), [""; 0]);
    run
}

/// New mail that the host is told of and acknowledges.
fn acknowledged(run: &mut Run, item: &str) {
    run.mail(item);
    let (text, seq) = run.next().unwrap();
    assert_eq!(text, format!("NewMail {item}"));
    run.ack(seq);
}

/// The item as it comes into another folder.
fn moved(item: &str) -> Notice {
    let mut moved = notice(Moved, &format!("{item}-moved"), "F-done");
    moved.old_target = Some(Target::Item(Id { id: item.into(), change_key: None }));
    moved.old_parent_folder_id = Some(Id { id: FOLDER.into(), change_key: None });
    moved
}

fn pending(run: &Run) -> usize {
    run.shelf.0.keys().filter(|k| k.contains("/a/")).count()
}

fn checkpoint(run: &mut Run) {
    run.engine.checkpoint_due(1);
    run.feed(Input::Tick);
}

// A mail would be moved away before the host's being done with it is certain: after a crash nobody would handle it.
#[test]
fn it_begins_when_the_acknowledgement_is_durable() {
    let mut run = start(AfterAck::Read);
    run.mail("a");
    let (_, seq) = run.next().unwrap();
    assert!(run.acts.is_empty());
    run.full = true;
    run.ack(seq);
    run.wait(1);
    assert!(run.acts.is_empty(), "the disk is full");
    run.full = false;
    run.wait(100);
    assert_eq!(run.engine.status().watches[0].acting, 1);
    assert_eq!(run.acted(Ok(())), Request::MarkRead { items: vec!["a".into()] });
    assert_eq!((pending(&run), run.acts.len(), run.engine.status().watches[0].acting), (0, 0, 0));
    let mut run = start(deleted());
    acknowledged(&mut run, "b");
    assert!(matches!(
        run.acted(Ok(())),
        Request::DeleteItem { how: crate::proto::DeleteType::MoveToDeletedItems, .. }
    ));
    let mut run = start(done());
    acknowledged(&mut run, "c");
    let to = FolderRef::Id("F-done".into());
    assert_eq!(run.acted(Ok(())), Request::MoveItem { items: vec!["c".into()], to });
}

// Half of what the host is told of a mail would be about one that is not there any more.
#[test]
fn it_waits_for_the_last_event_of_the_item_and_happens_once() {
    let mut run = start(deleted());
    run.tell(NewMail, "a");
    run.tell(Created, "a");
    run.tell(Modified, "a");
    let seqs: Vec<u64> = std::iter::from_fn(|| run.next()).map(|(_, seq)| seq).collect();
    run.ack(seqs[0]);
    run.ack(seqs[1]);
    assert!(run.acts.is_empty());
    run.ack(seqs[2]);
    run.acted(Ok(()));
    assert!(run.acts.is_empty());
    // A change of an older item is no reason to delete it, and what is gone can not be.
    run.tell(Modified, "old");
    run.tell(Deleted, "older");
    while let Some((_, seq)) = run.next() {
        run.ack(seq);
    }
    assert!(run.acts.is_empty());
}

// The host would be told of what it has asked for itself, and a program that handles changes would go round in circles.
#[test]
fn what_comes_of_it_is_not_told_back() {
    // The stream is faster than the answer, or slower.
    for early in [true, false] {
        for (what, notice) in [
            (AfterAck::Read, notice(Modified, "a", FOLDER)),
            (done(), moved("a")),
            (deleted(), notice(Deleted, "a", FOLDER)),
        ] {
            let mut run = start(what.clone());
            acknowledged(&mut run, "a");
            if early {
                run.notice(notice.clone());
                run.acted(Ok(()));
            } else {
                run.acted(Ok(()));
                run.notice(notice.clone());
            }
            checkpoint(&mut run);
            assert_eq!(run.told(), [""; 0], "{what:?}, early {early}");
            // Somebody else's change afterwards is told.
            run.tell(Modified, "a");
            assert_eq!(run.told(), ["Modified a"], "{what:?}, early {early}");
            let mut run = run.restart(with(what));
            run.wait(10_000);
            assert!(run.acts.is_empty());
        }
    }
}

// Where the server refuses, the host's picture of the mailbox would be wrong: what somebody else did meanwhile was withheld.
#[test]
fn a_refusal_is_told_and_so_is_what_was_withheld() {
    let mut run = start(done());
    acknowledged(&mut run, "a");
    run.notice(moved("a"));
    assert_eq!(run.told(), [""; 0]);
    let (call, _) = run.acts.pop_front().unwrap();
    run.feed(Input::Called { call, result: Err(coded("ErrorAccessDenied")) });
    let error = run.engine.take(run.now).unwrap();
    assert_eq!((error.kind, error.item_id.as_deref()), (EventKind::Error, Some("a")));
    let detail = error.detail.unwrap();
    assert_eq!(detail.code.as_deref(), Some("ErrorAccessDenied"));
    assert!(detail.message.unwrap().contains("moved into F-done"));
    assert_eq!(run.told(), ["Moved a-moved"]);
    assert_eq!(pending(&run), 0);
    // Not fatal.
    acknowledged(&mut run, "b");
    run.acted(Ok(()));
}

// A busy server would leave the mail where it is, or be asked without a pause.
#[test]
fn a_busy_server_is_asked_again_later() {
    let mut run = start(AfterAck::Read);
    acknowledged(&mut run, "a");
    for _ in 0..10 {
        run.acted(Err(coded("ErrorServerBusy").with_retry_after(Some(Duration::from_secs(30)))));
        run.wait(29);
        assert!(run.acts.is_empty());
        run.wait(4000);
    }
    run.acted(Ok(()));
    assert_eq!((pending(&run), run.told().len()), (0, 0));
    // One that fails over one item gives no end of trouble.
    acknowledged(&mut run, "bad");
    let mut tries = 0;
    while !run.acts.is_empty() {
        run.acted(Err(coded("ErrorInternalServerError")));
        tries += 1;
        run.wait(4000);
    }
    assert_eq!((tries, pending(&run)), (6, 0));
}

// A crash between the acknowledgement and what follows it would leave the mail where it is for ever, or tell of our own doing.
#[test]
fn a_killed_run_leaves_it_to_the_next() {
    for server_did_it in [false, true] {
        let mut run = start(done());
        run.mailbox.push("a".into());
        run.tell(NewMail, "a");
        let (_, seq) = run.next().unwrap();
        run.ack(seq);
        assert_eq!((run.acts.len(), pending(&run)), (1, 1));
        run.acts.clear();
        let mut run = run.restart(with(done()));
        if server_did_it {
            run.notice(moved("a"));
            run.acted(Err(coded("ErrorItemNotFound")));
        } else {
            run.acted(Ok(()));
            run.notice(moved("a"));
        }
        run.wait(4000);
        assert!(run.told().iter().all(|text| text.starts_with("Modified")), "done before: {server_did_it}");
        assert_eq!(pending(&run), 0);
    }
}

// The last mail of a job of cron would stay where it is until the next run, or for ever where there is no state.
#[test]
fn close_does_what_is_due() {
    for auto in [false, true] {
        let new = |spec: &mut WatchSpec| {
            with(AfterAck::Read)(spec);
            spec.events = vec![EventKind::NewMail];
        };
        let mut run = Run::start(Shelf::default(), Vec::new(), |spec| {
            new(spec);
            spec.ack = if auto { Ack::Auto } else { Ack::Manual };
        });
        run.mail("a");
        let (_, seq) = run.next().unwrap();
        if !auto {
            run.ack(seq);
        }
        run.feed(Input::Close);
        run.acted(Ok(()));
        assert_eq!((pending(&run), run.engine.is_saved()), (0, true));
        // One that fails then is left to the next run.
        let mut run = run.restart(new);
        acknowledged(&mut run, "b");
        run.feed(Input::Close);
        run.acted(Err(error(ErrorKind::Io)));
        assert!(run.acts.is_empty());
        let mut run = run.restart(new);
        run.acted(Ok(()));
        assert_eq!(pending(&run), 0);
    }
}
