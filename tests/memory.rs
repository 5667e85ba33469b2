//! What a process holds: within 32 MiB whatever a hostile server sends, within 8 MiB for a mail of any size and for any backlog.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

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
        let grown = peak(child.id()).saturating_sub(before);
        assert!(grown < 32 * 1024, "{action:?} cost {grown} KiB");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The mail that everybody dreads: with the film of somebody's holidays in it.
fn film(bytes: usize) -> Vec<u8> {
    let mut mime = b"Subject: Our holidays\r\nContent-Type: video/mp4; name=film.mp4\r\n\r\n".to_vec();
    let frame: Vec<u8> = (0..997u32).map(|n| ((n * n) >> 3) as u8).collect();
    mime.extend(frame.iter().cycle().take(bytes));
    mime
}

/// The command, with TLS, and a mail in Ada's inbox.
fn command(sim: &Sim, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ewsnotify"))
        .args(arguments)
        .args(["--url", sim.url(), "--user", ADA, "--ca-file", sim.ca_file().unwrap().to_str().unwrap()])
        .args(["--password-env", "EWSN_TEST_PASSWORD"])
        .env("EWSN_TEST_PASSWORD", "secret")
        // One heap: otherwise each thread's own grows for a while, by chance.
        .env("MALLOC_ARENA_MAX", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

const MIB: usize = 1 << 20;

// One large mail in one of ten thousand mailboxes would have the host killed for want of memory.
#[test]
fn a_mail_of_a_hundred_megabytes_costs_a_watch_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let spool = format!("spool_dir={}", dir.path().display());
    let mut child =
        command(&sim, &["watch", "--json", "--fetch", "mime", "--event", "NewMail", "--option", &spool]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        |wanted: &str| lines.by_ref().map(Result::unwrap).find(|l| l.contains(wanted)).expect(wanted);
    next("\"Connected\"");
    sim.exchange().deliver(ADA, &film(MIB)).unwrap();
    next("\"NewMail\"");
    let before = peak(child.id());
    let mail = film(100 * MIB);
    sim.exchange().deliver(ADA, &mail).unwrap();
    let line = next("\"NewMail\"");
    let grown = peak(child.id()).saturating_sub(before);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(grown < 8 * 1024, "it cost {grown} KiB");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["content"], &event["subject"]), (&"ok".into(), &"Our holidays".into()), "{line}");
    assert!(std::fs::read(event["mime_path"].as_str().unwrap()).unwrap() == mail, "the file is not the mail");
}

// The same for one that is asked for by its id.
#[test]
fn a_mail_of_a_hundred_megabytes_costs_get_little_memory() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let get = |mail: &[u8]| {
        let id = sim.exchange().deliver(ADA, mail).unwrap();
        let mut child = command(&sim, &["get", "--mime", "--id", &id]);
        let mut out = child.stdout.take().unwrap();
        let mut got = vec![0; MIB];
        out.read_exact(&mut got).unwrap();
        // It has the whole mail now, and waits for us to take the rest of it.
        let peak = peak(child.id());
        out.read_to_end(&mut got).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(got == mail, "what was printed is not the mail");
        peak
    };
    let before = get(&film(2 * MIB));
    let grown = get(&film(100 * MIB)).saturating_sub(before);
    assert!(grown < 8 * 1024, "it cost {grown} KiB");
}

// The film alone, without the mail.
#[test]
fn an_attachment_of_a_hundred_megabytes_costs_get_little_memory() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let get = |bytes: usize| {
        let mail = film(bytes);
        let id = sim.exchange().deliver(ADA, &mail).unwrap();
        let json = command(&sim, &["get", "--id", &id]).wait_with_output().unwrap().stdout;
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let id = json["attachments"][0]["id"].as_str().unwrap();
        let mut child = command(&sim, &["get", "--attachment", id]);
        let mut out = child.stdout.take().unwrap();
        let mut got = vec![0; MIB];
        out.read_exact(&mut got).unwrap();
        let peak = peak(child.id());
        out.read_to_end(&mut got).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(got == mail[mail.len() - bytes..], "what was printed is not the film");
        peak
    };
    let before = get(2 * MIB);
    let grown = get(100 * MIB).saturating_sub(before);
    assert!(grown < 8 * 1024, "it cost {grown} KiB");
}

/// What `drain` has held at the most when it has told a backlog of so many mails, with their messages.
fn backlog(mails: usize) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let state = dir.path().to_str().unwrap();
    let spool = format!("spool_dir={state}/mails");
    let drain = ["drain", "--event", "NewMail", "--fetch", "mime", "--state-dir", state, "--option", &spool];
    // The first run begins with what comes from then on.
    let mut first = command(&sim, &[&drain[..], &["--exit-when-drained"]].concat());
    assert!(first.wait().unwrap().success());
    sim.exchange().fill(ADA, "inbox", &film(20 * 1024), mails).unwrap();
    let began = Instant::now();
    let mut child = command(&sim, &[&drain[..], &["--for", "1h"]].concat());
    let mut told = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("\"Drained\"") {
            break;
        }
        // What the reader has done with it.
        if line.contains("\"NewMail\"") {
            told += 1;
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            std::fs::remove_file(event["mime_path"].as_str().unwrap()).unwrap();
        }
    }
    let peak = peak(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told, mails);
    eprintln!("a backlog of {mails} mails: {peak} KiB at the most, {:?}", began.elapsed());
    peak
}

// A mailbox that nobody looked into for a week would have the host killed for want of memory. EWSN_BACKLOG=10000 tries more.
#[test]
fn a_backlog_drains_in_flat_memory() {
    let mails = std::env::var("EWSN_BACKLOG").ok().and_then(|n| n.parse().ok()).unwrap_or(1_600);
    let few = backlog(mails / 4);
    let grown = backlog(mails).saturating_sub(few);
    assert!(grown < 8 * 1024, "it cost {grown} KiB more");
}
