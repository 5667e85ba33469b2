//! Tokens, and all that they are had by: nothing of them is shown when all goes well.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ewsnotify::auth::Secret;
use ewsnotify::net::Cancel;
use ewsnotify::sign_in::SignIn;
use ewsnotify::sim::Sim;
use ewsnotify::{Client, Event, EventKind, Options};

use super::known::{ADA, Known, made};
use super::shown::{Shown, files, log_all, until};

pub const APP: &str = "11111111-2222-3333-4444-555555555555";
pub const CERT: &str = include_str!("../oauth/app-cert.pem");
pub const KEY: &str = include_str!("../oauth/app-key.pem");

/// Options of a watch that signs in by what the simulator's issuer gives; `folder` gets state, tokens and wire log.
pub fn options(sim: &Sim, folder: &Path, more: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    let (state, wire) = (folder.join("state"), folder.join("wire.log"));
    let url = |what: &str| sim.token_url().replace("/token", what);
    for (key, value) in [
        ("url", sim.url()),
        ("ca_file", sim.ca_file().unwrap().to_str().unwrap()),
        ("oauth_token_url", &sim.token_url()),
        ("oauth_authorize_url", &url("/authorize")),
        ("oauth_device_url", &url("/devicecode")),
        ("oauth_client_id", APP),
        ("state_dir", state.to_str().unwrap()),
        ("trace_wire", wire.to_str().unwrap()),
        ("log", "debug"),
    ]
    .iter()
    .chain(more)
    {
        options.set(key, value).unwrap();
    }
    options
}

/// A company whose issuer gives tokens that are known.
pub fn company(known: &mut Known, name: &str) -> Sim {
    log_all();
    let sim = Sim::builder().user(ADA, "not used here").start().unwrap();
    sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
    let texts: Vec<String> = (0..12).map(|n| made(&format!("{name}, token {n}"), 70)).collect();
    texts.iter().enumerate().for_each(|(n, text)| known.add(&format!("token {n}"), text));
    sim.issuer().next_texts(texts);
    sim
}

/// Watches, is told of a mail, and of another after the server has refused the token once.
fn watch(sim: &Sim, options: &Options, shown: &mut Shown) -> Vec<Event> {
    shown.add("the options", format!("{options:?}"));
    let client = Client::open(options).unwrap();
    client.watch(&Options::new()).unwrap();
    let mut events = Vec::new();
    until(&client, &mut events, |e| e.kind == EventKind::Connected);
    for subject in ["one", "two"] {
        sim.exchange().deliver(ADA, format!("Subject: {subject}\r\n\r\nText").as_bytes()).unwrap();
        until(&client, &mut events, |e| e.kind == EventKind::NewMail);
        sim.issuer().revoke_access();
        client.get_item(1, "AAMk", None, ewsnotify::Fetch::Summary).unwrap_err();
    }
    let told = events.clone();
    shown.close(client, events);
    told
}

fn stored(folder: &Path) -> Vec<u8> {
    let all = files(&folder.join("state"));
    let store = all.into_iter().find(|(name, _)| name.contains("/oauth-") && name.ends_with(".json"));
    store.expect("tokens are stored").1
}

