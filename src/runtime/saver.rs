//! The thread that writes the state and the status file, and those who wait for the state.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::core::{Core, closed};
use super::status_file::{OFTEN, StatusFile};
use super::threads::{guarded, lock};
use crate::engine::{Input, SaveId};
use crate::store::{Change, Store};
use crate::{Error, ErrorKind, Result};

/// Committing goes deep into the database.
const STACK: usize = 1024 * 1024;

/// Writes batches one after the other.
pub(super) struct Saver {
    store: Arc<dyn Store>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The batch to be written. The engine gives one at a time.
    batch: Option<(SaveId, Vec<Change>)>,
    /// The last one that was tried, and how it failed if so.
    tried: SaveId,
    failed: Option<(ErrorKind, String)>,
    stopped: bool,
}

impl Saver {
    pub fn new(store: Arc<dyn Store>) -> Saver {
        Saver { store, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Starts the thread.
    pub fn start(self: &Arc<Self>, core: &Arc<Core>, file: Option<StatusFile>) -> Result<()> {
        core.threads.spawn("ewsn-saver", STACK, {
            let (saver, core) = (self.clone(), core.clone());
            move || saver.work(&core, file)
        })
    }

    /// What the store has under a prefix, the keys without it.
    pub fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let pairs = self.store.load(prefix)?;
        Ok(pairs.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value)).collect())
    }

    /// Has a batch written; [`Input::Saved`] follows.
    pub fn save(&self, save: SaveId, changes: Vec<(String, Option<Vec<u8>>)>) {
        let changes = changes.into_iter().map(|(key, value)| Change { key, value }).collect();
        lock(&self.state).batch = Some((save, changes));
        self.changed.notify_all();
    }

    /// Waits until a batch is in the store for good; or why it is not so far.
    pub fn wait(&self, save: SaveId) -> Result<()> {
        let mut state = lock(&self.state);
        while state.tried < save {
            if state.stopped {
                return Err(closed());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // What could not be written then is in every later batch.
        match &state.failed {
            Some((kind, text)) => Err(Error::new(*kind, text.clone())),
            None => Ok(()),
        }
    }

    /// Ends the thread once what was given is written.
    pub fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }

    fn work(&self, core: &Arc<Core>, mut file: Option<StatusFile>) {
        let mut state = lock(&self.state);
        loop {
            if let Some((save, changes)) = state.batch.take() {
                drop(state);
                let result = guarded("writing the state", || self.store.commit(&changes));
                state = lock(&self.state);
                state.tried = save;
                state.failed = result.as_ref().err().map(|e| (e.kind(), e.to_string()));
                drop(state);
                self.changed.notify_all();
                core.feed(Input::Saved { save, result });
                state = lock(&self.state);
            } else if state.stopped {
                drop(state);
                if let (Some(mut file), Some(last)) = (file, core.take_last_picture()) {
                    file.end(last);
                }
                return;
            } else {
                state = self.changed.wait_timeout(state, OFTEN).unwrap_or_else(PoisonError::into_inner).0;
            }
            if let Some(file) = file.as_mut().filter(|_| !core.is_closing()) {
                drop(state);
                if let Err(e) = file.look(|| core.picture()) {
                    core.tell_trouble(&e);
                }
                state = lock(&self.state);
            }
        }
    }
}
