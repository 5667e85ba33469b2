//! What goes wrong with a watch: failures of its steps, a lost subscription, a folder that is gone, its end.

use std::sync::Arc;
use std::time::Duration;

use super::paths::Search;
use super::tell::{TOLD_EVERY, detail};
use super::timers::Timer;
use super::verdict::{self, Verdict};
use super::watch::{Continuity, Phase, Step, Watch};
use super::{Call, Engine, WatchMode};
use crate::proto::RequestVersion;
use crate::{Error, ErrorKind, EventKind, Reason};

/// A loss of the subscription after so long a healthy time is not one of a row.
const HEALTHY: Duration = Duration::from_secs(60);
/// As `HEALTHY`, where an event came.
const HEALTHY_WITH_EVENT: Duration = Duration::from_secs(5);
/// The server allows no further subscription.
const TOO_MANY: &str = "ErrorExceededSubscriptionCount";
/// How long a server may take to forget subscriptions that are taken off it.
const FORSAKEN: Duration = Duration::from_secs(2);

impl Engine {
    /// A step's call failed.
    pub(super) fn step_failed(&mut self, id: u64, made: &Call, step: Step, error: Error) {
        self.not_preparing(id);
        if step == Step::Subscribe {
            self.scouted(id, false);
        }
        let verdict = match verdict::of_error(&error) {
            // Everybody answers, and nobody is Autodiscover: a wrong set-up, or for a while a page that asks for patience.
            Verdict::Retry if step == Step::Locate && error.kind() == ErrorKind::Protocol => Verdict::Refused,
            verdict => verdict,
        };
        let endpoint = made.endpoint;
        if step == Step::Poll {
            self.poll_doubts(id, &error);
        }
        if step == Step::Resume && self.cannot_go_on(id, &error) {
            return;
        }
        match verdict {
            Verdict::LowerVersion => {
                let last = match self.watches.get(&id).is_some_and(Watch::needs_2010) {
                    true if step == Step::Subscribe => RequestVersion::Exchange2010Sp1,
                    _ => RequestVersion::Exchange2007Sp1,
                };
                return match made.version > last && self.lower_version(endpoint, made.version) {
                    true => {
                        if let Some(w) = self.watches.get_mut(&id) {
                            w.search = Search::default();
                        }
                        self.due(id, step, Duration::ZERO);
                    }
                    false => self.stop(id, &error, verdict),
                };
            }
            Verdict::FolderGone => return self.folder_gone(id, &error),
            _ if step == Step::Subscribe && self.cannot_resume(id, &error) => {
                return self.due(id, step, Duration::ZERO);
            }
            _ if step == Step::Subscribe && error.code() == Some(TOO_MANY) && self.forsake(id) => {
                return self.due(id, step, FORSAKEN);
            }
            Verdict::Resubscribe | Verdict::Rediscover if step == Step::Poll => {
                return self.lost(id, Reason::SubscriptionLost, &error, false);
            }
            Verdict::Missed if step == Step::Poll => {
                self.connected(id, Duration::ZERO);
                self.tell_gap(id, Reason::MissedByServer, Some(error.to_string()));
            }
            Verdict::Stop | Verdict::ItemGone | Verdict::ItemUnreadable => {
                return self.stop(id, &error, verdict);
            }
            _ => {}
        }
        if verdict == Verdict::Rediscover {
            self.find_other_machine(id, &error);
            self.leave_group(id);
        }
        let Some(w) = self.watches.get_mut(&id) else { return };
        let may_go_on = match verdict {
            Verdict::Refused => w.may_be_refused(&error),
            Verdict::RetryThenStop => w.failures() < verdict::TRIES,
            _ => true,
        };
        if !may_go_on {
            return self.stop(id, &error, verdict);
        }
        let mut wait = self.wait_for(id, &error, verdict);
        match (verdict, self.watches.get(&id).map(|w| &w.spec.mode)) {
            // To ask less often than usual would only have the queue run over again.
            (Verdict::Missed, Some(WatchMode::Pull { interval, .. })) => {
                wait = wait.min((*interval).max(Duration::from_secs(1)));
            }
            (Verdict::Missed, _) => {}
            _ => self.tell_failure(id, &error, wait, step == Step::Poll),
        }
        self.due(id, self.step_after(id, &error, step), wait);
    }

    /// Takes the subscriptions of an earlier run, which was killed, off the server; false if there are none. Not before the
    /// server is full: an id can have passed to somebody else.
    fn forsake(&mut self, id: u64) -> bool {
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let (endpoint, ids) = (w.spec.endpoint, std::mem::take(&mut w.stored.subscriptions));
        for subscription in &ids {
            self.unsubscribe(id, endpoint, subscription.clone(), None);
        }
        !ids.is_empty()
    }

    /// The wait of a watch after a failure.
    fn wait_for(&mut self, id: u64, error: &Error, verdict: Verdict) -> Duration {
        let Some(w) = self.watches.get_mut(&id) else { return Duration::ZERO };
        let least = match verdict {
            Verdict::Refused => Some(verdict::REFUSED_WAIT),
            Verdict::Resubscribe | Verdict::Rediscover => Some(Duration::from_secs(1)),
            _ => verdict::least_wait(error.code()).map(Duration::from_secs),
        };
        w.backoff.next(&mut self.rng, least.max(error.retry_after()))
    }

