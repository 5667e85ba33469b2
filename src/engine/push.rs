//! Push: what the server sends by itself is handed out as what a stream tells.
//!
//! Each notification names the watermark that it goes on from. Where that is the last one handled, nothing was missed; a repeat
//! is a retry, and ignored; anything else is a gap, which sync fills. Nothing at all for twice `StatusFrequency`, and the
//! subscription is taken for dead. A push subscription cannot be taken off the server by a call: its notifications are
//! answered with `Unsubscribe`, as are those of subscriptions that nobody here has.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use super::folder::Digest;
use super::tell::detail;
use super::timers::Timer;
use super::watch::{Phase, Step};
use super::{Command, Engine, Now, WatchMode};
use crate::event::Detail;
use crate::proto::{NoticeKind, Notification, PushReply, Response};
use crate::{Error, ErrorKind, EventKind, Reason};

/// Of so many notifications the newest watermark is remembered: a server repeats the last one only, others may replay older ones.
const MARKS: usize = 32;
/// So many notifications, and events in them, may come before the answer to their Subscribe does.
const EARLY: usize = 256;
const EARLY_EVENTS: usize = 10_000;
/// The server does not remember so far back.
const BAD_WATERMARK: &str = "ErrorInvalidWatermark";
/// A server checks the URL at once. After so long without a word the host is told that it does not reach us.
const FIRST: Duration = Duration::from_secs(120);

/// What is to be answered to a `SendNotification`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushAnswer {
    /// This, with status 200.
    Reply(PushReply),
    /// There is no room now: status 503, and the server sends it again.
    Later,
}

/// What became of a message of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PushOutcome {
    /// Its events were taken.
    Taken,
    /// It came before: nothing of it was taken.
    Repeated,
    /// It came behind one that it should have come before; its events were taken.
    Late,
    /// Something before it did not come, and a gap was told. Its events were taken.
    Gap,
    /// It told of an error: the subscription is gone, and a new one is made.
    Lost,
    /// The answer to the Subscribe that it may belong to has not come: it is kept until then.
    Early,
    /// Nobody here has that subscription.
    Unknown,
    /// Too many came before the answer to their Subscribe.
    NoRoom,
}

/// A message of a push.
#[derive(Clone, Debug)]
pub struct PushPart {
    /// Its subscription, if it names one.
    pub subscription: Option<String>,
    /// Whose it is.
    pub watch: Option<u64>,
    /// What became of it.
    pub outcome: PushOutcome,
    /// How many events of the mailbox are in it.
    pub events: usize,
}

/// What became of a push.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// What is to be answered.
    pub answer: PushAnswer,
    /// Its messages.
    pub parts: Vec<PushPart>,
}

/// The watches that hear by push.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    watches: BTreeMap<u64, State>,
    /// Whose each subscription is.
    ids: BTreeMap<String, u64>,
    /// What came before the answer to its Subscribe.
    early: VecDeque<(Notification, Option<Error>)>,
}

#[derive(Debug)]
struct State {
    id: Option<String>,
    /// When something came last.
    heard: Duration,
    /// The same by the wall's clock: what happened before that, the chain has told.
    sure: SystemTime,
    /// The newest watermarks of the notifications that were handled, the last one last.
    marks: VecDeque<Digest>,
    /// The host was told that the server does not reach us.
    told_unreached: bool,
    /// Where the next subscription is to go on from: the last watermark of the one before.
    resume: Option<String>,
    /// Something that the server sent since then was refused, and may have been of this one.
    refused: bool,
}

/// How a notification fits to what was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// It goes on from there, behind so many of its own events.
    Next(usize),
    Repeat,
    Late,
    Break,
}

impl Engine {
    /// A watch begins that hears by push.
    pub(super) fn push_watch(&mut self, id: u64) {
        let (heard, sure) = (self.now.mono, self.now.wall);
        let (marks, resume) = (VecDeque::new(), None);
        let state = State { id: None, heard, sure, marks, told_unreached: false, resume, refused: false };
        self.pushes.watches.insert(id, state);
    }

    /// A watch has ended, and nothing of it is under way.
    pub(super) fn forget_push(&mut self, id: u64) {
        if let Some(State { id: Some(old), .. }) = self.pushes.watches.remove(&id) {
            self.pushes.let_go(id, &old);
        }
    }

