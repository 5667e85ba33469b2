//! What an administrator can do about it.

use crate::autodiscover::{Outcome, domain};
use crate::{Error, ErrorKind};

/// By the server's response code: the texts of other errors say it themselves.
pub(super) fn of(error: &Error) -> Option<&'static str> {
    Some(match error.code()? {
        "ErrorAccessDenied" => {
            "give the user a right on the folder (reviewer, at least), or full access to the mailbox; or set access=impersonate \
             if the user may impersonate"
        }
        "ErrorImpersonateUserDenied" | "ErrorImpersonationDenied" => {
            "give the user the role ApplicationImpersonation (New-ManagementRoleAssignment), for this mailbox at least"
        }
        "ErrorNonExistentMailbox" => "check the mailbox's address, and that the mailbox is on this server",
        "ErrorFolderNotFound" | "ErrorItemNotFound" => {
            "check option folders: the folder is not there, or the user may not see it"
        }
        "ErrorExceededSubscriptionCount" => {
            "the account has as many subscriptions as the throttling policy allows (EwsMaxSubscriptions): end other programs of \
             the account, wait until the server forgets theirs, or raise the limit"
        }
        "ErrorExceededConnectionCount" => {
            "the account has as many connections as the throttling policy allows (EWSMaxConcurrency, and 10 or 3 streams): end \
             other programs of the account, or raise the limit"
        }
        "ErrorServerBusy" | "ErrorTooManyObjectsOpened" | "ErrorInsufficientResources" => {
            "the server throttles the account now, or is overloaded: it passes by itself; a policy of its own for the account \
             (New-ThrottlingPolicy) helps if it goes on"
        }
        _ => return None,
    })
}

/// Whether it is a limit of the server's.
pub(super) fn is_limit(error: &Error) -> bool {
    let code = error.code().unwrap_or_default();
    code.starts_with("ErrorExceeded")
        || matches!(code, "ErrorServerBusy" | "ErrorTooManyObjectsOpened" | "ErrorInsufficientResources")
        || matches!(error.http_status(), Some(429 | 503))
}

/// Autodiscover has found nothing; each step has been told already. `outcomes` are theirs.
pub(super) fn nothing_found(error: &Error, outcomes: &[Outcome], mailbox: &str, by_token: bool) -> String {
    let any = |outcome| outcomes.contains(&outcome);
    let what = match error.kind() {
        ErrorKind::Auth if error.has_no_way_in() => {
            "Autodiscover offers no way to sign in that is possible here: see above which one has to be enabled"
        }
        ErrorKind::Auth if by_token => {
            "the token was refused where Autodiscover answers: see above what it has to be"
        }
        ErrorKind::Auth => "the sign-in was refused where Autodiscover answers: check user and password",
        ErrorKind::Invalid => {
            "Autodiscover leads where nobody has confirmed the way, or does not know the mailbox: see above what to set or to \
             correct"
        }
        ErrorKind::Tls => "TLS with the server fails: see above what its certificate or its settings lack",
        ErrorKind::Protocol => {
            "whoever answers at these addresses is no Exchange server: point autodiscover.DOMAIN at the server, or let \
             http://autodiscover.DOMAIN redirect (302) to https"
        }
        _ if any(Outcome::Trouble) => {
            "Autodiscover answers, and something is wrong with it now: see above what it says; it may pass by itself"
        }
        _ if outcomes.iter().all(|o| matches!(o, Outcome::Unreachable | Outcome::Tls)) => {
            "nobody could be reached who knows it: check the names in DNS, and a firewall or proxy on the way"
        }
        _ => {
            "who answers is no Autodiscover, and who may be one does not answer (see above): check the names in DNS, and a firewall \
             or proxy on the way"
        }
    };
    // Of a server that was found by the other ways, a record would say nothing new.
    let record = match error.kind() {
        ErrorKind::Protocol | ErrorKind::Connect if !any(Outcome::Trouble) => {
            let domain = domain(mailbox).unwrap_or_default();
            format!(
                "; SRV records in DNS are not asked for: where _autodiscover._tcp.{domain} names a server, so must you"
            )
        }
        _ => String::new(),
    };
    format!("no server was found for {mailbox}: {what}{record}; or name the server (--url, option url)")
}
