//! Folders that are given by their paths, and servers that are too old for what is asked for.

use super::*;
use crate::proto::{Folder, FolderPage};

fn at(from: &str, names: &[&str]) -> FolderPath {
    let from = FolderRef::Distinguished { name: from.into(), mailbox: None };
    FolderPath { from, names: names.iter().map(|n| (*n).to_owned()).collect(), form: None }
}

/// What lies in a folder, the id of each being its name behind `F-`.
fn page(names: &[&str], includes_last: bool) -> Answer {
    let folder = |name: &&str| Folder {
        id: Id { id: format!("F-{name}"), change_key: None },
        display_name: Some((*name).to_owned()),
        ..Folder::default()
    };
    Answer::FoundFolders(FolderPage { folders: names.iter().map(folder).collect(), includes_last })
}

fn asking_for(folders: Vec<FolderPath>) -> Desk {
    let mut d = Desk::new(settings());
    d.add(1, |s| s.folders = folders);
    d
}

/// The parent that is asked, and from which place on.
#[track_caller]
fn find(d: &mut Desk) -> (CallId, FolderRef, u32) {
    match d.call() {
        (call, _, Request::FindFolder { parent, offset, .. }) => (call, parent, offset),
        other => panic!("{other:?}"),
    }
}

fn message(d: &mut Desk) -> String {
    d.told.pop_front().unwrap().detail.unwrap().message.unwrap()
}

// A folder on the second page, in another case, or beside one that differs in case alone: another would be watched, or none.
#[test]
fn a_path_is_followed_page_by_page_and_name_by_name() {
    let mut d = asking_for(vec![at("inbox", &["TICKETS", "Ärger"]), at("drafts", &[])]);
    let (call, parent, offset) = find(&mut d);
    assert_eq!((parent, offset), (at("inbox", &[]).from, 0));
    d.answer(call, page(&["a", "tickets"], false));
    let (call, parent, offset) = find(&mut d);
    assert_eq!((parent, offset), (at("inbox", &[]).from, 2));
    d.answer(call, page(&["z"], true));
    let (call, parent, offset) = find(&mut d);
    assert_eq!((parent, offset), (FolderRef::Id("F-tickets".into()), 0));
    d.answer(call, page(&["ärger", "Ärger"], true));
    let (call, _, request) = d.call();
    let Request::GetFolder { folders } = request else { panic!("{request:?}") };
    assert_eq!(folders, [FolderRef::Id("F-Ärger".into()), at("drafts", &[]).from]);
    d.answer(call, Answer::Folders(vec![Ok("F-Ärger".into()), Ok("F-drafts".into())]));
    let (_, _, request) = d.call();
    let scope = Scope::Folders(vec![FolderRef::Id("F-Ärger".into()), FolderRef::Id("F-drafts".into())]);
    assert!(matches!(request, Request::SubscribeStreaming { scope: s, .. } if s == scope));
    assert!(d.told.is_empty());
}

