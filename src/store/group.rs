//! Group commit: the changes of many callers become one commit, so that a hundred acknowledgements cost one sync of the disk.
//!
//! No threads here. Whoever has changes calls [`Group::add`] and waits for its ticket; whoever commits takes what there is,
//! commits it without holding the group, and says how that ended; meanwhile others add to the next batch.
//!
//! ```text
//!  add ─► ticket        take ─► Batch ─► Store::commit ─► finish ─► tickets that are answered
//! ```

use std::collections::BTreeMap;

use super::Change;

/// Names one call of [`Group::add`]. They rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// What one commit makes durable: the changes of several callers, of two of one key the later.
#[derive(Debug)]
#[must_use = "a batch that is not finished stops all commits"]
pub(crate) struct Batch {
    tickets: Vec<Ticket>,
    changes: Vec<Change>,
}

impl Batch {
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// The changes that wait for a commit. There is one commit at a time, and none overtakes another.
#[derive(Debug, Default)]
pub(crate) struct Group {
    last: u64,
    tickets: Vec<Ticket>,
    changes: BTreeMap<String, Option<Vec<u8>>>,
    out: bool,
}

impl Group {
    /// Puts changes behind all earlier ones. They stay together: a commit has all of them.
    pub fn add(&mut self, changes: impl IntoIterator<Item = Change>) -> Ticket {
        self.changes.extend(changes.into_iter().map(|change| (change.key, change.value)));
        self.last += 1;
        let ticket = Ticket(self.last);
        self.tickets.push(ticket);
        ticket
    }

    /// What there is to commit now; none while a batch is out.
    ///
    /// A batch without tickets is one that failed: commit it when time has passed.
    pub fn take(&mut self) -> Option<Batch> {
        if self.out || (self.tickets.is_empty() && self.changes.is_empty()) {
            return None;
        }
        self.out = true;
        let changes = std::mem::take(&mut self.changes);
        let changes = changes.into_iter().map(|(key, value)| Change { key, value }).collect();
        Some(Batch { tickets: std::mem::take(&mut self.tickets), changes })
    }

    /// The batch is stored, or its commit failed; the tickets whose callers are to be told so.
    ///
    /// The engine does not take back what it has done, so the changes of a failed batch go with the next one, except where
    /// newer ones have come meanwhile.
    pub fn finish(&mut self, batch: Batch, stored: bool) -> Vec<Ticket> {
        self.out = false;
        if !stored {
            for change in batch.changes {
                self.changes.entry(change.key).or_insert(change.value);
            }
        }
        batch.tickets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{put, remove};
    use crate::store::{Store, memory::Memory};

    // A hundred hosts' acknowledgements must not cost a hundred syncs, nor may an older value win.
    #[test]
    fn callers_share_a_commit_and_the_later_change_wins() {
        let mut group = Group::default();
        assert!(group.take().is_none());
        let first = group.add([put("a", "1"), put("b", "1")]);
        let second = group.add([put("a", "2"), remove("b")]);
        let batch = group.take().unwrap();
        assert_eq!(batch.changes(), [put("a", "2"), remove("b")]);
        assert_eq!(group.finish(batch, true), [first, second]);
        assert!(group.take().is_none(), "nothing is committed twice");
    }

    // An acknowledgement whose commit has only begun must not be answered with the one before it.
    #[test]
    fn what_comes_during_a_commit_waits_for_the_next() {
        let mut group = Group::default();
        let first = group.add([put("a", "1")]);
        let batch = group.take().unwrap();
        let second = group.add([put("a", "2")]);
        assert!(group.take().is_none(), "two commits at once could end in the wrong order");
        assert_eq!(group.finish(batch, true), [first]);
        let batch = group.take().unwrap();
        assert_eq!(batch.changes(), [put("a", "2")]);
        assert_eq!(group.finish(batch, true), [second]);
    }

    // A caller that changes nothing still learns that all before it is durable.
    #[test]
    fn a_ticket_without_changes_is_answered_too() {
        let mut group = Group::default();
        let ticket = group.add([]);
        let batch = group.take().unwrap();
        assert_eq!(group.finish(batch, true), [ticket]);
    }

    // After a full disk the state on disk must become what the engine has in memory, not an older mixture.
    #[test]
    fn a_failed_batch_goes_with_the_next_one_below_what_is_newer() {
        let mut group = Group::default();
        let memory = Memory::default();
        let first = group.add([put("a", "1"), put("b", "1"), remove("c")]);
        let batch = group.take().unwrap();
        group.add([put("b", "2")]);
        assert_eq!(group.finish(batch, false), [first]);
        let batch = group.take().unwrap();
        assert_eq!(batch.changes(), [put("a", "1"), put("b", "2"), remove("c")]);
        assert_eq!(group.finish(batch, false).len(), 1);
        let batch = group.take().expect("a retry needs no new caller");
        memory.commit(batch.changes()).unwrap();
        assert_eq!(group.finish(batch, true), []);
        assert!(group.take().is_none());
        assert_eq!(memory.load("").unwrap(), [("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())]);
    }
}
