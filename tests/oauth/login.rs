//! A user signs in: by a web page of the host's, or on another device; and a watch goes on from there.

use ewsnotify::ErrorKind;
use ewsnotify::auth::Secret;
use ewsnotify::net::Cancel;
use ewsnotify::sign_in::{SignIn, code};
use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};

use super::support::*;

fn sign_in(sim: &Sim, store: &str) -> (SignIn, ewsnotify::Options) {
    let authorize = sim.token_url().replace("/token", "/authorize");
    let device = sim.token_url().replace("/token", "/devicecode");
    let more = [
        ("user", ADA),
        ("oauth_authorize_url", authorize.as_str()),
        ("oauth_device_url", &device),
        ("oauth_token_store", store),
    ];
    let options = options(sim, &more);
    (SignIn::new(&options).unwrap(), options)
}

// A web host that cannot let users sign in again needs an administrator each time.
#[test]
fn a_sign_in_by_a_web_page_feeds_a_watch() {
    let sim = start();
    sim.issuer().register(APP, None, None);
    sim.issuer().browser(Some(ADA));
    let dir = tempfile::tempdir().unwrap();
    let (sign_in, options) = sign_in(&sim, dir.path().to_str().unwrap());
    let back = "https://desk.example.test/signed-in";
    let begun = sign_in.begin(back).unwrap();
    assert!(begun.url.contains("code_challenge_method=S256") && !begun.url.contains(begun.verifier.expose()));
    let query = sim.issuer().visit(&begun.url).unwrap();
    let came = code(&query, &begun.state).unwrap();
    assert_eq!(code(&query, &Secret::new("other")).unwrap_err().kind(), ErrorKind::Invalid);
    // A code that leaked is worth nothing without the verifier.
    let e = sign_in.finish(&came, back, &Secret::new("guessed"), &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("invalid_grant")), "{e}");
    let begun = sign_in.begin(back).unwrap();
    let came = code(&sim.issuer().visit(&begun.url).unwrap(), &begun.state).unwrap();
    let signed_in = sign_in.finish(&came, back, &begun.verifier, &Cancel::new()).unwrap();
    assert!(signed_in.stored && signed_in.refresh_token.is_some());
    let mut desk = Desk::open(&options);
    desk.connected();
    desk.mail(&sim, "signed in");
    sim.issuer().browser(None);
    let begun = sign_in.begin(back).unwrap();
    let e = code(&sim.issuer().visit(&begun.url).unwrap(), &begun.state).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("access_denied")), "{e}");
}

// On a server without a browser there is no other way.
#[test]
fn a_sign_in_on_another_device_feeds_a_watch() {
    let sim = start();
    sim.issuer().register(APP, None, None);
    let dir = tempfile::tempdir().unwrap();
    let (sign_in, options) = sign_in(&sim, dir.path().to_str().unwrap());
    let device = sign_in.device(&Cancel::new()).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| sign_in.wait(device.clone(), &Cancel::new()));
        // It asks before the user has typed it in.
        assert!(sim.wait_until(LONG, |_| sim.issuer().counts().requests > 0));
        sim.issuer().device(&device.user_code, Some(ADA));
        assert!(waits.join().unwrap().unwrap().stored);
    });
    let mut desk = Desk::open(&options);
    desk.connected();
    let device = sign_in.device(&Cancel::new()).unwrap();
    sim.issuer().device(&device.user_code, None);
    let e = sign_in.wait(device.clone(), &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("authorization_declined")), "{e}");
    let cancelled = Cancel::new();
    cancelled.cancel();
    assert_eq!(sign_in.wait(device, &cancelled).unwrap_err().kind(), ErrorKind::Closed);
}

// An issuer that gives a refresh token only the first time: the second sign-in must not throw away the one that is good for months.
#[test]
fn a_sign_in_without_a_refresh_token_keeps_the_one_before() {
    let sim = start();
    sim.issuer().register(APP, None, None);
    sim.issuer().browser(Some(ADA));
    let dir = tempfile::tempdir().unwrap();
    let (sign_in, options) = sign_in(&sim, dir.path().to_str().unwrap());
    let back = "https://desk.example.test/signed-in";
    let signed_in = |body: Option<&str>| {
        let begun = sign_in.begin(back).unwrap();
        let came = code(&sim.issuer().visit(&begun.url).unwrap(), &begun.state).unwrap();
        if let Some(body) = body {
            let (retry_after, retry_date, body) = (None, None, Some(body.to_owned()));
            sim.add_fault(
                Fault::new(Action::Status { code: 200, retry_after, retry_date, body }).on("Token"),
            );
        }
        sign_in.finish(&came, back, &begun.verifier, &Cancel::new()).unwrap()
    };
    assert!(signed_in(None).refresh_token.is_some());
    let plain = r#"{"token_type":"Bearer","expires_in":3600,"access_token":"plain"}"#;
    assert!(signed_in(Some(plain)).refresh_token.is_none());
    // The server does not know "plain", so it is renewed.
    let mut desk = Desk::open(&options);
    desk.connected();
}
