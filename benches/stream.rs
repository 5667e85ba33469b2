//! `cargo bench --bench stream`: over loopback sockets, plain and TLS, beside a floor that only reads, searches for the end of an
//! envelope and hands over to a second thread by a descriptor and poll. Medians of alternating rounds.
//!
//! Prints: events/s in a burst; the client's CPU for each event; latency from the server's write to `next()` at 1,000
//! events/s; memory of an idle stream at 500 connections.

#[path = "support/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ewsnotify::{Client, EventKind, Next, Options};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};

use server::{Plan, Server};

const ROUNDS: usize = 7;
const BURST: usize = 20_000;
const PACED: usize = 2_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--idle-client") {
        return idle_client(&arguments[at + 1], &arguments[at + 2]);
    }
    let clients: [(&str, bool, Measured); 3] = [
        ("floor, plain", false, floor),
        ("ewsnotify, plain", false, library),
        ("ewsnotify, TLS", true, library),
    ];
    println!(
        "{:<18} {:>12} {:>10} {:>14} {:>10} {:>10} {:>10}",
        "", "burst ev/s", "CPU us/ev", "at 1,000/s: p50", "p99", "CPU us/ev", "x floor"
    );
    let mut results = [const { (Vec::new(), Vec::new()) }; 3];
    for _ in 0..ROUNDS {
        for (result, (_, tls, run)) in results.iter_mut().zip(&clients) {
            result.0.push(run(&Server::start(*tls, Plan::Burst(BURST)), BURST));
            result.1.push(run(&Server::start(*tls, Plan::Paced(PACED, Duration::from_millis(1))), PACED));
        }
    }
    let floor_p50 = median(results[0].1.iter().map(|r| r.quantile(0.5)));
    for ((name, ..), (burst, paced)) in clients.iter().zip(&results) {
        let p50 = median(paced.iter().map(|r| r.quantile(0.5)));
        println!(
            "{name:<18} {:>12.0} {:>10.2} {:>12.0} us {:>7.0} us {:>10.1} {:>10.2}",
            median(burst.iter().map(|r| r.latencies.len() as f64 / r.elapsed.as_secs_f64())),
            median(burst.iter().map(Run::cpu_each)),
            p50,
            median(paced.iter().map(|r| r.quantile(0.99))),
            median(paced.iter().map(Run::cpu_each)),
            p50 / floor_p50,
        );
    }
    for tls in [false, true] {
        idle_streams(tls);
    }
}

/// Takes so many events from a server.
type Measured = fn(&Server, usize) -> Run;

struct Run {
    /// Microseconds from the server's write to the host's thread.
    latencies: Vec<f64>,
    elapsed: Duration,
    /// Of the process, less the server's thread.
    cpu: Duration,
}

impl Run {
    fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * q) as usize]
    }

    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latencies.len() as f64
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn process_cpu() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// Waits until `count` events came through `take`, which blocks for one.
fn measure(server: &Server, count: usize, mut take: impl FnMut() -> usize) -> Run {
    let mut arrived = Vec::with_capacity(count);
    let cpu = process_cpu();
    let server_cpu = server.cpu();
    let began = Instant::now();
    server.go();
    while arrived.len() < count {
        let n = take();
        let now = Instant::now();
        arrived.extend(std::iter::repeat_n(now, n));
    }
    let elapsed = began.elapsed();
    let sent = server.sent();
    let cpu = (process_cpu() - cpu).saturating_sub(server.cpu() - server_cpu);
    let latencies =
        arrived.iter().zip(&sent).map(|(a, s)| a.saturating_duration_since(*s).as_secs_f64() * 1e6).collect();
    Run { latencies, elapsed, cpu }
}

