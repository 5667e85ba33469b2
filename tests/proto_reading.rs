//! What real servers get wrong, one by one: each must read as it is meant, or say clearly what is wrong.

use std::time::Duration;

use ewsnotify::ErrorKind;
use ewsnotify::proto::{
    Body, ConnectionStatus, Envelope, FolderChange, FolderStamp, Id, NoticeKind, Response, ResponseClass,
    SyncChange, Target, read_envelope,
};

fn read(xml: &str) -> Envelope {
    read_envelope(xml.as_bytes()).unwrap_or_else(|e| panic!("{e}: {xml}"))
}

fn body(content: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\"><s:Body>{content}</s:Body></s:Envelope>"
    )
}

fn message(operation: &str, class: &str, content: &str) -> String {
    body(&format!(
        "<m:{operation}><m:ResponseMessages><m:{operation}Message ResponseClass=\"{class}\">{content}\
         </m:{operation}Message></m:ResponseMessages></m:{operation}>"
    ))
}

fn one<T>(mut responses: Vec<Response<T>>) -> Response<T> {
    assert_eq!(responses.len(), 1);
    responses.remove(0)
}

fn fault(xml: &str) -> ewsnotify::proto::Fault {
    match read(xml).body {
        Body::Fault(fault) => fault,
        other => panic!("{other:?}"),
    }
}

// A fault that is not understood ends a watch that only had to wait.
#[test]
fn faults_of_all_forms() {
    let busy = |detail: &str| {
        body(&format!(
            "<s:Fault><faultcode>t:ErrorServerBusy</faultcode><faultstring>Later.</faultstring>{detail}</s:Fault>"
        ))
    };
    let message_xml = |value: &str| {
        busy(&format!(
            "<detail><e:ResponseCode> ErrorServerBusy\n</e:ResponseCode><e:Message>Why.</e:Message>{value}</detail>"
        ))
    };
    let value = |ms: &str| {
        message_xml(&format!(
            "<t:MessageXml><t:Value Name=\"Policy\">1</t:Value><t:Value Name=\"BackOffMilliseconds\">{ms}</t:Value></t:MessageXml>"
        ))
    };

    let plain = fault(&busy(""));
    assert_eq!(
        (plain.code.as_str(), plain.text.as_deref(), plain.back_off),
        ("ErrorServerBusy", Some("Later."), None)
    );
    let detailed = fault(&value(" 178510 "));
    assert_eq!(detailed.code.as_str(), "ErrorServerBusy");
    assert_eq!(
        (detailed.text.as_deref(), detailed.back_off),
        (Some("Why."), Some(Duration::from_millis(178_510)))
    );
    assert_eq!(fault(&value("999999999")).back_off, Some(Duration::from_secs(600)));
    for nonsense in ["", "-1", "1e3", "0", "soon", "99999999999999999999999"] {
        assert_eq!(fault(&value(nonsense)).back_off, None, "{nonsense}");
    }
    let element =
        message_xml("<e:MessageXml><t:BackOffMilliseconds>100</t:BackOffMilliseconds></e:MessageXml>");
    assert_eq!(fault(&element).back_off, Some(Duration::from_millis(100)));

    let default_namespace = "<detail><ResponseCode xmlns='http://schemas.microsoft.com/exchange/services/2006/errors'>ErrorX</ResponseCode></detail>";
    assert_eq!(fault(&busy(default_namespace)).code.as_str(), "ErrorX");
    let empty = fault(&body("<s:Fault></s:Fault>"));
    assert_eq!((empty.code.as_str(), empty.text), ("", None));

    let soap12 = "<v:Envelope xmlns:v='http://www.w3.org/2003/05/soap-envelope'><v:Body><v:Fault><v:Code><v:Value>v:Sender</v:Value>{}</v:Code>\
         <v:Reason><v:Text xml:lang='en'>No.</v:Text></v:Reason></v:Fault></v:Body></v:Envelope>";
    let sender = fault(&soap12.replace("{}", ""));
    assert_eq!((sender.code.as_str(), sender.text.as_deref()), ("Sender", Some("No.")));
    let sub =
        fault(&soap12.replace("{}", "<v:Subcode><v:Value>a:ErrorSchemaValidation</v:Value></v:Subcode>"));
    assert_eq!(sub.code.as_str(), "ErrorSchemaValidation");
}

