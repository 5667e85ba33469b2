//! `coalesce`: what happens to an item within a window is told as one event, of the strongest kind.
//!
//! What waits here has its ticket already, so a checkpoint covers it as it does every event that is not acknowledged, and the
//! acknowledgement of the one that is told settles all that it stands for. A window ends early where catch-up wants room, where
//! too many wait, when catch-up is through, and before anything else is told of its item.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Engine;
use super::acks::Ticket;
use super::timers::Timer;
use crate::{Event, EventKind};

/// The windows that are open.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// By their end, with the watch.
    ends: BTreeSet<(Duration, Ticket, u64)>,
    watches: BTreeMap<u64, OfWatch>,
}

#[derive(Debug, Default)]
struct OfWatch {
    by_item: HashMap<String, Ticket>,
    /// In the order in which they were opened, which is that of their ends.
    by_ticket: BTreeMap<Ticket, (Duration, String)>,
}

impl Engine {
    /// Puts an event into the window of its item, if one is open: `None`. Else it is told on its own, behind what waits of its
    /// item.
    pub(super) fn merged(&mut self, watch: u64, event: Event) -> Option<Event> {
        let Some(ticket) = self.windows.find(watch, event.item_id.as_deref()) else {
            return Some(event);
        };
        let (Some(rank), Some(open)) = (rank(event.kind), self.opens.by_ticket.get_mut(&ticket)) else {
            self.end_window(watch, ticket);
            return Some(event);
        };
        let told = &mut open.event;
        if Some(rank) > self::rank(told.kind) {
            (told.kind, told.time, told.origin) = (event.kind, event.time, event.origin);
        }
        told.change_key = event.change_key.or(told.change_key.take());
        told.is_read = event.is_read.or(told.is_read);
        if open.recorded {
            self.store_open(ticket);
        }
        None
    }

    /// Has an event wait for what else happens to its item; false for one that does not wait.
    pub(super) fn begin_window(&mut self, watch: u64, event: &Event) -> bool {
        let window = self.watches.get(&watch).map_or(Duration::ZERO, |w| w.spec.coalesce);
        let (false, Some(_), Some(item)) = (window.is_zero(), rank(event.kind), &event.item_id) else {
            return false;
        };
        self.windows.insert(watch, item, self.now.mono + window, event.ticket);
        if self.windows.len(watch) > self.settings.pending_events.max(1)
            && let Some(oldest) = self.windows.first(watch)
        {
            self.end_window(watch, oldest);
        }
        self.set_window_timer();
        true
    }

    /// Tells what has waited long enough.
    pub(super) fn windows_due(&mut self) {
        while let Some((end, ticket, watch)) = self.windows.ends.first().copied()
            && end <= self.now.mono
        {
            self.end_window(watch, ticket);
        }
        self.set_window_timer();
    }

    /// Tells all of a watch that waits.
    pub(super) fn end_windows(&mut self, watch: u64) {
        while let Some(ticket) = self.windows.first(watch) {
            self.end_window(watch, ticket);
        }
    }

    /// Leaves what waits of a watch to the next run, which tells it at once.
    pub(super) fn leave_windows(&mut self, watch: u64) {
        while let Some(ticket) = self.windows.first(watch) {
            self.windows.remove(watch, ticket);
            if let Some(open) = self.opens.by_ticket.get_mut(&ticket) {
                open.recorded = true;
                self.store_open(ticket);
            }
        }
    }

    fn end_window(&mut self, watch: u64, ticket: Ticket) {
        self.windows.remove(watch, ticket);
        if let Some(open) = self.opens.by_ticket.get(&ticket) {
            let event = open.event.clone();
            self.hand_out_as(watch, event, false);
        }
    }

    fn set_window_timer(&mut self) {
        match self.windows.ends.first() {
            Some((end, ..)) => self.timers.set(Timer::Window, *end),
            None => self.timers.clear(Timer::Window),
        }
    }
}

impl Windows {
    /// How many of a watch are open.
    pub fn len(&self, watch: u64) -> usize {
        self.watches.get(&watch).map_or(0, |w| w.by_ticket.len())
    }

    /// An item has moved.
    pub fn renamed(&mut self, watch: u64, old: &str, new: &str) {
        let Some(w) = self.watches.get_mut(&watch).filter(|w| !w.by_item.contains_key(new)) else { return };
        if let Some(ticket) = w.by_item.remove(old) {
            w.by_item.insert(new.to_owned(), ticket);
            if let Some((_, item)) = w.by_ticket.get_mut(&ticket) {
                new.clone_into(item);
            }
        }
    }

    fn find(&self, watch: u64, item: Option<&str>) -> Option<Ticket> {
        self.watches.get(&watch)?.by_item.get(item?).copied()
    }

    fn first(&self, watch: u64) -> Option<Ticket> {
        self.watches.get(&watch)?.by_ticket.keys().next().copied()
    }

    fn insert(&mut self, watch: u64, item: &str, end: Duration, ticket: Ticket) {
        self.ends.insert((end, ticket, watch));
        let w = self.watches.entry(watch).or_default();
        w.by_item.insert(item.to_owned(), ticket);
        w.by_ticket.insert(ticket, (end, item.to_owned()));
    }

    fn remove(&mut self, watch: u64, ticket: Ticket) {
        let Some(w) = self.watches.get_mut(&watch) else { return };
        if let Some((end, item)) = w.by_ticket.remove(&ticket) {
            self.ends.remove(&(end, ticket, watch));
            w.by_item.remove(&item);
        }
        if w.by_ticket.is_empty() {
            self.watches.remove(&watch);
        }
    }
}

/// How much an event says; `None` for what is always told.
fn rank(kind: EventKind) -> Option<u8> {
    match kind {
        EventKind::NewMail => Some(3),
        EventKind::Created => Some(2),
        EventKind::Modified => Some(1),
        _ => None,
    }
}
