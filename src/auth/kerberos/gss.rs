//! The system's GSSAPI (RFC 2743; MIT Kerberos or Heimdal), by way of `libgssapi`. Its calls block: they ask the KDC, and read files.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::name::Name;
use libgssapi::oid::{
    GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, Oid, OidSet,
};

use crate::auth::{Context, Secret};
use crate::net::{Endpoint, Wake, cut};
use crate::{Error, ErrorKind};

/// Whom to ask for, and in whose name.
#[derive(Clone)]
pub(super) struct Ask {
    /// What the user may be called there; the first that there are credentials for counts.
    pub principals: Vec<String>,
    pub password: Option<Secret>,
    pub host: String,
    /// The application data of the channel binding (RFC 5929 section 4).
    pub binding: Option<Vec<u8>>,
}

/// What is known of a password or a keytab: of all who have it, one finds out whether it is right.
#[derive(Default)]
pub(super) struct Tried {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Clone, Default)]
enum Known {
    #[default]
    Nothing,
    /// Somebody is finding out, which a silent KDC makes long.
    Trying,
    Good,
    Refused(Instant, Failure),
}

/// So long a password that was refused is not sent again.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// A sign-in that has begun.
pub(super) struct Turn {
    context: ClientCtx,
    binding: Option<Vec<u8>>,
}

