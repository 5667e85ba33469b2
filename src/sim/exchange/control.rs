//! What tests, the demo and the command do to the simulated organisation: mailboxes, deliveries, changes; and what they
//! can ask it. Trouble is in `trouble`.
//!
//! A folder is named by its id, its well-known name (`inbox`), or its path of names below the top (`Inbox/Bills`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Exchange;
use super::change::{Arrival, Deletion, Editor};
use super::ids::{self, Entry};
use super::item::{Calendar, Class, Fields};
use super::mailbox::{CALENDAR, INBOX, Mailbox, TOP};
use super::settings::{Settings, Told};
use super::world::World;
use crate::{Error, ErrorKind, Result};

impl Exchange {
    /// Makes a mailbox, if there is none with that address. Its owner signs in by the same address.
    pub fn add_mailbox(&self, address: &str) {
        self.lock().add_mailbox(address);
    }

    /// Lets a user open somebody else's mailbox.
    pub fn grant(&self, address: &str, to: &str) -> Result<()> {
        self.on(address, |world, key| {
            if let Some(mailbox) = world.mailboxes.get_mut(key) {
                mailbox.granted.insert(to.to_ascii_lowercase());
            }
            Ok(())
        })
    }

    /// Delivers a message into the Inbox, as mail from outside. Gives the item's id.
    pub fn deliver(&self, address: &str, mime: &[u8]) -> Result<String> {
        let fields = Arc::new(Fields::from_mime(mime));
        self.insert(address, INBOX, fields, Arrival { new_mail: true, ..Arrival::default() })
    }

    /// Delivers a message into another folder, as a rule of the user's would. Gives the item's id.
    pub fn deliver_into(&self, address: &str, folder: &str, mime: &[u8]) -> Result<String> {
        let fields = Arc::new(Fields::from_mime(mime));
        let number = self.on(address, |world, key| folder_number(world, key, folder))?;
        self.insert(address, number, fields, Arrival { new_mail: true, ..Arrival::default() })
    }

    /// Puts a message into a folder, as another client of the user would. Gives the item's id.
    pub fn create_item(&self, address: &str, folder: &str, mime: &[u8]) -> Result<String> {
        let fields = Arc::new(Fields::from_mime(mime));
        let number = self.on(address, |world, key| folder_number(world, key, folder))?;
        self.insert(address, number, fields, Arrival::default())
    }

    /// Puts an appointment into the calendar. Gives the item's id.
    pub fn create_appointment(
        &self,
        address: &str,
        subject: &str,
        start: SystemTime,
        length: Duration,
    ) -> Result<String> {
        let calendar = Calendar {
            start,
            end: start.checked_add(length).unwrap_or(start),
            location: String::new(),
            free_busy: "Busy".to_owned(),
            all_day: false,
            uid: format!("{subject}@simulated.example.test"),
        };
        let fields = Fields {
            class: Class::Calendar,
            subject: subject.to_owned(),
            calendar: Some(calendar),
            ..Fields::default()
        };
        self.insert(address, CALENDAR, Arc::new(fields), Arrival { is_read: true, ..Arrival::default() })
    }

    /// Puts the same message into a folder many times, for tests that need a large folder. They share one copy.
    pub fn fill(&self, address: &str, folder: &str, mime: &[u8], count: usize) -> Result<()> {
        let fields = Arc::new(Fields::from_mime(mime));
        self.on(address, |world, key| {
            let folder = folder_number(world, key, folder)?;
            for _ in 0..count {
                world.edit(key, |e| e.create(folder, fields.clone(), Arrival::default()));
            }
            Ok(())
        })
    }

    /// Gives an item another subject.
    pub fn update_subject(&self, item: &str, subject: &str) -> Result<()> {
        self.on_item(item, |e, folder, item| e.edit(folder, item, |fields| fields.replace_subject(subject)))
    }

    /// Gives an appointment another time.
    pub fn reschedule(&self, item: &str, start: SystemTime, length: Duration) -> Result<()> {
        self.on_item(item, |e, folder, item| {
            e.edit(folder, item, |fields| {
                if let Some(calendar) = &mut fields.calendar {
                    calendar.start = start;
                    calendar.end = start.checked_add(length).unwrap_or(start);
                }
            })
        })
    }

    /// Marks an item as read or unread.
    pub fn set_read(&self, item: &str, read: bool) -> Result<()> {
        self.on_item(item, |e, folder, item| e.set_read(folder, item, read))
    }

