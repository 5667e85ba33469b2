//! Power cuts, full disks and syncs that fail, over the database on a forgetful disk.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{apply, put, random_batch, seeds};
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::forgetful::Forgetful;

type Map = BTreeMap<String, Vec<u8>>;

/// Sequences of commits, each of which is cut at every one of its steps. Thousands of them, in minutes:
/// `EWSN_STORE_RUNS=3000 cargo test --lib store::tests::power -- --nocapture`.
const SEQUENCES: u64 = 60;

/// What a run of commits has left: what was acknowledged, and what there would be with the batch that was not.
struct Run {
    stored: Map,
    asked: Map,
    disk: Forgetful,
}

/// Opens, commits and closes by a seed until all is done or the power goes.
fn run(seed: u64, disk: Forgetful, before: Map, cut_after: Option<u64>) -> Run {
    let mut rng = fastrand::Rng::with_seed(seed);
    if let Some(steps) = cut_after {
        disk.cut_after(steps);
    }
    let mut run = Run { stored: before.clone(), asked: before, disk };
    let Ok(mut store) = Embedded::on(run.disk.clone()) else { return run };
    for _ in 0..rng.u32(1..8) {
        if rng.u8(0..8) == 0 {
            drop(store);
            match Embedded::on(run.disk.clone()) {
                Ok(opened) => store = opened,
                Err(_) => return run,
            }
        }
        let changes = random_batch(&mut rng);
        apply(&mut run.asked, &changes);
        match store.commit(&changes) {
            Ok(()) => run.stored.clone_from(&run.asked),
            Err(_) => return run,
        }
    }
    run
}

fn all(store: &Embedded) -> Map {
    store.load("").unwrap().into_iter().collect()
}

// What was acknowledged must be there after a power cut, wherever it falls, and no batch in part.
#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_acknowledged() {
    let begin = Instant::now();
    let (mut cuts, mut undecided) = (0u64, 0u64);
    for seed in seeds(SEQUENCES) {
        let steps = run(seed, Forgetful::default(), Map::new(), None).disk.steps();
        for step in 0..steps {
            let cut = run(seed, Forgetful::default(), Map::new(), Some(step));
            let mut rng = fastrand::Rng::with_seed(seed ^ step << 32);
            cut.disk.restart(&mut rng);
            // The mending after a cut can be cut as well.
            if rng.bool() {
                cut.disk.cut_after(rng.u64(0..10));
                drop(Embedded::on(cut.disk.clone()));
                cut.disk.restart(&mut rng);
            }
            let store =
                Embedded::on(cut.disk.clone()).unwrap_or_else(|e| panic!("seed {seed} step {step}: {e}"));
            let found = all(&store);
            assert!(
                found == cut.stored || found == cut.asked,
                "seed {seed} step {step}: {:?} instead of {:?} or {:?}",
                found.keys(),
                cut.stored.keys(),
                cut.asked.keys()
            );
            // And the store goes on as if nothing had been.
            let next = random_batch(&mut rng);
            store.commit(&next).unwrap();
            let mut expected = found;
            apply(&mut expected, &next);
            assert_eq!(all(&store), expected, "seed {seed} step {step}");
            cuts += 1;
            undecided += u64::from(cut.stored != cut.asked);
        }
    }
    assert!(undecided > cuts / 10, "only {undecided} of {cuts} cuts hit a commit");
    println!("{cuts} power cuts, {undecided} of them within a commit, in {:?}", begin.elapsed());
}

// A disk that was full for a while needs no restart of the host.
#[test]
fn a_full_disk_is_told_and_only_has_to_have_room_again() {
    let disk = Forgetful::default();
    let store = Embedded::on(disk.clone()).unwrap();
    store.commit(&[put("a", "1")]).unwrap();
    disk.set_full(true);
    for _ in 0..3 {
        let e = store.commit(&[put("a", "2"), put("b", "2")]).unwrap_err();
        assert_eq!(e.kind(), crate::ErrorKind::Io);
        assert!(e.is_retryable() && e.to_string().contains("make room"), "{e}");
    }
    disk.set_full(false);
    let found = all(&store);
    assert!(found.len() == 1 || found.len() == 2, "{found:?}");
    store.commit(&[put("a", "2"), put("b", "2")]).unwrap();
    disk.restart(&mut fastrand::Rng::with_seed(1));
    assert_eq!(all(&Embedded::on(disk).unwrap()).len(), 2);
}

// After a failed sync the system believes that the disk has what it has not; the next commits must not build on that.
#[test]
fn what_a_failed_sync_has_lost_is_written_again() {
    for seed in seeds(200) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = Forgetful::default();
        let store = Embedded::on(disk.clone()).unwrap();
        let mut asked = Map::new();
        for _ in 0..rng.u32(1..5) {
            disk.fail_syncs(rng.u32(0..3));
            let changes = random_batch(&mut rng);
            apply(&mut asked, &changes);
            let mut tries = 0;
            while let Err(e) = store.commit(&changes) {
                tries += 1;
                assert!(tries < 20, "seed {seed}: {e}");
            }
        }
        disk.restart(&mut rng);
        drop(store);
        let store = Embedded::on(disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(all(&store) == asked, "seed {seed}");
    }
}
