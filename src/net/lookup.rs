//! Name look-ups. The system's resolver cannot be interrupted, so each runs on a thread that owns nothing but the name and
//! the place for the answer; whoever waits can leave. Waits for the same name share one look-up.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::cancel::{Cancel, Wake};
use super::counters::Counters;
use crate::{Error, ErrorKind, Result};

/// A look-up that hangs longer than this is not waited for by newcomers while fewer than [`PER_HOST`] hang: the resolver's
/// server may have changed meanwhile.
const STALE: Duration = Duration::from_secs(30);
const PER_HOST: usize = 3;
const IN_ALL: usize = 64;
/// Look-ups need little stack, but the system's modules for it (nss) are not ours to measure.
const STACK: usize = 256 * 1024;

/// From a name to addresses. Tests put their own behind it.
pub trait Resolve: Send + Sync + Debug {
    /// Blocks as long as it likes.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Look-ups with a bound on how many there are. Shared: one for the process, or one for a test.
#[derive(Debug)]
pub struct Lookups {
    resolve: Arc<dyn Resolve>,
    running: Arc<Mutex<HashMap<String, Vec<Arc<Lookup>>>>>,
}

impl Lookups {
    /// Look-ups by `resolve`.
    pub fn new(resolve: Arc<dyn Resolve>) -> Lookups {
        Lookups { resolve, running: Arc::default() }
    }

    /// Those of the whole process, by the system's resolver.
    pub fn system() -> Arc<Lookups> {
        static SYSTEM: OnceLock<Arc<Lookups>> = OnceLock::new();
        SYSTEM.get_or_init(|| Arc::new(Lookups::new(Arc::new(System)))).clone()
    }

    /// Waits for the addresses of `host` until `until`, or until cancelled. `option` says where the name stands, for texts: as
    /// ` in option proxy`, or nothing.
    pub(super) fn find(
        &self,
        host: &str,
        option: &str,
        until: Instant,
        cancel: &Cancel,
        counters: &Arc<Counters>,
    ) -> Result<Vec<IpAddr>> {
        let lookup = self.join(host)?;
        let _registered = cancel.register(Arc::downgrade(&lookup) as Weak<dyn Wake>);
        counters.lookup_waits();
        let outcome = lookup.wait(host, option, until, cancel, counters);
        counters.lookup_ended();
        outcome
    }

    /// A look-up for this host that is under way, or a new one.
    fn join(&self, host: &str) -> Result<Arc<Lookup>> {
        let mut running = locked(&self.running);
        let count: usize = running.values().map(Vec::len).sum();
        let of_host = running.entry(host.to_owned()).or_default();
        if let Some(newest) = of_host.last() {
            if newest.started.elapsed() < STALE || of_host.len() >= PER_HOST || count >= IN_ALL {
                return Ok(newest.clone());
            }
        } else if count >= IN_ALL {
            running.remove(host);
            return Err(connect(format!(
                "looking up {host:?}: {count} look-ups hang already; is the name server alive?"
            )));
        }
        let lookup =
            Arc::new(Lookup { started: Instant::now(), state: Mutex::default(), ready: Condvar::new() });
        self.spawn(host, &lookup)
            .map_err(|e| connect(format!("looking up {host:?}: no thread for it could be started: {e}")))?;
        of_host.push(lookup.clone());
        Ok(lookup)
    }

    fn spawn(&self, host: &str, lookup: &Arc<Lookup>) -> io::Result<()> {
        let (resolve, running) = (self.resolve.clone(), Arc::downgrade(&self.running));
        let (host, lookup) = (host.to_owned(), lookup.clone());
        let run = move || {
            let answer = resolve.resolve(&host).map_err(|e| e.to_string());
            if let Some(running) = running.upgrade() {
                let mut running = locked(&running);
                if let Some(of_host) = running.get_mut(&host) {
                    of_host.retain(|l| !Arc::ptr_eq(l, &lookup));
                    if of_host.is_empty() {
                        running.remove(&host);
                    }
                }
            }
            lookup.answered(answer);
        };
        // The thread is never joined: it ends when the resolver answers.
        crate::signals::blocked(|| {
            thread::Builder::new().name("ewsn-lookup".into()).stack_size(STACK).spawn(run).map(drop)
        })
    }
}

#[derive(Debug)]
struct Lookup {
    started: Instant,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answer: Option<Result<Vec<IpAddr>, String>>,
    /// The clients that gave it up, to be told when it ends.
    abandoned_by: Vec<Weak<Counters>>,
}

impl Lookup {
    fn wait(
        &self,
        host: &str,
        option: &str,
        until: Instant,
        cancel: &Cancel,
        counters: &Arc<Counters>,
    ) -> Result<Vec<IpAddr>> {
        let mut state = locked(&self.state);
        loop {
            if cancel.is_cancelled() {
                state.abandon(counters);
                return Err(Error::new(ErrorKind::Closed, format!("closed while {host:?} was looked up")));
            }
            match &state.answer {
                Some(Ok(found)) if found.is_empty() => {
                    return Err(connect(format!(
                        "looking up {host:?}: the name has no address: check the host's name{option}"
                    )));
                }
                Some(Ok(found)) => return Ok(found.clone()),
                Some(Err(why)) => {
                    let text = format!("looking up {host:?}: {why}: check the host's name{option}");
                    return Err(connect(text));
                }
                None => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.abandon(counters);
                return Err(connect(format!("looking up {host:?}: the name server gave no answer in time")));
            }
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn answered(&self, answer: Result<Vec<IpAddr>, String>) {
        let mut state = locked(&self.state);
        state.answer = Some(answer);
        for counters in state.abandoned_by.drain(..).filter_map(|c| c.upgrade()) {
            counters.abandoned_lookup_ended();
        }
        self.ready.notify_all();
    }
}

impl State {
    fn abandon(&mut self, counters: &Arc<Counters>) {
        let known = self.abandoned_by.iter().any(|c| c.as_ptr() == Arc::as_ptr(counters));
        if self.answer.is_none() && !known {
            counters.lookup_abandoned();
            self.abandoned_by.push(Arc::downgrade(counters));
        }
    }
}

impl Wake for Lookup {
    fn wake(&self) {
        // With the lock: a waiter that has looked at the flag before must be asleep by now.
        let _state = locked(&self.state);
        self.ready.notify_all();
    }
}

#[derive(Debug)]
struct System;

impl Resolve for System {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 0).to_socket_addrs()?.map(|a| a.ip()).collect())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one of these is held, and their values are whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(text: String) -> Error {
    Error::new(ErrorKind::Connect, text)
}
