//! Name look-ups that are slow, fail, or never come back.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use ewsnotify::ErrorKind;
use ewsnotify::auth::{Basic, Secret};
use ewsnotify::net::{Cancel, Config, Counters, Endpoint, HttpLink, Link, Lookups, Resolve, Tls};

use crate::server::*;

/// A resolver that blocks until it is let go, and counts.
#[derive(Debug, Default)]
struct Gate {
    answer: Mutex<Option<Result<Vec<IpAddr>, &'static str>>>,
    opened: Condvar,
    asked: AtomicUsize,
}

impl Gate {
    fn open(&self, answer: Result<&[&str], &'static str>) {
        let ips = answer.map(|all| all.iter().map(|t| t.parse().unwrap()).collect());
        *self.answer.lock().unwrap() = Some(ips);
        self.opened.notify_all();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolve for Gate {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.opened.wait_while(self.answer.lock().unwrap(), |a| a.is_none()).unwrap();
        answer.clone().unwrap().map_err(io::Error::other)
    }
}

fn client(url: &str, config: Config, gate: &Arc<Gate>) -> Client {
    let counters = Arc::new(Counters::default());
    let lookups = Arc::new(Lookups::new(gate.clone()));
    let auth = Arc::new(Basic::new(USER, Secret::new(PASSWORD)).unwrap());
    let tls = Arc::new(Tls::new(None).unwrap());
    let endpoint = Endpoint::parse(url).unwrap();
    let link = HttpLink::with_lookups(endpoint, config, auth, tls, counters.clone(), lookups).unwrap();
    Client { link: Arc::new(link), counters }
}

fn plaintext() -> Config {
    Config { allow_plaintext: true, ..config() }
}

// A dead name server holds a look-up for minutes; the program must end all the same, and the thread be counted.
#[test]
fn a_look_up_can_be_left() {
    let gate = Arc::new(Gate::default());
    let client = client("http://mail.example.test", plaintext(), &gate);
    let cancel = Cancel::new();
    let (done, outcome) = mpsc::channel();
    for _ in 0..5 {
        let (link, cancel, done) = (client.link.clone(), cancel.clone(), done.clone());
        thread::spawn(move || done.send(link.call(&post(), &cancel).unwrap_err()));
    }
    eventually("five waits", || client.counters.lookups_waiting() == 5);
    eventually("the resolver is asked", || gate.asked() == 1);
    assert_eq!(client.counters.lookups_abandoned(), 0);
    cancel.cancel();
    for _ in 0..5 {
        let e = outcome.recv_timeout(DEADLINE).unwrap();
        assert_eq!(e.kind(), ErrorKind::Closed, "{e}");
    }
    // One thread hangs, whoever waited for it.
    assert_eq!(
        (client.counters.lookups_waiting(), client.counters.lookups_abandoned(), gate.asked()),
        (0, 1, 1)
    );
    assert_eq!(client.counters.sockets_open(), 0);
    gate.open(Ok(&[]));
    eventually("the thread ends", || client.counters.lookups_abandoned() == 0);
}

// The same by itself; and later tries must not pile up threads.
#[test]
fn a_look_up_has_a_time_out_and_is_shared() {
    let gate = Arc::new(Gate::default());
    let client = client(
        "http://mail.example.test",
        Config { lookup_timeout: Duration::from_millis(20), ..plaintext() },
        &gate,
    );
    for _ in 0..3 {
        let e = client.call().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
        assert!(
            e.to_string().contains("mail.example.test") && e.to_string().contains("no answer in time"),
            "{e}"
        );
        assert!(e.is_retryable());
    }
    assert_eq!((client.counters.lookups_abandoned(), gate.asked()), (1, 1));
    gate.open(Ok(&[]));
    eventually("the thread ends", || client.counters.lookups_abandoned() == 0);
    // When it has answered the next one asks anew.
    eventually("a new look-up", || {
        client.call().unwrap_err();
        gate.asked() > 1
    });
}

// What the resolver says is the user's clue to a wrong name.
#[test]
fn a_failed_look_up_says_why() {
    let gate = Arc::new(Gate::default());
    gate.open(Err("Name or service not known"));
    let e = client("http://mail.example.test", plaintext(), &gate).call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Connect);
    assert!(e.to_string().contains("Name or service not known"), "{e}");
}

// A host with a dead first address (no IPv6 route, a node that is down) must still be reached.
#[test]
fn the_addresses_are_tried_in_turn() {
    let server = Server::answering(ok(ENVELOPE));
    let gate = Arc::new(Gate::default());
    // Nothing listens on the other loopback addresses' port.
    gate.open(Ok(&["127.0.0.2", "::1", "127.0.0.3", "127.0.0.1"]));
    let client = client(&format!("http://mail.example.test:{}", server.address.port()), plaintext(), &gate);
    client.call().unwrap();
    assert_eq!((client.counters.sockets_open(), client.counters.sockets_opened()), (1, 1));
    // A kept socket needs no look-up.
    client.call().unwrap();
    assert_eq!((gate.asked(), server.accepted()), (1, 1));
}

// The same when the first address does not even refuse: the second is not kept waiting for the time-out.
#[test]
fn a_silent_address_does_not_hold_the_others_up() {
    let full = full_listener();
    let port = full.url.rsplit_once(':').unwrap().1.to_owned();
    let second = std::net::TcpListener::bind(format!("127.0.0.2:{port}")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = second.accept().unwrap();
        read_request(&mut stream).unwrap();
        io::Write::write_all(&mut stream, &ok(ENVELOPE)).unwrap();
    });
    let gate = Arc::new(Gate::default());
    gate.open(Ok(&["127.0.0.1", "127.0.0.2"]));
    let client = client(&format!("http://mail.example.test:{port}"), plaintext(), &gate);
    let counters = client.counters.clone();
    within_deadline("the second address", move || client.call().unwrap());
    assert_eq!(counters.sockets_open(), 0);
}

// "localhost" may be given a password in clear text: so it must be this machine, whatever the resolver says.
#[test]
fn localhost_stays_on_this_machine() {
    let gate = Arc::new(Gate::default());
    gate.open(Ok(&["192.0.2.1"]));
    let client = client("http://localhost", config(), &gate);
    let e = client.call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Connect);
    assert!(e.to_string().contains("no address of this machine"), "{e}");
    assert_eq!(client.counters.sockets_opened(), 0);
}

// Asking the resolver for an address makes a broken one stop what needs no names.
#[test]
fn numbers_need_no_look_up() {
    let server = Server::answering(ok(ENVELOPE));
    let gate = Arc::new(Gate::default());
    client(&server.url(), config(), &gate).call().unwrap();
    assert_eq!(gate.asked(), 0);
}

// The password must not leave the machine in clear text because nobody looked.
#[test]
fn a_link_in_clear_text_is_refused_at_once() {
    let auth = Arc::new(Basic::new(USER, Secret::new(PASSWORD)).unwrap());
    let tls = Arc::new(Tls::new(None).unwrap());
    let endpoint = Endpoint::parse("http://mail.example.test").unwrap();
    let e = HttpLink::new(endpoint, config(), auth, tls, Arc::default()).map_err(harmless).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
}
