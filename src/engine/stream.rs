//! The life of a stream: opened, read, aborted, ended, opened anew.

use std::time::Duration;

use super::group::{GroupId, Link};
use super::tell::{TOLD_EVERY, detail};
use super::timers::Timer;
use super::verdict::{self, Verdict};
use super::watch::Continuity;
use super::{Command, Conn, ConnId, Engine, WatchMode};
use crate::event::Detail;
use crate::proto::{ConnectionStatus, Request, Response, ResponseClass, Streamed};
use crate::{Error, ErrorKind, EventKind, Reason};

/// How long a stream may hang on after it said `Closed`, or refused a subscription.
const CLOSING: Duration = Duration::from_secs(5);
const REFUSING: Duration = Duration::from_secs(1);
/// A stream that ended sooner counts as a failed attempt: in order, and otherwise.
const SHORT_CLOSED: Duration = Duration::from_secs(1);
const SHORT_BROKEN: Duration = Duration::from_secs(5);

impl Engine {
    /// A group's timer has rung.
    pub(super) fn group_due(&mut self, group: GroupId) {
        let Some(g) = self.groups.get(&group) else { return };
        let endpoint = g.endpoint;
        match g.link {
            Link::Waiting => {}
            Link::Hanging(_) if g.closed_told || g.refused => {
                let (reason, message) = match g.refused {
                    true => (
                        Reason::ServerError,
                        "the server refused subscriptions of the stream and did not end it",
                    ),
                    false => (Reason::ClosedByServer, "the server said Closed and did not end the stream"),
                };
                let wait = self.group_wait(group, None);
                let detail = Detail {
                    reason: Some(reason),
                    retry_ms: Some(wait.as_millis() as u64),
                    message: Some(message.into()),
                    ..Detail::default()
                };
                return self.abort_group(group, reason, detail, wait);
            }
            _ => return,
        }
        let Some(speaker) = g.speaker() else { return };
        if let Some(at) = self.gate_shut_for(endpoint, speaker) {
            return self.timers.set(Timer::Group(group), at);
        }
        if self.waits_for_orphans(group) {
            return;
        }
        self.absorb_waiting(group);
        self.open(group);
    }

    fn open(&mut self, group: GroupId) {
        let now = self.now;
        let Some(g) = self.groups.get_mut(&group) else { return };
        let mut minutes = 30;
        g.ids.clear();
        for id in &g.members {
            let Some(w) = self.watches.get(id) else { continue };
            if let WatchMode::Streaming { connection_minutes } = w.spec.mode {
                minutes = minutes.min(connection_minutes.clamp(1, 30));
            }
            if let Some(s) = &w.subscription {
                g.ids.insert(s.id.clone(), *id);
            }
        }
        self.next_conn += 1;
        let conn = self.next_conn;
        g.link = Link::Hanging(conn);
        g.opened = now.mono;
        g.head = None;
        (g.any_message, g.good, g.closed_told, g.refused) = (false, false, false, false);
        (g.heard, g.heard_mono) = (None, None);
        let subscription_ids: Vec<String> = g.ids.keys().cloned().collect();
        let watch = g.speaker().unwrap_or(0);
        let endpoint = g.endpoint;
        let version = self.endpoint(endpoint).version;
        self.conns.insert(conn, Conn { endpoint, group: Some(group), version });
        self.counters.opens += 1;
        let request = Request::GetStreamingEvents { subscription_ids, minutes };
        let route = self.group_route(group);
        self.out.push_back(Command::Open { conn, watch, version, request, route });
    }

    /// Ends a stream; the next one opens when it is over, after the wait at least.
    pub(super) fn abort_group(&mut self, group: GroupId, reason: Reason, detail: Detail, wait: Duration) {
        let not_before = self.now.mono + wait;
        let Some(g) = self.groups.get_mut(&group) else { return };
        let Link::Hanging(conn) = g.link else { return };
        g.link = Link::Aborted(conn, not_before);
        self.timers.clear(Timer::Group(group));
        self.out.push_back(Command::Abort(conn));
        for id in self.members(group) {
            self.disconnected(id, detail.clone());
            if let Some(w) = self.watches.get_mut(&id) {
                w.doubt(reason);
            }
        }
    }

