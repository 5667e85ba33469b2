//! Kerberos, wrapped by SPNEGO and announced as `Negotiate` (RFC 4559, [MS-SPNG], [MS-KILE]), by way of the system's GSSAPI.
//!
//! A token names the TLS channel, so there has to be one first: on a new socket a question goes out without a sign-in and with an empty
//! body, and the token goes with the request itself, on that very socket and no other. From then on the socket needs no header.

mod failure;
mod gss;
mod tried;

use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};

use self::failure::Failure;
use self::gss::{Ask, Turn};
use self::tried::Tried;
use super::binding::{self, server_end_point};
use super::offers::Offers;
use super::{Answer, Auth, Context, Handshake, Manner, Secret, header, in_the_clear};
use crate::net::{Endpoint, aside, cut};
use crate::{Error, ErrorKind, Result};

const SCHEME: &str = "Negotiate";
/// Longer than any principal's name.
const MAX_NAME: usize = 1024;
/// A ticket with the groups of a user's may have 64 KiB ([MS-KILE], MaxTokenSize); an answer has no such.
const MAX_TOKEN: usize = 64 * 1024;

/// Signs in by Kerberos. The tickets are the system's: those of the process's cache (`KRB5CCNAME`, which `kinit` fills), or fetched by a
/// keytab for clients (`KRB5_CLIENT_KTNAME`) or a password; each sign-in looks for them anew, and nothing is kept. A password or keytab
/// that the KDC has refused is not sent again for five minutes by this and its clones: a few wrong ones lock the account. GSSAPI reads its
/// environment and files and asks the KDC, which may take half a minute where that is silent: it does so on a short-lived thread of its
/// own, so that whoever waits can leave.
#[derive(Clone)]
pub struct Kerberos(Arc<User>);

struct User {
    who: String,
    /// What the user may be called there, one or two; the first that there are credentials for counts.
    principals: Vec<String>,
    password: Option<Secret>,
    tried: Arc<Tried>,
}

impl Kerberos {
    /// For the principal `NAME@REALM`, or `NAME` of the default realm. A realm in lower case, as a mail domain is, is taken in upper case,
    /// and only then as it stands. Without `password`, there has to be a ticket of that principal, or a keytab.
    ///
    /// ```
    /// use ewsnotify::auth::{Auth, Kerberos};
    ///
    /// let kerberos = Kerberos::new("ada@example.test", None)?;
    /// assert_eq!(kerberos.ways(), ["Negotiate"]);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a name that is empty, longer than 1,024 bytes, has a control character in it, or is `DOMAIN\NAME`, and for such a
    /// password.
    pub fn new(user: &str, password: Option<Secret>) -> Result<Kerberos> {
        let bad =
            |what: &str| Err(Error::new(ErrorKind::Invalid, format!("{what}, which Kerberos cannot use")));
        if user.is_empty() || user.len() > MAX_NAME || user.chars().any(char::is_control) {
            return bad("the user name is empty, too long, or has a control character in it");
        }
        // By its name alone it would be somebody else of the default realm's.
        if user.contains('\\') {
            let text = format!(
                "Kerberos cannot sign in {}, since nobody here knows the realm of that domain: set user to NAME@REALM",
                cut(user, 100)
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        if password.as_ref().is_some_and(|p| p.is_empty() || p.expose().contains('\0')) {
            return bad("the password is empty, or has a zero in it");
        }
        let upper = user.rsplit_once('@').map(|(name, realm)| format!("{name}@{}", realm.to_uppercase()));
        let mut principals: Vec<String> = upper.into_iter().chain([user.to_owned()]).collect();
        principals.dedup();
        let who = format!("user {}", cut(user, 100));
        Ok(Kerberos(Arc::new(User { who, principals, password, tried: Arc::default() })))
    }

    /// A handshake for one socket. What keeps it from a token is a refusal, so that another way is taken; where it goes `alone`, it is told
    /// as it is, but for a server that the KDC does not know, so that Autodiscover asks the next.
    pub(super) fn turns(&self, alone: bool) -> Turns {
        Turns {
            kerberos: self.clone(),
            alone,
            state: State::New,
            turn: None,
            bound: None,
            failure: None,
            on_socket: false,
        }
    }

    /// Begins a sign-in, when it is our turn.
    fn begin(&self, cx: &Context<'_>, ask: Ask) -> Result<Result<(Turn, Vec<u8>), Failure>> {
        let claim = match self.0.tried.claim(cx) {
            Ok(claim) => claim,
            Err(failure) => return Ok(Err(failure)),
        };
        match aside("Kerberos", cx.cancel, cx.until, move || ask.begin(claim)) {
            Ok(begun) => Ok(begun),
            Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Internal) => Err(e),
            Err(e) => {
                self.0.tried.doubt();
                Ok(Err(Failure::passing(e.to_string())))
            }
        }
    }
}

impl fmt::Debug for Kerberos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kerberos").field("principals", &self.0.principals).finish()
    }
}

