//! The decisions, without the deeds: subscribe, open, reopen, resubscribe, gap, fetch, hand out, back off, close.
//!
//! [`Engine`] takes [`Input`]s with the time they came at, and gives [`Command`]s. It knows no socket, thread or clock, so
//! an hour passes in a millisecond, and a seed replays a bug. Whoever feeds an input must execute the commands that
//! follow, in their order, before the next input ([`Engine::poll`] until `None`).

mod acks;
mod after_ack;
pub(crate) mod answer;
mod audit;
mod backoff;
mod catch_up;
mod coalesce;
mod delivery;
mod doubts;
mod fetch;
mod folder;
mod gates;
mod group;
mod heard;
mod hierarchy;
mod host_state;
pub(crate) mod legacy_ids;
mod losses;
mod mailbox;
mod owners;
mod pages;
pub(crate) mod paths;
mod pull;
mod push;
mod save;
mod status;
mod stream;
mod tell;
mod timers;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cookies::Cookies;
use crate::event::{Content, Spooled};
use crate::proto::{
    FolderPage, FolderStamp, HierarchyPage, Item, NoticeKind, PushUrl, Request, RequestVersion, Response,
    Streamed, SyncPage,
};
use crate::{Ack, Error, EventKind, Fetch, Reason};

use acks::{Opens, Ticket};
use after_ack::Actions;
use backoff::Gate;
use coalesce::Windows;
use fetch::{FetchId, Fetches, Wanted};
use group::{Group, GroupId, Learned, Link};
use host_state::HostState;
use legacy_ids::Asked;
use mailbox::{Step, Watch};
use owners::Owners;
use pages::Syncs;
use pull::Polls;
use push::Pushes;
use save::{Batch, Saves};
use timers::{Timer, Timers};

pub use acks::{Nack, Parked};
pub use after_ack::AfterAck;
use delivery::Delivery;
pub use delivery::Limits;
pub use fetch::item_content;
pub use folder::digest;
pub use paths::FolderPath;
pub use push::{PushAnswer, PushOutcome, PushPart, Pushed};
pub use save::{NUMBERS, SaveId};
pub use status::{ConnectionState, ConnectionStatus, Counters, Status, WatchState, WatchStatus};

/// Both clocks at one moment. The engine never asks for them.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic, since the client was opened: for waits.
    pub mono: Duration,
    /// Wall: for what the host is told.
    pub wall: SystemTime,
}

/// What a watch asks for.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// Its number, never 0 and never used twice.
    pub watch: u64,
    /// Its mailbox's address.
    pub mailbox: Arc<str>,
    /// Watches with the same number share a server, a sign-in and so their connections and back-off.
    pub endpoint: u32,
    /// What mailboxes that may share a stream have in common (`GroupingInformation`); empty where nobody said.
    pub affinity: Arc<str>,
    /// Whether the server charges its mailbox for what it costs (impersonation), not the account.
    pub own_budget: bool,
    /// The folders; empty means all folders of the mailbox.
    pub folders: Vec<FolderPath>,
    /// The kinds that the host wants to be told; at least one.
    pub events: Vec<EventKind>,
    /// Streaming, pull or push.
    pub mode: WatchMode,
    /// What is fetched before an event is handed out.
    pub fetch: Fetch,
    /// Whether sync tells what the stream did not.
    pub catch_up: bool,
    /// Whether what lay in a folder before its first start is told too.
    pub since_all: bool,
    /// How events are acknowledged.
    pub ack: Ack,
    /// How many events the host may have unacknowledged, where it acknowledges them itself.
    pub max_unacked: usize,
    /// For how long what happens to an item is gathered into one event; zero for not at all.
    pub coalesce: Duration,
    /// What is done with an item when its event is acknowledged.
    pub after_ack: AfterAck,
    /// What the store calls it.
    pub name: Arc<str>,
    /// What the store has of it: keys without the name, and values.
    pub stored: Vec<(String, Vec<u8>)>,
    /// Whether its server has to be found first: `endpoint` is then only that of the looking.
    pub locate: bool,
}

