//! The simulator's server over real sockets: HTTP, TLS, streams, and each fault to the byte.
#![cfg(feature = "sim")]

#[path = "../common/mod.rs"]
mod common;
mod streams;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use common::*;
use ewsnotify::sim::fault::{Action, Cut, Fault};
use ewsnotify::sim::script::{Control, Script};
use ewsnotify::sim::{Scheme, Sim, Style, TlsVersions};

fn plain() -> Sim {
    Sim::builder().tls(false).user(ADA, SECRET).start().unwrap()
}

fn with(action: Action) -> Sim {
    Sim::builder().tls(false).user(ADA, SECRET).fault(Fault::new(action)).start().unwrap()
}

// A client that trusts the CA file must get in, by either version and by name and address; one that does not must not.
#[test]
fn tls() {
    for (versions, agreed) in [
        (TlsVersions::Tls12, rustls::ProtocolVersion::TLSv1_2),
        (TlsVersions::Tls13, rustls::ProtocolVersion::TLSv1_3),
        (TlsVersions::Both, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let sim = Sim::builder().user(ADA, SECRET).tls_versions(versions).start().unwrap();
        assert_eq!(sim.url(), format!("https://localhost:{}/EWS/Exchange.asmx", sim.address().port()));
        let pem = std::fs::read_to_string(sim.ca_file().unwrap()).unwrap();
        assert_eq!(Some(pem.as_str()), sim.ca_pem());
        let mut raw = Raw::connect(&sim);
        assert_eq!(raw.ask(&get_folder()).status, 200);
        assert_eq!(raw.tls_version(), Some(agreed));
        let path = sim.ca_file().unwrap().to_owned();
        drop(sim);
        assert!(!path.exists());
    }
    let (sim, other) = (start_sim(), start_sim());
    let connect = |name: &'static str, pem: &str| {
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        let mut tls = rustls::ClientConnection::new(tls_config(pem), name).unwrap();
        tls.complete_io(&mut TcpStream::connect(sim.address()).unwrap()).map(|_| ())
    };
    assert!(connect("127.0.0.1", sim.ca_pem().unwrap()).is_ok());
    assert!(connect("localhost", other.ca_pem().unwrap()).is_err());
    assert!(connect("example.test", sim.ca_pem().unwrap()).is_err());
}

// Clients depend on the headers, and a connection must serve more than one request.
#[test]
fn keep_alive_and_headers() {
    let sim = start_sim();
    let mut raw = Raw::connect(&sim);
    for _ in 0..2 {
        let reply = raw.ask(&get_folder());
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains("GetFolderResponse"), "{}", reply.body);
        assert_eq!(reply.header("content-type"), Some("text/xml; charset=utf-8"));
        assert_eq!(reply.header("cache-control"), Some("private"));
        assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
        assert_eq!(reply.header("server"), Some("Microsoft-IIS/10.0"));
        for name in ["request-id", "X-CalculatedBETarget", "X-DiagInfo", "X-BEServer", "X-FEServer", "Date"] {
            assert!(reply.header(name).is_some_and(|v| !v.is_empty()), "{name}");
        }
        assert_eq!(reply.header("set-cookie"), None);
    }
    let affinity = format!("{}X-PreferServerAffinity: true\r\n", basic(ADA, SECRET));
    raw.post_with(&affinity, &get_folder());
    let cookie = raw.reply().header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("X-BackEndOverrideCookie=") && cookie.ends_with("; path=/; secure; HttpOnly"));
    let back = cookie.split(';').next().unwrap();
    raw.post_with(&format!("{affinity}Cookie: {back}\r\nConnection: close\r\n"), &get_folder());
    let reply = raw.reply();
    assert_eq!((reply.header("set-cookie"), reply.header("connection")), (None, Some("close")));
    assert_eq!(raw.take_all(), (vec![], None));

    let stats = sim.stats();
    assert_eq!((stats.accepted, stats.of("GetFolder")), (1, 4));
    assert_eq!(stats.requests.get(&("GetFolder".to_owned(), 200)), Some(&4));
    let requests = sim.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0].header("authorization"), Some("Basic"));
    assert_eq!(requests[0].body, get_folder().as_bytes());
    assert_eq!((requests[0].operation.as_str(), requests[0].status), ("GetFolder", Some(200)));
}

