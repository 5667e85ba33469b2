//! A host that keeps the state in its own database, here a map.

use std::collections::BTreeMap;

use ewsnotify::ErrorKind;

use super::*;

type Table = BTreeMap<String, String>;

/// Writes a pair, and says so.
fn write(client: &Client, table: &mut Table, event: &Event) {
    let detail = event.detail.as_ref().unwrap();
    let key = detail.key.clone().unwrap();
    match &detail.value {
        Some(value) => table.insert(key, value.clone()),
        None => table.remove(&key),
    };
    client.ack(event.seq).unwrap();
}

/// Takes events until one is as wanted, and writes the pairs among them; the subjects of new mail.
fn live(client: &Client, table: &mut Table, wanted: impl Fn(&Event) -> bool) -> (Vec<String>, Event) {
    let deadline = Instant::now() + LIMIT;
    let mut subjects = Vec::new();
    loop {
        match client.next(deadline.saturating_duration_since(Instant::now())) {
            Next::Event(event) => {
                if event.kind == EventKind::StateChanged {
                    write(client, table, &event);
                }
                let subject = event.item.as_ref().and_then(|i| i.subject.clone());
                subjects.extend(subject.filter(|_| event.kind == EventKind::NewMail));
                if wanted(&event) {
                    return (subjects, event);
                }
            }
            other => panic!("{other:?} after {subjects:?}"),
        }
    }
}

fn begin(options: &Options, table: &Table) -> Client {
    let client = Client::open_with_state(options, table.clone()).unwrap();
    client.watch(&Options::new()).unwrap();
    client
}

// A PHP worker that keeps the state in its database would lose the mail that came while it was away, or open a ticket again.
#[test]
fn what_the_host_has_written_is_where_the_next_run_goes_on() {
    let sim = server();
    let settings = [("ack", "manual"), ("events", "NewMail"), ("fetch", "summary")];
    let options = options(&sim, &settings);
    let mut table = Table::new();

    let client = begin(&options, &table);
    live(&client, &mut table, |e| e.kind == EventKind::Drained);
    deliver(&sim, "done");
    let mail = live(&client, &mut table, |e| e.kind == EventKind::NewMail).1;
    // Returns at once: it is for good when the state that follows is written.
    client.ack(mail.seq).unwrap();
    let marks = |e: &Event| e.detail.as_ref().is_some_and(|d| d.value.is_none());
    live(&client, &mut table, marks);
    deliver(&sim, "killed with it");
    live(&client, &mut table, |e| e.kind == EventKind::NewMail);
    // What it would still have to write is lost with it.
    let kept = table.clone();
    drop(client);
    deliver(&sim, "while away");

    let mut table = kept;
    let client = begin(&options, &table);
    let (told, last) = live(&client, &mut table, |e| e.kind == EventKind::Drained);
    assert_eq!(told, ["killed with it", "while away"]);
    assert!(last.seq > 10_000, "above the last run's: {}", last.seq);
    // In order: what is left comes before the end.
    client.close();
    live(&client, &mut table, |e| e.kind == EventKind::Closed && e.watch == 0);
    assert!(matches!(client.next(Duration::ZERO), Next::Closed));
    assert_eq!(client.ack(last.seq).unwrap_err().kind(), ErrorKind::Invalid);
}

// Two would keep the state, and each only half of it; pairs of something else would be taken for a fresh start.
#[test]
fn who_keeps_the_state_is_asked_for_once_and_for_all_of_it() {
    let mut options = Options::new();
    let refused =
        |options: &Options, table: Table| Client::open_with_state(options, table).unwrap_err().kind();
    let strange = Table::from([("numbers".to_owned(), "many".to_owned())]);
    assert_eq!(refused(&options, strange), ErrorKind::State);
    options.set("state_dir", "/nowhere").unwrap();
    assert_eq!(refused(&options, Table::new()), ErrorKind::Invalid);
}
