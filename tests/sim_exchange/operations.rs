//! What the operations answer: fields, shapes, ids, errors.

use ewsnotify::sim::{Answer, Style};

use crate::support::{ADA, BOB, MAIL, Sim, code, folder, ids, mark, request, text, texts};

const RICH: &[u8] = b"From: =?utf-8?Q?Zo=C3=AB_M=C3=BCller?= <zoe@example.test>\r\nTo: Ada <ada@example.test>\r\n\
    Cc: bob@example.test\r\nSubject: =?utf-8?B?R3LDvMOfZSAmIDxLw7xzc2U+?=\r\nMessage-ID: <rich@example.test>\r\n\
    Date: Tue, 01 Jul 2025 10:00:00 +0200\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hi</p>\r\n\
    --b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=UTF-8''%C3%BCber.pdf\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b--\r\n";

fn get_item(item: &str, shape: &str) -> String {
    format!(
        "<m:GetItem><m:ItemShape>{shape}</m:ItemShape><m:ItemIds><t:ItemId Id=\"{item}\"/></m:ItemIds></m:GetItem>"
    )
}

/// The summary and the MIME that a client fetches are those of the mail that came in.
#[test]
fn an_item_is_told_as_it_was_delivered() {
    use base64::Engine;
    let sim = Sim::new(Style::Exchange);
    let item = sim.exchange.deliver(ADA, RICH).unwrap();
    let answer = sim.ask_valid(&get_item(&item, "<t:BaseShape>Default</t:BaseShape>"));
    let get = |name: &str| text(&answer, name).unwrap_or_else(|| panic!("no {name} in {answer}"));
    assert_eq!(get("Subject"), "Grüße & <Küsse>");
    assert_eq!(texts(&answer, "Name"), ["über.pdf", "Zoë Müller", "Ada", "bob@example.test", "Zoë Müller"]);
    assert_eq!(get("InternetMessageId"), "<rich@example.test>");
    assert_eq!(get("DateTimeSent"), "2025-07-01T08:00:00Z");
    assert_eq!((get("HasAttachments"), get("IsRead")), ("true".into(), "false".into()));
    assert_eq!(get("ContentType"), "application/pdf");
    assert_eq!(get("Body").trim(), "<p>Hi</p>");
    let with_mime = "<t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent>\
        <t:AdditionalProperties><t:FieldURI FieldURI=\"item:Subject\"/></t:AdditionalProperties>";
    let answer = sim.ask_valid(&get_item(&item, with_mime));
    let mime =
        base64::engine::general_purpose::STANDARD.decode(text(&answer, "MimeContent").unwrap()).unwrap();
    assert_eq!(mime, RICH);
    assert_eq!(
        (text(&answer, "Subject").unwrap(), text(&answer, "IsRead")),
        ("Grüße & <Küsse>".into(), None)
    );
    let answer = sim.ask_valid(&get_item(&item, "<t:BaseShape>AllProperties</t:BaseShape>"));
    let attachment = &ids(&answer, "AttachmentId")[0];
    let content = sim.ask_valid(&format!(
        "<m:GetAttachment><m:AttachmentIds><t:AttachmentId Id=\"{attachment}\"/></m:AttachmentIds></m:GetAttachment>"
    ));
    assert_eq!(text(&content, "Content").as_deref(), Some("AAECAwQ="));
}

