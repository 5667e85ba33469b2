//! Signing in. A handshake goes from the server's challenge to our answer; it opens no socket. Two of them wait all the same: a bearer token may
//! have to be fetched first, and GSSAPI asks the KDC.
//!
//! The way a request is signed:
//!
//! 1. For each socket one [`Handshake`] is [started](Auth::start).
//! 2. Before each request [`Handshake::first`] gives the `Authorization` header to send, if there is one to send unasked.
//! 3. On a 401 [`Handshake::challenged`] sees the challenges and answers with a header for the same request on the same
//!    socket, or gives up. NTLM takes two such turns for a socket, Kerberos one, a bearer token one (a fresh token), Basic none.
//! 4. [`Handshake::manner`] says how that header wants to be sent: NTLM's first without the request's body, its second on the
//!    very socket that the challenge came by.
//! 5. [`Handshake::answered`] sees what came with the answer, where it was no 401.

mod basic;
mod bearer;
mod binding;
mod by_offer;
#[cfg(feature = "gssapi")]
mod kerberos;
#[cfg(not(feature = "gssapi"))]
mod no_kerberos;
mod ntlm;
pub mod oauth;
mod offers;
pub(crate) mod pem;
mod secret;
mod secrets;

#[cfg(not(feature = "gssapi"))]
use self::no_kerberos as kerberos;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::net::{Cancel, Endpoint, Tries};
use crate::{Error, ErrorKind, Result};

pub use basic::Basic;
pub(crate) use bearer::is_token;
pub use bearer::{Bearer, Tokens};
pub use by_offer::ByOffer;
#[cfg(not(feature = "gssapi"))]
pub(crate) use kerberos::Kerberos;
#[cfg(feature = "gssapi")]
pub use kerberos::Kerberos;
pub use ntlm::{Fresh, Ntlm};
pub(crate) use offers::{Directory, Offers, by_token, misfit, parts, schemes};
pub use secret::Secret;
pub use secrets::Secrets;

/// A way to sign in, with the credentials for it. One for all connections of a watch.
// A new method with a default has to be handed on by `net::Rationed` as well.
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

    /// What is known of its password, so that it is not sent too often: see [`Rationed`](crate::net::Rationed).
    fn tries(&self) -> Option<&Arc<Tries>> {
        None
    }

    /// Whether it may sign in a connection and not each request (NTLM): then a proxy has to make one for it alone, also where it would
    /// send plain http on.
    fn signs_connections(&self) -> bool {
        false
    }

    /// By which way the last sign-in to this server went, where there are several.
    fn taken(&self, _: &Endpoint) -> Option<&'static str> {
        None
    }
}

/// The signing in on one socket.
pub trait Handshake: Send {
    /// The `Authorization` header for a new request, or `None` to wait for a challenge. A bearer token is fetched fresh here. Of the
    /// socket, `cx` knows nothing yet.
    fn first(&mut self, cx: &Context<'_>) -> Result<Option<Secret>>;

    /// What to do about a 401 with these `WWW-Authenticate` values.
    fn challenged(&mut self, challenges: &[String], cx: &Context<'_>) -> Result<Answer>;

    /// The answer came, and its status is not 401: the server may prove by its `WWW-Authenticate` who it is.
    fn answered(&mut self, _status: u16, _challenges: &[String], _: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// What somebody may want to know of a sign-in that went on all the same, once: why a better way was not taken.
    fn remark(&mut self) -> Option<String> {
        None
    }

    /// Whether the header that was given last is made of a password, so that a refusal counts as a wrong one.
    fn shows_password(&self) -> bool {
        true
    }

    /// How the header that was given last wants to be sent.
    fn manner(&self) -> Manner {
        Manner::Request
    }

    /// After a 401 that nothing was answered to: what is wrong and what to do, where more is known than the offers tell.
    fn refusal(&self) -> Option<String> {
        None
    }
}

/// How a header wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With the request, on whatever socket.
    Request,
    /// With an empty body in the request's place: the server is sure to ask on.
    Opening,
    /// With the request, on the socket that the challenge came by: on another one it means nothing.
    Closing,
}

/// What a handshake may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whom we talk to.
    pub endpoint: &'a Endpoint,
    /// The server's certificate in DER, with a challenge that came by a TLS connection.
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

/// Whether Kerberos is built in (feature `gssapi`).
pub(crate) const HAS_KERBEROS: bool = cfg!(feature = "gssapi");

/// A message of a scheme's, as a header's value.
fn header(scheme: &str, message: &[u8]) -> Secret {
    // Of its whole length from the beginning: one that grows leaves copies behind.
    let mut header = String::with_capacity(scheme.len() + 1 + message.len().div_ceil(3) * 4);
    header.push_str(scheme);
    header.push(' ');
    BASE64_STANDARD.encode_string(message, &mut header);
    Secret::new(header)
}

/// Plain http is for this machine, or for whoever insists.
fn in_the_clear(endpoint: &Endpoint, allowed: bool, what: &str) -> Result<()> {
    if endpoint.is_https() || endpoint.is_loopback() || allowed {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "{endpoint} is plain http to another machine: everybody on the way would see {what}. \
             Use https, or set allow_plaintext if that is really wanted"
        ),
    ))
}
