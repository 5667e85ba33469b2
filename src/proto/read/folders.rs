//! GetFolder and FindFolder: folders and their stamps.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::message::{Folder, FolderPage};
use super::super::write::{COMMITTED, DELETED, REPLICAS};
use super::super::xml::{Reader, Start};
use super::events::id;
use crate::Result;

/// A part of `GetFolderResponseMessage`. Folders come under any name (`Folder`, `CalendarFolder`, …).
pub(super) fn folders(r: &mut Reader, start: Start, into: &mut Vec<Folder>) -> Result<()> {
    if start.name == "Folders" {
        r.children(|r, start| {
            r.count_thing()?;
            into.push(folder(r, start)?);
            Ok(())
        })?;
    }
    Ok(())
}

/// A part of `FindFolderResponseMessage`.
pub(super) fn page(r: &mut Reader, start: Start, into: &mut Option<FolderPage>) -> Result<()> {
    if start.name == "RootFolder" {
        let last = start.attribute("IncludesLastItemInRange").map(str::trim);
        let page = into.insert(FolderPage::default());
        page.includes_last = !matches!(last, Some("false" | "0"));
        r.children(|r, start| folders(r, start, &mut page.folders))?;
    }
    Ok(())
}

/// A folder's element, of any name.
pub(super) fn folder(r: &mut Reader, start: Start) -> Result<Folder> {
    let mut folder = Folder { element: start.name, ..Folder::default() };
    r.children(|r, start| {
        match start.name.as_str() {
            "FolderId" => folder.id = id(start).unwrap_or_default(),
            "ParentFolderId" => folder.parent_id = id(start),
            "DisplayName" => folder.display_name = r.text()?,
            "FolderClass" => folder.folder_class = r.text()?,
            "TotalCount" => folder.total_count = r.parse()?,
            "UnreadCount" => folder.unread_count = r.parse()?,
            "ExtendedProperty" => extended(r, &mut folder)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(folder)
}

/// Servers write the tag as they like: as it was asked for, in lower case, as a number.
fn extended(r: &mut Reader, folder: &mut Folder) -> Result<()> {
    let (mut found, mut value) = (None, None);
    r.children(|r, start| {
        match start.name.as_str() {
            "ExtendedFieldURI" => found = start.attribute("PropertyTag").and_then(tag),
            "Value" => value = r.text()?,
            _ => {}
        }
        Ok(())
    })?;
    if found.is_some() && found == tag(COMMITTED) {
        folder.stamp.committed = value;
    } else if found.is_some() && found == tag(DELETED) {
        folder.stamp.deleted = value.and_then(|v| v.parse().ok());
    } else if found.is_some() && found == tag(REPLICAS) {
        folder.replica = value.as_deref().and_then(guid);
    }
    Ok(())
}

/// The first of a list of GUIDs, each as text that ends with a zero byte.
fn guid(base64: &str) -> Option<String> {
    let bytes = STANDARD.decode(base64.trim()).ok()?;
    let text = std::str::from_utf8(bytes.get(..36)?).ok()?;
    text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-').then(|| text.to_owned())
}

fn tag(text: &str) -> Option<u16> {
    let text = text.trim();
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