    /// Its subscription is no more, or is another's; nobody waits for what comes of it.
    pub(super) fn push_ended(&mut self, id: u64, subscription: &str) {
        if self.pushes.watches.get(&id).is_some_and(|state| state.id.as_deref() == Some(subscription)) {
            self.timers.clear(Timer::Push(id));
        }
        self.pushes.let_go(id, subscription);
    }

    /// A push subscription that is not wanted any more; false for another kind. It ends by the answer to what it tells next.
    pub(super) fn unpush(&mut self, watch: u64, subscription: &str) -> bool {
        if !self.pushes.watches.contains_key(&watch) {
            return false;
        }
        self.push_ended(watch, subscription);
        self.out.push_back(Command::Unwanted(subscription.to_owned()));
        true
    }

    /// Its subscription stands: the server is to send something at once, and may have done so already.
    pub(super) fn push_begins(&mut self, id: u64) {
        let now = self.now;
        let Some(w) = self.watches.get_mut(&id).filter(|w| matches!(w.spec.mode, WatchMode::Push { .. }))
        else {
            return;
        };
        let Some(s) = &w.subscription else { return };
        let (subscription, mark) = (s.id.clone(), s.watermark.as_deref().map(Digest::of));
        w.phase = Phase::Pushed;
        let Some(state) = self.pushes.watches.get_mut(&id) else { return };
        let old = state.id.replace(subscription.clone());
        (state.heard, state.sure, state.resume) = (now.mono, w.certain, None);
        state.marks = mark.into_iter().collect();
        if let Some(old) = old {
            self.pushes.let_go(id, &old);
        }
        self.pushes.ids.insert(subscription.clone(), id);
        self.out.push_back(Command::Wanted(subscription.clone()));
        self.watch_silence(id);
        let early = std::mem::take(&mut self.pushes.early);
        let (ours, others): (VecDeque<_>, _) =
            early.into_iter().partition(|(n, _)| n.subscription_id == subscription);
        self.pushes.early = others;
        for (notification, error) in ours {
            self.known_push(id, notification, error);
        }
        self.let_early_go();
    }

    /// What belongs to nobody who is about to be subscribed belongs to nobody.
    fn let_early_go(&mut self) {
        if !self.is_subscribing_push() {
            self.pushes.early.clear();
        }
    }

    fn is_subscribing_push(&self) -> bool {
        let mut pushed = self.pushes.watches.keys().filter_map(|id| self.watches.get(id));
        pushed.any(|w| matches!(w.phase, Phase::Calling(Step::Subscribe, _)))
    }

    /// What a server has sent: a `SendNotification`, whose answer this says. It says so at once: whatever takes time follows.
    pub fn pushed(&mut self, now: Now, messages: Vec<Response<Option<Notification>>>) -> Pushed {
        self.now = now;
        let parts: Vec<PushPart> = messages.into_iter().map(|m| self.push_message(m)).collect();
        if !self.closing {
            self.finish_input();
        }
        let any = |outcome| parts.iter().any(|p| p.outcome == outcome);
        let answer = match () {
            () if any(PushOutcome::NoRoom) => PushAnswer::Later,
            // Here too where the error says that it is gone: should it not be, it is to go.
            () if parts.iter().all(|p| p.outcome == PushOutcome::Unknown) => {
                PushAnswer::Reply(PushReply::Unsubscribe)
            }
            () => PushAnswer::Reply(PushReply::Ok),
        };
        Pushed { answer, parts }
    }

    /// Something that a server has sent was refused, and would be again: it is larger than we take, or not understood. Whose it was is not
    /// known. Where nothing more comes of a subscription, a new one must not go on from the same watermark: the server would send
    /// the same again, for ever.
    pub fn push_refused(&mut self) {
        self.pushes.watches.values_mut().for_each(|state| state.refused = true);
    }

    fn push_message(&mut self, message: Response<Option<Notification>>) -> PushPart {
        let error = message.error("SendNotification");
        let Some(notification) = message.body else { return self.nameless_push(error) };
        let subscription = notification.subscription_id.clone();
        let events = notification.notices.iter().filter(|n| n.kind != NoticeKind::Status).count();
        let watch = self.whose_push(&subscription).filter(|_| !self.closing);
        let outcome = match watch {
            Some(watch) => self.known_push(watch, notification, error),
            None if self.closing || !self.is_subscribing_push() => {
                self.pushes.early.clear();
                PushOutcome::Unknown
            }
            None => {
                let waiting: usize = self.pushes.early.iter().map(|(n, _)| n.notices.len()).sum();
                match self.pushes.early.len() < EARLY && waiting + events <= EARLY_EVENTS {
                    true => {
                        self.pushes.early.push_back((notification, error));
                        PushOutcome::Early
                    }
                    false => PushOutcome::NoRoom,
                }
            }
        };
        PushPart { subscription: Some(subscription), watch, outcome, events }
    }

