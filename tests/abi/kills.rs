//! Hosts in C, Python and PHP that acknowledge by hand, killed with SIGKILL at a line of their log or at any time, again and again,
//! while mail arrives: none is missing, and none is told again whose acknowledgement had returned. `EWSN_KILLS=100` kills each so
//! often, `EWSN_SEED=n` replays.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::hosts::{ADA, Host, host, mail, options, python};
use super::install::compile;
use super::{count, example};
use ewsnotify::sim::Sim;

fn killed(mut command: impl FnMut(&str) -> Command, dir: &Path) {
    let seed = count("EWSN_SEED", fastrand::u64(..));
    let mut rng = fastrand::Rng::with_seed(seed);
    println!("EWSN_SEED={seed}");
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let mut options = options(&sim);
    options["state_dir"] = dir.join("state").to_str().unwrap().into();
    let options = options.to_string();
    // The first run says from when on mail is told.
    let mut first = Host::start(&mut command(&options));
    first.until("Connected");
    first.stop();

    let kills = count("EWSN_KILLS", 20);
    let mut delivered = Vec::new();
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    let mut again = 0;
    // What the last run printed last: its acknowledgement may not have returned.
    let mut unsure: Option<String> = None;
    for kill in 0..=kills {
        let mut deliver = |n: usize| {
            for _ in 0..n {
                delivered.push(sim.exchange().deliver(ADA, &mail(delivered.len())).unwrap());
            }
        };
        deliver(rng.usize(1..4));
        let mut host = Host::start(&mut command(&options));
        deliver(rng.usize(0..4));
        let last_run = kill == kills;
        let lines = if last_run { usize::MAX } else { rng.usize(0..6) };
        let mut last = None;
        let mut take = |event: &serde_json::Value| {
            let id = event["item_id"].as_str().unwrap().to_owned();
            let times = told.entry(id.clone()).or_default();
            *times += 1;
            if *times > 1 {
                assert_eq!(unsure.as_ref(), Some(&id), "seed {seed}, kill {kill}: told again: {event}");
                again += 1;
            }
            last = Some(id);
            told.len()
        };
        let patience = Duration::from_millis(rng.u64(0..1500));
        let mut seen = 0;
        while seen < lines {
            let event = if last_run { Some(host.next()) } else { host.within(patience) };
            let Some(event) = event else { break };
            if event["type"] == "NewMail" {
                seen += 1;
                if take(&event) == delivered.len() && last_run {
                    break;
                }
            }
        }
        if last_run {
            host.stop();
            break;
        }
        // What it printed before it went was printed.
        for event in host.kill() {
            if event["type"] == "NewMail" {
                take(&event);
            }
        }
        unsure = last.or(unsure);
    }
    let missing: Vec<&String> = delivered.iter().filter(|id| !told.contains_key(*id)).collect();
    assert!(missing.is_empty(), "seed {seed}: {missing:?}");
    println!(
        "{kills} kills, {} mails, {again} told again whose acknowledgement had not returned",
        delivered.len()
    );
}

/// C programs that crash would lose mail, or handle it twice.
#[test]
fn c_loses_nothing_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("cc", &example("c/watch.c"), &["-std=gnu99"], dir.path());
    let command = |options: &str| {
        let mut command = host(&program);
        command.env("EWSNOTIFY_OPTIONS", options);
        command
    };
    killed(command, dir.path());
}

/// The same in Python.
#[test]
fn python_loses_nothing_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let command = |options: &str| {
        let mut command = python();
        command.arg(example("python/watch.py")).env("EWSNOTIFY_OPTIONS", options);
        command
    };
    killed(command, dir.path());
}

/// The same in PHP.
#[test]
fn php_loses_nothing_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let command = |options: &str| {
        let mut command = host("php");
        command.arg(example("php/worker.php")).env("EWSNOTIFY_OPTIONS", options);
        command
    };
    killed(command, dir.path());
}
