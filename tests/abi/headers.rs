//! `include/ewsnotify.h` and `include/ewsnotify_ffi.h` are made of `src/ffi`. After a change there:
//! `EWSN_WRITE_HEADERS=1 cargo test --test abi headers`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::install::{prefix, run};
use super::{library, program};

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
 * Callbacks  inside ewsn_dispatch, on the thread that calls it; with option dispatch=thread (C and C++ only) on one thread of the
 *            library's. No lock is held while they run.
 * fork       a client belongs to the process that opened it: elsewhere EWSN_E_FORKED, and ewsn_free does no harm. Open a new
 *            one in the child.
 */";

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let builder = cbindgen::Builder::new().with_config(cbindgen::Config {
        language: cbindgen::Language::C,
        style: cbindgen::Style::Type,
        documentation_style: cbindgen::DocumentationStyle::C,
        no_includes: true,
        line_length: 125,
        ..cbindgen::Config::default()
    });
    // It follows the modules.
    let builder = builder.with_src(root.join("src/ffi/mod.rs"));
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

/// One of the languages would not take the header.
#[test]
fn every_language_reads_the_headers() {
    let dir = tempfile::tempdir().unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let with = |compiler: &str, standard: &str, header: &str, extension: &str| {
        let source = dir.path().join(format!("alone.{extension}"));
        // Alone, and twice.
        fs::write(
            &source,
            format!("#include <{header}>\n#include <{header}>\nint main(void) {{ return EWSN_OK; }}\n"),
        )
        .unwrap();
        run(Command::new(compiler)
            .args([standard, "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
            .arg(&include)
            .arg(&source));
    };
    for standard in ["-std=c99", "-std=c11", "-std=c17"] {
        with("gcc", standard, "ewsnotify.h", "c");
    }
    for standard in ["-std=c++11", "-std=c++17", "-std=c++20"] {
        with("g++", standard, "ewsnotify.h", "cpp");
        with("g++", standard, "ewsnotify.hpp", "cpp");
    }
    // The other one needs only the numbers' names.
    let source = dir.path().join("ffi.c");
    fs::write(
        &source,
        "#include <stdint.h>\n#include <ewsnotify_ffi.h>\nint main(void) { return EWSN_OK; }\n",
    )
    .unwrap();
    run(Command::new("gcc")
        .args(["-std=c99", "-pedantic", "-Werror", "-fsyntax-only", "-I"])
        .arg(&include)
        .arg(&source));

    let header = include.join("ewsnotify_ffi.h");
    let script = "$f = FFI::cdef(file_get_contents($argv[1]), 'libewsnotify.so.0.1'); echo $f->ewsn_abi_check($f->EWSN_ABI), $f->ewsn_version();";
    let said = run(Command::new("php")
        .env("LD_LIBRARY_PATH", prefix().join("lib"))
        .args(["-r", script, "--"])
        .arg(&header));
    assert_eq!(said, format!("0{}", env!("CARGO_PKG_VERSION")));
    let python = std::env::var_os("EWSN_PYTHON").unwrap_or_else(|| "python3".into());
    let said = run(Command::new(python)
        .env("LD_LIBRARY_PATH", prefix().join("lib"))
        .arg(program("cffi_host.py"))
        .arg(&header));
    assert_eq!(said, "fine\n");
}

/// A wrapper would load another library than the one it was made for, or refuse the right one.
#[test]
fn the_wrappers_are_of_this_version() {
    let (major, rest) = env!("CARGO_PKG_VERSION").split_once('.').unwrap();
    let soname = format!("libewsnotify.so.{major}.{}", rest.split('.').next().unwrap());
    let header = include_str!("../../include/ewsnotify_ffi.h");
    let abi = header.split("EWSN_ABI = ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let python = include_str!("../../ffi-examples/python/ewsnotify.py");
    assert!(
        python.contains(&format!("_ABI = {abi}\n")) && python.contains(&format!("_NAME = \"{soname}\"\n"))
    );
    let php = include_str!("../../ffi-examples/php/Ewsnotify.php");
    assert!(php.contains(&format!("ABI = {abi};\n")) && php.contains(&format!("NAME = '{soname}';\n")));
    let linked = run(Command::new("readelf").arg("-d").arg(library()));
    assert!(linked.contains(&format!("soname: [{soname}]")) && linked.contains("NODELETE"), "{linked}");
}

/// What runs at the end of a process would meet our threads.
#[test]
fn nothing_is_registered_for_the_end_of_the_process() {
    let imported = run(Command::new("nm").args(["-D", "--undefined-only"]).arg(library()));
    for name in ["atexit", "__cxa_atexit", "on_exit", "at_quick_exit"] {
        let found = imported.split_whitespace().any(|symbol| symbol.split('@').next() == Some(name));
        assert!(!found, "{name} is called: {imported}");
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
    let mut listed = BTreeSet::new();
    let numbers = |version: &str| version.split('.').map(|n| n.parse().unwrap()).collect::<Vec<u32>>();
    for line in include_str!("../../include/symbols.txt").lines().filter(|line| !line.starts_with('#')) {
        let (name, version) = line.split_once(' ').expect("a name and a version");
        assert_eq!(numbers(version).len(), 3, "{line}");
        assert!(numbers(version) <= numbers(env!("CARGO_PKG_VERSION")), "{line}: that version is to come");
        assert!(name.starts_with("ewsn_") && listed.insert(name.to_owned()), "{line}");
    }
    assert_eq!(exported, listed, "include/symbols.txt");
}
