//! What a failure means: for the next step, for what may have been missed, and for the host.

use std::time::Duration;

use crate::proto::{Action, action};
use crate::{Error, ErrorKind, Reason};

/// How often a watch or a stream repeats what is [`RetryThenStop`](Verdict::RetryThenStop).
pub(super) const TRIES: u32 = 5;
/// The least wait after a refused sign-in: accounts are locked for fast ones.
pub(super) const REFUSED_WAIT: Duration = Duration::from_secs(30);

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait and repeat.
    Retry,
    /// Wait and repeat, five times at most.
    RetryThenStop,
    /// The sign-in (or the certificate) was refused, or we were sent elsewhere, or Autodiscover is nowhere: where it worked before, ask twice more, slowly; then stop.
    Refused,
    /// The subscription is lost.
    Resubscribe,
    /// The same, and the mailbox may be on another machine now.
    Rediscover,
    /// Events were missed; the subscription stands.
    Missed,
    /// Speak an older version, if none has worked yet.
    LowerVersion,
    /// A folder is gone.
    FolderGone,
    /// The item is gone.
    ItemGone,
    /// The item cannot be read.
    ItemUnreadable,
    /// End the watch.
    Stop,
}

impl Verdict {
    /// Whether a sync that fails so would fail for ever.
    pub fn denies_sync(self) -> bool {
        use Verdict::{FolderGone, ItemGone, ItemUnreadable, LowerVersion, Rediscover, Resubscribe, Stop};
        matches!(
            self,
            Stop | LowerVersion | FolderGone | ItemGone | ItemUnreadable | Resubscribe | Rediscover
        )
    }
}

/// Whether the server's word is that a folder may not be synced, now and later: a watch goes on without.
pub(crate) fn denies_sync(error: &Error) -> bool {
    error.code().is_some_and(|code| of_code(code).denies_sync())
}

/// Another stream has taken the subscription: the stream must not be opened again with the same id.
pub(super) const TAKEN_OVER: &str = "ErrorNewEventStreamConnectionOpened";

/// The server has as many streams of the account as it allows.
pub(super) const TOO_MANY_STREAMS: &str = "ErrorExceededConnectionCount";

/// What a response code means here.
pub(super) fn of_code(code: &str) -> Verdict {
    match action(code) {
        Action::Proceed | Action::BackOff | Action::DropSyncState => Verdict::Retry,
        Action::BackOffThenStop => Verdict::RetryThenStop,
        Action::Resubscribe => Verdict::Resubscribe,
        Action::Rediscover => Verdict::Rediscover,
        Action::Missed => Verdict::Missed,
        Action::LowerVersion => Verdict::LowerVersion,
        Action::FolderGone => Verdict::FolderGone,
        Action::ItemGone => Verdict::ItemGone,
        Action::ItemUnreadable => Verdict::ItemUnreadable,
        Action::SignIn | Action::Stop => Verdict::Stop,
    }
}

/// What an error means.
pub(super) fn of_error(error: &Error) -> Verdict {
    if error.is_no_token() {
        return Verdict::Retry;
    }
    if error.is_sign_in_needed() {
        return Verdict::Stop;
    }
    match error.code() {
        // The code of any loss; only the text tells of the move (MailboxMoveStarted and others).
        Some("ErrorInvalidSubscription") if error.to_string().contains("MailboxMove") => {
            return Verdict::Rediscover;
        }
        // Whatever the code, the request will be no better the next time.
        Some(_) if impersonation(error).is_some() => return Verdict::Stop,
        Some(code) => return of_code(code),
        None => {}
    }
    // A status that comes with it is a proxy's, which made no connection.
    if error.kind() == ErrorKind::Connect {
        return Verdict::Retry;
    }
    match error.http_status() {
        Some(401 | 403 | 407) => return Verdict::Refused,
        // Where to is nothing that we may follow: a wrong address, or for a while a page that asks for patience.
        Some(300..=399) if !error.is_retryable() => return Verdict::Refused,
        Some(400 | 404 | 405 | 413 | 456) => return Verdict::Stop,
        _ => {}
    }
    match error.kind() {
        ErrorKind::Auth | ErrorKind::Tls => Verdict::Refused,
        ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::State | ErrorKind::Locked => Verdict::Stop,
        ErrorKind::Internal => Verdict::RetryThenStop,
        _ => Verdict::Retry,
    }
}

/// Whether it holds back the whole endpoint. A refused sign-in holds back whom it was refused: others may be signed in.
pub(super) fn throttles(error: &Error) -> bool {
    throttling_code(error.code())
        || matches!(error.http_status(), Some(429 | 503))
        || (error.retry_after().is_some() && error.http_status() != Some(401))
}

/// Whether a code holds back the whole endpoint.
pub(super) fn throttling_code(code: Option<&str>) -> bool {
    matches!(code, Some("ErrorServerBusy" | "ErrorTooManyObjectsOpened" | "ErrorInsufficientResources"))
}

