//! Trouble for the simulated organisation: what is lost, forgotten, refused, or away.

use super::Exchange;
use super::control::folder_number;
use super::settings::Failure;
use crate::Result;

impl Exchange {
    /// Takes from a user the right to impersonate, which everybody else has.
    pub fn deny_impersonation(&self, user: &str) {
        self.lock().no_impersonation.insert(user.to_ascii_lowercase());
    }

    /// Lets a program of its own in, which has no mailbox: it may do nothing but impersonate.
    pub fn impersonates_only(&self, program: &str) {
        self.lock().no_mailbox.insert(program.to_ascii_lowercase());
    }

    /// Forgets a subscription, or all of a mailbox. Gives how many.
    pub fn lose_subscription(&self, id_or_mailbox: &str) -> usize {
        let mut world = self.lock();
        let mut lost = world.subscriptions_of(&id_or_mailbox.to_ascii_lowercase());
        if world.subscriptions.contains_key(id_or_mailbox) {
            lost.push(id_or_mailbox.to_owned());
        }
        lost.iter().for_each(|id| world.lose(id));
        drop(world);
        self.changed.notify_all();
        lost.len()
    }

    /// Forgets all subscriptions, as a restart of the server's process does; in gromox's style their numbers begin at 1
    /// again, so an old id may soon name somebody else's. Open streams say so and end; cut their sockets first if
    /// that is what is to be tested.
    pub fn restart(&self) {
        self.lock().restart();
        self.changed.notify_all();
    }

    /// Makes the mailbox's subscriptions deaf: they answer, with heartbeats too, and never hear of anything again.
    /// Gives how many.
    pub fn silent_death(&self, address: &str) -> usize {
        let mut world = self.lock();
        let ids = world.subscriptions_of(&address.to_ascii_lowercase());
        for id in &ids {
            if let Some(subscription) = world.subscriptions.get_mut(id) {
                subscription.deaf = true;
            }
        }
        ids.len()
    }

    /// Lets a subscription's id name a subscription on somebody else's mailbox from now on. Whether there were both.
    pub fn pass_id_to_other(&self, id: &str, other: &str) -> bool {
        self.lock().pass_on(id, &other.to_ascii_lowercase())
    }

    /// Takes a mailbox away (every operation on it gets this response code), or brings it back with `None`.
    pub fn set_offline(&self, address: &str, code: Option<&str>) -> Result<()> {
        self.on(address, |world, key| {
            if let Some(mailbox) = world.mailboxes.get_mut(key) {
                mailbox.offline = code.map(str::to_owned);
            }
            Ok(())
        })
    }

    /// Lets the next request of an operation (`Subscribe`, `*` for any) fail. Several wait in line.
    pub fn fail_next(&self, operation: &str, failure: Failure) {
        self.lock().failures.push((operation.to_owned(), failure));
    }

    /// Forgets what clients know of a folder, or of the whole mailbox and its hierarchy: their SyncStates are no good any
    /// more. What a client hears who brings one is in [`Settings::silent_reset`](super::Settings::silent_reset).
    pub fn forget_states(&self, address: &str, folder: Option<&str>) -> Result<()> {
        self.on(address, |world, key| {
            let number = folder.map(|folder| folder_number(world, key, folder)).transpose()?;
            let Some(mailbox) = world.mailboxes.get_mut(key) else { return Ok(()) };
            match number.and_then(|number| mailbox.folders.get_mut(&number)) {
                Some(folder) => folder.age += 1,
                None => mailbox.forget_states(),
            }
            Ok(())
        })
    }

    /// Refuses to sync a mailbox's items and folders, with this response code (`ErrorAccessDenied`), or no longer with `None`.
    pub fn refuse_sync(&self, address: &str, code: Option<&str>) -> Result<()> {
        self.on(address, |world, key| {
            if let Some(mailbox) = world.mailboxes.get_mut(key) {
                mailbox.no_sync = code.map(str::to_owned);
            }
            Ok(())
        })
    }
}
