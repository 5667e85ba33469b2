//! Clients: open, watch, next, acknowledge, ask, close.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::dispatch::Dispatcher;
use super::error::{Failure, guard, guard_or};
use super::handle::{self, Kind, Value};
use super::text::{lend, optional, required};
use super::*;
use crate::auth::Secret;
use crate::runtime::Pairs;
use crate::{Client, Event, Fetch, Nack, Next, Options};

/// For `ewsn_nack`: give the event again after so long.
pub const EWSN_RETRY: i32 = 1;
/// For `ewsn_nack`: keep it, and do not give it again before it is released.
pub const EWSN_PARK: i32 = 2;

pub(super) struct Handle {
    pub client: Client,
    pub dispatcher: Dispatcher,
}

pub(super) fn find(c: *const ewsn_client) -> Result<Arc<Handle>, Failure> {
    match handle::find(c.cast(), Kind::Client)? {
        Value::Client(found) => Ok(found),
        _ => Err(Failure::invalid("not a client")),
    }
}

/// Opens a client. `options` may be NULL: all defaults. Nothing is sent before the first watch, and no thread is started
/// before the first client.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_open(options: *const ewsn_options, out: *mut *mut ewsn_client) -> ewsn_status {
    guard(|| {
        let out = place("out", out)?;
        *out = open(&options::read(options)?, None)?;
        Ok(EWSN_OK)
    })
}

/// The same, with the options as a JSON object (NULL for none). NULL where it fails: `ewsn_last_status` and
/// `ewsn_last_error` say why.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_open_json(json: *const c_char) -> *mut ewsn_client {
    guard_or(std::ptr::null_mut(), || open(&json_options(json)?, None))
}

/// The same, for a host that keeps the state itself, in a database of its own: `state` is a JSON object of the keys and values that
/// it has (`{}` at the very first). Each change comes as an `EWSN_STATE_CHANGED` event, ahead of others: write or remove what it
/// names, then acknowledge it by its number; the next one comes after that. An event is acknowledged for good when the host has
/// acknowledged the `EWSN_STATE_CHANGED` events that follow its acknowledgement.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_open_with_state_json(json: *const c_char, state: *const c_char) -> *mut ewsn_client {
    guard_or(std::ptr::null_mut(), || {
        let pairs: BTreeMap<String, String> = serde_json::from_str(required("state", state)?)
            .map_err(|e| Failure::invalid(format!("the state is no JSON object of texts: {e}")))?;
        let pairs = pairs.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        open(&json_options(json)?, Some(pairs))
    })
}

fn open(options: &Options, pairs: Option<Pairs>) -> Result<*mut ewsn_client, Failure> {
    error::report_panics();
    handle::insert_client(|waker| {
        let dispatcher = Dispatcher::new(options.get("dispatch") == Some("thread"));
        Ok(Handle { client: Client::with_waker(options, pairs, waker)?, dispatcher })
    })
}

pub(super) fn json_options(json: *const c_char) -> Result<Options, Failure> {
    let mut options = Options::new();
    if let Some(json) = optional("json", json)? {
        options.set_json(json)?;
    }
    Ok(options)
}

/// Begins to watch a mailbox; returns at once. `options` (NULL for none) are the watch's own; what they leave out is as the
/// client has it. The number that its events carry goes to `out_watch`, which may be NULL. What goes wrong with the server is
/// told by events.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_watch(
    c: *mut ewsn_client,
    options: *const ewsn_options,
    out_watch: *mut u64,
) -> ewsn_status {
    guard(|| {
        let watch = find(c)?.client.watch(&options::read(options)?)?;
        if let Ok(out) = place("out_watch", out_watch) {
            *out = watch;
        }
        Ok(EWSN_OK)
    })
}

/// The same, with the options as a JSON object (NULL for none). The watch's number; 0 where it fails.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_watch_json(c: *mut ewsn_client, json: *const c_char) -> u64 {
    guard_or(0, || Ok(find(c)?.client.watch(&json_options(json)?)?))
}

