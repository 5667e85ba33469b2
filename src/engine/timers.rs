//! One wake-up time for each thing that waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A watch's next step.
    Watch(u64),
    /// What is to be done if nothing is pushed to a watch.
    Push(u64),
    /// Watches of a group that wait for its stream.
    Lobby(u64),
    /// A group's next stream, or the end of one that said `Closed`.
    Group(u64),
    /// Items of an endpoint to be asked for again.
    Fetch(u32),
    /// A watch's next sync.
    Sync(u64),
    /// Syncs of an endpoint that wait for its gate.
    Syncs(u32),
    /// Items of a watch that sync has told and the stream has not.
    Suspect(u64),
    /// Events to be given again.
    Again,
    /// Events that wait for what else happens to their items.
    Window,
    /// What is to be done at an endpoint after acknowledgements.
    Act(u32),
    /// A pair of the state that the host could not write.
    Pair,
    /// Changes to be written.
    Save,
    /// A token of this account: the next one is due, or the host has not acknowledged it.
    Token(usize),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Duration, Timer)>,
    times: BTreeMap<Timer, Duration>,
}

impl Timers {
    /// Sets a timer anew.
    pub fn set(&mut self, timer: Timer, at: Duration) {
        self.clear(timer);
        self.by_time.insert((at, timer));
        self.times.insert(timer, at);
    }

    /// Takes a timer back.
    pub fn clear(&mut self, timer: Timer) {
        if let Some(old) = self.times.remove(&timer) {
            self.by_time.remove(&(old, timer));
        }
    }

    /// When a timer rings.
    pub fn get(&self, timer: Timer) -> Option<Duration> {
        self.times.get(&timer).copied()
    }

    /// When the next one rings.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The next one that has rung.
    pub fn pop(&mut self, now: Duration) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    /// Takes all back.
    pub fn clear_all(&mut self) {
        self.by_time.clear();
        self.times.clear();
    }
}
