//! GetItem, GetAttachment and ConvertId, and what UpdateItem and MoveItem say of an item.

use super::super::message::{FoundAttachment, Id, Item, Mailbox};
use super::super::xml::{Reader, Start};
use super::events::id;
use crate::{Attachment, Result};

/// A part of `GetItemResponseMessage`. Items come under any name (`Message`, `CalendarItem`, …).
pub(super) fn items(r: &mut Reader, start: Start, into: &mut Vec<Item>) -> Result<()> {
    if start.name == "Items" {
        r.children(|r, start| {
            r.count_thing()?;
            into.push(item(r, start)?);
            Ok(())
        })?;
    }
    Ok(())
}

/// A part of `ConvertIdResponseMessage`.
pub(super) fn converted(_: &mut Reader, mut start: Start, into: &mut Option<String>) -> Result<()> {
    if start.name == "AlternateId" {
        *into = start.take("Id").filter(|id| !id.is_empty());
    }
    Ok(())
}

/// A part of `GetAttachmentResponseMessage`.
pub(super) fn found_attachments(r: &mut Reader, start: Start, into: &mut Vec<FoundAttachment>) -> Result<()> {
    if start.name == "Attachments" {
        r.children(|r, start| {
            r.count_thing()?;
            into.push(found_attachment(r, start)?);
            Ok(())
        })?;
    }
    Ok(())
}

/// The item of an `ItemAttachment` comes under any name (`Message`, `CalendarItem`, …).
fn found_attachment(r: &mut Reader, start: Start) -> Result<FoundAttachment> {
    let mut found = FoundAttachment { element: start.name, base64: None };
    let of_file = found.element == "FileAttachment";
    r.children(|r, start| match start.name.as_str() {
        "Content" if of_file => {
            found.base64 = Some(r.raw_text()?);
            Ok(())
        }
        _ if of_file => Ok(()),
        _ => r.children(|r, start| {
            if start.name == "MimeContent" {
                found.base64 = Some(r.raw_text()?);
            }
            Ok(())
        }),
    })?;
    Ok(found)
}

/// A part of `UpdateItemResponseMessage` or `MoveItemResponseMessage`: the id of the one item.
pub(super) fn item_id(r: &mut Reader, start: Start, into: &mut Option<Id>) -> Result<()> {
    let mut found = Vec::new();
    items(r, start, &mut found)?;
    *into = found.pop().map(|item| item.id).filter(|id| !id.id.is_empty()).or(into.take());
    Ok(())
}

/// An item's element, of any name.
pub(super) fn item(r: &mut Reader, start: Start) -> Result<Item> {
    let mut item = Item { element: start.name, ..Item::default() };
    let mut sender = None;
    r.children(|r, start| {
        match start.name.as_str() {
            "MimeContent" => item.mime_base64 = Some(r.raw_text()?).filter(|mime| !mime.is_empty()),
            "ItemId" => item.id = id(start).unwrap_or_default(),
            "ParentFolderId" => item.parent_folder_id = id(start),
            "ItemClass" => item.item_class = r.text()?,
            "Subject" => item.subject = r.text()?,
            "From" => item.from = mailboxes(r)?.into_iter().next(),
            "Sender" => sender = mailboxes(r)?.into_iter().next(),
            "ToRecipients" => item.to = mailboxes(r)?,
            "DateTimeReceived" => item.received = r.text()?,
            "DateTimeCreated" => item.created = r.text()?,
            "InternetMessageId" => item.message_id = r.text()?,
            "Size" => item.size = r.parse()?,
            "IsRead" => item.is_read = r.boolean()?,
            "IsDraft" => item.is_draft = r.boolean()?,
            "Attachments" => item.attachments = attachments(r)?,
            _ => {}
        }
        Ok(())
    })?;
    item.from = item.from.or(sender);
    Ok(item)
}

fn mailboxes(r: &mut Reader) -> Result<Vec<Mailbox>> {
    let mut found = Vec::new();
    r.children(|r, start| {
        if start.name != "Mailbox" {
            return Ok(());
        }
        r.count_thing()?;
        let mut mailbox = Mailbox::default();
        r.children(|r, start| {
            match start.name.as_str() {
                "Name" => mailbox.name = r.text()?,
                "EmailAddress" => mailbox.address = r.text()?,
                _ => {}
            }
            Ok(())
        })?;
        found.push(mailbox);
        Ok(())
    })?;
    Ok(found)
}

/// Attachments of any kind: files, items, references.
fn attachments(r: &mut Reader) -> Result<Vec<Attachment>> {
    let mut found = Vec::new();
    r.children(|r, start| {
        if !start.name.ends_with("Attachment") {
            return Ok(());
        }
        r.count_thing()?;
        let mut attachment = Attachment::default();
        r.children(|r, start| {
            match start.name.as_str() {
                "AttachmentId" => attachment.id = id(start).map(|id| id.id),
                "Name" => attachment.name = r.text()?,
                "ContentType" => attachment.content_type = r.text()?,
                "Size" => attachment.size = r.parse()?,
                _ => {}
            }
            Ok(())
        })?;
        found.push(attachment);
        Ok(())
    })?;
    Ok(found)
}
