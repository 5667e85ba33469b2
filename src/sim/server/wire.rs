//! One socket, plain or TLS, that obeys stop and cut at once and counts the bytes that the kernel took.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ServerConnection;

use super::ntlm;
use super::record::End;
use super::shared::{Conn, Shared};

/// `Err` ends the connection.
pub(super) type Io<T = ()> = std::result::Result<T, End>;

/// How long a thread waits at most before it looks at stop, cut, resume and the client again.
pub(super) const SLICE: Duration = Duration::from_millis(50);

// One TLS record.
const PIECE: usize = 16 << 10;

// A request of the greatest size and another's head fit in; who sends more without waiting for answers is cut off.
const MAX_INBOX: usize = super::http::MAX_BODY + (1 << 20);

pub(super) struct Wire {
    pub(super) conn: Arc<Conn>,
    pub(super) shared: Arc<Shared>,
    tls: Option<Box<ServerConnection>>,
    /// The sign-in by NTLM.
    pub(super) ntlm: ntlm::Connection,
    /// What the client sent and nobody has taken yet.
    pub(super) inbox: Vec<u8>,
    /// Bytes (without TLS) that the kernel took since the connection began.
    pub(super) sent: u64,
}

impl Wire {
    pub(super) fn new(conn: Arc<Conn>, shared: Arc<Shared>) -> Io<Wire> {
        let tls = match &shared.tls {
            Some(config) => Some(Box::new(ServerConnection::new(config.clone()).map_err(|_| End::Client)?)),
            None => {
                shared.ready();
                None
            }
        };
        Ok(Wire { conn, shared, tls, ntlm: ntlm::Connection::default(), inbox: Vec::new(), sent: 0 })
    }

    /// Whether the connection may go on.
    pub(super) fn check(&self) -> Io {
        if self.shared.stopped() {
            return Err(End::Stopped);
        }
        self.conn.cut().map_or(Ok(()), |how| Err(End::Cut(how)))
    }

    /// Waits for more from the client; 0 is its end.
    pub(super) fn fill(&mut self) -> Io<usize> {
        loop {
            if let Some(n) = self.try_fill()? {
                self.check()?;
                return Ok(n);
            }
            self.wait(PollFlags::IN, None)?;
        }
    }

    /// Takes what the client has sent, without waiting: `None` if there is nothing, 0 at its end.
    pub(super) fn try_fill(&mut self) -> Io<Option<usize>> {
        let mut piece = [0; 4096];
        loop {
            let read = match &mut self.tls {
                None => (&self.conn.sock).read(&mut piece),
                Some(tls) => match tls.reader().read(&mut piece) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        match tls.read_tls(&mut &self.conn.sock) {
                            Ok(0) => Ok(0),
                            Ok(_) => {
                                let before = tls.is_handshaking();
                                let fine = tls.process_new_packets().is_ok();
                                // The handshake's answers, or the alert.
                                self.flush_tls()?;
                                if !fine {
                                    return Err(End::Client);
                                }
                                if before && self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking()) {
                                    self.shared.ready();
                                }
                                continue;
                            }
                            Err(e) => Err(e),
                        }
                    }
                    // The end without TLS's good-bye.
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                    other => other,
                },
            };
            match read {
                Ok(n) if self.inbox.len() + n > MAX_INBOX => {
                    return Err(End::Client);
                }
                Ok(n) => {
                    self.inbox.extend_from_slice(&piece[..n]);
                    return Ok(Some(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.check().err().unwrap_or(End::Client)),
            }
        }
    }

    /// Sends all of it. What was sent before an error is in [`sent`](Self::sent).
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> Io {
        while !bytes.is_empty() {
            self.check()?;
            let n = if let Some(tls) = &mut self.tls {
                let n = tls.writer().write(&bytes[..bytes.len().min(PIECE)]).map_err(|_| End::Client)?;
                self.flush_tls()?;
                n
            } else {
                match (&self.conn.sock).write(bytes) {
                    Ok(n) => n,
                    Err(e) => {
                        self.after_write_error(&e)?;
                        0
                    }
                }
            };
            self.sent += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Waits until the socket is ready or the slice is over.
    pub(super) fn wait(&self, what: PollFlags, at_most: Option<Duration>) -> Io {
        self.check()?;
        let slice = at_most.and_then(|d| Timespec::try_from(d).ok());
        let _ = poll(&mut [PollFd::new(&self.conn.sock, what)], slice.as_ref());
        self.check()
    }

    /// Ends the connection in order and gives the client a moment to read: closing at once could throw away the answer.
    pub(super) fn good_bye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            if self.flush_tls().is_err() {
                return;
            }
        }
        let _ = self.conn.sock.shutdown(std::net::Shutdown::Write);
        let until = Instant::now() + 4 * SLICE;
        while Instant::now() < until {
            self.inbox.clear();
            match self.try_fill() {
                Ok(Some(1..)) => {}
                Ok(None) if self.wait(PollFlags::IN, Some(SLICE)).is_ok() => {}
                _ => return,
            }
        }
    }

    fn flush_tls(&mut self) -> Io {
        while let Some(tls) = &mut self.tls
            && tls.wants_write()
        {
            match tls.write_tls(&mut &self.conn.sock) {
                Ok(_) => {}
                Err(e) => self.after_write_error(&e)?,
            }
        }
        Ok(())
    }

    fn after_write_error(&self, e: &io::Error) -> Io {
        match e.kind() {
            io::ErrorKind::WouldBlock => self.wait(PollFlags::OUT, Some(SLICE)),
            io::ErrorKind::Interrupted => Ok(()),
            _ => Err(self.check().err().unwrap_or(End::Client)),
        }
    }
}
