//! A small server for what Exchange sends by itself: one thread, bounded connections, bytes and times.
//!
//! It answers `POST` to a path whose last part is a secret, and nobody else learns more than 404. One thread serves all
//! connections with `poll(2)`: a thousand that send slowly cost no more than their sockets.

mod conn;
mod request;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustls::ServerConfig;

use self::conn::{Conn, Over};
use self::request::Step;
use super::tap::Tap;
use super::tls;
use crate::auth::Secret;
use crate::{Error, ErrorKind, Result};

/// How long a connection may wait for a further request.
const IDLE: Duration = Duration::from_secs(60);
/// How long the client's end is awaited after our last answer.
const LINGER: Duration = Duration::from_secs(1);
/// So many are accepted before the others get their turn.
const ACCEPTS: usize = 16;
/// So many pieces are read of one before the others get theirs.
const TURNS: usize = 16;
/// Where the system has no more room for a connection, it is asked again after so long.
const PAUSE: Duration = Duration::from_millis(100);
/// So many bodies of the greatest size may be under way; more of them are sent away.
const BODIES: usize = 16;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// A certificate and its key (PEM files); plain http without.
    pub tls: Option<Arc<ServerConfig>>,
    /// What the last part of the path has to be; compared in a time that tells nothing of it.
    pub secret: Secret,
    /// What is told of requests and answers.
    pub tap: Arc<Tap>,
    /// How many connections may stand at a time. For one more, the oldest that has not shown the secret goes.
    pub connections: usize,
    /// How large a body may be.
    pub max_bytes: usize,
    /// How long a request may take, from the connection or its first byte to its last, and its answer.
    pub timeout: Duration,
}

/// What is answered to a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Status 200, with this body.
    Reply(&'static str),
    /// Status 503: it may be sent again.
    Later,
    /// Status 400: nothing that is understood here, and why.
    Bad(String),
}

/// Something that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What; one of a few.
    pub what: &'static str,
    /// Why, or what to do.
    pub why: Option<String>,
    /// Whose it was.
    pub peer: IpAddr,
    /// Whether it was posted by who knows the secret, and the same again would be refused again.
    pub lost: bool,
}

/// An open port.
#[derive(Debug)]
pub struct Listener {
    /// Until it has been served: the port is free again then.
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    config: ListenConfig,
    asleep: OwnedFd,
    wake: OwnedFd,
    stopped: AtomicBool,
}

