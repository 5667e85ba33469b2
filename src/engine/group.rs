//! Groups: a stream for up to `subscriptions_per_connection` subscriptions of one endpoint, and which watch goes where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use super::mailbox::Phase;
use super::timers::Timer;
use super::{Command, ConnId, Engine};
use crate::event::Detail;
use crate::{EventKind, Reason};

/// Names a group.
pub(super) type GroupId = u64;

/// A server is trusted to queue events for so long between two streams.
pub(super) const QUEUE_TRUSTED: Duration = Duration::from_secs(60);
/// How long a watch that is ready waits for others that are not.
const LOBBY: Duration = Duration::from_secs(2);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Between streams: the timer opens the next one.
    Waiting,
    /// A stream was commanded and has not ended.
    Hanging(ConnId),
    /// Its end was commanded; the next one opens after it, not before this time.
    Aborted(ConnId, Duration),
}

#[derive(Debug)]
pub(super) struct Group {
    pub endpoint: u32,
    pub members: BTreeSet<u64>,
    /// The subscriptions on the stream.
    pub ids: BTreeMap<String, u64>,
    pub link: Link,
    pub backoff: Backoff,
    /// When the stream was commanded, and when its head came.
    pub opened: Duration,
    pub head: Option<Duration>,
    /// Whether a response message came on the stream; whether a good one did; whether `Closed` was told.
    pub any_message: bool,
    pub good: bool,
    pub closed_told: bool,
    /// Wall time of the stream's last readable message.
    pub heard: Option<SystemTime>,
    /// The same, monotonic.
    pub heard_mono: Option<Duration>,
}

impl Group {
    fn new(endpoint: u32) -> Group {
        Group {
            endpoint,
            members: BTreeSet::new(),
            ids: BTreeMap::new(),
            link: Link::Waiting,
            backoff: Backoff::default(),
            opened: Duration::ZERO,
            head: None,
            any_message: false,
            good: false,
            closed_told: false,
            heard: None,
            heard_mono: None,
        }
    }

    /// A stream that worked for so long was no failed attempt.
    pub fn forgive(&mut self, now: Duration, least: Duration) {
        if self.good && now.saturating_sub(self.opened) >= least {
            self.backoff.reset();
        }
    }

    pub fn attempts(&self) -> u32 {
        self.backoff.failures()
    }
}

/// Which watches go on which stream.
impl Engine {
    /// A watch is subscribed and needs a stream.
    pub(super) fn enter_lobby(&mut self, id: u64, endpoint: u32) {
        let by = self.now.mono + LOBBY;
        if let Some(w) = self.watches.get_mut(&id) {
            w.phase = Phase::Lobby;
        }
        self.endpoint(endpoint).lobby.insert(id);
        if self.timers.get(Timer::Lobby(endpoint)).is_none() {
            self.timers.set(Timer::Lobby(endpoint), by);
        }
        self.settle_lobby(endpoint);
    }

    /// Sends the waiting watches off if nobody else is about to be ready.
    pub(super) fn settle_lobby(&mut self, endpoint: u32) {
        let most = self.per_stream();
        let e = self.endpoint(endpoint);
        if e.lobby.is_empty() {
            return self.timers.clear(Timer::Lobby(endpoint));
        }
        if e.preparing.is_empty() || e.lobby.len() >= most {
            self.leave_lobby(endpoint);
        }
    }

