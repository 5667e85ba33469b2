//! `run --exec`, against a simulator over TLS, with commands of a shell.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use ewsnotify::sim::Sim;
use rustix::process::Signal;
use serde_json::Value;

use crate::drain::{begun, mail, status};
use crate::support::{PASSWORD, Running, USER, command, line, run, sim, wait_until};

fn ran(told: &[Value]) -> Vec<(String, String)> {
    let lines = told.iter().filter(|e| e["type"] == "Ran");
    lines
        .map(|e| (e["subject"].as_str().unwrap().to_owned(), e["outcome"].as_str().unwrap().to_owned()))
        .collect()
}

fn spool_is_empty(dir: &Path) {
    let left: Vec<_> =
        dir.join("spool").read_dir().map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

// `run … | head -1`: a command that runs when nobody reads on is let finish, and what it came to is kept: it does not run again.
#[test]
fn a_closed_pipe_ends_it_when_the_command_is_done() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let log = dir.path().join("log");
    let exec = format!("echo begun >> {l}; sleep 0.5; echo done >> {l}", l = log.display());
    let (reader, writer) = std::io::pipe().unwrap();
    let mut first = command(&line("run", &reach, &["--exec", &exec]));
    let mut first = first.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("its command", || log.exists());
    drop(reader);
    // Something to write: the mail's own line.
    assert_eq!(first.wait().unwrap().code(), Some(0));
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--exec", &exec]));
    assert_eq!((ended.code, ran(&ended.json())), (Some(0), vec![]), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "begun\ndone\n");
    let mode = std::fs::metadata(dir.path().join("spool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

// A ticket system gets the message as it was sent, and what it needs to know of it, but never the password; a subject cannot
// break its environment.
#[test]
fn the_command_gets_the_message_and_its_environment() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    let subject = format!("=?utf-8?B?YQBiCmMb?= {}", "=?utf-8?Q?=C3=A4?= ".repeat(1200));
    let mime = format!(
        "From: eve@example.test\r\nSubject: {subject}\r\nMessage-ID: <1@example.test>\r\n\r\nHello\r\n"
    );
    sim.exchange().deliver(USER, mime.as_bytes()).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let exec = format!("cd {}; cat > mime; env -0 > env; echo noise", out.display());
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--exec", &exec]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.err.trim(), "noise", "what the command says is not among our lines: {ended:?}");
    let told = ended.json();
    assert!(told.iter().all(|e| e["type"] != "NewMail"), "{ended:?}");
    let line = told.iter().find(|e| e["type"] == "Ran").unwrap();
    assert_eq!(
        (&line["outcome"], &line["exit"], &line["attempt"]),
        (&"done".into(), &0.into(), &1.into()),
        "{line}"
    );
    assert_eq!(std::fs::read(out.join("mime")).unwrap(), mime.as_bytes());
    let env = std::fs::read_to_string(out.join("env")).unwrap();
    let value = |name: &str| {
        let found = env.split('\0').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.unwrap_or_else(|| panic!("{name}: {env:?}"))
    };
    assert_eq!((value("EWSN_MAILBOX"), value("EWSN_ATTEMPT")), (USER, "1"));
    assert_eq!(
        (value("EWSN_MESSAGE_ID"), value("EWSN_ITEM_ID")),
        ("<1@example.test>", line["item_id"].as_str().unwrap())
    );
    let subject = value("EWSN_SUBJECT");
    assert!(subject.ends_with('ä') && (1020..=1024).contains(&subject.len()), "{subject:?}");
    assert!(!subject.contains(char::is_control), "{subject:?}");
    assert!(!env.contains(PASSWORD) && !env.contains("EWSN_TEST_PASSWORD"), "{env:?}");
    spool_is_empty(dir.path());
}

// A ticket system that is down for the moment loses nothing, and one that chokes on a mail does not hold up the others.
#[test]
fn not_now_comes_again_and_what_fails_is_parked_until_it_is_released() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    // By subject: later (75) three times and then done; failed (1) always; ended by a signal; a time-out.
    let out = dir.path().join("log");
    let exec = format!(
        "echo \"$EWSN_SUBJECT $EWSN_ATTEMPT\" >> {log}; case $EWSN_SUBJECT in \
         'Mail 1') test $(grep -c 'Mail 1 ' {log}) -ge 4 || exit 75;; 'Mail 2') exit 1;; 'Mail 3') kill -9 $$;; \
         'Mail 4') sleep 600 & sleep 600;; esac",
        log = out.display()
    );
    for n in 1..=5 {
        sim.exchange().deliver(USER, &mail(n)).unwrap();
    }
    let rest = ["--exec", &exec, "--attempts", "2", "--retry-after", "1s", "--exec-timeout", "2s"];
    let mut first = Running::start(command(&line("run", &reach, &rest)));
    let mut seen = Vec::new();
    while seen.len() < 4 + 2 * 3 + 1 {
        seen.push(first.event("Ran"));
    }
    first.signal(Signal::TERM);
    let ended = first.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let of = |n: u32| {
        let ran = ran(&seen);
        ran.into_iter()
            .filter(|(subject, _)| *subject == format!("Mail {n}"))
            .map(|(_, o)| o)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(1), ["later", "later", "later", "done"]);
    for n in 2..=4 {
        assert_eq!(of(n), ["again", "parked"], "mail {n}: {seen:#?}");
    }
    assert_eq!(of(5), ["done"]);
    let waits: Vec<_> =
        seen.iter().filter(|l| l["outcome"] == "later").map(|l| l["retry_ms"].as_u64().unwrap()).collect();
    assert_eq!(waits, [1000, 2000, 4000]);
    let log = std::fs::read_to_string(&out).unwrap();
    assert_eq!(log.matches("Mail 1 1\n").count(), 4, "exit 75 counts no attempt: {log}");
    assert!(log.contains("Mail 2 1\n") && log.contains("Mail 2 2\n"), "{log}");
    spool_is_empty(dir.path());

    // A new run leaves them alone, and shows them; a release tries one, or all, again.
    let again = |rest: &[&str]| {
        let rest = [&["--exit-when-drained", "--exec", "true"][..], rest].concat();
        let ended = run(&line("run", &reach, &rest));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ran(&ended.json())
    };
    assert_eq!(again(&[]), []);
    let parked = status(dir.path())["parked"].as_array().unwrap().clone();
    assert_eq!(parked.len(), 3, "{parked:?}");
    assert!(parked.iter().all(|p| p["attempts"] == 2), "{parked:?}");
    let one = parked[0]["id"].to_string();
    assert_eq!(again(&["--release", &one]).len(), 1);
    let mut all = again(&["--release", "all"]);
    all.sort();
    assert!(all.len() == 2 && all.iter().all(|(_, outcome)| outcome == "done"), "{all:?}");
    assert_eq!(status(dir.path())["mailboxes"][0]["parked"], 0);
}

// A help desk's inbox would fill up, or `run` end before the last mail was put away.
#[test]
fn a_mail_that_is_done_with_is_put_away_before_the_end() {
    let sim = sim();
    let (_dir, reach) = begun(&sim);
    for n in 1..=3 {
        sim.exchange().deliver(USER, &mail(n)).unwrap();
    }
    let exec = "test \"$EWSN_SUBJECT\" != 'Mail 2'";
    let rest = ["--exit-when-drained", "--attempts", "1", "--after-ack", "delete", "--exec", exec];
    let ended = run(&line("run", &reach, &rest));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(sim.exchange().item_ids(USER, "deleteditems").unwrap().len(), 2);
    assert_eq!(sim.exchange().item_ids(USER, "inbox").unwrap().len(), 1, "what failed stays");
    let ended = run(&line("run", &reach, &["--after-ack", "shred", "--exec", "true"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("shred"), "{ended:?}");
}

// A mail whose command brings `run` itself down, as one that uses up all memory does, would do so for ever.
#[test]
fn a_try_that_ended_us_counts_and_the_mail_is_parked() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let log = dir.path().join("log");
    let exec = format!("echo $EWSN_ATTEMPT >> {}; kill -9 $PPID", log.display());
    let rest = ["--exit-when-drained", "--attempts", "2", "--exec", &exec];
    for attempt in 1..=2 {
        let ended = run(&line("run", &reach, &rest));
        assert_eq!((ended.code, ran(&ended.json())), (None, vec![]), "attempt {attempt}: {ended:?}");
    }
    let ended = run(&line("run", &reach, &rest));
    assert_eq!((ended.code, ran(&ended.json())), (Some(0), vec![("Mail 1".into(), "parked".into())]));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "1\n2\n", "it was not begun a third time");
    let rest = ["--exit-when-drained", "--attempts", "2", "--release", "all", "--exec", "true"];
    let ended = run(&line("run", &reach, &rest));
    assert_eq!(ran(&ended.json()), [("Mail 1".into(), "done".into())], "{ended:?}");
    spool_is_empty(dir.path());
}

// A command that never reads its input, and a mail that is larger than a pipe: neither is a failure. In order, and what is put
// off at the end is told by the exit code.
#[test]
fn a_command_need_not_read_and_what_is_put_off_is_told() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    for n in 0..10 {
        let mut mime = mail(n);
        mime.extend("x".repeat(76).into_bytes().iter().cycle().take(300_000));
        sim.exchange().deliver(USER, &mime).unwrap();
    }
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--exec", "exec 0<&-; true"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected: Vec<_> = (0..10).map(|n| (format!("Mail {n}"), "done".to_owned())).collect();
    assert_eq!(ran(&ended.json()), expected);

    sim.exchange().deliver(USER, &mail(77)).unwrap();
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--exec", "exit 75"]));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.err.contains("put off"), "{ended:?}");
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--exec", "true"]));
    assert_eq!(
        (ended.code, ran(&ended.json())),
        (Some(0), vec![("Mail 77".into(), "done".into())]),
        "{ended:?}"
    );
    spool_is_empty(dir.path());
}

