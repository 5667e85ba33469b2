//! Where a watch asks for events (mode=pull), a restart goes on with the subscription of the run before, from the watermark that
//! belongs to what the store has: so the host is told also what sync cannot tell, as that something was moved, or came and went.
//!
//! Each batch that changes anything of a watch has its subscription and watermark too, and every event up to there that is not
//! acknowledged. So what lies in the store is of one moment, whichever batch was the last: up to the watermark all is acknowledged
//! or lies there, and the server has the rest. While something is missed and not filled there is no such place; then, and where
//! the server does not know it any more, a restart subscribes anew. A `Gap` is told either way, and sync finds out: a subscription can have died
//! without a word.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::acks::Ticket;
use super::folder::{Digest, Folder, from_seconds, seconds};
use super::hold::Held;
use super::verdict::{self, Verdict};
use super::watch::{Continuity, Step, Subscription, Watch};
use super::{Call, Engine, WatchMode};
use crate::proto::Notification;
use crate::{Error, Event, EventKind, Reason};

/// Where a restart goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Resume {
    id: String,
    watermark: String,
    /// The folders and kinds that were subscribed to.
    of: String,
    /// Up to when it is certain that nothing was missed, and when the subscription was alive for certain; seconds since 1970.
    certain: u64,
    proved: u64,
}

impl Resume {
    /// What is to be written anew if it changes. That times go on is no reason: an earlier one is no less true.
    pub fn place(&self) -> (String, String) {
        (self.id.clone(), self.watermark.clone())
    }
}

impl Watch {
    fn pulls(&self) -> bool {
        matches!(self.spec.mode, WatchMode::Pull { .. })
    }

    /// What its subscription is of.
    fn scope(&self) -> String {
        Digest::of(&format!("{:?}\n{}", self.kinds(), self.folder_ids.join("\n"))).hex()
    }
}

