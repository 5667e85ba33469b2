//! Push subscriptions: what is sent to their URLs when, what becomes of it, and how they end.
//!
//! As documented: a sign of life at once and after each StatusFrequency of silence; what is not answered is sent again after 30 s,
//! a minute, two and so on, until StatusFrequency is used up, and then the subscription is gone. `Unsubscribe` ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Exchange;
use super::ids;
use super::note::Note;
use super::settings::Fate;
use super::subscription::Mode;
use super::world::{World, told};
use super::write;

/// A notification to be sent to a URL.
#[derive(Debug)]
pub struct Post {
    /// Where to.
    pub url: String,
    /// The SOAP envelope.
    pub body: Vec<u8>,
    /// Whose it is.
    pub subscription: String,
    /// What is to go wrong with it.
    pub fault: Option<PushFault>,
    attempt: u64,
}

/// What came of a [`Post`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It was answered with `OK`.
    Ok,
    /// It was answered with `Unsubscribe`.
    Unsubscribe,
    /// No answer, or none that is one.
    Failed,
}

/// What can go wrong with a notification of events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushFault {
    /// It is not sent, and taken for answered: a proxy answers in the receiver's name.
    Lost,
    /// It is sent, and its answer does not come back: it is sent again.
    Unanswered,
    /// It is sent twice.
    Repeated,
    /// It is sent after the next one.
    Held,
    /// Half of it is sent, and then the whole.
    Cut,
    /// An error with this code is sent in its place, and the subscription is gone; whether the error carries a Notification.
    Error(String, bool),
}

/// How a push subscription stands.
#[derive(Debug)]
pub(super) struct Hook {
    url: String,
    minutes: u32,
    /// Up to which event of the mailbox everything was answered for.
    mark: u64,
    sending: Option<Sending>,
    /// When a sign of life, or the next attempt, is due.
    due: Instant,
    /// Since when it fails, and how often it has.
    failing: Option<(Instant, u32)>,
    /// Names the attempt that is under way.
    under_way: Option<u64>,
}

/// What is being sent until it is answered.
#[derive(Debug)]
struct Sending {
    body: Vec<u8>,
    to: u64,
    notes: Vec<Note>,
}

impl Hook {
    pub(super) fn new(url: &str, minutes: u32, from: u64, now: Instant) -> Hook {
        Hook {
            url: url.to_owned(),
            minutes,
            mark: from,
            sending: None,
            due: now,
            failing: None,
            under_way: None,
        }
    }

    /// The events that were not answered for.
    pub(super) fn pending<'w>(
        &'w self,
        table: impl Iterator<Item = &'w Note>,
    ) -> impl Iterator<Item = &'w Note> {
        let mark = self.mark;
        table.filter(move |note| note.seq > mark)
    }
}

impl World {
    /// The next notification that is due, or when one will be.
    fn take_push(&mut self) -> Result<Post, Option<Instant>> {
        self.bury();
        let now = self.now();
        let mut next: Option<Instant> = None;
        let ids: Vec<String> = self.hooks.keys().cloned().collect();
        for id in ids {
            let (Some(hook), Some(subscription)) = (self.hooks.get(&id), self.subscriptions.get(&id)) else {
                continue;
            };
            let Some(mailbox) = self.mailboxes.get(&subscription.mailbox) else { continue };
            if hook.under_way.is_some() {
                continue;
            }
            let heard = |note: &&Note| !subscription.deaf && subscription.wants(note);
            let fresh = hook.sending.is_none() && hook.pending(mailbox.table.iter()).any(|note| heard(&note));
            if !fresh && hook.due > now {
                next = [next, Some(hook.due)].into_iter().flatten().min();
                continue;
            }
            let sending = match &hook.sending {
                // What is sent again has had its fault.
                Some(sending) => (sending.body.clone(), false),
                None => {
                    let batch = self.settings.batch;
                    let mut notes: Vec<Note> =
                        hook.pending(mailbox.table.iter()).filter(heard).take(batch + 1).cloned().collect();
                    let more = notes.len() > batch;
                    notes.truncate(batch);
                    let last = if subscription.deaf { hook.mark } else { mailbox.last_event() };
                    let to = notes.last().map_or(last, |n| n.seq);
                    let events = match notes.as_slice() {
                        [] => format!(
                            "<t:StatusEvent>{}</t:StatusEvent>",
                            write::leaf("Watermark", &ids::watermark(mailbox.guid, to))
                        ),
                        notes => write::events(self.style, mailbox.guid, notes, true, ""),
                    };
                    let previous = ids::watermark(mailbox.guid, hook.mark);
                    let body = write::push(None, &write::push_notification(&id, &previous, more, &events));
                    let may_fail = !notes.is_empty();
                    let sending = Sending { body: body.clone(), to, notes };
                    if let Some(hook) = self.hooks.get_mut(&id) {
                        hook.sending = Some(sending);
                    }
                    (body, may_fail)
                }
            };
            let (mut body, may_fail) = sending;
            let fault = if may_fail { self.push_faults.pop_front() } else { None };
            if let Some(PushFault::Error(code, whole)) = &fault {
                let previous = self.hooks.get(&id).map(|h| h.mark).unwrap_or_default();
                let guid =
                    self.subscriptions.get(&id).and_then(|s| self.mailboxes.get(&s.mailbox)).map(|m| m.guid);
                let mark = ids::watermark(guid.unwrap_or_default(), previous);
                let status = format!("<t:StatusEvent>{}</t:StatusEvent>", write::leaf("Watermark", &mark));
                let inside =
                    if *whole { write::push_notification(&id, &mark, false, &status) } else { String::new() };
                body = write::push(Some(code), &inside);
            }
            self.attempts += 1;
            let attempt = self.attempts;
            let Some(hook) = self.hooks.get_mut(&id) else { continue };
            hook.under_way = Some(attempt);
            return Ok(Post { url: hook.url.clone(), body, subscription: id, fault, attempt });
        }
        Err(next)
    }

