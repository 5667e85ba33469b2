//! The state in the host's hands: pairs come in at the start, and what changes goes out as `StateChanged` events, one at a
//! time, each the next when the host has acknowledged the last.
//!
//! A host need not write a batch as a whole: its pairs come in an order in which each beginning of it is a good state too.
//! First what keeps an event from being lost or told again, then how far sync is, then what is done with.

use std::collections::{BTreeMap, VecDeque};

use super::save::{Batch, SaveId};
use super::{Engine, NUMBERS, Nack};
use crate::event::Detail;
use crate::{Error, ErrorKind, Event, EventKind, Result};

/// What a host keeps for us.
#[derive(Debug, Default)]
pub(super) struct HostState {
    /// As the host has them when it has acknowledged everything.
    pairs: BTreeMap<String, Vec<u8>>,
    /// The batch under way, and what is to be given of it.
    save: SaveId,
    rest: VecDeque<(String, Option<Vec<u8>>)>,
    /// What the host has and has not acknowledged, by `seq`: one pair, but for those that were given out at the end.
    given: BTreeMap<u64, (String, Option<Vec<u8>>)>,
}

impl Engine {
    /// The host keeps the state; this is what it has. Before anything else.
    pub fn keep_with_host(&mut self, pairs: Vec<(String, Vec<u8>)>) {
        self.host = Some(HostState { pairs: pairs.into_iter().collect(), ..HostState::default() });
    }

    /// What the host has, or will have, under a prefix; the keys without it. `None` where the host keeps nothing.
    pub fn kept_by_host(&self, prefix: &str) -> Option<Vec<(String, Vec<u8>)>> {
        let mut pairs = self.host.as_ref()?.pairs.clone();
        apply(&mut pairs, self.unsaved.iter());
        let of = |(key, value): (String, Vec<u8>)| Some((key.strip_prefix(prefix)?.to_owned(), value));
        Some(pairs.into_iter().filter_map(of).collect())
    }

    /// Begins to give a batch to the host, if it is the host that keeps the state.
    pub(super) fn give_state(&mut self, save: SaveId, batch: &Batch) -> bool {
        let Some(host) = &mut self.host else { return false };
        apply(&mut host.pairs, batch.iter());
        let mut changes: Vec<_> = batch.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        changes.sort_by_key(|(key, value)| rank(key, value.is_some()));
        (host.save, host.rest) = (save, changes.into());
        self.give_pair();
        if self.closing {
            self.give_last_state();
        }
        true
    }

    /// The host was given a pair under this number.
    pub(super) fn state_taken(&mut self, event: &Event) {
        if let (Some(host), Some(detail)) = (&mut self.host, &event.detail)
            && let Some(key) = &detail.key
        {
            let value = detail.value.as_ref().map(|v| v.clone().into_bytes());
            host.given.insert(event.seq, (key.clone(), value));
        }
    }

    /// The host has written a pair; false if it is not a pair's number.
    pub(super) fn state_acked(&mut self, seq: u64) -> bool {
        let known = self.host.as_mut().is_some_and(|host| host.given.remove(&seq).is_some());
        if known && !self.closing {
            self.give_pair();
        }
        known
    }

    /// The host could not write a pair: it is given again. `None` if it is not a pair's number.
    pub(super) fn state_nacked(&mut self, seq: u64, nack: Nack) -> Option<Result<()>> {
        let host = self.host.as_mut()?;
        if !host.given.contains_key(&seq) {
            return None;
        }
        if nack == Nack::Park {
            let text = format!("event {seq} is a StateChanged: it can be given again, but not be parked");
            return Some(Err(Error::new(ErrorKind::Invalid, text)));
        }
        let pair = host.given.remove(&seq)?;
        host.rest.push_front(pair);
        match nack {
            Nack::Retry(after) | Nack::Later(after) if !after.is_zero() => {
                self.timers.set(super::timers::Timer::Pair, self.now.mono + after);
            }
            _ => self.give_pair(),
        }
        Some(Ok(()))
    }

    /// Gives out all that is left: nothing will be given when the host acknowledges.
    pub(super) fn give_last_state(&mut self) {
        if self.host.is_none() {
            return;
        }
        while self.host.as_ref().is_some_and(|host| !host.rest.is_empty()) || !self.is_saved() {
            self.save_now();
            self.give_pair();
        }
    }

    /// Gives the next pair of the batch; when none is left, the batch is durable.
    pub(super) fn give_pair(&mut self) {
        let Some(host) = &mut self.host else { return };
        let Some((key, value)) = host.rest.pop_front() else {
            let save = host.save;
            return self.saved(save, Ok(()));
        };
        let of = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        let watch = self.watches.iter().find(|(_, w)| of(&w.spec.name));
        let (watch, mailbox) = watch.map_or((0, "".into()), |(id, w)| (*id, w.spec.mailbox.clone()));
        let mut event = Event::new(EventKind::StateChanged, watch, mailbox, self.now.wall);
        // All that we keep is text.
        let value = value.map(|v| String::from_utf8_lossy(&v).into_owned());
        event.detail = Some(Box::new(Detail { key: Some(key), value, ..Detail::default() }));
        self.push(event);
    }
}

fn apply<'a>(
    pairs: &mut BTreeMap<String, Vec<u8>>,
    changes: impl Iterator<Item = (&'a String, &'a Option<Vec<u8>>)>,
) {
    for (key, value) in changes {
        match value {
            Some(value) => pairs.insert(key.clone(), value.clone()),
            None => pairs.remove(key),
        };
    }
}

/// In which order the pairs of a batch go out.
fn rank(key: &str, put: bool) -> u8 {
    let kind = key.split('/').nth(1);
    match (kind, put) {
        _ if key == NUMBERS => 0,
        (Some("f"), true) => 2,
        // A folder that is known is thought to be followed.
        (Some("h"), true) => 3,
        // Behind what keeps its event from being told again.
        (Some("a"), true) => 4,
        (_, true) => 1,
        // An item's marks after its event: without the two it would be told again.
        (Some("d"), false) => 6,
        (_, false) => 5,
    }
}
