//! The programs that users start from, where things go wrong: what ends them, and with which exit code; what does not.

use std::path::Path;
use std::process::{Command, ExitStatus};

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};
use serde_json::{Value, json};

use super::example;
use super::hosts::{ADA, Host, host, mail, options, python};
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
    let mut all = hosts(dir.path());
    let mut looped = python();
    looped.arg(example("python/asyncio_watch.py"));
    all.push(("asyncio".into(), looped));
    for (name, mut command) in all {
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
