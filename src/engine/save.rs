//! What is kept over a restart, as changes of a store's keys. Everything that one input changed goes into one batch, and one
//! batch is written at a time: what comes meanwhile goes into the next.
//!
//! All of it is text. Keys, each behind the watch's name and a slash: `f/FOLDER` a folder's record; `d/FOLDER/ITEM` marks of an
//! item that was told and acknowledged since the last checkpoint but one; `h` which folders there are, where all are watched;
//! `p/TICKET` an event that is not acknowledged and that a checkpoint covers or the host has; `w/FOLDER/ITEM` what a
//! checkpoint covers and was not told, because the stream was to tell it; `g` since when something may be missing for good, as
//! far as the host was not told so; `a/TICKET` what is to be done with the item of an acknowledged event; `s` subscription ids;
//! `r` where a restart goes on with one of them (see `resume`).
//! And `numbers`, for all: tickets and `seq` below it may have been used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::acks::{Open, Place, Ticket};
use super::after_ack::ActionRecord;
use super::doubts::Doubt;
use super::folder::{Digest, Folder, FolderRecord, Marks, from_seconds, seconds};
use super::hierarchy::TreeRecord;
use super::resume::Resume;
use super::tell::TOLD_EVERY;
use super::timers::Timer;
use super::{Command, Engine, Now};
use crate::event::Detail;
use crate::{Error, Event, EventKind};

/// Names a batch.
pub type SaveId = u64;

/// The key of the numbers that may have been used.
pub const NUMBERS: &str = "numbers";
/// So many numbers are taken at a time, and new ones while half of them are left.
const NUMBERS_AHEAD: u64 = 10_000;

/// How many subscriptions of killed runs are remembered.
const SUBSCRIPTIONS: usize = 10;

/// What was stored of a watch, taken apart.
#[derive(Debug, Default)]
pub(super) struct Stored {
    folders: BTreeMap<String, Box<Folder>>,
    pub tree: Option<TreeRecord>,
    pub opens: Vec<(Ticket, OpenRecord)>,
    pub actions: Vec<(Ticket, ActionRecord)>,
    pub subscriptions: Vec<String>,
    /// Where to go on, while that has not been tried.
    pub resume: Option<Resume>,
    /// Since when something may be missing, and an earlier run's host was not told; whether sync tells what is still there.
    pub gap: Option<(SystemTime, bool)>,
}

/// An event that is not acknowledged.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OpenRecord {
    kind: String,
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_item: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_folder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_read: Option<bool>,
    /// Milliseconds since 1970.
    time: u64,
    attempts: u32,
    parked: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    acts: bool,
}

impl Stored {
    /// Reads a watch's pairs, whose keys come without the watch's name. What cannot be read is left out and counted.
    pub fn read(pairs: &[(String, Vec<u8>)]) -> (Stored, usize) {
        let mut stored = Stored::default();
        let mut bad = 0;
        let mut names = BTreeMap::new();
        for (key, value) in pairs {
            if let Some(name) = key.strip_prefix("f/") {
                match serde_json::from_slice::<FolderRecord>(value) {
                    Ok(record) => {
                        names.insert(name, record.id.clone());
                        stored.folders.insert(record.id.clone(), Box::new(Folder::restored(&record)));
                    }
                    Err(_) => bad += 1,
                }
            }
        }
        for (key, value) in pairs {
            let good = match key.split('/').collect::<Vec<_>>()[..] {
                ["f", _] => true,
                ["p", ticket] => match (ticket.parse(), serde_json::from_slice(value)) {
                    (Ok(ticket), Ok(record)) => {
                        stored.opens.push((ticket, record));
                        true
                    }
                    _ => false,
                },
                ["a", ticket] => match (ticket.parse(), serde_json::from_slice(value)) {
                    (Ok(ticket), Ok(record)) => {
                        stored.actions.push((ticket, record));
                        true
                    }
                    _ => false,
                },
                ["d", folder, item] => {
                    let folder = names.get(folder).and_then(|id| stored.folders.get_mut(id));
                    let marks = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    match (folder, Digest::parse(item), marks) {
                        (Some(folder), Some(item), Some(marks)) => {
                            folder.told.restore(item, Marks(marks));
                            true
                        }
                        _ => false,
                    }
                }
                ["h"] => serde_json::from_slice(value).map(|tree| stored.tree = Some(tree)).is_ok(),
                ["w", folder, item] => {
                    let folder = names.get(folder).and_then(|id| stored.folders.get_mut(id));
                    match (folder, Digest::parse(item), Doubt::read(value)) {
                        (Some(folder), Some(item), Some(doubt)) => {
                            folder.doubts.insert(item, doubt);
                            true
                        }
                        _ => false,
                    }
                }
                ["g"] => serde_json::from_slice(value)
                    .map(|(at, whole)| stored.gap = Some((from_seconds(at), whole)))
                    .is_ok(),
                ["r"] => serde_json::from_slice(value).map(|resume| stored.resume = Some(resume)).is_ok(),
                ["s"] => serde_json::from_slice(value).map(|ids| stored.subscriptions = ids).is_ok(),
                _ => false,
            };
            bad += usize::from(!good);
        }
        // Keys come in the order of their text.
        stored.opens.sort_by_key(|(ticket, _)| *ticket);
        (stored, bad)
    }