// Class, code and back-off decide what the engine does next.
#[test]
fn response_messages_with_parts_missing_or_in_another_order() {
    let unsubscribe =
        |class: &str, content: &str| match read(&message("UnsubscribeResponse", class, content)).body {
            Body::Unsubscribe(responses) => one(responses),
            other => panic!("{other:?}"),
        };
    let bare = unsubscribe("Success", "");
    assert_eq!((bare.class, bare.code.as_str(), bare.text), (ResponseClass::Success, "NoError", None));
    let turned = "<m:DescriptiveLinkKey>0</m:DescriptiveLinkKey><m:MessageXml><t:Value Name='BackOffMilliseconds'>5000</t:Value>\
         </m:MessageXml><m:ResponseCode>\n ErrorOfTomorrow </m:ResponseCode><m:MessageText>a &amp; b</m:MessageText>";
    let error = unsubscribe("Error", turned);
    assert_eq!((error.class, error.code.as_str()), (ResponseClass::Error, "ErrorOfTomorrow"));
    assert_eq!((error.text.as_deref(), error.back_off), (Some("a & b"), Some(Duration::from_secs(5))));
    assert_eq!(unsubscribe("Warning", "").class, ResponseClass::Warning);
    assert_eq!(unsubscribe("New", "<m:ResponseCode>NoError</m:ResponseCode>").class, ResponseClass::Success);
    assert_eq!(unsubscribe("New", "<m:ResponseCode>ErrorX</m:ResponseCode>").class, ResponseClass::Error);
    assert_eq!(unsubscribe("Error", "").code.as_str(), "");
    let long = unsubscribe("Error", &format!("<m:MessageText>{}</m:MessageText>", "é".repeat(2000)));
    assert_eq!(long.text.unwrap(), "é".repeat(512));
}

// Where the schema and the servers differ: the servers are right.
#[test]
fn streams_in_either_namespace_and_with_everything_at_once() {
    let content = |p: &str| {
        format!(
            "<m:ResponseCode>ErrorInvalidSubscription</m:ResponseCode><m:ConnectionStatus>Perhaps</m:ConnectionStatus>\
             <m:ErrorSubscriptionIds><{p}SubscriptionId>dead</{p}SubscriptionId><{p}SubscriptionId/></m:ErrorSubscriptionIds>\
             <m:Notifications>stray<{p}Notification><t:SubscriptionId> alive\n</t:SubscriptionId><t:MoreEvents>1</t:MoreEvents>\
             <t:NewKindEvent><t:TimeStamp>x</t:TimeStamp></t:NewKindEvent><t:StatusEvent/>\
             <t:MovedEvent><t:OldParentFolderId Id='op'/><t:OldFolderId Id='of'/><t:UnreadCount>-2</t:UnreadCount>\
             <t:ParentFolderId Id='p' ChangeKey='k' New='x'/><t:FolderId ChangeKey='' Id='f'/><t:TimeStamp>T</t:TimeStamp>\
             <t:Watermark>W</t:Watermark><t:New><t:ItemId Id='no'/></t:New></t:MovedEvent></{p}Notification></m:Notifications>"
        )
    };
    for prefix in ["m:", "t:", ""] {
        let Body::Streaming(responses) =
            read(&message("GetStreamingEventsResponse", "Error", &content(prefix))).body
        else {
            panic!()
        };
        let response = one(responses);
        assert_eq!(response.body.status, Some(ConnectionStatus::Ok));
        assert_eq!(response.body.error_subscription_ids, ["dead"]);
        let [notification] = &response.body.notifications[..] else { panic!("{prefix}") };
        assert_eq!((notification.subscription_id.as_str(), notification.more_events), ("alive", true));
        let [status, moved] = &notification.notices[..] else { panic!("{notification:?}") };
        assert_eq!(status.kind, NoticeKind::Status);
        let id = |id: &str, key: Option<&str>| Id { id: id.into(), change_key: key.map(str::to_owned) };
        assert_eq!(moved.kind, NoticeKind::Moved);
        assert_eq!(moved.target, Some(Target::Folder(id("f", None))));
        assert_eq!(moved.parent_folder_id, Some(id("p", Some("k"))));
        assert_eq!(moved.old_target, Some(Target::Folder(id("of", None))));
        assert_eq!(moved.old_parent_folder_id, Some(id("op", None)));
        assert_eq!(
            (moved.unread_count, moved.time_stamp.as_deref(), moved.watermark.as_deref()),
            (Some(-2), Some("T"), Some("W"))
        );
    }
    // A foreign namespace means something else.
    let foreign = content("x:")
        .replace("<m:Notifications>", "<m:Notifications xmlns:x='u:v'>")
        .replace("<m:ErrorSub", "<m:ErrorSubscriptionIds xmlns:x='u:v'/><m:Sub");
    let foreign = foreign
        .replace("</m:ErrorSub", "</m:Sub")
        .replace("<m:SubscriptionIds>", "<m:SubscriptionIds xmlns:x='u:v'>");
    let Body::Streaming(responses) = read(&message("GetStreamingEventsResponse", "Error", &foreign)).body
    else {
        panic!()
    };
    assert!(one(responses).body.notifications.is_empty());
}

