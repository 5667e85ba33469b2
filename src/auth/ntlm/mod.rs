//! NTLM, version 2 alone: [MS-NLMP] for the messages, [MS-NTHT] for how they go over HTTP, where they sign in a connection and
//! not a request. Version 1 and the LM response are never sent, nothing is signed or sealed.

mod compute;
mod message;
mod target_info;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use zeroize::Zeroizing;

use self::message::{Authenticate, Challenge};
use super::binding::{self, md5_of_binding};
use super::offers::Offers;
use super::{Answer, Context, Handshake, Manner, Secret};
use crate::{Error, ErrorKind, Result};

/// No server has so much to say of itself.
const MAX_CHALLENGE: usize = 16 * 1024;
/// Longer than any name of a directory; the messages have room for 65,535 bytes.
const MAX_NAME: usize = 1024;

/// What comes from outside: the clock, and a number that nobody can foresee.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// The time, for servers that do not tell theirs.
    pub now: SystemTime,
    /// Random bytes, new ones each time.
    pub nonce: [u8; 8],
}

/// A user and a password, for NTLM.
#[derive(Clone)]
pub struct Ntlm(Arc<Credentials>);

struct Credentials {
    user: String,
    domain: String,
    password: Secret,
    fresh: fn() -> Result<Fresh>,
}

impl Ntlm {
    /// For `DOMAIN\name`, `name@domain`, or `name` where the server knows the domain itself. `fresh` is asked at each sign-in.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use ewsnotify::auth::{Fresh, Ntlm, Secret};
    ///
    /// // A real one comes of the system's random numbers.
    /// let fresh = || Ok(Fresh { now: SystemTime::now(), nonce: [7; 8] });
    /// let ntlm = Ntlm::new("EXAMPLE\\ada", Secret::new("hunter2"), fresh)?;
    /// assert!(!format!("{ntlm:?}").contains("hunter2"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a name that is empty, or longer than 1,024 bytes.
    pub fn new(user: &str, password: Secret, fresh: fn() -> Result<Fresh>) -> Result<Ntlm> {
        let (domain, name) = user.split_once('\\').unwrap_or(("", user));
        if name.is_empty() || user.len() > MAX_NAME {
            let text = "the user name is empty or too long: give DOMAIN\\name or name@domain";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let (user, domain) = (name.to_owned(), domain.to_owned());
        Ok(Ntlm(Arc::new(Credentials { user, domain, password, fresh })))
    }

    /// A handshake for one socket, in messages of this scheme.
    pub(super) fn start(&self, scheme: Scheme) -> Turns {
        Turns { ntlm: self.clone(), scheme, state: State::New, bound: None }
    }

    /// The time, where it can be had.
    pub(super) fn now(&self) -> Option<SystemTime> {
        (self.0.fresh)().ok().map(|fresh| fresh.now)
    }

    /// What must not be shown.
    pub(super) fn password(&self) -> &Secret {
        &self.0.password
    }

    /// The AUTHENTICATE message to a CHALLENGE.
    fn answer(&self, challenge: &[u8], host: &str, binding: &[u8; 16]) -> Result<Zeroizing<Vec<u8>>> {
        let Credentials { user, domain, password, fresh } = &*self.0;
        let bad = |why: &str| {
            Error::new(ErrorKind::Protocol, format!("the server's NTLM challenge cannot be answered: {why}"))
        };
        let read = Challenge::read(challenge).map_err(bad)?;
        let Fresh { now, nonce } = fresh()?;
        let time = read.target_info.timestamp.unwrap_or_else(|| filetime(now));
        let client_part = compute::client_part(&time, &nonce, &read.target_info.answer(host, binding));
        let key = compute::response_key(password.expose(), user, domain);
        let (response, session_key) = compute::response(&key, &read.nonce, &client_part);
        let (domain, user) = (compute::utf16(domain), compute::utf16(user));
        let message = Authenticate::new(read.agreed(), &domain, &user, &response).write();
        let mut message = message.ok_or_else(|| bad("its target info is too long"))?;
        let mic = compute::mic(&session_key, [&message::negotiate(), challenge, &message]);
        message::set_mic(&mut message, &mic);
        Ok(message)
    }
}

impl fmt::Debug for Ntlm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ntlm").field("user", &self.0.user).field("domain", &self.0.domain).finish()
    }
}

