//! Secrets are wiped before their memory is given back: an allocator looks at each block that is freed while a client signs in, is
//! told off by a server that quotes the request, and goes. What other crates free unwiped is counted and printed.
#![cfg(all(feature = "sim", target_os = "linux"))]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use ewsnotify::sim::Sim;
use ewsnotify::{Client, EventKind, Fetch, Next, Options};

#[path = "common/scan.rs"]
mod scan;

const ADA: &str = "ada@example.test";
/// What is looked for is a piece of the secret.
const PIECE: usize = 12;
/// What is looked for must not be found where it is kept for the search.
const VEIL: u8 = 0x5A;
/// What holds secrets, and has to wipe them. The bodies of answers, in which a server may quote them, are not among that.
const OURS: [&str; 12] = [
    "src/auth/",
    "src/bin/",
    "src/cookies.rs",
    "src/error.rs",
    "src/ffi/",
    "src/net/buffers.rs",
    "src/net/lane.rs",
    "src/net/slot.rs",
    "src/net/transport.rs",
    "src/net/wire_log/",
    "src/options/",
    "src/store/",
];

struct Looking;

static ON: AtomicBool = AtomicBool::new(false);
static NEEDLES: Mutex<Vec<[u8; PIECE]>> = Mutex::new(Vec::new());
/// How large the blocks were, and who freed them.
static FOUND: Mutex<Vec<(usize, Backtrace)>> = Mutex::new(Vec::new());

thread_local! {
    /// What the search itself frees is not looked at.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: all is the system's allocator's; `realloc` is the default, which allocates, copies and frees, so that what is left behind
// by growing is seen too.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Or what somebody else has left there is laid at the door of who gets it.
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if ON.load(Ordering::Relaxed) && layout.size() >= PIECE && !WITHIN.replace(true) {
            // SAFETY: the block is the caller's still, and of that size. What was never written reads as anything.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            let has = {
                let needles = NEEDLES.lock().unwrap_or_else(|e| e.into_inner());
                let is = |w: &[u8], n: &[u8; PIECE]| w.iter().zip(n).all(|(a, b)| a ^ VEIL == *b);
                bytes.windows(PIECE).any(|window| needles.iter().any(|needle| is(window, needle)))
            };
            if has {
                let trace = Backtrace::force_capture();
                FOUND.lock().unwrap_or_else(|e| e.into_inner()).push((layout.size(), trace));
            }
            WITHIN.set(false);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// The first of our files, or of the crates below us, that a free was on the way through.
fn whose(trace: &str) -> String {
    let places = trace.lines().filter_map(|line| line.trim_start().strip_prefix("at "));
    for place in places.filter(|place| !place.contains("tests/freed.rs") && !place.contains("/rustc/")) {
        if let Some((_, file)) = place.split_once("/src/").filter(|_| !place.contains("/registry/")) {
            return format!("src/{}", file.split(':').next().unwrap_or_default());
        }
        if let Some((_, rest)) = place.split_once("/registry/src/") {
            return rest.split('/').nth(1).unwrap_or_default().to_owned();
        }
    }
    "the test".to_owned()
}

/// A server that quotes every request, where a text of an error is made of it.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/EWS/Exchange.asmx", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut sock in listener.incoming().flatten() {
            let Some(said) = scan::hear(&mut sock) else { continue };
            let line: String = said.chars().filter(|c| !c.is_control()).collect();
            let head =
                format!("HTTP/1.1 200 OK\r\nX-DiagInfo: {line}\r\nConnection: close\r\n\r\n<html>{said}");
            let _ = sock.write_all(head.as_bytes());
        }
    });
    url
}

fn until(client: &Client, wanted: EventKind) {
    loop {
        match client.next(Duration::from_secs(60)) {
            Next::Event(event) if event.kind == wanted => return,
            Next::Event(_) => {}
            other => panic!("{other:?} instead of {wanted:?}"),
        }
    }
}

// A block that was freed is given to whoever asks next, and to whoever reads a core dump.
#[test]
fn what_we_free_holds_no_secret() {
    let random = |n: usize| -> String { std::iter::repeat_with(fastrand::alphanumeric).take(n).collect() };
    let (password, push) = (random(120), random(60));
    let header = base64::prelude::BASE64_STANDARD.encode(format!("{ADA}:{password}"));
    for secret in [&password, &header, &push] {
        let bytes = secret.as_bytes();
        for at in [bytes.len() / 4, bytes.len() / 2, bytes.len() - PIECE] {
            let piece: Vec<u8> = bytes[at..at + PIECE].iter().map(|b| b ^ VEIL).collect();
            NEEDLES.lock().unwrap().push(piece.try_into().unwrap());
        }
    }
    let sim = Sim::builder().user(ADA, &password).start().unwrap();
    let echo = echo();
    ON.store(true, Ordering::SeqCst);
    // The search works: this is not wiped.
    drop(std::hint::black_box(password.clone()));
    assert!(
        FOUND.lock().unwrap().drain(..).any(|(size, _)| size == password.len()),
        "the allocator sees nothing"
    );
    for (mode, url) in [("streaming", sim.url()), ("push", sim.url()), ("pull", &echo)] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new();
        options.set("url", url).unwrap().set("user", ADA).unwrap().set("password", &password).unwrap();
        // Or nothing would be sent before the server has offered a way.
        options.set("auth", "basic").unwrap();
        options.set("mode", mode).unwrap().set("fetch", "mime").unwrap();
        options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
        options.set("trace_wire", folder.path().join("wire.log").to_str().unwrap()).unwrap();
        options.set("state_dir", folder.path().join("state").to_str().unwrap()).unwrap();
        if mode == "push" {
            options.set("push_listen", "127.0.0.1:0").unwrap().set("push_secret", &push).unwrap();
        }
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        if mode == "pull" {
            let e = client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err();
            assert!(e.to_string().contains("***"), "{e}");
        } else {
            until(&client, EventKind::Connected);
            sim.exchange().deliver(ADA, b"Subject: Hello\r\n\r\nText").unwrap();
            until(&client, EventKind::NewMail);
        }
        assert!(client.close());
    }
    ON.store(false, Ordering::SeqCst);
    let mut by: BTreeMap<String, (usize, Vec<usize>)> = BTreeMap::new();
    let found = std::mem::take(&mut *FOUND.lock().unwrap());
    for (size, trace) in &found {
        let text = trace.to_string();
        let whose = whose(&text);
        let ours = OURS.iter().any(|place| whose.starts_with(place));
        assert!(!ours, "a block of {size} bytes of {whose}:\n{text}");
        let of = by.entry(whose).or_default();
        of.0 += 1;
        of.1.push(*size);
    }
    for (whose, (count, sizes)) in by {
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        eprintln!("{whose} freed {count} blocks of {least} to {most} bytes with a secret in them");
    }
}
