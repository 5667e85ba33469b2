//! Push, for hosts with a web server of their own.

use std::ffi::c_char;

use super::client::find;
use super::error::guard_or;
use super::ewsn_client;
use super::text::{lend, required};

/// Takes the body of a POST that Exchange sends by itself (`SendNotification`) apart, without a client, so in any web process. JSON:
/// `reply` (the body to answer with, status 200, `Content-Type: text/xml; charset=utf-8`), `unsubscribe` (the same, to end the
/// subscription), and `messages`, each with `subscription`, `previous_watermark`, `watermark`, `more_events`, `events`, and in errors
/// `code` and `message`. Valid until this thread's next call of it; NULL for what is no notification, to be answered with status 400.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_push_parse_json(body: *const c_char) -> *const c_char {
    guard_or(std::ptr::null(), || {
        let push = crate::push_parse(required("body", body)?.as_bytes())?;
        lend!(&push.to_json())
    })
}

/// Gives the same body to a client whose watches have option `mode=push`; their events come as all others. Returns at once. JSON:
/// `http_status` (200, or 503 where there is no room now) and `reply` (the body) to answer with, and `messages` with what became of
/// each: `subscription`, `watch`, `outcome`, `events`. Valid until this thread's next call of it; NULL as above.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_push_feed_json(c: *mut ewsn_client, body: *const c_char) -> *const c_char {
    guard_or(std::ptr::null(), || {
        let found = find(c)?;
        let fed = found.client.push_feed(required("body", body)?.as_bytes())?;
        lend!(&fed.to_json())
    })
}
