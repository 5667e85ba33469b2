//! Watches of all folders over real sockets: gaps, restarts, folders that come and go, and what it costs the server.
#![cfg(feature = "sim")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use ewsnotify::sim::exchange::{Deletion, PushFault};
use ewsnotify::sim::fault::Cut;
use ewsnotify::sim::{Sim, Style};
use ewsnotify::{Client, Event, EventKind, Fill, Options, Reason};

use told::{LIMIT, count, mails, once, until};

#[path = "common/told.rs"]
mod told;

const ADA: &str = "ada@example.test";

fn server(style: Style) -> Sim {
    let sim = Sim::builder().style(style).user(ADA, "secret").start().unwrap();
    sim.exchange().configure(|s| {
        s.heartbeat = Duration::from_millis(300);
        (s.push_minute, s.push_retry) = (Duration::from_millis(10), Duration::from_millis(20));
    });
    sim
}

fn watch(sim: &Sim, mode: &str, state: Option<&Path>) -> Client {
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    options
        .set("pull_interval", "20ms")
        .unwrap()
        .set("pull_interval_max", "20ms")
        .unwrap()
        .set("mode", mode)
        .unwrap();
    if mode == "push" {
        options.set("push_silence", "3s").unwrap().set("push_listen", "127.0.0.1:0").unwrap();
    }
    options.set("events", "NewMail,Created,Deleted,Modified").unwrap().set("all_folders", "true").unwrap();
    if let Some(dir) = state {
        options.set("state_dir", dir.to_str().unwrap()).unwrap();
    }
    told::watch(&options)
}

fn mime(n: u32) -> Vec<u8> {
    format!("From: Bob <bob@example.test>\r\nSubject: {n}\r\nMessage-ID: <{n}@example.test>\r\n\r\nText\r\n")
        .into()
}

