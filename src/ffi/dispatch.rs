//! Callbacks, on the host's own thread.

use std::ffi::c_void;
use std::sync::PoisonError;

use super::client::{Handle, find, next};
use super::error::{Failure, guard};
use super::handle;
use super::{EWSN_OK, event, ewsn_client, ewsn_event, ewsn_status};

/// Takes an event, which is freed when it returns: `ewsn_event_dup` keeps it. Any function of the library may be called in it,
/// `ewsn_close` and `ewsn_free` too.
pub type ewsn_event_fn = Option<
    unsafe extern "C-unwind" fn(user: *mut c_void, client: *mut ewsn_client, event: *const ewsn_event),
>;

/// Says that `user` is not needed any more.
pub type ewsn_drop_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

pub(super) struct Callback {
    run: unsafe extern "C-unwind" fn(*mut c_void, *mut ewsn_client, *const ewsn_event),
    user: *mut c_void,
    drop: ewsn_drop_fn,
}

// SAFETY: the header asks for a `user` that any thread may be given which calls `ewsn_dispatch`.
unsafe impl Send for Callback {}

impl Callback {
    fn end(self) {
        if let Some(drop) = self.drop {
            // SAFETY: it is called once, with the pointer that it came with.
            unsafe { drop(self.user) };
        }
    }
}

/// Registers what `ewsn_dispatch` calls for each event; NULL takes it off. `user` is passed on. `drop` (may be NULL) is called
/// exactly once, when another takes its place or the client is freed: not while another thread dispatches, please.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_on_event(
    c: *mut ewsn_client,
    run: ewsn_event_fn,
    user: *mut c_void,
    drop: ewsn_drop_fn,
) -> ewsn_status {
    guard(|| {
        let new = run.map(|run| Callback { run, user, drop });
        let client = find(c)?;
        replace(&client, new);
        Ok(EWSN_OK)
    })
}

/// The client is gone.
pub(super) fn forget(client: &Handle) {
    replace(client, None);
}

fn replace(client: &Handle, new: Option<Callback>) {
    let old = std::mem::replace(&mut *client.callback.lock().unwrap_or_else(PoisonError::into_inner), new);
    // Without the lock: it may call us.
    if let Some(old) = old {
        old.end();
    }
}

/// Waits for an event as `ewsn_next` does, and calls what was registered for it and for those that are there already, on this
/// thread: at most `max_events` of them (0 for any number). How many there were; 0 where nothing came in time;
/// `EWSN_E_CLOSED` where none will come any more; 0 as well where a signal or `ewsn_wake` ended the wait:
/// `ewsn_last_status` tells which.
///
/// The callback may leave by `longjmp` or a C++ exception: nothing of the library's is held while it runs. Its event is the
/// host's to free then.
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
                EWSN_OK.. => {
                    if status == super::EWSN_CLOSED {
                        super::EWSN_E_CLOSED
                    } else {
                        0
                    }
                }
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
        let nobody = || {
            Failure::new(super::EWSN_E_STATE, "nothing is registered to be called: ewsn_on_event does that")
        };
        let callback = || client.callback.lock().unwrap_or_else(PoisonError::into_inner);
        if callback().is_none() {
            return Err(nobody());
        }
        let event = match next(&client.client, timeout_ms) {
            Ok(event) => event,
            Err(status) => return Ok(status),
        };
        let event = handle::insert_event(event::Handle::new(event))?;
        let registered = callback().as_ref().map(|callback| (callback.run, callback.user));
        let Some((run, user)) = registered else {
            event::ewsn_event_free(event);
            return Err(nobody());
        };
        *call = Some((run, user, event));
        Ok(EWSN_OK)
    })
}
