//! Requests out of bytes, as they come: bounded, and only for those who know the secret.

use httparse::Status;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::net::wire_log;

/// The longest head, and how many headers it may have.
const HEAD: usize = 16 << 10;
const HEADERS: usize = 64;
/// The longest line before a chunk, and the longest trailers behind the last one.
const CHUNK_LINE: usize = 1 << 10;
const TRAILERS: usize = 4 << 10;

/// What is to be done with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is not enough for anything yet.
    More,
    /// The client waits to be told that its body is welcome.
    Continue,
    /// A whole request; whether the connection stays afterwards.
    Body { body: Vec<u8>, stays: bool },
    /// It is to be answered with this status, and closed.
    Refused(u16, &'static str),
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Parser {
    state: State,
    body: Vec<u8>,
    stays: bool,
    /// Whether a request has named the secret.
    pub known: bool,
    /// Whether the one that is under way has, and posts: who knows the secret has something to say.
    pub posts: bool,
    /// Whether the heads are wanted of those that name the secret, for the wire log, and the last one.
    pub keeps_heads: bool,
    shown: Option<Zeroizing<String>>,
    /// Up to where no end of a head was found.
    seen: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Length(usize),
    /// Before the line with a chunk's size.
    Size,
    Chunk(usize),
    /// Behind a chunk's data.
    ChunkEnd,
    Trailers,
}

impl Parser {
    /// Takes what there is for the next step. `secret` is what the last part of the path has to be; `most` bounds a body.
    pub fn next(&mut self, inbox: &mut Vec<u8>, secret: &[u8], most: usize) -> Step {
        loop {
            let (state, step) = match self.state {
                State::Head => match self.head(inbox, secret, most) {
                    Ok(Some((state, waits))) => (state, waits.then_some(Step::Continue)),
                    Ok(None) => return Step::More,
                    Err((status, why)) => return Step::Refused(status, why),
                },
                State::Length(left) => {
                    let n = left.min(inbox.len());
                    self.body.extend(inbox.drain(..n));
                    match left - n {
                        0 => return self.whole(),
                        left => {
                            self.state = State::Length(left);
                            return Step::More;
                        }
                    }
                }
                State::Size => match httparse::parse_chunk_size(inbox) {
                    Ok(Status::Complete((line, size))) if line <= CHUNK_LINE => {
                        let Some(size) =
                            usize::try_from(size).ok().filter(|n| self.body.len().saturating_add(*n) <= most)
                        else {
                            return Step::Refused(413, "a body that is too large");
                        };
                        inbox.drain(..line);
                        (if size == 0 { State::Trailers } else { State::Chunk(size) }, None)
                    }
                    Ok(Status::Partial) if inbox.len() <= CHUNK_LINE => return Step::More,
                    _ => return Step::Refused(400, "chunks that are none"),
                },
                State::Chunk(left) => {
                    let n = left.min(inbox.len());
                    self.body.extend(inbox.drain(..n));
                    match left - n {
                        0 => (State::ChunkEnd, None),
                        left => {
                            self.state = State::Chunk(left);
                            return Step::More;
                        }
                    }
                }
                State::ChunkEnd if inbox.len() < 2 && b"\r\n".starts_with(inbox) => return Step::More,
                State::ChunkEnd if inbox.starts_with(b"\r\n") => {
                    inbox.drain(..2);
                    (State::Size, None)
                }
                State::ChunkEnd => return Step::Refused(400, "chunks that are none"),
                State::Trailers if inbox.starts_with(b"\r\n") => {
                    inbox.drain(..2);
                    return self.whole();
                }
                State::Trailers => match memchr::memmem::find(inbox, b"\r\n\r\n") {
                    Some(at) if at <= TRAILERS => {
                        inbox.drain(..at + 4);
                        return self.whole();
                    }
                    None if inbox.len() <= TRAILERS => return Step::More,
                    _ => return Step::Refused(400, "trailers that do not end"),
                },
            };
            self.state = state;
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Whether a request is under way.
    pub fn is_within(&self, inbox: &[u8]) -> bool {
        self.state != State::Head || !inbox.is_empty()
    }

    /// How many bytes of a body are kept.
    pub fn held(&self) -> usize {
        self.body.len()
    }

    /// The head of the last request that has named the secret, as the wire log shows it, if that is wanted.
    pub fn shown(&self) -> Option<&str> {
        self.shown.as_ref().map(|head| head.as_str())
    }

    /// Nothing of the request under way is wanted any more.
    pub fn let_go(&mut self) {
        self.body = Vec::new();
    }

    fn whole(&mut self) -> Step {
        self.state = State::Head;
        Step::Body { body: std::mem::take(&mut self.body), stays: self.stays }
    }

    /// Reads a head: what follows it, and whether the client waits before it sends that.
    fn head(
        &mut self,
        inbox: &mut Vec<u8>,
        secret: &[u8],
        most: usize,
    ) -> Result<Option<(State, bool)>, (u16, &'static str)> {
        // Lines between two requests are nobody's.
        let blank = inbox.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        inbox.drain(..blank);
        let from = self.seen.saturating_sub(3).min(inbox.len());
        let Some(end) = memchr::memmem::find(&inbox[from..], b"\r\n\r\n").map(|at| from + at + 4) else {
            (self.seen, self.posts) = (inbox.len(), false);
            return match inbox.len() > HEAD {
                true => Err((431, "a head that is too long")),
                // The beginning of TLS, on a port that speaks none: no line will end.
                false if inbox.first() == Some(&0x16) => Err((400, "TLS, on a port without it")),
                false => Ok(None),
            };
        };
        (self.seen, self.posts) = (0, false);
        self.shown = None;
        if end > HEAD {
            return Err((431, "a head that is too long"));
        }
        let (state, waits, stays) = {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&inbox[..end]) {
                Ok(Status::Complete(_)) => {}
                Err(httparse::Error::TooManyHeaders) => return Err((431, "too many headers")),
                _ => return Err((400, "a head that is none")),
            }
            let path = request.path.unwrap_or_default();
            let path = path.split(['?', '#']).next().unwrap_or_default();
            let named = path.rsplit('/').next().unwrap_or_default();
            // First of all: who does not know it learns nothing else.
            if !bool::from(named.as_bytes().ct_eq(secret)) {
                return Err((404, "a path without the secret"));
            }
            self.known = true;
            if self.keeps_heads {
                self.shown = Some(shown(&inbox[..end], secret));
            }
            if request.method != Some("POST") {
                return Err((405, "another method than POST"));
            }
            self.posts = true;
            let values = |name: &'static str| {
                let of_the_name = request.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name));
                of_the_name.map(|h| h.value.trim_ascii())
            };
            let says = |name, word: &[u8]| {
                values(name)
                    .any(|v| v.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(word)))
            };
            if values("content-encoding").any(|v| !v.eq_ignore_ascii_case(b"identity")) {
                return Err((415, "a body that is compressed"));
            }
            let state = match (values("transfer-encoding").count(), values("content-length").count()) {
                // Read differently by two parties, this is how requests are smuggled.
                (1.., 1..) | (2.., _) => return Err((400, "two lengths")),
                (1, 0) if says("transfer-encoding", b"chunked") => State::Size,
                (1, 0) => return Err((501, "a transfer encoding that is not chunked")),
                (0, 0) => return Err((411, "no length")),
                _ => State::Length(length(values("content-length"), most)?),
            };
            let stays = request.version == Some(1) && !says("connection", b"close");
            (state, says("expect", b"100-continue"), stays)
        };
        self.stays = stays;
        inbox.drain(..end);
        Ok(Some((state, waits && inbox.is_empty())))
    }
}

