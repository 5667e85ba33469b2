//! The one error type: what kind, what was tried, what came back, whether trying again makes sense.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a small closed set for hosts to branch on. The text tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A signature was refused, or a sign-in is needed (401, 403, 407, an expired password).
    Auth,
    /// The client is closed.
    Closed,
    /// No connection came about: the name, the port, a time-out; nothing of the request was sent.
    Connect,
    /// An HTTP status that is none of the others', with or without a body that we understand.
    Http,
    /// A bug in this library: a panic that was caught.
    Internal,
    /// An unknown key, a bad value, bad UTF-8.
    Invalid,
    /// The connection broke after it had come about, or a file could not be written.
    Io,
    /// A bound was met: an envelope, an answer, a queue.
    Limit,
    /// Another process owns the state directory.
    Locked,
    /// An answer that cannot be understood: broken XML, HTML instead of XML, a missing element.
    Protocol,
    /// The server's own error: [`Error::code`] has its response code.
    Server,
    /// Not possible now.
    State,
    /// Nothing came in time, on a connection that stands.
    Timeout,
    /// The certificate, the protocol version, the handshake.
    Tls,
    /// Not offered here.
    Unsupported,
}

/// What was tried, with what, what came back and what to do. Never holds a password, a token, a hash or a cookie.
///
/// ```
/// let e = ewsnotify::Options::new().set("mailboxx", "ada@example.test").unwrap_err();
/// assert_eq!(e.kind(), ewsnotify::ErrorKind::Invalid);
/// assert!(!e.is_retryable());
/// ```
#[derive(thiserror::Error)]
#[error("{0}")]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    text: Cow<'static, str>,
    code: Option<String>,
    http_status: Option<u16>,
    retry_after: Option<Duration>,
    mark: Mark,
}

/// What only the library itself distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    None,
    TooLarge,
    NoToken,
    SignInNeeded,
    NoWayIn,
    TokenRefused,
    RefusedLately,
    NotSent,
}

