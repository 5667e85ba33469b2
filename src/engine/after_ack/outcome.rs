//! What came of it: done, refused, or tried again; and what the stream says of what we did ourselves.

use std::time::Duration;

use super::super::acks::Ticket;
use super::super::folder::{Digest, Marks};
use super::super::hold::Held;
use super::super::legacy_ids::{Asked, LEGACY_ID};
use super::super::tell::detail;
use super::super::verdict::{self, Verdict};
use super::super::{Answer, Call, Engine};
use super::{Action, AfterAck};
use crate::event::Origin;
use crate::{Error, Event, EventKind};

/// How often a server may fail with an answer of its own before it counts as a refusal.
const TRIES: u32 = 6;
/// For how long a stream may be behind with what came of it.
const ECHO: Duration = Duration::from_secs(600);

impl Engine {
    /// The answer came, or none.
    pub(in crate::engine) fn acted(&mut self, made: &Call, ticket: Ticket, result: Result<Answer, Error>) {
        if let Some(e) = self.actions.endpoints.get_mut(&made.endpoint) {
            e.in_flight = e.in_flight.saturating_sub(1);
        }
        self.actions.dirty.insert(made.endpoint);
        let Some(action) = self.actions.by_ticket.get_mut(&ticket) else { return };
        let error = match result {
            Ok(_) => return self.action_done(ticket),
            Err(error) => error,
        };
        if error.code() == Some(LEGACY_ID) && !std::mem::replace(&mut action.converted, true) {
            let item = action.item.clone();
            if self.convert(made.watch, made.endpoint, item, Asked::Act(ticket)) {
                return;
            }
        }
        self.act_failed(made, ticket, error);
    }

    fn act_failed(&mut self, made: &Call, ticket: Ticket, error: Error) {
        let Some(action) = self.actions.by_ticket.get_mut(&ticket) else { return };
        let verdict = verdict::of_error(&error);
        // What is gone is deleted; and an answer that was lost may have said that it is done.
        if verdict == Verdict::ItemGone && (matches!(action.what, AfterAck::Delete(_)) || action.redone) {
            return self.action_done(ticket);
        }
        action.redone |= !verdict::nothing_done(&error);
        let again = match verdict {
            Verdict::LowerVersion => false,
            Verdict::Retry | Verdict::RetryThenStop | Verdict::Missed => {
                action.tries += u32::from(error.code().is_some() && !verdict::throttles(&error));
                action.tries < TRIES
            }
            Verdict::Refused => true,
            _ => false,
        };
        if verdict == Verdict::LowerVersion && self.lower_version(made.endpoint, made.version) {
            return self.action_ready(ticket);
        }
        if !self.watches.contains_key(&made.watch) {
            return drop(self.actions.remove(ticket));
        }
        if !again {
            return self.action_refused(ticket, &error);
        }
        let asked = (verdict == Verdict::Refused).then_some(verdict::REFUSED_WAIT).max(error.retry_after());
        let Some(action) = self.actions.by_ticket.get_mut(&ticket) else { return };
        action.under_way = false;
        let at = self.now.mono + action.backoff.next(&mut self.rng, asked);
        self.actions.endpoints.entry(made.endpoint).or_default().later.insert((at, ticket));
    }

    /// The item's id in its present form came, or none.
    pub(in crate::engine) fn act_converted(
        &mut self,
        made: &Call,
        ticket: Ticket,
        id: Result<String, Error>,
    ) {
        let Some(action) = self.actions.by_ticket.get_mut(&ticket) else { return };
        match id {
            Ok(id) => {
                let (watch, old) = (action.watch, std::mem::replace(&mut action.item, id.clone()));
                self.actions.by_item.remove(&(watch, old));
                self.actions.by_item.insert((watch, id), ticket);
                self.action_ready(ticket);
            }
            Err(error) => {
                // One that failed for now is converted when it is tried again.
                action.converted = false;
                self.act_failed(made, ticket, error);
            }
        }
    }

    fn action_done(&mut self, ticket: Ticket) {
        let marks = match self.actions.by_ticket.get(&ticket).map(|a| &a.what) {
            Some(AfterAck::Read) => Marks::OWN_READ,
            _ => Marks::SEEN_GONE.with(Marks::STORED_GONE),
        };
        self.mark_action(ticket, marks);
        let Some(action) = self.actions.remove(ticket) else { return };
        self.unstore_action(&action, ticket);
        if action.withheld.is_empty() {
            let change = action.what == AfterAck::Read;
            self.actions.expect((action.watch, action.item), self.now.mono + ECHO, change);
        }
    }

