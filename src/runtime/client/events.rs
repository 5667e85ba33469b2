//! Events: waited for, taken, and what became of each.

use std::time::Duration;

use super::Client;
use crate::engine::{Nack, Parked};
use crate::{Event, Result};

/// What [`Client::next`] brought.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would cost an allocation an event"
)]
#[non_exhaustive]
pub enum Next {
    /// An event.
    Event(Event),
    /// The time was over before one came.
    TimedOut,
    /// A signal or [`Client::wake`] ended the wait.
    Interrupted,
    /// The client is closed, and every event was taken: none will come any more.
    Closed,
}

impl Client {
    /// Waits for the next event, for so long at the most. The wait sits in `poll(2)`, so a signal ends it at once. With
    /// `ack=manual` and a state directory, that an event is handed out is on the disk before it is given: a disk that hangs
    /// holds the call up beyond its time.
    ///
    /// With `ack=auto`, asking for the next event says that the last one has been dealt with. That is written within 100
    /// milliseconds, and by [`close`](Self::close): after a crash before that, the event comes again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ewsnotify::{Client, Next, Options};
    ///
    /// let client = Client::open(&Options::new())?;
    /// assert!(matches!(client.next(Duration::ZERO), Next::TimedOut));
    /// client.close();
    /// while let Next::Event(event) = client.next(Duration::MAX) {
    ///     assert_eq!(event.kind, ewsnotify::EventKind::Closed);
    /// }
    /// assert!(matches!(client.next(Duration::MAX), Next::Closed));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn next(&self, timeout: Duration) -> Next {
        self.core.take(Some(timeout))
    }

    /// The events, one after the other, until the client is closed. Signals and [`wake`](Self::wake) do not end it.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// client.close();
    /// assert_eq!(client.events().count(), 1); // the client's own Closed
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn events(&self) -> Events<'_> {
        Events { client: self }
    }

    /// Ends one wait in [`next`](Self::next): the one that is under way, else the next.
    ///
    /// ```
    /// # use ewsnotify::{Client, Next, Options};
    /// let client = Client::open(&Options::new())?;
    /// client.wake();
    /// assert!(matches!(client.next(std::time::Duration::MAX), Next::Interrupted));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn wake(&self) {
        self.core.wake();
    }

    /// Says that an event has been dealt with, by its `seq`: it will not be told again. Returns when that is durable, if the
    /// client has a state directory. For watches with `ack=manual`; with `ack=auto`, asking for the next event says it.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// let e = client.ack(7).unwrap_err(); // no event has been given
    /// assert_eq!(e.kind(), ewsnotify::ErrorKind::Invalid);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for an event that waits for no acknowledgement,
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) or [`ErrorKind::State`](crate::ErrorKind::State) where it could not be
    /// written: it is tried again, and until then a restart would tell the event again.
    pub fn ack(&self, seq: u64) -> Result<()> {
        self.core.settle(|engine, now| engine.ack(now, seq))
    }

    /// Says that an event could not be dealt with: it is told again later, or kept until it is released. Others do not wait
    /// for it. Returns when that is durable, if the client has a state directory: how often it was given, and that it is parked,
    /// are known after a restart, which gives what is not parked again at once.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// let e = client.nack(7, ewsnotify::Nack::Park).unwrap_err(); // no event has been given
    /// assert_eq!(e.kind(), ewsnotify::ErrorKind::Invalid);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack(&self, seq: u64, nack: Nack) -> Result<()> {
        self.core.settle(|engine, now| engine.nack(now, seq, nack))
    }

    /// The events that are parked.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert!(client.parked().is_empty());
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn parked(&self) -> Vec<Parked> {
        self.core.parked()
    }

    /// Tells a parked event again, by its `id` in [`parked`](Self::parked).
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert!(client.release(1).is_err()); // nothing is parked
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a number under which nothing is parked; else as
    /// [`ack`](Self::ack).
    pub fn release(&self, id: u64) -> Result<()> {
        self.core.settle(|engine, now| engine.release(now, id))
    }
}

/// The events of a client: see [`Client::events`].
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a Client,
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            match self.client.core.take(None) {
                Next::Event(event) => return Some(event),
                Next::Closed => return None,
                Next::TimedOut | Next::Interrupted => {}
            }
        }
    }
}

impl<'a> IntoIterator for &'a Client {
    type Item = Event;
    type IntoIter = Events<'a>;

    fn into_iter(self) -> Events<'a> {
        self.events()
    }
}
