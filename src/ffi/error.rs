//! What went wrong in the last call of this thread.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::text::c_string;
use super::*;
use crate::{Error, ErrorKind};

/// A status that is an error, with its text.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: ewsn_status,
    pub text: String,
    pub code: Option<String>,
}

impl Failure {
    pub fn new(status: ewsn_status, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into(), code: None }
    }

    pub fn invalid(text: impl Into<String>) -> Failure {
        Failure::new(EWSN_E_INVALID, text)
    }

    pub fn limit(text: impl Into<String>) -> Failure {
        Failure::new(EWSN_E_LIMIT, text)
    }

    pub fn forked(what: &str) -> Failure {
        let text = format!(
            "the {what} belongs to the process that made it, and this is a child that was forked from it: open one of your own"
        );
        Failure::new(EWSN_E_FORKED, text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error.kind() {
            ErrorKind::Auth => EWSN_E_AUTH,
            ErrorKind::Closed => EWSN_E_CLOSED,
            ErrorKind::Connect | ErrorKind::Io | ErrorKind::Timeout => EWSN_E_IO,
            ErrorKind::Http => EWSN_E_HTTP,
            ErrorKind::Internal => EWSN_E_INTERNAL,
            ErrorKind::Invalid => EWSN_E_INVALID,
            ErrorKind::Limit => EWSN_E_LIMIT,
            ErrorKind::Locked => EWSN_E_LOCKED,
            ErrorKind::Protocol => EWSN_E_PROTOCOL,
            ErrorKind::Server => EWSN_E_SERVER,
            ErrorKind::State => EWSN_E_STATE,
            ErrorKind::Tls => EWSN_E_TLS,
            ErrorKind::Unsupported => EWSN_E_UNSUPPORTED,
        };
        Failure { status, text: error.to_string(), code: error.code().map(str::to_owned) }
    }
}

#[derive(Default)]
struct Last {
    status: ewsn_status,
    /// The text and the server's code, of a failure.
    failure: Option<(CString, CString)>,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
    /// Whether this thread is within a function of the library's.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic was.
    static PLACE: RefCell<String> = RefCell::default();
}

fn remember(status: ewsn_status, failure: Option<(&str, &str)>) {
    // A thread that ends has no place for it any more.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            last.status = status;
            last.failure = failure.map(|(text, code)| (c_string(text), c_string(code)));
        }
    });
}

/// Panics of ours are told by statuses and events; a host's standard error is the host's.
pub(super) fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let guarded = GUARDED.try_with(Cell::get).unwrap_or_default();
            let ours = std::thread::current().name().is_some_and(|name| name.starts_with("ewsn-"));
            if guarded {
                let place = panic.location().map(|at| format!(" ({at})")).unwrap_or_default();
                let _ = PLACE.try_with(|kept| kept.replace(place));
            } else if !ours {
                others(panic);
            }
        }));
    });
}

/// Runs the whole of an exported function: no panic leaves it, and its status is remembered for this thread.
pub(super) fn guard(run: impl FnOnce() -> Result<ewsn_status, Failure>) -> ewsn_status {
    // A `drop` of the host's may call us within a call.
    let within = GUARDED.try_with(|guarded| guarded.replace(true));
    let done = catch_unwind(AssertUnwindSafe(run));
    let _ = GUARDED.try_with(|guarded| guarded.set(within.unwrap_or_default()));
    match done {
        Ok(Ok(status)) => {
            remember(status, None);
            status
        }
        Ok(Err(failure)) => {
            let code = failure.code.as_deref().unwrap_or_default();
            remember(failure.status, Some((&failure.text, code)));
            failure.status
        }
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            // What was thrown may itself panic when it goes.
            std::mem::forget(panic);
            let place = PLACE.try_with(RefCell::take).unwrap_or_default();
            let text = format!("a bug in ewsnotify: {text}{place}; please report it");
            remember(EWSN_E_INTERNAL, Some((&text, "")));
            EWSN_E_INTERNAL
        }
    }
}

/// The same for one that returns something else: `other` where there is nothing.
pub(super) fn guard_or<T>(other: T, run: impl FnOnce() -> Result<T, Failure>) -> T {
    let mut result = None;
    guard(|| {
        result = Some(run()?);
        Ok(EWSN_OK)
    });
    result.unwrap_or(other)
}

