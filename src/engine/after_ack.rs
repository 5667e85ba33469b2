//! `after_ack`: what is done with an item when the host has acknowledged that it is new: marked as read, moved, deleted.
//!
//! It begins when the acknowledgement is durable, and is kept with it until it is done: a run that is killed in between does it
//! in the next one. What comes of it is not told back: while it is under way such events are withheld, and told after all if
//! the server refuses it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::acks::{Open, Ticket};
use super::backoff::Backoff;
use super::fetch::Held;
use super::folder::{Digest, Marks};
use super::legacy_ids::{Asked, LEGACY_ID};
use super::paths::FolderPath;
use super::save::Batch;
use super::tell::detail;
use super::timers::Timer;
use super::verdict::{self, Verdict};
use super::{Answer, Call, Engine, Job};
use crate::event::Origin;
use crate::proto::{DeleteType, FolderRef, Request};
use crate::{Error, Event, EventKind};

/// How often a server may fail with an answer of its own before it counts as a refusal.
const TRIES: u32 = 6;
/// For how long a stream may be behind with what came of it.
const ECHO: Duration = Duration::from_secs(600);
/// So many items are remembered for that at the most.
const ECHOES: usize = 10_000;

/// What is done with an item after its acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AfterAck {
    /// Nothing.
    #[default]
    None,
    /// It is marked as read, without a read receipt.
    Read,
    /// It goes into a folder.
    Move(FolderPath),
    /// It goes to the deleted items, which are this folder.
    Delete(FolderRef),
}

/// What has to be done.
#[derive(Debug)]
struct Action {
    watch: u64,
    name: Arc<str>,
    endpoint: u32,
    what: AfterAck,
    item: String,
    folder: Option<String>,
    /// The server was asked at least once, perhaps by an earlier run: it may be done.
    asked: bool,
    /// An answer may have been lost.
    redone: bool,
    /// Neither left by an earlier run nor waiting for another try.
    under_way: bool,
    tries: u32,
    /// The item's id was in the form of Exchange 2007, and is not converted a second time.
    converted: bool,
    backoff: Backoff,
    /// Events that come of it, if it is done.
    withheld: Vec<Event>,
}

/// What the store keeps of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ActionRecord {
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
}

/// All that has to be done.
#[derive(Debug, Default)]
pub(super) struct Actions {
    by_ticket: BTreeMap<Ticket, Action>,
    by_item: HashMap<(u64, String), Ticket>,
    endpoints: BTreeMap<u32, OfEndpoint>,
    /// What was done of late, until when the stream may tell of it, and whether a change is among that.
    done: HashMap<(u64, String), (Duration, bool)>,
    by_age: VecDeque<(u64, String)>,
    /// Endpoints to be looked after when the input has been handled.
    pub dirty: BTreeSet<u32>,
}

#[derive(Debug, Default)]
struct OfEndpoint {
    ready: VecDeque<Ticket>,
    later: BTreeSet<(Duration, Ticket)>,
    in_flight: usize,
}

impl Engine {
    /// An event was acknowledged: what is to be done with its item, if no other event of it is left.
    pub(super) fn act_after(&mut self, ticket: Ticket, open: &Open) {
        let Some(w) = self.watches.get(&open.event.watch) else { return };
        let Some(item) = open.event.item_id.clone().filter(|_| w.spec.after_ack != AfterAck::None) else {
            return;
        };
        use EventKind::{Copied, Created, Moved, NewMail};
        if !open.acts && !matches!(open.event.kind, NewMail | Created | Moved | Copied) {
            return;
        }
        let watch = open.event.watch;
        let same = |o: &Open| o.event.watch == watch && o.event.item_id.as_ref() == Some(&item);
        if let Some((other, o)) = self.opens.by_ticket.iter_mut().find(|(_, o)| same(o)) {
            o.acts = true;
            let (other, recorded) = (*other, o.recorded);
            if recorded {
                self.store_open(other);
            }
            return;
        }
        let folder = open.event.parent_folder_id.clone();
        let key = format!("{}/a/{ticket}", w.spec.name);
        let record = ActionRecord { item, folder };
        if self.settings.durable
            && let Ok(value) = serde_json::to_vec(&record)
        {
            self.unsaved.insert(key, Some(value));
        }
        self.begin_action(watch, ticket, record, false);
        if !self.settings.durable {
            self.action_ready(ticket);
        }
    }