/// How a watch hears of events.
#[derive(Clone, Debug)]
pub enum WatchMode {
    /// On a stream that the server ends after so many minutes (1–30).
    Streaming {
        /// `ConnectionTimeout`.
        connection_minutes: u32,
    },
    /// By asking.
    Pull {
        /// How long to wait between two questions while events come.
        interval: Duration,
        /// How long at the most, when none come.
        quiet: Duration,
        /// After how many minutes without a question the server may forget the subscription (1–1440).
        timeout_minutes: u32,
    },
    /// By what the server sends: [`Engine::pushed`].
    Push {
        /// Where it sends it to.
        url: PushUrl,
        /// After how many minutes without an event it sends a sign of life (1–1440).
        status_minutes: u32,
        /// After how long without anything the subscription is taken for dead.
        silence: Duration,
    },
}

/// Limits of the engine as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many streams may hang at one endpoint.
    pub connections: usize,
    /// How many subscriptions share a stream (1–200).
    pub subscriptions_per_connection: usize,
    /// How many items of an endpoint are fetched at a time.
    pub fetches: usize,
    /// How many sync calls an endpoint has under way at a time.
    pub syncs: usize,
    /// How many events of a watch wait for content before further ones are dropped, with a gap.
    pub pending_events: usize,
    /// Bounds of the queue of events for the host.
    pub queue: Limits,
    /// Whether there is a store that outlives the process.
    pub durable: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

/// How a request finds the machine of a subscription.
#[derive(Clone, Debug)]
pub struct Route {
    /// The mailbox that leads there.
    pub anchor: Arc<str>,
    /// What the server gave to be sent back, for the engine to keep and the network to fill.
    pub cookies: Arc<Cookies>,
}

/// Names a call that was commanded.
pub type CallId = u64;
/// Names a stream that was commanded.
pub type ConnId = u64;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A watch is to begin.
    Add(WatchSpec),
    /// A watch is to end: `Closed` follows, Unsubscribe is tried.
    Remove(u64),
    /// A call came back.
    Called {
        /// The call.
        call: CallId,
        /// What came.
        result: Result<Answer, Error>,
    },
    /// The head of a stream's answer came (status 200).
    Opened(ConnId),
    /// An envelope came on a stream.
    Message {
        /// The stream.
        conn: ConnId,
        /// Its response messages.
        responses: Vec<Response<Streamed>>,
    },
    /// An envelope came that could not be read; the stream goes on.
    BadEnvelope {
        /// The stream.
        conn: ConnId,
        /// What was wrong.
        error: Error,
    },
    /// A stream is over; nothing more comes of it. `Ok` for the end of its body, whether `Closed` was told or not.
    Ended {
        /// The stream.
        conn: ConnId,
        /// How.
        result: Result<(), Error>,
    },
    /// Whether as many messages lie in files that the host has not taken yet as may lie there.
    SpoolFull(bool),
    /// A batch is in the store for good, or is not.
    Saved {
        /// The batch.
        save: SaveId,
        /// What became of it.
        result: Result<(), Error>,
    },
    /// A time that was asked for by [`Engine::wake_at`] has come.
    Tick,
    /// The client is to end: every watch is told `Closed`, Unsubscribe is tried for each subscription.
    Close,
}

