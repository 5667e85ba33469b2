//! A host: it takes each mail with its message, deals with it, acknowledges it, and says so, a line each.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use ewsnotify::{Client, Event, EventKind, Nack, Next, Options};

pub const ADA: &str = "ada@example.test";
const LIMIT: Duration = Duration::from_secs(60);
/// The variable with the state directory; the role is played only where it is set.
const DIR: &str = "EWSN_TEST_HOST_DIR";
const SAYS: &str = "says: ";

pub fn server() -> Sim {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
    sim
}

pub fn deliver(sim: &Sim, n: usize) -> String {
    let mime = format!("From: bob@example.test\r\nSubject: Mail {n}\r\n\r\nThis is mail {n}.\r\n");
    sim.exchange().deliver(ADA, mime.as_bytes()).unwrap()
}

/// What it does.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Deals with mail until its input ends.
    Work,
    /// Takes one mail and never comes to an end with it.
    Hang,
    /// Forks as soon as all is well, and works on; the child only lives.
    Fork,
}

/// A host under way, seen from the test.
pub struct Host {
    process: Child,
    lines: Receiver<String>,
}

impl Host {
    pub fn start(sim: &Sim, dir: &Path, part: Part) -> Host {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "host::role", "--nocapture", "--test-threads=1"]);
        command.env(DIR, dir).env("EWSN_TEST_PART", format!("{part:?}"));
        command.env("EWSN_TEST_URL", sim.url()).env("EWSN_TEST_CA", sim.ca_file().unwrap());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut out = BufReader::new(process.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|n| n > 0) {
                // What the kill has cut off was not said.
                if let Some(said) = line.strip_suffix('\n') {
                    let said = said.strip_prefix(SAYS).map_or_else(|| format!("? {said}"), str::to_owned);
                    let _ = send.send(said);
                }
                line.clear();
            }
        });
        Host { process, lines }
    }

    /// The most memory that it has held so far, in KiB; 0 where the system does not say.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// The next line, if one comes within this time and before the host has ended.
    pub fn line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    #[track_caller]
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the host says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("the host has ended"),
        }
    }

    /// Reads until one begins so.
    #[track_caller]
    pub fn until(&self, begin: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let line = self.line();
            assert!(Instant::now() < deadline, "{begin:?} never came");
            assert!(!line.starts_with('?') && !line.starts_with("broken"), "{line}");
            if line.starts_with(begin) {
                return line;
            }
        }
    }

    /// With SIGKILL; what it had said until then and nobody has read.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.lines.recv_timeout(LIMIT).ok()).collect()
    }

    /// The same, but for its child, which lives until the input ends.
    pub fn kill_and_leave(mut self) -> ChildStdin {
        let input = self.process.stdin.take().unwrap();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        input
    }

    /// Lets it close its client; what it said until then.
    pub fn end(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let said = std::iter::from_fn(|| self.lines.recv_timeout(LIMIT).ok()).collect();
        assert!(self.process.wait().unwrap().success(), "{said:?}");
        said
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test where it is not called by one.
#[test]
fn role() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let part = std::env::var("EWSN_TEST_PART").unwrap();
    let options = options(dir.to_str().unwrap());
    let client = match Client::open(&options) {
        Ok(client) => client,
        Err(e) => return say(&format!("refused {:?}", e.kind())),
    };
    client.watch(&Options::new()).unwrap();
    if part == "Fork" {
        let mut wanted = vec![EventKind::Connected, EventKind::Drained];
        while !wanted.is_empty() {
            let Next::Event(event) = client.next(LIMIT) else { panic!("{wanted:?} never came") };
            wanted.retain(|kind| *kind != event.kind);
        }
        if let fork::Fork::Child = fork::fork().unwrap() {
            drop(client);
            let refused = Client::open(&options).map(drop).unwrap_err();
            say(&format!("child {} {:?}", std::process::id(), refused.kind()));
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        }
    }
    let client = Arc::new(client);
    std::thread::spawn({
        let client = client.clone();
        move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            client.close();
        }
    });
    loop {
        match client.next(Duration::MAX) {
            Next::Event(event) if event.kind == EventKind::NewMail => {
                if part == "Hang" {
                    say(&format!("mail {}", event.item_id.unwrap()));
                    loop {
                        std::thread::park();
                    }
                }
                deal_with(&client, &event);
            }
            Next::Event(event) => say(&format!("event {}", event.kind.name())),
            Next::TimedOut | Next::Interrupted => {}
            Next::Closed | _ => return,
        }
    }
}

fn options(dir: &str) -> Options {
    let mut options = Options::new();
    let var = |name| std::env::var(name).unwrap();
    for (key, value) in [
        ("url", &*var("EWSN_TEST_URL")),
        ("ca_file", &var("EWSN_TEST_CA")),
        ("user", ADA),
        ("password", "secret"),
        ("events", "NewMail"),
        ("fetch", "mime"),
        ("ack", "manual"),
        ("state_dir", dir),
    ] {
        options.set(key, value).unwrap();
    }
    options
}

/// Each fourth mail is put off the first time.
fn deal_with(client: &Client, event: &Event) {
    let (id, attempt) = (event.item_id.as_deref().unwrap(), event.attempt.unwrap_or(1));
    let item = event.item.as_ref().unwrap();
    let number = item.subject.as_deref().and_then(|s| s.strip_prefix("Mail ")).unwrap_or("?");
    let mime = item.mime_path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    if !mime.is_some_and(|mime| mime.ends_with(&format!("This is mail {number}.\r\n"))) {
        return say(&format!("broken {id} {item:?}"));
    }
    say(&format!("mail {id} {attempt}"));
    std::fs::remove_file(item.mime_path.as_ref().unwrap()).unwrap();
    let later = attempt == 1 && number.parse::<usize>().is_ok_and(|n| n.is_multiple_of(4));
    let (settled, word) = match later {
        true => (client.nack(event.seq, Nack::Retry(Duration::from_millis(10))), "later"),
        false => (client.ack(event.seq), "done"),
    };
    match settled {
        Ok(()) => say(&format!("{word} {id}")),
        // Closed meanwhile.
        Err(e) => say(&format!("unsettled {id} {e}")),
    }
}

/// In one piece, and not through a buffer that a fork could double.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{SAYS}{text}\n").as_bytes()).unwrap();
}
