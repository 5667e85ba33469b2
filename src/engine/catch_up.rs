//! Catch-up: what sync is asked for when, and what of its answers the host is told.
//!
//! Events are hints, sync is the truth. A folder is synced at the start (its *baseline*, which tells nothing old), after every
//! gap, in quiet moments (a *checkpoint*), and hourly, since a subscription can die without a word. By item id, both ways:
//! what the stream told is not told again by sync, and what sync told first is not told again by the stream.

use std::time::{Duration, SystemTime};

use super::folder::{Digest, Folder, Marks, whole};
use super::tell::parse_time;
use super::timers::Timer;
use super::{Engine, WatchMode};
use crate::event::{Detail, Fill, Origin};
use crate::proto::{Notice, NoticeKind, Target};
use crate::{Error, ErrorKind, Event, EventKind, Reason};

/// A checkpoint comes so long after the last event, but not later than so long after the first one.
const QUIET: Duration = Duration::from_secs(30);
const LATEST: Duration = Duration::from_secs(300);
/// So many items that were told of make a checkpoint due at once.
const MANY: usize = 10_000;
/// How far apart the times of a server's events and of its answers may be.
pub(super) const SLACK: Duration = Duration::from_secs(2);
/// How long the stream may be behind sync before it counts as dead.
pub(super) const BEHIND: Duration = Duration::from_secs(60);

