//! GetFolder, FindFolder, CreateFolder, UpdateFolder, MoveFolder, CopyFolder, DeleteFolder.

use super::super::change::Deletion;
use super::super::mailbox::Folder;
use super::super::tree::{Node, Ns, Violation};
use super::super::write::Refusal;
use super::folder_shape::FolderShape;
use super::{Call, Fail, Outcome, list, no_folder};

const EMPTY: &str = "<m:Folders/>";

pub(super) fn get_folder(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!FolderShape", "!FolderIds"])?;
    let shape = FolderShape::of(request.need("FolderShape")?)?;
    call.each(list(request, "FolderIds")?, EMPTY, |call, node| {
        let (key, number) = call.folder(node)?;
        written(call, &shape, &key, number)
    })
}

pub(super) fn find_folder(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    let deep = match request.need_attribute("Traversal")? {
        "Shallow" => false,
        "Deep" => true,
        "SoftDeleted" => return Err(Refusal::new("ErrorInvalidTraversal", "That is not kept here.").into()),
        other => return Err(Violation(format!("The 'Traversal' attribute is invalid: '{other}'.")).into()),
    };
    request.sequence(
        Ns::Messages,
        &[
            "!FolderShape",
            "IndexedPageFolderView",
            "FractionalPageFolderView",
            "Restriction",
            "!ParentFolderIds",
        ],
    )?;
    let shape = FolderShape::of(request.need("FolderShape")?)?;
    let page = Page::of(request.child("IndexedPageFolderView"));
    call.each(list(request, "ParentFolderIds")?, "", |call, node| {
        let (key, number) = call.folder(node)?;
        let mailbox = call.mailbox(&key)?;
        let found = mailbox.children(number, deep);
        let folders: Vec<&Folder> = found.iter().filter_map(|n| mailbox.folders.get(n)).collect();
        let (slice, attributes) = page.cut(&folders);
        let written: String = slice.iter().map(|f| shape.write(call.style, mailbox, f)).collect();
        Ok(format!("<m:RootFolder {attributes}><t:Folders>{written}</t:Folders></m:RootFolder>"))
    })
}

pub(super) fn create_folder(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!ParentFolderId", "!Folders"])?;
    let parent = only(request.need("ParentFolderId")?)?;
    call.each(list(request, "Folders")?, EMPTY, |call, node| {
        let (key, parent) = call.folder(parent)?;
        let name = node.need("DisplayName")?.raw_text();
        let mailbox = call.mailbox(&key)?;
        if mailbox.folders.values().any(|f| f.parent == parent && f.name.eq_ignore_ascii_case(name)) {
            return Err(Refusal::new(
                "ErrorFolderExists",
                "A folder with the specified name already exists.",
            )
            .into());
        }
        let class = match node.name.as_str() {
            "CalendarFolder" => "IPF.Appointment",
            "ContactsFolder" => "IPF.Contact",
            "TasksFolder" => "IPF.Task",
            _ => node.child_text("FolderClass").unwrap_or("IPF.Note"),
        };
        let number = call
            .world
            .edit(&key, |e| e.create_folder(parent, name, class))
            .flatten()
            .ok_or_else(no_folder)?;
        written(call, &FolderShape::ID_ONLY, &key, number)
    })
}

pub(super) fn update_folder(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!FolderChanges"])?;
    call.each(list(request, "FolderChanges")?, EMPTY, |call, change| {
        let target = change
            .children
            .first()
            .ok_or_else(|| Violation("The element 'FolderChange' is empty.".into()))?;
        let (key, number) = call.folder(target)?;
        for update in &change.need("Updates")?.children {
            let named = update.children.iter().find_map(|c| c.child("DisplayName"));
            if let Some(name) = named {
                call.world
                    .edit(&key, |e| e.rename_folder(number, name.raw_text()))
                    .flatten()
                    .ok_or_else(no_folder)?;
            }
        }
        written(call, &FolderShape::ID_ONLY, &key, number)
    })
}

pub(super) fn move_folder(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    transfer(call, request, |call, key, folder, to| {
        if call.mailbox(key)?.folders.get(&folder).is_some_and(|f| f.well_known.is_some()) {
            let text = "The distinguished folder cannot be moved.";
            return Err(Refusal::new("ErrorMoveDistinguishedFolder", text).into());
        }
        call.world.edit(key, |e| e.move_folder(folder, to)).flatten().ok_or_else(no_folder)?;
        Ok(folder)
    })
}

pub(super) fn copy_folder(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    transfer(call, request, |call, key, folder, to| {
        Ok(call.world.edit(key, |e| e.copy_folder(folder, to)).flatten().ok_or_else(no_folder)?)
    })
}

