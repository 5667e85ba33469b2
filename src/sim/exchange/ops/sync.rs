//! SyncFolderItems and SyncFolderHierarchy.

use std::collections::BTreeSet;

use super::super::super::Style;
use super::super::ids::{self, Entry};
use super::super::mailbox::Mailbox;
use super::super::sync::{Difference, Kind, Of, State, seal, unseal};
use super::super::tree::{Node, Ns, Violation};
use super::super::write::{Refusal, message};
use super::folder_shape::FolderShape;
use super::folders::only;
use super::item_shape::{ItemShape, item_id};
use super::{Call, Fail, Outcome, no_folder};

pub(super) fn sync_folder_items(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(
        Ns::Messages,
        &[
            "!ItemShape",
            "!SyncFolderId",
            "SyncState",
            "Ignore",
            "!MaxChangesReturned",
            "SyncScope",
            "NumberOfDays",
            "MaximumCount",
            "MinimumCount",
        ],
    )?;
    let shape = ItemShape::of(request.need("ItemShape")?, true)?;
    let most = request.need("MaxChangesReturned")?;
    let most = most.text().parse().ok().filter(|n| (1..=512).contains(n)).ok_or_else(|| {
        Violation(format!(
            "The 'MaxChangesReturned' element is invalid - The value '{}' is invalid.",
            most.text()
        ))
    })?;
    if request.child("SyncScope").is_some() {
        call.since("Exchange2010", "SyncScope")?;
    }
    if let Some(scope) = request.child_text("SyncScope")
        && !matches!(scope, "NormalItems" | "NormalAndAssociatedItems")
    {
        return Err(Violation(format!("The 'SyncScope' element is invalid: '{scope}'.")).into());
    }
    let result = items(call, request, &shape, most);
    finish(call, result, "IncludesLastItemInRange")
}

pub(super) fn sync_folder_hierarchy(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!FolderShape", "SyncFolderId", "SyncState"])?;
    let shape = FolderShape::of(request.need("FolderShape")?)?;
    let result = hierarchy(call, request, &shape);
    finish(call, result, "IncludesLastFolderInRange")
}

/// An error still has an empty state, and says that it was the last. A folder that is not there has a code of its own.
fn finish(call: &Call<'_>, result: Result<String, Fail>, last: &str) -> Result<Outcome, Fail> {
    let empty = format!("<m:SyncState/><m:{last}>true</m:{last}>");
    match result {
        Ok(content) => Ok(Outcome::Messages(message(call.operation, Ok(content)))),
        Err(Fail::Message(mut refusal)) => {
            if call.style == Style::Exchange && refusal.code == "ErrorFolderNotFound" {
                "ErrorSyncFolderNotFound".clone_into(&mut refusal.code);
            }
            Ok(Outcome::Messages(message(call.operation, Err((refusal, &empty)))))
        }
        Err(fault) => Err(fault),
    }
}

fn items(call: &Call<'_>, request: &Node, shape: &ItemShape, most: usize) -> Result<String, Fail> {
    let (key, number) = call.folder(only(request.need("SyncFolderId")?)?)?;
    let mailbox = may_sync(call, &key)?;
    let folder = mailbox.folders.get(&number).ok_or_else(no_folder)?;
    let of = Of { kind: Kind::Items, mailbox: mailbox.guid, folder: number, age: folder.age };
    let mut ignored = BTreeSet::new();
    for node in request.child("Ignore").map(|i| i.children.as_slice()).unwrap_or_default() {
        if let Entry::Item { item, .. } = call.parse_id(node.need_attribute("Id")?)? {
            ignored.insert(item);
        }
    }
    let given = request.child_text("SyncState").unwrap_or_default();
    let mut state = match given {
        "" => State::default(),
        token => match State::parse(token, of, mailbox.change) {
            Some(state) => state,
            None if call.world.settings.silent_reset => State::default(),
            None => return Err(bad_state().into()),
        },
    };
    let (mut told, last) = state.advance(folder, mailbox.change, most);
    if call.style == Style::Gromox {
        told.sort_by_key(|difference| match difference {
            Difference::Delete(_) => 0,
            Difference::Create(_) | Difference::Update(_) => 1,
            Difference::ReadFlag(_) => 2,
        });
    }
    let mut changes = String::new();
    for difference in told {
        let (name, number) = match difference {
            Difference::Create(n) => ("Create", n),
            Difference::Update(n) => ("Update", n),
            Difference::ReadFlag(n) => ("ReadFlagChange", n),
            Difference::Delete(n) => ("Delete", n),
        };
        if ignored.contains(&number) {
            continue;
        }
        let inner = match (difference, folder.items.get(&number)) {
            (Difference::ReadFlag(_), Some(item)) => {
                let id = match call.style {
                    Style::Exchange => item_id(call.style, mailbox, folder, item),
                    Style::Gromox => bare_id(call.style, mailbox.guid, folder.number, number),
                };
                format!("{id}<t:IsRead>{}</t:IsRead>", item.is_read)
            }
            (Difference::Create(_) | Difference::Update(_), Some(item)) => {
                shape.write(call.style, mailbox, folder, item)
            }
            _ => bare_id(call.style, mailbox.guid, folder.number, number),
        };
        changes.push_str(&format!("<t:{name}>{inner}</t:{name}>"));
    }
    Ok(answer(&state.token(of), "IncludesLastItemInRange", last, &changes))
}

