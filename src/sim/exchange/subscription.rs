//! Subscriptions: what each watches, what waits for it, and how it ends.

use std::collections::VecDeque;
use std::time::Instant;

use super::note::{Note, Watched};
use crate::event::EventKind;

/// A subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: String,
    /// The account that made it, which alone may read it.
    pub(super) owner: String,
    /// The machine that made it, which alone knows it.
    pub(super) server: String,
    /// The mailbox, in lower case.
    pub(super) mailbox: String,
    pub(super) watched: Watched,
    pub(super) kinds: Vec<EventKind>,
    pub(super) mode: Mode,
    /// Events that wait for a stream (or for GetEvents, where there are no watermarks).
    pub(super) queue: VecDeque<Note>,
    /// Whether events were dropped because the queue was full, and nobody was told yet.
    pub(super) missed: bool,
    /// Lives on and answers, but hears of nothing any more.
    pub(super) deaf: bool,
    /// The connection that streams it.
    pub(super) stream: Option<u64>,
    /// When it dies if nobody asks for it.
    pub(super) dies: Option<Instant>,
}

/// How a subscription is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Streaming,
    /// With its time-out in minutes, and the event after which it began.
    Pull {
        minutes: u32,
        from: u64,
    },
    /// What is sent is the affair of its hook; gromox's has none, and nothing is ever sent.
    Push,
}

impl Subscription {
    pub(super) fn wants(&self, note: &Note) -> bool {
        self.kinds.contains(&note.kind) && note.concerns(&self.watched)
    }
}
