//! What can be set from outside: times and bounds of the server, failures to come; and what can be read: the ledger.

use std::time::Duration;

use super::super::Style;
use crate::event::EventKind;

/// Times and bounds of the simulated server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How long a stream says nothing before it sends a heartbeat. Exchange 30 s, gromox 45 s.
    pub heartbeat: Duration,
    /// How long a stream lives, whatever ConnectionTimeout the client asked for.
    pub stream_life: Option<Duration>,
    /// How many events wait for a subscription while no stream is open.
    pub queue: usize,
    /// How many events an answer (of a pull) or an envelope (of a stream) holds for each subscription.
    pub batch: usize,
    /// How long a streaming subscription lives without a stream. Exchange: for ever. gromox: 5 minutes.
    pub idle_life: Option<Duration>,
    /// How many subscriptions a mailbox may have.
    pub max_subscriptions: usize,
    /// How many streams an account may have open; `None`: as many as it likes.
    pub max_streams: Option<usize>,
    /// How long the server is at work on a request, for others to come meanwhile. Zero: no time at all.
    pub service_time: Duration,
    /// How many requests of an account, or of a mailbox that is impersonated, may be under way, streams apart.
    pub max_requests: usize,
    /// And how many SyncFolderItems of them.
    pub max_syncs: usize,
    /// Whether a SyncState that is no good is answered as none at all, with everything as new. Exchange refuses it with
    /// `ErrorInvalidSyncStateData`; gromox says nothing.
    pub silent_reset: bool,
    /// How long a minute of StatusFrequency lasts: less than a minute compresses time.
    pub push_minute: Duration,
    /// How long the first wait for another attempt to push is; each further one is twice as long.
    pub push_retry: Duration,
    /// Whether SyncStates outlive a restart of the server, as they do.
    pub states_survive_restart: bool,
    /// Whether events name items in the form that ids had in Exchange 2007, which no other operation than ConvertId takes.
    pub legacy_ids: bool,
    /// Which public folder mailbox has the content of the public folders: requests must name it as `X-PublicFolderMailbox` and
    /// `X-AnchorMailbox`. `None`: any request finds it.
    pub public_folder_mailbox: Option<String>,
    /// For how many mailboxes one `GetUserSettings` may ask; one that asks for more is refused as a whole.
    pub max_users: usize,
    /// The latest `RequestServerVersion` that is taken (`Exchange2007_SP1`), which makes it an older server, without what came
    /// later; `None`: all that there are.
    pub newest_version: Option<&'static str>,
}

impl Settings {
    pub(super) fn of(style: Style) -> Settings {
        let gromox = style == Style::Gromox;
        Settings {
            heartbeat: Duration::from_secs(if gromox { 45 } else { 30 }),
            stream_life: None,
            queue: 1000,
            batch: 50,
            idle_life: gromox.then_some(Duration::from_secs(300)),
            max_subscriptions: 5000,
            max_streams: None,
            service_time: Duration::ZERO,
            max_requests: if gromox { usize::MAX } else { 27 },
            max_syncs: if gromox { usize::MAX } else { 5 },
            silent_reset: gromox,
            push_minute: Duration::from_secs(60),
            push_retry: Duration::from_secs(30),
            states_survive_restart: true,
            max_users: 100,
            newest_version: None,
            legacy_ids: false,
            public_folder_mailbox: None,
        }
    }
}

/// A failure that an operation is to meet, once unless told.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(super) mailbox: Option<String>,
    pub(super) times: u32,
    pub(super) code: String,
    pub(super) text: String,
    pub(super) back_off: Option<Duration>,
    pub(super) as_fault: bool,
}

impl Failure {
    /// A failure with this response code, in a response message.
    pub fn new(code: &str) -> Failure {
        let text = match code {
            "ErrorServerBusy" => "The server cannot service this request right now. Try again later.",
            "ErrorAccessDenied" => "Access is denied. Check credentials and try again.",
            "ErrorInvalidSyncStateData" => "Synchronization state data is corrupt or otherwise invalid.",
            "ErrorInternalServerError" => "An internal server error occurred. The operation failed.",
            _ => "The operation failed.",
        };
        let (code, text) = (code.to_owned(), text.to_owned());
        Failure { mailbox: None, times: 1, code, text, back_off: None, as_fault: false }
    }

    /// Only for requests in the name of this mailbox: its owner's, or of one who impersonates it.
    pub fn mailbox(mut self, address: &str) -> Failure {
        self.mailbox = Some(address.to_ascii_lowercase());
        self
    }

    /// So many times.
    pub fn times(mut self, times: u32) -> Failure {
        self.times = times;
        self
    }

    /// With another text for people.
    pub fn text(mut self, text: &str) -> Failure {
        text.clone_into(&mut self.text);
        self
    }

    /// With `BackOffMilliseconds`.
    pub fn back_off(mut self, wait: Duration) -> Failure {
        self.back_off = Some(wait);
        self
    }

    /// As a SOAP fault with HTTP status 500.
    pub fn as_fault(mut self) -> Failure {
        self.as_fault = true;
        self
    }
}

/// What became of an event of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It was handed over to be written, on that connection; whether it arrived is the network's affair.
    Told,
    /// The queue was full.
    Overflowed,
    /// The subscription was lost while the event waited.
    Lost,
    /// The subscription was dead without a word.
    Unheard,
}

/// An entry of the ledger: one event of one subscription.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Told {
    /// What became of it.
    pub fate: Fate,
    /// The subscription.
    pub subscription: String,
    /// The number of the connection ([`Stream::connection`](super::Stream::connection)); 0 if none, or an answer of a pull.
    pub connection: u64,
    /// The kind of event.
    pub kind: EventKind,
    /// The item, if it is about one.
    pub item_id: Option<String>,
    /// The folder, if it is about one.
    pub folder_id: Option<String>,
    /// Its number in the mailbox.
    pub seq: u64,
    /// The mailbox.
    pub mailbox: String,
}
