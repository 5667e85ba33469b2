//! What goes wrong around the commands: a reader that goes away, an outage, a command that does not end, a time that is over.
//! No mail may suffer for it, and the next run must find all in order.

use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Command;
use std::process::Stdio;

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};
use rustix::process::Signal;
use serde_json::Value;

use crate::drain::{begun, mail, status};
use crate::support::{PASSWORD, Running, USER, command, line, reach, run, sim, wait_until};

const BOB: &str = "bob@example.test";

/// Subject, outcome and attempt of each run of the command.
fn ran(told: &[Value]) -> Vec<(String, String, u64)> {
    let text = |e: &Value, key: &str| e[key].as_str().unwrap_or_default().to_owned();
    let lines = told.iter().filter(|e| e["type"] == "Ran");
    lines.map(|e| (text(e, "subject"), text(e, "outcome"), e["attempt"].as_u64().unwrap())).collect()
}

fn done(subject: &str) -> (String, String, u64) {
    (subject.into(), "done".into(), 1)
}

/// Two mailboxes, whose first run is over.
fn two() -> (Sim, tempfile::TempDir, Vec<String>) {
    let sim = Sim::builder().user(USER, PASSWORD).user(BOB, "x").start().unwrap();
    sim.exchange().grant(BOB, USER).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut reach = reach(&sim);
    reach.extend(["--mailbox", BOB, "--state-dir", dir.path().to_str().unwrap()].map(str::to_owned));
    let ended = run(&line("drain", &reach, &["--exit-when-drained", "--event", "NewMail"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    (sim, dir, reach)
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    dir.read_dir().map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default()
}

// `run … | head -1` with more than one mail: those that were never tried would count as tried, and be parked in the end; and a
// job that reads the exit code would take that for all.
#[test]
fn a_reader_that_goes_away_costs_no_mail_a_try() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    for n in 1..=3 {
        sim.exchange().deliver(USER, &mail(n)).unwrap();
    }
    let (log, flag) = (dir.path().join("log"), dir.path().join("flag"));
    let exec =
        format!("echo begun >> {}; until test -e {}; do sleep 0.05; done", log.display(), flag.display());
    let rest = ["--attempts", "1", "--exec", &exec];
    let (reader, writer) = std::io::pipe().unwrap();
    let mut first = command(&line("run", &reach, &rest));
    let mut first = first.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    wait_until("its command", || log.exists());
    drop(reader);
    std::fs::write(&flag, "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(5));
    assert_eq!(files(&dir.path().join("spool")), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(status(dir.path())["running"], false);
    let tried = std::fs::read_to_string(&log).unwrap().lines().count();
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--attempts", "1", "--exec", "true"]));
    let rest: Vec<_> = (tried + 1..=3).map(|n| done(&format!("Mail {n}"))).collect();
    assert!(tried < 3, "it went on to the end");
    assert_eq!((ended.code, ran(&ended.json())), (Some(0), rest), "{ended:?}");
}

// `drain … | program`, and the program dies: the job would look as if all had been told, and the status as if it ran on.
#[test]
fn a_drain_whose_reader_goes_away_is_incomplete() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut first = command(&line("drain", &reach, &["--exit-when-drained"]));
    let mut first = first.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(5));
    assert_eq!(status(dir.path())["running"], false);
    let ended = run(&line("drain", &reach, &["--exit-when-drained", "--event", "NewMail"]));
    let told = ended.json().iter().filter(|e| e["type"] == "NewMail").count();
    assert_eq!((ended.code, told), (Some(0), 1), "{ended:?}");
}

// A server that is away, or a disk that is full, for some minutes would have every mail of that time parked.
#[test]
fn what_cannot_be_fetched_for_now_is_never_parked() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    let away = Action::Status { code: 404, retry_after: None, retry_date: None, body: None };
    sim.add_fault(Fault::new(away).on("GetItem").always());
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let rest = ["--attempts", "1", "--retry-after", "1s", "--exec", "true"];
    let mut running = Running::start(command(&line("run", &reach, &rest)));
    for _ in 0..2 {
        let ran = running.event("Ran");
        assert_eq!((&ran["outcome"], &ran["attempt"]), (&"later".into(), &1.into()), "{ran}");
    }
    sim.clear_faults();
    let ran = running.json(|e| e["type"] == "Ran" && e["outcome"] != "later");
    assert_eq!((&ran["outcome"], &ran["attempt"]), (&"done".into(), &1.into()), "{ran}");
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, Some(0));
    assert_eq!(status(dir.path())["mailboxes"][0]["parked"], 0);
}

