//! What the library asks for catch-up and after it, as the simulator answers it in both styles: asked in the library's own
//! bytes and read by its own reader.
#![cfg(feature = "sim")]

use ewsnotify::proto::{
    Body, DeleteType, FolderChange, FolderRef, FolderStamp, Header, Request, RequestVersion, Response,
    SyncChange, read_envelope, write_request,
};
use ewsnotify::sim::exchange::{Deletion, Exchange};
use ewsnotify::sim::{Answer, Style};

const ADA: &str = "ada@example.test";
const MAIL: &[u8] = b"From: zoe@example.test\r\nDisposition-Notification-To: zoe@example.test\r\nSubject: Hello\r\n\r\nHi\r\n";
const STYLES: [Style; 2] = [Style::Exchange, Style::Gromox];

fn exchange(style: Style) -> Exchange {
    let exchange = Exchange::new(style);
    exchange.add_mailbox(ADA);
    exchange
}

fn ask_in(version: RequestVersion, exchange: &Exchange, request: &Request) -> Body {
    let header = Header { version, ..Header::default() };
    match exchange.answer(ADA, &write_request(request, &header).unwrap()) {
        Answer::Whole { body, .. } => read_envelope(&body).unwrap().body,
        Answer::Stream(_) => panic!("a stream came for {request:?}"),
    }
}

fn ask(exchange: &Exchange, request: &Request) -> Body {
    ask_in(RequestVersion::Exchange2013Sp1, exchange, request)
}

fn one<T: std::fmt::Debug>(mut responses: Vec<Response<T>>) -> T {
    assert!(responses.len() == 1 && responses[0].code.as_str() == "NoError", "{responses:?}");
    responses.remove(0).body
}

fn named(name: &str) -> FolderRef {
    FolderRef::Distinguished { name: name.into(), mailbox: None }
}

/// The changes of the Inbox since a state, and the new state.
fn changes(exchange: &Exchange, sync_state: Option<String>) -> (Vec<SyncChange>, Option<String>) {
    let request = Request::SyncFolderItems { folder: named("inbox"), sync_state, max_changes: 512 };
    let Body::Sync(responses) = ask(exchange, &request) else { panic!() };
    let page = one(responses);
    assert!(page.includes_last && page.sync_state.is_some());
    (page.changes, page.sync_state)
}

// What a Create is told as hangs on its dates, its draft and its read flag: each must arrive.
#[test]
fn items_are_synced_with_all_that_the_mapping_needs() {
    for style in STYLES {
        let exchange = exchange(style);
        let id = exchange.deliver(ADA, MAIL).unwrap();
        let (first, state) = changes(&exchange, None);
        let [SyncChange::Create(item)] = &first[..] else { panic!("{first:?}") };
        assert_eq!((item.element.as_str(), &item.id.id), ("Message", &id));
        assert_eq!((item.is_read, item.is_draft), (Some(false), Some(false)));
        assert_eq!(item.item_class.as_deref(), Some("IPM.Note"));
        assert!(item.received.is_some() && item.received == item.created, "{item:?}");
        let mark = Request::MarkRead { items: vec![id.clone()] };
        let Body::Update(responses) = ask(&exchange, &mark) else { panic!() };
        assert_eq!(one(responses).unwrap().id, id);
        let (second, state) = changes(&exchange, state);
        match (style, &second[..]) {
            (Style::Exchange, [SyncChange::ReadFlagChange { id: marked, is_read: true }]) => {
                assert_eq!(marked.id, id)
            }
            (Style::Gromox, [SyncChange::Update(item)]) => {
                assert_eq!((&item.id.id, item.is_read), (&id, Some(true)))
            }
            other => panic!("{other:?}"),
        }
        exchange.delete_item(&id, Deletion::Hard).unwrap();
        let (third, _) = changes(&exchange, state);
        assert!(matches!(&third[..], [SyncChange::Delete(gone)] if gone.id == id), "{third:?}");
        exchange.forget_states(ADA, None).unwrap();
        let request = Request::SyncFolderItems {
            folder: named("inbox"),
            sync_state: Some("AAAA".into()),
            max_changes: 1,
        };
        let Body::Sync(responses) = ask(&exchange, &request) else { panic!() };
        match style {
            Style::Exchange => {
                assert_eq!(responses[0].code.as_str(), "ErrorInvalidSyncStateData");
                assert_eq!(responses[0].body.sync_state, None);
            }
            _ => assert!(one(responses).sync_state.is_some()),
        }
    }
}

