//! The bytes under `ureq`: TCP, with or without TLS, behind one pair of buffers.
//!
//! The headers `Authorization` and `Cookie` are not given to `ureq`: at log level trace it writes every byte of a head to the host's log,
//! and its header map is not wiped. So [`Wire::transmit_output`] puts the lines in, from memory that is wiped.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::ClientConnection;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};
use zeroize::Zeroizing;

use super::buffers::{MAX_INPUT, Pair};
use super::proxy::Proxy;
use super::slot::{Phase, Slot};
use super::socket::{Limits, Socket, Stop};
use super::url::Endpoint;
use crate::auth::{Secret, Secrets};
use crate::{Error, ErrorKind};

pub(super) struct Wire {
    socket: Arc<Socket>,
    tls: Option<Box<ClientConnection>>,
    buffers: Pair,
    slot: Arc<Slot>,
    /// The other end is a proxy that sends requests on.
    forward: Option<Forward>,
    /// The last read from the socket filled its buffer: more is there, no need to ask `poll`.
    more: bool,
    /// Writing failed. What the server said before it closed (401, 413) may still be read.
    deaf: bool,
}

/// What a proxy that sends requests on needs to know (RFC 9112, 3.2.2).
pub(super) struct Forward {
    /// In front of the path.
    origin: String,
    authorization: Option<Secret>,
}

impl Forward {
    pub fn new(endpoint: &Endpoint, proxy: &Proxy) -> Forward {
        let authorization = proxy.login.as_ref().map(|login| login.header().clone());
        Forward { origin: endpoint.origin(), authorization }
    }
}

impl Wire {
    pub fn new(
        socket: Arc<Socket>,
        tls: Option<Box<ClientConnection>>,
        forward: Option<Forward>,
        slot: Arc<Slot>,
    ) -> Wire {
        Wire { socket, tls, buffers: Pair::default(), slot, forward, more: false, deaf: false }
    }

    fn send(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), Stop> {
        let mut link = Link { socket: &self.socket, limits, ready: false, stop: None };
        let done = match &mut self.tls {
            None => link.write_all(bytes),
            Some(tls) => send_tls(tls, bytes, &mut link),
        };
        done.map_err(|e| link.stop.take().unwrap_or(Stop::Io(e)))
    }

    fn receive(&mut self, limits: &Limits) -> Result<usize, Stop> {
        // Waiting comes before the buffer: a stream that idles holds none.
        if !self.more && !self.tls.as_mut().is_some_and(|tls| has_plaintext(tls)) {
            self.socket.wait_readable(limits)?;
            self.more = true;
        }
        let mut link = Link { socket: &self.socket, limits, ready: self.more, stop: None };
        let buf = self.buffers.input_append_buf();
        let got = match &mut self.tls {
            None => link.read(buf),
            Some(tls) => receive_tls(tls, buf, &mut link),
        };
        self.more = link.ready;
        got.map_err(|e| link.stop.take().unwrap_or(Stop::Io(e)))
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    // The time-outs are the slot's: `ureq` is configured without any.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        if self.deaf {
            return Ok(());
        }
        self.slot.pass().map_err(|e| self.slot.fail(e))?;
        self.slot.enter(Phase::Send);
        let limits = self.slot.limits();
        let mut signed = Zeroizing::new(Vec::new());
        let forward = self.forward.as_ref().filter(|_| self.slot.take_head());
        if let Some(value) = forward.and_then(|forward| forward.authorization.clone()) {
            self.slot.sign_with("Proxy-Authorization", value);
        }
        let signatures = self.slot.take_signatures();
        let origin = forward.map_or("", |forward| &forward.origin);
        if !signatures.is_empty() || !origin.is_empty() {
            sign(&self.buffers.output()[..amount], &signatures, origin, &mut signed);
        }
        let sent = if signed.is_empty() {
            let output = self.buffers.take_output();
            let sent = self.send(&output[..amount], &limits);
            self.buffers.give_output(output);
            sent
        } else {
            self.send(&signed, &limits)
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Stop::Io(_)) => {
                self.deaf = true;
                Ok(())
            }
            Err(stop) => Err(self.slot.fail(self.slot.stopped(stop, None))),
        }
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        if self.slot.phase() != Phase::Body {
            self.slot.enter(Phase::Head);
        }
        self.buffers.rest();
        if self.buffers.is_full() {
            let text = format!(
                "{}: the head of the answer, or of a chunk of it, is longer than {} KiB: is this an Exchange server?",
                self.slot.endpoint(),
                MAX_INPUT / 1024
            );
            return Err(self.slot.fail(Error::new(ErrorKind::Limit, text)));
        }
        let limits = self.slot.limits();
        match self.receive(&limits) {
            // `ureq` knows whether the answer may end here.
            Ok(0) => Ok(false),
            Ok(n) => {
                self.buffers.input_appended(n);
                self.buffers.note_filling();
                self.slot.got_bytes();
                if self.slot.phase() == Phase::Head {
                    let location = without_secrets(self.buffers.input_mut(), &self.slot.tap().secrets);
                    location.into_iter().for_each(|location| self.slot.keep_location(location));
                }
                if self.tls.is_none() && self.slot.phase() == Phase::Head && is_tls(self.buffers.input()) {
                    let text = format!(
                        "{}: the server speaks TLS on this port: the url must begin with https",
                        self.slot.endpoint()
                    );
                    return Err(self.slot.fail(Error::new(ErrorKind::Tls, text)));
                }
                if self.slot.phase() == Phase::Head
                    && let Some(tls) = self.tls.as_ref().filter(|_| is_401(self.buffers.input()))
                {
                    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
                    self.slot.keep_certificate(certificate.map(|leaf| &**leaf));
                }
                if self.slot.phase() == Phase::Head
                    && let Some(words) = words_of_456(self.buffers.input())
                {
                    self.slot.unlock_by(words);
                }
                Ok(true)
            }
            Err(stop) => Err(self.slot.fail(self.slot.stopped(stop, None))),
        }
    }

    fn is_open(&mut self) -> bool {
        if self.deaf || self.slot.is_cancelled() {
            return false;
        }
        loop {
            match (self.socket.peek_now(), &mut self.tls) {
                (Ok(None), _) => return true,
                // A session ticket may come at any time; only an answer that nobody asked for, or the end, is bad.
                (Ok(Some(1..)), Some(tls)) => {
                    let limits = self.slot.limits();
                    let mut link = Link { socket: &self.socket, limits: &limits, ready: true, stop: None };
                    let state = tls.read_tls(&mut link).ok().and_then(|_| tls.process_new_packets().ok());
                    match state {
                        Some(s) if s.plaintext_bytes_to_read() == 0 && !s.peer_has_closed() => {}
                        _ => return false,
                    }
                }
                _ => return false,
            }
        }
    }

    fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("socket", &self.socket).field("tls", &self.tls.is_some()).finish()
    }
}