/// Each id of a batch has its own answer, in the order asked.
#[test]
fn get_item_answers_each_id_in_order() {
    let sim = Sim::new(Style::Exchange);
    let (one, two) = (sim.exchange.deliver(ADA, MAIL).unwrap(), sim.exchange.deliver(ADA, MAIL).unwrap());
    let gone = sim.exchange.deliver(ADA, MAIL).unwrap();
    sim.exchange.move_item(&gone, "drafts").unwrap();
    let bobs = sim.exchange.deliver(BOB, MAIL).unwrap();
    let inbox = sim.exchange.folder_id(ADA, "inbox").unwrap();
    let asked: String = [&one, &gone, "nonsense", &bobs, &inbox, "", &two]
        .iter()
        .map(|i| format!("<t:ItemId Id=\"{i}\"/>"))
        .collect();
    let answer = sim.ask_valid(&format!(
        "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ItemIds>{asked}</m:ItemIds></m:GetItem>"
    ));
    let expected = [
        "NoError",
        "ErrorItemNotFound",
        "ErrorInvalidIdMalformed",
        "ErrorAccessDenied",
        "ErrorCannotUseFolderIdForItemId",
        "ErrorInvalidIdEmpty",
        "NoError",
    ];
    assert_eq!(texts(&answer, "ResponseCode"), expected);
    assert_eq!(ids(&answer, "ItemId"), [one, two]);
}

/// Names lead to ids and counts; clients start with this.
#[test]
fn folders_are_found_and_counted() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.deliver(ADA, MAIL).unwrap();
    let made = sim.ask_valid(
        "<m:CreateFolder><m:ParentFolderId><t:DistinguishedFolderId Id=\"inbox\"/></m:ParentFolderId><m:Folders>\
         <t:Folder><t:DisplayName>A &amp; B</t:DisplayName></t:Folder></m:Folders></m:CreateFolder>",
    );
    let own = ids(&made, "FolderId").remove(0);
    assert_eq!(sim.exchange.folder_id(ADA, "Inbox/A & B").unwrap(), own);
    let get = |which: &str, shape: &str| {
        format!(
            "<m:GetFolder><m:FolderShape>{shape}</m:FolderShape><m:FolderIds>{}</m:FolderIds></m:GetFolder>",
            folder(which)
        )
    };
    let answer = sim.ask_valid(&get("inbox", "<t:BaseShape>Default</t:BaseShape>"));
    let counts =
        ["DisplayName", "TotalCount", "ChildFolderCount", "UnreadCount"].map(|n| text(&answer, n).unwrap());
    assert_eq!(counts, ["Inbox", "1", "1", "1"]);
    let changes = "<t:BaseShape>AllProperties</t:BaseShape><t:AdditionalProperties>\
        <t:ExtendedFieldURI PropertyTag=\"0x670a\" PropertyType=\"SystemTime\"/>\
        <t:ExtendedFieldURI PropertyTag=\"0x670b\" PropertyType=\"Integer\"/></t:AdditionalProperties>";
    assert_eq!(texts(&sim.ask_valid(&get("inbox", changes)), "Value").len(), 2);
    for name in ["calendar", "contacts", "tasks", "root", "allitems"] {
        let all = "<t:BaseShape>AllProperties</t:BaseShape>";
        let answer = if name == "allitems" {
            sim.ask(&get(&sim.exchange.folder_id(ADA, name).unwrap(), all))
        } else {
            sim.ask_valid(&get(name, all))
        };
        assert_eq!(code(&answer), "NoError", "{name}");
    }
    let find = |traversal: &str| {
        format!(
            "<m:FindFolder Traversal=\"{traversal}\"><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
             <m:ParentFolderIds><t:DistinguishedFolderId Id=\"msgfolderroot\"/></m:ParentFolderIds></m:FindFolder>"
        )
    };
    assert!(!ids(&sim.ask_valid(&find("Shallow")), "FolderId").contains(&own));
    assert!(ids(&sim.ask_valid(&find("Deep")), "FolderId").contains(&own));
    assert_eq!(
        code(
            &sim.ask(&get(
                &sim.exchange.folder_id(BOB, "inbox").unwrap(),
                "<t:BaseShape>IdOnly</t:BaseShape>"
            ))
        ),
        "ErrorAccessDenied"
    );
    let again = "<m:CreateFolder><m:ParentFolderId><t:DistinguishedFolderId Id=\"inbox\"/></m:ParentFolderId><m:Folders>\
        <t:Folder><t:DisplayName>a &amp; b</t:DisplayName></t:Folder></m:Folders></m:CreateFolder>";
    assert_eq!(code(&sim.ask(again)), "ErrorFolderExists");
}