// Programs of the time of Exchange 2007, Outlook's macros and OWA's links know folders by ids that no other request takes: the watch would
// end with "Id is malformed".
#[test]
fn ids_of_other_forms_are_converted_first() {
    let of = |form| FolderPath { form: Some(form), ..FolderRef::Id("old".into()).into() };
    let convert = |d: &mut Desk, form| {
        let (call, _, request) = d.call();
        let mailbox = "user1@example.test".to_owned();
        assert_eq!(request, Request::ConvertId { form, id: "old".into(), mailbox });
        call
    };
    let get = |d: &mut Desk, id: &str| {
        let (call, _, request) = d.call();
        assert_eq!(request, Request::GetFolder { folders: vec![FolderRef::Id(id.into())] });
        call
    };
    for form in crate::proto::IdForm::ALL {
        let mut d = asking_for(vec![of(form)]);
        let call = convert(&mut d, form);
        d.answer(call, Answer::Converted("new".into()));
        let call = get(&mut d, "new");
        d.answer(call, Answer::Folders(vec![Ok("new".into())]));
        assert!(matches!(d.call().2, Request::SubscribeStreaming { .. }));
    }
    // Of one that is given as if it were of today, the server says what it is; once.
    let legacy = || Answer::Folders(vec![Err(coded("ErrorInvalidIdMalformedEwsLegacyIdFormat"))]);
    let mut d = asking_for(vec![FolderRef::Id("old".into()).into()]);
    let call = get(&mut d, "old");
    d.answer(call, legacy());
    let call = convert(&mut d, crate::proto::IdForm::EwsLegacyId);
    d.answer(call, Answer::Converted("new".into()));
    let call = get(&mut d, "new");
    d.answer(call, legacy());
    assert!(d.told().contains(&(1, EventKind::Closed)) && d.calls.is_empty());
    // What cannot be converted is named as the host wrote it.
    let mut d = asking_for(vec![of(crate::proto::IdForm::OwaId)]);
    let call = convert(&mut d, crate::proto::IdForm::OwaId);
    d.fail(call, coded("ErrorInvalidIdMalformed"));
    let text = message(&mut d);
    assert!(text.contains("converting the id of folder owaid:old"), "{text}");
    assert_eq!(d.told(), [(1, EventKind::Closed)]);
}

// Each would be asked for ever, hundreds of times a second, without a word; or the watch would end as if its user were wrong.
#[test]
fn an_answer_that_makes_no_sense_is_a_failure_that_may_pass() {
    let nameless = Folder { display_name: Some("x".into()), ..Folder::default() };
    let nameless = Answer::FoundFolders(FolderPage { folders: vec![nameless], includes_last: true });
    for (answers, what) in [
        (vec![page(&["a", "b"], false), page(&["a", "b"], false)], "the same folders again"),
        (vec![nameless], "without an id"),
    ] {
        let mut d = asking_for(vec![at("inbox", &["Tickets"])]);
        for answer in answers {
            let (call, ..) = find(&mut d);
            d.answer(call, answer);
        }
        let text = message(&mut d);
        assert!(text.contains("inbox/Tickets") && text.contains(what), "{text}");
        d.wait(10.0);
        let (call, _, offset) = find(&mut d);
        assert_eq!(offset, 0);
        d.answer(call, page(&["Tickets"], true));
        assert!(matches!(d.call().2, Request::GetFolder { .. }));
    }
}

// Who made a typing error in a path would be told that some folder is gone, and search.
#[test]
fn the_part_of_a_path_that_is_missing_is_named() {
    let mut d = asking_for(vec![at("inbox", &["Tickets", "Urgent"])]);
    let (call, ..) = find(&mut d);
    d.answer(call, page(&["Tickets"], true));
    let (call, ..) = find(&mut d);
    d.answer(call, page(&[], true));
    let text = message(&mut d);
    assert!(
        text.contains("inbox/Tickets/Urgent") && text.contains("in inbox/Tickets is no folder \"Urgent\""),
        "{text}"
    );
    assert_eq!(d.story(), ["1 Closed ServerError"]);
    assert!(d.calls.is_empty());

    // Others go on without it, and without one whose parent is not there or not ours to see.
    let mut d = asking_for(vec![at("msgfolderroot", &["Gone"]), at("archiveroot", &["x"]), at("inbox", &[])]);
    let (call, ..) = find(&mut d);
    d.answer(call, page(&["Here"], true));
    let (call, ..) = find(&mut d);
    d.fail(call, coded("ErrorAccessDenied"));
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::GetFolder { folders } if folders == [at("inbox", &[]).from]));
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    let (gone, denied) = (message(&mut d), message(&mut d));
    assert!(gone.contains("/Gone is not there: at the top of the mailbox"), "{gone}");
    assert!(denied.contains("archiveroot/x"), "{denied}");
    assert!(matches!(d.call().2, Request::SubscribeStreaming { .. }));
}

