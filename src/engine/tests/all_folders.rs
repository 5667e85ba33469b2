//! Watches of all folders: a mailbox with folders that come, go and move, played to the engine call by call.

mod house;

use super::*;
use house::House;

const INBOX: &str = "f-inbox";

// Without the folders' hierarchy, a gap of a watch of all folders would never be filled.
#[test]
fn a_gap_in_any_folder_is_filled() {
    let mut h = House::new();
    h.put("f-deep", "old");
    h.pass(10);
    h.start();
    assert_eq!(h.story(), ["Connected", "Drained"]);
    h.cut();
    h.put(INBOX, "a");
    h.put("f-deep", "b");
    h.put("f-top", "c");
    h.mend();
    assert_eq!(h.fills(), [Fill::Pending]);
    assert_eq!(h.mails(), ["b", "a", "c"], "folder by folder");
    assert_eq!(h.last(), "Drained");
    // The stream tells late what sync has told.
    h.live("a");
    assert_eq!(h.mails(), [""; 0]);
}

// A rule that makes a folder and sorts old mail into it while nobody looks would hide that mail for ever.
#[test]
fn a_folder_that_is_new_is_read_from_its_first_item_on() {
    for dated in [false, true] {
        let mut h = House::new();
        h.dated = dated;
        h.start();
        h.story();
        h.cut();
        h.make("f-new", Some(INBOX));
        h.put_old("f-new", "n1");
        h.make("f-search", None);
        h.put("f-search", "echo");
        h.mend();
        assert_eq!(h.folder_events(), ["Created f-new"], "{dated}");
        assert_eq!(h.mails(), ["n1"], "{dated}");
        assert_eq!(h.last(), "Drained");
    }
}

// A new folder's first mail would be lost, or told twice, and its later ones never caught up with.
#[test]
fn what_happens_in_a_folder_that_is_not_known_yet_is_told_and_the_folder_is_taken_in() {
    let mut h = House::new();
    h.start();
    h.story();
    h.make("f-new", Some("f-top"));
    h.put_old("f-new", "before");
    h.put("f-new", "n1");
    // Of all that only the mail is told.
    h.live_later.retain(|n| matches!(&n.target, Some(Target::Item(id)) if id.id == "n1"));
    h.flush();
    assert_eq!(h.mails(), ["n1"]);
    h.wait(2);
    assert_eq!(h.mails(), ["before"], "each once");
    h.cut();
    h.put("f-new", "n2");
    h.mend();
    assert_eq!(h.mails(), ["n2"]);
}

// The search folder over everything repeats each move as a deletion and a new item.
#[test]
fn what_is_no_folder_of_the_mailbox_is_told_once_and_no_more() {
    let mut h = House::new();
    h.start();
    h.put(INBOX, "a");
    h.flush();
    h.story();
    h.hear("f-all", "x");
    assert_eq!(h.mails(), ["x"]);
    h.wait(2);
    assert_eq!(h.asked("hierarchy"), 2);
    h.hear("f-all", "y");
    h.wait(2);
    assert_eq!(h.mails(), [""; 0]);
    assert_eq!(h.asked("hierarchy"), 2, "it is not asked again and again");
    h.restart();
    h.hear("f-all", "z");
    assert_eq!(h.mails(), [""; 0], "nor in the next run");
    // It may become one of the folders.
    h.adopt("f-all", INBOX);
    h.flush();
    h.wait(2);
    h.hear("f-all", "w");
    assert!(h.mails().contains(&"w".to_owned()));
}

// Each broken link would cost a question for each of 500 folders.
#[test]
fn only_the_folders_that_have_changed_are_synced() {
    let mut h = House::new();
    (0..500).for_each(|n| h.make(&format!("f{n:03}"), Some(INBOX)));
    (0..500).for_each(|n| h.put(&format!("f{n:03}"), &format!("old{n}")));
    h.pass(10);
    h.start();
    assert_eq!((h.asked("hierarchy"), h.asked("stamps"), h.asked("items")), (1, 2, 503));
    assert!(h.most <= 5, "{} calls at a time", h.most);
    h.story();
    let gap = |h: &mut House| {
        let before = [h.asked("hierarchy"), h.asked("stamps"), h.asked("items")];
        h.cut();
        h.put("f007", &format!("in the gap {}", h.mono()));
        h.take_out("f123");
        h.mend();
        assert_eq!(h.last(), "Drained");
        let after = [h.asked("hierarchy"), h.asked("stamps"), h.asked("items")];
        (0..3).map(|i| after[i] - before[i]).collect::<Vec<_>>()
    };
    assert_eq!(gap(&mut h), [1, 2, 2]);
    assert_eq!(h.mails().len(), 1);
    // What was stamped within the answer's seconds may have changed since, and be stamped so still.
    h.pass(10);
    assert_eq!(gap(&mut h)[2], 2);
    h.pass(10);
    h.put("f008", "while nobody runs");
    let before = h.asked("items");
    h.restart();
    assert_eq!(h.mails().iter().filter(|m| *m == "while nobody runs").count(), 1);
    assert!(h.asked("items") - before <= 3, "{} were synced", h.asked("items") - before);
}

