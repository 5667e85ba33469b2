//! Content for events: what is asked for, in turns of the watches, and what came of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use super::backoff::Backoff;
use super::hold::Held;
use super::legacy_ids::{Asked, LEGACY_ID};
use super::timers::Timer;
use super::verdict::{self, Verdict};
use super::{Answer, Engine, Job};
use crate::event::{Content, ItemContent, Spooled};
use crate::proto::{Id, Item, Mailbox, Request};
use crate::{Error, ErrorKind, Fetch};

/// How often an item is asked for in all.
const TRIES: u32 = 6;
/// How many summaries one question asks for: what Microsoft's documentation recommends.
const BATCH: usize = 10;

/// Names a fetch of an item.
pub(super) type FetchId = u64;

/// An item to be fetched.
#[derive(Debug)]
pub(super) struct Wanted {
    pub watch: u64,
    pub id: Id,
    /// The id was in the form of Exchange 2007, and is not converted a second time.
    pub converted: bool,
    mime: bool,
    /// The MIME was asked for and cannot be had: what the host is told of that.
    without_mime: Option<(Content, String)>,
    pub sent: bool,
    /// It has moved since it was asked for.
    pub moved: bool,
    backoff: Backoff,
}

/// The fetches of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    /// By watch, in the order of its events.
    queues: BTreeMap<u64, Queue>,
    /// The watch that was served last.
    last: u64,
    /// To be tried again then.
    pub later: BTreeSet<(Duration, FetchId)>,
    /// Questions under way.
    pub in_flight: usize,
}

/// What a watch asks for.
#[derive(Debug)]
struct Queue {
    mime: bool,
    items: VecDeque<FetchId>,
}

impl Engine {
    /// An item is to be fetched.
    pub(super) fn want(&mut self, watch: u64, id: Id) -> FetchId {
        self.next_fetch += 1;
        let fetch = self.next_fetch;
        let Some(w) = self.watches.get(&watch) else { return fetch };
        let (mime, endpoint) = (w.spec.fetch == Fetch::Mime, w.spec.endpoint);
        let item = Wanted {
            watch,
            id,
            converted: false,
            mime,
            without_mime: None,
            sent: false,
            moved: false,
            backoff: Backoff::default(),
        };
        self.items.insert(fetch, item);
        let queue = self.endpoint(endpoint).fetches.queues.entry(watch);
        queue.or_insert_with(|| Queue { mime, items: VecDeque::new() }).items.push_back(fetch);
        self.dirty_fetches.insert(endpoint);
        fetch
    }

    /// Asks for as many items as may be under way, in turns of the watches.
    pub(super) fn pump_fetches(&mut self, endpoint: u32) {
        let now = self.now.mono;
        let most = self.settings.fetches.max(1);
        let (shut, full) = (self.gate_shut(endpoint), self.spool_full);
        let gated = self.gated(endpoint);
        let fetches = &mut self.endpoint(endpoint).fetches;
        if fetches.queues.is_empty() && fetches.later.is_empty() {
            return self.timers.clear(Timer::Fetch(endpoint));
        }
        if let Some(at) = shut {
            return self.timers.set(Timer::Fetch(endpoint), at);
        }
        loop {
            let held_up = if full { self.with_messages_ahead() } else { BTreeSet::new() };
            let fetches = &mut self.endpoints.entry(endpoint).or_default().fetches;
            if fetches.in_flight >= most {
                break;
            }
            let asked = fetches.next(now, &held_up, |watch| gated.contains_key(&watch), &self.items);
            if asked.is_empty() {
                break;
            }
            let (mut fetches, mut ids) = (Vec::new(), Vec::new());
            let (mut watch, mut mime) = (0, false);
            for fetch in asked {
                let Some(item) = self.items.get_mut(&fetch) else { continue };
                item.sent = true;
                item.moved = false;
                (watch, mime) = (item.watch, item.mime && item.without_mime.is_none());
                ids.push(item.id.clone());
                fetches.push(fetch);
            }
            if !ids.is_empty() {
                self.endpoint(endpoint).fetches.in_flight += 1;
                self.call_at(
                    watch,
                    endpoint,
                    Job::Fetch(fetches),
                    Request::GetItem { items: ids, mime },
                    None,
                );
            }
        }
        let is_gated = |fetch| self.items.get(fetch).is_some_and(|item| gated.contains_key(&item.watch));
        let later = self.endpoints.get(&endpoint).map(|e| &e.fetches.later);
        let later =
            later.and_then(|later| later.iter().find(|(_, fetch)| !is_gated(fetch))).map(|(at, _)| *at);
        match later.into_iter().chain(gated.values().copied()).min() {
            Some(at) if at > now => self.timers.set(Timer::Fetch(endpoint), at),
            _ => self.timers.clear(Timer::Fetch(endpoint)),
        }
    }

