//! Servers that quote what they were sent, wherever an answer has room for it; and what goes well.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ewsnotify::net::Cancel;
use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::{Client, EventKind, Fetch, Next, Options, check};

use super::known::{
    ADA, PASSWORD, PUSH_SECRET, Scan, WAYS, answer, borrowed, echo, header, quoted, secrets, xml,
};
use super::shown::{LIMIT, files, log_all, no_log_shows, shown, until};

fn options(url: &str) -> Options {
    let mut options = Options::new();
    options.set("url", url).unwrap().set("user", ADA).unwrap().set("password", PASSWORD).unwrap();
    options.set("log", "debug").unwrap().set("pull_interval", "20ms").unwrap();
    options
}

/// All that a check says.
fn findings(options: &Options) -> String {
    let mut said = String::new();
    let mut tell = |f: check::Finding| said += &format!("{}{f:?}\n", serde_json::to_string(&f).unwrap());
    let outcome = check::check(options, &Cancel::new(), &mut tell);
    said + &format!("{outcome:?}")
}

// A server, or a proxy before it, that quotes the request in its answer puts the password into the ticket that somebody opens about
// the error, and into the log that everybody reads.
#[test]
fn what_a_server_quotes_is_shown_nowhere() {
    log_all();
    let all = secrets();
    let scan = Scan::new(&borrowed(&all));
    // The scan itself works, and the server quotes what it is said to.
    for way in 0..WAYS {
        assert!(scan.find(&answer(way, &format!("Authorization: Basic {}", header()), 1)).is_some(), "{way}");
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let url = format!("http://127.0.0.1:{}/EWS/Exchange.asmx", echo(asked.clone()));
    let folder = tempfile::tempdir().unwrap();
    let (state, wire) = (folder.path().join("state"), folder.path().join("wire.log"));
    let mut options = options(&url);
    options.set("state_dir", state.to_str().unwrap()).unwrap().set("push_secret", PUSH_SECRET).unwrap();
    options.set("push_listen", "127.0.0.1:0").unwrap().set("trace_wire", wire.to_str().unwrap()).unwrap();
    scan.assert_clean("the options", format!("{options:?}"));
    let mut last = None;
    let mut errors = String::new();
    let mut tell = |e: ewsnotify::Error| errors += &format!("{e}\n{e:?}\n{:?}\n", e.code());
    for n in 0..2 * WAYS {
        // A client whose password was refused does not send it again.
        drop(last.take());
        let client = last.insert(Client::open(&options).unwrap());
        let id = format!("AAMk{n}");
        let failed = match n % 3 {
            0 => client.get_item(0, &id, None, Fetch::Summary).map(drop),
            1 => client.get_item(0, &id, None, Fetch::Mime).map(drop),
            _ => client.save_attachment(0, &id, &folder.path().join(&id)),
        };
        tell(failed.unwrap_err());
    }
    let client = last.unwrap();
    tell(client.push_feed(header().as_bytes()).unwrap_err());
    tell(client.push_feed(format!("<{PASSWORD}>").as_bytes()).unwrap_err());
    scan.assert_clean("an error", &errors);
    assert!(errors.contains("***"), "{errors}");
    let mut events = Vec::new();
    for mode in ["streaming", "pull", "push"] {
        for _ in 0..WAYS {
            let mut watch = Options::new();
            watch
                .set("mode", mode)
                .unwrap()
                .set("mailbox", &format!("m{}@example.test", events.len()))
                .unwrap();
            // The same password is another one for another user.
            watch.set("access", "impersonate").unwrap();
            watch.set("user", &format!("ada{}@example.test", events.len())).unwrap();
            let id = client.watch(&watch).unwrap();
            // Some ways are taken for good, others are tried again: both have been told.
            until(&client, &mut events, |e| {
                e.watch == id
                    && matches!(e.kind, EventKind::Disconnected | EventKind::Closed | EventKind::Error)
            });
            let _ = client.unwatch(id);
        }
    }
    let status = client.status();
    scan.assert_clean(
        "the status",
        serde_json::to_string(&status).unwrap() + &format!("{status:?} {client:?}"),
    );
    client.close();
    while let Next::Event(event) = client.next(LIMIT) {
        events.push(event);
    }
    scan.assert_clean("an event", shown(&events));
    let told = shown(&events);
    assert!(told.contains("***"), "{told}");
    for _ in 0..WAYS {
        scan.assert_clean("a finding", findings(&options));
    }
    for (name, bytes) in files(folder.path()) {
        scan.assert_clean(&name, bytes);
    }
    let wire = std::fs::read_to_string(wire).unwrap();
    assert!(wire.contains(" > POST ") && wire.contains("Authorization: Basic ***"), "{wire}");
    no_log_shows(&scan);
}

/// A watch of each mode on a simulator, with all that it writes.
fn watch_all(sim: &Sim, folder: &Path, scan: &Scan) {
    for mode in ["streaming", "pull", "push"] {
        let place = folder.join(mode);
        std::fs::create_dir(&place).unwrap();
        let mut options = options(sim.url());
        let path = |name: &str| place.join(name).to_str().unwrap().to_owned();
        options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
        options.set("mode", mode).unwrap().set("fetch", "mime").unwrap();
        options.set("state_dir", &path("state")).unwrap().set("trace_wire", &path("wire.log")).unwrap();
        if mode == "push" {
            options.set("push_listen", "127.0.0.1:0").unwrap().set("push_secret", PUSH_SECRET).unwrap();
        }
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        let mut events = Vec::new();
        until(&client, &mut events, |e| e.kind == EventKind::Connected);
        sim.exchange().deliver(ADA, b"From: Bob <bob@example.test>\r\nSubject: Hello\r\n\r\nText").unwrap();
        until(&client, &mut events, |e| e.kind == EventKind::NewMail);
        client.close();
        while let Next::Event(event) = client.next(LIMIT) {
            events.push(event);
        }
        scan.assert_clean("an event", shown(&events));
        for (name, bytes) in files(&place) {
            scan.assert_clean(&name, bytes);
        }
        let wire = std::fs::read_to_string(place.join("wire.log")).unwrap();
        for wanted in
            [" > POST https://", "Authorization: Basic ***", " < HTTP/1.1 200 OK", "GetItemResponse", "Hello"]
        {
            assert!(wire.contains(wanted), "{mode}: {wanted} is not in {wire}");
        }
        let push = [" < POST /***", "<t:URL>***</t:URL>"].iter().all(|wanted| wire.contains(wanted));
        assert_eq!(push, mode == "push", "{mode}: {wire}");
    }
}

// Nothing has to go wrong for a secret to be shown.
#[test]
fn what_goes_well_shows_no_secret() {
    log_all();
    let all = secrets();
    let scan = Scan::new(&borrowed(&all));
    let sim = Sim::builder().user(ADA, PASSWORD).start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    watch_all(&sim, folder.path(), &scan);
    no_log_shows(&scan);
}

// Whoever answers at autodiscover.example.test was sent the password, and may be anybody in the company.
#[test]
fn what_autodiscover_quotes_is_shown_nowhere() {
    log_all();
    let all = secrets();
    let scan = Scan::new(&borrowed(&all));
    let text = quoted(&format!("Authorization: Basic {}", header()), &borrowed(&all)[..2]);
    let url: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || "%=&+/-".contains(*c)).collect();
    let pox = format!(
        "<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\"><Response><Error \
         Time=\"1\" Id=\"2\"><ErrorCode>{}</ErrorCode><Message>{}</Message><DebugData>{}</DebugData></Error></Response></Autodiscover>",
        header(),
        xml(&text),
        xml(&text)
    );
    let status = |code, body: &str| Action::Status {
        code,
        retry_after: None,
        retry_date: None,
        body: Some(body.into()),
    };
    let actions = [
        status(200, &pox),
        status(500, &pox),
        status(200, &format!("<html>{text}")),
        status(403, &text),
        Action::Redirect { to: format!("https://example.test/autodiscover/autodiscover.xml/{url}") },
        Action::Redirect { to: format!("https://elsewhere.test/autodiscover/autodiscover.xml?{url}") },
    ];
    for action in actions {
        let sim = Sim::builder().user(ADA, PASSWORD).start().unwrap();
        for operation in ["GetUserSettings", "Autodiscover"] {
            sim.add_fault(Fault::new(action.clone()).on(operation).times(100));
        }
        let folder = tempfile::tempdir().unwrap();
        let wire = folder.path().join("wire.log");
        let mut options = options("auto");
        options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
        options.set("connect_to", &format!("::127.0.0.1:{}", sim.address().port())).unwrap();
        options.set("trace_wire", wire.to_str().unwrap()).unwrap();
        scan.assert_clean("a finding", findings(&options));
        let client = Client::open(&options).unwrap();
        let e = client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err();
        scan.assert_clean("an error", format!("{e} {e:?}"));
        client.watch(&Options::new()).unwrap();
        let mut events = Vec::new();
        until(&client, &mut events, |e| {
            matches!(e.kind, EventKind::Error | EventKind::Disconnected | EventKind::Closed)
        });
        client.close();
        while let Next::Event(event) = client.next(LIMIT) {
            events.push(event);
        }
        scan.assert_clean("an event", shown(&events));
        scan.assert_clean("the wire log", std::fs::read(&wire).unwrap());
    }
    no_log_shows(&scan);
}
