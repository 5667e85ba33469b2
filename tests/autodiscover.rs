//! Watches that find their server by the mailbox's address, over real sockets and TLS.
#![cfg(feature = "sim")]

#[path = "common/company.rs"]
mod company;

use std::time::Duration;

use company::{ADA, ClosedPort, Company};
use ewsnotify::sim::exchange::Guide;
use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::{Client, ErrorKind, Event, EventKind, Fetch, Next, Options, Reason};

const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "s3cret";

fn company() -> Company {
    Company::start(SECRET, |b| b)
}

fn options(company: &Company, settings: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    options.set("user", ADA).unwrap().set("password", SECRET).unwrap();
    options.set("ca_file", &company.ca_file()).unwrap().set("connect_to", &company.connect_to()).unwrap();
    for (key, value) in settings {
        options.set(key, value).unwrap();
    }
    options
}

fn client(company: &Company, settings: &[(&str, &str)]) -> Client {
    Client::open(&options(company, settings)).unwrap()
}

#[track_caller]
fn next(client: &Client) -> Event {
    match client.next(LIMIT) {
        Next::Event(event) => event,
        other => panic!("{other:?}: {:?}", client.status()),
    }
}

#[track_caller]
fn until(client: &Client, kind: EventKind) -> Event {
    loop {
        let event = next(client);
        if event.kind == kind {
            return event;
        }
        assert_ne!(event.kind, EventKind::Closed, "{}", event.to_json());
    }
}

#[track_caller]
fn until_closed(client: &Client) -> Event {
    loop {
        let event = next(client);
        if event.kind == EventKind::Closed {
            return event;
        }
    }
}

fn message(event: &Event) -> String {
    event.detail.as_ref().and_then(|d| d.message.clone()).unwrap_or_default()
}

// No url: the mailbox's address is enough, in both modes.
#[test]
fn a_watch_finds_its_server() {
    for mode in ["streaming", "pull"] {
        let company = company();
        let client = client(&company, &[("mode", mode), ("pull_interval", "0s")]);
        client.watch(&Options::new()).unwrap();
        until(&client, EventKind::Connected);
        let id = company.sim.exchange().deliver(ADA, b"Subject: found\r\n\r\n").unwrap();
        let event = until(&client, EventKind::NewMail);
        assert_eq!(event.item_id.as_ref(), Some(&id));
        // What the host asks itself goes to the same server, without another look-up.
        let asked = company.sim.requests().len();
        let item = client.get_item(1, &id, None, Fetch::Summary).unwrap();
        assert_eq!(item.subject.as_deref(), Some("found"));
        let item = client.fetch_item(&Options::new(), &id, None, Fetch::Summary).unwrap();
        assert_eq!(item.subject.as_deref(), Some("found"));
        let later = &company.sim.requests()[asked..];
        assert!(!later.iter().any(|r| r.path.contains("autodiscover")), "{later:#?}");
        assert_eq!(company.discovered(200), 1);
    }
}

// A stream for mailboxes of two servers behind one URL gives the events of one of them. And only the first of thousands tries who
// does not answer: the others of its domain need one question each.
#[test]
fn mailboxes_of_another_group_share_no_stream() {
    let company = company();
    company.sim.add_fault(Fault::new(Action::Html).host("example.test").always());
    let names: Vec<String> = (0..6).map(|n| format!("box{n}@example.test")).collect();
    for (n, name) in names.iter().enumerate() {
        company.sim.exchange().add_mailbox(name);
        let grouping = Some(format!("EX{}", n % 2));
        company
            .sim
            .exchange()
            .guide(name, Guide::Settings { external: Some(company::EWS.into()), internal: None, grouping });
    }
    let client = client(&company, &[("access", "impersonate"), ("events", "NewMail")]);
    for (n, name) in names.iter().enumerate() {
        client.watch(Options::new().set("mailbox", name).unwrap()).unwrap();
        if n == 0 {
            until(&client, EventKind::Connected);
        }
    }
    for _ in &names[1..] {
        until(&client, EventKind::Connected);
    }
    for stream in client.status().connections {
        assert!(stream.watches.iter().all(|w| w % 2 == stream.watches[0] % 2), "{stream:?}");
    }
    let asked = |r: &&ewsnotify::sim::record::Request| {
        r.headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("host") && v == "example.test")
    };
    assert_eq!(company.sim.requests().iter().filter(asked).count(), 2, "SOAP and POX, once");
    for name in &names {
        company.sim.exchange().deliver(name, b"Subject: x\r\n\r\n").unwrap();
    }
    let mut told: Vec<String> =
        names.iter().map(|_| until(&client, EventKind::NewMail).mailbox.to_string()).collect();
    told.sort();
    assert_eq!(told, names);
}

