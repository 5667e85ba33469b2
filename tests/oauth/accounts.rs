//! One account in one process, however often and however differently a host signs in with it.

use ewsnotify::sim::Sim;
use ewsnotify::{EventKind, Options, Reason};

use super::support::*;

fn of(sim: &Sim, refresh_token: &str, more: &[(&str, &str)]) -> Options {
    let mut options = options(sim, &[("user", ADA), ("oauth_refresh_token", refresh_token)]);
    for (key, value) in more {
        options.set(key, value).unwrap();
    }
    options
}

/// Waits until the host was told, for this account, of the refresh token that counts.
fn kept(desk: &mut Desk, sim: &Sim, account: &str) -> String {
    loop {
        let last = desk.events.iter().rev().filter(|e| e.kind == EventKind::TokenRotated);
        let mut last =
            last.filter_map(|e| e.detail.clone()).filter(|d| d.account.as_deref() == Some(account));
        if let Some(token) =
            last.next().and_then(|d| d.refresh_token).filter(|t| sim.issuer().is_newest(t.expose()))
        {
            return token.expose().to_owned();
        }
        desk.until("TokenRotated", |e| e.kind == EventKind::TokenRotated);
    }
}

// A second watch with another time-out, or a second client, would send the refresh token that the first has spent: the issuer takes
// both for a thief's, and the user has to sign in.
#[test]
fn one_refresh_token_is_spent_once() {
    let (sim, first, _) = signed_in();
    let mut desk = Desk::open(&of(&sim, &first, &[]));
    desk.client.watch(&of(&sim, &first, &[("call_timeout", "77s"), ("account", "second")])).unwrap();
    let mut other = Desk::open(&of(&sim, &first, &[("connect_timeout", "7s"), ("fetch", "summary")]));
    desk.connected();
    other.connected();
    // Each host is told, by each of its names.
    let newest = kept(&mut desk, &sim, ADA);
    assert_eq!(kept(&mut desk, &sim, "second"), newest);
    assert_eq!(kept(&mut other, &sim, ADA), newest);
    let counts = sim.issuer().counts();
    assert_eq!((counts.requests, counts.old, counts.most), (1, 0, 1), "{}", desk.told());
    // What the host kept of it, new and old, leads to the newest.
    for token in [&newest, &first] {
        let mut late = Desk::open(&of(&sim, token, &[]));
        late.connected();
        // Who has an older one is told, or would start with one that is spent.
        if *token == first {
            assert_eq!(kept(&mut late, &sim, ADA), newest);
        }
    }
    assert_eq!(sim.issuer().counts().requests, 1);
    // The end of one is not the end of the account.
    assert!(desk.client.close());
    sim.issuer().revoke_access();
    other.mail(&sim, "still there");
    let counts = sim.issuer().counts();
    assert_eq!((counts.old, counts.most), (0, 1), "{}", other.told());
}

// The user has signed in anew for another watch: what goes on with the older sign-in stops when the issuer ends that one.
#[test]
fn the_sign_in_that_was_given_last_counts() {
    let (sim, older, _) = signed_in();
    let mut desk = Desk::open(&of(&sim, &older, &[]));
    desk.connected();
    kept(&mut desk, &sim, ADA);
    let newer = sim.issuer().sign_in(APP, ADA);
    let mut other = Desk::open(&of(&sim, &newer, &[]));
    other.connected();
    let newest = kept(&mut other, &sim, ADA);
    // The first host is told what it is to keep from now on.
    desk.until("the newest", |e| {
        let token = e.detail.as_ref().and_then(|d| d.refresh_token.as_ref());
        token.is_some_and(|token| token.expose() == newest)
    });
    // The older one, from a host's file, takes nothing back.
    let mut late = Desk::open(&of(&sim, &older, &[]));
    late.connected();
    let counts = sim.issuer().counts();
    assert_eq!((counts.requests, counts.old, counts.most), (2, 0, 1));
}

// Whoever knows a user's name could read the user's mail by the token of another watch, or end that watch.
#[test]
fn a_refresh_token_that_the_issuer_does_not_take_leads_nowhere() {
    let (sim, token, _) = signed_in();
    let mut desk = Desk::open(&of(&sim, &token, &[("fetch", "summary")]));
    desk.connected();
    let mut made_up = Desk::open(&of(&sim, "made-up", &[]));
    let closed = made_up.until("Closed", |e| e.kind == EventKind::Closed);
    assert_eq!(closed.detail.unwrap().reason, Some(Reason::SignInRefused));
    assert_eq!(made_up.count(EventKind::Connected), 0, "{}", made_up.told());
    let mut again = Desk::open(&of(&sim, &token, &[]));
    again.connected();
    // Nor by a sign-in that comes later, and takes the place of the good one.
    let newer = sim.issuer().sign_in(APP, ADA);
    let mut other = Desk::open(&of(&sim, &newer, &[]));
    other.connected();
    made_up.client.watch(&Options::new()).unwrap();
    made_up.until("Closed", |e| e.kind == EventKind::Closed);
    assert_eq!(made_up.count(EventKind::Connected), 0, "{}", made_up.told());
    sim.issuer().revoke_access();
    desk.mail(&sim, "still there");
    assert_eq!(desk.count(EventKind::Error), 0, "{}", desk.told());
    assert_eq!((sim.issuer().counts().old, sim.issuer().counts().most), (0, 1));
}