impl Tried {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, known: Known) {
        *self.known() = known;
        self.changed.notify_all();
    }

    /// Waits for whoever is finding out, on the caller's own thread: one that nobody waits for any more must not wait on.
    pub fn claim(self: &Arc<Self>, cx: &Context<'_>) -> Result<Claim, Failure> {
        let this: Arc<dyn Wake> = self.clone();
        let _registered = cx.cancel.register(Arc::downgrade(&this));
        let mut known = self.known();
        loop {
            match &*known {
                Known::Refused(at, failure) if at.elapsed() < REFUSED_FOR => {
                    return Err(failure.clone().again());
                }
                Known::Good => {
                    return Ok(Claim { tried: self.clone(), finds_out: false, found: Known::Good });
                }
                Known::Nothing | Known::Refused(..) => {
                    *known = Known::Trying;
                    return Ok(Claim { tried: self.clone(), finds_out: true, found: Known::Nothing });
                }
                Known::Trying => {}
            }
            let left = cx.until.saturating_duration_since(Instant::now());
            if left.is_zero() || cx.cancel.is_cancelled() {
                let text = "Kerberos: another connection's question to the KDC is not answered yet: does the KDC run?";
                return Err(Failure::passing(text));
            }
            known = self.changed.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Wake for Tried {
    fn wake(&self) {
        // Under the lock: whoever has looked at the flag sleeps by now.
        let _known = self.known();
        self.changed.notify_all();
    }
}

/// The right to ask the KDC. Its end tells the others what is known by then, whatever it ends by.
pub(super) struct Claim {
    tried: Arc<Tried>,
    finds_out: bool,
    found: Known,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let found = std::mem::take(&mut self.found);
        if self.finds_out || matches!(found, Known::Refused(..)) {
            self.tried.set(found);
        }
    }
}

impl Ask {
    /// The first token for the server.
    pub fn begin(&self, mut claim: Claim) -> Result<(Turn, Vec<u8>), Failure> {
        let begun = self.begin_now();
        claim.found = Known::of(&begun);
        begun
    }

    fn begin_now(&self) -> Result<(Turn, Vec<u8>), Failure> {
        // Kerberos by itself first: it finds the user, fetches the ticket, and says exactly what is missing, where SPNEGO only says
        // that it has nothing to negotiate. The ticket is at hand then.
        let (user, credentials) = self.credentials()?;
        let getting = |e| self.failure("getting a ticket", &e);
        self.context(GSS_MECH_KRB5, credentials)?.step(None, self.binding.as_deref()).map_err(getting)?;
        let beginning = |e| self.failure("beginning the sign-in", &e);
        let credentials = self.credentials_of(user, GSS_MECH_SPNEGO).map_err(beginning)?;
        let mut context = self.context(GSS_MECH_SPNEGO, credentials)?;
        let token = context.step(None, self.binding.as_deref()).map_err(beginning)?;
        let token = token.map(|token| token.to_vec()).unwrap_or_default();
        Ok((Turn { context, binding: self.binding.clone() }, token))
    }

    fn context(&self, mechanism: Oid<'static>, credentials: Cred) -> Result<ClientCtx, Failure> {
        let service = self.service();
        let target = Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE))
            .map_err(|e| self.failure("naming the service", &e))?;
        let mut flags = CtxFlags::GSS_C_MUTUAL_FLAG;
        if self.binding.is_some() {
            // Says that we do name the channel: a server that would also take who does not must not take it from us
            // ([MS-KILE] section 3.2.5.8, KERB_AP_OPTIONS_CBT).
            flags |= CtxFlags::from_bits_retain(CHANNEL_BOUND);
        }
        Ok(ClientCtx::new(Some(credentials), target, flags, Some(mechanism)))
    }

    /// The first principal that there are credentials for, and these.
    fn credentials(&self) -> Result<(&str, Cred), Failure> {
        let doing = match self.password {
            Some(_) => "signing in to the KDC by the password",
            None => "looking for a ticket",
        };
        let mut first = None;
        for user in &self.principals {
            match self.credentials_of(user, GSS_MECH_KRB5) {
                Ok(found) => return Ok((user, found)),
                // Only where nobody of that name has been asked about: a wrong password is not tried twice.
                Err(e) if is_of_nobody(&e) => first = first.or(Some(e)),
                Err(e) => return Err(self.failure(doing, &e)),
            }
        }
        Err(match first {
            Some(e) => self.failure(doing, &e),
            None => Failure { kind: Kind::Person, text: "Kerberos: there is no user".into() },
        })
    }

    /// From the password, or the process's own: a ticket in its cache, or a keytab for clients.
    fn credentials_of(&self, user: &str, mechanism: Oid<'static>) -> Result<Cred, libgssapi::error::Error> {
        let name = Name::new(user.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))?;
        let mechanisms = OidSet::singleton(mechanism)?;
        let (name, mechanisms) = (Some(&name), Some(&mechanisms));
        match &self.password {
            Some(password) => {
                Cred::acquire_with_password(name, password.expose(), None, CredUsage::Initiate, mechanisms)
            }
            None => Cred::acquire(name, None, CredUsage::Initiate, mechanisms),
        }
    }

    fn service(&self) -> String {
        format!("HTTP@{}", self.host)
    }

    fn failure(&self, doing: &str, e: &libgssapi::error::Error) -> Failure {
        let (kind, advice) = self.explained(e);
        let (service, user) = (self.service(), cut(&self.principals.join(" or "), 200));
        Failure { kind, text: format!("Kerberos: {doing} for {service} as {user}: {}: {advice}", words(e)) }
    }

    fn explained(&self, e: &libgssapi::error::Error) -> (Kind, String) {
        const CREDENTIALS_EXPIRED: u32 = 11 << 16;
        const NO_CREDENTIALS: u32 = 7 << 16;
        let (kind, advice) = match (code(e), routine(e)) {
            (code::KDC_UNREACHABLE | code::NO_KDC | code::KDC_UNRESOLVED, _) => (
                Kind::Passing,
                "does the KDC run, and do krb5.conf or DNS name it for the realm? It is asked over UDP and TCP, port 88",
            ),
            (code::KDC_BUSY, _) => (Kind::Passing, "the KDC is not ready; it passes by itself"),
            (code::SKEW | code::NOT_YET, _) => (
                Kind::Passing,
                "set this machine's clock (NTP): five minutes of difference are allowed at most",
            ),
            (code::UNKNOWN_SERVICE, _) => {
                let host = &self.host;
                return (
                    Kind::Service,
                    format!(
                        "the KDC does not know HTTP/{host}: is that the server's name in Kerberos? Its account has to have it \
                         (setspn -S HTTP/{host} ACCOUNT; for Exchange servers that share a name, the alternate service account)"
                    ),
                );
            }
            (code::UNKNOWN_HOST, _) => (
                Kind::Service,
                "is that the server's name in Kerberos? [domain_realm] in krb5.conf says of which realm a host is",
            ),
            (code::EXPIRED, _) | (_, CREDENTIALS_EXPIRED) => (
                Kind::Person,
                "the ticket has expired: renew it with kinit (k5start does it by itself), or name a keytab by the environment variable \
                 KRB5_CLIENT_KTNAME, by which new ones are fetched",
            ),
            (code::WRONG_PASSWORD | code::PREAUTH_FAILED | code::PREAUTH_GENERIC, _) => (
                Kind::Refused,
                "check the password, or the keytab, which is old where the password was changed",
            ),
            (code::UNKNOWN_CLIENT, _) => (
                Kind::Person,
                "the KDC does not know that user: set user to the principal's name, as NAME@REALM",
            ),
            (code::REVOKED | code::CLIENT_EXPIRED, _) => {
                (Kind::Refused, "the account is locked or has expired")
            }
            (code::PASSWORD_EXPIRED, _) => {
                (Kind::Person, "the password has expired: set a new one (kpasswd)")
            }
            (code::NO_REALM, _) => {
                (Kind::Person, "set default_realm in krb5.conf, or give user as NAME@REALM")
            }
            (_, NO_CREDENTIALS) if self.password.is_none() => (
                Kind::Person,
                "get a ticket with kinit, into the cache that this program sees (environment variable KRB5CCNAME), or name a keytab by \
                 KRB5_CLIENT_KTNAME; user has to be the principal that klist shows (then mailbox is the address)",
            ),
            _ => (Kind::Unknown, "KRB5_TRACE=/dev/stderr has Kerberos tell what it does"),
        };
        (kind, advice.to_owned())
    }
}

