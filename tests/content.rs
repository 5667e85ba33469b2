//! Messages on their way into files: too large, no room, a slow host, a break, a close; and summaries in batches.
#![cfg(feature = "sim")]

#[allow(dead_code)]
#[path = "common/watching.rs"]
mod watching;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ewsnotify::sim::Style;
use ewsnotify::sim::exchange::Deletion;
use ewsnotify::sim::fault::{Action, Cut, Fault};
use ewsnotify::{Client, Content, ErrorKind, Event, EventKind, Fetch, Options};
use watching::{ADA, Watching, server};

fn start(dir: &Path, settings: &[(&str, &str)]) -> Watching {
    let mut all = vec![("fetch", "mime"), ("events", "NewMail"), ("spool_dir", dir.to_str().unwrap())];
    all.extend_from_slice(settings);
    let mut w = Watching::start(server(Style::Exchange), &all);
    w.connected();
    w
}

fn mail(subject: &str, bytes: usize) -> Vec<u8> {
    let line = "A line of text, which comes again and again.\r\n";
    format!("Subject: {subject}\r\n\r\n{}", line.repeat(bytes / line.len())).into_bytes()
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

fn new_mail(w: &mut Watching) -> Event {
    w.until("NewMail", |e| e.kind == EventKind::NewMail)
}

fn message(event: &Event) -> &str {
    event.detail.as_ref().and_then(|d| d.message.as_deref()).unwrap_or_default()
}

#[track_caller]
fn eventually<T: std::fmt::Debug + PartialEq>(what: &str, wanted: T, now: impl Fn() -> T) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let is = now();
        if is == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {is:?} instead of {wanted:?}");
        std::thread::yield_now();
    }
}

// A mail beyond the limit would be missing without a word, or fill the disk all the same.
#[test]
fn a_message_that_is_too_large_is_told_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = start(dir.path(), &[("max_item_bytes", "100000")]);
    w.sim.exchange().deliver(ADA, &mail("Large", 1 << 20)).unwrap();
    let event = new_mail(&mut w);
    let item = event.item.as_ref().unwrap();
    assert_eq!((item.content, item.subject.as_deref()), (Some(Content::TooLarge), Some("Large")));
    assert!(item.mime_path.is_none() && message(&event).contains("max_item_bytes"), "{}", event.to_json());
    assert_eq!(files(dir.path()), 0);
    let large = event.item_id.unwrap();
    w.sim.exchange().deliver(ADA, &mail("Small", 90_000)).unwrap();
    let item = new_mail(&mut w).item.unwrap();
    assert_eq!(item.content, Some(Content::Ok));
    assert_eq!(std::fs::read(item.mime_path.unwrap()).unwrap(), mail("Small", 90_000));
    // The host's own question has an error.
    let e = w.client.get_item(1, &large, None, Fetch::Mime).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
    assert_eq!(files(dir.path()), 1);
    assert_eq!(w.count(EventKind::Gap), 0);
}

// A spool that cannot be written to would cost the mails, or the link to the server, as if that were to blame.
#[test]
fn a_spool_that_cannot_be_written_to_is_told_and_may_recover() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    std::fs::write(&spool, "no folder").unwrap();
    let mut w = start(&spool, &[]);
    w.sim.exchange().deliver(ADA, &mail("Nowhere", 100_000)).unwrap();
    let event = new_mail(&mut w);
    let item = event.item.as_ref().unwrap();
    assert_eq!((item.content, item.subject.as_deref()), (Some(Content::Unavailable), Some("Nowhere")));
    assert!(message(&event).contains(spool.to_str().unwrap()), "{}", event.to_json());
    std::fs::remove_file(&spool).unwrap();
    w.sim.exchange().deliver(ADA, &mail("Here", 100_000)).unwrap();
    assert_eq!(new_mail(&mut w).item.unwrap().content, Some(Content::Ok));
    assert_eq!(w.sim.stats().of("GetItem"), 3);
    assert_eq!(w.count(EventKind::Disconnected), 0);
}

