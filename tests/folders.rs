//! Folders of every kind over real sockets: by path, of an archive, somebody else's, public; and servers of other times.
#![cfg(feature = "sim")]

#[allow(dead_code)]
#[path = "common/watching.rs"]
mod watching;

use ewsnotify::sim::Style;
use ewsnotify::sim::exchange::Deletion;
use ewsnotify::sim::fault::Cut;
use ewsnotify::{Event, EventKind, Fill, Next};
use std::time::{Duration, Instant};
use watching::{ADA, Watching, server};

const STYLES: [Style; 2] = [Style::Exchange, Style::Gromox];
const BOB: &str = "bob@example.test";

fn is_new<'i>(item: &'i str) -> impl Fn(&Event) -> bool + 'i {
    move |e| e.kind == EventKind::NewMail && e.item_id.as_deref() == Some(item)
}

fn message(event: &Event) -> &str {
    event.detail.as_ref().and_then(|d| d.message.as_deref()).unwrap_or_default()
}

// Most hosts know their folders by their names alone, in the language of the mailbox.
#[test]
fn folders_by_path() {
    for style in STYLES {
        let sim = server(style);
        let exchange = sim.exchange();
        exchange.create_folder(ADA, "inbox", "Tickets").unwrap();
        let deep = exchange.create_folder(ADA, "Inbox/Tickets", "Ärger").unwrap();
        let odd = exchange.create_folder(ADA, "msgfolderroot", "Projekte, 2026/7").unwrap();
        let settings = [("folders", r"Inbox/TICKETS/ärger, /projekte\, 2026\/7"), ("fetch", "summary")];
        let mut w = Watching::start(sim, &settings);
        w.connected();
        for folder in [&deep, &odd] {
            let exchange = w.sim.exchange();
            exchange.deliver(ADA, b"Subject: beside\r\n\r\n").unwrap();
            exchange.deliver_into(ADA, "Inbox/Tickets", b"Subject: above\r\n\r\n").unwrap();
            let id = exchange.deliver_into(ADA, folder, b"Subject: here\r\n\r\n").unwrap();
            let event = w.until("NewMail", is_new(&id));
            assert_eq!(event.parent_folder_id.as_ref(), Some(folder));
        }
        let told = w.events.iter().filter_map(|e| e.item.as_ref()?.subject.as_deref());
        assert!(told.into_iter().all(|subject| subject == "here"));
    }
}

// A host that moves here from an older library has its folders' ids in the form of then, or as MAPI tells them.
#[test]
fn folders_by_ids_of_other_forms() {
    for (style, word, form) in [
        (Style::Exchange, "id", "EwsLegacyId"),
        (Style::Exchange, "ewslegacyid", "EwsLegacyId"),
        (Style::Exchange, "HexEntryId", "HexEntryId"),
        (Style::Gromox, "entryid", "EntryId"),
    ] {
        let sim = server(style);
        let exchange = sim.exchange();
        let folder = exchange.create_folder(ADA, "inbox", "Tickets").unwrap();
        let old = exchange.id_in_form(&folder, form).unwrap();
        let mut w = Watching::start(sim, &[("folders", &format!("{word}:{old}"))]);
        w.connected();
        let id = w.sim.exchange().deliver_into(ADA, &folder, b"Subject: here\r\n\r\n").unwrap();
        let event = w.until("NewMail", is_new(&id));
        assert_eq!(event.parent_folder_id.as_ref(), Some(&folder), "{word}");
        assert_eq!(w.sim.stats().of("ConvertId"), 1, "{word}");
    }
}

// A part that is not there is named, and a path begins anew where its folder was deleted and made again.
#[test]
fn a_path_that_is_not_there() {
    let sim = server(Style::Exchange);
    sim.exchange().create_folder(ADA, "inbox", "Tickets").unwrap();
    let mut w = Watching::start(sim, &[("folders", "inbox/Tickets/Urgent")]);
    w.until("Closed", |e| e.kind == EventKind::Closed);
    let text = message(&w.events[0]);
    assert!(text.contains("no folder \"Urgent\"") && text.contains("inbox/Tickets"), "{text}");

    let sim = server(Style::Exchange);
    let before = sim.exchange().create_folder(ADA, "inbox", "Tickets").unwrap();
    let mut w =
        Watching::start(sim, &[("folders", "inbox/Tickets,drafts"), ("mode", "pull"), ("catch_up", "true")]);
    w.connected();
    let exchange = w.sim.exchange();
    exchange.delete_folder(ADA, &before, Deletion::Hard).unwrap();
    let after = exchange.create_folder(ADA, "inbox", "Tickets").unwrap();
    assert_ne!(before, after);
    exchange.lose_subscription(ADA);
    w.until("Error or Resubscribed", |e| e.kind == EventKind::Resubscribed);
    let id = w.sim.exchange().deliver_into(ADA, &after, b"Subject: anew\r\n\r\n").unwrap();
    w.until("NewMail", is_new(&id));
}

