//! A host over a store that a test looks into: killed and begun anew, with a mailbox whose changes sync tells.

use super::*;
use crate::engine::Nack;
use crate::proto::{SyncChange, SyncPage};

/// When the first run of a test begins.
const START: Duration = Duration::from_secs(1 << 30);

/// A store that the test looks into, and how many bytes it was given.
#[derive(Default)]
pub(super) struct Shelf(pub BTreeMap<String, Vec<u8>>, pub usize);

impl Shelf {
    pub fn commit(&mut self, changes: Vec<(String, Option<Vec<u8>>)>) {
        for (key, value) in changes {
            self.1 += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    pub fn of(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let prefix = format!("{name}/");
        let pairs = self.0.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())));
        pairs.collect()
    }
}

/// A host with an engine, a store and a mailbox whose changes sync tells.
pub(super) struct Run {
    pub engine: Engine,
    pub now: Now,
    pub shelf: Shelf,
    /// Ids in the folder, oldest first; the state of sync is how many of them were told.
    pub mailbox: Vec<String>,
    pub conn: ConnId,
    /// The store takes nothing.
    pub full: bool,
    /// The server does not know the state that it is asked from next.
    pub lost_state: bool,
    /// On the server, of this run and of killed ones; how many it allows; the last one's number.
    subscribed: Vec<String>,
    most: usize,
    last: u32,
    /// What had to be durable before the last event was seen.
    pub waited: Option<SaveId>,
    /// No stream comes about.
    pub no_stream: bool,
    /// Sync is answered when it is let go.
    pub slow_sync: bool,
    held: VecDeque<Input>,
    /// What was asked for after acknowledgements, and waits for an answer.
    pub acts: VecDeque<(CallId, Request)>,
}

impl Run {
    pub fn start(shelf: Shelf, mailbox: Vec<String>, change: impl FnOnce(&mut WatchSpec)) -> Run {
        Run::start_at(shelf, mailbox, Vec::new(), 0, SystemTime::UNIX_EPOCH + START, change)
    }

    /// A host that keeps the state itself; the shelf is its own.
    pub fn by_host(shelf: Shelf, mailbox: Vec<String>, change: impl FnOnce(&mut WatchSpec)) -> Run {
        let pairs = shelf.0.clone().into_iter().collect();
        Run::start_with(shelf, mailbox, Vec::new(), 0, Some(pairs), SystemTime::UNIX_EPOCH + START, change)
    }

    fn start_at(
        shelf: Shelf,
        mailbox: Vec<String>,
        subscribed: Vec<String>,
        last: u32,
        wall: SystemTime,
        change: impl FnOnce(&mut WatchSpec),
    ) -> Run {
        Run::start_with(shelf, mailbox, subscribed, last, None, wall, change)
    }

    fn start_with(
        shelf: Shelf,
        mailbox: Vec<String>,
        subscribed: Vec<String>,
        last: u32,
        by_host: Option<Vec<(String, Vec<u8>)>>,
        wall: SystemTime,
        change: impl FnOnce(&mut WatchSpec),
    ) -> Run {
        let mut engine = Engine::new(Settings { durable: true, ..settings() });
        if let Some(pairs) = by_host {
            engine.keep_with_host(pairs);
        }
        let first = shelf.0.get(NUMBERS).map_or(0, |n| String::from_utf8_lossy(n).parse().unwrap());
        assert!(engine.start_numbers(first).is_some(), "taken before anything is told");
        let now = Now { mono: Duration::from_secs(5), wall };
        let mut run = Run {
            engine,
            now,
            shelf,
            mailbox,
            conn: 0,
            full: false,
            lost_state: false,
            subscribed,
            most: 2,
            last,
            waited: None,
            no_stream: false,
            slow_sync: false,
            held: VecDeque::new(),
            acts: VecDeque::new(),
        };
        let mut spec = spec(1);
        spec.catch_up = true;
        spec.stored = run.shelf.of(&spec.name);
        change(&mut spec);
        run.feed(Input::Add(Box::new(spec)));
        run
    }