/// Folder operations by SOAP, as foreign clients make them.
#[test]
fn folders_are_renamed_moved_copied_and_deleted() {
    let sim = Sim::new(Style::Exchange);
    let own = sim.exchange.create_folder(ADA, "inbox", "Own").unwrap();
    sim.exchange.deliver_into(ADA, &own, MAIL).unwrap();
    let rename = format!(
        "<m:UpdateFolder><m:FolderChanges><t:FolderChange><t:FolderId Id=\"{own}\"/><t:Updates><t:SetFolderField>\
         <t:FieldURI FieldURI=\"folder:DisplayName\"/><t:Folder><t:DisplayName>New</t:DisplayName></t:Folder>\
         </t:SetFolderField></t:Updates></t:FolderChange></m:FolderChanges></m:UpdateFolder>"
    );
    assert_eq!(code(&sim.ask_valid(&rename)), "NoError");
    let transfer = |operation: &str, to: &str| {
        format!(
            "<m:{operation}><m:ToFolderId>{}</m:ToFolderId><m:FolderIds><t:FolderId Id=\"{own}\"/></m:FolderIds>\
             </m:{operation}>",
            folder(to)
        )
    };
    assert_eq!(code(&sim.ask_valid(&transfer("MoveFolder", "drafts"))), "NoError");
    let copy = ids(&sim.ask_valid(&transfer("CopyFolder", "inbox")), "FolderId").remove(0);
    assert_eq!(sim.exchange.item_ids(ADA, &copy).unwrap().len(), 1);
    assert_eq!(sim.exchange.folder_id(ADA, "Drafts/New").unwrap(), own);
    assert_eq!(code(&sim.ask(&transfer("MoveFolder", &own))), "ErrorMoveCopyFailed");
    let delete = |id: &str| {
        format!(
            "<m:DeleteFolder DeleteType=\"HardDelete\"><m:FolderIds>{}</m:FolderIds></m:DeleteFolder>",
            folder(id)
        )
    };
    assert_eq!(code(&sim.ask_valid(&delete(&copy))), "NoError");
    assert_eq!(code(&sim.ask(&delete(&copy))), "ErrorFolderNotFound");
    assert_eq!(code(&sim.ask(&delete("inbox"))), "ErrorDeleteDistinguishedFolder");
    assert_eq!(code(&sim.ask(&transfer("MoveFolder", &copy))), "ErrorToFolderNotFound");
}

/// FindItem pages through a folder, newest first, and finds by subject.
#[test]
fn items_are_found() {
    let sim = Sim::new(Style::Exchange);
    for n in 0..5 {
        sim.exchange.deliver(ADA, format!("Subject: mail {n}\r\n\r\nx\r\n").as_bytes()).unwrap();
    }
    let find = |view: &str| {
        format!(
            "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>Default</t:BaseShape></m:ItemShape>{view}\
             <m:ParentFolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:ParentFolderIds></m:FindItem>"
        )
    };
    let page = |n: u32| {
        format!("<m:IndexedPageItemView MaxEntriesReturned=\"2\" Offset=\"{n}\" BasePoint=\"Beginning\"/>")
    };
    assert_eq!(texts(&sim.ask_valid(&find(&page(0))), "Subject"), ["mail 4", "mail 3"]);
    let last = sim.ask_valid(&find(&page(4)));
    assert_eq!(texts(&last, "Subject"), ["mail 0"]);
    assert!(
        last.contains("IndexedPagingOffset=\"5\" TotalItemsInView=\"5\" IncludesLastItemInRange=\"true\"")
    );
    let by_subject = "<m:Restriction><t:IsEqualTo><t:FieldURI FieldURI=\"item:Subject\"/><t:FieldURIOrConstant>\
        <t:Constant Value=\"mail 2\"/></t:FieldURIOrConstant></t:IsEqualTo></m:Restriction>";
    assert_eq!(texts(&sim.ask_valid(&find(by_subject)), "Subject"), ["mail 2"]);
}

