//! Asking for events, where a watch does not stream: quickly while some come, more and more slowly while none do.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::timers::Timer;
use super::verdict;
use super::watch::{Continuity, Phase, Step, Watch};
use super::{Call, Engine, WatchMode};
use crate::proto::{NoticeKind, Notification};
use crate::{Error, ErrorKind, Reason};

/// Between two questions, whatever the host wants.
const LEAST: Duration = Duration::from_millis(10);

/// What happened so shortly before a question may come in the answer to the next only.
const LATENCY: Duration = Duration::from_secs(1);

/// The most that an answer tells (Exchange documentation of GetEvents).
const ANSWER: usize = 50;

/// The questions of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Polls {
    in_flight: usize,
    /// Watches that wait for their turn, in its order.
    turns: VecDeque<u64>,
    waiting: BTreeSet<u64>,
}

impl Polls {
    fn next(&mut self) -> Option<u64> {
        let id = self.turns.pop_front()?;
        self.waiting.remove(&id);
        Some(id)
    }
}

impl Watch {
    /// The longest wait between two questions: the server must not take the subscription for forgotten.
    pub fn slowest(&self) -> Duration {
        match self.spec.mode {
            WatchMode::Pull { interval, quiet, timeout_minutes } => {
                quiet.max(interval).min(Duration::from_secs(u64::from(timeout_minutes) * 30))
            }
            _ => Duration::ZERO,
        }
    }

    /// The wait after an answer.
    fn next_pace(&mut self, events: bool) -> Duration {
        let WatchMode::Pull { interval, .. } = self.spec.mode else { return Duration::ZERO };
        let slower = self.pace.max(LEAST) * 3 / 2;
        self.pace = if events { interval } else { slower.max(interval) }.min(self.slowest());
        self.pace
    }
}

impl Engine {
    /// A good answer to GetEvents.
    pub(super) fn polled(&mut self, id: u64, made: &Call, notification: Notification) {
        self.connected(id, Duration::ZERO);
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.worked();
        let events = notification.notices.iter().filter(|n| n.kind != NoticeKind::Status).count();
        let newest = notification.notices.iter().rev().find_map(|n| n.watermark.clone());
        // Where the server repeats it, what the host has no room for is left there.
        if events > 0 && newest.is_some() && self.is_full(id, events) {
            let Some(w) = self.watches.get_mut(&id) else { return };
            w.left_there = true;
            let wait = w.slowest();
            return self.due(id, Step::Poll, wait);
        }
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.left_there = false;
        // All that had happened when the question left is in this answer or in those that follow at once.
        if !notification.more_events {
            w.exhausted = made.sent.mono;
            w.certain = w.certain.max(made.sent.wall - LATENCY);
        }
        let Some(s) = &mut w.subscription else { return };
        let advanced = match (&newest, &s.watermark) {
            (Some(new), Some(old)) => new != old,
            _ => !notification.notices.is_empty(),
        };
        if newest.is_some() {
            s.watermark = newest;
        }
        // A server that says "more" for ever and tells nothing, or always the same, is asked at the usual pace.
        let more = notification.more_events && advanced && events > 0;
        let wait = w.next_pace(events > 0);
        self.deliver(id, notification, made.sent.wall);
        let Some(w) = self.watches.get(&id) else { return };
        if w.subscription.is_some() {
            self.due(id, Step::Poll, if more { Duration::ZERO } else { wait.max(LEAST) });
        }
        if !more && self.watches.get(&id).is_some_and(|w| w.subscription.is_some()) {
            self.went_on(id);
        }
        if self.watches.get(&id).is_some_and(|w| !w.read_at.is_zero()) {
            self.drained(id);
        }
    }

    /// How long ago the server had nothing more to tell, where it has to be asked.
    pub(super) fn caught_up(&self, id: u64) -> Option<Duration> {
        let w = self.watches.get(&id).filter(|w| matches!(w.spec.mode, WatchMode::Pull { .. }))?;
        Some(self.now.mono.saturating_sub(w.exhausted))
    }

    /// Whether so many events have no room.
    fn is_full(&self, id: u64, events: usize) -> bool {
        let waiting = self.waiting(id);
        (waiting > 0 && waiting + events > self.settings.pending_events)
            || !self.delivery.has_room_for(events)
    }

    /// Asks before the pause is over, unless it is one after a failure.
    pub(super) fn poll_now(&mut self, id: u64) {
        let ready = |w: &Watch| w.phase == Phase::Due(Step::Poll) && w.failures() == 0 && !w.left_there;
        if self.watches.get(&id).is_some_and(ready) {
            self.due(id, Step::Poll, Duration::ZERO);
        }
    }

    /// The host has made room: what was left at the server is asked for.
    pub(super) fn poll_soon(&mut self, id: u64) {
        if !self.watches.get(&id).is_some_and(|w| w.left_there) || self.is_full(id, ANSWER) {
            return;
        }
        if self.watches.get(&id).is_some_and(|w| w.phase == Phase::Due(Step::Poll)) {
            self.due(id, Step::Poll, Duration::ZERO);
        }
    }

    /// Whether a watch may ask now: some workers are left for other questions. If not, it has its turn later.
    pub(super) fn may_poll(&mut self, id: u64, endpoint: u32) -> bool {
        let most = self.settings.fetches.max(1);
        let polls = &mut self.endpoint(endpoint).polls;
        if polls.in_flight >= most {
            if polls.waiting.insert(id) {
                polls.turns.push_back(id);
            }
            return false;
        }
        polls.in_flight += 1;
        true
    }

    pub(super) fn poll_came_back(&mut self, endpoint: u32) {
        let polls = &mut self.endpoint(endpoint).polls;
        polls.in_flight = polls.in_flight.saturating_sub(1);
        self.next_poll(endpoint);
    }

    /// Whoever waits longest for its turn has it. One that has ended, was taken back or may not ask now gives it away.
    pub(super) fn next_poll(&mut self, endpoint: u32) {
        let now = self.now.mono;
        while let Some(id) = self.endpoint(endpoint).polls.next() {
            if self.watches.get(&id).is_some_and(|w| w.phase == Phase::Due(Step::Poll)) {
                return self.timers.set(Timer::Watch(id), now);
            }
        }
    }

    /// An answer that nobody waits for any more. Where the id has come back to a watch, its events were in there.
    pub(super) fn polled_late(&mut self, endpoint: u32, notification: &Notification) {
        let id = &notification.subscription_id;
        let Some(owner) = self.endpoint(endpoint).owners.get(id) else { return };
        let is_its_own =
            self.watches.get(&owner).and_then(|w| w.subscription.as_ref()).is_some_and(|s| s.id == *id);
        if is_its_own && notification.notices.iter().any(|n| n.kind != NoticeKind::Status) {
            self.tell_gap(owner, Reason::Unanswered, None);
        }
    }

    /// A question failed: with a watermark the same is asked again and answered again; without one, what the server
    /// gave to the lost answer is gone.
    pub(super) fn poll_doubts(&mut self, id: u64, error: &Error) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let replays = w.subscription.as_ref().is_some_and(|s| s.watermark.is_some());
        let sent = error.kind() != ErrorKind::Connect && !verdict::nothing_done(error);
        if !replays && sent && !matches!(w.continuity, Continuity::Broken(_)) {
            w.continuity = Continuity::Broken(Reason::Unanswered);
        }
    }
}