    /// The head of the answer came.
    pub(super) fn opened(&mut self, conn: ConnId) {
        let now = self.now.mono;
        let Some(c) = self.conns.get(&conn) else { return };
        let (endpoint, group) = (c.endpoint, c.group);
        self.endpoint(endpoint).version_works = true;
        self.endpoint(endpoint).gate.worked(now);
        if let Some(g) = group.and_then(|g| self.groups.get_mut(&g)) {
            g.head = Some(now);
        }
    }

    /// An envelope came.
    pub(super) fn message(&mut self, conn: ConnId, responses: Vec<Response<Streamed>>) {
        let Some(group) = self.hanging(conn) else { return };
        for response in responses {
            // An earlier message may have ended it all.
            if self.hanging(conn) != Some(group) {
                return;
            }
            self.response(group, response);
        }
    }

    fn hanging(&self, conn: ConnId) -> Option<GroupId> {
        let group = self.conns.get(&conn)?.group?;
        (self.groups.get(&group)?.link == Link::Hanging(conn)).then_some(group)
    }

    fn response(&mut self, group: GroupId, response: Response<Streamed>) {
        let now = self.now;
        let Some(g) = self.groups.get_mut(&group) else { return };
        let first = !std::mem::replace(&mut g.any_message, true);
        let reached = g.head.unwrap_or(now.mono);
        let Streamed { notifications, error_subscription_ids, status } = response.body;
        let failed = response.class == ResponseClass::Error;
        let verdict = failed.then(|| verdict::of_code(response.code.as_str()));
        let good = !failed || verdict == Some(Verdict::Missed);
        if good && !std::mem::replace(&mut g.good, true) {
            for id in self.members(group) {
                self.connected(id, reached);
            }
        }
        // Notifications count whatever the message's class is: gromox puts live ones into errors.
        let more = notifications.iter().any(|n| n.more_events);
        for notification in notifications {
            let member =
                self.groups.get(&group).and_then(|g| g.ids.get(&notification.subscription_id)).copied();
            match member {
                Some(id) => {
                    self.connected(id, reached);
                    self.deliver(id, notification, now.wall);
                }
                None => self.counters.foreign += notification.notices.len() as u64,
            }
        }
        if status == Some(ConnectionStatus::Closed)
            && let Some(g) = self.groups.get_mut(&group)
        {
            g.closed_told = true;
            self.timers.set(Timer::Group(group), now.mono + CLOSING);
        }
        if failed || !error_subscription_ids.is_empty() {
            let text = response.text.as_deref().unwrap_or("no text");
            let error = Error::new(
                ErrorKind::Server,
                format!("GetStreamingEvents: {}: {text}", response.code.as_str()),
            )
            .with_code(response.code.as_str())
            .with_retry_after(response.back_off);
            let verdict = verdict.unwrap_or(Verdict::Resubscribe);
            let closed = status == Some(ConnectionStatus::Closed);
            let known = |id: &String| self.groups.get(&group).is_some_and(|g| g.ids.contains_key(id));
            // A stream that begins with an error about ids that nobody here has, means one of ours all the same.
            match error_subscription_ids.is_empty() || (first && !error_subscription_ids.iter().any(known)) {
                true => self.stream_error(group, &error, verdict),
                false => {
                    self.subscription_errors(
                        group,
                        &error,
                        verdict,
                        &error_subscription_ids,
                        first || closed,
                    );
                }
            }
        }
        if let Some(g) = self.groups.get_mut(&group) {
            // What follows may be older than this message.
            if !more {
                g.heard = Some(now.wall);
            }
            g.heard_mono = Some(now.mono);
        }
    }

