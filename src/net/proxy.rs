//! Which proxy a server is reached by, if any: read from a text, or from the environment as curl does.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::no_proxy::NoProxy;
use super::url::{Endpoint, Host, split_port};
use crate::auth::{Auth, Basic, Secret, Secrets};
use crate::{Error, ErrorKind, Result};

/// By which of these the environment names a proxy; the first that is set counts. `HTTP_PROXY` is not among them: a web server
/// puts a visitor's header `Proxy` there.
const VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPT: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// A proxy, and the sign-in for it. It looks the server's name up; what it says to it is for `tunnel`.
///
/// ```
/// let proxy: ewsnotify::net::Proxy = "http://ada:hunter2@proxy.example.test:3128".parse()?;
/// assert_eq!(proxy.to_string(), "http://proxy.example.test:3128");
/// assert!(!format!("{proxy:?}").contains("hunter2"));
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    pub(super) dialect: Dialect,
    host: Host,
    port: u16,
    pub(super) login: Option<Basic>,
}

/// How a proxy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// CONNECT (RFC 9110, 9.3.6).
    Http,
    /// RFC 1928.
    Socks5,
}

impl Proxy {
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it sends requests on that are not encrypted, as a whole.
    pub(super) fn sends_on(&self) -> bool {
        self.dialect == Dialect::Http
    }

    /// Has its password looked for in texts: it may be quoted by whoever it was sent to.
    pub(super) fn tell_secrets(&self, secrets: &Secrets) {
        if let Some(login) = &self.login {
            login.secrets().iter().for_each(|secret| secrets.add_beside(secret, &[login.user()]));
        }
    }

    /// What the environment says, as curl reads it: `https_proxy`, `all_proxy` and `no_proxy`, or the same in capitals. Nothing for a
    /// program that runs with the rights of another user than who started it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a proxy that is none; the text names the variable.
    pub fn from_environment() -> Result<Option<(Proxy, NoProxy)>> {
        use rustix::process::{getegid, geteuid, getgid, getuid};
        if getuid() != geteuid() || getgid() != getegid() {
            return Ok(None);
        }
        read_environment(|name| std::env::var(name).ok())
    }
}

impl FromStr for Proxy {
    type Err = Error;

    /// `http://host:port` or `socks5://host:port`, with `user:password@` in front of the host where it wants a sign-in (what is
    /// special in a URL as `%` and two digits). Errors never repeat the text.
    fn from_str(text: &str) -> Result<Proxy> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let dialect = match scheme.to_ascii_lowercase().as_str() {
            "http" => Dialect::Http,
            // curl's h says that the proxy looks names up: here it always does.
            "socks5" | "socks5h" => Dialect::Socks5,
            "https" => {
                return bad(
                    "begins with https: TLS with the proxy itself is not offered, and the server's TLS goes through an \
                                   http:// proxy unseen",
                );
            }
            "socks" | "socks4" | "socks4a" => {
                return bad("is of a kind that is not offered: it must be http:// or socks5://");
            }
            _ => return bad("has a scheme that is neither http nor socks5"),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let Ok((host, port)) = split_port(place).and_then(|(h, port)| Ok((Host::parse(h)?, port))) else {
            return bad("has no host and port: give http://proxy.example.com:3128");
        };
        let port = match (port, dialect) {
            (Some(port), _) => port,
            (None, Dialect::Socks5) => 1080,
            // curl takes 1080, others 80.
            (None, Dialect::Http) => return bad("has no port: give http://proxy.example.com:3128"),
        };
        Ok(Proxy { dialect, host, port, login: login.map(|login| read_login(login, dialect)).transpose()? })
    }
}

/// Without the sign-in.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.dialect {
            Dialect::Http => "http",
            Dialect::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

/// `host:port`, with brackets where they are needed.
pub(super) fn authority(host: &Host, port: u16) -> String {
    match host {
        Host::Ip(IpAddr::V6(_), text) => format!("[{text}]:{port}"),
        host => format!("{}:{port}", host.text()),
    }
}

fn read_login(text: &str, dialect: Dialect) -> Result<Basic> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (Some(user), Some(password)) = (unescape(user), unescape(password)) else {
        return bad("has a user or a password that is not UTF-8");
    };
    // RFC 1929.
    if dialect == Dialect::Socks5 && !((1..=255).contains(&user.len()) && (1..=255).contains(&password.len()))
    {
        return bad("has a user or a password that SOCKS5 cannot send: each has 1 to 255 bytes");
    }
    let password = Secret::new(String::from(&**password));
    Basic::new(user.as_str(), password).map_err(|e| e.context("the proxy"))
}

/// `%` and two digits are a byte; a `%` that is none stands for itself.
fn unescape(text: &str) -> Option<Zeroizing<String>> {
    // All at once: a text that grows leaves copies behind that nobody wipes.
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    out.extend(percent_decode_str(text));
    std::str::from_utf8(&out).ok().map(|text| Zeroizing::new(text.to_owned()))
}

fn bad<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Invalid, format!("the proxy {what}")))
}

fn read_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<(Proxy, NoProxy)>> {
    let set = |names: &[&'static str]| {
        names.iter().find_map(|name| {
            let value = Zeroizing::new(get(name)?);
            (!value.trim().is_empty()).then_some((*name, value))
        })
    };
    let Some((name, value)) = set(&VARIABLES) else { return Ok(None) };
    let proxy = value.parse().map_err(|e: Error| e.context(format_args!("environment variable {name}")))?;
    let except = set(&EXCEPT).map(|(_, value)| NoProxy::lenient(&value)).unwrap_or_default();
    Ok(Some((proxy, except)))
}

