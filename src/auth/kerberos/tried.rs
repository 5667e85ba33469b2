//! What is known of a password or a keytab: a few wrong ones lock the account, and a silent KDC holds up whoever asks it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::auth::Context;

/// So long a password that was refused is not sent again.
const REFUSED_FOR: Duration = Duration::from_secs(300);
/// Whoever waits looks so often whether to end.
const TICK: Duration = Duration::from_millis(50);

/// Of all who have the password or keytab, one finds out whether it is right.
#[derive(Default)]
pub(super) struct Tried {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Default)]
enum Known {
    #[default]
    Nothing,
    /// Somebody is finding out.
    Trying,
    Good,
    Refused(Instant, Failure),
}

impl Tried {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The KDC has not answered in time: until it does, one asks again for all.
    pub fn doubt(&self) {
        let mut known = self.known();
        if matches!(*known, Known::Good) {
            *known = Known::Nothing;
        }
    }

    /// Waits for whoever is finding out, on the caller's own thread: one that nobody waits for any more must not wait on.
    pub fn claim(self: &Arc<Self>, cx: &Context<'_>) -> Result<Claim, Failure> {
        let claim = |finds_out| Claim { tried: self.clone(), finds_out, found: Known::Nothing };
        let mut known = self.known();
        loop {
            match &*known {
                Known::Refused(at, failure) if at.elapsed() < REFUSED_FOR => {
                    let mut failure = failure.clone();
                    failure.text += "; that was less than five minutes ago, and is not tried again so soon, since a few refusals lock the \
                                     account";
                    return Err(failure);
                }
                Known::Good => return Ok(claim(false)),
                Known::Nothing | Known::Refused(..) => {
                    *known = Known::Trying;
                    return Ok(claim(true));
                }
                Known::Trying if cx.cancel.is_cancelled() || Instant::now() >= cx.until => {
                    let text = "Kerberos: another connection's question to the KDC is not answered yet: does the KDC run?";
                    return Err(Failure::passing(text));
                }
                Known::Trying => {}
            }
            known = self.changed.wait_timeout(known, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The right to ask the KDC. Its end tells the others what is known by then, whatever it ends by.
pub(super) struct Claim {
    tried: Arc<Tried>,
    finds_out: bool,
    found: Known,
}

impl Claim {
    pub fn end<T>(mut self, begun: &Result<T, Failure>) {
        self.found = match begun {
            Ok(_) => Known::Good,
            Err(failure) if failure.is_refusal() => Known::Refused(Instant::now(), failure.clone()),
            Err(_) => Known::Nothing,
        };
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.finds_out || matches!(self.found, Known::Refused(..)) {
            *self.tried.known() = std::mem::take(&mut self.found);
            self.tried.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::net::{Cancel, Endpoint};

    fn claim(tried: &Arc<Tried>, cancel: &Cancel, wait: u64) -> Result<Claim, Failure> {
        let endpoint = Endpoint::parse("mail.example.test").unwrap();
        let until = Instant::now() + Duration::from_secs(wait);
        tried.claim(&Context { endpoint: &endpoint, certificate: None, cancel, until })
    }

    // Each call that a silent KDC has held up would leave a thread behind, which asks the KDC in its turn, for nobody: thousands in a day.
    #[test]
    fn one_asks_the_kdc_and_whoever_waits_for_it_can_leave() {
        let (tried, cancel) = (Arc::<Tried>::default(), Cancel::new());
        let first = claim(&tried, &cancel, 0).unwrap_or_else(|_| panic!("nobody asks yet"));
        let late = claim(&tried, &cancel, 0).err().unwrap();
        assert!(late.text.contains("not answered yet"), "{}", late.text);
        let (send, left) = channel();
        let waiting = |cancel: &Cancel| {
            let (tried, cancel, send) = (tried.clone(), cancel.clone(), send.clone());
            thread::spawn(move || send.send(claim(&tried, &cancel, 600).map_err(|e| e.text)).unwrap())
        };
        waiting(&cancel);
        cancel.cancel();
        assert!(left.recv().unwrap().is_err(), "closed");
        let next = waiting(&Cancel::new());
        drop(first);
        next.join().unwrap();
        let mut second = left.recv().unwrap().unwrap_or_else(|e| panic!("nothing was found out: {e}"));
        let (one, other) = (waiting(&Cancel::new()), waiting(&Cancel::new()));
        second.found = Known::Refused(Instant::now(), Failure::passing("wrong"));
        drop(second);
        one.join().unwrap();
        other.join().unwrap();
        for _ in 0..2 {
            assert!(
                left.recv().unwrap().err().unwrap().starts_with("wrong; that was less than five minutes ago")
            );
        }
    }

    // A KDC that falls silent later would hold up as many threads as there are connections.
    #[test]
    fn a_kdc_that_falls_silent_is_asked_by_one() {
        let (tried, cancel) = (Arc::<Tried>::default(), Cancel::new());
        let must = |wait| claim(&tried, &cancel, wait).unwrap_or_else(|e| panic!("{}", e.text));
        must(0).end(&Ok(()));
        let both = (must(0), must(0));
        tried.doubt();
        let one = must(0);
        assert!(claim(&tried, &cancel, 0).is_err(), "somebody asks");
        drop(both);
        one.end(&Ok(()));
        drop((must(0), must(0)));
    }
}
