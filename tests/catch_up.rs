//! Catch-up and the state directory over real sockets: nothing is lost, nothing that was dealt with is told again.
#![cfg(feature = "sim")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ewsnotify::sim::exchange::PushFault;
use ewsnotify::sim::fault::{Action, Cut, Fault};
use ewsnotify::sim::{Sim, Style};
use ewsnotify::{Client, ErrorKind, Event, EventKind, Fill, Next, Options, Reason};

use told::*;

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

fn options(sim: &Sim, settings: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    options
        .set("pull_interval", "20ms")
        .unwrap()
        .set("pull_interval_max", "20ms")
        .unwrap()
        .set("events", "NewMail")
        .unwrap();
    options.set("push_silence", "3s").unwrap();
    if settings.contains(&("mode", "push")) {
        options.set("push_listen", "127.0.0.1:0").unwrap();
    }
    for (key, value) in settings {
        options.set(key, value).unwrap();
    }
    options
}

fn deliver(sim: &Sim, n: u32) -> String {
    let mime = format!(
        "From: Bob <bob@example.test>\r\nSubject: {n}\r\nMessage-ID: <{n}@example.test>\r\n\r\nText\r\n"
    );
    sim.exchange().deliver(ADA, mime.as_bytes()).unwrap()
}

fn state(dir: &Path) -> (&'static str, &str) {
    ("state_dir", dir.to_str().unwrap())
}

// Mail that came while a link was down would be lost, or told twice when the server had kept it too.
#[test]
fn links_that_are_cut_lose_nothing_and_double_nothing() {
    for style in [Style::Exchange, Style::Gromox] {
        for mode in ["streaming", "pull", "push"] {
            // gromox has no push.
            if (style, mode) == (Style::Gromox, "push") {
                continue;
            }
            let sim = server(style);
            let client = watch(&options(&sim, &[("mode", mode)]));
            let mut events = Vec::new();
            until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
            let mut items = Vec::new();
            for round in 0..6 {
                items.push(deliver(&sim, round * 3));
                sim.cut_streams([Cut::Fin, Cut::Reset][round as usize % 2]);
                if mode == "push" {
                    use PushFault::{Cut, Held, Lost, Repeated, Unanswered};
                    let faults = [Lost, Unanswered, Held, Cut, Repeated, Lost];
                    sim.exchange().fail_push(faults[round as usize].clone());
                }
                if round == 3 {
                    sim.exchange().restart();
                }
                items.push(deliver(&sim, round * 3 + 1));
                items.push(deliver(&sim, round * 3 + 2));
                until(&client, &mut events, |e| mails(e).len() == items.len());
            }
            assert_eq!(mails(&events), once(&items), "{style:?} {mode}");
            if mode != "pull" {
                assert!(
                    count(&events, EventKind::Gap) >= 3,
                    "{style:?} {:#?}",
                    events.iter().map(Event::to_json).collect::<Vec<_>>()
                );
            }
        }
    }
}

// A program that is started again would not hear of what came meanwhile, and be told again of what it had done with.
#[test]
fn a_restart_goes_on_where_the_last_run_stood() {
    for ack in ["auto", "manual"] {
        let dir = tempfile::tempdir().unwrap();
        let sim = server(Style::Exchange);
        deliver(&sim, 0);
        // What is dated in the second of the start counts as new.
        sim.exchange().advance(Duration::from_secs(2));
        let options = options(&sim, &[("ack", ack), state(dir.path())]);
        let (mut items, mut all, mut seq) = (Vec::new(), Vec::new(), 0);
        for run in 0..4 {
            // While nobody watches.
            if run > 0 {
                items.push(deliver(&sim, 10 * run));
            }
            let client = watch(&options);
            let mut events = Vec::new();
            until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
            for n in 1..=3 {
                items.push(deliver(&sim, 10 * run + n));
            }
            // Two of them are taken, and the last of all not acknowledged.
            let wanted = items.len() - all.len() - 1;
            until(&client, &mut events, |e| mails(e).len() >= wanted);
            let mails: Vec<&Event> = events.iter().filter(|e| e.kind == EventKind::NewMail).collect();
            assert!(mails.iter().all(|e| e.seq > seq), "numbers rise over restarts");
            seq = events.iter().map(|e| e.seq).max().unwrap();
            let mut done: Vec<String> = mails.iter().map(|e| e.item_id.clone().unwrap()).collect();
            if ack == "manual" {
                for mail in &mails[..mails.len() - 1] {
                    client.ack(mail.seq).unwrap();
                }
                let e = client.ack(mails[0].seq).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Invalid);
                done.pop();
            }
            client.close();
            all.extend(done);
        }
        // A last run takes the rest.
        let client = watch(&options);
        let mut events = Vec::new();
        until(&client, &mut events, |e| mails(e).len() + all.len() >= items.len());
        all.extend(mails(&events).into_keys());
        all.sort();
        items.sort();
        assert_eq!(all, items, "{ack}: each once");
        let gap = events.iter().find(|e| e.kind == EventKind::Gap).unwrap().detail.clone().unwrap();
        assert_eq!((gap.reason, gap.fill), (Some(Reason::Restarted), Some(Fill::Pending)));
    }
}

