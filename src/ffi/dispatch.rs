//! Callbacks: on the host's own thread, or on one of the library's.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use super::client::{Handle, find, next};
use super::error::{Failure, guard};
use super::handle;
use super::{EWSN_CLOSED, EWSN_E_CLOSED, EWSN_E_STATE, EWSN_OK, event, ewsn_client, ewsn_event, ewsn_status};
use crate::runtime::Threads;
use crate::{Client, Event};

/// Takes an event, which is freed when it returns: `ewsn_event_dup` keeps it. Any function of the library may be called in it,
/// `ewsn_close` and `ewsn_free` too.
pub type ewsn_event_fn = Option<
    unsafe extern "C-unwind" fn(user: *mut c_void, client: *mut ewsn_client, event: *const ewsn_event),
>;

/// Says that `user` is not needed any more. It must return.
pub type ewsn_drop_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

struct Callback {
    run: unsafe extern "C-unwind" fn(*mut c_void, *mut ewsn_client, *const ewsn_event),
    user: *mut c_void,
    drop: ewsn_drop_fn,
}

// SAFETY: the header asks for a `user` that any thread may be given which calls `ewsn_dispatch`, or, with option
// dispatch=thread, that the library's thread may be given.
unsafe impl Send for Callback {}
// SAFETY: as above; nothing is written.
unsafe impl Sync for Callback {}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: it is called once, with the pointer that it came with.
            unsafe { drop(self.user) };
        }
    }
}

/// What is called for events, and by whom.
pub(super) struct Dispatcher {
    /// Whether it is called on a thread of the library's.
    threaded: bool,
    callback: Mutex<Option<Arc<Callback>>>,
    /// That something was registered, or nothing is to be called any more.
    changed: Condvar,
    stopped: AtomicBool,
    threads: Threads,
    started: Mutex<bool>,
    /// The library's thread, once it runs.
    thread: OnceLock<ThreadId>,
}

