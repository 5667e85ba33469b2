//! With option dispatch=thread: what comes while nobody listens.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the arguments are as the header asks for")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;

use super::hosts::{ADA, mail, options};

type Callback = unsafe extern "C" fn(user: *mut c_void, client: *mut c_void, event: *const c_void);

unsafe extern "C" {
    fn ewsn_close(c: *mut c_void, timeout_ms: i32) -> i32;
    fn ewsn_event_json(e: *const c_void) -> *const c_char;
    fn ewsn_free(c: *mut c_void);
    fn ewsn_on_event(c: *mut c_void, run: Option<Callback>, user: *mut c_void, drop: *const c_void) -> i32;
    fn ewsn_open_json(json: *const c_char) -> *mut c_void;
    fn ewsn_status_json(c: *mut c_void) -> *const c_char;
    fn ewsn_watch_json(c: *mut c_void, json: *const c_char) -> u64;
}

const LIMIT: Duration = Duration::from_secs(60);

fn json(text: *const c_char) -> serde_json::Value {
    assert!(!text.is_null());
    serde_json::from_slice(unsafe { CStr::from_ptr(text) }.to_bytes()).unwrap()
}

unsafe extern "C" fn tell(user: *mut c_void, _: *mut c_void, event: *const c_void) {
    let sender = unsafe { &*user.cast::<Sender<serde_json::Value>>() };
    let _ = sender.send(json(unsafe { ewsn_event_json(event) }));
}

/// What is told until there are events of these types.
fn until(told: &Receiver<serde_json::Value>, kinds: [&str; 2]) -> Vec<serde_json::Value> {
    let mut events: Vec<serde_json::Value> = Vec::new();
    while !kinds.iter().all(|kind| events.iter().any(|e| e["type"] == *kind)) {
        events.push(told.recv_timeout(LIMIT).unwrap_or_else(|e| panic!("{e} after {events:?}")));
    }
    events
}

// The library's thread would take a mail that it has nobody to tell of, and the end of the client call it dealt with: it was lost.
#[test]
fn what_comes_while_nobody_listens_is_told_by_the_next_run() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&sim);
    options["dispatch"] = "thread".into();
    options["events"] = "NewMail".into();
    options["state_dir"] = dir.path().to_str().unwrap().into();
    let options = CString::new(options.to_string()).unwrap();
    let (sender, told) = channel();
    let user: *mut c_void = (&raw const sender).cast_mut().cast();
    unsafe {
        let client = ewsn_open_json(options.as_ptr());
        assert!(ewsn_watch_json(client, null()) > 0);
        assert_eq!(ewsn_on_event(client, Some(tell), user, null()), 0);
        until(&told, ["Connected", "Drained"]);
        assert_eq!(ewsn_on_event(client, None, null_mut(), null()), 0);
        let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
        let deadline = Instant::now() + LIMIT;
        while json(ewsn_status_json(client))["events"] != 1 {
            assert!(Instant::now() < deadline);
        }
        // Now it is there to be taken; a thread that would take it has had its chance when as much again has been asked.
        for _ in 0..1000 {
            assert_eq!(json(ewsn_status_json(client))["queued"], 1, "it waits");
        }
        assert_eq!(ewsn_close(client, 20_000), 0);
        ewsn_free(client);

        let client = ewsn_open_json(options.as_ptr());
        assert!(ewsn_watch_json(client, null()) > 0);
        assert_eq!(ewsn_on_event(client, Some(tell), user, null()), 0);
        let events = until(&told, ["Connected", "Drained"]);
        assert!(events.iter().any(|e| e["type"] == "NewMail" && e["item_id"] == id.as_str()), "{events:?}");
        assert_eq!(ewsn_close(client, 20_000), 0);
        ewsn_free(client);
    }
}