    fn action_refused(&mut self, ticket: Ticket, error: &Error) {
        let Some(action) = self.actions.remove(ticket) else { return };
        self.unstore_action(&action, ticket);
        let now = self.now.wall;
        let Some(w) = self.watches.get_mut(&action.watch) else { return };
        let known = action.folder.as_ref().and_then(|f| w.folders_known.get_mut(f));
        if let Some(folder) = known.filter(|_| action.what == AfterAck::Read) {
            folder.told.unmark(Digest::of(&action.item), Marks::OWN_READ);
        }
        let done = match &action.what {
            AfterAck::Move(to) => format!("moved into {to}"),
            AfterAck::Delete(_) => "deleted".to_owned(),
            AfterAck::Read | AfterAck::None => "marked as read".to_owned(),
        };
        let mut detail = detail(error, None);
        let text = "an item that was acknowledged cannot be";
        detail.message = Some(format!("{text} {done} (option after_ack), and stays as it is: {error}"));
        let mut event = Event::new(EventKind::Error, action.watch, w.spec.mailbox.clone(), now);
        event.item_id = Some(action.item);
        event.detail = Some(Box::new(detail));
        match w.hold.is_empty() {
            true => self.push(event),
            false => w.hold.push_back(Held::Ready(event)),
        }
        for event in action.withheld {
            self.hand_out(action.watch, event);
        }
    }

    /// What is done to an item must not be told by sync, in this run and the next.
    pub(super) fn mark_action(&mut self, ticket: Ticket, marks: Marks) {
        let Some(action) = self.actions.by_ticket.get(&ticket) else { return };
        let Some(id) = &action.folder else { return };
        let watch = action.watch;
        let known = self.watches.get_mut(&watch).and_then(|w| w.folders_known.get_mut(id));
        let Some(folder) = known else { return };
        let (key, item) = (Digest::of(id), Digest::of(&action.item));
        folder.told.mark(item, marks);
        let marks = folder.told.get(item).stored();
        self.store_marks(watch, key, item, marks);
    }

    fn unstore_action(&mut self, action: &Action, ticket: Ticket) {
        if self.settings.durable {
            self.unsaved.insert(format!("{}/a/{ticket}", action.name), None);
            match self.closing {
                true => drop(self.save_now()),
                false => self.save_soon(),
            }
        }
    }

    /// Takes an event that comes of what we do ourselves: `None`. Else it is the host's.
    pub(in crate::engine) fn not_ours(&mut self, watch: u64, event: Event) -> Option<Event> {
        if self.actions.by_item.is_empty() && self.actions.done.is_empty() {
            return Some(event);
        }
        let item = match event.kind {
            EventKind::Moved => event.old_item_id.clone(),
            EventKind::Deleted | EventKind::Modified => event.item_id.clone(),
            _ => None,
        };
        let Some(key) = item.map(|item| (watch, item)) else { return Some(event) };
        let change = event.kind == EventKind::Modified;
        // What sync tells of a change, it tells apart itself.
        if change && event.origin == Some(Origin::CatchUp) {
            return Some(event);
        }
        let under_way = self.actions.by_item.get(&key).and_then(|t| self.actions.by_ticket.get_mut(t));
        if let Some(action) = under_way.filter(|a| a.asked) {
            // One is ours; whatever else there is, is not.
            if change != (action.what == AfterAck::Read) || !action.withheld.is_empty() {
                return Some(event);
            }
            action.withheld.push(event.clone());
        } else {
            match self.actions.done.get(&key) {
                Some((until, changed)) if *until >= self.now.mono && *changed == change => {}
                _ => return Some(event),
            }
            self.actions.done.remove(&key);
        }
        if change {
            // If it was somebody else's after all, sync will tell.
            let folder = event.parent_folder_id.as_ref();
            let known =
                self.watches.get_mut(&watch).zip(folder).and_then(|(w, f)| w.folders_known.get_mut(f));
            if let Some(folder) = known {
                folder.told.unmark(Digest::of(&key.1), Marks::SEEN_CHANGE);
            }
        }
        None
    }
}
