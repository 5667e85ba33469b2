//! The decisions, without the deeds: subscribe, open, reopen, resubscribe, gap, fetch, hand out, back off, close.
//!
//! [`Engine`] takes [`Input`]s with the time they came at, and gives [`Command`]s. It knows no socket, thread or clock, so
//! an hour passes in a millisecond, and a seed replays a bug. Whoever feeds an input must execute the commands that
//! follow, in their order, before the next input ([`Engine::poll`] until `None`).

mod backoff;
mod delivery;
mod group;
mod mailbox;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::proto::{FolderRef, Item, NoticeKind, Request, RequestVersion, Response, Streamed};
use crate::{Error, Event, EventKind, Fetch};

pub use delivery::{Delivery, Limits, Pushed};

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
    /// The folders; empty means all folders of the mailbox.
    pub folders: Vec<FolderRef>,
    /// The kinds that the host wants to be told; at least one.
    pub events: Vec<EventKind>,
    /// Streaming or pull.
    pub mode: WatchMode,
    /// What is fetched before an event is handed out.
    pub fetch: Fetch,
}

/// How a watch hears of events.
#[derive(Clone, Copy, Debug)]
pub enum WatchMode {
    /// On a stream that the server ends after so many minutes (1–30).
    Streaming {
        /// `ConnectionTimeout`.
        connection_minutes: u32,
    },
    /// By asking.
    Pull {
        /// How long to wait between two questions.
        interval: Duration,
        /// After how many minutes without a question the server may forget the subscription (1–1440).
        timeout_minutes: u32,
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
    /// How many events of a watch wait for content before further ones are dropped, with a gap.
    pub pending_events: usize,
    /// Seed of the jitter.
    pub seed: u64,
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
    },
    /// `GetFolder`: an id or an error for each folder asked for, in that order.
    Folders(Vec<Result<String, Error>>),
    /// `GetEvents`.
    Events(crate::proto::Notification),
    /// `Unsubscribe`.
    Unsubscribed,
    /// `GetItem` of one item. The runtime has put MIME into a file already.
    Item {
        /// The item.
        item: Box<Item>,
        /// The file with its MIME.
        mime_path: Option<String>,
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
    },
    /// Shut a stream's socket. Its `Ended` still comes; messages before it may be dropped.
    Abort(ConnId),
    /// Tell the host (`seq` is set by the queue).
    Tell(Event),
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
}

impl Engine {
    /// An engine without watches.
    pub fn new(settings: Settings) -> Engine {
        Engine { settings }
    }

    /// Takes what happened at a time. Commands may follow: [`poll`](Self::poll) until `None`.
    pub fn handle(&mut self, _now: Now, _input: Input) {
        let _ = &self.settings;
        todo!()
    }

    /// The next command.
    pub fn poll(&mut self) -> Option<Command> {
        None
    }

    /// The monotonic time at which [`Input::Tick`] is wanted, if nothing happens before.
    pub fn wake_at(&self) -> Option<Duration> {
        None
    }
}
