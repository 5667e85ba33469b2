//! `get`, against a simulator over TLS.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use ewsnotify::sim::server::fault::{Action, Fault};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{DEADLINE, Running, USER, assert_no_secret, command, line, reach, run, sim, wait_until};

const MAIL: &[u8] =
    b"From: Bob <bob@example.test>\r\nTo: ada@example.test\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
Message-ID: <1@example.test>\r\n\r\nHello\r\n";

// The id of an event leads to its item: the summary, or the very bytes that were sent. Nothing is subscribed to.
#[test]
fn an_item_as_json_and_as_mime() {
    let sim = sim();
    let id = sim.exchange().deliver(USER, MAIL).unwrap();
    let reach = reach(&sim);
    let ended = run(&line("get", &reach, &["--id", &id]));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    let json = &ended.json()[0];
    assert_eq!(json["item_id"], id);
    assert_eq!(
        (&json["subject"], &json["from"]),
        (&"Grüße".into(), &"Bob <bob@example.test>".into()),
        "{json}"
    );
    assert_eq!(json["message_id"], "<1@example.test>");

    let mime = command(&line("get", &reach, &["--id", &id, "--mime"])).output().unwrap();
    assert_eq!(mime.status.code(), Some(0), "{mime:?}");
    assert_eq!(String::from_utf8_lossy(&mime.stdout), String::from_utf8_lossy(MAIL));
    assert_eq!(sim.stats().of("Subscribe"), 0);
    assert!(sim.stats().of("GetItem") >= 2);
}

// What is attached, byte for byte: a file, and a message that was forwarded as such.
#[test]
fn an_attachment() {
    let sim = sim();
    let inner = "Subject: inner\r\n\r\nInner text";
    let mail = format!(
        "Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
         Content-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nAAECAwT/\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--b--\r\n"
    );
    let id = sim.exchange().deliver(USER, mail.as_bytes()).unwrap();
    let reach = reach(&sim);
    let json = run(&line("get", &reach, &["--id", &id])).json().remove(0);
    let attachments = json["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 2, "{json}");
    let get = |n: usize| {
        let id = attachments[n]["id"].as_str().unwrap();
        let got = command(&line("get", &reach, &["--attachment", id])).output().unwrap();
        assert_eq!(got.status.code(), Some(0), "{got:?}");
        got.stdout
    };
    assert_eq!(get(0), [0, 1, 2, 3, 4, 255]);
    assert_eq!(String::from_utf8_lossy(&get(1)).trim_end(), inner);

    let ended = run(&line("get", &reach, &["--attachment", "nobody"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("ErrorInvalidAttachmentId") && ended.out.is_empty(), "{ended:?}");
    // Who gets many of them must see which one failed, and where.
    assert!(ended.err.contains(&format!("attachment nobody at {}", sim.url())), "{ended:?}");
    for bad in [&["--attachment", "x", "--id", "y"][..], &[][..]] {
        assert_eq!(run(&line("get", &reach, bad)).code, Some(2), "{bad:?}");
    }
}

/// A mail with an attachment that no pipe holds.
fn large() -> String {
    let line = format!("{}\r\n", "QUJD".repeat(18));
    format!(
        "Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
         Content-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}--b--\r\n",
        line.repeat(10_000)
    )
}

/// All that lies under a folder, with its mode.
fn below(dir: &Path) -> Vec<(std::path::PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in dir.read_dir().into_iter().flatten().flatten() {
        let Ok(met) = entry.metadata() else { continue };
        found.push((entry.path(), met.permissions().mode() & 0o777));
        found.extend(below(&entry.path()));
    }
    found
}

// Somebody else's mail would lie in /tmp for ever after a Ctrl-C, and be there to be listed until then.
#[test]
fn a_signal_leaves_nothing_of_the_content_behind() {
    let sim = sim();
    let id = sim.exchange().deliver(USER, large().as_bytes()).unwrap();
    let reach = reach(&sim);
    let json = run(&line("get", &reach, &["--id", &id])).json().remove(0);
    let attachment = json["attachments"][0]["id"].as_str().unwrap();
    for (rest, operation, signal, folders) in [
        (&["--attachment", attachment][..], "GetAttachment", Signal::INT, 2),
        (&["--id", &id, "--mime"], "GetItem", Signal::TERM, 1),
    ] {
        sim.add_fault(Fault::new(Action::Stall { byte: 300_000 }).on(operation).always());
        let tmp = tempfile::tempdir().unwrap();
        let mut get = command(&line("get", &reach, rest));
        get.env("TMPDIR", tmp.path());
        let get = Running::start(get);
        let has_content =
            |path: &Path| path.extension().is_some() && path.metadata().is_ok_and(|met| met.len() > 0);
        wait_until("some of the content", || below(tmp.path()).iter().any(|(path, _)| has_content(path)));
        let found = below(tmp.path());
        let modes =
            |dir: bool| found.iter().filter(move |(path, _)| path.is_dir() == dir).map(|(_, mode)| *mode);
        assert_eq!(modes(true).collect::<Vec<_>>(), vec![0o700; folders], "{found:?}");
        assert!(modes(false).all(|mode| mode == 0o600), "{found:?}");
        get.signal(signal);
        let ended = get.end();
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.err.contains("stopped by a signal"), "{ended:?}");
        assert_eq!(below(tmp.path()), [], "{operation}");
        sim.clear_faults();
    }
}

// `get … | less`, which is left open: what is printed lies nowhere any more, and a signal ends it though nobody reads on.
#[test]
fn what_is_being_printed_lies_nowhere() {
    let sim = sim();
    let id = sim.exchange().deliver(USER, large().as_bytes()).unwrap();
    let reach = reach(&sim);
    let json = run(&line("get", &reach, &["--id", &id])).json().remove(0);
    let attachment = json["attachments"][0]["id"].as_str().unwrap();
    for rest in [&["--attachment", attachment][..], &["--id", &id, "--mime"]] {
        let tmp = tempfile::tempdir().unwrap();
        let mut get = command(&line("get", &reach, rest));
        let mut get = get.env("TMPDIR", tmp.path()).stdout(Stdio::piped()).spawn().unwrap();
        get.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(below(tmp.path()), [], "{rest:?}");
        kill_process(Pid::from_child(&get), Signal::INT).unwrap();
        let (send, status) = std::sync::mpsc::channel();
        // Its end of the pipe stays open, or the command would end by that.
        let pipe = get.stdout.take();
        std::thread::spawn(move || send.send(get.wait().unwrap()));
        let status = status.recv_timeout(DEADLINE).expect("it ends");
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{rest:?}: {status}");
        drop(pipe);
    }
}

#[test]
fn what_fails_is_told_by_the_exit_code() {
    let sim = sim();
    let reach = reach(&sim);
    let id = sim.exchange().deliver(USER, MAIL).unwrap();
    let ended = run(&line("get", &reach, &["--id", "bm8gc3VjaCBpdGVt"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.starts_with("ewsnotify: item bm8gc3VjaCBpdGVt at https://"), "{ended:?}");
    assert!(ended.err.contains(sim.url()) && ended.err.contains("Error"), "{ended:?}");
    assert_no_secret(&ended);

    let mut wrong = command(&line("get", &reach, &["--id", &id]));
    wrong.env("EWSN_TEST_PASSWORD", "wr0ng");
    let ended = Running::start(wrong).end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(!ended.err.contains("wr0ng"), "{ended:?}");
}