// A handler that fails takes the client along (`?`, a panic): what it was given would count as dealt with, and never be told again, or even
// be deleted.
#[test]
fn a_client_that_is_dropped_has_its_last_event_told_again() {
    for mode in ["streaming", "pull"] {
        let dir = tempfile::tempdir().unwrap();
        let sim = server(Style::Exchange);
        let options = options(&sim, &[("mode", mode), ("after_ack", "delete"), state(dir.path())]);
        let client = watch(&options);
        let mut events = Vec::new();
        until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
        let item = deliver(&sim, 1);
        until(&client, &mut events, |e| mails(e).len() == 1);
        drop(client);
        for round in 0..3 {
            assert_eq!(sim.exchange().item_ids(ADA, "inbox").unwrap().len(), 1, "{mode}, {round}");
            let client = watch(&options);
            let mut of_other = Options::new();
            let other = client.watch(of_other.set("folders", "sentitems").unwrap()).unwrap();
            let mut events = Vec::new();
            until(&client, &mut events, |e| mails(e).len() == 1);
            assert_eq!(mails(&events), once(std::slice::from_ref(&item)), "{mode}, {round}");
            match round {
                0 => drop(client),
                1 => {
                    // To take another watch back says nothing of what is in hand.
                    client.unwatch(other).unwrap();
                    drop(client);
                }
                _ => assert!(client.close()),
            }
        }
        let client = watch(&options);
        let mut events = Vec::new();
        until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
        assert_eq!(mails(&events), once(&[]), "{mode}: it was dealt with");
    }
}

// Two processes would tell everything twice, and spoil each other's state.
#[test]
fn a_state_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    let options = options(&sim, &[state(dir.path())]);
    let client = watch(&options);
    assert_eq!(Client::open(&options).unwrap_err().kind(), ErrorKind::Locked);
    // Nor may two watches keep their state in one place.
    assert_eq!(client.watch(&Options::new()).unwrap_err().kind(), ErrorKind::Invalid);
    client.close();
    drop(client);
    Client::open(&options).unwrap();
}

// A host that gives a mailbox new options would be refused while the server is being told, or be told again of what it had dealt
// with a moment before.
#[test]
fn a_watch_that_was_taken_back_goes_on_where_it_stood() {
    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    let client = watch(&options(&sim, &[state(dir.path())]));
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    let mut items = Vec::new();
    for round in 1..=5 {
        items.push(deliver(&sim, round));
        until(&client, &mut events, |e| mails(e).len() == items.len());
        // To ask for more says that it is dealt with.
        while let Next::Event(event) = client.next(Duration::ZERO) {
            events.push(event);
        }
        sim.add_fault(Fault::new(Action::Stall { byte: 0 }).on("Unsubscribe"));
        client.unwatch(u64::from(round)).unwrap();
        items.push(deliver(&sim, 100 + round));
        client.watch(&Options::new()).unwrap();
        let drained = round as usize + 1;
        until(&client, &mut events, |e| {
            mails(e).len() == items.len() && count(e, EventKind::Drained) == drained
        });
        sim.resume();
    }
    assert_eq!(mails(&events), once(&items));
}

