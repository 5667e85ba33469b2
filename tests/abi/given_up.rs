//! The programs that users start from, where things go wrong: what ends them, and with which exit code; what does not.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};
use serde_json::{Value, json};

use super::example;
use super::hosts::{ADA, Host, ended, host, mail, options, python};
use super::install::compile;

/// Each program in each way, by a name.
fn hosts(dir: &Path) -> Vec<(String, Command)> {
    let c = compile("cc", &example("c/watch.c"), &["-std=gnu99"], dir);
    std::fs::rename(&c, dir.join("c")).unwrap();
    let cpp = compile("c++", &example("cpp/watch.cpp"), &["-std=c++11", "-pedantic"], dir);
    let script = |mut command: Command, name: &str| {
        command.arg(example(name));
        command
    };
    let mut all = Vec::new();
    let mut add = |name: &str, mut command: Command, way: &str| {
        command.arg(way);
        all.push((format!("{name} {way}"), command));
    };
    add("asyncio", script(python(), "python/asyncio_watch.py"), "next");
    for way in ["next", "poll", "dispatch", "thread"] {
        add("c", host(dir.join("c")), way);
    }
    for way in ["next", "dispatch"] {
        add("c++", host(&cpp), way);
        add("python", script(python(), "python/watch.py"), way);
        add("php", script(host("php"), "php/worker.php"), way);
    }
    all
}

fn start(name: &str, command: &mut Command, options: &Value) -> Host {
    let mut options = options.clone();
    if name.ends_with("thread") {
        options["dispatch"] = "thread".into();
    }
    Host::start(command.env("EWSNOTIFY_OPTIONS", options.to_string()))
}

/// What comes of a mailbox that is given up.
fn ends(name: &str, command: &mut Command, options: &Value) -> ExitStatus {
    let mut host = start(name, command, options);
    host.until("Error");
    host.until("Closed");
    host.end()
}

/// A worker whose password has changed would wait for ever, and whoever minds it would see that it runs.
#[test]
fn a_worker_ends_with_its_only_watch() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut refused = options(&sim);
    refused["password"] = "wrong".into();
    let mut nobody = options(&sim);
    nobody["mailbox"] = "nobody@example.test".into();
    for (name, mut command) in hosts(dir.path()) {
        assert_eq!(ends(&name, &mut command, &refused).code(), Some(4), "{name}");
        assert_eq!(ends(&name, &mut command, &nobody).code(), Some(1), "{name}");
    }
    let mut job = host("php");
    job.arg(example("php/cron.php")).arg("300");
    for (options, code) in [(&mut refused, 4), (&mut nobody, 5)] {
        options["state_dir"] = dir.path().join("state").to_str().unwrap().into();
        assert_eq!(ends("cron", &mut job, options).code(), Some(code));
    }
}

/// A mail that a rule has moved away meanwhile, or a full disk, would end a worker again and again, or a mail would be passed over.
#[test]
fn a_message_that_cannot_be_had_ends_nothing_and_is_told_again() {
    let dir = tempfile::tempdir().unwrap();
    for (n, (name, mut command)) in hosts(dir.path()).into_iter().enumerate() {
        let sim = Sim::builder().user(ADA, "secret").start().unwrap();
        let (state, saved) = (dir.path().join(format!("state{n}")), dir.path().join(format!("saved{n}")));
        let mut options = options(&sim);
        for (key, value) in
            [("state_dir", state.to_str()), ("spool_dir", saved.to_str()), ("fetch", Some("mime"))]
        {
            options[key] = json!(value.unwrap());
        }
        let mut host = start(&name, &mut command, &options);
        host.until("Connected");
        // No message can be kept for now.
        std::fs::write(&saved, "").unwrap();
        let first = sim.exchange().deliver(ADA, &mail(1)).unwrap();
        let told = host.until("NewMail");
        assert_eq!(
            (&told["item_id"], &told["content"]),
            (&json!(first), &json!("unavailable")),
            "{name}: {told}"
        );
        std::fs::remove_file(&saved).unwrap();
        sim.add_fault(
            Fault::new(Action::Refuse { code: "ErrorItemNotFound".into(), back_off: None }).on("GetItem"),
        );
        sim.exchange().deliver(ADA, &mail(2)).unwrap();
        assert_eq!(host.until("NewMail")["content"], "gone", "{name}");
        sim.exchange().deliver(ADA, &mail(3)).unwrap();
        let told = host.until("NewMail");
        assert_eq!(std::fs::read(told["mime_path"].as_str().unwrap()).unwrap(), mail(3), "{name}");
        host.stop();

        // The next start meets the files of this one, and first what is open longest.
        let mut host = start(&name, &mut command, &options);
        let told = host.until("NewMail");
        assert_eq!(told["item_id"], first.as_str(), "{name}");
        assert_eq!(std::fs::read(told["mime_path"].as_str().unwrap()).unwrap(), mail(1), "{name}");
        host.stop();
    }
}

