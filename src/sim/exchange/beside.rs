//! What lies beside the mailboxes of people: their archives, and the folders that all share. Each is a mailbox of its own
//! inside, under a name that no address can have.

use super::Exchange;
use super::ids::guid_text;
use super::world::World;

/// The name of the public folders.
const PUBLIC: &str = "(public folders)";
/// What Exchange says to those who would sync public folders is not documented: this code is in the schema for it.
const NO_SYNC: &str = "ErrorPublicFolderSyncException";

impl Exchange {
    /// Makes the archive of a mailbox. Gives the name by which to deliver into it, as into a mailbox.
    pub fn add_archive(&self, address: &str) -> String {
        let mut world = self.lock();
        let name = archive_of(address);
        world.add_mailbox(&name);
        if let Some(archive) = world.mailboxes.get_mut(&name) {
            archive.granted.insert(address.to_ascii_lowercase());
        }
        name
    }

    /// Makes the tree of public folders, which everybody may open and nobody may sync. Gives the name by which to make folders
    /// in it and deliver into them, as in a mailbox.
    pub fn add_public_folders(&self) -> String {
        let mut world = self.lock();
        world.add_mailbox(PUBLIC);
        if let Some(public) = world.mailboxes.get_mut(PUBLIC) {
            public.no_sync = Some(NO_SYNC.to_owned());
        }
        PUBLIC.to_owned()
    }

    /// Puts the content of the public folders into a mailbox of that address, which requests then have to name
    /// ([`Settings::public_folder_mailbox`](super::Settings::public_folder_mailbox)): its GUID stands in the folders
    /// (`PR_REPLICA_LIST`), and Autodiscover tells its address for `GUID@domain`.
    pub fn place_public_folders(&self, address: &str) {
        let mut world = self.lock();
        world.add_mailbox(address);
        let guid = world.mailboxes.get(&address.to_ascii_lowercase()).map(|m| m.guid);
        if let Some(public) = world.mailboxes.get_mut(PUBLIC) {
            public.replica = guid;
        }
        world.settings.public_folder_mailbox = Some(address.to_owned());
    }
}

impl World {
    /// Whether a mailbox is open to everybody, and has no events of all its folders together.
    pub(super) fn is_public(&self, key: &str) -> bool {
        key == PUBLIC
    }

    /// Whose address `GUID@domain` is; any other is its own.
    pub(super) fn address_of(&self, address: &str) -> String {
        let name = address.split('@').next().unwrap_or_default();
        let named = self.mailboxes.values().find(|m| guid_text(m.guid).eq_ignore_ascii_case(name));
        named.map_or(address, |m| &m.address).to_owned()
    }
}

/// In whose folders, and under which name there, a distinguished folder of a mailbox lies.
pub(super) fn place(key: String, name: &str) -> (String, &str) {
    match name.strip_prefix("archive") {
        Some(name) => (archive_of(&key), name),
        None if name == "publicfoldersroot" => (PUBLIC.to_owned(), "msgfolderroot"),
        None => (key, name),
    }
}

fn archive_of(address: &str) -> String {
    format!("{} (archive)", address.to_ascii_lowercase())
}
