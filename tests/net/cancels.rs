//! Closing from another thread, in every state: at once, with the right kind, and with nothing left open.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use ewsnotify::net::{Cancel, Counters, Link, Opened};
use ewsnotify::{Error, ErrorKind, Result};

use crate::server::*;

/// Starts `work` on a thread, cancels it when `ready` says so, and gives its error and whether everything was closed.
fn cancelled(
    client: &Client,
    what: &'static str,
    work: impl FnOnce(&dyn Link, &Cancel) -> Result<()> + Send + 'static,
    ready: impl FnOnce(&Counters),
) -> Error {
    let cancel = Cancel::new();
    let (link, for_work) = (client.link.clone(), cancel.clone());
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(work(&*link, &for_work)));
    ready(&client.counters);
    cancel.cancel();
    let e = outcome
        .recv_timeout(DEADLINE)
        .unwrap_or_else(|e| panic!("{what}: {e}"))
        .map_err(harmless)
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Closed, "{what}: {e}");
    assert_eq!(client.counters.sockets_open(), 0, "{what}");
    e
}

fn call(link: &dyn Link, cancel: &Cancel) -> Result<()> {
    link.call(&post(), cancel).map(drop)
}

fn open(link: &dyn Link, cancel: &Cancel) -> Result<()> {
    link.open(&post(), cancel).map(drop)
}

fn read(link: &dyn Link, cancel: &Cancel) -> Result<()> {
    match link.open(&post(), cancel)? {
        Opened::Stream(mut stream) => loop {
            stream.read(&mut [0; 100], None)?;
        },
        Opened::Whole(reply) => panic!("{reply:?}"),
    }
}

/// A server that sends `begin`, says so, and is silent until the client is gone.
fn silent_after(begin: &[u8], wants_request: bool) -> (Server, mpsc::Receiver<()>) {
    let (say, said) = mpsc::channel();
    let (say, begin) = (Mutex::new(say), begin.to_vec());
    let server = Server::start(move |mut stream, _| {
        if wants_request {
            read_request(&mut stream);
        } else {
            // The first bytes of a handshake.
            let _ = stream.read(&mut [0; 10]);
        }
        let _ = stream.write_all(&begin);
        say.lock().unwrap().send(()).unwrap();
        while stream.read(&mut [0; 1000]).is_ok_and(|n| n > 0) {}
    });
    (server, said)
}

