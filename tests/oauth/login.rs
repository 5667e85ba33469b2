//! A user signs in: by a web page of the host's, or on another device; and a watch goes on from there.

use std::time::Duration;

use ewsnotify::ErrorKind;
use ewsnotify::auth::Secret;
use ewsnotify::net::Cancel;
use ewsnotify::sign_in::{Polled, SignIn};
use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};

use super::support::*;

/// A company whose users sign in, Ada at the browser; the tokens go into the folder.
fn sign_in() -> (Sim, tempfile::TempDir, SignIn, ewsnotify::Options) {
    let sim = start();
    sim.issuer().register(APP, None, None);
    sim.issuer().browser(Some(ADA));
    let dir = tempfile::tempdir().unwrap();
    let authorize = sim.token_url().replace("/token", "/authorize");
    let device = sim.token_url().replace("/token", "/devicecode");
    let more = [
        ("user", ADA),
        ("oauth_authorize_url", authorize.as_str()),
        ("oauth_device_url", &device),
        ("oauth_token_store", dir.path().to_str().unwrap()),
    ];
    let options = options(&sim, &more);
    (sim, dir, SignIn::new(&options).unwrap(), options)
}

// A web host that cannot let users sign in again needs an administrator each time.
#[test]
fn a_sign_in_by_a_web_page_feeds_a_watch() {
    let (sim, _dir, sign_in, options) = sign_in();
    let back = "https://desk.example.test/signed-in";
    let (begun, other) = (sign_in.begin(back).unwrap(), sign_in.begin(back).unwrap());
    assert!(begun.url.contains("code_challenge_method=S256"));
    let query = sim.issuer().visit(&begun.url).unwrap();
    let e = sign_in.finish(&other.kept, &query, &Cancel::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
    // A code that leaked is worth nothing without the verifier.
    let stolen = format!("{}&state={}", query.split('&').next().unwrap(), state(&other.url));
    let e = sign_in.finish(&other.kept, &stolen, &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("invalid_grant")), "{e}");
    let begun = sign_in.begin(back).unwrap();
    let query = sim.issuer().visit(&begun.url).unwrap();
    let signed_in = sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap();
    assert!(signed_in.stored && signed_in.refresh_token.is_some());
    // The page is loaded anew.
    let e = sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("invalid_grant")), "{e}");
    assert!(e.to_string().contains("already redeemed"), "{e}");
    let mut desk = Desk::open(&options);
    desk.connected();
    desk.mail(&sim, "signed in");
    sim.issuer().browser(None);
    let begun = sign_in.begin(back).unwrap();
    let query = sim.issuer().visit(&begun.url).unwrap();
    let e = sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("access_denied")), "{e}");
}

// The page that the browser comes back to is in another process, days and versions of the options may lie between, and what comes back
// is anybody's: each mistake has its own words, and none shows a secret.
#[test]
fn what_is_wrong_with_a_sign_in_is_told_and_shows_no_secret() {
    let (sim, dir, sign_in, options) = sign_in();
    for redirect in
        ["", "/signed-in", "https://desk.example.test/#signed-in", "https://desk.example.test/signed in"]
    {
        let e = sign_in.begin(redirect).unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("redirect"), "{redirect}: {e}");
    }
    let begun = sign_in.begin("https://desk.example.test/signed-in").unwrap();
    let state = state(&begun.url);
    let refused = |query: &str, kept: &Secret| {
        let e = sign_in.finish(kept, query, &Cancel::new()).unwrap_err();
        for secret in [begun.kept.expose(), &state, "hunter2code"] {
            assert!(!format!("{e} {e:?}").contains(secret), "{e}");
        }
        e
    };
    let said = format!("error=server_error&error_description=we+got+{state}+of+you&state={state}");
    assert_eq!(refused(&said, &begun.kept).code(), Some("server_error"));
    let twice = format!("code=hunter2code&code=x&state={state}");
    assert!(refused(&twice, &begun.kept).to_string().contains("more than one code"));
    assert!(refused("", &begun.kept).to_string().contains("another sign-in"));
    assert!(refused(&format!("state={state}"), &begun.kept).to_string().contains("without a code"));
    let cut = Secret::new(&begun.kept.expose()[..begun.kept.expose().len() - 7]);
    assert!(refused(&twice, &cut).to_string().contains("cut off"));
    // An issuer that quotes what it was sent.
    let (retry_after, retry_date) = (None, None);
    let quotes = r#"{"error":"invalid_grant","error_description":"hunter2code is nonsense"}"#.to_owned();
    let page = Fault::new(Action::Status { code: 400, retry_after, retry_date, body: Some(quotes) });
    sim.add_fault(page.on("Token"));
    let e = refused(&format!("code=hunter2code&state={state}"), &begun.kept);
    assert!(e.to_string().contains("*** is nonsense"), "{e}");
    // A portal's page in the place of the issuer's answer.
    let page = Some("<html>please pay hunter2code</html>".to_owned());
    let page = Fault::new(Action::Status { code: 200, retry_after, retry_date, body: page });
    sim.add_fault(page.on("Token"));
    let e = refused(&format!("code=hunter2code&state={state}"), &begun.kept);
    assert!(e.is_retryable() && e.to_string().contains("a page"), "{e}");
    // The other half of another sign-in.
    let device = sign_in.device(&Cancel::new()).unwrap();
    assert!(
        refused(&format!("code=hunter2code&state={state}"), &device.kept)
            .to_string()
            .contains("another device")
    );
    let e = sign_in.poll(&begun.kept, Duration::ZERO, &Cancel::new()).unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("browser"), "{e}");
    let mut others = options.clone();
    others.set("user", "bob@example.test").unwrap();
    let e = SignIn::new(&others).unwrap().finish(&begun.kept, "", &Cancel::new()).unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("other options"), "{e}");
    // Where nothing can be stored, the code is not spent, and nobody is sent to sign in for nothing.
    let asked = sim.issuer().counts().requests;
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut nowhere = options.clone();
    nowhere.set("oauth_token_store", file.to_str().unwrap()).unwrap();
    let nowhere = SignIn::new(&nowhere).unwrap();
    assert!(nowhere.begin("https://desk.example.test/signed-in").is_err());
    let query = sim.issuer().visit(&begun.url).unwrap();
    assert!(nowhere.finish(&begun.kept, &query, &Cancel::new()).is_err());
    assert_eq!(sim.issuer().counts().requests, asked);
    assert!(sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap().stored);
}

