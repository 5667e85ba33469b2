//! The exact events of each operation, in order.

use std::time::{Duration, SystemTime};

use ewsnotify::sim::Style;
use ewsnotify::sim::exchange::Deletion;

use crate::support::{ADA, ALL_EVENTS, MAIL, Open, Sim, code, ids};

/// Subscriptions that look on: the Inbox, Drafts, everything.
fn watch(sim: &Sim) -> [Open<'_>; 3] {
    let subscriptions = [&["inbox"][..], &["drafts"], &[]].map(|folders| sim.subscribe(folders, &ALL_EVENTS));
    subscriptions.map(|id| {
        let mut open = sim.open(&[&id]);
        open.next();
        open
    })
}

/// A mail that does not tell all three, or tells them wrongly, breaks every client that waits for new mail.
#[test]
fn a_delivery_is_created_new_mail_and_the_folder_modified() {
    let sim = Sim::new(Style::Exchange);
    let [mut inbox, mut drafts, mut all] = watch(&sim);
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    sim.name("i2", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let expected = [
        "Created i1 in inbox",
        "NewMail i1 in inbox",
        "Modified inbox in msgfolderroot, 1 unread",
        "Created i2 in inbox",
        "NewMail i2 in inbox",
        "Modified inbox in msgfolderroot, 2 unread",
    ];
    assert_eq!(inbox.lines(), expected);
    assert_eq!(all.lines(), expected);
    assert_eq!(drafts.lines(), [""; 0]);
}

/// Only gromox's order may tell its events in gromox's style.
#[test]
fn gromox_tells_the_folder_before_the_new_mail() {
    let sim = Sim::new(Style::Gromox);
    let id = sim.subscribe(&["inbox"], &ALL_EVENTS);
    let mut open = sim.open(&[&id]);
    open.next();
    sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let expected =
        ["Created i1 in inbox", "Modified inbox in msgfolderroot, 1 unread", "NewMail i1 in inbox"];
    assert_eq!(open.lines(), expected);
}

/// Both folders of a move must hear of it, with the dead id; all-folders hears the echoes that real servers make.
#[test]
fn a_move_is_told_to_both_folders_with_the_old_id() {
    let sim = Sim::new(Style::Exchange);
    let old = sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let [mut inbox, mut drafts, mut all] = watch(&sim);
    let new = sim.name("i2", &sim.exchange.move_item(&old, "drafts").unwrap());
    assert_ne!(old, new);
    let expected = [
        "Moved i2 in drafts, was i1 in inbox",
        "Modified inbox in msgfolderroot, 0 unread",
        "Modified drafts in msgfolderroot, 1 unread",
    ];
    assert_eq!(inbox.lines(), expected[..2]);
    assert_eq!(drafts.lines(), [expected[0], expected[2]]);
    let echoes = ["Deleted i1 in allitems", "Created i2 in allitems"];
    assert_eq!(all.lines(), [expected[0], echoes[0], echoes[1], expected[1], expected[2]]);
    assert!(sim.exchange.update_subject(&old, "x").is_err(), "the old id is dead");
}

/// A copy must leave the original alone, and name it.
#[test]
fn a_copy_is_told_to_both_folders() {
    let sim = Sim::new(Style::Exchange);
    let old = sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let [mut inbox, mut drafts, mut all] = watch(&sim);
    sim.name("i2", &sim.exchange.copy_item(&old, "drafts").unwrap());
    let expected = ["Copied i2 in drafts, was i1 in inbox", "Modified drafts in msgfolderroot, 1 unread"];
    assert_eq!(inbox.lines(), expected[..1]);
    assert_eq!(drafts.lines(), expected);
    assert_eq!(all.lines(), expected);
    assert_eq!(sim.exchange.item_ids(ADA, "inbox").unwrap(), [old]);
}

/// Each kind of deletion has events of its own; taking one for another loses mail or keeps ghosts.
#[test]
fn deletions_of_items() {
    for (how, expected, left) in [
        (Deletion::Hard, vec!["Deleted i1 in inbox", "Modified inbox in msgfolderroot, 0 unread"], None),
        (
            Deletion::ToDeletedItems,
            vec!["Moved i2 in deleteditems, was i1 in inbox", "Modified inbox in msgfolderroot, 0 unread"],
            Some("deleteditems"),
        ),
        (
            Deletion::Soft,
            vec!["Moved i2 in dumpster, was i1 in inbox", "Modified inbox in msgfolderroot, 0 unread"],
            Some("recoverableitemsdeletions"),
        ),
    ] {
        let sim = Sim::new(Style::Exchange);
        let id = sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
        let [mut inbox, _, mut all] = watch(&sim);
        let gone_to = sim.exchange.delete_item(&id, how).unwrap();
        if let Some(id) = &gone_to {
            sim.name("i2", id);
        }
        assert_eq!(inbox.lines(), expected, "{how:?}");
        let expected_all = match how {
            Deletion::ToDeletedItems => vec![
                expected[0],
                "Deleted i1 in allitems",
                "Created i2 in allitems",
                expected[1],
                "Modified deleteditems in msgfolderroot, 1 unread",
            ],
            _ => expected.clone(),
        };
        assert_eq!(all.lines(), expected_all, "{how:?}");
        assert_eq!(sim.exchange.item_ids(ADA, "inbox").unwrap().len(), 0);
        if let Some(folder) = left {
            assert_eq!(sim.exchange.item_ids(ADA, folder).unwrap(), [gone_to.unwrap()]);
        }
    }
}

/// A read flag changes the folder's count, another change does not; the same flag again is no change.
#[test]
fn changes_of_an_item() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    let [mut inbox, _, _] = watch(&sim);
    sim.exchange.set_read(&id, true).unwrap();
    sim.exchange.set_read(&id, true).unwrap();
    assert_eq!(inbox.lines(), ["Modified i1 in inbox", "Modified inbox in msgfolderroot, 0 unread"]);
    sim.exchange.update_subject(&id, "Another").unwrap();
    assert_eq!(inbox.lines(), ["Modified i1 in inbox"]);
}

