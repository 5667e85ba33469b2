//! What hosts do wrong: each function of the header, with NULL, a stale handle, one of another kind, unknown numbers and text
//! that is not UTF-8. Nothing crashes, each says EWSN_E_INVALID with a text, and freeing does no harm.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the arguments are as the header asks for, or what the test is about"
)]

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

// The functions themselves, as the header has them: headers.rs sees to that.
unsafe extern "C" {
    fn ewsn_abi_check(header_abi: i32) -> i32;
    fn ewsn_abi_version() -> i32;
    fn ewsn_ack(c: *mut c_void, seq: u64) -> i32;
    fn ewsn_close(c: *mut c_void, timeout_ms: i32) -> i32;
    fn ewsn_dispatch(c: *mut c_void, timeout_ms: i32, max_events: u32) -> i32;
    fn ewsn_event_dup(e: *const c_void) -> *mut c_void;
    fn ewsn_event_free(e: *mut c_void);
    fn ewsn_event_int(e: *const c_void, field: i32) -> i64;
    fn ewsn_event_json(e: *const c_void) -> *const c_char;
    fn ewsn_event_seq(e: *const c_void) -> u64;
    fn ewsn_event_str(e: *const c_void, field: i32) -> *const c_char;
    fn ewsn_event_time_ms(e: *const c_void) -> i64;
    fn ewsn_event_type(e: *const c_void) -> i32;
    fn ewsn_event_watch(e: *const c_void) -> u64;
    fn ewsn_fd(c: *const c_void) -> i32;
    fn ewsn_free(c: *mut c_void);
    fn ewsn_get_item_json(c: *mut c_void, watch: u64, id: *const c_char, key: *const c_char)
    -> *const c_char;
    fn ewsn_last_error() -> *const c_char;
    fn ewsn_last_error_code() -> *const c_char;
    fn ewsn_last_status() -> i32;
    fn ewsn_nack(c: *mut c_void, seq: u64, how: i32, delay_ms: i64) -> i32;
    fn ewsn_next(c: *mut c_void, timeout_ms: i32, out: *mut *mut c_void) -> i32;
    fn ewsn_next_json(c: *mut c_void, timeout_ms: i32) -> *const c_char;
    fn ewsn_on_event(c: *mut c_void, run: *const c_void, user: *mut c_void, drop: *const c_void) -> i32;
    fn ewsn_open(o: *const c_void, out: *mut *mut c_void) -> i32;
    fn ewsn_open_with_state_json(json: *const c_char, state: *const c_char) -> *mut c_void;
    fn ewsn_open_json(json: *const c_char) -> *mut c_void;
    fn ewsn_options_describe() -> *const c_char;
    fn ewsn_options_free(o: *mut c_void);
    fn ewsn_options_new() -> *mut c_void;
    fn ewsn_options_set(o: *mut c_void, key: *const c_char, value: *const c_char) -> i32;
    fn ewsn_options_set_int(o: *mut c_void, key: *const c_char, value: i64) -> i32;
    fn ewsn_options_set_json(o: *mut c_void, json: *const c_char) -> i32;
    fn ewsn_parked_json(c: *mut c_void) -> *const c_char;
    fn ewsn_release(c: *mut c_void, id: u64) -> i32;
    fn ewsn_save_mime(
        c: *mut c_void,
        watch: u64,
        id: *const c_char,
        key: *const c_char,
        path: *const c_char,
    ) -> i32;
    fn ewsn_status_json(c: *mut c_void) -> *const c_char;
    fn ewsn_status_name(status: i32) -> *const c_char;
    fn ewsn_unwatch(c: *mut c_void, watch: u64) -> i32;
    fn ewsn_version() -> *const c_char;
    fn ewsn_wake(c: *mut c_void);
    fn ewsn_watch(c: *mut c_void, o: *const c_void, out: *mut u64) -> i32;
    fn ewsn_watch_json(c: *mut c_void, json: *const c_char) -> u64;
}

const INVALID: i32 = -1;
/// Not UTF-8.
const BAD: *const c_char = c"\xff".as_ptr();