/// Ends a watch: its `Closed` event follows. With option `ack=auto` its event that was given last counts as dealt with. The same may be watched again at once, also with other options; with a state it goes on
/// where it stood, and is refused while the server is being asked to put an item of it away (`after_ack`).
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_unwatch(c: *mut ewsn_client, watch: u64) -> ewsn_status {
    guard(|| Ok(find(c)?.client.unwatch(watch).map(|()| EWSN_OK)?))
}

/// Waits for the next event, at most `timeout_ms` milliseconds; a negative one waits for ever. `EWSN_OK` with the event in `out`,
/// to be freed with `ewsn_event_free`; `EWSN_TIMEOUT`, `EWSN_INTERRUPTED` (a signal or `ewsn_wake`), `EWSN_CLOSED` (none will come
/// any more). With option `ack=auto`, asking for the next event acknowledges the last one; that is written within 100 ms, and by
/// `ewsn_close`. `EWSN_E_STATE` with option `dispatch=thread`.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_next(c: *mut ewsn_client, timeout_ms: i32, out: *mut *mut ewsn_event) -> ewsn_status {
    guard(|| {
        let out = place("out", out)?;
        let client = find(c)?;
        client.dispatcher.is_host()?;
        match next(&client.client, timeout_ms) {
            Ok(event) => {
                *out = handle::insert_event(event::Handle::new(event))?;
                Ok(EWSN_OK)
            }
            Err(status) => Ok(status),
        }
    })
}

/// The same for hosts that would rather read JSON: the event as one line, or NULL, and `ewsn_last_status` says which of the
/// outcomes it was. Valid until this thread's next call of it.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_next_json(c: *mut ewsn_client, timeout_ms: i32) -> *const c_char {
    let mut text = std::ptr::null();
    guard(|| {
        let client = find(c)?;
        client.dispatcher.is_host()?;
        match next(&client.client, timeout_ms) {
            Ok(event) => {
                text = lend!(&event.to_json())?;
                Ok(EWSN_OK)
            }
            Err(status) => Ok(status),
        }
    });
    text
}

/// An event, or the status that tells why there is none.
pub(super) fn next(client: &Client, timeout_ms: i32) -> Result<Event, ewsn_status> {
    let timeout = u64::try_from(timeout_ms).map_or(Duration::MAX, Duration::from_millis);
    match client.next(timeout) {
        Next::Event(event) => Ok(event),
        Next::TimedOut => Err(EWSN_TIMEOUT),
        Next::Interrupted => Err(EWSN_INTERRUPTED),
        Next::Closed => Err(EWSN_CLOSED),
    }
}

/// A descriptor that is readable (`poll`, `select`, an event loop) while `ewsn_next` would not wait. Do not read from it or
/// close it. It lives as long as the client. -1 for a handle that is none.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_fd(c: *const ewsn_client) -> i32 {
    guard_or(-1, || Ok(find(c)?.client.as_fd().as_raw_fd()))
}

/// Ends one wait: the one that is under way, else the next. From any thread, and from a signal handler. It leaves
/// `ewsn_last_status` as it is.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_wake(c: *mut ewsn_client) {
    handle::wake(c.cast());
}

/// Says that the event of this number has been dealt with: it will not be told again. For watches with `ack=manual`. Returns
/// when that is durable, if there is a state directory.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_ack(c: *mut ewsn_client, seq: u64) -> ewsn_status {
    guard(|| Ok(find(c)?.client.ack(seq).map(|()| EWSN_OK)?))
}