    /// Whose subscription it is now.
    fn whose_push(&self, subscription: &str) -> Option<u64> {
        let watch = *self.pushes.ids.get(subscription)?;
        let current = self.watches.get(&watch)?.subscription.as_ref()?;
        (current.id == subscription).then_some(watch)
    }

    /// A message without a notification, which errors may lack, does not say whose it is. Of one watch that is clear; of several,
    /// the one that it is about falls silent, which is noticed.
    fn nameless_push(&mut self, error: Option<Error>) -> PushPart {
        let part = |watch, outcome| PushPart { subscription: None, watch, outcome, events: 0 };
        if self.closing {
            return part(None, PushOutcome::Unknown);
        }
        let error = error.unwrap_or_else(|| {
            Error::new(ErrorKind::Protocol, "SendNotification: a message of success has no Notification")
        });
        let ids: Vec<u64> = self.pushes.ids.values().copied().collect();
        let [watch] = ids[..] else {
            let mut told = detail(&error, None);
            told.message = Some(format!("{error}; the server does not say for which mailbox"));
            let mut event = crate::Event::new(EventKind::Error, 0, "".into(), self.now.wall);
            event.detail = Some(Box::new(told));
            self.push(event);
            return part(None, if ids.is_empty() { PushOutcome::Unknown } else { PushOutcome::Lost });
        };
        self.push_lost(watch, Reason::SubscriptionLost, &error);
        part(Some(watch), PushOutcome::Lost)
    }

    fn known_push(&mut self, id: u64, mut notification: Notification, error: Option<Error>) -> PushOutcome {
        let now = self.now;
        if let Some(error) = error {
            self.push_lost(id, Reason::SubscriptionLost, &error);
            return PushOutcome::Lost;
        }
        let head =
            self.watches.get(&id).and_then(|w| w.subscription.as_ref()).and_then(|s| s.watermark.clone());
        let Some(state) = self.pushes.watches.get_mut(&id) else { return PushOutcome::Unknown };
        let link = link(head.as_deref(), &notification, &state.marks);
        state.heard = now.mono;
        let sure = match link {
            // It was written after our last answer, and tells of all that had happened before that.
            Link::Next(_) if !notification.more_events => Some(std::mem::replace(&mut state.sure, now.wall)),
            _ => None,
        };
        let last = notification.notices.iter().rev().find(|n| n.watermark.is_some());
        let newest = last.and_then(|n| n.watermark.clone());
        // A sign of life behind a break has the watermark of what did not come, and may yet.
        let tells = last
            .is_some_and(|n| n.kind != NoticeKind::Status || (link != Link::Break && n.watermark != head));
        if let Some(mark) = newest.as_deref().map(Digest::of).filter(|m| tells && !state.marks.contains(m)) {
            state.marks.push_back(mark);
            if state.marks.len() > MARKS {
                state.marks.pop_front();
            }
        }
        if matches!(link, Link::Next(_) | Link::Break) {
            // A server sends one after the other: what was refused was another one's, or is told as missing.
            state.refused = false;
        }
        self.watch_silence(id);
        self.connected(id, Duration::ZERO);
        let Some(w) = self.watches.get_mut(&id) else { return PushOutcome::Unknown };
        w.worked();
        w.certain = w.certain.max(sure.unwrap_or(w.certain));
        if let (Link::Next(_) | Link::Break, Some(s)) = (link, &mut w.subscription) {
            s.watermark = newest.or(s.watermark.take());
        }
        let outcome = match link {
            Link::Next(known) => {
                notification.notices.drain(..known);
                PushOutcome::Taken
            }
            Link::Repeat => return PushOutcome::Repeated,
            Link::Late => PushOutcome::Late,
            Link::Break => {
                let text =
                    "a notification goes on from another one than the last that came: some did not come";
                self.tell_gap(id, Reason::NotificationLost, Some(text.into()));
                PushOutcome::Gap
            }
        };
        self.deliver(id, notification, now.wall);
        outcome
    }