/// MIME goes in by CreateItem and comes out the same; what is sent to a mailbox here arrives there as new mail.
#[test]
fn items_are_created_from_mime_and_sent() {
    use base64::Engine;
    let sim = Sim::new(Style::Exchange);
    let mime = base64::engine::general_purpose::STANDARD.encode(RICH);
    let made = sim.ask_valid(&format!(
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:SavedItemFolderId><t:DistinguishedFolderId Id=\"inbox\"/>\
         </m:SavedItemFolderId><m:Items><t:Message><t:MimeContent CharacterSet=\"UTF-8\">{mime}</t:MimeContent>\
         </t:Message></m:Items></m:CreateItem>"
    ));
    let item = ids(&made, "ItemId").remove(0);
    let answer = sim.ask(&get_item(
        &item,
        "<t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent>",
    ));
    assert_eq!(text(&answer, "MimeContent").unwrap(), mime);
    let sent = sim.ask_valid(
        "<m:CreateItem MessageDisposition=\"SendOnly\"><m:Items><t:Message><t:Subject>Gru\u{df}</t:Subject>\
         <t:Body BodyType=\"Text\">&lt;hi&gt;</t:Body><t:ToRecipients><t:Mailbox><t:Name>B\u{f6}b</t:Name>\
         <t:EmailAddress>bob@example.test</t:EmailAddress></t:Mailbox></t:ToRecipients></t:Message></m:Items></m:CreateItem>",
    );
    assert_eq!(code(&sent), "NoError");
    let arrived = sim.exchange.item_ids(BOB, "inbox").unwrap().remove(0);
    let answer = sim.ask_as(BOB, "", &get_item(&arrived, "<t:BaseShape>AllProperties</t:BaseShape>"));
    assert_eq!(
        (text(&answer, "Subject").unwrap(), text(&answer, "Body").unwrap()),
        ("Gruß".into(), "<hi>".into())
    );
    assert_eq!(texts(&answer, "EmailAddress"), [ADA, BOB, ADA]);
}

/// Appointments have their times; an update in conflict is refused where it was asked so.
#[test]
fn appointments_and_conflicts() {
    let sim = Sim::new(Style::Exchange);
    let made = sim.ask_valid(
        "<m:CreateItem SendMeetingInvitations=\"SendToNone\"><m:SavedItemFolderId>\
         <t:DistinguishedFolderId Id=\"calendar\"/></m:SavedItemFolderId><m:Items><t:CalendarItem>\
         <t:Subject>Lunch</t:Subject><t:Start>2030-01-01T12:00:00+01:00</t:Start><t:End>2030-01-01T12:00:00Z</t:End>\
         <t:LegacyFreeBusyStatus>Busy</t:LegacyFreeBusyStatus><t:Location>Here</t:Location></t:CalendarItem></m:Items>\
         </m:CreateItem>",
    );
    let item = ids(&made, "ItemId").remove(0);
    let answer = sim.ask_valid(&get_item(&item, "<t:BaseShape>AllProperties</t:BaseShape>"));
    let values =
        ["Subject", "Start", "End", "Location", "LegacyFreeBusyStatus"].map(|n| text(&answer, n).unwrap());
    assert_eq!(values, ["Lunch", "2030-01-01T11:00:00Z", "2030-01-01T12:00:00Z", "Here", "Busy"]);
    let update = |resolution: &str| {
        format!(
            "<m:UpdateItem ConflictResolution=\"{resolution}\" MessageDisposition=\"SaveOnly\" \
             SendMeetingInvitationsOrCancellations=\"SendToNone\"><m:ItemChanges><t:ItemChange>\
             <t:ItemId Id=\"{item}\" ChangeKey=\"CQAAAA==\"/><t:Updates><t:SetItemField>\
             <t:FieldURI FieldURI=\"calendar:Location\"/><t:CalendarItem><t:Location>There</t:Location></t:CalendarItem>\
             </t:SetItemField></t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>"
        )
    };
    assert_eq!(code(&sim.ask_valid(&update("NeverOverwrite"))), "ErrorIrresolvableConflict");
    assert_eq!(code(&sim.ask_valid(&update("AutoResolve"))), "NoError");
    assert!(sim.ask(&get_item(&item, "<t:BaseShape>AllProperties</t:BaseShape>")).contains(">There<"));
}

