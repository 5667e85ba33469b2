//! `after_ack`: what is done with an item when the host has acknowledged that it is new: marked as read, moved, deleted.
//!
//! It begins when the acknowledgement is durable, and is kept with it until it is done: a run that is killed in between does it
//! in the next one. What comes of it is not told back: while it is under way such events are withheld, and told after all if
//! the server refuses it.

mod outcome;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::acks::{Open, Ticket};
use super::backoff::Backoff;
use super::folder::Marks;
use super::paths::FolderPath;
use super::save::Batch;
use super::timers::Timer;
use super::{Engine, Job};
use crate::proto::{DeleteType, FolderRef, Request};
use crate::{Event, EventKind};

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
