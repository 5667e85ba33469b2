//! Events on their way to the host and back: queued, given, acknowledged, given again.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::folder::{Digest, Marks};
use super::save::OpenRecord;
use super::timers::Timer;
use super::{AfterAck, Engine, Now, SaveId};
use crate::event::Origin;
use crate::{Ack, Error, ErrorKind, Event, EventKind, Result};

/// How long an automatic acknowledgement may take to be written.
const WRITE_BEHIND: Duration = Duration::from_millis(100);

/// Names an event from its being found to its acknowledgement, over restarts too. Never 0.
pub(super) type Ticket = u64;

/// An event of an item that is not acknowledged.
#[derive(Debug)]
pub(super) struct Open {
    /// Without the item's content, which is fetched anew.
    pub event: Event,
    /// Where it is.
    pub place: Place,
    /// How often it has been given to the host without success. While the host has it, this time is not among them.
    pub attempts: u32,
    /// Whether the store has it as pending: what a checkpoint covers must not be found by sync again.
    pub recorded: bool,
    /// Another event of its item was acknowledged, and what is to be done with that waits for this one.
    pub acts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Waits for its content, or in the queue.
    Queued,
    /// The host has it, under this `seq`.
    Given(u64),
    /// To be given again, then.
    Later(Duration),
    /// Nobody wants it now.
    Parked,
}

/// What to do with an event that the host could not handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nack {
    /// Give it again after so long. Others do not wait for it.
    Retry(Duration),
    /// The same, and no attempt is counted: the event was not to blame.
    Later(Duration),
    /// Keep it, and do not give it again until it is released.
    Park,
}

/// An event that was parked.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Parked {
    /// Names it for [`Client::release`](crate::Client::release).
    pub id: u64,
    /// How often it was given to the host.
    pub attempts: u32,
    /// What is known of it; its `seq` is 0.
    pub event: Event,
}

/// All events that are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Opens {
    pub by_ticket: BTreeMap<Ticket, Open>,
    /// Those that the host has.
    by_seq: BTreeMap<u64, Ticket>,
    /// Those that the host has and that are acknowledged when it asks for more: no others are in its hands without a number.
    auto: Vec<Ticket>,
    /// What has to be durable before the host sees what was just taken.
    awaited: Option<SaveId>,
    /// The gap that it has, of this watch and until that time: it knows of it when it asks for more.
    gap: Option<(u64, SystemTime)>,
    pub last: Ticket,
}

impl Engine {
    /// An event for the host, at the end of its queue.
    pub(super) fn push(&mut self, event: Event) {
        self.delivery.push(event);
    }

    /// Tells of trouble outside the engine, or of a bug: nothing may stop in silence.
    pub fn tell_trouble(&mut self, event: Event) {
        self.push(event);
    }

    /// A line of the log.
    pub fn tell_log(&mut self, event: Event) {
        self.push(event);
    }

    /// Whether [`take`](Self::take) would give an event.
    pub fn has_event(&self) -> bool {
        let blocked = |watch| self.watches.get(&watch).is_some_and(|w| w.is_blocked());
        match self.blocked {
            0 => !self.delivery.is_empty(),
            _ => self.delivery.has(blocked),
        }
    }

    /// How many events wait.
    pub fn waiting_events(&self) -> usize {
        self.delivery.len()
    }

    /// The next event for the host. Commands may follow.
    pub fn take(&mut self, now: Now) -> Option<Event> {
        self.now = now;
        self.ack_taken();
        let watches = &self.watches;
        let next = match self.blocked {
            0 => self.delivery.pop(|_| false),
            _ => self.delivery.pop(|watch| watches.get(&watch).is_some_and(|w| w.is_blocked())),
        };
        let Some(mut event) = next else {
            // What follows from the acknowledgement must not wait for the next event.
            self.finish_input();
            return None;
        };
        let (watch, seq) = (event.watch, event.seq);
        match event.kind {
            EventKind::StateChanged => self.state_taken(&event),
            EventKind::TokenRotated => self.rotated_taken(&event),
            EventKind::Gap => self.opens.gap = Some((watch, event.time)),
            _ => {}
        }
        if let Some(open) = self.opens.by_ticket.get_mut(&event.ticket) {
            open.place = Place::Given(seq);
            // A move may have renamed it while it waited for its content.
            event.attempt = (open.attempts > 0).then_some(open.attempts + 1);
            if let Some(w) = self.watches.get_mut(&watch) {
                match w.spec.ack {
                    Ack::Auto => self.opens.auto.push(event.ticket),
                    Ack::Manual => {
                        self.opens.by_seq.insert(seq, event.ticket);
                        w.unacked += 1;
                        if w.unacked == w.spec.max_unacked {
                            self.blocked += 1;
                        }
                        w.given = w.given.saturating_add(1);
                        let first = w.given <= w.spec.max_unacked;
                        self.store_attempt(event.ticket, first);
                    }
                }
            }
        }
        self.reserve_numbers(seq);
        self.has_room(watch);
        self.finish_input();
        Some(event)
    }

