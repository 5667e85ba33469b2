//! A token endpoint, or a server that takes tokens, that quotes what it was sent: each grant, each place that an answer has for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ewsnotify::auth::Secret;
use ewsnotify::net::Cancel;
use ewsnotify::sign_in::SignIn;
use ewsnotify::{Client, EventKind, Fetch, Options};

use super::known::{ADA, Known, NOES, WAYS, answer_of, no, serve};
use super::shown::{Shown, log_all, until};
use super::tokens::{APP, CERT, KEY, company, options as of_sim};

fn value(form: &str, name: &str) -> Option<String> {
    let (_, body) = form.split_once("\r\n\r\n")?;
    let value = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.to_owned())
}

// invalid_grant with the refresh token in its text: the error goes to the log, the event to the ticket, the page to a search engine.
#[test]
fn an_endpoint_that_quotes() {
    log_all();
    let mut known = Known::default();
    let secret = known.make("the client secret, quoted", 40);
    let refresh = known.make("the refresh token, quoted", 90);
    let short = known.make("a code, quoted", 30);
    known.add_key("the client's key", KEY);
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(&cert, CERT).unwrap();
    std::fs::write(key.path(), KEY).unwrap();
    let (assertions, way) = (Arc::<std::sync::Mutex<Vec<String>>>::default(), Arc::new(AtomicUsize::new(0)));
    let quotes: Vec<(String, String)> = known.texts.clone();
    let port = serve({
        let (assertions, way) = (assertions.clone(), way.clone());
        move |form, _| {
            assertions.lock().unwrap().extend(value(form, "client_assertion"));
            assertions.lock().unwrap().extend(value(form, "code_verifier"));
            // What it was not sent in this form it does not know.
            let sent = quotes.iter().filter(|(_, secret)| form.contains(secret.as_str()));
            let assertion = value(form, "client_assertion").or_else(|| value(form, "code_verifier"));
            let sent = sent.map(|(name, secret)| (name.as_str(), secret.as_str()));
            let sent: Vec<_> = sent.chain(assertion.iter().map(|a| ("the assertion", a.as_str()))).collect();
            // Nothing that is secret: the beginning of a device's sign-in.
            Some(no(
                way.load(Ordering::SeqCst),
                form,
                if sent.is_empty() { &[("nothing", "nothing")] } else { &sent },
            ))
        }
    });
    let mut shown = Shown::default();
    for n in 0..NOES {
        way.store(n, Ordering::SeqCst);
        for grant in 0..3 {
            let state = tempfile::tempdir().unwrap();
            let mut options = Options::new();
            for (key, value) in [
                ("url", "http://127.0.0.1:1/EWS/Exchange.asmx"),
                ("oauth_token_url", &format!("http://127.0.0.1:{port}/token")),
                ("oauth_device_url", &format!("http://127.0.0.1:{port}/device")),
                ("oauth_authorize_url", &format!("http://127.0.0.1:{port}/authorize")),
                ("oauth_client_id", APP),
                ("state_dir", state.path().to_str().unwrap()),
                ("trace_wire", folder.path().join("wire.log").to_str().unwrap()),
                ("log", "debug"),
            ] {
                options.set(key, value).unwrap();
            }
            match grant {
                0 => options.set("mailbox", ADA).unwrap().set("oauth_client_secret", &secret).unwrap(),
                1 => {
                    options.set("mailbox", ADA).unwrap();
                    options.set("oauth_client_cert", cert.to_str().unwrap()).unwrap();
                    options.set("oauth_client_key", key.path().to_str().unwrap()).unwrap()
                }
                _ => options.set("user", ADA).unwrap().set("oauth_refresh_token", &refresh).unwrap(),
            };
            let client = Client::open(&options).unwrap();
            shown.error(&client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err());
            client.watch(&Options::new()).unwrap();
            let mut events = Vec::new();
            until(&client, &mut events, |e| {
                matches!(e.kind, EventKind::Error | EventKind::Disconnected | EventKind::Closed)
            });
            shown.close(client, events);
            shown.files(state.path());
            if grant == 2 {
                let sign_in = SignIn::new(&options).unwrap();
                let begun = sign_in.begin("https://desk.example.test/signed-in").unwrap();
                let query = format!("code={short}&state={}", super::tokens::state(&begun.url));
                shown.error(&sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap_err());
                shown.error(&sign_in.device(&Cancel::new()).unwrap_err());
                shown.add("the sign-in", format!("{sign_in:?}"));
            }
        }
    }
    assert!(shown.has("***"), "{}", shown.text());
    for assertion in assertions.lock().unwrap().iter() {
        // Of an assertion, header and claims are no secret; a verifier is one as a whole.
        known.add("an assertion's signature, or a verifier", assertion.rsplit('.').next().unwrap());
    }
    shown.files(folder.path());
    shown.assert_clean(&known);
}

