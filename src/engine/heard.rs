//! What is said of folders before the hierarchy says it: by events on the stream, and by refusals.

use std::time::SystemTime;

use super::Engine;
use super::folder::{Digest, Folder, Marks};
use crate::proto::{Notice, NoticeKind, Target};

/// So many folders that events spoke of may wait for the hierarchy; events of further ones are told all the same.
const HEARD: usize = 1000;

impl Engine {
    /// A folder is said not to be there: whether that is for the hierarchy to say, which is asked, once.
    pub(super) fn may_be_dropped(&mut self, id: u64, folder_id: &str) -> bool {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return true };
        let Some(tree) = w.tree.as_mut().filter(|t| !t.denied) else { return false };
        let Some(folder) = w.folders_known.get_mut(folder_id) else { return true };
        if std::mem::replace(&mut folder.missing, true) {
            return false;
        }
        folder.due = None;
        (tree.due, tree.again, tree.dirty) = (Some(now), true, true);
        self.sync_soon(id);
        true
    }

    /// An event is of these folders: whether one of them is the watch's, or may be. Of a new one the hierarchy is asked.
    pub(super) fn is_inside(&mut self, id: u64, notice: &Notice) -> bool {
        let folders = [&notice.parent_folder_id, &notice.old_parent_folder_id];
        let mut folders = folders.into_iter().flatten().peekable();
        let nowhere = folders.peek().is_none();
        // Both are heard of, wherever the first one is.
        folders.fold(nowhere, |inside, folder| self.hear_of(id, &folder.id, false) || inside)
    }

    /// Whether a folder is the watch's, or may be; then the hierarchy is asked. `new`: it was made just now.
    fn hear_of(&mut self, id: u64, folder_id: &str, new: bool) -> bool {
        let now = self.now;
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let Some(tree) = w.tree.as_mut().filter(|t| !t.denied) else { return true };
        if w.folders_known.contains_key(folder_id) {
            return true;
        }
        if tree.outside.contains(&Digest::of(folder_id)) {
            return false;
        }
        tree.soon(now.mono);
        tree.dirty = true;
        if w.folders_known.values().filter(|f| !f.listed).count() < HEARD {
            let since = if new || tree.known { SystemTime::UNIX_EPOCH } else { tree.since };
            w.folders_known.insert(folder_id.to_owned(), Box::new(Folder::heard_of(since, now.wall)));
            self.store_folder(id, folder_id, &[]);
        }
        self.sync_soon(id);
        true
    }

    /// A notice of the stream's that is about a folder itself: whether the host is told.
    pub(super) fn noted_folder(&mut self, id: u64, notice: &Notice) -> bool {
        let now = self.now.mono;
        let Some(Target::Folder(folder)) = &notice.target else { return true };
        let parent = notice.parent_folder_id.as_ref().map(|p| p.id.as_str());
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let Some(tree) = w.tree.as_mut().filter(|t| !t.denied) else { return true };
        let digest = Digest::of(&folder.id);
        let outside = tree.outside.contains(&digest);
        let tell = match notice.kind {
            NoticeKind::Created => {
                let tell = !tree.told.get(digest).has(Marks::TOLD_CREATED);
                tree.told.mark(digest, Marks::SEEN_NEW.with(Marks::TOLD_CREATED));
                tell
            }
            NoticeKind::Moved | NoticeKind::Copied => {
                // One that was out of sight may come into it.
                tree.outside.remove(&digest);
                let inside = parent.is_none_or(|p| w.folders_known.get(p).is_some_and(|f| f.listed));
                tree.told.mark(digest, Marks::SEEN_NEW.with(Marks::SEEN_CHANGE));
                match inside {
                    true => tree.told.unmark(digest, Marks::SEEN_GONE),
                    false => tree.told.mark(digest, Marks::SEEN_GONE),
                }
                true
            }
            NoticeKind::Deleted => {
                tree.told.mark(digest, Marks::SEEN_GONE);
                !outside
            }
            _ => {
                tree.told.mark(digest, Marks::SEEN_CHANGE);
                !outside
            }
        };
        match notice.kind {
            NoticeKind::Deleted => tree.soon(now),
            NoticeKind::Moved => {
                tree.soon(now);
                self.hear_of(id, &folder.id, false);
            }
            NoticeKind::Created | NoticeKind::Copied => {
                tree.soon(now);
                self.hear_of(id, &folder.id, true);
            }
            _ => drop(self.hear_of(id, &folder.id, false)),
        }
        self.sync_soon(id);
        tell
    }
}
