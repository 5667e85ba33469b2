//! A renewal that takes long: who has a token that is good still goes on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ewsnotify::EventKind;
use ewsnotify::sim::fault::{Action, Fault};

use super::support::*;

// An issuer that hangs stopped all mail for as long as a request may take, with a token in hand that is good for minutes.
#[test]
fn a_renewal_ahead_of_time_holds_nobody() {
    let (sim, token, dir) = signed_in();
    let mut options = users(&sim, &token, dir.path());
    // Each event is a request.
    options.set("fetch", "summary").unwrap().set("call_timeout", "1h").unwrap();
    let mut desk = Desk::open(&options);
    desk.connected();
    assert!(desk.client.close());
    drop(desk);
    // It ends in four minutes, of an hour: it is to be renewed, and good still.
    let files = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let file = files.into_iter().find(|p| p.extension().is_some_and(|e| e == "json")).unwrap();
    let mut stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    (stored["since"], stored["until"]) = ((now - 3_360_000).into(), (now + 240_000).into());
    std::fs::write(&file, serde_json::to_vec(&stored).unwrap()).unwrap();

    sim.add_fault(Fault::new(Action::NoAnswer).on("Token"));
    let mut desk = Desk::open(&options);
    // Whoever came first has the store read; there is no token yet.
    desk.connected();
    for n in 0..5 {
        desk.mail(&sim, &format!("mail {n}"));
    }
    assert!(sim.wait_until(LONG, |_| sim.issuer().counts().under_way == 1));
    for n in 5..10 {
        desk.mail(&sim, &format!("mail {n}"));
    }
    assert_eq!(sim.issuer().counts().under_way, 1, "the issuer hangs still");
    assert_eq!((desk.count(EventKind::NewMail), desk.count(EventKind::Error)), (10, 0), "{}", desk.told());
    assert_eq!(desk.count(EventKind::Disconnected), 0, "{}", desk.told());
    assert!(desk.client.close_within(Duration::from_millis(200)), "a thread is left");
}

// Without a token there is nothing to go on with: the watch is told that it waits, and for whom, though the issuer never answers.
#[test]
fn who_has_no_token_is_told_of_an_issuer_that_hangs() {
    let (sim, token, dir) = signed_in();
    // The answer that does not come would spend the token that was sent.
    sim.issuer().rotate(false);
    sim.add_fault(Fault::new(Action::NoAnswer).on("Token"));
    let mut options = users(&sim, &token, dir.path());
    options.set("call_timeout", "1s").unwrap();
    let mut desk = Desk::open(&options);
    let failed = desk.until("Error", |e| e.kind == EventKind::Error);
    assert!(failed.to_json().contains("has no token"), "{}", failed.to_json());
    // The fault was for one request.
    desk.connected();
}
