//! The server of the proof: folders whose true net differences sync tells, and subscriptions that lose what they are made to.

use super::*;

/// So many changes in a page: several pages are needed for anything.
pub(super) const PAGE: usize = 4;
/// So many events in an answer to GetEvents.
pub(super) const EVENTS: usize = 3;
/// So many events before those that were asked for are still in a mailbox's table.
const TABLE: usize = 20;
/// The folders of a mailbox that are watched, and one that is not.
pub(super) const FOLDERS: [&str; 3] = ["A", "B", "elsewhere"];

#[derive(Clone, Debug)]
pub(super) struct Thing {
    /// The same through moves.
    pub line: usize,
    /// Seconds since 1970.
    created: u64,
    version: u32,
    flips: u32,
    /// The number in its id: in the order of coming.
    order: u64,
}

/// What a client knows of a folder: each item's version and its read flag's, by the number in its id.
type Known = BTreeMap<u64, (u32, u32)>;

pub(super) struct Subscription {
    pub mailbox: usize,
    kinds: Vec<NoticeKind>,
    pub pull: bool,
    pub push: Option<pushes::Push>,
    pub queue: VecDeque<Notice>,
    /// How many events are no longer in the table, where there are watermarks.
    pub base: usize,
    pub missed: bool,
    /// It tells nothing any more, and does not say so.
    pub dead: bool,
    pub conn: Option<u64>,
}

#[derive(Default)]
pub(super) struct Server {
    /// Ids begin anew after a restart, and pull has no watermarks.
    pub gromox: bool,
    bound: usize,
    pub folders: BTreeMap<String, BTreeMap<String, Thing>>,
    pub subs: BTreeMap<String, Subscription>,
    states: Vec<(String, Known)>,
    /// States before this one are of no use.
    lost: usize,
    next_sub: u64,
    life: u64,
    order: u64,
}

pub(super) fn folder_of(mailbox: usize, folder: usize) -> String {
    format!("{mailbox}/{}", FOLDERS[folder])
}

pub(super) fn is_watched(folder: &str) -> bool {
    !folder.ends_with("elsewhere")
}

impl Server {
    pub fn new(gromox: bool, bound: usize) -> Server {
        Server { gromox, bound, ..Server::default() }
    }

    pub fn create(&mut self, folder: &str, line: usize, created: u64) -> String {
        self.order += 1;
        let id = format!("i{}", self.order);
        let thing = Thing { line, created, version: 0, flips: 0, order: self.order };
        self.folders.entry(folder.to_owned()).or_default().insert(id.clone(), thing);
        id
    }

    /// The new id of an item in another folder.
    pub fn shift(&mut self, from: &str, id: &str, to: &str, keep: bool, line: Option<usize>) -> String {
        let old = self.folders.get_mut(from).expect("a folder");
        let thing = match keep {
            true => old.get(id).cloned(),
            false => old.remove(id),
        }
        .expect("an item");
        self.create(to, line.unwrap_or(thing.line), thing.created)
    }

    pub fn change(&mut self, folder: &str, id: &str, flag: bool) {
        if let Some(thing) = self.folders.get_mut(folder).and_then(|f| f.get_mut(id)) {
            match flag {
                true => thing.flips += 1,
                false => thing.version += 1,
            }
        }
    }

    pub fn remove(&mut self, folder: &str, id: &str) {
        self.folders.get_mut(folder).expect("a folder").remove(id);
    }

    pub fn subscribe(&mut self, mailbox: usize, kinds: Vec<NoticeKind>, pull: bool) -> Answer {
        self.next_sub += 1;
        let id = match self.gromox {
            true => format!("{:04}", self.next_sub),
            false => format!("{}-{}", self.life, self.next_sub),
        };
        let queue = VecDeque::new();
        let sub = Subscription {
            mailbox,
            kinds,
            pull,
            push: None,
            queue,
            base: 0,
            missed: false,
            dead: false,
            conn: None,
        };
        self.subs.insert(id.clone(), sub);
        let watermark = (pull && !self.gromox).then(|| "0".to_owned());
        Answer::Subscribed { id, watermark, date: None }
    }

    /// By push; its watermarks count from 0.
    pub fn subscribe_push(&mut self, mailbox: usize, kinds: Vec<NoticeKind>) -> (String, Answer) {
        let Answer::Subscribed { id, date, .. } = self.subscribe(mailbox, kinds, false) else {
            unreachable!("it subscribes")
        };
        if let Some(sub) = self.subs.get_mut(&id) {
            sub.push = Some(pushes::Push::default());
        }
        (id.clone(), Answer::Subscribed { id, watermark: Some("0".to_owned()), date })
    }

    pub fn restart(&mut self) {
        self.life += 1;
        self.next_sub = 0;
        self.subs.clear();
    }

    /// Queues a notice or says on which stream it goes.
    pub fn put(&mut self, id: &str, notice: &Notice) -> Option<u64> {
        let (gromox, bound) = (self.gromox, self.bound);
        let sub = self.subs.get_mut(id)?;
        if sub.dead || !sub.kinds.contains(&notice.kind) {
            return None;
        }
        if sub.conn.is_some() {
            return sub.conn;
        }
        if sub.push.is_some() {
            // The mailbox's table, as for pull.
            sub.queue.push_back(notice.clone());
            return None;
        }
        if sub.missed || (sub.queue.len() >= bound && (gromox || !sub.pull)) {
            sub.missed = true;
        } else {
            sub.queue.push_back(notice.clone());
        }
        None
    }