/// What a call brought.
#[derive(Debug)]
pub enum Answer {
    /// `Subscribe`.
    Subscribed {
        /// The subscription.
        id: String,
        /// Where to ask on, if the server tells.
        watermark: Option<String>,
        /// The server's clock.
        date: Option<SystemTime>,
    },
    /// [`Command::Locate`].
    Located {
        /// The server's number.
        endpoint: u32,
        /// What its mailbox has in common with those that may share a stream with it; empty where nobody said.
        affinity: Arc<str>,
    },
    /// `GetFolder`: an id or an error for each folder asked for, in that order.
    Folders(Vec<Result<String, Error>>),
    /// `FindFolder`.
    FoundFolders(FolderPage),
    /// `GetEvents`.
    Events(crate::proto::Notification),
    /// `Unsubscribe`.
    Unsubscribed,
    /// `UpdateItem`, `MoveItem` or `DeleteItem` of one item.
    Acted,
    /// `ConvertId` of one id.
    Converted(String),
    /// `SyncFolderItems`.
    Synced {
        /// The changes and the new state.
        page: SyncPage,
        /// The server's clock.
        date: Option<SystemTime>,
    },
    /// `SyncFolderHierarchy`.
    Hierarchy {
        /// The changes and the new state.
        page: HierarchyPage,
        /// The server's clock.
        date: Option<SystemTime>,
    },
    /// `GetFolder` of stamps: one or an error for each folder asked for, in that order.
    Stamps {
        /// The stamps.
        stamps: Vec<Result<FolderStamp, Error>>,
        /// The server's clock.
        date: Option<SystemTime>,
    },
    /// `GetItem` without MIME: an item or an error for each one asked for, in that order.
    Items(Vec<Result<Item, Error>>),
    /// `GetItem` of one item with its MIME, which the runtime has put into a file already.
    Message {
        /// The item.
        item: Box<Item>,
        /// The file with its MIME.
        mime: Option<Spooled>,
    },
    /// The MIME of the one item was there, but could not be kept.
    NotKept {
        /// `TooLarge`, `Unreadable` or `Unavailable`.
        content: Content,
        /// Why, for people.
        message: String,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Ask the server something, for a watch. Exactly one [`Input::Called`] must come back, whatever happens.
    Call {
        /// Names the call in the answer.
        call: CallId,
        /// Whose sign-in, mailbox and server.
        watch: u64,
        /// In which version to speak.
        version: RequestVersion,
        /// What.
        request: Request,
        /// To which machine; where none is named, any that has the watch's mailbox.
        route: Option<Route>,
    },
    /// Find a watch's server. Exactly one [`Input::Called`] must come back, with [`Answer::Located`] or an error; from then on the
    /// watch's calls go there.
    Locate {
        /// Names the call in the answer.
        call: CallId,
        /// Whose mailbox.
        watch: u64,
        /// Whether what was found before is not to be believed.
        fresh: bool,
    },
    /// Open a stream. Exactly one [`Input::Ended`] must come back in the end, whatever happens.
    Open {
        /// Names the stream.
        conn: ConnId,
        /// Whose sign-in, mailbox and server.
        watch: u64,
        /// In which version to speak.
        version: RequestVersion,
        /// `GetStreamingEvents`.
        request: Request,
        /// To which machine.
        route: Option<Route>,
    },
    /// Shut a stream's socket. Its `Ended` still comes; messages before it may be dropped.
    Abort(ConnId),
    /// Write a batch into the store, all or nothing. Exactly one [`Input::Saved`] must come back.
    Save {
        /// Names the batch.
        save: SaveId,
        /// Keys, and their new values; `None` removes.
        changes: Vec<(String, Option<Vec<u8>>)>,
    },
    /// A push subscription is to end: whoever answers for it without the engine is to answer `Unsubscribe`.
    Unwanted(String),
    /// A watch has ended, and no command will name it any more.
    Forget(u64),
    /// Everything is closed; no command follows.
    Finished,
}

/// The eight event elements as the host's kinds; `None` for `StatusEvent`.
pub fn event_kind(kind: NoticeKind) -> Option<EventKind> {
    Some(match kind {
        NoticeKind::Copied => EventKind::Copied,
        NoticeKind::Created => EventKind::Created,
        NoticeKind::Deleted => EventKind::Deleted,
        NoticeKind::FreeBusyChanged => EventKind::FreeBusyChanged,
        NoticeKind::Modified => EventKind::Modified,
        NoticeKind::Moved => EventKind::Moved,
        NoticeKind::NewMail => EventKind::NewMail,
        NoticeKind::Status => return None,
    })
}

/// All watches of a client and their connections.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    rng: fastrand::Rng,
    /// The time of the input that is being handled.
    now: Now,
    out: VecDeque<Command>,
    timers: Timers,
    endpoints: BTreeMap<u32, Endpoint>,
    watches: BTreeMap<u64, Watch>,
    /// How those stood, by name, that were given up and not begun anew.
    given_up: BTreeMap<Arc<str>, WatchStatus>,
    groups: BTreeMap<GroupId, Group>,
    calls: BTreeMap<CallId, Call>,
    /// How many calls of a watch are under way.
    calls_of: BTreeMap<u64, usize>,
    conns: BTreeMap<ConnId, Conn>,
    items: BTreeMap<FetchId, Wanted>,
    /// Endpoints whose fetches are to be looked after when the input has been handled.
    dirty_fetches: BTreeSet<u32>,
    /// No further message is asked for until the host has taken some.
    spool_full: bool,
    /// The same for their syncs.
    dirty_syncs: BTreeSet<u32>,
    /// What waits for the host.
    delivery: Delivery,
    opens: Opens,
    windows: Windows,
    actions: Actions,
    pushes: Pushes,
    /// The state, where the host keeps it.
    host: Option<HostState>,
    /// Events to be given again, and when.
    again: BTreeSet<(Duration, Ticket)>,
    /// How many watches are given nothing before the host acknowledges something.
    blocked: usize,
    /// Changes that are not on their way to the store.
    unsaved: Batch,
    saves: Saves,
    next_call: CallId,
    next_conn: ConnId,
    next_group: GroupId,
    next_fetch: FetchId,
    closing: bool,
    finished: bool,
    counters: Counters,
}

