//! What the server sends by itself: in the order of its table, again until it is answered, and sometimes not at all, late or twice.

use super::*;
use crate::engine::{PushAnswer, PushOutcome};
use crate::proto::PushReply;

pub(super) type Message = Response<Option<Notification>>;

/// `StatusFrequency`.
const MINUTE: Duration = Duration::from_secs(60);
/// So many of the last notifications may be replayed.
const HISTORY: usize = 30;

/// How a push subscription stands.
#[derive(Default)]
pub(super) struct Push {
    /// How many events the notification has that is under way, or is to be sent again.
    sending: Option<usize>,
    busy: bool,
    /// Not before then.
    wait: Duration,
    /// When a sign of life is due.
    beat: Duration,
    failing: Option<(Duration, u32)>,
}

impl World {
    pub(super) fn watch_by_push(spec: &mut WatchSpec) {
        let url = PushUrl::new("https://hook.example.test/");
        spec.mode = WatchMode::Push { url, status_minutes: 1, silence: 2 * MINUTE };
    }

    /// Something is to be sent, if nothing is under way.
    pub(super) fn push_soon(&mut self, id: &str) {
        self.later(0.05, Act::Send(id.to_owned()));
    }

    pub(super) fn send(&mut self, id: &str) {
        let now = self.mono;
        let Some(sub) = self.server.subs.get_mut(id) else { return };
        let Some(push) = &mut sub.push else { return };
        let nothing = sub.queue.is_empty() && push.sending.is_none() && now < push.beat;
        if push.busy || now < push.wait || nothing {
            return;
        }
        push.busy = true;
        let count = *push.sending.get_or_insert(server::EVENTS.min(sub.queue.len()));
        let mut notices: Vec<Notice> = sub.queue.iter().take(count).cloned().collect();
        for (i, notice) in notices.iter_mut().enumerate() {
            notice.watermark = Some((sub.base + i + 1).to_string());
        }
        if notices.is_empty() {
            let mut status = notice(NoticeKind::Status, "", "");
            (status.target, status.parent_folder_id) = (None, None);
            status.watermark = Some(sub.base.to_string());
            notices.push(status);
        }
        let notification = Notification {
            previous_watermark: Some(sub.base.to_string()),
            more_events: sub.queue.len() > count,
            ..notification(id, notices)
        };
        let slow = if now < self.slow_until { 10.0 } else { 0.05 };
        self.later(slow, Act::Deliver(id.to_owned(), Box::new(message(Some(notification)))));
    }

    pub(super) fn deliver(&mut self, id: &str, message: Message) {
        let Some(mailbox) = self.server.subs.get(id).map(|s| s.mailbox) else { return };
        if !self.up || self.mono < self.refusing_until {
            return self.answered(id, None);
        }
        self.history.push_back((mailbox, message.clone()));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        let fault = self.push_fault.take().filter(|_| self.mono < self.faults_until);
        if let Some(fault) = fault {
            self.hit_of(fault, mailbox);
        }
        let ok = Some(PushAnswer::Reply(PushReply::Ok));
        match fault {
            Some("push lost") => self.answered(id, ok),
            Some("push held") => {
                self.later(10.0, Act::Replay(Box::new(message)));
                self.answered(id, ok);
            }
            Some(_) => {
                self.receive(message);
                self.answered(id, None);
            }
            None => {
                let answer = self.receive(message);
                self.answered(id, answer);
            }
        }
    }

    /// A push arrives; what it is answered, if the host lives so long.
    pub(super) fn receive(&mut self, message: Message) -> Option<PushAnswer> {
        if !self.up || self.step("kill: before an input") {
            return None;
        }
        let message = match self.xml {
            true => soap::pushed(&message),
            false => message,
        };
        if self.trace {
            println!("{:9.3} < push {message:?}", self.mono.as_secs_f64());
        }
        let pushed = self.engine.pushed(self.now(), vec![message]);
        for part in &pushed.parts {
            let hit = match part.outcome {
                PushOutcome::Gap => "push: gap",
                PushOutcome::Repeated => "push: repeat",
                PushOutcome::Late => "push: late",
                PushOutcome::Early => "push: early",
                _ => continue,
            };
            if self.trace {
                println!("{:9.3} * {hit}", self.mono.as_secs_f64());
            }
        }
        self.execute();
        Some(pushed.answer)
    }

    fn answered(&mut self, id: &str, answer: Option<PushAnswer>) {
        let now = self.mono;
        let Some(sub) = self.server.subs.get_mut(id) else { return };
        let Some(push) = &mut sub.push else { return };
        push.busy = false;
        let next = match answer {
            Some(PushAnswer::Reply(PushReply::Ok)) => {
                let count = push.sending.take().unwrap_or_default();
                sub.queue.drain(..count);
                sub.base += count;
                push.failing = None;
                push.beat = now + MINUTE;
                if sub.queue.is_empty() { push.beat } else { now }
            }
            Some(PushAnswer::Reply(_)) => {
                self.server.subs.remove(id);
                return;
            }
            _ => {
                let (since, times) = push.failing.unwrap_or((now, 0));
                push.failing = Some((since, times + 1));
                push.wait = now + Duration::from_secs(30 << times.min(10));
                if push.wait > since + MINUTE {
                    self.server.subs.remove(id);
                    return;
                }
                push.wait
            }
        };
        self.at(next, Act::Send(id.to_owned()));
    }

    /// Something that was sent before comes once more, from whoever could see it.
    pub(super) fn replay(&mut self) {
        if self.history.is_empty() || !self.up {
            return;
        }
        let (mailbox, message) = self.history[self.rng.usize(..self.history.len())].clone();
        self.hit_of("push replayed", mailbox);
        self.receive(message);
    }

    /// A subscription is gone, and the server says so by a push.
    pub(super) fn push_error(&mut self, id: &str, code: &str) {
        let status = Notice { target: None, parent_folder_id: None, ..notice(NoticeKind::Status, "", "") };
        let body = self.rng.bool().then(|| notification(id, vec![status]));
        let code = ResponseCode(code.to_owned().into());
        self.receive(Response { class: ResponseClass::Error, code, ..message(body) });
    }
}

fn message(body: Option<Notification>) -> Message {
    let (class, code) = (ResponseClass::Success, ResponseCode::NO_ERROR);
    Response { class, code, text: None, back_off: None, body }
}