/// Reads a certificate with its chain, and its key.
///
/// # Errors
/// [`ErrorKind::Invalid`] for files that cannot be read or do not belong together.
pub fn server_tls(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let own = tls::read_own(("push_cert", cert), ("push_key", key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| {
            Error::new(ErrorKind::Internal, format!("the TLS library has no protocol version: {e}"))
        })?
        .with_no_client_auth()
        .with_cert_resolver(own);
    Ok(Arc::new(config))
}

/// A secret that nobody can guess: 32 letters.
///
/// # Errors
/// [`ErrorKind::Io`] where the system has no random numbers.
pub fn random_secret() -> Result<Secret> {
    use base64::Engine;
    let mut bytes = [0; 24];
    super::random(&mut bytes)?;
    Ok(Secret::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

impl Listener {
    /// Opens the port. Nobody is answered before [`run`](Self::run).
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a port that is taken, or an address that this machine does not have.
    pub fn open(config: ListenConfig) -> Result<Listener> {
        let failed = |e: io::Error| {
            let text = format!(
                "cannot listen on {}: {e}; is the port taken, or the address another machine's? (option push_listen)",
                config.address
            );
            Error::new(ErrorKind::Io, text)
        };
        let listener = TcpListener::bind(config.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (asleep, wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|e| no_pipe("the push listener", e))?;
        Ok(Listener {
            listener: Mutex::new(Some(listener)),
            address,
            config,
            asleep,
            wake,
            stopped: AtomicBool::new(false),
        })
    }

    /// The address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.config.tls.is_some()
    }

    /// What the last part of the path has to be.
    pub fn secret(&self) -> &Secret {
        &self.config.secret
    }

    /// Ends [`run`](Self::run), from any thread.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&self.wake, b"!");
    }

    /// Serves until [`stop`](Self::stop). `answer` gets each body, and has to be quick; `note` what was refused.
    pub fn run(&self, answer: &mut dyn FnMut(&[u8]) -> Answered, note: &mut dyn FnMut(Refused)) {
        let Some(listener) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let mut conns: Vec<Conn> = Vec::new();
        let mut paused: Option<Instant> = None;
        while !self.stopped.load(Ordering::SeqCst) {
            let ready = self.wait(&listener, &conns, &mut paused);
            let now = Instant::now();
            let mut held: usize = conns.iter().map(|c| c.parser.held()).sum();
            let most = BODIES.saturating_mul(self.config.max_bytes);
            let mut kept = Vec::with_capacity(conns.len());
            for (mut conn, is_ready) in conns.drain(..).zip(ready.conns) {
                let (before, full) = (conn.parser.held(), held > most);
                let served = if is_ready { self.serve(&mut conn, full, answer, note) } else { Ok(()) };
                // What this one has brought counts for those that come after it.
                held = held - before + conn.parser.held();
                if served.is_err() {
                    if let Some(why) = conn.tls_failure.take() {
                        note(Refused { why: Some(why), ..Refused::of("a TLS handshake", conn.peer) });
                    }
                    continue;
                }
                match now < conn.deadline {
                    true => kept.push(conn),
                    false if conn.shakes_hands() => {
                        note(Refused::of("a TLS handshake that did not come in time", conn.peer));
                    }
                    false if conn.lingers || conn.is_idle() => {}
                    false => note(Refused::of("a request that did not come in time", conn.peer)),
                }
            }
            conns = kept;
            if ready.listener {
                self.accept(&listener, &mut conns, &mut paused, note);
            }
        }
    }

    fn wait(&self, listener: &TcpListener, conns: &[Conn], paused: &mut Option<Instant>) -> Ready {
        let now = Instant::now();
        if paused.is_some_and(|until| until <= now) {
            *paused = None;
        }
        let mut fds = vec![PollFd::new(&self.asleep, PollFlags::IN)];
        fds.extend(conns.iter().map(|c| PollFd::from_borrowed_fd(c.sock.as_fd(), c.wants())));
        if paused.is_none() {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        let next = conns.iter().map(|c| c.deadline).chain(*paused).min();
        let left = next.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        let left = if conns.iter().any(|c| c.eager) { Some(Duration::ZERO) } else { left };
        let left =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        // An error is a signal's, or the system's for a moment: all are looked at.
        let _ = poll(&mut fds, left.as_ref());
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        Ready {
            conns: fds[1..=conns.len()].iter().zip(conns).map(|(fd, c)| c.eager || is_ready(fd)).collect(),
            listener: fds.get(conns.len() + 1).is_some_and(is_ready),
        }
    }

    fn accept(
        &self,
        listener: &TcpListener,
        conns: &mut Vec<Conn>,
        paused: &mut Option<Instant>,
        note: &mut dyn FnMut(Refused),
    ) {
        for _ in 0..ACCEPTS {
            let (sock, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // One that had gone again.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(_) => {
                    note(Refused::of("a connection for which the system has no room", self.address.ip()));
                    *paused = Some(Instant::now() + PAUSE);
                    return;
                }
            };
            if conns.len() >= self.config.connections.max(1) {
                // Those that have shown the secret stay as long as they have something to say.
                let oldest = |wanted: fn(&Conn) -> bool| {
                    let of = conns.iter().enumerate().filter(|(_, c)| wanted(c));
                    of.min_by_key(|(_, c)| c.deadline).map(|(at, _)| at)
                };
                let goes = oldest(|c| c.lingers)
                    .or_else(|| oldest(|c| !c.parser.known))
                    .or_else(|| oldest(Conn::is_idle));
                note(Refused::of("a connection more than push_connections", peer.ip()));
                match goes {
                    Some(at) => drop(conns.swap_remove(at)),
                    None => continue,
                }
            }
            let deadline = Instant::now() + self.config.timeout;
            if let Ok(mut conn) = Conn::new(sock, peer.ip(), self.config.tls.as_ref(), deadline) {
                conn.number = self.config.tap.wire_log.connection();
                conns.push(conn);
            }
        }
    }

    fn serve(
        &self,
        conn: &mut Conn,
        full: bool,
        answer: &mut dyn FnMut(&[u8]) -> Answered,
        note: &mut dyn FnMut(Refused),
    ) -> std::result::Result<(), Over> {
        conn.eager = false;
        for _ in 0..TURNS {
            conn.write()?;
            if !conn.has_sent_all() {
                return Ok(());
            }
            let idle = conn.is_idle();
            let came = conn.read();
            if conn.lingers {
                return came.map(drop);
            }
            // What came before the end may be a whole request.
            if came.is_err() && conn.inbox.is_empty() {
                return Err(Over);
            }
            if idle && conn.parser.known {
                conn.deadline = Instant::now() + self.config.timeout;
            }
            self.take(conn, full, answer, note)?;
            came?;
            if conn.closing && conn.has_sent_all() {
                conn.deadline = Instant::now() + LINGER;
                return conn.linger();
            }
            if came == Ok(false) {
                return Ok(());
            }
        }
        // More may be there already, decrypted.
        conn.eager = true;
        Ok(())
    }

    /// Takes the requests that are there, as long as their answers go.
    fn take(
        &self,
        conn: &mut Conn,
        full: bool,
        answer: &mut dyn FnMut(&[u8]) -> Answered,
        note: &mut dyn FnMut(Refused),
    ) -> std::result::Result<(), Over> {
        let secret = self.config.secret.expose().as_bytes();
        while !conn.closing && conn.has_sent_all() {
            conn.parser.keeps_heads = self.config.tap.wire_log.is_on();
            let mut refuse = |conn: &mut Conn, status, what| {
                let why = (status == 413).then(|| {
                    let most = self.config.max_bytes;
                    format!("option push_max_bytes allows {most} bytes, and may be raised")
                });
                // What does not go now is sent again.
                let lost = conn.parser.posts && status != 503;
                note(Refused { why, lost, ..Refused::of(what, conn.peer) });
                conn.closing = true;
                let answer = head(status, 0, true);
                self.config.tap.say_push(conn.number, conn.parser.shown(), &[], &answer, "");
                conn.say(answer.as_bytes());
            };
            match conn.parser.next(&mut conn.inbox, secret, self.config.max_bytes) {
                Step::More if full && conn.parser.held() > 0 => {
                    refuse(conn, 503, "too many bodies at a time")
                }
                Step::More => break,
                Step::Continue => conn.say(b"HTTP/1.1 100 Continue\r\n\r\n"),
                Step::Body { body, stays } => {
                    let (status, reply) = match answer(&body) {
                        Answered::Reply(reply) => (200, reply),
                        Answered::Later => (503, ""),
                        Answered::Bad(why) => {
                            let refused = Refused::of("a body that is no notification", conn.peer);
                            note(Refused { why: Some(why), lost: true, ..refused });
                            (400, "")
                        }
                    };
                    let answer = head(status, reply.len(), !stays);
                    self.config.tap.say_push(conn.number, conn.parser.shown(), &body, &answer, reply);
                    conn.closing = !stays;
                    conn.say(answer.as_bytes());
                    conn.say(reply.as_bytes());
                    let wait = if conn.inbox.is_empty() { IDLE } else { self.config.timeout };
                    conn.deadline = Instant::now() + wait;
                }
                Step::Refused(status, why) => refuse(conn, status, why),
            }
            conn.write()?;
        }
        Ok(())
    }
}

/// The pipe that wakes a thread of push could not be had.
pub(crate) fn no_pipe(whose: &str, e: rustix::io::Errno) -> Error {
    let text = format!("cannot make a pipe to wake {whose}: {e}; is a limit on open files met (ulimit -n)?");
    Error::new(ErrorKind::Io, text)
}

impl Refused {
    fn of(what: &'static str, peer: IpAddr) -> Refused {
        Refused { what, why: None, peer, lost: false }
    }
}

/// What a wait brought.
struct Ready {
    conns: Vec<bool>,
    listener: bool,
}

fn head(status: u16, length: usize, close: bool) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        _ => "Service Unavailable",
    };
    let kind = if length > 0 { "Content-Type: text/xml; charset=utf-8\r\n" } else { "" };
    let allow = if status == 405 { "Allow: POST\r\n" } else { "" };
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 {status} {reason}\r\n{kind}{allow}Content-Length: {length}\r\n{connection}\r\n")
}
