//! SyncFolderItems and SyncFolderHierarchy.

use std::collections::BTreeSet;

use super::super::super::Style;
use super::super::ids::{self, Entry};
use super::super::sync::{Difference, State};
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
    let result = items(call, request, &shape, most);
    finish(call, result, "IncludesLastItemInRange")
}

pub(super) fn sync_folder_hierarchy(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!FolderShape", "SyncFolderId", "SyncState"])?;
    let shape = FolderShape::of(request.need("FolderShape")?)?;
    let result = hierarchy(call, request, &shape);
    finish(call, result, "IncludesLastFolderInRange")
}

/// An error still has an empty state, and says that it was the last.
fn finish(call: &Call<'_>, result: Result<String, Fail>, last: &str) -> Result<Outcome, Fail> {
    let empty = format!("<m:SyncState/><m:{last}>true</m:{last}>");
    match result {
        Ok(content) => Ok(Outcome::Messages(message(call.operation, Ok(content)))),
        Err(Fail::Message(refusal)) => Ok(Outcome::Messages(message(call.operation, Err((refusal, &empty))))),
        Err(fault) => Err(fault),
    }
}

fn items(call: &Call<'_>, request: &Node, shape: &ItemShape, most: usize) -> Result<String, Fail> {
    let (key, number) = call.folder(only(request.need("SyncFolderId")?)?)?;
    let mailbox = call.mailbox(&key)?;
    let folder = mailbox.folders.get(&number).ok_or_else(no_folder)?;
    let mut ignored = BTreeSet::new();
    for node in request.child("Ignore").map(|i| i.children.as_slice()).unwrap_or_default() {
        if let Entry::Item { item, .. } = call.parse_id(node.need_attribute("Id")?)? {
            ignored.insert(item);
        }
    }
    let given = request.child_text("SyncState").unwrap_or_default();
    let mut state = match given {
        "" => State::default(),
        token => match State::parse(token, mailbox.guid, number, mailbox.change) {
            Some(state) => state,
            // gromox takes no offence, and begins anew.
            None if call.style == Style::Gromox => State::default(),
            None => return Err(bad_state().into()),
        },
    };
    let (told, last) = state.advance(folder, mailbox.change, most);
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
                format!("{}<t:IsRead>{}</t:IsRead>", item_id(call.style, mailbox, folder, item), item.is_read)
            }
            (Difference::Create(_) | Difference::Update(_), Some(item)) => {
                shape.write(call.style, mailbox, folder, item)
            }
            _ => {
                let id = ids::item_id(call.style, mailbox.guid, folder.number, number);
                match call.style {
                    Style::Exchange => format!("<t:ItemId Id=\"{id}\" ChangeKey=\"{}\"/>", ids::ITEM_STUB),
                    Style::Gromox => format!("<t:ItemId Id=\"{id}\"/>"),
                }
            }
        };
        changes.push_str(&format!("<t:{name}>{inner}</t:{name}>"));
    }
    Ok(answer(&state.token(mailbox.guid, number), "IncludesLastItemInRange", last, &changes))
}

/// The state of a hierarchy is the last change that was told. The root's number stands for the folder.
fn hierarchy(call: &Call<'_>, request: &Node, shape: &FolderShape) -> Result<String, Fail> {
    let (key, root) = match request.child("SyncFolderId") {
        Some(node) => call.folder(only(node)?)?,
        None => (call.acting.clone(), super::super::mailbox::TOP),
    };
    let mailbox = call.mailbox(&key)?;
    let known = match request.child_text("SyncState").unwrap_or_default() {
        "" => 0,
        token => match parse_hierarchy(call, token, mailbox.guid, root).filter(|n| *n <= mailbox.change) {
            Some(known) => known,
            None if call.style == Style::Gromox => 0,
            None => return Err(bad_state().into()),
        },
    };
    let mut changes = String::new();
    for number in mailbox.children(root, true) {
        let Some(folder) = mailbox.folders.get(&number).filter(|f| f.changed > known) else { continue };
        let name = if folder.created > known { "Create" } else { "Update" };
        changes.push_str(&format!("<t:{name}>{}</t:{name}>", shape.write(call.style, mailbox, folder)));
    }
    for (number, created) in mailbox.gone_folders.range(known + 1..).map(|(_, gone)| *gone) {
        if created <= known {
            let id = ids::folder_id(call.style, mailbox.guid, number);
            changes.push_str(&format!("<t:Delete><t:FolderId Id=\"{id}\"/></t:Delete>"));
        }
    }
    let token = ids::change_key(call.style, root as u8, mailbox.guid, mailbox.change);
    Ok(answer(&token, "IncludesLastFolderInRange", true, &changes))
}

fn parse_hierarchy(call: &Call<'_>, token: &str, mailbox: ids::Guid, root: u64) -> Option<u64> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(token).ok()?;
    let number = bytes.last_chunk::<6>()?.iter().fold(0, |n, b| (n << 8) | u64::from(*b));
    (ids::change_key(call.style, root as u8, mailbox, number) == token).then_some(number)
}

fn answer(state: &str, last_name: &str, last: bool, changes: &str) -> String {
    let changes =
        if changes.is_empty() { "<m:Changes/>".into() } else { format!("<m:Changes>{changes}</m:Changes>") };
    format!("<m:SyncState>{state}</m:SyncState><m:{last_name}>{last}</m:{last_name}>{changes}")
}

fn bad_state() -> Refusal {
    Refusal::new("ErrorInvalidSyncStateData", "Synchronization state data is corrupt or otherwise invalid.")
}
