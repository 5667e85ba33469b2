//! Closing, whatever hangs: a server, a connector, a resolver. What is opened is shut, what was started has ended.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::signal::Waker;
use super::{Client, Next};
use crate::net::{Lookups, Resolve};
use crate::{Error, ErrorKind, EventKind, Options};

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
    options.set("catch_up", "false").unwrap();
    options.set("idle_timeout", "600s").unwrap().set("call_timeout", "1h").unwrap();
    options.set("connect_timeout", "10m").unwrap().set("lookup_timeout", "10m").unwrap();
    options
}

// A program that is told to end while an event comes would have its wake with that event swallowed, and wait for ever.
#[test]
fn a_wake_that_meets_an_event_ends_the_next_wait() {
    const ROUNDS: usize = 3000;
    let client = Client::open(&Options::new()).unwrap();
    let both = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for wakes in [true, false] {
            let (client, both) = (&client, &both);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    both.wait();
                    match wakes {
                        true => client.wake(),
                        false => client.core.tell_trouble(&Error::new(ErrorKind::Io, "trouble")),
                    }
                }
            });
        }
        let mut lost = None;
        for round in 0..ROUNDS {
            both.wait();
            let (mut events, mut wakes) = (0, 0);
            while (events, wakes) != (1, 1) && lost.is_none() {
                match client.next(LIMIT) {
                    Next::Event(_) => events += 1,
                    Next::Interrupted => wakes += 1,
                    other => {
                        lost =
                            Some(format!("{other:?} after {events} events and {wakes} wakes, round {round}"))
                    }
                }
            }
        }
        assert_eq!(lost, None);
    });
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
    let waker = Waker::new().unwrap();
    let client = Client::start(&options("mail.example.test"), lookups, None, waker).unwrap();
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

// A host's thread that asks for an item would be held for as long as closing may wait for the server.
#[cfg(feature = "sim")]
#[test]
fn closing_lets_a_host_go_that_asks_for_an_item() {
    use crate::sim::{
        Sim,
        fault::{Action, Fault},
    };
    let sim = Sim::builder().user("ada@example.test", "secret").start().unwrap();
    let mut options = options(sim.url());
    options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    let client = Client::open(&options).unwrap();
    let watch = client.watch(&Options::new()).unwrap();
    assert!(matches!(client.next(Duration::from_secs(60)), Next::Event(e) if e.kind == EventKind::Connected));
    for operation in ["GetItem", "Unsubscribe"] {
        sim.add_fault(Fault::new(Action::NoAnswer).on(operation).always());
    }
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let asking = client.core.clone();
        let client = &client;
        scope.spawn(move || {
            let result = client.get_item(watch, "x", None, crate::Fetch::Summary);
            tell.send(result.map(drop)).expect("somebody listens");
        });
        wait("it asks", client, |c| c.status().sockets == 2);
        scope.spawn(|| client.close_within(Duration::from_secs(600)));
        let result = told.recv_timeout(LIMIT);
        // The other closing ends with this one.
        let still_closing = asking.threads.count() > 0;
        assert!(client.close_within(Duration::ZERO));
        // Whoever still waits for it, waits no longer: the test fails, and does not hang.
        drop(sim);
        let error = result.expect("the host's thread is let go").unwrap_err();
        assert_eq!((error.kind(), still_closing), (crate::ErrorKind::Closed, true));
    });
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

// "Wait as long as it takes" must not be a time-out that the clock has no room for.
#[test]
fn closing_without_a_limit() {
    let client = Client::open(&Options::new()).unwrap();
    assert!(client.close_within(Duration::MAX));
}