// A typing error is told at once; where to look is looked up later, and `watch` waits for nobody.
#[test]
fn what_cannot_be_looked_up_is_refused() {
    let client = Client::open(&Options::new()).unwrap();
    let mut options = Options::new();
    options.set("user", "EXAMPLE\\ada").unwrap().set("password", "x").unwrap();
    let e = client.watch(&options).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.to_string().contains("url") && e.to_string().contains("EXAMPLE"), "{e}");
    // The mailbox's domain alone is nobody's word that the password may go there.
    let e = client.watch(options.set("mailbox", "ada@example.invalid").unwrap()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.to_string().contains("trusted_domains=example.invalid"), "{e}");
    client.watch(options.set("trusted_domains", "example.invalid").unwrap()).unwrap();
}

// A server that is away for a while is found when it is back; the host hears of both.
#[test]
fn failures_are_told_and_tried_again() {
    let company = company();
    company.sim.add_fault(
        Fault::new(Action::Status { code: 503, retry_after: None, retry_date: None, body: None })
            .on("GetUserSettings")
            .times(2),
    );
    company.sim.add_fault(
        Fault::new(Action::Status { code: 503, retry_after: None, retry_date: None, body: None })
            .on("Autodiscover")
            .times(2),
    );
    let client = client(&company, &[]);
    client.watch(&Options::new()).unwrap();
    let error = next(&client);
    assert_eq!(error.kind, EventKind::Error, "{}", error.to_json());
    assert!(
        message(&error).contains("503") && message(&error).contains("tried again"),
        "{}",
        error.to_json()
    );
    until(&client, EventKind::Connected);
}

// Each candidate that hangs, and the one that is being asked: an end must not wait for them.
#[test]
fn closing_ends_a_look_up_at_once() {
    let company = company();
    company.sim.add_fault(Fault::new(Action::NoAnswer).on("GetUserSettings").always());
    let client = client(&company, &[]);
    let watch = client.watch(&Options::new()).unwrap();
    assert!(company.sim.wait_until(LIMIT, |s| s.requests.iter().any(|((_, status), _)| *status == 401)));
    assert!(client.close_within(Duration::ZERO), "every thread has ended");
    let closed: Vec<(EventKind, u64)> = client.events().map(|e| (e.kind, e.watch)).collect();
    assert_eq!(closed, [(EventKind::Closed, watch), (EventKind::Closed, 0)]);
}

#[test]
fn a_watch_that_is_taken_back_during_its_look_up() {
    let company = company();
    company.sim.add_fault(Fault::new(Action::NoAnswer).on("GetUserSettings").always());
    let client = client(&company, &[]);
    let watch = client.watch(&Options::new()).unwrap();
    assert!(company.sim.wait_until(LIMIT, |s| s.requests.iter().any(|((_, status), _)| *status == 401)));
    client.unwatch(watch).unwrap();
    let closed = next(&client);
    assert_eq!((closed.kind, closed.detail.unwrap().reason), (EventKind::Closed, Some(Reason::ClosedByHost)));
    company.sim.clear_faults();
    client.watch(&Options::new()).unwrap();
    until(&client, EventKind::Connected);
}

// A wrong password is not tried until the account is locked: two places at the most, and then the watch has ended.
#[test]
fn a_refused_sign_in_ends_the_watch() {
    let company = company();
    let client = client(&company, &[("password", "wr0ng-pass")]);
    client.watch(&Options::new()).unwrap();
    let error = next(&client);
    assert_eq!(error.kind, EventKind::Error);
    assert!(message(&error).contains("check user"), "{}", error.to_json());
    assert!(!error.to_json().contains("wr0ng-pass"));
    let closed = next(&client);
    assert_eq!(
        (closed.kind, closed.detail.unwrap().reason),
        (EventKind::Closed, Some(Reason::SignInRefused))
    );
    let sent = |r: &&ewsnotify::sim::record::Request| {
        r.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("authorization"))
    };
    assert_eq!(company.sim.requests().iter().filter(sent).count(), 2);
    // Nor for the other mailboxes of the user.
    for n in 0..20 {
        let mut room = Options::new();
        client.watch(room.set("mailbox", &format!("room{n}@example.test")).unwrap()).unwrap();
    }
    for _ in 0..20 {
        let closed = until_closed(&client);
        assert_eq!(closed.detail.unwrap().reason, Some(Reason::SignInRefused));
    }
    assert_eq!(company.sim.requests().iter().filter(sent).count(), 2);
}