    /// Has it written that the host has an event: one that kills the host must not be its first attempt for ever. What killed
    /// it is among the first that the next run gives it, so those wait until that is durable; the others need not.
    fn store_attempt(&mut self, ticket: Ticket, first: bool) {
        let Some(open) = self.opens.by_ticket.get_mut(&ticket) else { return };
        open.recorded = true;
        self.store_open(ticket);
        match first && self.settings.durable && self.store_works() {
            true => self.opens.awaited = self.save_now(),
            false => self.save_soon(),
        }
    }

    /// The save that has to be durable before the host sees the event that was just taken.
    pub fn awaited(&mut self) -> Option<SaveId> {
        self.opens.awaited.take()
    }

    /// The host is done with what it was given automatically.
    pub fn done_with_taken(&mut self, now: Now) {
        self.now = now;
        self.ack_taken();
    }

    /// The host ends in the middle of what it was given automatically: the next run tells it again.
    pub fn leave_taken(&mut self) {
        self.opens.auto.clear();
        self.opens.gap = None;
    }

    /// Acknowledges what was given automatically: the host has asked for more, or is done.
    pub(super) fn ack_taken(&mut self) {
        for ticket in std::mem::take(&mut self.opens.auto) {
            self.settle(ticket);
        }
        if let Some((watch, until)) = self.opens.gap.take() {
            self.gap_taken(watch, until);
        }
        let changed = !self.unsaved.is_empty() || !self.acked.is_empty();
        if changed && self.timers.get(Timer::Save).is_none() {
            self.timers.set(Timer::Save, self.now.mono + WRITE_BEHIND);
        }
    }

    /// The same of one watch, which the host takes back: it is in the midst of the others' still.
    pub(super) fn ack_taken_of(&mut self, watch: u64) {
        let of =
            |ticket: &Ticket| self.opens.by_ticket.get(ticket).is_some_and(|open| open.event.watch == watch);
        let (auto, others) = self.opens.auto.iter().partition(|ticket| of(ticket));
        let gap = self.opens.gap.take_if(|(of, _)| *of != watch);
        self.opens.auto = auto;
        self.ack_taken();
        (self.opens.auto, self.opens.gap) = (others, gap);
    }

    /// The host has done with an event. The save that makes it durable, if there is a store.
    pub fn ack(&mut self, now: Now, seq: u64) -> Result<Option<SaveId>> {
        self.now = now;
        if self.state_acked(seq) || self.rotated_acked(seq) {
            self.finish_input();
            return Ok(None);
        }
        let ticket = self.opens.by_seq.remove(&seq);
        let watch = ticket.and_then(|ticket| self.settle(ticket)).ok_or_else(|| not_open(seq))?;
        self.has_room(watch);
        let save = self.save_now();
        self.finish_input();
        Ok(save)
    }

    /// The host could not handle an event. The save that makes it durable, if there is a store.
    pub fn nack(&mut self, now: Now, seq: u64, nack: Nack) -> Result<Option<SaveId>> {
        self.now = now;
        if let Some(nacked) = self.state_nacked(seq, nack).or_else(|| self.rotated_nacked(seq, nack)) {
            self.finish_input();
            return nacked.map(|()| None);
        }
        let ticket = self.opens.by_seq.remove(&seq).ok_or_else(|| not_open(seq))?;
        let Some(open) = self.opens.by_ticket.get_mut(&ticket) else { return Err(not_open(seq)) };
        open.attempts += u32::from(!matches!(nack, Nack::Later(_)));
        open.recorded = true;
        let watch = open.event.watch;
        match nack {
            Nack::Retry(after) | Nack::Later(after) => {
                let at = now.mono + after.min(Duration::from_secs(366 * 86_400));
                open.place = Place::Later(at);
                self.again.insert((at, ticket));
                self.timers.set(Timer::Again, self.again.first().map_or(at, |(at, _)| *at));
            }
            Nack::Park => open.place = Place::Parked,
        }
        self.store_open(ticket);
        self.given_back(watch);
        self.has_room(watch);
        let save = self.save_now();
        self.finish_input();
        Ok(save)
    }