    /// Opens a stream; what was queued, or the ids that are unknown.
    pub fn attach(&mut self, conn: u64, ids: &[String]) -> Result<Vec<Response<Streamed>>, Vec<String>> {
        let bad: Vec<String> = ids.iter().filter(|id| !self.subs.contains_key(*id)).cloned().collect();
        if !bad.is_empty() {
            return Err(bad);
        }
        let mut out = vec![ok()];
        for id in ids {
            let Some(sub) = self.subs.get_mut(id) else { continue };
            sub.conn = Some(conn);
            let queued: Vec<Notice> = sub.queue.drain(..).collect();
            out.extend(queued.chunks(EVENTS).map(|part| told(id, part.to_vec())));
            if std::mem::take(&mut sub.missed) {
                out.push(bad_ids("ErrorMissedNotificationEvents", &[id]));
            }
        }
        Ok(out)
    }

    pub fn detach(&mut self, conn: u64) {
        self.subs.values_mut().filter(|s| s.conn == Some(conn)).for_each(|s| s.conn = None);
    }

    pub fn events(&mut self, id: &str, watermark: Option<String>) -> Result<Answer, Error> {
        let gromox = self.gromox;
        let Some(sub) = self.subs.get_mut(id) else { return Err(coded("ErrorSubscriptionNotFound")) };
        if std::mem::take(&mut sub.missed) {
            // What fitted in before is no use without what did not: the queue begins anew.
            sub.base += sub.queue.len();
            sub.queue.clear();
            return Err(coded("ErrorMissedNotificationEvents"));
        }
        let mut answer = Notification { subscription_id: id.to_owned(), ..Notification::default() };
        match watermark.filter(|_| !gromox) {
            Some(at) => {
                let at: usize = at.parse().expect("a watermark that was given");
                // The mailbox's table of events, which is asked for from any place in it, and does not go back for ever.
                while sub.base + TABLE < at {
                    sub.queue.pop_front();
                    sub.base += 1;
                }
                if at < sub.base {
                    return Err(coded("ErrorInvalidWatermark"));
                }
                let after = at - sub.base;
                answer.notices = sub.queue.iter().skip(after).take(EVENTS).cloned().collect();
                answer.more_events = sub.queue.len() > after + EVENTS;
                answer.previous_watermark = Some(at.to_string());
                for (i, notice) in answer.notices.iter_mut().enumerate() {
                    notice.watermark = Some((at + i + 1).to_string());
                }
            }
            None => {
                answer.notices = sub.queue.drain(..EVENTS.min(sub.queue.len())).collect();
                answer.more_events = !sub.queue.is_empty();
            }
        }
        if answer.notices.is_empty() {
            let mut status = notice(NoticeKind::Status, "", "");
            (status.target, status.parent_folder_id) = (None, None);
            status.watermark = (!gromox && sub.pull).then(|| (sub.base + sub.queue.len()).to_string());
            answer.notices.push(status);
        }
        Ok(Answer::Events(answer))
    }

    /// A page of what has changed since a state; `None` where the state is of no use.
    pub fn sync(&mut self, folder: &str, state: Option<&str>, most: usize) -> Option<SyncPage> {
        let number = state.map(|s| s.parse::<usize>().expect("a state that was given"));
        if number.is_some_and(|n| n < self.lost) {
            return None;
        }
        let mut known = match number {
            Some(n) => {
                assert_eq!(self.states[n].0, folder, "another folder's state");
                self.states[n].1.clone()
            }
            None => Known::new(),
        };
        let now = self.folders.entry(folder.to_owned()).or_default();
        let mut changes: Vec<(u64, u64)> = Vec::new();
        let mut there = 0;
        for thing in now.values() {
            let told = known.get(&thing.order);
            there += usize::from(told.is_some());
            if told != Some(&(thing.version, thing.flips)) {
                changes.push((thing.order, thing.order));
            }
        }
        if there < known.len() {
            let there: BTreeSet<u64> = now.values().map(|t| t.order).collect();
            changes.extend(known.keys().filter(|id| !there.contains(id)).map(|id| (0, *id)));
        }
        changes.sort_by(|a, b| b.cmp(a));
        let includes_last = changes.len() <= most;
        changes.truncate(most);
        let mut page = Vec::new();
        for (_, number) in changes {
            let id = format!("i{number}");
            let key = Id { id: id.clone(), change_key: Some("k".into()) };
            let Some(thing) = now.get(&id) else {
                known.remove(&number);
                page.push(SyncChange::Delete(key));
                continue;
            };
            let date = time(thing.created);
            let item = Item {
                id: key.clone(),
                created: Some(date.clone()),
                received: Some(date),
                ..Item::default()
            };
            page.push(match known.insert(number, (thing.version, thing.flips)) {
                None => SyncChange::Create(item),
                Some((version, _)) if version != thing.version => SyncChange::Update(item),
                Some(_) => SyncChange::ReadFlagChange { id: key, is_read: thing.flips % 2 == 1 },
            });
        }
        self.states.push((folder.to_owned(), known));
        let sync_state = Some((self.states.len() - 1).to_string());
        Some(SyncPage { sync_state, includes_last, changes: page })
    }

    pub fn lose_states(&mut self) {
        self.lost = self.states.len();
    }
}

pub(super) fn told(id: &str, notices: Vec<Notice>) -> Response<Streamed> {
    let body = Streamed { notifications: vec![notification(id, notices)], ..Streamed::default() };
    response(ResponseClass::Success, "NoError", body)
}

fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
