//! One connection to us: its socket, TLS, the bytes that came and those that go. Nothing here waits.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;
use rustls::{AlertDescription, ServerConfig, ServerConnection};

use super::request::Parser;

/// A read takes so much at a time: a connection that sends much does not keep the others from their turn.
const PIECE: usize = 16 << 10;

pub(super) struct Conn {
    pub sock: TcpStream,
    pub peer: IpAddr,
    /// In the wire log.
    pub number: u64,
    tls: Option<Box<ServerConnection>>,
    /// Why TLS has ended it.
    pub tls_failure: Option<String>,
    /// Whether anything came: who only looks whether the port is open has begun nothing.
    began: bool,
    pub parser: Parser,
    pub inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// When it is shut whatever it does.
    pub deadline: Instant,
    /// It is closed when what is in the outbox has gone.
    pub closing: bool,
    /// There may be more to read than the socket says.
    pub eager: bool,
    /// Everything has gone, and only the client's end is awaited: closing at once could throw our last answer away.
    pub lingers: bool,
}

/// The connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over;

impl Conn {
    pub fn new(
        sock: TcpStream,
        peer: IpAddr,
        tls: Option<&Arc<ServerConfig>>,
        deadline: Instant,
    ) -> io::Result<Conn> {
        sock.set_nonblocking(true)?;
        sock.set_nodelay(true)?;
        let tls = match tls {
            Some(config) => {
                let mut tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                // What is written here is short; who does not read it does not fill our memory.
                tls.set_buffer_limit(Some(PIECE));
                Some(Box::new(tls))
            }
            None => None,
        };
        Ok(Conn {
            sock,
            peer,
            number: 0,
            tls,
            tls_failure: None,
            began: false,
            parser: Parser::default(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            deadline,
            closing: false,
            eager: false,
            lingers: false,
        })
    }

    /// What it waits for.
    pub fn wants(&self) -> PollFlags {
        let tls = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        // While an answer waits for its reader, nothing more is read.
        match !self.outbox.is_empty() || tls {
            true => PollFlags::OUT,
            false => PollFlags::IN,
        }
    }

    pub fn has_sent_all(&self) -> bool {
        self.outbox.is_empty() && !self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether a handshake was begun and has not come to its end.
    pub fn shakes_hands(&self) -> bool {
        self.began && self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether nothing of a request has come.
    pub fn is_idle(&self) -> bool {
        self.has_sent_all() && !self.parser.is_within(&self.inbox)
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Reads what is there, up to a piece; whether anything came.
    pub fn read(&mut self) -> Result<bool, Over> {
        let mut piece = [0; PIECE];
        let n = loop {
            let read = match &mut self.tls {
                None => (&self.sock).read(&mut piece),
                Some(tls) => match tls.reader().read(&mut piece) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => match tls.read_tls(&mut &self.sock) {
                        Ok(0) => Ok(0),
                        Ok(_) => {
                            self.began = true;
                            let failed = tls.process_new_packets().err();
                            // The handshake's answers, or the alert that says what is wrong.
                            let _ = self.write();
                            if let Some(e) = failed {
                                self.tls_failure = Some(explain(&e));
                                return Err(Over);
                            }
                            continue;
                        }
                        Err(e) => Err(e),
                    },
                    other => other,
                },
            };
            match read {
                Ok(n) => break n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break 0,
            }
        };
        match n {
            0 => {
                if self.shakes_hands() {
                    self.tls_failure = Some("the other side broke it off without a word".into());
                }
                Err(Over)
            }
            _ if self.lingers => Ok(true),
            n => {
                self.inbox.extend_from_slice(&piece[..n]);
                Ok(true)
            }
        }
    }

    /// Writes what goes.
    pub fn write(&mut self) -> Result<(), Over> {
        loop {
            let wrote = match &mut self.tls {
                None if self.outbox.is_empty() => return Ok(()),
                None => match (&self.sock).write(&self.outbox) {
                    Ok(n) => {
                        self.outbox.drain(..n);
                        Ok(())
                    }
                    Err(e) => Err(e),
                },
                Some(tls) => {
                    if !self.outbox.is_empty() {
                        let n = tls.writer().write(&self.outbox).map_err(|_| Over)?;
                        self.outbox.drain(..n);
                    }
                    if !tls.wants_write() {
                        return Ok(());
                    }
                    tls.write_tls(&mut &self.sock).map(drop)
                }
            };
            match wrote {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
    }

    /// Says the end, and waits for the client's.
    pub fn linger(&mut self) -> Result<(), Over> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            self.write()?;
        }
        self.inbox = Vec::new();
        self.parser.let_go();
        self.lingers = true;
        self.sock.shutdown(Shutdown::Write).map_err(|_| Over)
    }
}

/// What TLS ended with, and what it means for us.
fn explain(error: &rustls::Error) -> String {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRevoked, CertificateUnknown, UnknownCA,
        UnsupportedCertificate,
    };
    let hint = match error {
        rustls::Error::AlertReceived(
            BadCertificate
            | CertificateExpired
            | CertificateRevoked
            | CertificateUnknown
            | UnknownCA
            | UnsupportedCertificate,
        ) => "; the other side does not accept the certificate of option push_cert",
        rustls::Error::InvalidMessage(_) => "; what came is not TLS: is it plain http?",
        _ => "",
    };
    format!("{error}{hint}")
}
