//! Closing, whatever hangs: a server, a connector, a resolver. What is opened is shut, what was started has ended.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{Client, Next};
use crate::net::{Lookups, Resolve};
use crate::{EventKind, Options};

/// Within this the client must be closed. The time-outs that it waits on are an hour.
const LIMIT: Duration = Duration::from_secs(10);

fn options(url: &str) -> Options {
    let mut options = Options::new();
    options
        .set("url", url)
        .unwrap()
        .set("user", "ada@example.test")
        .unwrap()
        .set("password", "secret")
        .unwrap();
    options.set("idle_timeout", "600s").unwrap().set("call_timeout", "1h").unwrap();
    options.set("connect_timeout", "10m").unwrap().set("lookup_timeout", "10m").unwrap();
    options
}

/// Closes from another thread while this one waits for an event, and looks what is left.
fn close_and_count(client: Client) {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| client.close());
        let mut closed = Vec::new();
        loop {
            match client.next(LIMIT) {
                Next::Event(event) => {
                    assert_eq!(event.kind, EventKind::Closed, "{}", event.to_json());
                    closed.push(event.watch);
                }
                Next::Closed => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(closed, [1, 0], "one for the watch, the client's own last");
        assert!(closing.join().unwrap(), "threads were left: {:?}", client.status());
    });
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let status = client.status();
    assert_eq!((status.threads, status.sockets), (0, 0), "{status:?}");
    assert!(client.close(), "again does no harm");
    assert!(client.watch(&Options::new()).is_err());
}

fn wait(what: &str, client: &Client, done: impl Fn(&Client) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done(client) {
        assert!(Instant::now() < deadline, "{what}: {:?}", client.status());
        std::thread::yield_now();
    }
}

// A server that takes the connection and never says anything must not hold the host.
#[test]
fn a_server_that_never_answers() {
    for scheme in ["http", "https"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client =
            Client::open(&options(&format!("{scheme}://{}", listener.local_addr().unwrap()))).unwrap();
        client.watch(&Options::new()).unwrap();
        let _accepted = listener.accept().unwrap();
        close_and_count(client);
    }
}

// Neither must one whose port swallows the connection attempt.
#[test]
fn a_connector_that_never_answers() {
    let (address, _full) = full_backlog();
    let client = Client::open(&options(&format!("https://{address}"))).unwrap();
    client.watch(&Options::new()).unwrap();
    wait("the connect begins", &client, |c| c.status().sockets == 1);
    close_and_count(client);
}

/// A listener that accepts nothing and has no room for more: further attempts get no answer.
fn full_backlog() -> (SocketAddr, (rustix::fd::OwnedFd, Vec<TcpStream>)) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&fd, 0).unwrap();
    let address: SocketAddr = getsockname(&fd).unwrap().try_into().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        filling.push(stream);
    }
    (address, (fd, filling))
}

// Neither must a name that nobody resolves. Its thread is left to itself, and counted.
#[test]
fn a_resolver_that_never_answers() {
    #[derive(Debug, Default)]
    struct Never(Mutex<bool>, Condvar);
    impl Resolve for Never {
        fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            let mut released = self.0.lock().unwrap();
            while !*released {
                released = self.1.wait(released).unwrap();
            }
            Ok(Vec::new())
        }
    }
    let never = Arc::new(Never::default());
    let lookups = Arc::new(Lookups::new(never.clone()));
    let client = Client::with_lookups(&options("mail.example.test"), lookups).unwrap();
    client.watch(&Options::new()).unwrap();
    wait("the look-up begins", &client, |c| c.status().lookups == 1);
    close_and_count(client);
    *never.0.lock().unwrap() = true;
    never.1.notify_all();
}

// A stream that says nothing for a long time is the usual case; so is a host that closes while it fetches.
#[cfg(feature = "sim")]
#[test]
fn a_stream_that_hangs_and_a_fetch_that_hangs() {
    use crate::sim::{
        Sim,
        fault::{Action, Fault},
    };
    for fetching in [false, true] {
        let sim = Sim::builder().user("ada@example.test", "secret").start().unwrap();
        let mut options = options(sim.url());
        options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
        if fetching {
            options.set("fetch", "mime").unwrap();
        }
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        assert!(
            matches!(client.next(Duration::from_secs(60)), Next::Event(e) if e.kind == EventKind::Connected)
        );
        if fetching {
            sim.add_fault(Fault::new(Action::NoAnswer).on("GetItem").always());
            sim.exchange().deliver("ada@example.test", b"Subject: x\r\n\r\ny").unwrap();
            wait("an event waits for its content", &client, |c| c.status().watches[0].held > 0);
        }
        close_and_count(client);
        assert!(sim.wait_until(Duration::from_secs(60), |s| s.of("Unsubscribe") == 1), "the server was told");
    }
}

// Twice, from two threads, and with nothing going on.
#[test]
fn closing_twice_at_once() {
    let client = Client::open(&Options::new()).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| client.close());
        assert!(client.close());
        assert!(other.join().unwrap());
    });
    assert_eq!(client.events().count(), 1);
}

// An iterator that waits must see the end.
#[test]
fn a_waiting_host_is_told() {
    let client = Client::open(&Options::new()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.events().map(|e| e.kind).collect::<Vec<_>>());
        client.close();
        assert_eq!(waiting.join().unwrap(), [EventKind::Closed]);
    });
}
