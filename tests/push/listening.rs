//! The library's own listener and a server that sends to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ewsnotify::sim::Style;
use ewsnotify::sim::exchange::PushFault;
use ewsnotify::{Client, ErrorKind, EventKind, Next, Options, Reason, push_parse};
use rcgen::{CertificateParams, KeyPair};

use crate::beside;
use crate::raw::{LONG, SECRET, ask, connect, envelope, notification, path, post};
use crate::watching::{ADA, Watching, server};

/// A connected watch by push.
fn watching(settings: &[(&str, &str)]) -> Watching {
    let mut w = Watching::start(server(Style::Exchange), &[&[("mode", "push")], settings].concat());
    w.connected();
    w.settle();
    w
}

// Whatever happens to a notification on its way, nothing may be lost without a word or told twice.
#[test]
fn each_way_in_which_a_push_goes_wrong() {
    for (fault, gaps) in [
        (PushFault::Lost, true),
        (PushFault::Unanswered, false),
        (PushFault::Repeated, false),
        (PushFault::Held, true),
        (PushFault::Cut, false),
        (PushFault::Error("ErrorReadEventsFailed".into(), true), true),
        (PushFault::Error("ErrorReadEventsFailed".into(), false), true),
    ] {
        let mut w = watching(&[]);
        w.sim.exchange().fail_push(fault.clone());
        w.deliver();
        assert!(
            w.sim.wait_until(Duration::from_secs(60), |_| w.sim.exchange().waiting_push_faults() == 0),
            "{fault:?}"
        );
        for _ in 0..3 {
            w.deliver();
        }
        w.settle();
        w.settle();
        let lost = w.compare();
        assert_eq!(w.count(EventKind::Gap) > 0, gaps, "{fault:?}: {:#?}", w.events);
        assert!(gaps || lost == 0, "{fault:?}");
        w.assert_no_busy_loop(20);
    }
}

// An administrator sees the port, and nothing of the secret in what is told.
#[test]
fn the_subscription_ends_by_the_answer_and_the_secret_is_told_nowhere() {
    let mut w = watching(&[("push_secret", SECRET), ("log", "debug")]);
    let address = w.client.push_address().unwrap();
    assert_eq!(w.client.status().push_listen, Some(address));
    w.client.unwatch(1).unwrap();
    w.until("Closed", |e| e.kind == EventKind::Closed);
    // The next sign of life is answered so.
    assert!(w.sim.wait_until(Duration::from_secs(60), |_| w.sim.exchange().subscriptions(ADA).is_empty()));
    assert_eq!(w.sim.stats().of("Unsubscribe"), 0);
    let told: Vec<String> = w.events.iter().map(ewsnotify::Event::to_json).collect();
    assert!(told.iter().any(|t| t.contains("the push listener is open on")), "{told:#?}");
    assert!(told.iter().all(|t| !t.contains(SECRET)), "{told:#?}");
    assert!(!format!("{:?}", w.client).contains(SECRET));
    w.client.close();
    assert_eq!(w.client.status().threads, 0);
    // Nobody listens there any more.
    let e = std::net::TcpStream::connect(address).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::ConnectionRefused);
}

// At the end everybody who still sends has to be told that nobody listens any more.
#[test]
fn a_client_that_closes_answers_unsubscribe() {
    for (closes, answer) in [(false, ">OK<"), (true, ">Unsubscribe<")] {
        let w = watching(&[]);
        // Its own: nobody's is answered so by a client that is open, too.
        let own = notification(&w.sim.exchange().subscriptions(ADA)[0], "a", "b", "i");
        if closes {
            w.client.close();
        }
        let fed = w.client.push_feed(own.as_bytes()).unwrap();
        assert_eq!(fed.http_status, 200);
        assert!(fed.reply.contains(answer), "{}", fed.reply);
    }
}

/// A certificate for this machine, and the files of it and its key.
fn certificate() -> (tempfile::TempDir, rcgen::Certificate, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert_file, key_file) = (write("cert.pem", &cert.pem()), write("key.pem", &key.serialize_pem()));
    (dir, cert, cert_file, key_file)
}

/// A TLS client that trusts these.
fn tls_client(roots: rustls::RootCertStore, address: SocketAddr) -> Tls {
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(tls, connect(address))
}

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