    /// Tells the first failure of a row, and then each tenth.
    fn tell_failure(&mut self, id: u64, error: &Error, wait: Duration, link: bool) {
        let mono = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.failing = Some(verdict::reason(error));
        let (failures, endpoint, connected) = (w.failures(), w.spec.endpoint, w.connected.is_some());
        let at = self.gate_until(endpoint, id).unwrap_or(mono).max(mono + wait);
        let mut detail = detail(error, link.then(|| verdict::reason(error)));
        detail.retry_ms = Some((at - mono).as_millis() as u64);
        // Of the token that is awaited the host was told already.
        if error.awaits_token() && !link {
            return;
        }
        if link && (failures == 1 || connected) {
            return self.disconnected(id, detail);
        }
        if failures == 1 || failures.is_multiple_of(TOLD_EVERY) {
            detail.message = Some(format!("{error} (failure {failures} in a row, it is tried again)"));
            self.tell(id, EventKind::Error, detail);
        }
    }

    /// The subscription is of no use any more: a new one is made, after a pause if that happens again and again.
    pub(super) fn lost(&mut self, id: u64, reason: Reason, error: &Error, unsubscribe: bool) {
        let mono = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        let endpoint = w.spec.endpoint;
        let old = w.subscription.take();
        if let Some(s) = &old {
            let healthy = w.connected.map_or(Duration::ZERO, |since| mono.saturating_sub(since));
            if healthy >= HEALTHY || (s.told && mono.saturating_sub(s.at) >= HEALTHY_WITH_EVENT) {
                w.losses.reset();
            }
        }
        let asked = error.retry_after().max(verdict::least_wait(error.code()).map(Duration::from_secs));
        let wait = w.losses.next(&mut self.rng, asked);
        w.resubscribing = true;
        let failures = w.losses.failures();
        let mut detail = detail(error, Some(reason));
        detail.retry_ms = Some(wait.as_millis() as u64);
        if failures > 1 && failures.is_multiple_of(TOLD_EVERY) {
            let mut detail = detail.clone();
            detail.message = Some(format!("the subscription was lost {failures} times in a row: {error}"));
            self.tell(id, EventKind::Error, detail);
        }
        self.disconnected(id, detail);
        self.find_other_machine(id, error);
        self.leave_group(id);
        if let Some(w) = self.watches.get_mut(&id) {
            w.continuity = Continuity::Broken(reason);
            // Heartbeats have proved nothing, if the id was somebody else's already.
            w.certain = w.certain.min(w.proved);
        }
        match old {
            Some(s) if unsubscribe => self.unsubscribe(id, endpoint, s.id, s.route),
            Some(s) => self.push_ended(id, &s.id),
            None => {}
        }
        self.due(id, self.step_after(id, error, Step::Subscribe), wait);
    }

    /// The mailbox is not on its group's machine, or not any more.
    fn find_other_machine(&mut self, id: u64, error: &Error) {
        if let Some(w) = self.watches.get_mut(&id).filter(|_| verdict::of_error(error) == Verdict::Rediscover)
        {
            w.shunned = w.seat;
            w.cookies = Arc::default();
        }
    }

    /// What a watch does after this: where Autodiscover has found its server, it is asked again for a mailbox that is not there.
    fn step_after(&self, id: u64, error: &Error, step: Step) -> Step {
        let locates = self.watches.get(&id).is_some_and(|w| w.spec.locate);
        match locates && verdict::of_error(error) == Verdict::Rediscover {
            true => Step::Locate,
            false => step,
        }
    }

    /// One of the watch's folders is gone: which, GetFolder tells. A watch of one folder ends.
    pub(super) fn folder_gone(&mut self, id: u64, error: &Error) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.folders_gone += 1;
        let asking = matches!(w.phase, Phase::Calling(Step::Folders, _));
        if w.folders.len() < 2 || asking || w.folders_gone > 3 {
            return self.stop(id, error, Verdict::FolderGone);
        }
        if w.subscription.is_some() {
            self.lost(id, Reason::SubscriptionLost, error, true);
        }
        let wait = self.wait_for(id, error, Verdict::FolderGone);
        self.due(id, Step::Folders, wait);
    }

    /// Gives a watch up, loudly.
    pub(super) fn stop(&mut self, id: u64, error: &Error, verdict: Verdict) {
        let mut detail = detail(error, None);
        detail.message = Some(format!("{error}; the watch has ended: {}", verdict::advice(error, verdict)));
        self.end_windows(id);
        self.flush_unfetched(id);
        self.tell(id, EventKind::Error, detail);
        let reason = match (verdict, error.kind()) {
            // We were sent elsewhere, or do not trust the server: no sign-in was tried.
            (Verdict::Refused, ErrorKind::Http | ErrorKind::Protocol) => Reason::HttpError,
            (Verdict::Refused, ErrorKind::Tls) => verdict::reason(error),
            (Verdict::Refused, _) => Reason::SignInRefused,
            _ => verdict::reason(error),
        };
        self.end_watch(id, reason);
    }

    /// Ends a watch: `Closed` is its last event. What is held back is dropped.
    pub(super) fn end_watch(&mut self, id: u64, reason: Reason) {
        self.note_given_up(id, reason);
        self.leave_group(id);
        self.unstore_subscriptions(id);
        self.leave_windows(id);
        self.leave_actions(Some(id));
        self.save_soon();
        self.forget_fetches(id);
        self.forget_opens(id);
        for timer in [Timer::Watch(id), Timer::Push(id), Timer::Sync(id), Timer::Suspect(id)] {
            self.timers.clear(timer);
        }
        if self.watches.get(&id).is_some_and(|w| w.is_blocked()) {
            self.blocked = self.blocked.saturating_sub(1);
        }
        let Some(mut w) = self.watches.remove(&id) else { return };
        let endpoint = w.spec.endpoint;
        self.tell_closed(id, w.spec.mailbox.clone(), reason);
        if let Some(s) = w.subscription.take() {
            self.unsubscribe(id, endpoint, s.id, s.route);
        }
        self.endpoint(endpoint).gates.remove(&id);
        self.forget(id);
    }
}
