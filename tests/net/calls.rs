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