/// Free/busy is told where it changes and nowhere else.
#[test]
fn calendar_changes_tell_free_busy() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.subscribe(&["calendar"], &ALL_EVENTS);
    let mut calendar = sim.open(&[&id]);
    calendar.next();
    let (noon, hour) =
        (SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000), Duration::from_secs(3600));
    let item = sim.name("i1", &sim.exchange.create_appointment(ADA, "Lunch", noon, hour).unwrap());
    let folder = "Modified calendar in msgfolderroot";
    assert_eq!(
        calendar.lines(),
        ["Created i1 in calendar", "FreeBusyChanged i1 in calendar", &format!("{folder}, 0 unread")]
    );
    sim.exchange.update_subject(&item, "Late lunch").unwrap();
    assert_eq!(calendar.lines(), ["Modified i1 in calendar"]);
    sim.exchange.reschedule(&item, noon + hour, hour).unwrap();
    assert_eq!(calendar.lines(), ["Modified i1 in calendar", "FreeBusyChanged i1 in calendar"]);
    sim.exchange.delete_item(&item, Deletion::Hard).unwrap();
    let expected =
        ["Deleted i1 in calendar", "FreeBusyChanged i1 in calendar", &format!("{folder}, 0 unread")];
    assert_eq!(calendar.lines(), expected);
}

/// Clients keep a tree of folders by these.
#[test]
fn operations_on_folders() {
    let sim = Sim::new(Style::Exchange);
    let [mut inbox, mut drafts, mut all] = watch(&sim);
    let bills = sim.name("bills", &sim.exchange.create_folder(ADA, "inbox", "Bills").unwrap());
    assert_eq!(inbox.lines(), ["Created bills in inbox", "Modified inbox in msgfolderroot, 0 unread"]);
    sim.exchange.rename_folder(ADA, &bills, "Paid").unwrap();
    assert_eq!(inbox.lines(), ["Modified bills in inbox, 0 unread"]);
    sim.exchange.move_folder(ADA, &bills, "drafts").unwrap();
    let expected = [
        "Moved bills in drafts, was bills in inbox",
        "Modified inbox in msgfolderroot, 0 unread",
        "Modified drafts in msgfolderroot, 0 unread",
    ];
    assert_eq!(inbox.lines(), expected[..2]);
    assert_eq!(drafts.lines(), [expected[0], expected[2]]);
    sim.name("copy", &sim.exchange.copy_folder(ADA, &bills, "inbox").unwrap());
    let expected = ["Copied copy in inbox, was bills in drafts", "Modified inbox in msgfolderroot, 0 unread"];
    assert_eq!(inbox.lines(), expected);
    assert_eq!(drafts.lines(), expected[..1]);
    all.lines();
    sim.exchange.delete_folder(ADA, &bills, Deletion::ToDeletedItems).unwrap();
    assert_eq!(
        all.lines(),
        [
            "Moved bills in deleteditems, was bills in drafts",
            "Modified drafts in msgfolderroot, 0 unread",
            "Modified deleteditems in msgfolderroot, 0 unread"
        ]
    );
    sim.exchange.delete_folder(ADA, "Inbox/Paid", Deletion::Hard).unwrap();
    assert_eq!(all.lines(), ["Deleted copy in inbox", "Modified inbox in msgfolderroot, 0 unread"]);
    assert!(sim.exchange.delete_folder(ADA, "inbox", Deletion::Hard).is_err());
    assert!(sim.exchange.move_folder(ADA, &bills, &bills).is_err());
}