fn library(server: &Server, count: usize) -> Run {
    let mut options = options(&server.url, server.ca_file.as_deref());
    options.set("queue_events", &(count + 100).to_string()).unwrap();
    options.set("queue_bytes", "1000000000").unwrap();
    let client = Client::open(&options).unwrap();
    client.watch(&Options::new()).unwrap();
    ready(&client, 1);
    let run = measure(server, count, || match client.next(Duration::from_secs(10)) {
        Next::Event(event) if event.kind.is_mailbox() => 1,
        other => panic!("{other:?}"),
    });
    client.close_within(Duration::ZERO);
    run
}

/// Waits until so many watches have caught up and their streams stand, in whichever order they say so.
fn ready(client: &Client, watches: usize) {
    let mut awaited = 2 * watches;
    while awaited > 0 {
        match client.next(Duration::from_secs(30)) {
            Next::Event(event) if matches!(event.kind, EventKind::Drained | EventKind::Connected) => {
                awaited -= 1
            }
            Next::Event(event) => panic!("{}", event.to_json()),
            other => panic!("{other:?}"),
        }
    }
}

fn options(url: &str, ca_file: Option<&str>) -> Options {
    let mut options = Options::new();
    options.set("url", url).unwrap();
    options.set("user", "ada@example.test").unwrap().set("password", "secret").unwrap();
    if let Some(file) = ca_file {
        options.set("ca_file", file).unwrap();
    }
    options
}

/// What the machine gives at best: read, search, hand over.
fn floor(server: &Server, count: usize) -> Run {
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_nodelay(true).unwrap();
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: localhost\r\nSOAPAction: GetStreamingEvents\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let (readable, mut signal) = std::io::pipe().unwrap();
    let (sender, receiver) = mpsc::channel::<usize>();
    let reader = std::thread::spawn(move || {
        let end = memchr::memmem::Finder::new(b"</Envelope>");
        let mut buf = vec![0; 64 * 1024];
        let mut kept = 0;
        let mut seen = 0;
        while seen < count + 1 {
            let n = socket.read(&mut buf[kept..]).unwrap();
            assert!(n > 0, "the server ended early");
            let mut at = 0;
            let mut found = 0;
            while let Some(i) = end.find(&buf[at..kept + n]) {
                at += i + b"</Envelope>".len();
                found += 1;
            }
            buf.copy_within(at..kept + n, 0);
            kept = kept + n - at;
            if found > 0 {
                sender.send(found).unwrap();
                signal.write_all(b"!").unwrap();
                seen += found;
            }
        }
    });
    let mut readable = readable;
    let mut take = || {
        use std::os::fd::AsFd;
        poll(&mut [PollFd::from_borrowed_fd(readable.as_fd(), PollFlags::IN)], None).unwrap();
        readable.read_exact(&mut [0]).unwrap();
        receiver.recv().unwrap()
    };
    assert_eq!(take(), 1, "the first envelope, which tells nothing");
    let run = measure(server, count, take);
    reader.join().unwrap();
    run
}

/// A client in a process of its own: what 500 idle streams weigh.
fn idle_streams(tls: bool) {
    let server = Arc::new(Server::start(tls, Plan::Idle));
    let ca = server.ca_file.clone().unwrap_or_default();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--idle-client", &server.url, &ca])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!(
        "idle stream, {}: {}",
        if tls { "TLS" } else { "plain" },
        String::from_utf8_lossy(&output.stdout).trim()
    );
}

fn idle_client(url: &str, ca_file: &str) {
    const STREAMS: usize = 500;
    let mut options = options(url, Some(ca_file).filter(|file| !file.is_empty()));
    options.set("connections", "501").unwrap().set("subscriptions_per_connection", "1").unwrap();
    let client = Client::open(&options).unwrap();
    let open = |count: usize| {
        for _ in 0..count {
            client.watch(&Options::new()).unwrap();
        }
        ready(&client, count);
    };
    // The first one pays for what all share: roots, pools, threads.
    open(1);
    let before = rss();
    open(STREAMS);
    println!("{:.1} KiB of memory at {STREAMS} connections", (rss() - before) as f64 / STREAMS as f64);
    client.close_within(Duration::ZERO);
}

/// In KiB.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
