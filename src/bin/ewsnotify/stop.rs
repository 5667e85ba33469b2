//! SIGINT and SIGTERM: the first asks the command to end in order, the second ends it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ewsnotify::Client;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Outcome};

/// Whether the user wants the command to end.
#[derive(Clone)]
pub struct Stop(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    requested: bool,
    /// The client that is to be told then, and how. Listening goes on to the last, and must not keep a client that is to be
    /// dropped.
    told: Option<Told>,
}

struct Told {
    client: Weak<Client>,
    how: fn(&Client),
}

impl Stop {
    /// Listens for signals from now on.
    pub fn listen() -> Outcome<Stop> {
        let stop = Stop(Arc::default());
        let failed = |e| Failure::failed(format!("cannot listen for signals: {e}"));
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let thread = std::thread::Builder::new().name("signals".into()).stack_size(128 * 1024);
        let listener = stop.clone();
        let run = move || {
            for signal in signals.forever() {
                if !listener.request() {
                    // As if nobody had listened.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        };
        thread.spawn(run).map_err(failed)?;
        Ok(stop)
    }

    /// Whether the end was asked for.
    pub fn requested(&self) -> bool {
        self.lock().requested
    }

    /// From now on a signal ends this client's wait in `next`.
    pub fn wake(&self, client: &Arc<Client>) {
        self.tell(client, Client::wake);
    }

    /// From now on a signal closes this client, and so ends what is asked of it.
    pub fn close(&self, client: &Arc<Client>) {
        self.tell(client, |client| {
            client.close_within(Duration::ZERO);
        });
    }

    /// Lets this client go, with its files; from then on a signal ends the command as if nobody had listened. Says whether one
    /// has come before.
    pub fn let_go(&self, client: Arc<Client>) -> bool {
        // First, so that no copy is left at the listener: the last one to go takes the files with it, and we wait for that.
        self.lock().told = None;
        drop(client);
        std::mem::replace(&mut self.lock().requested, true)
    }

    fn tell(&self, client: &Arc<Client>, how: fn(&Client)) {
        let mut state = self.lock();
        state.told = Some(Told { client: Arc::downgrade(client), how });
        if state.requested {
            how(client);
        }
    }

    /// Waits for the end, for so long at the most; says whether it was asked for.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        let until = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut state = self.lock();
        while !state.requested {
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// False if it was asked for before.
    fn request(&self) -> bool {
        let mut state = self.lock();
        let first = !std::mem::replace(&mut state.requested, true);
        if let Some(told) = &state.told
            && let Some(client) = told.client.upgrade()
        {
            (told.how)(&client);
        }
        self.0.1.notify_all();
        first
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
