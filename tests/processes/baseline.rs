//! The first look at a large folder, with links that are cut and hosts that are killed in the middle of it.

use std::time::{Duration, Instant};

use ewsnotify::sim::fault::Cut;

use crate::host::{ADA, Host, Part, deliver, server};
use crate::kills::{Ledger, number};

// It takes minutes: one that is killed would begin again for ever, or forget what came meanwhile, or take all the memory.
// EWSN_BASELINE_ITEMS=100000 tries a large one.
#[test]
fn a_baseline_that_is_cut_and_killed_twenty_times_goes_on() {
    let items = number("EWSN_BASELINE_ITEMS", 6_000) as usize;
    let pages = items.div_ceil(512) as u64;
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    sim.exchange().fill(ADA, "inbox", b"Subject: old\r\n\r\n", items).unwrap();
    sim.exchange().advance(Duration::from_secs(10));
    let (mut ledger, mut delivered) = (Ledger::default(), Vec::new());
    let (began, mut peak, runs) = (Instant::now(), 0, 20);
    for run in 1..=runs {
        let before = sim.exchange().count("SyncFolderItems");
        let host = Host::start(&sim, dir.path(), Part::Work);
        let asked_for = |page: u64| {
            let waits = Instant::now();
            while sim.exchange().count("SyncFolderItems") < page {
                assert!(waits.elapsed() < Duration::from_secs(60), "page {page} is never asked for");
                std::thread::sleep(Duration::from_micros(100));
            }
        };
        // The links are cut in the middle of a page, the host goes on with it by itself, and is killed in the middle of that.
        asked_for((pages * run / (runs + 1)).max(before + 1));
        sim.cut_connections(Cut::Reset);
        let asked = sim.exchange().count("SyncFolderItems");
        delivered.push(deliver(&sim, delivered.len()));
        asked_for(asked + 1);
        delivered.push(deliver(&sim, delivered.len()));
        peak = peak.max(host.peak());
        host.kill().iter().for_each(|line| ledger.line(line));
    }
    let host = Host::start(&sim, dir.path(), Part::Work);
    let mut drained = false;
    while !drained || delivered.iter().any(|id| ledger.is_missing(id)) {
        let line = host.line();
        drained |= line == "event Drained";
        ledger.line(&line);
    }
    peak = peak.max(host.peak());
    host.end().iter().for_each(|line| ledger.line(line));
    let asked = sim.exchange().count("SyncFolderItems");
    eprintln!(
        "{items} items, {runs} cuts and {runs} kills, {asked} of {pages} pages asked for, {:?}, {peak} KiB",
        began.elapsed()
    );
    assert!(asked <= pages + 3 * runs + 10, "each run went on where the last one stood: {asked}");
    assert!(peak < 64 * 1024, "{peak} KiB");
}