    /// Moves an item to a folder of the same mailbox. Gives its new id; the old one is dead.
    pub fn move_item(&self, item: &str, to: &str) -> Result<String> {
        let to = self.target(item, to)?;
        self.on_item(item, |e, folder, item| {
            let number = e.move_item(folder, item, to)?;
            Some(ids::item_id(e.style, e.mailbox.guid, to, number))
        })
    }

    /// Copies an item to a folder of the same mailbox. Gives the copy's id.
    pub fn copy_item(&self, item: &str, to: &str) -> Result<String> {
        let to = self.target(item, to)?;
        self.on_item(item, |e, folder, item| {
            let number = e.copy_item(folder, item, to)?;
            Some(ids::item_id(e.style, e.mailbox.guid, to, number))
        })
    }

    /// Deletes an item. Gives its new id if it only went elsewhere.
    pub fn delete_item(&self, item: &str, how: Deletion) -> Result<Option<String>> {
        self.on_item(item, |e, folder, item| {
            let place = e.delete_item(folder, item, how)?;
            Some(place.map(|(folder, item)| ids::item_id(e.style, e.mailbox.guid, folder, item)))
        })
    }

    /// The id of a folder.
    pub fn folder_id(&self, address: &str, folder: &str) -> Result<String> {
        self.on(address, |world, key| {
            let number = folder_number(world, key, folder)?;
            let guid = world.mailboxes.get(key).map(|m| m.guid).unwrap_or_default();
            Ok(ids::folder_id(world.style, guid, number))
        })
    }

    /// A folder's id in a form that only `ConvertId` takes: `EwsLegacyId`, `EntryId` or `HexEntryId`. Nothing for other forms, and
    /// for what is no folder's id.
    pub fn id_in_form(&self, id: &str, form: &str) -> Option<String> {
        ids::in_form(self.lock().style, form, id)
    }

    /// Makes a folder. Gives its id.
    pub fn create_folder(&self, address: &str, parent: &str, name: &str) -> Result<String> {
        self.on_folder(address, parent, |e, parent| {
            let number = e.create_folder(parent, name, "IPF.Note")?;
            Some(ids::folder_id(e.style, e.mailbox.guid, number))
        })
    }

    /// Gives a folder another name.
    pub fn rename_folder(&self, address: &str, folder: &str, name: &str) -> Result<()> {
        self.on_folder(address, folder, |e, folder| e.rename_folder(folder, name))
    }

    /// Moves a folder; its id stays.
    pub fn move_folder(&self, address: &str, folder: &str, to: &str) -> Result<()> {
        let to = self.on(address, |world, key| folder_number(world, key, to))?;
        self.on_folder(address, folder, |e, folder| match e.mailbox.is_within(to, folder) {
            true => None,
            false => e.move_folder(folder, to),
        })
    }

    /// Copies a folder with all that is in it. Gives the copy's id.
    pub fn copy_folder(&self, address: &str, folder: &str, to: &str) -> Result<String> {
        let to = self.on(address, |world, key| folder_number(world, key, to))?;
        self.on_folder(address, folder, |e, folder| {
            let number = if e.mailbox.is_within(to, folder) { None } else { e.copy_folder(folder, to) }?;
            Some(ids::folder_id(e.style, e.mailbox.guid, number))
        })
    }

    /// Deletes a folder with all that is in it.
    pub fn delete_folder(&self, address: &str, folder: &str, how: Deletion) -> Result<()> {
        self.on_folder(address, folder, |e, folder| match e.mailbox.folders.get(&folder)?.well_known {
            Some(_) => None,
            None => e.delete_folder(folder, how),
        })
    }

    /// The ids of the items in a folder, oldest first.
    pub fn item_ids(&self, address: &str, folder: &str) -> Result<Vec<String>> {
        self.on(address, |world, key| {
            let number = folder_number(world, key, folder)?;
            let style = world.style;
            let Some(mailbox) = world.mailboxes.get(key) else { return Ok(Vec::new()) };
            let items = mailbox.folders.get(&number).into_iter().flat_map(|f| f.items.keys());
            Ok(items.map(|item| ids::item_id(style, mailbox.guid, number, *item)).collect())
        })
    }

