//! The C interface: converts, calls the public Rust API, converts. The only place with unsafe code, and without logic.
//!
//! The comments of the exported items are the manual: `include/ewsnotify.h` is made of them.

#![allow(unsafe_code, reason = "a C interface")]
#![allow(non_camel_case_types, reason = "the names are those of C")]

mod client;
mod dispatch;
mod error;
mod event;
mod handle;
mod options;
mod push;
mod sign_in;
mod text;

use std::ffi::c_char;

use error::guard_or;

/// What a call came to: 0 success, above 0 a normal outcome, below 0 an error with a text in `ewsn_last_error`.
pub type ewsn_status = i32;

/// Done.
pub const EWSN_OK: ewsn_status = 0;
/// Nothing came in time.
pub const EWSN_TIMEOUT: ewsn_status = 1;
/// Closed, and every event was taken: none will come any more.
pub const EWSN_CLOSED: ewsn_status = 2;
/// A signal or `ewsn_wake` ended the wait.
pub const EWSN_INTERRUPTED: ewsn_status = 4;
/// NULL, an unknown key or number, a bad value, a handle of another kind or one that was freed, text that is not UTF-8.
pub const EWSN_E_INVALID: ewsn_status = -1;
/// Not possible now; also a state directory that cannot be written.
pub const EWSN_E_STATE: ewsn_status = -2;
/// Header and library do not fit.
pub const EWSN_E_ABI: ewsn_status = -3;
/// No connection, one that broke, nothing in time, or a file that cannot be written.
pub const EWSN_E_IO: ewsn_status = -4;
/// The certificate, the protocol version, the handshake.
pub const EWSN_E_TLS: ewsn_status = -5;
/// A signature was refused, or a sign-in is needed.
pub const EWSN_E_AUTH: ewsn_status = -6;
/// An HTTP status that is none of the others'.
pub const EWSN_E_HTTP: ewsn_status = -7;
/// An answer that cannot be understood.
pub const EWSN_E_PROTOCOL: ewsn_status = -8;
/// The server's own error: `ewsn_last_error_code` has its code.
pub const EWSN_E_SERVER: ewsn_status = -9;
/// A bound was met.
pub const EWSN_E_LIMIT: ewsn_status = -10;
/// The client is closed.
pub const EWSN_E_CLOSED: ewsn_status = -11;
/// The handle belongs to the process that made it, and this is a child forked from it.
pub const EWSN_E_FORKED: ewsn_status = -12;
/// Another process owns the state directory.
pub const EWSN_E_LOCKED: ewsn_status = -13;
/// Not offered here.
pub const EWSN_E_UNSUPPORTED: ewsn_status = -14;
/// A bug in the library, caught.
pub const EWSN_E_INTERNAL: ewsn_status = -15;

/// Options of a client or a watch, by key.
pub struct ewsn_options {
    _opaque: (),
}

/// A client: one process's watches, their connections and the queue of their events.
pub struct ewsn_client {
    _opaque: (),
}

/// An event.
pub struct ewsn_event {
    _opaque: (),
}

/// The version of the interface that this library was built with. It rises when something is added.
pub const EWSN_ABI: i32 = 1;

/// The version of the library that this header came with: its first number.
pub const EWSN_VERSION_MAJOR: i32 = 0;
/// The second.
pub const EWSN_VERSION_MINOR: i32 = 1;
/// The third.
pub const EWSN_VERSION_PATCH: i32 = 0;

const _: () = assert!(
    is(env!("CARGO_PKG_VERSION_MAJOR"), EWSN_VERSION_MAJOR)
        && is(env!("CARGO_PKG_VERSION_MINOR"), EWSN_VERSION_MINOR)
        && is(env!("CARGO_PKG_VERSION_PATCH"), EWSN_VERSION_PATCH),
    "the header's version numbers are not those of Cargo.toml"
);

const fn is(text: &str, number: i32) -> bool {
    match i32::from_str_radix(text, 10) {
        Ok(read) => read == number,
        Err(_) => false,
    }
}

/// The version of the interface that the loaded library has.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_abi_version() -> i32 {
    EWSN_ABI
}

/// To be called first, with `EWSN_ABI` of the header: whether the loaded library has all that the header says. `EWSN_E_ABI`
/// where it has not, for an older one.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_abi_check(header_abi: i32) -> ewsn_status {
    error::guard(|| match header_abi {
        1..=EWSN_ABI => Ok(EWSN_OK),
        _ => {
            let text = format!(
                "the header is of interface {header_abi}, the library of {EWSN_ABI}: install the library that came with the header"
            );
            Err(error::Failure::new(EWSN_E_ABI, text))
        }
    })
}

/// The version of the library, as `0.1.0`. Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The name of a status, as `EWSN_OK`; `EWSN_?` for an unknown one. Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_status_name(status: i32) -> *const c_char {
    guard_or(c"EWSN_?".as_ptr(), || {
        Ok(match status {
            EWSN_OK => c"EWSN_OK",
            EWSN_TIMEOUT => c"EWSN_TIMEOUT",
            EWSN_CLOSED => c"EWSN_CLOSED",
            EWSN_INTERRUPTED => c"EWSN_INTERRUPTED",
            EWSN_E_INVALID => c"EWSN_E_INVALID",
            EWSN_E_STATE => c"EWSN_E_STATE",
            EWSN_E_ABI => c"EWSN_E_ABI",
            EWSN_E_IO => c"EWSN_E_IO",
            EWSN_E_TLS => c"EWSN_E_TLS",
            EWSN_E_AUTH => c"EWSN_E_AUTH",
            EWSN_E_HTTP => c"EWSN_E_HTTP",
            EWSN_E_PROTOCOL => c"EWSN_E_PROTOCOL",
            EWSN_E_SERVER => c"EWSN_E_SERVER",
            EWSN_E_LIMIT => c"EWSN_E_LIMIT",
            EWSN_E_CLOSED => c"EWSN_E_CLOSED",
            EWSN_E_FORKED => c"EWSN_E_FORKED",
            EWSN_E_LOCKED => c"EWSN_E_LOCKED",
            EWSN_E_UNSUPPORTED => c"EWSN_E_UNSUPPORTED",
            EWSN_E_INTERNAL => c"EWSN_E_INTERNAL",
            _ => c"EWSN_?",
        }
        .as_ptr())
    })
}