// A disk that fills up in the middle of a mail must not leave half of it, and the reason must be told.
#[cfg(all(feature = "cli", target_os = "linux"))]
#[test]
fn a_disk_that_is_full_leaves_no_half_message() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    // What the disk says to a file that may grow no further, without a disk of one's own to fill.
    let command = "trap '' XFSZ; ulimit -f 64; exec \"$0\" watch --json --fetch mime \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", command, env!("CARGO_BIN_EXE_ewsnotify"), "--url", sim.url(), "--user", ADA])
        .args(["--ca-file", sim.ca_file().unwrap().to_str().unwrap(), "--password-env", "EWSN_TEST_PASSWORD"])
        .args(["--option", &format!("spool_dir={}", dir.path().display()), "--event", "NewMail"])
        .env("EWSN_TEST_PASSWORD", "secret")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        |wanted: &str| lines.by_ref().map(Result::unwrap).find(|l| l.contains(wanted)).expect(wanted);
    next("\"Connected\"");
    sim.exchange().deliver(ADA, &mail("Much", 1 << 20)).unwrap();
    let line = next("\"NewMail\"");
    assert!(line.contains("\"content\":\"unavailable\"") && line.contains("\"subject\":\"Much\""), "{line}");
    assert!(line.contains("cannot write the message to") && line.contains("too large"), "{line}");
    assert_eq!(files(dir.path()), 0);
    sim.exchange().deliver(ADA, &mail("Little", 1000)).unwrap();
    let line = next("\"NewMail\"");
    assert!(line.contains("\"content\":\"ok\""), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}

// A host that takes its time would find its disk full of mails, or mails told without their content; and one that has taken
// some must get the others.
#[test]
fn a_slow_host_is_waited_for() {
    for bound in [("spool_files", "3"), ("spool_bytes", "250000")] {
        let dir = tempfile::tempdir().unwrap();
        // One at a time.
        let mut w = start(dir.path(), &[bound, ("workers", "2")]);
        for n in 0..10 {
            w.sim.exchange().deliver(ADA, &mail(&format!("Mail {n}"), 100_000)).unwrap();
        }
        // Three are there for the host to take, and seven wait: for no further one was asked.
        let ahead = |w: &Watching| {
            let status = w.client.status();
            (status.queued, status.watches[0].held)
        };
        eventually("three wait for the host", (3, 7), || ahead(&w));
        w.sim.exchange().deliver(ADA, &mail("Mail 10", 100_000)).unwrap();
        eventually("the next is heard of", (3, 8), || ahead(&w));
        assert_eq!((w.sim.stats().of("GetItem"), files(dir.path())), (3, 3));
        for n in 0..=10 {
            let item = new_mail(&mut w).item.unwrap();
            assert_eq!(item.subject, Some(format!("Mail {n}")));
            let path = item.mime_path.unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), mail(&format!("Mail {n}"), 100_000));
            // The host may keep it.
            assert!(files(dir.path()) <= n + 4, "{} files after mail {n}", files(dir.path()));
        }
        assert_eq!(w.count(EventKind::Gap), 0);
        assert_eq!(w.sim.stats().of("GetItem"), 11);
    }
}

// A download that breaks must leave nothing behind, and be done again.
#[test]
fn a_message_that_breaks_off_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = start(dir.path(), &[]);
    for how in [Cut::Fin, Cut::Reset] {
        w.sim.add_fault(Fault::new(Action::Cut { byte: 500_000, how }).on("GetItem"));
        w.sim.exchange().deliver(ADA, &mail("Broken", 1 << 20)).unwrap();
        let path = new_mail(&mut w).item.unwrap().mime_path.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), mail("Broken", 1 << 20));
        assert_eq!(files(dir.path()), 1, "nothing but the message");
        std::fs::remove_file(path).unwrap();
    }
}

