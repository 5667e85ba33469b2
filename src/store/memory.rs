//! A store for tests, that lasts as long as what holds it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Store};
use crate::Result;

/// Pairs in memory. Clones share them, so that a test can restart a host over what the host before it has kept.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Memory {
    fn pairs(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let pairs = self.pairs();
        let found = pairs.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, changes: &[Change]) -> Result<()> {
        let mut pairs = self.pairs();
        for change in changes {
            match &change.value {
                Some(value) => pairs.insert(change.key.clone(), value.clone()),
                None => pairs.remove(&change.key),
            };
        }
        Ok(())
    }
}

/// The number of pairs: a log line must not hold the whole state.
impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("pairs", &self.pairs().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::keeps_what_a_map_keeps;

    // A run without a state directory must answer the engine as one with a state directory does.
    #[test]
    fn keeps_pairs_as_a_map_does_and_shares_them_with_its_clones() {
        let memory = Memory::default();
        keeps_what_a_map_keeps(&|| Box::new(memory.clone()));
        assert!(format!("{memory:?}").len() < 40);
    }
}
