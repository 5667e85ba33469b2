//! A SOCKS5 proxy (RFC 1928, RFC 1929).

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::super::proxy::Proxy;
use super::super::url::Host;
use super::{Refusal, State, Tunnel, failed};
use crate::ErrorKind;

impl Tunnel<'_> {
    /// The choice of a way to sign in: version and method (RFC 1928, 3).
    pub(super) fn method(&mut self) -> Result<usize, Refusal> {
        self.is_version(5)?;
        let Some(method) = self.input.get(1) else { return Ok(0) };
        match (method, &self.proxy.login) {
            (0, _) => self.ask(),
            (2, Some(login)) => {
                self.state = State::Login;
                // RFC 1929, 2. Both were found to be short enough.
                let (user, password) = (login.user().as_bytes(), login.password().as_bytes());
                let mut out = Zeroizing::new(Vec::with_capacity(3 + user.len() + password.len()));
                out.push(1);
                for part in [user, password] {
                    out.push(part.len() as u8);
                    out.extend_from_slice(part);
                }
                self.output = Some(out);
            }
            (0xff, None) => {
                let what = "wants a sign-in: put user and password into option proxy, as socks5://user:password@host:port";
                return Err(Refusal { kind: ErrorKind::Auth, ..failed(what.into()) });
            }
            (0xff, Some(_)) => {
                let what = "takes no sign-in by user and password, the only way that is possible here";
                return Err(Refusal { kind: ErrorKind::Auth, ..failed(what.into()) });
            }
            _ => return Err(failed("wants a way to sign in that was not offered".into())),
        }
        Ok(2)
    }

    /// Whether user and password were taken (RFC 1929, 2).
    pub(super) fn login(&mut self) -> Result<usize, Refusal> {
        match self.input[..] {
            [_, 0, ..] => {
                self.ask();
                Ok(2)
            }
            [_, _, ..] => {
                let user = self.proxy.login.as_ref().map_or("", |login| login.user());
                let what =
                    format!("refused the sign-in of {user:?}: check user and password in option proxy");
                Err(Refusal { kind: ErrorKind::Auth, ..failed(what) })
            }
            _ => Ok(0),
        }
    }

    /// Asks for the connection (RFC 1928, 4).
    fn ask(&mut self) {
        self.state = State::Reply;
        let mut out = Zeroizing::new(vec![5, 1, 0]);
        match self.host {
            Host::Ip(IpAddr::V4(ip), _) => {
                out.push(1);
                out.extend_from_slice(&ip.octets());
            }
            Host::Ip(IpAddr::V6(ip), _) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            // A host's name has 253 bytes at the most.
            Host::Name(name) => {
                out.push(3);
                out.push(name.len() as u8);
                out.extend_from_slice(name.as_bytes());
            }
        }
        out.extend_from_slice(&self.port.to_be_bytes());
        self.output = Some(out);
    }

    /// Whether it has connected (RFC 1928, 6).
    pub(super) fn reply(&mut self) -> Result<usize, Refusal> {
        self.is_version(5)?;
        let Some(code) = self.input.get(1) else { return Ok(0) };
        self.answer = Some(Zeroizing::new(format!("SOCKS5 reply {code}")));
        let target = self.target();
        let (what, todo) = match code {
            0 => ("", ""),
            2 => ("forbids a connection to", "its administrator has to allow it"),
            3 => ("sees no network for", "check host and port of the url"),
            4 => ("could not reach", "check the url, and whether the proxy knows that name"),
            5 => (
                "was refused by",
                "nothing listens there, or a firewall refuses: check host and port of the url",
            ),
            6 => ("had a time-out on the way to", "check host and port of the url"),
            7 | 8 => ("does not know how to connect to", "it speaks only a part of SOCKS5"),
            _ => ("failed to connect to", "check host and port of the url, and the proxy's own log"),
        };
        if *code != 0 {
            return Err(failed(format!("{what} {target} (SOCKS reply {code}): {todo}")));
        }
        let bound = match (self.input.get(3), self.input.get(4)) {
            (Some(1), _) => 4,
            (Some(4), _) => 16,
            (Some(3), Some(len)) => 1 + usize::from(*len),
            (Some(3) | None, _) => return Ok(0),
            _ => return Err(failed("answered with what is no SOCKS5".into())),
        };
        let whole = 4 + bound + 2;
        if self.input.len() < whole {
            return Ok(0);
        }
        self.state = State::Open;
        Ok(whole)
    }

    fn is_version(&self, version: u8) -> Result<(), Refusal> {
        match self.input.first() {
            None => Ok(()),
            Some(first) if *first == version => Ok(()),
            Some(b'H') => Err(failed(
                "answers in HTTP: if it is an HTTP proxy, option proxy begins with http://".into(),
            )),
            Some(_) => Err(failed(format!(
                "answered with what is no SOCKS5 ({}): {}",
                self.begins(),
                self.right_kind()
            ))),
        }
    }
}

/// The ways to sign in that are possible (RFC 1928, 3).
pub(super) fn greeting(proxy: &Proxy) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match proxy.login {
        Some(_) => vec![5, 2, 0, 2],
        None => vec![5, 1, 0],
    })
}
