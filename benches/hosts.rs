//! `cargo bench --bench hosts`: the C interface. The size of the stripped library; what an event costs a host in C, Python and PHP
//! in each way, once it lies in the queue; how soon a signal ends a wait. Medians of alternating rounds.
//!
//! "accessors" reads ten fields, "JSON" parses the line where the language has a parser, "dispatch" is what a registered callback
//! costs: ten fields in C, the parsed line in Python and PHP.

#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "support/server.rs"]
mod server;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use server::{Plan, Server};

const EVENTS: usize = 20_000;
const ROUNDS: usize = 5;
const WAYS: [&str; 3] = ["accessors", "JSON", "dispatch"];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = std::env::current_exe().unwrap().with_file_name("libewsnotify.so");
    let dir = tempfile::tempdir().unwrap();
    let (major, rest) = env!("CARGO_PKG_VERSION").split_once('.').unwrap();
    let soname = format!("libewsnotify.so.{major}.{}", rest.split('.').next().unwrap());
    let stripped = dir.path().join(&soname);
    run(Command::new("strip").arg("-o").arg(&stripped).arg(&library));
    println!("stripped library: {:.2} MB", std::fs::metadata(&stripped).unwrap().len() as f64 / 1e6);

    let program = dir.path().join("host");
    run(Command::new("cc")
        .args(["-O2", "-std=gnu99", "-I"])
        .arg(root.join("include"))
        .arg(root.join("benches/hosts/host.c"))
        .arg("-o")
        .arg(&program)
        .arg(&stripped));
    let python = std::env::var_os("EWSN_PYTHON").unwrap_or_else(|| "python3".into());
    let hosts: [(&str, Vec<PathBuf>); 3] = [
        ("C", vec![program]),
        ("Python", vec![python.into(), root.join("benches/hosts/host.py")]),
        ("PHP", vec!["php".into(), root.join("benches/hosts/host.php")]),
    ];
    let command = |words: &[PathBuf]| {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("LD_LIBRARY_PATH", dir.path())
            .env("PYTHONPATH", root.join("ffi-examples/python"))
            .env("EWSNOTIFY_HEADER", root.join("include/ewsnotify_ffi.h"))
            .env("EWSNOTIFY_WRAPPER", root.join("ffi-examples/php/Ewsnotify.php"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    };
    let mut costs: [[Vec<f64>; 3]; 3] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, words), costs) in hosts.iter().zip(&mut costs) {
            for (way, costs) in WAYS.iter().zip(costs) {
                costs.push(cost(command(words), way));
            }
        }
    }
    println!("{:<8} {:>12} {:>12} {:>12}  ns/event, {EVENTS} events", "", WAYS[0], WAYS[1], WAYS[2]);
    for ((name, _), costs) in hosts.iter().zip(&mut costs) {
        let [a, b, c] = costs.each_mut().map(|costs| median(costs));
        println!("{name:<8} {a:>12.0} {b:>12.0} {c:>12.0}");
    }
    let programs = root.join("tests/abi/programs");
    for ((name, words), program) in hosts[1..].iter().zip(["until_signal.py", "until_signal.php"]) {
        for signal in [Signal::TERM, Signal::INT] {
            let words = [words[0].clone(), programs.join(program)];
            let mut times: Vec<f64> = (0..ROUNDS).map(|_| ended_by(command(&words), signal)).collect();
            println!("{name}: {signal:?} ends next(60000) and the process in {:.1} ms", median(&mut times));
        }
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap_or_else(|e| panic!("{command:?}: {e}")).success(), "{command:?}");
}

fn start(host: &mut Command) -> Child {
    let name = host.get_program().to_owned();
    host.spawn().unwrap_or_else(|e| panic!("{}: {e}; tests/install has what is needed", name.display()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Waits until the host says so; the rest of what it says.
fn began(host: &mut Child) -> BufReader<ChildStdout> {
    let mut lines = BufReader::new(host.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "the host ended early");
    lines
}

/// Nanoseconds for each event.
fn cost(mut command: Command, way: &str) -> f64 {
    let server = Server::start(false, Plan::Burst(EVENTS));
    let options = serde_json::json!({
        "url": server.url, "user": "ada@example.test", "password": "secret", "queue_events": EVENTS + 100,
        "queue_bytes": 1_000_000_000,
    });
    let mut host = start(command.arg(options.to_string()).arg(way).arg(EVENTS.to_string()));
    let mut lines = began(&mut host);
    server.go();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    host.wait().unwrap();
    line.trim().parse().unwrap_or_else(|e| panic!("{way}: {line:?}: {e}"))
}

/// Milliseconds from the signal to the end of the process.
fn ended_by(mut command: Command, signal: Signal) -> f64 {
    let mut host = start(&mut command);
    let _lines = began(&mut host);
    // It says that it is about to wait, and nothing can be seen of the wait itself.
    std::thread::sleep(Duration::from_millis(300));
    let sent = Instant::now();
    kill_process(Pid::from_child(&host), signal).unwrap();
    assert_eq!(host.wait().unwrap().code(), Some(7));
    sent.elapsed().as_secs_f64() * 1e3
}
