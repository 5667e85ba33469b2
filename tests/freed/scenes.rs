//! Each way to sign in, well and badly.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use ewsnotify::auth::Secret;
use ewsnotify::net::Cancel;
use ewsnotify::sign_in::SignIn;
use ewsnotify::sim::{ExtendedProtection, Scheme, Sim};
use ewsnotify::{Client, EventKind, Fetch, Next, Options};
use rcgen::{CertificateParams, KeyPair};

use super::{look_for, look_for_piece};

#[path = "../common/relay.rs"]
mod relay;
#[path = "../common/scan.rs"]
mod scan;

pub use scan::made;

const ADA: &str = "ada@example.test";
const APP: &str = "11111111-2222-3333-4444-555555555555";
const CERT: &str = include_str!("../oauth/app-cert.pem");
const KEY: &str = include_str!("../oauth/app-key.pem");

pub fn play() {
    basic();
    ntlm();
    programs();
    users();
    sign_ins();
    refusals();
    host();
    proxies();
    keys();
}

/// A secret that is looked for.
fn secret(name: &str, length: usize) -> String {
    let secret = made(name, length);
    look_for(secret.as_bytes());
    secret
}

/// The same with the header that Basic makes of it.
fn password(name: &str, user: &str) -> String {
    let password = secret(name, 90);
    look_for(&BASE64_STANDARD.encode(format!("{user}:{password}")).as_bytes()[40..]);
    // As NTLM hashes it.
    look_for(&password.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    password
}

/// In a message of NTLM ([MS-NLMP] 2.2.1.3), what was made of the password; the rest is names, and zeros as others have them.
fn look_for_proof(message: &str) {
    let bytes = BASE64_STANDARD.decode(message).unwrap();
    let at = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    look_for_piece(&message.as_bytes()[(at * 4).div_ceil(3)..]);
}

/// What of a key is looked for, as PEM and as DER.
fn key(pem: &str) {
    let known = {
        let mut known = scan::Known::default();
        known.add_key("the key", pem);
        known
    };
    for der in known.keys() {
        look_for(der);
        // The lines of a PEM are longer than the pieces; where one breaks is not known.
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let at = body.len() - 60;
        if der.len() > 100 {
            look_for(&body.as_bytes()[at..at + 40]);
        }
    }
}

/// Tokens for the simulator to give.
fn tokens(sim: &Sim, name: &str) {
    sim.issuer().next_texts((0..8).map(|n| secret(&format!("{name} {n}"), 70)));
}

fn set(options: &mut Options, pairs: &[(&str, &str)]) {
    for (key, value) in pairs {
        options.set(key, value).unwrap();
    }
}

fn options(url: &str, folder: &Path, more: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    let (state, wire) = (folder.join("state"), folder.join("wire.log"));
    let (state, wire) = (state.to_str().unwrap(), wire.to_str().unwrap());
    set(&mut options, &[("url", url), ("user", ADA), ("state_dir", state), ("trace_wire", wire)]);
    set(&mut options, more);
    options
}

fn of_sim(sim: &Sim, folder: &Path, more: &[(&str, &str)]) -> Options {
    let mut options = options(sim.url(), folder, more);
    set(&mut options, &[("ca_file", sim.ca_file().unwrap().to_str().unwrap()), ("fetch", "mime")]);
    options
}

fn by_oauth(sim: &Sim, folder: &Path, more: &[(&str, &str)]) -> Options {
    let mut options = of_sim(sim, folder, more);
    let url = |what: &str| sim.token_url().replace("/token", what);
    set(
        &mut options,
        &[
            ("oauth_token_url", &sim.token_url()),
            ("oauth_authorize_url", &url("/authorize")),
            ("oauth_device_url", &url("/devicecode")),
            ("oauth_client_id", APP),
        ],
    );
    options
}

fn until(client: &Client, wanted: EventKind) {
    loop {
        match client.next(Duration::from_secs(60)) {
            Next::Event(event) if event.kind == wanted => return,
            Next::Event(_) => {}
            other => panic!("{other:?} instead of {wanted:?}"),
        }
    }
}

/// A watch that is told of a mail, and of another after `between`.
fn watch(sim: &Sim, options: &Options, between: impl FnOnce(&Client)) {
    let client = Client::open(options).unwrap();
    client.watch(&Options::new()).unwrap();
    until(&client, EventKind::Connected);
    sim.exchange().deliver(ADA, b"Subject: Hello\r\n\r\nText").unwrap();
    until(&client, EventKind::NewMail);
    between(&client);
    sim.exchange().deliver(ADA, b"Subject: Again\r\n\r\nText").unwrap();
    until(&client, EventKind::NewMail);
    assert!(client.close());
}

/// One that fails, as a call does.
fn fails(options: &Options) {
    let client = Client::open(options).unwrap();
    let e = client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err();
    assert!(e.to_string().contains("***"), "{e}");
    client.watch(&Options::new()).unwrap();
    loop {
        match client.next(Duration::from_secs(60)) {
            Next::Event(event) => match event.kind {
                EventKind::Error | EventKind::Disconnected | EventKind::Closed => break,
                _ => {}
            },
            other => panic!("{other:?}"),
        }
    }
    assert!(client.close());
}

/// A server that quotes every request, where a text of an error is made of it; it challenges those who begin with NTLM.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/EWS/Exchange.asmx", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut sock in listener.incoming().flatten() {
            thread::spawn(move || {
                while let Some(said) = scan::hear(&mut sock) {
                    let message = said.lines().find_map(|l| l.strip_prefix("Authorization: NTLM "));
                    if let Some(begin) = message.filter(|message| message.starts_with("TlRMTVNTUAAB")) {
                        assert!(begin.len() < 100);
                        let challenge = scan::ntlm_challenge();
                        let head = format!(
                            "HTTP/1.1 401 x\r\nWWW-Authenticate: NTLM {challenge}\r\nContent-Length: 0\r\n\r\n"
                        );
                        if sock.write_all(head.as_bytes()).is_err() {
                            return;
                        }
                        continue;
                    }
                    if said.contains("POST /EWS") && !said.contains("Authorization: ") {
                        let head = "HTTP/1.1 401 x\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
                        if sock.write_all(head.as_bytes()).is_err() {
                            return;
                        }
                        continue;
                    }
                    message.iter().for_each(|message| look_for_proof(message));
                    let line: String = said.chars().filter(|c| !c.is_control()).collect();
                    let answer = match said.starts_with("POST /token") {
                        true => {
                            let form = said.split_once("\r\n\r\n").unwrap().1;
                            // So that what is secret is not behind where the text is cut.
                            let mut pairs: Vec<&str> = form.split('&').collect();
                            let secrets = ["client_secret=", "refresh_token=", "client_assertion="];
                            pairs.sort_by_key(|pair| !secrets.iter().any(|name| pair.starts_with(name)));
                            let ends = pairs.iter().map(|pair| pair.rsplit('.').next().unwrap());
                            let text = format!("AADSTS70008: {}", ends.collect::<Vec<_>>().join("&"));
                            let body =
                                serde_json::json!({ "error": "invalid_grant", "error_description": text });
                            format!("HTTP/1.1 400 x\r\nConnection: close\r\n\r\n{body}")
                        }
                        false => format!(
                            "HTTP/1.1 200 OK\r\nX-DiagInfo: {line}\r\nConnection: close\r\n\r\n<html>{said}"
                        ),
                    };
                    let _ = sock.write_all(answer.as_bytes());
                    return;
                }
            });
        }
    });
    url
}

