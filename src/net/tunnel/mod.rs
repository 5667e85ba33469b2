//! What is said to a proxy until it has made a connection for us: HTTP's CONNECT, or SOCKS5. From bytes to bytes; only
//! [`Tunnel::dig`] knows a socket. What a proxy says is a stranger's: bounded, and told escaped.

mod http;
mod socks;

use std::time::Duration;

use zeroize::Zeroizing;

use super::answer::cut;
use super::proxy::{Dialect, Proxy, authority};
use super::socket::{Limits, Socket, Stop};
use super::url::{Endpoint, Host};
use super::wire_log;
use crate::auth::{Auth, Secrets};
use crate::{Error, ErrorKind};

/// Most heads fit into this: one that grows leaves copies behind that nobody wipes.
const FEW: usize = 4096;

/// The way through a proxy to one place.
pub(super) struct Tunnel<'a> {
    proxy: &'a Proxy,
    host: &'a Host,
    port: u16,
    state: State,
    /// What came and has not been understood yet. It may quote the sign-in.
    input: Zeroizing<Vec<u8>>,
    output: Option<Zeroizing<Vec<u8>>>,
    /// What it has answered, as the wire log shows it.
    answer: Option<Zeroizing<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// HTTP: the head of the answer is wanted.
    Head,
    /// SOCKS5: the proxy's choice of a way to sign in.
    Method,
    /// Whether it took the sign-in.
    Login,
    /// Whether it has connected.
    Reply,
    Open,
}

/// What comes next.
pub(super) enum Turn {
    Send(Zeroizing<Vec<u8>>),
    Read,
    Done,
}

/// Why a proxy made no connection.
#[derive(Debug)]
pub(super) struct Refusal {
    kind: ErrorKind,
    what: String,
    http_status: Option<u16>,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub fn into_error(self, endpoint: &Endpoint, proxy: &Proxy) -> Error {
        let error = Error::new(self.kind, format!("{endpoint}: the proxy {proxy} {}", self.what));
        let error = error.with_retry_after(self.retry_after);
        match self.http_status {
            Some(status) => error.with_http_status(status),
            None => error,
        }
    }
}

impl<'a> Tunnel<'a> {
    pub fn new(proxy: &'a Proxy, host: &'a Host, port: u16, user_agent: &str) -> Tunnel<'a> {
        let (state, output) = match proxy.dialect {
            Dialect::Http => (State::Head, http::connect(proxy, &authority(host, port), user_agent)),
            Dialect::Socks5 => (State::Method, socks::greeting(proxy)),
        };
        let input = Zeroizing::new(Vec::with_capacity(FEW));
        Tunnel { proxy, host, port, state, input, output: Some(output), answer: None }
    }

    /// What it is asked, as the wire log shows it. Before [`dig`](Self::dig).
    pub fn shown(&self) -> Zeroizing<String> {
        match (self.proxy.dialect, &self.output) {
            (Dialect::Http, Some(head)) => wire_log::raw_head(head),
            _ => {
                let signs = if self.proxy.login.is_some() { ", with a sign-in if it wants one" } else { "" };
                Zeroizing::new(format!("SOCKS5 CONNECT {}{signs}", self.target()))
            }
        }
    }

    /// What it has answered, as the wire log shows it.
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_ref().map(|answer| answer.as_str())
    }

    /// What comes next; what it says has been done when it is asked again.
    pub fn turn(&mut self) -> Turn {
        match self.output.take() {
            Some(bytes) => Turn::Send(bytes),
            None if self.state == State::Open => Turn::Done,
            None => Turn::Read,
        }
    }

    /// Bytes that came, in pieces of any size; none for the end of the connection.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.is_empty() {
            let what = match self.input.is_empty() {
                true => "closed the connection without an answer",
                false => "closed the connection in the middle of its answer",
            };
            return Err(failed(format!("{what}: {}", self.right_kind())));
        }
        self.input.extend_from_slice(bytes);
        while self.state != State::Open && self.output.is_none() {
            let used = match self.state {
                State::Head => self.head()?,
                State::Method => self.method()?,
                State::Login => self.login()?,
                _ => self.reply()?,
            };
            if used == 0 {
                return Ok(());
            }
            self.input.drain(..used);
        }
        // Neither in TLS nor in HTTP does the server speak first, and in SOCKS5 the proxy does not speak out of turn.
        if self.input.is_empty() { Ok(()) } else { Err(failed("said more than was asked for".into())) }
    }

    /// Sends and reads until the way is open. Errors: why it is not, or why the waiting ended.
    pub fn dig(&mut self, socket: &Socket, limits: &Limits) -> Result<Result<(), Refusal>, Stop> {
        loop {
            match self.turn() {
                Turn::Send(bytes) => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let sent = socket.write(rest, limits)?;
                        rest = &rest[sent..];
                    }
                }
                Turn::Read => {
                    let mut piece = [0; 1024];
                    let n = socket.read(&mut piece, limits, false)?;
                    if let Err(refusal) = self.take(&piece[..n]) {
                        return Ok(Err(refusal));
                    }
                }
                Turn::Done => return Ok(Ok(())),
            }
        }
    }

    fn target(&self) -> String {
        authority(self.host, self.port)
    }

    fn right_kind(&self) -> &'static str {
        match self.proxy.dialect {
            Dialect::Http => "is it an HTTP proxy? check option proxy",
            Dialect::Socks5 => "is it a SOCKS5 proxy? check option proxy",
        }
    }

    fn begins(&self) -> String {
        let begin = String::from_utf8_lossy(&self.input[..self.input.len().min(1024)]).into_owned();
        format!("it begins \"{}\"", self.quoted(begin, 24))
    }

    /// What the proxy said, fit for a text: it may repeat what it was sent.
    fn quoted(&self, text: String, max: usize) -> String {
        let text = Zeroizing::new(text);
        match &self.proxy.login {
            Some(login) => {
                let (secrets, own) = (Secrets::default(), login.secrets());
                own.iter().for_each(|secret| secrets.add_beside(secret, &[login.user()]));
                cut(&secrets.redact(&text), max)
            }
            None => cut(&text, max),
        }
    }
}

fn failed(what: String) -> Refusal {
    Refusal { kind: ErrorKind::Connect, what, http_status: None, retry_after: None }
}

#[cfg(test)]
mod tests;