// Nobody will ever ask for what was half there when the client was closed.
#[test]
fn closing_in_the_middle_of_a_message_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let w = start(dir.path(), &[]);
    w.sim.add_fault(Fault::new(Action::Stall { byte: 500_000 }).on("GetItem"));
    w.sim.exchange().deliver(ADA, &mail("Half", 1 << 20)).unwrap();
    eventually("the file has begun", 1, || files(dir.path()));
    assert!(w.client.close());
    assert_eq!(files(dir.path()), 0);
}

// The same for one that the host asks for itself, on its own thread.
#[test]
fn closing_ends_the_hosts_own_question() {
    let dir = tempfile::tempdir().unwrap();
    let sim = server(Style::Exchange);
    let id = sim.exchange().deliver(ADA, &mail("Half", 1 << 20)).unwrap();
    sim.add_fault(Fault::new(Action::Stall { byte: 500_000 }).on("GetItem"));
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    options.set("spool_dir", dir.path().to_str().unwrap()).unwrap();
    let client = Client::open(&options).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.fetch_item(&Options::new(), &id, None, Fetch::Mime));
        eventually("the file has begun", 1, || files(dir.path()));
        client.close();
        assert_eq!(asking.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    assert_eq!(files(dir.path()), 0);
}

// A hundred mails would cost a hundred questions; one that is gone would cost the others their summary.
#[test]
fn summaries_come_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = start(dir.path(), &[("fetch", "summary"), ("workers", "2")]);
    w.sim.add_fault(Fault::new(Action::Stall { byte: 100 }).on("GetItem"));
    let mut ids = vec![w.deliver()];
    eventually("the first is asked for", 1, || w.sim.stats().of("GetItem"));
    ids.extend((1..8).map(|_| w.deliver()));
    eventually("all wait", 8, || w.client.status().watches[0].held);
    w.sim.exchange().delete_item(&ids[4], Deletion::Hard).unwrap();
    eventually("the first is answered", true, || {
        w.sim.resume();
        w.client.status().queued > 0
    });
    for (n, id) in ids.iter().enumerate() {
        let event = new_mail(&mut w);
        assert_eq!(event.item_id.as_ref(), Some(id));
        let item = event.item.unwrap();
        match n {
            4 => assert_eq!(item.content, Some(Content::Gone)),
            _ => assert_eq!(item.subject, Some(format!("Mail {}", n + 1))),
        }
    }
    assert_eq!(w.sim.stats().of("GetItem"), 2);
}

/// A mail whose attachments are these: type, name, content in base64.
fn with_attachments(attachments: &[(&str, &str, &str)]) -> Vec<u8> {
    let parts: String = attachments
        .iter()
        .map(|(kind, name, content)| {
            format!(
                "--b\r\nContent-Type: {kind}; name={name}\r\nContent-Disposition: attachment; filename={name}\r\n\
                 Content-Transfer-Encoding: base64\r\n\r\n{content}\r\n"
            )
        })
        .collect();
    format!("Subject: with\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n")
        .into_bytes()
}