fn basic() {
    let (password, push) = (password("Basic", ADA), secret("push", 60));
    let sim = Sim::builder().user(ADA, &password).start().unwrap();
    // Or nothing would be sent before the server has offered a way.
    let own = [("password", password.as_str()), ("auth", "basic")];
    for mode in ["streaming", "push"] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = of_sim(&sim, folder.path(), &own);
        set(&mut options, &[("mode", mode)]);
        if mode == "push" {
            set(&mut options, &[("push_listen", "127.0.0.1:0"), ("push_secret", &push)]);
        }
        watch(&sim, &options, |_| ());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&echo(), folder.path(), &own);
    set(&mut options, &[("mode", "pull")]);
    fails(&options);
}

fn ntlm() {
    let password = password("NTLM", ADA);
    let protection = ExtendedProtection::Require;
    let sim = Sim::builder().user(ADA, &password).offers([Scheme::Ntlm]).extended_protection(protection);
    let sim = sim.start().unwrap();
    let own = [("password", password.as_str()), ("auth", "ntlm")];
    let folder = tempfile::tempdir().unwrap();
    watch(&sim, &of_sim(&sim, folder.path(), &own), |_| ());
    let folder = tempfile::tempdir().unwrap();
    fails(&options(&echo(), folder.path(), &own));
}

