//! GetFolder, GetItem and SyncFolderItems: folders, items and changes.

use super::super::message::{Folder, Item, Mailbox, SyncChange, SyncPage};
use super::super::xml::{Reader, Start};
use super::events::id;
use crate::{Attachment, Result};

/// A part of `GetFolderResponseMessage`. Folders come under any name (`Folder`, `CalendarFolder`, …).
pub(super) fn folders(r: &mut Reader, start: Start, into: &mut Vec<Folder>) -> Result<()> {
    if start.name == "Folders" {
        r.children(|r, _| {
            r.count_thing()?;
            into.push(folder(r)?);
            Ok(())
        })?;
    }
    Ok(())
}

fn folder(r: &mut Reader) -> Result<Folder> {
    let mut folder = Folder::default();
    r.children(|r, start| {
        match start.name.as_str() {
            "FolderId" => folder.id = id(start).unwrap_or_default(),
            "ParentFolderId" => folder.parent_id = id(start),
            "DisplayName" => folder.display_name = r.text()?,
            "FolderClass" => folder.folder_class = r.text()?,
            "TotalCount" => folder.total_count = r.parse()?,
            "UnreadCount" => folder.unread_count = r.parse()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(folder)
}

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

fn item(r: &mut Reader, start: Start) -> Result<Item> {
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

/// A part of `SyncFolderItemsResponseMessage`. An error's state is empty, and left out here.
pub(super) fn sync_page(r: &mut Reader, start: Start, into: &mut SyncPage) -> Result<()> {
    match start.name.as_str() {
        "SyncState" => into.sync_state = r.text()?,
        "IncludesLastItemInRange" => into.includes_last = r.boolean()?.unwrap_or(false),
        "Changes" => r.children(|r, start| {
            r.count_thing()?;
            into.changes.extend(change(r, start)?);
            Ok(())
        })?,
        _ => {}
    }
    Ok(())
}

fn change(r: &mut Reader, start: Start) -> Result<Option<SyncChange>> {
    let (mut found, mut changed_id, mut is_read) = (None, None, None);
    let with_item = matches!(start.name.as_str(), "Create" | "Update");
    r.children(|r, child| {
        match child.name.as_str() {
            _ if with_item => found = Some(item(r, child)?),
            "ItemId" => changed_id = id(child),
            "IsRead" => is_read = r.boolean()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(match start.name.as_str() {
        "Create" => found.map(SyncChange::Create),
        "Update" => found.map(SyncChange::Update),
        "Delete" => changed_id.map(SyncChange::Delete),
        "ReadFlagChange" => {
            changed_id.zip(is_read).map(|(id, is_read)| SyncChange::ReadFlagChange { id, is_read })
        }
        _ => None,
    })
}