// A wrong password must look as it does with the real servers, and must not cost the connection.
#[test]
fn unauthorized() {
    let sim = start_sim();
    let mut raw = Raw::connect(&sim);
    for lines in [
        basic(ADA, "wrong"),
        basic("eve@example.test", SECRET),
        String::new(),
        "Authorization: Bearer x\r\n".into(),
    ] {
        raw.post_with(&lines, &get_folder());
        let reply = raw.reply();
        assert_eq!((reply.status, reply.body.as_str()), (401, ""));
        let offers: Vec<_> =
            reply.head.lines().filter_map(|l| l.strip_prefix("WWW-Authenticate: ")).collect();
        // To a token that is none, what is wrong with it is said beside.
        let more = usize::from(lines.starts_with("Authorization: Bearer"));
        assert_eq!((offers[0], offers.len()), ("Basic realm=\"ex1.example.test\"", 1 + more));
    }
    raw.post_with(&basic("ADA@Example.Test", SECRET), &get_folder());
    assert_eq!(raw.reply().status, 200);
    assert_eq!(sim.stats().unauthorized, 4);
    assert_eq!(sim.stats().accepted, 1);
    assert!(!format!("{:?} {sim:?}", sim.requests()).contains(SECRET));

    let sim = Sim::builder().tls(false).style(Style::Gromox).user(ADA, SECRET).start().unwrap();
    let mut raw = Raw::connect(&sim);
    raw.post_with("", &get_folder());
    let reply = raw.reply();
    assert_eq!((reply.status, reply.body.as_str()), (401, "Unauthorized\r\n"));
    assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"msrpc realm\", charset=\"utf-8\""));

    let ways = [Scheme::Negotiate, Scheme::Ntlm];
    let sim = Sim::builder().tls(false).user(ADA, SECRET).offers(ways).start().unwrap();
    let mut raw = Raw::connect(&sim);
    raw.post_with(&basic(ADA, SECRET), &get_folder());
    let reply = raw.reply();
    let offers: Vec<_> = reply.head.lines().filter_map(|l| l.strip_prefix("WWW-Authenticate: ")).collect();
    assert_eq!(
        (reply.status, &offers[..]),
        (401, &["Negotiate", "NTLM"][..]),
        "what is not offered is not taken"
    );
}

// Whether somebody else signs in before the first knows that the password is wrong would be seen by chance.
#[test]
fn refusals_that_are_held_back() {
    for tls in [false, true] {
        let sim = Sim::builder().tls(tls).user(ADA, SECRET).start().unwrap();
        sim.hold_refusals(true);
        let (mut wrong, mut right) = (Raw::connect(&sim), Raw::connect(&sim));
        wrong.post_with(&basic(ADA, "wrong"), &get_folder());
        assert!(sim.wait_until(LONG, |s| s.held == 1));
        // Whoever only asks how to sign in, and whoever is right.
        right.post_with("", &get_folder());
        assert_eq!(right.reply().status, 401);
        assert_eq!(right.ask(&get_folder()).status, 200);
        let stats = sim.stats();
        assert_eq!((stats.unauthorized, stats.held, stats.ready), (1, 1, 2));
        sim.hold_refusals(false);
        assert_eq!(wrong.reply().status, 401);
        sim.hold_refusals(true);
        wrong.post_with(&basic(ADA, "wrong"), &get_folder());
        assert!(sim.wait_until(LONG, |s| s.held == 1));
        let stats = sim.stop();
        assert_eq!((stats.threads, stats.open, stats.held), (0, 0, 0));
    }
}