    /// What an earlier run has left undone.
    pub(super) fn restore_actions(&mut self, watch: u64, records: Vec<(Ticket, ActionRecord)>) {
        for (ticket, record) in records {
            self.opens.last = self.opens.last.max(ticket);
            // One whose event is told again is done after that.
            if !self.opens.by_ticket.contains_key(&ticket) {
                self.begin_action(watch, ticket, record, true);
            }
        }
    }

    /// The watch can ask the server: what an earlier run has left undone begins.
    pub(super) fn actions_begin(&mut self, watch: u64) {
        let of =
            self.actions.by_ticket.iter().filter(|(_, a)| a.watch == watch && !a.under_way && a.tries == 0);
        for ticket in of.map(|(t, _)| *t).collect::<Vec<_>>() {
            self.action_ready(ticket);
        }
    }

    /// A batch is in the store: what waited for it begins.
    pub(super) fn actions_durable(&mut self, batch: &Batch) {
        if self.actions.by_ticket.is_empty() {
            return;
        }
        for (key, _) in batch.iter().filter(|(_, value)| value.is_some()) {
            if let ["a", ticket] = key.split('/').skip(1).collect::<Vec<_>>()[..]
                && let Ok(ticket) = ticket.parse()
            {
                self.action_ready(ticket);
            }
        }
    }

    /// Asks for as much as may be under way.
    pub(super) fn pump_actions(&mut self, endpoint: u32) {
        let now = self.now.mono;
        let shut = self.gate_shut(endpoint);
        let gated = self.gated(endpoint);
        let most = self.settings.syncs.max(1);
        loop {
            let Some(e) = self.actions.endpoints.get_mut(&endpoint) else { return };
            while let Some((at, ticket)) = e.later.first().copied()
                && at <= now
            {
                e.later.remove(&(at, ticket));
                e.ready.push_back(ticket);
                if let Some(action) = self.actions.by_ticket.get_mut(&ticket) {
                    action.under_way = true;
                }
            }
            if e.ready.is_empty() || e.in_flight >= most {
                if let Some((at, _)) = e.later.first() {
                    self.timers.set(Timer::Act(endpoint), *at);
                }
                return;
            }
            match shut {
                // The next run does it.
                Some(_) if self.closing => {
                    let left = std::mem::take(&mut e.ready);
                    left.into_iter().for_each(|ticket| drop(self.actions.remove(ticket)));
                    return;
                }
                Some(at) => return self.timers.set(Timer::Act(endpoint), at),
                None => {}
            }
            let Some(ticket) = e.ready.pop_front() else { return };
            let Some(action) = self.actions.by_ticket.get_mut(&ticket) else { continue };
            if let Some(at) = gated.get(&action.watch).filter(|_| !self.closing) {
                action.under_way = false;
                e.later.insert((*at, ticket));
                continue;
            }
            if let AfterAck::Move(to) = &action.what
                && !to.names.is_empty()
            {
                // It began before its watch knew where that is.
                let watch = action.watch;
                match self.watches.get(&watch) {
                    Some(w) if w.move_to.is_some() => action.what = w.after_ack(),
                    Some(_) => {
                        action.under_way = false;
                        continue;
                    }
                    None => {
                        drop(self.actions.remove(ticket));
                        self.forget(watch);
                        continue;
                    }
                }
            }
            e.in_flight += 1;
            action.asked = true;
            let items = vec![action.item.clone()];
            let request = match &action.what {
                AfterAck::Move(to) => Request::MoveItem { items, to: to.from.clone() },
                AfterAck::Delete(_) => Request::DeleteItem { items, how: DeleteType::MoveToDeletedItems },
                AfterAck::Read | AfterAck::None => Request::MarkRead { items },
            };
            let watch = action.watch;
            if action.what == AfterAck::Read {
                self.mark_action(ticket, Marks::OWN_READ);
            }
            self.call_at(watch, endpoint, Job::Act(ticket), request, None);
        }
    }