// Some daemons start their children with the end of children ignored: each command would seem to have failed, and run again
// and again.
#[cfg(target_os = "linux")]
#[test]
fn children_are_waited_for_where_our_parent_ignores_its_own() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let log = dir.path().join("log");
    let exec = format!("echo run >> {}", log.display());
    let ignoring = |line: &[&str]| {
        // A shell does not do that.
        let mut command = Command::new("env");
        command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_ewsnotify")]);
        command.args(line).env("EWSN_TEST_PASSWORD", PASSWORD);
        Running::start(command).end()
    };
    for expected in [vec![done("Mail 1")], vec![]] {
        let ended = ignoring(&line("run", &reach, &["--exit-when-drained", "--exec", &exec]));
        assert_eq!((ended.code, ran(&ended.json())), (Some(0), expected), "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(log).unwrap(), "run\n");
}

// What a command has started and left would pile up, one more with each try.
#[test]
fn nothing_of_a_command_outlives_its_time() {
    let sim = sim();
    let (_dir, reach) = begun(&sim);
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    // The shell ends when it is asked to; the other does not. It holds our stderr, whose end is waited for.
    let exec = "sh -c \"trap '' TERM; sleep 90 & wait; sleep 90\" & wait";
    let rest = ["--exit-when-drained", "--attempts", "1", "--exec-timeout", "1s", "--exec", exec];
    let ended = run(&line("run", &reach, &rest));
    let expected = vec![("Mail 1".to_owned(), "parked".to_owned(), 1)];
    assert_eq!((ended.code, ran(&ended.json())), (Some(0), expected), "{ended:?}");
}

// `--for` keeps one cron job out of the way of the next: a mail that waits for its turn must not be begun after it.
#[test]
fn nothing_is_begun_when_the_time_is_over() {
    let (sim, _dir, reach) = two();
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    sim.exchange().deliver(BOB, &mail(2)).unwrap();
    let rest = ["--parallel", "1", "--for", "8s", "--attempts", "1", "--exec", "sleep 9"];
    let ended = run(&line("run", &reach, &rest));
    let first = ran(&ended.json());
    assert_eq!((ended.code, first.len()), (Some(5), 1), "{ended:?}");
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--attempts", "1", "--exec", "true"]));
    let mut all = [first, ran(&ended.json())].concat();
    all.sort();
    assert_eq!((ended.code, all), (Some(0), vec![done("Mail 1"), done("Mail 2")]), "{ended:?}");
}

// A mail that waits for its turn while the machine goes down was not tried: it must not come nearer to being parked.
#[test]
fn to_wait_for_a_turn_is_no_try() {
    let (sim, _dir, reach) = two();
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    sim.exchange().deliver(BOB, &mail(2)).unwrap();
    // Time enough for the other mail to be fetched.
    let killed = run(&line("run", &reach, &["--parallel", "1", "--exec", "sleep 3; kill -9 $PPID"]));
    assert_eq!((killed.code, ran(&killed.json())), (None, vec![]), "{killed:?}");
    let ended = run(&line("run", &reach, &["--exit-when-drained", "--exec", "true"]));
    let mut attempts: Vec<_> = ran(&ended.json()).into_iter().map(|(.., attempt)| attempt).collect();
    attempts.sort_unstable();
    assert_eq!((ended.code, attempts), (Some(0), vec![1, 2]), "{ended:?}");
}

// A mailbox with a backlog and a slow command has as many messages wait as may: the others would get none while it is so.
#[test]
fn one_mailbox_s_backlog_does_not_stop_another() {
    let (sim, dir, reach) = two();
    for n in 0..5 {
        sim.exchange().deliver(USER, &mail(n)).unwrap();
    }
    let flag = dir.path().join("flag");
    let exec = format!(
        "case $EWSN_MAILBOX in ada*) until test -e {f}; do sleep 0.05; done;; *) touch {f};; esac",
        f = flag.display()
    );
    let rest = ["--exec", &exec, "--exec-timeout", "30s", "--option", "spool_files=2"];
    let both = Running::start(command(&line("run", &reach, &rest)));
    wait_until("one is taken and two are ahead", || sim.stats().of("GetItem") >= 3);
    sim.exchange().deliver(BOB, &mail(7)).unwrap();
    wait_until("his command", || flag.exists());
    both.signal(Signal::TERM);
    let ended = both.end();
    assert!(ran(&ended.json()).iter().all(|(_, outcome, _)| outcome == "done"), "{ended:?}");
}

// Messages of other people would lie among the temporary files for ever, more with each run.
#[test]
fn no_message_is_left_among_the_temporary_files() {
    let sim = sim();
    let reach = reach(&sim);
    let tmp = tempfile::tempdir().unwrap();
    let mut watch = command(&line("watch", &reach, &["--json", "--fetch", "mime", "--event", "NewMail"]));
    watch.env("TMPDIR", tmp.path());
    let mut watch = Running::start(watch);
    watch.event("Connected");
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let path = watch.event("NewMail")["mime_path"].as_str().unwrap().to_owned();
    assert!(Path::new(&path).starts_with(tmp.path()) && Path::new(&path).exists(), "{path}");
    watch.signal(Signal::TERM);
    assert_eq!(watch.end().code, Some(0));
    assert!(files(tmp.path()).is_empty(), "{:?}", files(tmp.path()));
}

// The messages that a cron job has just been told of would be gone with its end, and never come again.
#[test]
fn a_drain_of_messages_wants_a_folder_that_stays() {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    let rest = ["--exit-when-drained", "--event", "NewMail", "--fetch", "mime"];
    let ended = run(&line("drain", &reach, &rest));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("spool_dir"), "{ended:?}");
    let folder = format!("spool_dir={}", dir.path().join("mails").display());
    let ended = run(&line("drain", &reach, &[&rest[..], &["--option", &folder]].concat()));
    let told = ended.json();
    let path = told.iter().find_map(|e| e["mime_path"].as_str()).expect("a message");
    assert_eq!(std::fs::read(path).unwrap(), mail(1));
}