/// A subscription must not hear what it did not ask for, nor what happened before it, nor what is in a subfolder.
#[test]
fn only_what_was_asked_for_is_told() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.deliver(ADA, MAIL).unwrap();
    let sub = sim.name("sub", &sim.exchange.create_folder(ADA, "inbox", "Sub").unwrap());
    let id = sim.subscribe(&["inbox"], &["NewMailEvent", "CreatedEvent"]);
    let mut open = sim.open(&[&id]);
    open.next();
    sim.exchange.deliver_into(ADA, &sub, MAIL).unwrap();
    sim.exchange.deliver("bob@example.test", MAIL).unwrap();
    let item = sim.name("i1", &sim.exchange.deliver(ADA, MAIL).unwrap());
    sim.exchange.set_read(&item, true).unwrap();
    assert_eq!(open.lines(), ["Created i1 in inbox", "NewMail i1 in inbox"]);
}

/// What a client does by SOAP has the same events as what tests do by the Rust API.
#[test]
fn the_same_events_come_of_soap_operations() {
    let sim = Sim::new(Style::Exchange);
    let [mut inbox, _, mut all] = watch(&sim);
    let answer = sim.ask_valid(
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:SavedItemFolderId><t:DistinguishedFolderId Id=\"inbox\"/>\
         </m:SavedItemFolderId><m:Items><t:Message><t:Subject>first</t:Subject><t:Body BodyType=\"Text\">text</t:Body>\
         <t:ToRecipients><t:Mailbox><t:EmailAddress>ada@example.test</t:EmailAddress></t:Mailbox></t:ToRecipients>\
         <t:IsRead>false</t:IsRead></t:Message></m:Items></m:CreateItem>",
    );
    let item = sim.name("i1", &ids(&answer, "ItemId")[0]);
    assert_eq!(inbox.lines(), ["Created i1 in inbox", "Modified inbox in msgfolderroot, 1 unread"]);
    let change = |field: &str, value: &str| {
        format!(
            "<m:UpdateItem ConflictResolution=\"AutoResolve\" MessageDisposition=\"SaveOnly\"><m:ItemChanges>\
             <t:ItemChange><t:ItemId Id=\"{item}\"/><t:Updates><t:SetItemField><t:FieldURI FieldURI=\"{field}\"/>\
             <t:Message>{value}</t:Message></t:SetItemField></t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>"
        )
    };
    sim.ask_valid(&change("item:Subject", "<t:Subject>second</t:Subject>"));
    assert_eq!(inbox.lines(), ["Modified i1 in inbox"]);
    sim.ask_valid(&change("message:IsRead", "<t:IsRead>true</t:IsRead>"));
    assert_eq!(inbox.lines(), ["Modified i1 in inbox", "Modified inbox in msgfolderroot, 0 unread"]);
    let copied = sim.ask_valid(&format!(
        "<m:CopyItem><m:ToFolderId><t:DistinguishedFolderId Id=\"inbox\"/></m:ToFolderId><m:ItemIds>\
         <t:ItemId Id=\"{item}\"/></m:ItemIds></m:CopyItem>"
    ));
    sim.name("i2", &ids(&copied, "ItemId")[0]);
    assert_eq!(
        inbox.lines(),
        ["Copied i2 in inbox, was i1 in inbox", "Modified inbox in msgfolderroot, 0 unread"]
    );
    let moved = sim.ask_valid(&format!(
        "<m:MoveItem><m:ToFolderId><t:DistinguishedFolderId Id=\"drafts\"/></m:ToFolderId><m:ItemIds>\
         <t:ItemId Id=\"{item}\"/></m:ItemIds></m:MoveItem>"
    ));
    let item = sim.name("i3", &ids(&moved, "ItemId")[0]);
    assert_eq!(
        inbox.lines(),
        ["Moved i3 in drafts, was i1 in inbox", "Modified inbox in msgfolderroot, 0 unread"]
    );
    all.lines();
    let delete = format!(
        "<m:DeleteItem DeleteType=\"HardDelete\"><m:ItemIds><t:ItemId Id=\"{item}\"/></m:ItemIds></m:DeleteItem>"
    );
    assert_eq!(code(&sim.ask_valid(&delete)), "NoError");
    assert_eq!(all.lines(), ["Deleted i3 in drafts", "Modified drafts in msgfolderroot, 0 unread"]);
    assert_eq!(code(&sim.ask(&delete)), "ErrorItemNotFound");
}
