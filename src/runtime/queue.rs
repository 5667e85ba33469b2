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
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would cost an allocation an event"
)]
pub(super) enum Taken {
    Event(Event),
    TimedOut,
    Interrupted,
    Closed,
}

/// A bounded queue whose descriptor is readable while something is there to be taken, or it has ended.
///
/// The byte that makes it so is written and read with the lock released: whoever is woken by it finds the lock free.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    readable: PipeReader,
    signal: PipeWriter,
}

struct Inner {
    delivery: Delivery,
    /// Whether a byte lies in the pipe, or is about to.
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
        let inner = Inner { delivery: Delivery::new(limits), signalled: false, woken: false, ended: false };
        Ok(Queue { inner: Mutex::new(inner), readable, signal })
    }

    pub fn push(&self, event: Event) -> Pushed {
        self.change(|inner| inner.delivery.push(event))
    }

    /// Drops everything but `Closed` events, now and later.
    pub fn close(&self) {
        self.change(|inner| inner.delivery.close());
    }

    /// No event will come any more: once the queue is empty, waits say so.
    pub fn end(&self) {
        self.change(|inner| inner.ended = true);
    }

    /// Ends one wait: the one that is under way, else the next.
    pub fn wake(&self) {
        self.change(|inner| inner.woken = true);
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
        self.change(|inner| match inner.delivery.pop() {
            Some(mut event) => {
                if let Some(item) = &mut event.item {
                    item.told();
                }
                Some(Taken::Event(event))
            }
            None if std::mem::take(&mut inner.woken) => Some(Taken::Interrupted),
            None if inner.ended => Some(Taken::Closed),
            None => None,
        })
    }

    /// Changes the queue, and then the descriptor to fit.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = lock(&self.inner);
        let changed = change(&mut inner);
        let wanted = !inner.delivery.is_empty() || inner.woken || inner.ended;
        let signalled = std::mem::replace(&mut inner.signalled, wanted);
        drop(inner);
        // Each byte that is wanted is written once and each that is not is read once, in whatever order the threads come to
        // it: a read waits for the write that is due, and the pipe never holds more bytes than there are threads.
        let done = match (signalled, wanted) {
            (false, true) => (&self.signal).write_all(b"!"),
            (true, false) => (&self.readable).read_exact(&mut [0]),
            _ => Ok(()),
        };
        debug_assert!(done.is_ok(), "{done:?}");
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventKind;
    use crate::event::{ItemContent, Spooled};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::SystemTime;

    fn mail(dir: &Path, name: &str) -> (Event, PathBuf) {
        let path = dir.join(name);
        std::fs::write(&path, name).unwrap();
        let mut event = Event::new(EventKind::NewMail, 1, "ada".into(), SystemTime::UNIX_EPOCH);
        let spooled = Some(Spooled::new(path.clone()));
        event.item = Some(Box::new(ItemContent { spooled, ..ItemContent::default() }));
        (event, path)
    }

    // Messages of events that nobody will ever be told of would fill the spool, until no message fits any more, and lie
    // in the host's folder for ever.
    #[test]
    fn files_that_no_host_is_told_of_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::new(Limits { events: 2, bytes: 1 << 20 }).unwrap();
        let (event, told) = mail(dir.path(), "told");
        // One file may belong to several events.
        queue.push(event.clone());
        queue.push(event);
        let (event, overflown) = mail(dir.path(), "overflown");
        assert_eq!(queue.push(event), Pushed::Dropped);
        assert!(!overflown.exists());
        assert!(matches!(queue.take(None), Taken::Event(e) if e.kind == EventKind::NewMail));
        queue.close();
        assert!(told.exists());

        let queue = Queue::new(Limits { events: 2, bytes: 1 << 20 }).unwrap();
        let (event, waiting) = mail(dir.path(), "waiting");
        queue.push(event);
        assert!(waiting.exists());
        queue.close();
        let (event, late) = mail(dir.path(), "late");
        assert_eq!(queue.push(event), Pushed::Closed);
        assert!(!waiting.exists() && !late.exists());
    }

    // A wake-up that gets lost between many threads would leave events lying, or a thread waiting for ever.
    #[test]
    fn many_producers_and_consumers() {
        const EACH: usize = 5_000;
        let queue = Queue::new(Limits { events: 1 << 20, bytes: 1 << 30 }).unwrap();
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Taken::Event(_) | Taken::Interrupted = queue.take(None) {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let producers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..EACH {
                            queue.push(Event::new(EventKind::NewMail, 1, "a".into(), SystemTime::UNIX_EPOCH));
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.join().unwrap();
            }
            queue.end();
        });
        assert_eq!(taken.into_inner(), 4 * EACH);
        let mut fds = [PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1), "its end can be seen");
    }
}
