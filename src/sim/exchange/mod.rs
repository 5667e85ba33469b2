//! Mailboxes, subscriptions and the SOAP operations on them. No socket here.

use std::time::Duration;

use super::{Answer, Style};

/// A hanging request that was accepted.
#[derive(Debug)]
pub struct Stream {}

/// What a stream has to say next.
#[derive(Debug)]
pub enum Next {
    /// An envelope to write now.
    Envelope(Vec<u8>),
    /// The last envelope (`Closed`); after it the body ends.
    Last(Vec<u8>),
    /// Nothing for now: the wait was over.
    Idle,
}

/// All mailboxes of a simulated organisation. Shared by threads; every method locks for itself.
#[derive(Debug)]
pub struct Exchange {}

impl Exchange {
    /// An organisation without mailboxes.
    pub fn new(_style: Style) -> Exchange {
        Exchange {}
    }

    /// Answers one SOAP request of a signed-in user (an SMTP address).
    pub fn answer(&self, _user: &str, _soap: &[u8]) -> Answer {
        unimplemented!()
    }

    /// Waits until the stream has something to say, or `wait` is over. What it hands over is gone from the queue.
    pub fn next_envelope(&self, _stream: &mut Stream, _wait: Duration) -> Next {
        unimplemented!()
    }

    /// The socket of a stream is gone: its subscriptions queue again.
    pub fn drop_stream(&self, _stream: Stream) {}

    /// Ends every wait in [`next_envelope`](Self::next_envelope) now; used when the server stops.
    pub fn wake_all(&self) {}
}
