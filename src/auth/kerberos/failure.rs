//! Why there is no token, what to do about it, and whether it may pass by itself.

use libgssapi::error::Error as GssError;

use crate::net::{Endpoint, cut};
use crate::{Error, ErrorKind};

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
    /// Of `doing` something in order to reach `host` as `user`.
    pub fn new(doing: &str, host: &str, user: &str, by_password: bool, e: &GssError) -> Failure {
        let (kind, advice) = explained(e, by_password);
        let (user, words, advice) = (cut(user, 200), words(e), advice.replace("HOST", host));
        Failure { kind, text: format!("Kerberos: {doing} for HTTP@{host} as {user}: {words}: {advice}") }
    }

    /// What may pass by itself.
    pub fn passing(text: impl Into<String>) -> Failure {
        Failure { kind: Kind::Passing, text: text.into() }
    }

    /// What a call that could not be signed ends with.
    pub fn into_error(self, endpoint: &Endpoint) -> Error {
        match self.kind {
            Kind::Passing => Error::new(ErrorKind::Connect, self.text),
            Kind::Person | Kind::Refused => Error::sign_in_needed(self.text),
            Kind::Service | Kind::Unknown => Error::new(ErrorKind::Auth, self.text),
        }
        .context(endpoint)
    }

    /// Whether it is about the password or the keytab.
    pub fn is_refusal(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Whether it is about the server alone.
    pub fn is_of_service(&self) -> bool {
        self.kind == Kind::Service
    }
}

/// Of what kind it is, and what to do; `HOST` stands for the server.
fn explained(e: &GssError, by_password: bool) -> (Kind, &'static str) {
    const CREDENTIALS_EXPIRED: u32 = 11 << 16;
    const NO_CREDENTIALS: u32 = 7 << 16;
    match (code(e), routine(e)) {
        (code::KDC_UNREACHABLE | code::NO_KDC | code::KDC_UNRESOLVED, _) => (
            Kind::Passing,
            "does the KDC run, and do krb5.conf or DNS name it for the realm? It is asked over UDP and TCP, port 88",
        ),
        (code::KDC_BUSY, _) => (Kind::Passing, "the KDC is not ready; it passes by itself"),
        (code::SKEW | code::NOT_YET, _) => {
            (Kind::Passing, "set this machine's clock (NTP): five minutes of difference are allowed at most")
        }
        (code::UNKNOWN_SERVICE, _) => (
            Kind::Service,
            "the KDC does not know HTTP/HOST: is that the server's name in Kerberos? Its account has to have it (setspn -S HTTP/HOST \
             ACCOUNT; for Exchange servers that share a name, the alternate service account)",
        ),
        (code::UNKNOWN_HOST, _) => (
            Kind::Service,
            "is that the server's name in Kerberos? [domain_realm] in krb5.conf says of which realm a host is",
        ),
        (code::EXPIRED, _) | (_, CREDENTIALS_EXPIRED) => (
            Kind::Person,
            "the ticket has expired: renew it with kinit (k5start does it by itself), or name a keytab by the environment variable \
             KRB5_CLIENT_KTNAME, by which new ones are fetched",
        ),
        (code::WRONG_PASSWORD | code::PREAUTH_FAILED | code::PREAUTH_GENERIC, _) => {
            (Kind::Refused, "check the password, or the keytab, which is old where the password was changed")
        }
        (code::UNKNOWN_CLIENT, _) => {
            (Kind::Person, "the KDC does not know that user: set user to the principal's name, as NAME@REALM")
        }
        (code::REVOKED | code::CLIENT_EXPIRED, _) => (Kind::Refused, "the account is locked or has expired"),
        (code::PASSWORD_EXPIRED, _) => (Kind::Person, "the password has expired: set a new one (kpasswd)"),
        (code::NO_REALM, _) => (Kind::Person, "set default_realm in krb5.conf, or give user as NAME@REALM"),
        (_, NO_CREDENTIALS) if !by_password => (
            Kind::Person,
            "get a ticket with kinit, into the cache that this program sees (environment variable KRB5CCNAME), or name a keytab by \
             KRB5_CLIENT_KTNAME; user has to be the principal that klist shows (then mailbox is the address)",
        ),
        _ => (Kind::Unknown, "KRB5_TRACE=/dev/stderr has Kerberos tell what it does"),
    }
}

/// What GSSAPI says of both its codes.
pub(super) fn words(e: &GssError) -> String {
    let text = e.to_string();
    // Its texts have line ends and double spaces in them.
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), 500)
}

/// The code of Kerberos's own.
fn code(e: &GssError) -> i32 {
    e.minor.cast_signed()
}

/// The major code without what it says of calls and what it says beside.
fn routine(e: &GssError) -> u32 {
    e.major.bits() & 0x00ff_0000
}

/// Whether nobody of that name has been asked about.
pub(super) fn is_of_nobody(e: &GssError) -> bool {
    matches!(
        code(e),
        code::NO_KDC | code::KDC_UNRESOLVED | code::NOT_IN_CACHES | code::NO_CACHE_FILE | code::NOT_IN_KEYTAB
    )
}

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