impl Engine {
    /// Puts the places into the batch that is about to be written, of all watches that it or an acknowledgement is about.
    pub(super) fn store_resumes(&mut self) {
        let acked = std::mem::take(&mut self.acked);
        if !self.settings.durable || (self.unsaved.is_empty() && acked.is_empty()) {
            return;
        }
        let names: BTreeSet<&str> = self.unsaved.keys().filter_map(|key| key.split('/').next()).collect();
        let touched = self.watches.iter().filter(|(id, w)| {
            let may_change = (w.pulls() || w.place.is_some()) && w.stored.resume.is_none();
            // What lies there is right still while it has not been tried.
            may_change && (acked.contains(id) || names.contains(&*w.spec.name))
        });
        for id in touched.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.store_resume(id);
        }
    }

    fn store_resume(&mut self, id: u64) {
        let resume = self.resume(id);
        let place = resume.as_ref().map(Resume::place);
        let Some(w) = self.watches.get_mut(&id).filter(|w| w.place != place) else { return };
        w.place = place;
        let key = format!("{}/r", w.spec.name);
        let Some(resume) = resume else {
            self.unsaved.insert(key, None);
            return;
        };
        let opens = self.opens.by_ticket.iter_mut().filter(|(_, o)| o.event.watch == id && !o.recorded);
        let unrecorded: Vec<Ticket> = opens.map(|(ticket, open)| (open.recorded = true, *ticket).1).collect();
        unrecorded.into_iter().for_each(|ticket| self.store_open(ticket));
        self.unsaved.insert(key, serde_json::to_vec(&resume).ok());
    }

    /// Where a restart could go on, if all up to there has been told, or is about to be.
    pub(super) fn resume(&self, id: u64) -> Option<Resume> {
        let w = self.watches.get(&id).filter(|w| w.pulls() && !w.folder_ids.is_empty())?;
        let subscription = w.subscription.as_ref()?;
        let whole =
            |f: &Folder| !f.dirty && !f.broken && !f.denied && f.baseline.is_none() && f.suspects.is_empty();
        let missed = w.resubscribing
            || matches!(w.continuity, Continuity::Broken(_))
            || w.gap_untold.is_some()
            || w.stored.gap.is_some()
            || w.hold.iter().any(|held| match held {
                Held::Overflow { .. } => true,
                Held::Ready(event) | Held::Waits(event, _) => is_kept_nowhere(event),
            })
            || self.opens.has_gap(id)
            || self.delivery.any(id, |event| event.kind == EventKind::Gap || is_kept_nowhere(event));
        if missed || !w.folder_ids.iter().all(|f| w.folders_known.get(f).is_some_and(|f| whole(f))) {
            return None;
        }
        Some(Resume {
            id: subscription.id.clone(),
            watermark: subscription.watermark.clone()?,
            of: w.scope(),
            certain: seconds(self.certain(id)),
            proved: seconds(w.proved),
        })
    }

    /// What comes when a watch's folders are known: to go on, or to subscribe.
    pub(super) fn subscribing(&mut self, id: u64) -> Step {
        let Some(w) = self.watches.get_mut(&id) else { return Step::Subscribe };
        let stored = |folder: &String| w.stored.has(folder);
        let fits = w.pulls() && w.spec.catch_up && w.stored.gap.is_none();
        let fits = fits && !w.folder_ids.is_empty() && w.folder_ids.iter().all(stored);
        match &w.stored.resume {
            Some(resume) if fits && resume.of == w.scope() => Step::Resume,
            _ => {
                w.stored.resume = None;
                Step::Subscribe
            }
        }
    }

    /// Whether the server does not go on with the subscription of the run before; a new one is made then.
    pub(super) fn cannot_go_on(&mut self, id: u64, error: &Error) -> bool {
        use Verdict::{LowerVersion, Refused, Retry, RetryThenStop};
        let passes = error.code().is_none() || error.is_sign_in_needed() || verdict::throttles(error);
        if passes || matches!(verdict::of_error(error), LowerVersion | Refused | Retry | RetryThenStop) {
            return false;
        }
        if let Some(w) = self.watches.get_mut(&id) {
            w.stored.resume = None;
        }
        self.due(id, Step::Subscribe, Duration::ZERO);
        true
    }

    /// The server goes on with the subscription of the run before.
    pub(super) fn resumed(&mut self, id: u64, made: &Call, notification: Notification) {
        let now = self.now;
        let Some(w) = self.watches.get_mut(&id) else { return };
        let Some(resume) = w.stored.resume.take() else { return };
        if notification.previous_watermark.as_ref().is_some_and(|previous| *previous != resume.watermark) {
            // It goes on from somewhere else.
            return self.due(id, Step::Subscribe, Duration::ZERO);
        }
        w.stored.subscriptions.retain(|id| *id != resume.id);
        w.subscription = Some(Subscription {
            id: resume.id.clone(),
            watermark: Some(resume.watermark),
            route: made.route.clone(),
            at: now.mono,
            told: false,
        });
        (w.certain, w.proved) = (from_seconds(resume.certain), from_seconds(resume.proved));
        w.continuity = Continuity::Queued { from: now.mono };
        // The server may have much to tell.
        w.exhausted = Duration::ZERO;
        w.folders_gone = 0;
        self.endpoint(made.endpoint).owners.insert(resume.id, id);
        self.take_up_folders(id, now.wall);
        self.mark_opens(id);
        if let Some(w) = self.watches.get_mut(&id) {
            let certain = w.folders_known.values().map(|f| f.certain_before()).min();
            w.went_on = Some(certain.map_or(w.certain, |certain| certain.min(w.certain)));
        }
        self.store_subscriptions(id);
        self.actions_begin(id);
        self.polled(id, made, notification);
    }

    /// What the server has remembered since then is told. It may be that it has remembered nothing, the subscription having died
    /// without a word, so there is a gap all the same, and sync looks.
    pub(super) fn went_on(&mut self, id: u64) {
        let since = self.watches.get_mut(&id).and_then(|w| w.went_on.take());
        if let Some(since) = since {
            let fill = self.fill_gap(id);
            self.tell_gap_since(id, since, Reason::Restarted, None, fill);
        }
    }
}

/// Whether the store has no place for an event: of a folder, say. A restart must find it at the server.
fn is_kept_nowhere(event: &Event) -> bool {
    event.kind.is_mailbox() && event.ticket == 0
}
