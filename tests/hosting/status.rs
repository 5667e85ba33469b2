//! How it stands with a mailbox: what the client says, and the file that a web page reads without the library.

use std::path::Path;

use ewsnotify::sim::exchange::Deletion;
use ewsnotify::sim::fault::{Action, Cut, Fault};
use serde_json::Value;

use super::*;

fn written(dir: &Path) -> Value {
    std::fs::read(dir.join("status.json")).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
}

/// Waits for a state, in the client and in the file; what the file says of the mailbox then.
#[track_caller]
fn state(client: &Client, dir: &Path, wanted: &str) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = client.status().watches.first().map(|w| w.state);
        let file = written(dir).pointer("/mailboxes/0").cloned().unwrap_or_default();
        if said == Some(wanted) && file["state"] == wanted {
            assert_eq!(file["mailbox"], ADA);
            return file;
        }
        assert!(Instant::now() < deadline, "{said:?} instead of {wanted}, in the file {file}");
        // What a host does all the time.
        client.next(Duration::from_millis(20));
    }
}

// A web page would show a mailbox as fine that nobody has heard of for hours, and an operator not know whose password to renew.
#[test]
fn each_state_is_told_and_written() {
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    let folder = sim.exchange().create_folder(ADA, "inbox", "Support").unwrap();
    let folders = format!("id:{folder}");
    let settings = [("folders", &*folders), ("state_dir", dir.path().to_str().unwrap())];
    let options = options(&sim, &settings);
    let status = |code| Action::Status { code, retry_after: None, retry_date: None, body: None };
    sim.add_fault(Fault::new(Action::Stall { byte: 0 }).on("Subscribe"));
    let client = watch(&options);
    state(&client, dir.path(), "starting");
    sim.add_fault(Fault::new(status(500)).on("SyncFolderItems").always());
    // Again and again: it may not have stood still yet.
    while client.status().watches[0].state == "starting" {
        sim.resume();
        client.next(Duration::from_millis(20));
    }
    state(&client, dir.path(), "catching-up");
    sim.clear_faults();
    let file = state(&client, dir.path(), "connected");
    let success = file["last_success"].as_str().unwrap().to_owned();
    assert_eq!(file["reason"], Value::Null);

    sim.refuse_connections(true);
    sim.cut_connections(Cut::Reset);
    let file = state(&client, dir.path(), "degraded");
    assert!(file["reason"].is_string() && file["last_success"].as_str() >= Some(&success), "{file}");
    sim.refuse_connections(false);
    state(&client, dir.path(), "connected");

    sim.add_fault(Fault::new(status(401)).always());
    sim.cut_connections(Cut::Reset);
    let file = state(&client, dir.path(), "sign-in-needed");
    assert_eq!(file["reason"], "sign-in-refused", "{file}");
    sim.clear_faults();

    // Before there ever was a connection, too.
    client.unwatch(1).unwrap();
    sim.refuse_connections(true);
    client.watch(&Options::new()).unwrap();
    state(&client, dir.path(), "degraded");
    sim.refuse_connections(false);
    client.unwatch(2).unwrap();
    assert!(client.status().watches.is_empty());
    client.watch(&Options::new()).unwrap();
    state(&client, dir.path(), "connected");
    sim.exchange().delete_folder(ADA, &folder, Deletion::Hard).unwrap();
    // The next one cannot be made.
    sim.exchange().lose_subscription(ADA);
    state(&client, dir.path(), "gone");
    // Whoever watches it again sees how that goes, and not how it went before.
    client.watch(&Options::new()).unwrap();
    assert_eq!(client.status().watches.len(), 1);
    state(&client, dir.path(), "gone");
    client.close();
    let file = written(dir.path());
    assert_eq!((&file["running"], &file["mailboxes"][0]["state"]), (&false.into(), &"gone".into()), "{file}");
    assert!(!file.to_string().contains("secret"), "{file}");
}

