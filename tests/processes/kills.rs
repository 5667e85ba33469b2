//! A host, killed with SIGKILL at its n-th line, or after a time, and begun again, while mail comes, links are cut and the
//! server is restarted. A ledger compares what was delivered with what was told.
//!
//! Twenty kills; EWSN_KILLS=200 for more, EWSN_SEED=N to replay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::Cut;

use crate::host::{Host, Part, deliver, server};

pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn spooled(dir: &Path) -> usize {
    dir.join("spool").read_dir().map_or(0, Iterator::count)
}

/// What became of each mail.
#[derive(Default)]
pub struct Ledger {
    pub seed: u64,
    told: BTreeMap<String, u32>,
    /// Acknowledged, and the host was told that this is durable.
    done: BTreeSet<String>,
    /// Put off, and the host was told that this is durable.
    later: BTreeSet<String>,
    /// Mails that came again although they were not put off.
    repeated: u32,
    gaps: u32,
}

impl Ledger {
    pub fn line(&mut self, line: &str) {
        let seed = self.seed;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["mail", id, attempt] => {
                let attempt: u32 = attempt.parse().unwrap();
                assert!(
                    !self.done.contains(id),
                    "seed {seed}: {id} came again after its acknowledgement was durable"
                );
                if self.later.contains(id) {
                    assert!(attempt >= 2, "seed {seed}: the attempt at {id} was not counted");
                } else {
                    self.repeated += u32::from(self.told.contains_key(id));
                }
                *self.told.entry(id.to_owned()).or_default() += 1;
            }
            ["done", id] => assert!(self.done.insert(id.to_owned())),
            ["later", id] => assert!(self.later.insert(id.to_owned()), "seed {seed}: {id} was put off twice"),
            ["event", "Gap"] => self.gaps += 1,
            ["event", _] | ["unsettled", ..] => {}
            _ => panic!("seed {seed}: {line}"),
        }
    }

    /// Not told, or put off and not told again. That it was done with may have been what the kill has cut off.
    pub fn is_missing(&self, id: &str) -> bool {
        let least = if self.later.contains(id) { 2 } else { 1 };
        self.told.get(id).is_none_or(|told| *told < least)
    }
}

fn trouble(sim: &Sim, which: u8) {
    match which {
        0 | 1 => sim.cut_connections(Cut::Reset),
        2 => sim.cut_streams(Cut::Fin),
        // The server's process is begun anew: nobody gets in, its subscriptions are gone.
        3 => {
            sim.refuse_connections(true);
            sim.cut_connections(Cut::Reset);
            sim.exchange().restart();
            sim.refuse_connections(false);
        }
        _ => {}
    }
}

// A host's machine loses its power, the OOM killer comes by: no mail may be missing then, none come again whose
// acknowledgement was durable, and no message stay behind on the disk.
#[test]
fn a_host_that_is_killed_loses_nothing() {
    let kills = number("EWSN_KILLS", 20);
    let seed = number("EWSN_SEED", fastrand::u64(..));
    eprintln!("EWSN_SEED={seed} (host)");
    let mut random = fastrand::Rng::with_seed(seed);
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    // The first run begins with what comes from then on.
    let host = Host::start(&sim, dir.path(), Part::Work);
    host.until("event Drained");
    host.end();

    let mut ledger = Ledger { seed, ..Ledger::default() };
    let mut delivered = Vec::new();
    let (mut files_left, mut by_time) = (0, 0);
    for round in 0..kills {
        for _ in 0..random.usize(1..6) {
            delivered.push(deliver(&sim, delivered.len()));
        }
        let host = Host::start(&sim, dir.path(), Part::Work);
        let repeated = ledger.repeated;
        if random.u8(..3) == 0 {
            // By time: perhaps before the first line.
            by_time += 1;
            let time = Duration::from_millis(random.u64(..400));
            let trouble_of_round = random.u8(..8);
            std::thread::sleep(time / 2);
            trouble(&sim, trouble_of_round);
            std::thread::sleep(time / 2);
        } else {
            let last = random.usize(1..20);
            let trouble_of_round = random.u8(..8);
            let mut drained = false;
            for n in 1..=last {
                // While nothing else is due, one more mail makes the next lines.
                if drained {
                    delivered.push(deliver(&sim, delivered.len()));
                }
                let line = host.line();
                drained |= line == "event Drained";
                ledger.line(&line);
                if n == last / 2 {
                    trouble(&sim, trouble_of_round);
                }
            }
            // At once, or somewhere in what it does next.
            std::thread::sleep(Duration::from_millis(random.u64(..40).saturating_sub(20)));
        }
        host.kill().iter().for_each(|line| ledger.line(line));
        files_left += spooled(dir.path());
        let again = ledger.repeated - repeated;
        assert!(again <= 1, "seed {seed}, round {round}: {again} mails came again");
    }
    let host = Host::start(&sim, dir.path(), Part::Work);
    loop {
        let missing: Vec<_> = delivered.iter().filter(|id| ledger.is_missing(id)).collect();
        if missing.is_empty() {
            break;
        }
        let line = host.line_within(Duration::from_secs(30));
        ledger.line(&line.unwrap_or_else(|| panic!("seed {seed}: missing {missing:?}")));
    }
    host.end().iter().for_each(|line| ledger.line(line));
    assert_eq!(spooled(dir.path()), 0, "files are left in the spool");

    // Nothing that was acknowledged comes any more.
    let host = Host::start(&sim, dir.path(), Part::Work);
    let mut line = String::new();
    while line != "event Drained" {
        line = host.line();
        ledger.line(&line);
    }
    host.end().iter().for_each(|line| ledger.line(line));
    let strangers: Vec<_> = ledger.told.keys().filter(|id| !delivered.contains(id)).collect();
    assert!(strangers.is_empty(), "seed {seed}: {strangers:?}");
    eprintln!(
        "host: {} mails, {kills} kills ({by_time} by time), {} gaps, {} put off, {} told again, {files_left} files were left, 0 missing",
        delivered.len(),
        ledger.gaps,
        ledger.later.len(),
        ledger.repeated,
    );
}

// Each kill would leave messages on the disk for ever.
#[test]
fn messages_that_a_killed_host_has_left_go_at_the_next_start() {
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&sim, dir.path(), Part::Hang);
    host.until("event Drained");
    let mails: Vec<String> = (0..3).map(|n| deliver(&sim, n)).collect();
    host.until("mail");
    host.kill();
    assert!(spooled(dir.path()) > 0, "it was killed with a message in its hands");
    let host = Host::start(&sim, dir.path(), Part::Work);
    let mut done: Vec<String> =
        (0..3).map(|_| host.until("done").strip_prefix("done ").unwrap().to_owned()).collect();
    done.sort();
    let mut expected = mails;
    expected.sort();
    assert_eq!(done, expected, "each is told again, with its message");
    host.end();
    assert_eq!(spooled(dir.path()), 0);
}
