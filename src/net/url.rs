//! Where the server is: from a host name or a URL as a person writes it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use rustls::pki_types::ServerName;
use ureq::http::Uri;
use ureq::http::uri::PathAndQuery;

use super::idn;
use crate::{Error, ErrorKind, Result};

const DEFAULT_PATH: &str = "/EWS/Exchange.asmx";
/// A longer path is no path of a server, and the head of a request has to fit into a small buffer.
const MAX_PATH: usize = 1024;

/// The address of an EWS server.
///
/// ```
/// use ewsnotify::net::Endpoint;
///
/// let endpoint = Endpoint::parse("mail.example.test")?;
/// assert_eq!(endpoint.to_string(), "https://mail.example.test/EWS/Exchange.asmx");
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    https: bool,
    host: Host,
    port: u16,
    path: String,
}

/// A host: its name in lower case, or its address and how that is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Name(String),
    Ip(IpAddr, String),
}

impl Endpoint {
    /// Takes a host (`mail.example.test`, `mail.example.test:8443`, `[::1]:8443`) or a URL. What is not said is completed:
    /// https, and Exchange's path. A path that was given is kept. User names, queries and other schemes are refused, with
    /// a text that never repeats what was given: there might be a password in it.
    pub fn parse(text: &str) -> Result<Endpoint> {
        let text = text.trim();
        if text.is_empty() {
            return invalid("is empty: give a host (mail.example.test) or a URL (https://mail.example.test)");
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return invalid("has a blank, a backslash or a control character in it");
        }
        let (https, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some(_) => return invalid("has a scheme that is neither https nor http"),
            None => (true, text),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if rest.contains('@') {
            return invalid(
                "has an '@' in it: user name and password are options of their own, not part of the URL",
            );
        }
        if path.contains(['?', '#']) {
            return invalid(
                "has a query or a fragment (something after '?' or '#'): EWS has none, leave it out",
            );
        }
        let (host, port) = split_port(authority)?;
        Ok(Endpoint {
            https,
            host: Host::parse(host)?,
            port: port.unwrap_or(if https { 443 } else { 80 }),
            path: complete_path(path)?,
        })
    }

    /// Whether TLS is spoken.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether this is the machine that we run on: a loopback address, or `localhost`.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip, _) => ip.to_canonical().is_loopback(),
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// The name or the address, without brackets.
    pub fn host(&self) -> &str {
        self.host.text()
    }

    /// The port, said or not.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, from its `/` on.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same as a host.
    pub(super) fn host_part(&self) -> &Host {
        &self.host
    }

    /// Whether its URL says so.
    pub(super) fn is_at(&self, host: &Host, port: u16) -> bool {
        self.host == *host && self.port == port
    }

    /// The name that the server's certificate must be valid for.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>> {
        ServerName::try_from(self.host().to_owned()).map_err(|_| {
            Error::new(ErrorKind::Invalid, format!("{:?} cannot be a name in a certificate", self.host()))
        })
    }

    /// This server with a path (and a query, where a redirect brought one).
    pub(super) fn uri(&self, path: &str) -> Result<Uri> {
        let whole = format!("{}{path}", self.origin());
        whole.parse().map_err(|_| {
            Error::new(ErrorKind::Invalid, format!("{} with this path is no URL", self.origin()))
        })
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let default = if self.https { 443 } else { 80 };
        let host = match &self.host {
            Host::Ip(IpAddr::V6(_), text) => format!("[{text}]"),
            _ => self.host().to_owned(),
        };
        if self.port == default {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Endpoint> {
        Endpoint::parse(text)
    }
}

impl Host {
    pub(super) fn text(&self) -> &str {
        match self {
            Host::Name(name) => name,
            Host::Ip(_, text) => text,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Host> {
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return match inner.parse::<Ipv6Addr>() {
                Ok(ip) => Ok(Host::Ip(IpAddr::V6(ip), ip.to_string())),
                Err(_) => invalid("has something else than an IPv6 address between '[' and ']'"),
            };
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Host::Ip(ip, ip.to_string()));
        }
        let ascii = match text.is_ascii() {
            true => None,
            false => match idn::to_ascii(text) {
                Some(ascii) => Some(ascii),
                None => {
                    return invalid(
                        "has a letter in its host name that is not known here: give the name in its xn-- form (idn2 prints it)",
                    );
                }
            },
        };
        let text = ascii.as_deref().unwrap_or(text);
        // One dot at the end (a name from the root) is the same host, and no certificate has it.
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let good_label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
        };
        if name.len() > 253
            || !name.split('.').all(good_label)
            || ServerName::try_from(name.as_str()).is_err()
        {
            return invalid(
                "has no host name that could be one: give mail.example.test or https://mail.example.test",
            );
        }
        Ok(Host::Name(name))
    }
}

/// Splits "host:port". More than one colon without brackets is an IPv6 address that stands alone.
pub(super) fn split_port(authority: &str) -> Result<(&str, Option<u16>)> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    if after_brackets == 0 && authority.matches(':').count() > 1 {
        return Ok((authority, None));
    }
    let Some(colon) = authority[after_brackets..].find(':').map(|at| at + after_brackets) else {
        return Ok((authority, None));
    };
    let port = &authority[colon + 1..];
    match port.parse::<u16>() {
        Ok(n) if n > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((&authority[..colon], Some(n))),
        _ => invalid("has something else than a port (1 to 65535) after the ':' of the host"),
    }
}

