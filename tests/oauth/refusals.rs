//! Where nothing gets better by itself: the host has to hear why, and what to do.

use ewsnotify::{EventKind, Options};

use super::support::*;

// A help desk that says nothing for a month: the user has changed the password, and nobody was told.
#[test]
fn a_refusal_ends_the_watch_with_its_reason() {
    for (error, text, codes, wanted) in [
        ("invalid_grant", "AADSTS70008: The refresh token has expired.", &[70_008][..], "ewsnotify login"),
        (
            "interaction_required",
            "AADSTS50076: You must use multi-factor authentication.",
            &[50_076][..],
            "sign in anew",
        ),
        ("consent_required", "AADSTS65001: The user has not consented.", &[65_001][..], "consent"),
        (
            "invalid_client",
            "AADSTS7000222: The provided client secret keys are expired.",
            &[7_000_222][..],
            "client secret",
        ),
    ] {
        let sim = start();
        sim.issuer().register(APP, None, None);
        let dir = tempfile::tempdir().unwrap();
        let token = sim.issuer().sign_in(APP, ADA);
        for _ in 0..20 {
            sim.issuer().refuse_next(400, error, &format!("{text} {token}"), codes);
        }
        let mut desk = Desk::open(&users(&sim, &token, dir.path()));
        let closed = desk.until("Closed", |e| e.kind == EventKind::Closed);
        assert_eq!(closed.to_json().matches("sign-in-refused").count(), 1, "{}", closed.to_json());
        let told = desk.told();
        let failed =
            desk.events.iter().find(|e| e.kind == EventKind::Error).unwrap_or_else(|| panic!("{told}"));
        assert!(failed.to_json().contains(error) && told.contains(wanted), "{told}");
        assert!(!told.contains(&token), "{told}");
        assert_eq!(sim.issuer().counts().requests, 1, "{error}: never a loop");
    }
}

// "The header must be present" at night, and nothing else: what to change is what the administrator wants to read.
#[test]
fn a_token_of_the_wrong_kind_leads_to_the_option() {
    let sim = start();
    sim.issuer().register(APP, Some(APP_SECRET), None);
    // Of a user, as it was meant, and in truth the program's own.
    sim.exchange().impersonates_only(ADA);
    let dir = tempfile::tempdir().unwrap();
    let token = sim.issuer().sign_in(APP, ADA);
    let mut options = users(&sim, &token, dir.path());
    options.set("oauth_client_secret", APP_SECRET).unwrap();
    let mut desk = Desk::open(&options);
    desk.until("Closed", |e| e.kind == EventKind::Closed);
    assert!(desk.told().contains("set access=impersonate"), "{}", desk.told());
}

// The event says to add the watch again: in the program that runs, and not in half an hour.
#[test]
fn a_watch_that_is_added_again_signs_in() {
    let (sim, token, dir) = signed_in();
    sim.issuer().refuse_next(400, "invalid_grant", "AADSTS65001: The user has not consented.", &[65_001]);
    let mut desk = Desk::open(&users(&sim, &token, dir.path()));
    desk.until("Closed", |e| e.kind == EventKind::Closed);
    // The administrator has consented.
    desk.client.watch(&Options::new()).unwrap();
    desk.connected();
    assert_eq!(sim.issuer().counts().requests, 2, "{}", desk.told());
}

// The same by another client of the process, as a web worker's next request opens one.
#[test]
fn a_watch_that_another_client_adds_signs_in() {
    let (sim, token, dir) = signed_in();
    sim.issuer().refuse_next(400, "invalid_grant", "AADSTS65001: The user has not consented.", &[65_001]);
    let mut desk = Desk::open(&users(&sim, &token, dir.path()));
    desk.until("Closed", |e| e.kind == EventKind::Closed);
    let mut other = Desk::open(&users(&sim, &token, dir.path()));
    other.connected();
    assert_eq!(sim.issuer().counts().requests, 2, "{}", other.told());
}

// The client secret has expired, and the administrator mistypes the new one first.
#[test]
fn a_secret_that_is_corrected_is_tried_at_once() {
    let sim = start();
    sim.issuer().register(APP, Some(APP_SECRET), None);
    let token = sim.issuer().sign_in(APP, ADA);
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(users(&sim, &token, dir.path()).set("oauth_client_secret", "expired").unwrap());
    for secret in ["mistyped", APP_SECRET] {
        desk.until("Closed", |e| e.kind == EventKind::Closed);
        desk.client.watch(Options::new().set("oauth_client_secret", secret).unwrap()).unwrap();
    }
    desk.connected();
    assert_eq!(sim.issuer().counts().requests, 3, "{}", desk.told());
}