// A page that is loaded again and again asks as often as the issuer allows, from whichever process it comes.
#[test]
fn a_sign_in_on_another_device_goes_on_from_call_to_call() {
    let (sim, _dir, _, options) = sign_in();
    let of_this_request = || SignIn::new(&options).unwrap();
    let asked = || sim.issuer().counts().requests;
    let poll = |kept: &Secret, timeout| match of_this_request().poll(kept, timeout, &Cancel::new()).unwrap() {
        Polled::Pending { kept, due_in, interrupted: false, trouble } => (kept, due_in, trouble),
        other => panic!("{other:?}"),
    };
    sim.issuer().device_interval(60);
    let device = of_this_request().device(&Cancel::new()).unwrap();
    let (mut kept, mut due_in, mut trouble) = (device.kept, Duration::ZERO, None);
    for _ in 0..3 {
        (kept, due_in, trouble) = poll(&kept, Duration::ZERO);
    }
    assert!(trouble.is_none());
    assert!(asked() == 0 && due_in > Duration::ZERO && due_in <= Duration::from_secs(60), "{due_in:?}");
    sim.issuer().device_interval(1);
    let device = of_this_request().device(&Cancel::new()).unwrap();
    (kept, due_in) = (device.kept, Duration::ZERO);
    // A portal's page instead of an answer: it is told, and the question asked again.
    let page = Some("<html>please pay</html>".to_owned());
    let page = Action::Status { code: 200, retry_after: None, retry_date: None, body: page };
    sim.add_fault(Fault::new(page).on("Token"));
    while asked() == 0 {
        (kept, due_in, trouble) = poll(&kept, due_in);
    }
    let trouble = trouble.expect("what came is told");
    assert!(trouble.to_string().contains("a page"), "{trouble}");
    sim.issuer().device(&device.user_code, Some(ADA));
    let done = of_this_request().poll(&kept, LONG, &Cancel::new()).unwrap();
    assert!(matches!(done, Polled::Done(done) if done.stored));
    // What was kept says it again, and the issuer gives tokens once.
    let e = of_this_request().poll(&kept, LONG, &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("expired_token")), "{e}");
}

fn state(url: &str) -> String {
    url.split("&state=").nth(1).unwrap().split('&').next().unwrap().to_owned()
}

// On a server without a browser there is no other way.
#[test]
fn a_sign_in_on_another_device_feeds_a_watch() {
    let (sim, _dir, sign_in, options) = sign_in();
    let device = sign_in.device(&Cancel::new()).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| sign_in.wait(&device.kept, &Cancel::new()));
        // It asks before the user has typed it in.
        assert!(sim.wait_until(LONG, |_| sim.issuer().counts().requests > 0));
        sim.issuer().device(&device.user_code, Some(ADA));
        assert!(waits.join().unwrap().unwrap().stored);
    });
    let mut desk = Desk::open(&options);
    desk.connected();
    let device = sign_in.device(&Cancel::new()).unwrap();
    sim.issuer().device(&device.user_code, None);
    let e = sign_in.wait(&device.kept, &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("authorization_declined")), "{e}");
    let cancelled = Cancel::new();
    cancelled.cancel();
    assert_eq!(sign_in.wait(&device.kept, &cancelled).unwrap_err().kind(), ErrorKind::Closed);
}

// An issuer that gives a refresh token only the first time: the second sign-in must not throw away the one that is good for months.
#[test]
fn a_sign_in_without_a_refresh_token_keeps_the_one_before() {
    let (sim, _dir, sign_in, options) = sign_in();
    let back = "https://desk.example.test/signed-in";
    let signed_in = |body: Option<&str>| {
        let begun = sign_in.begin(back).unwrap();
        let query = sim.issuer().visit(&begun.url).unwrap();
        if let Some(body) = body {
            let (retry_after, retry_date, body) = (None, None, Some(body.to_owned()));
            sim.add_fault(
                Fault::new(Action::Status { code: 200, retry_after, retry_date, body }).on("Token"),
            );
        }
        sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap()
    };
    let plain = r#"{"token_type":"Bearer","expires_in":3600,"access_token":"plain"}"#;
    let first = signed_in(Some(plain));
    assert!(first.refresh_token.is_none() && !first.lasting, "for an hour");
    let second = signed_in(None);
    assert!(second.refresh_token.is_some() && second.lasting);
    let third = signed_in(Some(plain));
    assert!(third.refresh_token.is_none() && third.lasting, "the one before is kept");
    // The server does not know "plain", so it is renewed.
    let mut desk = Desk::open(&options);
    desk.connected();
}
