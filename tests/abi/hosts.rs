//! Real hosts in C, C++, Python and PHP watch the simulator over TLS: they are told every mail, also over a loss of the
//! connection, save it byte for byte, acknowledge, and end cleanly on SIGTERM.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::example;
use super::install::{cmake, compile, prefix};

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::Cut;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub const ADA: &str = "ada@example.test";
const LIMIT: Duration = Duration::from_secs(60);

/// A program that uses the library as it is installed.
pub fn host(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_LIBRARY_PATH", prefix().join("lib"))
        .env("PYTHONPATH", example("python"))
        .env("EWSNOTIFY_HEADER", prefix().join("include/ewsnotify_ffi.h"))
        .env("EWSNOTIFY_WRAPPER", example("php/Ewsnotify.php"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

pub fn python() -> Command {
    host(interpreter())
}

/// The same, with Ctrl-C as at a terminal. A shell ignores it for what runs in the background, which is inherited, and Python leaves it so.
pub fn python_at_a_terminal() -> Command {
    let mut command = host("env");
    command.arg("--default-signal=INT").arg(interpreter());
    command
}

fn interpreter() -> OsString {
    std::env::var_os("EWSN_PYTHON").unwrap_or_else(|| "python3".into())
}

pub struct Host {
    child: Child,
    lines: Receiver<Value>,
}

impl Host {
    pub fn start(command: &mut Command) -> Host {
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                // A kill may have cut the last one.
                let Ok(event) = serde_json::from_str(&line) else { return };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Host { child, lines }
    }

    /// Ends it as a crash would; what it had printed.
    pub fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }

    /// What it says within so long.
    pub fn within(&mut self, patience: Duration) -> Option<Value> {
        self.lines.recv_timeout(patience).ok()
    }

    pub fn next(&mut self) -> Value {
        self.lines.recv_timeout(LIMIT).expect("the host says something")
    }

    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next();
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Ends it as an administrator would; it must end by itself then.
    pub fn stop(self) {
        self.signal(Signal::TERM);
        let status = self.end();
        assert!(status.success(), "{status}");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It ends by itself.
    pub fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        let ended = loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(e) => break e == RecvTimeoutError::Disconnected,
            }
        };
        assert!(ended, "the host goes on for more than {LIMIT:?}");
        self.child.wait().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program whose output nobody reads ends by itself.
pub fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the host goes on for more than {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The options of a watch that is told new mail.
pub fn options(sim: &Sim) -> Value {
    json!({
        "url": sim.url(), "ca_file": sim.ca_file().unwrap(), "user": ADA, "password": "secret", "events": "NewMail",
    })
}

pub fn mail(n: usize) -> Vec<u8> {
    let text = format!("Line with ümlaut {n}\r\n").repeat(200);
    format!(
        "From: Bob <bob@example.test>\r\nSubject: Mail {n}\r\nMessage-ID: <{n}@example.test>\r\n\r\n{text}"
    )
    .into_bytes()
}

/// The whole life of a host that prints events and saves messages.
fn watches(mut command: Command, way: &str, more: Value) {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("saved");
    let mut options = options(&sim);
    for (key, value) in more.as_object().unwrap() {
        options[key] = value.clone();
    }
    options["state_dir"] = dir.path().join("state").to_str().unwrap().into();
    options["fetch"] = "mime".into();
    options["spool_dir"] = saved.to_str().unwrap().into();
    command.env("EWSNOTIFY_OPTIONS", options.to_string()).arg(way);
    let mut host = Host::start(&mut command);

    host.until("Connected");
    let mut delivered: Vec<String> = (0..5).map(|n| sim.exchange().deliver(ADA, &mail(n)).unwrap()).collect();
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(host.until("NewMail"));
    }
    sim.cut_streams(Cut::Reset);
    delivered.extend((5..8).map(|n| sim.exchange().deliver(ADA, &mail(n)).unwrap()));
    while told.len() < 8 {
        told.push(host.until("NewMail"));
    }
    let ids = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
    let told_ids: Vec<String> = told.iter().map(|e| e["item_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids(&told_ids), ids(&delivered));
    host.stop();
    for event in &told {
        let n = delivered.iter().position(|id| event["item_id"] == id.as_str()).unwrap();
        let file = Path::new(event["mime_path"].as_str().unwrap());
        assert_eq!(file.parent(), Some(&*saved));
        assert_eq!(std::fs::read(file).unwrap(), mail(n), "message {n}");
    }

    // All of it was acknowledged: nothing is told again.
    let mut host = Host::start(&mut command);
    host.until("Connected");
    let last = sim.exchange().deliver(ADA, &mail(8)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], last.as_str());
    host.stop();
}

/// C programs would miss mail.
#[test]
fn c_programs_are_told_every_mail() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("cc", &example("c/watch.c"), &["-std=gnu99"], dir.path());
    for way in ["next", "poll", "dispatch"] {
        watches(host(&program), way, json!({}));
    }
    watches(host(&program), "thread", json!({ "dispatch": "thread" }));
}

/// C++ programs would miss mail, or a header would not do for the oldest compiler that it is for.
#[test]
fn cpp_is_told_every_mail() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("c++", &example("cpp/watch.cpp"), &["-std=c++11", "-pedantic"], dir.path());
    watches(host(&program), "next", json!({}));
    watches(host(cmake(dir.path())), "dispatch", json!({}));
}

/// Python programs would miss mail, or not end on a signal.
#[test]
fn python_is_told_every_mail() {
    for way in ["next", "dispatch"] {
        let mut command = python();
        command.arg(example("python/watch.py"));
        watches(command, way, json!({}));
    }
}

/// PHP programs would miss mail, or not end on a signal.
#[test]
fn php_is_told_every_mail() {
    for way in ["next", "dispatch"] {
        let mut command = host("php");
        command.arg(example("php/worker.php"));
        watches(command, way, json!({}));
    }
}

/// Programs of an event loop would not be told, or not end on Ctrl-C.
#[test]
fn an_event_loop_is_woken() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let mut host = Host::start(
        python().arg(example("python/asyncio_watch.py")).env("EWSNOTIFY_OPTIONS", options(&sim).to_string()),
    );
    host.until("Connected");
    let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], id.as_str());
    host.signal(Signal::INT);
    let status = host.end();
    assert!(status.success(), "{status}");
}

