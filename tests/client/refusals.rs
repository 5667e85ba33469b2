//! What a server refuses, and what the client refuses to do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use ewsnotify::sim::exchange::Failure;
use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::sim::record::Stats;
use ewsnotify::sim::{Scheme, Sim, Style};
use ewsnotify::{Client, ErrorKind, EventKind, Fetch, Next, Options, Reason};

use crate::watching::{ADA, Watching, modes, server};

// A wrong password is told once, with what to do, and not tried again and again until the account is locked.
#[test]
fn a_wrong_password() {
    for &mode in modes(Style::Exchange) {
        let mut w = Watching::start(server(Style::Exchange), &[("password", "wr0ng-one"), ("mode", mode)]);
        let closed = w.until("Closed", |e| e.kind == EventKind::Closed);
        assert_eq!(closed.detail.unwrap().reason, Some(Reason::SignInRefused));
        assert_eq!(w.events.len(), 2, "{:#?}", w.events);
        let detail = w.events[0].detail.clone().unwrap();
        assert_eq!((w.events[0].kind, detail.http_status), (EventKind::Error, Some(401)));
        assert!(detail.message.unwrap().contains("password"));
        let tried = w.sim.requests().iter().filter(|r| r.header("authorization").is_some()).count();
        assert_eq!(tried, 1);
        assert!(w.events.iter().all(|e| !e.to_json().contains("wr0ng-one")));
    }
}

/// The connections to one server, unless told: the default of the option `workers`.
const WORKERS: u64 = 8;

/// How often the server has seen a password, or what proves it: the first message of NTLM has no body with it.
fn tried(sim: &Sim) -> usize {
    sim.requests().iter().filter(|r| r.header("authorization").is_some() && !r.body.is_empty()).count()
}

// A directory locks the account after three to ten wrong passwords: twenty mailboxes of one user would do that in the first second, and
// then nobody can sign in, by no program.
#[test]
fn a_wrong_password_is_sent_once_for_all_mailboxes() {
    for offers in [&[Scheme::Basic][..], &[Scheme::Ntlm, Scheme::Basic], &[Scheme::Negotiate]] {
        let sim = Sim::builder().user(ADA, "secret").offers(offers.iter().copied()).start().unwrap();
        let mut options = options(&sim);
        options.set("password", "wr0ng-one").unwrap().set("access", "delegate").unwrap();
        let client = Client::open(&options).unwrap();
        let mut watch = Options::new();
        sim.hold_refusals(true);
        for n in 0..20 {
            watch.set("mailbox", &format!("room{n}@example.test")).unwrap();
            client.watch(&watch).unwrap();
        }
        // Not before the others could have sent it as well.
        let all = |s: &Stats| s.held > 0 && s.ready == WORKERS;
        assert!(sim.wait_until(Duration::from_secs(60), all), "{:?}", sim.stats());
        sim.hold_refusals(false);
        let mut told = Vec::new();
        let mut closed = |client: &Client, watches: usize| {
            while told.iter().filter(|e: &&ewsnotify::Event| e.kind == EventKind::Closed).count() < watches {
                let Next::Event(event) = client.next(Duration::from_secs(60)) else { panic!("{told:#?}") };
                told.push(event);
            }
            let errors = told.iter().filter(|e| e.kind == EventKind::Error);
            errors.map(|e| e.detail.clone().unwrap().message.unwrap()).collect::<Vec<_>>()
        };
        let errors = closed(&client, 20);
        assert_eq!((tried(&sim), errors.len()), (1, 20), "{offers:?}: {errors:#?}");
        assert!(errors.iter().filter(|e| e.contains("is not sent again")).count() == 19, "{errors:#?}");
        // A host that does not read what it is told.
        client.watch(&watch).unwrap();
        let errors = closed(&client, 21);
        assert!(errors[20].contains("another password is tried at once"), "{errors:#?}");
        assert_eq!(tried(&sim), 1);
        client.watch(watch.set("mailbox", ADA).unwrap().set("password", "secret").unwrap()).unwrap();
        loop {
            let Next::Event(event) = client.next(Duration::from_secs(60)) else { panic!("nothing") };
            assert_ne!(event.kind, EventKind::Closed, "{}", event.to_json());
            if event.kind == EventKind::Connected {
                break;
            }
        }
    }
}

