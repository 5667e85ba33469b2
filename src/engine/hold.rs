//! What is held back of a watch until its content is there: events go out in their order, and the stream never waits.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::Engine;
use super::doubts::Doubt;
use super::fetch::{FetchId, only};
use super::folder::{Digest, Marks};
use crate::event::{Content, Detail, Fill, ItemContent, Origin};
use crate::proto::Id;
use crate::{Event, EventKind, Fetch, Reason};

/// What is kept back of a watch.
#[derive(Debug)]
pub(super) enum Held {
    /// Stands behind something that waits.
    Ready(Event),
    /// Waits for its content.
    Waits(Event, FetchId),
    /// Stands for events that did not fit.
    Overflow {
        /// The time of the earliest dropped one.
        since: SystemTime,
        /// The time of the latest.
        until: SystemTime,
    },
}

impl Engine {
    /// Hands a mailbox event out, behind what is held back; with its content, if that was asked for.
    pub(super) fn hand_out(&mut self, watch: u64, event: Event) {
        self.counters.events += 1;
        let ours = self.not_ours(watch, event).and_then(|event| self.merged(watch, event));
        let Some(mut event) = ours else { return };
        if self.overflows(watch, &event) {
            return;
        }
        // What is dropped, with a gap in its place, will never be acknowledged.
        if event.origin != Some(Origin::CatchUp) && !self.delivery.fits(&event) {
            return self.push(event);
        }
        self.open_event(&mut event);
        if !self.begin_window(watch, &event) {
            let bounded = event.origin != Some(Origin::CatchUp);
            self.hand_out_as(watch, event, bounded);
        }
    }

    /// Whether there is no room for an event, so that sync has to tell it later.
    fn overflows(&mut self, watch: u64, event: &Event) -> bool {
        if event.origin == Some(Origin::CatchUp) {
            return false;
        }
        let Some(w) = self.watches.get_mut(&watch) else { return true };
        let full = w.hold.len() >= self.settings.pending_events.max(1) || !self.delivery.fits(event);
        let folder = event.parent_folder_id.as_ref().and_then(|f| w.folders_known.get_mut(f));
        let (Some(folder), Some(item)) = (folder.filter(|f| full && !f.denied), &event.item_id) else {
            return false;
        };
        if let Some((told, _)) = Marks::of(event.kind) {
            folder.told.unmark(Digest::of(item), told);
        }
        // Sync may have gone past it already.
        use EventKind::{Copied, Created, Deleted, Modified, Moved, NewMail};
        let kind = match event.kind {
            Moved | Copied if w.spec.events.contains(&NewMail) => Some(NewMail),
            Moved | Copied => Some(Created),
            NewMail | Created | Modified | Deleted => Some(event.kind),
            _ => None,
        };
        if let Some(kind) = kind {
            let id = Id { id: item.clone(), change_key: event.change_key.clone() };
            folder.doubt(Doubt::new(id, kind, event.is_read, self.now.wall));
        }
        // The server may have told it long after it happened.
        let since = self.certain(watch).min(event.time);
        let fill = self.fill_gap(watch);
        let message = "the host did not take events in time; catch-up will tell them when it has";
        self.tell_gap_since(watch, since, Reason::QueueOverflow, Some(message.into()), fill);
        true
    }

