//! Each fault that the simulator can be told to make, in each mode and style: the watch ends up connected, what was lost is
//! named by a `Gap`, and everything else is told exactly once.
#![cfg(feature = "sim")]

#[path = "common/watching.rs"]
mod watching;

use std::time::Duration;

use ewsnotify::EventKind;
use ewsnotify::sim::Style;
use ewsnotify::sim::exchange::Failure;
use ewsnotify::sim::fault::{Action, Cut, Fault};
use watching::{ADA, Watching, modes, server};

const MODES: [&str; 2] = ["streaming", "pull"];
const STYLES: [Style; 2] = [Style::Exchange, Style::Gromox];

/// What the reads of the two modes are called.
fn reading(mode: &str) -> &'static str {
    if mode == "pull" { "GetEvents" } else { "GetStreamingEvents" }
}

/// A connected watch that has told one mail.
fn watching(mode: &str, style: Style, settings: &[(&str, &str)]) -> Watching {
    let mut all =
        vec![("mode", mode), ("idle_timeout", "2s"), ("call_timeout", "2s"), ("connect_timeout", "2s")];
    all.extend_from_slice(settings);
    let mut w = Watching::start(server(style), &all);
    w.connected();
    w.settle();
    w
}

/// Makes the fault while mail comes in, and sees the watch through it.
fn survive(fault: impl Fn(&str) -> Fault + Sync) {
    // What stands has begun already: the next one is hit.
    survive_after(fault, |w| w.sim.cut_connections(Cut::Fin));
}

/// The same, where something else makes the client ask what the fault is for.
fn survive_after(fault: impl Fn(&str) -> Fault + Sync, before: impl Fn(&Watching) + Sync) {
    let (fault, before) = (&fault, &before);
    // Side by side: they only wait.
    std::thread::scope(|scope| {
        for (style, mode) in STYLES.into_iter().flat_map(|style| MODES.map(|mode| (style, mode))) {
            scope.spawn(move || {
                let fault = fault(mode);
                let told = format!("{style:?} {mode} {fault:?}");
                let mut w = watching(mode, style, &[]);
                w.sim.add_fault(fault);
                before(&w);
                for _ in 0..5 {
                    w.deliver();
                }
                w.settle();
                w.settle();
                assert_eq!(w.sim.waiting_faults(), 0, "{told} never happened");
                println!("{told}: {} lost", w.compare());
                w.assert_no_busy_loop(60);
            });
        }
    });
}

// The promise in fair weather: everything, once, and no false alarm.
#[test]
fn without_faults_all_is_told_once_and_no_gap() {
    for style in STYLES {
        for &mode in modes(style) {
            let mut w = watching(mode, style, &[]);
            for _ in 0..100 {
                w.deliver();
            }
            w.settle();
            assert_eq!(w.compare(), 0);
            assert_eq!(w.count(EventKind::Gap), 0, "{style:?} {mode}");
            assert_eq!(w.count(EventKind::Connected), 1);
            w.assert_no_busy_loop(10);
        }
    }
}

// Every half hour the server ends the stream in order; that must be nothing to worry about.
#[test]
fn a_clean_closed_makes_no_gap() {
    for style in STYLES {
        let sim = server(style);
        sim.exchange().configure(|s| s.stream_life = Some(Duration::from_millis(400)));
        let mut w = Watching::start(sim, &[]);
        for _ in 0..6 {
            w.connected();
            w.deliver();
        }
        w.settle();
        assert_eq!(w.compare(), 0);
        assert_eq!(w.count(EventKind::Gap), 0, "{style:?}");
    }
}

// A reset at any moment: in the head, between envelopes, within one.
#[test]
fn links_that_are_cut() {
    for how in [Cut::Fin, Cut::Reset] {
        for byte in [0, 40, 700, 1500, 3000] {
            survive(|mode| Fault::new(Action::Cut { byte, how }).on(reading(mode)));
        }
    }
}

// The cut comes from outside, with mail under way.
#[test]
fn streams_that_are_cut_again_and_again() {
    for style in STYLES {
        for how in [Cut::Fin, Cut::Reset] {
            let mut w = watching("streaming", style, &[]);
            for _ in 0..4 {
                w.deliver();
                w.deliver();
                w.sim.cut_streams(how);
                w.deliver();
                w.settle();
            }
            w.compare();
            assert_eq!(w.count(EventKind::Disconnected), 4);
            assert!(w.count(EventKind::Gap) >= 4);
            w.assert_no_busy_loop(40);
        }
    }
}

// A link that is dead without a word: the worst of all, since nothing ever comes to tell.
#[test]
fn half_open_links() {
    for style in STYLES {
        let mut w = watching("streaming", style, &[("idle_timeout", "1s")]);
        w.sim.stall_streams();
        w.deliver();
        w.deliver();
        let gone = w.until("Disconnected", |e| e.kind == EventKind::Disconnected);
        assert_eq!(gone.detail.unwrap().reason, Some(ewsnotify::Reason::IdleTimeout));
        w.settle();
        assert!(w.compare() >= 4, "what was written into the dead link is lost");
    }
    survive(|mode| Fault::new(Action::Stall { byte: 900 }).on(reading(mode)));
    survive(|mode| Fault::new(Action::NoAnswer).on(reading(mode)));
}

#[test]
fn answers_in_pieces() {
    survive(|mode| Fault::new(Action::OneByte).on(reading(mode)));
    survive(|mode| Fault::new(Action::SlowHead { delay: Duration::from_millis(300) }).on(reading(mode)));
    for size in [1, 7, 100] {
        survive(|mode| Fault::new(Action::ManyChunks { size }).on(reading(mode)));
    }
    survive(|mode| Fault::new(Action::TwoInChunk).on(reading(mode)).envelope(2));
}

