//! HTTP/1.1 heads: reading a request's, writing an answer's as Exchange and gromox do.

use std::fmt::Write;
use std::time::SystemTime;

use super::wire::{Io, Wire};
use crate::sim::Style;
use crate::sim::exchange::Routing;

/// Where Exchange answers.
pub(super) const PATH: &str = "/EWS/Exchange.asmx";

/// Where Autodiscover answers, in both dialects.
pub(super) const AUTODISCOVER_SOAP: &str = "/autodiscover/autodiscover.svc";
pub(super) const AUTODISCOVER_POX: &str = "/autodiscover/autodiscover.xml";

/// As in Exchange's own web.config.
pub(super) const MAX_BODY: usize = 64 << 20;

const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

/// The head of a request.
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// What came instead of a good head: the client's end, or something to answer with this status before closing.
pub(super) enum NoHead {
    End,
    Bad(u16),
}

/// Reads one head and leaves what follows it in the inbox.
pub(super) fn read_head(wire: &mut Wire) -> Io<Result<Head, NoHead>> {
    // A head ends once; looking only at what is new keeps a slow sender from costing quadratic time.
    let mut seen = 0;
    loop {
        if let Some(end) = memchr::memmem::find(&wire.inbox[seen..], b"\r\n\r\n").map(|at| seen + at + 4) {
            let head = if end <= MAX_HEAD { parse_head(&wire.inbox[..end]) } else { Err(431) };
            wire.inbox.drain(..end);
            return Ok(head.map_err(NoHead::Bad));
        }
        if wire.inbox.len() > MAX_HEAD {
            return Ok(Err(NoHead::Bad(431)));
        }
        // The beginning of TLS, on a port that speaks none: its sender waits for an answer, and no line will end.
        if wire.inbox.first() == Some(&0x16) {
            return Ok(Err(NoHead::Bad(400)));
        }
        seen = wire.inbox.len().saturating_sub(3);
        if wire.fill()? == 0 {
            return Ok(Err(NoHead::End));
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Head, u16> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        _ => return Err(400),
    }
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
        return Err(400);
    };
    if version != 1 {
        return Err(505);
    }
    let headers = request.headers.iter();
    Ok(Head {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: headers
            .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
            .collect(),
    })
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }

    /// The name that the client knows the server by, without the port.
    pub(super) fn host(&self) -> &str {
        let host = self.header("host").unwrap_or_default();
        let end = host.rfind(']').unwrap_or(0);
        host[end..].find(':').map_or(host, |at| &host[..end + at])
    }

    fn says(&self, name: &str, word: &str) -> bool {
        self.header(name).is_some_and(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    }

    /// What leads to a machine.
    pub(super) fn routing(&self) -> Routing<'_> {
        let cookies = self.header("cookie").unwrap_or_default().split(';');
        let pairs = cookies.filter_map(|pair| pair.trim().split_once('='));
        Routing {
            anchor: self.header("x-anchormailbox"),
            public: self.header("x-publicfoldermailbox"),
            prefer: self.says("x-preferserveraffinity", "true"),
            cookie: pairs.filter(|(name, _)| *name == "X-BackEndOverrideCookie").map(|(_, v)| v).next_back(),
        }
    }

    pub(super) fn wants_close(&self) -> bool {
        self.says("connection", "close")
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.says("expect", "100-continue")
    }

    /// How long the body is, or the status that refuses it.
    pub(super) fn body_length(&self) -> Result<usize, u16> {
        if self.header("transfer-encoding").is_some() {
            return Err(411);
        }
        let mut lengths = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("content-length"));
        let Some((_, length)) = lengths.next() else {
            return if self.method == "POST" { Err(411) } else { Ok(0) };
        };
        let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        if !plain || lengths.any(|(_, other)| other != length) {
            return Err(400);
        }
        // Digits that do not fit are too many.
        length.parse::<usize>().ok().filter(|n| *n <= MAX_BODY).ok_or(413)
    }

    /// The headers for the record: without the secret of an Authorization.
    pub(super) fn recordable(&self) -> Vec<(String, String)> {
        let mut headers = self.headers.clone();
        for (name, value) in &mut headers {
            if name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("proxy-authorization")
            {
                value.truncate(value.find(' ').unwrap_or(0));
            }
        }
        headers
    }
}

/// How the body of an answer is framed.
#[derive(Clone, Copy)]
pub(super) enum Body {
    Length(usize),
    Chunked,
    /// Chunked, and flushed by every proxy at once.
    Stream,
}

/// The head of an answer, being written.
pub(super) struct Reply {
    style: Style,
    now: SystemTime,
    text: String,
}

