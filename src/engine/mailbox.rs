//! A watch: from its folders to its subscription, its losses and its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::legacy_ids;
use super::paths::is_gone;
use super::resume::Resume;
use super::save::Stored;
use super::tell::{detail, parse_time};
use super::timers::Timer;
use super::verdict::Verdict;
use super::watch::{Continuity, Phase, Step, Subscription, Watch, first_step};
use super::{Answer, Call, CallId, Engine, Job, Route, WatchMode, WatchSpec};
use crate::event::Detail;
use crate::proto::{FolderRef, NoticeKind, Notification, Request, RequestVersion, Scope, Target};
use crate::{Error, EventKind, Reason};

/// Always subscribed to, whatever the host asked for: catch-up cannot tell why an item is there.
const ALWAYS: [NoticeKind; 4] =
    [NoticeKind::Copied, NoticeKind::Created, NoticeKind::Moved, NoticeKind::NewMail];

impl Engine {
    pub(super) fn add(&mut self, mut spec: WatchSpec) {
        let id = spec.watch;
        if self.watches.contains_key(&id) {
            return;
        }
        self.given_up.remove(&spec.name);
        let pairs = std::mem::take(&mut spec.stored);
        let (mut stored, bad) = Stored::read(&pairs);
        let opens = std::mem::take(&mut stored.opens);
        let actions = std::mem::take(&mut stored.actions);
        let mut watch = Watch::new(spec, self.now);
        watch.place = stored.resume.as_ref().map(Resume::place);
        watch.stored = stored;
        let pushed = matches!(watch.spec.mode, WatchMode::Push { .. });
        self.watches.insert(id, watch);
        if pushed {
            self.push_watch(id);
        }
        self.timers.set(Timer::Watch(id), self.now.mono);
        if bad > 0 {
            let message = format!("{bad} entries of the stored state cannot be read, and are left out");
            self.tell(id, EventKind::Error, Detail { message: Some(message), ..Detail::default() });
        }
        self.restore_opens(id, opens);
        self.restore_actions(id, actions);
    }

    /// The host takes a watch back.
    pub(super) fn remove(&mut self, id: u64) {
        if self.watches.contains_key(&id) {
            self.ack_taken_of(id);
            self.end_watch(id, Reason::ClosedByHost);
        }
    }

    /// A watch's timer has rung.
    pub(super) fn watch_due(&mut self, id: u64) {
        let Some(w) = self.watches.get(&id) else { return };
        let Phase::Due(step) = w.phase else { return };
        let (endpoint, streaming) = (w.spec.endpoint, w.is_streaming());
        if let Some(at) = self.gate_shut_for(endpoint, id) {
            // Whoever waits for a gate is not being prepared: others need not wait for it.
            self.not_preparing(id);
            self.timers.set(Timer::Watch(id), at);
            if step == Step::Poll {
                self.next_poll(endpoint);
            }
            return;
        }
        if step == Step::Locate {
            if streaming {
                self.locating.insert(id);
            }
            let call = self.locate(id);
            if let Some(w) = self.watches.get_mut(&id) {
                w.phase = Phase::Calling(step, call);
            }
            return;
        }
        if streaming {
            let seated = self.take_seat(id);
            self.not_locating(id);
            if !seated || (step == Step::Subscribe && !self.may_subscribe(id)) {
                return;
            }
        }
        let ask = match step {
            Step::Folders => match self.ask_folders(id) {
                None => return,
                request => request,
            },
            Step::Subscribe if self.too_old_for(id) => return,
            _ => None,
        };
        let Some(w) = self.watches.get(&id) else { return };
        let events = w.kinds();
        let scope = match w.folder_ids.is_empty() {
            true => Scope::AllFolders,
            false => Scope::Folders(w.folder_ids.iter().cloned().map(FolderRef::Id).collect()),
        };
        let request = match (ask, &w.spec.mode, &w.subscription) {
            (Some(request), ..) => request,
            (None, ..) if let (Step::Resume, Some(resume)) = (step, &w.stored.resume) => {
                let (subscription_id, watermark) = resume.place();
                Request::GetEvents { subscription_id, watermark: Some(watermark) }
            }
            (None, _, Some(s)) if step == Step::Poll => {
                Request::GetEvents { subscription_id: s.id.clone(), watermark: s.watermark.clone() }
            }
            (_, WatchMode::Streaming { .. }, _) => Request::SubscribeStreaming { scope, events },
            (_, WatchMode::Pull { timeout_minutes, .. }, _) => {
                Request::SubscribePull { scope, events, timeout_minutes: *timeout_minutes, watermark: None }
            }
            (_, WatchMode::Push { url, status_minutes, .. }, _) => Request::SubscribePush {
                scope,
                events,
                watermark: self.push_resume(id),
                status_minutes: *status_minutes,
                url: url.clone(),
            },
        };
        match step {
            Step::Subscribe => self.counters.subscribes += 1,
            Step::Poll if !self.may_poll(id, endpoint) => return,
            _ => {}
        }
        let route = self.route(id).filter(|_| step != Step::Folders);
        let call = self.call_at(id, endpoint, Job::Step(step), request, route);
        if let Some(w) = self.watches.get_mut(&id) {
            w.phase = Phase::Calling(step, call);
        }
    }

