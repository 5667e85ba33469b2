//! What blocks and cannot be interrupted, on a thread of its own: whoever waits for it can leave.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use super::cancel::{Cancel, Wake};
use crate::{Error, ErrorKind, Result};

/// Runs `run` and waits for it until `until`, or until cancelled. `what` is what is being done, for texts. Where nobody waits any more
/// the thread ends when `run` does, so that may own nothing that is waited for.
pub(crate) fn aside<T: Send + 'static>(
    what: &str,
    cancel: &Cancel,
    until: Instant,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    // Room for the outcome and the bell: neither ever waits.
    let (send, receive) = sync_channel(2);
    let bell = Arc::new(Bell(send.clone()));
    let _registered = cancel.register(Arc::downgrade(&bell) as Weak<dyn Wake>);
    if cancel.is_cancelled() {
        return Err(closed(what));
    }
    let run = move || {
        let outcome = catch_unwind(AssertUnwindSafe(run));
        let _ = send.send(Some(outcome));
    };
    crate::signals::blocked(|| thread::Builder::new().name("ewsn-aside".into()).spawn(run))
        .map_err(|e| Error::new(ErrorKind::Io, format!("{what}: no thread for it could be started: {e}")))?;
    match receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(Some(Ok(value))) => Ok(value),
        Ok(Some(Err(_))) => Err(Error::new(ErrorKind::Internal, format!("{what}: a bug: it panicked"))),
        Ok(None) => Err(closed(what)),
        Err(_) => Err(Error::new(ErrorKind::Connect, format!("{what}: no answer came in time"))),
    }
}

fn closed(what: &str) -> Error {
    Error::new(ErrorKind::Closed, format!("{what}: closed meanwhile"))
}

struct Bell<T>(SyncSender<Option<thread::Result<T>>>);

impl<T: Send> Wake for Bell<T> {
    fn wake(&self) {
        let _ = self.0.try_send(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    // Closing a client, or the end of a time-out, would wait for a KDC that says nothing.
    #[test]
    fn who_waits_can_leave() {
        let far = Instant::now() + Duration::from_secs(600);
        let cancel = Cancel::new();
        assert_eq!(aside("x", &cancel, far, || 7).unwrap(), 7);
        let (hold, held) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let other = cancel.clone();
        let waiting = thread::spawn(move || {
            aside("x", &other, far, move || {
                tell.send(()).unwrap();
                let _ = held.recv();
            })
        });
        told.recv().unwrap();
        cancel.cancel();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(aside("x", &cancel, far, || ()).unwrap_err().kind(), ErrorKind::Closed, "at once");
        drop(hold);

        let (hold, held) = mpsc::channel::<()>();
        let late = aside("x", &Cancel::new(), Instant::now(), move || held.recv().is_ok());
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Connect);
        drop(hold);
        let panicked: Result<()> = aside("x", &Cancel::new(), far, || panic!("of the test"));
        assert_eq!(panicked.unwrap_err().kind(), ErrorKind::Internal);
    }
}