// What is handled goes where a person would look for it.
#[test]
fn after_ack_moves_by_path() {
    let sim = server(Style::Exchange);
    let done = sim.exchange().create_folder(ADA, "inbox", "Erledigt").unwrap();
    let mut w = Watching::start(sim, &[("after_ack", "move:inbox/erledigt"), ("events", "NewMail")]);
    w.connected();
    let id = w.deliver();
    w.until("NewMail", is_new(&id));
    // To ask for the next one acknowledges it.
    let deadline = Instant::now() + Duration::from_secs(60);
    while w.sim.exchange().item_ids(ADA, &done).unwrap().is_empty() {
        let next = w.client.next(Duration::from_millis(20));
        assert!(matches!(next, Next::TimedOut) && Instant::now() < deadline, "{next:?}");
    }
    assert!(w.sim.exchange().item_ids(ADA, "inbox").unwrap().is_empty());
}

// An archive is another mailbox to the server, under the owner's address.
#[test]
fn an_archive() {
    let sim = server(Style::Exchange);
    let archive = sim.exchange().add_archive(ADA);
    sim.exchange().create_folder(&archive, "msgfolderroot", "2019").unwrap();
    let folders = "archiveinbox,archivemsgfolderroot/2019";
    let mut w = Watching::start(sim, &[("folders", folders), ("catch_up", "true"), ("fetch", "summary")]);
    w.connected();
    for folder in ["inbox", "2019"] {
        let id = w.sim.exchange().deliver_into(&archive, folder, b"Subject: old\r\n\r\n").unwrap();
        let event = w.until("NewMail", is_new(&id));
        assert_eq!(event.item.unwrap().subject.as_deref(), Some("old"));
    }
    let mut w = Watching::start(server(Style::Exchange), &[("folders", "archiveinbox")]);
    w.until("Closed", |e| e.kind == EventKind::Closed);
    assert!(message(&w.events[0]).contains("archiveinbox") || message(&w.events[0]).contains("folder"));
}

// Several folders of somebody else's mailbox, one of them by path: no name may lead into the user's own.
#[test]
fn folders_of_a_shared_mailbox() {
    for style in STYLES {
        let sim = server(style);
        let exchange = sim.exchange();
        exchange.add_mailbox(BOB);
        exchange.grant(BOB, ADA).unwrap();
        for owner in [ADA, BOB] {
            exchange.create_folder(owner, "msgfolderroot", "Team").unwrap();
        }
        let settings = [("mailbox", BOB), ("folders", "inbox,sentitems,/Team"), ("catch_up", "true")];
        let mut w = Watching::start(sim, &settings);
        w.connected();
        for folder in ["inbox", "sentitems", "Team"] {
            let exchange = w.sim.exchange();
            exchange.deliver_into(ADA, folder, b"Subject: mine\r\n\r\n").unwrap();
            let id = exchange.deliver_into(BOB, folder, b"Subject: theirs\r\n\r\n").unwrap();
            let event = w.until("NewMail", is_new(&id));
            assert_eq!(&*event.mailbox, BOB);
        }
        assert_eq!(w.count(EventKind::NewMail), 3, "{:#?}", w.events);
    }
}

// Public folders have events, and no sync: a gap there must not promise to be filled.
#[test]
fn a_public_folder() {
    let sim = server(Style::Exchange);
    let public = sim.exchange().add_public_folders();
    sim.exchange().create_folder(&public, "msgfolderroot", "Company").unwrap();
    let news = sim.exchange().create_folder(&public, "Company", "News").unwrap();
    let settings =
        [("folders", "publicfoldersroot/company/news"), ("catch_up", "true"), ("fetch", "summary")];
    let mut w = Watching::start(sim, &settings);
    w.connected();
    let id = w.sim.exchange().deliver_into(&public, &news, b"Subject: to all\r\n\r\n").unwrap();
    assert_eq!(w.until("NewMail", is_new(&id)).item.unwrap().subject.as_deref(), Some("to all"));
    let denied = |e: &Event| e.kind == EventKind::Error && message(e).contains("does not let us catch up");
    if !w.events.iter().any(denied) {
        w.until("Error", denied);
    }
    w.sim.cut_streams(Cut::Fin);
    let gap = w.until("Gap", |e| e.kind == EventKind::Gap).detail.unwrap();
    assert_eq!(gap.fill, Some(Fill::None));

    // Where there are none, and where two are asked for at once.
    let mut w = Watching::start(server(Style::Exchange), &[("folders", "publicfoldersroot/News")]);
    w.until("Error", |e| {
        e.kind == EventKind::Error && message(e).contains("ErrorNoPublicFolderReplicaAvailable")
    });
    let two = "publicfoldersroot/a,publicfoldersroot/b";
    let mut options = ewsnotify::Options::new();
    options.set("folders", two).unwrap();
    let e = w.client.watch(&options).unwrap_err();
    assert!(e.to_string().contains("public"), "{e}");
}

