//! Strings on their way in and out.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use super::error::Failure;

/// A host's string: UTF-8, ended by NUL. `None` for NULL.
pub(super) fn optional<'a>(name: &str, text: *const c_char) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the header asks for a string that ends with NUL and lives as long as the call.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|e| Failure::invalid(format!("{name} is not UTF-8: {e}")))
}

/// One that must be there.
pub(super) fn required<'a>(name: &str, text: *const c_char) -> Result<&'a str, Failure> {
    optional(name, text)?.ok_or_else(|| Failure::invalid(format!("{name} is NULL")))
}

/// Text for a host. A NUL in it becomes U+FFFD: C would end there.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default())
}

/// Gives a string to the calling thread, until its next call of the same function.
macro_rules! lend {
    ($text:expr) => {{
        thread_local! {
            static LENT: std::cell::RefCell<std::ffi::CString> = std::cell::RefCell::default();
        }
        $crate::ffi::text::lend_in(&LENT, $text)
    }};
}
pub(super) use lend;

pub(super) fn lend_in(
    place: &'static std::thread::LocalKey<RefCell<CString>>,
    text: &str,
) -> Result<*const c_char, Failure> {
    let lent = place.try_with(|place| {
        let mut place = place.try_borrow_mut().ok()?;
        *place = c_string(text);
        Some(place.as_ptr())
    });
    lent.ok().flatten().ok_or_else(|| Failure::invalid("this thread is ending"))
}
