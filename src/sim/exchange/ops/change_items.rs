//! CreateItem, UpdateItem, MoveItem, CopyItem, DeleteItem.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::super::Style;
use super::super::change::Arrival;
use super::super::item::{Address, Calendar, Class, Fields};
use super::super::mailbox::{CALENDAR, CONTACTS, DRAFTS, INBOX, SENT_ITEMS, TASKS};
use super::super::tree::{Node, Ns, Violation};
use super::super::write::Refusal;
use super::folders::{deletion, no_target, only};
use super::item_shape::ItemShape;
use super::items::written;
use super::{Call, Fail, Outcome, list, no_item};

const EMPTY: &str = "<m:Items/>";

pub(super) fn create_item(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["SavedItemFolderId", "!Items"])?;
    let saved = request.child("SavedItemFolderId").map(only).transpose()?;
    let disposition = request.attribute("MessageDisposition").unwrap_or("SaveOnly").to_owned();
    call.each(list(request, "Items")?, EMPTY, |call, node| {
        let class = Class::of_element(&node.name).ok_or_else(|| {
            Violation(format!("The element 'Items' has invalid child element '{}'.", node.name))
        })?;
        let fields = new_fields(call, class, node)?;
        let sends = class == Class::Message && disposition != "SaveOnly";
        let (key, folder) = match saved {
            Some(node) => call.folder(node)?,
            None => {
                let key = call.acting.clone();
                call.mailbox(&key)?;
                let folder = match class {
                    Class::Message if sends => SENT_ITEMS,
                    Class::Message => DRAFTS,
                    Class::Calendar => CALENDAR,
                    Class::Contact => CONTACTS,
                    Class::Task => TASKS,
                };
                (key, folder)
            }
        };
        if sends {
            send(call, &fields);
        }
        if disposition == "SendOnly" && class == Class::Message {
            return Ok(EMPTY.to_owned());
        }
        let read = node.child_text("IsRead").map(is_true);
        // An item that a client makes is a draft, unless MIME came with it or it was sent.
        let draft = class == Class::Message && !sends && node.child("MimeContent").is_none();
        let arrival = Arrival {
            new_mail: false,
            is_read: read.unwrap_or(class != Class::Message || sends || draft),
            draft,
        };
        let fields = Arc::new(fields);
        let item =
            call.world.edit(&key, |e| e.create(folder, fields, arrival)).flatten().ok_or_else(no_item)?;
        written(call, &ItemShape::ID_ONLY, &key, folder, item)
    })
}

pub(super) fn update_item(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["SavedItemFolderId", "!ItemChanges"])?;
    let resolution = request.need_attribute("ConflictResolution")?.to_owned();
    let quiet = suppressed(call, request)?;
    let conflicts = "<m:ConflictResults><t:Count>0</t:Count></m:ConflictResults>";
    call.each(list(request, "ItemChanges")?, EMPTY, |call, change| {
        change.sequence(Ns::Types, &["!ItemId", "!Updates"])?;
        let target = change.need("ItemId")?;
        let (key, folder, item) = call.item(target)?;
        let mailbox = call.mailbox(&key)?;
        let current = mailbox.folders.get(&folder).and_then(|f| f.items.get(&item)).ok_or_else(no_item)?;
        let required = [
            (Class::Message, "MessageDisposition", "ErrorMessageDispositionRequired"),
            (
                Class::Calendar,
                "SendMeetingInvitationsOrCancellations",
                "ErrorSendMeetingInvitationsOrCancellationsRequired",
            ),
        ];
        complete(call.style, request, current.fields.class, &required)?;
        let asks = !current.is_read && current.fields.wants_receipt;
        let stale = target.attribute("ChangeKey").is_some_and(|asked| {
            asked != super::super::ids::change_key(call.style, 9, mailbox.guid, current.last_change())
        });
        if stale && resolution == "NeverOverwrite" {
            let text = "The send or update operation could not be performed because the change key passed in the \
                        request does not match the current change key for the item.";
            return Err(Refusal::new("ErrorIrresolvableConflict", text).into());
        }
        let mut fields = (*current.fields).clone();
        let mut read = None;
        let mut content = false;
        for update in list(change, "Updates")? {
            let uri = update.child("FieldURI").and_then(|f| f.attribute("FieldURI")).unwrap_or_default();
            // The value is in the item element beside the field's name.
            let value = update.children.iter().find(|c| Class::of_element(&c.name).is_some());
            let value = value.and_then(|v| v.children.first());
            match uri {
                "message:IsRead" => read = value.map(|v| is_true(v.text())),
                _ => {
                    content = true;
                    apply(&mut fields, uri, value)?;
                }
            }
        }
        call.world.edit(&key, |e| {
            if content {
                e.edit(folder, item, |f| *f = fields);
            }
            if let Some(read) = read {
                e.set_read(folder, item, read);
                // gromox counts a mark that comes this way as a change of the whole item.
                let entry = e.mailbox.folders.get_mut(&folder).and_then(|f| f.items.get_mut(&item));
                if let Some(entry) = entry.filter(|_| e.style == Style::Gromox) {
                    entry.changed = entry.last_change();
                }
            }
        });
        if asks && read == Some(true) && !quiet {
            receipt(call, &key, folder, item);
        }
        Ok(written(call, &ItemShape::ID_ONLY, &key, folder, item)? + conflicts)
    })
}

