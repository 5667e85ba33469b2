//! The push listener against a flood: bounded memory and threads, right events, a clear log. A process of its own, whose memory
//! nobody else's test uses.
#![cfg(all(feature = "sim", target_os = "linux"))]
#![allow(dead_code)]

#[path = "push/besieged.rs"]
mod besieged;
#[path = "push/raw.rs"]
mod raw;
#[path = "common/watching.rs"]
mod watching;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use besieged::{CONNECTIONS, MOST, is_well, watching};
use ewsnotify::EventKind;
use raw::{LONG, answer, connect, notification, path, post};

/// One at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What this process has in memory, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// A thousand that send nothing, or a byte now and then, must not keep Exchange out, nor cost a thread each.
#[test]
fn a_thousand_connections() {
    let _alone = alone();
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(65_536).min(65_536);
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
    let (mut w, address) = watching();
    let (threads, before) = (w.client.status().threads, memory());
    let mut socks: Vec<TcpStream> = Vec::new();
    for n in 0..1000 {
        let mut sock = connect(address);
        // Half of a head, or of a body of one who does know.
        let begun = match n % 3 {
            0 => Vec::new(),
            1 => b"POST /x HTTP/1.1\r\nHost".to_vec(),
            _ => {
                let whole = post("/wrong-but-long", &"x".repeat(1000));
                whole[..60].to_vec()
            }
        };
        let _ = sock.write_all(&begun);
        socks.push(sock);
        if n % 100 == 0 {
            w.deliver();
        }
    }
    w.settle();
    assert_eq!(w.client.status().threads, threads);
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    // All but so many were let go; each that was let go sees its end.
    let has_ended = |s: &mut TcpStream| !matches!(s.read(&mut [0; 100]), Ok(n) if n > 0);
    let ended = socks[..1000 - 2 * CONNECTIONS].iter_mut().map(has_ended).filter(|ended| *ended).count();
    assert_eq!(ended, 1000 - 2 * CONNECTIONS);
    // The rest is ended by its time.
    for sock in &mut socks {
        while matches!(sock.read(&mut [0; 100]), Ok(n) if n > 0) {}
    }
    let lines = is_well(w);
    assert!(lines.iter().any(|l| l.contains("push_connections")), "{lines:#?}");
    assert!(lines.len() < 10, "{lines:#?}");
}

// Who knows the secret, or has seen it, begins large bodies on all connections and ends none: what is kept of them is bounded, and
// those that are sent away may come again.
#[test]
fn large_bodies_that_do_not_end() {
    let _alone = alone();
    let (w, address) = watching();
    let before = memory();
    let whole = post(&path(), &"x".repeat(MOST));
    let (mut refused, until) = (0, Instant::now() + LONG);
    // Those that come to be read when the others are there.
    while refused == 0 {
        assert!(Instant::now() < until, "none is sent away");
        let mut socks: Vec<TcpStream> = (0..CONNECTIONS - 4).map(|_| connect(address)).collect();
        for sock in &mut socks {
            let _ = sock.write_all(&whole[..whole.len() - 1]);
        }
        refused += socks.iter_mut().filter_map(answer).filter(|(status, _)| *status == 503).count();
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    assert_eq!(w.count(EventKind::Error), 0, "what may come again is not lost");
    let lines = is_well(w);
    assert!(lines.iter().any(|l| l.contains("too many bodies at a time")), "{lines:#?}");
}

// An hour's worth of noise: nothing of it may be seen in what the host is told, in threads or in memory.
#[test]
fn an_hour_of_noise_in_a_minute() {
    let _alone = alone();
    let (mut w, address) = watching();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (threads, before) = (w.client.status().threads, memory());
    let noise = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let good = post(&path(), &notification("x", "a", "b", "i"));
        for _ in 0..700 {
            let mut bytes = match rng.u8(..6) {
                0 => good.clone(),
                1 => post("/wrong", &"x".repeat(rng.usize(..2000))),
                2 => (0..rng.usize(..5000)).map(|_| rng.u8(..)).collect(),
                3 => good.repeat(rng.usize(1..20)),
                4 => format!(
                    "POST {} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                    path(),
                    rng.u32(..)
                )
                .into_bytes(),
                _ => post(&path(), &"<a>".repeat(rng.usize(..20_000))),
            };
            for _ in 0..rng.usize(..4) {
                if !bytes.is_empty() {
                    let at = rng.usize(..bytes.len());
                    bytes[at] = rng.u8(..);
                }
            }
            let mut sock = connect(address);
            let _ = sock.write_all(&bytes);
            match rng.u8(..3) {
                0 => {}
                1 => {
                    let _ = sock.shutdown(Shutdown::Write);
                    while matches!(sock.read(&mut [0; 4096]), Ok(n) if n > 0) {}
                }
                _ => drop(answer_of_anything(&mut sock)),
            }
        }
    };
    std::thread::scope(|scope| {
        let noises: Vec<_> = (0..4).map(|n| scope.spawn(move || noise(seed.wrapping_add(n)))).collect();
        while !noises.iter().all(|n| n.is_finished()) {
            w.deliver();
            w.settle();
        }
    });
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    assert_eq!(w.client.status().threads, threads);
    // Some of it had the right secret.
    let errors = w.count(EventKind::Error);
    assert!((1..60).contains(&errors), "{errors}");
    let lines = is_well(w);
    assert!(!lines.is_empty() && lines.len() < 60, "{lines:#?}");
}

/// The first bytes of whatever comes.
fn answer_of_anything(sock: &mut TcpStream) -> usize {
    sock.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    sock.read(&mut [0; 4096]).unwrap_or(0)
}