/// What is there is older than what a client that starts now calls new. A server that tells no Date is read by our own clock, and
/// dates have whole seconds: one of them must really pass.
fn grow_old(sim: &Sim) {
    sim.exchange().advance(Duration::from_secs(10));
    let second = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let began = second();
    while second() == began {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn put(sim: &Sim, folder: &str, n: u32) -> String {
    sim.exchange().deliver_into(ADA, folder, &mime(n)).unwrap()
}

/// What was told of folders themselves, but for their counts of unread mail.
fn folders(events: &[Event], kind: EventKind) -> BTreeSet<String> {
    events.iter().filter(|e| e.kind == kind).filter_map(|e| e.folder_id.clone()).collect()
}

// Mail in any other folder than the inbox would be lost in every gap.
#[test]
fn links_that_are_cut_lose_nothing_in_any_folder() {
    for style in [Style::Exchange, Style::Gromox] {
        for mode in ["streaming", "pull", "push"] {
            // gromox has no push.
            if (style, mode) == (Style::Gromox, "push") {
                continue;
            }
            let sim = server(style);
            sim.exchange().create_folder(ADA, "inbox", "Bills").unwrap();
            put(&sim, "Inbox/Bills", 0);
            grow_old(&sim);
            let client = watch(&sim, mode, None);
            let mut events = Vec::new();
            until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
            let mut items = Vec::new();
            for round in 0..4 {
                let n = 10 * round;
                items.push(put(&sim, "Inbox/Bills", n + 1));
                sim.cut_streams([Cut::Fin, Cut::Reset][round as usize % 2]);
                if mode == "push" {
                    sim.exchange().fail_push([PushFault::Lost, PushFault::Held][round as usize % 2].clone());
                }
                if round == 2 {
                    sim.exchange().restart();
                }
                // A folder that nobody knew, a folder in it, and the top itself.
                sim.exchange().create_folder(ADA, "inbox", &format!("New {round}")).unwrap();
                sim.exchange().create_folder(ADA, &format!("Inbox/New {round}"), "Deep").unwrap();
                items.push(put(&sim, &format!("Inbox/New {round}"), n + 2));
                items.push(put(&sim, &format!("Inbox/New {round}/Deep"), n + 3));
                items.push(put(&sim, "sentitems", n + 4));
                items.push(put(&sim, "msgfolderroot", n + 5));
                until(&client, &mut events, |e| mails(e).len() == items.len());
            }
            let told = || events.iter().map(Event::to_json).collect::<Vec<_>>();
            assert_eq!(mails(&events), once(&items), "{style:?} {mode} {:#?}", told());
            for gap in events.iter().filter(|e| e.kind == EventKind::Gap) {
                let fill = gap.detail.as_ref().unwrap().fill;
                assert!(matches!(fill, Some(Fill::Pending | Fill::Partial)), "{}", gap.to_json());
            }
        }
    }
}

// What a colleague did with the folders while the program was down would stay unknown, and so would the mail in them.
#[test]
fn a_restart_finds_new_folders_and_those_that_moved_or_went() {
    for style in [Style::Exchange, Style::Gromox] {
        let dir = tempfile::tempdir().unwrap();
        let sim = server(style);
        let ex = sim.exchange();
        let [moves, goes] = ["Moves", "Goes"].map(|name| ex.create_folder(ADA, "inbox", name).unwrap());
        put(&sim, "Inbox/Moves", 1);
        put(&sim, "Inbox/Goes", 2);
        grow_old(&sim);
        let client = watch(&sim, "streaming", Some(dir.path()));
        let mut events = Vec::new();
        until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
        assert_eq!(mails(&events), once(&[]), "{style:?}: nothing old");
        client.close();
        drop(client);
        let made = ex.create_folder(ADA, "msgfolderroot", "Made").unwrap();
        ex.move_folder(ADA, &moves, "sentitems").unwrap();
        ex.delete_folder(ADA, &goes, Deletion::Hard).unwrap();
        let items = [put(&sim, &made, 3), put(&sim, &moves, 4)];
        let client = watch(&sim, "streaming", Some(dir.path()));
        let mut events = Vec::new();
        until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
        assert_eq!(mails(&events), once(&items), "{style:?}");
        assert_eq!(folders(&events, EventKind::Created), BTreeSet::from([made]), "{style:?}");
        assert_eq!(folders(&events, EventKind::Deleted), BTreeSet::from([goes]), "{style:?}");
        assert!(folders(&events, EventKind::Modified).contains(&moves), "{style:?}");
        let gap = events.iter().find(|e| e.kind == EventKind::Gap).unwrap().detail.clone().unwrap();
        // The first run ended right after its first reading, which goes by dates: what was moved in meanwhile may be missing.
        assert_eq!((gap.reason, gap.fill), (Some(Reason::Restarted), Some(Fill::Partial)), "{style:?}");
    }
}

// A rule that sorts mail while the link stands would have it told as deleted and as new once more by the search folder.
#[test]
fn moves_between_folders_are_moves() {
    let sim = server(Style::Exchange);
    let ex = sim.exchange();
    let client = watch(&sim, "streaming", None);
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    // The first repeat is how the search folder gets known.
    let first = put(&sim, "inbox", 1);
    let moved = ex.move_item(&first, "sentitems").unwrap();
    until(&client, &mut events, |e| e.iter().any(|e| e.item_id.as_ref() == Some(&moved)));
    // Another question is the sign that the first one's answer is known.
    for question in 2..=3 {
        let deadline = Instant::now() + LIMIT;
        while ex.count("SyncFolderHierarchy") < question {
            assert!(Instant::now() < deadline, "the folders are not asked for");
            let _ = client.next(Duration::from_millis(10));
        }
        ex.create_folder(ADA, "inbox", &format!("Later {question}")).unwrap();
    }
    let mut events = Vec::new();
    let second = put(&sim, "inbox", 2);
    until(&client, &mut events, |e| mails(e).contains_key(&second));
    let moved = ex.move_item(&second, "Inbox/Later 2").unwrap();
    let last = put(&sim, "inbox", 3);
    until(&client, &mut events, |e| mails(e).contains_key(&last));
    let of = |kind| events.iter().filter(move |e| e.kind == kind).filter_map(|e| e.item_id.clone());
    assert_eq!(of(EventKind::Deleted).count(), 0, "{events:#?}");
    assert!(!of(EventKind::Created).any(|id| id == moved), "{events:#?}");
}

// Each broken link would cost a question for each of 500 folders.
#[test]
fn five_hundred_folders_cost_few_questions() {
    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    let ex = sim.exchange();
    let ids: Vec<String> =
        (0..500).map(|n| ex.create_folder(ADA, "inbox", &format!("{n}")).unwrap()).collect();
    ids.iter().zip(0..).for_each(|(id, n)| drop(put(&sim, id, n)));
    grow_old(&sim);
    let asked =
        || ["SyncFolderHierarchy", "GetFolder", "SyncFolderItems"].map(|operation| ex.count(operation));
    let client = watch(&sim, "streaming", Some(dir.path()));
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    let start = asked();
    assert!(start[2] >= 500, "{start:?}");
    let mut items = Vec::new();
    let mut last = start;
    for round in 0..3 {
        grow_old(&sim);
        sim.cut_streams(Cut::Reset);
        items.push(put(&sim, &ids[100 + round], 1000 + round as u32));
        until(&client, &mut events, |e| count(e, EventKind::Drained) == 2 + round);
        let now = asked();
        let cost: Vec<u64> = (0..3).map(|i| now[i] - last[i]).collect();
        assert!(cost[0] <= 2 && cost[1] <= 4 && cost[2] <= 8, "{cost:?}");
        last = now;
    }
    client.close();
    drop(client);
    grow_old(&sim);
    items.push(put(&sim, &ids[7], 2000));
    let client = watch(&sim, "streaming", Some(dir.path()));
    until(&client, &mut events, |e| mails(e).len() == items.len());
    let now = asked();
    let cost: Vec<u64> = (0..3).map(|i| now[i] - last[i]).collect();
    assert!(cost[0] <= 2 && cost[1] <= 4 && cost[2] <= 12, "{cost:?}");
    assert_eq!(mails(&events), once(&items));
}
