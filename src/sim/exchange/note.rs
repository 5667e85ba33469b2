//! What happened in a mailbox: one note for each event that a subscription can see.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::event::EventKind;

/// An item or a folder, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Item { folder: u64, item: u64 },
    Folder(u64),
}

/// One event of a mailbox.
#[derive(Clone, Debug)]
pub(super) struct Note {
    /// Its place in the mailbox's table of events.
    pub(super) seq: u64,
    pub(super) kind: EventKind,
    pub(super) at: SystemTime,
    pub(super) thing: Thing,
    pub(super) parent: u64,
    /// What it was and where, of moves and copies.
    pub(super) old: Option<(Thing, u64)>,
    /// Of a folder's Modified.
    pub(super) unread: Option<u32>,
    /// A repeat by the search folder over all items, which only subscriptions to all folders see.
    pub(super) echo: bool,
    /// Within the dumpster, which subscriptions to all folders do not see.
    pub(super) hidden: bool,
    /// Told with ids in the form of Exchange 2007.
    pub(super) legacy: bool,
}

/// Which folders a subscription watches.
#[derive(Clone, Debug)]
pub(super) enum Watched {
    All,
    Folders(BTreeSet<u64>),
}

impl Note {
    pub(super) fn concerns(&self, watched: &Watched) -> bool {
        let Watched::Folders(folders) = watched else { return !self.hidden };
        let is = |thing: &Thing| matches!(thing, Thing::Folder(f) if folders.contains(f));
        !self.echo
            && (folders.contains(&self.parent)
                || is(&self.thing)
                || self.old.as_ref().is_some_and(|(thing, parent)| folders.contains(parent) || is(thing)))
    }
}

/// The element of an event, and the name to ask for it by.
pub(super) fn element(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Copied => "CopiedEvent",
        EventKind::Created => "CreatedEvent",
        EventKind::Deleted => "DeletedEvent",
        EventKind::Modified => "ModifiedEvent",
        EventKind::Moved => "MovedEvent",
        EventKind::NewMail => "NewMailEvent",
        EventKind::FreeBusyChanged => "FreeBusyChangedEvent",
        _ => "StatusEvent",
    }
}
