//! Option `after_ack`.

use ewsnotify::ErrorKind;

use super::*;

/// The item is acknowledged, and what follows is done.
fn handle(client: &Client, events: &mut Vec<Event>, item: &str) {
    let of = |e: &Event| e.kind == EventKind::NewMail && e.item_id.as_deref() == Some(item);
    until(client, events, |events| events.iter().any(of));
    client.ack(events.iter().rfind(|e| of(e)).unwrap().seq).unwrap();
    let deadline = Instant::now() + LIMIT;
    while client.status().watches[0].acting > 0 {
        assert!(Instant::now() < deadline, "{:#?}", client.status());
        if let Next::Event(event) = client.next(Duration::from_millis(20)) {
            events.push(event);
        }
    }
}

// A mail that was handled would stay unread in everybody's inbox, or its being put away be told as news.
#[test]
fn a_handled_mail_is_put_away_and_that_is_not_told_back() {
    for action in ["read", "move", "delete"] {
        let sim = server();
        let archive = sim.exchange().create_folder(ADA, "inbox", "Done").unwrap();
        let wanted = if action == "move" { format!("move:id:{archive}") } else { action.to_owned() };
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().to_str().unwrap();
        let events = "NewMail,Modified,Moved,Deleted";
        let settings = [("ack", "manual"), ("after_ack", &wanted), ("state_dir", dir), ("events", events)];
        let options = options(&sim, &settings);
        let client = watch(&options);
        let mut events = Vec::new();
        until(&client, &mut events, |e| has(EventKind::Connected)(e) && has(EventKind::Drained)(e));
        let first = deliver(&sim, "first");
        handle(&client, &mut events, &first);
        let inbox = sim.exchange().item_ids(ADA, "inbox").unwrap();
        match action {
            "read" => {
                let item = client.get_item(1, &first, None, ewsnotify::Fetch::Summary).unwrap();
                assert_eq!((item.is_read, inbox.len()), (Some(true), 1));
            }
            "move" => {
                assert_eq!((inbox.len(), sim.exchange().item_ids(ADA, &archive).unwrap().len()), (0, 1));
            }
            _ => {
                assert_eq!(
                    (inbox.len(), sim.exchange().item_ids(ADA, "deleteditems").unwrap().len()),
                    (0, 1)
                );
            }
        }
        assert!(sim.exchange().receipts().is_empty(), "nobody is told that it was read");
        // What comes next, comes behind what the first one's fate would have been told with.
        let second = deliver(&sim, "second");
        handle(&client, &mut events, &second);
        let told = |events: &[Event], item: &str| {
            let of = |e: &&Event| {
                e.kind.is_mailbox()
                    && [&e.item_id, &e.old_item_id].iter().any(|id| id.as_deref() == Some(item))
            };
            events.iter().filter(of).map(|e| e.kind).collect::<Vec<_>>()
        };
        assert_eq!(told(&events, &first), [EventKind::NewMail], "{action}");
        drop(client);
        let client = watch(&options);
        let mut events = Vec::new();
        until(&client, &mut events, has(EventKind::Drained));
        assert!(
            events
                .iter()
                .all(|e| ![EventKind::NewMail, EventKind::Moved, EventKind::Deleted].contains(&e.kind)),
            "{action}: {events:#?}"
        );
    }
}

// A folder that is gone would end the watch, or nobody would know why the inbox fills.
#[test]
fn a_refusal_names_the_item_and_ends_nothing() {
    let sim = server();
    let archive = sim.exchange().create_folder(ADA, "inbox", "Done").unwrap();
    sim.exchange().delete_folder(ADA, &archive, ewsnotify::sim::exchange::Deletion::Hard).unwrap();
    let wanted = format!("move:id:{archive}");
    let client = watch(&options(&sim, &[("ack", "manual"), ("after_ack", &wanted), ("events", "NewMail")]));
    let mut events = Vec::new();
    until(&client, &mut events, has(EventKind::Connected));
    for subject in ["first", "second"] {
        let item = deliver(&sim, subject);
        handle(&client, &mut events, &item);
        let refused = |e: &Event| e.kind == EventKind::Error && e.item_id.as_deref() == Some(&*item);
        until(&client, &mut events, |events| events.iter().any(refused));
    }
    assert_eq!(sim.exchange().item_ids(ADA, "inbox").unwrap().len(), 2);
}

// Mail would go round between a folder and itself.
#[test]
fn what_is_watched_itself_is_no_place_to_put_mail() {
    let sim = server();
    for (folders, all, action) in [
        ("inbox,junkemail", "false", "move:junkemail"),
        ("inbox,deleteditems", "false", "delete"),
        ("inbox", "true", "move:junkemail"),
        ("inbox", "true", "delete"),
    ] {
        let options = options(&sim, &[("folders", folders), ("all_folders", all), ("after_ack", action)]);
        let client = Client::open(&options).unwrap();
        let e = client.watch(&Options::new()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.to_string().contains("after_ack"), "{e}");
    }
    for bad in ["", "move:", "move:nowhere", "move:inbox,drafts", "shred"] {
        assert!(Options::new().set("after_ack", bad).is_err(), "{bad}");
    }
}

// The same, where only the server knows that the two are one folder.
#[test]
fn a_watched_folder_by_path_or_id_is_no_place_to_put_mail() {
    let sim = server();
    let exchange = sim.exchange();
    let id = |name| format!("id:{}", exchange.folder_id(ADA, name).unwrap());
    for (folders, action) in [
        ("inbox,/Deleted Items", "delete"),
        (id("deleteditems").as_str(), "delete"),
        ("inbox,/Junk Email", "move:junkemail"),
        ("inbox,junkemail", &format!("move:{}", id("junkemail"))),
    ] {
        let client = watch(&options(&sim, &[("folders", folders), ("after_ack", action)]));
        let events: Vec<Event> = (&client).into_iter().take_while(|e| e.kind != EventKind::Closed).collect();
        let text = events.last().and_then(|e| e.detail.as_ref()?.message.clone()).unwrap_or_default();
        assert!(
            text.contains("after_ack") && text.contains("watched itself"),
            "{folders} {action}: {events:?}"
        );
    }
}