/// What the messages are announced as: servers take them as either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Ntlm,
    /// Without the wrapping of SPNEGO, as IIS and Samba take them: who offers only Kerberos by it answers with no challenge.
    Negotiate,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Ntlm => "NTLM",
            Scheme::Negotiate => "Negotiate",
        }
    }
}

/// The signing in on one socket.
pub(super) struct Turns {
    ntlm: Ntlm,
    scheme: Scheme,
    state: State,
    /// Whether the last answer named the channel; `None` where there is none.
    bound: Option<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    /// The NEGOTIATE message is out.
    Asked,
    /// The AUTHENTICATE message is out.
    Answered,
    /// It was taken, so the socket is signed in, for all that is known.
    SignedIn,
}

impl Turns {
    /// Whether the password was tried. Where not, another way may be.
    pub fn was_tried(&self) -> bool {
        self.state == State::Answered
    }

    fn ask(&mut self) -> Secret {
        self.state = State::Asked;
        super::header(self.scheme.name(), &message::negotiate())
    }
}

impl Handshake for Turns {
    fn first(&mut self, _: &Context<'_>) -> Result<Option<Secret>> {
        match self.state {
            State::Answered | State::SignedIn => {
                self.state = State::SignedIn;
                Ok(None)
            }
            State::New | State::Asked => Ok(Some(self.ask())),
        }
    }

    fn challenged(&mut self, challenges: &[String], cx: &Context<'_>) -> Result<Answer> {
        let offers = Offers::read(challenges);
        let Some(token) = offers.token(self.scheme.name()) else { return Ok(Answer::Refused) };
        match (self.state, token) {
            (State::Asked, Some(token)) => {
                let challenge = Some(token).filter(|t| t.len() <= MAX_CHALLENGE);
                let challenge = challenge.and_then(|t| BASE64_STANDARD.decode(t).ok()).ok_or_else(|| {
                    Error::new(ErrorKind::Protocol, "the server's NTLM challenge is too long or no base64")
                        .context(cx.endpoint)
                })?;
                let binding = cx.certificate.map(md5_of_binding);
                self.bound = binding.map(|binding| binding.is_some());
                let binding = binding.flatten().unwrap_or_default();
                let host = cx.endpoint.host();
                let message =
                    self.ntlm.answer(&challenge, host, &binding).map_err(|e| e.context(cx.endpoint))?;
                self.state = State::Answered;
                Ok(Answer::Again(super::header(self.scheme.name(), &message)))
            }
            // The socket is another one, or the server forgot.
            (State::SignedIn | State::New, _) => Ok(Answer::Again(self.ask())),
            (State::Asked, None) | (State::Answered, _) => Ok(Answer::Refused),
        }
    }

    fn manner(&self) -> Manner {
        match self.state {
            State::Asked => Manner::Opening,
            State::Answered => Manner::Closing,
            State::New | State::SignedIn => Manner::Request,
        }
    }

    fn refusal(&self) -> Option<String> {
        if !self.was_tried() {
            return None;
        }
        let check = "NTLM was refused: check name (DOMAIN\\name or name@domain) and password, and whether a proxy before the server \
                     keeps one connection for each client (nginx does not: set auth=basic)";
        Some(binding::refusal(check, self.bound, ", or set auth=basic"))
    }
}

/// 100 nanoseconds since 1601, as Windows counts.
fn filetime(now: SystemTime) -> [u8; 8] {
    const FROM_1601_TO_1970: Duration = Duration::from_secs(11_644_473_600);
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + FROM_1601_TO_1970;
    u64::try_from(since.as_nanos() / 100).unwrap_or(u64::MAX).to_le_bytes()
}
