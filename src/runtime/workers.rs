//! The threads that ask the server things, and those that open streams: up to `workers` of each for a link, ended when idle.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::connection;
use super::content::{self, Fetched};
use super::core::{Core, closed};
use super::links::Watch;
use super::seek;
use super::threads::{guarded, lock};
use crate::engine::{Answer, CallId, ConnId, Input, Route, answer};
use crate::net::{Cancel, Cookies, Link, Post};
use crate::proto::{self, Body, Header, Request};
use crate::spooled::Place;
use crate::{Content, Error, ErrorKind, Result};

/// How long a worker waits for more to do before it ends.
const IDLE: Duration = Duration::from_secs(5);
/// Room for a TLS handshake and a request in a debug build (160 KiB are needed).
const STACK: usize = 1024 * 1024;

/// Something to ask.
pub(super) struct Job {
    pub what: What,
    pub watch: Arc<Watch>,
}

impl Job {
    /// Its number among the calls, or the streams.
    fn call(&self) -> u64 {
        match self.what {
            What::Call { call, .. } | What::Locate { call, .. } => call,
            What::Open { conn, .. } => conn,
        }
    }
}

/// What is asked of the server, and which way it goes.
pub(super) struct Asked {
    pub header: Header,
    pub request: Request,
    pub route: Option<Route>,
}

impl Asked {
    /// The mailbox that leads to the machine, and what the machine wants to be sent back.
    pub fn way<'a>(&'a self, watch: &'a Watch) -> (&'a str, Option<&'a Cookies>) {
        match &self.route {
            Some(route) => (&route.anchor, Some(&route.cookies)),
            None => (&watch.config.mailbox, None),
        }
    }
}

/// What comes of a job.
pub(super) enum What {
    /// An answer; a message has its place in the spool.
    Call { call: CallId, place: Option<Place>, asked: Asked },
    /// A stream, or its end.
    Open { conn: ConnId, cancel: Cancel, asked: Asked },
    /// The watch's server. `fresh`: what was found before is not to be believed. `begun`: what was asked already, and what is next.
    Locate { call: CallId, fresh: bool, begun: Option<Box<seek::Begun>> },
}

impl What {
    /// Whether it says good-bye to the server, and so is done while the client closes.
    fn is_goodbye(&self) -> bool {
        match self {
            What::Call { asked, .. } | What::Open { asked, .. } => is_goodbye(&asked.request),
            What::Locate { .. } => false,
        }
    }
}

pub(super) struct Workers {
    name: &'static str,
    max: usize,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    /// By link.
    pools: BTreeMap<u32, Pool>,
    /// What is under way; true where it says good-bye (Unsubscribe, what is done after an acknowledgement, or a Subscribe whose answer we need for one).
    running: BTreeMap<CallId, (Cancel, bool)>,
    closing: bool,
    stopped: bool,
}

#[derive(Default)]
struct Pool {
    queue: Queue,
    live: usize,
    idle: usize,
}

/// Jobs in turns of their watches: one that asks much holds up nobody.
#[derive(Default)]
struct Queue {
    of: BTreeMap<u64, VecDeque<Job>>,
    turns: VecDeque<u64>,
    len: usize,
}