fn complete_path(path: &str) -> Result<String> {
    if path.is_empty() || path == "/" {
        return Ok(DEFAULT_PATH.to_owned());
    }
    if path.len() > MAX_PATH || !path.is_ascii() || PathAndQuery::from_str(path).is_err() {
        return invalid("has a path that is too long, not ASCII or not allowed in a URL");
    }
    Ok(path.to_owned())
}

fn invalid<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Invalid, format!("the server's address {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    // What people type must lead to the server they mean.
    #[test]
    fn hosts_and_urls_are_completed() {
        for (given, whole) in [
            ("mail.example.test", "https://mail.example.test/EWS/Exchange.asmx"),
            ("MAIL.example.test.", "https://mail.example.test/EWS/Exchange.asmx"),
            (" mail.example.test:8443 ", "https://mail.example.test:8443/EWS/Exchange.asmx"),
            ("mail.example.test:443", "https://mail.example.test/EWS/Exchange.asmx"),
            ("[::1]:8443", "https://[::1]:8443/EWS/Exchange.asmx"),
            ("::1", "https://[::1]/EWS/Exchange.asmx"),
            ("192.0.2.7:4", "https://192.0.2.7:4/EWS/Exchange.asmx"),
            ("http://localhost:80", "http://localhost/EWS/Exchange.asmx"),
            ("HTTPS://mail.example.test/", "https://mail.example.test/EWS/Exchange.asmx"),
            ("https://mail.example.test/ews/exchange.asmx", "https://mail.example.test/ews/exchange.asmx"),
            ("mail.example.test/EWS/", "https://mail.example.test/EWS/"),
            // A host that is called like the scheme or the path: completing is no replacing of text.
            ("https.ews.exchange.asmx.test", "https://https.ews.exchange.asmx.test/EWS/Exchange.asmx"),
            ("http://http/http", "http://http/http"),
            // IDN, and one in the form that DNS has.
            ("https://M\u{fc}nchen.test:8443", "https://xn--mnchen-3ya.test:8443/EWS/Exchange.asmx"),
            ("xn--mnchen-3ya.test", "https://xn--mnchen-3ya.test/EWS/Exchange.asmx"),
            ("mail_1.example.test", "https://mail_1.example.test/EWS/Exchange.asmx"),
        ] {
            let endpoint = Endpoint::parse(given).unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!(endpoint.to_string(), whole, "{given}");
            assert_eq!(Endpoint::parse(whole).unwrap(), endpoint, "{given}");
            endpoint.server_name().unwrap();
            endpoint.uri(endpoint.path()).unwrap();
        }
    }

    // A typing error must be told, and a password in the URL must not be in the text that tells it.
    #[test]
    fn what_is_no_server_is_refused_without_an_echo() {
        for given in [
            "",
            "  ",
            "ftp://hunter2.test",
            "hunter2://x",
            "https://ada:hunter2@mail.example.test",
            "ada:hunter2@mail.example.test",
            "https://ada:hunt/er2@mail.example.test/x",
            "https://mail.example.test/?hunter2",
            "mail.example.test#hunter2",
            "mail.example.test:hunter2",
            "mail.example.test:",
            "mail.example.test:0",
            "mail.example.test:65536",
            "mail.example.test:+1",
            "https://",
            "https:///x",
            "[::1",
            "[hunter2]",
            "[::1]x:1",
            "mail..hunter2",
            "hunter2 x",
            "m\u{fb01}.hunter2",
            "-hunter2.test",
            "https://mail.example.test/\u{e9}hunter2",
            "a\\hunter2",
            "1.2.3.4.5.hunter2:x",
        ] {
            let e = Endpoint::parse(given).expect_err(given);
            assert_eq!(e.kind(), ErrorKind::Invalid, "{given}");
            assert!(!e.to_string().contains("hunt"), "{given}: {e}");
        }
        assert!(Endpoint::parse(&format!("h/{}", "x".repeat(2000))).is_err());
    }

    // Any text at all: an answer, no panic, and what is accepted reads back as itself.
    #[test]
    fn random_text_never_panics() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let pieces = [
            "http", "https", "://", ":", "/", "[", "]", "::1", "@", "?", "#", ".", "a", "9", "443", "\u{e9}",
            "%", "..", "-",
        ];
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..9)).map(|_| pieces[random.usize(..pieces.len())]).collect();
            if let Ok(endpoint) = Endpoint::parse(&text) {
                let again = Endpoint::parse(&endpoint.to_string());
                assert_eq!(again.ok(), Some(endpoint), "{text:?}, seed {seed}");
            }
        }
    }

    // Whether a password may go out in clear text hangs on this.
    #[test]
    fn loopback_is_this_machine_only() {
        for yes in [
            "http://127.0.0.1",
            "http://127.8.9.1:1",
            "http://[::1]",
            "localhost",
            "a.localhost",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(Endpoint::parse(yes).unwrap().is_loopback(), "{yes}");
        }
        for no in [
            "mail.example.test",
            "notlocalhost",
            "localhost.example.test",
            "http://10.0.0.1",
            "127.0.0.1.example.test",
        ] {
            assert!(!Endpoint::parse(no).unwrap().is_loopback(), "{no}");
        }
    }
}