// An Exchange that does not trust the certificate sends nothing, and says so only in the handshake: without a line of the log
// an administrator looks everywhere else.
#[test]
fn a_tls_handshake_that_fails_is_in_the_log() {
    let (_dir, _, cert_file, key_file) = certificate();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let distrusting = |address| {
        let e = tls_client(rustls::RootCertStore::empty(), address).write_all(b"x").unwrap_err();
        assert!(e.to_string().contains("UnknownIssuer"), "{e}");
    };
    let plain = |address| assert_eq!(ask(address, &post(&path(), "x")), None);
    let begins = move |address| drop(connect(address).write_all(hello));
    let hangs = move |address| {
        let mut sock = connect(address);
        sock.write_all(hello).unwrap();
        // Until it is let go.
        let _ = sock.read(&mut [0; 100]);
    };
    for (knock, words) in [
        (&distrusting as &dyn Fn(SocketAddr), ["UnknownCA", "option push_cert"]),
        (&plain, ["InvalidContentType", "is it plain http"]),
        (&begins, ["a TLS handshake", "broke it off without a word"]),
        (&hangs, ["a TLS handshake", "in time"]),
    ] {
        let mut options = Options::new();
        for (key, value) in [
            ("push_listen", "127.0.0.1:0"),
            ("push_cert", &cert_file),
            ("push_key", &key_file),
            ("push_timeout", "1s"),
            ("log", "warn"),
        ] {
            options.set(key, value).unwrap();
        }
        let client = Client::open(&options).unwrap();
        let address = client.push_address().unwrap();
        // As a load balancer looks whether the port is open: no line.
        drop(connect(address));
        knock(address);
        let line = match client.next(LONG) {
            Next::Event(event) if event.kind == EventKind::Log => event.detail.unwrap().message.unwrap(),
            other => panic!("{other:?}"),
        };
        for word in words.into_iter().chain(["push listener: refused", "127.0.0.1"]) {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
}

// Exchange trusts no plain http, and a certificate is a file that an administrator renews.
#[test]
fn over_https() {
    let (_dir, cert, cert_file, key_file) = certificate();
    let sim = server(Style::Exchange);
    sim.trust_pushes(&cert.pem());
    let mut w = Watching::start(
        sim,
        &[("mode", "push"), ("push_cert", &cert_file), ("push_key", &key_file), ("push_secret", SECRET)],
    );
    w.connected();
    for _ in 0..20 {
        w.deliver();
    }
    w.settle();
    assert_eq!((w.compare(), w.count(EventKind::Gap)), (0, 0));
    let address = w.client.push_address().unwrap();
    // By hand: several requests on one connection, in one piece of TLS.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut link = tls_client(roots, address);
    let requests: Vec<u8> =
        (0..50).flat_map(|n| post(&path(), &notification("x", "a", "b", &format!("{n:0>2000}")))).collect();
    let (mut reader, requests) = (&mut link, requests);
    reader.write_all(&requests).unwrap();
    for _ in 0..50 {
        let (status, body) = crate::raw::answer(&mut reader).unwrap();
        assert_eq!(status, 200);
        assert!(body.contains(">Unsubscribe<"));
    }
    // Who does not speak TLS is no harm.
    assert_eq!(ask(address, &post(&path(), "x")), None);
    w.settle();
}

// What the documents and captures show must be accepted, or a real server's subscription would die.
#[test]
fn what_servers_were_seen_to_send_is_accepted() {
    let mut options = Options::new();
    options.set("push_listen", "127.0.0.1:0").unwrap().set("push_secret", SECRET).unwrap();
    let client = Client::open(&options).unwrap();
    let address = client.push_address().unwrap();
    // The ids of exchangelib's sample, which comes last.
    let whole = notification("XXXXX=", "AAAAA=", "BBBBB=", "AAMk");
    let mut bodies = vec![
        whole.clone(),
        // Once seen: the header's element in the other namespace, as 2007 SP1 writes it.
        whole.replace(
            "t:RequestServerVersion Version=\"Exchange2010\" xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"",
            "m:RequestServerVersion Version=\"Exchange2007_SP1\" xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"",
        ),
        whole.replace("<soap11:Header>", "<soap11:Header><x:Other xmlns:x=\"urn:x\"><x:In/></x:Other>"),
        // A byte order mark, white space, another prefix.
        format!("\u{feff}{}", whole.replace("soap11:", "s:").replace("xmlns:soap11", "xmlns:s").replace("><", ">\r\n  <")),
        // Without the Notification that the schema demands.
        envelope(
            "<m:SendNotificationResponseMessage ResponseClass=\"Error\"><m:MessageText>Gone.</m:MessageText>\
             <m:ResponseCode>ErrorReadEventsFailed</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>\
             </m:SendNotificationResponseMessage>",
        ),
    ];
    if let Some(sample) = beside::shared("ews/samples/exchangelib/test_sync_test_push_message_parsing_1.xml")
    {
        bodies.push(std::fs::read_to_string(sample).unwrap());
    }
    for body in &bodies {
        let push = push_parse(body.as_bytes()).unwrap();
        match &push.messages[0].code {
            Some(code) => assert_eq!(
                (code.as_str(), push.messages[0].subscription.is_none()),
                ("ErrorReadEventsFailed", true)
            ),
            None => {
                assert_eq!(push.messages[0].subscription.as_deref(), Some("XXXXX="), "{body}");
                assert_eq!(push.messages[0].previous_watermark.as_deref(), Some("AAAAA="));
                assert_eq!(push.messages[0].watermark.as_deref(), Some("BBBBB="));
            }
        }
        for quoted in [true, false] {
            let request = String::from_utf8(post(&path(), body)).unwrap();
            let request = if quoted {
                request
            } else {
                request.replacen("Soapaction: \"", "SOAPAction: ", 1).replacen(
                    "SendNotification\"\r",
                    "SendNotification\r",
                    1,
                )
            };
            let (status, reply) = ask(address, request.as_bytes()).unwrap();
            assert_eq!(status, 200, "{body}");
            // Of nobody here; with the shape that the server wants, to the letter.
            assert!(reply.contains("<m:SubscriptionStatus>Unsubscribe</m:SubscriptionStatus>"), "{reply}");
        }
        for framing in
            ["Content-Type: text/xml; charset=utf-8", "Transfer-Encoding: chunked", "Expect: 100-continue"]
        {
            let (status, reply) = curl(address, body, framing);
            assert_eq!(status, 200, "{framing}: {body}");
            assert!(reply.contains("<m:SubscriptionStatus>Unsubscribe</m:SubscriptionStatus>"), "{reply}");
        }
    }
}

/// The same from a client that is not ours; what it was answered.
fn curl(address: SocketAddr, body: &str, header: &str) -> (u16, String) {
    let mut curl = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--data-binary", "@-"])
        .args([
            "--write-out",
            "\n%{http_code}",
            "--header",
            "Accept: text/xml",
            "--header",
            "Content-Type: text/xml; charset=utf-8",
        ])
        .args([
            "--header",
            "Soapaction: http://schemas.microsoft.com/exchange/services/2006/messages/SendNotification",
        ])
        .args(["--header", header])
        .arg(format!("http://{address}{}", path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl, which tests/run installs");
    curl.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let out = curl.wait_with_output().unwrap();
    assert!(out.status.success(), "curl: {}", out.status);
    let out = String::from_utf8(out.stdout).unwrap();
    let (reply, status) = out.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), reply.to_owned())
}

// A typing error in an option would be found by a server that never reaches us.
#[test]
fn options_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().join("nothing.pem");
    std::fs::write(&nothing, "no PEM").unwrap();
    let nothing = nothing.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (settings, kind, says) in [
        (vec![("push_listen", "localhost")], ErrorKind::Invalid, "push_listen: \"localhost\""),
        (vec![("push_listen", taken.as_str())], ErrorKind::Io, "push_listen"),
        (vec![("push_listen", "127.0.0.1:0"), ("push_cert", nothing)], ErrorKind::Invalid, "push_key"),
        (
            vec![("push_listen", "127.0.0.1:0"), ("push_cert", nothing), ("push_key", nothing)],
            ErrorKind::Invalid,
            "push_cert",
        ),
    ] {
        let mut options = Options::new();
        settings.iter().for_each(|(k, v)| {
            options.set(k, v).unwrap();
        });
        let e = Client::open(&options).unwrap_err();
        assert_eq!(e.kind(), kind, "{settings:?}: {e}");
        assert!(e.to_string().contains(says), "{settings:?}: {e}");
    }
    for secret in ["short-secret", "0123456789abcdef/../x", "0123456789abcdef "] {
        let e = Options::new().set("push_secret", secret).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
        assert!(e.to_string().contains("push_secret: at least 16") && !e.to_string().contains(secret), "{e}");
    }
    let long = format!("https://hook.example.test/{}", "x".repeat(2083));
    let nearly = format!("https://hook.example.test/{}", "x".repeat(2050));
    for (settings, says) in [
        (vec![("push_url", long.as_str())], "push_url: "),
        (
            vec![("push_listen", "127.0.0.1:0"), ("push_url", nearly.as_str())],
            "push_secret, the one behind the other",
        ),
        (
            vec![("push_url", nearly.as_str()), ("push_secret", SECRET)],
            "push_secret, the one behind the other",
        ),
        (vec![], "push_listen"),
        (vec![("push_url", "gopher://hunter2")], "push_url"),
        (vec![("push_listen", "127.0.0.1:0"), ("push_url", "https://h/?q=hunter2")], "push_url"),
        (vec![("push_listen", "0.0.0.0:0")], "push_url"),
    ] {
        let mut options = Options::new();
        options
            .set("url", "mail.example.test")
            .unwrap()
            .set("user", ADA)
            .unwrap()
            .set("password", "x")
            .unwrap();
        options.set("mode", "push").unwrap();
        settings.iter().for_each(|(k, v)| {
            options.set(k, v).unwrap();
        });
        let e = Client::open(&options).unwrap().watch(&Options::new()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{settings:?}: {e}");
        assert!(e.to_string().contains(says) && !e.to_string().contains("hunter2"), "{settings:?}: {e}");
    }
}

// So much happens at once that the notification is larger than the listener takes: the server tries, gives up and is silent. The
// host must hear why, and what was missed.
#[test]
fn a_notification_that_is_too_large_is_told() {
    let sim = server(Style::Exchange);
    // All that waits in one, and it waits for the one before, whose answer is lost, to be sent again.
    sim.exchange().configure(|s| {
        (s.batch, s.push_retry, s.push_minute) = (10_000, Duration::from_secs(1), Duration::from_millis(100));
    });
    let settings = [("mode", "push"), ("push_max_bytes", "16384"), ("push_silence", "6s")];
    let mut w = Watching::start(sim, &settings);
    w.connected();
    w.settle();
    w.sim.exchange().fail_push(PushFault::Unanswered);
    for _ in 0..200 {
        w.deliver();
    }
    let told = w.until("an error", |e| e.kind == EventKind::Error).detail.unwrap().message.unwrap();
    assert!(told.contains("too large") && told.contains("push_max_bytes allows 16384 bytes"), "{told}");
    let gone = w.until("Disconnected", |e| e.kind == EventKind::Disconnected);
    assert_eq!(gone.detail.unwrap().reason, Some(Reason::NotificationLost));
    let gap = w.until("a gap", |e| e.kind == EventKind::Gap);
    assert_eq!(gap.detail.unwrap().reason, Some(Reason::NotificationLost));
    // The new one goes on behind it: asked for again, it would come again, and be refused, each time.
    w.settle();
    let subscribes: Vec<_> = w.sim.requests().into_iter().filter(|r| r.operation == "Subscribe").collect();
    let last = String::from_utf8_lossy(&subscribes.last().unwrap().body).into_owned();
    assert!(subscribes.len() >= 2 && !last.contains("Watermark"), "{last}");
    let before = w.count(EventKind::Gap);
    w.deliver();
    w.settle();
    w.compare();
    assert_eq!(w.count(EventKind::Gap), before);
}

// A receiver that was away for a moment is sent everything again; one that was away for long makes a new subscription.
#[test]
fn a_server_that_could_not_reach_us_comes_back() {
    let mut w = watching(&[("push_silence", "3s")]);
    let before = w.count(EventKind::Resubscribed);
    assert_eq!(w.sim.exchange().lose_subscription(ADA), 1);
    w.deliver();
    let gone = w.until("Disconnected", |e| e.kind == EventKind::Disconnected);
    assert_eq!(gone.detail.unwrap().reason, Some(Reason::IdleTimeout));
    w.settle();
    assert_eq!(w.count(EventKind::Resubscribed), before + 1);
    w.compare();
}
