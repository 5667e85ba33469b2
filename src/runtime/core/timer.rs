//! The thread that tells the engine when its time has come.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::threads::lock;
use super::Core;
use crate::engine::Input;

pub(super) const TIMER_STACK: usize = 256 * 1024;

#[derive(Default)]
pub(super) struct Timer {
    pub at: Option<Duration>,
    pub stopped: bool,
}

impl Core {
    pub(super) fn set_timer(&self, at: Option<Duration>) {
        let end = self.drained.map(|(at, _)| at).filter(|at| *at > self.started.elapsed());
        let at = [at, end].into_iter().flatten().min();
        let mut timer = lock(&self.timer);
        if timer.at != at {
            // A later time needs no wake-up: the thread looks again when the earlier one has come.
            let earlier = at.is_some_and(|at| timer.at.is_none_or(|old| at < old));
            timer.at = at;
            if earlier {
                self.timer_changed.notify_all();
            }
        }
    }

    /// The timer's thread.
    pub(super) fn tick(self: &Arc<Self>) {
        let mut timer = lock(&self.timer);
        while !timer.stopped {
            let now = self.started.elapsed();
            timer = match timer.at {
                Some(at) if at <= now => {
                    timer.at = None;
                    drop(timer);
                    self.feed(Input::Tick);
                    lock(&self.timer)
                }
                Some(at) => {
                    self.timer_changed.wait_timeout(timer, at - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.timer_changed.wait(timer).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