/// A head for the wire log, without the secret: also where a proxy on the way repeats the path in a header of its own.
fn shown(head: &[u8], secret: &[u8]) -> Zeroizing<String> {
    let (mut clean, mut rest) = (Vec::with_capacity(head.len()), head);
    while let Some(at) = memchr::memmem::find(rest, secret).filter(|_| !secret.is_empty()) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(b"***");
        rest = &rest[at + secret.len()..];
    }
    clean.extend_from_slice(rest);
    wire_log::raw_head(&clean)
}

fn length<'a>(mut values: impl Iterator<Item = &'a [u8]>, most: usize) -> Result<usize, (u16, &'static str)> {
    let first = values.next().unwrap_or_default();
    let plain = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if !plain || values.any(|other| other != first) {
        return Err((400, "a length that is none"));
    }
    // Digits that do not fit are too many.
    let length = std::str::from_utf8(first).ok().and_then(|text| text.parse().ok());
    length.filter(|n| *n <= most).ok_or((413, "a body that is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"s3cret";
    const MOST: usize = 100;

    /// All steps of some bytes that come in pieces of a size.
    fn steps(bytes: &[u8], size: usize) -> Vec<Step> {
        let (mut parser, mut inbox, mut steps) = (Parser::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            inbox.extend_from_slice(piece);
            loop {
                match parser.next(&mut inbox, SECRET, MOST) {
                    Step::More => break,
                    refused @ Step::Refused(..) => {
                        steps.push(refused);
                        return steps;
                    }
                    step => steps.push(step),
                }
            }
        }
        steps
    }

    fn post(headers: &str, body: &str) -> Vec<u8> {
        format!("POST /a/s3cret?x=y HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}").into_bytes()
    }

    fn body(text: &str, stays: bool) -> Step {
        Step::Body { body: text.into(), stays }
    }

    // What a server's framework writes must be understood, cut anywhere.
    #[test]
    fn requests_in_every_form_and_any_pieces() {
        for (bytes, expected) in [
            (post("Content-Length: 3\r\n", "abc"), vec![body("abc", true)]),
            (post("content-length: 0\r\nConnection: Close\r\n", ""), vec![body("", false)]),
            (
                post("Transfer-Encoding: Chunked\r\n", "1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n"),
                vec![body("abc", true)],
            ),
            (post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\nA: b\r\n\r\n"), vec![body("a", true)]),
            (
                [post("Content-Length: 1\r\n", "a"), b"\r\n".to_vec(), post("Content-Length: 1\r\n", "b")]
                    .concat(),
                vec![body("a", true), body("b", true)],
            ),
            (b"POST /s3cret HTTP/1.0\r\nContent-Length: 1\r\n\r\na".to_vec(), vec![body("a", false)]),
            (b"POST http://h/s3cret HTTP/1.1\r\nContent-Length: 1\r\n\r\na".to_vec(), vec![body("a", true)]),
        ] {
            for size in [1, 2, 7, 1000] {
                assert_eq!(steps(&bytes, size), expected, "{} in {size}", bytes.escape_ascii());
            }
        }
        // .NET waits for a hundred before it sends its body.
        let waits = post("Content-Length: 1\r\nExpect: 100-continue\r\n", "");
        assert_eq!(steps(&waits, 1000), [Step::Continue]);
    }

    // One that is not refused would cost memory, be read in two ways, or tell strangers that somebody listens.
    #[test]
    fn what_is_refused() {
        let get = |path: &str, rest: &str| {
            format!("{rest} {path} HTTP/1.1\r\nContent-Length: 1\r\n\r\na").into_bytes()
        };
        for (bytes, status) in [
            (get("/", "POST"), 404),
            (get("/s3cre", "POST"), 404),
            (get("/s3cret/", "POST"), 404),
            (get("/s3cret2", "POST"), 404),
            (get("/S3cret", "POST"), 404),
            (get("/x?s3cret", "POST"), 404),
            (get("/", "GET"), 404),
            (get("/s3cret", "GET"), 405),
            (post("", ""), 411),
            (post("Content-Length: 101\r\n", ""), 413),
            (post("Content-Length: 99999999999999999999999\r\n", ""), 413),
            (post("Content-Length: +1\r\n", "a"), 400),
            (post("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), 400),
            (post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "a"), 400),
            (post("Transfer-Encoding: gzip\r\n", "a"), 501),
            (post("Transfer-Encoding: chunked\r\n", "zz\r\n"), 400),
            (post("Transfer-Encoding: chunked\r\n", "65\r\n"), 413),
            (post("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFF\r\n"), 413),
            (post("Transfer-Encoding: chunked\r\n", "1\r\nab\r\n"), 400),
            (post("Transfer-Encoding: chunked\r\n", &format!("1;{}", "x".repeat(2000))), 400),
            (post("Transfer-Encoding: chunked\r\n", &format!("0\r\n{}", "x".repeat(5000))), 400),
            (post("Content-Encoding: gzip\r\nContent-Length: 1\r\n", "a"), 415),
            (post(&"A: b\r\n".repeat(70), ""), 431),
            (post(&format!("A: {}\r\n", "b".repeat(20_000)), ""), 431),
            (vec![b'x'; 20_000], 431),
            (b"\x00\x01\r\n\r\n".to_vec(), 400),
            (b"\x16\x03\x01".to_vec(), 400),
        ] {
            for size in [1, 1000, 100_000] {
                let steps = steps(&bytes, size);
                let refused = matches!(steps[..], [Step::Refused(s, _)] if s == status);
                assert!(refused, "{} in {size}: {steps:?}", bytes[..bytes.len().min(200)].escape_ascii());
            }
        }
    }

    // Bytes of a stranger's choice: an answer, no panic, no more kept than is allowed.
    #[test]
    fn any_bytes_are_borne() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let words: [&[u8]; 14] = [
            b"POST /s3cret HTTP/1.1",
            b"\r\n",
            b"\r\n\r\n",
            b"Content-Length: ",
            b"Transfer-Encoding: chunked",
            b"5",
            b"0",
            b"a",
            b"\n",
            b"GET ",
            b";",
            b"\xFF",
            b"\0",
            b"Expect: 100-continue",
        ];
        for _ in 0..20_000 {
            let (mut parser, mut inbox) = (Parser::default(), Vec::new());
            'pieces: for _ in 0..rng.usize(..12) {
                inbox.extend_from_slice(words[rng.usize(..words.len())]);
                loop {
                    match parser.next(&mut inbox, SECRET, MOST) {
                        Step::More => break,
                        Step::Refused(..) => break 'pieces,
                        Step::Body { body, .. } => assert!(body.len() <= MOST, "seed {seed}"),
                        Step::Continue => {}
                    }
                }
                assert!(parser.body.len() <= MOST, "seed {seed}");
            }
        }
    }
}
