//! The queue by itself: what gets in when it is full, and what goes out first.

use std::time::{Duration, SystemTime};

use super::super::delivery::{Delivery, LOGS, Limits, Pushed};
use crate::event::{Detail, Fill};
use crate::{Event, EventKind, Reason};

fn event(kind: EventKind, watch: u64, at: u64) -> Event {
    let mut e =
        Event::new(kind, watch, "ada@example.test".into(), SystemTime::UNIX_EPOCH + Duration::from_secs(at));
    if kind == EventKind::Gap {
        e.detail = Some(Box::new(Detail {
            reason: Some(Reason::ConnectionLost),
            since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(at - 1)),
            ..Detail::default()
        }));
    }
    e
}

fn queue(events: usize) -> Delivery {
    Delivery::new(Limits { events, bytes: 1 << 20 })
}

fn drain(q: &mut Delivery) -> Vec<(EventKind, u64, u64)> {
    std::iter::from_fn(|| q.pop(|_| false))
        .map(|e| {
            let at = e.time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            (e.kind, e.watch, at)
        })
        .collect()
}

// A host that is too slow would lose events without a word, or be told of a gap in the wrong place.
#[test]
fn an_overflow_is_one_gap_for_each_watch_where_the_loss_began() {
    let mut q = queue(2);
    assert_eq!(q.push(event(EventKind::NewMail, 1, 10)), Pushed::Queued);
    assert_eq!(q.push(event(EventKind::NewMail, 2, 11)), Pushed::Queued);
    assert_eq!(q.push(event(EventKind::NewMail, 1, 12)), Pushed::Dropped);
    assert_eq!(q.push(event(EventKind::NewMail, 1, 13)), Pushed::Dropped);
    assert_eq!(q.push(event(EventKind::NewMail, 2, 14)), Pushed::Dropped);
    assert_eq!(q.len(), 4);
    assert_eq!(q.pop(|_| false).map(|e| (e.kind, e.seq)), Some((EventKind::NewMail, 1)));
    assert_eq!(q.pop(|_| false).map(|e| (e.kind, e.seq)), Some((EventKind::NewMail, 2)));
    // There is room again, but watch 1's gap has not been taken: its loss goes on.
    q.push(event(EventKind::NewMail, 1, 15));
    let gap = q.pop(|_| false).unwrap();
    let detail = gap.detail.unwrap();
    assert_eq!((gap.kind, gap.watch, detail.reason), (EventKind::Gap, 1, Some(Reason::QueueOverflow)));
    assert_eq!(detail.since, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(12)));
    assert_eq!(gap.time, SystemTime::UNIX_EPOCH + Duration::from_secs(15));
    assert_eq!(q.push(event(EventKind::NewMail, 1, 16)), Pushed::Queued);
    assert_eq!(drain(&mut q), [(EventKind::Gap, 2, 14), (EventKind::NewMail, 1, 16)]);
    assert_eq!(q.bytes(), 0);
}

// A host that never reads would make the process grow for ever.
#[test]
fn a_host_that_never_reads_costs_no_more_memory() {
    let mut q = queue(3);
    for at in 0..100_000u64 {
        let kind = [
            EventKind::NewMail,
            EventKind::Disconnected,
            EventKind::Connected,
            EventKind::Gap,
            EventKind::Error,
            EventKind::Resubscribed,
        ][(at % 6) as usize];
        q.push(event(kind, 1 + at / 6 % 3, at + 1));
    }
    assert!(q.len() <= 3 + 3 * 5, "{}", q.len());
    // The last word about each link is the true one, and gaps reach up to the last one told.
    let left = drain(&mut q);
    for watch in 1..=3 {
        let link =
            left.iter().rev().find(|e| e.1 == watch && e.0 != EventKind::Gap && e.0 != EventKind::Error);
        assert!(link.is_some_and(|e| e.0 != EventKind::Disconnected), "{left:?}");
        let gap = left.iter().rev().find(|e| e.1 == watch && e.0 == EventKind::Gap).unwrap();
        assert!(gap.2 > 99_970, "{left:?}");
    }
    assert_eq!(q.bytes(), 0);
    assert!(q.is_empty());
}

