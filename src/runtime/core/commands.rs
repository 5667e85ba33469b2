//! What the engine commands is executed, in its order; what it hears of that are its inputs.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::drops::Wish;
use super::super::log;
use super::super::threads::{guarded, lock};
use super::super::workers::{Asked, Job, What};
use super::{Core, State, closed};
use crate::engine::{Command, ConnId, Input};
use crate::net::Cancel;
use crate::proto::Request;
use crate::{Event, Level, Result};

impl Core {
    /// A stream is over.
    pub fn ended(self: &Arc<Self>, conn: ConnId, result: Result<()>) {
        self.with(|state| {
            state.streams.remove(&conn);
            self.drive(state, Input::Ended { conn, result });
        });
    }

    // lock: state. Commands are executed before the next input, in their order, so events are told in the engine's order.
    pub(super) fn drive(self: &Arc<Self>, state: &mut State, input: Input) {
        self.perform(state, VecDeque::from([input]));
    }

    /// Feeds inputs, and executes what is commanded.
    pub(super) fn perform(self: &Arc<Self>, state: &mut State, mut inputs: VecDeque<Input>) {
        loop {
            while let Some(command) = state.engine.poll() {
                if let Some(wanted) = self.log {
                    log::tell(state, &self.tap.secrets, self.now().wall, wanted, log::command(&command));
                }
                inputs.extend(self.execute(state, command));
            }
            // What is new of the spool comes first: a message that has filled it must not be followed by another.
            let news = self.spool.news().map(Input::SpoolFull);
            let Some(input) = news.or_else(|| inputs.pop_front()) else { break };
            let now = self.now();
            if let Some(wanted) = self.log {
                for remark in self.tap.take_remarks() {
                    log::tell(state, &self.tap.secrets, now.wall, wanted, log::line(Level::Info, 0, remark));
                }
                log::tell(state, &self.tap.secrets, now.wall, wanted, log::input(&input));
            }
            let handled = guarded("deciding what to do", || {
                state.engine.handle(now, input);
                Ok(())
            });
            if let Err(e) = handled {
                // Nothing may stop in silence, not even by a bug.
                state.engine.tell_trouble(Event::error(now.wall, &e));
            }
        }
        self.set_timer(state.engine.wake_at());
    }

    /// Begins what is commanded; what could not even begin comes back as an input.
    fn execute(self: &Arc<Self>, state: &mut State, command: Command) -> Option<Input> {
        match command {
            Command::Call { call, watch, version, request, route } => {
                let pushed = match state.watches.get(&watch) {
                    Some(watch) => {
                        let mime = matches!(request, Request::GetItem { mime: true, .. });
                        let place = mime.then(|| self.spool.place());
                        let asked = Asked { header: watch.header(version), request, route };
                        let what = What::Call { call, place, asked };
                        self.workers.push(self, Job { what, watch: watch.clone() })
                    }
                    None => Err(closed()),
                };
                pushed.err().map(|e| Input::Called { call, result: Err(e) })
            }
            Command::Locate { call, watch, fresh } => {
                let pushed = match state.watches.get(&watch) {
                    Some(watch) => {
                        let what = What::Locate { call, fresh, begun: None };
                        self.workers.push(self, Job { what, watch: watch.clone() })
                    }
                    None => Err(closed()),
                };
                pushed.err().map(|e| Input::Called { call, result: Err(e) })
            }
            Command::Open { conn, watch, version, request, route } => {
                let started = match state.watches.get(&watch) {
                    Some(watch) => {
                        let cancel = Cancel::new();
                        state.streams.insert(conn, cancel.clone());
                        let asked = Asked { header: watch.header(version), request, route };
                        let what = What::Open { conn, cancel, asked };
                        self.openers.push(self, Job { what, watch: watch.clone() })
                    }
                    None => Err(closed()),
                };
                started.err().map(|e| {
                    state.streams.remove(&conn);
                    Input::Ended { conn, result: Err(e) }
                })
            }
            Command::Abort(conn) => {
                if let Some(cancel) = state.streams.get(&conn) {
                    cancel.cancel();
                }
                None
            }
            Command::Save { save, changes } => match &self.saver {
                Some(saver) => {
                    saver.save(save, changes);
                    None
                }
                None => Some(Input::Saved { save, result: Ok(()) }),
            },
            Command::Unwanted(subscription) => {
                if let Some(drops) = &*lock(&self.drops) {
                    drops.note(subscription, Wish::Unwanted);
                }
                None
            }
            Command::Wanted(subscription) => {
                if let Some(drops) = &*lock(&self.drops) {
                    drops.note(subscription, Wish::Wanted);
                }
                None
            }
            Command::Forget(watch) => {
                state.watches.remove(&watch);
                None
            }
            Command::Finished => {
                *lock(&self.finished) = true;
                self.finished_changed.notify_all();
                None
            }
        }
    }
}
