//! What of a request or an answer is written down: headers that sign in and cookies without their values, the fields of token
//! endpoints and the push URL as `***`, and of mails no more than their beginning. What else is known to be secret is taken out
//! afterwards, wherever it stands ([`Secrets`](crate::auth::Secrets)).

use std::fmt::Write as _;

use ureq::http::HeaderMap;
use zeroize::Zeroizing;

use crate::auth::parts;

/// Of a body, no more is written.
pub(super) const MAX_BODY: usize = 64 << 10;
/// A text between two tags that is longer is cut after so many bytes: mails, and what a folder's state is.
const MAX_TEXT: usize = 256;
const CUT_TEXT: usize = 64;
const STARS: &str = "***";
/// Fields of OAuth 2 (RFC 6749, 7521, 7523, 7636, 8628, 9126) that are as good as a password.
const FIELDS: [&str; 12] = [
    "client_secret",
    "refresh_token",
    "access_token",
    "id_token",
    "assertion",
    "client_assertion",
    "code",
    "code_verifier",
    "device_code",
    "user_code",
    "password",
    "token",
];

/// A head as it is shown: its first line, and its headers.
pub(in crate::net) fn head(first: &str, headers: &HeaderMap) -> String {
    let mut out = query(first);
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = write!(out, "\n{name}: {}", header(name.as_str(), &value));
    }
    out
}

/// A head as it went over the wire, as it is shown.
pub(in crate::net) fn raw_head(bytes: &[u8]) -> Zeroizing<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    // All at once: a text that grows leaves copies behind that nobody wipes. Stars may be longer than what they stand for.
    let room = text.len() + 8 * memchr::memchr_iter(b'\n', bytes).count() + 8;
    let mut out = Zeroizing::new(String::with_capacity(room));
    out.push_str(&Zeroizing::new(query(lines.next().unwrap_or_default())));
    for line in lines.take_while(|line| !line.is_empty()) {
        let _ = match line.split_once(':') {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                let value = Zeroizing::new(header(&name.trim().to_ascii_lowercase(), value.trim()));
                write!(out, "\n{name}: {}", *value)
            }
            // The rest of a value that may be anything.
            _ => write!(out, "\n  {STARS}"),
        };
    }
    out
}

/// A header that is not among those, as it is shown.
pub(in crate::net) fn signature(name: &str, value: &str) -> String {
    format!("\n{name}: {}", header(&name.to_ascii_lowercase(), value))
}

/// A header's value.
fn header(name: &str, value: &str) -> String {
    let scheme = value.split_once(' ');
    match name {
        "authorization" | "proxy-authorization" => match scheme {
            Some((scheme, _)) => format!("{scheme} {STARS}"),
            None => STARS.to_owned(),
        },
        // A realm is no secret, a message of NTLM or Kerberos is.
        "www-authenticate" | "proxy-authenticate" | "authentication-info" | "proxy-authentication-info" => {
            let is_message = |s: &str| s.eq_ignore_ascii_case("ntlm") || s.eq_ignore_ascii_case("negotiate");
            let shown = parts(value).map(|part| match part.trim().split_once(' ') {
                Some((scheme, _)) if is_message(scheme) => format!("{scheme} {STARS}"),
                _ => part.trim().to_owned(),
            });
            shown.collect::<Vec<_>>().join(", ")
        }
        "cookie" | "set-cookie" | "set-cookie2" => {
            let names = value.split(';').map(|pair| match pair.split_once('=') {
                Some((name, _)) => format!("{}={STARS}", name.trim()),
                None => STARS.to_owned(),
            });
            let names: Vec<String> = if name == "cookie" { names.collect() } else { names.take(1).collect() };
            names.join("; ")
        }
        "x-backendoverridecookie" => STARS.to_owned(),
        "location" | "content-location" | "referer" => query(value),
        _ => value.to_owned(),
    }
}

/// A URL, without what its query gives away.
fn query(url: &str) -> String {
    match url.split_once('?') {
        Some((before, query)) => {
            let (query, after) = query.split_at(query.find([' ', '#']).unwrap_or(query.len()));
            format!("{before}?{}{after}", form(query))
        }
        None => url.to_owned(),
    }
}

/// A form's fields (`application/x-www-form-urlencoded`).
fn form(text: &str) -> String {
    let fields = text.split('&').map(|field| match field.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={STARS}"),
        _ => field.to_owned(),
    });
    fields.collect::<Vec<_>>().join("&")
}

fn is_secret(name: &str) -> bool {
    let name = name.trim();
    FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// JSON, whole or cut: the texts behind those names.
fn json(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('"') {
        let (name, after) = string(&rest[at..]);
        let end = rest.len() - after.len();
        let value = after.trim_start();
        out.push_str(&rest[..end]);
        rest = after;
        if let Some(value) = value.strip_prefix(':')
            && is_secret(name)
        {
            // Whatever it is, up to the next field.
            let value = value.trim_start();
            let end = match value.strip_prefix('"') {
                Some(_) => value.len() - string(value).1.len(),
                None => value.find([',', '}', ']']).unwrap_or(value.len()),
            };
            let _ = write!(out, ": \"{STARS}\"");
            rest = &value[end..];
        }
    }
    out.push_str(rest);
    out
}

/// What stands between the quotes that `text` begins with, and what follows; an end that was cut off is the text's.
fn string(text: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return (&text[1..at], &text[at + 1..]),
            _ => {}
        }
    }
    (&text[1..], "")
}

/// XML, or any other text.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(16 << 10));
    let mut rest = text;
    let mut tag = "";
    loop {
        let at = rest.find('<').unwrap_or(rest.len());
        let (between, tagged) = rest.split_at(at);
        let name = tag.split([' ', '>']).next().unwrap_or_default();
        let local = name.rsplit([':', '<']).next().unwrap_or_default();
        match between.len() {
            // Where a push subscription is to be sent to: who knows it can tell us anything.
            1.. if local == "URL" && text.contains("PushSubscription") => out.push_str(STARS),
            n if n > MAX_TEXT => {
                let end = (0..=CUT_TEXT).rev().find(|at| between.is_char_boundary(*at)).unwrap_or(0);
                let _ = write!(out, "{}\u{2026}({n} bytes)", &between[..end]);
            }
            _ => out.push_str(between),
        }
        if tagged.is_empty() {
            return out;
        }
        let end = tagged.find('>').map_or(tagged.len(), |at| at + 1);
        tag = &tagged[..end];
        out.push_str(tag);
        rest = &tagged[end..];
    }
}

/// A body as it is shown; `length` is how long it was.
pub(in crate::net) fn body(content_type: Option<&str>, bytes: &[u8], length: u64) -> String {
    let kind = content_type.unwrap_or_default().to_ascii_lowercase();
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BODY)]);
    let mut out = if kind.contains("x-www-form-urlencoded") {
        form(&text)
    } else if kind.contains("json") || text.trim_start().starts_with('{') {
        json(&text)
    } else {
        xml(&text)
    };
    let more = length.saturating_sub(bytes.len().min(MAX_BODY) as u64);
    if more > 0 {
        let _ = write!(out, "\n\u{2026}(and {more} bytes)");
    }
    out
}