// Bad or foreign requests get an answer that says so and harm nobody else.
#[test]
fn odd_requests() {
    let sim = plain();
    let auth = basic(ADA, SECRET);
    let long = "x".repeat(70_000);
    let many = "A: b\r\n".repeat(200);
    for (request, status) in [
        (format!("GET /EWS/Exchange.asmx HTTP/1.1\r\n{auth}\r\n"), 405),
        (format!("POST /owa HTTP/1.1\r\n{auth}Content-Length: 0\r\n\r\n"), 404),
        (format!("POST /EWS/Exchange.asmx HTTP/1.1\r\n{auth}\r\n"), 411),
        (
            format!("POST /EWS/Exchange.asmx HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            411,
        ),
        (format!("POST /EWS/Exchange.asmx HTTP/1.1\r\n{auth}Content-Length: 67108865\r\n\r\n"), 413),
        (format!("POST /EWS/Exchange.asmx HTTP/1.1\r\n{auth}Content-Length: -1\r\n\r\n"), 400),
        (format!("POST /EWS/Exchange.asmx HTTP/1.1\r\nX: {long}"), 431),
        (format!("POST /EWS/Exchange.asmx HTTP/1.1\r\n{many}\r\n"), 431),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 505),
        ("\u{1}\u{2}\r\n\r\n".to_owned(), 400),
    ] {
        let mut raw = Raw::connect(&sim);
        raw.send(request.as_bytes()).unwrap();
        let reply = raw.reply();
        assert_eq!(reply.status, status, "{}", &request[..request.len().min(80)]);
        if status == 405 {
            assert_eq!(reply.header("allow"), Some("POST"));
        }
    }
    // HEAD has no body, whatever its Content-Length says: the next answer begins at once.
    let mut raw = Raw::connect(&sim);
    raw.send(format!("HEAD /EWS/Exchange.asmx HTTP/1.1\r\n{auth}\r\n").as_bytes()).unwrap();
    assert_eq!(raw.head().unwrap().0, 405);
    // A body that is no SOAP, and one byte after the other.
    for byte in format!("POST /ews/exchange.asmx HTTP/1.1\r\n{auth}Content-Length: 3\r\n\r\n<x>").bytes() {
        raw.send(&[byte]).unwrap();
    }
    assert!(raw.reply().status >= 200);
    // Two requests at once.
    let twice = format!(
        "POST /EWS/Exchange.asmx HTTP/1.1\r\n{auth}Content-Length: {}\r\n\r\n{}",
        get_folder().len(),
        get_folder()
    );
    raw.send(twice.repeat(2).as_bytes()).unwrap();
    assert_eq!((raw.reply().status, raw.reply().status), (200, 200));
    assert_eq!(sim.stop().panics, 0);
}

// Whatever a broken client sends, the server lives and answers the next.
#[test]
fn garbage() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let sim = plain();
    let body = get_folder();
    let good = format!(
        "POST /EWS/Exchange.asmx HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{body}",
        basic(ADA, SECRET),
        body.len()
    );
    for _ in 0..400 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len().max(1));
            if bytes.is_empty() {
                break;
            }
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, random.u8(..)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut raw = Raw::connect(&sim);
        // The server may refuse before it has read all.
        let _ = raw.send(&bytes);
        raw.close();
    }
    assert_eq!(Raw::connect(&sim).ask(&body).status, 200);
    assert!(sim.wait_until(LONG, |s| s.open == 0));
    assert_eq!(sim.stop().panics, 0);
}