// gromox names the message of GetEvents x; a pull watch would never hear anything.
#[test]
fn get_events_and_pushes() {
    let notification = "<m:Notification><t:SubscriptionId>S</t:SubscriptionId><t:PreviousWatermark>P</t:PreviousWatermark>\
         <t:StatusEvent><t:Watermark>W</t:Watermark></t:StatusEvent></m:Notification>";
    let xml =
        message("GetEventsResponse", "Success", notification).replace("m:GetEventsResponseMessage", "m:x");
    let Body::Events(responses) = read(&xml).body else { panic!() };
    let told = one(responses).body.unwrap();
    assert_eq!((told.previous_watermark.as_deref(), told.more_events), (Some("P"), false));
    assert_eq!(told.notices[0].watermark.as_deref(), Some("W"));
    let Body::Events(responses) = read(&message(
        "GetEventsResponse",
        "Error",
        "<m:ResponseCode>ErrorExpiredSubscription</m:ResponseCode>",
    ))
    .body
    else {
        panic!()
    };
    assert_eq!(one(responses).body, None);
    let Body::Push(responses) = read(&message("SendNotification", "Success", notification)).body else {
        panic!()
    };
    assert_eq!(one(responses).body.unwrap().subscription_id, "S");
    let Body::Subscribe(responses) = read(&message(
        "SubscribeResponse",
        "Success",
        "<m:SubscriptionId>S</m:SubscriptionId><m:Watermark>W</m:Watermark>",
    ))
    .body
    else {
        panic!()
    };
    let subscribed = one(responses).body;
    assert_eq!(
        (subscribed.subscription_id.as_deref(), subscribed.watermark.as_deref()),
        (Some("S"), Some("W"))
    );
}

// What `fetch` shows to the user.
#[test]
fn items_of_any_name_with_all_fields() {
    let content = "<m:ResponseCode>NoError</m:ResponseCode><m:Items><t:MeetingRequest><t:MimeContent CharacterSet='UTF-8'>QUJD\r\nRA==</t:MimeContent>\
         <t:ItemId Id='i' ChangeKey='c'/><t:ParentFolderId Id='p'/><t:ItemClass>IPM.Schedule</t:ItemClass>\
         <t:Subject>Gr&#xFC;&#xDF;e &#x0;<![CDATA[<b>]]></t:Subject><t:Size>12345</t:Size><t:DateTimeReceived>2026-01-02T03:04:05.5Z</t:DateTimeReceived>\
         <t:Attachments><t:FileAttachment><t:AttachmentId Id='a'/><t:Name>a.pdf</t:Name><t:ContentType>application/pdf</t:ContentType><t:Size>7</t:Size>\
         </t:FileAttachment><t:ItemAttachment><t:Name>m</t:Name></t:ItemAttachment><t:ReferenceAttachment/></t:Attachments>\
         <t:Sender><t:Mailbox><t:EmailAddress>s@x</t:EmailAddress></t:Mailbox></t:Sender>\
         <t:ToRecipients><t:Mailbox><t:Name>Ada</t:Name><t:EmailAddress>sadie@contoso.com </t:EmailAddress></t:Mailbox><t:Mailbox/></t:ToRecipients>\
         <t:IsRead>false</t:IsRead><t:IsDraft>true</t:IsDraft><t:InternetMessageId>&lt;1@x&gt;</t:InternetMessageId></t:MeetingRequest></m:Items>";
    let Body::Items(responses) = read(&message("GetItemResponse", "Success", content)).body else { panic!() };
    let item = one(responses).body.remove(0);
    assert_eq!(item.element, "MeetingRequest");
    assert_eq!(item.id, Id { id: "i".into(), change_key: Some("c".into()) });
    assert_eq!(item.subject.as_deref(), Some("Grüße \u{FFFD}<b>"));
    assert_eq!(item.from.unwrap().address.as_deref(), Some("s@x"));
    assert_eq!(item.to.len(), 2);
    assert_eq!(
        (item.to[0].name.as_deref(), item.to[0].address.as_deref()),
        (Some("Ada"), Some("sadie@contoso.com"))
    );
    assert_eq!((item.size, item.is_read, item.is_draft), (Some(12345), Some(false), Some(true)));
    assert_eq!(item.message_id.as_deref(), Some("<1@x>"));
    assert_eq!(item.mime_base64.as_deref(), Some("QUJD\nRA=="));
    assert_eq!(item.attachments.len(), 3);
    assert_eq!(item.attachments[0].content_type.as_deref(), Some("application/pdf"));
    assert_eq!((item.attachments[0].size, item.attachments[1].name.as_deref()), (Some(7), Some("m")));
    let empty =
        message("GetItemResponse", "Error", "<m:ResponseCode>ErrorItemNotFound</m:ResponseCode><m:Items/>");
    let Body::Items(responses) = read(&empty).body else { panic!() };
    assert!(one(responses).body.is_empty());
}

