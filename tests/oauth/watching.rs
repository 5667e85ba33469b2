//! Watches that sign in by each kind of grant.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::{Client, ErrorKind, EventKind, Options};
use serde_json::json;

use super::support::*;

// A program without a user: without the impersonation header every request would be refused, without X-AnchorMailbox some.
#[test]
fn a_program_signs_in_for_itself_with_a_secret() {
    let sim = start();
    sim.issuer().register(APP, Some(APP_SECRET), None);
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let options = options(
        &sim,
        &[("mailbox", ADA), ("oauth_client_secret", APP_SECRET), ("state_dir", state), ("fetch", "summary")],
    );
    let mut desk = Desk::open(&options);
    desk.connected();
    desk.mail(&sim, "one");
    desk.mail(&sim, "two");
    assert_eq!(sim.issuer().counts().requests, 1, "one token for all requests");
    for request in sim.requests().iter().filter(|r| r.operation != "Token") {
        assert!(
            String::from_utf8_lossy(&request.body).contains("ExchangeImpersonation"),
            "{}",
            request.operation
        );
        assert_eq!(request.header("x-anchormailbox"), Some(ADA));
        assert_eq!(request.header("authorization"), Some("Bearer"));
    }
    assert!(desk.client.close());
    drop(desk);
    let stored: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_name().to_string_lossy().starts_with("oauth-"))
        .collect();
    assert_eq!(stored.len(), 2, "the tokens and their lock");
    assert!(stored.iter().all(|e| e.metadata().unwrap().permissions().mode() & 0o777 == 0o600));
    // The next run, within the hour, uses what is stored.
    let mut again = Desk::open(&options);
    again.connected();
    assert_eq!(sim.issuer().counts().requests, 1);
}

// Issuers want programs to have certificates: an assertion with a wrong header, audience or signature is refused.
#[test]
fn a_program_signs_in_with_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = app_files(dir.path());
    let sim = start();
    sim.issuer().register(APP, None, Some(CERT));
    sim.issuer().set_life(Duration::from_secs(1));
    let (cert, key) = (cert.as_str(), key.as_str());
    // As Entra wants it, and as AD FS does.
    let adfs = sim.url().replace("/EWS/Exchange.asmx", "/adfs");
    for (whom, url) in [("oauth_token_url", sim.token_url()), ("oauth_authority", adfs)] {
        let mut options = Options::new();
        options
            .set("url", sim.url())
            .unwrap()
            .set("ca_file", sim.ca_file().unwrap().to_str().unwrap())
            .unwrap();
        options.set(whom, &url).unwrap().set("oauth_client_id", APP).unwrap().set("mailbox", ADA).unwrap();
        options.set("oauth_client_cert", cert).unwrap().set("oauth_client_key", key).unwrap();
        let mut desk = Desk::open(&options);
        desk.connected();
        desk.mail(&sim, "signed");
    }
    let counts = sim.issuer().counts();
    assert!(counts.granted >= 2 && counts.granted == counts.requests, "{counts:?}");
    let wrong = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
    std::fs::write(cert, wrong.cert.pem()).unwrap();
    let mut options =
        options(&sim, &[("mailbox", ADA), ("oauth_client_cert", cert), ("oauth_client_key", key)]);
    let watch =
        |options: &Options| Client::open(&Options::new()).unwrap().watch(options).unwrap_err().to_string();
    assert!(watch(&options).contains("not the one of the certificate"));
    std::fs::write(key, "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\n").unwrap();
    let told = watch(&options);
    assert!(told.contains("oauth_client_key") && !told.contains("hunter2"), "{told}");
    options.set("oauth_client_cert", "/nowhere").unwrap();
    assert!(watch(&options).contains("cannot read /nowhere"));
}