    /// Whether there is a folder that has not been taken up.
    pub fn has(&self, id: &str) -> bool {
        self.folders.contains_key(id)
    }

    /// A folder that has not been taken up.
    pub fn folder(&mut self, id: &str) -> Option<&mut Folder> {
        self.folders.get_mut(id).map(Box::as_mut)
    }

    /// What was known of all folders.
    pub fn take_all(&mut self) -> BTreeMap<String, Box<Folder>> {
        std::mem::take(&mut self.folders)
    }

    /// What was known of a folder.
    pub fn take(&mut self, id: &str) -> Option<Folder> {
        self.folders.remove(id).map(|folder| *folder)
    }
}

impl OpenRecord {
    fn new(open: &Open) -> OpenRecord {
        let e = &open.event;
        OpenRecord {
            kind: e.kind.name().to_owned(),
            item: e.item_id.clone().unwrap_or_default(),
            change_key: e.change_key.clone(),
            folder: e.parent_folder_id.clone(),
            old_item: e.old_item_id.clone(),
            old_folder: e.old_parent_folder_id.clone(),
            is_read: e.is_read,
            time: e.time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
            // Whoever finds this after a crash finds that the host had it.
            attempts: open.attempts.saturating_add(u32::from(matches!(open.place, Place::Given(_)))),
            parked: open.place == Place::Parked,
            acts: open.acts,
        }
    }

    /// The event, as it stood; `None` for a kind that is unknown here.
    pub fn open(self, watch: u64, mailbox: Arc<str>, ticket: Ticket) -> Option<Open> {
        let kind = EventKind::MAILBOX.into_iter().find(|k| k.name() == self.kind)?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(self.time.min(1 << 50));
        let mut event = Event::new(kind, watch, mailbox, time);
        event.ticket = ticket;
        event.item_id = Some(self.item);
        event.change_key = self.change_key;
        event.parent_folder_id = self.folder;
        event.old_item_id = self.old_item;
        event.old_parent_folder_id = self.old_folder;
        event.is_read = self.is_read;
        let place = if self.parked { Place::Parked } else { Place::Queued };
        Some(Open { event, place, attempts: self.attempts, recorded: true, acts: self.acts })
    }
}

/// Keys and their new values; `None` removes.
pub(super) type Batch = BTreeMap<String, Option<Vec<u8>>>;

/// Batches on their way to the store.
#[derive(Debug, Default)]
pub(super) struct Saves {
    /// The one under way.
    saving: Option<(SaveId, Batch)>,
    last: SaveId,
    failures: u32,
    /// Numbers below it may have been used by an earlier run, or are ours.
    reserved: u64,
}

impl Engine {
    /// Numbers below `first` may have been used by an earlier run: `seq` rises over all of them. No event may be told before
    /// the save is durable, or a run that is killed early would leave its numbers to the next one.
    pub fn start_numbers(&mut self, first: u64) -> Option<SaveId> {
        self.saves.reserved = first;
        self.opens.last = first;
        self.delivery.start(first);
        self.reserve_numbers(first);
        self.save_now()
    }