pub(super) fn move_item(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    transfer(call, request, true)
}

pub(super) fn copy_item(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    transfer(call, request, false)
}

pub(super) fn delete_item(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!ItemIds"])?;
    let how = deletion(request)?;
    let quiet = suppressed(call, request)?;
    call.each(list(request, "ItemIds")?, "", |call, node| {
        let (key, folder, item) = call.item(node)?;
        let mailbox = call.mailbox(&key)?;
        let current = mailbox.folders.get(&folder).and_then(|f| f.items.get(&item)).ok_or_else(no_item)?;
        let required = [
            (Class::Calendar, "SendMeetingCancellations", "ErrorSendMeetingCancellationsRequired"),
            (Class::Task, "AffectedTaskOccurrences", "ErrorAffectedTaskOccurrencesRequired"),
        ];
        complete(call.style, request, current.fields.class, &required)?;
        if !current.is_read && current.fields.wants_receipt && !quiet {
            receipt(call, &key, folder, item);
        }
        call.world.edit(&key, |e| e.delete_item(folder, item, how)).flatten().ok_or_else(no_item)?;
        Ok(String::new())
    })
}

/// Whether read receipts are not to be sent. Clients of an older schema cannot say so.
fn suppressed(call: &Call<'_>, request: &Node) -> Result<bool, Violation> {
    let said = request.attribute("SuppressReadReceipts");
    match call.style {
        Style::Gromox => Ok(true),
        Style::Exchange if said.is_some() && !call.speaks("Exchange2013_SP1") => {
            Err(Violation("The 'SuppressReadReceipts' attribute is not declared.".into()))
        }
        Style::Exchange => Ok(said.is_some_and(is_true)),
    }
}

/// Writes down that the sender is told.
fn receipt(call: &mut Call<'_>, key: &str, folder: u64, item: u64) {
    let Some(guid) = call.world.mailboxes.get(key).map(|m| m.guid) else { return };
    call.world.receipts.push(super::super::ids::item_id(call.style, guid, folder, item));
}

/// Some kinds of items demand that the request says more.
fn complete(
    style: Style,
    request: &Node,
    class: Class,
    required: &[(Class, &str, &str)],
) -> Result<(), Refusal> {
    let missing = |(of, attribute, _): &&(Class, &str, &str)| {
        *of == class && style == Style::Exchange && request.attribute(attribute).is_none()
    };
    match required.iter().find(missing) {
        None => Ok(()),
        Some((_, attribute, code)) => {
            Err(Refusal::new(code, &format!("{attribute} is required for this type of item.")))
        }
    }
}