impl Reply {
    /// `now` is for its `Date`.
    pub(super) fn new(style: Style, status: u16, now: SystemTime) -> Reply {
        Reply { style, now, text: format!("HTTP/1.1 {status} {}\r\n", reason(status)) }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Reply {
        self.line(name, value);
        self
    }

    fn line(&mut self, name: &str, value: &str) {
        // A script's text must not begin a header of its own.
        let value = value.replace(['\r', '\n'], " ");
        let _ = write!(self.text, "{name}: {value}\r\n");
    }

    pub(super) fn cookie(self, cookie: Option<&str>) -> Reply {
        match cookie {
            Some(cookie) => self.header("Set-Cookie", cookie),
            None => self,
        }
    }

    /// IIS says so when a connection has signed in.
    pub(super) fn persistent(self, signed_in: bool) -> Reply {
        if signed_in { self.header("Persistent-Auth", "true") } else { self }
    }

    /// An envelope's head, as the style's server writes it.
    pub(super) fn envelope(mut self, body: Body, request: &Head) -> Reply {
        if self.style == Style::Gromox {
            self.line("Content-Type", "text/xml");
            self.framing(body);
            return self;
        }
        self.line("Cache-Control", "private");
        self.framing(body);
        self.line("Content-Type", "text/xml; charset=utf-8");
        self.exchange_lines(Some(request), matches!(body, Body::Stream));
        self
    }

    /// The head of a page or of nothing.
    pub(super) fn page(mut self, content_type: &str, length: usize) -> Reply {
        if !content_type.is_empty() {
            self.line("Content-Type", content_type);
        }
        if self.style == Style::Exchange {
            self.exchange_lines(None, false);
        } else {
            self.line("Date", &httpdate::fmt_http_date(self.now));
        }
        self.framing(Body::Length(length));
        self
    }

    pub(super) fn finish(mut self, close: bool) -> Vec<u8> {
        if close {
            self.line("Connection", "close");
        }
        self.text.push_str("\r\n");
        self.text.into_bytes()
    }

    fn framing(&mut self, body: Body) {
        match body {
            Body::Length(n) => self.line("Content-Length", &n.to_string()),
            Body::Chunked | Body::Stream => self.line("Transfer-Encoding", "chunked"),
        }
    }

    fn exchange_lines(&mut self, request: Option<&Head>, stream: bool) {
        self.line("Server", "Microsoft-IIS/10.0");
        self.line("request-id", &guid());
        if let Some(request) = request {
            if request.says("return-client-request-id", "true")
                && let Some(id) = request.header("client-request-id")
            {
                self.line("client-request-id", id);
            }
            self.line("X-CalculatedBETarget", "ex1.example.test");
            if stream {
                self.line("X-NoBuffering", "1");
            }
            self.line("X-DiagInfo", "EX1");
            self.line("X-BEServer", "EX1");
            let has_cookie = request.header("cookie").is_some_and(|c| c.contains("X-BackEndOverrideCookie="));
            if request.says("x-preferserveraffinity", "true") && !has_cookie {
                let cookie = "X-BackEndOverrideCookie=ex1.example.test~1941962754; path=/; secure; HttpOnly";
                self.line("Set-Cookie", cookie);
            }
            self.line("X-AspNet-Version", "4.0.30319");
        }
        self.line("X-Powered-By", "ASP.NET");
        self.line("X-FEServer", "EX1");
        self.line("Date", &httpdate::fmt_http_date(self.now));
    }
}

/// The words beside a status.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Request Entity Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        456 => "Account Locked",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

fn guid() -> String {
    let n = fastrand::u128(..);
    let part = |shift: u32, bits: u32| (n >> shift) & ((1 << bits) - 1);
    // Version 4, variant 1.
    let (version, variant) = (0x4000 | part(64, 12), 0x8000 | part(48, 14));
    format!("{:08x}-{:04x}-{version:04x}-{variant:04x}-{:012x}", part(96, 32), part(80, 16), part(0, 48))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A body length that two parties read differently is how requests are smuggled; the password must not get into a record.
    #[test]
    fn lengths_and_records() {
        let head =
            |extra: &str| parse_head(format!("POST /x HTTP/1.1\r\n{extra}\r\n").as_bytes()).map_err(|_| ());
        let length = |extra: &str| head(extra).ok().map(|h| h.body_length());
        assert_eq!(length("Content-Length: 5\r\n"), Some(Ok(5)));
        assert_eq!(length(""), Some(Err(411)));
        assert_eq!(length("Content-Length: +5\r\n"), Some(Err(400)));
        assert_eq!(length("Content-Length: 5\r\nContent-Length: 6\r\n"), Some(Err(400)));
        assert_eq!(length("Content-Length: 99999999999999999999999\r\n"), Some(Err(413)));
        assert_eq!(length("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Some(Err(411)));
        let kept = head("Authorization: Basic c2VjcmV0\r\n").map(|h| h.recordable());
        assert_eq!(kept, Ok(vec![("Authorization".to_owned(), "Basic".to_owned())]));
        assert!(parse_head(b"GET / HTTP/1.0\r\n\r\n").is_err_and(|s| s == 505));
        assert!(parse_head(b"\x00\x01\r\n\r\n").is_err_and(|s| s == 400));
    }
}