// A supervisor or a cron table that starts the program anew each minute: its account would be locked within minutes.
#[test]
fn a_wrong_password_is_not_sent_again_by_each_start() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let state = tempfile::tempdir().unwrap();
    let start = |password: &str| {
        let mut options = options(&sim);
        options.set("state_dir", state.path().to_str().unwrap()).unwrap().set("password", password).unwrap();
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        let event = loop {
            let Next::Event(event) = client.next(Duration::from_secs(60)) else { panic!("nothing told") };
            if matches!(event.kind, EventKind::Error | EventKind::Connected) {
                break event;
            }
        };
        client.close();
        (event.kind, event.detail.and_then(|detail| detail.message).unwrap_or_default())
    };
    assert!(start("wr0ng-one").1.contains("check user name and password"));
    for _ in 0..3 {
        let (kind, told) = start("wr0ng-one");
        assert_eq!(kind, EventKind::Error);
        assert!(told.contains("is not sent again") && told.contains("remove "), "{told}");
        assert_eq!(tried(&sim), 1);
    }
    // What the text says is a way out is one.
    std::fs::remove_file(state.path().join("refused.json")).unwrap();
    assert!(start("wr0ng-one").1.contains("check user name and password"));
    assert_eq!((tried(&sim), start("secret").0), (2, EventKind::Connected));
    // The right one is not held up by what came before, however often it changes.
    assert!(start("wr0ng-one").1.contains("check user name and password"));
}

// An Exchange where Basic is switched off: who is sent to check the password looks in the wrong place.
#[test]
fn a_server_without_basic() {
    let sim = Sim::builder().user(ADA, "secret").offers([Scheme::Negotiate, Scheme::Ntlm]).start().unwrap();
    let mut w = Watching::start(sim, &[("auth", "basic")]);
    let closed = w.until("Closed", |e| e.kind == EventKind::Closed);
    assert_eq!(closed.detail.unwrap().reason, Some(Reason::SignInRefused));
    let told = w.events[0].detail.clone().unwrap().message.unwrap();
    assert!(
        told.contains("offers Negotiate, NTLM, and") && told.contains("have a way to sign in enabled"),
        "{told}"
    );
    assert!(!told.contains("password"), "{told}");
}

// A right that was refused for a moment is asked for again, slowly: directories have bad minutes.
#[test]
fn a_sign_in_that_is_refused_for_a_moment() {
    std::thread::scope(|scope| {
        for (mode, operation) in [("streaming", "GetStreamingEvents"), ("pull", "GetEvents")] {
            scope.spawn(move || {
                let mut w = Watching::start(server(Style::Exchange), &[("mode", mode)]);
                w.connected();
                let status = Action::Status { code: 401, retry_after: None, retry_date: None, body: None };
                w.sim.add_fault(Fault::new(status).on(operation));
                w.sim.cut_streams(ewsnotify::sim::fault::Cut::Fin);
                w.deliver();
                w.settle();
                w.compare();
                // One of them asked which ways to sign in there are.
                assert!(w.sim.stats().unauthorized <= 3);
            });
        }
    });
}

// A redirect to another host would send the password there. It is a page of patience at best, so it is tried again, slowly.
#[test]
fn redirects_to_other_hosts() {
    let elsewhere = || Action::Redirect { to: "https://evil.example.test/EWS".into() };
    std::thread::scope(|scope| {
        for (mode, operation) in [("streaming", "GetStreamingEvents"), ("pull", "GetEvents")] {
            scope.spawn(move || {
                let mut w = Watching::start(server(Style::Exchange), &[("mode", mode)]);
                w.connected();
                w.sim.add_fault(Fault::new(elsewhere()).on(operation));
                w.sim.cut_streams(ewsnotify::sim::fault::Cut::Fin);
                w.settle();
                w.compare();
            });
        }
    });

    // At the very start the URL is wrong, and the host is told so at once.
    let sim = server(Style::Exchange);
    sim.add_fault(Fault::new(elsewhere()).always());
    let mut w = Watching::start(sim, &[]);
    let closed = w.until("Closed", |e| e.kind == EventKind::Closed);
    assert_eq!(closed.detail.unwrap().reason, Some(Reason::HttpError));
    let told = w.events[0].detail.clone().unwrap().message.unwrap();
    assert!(
        told.contains("https://evil.example.test/EWS") && told.contains("check the server's URL"),
        "{told}"
    );
}