/// What watches of one server and sign-in share.
#[derive(Debug, Default)]
struct Endpoint {
    version: RequestVersion,
    /// Whether the version has been answered well.
    version_works: bool,
    gate: Gate,
    /// Of watches whose mailbox has a budget of its own.
    gates: BTreeMap<u64, Gate>,
    /// Watches that wait for a seat in a group.
    seatless: BTreeSet<u64>,
    /// How many streams may stand, where the server has said so.
    learned: Option<Learned>,
    /// Streams whose watches have all gone and whose end has not come.
    orphans: usize,
    /// Whose each subscription is, and was.
    owners: Owners,
    polls: Polls,
    fetches: Fetches,
    syncs: Syncs,
}

/// A call under way.
#[derive(Debug)]
struct Call {
    watch: u64,
    endpoint: u32,
    version: RequestVersion,
    sent: Now,
    job: Job,
    route: Option<Route>,
}

/// What a call is for.
#[derive(Clone, Debug)]
enum Job {
    Step(Step),
    /// Of these items, all of one watch.
    Fetch(Vec<FetchId>),
    /// A page of this folder.
    Sync(String),
    /// Which folders there are.
    Hierarchy,
    /// The stamps of these folders.
    Survey(Vec<String>),
    /// Of this subscription.
    Unsubscribe(String),
    /// What is done with an item after its acknowledgement.
    Act(Ticket),
    /// An item's id.
    Convert(Asked),
}

/// A stream under way.
#[derive(Debug)]
struct Conn {
    endpoint: u32,
    group: Option<GroupId>,
    version: RequestVersion,
}

impl Engine {
    /// An engine without watches.
    pub fn new(settings: Settings) -> Engine {
        Engine {
            rng: fastrand::Rng::with_seed(settings.seed),
            delivery: Delivery::new(settings.queue),
            settings,
            now: Now { mono: Duration::ZERO, wall: SystemTime::UNIX_EPOCH },
            out: VecDeque::new(),
            timers: Timers::default(),
            endpoints: BTreeMap::new(),
            watches: BTreeMap::new(),
            given_up: BTreeMap::new(),
            groups: BTreeMap::new(),
            calls: BTreeMap::new(),
            calls_of: BTreeMap::new(),
            conns: BTreeMap::new(),
            items: BTreeMap::new(),
            dirty_fetches: BTreeSet::new(),
            spool_full: false,
            dirty_syncs: BTreeSet::new(),
            opens: Opens::default(),
            windows: Windows::default(),
            actions: Actions::default(),
            pushes: Pushes::default(),
            host: None,
            again: BTreeSet::new(),
            blocked: 0,
            unsaved: BTreeMap::new(),
            saves: Saves::default(),
            next_call: 0,
            next_conn: 0,
            next_group: 0,
            next_fetch: 0,
            closing: false,
            finished: false,
            counters: Counters::default(),
        }
    }

