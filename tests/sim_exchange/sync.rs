//! SyncFolderItems and SyncFolderHierarchy: a true difference, in pages, for large folders too.

use std::collections::BTreeMap;
use std::time::Duration;

use ewsnotify::sim::exchange::{Deletion, Failure};
use ewsnotify::sim::{Answer, Style};
use xml::reader::{EventReader, XmlEvent};

use crate::support::{ADA, BOB, MAIL, Sim, code, folder, ids, mark, text, texts};

fn hierarchy_request(root: &str, state: &str) -> String {
    let state = if state.is_empty() { String::new() } else { format!("<m:SyncState>{state}</m:SyncState>") };
    format!(
        "<m:SyncFolderHierarchy><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:SyncFolderId>{}\
         </m:SyncFolderId>{state}</m:SyncFolderHierarchy>",
        folder(root)
    )
}

fn request(folder: &str, state: &str, most: usize) -> String {
    let state = if state.is_empty() { String::new() } else { format!("<m:SyncState>{state}</m:SyncState>") };
    format!(
        "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
         <t:FieldURI FieldURI=\"item:Subject\"/><t:FieldURI FieldURI=\"message:IsRead\"/></t:AdditionalProperties>\
         </m:ItemShape><m:SyncFolderId>{}</m:SyncFolderId>{state}<m:MaxChangesReturned>{most}</m:MaxChangesReturned>\
         </m:SyncFolderItems>",
        crate::support::folder(folder)
    )
}

/// What a client holds that follows the answers and nothing else: subject and read flag of each item.
#[derive(Default)]
struct Mirror {
    state: String,
    items: BTreeMap<String, (String, bool)>,
    /// The kinds of the last page's changes.
    page: Vec<String>,
}