    /// A step's call came back.
    pub(super) fn stepped(&mut self, call: CallId, made: Call, step: Step, result: Result<Answer, Error>) {
        let id = made.watch;
        let waits = self.watches.get(&id).is_some_and(|w| w.phase == Phase::Calling(step, call));
        if !waits {
            match result {
                Ok(Answer::Subscribed { id: subscription, .. }) => {
                    self.unsubscribe(id, made.endpoint, subscription, made.route)
                }
                Ok(Answer::Events(notification)) => self.polled_late(made.endpoint, &notification),
                _ => {}
            }
            return;
        }
        match (step, result) {
            (Step::Locate, Ok(Answer::Located { endpoint, affinity })) => {
                self.located(id, endpoint, affinity);
            }
            (Step::Folders, Ok(answer @ (Answer::FoundFolders(_) | Answer::Converted(_)))) => {
                self.found_folders(id, &made, Ok(answer));
            }
            (Step::Folders, Err(error)) if self.searches(id) && error.code().is_some() && is_gone(&error) => {
                self.found_folders(id, &made, Err(error));
            }
            (Step::Folders, Ok(Answer::Folders(folders))) => self.resolved(id, &made, folders),
            (Step::Resume, Ok(Answer::Events(notification))) => self.resumed(id, &made, notification),
            (Step::Subscribe, Ok(Answer::Subscribed { id: subscription, watermark, date })) => {
                self.subscribed(id, &made, subscription, watermark);
                if self.watches.get(&id).is_some_and(|w| w.subscription.is_some()) {
                    self.store_subscriptions(id);
                    // Where the server does not tell its time, ours at the question is the nearest.
                    self.begin_catch_up(id, date.unwrap_or(made.sent.wall));
                    self.actions_begin(id);
                    self.push_begins(id);
                }
            }
            (Step::Poll, Ok(Answer::Events(notification))) => self.polled(id, &made, notification),
            (_, Err(error)) => self.step_failed(id, &made, step, error),
            (_, Ok(_)) => {
                let error = Error::new(crate::ErrorKind::Internal, "the answer is not of the request's kind");
                self.step_failed(id, &made, step, error);
            }
        }
    }