impl Engine {
    /// A subscription stands: its folders can be synced from now on. `since` is the server's time at Subscribe.
    pub(super) fn begin_catch_up(&mut self, id: u64, since: SystemTime) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.streamed = w.streamed.max(since);
        if !w.spec.catch_up {
            return;
        }
        let since = if w.spec.since_all { SystemTime::UNIX_EPOCH } else { whole(since) };
        let restored = match w.spec.folders.is_empty() {
            true => self.take_up_tree(id, since),
            false => self.take_up_folders(id, since),
        };
        self.mark_opens(id);
        let Some(w) = self.watches.get_mut(&id) else { return };
        for folder in w.folders_known.values_mut() {
            folder.due.get_or_insert(now);
        }
        for folder_id in w.folder_ids.clone() {
            // From here on nothing is lost, also if we are killed before the first page has come.
            self.store_folder(id, &folder_id, &[]);
        }
        let Some(w) = self.watches.get_mut(&id) else { return };
        if restored {
            let certain = w.folders_known.values().filter(|f| f.listed).map(|f| f.certain_before()).min();
            let certain = certain.max(w.tree.as_ref().map(|t| t.certain));
            w.certain = certain.unwrap_or(w.certain).min(w.certain);
            let untold = w.stored.gap.take();
            w.certain = untold.map_or(w.certain, |(since, _)| since.min(w.certain));
            let fill = match self.fill_gap(id) {
                Fill::Pending if untold.is_some_and(|(_, whole)| !whole) => Fill::Partial,
                fill => fill,
            };
            self.tell_gap_since(id, self.certain(id), Reason::Restarted, None, fill);
        }
        self.sync_soon(id);
    }

    /// What is not acknowledged was told, and may be behind the last checkpoint.
    pub(super) fn mark_opens(&mut self, id: u64) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        for open in self.opens.by_ticket.values().filter(|o| o.event.watch == id) {
            let folder = open.event.parent_folder_id.as_ref().and_then(|f| w.folders_known.get_mut(f));
            let told = Marks::of(open.event.kind);
            if let (Some(folder), Some(item), Some((told, _))) = (folder, &open.event.item_id, told) {
                folder.told.mark(Digest::of(item), told);
            }
        }
    }

    /// Takes up what is stored of the chosen folders. Whether something was.
    pub(super) fn take_up_folders(&mut self, id: u64, since: SystemTime) -> bool {
        let mut restored = false;
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let watched = &w.folder_ids;
        w.folders_known.retain(|id, _| watched.contains(id));
        for folder_id in &w.folder_ids {
            if !w.folders_known.contains_key(folder_id) {
                let folder = w.stored.take(folder_id);
                restored |= folder.is_some();
                let folder = folder.unwrap_or_else(|| Folder::new(since));
                w.folders_known.insert(folder_id.clone(), Box::new(folder));
            }
        }
        restored
    }

    /// Whether what may have been missed now will be told by sync; makes it due.
    pub(super) fn fill_gap(&mut self, id: u64) -> Fill {
        let (now, since) = (self.now.mono, self.certain(id));
        let Some(w) = self.watches.get_mut(&id) else { return Fill::None };
        let tree = w.tree.as_mut().map(|tree| tree.missed(now));
        if w.folders_known.is_empty() && tree.is_none_or(|fill| fill == Fill::None) {
            return Fill::None;
        }
        // Where there are many folders, those that can be synced are.
        let denied = if tree.is_some() { Fill::Partial } else { Fill::None };
        let mut fill = match tree {
            None | Some(Fill::Pending) => Fill::Pending,
            _ => Fill::Partial,
        };
        let mut doubtful = Vec::new();
        for (folder_id, folder) in &mut w.folders_known {
            // Where a gap before has not been filled yet, it may reach back further than this one.
            let unfilled = std::mem::replace(&mut folder.broken, true);
            folder.again = true;
            folder.survey = true;
            folder.suspects.clear();
            if !folder.doubts.is_empty() && !unfilled {
                doubtful.push(folder_id.clone());
            }
            if folder.denied {
                fill = denied;
                continue;
            }
            folder.dirty = folder.fills();
            // This gap tells of it as far as it reaches back; the next may reach further.
            let by_dates = folder.read.is_some_and(|read| since < read.until);
            folder.read = folder.read.filter(|read| !by_dates || read.since < since);
            if let Some(read) = folder.read.as_mut().filter(|_| by_dates) {
                read.until = since;
            }
            if fill == Fill::Pending && (by_dates || !folder.dirty) {
                fill = Fill::Partial;
            }
            folder.due = Some(now);
        }
        if fill != Fill::None {
            w.undrained = true;
        }
        for folder_id in doubtful {
            self.doubts_until(id, &folder_id);
        }
        self.sync_soon(id);
        fill
    }

    /// A notice of the stream's: whether the host is told, as far as sync is concerned.
    pub(super) fn noted(&mut self, id: u64, notice: &Notice) -> bool {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return false };
        if w.tree.is_some() {
            match &notice.target {
                Some(Target::Folder(_)) => return self.noted_folder(id, notice),
                Some(Target::Item(_)) if !self.is_inside(id, notice) => return false,
                _ => {}
            }
        }
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let Some(Target::Item(item)) = &notice.target else { return true };
        if w.folders_known.is_empty() || notice.kind == NoticeKind::FreeBusyChanged {
            return true;
        }
        let here = notice.parent_folder_id.as_ref().map(|f| f.id.as_str());
        let there = notice.old_parent_folder_id.as_ref().map(|f| f.id.as_str());
        let known = || [here, there].into_iter().flatten().filter_map(|f| w.folders_known.get(f));
        // Where sync will not tell it (it, too, may yet move into such a folder), it is told now, if out of step.
        let elsewhere = w.tree.is_none() && w.folders_known.values().any(|f| f.denied);
        if known().any(|f| f.dirty) && known().all(|f| f.fills()) && !elsewhere {
            for folder in [here, there].into_iter().flatten() {
                if let Some(folder) = w.folders_known.get_mut(folder) {
                    folder.dirty = true;
                    folder.broken = true;
                    folder.again = true;
                    folder.due.get_or_insert(now);
                }
            }
            w.undrained = true;
            self.sync_soon(id);
            return false;
        }
        let moved = notice.kind == NoticeKind::Moved;
        let mut unread = false;
        if let (true, Some(Target::Item(old)), Some(from)) =
            (moved, &notice.old_target, there.and_then(|f| w.folders_known.get_mut(f)))
        {
            let old = Digest::of(&old.id);
            let known = from.told.get(old);
            // Sync went on from there when it had left already, if it ever was there while nobody heard of it.
            unread = (known.has(Marks::UNREAD) || from.filled.is_some_and(|filled| left_by(notice, filled)))
                && ![EventKind::NewMail, EventKind::Created].into_iter().any(|kind| known.told_as(kind));
            from.told.mark(old, Marks::SEEN_GONE);
            from.active(now);
        }
        let Some(folder) = here.and_then(|f| w.folders_known.get_mut(f)) else {
            self.sync_soon(id);
            return true;
        };
        let digest = Digest::of(&item.id);
        let known = folder.told.get(digest);
        folder.suspects.retain(|(suspect, _)| *suspect != digest);
        let (marks, tell) = match notice.kind {
            // Once for each kind: what sync has told is not told again.
            NoticeKind::NewMail => (Marks::SEEN_NEW, !known.has(Marks::TOLD_MAIL)),
            NoticeKind::Created => (Marks::SEEN_NEW, !known.has(Marks::TOLD_CREATED)),
            NoticeKind::Copied | NoticeKind::Moved => (Marks::SEEN_NEW, true),
            NoticeKind::Modified => (Marks::SEEN_CHANGE, true),
            NoticeKind::Deleted => (Marks::SEEN_GONE, true),
            NoticeKind::FreeBusyChanged | NoticeKind::Status => return true,
        };
        let told = super::event_kind(notice.kind).filter(|k| tell && w.spec.events.contains(k));
        let marks = if unread { marks.with(Marks::UNREAD) } else { marks };
        if let Some(kind) = told {
            folder.told_new(digest, kind);
        }
        folder.told.mark(digest, told.and_then(Marks::of).map_or(marks, |(told, _)| marks.with(told)));
        folder.active(now);
        if unread {
            // Sync alone tells it, and it may not be there for long.
            folder.due = Some(now);
            folder.again |= folder.in_flight.is_some();
        }
        if folder.denied && folder.told.len() >= MANY {
            // What is remembered for the day when we may sync again does not grow for ever. Gaps say already that nothing fills them.
            let since = whole(self.now.wall);
            let forgotten = folder.begin_at(since);
            if let Some(id_of) = here.map(str::to_owned) {
                self.store_folder(id, &id_of, &forgotten);
            }
        }
        self.sync_soon(id);
        tell
    }

    /// With `since=all`, an item was moved out of a folder before its first reading came to it, into one that may have been read
    /// already: what the host is told of it as new, if it is not told of the move.
    pub(super) fn moved_unread(&mut self, id: u64, notice: &Notice) -> Option<Event> {
        let (NoticeKind::Moved, Some(Target::Item(item)), Some(Target::Item(old))) =
            (notice.kind, &notice.target, &notice.old_target)
        else {
            return None;
        };
        let now = self.now.wall;
        let w = self.watches.get_mut(&id).filter(|w| !w.spec.events.contains(&EventKind::Moved))?;
        let kind =
            [EventKind::NewMail, EventKind::Created].into_iter().find(|k| w.spec.events.contains(k))?;
        let (here, there) = (notice.parent_folder_id.as_ref()?, notice.old_parent_folder_id.as_ref()?);
        let from = w.folders_known.get(&there.id)?;
        let before = from.baseline == Some(SystemTime::UNIX_EPOCH)
            || from.first.is_some_and(|first| left_by(notice, first));
        let was_told = from.told.get(Digest::of(&old.id)).told_as(kind);
        let told = &mut w.folders_known.get_mut(&here.id)?.told;
        let digest = Digest::of(&item.id);
        if !before || was_told || told.get(digest).told_as(kind) {
            return None;
        }
        told.mark(digest, Marks::of(kind)?.0);
        let mut event = Event::new(kind, id, w.spec.mailbox.clone(), now);
        event.origin = Some(Origin::Live);
        event.item_id = Some(item.id.clone());
        event.change_key.clone_from(&item.change_key);
        event.parent_folder_id = Some(here.id.clone());
        Some(event)
    }

    /// Everything that was missed has been handed over, if so.
    pub(super) fn drained(&mut self, id: u64) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let clean = |f: &Folder| !f.dirty && !f.again && f.baseline.is_none();
        // One of many that cannot be synced holds up the others as little as `Drained`.
        let all = w.tree.is_some();
        let done = |f: &Folder| if f.denied { all } else { clean(f) };
        let all_known = w.tree.as_ref().is_none_or(|tree| tree.is_clean());
        if w.undrained && all_known && w.folders_known.values().all(|f| done(f)) {
            // Folders are read one after the other. What moved meanwhile from one into another, only its event tells.
            let since_reading = self.now.mono.saturating_sub(w.read_at);
            if self.caught_up(id).is_some_and(|ago| ago > since_reading) {
                return self.poll_now(id);
            }
            let Some(w) = self.watches.get_mut(&id) else { return };
            w.undrained = false;
            self.end_windows(id);
            self.tell(id, EventKind::Drained, Detail::default());
        }
    }

    /// What sync told and the stream did not: a subscription that has died without a word.
    pub(super) fn look_at_suspects(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        let patience = match w.spec.mode {
            WatchMode::Streaming { .. } => BEHIND,
            WatchMode::Pull { .. } => BEHIND + 2 * w.slowest(),
            // A server that does not reach us tries for so long.
            WatchMode::Push { status_minutes, .. } => BEHIND + Duration::from_secs(60) * status_minutes,
        };
        let since = w.folders_known.values().flat_map(|f| f.suspects.iter().map(|(_, at)| *at)).min();
        let Some(since) = since else { return self.timers.clear(Timer::Suspect(id)) };
        if now < since + patience {
            return self.timers.set(Timer::Suspect(id), since + patience);
        }
        // It may be among what the host had no room for.
        if w.left_there {
            return self.timers.set(Timer::Suspect(id), now + patience);
        }
        let error = Error::new(
            ErrorKind::Server,
            "items are there that the subscription has not told of: it has died without a word",
        );
        w.folders_known.values_mut().for_each(|f| f.suspects.clear());
        self.timers.clear(Timer::Suspect(id));
        self.lost(id, Reason::Missed, &error, true);
    }

    pub(super) fn state_reset(&mut self, id: u64, folder_id: &str, why: &str) {
        let Some(folder) = self.folder(id, folder_id) else { return };
        // What a gap before left to sync is concerned too.
        let certain = folder.certain;
        folder.begin_anew();
        let since = self.certain(id).min(certain);
        self.tell_gap_since(id, since, Reason::StateReset, Some(why.to_owned()), Fill::Partial);
        if let Some(w) = self.watches.get_mut(&id) {
            w.undrained = true;
        }
    }

    /// Makes a checkpoint due: now is a quiet moment.
    pub(super) fn checkpoint_due(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        for folder in w.folders_known.values_mut().filter(|f| f.first_event.is_some() && !f.denied) {
            folder.due = Some(now);
        }
        self.sync_soon(id);
    }
}

impl Folder {
    /// An event came: a checkpoint is due when it gets quiet.
    fn active(&mut self, now: Duration) {
        let first = *self.first_event.get_or_insert(now);
        if self.dirty || self.denied || self.baseline.is_some() {
            return;
        }
        let due = if self.told.len() >= MANY { now } else { (now + QUIET).min(first + LATEST) };
        if self.in_flight.is_none() && self.due.is_none_or(|at| at > now) {
            (self.due, self.survey) = (Some(due), false);
        }
    }
}

/// Whether an item may have moved by then, at a server's time.
fn left_by(notice: &Notice, then: SystemTime) -> bool {
    notice.time_stamp.as_deref().and_then(parse_time).is_none_or(|time| time <= then + SLACK)
}
