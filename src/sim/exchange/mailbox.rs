//! A mailbox: its folders, what is in them, and its table of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::SystemTime;

use super::ids::{Guid, guid_of};
use super::item::Item;
use super::note::Note;

/// How many events a mailbox remembers for pull subscriptions.
const EVENT_TABLE: usize = 100_000;

pub(super) const ROOT: u64 = 1;
pub(super) const TOP: u64 = 9;
pub(super) const DELETED_ITEMS: u64 = 0x0b;
pub(super) const INBOX: u64 = 0x0d;
pub(super) const DRAFTS: u64 = 0x0e;
pub(super) const CALENDAR: u64 = 0x0f;
pub(super) const SENT_ITEMS: u64 = 0x0a;
pub(super) const DUMPSTER: u64 = 0x1a;
pub(super) const ALL_ITEMS: u64 = 0x1b;
pub(super) const CONTACTS: u64 = 0x10;
pub(super) const TASKS: u64 = 0x13;
const FIRST_OWN: u64 = 0x20;

/// Number, parent, name for SOAP, name for people, class.
const WELL_KNOWN: [(u64, u64, &str, &str, &str); 17] = [
    (ROOT, ROOT, "root", "", ""),
    (TOP, ROOT, "msgfolderroot", "Top of Information Store", "IPF.Note"),
    (SENT_ITEMS, TOP, "sentitems", "Sent Items", "IPF.Note"),
    (DELETED_ITEMS, TOP, "deleteditems", "Deleted Items", "IPF.Note"),
    (0x0c, TOP, "outbox", "Outbox", "IPF.Note"),
    (INBOX, TOP, "inbox", "Inbox", "IPF.Note"),
    (DRAFTS, TOP, "drafts", "Drafts", "IPF.Note"),
    (CALENDAR, TOP, "calendar", "Calendar", "IPF.Appointment"),
    (CONTACTS, TOP, "contacts", "Contacts", "IPF.Contact"),
    (0x11, TOP, "journal", "Journal", "IPF.Journal"),
    (0x12, TOP, "notes", "Notes", "IPF.StickyNote"),
    (TASKS, TOP, "tasks", "Tasks", "IPF.Task"),
    (0x14, TOP, "junkemail", "Junk Email", "IPF.Note"),
    (0x18, ROOT, "recoverableitemsroot", "Recoverable Items", ""),
    (DUMPSTER, 0x18, "recoverableitemsdeletions", "Deletions", ""),
    (0x1c, ROOT, "searchfolders", "Finder", ""),
    (ALL_ITEMS, 0x1c, "allitems", "AllItems", ""),
];

/// A folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) number: u64,
    pub(super) parent: u64,
    pub(super) name: String,
    pub(super) class: String,
    pub(super) well_known: Option<&'static str>,
    pub(super) items: BTreeMap<u64, Item>,
    /// Changes of items since they came, by the change: which item.
    pub(super) changes: BTreeMap<u64, u64>,
    /// Items that left, by the change: which item.
    pub(super) gone: BTreeMap<u64, u64>,
    pub(super) unread: u32,
    /// The change that made it, and the last one of its own properties.
    pub(super) created: u64,
    pub(super) changed: u64,
    pub(super) touched: SystemTime,
    /// How often the server has forgotten what clients know of it.
    pub(super) age: u64,
}

impl Folder {
    pub(super) fn is_search(&self) -> bool {
        self.number == ALL_ITEMS
    }
}

/// A folder that left its place.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) folder: u64,
    /// The change that made the folder.
    pub(super) created: u64,
    /// What it was in, up to the root.
    pub(super) was_in: Vec<u64>,
}

/// A mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) address: String,
    pub(super) guid: Guid,
    pub(super) folders: BTreeMap<u64, Folder>,
    /// Folders that went elsewhere or for good, by the change.
    pub(super) left: BTreeMap<u64, Left>,
    /// How often the server has forgotten what clients know of the hierarchy.
    pub(super) age: u64,
    /// The response code that clients get who sync it, if that is refused.
    pub(super) no_sync: Option<String>,
    next_folder: u64,
    /// The last change. Items are numbered by it.
    pub(super) change: u64,
    /// Notes of the operation at hand, not yet in the table.
    pub(super) fresh: Vec<Note>,
    pub(super) table: VecDeque<Note>,
    next_event: u64,
    /// The response code that everything gets while the mailbox is away.
    pub(super) offline: Option<String>,
    /// Who else may open it.
    pub(super) granted: BTreeSet<String>,
    /// Of the public folders: the mailbox that has their content, where that is one of several.
    pub(super) replica: Option<Guid>,
}