pub(super) fn delete_folder(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!FolderIds"])?;
    let how = deletion(request)?;
    call.each(list(request, "FolderIds")?, "", |call, node| {
        let (key, number) = call.folder(node)?;
        if call.mailbox(&key)?.folders.get(&number).is_some_and(|f| f.well_known.is_some()) {
            let text = "Distinguished folders cannot be deleted.";
            return Err(Refusal::new("ErrorDeleteDistinguishedFolder", text).into());
        }
        call.world.edit(&key, |e| e.delete_folder(number, how)).flatten().ok_or_else(no_folder)?;
        Ok(String::new())
    })
}

/// How a request wants things to be deleted.
pub(super) fn deletion(request: &Node) -> Result<Deletion, Violation> {
    match request.need_attribute("DeleteType")? {
        "HardDelete" => Ok(Deletion::Hard),
        "SoftDelete" => Ok(Deletion::Soft),
        "MoveToDeletedItems" => Ok(Deletion::ToDeletedItems),
        other => {
            Err(Violation(format!("The 'DeleteType' attribute is invalid - The value '{other}' is invalid.")))
        }
    }
}

/// The only child of ToFolderId, ParentFolderId and the like.
pub(super) fn only(node: &Node) -> Result<&Node, Violation> {
    match node.children.as_slice() {
        [one] => Ok(one),
        _ => Err(Violation(format!("The element '{}' has invalid content.", node.name))),
    }
}

/// A page of what was found, as the request wants it.
pub(super) struct Page {
    offset: usize,
    most: usize,
    from_end: bool,
}

impl Page {
    pub(super) fn of(view: Option<&Node>) -> Page {
        let number = |name: &str| view.and_then(|v| v.attribute(name)).and_then(|n| n.parse().ok());
        Page {
            offset: number("Offset").unwrap_or(0),
            // Exchange's own bound on what one answer brings.
            most: number("MaxEntriesReturned").unwrap_or(1000).min(1000),
            from_end: view.and_then(|v| v.attribute("BasePoint")) == Some("End"),
        }
    }

    /// The page's part of all that was found, and the attributes of RootFolder.
    pub(super) fn cut<'f, T>(&self, found: &'f [T]) -> (&'f [T], String) {
        let total = found.len();
        let offset = self.offset.min(total);
        let (start, end) = match self.from_end {
            false => (offset, (offset + self.most).min(total)),
            true => ((total - offset).saturating_sub(self.most), total - offset),
        };
        let last = if self.from_end { start == 0 } else { end == total };
        let next = if self.from_end { total - start } else { end };
        let attributes = format!(
            "IndexedPagingOffset=\"{next}\" TotalItemsInView=\"{total}\" IncludesLastItemInRange=\"{last}\""
        );
        (&found[start..end], attributes)
    }
}

fn transfer(
    call: &mut Call<'_>,
    request: &Node,
    mut act: impl FnMut(&mut Call<'_>, &str, u64, u64) -> Result<u64, Fail>,
) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!ToFolderId", "!FolderIds"])?;
    let target = only(request.need("ToFolderId")?)?;
    call.each(list(request, "FolderIds")?, EMPTY, |call, node| {
        let (to_key, to) = call.folder(target).map_err(no_target)?;
        let (key, folder) = call.folder(node)?;
        if key != to_key || call.mailbox(&key)?.is_within(to, folder) {
            return Err(Refusal::new("ErrorMoveCopyFailed", "The move or copy operation failed.").into());
        }
        let number = act(call, &key, folder, to)?;
        written(call, &FolderShape::ID_ONLY, &key, number)
    })
}

/// A target that is not there has a code of its own.
pub(super) fn no_target(fail: Fail) -> Fail {
    match fail {
        Fail::Message(r) if r.code == "ErrorFolderNotFound" => {
            Refusal::new("ErrorToFolderNotFound", "The target folder was not found.").into()
        }
        other => other,
    }
}

fn written(call: &Call<'_>, shape: &FolderShape, key: &str, number: u64) -> Result<String, Fail> {
    let mailbox = call.mailbox(key)?;
    let folder = mailbox.folders.get(&number).ok_or_else(no_folder)?;
    Ok(format!("<m:Folders>{}</m:Folders>", shape.write(call.style, mailbox, folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that overlaps or skips would let a client see items twice or never.
    #[test]
    fn pages_meet_without_gap_or_overlap() {
        let all: Vec<u32> = (0..25).collect();
        let mut seen = Vec::new();
        while seen.len() < all.len() {
            let page = Page { offset: seen.len(), most: 10, from_end: false };
            seen.extend_from_slice(page.cut(&all).0);
        }
        assert_eq!(seen, all);
        assert_eq!(Page { offset: 0, most: 10, from_end: true }.cut(&all).0, &all[15..]);
        assert_eq!(Page { offset: 99, most: 10, from_end: false }.cut(&all).0, &[] as &[u32]);
    }
}
