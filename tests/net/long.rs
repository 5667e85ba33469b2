//! Answers that are too long to be kept: they come in pieces, as far as they are wanted, for as long as they come.

use std::io::Write;
use std::time::Duration;

use ewsnotify::net::{Cancel, Config, Link};
use ewsnotify::{ErrorKind, Result};

use crate::server::*;

fn take(client: &Client) -> (Vec<u8>, Result<()>) {
    let mut all = Vec::new();
    let result = client.link.call_into(&post(), &Cancel::new(), &mut |piece| {
        all.extend_from_slice(piece);
        Ok(())
    });
    (all, result.map_err(harmless))
}

// Bytes that are lost, or a limit that is for what is kept in memory, would cost the large mails.
#[test]
fn an_answer_of_any_length_comes_in_pieces_and_the_socket_stays() {
    let long = format!("<?xml version='1.0'?><Envelope>{}</Envelope>", "0123456789".repeat(300_000));
    let expected = long.clone();
    let server = Server::start(move |mut stream, number| {
        assert_eq!(number, 0);
        while read_request(&mut stream).is_some() {
            stream.write_all(CHUNKED_HEAD).unwrap();
            long.as_bytes().chunks(50_000).for_each(|piece| {
                stream.write_all(&chunk(std::str::from_utf8(piece).unwrap())).unwrap();
            });
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
    });
    let client = Client::new(&server.url(), Config { max_response_bytes: 1000, ..config() });
    for _ in 0..2 {
        let (all, result) = take(&client);
        result.unwrap();
        assert!(all == expected.as_bytes());
    }
    assert_eq!((server.accepted(), client.counters.sockets_open()), (1, 1));
    let server = Server::answering(ok("<x/>"));
    assert_eq!(take(&server.client()).0, b"<x/>");
}

// A portal's page in the place of a mail, or the password in an error about it.
#[test]
fn what_is_no_answer_of_ews_is_an_error_before_anything_is_taken() {
    for (out, kind, text) in [
        (answer("401 x", "", ""), ErrorKind::Auth, "refused"),
        (answer("503 x", "Retry-After: 5\r\n", ""), ErrorKind::Http, "overloaded"),
        (answer("200 OK", "Content-Encoding: gzip\r\n", ENVELOPE), ErrorKind::Protocol, "compressed"),
        (ok(&format!("<html>{}</html>", "x".repeat(100_000))), ErrorKind::Protocol, "<html>"),
        (ok(&format!("<!-- {} --><html/>", "x".repeat(10_000))), ErrorKind::Protocol, "no EWS answer"),
        (ok(&format!("<!-- {}", "x".repeat(1_000_000))), ErrorKind::Protocol, "no EWS answer"),
        (ok(""), ErrorKind::Protocol, "nothing in it"),
    ] {
        let server = Server::answering(out);
        let client = server.client();
        let (all, result) = take(&client);
        let e = result.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "{e}");
        assert!(all.is_empty());
        assert_eq!(client.counters.sockets_open(), 0);
    }
    // Odd, but good; and a fault, whose socket is not used again.
    let odd = format!("<!-- {} -->{ENVELOPE}", "x".repeat(10_000));
    let server = Server::answering(ok(&odd));
    assert!(take(&server.client()).0 == odd.as_bytes());
    let server = Server::answering(answer("500 Internal Server Error", "", "<Fault/>"));
    let client = server.client();
    assert_eq!(take(&client).0, b"<Fault/>");
    assert_eq!(client.counters.sockets_open(), 0);
}

// A mail for which the disk has no room would be read to its end all the same.
#[test]
fn the_taker_ends_the_reading() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream).unwrap();
        stream.write_all(CHUNKED_HEAD).unwrap();
        // Without end.
        while stream.write_all(&chunk(&format!("<x>{}</x>", "y".repeat(10_000)))).is_ok() {}
    });
    let client = server.client();
    let counters = client.counters.clone();
    let (came, e) = within_deadline("a taker that has enough", move || {
        let mut came = 0;
        let result = client.link.call_into(&post(), &Cancel::new(), &mut |piece| {
            came += piece.len();
            match came > 100_000 {
                true => ewsnotify::proto::read_envelope(b"").map(drop),
                false => Ok(()),
            }
        });
        (came, result.unwrap_err())
    });
    assert!(e.to_string().contains("empty"), "the taker's own: {e}");
    assert!(came < 200_000);
    assert_eq!(counters.sockets_open(), 0);
}

// Half a mail must never be taken for a whole one.
#[test]
fn a_break_is_an_error_and_is_not_repeated() {
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream).unwrap();
        stream.write_all(&ok(&format!("<x>{}</x>", "y".repeat(100_000)))[..50_000]).unwrap();
    });
    let (all, result) = take(&server.client());
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Io);
    assert!(!all.is_empty());
    assert_eq!(server.accepted(), 1);
}

// A large mail over a slow line would never arrive; and a server that sends a byte now and then would hold a thread for ever.
#[test]
fn it_may_take_as_long_as_it_brings_enough() {
    const ALLOWED: Duration = Duration::from_secs(2);
    let serve = |pieces: usize, each: usize, pause: Duration| {
        Server::start(move |mut stream, _| {
            read_request(&mut stream).unwrap();
            stream.write_all(CHUNKED_HEAD).unwrap();
            let piece = chunk(&format!("<x>{}</x>", "y".repeat(each)));
            for _ in 0..pieces {
                if stream.write_all(&piece).is_err() {
                    return;
                }
                std::thread::sleep(pause);
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        })
    };
    let config = || Config { call_timeout: ALLOWED, ..config() };
    let server = serve(15, 300_000, ALLOWED / 10);
    let client = Client::new(&server.url(), config());
    let (all, result) = take(&client);
    result.unwrap();
    assert_eq!(all.len(), 15 * 300_007);
    let server = serve(usize::MAX, 100, Duration::from_millis(5));
    let client = Client::new(&server.url(), config());
    let e = within_deadline("dripping", move || take(&client).1.unwrap_err());
    assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
    assert!(e.to_string().contains("2s while reading the answer"), "{e}");
}