impl Mailbox {
    pub(super) fn new(address: &str, now: SystemTime) -> Mailbox {
        let mut mailbox = Mailbox {
            address: address.to_owned(),
            guid: guid_of(&address.to_ascii_lowercase()),
            folders: BTreeMap::new(),
            left: BTreeMap::new(),
            age: 0,
            no_sync: None,
            next_folder: FIRST_OWN,
            change: 0,
            fresh: Vec::new(),
            table: VecDeque::new(),
            next_event: 1,
            offline: None,
            granted: BTreeSet::new(),
            replica: None,
        };
        for (number, parent, well_known, name, class) in WELL_KNOWN {
            mailbox.insert_folder(number, parent, name, class, Some(well_known), now);
        }
        mailbox
    }

    pub(super) fn next_change(&mut self) -> u64 {
        self.change += 1;
        self.change
    }

    /// Makes a folder and tells nobody.
    pub(super) fn add_folder(&mut self, parent: u64, name: &str, class: &str, now: SystemTime) -> u64 {
        let number = self.next_folder;
        self.next_folder += 1;
        self.insert_folder(number, parent, name, class, None, now);
        number
    }

    pub(super) fn well_known(&self, name: &str) -> Option<u64> {
        self.folders.values().find(|f| f.well_known == Some(name)).map(|f| f.number)
    }

    /// The folders in a folder, or below it at any depth.
    pub(super) fn children(&self, of: u64, deep: bool) -> Vec<u64> {
        let mut found = Vec::new();
        let mut next = vec![of];
        while let Some(parent) = next.pop() {
            let here = self.folders.values().filter(|f| f.parent == parent && f.number != parent);
            let here: Vec<u64> = here.map(|f| f.number).collect();
            if deep {
                next.extend(here.iter().rev());
            }
            found.extend(here);
        }
        found
    }

    /// Whether a folder is the other, or somewhere below it.
    pub(super) fn is_within(&self, folder: u64, other: u64) -> bool {
        folder == other || self.ancestors(folder).contains(&other)
    }

    /// What a folder is in, from its parent up to the root.
    pub(super) fn ancestors(&self, folder: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = folder;
        while let Some(parent) = self.folders.get(&at).map(|f| f.parent).filter(|p| *p != at) {
            found.push(parent);
            at = parent;
        }
        found
    }

    /// Writes down that a folder is about to leave its place, with all below it.
    pub(super) fn leaves(&mut self, folder: u64) {
        for number in self.children(folder, true).into_iter().chain([folder]) {
            let created = self.folders.get(&number).map_or(0, |f| f.created);
            let was_in = self.ancestors(number);
            let change = self.next_change();
            self.left.insert(change, Left { folder: number, created, was_in });
        }
    }

    /// Whether a folder was below another when the change was the last; `None` if it was not there at all.
    pub(super) fn was_below(&self, folder: u64, other: u64, change: u64) -> Option<bool> {
        match self.left.range(change + 1..).map(|(_, left)| left).find(|left| left.folder == folder) {
            Some(left) => (left.created <= change).then(|| left.was_in.contains(&other)),
            None => {
                let here = self.folders.get(&folder).filter(|f| f.created <= change)?;
                Some(self.ancestors(here.number).contains(&other))
            }
        }
    }

    /// Forgets what clients know of it: no SyncState from before is any good.
    pub(super) fn forget_states(&mut self) {
        self.age += 1;
        self.folders.values_mut().for_each(|f| f.age += 1);
    }

    /// Moves the fresh notes into the table of events and gives them out with their numbers.
    pub(super) fn take_fresh(&mut self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut self.fresh);
        for note in &mut notes {
            note.seq = self.next_event;
            self.next_event += 1;
            if self.table.len() == EVENT_TABLE {
                self.table.pop_front();
            }
            self.table.push_back(note.clone());
        }
        notes
    }

    /// The number of the last event, 0 if none ever was.
    pub(super) fn last_event(&self) -> u64 {
        self.next_event - 1
    }

    /// Whether everything after this event is still known.
    pub(super) fn remembers(&self, event: u64) -> bool {
        event <= self.last_event() && self.table.front().is_none_or(|first| first.seq <= event + 1)
    }

    fn insert_folder(
        &mut self,
        number: u64,
        parent: u64,
        name: &str,
        class: &str,
        well_known: Option<&'static str>,
        now: SystemTime,
    ) {
        let created = self.next_change();
        let folder = Folder {
            number,
            parent,
            name: name.to_owned(),
            class: class.to_owned(),
            well_known,
            items: BTreeMap::new(),
            changes: BTreeMap::new(),
            gone: BTreeMap::new(),
            unread: 0,
            created,
            changed: created,
            touched: now,
            age: 0,
        };
        self.folders.insert(number, folder);
    }
}