// A server that is busy, or has a bad moment, is asked again, and not sooner than it wants.
#[test]
fn refusals_that_pass() {
    let status = |code, retry_after| Action::Status { code, retry_after, retry_date: None, body: None };
    for action in [
        status(503, Some(1)),
        status(503, None),
        status(502, None),
        status(500, None),
        status(429, Some(1)),
        Action::Busy { back_off: 700 },
        Action::Html,
        Action::Empty,
    ] {
        survive(|mode| Fault::new(action.clone()).on(reading(mode)));
        let lost = |w: &Watching| assert_eq!(w.sim.exchange().lose_subscription(ADA), 1);
        survive_after(|_| Fault::new(action.clone()).on("Subscribe"), lost);
    }
}

// What cannot be read costs that message, and is told.
#[test]
fn envelopes_that_cannot_be_read() {
    for action in [
        Action::BadXml,
        Action::Dtd,
        Action::EntityBomb,
        Action::Attributes { count: 100_000 },
        Action::Nested { depth: 10_000 },
        Action::Oversize { bytes: 12 << 20 },
    ] {
        survive(|mode| {
            Fault::new(action.clone()).on(reading(mode)).envelope(if mode == "pull" { 1 } else { 3 })
        });
    }
}

// A TLS handshake that never ends must not hold a watch for ever.
#[test]
fn servers_that_do_not_shake_hands() {
    survive(|_| Fault::new(Action::NoHandshake));
}

// The server forgets: subscriptions expire, processes are restarted.
#[test]
fn subscriptions_that_are_lost() {
    for style in STYLES {
        for &mode in modes(style) {
            for restart in [false, true] {
                let mut w = watching(mode, style, &[("push_silence", "3s")]);
                for _ in 0..3 {
                    w.deliver();
                    if restart {
                        w.sim.exchange().restart();
                        w.sim.cut_streams(Cut::Reset);
                    } else {
                        assert_eq!(w.sim.exchange().lose_subscription(ADA), 1);
                    }
                    w.deliver();
                    w.until("Resubscribed", |e| e.kind == EventKind::Resubscribed);
                    w.settle();
                }
                w.compare();
                assert!(w.count(EventKind::Gap) >= 3, "{style:?} {mode}");
                w.assert_no_busy_loop(60);
            }
        }
    }
}

// A restarted gromox gives old ids to others: their mail is none of ours.
#[test]
fn ids_that_pass_to_others() {
    const EVE: &str = "eve@example.test";
    for mode in MODES {
        let sim = server(Style::Gromox);
        sim.add_user(EVE, "secret");
        let mut w = Watching::start(sim, &[("mode", mode), ("idle_timeout", "2s")]);
        w.connected();
        w.settle();
        let id = w.sim.exchange().subscriptions(ADA)[0].clone();
        assert!(w.sim.exchange().pass_id_to_other(&id, EVE));
        let foreign = w.sim.exchange().deliver(EVE, b"Subject: not for ada\r\n\r\nsecret").unwrap();
        w.until("Resubscribed", |e| e.kind == EventKind::Resubscribed);
        w.settle();
        assert!(w.events.iter().all(|e| e.item_id.as_deref() != Some(&foreign)), "{mode}");
        let gap = w.events.iter().find(|e| e.kind == EventKind::Gap).unwrap();
        assert!(gap.detail.is_some());
    }
}

// The server's queue between two connections is bounded; what runs over is told.
#[test]
fn queues_of_the_server_that_run_over() {
    let mut w = watching("streaming", Style::Exchange, &[]);
    w.sim.exchange().configure(|s| s.queue = 6);
    w.sim.refuse_connections(true);
    w.sim.cut_streams(Cut::Fin);
    for _ in 0..10 {
        w.deliver();
    }
    w.sim.refuse_connections(false);
    w.settle();
    assert!(w.compare() > 0);
}

// A host that does not take its events is told that some are missing, and memory stays bounded.
#[test]
fn queues_of_ours_that_run_over() {
    for mode in ["streaming", "push"] {
        let mut w = watching(mode, Style::Exchange, &[("queue_events", "20")]);
        for _ in 0..200 {
            w.deliver();
        }
        // Whatever the server has is with the client when the heartbeats after it are.
        assert!(w.sim.wait_until(Duration::from_secs(30), |_| w.client.status().queued >= 20));
        w.settle();
        let told = w.count(EventKind::NewMail);
        assert!(told < 200, "{told}");
        assert!(w.compare_where(true) > 0);
        let gap = w.events.iter().find(|e| e.kind == EventKind::Gap).unwrap().detail.clone().unwrap();
        assert_eq!(gap.reason, Some(ewsnotify::Reason::QueueOverflow));
    }
}

// A throttled account waits as long as it is asked to, also when the refusal is a SOAP fault.
#[test]
fn throttling_in_every_form() {
    for mode in MODES {
        let mut w = watching(mode, Style::Exchange, &[]);
        let busy = || Failure::new("ErrorServerBusy").back_off(Duration::from_millis(500));
        w.sim.exchange().fail_next(reading(mode), busy());
        w.sim.exchange().fail_next(reading(mode), busy().as_fault());
        w.sim.cut_streams(Cut::Fin);
        w.settle();
        w.compare();
        w.assert_no_busy_loop(30);
    }
}