    /// The watch's server is found: it goes on there.
    fn located(&mut self, id: u64, endpoint: u32, affinity: Arc<str>) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.spec.endpoint = endpoint;
        w.spec.affinity = affinity;
        w.located = true;
        let step = first_step(&w.spec);
        self.due(id, step, Duration::ZERO);
    }

    fn resolved(&mut self, id: u64, made: &Call, mut folders: Vec<Result<String, Error>>) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let (brought, search) = (folders.len(), std::mem::take(&mut w.search));
        let goes_to = w.goes_to().and_then(|_| folders.pop());
        let Some(folders) = search.answers(w.folders.len(), folders) else {
            let error = Error::new(
                crate::ErrorKind::Protocol,
                format!("GetFolder for {} folders brought {brought} answers", w.folders.len()),
            );
            return self.step_failed(id, made, Step::Folders, error);
        };
        if legacy_ids::have_to_be_converted(&mut w.folders, &folders) {
            return self.due(id, Step::Folders, Duration::ZERO);
        }
        // What will pass is asked again, for all; where none is left, the first answer says why.
        let all_failed = folders.iter().all(|f| f.is_err());
        let passing = folders.iter().chain(&goes_to).position(|f| f.as_ref().is_err_and(|e| !is_gone(e)));
        if let Some(at) = passing.or(all_failed.then_some(0)) {
            if let Some(Err(error)) = folders.into_iter().chain(goes_to).nth(at) {
                self.step_failed(id, made, Step::Folders, error);
            }
            return;
        }
        let asked = std::mem::take(&mut w.folders);
        w.folder_ids.clear();
        let mut lost = Vec::new();
        for (folder, answer) in asked.into_iter().zip(folders) {
            match answer {
                Ok(folder_id) => {
                    w.folder_ids.push(folder_id);
                    w.folders.push(folder);
                }
                Err(error) => lost.push((folder, error)),
            }
        }
        for (folder, error) in lost {
            let mut detail = detail(&error, None);
            detail.message = Some(format!("folder {folder} cannot be watched, the others go on: {error}"));
            self.tell(id, EventKind::Error, detail);
        }
        let Some(w) = self.watches.get(&id) else { return };
        // Where it is out of reach, each item says so when its turn comes.
        let to = match (&w.move_to, &goes_to) {
            (Some(FolderRef::Id(to)), _) | (_, Some(Ok(to))) => w.folder_ids.iter().position(|f| f == to),
            _ => None,
        };
        if let Some(folder) = to.and_then(|to| w.folders.get(to)) {
            let text = format!(
                "option after_ack brings items into a folder that is watched itself ({folder}), where they would be told as new \
                 again: watch other folders"
            );
            let error = Error::new(crate::ErrorKind::Invalid, text);
            return self.stop(id, &error, Verdict::Stop);
        }
        let step = self.subscribing(id);
        self.due(id, step, Duration::ZERO);
    }

    /// Whether a watch cannot be subscribed to in the version that its server speaks; it has ended then.
    fn too_old_for(&mut self, id: u64) -> bool {
        let Some(w) = self.watches.get(&id) else { return true };
        let (streaming, needs, endpoint) = (w.is_streaming(), w.needs_2010(), w.spec.endpoint);
        let version = self.endpoint(endpoint).version;
        if version >= RequestVersion::Exchange2010Sp1 || !needs {
            return false;
        }
        let (what, instead) = match streaming {
            true => ("streaming", "set mode=pull"),
            false => ("a subscription to all folders", "name them (option folders)"),
        };
        let text = format!(
            "{what} needs Exchange 2010 SP1 or later, and the server takes no later version than {}: {instead}",
            version.name()
        );
        let error = Error::new(crate::ErrorKind::Unsupported, text);
        self.not_preparing(id);
        self.stop(id, &error, Verdict::Stop);
        true
    }

    fn subscribed(&mut self, id: u64, made: &Call, subscription: String, watermark: Option<String>) {
        let now = self.now;
        self.scouted(id, true);
        // An id of a watch that was taken back, given out again before our Unsubscribe for it arrived: dead, perhaps.
        if self.endpoint(made.endpoint).owners.may_have_ended(&subscription, made.sent.mono) {
            if let Some(w) = self.watches.get_mut(&id).filter(|w| !w.resubscribing) {
                w.resubscribing = true;
                (w.certain, w.proved) = (made.sent.wall, made.sent.wall);
            }
            self.unsubscribe(id, made.endpoint, subscription, made.route.clone());
            return self.due(id, Step::Subscribe, Duration::from_secs(1));
        }
        // A restarted server counts from one again: whoever had this id before has lost it, and a stream that was opened
        // for it may have been given this watch's events.
        let before = self.endpoint(made.endpoint).owners.insert(subscription.clone(), id);
        if let Some(other) = before.filter(|other| *other != id)
            && self
                .watches
                .get(&other)
                .and_then(|w| w.subscription.as_ref())
                .is_some_and(|s| s.id == subscription)
        {
            let error = Error::new(
                crate::ErrorKind::Protocol,
                "the server has given the subscription's id to another watch",
            );
            self.lost(other, Reason::SubscriptionLost, &error, false);
        }
        let Some(w) = self.watches.get_mut(&id) else { return };
        let route = made.route.clone();
        w.subscription = Some(Subscription { id: subscription, watermark, route, at: now.mono, told: false });
        w.shunned = None;
        w.went_on = None;
        w.worked();
        w.folders_gone = 0;
        let streaming = w.is_streaming();
        if std::mem::take(&mut w.resubscribing) {
            let reason = match w.continuity {
                Continuity::Broken(reason) => reason,
                _ => Reason::SubscriptionLost,
            };
            self.tell(id, EventKind::Resubscribed, Detail::default());
            self.tell_gap(id, reason, None);
        }
        let Some(w) = self.watches.get_mut(&id) else { return };
        // From when it was asked for: events between the server's doing and its answer belong to it already.
        w.certain = made.sent.wall;
        w.exhausted = made.sent.mono;
        w.left_there = false;
        w.proved = made.sent.wall;
        w.continuity = match before {
            Some(_) => Continuity::Broken(Reason::SubscriptionLost),
            None => Continuity::Queued { from: now.mono },
        };
        match self.watches.get(&id).map(|w| &w.spec.mode) {
            // Begun when catch-up knows its folders: something may have come already.
            Some(WatchMode::Push { .. }) => {}
            _ if streaming => self.enter_lobby(id),
            _ => self.due(id, Step::Poll, Duration::ZERO),
        }
    }

    /// Tries to take a subscription off the server.
    pub(super) fn unsubscribe(
        &mut self,
        watch: u64,
        endpoint: u32,
        subscription: String,
        route: Option<Route>,
    ) {
        if self.unpush(watch, &subscription) {
            return;
        }
        self.endpoint(endpoint).owners.unsubscribing(subscription.clone());
        let job = Job::Unsubscribe(subscription.clone());
        let request = Request::Unsubscribe { subscription_id: subscription };
        self.call_at(watch, endpoint, job, request, route);
    }

    pub(super) fn due(&mut self, id: u64, step: Step, wait: Duration) {
        if let Some(w) = self.watches.get_mut(&id) {
            w.phase = Phase::Due(step);
            self.timers.set(Timer::Watch(id), self.now.mono + wait);
        }
    }

    /// Hands the events of a notification out, unless one of them belongs to nobody here. `asked` is when the server
    /// may have written it at the earliest. Where more is to come, the rest is older than that.
    pub(super) fn deliver(&mut self, id: u64, notification: Notification, asked: SystemTime) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let foreign = |n: &crate::proto::Notice| {
            n.kind != NoticeKind::Status && !w.folder_ids.is_empty() && !touches(n, &w.folder_ids)
        };
        if notification.notices.iter().any(foreign) {
            self.counters.foreign += notification.notices.len() as u64;
            let error = Error::new(
                crate::ErrorKind::Protocol,
                "an event of a folder that is not watched came: the server has given the subscription's id to somebody else",
            );
            return self.lost(id, Reason::ForeignEvent, &error, false);
        }
        if notification.notices.iter().any(|n| n.kind != NoticeKind::Status) {
            if !notification.more_events {
                // What was told late shows that the subscription was alive when it happened, not that it is now.
                let stamps =
                    notification.notices.iter().filter_map(|n| n.time_stamp.as_deref().and_then(parse_time));
                w.proved = stamps.max().map_or(asked, |stamp| stamp.min(asked));
            }
            if let Some(s) = &mut w.subscription {
                s.told = true;
            }
        }
        for notice in notification.notices {
            if let (NoticeKind::Moved, Some(Target::Item(new)), Some(Target::Item(old))) =
                (notice.kind, &notice.target, &notice.old_target)
            {
                let to = notice.parent_folder_id.as_ref().map(|f| f.id.as_str());
                self.renamed(id, &old.id, &new.id, to);
            }
            if let Some(event) = self.moved_unread(id, &notice) {
                self.hand_out(id, event);
            }
            if !self.noted(id, &notice) {
                continue;
            }
            if let Some(event) = self.mailbox_event(id, notice) {
                self.hand_out(id, event);
            }
        }
    }

    pub(super) fn tell_closed(&mut self, watch: u64, mailbox: std::sync::Arc<str>, reason: Reason) {
        let mut event = crate::Event::new(EventKind::Closed, watch, mailbox, self.now.wall);
        event.detail = Some(Box::new(Detail { reason: Some(reason), ..Detail::default() }));
        self.push(event);
    }
}

