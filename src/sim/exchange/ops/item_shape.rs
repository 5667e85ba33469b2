//! How an item is written: its element, its properties, in the order of the schema.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::super::Style;
use super::super::ids;
use super::super::item::{Address, Attachment, Class, Item};
use super::super::mailbox::{Folder, Mailbox};
use super::super::tree::{Node, Ns, Violation};
use super::super::write::{date, escape, leaf};
use super::folder_shape::{Base, EFFECTIVE_RIGHTS};

/// Which properties were asked for.
pub(super) struct ItemShape {
    base: Base,
    mime: bool,
    text_body: bool,
    extra: Vec<String>,
    /// FindItem and SyncFolderItems give no body, recipients, attachments or MIME.
    summary: bool,
}

impl ItemShape {
    pub(super) const ID_ONLY: ItemShape =
        ItemShape { base: Base::IdOnly, mime: false, text_body: false, extra: Vec::new(), summary: false };

    pub(super) fn of(shape: &Node, summary: bool) -> Result<ItemShape, Violation> {
        shape.sequence(
            Ns::Types,
            &[
                "!BaseShape",
                "IncludeMimeContent",
                "BodyType",
                "UniqueBodyType",
                "NormalizedBodyType",
                "FilterHtmlContent",
                "ConvertHtmlCodePageToUTF8",
                "InlineImageUrlTemplate",
                "BlockExternalImages",
                "AddBlankTargetToLinks",
                "MaximumBodySize",
                "AdditionalProperties",
            ],
        )?;
        let extra = shape.child("AdditionalProperties").map(|p| p.children.as_slice()).unwrap_or_default();
        let extra: Vec<String> =
            extra.iter().filter_map(|p| p.attribute("FieldURI")).map(str::to_owned).collect();
        let mime = shape.child_text("IncludeMimeContent").is_some_and(|v| matches!(v, "true" | "1"));
        Ok(ItemShape {
            base: Base::of(shape)?,
            mime: mime || extra.iter().any(|e| e == "item:MimeContent"),
            text_body: shape.child_text("BodyType") == Some("Text"),
            extra,
            summary,
        })
    }

