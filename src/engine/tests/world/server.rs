//! The server of the world: subscriptions with bounded queues, streams that may be dead without its knowing.

use super::*;

const PAGE: usize = 3;
const STRANGER: &str = "F-stranger";

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    /// Ids are never used twice, pull has watermarks, and a bad id silences a stream.
    Exchange,
    /// Ids begin anew after a restart, pull has no watermarks, and a stream with a bad id goes on in errors.
    Gromox,
}

#[derive(Default)]
pub(super) struct Stream {
    /// Whether what is written arrives.
    pub client_alive: bool,
    /// Whether the server believes that it does.
    pub server_alive: bool,
    /// The next event's envelope is broken.
    pub spoil: bool,
    /// Everything comes in error messages.
    pub gromox_error: bool,
}

struct Subscription {
    folder: String,
    pull: bool,
    queue: VecDeque<(String, SystemTime)>,
    /// Pull with watermarks: how many events were forgotten, being answered.
    base: usize,
    missed: bool,
    /// Its answer was lost: nobody knows of it.
    stray: bool,
    conn: Option<ConnId>,
}

pub(super) struct Server {
    style: Style,
    /// How many events wait for a stream or a question.
    bound: usize,
    subs: BTreeMap<String, Subscription>,
    pub streams: BTreeMap<ConnId, Stream>,
    next: u64,
    life: u64,
}

pub(super) enum Put {
    Queued,
    Overflow,
    Write(ConnId, Response<Streamed>),
}

/// The first message of a stream, and what was queued, with the items in it.
pub(super) type Attached = (Response<Streamed>, Vec<(Response<Streamed>, Vec<String>)>);

impl Server {
    pub fn new(style: Style, bound: usize) -> Server {
        Server { style, bound, subs: BTreeMap::new(), streams: BTreeMap::new(), next: 0, life: 0 }
    }

    fn new_id(&mut self) -> String {
        self.next += 1;
        match self.style {
            Style::Exchange => format!("life-{}-{}", self.life, self.next),
            Style::Gromox => format!("{:04}", self.next),
        }
    }

    fn add(&mut self, folder: String, pull: bool) -> String {
        let id = self.new_id();
        let sub = Subscription {
            folder,
            pull,
            queue: VecDeque::new(),
            base: 0,
            missed: false,
            stray: false,
            conn: None,
        };
        self.subs.insert(id.clone(), sub);
        id
    }

    pub fn subscribe(&mut self, scope: Scope, pull: bool) -> Answer {
        let Scope::Folders(folders) = scope else { panic!("the world knows no all-folders") };
        let [FolderRef::Id(folder)] = &folders[..] else { panic!("{folders:?}") };
        let id = self.add(folder.clone(), pull);
        let watermark = (pull && self.style == Style::Exchange).then(|| "0".to_owned());
        Answer::Subscribed { id, watermark, date: None }
    }

    pub fn strangers_subscription(&mut self) {
        self.add(STRANGER.into(), false);
    }

    pub fn subscriptions_of(&self, folder: &str) -> Vec<String> {
        self.subs.iter().filter(|(_, s)| s.folder == folder).map(|(id, _)| id.clone()).collect()
    }

    /// Nobody will ever ask for what this subscription has, and will have.
    pub fn stray(&mut self, id: &str) -> Vec<String> {
        let Some(sub) = self.subs.get_mut(id) else { return Vec::new() };
        sub.stray = true;
        sub.queue.iter().map(|(item, _)| item.clone()).collect()
    }

    pub fn is_known(&self, id: &str) -> bool {
        self.subs.get(id).is_some_and(|s| !s.stray)
    }

    pub fn ours(&self) -> Vec<String> {
        self.subs.iter().filter(|(_, s)| s.folder != STRANGER).map(|(id, _)| id.clone()).collect()
    }

    pub fn conn_of(&self, id: &str) -> Option<ConnId> {
        self.subs.get(id)?.conn
    }

    pub fn put(&mut self, id: &str, folder: &str, item: &str, at: SystemTime) -> Put {
        let watermarks = self.style == Style::Exchange;
        let Some(sub) = self.subs.get_mut(id) else { return Put::Overflow };
        if let Some(conn) = sub.conn {
            return Put::Write(conn, told(id, folder, &[(item.to_owned(), at)]));
        }
        if sub.missed || (sub.queue.len() >= self.bound && !(sub.pull && watermarks)) {
            sub.missed = true;
            return Put::Overflow;
        }
        sub.queue.push_back((item.to_owned(), at));
        Put::Queued
    }

    /// Ends a subscription: what was queued is gone.
    pub fn unsubscribe(&mut self, id: &str) -> Vec<String> {
        let items = self.subs.remove(id).map(|s| s.queue.into_iter().map(|(item, _)| item).collect());
        items.unwrap_or_default()
    }

