//! One TCP socket: never blocks but in `poll(2)`, until a time that is said, and can be ended from another thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::cancel::{Cancel, Registration, Wake};
use super::counters::Counters;

/// A second address is tried when the first has not answered for this long (RFC 8305 says 250 ms).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
const MAX_ADDRESSES: usize = 8;
/// Where shutting a socket down does not wake a wait for its connection (Linux wakes), the flag is looked at this often.
const TICK: Duration = Duration::from_millis(50);

/// Why a wait ended without what was waited for.
#[derive(Debug)]
pub(super) enum Stop {
    Cancelled,
    TimedOut,
    Io(io::Error),
}

/// Until when, and by whom, a wait may be ended.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub cancel: Cancel,
    pub until: Instant,
}

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    counters: Arc<Counters>,
}

impl Socket {
    /// Connects to the first of the addresses that answers, and has the socket ended by `limits.cancel` from then on.
    pub fn connect(
        addresses: &[SocketAddr],
        limits: &Limits,
        counters: &Arc<Counters>,
    ) -> Result<(Arc<Socket>, Registration), Stop> {
        let mut to_try = addresses.iter().take(MAX_ADDRESSES);
        let mut trying: Vec<Attempt> = Vec::new();
        let mut last =
            Stop::Io(io::Error::new(io::ErrorKind::AddrNotAvailable, "there is no address to connect to"));
        let mut next_at = Instant::now();
        loop {
            // First: a cancel makes those under way fail, and that is not to be told as the server's doing.
            if limits.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            if trying.is_empty() || Instant::now() >= next_at {
                match to_try.next() {
                    Some(address) => {
                        next_at = Instant::now() + NEXT_ADDRESS;
                        match Socket::start(*address, &limits.cancel, counters) {
                            Ok(started) => trying.push(started),
                            Err(e) => last = Stop::Io(describe(e, *address)),
                        }
                    }
                    None if trying.is_empty() => return Err(last),
                    // Nothing more to try: wait for those under way.
                    None => next_at = limits.until,
                }
            }
            if Instant::now() >= limits.until {
                return Err(Stop::TimedOut);
            }
            let tick = Instant::now() + TICK;
            if trying.is_empty() {
                continue;
            }
            let ready = wait_any(&trying, next_at.min(limits.until).min(tick))?;
            for at in ready.into_iter().rev() {
                let Attempt { socket, registration, address } = trying.swap_remove(at);
                let e = match sockopt::socket_error(&socket.stream) {
                    Ok(Ok(())) if socket.stream.peer_addr().is_ok() => {
                        counters.socket_connected();
                        return Ok((socket, registration));
                    }
                    // Shut down by a cancel, which the head of the loop sees.
                    Ok(Ok(())) => io::ErrorKind::NotConnected.into(),
                    Ok(Err(e)) | Err(e) => e.into(),
                };
                last = Stop::Io(describe(e, address));
            }
        }
    }

    /// Begins to connect.
    fn start(address: SocketAddr, cancel: &Cancel, counters: &Arc<Counters>) -> io::Result<Attempt> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = new_socket(family)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        keep_alive(&fd)?;
        counters.socket_created();
        let socket = Arc::new(Socket { stream: TcpStream::from(fd), counters: counters.clone() });
        let registration = cancel.register(Arc::downgrade(&socket) as Weak<dyn Wake>);
        match rustix::net::connect(&socket.stream, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Attempt { socket, registration, address }),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads some bytes; 0 at the end. `ready`: bytes are expected to be there, so reading is tried before waiting.
    pub fn read(&self, buf: &mut [u8], limits: &Limits, mut ready: bool) -> Result<usize, Stop> {
        loop {
            if !ready {
                self.wait(PollFlags::IN, limits)?;
            }
            if limits.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            ready = false;
            match (&self.stream).read(buf) {
                // The end, or our own doing.
                Ok(0) | Err(_) if limits.cancel.is_cancelled() => return Err(Stop::Cancelled),
                Ok(n) => {
                    self.counters.read(n);
                    return Ok(n);
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(Stop::Io(e)),
            }
        }
    }

    /// Waits until there is something to read, if only the end.
    pub fn wait_readable(&self, limits: &Limits) -> Result<(), Stop> {
        self.wait(PollFlags::IN, limits)
    }

    /// Writes some bytes.
    pub fn write(&self, buf: &[u8], limits: &Limits) -> Result<usize, Stop> {
        loop {
            if limits.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            match (&self.stream).write(buf) {
                Ok(n) => {
                    self.counters.wrote(n);
                    return Ok(n);
                }
                Err(_) if limits.cancel.is_cancelled() => return Err(Stop::Cancelled),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::OUT, limits)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Stop::Io(e)),
            }
        }
    }

    /// What is there without waiting: `None` for nothing yet, 0 bytes for the end.
    pub fn peek_now(&self) -> io::Result<Option<usize>> {
        match self.stream.peek(&mut [0]) {
            Ok(n) => Ok(Some(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn wait(&self, what: PollFlags, limits: &Limits) -> Result<(), Stop> {
        loop {
            if limits.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            let left = limits.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Stop::TimedOut);
            }
            match poll(&mut [PollFd::new(&self.stream, what)], Some(&timespec(left))) {
                Ok(0) | Err(Errno::INTR) => {}
                // A cancel shuts the socket down, which is an event too: the caller looks at the flag.
                Ok(_) => return Ok(()),
                Err(e) => return Err(Stop::Io(e.into())),
            }
        }
    }
}

/// A connection on its way.
struct Attempt {
    socket: Arc<Socket>,
    registration: Registration,
    address: SocketAddr,
}

impl Wake for Socket {
    fn wake(&self) {
        // It fails where the socket is not connected (any more): then nobody sleeps on it for long.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.counters.socket_closed();
    }
}

/// The places of those that are connected or failed.
fn wait_any(trying: &[Attempt], until: Instant) -> Result<Vec<usize>, Stop> {
    let fds: Vec<BorrowedFd<'_>> = trying.iter().map(|a| a.socket.stream.as_fd()).collect();
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)).collect();
    match poll(&mut polled, Some(&timespec(until.saturating_duration_since(Instant::now())))) {
        Ok(_) => Ok((0..polled.len()).filter(|at| !polled[*at].revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(Vec::new()),
        Err(e) => Err(Stop::Io(e.into())),
    }
}

/// A peer that vanished without a word is noticed after some minutes even where no time-out of ours applies.
fn keep_alive(fd: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(fd, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(fd, 4)?;
    Ok(())
}

#[cfg(not(target_vendor = "apple"))]
fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

#[cfg(target_vendor = "apple")]
fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let fd = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

fn describe(e: io::Error, address: SocketAddr) -> io::Error {
    io::Error::new(e.kind(), format!("{address}: {e}"))
}

/// Rounded up to a millisecond, so that a wait for the last instant does not spin.
fn timespec(left: Duration) -> Timespec {
    let left = left.max(Duration::from_millis(1));
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX / 4),
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}
