//! The network: the only place with sockets, `ureq` and `rustls`.
//!
//! The runtime knows a [`Link`]: [`Link::call`] for a whole answer, [`Link::open`] for one that hangs. [`HttpLink`] is the
//! real one. Every wait in here has an end: a time-out, or a [`Cancel`] from another thread.

mod answer;
#[cfg(any(feature = "gssapi", test))]
mod aside;
mod ask;
mod buffers;
mod cancel;
mod connect_to;
mod counters;
mod idn;
mod lane;
mod link;
mod listen;
mod lookup;
mod no_proxy;
mod pin;
mod proxy;
mod signing;
mod slot;
mod socket;
mod tap;
mod tls;
mod transport;
mod tries;
mod tunnel;
mod url;
mod wire_log;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::{Error, ErrorKind, Result};

pub use crate::cookies::Cookies;
pub(crate) use answer::cut;
#[cfg(feature = "gssapi")]
pub(crate) use aside::aside;
pub use ask::{Asker, Question, Session, Told};
pub use cancel::Cancel;
pub(crate) use cancel::Wake;
pub use connect_to::ConnectTo;
pub use counters::Counters;
pub use link::HttpLink;
pub(crate) use listen::no_pipe;
pub use listen::{Answered, ListenConfig, Listener, Refused, random_secret, server_tls};
pub use lookup::{Lookups, Resolve};
pub use no_proxy::NoProxy;
pub use pin::Pin;
pub use proxy::Proxy;
pub use tap::Tap;
pub use tls::{Tls, TlsConfig};
pub(crate) use tries::Keep;
pub use tries::{Rationed, Tries};
pub use url::Endpoint;
pub use wire_log::WireLog;

/// How to talk to a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The longest wait for a connection, and again for the TLS handshake.
    pub connect_timeout: Duration,
    /// The longest wait for a name look-up.
    pub lookup_timeout: Duration,
    /// The longest time that a call takes in all, and the longest wait for the head of a hanging answer. The answer of
    /// [`Link::call_into`] may take so long for each 256 KiB.
    pub call_timeout: Duration,
    /// The longest silence on a hanging answer.
    pub idle_timeout: Duration,
    /// The longest answer of a call.
    pub max_response_bytes: u64,
    /// The `User-Agent` header. It should not change while a program runs: some servers balance load by it.
    pub user_agent: String,
    /// Certificates (PEM) of authorities to trust besides the machine's. For [`Tls::of`].
    pub ca_file: Option<PathBuf>,
    /// What else TLS has to be like. For [`Tls::of`].
    pub tls: TlsConfig,
    /// The proxy by which servers are reached, those of this machine (`localhost`, loopback addresses) apart.
    pub proxy: Option<Proxy>,
    /// Servers that are reached without it.
    pub no_proxy: NoProxy,
    /// Allows a password in clear text over plain http to another machine.
    pub allow_plaintext: bool,
    /// Other places to connect to than URLs say; the first that fits counts.
    pub connect_to: Vec<ConnectTo>,
    /// The address of the public folder mailbox that all requests go to: `X-PublicFolderMailbox`, and `X-AnchorMailbox` instead of
    /// that of a request (Exchange documentation, "Route public folder content requests").
    pub public_folder_mailbox: Option<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            connect_timeout: Duration::from_secs(10),
            lookup_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(100),
            idle_timeout: Duration::from_secs(120),
            max_response_bytes: 64 * 1024 * 1024,
            user_agent: concat!("ewsnotify/", env!("CARGO_PKG_VERSION")).to_owned(),
            ca_file: None,
            tls: TlsConfig::default(),
            proxy: None,
            no_proxy: NoProxy::default(),
            allow_plaintext: false,
            connect_to: Vec::new(),
            public_folder_mailbox: None,
        }
    }
}

impl Config {
    /// How to talk to who issues tokens: the Exchange server's certificate is not its, nor does it want ours.
    pub(crate) fn for_an_issuer(mut self) -> Config {
        let TlsConfig { pins, only_tls13: _, certificate, key } = &mut self.tls;
        pins.clear();
        (*certificate, *key) = (None, None);
        self
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// The SOAP envelope.
    pub body: &'a [u8],
    /// The operation's URI, without quotes.
    pub soap_action: &'static str,
    /// The mailbox by which Exchange finds the right machine (`X-AnchorMailbox`).
    pub anchor_mailbox: Option<&'a str>,
    /// Where it is about a subscription: what the server gave to be sent back, so that the request reaches the machine that has it
    /// (`X-PreferServerAffinity`). What comes with the answer is put there.
    pub cookies: Option<&'a Cookies>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 200, or 500 with a SOAP fault.
    pub status: u16,
    /// The body, which looks like XML.
    pub body: Vec<u8>,
    /// The server's clock (`Date`).
    pub date: Option<SystemTime>,
}

/// What became of [`Link::open`].
pub enum Opened {
    /// It hangs: read it as it comes.
    Stream(Box<dyn Stream>),
    /// The server said no: a SOAP fault.
    Whole(Reply),
}

/// What the runtime knows of the network. Tests put fakes behind it.
pub trait Link: Send + Sync {
    /// Sends a request and gives its whole answer: of status 200, or 500 if it looks like a SOAP fault. Anything else is an
    /// error with its kind, its HTTP status and the server's `Retry-After`.
    fn call(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Reply>;

    /// The same for an answer that may be long: `take` gets its body piece by piece, and an error of its own ends the reading.
    /// What comes is bounded by `take` alone, and it may come slowly: see [`Config::call_timeout`].
    fn call_into(
        &self,
        post: &Post<'_>,
        cancel: &Cancel,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        take(&self.call(post, cancel)?.body)
    }

    /// Sends a request whose answer hangs, and returns when its head is here. `cancel` ends the stream too.
    fn open(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Opened>;

    /// The server's URL, for error texts; something else for people where it is not known yet.
    fn whom(&self) -> String;
}

/// A hanging answer. Dropping it closes its connection.
pub trait Stream: Send {
    /// Waits for bytes of the body and reads some: as many as came at once. `Ok(0)` is the body's proper end. Errors: `Timeout`
    /// (nothing within the idle time-out, or by `deadline`; reading may go on), `Io` (reset, cut, truncated), `Protocol` (broken
    /// framing), `Limit`, `Closed` (cancelled). An end by error is told again by each later read.
    fn read(&mut self, buf: &mut [u8], deadline: Option<Instant>) -> Result<usize>;
}

/// Fills it with bytes that nobody can foresee.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(bytes).map_err(|_| Error::new(ErrorKind::Io, "the system gives no random numbers"))
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Opened::Stream(_) => f.write_str("Stream"),
            Opened::Whole(reply) => f.debug_tuple("Whole").field(reply).finish(),
        }
    }
}
