//! Requests: valid against the schema of EWS, escaped, and refused where EWS or XML would refuse them.

use std::io::Write;
use std::process::Command;

use ewsnotify::ErrorKind;
use ewsnotify::proto::{
    DeleteType, FolderRef, Header, Id, IdForm, NoticeKind, PushUrl, Request, RequestVersion, Scope,
    soap_action, write_request,
};

mod proto_support;

const EVENTS: [NoticeKind; 7] = [
    NoticeKind::Copied,
    NoticeKind::Created,
    NoticeKind::Deleted,
    NoticeKind::FreeBusyChanged,
    NoticeKind::Modified,
    NoticeKind::Moved,
    NoticeKind::NewMail,
];

/// Every form of every request.
fn all_requests() -> Vec<Request> {
    let inbox = || FolderRef::Distinguished { name: "inbox".into(), mailbox: None };
    let folders = vec![
        inbox(),
        FolderRef::Distinguished { name: "sentitems".into(), mailbox: Some("grace@example.test".into()) },
        FolderRef::Id("AAMk\"<>&'é=".into()),
    ];
    let some = || Scope::Folders(folders.clone());
    let item = |key: Option<&str>| Id { id: "AAMkAD+/=".into(), change_key: key.map(str::to_owned) };
    let ids = || vec!["AAMkAD+/=".to_owned(), "AAMk\"<>&'é=".to_owned()];
    let pull = |scope, watermark: Option<&str>, timeout_minutes| Request::SubscribePull {
        scope,
        events: EVENTS.to_vec(),
        timeout_minutes,
        watermark: watermark.map(str::to_owned),
    };
    let push = |scope, watermark: Option<&str>, status_minutes, url: &str| Request::SubscribePush {
        scope,
        events: EVENTS.to_vec(),
        watermark: watermark.map(str::to_owned),
        status_minutes,
        url: PushUrl::new(url),
    };
    vec![
        Request::SubscribeStreaming { scope: some(), events: EVENTS.to_vec() },
        Request::SubscribeStreaming { scope: Scope::AllFolders, events: vec![NoticeKind::NewMail] },
        pull(some(), None, 1),
        pull(Scope::AllFolders, Some("AQAAAHg="), 1440),
        push(some(), None, 1, "https://hook.example.test/?a=b&c='d'"),
        push(Scope::AllFolders, Some("AQAAAHg="), 1440, &format!("http://h/{}", "x".repeat(2073))),
        Request::GetStreamingEvents { subscription_ids: vec!["JgBz".into()], minutes: 30 },
        Request::GetStreamingEvents { subscription_ids: vec!["JgBz".into(); 200], minutes: 1 },
        Request::GetEvents { subscription_id: "JgBz".into(), watermark: Some("AQAAAHg=".into()) },
        Request::GetEvents { subscription_id: "JgBz".into(), watermark: None },
        Request::Unsubscribe { subscription_id: "JgBz".into() },
        Request::GetFolder { folders: folders.clone() },
        Request::GetItem { items: vec![item(None), item(Some("CQAAAA=="))], mime: false },
        Request::GetItem { items: vec![item(None)], mime: true },
        Request::ConvertId {
            form: IdForm::EwsLegacyId,
            id: "AAMk\"<>&'é=".into(),
            mailbox: "o'neil@example.test".into(),
        },
        Request::ConvertId {
            form: IdForm::HexEntryId,
            id: "00AB".into(),
            mailbox: "ada@example.test".into(),
        },
        Request::GetAttachment { id: "AAMk\"<>&'é=".into() },
        Request::SyncFolderItems { folder: inbox(), sync_state: None, max_changes: 512 },
        Request::SyncFolderItems {
            folder: FolderRef::Id("AAMk".into()),
            sync_state: Some("H4sIAA==".into()),
            max_changes: 1,
        },
        Request::GetFolderReplica { folder: inbox() },
        Request::FindFolder { parent: inbox(), offset: 0, most: 500 },
        Request::FindFolder { parent: FolderRef::Id("AAMk".into()), offset: 500, most: 1 },
        Request::GetFolderStamps { folders },
        Request::SyncFolderHierarchy { root: inbox(), sync_state: None },
        Request::SyncFolderHierarchy { root: FolderRef::Id("AAMk".into()), sync_state: Some("H4sI".into()) },
        Request::MarkRead { items: ids() },
        Request::MoveItem { items: ids(), to: FolderRef::Id("AAMk".into()) },
        Request::MoveItem { items: ids(), to: inbox() },
        Request::DeleteItem { items: ids(), how: DeleteType::MoveToDeletedItems },
        Request::DeleteItem { items: ids(), how: DeleteType::HardDelete },
    ]
}

