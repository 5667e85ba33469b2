//! What real servers and Microsoft's documentation show, where those files are beside the project: each reads as its content
//! says. The expectations were checked by hand against the files.

use std::collections::BTreeMap;

use ewsnotify::proto::{
    Body, ConnectionStatus, Envelope, FolderChange, FrameLimits, Framer, Notification, Response,
    StreamDecoder, SyncChange, capture, read_envelope,
};

mod proto_support;

/// An envelope in a line: its body, and of each response message code, contents and status.
fn describe(envelope: &Envelope) -> String {
    fn each<T>(name: &str, responses: &[Response<T>], tell: impl Fn(&T) -> String) -> String {
        let one = |r: &Response<T>| format!(" {:?} {}{}", r.class, r.code.as_str(), tell(&r.body));
        format!("{name}:{}", responses.iter().map(one).collect::<String>())
    }
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let status = |status: Option<ConnectionStatus>| status.map_or(String::new(), |s| format!(" {s:?}"));
    match &envelope.body {
        Body::Fault(f) => {
            format!("Fault: {} {} {:?}", f.code.as_str(), length(&f.text), f.back_off)
        }
        Body::Subscribe(r) => {
            each("Subscribe", r, |s| format!(" {} {}", length(&s.subscription_id), length(&s.watermark)))
        }
        Body::Streaming(r) => each("Streaming", r, |s| {
            let told: String = s.notifications.iter().map(notification).collect();
            format!(
                "{told}{}{}",
                if s.error_subscription_ids.is_empty() { "" } else { " lost" },
                status(s.status)
            )
        }),
        Body::Events(r) => each("Events", r, |n| n.iter().map(notification).collect()),
        Body::Push(r) => each("Push", r, |n| n.iter().map(notification).collect()),
        Body::Unsubscribe(r) => each("Unsubscribe", r, |()| String::new()),
        Body::Folders(r) => each("Folders", r, |f| {
            f.iter()
                .map(|f| format!(" {} {:?}/{:?}", length(&f.display_name), f.unread_count, f.total_count))
                .collect()
        }),
        Body::FoundFolders(r) => {
            each("FoundFolders", r, |page| format!(" {}", page.as_ref().map_or(0, |p| p.folders.len())))
        }
        Body::Items(r) => each("Items", r, |items| {
            let attachments = |i: &ewsnotify::proto::Item| {
                i.attachments.iter().map(|a| (length(&a.name), a.size)).collect::<Vec<_>>()
            };
            items
                .iter()
                .map(|i| format!(" {} {} {:?} {:?}", i.element, length(&i.subject), i.size, attachments(i)))
                .collect()
        }),
        Body::Attachments(r) => each("Attachments", r, |found| {
            found.iter().map(|a| format!(" {} {}", a.element, length(&a.base64))).collect()
        }),
        Body::Converted(r) => each("Converted", r, |id| format!(" {}", length(id))),
        Body::Sync(r) => each("Sync", r, |page| {
            let change = |c: &SyncChange| match c {
                SyncChange::Create(i) => format!(" +{}", i.element),
                SyncChange::Update(i) => format!(" ~{}", i.element),
                SyncChange::Delete(_) => " -".to_owned(),
                SyncChange::ReadFlagChange { is_read, .. } => format!(" read={is_read}"),
            };
            let changes: String = page.changes.iter().map(change).collect();
            format!(
                " {} last={}{changes}",
                if page.sync_state.is_some() { "state" } else { "none" },
                page.includes_last
            )
        }),
        Body::Hierarchy(r) => each("Hierarchy", r, |page| {
            let change = |c: &FolderChange| match c {
                FolderChange::Create(f) => format!(" +{} {}", f.element, length(&f.display_name)),
                FolderChange::Update(f) => format!(" ~{} {}", f.element, length(&f.display_name)),
                FolderChange::Delete(_) => " -".to_owned(),
            };
            let changes: String = page.changes.iter().map(change).collect();
            format!(
                " {} last={}{changes}",
                if page.sync_state.is_some() { "state" } else { "none" },
                page.includes_last
            )
        }),
        Body::Update(r) => each("Update", r, |id| format!(" {}", id.is_some())),
        Body::Move(r) => each("Move", r, |id| format!(" {}", id.is_some())),
        Body::Delete(r) => each("Delete", r, |()| String::new()),
        Body::Other(name) => format!("Other: {name}"),
    }
}

