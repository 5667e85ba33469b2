//! Everything that can happen to items and folders, each with exactly the events that it causes, in order.

use std::sync::Arc;
use std::time::SystemTime;

use super::super::Style;
use super::item::{Class, Fields, Item};
use super::mailbox::{ALL_ITEMS, DELETED_ITEMS, DUMPSTER, Folder, Mailbox};
use super::note::{Note, Thing};
use crate::event::EventKind;

/// How a thing is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deletion {
    /// Gone for good.
    Hard,
    /// Into the dumpster, out of the user's sight. (gromox tells it as gone.)
    Soft,
    /// Into Deleted Items.
    ToDeletedItems,
}

/// A mailbox being changed.
pub(super) struct Editor<'a> {
    pub(super) mailbox: &'a mut Mailbox,
    pub(super) style: Style,
    pub(super) now: SystemTime,
}

/// The state that a new item comes in with.
#[derive(Clone, Copy, Default)]
pub(super) struct Arrival {
    pub(super) new_mail: bool,
    pub(super) is_read: bool,
    pub(super) draft: bool,
}

impl Editor<'_> {
    /// Puts an item into a folder: by delivery (then it is new mail) or by a client.
    pub(super) fn create(&mut self, folder: u64, fields: Arc<Fields>, arrival: Arrival) -> Option<u64> {
        self.mailbox.folders.get(&folder)?;
        let number = self.insert(folder, fields.clone(), arrival.is_read, arrival.draft, None);
        let thing = Thing::Item { folder, item: number };
        self.tell(EventKind::Created, thing, folder, None);
        if self.style == Style::Gromox {
            self.tell_folder(folder);
        }
        if arrival.new_mail {
            self.tell(EventKind::NewMail, thing, folder, None);
        }
        self.tell_free_busy(&fields, thing, folder);
        if self.style == Style::Exchange {
            self.tell_folder(folder);
        }
        Some(number)
    }

    /// Changes the content of an item.
    pub(super) fn edit(&mut self, folder: u64, item: u64, change: impl FnOnce(&mut Fields)) -> Option<()> {
        let number = self.mailbox.next_change();
        let now = self.now;
        let home = self.mailbox.folders.get_mut(&folder)?;
        let entry = home.items.get_mut(&item)?;
        let before = entry.fields.clone();
        change(Arc::make_mut(&mut entry.fields));
        home.changes.remove(&entry.last_change());
        entry.changed = number;
        entry.modified = now;
        home.changes.insert(number, item);
        home.touched = now;
        let after = entry.fields.clone();
        let thing = Thing::Item { folder, item };
        self.tell(EventKind::Modified, thing, folder, None);
        if before.calendar != after.calendar {
            self.tell_free_busy(&after, thing, folder);
        }
        if self.style == Style::Gromox {
            self.tell_folder(folder);
        }
        Some(())
    }

    /// Marks an item as read or unread. Nothing happens if it is so already.
    pub(super) fn set_read(&mut self, folder: u64, item: u64, read: bool) -> Option<()> {
        let home = self.mailbox.folders.get(&folder)?;
        if home.items.get(&item)?.is_read == read {
            return Some(());
        }
        let number = self.mailbox.next_change();
        let now = self.now;
        let home = self.mailbox.folders.get_mut(&folder)?;
        let entry = home.items.get_mut(&item)?;
        home.changes.remove(&entry.last_change());
        entry.is_read = read;
        entry.flagged = number;
        entry.modified = now;
        home.changes.insert(number, item);
        home.touched = now;
        home.unread = if read { home.unread - 1 } else { home.unread + 1 };
        self.tell(EventKind::Modified, Thing::Item { folder, item }, folder, None);
        self.tell_folder(folder);
        Some(())
    }

    /// Moves an item; its id changes. Gives its new number.
    pub(super) fn move_item(&mut self, folder: u64, item: u64, to: u64) -> Option<u64> {
        self.mailbox.folders.get(&to)?;
        let old = self.remove(folder, item)?;
        let fields = old.fields.clone();
        let number = self.insert(to, old.fields, old.is_read, old.draft, Some((old.received, old.created)));
        let was = Thing::Item { folder, item };
        let is = Thing::Item { folder: to, item: number };
        self.tell(EventKind::Moved, is, to, Some((was, folder)));
        if self.style == Style::Exchange && to != DUMPSTER {
            self.echo(EventKind::Deleted, was);
            self.echo(EventKind::Created, is);
        }
        self.tell_free_busy(&fields, was, folder);
        self.tell_folder(folder);
        self.tell_folder(to);
        Some(number)
    }

    /// Copies an item. Gives the copy's number.
    pub(super) fn copy_item(&mut self, folder: u64, item: u64, to: u64) -> Option<u64> {
        self.mailbox.folders.get(&to)?;
        let old = self.mailbox.folders.get(&folder)?.items.get(&item)?.clone();
        let fields = old.fields.clone();
        let number = self.insert(to, old.fields, old.is_read, old.draft, Some((old.received, self.now)));
        let is = Thing::Item { folder: to, item: number };
        self.tell(EventKind::Copied, is, to, Some((Thing::Item { folder, item }, folder)));
        self.tell_free_busy(&fields, is, to);
        self.tell_folder(to);
        Some(number)
    }

    /// Deletes an item. Gives its new place if it still has one.
    pub(super) fn delete_item(
        &mut self,
        folder: u64,
        item: u64,
        how: Deletion,
    ) -> Option<Option<(u64, u64)>> {
        let to = match how {
            Deletion::Hard => None,
            Deletion::Soft if self.style == Style::Gromox => None,
            Deletion::ToDeletedItems if !self.mailbox.is_within(folder, DELETED_ITEMS) => Some(DELETED_ITEMS),
            Deletion::Soft | Deletion::ToDeletedItems if folder == DUMPSTER => None,
            Deletion::Soft | Deletion::ToDeletedItems => Some(DUMPSTER),
        };
        if let Some(to) = to {
            return self.move_item(folder, item, to).map(|number| Some((to, number)));
        }
        let old = self.remove(folder, item)?;
        let thing = Thing::Item { folder, item };
        self.tell(EventKind::Deleted, thing, folder, None);
        self.tell_free_busy(&old.fields, thing, folder);
        self.tell_folder(folder);
        Some(None)
    }

    /// Makes a folder.
    pub(super) fn create_folder(&mut self, parent: u64, name: &str, class: &str) -> Option<u64> {
        self.mailbox.folders.get(&parent)?;
        let number = self.mailbox.add_folder(parent, name, class, self.now);
        self.tell(EventKind::Created, Thing::Folder(number), parent, None);
        self.tell_folder(parent);
        Some(number)
    }

    /// Gives a folder another name.
    pub(super) fn rename_folder(&mut self, folder: u64, name: &str) -> Option<()> {
        let number = self.mailbox.next_change();
        let home = self.mailbox.folders.get_mut(&folder)?;
        home.name = name.to_owned();
        home.changed = number;
        self.tell_folder(folder);
        Some(())
    }

    /// Moves a folder with all that is in it. Its id stays.
    pub(super) fn move_folder(&mut self, folder: u64, to: u64) -> Option<()> {
        self.mailbox.folders.get(&to)?;
        self.mailbox.folders.get(&folder)?;
        self.mailbox.leaves(folder);
        let number = self.mailbox.next_change();
        let home = self.mailbox.folders.get_mut(&folder)?;
        let from = std::mem::replace(&mut home.parent, to);
        home.changed = number;
        let thing = Thing::Folder(folder);
        self.tell(EventKind::Moved, thing, to, Some((thing, from)));
        self.tell_folder(from);
        self.tell_folder(to);
        Some(())
    }

    /// Copies a folder with all that is in it. Gives the copy's number.
    pub(super) fn copy_folder(&mut self, folder: u64, to: u64) -> Option<u64> {
        self.mailbox.folders.get(&to)?;
        let from = self.mailbox.folders.get(&folder)?.parent;
        let copy = self.copy_tree(folder, to)?;
        self.tell(EventKind::Copied, Thing::Folder(copy), to, Some((Thing::Folder(folder), from)));
        self.tell_folder(to);
        Some(copy)
    }

    /// Deletes a folder with all that is in it.
    pub(super) fn delete_folder(&mut self, folder: u64, how: Deletion) -> Option<()> {
        let parent = self.mailbox.folders.get(&folder)?.parent;
        match how {
            Deletion::ToDeletedItems if !self.mailbox.is_within(folder, DELETED_ITEMS) => {
                return self.move_folder(folder, DELETED_ITEMS);
            }
            Deletion::Soft if self.style == Style::Exchange && parent != DUMPSTER => {
                return self.move_folder(folder, DUMPSTER);
            }
            _ => {}
        }
        let below = self.mailbox.children(folder, true);
        self.mailbox.leaves(folder);
        for number in below.into_iter().chain([folder]) {
            self.mailbox.folders.remove(&number);
        }
        self.tell(EventKind::Deleted, Thing::Folder(folder), parent, None);
        if self.style == Style::Exchange {
            self.tell_folder(parent);
        }
        Some(())
    }

    fn copy_tree(&mut self, folder: u64, to: u64) -> Option<u64> {
        let source = self.mailbox.folders.get(&folder)?;
        let (name, class) = (source.name.clone(), source.class.clone());
        let items: Vec<Item> = source.items.values().cloned().collect();
        let below = self.mailbox.children(folder, false);
        let copy = self.mailbox.add_folder(to, &name, &class, self.now);
        for item in items {
            self.insert(copy, item.fields, item.is_read, item.draft, Some((item.received, self.now)));
        }
        for child in below.into_iter().filter(|c| *c != copy) {
            self.copy_tree(child, copy);
        }
        Some(copy)
    }

    fn insert(
        &mut self,
        folder: u64,
        mut fields: Arc<Fields>,
        is_read: bool,
        draft: bool,
        dates: Option<(SystemTime, SystemTime)>,
    ) -> u64 {
        let number = self.mailbox.next_change();
        if fields.mime.is_empty() {
            Arc::make_mut(&mut fields).write_mime(number);
        }
        let (received, created) = dates.unwrap_or((self.now, self.now));
        let modified = self.now;
        let item = Item {
            number,
            fields,
            is_read,
            draft,
            received,
            created,
            modified,
            changed: number,
            flagged: number,
        };
        if let Some(home) = self.mailbox.folders.get_mut(&folder) {
            home.unread += u32::from(!is_read);
            home.touched = self.now;
            home.items.insert(number, item);
        }
        number
    }

    fn remove(&mut self, folder: u64, item: u64) -> Option<Item> {
        let home = self.mailbox.folders.get_mut(&folder)?;
        let old = home.items.remove(&item)?;
        home.changes.remove(&old.last_change());
        home.unread -= u32::from(!old.is_read);
        home.touched = self.now;
        let change = self.mailbox.next_change();
        if let Some(home) = self.mailbox.folders.get_mut(&folder) {
            home.gone.insert(change, item);
        }
        Some(old)
    }

    fn tell(&mut self, kind: EventKind, thing: Thing, parent: u64, old: Option<(Thing, u64)>) {
        let hidden = match (parent, old) {
            (DUMPSTER, None) => true,
            (DUMPSTER, Some((_, from))) => from == DUMPSTER,
            _ => false,
        };
        let note = Note {
            seq: 0,
            kind,
            at: self.now,
            thing,
            parent,
            old,
            unread: None,
            echo: false,
            hidden,
            legacy: false,
        };
        self.mailbox.fresh.push(note);
    }

    /// A folder's own Modified, with its count of unread items.
    fn tell_folder(&mut self, folder: u64) {
        let Some(Folder { parent, unread, .. }) = self.mailbox.folders.get(&folder) else { return };
        self.mailbox.fresh.push(Note {
            seq: 0,
            kind: EventKind::Modified,
            at: self.now,
            thing: Thing::Folder(folder),
            parent: *parent,
            old: None,
            unread: Some(*unread),
            echo: false,
            hidden: folder == DUMPSTER,
            legacy: false,
        });
    }

    fn tell_free_busy(&mut self, fields: &Fields, thing: Thing, parent: u64) {
        if fields.class == Class::Calendar && self.style == Style::Exchange {
            self.tell(EventKind::FreeBusyChanged, thing, parent, None);
        }
    }

    /// What the search folder over all items says of it.
    fn echo(&mut self, kind: EventKind, thing: Thing) {
        self.tell(kind, thing, ALL_ITEMS, None);
        if let Some(note) = self.mailbox.fresh.last_mut() {
            note.echo = true;
        }
    }
}
