//! The watches, and what the store has of each.

use std::sync::Arc;

use super::super::links::{Located, Watch};
use super::super::threads::lock;
use super::{Core, closed};
use crate::engine::{self, Answer, CallId, Input};
use crate::{Error, ErrorKind, Result};

impl Core {
    pub fn add(self: &Arc<Self>, watch: Watch, spec: engine::WatchSpec) -> Result<()> {
        self.with(|state| {
            state.beginning.remove(&*spec.name);
            if self.is_closing() {
                return Err(closed());
            }
            state.watches.insert(watch.id, Arc::new(watch));
            self.drive(state, Input::Add(Box::new(spec)));
            Ok(())
        })
    }

    pub fn remove(self: &Arc<Self>, watch: u64) -> Result<()> {
        self.with(|state| {
            // One that has ended is kept here until the server was told.
            if !state.engine.watches(watch) {
                return Err(Error::new(ErrorKind::Invalid, format!("there is no watch {watch}")));
            }
            self.drive(state, Input::Remove(watch));
            Ok(())
        })
    }

    pub fn watch(&self, watch: u64) -> Result<Arc<Watch>> {
        let found = lock(&self.state).watches.get(&watch).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there is no watch {watch}")))
    }

    /// What the store has of a watch, which [`add`](Self::add) begins. A second watch of the name would spoil it for the first; one
    /// that has ended is none.
    pub fn stored(self: &Arc<Self>, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut state = lock(&self.state);
        let kept = state.engine.kept_by_host(&format!("{name}/"));
        if self.saver.is_none() && kept.is_none() {
            return Ok(Vec::new());
        }
        let mut of_the_name = state.watches.values().filter(|w| *w.config.name() == *name);
        if state.beginning.contains(name) || of_the_name.any(|w| state.engine.keeps_state(w.id)) {
            let text = "there is a watch of this mailbox and these folders already, and both would keep their state in one place";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let again = !state.names.insert(name.to_owned());
        state.beginning.insert(name.to_owned());
        drop(state);
        if again {
            // What the one before it has left is on its way to the store. A disk that refuses is told by an event.
            let _ = self.settle(|engine, now| Ok(engine.write_all(now)));
        }
        let loaded = match (&self.saver, kept) {
            (Some(saver), None) => saver.load(&format!("{name}/")),
            (_, kept) => Ok(kept.unwrap_or_default()),
        };
        if loaded.is_err() {
            lock(&self.state).beginning.remove(name);
        }
        loaded
    }

    /// A watch's server was found, or was not.
    pub fn located(self: &Arc<Self>, call: CallId, watch: &Arc<Watch>, found: Result<Located>) {
        self.with(|state| {
            let result = found.map(|Located { endpoint, link, affinity }| {
                // Calls that are under way have the watch as it was.
                if let Some(known) = state.watches.get_mut(&watch.id) {
                    *known = Arc::new(Watch { endpoint, link, ..Watch::clone(known) });
                }
                Answer::Located { endpoint, affinity }
            });
            self.drive(state, Input::Called { call, result });
        });
    }
}
