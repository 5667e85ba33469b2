//! Tests of the decisions: a desk that plays the runtime, with a clock that a test moves by hand.

mod acting;
mod affinity;
mod all_folders;
mod catching_up;
mod coalescing;
mod delivering;
mod ending;
mod fetching;
mod found;
mod host;
mod keeping;
mod kept_by_host;
mod locating;
mod losing;
mod owning;
mod paths;
mod proof;
mod pulling;
mod pushing;
mod refusals;
mod rows;
mod streaming;
mod tokens;
mod world;

use super::*;
use crate::event::{Detail, Fill, Spooled};
use crate::proto::{
    ConnectionStatus as Status, FolderRef, Id, Item, Notice, Notification, PushUrl, Request, Response,
    ResponseClass, ResponseCode, Scope, Streamed, Target,
};
use crate::{Ack, Error, ErrorKind, Event, Fetch};

pub(super) const FOLDER: &str = "F-inbox";

/// Plays the runtime: keeps what was commanded until the test answers it.
pub(super) struct Desk {
    pub engine: Engine,
    pub now: Now,
    pub calls: VecDeque<(CallId, u64, RequestVersion, Request)>,
    pub locates: VecDeque<(CallId, u64, bool)>,
    pub opens: VecDeque<(ConnId, u64, RequestVersion, Request)>,
    pub aborts: Vec<ConnId>,
    /// Which way calls and streams go.
    pub ways: BTreeMap<CallId, Route>,
    pub stream_ways: BTreeMap<ConnId, Route>,
    pub told: VecDeque<Event>,
    pub forgotten: Vec<u64>,
    pub unwanted: Vec<String>,
    pub wanted: Vec<String>,
    pub finished: bool,
}

impl Desk {
    pub fn new(settings: Settings) -> Desk {
        Desk {
            engine: Engine::new(settings),
            now: Now {
                mono: Duration::from_secs(5),
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            },
            calls: VecDeque::new(),
            locates: VecDeque::new(),
            opens: VecDeque::new(),
            aborts: Vec::new(),
            ways: BTreeMap::new(),
            stream_ways: BTreeMap::new(),
            told: VecDeque::new(),
            forgotten: Vec::new(),
            unwanted: Vec::new(),
            wanted: Vec::new(),
            finished: false,
        }
    }

    pub fn feed(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.execute();
        while let Some(event) = self.engine.take(self.now) {
            self.told.push_back(event);
        }
        // Of what was acknowledged by asking for more.
        self.execute();
    }

    fn execute(&mut self) {
        while let Some(command) = self.engine.poll() {
            assert!(!self.finished, "a command after Finished: {command:?}");
            if let Command::Call { watch, .. } | Command::Open { watch, .. } | Command::Forget(watch) =
                &command
            {
                assert!(!self.forgotten.contains(watch), "a command about what was forgotten: {command:?}");
            }
            match command {
                Command::Call { call, watch, version, request, route } => {
                    self.ways.extend(route.map(|route| (call, route)));
                    self.calls.push_back((call, watch, version, request))
                }
                Command::Locate { call, watch, fresh } => self.locates.push_back((call, watch, fresh)),
                Command::Open { conn, watch, version, request, route } => {
                    self.stream_ways.extend(route.map(|route| (conn, route)));
                    self.opens.push_back((conn, watch, version, request))
                }
                Command::Abort(conn) => self.aborts.push(conn),
                Command::Save { .. } => panic!("nothing is durable here"),
                Command::Unwanted(id) => self.unwanted.push(id),
                Command::Wanted(id) => self.wanted.push(id),
                Command::Forget(watch) => self.forgotten.push(watch),
                Command::Finished => self.finished = true,
            }
        }
    }

    /// Lets time pass, with every tick that is asked for.
    pub fn wait(&mut self, seconds: f64) {
        let end = self.now.mono + Duration::from_secs_f64(seconds);
        let mut ticks = 0;
        while let Some(at) = self.engine.wake_at().filter(|at| *at <= end) {
            self.set(at.max(self.now.mono));
            self.feed(Input::Tick);
            ticks += 1;
            assert!(ticks < 100_000, "the engine wants to be woken without end");
        }
        self.set(end);
    }

    fn set(&mut self, mono: Duration) {
        self.now.wall += mono - self.now.mono;
        self.now.mono = mono;
    }

    pub fn add(&mut self, watch: u64, change: impl FnOnce(&mut WatchSpec)) {
        let mut spec = spec(watch);
        change(&mut spec);
        self.feed(Input::Add(Box::new(spec)));
    }

