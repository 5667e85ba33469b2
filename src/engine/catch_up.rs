//! Catch-up: what sync is asked for when, and what of its answers the host is told.
//!
//! Events are hints, sync is the truth. A folder is synced at the start (its *baseline*, which tells nothing old), after every
//! gap, in quiet moments (a *checkpoint*), and hourly, since a subscription can die without a word. By item id, both ways:
//! what the stream told is not told again by sync, and what sync told first is not told again by the stream.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, SystemTime};

use super::folder::{Digest, Folder, Marks};
use super::tell::{TOLD_EVERY, detail, parse_time};
use super::timers::Timer;
use super::verdict::{self, Verdict};
use super::{Call, Engine, Job, WatchMode};
use crate::event::{Detail, Fill, Origin};
use crate::proto::{
    Action, FolderRef, Item, Notice, NoticeKind, Request, SyncChange, SyncPage, Target, action,
};
use crate::{Error, ErrorKind, Event, EventKind, Reason};

/// The most that a server gives in a page.
const PAGE: u32 = 512;
/// A page is asked for while fewer events of the watch wait.
const ROOM: usize = 256;
/// Sync calls of a mailbox at a time.
const AT_A_TIME: usize = 5;
/// A checkpoint comes so long after the last event, but not later than so long after the first one.
const QUIET: Duration = Duration::from_secs(30);
const LATEST: Duration = Duration::from_secs(300);
/// So many items that were told of make a checkpoint due at once.
const MANY: usize = 10_000;
const AUDIT: Duration = Duration::from_secs(3600);
/// How long the stream may be behind sync before it counts as dead.
const BEHIND: Duration = Duration::from_secs(60);