/// Says that the event of this number could not be dealt with: `EWSN_RETRY` gives it again after `delay_ms` milliseconds,
/// `EWSN_PARK` when it is released. Others do not wait for it. Returns when that is durable, if there is a state directory.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_nack(c: *mut ewsn_client, seq: u64, how: i32, delay_ms: i64) -> ewsn_status {
    guard(|| {
        let nack = match how {
            EWSN_RETRY => match u64::try_from(delay_ms) {
                Ok(ms) => Nack::Retry(Duration::from_millis(ms)),
                Err(_) => return Err(Failure::invalid("the delay is negative")),
            },
            EWSN_PARK => Nack::Park,
            _ => return Err(Failure::invalid(format!("{how} is neither EWSN_RETRY nor EWSN_PARK"))),
        };
        Ok(find(c)?.client.nack(seq, nack).map(|()| EWSN_OK)?)
    })
}

/// Gives a token to sign in with, as the answer to `EWSN_TOKEN_NEEDED` or ahead of it: for all watches with option `auth=host` and
/// this account (option `account`, by default `user`). `expires_unix_ms` is when it ends, in milliseconds since 1970; 0 where that
/// is not known. With `token` NULL it says that there is none before somebody signs in, and `why_not` why: the account's watches
/// end. The text is copied; `why_not` may be NULL. `EWSN_E_INVALID` for a token that has expired or that a server has refused.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_set_token(
    c: *mut ewsn_client,
    account: *const c_char,
    token: *const c_char,
    expires_unix_ms: i64,
    why_not: *const c_char,
) -> ewsn_status {
    guard(|| {
        let client = find(c)?;
        let (account, why_not) = (required("account", account)?, optional("why_not", why_not)?);
        match optional("token", token)? {
            Some(token) => {
                let expires = match u64::try_from(expires_unix_ms) {
                    Ok(0) => None,
                    Ok(ms) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)),
                    Err(_) => {
                        return Err(Failure::invalid("expires_unix_ms is negative: 0 where it is not known"));
                    }
                };
                client.client.set_token(account, Secret::new(token), expires)?;
            }
            None => client.client.deny_token(account, why_not.unwrap_or("the program has no token"))?,
        }
        Ok(EWSN_OK)
    })
}

/// The parked events, as a JSON array: `id`, `attempts`, `event`. Valid until this thread's next call of it.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_parked_json(c: *mut ewsn_client) -> *const c_char {
    guard_or(std::ptr::null(), || {
        let parked = to_json(&find(c)?.client.parked())?;
        lend!(&parked)
    })
}

/// Gives a parked event again, by its `id` in `ewsn_parked_json`.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_release(c: *mut ewsn_client, id: u64) -> ewsn_status {
    guard(|| Ok(find(c)?.client.release(id).map(|()| EWSN_OK)?))
}

/// Asks the server for an item by its id and change key (which may be NULL), on the calling thread and a connection of its own;
/// with watch 0, by the client's own options. JSON: `subject`, `from`, `to`, `received`, `message_id`, `size`, `attachments`. Valid until this thread's next call of it;
/// NULL where it fails.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_get_item_json(
    c: *mut ewsn_client,
    watch: u64,
    item_id: *const c_char,
    change_key: *const c_char,
) -> *const c_char {
    guard_or(std::ptr::null(), || {
        let (item_id, change_key) = (required("item_id", item_id)?, optional("change_key", change_key)?);
        let item = find(c)?.client.get_item(watch, item_id, change_key, Fetch::Summary)?;
        let item = to_json(&item)?;
        lend!(&item)
    })
}

/// Asks the server for a whole message and puts it into a file, mode 0600, which must not be there yet.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_save_mime(
    c: *mut ewsn_client,
    watch: u64,
    item_id: *const c_char,
    change_key: *const c_char,
    path: *const c_char,
) -> ewsn_status {
    guard(|| {
        let (item_id, change_key) = (required("item_id", item_id)?, optional("change_key", change_key)?);
        let path = required("path", path)?;
        find(c)?.client.save_mime(watch, item_id, change_key, path.as_ref())?;
        Ok(EWSN_OK)
    })
}

