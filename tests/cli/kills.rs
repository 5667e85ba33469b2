//! `drain` and `run`, killed with SIGKILL when their n-th line is seen, or after a time, and begun again, while mail comes,
//! links are cut and the server is restarted: a ledger compares what was delivered with what was told.
//!
//! Twenty kills; EWSN_KILLS=200 for more, EWSN_SEED=N to replay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ewsnotify::sim::server::fault::Cut;
use rustix::process::Signal;
use serde_json::Value;

use crate::drain::{begun, mail};
use crate::support::{Running, USER, command, line, run, sim};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// What became of each mail: how often its line was seen, and how often another line followed.
#[derive(Default)]
struct Ledger(BTreeMap<String, (u32, u32)>);

impl Ledger {
    /// The lines of one run, and whether what the last one tells was kept for certain.
    fn run(&mut self, lines: &[Value], whole: bool) {
        let items: Vec<_> = lines.iter().map(|l| (l["type"].as_str(), l["item_id"].as_str())).collect();
        for (at, (kind, item)) in items.iter().enumerate() {
            if let (Some("NewMail" | "Ran"), Some(item)) = (kind, item) {
                let (seen, settled) = self.0.entry((*item).to_owned()).or_default();
                assert!(*settled == 0, "{item} came again although its line was followed by another");
                *seen += 1;
                *settled += u32::from(whole || at + 1 < items.len());
            }
        }
    }

    fn missing<'a>(&self, delivered: &'a [String]) -> Vec<&'a String> {
        delivered.iter().filter(|id| !self.0.contains_key(*id)).collect()
    }
}

/// Kills the command again and again; the lines of each run, and of the last that ended by itself, go into the ledger.
fn kill_again_and_again(subcommand: &str, rest: &[&str], kills: u64, seed: u64) {
    eprintln!("EWSN_SEED={seed} ({subcommand})");
    let mut random = fastrand::Rng::with_seed(seed);
    let sim = sim();
    let (dir, reach) = begun(&sim);
    let mut ledger = Ledger::default();
    let mut delivered = Vec::new();
    let mut repeated = 0;
    for round in 0..kills {
        for _ in 0..random.usize(1..6) {
            delivered.push(sim.exchange().deliver(USER, &mail(delivered.len())).unwrap());
        }
        let ran_before = commands(rest);
        let mut running = Running::start(command(&line(subcommand, &reach, rest)));
        // By time: perhaps before the first line.
        let by_time = random.u8(..3) == 0;
        let last = if by_time { 0 } else { random.usize(1..10) };
        let trouble = random.u8(..8);
        let mut seen = Vec::new();
        while seen.len() < last {
            // While nothing else is due, one more mail makes the next line.
            if seen.iter().any(|l: &Value| l["type"] == "Drained") {
                delivered.push(sim.exchange().deliver(USER, &mail(delivered.len())).unwrap());
            }
            seen.push(running.json(|_| true));
            if seen.len() == last / 2 {
                match trouble {
                    0 | 1 => sim.cut_connections(Cut::Reset),
                    2 => sim.exchange().restart(),
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
        }
        // At once, or somewhere in what it does next.
        let wait = if by_time { random.u64(..400) } else { random.u64(..40).saturating_sub(20) };
        std::thread::sleep(Duration::from_millis(wait));
        running.signal(Signal::KILL);
        let ended = running.end();
        assert_eq!(ended.code, None, "round {round}: it was killed: {ended:?}");
        let before: u32 = ledger.0.values().map(|(seen, _)| seen - 1).sum();
        // A line that was cut by the kill was not told.
        let whole = ended.out.lines().map_while(|l| serde_json::from_str(l).ok()).collect::<Vec<Value>>();
        ledger.run(&whole, false);
        let after: u32 = ledger.0.values().map(|(seen, _)| seen - 1).sum();
        assert!(after - before <= 1, "round {round}: {} came again", after - before);
        repeated += after - before;
        // A kill lets at most the one command run again that ran then. It may have noted its item after the kill.
        let log = commands(rest);
        let known: BTreeSet<_> = ran_before.iter().collect();
        let fresh: BTreeSet<_> = log[ran_before.len()..].iter().filter(|id| !known.contains(id)).collect();
        let again = log.len() - ran_before.len() - fresh.len();
        assert!(again <= 1, "seed {seed}, round {round}: {again} commands ran again");
    }
    let ended = run(&[&line(subcommand, &reach, rest)[..], &["--exit-when-drained"]].concat());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    ledger.run(&ended.json(), true);
    if subcommand == "drain" {
        assert_eq!(ledger.missing(&delivered), Vec::<&String>::new(), "seed {seed}");
    }
    eprintln!("{subcommand}: {} mails, {kills} kills, {repeated} told again, 0 missing", delivered.len());

    // Nothing comes any more, and nothing is left.
    let ended = run(&[&line(subcommand, &reach, rest)[..], &["--exit-when-drained"]].concat());
    let again: Vec<_> = ended.json().into_iter().filter(|l| l["item_id"].is_string()).collect();
    assert_eq!((ended.code, again), (Some(0), vec![]), "{ended:?}");
    let left = dir.path().join("spool").read_dir().map(|d| d.count()).unwrap_or(0);
    assert_eq!(left, 0, "files are left in the spool");

    if subcommand == "run" {
        // The commands' own log counts.
        let log = commands(rest);
        let missing: Vec<_> = delivered.iter().filter(|id| !log.contains(id)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        eprintln!("run: {} commands ran again", log.len() - log.iter().collect::<BTreeSet<_>>().len());
    }
}

/// The items that commands of `run` have noted, one for each time.
fn commands(rest: &[&str]) -> Vec<String> {
    let Some(log) = rest.last().and_then(|exec| exec.split(">> ").nth(1)) else { return Vec::new() };
    std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

// cron's machine loses its power, the OOM killer comes by: no mail may be missing then, and none told again whose line was
// followed by another.
#[test]
fn drain_loses_nothing_when_it_is_killed() {
    let seed = number("EWSN_SEED", fastrand::u64(..));
    let rest = ["--event", "NewMail", "--fetch", "summary"];
    kill_again_and_again("drain", &rest, number("EWSN_KILLS", 20) / 2, seed);
}

#[test]
fn run_loses_nothing_when_it_is_killed() {
    let seed = number("EWSN_SEED", fastrand::u64(..));
    let log = tempfile::NamedTempFile::new().unwrap();
    let exec = format!("echo \"$EWSN_ITEM_ID\" >> {}", log.path().display());
    // The kills count as attempts of the mail in hand, which is not to be parked for them.
    let rest = ["--attempts", "1000", "--exec", &exec];
    kill_again_and_again("run", &rest, number("EWSN_KILLS", 20) / 2, seed);
}
