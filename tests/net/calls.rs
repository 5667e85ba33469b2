//! Whole answers: what goes out, what comes back, and on how many sockets.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ewsnotify::ErrorKind;
use ewsnotify::net::{Cancel, Link, Opened};

use crate::server::*;

// A server that misses a header answers with something else; a password in the wrong place is a password lost.
#[test]
fn a_request_has_all_that_exchange_wants() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let server = Server::start(move |mut stream, _| {
        while let Some(request) = read_request(&mut stream) {
            keep.lock().unwrap().push(request);
            stream.write_all(&ok(ENVELOPE)).unwrap();
        }
    });
    let client = server.client();
    let reply = client.call().unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, ENVELOPE.as_bytes()));
    client.call().unwrap();
    let seen = seen.lock().unwrap();
    let (head, body) = &seen[0];
    assert!(head.starts_with("POST /EWS/Exchange.asmx HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, b"<ask/>");
    for (name, value) in [
        ("host", server.address.to_string().as_str()),
        ("authorization", SIGNATURE),
        ("content-type", "text/xml; charset=utf-8"),
        ("accept", "text/xml"),
        ("accept-encoding", "identity"),
        ("soapaction", "\"http://example.test/ews/GetFolder\""),
        ("x-anchormailbox", USER),
        ("return-client-request-id", "true"),
        ("user-agent", concat!("ewsnotify/", env!("CARGO_PKG_VERSION"))),
        ("content-length", "6"),
    ] {
        assert_eq!(header(head, name), Some(value), "{name} in {head}");
        assert_eq!(head.to_lowercase().matches(&format!("\r\n{name}:")).count(), 1, "{name} in {head}");
    }
    let ids: Vec<_> = seen.iter().map(|(head, _)| header(head, "client-request-id").unwrap()).collect();
    assert!(ids[0].len() == 36 && ids[0] != ids[1], "{ids:?}");
    // Kept alive: the second went over the same socket.
    assert_eq!((server.accepted(), client.counters.sockets_opened()), (1, 1));
}

// Events that come late, out of order or not at all.
#[test]
fn a_stream_gives_what_comes_as_it_comes() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream).unwrap();
        stream.write_all(CHUNKED_HEAD).unwrap();
        stream.write_all(&chunk("<Envelope>1</Envelope>")).unwrap();
        // The next is sent when the first has been seen: it must not wait for company.
        if read_request(&mut stream).is_none() {
            return;
        }
        stream.write_all(&chunk("<Envelope>2</Envelope>")).unwrap();
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let client = server.client();
    let mut stream = client.stream();
    let mut piece = [0; 100];
    let n = stream.read(&mut piece, None).unwrap();
    assert_eq!(&piece[..n], b"<Envelope>1</Envelope>");
    assert_eq!(client.counters.sockets_open(), 1);
    drop(stream);
    assert_eq!(client.counters.sockets_open(), 0);
}

// A fault is an answer: the engine reads its code.
#[test]
fn a_fault_comes_whole_from_both() {
    let server =
        Server::answering(answer("500 Internal Server Error", "Content-Type: text/xml\r\n", "<s:Envelope/>"));
    let client = server.client();
    assert_eq!(client.call().unwrap().status, 500);
    let Ok(Opened::Whole(reply)) = client.open() else { panic!("not whole") };
    assert_eq!((reply.status, &reply.body[..]), (500, &b"<s:Envelope/>"[..]));
}

// A client that is closed before it began must not open anything.
#[test]
fn what_was_cancelled_before_does_nothing() {
    let server = Server::answering(ok(ENVELOPE));
    let client = server.client();
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(client.link.call(&post(), &cancel).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.link.open(&post(), &cancel).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.counters.sockets_open(), 0);
}

// Each call on a socket of its own costs a handshake, and a server's limit of connections.
#[test]
fn calls_share_kept_sockets_and_their_number_is_bounded() {
    let server = Server::answering(ok(ENVELOPE));
    let client = Arc::new(server.client());
    for _ in 0..50 {
        client.call().unwrap();
    }
    assert_eq!((server.accepted(), client.counters.sockets_open()), (1, 1));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || (0..20).for_each(|_| drop(client.call().unwrap())))
        })
        .collect();
    callers.into_iter().for_each(|c| c.join().unwrap());
    assert!(client.counters.sockets_open() <= 4, "{:?}", client.counters);
    let counters = client.counters.clone();
    drop(client);
    assert_eq!(counters.sockets_open(), 0);
}

// After a fault gromox sends a second answer: read as the answer to the next request, every later one is off by one.
#[test]
fn a_socket_is_not_used_again_after_a_fault_or_with_bytes_left_over() {
    let server = Server::start(|mut stream, number| {
        while read_request(&mut stream).is_some() {
            let mut out = match number {
                0 => answer("500 Internal Server Error", "", "<Fault/>"),
                1 => ok("<Second/>"),
                _ => ok("<Third/>"),
            };
            if number < 2 {
                out.extend(ok("<Stray/>"));
            }
            stream.write_all(&out).unwrap();
        }
    });
    let client = server.client();
    let bodies: Vec<_> = (0..4).map(|_| String::from_utf8(client.call().unwrap().body).unwrap()).collect();
    assert_eq!(bodies, ["<Fault/>", "<Second/>", "<Third/>", "<Third/>"]);
}

/// A server that answers once on each connection and closes it when the next request is here.
fn forgetful() -> Server {
    Server::start(|mut stream, _| {
        read_request(&mut stream).unwrap();
        stream.write_all(&ok(ENVELOPE)).unwrap();
        read_request(&mut stream);
    })
}

