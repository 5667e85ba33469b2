//! The host's end of [`Delivery`]: waits sit in `poll(2)` on a descriptor, so a signal ends them at once.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::threads::lock;
use crate::engine::{Delivery, Limits, Pushed};
use crate::{Error, ErrorKind, Event, Result};

/// What a wait brought.
#[derive(Debug)]
pub(super) enum Taken {
    Event(Event),
    TimedOut,
    Interrupted,
    Closed,
}

/// A bounded queue whose descriptor is readable exactly while something is there to be taken, or it has ended.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    readable: PipeReader,
}

struct Inner {
    delivery: Delivery,
    signal: PipeWriter,
    /// Whether a byte lies in the pipe. There is never more than one, so neither end can block.
    signalled: bool,
    /// Somebody asked that one wait end.
    woken: bool,
    /// No event will come any more.
    ended: bool,
}

impl Queue {
    pub fn new(limits: Limits) -> Result<Queue> {
        let (readable, signal) = std::io::pipe().map_err(|e| {
            Error::new(ErrorKind::Io, format!("cannot make a pipe for the queue of events: {e}"))
        })?;
        let inner =
            Inner { delivery: Delivery::new(limits), signal, signalled: false, woken: false, ended: false };
        Ok(Queue { inner: Mutex::new(inner), readable })
    }

    pub fn push(&self, event: Event) -> Pushed {
        let mut inner = lock(&self.inner);
        let pushed = inner.delivery.push(event);
        inner.update(&self.readable);
        pushed
    }

    /// Drops everything but `Closed` events, now and later.
    pub fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.delivery.close();
        inner.update(&self.readable);
    }

    /// No event will come any more: once the queue is empty, waits say so.
    pub fn end(&self) {
        let mut inner = lock(&self.inner);
        inner.ended = true;
        inner.update(&self.readable);
    }

    /// Ends one wait: the one that is under way, else the next.
    pub fn wake(&self) {
        let mut inner = lock(&self.inner);
        inner.woken = true;
        inner.update(&self.readable);
    }

    pub fn len(&self) -> usize {
        lock(&self.inner).delivery.len()
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    pub fn take(&self, timeout: Option<Duration>) -> Taken {
        // A time-out too large for the clock is none.
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let wait = left.map(|d| Timespec {
                tv_sec: d.as_secs().min(1 << 30) as i64,
                tv_nsec: d.subsec_nanos().into(),
            });
            let mut fds = [PollFd::from_borrowed_fd(self.readable.as_fd(), PollFlags::IN)];
            match poll(&mut fds, wait.as_ref()) {
                Ok(0) if left.is_some_and(|d| d.as_secs() < 1 << 30) => {
                    return self.try_take().unwrap_or(Taken::TimedOut);
                }
                Err(Errno::INTR) => return self.try_take().unwrap_or(Taken::Interrupted),
                _ => {}
            }
        }
    }

    fn try_take(&self) -> Option<Taken> {
        let mut inner = lock(&self.inner);
        let taken = match inner.delivery.pop() {
            Some(event) => Some(Taken::Event(event)),
            None if std::mem::take(&mut inner.woken) => Some(Taken::Interrupted),
            None if inner.ended => Some(Taken::Closed),
            None => None,
        };
        inner.update(&self.readable);
        taken
    }
}

impl Inner {
    fn update(&mut self, mut readable: &PipeReader) {
        let wanted = !self.delivery.is_empty() || self.woken || self.ended;
        if wanted != self.signalled {
            // One byte in an empty pipe, or one byte out of a full one: neither can block, fail or be cut short but by a
            // signal, which std retries.
            let done = if wanted { self.signal.write_all(b"!") } else { readable.read_exact(&mut [0]) };
            debug_assert!(done.is_ok(), "{done:?}");
            self.signalled = wanted;
        }
    }
}