/// A job would run for ever, or not tell what came between two runs; or two of them would get into each other's way.
#[test]
fn a_job_of_cron_ends_and_the_next_goes_on() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&sim);
    options["state_dir"] = dir.path().join("state").to_str().unwrap().into();
    let run = |seconds: &str| {
        let mut command = host("php");
        command.arg(example("php/cron.php")).arg(seconds).env("EWSNOTIFY_OPTIONS", options.to_string());
        Host::start(&mut command)
    };
    let mut first = run("3");
    first.until("Connected");
    let second = run("60").end();
    assert_eq!(second.code(), Some(3), "the first has the state");
    let live = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(first.until("NewMail")["item_id"], live.as_str());
    first.until("Closed");
    assert_eq!(first.end().code(), Some(0));
    let meanwhile = sim.exchange().deliver(ADA, &mail(2)).unwrap();
    let mut next = run("2");
    assert_eq!(next.until("NewMail")["item_id"], meanwhile.as_str());
    assert_eq!(next.end().code(), Some(0));
}

/// The four hosts against the command that users try them with, through breaks that a script makes.
#[cfg(feature = "cli")]
#[test]
fn the_hosts_live_through_a_script_of_simulate() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    let cuts = (1..60).map(|n| format!("at {}s cut-streams how=reset\n", 3 * n));
    std::fs::write(&script, cuts.collect::<String>()).unwrap();
    let mut simulate = Command::new(env!("CARGO_BIN_EXE_ewsnotify"));
    simulate.args(["simulate", "--deliver-every", "250ms", "--user", "ada@example.test:secret", "--script"]);
    let mut simulate = Host::start(simulate.arg(&script).stdin(Stdio::null()).stdout(Stdio::piped()));
    let ready = simulate.next();
    let mut options = json!({
        "url": ready["url"], "ca_file": ready["ca_file"], "user": ADA, "password": "secret", "events": "NewMail",
        "fetch": "mime",
    });
    let c = compile("cc", &example("c/watch.c"), &["-std=gnu99"], dir.path());
    let cpp = cmake(dir.path());
    let mut py = python();
    py.arg(example("python/watch.py"));
    let mut php = host("php");
    php.arg(example("php/worker.php"));
    let mut hosts: Vec<Host> = [(host(c), "next"), (host(cpp), "dispatch"), (py, "dispatch"), (php, "next")]
        .into_iter()
        .enumerate()
        .map(|(n, (mut command, way))| {
            options["spool_dir"] = dir.path().join(format!("saved{n}")).to_str().unwrap().into();
            Host::start(command.env("EWSNOTIFY_OPTIONS", options.to_string()).arg(way))
        })
        .collect();
    for (n, host) in hosts.iter_mut().enumerate() {
        for kind in ["Connected", "NewMail", "Disconnected", "Gap", "NewMail", "Disconnected"] {
            host.until(kind);
        }
        let mail = host.until("NewMail");
        let file = Path::new(mail["mime_path"].as_str().unwrap());
        assert!(file.starts_with(dir.path().join(format!("saved{n}"))), "{}", file.display());
        assert!(std::fs::read_to_string(file).unwrap().contains("Subject:"), "{}", file.display());
    }
    hosts.into_iter().for_each(Host::stop);
    simulate.stop();
}
