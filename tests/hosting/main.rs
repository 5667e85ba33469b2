//! What hosts ask for beside the events, over real sockets: one event for a burst, the state in their own hands, mail put away, how it stands.
#![cfg(feature = "sim")]

mod after_ack;
mod coalesce;
mod kept_by_host;
mod status;

use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use ewsnotify::{Client, Event, EventKind, Next, Options};

const ADA: &str = "ada@example.test";
/// How long anything may take before the test calls it a hang.
const LIMIT: Duration = Duration::from_secs(60);

fn server() -> Sim {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
    sim
}

fn options(sim: &Sim, settings: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    for (key, value) in settings {
        options.set(key, value).unwrap();
    }
    options
}

fn watch(options: &Options) -> Client {
    let client = Client::open(options).unwrap();
    client.watch(&Options::new()).unwrap();
    client
}

fn deliver(sim: &Sim, subject: &str) -> String {
    let mime = format!(
        "From: Bob <bob@example.test>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.test>\r\n\r\nText\r\n"
    );
    sim.exchange().deliver(ADA, mime.as_bytes()).unwrap()
}

/// Takes events until one is as wanted.
fn until(client: &Client, events: &mut Vec<Event>, wanted: impl Fn(&[Event]) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !wanted(events) {
        match client.next(deadline.saturating_duration_since(Instant::now())) {
            Next::Event(event) => events.push(event),
            Next::Interrupted => {}
            other => panic!("{other:?} after {:#?}", events.iter().map(Event::to_json).collect::<Vec<_>>()),
        }
    }
}

fn has(kind: EventKind) -> impl Fn(&[Event]) -> bool {
    move |events| events.iter().any(|e| e.kind == kind)
}

/// The kinds that were told of an item, in their order.
fn kinds(events: &[Event], item: &str) -> Vec<EventKind> {
    events.iter().filter(|e| e.item_id.as_deref() == Some(item)).map(|e| e.kind).collect()
}
