//! A picture of the engine for the status line: cheap, and not needed for any decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::acks::Place;
use super::folder::Folder;
use super::group::Link;
use super::timers::Timer;
use super::watch::{Phase, Watch};
use super::{Engine, WatchMode};
use crate::Reason;

/// How it stands with a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchState {
    /// It is being subscribed.
    Starting,
    /// It hears of events as they happen.
    Connected,
    /// It asks for events, and is answered.
    Pulling,
    /// Its push subscription stands, and the server has sent nothing.
    Unheard {
        /// Since when, monotonic.
        since: Duration,
    },
    /// The link is gone.
    Reconnecting {
        /// The last certain thing, wall time.
        since: SystemTime,
        /// When it is tried again, monotonic; `None` while an attempt is under way.
        retry_at: Option<Duration>,
    },
    /// It has ended, and nobody had asked for that.
    GivenUp,
}

/// A watch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WatchStatus {
    /// Its number.
    pub watch: u64,
    /// Its mailbox.
    pub mailbox: Arc<str>,
    /// How it stands.
    pub state: WatchState,
    /// How many things wait for content, or behind such.
    pub held: usize,
    /// Why the link is gone, or the watch was given up.
    pub down: Option<Reason>,
    /// Whether sync has something to tell yet, as far as the server lets us sync.
    pub catching_up: bool,
    /// Up to when it is certain that nothing was missed; `None` before the first good answer.
    pub certain: Option<SystemTime>,
    /// Events that were found and are not done with, those that come again later and the parked ones apart.
    pub backlog: usize,
    /// Those of them that the host has.
    pub unacked: usize,
    /// Whether the host is given no more before it acknowledges some.
    pub blocked: bool,
    /// Those that are told again later.
    pub later: usize,
    /// Those that are parked.
    pub parked: usize,
    /// Items that something has to be done with after their acknowledgement.
    pub acting: usize,
}

/// How it stands with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Between two streams; the next opens then (monotonic).
    Waiting(Option<Duration>),
    /// It was commanded, and no good message has come.
    Opening,
    /// It works.
    Open,
    /// It is being shut.
    Closing,
}

/// A stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// The endpoint it belongs to.
    pub endpoint: u32,
    /// How it stands.
    pub state: ConnectionState,
    /// The watches on it.
    pub members: Vec<u64>,
    /// When it was opened last, monotonic.
    pub opened_at: Duration,
    /// When its last message came, monotonic.
    pub last_message: Option<Duration>,
    /// How many attempts failed in a row.
    pub attempts: u32,
}

/// Sums since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Streams opened.
    pub opens: u64,
    /// Calls made, those to subscribe included.
    pub calls: u64,
    /// `Subscribe` calls.
    pub subscribes: u64,
    /// Mailbox events that the host wanted, before its queue.
    pub events: u64,
    /// Events that belong to no watch here; never handed out.
    pub foreign: u64,
    /// Gaps.
    pub gaps: u64,
}

/// All of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The watches that have not ended.
    pub watches: Vec<WatchStatus>,
    /// Those that were given up and not begun anew, as they stood then.
    pub given_up: Vec<WatchStatus>,
    /// The streams.
    pub connections: Vec<ConnectionStatus>,
    /// The sums.
    pub counters: Counters,
}

impl Engine {
    /// How everything stands now.
    pub fn status(&self) -> Status {
        let counts = self.count_opens();
        let count = |id: &u64| counts.get(id).copied().unwrap_or_default();
        let watches = self.watches.iter().map(|(id, w)| self.watch_status(*id, w, count(id)));
        let connections = self.groups.iter().map(|(id, g)| ConnectionStatus {
            endpoint: g.endpoint,
            state: match g.link {
                Link::Waiting => ConnectionState::Waiting(self.timers.get(Timer::Group(*id))),
                Link::Hanging(_) if g.good => ConnectionState::Open,
                Link::Hanging(_) => ConnectionState::Opening,
                Link::Aborted(..) => ConnectionState::Closing,
            },
            members: g.members.iter().copied().collect(),
            opened_at: g.opened,
            last_message: g.heard_mono,
            attempts: g.attempts(),
        });
        Status {
            watches: watches.collect(),
            given_up: self.given_up.values().cloned().collect(),
            connections: connections.collect(),
            counters: self.counters,
        }
    }

    /// Of each watch: what the host has, what is told again later, what is parked.
    fn count_opens(&self) -> BTreeMap<u64, [usize; 3]> {
        let mut opens = BTreeMap::<u64, [usize; 3]>::new();
        for open in self.opens.by_ticket.values() {
            let counts = opens.entry(open.event.watch).or_default();
            match open.place {
                Place::Queued => {}
                Place::Given(_) => counts[0] += 1,
                Place::Later(_) => counts[1] += 1,
                Place::Parked => counts[2] += 1,
            }
        }
        opens
    }

    fn watch_status(&self, id: u64, w: &Watch, [unacked, later, parked]: [usize; 3]) -> WatchStatus {
        let down = w.failing.or(w.down).filter(|_| w.connected.is_none());
        let unheard = w.subscription.as_ref().filter(|_| w.phase == Phase::Pushed && w.connected.is_none());
        let state = match (w.connected, down, &w.spec.mode) {
            _ if let Some(s) = unheard => WatchState::Unheard { since: s.at },
            (Some(_), _, WatchMode::Streaming { .. } | WatchMode::Push { .. }) => WatchState::Connected,
            (Some(_), _, WatchMode::Pull { .. }) => WatchState::Pulling,
            (None, None, _) => WatchState::Starting,
            (None, Some(_), _) => {
                let retry_at = match w.phase {
                    Phase::Due(_) => self.timers.get(Timer::Watch(id)),
                    Phase::Grouped(group) => self.timers.get(Timer::Group(group)),
                    Phase::Lobby => w.seat.and_then(|seat| self.timers.get(Timer::Lobby(seat))),
                    Phase::Calling(..) | Phase::Pushed => None,
                };
                WatchState::Reconnecting { since: w.certain, retry_at }
            }
        };
        let behind = |f: &Folder| !f.denied && (f.dirty || f.again || f.baseline.is_some());
        WatchStatus {
            watch: id,
            mailbox: w.spec.mailbox.clone(),
            state,
            held: w.hold.len(),
            down,
            catching_up: w.left_there
                || w.folders_known.values().any(|f| behind(f))
                || w.tree.as_ref().is_some_and(|tree| tree.is_behind()),
            certain: w.has_worked.then(|| self.certain(id)),
            backlog: self.waiting(id) + unacked,
            unacked,
            blocked: w.is_blocked(),
            later,
            parked,
            acting: self.actions.len(id),
        }
    }

    /// Remembers how a watch stood that is about to be given up: a host that asks finds it, and why.
    pub(super) fn note_given_up(&mut self, id: u64, reason: Reason) {
        let Some(w) = self.watches.get(&id).filter(|_| reason != Reason::ClosedByHost) else { return };
        let counts = self.count_opens().remove(&id).unwrap_or_default();
        let mut status = self.watch_status(id, w, counts);
        (status.state, status.down, status.blocked) = (WatchState::GivenUp, Some(reason), false);
        self.given_up.insert(w.spec.name.clone(), status);
    }
}