// A device's code is asked for again and again, by whoever has it.
#[test]
fn an_endpoint_that_quotes_a_devices_code() {
    log_all();
    let (mut known, mut shown) = (Known::default(), Shown::default());
    let code = known.make("the device's code", 60);
    let folder = tempfile::tempdir().unwrap();
    let given = code.clone();
    let port = serve(move |form, port| {
        if form.starts_with("POST /device") {
            let body = serde_json::json!({
                "device_code": given, "user_code": "SIM00001", "expires_in": 60, "interval": 1,
                "verification_uri": format!("http://127.0.0.1:{port}/page"),
            });
            let body = body.to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            return Some(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes());
        }
        Some(no(0, form, &[("the device's code", &given)]))
    });
    let mut options = Options::new();
    for (key, value) in [
        ("url", "http://127.0.0.1:1/EWS/Exchange.asmx"),
        ("oauth_token_url", &format!("http://127.0.0.1:{port}/token")),
        ("oauth_device_url", &format!("http://127.0.0.1:{port}/device")),
        ("oauth_client_id", APP),
        ("user", ADA),
        ("trace_wire", folder.path().join("wire.log").to_str().unwrap()),
    ] {
        options.set(key, value).unwrap();
    }
    let sign_in = SignIn::new(&options).unwrap();
    let device = sign_in.device(&Cancel::new()).unwrap();
    shown.add("the device", format!("{device:?}"));
    shown.error(&sign_in.wait(&device.kept, &Cancel::new()).unwrap_err());
    assert!(shown.has("invalid_grant") && shown.has("***"), "{}", shown.text());
    shown.files(folder.path());
    shown.assert_clean(&known);
}

// The mail server sees the token with each request, and says what it does not like of it.
#[test]
fn a_server_that_quotes_tokens() {
    let (mut known, mut shown) = (Known::default(), Shown::default());
    let sim = company(&mut known, "quoted by the server");
    sim.issuer().register(APP, None, None);
    let folder = tempfile::tempdir().unwrap();
    let refresh = sim.issuer().sign_in(APP, ADA);
    let host = known.make("the host's token, quoted", 80);
    let (way, quotes) = (Arc::new(AtomicUsize::new(0)), known.texts.clone());
    let port = serve({
        let way = way.clone();
        move |request, port| {
            let sent = quotes.iter().filter(|(_, secret)| request.contains(secret.as_str()));
            let mut sent: Vec<_> = sent.map(|(name, secret)| (name.as_str(), secret.as_str())).collect();
            let only = *sent.first()?;
            sent.push(only);
            Some(answer_of(way.load(Ordering::SeqCst), request, port, &sent))
        }
    });
    for n in 0..WAYS {
        way.store(n, Ordering::SeqCst);
        for by_host in [false, true] {
            let mut options = match by_host {
                false => of_sim(&sim, folder.path(), &[("user", ADA), ("oauth_refresh_token", &refresh)]),
                true => Options::new(),
            };
            options.set("url", &format!("http://127.0.0.1:{port}/EWS/Exchange.asmx")).unwrap();
            options.set("trace_wire", folder.path().join("wire.log").to_str().unwrap()).unwrap();
            if by_host {
                options.set("user", ADA).unwrap().set("auth", "host").unwrap().set("log", "debug").unwrap();
            }
            let client = Client::open(&options).unwrap();
            if by_host {
                client.set_token(ADA, Secret::new(host.as_str()), None).unwrap();
            }
            shown.error(&client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err());
            client.watch(&Options::new()).unwrap();
            let mut events = Vec::new();
            until(&client, &mut events, |e| {
                matches!(
                    e.kind,
                    EventKind::Error | EventKind::Disconnected | EventKind::Closed | EventKind::TokenNeeded
                )
            });
            shown.close(client, events);
        }
    }
    assert!(shown.has("***"), "{}", shown.text());
    shown.files(folder.path());
    shown.assert_clean(&known);
}
