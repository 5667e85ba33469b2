//! The engine under its lock, and what the threads of a client share.

mod closing;
mod commands;
mod start;
mod take;
mod timer;
mod watches;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

pub(super) use self::closing::closed;
use self::timer::Timer;
use super::drops::Drops;
use super::links::{Links, Watch};
use super::log;
use super::saver::Saver;
use super::signal::Signal;
use super::spool::Spool;
use super::status::Status;
use super::status_file;
use super::threads::{Threads, guarded, lock};
use super::workers::Workers;
use crate::auth::Secret;
use crate::engine::{self, ConnId, Engine, Input, Now, Pushed, SaveId};
use crate::net::{Cancel, Counters, Listener, Tap};
use crate::proto::{FrameLimits, Notification, RequestVersion, Response};
use crate::{Error, Event, Level, Result};

/// What the threads of a client share.
pub(super) struct Core {
    pub signal: Signal,
    /// Before `saver`, so that it goes first: while the state directory is still ours.
    pub spool: Spool,
    pub saver: Option<Arc<Saver>>,
    pub workers: Arc<Workers>,
    /// Those that open streams: one that is slow to open holds up no question.
    openers: Arc<Workers>,
    pub threads: Threads,
    pub counters: Arc<Counters>,
    pub links: Arc<Links>,
    pub tap: Arc<Tap>,
    /// Where servers send to, if the port is ours.
    pub listener: Option<Arc<Listener>>,
    /// Where a web process puts what servers send to it, if there is a state directory for that.
    drops: Mutex<Option<Arc<Drops>>>,
    drops_dir: Option<PathBuf>,
    /// What is put behind `push_url`, if the port is not ours.
    pub push_secret: Option<Secret>,
    pub max_push_bytes: usize,
    max_envelope_bytes: usize,
    started: Instant,
    /// When the client is to close by itself, and how long that may take.
    drained: Option<(Duration, Duration)>,
    log: Option<Level>,
    state: Mutex<State>,
    timer: Mutex<Timer>,
    timer_changed: Condvar,
    closing: AtomicBool,
    /// Held while closing begins.
    begin_close: Mutex<()>,
    finished: Mutex<bool>,
    finished_changed: Condvar,
    /// How it stood when it was closed.
    last: Mutex<Option<Picture>>,
}

/// How it stands, and what is parked.
pub(super) type Picture = (Status, Vec<engine::Parked>);

pub(super) struct State {
    pub engine: Engine,
    pub watches: BTreeMap<u64, Arc<Watch>>,
    /// Of all watches with a state that there ever were.
    names: BTreeSet<String>,
    /// Of those whose state is being read: they are no watches yet.
    beginning: BTreeSet<String>,
    streams: BTreeMap<ConnId, Cancel>,
    /// What the host's own threads are asking.
    asides: BTreeMap<u64, Cancel>,
    last_aside: u64,
    /// Whether a byte lies in the signal's pipe, or is about to.
    signalled: bool,
    /// No event will come any more.
    ended: bool,
}

impl State {
    fn new(settings: engine::Settings) -> State {
        State {
            engine: Engine::new(settings),
            watches: BTreeMap::new(),
            names: BTreeSet::new(),
            beginning: BTreeSet::new(),
            streams: BTreeMap::new(),
            asides: BTreeMap::new(),
            last_aside: 0,
            signalled: false,
            ended: false,
        }
    }
}

impl Core {
    /// Does something about what the host was given, and waits until it is in the store, if there is one.
    pub fn settle(
        self: &Arc<Self>,
        settle: impl FnOnce(&mut Engine, Now) -> Result<Option<SaveId>>,
    ) -> Result<()> {
        let save = self.with(|state| {
            let save = settle(&mut state.engine, self.now());
            self.perform(state, VecDeque::new());
            save
        })?;
        match (&self.saver, save) {
            (Some(saver), Some(save)) => saver.wait(save),
            _ => Ok(()),
        }
    }