// A server that is away for a moment while the path is followed would end the watch.
#[test]
fn a_search_that_fails_for_now_goes_on_where_it_stood() {
    let mut d = asking_for(vec![at("inbox", &["a", "b"])]);
    let (call, ..) = find(&mut d);
    d.answer(call, page(&["a"], true));
    let (call, ..) = find(&mut d);
    d.fail(call, error(ErrorKind::Connect));
    d.wait(5.0);
    let (_, parent, _) = find(&mut d);
    assert_eq!(parent, FolderRef::Id("F-a".into()));
    assert_eq!(d.told(), [(1, EventKind::Error)]);
}

// A server that tells the same page for ever, or pages without an end, would be asked for ever.
#[test]
fn a_page_that_brings_nothing_is_the_last() {
    let mut d = asking_for(vec![at("inbox", &["a"])]);
    let (call, ..) = find(&mut d);
    d.answer(call, page(&["x"], false));
    let (call, ..) = find(&mut d);
    d.answer(call, page(&[], false));
    assert_eq!(d.told(), [(1, EventKind::Error), (1, EventKind::Closed)]);
    assert!(d.calls.is_empty());
}

// A folder that was deleted and made anew under its path has another id.
#[test]
fn a_path_is_followed_anew_when_a_folder_is_gone() {
    let mut d = asking_for(vec![at("inbox", &["a"]), at("drafts", &[])]);
    let (call, ..) = find(&mut d);
    d.answer(call, page(&["a"], true));
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok("F-a".into()), Ok(FOLDER.into())]));
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    d.message(conn, bad_ids("ErrorFolderNotFound", &["s1"]));
    d.wait(2.0);
    let asked: Vec<_> = d.calls.drain(..).map(|c| c.3.operation()).collect();
    assert_eq!(asked, ["Unsubscribe", "FindFolder"]);
}

// Mail would be moved to nowhere, or round in a circle.
#[test]
fn where_items_go_is_found_before_the_watch_begins() {
    let move_to = |names: &[&str]| AfterAck::Move(at("inbox", names));
    for (there, good) in [(["Done"], true), (["Other"], false)] {
        let mut d = Desk::new(settings());
        d.add(1, |s| s.after_ack = move_to(&["Done"]));
        let (call, ..) = find(&mut d);
        d.answer(call, page(&there, true));
        if good {
            d.subscribe("s1");
            let (conn, _) = d.open();
            d.begin(conn);
            d.message(conn, mail("s1", &["a", "b"]));
            d.feed(Input::Close);
            let (_, _, request) = d.call();
            let to = FolderRef::Id("F-Done".into());
            assert_eq!(request, Request::MoveItem { items: vec!["a".into()], to });
        } else {
            let text = message(&mut d);
            assert!(text.contains("option after_ack") && text.contains("inbox/Done"), "{text}");
            assert_eq!(d.told(), [(1, EventKind::Closed)]);
        }
    }
    let mut d = Desk::new(settings());
    d.add(1, |s| {
        s.folders = vec![at("inbox", &["Done"])];
        s.after_ack = move_to(&["done"]);
    });
    for _ in 0..2 {
        let (call, ..) = find(&mut d);
        d.answer(call, page(&["Done"], true));
    }
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok("F-Done".into())]));
    assert!(message(&mut d).contains("option after_ack"));
    assert_eq!(d.told(), [(1, EventKind::Closed)]);
}

