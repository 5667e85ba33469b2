//! Proxies see a password of their own, and are as likely to repeat it.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use ewsnotify::net::Cancel;
use ewsnotify::{Client, EventKind, Fetch, Options, check};

use super::company::{ADA, Company};
use super::known::{Known, quoted};
use super::relay::proxy;
use super::shown::{Shown, log_all, until};

struct Desk {
    company: Company,
    known: Known,
    login: String,
    dir: tempfile::TempDir,
}

fn desk() -> Desk {
    log_all();
    let mut known = Known::default();
    let own = known.make("the proxy's password", 24);
    known.add("the proxy's header", &BASE64_STANDARD.encode(format!("relay:{own}")));
    let password = known.make("the mailbox's password", 24);
    let company = Company::start(&password, |builder| builder);
    Desk { company, known, login: format!("relay:{own}"), dir: tempfile::tempdir().unwrap() }
}

impl Desk {
    fn options(&self, scheme: &str, port: u16) -> Options {
        let mut options = Options::new();
        let wire = self.dir.path().join("wire.log");
        let (password, login) = (&self.known.texts[2].1, &self.login);
        for (key, value) in [
            ("url", "https://mail.example.test/EWS/Exchange.asmx"),
            ("user", ADA),
            ("password", password),
            ("ca_file", &self.company.ca_file()),
            ("connect_to", &self.company.connect_to()),
            ("proxy", &format!("{scheme}://{login}@127.0.0.1:{port}")),
            ("trace_wire", wire.to_str().unwrap()),
            ("log", "debug"),
        ] {
            options.set(key, value).unwrap();
        }
        options
    }

    fn wire(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("wire.log")).unwrap()
    }
}

// Who looks for what goes wrong behind a proxy sees nothing of it without what was said there; and sees too much with it.
#[test]
fn what_is_said_to_a_proxy_is_in_the_wire_log_without_its_password() {
    for (scheme, wanted) in [
        (
            "http",
            &[
                "CONNECT 127.0.0.1:",
                "Proxy-Authorization: Basic ***",
                " < HTTP/1.1 200 Connection established",
                "Via: 1.1 test",
            ][..],
        ),
        (
            "socks5",
            &[" > SOCKS5 CONNECT 127.0.0.1:", ", with a sign-in if it wants one", " < SOCKS5 reply 0"],
        ),
    ] {
        let desk = desk();
        let options = desk.options(scheme, proxy(Arc::new(|_| None)));
        let (mut shown, mut events) = (Shown::default(), Vec::new());
        shown.add("the options", format!("{options:?}"));
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        until(&client, &mut events, |e| e.kind == EventKind::Connected);
        shown.close(client, events);
        shown.files(desk.dir.path());
        shown.assert_clean(&desk.known);
        let wire = desk.wire();
        assert!(wanted.iter().all(|wanted| wire.contains(wanted)), "{scheme}: {wanted:?}: {wire}");
        // It has the number of the connection that goes on behind it.
        let number = |line: &str| line.split(' ').nth(1).map(str::to_owned);
        let connect = wire.lines().find(|line| line.contains(" > ") && line.contains("CONNECT")).unwrap();
        let post = wire.lines().find(|line| line.contains(" > POST ")).unwrap();
        assert_eq!(number(connect), number(post), "{wire}");
    }
}

// "The proxy does not let me through: here is what it says" goes to the administrator, with the password in it.
#[test]
fn what_a_proxy_quotes_is_shown_nowhere() {
    let desk = desk();
    let known: Vec<(String, String)> = desk.known.texts.clone();
    let quote = move |said: &str| {
        let known: Vec<_> = known.iter().map(|(name, secret)| (name.as_str(), secret.as_str())).collect();
        quoted(&said.replace(['\r', '\n'], " "), &known[..2])
    };
    let head = |status: &str, quoted: &str| {
        format!(
            "HTTP/1.1 {status}\r\nX-Squid-Error: {quoted}\r\nProxy-Authenticate: {quoted}\r\nVia: {quoted}\r\nLocation: /?{quoted}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{quoted}",
            quoted.len()
        )
    };
    let (mut shown, mut events) = (Shown::default(), Vec::new());
    for (scheme, way) in [("http", 0), ("http", 1), ("http", 2), ("http", 3), ("socks5", 4), ("http", 5)] {
        let quote = quote.clone();
        let says = move |said: &str| {
            let quoted = quote(said);
            let short: String = quoted.chars().take(60).collect();
            Some(
                match way {
                    0 => head("407 x", &quoted),
                    1 => head(&format!("403 {quoted}"), ""),
                    2 => head(&format!("502 {short}"), &quoted),
                    3 => format!("{quoted}\r\n\r\n"),
                    4 => format!("{}{quoted}\r\n\r\n", said.split(' ').nth(1).unwrap_or_default()),
                    _ => head("200 OK", &quoted),
                }
                .into_bytes(),
            )
        };
        let mut options = desk.options(scheme, proxy(Arc::new(says)));
        if way == 5 {
            // A request that is sent on as it is.
            options.set("url", "http://mail.example.test/EWS/Exchange.asmx").unwrap();
            options.set("allow_plaintext", "true").unwrap().set("connect_to", "x.test:1:x.test:1").unwrap();
        }
        let client = Client::open(&options).unwrap();
        shown.error(&client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err());
        client.watch(&Options::new()).unwrap();
        until(&client, &mut events, |e| {
            matches!(e.kind, EventKind::Error | EventKind::Disconnected | EventKind::Closed)
        });
        shown.close(client, std::mem::take(&mut events));
        let mut tell = |f: check::Finding| {
            shown.add("a finding", format!("{}{f:?}", serde_json::to_string(&f).unwrap()))
        };
        let outcome = check::check(&options, &Cancel::new(), &mut tell);
        shown.add("the outcome", format!("{outcome:?}"));
    }
    assert!(shown.has("***"), "{}", shown.text());
    shown.files(desk.dir.path());
    shown.assert_clean(&desk.known);
    let wire = desk.wire();
    for wanted in ["Proxy-Authorization: Basic ***", " < HTTP/1.1 407 x", " > POST http://mail.example.test"]
    {
        assert!(wire.contains(wanted), "{wanted}: {wire}");
    }
}
