//! Programs in C and C++ that hold the library to its rules, plain, with sanitizers and under valgrind.

use std::path::Path;
use std::process::Command;

use ewsnotify::sim::Sim;

use super::hosts::{ADA, Host, host, mail, options};
use super::install::{compile, run};
use super::{example, program};

const C: [&str; 2] = ["-std=gnu99", "-g"];

pub fn fine(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    // The library itself prints nothing.
    assert_eq!((out.trim_end(), &*err), ("fine", ""));
}

/// A simulator with a mail in it, and the options by which a watch is told of it.
fn with_mail() -> (Sim, String) {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    sim.exchange().deliver(ADA, &mail(1)).unwrap();
    let mut options = options(&sim);
    options["since"] = "all".into();
    (sim, options.to_string())
}

/// A host's signals would find our threads, its children our descriptors, its threads each other's texts.
#[test]
fn the_rules_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (_sim, options) = with_mail();
    fine(host(compile("cc", &program("rules.c"), &C, dir.path())).arg(options));
}

/// A callback that leaves the C way would leave the client locked.
#[test]
fn a_callback_may_leave_close_and_free() {
    let dir = tempfile::tempdir().unwrap();
    fine(&mut host(compile("cc", &program("leave.c"), &C, dir.path())));
}

/// One that throws, likewise.
#[test]
fn a_callback_may_throw() {
    let dir = tempfile::tempdir().unwrap();
    for standard in ["-std=c++11", "-std=c++20"] {
        fine(&mut host(compile("c++", &program("throw.cpp"), &[standard, "-pedantic"], dir.path())));
    }
}

/// A callback on the library's thread would be called when its data is gone, or twice at a time, or hold up the end.
#[test]
fn a_thread_of_the_library_calls_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    fine(&mut host(compile("cc", &program("thread.c"), &C, dir.path())));
}

/// The host that users start from, through a break of the connection, until it is told to end.
fn watches(mut command: Command, way: &str, tls: bool) {
    let sim = Sim::builder().user(ADA, "secret").tls(tls).start().unwrap();
    let ca_file = sim.ca_file().map(|file| file.to_str().unwrap().to_owned());
    let mut options = serde_json::json!({
        "url": sim.url(), "user": ADA, "password": "secret", "events": "NewMail", "since": "all",
    });
    if let Some(file) = ca_file {
        options["ca_file"] = file.into();
    }
    sim.exchange().deliver(ADA, &mail(1)).unwrap();
    if way == "thread" {
        options["dispatch"] = "thread".into();
    }
    command.env("EWSNOTIFY_OPTIONS", options.to_string()).arg(way);
    let mut host = Host::start(&mut command);
    host.until("NewMail");
    sim.cut_streams(ewsnotify::sim::fault::Cut::Reset);
    let id = sim.exchange().deliver(ADA, &mail(2)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], id.as_str());
    // With what the tool has to say in its exit code.
    host.stop();
}

fn valgrind(program: &Path) -> Command {
    let mut command = host("valgrind");
    command
        .args(["--error-exitcode=9", "--leak-check=full", "--fair-sched=yes"])
        .args(["--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"])
        .arg(program);
    command
}

/// Memory of the host's would be read after it was freed, or never freed.
#[test]
fn valgrind_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for source in ["leave.c", "thread.c"] {
        let output = valgrind(&compile("cc", &program(source), &C, dir.path())).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{source}: {log}");
        assert!(log.contains("ERROR SUMMARY: 0 errors"), "{source}: {log}");
        let nothing =
            |kind| log.contains(&format!("{kind} lost: 0 bytes")) || log.contains("no leaks are possible");
        assert!(nothing("definitely") && nothing("indirectly"), "{source}: {log}");
    }
    let watch = compile("cc", &example("c/watch.c"), &C, dir.path());
    for way in ["next", "dispatch", "thread"] {
        // Without TLS: valgrind takes what ring's assembly computes for uninitialised.
        watches(valgrind(&watch), way, false);
    }
}

/// The same, and what is undefined.
#[test]
fn the_sanitizers_find_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [&C[..], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]].concat();
    let sanitized = |source: &Path| {
        let program = compile("cc", source, &flags, dir.path());
        let linked = run(Command::new("nm").arg("-u").arg(&program));
        for symbol in ["__asan_init", "__ubsan_handle"] {
            assert!(linked.contains(symbol), "the sanitizer is not linked: {linked}");
        }
        program
    };
    let command = |program: &Path| {
        let mut command = host(program);
        // A leak of the library's own that outlives the program, such as its table of handles, is reachable.
        command.env("ASAN_OPTIONS", "detect_leaks=1:exitcode=9").env("UBSAN_OPTIONS", "halt_on_error=1");
        command
    };
    fine(&mut command(&sanitized(&program("leave.c"))));
    fine(&mut command(&sanitized(&program("thread.c"))));
    let (_sim, options) = with_mail();
    fine(command(&sanitized(&program("rules.c"))).arg(options));
    let watch = sanitized(&example("c/watch.c"));
    for way in ["next", "poll", "dispatch", "thread"] {
        watches(command(&watch), way, true);
    }
}

/// What the programs above are watched by: a mistake is found.
#[test]
fn the_watchers_see_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("mistake.c");
    let text = "#include <ewsnotify.h>\n#include <stdlib.h>\nint main(int argc, char **argv) { (void)argv; \
                ewsn_options *o = ewsn_options_new(); char *text = malloc(8); text[7] = 0; \
                int bad = text[7 + argc]; ewsn_options_free(o); free(text); return bad == 77; }\n";
    std::fs::write(&source, text).unwrap();
    let plain = compile("cc", &source, &C, dir.path());
    let output = valgrind(&plain).output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    let flags = [&C[..], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]].concat();
    let output = host(compile("cc", &source, &flags, dir.path())).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("heap-buffer-overflow"), "{output:?}");
}
