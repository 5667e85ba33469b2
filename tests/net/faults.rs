//! Connections that break, stall and lie.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ewsnotify::ErrorKind;
use ewsnotify::net::{Config, Opened};

use crate::server::*;

// Long enough that a busy machine connects, and a peer has its say, before it is over.
const SHORT: Duration = Duration::from_millis(300);

fn short(what: impl FnOnce(&mut Config)) -> Config {
    let mut config = config();
    what(&mut config);
    config
}

/// Closes so that the peer gets a reset.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// An answer in two chunks with an extension and a trailer, as short as such a thing can be.
fn chunked_answer() -> Vec<u8> {
    [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
        b"4;a=b\r\n<x>1\r\n",
        b"4\r\n</x>\r\n",
        b"0\r\n\r\n",
    ]
    .concat()
}

// A truncated answer taken for a whole one loses events without a word; a hang loses all of them.
#[test]
fn an_answer_cut_anywhere_is_an_error_or_whole() {
    within_deadline("cutting an answer", || {
        let whole = chunked_answer();
        for by_reset in [false, true] {
            for n in 0..=whole.len() {
                let begin = whole[..n].to_vec();
                let server = Server::start(move |mut stream, _| {
                    read_request(&mut stream).unwrap();
                    stream.write_all(&begin).unwrap();
                    if by_reset {
                        reset(stream);
                    }
                });
                let client = server.client();
                // All that belongs to the body is here once its last chunk's "0 CR LF" is.
                let complete = n >= whole.len() - 2;
                match client.call() {
                    Ok(reply) => assert!(complete && reply.body == b"<x>1</x>", "cut at {n}: {reply:?}"),
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::Io, "cut at {n}: {e}");
                        assert!(n < whole.len(), "cut at {n}: {e}");
                    }
                }
                match client.open() {
                    Ok(Opened::Stream(mut stream)) => {
                        let (bytes, error) = read_all(&mut *stream);
                        assert!(b"<x>1</x>".starts_with(&bytes[..]), "cut at {n}");
                        assert!(error.is_some() || complete, "cut at {n}: a clean end");
                        if let Some(e) = error {
                            assert_eq!(e.kind(), ErrorKind::Io, "cut at {n}: {e}");
                            // And it stays an error: no clean end afterwards.
                            let again = stream.read(&mut [0; 10], None).map_err(|e| e.kind());
                            assert_eq!(again, Err(ErrorKind::Io), "cut at {n}");
                        }
                    }
                    Ok(other) => panic!("cut at {n}: {other:?}"),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Io, "cut at {n}: {e}"),
                }
                assert!(client.counters.sockets_open() <= 1, "cut at {n}");
            }
        }
    });
}

