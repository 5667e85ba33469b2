//! Closing, whatever hangs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::threads::lock;
use super::{Core, Picture};
use crate::engine::Input;
use crate::net::Cancel;
use crate::{Error, ErrorKind};

/// After `close` has told the server what the time allowed, every socket is shut and the threads only have to notice.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// No closing waits longer; the clock has no room for any time-out.
const LONGEST: Duration = Duration::from_secs(86_400 * 365);

impl Core {
    /// Ends everything; true once no thread is left. May be called from any thread, and again. `dealt_with`: the host is done with
    /// what it was given automatically.
    pub fn close(self: &Arc<Self>, timeout: Duration, dealt_with: bool) -> bool {
        let deadline = Instant::now() + timeout.min(LONGEST);
        // One with less time must not end the threads before what is left to be written was given to them.
        let begin = lock(&self.begin_close);
        if !self.closing.swap(true, Ordering::SeqCst) {
            if !dealt_with {
                self.with(|state| state.engine.leave_taken());
            }
            // Afterwards there are no watches.
            if self.saver.is_some() {
                self.with(|state| state.engine.done_with_taken(self.now()));
                *lock(&self.last) = Some(self.picture());
            }
            // First of all: what the cancelling of calls brings is not told any more.
            self.with(|state| self.drive(state, Input::Close));
            let dropped = self.workers.begin_close();
            self.with(|state| {
                for call in dropped {
                    self.drive(state, Input::Called { call, result: Err(closed()) });
                }
                // They have nothing to say to the server at the end: the host's own threads are let go at once.
                state.asides.values().for_each(Cancel::cancel);
            });
        }
        drop(begin);
        // A refresh token that the host has to keep comes before it hears that nothing more will; all others are not waited for here.
        self.links.accounts.finish_unkept(deadline);
        self.with(|state| state.ended = true);
        self.wait_finished(deadline);
        // The answer to a question for a token may bring the only refresh token that is good from now on.
        self.links.accounts.finish(deadline);
        self.stop();
        let ended = self.threads.wait(deadline + GRACE);
        lock(&self.state).watches.clear();
        ended
    }

    /// Shuts every socket and ends every thread, whatever it is doing.
    pub(super) fn stop(&self) {
        lock(&self.timer).stopped = true;
        self.timer_changed.notify_all();
        self.workers.stop();
        self.openers.stop();
        if let Some(listener) = &self.listener {
            listener.stop();
        }
        if let Some(drops) = &*lock(&self.drops) {
            drops.stop();
        }
        if let Some(saver) = &self.saver {
            saver.stop();
        }
        lock(&self.state).streams.values().for_each(Cancel::cancel);
        // Another closing, with more time, has nothing to wait for any more.
        *lock(&self.finished) = true;
        self.finished_changed.notify_all();
    }

    fn wait_finished(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.finished_changed.wait_timeout_while(lock(&self.finished), left, |finished| !*finished));
    }

    /// The last one, of a client that is closed.
    pub fn take_last_picture(&self) -> Option<Picture> {
        lock(&self.last).take()
    }
}

pub(in crate::runtime) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client is closed")
}