/// The events of a notification by kind.
fn notification(n: &Notification) -> String {
    let mut kinds = BTreeMap::new();
    for notice in &n.notices {
        *kinds.entry(format!("{:?}", notice.kind)).or_insert(0) += 1;
        assert!(notice.target.is_some() || notice.kind == ewsnotify::proto::NoticeKind::Status);
    }
    assert!(!n.subscription_id.is_empty());
    format!(
        " [{}{}]",
        kinds.iter().map(|(k, n)| format!("{k}{n} ")).collect::<String>().trim_end(),
        if n.more_events { " more" } else { "" }
    )
}

// Microsoft's own samples and those of exchangelib's tests: an answer like them must not be a surprise.
#[test]
fn samples_read_as_their_content_says() {
    let Some(root) = proto_support::beside::shared("ews/samples") else { return };
    let mut seen = BTreeMap::new();
    for folder in std::fs::read_dir(root).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let told = match read_envelope(&std::fs::read(path).unwrap()) {
                Ok(envelope) => describe(&envelope),
                Err(e) => format!("Error: {e}"),
            };
            seen.insert(name, told);
        }
    }
    compare(SAMPLES, &seen);
}

// Recorded from gromox: framing, chunks and quirks as they really come.
#[test]
fn transcripts_of_gromox_read_as_their_content_says() {
    let Some(root) = proto_support::beside::shared("ews/transcripts-gromox") else { return };
    let mut seen = BTreeMap::new();
    for file in std::fs::read_dir(root).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let start = bytes.windows(14).position(|w| w == b"<<<<< RESPONSE").unwrap();
        let found = capture::split(&bytes[start..]);
        let mut told: Vec<String> = Vec::new();
        for part in &found.parts {
            let mut framer = Framer::new(FrameLimits::default());
            let mut decoder = StreamDecoder::new();
            framer.push(&part.bytes);
            while let Some(envelope) = framer.next() {
                let tell = |bytes: &[u8]| {
                    let read = read_envelope(bytes).unwrap();
                    assert_eq!(decoder.decode(bytes).unwrap(), read, "{}", path.display());
                    describe(&read)
                };
                told.push(envelope.map_or_else(|e| format!("Error: {e}"), tell));
            }
            assert_eq!(framer.finish(), None, "{}", path.display());
        }
        told.extend(found.problems.iter().map(|p| format!("Problem: {}", p.text)));
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        seen.insert(name, told.join(" | "));
    }
    compare(TRANSCRIPTS, &seen);
}

