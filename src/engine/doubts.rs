//! What sync has gone past and the host was not told, because the stream had told of it, or was about to. A link can be dead for
//! a while before anybody knows, and what it tells may find no room: if a gap reaches back to the page, it is told after all,
//! with the page that fills the gap.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::acks::Place;
use super::catch_up::BEHIND;
use super::folder::{Digest, Folder, Marks, from_seconds};
use super::save::Batch;
use crate::event::Origin;
use crate::proto::{Id, Item, SyncChange};
use crate::{Event, EventKind};

/// A change that the host was not told.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    item: Id,
    /// What it would be told as. `Modified` where it was told as new and may have changed.
    kind: EventKind,
    is_read: Option<bool>,
    /// When the page came.
    at: SystemTime,
    stored: bool,
}

/// As it lies in the store.
#[derive(Serialize, Deserialize)]
struct DoubtRecord {
    id: String,
    kind: String,
}

impl Doubt {
    pub fn new(item: Id, kind: EventKind, is_read: Option<bool>, at: SystemTime) -> Doubt {
        Doubt { item, kind, is_read, at, stored: false }
    }

    /// One of an earlier run, whose stream nobody has heard since.
    pub fn read(value: &[u8]) -> Option<Doubt> {
        let record: DoubtRecord = serde_json::from_slice(value).ok()?;
        let kind = EventKind::MAILBOX.into_iter().find(|k| k.name() == record.kind)?;
        let item = Id { id: record.id, change_key: None };
        Some(Doubt { item, kind, is_read: None, at: from_seconds(u64::MAX), stored: true })
    }

    fn record(&self) -> DoubtRecord {
        DoubtRecord { id: self.item.id.clone(), kind: self.kind.name().to_owned() }
    }
}

/// Which of two is told of an item.
fn strength(kind: EventKind) -> u8 {
    match kind {
        EventKind::Deleted => 3,
        EventKind::NewMail => 2,
        EventKind::Created => 1,
        _ => 0,
    }
}

impl Folder {
    /// Sync has gone past this, and the host was not told.
    pub fn doubt(&mut self, doubt: Doubt) {
        let known = self.doubts.entry(Digest::of(&doubt.item.id)).or_insert_with(|| doubt.clone());
        if strength(doubt.kind) > strength(known.kind) {
            (known.kind, known.stored) = (doubt.kind, false);
        }
        known.at = known.at.max(doubt.at);
    }

    /// The stream has told the host of an item as new.
    pub fn told_new(&mut self, item: Digest, kind: EventKind) {
        use EventKind::{Copied, Created, Modified, Moved, NewMail};
        if let Some(doubt) = self.doubts.get_mut(&item)
            && match doubt.kind {
                Created => matches!(kind, NewMail | Created | Moved | Copied),
                NewMail => matches!(kind, NewMail | Moved | Copied),
                _ => false,
            }
        {
            (doubt.kind, doubt.stored) = (Modified, false);
        }
    }
}

impl Engine {
    /// What was in doubt long before the stream told something of the watch is in order.
    pub(super) fn doubts_until(&mut self, id: u64, folder_id: &str) {
        let certain = self.certain(id);
        let Some(w) = self.watches.get_mut(&id) else { return };
        let Some(folder) = w.folders_known.get_mut(folder_id) else { return };
        folder.doubts.retain(|item, doubt| {
            let keep = doubt.at + BEHIND > certain.min(w.proved);
            if !keep {
                forget(&mut self.unsaved, self.settings.durable, &w.spec.name, folder_id, *item);
            }
            keep
        });
    }

    /// The host has been told of an item that has left its folder since.
    pub(super) fn let_doubt_go(&mut self, id: u64, item: Digest) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        for (folder_id, folder) in &mut w.folders_known {
            if folder.doubts.remove(&item).is_some() {
                forget(&mut self.unsaved, self.settings.durable, &w.spec.name, folder_id, item);
            }
        }
    }

    /// Something was missed: what was in doubt is told, unless this page says enough.
    pub(super) fn tell_doubts(&mut self, id: u64, folder_id: &str, page: &[SyncChange]) {
        use EventKind::{Created, Modified, NewMail};
        let now = self.now.wall;
        let Some(w) = self.watches.get_mut(&id) else { return };
        let Some(folder) = w.folders_known.get_mut(folder_id).filter(|f| f.broken && !f.doubts.is_empty())
        else {
            return;
        };
        // What the host has not been given yet tells it to look.
        let opens = self.opens.by_ticket.values().filter(|o| o.event.watch == id && o.place == Place::Queued);
        let coming: BTreeSet<&str> = opens.filter_map(|o| o.event.item_id.as_deref()).collect();
        let mut events = Vec::new();
        for (item, doubt) in std::mem::take(&mut folder.doubts) {
            forget(&mut self.unsaved, self.settings.durable, &w.spec.name, folder_id, item);
            let known = folder.told.get(item);
            let told = matches!(doubt.kind, NewMail | Created) && known.told_as(doubt.kind);
            let kind = if told { Modified } else { doubt.kind };
            let by_dates = folder.baseline.is_some();
            let enough = known.has(Marks::SEEN_GONE)
                || (kind == Modified && coming.contains(&*doubt.item.id))
                || page.iter().any(|change| match change {
                    SyncChange::Create(Item { id, .. }) => !by_dates && id.id == doubt.item.id,
                    SyncChange::Update(Item { id, .. }) | SyncChange::ReadFlagChange { id, .. } => {
                        kind == Modified && id.id == doubt.item.id
                    }
                    SyncChange::Delete(id) => id.id == doubt.item.id,
                });
            if enough || !w.spec.events.contains(&kind) {
                continue;
            }
            if let Some((told, _)) = Marks::of(kind) {
                folder.told.mark(item, told);
            }
            let mut event = Event::new(kind, id, w.spec.mailbox.clone(), now);
            event.origin = Some(Origin::CatchUp);
            event.item_id = Some(doubt.item.id);
            event.change_key = doubt.item.change_key;
            event.parent_folder_id = Some(folder_id.to_owned());
            event.is_read = doubt.is_read;
            events.push(event);
        }
        for event in events {
            self.hand_out(id, event);
        }
    }

    /// Writes those that are not in the store.
    pub(super) fn store_doubts(&mut self, id: u64, folder_id: &str) {
        let Some(w) = self.watches.get_mut(&id).filter(|_| self.settings.durable) else { return };
        let Some(folder) = w.folders_known.get_mut(folder_id) else { return };
        for (item, doubt) in folder.doubts.iter_mut().filter(|(_, d)| !d.stored) {
            doubt.stored = true;
            if let Ok(value) = serde_json::to_vec(&doubt.record()) {
                self.unsaved.insert(key(&w.spec.name, folder_id, *item), Some(value));
            }
        }
    }
}

fn key(name: &str, folder_id: &str, item: Digest) -> String {
    format!("{name}/w/{}/{}", Digest::of(folder_id).hex(), item.hex())
}

fn forget(unsaved: &mut Batch, durable: bool, name: &str, folder_id: &str, item: Digest) {
    if durable {
        unsaved.insert(key(name, folder_id, item), None);
    }
}
