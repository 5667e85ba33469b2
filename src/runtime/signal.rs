//! The descriptor by which a host waits: waits sit in `poll(2)` on it, so a signal ends them at once.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

/// A pipe that is readable while something is there to be taken.
///
/// Its byte is written and read with the lock released that guards what is there: whoever is woken finds the lock free.
pub(super) struct Signal {
    readable: PipeReader,
    writable: PipeWriter,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    Ready,
    TimedOut,
    Interrupted,
}

impl Signal {
    pub fn new() -> Result<Signal> {
        let (readable, writable) = std::io::pipe().map_err(|e| {
            Error::new(ErrorKind::Io, format!("cannot make a pipe for the queue of events: {e}"))
        })?;
        Ok(Signal { readable, writable })
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
        match poll(&mut [PollFd::from_borrowed_fd(self.readable.as_fd(), PollFlags::IN)], wait.as_ref()) {
            Ok(0) if left.is_some_and(|d| d.as_secs() < 1 << 30) => Waited::TimedOut,
            Err(Errno::INTR) => Waited::Interrupted,
            _ => Waited::Ready,
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().min(1 << 30) as i64, tv_nsec: time.subsec_nanos().into() }
}