    /// The answer came, or none.
    pub(super) fn acted(&mut self, made: &Call, ticket: Ticket, result: Result<Answer, Error>) {
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
    pub(super) fn act_converted(&mut self, made: &Call, ticket: Ticket, id: Result<String, Error>) {
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

    /// Takes an event that comes of what we do ourselves: `None`. Else it is the host's.
    pub(super) fn not_ours(&mut self, watch: u64, event: Event) -> Option<Event> {
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

    /// Leaves to the next run what has not begun of a watch, or waits to be tried again.
    pub(super) fn leave_actions(&mut self, watch: Option<u64>) {
        let waits = |a: &Action| watch.is_none_or(|w| w == a.watch) && !a.under_way;
        let of = self.actions.by_ticket.iter().filter(|(_, a)| waits(a)).map(|(t, _)| *t);
        for ticket in of.collect::<Vec<_>>() {
            if let Some(action) = self.actions.remove(ticket) {
                self.forget(action.watch);
            }
        }
    }

    /// The acknowledgements that could not be written at the end come again, and what is to be done after them.
    pub(super) fn actions_never_durable(&mut self) {
        self.actions.by_ticket.values_mut().for_each(|a| a.under_way &= a.asked);
        self.leave_actions(None);
    }

    fn begin_action(&mut self, watch: u64, ticket: Ticket, record: ActionRecord, redone: bool) {
        let Some(w) = self.watches.get(&watch).filter(|w| w.spec.after_ack != AfterAck::None) else { return };
        let action = Action {
            watch,
            name: w.spec.name.clone(),
            endpoint: w.spec.endpoint,
            what: w.after_ack(),
            item: record.item.clone(),
            folder: record.folder,
            asked: redone,
            redone,
            // Its save is under way.
            under_way: !redone,
            tries: 0,
            converted: false,
            backoff: Backoff::default(),
            withheld: Vec::new(),
        };
        self.actions.by_item.insert((watch, record.item), ticket);
        self.actions.by_ticket.insert(ticket, action);
    }

    fn action_ready(&mut self, ticket: Ticket) {
        let Some(action) = self.actions.by_ticket.get_mut(&ticket) else { return };
        action.under_way = true;
        self.actions.endpoints.entry(action.endpoint).or_default().ready.push_back(ticket);
        self.actions.dirty.insert(action.endpoint);
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
    fn mark_action(&mut self, ticket: Ticket, marks: Marks) {
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
}

impl Actions {
    /// How much has to be done for a watch.
    pub fn len(&self, watch: u64) -> usize {
        self.by_ticket.values().filter(|a| a.watch == watch).count()
    }

    /// Whether nothing has to be done.
    pub fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }

    /// Somebody has moved an item that we have not touched.
    pub fn renamed(&mut self, watch: u64, old: &str, new: &str, to: Option<&str>) {
        let key = (watch, old.to_owned());
        let Some(ticket) = self.by_item.get(&key).copied() else { return };
        if let Some(action) = self.by_ticket.get_mut(&ticket).filter(|a| !a.asked) {
            new.clone_into(&mut action.item);
            action.folder = to.map(str::to_owned);
            self.by_item.remove(&key);
            self.by_item.insert((watch, new.to_owned()), ticket);
        }
    }

    /// The stream will tell of it.
    fn expect(&mut self, key: (u64, String), until: Duration, change: bool) {
        if self.done.insert(key.clone(), (until, change)).is_none() {
            self.by_age.push_back(key);
        }
        if self.by_age.len() > ECHOES
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.done.remove(&oldest);
        }
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Action> {
        let action = self.by_ticket.remove(&ticket)?;
        self.by_item.remove(&(action.watch, action.item.clone()));
        if let Some(e) = self.endpoints.get_mut(&action.endpoint) {
            e.ready.retain(|t| *t != ticket);
            e.later.retain(|(_, t)| *t != ticket);
        }
        Some(action)
    }
}
