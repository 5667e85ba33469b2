//! What a host is told, and its one JSON form.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::auth::Secret;
pub use crate::spooled::Spooled;

/// What kind of event it is; in JSON `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub enum EventKind {
    /// A message was delivered into a watched folder.
    NewMail,
    /// An item or folder came to be in a watched folder.
    Created,
    /// An item or folder is gone for good.
    Deleted,
    /// An item or folder changed.
    Modified,
    /// An item or folder moved; its id is new, `old_item_id` (or `old_folder_id`) is what it was.
    Moved,
    /// An item or folder was copied.
    Copied,
    /// The free/busy times of a calendar changed.
    FreeBusyChanged,
    /// The watch is connected: from here on events come live.
    Connected,
    /// The link is gone; `reason` says why. The library reconnects by itself.
    Disconnected,
    /// The server had lost the subscription; it was made anew.
    Resubscribed,
    /// Something may have been missed between `since` and `time`; `fill` says whether catch-up will tell it.
    Gap,
    /// All that catch-up found has been handed out: after the start, and after each gap that is filled.
    Drained,
    /// The host owes a token ([`Client::set_token`](crate::Client::set_token)): for `account`, to be used at `resource`, with
    /// `claims` where the server asks for some, which go to the token endpoint as they are; `reason` says why. Ahead of all other
    /// events, and again every five minutes until it is there.
    TokenNeeded,
    /// The refresh token of `account` has changed, and nobody keeps it but the host: it is to keep `refresh_token` in the place
    /// of the old one, which may be of no use any more, and then to acknowledge the event. Ahead of all other events, and
    /// again every minute until it is acknowledged.
    TokenRotated,
    /// The host keeps the state ([`Client::open_with_state`](crate::Client::open_with_state)): it is to write `value` under
    /// `key`, or to remove the key where there is no value, and then to acknowledge the event.
    StateChanged,
    /// Something failed that the host should know of; `message` tells what and what to do.
    Error,
    /// A line of the library's log, where option `log` asks for it: `level` and `message`.
    Log,
    /// The last event of a watch; without `watch`, the last one of the client. A watch that was given up (a refused sign-in, a mailbox
    /// that is gone) ends so too, by a `reason` that is not [`Reason::ClosedByHost`], and the client stays open: a program that has no
    /// other watch ends then, or it waits for ever.
    Closed,
}

impl EventKind {
    /// The seven kinds that tell of a mailbox, and can be asked for.
    pub const MAILBOX: [EventKind; 7] = [
        EventKind::NewMail,
        EventKind::Created,
        EventKind::Deleted,
        EventKind::Modified,
        EventKind::Moved,
        EventKind::Copied,
        EventKind::FreeBusyChanged,
    ];

    /// Whether it tells of the mailbox, not of the watch.
    pub fn is_mailbox(self) -> bool {
        EventKind::MAILBOX.contains(&self)
    }

    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::NewMail => "NewMail",
            EventKind::Created => "Created",
            EventKind::Deleted => "Deleted",
            EventKind::Modified => "Modified",
            EventKind::Moved => "Moved",
            EventKind::Copied => "Copied",
            EventKind::FreeBusyChanged => "FreeBusyChanged",
            EventKind::Connected => "Connected",
            EventKind::Disconnected => "Disconnected",
            EventKind::Resubscribed => "Resubscribed",
            EventKind::Gap => "Gap",
            EventKind::Drained => "Drained",
            EventKind::TokenNeeded => "TokenNeeded",
            EventKind::TokenRotated => "TokenRotated",
            EventKind::StateChanged => "StateChanged",
            EventKind::Error => "Error",
            EventKind::Log => "Log",
            EventKind::Closed => "Closed",
        }
    }
}

/// How we came to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// The server told it as it happened.
    Live,
    /// It was found when the folder was compared with what was known of it, or is told again.
    CatchUp,
}