impl Known {
    fn of(begun: &Result<(Turn, Vec<u8>), Failure>) -> Known {
        match begun {
            Ok(_) => Known::Good,
            Err(failure) if failure.kind == Kind::Refused => Known::Refused(Instant::now(), failure.clone()),
            Err(_) => Known::Nothing,
        }
    }
}

impl Turn {
    /// The next token, after one of the server's; `None` where the server needs no more.
    pub fn step(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let next = self.context.step(Some(token), self.binding.as_deref());
        next.map(|token| token.map(|token| token.to_vec())).map_err(|e| words(&e))
    }

    /// Whether the server has proved who it is.
    pub fn is_complete(&self) -> bool {
        self.context.is_complete()
    }
}

/// Why there is no token.
#[derive(Clone)]
pub(super) struct Failure {
    kind: Kind,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It may pass by itself.
    Passing,
    /// Somebody has to do something.
    Person,
    /// The same, about a password or a keytab.
    Refused,
    /// It is about this server alone: another one may do.
    Service,
    Unknown,
}

impl Failure {
    /// What a call that could not be signed ends with.
    pub fn into_error(self, endpoint: &Endpoint) -> Error {
        match self.kind {
            Kind::Passing => Error::new(ErrorKind::Connect, self.text),
            Kind::Person | Kind::Refused => Error::sign_in_needed(self.text),
            Kind::Service | Kind::Unknown => Error::new(ErrorKind::Auth, self.text),
        }
        .context(endpoint)
    }

    /// Whether it is about the server alone.
    pub fn is_of_service(&self) -> bool {
        self.kind == Kind::Service
    }

    fn again(mut self) -> Failure {
        self.text += "; that was less than five minutes ago, and is not tried again so soon, since a few refusals lock the account";
        self
    }

    /// What may pass by itself.
    pub fn passing(text: impl Into<String>) -> Failure {
        Failure { kind: Kind::Passing, text: text.into() }
    }
}

/// What GSSAPI says of both its codes.
fn words(e: &libgssapi::error::Error) -> String {
    let text = e.to_string();
    // Its texts have line ends and double spaces in them.
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), 500)
}

/// The code of Kerberos's own.
fn code(e: &libgssapi::error::Error) -> i32 {
    e.minor.cast_signed()
}

/// The major code without what it says of calls and what it says beside.
fn routine(e: &libgssapi::error::Error) -> u32 {
    e.major.bits() & 0x00ff_0000
}