fn transfer(call: &mut Call<'_>, request: &Node, moves: bool) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!ToFolderId", "!ItemIds", "ReturnNewItemIds"])?;
    let target = only(request.need("ToFolderId")?)?;
    let tells = request.child_text("ReturnNewItemIds").is_none_or(is_true);
    call.each(list(request, "ItemIds")?, EMPTY, |call, node| {
        let (to_key, to) = call.folder(target).map_err(no_target)?;
        let (key, folder, item) = call.item(node)?;
        if key != to_key {
            // Between mailboxes it is a copy there and a deletion here, and no id is told.
            let fields = call
                .mailbox(&key)?
                .folders
                .get(&folder)
                .and_then(|f| f.items.get(&item))
                .ok_or_else(no_item)?;
            let (fields, arrival) =
                (fields.fields.clone(), Arrival { is_read: fields.is_read, ..Arrival::default() });
            call.world.edit(&to_key, |e| e.create(to, fields, arrival));
            if moves {
                call.world.edit(&key, |e| e.delete_item(folder, item, super::super::change::Deletion::Hard));
            }
            return Ok(EMPTY.to_owned());
        }
        let moved = call.world.edit(&key, |e| match moves {
            true => e.move_item(folder, item, to),
            false => e.copy_item(folder, item, to),
        });
        let number = moved.flatten().ok_or_else(no_item)?;
        match tells {
            true => written(call, &ItemShape::ID_ONLY, &key, to, number),
            false => Ok(EMPTY.to_owned()),
        }
    })
}

/// What is sent to a mailbox here is delivered there.
fn send(call: &mut Call<'_>, fields: &Fields) {
    let mut sent = fields.clone();
    if sent.mime.is_empty() {
        sent.write_mime(
            call.world.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        );
    }
    let sent = Arc::new(Fields::from_mime(&sent.mime));
    let to: Vec<String> = [&fields.to, &fields.cc, &fields.bcc]
        .into_iter()
        .flatten()
        .map(|a| a.email.to_ascii_lowercase())
        .collect();
    for key in to {
        let arrival = Arrival { new_mail: true, ..Arrival::default() };
        call.world.edit(&key, |e| e.create(INBOX, sent.clone(), arrival));
    }
}

fn new_fields(call: &Call<'_>, class: Class, node: &Node) -> Result<Fields, Fail> {
    let mut fields = match node.child("MimeContent") {
        Some(content) => {
            let compact: String = content.text().split_whitespace().collect();
            let bad = |_| {
                Refusal::new("ErrorMimeContentInvalidBase64String", "The MIME content is not valid Base64.")
            };
            Fields::from_mime(&BASE64.decode(compact).map_err(bad)?)
        }
        None => Fields::default(),
    };
    fields.class = class;
    if class == Class::Calendar {
        let now = call.world.time();
        let uid =
            format!("{:032X}", now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos());
        let end = now + Duration::from_secs(1800);
        let free_busy = "Busy".to_owned();
        fields.calendar =
            Some(Calendar { start: now, end, location: String::new(), free_busy, all_day: false, uid });
    }
    if fields.from.is_none() {
        fields.from = Some(Address { name: String::new(), email: call.acting.clone() });
        fields.sender.clone_from(&fields.from);
    }
    for child in &node.children {
        if !matches!(child.name.as_str(), "MimeContent" | "IsRead") {
            set(&mut fields, &child.name, Some(child))?;
        }
    }
    Ok(fields)
}

/// Changes one property of an item that is there, and its MIME with it.
fn apply(fields: &mut Fields, uri: &str, value: Option<&Node>) -> Result<(), Fail> {
    let name = uri.split_once(':').map_or(uri, |(_, name)| name);
    match (name, value) {
        ("Subject", value) => fields.replace_subject(value.map(Node::raw_text).unwrap_or_default()),
        _ => {
            set(fields, name, value)?;
            // A message with attachments keeps its MIME; rewriting would cost it more than the change is worth.
            if name == "Body" && fields.attachments.is_empty() {
                fields.write_mime(0);
            }
        }
    }
    Ok(())
}