/// Why a link ended or something may have been missed. In JSON, kebab-case words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// An envelope could not be read; it may have told something.
    BadEnvelope,
    /// The host closed the client or took the watch back.
    ClosedByHost,
    /// The server ended the stream in order, its time being over.
    ClosedByServer,
    /// The connection could not be made.
    ConnectFailed,
    /// The connection ended without a word, or was reset.
    ConnectionLost,
    /// The server does not let us sync, so what is missed stays missed.
    Denied,
    /// An event came that belongs to nobody here: the subscription's id has passed to somebody else.
    ForeignEvent,
    /// The server answered with an HTTP status that ends it.
    HttpError,
    /// Nothing came for the idle time-out.
    IdleTimeout,
    /// What was asked for cannot be done so: a setting is wrong, or the server is too old for it; the `Error` before it says what.
    Invalid,
    /// A bound was met: an envelope too large or too slow.
    LimitExceeded,
    /// Sync found what the subscription had not told: it had died without a word.
    Missed,
    /// The server's own queue ran over (`ErrorMissedNotificationEvents`).
    MissedByServer,
    /// A notification of a push did not come, or one behind it came first.
    NotificationLost,
    /// The queue of this client ran over because the host did not take events.
    QueueOverflow,
    /// Another connection was opened to reach more mailboxes.
    Regrouped,
    /// The program was started again: what happened meanwhile is looked for.
    Restarted,
    /// The server answered with an error of its own; `code` names it.
    ServerError,
    /// The sign-in was refused.
    SignInRefused,
    /// The server had lost its memory of what it told us, and a folder was read anew.
    StateReset,
    /// The server had lost the subscription.
    SubscriptionLost,
    /// The token that is there expires soon, or has.
    TokenExpiring,
    /// There is no token to sign in with: the host owes one.
    TokenNeeded,
    /// A server did not take the token.
    TokenRefused,
    /// Another connection took the subscription over.
    TakenOver,
    /// A question for events was asked and no answer came, on a server that does not repeat.
    Unanswered,
}

/// How much a line of the log matters; the smaller ones matter more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Level {
    /// Something failed; the library goes on by itself.
    Warn,
    /// What is rare: watches, streams.
    Info,
    /// Each call and answer.
    Debug,
}

/// Whether what was missed in a gap will be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fill {
    /// Nothing will fill it: `catch_up` is off, or the server does not let the user sync.
    None,
    /// Catch-up will tell what is there; `Drained` follows.
    Pending,
    /// The same, but some of it cannot be told from what is old: a folder has not been read to its end yet, or the server has
    /// lost what we knew of it. Where all folders are watched, also if one of them cannot be synced.
    Partial,
}

/// What became of the content that `fetch` asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Content {
    /// It is here.
    Ok,
    /// The item had gone before it could be read.
    Gone,
    /// It is larger than option `max_item_bytes`, or the rest of the answer than `max_response_bytes`; `message` says so.
    TooLarge,
    /// The server says that it cannot give it, or gave something that is no message; `message` says why.
    Unreadable,
    /// It could not be had for now, which is no fault of the item: the server did not answer or refused, or the message could
    /// not be kept, as on a full disk. `message` says why; a later try may bring it.
    Unavailable,
}

/// What is known of an attachment without fetching it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Attachment {
    /// Its id, for [`Client::save_attachment`](crate::Client::save_attachment).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The MIME type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The size in bytes, as the server counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// An event. Which fields are set depends on [`kind`](Event::kind); absent ones are `None`, and left out in JSON.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The watch it belongs to; 0 (left out in JSON) for the client as a whole.
    #[serde(skip_serializing_if = "is_zero")]
    pub watch: u64,
    /// The watch's mailbox; empty (left out in JSON) for the client as a whole.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub mailbox: Arc<str>,
    /// Rises with every event of a client.
    pub seq: u64,
    /// When it happened, by the server's clock where it told us; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// How we came to know; mailbox events only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The item's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The change key of the item (or folder) as the event told it: a stub on many servers, good for reading only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_key: Option<String>,
    /// The folder's id, where the event is about a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder_id: Option<String>,
    /// The folder that the item or folder is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_folder_id: Option<String>,
    /// What the item's id was (`Moved`), or its original's (`Copied`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_item_id: Option<String>,
    /// What the folder's id was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_folder_id: Option<String>,
    /// The folder it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_parent_folder_id: Option<String>,
    /// The folder's count of unread items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_count: Option<i32>,
    /// Whether it is read, where that is what has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_read: Option<bool>,
    /// Which attempt this is, from the second on. With `ack=manual` and a state directory, one that a crash of the host ended
    /// counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Names it until it is acknowledged; 0 where nobody cares.
    #[serde(skip)]
    pub(crate) ticket: u64,
    /// What `fetch` brought.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub item: Option<Box<ItemContent>>,
    /// Of lifecycle events.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<Detail>>,
}