// A job that nobody takes, or an answer that nobody hears of, would leave a watch in silence and its subscription on the
// server: thousands of watches come and go, on workers that come and go, and everything is answered once.
#[test]
fn every_call_is_answered_and_every_watch_is_told_its_end() {
    use super::links::Watch;
    use crate::engine::{WatchMode, WatchSpec};
    use crate::net::{Cancel, Link, Opened, Post, Reply};
    use crate::options::WatchConfig;
    use crate::{Error, ErrorKind, Result};
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Default)]
    struct Server(Mutex<(u64, BTreeSet<String>)>);
    impl Link for Server {
        fn whom(&self) -> String {
            "a fake".into()
        }
        fn call(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Reply> {
            if cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Closed, "cancelled"));
            }
            let body = std::str::from_utf8(post.body).unwrap();
            let mut server = self.0.lock().unwrap();
            let (name, inside) = if body.contains("Unsubscribe") {
                let (id, _) = body.split_once("SubscriptionId>").unwrap().1.split_once('<').unwrap();
                assert!(server.1.remove(id), "{id} is taken off twice");
                ("Unsubscribe", String::new())
            } else if body.contains("GetEvents") {
                let (id, _) = body.split_once("SubscriptionId>").unwrap().1.split_once('<').unwrap();
                let id = format!("<SubscriptionId>{id}</SubscriptionId><MoreEvents>false</MoreEvents>");
                ("GetEvents", format!("<Notification>{id}</Notification>"))
            } else {
                server.0 += 1;
                let id = format!("s{}", server.0);
                server.1.insert(id.clone());
                ("Subscribe", format!("<SubscriptionId>{id}</SubscriptionId><Watermark>w</Watermark>"))
            };
            let body = format!(
                "<Envelope><Body><{name}Response><ResponseMessages><{name}ResponseMessage ResponseClass=\"Success\">\
                 <ResponseCode>NoError</ResponseCode>{inside}</{name}ResponseMessage></ResponseMessages></{name}Response>\
                 </Body></Envelope>"
            );
            Ok(Reply { status: 200, body: body.into_bytes(), date: None })
        }

        fn open(&self, _: &Post<'_>, _: &Cancel) -> Result<Opened> {
            unreachable!("nothing streams here")
        }
    }

    const WATCHES: u64 = 2000;
    let server = Arc::new(Server::default());
    let client = Client::open(&Options::new()).unwrap();
    let config = WatchConfig::read(&options("http://127.0.0.1:9")).unwrap();
    let mut told = BTreeMap::new();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (client, config, server) = (&client, &config, &server);
            scope.spawn(move || {
                for id in (1..=WATCHES).filter(|id| id % 4 == part) {
                    let spec = WatchSpec {
                        watch: id,
                        mailbox: config.mailbox.clone(),
                        endpoint: (id % 3) as u32,
                        affinity: "".into(),
                        own_budget: false,
                        account: None,
                        folders: Vec::new(),
                        events: config.events.clone(),
                        mode: WatchMode::Pull {
                            interval: Duration::from_secs(1),
                            quiet: Duration::from_secs(1),
                            timeout_minutes: 1,
                        },
                        fetch: config.fetch,
                        catch_up: false,
                        since_all: false,
                        ack: config.ack,
                        max_unacked: config.max_unacked,
                        coalesce: config.coalesce,
                        after_ack: config.after_ack.clone(),
                        name: config.name(),
                        stored: Vec::new(),
                        locate: false,
                    };
                    let link: Arc<dyn Link> = server.clone();
                    let watch = Watch { id, config: config.clone(), endpoint: spec.endpoint, link };
                    client.core.add(watch, spec).unwrap();
                    if id % 8 < 4 {
                        client.unwatch(id).unwrap();
                    }
                }
            });
        }
        while told.values().filter(|kinds: &&Vec<_>| !kinds.is_empty()).count() < WATCHES as usize {
            let Next::Event(e) = client.next(Duration::from_secs(60)) else {
                panic!("{:?}", client.status())
            };
            assert!(matches!(e.kind, EventKind::Connected | EventKind::Closed), "{}", e.to_json());
            told.entry(e.watch).or_default().push(e.kind);
        }
    });
    assert!(client.close_within(Duration::from_secs(60)));
    for event in &client {
        told.entry(event.watch).or_default().push(event.kind);
    }
    assert_eq!(told.len() as u64, WATCHES + 1);
    for (watch, kinds) in told {
        let closed = kinds.iter().filter(|k| **k == EventKind::Closed).count();
        assert_eq!((closed, kinds.last()), (1, Some(&EventKind::Closed)), "watch {watch}: {kinds:?}");
    }
    let left = server.0.lock().unwrap();
    assert!(left.1.is_empty(), "left on the server: {:?}", left.1);
}

// A watch by push that begins while the client closes would leave the thread behind that takes pushes out of files.
#[test]
fn nothing_begins_to_take_files_once_closing_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options("https://127.0.0.1:9");
    options.set("state_dir", dir.path().to_str().unwrap()).unwrap();
    let client = Client::open(&options).unwrap();
    assert!(client.close());
    // As `watch` does, which has seen just before that the client was open.
    assert_eq!(client.core.start_drops().unwrap_err().kind(), crate::ErrorKind::Closed);
    assert_eq!(client.status().threads, 0);
}
