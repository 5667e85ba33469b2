//! What hosts ask for beside the events, over real sockets: one event for a burst, the state in their own hands, mail put away, how it stands.
#![cfg(feature = "sim")]

mod after_ack;
mod coalesce;
mod kept_by_host;
mod status;
#[path = "../common/told.rs"]
mod told;

use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use ewsnotify::{Client, Event, EventKind, Next, Options};

use told::{LIMIT, until, watch};

const ADA: &str = "ada@example.test";

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

fn deliver(sim: &Sim, subject: &str) -> String {
    let mime = format!(
        "From: Bob <bob@example.test>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.test>\r\n\r\nText\r\n"
    );
    sim.exchange().deliver(ADA, mime.as_bytes()).unwrap()
}

fn has(kind: EventKind) -> impl Fn(&[Event]) -> bool {
    move |events| events.iter().any(|e| e.kind == kind)
}

/// The kinds that were told of an item, in their order.
fn kinds(events: &[Event], item: &str) -> Vec<EventKind> {
    events.iter().filter(|e| e.item_id.as_deref() == Some(item)).map(|e| e.kind).collect()
}