/// The id of an item that is not there to have a change key, or of which gromox does not tell it.
fn bare_id(style: Style, mailbox: ids::Guid, folder: u64, item: u64) -> String {
    let id = ids::item_id(style, mailbox, folder, item);
    match style {
        Style::Exchange => format!("<t:ItemId Id=\"{id}\" ChangeKey=\"{}\"/>", ids::ITEM_STUB),
        Style::Gromox => format!("<t:ItemId Id=\"{id}\"/>"),
    }
}

/// The state of a hierarchy is the last change that was told.
fn hierarchy(call: &Call<'_>, request: &Node, shape: &FolderShape) -> Result<String, Fail> {
    let (key, root) = match request.child("SyncFolderId") {
        Some(node) => call.folder(only(node)?)?,
        None => (call.acting.clone(), super::super::mailbox::TOP),
    };
    let mailbox = may_sync(call, &key)?;
    let of = Of { kind: Kind::Hierarchy, mailbox: mailbox.guid, folder: root, age: mailbox.age };
    let known = match request.child_text("SyncState").unwrap_or_default() {
        "" => 0,
        token => match unseal(token, of).as_deref() {
            Some([known]) if *known <= mailbox.change => *known,
            _ if call.world.settings.silent_reset => 0,
            _ => return Err(bad_state().into()),
        },
    };
    let mut changes = String::new();
    for number in mailbox.children(root, true) {
        let Some(folder) = mailbox.folders.get(&number) else { continue };
        let name = match mailbox.was_below(number, root, known) {
            Some(true) if folder.changed <= known => continue,
            Some(true) => "Update",
            _ => "Create",
        };
        changes.push_str(&format!("<t:{name}>{}</t:{name}>", shape.write(call.style, mailbox, folder)));
    }
    let left: BTreeSet<u64> = mailbox.left.range(known + 1..).map(|(_, left)| left.folder).collect();
    for number in left {
        let is_below = mailbox.folders.contains_key(&number) && mailbox.ancestors(number).contains(&root);
        if !is_below && mailbox.was_below(number, root, known) == Some(true) {
            let id = ids::folder_id(call.style, mailbox.guid, number);
            changes.push_str(&format!("<t:Delete><t:FolderId Id=\"{id}\"/></t:Delete>"));
        }
    }
    Ok(answer(&seal(of, &[mailbox.change]), "IncludesLastFolderInRange", true, &changes))
}

/// The mailbox with that key, if it can be opened and synced.
fn may_sync<'c>(call: &'c Call<'_>, key: &str) -> Result<&'c Mailbox, Refusal> {
    let mailbox = call.mailbox(key)?;
    match &mailbox.no_sync {
        Some(code) => Err(Refusal::new(code, "Access is denied. Check credentials and try again.")),
        None => Ok(mailbox),
    }
}

fn answer(state: &str, last_name: &str, last: bool, changes: &str) -> String {
    let changes =
        if changes.is_empty() { "<m:Changes/>".into() } else { format!("<m:Changes>{changes}</m:Changes>") };
    format!("<m:SyncState>{state}</m:SyncState><m:{last_name}>{last}</m:{last_name}>{changes}")
}

fn bad_state() -> Refusal {
    Refusal::new("ErrorInvalidSyncStateData", "Synchronization state data is corrupt or otherwise invalid.")
}