    /// The item's element.
    pub(super) fn write(&self, style: Style, mailbox: &Mailbox, folder: &Folder, item: &Item) -> String {
        let fields = &item.fields;
        let mut out = Properties { shape: self, out: String::new() };
        if self.mime && !self.summary {
            let mime = BASE64.encode(&fields.mime);
            out.out.push_str(&format!("<t:MimeContent CharacterSet=\"UTF-8\">{mime}</t:MimeContent>"));
        }
        out.out.push_str(&item_id(style, mailbox, folder, item));
        out.with("item:ParentFolderId", Base::All, || {
            format!(
                "<t:ParentFolderId Id=\"{}\" ChangeKey=\"{}\"/>",
                ids::folder_id(style, mailbox.guid, folder.number),
                ids::change_key(style, 1, mailbox.guid, folder.changed)
            )
        });
        out.leaf("item:ItemClass", Base::All, fields.class.item_class());
        out.leaf("item:Subject", Base::Default, &fields.subject);
        out.leaf("item:Sensitivity", Base::Default, "Normal");
        if !self.summary {
            let body = || {
                let kind = if fields.body_is_html && !self.text_body { "HTML" } else { "Text" };
                format!("<t:Body BodyType=\"{kind}\">{}</t:Body>", escape(&fields.body))
            };
            out.with("item:Body", Base::Default, body);
            let attachments = || match fields.attachments.as_slice() {
                [] => String::new(),
                list => {
                    let all: String =
                        list.iter().map(|a| attachment(style, mailbox, folder, item, a)).collect();
                    format!("<t:Attachments>{all}</t:Attachments>")
                }
            };
            out.with("item:Attachments", Base::Default, attachments);
        }
        out.leaf("item:DateTimeReceived", Base::Default, &date(style, item.received));
        out.leaf("item:Size", Base::Default, &fields.size().to_string());
        let categories = || match fields.categories.is_empty() {
            true => String::new(),
            false => {
                let all: String = fields.categories.iter().map(|c| leaf("String", c)).collect();
                format!("<t:Categories>{all}</t:Categories>")
            }
        };
        out.with("item:Categories", Base::All, categories);
        out.leaf("item:Importance", Base::Default, fields.importance.as_deref().unwrap_or("Normal"));
        out.some("item:InReplyTo", Base::All, fields.in_reply_to.as_deref());
        for (uri, value) in [
            ("item:IsSubmitted", false),
            ("item:IsDraft", item.draft),
            ("item:IsFromMe", false),
            ("item:IsResend", false),
            ("item:IsUnmodified", item.changed == item.number),
        ] {
            out.leaf(uri, Base::All, &value.to_string());
        }
        out.some("item:DateTimeSent", Base::Default, fields.sent.map(|t| date(style, t)).as_deref());
        out.leaf("item:DateTimeCreated", Base::Default, &date(style, item.created));
        out.leaf("item:DisplayCc", Base::All, &names(&fields.cc));
        out.leaf("item:DisplayTo", Base::All, &names(&fields.to));
        let has = fields.attachments.iter().any(|a| !a.inline);
        out.leaf("item:HasAttachments", Base::Default, &has.to_string());
        out.leaf("item:Culture", Base::All, "en-US");
        out.with("item:EffectiveRights", Base::All, || EFFECTIVE_RIGHTS.to_owned());
        out.leaf("item:LastModifiedName", Base::All, &mailbox.address);
        out.leaf("item:LastModifiedTime", Base::All, &date(style, item.modified));
        out.leaf("item:IsAssociated", Base::Default, "false");
        match fields.class {
            Class::Message => message(&mut out, item),
            Class::Calendar => calendar(&mut out, style, item),
            Class::Contact | Class::Task => {}
        }
        let element = fields.class.element();
        format!("<t:{element}>{}</t:{element}>", out.out)
    }
}

/// The ItemId element, as answers (not events) have it.
pub(super) fn item_id(style: Style, mailbox: &Mailbox, folder: &Folder, item: &Item) -> String {
    format!(
        "<t:ItemId Id=\"{}\" ChangeKey=\"{}\"/>",
        ids::item_id(style, mailbox.guid, folder.number, item.number),
        ids::change_key(style, 9, mailbox.guid, item.last_change())
    )
}

/// The id of an attachment: the item's, and which leaf of its MIME.
pub(super) fn attachment_id(item: &str, leaf: usize) -> String {
    BASE64.encode(format!("{item}|{leaf}"))
}

pub(super) fn parse_attachment_id(id: &str) -> Option<(String, usize)> {
    let text = String::from_utf8(BASE64.decode(id).ok()?).ok()?;
    let (item, leaf) = text.split_once('|')?;
    Some((item.to_owned(), leaf.parse().ok()?))
}

struct Properties<'a> {
    shape: &'a ItemShape,
    out: String,
}

impl Properties<'_> {
    fn with(&mut self, uri: &str, from: Base, write: impl FnOnce() -> String) {
        if self.shape.base >= from || self.shape.extra.iter().any(|e| e == uri) {
            self.out.push_str(&write());
        }
    }

    fn leaf(&mut self, uri: &str, from: Base, value: &str) {
        let name = uri.split_once(':').map_or(uri, |(_, name)| name);
        self.with(uri, from, || leaf(name, value));
    }

    fn some(&mut self, uri: &str, from: Base, value: Option<&str>) {
        if let Some(value) = value {
            self.leaf(uri, from, value);
        }
    }
}