// Folders that are given in two ways are one and the same: mail would be told as new, and moved into its own folder, for ever.
#[test]
fn where_items_go_is_compared_with_what_is_watched_by_the_servers_ids() {
    let id = |id: &str| FolderPath::from(FolderRef::Id(id.into()));
    let to = |folder: FolderPath| AfterAck::Move(folder);
    for (watched, what, asked, same) in [
        (id("F-x"), deleted(), 2, true),
        (id("F-x"), deleted(), 2, false),
        (at("msgfolderroot", &["Deleted Items"]), deleted(), 2, true),
        (at("msgfolderroot", &["Junk"]), to(at("junkemail", &[])), 2, true),
        (at("junkemail", &[]), to(id("F-junk")), 2, true),
        (at("inbox", &[]), to(id("F-junk")), 2, false),
        // Names were compared before.
        (at("inbox", &[]), deleted(), 1, false),
        (at("inbox", &[]), to(at("junkemail", &[])), 1, false),
    ] {
        let about = format!("{watched} {what:?}");
        let mut d = Desk::new(settings());
        let shown = watched.to_string();
        d.add(1, |s| {
            s.folders = vec![watched.clone()];
            s.after_ack = what.clone();
        });
        if let Some(name) = watched.names.first() {
            let (call, ..) = find(&mut d);
            d.answer(call, page(&[name], true));
        }
        let (call, _, request) = d.call();
        assert!(matches!(request, Request::GetFolder { folders } if folders.len() == asked), "{about}");
        let mut answers = vec![Ok("F-one".into())];
        answers.resize_with(asked, || Ok(if same { "F-one" } else { "F-other" }.into()));
        d.answer(call, Answer::Folders(answers));
        if same {
            let text = message(&mut d);
            assert!(text.contains("option after_ack") && text.contains(&shown), "{about}: {text}");
            assert_eq!(d.told(), [(1, EventKind::Closed)], "{about}");
            assert!(d.calls.is_empty(), "{about}");
        } else {
            assert!(matches!(d.call().2, Request::SubscribeStreaming { .. }), "{about}");
        }
    }
    // Where it cannot be looked up for now, it is asked again; where it is not there, each item says so.
    let mut d = Desk::new(settings());
    d.add(1, |s| {
        s.folders = vec![id("F-x")];
        s.after_ack = deleted();
    });
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok("F-x".into()), Err(coded("ErrorServerBusy"))]));
    d.wait(120.0);
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::GetFolder { .. }), "{request:?}");
    d.answer(call, Answer::Folders(vec![Ok("F-x".into()), Err(coded("ErrorFolderNotFound"))]));
    assert!(matches!(d.call().2, Request::SubscribeStreaming { .. }));
}

/// Refuses every version but the oldest.
#[track_caller]
fn refuse_new_versions(d: &mut Desk, versions: usize) {
    for _ in 0..versions {
        let (call, ..) = d.call();
        d.fail(call, coded("ErrorInvalidServerVersion"));
    }
}

// An Exchange 2007 would refuse streaming for ever in words of a schema; pull works there.
#[test]
fn an_exchange_2007_can_be_pulled_from_and_not_streamed() {
    let oldest = RequestVersion::Exchange2007Sp1;
    for pull in [true, false] {
        let mut d = Desk::new(settings());
        d.add(1, |s| {
            if pull {
                s.mode = super::pull(1, 5);
            }
        });
        refuse_new_versions(&mut d, 3);
        let (call, _, version, _) = d.calls.pop_front().unwrap();
        assert_eq!(version, oldest);
        d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
        if pull {
            let (_, _, version, request) = d.calls.pop_front().unwrap();
            assert!(version == oldest && matches!(request, Request::SubscribePull { .. }));
        } else {
            let text = message(&mut d);
            assert!(text.contains("Exchange 2010 SP1") && text.contains("set mode=pull"), "{text}");
            assert_eq!(d.told(), [(1, EventKind::Closed)]);
            assert!(d.calls.is_empty());
        }
    }
    // A subscription to all folders is the first question, and one that it does not know.
    let mut d = asking_for(Vec::new());
    refuse_new_versions(&mut d, 3);
    let text = message(&mut d);
    assert!(text.contains("ErrorInvalid") || text.contains("scripted"), "{text}");
    assert!(text.contains("set mode=pull"), "{text}");
    assert_eq!(d.told(), [(1, EventKind::Closed)]);
}

// The server would be asked for a name that it does not know, and answer with a line of XML.
#[test]
fn a_name_that_the_server_is_too_old_for_is_told_as_such() {
    let mut d = asking_for(vec![at("archivemsgfolderroot", &[]), at("inbox", &[])]);
    refuse_new_versions(&mut d, 3);
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::GetFolder { folders } if folders == [at("inbox", &[]).from]));
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    let text = message(&mut d);
    assert!(text.contains("archivemsgfolderroot needs a server of Exchange2010_SP1"), "{text}");
}
