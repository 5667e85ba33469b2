//! What went wrong in the last call of this thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    text: CString,
    code: CString,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

fn remember(status: ewsn_status, text: &str, code: &str) {
    // A thread that ends has no place for it any more.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            last.status = status;
            last.text = c_string(text);
            last.code = c_string(code);
        }
    });
}

/// Runs the whole of an exported function: no panic leaves it, and its status is remembered for this thread.
pub(super) fn guard(run: impl FnOnce() -> Result<ewsn_status, Failure>) -> ewsn_status {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(status)) => {
            remember(status, "", "");
            status
        }
        Ok(Err(failure)) => {
            remember(failure.status, &failure.text, failure.code.as_deref().unwrap_or_default());
            failure.status
        }
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            // What was thrown may itself panic when it goes.
            std::mem::forget(panic);
            remember(EWSN_E_INTERNAL, &format!("a bug in ewsnotify: {text}; please report it"), "");
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
    last(|last| last.text.as_ptr())
}

/// The server's own response code (`ErrorItemNotFound`, …) where the last call got one; else empty. Valid until this thread's
/// next call.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_last_error_code() -> *const c_char {
    last(|last| last.code.as_ptr())
}

fn last(read: impl Fn(&Last) -> *const c_char) -> *const c_char {
    LAST.try_with(|last| last.try_borrow().map_or(c"".as_ptr(), |last| read(&last))).unwrap_or(c"".as_ptr())
}