    fn pushed(&mut self, post: &Post, outcome: Posted) {
        let now = self.now();
        let (minute, retry) = (self.settings.push_minute, self.settings.push_retry);
        let Some(hook) = self.hooks.get_mut(&post.subscription) else { return };
        if hook.under_way.take_if(|attempt| *attempt == post.attempt).is_none() {
            return;
        }
        if matches!(post.fault, Some(PushFault::Error(..))) {
            return self.lose(&post.subscription);
        }
        let frequency = minute * hook.minutes;
        match outcome {
            Posted::Unsubscribe => self.lose(&post.subscription),
            Posted::Ok => {
                hook.failing = None;
                hook.due = now + frequency;
                if let Some(sending) = hook.sending.take() {
                    hook.mark = sending.to;
                    let fate = if post.fault == Some(PushFault::Lost) { Fate::Lost } else { Fate::Told };
                    self.write_down(&post.subscription, &sending.notes, fate, 0);
                }
            }
            Posted::Failed => {
                let (since, times) = hook.failing.unwrap_or((now, 0));
                hook.failing = Some((since, times + 1));
                hook.due = now + retry * (1 << times.min(20));
                if hook.due.saturating_duration_since(since) > frequency {
                    self.lose(&post.subscription);
                }
            }
        }
    }

    /// What a push subscription that ends has not told.
    pub(super) fn unhook(&mut self, id: &str) {
        let Some(hook) = self.hooks.remove(id) else { return };
        let Some(subscription) = self.subscriptions.get(id) else { return };
        let Some(mailbox) = self.mailboxes.get(&subscription.mailbox) else { return };
        let lost = hook.pending(mailbox.table.iter()).filter(|n| !subscription.deaf && subscription.wants(n));
        let lost: Vec<_> =
            lost.map(|note| told(self.style, &self.mailboxes, subscription, note, Fate::Lost, 0)).collect();
        self.ledger.extend(lost);
    }

    /// Push subscriptions are there.
    pub(super) fn hook(&mut self, id: &str, hook: Hook) {
        debug_assert!(self.subscriptions.get(id).is_some_and(|s| s.mode == Mode::Push));
        self.hooks.insert(id.to_owned(), hook);
    }
}

impl Exchange {
    /// Waits until a notification is due, or `wait` is over. What came of it is to be told by [`pushed`](Self::pushed).
    pub fn next_push(&self, wait: Duration) -> Option<Post> {
        let until = Instant::now() + wait;
        let mut world = self.lock();
        let wakes = world.wakes;
        loop {
            let due = match world.take_push() {
                Ok(post) => return Some(post),
                Err(due) => due,
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || world.wakes != wakes {
                return None;
            }
            let pause = due.map_or(left, |at| left.min(at.saturating_duration_since(world.now())));
            // Without a push subscription, only a new one matters.
            let changed = if world.hooks.is_empty() { &self.hooked } else { &self.changed };
            world = changed.wait_timeout(world, pause).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// What came of a notification.
    pub fn pushed(&self, post: &Post, outcome: Posted) {
        self.lock().pushed(post, outcome);
        self.changed.notify_all();
    }

    /// Lets something go wrong with the next notification of events. Several wait in line.
    pub fn fail_push(&self, fault: PushFault) {
        self.lock().push_faults.push_back(fault);
    }

    /// How many faults of pushes have not happened yet.
    pub fn waiting_push_faults(&self) -> usize {
        self.lock().push_faults.len()
    }
}

/// The push subscriptions, by id.
pub(super) type Hooks = BTreeMap<String, Hook>;