    /// The same for an event that was found before. `bounded`: it is dropped, with a gap, where too many wait.
    pub(super) fn hand_out_as(&mut self, watch: u64, event: Event, bounded: bool) {
        let bound = self.settings.pending_events.max(1);
        let Some(w) = self.watches.get_mut(&watch) else { return };
        let wants = w.spec.fetch != Fetch::None && has_content(event.kind) && event.item_id.is_some();
        if w.hold.is_empty() && !wants {
            return self.push(event);
        }
        let overflow = w.hold.iter_mut().rev().find_map(|h| match h {
            Held::Overflow { since, until } => Some((since, until)),
            _ => None,
        });
        if let Some((since, until)) = overflow.filter(|_| bounded) {
            *since = (*since).min(event.time);
            *until = (*until).max(event.time);
            self.opens.by_ticket.remove(&event.ticket);
            return;
        }
        if w.hold.len() >= bound && bounded {
            w.hold.push_back(Held::Overflow { since: event.time, until: event.time });
            self.opens.by_ticket.remove(&event.ticket);
            return;
        }
        if !wants {
            w.hold.push_back(Held::Ready(event));
            return;
        }
        let known = w.hold.iter().rev().find_map(|h| match h {
            Held::Waits(e, fetch) if e.item_id == event.item_id => Some(*fetch),
            _ => None,
        });
        // One fetch serves events of the same burst; a change after it was asked for needs another.
        let shared =
            known.filter(|f| self.items.get(f).is_some_and(|i| !i.sent || event.kind != EventKind::Modified));
        if let Some(fetch) = shared {
            w.hold.push_back(Held::Waits(event, fetch));
            return;
        }
        let id = Id { id: event.item_id.clone().unwrap_or_default(), change_key: event.change_key.clone() };
        let fetch = self.want(watch, id);
        if let Some(w) = self.watches.get_mut(&watch) {
            w.hold.push_back(Held::Waits(event, fetch));
        }
    }

    /// Gives up what waits for content of a watch that ends: its events are handed out without.
    pub(super) fn flush_unfetched(&mut self, watch: u64) {
        let Some(w) = self.watches.get(&watch) else { return };
        let waiting: BTreeSet<FetchId> = w
            .hold
            .iter()
            .filter_map(|h| match h {
                Held::Waits(_, fetch) => Some(*fetch),
                _ => None,
            })
            .collect();
        for fetch in waiting {
            self.fill(watch, fetch, &only(Content::Unavailable), Some("the watch has ended".to_owned()));
        }
        self.flush(watch);
    }

    pub(super) fn fill(
        &mut self,
        watch: u64,
        fetch: FetchId,
        content: &ItemContent,
        message: Option<String>,
    ) {
        let Some(w) = self.watches.get_mut(&watch) else { return };
        for held in &mut w.hold {
            if !matches!(held, Held::Waits(_, f) if *f == fetch) {
                continue;
            }
            let empty = Held::Overflow { since: SystemTime::UNIX_EPOCH, until: SystemTime::UNIX_EPOCH };
            if let Held::Waits(mut event, _) = std::mem::replace(held, empty) {
                event.item = Some(Box::new(content.clone()));
                // The content says it, newer.
                event.is_read = None;
                if message.is_some() {
                    event.detail = Some(Box::new(Detail { message: message.clone(), ..Detail::default() }));
                }
                *held = Held::Ready(event);
            }
        }
    }

    /// Tells what waits for nothing any more.
    pub(super) fn flush(&mut self, watch: u64) {
        while let Some(event) = self.next_ready(watch) {
            self.push(event);
        }
    }

    fn next_ready(&mut self, watch: u64) -> Option<Event> {
        let w = self.watches.get_mut(&watch)?;
        match w.hold.pop_front()? {
            Held::Ready(event) => Some(event),
            Held::Overflow { since, until } => {
                self.counters.gaps += 1;
                let mut gap = Event::new(EventKind::Gap, watch, w.spec.mailbox.clone(), until);
                gap.detail = Some(Box::new(Detail {
                    reason: Some(Reason::QueueOverflow),
                    since: Some(since),
                    fill: Some(Fill::None),
                    message: Some("more events waited for content than pending_events allows".into()),
                    ..Detail::default()
                }));
                Some(gap)
            }
            waits @ Held::Waits(..) => {
                w.hold.push_front(waits);
                None
            }
        }
    }
}

impl Held {
    /// The event in it.
    pub fn event(&mut self) -> Option<&mut Event> {
        match self {
            Held::Ready(event) | Held::Waits(event, _) => Some(event),
            Held::Overflow { .. } => None,
        }
    }
}

/// Kinds whose item can be read.
fn has_content(kind: EventKind) -> bool {
    use EventKind::{Copied, Created, Modified, Moved, NewMail};
    matches!(kind, NewMail | Created | Modified | Moved | Copied)
}