fn all_headers() -> Vec<Header> {
    let versions =
        [RequestVersion::Exchange2010Sp1, RequestVersion::Exchange2010Sp2, RequestVersion::Exchange2013Sp1];
    let old = RequestVersion::Exchange2007Sp1;
    let with =
        |version| [None, Some("ada@example.test".into())].map(|impersonate| Header { version, impersonate });
    versions.into_iter().chain([old]).flat_map(with).collect()
}

/// Whether a server of that version has it.
fn fits(request: &Request, header: &Header) -> bool {
    use Request::{SubscribePull, SubscribePush};
    let all = matches!(
        request,
        SubscribePull { scope: Scope::AllFolders, .. } | SubscribePush { scope: Scope::AllFolders, .. }
    );
    let streaming = matches!(request, Request::SubscribeStreaming { .. });
    header.version > RequestVersion::Exchange2007Sp1 || !(all || streaming)
}

// A request that the schema does not allow is answered with ErrorSchemaValidation by every Exchange.
#[test]
fn every_request_validates_against_the_schema() {
    let Some(schema) = proto_support::beside::schema("ews/schemas/ews-oxws_mit_2016.xsd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for header in all_headers() {
        for request in all_requests().into_iter().filter(|request| fits(request, &header)) {
            let path = folder.path().join(format!("{}.xml", files.len()));
            std::fs::write(&path, write_request(&request, &header).unwrap()).unwrap();
            files.push(path);
        }
    }
    let lint = |files: &[std::path::PathBuf]| {
        let output = Command::new("xmllint")
            .args(["--noout", "--nonet", "--schema"])
            .arg(&schema)
            .args(files)
            .output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, said) = lint(&files);
    assert!(good, "{said}");

    // The check itself works: it refuses what is wrong.
    let wrong = folder.path().join("wrong.xml");
    let xml = std::fs::read_to_string(&files[0]).unwrap().replace("t:EventTypes", "t:EventKinds");
    std::fs::File::create(&wrong).unwrap().write_all(xml.as_bytes()).unwrap();
    assert!(!lint(&[wrong]).0);
}

// An id that is not escaped breaks out of its attribute; one that is escaped twice names nothing.
#[test]
fn values_arrive_as_they_were_given() {
    let id = "a\"b<c>d&e'f \u{e9}\u{1F600}]]>&amp;";
    let request =
        Request::GetItem { items: vec![Id { id: id.into(), change_key: Some(id.into()) }], mime: false };
    let xml = write_request(&request, &Header { impersonate: Some(id.into()), ..Header::default() }).unwrap();
    let mut seen = 0;
    for event in xml::EventReader::new(&xml[..]) {
        match event.unwrap() {
            xml::reader::XmlEvent::StartElement { name, attributes, .. } if name.local_name == "ItemId" => {
                assert_eq!(attributes.iter().map(|a| a.value.as_str()).collect::<Vec<_>>(), [id, id]);
                seen += 1;
            }
            xml::reader::XmlEvent::Characters(text) if text == id => seen += 1,
            _ => {}
        }
    }
    assert_eq!(seen, 2);
}

