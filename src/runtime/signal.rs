//! The descriptor by which a host waits: waits sit in `poll(2)` on it, so a signal ends them at once.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{Error, ErrorKind, Result};

/// A pipe that is readable while something is there to be taken.
///
/// Its byte is written and read with the lock released that guards what is there: whoever is woken finds the lock free.
pub(super) struct Signal {
    readable: PipeReader,
    writable: PipeWriter,
    waker: Arc<Waker>,
}

/// Ends waits, from any thread and without a lock, so also from a signal handler.
pub(crate) struct Waker {
    readable: OwnedFd,
    writable: OwnedFd,
}

impl Waker {
    pub fn new() -> Result<Arc<Waker>> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (readable, writable) = pipe_with(flags).map_err(|e| no_pipe(e.into()))?;
        Ok(Arc::new(Waker { readable, writable }))
    }

    /// Ends one wait: the one that is under way, else the next.
    pub fn wake(&self) {
        // A pipe that is full has woken them already.
        let _ = rustix::io::write(&self.writable, b"!");
    }

    /// Sleeps so long, where nothing else is waited for.
    pub fn sleep(&self, time: Duration) -> Waited {
        let mut fds = [PollFd::from_borrowed_fd(self.readable.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(time))) {
            Ok(0) => Waited::TimedOut,
            Err(Errno::INTR) => Waited::Interrupted,
            _ => Waited::Ready,
        }
    }

    /// A descriptor on which a byte wakes, too.
    pub fn as_writable(&self) -> BorrowedFd<'_> {
        self.writable.as_fd()
    }

    /// Whether somebody has woken since the last time.
    fn was_used(&self) -> bool {
        matches!(rustix::io::read(&self.readable, &mut [0; 64]), Ok(n) if n > 0)
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    TimedOut,
    Interrupted,
}

impl Signal {
    pub fn new(waker: Arc<Waker>) -> Result<Signal> {
        let (readable, writable) = std::io::pipe().map_err(no_pipe)?;
        Ok(Signal { readable, writable, waker })
    }

    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Makes the descriptor fit what is there now, where it stood for what `was` there.
    pub fn set(&self, was: bool, is: bool) {
        // Each byte that is wanted is written once and each that is not is read once, in whatever order the threads come to
        // it: a read waits for the write that is due, and the pipe never holds more bytes than there are threads.
        let done = match (was, is) {
            (false, true) => (&self.writable).write_all(b"!"),
            (true, false) => (&self.readable).read_exact(&mut [0]),
            _ => Ok(()),
        };
        debug_assert!(done.is_ok(), "{done:?}");
    }

    /// Waits until something is there, up to the deadline.
    pub fn wait(&self, deadline: Option<Instant>) -> Waited {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let wait = left.map(timespec);
        let ready = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [ready(self.readable.as_fd()), ready(self.waker.readable.as_fd())];
        match poll(&mut fds, wait.as_ref()) {
            Ok(0) if left.is_some_and(|d| d.as_secs() < 1 << 30) => Waited::TimedOut,
            Err(Errno::INTR) => Waited::Interrupted,
            // What is there comes first; another thread may have been woken instead of this one.
            Ok(1..) if fds[0].revents().is_empty() && self.waker.was_used() => Waited::Interrupted,
            _ => Waited::Ready,
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

fn no_pipe(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot make a pipe for the queue of events: {e}"))
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().min(1 << 30) as i64, tv_nsec: time.subsec_nanos().into() }
}