impl Watch {
    /// The kinds that are subscribed to.
    pub fn kinds(&self) -> Vec<NoticeKind> {
        let mut kinds: Vec<NoticeKind> = ALWAYS.to_vec();
        kinds.extend(self.spec.events.iter().filter_map(|k| notice_kind(*k)));
        kinds.sort();
        kinds.dedup();
        kinds
    }
}

fn notice_kind(kind: EventKind) -> Option<NoticeKind> {
    Some(match kind {
        EventKind::NewMail => NoticeKind::NewMail,
        EventKind::Created => NoticeKind::Created,
        EventKind::Deleted => NoticeKind::Deleted,
        EventKind::Modified => NoticeKind::Modified,
        EventKind::Moved => NoticeKind::Moved,
        EventKind::Copied => NoticeKind::Copied,
        EventKind::FreeBusyChanged => NoticeKind::FreeBusyChanged,
        _ => return None,
    })
}

/// Whether a notice names one of the folders.
fn touches(notice: &crate::proto::Notice, folders: &[String]) -> bool {
    let target = |t: &Option<Target>| match t {
        Some(Target::Folder(id)) => folders.contains(&id.id),
        _ => false,
    };
    let parent = |p: &Option<crate::proto::Id>| p.as_ref().is_some_and(|id| folders.contains(&id.id));
    target(&notice.target)
        || parent(&notice.parent_folder_id)
        || target(&notice.old_target)
        || parent(&notice.old_parent_folder_id)
}