    /// The one call that was commanded since the last.
    #[track_caller]
    pub fn call(&mut self) -> (CallId, u64, Request) {
        let (call, watch, _, request) = self.calls.pop_front().expect("a call is commanded");
        (call, watch, request)
    }

    #[track_caller]
    pub fn open(&mut self) -> (ConnId, Vec<String>) {
        let (conn, _, _, request) = self.opens.pop_front().expect("a stream is commanded");
        match request {
            Request::GetStreamingEvents { subscription_ids, .. } => (conn, subscription_ids),
            other => panic!("{other:?}"),
        }
    }

    pub fn answer(&mut self, call: CallId, answer: Answer) {
        self.feed(Input::Called { call, result: Ok(answer) });
    }

    pub fn fail(&mut self, call: CallId, error: Error) {
        self.feed(Input::Called { call, result: Err(error) });
    }

    /// As `subscribe`, for a certain watch of several.
    #[track_caller]
    pub fn subscribe_watch(&mut self, watch: u64, id: &str) {
        let at = self.calls.iter().position(|c| c.1 == watch).expect("a call of the watch");
        self.calls.rotate_left(at);
        let rest = self.calls.split_off(1);
        let (call, _, _, request) = self.calls[0].clone();
        if let Request::GetFolder { folders } = request {
            self.calls.clear();
            self.answer(call, folder_ids(&folders));
        }
        self.subscribe(id);
        self.calls.extend(rest);
    }

    /// Answers GetFolder and Subscribe of a watch.
    #[track_caller]
    pub fn subscribe(&mut self, id: &str) {
        let (call, _, request) = self.call();
        let (call, request) = match request {
            Request::GetFolder { folders } => {
                self.answer(call, folder_ids(&folders));
                let (call, _, request) = self.call();
                (call, request)
            }
            request => (call, request),
        };
        match request {
            Request::SubscribeStreaming { .. }
            | Request::SubscribePull { .. }
            | Request::SubscribePush { .. } => {}
            other => panic!("{other:?}"),
        }
        self.answer(call, Answer::Subscribed { id: id.to_owned(), watermark: None, date: None });
    }

    pub fn message(&mut self, conn: ConnId, response: Response<Streamed>) {
        self.feed(Input::Message { conn, responses: vec![response] });
    }

    /// The first messages of a stream.
    pub fn begin(&mut self, conn: ConnId) {
        self.feed(Input::Opened(conn));
        self.message(conn, ok());
    }

    pub fn end(&mut self, conn: ConnId, result: Result<(), Error>) {
        self.feed(Input::Ended { conn, result });
    }

    /// Kinds that were told since the last look, each with its watch.
    pub fn told(&mut self) -> Vec<(u64, EventKind)> {
        self.told.drain(..).map(|e| (e.watch, e.kind)).collect()
    }

    /// What was told since the last look, as text to compare.
    pub fn story(&mut self) -> Vec<String> {
        self.told
            .drain(..)
            .map(|e| {
                let mut text = format!("{} {}", e.watch, e.kind.name());
                if let Some(id) = e.item_id.as_ref().or(e.folder_id.as_ref()) {
                    text += &format!(" {id}");
                }
                if let Some(reason) = e.detail.as_ref().and_then(|d| d.reason) {
                    text += &format!(" {reason:?}");
                }
                if let Some(content) = e.item.as_ref().and_then(|i| i.content) {
                    text += &format!(" {content:?}");
                }
                text
            })
            .collect()
    }

    /// A watch with a stream that works.
    #[track_caller]
    pub fn streaming(&mut self, watch: u64, id: &str) -> ConnId {
        self.add(watch, |_| {});
        self.subscribe(id);
        let (conn, ids) = self.open();
        assert_eq!(ids, [id]);
        self.begin(conn);
        assert_eq!(self.told(), [(watch, EventKind::Connected)]);
        conn
    }
}

/// A desk with watches `1..=watches` that share a stream, by subscriptions `s1`, `s2` …
#[track_caller]
fn streaming(watches: u64) -> (Desk, ConnId) {
    let mut d = Desk::new(settings());
    (1..=watches).for_each(|watch| d.add(watch, |_| {}));
    let ids: Vec<_> = (1..=watches).map(|watch| format!("s{watch}")).collect();
    (1..=watches).zip(&ids).for_each(|(watch, id)| d.subscribe_watch(watch, id));
    let (conn, on_stream) = d.open();
    assert_eq!(on_stream, ids);
    d.begin(conn);
    assert!(d.told().iter().all(|(_, kind)| *kind == EventKind::Connected));
    (d, conn)
}

/// A desk with watch 1, and the first call that it makes.
fn asking() -> (Desk, CallId) {
    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    let (call, ..) = d.call();
    (d, call)
}

