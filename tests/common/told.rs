//! A watch, and what it tells.

#![allow(dead_code)] // Each test file is a crate of its own and uses what it needs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ewsnotify::{Client, Event, EventKind, Next, Options};

/// How long anything may take before the test calls it a hang.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A client with one watch.
pub fn watch(options: &Options) -> Client {
    let client = Client::open(options).unwrap();
    client.watch(&Options::new()).unwrap();
    client
}

/// Takes events until all is as wanted.
pub fn until(client: &Client, events: &mut Vec<Event>, wanted: impl Fn(&[Event]) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !wanted(events) {
        match client.next(deadline.saturating_duration_since(Instant::now())) {
            Next::Event(event) => events.push(event),
            Next::Interrupted => {}
            other => panic!("{other:?} after {:#?}", events.iter().map(Event::to_json).collect::<Vec<_>>()),
        }
    }
}

pub fn count(events: &[Event], kind: EventKind) -> usize {
    events.iter().filter(|e| e.kind == kind).count()
}

/// How often each item was told as new mail.
pub fn mails(events: &[Event]) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for event in events.iter().filter(|e| e.kind == EventKind::NewMail) {
        *told.entry(event.item_id.clone().unwrap()).or_default() += 1;
    }
    told
}

pub fn once(items: &[String]) -> BTreeMap<String, usize> {
    items.iter().map(|i| (i.clone(), 1)).collect()
}