// The empty state of an error, once stored, would tell a whole mailbox as new.
#[test]
fn sync_pages_and_folders() {
    let content = "<m:SyncState>H4sI=</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange><m:Changes>\
         <t:Create><t:Message><t:ItemId Id='1'/></t:Message></t:Create><t:Update><t:Booking><t:ItemId Id='2'/></t:Booking></t:Update>\
         <t:Delete><t:ItemId Id='3'/></t:Delete><t:ReadFlagChange><t:IsRead>1</t:IsRead><t:ItemId Id='4'/></t:ReadFlagChange><t:New/></m:Changes>";
    let Body::Sync(responses) = read(&message("SyncFolderItemsResponse", "Success", content)).body else {
        panic!()
    };
    let page = one(responses).body;
    assert_eq!((page.sync_state.as_deref(), page.includes_last), (Some("H4sI="), true));
    let [
        SyncChange::Create(a),
        SyncChange::Update(b),
        SyncChange::Delete(c),
        SyncChange::ReadFlagChange { id: d, is_read: true },
    ] = &page.changes[..]
    else {
        panic!("{page:?}")
    };
    assert_eq!([&a.id.id, &b.id.id, &c.id, &d.id], ["1", "2", "3", "4"]);
    assert_eq!((a.element.as_str(), b.element.as_str()), ("Message", "Booking"));
    let error = message(
        "SyncFolderItemsResponse",
        "Error",
        "<m:SyncState/><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange><m:Changes/>",
    );
    let Body::Sync(responses) = read(&error).body else { panic!() };
    assert_eq!(one(responses).body.sync_state, None);

    let folders = "<m:Folders><t:CalendarFolder><t:FolderId Id='f'/><t:ParentFolderId Id='p'/><t:FolderClass>IPF.Appointment</t:FolderClass>\
         <t:DisplayName>Kalender</t:DisplayName><t:TotalCount>3</t:TotalCount></t:CalendarFolder></m:Folders>";
    let Body::Folders(responses) = read(&message("GetFolderResponse", "Success", folders)).body else {
        panic!()
    };
    let folder = one(responses).body.remove(0);
    assert_eq!((folder.id.id.as_str(), folder.total_count, folder.unread_count), ("f", Some(3), None));
    assert_eq!(folder.display_name.as_deref(), Some("Kalender"));
}

// A search folder taken for a real one would tell each mail twice; a folder that is not seen, none of its mail.
#[test]
fn pages_of_folders() {
    let read_page = |class: &str, content: &str| {
        let Body::Hierarchy(responses) = read(&message("SyncFolderHierarchyResponse", class, content)).body
        else {
            panic!()
        };
        one(responses).body
    };
    let content = "<m:SyncState>H4sI=</m:SyncState><m:IncludesLastFolderInRange>true</m:IncludesLastFolderInRange><m:Changes>\
         <t:Create><t:Folder><t:FolderId Id='1' ChangeKey='k'/><t:ParentFolderId Id='0'/><t:FolderClass>IPF.Note</t:FolderClass>\
         <t:DisplayName>Bills</t:DisplayName></t:Folder></t:Create><t:Create><t:SearchFolder><t:FolderId Id='2'/></t:SearchFolder>\
         </t:Create><t:Update><t:TasksFolder><t:FolderId Id='3'/></t:TasksFolder></t:Update><t:Delete><t:FolderId Id='4'/>\
         </t:Delete><t:New/><t:Delete/></m:Changes>";
    let page = read_page("Success", content);
    assert_eq!((page.sync_state.as_deref(), page.includes_last), (Some("H4sI="), true));
    let [
        FolderChange::Create(bills),
        FolderChange::Create(search),
        FolderChange::Update(tasks),
        FolderChange::Delete(gone),
    ] = &page.changes[..]
    else {
        panic!("{page:?}")
    };
    assert_eq!((bills.id.id.as_str(), bills.display_name.as_deref()), ("1", Some("Bills")));
    assert_eq!(bills.parent_id.as_ref().map(|id| id.id.as_str()), Some("0"));
    assert_eq!(bills.folder_class.as_deref(), Some("IPF.Note"));
    assert_eq!([bills, search, tasks].map(|f| f.is_search()), [false, true, false]);
    assert_eq!((tasks.id.id.as_str(), gone.id.as_str()), ("3", "4"));
    let error = "<m:ResponseCode>ErrorInvalidSyncStateData</m:ResponseCode><m:SyncState/>";
    assert_eq!(read_page("Error", error).sync_state, None);
}