// A token that the server has revoked, or that conditional access does not like any more, must not end the watch.
#[test]
fn what_a_server_does_not_take_is_renewed() {
    let (sim, token, dir) = signed_in();
    let mut options = users(&sim, &token, dir.path());
    options.set("fetch", "summary").unwrap();
    let mut desk = Desk::open(&options);
    desk.connected();
    desk.mail(&sim, "before");
    assert_eq!(sim.issuer().counts().requests, 1);
    sim.issuer().revoke_access();
    desk.mail(&sim, "after");
    assert_eq!(sim.issuer().counts().requests, 2);
    sim.issuer().demand_claims(json!({"access_token": {"nbf": {"essential": true, "value": "1700000000"}}}));
    desk.mail(&sim, "with claims");
    let counts = sim.issuer().counts();
    assert_eq!((counts.requests, counts.old, counts.most), (3, 0, 1));
    assert_eq!(desk.count(EventKind::Disconnected), 0, "{}", desk.told());
}

// An endpoint that is overloaded at the start, or sends a portal's page, is no reason to give a mailbox up.
#[test]
fn an_endpoint_in_trouble_is_asked_again() {
    let (sim, token, dir) = signed_in();
    // The answer that is cut off would spend the token that was sent.
    sim.issuer().rotate(false);
    for action in [
        Action::Status { code: 503, retry_after: Some(1), retry_date: None, body: None },
        Action::Html,
        Action::Cut { byte: 20, how: Default::default() },
    ] {
        sim.add_fault(Fault::new(action).on("Token"));
    }
    let mut options = users(&sim, &token, dir.path());
    options.set("call_timeout", "5s").unwrap();
    let mut desk = Desk::open(&options);
    desk.connected();
    desk.mail(&sim, "at last");
    let told = desk.told();
    assert!(told.contains("overloaded") || told.contains("out of order"), "{told}");
}

// The tokens of a program must not be used to read a mailbox as its own, which it has not.
#[test]
fn a_program_has_no_mailbox_of_its_own() {
    let sim = start();
    let client = Client::open(&Options::new()).unwrap();
    for access in ["own", "delegate"] {
        let more = [("mailbox", ADA), ("oauth_client_secret", APP_SECRET), ("access", access)];
        let e = client.watch(&options(&sim, &more)).unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("access=impersonate"), "{e}");
    }
    let e = client.watch(&options(&sim, &[("oauth_client_secret", APP_SECRET)])).unwrap_err();
    assert!(e.to_string().contains("mailbox"), "{e}");
}

// A host without a store would start tomorrow with a refresh token that the issuer does not take any more, and be signed out.
#[test]
fn without_a_store_the_host_keeps_the_refresh_token() {
    let (sim, first, _) = signed_in();
    let with = |token: &str| options(&sim, &[("user", ADA), ("oauth_refresh_token", token)]);
    let mut desk = Desk::open(&with(&first));
    let rotated = desk.until("TokenRotated", |e| e.kind == EventKind::TokenRotated);
    let detail = rotated.detail.clone().unwrap();
    let kept = detail.refresh_token.unwrap();
    assert_eq!(detail.account.as_deref(), Some(ADA));
    assert!(sim.issuer().is_newest(kept.expose()) && kept.expose() != first);
    assert!(rotated.to_json().contains(kept.expose()), "{}", rotated.to_json());
    assert!(!format!("{rotated:?}").contains(kept.expose()));
    desk.client.ack(rotated.seq).unwrap();
    assert!(desk.client.ack(rotated.seq).is_err(), "it is kept");
    desk.connected();
    desk.mail(&sim, "one");
    assert!(desk.client.close());

    let mut next = Desk::open(&with(kept.expose()));
    next.connected();
    next.mail(&sim, "two");
    // What it is not told again for: the last word counts, and it was not acknowledged.
    let told = next.events.iter().rev().find(|e| e.kind == EventKind::TokenRotated).cloned().unwrap();
    assert!(sim.issuer().is_newest(told.detail.unwrap().refresh_token.unwrap().expose()));
    assert!(next.client.close());
    let last = next.until("TokenRotated at the end", |e| e.kind == EventKind::TokenRotated);
    next.client.ack(last.seq).unwrap();

    let mut spent = Desk::open(&with(&first));
    let closed = spent.until("Closed", |e| e.kind == EventKind::Closed);
    assert_eq!(closed.detail.unwrap().reason, Some(ewsnotify::Reason::SignInRefused));
}