// curl and .NET wait for the 100 before they send a large body.
#[test]
fn expect_continue() {
    let sim = start_sim();
    let mut raw = Raw::connect(&sim);
    let (auth, body) = (basic(ADA, SECRET), get_folder());
    let head = |auth: &str| {
        format!(
            "POST /EWS/Exchange.asmx HTTP/1.1\r\n{auth}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
    };
    raw.send(head(&auth).as_bytes()).unwrap();
    assert_eq!(raw.head().unwrap().0, 100);
    raw.send(body.as_bytes()).unwrap();
    assert_eq!(raw.reply().status, 200);
    raw.send(head("").as_bytes()).unwrap();
    assert_eq!(raw.reply().status, 401);
    assert_eq!(raw.take_all(), (vec![], None));
}

// A fault that does not do what the script says would let a client pass a test that it should fail.
#[test]
fn replaced_answers() {
    let status = |code, retry_after, retry_date| Action::Status { code, retry_after, retry_date, body: None };
    let sim = with(status(401, None, None));
    let mut raw = Raw::connect(&sim);
    let reply = raw.ask(&get_folder());
    assert_eq!(reply.status, 401);
    assert!(reply.head.contains("Basic realm="));
    assert_eq!(raw.ask(&get_folder()).status, 200, "once, and on the same connection");

    sim.add_fault(Fault::new(status(403, None, None)));
    sim.add_fault(Fault::new(status(503, Some(30), None)));
    sim.add_fault(Fault::new(status(503, None, Some(Duration::from_secs(3600)))));
    let page = "<html>no</html>".to_owned();
    sim.add_fault(Fault::new(Action::Status {
        code: 500,
        retry_after: None,
        retry_date: None,
        body: Some(page.clone()),
    }));
    sim.add_fault(Fault::new(Action::Redirect { to: "https://other.example.test/EWS/Exchange.asmx".into() }));
    sim.add_fault(Fault::new(Action::Html));
    sim.add_fault(Fault::new(Action::Empty));
    assert_eq!(raw.ask(&get_folder()).status, 403);
    let reply = raw.ask(&get_folder());
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("30")));
    let reply = raw.ask(&get_folder());
    let date = reply.header("retry-after").unwrap();
    assert!(date.ends_with(" GMT") && Some(date) != reply.header("date"), "{date}");
    let reply = raw.ask(&get_folder());
    assert_eq!((reply.status, reply.body), (500, page));
    let reply = raw.ask(&get_folder());
    assert_eq!(
        (reply.status, reply.header("location")),
        (302, Some("https://other.example.test/EWS/Exchange.asmx"))
    );
    let reply = raw.ask(&get_folder());
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(reply.body.contains("<html"));
    let reply = raw.ask(&get_folder());
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(raw.ask(&get_folder()).status, 200);
    // Not carried out: the exchange saw only the two that were answered by itself.
    assert_eq!(sim.exchange().count("GetFolder"), 2);
}

// Throttling must come as the server says it, with the time to wait.
#[test]
fn busy() {
    let sim = with(Action::Busy { back_off: 1234 });
    let mut raw = Raw::connect(&sim);
    let reply = raw.ask(&get_folder());
    assert_eq!(reply.status, 500);
    assert!(reply.body.contains("ErrorServerBusy") && reply.body.contains(">1234<"), "{}", reply.body);
    assert_eq!(raw.ask(&get_folder()).status, 200);
}

// Cutting at byte n must give exactly n bytes, else a test of "every n" has holes.
#[test]
fn cut_at_every_byte() {
    for tls in [false, true] {
        let sim = Sim::builder().tls(tls).user(ADA, SECRET).start().unwrap();
        let mut raw = Raw::connect(&sim);
        raw.post_with(&format!("{}Connection: close\r\n", basic(ADA, SECRET)), &get_folder());
        let whole = raw.take_all().0.len() as u64;
        for byte in [0, 1, 2, 100, whole / 2, whole - 1] {
            sim.add_fault(Fault::new(Action::Cut { byte, how: Cut::Fin }));
            let mut raw = Raw::connect(&sim);
            raw.post_with(&format!("{}Connection: close\r\n", basic(ADA, SECRET)), &get_folder());
            let (bytes, end) = raw.take_all();
            assert_eq!(bytes.len() as u64, byte);
            // Without TLS's good-bye, so the client can tell it from a good end.
            assert_eq!(end, tls.then_some(ErrorKind::UnexpectedEof));
        }
    }
    let sim = with(Action::Cut { byte: 0, how: Cut::Reset });
    let mut raw = Raw::connect(&sim);
    raw.post(&get_folder());
    assert_eq!(raw.take_all(), (vec![], Some(ErrorKind::ConnectionReset)));
    // The request was carried out; only its answer is gone.
    assert_eq!(sim.exchange().count("GetFolder"), 1);
}