pub(super) fn settings() -> Settings {
    Settings {
        connections: 10,
        subscriptions_per_connection: 200,
        fetches: 4,
        syncs: 2,
        pending_events: 100,
        queue: Limits { events: 10_000, bytes: 1 << 24 },
        durable: false,
        seed: 7,
    }
}

pub(super) fn spec(watch: u64) -> WatchSpec {
    WatchSpec {
        watch,
        mailbox: format!("user{watch}@example.test").into(),
        endpoint: 1,
        affinity: "".into(),
        own_budget: false,
        folders: vec![FolderRef::Distinguished { name: "inbox".into(), mailbox: None }.into()],
        events: EventKind::MAILBOX.to_vec(),
        mode: WatchMode::Streaming { connection_minutes: 30 },
        fetch: Fetch::None,
        catch_up: false,
        since_all: false,
        ack: Ack::Auto,
        max_unacked: 100,
        coalesce: Duration::ZERO,
        after_ack: AfterAck::None,
        account: None,
        name: format!("name{watch}").into(),
        stored: Vec::new(),
        locate: false,
    }
}

/// The deleted items.
pub(super) fn deleted() -> AfterAck {
    AfterAck::Delete(FolderRef::Distinguished { name: "deleteditems".into(), mailbox: None })
}

/// What GetFolder says of folders: a name is that of the inbox.
pub(super) fn folder_ids(folders: &[FolderRef]) -> Answer {
    let id = |folder: &FolderRef| match folder {
        FolderRef::Id(id) => id.clone(),
        FolderRef::Distinguished { .. } => FOLDER.to_owned(),
    };
    Answer::Folders(folders.iter().map(|folder| Ok(id(folder))).collect())
}

/// Pull at a steady interval.
pub(super) fn pull(seconds: u64, timeout_minutes: u32) -> WatchMode {
    let interval = Duration::from_secs(seconds);
    WatchMode::Pull { interval, quiet: interval, timeout_minutes }
}

pub(super) fn response(class: ResponseClass, code: &str, body: Streamed) -> Response<Streamed> {
    Response { class, code: ResponseCode(code.to_owned().into()), text: None, back_off: None, body }
}

pub(super) fn ok() -> Response<Streamed> {
    let body = Streamed { status: Some(Status::Ok), ..Streamed::default() };
    response(ResponseClass::Success, "NoError", body)
}

pub(super) fn closed() -> Response<Streamed> {
    let body = Streamed { status: Some(Status::Closed), ..Streamed::default() };
    response(ResponseClass::Success, "NoError", body)
}

pub(super) fn bad_ids(code: &str, ids: &[&str]) -> Response<Streamed> {
    let error_subscription_ids = ids.iter().map(|s| (*s).to_owned()).collect();
    response(ResponseClass::Error, code, Streamed { error_subscription_ids, ..Streamed::default() })
}

pub(super) fn notice(kind: NoticeKind, item: &str, folder: &str) -> Notice {
    Notice {
        kind,
        watermark: None,
        time_stamp: None,
        target: Some(Target::Item(Id { id: item.to_owned(), change_key: Some("CQAAAA==".into()) })),
        parent_folder_id: Some(Id { id: folder.to_owned(), change_key: None }),
        old_target: None,
        old_parent_folder_id: None,
        unread_count: None,
    }
}

pub(super) fn notification(id: &str, notices: Vec<Notice>) -> Notification {
    Notification { subscription_id: id.to_owned(), notices, ..Notification::default() }
}

/// New mail for a subscription.
pub(super) fn mail(id: &str, items: &[&str]) -> Response<Streamed> {
    let notices = items.iter().map(|i| notice(NoticeKind::NewMail, i, FOLDER)).collect();
    let body = Streamed { notifications: vec![notification(id, notices)], ..Streamed::default() };
    response(ResponseClass::Success, "NoError", body)
}

pub(super) fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "scripted")
}

pub(super) fn http(status: u16) -> Error {
    let kind = if matches!(status, 401 | 403) { ErrorKind::Auth } else { ErrorKind::Http };
    Error::new(kind, "scripted").with_http_status(status)
}

pub(super) fn coded(code: &str) -> Error {
    Error::new(ErrorKind::Server, "scripted").with_code(code)
}

pub(super) fn gap_of(event: &Event) -> &Detail {
    assert_eq!(event.kind, EventKind::Gap);
    let detail = event.detail.as_ref().expect("a gap has a detail");
    assert_eq!(detail.fill, Some(Fill::None));
    assert!(detail.since.is_some_and(|since| since <= event.time));
    detail
}
