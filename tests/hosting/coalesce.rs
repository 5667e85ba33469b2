//! Option `coalesce`.

use super::*;

// A help desk would open a ticket and change it three times, or lose the mail that it was about to be told of.
#[test]
fn a_burst_is_one_event_with_the_newest_content_and_nothing_is_lost_at_the_end() {
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("coalesce", "1h"),
        ("events", "NewMail,Created,Modified,Deleted"),
        ("fetch", "summary"),
        ("state_dir", dir.path().to_str().unwrap()),
    ];
    let options = options(&sim, &settings);
    let client = watch(&options);
    let mut events = Vec::new();
    until(&client, &mut events, |e| has(EventKind::Connected)(e) && has(EventKind::Drained)(e));
    let items = ["one", "two", "three"].map(|subject| deliver(&sim, subject));
    for (item, subject) in items.iter().zip(["uno", "due", "tre"]) {
        sim.exchange().update_subject(item, subject).unwrap();
        sim.exchange().set_read(item, true).unwrap();
    }
    // Whatever ends a window: here, that the item goes.
    let last = deliver(&sim, "last");
    sim.exchange().delete_item(&last, ewsnotify::sim::exchange::Deletion::Hard).unwrap();
    until(&client, &mut events, has(EventKind::Deleted));
    assert_eq!(kinds(&events, &last), [EventKind::NewMail, EventKind::Deleted]);
    assert!(items.iter().all(|item| kinds(&events, item).is_empty()), "their windows are open");
    drop(client);

    let client = watch(&options);
    let mut events = Vec::new();
    let told = |events: &[Event]| events.iter().filter(|e| e.kind == EventKind::NewMail).count();
    until(&client, &mut events, |e| told(e) == 3 && has(EventKind::Drained)(e));
    let subject = |e: &Event| e.item.as_ref().and_then(|i| i.subject.clone()).unwrap();
    let subjects: Vec<String> = events.iter().filter(|e| e.kind == EventKind::NewMail).map(subject).collect();
    assert_eq!(subjects, ["uno", "due", "tre"]);
    for item in &items {
        assert_eq!(kinds(&events, item)[0], EventKind::NewMail);
    }
}