// Slow and silent answers: the bytes are right, or never come, and the server still stops.
#[test]
fn slow_answers() {
    let sim = with(Action::OneByte);
    let mut raw = Raw::connect(&sim);
    assert!(raw.ask(&get_folder()).body.contains("GetFolderResponse"));
    sim.add_fault(Fault::new(Action::SlowHead { delay: Duration::from_millis(60) }));
    let asked = std::time::Instant::now();
    assert_eq!(raw.ask(&get_folder()).status, 200);
    assert!(asked.elapsed() >= Duration::from_millis(60));

    sim.add_fault(Fault::new(Action::Stall { byte: 10 }));
    raw.post(&get_folder());
    assert_eq!(raw.take(10).unwrap(), b"HTTP/1.1 2");
    sim.resume();
    assert_eq!(raw.take(5).unwrap(), b"00 OK");
    raw.take_until(b"0\r\n\r\n").unwrap();

    sim.add_fault(Fault::new(Action::NoAnswer).on("GetFolder"));
    raw.post(&get_folder());
    assert!(sim.wait_until(LONG, |_| sim.exchange().count("GetFolder") == 4));
    // A client that gives up frees the thread.
    raw.close();
    assert!(sim.wait_until(LONG, |s| s.threads == 0 && s.open == 0));
}