fn company(name: &str, secret: Option<&str>, certificate: Option<&str>) -> Sim {
    let sim = Sim::builder().user(ADA, "not used here").start().unwrap();
    sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
    sim.issuer().register(APP, secret, certificate);
    tokens(&sim, name);
    sim
}

/// A watch whose token the server does not take any more, so that it gets the next one.
fn renews(sim: &Sim, options: &Options) {
    watch(sim, options, |client| {
        sim.issuer().revoke_access();
        client.get_item(1, "AAMk", None, Fetch::Summary).unwrap_err();
    });
    assert!(sim.issuer().counts().granted > 1, "{:?}", sim.issuer().counts());
}

/// Files for a certificate and its key.
fn files(folder: &Path, cert: &str, key: &str) -> (String, String) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (write("cert.pem", cert), write("key.pem", key))
}

/// Programs that sign in for themselves.
fn programs() {
    let own = secret("client secret", 60);
    let folder = tempfile::tempdir().unwrap();
    let sim = company("by a secret", Some(&own), None);
    renews(&sim, &by_oauth(&sim, folder.path(), &[("mailbox", ADA), ("oauth_client_secret", &own)]));
    key(KEY);
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path(), CERT, KEY);
    let sim = company("by a certificate", None, Some(CERT));
    let more = [("mailbox", ADA), ("oauth_client_cert", cert.as_str()), ("oauth_client_key", &key)];
    renews(&sim, &by_oauth(&sim, folder.path(), &more));
}

/// Users who have signed in: the refresh token rotates, is stored, and read again.
fn users() {
    let sim = company("a user's", None, None);
    let refresh = sim.issuer().sign_in(APP, ADA);
    let folder = tempfile::tempdir().unwrap();
    let options = by_oauth(&sim, folder.path(), &[("oauth_refresh_token", &refresh)]);
    renews(&sim, &options);
    watch(&sim, &options, |_| ());
}

fn sign_ins() {
    let sim = company("a sign-in", None, None);
    sim.issuer().browser(Some(ADA));
    let folder = tempfile::tempdir().unwrap();
    let sign_in = SignIn::new(&by_oauth(&sim, folder.path(), &[])).unwrap();
    let back = "https://desk.example.test/signed-in";
    let begun = sign_in.begin(back).unwrap();
    look_for(&begun.kept.expose().as_bytes()[40..]);
    let query = sim.issuer().visit(&begun.url).unwrap();
    let state = query.split('&').find_map(|pair| pair.strip_prefix("state=")).unwrap();
    look_for(state.as_bytes());
    sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap();
    // It is spent.
    sign_in.finish(&begun.kept, &query, &Cancel::new()).unwrap_err();
    let device = sign_in.device(&Cancel::new()).unwrap();
    sim.issuer().device(&device.user_code, Some(ADA));
    sign_in.wait(&device.kept, &Cancel::new()).unwrap();
}

