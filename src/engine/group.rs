//! Groups: a stream for up to `subscriptions_per_connection` subscriptions that live on one machine, and which watch goes where.
//!
//! A subscription lives on the machine that made it, and a stream reads those of one machine. So a watch has its seat in a group
//! before it subscribes: the group's first Subscribe (its scout's) finds a machine, and the others are sent there too, by the
//! same anchor mailbox and the cookies that came back (Exchange documentation, "How to: Maintain affinity between a group of
//! subscriptions and the Mailbox server").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use super::timers::Timer;
use super::watch::Phase;
use super::{Command, ConnId, Engine};
use crate::cookies::Cookies;
use crate::event::Detail;
use crate::{Error, EventKind, Reason};

/// Names a group.
pub(super) type GroupId = u64;

/// A server is trusted to queue events for so long between two streams.
pub(super) const QUEUE_TRUSTED: Duration = Duration::from_secs(60);
/// How long a watch that is ready waits for the next one that is not yet.
const LOBBY: Duration = Duration::from_secs(2);
/// How long it waits for all of them.
const GATHERING: Duration = Duration::from_secs(30);
/// For so long a server's refusal of one more stream is taken for its limit.
pub(super) const LEARNED: Duration = Duration::from_secs(3600);

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
    /// What its mailboxes have in common; empty where nobody said.
    pub affinity: Arc<str>,
    /// Those that have a seat and are not subscribed.
    pub joining: BTreeSet<u64>,
    /// Of those, the ones that are about to be.
    pub preparing: BTreeSet<u64>,
    /// Those that are subscribed and wait for the others.
    pub lobby: BTreeSet<u64>,
    /// Since when somebody waits there.
    pub gathering: Duration,
    /// Those of the stream, or of the next one.
    pub members: BTreeSet<u64>,
    /// Whose mailbox tells the way: it need not be a member.
    pub anchor: Option<(u64, Arc<str>)>,
    pub cookies: Arc<Cookies>,
    /// Whether a Subscribe has found the machine, and whose is about to.
    pub routed: bool,
    pub scout: Option<u64>,
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
    /// The server has refused some of its subscriptions, and is about to end it.
    pub refused: bool,
    /// Wall time of the stream's last readable message.
    pub heard: Option<SystemTime>,
    /// The same, monotonic.
    pub heard_mono: Option<Duration>,
}

/// The most streams that a server has allowed, and when it said so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learned {
    pub most: usize,
    pub at: Duration,
}

impl Group {
    pub fn new(endpoint: u32, affinity: Arc<str>) -> Group {
        Group {
            endpoint,
            affinity,
            joining: BTreeSet::new(),
            preparing: BTreeSet::new(),
            lobby: BTreeSet::new(),
            gathering: Duration::ZERO,
            members: BTreeSet::new(),
            anchor: None,
            cookies: Arc::default(),
            routed: false,
            scout: None,
            ids: BTreeMap::new(),
            link: Link::Waiting,
            backoff: Backoff::default(),
            opened: Duration::ZERO,
            head: None,
            any_message: false,
            good: false,
            closed_told: false,
            refused: false,
            heard: None,
            heard_mono: None,
        }
    }

    pub fn seats(&self) -> usize {
        self.joining.len() + self.lobby.len() + self.members.len()
    }

    pub fn is_hanging(&self) -> bool {
        matches!(self.link, Link::Hanging(_))
    }

