//! The simulator's server over real sockets: HTTP, TLS, streams, and each fault to the byte.
#![cfg(feature = "sim")]

mod common;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use common::*;
use ewsnotify::sim::fault::{Action, Cut, Fault};
use ewsnotify::sim::record::End;
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

// An event must come in a chunk of its own, at once; the log must know that it went out.
#[test]
fn stream() {
    for tls in [false, true] {
        let sim = Sim::builder().tls(tls).user(ADA, SECRET).start().unwrap();
        let mut raw = Raw::connect(&sim);
        let id = text_of(&raw.ask(&subscribe()).body, "SubscriptionId").unwrap();
        raw.post(&get_streaming_events(&id));
        let (status, head) = raw.head().unwrap();
        assert_eq!((status, header(&head, "x-nobuffering")), (200, Some("1")));
        let first = raw.chunk().unwrap();
        assert!(first.starts_with("<Envelope ") && first.contains("<m:ConnectionStatus>OK<"), "{first}");
        for subject in ["one", "two"] {
            sim.exchange().deliver(ADA, &mail(subject)).unwrap();
            let chunk = raw.chunk().unwrap();
            assert!(chunk.contains("<t:NewMailEvent>") && chunk.ends_with("</Envelope>"), "{chunk}");
        }
        assert!(sim.wait_until(LONG, |s| s.streams == 1));
        assert!(sim.wait_until(LONG, |_| sim.streams()[0].written == 3));
        // The client closes: an idle stream must notice.
        raw.close();
        assert!(sim.wait_until(LONG, |s| s.streams == 0 && s.open == 0));
        let log = &sim.streams()[0];
        assert_eq!((log.user.as_str(), log.written, log.lost.len(), log.end), (ADA, 3, 0, Some(End::Client)));
        // Its subscription queues again, and the next stream has what came meanwhile.
        assert_eq!(sim.exchange().open_streams(), 0);
        sim.exchange().deliver(ADA, &mail("three")).unwrap();
        let mut raw = Raw::connect(&sim);
        raw.reopen_stream(&id);
        assert!(raw.chunk().unwrap().contains("<t:NewMailEvent>"));
    }
}

// A stream that ends in order leaves the connection usable.
#[test]
fn stream_ends_in_order() {
    let sim = start_sim();
    let mut raw = Raw::connect(&sim);
    raw.open_stream();
    sim.exchange().advance(Duration::from_secs(31 * 60));
    let mut last = String::new();
    loop {
        let chunk = raw.chunk().unwrap();
        if chunk.is_empty() {
            break;
        }
        last = chunk;
    }
    assert!(last.contains("<m:ConnectionStatus>Closed</m:ConnectionStatus>"), "{last}");
    assert_eq!(raw.ask(&get_folder()).status, 200);
    assert_eq!(sim.streams()[0].end, Some(End::Finished));
    assert_eq!(sim.stats().accepted, 1);
}

// After a cut a test must know exactly what the client can have got.
#[test]
fn cut_streams() {
    for tls in [false, true] {
        for how in [Cut::Fin, Cut::Reset] {
            let sim = Sim::builder().tls(tls).user(ADA, SECRET).start().unwrap();
            let mut raw = Raw::connect(&sim);
            let id = raw.open_stream();
            let mut other = Raw::connect(&sim);
            assert_eq!(other.ask(&get_folder()).status, 200);
            sim.cut_streams(how);
            let expected = match how {
                Cut::Reset => Some(ErrorKind::ConnectionReset),
                Cut::Fin => tls.then_some(ErrorKind::UnexpectedEof),
            };
            assert_eq!(raw.take_all(), (vec![], expected));
            assert_eq!(sim.streams()[0].end, Some(End::Cut(how)));
            assert_eq!((sim.streams()[0].written, sim.stats().streams), (1, 0));
            // What comes now is not written to the dead socket.
            sim.exchange().deliver(ADA, &mail("later")).unwrap();
            raw = Raw::connect(&sim);
            raw.reopen_stream(&id);
            assert!(raw.chunk().unwrap().contains("<t:NewMailEvent>"));
            assert_eq!(other.ask(&get_folder()).status, 200, "only streams were cut");
            sim.cut_connections(how);
            assert_eq!(sim.stats().open, 0);
        }
    }
}