// A body without length or chunks ends where the connection ends; a reset there is no end.
#[test]
fn a_body_until_the_end_of_the_connection() {
    for by_reset in [false, true] {
        let server = Server::start(move |mut stream, _| {
            read_request(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n<x>all</x>").unwrap();
            if by_reset {
                // Only when the client has the bytes: a reset throws away what is on the way.
                read_request(&mut stream);
                reset(stream);
            } else {
                stream.shutdown(Shutdown::Write).unwrap();
            }
        });
        let client = server.client();
        let mut stream = client.stream();
        let (mut got, mut piece) = (Vec::new(), [0; 100]);
        while got.len() < 10 {
            let n = stream.read(&mut piece, None).unwrap();
            got.extend_from_slice(&piece[..n]);
        }
        assert_eq!(got, b"<x>all</x>");
        if !by_reset {
            assert_eq!(stream.read(&mut piece, None).unwrap(), 0);
        }
    }
}

// Answers that are no HTTP, or lie about their framing: an error, no panic, no hang.
#[test]
fn nonsense_is_an_error() {
    for out in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdXX",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    ] {
        let server = Server::start(move |mut stream, _| {
            read_request(&mut stream).unwrap();
            stream.write_all(out.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let client = server.client();
        let e = within_deadline(out, move || client.call().unwrap_err());
        assert!(matches!(e.kind(), ErrorKind::Protocol | ErrorKind::Io), "{out:?}: {e}");
    }
}

// "Peer disconnected" would be told of a server that only talks too much.
#[test]
fn a_head_that_is_too_long_is_told_as_such() {
    let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
    for out in [answer("200 OK", &long, "<x/>"), [CHUNKED_HEAD, &b"4;"[..], &vec![b'e'; 20_000]].concat()] {
        let e = Server::answering(out).client().call().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
        assert!(e.to_string().contains("16 KiB"), "{e}");
    }
    let fits = answer("200 OK", &format!("X-Long: {}\r\n", "x".repeat(15_000)), "<x/>");
    Server::answering(fits).client().call().unwrap();
}

// Each wait must have an end, and its text must say which it was.
#[test]
fn every_wait_ends_by_its_time_out() {
    // Connects, never answers.
    let mute = Server::start(|mut stream, _| while stream.read(&mut [0; 1000]).is_ok_and(|n| n > 0) {});
    let config = short(|c| c.call_timeout = SHORT);
    for e in [
        Client::new(&mute.url(), config.clone()).call(),
        Client::new(&mute.url(), config).open().map(|_| unreachable!()),
    ] {
        let e = e.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
        assert!(e.to_string().contains("after 300ms while waiting for the answer"), "{e}");
    }
    // A handshake that never ends.
    let https = mute.url().replace("http:", "https:");
    let client = Client::new(&https, short(|c| c.connect_timeout = SHORT));
    let e = client.call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
    assert!(e.to_string().contains("after 300ms in the TLS handshake"), "{e}");
    assert!(e.is_retryable());
    assert_eq!(client.counters.sockets_open(), 0);
}

// A server's host that drops packets.
#[test]
fn a_connection_that_does_not_come_about_ends() {
    let full = full_listener();
    let client = Client::new(&full.url, short(|c| c.connect_timeout = SHORT));
    let e = client.call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
    assert!(e.to_string().contains("after 300ms while connecting"), "{e}");
    // And one where nothing listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let e = Client::new(&format!("http://{closed}"), config()).call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
    assert!(e.to_string().contains("refused"), "{e}");
    assert_eq!(client.counters.sockets_open(), 0);
}

// Bytes that drip keep an idle time-out quiet for ever: a call has a bound for all of it.
#[test]
fn dripping_does_not_hold_a_call() {
    for head_length in [36, CHUNKED_HEAD.len()] {
        let server = Server::start(move |mut stream, _| {
            read_request(&mut stream).unwrap();
            stream.write_all(&CHUNKED_HEAD[..head_length]).unwrap();
            let drip = if head_length == CHUNKED_HEAD.len() { chunk("x") } else { b"x".to_vec() };
            while stream.write_all(&drip).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let client = Client::new(&server.url(), short(|c| c.call_timeout = SHORT * 3));
        let e = within_deadline("dripping", move || client.call().unwrap_err());
        assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
    }
}

// A silent stream is the commonest fault of all; and an envelope that never ends.
#[test]
fn a_stream_has_an_idle_time_out_and_deadlines_and_goes_on_after_them() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream).unwrap();
        stream.write_all(CHUNKED_HEAD).unwrap();
        // Half a chunk, and the rest when it is asked for by a second connection's request.
        stream.write_all(b"8\r\nabcd").unwrap();
        while stream.read(&mut [0; 10]).is_ok_and(|n| n > 0) {}
    });
    let client = Client::new(&server.url(), short(|c| c.idle_timeout = SHORT));
    let mut stream = client.stream();
    let mut piece = [0; 100];
    assert_eq!(stream.read(&mut piece, None).unwrap(), 4);
    for _ in 0..3 {
        let e = stream.read(&mut piece, None).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
        assert!(e.to_string().contains("after 300ms while reading the answer"), "{e}");
    }
    let client = server.client();
    let mut stream = client.stream();
    assert_eq!(stream.read(&mut piece, None).unwrap(), 4);
    let e = within_deadline("a deadline", move || {
        stream.read(&mut [0; 100], Some(Instant::now() + SHORT)).unwrap_err()
    });
    assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
}

// After a time-out in the middle of a chunk the bytes go on where they stopped: it serves as a tick.
#[test]
fn nothing_is_lost_by_a_time_out_within_a_chunk() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Server::start(move |mut stream, _| {
        read_request(&mut stream).unwrap();
        for piece in [CHUNKED_HEAD, b"8\r\nabcd", b"efgh\r", b"\n3\r\nijk\r\n0\r\n\r\n"] {
            stream.write_all(piece).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    });
    let client = server.client();
    go.send(()).unwrap();
    let mut stream = client.stream();
    let (mut all, mut piece, mut timeouts) = (Vec::new(), [0; 100], 0);
    loop {
        match stream.read(&mut piece, Some(Instant::now() + SHORT)) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
                timeouts += 1;
                let _ = go.send(());
            }
        }
    }
    assert_eq!((&all[..], timeouts > 0), (&b"abcdefghijk"[..], true));
}

// Bytes of every size through small buffers: none may be lost, added or swapped.
#[test]
fn a_large_stream_comes_through_whole() {
    let seed = fastrand::u64(..);
    let server = Server::start(move |mut stream, _| {
        let mut random = fastrand::Rng::with_seed(seed);
        read_request(&mut stream).unwrap();
        let mut out = CHUNKED_HEAD.to_vec();
        let mut next = 0u64;
        for _ in 0..300 {
            let text: String = (0..random.usize(1..2000))
                .map(|_| {
                    next += 1;
                    char::from(b'a' + (next % 23) as u8)
                })
                .collect();
            out.extend(chunk(&text));
        }
        out.extend(b"0\r\n\r\n");
        for piece in out.chunks(random.usize(1..30_000)) {
            stream.write_all(piece).unwrap();
        }
    });
    let client = server.client();
    let (all, error) = read_all(&mut *client.stream());
    assert!(error.is_none(), "{error:?}, seed {seed}");
    assert!(all.len() > 100_000);
    assert!((1u64..).zip(&all).all(|(n, b)| *b == b'a' + (n % 23) as u8), "seed {seed}");
    assert!(client.counters.bytes_in() > all.len() as u64);
}
