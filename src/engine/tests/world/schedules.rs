//! The world from many seeds.

use super::*;

fn try_seed(seed: u64, faults: bool) -> BTreeMap<&'static str, u64> {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("replay with EWSN_WORLD_SEED={}", self.0);
            }
        }
    }
    let told = Seed(seed);
    let mut world = World::new(seed, faults);
    world.run();
    assert_eq!(told.0, world.seed);
    for reason in &world.ledger.reasons {
        *world.hits.entry(reason).or_default() += 1;
    }
    world.hits
}

fn try_many(runs: u64, faults: bool) -> BTreeMap<&'static str, u64> {
    if let Some(seed) = number("EWSN_WORLD_SEED") {
        try_seed(seed, faults);
        return BTreeMap::new();
    }
    let half = |odd: u64| {
        let mut hits = BTreeMap::new();
        for seed in (0..runs).filter(|seed| seed % 2 == odd) {
            for (fault, n) in try_seed(seed, faults) {
                *hits.entry(fault).or_default() += n;
            }
        }
        hits
    };
    let (mut hits, others) = std::thread::scope(|s| {
        let other = s.spawn(|| half(1));
        (half(0), other.join().expect("no seed fails"))
    });
    for (fault, n) in others {
        *hits.entry(fault).or_default() += n;
    }
    hits
}

// Somewhere, some combination of faults would lose mail without a word, tell it twice, tell a stranger's mail, ask a
// server in a loop, or leave a watch dead.
#[test]
fn random_schedules_of_faults_lose_nothing_silently() {
    let runs = number("EWSN_WORLD_RUNS").unwrap_or(10_000);
    let hits = try_many(runs, true);
    if hits.is_empty() || runs < 1000 {
        return;
    }
    println!("{runs} schedules: {hits:#?}");
    for fault in [
        "401",
        "Closed early",
        "a bad id at the opening",
        "bad envelope",
        "busy",
        "busy on the stream",
        "call without an answer",
        "cut",
        "end without Closed",
        "host sleeps",
        "lost subscription",
        "missed by the server",
        "queue overflow",
        "refused connection",
        "restart",
        "server queue overflow",
        "slow answers",
        "somebody else's event",
        "stream request without an answer",
        "taken over",
        "watch taken back and added",
        "written to a dead socket",
        "gap: BadEnvelope",
        "gap: ConnectionLost",
        "gap: ForeignEvent",
        "gap: MissedByServer",
        "gap: QueueOverflow",
        "gap: Regrouped",
        "gap: ServerError",
        "gap: SubscriptionLost",
        "gap: TakenOver",
        "gap: Unanswered",
    ] {
        assert!(hits.get(fault).is_some_and(|n| *n > 0), "{fault} never happened: {hits:#?}");
    }
}

// With a healthy server, a host would be told of gaps that are none, and sync ten thousand mailboxes for nothing.
#[test]
fn schedules_without_faults_have_no_gap() {
    let runs = number("EWSN_WORLD_RUNS").unwrap_or(10_000) / 10;
    let hits = try_many(runs, false);
    assert!(hits.keys().all(|k| !k.starts_with("gap")), "{hits:?}");
}