impl Mirror {
    /// Takes a page. Whether it was the last.
    fn page(&mut self, sim: &Sim, most: usize) -> bool {
        let answer = sim.ask(&request("inbox", &self.state, most));
        assert_eq!(code(&answer), "NoError", "{answer}");
        self.page.clear();
        let (mut kind, mut id, mut subject, mut read, mut text_now) = Default::default();
        for event in EventReader::from_str(&answer) {
            match event.unwrap() {
                XmlEvent::StartElement { name, attributes, .. } => match name.local_name.as_str() {
                    "Create" | "Update" | "Delete" | "ReadFlagChange" => kind = name.local_name,
                    "ItemId" => id = attributes[0].value.clone(),
                    _ => text_now = String::new(),
                },
                XmlEvent::Characters(t) => text_now = t,
                XmlEvent::EndElement { name } => match name.local_name.as_str() {
                    "Subject" => subject = std::mem::take(&mut text_now),
                    "IsRead" => read = text_now == "true",
                    "Create" => {
                        let before = self.items.insert(id.clone(), (std::mem::take(&mut subject), read));
                        assert!(before.is_none(), "created twice: {id}");
                        self.page.push(kind.clone());
                    }
                    "Update" => {
                        let before = self.items.insert(id.clone(), (std::mem::take(&mut subject), read));
                        assert!(before.is_some(), "updated, but never created: {id}");
                        self.page.push(kind.clone());
                    }
                    "ReadFlagChange" => {
                        self.items.get_mut(&id).expect("a flag of an item that was created").1 = read;
                        self.page.push(kind.clone());
                    }
                    "Delete" => {
                        assert!(self.items.remove(&id).is_some(), "deleted, but never created: {id}");
                        self.page.push(kind.clone());
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        assert!(self.page.len() <= most);
        self.state = text(&answer, "SyncState").unwrap();
        text(&answer, "IncludesLastItemInRange").unwrap() == "true"
    }
}

/// Catch-up rests on this: whatever happens, between pages too, the client ends with exactly what the server has, and
/// is never told of what came and went unseen, nor of anything twice.
#[test]
fn random_changes_are_told_as_a_true_difference() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let sim = Sim::new(if random.bool() { Style::Exchange } else { Style::Gromox });
        let mut truth: BTreeMap<String, (String, bool)> = BTreeMap::new();
        let mut mirror = Mirror::default();
        for step in 0..60 {
            for _ in 0..random.usize(0..8) {
                let known = truth.keys().nth(random.usize(0..truth.len().max(1))).cloned();
                let subject = format!("s{step}-{}", random.u32(0..1000));
                match (random.u8(0..9), known) {
                    (0..=3, _) | (_, None) => {
                        let mime = format!("Subject: {subject}\r\n\r\nx\r\n");
                        truth.insert(sim.exchange.deliver(ADA, mime.as_bytes()).unwrap(), (subject, false));
                    }
                    (4, Some(id)) => {
                        sim.exchange.update_subject(&id, &subject).unwrap();
                        truth.get_mut(&id).unwrap().0 = subject;
                    }
                    (5 | 6, Some(id)) => {
                        let read = random.bool();
                        sim.exchange.set_read(&id, read).unwrap();
                        truth.get_mut(&id).unwrap().1 = read;
                    }
                    (7, Some(id)) => {
                        sim.exchange.delete_item(&id, Deletion::Hard).unwrap();
                        truth.remove(&id);
                    }
                    (_, Some(id)) => {
                        let away = sim.exchange.move_item(&id, "drafts").unwrap();
                        let item = truth.remove(&id).unwrap();
                        if random.bool() {
                            truth.insert(sim.exchange.move_item(&away, "inbox").unwrap(), item);
                        }
                    }
                }
            }
            if random.bool() && mirror.page(&sim, random.usize(1..6)) {
                assert_eq!(mirror.items, truth, "seed {seed}, step {step}");
            }
        }
        while !mirror.page(&sim, 3) {}
        assert_eq!(mirror.items, truth, "seed {seed}");
        assert!(mirror.page(&sim, 512) && mirror.page.is_empty(), "seed {seed}: told again");
    }
}

/// Each kind of change has its own element; newest come first.
#[test]
fn the_kinds_of_changes() {
    let sim = Sim::new(Style::Exchange);
    let (one, two) = (sim.exchange.deliver(ADA, MAIL).unwrap(), sim.exchange.deliver(ADA, MAIL).unwrap());
    let first = sim.ask_valid(&request("inbox", "", 512));
    assert_eq!(ids(&first, "ItemId"), [two.clone(), one.clone()]);
    let state = text(&first, "SyncState").unwrap();
    sim.exchange.set_read(&one, true).unwrap();
    sim.exchange.update_subject(&two, "x").unwrap();
    sim.exchange.set_read(&two, true).unwrap();
    let gone = sim.exchange.deliver(ADA, MAIL).unwrap();
    sim.exchange.delete_item(&gone, Deletion::Hard).unwrap();
    let answer = sim.ask_valid(&request("inbox", &state, 512));
    assert!(answer.contains("<m:Changes><t:ReadFlagChange><t:ItemId Id="), "{answer}");
    assert!(
        answer.contains("<t:IsRead>true</t:IsRead></t:ReadFlagChange><t:Update><t:Message><t:ItemId"),
        "{answer}"
    );
    assert_eq!(ids(&answer, "ItemId"), [one.clone(), two]);
    // A state is good for ever: the same one gives the same again.
    assert_eq!(ids(&sim.ask(&request("inbox", &state, 512)), "ItemId").len(), 2);
    let state = text(&answer, "SyncState").unwrap();
    sim.exchange.delete_item(&one, Deletion::ToDeletedItems).unwrap();
    let answer = sim.ask_valid(&request("inbox", &state, 512));
    assert!(answer.contains("<m:Changes><t:Delete><t:ItemId Id="), "{answer}");
    assert_eq!(ids(&answer, "ItemId"), [one]);
}

/// A bad state is refused with an empty one, which must not be stored; gromox begins anew without a word.
#[test]
fn a_bad_state_is_refused_or_begins_anew() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.deliver(ADA, MAIL).unwrap();
    let drafts = text(&sim.ask(&request("drafts", "", 10)), "SyncState").unwrap();
    for bad in ["nonsense", "AAAA", &drafts] {
        let answer = sim.ask_valid(&request("inbox", bad, 10));
        assert_eq!(code(&answer), "ErrorInvalidSyncStateData");
        assert!(
            answer.contains("<m:SyncState/><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>"),
            "{answer}"
        );
    }
    let sim = Sim::new(Style::Gromox);
    let item = sim.exchange.deliver(ADA, MAIL).unwrap();
    let answer = sim.ask(&request("inbox", "nonsense", 10));
    assert_eq!((code(&answer), ids(&answer, "ItemId")), ("NoError".into(), vec![item]));
}

/// A large folder is read to its end, newest first, each item once; and ten changes in it cost one small answer.
#[test]
fn a_hundred_thousand_items() {
    let sim = Sim::new(Style::Gromox);
    sim.exchange.fill(ADA, "inbox", MAIL, 100_000).unwrap();
    let ask = |state: &str| {
        let answer =
            sim.exchange.answer(ADA, crate::support::request("", &request("inbox", state, 512)).as_bytes());
        let Answer::Whole { body, .. } = answer else { panic!("a stream came") };
        String::from_utf8(body).unwrap()
    };
    // Read by plain search: the point is the server's speed, not this reader's.
    let between = |xml: &str, start: &str, end: &str| -> Vec<String> {
        xml.split(start).skip(1).map(|rest| rest.split(end).next().unwrap().to_owned()).collect()
    };
    let (mut state, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let answer = ask(&state);
        seen.extend(between(&answer, "<t:Create><t:Message><t:ItemId Id=\"", "\""));
        state = between(&answer, "<m:SyncState>", "<").remove(0);
        pages += 1;
        if answer.contains("<m:IncludesLastItemInRange>true<") {
            break;
        }
    }
    let mut all = sim.exchange.item_ids(ADA, "inbox").unwrap();
    all.reverse();
    assert_eq!((all.len(), pages), (100_000, 196));
    assert!(seen == all, "each item once, newest first");
    for id in all.iter().step_by(10_000) {
        sim.exchange.set_read(id, true).unwrap();
    }
    let answer = ask(&state);
    assert_eq!(between(&answer, "<t:ReadFlagChange>", "<").len(), 10);
    // As many changes as items, in as many pages: a page costs what is in it, not what is still to come.
    state = between(&answer, "<m:SyncState>", "<").remove(0);
    for id in &all {
        sim.exchange.set_read(id, false).unwrap();
        sim.exchange.set_read(id, true).unwrap();
    }
    let (mut told, mut pages) = (0, 0);
    loop {
        let answer = ask(&state);
        told += between(&answer, "<t:ReadFlagChange>", "<").len();
        state = between(&answer, "<m:SyncState>", "<").remove(0);
        pages += 1;
        if answer.contains("<m:IncludesLastItemInRange>true<") {
            break;
        }
    }
    assert_eq!((told, pages), (100_000, 196));
}

/// What a server says whose memory of SyncStates is gone: a refusal until the client begins anew, or, the trap, everything
/// as new without a word.
#[test]
fn a_server_can_forget_what_clients_know() {
    for silent in [false, true] {
        let sim = Sim::new(Style::Exchange);
        sim.exchange.configure(|s| s.silent_reset = silent);
        let item = sim.exchange.deliver(ADA, MAIL).unwrap();
        let state_of = |folder: &str| text(&sim.ask(&request(folder, "", 10)), "SyncState").unwrap();
        let (inbox, drafts) = (state_of("inbox"), state_of("drafts"));
        sim.exchange.forget_states(ADA, Some("inbox")).unwrap();
        for _ in 0..2 {
            let answer = sim.ask(&request("inbox", &inbox, 10));
            match silent {
                false => assert_eq!(code(&answer), "ErrorInvalidSyncStateData"),
                true => assert_eq!(ids(&answer, "ItemId"), std::slice::from_ref(&item)),
            }
        }
        assert_eq!(code(&sim.ask(&request("drafts", &drafts, 10))), "NoError");
        let inbox = state_of("inbox");
        assert!(sim.ask(&request("inbox", &inbox, 10)).contains("<m:Changes/>"));
        sim.exchange.restart();
        assert!(sim.ask(&request("inbox", &inbox, 10)).contains("<m:Changes/>"), "states outlive a restart");
        sim.exchange.configure(|s| s.states_survive_restart = false);
        sim.exchange.restart();
        assert!(!sim.ask(&request("inbox", &inbox, 10)).contains("<m:Changes/>"));
        assert!(sim.exchange.forget_states(ADA, Some("nowhere")).is_err());
    }
}

/// A folder that is gone, and a mailbox that may not be synced: the watch must go on without catch-up, or end.
#[test]
fn sync_of_what_is_gone_or_denied() {
    let sim = Sim::new(Style::Exchange);
    let own = sim.exchange.create_folder(ADA, "inbox", "Own").unwrap();
    sim.exchange.delete_folder(ADA, &own, Deletion::Hard).unwrap();
    assert_eq!(code(&sim.ask_valid(&request(&own, "", 10))), "ErrorSyncFolderNotFound");
    sim.exchange.refuse_sync(ADA, Some("ErrorAccessDenied")).unwrap();
    let (items, folders) = (request("inbox", "", 10), hierarchy_request("msgfolderroot", ""));
    for denied in [&items, &folders] {
        let answer = sim.ask_valid(denied);
        assert_eq!(code(&answer), "ErrorAccessDenied");
        assert!(answer.contains("<m:SyncState/>"), "{answer}");
    }
    assert_eq!(code(&sim.ask_as(BOB, "", &items)), "NoError");
    sim.exchange.refuse_sync(ADA, None).unwrap();
    assert_eq!(code(&sim.ask(&items)), "NoError");
    // Throttled so many times, this mailbox only.
    let busy = Failure::new("ErrorServerBusy").back_off(Duration::from_millis(70)).mailbox(ADA).times(2);
    sim.exchange.fail_next("SyncFolderItems", busy);
    assert_eq!(code(&sim.ask_as(BOB, "", &items)), "NoError");
    let codes = [0; 3].map(|_| code(&sim.ask(&items)));
    assert_eq!(codes, ["ErrorServerBusy", "ErrorServerBusy", "NoError"]);
    let scope =
        items.replace("</m:MaxChangesReturned>", "</m:MaxChangesReturned><m:SyncScope>All</m:SyncScope>");
    let Answer::Whole { status, .. } = sim.post(ADA, "", &scope) else { panic!("a stream came") };
    assert_eq!(status, 500);
}

/// gromox tells deletions first and read flags last, and marks by UpdateItem as changes of the whole item.
#[test]
fn the_order_and_kinds_of_gromox() {
    let sim = Sim::new(Style::Gromox);
    let [flagged, gone, marked] = [0; 3].map(|_| sim.exchange.deliver(ADA, MAIL).unwrap());
    let state = text(&sim.ask(&request("inbox", "", 10)), "SyncState").unwrap();
    sim.exchange.set_read(&flagged, true).unwrap();
    sim.ask(&mark(&marked, "MessageDisposition=\"SaveOnly\""));
    sim.exchange.delete_item(&gone, Deletion::Hard).unwrap();
    let new = sim.exchange.deliver(ADA, MAIL).unwrap();
    let answer = sim.ask(&request("inbox", &state, 10));
    assert_eq!(ids(&answer, "ItemId"), [gone, new, marked, flagged.clone()]);
    let order: Vec<usize> = ["<t:Delete>", "<t:Create>", "<t:Update>", "<t:ReadFlagChange>"]
        .map(|t| answer.find(t).unwrap())
        .into();
    assert!(order.is_sorted(), "{answer}");
    let flag =
        format!("<t:ReadFlagChange><t:ItemId Id=\"{flagged}\"/><t:IsRead>true</t:IsRead></t:ReadFlagChange>");
    assert!(answer.contains(&flag), "{answer}");
}

/// The two properties that an audit compares: each kind of change shows in one of them.
#[test]
fn stamps_of_folders_change_with_every_change() {
    for style in [Style::Exchange, Style::Gromox] {
        let sim = Sim::new(style);
        let items: Vec<String> = (0..4).map(|_| sim.exchange.deliver(ADA, MAIL).unwrap()).collect();
        let stamps = || {
            let answer = sim.ask_valid(
                "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
                 <t:ExtendedFieldURI PropertyTag=\"0x670A\" PropertyType=\"SystemTime\"/>\
                 <t:ExtendedFieldURI PropertyTag=\"0x670B\" PropertyType=\"Integer\"/></t:AdditionalProperties>\
                 </m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/>\
                 <t:DistinguishedFolderId Id=\"drafts\"/></m:FolderIds></m:GetFolder>",
            );
            let values = texts(&answer, "Value");
            let [a, b, c, d] = &values[..] else { panic!("{answer}") };
            ((a.clone(), b.clone()), (c.clone(), d.clone()))
        };
        let changes: [(&str, &dyn Fn()); 6] = [
            ("delivery", &|| drop(sim.exchange.deliver(ADA, MAIL).unwrap())),
            ("mark", &|| sim.exchange.set_read(&items[0], true).unwrap()),
            ("edit", &|| sim.exchange.update_subject(&items[0], "x").unwrap()),
            ("copy", &|| drop(sim.exchange.copy_item(&items[0], "inbox").unwrap())),
            ("move away", &|| drop(sim.exchange.move_item(&items[1], "deleteditems").unwrap())),
            ("deletion", &|| drop(sim.exchange.delete_item(&items[2], Deletion::Hard).unwrap())),
        ];
        for (name, change) in changes {
            // Exchange writes seconds: what comes within one can hide in it.
            sim.exchange.advance(Duration::from_secs(1));
            let (inbox, drafts) = stamps();
            assert_eq!(stamps(), (inbox.clone(), drafts.clone()), "nothing happened");
            sim.exchange.advance(Duration::from_secs(1));
            change();
            let (after, others) = stamps();
            assert_ne!(after.0, inbox.0, "{name}");
            assert_eq!(after.1 != inbox.1, matches!(name, "move away" | "deletion"), "{name}");
            assert_eq!(others, drafts, "{name}");
        }
    }
}

/// Folders come, change and go by the same means.
#[test]
fn the_hierarchy() {
    let sim = Sim::new(Style::Exchange);
    let ask = |state: &str| {
        let state =
            if state.is_empty() { String::new() } else { format!("<m:SyncState>{state}</m:SyncState>") };
        let answer = sim.ask_valid(&format!(
            "<m:SyncFolderHierarchy><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>{state}\
             </m:SyncFolderHierarchy>"
        ));
        (text(&answer, "SyncState").unwrap_or_default(), answer)
    };
    let (state, answer) = ask("");
    assert!(answer.contains(">Inbox<"));
    let one = sim.exchange.create_folder(ADA, "inbox", "One").unwrap();
    let two = sim.exchange.create_folder(ADA, "inbox", "Two").unwrap();
    sim.exchange.delete_folder(ADA, &two, Deletion::Hard).unwrap();
    let (state, answer) = ask(&state);
    assert!(answer.contains("<m:Changes><t:Create><t:Folder><t:FolderId"), "{answer}");
    assert_eq!(ids(&answer, "FolderId"), std::slice::from_ref(&one));
    sim.exchange.rename_folder(ADA, &one, "Uno").unwrap();
    let (state, answer) = ask(&state);
    assert!(answer.contains("<m:Changes><t:Update>") && answer.contains(">Uno<"), "{answer}");
    sim.exchange.delete_folder(ADA, &one, Deletion::Hard).unwrap();
    let (state, answer) = ask(&state);
    assert!(answer.contains("<m:Changes><t:Delete><t:FolderId"), "{answer}");
    assert!(ask(&state).1.contains("<m:Changes/>"));
    assert_eq!(code(&ask("nonsense").1), "ErrorInvalidSyncStateData");
}

/// A folder that moves out of the tree that is synced is gone from it with all below it; one that moves in is new.
#[test]
fn folders_that_cross_the_border() {
    let sim = Sim::new(Style::Exchange);
    let ask = |state: &str| {
        let answer = sim.ask_valid(&hierarchy_request("inbox", state));
        let kinds = ["Create", "Update", "Delete"].map(|k| answer.matches(&format!("<t:{k}>")).count());
        (text(&answer, "SyncState").unwrap(), kinds, ids(&answer, "FolderId"))
    };
    let outer = sim.exchange.create_folder(ADA, "drafts", "Outer").unwrap();
    let inner = sim.exchange.create_folder(ADA, &outer, "Inner").unwrap();
    let (start, kinds, _) = ask("");
    assert_eq!(kinds, [0, 0, 0]);
    sim.exchange.move_folder(ADA, &outer, "inbox").unwrap();
    let (within, kinds, told) = ask(&start);
    assert_eq!((kinds, told.len()), ([2, 0, 0], 2));
    sim.exchange.move_folder(ADA, &inner, "inbox").unwrap();
    let (flat, kinds, told) = ask(&within);
    assert_eq!((kinds, told), ([0, 1, 0], vec![inner.clone()]));
    sim.exchange.move_folder(ADA, &inner, &outer).unwrap();
    sim.exchange.delete_folder(ADA, &outer, Deletion::Soft).unwrap();
    let (gone, kinds, told) = ask(&flat);
    assert_eq!((kinds, told.len()), ([0, 0, 2], 2));
    assert!(told.contains(&outer) && told.contains(&inner));
    // Out for good, and never heard of between the first state and now.
    sim.exchange.delete_folder(ADA, &outer, Deletion::Hard).unwrap();
    assert_eq!((ask(&gone).1, ask(&start).1), ([0, 0, 0], [0, 0, 0]));
}