    /// Takes further numbers before those that are ours are used up.
    pub(super) fn reserve_numbers(&mut self, used: u64) {
        if used + NUMBERS_AHEAD / 2 >= self.saves.reserved && self.settings.durable {
            self.saves.reserved = used + NUMBERS_AHEAD;
            let value = self.saves.reserved.to_string().into_bytes();
            self.unsaved.insert(NUMBERS.to_owned(), Some(value));
            self.save_soon();
        }
    }

    /// Writes a folder's record, and with it every event that its checkpoint covers. `forgotten`: marks that go.
    pub(super) fn store_folder(&mut self, id: u64, folder_id: &str, forgotten: &[Digest]) {
        if !self.settings.durable {
            return;
        }
        let streamed = self.certain(id);
        let Some(w) = self.watches.get(&id) else { return };
        let Some(folder) = w.folders_known.get(folder_id) else { return };
        let name = w.spec.name.clone();
        let key = Digest::of(folder_id).hex();
        if let Ok(record) = serde_json::to_vec(&folder.record(folder_id, streamed)) {
            self.unsaved.insert(format!("{name}/f/{key}"), Some(record));
        }
        for item in forgotten {
            self.unsaved.insert(format!("{name}/d/{key}/{}", item.hex()), None);
        }
        let here = |e: &Event| e.watch == id && e.parent_folder_id.as_deref() == Some(folder_id);
        let covered: Vec<Ticket> = self
            .opens
            .by_ticket
            .iter()
            .filter(|(_, o)| !o.recorded && here(&o.event))
            .map(|(t, _)| *t)
            .collect();
        for ticket in covered {
            if let Some(open) = self.opens.by_ticket.get_mut(&ticket) {
                open.recorded = true;
            }
            self.store_open(ticket);
        }
        self.save_soon();
    }

    /// Forgets a folder that is not watched any more.
    pub(super) fn unstore_folder(&mut self, id: u64, folder_id: &str, folder: &Folder) {
        let Some(w) = self.watches.get(&id).filter(|_| self.settings.durable) else { return };
        let (name, key) = (&w.spec.name, Digest::of(folder_id).hex());
        self.unsaved.insert(format!("{name}/f/{key}"), None);
        for item in folder.told.stored() {
            self.unsaved.insert(format!("{name}/d/{key}/{}", item.hex()), None);
        }
        self.save_soon();
    }

    /// Writes which folders there are, as far as the hierarchy tells.
    pub(super) fn store_tree(&mut self, id: u64) {
        let Some(w) = self.watches.get(&id).filter(|_| self.settings.durable) else { return };
        let Some(tree) = &w.tree else { return };
        let listed = || w.folders_known.values().filter(|f| f.listed);
        let certain = listed().map(|f| f.certain_before()).min().map(|at| at.min(self.certain(id)));
        if let Ok(record) = serde_json::to_vec(&tree.record(listed().count(), certain)) {
            self.unsaved.insert(format!("{}/h", w.spec.name), Some(record));
        }
        self.save_soon();
    }

    /// Writes an event that is not acknowledged.
    pub(super) fn store_open(&mut self, ticket: Ticket) {
        if !self.settings.durable {
            return;
        }
        let Some(open) = self.opens.by_ticket.get(&ticket) else { return };
        let Some(w) = self.watches.get(&open.event.watch) else { return };
        if let Ok(record) = serde_json::to_vec(&OpenRecord::new(open)) {
            self.unsaved.insert(format!("{}/p/{ticket}", w.spec.name), Some(record));
        }
    }

    /// It is acknowledged.
    pub(super) fn unstore_open(&mut self, watch: u64, ticket: Ticket) {
        if let Some(w) = self.watches.get(&watch).filter(|_| self.settings.durable) {
            self.unsaved.insert(format!("{}/p/{ticket}", w.spec.name), None);
        }
    }

    /// Writes what is known of an item that was told.
    pub(super) fn store_marks(&mut self, watch: u64, folder: Digest, item: Digest, marks: Marks) {
        if let Some(w) = self.watches.get(&watch).filter(|_| self.settings.durable) {
            let key = format!("{}/d/{}/{}", w.spec.name, folder.hex(), item.hex());
            self.unsaved.insert(key, Some(marks.0.to_string().into_bytes()));
        }
    }