/// Has what a head quotes of our secrets become stars: `ureq` writes some headers to the host's log, and does not wipe any. What
/// the sign-in and the cookies need stays, and that it does not write; so does what the answer is framed by: a server whose cookie is
/// `chunked` must not be able to spoil it. A `Location` that was changed is given as it was: whoever asks beside EWS has to read it.
fn without_secrets(input: &mut [u8], secrets: &Secrets) -> Option<Secret> {
    let whole = memchr::memmem::find(input, b"\r\n\r\n");
    let end = whole.unwrap_or(input.len());
    let mut location = None;
    let mut lines = input[..end].split_mut(|b| *b == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        let needed = [
            "set-cookie:",
            "www-authenticate:",
            "proxy-authenticate:",
            "content-length:",
            "transfer-encoding:",
            "connection:",
            "date:",
            "retry-after:",
        ];
        let is =
            |name: &&str| line.get(..name.len()).is_some_and(|b| b.eq_ignore_ascii_case(name.as_bytes()));
        let type_ends = known_type(line);
        match is(&"location:") {
            // The rest is to come.
            true if whole.is_none() && lines.peek().is_none() => {}
            true => {
                let before = Zeroizing::new(line.to_vec());
                secrets.blank(line);
                if *before != *line
                    && let Ok(text) = std::str::from_utf8(&before["location:".len()..])
                {
                    location = Some(Secret::new(text.trim()));
                }
            }
            false if needed.iter().any(is) => {}
            false => secrets.blank(&mut line[type_ends..]),
        }
    }
    location
}

/// Where the media type ends in a line that has one of those that answers have.
fn known_type(line: &[u8]) -> usize {
    let starts = |text: &[u8], with: &str| {
        text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with.as_bytes()))
    };
    if !starts(line, "content-type:") {
        return 0;
    }
    let value =
        "content-type:".len() + line["content-type:".len()..].iter().take_while(|b| **b == b' ').count();
    let known = [
        "text/xml",
        "text/html",
        "text/plain",
        "application/soap+xml",
        "application/xml",
        "application/json",
    ];
    known.into_iter().find(|known| starts(&line[value..], known)).map_or(0, |known| value + known.len())
}

/// Whether it is an alert of TLS, by which a server answers what is none.
fn is_tls(head: &[u8]) -> bool {
    head.starts_with(&[0x15, 0x03])
}