impl Engine {
    /// A subscription stands: its folders can be synced from now on. `since` is the server's time at Subscribe.
    pub(super) fn begin_catch_up(&mut self, id: u64, since: SystemTime) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        if !w.spec.catch_up {
            return;
        }
        let since = if w.spec.since_all { SystemTime::UNIX_EPOCH } else { since };
        let mut restored = false;
        let watched = &w.folder_ids;
        w.folders_known.retain(|id, _| watched.contains(id));
        for folder_id in w.folder_ids.clone() {
            if w.folders_known.contains_key(&folder_id) {
                continue;
            }
            let folder = match w.stored.take(&folder_id) {
                Some(folder) => {
                    restored = true;
                    folder
                }
                None => Folder::new(since),
            };
            w.folders_known.insert(folder_id, folder);
        }
        // What is not acknowledged was told, and may be behind the last checkpoint.
        for open in self.opens.by_ticket.values().filter(|o| o.event.watch == id) {
            let folder = open.event.parent_folder_id.as_ref().and_then(|f| w.folders_known.get_mut(f));
            let told = Marks::of(open.event.kind);
            if let (Some(folder), Some(item), Some((told, _))) = (folder, &open.event.item_id, told) {
                folder.told.mark(Digest::of(item), told);
            }
        }
        for folder in w.folders_known.values_mut() {
            folder.due.get_or_insert(now);
        }
        for folder_id in w.folder_ids.clone() {
            // From here on nothing is lost, also if we are killed before the first page has come.
            self.store_folder(id, &folder_id, &[]);
        }
        let Some(w) = self.watches.get_mut(&id) else { return };
        if restored {
            let certain = w.folders_known.values().map(|f| f.certain).min();
            w.certain = certain.unwrap_or(w.certain).min(w.certain);
            self.tell_gap(id, Reason::Restarted, None);
        }
        self.sync_soon(id);
    }

    /// Whether what may have been missed now will be told by sync; makes it due.
    pub(super) fn fill_gap(&mut self, id: u64) -> Fill {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return Fill::None };
        if w.folders_known.is_empty() {
            return Fill::None;
        }
        let mut fill = Fill::Pending;
        for folder in w.folders_known.values_mut() {
            folder.broken = true;
            folder.again = true;
            folder.suspects.clear();
            if folder.denied {
                fill = Fill::None;
                continue;
            }
            if folder.fills() {
                folder.dirty = true;
            } else if fill == Fill::Pending {
                fill = Fill::Partial;
            }
            folder.due = Some(now);
        }
        if fill != Fill::None {
            w.undrained = true;
        }
        self.sync_soon(id);
        fill
    }

    /// A notice of the stream's: whether the host is told, as far as sync is concerned.
    pub(super) fn noted(&mut self, id: u64, notice: &Notice) -> bool {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let Some(Target::Item(item)) = &notice.target else { return true };
        if w.folders_known.is_empty() || notice.kind == NoticeKind::FreeBusyChanged {
            return true;
        }
        let here = notice.parent_folder_id.as_ref().map(|f| f.id.as_str());
        let there = notice.old_parent_folder_id.as_ref().map(|f| f.id.as_str());
        let touched: Vec<&str> = here.into_iter().chain(there).collect();
        let known: Vec<&Folder> = touched.iter().filter_map(|f| w.folders_known.get(*f)).collect();
        // Where sync will not tell it (the other end of a move may be such a folder), it is told now, if out of step.
        if known.iter().any(|f| f.dirty) && known.iter().all(|f| f.fills()) {
            for folder in touched {
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
            unread = from.baseline == Some(SystemTime::UNIX_EPOCH)
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
        folder.told.mark(digest, told.and_then(Marks::of).map_or(marks, |(told, _)| marks.with(told)));
        folder.active(now);
        self.sync_soon(id);
        tell
    }

    /// Sees to it that a watch's folders are synced when they are due.
    pub(super) fn sync_soon(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(w) = self.watches.get(&id) else { return };
        let Some(due) =
            w.folders_known.values().filter(|f| f.in_flight.is_none()).filter_map(|f| f.due).min()
        else {
            return;
        };
        if due <= now {
            let endpoint = w.spec.endpoint;
            self.endpoint(endpoint).syncs.ready.insert(id);
            self.dirty_syncs.insert(endpoint);
        // A later time needs no timer: the earlier one looks again.
        } else if self.timers.get(Timer::Sync(id)).is_none_or(|at| due < at) {
            self.timers.set(Timer::Sync(id), due);
        }
    }

    /// Asks for as many pages as may be under way, in turns of the watches.
    pub(super) fn pump_syncs(&mut self, endpoint: u32) {
        if self.closing || self.endpoint(endpoint).syncs.ready.is_empty() {
            return;
        }
        if let Some(at) = self.gate_shut(endpoint) {
            return self.timers.set(Timer::Syncs(endpoint), at);
        }
        let most = self.settings.syncs.max(1);
        loop {
            let syncs = &mut self.endpoint(endpoint).syncs;
            if syncs.in_flight >= most {
                return;
            }
            let Some(id) = syncs.next() else { return };
            let Some(folder) = self.due_folder(id) else { continue };
            self.ask_page(id, &folder);
            self.sync_soon(id);
        }
    }

    /// The watch's folder whose turn it is, if there is one, and room for what comes of it.
    fn due_folder(&mut self, id: u64) -> Option<String> {
        let now = self.now.mono;
        let waiting = self.waiting(id);
        let most = ROOM.min(self.settings.queue.events);
        let w = self.watches.get_mut(&id)?;
        w.subscription.as_ref()?;
        let under_way = w.folders_known.values().filter(|f| f.in_flight.is_some()).count();
        let idle = w.folders_known.iter().filter(|(_, f)| f.in_flight.is_none());
        let due = idle.filter_map(|(name, f)| Some((f.due?, name)));
        let (_, name) = due.filter(|(due, _)| *due <= now).min()?;
        if waiting >= most {
            w.starved = true;
            return None;
        }
        (under_way < AT_A_TIME).then(|| name.clone())
    }

    fn ask_page(&mut self, id: u64, folder_id: &str) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let endpoint = w.spec.endpoint;
        let Some(folder) = w.folders_known.get_mut(folder_id) else { return };
        folder.due = None;
        folder.again = false;
        let request = Request::SyncFolderItems {
            folder: FolderRef::Id(folder_id.to_owned()),
            sync_state: folder.state.clone(),
            max_changes: PAGE,
        };
        self.endpoint(endpoint).syncs.in_flight += 1;
        let call = self.call(id, Job::Sync(folder_id.to_owned()), request);
        if let Some(folder) = self.folder(id, folder_id) {
            folder.in_flight = Some(call);
        }
    }

    fn folder(&mut self, id: u64, folder_id: &str) -> Option<&mut Folder> {
        self.watches.get_mut(&id)?.folders_known.get_mut(folder_id)
    }

    /// A page came, or did not.
    pub(super) fn synced(
        &mut self,
        call: super::CallId,
        made: &Call,
        folder_id: &str,
        result: Result<(SyncPage, Option<SystemTime>), Error>,
    ) {
        let id = made.watch;
        let syncs = &mut self.endpoint(made.endpoint).syncs;
        syncs.in_flight = syncs.in_flight.saturating_sub(1);
        self.dirty_syncs.insert(made.endpoint);
        let Some(folder) = self.folder(id, folder_id).filter(|f| f.in_flight == Some(call)) else { return };
        folder.in_flight = None;
        match result {
            Ok((SyncPage { sync_state: Some(state), includes_last, changes }, date)) => {
                folder.backoff.reset();
                // Where the server does not tell its time, ours at the question is the nearest.
                let date = date.unwrap_or(made.sent.wall);
                self.page(id, folder_id, state, includes_last, changes, date);
            }
            Ok(_) => {
                let error = Error::new(ErrorKind::Protocol, "the answer to SyncFolderItems has no SyncState");
                self.sync_failed(id, made, folder_id, &error);
            }
            Err(error) => self.sync_failed(id, made, folder_id, &error),
        }
        self.sync_soon(id);
    }

    fn page(
        &mut self,
        id: u64,
        folder_id: &str,
        state: String,
        last: bool,
        changes: Vec<SyncChange>,
        date: SystemTime,
    ) {
        let now = self.now;
        let Some(folder) = self.folder(id, folder_id) else { return };
        let anew = folder.baseline.is_none()
            && changes
                .iter()
                .any(|c| matches!(c, SyncChange::Create(i) if folder.is_newest(Digest::of(&i.id.id))));
        if anew {
            self.state_reset(id, folder_id, "the server tells the folder from its beginning");
        }
        let mut new = Vec::new();
        // Oldest first within a page.
        for change in changes.into_iter().rev() {
            if let SyncChange::Create(item) = &change {
                new.push(Digest::of(&item.id.id));
            }
            if let Some(event) = self.sync_event(id, folder_id, change) {
                self.hand_out(id, event);
            }
        }
        let Some(folder) = self.folder(id, folder_id) else { return };
        folder.synced_new(&new, last);
        folder.state = Some(state);
        if !last {
            folder.due = Some(now.mono);
            return self.store_folder(id, folder_id, &[]);
        }
        // A change while the page was on its way may not be in it.
        folder.dirty &= folder.again;
        let due = match folder.again {
            true => Duration::ZERO,
            false => AUDIT.mul_f64(0.9 + 0.2 * self.rng.f64()),
        };
        let Some(folder) = self.folder(id, folder_id) else { return };
        folder.due = Some(now.mono + due);
        folder.baseline = None;
        folder.broken &= folder.again;
        folder.certain = date;
        folder.first_event = None;
        // The stream may tell late what sync has told.
        let forget = now.mono.saturating_sub(folder.forgot) >= BEHIND;
        if forget {
            folder.forgot = now.mono;
        }
        let forgotten = folder.told.rotate(forget);
        self.store_folder(id, folder_id, &forgotten);
        self.drained(id);
        self.look_at_suspects(id);
    }

    /// What the host is told of a change, if anything.
    fn sync_event(&mut self, id: u64, folder_id: &str, change: SyncChange) -> Option<Event> {
        use EventKind::{Created, Deleted, Modified, NewMail};
        let now = self.now;
        let w = self.watches.get_mut(&id)?;
        let live = w.connected.is_some();
        let asked = |kind| w.spec.events.contains(&kind);
        let folder = w.folders_known.get_mut(folder_id)?;
        let digest = Digest::of(match &change {
            SyncChange::Create(item) | SyncChange::Update(item) => &item.id.id,
            SyncChange::Delete(id) | SyncChange::ReadFlagChange { id, .. } => &id.id,
        });
        let marks = folder.told.get(digest);
        let (kind, item, is_read) = match change {
            SyncChange::Create(item) => {
                if folder.baseline.is_some_and(|since| dated(&item) < since) {
                    return None;
                }
                let mail = !item.is_draft.unwrap_or(false);
                let kind = if mail && asked(NewMail) { NewMail } else { Created };
                if marks.told_as(kind) {
                    // It may have changed where nobody saw it.
                    if !folder.broken || folder.baseline.is_some() || !asked(Modified) {
                        return None;
                    }
                    (Modified, item.id, item.is_read)
                } else if !asked(kind)
                    || (!folder.broken && marks.has(Marks::SEEN_NEW) && !marks.has(Marks::UNREAD))
                {
                    return None;
                } else {
                    let told = if kind == NewMail { Marks::TOLD_MAIL } else { Marks::TOLD_CREATED };
                    folder.told.mark(digest, told);
                    let behind = !marks.has(Marks::SEEN_NEW);
                    if !folder.broken && folder.baseline.is_none() && live && behind {
                        folder.suspects.push((digest, now.mono));
                    }
                    (kind, item.id, item.is_read)
                }
            }
            SyncChange::Update(_) | SyncChange::ReadFlagChange { .. } if folder.baseline.is_some() => {
                return None;
            }
            SyncChange::Update(_) | SyncChange::ReadFlagChange { .. }
                if !asked(Modified)
                    || (!folder.broken && folder.told.recent(digest).has(Marks::SEEN_CHANGE)) =>
            {
                return None;
            }
            SyncChange::Update(item) => (Modified, item.id, item.is_read),
            SyncChange::ReadFlagChange { id, is_read } => (Modified, id, Some(is_read)),
            SyncChange::Delete(_)
                if folder.baseline.is_some() || !asked(Deleted) || marks.has(Marks::SEEN_GONE) =>
            {
                return None;
            }
            SyncChange::Delete(id) => {
                folder.told.mark(digest, Marks::SEEN_GONE);
                (Deleted, id, None)
            }
        };
        let mut event = Event::new(kind, id, w.spec.mailbox.clone(), now.wall);
        event.origin = Some(Origin::CatchUp);
        event.item_id = Some(item.id);
        event.change_key = item.change_key;
        event.parent_folder_id = Some(folder_id.to_owned());
        event.is_read = is_read;
        Some(event)
    }

    /// Everything that was missed has been handed over, if so.
    fn drained(&mut self, id: u64) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let clean = |f: &Folder| !f.denied && !f.dirty && !f.again && f.baseline.is_none();
        if w.undrained && w.folders_known.values().all(clean) {
            w.undrained = false;
            self.tell(id, EventKind::Drained, Detail::default());
        }
    }

    /// What sync told and the stream did not: a subscription that has died without a word.
    pub(super) fn look_at_suspects(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        let patience = match w.spec.mode {
            WatchMode::Streaming { .. } => BEHIND,
            WatchMode::Pull { interval, .. } => BEHIND + 2 * interval,
        };
        let since = w.folders_known.values().flat_map(|f| f.suspects.iter().map(|(_, at)| *at)).min();
        let Some(since) = since else { return self.timers.clear(Timer::Suspect(id)) };
        if now < since + patience {
            return self.timers.set(Timer::Suspect(id), since + patience);
        }
        let error = Error::new(
            ErrorKind::Server,
            "items are there that the subscription has not told of: it has died without a word",
        );
        w.folders_known.values_mut().for_each(|f| f.suspects.clear());
        self.timers.clear(Timer::Suspect(id));
        self.lost(id, Reason::Missed, &error, true);
    }

    fn state_reset(&mut self, id: u64, folder_id: &str, why: &str) {
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

    fn sync_failed(&mut self, id: u64, made: &Call, folder_id: &str, error: &Error) {
        let now = self.now.mono;
        let code = error.code().unwrap_or_default();
        if !code.is_empty() && action(code) == Action::DropSyncState {
            let Some(folder) = self.folder(id, folder_id) else { return };
            let wait = match folder.state.is_some() {
                true => Duration::ZERO,
                // A folder that refuses even its beginning is not asked in a hurry.
                false => self.sync_wait(id, folder_id, error),
            };
            if self.folder(id, folder_id).is_some_and(|f| f.baseline.is_none()) {
                self.state_reset(id, folder_id, &error.to_string());
            }
            let Some(folder) = self.folder(id, folder_id) else { return };
            folder.state = None;
            folder.due = Some(now + wait);
            return;
        }
        let verdict = verdict::of_error(error);
        if verdict == Verdict::LowerVersion && self.lower_version(made.endpoint, made.version) {
            if let Some(folder) = self.folder(id, folder_id) {
                folder.due = Some(now);
            }
            return;
        }
        let denied = matches!(
            verdict,
            Verdict::Stop
                | Verdict::LowerVersion
                | Verdict::FolderGone
                | Verdict::ItemGone
                | Verdict::ItemUnreadable
                | Verdict::Resubscribe
        );
        let wait = self.sync_wait(id, folder_id, error);
        let Some(w) = self.watches.get_mut(&id) else { return };
        let undrained = w.undrained;
        let Some(folder) = w.folders_known.get_mut(folder_id) else { return };
        if !denied {
            folder.due = Some(now + wait);
            let failures = folder.backoff.failures();
            if failures == 3 || failures.is_multiple_of(TOLD_EVERY) {
                let mut detail = detail(error, None);
                detail.retry_ms = Some(wait.as_millis() as u64);
                detail.message = Some(format!(
                    "catching up fails: {error} (failure {failures} in a row, it is tried again)"
                ));
                self.tell(id, EventKind::Error, detail);
            }
            return;
        }
        let was_dirty = folder.dirty || (undrained && folder.baseline.is_some() && folder.broken);
        folder.denied = true;
        let certain = folder.certain;
        (folder.dirty, folder.again, folder.due) = (false, false, None);
        let mut told = detail(error, None);
        told.message =
            Some(format!("the server does not let us catch up: {error}; what is missed will stay missed"));
        self.tell(id, EventKind::Error, told);
        if was_dirty {
            let since = self.certain(id).min(certain);
            self.tell_gap_since(id, since, Reason::Denied, Some(error.to_string()), Fill::None);
        }
    }

    fn sync_wait(&mut self, id: u64, folder_id: &str, error: &Error) -> Duration {
        let asked = error.retry_after().max(verdict::least_wait(error.code()).map(Duration::from_secs));
        let mut rng = self.rng.fork();
        self.folder(id, folder_id).map_or(Duration::ZERO, |f| f.backoff.next(&mut rng, asked))
    }

    /// Makes a checkpoint due: now is a quiet moment.
    pub(super) fn checkpoint_due(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        for folder in w.folders_known.values_mut().filter(|f| f.first_event.is_some()) {
            folder.due = Some(now);
        }
        self.sync_soon(id);
    }
}

/// The sync calls of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Watches that have a folder that is due.
    ready: BTreeSet<u64>,
    /// The watch that was served last.
    last: u64,
    in_flight: usize,
}

impl Syncs {
    /// The watches in turn.
    fn next(&mut self) -> Option<u64> {
        let after = self.ready.range((Bound::Excluded(self.last), Bound::Unbounded)).next();
        let watch = *after.or_else(|| self.ready.first())?;
        self.ready.remove(&watch);
        self.last = watch;
        Some(watch)
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
            self.due = Some(due);
        }
    }
}

/// The later of the two dates; for one without dates the end of time, so that it is told rather than lost.
fn dated(item: &Item) -> SystemTime {
    let times = [&item.created, &item.received].into_iter().flatten().filter_map(|t| parse_time(t)).max();
    times.unwrap_or_else(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40))
}