    /// Writes the subscriptions that a crash would leave on the server.
    pub(super) fn store_subscriptions(&mut self, watch: u64) {
        let Some(w) = self.watches.get(&watch).filter(|_| self.settings.durable) else { return };
        let ids = w.stored.subscriptions.iter().chain(w.subscription.iter().map(|s| &s.id));
        let ids: Vec<&String> = ids.rev().take(SUBSCRIPTIONS).collect();
        if let Ok(value) = serde_json::to_vec(&ids) {
            self.unsaved.insert(format!("{}/s", w.spec.name), Some(value));
        }
        self.save_soon();
    }

    /// None is left on the server: they are taken off it.
    pub(super) fn unstore_subscriptions(&mut self, watch: u64) {
        if let Some(w) = self.watches.get_mut(&watch).filter(|_| self.settings.durable) {
            self.unsaved.insert(format!("{}/s", w.spec.name), None);
            if w.place.take().is_some() {
                self.unsaved.insert(format!("{}/r", w.spec.name), None);
            }
            w.stored.resume = None;
        }
    }

    /// Remembers that the host must be told of a gap, or forgets that.
    pub(super) fn store_gap(&mut self, watch: u64) {
        if let Some(w) = self.watches.get(&watch).filter(|_| self.settings.durable) {
            let value =
                w.gap_untold.and_then(|gap| serde_json::to_vec(&(seconds(gap.since), gap.whole)).ok());
            self.unsaved.insert(format!("{}/g", w.spec.name), value);
        }
        self.save_soon();
    }

    /// What changed is written when the input has been handled, or after the batch that is under way.
    pub(super) fn save_soon(&mut self) {
        let changed = !self.unsaved.is_empty() || !self.acked.is_empty();
        if changed && self.saves.failures == 0 {
            self.timers.set(Timer::Save, self.now.mono);
        }
    }

    /// Has all written that has changed so far; the batch with the last of it, if any.
    pub fn write_all(&mut self, now: Now) -> Option<SaveId> {
        self.now = now;
        self.save_now()
    }

    /// Begins to write what is to be written; the batch with it.
    pub(super) fn save_now(&mut self) -> Option<SaveId> {
        self.store_resumes();
        if self.unsaved.is_empty() {
            return self.saves.saving.as_ref().map(|(id, _)| *id);
        }
        if self.saves.saving.is_some() {
            return Some(self.saves.last + 1);
        }
        self.timers.clear(Timer::Save);
        self.saves.last += 1;
        let save = self.saves.last;
        let batch = std::mem::take(&mut self.unsaved);
        let changes = batch.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        self.saves.saving = Some((save, batch.clone()));
        if !self.give_state(save, &batch) {
            self.out.push_back(Command::Save { save, changes });
        }
        Some(save)
    }

    /// A batch is written, or could not be.
    pub(super) fn saved(&mut self, save: SaveId, result: Result<(), Error>) {
        let Some((_, batch)) = self.saves.saving.take_if(|(id, _)| *id == save) else { return };
        let Err(error) = result else {
            self.saves.failures = 0;
            self.actions_durable(&batch);
            if !self.unsaved.is_empty() {
                self.save_now();
            }
            return;
        };
        if self.closing {
            self.unsaved.clear();
            return self.actions_never_durable();
        }
        // Nothing is forgotten: it goes into the next batch, under what has changed since.
        for (key, value) in batch {
            self.unsaved.entry(key).or_insert(value);
        }
        self.saves.failures += 1;
        let failures = self.saves.failures;
        let wait = Duration::from_secs(1 << failures.min(6));
        self.timers.set(Timer::Save, self.now.mono + wait);
        if failures == 1 || failures.is_multiple_of(TOLD_EVERY) {
            let mut event = Event::new(EventKind::Error, 0, "".into(), self.now.wall);
            let message = format!(
                "the state cannot be written: {error} (failure {failures} in a row, it is tried again)"
            );
            event.detail = Some(Box::new(Detail {
                retry_ms: Some(wait.as_millis() as u64),
                message: Some(message),
                ..Detail::default()
            }));
            self.push(event);
        }
    }

    /// Whether the last batch could be written: where not, the next one may be long in coming.
    pub(super) fn store_works(&self) -> bool {
        self.saves.failures == 0
    }

    /// Whether all that happened is in the store.
    pub fn is_saved(&self) -> bool {
        self.unsaved.is_empty() && self.saves.saving.is_none()
    }
}
