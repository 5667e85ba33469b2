//! The proof from many seeds. One of twenty keeps its state in a database on a disk that forgets, and in one of twenty all that
//! goes between the engine and the server goes through XML.

use super::*;

#[derive(Default)]
struct Sum {
    hits: Hits,
    gaps: BTreeMap<String, u64>,
    on_disk: u64,
    in_xml: u64,
    events: u64,
    again: u64,
    came: usize,
    excused: usize,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.hits.add(other.hits);
        for (gap, n) in other.gaps {
            *self.gaps.entry(gap).or_default() += n;
        }
        self.on_disk += other.on_disk;
        self.in_xml += other.in_xml;
        self.events += other.events;
        self.again += other.again;
        self.came += other.came;
        self.excused += other.excused;
    }
}

/// Runs one schedule; how it failed, if it did.
fn try_seed(seed: u64, faults: bool, sum: &mut Sum) -> Result<(), String> {
    let schedule = Schedule { faults, on_disk: seed % 20 == 7, xml: seed % 20 == 13 };
    let run = std::panic::AssertUnwindSafe(|| {
        let mut world = World::new(seed, schedule);
        world.run();
        world
    });
    let world = std::panic::catch_unwind(run).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        format!("EWSN_PROOF_SEED={seed}: {}", text.chars().take(3000).collect::<String>())
    })?;
    let (came, excused) = world.ledger.figures();
    sum.add(Sum {
        hits: world.hits,
        gaps: world.ledger.reasons.into_iter().map(|reason| (reason, 1)).collect(),
        on_disk: schedule.on_disk.into(),
        in_xml: schedule.xml.into(),
        events: world.ledger.events,
        again: world.ledger.again,
        came,
        excused,
    });
    Ok(())
}

fn try_many(runs: u64, faults: bool) -> Sum {
    let first = number("EWSN_PROOF_SEED").or(number("EWSN_PROOF_FIRST")).unwrap_or(0);
    let runs = first + if number("EWSN_PROOF_SEED").is_some() { 1 } else { runs };
    let next = std::sync::atomic::AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = || {
        let mut sum = Sum::default();
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // Ten to look into are enough.
            if seed >= runs || failed.len() > 10 {
                return (sum, failed);
            }
            failed.extend(try_seed(seed, faults, &mut sum).err());
        }
    };
    let mut all = Sum::default();
    let mut failed = Vec::new();
    std::thread::scope(|s| {
        let workers: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        for worker in workers {
            let (sum, bad) = worker.join().expect("panics are caught");
            failed.extend(bad);
            all.add(sum);
        }
    });
    failed.sort();
    assert!(failed.is_empty(), "{} schedules failed; replay with\n{}", failed.len(), failed.join("\n"));
    all
}

/// No stream stands.
const OFF: &[&str] = &["down", "beginning", "starting", "resubscribing", "connecting"];
/// There is a run.
const UP: &[&str] = match states::STATES.split_first() {
    Some((_, up)) => up,
    None => &[],
};
/// There is no run, or it has no watches yet.
const OUT: &[&str] = &["down", "beginning"];
/// Anything but the opening of a stream.
const OPEN: &[&str] =
    &["down", "beginning", "starting", "resubscribing", "baseline", "filling a gap", "checkpoint", "live"];
/// No page is under way, or nobody waits for it.
const NO_PAGE: &[&str] = &["down", "beginning", "starting", "live"];

/// All that goes wrong, each with the states of a watch in which it can hardly happen.
const FAULTS: &[(&str, &[&str])] = &[
    ("Closed early", OFF),
    ("a bad id at the opening", OPEN),
    ("bad envelope", OFF),
    ("busy", &[]),
    ("call without an answer", &[]),
    ("cut", OFF),
    // The batch is no longer on its way when it fails.
    ("disk fails", &["down", "saving"]),
    ("disk full", &["down", "saving"]),
    ("expired", &[]),
    ("half-open link", OFF),
    ("host sleeps", &[]),
    ("invalid state", NO_PAGE),
    ("kill: before a command", &["down"]),
    ("kill: before an input", &["down"]),
    ("kill: before the host acknowledges", OUT),
    ("kill: before the host takes", &["down"]),
    ("kill: unanswered save forgotten", &["down", "saving"]),
    ("kill: unanswered save kept", &["down", "saving"]),
    ("lost subscription", &[]),
    ("missed by the server", &[]),
    ("park", OUT),
    ("push held", OFF),
    ("push lost", OFF),
    ("push replayed", OFF),
    ("push unanswered", OFF),
    ("read flag told by sync", NO_PAGE),
    ("refused connection", &[]),
    ("release", OUT),
    ("reordered", &[]),
    ("repeated", &[]),
    ("retry", OUT),
    ("server restart", &[]),
    ("several pages", NO_PAGE),
    ("silent reset", NO_PAGE),
    ("slow answers", &[]),
    // It is noticed with the first one.
    ("somebody else's event", &["down", "beginning", "starting", "checkpoint"]),
    ("stream request without an answer", OPEN),
    ("subscription silently dead", &[]),
    ("sync denied", NO_PAGE),
    ("taken over", &[]),
    ("written to a dead socket", &[]),
    // A disk that is full when a run begins.
    ("no state to begin with", UP),
];

/// The gaps that must have been told.
const GAPS: [&str; 14] = [
    "gap: BadEnvelope Pending",
    "gap: ConnectionLost Pending",
    "gap: Denied None",
    "gap: ForeignEvent Pending",
    "gap: Missed Pending",
    "gap: IdleTimeout Pending",
    "gap: MissedByServer Pending",
    "gap: NotificationLost Pending",
    "gap: QueueOverflow Pending",
    "gap: Restarted Partial",
    "gap: Restarted Pending",
    "gap: StateReset Partial",
    "gap: SubscriptionLost Pending",
    "gap: Unanswered Pending",
];

// Somewhere, some combination of faults, kills and restarts would lose mail without a word, or tell it twice.
#[test]
fn nothing_is_lost_and_nothing_is_told_twice() {
    let runs = number("EWSN_PROOF_RUNS").unwrap_or(100_000);
    let sum = try_many(runs, true);
    println!("{}\n{:#?}", sum.hits, sum.gaps);
    println!(
        "{runs} schedules, {} of them over the database, {} in XML: {} items came, {} events were taken, {} of them again because the host asked for that; {} items are not told, and a gap says so",
        sum.on_disk, sum.in_xml, sum.came, sum.events, sum.again, sum.excused
    );
    if runs < 100_000 {
        return;
    }
    let mut missing = sum.hits.missing(FAULTS);
    missing.extend(GAPS.iter().filter(|gap| !sum.gaps.contains_key(**gap)).map(|gap| format!("no {gap}")));
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

// With a healthy server a host would be told of gaps that are none, or wait for a Drained that never comes.
#[test]
fn without_faults_there_is_no_gap() {
    let sum = try_many(number("EWSN_PROOF_RUNS").unwrap_or(20_000) / 20, false);
    assert!(sum.gaps.is_empty(), "{:?}", sum.gaps);
}