// Without the refusal the server answers with an error that names a line of XML which the user never saw.
#[test]
fn what_ews_or_xml_would_refuse_is_refused_before_it_is_sent() {
    let header = Header::default();
    let inbox = FolderRef::Distinguished { name: "inbox".into(), mailbox: None };
    let subscribe = |scope, events| Request::SubscribeStreaming { scope, events };
    let stream =
        |count, minutes| Request::GetStreamingEvents { subscription_ids: vec!["J".into(); count], minutes };
    let pull = |timeout_minutes, watermark: &str| Request::SubscribePull {
        scope: Scope::AllFolders,
        events: EVENTS.to_vec(),
        timeout_minutes,
        watermark: Some(watermark.into()),
    };
    let push = |status_minutes, watermark: &str, url: &str| Request::SubscribePush {
        scope: Scope::AllFolders,
        events: EVENTS.to_vec(),
        watermark: Some(watermark.into()),
        status_minutes,
        url: PushUrl::new(url),
    };
    let sync = |state: &str, max_changes| Request::SyncFolderItems {
        folder: inbox.clone(),
        sync_state: Some(state.into()),
        max_changes,
    };
    let bad = [
        subscribe(Scope::Folders(vec![]), EVENTS.to_vec()),
        subscribe(Scope::AllFolders, vec![]),
        subscribe(Scope::AllFolders, vec![NoticeKind::Status]),
        subscribe(Scope::Folders(vec![FolderRef::Id("\u{0}".into())]), EVENTS.to_vec()),
        subscribe(Scope::Folders(vec![FolderRef::Id(String::new())]), EVENTS.to_vec()),
        pull(0, "AQ=="),
        pull(1441, "AQ=="),
        pull(5, ""),
        push(0, "AQ==", "https://h/"),
        push(1441, "AQ==", "https://h/"),
        push(5, "", "https://h/"),
        push(5, "AQ==", ""),
        push(5, "AQ==", "https://"),
        push(5, "AQ==", "ftp://h/"),
        push(5, "AQ==", "https://h/ a"),
        push(5, "AQ==", "https://h/\u{e9}"),
        push(5, "AQ==", &format!("https://h/{}", "x".repeat(2073))),
        stream(0, 30),
        stream(201, 30),
        stream(1, 0),
        stream(1, 31),
        Request::Unsubscribe { subscription_id: "a\u{FFFE}b".into() },
        Request::Unsubscribe { subscription_id: String::new() },
        Request::GetFolder { folders: vec![] },
        Request::GetItem { items: vec![], mime: true },
        Request::GetAttachment { id: String::new() },
        Request::ConvertId { form: IdForm::OwaId, id: String::new(), mailbox: "ada@example.test".into() },
        Request::ConvertId { form: IdForm::OwaId, id: "AAMk".into(), mailbox: String::new() },
        sync("", 512),
        sync("H4s=", 0),
        sync("H4s=", 513),
        Request::SyncFolderHierarchy { root: inbox.clone(), sync_state: Some(String::new()) },
        Request::GetFolderStamps { folders: vec![] },
        Request::MarkRead { items: vec![] },
        Request::MarkRead { items: vec![String::new()] },
        Request::MoveItem { items: vec![], to: inbox.clone() },
        Request::MoveItem { items: vec!["AAMk".into()], to: FolderRef::Id(String::new()) },
        Request::DeleteItem { items: vec![], how: DeleteType::HardDelete },
    ];
    for request in bad {
        let error = write_request(&request, &header).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{request:?}: {error}");
    }
    let header = Header { impersonate: Some("a\u{1}@b".into()), ..header };
    let error = write_request(&stream(1, 30), &header).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("U+0001"), "{error}");
}

// To mark or to delete must not tell the sender that somebody has read the mail, where the server can leave that; one that
// cannot refuses the attribute.
#[test]
fn read_receipts_are_suppressed_where_the_server_knows_how() {
    let items = || vec!["AAMk".to_owned()];
    for header in all_headers() {
        for request in [
            Request::MarkRead { items: items() },
            Request::DeleteItem { items: items(), how: DeleteType::HardDelete },
        ] {
            let xml = String::from_utf8(write_request(&request, &header).unwrap()).unwrap();
            let expected = header.version == RequestVersion::Exchange2013Sp1;
            assert_eq!(xml.contains(" SuppressReadReceipts=\"true\""), expected, "{xml}");
        }
    }
}

// What came later is an error of the schema to an old server, and the watch ends for that.
#[test]
fn an_exchange_2007_is_asked_for_nothing_newer() {
    let header =
        Header { version: RequestVersion::Exchange2007Sp1, impersonate: Some("ada@example.test".into()) };
    for request in all_requests() {
        let written = write_request(&request, &header);
        assert_eq!(written.is_ok(), fits(&request, &header), "{request:?}: {written:?}");
        let Ok(xml) = written else {
            assert_eq!(written.unwrap_err().kind(), ErrorKind::Unsupported);
            continue;
        };
        let xml = String::from_utf8(xml).unwrap();
        assert!(xml.contains("<t:PrimarySmtpAddress>ada@example.test</t:PrimarySmtpAddress>"), "{xml}");
        for newer in ["SyncScope", "FreeBusyChangedEvent", "SuppressReadReceipts", "<t:SmtpAddress>"] {
            assert!(!xml.contains(newer), "{xml}");
        }
    }
}

// Some proxies route by SOAPAction: it must name the operation that the body asks for.
#[test]
fn the_soap_action_names_the_operation_of_the_body() {
    for request in all_requests() {
        let xml = String::from_utf8(write_request(&request, &Header::default()).unwrap()).unwrap();
        let operation = soap_action(&request).rsplit('/').next().unwrap();
        assert_eq!(operation, request.operation());
        let starts = |end| xml.contains(&format!("<soap:Body><m:{operation}{end}"));
        assert!(starts('>') || starts(' '), "{xml}");
    }
}
