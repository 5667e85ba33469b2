//! A watch whose listener is attacked, and what must be left of it.

use std::net::SocketAddr;

use ewsnotify::sim::Style;
use ewsnotify::{Event, EventKind};

use crate::raw::SECRET;
use crate::watching::{Watching, server};

/// How many connections it lets stand.
pub const CONNECTIONS: usize = 40;
/// How large a notification may be.
pub const MOST: usize = 65_536;

/// A connected watch, and where it listens.
pub fn watching() -> (Watching, SocketAddr) {
    let (connections, most) = (CONNECTIONS.to_string(), MOST.to_string());
    let settings = [
        ("mode", "push"),
        ("push_secret", SECRET),
        ("push_max_bytes", most.as_str()),
        ("push_connections", connections.as_str()),
        ("push_timeout", "2s"),
        ("log", "warn"),
    ];
    let mut w = Watching::start(server(Style::Exchange), &settings);
    w.connected();
    w.settle();
    let address = w.client.push_address().unwrap();
    (w, address)
}

/// The lines of the log about the listener.
fn log(w: &Watching) -> Vec<String> {
    let lines = w.events.iter().filter(|e| e.kind == EventKind::Log);
    let lines = lines.filter_map(|e: &Event| e.detail.as_ref()?.message.clone());
    lines.filter(|l| l.starts_with("push listener:")).collect()
}

/// All mail is told, once, and no gap. But noise that has the right secret may, once in many runs, be an error that the server tells of
/// the subscription, which is made anew: that is a gap.
pub fn is_well(mut w: Watching) -> Vec<String> {
    for _ in 0..3 {
        w.deliver();
    }
    w.settle();
    let told_of = |e: &&Event| {
        let said = e.detail.as_ref().and_then(|d| d.message.as_deref());
        e.kind == EventKind::Log && said.is_some_and(|m| m.starts_with("a push tells of an error"))
    };
    let errors = w.events.iter().filter(told_of).count();
    assert_eq!((w.compare(), w.count(EventKind::Gap)), (0, errors), "{:#?}", w.events);
    log(&w)
}
