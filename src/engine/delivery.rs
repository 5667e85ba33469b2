//! The bounded queue of events for the host, and what happens when it runs over.
//!
//! Mailbox events that do not fit are dropped, and one `Gap` stands where the loss began. What tells of a watch
//! always gets in; when the queue is full it takes the place of its like, so that a host which never reads costs no
//! more and no more memory.

use std::collections::{BTreeMap, VecDeque};

use super::acks::is_renamed;
use crate::event::{Detail, Fill, Origin};
use crate::{Event, EventKind, Reason};

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many events.
    pub events: usize,
    /// How many bytes, as [`Event`]s weigh in memory.
    pub bytes: usize,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    Queued,
    /// There was no room: it is dropped, and a `Gap` stands in its place (or in an earlier one's).
    Dropped,
    /// There was no room: an event of the same kind and watch that waits has become this one.
    Merged,
    /// The queue is closed.
    Closed,
}

/// Events on their way to the host.
#[derive(Debug)]
pub struct Delivery {
    limits: Limits,
    /// In rising `seq`.
    queue: VecDeque<Event>,
    /// Changes of the state, where the host keeps it: they go first, or a backlog would keep acknowledgements from being
    /// durable. There is one at a time, but at the end.
    state: VecDeque<Event>,
    /// Tokens that are needed, and those that have changed: before all others, since nothing comes without them.
    tokens: VecDeque<Event>,
    /// How many mailbox events of a watch wait.
    waiting: BTreeMap<u64, usize>,
    bytes: usize,
    /// The number of the last one that came in. It is the event's `seq` until it is taken.
    seq: u64,
    /// The `seq` of the last one that was taken: one watch may have to wait while another's go.
    taken: u64,
    /// The `seq` of the gap that takes the place of dropped events of a watch, while it waits.
    overflows: BTreeMap<u64, u64>,
    /// The `seq` of what was let in although the queue was full, while it waits.
    extras: BTreeMap<(u64, Class), u64>,
    /// How many lines of the log wait.
    logs: usize,
    /// How many found no room since the last one that did.
    unlogged: usize,
    closed: bool,
    /// What became of each event, for tests to read.
    #[cfg(test)]
    pub log: Vec<(Event, Pushed)>,
}

/// How many lines of the log wait for the host at the most.
pub(super) const LOGS: usize = 1000;

/// Kinds of which one may stand for another of the same watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Link,
    Resubscribed,
    Gap,
    Error,
}

impl Delivery {
    /// An empty queue.
    pub fn new(limits: Limits) -> Delivery {
        Delivery {
            limits,
            queue: VecDeque::new(),
            state: VecDeque::new(),
            tokens: VecDeque::new(),
            waiting: BTreeMap::new(),
            bytes: 0,
            seq: 0,
            taken: 0,
            overflows: BTreeMap::new(),
            extras: BTreeMap::new(),
            logs: 0,
            unlogged: 0,
            closed: false,
            #[cfg(test)]
            log: Vec::new(),
        }
    }

    /// `seq` begins behind this number.
    pub fn start(&mut self, seq: u64) {
        self.seq = self.seq.max(seq);
        self.taken = self.taken.max(seq);
    }

    /// Whether a mailbox event would find room.
    pub fn fits(&self, event: &Event) -> bool {
        !self.overflows.contains_key(&event.watch) && self.has_room(weight(event))
    }

    /// Whether so many mailbox events of a usual size would; where none wait, some do.
    pub fn has_room_for(&self, events: usize) -> bool {
        let bytes = self.bytes.saturating_add(events.saturating_mul(1024));
        self.queue.is_empty()
            || (self.queue.len() - self.logs + events <= self.limits.events && bytes <= self.limits.bytes)
    }

    /// Puts an event at the end and gives it its `seq`.
    pub fn push(&mut self, event: Event) -> Pushed {
        #[cfg(test)]
        let copy = event.clone();
        let pushed = self.put(event);
        #[cfg(test)]
        self.log.push((copy, pushed));
        pushed
    }

    fn put(&mut self, event: Event) -> Pushed {
        match event.kind {
            EventKind::StateChanged => {
                self.state.push_back(event);
                return Pushed::Queued;
            }
            EventKind::TokenRotated => return self.push_token(event),
            EventKind::TokenNeeded if !self.closed => return self.push_token(event),
            _ => {}
        }
        if self.closed && event.kind != EventKind::Closed {
            return Pushed::Closed;
        }
        if event.kind.is_mailbox() {
            return self.push_mailbox(event);
        }
        if event.kind == EventKind::Log {
            return self.push_log(event);
        }
        let Some(class) = class(event.kind) else {
            self.append(event);
            return Pushed::Queued;
        };
        if self.has_room(weight(&event)) {
            self.append(event);
            return Pushed::Queued;
        }
        let key = (event.watch, class);
        if let Some(slot) = self.extras.get(&key).and_then(|seq| self.index(*seq)) {
            self.merge(slot, event);
            return Pushed::Merged;
        }
        self.append(event);
        self.extras.insert(key, self.seq);
        Pushed::Queued
    }

