//! `drain` and `status`, against a simulator over TLS.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ewsnotify::sim::Sim;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{PASSWORD, Running, USER, assert_no_secret, command, line, reach, run, sim, wait_until};

pub fn mail(n: usize) -> Vec<u8> {
    format!(
        "From: bob@example.test\r\nSubject: Mail {n}\r\nMessage-ID: <{n}@example.test>\r\n\r\nBody {n}\r\n"
    )
    .into()
}

/// A state directory whose first run is over: what comes now is new.
pub fn begun(sim: &Sim) -> (TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut reach = reach(sim);
    reach.extend(["--state-dir".into(), dir.path().to_str().unwrap().into()]);
    let ended = run(&line("drain", &reach, &["--exit-when-drained", "--event", "NewMail"]));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.json().iter().all(|e| e["type"] != "NewMail"), "{ended:?}");
    (dir, reach)
}

pub fn status(dir: &Path) -> Value {
    let ended = run(&["status", "--state-dir", dir.to_str().unwrap()]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    ended.json().remove(0)
}

fn subjects(told: &[Value]) -> Vec<String> {
    let mails = told.iter().filter(|e| e["type"] == "NewMail");
    mails.map(|e| e["subject"].as_str().unwrap_or_default().to_owned()).collect()
}

// What cron is for: each run tells what came since the last, once, and says with 0 that it was all.
#[test]
fn each_run_tells_what_came_since_the_last() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    let drain = line("drain", &reach, &["--exit-when-drained", "--event", "NewMail", "--fetch", "summary"]);
    for round in 0..3 {
        let expected: Vec<String> = (0..round * 2).map(|n| format!("Mail {}", round * 10 + n)).collect();
        for n in 0..round * 2 {
            sim.exchange().deliver(USER, &mail(round * 10 + n)).unwrap();
        }
        let ended = run(&drain);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        let mut told = subjects(&ended.json());
        told.sort();
        assert_eq!(told, expected, "round {round}: {ended:?}");
        assert_no_secret(&ended);
    }
    let status = status(dir.path());
    assert_eq!((&status["program"], &status["running"]), (&"ewsnotify".into(), &false.into()), "{status}");
    assert_eq!(status["mailboxes"][0]["mailbox"], USER, "{status}");
    assert_eq!(
        (&status["mailboxes"][0]["backlog"], &status["mailboxes"][0]["parked"]),
        (&0.into(), &0.into())
    );
}

// A web page shows whether mail is being fetched; it must see a refused sign-in, and tell a dead process from a quiet one.
#[test]
fn the_status_file_says_how_it_stands() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    let file = dir.path().join("status.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let before = status(dir.path());
    assert_eq!(before["running"], false, "{before}");
    assert!(before["mailboxes"][0]["last_success"].is_string(), "{before}");

    let mut drain = Running::start(command(&line("drain", &reach, &["--for", "600s"])));
    drain.event("Drained");
    wait_until("connected", || status(dir.path())["mailboxes"][0]["state"] == "connected");
    let now = status(dir.path());
    assert_eq!((&now["running"], &now["stale"]), (&true.into(), &false.into()), "{now}");
    drain.signal(Signal::KILL);
    let _ = drain.end();
    // It was killed, and what it has left ages: an hour later nobody takes it for running.
    let mut old: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(old["running"], true, "{old}");
    old["time"] = "2026-01-01T00:00:00Z".into();
    std::fs::write(&file, old.to_string()).unwrap();
    assert_eq!(status(dir.path())["stale"], true);

    let mut refused = command(&line("drain", &reach, &[]));
    refused.env("EWSN_TEST_PASSWORD", "wr0ng-Zwiebelfisch");
    let ended = Running::start(refused).end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let now = status(dir.path());
    assert_eq!(now["mailboxes"][0]["state"], "sign-in-needed", "{now}");
    assert!(now["mailboxes"][0]["last_success"].is_string(), "an earlier run's is kept: {now}");
    assert!(!std::fs::read_to_string(&file).unwrap().contains(PASSWORD));

    let none = tempfile::tempdir().unwrap();
    let ended = run(&["status", "--state-dir", none.path().to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("status.json"), "{ended:?}");
}

// Two mailboxes, one of which does not let us sync: the other is drained, and the exit code says that not all was.
#[test]
fn several_mailboxes_and_a_gap_that_nothing_fills() {
    const BOB: &str = "bob@example.test";
    let sim = Sim::builder().user(USER, PASSWORD).user(BOB, "x").start().unwrap();
    sim.exchange().grant(BOB, USER).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut reach = reach(&sim);
    reach.extend(["--mailbox", BOB, "--state-dir", dir.path().to_str().unwrap()].map(str::to_owned));
    let rest = ["--exit-when-drained", "--event", "NewMail"];
    let ended = run(&line("drain", &reach, &rest));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    sim.exchange().deliver(BOB, &mail(2)).unwrap();
    let ended = run(&line("drain", &reach, &rest));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in [USER, BOB] {
        let told = ended.json().iter().filter(|e| e["type"] == "NewMail" && e["mailbox"] == name).count();
        assert_eq!(told, 1, "{name}: {ended:?}");
    }
    sim.exchange().refuse_sync(BOB, Some("ErrorAccessDenied")).unwrap();
    sim.exchange().deliver(USER, &mail(3)).unwrap();
    let ended = run(&line("drain", &reach, &rest));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.err.contains(BOB), "{ended:?}");
    let told: Vec<_> = ended.json().into_iter().filter(|e| e["type"] == "NewMail").collect();
    assert!(told.len() == 1 && told[0]["mailbox"] == USER, "{ended:?}");
}