    /// An error that names subscriptions: it concerns those alone. But a stream that begins with one gives the good ids
    /// nothing (Exchange), or says `Closed` and hangs on (gromox): it is opened anew without the bad ones.
    fn subscription_errors(
        &mut self,
        group: GroupId,
        error: &Error,
        verdict: Verdict,
        ids: &[String],
        reopen: bool,
    ) {
        let Some(g) = self.groups.get(&group) else { return };
        let named: Vec<u64> = ids.iter().filter_map(|id| g.ids.get(id)).copied().collect();
        for id in &named {
            self.member_error(*id, error, verdict);
        }
        if reopen && verdict != Verdict::Missed && self.groups.contains_key(&group) {
            // If the server ends it now, it has given nothing of the good ones to it.
            let end = self.now.mono + REFUSING;
            if let Some(g) = self.groups.get_mut(&group).filter(|g| matches!(g.link, Link::Hanging(_))) {
                g.refused = true;
                self.timers.set(Timer::Group(group), end);
            }
        }
    }

    fn member_error(&mut self, id: u64, error: &Error, verdict: Verdict) {
        self.shut_gate_of(id, error);
        let taken = error.code() == Some(verdict::TAKEN_OVER);
        match verdict {
            Verdict::Missed => self.tell_missed(id, error),
            Verdict::FolderGone => self.folder_gone(id, error),
            Verdict::Stop => self.stop(id, error, verdict),
            Verdict::Resubscribe if taken => self.lost(id, Reason::TakenOver, error, false),
            Verdict::Resubscribe | Verdict::Rediscover => {
                self.lost(id, Reason::SubscriptionLost, error, false);
            }
            // The subscription may stand, but not on this stream.
            _ => self.lost(id, Reason::ServerError, error, true),
        }
    }

    /// An error that names no subscription: it concerns them all.
    fn stream_error(&mut self, group: GroupId, error: &Error, verdict: Verdict) {
        match verdict {
            Verdict::Missed => {
                for id in self.members(group) {
                    self.tell_missed(id, error);
                }
            }
            Verdict::Resubscribe | Verdict::Rediscover | Verdict::FolderGone | Verdict::Stop => {
                for id in self.members(group) {
                    self.member_error(id, error, verdict);
                }
            }
            _ => {
                if let Some(wait) = self.group_failed(group, error, verdict) {
                    let mut detail = detail(error, Some(Reason::ServerError));
                    detail.retry_ms = Some(wait.as_millis() as u64);
                    self.abort_group(group, Reason::ServerError, detail, wait);
                }
            }
        }
    }

    /// The server's queue ran over: while the stream stands, or before it did, told a little later.
    fn tell_missed(&mut self, id: u64, error: &Error) {
        let mono = self.now.mono;
        let Some(w) = self.watches.get(&id) else { return };
        // A gap that ends now has just been told.
        if w.gap_at == Some(mono) && w.connected == Some(mono) {
            return;
        }
        self.tell_gap(id, Reason::MissedByServer, Some(error.to_string()));
    }

    /// An envelope could not be read: it may have told something to anybody.
    pub(super) fn bad_envelope(&mut self, conn: ConnId, error: &Error) {
        let now = self.now;
        let Some(group) = self.hanging(conn) else { return };
        for id in self.members(group) {
            let Some(w) = self.watches.get_mut(&id) else { continue };
            if w.connected.is_some() {
                self.tell_gap(id, Reason::BadEnvelope, Some(error.to_string()));
            } else {
                w.doubt(Reason::BadEnvelope);
            }
        }
        if let Some(g) = self.groups.get_mut(&group) {
            g.heard = Some(now.wall);
            g.heard_mono = Some(now.mono);
        }
    }