fn is_of_nobody(e: &libgssapi::error::Error) -> bool {
    matches!(
        code(e),
        code::NO_KDC | code::KDC_UNRESOLVED | code::NOT_IN_CACHES | code::NO_CACHE_FILE | code::NOT_IN_KEYTAB
    )
}

/// `GSS_C_CHANNEL_BOUND_FLAG` (MIT 1.19 and later, Heimdal 8), which the crate does not name; older ones ignore it.
const CHANNEL_BOUND: u32 = 2048;

/// Error codes of libkrb5 (`krb5.h`): those of RFC 4120 section 7.5.9 from -1765328384 on, and its own.
mod code {
    const BASE: i32 = -1_765_328_384;
    pub const CLIENT_EXPIRED: i32 = BASE + 1;
    pub const UNKNOWN_CLIENT: i32 = BASE + 6;
    pub const UNKNOWN_SERVICE: i32 = BASE + 7;
    pub const REVOKED: i32 = BASE + 18;
    pub const PASSWORD_EXPIRED: i32 = BASE + 23;
    pub const PREAUTH_FAILED: i32 = BASE + 24;
    pub const KDC_BUSY: i32 = BASE + 29;
    pub const WRONG_PASSWORD: i32 = BASE + 31;
    pub const EXPIRED: i32 = BASE + 32;
    pub const NOT_YET: i32 = BASE + 33;
    pub const SKEW: i32 = BASE + 37;
    pub const NOT_IN_CACHES: i32 = BASE + 141;
    pub const NO_KDC: i32 = BASE + 154;
    pub const KDC_UNREACHABLE: i32 = BASE + 156;
    pub const NOT_IN_KEYTAB: i32 = BASE + 181;
    pub const NO_CACHE_FILE: i32 = BASE + 195;
    pub const PREAUTH_GENERIC: i32 = BASE + 210;
    pub const UNKNOWN_HOST: i32 = BASE + 216;
    pub const KDC_UNRESOLVED: i32 = BASE + 220;
    pub const NO_REALM: i32 = BASE + 224;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::net::Cancel;

    fn claim(tried: &Arc<Tried>, cancel: &Cancel, wait: u64) -> Result<Claim, Failure> {
        let endpoint = Endpoint::parse("mail.example.test").unwrap();
        let until = Instant::now() + Duration::from_secs(wait);
        tried.claim(&Context { endpoint: &endpoint, certificate: None, cancel, until })
    }

    // Each call that a silent KDC has held up would leave a thread behind, which asks the KDC in its turn, for nobody: thousands in a day.
    #[test]
    fn one_asks_the_kdc_and_whoever_waits_for_it_can_leave() {
        let (tried, cancel) = (Arc::<Tried>::default(), Cancel::new());
        let first = claim(&tried, &cancel, 0).unwrap_or_else(|_| panic!("nobody asks yet"));
        let late = claim(&tried, &cancel, 0).err().unwrap();
        assert!(late.kind == Kind::Passing && late.text.contains("not answered yet"), "{}", late.text);
        let (send, left) = channel();
        let waiting = |cancel: &Cancel| {
            let (tried, cancel, send) = (tried.clone(), cancel.clone(), send.clone());
            thread::spawn(move || send.send(claim(&tried, &cancel, 600).map_err(|e| e.text)).unwrap())
        };
        waiting(&cancel);
        cancel.cancel();
        assert!(left.recv().unwrap().is_err(), "closed");
        let next = waiting(&Cancel::new());
        drop(first);
        next.join().unwrap();
        let mut second = left.recv().unwrap().unwrap_or_else(|e| panic!("nothing was found out: {e}"));
        let (one, other) = (waiting(&Cancel::new()), waiting(&Cancel::new()));
        second.found = Known::Refused(Instant::now(), Failure::passing("wrong"));
        drop(second);
        one.join().unwrap();
        other.join().unwrap();
        for _ in 0..2 {
            assert!(
                left.recv().unwrap().err().unwrap().starts_with("wrong; that was less than five minutes ago")
            );
        }
    }
}