/// An endpoint that quotes.
fn refusals() {
    let (own, refresh) = (secret("refused client secret", 60), secret("refused refresh token", 90));
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path(), CERT, KEY);
    let token = echo().replace("/EWS/Exchange.asmx", "/token");
    for more in [
        [("mailbox", ADA), ("oauth_client_secret", own.as_str()), ("oauth_grant", "auto")],
        [("mailbox", ADA), ("oauth_client_cert", cert.as_str()), ("oauth_client_key", &key)],
        [("oauth_refresh_token", &refresh), ("oauth_client_secret", &own), ("oauth_grant", "auto")],
    ] {
        let state = tempfile::tempdir().unwrap();
        let mut options = options("http://127.0.0.1:1/EWS/Exchange.asmx", state.path(), &more);
        set(&mut options, &[("oauth_token_url", &token), ("oauth_client_id", APP)]);
        fails(&options);
    }
}

/// Tokens that the host has.
fn host() {
    let sim = company("a host's", None, None);
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&of_sim(&sim, folder.path(), &[("auth", "host")])).unwrap();
    client.watch(&Options::new()).unwrap();
    until(&client, EventKind::TokenNeeded);
    for name in ["one token of the host's", "another"] {
        client.set_token(ADA, Secret::new(secret(name, 80)), None).unwrap();
        until(&client, EventKind::TokenNeeded);
    }
    client.deny_token(ADA, "there is none").unwrap();
    until(&client, EventKind::Closed);
    assert!(client.close());
    let token = secret("a token for a server that quotes", 80);
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&options(&echo(), folder.path(), &[("auth", "host")])).unwrap();
    client.set_token(ADA, Secret::new(token), None).unwrap();
    let e = client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err();
    assert!(e.to_string().contains("***"), "{e}");
    assert!(client.close());
}

fn proxies() {
    let own = secret("proxy password", 60);
    look_for(&BASE64_STANDARD.encode(format!("relay:{own}")).as_bytes()[20..]);
    let password = password("behind a proxy", ADA);
    let sim = Sim::builder().user(ADA, &password).names(["mail.example.test"]).start().unwrap();
    let place = format!("mail.example.test:443:127.0.0.1:{}", sim.address().port());
    let quotes = |said: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: Basic "))?;
        Some(format!("HTTP/1.1 403 {line}\r\nX-Squid-Error: {line}\r\n\r\n").into_bytes())
    };
    for scheme in ["http", "socks5"] {
        let folder = tempfile::tempdir().unwrap();
        let through = |port: u16| {
            let url = format!("{scheme}://relay:{own}@127.0.0.1:{port}");
            let mut options = of_sim(&sim, folder.path(), &[("password", &password), ("proxy", &url)]);
            let url = "https://mail.example.test/EWS/Exchange.asmx";
            set(&mut options, &[("url", url), ("connect_to", &place)]);
            options
        };
        watch(&sim, &through(relay::proxy(Arc::new(|_| None))), |_| ());
        if scheme == "http" {
            fails(&through(relay::proxy(Arc::new(quotes))));
        }
    }
}

/// Keys of the client's certificate, and of the push listener.
fn keys() {
    let password = password("beside keys", ADA);
    let sim = Sim::builder().user(ADA, &password).start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let own = KeyPair::generate().unwrap();
    key(&own.serialize_pem());
    let made = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&own).unwrap();
    sim.trust_pushes(&made.pem());
    let (cert, key) = files(folder.path(), &made.pem(), &own.serialize_pem());
    let tls = [("password", password.as_str()), ("tls_cert", &cert), ("tls_key", &key)];
    watch(&sim, &of_sim(&sim, folder.path(), &tls), |_| ());
    let mut options = of_sim(&sim, folder.path(), &[("password", &password), ("mode", "push")]);
    let push = [("push_listen", "127.0.0.1:0"), ("push_cert", cert.as_str()), ("push_key", &key)];
    set(&mut options, &push);
    watch(&sim, &options, |_| ());
}