    /// A stream is over.
    pub(super) fn ended(&mut self, conn: ConnId, result: Result<(), Error>) {
        let now = self.now.mono;
        let Some(Conn { endpoint, group, version }) = self.conns.remove(&conn) else { return };
        let Some(group) = group else {
            return self.orphan_ended(endpoint);
        };
        let Some(g) = self.groups.get_mut(&group) else { return };
        if let Link::Aborted(_, not_before) = g.link {
            g.link = Link::Waiting;
            return self.timers.set(Timer::Group(group), not_before.max(now));
        }
        g.link = Link::Waiting;
        let in_order = (g.closed_told || g.refused) && result.is_ok();
        g.forgive(now, if in_order { SHORT_CLOSED } else { SHORT_BROKEN });
        let never_began = !g.any_message && g.head.is_none();
        let error = match result {
            Err(error) => error,
            Ok(()) if in_order => {
                Error::new(ErrorKind::Io, "the server closed the stream, its time being over")
            }
            Ok(()) => Error::new(ErrorKind::Io, "the stream ended without a word"),
        };
        let nothing_done = never_began && verdict::nothing_done(&error);
        let (reason, verdict) = match in_order {
            true => (Reason::ClosedByServer, Verdict::Retry),
            false => (verdict::reason(&error), verdict::of_error(&error)),
        };
        for id in self.members(group) {
            let Some(w) = self.watches.get_mut(&id) else { continue };
            match (in_order, w.connected) {
                (true, Some(_)) => w.continuity = Continuity::Queued { from: now },
                (true, None) => {}
                (false, _) if nothing_done => {}
                (false, _) => w.doubt(reason),
            }
        }
        if in_order {
            // A quiet moment, and soon the server's queue will be asked to bridge another.
            for id in self.members(group) {
                self.checkpoint_due(id);
            }
        }
        match verdict {
            Verdict::Resubscribe | Verdict::Rediscover | Verdict::FolderGone | Verdict::Stop => {
                for id in self.members(group) {
                    self.member_error(id, &error, verdict);
                }
            }
            Verdict::LowerVersion if self.lower_version(endpoint, version) => {
                self.timers.set(Timer::Group(group), now);
            }
            _ => {
                if let Some(wait) = self.group_failed(group, &error, verdict) {
                    let speaker = self.groups.get(&group).and_then(|g| g.speaker()).unwrap_or(0);
                    let at = self.gate_until(endpoint, speaker).unwrap_or(now).max(now + wait);
                    let mut detail = detail(&error, Some(reason));
                    detail.retry_ms = Some((at - now).as_millis() as u64);
                    for id in self.members(group) {
                        self.disconnected(id, detail.clone());
                    }
                    self.timers.set(Timer::Group(group), now + wait);
                }
            }
        }
    }

    /// Counts a failure of a stream. `None` if its watches were stopped, else the wait before the next one.
    fn group_failed(&mut self, group: GroupId, error: &Error, verdict: Verdict) -> Option<Duration> {
        let members = self.members(group);
        self.shut_gate_of(self.groups.get(&group)?.speaker()?, error);
        if error.code() == Some(verdict::TOO_MANY_STREAMS) {
            self.too_many_streams(group, error);
        }
        let failures = self.groups.get(&group)?.attempts();
        let mut stop = Vec::new();
        for id in &members {
            let Some(w) = self.watches.get_mut(id) else { continue };
            let gives_up = match verdict {
                Verdict::Refused => !w.may_be_refused(error),
                Verdict::RetryThenStop => failures >= verdict::TRIES,
                Verdict::LowerVersion => true,
                _ => false,
            };
            if gives_up {
                stop.push(*id);
            }
        }
        for id in stop {
            self.stop(id, error, verdict);
        }
        let asked = (verdict == Verdict::Refused)
            .then_some(verdict::REFUSED_WAIT)
            .max(verdict::least_wait(error.code()).map(Duration::from_secs))
            .max(error.retry_after());
        self.groups.get(&group)?;
        let wait = self.group_wait(group, asked);
        let failures = failures + 1;
        if failures.is_multiple_of(TOLD_EVERY) {
            for id in self.members(group) {
                let mut detail = detail(error, Some(verdict::reason(error)));
                detail.retry_ms = Some(wait.as_millis() as u64);
                detail.message = Some(format!("{error} (failure {failures} in a row, it is tried again)"));
                self.tell(id, EventKind::Error, detail);
            }
        }
        Some(wait)
    }

    fn group_wait(&mut self, group: GroupId, asked: Option<Duration>) -> Duration {
        let now = self.now.mono;
        match self.groups.get_mut(&group) {
            Some(g) => {
                if g.link != Link::Waiting {
                    g.forgive(now, SHORT_BROKEN);
                }
                g.backoff.next(&mut self.rng, asked)
            }
            None => Duration::ZERO,
        }
    }
}