// "Sign in anew, and add the watch again": with the new refresh token, in the program that runs.
#[test]
fn a_newer_one_is_taken_after_a_refusal() {
    let (sim, token, _) = signed_in();
    let mut desk = Desk::open(&of(&sim, &token, &[]));
    desk.connected();
    sim.issuer().revoke_refresh();
    sim.issuer().revoke_access();
    // What is asked next is refused, and so is the renewal.
    desk.client.watch(&of(&sim, &token, &[("folders", "sentitems")])).unwrap();
    desk.until("Closed", |e| e.kind == EventKind::Closed && e.to_json().contains("sign-in-refused"));
    let newer = sim.issuer().sign_in(APP, ADA);
    let id = desk.client.watch(&of(&sim, &newer, &[("folders", "drafts")])).unwrap();
    desk.until("Connected", |e| e.kind == EventKind::Connected && e.watch == id);
    // The watch that is added with the older one goes on with the newest.
    let id = desk.client.watch(&of(&sim, &token, &[("folders", "inbox")])).unwrap();
    desk.until("Connected", |e| e.kind == EventKind::Connected && e.watch == id);
    assert_eq!(sim.issuer().counts().most, 1);
}

// A watch that has a wrong refresh token would end one that goes by the sign-in that is stored, and, added again, have its mail.
#[test]
fn a_wrong_one_leaves_alone_who_goes_by_the_store() {
    let (sim, token, dir) = signed_in();
    let mut first = Desk::open(&users(&sim, &token, dir.path()));
    first.connected();
    assert!(first.client.close());
    let store = [("user", ADA), ("oauth_token_store", dir.path().to_str().unwrap())];
    let mut wrong = Desk::open(&users(&sim, "made-up", dir.path()));
    let mut desk = Desk::open(&options(&sim, &store));
    desk.connected();
    for _ in 0..2 {
        wrong.until("Closed", |e| e.kind == EventKind::Closed);
        wrong.client.watch(&Options::new()).unwrap();
    }
    wrong.until("Closed", |e| e.kind == EventKind::Closed);
    assert_eq!(wrong.count(EventKind::Connected), 0, "{}", wrong.told());
    assert_eq!(desk.count(EventKind::Error), 0, "{}", desk.told());
}

// A sign-in that works only after the next one did would be stored over it: at the next start the host's newest is one that is spent.
#[test]
fn a_late_older_sign_in_does_not_take_the_newer_ones_place() {
    let (sim, older, dir) = signed_in();
    sim.issuer().refuse_next(400, "invalid_grant", "AADSTS65001: The user has not consented.", &[65_001]);
    let mut desk = Desk::open(&users(&sim, &older, dir.path()));
    desk.until("Closed", |e| e.kind == EventKind::Closed);
    let newer = sim.issuer().sign_in(APP, ADA);
    let mut other = Desk::open(&users(&sim, &newer, dir.path()));
    other.connected();
    desk.client.watch(&Options::new()).unwrap();
    desk.connected();
    assert!(desk.client.close() && other.client.close());
    let mut next = Desk::open(&users(&sim, &newer, dir.path()));
    next.connected();
    let counts = sim.issuer().counts();
    assert_eq!((counts.old, counts.most), (0, 1), "{}", next.told());
}

// A client whose own options cannot be sent would keep the others from asking for half an hour.
#[test]
fn a_fault_of_one_clients_options_is_its_own() {
    let (sim, token, _) = signed_in();
    let mut bad = Desk::open(&of(&sim, &token, &[("user_agent", &"x".repeat(2000))]));
    let told = bad.until("Error", |e| e.kind == EventKind::Error);
    assert!(told.to_json().contains("user_agent"), "{}", told.to_json());
    let mut good = Desk::open(&of(&sim, &token, &[]));
    good.connected();
    assert_eq!(good.count(EventKind::Error), 0, "{}", good.told());
}

// A program's own token must not be handed to whoever merely knows its id.
#[test]
fn a_program_gets_by_its_own_secret_only() {
    let sim = start();
    sim.issuer().register(APP, Some(APP_SECRET), None);
    let with = |secret: &str| options(&sim, &[("mailbox", ADA), ("oauth_client_secret", secret)]);
    let mut desk = Desk::open(&with(APP_SECRET));
    desk.connected();
    let mut second = Desk::open(&with(APP_SECRET));
    second.connected();
    assert_eq!(sim.issuer().counts().requests, 1);
    let mut guessed = Desk::open(&with("guessed"));
    let closed = guessed.until("Closed", |e| e.kind == EventKind::Closed);
    assert_eq!(closed.detail.unwrap().reason, Some(Reason::SignInRefused));
    desk.mail(&sim, "still there");
}
