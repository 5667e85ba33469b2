//! Private keys: of the client's certificate, of the program's, and of the push listener.

use ewsnotify::auth::Secret;
use ewsnotify::{Client, EventKind, Options};
use rcgen::{CertificateParams, KeyPair};

use super::known::{ADA, Known, PASSWORD};
use super::shown::{Shown, log_all, until};
use super::tokens::{APP, CERT, KEY};

// A key that a paste has put on one line, or cut, is a mistake of every day; the error goes into a ticket.
#[test]
fn what_is_wrong_with_a_key_is_said_without_it() {
    log_all();
    let (mut known, mut shown) = (Known::default(), Shown::default());
    known.add_key("a key", KEY);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = write("cert.pem", CERT);
    let other = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let other = write("other.pem", &other.cert.pem());
    let lines: Vec<&str> = KEY.lines().collect();
    let middle = lines[lines.len() / 2];
    let texts = [
        KEY.replace('\n', ""),
        KEY.replace('\n', " "),
        KEY.replace('\n', "\\n"),
        KEY.replace("KEY-----\n", "KEY-----"),
        KEY.replace("-----END", "----END"),
        lines[..lines.len() / 2].join("\n"),
        lines[1..lines.len() - 1].join("\n"),
        KEY.replacen(&middle[20..24], "!!!!", 1),
        KEY.replacen(middle, "", 1),
        format!("-----BEGIN {middle}-----\n{middle}\n-----END {middle}-----\n"),
        KEY.to_owned(),
    ];
    for text in &texts {
        let key = write("key.pem", text);
        for (options, certificate) in [
            (
                &[
                    ("tls_cert", ""),
                    ("tls_key", ""),
                    ("password", PASSWORD),
                    ("url", "https://mail.example.test"),
                ][..],
                &other,
            ),
            (&[("tls_cert", ""), ("password", PASSWORD), ("url", "https://mail.example.test")], &key),
            (
                &[("oauth_client_cert", ""), ("oauth_client_key", ""), ("oauth_tenant", "example.test")],
                &other,
            ),
            (&[("oauth_client_cert", ""), ("oauth_tenant", "example.test")], &key),
            (&[("push_cert", ""), ("push_key", ""), ("push_listen", "127.0.0.1:0")], &other),
            (&[("push_cert", ""), ("push_key", ""), ("push_listen", "127.0.0.1:0")], &key),
            (&[("ca_file", ""), ("password", PASSWORD), ("url", "https://mail.example.test")], &key),
        ] {
            let mut set = Options::new();
            set.set("user", ADA).unwrap().set("mailbox", ADA).unwrap().set("oauth_client_id", APP).unwrap();
            for (name, value) in options {
                let value = match *name {
                    name if name.ends_with("_key") => &key,
                    name if name.ends_with("_cert") || name == "ca_file" => certificate,
                    _ => *value,
                };
                set.set(name, value).unwrap();
            }
            shown.add("the options", format!("{set:?}"));
            match Client::open(&set) {
                Ok(client) => {
                    if let Err(e) = client.watch(&Options::new()) {
                        shown.error(&e);
                    }
                    shown.close(client, Vec::new());
                }
                Err(e) => shown.error(&e),
            }
        }
    }
    for wanted in ["a BEGIN line is broken", "there is no END line", "is no base64", "there is none in it"] {
        assert!(shown.has(wanted), "{wanted}: {}", shown.text());
    }
    drop(cert);
    shown.assert_clean(&known);
}

// Pushes by https, with a secret in the path.
#[test]
fn a_push_listener_shows_neither_its_key_nor_its_secret() {
    log_all();
    let (mut known, mut shown) = (Known::default(), Shown::default());
    let (key, secret) = (KeyPair::generate().unwrap(), known.make("the secret of pushes by https", 30));
    known.add_key("the listener's key", &key.serialize_pem());
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (dir, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cert_file, key_file) = (keys.path().join("cert.pem"), keys.path().join("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let sim = ewsnotify::sim::Sim::builder().user(ADA, PASSWORD).start().unwrap();
    sim.trust_pushes(&cert.pem());
    let mut options = Options::new();
    for (key, value) in [
        ("url", sim.url()),
        ("ca_file", sim.ca_file().unwrap().to_str().unwrap()),
        ("user", ADA),
        ("password", PASSWORD),
        ("mode", "push"),
        ("push_listen", "127.0.0.1:0"),
        ("push_cert", cert_file.to_str().unwrap()),
        ("push_key", key_file.to_str().unwrap()),
        ("push_secret", &secret),
        ("trace_wire", dir.path().join("wire.log").to_str().unwrap()),
        ("state_dir", dir.path().join("state").to_str().unwrap()),
        ("log", "debug"),
    ] {
        options.set(key, value).unwrap();
    }
    shown.add("the options", format!("{options:?} {:?}", Secret::new(secret.as_str())));
    let client = Client::open(&options).unwrap();
    client.watch(&Options::new()).unwrap();
    let mut events = Vec::new();
    until(&client, &mut events, |e| e.kind == EventKind::Connected);
    sim.exchange().deliver(ADA, b"Subject: Hello\r\n\r\nText").unwrap();
    until(&client, &mut events, |e| e.kind == EventKind::NewMail);
    shown.close(client, events);
    shown.files(dir.path());
    shown.assert_clean(&known);
    let wire = std::fs::read_to_string(dir.path().join("wire.log")).unwrap();
    // The head as it came, and the one that answers.
    for wanted in [
        " < POST /*** HTTP/1.1\n",
        "\n  Host: 127.0.0.1:",
        "\n  Content-Type: text/xml",
        " > HTTP/1.1 200 OK\n",
    ] {
        assert!(wire.contains(wanted), "{wanted}: {wire}");
    }
}