fn set(fields: &mut Fields, name: &str, value: Option<&Node>) -> Result<(), Fail> {
    let text = value.map(Node::raw_text).unwrap_or_default();
    match name {
        "Subject" => fields.subject = text.to_owned(),
        "Body" => {
            fields.body = text.to_owned();
            fields.body_is_html = value.and_then(|v| v.attribute("BodyType")) == Some("HTML");
        }
        "Importance" => fields.importance = value.map(|v| v.text().to_owned()),
        "Categories" => {
            fields.categories = value
                .map(|v| v.children.iter().map(|c| c.raw_text().to_owned()).collect())
                .unwrap_or_default();
        }
        "InReplyTo" => fields.in_reply_to = value.map(|v| v.text().to_owned()),
        "InternetMessageId" => fields.message_id = value.map(|v| v.text().to_owned()),
        "References" => fields.references = value.map(|v| v.text().to_owned()),
        "From" => fields.from = value.and_then(|v| addresses(v).into_iter().next()),
        "Sender" => fields.sender = value.and_then(|v| addresses(v).into_iter().next()),
        "ToRecipients" => fields.to = value.map(addresses).unwrap_or_default(),
        "CcRecipients" => fields.cc = value.map(addresses).unwrap_or_default(),
        "BccRecipients" => fields.bcc = value.map(addresses).unwrap_or_default(),
        _ => {}
    }
    if let Some(calendar) = &mut fields.calendar {
        match name {
            "Start" => calendar.start = date(text)?,
            "End" => calendar.end = date(text)?,
            "Location" => calendar.location = text.to_owned(),
            "LegacyFreeBusyStatus" => calendar.free_busy = text.trim().to_owned(),
            "IsAllDayEvent" => calendar.all_day = is_true(text),
            "UID" => calendar.uid = text.to_owned(),
            _ => {}
        }
    }
    Ok(())
}

fn addresses(list: &Node) -> Vec<Address> {
    let boxes = list.children.iter().filter(|c| c.name == "Mailbox");
    boxes
        .map(|m| Address {
            name: m.child_text("Name").unwrap_or_default().to_owned(),
            email: m.child_text("EmailAddress").unwrap_or_default().to_owned(),
        })
        .collect()
}

/// A date of a request: RFC 3339, with an offset or without any (then it is UTC).
fn date(text: &str) -> Result<SystemTime, Violation> {
    let text = text.trim();
    let bad = || Violation(format!("The value '{text}' is invalid according to its datatype 'dateTime'."));
    let (local, minutes) =
        match text.get(text.len().saturating_sub(6)..).filter(|o| o.starts_with(['+', '-'])) {
            Some(offset) if text.len() > 16 => {
                let (hours, rest) = offset[1..].split_once(':').ok_or_else(bad)?;
                let (hours, rest): (u64, u64) =
                    (hours.parse().map_err(|_| bad())?, rest.parse().map_err(|_| bad())?);
                let minutes = (hours * 60 + rest) as i64;
                (&text[..text.len() - 6], if offset.starts_with('-') { -minutes } else { minutes })
            }
            _ => (text.trim_end_matches('Z'), 0),
        };
    let time = humantime::parse_rfc3339_weak(local).map_err(|_| bad())?;
    let shift = Duration::from_secs(minutes.unsigned_abs() * 60);
    if minutes < 0 { time.checked_add(shift) } else { time.checked_sub(shift) }.ok_or_else(bad)
}

fn is_true(text: &str) -> bool {
    matches!(text.trim(), "true" | "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shifted appointment would have its free/busy change told for the wrong hour.
    #[test]
    fn dates_of_requests_are_read_with_their_offset() {
        let at = |text: &str| date(text).map(|t| humantime::format_rfc3339_seconds(t).to_string()).ok();
        assert_eq!(at("2025-07-01T10:00:00Z").as_deref(), Some("2025-07-01T10:00:00Z"));
        assert_eq!(at("2025-07-01T10:00:00+02:00").as_deref(), Some("2025-07-01T08:00:00Z"));
        assert_eq!(at("2025-07-01T10:00:00.5-01:30").as_deref(), Some("2025-07-01T11:30:00Z"));
        assert_eq!(at("2025-07-01T10:00:00").as_deref(), Some("2025-07-01T10:00:00Z"));
        assert_eq!(at("soon"), None);
    }
}
