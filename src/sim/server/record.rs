//! What a test can ask afterwards: counters, requests, and what became of each stream's envelopes.

use std::collections::BTreeMap;

use super::fault::Cut;

/// Counters of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were ever accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections on which a request could ever be sent: with TLS, those whose handshake is over.
    pub ready: u64,
    /// Refusals of a sign-in that are held back now ([`Sim::hold_refusals`](super::Sim::hold_refusals)).
    pub held: u64,
    /// Threads of connections that run now.
    pub threads: u64,
    /// Streams open now.
    pub streams: u64,
    /// Answers with 401.
    pub unauthorized: u64,
    /// Answers, by operation (or method, if it was no POST) and HTTP status.
    pub requests: BTreeMap<(String, u16), u64>,
    /// Threads that ended by a panic; always 0, or there is a bug.
    pub panics: u64,
}

impl Stats {
    /// How many requests of this operation were answered, with any status but 401: those are questions how to sign in.
    pub fn of(&self, operation: &str) -> u64 {
        self.requests.iter().filter(|((o, status), _)| o == operation && *status != 401).map(|(_, n)| n).sum()
    }
}

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The number of its connection, counted from 1.
    pub connection: u64,
    /// Who had signed in.
    pub user: Option<String>,
    /// The method, such as `POST`.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The headers in the order they came. The secret of an `Authorization` is left out, its scheme is there.
    pub headers: Vec<(String, String)>,
    /// The local name of the first child of the SOAP body, such as `GetEvents`; the method, if it was no POST.
    pub operation: String,
    /// The body.
    pub body: Vec<u8>,
    /// The status of the answer, once there was one.
    pub status: Option<u16>,
}

impl Request {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// One stream and what became of its envelopes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLog {
    /// The number of its connection, counted from 1.
    pub connection: u64,
    /// The number of this stream in the exchange's ledger
    /// ([`Told::connection`](crate::sim::exchange::Told::connection)).
    pub in_ledger: u64,
    /// Whose stream it was.
    pub user: String,
    /// Envelopes whose last byte the kernel took.
    pub written: u64,
    /// Bytes of the HTTP answer that the kernel took.
    pub bytes: u64,
    /// Envelopes that the exchange gave away and the kernel did not take whole: their events are gone.
    pub lost: Vec<Vec<u8>>,
    /// How it ended; `None` while it is open.
    pub end: Option<End>,
}

/// How a connection or a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// In order, by the server.
    Finished,
    /// The client closed or reset the connection, or broke the protocol.
    Client,
    /// Cut on request.
    Cut(Cut),
    /// The server stopped.
    Stopped,
}