/// Asks the server for an attachment, by the `id` that a summary's `attachments` tell, and puts its content into a file, mode
/// 0600, which must not be there yet: a file as it is, an attached item as the whole message. With watch 0, by the client's own
/// options.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_save_attachment(
    c: *mut ewsn_client,
    watch: u64,
    attachment_id: *const c_char,
    path: *const c_char,
) -> ewsn_status {
    guard(|| {
        let (id, path) = (required("attachment_id", attachment_id)?, required("path", path)?);
        find(c)?.client.save_attachment(watch, id, path.as_ref())?;
        Ok(EWSN_OK)
    })
}

/// What is going on: watches, connections, counters, as JSON. Valid until this thread's next call of it. A watch's `state` is
/// "starting", "connected", "catching-up", "awaiting-push" (subscribed, `unheard_ms` ago, and the server has sent nothing: does it
/// reach `push_url`?), "degraded" (the link is gone and is tried again), "sign-in-needed" or "gone" (given up). With
/// option `state_dir` the same lies there as status.json for those that do not have the library.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_status_json(c: *mut ewsn_client) -> *const c_char {
    guard_or(std::ptr::null(), || {
        let status = to_json(&find(c)?.client.status())?;
        lend!(&status)
    })
}

/// Writes every request and answer from now on to this file (mode 0600, behind what is in it), or, with NULL, to none any more.
/// What is said to token endpoints and proxies, and the pushes that `push_listen` takes, are among that. Secrets are left out,
/// of mails all but their beginning. At 16 MiB the file becomes FILE.1, and a new one begins. Option
/// `trace_wire` does the same from the start. A file that cannot be written any more is told once, by an `EWSN_ERROR` event.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_trace_wire(c: *mut ewsn_client, path_or_null: *const c_char) -> ewsn_status {
    guard(|| {
        let path = optional("path_or_null", path_or_null)?;
        find(c)?.client.trace_wire(path.map(Path::new))?;
        Ok(EWSN_OK)
    })
}

/// Closes a client from any thread and in every state. Waits for as many milliseconds as it is given for the server to be
/// told; a negative time is option `close_timeout`. With option `ack=auto` the event that was given last counts as dealt with.
/// Waits that are under way end, `Closed` is the last event. Again does no harm. `EWSN_TIMEOUT` where something still runs: with
/// option `dispatch=thread`, a callback; from within that callback it does not wait for it.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_close(c: *mut ewsn_client, timeout_ms: i32) -> ewsn_status {
    guard(|| {
        let found = find(c)?;
        let timeout = u64::try_from(timeout_ms).map_or(found.client.close_timeout(), Duration::from_millis);
        let until = Instant::now() + timeout;
        let ended = found.client.close_within(timeout);
        Ok(if found.dispatcher.closed(until) && ended { EWSN_OK } else { EWSN_TIMEOUT })
    })
}

/// Frees a client; closes it first, within option `close_timeout`, two seconds at most, if that was not done: but with option `ack=auto` the event that
/// was given last does not count as dealt with, so who frees without closing, as an exception does, is told it again. Calls that are under way in other threads end with
/// `EWSN_CLOSED`. With option `dispatch=thread`, no further callback begins; the state directory is free when the last one has
/// returned, for which `ewsn_close` waits. NULL, and one that was freed already, do no harm; in a forked child it leaves the
/// parent's connections alone.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_free(c: *mut ewsn_client) {
    guard(|| {
        if let Some(Value::Client(found)) = handle::remove(c.cast(), Kind::Client) {
            found.client.abandon();
            found.dispatcher.forget();
        }
        Ok(EWSN_OK)
    });
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::new(EWSN_E_INTERNAL, e.to_string()))
}

/// Where a result goes.
fn place<'a, T>(name: &str, out: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: the header asks for a place of that type, or NULL.
    unsafe { out.as_mut() }.ok_or_else(|| Failure::invalid(format!("{name} is NULL")))
}