    /// What is told of a token goes first; of one account the last word of its kind counts.
    fn push_token(&mut self, event: Event) -> Pushed {
        let account = |e: &Event| e.detail.as_ref().and_then(|d| d.account.clone());
        let same = |e: &Event| e.kind == event.kind && account(e) == account(&event);
        self.tokens.retain(|e| !same(e));
        self.tokens.push_back(event);
        Pushed::Queued
    }

    /// A token that was needed is there: nobody need be told any more.
    pub fn drop_need(&mut self, account: &str) {
        let of = |e: &Event| e.detail.as_ref().and_then(|d| d.account.as_deref()) == Some(account);
        self.tokens.retain(|e| e.kind != EventKind::TokenNeeded || !of(e));
    }

    /// Takes the first one whose watch is not blocked. What tells of a watch itself is never blocked.
    pub fn pop(&mut self, blocked: impl Fn(u64) -> bool) -> Option<Event> {
        if let Some(mut event) = self.tokens.pop_front().or_else(|| self.state.pop_front()) {
            self.taken += 1;
            event.seq = self.taken;
            return Some(event);
        }
        let at = (0..self.queue.len()).find(|at| self.may_go(*at, &blocked))?;
        let mut event = self.queue.remove(at)?;
        self.bytes -= weight(&event);
        if event.kind.is_mailbox()
            && let Some(waiting) = self.waiting.get_mut(&event.watch)
        {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&event.watch);
            }
        }
        if event.kind == EventKind::Log {
            self.logs -= 1;
        }
        if event.kind == EventKind::Gap && self.overflows.get(&event.watch) == Some(&event.seq) {
            self.overflows.remove(&event.watch);
        }
        if let Some(class) = class(event.kind) {
            let key = (event.watch, class);
            if self.extras.get(&key) == Some(&event.seq) {
                self.extras.remove(&key);
            }
        }
        self.taken += 1;
        event.seq = self.taken;
        Some(event)
    }

    /// Whether [`pop`](Self::pop) would give one.
    pub fn has(&self, blocked: impl Fn(u64) -> bool) -> bool {
        !self.tokens.is_empty()
            || !self.state.is_empty()
            || (0..self.queue.len()).any(|at| self.may_go(at, &blocked))
    }

    /// Whether the event at that place may be taken before those in front of it: `Drained` not before what it speaks of.
    fn may_go(&self, at: usize, blocked: impl Fn(u64) -> bool) -> bool {
        let event = &self.queue[at];
        let of_it = |e: &Event| e.kind.is_mailbox() && e.watch == event.watch;
        match event.kind {
            EventKind::Drained => !blocked(event.watch) || !self.queue.iter().take(at).any(of_it),
            kind => !kind.is_mailbox() || !blocked(event.watch),
        }
    }

    /// The watches with messages that wait.
    pub fn with_messages(&self) -> impl Iterator<Item = u64> {
        self.queue.iter().filter(|e| e.has_message()).map(|e| e.watch)
    }

    /// Whether such an event of a watch waits.
    pub fn any(&self, watch: u64, such: impl Fn(&Event) -> bool) -> bool {
        self.queue.iter().any(|e| e.watch == watch && such(e))
    }

    /// How many mailbox events of a watch wait.
    pub fn waiting(&self, watch: u64) -> usize {
        self.waiting.get(&watch).copied().unwrap_or_default()
    }

    /// Changes the mailbox events of an item that wait.
    pub fn rename(&mut self, watch: u64, item: &str, mut change: impl FnMut(&mut Event)) {
        if self.waiting(watch) == 0 {
            return;
        }
        for event in &mut self.queue {
            if event.watch == watch && is_renamed(event.kind) && event.item_id.as_deref() == Some(item) {
                self.bytes -= weight(event);
                change(event);
                self.bytes += weight(event);
            }
        }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.state.len() + self.queue.len()
    }

    /// How many bytes they weigh, about.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all but the `Closed` events, and what the host has to keep; from now on nothing else gets in.
    pub fn close(&mut self) {
        self.closed = true;
        self.overflows.clear();
        self.extras.clear();
        self.queue.retain(|e| e.kind == EventKind::Closed);
        self.tokens.retain(|e| e.kind == EventKind::TokenRotated);
        self.waiting.clear();
        self.logs = 0;
        self.bytes = self.queue.iter().map(weight).sum();
    }

    fn push_mailbox(&mut self, event: Event) -> Pushed {
        // What has its number for an acknowledgement had room when it came. A page of catch-up was asked for when there was
        // room, and is bounded by itself.
        if event.ticket != 0 || event.origin == Some(Origin::CatchUp) {
            self.append(event);
            return Pushed::Queued;
        }
        if let Some(slot) = self.overflows.get(&event.watch).and_then(|seq| self.index(*seq)) {
            let gap = &mut self.queue[slot];
            gap.time = gap.time.max(event.time);
            if let Some(detail) = &mut gap.detail {
                detail.since = detail.since.map(|since| since.min(event.time));
            }
            return Pushed::Dropped;
        }
        if self.has_room(weight(&event)) {
            self.append(event);
            return Pushed::Queued;
        }
        let mut gap = Event::new(EventKind::Gap, event.watch, event.mailbox, event.time);
        gap.detail = Some(Box::new(Detail {
            reason: Some(Reason::QueueOverflow),
            since: Some(event.time),
            fill: Some(Fill::None),
            message: Some("the host did not take events in time; some were dropped".into()),
            ..Detail::default()
        }));
        self.append(gap);
        self.overflows.insert(event.watch, self.seq);
        self.extras.entry((event.watch, Class::Gap)).or_insert(self.seq);
        Pushed::Dropped
    }

    /// Lines of the log take no room of other events, so that a host which logs is told no less.
    fn push_log(&mut self, mut event: Event) -> Pushed {
        if self.logs >= LOGS {
            self.unlogged += 1;
            return Pushed::Dropped;
        }
        if self.unlogged > 0
            && let Some(message) = event.detail.as_mut().and_then(|d| d.message.as_mut())
        {
            *message += &format!(" ({} lines before this one found no room)", self.unlogged);
            self.unlogged = 0;
        }
        self.logs += 1;
        self.append(event);
        Pushed::Queued
    }

    fn has_room(&self, weight: usize) -> bool {
        self.queue.len() - self.logs < self.limits.events
            && self.bytes.saturating_add(weight) <= self.limits.bytes
    }

    fn append(&mut self, mut event: Event) {
        self.seq += 1;
        event.seq = self.seq;
        if event.kind.is_mailbox() {
            *self.waiting.entry(event.watch).or_default() += 1;
        }
        self.bytes += weight(&event);
        self.queue.push_back(event);
    }

    /// Where an event waits, by its `seq`.
    fn index(&self, seq: u64) -> Option<usize> {
        self.queue.binary_search_by_key(&seq, |e| e.seq).ok()
    }

    /// A gap grows; of anything else the newer takes the place of the older.
    fn merge(&mut self, slot: usize, event: Event) {
        let old = &mut self.queue[slot];
        self.bytes -= weight(old);
        if event.kind == EventKind::Gap {
            widen(old, event);
        } else {
            *old = Event { seq: old.seq, ..event };
        }
        self.bytes += weight(&self.queue[slot]);
    }
}

