//! All that the wrappers of Python and PHP offer.

use std::process::Command;

use ewsnotify::sim::Sim;

use super::hosts::{ADA, Host, host, mail, options, python};
use super::program;

/// Runs a program that says when it wants a mail, and "fine" at its end.
fn offers(command: &mut Command) {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut plain = options(&sim);
    plain.as_object_mut().unwrap().remove("events");
    let mut host = Host::start(command.arg(plain.to_string()).arg(dir.path()));
    for n in 0.. {
        match host.next()["type"].as_str() {
            Some("mail") => drop(sim.exchange().deliver(ADA, &mail(n)).unwrap()),
            Some("fine") => break,
            other => panic!("{other:?}"),
        }
    }
    let status = host.end();
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read(dir.path().join("mail.eml")).unwrap(), mail(0));
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