// A mail that comes within the second of the stamp would be missed by every gap after it.
#[test]
fn a_stamp_that_is_too_young_says_nothing() {
    let mut h = House::new();
    h.start();
    h.story();
    h.pass(100);
    h.cut();
    h.put(INBOX, "a");
    h.settle();
    assert_eq!(h.mails(), ["a"]);
    // In the same second.
    h.cut();
    h.put(INBOX, "b");
    h.mend();
    assert_eq!(h.mails(), ["b"]);
}

// A link that breaks again before a folder is synced would leave it unsynced: its stamp would be known already.
#[test]
fn a_stamp_counts_when_the_folder_is_synced_and_not_before() {
    let mut h = House::new();
    h.start();
    h.story();
    h.pass(10);
    h.cut();
    h.put(INBOX, "a");
    h.pass(10);
    h.serve_until("stamps");
    // The first time it is asked again at once.
    h.lose_calls();
    h.lose_calls();
    h.cut();
    h.mend();
    assert_eq!(h.mails(), ["a"]);
}

// `drain --exit-when-drained` would end before the mail of a new folder is told.
#[test]
fn nothing_is_drained_before_the_folders_are_known() {
    let mut h = House::new();
    h.start();
    h.cut();
    h.make("f-new", Some(INBOX));
    h.put("f-new", "a");
    h.story();
    h.hold_answer_to("hierarchy");
    h.serve_calls();
    assert!(!h.story().contains(&"Drained".to_owned()));
    h.mend();
    assert_eq!((h.last(), h.mails()), ("Drained".to_owned(), vec!["a".to_owned()]));
}

// While a gap is filled, live events wait for sync: one that comes behind the stamp's back would wait for an hour.
#[test]
fn what_comes_while_the_stamps_are_on_their_way_is_told() {
    let mut h = House::new();
    h.start();
    h.pass(10);
    h.cut();
    h.mend();
    h.pass(10);
    h.story();
    h.cut();
    h.hold_answer_to("stamps");
    h.put(INBOX, "a");
    h.flush();
    assert_eq!(h.mails(), [""; 0], "sync tells it");
    h.settle();
    assert_eq!(h.mails(), ["a"]);
}

// A server that does not date its answers leaves no way to tell a stamp's age.
#[test]
fn without_a_date_every_folder_is_synced() {
    let mut h = House::new();
    h.dated = false;
    h.start();
    h.story();
    for n in 0..3 {
        h.cut();
        h.put(INBOX, &format!("m{n}"));
        h.mend();
        assert_eq!(h.mails(), [format!("m{n}")]);
    }
    assert_eq!(h.asked("stamps"), 1);
}

// The events of folders would be told twice, or a folder that is gone be asked for without end.
#[test]
fn folders_that_move_and_go() {
    let mut h = House::new();
    h.start();
    h.story();
    h.make("f-one", Some(INBOX));
    h.make("f-two", Some("f-one"));
    h.flush();
    h.wait(2);
    assert_eq!(h.folder_events(), ["Created f-one", "Created f-two"], "live, and by the hierarchy no more");
    h.cut();
    h.adopt("f-two", "f-top");
    h.put("f-two", "a");
    h.put("f-one", "b");
    h.mend();
    assert_eq!(h.folder_events(), ["Modified f-two"]);
    assert_eq!(h.mails(), ["b", "a"]);
    h.cut();
    h.drop_folder("f-one");
    h.mend();
    assert_eq!((h.folder_events(), h.last()), (vec!["Deleted f-one".to_owned()], "Drained".to_owned()));
    h.drop_folder("f-two");
    h.flush();
    h.wait(2);
    assert_eq!(h.folder_events(), ["Deleted f-two"]);
    assert!(h.shelf.keys().filter(|k| k.contains("/f/")).count() == 3, "{:?}", h.shelf.keys());
}