    pub fn restart(&mut self) -> Vec<String> {
        self.life += 1;
        self.next = 0;
        let subs = std::mem::take(&mut self.subs);
        subs.into_values().flat_map(|s| s.queue).map(|(item, _)| item).collect()
    }

    /// The queue of a subscription runs over, somewhere inside. Told at once where a stream hangs.
    pub fn overflow(&mut self, id: &str) -> Option<(ConnId, Response<Streamed>)> {
        let sub = self.subs.get_mut(id)?;
        match sub.conn {
            Some(conn) => Some((conn, bad_ids("ErrorMissedNotificationEvents", &[id]))),
            // With a watermark a question is answered from what the mailbox remembers: there is no queue.
            None => {
                sub.missed = !(sub.pull && self.style == Style::Exchange);
                None
            }
        }
    }

    /// The server knows that a stream is no more.
    pub fn detach(&mut self, conn: ConnId) {
        if let Some(stream) = self.streams.get_mut(&conn) {
            stream.server_alive = false;
        }
        for sub in self.subs.values_mut().filter(|s| s.conn == Some(conn)) {
            sub.conn = None;
        }
    }

    /// Opens a stream: its first message, and what was queued.
    pub fn attach(&mut self, conn: ConnId, ids: &[String]) -> Attached {
        let bad: Vec<&str> =
            ids.iter().filter(|id| !self.subs.contains_key(*id)).map(String::as_str).collect();
        let stream = Stream { client_alive: true, server_alive: true, ..Stream::default() };
        let stream = self.streams.entry(conn).insert_entry(stream).into_mut();
        let mut first = ok();
        if !bad.is_empty() {
            first = bad_ids("ErrorInvalidSubscription", &bad);
            if self.style == Style::Exchange {
                return (first, Vec::new());
            }
            stream.gromox_error = true;
            first.body.status = Some(Status::Closed);
        }
        let mut queued = Vec::new();
        for id in ids {
            let Some(sub) = self.subs.get_mut(id) else { continue };
            sub.conn = Some(conn);
            let all: Vec<(String, SystemTime)> = sub.queue.drain(..).collect();
            for part in all.chunks(PAGE) {
                queued
                    .push((told(id, &sub.folder, part), part.iter().map(|(item, _)| item.clone()).collect()));
            }
            if std::mem::take(&mut sub.missed) {
                queued.push((bad_ids("ErrorMissedNotificationEvents", &[id]), Vec::new()));
            }
        }
        (first, queued)
    }

    /// Answers GetEvents; beside it what was taken out of a queue for good.
    pub fn events(
        &mut self,
        id: &str,
        watermark: Option<String>,
    ) -> Result<(Notification, Vec<String>), Error> {
        let watermarks = self.style == Style::Exchange;
        let Some(sub) = self.subs.get_mut(id) else { return Err(coded("ErrorSubscriptionNotFound")) };
        if std::mem::take(&mut sub.missed) {
            return Err(coded("ErrorMissedNotificationEvents"));
        }
        let mut popped = Vec::new();
        let page: Vec<(String, SystemTime)>;
        let mut answer = Notification { subscription_id: id.to_owned(), ..Notification::default() };
        if watermarks {
            let at: usize = watermark.and_then(|w| w.parse().ok()).expect("the watermark that was given");
            while sub.base < at {
                sub.queue.pop_front();
                sub.base += 1;
            }
            page = sub.queue.iter().take(PAGE).cloned().collect();
            answer.more_events = sub.queue.len() > PAGE;
        } else {
            page = sub.queue.drain(..PAGE.min(sub.queue.len())).collect();
            popped = page.iter().map(|(item, _)| item.clone()).collect();
            answer.more_events = !sub.queue.is_empty();
        }
        answer.notices = notices(&sub.folder, &page);
        if answer.notices.is_empty() {
            answer.notices.push(Notice {
                kind: NoticeKind::Status,
                target: None,
                parent_folder_id: None,
                ..notice(NoticeKind::Status, "", "")
            });
        }
        if watermarks {
            for (i, n) in answer.notices.iter_mut().enumerate() {
                let done = if page.is_empty() { sub.base } else { sub.base + i + 1 };
                n.watermark = Some(done.to_string());
            }
        }
        Ok((answer, popped))
    }
}

fn notices(folder: &str, items: &[(String, SystemTime)]) -> Vec<Notice> {
    let each = items.iter().map(|(item, at)| {
        let mut notice = notice(NoticeKind::NewMail, item, folder);
        notice.time_stamp = Some(humantime::format_rfc3339_nanos(*at).to_string());
        notice
    });
    each.collect()
}

fn told(id: &str, folder: &str, items: &[(String, SystemTime)]) -> Response<Streamed> {
    let body =
        Streamed { notifications: vec![notification(id, notices(folder, items))], ..Streamed::default() };
    response(ResponseClass::Success, "NoError", body)
}