fn message(out: &mut Properties<'_>, item: &Item) {
    let fields = &item.fields;
    let single = |name: &str, a: &Option<Address>| {
        a.as_ref().map(|a| format!("<t:{name}>{}</t:{name}>", mailbox_element(a))).unwrap_or_default()
    };
    out.with("message:Sender", Base::Default, || single("Sender", &fields.sender));
    if !out.shape.summary {
        for (uri, list) in [
            ("message:ToRecipients", &fields.to),
            ("message:CcRecipients", &fields.cc),
            ("message:BccRecipients", &fields.bcc),
        ] {
            let name = uri.split_once(':').map_or(uri, |(_, name)| name);
            let write = || match list.as_slice() {
                [] => String::new(),
                list => {
                    let all: String = list.iter().map(mailbox_element).collect();
                    format!("<t:{name}>{all}</t:{name}>")
                }
            };
            out.with(uri, Base::Default, write);
        }
    }
    out.leaf("message:IsReadReceiptRequested", Base::Default, &fields.wants_receipt.to_string());
    out.leaf("message:IsDeliveryReceiptRequested", Base::Default, "false");
    out.leaf("message:ConversationTopic", Base::All, &fields.subject);
    out.with("message:From", Base::Default, || single("From", &fields.from));
    out.some("message:InternetMessageId", Base::Default, fields.message_id.as_deref());
    out.leaf("message:IsRead", Base::Default, &item.is_read.to_string());
    out.some("message:References", Base::All, fields.references.as_deref());
}

fn calendar(out: &mut Properties<'_>, style: Style, item: &Item) {
    let Some(calendar) = &item.fields.calendar else { return };
    out.leaf("calendar:UID", Base::All, &calendar.uid);
    out.leaf("calendar:Start", Base::Default, &date(style, calendar.start));
    out.leaf("calendar:End", Base::Default, &date(style, calendar.end));
    out.leaf("calendar:IsAllDayEvent", Base::All, &calendar.all_day.to_string());
    out.leaf("calendar:LegacyFreeBusyStatus", Base::Default, &calendar.free_busy);
    if !calendar.location.is_empty() {
        out.leaf("calendar:Location", Base::Default, &calendar.location);
    }
    for uri in [
        "calendar:IsMeeting",
        "calendar:IsCancelled",
        "calendar:IsRecurring",
        "calendar:MeetingRequestWasSent",
    ] {
        out.leaf(uri, Base::All, "false");
    }
    out.leaf("calendar:CalendarItemType", Base::Default, "Single");
    out.leaf("calendar:MyResponseType", Base::Default, "Organizer");
}

fn attachment(style: Style, mailbox: &Mailbox, folder: &Folder, item: &Item, a: &Attachment) -> String {
    let id = attachment_id(&ids::item_id(style, mailbox.guid, folder.number, item.number), a.leaf);
    let content_id = a.content_id.as_ref().map(|id| leaf("ContentId", id)).unwrap_or_default();
    let element = attachment_element(a);
    format!(
        "<t:{element}><t:AttachmentId Id=\"{id}\"/>{}{}{content_id}{}{}{}</t:{element}>",
        leaf("Name", &a.name),
        leaf("ContentType", &a.content_type),
        leaf("Size", &a.size.to_string()),
        leaf("LastModifiedTime", &date(style, item.created)),
        leaf("IsInline", &a.inline.to_string())
    )
}

/// A message is an item, and a link a reference; the rest are files.
pub(super) fn attachment_element(a: &Attachment) -> &'static str {
    match a.content_type.as_str() {
        "message/rfc822" => "ItemAttachment",
        "text/uri-list" => "ReferenceAttachment",
        _ => "FileAttachment",
    }
}

fn mailbox_element(a: &Address) -> String {
    let name = if a.name.is_empty() { &a.email } else { &a.name };
    let email = if a.email.is_empty() { String::new() } else { leaf("EmailAddress", &a.email) };
    format!("<t:Mailbox>{}{email}<t:RoutingType>SMTP</t:RoutingType></t:Mailbox>", leaf("Name", name))
}

fn names(list: &[Address]) -> String {
    let one = |a: &Address| if a.name.is_empty() { a.email.clone() } else { a.name.clone() };
    list.iter().map(one).collect::<Vec<_>>().join("; ")
}
