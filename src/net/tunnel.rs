//! What is said to a proxy until it has made a connection for us: HTTP's CONNECT, or SOCKS5. From bytes to bytes; only
//! [`Tunnel::dig`] knows a socket. What a proxy says is a stranger's: bounded, and told escaped.

use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::answer::cut;
use super::proxy::{Dialect, Proxy, authority};
use super::socket::{Limits, Socket, Stop};
use super::url::{Endpoint, Host};
use crate::auth::{Auth, Secrets};
use crate::{Error, ErrorKind};

/// The longest head of an answer to CONNECT.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// The way through a proxy to one place.
pub(super) struct Tunnel<'a> {
    proxy: &'a Proxy,
    host: &'a Host,
    port: u16,
    state: State,
    /// What came and has not been understood yet.
    input: Vec<u8>,
    output: Option<Zeroizing<Vec<u8>>>,
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
            Dialect::Http => (State::Head, connect(proxy, &authority(host, port), user_agent)),
            Dialect::Socks5 => (State::Method, greeting(proxy)),
        };
        Tunnel { proxy, host, port, state, input: Vec::new(), output: Some(output) }
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

    /// The head of the answer to CONNECT, if all of it is there: its length.
    fn head(&mut self) -> Result<usize, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&self.input) {
            Ok(httparse::Status::Complete(used)) => {
                let status = answer.code.unwrap_or_default();
                if (200..300).contains(&status) {
                    self.state = State::Open;
                    return Ok(used);
                }
                Err(self.refused(status, answer.reason.unwrap_or_default(), answer.headers))
            }
            Ok(httparse::Status::Partial) if self.input.len() <= MAX_HEAD => Ok(0),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Err(failed(format!("answered with a head that is too long: {}", self.right_kind())))
            }
            Err(_) if self.input.first() == Some(&0x15) => Err(failed(
                "speaks TLS on this port, which is not offered here: name one for plain http".into(),
            )),
            Err(_) => Err(failed(format!(
                "answered with what is no HTTP ({}): {}",
                self.begins(),
                self.right_kind()
            ))),
        }
    }

    fn refused(&self, status: u16, reason: &str, headers: &[httparse::Header<'_>]) -> Refusal {
        let target = self.target();
        let text = |name: &str| {
            let found = headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
            Some(String::from_utf8_lossy(found.value).trim().to_owned())
        };
        // Squid says there what its page says.
        let more = text("x-squid-error").map_or_else(String::new, |e| format!("; {}", self.quoted(e, 60)));
        let said = format!("HTTP {status} {}{more}", self.quoted(reason.to_owned(), 60));
        let (kind, what) = match status {
            // tinyproxy refuses with 401.
            401 | 407 => (ErrorKind::Auth, self.wants_sign_in(status, headers)),
            403 => (
                ErrorKind::Connect,
                format!("forbids a connection to {target} ({said}): its administrator has to allow it"),
            ),
            300..=399 => (
                ErrorKind::Connect,
                format!(
                    "redirects instead of connecting to {target} ({said}): it may want a sign-in with a browser first"
                ),
            ),
            400 | 404 | 405 | 501 => (
                ErrorKind::Connect,
                format!(
                    "makes no connection to {target} ({said}): is it a proxy, and may it CONNECT? check option proxy"
                ),
            ),
            500 | 502..=504 => (
                ErrorKind::Connect,
                format!(
                    "could not reach {target} ({said}): check host and port of the url, and whether the proxy knows that name"
                ),
            ),
            _ => (ErrorKind::Connect, format!("makes no connection to {target} ({said})")),
        };
        let retry_after = text("retry-after").and_then(|t| t.parse().ok());
        let retry_after = retry_after.map(|s: u64| Duration::from_secs(s.min(86_400)));
        Refusal { kind, what, http_status: Some(status), retry_after }
    }

    fn wants_sign_in(&self, status: u16, headers: &[httparse::Header<'_>]) -> String {
        let mut offers: Vec<String> = Vec::new();
        for header in headers.iter().filter(|h| h.name.eq_ignore_ascii_case("proxy-authenticate")) {
            let value = String::from_utf8_lossy(header.value);
            let name = self.quoted(value.split([' ', ',']).next().unwrap_or_default().to_owned(), 30);
            if !name.is_empty() && offers.len() < 8 && !offers.contains(&name) {
                offers.push(name);
            }
        }
        let all = offers.join(", ");
        if !offers.is_empty() && !offers.iter().any(|o| o.eq_ignore_ascii_case("basic")) {
            return format!(
                "wants a sign-in (HTTP {status}) and offers {all}, but no Basic, the only way that is possible here: its administrator can \
                 let this server through without, or a relay on this machine (cntlm, px) can sign in and be named as the proxy"
            );
        }
        match &self.proxy.login {
            Some(login) => format!(
                "refused the sign-in of {:?} (HTTP {status}): check user and password in option proxy",
                login.user()
            ),
            None => format!(
                "wants a sign-in (HTTP {status}): put user and password into option proxy, as http://user:password@host:port"
            ),
        }
    }

    /// The choice of a way to sign in: version and method (RFC 1928, 3).
    fn method(&mut self) -> Result<usize, Refusal> {
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
    fn login(&mut self) -> Result<usize, Refusal> {
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
    fn reply(&mut self) -> Result<usize, Refusal> {
        self.is_version(5)?;
        let Some(code) = self.input.get(1) else { return Ok(0) };
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

    fn begins(&self) -> String {
        let begin = String::from_utf8_lossy(&self.input[..self.input.len().min(1024)]).into_owned();
        format!("it begins \"{}\"", self.quoted(begin, 24))
    }

    /// What the proxy said, fit for a text: it may repeat what it was sent.
    fn quoted(&self, text: String, max: usize) -> String {
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

fn connect(proxy: &Proxy, target: &str, user_agent: &str) -> Zeroizing<Vec<u8>> {
    // All at once: a buffer that grows leaves copies behind that nobody wipes.
    let signature = proxy.login.as_ref().map(|login| login.header().expose());
    let mut out = Zeroizing::new(Vec::with_capacity(
        256 + 2 * target.len() + user_agent.len() + signature.map_or(0, str::len),
    ));
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b"\r\n");
    };
    line(&["CONNECT ", target, " HTTP/1.1"]);
    line(&["Host: ", target]);
    if !user_agent.chars().any(char::is_control) {
        line(&["User-Agent: ", user_agent]);
    }
    if let Some(signature) = signature {
        line(&["Proxy-Authorization: ", signature]);
    }
    line(&[]);
    out
}

/// The ways to sign in that are possible (RFC 1928, 3).
fn greeting(proxy: &Proxy) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match proxy.login {
        Some(_) => vec![5, 2, 0, 2],
        None => vec![5, 1, 0],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    /// Plays a proxy that says `said` in pieces of `size`: what was sent to it, and what came of it.
    fn play(proxy: &Proxy, host: &str, said: &[&[u8]], size: usize) -> (Vec<Vec<u8>>, Result<(), String>) {
        let host = Host::parse(host).unwrap();
        let mut tunnel = Tunnel::new(proxy, &host, 443, "agent/1");
        let (mut sent, mut said) = (Vec::new(), said.iter());
        loop {
            match tunnel.turn() {
                Turn::Send(bytes) => sent.push(bytes.to_vec()),
                Turn::Done => return (sent, Ok(())),
                Turn::Read => {
                    let answer = said.next().copied().unwrap_or_default();
                    let mut pieces: Vec<&[u8]> = answer.chunks(size).collect();
                    if answer.is_empty() {
                        pieces.push(b"");
                    }
                    for piece in pieces {
                        if let Err(refusal) = tunnel.take(piece) {
                            let endpoint = Endpoint::parse("mail.example.test").unwrap();
                            return (sent, Err(format!("{:?}", refusal.into_error(&endpoint, proxy))));
                        }
                    }
                }
            }
        }
    }

    // However the network cuts what a proxy says, the same comes of it; and it is sent what RFCs 9110, 1928 and 1929 say.
    #[test]
    fn bytes_in_pieces_of_any_size() {
        for size in 1..80 {
            let (sent, end) = play(
                &proxy("http://ada:hunter2@p.test:1"),
                "mail.example.test",
                &[b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"],
                size,
            );
            assert_eq!(end, Ok(()));
            let expected = "CONNECT mail.example.test:443 HTTP/1.1\r\nHost: mail.example.test:443\r\nUser-Agent: agent/1\r\n\
                            Proxy-Authorization: Basic YWRhOmh1bnRlcjI=\r\n\r\n";
            assert_eq!(sent, [expected.as_bytes()]);
            let (sent, end) = play(&proxy("http://p.test:1"), "[::1]", &[b"HTTP/1.0 200 OK\r\n\r\n"], size);
            assert_eq!(end, Ok(()));
            assert!(sent[0].starts_with(b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"));
            assert!(!sent[0].windows(5).any(|w| w == b"Basic"));
            for reply in [
                &b"\x05\0\0\x01\x7f\0\0\x01\0\x50"[..],
                b"\x05\0\0\x03\x02ab\0\x50",
                b"\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50",
            ] {
                let said = [&b"\x05\x02"[..], b"\x01\0", reply];
                let (sent, end) =
                    play(&proxy("socks5://ada:hunter2@p.test"), "mail.example.test", &said, size);
                assert_eq!(end, Ok(()));
                let ask = b"\x05\x01\0\x03\x11mail.example.test\x01\xbb";
                assert_eq!(sent, [&b"\x05\x02\0\x02"[..], b"\x01\x03ada\x07hunter2", ask]);
            }
            let said = [&b"\x05\0"[..], b"\x05\0\0\x01\x7f\0\0\x01\0\x50"];
            let (sent, end) = play(&proxy("socks5://p.test"), "192.0.2.7", &said, size);
            assert_eq!(end, Ok(()));
            assert_eq!(sent, [&b"\x05\x01\0"[..], b"\x05\x01\0\x01\xc0\0\x02\x07\x01\xbb"]);
            let (sent, _) = play(&proxy("socks5://p.test"), "[::1]", &said, size);
            assert_eq!(sent[1][3..], b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb"[..]);
        }
    }

    // "It does not work" is all that a user knows: the text says that it was the proxy, why, and what to do.
    #[test]
    fn every_refusal_says_why() {
        let http = "http://ada:hunter2@p.test:1";
        let socks = "socks5://ada:hunter2@p.test";
        let page =
            b"HTTP/1.1 502 Bad Gateway\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\nRetry-After: 7\r\n\r\n<html>";
        let ntlm = b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
        for (which, said, words) in [
            (
                http,
                &[&b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"[..]][..],
                &["refused the sign-in of \"ada\"", "Auth, HTTP 407"][..],
            ),
            (
                "http://p.test:1",
                &[b"HTTP/1.1 407 x\r\n\r\n"],
                &["http://user:password@host:port", "Auth, HTTP 407"],
            ),
            (http, &[ntlm], &["offers NTLM, Negotiate", "no Basic", "cntlm", "Auth"]),
            (
                http,
                &[b"HTTP/1.1 403 Filtered\r\n\r\n"],
                &[
                    "forbids a connection to mail.example.test:443",
                    "HTTP 403 Filtered",
                    "administrator",
                    "[Connect",
                ],
            ),
            (http, &[page], &["could not reach mail.example.test:443", "ERR_DNS_FAIL", "wait 7s"]),
            (http, &[b"HTTP/1.1 302 Found\r\nLocation: http://portal.test\r\n\r\n"], &["browser"]),
            (http, &[b"HTTP/1.0 405 no\r\n\r\n"], &["is it a proxy", "CONNECT"]),
            (http, &[b"HTTP/1.1 418 \x1b[2J\r\n\r\n"], &["no HTTP"]),
            (http, &[b"SSH-2.0-OpenSSH\r\n"], &["no HTTP (it begins \"S", "is it an HTTP proxy?"]),
            (http, &[b"\x15\x03\x01\0\x02\x02\x46"], &["speaks TLS"]),
            (http, &[b"\x05\xff"], &["no HTTP"]),
            (http, &[], &["without an answer", "HTTP proxy"]),
            (http, &[b"HTTP/1.1 200 OK\r\nVia", b""], &["in the middle"]),
            (http, &[b"HTTP/1.1 200 OK\r\n\r\nhello"], &["more than was asked"]),
            (http, &[b"HTTP/1.1 403 hunter2 YWRhOmh1bnRlcjI=\r\n\r\n"], &["***"]),
            (socks, &[b"\x05\xff"], &["takes no sign-in by user and password", "[Auth]"]),
            ("socks5://p.test", &[b"\x05\xff"], &["socks5://user:password@host:port", "[Auth]"]),
            ("socks5://p.test", &[b"\x05\x02"], &["not offered"]),
            (socks, &[b"\x05\x01"], &["not offered"]),
            (socks, &[b"\x05\x02", b"\x01\x01"], &["refused the sign-in of \"ada\"", "[Auth]"]),
            (socks, &[b"\x05\x02", b"\x01"], &["in the middle"]),
            (
                socks,
                &[b"\x05\0", b"\x05\x01\0\x01\0\0\0\0\0\0"],
                &["failed to connect to mail.example.test:443", "reply 1"],
            ),
            (socks, &[b"\x05\0", b"\x05\x02\0\x01\0\0\0\0\0\0"], &["forbids"]),
            (socks, &[b"\x05\0", b"\x05\x04\0\x01\0\0\0\0\0\0"], &["could not reach"]),
            (socks, &[b"\x05\0", b"\x05\x05\0\x01\0\0\0\0\0\0"], &["refused by", "nothing listens"]),
            (socks, &[b"\x05\0", b"\x05\x99"], &["reply 153"]),
            (socks, &[b"\x05\0", b"\x05\0\0\x09"], &["no SOCKS5"]),
            (socks, &[b"\x05\0", b"\x05\0\0\x01\0\0\0\0\0\0!"], &["more than was asked"]),
            (socks, &[b"HTTP/1.1 400 Bad Request\r\n"], &["answers in HTTP", "http://"]),
            (socks, &[b"\x04\x01"], &["no SOCKS5"]),
        ] {
            for size in [1, 2, 7, 4096] {
                let proxy = proxy(which);
                let (_, end) = play(&proxy, "mail.example.test", said, size);
                let text = end.expect_err(&format!("{said:?}"));
                assert!(text.contains(&format!("the proxy {proxy}")), "{text}");
                // What comes behind a refusal in the same piece is a page, and changes nothing.
                assert!(words.iter().all(|w| text.contains(w)), "{said:?}, {size}: {text}");
                assert!(!text.contains("hunter2") && !text.contains("YWRhOmh1"), "{text}");
            }
        }
    }

    // A proxy that never ends its head, or talks nonsense, costs 16 KiB and no more.
    #[test]
    fn bad_bytes_are_bounded_and_never_a_panic() {
        let host = Host::parse("mail.example.test").unwrap();
        for text in ["http://ada:x@p.test:1", "socks5://ada:x@p.test"] {
            let proxy = proxy(text);
            let mut tunnel = Tunnel::new(&proxy, &host, 443, "x");
            let Turn::Send(_) = tunnel.turn() else { panic!("something to send") };
            let endless = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'a'));
            let read = endless.take_while(|b| tunnel.take(&[**b]).is_ok()).count();
            assert!(read <= MAX_HEAD + 1, "{read}");
            let seed = fastrand::u64(..);
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..20_000 {
                let mut tunnel = Tunnel::new(&proxy, &host, 443, "x");
                for _ in 0..10 {
                    if matches!(tunnel.turn(), Turn::Done) {
                        break;
                    }
                    let good: [&[u8]; 5] = [b"\x05\x02", b"\x05\0", b"\x01\0", b"HTTP/1.1 200", b"\r\n\r\n"];
                    let mut bytes = good[random.usize(..5)].to_vec();
                    if random.bool() {
                        bytes.extend((0..random.usize(1..20)).map(|_| random.u8(..6)));
                    }
                    if tunnel.take(&bytes).is_err() {
                        break;
                    }
                }
            }
        }
    }
}