    /// Gives a parked event again.
    pub fn release(&mut self, now: Now, id: u64) -> Result<Option<SaveId>> {
        self.now = now;
        match self.opens.by_ticket.get_mut(&id) {
            Some(open) if open.place == Place::Parked => {}
            _ => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("no event is parked under the number {id}"),
                ));
            }
        }
        self.give_again(id);
        self.store_open(id);
        let save = self.save_now();
        self.finish_input();
        Ok(save)
    }

    /// What is parked.
    pub fn parked(&self) -> Vec<Parked> {
        self.first_parked(usize::MAX)
    }

    /// The first of them.
    pub fn first_parked(&self, most: usize) -> Vec<Parked> {
        let parked = self.opens.by_ticket.iter().filter(|(_, open)| open.place == Place::Parked);
        parked
            .take(most)
            .map(|(id, o)| Parked { id: *id, attempts: o.attempts, event: o.event.clone() })
            .collect()
    }

    /// Events whose time to be given again has come.
    pub(super) fn again_due(&mut self) {
        while let Some((at, ticket)) = self.again.first().copied() {
            if at > self.now.mono {
                return self.timers.set(Timer::Again, at);
            }
            self.again.remove(&(at, ticket));
            self.give_again(ticket);
        }
    }

    /// Queues an event anew, with its content.
    pub(super) fn give_again(&mut self, ticket: Ticket) {
        let Some(open) = self.opens.by_ticket.get_mut(&ticket) else { return };
        open.place = Place::Queued;
        let mut event = open.event.clone();
        event.origin = Some(Origin::CatchUp);
        let watch = event.watch;
        self.hand_out_as(watch, event, false);
    }

    /// Gives an event that is found now its ticket.
    pub(super) fn open_event(&mut self, event: &mut Event) {
        let Some(w) = self.watches.get(&event.watch) else { return };
        // While its window is open, it is nowhere else.
        let acts = w.spec.after_ack != AfterAck::None;
        let kept = acts || w.spec.ack == Ack::Manual || !w.spec.coalesce.is_zero();
        if event.item_id.is_none() || (w.folders_known.is_empty() && !kept) {
            return;
        }
        self.opens.last += 1;
        event.ticket = self.opens.last;
        // Nothing of it outlives its being told, so nothing is kept of it.
        if !kept && !self.settings.durable {
            return;
        }
        let open =
            Open { event: event.clone(), place: Place::Queued, attempts: 0, recorded: false, acts: false };
        self.opens.by_ticket.insert(event.ticket, open);
        self.reserve_numbers(event.ticket);
    }

    /// Takes up what an earlier run left unacknowledged.
    pub(super) fn restore_opens(&mut self, watch: u64, records: Vec<(Ticket, OpenRecord)>) {
        let Some(mailbox) = self.watches.get(&watch).map(|w| w.spec.mailbox.clone()) else { return };
        for (ticket, record) in records {
            let Some(open) = record.open(watch, mailbox.clone(), ticket) else { continue };
            let parked = open.place == Place::Parked;
            self.opens.last = self.opens.last.max(ticket);
            self.opens.by_ticket.insert(ticket, open);
            if !parked {
                self.give_again(ticket);
            }
        }
    }

    /// Forgets the events of a watch that has ended. What the store has of them stays.
    pub(super) fn forget_opens(&mut self, watch: u64) {
        let of: Vec<Ticket> =
            self.opens.by_ticket.iter().filter(|(_, o)| o.event.watch == watch).map(|(t, _)| *t).collect();
        for ticket in of {
            if let Some(open) = self.opens.by_ticket.remove(&ticket)
                && let Place::Given(seq) = open.place
            {
                self.opens.by_seq.remove(&seq);
            }
        }
    }

    /// An item has moved: events of it that are not given yet, or not acknowledged, name it as it is called now.
    pub(super) fn renamed(&mut self, watch: u64, old: &str, new: &str, to: Option<&str>) {
        let Some(w) = self.watches.get_mut(&watch) else { return };
        let to = to.filter(|to| w.folders_known.contains_key(*to));
        let folder = to.and_then(|to| w.folders_known.get_mut(to));
        // Sync has told it as it is called now: what still speaks of the old one is not told a second time.
        if folder.is_some_and(|f| f.told.get(Digest::of(new)).told_as(EventKind::Created)) {
            return;
        }
        let mut kinds = Vec::new();
        let mut change = |event: &mut Event| {
            rename(event, new, to);
            kinds.push(event.kind);
        };
        for event in w.hold.iter_mut().filter_map(super::hold::Held::event) {
            if event.item_id.as_deref() == Some(old) && is_renamed(event.kind) {
                change(event);
            }
        }
        self.delivery.rename(watch, old, &mut change);
        let mut stored = Vec::new();
        for (ticket, open) in &mut self.opens.by_ticket {
            let of_it = open.event.watch == watch && open.event.item_id.as_deref() == Some(old);
            if of_it && is_renamed(open.event.kind) {
                change(&mut open.event);
                if open.recorded {
                    stored.push(*ticket);
                }
            }
        }
        if kinds.iter().any(|kind| matches!(kind, EventKind::NewMail | EventKind::Created)) {
            // Its acknowledgement will say nothing of the old name, by which a restart would tell it again.
            self.let_doubt_go(watch, Digest::of(old));
        }
        let Some(w) = self.watches.get_mut(&watch) else { return };
        // Sync would find it there.
        if let Some(folder) = to.and_then(|to| w.folders_known.get_mut(to)) {
            for (told, _) in kinds.into_iter().filter_map(Marks::of) {
                folder.told.mark(Digest::of(new), told);
            }
        }
        for ticket in stored {
            self.store_open(ticket);
        }
        self.save_soon();
        self.windows.renamed(watch, old, new);
        self.actions.renamed(watch, old, new, to);
        for wanted in self.items.values_mut() {
            wanted.renamed(watch, old, new);
        }
    }

    /// Takes an acknowledged event off; whose it was.
    fn settle(&mut self, ticket: Ticket) -> Option<u64> {
        let open = self.opens.by_ticket.remove(&ticket)?;
        let watch = open.event.watch;
        self.acked.insert(watch);
        if open.recorded {
            self.unstore_open(watch, ticket);
        }
        // The checkpoint that has it as pending may have been asked for before it came: sync will tell of it then.
        self.store_told(&open.event);
        self.act_after(ticket, &open);
        self.given_back(watch);
        Some(watch)
    }

    /// The host has one less of a watch's.
    fn given_back(&mut self, watch: u64) {
        let Some(w) = self.watches.get_mut(&watch).filter(|w| w.spec.ack == Ack::Manual) else { return };
        if w.is_blocked() {
            self.blocked = self.blocked.saturating_sub(1);
        }
        w.unacked = w.unacked.saturating_sub(1);
    }

    /// How many events of a watch are on their way to the host.
    pub(super) fn waiting(&self, watch: u64) -> usize {
        self.delivery.waiting(watch)
            + self.windows.len(watch)
            + self.watches.get(&watch).map_or(0, |w| w.hold.len())
    }

    /// Sync may go on where it waited for room.
    fn has_room(&mut self, watch: u64) {
        self.poll_soon(watch);
        let starved = self.watches.get_mut(&watch).is_some_and(|w| std::mem::take(&mut w.starved));
        if starved {
            self.sync_soon(watch);
        }
    }

    /// Remembers for the store that an event was told and is done with.
    fn store_told(&mut self, event: &Event) {
        let Some((told, mark)) = Marks::of(event.kind) else { return };
        let digest = event.item_id.as_deref().map(Digest::of);
        let Some(w) = self.watches.get_mut(&event.watch) else { return };
        // An event of an earlier run may be dealt with before the server has answered anything in this one.
        let Some(id) = &event.parent_folder_id else { return };
        let folder = w.folders_known.get_mut(id).map(Box::as_mut).or_else(|| w.stored.folder(id));
        let (Some(digest), Some(folder)) = (digest, folder) else { return };
        folder.told.mark(digest, told.with(mark));
        let (key, marks) = (Digest::of(id), folder.told.get(digest).stored());
        self.store_marks(event.watch, key, digest, marks);
    }
}

impl Opens {
    /// Whether the host has a gap of that watch, and has not asked for more.
    pub fn has_gap(&self, watch: u64) -> bool {
        self.gap.is_some_and(|(of, _)| of == watch)
    }
}

/// Whether an event goes by its item's new name when that moves. What says that the item has left a place is about the old one.
pub(super) fn is_renamed(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Moved | EventKind::Deleted)
}

/// `to`: the folder that it is in now, if that is watched.
fn rename(event: &mut Event, new: &str, to: Option<&str>) {
    if let Some(to) = to {
        event.parent_folder_id = Some(to.to_owned());
    }
    let old = event.item_id.replace(new.to_owned());
    if event.old_item_id.is_none() {
        event.old_item_id = old;
    }
    event.change_key = None;
}

fn not_open(seq: u64) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!(
            "event {seq} waits for no acknowledgement: it was given none, or has one already, or its watch has ended"
        ),
    )
}
