//! What a client begins with: its settings, its store, its first threads.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::super::client::Pairs;
use super::super::links::Links;
use super::super::push;
use super::super::saver::Saver;
use super::super::signal::{Signal, Waker};
use super::super::spool::{self, Folder, Spool};
use super::super::status_file::StatusFile;
use super::super::threads::{Threads, lock};
use super::super::workers::Workers;
use super::closing::GRACE;
use super::timer::TIMER_STACK;
use super::{Core, State};
use crate::engine;
use crate::net::{Counters, Lookups, Tap};
use crate::options::ClientConfig;
use crate::store::embedded::Embedded;
use crate::store::refused::Refused;
use crate::{Error, ErrorKind, Result};

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
        if let Some(dir) = &config.state_dir {
            core.links.accounts.keep_refusals(Refused::open(dir));
        }
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
}
