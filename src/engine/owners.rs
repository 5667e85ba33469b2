//! Whose subscriptions are: servers that restart give old ids out again.

use std::collections::BTreeMap;
use std::time::Duration;

/// Whose each subscription id is or was, the newest ones: ids may come back.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: BTreeMap<String, (u64, u64)>,
    by_age: BTreeMap<u64, String>,
    age: u64,
    /// What we take off the server, and when that was answered: it must not hit an id that has come back.
    ended: BTreeMap<String, Option<Duration>>,
}

impl Owners {
    /// More are forgotten, the oldest first.
    const MOST: usize = 20_000;

    /// An Unsubscribe leaves.
    pub fn unsubscribing(&mut self, id: String) {
        if self.ended.len() >= Self::MOST {
            self.ended.retain(|_, answered| answered.is_none());
        }
        self.ended.insert(id, None);
    }

    /// It was answered; `done` if the server may have acted.
    pub fn unsubscribed(&mut self, id: String, now: Duration, done: bool) {
        match done {
            true => self.ended.insert(id, Some(now)),
            false => self.ended.remove(&id),
        };
    }

    /// Whether an Unsubscribe of ours may have ended the subscription that was asked for then.
    pub fn may_have_ended(&self, id: &str, asked: Duration) -> bool {
        self.ended.get(id).is_some_and(|answered| answered.is_none_or(|at| at >= asked))
    }

    /// Whose it is, or was.
    pub fn get(&self, id: &str) -> Option<u64> {
        self.owners.get(id).map(|(watch, _)| *watch)
    }

    /// Who had it before.
    pub fn insert(&mut self, id: String, watch: u64) -> Option<u64> {
        self.age += 1;
        self.by_age.insert(self.age, id.clone());
        let before = self.owners.insert(id, (watch, self.age));
        if let Some((_, age)) = before {
            self.by_age.remove(&age);
        }
        if self.by_age.len() > Self::MOST
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.owners.remove(&oldest);
        }
        before.map(|(watch, _)| watch)
    }
}