// A watch on all folders follows the hierarchy: the search folder must be known as one.
#[test]
fn folders_are_synced_and_audited() {
    for style in STYLES {
        let exchange = exchange(style);
        let own = exchange.create_folder(ADA, "inbox", "Bills & more").unwrap();
        let page = |sync_state| {
            let request = Request::SyncFolderHierarchy { root: named("root"), sync_state };
            let Body::Hierarchy(responses) = ask(&exchange, &request) else { panic!() };
            one(responses)
        };
        let first = page(None);
        let made: Vec<_> = first
            .changes
            .iter()
            .filter_map(|c| match c {
                FolderChange::Create(folder) => Some(folder),
                _ => None,
            })
            .collect();
        assert_eq!(made.len(), first.changes.len());
        let bills = made.iter().find(|f| f.id.id == own).unwrap();
        assert_eq!(bills.display_name.as_deref(), Some("Bills & more"));
        assert_eq!(bills.folder_class.as_deref(), Some("IPF.Note"));
        assert_eq!(bills.parent_id.as_ref().unwrap().id, exchange.folder_id(ADA, "inbox").unwrap());
        let searches: Vec<_> = made.iter().filter(|f| f.is_search()).collect();
        assert_eq!(searches.len(), 1);
        exchange.delete_folder(ADA, &own, Deletion::Hard).unwrap();
        let second = page(first.sync_state);
        assert!(second.includes_last);
        assert!(matches!(&second.changes[..], [FolderChange::Delete(gone)] if gone.id == own), "{second:?}");

        let item = exchange.deliver(ADA, MAIL).unwrap();
        let stamps = || -> Vec<FolderStamp> {
            let request = Request::GetFolderStamps { folders: vec![named("inbox"), named("drafts")] };
            let Body::Folders(responses) = ask(&exchange, &request) else { panic!() };
            responses.into_iter().map(|r| one(vec![r]).remove(0).stamp).collect()
        };
        let before = stamps();
        exchange.delete_item(&item, Deletion::Hard).unwrap();
        let after = stamps();
        assert!(!before[0].same_as(&after[0]), "{after:?}");
        assert!(before[1].same_as(&after[1]), "{after:?}");
    }
}

// What is done after an acknowledgement: it works in every version that is spoken, and the sender hears nothing of it
// where that can be helped.
#[test]
fn items_are_marked_moved_and_deleted() {
    for style in STYLES {
        for version in [
            RequestVersion::Exchange2010Sp1,
            RequestVersion::Exchange2010Sp2,
            RequestVersion::Exchange2013Sp1,
        ] {
            let exchange = exchange(style);
            let items: Vec<String> = (0..4).map(|_| exchange.deliver(ADA, MAIL).unwrap()).collect();
            let mark = Request::MarkRead { items: items[..2].to_vec() };
            let Body::Update(responses) = ask_in(version, &exchange, &mark) else { panic!() };
            assert!(responses.len() == 2 && responses.iter().all(|r| r.code.as_str() == "NoError"));
            let quiet = style == Style::Gromox || version == RequestVersion::Exchange2013Sp1;
            assert_eq!(exchange.receipts().is_empty(), quiet, "{version:?}");

            let to = FolderRef::Id(exchange.create_folder(ADA, "inbox", "Done").unwrap());
            let request = Request::MoveItem { items: vec![items[0].clone(), "AAAA".into()], to };
            let Body::Move(responses) = ask_in(version, &exchange, &request) else { panic!() };
            let moved = exchange.item_ids(ADA, "Inbox/Done").unwrap();
            assert_eq!(responses[0].body.as_ref().map(|id| &id.id), moved.first());
            assert_eq!((responses[1].code.as_str(), &responses[1].body), ("ErrorInvalidIdMalformed", &None));

            for (item, how) in
                [(&items[1], DeleteType::MoveToDeletedItems), (&items[2], DeleteType::HardDelete)]
            {
                let request = Request::DeleteItem { items: vec![item.clone()], how };
                let Body::Delete(responses) = ask_in(version, &exchange, &request) else { panic!() };
                one(responses);
            }
            assert_eq!(exchange.item_ids(ADA, "inbox").unwrap(), items[3..]);
            assert_eq!(exchange.item_ids(ADA, "deleteditems").unwrap().len(), 1);
        }
    }
}