/// Whether it asks for a sign-in.
fn is_401(head: &[u8]) -> bool {
    head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(1..)).is_some_and(|rest| rest.starts_with(b" 401"))
}

/// What the status line says behind 456: Exchange Online puts the place to unlock the account there, and `ureq` drops it.
fn words_of_456(head: &[u8]) -> Option<String> {
    let line = &head[..memchr::memchr(b'\n', head)?];
    let words = line.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" 456 ")?;
    Some(String::from_utf8_lossy(words).trim().to_owned())
}

/// Puts the signatures behind the request line of the head that `output` begins with, and for a proxy that sends it on the server
/// in front of the path.
fn sign(output: &[u8], signatures: &[(&'static str, Secret)], origin: &str, signed: &mut Zeroizing<Vec<u8>>) {
    let line = memchr::memchr(b'\n', output).map_or(0, |at| at + 1);
    let method = memchr::memchr(b' ', &output[..line]).map_or(0, |at| at + 1);
    let length = |(name, value): &(&str, Secret)| name.len() + value.expose().len() + 4;
    // All at once: a buffer that grows leaves copies behind that nobody wipes.
    signed.reserve_exact(output.len() + origin.len() + signatures.iter().map(length).sum::<usize>());
    signed.extend_from_slice(&output[..method]);
    signed.extend_from_slice(origin.as_bytes());
    signed.extend_from_slice(&output[method..line]);
    for (name, value) in signatures {
        for part in [name.as_bytes(), b": ", value.expose().as_bytes(), b"\r\n"] {
            signed.extend_from_slice(part);
        }
    }
    signed.extend_from_slice(&output[line..]);
}

fn send_tls(tls: &mut ClientConnection, mut bytes: &[u8], link: &mut Link<'_>) -> io::Result<()> {
    while !bytes.is_empty() || tls.wants_write() {
        // rustls takes only so much before it is written out; it encrypts at once and keeps no plain copy.
        let taken = tls.writer().write(bytes)?;
        bytes = &bytes[taken..];
        while tls.wants_write() {
            tls.write_tls(link)?;
        }
    }
    Ok(())
}

/// Whether a read would give something, an end or an error without a byte from the socket.
fn has_plaintext(tls: &mut ClientConnection) -> bool {
    tls.process_new_packets()
        .map_or(true, |state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
}

fn receive_tls(tls: &mut ClientConnection, buf: &mut [u8], link: &mut Link<'_>) -> io::Result<usize> {
    loop {
        match tls.reader().read(buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // `UnexpectedEof` here: the peer vanished without TLS's farewell. That is no end of a body.
            other => return other,
        }
        tls.read_tls(link)?;
        // As it is: what it means is for the slot to say.
        tls.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        // A key update wants an answer.
        while tls.wants_write() {
            tls.write_tls(link)?;
        }
    }
}

/// A handshake, to its end.
pub(super) fn handshake(
    tls: &mut ClientConnection,
    socket: &Socket,
    limits: &Limits,
) -> Result<(), HandshakeError> {
    let mut link = Link { socket, limits, ready: false, stop: None };
    while tls.is_handshaking() || tls.wants_write() {
        let mut turn = || {
            while tls.wants_write() {
                tls.write_tls(&mut link)?;
            }
            if tls.is_handshaking() && tls.read_tls(&mut link)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(())
        };
        if let Err(e) = turn() {
            return Err(HandshakeError::Stop(link.stop.take().unwrap_or(Stop::Io(e))));
        }
        if let Err(e) = tls.process_new_packets() {
            // The server should learn why; whether it does changes nothing for us.
            while tls.wants_write() && tls.write_tls(&mut link).is_ok() {}
            return Err(HandshakeError::Tls(e));
        }
    }
    Ok(())
}

pub(super) enum HandshakeError {
    Stop(Stop),
    Tls(rustls::Error),
}

/// The socket as rustls and `write_all` want it. Why it stopped is kept beside, since an `io::Error` cannot say it.
struct Link<'a> {
    socket: &'a Socket,
    limits: &'a Limits,
    /// Bytes are most likely there.
    ready: bool,
    stop: Option<Stop>,
}

impl Link<'_> {
    fn keep(&mut self, result: Result<usize, Stop>) -> io::Result<usize> {
        result.map_err(|stop| {
            self.stop = Some(stop);
            io::Error::other("see the link")
        })
    }
}

impl Read for Link<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.socket.read(buf, self.limits, self.ready);
        self.ready = matches!(got, Ok(n) if n == buf.len());
        self.keep(got)
    }
}

impl Write for Link<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let wrote = self.socket.write(buf, self.limits);
        self.keep(wrote)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
