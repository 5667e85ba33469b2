//! All that the wrappers of Python and PHP offer.

use std::process::Command;

use ewsnotify::sim::Sim;

use super::hosts::{ADA, Host, host, options, python};
use super::program;

/// A mail with an attachment.
fn with_attachment(n: usize) -> Vec<u8> {
    format!(
        "From: Bob <bob@example.test>\r\nSubject: Mail {n}\r\nMessage-ID: <{n}@example.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/csv; name=bill.csv\r\nContent-Disposition: attachment; filename=bill.csv\r\n\r\n1;2;3"
    )
    .into_bytes()
}

/// Runs a program that says when it wants a mail, and "fine" at its end.
fn offers(command: &mut Command) {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut plain = options(&sim);
    plain.as_object_mut().unwrap().remove("events");
    let mut host = Host::start(command.arg(plain.to_string()).arg(dir.path()));
    for n in 0.. {
        match host.next()["type"].as_str() {
            Some("mail") => drop(sim.exchange().deliver(ADA, &with_attachment(n)).unwrap()),
            Some("fine") => break,
            other => panic!("{other:?}"),
        }
    }
    let status = host.end();
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read(dir.path().join("mail.eml")).unwrap(), with_attachment(0));
    assert_eq!(std::fs::read(dir.path().join("attachment")).unwrap(), b"1;2;3");
}

/// A Python program could not use what the library has.
#[test]
fn python_has_all_of_it() {
    offers(python().arg(program("features.py")));
}

/// A PHP program could not.
#[test]
fn php_has_all_of_it() {
    offers(host("php").arg(program("features.php")));
}