const ASKS_FOR_RECEIPT: &[u8] =
    b"From: zoe@example.test\r\nDisposition-Notification-To: zoe@example.test\r\nSubject: Read?\r\n\r\nx\r\n";

/// A mark or a deletion that tells the sender of itself, unless that is suppressed: what a program reads, nobody has read.
#[test]
fn read_receipts_go_out_unless_suppressed() {
    let sim = Sim::new(Style::Exchange);
    let [loud, quiet, plain, thrown, kept] = [0, 1, 2, 3, 4].map(|n| {
        let mail = if n == 2 { MAIL } else { ASKS_FOR_RECEIPT };
        sim.exchange.deliver(ADA, mail).unwrap()
    });
    let save = "MessageDisposition=\"SaveOnly\"";
    let suppress = "SuppressReadReceipts=\"true\"";
    let asks =
        text(&sim.ask(&get_item(&loud, "<t:BaseShape>Default</t:BaseShape>")), "IsReadReceiptRequested");
    assert_eq!(asks.as_deref(), Some("true"));
    for (item, attributes) in
        [(&loud, save.to_owned()), (&loud, save.to_owned()), (&quiet, format!("{save} {suppress}"))]
    {
        let answer = sim.ask_valid(&mark(item, &attributes));
        assert_eq!((code(&answer), ids(&answer, "ItemId")), ("NoError".into(), vec![item.clone()]));
    }
    sim.ask_valid(&mark(&plain, save));
    let delete = |item: &str, more: &str| {
        format!(
            "<m:DeleteItem DeleteType=\"HardDelete\" {more}><m:ItemIds><t:ItemId Id=\"{item}\"/></m:ItemIds></m:DeleteItem>"
        )
    };
    sim.ask_valid(&delete(&thrown, ""));
    sim.ask_valid(&delete(&kept, suppress));
    assert_eq!(sim.exchange.receipts(), [loud.clone(), thrown]);
    // An older client cannot suppress them.
    let old = |body: &str| request("", body).replace("Exchange2013_SP1", "Exchange2010_SP2");
    for body in [mark(&loud, &format!("{save} {suppress}")), delete(&loud, suppress)] {
        let Answer::Whole { status, body } = sim.exchange.answer(ADA, old(&body).as_bytes()) else {
            panic!("a stream came")
        };
        assert_eq!((status, code(&sim.note(&body)).as_str()), (500, "ErrorSchemaValidation"));
    }
    assert_eq!(sim.exchange.item_ids(ADA, "inbox").unwrap().len(), 3);
}