// Where an organisation has several public folder mailboxes, a request that does not name the right one finds no content.
#[test]
fn a_public_folder_whose_content_is_elsewhere() {
    const CONTENT: &str = "pf-content@example.test";
    let sim = server(Style::Exchange);
    sim.exchange().configure(|s| s.public_folder_mailbox = Some(CONTENT.into()));
    let public = sim.exchange().add_public_folders();
    let news = sim.exchange().create_folder(&public, "msgfolderroot", "News").unwrap();
    let mut w = Watching::start(sim, &[("folders", "publicfoldersroot/News"), ("fetch", "summary")]);
    w.until("Error", |e| {
        e.kind == EventKind::Error && message(e).contains("ErrorNoPublicFolderReplicaAvailable")
    });
    // The client watches a mailbox beside it, by requests that must not go there.
    let mut options = ewsnotify::Options::new();
    options.set("folders", "inbox").unwrap().set("public_folder_mailbox", CONTENT).unwrap();
    let e = w.client.watch(&options).unwrap_err();
    assert!(e.to_string().contains("option public_folder_mailbox"), "{e}");
    let mut inbox = ewsnotify::Options::new();
    inbox.set("folders", "inbox").unwrap();
    let inbox = w.client.watch(&inbox).unwrap();
    options.set("folders", "publicfoldersroot/News").unwrap();
    let watch = w.client.watch(&options).unwrap();
    for wanted in [inbox, watch] {
        if !w.events.iter().any(|e| e.kind == EventKind::Connected && e.watch == wanted) {
            w.until("Connected", |e| e.kind == EventKind::Connected && e.watch == wanted);
        }
    }
    let id = w.sim.exchange().deliver_into(&public, &news, b"Subject: to all\r\n\r\n").unwrap();
    let event = w.until("NewMail", is_new(&id));
    assert_eq!((event.watch, event.item.unwrap().subject.as_deref()), (watch, Some("to all")));
    let id = w.deliver();
    assert_eq!(w.until("NewMail", is_new(&id)).watch, inbox);
}

// Each kind of server that there is: the version that it takes is found, and what it does not know is left out.
#[test]
fn servers_of_other_times() {
    for version in
        ["Exchange2007_SP1", "Exchange2010", "Exchange2010_SP1", "Exchange2010_SP2", "Exchange2013_SP1"]
    {
        for mode in ["pull", "streaming"] {
            for (folders, all) in [("inbox,calendar", "false"), ("inbox", "true")] {
                let sim = server(Style::Exchange);
                sim.exchange().configure(|s| s.newest_version = Some(version));
                let settings = [
                    ("mode", mode),
                    ("folders", folders),
                    ("all_folders", all),
                    ("catch_up", "true"),
                    ("fetch", "summary"),
                    ("since", "all"),
                ];
                let before = sim.exchange().deliver(ADA, b"Subject: before\r\n\r\n").unwrap();
                let mut w = Watching::start(sim, &settings);
                let old = matches!(version, "Exchange2007_SP1" | "Exchange2010");
                if old && (mode == "streaming" || all == "true") {
                    w.until("Closed", |e| e.kind == EventKind::Closed);
                    let text = message(&w.events[0]);
                    let wanted = if mode == "streaming" { "mode=pull" } else { "folders" };
                    assert!(
                        text.contains("2010 SP1") && text.contains(wanted),
                        "{version} {mode} {all}: {text}"
                    );
                    continue;
                }
                w.until("what lay there", is_new(&before));
                let id = w.deliver();
                w.until("NewMail", is_new(&id));
                assert_eq!(w.count(EventKind::Gap), 0, "{version} {mode}: {:#?}", w.events);
                assert_eq!(w.count(EventKind::Error), 0, "{version} {mode}: {:#?}", w.events);
            }
        }
    }
}

// To impersonate, Exchange 2007 wants the address under another name.
#[test]
fn impersonation_at_an_exchange_2007() {
    let sim = server(Style::Exchange);
    sim.exchange().add_mailbox(BOB);
    sim.exchange().configure(|s| s.newest_version = Some("Exchange2007_SP1"));
    let mut w = Watching::start(sim, &[("mode", "pull"), ("mailbox", BOB), ("access", "impersonate")]);
    w.connected();
    let id = w.sim.exchange().deliver(BOB, b"Subject: theirs\r\n\r\n").unwrap();
    w.until("NewMail", is_new(&id));
}