/// What `fetch` brought of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ItemContent {
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The sender: `Name <address>`, or the one of the two that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The recipients, each as `from`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// When it was received, as the server wrote it (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<String>,
    /// The Internet message id, with its angle brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The size in bytes, as the server counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether it was read already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_read: Option<bool>,
    /// Its attachments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The file with the whole message, mode 0600. It is the host's to remove; without option `spool_dir`, what it leaves goes
    /// with the client, or at the next start over the state directory. The `Created` and the `NewMail` of one mail may name
    /// the same file: remove it after the latter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_path: Option<String>,
    #[serde(skip)]
    pub(crate) spooled: Option<Spooled>,
}

impl ItemContent {
    /// The host is told of it: from here on the file is the host's.
    pub(crate) fn told(&mut self) {
        if let Some(spooled) = self.spooled.take() {
            spooled.told();
        }
    }
}

/// What lifecycle events tell beside their kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Detail {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The server's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// When the library tries again, in milliseconds from `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// Of a gap: when the last thing came that proves that nothing was missed.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339_opt")]
    pub since: Option<SystemTime>,
    /// Of a gap: whether what was missed will be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
    /// What happened, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of a line of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Of a token: whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Of a token that is needed: whom it is for, as `https://mail.example.com`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Of a token that is needed: the claims that the server wants to be in it, as JSON, as a token endpoint takes them in its parameter
    /// `claims`. `None` also where the server's are not readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
    /// Of a token that has changed: the new refresh token. The one secret that an event can have.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    pub refresh_token: Option<Secret>,
    /// Of a change of the state: its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is to be kept under the key; where there is none, the key goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Event {
    pub(crate) fn new(kind: EventKind, watch: u64, mailbox: Arc<str>, time: SystemTime) -> Event {
        Event {
            kind,
            watch,
            mailbox,
            seq: 0,
            time,
            origin: None,
            item_id: None,
            change_key: None,
            folder_id: None,
            parent_folder_id: None,
            old_item_id: None,
            old_folder_id: None,
            old_parent_folder_id: None,
            unread_count: None,
            is_read: None,
            attempt: None,
            ticket: 0,
            item: None,
            detail: None,
        }
    }

    /// Whether it comes with a message's file.
    pub(crate) fn has_message(&self) -> bool {
        self.item.as_ref().is_some_and(|item| item.spooled.is_some())
    }

    /// Something that concerns no single watch went wrong.
    pub(crate) fn error(time: SystemTime, error: &crate::Error) -> Event {
        let detail = Detail { message: Some(error.to_string()), ..Detail::default() };
        Event { detail: Some(Box::new(detail)), ..Event::new(EventKind::Error, 0, "".into(), time) }
    }

    /// The event as one line of JSON, without the line's end. Names are those of the fields; absent fields are left out.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an event has string keys and no failing field")
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn exposed<S: Serializer>(secret: &Option<Secret>, s: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(s)
}

pub(crate) fn rfc3339<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&humantime::format_rfc3339(*time))
}

pub(crate) fn rfc3339_opt<S: Serializer>(time: &Option<SystemTime>, s: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(t) => rfc3339(t, s),
        None => s.serialize_none(),
    }
}