// A host would have to take a whole mail apart for one file in it; half a file would be taken for a whole one.
#[test]
fn an_attachment_is_saved_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let settings = [("fetch", "summary"), ("max_item_bytes", "100000")];
    let mut w = start(&spool, &settings);
    let large = "QUJD".repeat(50_000);
    let mail = with_attachments(&[
        ("application/pdf", "a.pdf", "AAECA/8="),
        ("text/plain", "empty.txt", ""),
        ("video/mp4", "film.mp4", &large),
        ("message/rfc822", "inner.eml", "U3ViamVjdDogaW5uZXINCg0KSGk="),
    ]);
    w.sim.exchange().deliver(ADA, &mail).unwrap();
    let event = new_mail(&mut w);
    let attachments = event.item.unwrap().attachments;
    let id = |name: &str| {
        attachments.iter().find(|a| a.name.as_deref() == Some(name)).unwrap().id.clone().unwrap()
    };
    let path = dir.path().join("out");
    let save = |id: &str| w.client.save_attachment(event.watch, id, &path);
    for (name, content) in
        [("a.pdf", &[0, 1, 2, 3, 255][..]), ("empty.txt", b""), ("inner.eml", b"Subject: inner\r\n\r\nHi")]
    {
        save(&id(name)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content, "{name}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let e = save(&id(name)).unwrap_err();
        assert_eq!(
            (e.kind(), std::fs::read(&path).unwrap().as_slice()),
            (ErrorKind::Io, content),
            "it is there already"
        );
        std::fs::remove_file(&path).unwrap();
    }
    let e = save(&id("film.mp4")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
    assert!(e.to_string().contains("max_item_bytes"), "{e}");
    assert_eq!(save("nobody").unwrap_err().code(), Some("ErrorInvalidAttachmentId"));
    w.sim.add_fault(Fault::new(Action::Cut { byte: 600, how: Cut::Reset }).on("GetAttachment"));
    assert!(save(&id("a.pdf")).is_err());
    assert!(!path.exists(), "what was refused or cut leaves nothing");
    assert_eq!(files(&spool), 0);
    // Without a watch, by the client's own options.
    w.client.save_attachment(0, &id("a.pdf"), &path).unwrap();
}

// A link to a file in somebody's cloud has no content: an empty file would be taken for it.
#[test]
fn an_attachment_without_content_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = start(&dir.path().join("spool"), &[("fetch", "summary")]);
    w.sim.exchange().deliver(ADA, &with_attachments(&[("text/uri-list", "Plan", "AAAA")])).unwrap();
    let attachment = new_mail(&mut w).item.unwrap().attachments.remove(0);
    let path = dir.path().join("out");
    let e = w.client.save_attachment(1, &attachment.id.unwrap(), &path).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    assert!(e.to_string().contains("ReferenceAttachment"), "{e}");
    assert!(!path.exists());
}

// Some servers write ids into events that they do not take back: every mail would be told as unreadable.
#[test]
fn ids_in_the_form_of_exchange_2007_are_converted() {
    for fetch in ["summary", "mime", "none"] {
        let dir = tempfile::tempdir().unwrap();
        let settings = [("fetch", fetch), ("ack", "manual"), ("after_ack", "read"), ("catch_up", "true")];
        let mut w = start(dir.path(), &settings);
        w.sim.exchange().configure(|s| s.legacy_ids = true);
        let ids: Vec<String> = (0..3)
            .map(|n| w.sim.exchange().deliver(ADA, &mail(&format!("Mail {n}"), 100)).unwrap())
            .collect();
        for (n, id) in ids.iter().enumerate() {
            let event = new_mail(&mut w);
            let told = event.item_id.clone().unwrap();
            if fetch == "none" {
                // Nobody has looked at it.
                assert_ne!(&told, id);
            } else {
                assert_eq!((&told, event.item.as_ref().unwrap().content), (id, Some(Content::Ok)));
                assert_eq!(event.item.unwrap().subject, Some(format!("Mail {n}")));
                assert!(event.old_item_id.is_some_and(|old| old != told));
            }
            // The host may ask by either.
            for asked in [&told, id] {
                let item = w.client.get_item(1, asked, None, Fetch::Summary).unwrap();
                assert_eq!(item.subject, Some(format!("Mail {n}")));
            }
            w.client.ack(event.seq).unwrap();
            eventually("it is marked as read", Some(true), || {
                w.client.get_item(1, id, None, Fetch::Summary).unwrap().is_read
            });
        }
        assert!(w.sim.stats().of("ConvertId") >= 3);
        assert_eq!(w.count(EventKind::Error), 0, "{:#?}", w.events);
    }
}
