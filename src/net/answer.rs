//! What the head of an answer means: status codes, redirects, content that is no EWS; and the words for it.

use std::time::{Duration, SystemTime};

use super::lane::Answer;
use super::url::Endpoint;
use crate::auth::{self, Auth};
use crate::cookies::Cookies;
use crate::{Error, ErrorKind};

/// Headers by which an administrator finds the request in the server's logs, or that say what is wrong.
const TELLING: [&str; 5] = ["x-caserrorcode", "x-ms-diagnostics", "request-id", "x-feserver", "x-diaginfo"];
const EXCERPT: usize = 120;

/// What to do about a redirect.
pub(super) enum Target {
    /// The same server: this path and query.
    Here(String),
    /// Not to be followed.
    Refused(Error),
}

/// Whether the status is one of those that only say "elsewhere".
pub(super) fn is_redirect(status: u16) -> bool {
    (300..400).contains(&status)
}

/// Where a redirect leads. Only to the same scheme, host and port: another one would get the password.
pub(super) fn redirect(endpoint: &Endpoint, answer: &Answer, turns_left: u32) -> Target {
    let status = answer.status;
    let refuse = |what: String| {
        let text = format!("{endpoint}: HTTP {status}: {what}{}", telling(answer));
        Target::Refused(
            Error::new(ErrorKind::Http, text).with_http_status(status).with_retry_after(retry_after(answer)),
        )
    };
    let Some(location) = answer.header("location") else {
        return refuse("a redirect that does not say where to".into());
    };
    let (origin, path) = match location.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            (Some(format!("{scheme}://{authority}")), path)
        }
        None => (None, location),
    };
    let path = path.split_once('#').map_or(path, |(before, _)| before);
    let bare = path.split_once('?').map_or(path, |(before, _)| before);
    let lower = bare.to_ascii_lowercase();
    if lower.ends_with("/ews/genericerrorpage.htm") {
        // The one redirect that passes by itself: told as the page that it leads to.
        let text = format!(
            "{endpoint}: HTTP {status}: the server sent its general error page instead of an answer: it may be \
             overloaded{}",
            telling(answer)
        );
        let error = Error::new(ErrorKind::Protocol, text).with_http_status(status);
        return Target::Refused(error.with_retry_after(retry_after(answer)));
    }
    // What the text may show of it: no user, no query.
    let shown = |origin: Option<&str>| {
        let host = origin
            .and_then(|o| o.split_once("://"))
            .map(|(s, a)| (s, a.rsplit_once('@').map_or(a, |(_, h)| h)));
        let host = host.map_or_else(String::new, |(s, h)| format!("{s}://{h}"));
        cut(&format!("{host}{bare}"), 200)
    };
    if lower.starts_with("/owa/") || lower.contains("/owa/auth") {
        let to = shown(origin.as_deref());
        let text = format!(
            "{endpoint}: HTTP {status}: the server sends to its logon page ({to}): this way of signing in is not \
             enabled for EWS there{}",
            telling(answer)
        );
        return Target::Refused(Error::new(ErrorKind::Auth, text).with_http_status(status));
    }
    let same = match &origin {
        None => path.starts_with('/') && !path.starts_with("//"),
        // Parsed, so that ports and letters' case are compared by their meaning. User names make it fail, as they should.
        Some(origin) => Endpoint::parse(origin).is_ok_and(|to| to.origin() == endpoint.origin()),
    };
    if !same || path.is_empty() {
        let to = shown(origin.as_deref());
        return refuse(format!(
            "it redirects to {to}, which is not followed: if it is right, give it as the url"
        ));
    }
    if !matches!(status, 301 | 302 | 307 | 308) {
        return refuse(format!("a redirect to {} of a kind that no POST follows", shown(origin.as_deref())));
    }
    if turns_left == 0 {
        return refuse(format!("too many redirects, the last one to {}", shown(origin.as_deref())));
    }
    Target::Here(path.to_owned())
}