    /// The watches that have messages ahead of the host: while the spool is full, no more is begun for them. Another's first
    /// one is, or a mailbox that waits for its slow host would keep all others waiting too.
    fn with_messages_ahead(&self) -> BTreeSet<u64> {
        let mut ahead: BTreeSet<u64> =
            self.items.values().filter(|i| i.sent && i.mime).map(|i| i.watch).collect();
        ahead.extend(self.delivery.with_messages());
        let is_message = |held: &Held| matches!(held, Held::Ready(event) if event.has_message());
        let held = self.watches.iter().filter(|(_, w)| w.hold.iter().any(is_message));
        ahead.extend(held.map(|(watch, _)| *watch));
        ahead
    }

    /// The host has taken messages, or has not.
    pub(super) fn spool_full(&mut self, full: bool) {
        self.spool_full = full;
        if !full {
            self.dirty_fetches.extend(self.endpoints.keys());
        }
    }

    /// The answer for some items came, or none came.
    pub(super) fn fetched(&mut self, endpoint: u32, asked: Vec<FetchId>, result: Result<Answer, Error>) {
        let now = self.now.mono;
        let fetches = &mut self.endpoint(endpoint).fetches;
        fetches.in_flight = fetches.in_flight.saturating_sub(1);
        self.dirty_fetches.insert(endpoint);
        match (asked.as_slice(), result) {
            (asked, Ok(Answer::Items(items))) if items.len() == asked.len() => {
                for (fetch, result) in asked.iter().zip(items) {
                    self.item_fetched(endpoint, *fetch, result.map(|item| item_content(item, None)));
                }
            }
            (&[fetch], Ok(Answer::Message { item, mime })) => {
                self.item_fetched(endpoint, fetch, Ok(item_content(*item, mime)));
            }
            (&[fetch], Ok(Answer::NotKept { content, message })) => {
                // What else is known of it is asked for without.
                if let Some(item) = self.items.get_mut(&fetch) {
                    item.without_mime = Some((content, message));
                    item.backoff.reset();
                    self.endpoint(endpoint).fetches.later.insert((now, fetch));
                }
            }
            (&[fetch], Err(error)) => self.item_fetched(endpoint, fetch, Err(error)),
            (&[fetch], Ok(_)) => {
                let text = "the answer is not of the request's kind";
                self.item_fetched(endpoint, fetch, Err(Error::new(ErrorKind::Protocol, text)));
            }
            (asked, result) => {
                let tokenless = result.as_ref().err().and_then(tokenless);
                // Each is asked for alone then: one that the server cannot bear must not cost the others.
                let wait = result.err().and_then(|error| {
                    let refused = verdict::of_error(&error) == Verdict::Refused;
                    refused.then_some(verdict::REFUSED_WAIT).max(error.retry_after())
                });
                for fetch in asked {
                    if let Some(item) = self.items.get_mut(fetch) {
                        let at = now + tokenless.unwrap_or_else(|| item.backoff.next(&mut self.rng, wait));
                        self.endpoint(endpoint).fetches.later.insert((at, *fetch));
                    }
                }
            }
        }
    }

    pub(super) fn item_fetched(&mut self, endpoint: u32, fetch: FetchId, result: Result<ItemContent, Error>) {
        let now = self.now.mono;
        let Some(item) = self.items.get_mut(&fetch) else { return };
        let (content, message) = match result {
            Ok(mut content) => {
                let why = item.without_mime.take().map(|(without, why)| {
                    content.content = Some(without);
                    why
                });
                (content, why)
            }
            Err(error)
                if error.code() == Some(LEGACY_ID) && !std::mem::replace(&mut item.converted, true) =>
            {
                let (watch, id) = (item.watch, item.id.id.clone());
                self.convert(watch, endpoint, id, Asked::Fetch(fetch));
                return;
            }
            Err(error) => {
                if let Some(wait) = tokenless(&error) {
                    self.endpoint(endpoint).fetches.later.insert((now + wait, fetch));
                    return;
                }
                let verdict = verdict::of_error(&error);
                let again = match verdict {
                    // The answer is about what it was called before.
                    Verdict::ItemGone if std::mem::take(&mut item.moved) => {
                        self.endpoint(endpoint).fetches.later.insert((now, fetch));
                        return;
                    }
                    _ if error.is_too_large() => false,
                    Verdict::ItemUnreadable if item.mime && item.without_mime.is_none() => {
                        item.without_mime = Some((Content::Unreadable, error.to_string()));
                        item.backoff.reset();
                        true
                    }
                    Verdict::Refused => item.backoff.failures() < 2,
                    Verdict::Retry | Verdict::RetryThenStop => item.backoff.failures() + 1 < TRIES,
                    _ => false,
                };
                if again {
                    let asked = (verdict == Verdict::Refused)
                        .then_some(verdict::REFUSED_WAIT)
                        .max(error.retry_after());
                    let at = now + item.backoff.next(&mut self.rng, asked);
                    self.endpoint(endpoint).fetches.later.insert((at, fetch));
                    return;
                }
                let (content, why) = match (verdict, item.without_mime.take()) {
                    (Verdict::ItemGone, _) => (Content::Gone, None),
                    (_, Some((content, why))) => (content, Some(why)),
                    _ if error.is_too_large() => (Content::TooLarge, Some(error.to_string())),
                    (Verdict::ItemUnreadable, _) => (Content::Unreadable, Some(error.to_string())),
                    _ => (Content::Unavailable, Some(error.to_string())),
                };
                (only(content), why)
            }
        };
        let watch = item.watch;
        self.items.remove(&fetch);
        self.fill(watch, fetch, &content, message);
        self.flush(watch);
    }