    /// Begins to take what a web process puts into files, for a watch that hears by push.
    pub fn start_drops(self: &Arc<Self>) -> Result<()> {
        let mut drops = lock(&self.drops);
        // Under the lock: a closing that has begun may have passed here already, and would leave the thread behind.
        if self.is_closing() {
            return Err(closed());
        }
        if let (None, Some(dir)) = (&*drops, &self.drops_dir) {
            *drops = Some(Drops::start(self, dir, self.max_push_bytes)?);
        }
        Ok(())
    }

    /// Takes what a server has sent by itself.
    pub fn pushed(self: &Arc<Self>, messages: Vec<Response<Option<Notification>>>) -> Pushed {
        self.with(|state| {
            let now = self.now();
            let pushed = state.engine.pushed(now, messages);
            if let Some(wanted) = self.log {
                log::tell(state, &self.tap.secrets, now.wall, wanted, log::pushed(&pushed));
            }
            self.perform(state, VecDeque::new());
            pushed
        })
    }

    /// What a server has sent was refused, and would be again.
    pub fn push_refused(&self) {
        lock(&self.state).engine.push_refused();
    }

    /// Tells a line of the log that is of no watch.
    pub fn log(&self, level: Level, text: String) {
        if let Some(wanted) = self.log {
            self.with(|state| {
                log::tell(state, &self.tap.secrets, SystemTime::now(), wanted, log::line(level, 0, text))
            });
        }
    }

    /// Tells the engine what happened and does what follows.
    pub fn feed(self: &Arc<Self>, input: Input) {
        self.with(|state| self.drive(state, input));
    }

    /// Changes the state, and then the host's descriptor to fit.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let changed = change(&mut state);
        let wanted = state.engine.has_event() || state.ended || self.is_drained();
        let signalled = std::mem::replace(&mut state.signalled, wanted);
        drop(state);
        self.signal.set(signalled, wanted);
        changed
    }

    /// Tells the host of trouble that no watch has.
    pub fn tell_trouble(&self, error: &Error) {
        self.with(|state| state.engine.tell_trouble(Event::error(SystemTime::now(), error)));
    }

    /// Does something on the host's own thread that `close` can end.
    pub fn aside<T>(&self, run: impl FnOnce(&Cancel) -> Result<T>) -> Result<T> {
        let cancel = Cancel::new();
        let id = {
            let mut state = lock(&self.state);
            if self.is_closing() {
                return Err(closed());
            }
            state.last_aside += 1;
            let id = state.last_aside;
            state.asides.insert(id, cancel.clone());
            id
        };
        let result = guarded("asking the server", || run(&cancel));
        lock(&self.state).asides.remove(&id);
        result
    }

    /// In which version to ask an endpoint.
    pub fn version(&self, endpoint: u32) -> RequestVersion {
        lock(&self.state).engine.version(endpoint)
    }

    /// The version to ask in once more, if the error means that the server is older and none has worked yet.
    pub fn lower_version(
        &self,
        endpoint: u32,
        spoken: RequestVersion,
        error: &Error,
    ) -> Option<RequestVersion> {
        lock(&self.state).engine.version_refused(endpoint, spoken, error)
    }

    /// An endpoint has answered in a version.
    pub fn version_works(&self, endpoint: u32, version: RequestVersion) {
        lock(&self.state).engine.version_worked(endpoint, version);
    }

    pub fn frame_limits(&self) -> FrameLimits {
        FrameLimits::with_envelope(self.max_envelope_bytes)
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub fn status(&self) -> Status {
        let (engine, waiting) = {
            let state = lock(&self.state);
            (state.engine.status(), state.engine.waiting_events())
        };
        let push_listen = self.listener.as_ref().map(|listener| listener.address());
        let status = Status::new(engine, self.now().mono, waiting, self.threads.count(), &self.counters);
        Status { push_listen, ..status }
    }

    pub fn picture(&self) -> Picture {
        (self.status(), lock(&self.state).engine.first_parked(status_file::LISTED))
    }

    /// The engine's time after a wait.
    pub fn time_in(&self, wait: Duration) -> Duration {
        self.started.elapsed() + wait
    }

    fn now(&self) -> Now {
        Now { mono: self.started.elapsed(), wall: SystemTime::now() }
    }
}