// Not drained in its time: a job that reads the exit code must not take that for all.
#[test]
fn a_time_that_is_too_short_is_told_by_the_exit_code() {
    let sim = sim();
    let (_dir, reach) = begun(&sim);
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let slow = ewsnotify::sim::server::fault::Action::NoHandshake;
    sim.add_fault(ewsnotify::sim::server::fault::Fault::new(slow).always());
    let ended = run(&line("drain", &reach, &["--for", "1s"]));
    assert_eq!(ended.code, Some(1), "no connection came about: {ended:?}");
    sim.clear_faults();
    sim.exchange().fail_next(
        "SyncFolderItems",
        ewsnotify::sim::exchange::Failure::new("ErrorInternalServerTransientError").times(1000),
    );
    let ended = run(&line("drain", &reach, &["--for", "3s"]));
    let connected = ended.json().iter().any(|e| e["type"] == "Connected");
    assert_eq!(ended.code, Some(if connected { 5 } else { 1 }), "{ended:?}");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_sent() {
    let sim = sim();
    let dir = tempfile::tempdir().unwrap();
    let mut with_dir = reach(&sim);
    with_dir.extend(["--state-dir".into(), dir.path().to_str().unwrap().into()]);
    for (subcommand, reach, rest, says) in [
        ("drain", reach(&sim), vec![], "--state-dir"),
        ("run", reach(&sim), vec!["--exec", "true"], "--state-dir"),
        ("run", with_dir.clone(), vec![], "--exec"),
        ("run", with_dir.clone(), vec!["--exec", "true", "--attempts", "0"], "--attempts"),
        ("drain", with_dir.clone(), vec!["--release", "x"], "--release"),
        ("drain", with_dir.clone(), vec!["--release", "77"], "77"),
        ("drain", with_dir.clone(), vec!["--mailbox", USER], "already"),
    ] {
        let ended = run(&line(subcommand, &reach, &rest));
        assert_eq!(ended.code, Some(2), "{rest:?}: {ended:?}");
        assert!(ended.err.starts_with("ewsnotify: ") && ended.err.contains(says), "{rest:?}: {ended:?}");
    }
}

// The section for cron, word for word, in the environment that cron gives: only the names of server and user are changed.
#[test]
fn the_readme_s_line_for_cron_works_as_it_stands() {
    let sim = sim();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("<!-- cron -->").nth(1).expect("the README has a section for cron");
    let block = |language: &str| {
        let block =
            section.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
        block.unwrap_or_else(|| panic!("a block of {language}")).to_owned()
    };
    let named = |text: &str| {
        text.replace("mail.example.com", &format!("https://localhost:{}", sim.address().port()))
            .replace("svc@example.com", USER)
    };
    let home = tempfile::tempdir().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_ewsnotify")).parent().unwrap();
    let shell = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).current_dir(home.path()).env_clear().env("HOME", home.path());
        command
            .env("PATH", format!("{}:/usr/bin:/bin", built.display()))
            .env("SSL_CERT_FILE", sim.ca_file().unwrap());
        command
    };
    let mut setup = Running::start(shell(&block("sh")));
    setup.stdin.as_mut().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    let setup = setup.end();
    assert_eq!((setup.code, setup.err.as_str()), (Some(0), ""), "{setup:?}");
    let cron = block("crontab");
    let cron = cron.lines().find(|l| l.starts_with("* * * * * ")).expect("a line for each minute");
    let cron = named(cron.strip_prefix("* * * * * ").unwrap());

    let first = Running::start(shell(&cron));
    let dir = home.path().join(".local/state/ewsnotify");
    wait_until("a picture of the first run", || dir.join("status.json").exists());
    let second = Running::start(shell(&cron)).end();
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.err.contains("in use by process"), "{second:?}");

    // The first goes on as if nothing had been, and what it tells is in the file.
    let told = || std::fs::read_to_string(home.path().join("mail.jsonl")).unwrap_or_default();
    wait_until("Drained", || told().contains("\"Drained\""));
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    wait_until("a mail", || told().contains("Mail 1"));
    stop(&dir);
    let ended = first.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");

    // The next minute's begins where it ended.
    sim.exchange().deliver(USER, &mail(2)).unwrap();
    let next = Running::start(shell(&cron));
    wait_until("the next mail", || told().contains("Mail 2"));
    stop(&dir);
    next.end();
    assert_eq!(told().matches("Mail 1").count(), 1, "{}", told());
}

/// Stops the command itself: the shell that began it may be its parent, or have become it.
fn stop(dir: &Path) {
    let pid = status(dir)["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    kill_process(Pid::from_raw(pid.unwrap()).unwrap(), Signal::TERM).unwrap();
}