/// A status that is neither 200 nor a fault's 500. `certificate`: whether we have one of our own to show.
pub(super) fn refused(endpoint: &Endpoint, answer: &Answer, auth: &dyn Auth, certificate: bool) -> Error {
    let (status, who) = (answer.status, auth.who());
    let (mut possible, by_token) = (true, auth::by_token(auth.ways()));
    let (kind, what) = match status {
        401 => {
            let offers = auth::schemes(&challenges(answer));
            let misfit = auth::misfit(auth.ways(), &offers, auth::Directory::WebServices);
            possible = misfit.is_none();
            let what = misfit.unwrap_or_else(|| {
                let mut why = answer.refusal.as_deref().unwrap_or("check name and password").to_owned();
                if certificate && !by_token {
                    why += "; a certificate (tls_cert) signs in by itself only where IIS maps it to an account";
                }
                match offers.is_empty() {
                    true => why,
                    false => format!("{why}; the server offers {}", offers.join(", ")),
                }
            });
            (ErrorKind::Auth, format!("the sign-in of {who} was refused: {what}"))
        }
        403 => (
            ErrorKind::Auth,
            format!(
                "{who} may not use EWS here: it may be blocked for the account, the program or the network, or the server wants a \
                 certificate of the client's (tls_cert)"
            ),
        ),
        407 => (
            ErrorKind::Auth,
            "a proxy on the way wants a sign-in of its own: put user and password into option proxy, if it is that one; only Basic is \
             possible"
                .into(),
        ),
        440 | 449 => (ErrorKind::Auth, format!("the server wants {who} to sign in anew")),
        456 => (
            ErrorKind::Auth,
            match &answer.unlock {
                Some(place) if place.starts_with("https://") => {
                    let place = cut(place, 500);
                    format!("the account of {who} is locked: unlock it with a browser at {place}")
                }
                _ => format!("the account of {who} is locked: sign in to it with a browser to unlock it"),
            },
        ),
        400 if !endpoint.is_https() => (
            ErrorKind::Http,
            "the server does not understand the request: if this port is for TLS, the url must begin with https"
                .into(),
        ),
        400 => (ErrorKind::Http, "the server does not understand the request".into()),
        404 | 405 => (ErrorKind::Http, "there is no EWS at this address: check the url".into()),
        413 => (ErrorKind::Http, "the request is too large for the server".into()),
        408 | 429 | 502 | 503 | 504 => {
            (ErrorKind::Http, "the server is overloaded or out of reach for its proxy".into())
        }
        500 => (ErrorKind::Http, "an error inside the server, without a word that EWS would say".into()),
        _ => (ErrorKind::Http, "an answer that is none of EWS".into()),
    };
    let text = format!("{endpoint}: HTTP {status}: {what}{}", telling(answer));
    let error = Error::new(kind, text).with_http_status(status).with_retry_after(retry_after(answer));
    match status {
        401 if !possible => error.with_no_way_in(),
        401 if by_token => error.with_token_refused(),
        _ => error,
    }
}

/// An answer that came compressed, which was not asked for.
pub(super) fn encoded(endpoint: &Endpoint, answer: &Answer) -> Option<Error> {
    let encoding = answer.headers.get("content-encoding")?;
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    if encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity") {
        return None;
    }
    let text = format!(
        "{endpoint}: the answer is compressed ({}), although that was refused (Accept-Encoding: identity): a proxy on \
         the way may do it{}",
        cut(&encoding, 40),
        telling(answer)
    );
    Some(Error::new(ErrorKind::Protocol, text))
}

/// A page or nothing, where XML should be.
pub(super) fn not_xml(endpoint: &Endpoint, answer: &Answer, excerpt: &str) -> Error {
    let content_type = answer.headers.get("content-type").map(|v| String::from_utf8_lossy(v.as_bytes()));
    let content_type =
        content_type.map_or("no content type".to_owned(), |t| format!("content type {}", cut(&t, 80)));
    let begins = if excerpt.trim().is_empty() {
        "nothing in it".to_owned()
    } else {
        format!("it begins {}", cut(excerpt, EXCERPT))
    };
    let status = answer.status;
    let text = format!(
        "{endpoint}: HTTP {status}, but no EWS answer ({content_type}; {begins}): is this the address of an Exchange \
         server, and not of a portal before it?{}",
        telling(answer)
    );
    let kind = if status == 200 { ErrorKind::Protocol } else { ErrorKind::Http };
    let error = Error::new(kind, text).with_retry_after(retry_after(answer));
    if status == 200 { error } else { error.with_http_status(status) }
}