    /// Changes times and bounds.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        let mut world = self.lock();
        change(&mut world.settings);
        world.ring_all();
        drop(world);
        self.changed.notify_all();
    }

    /// Puts the server's clock forward: streams and subscriptions end as if that time had passed.
    pub fn advance(&self, by: Duration) {
        let mut world = self.lock();
        world.ahead = world.ahead.saturating_add(by);
        world.bury();
        world.ring_all();
        drop(world);
        self.changed.notify_all();
    }

    /// Every event that any subscription was to hear of so far, and what became of it.
    pub fn ledger(&self) -> Vec<Told> {
        self.lock().ledger.clone()
    }

    /// The items, by the ids they had then, whose senders were told that they were read, or deleted unread.
    pub fn receipts(&self) -> Vec<String> {
        self.lock().receipts.clone()
    }

    /// How often an operation was asked for.
    pub fn count(&self, operation: &str) -> u64 {
        self.lock().counts.get(operation).copied().unwrap_or(0)
    }

    /// The ids of a mailbox's subscriptions.
    pub fn subscriptions(&self, address: &str) -> Vec<String> {
        self.lock().subscriptions_of(&address.to_ascii_lowercase())
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.lock().streams.len()
    }

    fn insert(&self, address: &str, folder: u64, fields: Arc<Fields>, arrival: Arrival) -> Result<String> {
        self.on(address, |world, key| {
            let style = world.style;
            let made = world.edit(key, |e| {
                e.create(folder, fields, arrival).map(|n| ids::item_id(style, e.mailbox.guid, folder, n))
            });
            made.flatten().ok_or_else(|| invalid(format!("The mailbox {address:?} has lost that folder.")))
        })
    }

    pub(super) fn on<T>(&self, address: &str, act: impl FnOnce(&mut World, &str) -> Result<T>) -> Result<T> {
        let mut world = self.lock();
        let key = address.to_ascii_lowercase();
        if !world.mailboxes.contains_key(&key) {
            return Err(invalid(format!("There is no mailbox {address:?} here; make it with add_mailbox.")));
        }
        let done = act(&mut world, &key);
        drop(world);
        self.changed.notify_all();
        done
    }

    fn on_item<T>(&self, item: &str, act: impl FnOnce(&mut Editor<'_>, u64, u64) -> Option<T>) -> Result<T> {
        let mut world = self.lock();
        let done = match ids::parse(world.style, item) {
            Some(Entry::Item { mailbox, folder, item }) => {
                let key = world.key_of(mailbox).map(str::to_owned);
                key.and_then(|key| world.edit(&key, |e| act(e, folder, item)).flatten())
            }
            _ => None,
        };
        drop(world);
        self.changed.notify_all();
        done.ok_or_else(|| invalid(format!("There is no item {item:?}, or that cannot be done with it.")))
    }

    fn on_folder<T>(
        &self,
        address: &str,
        folder: &str,
        act: impl FnOnce(&mut Editor<'_>, u64) -> Option<T>,
    ) -> Result<T> {
        self.on(address, |world, key| {
            let number = folder_number(world, key, folder)?;
            let done = world.edit(key, |e| act(e, number)).flatten();
            done.ok_or_else(|| {
                invalid(format!("That cannot be done with the folder {folder:?} of {address:?}."))
            })
        })
    }

    /// The folder to move an item to, in the item's own mailbox.
    fn target(&self, item: &str, folder: &str) -> Result<u64> {
        let world = self.lock();
        let Some(Entry::Item { mailbox, .. }) = ids::parse(world.style, item) else {
            return Err(invalid(format!("{item:?} is not the id of an item.")));
        };
        let key = world.key_of(mailbox).unwrap_or_default().to_owned();
        folder_number(&world, &key, folder)
    }
}

pub(super) fn folder_number(world: &World, key: &str, folder: &str) -> Result<u64> {
    let none = || invalid(format!("The mailbox {key:?} has no folder {folder:?}."));
    let mailbox = world.mailboxes.get(key).ok_or_else(none)?;
    if let Some(Entry::Folder { mailbox: guid, folder }) = ids::parse(world.style, folder) {
        return if guid == mailbox.guid && mailbox.folders.contains_key(&folder) {
            Ok(folder)
        } else {
            Err(none())
        };
    }
    mailbox.well_known(folder).or_else(|| by_path(mailbox, folder)).ok_or_else(none)
}

fn by_path(mailbox: &Mailbox, path: &str) -> Option<u64> {
    path.split('/').try_fold(TOP, |parent, name| {
        let named = |f: &&super::mailbox::Folder| f.parent == parent && f.name.eq_ignore_ascii_case(name);
        mailbox.folders.values().find(named).map(|f| f.number)
    })
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Invalid, text)
}