// An older server refuses the version that is spoken to newer ones: items could be watched there, but not be had.
#[test]
fn an_item_is_had_from_an_older_server_too() {
    let sim = server(Style::Exchange);
    let id = sim.exchange().deliver(ADA, b"Subject: old\r\n\r\n").unwrap();
    for _ in 0..2 {
        let older = Failure::new("ErrorInvalidServerVersion").as_fault();
        sim.exchange().fail_next("GetItem", older);
    }
    let client = Client::open(&options(&sim)).unwrap();
    for asked in [3, 4] {
        let item = client.fetch_item(&Options::new(), &id, None, Fetch::Summary).unwrap();
        assert_eq!((item.subject.as_deref(), sim.stats().of("GetItem")), (Some("old"), asked));
    }
    // Once a version has worked, the same answer means something else.
    sim.exchange().fail_next("GetItem", Failure::new("ErrorInvalidServerVersion").as_fault());
    let e = client.fetch_item(&Options::new(), &id, None, Fetch::Summary).unwrap_err();
    assert_eq!((e.code(), sim.stats().of("GetItem")), (Some("ErrorInvalidServerVersion"), 5));
}

/// A web server that answers everything with this envelope's body.
fn something_else(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/EWS/Exchange.asmx", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut sock in listener.incoming().map_while(Result::ok) {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && sock.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            let mut asked = vec![0; length.map_or(0, |n| n.trim().parse().unwrap())];
            let _ = sock.read_exact(&mut asked);
            let body = format!("<Envelope><Body>{body}</Body></Envelope>");
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = sock.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
    });
    url
}

// Some other SOAP service at the address: its name, and the address, lead to the mistake.
#[test]
fn an_answer_to_something_else_says_whose_and_what() {
    let url = something_else("<PriceResponse/>");
    let mut options = Options::new();
    options.set("url", &url).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    let client = Client::open(&options).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let item = |fetch| client.get_item(0, "AAMk1", None, fetch).unwrap_err();
    let attachment = client.save_attachment(0, "AAMk1", &dir.path().join("x")).unwrap_err();
    for (e, what, operation) in [
        (item(Fetch::Summary), "item AAMk1: ", "GetItem"),
        (item(Fetch::Mime), "item AAMk1: ", "GetItem"),
        (attachment, "attachment AAMk1: ", "GetAttachment"),
    ] {
        assert_eq!(e.kind(), ErrorKind::Protocol, "{e}");
        assert_eq!(
            e.to_string(),
            format!("{what}{url}: the server's answer (<PriceResponse>) is no answer to {operation}")
        );
    }
    client.watch(&Options::new()).unwrap();
    let Next::Event(event) = client.next(Duration::from_secs(60)) else { panic!("nothing") };
    let told = event.detail.unwrap().message.unwrap();
    assert!(
        told.starts_with(&format!("{url}: the server's answer (<PriceResponse>) is no answer to GetFolder")),
        "{told}"
    );
}

// A setting of the client that is given to a watch would do nothing, without a word.
#[test]
fn a_watch_is_not_given_what_is_the_clients() {
    let sim = server(Style::Exchange);
    let mut of_client = options(&sim);
    of_client.set("queue_events", "5").unwrap().set("events", "Moved").unwrap();
    let client = Client::open(&of_client).unwrap();
    client.watch(&Options::new()).unwrap();
    let mut of_watch = Options::new();
    of_watch.set("events", "NewMail").unwrap().set("max_response_bytes", "16384").unwrap();
    for e in [
        client.watch(&of_watch).unwrap_err(),
        client.fetch_item(&of_watch, "x", None, Fetch::Summary).unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.to_string().contains("max_response_bytes is one of the client"), "{e}");
    }
}

fn options(sim: &Sim) -> Options {
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    options
}
