//! Several processes and one state directory. The others are this test's program once more, in a role.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};

use super::put;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::lock::Lock;
use crate::{Error, ErrorKind};

/// The variable with the state directory; the role is played only where it is set.
const DIR: &str = "EWSN_TEST_STATE_DIR";

/// Answers go to the standard error, since that has no buffer that a fork could double.
const SAYS: &str = "says: ";

struct Host {
    process: Child,
    // Not in `process`, whose wait would close it before the child has ended.
    orders: ChildStdin,
    says: BufReader<ChildStderr>,
}

impl Host {
    fn start(dir: &Path) -> Host {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "store::tests::forks::role", "--nocapture", "--test-threads=1"]);
        command.env(DIR, dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let says = BufReader::new(process.stderr.take().unwrap());
        let orders = process.stdin.take().unwrap();
        Host { process, orders, says }
    }

    /// Whoever reads next does it: the host until it has forked, then its child.
    fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.says.read_line(&mut line).unwrap(), 0, "the host has ended at {order}");
            if let Some(said) = line.strip_prefix(SAYS) {
                return said.trim().to_owned();
            }
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test where it is not called by one: a host that does what its standard input says.
#[test]
fn role() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let mut held = None;
    loop {
        let said = match order().as_str() {
            "open" => match Embedded::open(dir) {
                Ok(store) => {
                    held = Some(store);
                    "mine".into()
                }
                Err(e) => format!("{:?} {e}", e.kind()),
            },
            "commit" => match held.as_ref().map(|store| store.commit(&[put("by", "host")])) {
                Some(Ok(())) => "done".into(),
                Some(Err(e)) => format!("{:?} {e}", e.kind()),
                None => "nothing held".into(),
            },
            "drop" => {
                drop(held.take());
                "dropped".into()
            }
            "fork" => match fork::fork().unwrap() {
                // The parent leaves its input to the child and only waits for its end.
                fork::Fork::Parent(child) => {
                    eprintln!("{SAYS}{child}");
                    loop {
                        std::thread::park();
                    }
                }
                fork::Fork::Child => continue,
            },
            _ => std::process::exit(0),
        };
        eprintln!("{SAYS}{said}");
    }
}

/// A line of the standard input, byte by byte: what a buffer had read ahead would be lost to the other process.
fn order() -> String {
    let input = std::io::stdin();
    let mut line = Vec::new();
    let mut byte = [0];
    while rustix::io::read(&input, &mut byte).unwrap_or(0) == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

fn refusal(dir: &Path) -> Error {
    let e = Embedded::open(dir).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Locked);
    assert!(e.to_string().contains(&*dir.to_string_lossy()), "{e}");
    assert!(!e.is_retryable());
    e
}

// Two runs of a cron job over one state directory would tell everything twice.
#[test]
fn a_second_process_is_met_at_once_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::start(dir.path());
    assert_eq!(host.ask("open"), "mine");
    assert!(refusal(dir.path()).to_string().contains(&format!("process {}", host.process.id())));
    assert_eq!(host.ask("drop"), "dropped");
    let store = Embedded::open(dir.path()).unwrap();
    let said = host.ask("open");
    assert!(
        said.starts_with("Locked") && said.contains(&format!("process {}", std::process::id())),
        "{said}"
    );
    drop(store);
    assert_eq!(host.ask("open"), "mine");
    assert_eq!(host.ask("commit"), "done");
    host.kill();
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(store.load("by").unwrap(), [("by".to_owned(), b"host".to_vec())]);
}

// Two clients of one process: the system would give both the lock, and the failed try must not take it from the first.
#[test]
fn a_second_client_of_the_process_is_met_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("itself")).unwrap();
    for path in [
        dir.path().to_owned(),
        dir.path().join("itself"),
        dir.path().join("..").join(dir.path().file_name().unwrap()),
    ] {
        assert!(refusal(&path).to_string().contains("another client of this process"));
    }
    let mut host = Host::start(dir.path());
    assert!(host.ask("open").starts_with("Locked"), "the refused client has dropped the lock of the first");
    drop(store);
    let lock = Lock::take(dir.path()).unwrap();
    drop(lock);
    assert_eq!(host.ask("open"), "mine");
}

// A daemon forks helpers; one that outlives it must not keep a restart out, nor disturb it while it lives.
#[test]
fn a_forked_child_neither_holds_nor_drops_its_parents_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::start(dir.path());
    let parent = host.process.id();
    assert_eq!(host.ask("open"), "mine");
    assert_eq!(host.ask("commit"), "done");
    let child = host.ask("fork");

    // From here on the child answers, with its copy of all that its parent holds.
    let said = host.ask("commit");
    assert!(said.starts_with("State") && said.contains("forked"), "{said}");
    let said = host.ask("open");
    assert!(said.starts_with("Locked") && said.contains(&format!("process {parent}")), "{said}");
    let content = || std::fs::read(dir.path().join("state.redb")).unwrap();
    let before = content();
    assert_eq!(host.ask("drop"), "dropped");
    assert!(content() == before, "the child has written into its parent's file");
    assert!(
        refusal(dir.path()).to_string().contains(&format!("process {parent}")),
        "the child has dropped the lock"
    );

    host.kill();
    let store = Embedded::open(dir.path()).expect("the child lives, but it does not hold the lock");
    assert_eq!(store.load("by").unwrap().len(), 1);
    let said = host.ask("open");
    assert!(
        said.starts_with("Locked") && said.contains(&format!("process {}", std::process::id())),
        "{said}"
    );
    drop(store);
    assert_eq!(host.ask("open"), "mine");
    assert!(refusal(dir.path()).to_string().contains(&format!("process {child}")));
    assert_eq!(host.ask("drop"), "dropped");
}

// The child's own client must keep its lock when the copy of the parent's goes.
#[test]
fn a_forked_child_has_a_lock_of_its_own_beside_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::start(dir.path());
    assert_eq!(host.ask("open"), "mine");
    let child = host.ask("fork");
    host.kill();
    // Opening anew drops the copy, after the new lock has been taken.
    assert_eq!(host.ask("open"), "mine");
    assert!(refusal(dir.path()).to_string().contains(&format!("process {child}")));
    assert_eq!(host.ask("commit"), "done");
}
