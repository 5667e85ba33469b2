//! SyncFolderItems and SyncFolderHierarchy: pages of changes.

use super::super::message::{FolderChange, HierarchyPage, SyncChange, SyncPage};
use super::super::xml::{Reader, Start};
use super::events::id;
use super::folders::folder;
use super::items::item;
use crate::Result;

/// A part of `SyncFolderItemsResponseMessage`. An error's state is empty, and left out here.
pub(super) fn items_page(r: &mut Reader, start: Start, into: &mut SyncPage) -> Result<()> {
    match start.name.as_str() {
        "SyncState" => into.sync_state = r.text()?,
        "IncludesLastItemInRange" => into.includes_last = r.boolean()?.unwrap_or(false),
        "Changes" => r.children(|r, start| {
            r.count_thing()?;
            into.changes.extend(item_change(r, start)?);
            Ok(())
        })?,
        _ => {}
    }
    Ok(())
}

/// A part of `SyncFolderHierarchyResponseMessage`. An error's state is empty, and left out here.
pub(super) fn hierarchy_page(r: &mut Reader, start: Start, into: &mut HierarchyPage) -> Result<()> {
    match start.name.as_str() {
        "SyncState" => into.sync_state = r.text()?,
        "IncludesLastFolderInRange" => into.includes_last = r.boolean()?.unwrap_or(false),
        "Changes" => r.children(|r, start| {
            r.count_thing()?;
            into.changes.extend(folder_change(r, start)?);
            Ok(())
        })?,
        _ => {}
    }
    Ok(())
}

fn item_change(r: &mut Reader, start: Start) -> Result<Option<SyncChange>> {
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

fn folder_change(r: &mut Reader, start: Start) -> Result<Option<FolderChange>> {
    let (mut found, mut gone) = (None, None);
    let with_folder = matches!(start.name.as_str(), "Create" | "Update");
    r.children(|r, child| {
        match child.name.as_str() {
            _ if with_folder => found = Some(folder(r, child)?),
            "FolderId" => gone = id(child),
            _ => {}
        }
        Ok(())
    })?;
    Ok(match start.name.as_str() {
        "Create" => found.map(FolderChange::Create),
        "Update" => found.map(FolderChange::Update),
        "Delete" => gone.map(FolderChange::Delete),
        _ => None,
    })
}
