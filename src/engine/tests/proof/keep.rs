//! What a host keeps over its runs: in memory, or in the database of a state directory on a disk that forgets what was not synced.

use super::*;
use crate::store::embedded::Embedded;
use crate::store::forgetful::Forgetful;
use crate::store::{Change, Store};

#[derive(Default)]
pub(super) struct Keep {
    /// What is kept for certain.
    pub sure: BTreeMap<String, Vec<u8>>,
    /// Batches that could not be written since the last one that could: any of them may be there after all.
    perhaps: Vec<Changes>,
    disk: Option<Disk>,
}

struct Disk {
    disk: Forgetful,
    /// While a host is up.
    database: Option<Embedded>,
}

impl Keep {
    pub fn on_disk() -> Keep {
        Keep { disk: Some(Disk { disk: Forgetful::default(), database: None }), ..Keep::default() }
    }

    /// A host opens it.
    pub fn open(&mut self, full: bool) -> Result<(), Error> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        disk.disk.set_full(full);
        let database = Embedded::on(disk.disk.clone())?;
        let found: BTreeMap<String, Vec<u8>> = database.load("")?.into_iter().collect();
        disk.database = Some(database);
        let perhaps = std::mem::take(&mut self.perhaps);
        let possible = std::iter::once(self.sure.clone()).chain(perhaps.into_iter().map(|changes| {
            let mut there = self.sure.clone();
            apply(&mut there, changes);
            there
        }));
        self.sure = possible.into_iter().find(|p| *p == found).unwrap_or_else(|| {
            panic!("the database has neither what is durable nor a whole batch more: {found:?}")
        });
        Ok(())
    }

    /// Whether a batch is durable now. `failing`: the disk does not take it.
    pub fn commit(&mut self, changes: Changes, full: bool, failing: bool) -> Result<(), Error> {
        let result = match &self.disk {
            None if full || failing => Err(error(ErrorKind::State)),
            None => Ok(()),
            Some(disk) => {
                disk.disk.set_full(full);
                disk.disk.fail_syncs(u32::from(failing));
                disk.database.as_ref().expect("a host is up").commit(&pairs(&changes))
            }
        };
        match &result {
            Ok(()) => {
                self.perhaps.clear();
                apply(&mut self.sure, changes);
            }
            Err(_) if self.disk.is_some() => self.perhaps.push(changes),
            Err(_) => {}
        }
        result
    }

    /// The host is killed, and the power goes, perhaps while a batch is being written. Whether that is there, as far as is known.
    pub fn cut(&mut self, rng: &mut fastrand::Rng, under_way: Option<Changes>) -> Option<bool> {
        let Some(disk) = &mut self.disk else {
            let kept = under_way.is_some() && rng.bool();
            let was = under_way.is_some();
            under_way.filter(|_| kept).into_iter().for_each(|changes| apply(&mut self.sure, changes));
            return was.then_some(kept);
        };
        let mut there = None;
        if let Some(changes) = under_way {
            disk.disk.cut_after(rng.u64(..24));
            let database = disk.database.as_ref().expect("a host is up");
            match database.commit(&pairs(&changes)) {
                Ok(()) => {
                    self.perhaps.clear();
                    apply(&mut self.sure, changes);
                    there = Some(true);
                }
                Err(_) => {
                    self.perhaps.push(changes);
                    there = Some(false);
                }
            }
        }
        disk.disk.cut_after(0);
        disk.database = None;
        disk.disk.restart(rng);
        there
    }

    /// What is kept of a watch, by its name.
    pub fn of(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        self.under(&format!("{name}/")).map(|(k, v)| (k.to_owned(), v.clone())).collect()
    }

    /// Keys below a prefix, without it, and their values.
    pub fn under(&self, prefix: &str) -> impl Iterator<Item = (&str, &Vec<u8>)> {
        let all = self.sure.range(prefix.to_owned()..);
        all.map_while(move |(k, v)| Some((k.strip_prefix(prefix)?, v)))
    }
}

fn apply(pairs: &mut BTreeMap<String, Vec<u8>>, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => pairs.insert(key, value),
            None => pairs.remove(&key),
        };
    }
}

fn pairs(changes: &Changes) -> Vec<Change> {
    changes.iter().map(|(key, value)| Change { key: key.clone(), value: value.clone() }).collect()
}
