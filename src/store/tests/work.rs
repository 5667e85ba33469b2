//! What the database does every day, and what that costs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{keeps_what_a_map_keeps, put};
use crate::store::embedded::Embedded;
use crate::store::forgetful::Forgetful;
use crate::store::{Change, Store};

// A restart over the state directory must find exactly what was committed.
#[test]
fn keeps_pairs_as_a_map_does_and_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/er");
    keeps_what_a_map_keeps(&|| Box::new(Embedded::open(&dir).unwrap()));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.clone()), 0o700);
    assert_eq!(mode(dir.join("state.redb")), 0o600);
    assert_eq!(mode(dir.join("lock")), 0o600);
}

// An acknowledgement must cost the same with a backlog of a hundred thousand as with none.
#[test]
fn what_a_commit_writes_does_not_grow_with_what_is_stored() {
    let mut cost = Vec::new();
    for stored in [1usize, 1_000, 100_000] {
        let disk = Forgetful::default();
        let store = Embedded::on(disk.clone()).unwrap();
        let pairs: Vec<Change> =
            (0..stored).map(|i| put(&format!("event/{i:08}"), &"x".repeat(150))).collect();
        store.commit(&pairs).unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut most = 0;
        let (start, mut sum) = (disk.written(), 0);
        for _ in 0..200 {
            let before = disk.written();
            let i = rng.usize(0..stored);
            store.commit(&[put(&format!("event/{i:08}"), &"y".repeat(150))]).unwrap();
            most = most.max(disk.written() - before);
            sum = disk.written() - start;
        }
        println!("{stored} stored: {} bytes a commit, {most} at most", sum / 200);
        cost.push(sum / 200);
    }
    assert!(cost[2] < 64 * 1024, "{cost:?}");
    assert!(cost[2] < 3 * cost[1], "{cost:?}");
}