    /// Sets the timer for what is to be done if nothing comes.
    fn watch_silence(&mut self, id: u64) {
        let Some(silence) = self.push_silence(id) else { return };
        let Some(state) = self.pushes.watches.get(&id) else { return };
        let connected = self.watches.get(&id).is_some_and(|w| w.connected.is_some());
        let first = (!connected && !state.told_unreached).then_some(FIRST);
        let at = state.heard + first.map_or(silence, |first| first.min(silence));
        self.timers.set(Timer::Push(id), at);
    }

    fn push_silence(&self, id: u64) -> Option<Duration> {
        match self.watches.get(&id)?.spec.mode {
            WatchMode::Push { silence, .. } => Some(silence),
            _ => None,
        }
    }

    /// Nothing has come for a while.
    pub(super) fn push_is_silent(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(silence) = self.push_silence(id) else { return };
        let Some(state) = self.pushes.watches.get_mut(&id) else { return };
        if now >= state.heard + silence {
            let text = format!(
                "nothing has come for {}: the subscription has died without a word, or the server does not reach push_url",
                humantime::format_duration(Duration::from_secs(silence.as_secs().max(1)))
            );
            state.told_unreached = false;
            return self.push_lost(id, Reason::IdleTimeout, &Error::new(ErrorKind::Timeout, text));
        }
        let first = now >= state.heard + FIRST && !std::mem::replace(&mut state.told_unreached, true);
        if first && self.watches.get(&id).is_some_and(|w| w.connected.is_none()) {
            let message = "the server has taken the subscription and sent nothing yet: can it reach push_url, through its own \
                           proxy and a firewall, and does it trust the certificate there?";
            let detail = Detail { message: Some(message.into()), ..Detail::default() };
            self.tell(id, EventKind::Error, detail);
        }
        self.watch_silence(id);
    }

    /// Where a subscription is to go on from, so that also those are told of what was missed who do not sync.
    pub(super) fn push_resume(&self, id: u64) -> Option<String> {
        self.pushes.watches.get(&id)?.resume.clone()
    }

    /// A Subscribe has failed: whether because of where it was to go on from, which is too long ago.
    pub(super) fn cannot_resume(&mut self, id: u64, error: &Error) -> bool {
        let Some(state) = self.pushes.watches.get_mut(&id) else { return false };
        error.code() == Some(BAD_WATERMARK) && state.resume.take().is_some()
    }

    /// The subscription is of no use any more. Should the server still have it, its next notification is answered so.
    fn push_lost(&mut self, id: u64, reason: Reason, error: &Error) {
        let Some(s) = self.watches.get(&id).and_then(|w| w.subscription.as_ref()) else { return };
        let head = s.watermark.clone();
        let Some(state) = self.pushes.watches.get_mut(&id) else { return };
        if !std::mem::take(&mut state.refused) {
            state.resume = head;
            return self.lost(id, reason, error, true);
        }
        // From now on, and sync finds what was in it.
        state.resume = None;
        let text = format!(
            "{error}; something that the server had sent was refused, so the new subscription does not ask for it again"
        );
        self.lost(id, Reason::NotificationLost, &Error::new(error.kind(), text), true);
    }
}

impl Pushes {
    /// An id is no longer a watch's. A server that began anew may have given it to another one.
    fn let_go(&mut self, watch: u64, id: &str) {
        if self.ids.get(id) == Some(&watch) {
            self.ids.remove(id);
        }
    }
}

/// How a notification fits behind the head of what was handled.
fn link(head: Option<&str>, notification: &Notification, marks: &VecDeque<Digest>) -> Link {
    let own: Vec<&str> = notification.notices.iter().filter_map(|n| n.watermark.as_deref()).collect();
    let (Some(head), Some(previous)) = (head, notification.previous_watermark.as_deref()) else {
        // A server without watermarks: there is nothing to see.
        return Link::Next(0);
    };
    let is_status = notification.notices.iter().all(|n| n.kind == NoticeKind::Status);
    let handled = |mark: &str| marks.contains(&Digest::of(mark));
    match own.last() {
        _ if head == previous => Link::Next(0),
        Some(newest) if handled(newest) || (*newest == head && is_status) => Link::Repeat,
        // A retry to which the server has added what happened meanwhile.
        Some(_) if own.len() == notification.notices.len() && own.contains(&head) && handled(head) => {
            Link::Next(own.iter().rposition(|mark| *mark == head).map_or(0, |at| at + 1))
        }
        _ if handled(previous) => Link::Late,
        _ => Link::Break,
    }
}
