//! Streams: what goes out, how they end, and what a test then knows of it.

use std::io::ErrorKind;
use std::time::Duration;

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Cut, Fault};
use ewsnotify::sim::record::End;

use crate::common::*;
use crate::plain;

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