// What is misread here sends all requests for a public folder to a mailbox that is not there.
#[test]
fn who_has_a_public_folders_content() {
    let replica = |value: &str| {
        let folders = format!(
            "<m:Folders><t:Folder><t:FolderId Id='f'/><t:ExtendedProperty><t:ExtendedFieldURI PropertyTag='0x6698' PropertyType='Binary'/>\
             <t:Value>{value}</t:Value></t:ExtendedProperty></t:Folder></m:Folders>"
        );
        let Body::Folders(responses) = read(&message("GetFolderResponse", "Success", &folders)).body else {
            panic!()
        };
        one(responses).body.remove(0).replica
    };
    // "d0a2c5f1-7b1e-4c2d-9f00-0123456789ab", alone and before another one.
    let guid = "ZDBhMmM1ZjEtN2IxZS00YzJkLTlmMDAtMDEyMzQ1Njc4OWFi";
    for value in [format!("{guid}AA=="), format!(" {guid}AGQw "), guid.to_owned()] {
        assert_eq!(replica(&value).as_deref(), Some("d0a2c5f1-7b1e-4c2d-9f00-0123456789ab"), "{value}");
    }
    // The names of servers that Exchange 2010 has there, too little, and what is no base64.
    for value in ["L289Q29udG9zby9vdT1BZG1pbi9jbj1TZXJ2ZXJzL2NuPU1CWDAx", "ZDBhMmM1", "???", ""] {
        assert_eq!(replica(value), None, "{value}");
    }
}

// The hourly audit rests on these two; one that is misread syncs every folder every hour, or none ever.
#[test]
fn stamps_of_folders() {
    let stamp = |properties: &str| {
        let folders = format!("<m:Folders><t:Folder><t:FolderId Id='f'/>{properties}</t:Folder></m:Folders>");
        let Body::Folders(responses) = read(&message("GetFolderResponse", "Success", &folders)).body else {
            panic!()
        };
        one(responses).body.remove(0).stamp
    };
    let property = |tag: &str, value: &str| {
        format!(
            "<t:ExtendedProperty><t:ExtendedFieldURI PropertyTag='{tag}' PropertyType='x'/><t:Value>{value}</t:Value>\
             </t:ExtendedProperty>"
        )
    };
    let expected = FolderStamp { committed: Some("2026-07-01T10:00:00Z".into()), deleted: Some(17) };
    for (committed, deleted) in [("0x670a", "0x670b"), ("0X670A", " 0x670B "), ("26378", "26379")] {
        let both = property(deleted, " 17 ") + &property(committed, "2026-07-01T10:00:00Z");
        assert_eq!(stamp(&both), expected, "{committed}");
    }
    assert_eq!(stamp(&(property("0x670c", "17") + &property("0x670a", ""))), FolderStamp::default());
    assert_eq!(stamp(&property("0x670b", "many")), FolderStamp::default());
    assert_eq!(
        stamp("<t:ExtendedProperty><t:Value>17</t:Value></t:ExtendedProperty>"),
        FolderStamp::default()
    );
}

