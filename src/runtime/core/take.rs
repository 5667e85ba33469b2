//! What the host takes: the next event, and what is parked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::client::Next;
use super::super::signal::Waited;
use super::super::threads::lock;
use super::Core;
use crate::engine;

impl Core {
    /// Waits for the next event.
    pub fn take(self: &Arc<Self>, timeout: Option<Duration>) -> Next {
        // A time-out too large for the clock is none.
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            match self.signal.wait(deadline) {
                Waited::Ready => {}
                Waited::TimedOut => return self.try_take().unwrap_or(Next::TimedOut),
                Waited::Interrupted => {
                    let Some(taken) = self.try_take() else { return Next::Interrupted };
                    // The next wait ends at once instead: whoever was woken may have to end.
                    self.signal.wake();
                    return taken;
                }
            }
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Next> {
        if let Some((_, timeout)) = self.drained
            && self.is_drained()
        {
            self.close(timeout, true);
        }
        let (taken, awaited) = self.with(|state| {
            let mut event = state.engine.take(self.now());
            // The one place where events leave.
            event.iter_mut().for_each(|event| self.tap.secrets.clean_event(event));
            let awaited = state.engine.awaited();
            if let Some(item) = event.as_mut().and_then(|e| e.item.as_mut()) {
                item.told();
            }
            self.perform(state, VecDeque::new());
            let taken = match event {
                Some(event) => Some(Next::Event(event)),
                None if state.ended => Some(Next::Closed),
                None => None,
            };
            (taken, awaited)
        });
        if let (Some(saver), Some(save)) = (&self.saver, awaited) {
            // Where it cannot be written, the host is told by an event; this one is its own all the same.
            let _ = saver.wait(save);
        }
        taken
    }

    /// Whether the client's time is over, and nobody has closed it yet: whoever takes the next event does.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.is_some_and(|(at, _)| at <= self.started.elapsed()) && !self.is_closing()
    }

    /// Ends one wait: the one that is under way, else the next.
    pub fn wake(&self) {
        self.signal.wake();
    }

    /// What is parked.
    pub fn parked(&self) -> Vec<engine::Parked> {
        let mut parked = lock(&self.state).engine.parked();
        parked.iter_mut().for_each(|parked| self.tap.secrets.clean_event(&mut parked.event));
        parked
    }
}