// A folder that is deleted while it is synced would end catch-up with an error, and `Drained` would never come.
#[test]
fn a_folder_that_goes_while_it_is_asked_for_is_no_error() {
    let mut h = House::new();
    h.make("f-one", Some(INBOX));
    h.pass(10);
    h.start();
    h.story();
    h.cut();
    h.put("f-one", "a");
    h.serve_until("stamps");
    h.drop_folder("f-one");
    h.live_later.clear();
    h.mend();
    let story = h.story();
    assert!(!story.iter().any(|s| s.starts_with("Error")), "{story:?}");
    assert_eq!(story.last().unwrap(), "Drained");
}

// A server that has lost its memory of the hierarchy would have us forget folders, or read all of them anew.
#[test]
fn a_lost_state_of_the_hierarchy_costs_nothing() {
    for silent in [false, true] {
        let mut h = House::new();
        h.make("f-one", Some(INBOX));
        h.put("f-one", "old");
        h.pass(10);
        h.start();
        h.story();
        h.cut();
        h.forget_hierarchy(silent);
        h.make("f-two", Some(INBOX));
        h.put("f-two", "new");
        h.drop_folder("f-one");
        h.mend();
        assert_eq!(h.folder_events(), ["Created f-two", "Deleted f-one"], "{silent}");
        assert_eq!((h.mails(), h.last()), (vec!["new".to_owned()], "Drained".to_owned()), "{silent}");
    }
}

// Somebody without the right to list the folders would wait for ever, and believe that gaps are filled.
#[test]
fn where_the_folders_cannot_be_listed_nothing_will_fill_a_gap_and_that_is_said() {
    let mut h = House::new();
    h.refuse = Some("ErrorAccessDenied");
    h.start();
    assert_eq!(h.story(), ["Connected", "Error"]);
    h.cut();
    h.mend();
    assert_eq!(h.fills(), [Fill::None]);
    h.hear(INBOX, "live");
    assert_eq!(h.mails(), ["live"]);
}

// One folder that the user may not read would keep `Drained` from ever coming.
#[test]
fn a_folder_that_cannot_be_synced_holds_up_no_other() {
    let mut h = House::new();
    h.secret = Some("f-deep");
    h.start();
    assert_eq!(h.story(), ["Connected", "Error", "Drained"]);
    h.cut();
    h.put(INBOX, "a");
    h.mend();
    assert_eq!((h.fills(), h.mails()), (vec![Fill::Partial], vec!["a".to_owned()]));
    assert_eq!(h.last(), "Drained");
}

// A record that cannot be read would leave its folder out of everything, for ever.
#[test]
fn a_folder_whose_record_is_lost_is_found_again() {
    let mut h = House::new();
    h.put(INBOX, "old");
    h.pass(10);
    h.start();
    h.wait(1);
    h.pass(10);
    let inbox =
        h.shelf.iter().find(|(_, v)| String::from_utf8_lossy(v).contains(INBOX)).map(|(k, _)| k.clone());
    h.shelf.insert(inbox.unwrap(), b"spoilt".to_vec());
    h.put(INBOX, "while nobody runs");
    h.live_later.clear();
    h.restart();
    assert_eq!(h.mails(), ["while nobody runs"]);
    h.put(INBOX, "later");
    h.flush();
    assert_eq!(h.mails(), ["later"]);
}

// A subscription that dies without a word would never be noticed.
#[test]
fn the_audit_looks_at_all_folders_with_one_question() {
    let mut h = House::new();
    (0..50).for_each(|n| h.make(&format!("f{n}"), Some(INBOX)));
    h.pass(10);
    h.start();
    h.story();
    h.put("f7", "untold");
    h.live_later.clear();
    let before = (h.asked("stamps"), h.asked("items"));
    let mut waited = 0;
    while h.mails().is_empty() {
        h.beat_for(30);
        waited += 30;
        assert!(waited < 4000, "it is never found");
    }
    assert_eq!((h.asked("stamps") - before.0, h.asked("items") - before.1), (1, 1));
    h.beat_for(90);
    assert!(h.story().contains(&"Resubscribed".to_owned()));
}

// Somewhere, some mixture of new folders, moves, gaps and restarts would lose mail, or tell it twice.
#[test]
fn random_mailboxes_lose_nothing_and_double_nothing() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match number("EWSN_HOUSE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EWSN_HOUSE_RUNS").unwrap_or(300),
    };
    for seed in seeds {
        struct Seed(u64);
        impl Drop for Seed {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("replay with EWSN_HOUSE_SEED={}", self.0);
                }
            }
        }
        let _told = Seed(seed);
        house::random(seed);
    }
}
