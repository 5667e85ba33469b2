//! Ending what blocks, from another thread.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Ends the operations that it was given to: waits for a look-up, a connection or a handshake, and blocked reads and
/// writes, return at once with an error of kind `Closed`. Clones are the same. It cannot be taken back.
///
/// ```
/// let cancel = ewsnotify::net::Cancel::new();
/// cancel.clone().cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    next: u64,
    by_id: HashMap<u64, Weak<dyn Wake>>,
}

/// Something that a thread sleeps on.
pub(crate) trait Wake: Send + Sync {
    /// Ends the sleep. The sleeper then looks at the [`Cancel`].
    fn wake(&self);
}

impl Cancel {
    /// Nothing cancelled yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends everything that this was given to, now and later. Any thread, any number of times; it never blocks for long.
    pub fn cancel(&self) {
        // Under the lock, so that whoever registers either sees the flag or is in the list.
        let sleepers = {
            let mut sleepers = self.sleepers();
            self.0.cancelled.store(true, Ordering::SeqCst);
            std::mem::take(&mut sleepers.by_id)
        };
        for sleeper in sleepers.values().filter_map(Weak::upgrade) {
            sleeper.wake();
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Has `sleeper` woken when this is cancelled, until the registration is dropped. Look at [`Cancel::is_cancelled`]
    /// after this and before going to sleep.
    pub(crate) fn register(&self, sleeper: Weak<dyn Wake>) -> Registration {
        let mut sleepers = self.sleepers();
        let id = sleepers.next;
        sleepers.next += 1;
        if !self.is_cancelled() {
            sleepers.by_id.insert(id, sleeper);
        }
        Registration { shared: self.0.clone(), id }
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        // Nothing panics while it is held; were it so, the map would still be whole.
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// Takes its sleeper out of the list when dropped.
pub(crate) struct Registration {
    shared: Arc<Shared>,
    id: u64,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(&self.id).finish()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner).by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    // A client that runs for a year must not keep an entry for each socket that it ever had.
    #[test]
    fn only_what_is_registered_is_woken_and_nothing_is_kept() {
        let cancel = Cancel::new();
        let (stays, gone) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let weak = |c: &Arc<Count>| Arc::downgrade(c) as Weak<dyn Wake>;
        let kept = cancel.register(weak(&stays));
        drop(cancel.register(weak(&gone)));
        assert_eq!(cancel.sleepers().by_id.len(), 1);
        cancel.cancel();
        cancel.cancel();
        drop(kept);
        let late = cancel.register(weak(&gone));
        assert_eq!((stays.0.load(Ordering::SeqCst), gone.0.load(Ordering::SeqCst)), (1, 0));
        assert_eq!(cancel.sleepers().by_id.len(), 0);
        drop(late);
    }
}
