//! Real hosts in C, C++, Python and PHP watch the simulator over TLS: they are told every mail, also over a loss of the
//! connection, save it byte for byte, acknowledge, and end cleanly on SIGTERM.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{example, library};

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::Cut;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub const ADA: &str = "ada@example.test";
const LIMIT: Duration = Duration::from_secs(60);

/// Compiles a C or C++ program against the header and the library of this build.
pub fn compile(compiler: &str, source: &Path, flags: &[&str], into: &Path) -> PathBuf {
    let program = into.join(source.file_stem().unwrap());
    let library = library();
    let output = Command::new(compiler)
        .args(flags)
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(source)
        .arg("-o")
        .arg(&program)
        .arg(&library)
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    program
}

/// A program that uses the library.
pub fn host(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let library = library();
    let mut command = Command::new(program);
    command
        .env("EWSNOTIFY_LIBRARY", &library)
        .env("PYTHONPATH", example("python"))
        // What is linked is found by its SONAME, which is not the name that it has in the build.
        .env("LD_PRELOAD", &library)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

pub fn python() -> Command {
    host(std::env::var_os("EWSN_PYTHON").unwrap_or_else(|| "python3".into()))
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
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let deadline = Instant::now() + LIMIT;
        while self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn mail(n: usize) -> Vec<u8> {
    let text = format!("Line with ümlaut {n}\r\n").repeat(200);
    format!(
        "From: Bob <bob@example.test>\r\nSubject: Mail {n}\r\nMessage-ID: <{n}@example.test>\r\n\r\n{text}"
    )
    .into_bytes()
}

/// The whole life of a host that prints events and saves messages.
fn watches(mut command: Command, arguments: impl Fn(&mut Command, &str, &Path)) {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("saved");
    std::fs::create_dir(&saved).unwrap();
    let options = json!({
        "url": sim.url(), "ca_file": sim.ca_file().unwrap(), "user": ADA, "password": "secret",
        "state_dir": dir.path().join("state"), "ack": "manual", "events": "NewMail",
    });
    arguments(&mut command, &options.to_string(), &saved);
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
        let file = saved.join(format!("{}.eml", event["seq"]));
        assert_eq!(std::fs::read(&file).unwrap(), mail(n), "message {n}");
    }

    // All of it was acknowledged: nothing is told again.
    let mut host = Host::start(&mut command);
    host.until("Connected");
    let last = sim.exchange().deliver(ADA, &mail(8)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], last.as_str());
    host.stop();
}

fn with_way(way: &'static str) -> impl Fn(&mut Command, &str, &Path) {
    move |command, options, saved| {
        command.arg(options).arg(saved);
        if !way.is_empty() {
            command.arg(way);
        }
    }
}

/// C programs would miss mail.
#[test]
fn c_programs_are_told_every_mail() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("cc", &example("c/watch.c"), &["-std=gnu99"], dir.path());
    for way in ["next", "poll", "dispatch"] {
        watches(host(&program), with_way(way));
    }
}

/// C++ programs would miss mail, or a header would not do for the oldest compiler that it is for.
#[test]
fn cpp_is_told_every_mail() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("c++", &example("cpp/watch.cpp"), &["-std=c++11", "-pedantic"], dir.path());
    watches(host(&program), with_way(""));
}

/// Programs of an event loop would not be told.
#[test]
fn an_event_loop_is_woken() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let options =
        json!({ "url": sim.url(), "ca_file": sim.ca_file().unwrap(), "user": ADA, "password": "secret" });
    let mut host = Host::start(python().arg(example("python/asyncio_watch.py")).arg(options.to_string()));
    host.until("Connected");
    let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], id.as_str());
}

/// Programs outside of the tree would not build, or not find the library.
#[test]
fn what_is_installed_builds_programs() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("prefix");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |command: &mut Command| {
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // The library of this build in place of a release build, which takes minutes.
    run(Command::new("make")
        .current_dir(root)
        .args(["install", "CARGO=true"])
        .arg(format!("PREFIX={}", prefix.display()))
        .arg(format!("TARGET={}", library().parent().unwrap().display())));
    let lib = prefix.join("lib");
    let flags = run(Command::new("pkg-config").env("PKG_CONFIG_PATH", lib.join("pkgconfig")).args([
        "--cflags",
        "--libs",
        "ewsnotify",
    ]));
    let program = dir.path().join("watch");
    run(Command::new("cc").arg(example("c/watch.c")).args(flags.split_whitespace()).arg("-o").arg(&program));
    let usage = Command::new(&program).env("LD_LIBRARY_PATH", &lib).output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "{}", String::from_utf8_lossy(&usage.stderr));

    let build = dir.path().join("build");
    run(Command::new("cmake")
        .arg("-S")
        .arg(example("cpp"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    run(Command::new("cmake").arg("--build").arg(&build));
    let usage = Command::new(build.join("watch")).output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "{}", String::from_utf8_lossy(&usage.stderr));
}

/// Python programs would miss mail, or not end on a signal.
#[test]
fn python_is_told_every_mail() {
    let mut command = python();
    command.arg(example("python/watch.py"));
    watches(command, with_way(""));
}

/// PHP programs would miss mail, or not end on a signal.
#[test]
fn php_is_told_every_mail() {
    for way in ["next", "dispatch"] {
        let mut command = host("php");
        command.arg(example("php/worker.php"));
        watches(command, with_way(way));
    }
}