    /// Forgets the fetches of a watch that is no more. What is under way comes back and is dropped.
    pub(super) fn forget_fetches(&mut self, watch: u64) {
        let Some(w) = self.watches.get(&watch) else { return };
        let endpoint = w.spec.endpoint;
        let fetches: BTreeSet<FetchId> = match w.hold.is_empty() && w.spec.fetch == Fetch::None {
            true => return,
            false => self.items.iter().filter(|(_, i)| i.watch == watch).map(|(f, _)| *f).collect(),
        };
        self.items.retain(|f, _| !fetches.contains(f));
        let all = &mut self.endpoint(endpoint).fetches;
        all.queues.remove(&watch);
        all.later.retain(|(_, f)| !fetches.contains(f));
    }
}

impl Wanted {
    /// The item has moved: it is asked for as it is called now.
    pub fn renamed(&mut self, watch: u64, old: &str, new: &str) {
        if self.watch == watch && self.id.id == old {
            self.id = Id { id: new.to_owned(), change_key: None };
            self.moved = self.sent;
        }
    }
}

impl Fetches {
    /// What to ask for next, all of one watch: first what is to be tried again, which is asked for alone, then the watches in
    /// turn, but nothing for those whose gates are shut. No message is begun for those that are `held_up`; what was begun keeps
    /// its place and may be tried again, since what is in the spool already may stand behind it.
    fn next(
        &mut self,
        now: Duration,
        held_up: &BTreeSet<u64>,
        is_gated: impl Fn(u64) -> bool,
        items: &BTreeMap<FetchId, Wanted>,
    ) -> Vec<FetchId> {
        let may_go = |fetch| items.get(fetch).is_none_or(|item| !is_gated(item.watch));
        let due =
            self.later.iter().take_while(|(at, _)| *at <= now).find(|(_, fetch)| may_go(fetch)).copied();
        if let Some((at, fetch)) = due {
            self.later.remove(&(at, fetch));
            return vec![fetch];
        }
        let after = self.queues.range((Bound::Excluded(self.last), Bound::Unbounded));
        let mut turns = after.chain(self.queues.range(..=self.last));
        let waits = |watch: u64, queue: &Queue| is_gated(watch) || (queue.mime && held_up.contains(&watch));
        let Some(watch) = turns.find(|(watch, queue)| !waits(**watch, queue)).map(|(watch, _)| *watch) else {
            return Vec::new();
        };
        self.last = watch;
        let Some(queue) = self.queues.get_mut(&watch) else { return Vec::new() };
        let most = if queue.mime { 1 } else { BATCH.min(queue.items.len()) };
        let asked = queue.items.drain(..most).collect();
        if queue.items.is_empty() {
            self.queues.remove(&watch);
        }
        asked
    }
}

pub(super) fn only(content: Content) -> ItemContent {
    ItemContent { content: Some(content), ..ItemContent::default() }
}

/// What the host is told of an item.
pub fn item_content(item: Item, mime: Option<Spooled>) -> ItemContent {
    ItemContent {
        content: Some(Content::Ok),
        subject: item.subject,
        from: item.from.and_then(address),
        to: item.to.into_iter().filter_map(address).collect(),
        received: item.received,
        message_id: item.message_id,
        size: item.size,
        is_read: item.is_read,
        attachments: item.attachments,
        mime_path: mime.as_ref().map(|file| file.path().to_string_lossy().into_owned()),
        spooled: mime,
    }
}

/// `Name <address>`, or the one of the two that is there.
fn address(mailbox: Mailbox) -> Option<String> {
    let some = |text: Option<String>| text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    match (some(mailbox.name), some(mailbox.address)) {
        (Some(name), Some(address)) if name != address => Some(format!("{name} <{address}>")),
        (name, address) => address.or(name),
    }
}

/// How long to wait where there was no token: nothing was asked, so it is no try.
fn tokenless(error: &Error) -> Option<Duration> {
    error.is_no_token().then(|| error.retry_after().unwrap_or(Duration::from_secs(1)))
}