impl Auth for Kerberos {
    /// Over plain http whoever is on the way could take the connection over once it is signed in, and nothing binds the sign-in to it.
    fn check(&self, endpoint: &Endpoint, allow_plaintext: bool) -> Result<()> {
        in_the_clear(endpoint, allow_plaintext, "the sign-in, and could take the connection over")
    }

    fn start(&self) -> Box<dyn Handshake> {
        Box::new(self.turns(true))
    }

    fn ways(&self) -> &'static [&'static str] {
        &[SCHEME]
    }

    fn who(&self) -> String {
        self.0.who.clone()
    }

    fn secrets(&self) -> Vec<Secret> {
        self.0.password.iter().cloned().collect()
    }

    fn signs_connections(&self) -> bool {
        true
    }
}

/// The signing in on one socket.
pub(super) struct Turns {
    kerberos: Kerberos,
    alone: bool,
    state: State,
    /// What GSSAPI knows of the sign-in that is under way.
    turn: Option<Turn>,
    /// Whether the last token named the channel; `None` where there is none.
    bound: Option<bool>,
    /// Why there is no token.
    failure: Option<String>,
    /// Whether the last token is good on the socket alone that is there.
    on_socket: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    /// The question is out, by which a socket and its certificate come about.
    Asked,
    /// A token is out.
    Sent,
    /// It was taken, so the socket is signed in, for all that is known.
    SignedIn,
    /// There is no token.
    Failed,
}

impl Turns {
    /// The first token of a sign-in; `None` where there is none to be had.
    fn token(&mut self, cx: &Context<'_>) -> Result<Option<Secret>> {
        let binding = cx.certificate.map(server_end_point);
        self.bound = binding.as_ref().map(Option::is_some);
        let (user, host) = (self.kerberos.0.clone(), cx.endpoint.host().to_owned());
        let begun = self.kerberos.begin(cx, Ask { user, host, binding: binding.flatten() })?;
        (self.turn, self.failure, self.state) = (None, None, State::Failed);
        match begun {
            Ok((turn, token)) => {
                (self.turn, self.state) = (Some(turn), State::Sent);
                self.on_socket = cx.certificate.is_some();
                return Ok(Some(header(SCHEME, &token)));
            }
            Err(failure) if self.alone && !failure.is_of_service() => {
                return Err(failure.into_error(cx.endpoint));
            }
            Err(failure) => self.failure = Some(failure.text),
        }
        Ok(None)
    }
}

impl Handshake for Turns {
    fn first(&mut self, cx: &Context<'_>) -> Result<Option<Secret>> {
        match self.state {
            State::Sent | State::SignedIn => {
                self.state = State::SignedIn;
                Ok(None)
            }
            State::New | State::Asked | State::Failed
                if cx.certificate.is_none() && cx.endpoint.is_https() =>
            {
                self.state = State::Asked;
                Ok(None)
            }
            State::New | State::Asked | State::Failed => self.token(cx),
        }
    }