// A company's web server that refuses the password may stand before the one that takes it: neither after a restart, nor of the mailboxes that
// come together, would anybody ask further.
#[test]
fn a_web_server_that_refuses_the_password_stands_in_nobodys_way() {
    let company = company();
    let status = Action::Status { code: 401, retry_after: None, retry_date: None, body: None };
    company.sim.add_fault(Fault::new(status).host("example.test").always());
    let names: Vec<String> = (0..6).map(|n| format!("box{n}@example.test")).collect();
    names.iter().for_each(|name| company.sim.exchange().add_mailbox(name));
    let state = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let settings = [("access", "impersonate"), ("state_dir", state.path().to_str().unwrap())];
        let client = client(&company, &settings);
        for name in &names {
            client.watch(Options::new().set("mailbox", name).unwrap()).unwrap();
        }
        for _ in &names {
            until(&client, EventKind::Connected);
        }
        client.close();
    }
}

// Whoever can write into a company's DNS would be given its passwords.
#[test]
fn the_password_goes_to_no_unconfirmed_domain() {
    let company = company();
    let hoster = Company::start(SECRET, |b| b.names(["autodiscover.hoster.test", "ews.hoster.test"]));
    let svc = "https://autodiscover.hoster.test/autodiscover/autodiscover.svc";
    company.sim.exchange().guide(ADA, Guide::RedirectUrl(svc.into()));
    hoster.sim.exchange().set_ews_url("https://ews.hoster.test");
    let both = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(both.path(), format!("{}{}", company.sim.ca_pem().unwrap(), hoster.sim.ca_pem().unwrap()))
        .unwrap();
    let port = hoster.sim.address().port();
    let connect_to = format!(
        "autodiscover.hoster.test:443:127.0.0.1:{port},ews.hoster.test:443:127.0.0.1:{port},{}",
        company.connect_to()
    );
    let more = [("ca_file", both.path().to_str().unwrap()), ("connect_to", &connect_to)];
    let client = client(&company, &more);
    client.watch(&Options::new()).unwrap();
    let error = next(&client);
    assert!(message(&error).contains("trusted_domains=autodiscover.hoster.test"), "{}", error.to_json());
    assert_eq!(next(&client).kind, EventKind::Closed);
    assert_eq!(hoster.sim.stats().accepted, 0, "not even asked");
    client.watch(Options::new().set("trusted_domains", "hoster.test").unwrap()).unwrap();
    until(&client, EventKind::Connected);
    hoster.sim.exchange().deliver(ADA, b"Subject: hosted\r\n\r\n").unwrap();
    until(&client, EventKind::NewMail);
}

// The way of small companies: a redirect over plain http, to the one name that has a certificate.
#[test]
fn the_redirect_of_plain_http() {
    let company = Company::start(SECRET, |b| b.names(["owa.example.test"]));
    let http = ewsnotify::sim::Sim::builder().tls(false).start().unwrap();
    let to = "https://owa.example.test/autodiscover/autodiscover.xml";
    http.add_fault(Fault::new(Action::Redirect { to: to.into() }).on("GET").always());
    let (closed, port) = (ClosedPort::new(), company.sim.address().port());
    let connect_to = format!(
        "example.test:443:127.0.0.1:{0},autodiscover.example.test:443:127.0.0.1:{0},{1}",
        closed.port(),
        company.connect(port, http.address().port())
    );
    let client = client(&company, &[("connect_to", &connect_to)]);
    client.watch(&Options::new()).unwrap();
    until(&client, EventKind::Connected);
    let asked = http.requests();
    assert_eq!(asked.len(), 1);
    let head = |name: &str| {
        asked[0].headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    };
    assert_eq!(
        (asked[0].method.as_str(), head("host"), head("authorization")),
        ("GET", Some("autodiscover.example.test"), None)
    );
}