impl super::Config {
    /// The proxy by which a server is reached, if any. This machine never is: for the proxy, `localhost` is another one, and a
    /// password may go to this one in clear text.
    pub(super) fn proxy_for(&self, endpoint: &Endpoint) -> Option<&Proxy> {
        let direct = endpoint.is_loopback() || self.no_proxy.covers(endpoint.host_part());
        self.proxy.as_ref().filter(|_| !direct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    // What people have in their HTTPS_PROXY must lead to the proxy that they mean, with the sign-in that they mean.
    #[test]
    fn proxies_as_people_write_them() {
        for (given, shown, login) in [
            ("http://proxy.test:3128", "http://proxy.test:3128", None),
            ("Proxy.Test:3128", "http://proxy.test:3128", None),
            (" HTTP://proxy.test:3128/ ", "http://proxy.test:3128", None),
            ("socks5://proxy.test", "socks5://proxy.test:1080", None),
            ("socks5h://[::1]:9050", "socks5://[::1]:9050", None),
            ("http://ada:hunter2@10.0.0.1:8080", "http://10.0.0.1:8080", Some(("ada", "hunter2"))),
            (
                "http://ada:p%40ss%3A%2f%C3%A9@proxy.test:1",
                "http://proxy.test:1",
                Some(("ada", "p@ss:/\u{e9}")),
            ),
            ("http://a@b:c@d@proxy.test:1", "http://proxy.test:1", Some(("a@b", "c@d"))),
            ("http://ada:100%@proxy.test:1", "http://proxy.test:1", Some(("ada", "100%"))),
            (
                "http://EXAMPLE%5Cada:%zz%+4%4@proxy.test:1",
                "http://proxy.test:1",
                Some(("EXAMPLE\\ada", "%zz%+4%4")),
            ),
            ("http://ada@proxy.test:1", "http://proxy.test:1", Some(("ada", ""))),
            ("socks5://ada:x@proxy.test", "socks5://proxy.test:1080", Some(("ada", "x"))),
        ] {
            let proxy = proxy(given);
            assert_eq!(proxy.to_string(), shown, "{given}");
            assert_eq!(proxy.login.as_ref().map(|l| (l.user(), l.password())), login, "{given}");
        }
    }

    // A typing error is told at once, and never with the password that stands in the text.
    #[test]
    fn what_is_no_proxy_is_refused_without_an_echo() {
        let long = format!("socks5://ada:{}@proxy.test", "hunter2".repeat(40));
        for given in [
            "",
            "http://",
            "http://hunter2",
            "https://ada:hunter2@proxy.test:1",
            "socks4://ada:hunter2@proxy.test:1",
            "hunter2://proxy.test:1",
            "http://ada:hunter2@proxy.test",
            "http://ada:hunter2@proxy.test:0",
            "http://ada:hunter2@proxy.test:x",
            "http://ada:hunter2@:1",
            "http://ada:hunter2@pro xy.test:1",
            "http://proxy.test:1/hunter2",
            "http://proxy.test:1?hunter2",
            "http://:hunter2@proxy.test:1",
            "http://ada:hunter2%0a@proxy.test:1",
            "http://ada:hunter2%ff@proxy.test:1",
            "http://a%3ab:hunter2@proxy.test:1",
            "socks5://hunter2@proxy.test",
            &long,
        ] {
            let e = given.parse::<Proxy>().expect_err(given);
            assert_eq!(e.kind(), ErrorKind::Invalid, "{given}");
            assert!(!format!("{e} {e:?}").contains("hunter2"), "{given}: {e}");
        }
        assert!(!format!("{:?}", proxy("http://ada:hunter2@proxy.test:1")).contains("hunter2"));
    }

    // Who sets the environment for curl expects the same here, and what another program understands in it is no error.
    #[test]
    fn the_environment_as_curl_reads_it() {
        let read = |set: &[(&str, &str)]| {
            let found = read_environment(|name| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            });
            found.map(|found| found.map(|(proxy, except)| (proxy.to_string(), except.0.len())))
        };
        assert_eq!(
            read(&[("HTTP_PROXY", "http://a.test:1"), ("http_proxy", "http://a.test:1")]).unwrap(),
            None
        );
        assert_eq!(read(&[("HTTPS_PROXY", " ")]).unwrap(), None);
        let found = read(&[("HTTPS_PROXY", "http://a.test:1"), ("https_proxy", "b.test:2")]).unwrap();
        assert_eq!(found, Some(("http://b.test:2".into(), 0)));
        let found =
            read(&[("ALL_PROXY", "socks5://c.test"), ("NO_PROXY", "d.test,e.test:80,*.f.test")]).unwrap();
        assert_eq!(found, Some(("socks5://c.test:1080".into(), 2)));
        let e = read(&[("https_proxy", "https://ada:hunter2@a.test:1")]).unwrap_err().to_string();
        assert!(e.contains("variable https_proxy") && !e.contains("hunter2"), "{e}");
    }

    // A password in clear text may go to this machine; for the proxy, "localhost" is another one.
    #[test]
    fn this_machine_is_never_asked_for_at_a_proxy() {
        let config = super::super::Config {
            proxy: Some(proxy("http://proxy.test:1")),
            no_proxy: "direct.test".parse().unwrap(),
            ..Default::default()
        };
        for (url, by_proxy) in [
            ("mail.example.test", true),
            ("http://192.0.2.1", true),
            ("mail.direct.test", false),
            ("localhost", false),
            ("a.localhost", false),
            ("127.0.0.1", false),
            ("[::1]", false),
        ] {
            assert_eq!(config.proxy_for(&Endpoint::parse(url).unwrap()).is_some(), by_proxy, "{url}");
        }
    }
}