/// The text first: a `main` that returns an error prints this form.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, text, code, http_status, retry_after, mark: _ } = &*self.0;
        write!(f, "{text} [{kind:?}")?;
        if let Some(code) = code {
            write!(f, ", {code}")?;
        }
        if let Some(status) = http_status {
            write!(f, ", HTTP {status}")?;
        }
        if let Some(wait) = retry_after {
            write!(f, ", wait {wait:?}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Error {
        let text = text.into();
        let inner = Inner { kind, text, code: None, http_status: None, retry_after: None, mark: Mark::None };
        Error(Box::new(inner))
    }

    /// The same for another one whom it concerns.
    pub(crate) fn again(&self) -> Error {
        Error(self.0.clone())
    }

    /// Something larger than a bound of ours for the size of such things.
    pub(crate) fn too_large(text: impl Into<Cow<'static, str>>) -> Error {
        let mut error = Error::new(ErrorKind::Limit, text);
        error.0.mark = Mark::TooLarge;
        error
    }

    /// Whether it was made by [`too_large`](Self::too_large). Other limits are not about size.
    pub(crate) fn is_too_large(&self) -> bool {
        self.0.mark == Mark::TooLarge
    }

    /// There is no token to sign in with yet: nothing was sent, and what was tried may be tried again. `Auth` while the host
    /// owes one, else what kept us from fetching one.
    pub(crate) fn no_token(mut self) -> Error {
        self.0.mark = Mark::NoToken;
        self
    }

    /// Whether it was made by [`no_token`](Self::no_token).
    pub(crate) fn is_no_token(&self) -> bool {
        self.0.mark == Mark::NoToken
    }

    /// Whether it is the host that owes a token.
    pub(crate) fn awaits_token(&self) -> bool {
        self.is_no_token() && self.0.kind == ErrorKind::Auth
    }

    /// A person has to sign in anew, or to change the account: nothing was sent, and trying again is of no use.
    pub(crate) fn sign_in_needed(text: impl Into<Cow<'static, str>>) -> Error {
        let mut error = Error::new(ErrorKind::Auth, text);
        error.0.mark = Mark::SignInNeeded;
        error
    }

    /// Whether it was made by [`sign_in_needed`](Self::sign_in_needed).
    pub(crate) fn is_sign_in_needed(&self) -> bool {
        self.0.mark == Mark::SignInNeeded
    }

    /// The server offers no way to sign in that is possible: name and password were not even looked at.
    pub(crate) fn with_no_way_in(mut self) -> Error {
        self.0.mark = Mark::NoWayIn;
        self
    }

    /// Whether it was made by [`with_no_way_in`](Self::with_no_way_in).
    pub(crate) fn has_no_way_in(&self) -> bool {
        self.0.mark == Mark::NoWayIn
    }

    /// A server has not taken a token: there is no password that could be wrong.
    pub(crate) fn with_token_refused(mut self) -> Error {
        self.0.mark = Mark::TokenRefused;
        self
    }

    /// Whether it was made by [`with_token_refused`](Self::with_token_refused).
    pub(crate) fn is_token_refused(&self) -> bool {
        self.0.mark == Mark::TokenRefused
    }

    /// A password that had been taken was refused lately, so it was not sent: soon it will be.
    pub(crate) fn with_refused_lately(mut self) -> Error {
        self.0.mark = Mark::RefusedLately;
        self
    }

    /// Whether it was made by [`with_refused_lately`](Self::with_refused_lately).
    pub(crate) fn was_refused_lately(&self) -> bool {
        self.0.mark == Mark::RefusedLately
    }

    /// A password was not sent to a server, since that or others have refused it. Another server may be asked.
    pub(crate) fn with_not_sent(mut self) -> Error {
        self.0.mark = Mark::NotSent;
        self
    }

    /// Whether it was made by [`with_not_sent`](Self::with_not_sent).
    pub(crate) fn was_not_sent(&self) -> bool {
        self.0.mark == Mark::NotSent
    }

    pub(crate) fn with_code(mut self, code: impl Into<String>) -> Error {
        self.0.code = Some(code.into());
        self
    }

    pub(crate) fn with_http_status(mut self, status: u16) -> Error {
        self.0.http_status = Some(status);
        self
    }

    pub(crate) fn with_retry_after(mut self, after: Option<Duration>) -> Error {
        self.0.retry_after = after;
        self
    }

    /// Changes what it says, and the server's code.
    pub(crate) fn map_texts(mut self, mut change: impl FnMut(&mut String)) -> Error {
        if let Cow::Owned(text) = &mut self.0.text {
            change(text);
        }
        self.0.code.iter_mut().for_each(change);
        self
    }

    /// Puts what was being tried in front of the text.
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Error {
        self.0.text = format!("{what}: {}", self.0.text).into();
        self
    }

    /// Puts what to do about it behind the text.
    pub(crate) fn advice(mut self, what: &str) -> Error {
        self.0.text = format!("{}: {what}", self.0.text).into();
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's own code, such as `ErrorServerBusy`, or that of a token endpoint, such as `invalid_grant`.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The status of the HTTP answer, where there was one that was not 200.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// How long the server asked to wait (`BackOffMilliseconds`, `Retry-After`), or a password is not sent again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same thing may work later without a change of settings.
    pub fn is_retryable(&self) -> bool {
        match self.0.mark {
            Mark::NoToken | Mark::RefusedLately => return true,
            Mark::SignInNeeded => return false,
            Mark::None | Mark::TooLarge | Mark::NoWayIn | Mark::TokenRefused | Mark::NotSent => {}
        }
        match self.0.kind {
            ErrorKind::Connect | ErrorKind::Io | ErrorKind::Timeout | ErrorKind::Protocol => true,
            ErrorKind::Http => !matches!(self.0.http_status, Some(300..=399 | 400 | 404 | 405 | 413)),
            ErrorKind::Server => self.code().is_some_and(|c| crate::proto::action(c).is_retryable()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What the smallest program prints when it ends with an error must be a text for people.
    #[test]
    fn the_debug_form_begins_with_the_text() {
        let error = Error::new(ErrorKind::Server, "The mailbox is away").with_code("ErrorMailboxFailover");
        let error = error.with_http_status(500).with_retry_after(Some(Duration::from_secs(3)));
        let shown = format!("{error:?}");
        assert_eq!(shown, "The mailbox is away [Server, ErrorMailboxFailover, HTTP 500, wait 3s]");
        assert_eq!(format!("{:?}", Error::new(ErrorKind::Closed, "closed")), "closed [Closed]");
    }
}