/// Some kinds of items demand that the request says more; what is not there is said for each item.
#[test]
fn refusals_of_changes_to_items() {
    let sim = Sim::new(Style::Exchange);
    let mail = sim.exchange.deliver(ADA, MAIL).unwrap();
    let now = std::time::SystemTime::now();
    let lunch =
        sim.exchange.create_appointment(ADA, "Lunch", now, std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(code(&sim.ask_valid(&mark(&mail, ""))), "ErrorMessageDispositionRequired");
    let save = "MessageDisposition=\"SaveOnly\"";
    let required = "ErrorSendMeetingInvitationsOrCancellationsRequired";
    assert_eq!(code(&sim.ask_valid(&mark(&lunch, save))), required);
    let on = |operation: &str, first: &str, items: &[&str]| {
        let items: String = items.iter().map(|i| format!("<t:ItemId Id=\"{i}\"/>")).collect();
        let name = operation.split(' ').next().unwrap();
        texts(
            &sim.ask_valid(&format!("<m:{operation}>{first}<m:ItemIds>{items}</m:ItemIds></m:{name}>")),
            "ResponseCode",
        )
    };
    let delete = "DeleteItem DeleteType=\"MoveToDeletedItems\"";
    assert_eq!(on(delete, "", &[&lunch]), ["ErrorSendMeetingCancellationsRequired"]);
    let all = format!(
        "{delete} SendMeetingCancellations=\"SendToNone\" AffectedTaskOccurrences=\"AllOccurrences\""
    );
    assert_eq!(
        on(&all, "", &[&lunch, &lunch, "x"]),
        ["NoError", "ErrorItemNotFound", "ErrorInvalidIdMalformed"]
    );
    let to = |folder_name: &str| format!("<m:ToFolderId>{}</m:ToFolderId>", folder(folder_name));
    let gone = sim.exchange.create_folder(ADA, "inbox", "Gone").unwrap();
    sim.exchange.delete_folder(ADA, &gone, ewsnotify::sim::exchange::Deletion::Hard).unwrap();
    assert_eq!(on("MoveItem", &to(&gone), &[&mail]), ["ErrorToFolderNotFound"]);
    assert_eq!(on("MoveItem", &to("drafts"), &[&mail, &mail]), ["NoError", "ErrorItemNotFound"]);
}

/// What foreign clients ask for beside.
#[test]
fn names_zones_and_ids() {
    let sim = Sim::new(Style::Exchange);
    let resolve = |entry: &str| {
        format!(
            "<m:ResolveNames ReturnFullContactData=\"false\"><m:UnresolvedEntry>{entry}</m:UnresolvedEntry></m:ResolveNames>"
        )
    };
    assert_eq!(text(&sim.ask_valid(&resolve("ada")), "EmailAddress").as_deref(), Some(ADA));
    assert_eq!(code(&sim.ask_valid(&resolve("nobody"))), "ErrorNameResolutionNoResults");
    for full in ["true", "false"] {
        let zones = format!("<m:GetServerTimeZones ReturnFullTimeZoneData=\"{full}\"/>");
        assert_eq!(code(&sim.ask_valid(&zones)), "NoError");
    }
    let configuration = "<m:GetUserConfiguration><m:UserConfigurationName Name=\"OWA.UserOptions\">\
        <t:DistinguishedFolderId Id=\"root\"/></m:UserConfigurationName><m:UserConfigurationProperties>All\
        </m:UserConfigurationProperties></m:GetUserConfiguration>";
    assert_eq!(code(&sim.ask_valid(configuration)), "ErrorItemNotFound");
    let id = sim.exchange.folder_id(ADA, "inbox").unwrap();
    let convert = format!(
        "<m:ConvertId DestinationFormat=\"EwsId\"><m:SourceIds><t:AlternateId Format=\"EwsId\" Id=\"{id}\" \
         Mailbox=\"{ADA}\"/></m:SourceIds></m:ConvertId>"
    );
    assert_eq!(ids(&sim.ask_valid(&convert), "AlternateId"), [id]);
}

/// A push subscription is taken and can not be pulled.
#[test]
fn push_subscriptions_are_accepted() {
    let sim = Sim::new(Style::Exchange);
    let more = "<t:StatusFrequency>10</t:StatusFrequency><t:URL>https://hook.example.test/</t:URL>";
    let request = |more: &str| {
        crate::support::subscribe_request("PushSubscriptionRequest", &["inbox"], &["NewMailEvent"], more)
    };
    let answer = sim.ask_valid(&request(more));
    let (id, mark) = (text(&answer, "SubscriptionId").unwrap(), text(&answer, "Watermark").unwrap());
    let get = format!(
        "<m:GetEvents><m:SubscriptionId>{id}</m:SubscriptionId><m:Watermark>{mark}</m:Watermark></m:GetEvents>"
    );
    assert_eq!(code(&sim.ask(&get)), "ErrorInvalidPullSubscriptionId");
    let bad = request(&more.replace("https", "gopher"));
    assert_eq!(code(&sim.ask(&bad)), "ErrorInvalidPushSubscriptionUrl");
}
