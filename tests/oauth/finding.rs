//! Autodiscover and `check` sign in as watches do; and closing, whatever the issuer does.

use std::time::Duration;

use ewsnotify::check::{Grade, Summary, check};
use ewsnotify::net::Cancel;
use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::{ErrorKind, EventKind, Next, Options};

use super::company::{Company, EWS};
use super::support::*;

fn company_options(company: &Company, more: &[(&str, &str)]) -> Options {
    let mut options = options(&company.sim, more);
    options.set("url", "auto").unwrap().set("connect_to", &company.connect_to()).unwrap();
    options
}

fn checked(options: &Options) -> (Summary, String) {
    let mut told = String::new();
    let tell = &mut |finding: ewsnotify::check::Finding| {
        let mark = if finding.grade == Grade::Failed { "failed: " } else { "" };
        told += &format!("{mark}{}\n", finding.message);
    };
    let summary = check(options, &Cancel::new(), tell).unwrap();
    (summary, told)
}

// A program that signs in for itself has no domain: its token would go nowhere, or to anybody.
#[test]
fn the_server_is_found_with_one_token_for_all_questions() {
    let company = Company::start("not used", |builder| builder);
    let sim = &company.sim;
    sim.issuer().register(APP, Some(APP_SECRET), None);
    let more = [
        ("mailbox", ADA),
        ("oauth_client_secret", APP_SECRET),
        ("oauth_scope", "https://outlook.office365.com/.default"),
    ];
    let options = company_options(&company, &more);
    let mut desk = Desk::open(&options);
    desk.connected();
    desk.mail(sim, "found");
    assert_eq!(sim.issuer().counts().requests, 1);
    let (summary, told) = checked(&options);
    assert_eq!(summary.failed, 0, "{told}");
    assert!(told.contains(EWS), "{told}");
    assert_eq!(sim.issuer().counts().requests, 1, "the check goes on with it: {told}");
}

// What check says is what an administrator goes by: here, that it is the issuer who refuses, and not the server.
#[test]
fn check_names_the_issuers_refusal() {
    let (sim, token, dir) = signed_in();
    let (summary, told) = checked(&users(&sim, &token, dir.path()));
    assert_eq!((summary.failed, summary.sign_in), (0, false), "{told}");
    // Another program may have the tokens: a check takes what is stored, and spends nothing.
    let (_, told) = checked(&users(&sim, &token, dir.path()));
    assert_eq!(sim.issuer().counts().requests, 1, "{told}");
    sim.issuer().revoke_refresh();
    let other = tempfile::tempdir().unwrap();
    let (summary, told) = checked(&users(&sim, &token, other.path()));
    assert!(summary.sign_in && told.contains("invalid_grant") && told.contains("ewsnotify login"), "{told}");
    let mut nowhere = options(&sim, &[("user", ADA)]);
    nowhere.set("oauth_refresh_token", &token).unwrap();
    let e = check(&nowhere, &Cancel::new(), &mut |_| ()).unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("oauth_token_store"), "{e}");
}

// An issuer that hangs must not keep a program from ending.
#[test]
fn a_client_closes_while_the_issuer_hangs() {
    let (sim, token, dir) = signed_in();
    sim.add_fault(Fault::new(Action::NoAnswer).on("Token"));
    let desk = Desk::open(&users(&sim, &token, dir.path()));
    assert!(sim.wait_until(LONG, |_| sim.issuer().counts().under_way == 1));
    assert!(desk.client.close_within(Duration::from_millis(200)), "a thread is left");
}

// Closed in the middle of a renewal, the answer is waited for: it may bring the only refresh token that is good from now on.
#[test]
fn an_answer_that_is_on_its_way_is_stored_before_the_end() {
    let (sim, token, dir) = signed_in();
    sim.add_fault(Fault::new(Action::SlowHead { delay: Duration::from_millis(700) }).on("Token"));
    let options = users(&sim, &token, dir.path());
    let desk = Desk::open(&options);
    // The answer is made at once, and its first byte is sent late.
    assert!(sim.wait_until(LONG, |_| sim.issuer().counts().requests == 1));
    assert!(desk.client.close_within(LONG));
    let mut again = Desk::open(&options);
    again.connected();
    assert_eq!(sim.issuer().counts().old, 0, "{}", again.told());
    assert_eq!(again.count(EventKind::Error), 0, "{}", again.told());
}

// A host that keeps the refresh token itself has to hear of the one that comes while it closes: the one before is spent. Who reads on
// another thread reads no further than `Closed`.
#[test]
fn a_token_that_comes_while_closing_is_told_before_the_end() {
    let (sim, token, _) = signed_in();
    sim.add_fault(Fault::new(Action::SlowHead { delay: Duration::from_millis(700) }).on("Token"));
    let desk = Desk::open(&options(&sim, &[("user", ADA), ("oauth_refresh_token", &token)]));
    assert!(sim.wait_until(LONG, |_| sim.issuer().counts().requests == 1));
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut rotated = 0;
            loop {
                match desk.client.next(LONG) {
                    Next::Event(event) => rotated += usize::from(event.kind == EventKind::TokenRotated),
                    Next::Interrupted => {}
                    Next::Closed => return rotated,
                    other => panic!("{other:?}"),
                }
            }
        });
        assert!(desk.client.close_within(LONG));
        assert_eq!(reads.join().unwrap(), 1);
    });
}

// Where the issuer hangs, or has nothing to bring, whoever waits for an event is let go in time.
#[test]
fn a_wait_ends_with_the_close_while_the_issuer_hangs() {
    let (sim, token, _) = signed_in();
    sim.add_fault(Fault::new(Action::NoAnswer).on("Token"));
    let desk = Desk::open(&options(&sim, &[("user", ADA), ("oauth_refresh_token", &token)]));
    assert!(sim.wait_until(LONG, |_| sim.issuer().counts().under_way == 1));
    let began = std::time::Instant::now();
    assert!(desk.client.close_within(Duration::from_millis(200)), "a thread is left");
    assert!(began.elapsed() < Duration::from_secs(10));
    while !matches!(desk.client.next(Duration::ZERO), Next::Closed) {}
}

// A client that is closed and kept, as hosts do with handles, must not keep other clients of the account from renewing.
#[test]
fn a_client_that_is_closed_has_given_the_lock_back() {
    let (sim, token, dir) = signed_in();
    sim.add_fault(Fault::new(Action::SlowHead { delay: Duration::from_millis(700) }).on("Token"));
    let options = users(&sim, &token, dir.path());
    let desk = Desk::open(&options);
    assert!(sim.wait_until(LONG, |_| sim.issuer().counts().requests == 1));
    // What is in the way of the new file goes before the client ends.
    let lock = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "lock"));
    let in_the_way = lock.unwrap().with_extension("new");
    std::fs::create_dir(&in_the_way).unwrap();
    let mut desk = desk;
    desk.until("Error", |e| e.kind != EventKind::Connected && e.to_json().contains("store the tokens"));
    std::fs::remove_dir(&in_the_way).unwrap();
    assert!(desk.client.close_within(LONG));
    let mut again = Desk::open(&options);
    again.connected();
    assert_eq!((sim.issuer().counts().requests, sim.issuer().counts().old), (1, 0), "{}", again.told());
    drop(desk);
}