impl Queue {
    fn push(&mut self, job: Job) {
        let watch = job.watch.id;
        let jobs = self.of.entry(watch).or_default();
        if jobs.is_empty() {
            self.turns.push_back(watch);
        }
        jobs.push_back(job);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Job> {
        let watch = self.turns.pop_front()?;
        let jobs = self.of.get_mut(&watch)?;
        let job = jobs.pop_front()?;
        match jobs.is_empty() {
            true => drop(self.of.remove(&watch)),
            false => self.turns.push_back(watch),
        }
        self.len -= 1;
        Some(job)
    }

    /// Takes the next jobs that fit, a watch's first at the most, each in its turn.
    fn along(&mut self, most: usize, mut fits: impl FnMut(&Job) -> bool) -> Vec<Job> {
        let mut taken = Vec::new();
        let of = &mut self.of;
        self.turns.retain(|watch| {
            let Some(jobs) = of.get_mut(watch) else { return false };
            if taken.len() < most && jobs.front().is_some_and(&mut fits) {
                taken.extend(jobs.pop_front());
            }
            let more = !jobs.is_empty();
            if !more {
                of.remove(watch);
            }
            more
        });
        self.len -= taken.len();
        taken
    }

    /// Takes those out that are not to be kept.
    fn retain(&mut self, mut keep: impl FnMut(&Job) -> bool) {
        for jobs in self.of.values_mut() {
            jobs.retain(&mut keep);
        }
        self.of.retain(|_, jobs| !jobs.is_empty());
        self.turns.retain(|watch| self.of.contains_key(watch));
        self.len = self.of.values().map(VecDeque::len).sum();
    }
}

impl Workers {
    pub fn new(name: &'static str, max: usize) -> Workers {
        Workers { name, max, state: Mutex::default(), ready: Condvar::new() }
    }

    /// Queues a job. An error is the job's answer: it was not queued.
    pub fn push(self: &Arc<Self>, core: &Arc<Core>, job: Job) -> Result<()> {
        let mut state = lock(&self.state);
        if state.stopped || (state.closing && !job.what.is_goodbye()) {
            return Err(closed());
        }
        let link = job.watch.endpoint;
        let pool = state.pools.entry(link).or_default();
        let call = job.call();
        pool.queue.push(job);
        if pool.idle >= pool.queue.len || pool.live >= self.max {
            self.ready.notify_all();
            return Ok(());
        }
        let started = core.threads.spawn(self.name, STACK, {
            let (workers, core) = (self.clone(), core.clone());
            move || work(&workers, &core, link)
        });
        match started {
            Ok(()) => pool.live += 1,
            // Another worker will come to it.
            Err(_) if pool.live > 0 => {}
            Err(e) => {
                pool.queue.retain(|job| job.call() != call);
                return Err(e);
            }
        }
        Ok(())
    }

    /// More of what waits for this link, to be done together with what a worker has; whatever cancels that cancels these.
    pub fn along(&self, link: u32, cancel: &Cancel, most: usize, fits: impl FnMut(&Job) -> bool) -> Vec<Job> {
        let mut state = lock(&self.state);
        let jobs = state.pools.get_mut(&link).map(|pool| pool.queue.along(most, fits)).unwrap_or_default();
        for job in &jobs {
            state.running.insert(job.call(), (cancel.clone(), job.what.is_goodbye()));
        }
        jobs
    }

    /// A call is not under way any more.
    pub fn over(&self, call: CallId) {
        lock(&self.state).running.remove(&call);
    }

    /// From here on only good-byes are said; what else is under way ends at once. The calls that will not be made.
    pub fn begin_close(&self) -> Vec<CallId> {
        let mut state = lock(&self.state);
        state.closing = true;
        for (cancel, goodbye) in state.running.values() {
            if !goodbye {
                cancel.cancel();
            }
        }
        let mut dropped = Vec::new();
        for pool in state.pools.values_mut() {
            pool.queue.retain(|job| match job.what {
                What::Call { call, .. } | What::Locate { call, .. } if !job.what.is_goodbye() => {
                    dropped.push(call);
                    false
                }
                _ => true,
            });
        }
        dropped
    }