    /// Who speaks for the stream: the anchor, if it is on it.
    pub fn speaker(&self) -> Option<u64> {
        let anchor = self.anchor.as_ref().map(|(id, _)| *id);
        anchor.filter(|id| self.members.contains(id)).or_else(|| self.members.first().copied())
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

/// Who goes onto the stream, and when.
impl Engine {
    /// A watch is subscribed and needs its stream.
    pub(super) fn enter_lobby(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.phase = Phase::Lobby;
        let Some(seat) = w.seat else { return };
        let Some(g) = self.groups.get_mut(&seat) else { return };
        g.joining.remove(&id);
        g.preparing.remove(&id);
        if g.lobby.is_empty() {
            g.gathering = now;
        }
        g.lobby.insert(id);
        self.timers.set(Timer::Lobby(seat), (now + LOBBY).min(g.gathering + GATHERING));
        self.settle_lobby(seat);
    }

    /// The watch is no longer one that others wait for.
    pub(super) fn not_preparing(&mut self, id: u64) {
        self.not_locating(id);
        let Some(seat) = self.watches.get(&id).and_then(|w| w.seat) else { return };
        if self.groups.get_mut(&seat).is_some_and(|g| g.preparing.remove(&id)) {
            self.settle_lobby(seat);
        }
    }

    /// Its server is found and it has its seat, or it is not found for now.
    pub(super) fn not_locating(&mut self, id: u64) {
        if self.locating.remove(&id) && self.locating.is_empty() {
            self.groups
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|group| self.settle_lobby(group));
        }
    }

    /// Sends the waiting watches off if nobody else is about to be ready.
    fn settle_lobby(&mut self, group: GroupId) {
        let most = self.per_stream();
        let Some(g) = self.groups.get(&group) else { return };
        if g.lobby.is_empty() {
            return self.timers.clear(Timer::Lobby(group));
        }
        if (g.preparing.is_empty() && self.locating.is_empty()) || g.lobby.len() >= most {
            self.leave_lobby(group);
        }
    }

    /// Puts the waiting watches on the stream. Where it is open already they get one of their own, or, if no more may stand, it is
    /// opened anew.
    pub(super) fn leave_lobby(&mut self, group: GroupId) {
        self.timers.clear(Timer::Lobby(group));
        let group = self.spare(group).unwrap_or(group);
        let Some(g) = self.groups.get_mut(&group) else { return };
        let waiting = std::mem::take(&mut g.lobby);
        if waiting.is_empty() {
            return;
        }
        match g.link {
            Link::Hanging(_) => {
                let detail = Detail {
                    reason: Some(Reason::Regrouped),
                    retry_ms: Some(0),
                    message: Some("the stream is opened anew, with further mailboxes on it".into()),
                    ..Detail::default()
                };
                self.abort_group(group, Reason::Regrouped, detail, Duration::ZERO);
            }
            Link::Waiting if self.timers.get(Timer::Group(group)).is_none() => {
                self.timers.set(Timer::Group(group), self.now.mono);
            }
            _ => {}
        }
        for id in &waiting {
            if let Some(w) = self.watches.get_mut(id) {
                w.phase = Phase::Grouped(group);
            }
        }
        if let Some(g) = self.groups.get_mut(&group) {
            g.members.extend(waiting);
        }
    }

    /// A group on the same machine for those that come later. There is one more than are needed at the most; when both are between
    /// streams, they become one.
    fn spare(&mut self, group: GroupId) -> Option<GroupId> {
        let most = self.per_stream();
        let g = self.groups.get(&group).filter(|g| g.is_hanging() && g.routed)?;
        let endpoint = g.endpoint;
        let first = g.lobby.first().and_then(|id| Some((*id, self.watches.get(id)?)))?;
        let (anchor, own_budget) = ((first.0, first.1.spec.mailbox.clone()), first.1.spec.own_budget);
        let kin: Vec<&Group> = self.groups.values().filter(|other| same_machine(g, other)).collect();
        let seats: usize = kin.iter().map(|g| g.seats()).sum();
        if kin.len() > seats.div_ceil(most) || !self.may_stand(endpoint, own_budget) {
            return None;
        }
        let g = self.groups.get_mut(&group)?;
        let mut spare = Group::new(endpoint, g.affinity.clone());
        spare.lobby = std::mem::take(&mut g.lobby);
        spare.routed = true;
        (spare.cookies, spare.anchor) = (g.cookies.clone(), Some(anchor));
        let moved = spare.lobby.clone();
        let spare = self.add_group(spare);
        for id in moved {
            if let Some(w) = self.watches.get_mut(&id) {
                w.seat = Some(spare);
            }
        }
        Some(spare)
    }

    /// Gives a watch's seat back. Its stream goes on if others are on it.
    pub(super) fn leave_group(&mut self, id: u64) {
        self.not_locating(id);
        self.scouted(id, false);
        let Some(w) = self.watches.get_mut(&id) else { return };
        let endpoint = w.spec.endpoint;
        let seat = w.seat.take();
        self.endpoint(endpoint).seatless.remove(&id);
        let Some(group) = seat else { return };
        let Some(g) = self.groups.get_mut(&group) else { return };
        for place in [&mut g.joining, &mut g.preparing, &mut g.lobby, &mut g.members] {
            place.remove(&id);
        }
        g.ids.retain(|_, member| *member != id);
        let streams = g.members.len() + g.lobby.len() > 0;
        match (g.seats(), streams, g.link) {
            (0, ..) => self.drop_group(group),
            // Only those that are not subscribed are left.
            (_, false, Link::Hanging(conn)) => {
                g.link = Link::Aborted(conn, self.now.mono);
                self.timers.clear(Timer::Group(group));
                self.out.push_back(Command::Abort(conn));
            }
            _ => self.settle_lobby(group),
        }
        self.seats_free(endpoint);
    }

    fn drop_group(&mut self, group: GroupId) {
        self.timers.clear(Timer::Group(group));
        self.timers.clear(Timer::Lobby(group));
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

    /// Whether a group's stream must wait until one that nobody wants any more is over.
    pub(super) fn waits_for_orphans(&mut self, group: GroupId) -> bool {
        let Some(g) = self.groups.get(&group) else { return false };
        let endpoint = g.endpoint;
        let own_budget = g.speaker().and_then(|id| self.watches.get(&id)).is_some_and(|w| w.spec.own_budget);
        let orphans = self.endpoint(endpoint).orphans;
        let of_endpoint = self.groups.values().filter(|g| g.endpoint == endpoint && g.link != Link::Waiting);
        !own_budget && orphans > 0 && of_endpoint.count() + orphans >= self.settings.connections.max(1)
    }

    /// A stream that nobody wanted any more is over.
    pub(super) fn orphan_ended(&mut self, endpoint: u32) {
        let e = self.endpoint(endpoint);
        e.orphans = e.orphans.saturating_sub(1);
        let waiting = self.groups.iter().filter(|(_, g)| g.endpoint == endpoint && g.link == Link::Waiting);
        for group in waiting.filter(|(_, g)| !g.members.is_empty()).map(|(id, _)| *id).collect::<Vec<_>>() {
            if self.timers.get(Timer::Group(group)).is_none() {
                self.timers.set(Timer::Group(group), self.now.mono);
            }
        }
        self.seats_free(endpoint);
    }

    /// Takes the members of other groups in that are between streams too, where they live on the same machine.
    pub(super) fn absorb_waiting(&mut self, group: GroupId) {
        let most = self.per_stream();
        let Some(g) = self.groups.get(&group) else { return };
        let mut seats = g.seats();
        let mut others = Vec::new();
        for (id, other) in &self.groups {
            let settled = other.link == Link::Waiting && other.joining.is_empty() && other.lobby.is_empty();
            if *id != group && settled && same_machine(g, other) && seats + other.seats() <= most {
                seats += other.seats();
                others.push(*id);
            }
        }
        for other in others {
            self.timers.clear(Timer::Group(other));
            self.timers.clear(Timer::Lobby(other));
            let Some(other) = self.groups.remove(&other) else { continue };
            self.move_members(other.members, group);
            self.seats_free(other.endpoint);
        }
    }

    fn move_members(&mut self, members: BTreeSet<u64>, to: GroupId) {
        for id in &members {
            if let Some(w) = self.watches.get_mut(id) {
                w.phase = Phase::Grouped(to);
                w.seat = Some(to);
            }
        }
        if let Some(g) = self.groups.get_mut(&to) {
            g.members.extend(members);
        }
    }

    /// The server refuses one more stream: its limit is what stands. Where the account is charged, others take the group's members
    /// in; where a mailbox is, another one's is tried.
    pub(super) fn too_many_streams(&mut self, group: GroupId, error: &Error) {
        let now = self.now.mono;
        let most = self.per_stream();
        let Some(g) = self.groups.get_mut(&group) else { return };
        let endpoint = g.endpoint;
        let speaker = g.speaker();
        if speaker.and_then(|id| self.watches.get(&id)).is_some_and(|w| w.spec.own_budget) {
            let after = |id: u64| g.members.range(id + 1..).next().or(g.members.first()).copied();
            let next = speaker.and_then(after).and_then(|id| Some((id, self.watches.get(&id)?)));
            g.anchor = next.map(|(id, w)| (id, w.spec.mailbox.clone())).or(g.anchor.take());
            return;
        }
        let standing = self.groups.values().filter(|g| g.endpoint == endpoint && g.is_hanging() && g.good);
        let standing = standing.count();
        if standing == 0 {
            // Somebody else has them all.
            return;
        }
        let e = self.endpoint(endpoint);
        e.learned = Some(Learned { most: standing, at: now });
        let Some(g) = self.groups.get(&group) else { return };
        let homes = self
            .groups
            .iter()
            .filter(|(id, other)| **id != group && other.is_hanging() && same_machine(g, other));
        let homes: Vec<(GroupId, usize)> = homes
            .map(|(id, other)| (*id, most.saturating_sub(other.seats())))
            .filter(|(_, room)| *room > 0)
            .collect();
        let message = format!(
            "{error}: the server allows {standing} streams at a time; the mailboxes of this one go onto the others, as far as there is \
             room"
        );
        if let Some(id) = speaker {
            self.tell(
                id,
                EventKind::Error,
                Detail { message: Some(message), ..super::tell::detail(error, None) },
            );
        }
        for (home, room) in homes {
            let Some(g) = self.groups.get_mut(&group) else { return };
            let mut leaving = std::mem::take(&mut g.members);
            let last = leaving.iter().nth(room).copied();
            if let Some(last) = last {
                g.members = leaving.split_off(&last);
            }
            for id in &leaving {
                if let Some(w) = self.watches.get_mut(id) {
                    w.phase = Phase::Lobby;
                    w.seat = Some(home);
                }
            }
            if let Some(g) = self.groups.get_mut(&home) {
                g.lobby.extend(leaving);
            }
            self.leave_lobby(home);
        }
        if self.groups.get(&group).is_some_and(|g| g.seats() == 0) {
            self.drop_group(group);
            self.seats_free(endpoint);
        }
    }

    pub(super) fn per_stream(&self) -> usize {
        self.settings.subscriptions_per_connection.clamp(1, 200)
    }

    pub(super) fn members(&self, group: GroupId) -> Vec<u64> {
        self.groups.get(&group).map(|g| g.members.iter().copied().collect()).unwrap_or_default()
    }
}

/// Whether subscriptions of one can be read on a stream of the other.
fn same_machine(one: &Group, other: &Group) -> bool {
    one.endpoint == other.endpoint
        && one.affinity == other.affinity
        && one.routed
        && other.routed
        && one.cookies.same_machine(&other.cookies)
}
