//! What a hostile server can make a client hold: within 32 MiB, whatever it sends.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};

const ADA: &str = "ada@example.test";

/// The most memory a process has held so far, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// An attacker, or a server gone mad, must not take the host's memory.
#[test]
fn hostile_answers_cost_little_memory() {
    for action in [
        Action::Oversize { bytes: 1 << 30 },
        Action::Dtd,
        Action::EntityBomb,
        Action::Attributes { count: 1_000_000 },
        Action::Nested { depth: 10_000 },
    ] {
        let sim = Sim::builder().tls(false).user(ADA, "secret").start().unwrap();
        sim.add_fault(Fault::new(action.clone()).on("GetStreamingEvents").envelope(2));
        let mut child = Command::new(env!("CARGO_BIN_EXE_ewsnotify"))
            .args([
                "watch",
                "--json",
                "--url",
                sim.url(),
                "--user",
                ADA,
                "--password-env",
                "EWSN_TEST_PASSWORD",
            ])
            .env("EWSN_TEST_PASSWORD", "secret")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = |wanted: &str| {
            for line in &mut lines {
                let line = line.unwrap();
                if line.contains(wanted) {
                    return line;
                }
            }
            panic!("{action:?}: the command ended without {wanted}");
        };
        next("\"Connected\"");
        let before = peak(child.id());
        sim.exchange().deliver(ADA, b"Subject: replaced by the fault\r\n\r\n").unwrap();
        let gap = next("\"Gap\"");
        assert!(gap.contains("\"message\":"), "{gap}");
        // What comes after it is told.
        sim.exchange().deliver(ADA, b"Subject: after\r\n\r\n").unwrap();
        next("\"NewMail\"");
        let grown = peak(child.id()) - before;
        assert!(grown < 32 * 1024, "{action:?} cost {grown} KiB");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