// Two threads of a host that both begin the same watch would spoil its state for each other: one of them is told so.
#[test]
fn of_two_that_begin_the_same_watch_at_once_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    let client = Client::open(&options(&sim, &[state(dir.path())])).unwrap();
    for _ in 0..20 {
        let start = std::sync::Barrier::new(4);
        let begin = || {
            start.wait();
            client.watch(&Options::new())
        };
        let begun: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let (watches, refused): (Vec<_>, Vec<_>) = begun.into_iter().partition(|b| b.is_ok());
        assert_eq!(watches.len(), 1, "{watches:?}");
        assert!(refused.iter().all(|r| r.as_ref().unwrap_err().kind() == ErrorKind::Invalid), "{refused:?}");
        client.unwatch(*watches[0].as_ref().unwrap()).unwrap();
    }
}

// A server that has lost its memory would make us tell nothing, or years of mail.
#[test]
fn a_server_that_forgets_its_states() {
    for silent in [false, true] {
        let sim = server(Style::Exchange);
        let old: Vec<String> = (100..105).map(|n| deliver(&sim, n)).collect();
        sim.exchange().advance(Duration::from_secs(10));
        sim.exchange().configure(|s| s.silent_reset = silent);
        let client = watch(&options(&sim, &[]));
        let mut events = Vec::new();
        until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
        let mut items = vec![deliver(&sim, 1)];
        until(&client, &mut events, |e| mails(e).len() == 1);
        sim.exchange().forget_states(ADA, None).unwrap();
        sim.cut_streams(Cut::Reset);
        items.push(deliver(&sim, 2));
        until(&client, &mut events, |e| count(e, EventKind::Drained) == 2);
        assert_eq!(mails(&events), once(&items), "{silent}, and nothing of {old:?}");
        let reset =
            events.iter().filter_map(|e| e.detail.as_ref()).find(|d| d.reason == Some(Reason::StateReset));
        assert_eq!(reset.and_then(|d| d.fill), Some(Fill::Partial));
    }
}

// Without the right to sync a user would believe that gaps are filled.
#[test]
fn who_may_not_sync_is_told_that_nothing_fills_a_gap() {
    let sim = server(Style::Exchange);
    sim.exchange().refuse_sync(ADA, Some("ErrorAccessDenied")).unwrap();
    let client = watch(&options(&sim, &[]));
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Error) == 1 && count(e, EventKind::Connected) == 1);
    sim.cut_streams(Cut::Reset);
    until(&client, &mut events, |e| count(e, EventKind::Gap) == 1);
    assert_eq!(events.last().unwrap().detail.as_ref().unwrap().fill, Some(Fill::None));
    // The stream goes on all the same.
    let mail = deliver(&sim, 1);
    until(&client, &mut events, |e| mails(e).contains_key(&mail));
}

// The first look at a large folder takes minutes: one that is cut or killed would begin again for ever, or forget what came
// meanwhile. `EWSN_BASELINE_ITEMS=100000` tries a large one and prints what it took.
#[test]
fn a_baseline_that_is_cut_and_killed_goes_on() {
    let items = std::env::var("EWSN_BASELINE_ITEMS").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000);
    let pages = items / 512;
    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    sim.exchange().fill(ADA, "inbox", b"Subject: old\r\n\r\n", items).unwrap();
    sim.exchange().advance(Duration::from_secs(10));
    let options = options(&sim, &[state(dir.path())]);
    let (mut new, mut all) = (Vec::new(), Vec::new());
    let began = Instant::now();
    let mut runs = 0;
    for kill in 1..=20 {
        let page = (pages * kill / 21).max(2) as u64;
        let client = watch(&options);
        runs += 1;
        let mut events = Vec::new();
        let deadline = Instant::now() + 10 * LIMIT;
        while sim.exchange().count("SyncFolderItems") < page && count(&events, EventKind::Drained) == 0 {
            assert!(Instant::now() < deadline, "{:?}", client.status());
            if let Next::Event(event) = client.next(Duration::from_millis(10)) {
                events.push(event);
            }
        }
        if kill % 3 == 0 {
            sim.cut_connections(Cut::Reset);
        }
        new.push(deliver(&sim, kill as u32));
        client.close_within(Duration::ZERO);
        all.extend(mails(&events));
    }
    let client = watch(&options);
    let mut events = Vec::new();
    let deadline = Instant::now() + 10 * LIMIT;
    while count(&events, EventKind::Drained) == 0 {
        assert!(Instant::now() < deadline, "{:?}", client.status());
        if let Next::Event(event) = client.next(Duration::from_secs(1)) {
            events.push(event);
        }
    }
    until(&client, &mut events, |e| mails(e).len() + all.len() >= new.len());
    all.extend(mails(&events));
    let mut times = BTreeMap::new();
    for (item, n) in all {
        *times.entry(item).or_default() += n;
    }
    assert_eq!(times, once(&new), "what came meanwhile is told, once, and nothing old");
    let asked = sim.exchange().count("SyncFolderItems");
    println!("{items} items, {runs} kills, {asked} pages asked for, {:?}", began.elapsed());
    assert!(asked as usize <= pages + 3 * runs + 10, "each run went on where the last one stood: {asked}");
}

