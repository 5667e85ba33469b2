//! The listener against whatever the internet sends to an open port: right events, a clear log. Memory and threads are looked at in
//! `push_bounds`, in a process of their own.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use ewsnotify::sim::exchange::PushFault;
use ewsnotify::{Event, EventKind};

use crate::besieged::{MOST, is_well, watching};
use crate::raw::{SECRET, answer, ask, connect, notification, path, post};

// Who does not know the secret learns nothing; what is wrong is said to who does.
#[test]
fn each_bad_request_has_its_answer_and_its_line() {
    let (w, address) = watching();
    let good = notification("x", "a", "b", "i");
    let head = |rest: &str| format!("POST {} HTTP/1.1\r\nHost: h\r\n{rest}\r\n", path()).into_bytes();
    let chunked =
        |chunks: &str| [head("Transfer-Encoding: chunked\r\n"), chunks.as_bytes().to_vec()].concat();
    let right: Vec<(Vec<u8>, u16)> = vec![
        (post(&path(), &good), 200),
        (post(&format!("/{SECRET}?x=y"), &good), 200),
        (chunked(&format!("{:x}\r\n{good}\r\n0\r\n\r\n", good.len())), 200),
        (post(&path(), &format!("{good}{}", " ".repeat(MOST - good.len()))), 200),
        (post(&path(), &format!("{good}{}", " ".repeat(MOST - good.len() + 1))), 413),
        (post(&path(), ""), 400),
        (post(&path(), "<html>"), 400),
        (post(&path(), &good.replace("SendNotification", "Something")), 400),
        (post(&path(), &format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{good}")), 400),
        (post("/", &good), 404),
        (post(&format!("/{}", &SECRET[1..]), &good), 404),
        (post(&format!("/{SECRET}x"), &good), 404),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 404),
        (format!("GET {} HTTP/1.1\r\n\r\n", path()).into_bytes(), 405),
        (head(""), 411),
        (head(&format!("Content-Length: {}\r\n", MOST + 1)), 413),
        (chunked("10001\r\n"), 413),
        (chunked("FFFFFFFFFFFFFFFFF\r\n"), 400),
        (chunked("nonsense\r\n"), 400),
        (chunked("1\r\nxx\r\n"), 400),
        (chunked(&format!("0\r\n{}", "x: y\r\n".repeat(1000))), 400),
        (head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (head("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (head("Content-Length: -1\r\n"), 400),
        (head("Content-Encoding: gzip\r\nContent-Length: 1\r\n"), 415),
        (head("Transfer-Encoding: gzip\r\n"), 501),
        (head(&"x: y\r\n".repeat(100)), 431),
        (head(&format!("x: {}\r\n", "y".repeat(20_000))), 431),
        (vec![b'x'; 100_000], 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        (b"\0\0\0\0\r\n\r\n".to_vec(), 400),
    ];
    for (bytes, status) in &right {
        let shown = bytes[..bytes.len().min(300)].escape_ascii();
        match ask(address, bytes) {
            Some((answered, body)) => {
                assert_eq!(answered, *status, "{shown}");
                assert_eq!(body.contains("SubscriptionStatus"), *status == 200, "{shown}");
            }
            None => panic!("no answer to {shown}"),
        }
    }
    let lines = is_well(w);
    for what in [
        "a path without the secret",
        "too large",
        "chunks that are none",
        "two lengths",
        "no notification",
        "127.0.0.1",
    ] {
        assert!(lines.iter().any(|l| l.contains(what)), "{what}: {lines:#?}");
    }
    assert!(lines.iter().all(|l| !l.contains(SECRET)), "{lines:#?}");
    assert!(lines.len() < 30, "each reason once: {lines:#?}");
}

// A notification that the listener does not take is lost in the end: the host must hear of it, once and not for ever; and nothing by
// what strangers send.
#[test]
fn what_is_refused_of_the_server_itself_is_told() {
    let (mut w, address) = watching();
    let (large, garbage) = ("x".repeat(MOST + 1), "<html/>");
    let wrong = format!("/{SECRET}x");
    for body in [&large, garbage] {
        assert_eq!(ask(address, &post(&wrong, body)).unwrap().0, 404);
    }
    let get = format!("GET {} HTTP/1.1\r\n\r\n", path());
    assert_eq!(ask(address, get.as_bytes()).unwrap().0, 405);
    w.settle();
    assert_eq!(w.count(EventKind::Error), 0, "{:#?}", w.events);
    for _ in 0..20 {
        assert_eq!(ask(address, &post(&path(), &large)).unwrap().0, 413);
        assert_eq!(ask(address, &post(&path(), garbage)).unwrap().0, 400);
    }
    w.settle();
    let told: Vec<String> =
        w.events.iter().filter(|e| e.kind == EventKind::Error).filter_map(message).collect();
    for words in [
        ["too large", "option push_max_bytes allows 65536 bytes"],
        ["no notification", "a web page, not XML"],
    ] {
        assert!(told.iter().any(|t| words.iter().all(|w| t.contains(w))), "{words:?}: {told:#?}");
    }
    assert!(told.iter().all(|t| t.contains("127.0.0.1") && t.contains("may be lost")), "{told:#?}");
    // Two, unless the machine is so busy that a minute goes by.
    assert!(told.len() < 8, "{told:#?}");
    let lines = is_well(w);
    assert!(lines.iter().any(|l| l.contains("push_max_bytes")), "{lines:#?}");
    assert!(told.iter().chain(&lines).all(|l| !l.contains(SECRET)), "{told:#?} {lines:#?}");
}

fn message(event: &Event) -> Option<String> {
    event.detail.as_ref()?.message.clone()
}

// Several on one connection are answered in their order, whatever the pieces; after a bad one nothing more is taken.
#[test]
fn pipelined_requests() {
    let (w, address) = watching();
    let good = || post(&path(), &notification("x", "a", "b", "i"));
    let all = good().repeat(200);
    let mut sock = connect(address);
    let reader = std::thread::spawn({
        let mut sock = sock.try_clone().unwrap();
        move || (0..200).map_while(|_| answer(&mut sock)).filter(|(status, _)| *status == 200).count()
    });
    for piece in all.chunks(777) {
        sock.write_all(piece).unwrap();
    }
    assert_eq!(reader.join().unwrap(), 200);
    // Waits for its hundred as .NET does.
    let body = notification("x", "a", "b", "i");
    let head =
        format!("POST {} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", path(), body.len());
    sock.write_all(head.as_bytes()).unwrap();
    assert_eq!(answer(&mut sock).unwrap().0, 100);
    sock.write_all(body.as_bytes()).unwrap();
    assert_eq!(answer(&mut sock).unwrap().0, 200);
    // A half-closed one gets its answer, too.
    sock.write_all(&good()).unwrap();
    sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut sock).unwrap().0, 200);
    assert!(answer(&mut sock).is_none());
    let mut sock = connect(address);
    sock.write_all(&[good(), post("/wrong", ""), good()].concat()).unwrap();
    let statuses: Vec<u16> = std::iter::from_fn(|| answer(&mut sock)).map(|(status, _)| status).collect();
    assert_eq!(statuses, [200, 404]);
    is_well(w);
}

// Who sends a body a byte at a time, for ever, is let go by its time; so is who never reads its answer.
#[test]
fn slow_senders_and_readers() {
    let (w, address) = watching();
    let whole = post(&path(), &notification("x", "a", "b", "i"));
    let mut slow: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    let mut open: BTreeSet<usize> = (0..slow.len()).collect();
    'bytes: for byte in whole.iter().cycle() {
        for n in open.clone() {
            let sock = &mut slow[n];
            sock.set_read_timeout(Some(std::time::Duration::from_millis(5))).unwrap();
            let gone = sock.write_all(&[*byte]).is_err() || matches!(sock.read(&mut [0; 100]), Ok(0));
            if gone {
                open.remove(&n);
            }
        }
        if open.is_empty() {
            break 'bytes;
        }
    }
    // So many answers that the system does not take them all: nothing more is read of who does not read.
    let mut deaf = connect(address);
    deaf.set_write_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let request = whole.repeat(100);
    let mut sent = 0;
    while sent < 200 << 20 {
        match deaf.write(&request) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < 200 << 20, "it is let go");
    is_well(w);
}

// What anybody saw and sends again, or what overtakes, is no new mail.
#[test]
fn replayed_and_reordered_notifications() {
    let (mut w, _) = watching();
    for _ in 0..3 {
        for fault in [PushFault::Repeated, PushFault::Unanswered, PushFault::Held, PushFault::Repeated] {
            w.sim.exchange().fail_push(fault);
            w.deliver();
            w.settle();
        }
    }
    w.settle();
    w.compare();
    assert!(w.count(EventKind::Gap) >= 1, "what overtakes is one");
    let told = w.events.iter().filter(|e| e.kind == EventKind::Gap);
    for gap in told {
        assert_eq!(gap.detail.as_ref().unwrap().reason, Some(ewsnotify::Reason::NotificationLost));
    }
}