/// The least wait after a code, in seconds: limits that free themselves slowly.
pub(super) fn least_wait(code: Option<&str>) -> Option<u64> {
    match code {
        Some("ErrorExceededSubscriptionCount") => Some(120),
        Some("ErrorExceededConnectionCount") => Some(5),
        Some("ErrorMailboxMoveInProgress") => Some(60),
        Some("ErrorMailboxFailover") => Some(30),
        _ => None,
    }
}

/// Whether it is certain that the server acted on nothing: the request never left, or was refused. A gateway's
/// answer is none: the server behind it may have acted.
pub(super) fn nothing_done(error: &Error) -> bool {
    error.kind() == ErrorKind::Connect
        || error.is_no_token()
        || error.is_sign_in_needed()
        || error.code().is_some()
        || matches!(error.http_status(), Some(status) if !matches!(status, 200..=299 | 408 | 500 | 502 | 504))
}

/// What a host is told as the reason.
pub(super) fn reason(error: &Error) -> Reason {
    if error.code() == Some(TAKEN_OVER) {
        return Reason::TakenOver;
    }
    match error.kind() {
        ErrorKind::Auth if error.is_no_token() => Reason::TokenNeeded,
        ErrorKind::Connect | ErrorKind::Tls => Reason::ConnectFailed,
        ErrorKind::Timeout => Reason::IdleTimeout,
        ErrorKind::Limit => Reason::LimitExceeded,
        ErrorKind::Auth => Reason::SignInRefused,
        ErrorKind::Server => Reason::ServerError,
        ErrorKind::Http => Reason::HttpError,
        ErrorKind::Protocol if error.http_status().is_some() => Reason::HttpError,
        ErrorKind::Protocol => Reason::BadEnvelope,
        ErrorKind::Invalid | ErrorKind::Unsupported => Reason::Invalid,
        _ => Reason::ConnectionLost,
    }
}

/// What to do where a server says that this kind of token needs the impersonation header, or must not have it: the words are the
/// same whatever the code.
fn impersonation(error: &Error) -> Option<&'static str> {
    let text = error.to_string();
    if text.contains("ExchangeImpersonation SOAP header must be present") {
        return Some(
            "the token is a program's own, which has no mailbox: set access=impersonate, and name the mailbox; then add the watch again",
        );
    }
    text.contains("ExchangeImpersonation SOAP header must not exist").then_some(
        "the token is a user's, who cannot impersonate with it: set access=delegate (or own), or let the program sign in for itself \
         (oauth_grant=client_credentials); then add the watch again",
    )
}

/// What the host can do about a watch that was stopped.
pub(super) fn advice(error: &Error, verdict: Verdict) -> &'static str {
    if error.is_sign_in_needed() {
        return "when that is done, add the watch again";
    }
    if let Some(advice) = impersonation(error) {
        return advice;
    }
    match error.code() {
        Some("ErrorNonExistentMailbox") => {
            return "check the address of the mailbox (option mailbox), then add the watch again";
        }
        Some("ErrorInvalidPushSubscriptionUrl") => {
            return "check option push_url: http or https, and shorter than 2083 characters; then add the watch again";
        }
        Some("ErrorInvalidId" | "ErrorInvalidIdEmpty" | "ErrorInvalidIdMalformed") => {
            return "check the ids in option folders, then add the watch again";
        }
        Some("ErrorAccessDenied" | "ErrorImpersonateUserDenied" | "ErrorImpersonationDenied") => {
            return "give the user a right on the mailbox, or check option access, then add the watch again";
        }
        _ => {}
    }
    match (verdict, error.http_status(), error.kind()) {
        (Verdict::FolderGone, ..) => {
            "the folder is gone or this user may not see it: check the folder's name, then add the watch again"
        }
        (_, Some(300..=399 | 404 | 405), _) => "check the server's URL, then add the watch again",
        (_, Some(403), _) => {
            "check that the account may use EWS and has the right to this mailbox, then add the watch again"
        }
        (_, _, ErrorKind::Tls) => {
            "check the url and the server's certificate (option ca_file for a private one), then add the watch again"
        }
        (Verdict::Refused, _, ErrorKind::Protocol) => {
            "point autodiscover.DOMAIN at the server or set option url, then add the watch again"
        }
        _ if error.has_no_way_in() => {
            "have a way to sign in enabled that both sides know, then add the watch again"
        }
        _ if error.is_token_refused() => {
            "see to it that the token is for this server and this user, then add the watch again"
        }
        (Verdict::Refused, ..) => "check user name and password, then add the watch again",
        (Verdict::LowerVersion, ..) => {
            "if the server is older than Exchange 2010 SP1, which alone knows streaming and all folders, set mode=pull and name the folders; then add the watch again"
        }
        (Verdict::RetryThenStop, ..) => "it failed five times in a row; add the watch again later",
        _ => "it will not work without a change; correct it, then add the watch again",
    }
}
