//! What hosts do wrong: each function of the header, with NULL, a stale handle, one of another kind, unknown numbers and text
//! that is not UTF-8. Nothing crashes, each says EWSN_E_INVALID with a text, and freeing does no harm.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the arguments are as the header asks for, or what the test is about"
)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

// The functions themselves, as the header has them: headers.rs sees to that.
unsafe extern "C" {
    fn ewsn_abi_check(header_abi: i32) -> i32;
    fn ewsn_abi_version() -> i32;
    fn ewsn_ack(c: *mut c_void, seq: u64) -> i32;
    fn ewsn_close(c: *mut c_void, timeout_ms: i32) -> i32;
    fn ewsn_dispatch(c: *mut c_void, timeout_ms: i32, max_events: u32) -> i32;
    fn ewsn_event_free(e: *mut c_void);
    fn ewsn_event_int(e: *const c_void, field: i32) -> i64;
    fn ewsn_event_str(e: *const c_void, field: i32) -> *const c_char;
    fn ewsn_free(c: *mut c_void);
    fn ewsn_get_item_json(c: *mut c_void, watch: u64, id: *const c_char, key: *const c_char)
    -> *const c_char;
    fn ewsn_last_error() -> *const c_char;
    fn ewsn_last_error_code() -> *const c_char;
    fn ewsn_last_status() -> i32;
    fn ewsn_nack(c: *mut c_void, seq: u64, how: i32, delay_ms: i64) -> i32;
    fn ewsn_next(c: *mut c_void, timeout_ms: i32, out: *mut *mut c_void) -> i32;
    fn ewsn_open(o: *const c_void, out: *mut *mut c_void) -> i32;
    fn ewsn_open_with_state_json(json: *const c_char, state: *const c_char) -> *mut c_void;
    fn ewsn_open_json(json: *const c_char) -> *mut c_void;
    fn ewsn_options_describe() -> *const c_char;
    fn ewsn_options_free(o: *mut c_void);
    fn ewsn_options_new() -> *mut c_void;
    fn ewsn_options_set(o: *mut c_void, key: *const c_char, value: *const c_char) -> i32;
    fn ewsn_options_set_int(o: *mut c_void, key: *const c_char, value: i64) -> i32;
    fn ewsn_options_set_json(o: *mut c_void, json: *const c_char) -> i32;
    fn ewsn_release(c: *mut c_void, id: u64) -> i32;
    fn ewsn_save_attachment(c: *mut c_void, watch: u64, id: *const c_char, path: *const c_char) -> i32;
    fn ewsn_save_mime(
        c: *mut c_void,
        watch: u64,
        id: *const c_char,
        key: *const c_char,
        path: *const c_char,
    ) -> i32;
    fn ewsn_sign_in_begin_json(json: *const c_char, redirect: *const c_char) -> *const c_char;
    fn ewsn_sign_in_finish_json(
        json: *const c_char,
        kept: *const c_char,
        query: *const c_char,
        timeout_ms: i32,
    ) -> *const c_char;
    fn ewsn_status_name(status: i32) -> *const c_char;
    fn ewsn_trace_wire(c: *mut c_void, path: *const c_char) -> i32;
    fn ewsn_unwatch(c: *mut c_void, watch: u64) -> i32;
    fn ewsn_version() -> *const c_char;
}

const INVALID: i32 = -1;
/// With which a user could sign in.
const SIGN_IN: &CStr =
    c"{\"user\":\"ada@example.test\",\"oauth_tenant\":\"example.test\",\"oauth_client_id\":\"desk\"}";
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

/// What may be wrong with a parameter, by its type and name; none for those that take any value.
fn wrong(function: &str, parameter: &Parameter, handles: &Handles) -> Vec<usize> {
    let optional = match function {
        "ewsn_open_json" | "ewsn_watch_json" | "ewsn_open_with_state_json" => parameter.name == "json",
        // Without options there is nobody to sign in.
        "ewsn_sign_in_begin_json" | "ewsn_sign_in_finish_json" => parameter.name.ends_with("_or_null"),
        _ => matches!(
            parameter.name,
            "change_key" | "options" | "out_watch" | "path_or_null" | "token" | "why_not"
        ),
    };
    let null = (!optional).then_some(0);
    match (parameter.kind, parameter.name) {
        ("ewsn_client *" | "const ewsn_client *", _) => null.into_iter().chain(handles.none_of(0)).collect(),
        ("ewsn_event *" | "const ewsn_event *", _) => null.into_iter().chain(handles.none_of(1)).collect(),
        ("ewsn_options *" | "const ewsn_options *", _) => {
            null.into_iter().chain(handles.none_of(2)).collect()
        }
        ("const char *", _) => null.into_iter().chain([BAD.addr()]).collect(),
        ("ewsn_client **" | "ewsn_event **" | "uint64_t *", _) => null.into_iter().collect(),
        ("int32_t", "field" | "how") => vec![0, 4711, usize::MAX],
        ("uint64_t", "seq" | "id" | "watch") => vec![4711, usize::MAX],
        // Any time, any number of events, any address to be handed on; refused with another status, below.
        ("int32_t", "timeout_ms" | "header_abi" | "status") | ("uint32_t", "max_events") => Vec::new(),
        ("int64_t", "delay_ms" | "value") => Vec::new(),
        ("int64_t", "expires_unix_ms") => vec![usize::MAX],
        ("ewsn_event_fn" | "ewsn_drop_fn" | "void *", _) => Vec::new(),
        other => panic!("{function}: what can be wrong with {other:?}?"),
    }
}