fn compare(expected: &[(&str, &str)], seen: &BTreeMap<String, String>) {
    let expected: BTreeMap<&str, &str> = expected.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, told) in seen {
        if expected.get(name.as_str()) != Some(&told.as_str()) {
            wrong.push(format!("    (r#\"{name}\"#, r#\"{told}\"#),"));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
    assert_eq!(seen.len(), expected.len());
}

#[rustfmt::skip]
const SAMPLES: &[(&str, &str)] = &[
    ("getstreamingevents-operation__2-GetStreamingEventsResponse", "Streaming: Success NoError [Created1 Modified1 NewMail1]"),
    ("getstreamingevents-operation__3-GetStreamingEventsResponse", "Streaming: Error ErrorInvalidSubscription Closed"),
    ("handling-autodiscover-error-messages__1-GetUserSettingsResponseMessage", "Other: GetUserSettingsResponseMessage"),
    ("handling-autodiscover-error-messages__2-Autodiscover", "Error: The answer is XML, but not a SOAP envelope: its root is <Autodiscover>."),
    ("howto-add-appointments-by-using-exchange-imperso__1-CreateItem", "Other: CreateItem"),
    ("howto-add-appointments-by-using-exchange-imperso__2-CreateItemResponse", "Other: CreateItemResponse"),
    ("howto-get-attachments__1-GetItem", "Other: GetItem"),
    ("howto-get-attachments__2-GetItemResponse", "Items: Success NoError Message 0 None [(18, Some(212)), (21, Some(3063))]"),
    ("howto-get-attachments__3-GetAttachment", "Other: GetAttachment"),
    ("howto-get-attachments__4-GetAttachmentResponse", "Attachments: Success NoError ItemAttachment 0"),
    ("howto-get-attachments__5-GetAttachmentResponse", "Attachments: Success NoError FileAttachment 36"),
    ("howto-get-user-settings-from-exchange-by-using-a__1-GetUserSettingsRequestMessage", "Other: GetUserSettingsRequestMessage"),
    ("howto-get-user-settings-from-exchange-by-using-a__2-GetUserSettingsResponseMessage", "Error: The answer is not well-formed XML (line:column): 94:1 Unexpected end of stream: still inside the root element."),
    ("howto-get-user-settings-from-exchange-by-using-a__3-Autodiscover", "Error: The answer is XML, but not a SOAP envelope: its root is <Autodiscover>."),
    ("howto-get-user-settings-from-exchange-by-using-a__4-Autodiscover", "Error: The answer is XML, but not a SOAP envelope: its root is <Autodiscover>."),
    ("howto-identify-the-account-to-impersonate__1-Header", "Error: The answer is a SOAP envelope with nothing in its body."),
    ("howto-identify-the-account-to-impersonate__2-Header", "Error: The answer is a SOAP envelope with nothing in its body."),
    ("howto-identify-the-account-to-impersonate__3-Header", "Error: The answer is a SOAP envelope with nothing in its body."),
    ("howto-identify-the-account-to-impersonate__4-Header", "Error: The answer is a SOAP envelope with nothing in its body."),
    ("howto-maintain-affinity-between-group-of-subscri__2-Subscribe", "Other: Subscribe"),
    ("howto-maintain-affinity-between-group-of-subscri__3-SubscribeResponse", "Subscribe: Success NoError 92 0"),
    ("howto-maintain-affinity-between-group-of-subscri__4-Subscribe", "Other: Subscribe"),
    ("howto-maintain-affinity-between-group-of-subscri__5-SubscribeResponse", "Subscribe: Success NoError 92 0"),
    ("howto-maintain-affinity-between-group-of-subscri__6-GetStreamingEvents", "Other: GetStreamingEvents"),
    ("howto-pull-notifications-about-mailbox-events__4-GetEventsResponseType", "Events: Success NoError [NewMail1]"),
    ("howto-stream-notifications-about-mailbox-events__1-Subscribe", "Other: Subscribe"),
    ("howto-stream-notifications-about-mailbox-events__2-SubscribeResponse", "Subscribe: Success NoError 92 0"),
    ("howto-stream-notifications-about-mailbox-events__3-GetStreamingEvents", "Other: GetStreamingEvents"),
    ("howto-stream-notifications-about-mailbox-events__4-GetStreamingEventsResponse", "Streaming: Success NoError [Created1 Modified1 NewMail1]"),
    ("howto-synchronize-folders__1-SyncFolderHierarchy", "Other: SyncFolderHierarchy"),
    ("howto-synchronize-folders__2-SyncFolderHierarchyResponse", "Hierarchy: Success NoError state last=true +Folder 0 +Folder 0 +Folder 0 +Folder 0"),
    ("howto-synchronize-folders__3-SyncFolderHierarchy", "Other: SyncFolderHierarchy"),
    ("howto-synchronize-folders__4-SyncFolderHierarchyResponse", "Hierarchy: Success NoError state last=true ~Folder 13 +Folder 9 -"),
    ("howto-synchronize-items__1-SyncFolderItems", "Other: SyncFolderItems"),
    ("howto-synchronize-items__2-SyncFolderItemsResponse", "Sync: Success NoError state last=true +Message +Message +Message +Message +Message"),
    ("howto-synchronize-items__3-SyncFolderItems", "Other: SyncFolderItems"),
    ("howto-synchronize-items__4-SyncFolderItemsResponse", "Sync: Success NoError state last=true ~Message +Message +Message read=true -"),
    ("howto-use-autodiscover-to-find-connection-points__1-GetUserSettingsRequestMessage", "Other: GetUserSettingsRequestMessage"),
    ("howto-use-autodiscover-to-find-connection-points__2-GetUserSettingsResponseMessage", "Other: GetUserSettingsResponseMessage"),
    ("howto-use-autodiscover-to-find-connection-points__3-GetUserSettingsRequestMessage", "Other: GetUserSettingsRequestMessage"),
    ("howto-use-autodiscover-to-find-connection-points__4-GetUserSettingsResponseMessage", "Other: GetUserSettingsResponseMessage"),
    ("howto-work-with-exchange-mailbox-items__1-CreateItem", "Other: CreateItem"),
    ("howto-work-with-exchange-mailbox-items__2-GetItem", "Other: GetItem"),
    ("howto-work-with-exchange-mailbox-items__3-GetItemResponse", "Items: Success NoError Message 19 None []"),
    ("howto-work-with-exchange-mailbox-items__4-FindItem", "Other: FindItem"),
    ("howto-work-with-exchange-mailbox-items__5-UpdateItem", "Other: UpdateItem"),
    ("howto-work-with-exchange-mailbox-items__6-DeleteItem", "Other: DeleteItem"),
    ("test_autodiscover_test_get_user_settings_1", "Other: GetUserSettingsResponseMessage"),
    ("test_autodiscover_test_get_user_settings_2", "Other: GetUserSettingsResponseMessage"),
    ("test_bulk_test_bulk_create_with_no_result_1", "Other: CreateItemResponse"),
    ("test_folder_test_public_folders_root_1", "Folders: Success NoError 17 None/None"),
    ("test_folder_test_public_folders_root_2", "FoundFolders: Success NoError 2"),
    ("test_protocol_test_resolvenames_warning_1", "Other: ResolveNamesResponse"),
    ("test_protocol_test_version_guess_1", "Converted: Error ErrorInvalidSmtpAddress 0"),
    ("test_protocol_test_version_guess_2", "Converted: Error ErrorInvalidSmtpAddress 0"),
    ("test_services_test_element_container_1", "Other: ResolveNamesResponse"),
    ("test_services_test_error_schema_validation_1", "Fault: ErrorSchemaValidation 3 None"),
    ("test_services_test_error_server_busy_1", "Fault: ErrorServerBusy 66 Some(297.749s)"),
    ("test_services_test_error_too_many_objects_opened_1", "FoundFolders: Error ErrorTooManyObjectsOpened 0"),
    ("test_services_test_inner_error_parsing_1", "Delete: Error ErrorInternalServerError"),
    ("test_services_test_invalid_value_extras_1", "Delete: Error ErrorInvalidValueForProperty"),
    ("test_services_test_soap_error_1", "Fault: XXX 3 None"),
    ("test_services_test_soap_error_2", "Error: The answer is not well-formed XML (line:column): 6:11 Unexpected closing tag: {http://schemas.xmlsoap.org/soap/envelope/}s:Body != {http://schemas.xmlsoap.org/soap/envelope/}s:Envelope."),
    ("test_services_test_soap_error_3", "Fault:  0 None"),
    ("test_services_test_wrap_1", "Other: AAA"),
    ("test_services_test_wrap_2", r#"Error: The answer is not XML; it begins ">\n      </t:ConnectingSID>\n    </t:ExchangeImpersonation>\n  …"."#),
    ("test_sync_test_get_streaming_events_bad_response_1", "Error: The answer is not well-formed XML (line:column): 1:62 Element s:Envelope prefix is unbound."),
    ("test_sync_test_get_streaming_events_connection_closed_1", "Streaming: Success NoError Closed"),
    ("test_sync_test_push_message_parsing_1", "Push: Success NoError [Status1]"),
    ("test_sync_test_push_message_responses_1", "Other: SendNotificationResult"),
    ("test_sync_test_push_message_responses_2", "Other: SendNotificationResult"),
];

#[rustfmt::skip]
const TRANSCRIPTS: &[(&str, &str)] = &[
    ("01-getfolder-inbox", "Folders: Success NoError 5 Some(2)/Some(2)"),
    ("03-auth-wrong-password", r#"Error: At byte 0 of the answer: text where an envelope was expected; it begins "Unauthorized\r\n"."#),
    ("05-subscribe-streaming-inbox", "Subscribe: Success NoError 12 0"),
    ("06-subscribe-pull-inbox", "Subscribe: Success NoError 12 0"),
    ("07-createitem-inbox", "Other: CreateItemResponse"),
    ("08-getevents-pull", "Events: Success NoError [Created1 Modified1]"),
    ("09-getevents-pull-empty-status", "Events: Success NoError [Status1]"),
    ("10-unsubscribe-pull", "Unsubscribe: Success NoError"),
    ("11-getevents-after-unsubscribe", "Events: Error ErrorInvalidSubscription"),
    ("12-unsubscribe-again-not-found", "Unsubscribe: Error ErrorSubscriptionNotFound"),
    ("14-getstreamingevents-1min-full-life", "Streaming: Success NoError Ok | Streaming: Success NoError [Created1 Modified1] Ok | Streaming: Success NoError [Modified6] Ok | Streaming: Success NoError [Modified2 Moved1] Ok | Streaming: Success NoError [Deleted1 Modified1] Ok | Streaming: Success NoError [Status1] Closed | Streaming: Success NoError Closed"),
    ("17-getitem-by-event-id", "Items: Success NoError Message 8 Some(461) []"),
    ("20-stream-unknown-id", "Streaming: Error ErrorInvalidSubscription lost Closed | Streaming: Error ErrorInvalidSubscription lost Closed | Streaming: Success NoError Closed"),
    ("21-stream-malformed-id", "Fault: Client 31 None | Other: GetStreamingEvents"),
    ("25-stream-one-good-one-unknown-id", "Streaming: Error ErrorInvalidSubscription lost Closed | Streaming: Error ErrorInvalidSubscription [Created1 Modified1] lost Ok | Streaming: Success NoError [Status1] Ok | Problem: the body ends without its last chunk"),
    ("31-stream-unsubscribed-while-open", "Streaming: Success NoError Ok | Streaming: Success NoError Closed"),
    ("45-subscribe-bad-folderid", "Fault: ErrorInvalidId 23 None | Subscribe:"),
    ("57-syncfolderitems-initial", "Sync: Success NoError state last=true +Message +Message"),
    ("58-syncfolderitems-nochange", "Sync: Success NoError state last=true"),
    ("60-syncfolderitems-incremental-create", "Sync: Success NoError state last=true +Message"),
    ("62-syncfolderitems-incremental-delete", "Sync: Success NoError state last=true -"),
    ("63-syncfolderitems-bad-state", "Sync: Success NoError state last=true +Message +Message"),
    ("64-syncfolderitems-max1", "Sync: Success NoError state last=false +Message"),
    ("72-stream-newmail", "Streaming: Success NoError Ok | Streaming: Success NoError [Created1 Modified1 NewMail1] Ok | Problem: the body ends without its last chunk"),
    ("73-stream-reconnect-after-client-drop", "Streaming: Success NoError Ok | Streaming: Success NoError [Created2 Modified2 NewMail2] Ok | Problem: the body ends without its last chunk"),
    ("76-stream-moreevents", "Streaming: Success NoError Ok | Streaming: Success NoError [Created17 Modified17 NewMail16 more] Ok | Streaming: Success NoError [Created17 Modified16 NewMail17 more] Ok | Streaming: Success NoError [Created16 Modified17 NewMail17 more] Ok | Streaming: Success NoError [Created10 Modified10 NewMail10] Ok | Problem: the body ends without its last chunk"),
    ("77-getevents-moreevents-0", "Events: Success NoError [Created17 Modified17 NewMail16 more]"),
    ("77-getevents-moreevents-1", "Events: Success NoError [Created17 Modified16 NewMail17 more]"),
    ("77-getevents-moreevents-2", "Events: Success NoError [Created16 Modified17 NewMail17 more]"),
    ("77-getevents-moreevents-3", "Events: Success NoError [Created10 Modified10 NewMail10]"),
    ("77-getevents-moreevents-4", "Events: Success NoError [Status1]"),
    ("80-stream-two-subscriptions", "Streaming: Success NoError Ok | Streaming: Success NoError [Status1] [Created1 Modified1] Ok | Problem: the body ends without its last chunk"),
    ("92-fast-stream-folder-and-item-ops", "Streaming: Success NoError Ok | Streaming: Success NoError [Created1 Modified1] Ok | Streaming: Success NoError [Modified3] Ok | Streaming: Success NoError [Modified2 Moved1] Ok | Streaming: Success NoError [Copied1 Modified1] Ok | Streaming: Success NoError [Deleted1] Ok | Streaming: Success NoError [Created1 Modified1] Ok | Streaming: Success NoError [Copied1 Modified1] Ok | Streaming: Success NoError [Modified2 Moved1] Ok | Streaming: Success NoError [Created1 Modified1] Ok | Streaming: Success NoError [Deleted1 Modified2] Ok | Streaming: Success NoError [Created1 Modified1] Ok | Streaming: Success NoError [Created1 Modified1 NewMail1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Ok | Streaming: Success NoError [Status1] Closed | Streaming: Success NoError Closed"),
];