// A program that cannot end because a server is silent has to be killed.
#[test]
fn in_every_state_of_an_answer() {
    for (what, begin, work) in [
        ("head of a call", &b""[..], call as fn(&dyn Link, &Cancel) -> Result<()>),
        ("head of a stream", b"", open),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-", open),
        ("body of a call", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<x>", call),
        ("body of a stream", CHUNKED_HEAD, read),
        ("within a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabc", read),
        // Here the end of the connection would be a proper end of the body.
        ("body without an end", b"HTTP/1.1 200 OK\r\n\r\n<x>", read),
        ("body without an end, of a call", b"HTTP/1.1 200 OK\r\n\r\n<x>", call),
        ("a redirect's body", b"HTTP/1.1 307 x\r\nLocation: /x\r\nContent-Length: 9\r\n\r\nx", call),
        ("a page", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 99\r\n\r\nx", open),
    ] {
        let (server, said) = silent_after(begin, true);
        cancelled(&server.client(), what, work, |_| said.recv_timeout(DEADLINE).unwrap());
    }
}

// The same for a request that the server does not take.
#[test]
fn while_sending() {
    let server = Server::start(|stream, _| {
        let _open = stream;
        thread::park_timeout(DEADLINE * 2);
    });
    let work = |link: &dyn Link, cancel: &Cancel| {
        let body = vec![b' '; 64 << 20];
        link.call(&ewsnotify::net::Post { body: &body, ..post() }, cancel).map(drop)
    };
    let e = cancelled(&server.client(), "sending", work, |counters| {
        eventually("bytes go out", || counters.bytes_out() > 0);
    });
    assert!(e.to_string().contains("sending"), "{e}");
}

// The same for a server that is switched off.
#[test]
fn while_connecting() {
    let full = full_listener();
    let client = Client::new(&full.url, config());
    let e = cancelled(&client, "connecting", call, |counters| {
        eventually("a socket", || counters.sockets_open() == 1);
    });
    assert!(e.to_string().contains("while connecting"), "{e}");
    assert_eq!(client.counters.sockets_opened(), 0);
}

// The same for a TLS server that hangs.
#[test]
fn in_the_handshake() {
    let (server, said) = silent_after(b"\x16\x03\x03\x00\x7a\x02", false);
    let client = Client::new(&server.url().replace("http:", "https:"), config());
    let e = cancelled(&client, "handshake", call, |_| said.recv_timeout(DEADLINE).unwrap());
    assert!(e.to_string().contains("handshake"), "{e}");
}

// One close ends all of a client's connections.
#[test]
fn one_cancel_ends_many() {
    let (server, said) = silent_after(CHUNKED_HEAD, true);
    let client = server.client();
    let cancel = Cancel::new();
    let (done, outcomes) = mpsc::channel();
    for _ in 0..20 {
        let (link, cancel, done) = (client.link.clone(), cancel.clone(), done.clone());
        thread::spawn(move || done.send(read(&*link, &cancel).map_err(|e| e.kind())));
    }
    (0..20).for_each(|_| said.recv_timeout(DEADLINE).unwrap());
    cancel.cancel();
    for _ in 0..20 {
        assert_eq!(outcomes.recv_timeout(DEADLINE).unwrap(), Err(ErrorKind::Closed));
    }
    assert_eq!(client.counters.sockets_open(), 0);
}

// A call that is cancelled must not take the other calls' sockets along, nor leave its own to them.
#[test]
fn another_calls_cancel_does_not_matter() {
    let server = Server::answering(ok(ENVELOPE));
    let client = server.client();
    let first = Cancel::new();
    client.link.call(&post(), &first).unwrap();
    // The socket is kept, and no longer the first one's.
    first.cancel();
    assert_eq!(client.counters.sockets_open(), 1);
    client.call().unwrap();
    assert_eq!(server.accepted(), 1);
    // But it is the next one's, as long as that one runs.
    let (server, said) = {
        let (say, said) = mpsc::channel();
        let say = Mutex::new(say);
        let server = Server::start(move |mut stream, _| {
            read_request(&mut stream);
            stream.write_all(&ok(ENVELOPE)).unwrap();
            read_request(&mut stream);
            say.lock().unwrap().send(()).unwrap();
            while stream.read(&mut [0; 1000]).is_ok_and(|n| n > 0) {}
        });
        (server, said)
    };
    let client = server.client();
    client.call().unwrap();
    cancelled(&client, "a kept socket", call, |_| said.recv_timeout(DEADLINE).unwrap());
    assert_eq!(server.accepted(), 1);
}

// Between any two of our steps: a close that comes in a gap between looking and sleeping must not be slept through.
#[test]
fn at_any_moment() {
    let server = Server::start(|mut stream, _| {
        while read_request(&mut stream).is_some() {
            let _ = stream.write_all(CHUNKED_HEAD);
            let _ = stream.write_all(&chunk("<x/>"));
        }
    });
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let client = server.client();
    for round in 0..400 {
        let cancel = Cancel::new();
        let (link, for_work) = (client.link.clone(), cancel.clone());
        let (done, outcome) = mpsc::channel();
        thread::spawn(move || done.send(read(&*link, &for_work).map_err(|e| e.kind())));
        (0..random.u32(..60)).for_each(|_| thread::yield_now());
        cancel.cancel();
        let got =
            outcome.recv_timeout(DEADLINE).unwrap_or_else(|e| panic!("round {round}, seed {seed}: {e}"));
        assert_eq!(got, Err(ErrorKind::Closed), "round {round}, seed {seed}");
    }
    assert_eq!(client.counters.sockets_open(), 0);
}

// Dropping a stream is how one is ended: its socket must go with it.
#[test]
fn dropping_closes() {
    let (server, _said) = silent_after(CHUNKED_HEAD, true);
    let client = server.client();
    let streams: Vec<_> = (0..5).map(|_| client.stream()).collect();
    assert_eq!(client.counters.sockets_open(), 5);
    drop(streams);
    assert_eq!(client.counters.sockets_open(), 0);
    let counters = Arc::clone(&client.counters);
    drop(client);
    assert_eq!(Arc::strong_count(&counters), 1);
}
