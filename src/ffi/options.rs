//! Options by key, from the one table.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use super::error::{Failure, guard, guard_or};
use super::handle::{self, Kind, Value};
use super::text::{lend, required};
use super::{EWSN_OK, ewsn_options, ewsn_status};
use crate::{OptionScope, OptionSpec, Options};

pub(super) struct Handle(Mutex<Options>);

/// The options that a handle stands for; none for NULL.
pub(super) fn read(o: *const ewsn_options) -> Result<Options, Failure> {
    if o.is_null() { Ok(Options::new()) } else { with(o, |options| Ok(options.clone())) }
}

fn with<T>(
    o: *const ewsn_options,
    run: impl FnOnce(&mut Options) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Value::Options(found) = handle::find(o.cast(), Kind::Options)? else {
        return Err(Failure::invalid("not options"));
    };
    let mut options = found.0.lock().unwrap_or_else(PoisonError::into_inner);
    run(&mut options)
}

/// Options without a value: all defaults. To be freed with `ewsn_options_free`. NULL where there is no room for a handle.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_options_new() -> *mut ewsn_options {
    guard_or(std::ptr::null_mut(), || handle::insert_options(Handle(Mutex::new(Options::new()))))
}

/// Sets one. `ewsn_options_describe` lists the keys. Nothing is changed where the key is unknown or the value does not fit. Kerberos
/// (`auth`, `negotiate`) is there only where the library was built with its cargo feature `gssapi`: otherwise `ewsn_watch` refuses it
/// with `EWSN_E_UNSUPPORTED`.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_options_set(
    o: *mut ewsn_options,
    key: *const c_char,
    value: *const c_char,
) -> ewsn_status {
    guard(|| {
        let (key, value) = (required("key", key)?, required("value", value)?);
        with(o, |options| Ok(options.set(key, value).map(|_| EWSN_OK)?))
    })
}

/// Sets one whose value is a number.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_options_set_int(o: *mut ewsn_options, key: *const c_char, value: i64) -> ewsn_status {
    guard(|| {
        let key = required("key", key)?;
        with(o, |options| Ok(options.set(key, &value.to_string()).map(|_| EWSN_OK)?))
    })
}

/// Sets those of a JSON object: `{"url": "mail.example.com", "fetch": "summary"}`. All or none.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_options_set_json(o: *mut ewsn_options, json: *const c_char) -> ewsn_status {
    guard(|| {
        let json = required("json", json)?;
        with(o, |options| Ok(options.set_json(json).map(|_| EWSN_OK)?))
    })
}

/// The table of all keys, as a JSON array of objects: `name`, `scope` (`client` or `watch`), `default`, `meaning`. Valid until
/// this thread's next call of it.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_options_describe() -> *const c_char {
    guard_or(std::ptr::null(), || {
        let row = |spec: &OptionSpec| {
            let scope = if spec.scope == OptionScope::Client { "client" } else { "watch" };
            serde_json::json!({
                "name": spec.name, "scope": scope, "default": spec.default, "meaning": spec.meaning
            })
        };
        let table = serde_json::Value::from_iter(Options::table().iter().map(row)).to_string();
        lend!(&table)
    })
}

/// Frees options. NULL, and ones that were freed already, do no harm.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_options_free(o: *mut ewsn_options) {
    guard(|| {
        drop(handle::remove(o.cast(), Kind::Options));
        Ok(EWSN_OK)
    });
}