// A renewal each hour, for months: each would leave a refresh token, good for every mailbox of the program, in a log.
#[test]
fn grants_that_go_well() {
    let mut known = Known::default();
    let secret = known.make("the client secret", 40);
    known.add_key("the client's key", KEY);
    for (n, grant) in ["a secret", "a certificate", "a refresh token"].into_iter().enumerate() {
        let (folder, mut shown) = (tempfile::tempdir().unwrap(), Shown::default());
        let sim = company(&mut known, grant);
        let (cert, key) = (folder.path().join("cert.pem"), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(&cert, CERT).unwrap();
        std::fs::write(key.path(), KEY).unwrap();
        let (cert, key) = (cert.to_str().unwrap(), key.path().to_str().unwrap());
        let refresh;
        let more = match n {
            0 => {
                sim.issuer().register(APP, Some(&secret), None);
                vec![("mailbox", ADA), ("oauth_client_secret", secret.as_str())]
            }
            1 => {
                sim.issuer().register(APP, None, Some(CERT));
                vec![("mailbox", ADA), ("oauth_client_cert", cert), ("oauth_client_key", key)]
            }
            _ => {
                sim.issuer().register(APP, None, None);
                refresh = sim.issuer().sign_in(APP, ADA);
                vec![("user", ADA), ("oauth_refresh_token", refresh.as_str())]
            }
        };
        let options = options(&sim, folder.path(), &more);
        watch(&sim, &options, &mut shown);
        assert!(sim.issuer().counts().granted >= 2, "{:?}", sim.issuer().counts());
        // The scan knows the tokens that there are.
        assert!(known.scan().find(&stored(folder.path())).is_some(), "{grant}");
        shown.files(folder.path());
        shown.assert_clean(&known);
        let wire = std::fs::read_to_string(folder.path().join("wire.log")).unwrap();
        let proof = ["client_secret=***", "client_assertion=***", "&refresh_token=***"][n];
        for wanted in [
            " > POST https://",
            "/oauth2/v2.0/token",
            proof,
            "\"access_token\": \"***\"",
            "Authorization: Bearer ***",
        ] {
            assert!(wire.contains(wanted), "{grant}: {wanted}: {wire}");
        }
    }
}

/// By which the browser's query is known again.
pub fn state(url: &str) -> String {
    url.split(['?', '&']).find_map(|pair| pair.strip_prefix("state=")).unwrap().to_owned()
}

// A page that shows how far the sign-in is, and logs it, would give it away.
#[test]
fn sign_ins_that_go_well() {
    let (mut known, mut shown) = (Known::default(), Shown::default());
    let sim = company(&mut known, "sign-in");
    sim.issuer().register(APP, None, None);
    sim.issuer().browser(Some(ADA));
    let folder = tempfile::tempdir().unwrap();
    let options = options(&sim, folder.path(), &[("user", ADA)]);
    let sign_in = SignIn::new(&options).unwrap();
    let back = "https://desk.example.test/signed-in";
    let begun = sign_in.begin(back).unwrap();
    known.add("what is kept", begun.kept.expose());
    let state = state(&begun.url);
    known.add("the state", &state);
    shown.add("what has begun", format!("{begun:?} {sign_in:?}"));
    let query = sim.issuer().visit(&begun.url).unwrap();
    // One that quotes what it should not.
    for query in [
        format!("error={state}&error_description={state}&state={state}"),
        format!("error=x&error_description=a%20{state}&state={state}"),
        query.replace("state=", "state=x"),
        format!("{query}&{query}"),
    ] {
        shown.error(&sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap_err());
    }
    let signed_in = sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap();
    // It is spent.
    shown.error(&sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap_err());
    shown.add("who has signed in", format!("{signed_in:?} {sign_in:?}"));
    let device = sign_in.device(&Cancel::new()).unwrap();
    shown.add("the device", format!("{device:?}"));
    sim.issuer().device(&device.user_code, Some(ADA));
    shown.add("who has signed in", format!("{:?}", sign_in.wait(&device.kept, &Cancel::new()).unwrap()));
    for request in sim.requests() {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let verifier = form.split('&').find_map(|pair| pair.strip_prefix("code_verifier="));
        verifier.iter().for_each(|verifier| known.add("the verifier", verifier));
    }
    shown.files(folder.path());
    shown.assert_clean(&known);
    let wire = std::fs::read_to_string(folder.path().join("wire.log")).unwrap();
    for wanted in [
        "&code=***&",
        "code_verifier=***",
        "device_code=***",
        "\"device_code\": \"***\"",
        "\"refresh_token\": \"***\"",
    ] {
        assert!(wire.contains(wanted), "{wanted}: {wire}");
    }
}

// A host that has the tokens itself shows them where it likes; the library shows them nowhere.
#[test]
fn tokens_of_the_hosts() {
    let (mut known, mut shown, mut events) = (Known::default(), Shown::default(), Vec::new());
    let sim = company(&mut known, "host");
    sim.issuer().register(APP, None, None);
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&sim, folder.path(), &[("user", ADA), ("auth", "host")]);
    // No grant of the library's.
    options = {
        let mut plain = Options::new();
        for key in ["url", "ca_file", "user", "auth", "state_dir", "trace_wire", "log"] {
            plain.set(key, options.get(key).unwrap()).unwrap();
        }
        plain
    };
    let client = Client::open(&options).unwrap();
    client.watch(&Options::new()).unwrap();
    let wrong = known.make("a token that nobody takes", 80);
    let again = known.make("another", 80);
    until(&client, &mut events, |e| e.kind == EventKind::TokenNeeded);
    shown.error(&client.set_token(ADA, Secret::new(format!("{wrong} x")), None).unwrap_err());
    shown.error(
        &client.set_token(ADA, Secret::new(wrong.as_str()), Some(SystemTime::UNIX_EPOCH)).unwrap_err(),
    );
    client.set_token(ADA, Secret::new(wrong.as_str()), None).unwrap();
    until(&client, &mut events, |e| e.kind == EventKind::TokenNeeded);
    shown.error(&client.set_token(ADA, Secret::new(wrong.as_str()), None).unwrap_err());
    shown.add("the client", format!("{client:?} {:?}", client.status()));
    // What the host's own issuer said of it.
    client.set_token(ADA, Secret::new(again.as_str()), None).unwrap();
    until(&client, &mut events, |e| e.kind == EventKind::TokenNeeded);
    client.deny_token(ADA, &format!("invalid_grant: {wrong} has expired, and {again} too")).unwrap();
    until(&client, &mut events, |e| e.kind == EventKind::Closed);
    shown.close(client, events);
    assert!(shown.has("invalid_grant: *** has expired"), "{}", shown.text());
    shown.files(folder.path());
    shown.assert_clean(&known);
    let wire = std::fs::read_to_string(folder.path().join("wire.log")).unwrap();
    assert!(wire.contains("Authorization: Bearer ***"), "{wire}");
}

