//! The command shows no secret: not in a pipe, at a terminal, in its errors or in the files that it writes.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ewsnotify::sim::Sim;

use crate::support::{Ended, Running, Terminal, command};

#[path = "../common/scan.rs"]
pub mod known;

use known::{ADA, PASSWORD, Scan, WAYS, borrowed, echo, secrets};

const AS: [&str; 4] = ["--user", ADA, "--password-env", "EWSN_TEST_PASSWORD"];

fn with_password(args: &[&str]) -> std::process::Command {
    let mut command = command(args);
    command.env("EWSN_TEST_PASSWORD", PASSWORD);
    command
}

fn run(args: &[&str]) -> Ended {
    Running::start(with_password(args)).end()
}

// Whoever asks for help with an error sends what the command has printed.
#[test]
fn what_a_server_quotes_is_not_printed() {
    let all = secrets();
    // The command has no push secret here, so the server's own words for one are no secret of its.
    let scan = Scan::new(&borrowed(&all)[..3]);
    let url = format!("http://127.0.0.1:{}", echo(Arc::new(AtomicUsize::new(0))));
    let folder = tempfile::tempdir().unwrap();
    let wire = folder.path().join("wire.log");
    let wire = wire.to_str().unwrap();
    let at = [&["--url", &url, "--trace-wire", wire][..], &AS].concat();
    let mut printed = String::new();
    for n in 0..WAYS {
        let of = match n % 2 {
            0 => vec!["get", "--id", "AAMk"],
            _ => vec!["drain", "--exit-when-drained", "--for", "1s", "--option", "log=debug"],
        };
        let ended = run(&[&of[..], &at].concat());
        scan.assert_clean("the command", format!("{} {}", ended.out, ended.err));
        printed += &ended.out;
        printed += &ended.err;
        let check =
            ["check", ADA, "--url", &url, "--password-env", "EWSN_TEST_PASSWORD", "--trace-wire", wire];
        let ended = run(&check);
        scan.assert_clean("check", format!("{} {}", ended.out, ended.err));
        let terminal = Terminal::start(with_password(&check));
        let (_, text) = terminal.end();
        scan.assert_clean("check at a terminal", text);
    }
    assert!(printed.contains("***"), "{printed}");
    let wire = std::fs::read_to_string(wire).unwrap();
    scan.assert_clean("the wire log", &wire);
    assert!(wire.contains("Authorization: Basic ***"), "{wire}");
}

// Nothing has to go wrong for it.
#[test]
fn a_watch_prints_no_secret() {
    let all = secrets();
    let scan = Scan::new(&borrowed(&all));
    let sim = Sim::builder().user(ADA, PASSWORD).start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (wire, state) = (folder.path().join("wire.log"), folder.path().join("state"));
    let (wire, state) = (wire.to_str().unwrap(), state.to_str().unwrap());
    let reach =
        ["--url", sim.url(), "--ca-file", sim.ca_file().unwrap().to_str().unwrap(), "--fetch", "mime"];
    let watch = [&["watch", "--state-dir", state, "--trace-wire", wire][..], &reach, &AS].concat();
    let mut running = Running::start(with_password(&watch));
    running.event("Connected");
    sim.exchange().deliver(ADA, b"Subject: Hello\r\n\r\nText").unwrap();
    running.event("NewMail");
    running.signal(rustix::process::Signal::INT);
    let ended = running.end();
    scan.assert_clean("watch", format!("{} {}", ended.out, ended.err));
    let mut terminal = Terminal::start(with_password(&watch));
    sim.exchange().deliver(ADA, b"Subject: Again\r\n\r\nText").unwrap();
    terminal.until("Again");
    terminal.signal(rustix::process::Signal::INT);
    scan.assert_clean("watch at a terminal", terminal.end().1);
    for name in ["wire.log", "state/status.json"] {
        scan.assert_clean(name, std::fs::read(folder.path().join(name)).unwrap());
    }
}