// The new id is all that leads to a mail which we have moved away ourselves.
#[test]
fn what_became_of_items() {
    let moved = "<m:Items><t:Message><t:ItemId Id='new' ChangeKey='k'/></t:Message></m:Items>";
    let id = Some(Id { id: "new".into(), change_key: Some("k".into()) });
    let Body::Move(responses) = read(&message("MoveItemResponse", "Success", moved)).body else { panic!() };
    assert_eq!(one(responses).body, id);
    let updated = format!("{moved}<m:ConflictResults><t:Count>0</t:Count></m:ConflictResults>");
    let Body::Update(responses) = read(&message("UpdateItemResponse", "Success", &updated)).body else {
        panic!()
    };
    assert_eq!(one(responses).body, id);
    for none in ["<m:Items/>", "<m:Items><t:Message/></m:Items>", ""] {
        let Body::Move(responses) = read(&message("MoveItemResponse", "Success", none)).body else {
            panic!()
        };
        assert_eq!(one(responses).body, None, "{none}");
    }
    let gone = "<m:MessageText>Gone.</m:MessageText><m:ResponseCode>ErrorItemNotFound</m:ResponseCode>";
    let Body::Delete(responses) = read(&message("DeleteItemResponse", "Error", gone)).body else { panic!() };
    assert_eq!(one(responses).code.as_str(), "ErrorItemNotFound");
}

// Headers are often missing or odd; none of that is a reason to fail.
#[test]
fn headers_and_unknown_bodies() {
    let header =
        |info: &str| body("<m:New/>").replace("<s:Body>", &format!("<s:Header>{info}</s:Header><s:Body>"));
    let version = |info: &str| read(&header(info)).server_version;
    let full = version(
        "<t:ServerVersionInfo MajorVersion='15' MinorVersion=' 2 ' MajorBuildNumber='x' Version='V2_8'/>",
    )
    .unwrap();
    assert_eq!(
        (full.major, full.minor, full.major_build, full.version.as_deref()),
        (Some(15), Some(2), None, Some("V2_8"))
    );
    assert!(version("<ServerVersionInfo/>").is_some());
    assert!(version("<m:RequestServerVersion> x </m:RequestServerVersion>").is_none());
    assert_eq!(read(&body("<m:New/>")).body, Body::Other("New".into()));
    assert_eq!(read(&body("<a:Foreign xmlns:a='u:v'/>")).body, Body::Other("Foreign".into()));
    assert_eq!(
        read(&format!("\u{FEFF}<?xml version='1.0' encoding='UTF-8'?><!-- -->{}\n", body("<m:New/>"))).body,
        Body::Other("New".into())
    );
}

// The text is all that a user has to go by.
#[test]
fn what_cannot_be_read_says_clearly_why() {
    let deep = body(&("<x>".repeat(300) + &"</x>".repeat(300)));
    let attributes = body(&format!("<x {}/>", (0..300).map(|n| format!("a{n}='' ")).collect::<String>()));
    let uri = "u".repeat(2000);
    let namespaces =
        body(&format!("<x {}/>", (0..10).map(|n| format!("xmlns:a{n}='{uri}' ")).collect::<String>()));
    let bomb = "<!DOCTYPE a [<!ENTITY b 'x'><!ENTITY c '&b;&b;'>]>".to_owned() + &body("<m:New>&c;</m:New>");
    for (xml, kind, word) in [
        ("", ErrorKind::Protocol, "empty"),
        (" \n", ErrorKind::Protocol, "empty"),
        ("Unauthorized", ErrorKind::Protocol, "\"Unauthorized\""),
        ("<!DOCTYPE html><html>", ErrorKind::Protocol, "web page"),
        (" <HTML><br>", ErrorKind::Protocol, "web page"),
        ("<?xml version='1.0' encoding='utf-16'?><a/>", ErrorKind::Protocol, "utf-16"),
        ("<a/>", ErrorKind::Protocol, "<a>"),
        ("<!-- -->", ErrorKind::Protocol, "XML"),
        (&body(""), ErrorKind::Protocol, "nothing in its body"),
        (&body("<m:New/>")[..200], ErrorKind::Protocol, "well-formed"),
        (&body("<m:New></m:Old>"), ErrorKind::Protocol, "well-formed"),
        (&body("<m:New>&nbsp;</m:New>"), ErrorKind::Protocol, "well-formed"),
        (&(body("<m:New/>") + "x"), ErrorKind::Protocol, "well-formed"),
        (&bomb, ErrorKind::Protocol, "DTD"),
        (&deep, ErrorKind::Limit, "nested"),
        (&attributes, ErrorKind::Limit, "attributes"),
        (&namespaces, ErrorKind::Limit, "namespaces"),
    ] {
        let error = read_envelope(xml.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}: {xml}");
        assert!(error.to_string().contains(word) && error.to_string().len() < 300, "{error}: {xml}");
    }
}
