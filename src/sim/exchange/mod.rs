//! Mailboxes, subscriptions and the SOAP operations on them. No socket here.
//!
//! [`Exchange`] is what tests, the demo and the server share: one lock over a `World`. Its methods that make things
//! happen in mailboxes are in `control`, the SOAP operations in `ops`, the streams in `stream`.

mod autodiscover;
mod back_ends;
mod beside;
mod budget;
mod change;
mod control;
mod ids;
mod item;
mod mailbox;
mod note;
mod ops;
mod push;
mod settings;
mod stream;
mod subscription;
mod sync;
mod tree;
mod trouble;
mod world;
mod write;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{Answer, Style};
use world::World;

pub use autodiscover::Guide;
pub use back_ends::Routing;
pub use change::Deletion;
pub use push::{Post, Posted, PushFault};
pub use settings::{Failure, Fate, Settings, Told};
pub use stream::Stream;

/// What a stream has to say next.
#[derive(Debug)]
pub enum Next {
    /// An envelope to write now.
    Envelope(Vec<u8>),
    /// The last envelope (`Closed`); after it the body ends.
    Last(Vec<u8>),
    /// Nothing for now: the wait was over.
    Idle,
}

/// All mailboxes of a simulated organisation. Shared by threads; every method locks for itself.
///
/// ```
/// use ewsnotify::sim::{Style, exchange::Exchange};
///
/// let exchange = Exchange::new(Style::Exchange);
/// exchange.add_mailbox("ada@example.test");
/// let id = exchange.deliver("ada@example.test", b"Subject: Lunch?\r\n\r\nAt noon.\r\n")?;
/// assert_eq!(exchange.item_ids("ada@example.test", "inbox")?, [id]);
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Debug)]
pub struct Exchange {
    world: Mutex<World>,
    /// Something happened that push subscriptions may have to tell. Each stream has a bell of its own.
    changed: Condvar,
    /// The first push subscription is there.
    hooked: Condvar,
}

impl Exchange {
    /// An organisation without mailboxes.
    pub fn new(style: Style) -> Exchange {
        Exchange { world: Mutex::new(World::new(style)), changed: Condvar::new(), hooked: Condvar::new() }
    }

    /// Whose way of speaking it has.
    pub fn style(&self) -> Style {
        self.lock().style
    }

    /// Answers one SOAP request of a signed-in user (an SMTP address).
    pub fn answer(&self, user: &str, soap: &[u8]) -> Answer {
        self.answer_at(user, &Routing::default(), soap).0
    }

    /// The same where there are several machines; and the `Set-Cookie` header that comes with the answer.
    pub fn answer_at(&self, user: &str, routing: &Routing<'_>, soap: &[u8]) -> (Answer, Option<String>) {
        let mut world = self.lock();
        let charge = match ops::admit(&mut world, user, soap) {
            Ok(charge) => charge,
            Err((status, body)) => return (Answer::Whole { status, body }, None),
        };
        world = self.work(world);
        let answer = ops::answer(&mut world, user, routing, soap);
        if let Some(charge) = charge {
            world.release(charge);
        }
        let hooked = !world.hooks.is_empty();
        drop(world);
        self.changed.notify_all();
        if hooked {
            self.hooked.notify_all();
        }
        answer
    }

    /// Waits until the stream has something to say, or `wait` is over. What it hands over is gone from the queue.
    pub fn next_envelope(&self, stream: &mut Stream, wait: Duration) -> Next {
        let until = Instant::now().checked_add(wait);
        let mut world = self.lock();
        let wakes = world.wakes;
        loop {
            if let Some(next) = stream.poll(&mut world) {
                return next;
            }
            let left = until.map(|u| u.saturating_duration_since(Instant::now()));
            if world.wakes != wakes || left.is_some_and(|l| l.is_zero()) {
                return Next::Idle;
            }
            let due = stream.due(&world).saturating_duration_since(world.now());
            let pause = left.map_or(due, |l| l.min(due));
            world = stream.bell.wait_timeout(world, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The socket of a stream is gone: its subscriptions queue again.
    pub fn drop_stream(&self, stream: Stream) {
        stream.release(&mut self.lock());
    }

    /// The server's clock, with what it was put forward.
    pub fn time(&self) -> SystemTime {
        self.lock().time()
    }

    /// Ends every wait in [`next_envelope`](Self::next_envelope) now; used when the server stops.
    pub fn wake_all(&self) {
        let mut world = self.lock();
        world.wakes += 1;
        world.ring_all();
        drop(world);
        self.changed.notify_all();
        self.hooked.notify_all();
    }

    /// The world is whole whenever the lock is free, so a panic of another thread harms nothing.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