impl Dispatcher {
    pub fn new(threaded: bool) -> Dispatcher {
        Dispatcher {
            threaded,
            callback: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            threads: Threads::default(),
            started: Mutex::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Refuses where events are for the library's thread.
    pub fn is_host(&self) -> Result<(), Failure> {
        let text = "option dispatch=thread: events go to the callback, on the library's thread";
        if self.threaded { Err(Failure::new(EWSN_E_STATE, text)) } else { Ok(()) }
    }

    /// A bug while the callback is looked at.
    #[cfg(test)]
    pub fn trip(&self) -> Result<ewsn_status, Failure> {
        let callback = self.callback();
        panic!("something is registered: {}", callback.is_some())
    }

    fn replace(&self, new: Option<Arc<Callback>>) {
        let old = std::mem::replace(&mut *self.callback(), new);
        self.changed.notify_all();
        // Without the lock: its `drop` may call us.
        drop(old);
    }

    fn callback(&self) -> std::sync::MutexGuard<'_, Option<Arc<Callback>>> {
        self.callback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event that is there and whom to call for it, once somebody is registered: what is taken counts as dealt with when
    /// the client is closed, so nothing is taken for nobody.
    fn take(&self, client: &Client) -> Result<(Arc<Callback>, Event), ewsn_status> {
        let mut registered = self.callback();
        loop {
            if self.stopped.load(Ordering::SeqCst) {
                return Err(EWSN_CLOSED);
            }
            if let Some(callback) = &*registered {
                return next(client, 0).map(|event| (callback.clone(), event));
            }
            registered = self.changed.wait(registered).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The client is closed: the library's thread has only its last events to tell, if anybody wants them. False where it
    /// has not ended by then.
    pub fn closed(&self, until: Instant) -> bool {
        {
            let callback = self.callback();
            if callback.is_none() {
                self.stopped.store(true, Ordering::SeqCst);
            }
        }
        self.changed.notify_all();
        // One that waits for itself would wait for ever.
        self.thread.get() == Some(&thread::current().id()) || self.threads.wait(until)
    }

    /// The client is gone: nothing is called any more, but for what is under way.
    pub fn forget(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.replace(None);
    }

    /// Begins to call, on a thread of the library's.
    fn start(client: &Arc<Handle>, c: *mut ewsn_client) -> Result<(), Failure> {
        /// As much as C programs are used to.
        const STACK: usize = 8 << 20;
        let dispatcher = &client.dispatcher;
        let mut started = dispatcher.started.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            let (client, address) = (client.clone(), c.expose_provenance());
            dispatcher.threads.spawn("ewsn-dispatch", STACK, move || {
                call_all(&client, std::ptr::with_exposed_provenance_mut(address));
            })?;
            *started = true;
        }
        Ok(())
    }
}

/// The library's thread: calls what is registered for one event after the other, until none will come any more.
fn call_all(client: &Handle, c: *mut ewsn_client) {
    let _ = client.dispatcher.thread.set(thread::current().id());
    loop {
        let (callback, event) = match client.dispatcher.take(&client.client) {
            Ok(taken) => taken,
            Err(EWSN_CLOSED) => return,
            Err(_) => {
                let _ = poll(&mut [PollFd::new(&client.client, PollFlags::IN)], None);
                continue;
            }
        };
        if let Ok(event) = handle::insert_event(event::Handle::new(event)) {
            // SAFETY: the host has registered it with this `user`, and it must return: the header says so.
            unsafe { (callback.run)(callback.user, c, event) };
            event::ewsn_event_free(event);
        }
    }
}

/// Registers what is called for each event; NULL takes it off. `user` is passed on. `drop` (may be NULL) is called exactly once,
/// when another takes its place or the client is freed.
///
/// With option `dispatch=host`, the default, `ewsn_dispatch` calls it, on the thread that calls that; replace it, or free the
/// client, while no other thread dispatches. With `dispatch=thread` a thread of the library's calls it, for one event after the
/// other, from the first call of this function on; while nothing is registered events wait. That thread has all signals blocked,
/// a callback must return to it (no `longjmp`, no exception, no `pthread_exit`), and `drop` is called when the last callback with
/// `user` has returned. For C and C++ only.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_on_event(
    c: *mut ewsn_client,
    run: ewsn_event_fn,
    user: *mut c_void,
    drop: ewsn_drop_fn,
) -> ewsn_status {
    guard(|| {
        let client = find(c)?;
        let new = run.map(|run| Arc::new(Callback { run, user, drop }));
        let starts = client.dispatcher.threaded && new.is_some();
        client.dispatcher.replace(new);
        if starts {
            Dispatcher::start(&client, c)?;
        }
        Ok(EWSN_OK)
    })
}

/// Waits for an event as `ewsn_next` does, and calls what was registered for it and for those that are there already, on this
/// thread: at most `max_events` of them (0 for any number). How many there were; 0 where nothing came in time;
/// `EWSN_E_CLOSED` where none will come any more; 0 as well where a signal or `ewsn_wake` ended the wait:
/// `ewsn_last_status` tells which.
///
/// The callback may leave by `longjmp` or a C++ exception: nothing of the library's is held while it runs. Its event is the
/// host's to free then. Where a language's signal handler may raise an exception as a callback begins or ends (Python, PHP), that
/// is lost or fatal: loop over `ewsn_next_json` there, as the wrappers do.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ewsn_dispatch(c: *mut ewsn_client, timeout_ms: i32, max_events: u32) -> i32 {
    let mut count = 0;
    loop {
        let mut call = None;
        let wait = if count == 0 { timeout_ms } else { 0 };
        let status = prepare(c, wait, &mut call);
        let Some((run, user, event)) = call else {
            return match status {
                _ if count > 0 => count,
                EWSN_CLOSED => EWSN_E_CLOSED,
                EWSN_OK.. => 0,
                error => error,
            };
        };
        // SAFETY: the host has registered it with this `user`. This frame holds nothing that would have to be given back.
        unsafe { run(user, c, event) };
        event::ewsn_event_free(event);
        count += 1;
        if count as u32 == max_events || count == i32::MAX {
            return count;
        }
    }
}

type Call = (
    unsafe extern "C-unwind" fn(*mut c_void, *mut ewsn_client, *const ewsn_event),
    *mut c_void,
    *mut ewsn_event,
);

/// Everything before the callback.
fn prepare(c: *mut ewsn_client, timeout_ms: i32, call: &mut Option<Call>) -> ewsn_status {
    guard(|| {
        let client = find(c)?;
        client.dispatcher.is_host()?;
        let nobody =
            || Failure::new(EWSN_E_STATE, "nothing is registered to be called: ewsn_on_event does that");
        if client.dispatcher.callback().is_none() {
            return Err(nobody());
        }
        let event = match next(&client.client, timeout_ms) {
            Ok(event) => event,
            Err(status) => return Ok(status),
        };
        let event = handle::insert_event(event::Handle::new(event))?;
        let registered = client.dispatcher.callback().as_ref().map(|callback| (callback.run, callback.user));
        let Some((run, user)) = registered else {
            event::ewsn_event_free(event);
            return Err(nobody());
        };
        *call = Some((run, user, event));
        Ok(EWSN_OK)
    })
}
