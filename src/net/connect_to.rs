//! Another place to connect to than a URL says, as curl's `--connect-to`: for tests, and for a server that its own name does not
//! lead to. The certificate is checked against the URL's name all the same.

use std::str::FromStr;

use super::url::{Endpoint, Host};
use crate::{Error, ErrorKind, Result};

/// One rule: `host:port:host:port`, from where to where. An empty host or port in front fits any; one behind leaves it as it is.
///
/// ```
/// use ewsnotify::net::ConnectTo;
///
/// let rule: ConnectTo = "mail.example.test:443:127.0.0.1:8443".parse()?;
/// assert!("mail.example.test:443".parse::<ConnectTo>().is_err());
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    host: Option<Host>,
    port: Option<u16>,
    to_host: Option<Host>,
    to_port: Option<u16>,
}

impl FromStr for ConnectTo {
    type Err = Error;

    fn from_str(text: &str) -> Result<ConnectTo> {
        let parts = split(text.trim());
        let [host, port, to_host, to_port] = parts[..] else { return Err(bad()) };
        Ok(ConnectTo {
            host: read_host(host)?,
            port: read_port(port)?,
            to_host: read_host(to_host)?,
            to_port: read_port(to_port)?,
        })
    }
}

/// Where to connect for a URL: the first rule that fits counts.
pub(super) fn place<'a>(rules: &'a [ConnectTo], endpoint: &'a Endpoint) -> (&'a Host, u16) {
    let (host, port) = (endpoint.host_part(), endpoint.port());
    let fits = |r: &&ConnectTo| r.host.as_ref().is_none_or(|h| h == host) && r.port.is_none_or(|p| p == port);
    match rules.iter().find(fits) {
        Some(rule) => (rule.to_host.as_ref().unwrap_or(host), rule.to_port.unwrap_or(port)),
        None => (host, port),
    }
}

/// At the colons that stand in no brackets.
fn split(text: &str) -> Vec<&str> {
    let mut within = false;
    text.split(|c| {
        within = c == '[' || (within && c != ']');
        c == ':' && !within
    })
    .collect()
}

fn read_host(text: &str) -> Result<Option<Host>> {
    if text.is_empty() {
        return Ok(None);
    }
    Host::parse(text).map(Some).map_err(|_| bad())
}

fn read_port(text: &str) -> Result<Option<u16>> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(port)),
        _ => Err(bad()),
    }
}

fn bad() -> Error {
    let text =
        "a place to connect to is host:port:host:port, from where to where, with [] round an IPv6 address";
    Error::new(ErrorKind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(rules: &[&str], url: &str) -> String {
        let rules: Vec<ConnectTo> = rules.iter().map(|r| r.parse().unwrap()).collect();
        let endpoint = Endpoint::parse(url).unwrap();
        let (host, port) = place(&rules, &endpoint);
        format!("{} {port}", host.text())
    }

    // A rule that is read otherwise than curl reads it sends a password elsewhere.
    #[test]
    fn as_curl_has_it() {
        for (rules, url, place) in [
            (&["a.test:443:127.0.0.1:8443"][..], "https://a.test", "127.0.0.1 8443"),
            (&["a.test:443:127.0.0.1:8443"], "https://b.test", "b.test 443"),
            (&["a.test:443:127.0.0.1:8443"], "http://a.test", "a.test 80"),
            (&["A.Test.:443:[::1]:8443"], "https://a.test", "::1 8443"),
            (&["::[::1]:1"], "https://any.test:77", "::1 1"),
            (&["a.test::b.test:"], "https://a.test:77", "b.test 77"),
            (&[":80::8080"], "http://a.test", "a.test 8080"),
            (&["[::1]:443:127.0.0.1:1"], "https://[::1]", "127.0.0.1 1"),
            (&[":80:x.test:1", "::y.test:2"], "https://a.test", "y.test 2"),
            (&["a.test::x.test:1", "a.test::y.test:2"], "https://a.test", "x.test 1"),
        ] {
            assert_eq!(leads(rules, url), place, "{rules:?} {url}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "",
            "a",
            "a:1",
            "a:1:b",
            "a:1:b:2:3",
            "a:x:b:2",
            "a:0:b:2",
            "a:1:b:65536",
            "a:+1:b:2",
            "a b:1:c:2",
            "::1:1:b:2",
        ] {
            assert_eq!(text.parse::<ConnectTo>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