// Servers close idle sockets; a user must not see an error for each.
#[test]
fn a_kept_socket_that_closes_under_a_request_is_replaced_once() {
    let server = forgetful();
    let client = server.client();
    for n in 1..=5 {
        client.call().unwrap();
        assert_eq!(server.accepted(), n);
    }
    assert_eq!(client.counters.sockets_open(), 1);
}

// Repeating GetEvents hides a gap: what the lost answer told is told by nobody.
#[test]
fn get_events_is_not_repeated() {
    let server = forgetful();
    let client = server.client();
    client.call().unwrap();
    let post = ewsnotify::net::Post { soap_action: "http://example.test/ews/GetEvents", ..post() };
    let e = client.link.call(&post, &Cancel::new()).map_err(harmless).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io, "{e}");
    assert!(e.is_retryable());
    assert_eq!(server.accepted(), 1);
}

// A fresh connection that is closed without an answer is the server's word, not an old socket's: asking again and again would
// be a busy loop, and doubles what was done.
#[test]
fn a_fresh_socket_is_not_retried() {
    let server = Server::start(|mut stream, _| drop(read_request(&mut stream)));
    let client = server.client();
    let e = client.call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io, "{e}");
    assert!(e.to_string().contains("closed the connection while waiting for the answer"), "{e}");
    assert_eq!((server.accepted(), client.counters.sockets_open()), (1, 0));
}

// A half-received answer must never be asked for again silently, nor be taken for a whole one.
#[test]
fn a_kept_socket_that_breaks_within_an_answer_is_an_error() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream).unwrap();
        stream.write_all(&ok(ENVELOPE)).unwrap();
        read_request(&mut stream).unwrap();
        stream.write_all(&ok(ENVELOPE)[..40]).unwrap();
    });
    let client = server.client();
    client.call().unwrap();
    assert_eq!(client.call().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(server.accepted(), 1);
}

// Servers that refuse often answer before they have read all, and reset: the refusal must come through, not the reset.
#[test]
fn an_answer_before_the_whole_request_was_read_is_seen() {
    let server = Server::start(|mut stream, _| {
        use std::io::Read;
        stream.read_exact(&mut [0; 100]).unwrap();
        stream.write_all(&answer("413 Too Large", "", "")).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Until the client has had enough.
        while stream.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {}
    });
    let client = server.client();
    let body = vec![b' '; 4 << 20];
    let post = ewsnotify::net::Post { body: &body, ..post() };
    let e = client.link.call(&post, &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.http_status()), (ErrorKind::Http, Some(413)), "{e}");
}

// The bound on memory, whether the server says the length or not.
#[test]
fn an_answer_that_is_too_long_is_a_limit() {
    let chunked = [CHUNKED_HEAD, &chunk(&"<x/>".repeat(300)), b"0\r\n\r\n"].concat();
    for out in [ok(&"<x/>".repeat(300)), chunked, answer("500 x", "", &"<x/>".repeat(300))] {
        let server = Server::answering(out);
        let client =
            Client::new(&server.url(), ewsnotify::net::Config { max_response_bytes: 1000, ..config() });
        let e = client.call().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit);
        assert!(e.to_string().contains("max_response_bytes"), "{e}");
        assert_eq!(client.counters.sockets_open(), 0);
    }
    let server = Server::answering(ok(&"<x/>".repeat(250)));
    let client = Client::new(&server.url(), ewsnotify::net::Config { max_response_bytes: 1000, ..config() });
    assert_eq!(client.call().unwrap().body.len(), 1000);
}

// Dates from which the engine tells new mail from old.
#[test]
fn the_servers_clock_is_read() {
    let server = Server::answering(answer("200 OK", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "<x/>"));
    let date = server.client().call().unwrap().date.unwrap();
    assert_eq!(date.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
    assert!(Server::answering(ok("<x/>")).client().call().unwrap().date.is_none());
}

// At log level trace `ureq` writes every byte that it is given to the host's log.
#[test]
fn no_log_line_of_any_level_has_the_password() {
    struct Keep(Mutex<(Option<std::thread::ThreadId>, String)>);
    impl log::Log for Keep {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let mut kept = self.0.lock().unwrap();
            if kept.0 == Some(std::thread::current().id()) {
                // `ureq` logs bytes as rows of 39 places of hex and then 16 characters: these joined are the text again.
                let text = record.args().to_string();
                let row = text.get(41..).filter(|_| text.get(39..41) == Some("  "));
                kept.1.push_str(row.unwrap_or(&text));
            }
        }
        fn flush(&self) {}
    }
    static KEEP: Keep = Keep(Mutex::new((None, String::new())));
    KEEP.0.lock().unwrap().0 = Some(std::thread::current().id());
    log::set_logger(&KEEP).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let server = Server::answering(ok(ENVELOPE));
    server.client().call().unwrap();
    log::set_max_level(log::LevelFilter::Off);
    let logged = &KEEP.0.lock().unwrap().1;
    assert!(logged.contains("http://example.test/ews/GetFolder"), "nothing was logged: {logged}");
    for secret in [PASSWORD, SIGNATURE, &SIGNATURE[6..18]] {
        assert!(!logged.contains(secret), "{logged}");
    }
}

// The same when the second answer comes late, after the next request went out: it would be taken for that one's.
#[test]
fn a_faults_socket_is_closed_though_nothing_is_left_over() {
    let server = Server::answering(answer("500 Internal Server Error", "", "<Fault/>"));
    let client = server.client();
    for n in 1..4 {
        client.call().unwrap();
        assert_eq!((server.accepted(), client.counters.sockets_open()), (n, 0));
    }
}