// A mailbox whose command hangs must not keep another's mail waiting.
#[test]
fn mailboxes_run_side_by_side() {
    const BOB: &str = "bob@example.test";
    let sim = Sim::builder().user(USER, PASSWORD).user(BOB, "x").start().unwrap();
    sim.exchange().grant(BOB, USER).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut reach = crate::support::reach(&sim);
    reach.extend(["--mailbox", BOB, "--state-dir", dir.path().to_str().unwrap()].map(str::to_owned));
    // Ada's waits for Bob's.
    let flag = dir.path().join("flag");
    let exec = format!(
        "case $EWSN_MAILBOX in ada*) touch \"{d}/$EWSN_SUBJECT\"; until test -e {f}; do sleep 0.05; done;; *) touch {f};; esac",
        d = dir.path().display(),
        f = flag.display()
    );
    let mut both = Running::start(command(&line("run", &reach, &["--exec", &exec, "--exec-timeout", "50s"])));
    both.event("Drained");
    both.event("Drained");
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    wait_until("her command", || dir.path().join("Mail 1").exists());
    sim.exchange().deliver(BOB, &mail(2)).unwrap();
    // Hers may be told first: it ends as soon as his has begun.
    let ran_both = [both.event("Ran"), both.event("Ran")];
    assert!(ran_both.iter().any(|ran| ran["mailbox"] == BOB), "{ran_both:?}");
    assert!(ran_both.iter().all(|ran| ran["outcome"] == "done"), "{ran_both:?}");
    // A signal while one runs: it is let finish, and that is kept.
    std::fs::remove_file(&flag).unwrap();
    sim.exchange().deliver(USER, &mail(3)).unwrap();
    wait_until("her command", || dir.path().join("Mail 3").exists());
    both.signal(Signal::TERM);
    std::fs::write(&flag, "").unwrap();
    let ended = both.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ran(&ended.json()).last().unwrap(), &("Mail 3".into(), "done".into()), "{ended:?}");
}