/// What reads the lines dies, or the disk is full: every later mail would be acknowledged, and lost.
#[test]
fn what_cannot_be_written_is_told_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    for (n, (name, command)) in hosts(dir.path()).into_iter().enumerate() {
        let sim = Sim::builder().user(ADA, "secret").start().unwrap();
        let mut options = options(&sim);
        options["state_dir"] = dir.path().join(format!("state{n}")).to_str().unwrap().into();
        if name.ends_with("thread") {
            options["dispatch"] = "thread".into();
        }
        // As PHP and Python do by themselves: C would be killed.
        let mut deaf = Command::new("env");
        deaf.arg("--ignore-signal=PIPE").arg(command.get_program()).args(command.get_args());
        deaf.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        deaf.env("EWSNOTIFY_OPTIONS", options.to_string()).stdin(Stdio::null()).stderr(Stdio::null());

        let mut child = deaf.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut until = |kind: &str| lines.find(|line| line.contains(kind)).unwrap();
        until("\"Connected\"");
        sim.exchange().deliver(ADA, &mail(1)).unwrap();
        until("\"NewMail\"");
        drop(lines);
        let lost = sim.exchange().deliver(ADA, &mail(2)).unwrap();
        assert_eq!(ended(&mut child).code(), Some(1), "{name}");

        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(ended(&mut deaf.stdout(full).spawn().unwrap()).code(), Some(1), "{name}");

        let mut next = Host::start(deaf.stdout(Stdio::piped()));
        assert_eq!(next.until("NewMail")["item_id"], lost.as_str(), "{name}");
        next.stop();
    }
}

/// Whoever minds a program goes by its exit code; PHP would end with 255, which is none of those that are told.
#[test]
fn wrong_options_end_with_1_and_none_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = hosts(dir.path());
    for (name, arguments) in [
        ("php/cron.php", &["3"][..]),
        ("php/own_tokens.php", &["https://example.test", "desk", "file"]),
        ("python/own_tokens.py", &["https://example.test", "desk", "file"]),
        ("python/sign_in.py", &[]),
        ("c/own_tokens.c", &["false"]),
        ("c/sign_in.c", &[]),
    ] {
        let mut command = match name.rsplit('.').next() {
            Some("php") => host("php"),
            Some("py") => python(),
            _ => host(compile("cc", &example(name), &["-std=c99"], dir.path())),
        };
        if !name.ends_with(".c") {
            command.arg(example(name));
        }
        command.args(arguments);
        all.push((name.into(), command));
    }
    for (name, mut command) in all {
        command.env_remove("EWSNOTIFY_OPTIONS");
        assert_eq!(command.output().unwrap().status.code(), Some(2), "{name}");
        for wrong in ["{", r#"{"no_such_option": 1, "state_dir": "state"}"#] {
            let output = command.env("EWSNOTIFY_OPTIONS", wrong).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{name} {wrong}");
            assert!(!output.stderr.is_empty(), "{name} {wrong}");
        }
    }
}

/// cron would report for each run in which the disk was full for a moment that something is left; or for none.
#[test]
fn a_job_of_cron_says_whether_something_is_left() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // With another patience.
    let text = std::fs::read_to_string(example("php/cron.php")).unwrap();
    let soon = text.replace("const RETRY = 60_000;", "const RETRY = 100;");
    assert_ne!(soon, text);
    std::fs::write(dir.path().join("cron.php"), soon).unwrap();
    std::fs::copy(example("php/Ewsnotify.php"), dir.path().join("Ewsnotify.php")).unwrap();
    let (state, saved) = (dir.path().join("state"), dir.path().join("saved"));
    let mut options = options(&sim);
    for (key, value) in
        [("state_dir", state.to_str()), ("spool_dir", saved.to_str()), ("fetch", Some("mime"))]
    {
        options[key] = json!(value.unwrap());
    }
    let run = |seconds: &str| {
        let mut command = host("php");
        command.arg(dir.path().join("cron.php")).arg(seconds).env("EWSNOTIFY_OPTIONS", options.to_string());
        Host::start(&mut command)
    };
    let mut first = run("3");
    first.until("Connected");
    std::fs::write(&saved, "").unwrap();
    let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(first.until("NewMail")["content"], "unavailable");
    assert_eq!(first.end().code(), Some(5));

    let mut next = run("8");
    assert_eq!(next.until("NewMail")["content"], "unavailable");
    std::fs::remove_file(&saved).unwrap();
    let told = loop {
        let told = next.until("NewMail");
        if told["content"] != "unavailable" {
            break told;
        }
    };
    assert_eq!(told["item_id"], id.as_str());
    assert_eq!(next.end().code(), Some(0));
}