/// One gap becomes part of another, which then says the worse of the two.
pub(super) fn widen(gap: &mut Event, other: Event) {
    let badness = |fill| match fill {
        Some(Fill::Pending) => 0,
        Some(Fill::Partial) => 1,
        Some(Fill::None) | None => 2,
    };
    gap.time = gap.time.max(other.time);
    let (Some(detail), Some(other)) = (&mut gap.detail, other.detail) else { return };
    let since = detail.since.min(other.since);
    if badness(other.fill) > badness(detail.fill) {
        *detail = other;
    }
    detail.since = since;
}

/// `None` for what never gives way.
fn class(kind: EventKind) -> Option<Class> {
    match kind {
        EventKind::Connected | EventKind::Disconnected => Some(Class::Link),
        EventKind::Resubscribed => Some(Class::Resubscribed),
        EventKind::Gap => Some(Class::Gap),
        EventKind::Error => Some(Class::Error),
        _ => None,
    }
}

/// What an event weighs in memory, about.
fn weight(event: &Event) -> usize {
    if event.kind == EventKind::Log {
        return 0;
    }
    let text = |s: &Option<String>| s.as_ref().map_or(0, String::capacity);
    let mut sum = size_of::<Event>()
        + text(&event.item_id)
        + text(&event.change_key)
        + text(&event.folder_id)
        + text(&event.parent_folder_id)
        + text(&event.old_item_id)
        + text(&event.old_folder_id)
        + text(&event.old_parent_folder_id);
    if let Some(item) = &event.item {
        sum += size_of_val(&**item)
            + text(&item.subject)
            + text(&item.from)
            + item.to.iter().map(|t| size_of::<String>() + t.capacity()).sum::<usize>()
            + text(&item.received)
            + text(&item.message_id)
            + text(&item.mime_path);
        for a in &item.attachments {
            sum += size_of_val(a) + text(&a.id) + text(&a.name) + text(&a.content_type);
        }
    }
    if let Some(detail) = &event.detail {
        sum += size_of_val(&**detail) + text(&detail.code) + text(&detail.message);
    }
    sum
}
