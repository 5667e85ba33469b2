//! A host that keeps the state itself, as pairs in a map, and is killed at each step.

use super::host::{Run, Shelf, manual};
use super::*;
use crate::Ack;
use crate::engine::Nack;

/// A host over several lives.
#[derive(Default)]
struct Host {
    table: BTreeMap<String, Vec<u8>>,
    mailbox: Vec<String>,
    /// How many mails come in all, and when the host is killed.
    mails: usize,
    auto: bool,
    told: BTreeMap<String, usize>,
    /// Acknowledged, and those of them whose state was acknowledged too.
    acked: Vec<String>,
    durable: BTreeSet<String>,
}

impl Host {
    /// Lives for so many steps; true if it came to its end.
    fn live(&mut self, mut steps: usize) -> bool {
        self.acked.clear();
        let shelf = Shelf(self.table.clone(), 0);
        let mut run = Run::by_host(shelf, std::mem::take(&mut self.mailbox), |spec| {
            manual(spec);
            spec.ack = if self.auto { Ack::Auto } else { Ack::Manual };
        });
        let ended = self.play(&mut run, &mut steps).is_some();
        self.mailbox = std::mem::take(&mut run.mailbox);
        ended
    }

    /// `None` when it is killed.
    fn play(&mut self, run: &mut Run, steps: &mut usize) -> Option<()> {
        let mut step = || {
            *steps = steps.checked_sub(1)?;
            Some(())
        };
        let mut idle = 0;
        let mut auto: Option<String> = None;
        while idle < 3 {
            step()?;
            let event = run.engine.take(run.now);
            run.feed(Input::Tick);
            self.acked.extend(auto.take());
            match event {
                Some(event) if event.kind == EventKind::StateChanged => {
                    let detail = event.detail.as_ref().unwrap();
                    let key = detail.key.clone().unwrap();
                    step()?;
                    match &detail.value {
                        Some(value) => self.table.insert(key, value.clone().into_bytes()),
                        None => self.table.remove(&key),
                    };
                    step()?;
                    run.ack(event.seq);
                }
                Some(event) if event.kind == EventKind::NewMail => {
                    let item = event.item_id.clone().unwrap();
                    assert!(!self.durable.contains(&item), "{item} again, after its state was acknowledged");
                    *self.told.entry(item.clone()).or_default() += 1;
                    step()?;
                    if self.auto {
                        auto = Some(item);
                    } else {
                        run.ack(event.seq);
                        self.acked.push(item);
                    }
                }
                Some(_) => {}
                None if run.mailbox.len() < self.mails => {
                    // Some live, some where nobody looks.
                    let item = format!("m{}", run.mailbox.len());
                    if run.mailbox.len() % 3 == 2 {
                        run.mailbox.push(item);
                    } else {
                        run.mail(&item);
                    }
                }
                None => {
                    idle += 1;
                    run.wait(4000);
                }
            }
            if run.engine.is_saved() {
                self.durable.extend(std::mem::take(&mut self.acked));
            }
        }
        Some(())
    }
}

// A PHP host that keeps the state in its own database, a pair at a time, would lose mail when it is killed between two of them,
// or open a ticket twice that it has acknowledged.
#[test]
fn killed_at_each_step_it_loses_nothing_and_is_told_nothing_twice_that_was_kept() {
    for auto in [false, true] {
        for kill_at in 0..150 {
            let mut host = Host { mails: 9, auto, ..Host::default() };
            // Before there is a baseline, nothing is promised.
            while !host.live(12) && host.table.len() < 3 {}
            // Once, and then at each of so many steps.
            for steps in [kill_at, 7 + kill_at % 23, kill_at] {
                host.live(steps);
            }
            assert!(host.live(100_000));
            let told: Vec<&String> = host.told.keys().collect();
            let all: Vec<&String> = host.mailbox.iter().collect();
            assert_eq!(told, all, "killed at {kill_at}, auto {auto}");
            assert!(host.durable.len() <= 9);
            // Nothing is left that a run more would have to tell, or that would grow.
            assert!(host.live(100_000));
            let rest = host.table.keys().filter(|k| k.contains("/p/") || k.contains("/d/")).count();
            assert_eq!(rest, 0, "{:?}", host.table.keys());
        }
    }
}

// A database that is down for a moment would lose what it was given; the rest of the state would come on top of a hole.
#[test]
fn a_pair_that_could_not_be_written_comes_again_before_any_other() {
    let mut run = Run::by_host(Shelf::default(), Vec::new(), manual);
    let first = run.engine.take(run.now).unwrap();
    assert_eq!(first.kind, EventKind::StateChanged);
    assert!(run.engine.take(run.now).is_none_or(|e| e.kind != EventKind::StateChanged), "one at a time");
    assert!(run.engine.nack(run.now, first.seq, Nack::Park).is_err());
    run.nack(first.seq, Nack::Retry(Duration::from_secs(5)));
    while let Some(event) = run.engine.take(run.now) {
        assert_ne!(event.kind, EventKind::StateChanged);
    }
    run.wait(5);
    let again = run.engine.take(run.now).unwrap();
    assert_eq!(again.detail, first.detail);
    run.ack(again.seq);
    assert!(run.engine.ack(run.now, again.seq).is_err(), "twice");
}

// A host that ends in order would be told again what it has done, each time.
#[test]
fn closing_gives_all_that_is_left_before_the_end() {
    let mut run = Run::by_host(Shelf::default(), Vec::new(), manual);
    let mut table = BTreeMap::new();
    let mut write = |event: &Event| {
        let detail = event.detail.as_ref().unwrap();
        match &detail.value {
            Some(value) => table.insert(detail.key.clone().unwrap(), value.clone().into_bytes()),
            None => table.remove(detail.key.as_ref().unwrap()),
        };
    };
    let mut mails = 0;
    run.mailbox.push("a".into());
    run.tell(NoticeKind::NewMail, "a");
    while let Some(event) = run.engine.take(run.now) {
        run.feed(Input::Tick);
        match event.kind {
            // Written, and never acknowledged: there was no time.
            EventKind::StateChanged => write(&event),
            EventKind::NewMail => {
                mails += 1;
                run.ack(event.seq);
            }
            _ => {}
        }
    }
    run.feed(Input::Close);
    let mut closed = false;
    while let Some(event) = run.engine.take(run.now) {
        match event.kind {
            EventKind::StateChanged => {
                assert!(!closed);
                write(&event);
                run.engine.ack(run.now, event.seq).unwrap();
            }
            kind => {
                assert_eq!(kind, EventKind::Closed);
                closed = true;
            }
        }
    }
    assert!(closed && run.engine.is_saved());
    assert_eq!(mails, 1);
    let mut run = Run::by_host(Shelf(table, 0), vec!["a".into()], manual);
    assert_eq!(run.told(), [""; 0]);
}