// Without a store the host is told the refresh token, in that event's own field and nowhere else.
#[test]
fn a_refresh_token_is_told_in_one_place() {
    let (mut known, mut shown) = (Known::default(), Shown::default());
    let sim = company(&mut known, "no store");
    sim.issuer().register(APP, None, None);
    let folder = tempfile::tempdir().unwrap();
    let refresh = sim.issuer().sign_in(APP, ADA);
    let with_state = options(&sim, folder.path(), &[("user", ADA), ("oauth_refresh_token", &refresh)]);
    let mut options = Options::new();
    for key in ["url", "ca_file", "user", "oauth_token_url", "oauth_client_id", "trace_wire", "log"] {
        options.set(key, with_state.get(key).unwrap()).unwrap();
    }
    options.set("oauth_refresh_token", &refresh).unwrap();
    let client = Client::open(&options).unwrap();
    client.watch(&Options::new()).unwrap();
    let mut events = Vec::new();
    until(&client, &mut events, |e| e.kind == EventKind::TokenRotated);
    let rotated = events.last().unwrap();
    assert!(known.scan().find(rotated.to_json().as_bytes()).is_some(), "the host is told");
    client.ack(rotated.seq).unwrap();
    shown.add("the event", format!("{:?}", events.pop().unwrap()));
    until(&client, &mut events, |e| e.kind == EventKind::Connected);
    let (_, told): (Vec<_>, Vec<_>) = events.into_iter().partition(|e| e.kind == EventKind::TokenRotated);
    shown.add("the status", format!("{:?} {client:?}", client.status()));
    client.close();
    shown.events(&told);
    shown.files(folder.path());
    shown.assert_clean(&known);
}
