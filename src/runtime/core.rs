//! The engine under its lock, and the execution of its commands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::client::Pairs;
use super::drops::{Drops, Wish};
use super::links::{Links, Located, Watch};
use super::log;
use super::push;
use super::saver::Saver;
use super::signal::{Signal, Waited, Waker};
use super::spool::{self, Folder, Spool};
use super::status::Status;
use super::status_file::{self, StatusFile};
use super::threads::{Threads, guarded, lock};
use super::workers::{Asked, Job, What, Workers};
use crate::auth::Secret;
use crate::engine::{self, Answer, CallId, Command, ConnId, Engine, Input, Now, Pushed, SaveId};
use crate::net::{Cancel, Counters, Listener, Lookups, Tap};
use crate::options::ClientConfig;
use crate::proto::{FrameLimits, Notification, Request, RequestVersion, Response};
use crate::store::embedded::Embedded;
use crate::{Error, ErrorKind, Event, Level, Result};

/// After `close` has told the server what the time allowed, every socket is shut and the threads only have to notice.
const GRACE: Duration = Duration::from_secs(5);
/// No closing waits longer; the clock has no room for any time-out.
const LONGEST: Duration = Duration::from_secs(86_400 * 365);
const TIMER_STACK: usize = 256 * 1024;

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

/// What a wait brought.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would cost an allocation an event"
)]
pub(super) enum Taken {
    Event(Event),
    TimedOut,
    Interrupted,
    Closed,
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

#[derive(Default)]
struct Timer {
    at: Option<Duration>,
    stopped: bool,
}

impl Core {
    /// `pairs`: the state, where the host keeps it.
    pub fn start(
        config: &ClientConfig,
        lookups: Arc<Lookups>,
        pairs: Option<Pairs>,
        waker: Arc<Waker>,
    ) -> Result<Arc<Core>> {
        let settings = engine::Settings {
            connections: config.connections,
            subscriptions_per_connection: config.subscriptions_per_connection,
            fetches: (config.workers / 2).max(1),
            syncs: (config.workers / 4).max(1),
            pending_events: config.pending_events,
            queue: engine::Limits { events: config.queue_events, bytes: config.queue_bytes },
            durable: config.state_dir.is_some() || pairs.is_some(),
            seed: fastrand::u64(..),
        };
        let saver = match &config.state_dir {
            Some(dir) => Some(Arc::new(Saver::new(Arc::new(Embedded::open(dir)?)))),
            None => None,
        };
        let folder = match (&config.spool_dir, &config.state_dir) {
            (Some(dir), _) => Folder::Host(dir.clone()),
            (None, Some(dir)) => Folder::State(dir.join("spool")),
            (None, None) => Folder::Private,
        };
        let (files, bytes) = (config.spool_files, config.spool_bytes);
        let counters = Arc::<Counters>::default();
        let tap = Arc::<Tap>::default();
        if let Some(path) = &config.trace_wire {
            tap.wire_log.write_to(Some(path)).map_err(|e| e.context("option trace_wire"))?;
        }
        let listener = push::listen(&config.push, &tap)?;
        let secret = listener.as_ref().map(|listener| listener.secret());
        if let Some(secret) = secret.or(config.push.secret.as_ref()) {
            tap.secrets.add(secret);
        }
        let core = Arc::new(Core {
            signal: Signal::new(waker)?,
            spool: Spool::open(spool::Settings { folder, files, bytes })?,
            saver,
            workers: Arc::new(Workers::new("ewsn-worker", config.workers)),
            openers: Arc::new(Workers::new("ewsn-opener", config.workers)),
            threads: Threads::default(),
            links: Links::new(counters.clone(), lookups, tap.clone()),
            tap,
            counters,
            drops: Mutex::new(None),
            drops_dir: config.state_dir.clone().filter(|_| listener.is_none()),
            listener,
            push_secret: config.push.secret.clone(),
            max_push_bytes: config.push.max_bytes,
            max_envelope_bytes: config.max_envelope_bytes,
            started: Instant::now(),
            drained: config.drain.map(|time| (time, config.close_timeout)),
            log: config.log,
            state: Mutex::new(State::new(settings)),
            timer: Mutex::default(),
            timer_changed: Condvar::new(),
            closing: AtomicBool::new(false),
            begin_close: Mutex::default(),
            finished: Mutex::new(false),
            finished_changed: Condvar::new(),
            last: Mutex::new(None),
        });
        core.links.accounts.tell(Arc::downgrade(&core));
        let teller = Arc::downgrade(&core);
        core.tap.wire_log.on_trouble(move |error| {
            if let Some(core) = teller.upgrade() {
                core.tell_trouble(&error);
            }
        });
        core.threads.spawn("ewsn-timer", TIMER_STACK, {
            let core = core.clone();
            move || core.tick()
        })?;
        core.set_timer(None);
        if let Err(e) = core.take_numbers(config, pairs).and_then(|()| core.start_listening()) {
            // Its threads would own the state directory for ever.
            core.stop();
            core.threads.wait(Instant::now() + GRACE);
            return Err(e);
        }
        Ok(core)
    }

