//! What is going on in a client, for people and their tools.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::Reason;
use crate::engine::{self, ConnectionState, WatchState};
use crate::net::Counters;

/// What is going on in a client, at one moment. In JSON, the names are those of the fields.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The watches: those that run, and then those that were given up, until the host watches the same again.
    pub watches: Vec<WatchStatus>,
    /// The streams.
    pub connections: Vec<ConnectionStatus>,
    /// Events that wait for the host.
    pub queued: usize,
    /// Events of mailboxes that were told so far.
    pub events: u64,
    /// Gaps that were told so far.
    pub gaps: u64,
    /// Events that belonged to nobody here, and were dropped.
    pub foreign: u64,
    /// Where the library listens for pushes, with option `push_listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_listen: Option<std::net::SocketAddr>,
    /// Live threads of the library.
    pub threads: usize,
    /// Open sockets.
    pub sockets: u64,
    /// Name look-ups that are under way; one that was given up stays here until the system's resolver answers.
    pub lookups: u64,
}

/// How it stands with a watch.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WatchStatus {
    /// Its number.
    pub watch: u64,
    /// Its mailbox.
    pub mailbox: Arc<str>,
    /// `starting`; `connected`; `catching-up`, which is connected and looking for what was missed; `awaiting-push`, where the server
    /// has taken the subscription and sent nothing since (it does so at once where it reaches `push_url`); `degraded`, where the
    /// link is gone and is tried again; `sign-in-needed`, where the server refuses the sign-in, whether that is tried again or was given
    /// up; `gone`, which was given up for another reason.
    pub state: &'static str,
    /// When it is tried again, in milliseconds from now; `None` while it is connected or being tried, or was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// `awaiting-push`: how long ago the server took the subscription, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unheard_ms: Option<u64>,
    /// Why it is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether catch-up has something to find yet, as far as the server lets it.
    pub catching_up: bool,
    /// Up to when it is certain that nothing was missed; `None` before the first good answer. RFC 3339 in JSON.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "crate::event::rfc3339_opt")]
    pub last_success: Option<SystemTime>,
    /// Events that wait for their item's content, or behind one that does.
    pub held: usize,
    /// Events that were found and are not done with: those that wait, and those that the host has not acknowledged.
    pub backlog: usize,
    /// Those of them that the host has not acknowledged.
    pub unacknowledged: usize,
    /// Whether those are as many as may be (`max_unacked`): the host is given no more of the watch before it acknowledges some.
    pub waits_for_host: bool,
    /// Events that the host could not deal with and is given again later.
    pub later: usize,
    /// Events that are parked.
    pub parked: usize,
    /// Items that option `after_ack` has to do something with yet.
    pub acting: usize,
}

/// How it stands with a stream.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// `opening`, `open`, `closing` or `waiting` (to be opened again).
    pub state: &'static str,
    /// The watches on it.
    pub watches: Vec<u64>,
    /// For how long it has been open, or been tried, in milliseconds.
    pub age_ms: u64,
    /// How long ago its last message came, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
    /// When it is opened again, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// How many attempts failed in a row.
    pub attempts: u32,
}

impl WatchStatus {
    /// Whether the server tells it of events now.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, "connected" | "catching-up")
    }
}

impl Status {
    pub(super) fn new(
        status: engine::Status,
        now: Duration,
        queued: usize,
        threads: usize,
        counters: &Counters,
    ) -> Status {
        let from_now = |at: Option<Duration>| at.map(|at| millis(at.saturating_sub(now)));
        let ago = |at: Duration| millis(now.saturating_sub(at));
        let watches = status.watches.into_iter().chain(status.given_up).map(|w| {
            let refused = matches!(w.down, Some(Reason::SignInRefused | Reason::TokenNeeded));
            let (state, retry_at) = match w.state {
                WatchState::Starting => ("starting", None),
                WatchState::Connected | WatchState::Pulling if w.catching_up => ("catching-up", None),
                WatchState::Connected | WatchState::Pulling => ("connected", None),
                WatchState::Unheard { .. } => ("awaiting-push", None),
                WatchState::Reconnecting { retry_at, .. } if refused => ("sign-in-needed", retry_at),
                WatchState::Reconnecting { retry_at, .. } => ("degraded", retry_at),
                WatchState::GivenUp if refused => ("sign-in-needed", None),
                WatchState::GivenUp => ("gone", None),
            };
            WatchStatus {
                watch: w.watch,
                mailbox: w.mailbox,
                state,
                retry_ms: from_now(retry_at),
                unheard_ms: match w.state {
                    WatchState::Unheard { since } => Some(ago(since)),
                    _ => None,
                },
                reason: w.down,
                catching_up: w.catching_up,
                last_success: w.certain,
                held: w.held,
                backlog: w.backlog,
                unacknowledged: w.unacked,
                waits_for_host: w.blocked,
                later: w.later,
                parked: w.parked,
                acting: w.acting,
            }
        });
        let connections = status.connections.into_iter().map(|c| {
            let (state, retry_at) = match c.state {
                ConnectionState::Waiting(at) => ("waiting", at),
                ConnectionState::Opening => ("opening", None),
                ConnectionState::Open => ("open", None),
                ConnectionState::Closing => ("closing", None),
            };
            ConnectionStatus {
                state,
                watches: c.members,
                age_ms: ago(c.opened_at),
                silent_ms: c.last_message.map(ago),
                retry_ms: from_now(retry_at),
                attempts: c.attempts,
            }
        });
        Status {
            watches: watches.collect(),
            connections: connections.collect(),
            queued,
            events: status.counters.events,
            gaps: status.counters.gaps,
            foreign: status.counters.foreign,
            push_listen: None,
            threads,
            sockets: counters.sockets_open(),
            lookups: counters.lookups_waiting() + counters.lookups_abandoned(),
        }
    }
}

fn millis(d: Duration) -> u64 {
    d.as_millis().try_into().unwrap_or(u64::MAX)
}
