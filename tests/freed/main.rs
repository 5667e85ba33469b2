//! Secrets are wiped before their memory is given back: an allocator looks at each block that is freed while a client signs in, by
//! each way that there is, is told off by a server that quotes the request, and goes. What other crates free unwiped is counted and
//! printed.
#![cfg(all(feature = "sim", target_os = "linux"))]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

mod scenes;

/// What is looked for is a piece of the secret.
const PIECE: usize = 12;
/// What is looked for must not be found where it is kept for the search.
const VEIL: u8 = 0x5A;
/// What holds secrets, and has to wipe them. Answers in XML, in which a server may quote them, are not among that.
const OURS: [&str; 19] = [
    "src/auth/",
    "src/bin/",
    "src/cookies.rs",
    "src/error.rs",
    "src/ffi/",
    "src/net/ask.rs",
    "src/net/buffers.rs",
    "src/net/lane.rs",
    "src/net/link.rs",
    "src/net/proxy.rs",
    "src/net/slot.rs",
    "src/net/tls.rs",
    "src/net/transport.rs",
    "src/net/tunnel/",
    "src/net/wire_log/",
    "src/options/",
    "src/runtime/oauth.rs",
    "src/sign_in/",
    "src/store/",
];

/// Who else frees some unwiped, as the README says. Of any other it is we who let it: its buffer grew, or was not ours to give.
const THEIRS: [&str; 3] = ["http-", "rustls", "xml-"];

struct Looking;

static ON: AtomicBool = AtomicBool::new(false);
static NEEDLES: Mutex<Vec<[u8; PIECE]>> = Mutex::new(Vec::new());
/// A bit for each two letters that a needle begins with: of most blocks no more is looked at.
static BEGINS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
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
            if bytes.windows(PIECE).any(|window| may_begin(window) && is_needle(window)) {
                let trace = Backtrace::force_capture();
                FOUND.lock().unwrap_or_else(|e| e.into_inner()).push((layout.size(), trace));
            }
            WITHIN.set(false);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

fn place(begin: &[u8]) -> (usize, u64) {
    let two = usize::from(begin[0]) << 8 | usize::from(begin[1]);
    (two / 64, 1 << (two % 64))
}

fn may_begin(window: &[u8]) -> bool {
    let (word, bit) = place(window);
    BEGINS[word].load(Ordering::Relaxed) & bit != 0
}

fn is_needle(window: &[u8]) -> bool {
    let needles = NEEDLES.lock().unwrap_or_else(|e| e.into_inner());
    needles.iter().any(|needle| window.iter().zip(needle).all(|(a, b)| a ^ VEIL == *b))
}

/// From now on pieces of this are looked for: from its first half, its middle and its end.
fn look_for(secret: &[u8]) {
    for at in [secret.len() / 4, secret.len() / 2, secret.len() - PIECE] {
        look_for_piece(&secret[at..]);
    }
}

/// The same for what a text begins with.
fn look_for_piece(secret: &[u8]) {
    WITHIN.set(true);
    let piece: Vec<u8> = secret[..PIECE].iter().map(|b| b ^ VEIL).collect();
    let (word, bit) = place(secret);
    BEGINS[word].fetch_or(bit, Ordering::SeqCst);
    NEEDLES.lock().unwrap_or_else(|e| e.into_inner()).push(piece.try_into().unwrap());
    WITHIN.set(false);
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// The first of our files, or of the crates below us, that a free was on the way through; where it is the end of something of theirs that
/// we had, it is theirs.
fn whose(trace: &str) -> String {
    for line in trace.lines().map(str::trim) {
        if let Some((_, what)) = line.split_once("drop_in_place<") {
            let what = what.trim_start_matches(['(', '[', '&']).trim_start_matches("dyn ");
            match what.split("::").next().unwrap_or_default() {
                "alloc" | "core" | "std" | "ewsnotify" => {}
                name if name == what || name.contains(['<', '>', ',']) => {}
                name => return name.to_owned(),
            }
        }
        let Some(place) = line.strip_prefix("at ") else { continue };
        if ["tests/freed/", "/rustc/", "/rust/deps/"].iter().any(|p| place.contains(p)) {
            continue;
        }
        if let Some((_, rest)) = place.split_once("/registry/src/") {
            return rest.split('/').nth(1).unwrap_or_default().to_owned();
        }
        if let Some((_, file)) = place.split_once("/src/") {
            return format!("src/{}", file.split(':').next().unwrap_or_default());
        }
    }
    "the test".to_owned()
}

/// The first of our files that a free was on the way through.
fn on_behalf_of(trace: &str) -> String {
    let places = trace.lines().filter_map(|line| line.trim().strip_prefix("at "));
    let mut ours = places.filter(|place| {
        !["/registry/", "/rustc/", "/rust/deps/", "tests/"].iter().any(|p| place.contains(p))
    });
    let file = ours.find_map(|place| Some(place.split_once("/src/")?.1));
    file.map_or("the test".to_owned(), |file| format!("src/{}", file.split(':').next().unwrap_or_default()))
}

/// A host's logger.
struct Nobody;

impl log::Log for Nobody {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}

// A block that was freed is given to whoever asks next, and to whoever reads a core dump.
#[test]
fn what_we_free_holds_no_secret() {
    let control = scenes::made("control", 80);
    look_for(control.as_bytes());
    ON.store(true, Ordering::SeqCst);
    // The search works: this is not wiped.
    drop(std::hint::black_box(control.clone()));
    let seen = |size| FOUND.lock().unwrap().drain(..).any(|(of, _)| of == size);
    assert!(seen(control.len()), "the allocator sees nothing");
    scenes::play();
    // All that was played with no logger of the host's, and none has come: the host may still have its own.
    assert_eq!(log::max_level(), log::LevelFilter::Off);
    log::set_logger(&Nobody).unwrap();
    ON.store(false, Ordering::SeqCst);
    // What the simulator and the test free is their own affair.
    let theirs = |place: &str| place.starts_with("src/sim/") || place == "the test";
    let mut by: BTreeMap<(String, String), (usize, Vec<usize>)> = BTreeMap::new();
    let mut bad = BTreeMap::new();
    let found = std::mem::take(&mut *FOUND.lock().unwrap());
    for (size, trace) in &found {
        let text = trace.to_string();
        let whose = whose(&text);
        let behalf = on_behalf_of(&text);
        let is_known = THEIRS.iter().any(|name| whose.starts_with(name));
        let is_others = !whose.starts_with("src/") && !is_known && !theirs(&whose) && !theirs(&behalf);
        if is_others || OURS.iter().any(|place| whose.starts_with(place)) {
            bad.entry(whose.clone()).or_insert(text);
        }
        let of = by.entry((whose, behalf)).or_default();
        of.0 += 1;
        of.1.push(*size);
    }
    for ((whose, of), (count, sizes)) in by.into_iter().filter(|((_, of), _)| !theirs(of)) {
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        eprintln!("{whose} freed {count} blocks of {least} to {most} bytes with a secret in them, for {of}");
    }
    let traces: String = bad.iter().map(|(whose, trace)| format!("{whose}:\n{trace}\n")).collect();
    assert!(bad.is_empty(), "blocks of ours, of each one:\n{traces}");
}