    /// Takes the numbers of this run's events out of the state, if there is one.
    fn take_numbers(self: &Arc<Self>, config: &ClientConfig, pairs: Option<Pairs>) -> Result<()> {
        let stored = match (&self.saver, pairs) {
            (Some(saver), _) => {
                saver.start(self, config.state_dir.as_deref().map(StatusFile::new))?;
                saver.load(engine::NUMBERS)?.pop()
            }
            (None, Some(pairs)) => {
                let numbers = pairs.iter().find(|(key, _)| key == engine::NUMBERS).cloned();
                lock(&self.state).engine.keep_with_host(pairs);
                numbers
            }
            (None, None) => return Ok(()),
        };
        let first = match stored {
            None => 0,
            Some((_, text)) => {
                let read = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
                read.ok_or_else(|| {
                    let text = "the state's count of events cannot be read: it is damaged, or of another version; begin with \
                                an empty state";
                    Error::new(ErrorKind::State, text)
                })?
            }
        };
        self.settle(|engine, _| Ok(engine.start_numbers(first)))
    }

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

    /// Waits for the next event.
    pub fn take(self: &Arc<Self>, timeout: Option<Duration>) -> Taken {
        // A time-out too large for the clock is none.
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            match self.signal.wait(deadline) {
                Waited::Ready => {}
                Waited::TimedOut => return self.try_take().unwrap_or(Taken::TimedOut),
                Waited::Interrupted => return self.try_take().unwrap_or(Taken::Interrupted),
            }
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Taken> {
        if let Some((_, timeout)) = self.drained
            && self.is_drained()
        {
            self.close(timeout);
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
                Some(event) => Some(Taken::Event(event)),
                None if state.ended => Some(Taken::Closed),
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
    fn is_drained(&self) -> bool {
        self.drained.is_some_and(|(at, _)| at <= self.started.elapsed()) && !self.is_closing()
    }

    /// Ends one wait: the one that is under way, else the next.
    pub fn wake(&self) {
        self.signal.wake();
    }

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

    /// What is parked.
    pub fn parked(&self) -> Vec<engine::Parked> {
        let mut parked = lock(&self.state).engine.parked();
        parked.iter_mut().for_each(|parked| self.tap.secrets.clean_event(&mut parked.event));
        parked
    }

    pub fn watch(&self, watch: u64) -> Result<Arc<Watch>> {
        let found = lock(&self.state).watches.get(&watch).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there is no watch {watch}")))
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

    /// Tells the host of trouble that no watch has.
    pub fn tell_trouble(&self, error: &Error) {
        self.with(|state| state.engine.tell_trouble(Event::error(SystemTime::now(), error)));
    }

    /// A stream is over.
    pub fn ended(self: &Arc<Self>, conn: ConnId, result: Result<()>) {
        self.with(|state| {
            state.streams.remove(&conn);
            self.drive(state, Input::Ended { conn, result });
        });
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

    /// The last one, of a client that is closed.
    pub fn take_last_picture(&self) -> Option<Picture> {
        lock(&self.last).take()
    }

    /// Ends everything; true once no thread is left. May be called from any thread, and again.
    pub fn close(self: &Arc<Self>, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout.min(LONGEST);
        // One with less time must not end the threads before what is left to be written was given to them.
        let begin = lock(&self.begin_close);
        if !self.closing.swap(true, Ordering::SeqCst) {
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
    fn stop(&self) {
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
        let mut finished = lock(&self.finished);
        while !*finished {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            finished =
                self.finished_changed.wait_timeout(finished, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The engine's time after a wait.
    pub fn time_in(&self, wait: Duration) -> Duration {
        self.started.elapsed() + wait
    }

    fn now(&self) -> Now {
        Now { mono: self.started.elapsed(), wall: SystemTime::now() }
    }

    // lock: state. Commands are executed before the next input, in their order, so events are told in the engine's order.
    fn drive(self: &Arc<Self>, state: &mut State, input: Input) {
        self.perform(state, VecDeque::from([input]));
    }

    /// Feeds inputs, and executes what is commanded.
    fn perform(self: &Arc<Self>, state: &mut State, mut inputs: VecDeque<Input>) {
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
                        let job = Job { what: What::Locate { call, fresh }, watch: watch.clone() };
                        self.workers.push(self, job)
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

    fn set_timer(&self, at: Option<Duration>) {
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
    fn tick(self: &Arc<Self>) {
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

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client is closed")
}
