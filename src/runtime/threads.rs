//! The count of live threads: shut-down waits on it, never on `join` (which cannot time out, and panics where a thread
//! ends itself or in a forked child).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::{Error, ErrorKind, Result, signals};

/// A lock that a panic elsewhere does not close: what it guards is kept whole by its own methods.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(Arc<(Mutex<usize>, Condvar)>);

struct Counted(Threads);

impl Drop for Counted {
    fn drop(&mut self) {
        let (count, changed) = &*self.0.0;
        *lock(count) -= 1;
        changed.notify_all();
    }
}

impl Threads {
    /// Starts a thread that is counted until its last instruction of ours. A panic in it ends it quietly: whoever needs
    /// to hear of one catches it inside.
    pub fn spawn(&self, name: &str, stack: usize, run: impl FnOnce() + Send + 'static) -> Result<()> {
        *lock(&self.0.0) += 1;
        let counted = Counted(self.clone());
        let body = move || {
            let _counted = counted;
            let _ = catch_unwind(AssertUnwindSafe(run));
        };
        let start = || thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(body);
        match signals::blocked(start) {
            Ok(_) => Ok(()),
            // The closure was dropped, and with it the count.
            Err(e) => Err(Error::new(
                ErrorKind::Limit,
                format!("cannot start a thread ({name}): {e}; is a limit of the system met?"),
            )),
        }
    }

    pub fn count(&self) -> usize {
        *lock(&self.0.0)
    }

    /// Waits until no thread is left; false if the time was over before.
    pub fn wait(&self, deadline: Instant) -> bool {
        let (count, changed) = &*self.0;
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = changed.wait_timeout_while(lock(count), left, |live| *live > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

/// Runs something that must not end in silence: a panic becomes an error.
pub(super) fn guarded<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| s.to_string())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no text".into());
        Err(Error::new(ErrorKind::Internal, format!("a bug in ewsnotify ({what}): {text}; please report it")))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A bug of ours in a thread would end the host, or closing would wait for the thread for ever.
    #[test]
    fn a_panic_ends_its_thread_and_nothing_else() {
        let threads = Threads::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        threads
            .spawn("ewsn-test", 64 * 1024, move || {
                sender.send(()).unwrap();
                panic!("tripped");
            })
            .unwrap();
        receiver.recv().unwrap();
        assert!(threads.wait(Instant::now() + Duration::from_secs(60)));
        assert_eq!(threads.count(), 0);
        let failed = guarded("testing", || -> Result<()> { panic!("tripped {}", "again") }).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Internal);
        assert!(failed.to_string().contains("tripped again"), "{failed}");
    }
}