    fn challenged(&mut self, challenges: &[String], cx: &Context<'_>) -> Result<Answer> {
        let offers = Offers::read(challenges);
        let Some(token) = offers.token(SCHEME) else { return Ok(Answer::Refused) };
        let header = match (self.state, token, &mut self.turn) {
            (State::Sent, Some(token), Some(turn)) if !turn.is_complete() => {
                let token =
                    decode(token).ok_or_else(|| bad_token(cx.endpoint, "is too long or no base64"))?;
                // What it cannot be answered to is a refusal: SPNEGO tells one by a token too.
                self.on_socket = true;
                turn.step(&token)
                    .ok()
                    .flatten()
                    .filter(|token| !token.is_empty())
                    .map(|token| header(SCHEME, &token))
            }
            (State::Sent | State::Failed, ..) => None,
            // The socket is another one, or the server forgot.
            (State::New | State::Asked | State::SignedIn, ..) => self.token(cx)?,
        };
        Ok(header.map_or(Answer::Refused, Answer::Again))
    }

    fn answered(&mut self, status: u16, challenges: &[String], cx: &Context<'_>) -> Result<()> {
        let Some(mut turn) = self.turn.take() else { return Ok(()) };
        let Some(Some(token)) = Offers::read(challenges).token(SCHEME) else {
            if cx.endpoint.is_https() {
                // It has proved who it is by its certificate.
                return Ok(());
            }
            if matches!(status, 200 | 500) {
                let what = "is missing, and over plain http nothing else proves who the server is";
                return Err(bad_token(cx.endpoint, what));
            }
            self.turn = Some(turn);
            return Ok(());
        };
        // Where it does by Kerberos too, that must fit.
        let token = decode(token).ok_or_else(|| bad_token(cx.endpoint, "is too long or no base64"))?;
        match turn.step(&token) {
            Ok(_) if turn.is_complete() => Ok(()),
            Ok(_) => Err(bad_token(cx.endpoint, "leaves the sign-in open, though the answer came")),
            Err(why) => Err(bad_token(cx.endpoint, &format!("does not prove who the server is ({why})"))),
        }
    }

    fn manner(&self) -> Manner {
        match self.state {
            State::Asked => Manner::Opening,
            State::Sent if self.on_socket => Manner::Closing,
            State::New | State::Sent | State::SignedIn | State::Failed => Manner::Request,
        }
    }

    fn shows_password(&self) -> bool {
        false
    }

    fn refusal(&self) -> Option<String> {
        let check = "Kerberos was refused: check that the server's account has this host's service name alone (setspn -Q HTTP/HOST), and \
                     that the clocks agree";
        let refused = || (self.state == State::Sent).then(|| binding::refusal(check, self.bound, ""));
        self.failure.clone().or_else(refused)
    }
}

fn decode(token: &str) -> Option<Vec<u8>> {
    Some(token).filter(|token| token.len() <= MAX_TOKEN).and_then(|token| BASE64_STANDARD.decode(token).ok())
}

fn bad_token(endpoint: &Endpoint, what: &str) -> Error {
    Error::new(ErrorKind::Auth, format!("{endpoint}: the server's token for Kerberos (Negotiate) {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A user is written as a mail address, and realms are in upper case; the wrong one of them finds no ticket.
    #[test]
    fn a_user_becomes_principals() {
        let of = |user: &str| Kerberos::new(user, None).unwrap().0.principals.clone();
        assert_eq!(of("ada@example.test"), ["ada@EXAMPLE.TEST", "ada@example.test"]);
        assert_eq!(of("ada@EXAMPLE.TEST"), ["ada@EXAMPLE.TEST"]);
        assert_eq!(of("ada"), ["ada"]);
        for user in ["", "a\0da", &"a".repeat(2000)] {
            assert_eq!(Kerberos::new(user, None).unwrap_err().kind(), ErrorKind::Invalid);
        }
        let e = Kerberos::new("OTHER\\ada", None).unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("NAME@REALM"), "somebody else: {e}");
        for password in ["", "a\0b"] {
            let e = Kerberos::new("ada", Some(Secret::new(password))).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Invalid);
        }
    }
}