// A half-open link: the server believes that it writes. What it "wrote" comes after all, or is gone with the connection.
#[test]
fn stalled_streams() {
    let sim = start_sim();
    let mut raw = Raw::connect(&sim);
    let id = raw.open_stream();
    let kept = |n| {
        assert!(
            sim.wait_until(LONG, |_| sim.exchange().ledger().iter().filter(|t| t.connection > 0).count()
                == n)
        );
    };
    sim.stall_streams();
    sim.exchange().deliver(ADA, &mail("held")).unwrap();
    kept(1);
    assert_eq!(sim.streams()[0].written, 1);
    sim.resume();
    assert!(raw.chunk().unwrap().contains("<t:NewMailEvent>"));

    sim.stall_streams();
    sim.exchange().deliver(ADA, &mail("gone")).unwrap();
    kept(2);
    sim.cut_streams(Cut::Fin);
    assert_eq!(raw.take_all().0, b"");
    let log = &sim.streams()[0];
    assert_eq!((log.written, log.lost.len()), (2, 1));
    assert!(sim.exchange().ledger().iter().all(|told| told.connection == log.in_ledger));
    assert!(String::from_utf8_lossy(&log.lost[0]).contains("<t:NewMailEvent>"));
    // The new connection does not get it: it is gone.
    sim.exchange().deliver(ADA, &mail("next")).unwrap();
    let mut raw = Raw::connect(&sim);
    raw.reopen_stream(&id);
    assert_eq!(raw.chunk().unwrap().matches("<t:NewMailEvent>").count(), 1);
}

// For every byte at which a stream can break: what the log calls written is what a client can read, no more and no less.
#[test]
fn stream_cut_at_byte() {
    let sim = plain();
    // How long the answer with the first envelope is.
    let mut raw = Raw::connect(&sim);
    raw.open_stream();
    assert!(sim.wait_until(LONG, |_| sim.streams()[0].written == 1));
    let first = sim.streams()[0].bytes;
    raw.close();
    for (n, byte) in
        [0, 5, first - 3, first - 2, first, first + 1, first + 40, first + 700].into_iter().enumerate()
    {
        sim.add_fault(Fault::new(Action::Cut { byte, how: Cut::Fin }).on("GetStreamingEvents"));
        let mut raw = Raw::connect(&sim);
        let id = text_of(&raw.ask(&subscribe()).body, "SubscriptionId").unwrap();
        raw.post(&get_streaming_events(&id));
        if byte > first {
            assert!(sim.wait_until(LONG, |_| sim.streams().last().unwrap().written == 1));
            sim.exchange().deliver(ADA, &mail("x")).unwrap();
        }
        let (bytes, _) = raw.take_all();
        let log = &sim.streams()[n + 1];
        assert_eq!((bytes.len() as u64, log.bytes), (byte, byte));
        let whole = bytes.windows(11).filter(|w| w == b"</Envelope>").count() as u64;
        assert_eq!(log.written, whole, "cut at {byte}");
        // The head alone costs no envelope; after it each that was begun is either written or lost.
        let taken = if byte < 100 { 0 } else { 1 + u64::from(byte > first) };
        assert_eq!(log.written + log.lost.len() as u64, taken, "cut at {byte}");
        assert_eq!(log.end, Some(End::Cut(Cut::Fin)));
    }
}

// Envelopes and chunks are different things, and clients that take them for one must be found out.
#[test]
fn envelopes_and_chunks() {
    let sim = plain();
    let fault = |action| Fault::new(action).on("GetStreamingEvents").envelope(2);
    sim.add_fault(fault(Action::TwoInChunk));
    sim.add_fault(fault(Action::ManyChunks { size: 7 }));
    sim.add_fault(fault(Action::BadXml));
    let stream = || {
        let mut raw = Raw::connect(&sim);
        let id = raw.open_stream();
        (raw, id)
    };
    let (mut raw, _) = stream();
    sim.exchange().deliver(ADA, &mail("a")).unwrap();
    assert!(sim.wait_until(LONG, |_| sim.exchange().ledger().iter().any(|t| t.connection > 0)));
    sim.exchange().deliver(ADA, &mail("b")).unwrap();
    let both = raw.chunk().unwrap();
    assert_eq!((both.matches("<Envelope ").count(), both.matches("<t:NewMailEvent>").count()), (2, 2));
    sim.exchange().deliver(ADA, &mail("c")).unwrap();
    assert_eq!(raw.chunk().unwrap().matches("<Envelope ").count(), 1);
    raw.close();

    let (mut raw, _) = stream();
    sim.exchange().deliver(ADA, &mail("d")).unwrap();
    let mut all = String::new();
    while !all.ends_with("</Envelope>") {
        let chunk = raw.chunk().unwrap();
        assert!(chunk.len() <= 7);
        all.push_str(&chunk);
    }
    assert!(all.contains("<t:NewMailEvent>"));
    assert!(sim.wait_until(LONG, |_| sim.streams()[1].written == 2));
    raw.close();

    let (mut raw, _) = stream();
    sim.exchange().deliver(ADA, &mail("e")).unwrap();
    let bad = raw.chunk().unwrap();
    assert!(bad.contains("</un") && bad.ends_with("</Envelope>"));
    sim.exchange().deliver(ADA, &mail("f")).unwrap();
    assert!(raw.chunk().unwrap().contains("<t:NewMailEvent>"));
    // The log is written after the bytes.
    assert!(sim.wait_until(LONG, |_| sim.streams()[2].written >= 2));
    let log = &sim.streams()[2];
    assert_eq!((log.written, log.lost.len()), (2, 1));
    assert!(String::from_utf8_lossy(&log.lost[0]).contains("<t:NewMailEvent>"));
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