// Who has just set push up would see a healthy mailbox, and no mail: the server does not reach the URL.
#[test]
fn a_push_that_never_comes_is_told_and_written() {
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/nobody-is-here");
    let client = watch(&options(
        &sim,
        &[("mode", "push"), ("push_url", &url), ("state_dir", dir.path().to_str().unwrap())],
    ));
    let file = state(&client, dir.path(), "awaiting-push");
    assert!(file["unheard_since"].as_str().is_some_and(|t| t.ends_with('Z')), "{file}");
    assert!(client.status().watches[0].unheard_ms.is_some() && !client.status().watches[0].is_connected());
    // What the server sends reaches us after all, by a way that it need not know of.
    let id = sim.exchange().subscriptions(ADA).pop().unwrap();
    let body = format!(
        "<Envelope xmlns='http://schemas.xmlsoap.org/soap/envelope/'><Body><m:SendNotification \
         xmlns:m='http://schemas.microsoft.com/exchange/services/2006/messages' \
         xmlns:t='http://schemas.microsoft.com/exchange/services/2006/types'><m:ResponseMessages>\
         <m:SendNotificationResponseMessage ResponseClass='Success'><m:ResponseCode>NoError</m:ResponseCode><m:Notification>\
         <t:SubscriptionId>{id}</t:SubscriptionId><t:StatusEvent/></m:Notification></m:SendNotificationResponseMessage>\
         </m:ResponseMessages></m:SendNotification></Body></Envelope>"
    );
    client.push_feed(body.as_bytes()).unwrap();
    let file = state(&client, dir.path(), "connected");
    assert_eq!(file["unheard_since"], Value::Null);
    assert_eq!(client.status().watches[0].unheard_ms, None);
}

// A host that forgets to acknowledge is given nothing any more: nobody would know why.
#[test]
fn a_host_that_is_waited_for_is_told_so() {
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("ack", "manual"),
        ("max_unacked", "2"),
        ("events", "NewMail"),
        ("state_dir", dir.path().to_str().unwrap()),
    ];
    let client = watch(&options(&sim, &settings));
    let mut events = Vec::new();
    until(&client, &mut events, |e| has(EventKind::Connected)(e) && has(EventKind::Drained)(e));
    (0..3).for_each(|n| drop(deliver(&sim, &format!("mail {n}"))));
    let mails = |events: &[Event]| events.iter().filter(|e| e.kind == EventKind::NewMail).count();
    until(&client, &mut events, |e| mails(e) == 2);
    let status = client.status().watches.remove(0);
    assert_eq!((status.unacknowledged, status.waits_for_host), (2, true));
    while written(dir.path())["mailboxes"][0]["waits_for_host"] != true {
        assert!(matches!(client.next(Duration::from_millis(20)), Next::TimedOut));
    }
    client.ack(events.iter().rfind(|e| e.kind == EventKind::NewMail).unwrap().seq).unwrap();
    assert!(!client.status().watches[0].waits_for_host);
    until(&client, &mut events, |e| mails(e) == 3);
}

// A page would show an event as left over that the host has dealt with, until the next run.
#[test]
fn the_last_picture_is_of_the_end() {
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    let client = watch(&options(&sim, &[("events", "NewMail"), ("state_dir", dir.path().to_str().unwrap())]));
    let mut events = Vec::new();
    until(&client, &mut events, |e| has(EventKind::Connected)(e) && has(EventKind::Drained)(e));
    deliver(&sim, "the last");
    until(&client, &mut events, has(EventKind::NewMail));
    client.close();
    let file = written(dir.path());
    assert_eq!((&file["running"], &file["mailboxes"][0]["backlog"]), (&false.into(), &0.into()), "{file}");
    let me = std::env::current_exe().unwrap();
    assert_eq!(file["program"].as_str(), me.file_name().and_then(|n| n.to_str()), "{file}");
    // A client that watches nothing leaves what the last one wrote.
    let mut idle = Options::new();
    idle.set("state_dir", dir.path().to_str().unwrap()).unwrap();
    drop(client);
    drop(Client::open(&idle).unwrap());
    assert_eq!(written(dir.path()), file);
}

// A host that closes on one thread and frees on another would leave a page that says its program was killed.
#[test]
fn two_that_close_at_once_leave_the_last_picture() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.set("url", "http://127.0.0.1:1").unwrap().set("user", ADA).unwrap().set("password", "p").unwrap();
    options.set("state_dir", dir.path().to_str().unwrap()).unwrap();
    for _ in 0..100 {
        let client = watch(&options);
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for patience in [Duration::ZERO, Duration::from_secs(1)] {
                let (client, start) = (&client, &start);
                scope.spawn(move || {
                    start.wait();
                    client.close_within(patience)
                });
            }
        });
        assert_eq!(written(dir.path())["running"], false);
        std::fs::remove_file(dir.path().join("status.json")).unwrap();
    }
}