/// A good value.
fn right(function: &str, parameter: &Parameter, handles: &Handles) -> usize {
    static PLACE: AtomicUsize = AtomicUsize::new(0);
    match (parameter.kind, parameter.name) {
        ("ewsn_client *" | "const ewsn_client *", _) => handles.good[0],
        ("ewsn_event *" | "const ewsn_event *", _) => handles.good[1],
        ("ewsn_options *" | "const ewsn_options *", _) => handles.good[2],
        ("const char *", "json") if function.starts_with("ewsn_sign_in") => SIGN_IN.as_ptr().addr(),
        ("const char *", "redirect_or_null") => c"https://desk.example.test/".as_ptr().addr(),
        ("const char *", "json" | "state") => c"{}".as_ptr().addr(),
        ("const char *", "key") => c"url".as_ptr().addr(),
        ("const char *", "path") => {
            static PATH: OnceLock<CString> = OnceLock::new();
            let path = std::env::temp_dir().join(format!("ewsn-misuse-{}", std::process::id()));
            PATH.get_or_init(|| CString::new(path.to_str().unwrap()).unwrap()).as_ptr().addr()
        }
        ("const char *", _) => c"x".as_ptr().addr(),
        ("ewsn_client **" | "ewsn_event **" | "uint64_t *", _) => PLACE.as_ptr().expose_provenance(),
        (_, "field" | "how" | "seq" | "id" | "watch") => 1,
        _ => 0,
    }
}

/// Handles that are good, and those that are none.
struct Handles {
    good: [usize; 3],
    freed: [usize; 3],
}

impl Handles {
    fn make() -> [usize; 3] {
        let client = call("ewsn_open_json", &[0]);
        assert_eq!(call("ewsn_close", &[client, 0]) as i32, 0);
        let mut event = 0_usize;
        assert_eq!(call("ewsn_next", &[client, 0, (&raw mut event).expose_provenance()]) as i32, 0);
        [client, event, call("ewsn_options_new", &[])]
    }

    fn new() -> Handles {
        let freed = Handles::make();
        Handles { good: freed, freed }.end();
        Handles { good: Handles::make(), freed }
    }

    fn end(&self) {
        for (name, handle) in ["ewsn_free", "ewsn_event_free", "ewsn_options_free"].into_iter().zip(self.good)
        {
            call(name, &[handle]);
        }
    }

    /// Those that are none of a kind: of other kinds, freed, wild.
    fn none_of(&self, kind: usize) -> Vec<usize> {
        let wild = [1, 2, 3, 0xdead_beef, usize::MAX, usize::MAX - 1];
        let others = self.good.iter().enumerate().filter(|(at, _)| *at != kind).map(|(_, handle)| *handle);
        others.chain(self.freed).chain(wild).collect()
    }
}

struct Parameter {
    kind: &'static str,
    name: &'static str,
}

/// The functions of the header: what they return, their names and parameters.
fn functions() -> Vec<(&'static str, &'static str, Vec<Parameter>)> {
    let split = |declared: &'static str| {
        let at = declared.rfind([' ', '*']).unwrap() + 1;
        (declared[..at].trim(), &declared[at..])
    };
    let header = include_str!("../../include/ewsnotify_ffi.h");
    let mut functions = Vec::new();
    for statement in
        header.split("*/").filter_map(|part| part.split("/*").next()).flat_map(|part| part.split(';'))
    {
        let Some((head, parameters)) = statement.trim().split_once('(') else { continue };
        if head.starts_with("typedef") {
            continue;
        }
        let (returned, name) = split(head);
        let parameters = parameters.trim_end_matches(')').split(',').map(str::trim).filter(|p| *p != "void");
        let parameters = parameters.map(|p| {
            let (kind, name) = split(p);
            Parameter { kind, name }
        });
        functions.push((returned, name, parameters.collect()));
    }
    functions
}