    /// Finds a stream for each waiting watch: one that is not open now, a new one, or the smallest, which is opened anew.
    pub(super) fn leave_lobby(&mut self, endpoint: u32) {
        self.timers.clear(Timer::Lobby(endpoint));
        let most = self.per_stream();
        let mut waiting = std::mem::take(&mut self.endpoint(endpoint).lobby);
        let groups = |engine: &Engine, hanging: bool| -> Vec<(usize, GroupId)> {
            let of = engine.groups.iter().filter(|(_, g)| {
                g.endpoint == endpoint
                    && g.members.len() < most
                    && matches!(g.link, Link::Hanging(_)) == hanging
            });
            of.map(|(id, g)| (g.members.len(), *id)).collect()
        };
        for (_, group) in groups(self, false) {
            self.join(group, &mut waiting);
        }
        while !waiting.is_empty() && self.streams_of(endpoint) < self.settings.connections.max(1) {
            self.next_group += 1;
            let group = self.next_group;
            self.groups.insert(group, Group::new(endpoint));
            self.timers.set(Timer::Group(group), self.now.mono);
            self.join(group, &mut waiting);
        }
        while !waiting.is_empty() {
            let Some((_, group)) = groups(self, true).into_iter().min() else { break };
            let detail = Detail {
                reason: Some(Reason::Regrouped),
                retry_ms: Some(0),
                message: Some("the stream is opened anew, with further mailboxes on it".into()),
                ..Detail::default()
            };
            self.abort_group(group, Reason::Regrouped, detail, Duration::ZERO);
            self.join(group, &mut waiting);
        }
        let orphans = self.endpoint(endpoint).orphans;
        for id in &waiting {
            let Some(w) = self.watches.get_mut(id) else { continue };
            // A stream that is about to end makes room.
            if orphans == 0 && !std::mem::replace(&mut w.told_full, true) {
                let message = format!(
                    "there is no stream left for this watch: {} connections of {} subscriptions are full; raise the limits or use another client",
                    self.settings.connections, most
                );
                self.tell(*id, EventKind::Error, Detail { message: Some(message), ..Detail::default() });
            }
        }
        self.endpoint(endpoint).lobby = waiting;
    }

    fn join(&mut self, group: GroupId, waiting: &mut BTreeSet<u64>) {
        let most = self.per_stream();
        let Some(g) = self.groups.get_mut(&group) else { return };
        while g.members.len() < most {
            let Some(id) = waiting.pop_first() else { return };
            g.members.insert(id);
            if let Some(w) = self.watches.get_mut(&id) {
                w.phase = Phase::Grouped(group);
                w.told_full = false;
            }
        }
    }

    /// Takes a watch off its stream, which goes on if others are on it, or out of those that wait for one.
    pub(super) fn leave_group(&mut self, id: u64) {
        if let Some(endpoint) = self.watches.get(&id).map(|w| w.spec.endpoint) {
            self.endpoint(endpoint).lobby.remove(&id);
        }
        let Some(group) = self.watches.get(&id).and_then(|w| w.group()) else { return };
        let Some(g) = self.groups.get_mut(&group) else { return };
        g.members.remove(&id);
        g.ids.retain(|_, member| *member != id);
        let (empty, endpoint) = (g.members.is_empty(), g.endpoint);
        if empty {
            self.drop_group(group);
        }
        if !self.endpoint(endpoint).lobby.is_empty() {
            self.settle_lobby(endpoint);
        }
    }

    fn drop_group(&mut self, group: GroupId) {
        self.timers.clear(Timer::Group(group));
        let Some(g) = self.groups.remove(&group) else { return };
        if let Link::Hanging(conn) = g.link {
            self.out.push_back(Command::Abort(conn));
        }
        if let Link::Hanging(conn) | Link::Aborted(conn, _) = g.link {
            if let Some(c) = self.conns.get_mut(&conn) {
                c.group = None;
            }
            self.endpoint(g.endpoint).orphans += 1;
        }
    }

    fn streams_of(&mut self, endpoint: u32) -> usize {
        let groups = self.groups.values().filter(|g| g.endpoint == endpoint).count();
        groups + self.endpoint(endpoint).orphans
    }

    pub(super) fn per_stream(&self) -> usize {
        self.settings.subscriptions_per_connection.clamp(1, 200)
    }

    pub(super) fn members(&self, group: GroupId) -> Vec<u64> {
        self.groups.get(&group).map(|g| g.members.iter().copied().collect()).unwrap_or_default()
    }
}