    pub fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        loop {
            while let Some(command) = self.engine.poll() {
                inputs.extend(self.execute(command));
            }
            let Some(input) = inputs.pop_front() else { return };
            self.engine.handle(self.now, input);
        }
    }

    pub fn execute(&mut self, command: Command) -> Vec<Input> {
        match command {
            Command::Save { save, .. } if self.full => {
                vec![Input::Saved { save, result: Err(error(ErrorKind::State)) }]
            }
            Command::Save { save, changes } => {
                self.shelf.commit(changes);
                vec![Input::Saved { save, result: Ok(()) }]
            }
            Command::Open { conn, .. } if self.no_stream => {
                vec![Input::Ended { conn, result: Err(error(ErrorKind::Connect)) }]
            }
            Command::Open { conn, .. } => {
                self.conn = conn;
                vec![Input::Opened(conn), Input::Message { conn, responses: vec![ok()] }]
            }
            Command::Call { call, request, .. } => {
                let answer = match request {
                    Request::GetFolder { folders } => {
                        let id = |f| if let FolderRef::Id(id) = f { id } else { FOLDER.into() };
                        Answer::Folders(folders.into_iter().map(|f| Ok(id(f))).collect())
                    }
                    Request::SubscribeStreaming { .. } if self.subscribed.len() == self.most => {
                        let result = Err(coded("ErrorExceededSubscriptionCount"));
                        return vec![Input::Called { call, result }];
                    }
                    Request::SubscribeStreaming { .. } => {
                        self.last += 1;
                        self.subscribed.push(format!("s{}", self.last));
                        Answer::Subscribed { id: format!("s{}", self.last), watermark: None, date: None }
                    }
                    Request::SyncFolderItems { sync_state: Some(_), .. }
                        if std::mem::take(&mut self.lost_state) =>
                    {
                        let result = Err(coded("ErrorInvalidSyncStateData"));
                        return vec![Input::Called { call, result }];
                    }
                    Request::SyncFolderItems { folder, .. } if folder != FolderRef::Id(FOLDER.into()) => {
                        let page = SyncPage {
                            sync_state: Some("empty".into()),
                            includes_last: true,
                            changes: vec![],
                        };
                        Answer::Synced { page, date: None }
                    }
                    Request::SyncFolderItems { sync_state, .. } => {
                        let known: usize = sync_state.map_or(0, |s| s.parse().unwrap());
                        let create = |id: &String| {
                            let id = Id { id: id.clone(), change_key: None };
                            // Older than every start.
                            let created = Some("1999-01-01T00:00:00Z".into());
                            SyncChange::Create(Item { id, created, ..Item::default() })
                        };
                        let changes = self.mailbox[known..].iter().rev().map(create).collect();
                        let sync_state = Some(self.mailbox.len().to_string());
                        let page = SyncPage { sync_state, includes_last: true, changes };
                        let answer = Answer::Synced { page, date: Some(self.now.wall) };
                        if self.slow_sync {
                            self.held.push_back(Input::Called { call, result: Ok(answer) });
                            return Vec::new();
                        }
                        answer
                    }
                    Request::Unsubscribe { subscription_id } => {
                        self.subscribed.retain(|s| *s != subscription_id);
                        Answer::Unsubscribed
                    }
                    act @ (Request::MarkRead { .. }
                    | Request::MoveItem { .. }
                    | Request::DeleteItem { .. }) => {
                        self.acts.push_back((call, act));
                        return Vec::new();
                    }
                    other => panic!("{other:?}"),
                };
                vec![Input::Called { call, result: Ok(answer) }]
            }
            _ => Vec::new(),
        }
    }

    pub fn mail(&mut self, id: &str) {
        self.mailbox.push(id.to_owned());
        let subscription = self.engine.watches[&1].subscription.as_ref().unwrap().id.clone();
        self.feed(Input::Message { conn: self.conn, responses: vec![mail(&subscription, &[id])] });
    }

    /// The stream tells something of an item.
    pub fn tell(&mut self, kind: NoticeKind, item: &str) {
        self.notice(notice(kind, item, FOLDER));
    }

    pub fn notice(&mut self, notice: Notice) {
        let id = self.engine.watches[&1].subscription.as_ref().unwrap().id.clone();
        let body = Streamed { notifications: vec![notification(&id, vec![notice])], ..Streamed::default() };
        let responses = vec![response(ResponseClass::Success, "NoError", body)];
        self.feed(Input::Message { conn: self.conn, responses });
    }

    /// Answers the oldest thing that was asked for after an acknowledgement; what it was.
    #[track_caller]
    pub fn acted(&mut self, result: Result<(), Error>) -> Request {
        let (call, request) = self.acts.pop_front().expect("something is asked for");
        self.feed(Input::Called { call, result: result.map(|()| Answer::Acted) });
        request
    }

    /// The next mailbox event, as `Kind id attempt`, and its number.
    pub fn next(&mut self) -> Option<(String, u64)> {
        loop {
            let event = self.engine.take(self.now)?;
            self.waited = self.engine.awaited();
            self.feed(Input::Tick);
            if let Some(id) = &event.item_id {
                let attempt = event.attempt.map_or(String::new(), |n| format!(" {n}"));
                return Some((format!("{} {id}{attempt}", event.kind.name()), event.seq));
            }
        }
    }

    pub fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).map(|(text, _)| text).collect()
    }

    pub fn ack(&mut self, seq: u64) {
        self.engine.ack(self.now, seq).unwrap();
        self.feed(Input::Tick);
    }

    pub fn nack(&mut self, seq: u64, nack: Nack) {
        self.engine.nack(self.now, seq, nack).unwrap();
        self.feed(Input::Tick);
    }

    pub fn wait(&mut self, seconds: u64) {
        let end = self.now.mono + Duration::from_secs(seconds);
        while let Some(at) = self.engine.wake_at().filter(|at| *at <= end) {
            self.now.mono = self.now.mono.max(at);
            self.feed(Input::Tick);
        }
        self.now.mono = end;
    }

    /// As `wait`, and the wall's clock goes on too.
    pub fn later(&mut self, seconds: u64) {
        self.now.wall += Duration::from_secs(seconds);
        self.wait(seconds);
    }

    /// Answers what sync was asked.
    pub fn let_go(&mut self) {
        self.slow_sync = false;
        while let Some(answer) = self.held.pop_front() {
            self.feed(answer);
        }
    }

    /// Killed, and started anew.
    pub fn restart(self, change: impl FnOnce(&mut WatchSpec)) -> Run {
        Run::start_at(self.shelf, self.mailbox, self.subscribed, self.last, self.now.wall, change)
    }
}

/// Acknowledges each by itself, and wants new mail only.
pub(super) fn manual(spec: &mut WatchSpec) {
    spec.ack = Ack::Manual;
    spec.events = vec![EventKind::NewMail];
}
