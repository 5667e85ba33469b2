//! Signing in. A handshake is a function from the server's challenge to our answer; it opens no socket and reads no clock.
//!
//! The way a request is signed:
//!
//! 1. For each socket one [`Handshake`] is [started](Auth::start).
//! 2. Before each request [`Handshake::first`] gives the `Authorization` header to send, if there is one to send unasked.
//! 3. On a 401 [`Handshake::challenged`] sees the challenges and answers with a header for the same request on the same
//!    socket, or gives up. NTLM takes two such turns for a socket, a bearer token one (a fresh token), Basic none.

mod basic;
mod bearer;
pub mod oauth;
mod offers;
mod secret;
mod secrets;

use std::fmt::Debug;
use std::time::Instant;

use crate::Result;
use crate::net::{Cancel, Endpoint};

pub use basic::Basic;
pub use bearer::{Bearer, Tokens};
pub(crate) use offers::{Directory, misfit, schemes};
pub use secret::Secret;
pub use secrets::Secrets;

/// A way to sign in, with the credentials for it. One for all connections of a watch.
pub trait Auth: Send + Sync + Debug {
    /// Refuses what must not happen: credentials in clear text to another machine, say. Asked once, before any socket.
    fn check(&self, endpoint: &Endpoint, allow_plaintext: bool) -> Result<()>;

    /// A handshake for one socket.
    fn start(&self) -> Box<dyn Handshake>;

    /// The ways by which it can go, as challenges name them: `Basic`, say; the best one first.
    fn ways(&self) -> &'static [&'static str];

    /// Who signs in, for error texts. Never a secret.
    fn who(&self) -> String;

    /// What it has that must not be shown, and would not be known by what is sent: passwords. See [`Secrets`].
    fn secrets(&self) -> Vec<Secret> {
        Vec::new()
    }

    /// Whether handshakes want to see the server's certificate (channel binding). It costs some memory for each socket.
    fn wants_certificate(&self) -> bool {
        false
    }
}

/// The signing in on one socket.
pub trait Handshake: Send {
    /// The `Authorization` header for a new request, or `None` to wait for a challenge. A bearer token is fetched fresh here.
    fn first(&mut self, cx: &Context<'_>) -> Result<Option<Secret>>;

    /// What to do about a 401 with these `WWW-Authenticate` values.
    fn challenged(&mut self, challenges: &[String], cx: &Context<'_>) -> Result<Answer>;
}

/// What a handshake may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whom we talk to.
    pub endpoint: &'a Endpoint,
    /// The server's certificate in DER, once there is a TLS connection and [`Auth::wants_certificate`] asked for it.
    pub certificate: Option<&'a [u8]>,
    /// Ends what a handshake waits for.
    pub cancel: &'a Cancel,
    /// Until when it may wait.
    pub until: Instant,
}

/// A handshake's answer to a challenge.
#[derive(Debug)]
pub enum Answer {
    /// Send the request again, on the same socket, with this header.
    Again(Secret),
    /// The sign-in was refused.
    Refused,
}
