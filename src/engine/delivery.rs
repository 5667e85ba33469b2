//! The bounded queue of events for the host, and what happens when it runs over.

use crate::Event;

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many events.
    pub events: usize,
    /// How many bytes, as [`Event`]s weigh in memory.
    pub bytes: usize,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    Queued,
    /// There was no room: it is dropped, and a `Gap` stands in its place (or in an earlier one's).
    Dropped,
}

/// Events on their way to the host.
#[derive(Debug)]
pub struct Delivery {
    limits: Limits,
}

impl Delivery {
    /// An empty queue.
    pub fn new(limits: Limits) -> Delivery {
        Delivery { limits }
    }

    /// Puts an event at the end.
    pub fn push(&mut self, _event: Event) -> Pushed {
        let _ = self.limits;
        todo!()
    }

    /// Takes the first one.
    pub fn pop(&mut self) -> Option<Event> {
        None
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