// A host that logs would be told of less mail, or grow without bound where it does not read.
#[test]
fn the_log_takes_no_room_and_is_bounded() {
    let mut q = queue(2);
    for at in 1..=2000 {
        let mut line = event(EventKind::Log, 0, at);
        line.detail = Some(Box::new(Detail { message: Some("x".repeat(900)), ..Detail::default() }));
        q.push(line);
    }
    assert_eq!((q.len(), q.bytes()), (LOGS, 0));
    assert_eq!(q.push(event(EventKind::NewMail, 1, 1)), Pushed::Queued);
    assert_eq!(q.push(event(EventKind::NewMail, 1, 2)), Pushed::Queued);
    assert_eq!(q.push(event(EventKind::NewMail, 1, 3)), Pushed::Dropped);
    q.pop(|_| false);
    let mut line = event(EventKind::Log, 0, 1);
    line.detail = Some(Box::new(Detail { message: Some("last".into()), ..Detail::default() }));
    q.push(line);
    let last = std::iter::from_fn(|| q.pop(|_| false)).last().unwrap();
    assert_eq!(
        last.detail.unwrap().message.as_deref(),
        Some("last (1000 lines before this one found no room)")
    );
    assert!(q.is_empty() && q.fits(&event(EventKind::NewMail, 1, 1)));
    q.push(event(EventKind::Log, 0, 1));
    q.close();
    assert!(q.is_empty() && q.fits(&event(EventKind::NewMail, 1, 1)));
}

// Large events would fill the memory long before the count is reached.
#[test]
fn bytes_are_bounded_too() {
    let mut q = Delivery::new(Limits { events: 1000, bytes: 10_000 });
    for at in 1..1000 {
        let mut e = event(EventKind::NewMail, 1, at);
        e.item_id = Some("x".repeat(500));
        q.push(e);
    }
    assert!(q.bytes() < 10_000 + 2_000 && q.len() > 5, "{} {}", q.bytes(), q.len());
}

// After close() a host would still be handed mail that it then never acknowledges, or never hear Closed.
#[test]
fn close_leaves_closed_events_only() {
    let mut q = queue(1);
    q.push(event(EventKind::NewMail, 1, 1));
    q.push(event(EventKind::Closed, 1, 2));
    q.push(event(EventKind::Gap, 2, 3));
    q.close();
    assert_eq!(q.push(event(EventKind::NewMail, 2, 4)), Pushed::Closed);
    assert_eq!(q.push(event(EventKind::Closed, 0, 5)), Pushed::Queued);
    assert_eq!(drain(&mut q), [(EventKind::Closed, 1, 2), (EventKind::Closed, 0, 5)]);
    assert_eq!(q.bytes(), 0);
}

// Of two gaps in one, the host would be told that all of it will be filled.
#[test]
fn merged_gaps_say_the_worse_of_the_two() {
    for fills in [[Fill::Pending, Fill::Partial], [Fill::None, Fill::Pending], [Fill::Partial, Fill::None]] {
        let mut d = Delivery::new(Limits { events: 0, bytes: 0 });
        for (n, fill) in fills.into_iter().enumerate() {
            let mut gap = event(EventKind::Gap, 1, 20 + n as u64);
            let since = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(10 - n as u64));
            gap.detail = Some(Box::new(Detail { fill: Some(fill), since, ..Detail::default() }));
            d.push(gap);
        }
        let gap = d.pop(|_| false).unwrap();
        assert!(d.is_empty());
        let detail = gap.detail.unwrap();
        let worse = if fills.contains(&Fill::None) { Fill::None } else { Fill::Partial };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!((detail.fill, detail.since, gap.time), (Some(worse), Some(at(9)), at(21)));
    }
}

// A job would end before it was given what the host was too slow to take: it was told that all is handed out.
#[test]
fn drained_does_not_overtake_mail_that_waits_for_an_acknowledgement() {
    let mut d = Delivery::new(Limits { events: 10, bytes: 1 << 20 });
    for (kind, watch) in [(EventKind::NewMail, 1), (EventKind::Drained, 1), (EventKind::Drained, 2)] {
        d.push(event(kind, watch, 1));
    }
    let next = |d: &mut Delivery, blocked: u64| {
        assert!(
            d.has(|watch| watch == blocked)
                == [1, 2].iter().any(|watch| *watch != blocked && d.any(*watch, |_| true))
        );
        d.pop(|watch| watch == blocked).map(|e| (e.kind, e.watch))
    };
    assert_eq!(next(&mut d, 1), Some((EventKind::Drained, 2)));
    assert_eq!(next(&mut d, 1), None);
    assert_eq!(next(&mut d, 0), Some((EventKind::NewMail, 1)));
    assert_eq!(d.pop(|_| true).map(|e| e.kind), Some(EventKind::Drained));
}