/// Calls a function of the library by its name. On the platforms that it is built for, arguments that are too many do no harm.
fn call(name: &str, arguments: &[usize]) -> usize {
    type Any = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> usize;
    static LIBRARY: OnceLock<usize> = OnceLock::new();
    unsafe extern "C" {
        fn dlopen(file: *const c_char, flags: i32) -> *mut c_void;
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    let library = LIBRARY.get_or_init(|| {
        let path = CString::new(super::library().to_str().unwrap()).unwrap();
        // RTLD_NOW
        unsafe { dlopen(path.as_ptr(), 2) }.expose_provenance()
    });
    let name = CString::new(name).unwrap();
    let found = unsafe { dlsym(std::ptr::with_exposed_provenance_mut(*library), name.as_ptr()) };
    assert!(!found.is_null(), "{name:?} is not exported");
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = all;
    unsafe { std::mem::transmute::<*mut c_void, Any>(found)(a, b, c, d, e, f) }
}

/// A host with a bug would crash instead of being told. The table is made of the header: for each parameter of each function
/// all that can be wrong with it, the others being right. A parameter of a new sort must be thought of.
#[test]
fn whatever_is_wrong_is_refused() {
    let mut tried = 0;
    for (returned, name, parameters) in functions() {
        for (at, parameter) in parameters.iter().enumerate() {
            let handles = Handles::new();
            for bad in wrong(name, parameter, &handles) {
                let mut arguments: Vec<usize> = parameters.iter().map(|p| right(name, p, &handles)).collect();
                arguments[at] = bad;
                let got = call(name, &arguments);
                let what =
                    || format!("{name}: {} {} = {bad:#x} gave {got:#x}", parameter.kind, parameter.name);
                let refused = match returned {
                    // Those that free, and the one that a signal handler calls, do nothing then.
                    "void" => true,
                    "ewsn_status" => got as i32 == INVALID,
                    "int32_t" => matches!((name, got as i32), (_, INVALID) | ("ewsn_event_type", 0)),
                    "int64_t" => matches!((name, got as i64), (_, -1) | ("ewsn_event_time_ms", 0)),
                    "uint64_t" => got == 0,
                    "const char *" | "ewsn_client *" | "ewsn_event *" => got == 0,
                    other => panic!("{name} returns {other}"),
                };
                assert!(refused, "{}", what());
                if returned != "void" {
                    assert_eq!(call("ewsn_last_status", &[]) as i32, INVALID, "{}", what());
                    assert!(!text(call("ewsn_last_error", &[]) as *const c_char).is_empty(), "{}", what());
                }
                tried += 1;
            }
            // The good ones have come to no harm.
            let mut place = 0_usize;
            assert_eq!(call("ewsn_event_type", &[handles.good[1]]) as i32, 110, "{name}");
            assert_eq!(
                call("ewsn_next", &[handles.good[0], 0, (&raw mut place).expose_provenance()]) as i32,
                2,
                "{name}"
            );
            assert_eq!(
                call("ewsn_options_set_json", &[handles.good[2], c"{}".as_ptr().addr()]) as i32,
                0,
                "{name}"
            );
            handles.end();
        }
    }
    assert!(tried > 200, "{tried}");
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
        assert!(ewsn_save_attachment(client, 0, c"id".as_ptr(), null()) == INVALID && refused());
        assert!(ewsn_save_attachment(client, 0, null(), c"x".as_ptr()) == INVALID && refused());
        assert!(ewsn_save_mime(client, 1, c"id".as_ptr(), null(), null()) == INVALID && refused());
        assert!(ewsn_trace_wire(client, BAD) == INVALID && refused());
        assert_eq!(ewsn_trace_wire(client, null()), 0, "it was off already");
        let (options_json, back) = (SIGN_IN.as_ptr(), c"https://desk.example.test/".as_ptr());
        assert!(ewsn_sign_in_begin_json(c"{}".as_ptr(), back).is_null() && refused());
        assert!(ewsn_sign_in_begin_json(c"[]".as_ptr(), back).is_null() && refused());
        assert!(ewsn_sign_in_begin_json(options_json, c"/back".as_ptr()).is_null() && refused());
        let begun = text(ewsn_sign_in_begin_json(options_json, back));
        let kept = begun.split("\"kept\":\"").nth(1).unwrap().trim_end_matches("\"}");
        let cut = CString::new(&kept[..kept.len() - 1]).unwrap();
        let kept = CString::new(kept).unwrap();
        for query in [c"", c"?", c"code=x", c"code=x&state=y", c"state=", c"error=access_denied"] {
            let finished = ewsn_sign_in_finish_json(options_json, kept.as_ptr(), query.as_ptr(), 0);
            assert!(finished.is_null() && refused(), "{query:?}");
        }
        assert!(ewsn_sign_in_finish_json(options_json, kept.as_ptr(), null(), 0).is_null() && refused());
        assert!(ewsn_sign_in_finish_json(options_json, cut.as_ptr(), null(), 0).is_null() && refused());
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
