//! Asking for events, where a watch does not stream.

use std::time::Duration;

use super::mailbox::{Continuity, Step};
use super::verdict;
use super::{Call, Engine, WatchMode};
use crate::proto::{NoticeKind, Notification};
use crate::{Error, ErrorKind, Reason};

impl Engine {
    /// A good answer to GetEvents.
    pub(super) fn polled(&mut self, id: u64, made: &Call, notification: Notification) {
        self.connected(id, Duration::ZERO);
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.worked();
        // All that had happened when the question left is in this answer or in those that follow at once.
        if !notification.more_events {
            w.certain = w.certain.max(made.sent.wall);
        }
        let Some(s) = &mut w.subscription else { return };
        let newest = notification.notices.iter().rev().find_map(|n| n.watermark.clone());
        let advanced = match (&newest, &s.watermark) {
            (Some(new), Some(old)) => new != old,
            _ => !notification.notices.is_empty(),
        };
        if newest.is_some() {
            s.watermark = newest;
        }
        // A server that says "more" for ever without getting anywhere is asked at the usual pace.
        let more = notification.more_events && advanced;
        self.deliver(id, notification, made.sent.wall);
        let Some(w) = self.watches.get(&id) else { return };
        if w.subscription.is_some()
            && let WatchMode::Pull { interval, .. } = w.spec.mode
        {
            let least = Duration::from_millis(10);
            self.due(id, Step::Poll, if more { Duration::ZERO } else { interval.max(least) });
        }
    }

    /// An answer that nobody waits for any more. Where the id has come back to a watch, its events were in there.
    pub(super) fn polled_late(&mut self, endpoint: u32, notification: &Notification) {
        let id = &notification.subscription_id;
        let Some(owner) = self.endpoint(endpoint).owners.get(id) else { return };
        let is_its_own =
            self.watches.get(&owner).and_then(|w| w.subscription.as_ref()).is_some_and(|s| s.id == *id);
        if is_its_own && notification.notices.iter().any(|n| n.kind != NoticeKind::Status) {
            self.tell_gap(owner, Reason::Unanswered, None);
        }
    }

    /// A question failed: with a watermark the same is asked again and answered again; without one, what the server
    /// gave to the lost answer is gone.
    pub(super) fn poll_doubts(&mut self, id: u64, error: &Error) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let replays = w.subscription.as_ref().is_some_and(|s| s.watermark.is_some());
        let sent = error.kind() != ErrorKind::Connect && !verdict::nothing_done(error);
        if !replays && sent && !matches!(w.continuity, Continuity::Broken(_)) {
            w.continuity = Continuity::Broken(Reason::Unanswered);
        }
    }
}