// A server that accepts and then says nothing is what a client's connect time-out is for.
#[test]
fn no_handshake() {
    let sim = Sim::builder().user(ADA, SECRET).fault(Fault::new(Action::NoHandshake)).start().unwrap();
    let held = Raw::connect(&sim);
    held.sock().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut held = held;
    assert_eq!(held.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(Raw::connect(&sim).ask(&get_folder()).status, 200, "only the first connection");
    assert_eq!(sim.stats().accepted, 2);
    let stats = sim.stop();
    assert_eq!((stats.threads, stats.open), (0, 0));
}

// A client's bounds can only be tested if the server really sends what is beyond them.
#[test]
fn hostile_bodies() {
    let sim = plain();
    for (action, mark, count) in [
        (Action::Oversize { bytes: 20_000_000 }, "a", 20_000_000),
        (Action::Attributes { count: 100_000 }, "=\"\" ", 99_999),
        (Action::Nested { depth: 10_000 }, "<t:n>", 10_000),
        (Action::Dtd, "<!ENTITY", 1),
        (Action::EntityBomb, "<!ENTITY", 10),
    ] {
        sim.add_fault(Fault::new(action.clone()));
        let mut raw = Raw::connect(&sim);
        let reply = raw.ask(&get_folder());
        assert!(reply.body.matches(mark).count() >= count, "{action:?}");
        assert!(reply.body.contains("</m:GetFolderResponse>"), "{action:?}");
        assert!(reply.body.ends_with("</Envelope>"), "{action:?}");
    }
    sim.add_fault(Fault::new(Action::Oversize { bytes: 1 << 40 }).on("GetStreamingEvents").envelope(2));
    let mut raw = Raw::connect(&sim);
    raw.open_stream();
    sim.exchange().deliver(ADA, &mail("x")).unwrap();
    raw.take(5_000_000).unwrap();
    // The client does not read on; the server must still stop.
    let stats = sim.stop();
    assert_eq!((stats.threads, stats.open, stats.panics), (0, 0, 0));
}

// What gromox does after a fault confuses clients that keep the connection.
#[test]
fn gromox_answers_twice() {
    let sim = Sim::builder().tls(false).style(Style::Gromox).user(ADA, SECRET).start().unwrap();
    let mut raw = Raw::connect(&sim);
    let reply = raw.ask(&get_streaming_events("not-an-id"));
    assert_eq!(
        reply.head.lines().map(|l| l.split(':').next().unwrap()).collect::<Vec<_>>(),
        ["HTTP/1.1 200 OK", "Content-Type", "Content-Length", ""]
    );
    assert!(reply.body.contains("<SOAP:Fault>"), "{}", reply.body);
    let stray = raw.reply();
    assert_eq!((stray.status, stray.header("content-length")), (200, Some("627")));
    assert!(stray.body.contains("<SOAP:Body><GetStreamingEvents xmlns:m="), "{}", stray.body);
}

// Whatever hangs, a dropped server is gone within a moment, and its port with it.
#[test]
fn stop_ends_everything() {
    let sim = start_sim();
    let mut streams: Vec<Raw> = (0..5).map(|_| Raw::connect(&sim)).collect();
    for raw in &mut streams {
        raw.open_stream();
    }
    sim.add_fault(Fault::new(Action::NoAnswer));
    sim.add_fault(Fault::new(Action::SlowHead { delay: LONG }));
    sim.add_fault(Fault::new(Action::Stall { byte: 3 }));
    let mut hanging: Vec<Raw> = (0..3).map(|_| Raw::connect(&sim)).collect();
    for (i, raw) in hanging.iter_mut().enumerate() {
        raw.post(&get_folder());
        assert!(sim.wait_until(LONG, |_| sim.requests().len() == 11 + i));
    }
    // One of these two is not shaken hands with; no other is on its way then that could take the fault.
    sim.add_fault(Fault::new(Action::NoHandshake));
    let held = TcpStream::connect(sim.address()).unwrap();
    let half = TcpStream::connect(sim.address()).unwrap();
    assert!(sim.wait_until(LONG, |s| s.threads == 10 && s.streams == 5));
    sim.stall_streams();
    let address = sim.address();
    let stats = sim.stop();
    assert_eq!((stats.threads, stats.open, stats.streams, stats.panics), (0, 0, 0, 0));
    assert!(TcpStream::connect(address).is_err());
    for raw in streams.iter_mut().chain(&mut hanging) {
        raw.take_all();
    }
    drop((held, half));
}

// The demo's break is a line of a script; a server that is down must look down.
#[test]
fn script_and_refusal() {
    let script = "on GetFolder status code=503 retry-after=1\nat 10ms cut-streams\nat 20ms refuse\n";
    let sim =
        Sim::builder().tls(false).user(ADA, SECRET).script(Script::parse(script).unwrap()).start().unwrap();
    let refused = |sim: &Sim| {
        let Ok(mut sock) = TcpStream::connect(sim.address()) else { return true };
        sock.set_read_timeout(Some(LONG)).unwrap();
        use std::io::{Read, Write};
        let request = format!("GET / HTTP/1.1\r\n{}\r\n", basic(ADA, SECRET));
        sock.write_all(request.as_bytes()).is_err() || sock.read(&mut [0; 10]).is_err()
    };
    assert!(sim.wait_until(LONG, |_| refused(&sim)));
    sim.refuse_connections(false);
    sim.control(&Control::LoseSubscriptions { user: ADA.to_owned() });
    let mut raw = Raw::connect(&sim);
    assert_eq!(raw.ask(&get_folder()).status, 503);
    assert_eq!(raw.ask(&get_folder()).status, 200);
    raw.open_stream();
    sim.control(&Control::SilentDeath { user: ADA.to_owned() });
    sim.exchange().deliver(ADA, &mail("unheard")).unwrap();
    sim.control(&Control::LoseSubscriptions { user: ADA.to_owned() });
    let next = raw.chunk().unwrap();
    assert!(next.contains("ErrorSubscriptionNotFound") && !next.contains("NewMailEvent"), "{next}");
    let mut raw = Raw::connect(&sim);
    let id = raw.open_stream();
    sim.control(&Control::Restart { how: Cut::Reset });
    assert_eq!(sim.stats().open, 0);
    let mut raw = Raw::connect(&sim);
    raw.post(&get_streaming_events(&id));
    assert!(raw.reply().body.contains("ErrorSubscriptionNotFound"));
}