    /// Ends everything now.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        for (cancel, _) in state.running.values() {
            cancel.cancel();
        }
        for pool in state.pools.values_mut() {
            pool.queue = Queue::default();
        }
        self.ready.notify_all();
    }

    /// The next job for a worker of this link; `None` ends the worker.
    fn take(&self, link: u32) -> Option<(Job, Cancel)> {
        let mut state = lock(&self.state);
        loop {
            let stopped = state.stopped;
            let pool = state.pools.entry(link).or_default();
            if let Some(job) = pool.queue.pop() {
                let cancel = match &job.what {
                    What::Call { call, .. } | What::Locate { call, .. } => {
                        let cancel = Cancel::new();
                        state.running.insert(*call, (cancel.clone(), job.what.is_goodbye()));
                        cancel
                    }
                    What::Open { cancel, .. } => cancel.clone(),
                };
                return Some((job, cancel));
            }
            if stopped {
                pool.live -= 1;
                return None;
            }
            pool.idle += 1;
            let (guard, waited) =
                self.ready.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            let pool = state.pools.entry(link).or_default();
            pool.idle -= 1;
            if waited.timed_out() && pool.queue.len == 0 {
                pool.live -= 1;
                return None;
            }
        }
    }
}

fn is_goodbye(request: &Request) -> bool {
    use Request::{DeleteItem, MarkRead, MoveItem, SubscribePull, SubscribeStreaming, Unsubscribe};
    // Of a push subscription nothing has to be taken off the server: it ends by what its notifications are answered.
    matches!(request, Unsubscribe { .. } | SubscribeStreaming { .. } | SubscribePull { .. })
        || matches!(request, MarkRead { .. } | MoveItem { .. } | DeleteItem { .. })
}

fn work(workers: &Arc<Workers>, core: &Arc<Core>, link: u32) {
    while let Some((Job { what, watch }, cancel)) = workers.take(link) {
        match what {
            What::Call { call, place, asked } => {
                let ask = || ask(core, &watch, &asked, place, &cancel);
                let result = guarded("asking the server", ask);
                workers.over(call);
                core.feed(Input::Called { call, result });
            }
            What::Open { conn, asked, .. } => connection::open(core, conn, &watch, &asked, &cancel),
            What::Locate { call, fresh, begun } => {
                let asker = seek::Seekers { workers, core, link, cancel: &cancel };
                asker.seek(call, fresh, begun, watch);
            }
        }
    }
}

/// Asks the server, and makes of its answer what the engine wants to know.
fn ask(core: &Core, watch: &Watch, asked: &Asked, place: Option<Place>, cancel: &Cancel) -> Result<Answer> {
    if let Request::GetItem { mime: true, .. } = &asked.request {
        let fetched = content::fetch(&core.spool, place, watch, &asked.header, &asked.request, cancel)?;
        return Ok(match fetched {
            Fetched::Message(item, mime) => Answer::Message { item, mime },
            Fetched::NotKept(why) => {
                let content = match why.kind() {
                    _ if why.is_too_large() => Content::TooLarge,
                    ErrorKind::Protocol => Content::Unreadable,
                    _ => Content::Unavailable,
                };
                Answer::NotKept { content, message: why.to_string() }
            }
        });
    }
    let (body, date) = exchange(&*watch.link, &asked.header, &asked.request, asked.way(watch), cancel)?;
    answer::of(&asked.request, body, date).map_err(|e| of_server(&*watch.link, e))
}

/// Whose answer it is that cannot be understood.
pub(super) fn of_server(link: &dyn Link, error: Error) -> Error {
    if error.kind() == ErrorKind::Protocol { error.context(link.whom()) } else { error }
}

/// One question, its answer's body, and the server's time; a fault is an error.
pub(super) fn exchange(
    link: &dyn Link,
    header: &Header,
    request: &Request,
    (anchor, cookies): (&str, Option<&Cookies>),
    cancel: &Cancel,
) -> Result<(Body, Option<SystemTime>)> {
    // One that subscribes to pushes has the secret URL in it.
    let body = Zeroizing::new(proto::write_request(request, header)?);
    let soap_action = proto::soap_action(request);
    let post = Post { body: &body, soap_action, anchor_mailbox: Some(anchor), cookies };
    let reply = link.call(&post, cancel)?;
    let read = proto::read_envelope(&reply.body).map_err(|e| e.context(request.operation()));
    match read.map_err(|e| of_server(link, e))?.body {
        Body::Fault(fault) => Err(proto::fault_error(&fault, request.operation())),
        body => Ok((body, reply.date)),
    }
}
