//! What goes into the engine and what comes out: inputs, commands, and what they are made of.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::AfterAck;
use super::delivery::Limits;
use super::paths::FolderPath;
use super::save::SaveId;
use crate::auth::Secret;
use crate::cookies::Cookies;
use crate::event::{Content, Spooled};
use crate::proto::{
    FolderPage, FolderStamp, HierarchyPage, Item, PushUrl, Request, RequestVersion, Response, Streamed,
    SyncPage,
};
use crate::{Ack, Error, EventKind, Fetch, Reason};

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
    /// Whose tokens it signs in with, where the host gives them.
    pub account: Option<Arc<str>>,
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
    /// By what the server sends: [`Engine::pushed`](super::Engine::pushed).
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
    Add(Box<WatchSpec>),
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
    /// A token of an account is needed that the host gives.
    TokenNeeded {
        /// Whose.
        account: Arc<str>,
        /// Whom it is for.
        resource: String,
        /// `TokenNeeded`, `TokenExpiring` or `TokenRefused`.
        reason: Reason,
        /// What the server wants to be in it.
        claims: Option<String>,
    },
    /// The host has given one.
    TokenSet {
        /// Whose.
        account: Arc<str>,
        /// When the next one is to be asked for (monotonic), if it is known when this one ends.
        renew_at: Option<Duration>,
    },
    /// The host cannot give one: all watches of the account end.
    TokenDenied {
        /// Whose.
        account: Arc<str>,
        /// Why.
        error: Error,
    },
    /// A refresh token has changed that only the host keeps.
    TokenRotated {
        /// Whose.
        account: Arc<str>,
        /// The new one.
        token: Secret,
    },
    /// A time that was asked for by [`Engine::wake_at`](super::Engine::wake_at) has come.
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
    /// `GetFolder` of a public folder: the GUID of the mailbox that has its content, where it tells.
    ContentMailbox(Option<String>),
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
    /// A push subscription begins: whatever was said of its id before was about another one.
    Wanted(String),
    /// A watch has ended, and no command will name it any more.
    Forget(u64),
    /// Everything is closed; no command follows.
    Finished,
}
