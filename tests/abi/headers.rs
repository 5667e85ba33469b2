//! `include/ewsnotify.h` and `include/ewsnotify_ffi.h` are made of `src/ffi`. After a change there:
//! `EWSN_WRITE_HEADERS=1 cargo test --test abi headers`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::library;

const ABOUT: &str = "/* libewsnotify: tells a program at once when something happens in an Exchange mailbox.
 *
 * Words      client: one process's watches, their connections, state and queue. watch: one mailbox with its folders, events and
 *            mode; the server's subscriptions behind it come and go unseen. event: something that the host is told.
 * Handles    opaque. Each is freed by the *_free of its kind; to free NULL, or one that was freed already, does no harm. Any
 *            order is safe. A handle that is none gives EWSN_E_INVALID.
 * Strings    in: UTF-8, ended by NUL, copied. Out: const; they belong to the handle, or, where the comment says so, to the
 *            calling thread until its next call of the same function. Never to be freed by the host.
 * Results    0 success, above 0 a normal outcome, below 0 an error: ewsn_last_error() has its text. Functions that return a
 *            pointer or a number return NULL, 0 or -1 for an error, and ewsn_last_status() has the status. Nothing is written
 *            on error.
 * Threads    any function from any thread. ewsn_wake also in a signal handler. The library's own threads block all signals.
 * Callbacks  only inside ewsn_dispatch, on the thread that calls it. What they return means nothing.
 * fork       a client belongs to the process that opened it: elsewhere EWSN_E_FORKED, and ewsn_free does no harm. Open a new
 *            one in the child.
 */";

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut builder = cbindgen::Builder::new().with_config(cbindgen::Config {
        language: cbindgen::Language::C,
        style: cbindgen::Style::Type,
        documentation_style: cbindgen::DocumentationStyle::C,
        no_includes: true,
        line_length: 125,
        ..cbindgen::Config::default()
    });
    for file in ["mod", "error", "options", "client", "dispatch", "event"] {
        builder = builder.with_src(root.join(format!("src/ffi/{file}.rs")));
    }
    let mut bytes = Vec::new();
    builder.generate().expect("src/ffi can be read").write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// Constants as enumerators: PHP and cffi see no macros.
fn declarations() -> String {
    let mut text = String::new();
    for line in generated().lines() {
        match line.strip_prefix("#define ").and_then(|rest| rest.split_once(' ')) {
            Some((name, value)) => text.push_str(&format!("enum {{ {name} = {value} }};\n")),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text.trim().to_owned()
}

fn headers() -> [(&'static str, String); 2] {
    let body = declarations();
    let c = format!(
        "{ABOUT}\n#ifndef EWSNOTIFY_H\n#define EWSNOTIFY_H\n#include <stdint.h>\n#ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n{body}\n\n\
         #ifdef __cplusplus\n}}\n#endif\n#endif\n"
    );
    let ffi = format!("{ABOUT}\n/* Without a preprocessor, for PHP FFI and Python cffi. */\n\n{body}\n");
    [("ewsnotify.h", c), ("ewsnotify_ffi.h", ffi)]
}

/// A host would call a function that is not there, or with other arguments.
#[test]
fn the_headers_are_those_of_the_code() {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    for (name, text) in headers() {
        let path = include.join(name);
        if std::env::var_os("EWSN_WRITE_HEADERS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == text,
            "include/{name} is not what src/ffi says: EWSN_WRITE_HEADERS=1 cargo test --test abi headers"
        );
    }
}

/// A program that was linked with an older version would not start; or a symbol of ours would take the place of one of the host's.
#[test]
fn the_library_exports_what_the_list_says() {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let exported: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .map(str::to_owned)
        .collect();
    // Name and the version that it came in. What was released stays.
    let listed = include_str!("../../include/symbols.txt").lines().filter(|line| !line.starts_with('#'));
    let listed: BTreeSet<String> =
        listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert_eq!(exported, listed, "include/symbols.txt");
}