    /// Takes what happened at a time. Commands may follow: [`poll`](Self::poll) until `None`.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Called { call, result } => self.called(call, result),
            Input::Ended { conn, result } => self.ended(conn, result),
            Input::Saved { save, result } => self.saved(save, result),
            _ if self.closing => {}
            Input::Add(spec) => self.add(spec),
            Input::Remove(watch) => self.remove(watch),
            Input::Opened(conn) => self.opened(conn),
            Input::Message { conn, responses } => self.message(conn, responses),
            Input::BadEnvelope { conn, error } => self.bad_envelope(conn, &error),
            Input::SpoolFull(full) => self.spool_full(full),
            Input::Tick => {}
            Input::Close => self.close(),
        }
        self.finish_input();
    }

    /// What follows from everything that was handled.
    fn finish_input(&mut self) {
        while let Some(timer) = self.timers.pop(self.now.mono) {
            match timer {
                Timer::Watch(watch) => self.watch_due(watch),
                Timer::Push(watch) => self.push_is_silent(watch),
                Timer::Lobby(group) => self.leave_lobby(group),
                Timer::Group(group) => self.group_due(group),
                Timer::Fetch(endpoint) => self.pump_fetches(endpoint),
                Timer::Sync(watch) => self.sync_soon(watch),
                Timer::Syncs(endpoint) => self.pump_syncs(endpoint),
                Timer::Suspect(watch) => self.look_at_suspects(watch),
                Timer::Again => self.again_due(),
                Timer::Window => self.windows_due(),
                Timer::Act(endpoint) => self.pump_actions(endpoint),
                Timer::Pair => self.give_pair(),
                Timer::Save => drop(self.save_now()),
            }
        }
        while let Some(endpoint) = self.dirty_fetches.pop_first() {
            self.pump_fetches(endpoint);
        }
        while let Some(endpoint) = self.dirty_syncs.pop_first() {
            self.pump_syncs(endpoint);
        }
        while let Some(endpoint) = self.actions.dirty.pop_first() {
            self.pump_actions(endpoint);
        }
        let idle = self.calls.is_empty() && self.conns.is_empty() && self.is_saved();
        let idle = idle && self.actions.is_empty();
        if self.closing && !self.finished && idle {
            self.finished = true;
            self.out.push_back(Command::Finished);
        }
    }

    /// The next command.
    pub fn poll(&mut self) -> Option<Command> {
        self.out.pop_front()
    }

    /// The monotonic time at which [`Input::Tick`] is wanted, if nothing happens before.
    pub fn wake_at(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Whether a watch was added and has not ended.
    pub fn watches(&self, watch: u64) -> bool {
        self.watches.contains_key(&watch)
    }

    /// Whether the store is still changed in the name of a watch: it has not ended, or what it began after an acknowledgement has
    /// not.
    pub fn keeps_state(&self, watch: u64) -> bool {
        self.watches(watch) || self.actions.len(watch) > 0
    }

    /// In which version to ask an endpoint something that the engine has not commanded.
    pub fn version(&mut self, endpoint: u32) -> RequestVersion {
        self.endpoint(endpoint).version
    }

    /// The version to ask in once more, after such a question was refused: `None` unless the server may be older.
    pub fn version_refused(
        &mut self,
        endpoint: u32,
        spoken: RequestVersion,
        error: &Error,
    ) -> Option<RequestVersion> {
        let lower = verdict::of_error(error) == verdict::Verdict::LowerVersion;
        (lower && self.lower_version(endpoint, spoken)).then(|| self.version(endpoint))
    }

    /// Such a question was answered.
    pub fn version_worked(&mut self, endpoint: u32, version: RequestVersion) {
        let e = self.endpoint(endpoint);
        e.version_works |= e.version == version;
    }

    fn called(&mut self, call: CallId, result: Result<Answer, Error>) {
        let Some(made) = self.calls.remove(&call) else { return };
        let watch = made.watch;
        if let Some(of) = self.calls_of.get_mut(&watch) {
            *of -= 1;
        }
        let (now, closing) = (self.now.mono, self.closing);
        match &result {
            Ok(_) => {
                let e = self.endpoint(made.endpoint);
                e.version_works = true;
                e.gate.worked(now);
                if e.gates.get_mut(&watch).is_some_and(|gate| gate.worked(now)) {
                    e.gates.remove(&watch);
                }
            }
            Err(error) => self.shut_gate(watch, made.endpoint, error),
        }
        if matches!(made.job, Job::Step(Step::Poll)) {
            self.poll_came_back(made.endpoint);
        }
        match made.job.clone() {
            Job::Unsubscribe(subscription) => {
                let done = !result.is_err_and(|error| verdict::nothing_done(&error));
                self.endpoint(made.endpoint).owners.unsubscribed(subscription, now, done);
            }
            Job::Fetch(_) | Job::Convert(Asked::Fetch(_)) if closing => {}
            Job::Sync(_) | Job::Hierarchy | Job::Survey(_) if closing => {}
            Job::Sync(folder) => {
                let page = result.and_then(|answer| match answer {
                    Answer::Synced { page, date } => Ok((page, date)),
                    _ => Err(no_answer()),
                });
                self.synced(call, &made, &folder, page);
            }
            Job::Hierarchy => {
                let page = result.and_then(|answer| match answer {
                    Answer::Hierarchy { page, date } => Ok((page, date)),
                    _ => Err(no_answer()),
                });
                self.hierarchy_came(call, &made, page);
            }
            Job::Survey(folders) => {
                let stamps = result.and_then(|answer| match answer {
                    Answer::Stamps { stamps, date } if stamps.len() == folders.len() => Ok((stamps, date)),
                    _ => Err(no_answer()),
                });
                self.surveyed(call, &made, folders, stamps);
            }
            Job::Fetch(fetches) => self.fetched(made.endpoint, fetches, result),
            Job::Act(ticket) => self.acted(&made, ticket, result),
            Job::Convert(asked) => self.converted(&made, asked, result),
            Job::Step(step) => self.stepped(call, made, step, result),
        }
        if self.calls_of.get(&watch) == Some(&0) {
            self.calls_of.remove(&watch);
            self.forget(watch);
        }
    }

    /// Says so if a watch has ended and nothing of it is under way.
    fn forget(&mut self, watch: u64) {
        let busy = self.calls_of.contains_key(&watch) || self.actions.len(watch) > 0;
        if !self.watches.contains_key(&watch) && !busy {
            self.forget_push(watch);
            self.out.push_back(Command::Forget(watch));
        }
    }

    /// Tells the end, at once; what the network has to say about it comes later.
    fn close(&mut self) {
        self.ack_taken();
        for id in self.watches.keys().copied().collect::<Vec<_>>() {
            self.unstore_subscriptions(id);
            self.leave_windows(id);
        }
        self.save_now();
        self.give_last_state();
        self.closing = true;
        self.timers.clear_all();
        self.delivery.close();
        self.items.clear();
        self.dirty_fetches.clear();
        self.leave_actions(None);
        let watches = std::mem::take(&mut self.watches);
        for (id, watch) in &watches {
            self.tell_closed(*id, watch.spec.mailbox.clone(), Reason::ClosedByHost);
        }
        self.tell_closed(0, "".into(), Reason::ClosedByHost);
        for group in std::mem::take(&mut self.groups).into_values() {
            if let Link::Hanging(conn) = group.link {
                self.out.push_back(Command::Abort(conn));
            }
        }
        for conn in self.conns.values_mut() {
            conn.group = None;
        }
        for (id, watch) in watches {
            if let Some(s) = watch.subscription {
                self.unsubscribe(id, watch.spec.endpoint, s.id, s.route);
            }
            self.forget(id);
        }
        self.opens = Opens::default();
        for endpoint in self.endpoints.values_mut() {
            endpoint.seatless.clear();
        }
    }

    fn endpoint(&mut self, endpoint: u32) -> &mut Endpoint {
        self.endpoints.entry(endpoint).or_default()
    }

    /// Commands a call for a watch.
    fn call(&mut self, watch: u64, job: Job, request: Request) -> CallId {
        let endpoint = self.watches.get(&watch).map_or(0, |w| w.spec.endpoint);
        self.call_at(watch, endpoint, job, request, None)
    }

    fn call_at(
        &mut self,
        watch: u64,
        endpoint: u32,
        job: Job,
        request: Request,
        route: Option<Route>,
    ) -> CallId {
        let (call, version) = self.note_call(watch, endpoint, job, route.clone());
        self.out.push_back(Command::Call { call, watch, version, request, route });
        call
    }

    /// Commands that a watch's server be found.
    fn locate(&mut self, watch: u64) -> CallId {
        let Some(w) = self.watches.get(&watch) else { return 0 };
        let (endpoint, fresh) = (w.spec.endpoint, w.located);
        let (call, _) = self.note_call(watch, endpoint, Job::Step(Step::Locate), None);
        self.out.push_back(Command::Locate { call, watch, fresh });
        call
    }

    fn note_call(
        &mut self,
        watch: u64,
        endpoint: u32,
        job: Job,
        route: Option<Route>,
    ) -> (CallId, RequestVersion) {
        self.next_call += 1;
        let (call, sent) = (self.next_call, self.now);
        let version = self.endpoint(endpoint).version;
        self.calls.insert(call, Call { watch, endpoint, version, sent, job, route });
        *self.calls_of.entry(watch).or_default() += 1;
        self.counters.calls += 1;
        (call, version)
    }

    /// Whether to repeat a request in the version that the endpoint speaks now: none has worked so far.
    fn lower_version(&mut self, endpoint: u32, spoken: RequestVersion) -> bool {
        let e = self.endpoint(endpoint);
        if e.version < spoken {
            return true;
        }
        let Some(lower) = spoken.older() else { return false };
        if e.version_works {
            return false;
        }
        e.version = lower;
        true
    }
}

fn no_answer() -> Error {
    Error::new(crate::ErrorKind::Internal, "the answer is not of the request's kind")
}

#[cfg(test)]
mod tests;