/// Whether a head alone says that a page follows. Exchange 2010 sends no content type with a stream.
pub(super) fn says_page(answer: &Answer) -> bool {
    answer
        .header("content-type")
        .is_some_and(|t| t.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// Whether a body may be a SOAP message: a root element that is not a page's.
pub(super) fn looks_like_xml(body: &[u8]) -> bool {
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    loop {
        rest = rest.trim_ascii_start();
        let end: &[u8] = if rest.starts_with(b"<?") {
            b"?>"
        } else if rest.starts_with(b"<!--") {
            b"-->"
        } else {
            break;
        };
        match memchr::memmem::find(rest, end) {
            Some(at) => rest = &rest[at + end.len()..],
            None => return false,
        }
    }
    let Some(name) = rest.strip_prefix(b"<") else { return false };
    let end = name
        .iter()
        .position(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b'>' | b'/'))
        .unwrap_or(name.len());
    let name = &name[..end];
    let local = name.rsplit(|b| *b == b':').next().unwrap_or(name);
    !local.is_empty() && !local.starts_with(b"!") && !local.eq_ignore_ascii_case(b"html")
}

/// The server's clock.
pub(super) fn date(answer: &Answer) -> Option<SystemTime> {
    httpdate::parse_http_date(answer.header("date")?.trim()).ok()
}

/// Takes what the server wants to be sent back.
pub(super) fn set_cookies(answer: &Answer, cookies: &Cookies) {
    for header in answer.headers.get_all("set-cookie") {
        if let Ok(text) = header.to_str() {
            cookies.set(text);
        }
    }
}

/// `Retry-After`: seconds, or a date, which is measured against the server's own clock where it tells it.
pub(super) fn retry_after(answer: &Answer) -> Option<Duration> {
    let value = answer.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        // A year and more is a mistake, and adding it to a time may overflow.
        return Some(Duration::from_secs(seconds.min(366 * 86_400)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = date(answer).unwrap_or_else(SystemTime::now);
    Some(at.duration_since(now).unwrap_or_default().min(Duration::from_secs(366 * 86_400)))
}

/// The challenges of a 401.
pub(super) fn challenges(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all("www-authenticate").iter();
    all.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
}

fn telling(answer: &Answer) -> String {
    let mut out = String::new();
    for name in TELLING {
        if let Some(value) = answer.headers.get(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            out.push_str(if out.is_empty() { " (" } else { "; " });
            out.push_str(&format!("{name}: {}", cut(&value, 100)));
        }
    }
    if !out.is_empty() {
        out.push(')');
    }
    out
}

/// A stranger's text, fit for a log: what acts on a terminal is escaped, and it is not longer than `max` characters. Quotes and `\`
/// stay: a `DOMAIN\name` is looked for as it was written.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(max) {
        match c {
            '\\' | '"' | '\'' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(max).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // A portal's page handed to the XML reader gives an error that nobody understands; a fault refused here is lost.
    #[test]
    fn pages_are_told_from_soap() {
        for yes in [
            "<Envelope/>",
            "\u{feff}<?xml version='1.0'?>\n<s:Envelope>",
            " <!-- a > b --> <SOAP:Envelope\n",
            "<x>",
            "<?xml?><a",
        ] {
            assert!(looks_like_xml(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            " ",
            "<",
            "<!DOCTYPE html>",
            "<html>",
            "<HTML lang='x'>",
            "<?xml version='1.0'?><!DOCTYPE html><html>",
            "Gone",
            "<?xml",
            "<!-- ",
            "<?xml?><html/>",
            "{}",
            "\u{feff}",
            "< a",
            "<h:html>",
        ] {
            assert!(!looks_like_xml(no.as_bytes()), "{no}");
        }
    }

    // A server's bytes must not steer the terminal of whoever reads the log.
    #[test]
    fn strangers_text_is_escaped_and_cut() {
        assert_eq!(cut("a\x1b[2J\nb", 100), "a\\u{1b}[2J\\nb");
        assert_eq!(cut("abcdef", 3), "abc...");
        assert_eq!(cut("DOMAIN\\o'name \"x\"", 100), "DOMAIN\\o'name \"x\"");
        assert_eq!(cut("abc", 3), "abc");
    }
}
