//! Runs the built command, with pipes or at a pseudo-terminal. Deadlines only guard against hangs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const USER: &str = "ada@example.test";
/// Looked for in all output.
pub const PASSWORD: &str = "s3cr3t-Zwiebelfisch";

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ewsnotify"));
    command.args(args).env_remove("NO_COLOR").env("TERM", "xterm").env("EWSN_TEST_PASSWORD", PASSWORD);
    // That of who runs the tests is not theirs.
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command
}

/// What a command that ended by itself left.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// Runs it to its end, with this as its stdin.
pub fn run_with(args: &[&str], stdin: &[u8]) -> Ended {
    let mut running = Running::start(command(args));
    let mut pipe = running.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // A command that does not read all of it ends the thread by closing the pipe.
    std::thread::spawn(move || pipe.write_all(&stdin));
    running.end()
}

pub fn run(args: &[&str]) -> Ended {
    run_with(args, b"")
}

/// Looks again and again until it is so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < deadline, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command under way, with pipes.
pub struct Running {
    pub stdin: Option<std::process::ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    err: Receiver<String>,
    process: Process,
}

impl Running {
    pub fn start(command: Command) -> Running {
        Running::start_into(command, Stdio::piped())
    }

    /// With its lines into a file: none is seen here then.
    pub fn start_into(mut command: Command, out: Stdio) -> Running {
        let piped = command.stdin(Stdio::piped()).stdout(out).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("it starts");
        let (out, mut err) = (child.stdout.take(), child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in out.into_iter().flat_map(|out| BufReader::new(out).lines().map_while(Result::ok)) {
                let _ = send.send(line);
            }
        });
        let (send_err, err_text) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = err.read_to_end(&mut bytes);
            let _ = send_err.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        let stdin = child.stdin.take();
        Running { stdin, lines, seen: Vec::new(), err: err_text, process: Process::new(child) }
    }

    fn line(&mut self, deadline: Instant) -> Option<String> {
        let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// The next line of JSON that `wanted` likes.
    pub fn json(&mut self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let Some(line) = self.line(deadline) else {
                let err = self.err.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
                panic!("it never came; out: {:#?}, err: {err}", self.seen)
            };
            let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            if wanted(&value) {
                return value;
            }
        }
    }

    pub fn event(&mut self, kind: &str) -> serde_json::Value {
        self.json(|event| event["type"] == kind)
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let status = self.process.end();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.seen.push(line);
        }
        let err = self.err.recv_timeout(DEADLINE).expect("stderr ends with the command");
        Ended { code: status.code(), out: self.seen.join("\n"), err }
    }
}

/// A child that is killed when the test has given up on it.
struct Process {
    pid: Pid,
    status: Receiver<ExitStatus>,
    ended: bool,
}

impl Process {
    fn new(mut child: Child) -> Process {
        let pid = Pid::from_child(&child);
        let (send, status) = channel();
        std::thread::spawn(move || send.send(child.wait().expect("a child can be waited for")));
        Process { pid, status, ended: false }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it runs");
    }

    fn end(&mut self) -> ExitStatus {
        let status = self.status.recv_timeout(DEADLINE).expect("the command ends within the deadline");
        self.ended = true;
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended && self.status.try_recv().is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
            // What it had locked is free only then.
            let _ = self.status.recv_timeout(DEADLINE);
        }
    }
}

/// A command under way at a pseudo-terminal: stdin, stdout and stderr.
pub struct Terminal {
    master: File,
    pieces: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    process: Process,
}

impl Terminal {
    pub fn start(mut command: Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end is ours");
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 })
            .expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("ASCII");
        let slave: OwnedFd = File::options().read(true).write(true).open(name).expect("its other end").into();
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        // Otherwise the end would never come.
        drop((command, slave));
        let master = File::from(master);
        let mut reader = master.try_clone().expect("a descriptor");
        let (send, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut piece) {
                let _ = send.send(piece[..n].to_vec());
            }
        });
        Terminal { master, pieces, seen: Vec::new(), process: Process::new(child) }
    }

    /// Reads until this text is on the screen.
    pub fn until(&mut self, text: &str) {
        // The status line goes on for ever, so a silence would not come.
        let deadline = Instant::now() + DEADLINE;
        while !self.text().contains(text) {
            match self.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.seen.extend(piece),
                Err(_) => panic!("{text:?} never came: {:?}", self.text()),
            }
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("it reads");
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// The exit code, and all that was on the screen.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = self.process.end();
        while let Ok(piece) = self.pieces.recv_timeout(DEADLINE) {
            self.seen.extend(piece);
        }
        (status.code(), self.text())
    }
}

pub fn sim() -> Sim {
    Sim::builder().user(USER, PASSWORD).start().expect("the simulator starts")
}

/// The flags that lead to a simulator, for `watch` and `get`.
pub fn reach(sim: &Sim) -> Vec<String> {
    let ca = sim.ca_file().expect("it speaks TLS").to_string_lossy().into_owned();
    let words = ["--url", sim.url(), "--ca-file", &ca, "--user", USER, "--mailbox", USER];
    words.map(str::to_owned).into()
}

/// A command line: its subcommand, how to reach the simulator, the password by the environment, the rest.
pub fn line<'a>(subcommand: &'a str, reach: &'a [String], rest: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec![subcommand];
    line.extend(reach.iter().map(String::as_str));
    line.extend(["--password-env", "EWSN_TEST_PASSWORD"]);
    line.extend(rest);
    line
}

pub fn assert_no_secret(ended: &Ended) {
    assert!(!ended.out.contains(PASSWORD) && !ended.err.contains(PASSWORD), "{ended:?}");
}