/// The status of this thread's last call of any other function.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_last_status() -> ewsn_status {
    LAST.try_with(|last| last.try_borrow().map_or(EWSN_OK, |last| last.status)).unwrap_or(EWSN_OK)
}

/// What went wrong in this thread's last call of any other function, for people: what was tried, with what, what came back and
/// what to do. Empty where nothing did. Valid until this thread's next call.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_last_error() -> *const c_char {
    last(|(text, _)| text.as_ptr())
}

/// The server's own response code (`ErrorItemNotFound`, …) where the last call got one; else empty. Valid until this thread's
/// next call.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_last_error_code() -> *const c_char {
    last(|(_, code)| code.as_ptr())
}

fn last(read: impl Fn(&(CString, CString)) -> *const c_char) -> *const c_char {
    let found = LAST.try_with(|last| last.try_borrow().ok()?.failure.as_ref().map(&read));
    found.ok().flatten().unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::super::client::*;
    use super::super::dispatch::ewsn_on_event;
    use super::super::handle;
    use super::*;

    fn last_error() -> String {
        // SAFETY: a string of the library's.
        unsafe { CStr::from_ptr(ewsn_last_error()) }.to_str().unwrap().to_owned()
    }

    /// A bug of ours would end the host, or leave a lock behind on which all further calls hang.
    #[test]
    fn a_panic_becomes_a_status_and_everything_goes_on() {
        let mut out = std::ptr::null_mut();
        assert_eq!(ewsn_open(std::ptr::null(), &mut out), EWSN_OK);
        let client = out;
        // With the lock of a slot held, and the slot half made.
        for _ in 0..3 {
            let made = guard_or(std::ptr::null_mut(), || {
                handle::insert_client::<ewsn_client>(|_| panic!("tripped over {}", "a cable"))
            });
            assert!(made.is_null());
            assert_eq!(ewsn_last_status(), EWSN_E_INTERNAL);
            let text = last_error();
            assert!(text.contains("tripped over a cable") && text.contains("src/ffi/error.rs:"), "{text}");
        }
        // With the lock of a client's callback held.
        let found = find(client).unwrap();
        assert_eq!(guard(|| found.dispatcher.trip()), EWSN_E_INTERNAL);
        assert_eq!(ewsn_on_event(client, None, std::ptr::null_mut(), None), EWSN_OK);
        // One whose payload panics itself when it goes.
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(guard(|| std::panic::panic_any(Bomb)), EWSN_E_INTERNAL);

        let mut other = std::ptr::null_mut();
        assert_eq!(ewsn_open(std::ptr::null(), &mut other), EWSN_OK);
        assert_eq!(ewsn_last_status(), EWSN_OK);
        assert_eq!(last_error(), "");
        for client in [client, other] {
            assert_eq!(ewsn_close(client, 0), EWSN_OK);
            ewsn_free(client);
        }
    }

    /// One function without a guard would let a panic out.
    #[test]
    fn every_exported_function_is_guarded() {
        let sources = [
            include_str!("client.rs"),
            include_str!("dispatch.rs"),
            include_str!("error.rs"),
            include_str!("event.rs"),
            include_str!("mod.rs"),
            include_str!("options.rs"),
            include_str!("push.rs"),
            include_str!("sign_in.rs"),
        ];
        // They touch atomics and constants only, or what `guard` itself uses.
        let plain = [
            "ewsn_abi_version",
            "ewsn_version",
            "ewsn_wake",
            "ewsn_last_status",
            "ewsn_last_error",
            "ewsn_last_error_code",
        ];
        let mut seen = 0;
        for function in sources.iter().flat_map(|s| s.split("#[unsafe(no_mangle)]\n").skip(1)) {
            let name = function.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap();
            let body = function.split_once("{\n").unwrap().1.split("\n}\n").next().unwrap();
            // `ewsn_dispatch` must hold nothing while the callback runs: what is before it and after it is guarded.
            let guarded = ["guard(", "guard_or(", "prepare("].iter().any(|g| body.contains(g));
            assert!(guarded || plain.contains(&name), "{name} is not guarded");
            seen += 1;
        }
        assert_eq!(
            seen,
            include_str!("../../include/symbols.txt").lines().filter(|l| !l.starts_with('#')).count()
        );
    }
}