// What was moved away, or came and went, while a program was started again would never be told, though the server remembers it.
#[test]
fn a_restart_of_pull_asks_the_server_for_what_it_remembers() {
    use EventKind::{Copied, Deleted, Moved, NewMail};
    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    let settings = [("mode", "pull"), ("events", "NewMail,Moved,Copied,Deleted"), state(dir.path())];
    let options = options(&sim, &settings);
    let client = watch(&options);
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    let (kept, away) = (deliver(&sim, 1), deliver(&sim, 2));
    until(&client, &mut events, |e| mails(e).len() == 2);
    // To ask for more acknowledges them.
    while let Next::Event(event) = client.next(Duration::ZERO) {
        events.push(event);
    }
    drop(client);
    assert_eq!(sim.exchange().subscriptions(ADA).len(), 1, "it stays for the next run");
    let moved = sim.exchange().move_item(&away, "junkemail").unwrap();
    let copied = sim.exchange().copy_item(&kept, "inbox").unwrap();
    let gone = deliver(&sim, 3);
    sim.exchange().delete_item(&gone, ewsnotify::sim::exchange::Deletion::Hard).unwrap();

    let client = watch(&options);
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    let of = |kind, item: &str| {
        events.iter().filter(|e| e.kind == kind && e.item_id.as_deref() == Some(item)).count()
    };
    let wanted = [of(Moved, &moved), of(Copied, &copied), of(NewMail, &gone), of(Deleted, &gone)];
    assert_eq!(wanted, [1; 4], "{events:#?}");
    assert_eq!((of(NewMail, &kept), of(NewMail, &away)), (0, 0), "they were dealt with");
    assert_eq!(sim.exchange().count("Subscribe"), 1);
    drop(client);

    // A run in another mode deals with what came after that: it is not told again by the server's memory.
    let streaming = self::options(&sim, &[settings[1], settings[2]]);
    let between = deliver(&sim, 4);
    let client = watch(&streaming);
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    assert_eq!(mails(&events), once(&[between]));
    while let Next::Event(_) = client.next(Duration::ZERO) {}
    drop(client);
    let client = watch(&options);
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    assert_eq!((mails(&events), sim.exchange().count("Subscribe")), (once(&[]), 3));
    drop(client);

    // Where the server has forgotten it, sync finds out, and a gap says so.
    assert!(sim.exchange().lose_subscription(ADA) > 0);
    let last = deliver(&sim, 5);
    let client = watch(&options);
    let mut events = Vec::new();
    until(&client, &mut events, |e| count(e, EventKind::Drained) == 1);
    assert_eq!(mails(&events), once(&[last]));
    let gap = events.iter().find(|e| e.kind == EventKind::Gap).unwrap().detail.clone().unwrap();
    assert_eq!((gap.reason, gap.fill), (Some(Reason::Restarted), Some(Fill::Pending)));
    assert_eq!(sim.exchange().count("Subscribe"), 4);
}
