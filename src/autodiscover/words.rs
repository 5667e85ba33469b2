//! What each step comes to, for people who can do something about it.

use super::{Dialect, Found, Place, Step};
use crate::Error;
use crate::auth;
use crate::net::{Told, cut};
use crate::proto::ServerVersion;
use crate::proto::autodiscover::UserSettings;

/// Why a redirect was not followed.
pub(super) enum Why<'a> {
    NoUrl,
    NoAddress,
    NotHttps,
    NotTrusted(&'a str),
    Loop,
    TooMany(u32),
}

pub(super) fn not_followed(place: &Place, to: &str, why: Why<'_>) -> String {
    let why = match why {
        Why::NoUrl => "which is no URL that can be followed".to_owned(),
        Why::NoAddress => "which is no mail address".to_owned(),
        Why::NotHttps => {
            "which is not followed, since it is not https: the server's Autodiscover must be set up for TLS".to_owned()
        }
        Why::NotTrusted(domain) => format!(
            "which is not followed, since the password would go there and nobody has confirmed that domain: if it is right, name \
             it in option trusted_domains (trusted_domains={domain})"
        ),
        Why::Loop => "where it was asked already: it redirects in a circle, the server's Autodiscover is set up wrongly".to_owned(),
        Why::TooMany(most) => format!("and that is more than {most} redirects: the server's Autodiscover is set up wrongly"),
    };
    format!("{}: it redirects to {}, {why}", place.endpoint, cut(to, 200))
}

pub(super) fn followed(place: &Place, to: &str) -> String {
    format!("{}: it redirects to {}", place.endpoint, cut(to, 200))
}

/// A redirect of a web server's own.
pub(super) fn elsewhere(place: &Place, told: &Told, to: &str) -> String {
    format!(
        "{}: HTTP {}: it sends to {}, which is no Autodiscover",
        place.endpoint,
        told.status,
        cut(to, 200)
    )
}

pub(super) fn no_redirect(place: &Place, told: &Told) -> String {
    match told.location.as_deref() {
        Some(to) if told.status != 302 => {
            format!("{}: HTTP {} to {}: only a 302 counts here", place.endpoint, told.status, cut(to, 200))
        }
        _ => format!("{}: HTTP {}, and no redirect to https", place.endpoint, told.status),
    }
}

pub(super) fn status(place: &Place, told: &Told) -> String {
    let what = match told.status {
        403 => {
            "it is forbidden: the account, the program or the network may be blocked, or this is only a web server"
        }
        404 | 405 => "there is no Autodiscover at this address",
        500.. => "an error inside the server, or it is out of reach for its proxy",
        _ => "no answer of Autodiscover",
    };
    format!("{}: HTTP {}: {what}", place.endpoint, told.status)
}

pub(super) fn unauthorized(place: &Place, told: &Told) -> String {
    let offers = match told.offers.is_empty() {
        true => "nothing that it names".to_owned(),
        false => told.offers.join(", "),
    };
    let misfit = auth::misfit(told.ways, &told.offers, auth::Directory::Autodiscover);
    let what = match (told.signed, misfit) {
        (true, _) => {
            let why = told.refusal.as_deref().unwrap_or(match auth::by_token(told.ways) {
                true => "the token was not taken",
                false => "check user and password",
            });
            format!("the sign-in was refused: {why} (the server offers {offers})")
        }
        (false, Some(misfit)) => misfit,
        // It names nothing, so nothing was sent: a password goes only to who asks for it.
        (false, None) => format!("the server wants a sign-in, and offers {offers}"),
    };
    format!("{}: HTTP 401: {what}", place.endpoint)
}

pub(super) fn not_autodiscover(place: &Place, told: &Told, why: &Error) -> String {
    let kind =
        told.header("content-type").map(|t| format!(" (content type {})", cut(t, 60))).unwrap_or_default();
    format!("{}: HTTP {}{kind}, but not Autodiscover: {why}", place.endpoint, told.status)
}

pub(super) fn failed(place: &Place, why: &Error) -> String {
    format!("{}: {why}", place.endpoint)
}

pub(super) fn nothing(place: &Place) -> String {
    format!("{}: Autodiscover answers with nothing in it", place.endpoint)
}

pub(super) fn refused(place: &Place, address: &str, code: &str, text: Option<&str>, unknown: bool) -> String {
    let text = cut(text.unwrap_or("no text"), 200);
    match unknown {
        true => format!(
            "{}: Autodiscover does not know {address} ({}: {text}): check the address of the mailbox",
            place.endpoint,
            cut(code, 60)
        ),
        false => format!("{}: Autodiscover fails ({}: {text})", place.endpoint, cut(code, 60)),
    }
}

pub(super) fn no_ews(place: &Place, address: &str, settings: &UserSettings) -> String {
    let named = settings.external_ews_url.as_deref().or(settings.internal_ews_url.as_deref());
    match named {
        Some(url) => format!(
            "{}: Autodiscover knows {address}, but the URL that it gives for EWS ({}) is not https: the server's ExternalUrl of \
             EWS must be corrected",
            place.endpoint,
            cut(url, 200)
        ),
        None => format!(
            "{}: Autodiscover knows {address}, but names no URL of EWS: the server's ExternalUrl of EWS must be set",
            place.endpoint
        ),
    }
}

pub(super) fn found(place: &Place, found: &Found) -> String {
    let mut text = format!("{}: EWS is at {}", place.endpoint, found.ews());
    if found.external.is_none() {
        text += " (only the URL for clients from inside is set)";
    }
    if let Some(version) = found.version.as_ref().and_then(ServerVersion::product) {
        text += &format!(", {version}");
    }
    text
}

/// Why nothing was found.
pub(super) fn all(address: &str, steps: &[Step]) -> String {
    let told: Vec<&str> = steps.iter().map(|s| s.text.as_str()).collect();
    let what = match steps.iter().any(|s| s.place.dialect == Dialect::Redirect) {
        true => "; SRV records in DNS (_autodiscover._tcp) are not asked for",
        false => "",
    };
    format!(
        "Autodiscover found no server for {}: {}{what}; option url names the server without Autodiscover",
        cut(address, 200),
        told.join("; ")
    )
}

/// Nobody has said that the sign-in may go to the mailbox's domain.
pub(super) fn no_home(mailbox: &str, user: &str, domain: &str) -> String {
    format!(
        "Autodiscover would send the password of {} to the domain of {}, which nobody has confirmed, the user's name being without \
         a domain: if it is right, name it in option trusted_domains (trusted_domains={domain}); or name the server (option url)",
        cut(user, 100),
        cut(mailbox, 200)
    )
}
