//! Which watch has a seat in which group, and who finds the group's machine.

use super::group::{Group, GroupId, LEARNED, Learned};
use super::timers::Timer;
use super::watch::{Phase, Step};
use super::{Engine, Route};
use crate::EventKind;
use crate::event::Detail;

impl Engine {
    /// Sees to it that a watch has a seat; false if there is none: it waits for one.
    pub(super) fn take_seat(&mut self, id: u64) -> bool {
        let Some(w) = self.watches.get(&id) else { return false };
        let endpoint = w.spec.endpoint;
        let seat = match w.seat {
            Some(group) => group,
            None => {
                let Some(group) = self.find_seat(id) else {
                    self.wait_for_seat(id, endpoint);
                    return false;
                };
                group
            }
        };
        self.endpoint(endpoint).seatless.remove(&id);
        let Some(w) = self.watches.get_mut(&id) else { return false };
        w.seat = Some(seat);
        w.told_full = false;
        if let Some(g) = self.groups.get_mut(&seat) {
            g.joining.insert(id);
            g.preparing.insert(id);
        }
        true
    }

    /// The fullest group that is not open now, or the emptiest of those that are, or a new one.
    fn find_seat(&mut self, id: u64) -> Option<GroupId> {
        let most = self.per_stream();
        let w = self.watches.get(&id)?;
        let (endpoint, affinity, shunned) = (w.spec.endpoint, w.spec.affinity.clone(), w.shunned);
        let own_budget = w.spec.own_budget;
        let of_kind = |g: &Group| g.endpoint == endpoint && g.affinity == affinity;
        let (mut idle, mut hanging) = (None::<(usize, GroupId)>, None::<(usize, GroupId)>);
        for (group, g) in self.groups.iter().filter(|(_, g)| of_kind(g)) {
            let seats = g.seats();
            if seats >= most || shunned == Some(*group) {
                continue;
            }
            match g.is_hanging() {
                false => idle = idle.max(Some((seats, *group))),
                true => hanging = Some(hanging.map_or((seats, *group), |h| h.min((seats, *group)))),
            }
        }
        if let Some((_, group)) = idle.or(hanging) {
            return Some(group);
        }
        self.may_stand(endpoint, own_budget).then(|| self.add_group(Group::new(endpoint, affinity)))
    }

    pub(super) fn add_group(&mut self, group: Group) -> GroupId {
        self.next_group += 1;
        self.groups.insert(self.next_group, group);
        self.next_group
    }

    /// Whether the server may be asked for one more stream.
    pub(super) fn may_stand(&mut self, endpoint: u32, own_budget: bool) -> bool {
        let limit = match own_budget {
            true => usize::MAX,
            false => self.settings.connections.max(1),
        };
        let standing = self.groups.values().filter(|g| g.endpoint == endpoint).count();
        standing < limit.min(self.learned(endpoint).map_or(usize::MAX, |l| l.most))
    }

    /// What the server has said of its limit, for as long as that counts.
    fn learned(&mut self, endpoint: u32) -> Option<Learned> {
        let now = self.now.mono;
        self.endpoint(endpoint).learned.filter(|l| now.saturating_sub(l.at) < LEARNED)
    }

    fn wait_for_seat(&mut self, id: u64, endpoint: u32) {
        let most = self.per_stream();
        self.endpoint(endpoint).seatless.insert(id);
        let learned = self.learned(endpoint);
        let limit = learned.map_or(self.settings.connections, |l| l.most);
        if let Some(learned) = learned {
            self.timers.set(Timer::Watch(id), learned.at + LEARNED);
        }
        let Some(w) = self.watches.get_mut(&id) else { return };
        if !std::mem::replace(&mut w.told_full, true) {
            let message = format!(
                "there is no room for this watch: {limit} connections ({}) stand, and those that lead to where this mailbox lives have \
                 {most} subscriptions each, or there are none; it waits for one. Raise option connections as far as the server allows, \
                 use access=impersonate, or use another client",
                match learned {
                    Some(_) => "the server has refused more",
                    None => "option connections",
                }
            );
            self.tell(id, EventKind::Error, Detail { message: Some(message), ..Detail::default() });
        }
    }

    /// There may be room for those that wait for it.
    pub(super) fn seats_free(&mut self, endpoint: u32) {
        for id in std::mem::take(&mut self.endpoint(endpoint).seatless) {
            if let Some(Phase::Due(_)) = self.watches.get(&id).map(|w| w.phase) {
                self.timers.set(Timer::Watch(id), self.now.mono);
            }
        }
    }

    /// Whether a watch may subscribe now. If not, it waits for the one that finds the group's machine.
    pub(super) fn may_subscribe(&mut self, id: u64) -> bool {
        let Some(w) = self.watches.get(&id) else { return false };
        let mailbox = w.spec.mailbox.clone();
        let Some(g) = w.seat.and_then(|seat| self.groups.get_mut(&seat)) else { return true };
        if g.routed {
            return true;
        }
        if *g.scout.get_or_insert(id) != id {
            return false;
        }
        g.anchor = Some((id, mailbox));
        true
    }

    /// The scout's Subscribe came back, or never will.
    pub(super) fn scouted(&mut self, id: u64, found: bool) {
        let Some(seat) = self.watches.get(&id).and_then(|w| w.seat) else { return };
        let Some(g) = self.groups.get_mut(&seat) else { return };
        if g.scout.take_if(|scout| *scout == id).is_none() {
            return;
        }
        g.routed |= found;
        for other in g.joining.clone() {
            if other != id && self.watches.get(&other).is_some_and(|w| w.phase == Phase::Due(Step::Subscribe))
            {
                // Those in a back-off keep to it.
                let at = self.timers.get(Timer::Watch(other)).unwrap_or(self.now.mono);
                self.timers.set(Timer::Watch(other), at);
            }
        }
    }

    /// How the watch's subscription is reached.
    pub(super) fn route(&self, id: u64) -> Option<Route> {
        let w = self.watches.get(&id)?;
        let Some(g) = w.seat.and_then(|seat| self.groups.get(&seat)) else {
            return Some(Route { anchor: w.spec.mailbox.clone(), cookies: w.cookies.clone() });
        };
        let (_, anchor) = g.anchor.clone()?;
        Some(Route { anchor, cookies: g.cookies.clone() })
    }

    pub(super) fn group_route(&self, group: GroupId) -> Option<Route> {
        let g = self.groups.get(&group)?;
        let (_, anchor) = g.anchor.clone()?;
        Some(Route { anchor, cookies: g.cookies.clone() })
    }
}