fn text(text: *const c_char) -> String {
    assert!(!text.is_null());
    // SAFETY: the library's strings end with NUL and outlive the call.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}

/// Whether the last call was refused, with a reason.
fn refused() -> bool {
    // SAFETY: no arguments.
    unsafe { ewsn_last_status() == INVALID && !text(ewsn_last_error()).is_empty() }
}

/// A client without watches, and an event: its own Closed.
fn client_and_event() -> (*mut c_void, *mut c_void) {
    // SAFETY: arguments as the header asks for.
    unsafe {
        let client = ewsn_open_json(c"{}".as_ptr());
        assert!(!client.is_null(), "{}", text(ewsn_last_error()));
        assert_eq!(ewsn_close(client, 0), 0);
        let mut event = null_mut();
        assert_eq!(ewsn_next(client, 0, &mut event), 0);
        (client, event)
    }
}

/// What each function does with a handle that is none: every row is called with each such handle.
type Row = (&'static str, fn(*mut c_void) -> bool);

#[rustfmt::skip]
fn rows(kind: &str) -> Vec<Row> {
    // SAFETY (all): the handle is what the test is about; the other arguments are as the header asks for.
    match kind {
        "client" => vec![
            ("ewsn_ack", |c| unsafe { ewsn_ack(c, 1) == INVALID }),
            ("ewsn_close", |c| unsafe { ewsn_close(c, 0) == INVALID }),
            ("ewsn_dispatch", |c| unsafe { ewsn_dispatch(c, 0, 0) == INVALID }),
            ("ewsn_fd", |c| unsafe { ewsn_fd(c) == -1 }),
            ("ewsn_get_item_json", |c| unsafe { ewsn_get_item_json(c, 1, c"id".as_ptr(), null()).is_null() }),
            ("ewsn_nack", |c| unsafe { ewsn_nack(c, 1, 1, 0) == INVALID }),
            ("ewsn_next", |c| unsafe { let mut out = null_mut(); ewsn_next(c, 0, &mut out) == INVALID && out.is_null() }),
            ("ewsn_next_json", |c| unsafe { ewsn_next_json(c, 0).is_null() }),
            ("ewsn_on_event", |c| unsafe { ewsn_on_event(c, null(), null_mut(), null()) == INVALID }),
            ("ewsn_parked_json", |c| unsafe { ewsn_parked_json(c).is_null() }),
            ("ewsn_release", |c| unsafe { ewsn_release(c, 1) == INVALID }),
            ("ewsn_save_mime", |c| unsafe { ewsn_save_mime(c, 1, c"id".as_ptr(), null(), c"/nowhere/file".as_ptr()) == INVALID }),
            ("ewsn_status_json", |c| unsafe { ewsn_status_json(c).is_null() }),
            ("ewsn_unwatch", |c| unsafe { ewsn_unwatch(c, 1) == INVALID }),
            ("ewsn_watch", |c| unsafe { let mut watch = 7; ewsn_watch(c, null(), &mut watch) == INVALID && watch == 7 }),
            ("ewsn_watch_json", |c| unsafe { ewsn_watch_json(c, null()) == 0 }),
        ],
        "event" => vec![
            ("ewsn_event_dup", |e| unsafe { ewsn_event_dup(e).is_null() }),
            ("ewsn_event_int", |e| unsafe { ewsn_event_int(e, 56) == -1 }),
            ("ewsn_event_json", |e| unsafe { ewsn_event_json(e).is_null() }),
            ("ewsn_event_seq", |e| unsafe { ewsn_event_seq(e) == 0 }),
            ("ewsn_event_str", |e| unsafe { ewsn_event_str(e, 1).is_null() }),
            ("ewsn_event_time_ms", |e| unsafe { ewsn_event_time_ms(e) == 0 }),
            ("ewsn_event_type", |e| unsafe { ewsn_event_type(e) == 0 }),
            ("ewsn_event_watch", |e| unsafe { ewsn_event_watch(e) == 0 }),
        ],
        _ => vec![
            ("ewsn_options_set", |o| unsafe { ewsn_options_set(o, c"url".as_ptr(), c"h".as_ptr()) == INVALID }),
            ("ewsn_options_set_int", |o| unsafe { ewsn_options_set_int(o, c"workers".as_ptr(), 3) == INVALID }),
            ("ewsn_options_set_json", |o| unsafe { ewsn_options_set_json(o, c"{}".as_ptr()) == INVALID }),
        ],
    }
}

/// Functions whose misuse has a test of its own below, or that cannot be misused.
const OTHERS: [&str; 16] = [
    "ewsn_open_with_state_json",
    "ewsn_abi_check",
    "ewsn_abi_version",
    "ewsn_event_free",
    "ewsn_free",
    "ewsn_last_error",
    "ewsn_last_error_code",
    "ewsn_last_status",
    "ewsn_open",
    "ewsn_open_json",
    "ewsn_options_describe",
    "ewsn_options_free",
    "ewsn_options_new",
    "ewsn_status_name",
    "ewsn_version",
    "ewsn_wake",
];

/// A host with a bug would crash instead of being told.
#[test]
fn a_handle_that_is_none_is_refused() {
    let (client, event) = client_and_event();
    let options = unsafe { ewsn_options_new() };
    let (freed_client, freed_event) = client_and_event();
    let freed_options = unsafe { ewsn_options_new() };
    unsafe {
        ewsn_free(freed_client);
        ewsn_event_free(freed_event);
        ewsn_options_free(freed_options);
        // Freeing what is none does no harm, to itself and to others.
        for none in [null_mut(), freed_client, freed_event, freed_options, 0x1234_5678_usize as *mut c_void] {
            ewsn_free(none);
            ewsn_event_free(none);
            ewsn_options_free(none);
            ewsn_wake(none);
        }
    }
    let wild = [1_usize, 2, 3, 0xdead_beef, usize::MAX, usize::MAX - 1].map(|bits| bits as *mut c_void);
    let all = [null_mut(), client, event, options, freed_client, freed_event, freed_options];
    for (kind, own) in [("client", client), ("event", event), ("options", options)] {
        for none in all.into_iter().chain(wild).filter(|h| *h != own) {
            // NULL options are all defaults; that is no misuse.
            for (name, call) in rows(kind) {
                assert!(call(none) && refused(), "{name} with {none:?}");
            }
        }
    }
    unsafe {
        assert_eq!(ewsn_event_type(event), 110, "the others live on");
        ewsn_event_free(event);
        ewsn_free(client);
        ewsn_options_free(options);
    }
}

/// A host would have to guess what it did wrong.
#[test]
fn arguments_that_are_none_are_refused() {
    let (client, event) = client_and_event();
    unsafe {
        let options = ewsn_options_new();
        let mut out = null_mut();
        assert!(ewsn_open(options, null_mut()) == INVALID && refused());
        assert!(ewsn_open(event, &mut out) == INVALID && refused() && out.is_null());
        assert!(ewsn_open_json(BAD).is_null() && refused());
        assert!(ewsn_open_json(c"[]".as_ptr()).is_null() && refused());
        assert!(ewsn_open_with_state_json(null(), null()).is_null() && refused());
        assert!(ewsn_open_with_state_json(null(), c"[]".as_ptr()).is_null() && refused());
        assert!(ewsn_options_set(options, null(), c"".as_ptr()) == INVALID && refused());
        assert!(ewsn_options_set(options, c"url".as_ptr(), null()) == INVALID && refused());
        assert!(ewsn_options_set(options, c"nonsense".as_ptr(), c"".as_ptr()) == INVALID && refused());
        assert!(ewsn_options_set(options, BAD, c"".as_ptr()) == INVALID && refused());
        assert!(ewsn_options_set_int(options, c"workers".as_ptr(), -1) == INVALID && refused());
        assert!(
            ewsn_options_set_json(options, c"{\"workers\": 2, \"x\": 1}".as_ptr()) == INVALID && refused()
        );
        assert!(ewsn_next(client, 0, null_mut()) == INVALID && refused());
        assert!(ewsn_nack(client, 1, 7, 0) == INVALID && refused());
        assert!(ewsn_nack(client, 1, 1, -1) == INVALID && refused());
        assert!(ewsn_ack(client, 99) == INVALID && refused());
        assert!(ewsn_unwatch(client, 99) == INVALID && refused());
        assert!(ewsn_release(client, 99) == INVALID && refused());
        assert!(ewsn_get_item_json(client, 1, null(), null()).is_null() && refused());
        assert!(ewsn_get_item_json(client, 99, c"id".as_ptr(), BAD).is_null() && refused());
        assert!(ewsn_save_mime(client, 1, c"id".as_ptr(), null(), null()) == INVALID && refused());
        assert!(ewsn_event_str(event, 99).is_null() && refused());
        assert!(ewsn_event_str(event, 50).is_null() && refused(), "a number is no text");
        assert!(ewsn_event_int(event, 1) == -1 && refused());
        assert_eq!(ewsn_dispatch(client, 0, 0), -2, "nothing is registered");
        assert_eq!(ewsn_abi_check(ewsn_abi_version() + 1), -3);
        assert_eq!(ewsn_abi_check(0), -3);
        assert_eq!(ewsn_abi_check(1), 0);
        assert_eq!(text(ewsn_status_name(-1)), "EWSN_E_INVALID");
        assert_eq!(text(ewsn_status_name(4711)), "EWSN_?");
        assert_eq!(text(ewsn_version()), env!("CARGO_PKG_VERSION"));
        assert_eq!(text(ewsn_last_error_code()), "");
        assert!(text(ewsn_options_describe()).contains("\"state_dir\""));
        ewsn_options_free(options);
        ewsn_event_free(event);
        ewsn_free(client);
    }
}

/// A function that is new would be let out.
#[test]
fn every_function_of_the_header_has_a_row() {
    let header = include_str!("../../include/ewsnotify_ffi.h");
    let functions: BTreeSet<&str> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '*']))
        .filter_map(|line| line.split('(').next()?.split([' ', '*']).next_back())
        .filter(|name| name.starts_with("ewsn_") && header.contains(&format!("{name}(")))
        .collect();
    let rows: Vec<&str> =
        ["client", "event", "options"].iter().flat_map(|kind| rows(kind)).map(|(name, _)| name).collect();
    let tested: BTreeSet<&str> = rows.into_iter().chain(OTHERS).collect();
    assert_eq!(functions, tested);
}
