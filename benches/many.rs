//! `cargo bench --features sim --bench many`: ten thousand mailboxes on fifty simulated groups, watched by one process; the simulator runs in another.
//!
//! Prints: time until all are connected; threads, sockets and memory then; CPU when nothing happens; latency at 1,000 events/s,
//! from the line that tells the simulator to deliver to `next()`; CPU of a mail, of the library and of the simulator.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use ewsnotify::{Client, EventKind, Next, Options};
use rustix::time::{ClockId, clock_gettime};

const GROUPS: usize = 50;
const EVENTS: usize = 10_000;
const SERVICE: &str = "service@example.test";

fn main() {
    if std::env::args().any(|a| a == "--server") {
        return server();
    }
    let mailboxes = std::env::var("EWSN_MAILBOXES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let exe = std::env::current_exe().unwrap();
    let mut child = Command::new(exe)
        .args(["--server", &mailboxes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines.next().unwrap().unwrap();
    let mut orders = child.stdin.take().unwrap();

    let empty = memory();
    let mut options = Options::new();
    for (key, value) in [
        ("url", &*url),
        ("user", SERVICE),
        ("password", "secret"),
        ("access", "impersonate"),
        ("events", "NewMail"),
        ("queue_events", "1000000"),
    ] {
        options.set(key, value).unwrap();
    }
    let began = Instant::now();
    let client = Client::open(&options).unwrap();
    for n in 0..mailboxes {
        let mut options = Options::new();
        options.set("mailbox", &address(n)).unwrap().set("affinity", &group(n)).unwrap();
        client.watch(&options).unwrap();
    }
    let added = began.elapsed();
    let (mut connected, mut drained) = (0, 0);
    while connected < mailboxes || drained < mailboxes {
        match client.next(Duration::from_secs(60)) {
            Next::Event(event) if event.kind == EventKind::Connected => {
                connected += 1;
                if connected == mailboxes {
                    println!(
                        "all {mailboxes} connected after {:.1} s (added in {:.1} s)",
                        began.elapsed().as_secs_f64(),
                        added.as_secs_f64()
                    );
                }
            }
            Next::Event(event) if event.kind == EventKind::Drained => drained += 1,
            Next::Event(event) if event.kind == EventKind::Gap => println!("{event:?}"),
            Next::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    println!("all read for the first time after {:.1} s", began.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_secs(6));
    let status = client.status();
    println!(
        "{} streams, {} threads, {} sockets, {:.1} MiB, {:.1} KiB a mailbox",
        status.connections.len(),
        status.threads,
        status.sockets,
        memory() as f64 / 1024.0,
        (memory() - empty) as f64 / mailboxes as f64
    );
    let (cpu, idle) = (cpu(), Duration::from_secs(20));
    std::thread::sleep(idle);
    println!("idle: {:.2} % of a processor", (self::cpu() - cpu).as_secs_f64() / idle.as_secs_f64() * 100.0);

    let sent: Arc<Mutex<HashMap<String, VecDeque<Instant>>>> = Arc::default();
    let sender = {
        let sent = sent.clone();
        std::thread::spawn(move || {
            let began = Instant::now();
            for n in 0..EVENTS {
                let due = began + Duration::from_millis(n as u64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let mailbox = address(n * 7919 % mailboxes);
                sent.lock().unwrap().entry(mailbox.clone()).or_default().push_back(Instant::now());
                writeln!(orders, "{mailbox}").unwrap();
            }
            (orders, cpu_of(ClockId::ThreadCPUTime))
        })
    };
    let (cpu, simulator) = (self::cpu(), cpu_of_process(child.id()));
    let began = Instant::now();
    let mut latencies = Vec::new();
    while latencies.len() < EVENTS {
        match client.next(Duration::from_secs(60)) {
            Next::Event(event) if event.kind == EventKind::NewMail => {
                let at = sent.lock().unwrap().get_mut(&*event.mailbox).and_then(VecDeque::pop_front).unwrap();
                latencies.push(at.elapsed().as_secs_f64() * 1e6);
            }
            Next::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let took = began.elapsed();
    let (cpu, simulator) = (self::cpu() - cpu, cpu_of_process(child.id()) - simulator);
    // Ours is who sends.
    let (orders, sending) = sender.join().unwrap();
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / EVENTS as f64;
    latencies.sort_by(f64::total_cmp);
    println!(
        "{EVENTS} mails at 1,000/s: p50 {:.0} us, p99 {:.0} us, the last {:.0} us; CPU {:.0} us each (simulator {:.0} us); {:.1} s",
        latencies[EVENTS / 2],
        latencies[EVENTS * 99 / 100],
        latencies[EVENTS - 1],
        each(cpu.saturating_sub(sending)),
        each(simulator),
        took.as_secs_f64()
    );
    let began = Instant::now();
    client.close_within(Duration::from_secs(30));
    println!("closed, all subscriptions given back, in {:.1} s", began.elapsed().as_secs_f64());
    drop(orders);
    child.wait().unwrap();
}

/// The simulator: delivers to each mailbox that a line names, until the input ends.
fn server() {
    let mailboxes: usize = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap();
    let sim = Sim::builder().tls(false).user(SERVICE, "secret").start().unwrap();
    for n in 0..mailboxes {
        sim.exchange().add_mailbox(&address(n));
        sim.exchange()
            .place_mailbox(&address(n), &group(n), &format!("mbx{}.example.test", n % GROUPS))
            .unwrap();
    }
    println!("{}", sim.url());
    for line in std::io::stdin().lock().lines() {
        sim.exchange().deliver(&line.unwrap(), b"Subject: x\r\n\r\ny\r\n").unwrap();
    }
}

fn address(n: usize) -> String {
    format!("box{n:05}@example.test")
}

fn group(n: usize) -> String {
    format!("site{}", n % GROUPS)
}

/// Of this process, in KiB.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn cpu() -> Duration {
    cpu_of(ClockId::ProcessCPUTime)
}

/// Of another process, to 10 ms.
fn cpu_of_process(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name before the last bracket may have spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn cpu_of(clock: ClockId) -> Duration {
    let t = clock_gettime(clock);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
