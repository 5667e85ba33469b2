//! What the tests of the stores share.

mod damage;
mod forks;
mod power;
mod work;

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Change, Store};

/// Seeds for so many runs: `EWSN_STORE_RUNS` asks for more, `EWSN_STORE_SEED` for a certain one.
pub fn seeds(runs: u64) -> Range<u64> {
    let asked = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let first = asked("EWSN_STORE_SEED");
    let runs = asked("EWSN_STORE_RUNS").unwrap_or(if first.is_some() { 1 } else { runs });
    let first = first.unwrap_or_else(|| fastrand::u64(..) >> 16);
    first..first + runs
}

pub fn put(key: &str, value: &str) -> Change {
    Change { key: key.into(), value: Some(value.into()) }
}

/// Some changes of few keys, so that they meet; now and then none, and now and then a value of many pages.
pub fn random_batch(rng: &mut fastrand::Rng) -> Vec<Change> {
    let some = rng.usize(0..6);
    (0..some)
        .map(|_| {
            let key = format!("{}/{}", ["a", "b", "ü"][rng.usize(0..3)], rng.u8(0..40));
            let size = if rng.u8(0..20) == 0 { 20_000 } else { 200 };
            let value = (rng.u8(0..4) != 0).then(|| vec![rng.u8(..); rng.usize(0..size)]);
            Change { key, value }
        })
        .collect()
}

pub fn apply(map: &mut BTreeMap<String, Vec<u8>>, changes: &[Change]) {
    for change in changes {
        match &change.value {
            Some(value) => map.insert(change.key.clone(), value.clone()),
            None => map.remove(&change.key),
        };
    }
}

/// Compares a store, opened anew now and then, with a map.
pub fn keeps_what_a_map_keeps(open: &dyn Fn() -> Box<dyn Store>) {
    let seed = seeds(1).start;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut map = BTreeMap::new();
    let mut store = open();
    for _ in 0..200 {
        if rng.u8(0..10) == 0 {
            drop(store);
            store = open();
        }
        let changes = random_batch(&mut rng);
        store.commit(&changes).unwrap();
        apply(&mut map, &changes);
        for prefix in ["", "a/", "b/1", "ü", "z"] {
            let expected: Vec<_> =
                map.clone().into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
            assert_eq!(store.load(prefix).unwrap(), expected, "prefix {prefix:?}");
        }
    }
}