// A mailbox that is moved to another server is found there, and what came meanwhile is told.
#[test]
fn a_mailbox_that_moves_to_another_server_is_followed() {
    let company = company();
    let other = Company::start(SECRET, |b| b.names(["mail2.example.test"]));
    let both = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(both.path(), format!("{}{}", company.sim.ca_pem().unwrap(), other.sim.ca_pem().unwrap()))
        .unwrap();
    let port = other.sim.address().port();
    let connect_to = format!("mail2.example.test:443:127.0.0.1:{port},{}", company.connect_to());
    company.sim.exchange().place_mailbox(ADA, "site1", "mbx1.example.test").unwrap();
    company.sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
    let more = [("ca_file", both.path().to_str().unwrap()), ("connect_to", &connect_to)];
    let client = client(&company, &more);
    client.watch(&Options::new()).unwrap();
    until(&client, EventKind::Connected);
    let external = Some("https://mail2.example.test/EWS/Exchange.asmx".to_owned());
    company.sim.exchange().guide(ADA, Guide::Settings { external, internal: None, grouping: None });
    company.sim.exchange().place_mailbox(ADA, "site2", "mbx2.example.test").unwrap();
    until(&client, EventKind::Disconnected);
    until(&client, EventKind::Connected);
    let id = other.sim.exchange().deliver(ADA, b"Subject: at its new place\r\n\r\n").unwrap();
    assert_eq!(until(&client, EventKind::NewMail).item_id, Some(id));
    assert_eq!(company.discovered(200), 2, "looked up again, once");
}

// An organisation has several public folder mailboxes, and a request that reaches another one than the content's finds nothing: the
// address stood in no manual, and was to be looked up by the administrator.
#[test]
fn a_public_folders_content_is_found() {
    const CONTENT: &str = "pf7@example.test";
    let company = company();
    let exchange = company.sim.exchange();
    let public = exchange.add_public_folders();
    let news = exchange.create_folder(&public, "msgfolderroot", "News").unwrap();
    exchange.place_public_folders(CONTENT);
    let client = client(&company, &[("folders", "publicfoldersroot/news"), ("fetch", "summary")]);
    let watch = client.watch(&Options::new()).unwrap();
    until(&client, EventKind::Connected);
    let id = company.sim.exchange().deliver_into(&public, &news, b"Subject: to all\r\n\r\n").unwrap();
    let event = until(&client, EventKind::NewMail);
    assert_eq!(event.item.unwrap().subject.as_deref(), Some("to all"));
    // What the host asks itself goes there too, without another look-up.
    let asked = company.discovered(200);
    client.get_item(watch, &id, None, Fetch::Summary).unwrap();
    assert_eq!((asked, company.discovered(200)), (2, 2), "for the user, and for the GUID");
    for request in company.sim.requests().iter().filter(|r| r.operation == "Subscribe") {
        assert_eq!(request.header("x-publicfoldermailbox"), Some(CONTENT), "{request:#?}");
    }
}

// A restart goes on where the last run stood, though nobody has written the server down.
#[test]
fn the_state_is_the_same_wherever_the_server_is_found() {
    let (company, dir) = (company(), tempfile::tempdir().unwrap());
    let state = [("state_dir", dir.path().to_str().unwrap()), ("fetch", "summary"), ("ack", "manual")];
    let first = client(&company, &state);
    first.watch(&Options::new()).unwrap();
    until(&first, EventKind::Drained);
    company.sim.exchange().deliver(ADA, b"Subject: given and not acknowledged\r\n\r\n").unwrap();
    let given = until(&first, EventKind::NewMail);
    first.close();
    drop(first);
    company.sim.exchange().deliver(ADA, b"Subject: meanwhile\r\n\r\n").unwrap();
    let second = client(&company, &state);
    second.watch(&Options::new()).unwrap();
    let again = until(&second, EventKind::NewMail);
    assert_eq!(again.item_id, given.item_id);
    assert_eq!(again.item.unwrap().subject.as_deref(), Some("given and not acknowledged"));
    let event = until(&second, EventKind::NewMail);
    assert_eq!(event.item.unwrap().subject.as_deref(), Some("meanwhile"));
}
