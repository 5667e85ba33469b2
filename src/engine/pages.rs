//! The pages of sync: asked for in turns, made into what the host is told, or refused.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, SystemTime};

use super::audit::AUDIT;
use super::catch_up::{BEHIND, SLACK};
use super::doubts::Doubt;
use super::folder::{Digest, Folder, Marks, Reading, whole};
use super::paths::FolderPath;
use super::tell::{TOLD_EVERY, detail, parse_time};
use super::timers::Timer;
use super::verdict::{self, Verdict};
use super::{Call, Engine, Job};
use crate::event::{Fill, Origin};
use crate::proto::{Action, FolderRef, Item, Request, SyncChange, SyncPage, action};
use crate::{Error, ErrorKind, Event, EventKind, Reason};

/// The most that a server gives in a page.
const PAGE: u32 = 512;
/// A page is asked for while fewer events of the watch wait.
const ROOM: usize = 256;
/// Sync calls of a mailbox at a time.
const AT_A_TIME: usize = 5;

impl Engine {
    /// Sees to it that a watch's folders are synced when they are due.
    pub(super) fn sync_soon(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(w) = self.watches.get(&id) else { return };
        let idle = w.folders_known.values().filter(|f| f.listed && f.in_flight.is_none());
        let tree = w.tree.as_ref().filter(|t| t.in_flight.is_none()).and_then(|t| t.due);
        let Some(due) = idle.filter_map(|f| f.due).chain(tree).min() else { return };
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
            match self.turn(id) {
                Some(Turn::Hierarchy) => self.ask_hierarchy(id),
                Some(Turn::Stamps(folders)) => self.ask_stamps(id, folders),
                Some(Turn::Page(folder)) => self.ask_page(id, &folder),
                None => continue,
            }
            self.sync_soon(id);
        }
    }

    /// What a watch asks next, if it is due and there is room for what comes of it.
    fn turn(&mut self, id: u64) -> Option<Turn> {
        let now = self.now.mono;
        let waiting = self.waiting(id);
        let most = ROOM.min(self.settings.queue.events);
        let endpoint = self.watches.get(&id)?.spec.endpoint;
        if let Some(at) = self.gate_shut_for(endpoint, id) {
            self.timers.set(Timer::Sync(id), at);
            return None;
        }
        let w = self.watches.get_mut(&id)?;
        w.subscription.as_ref()?;
        let is_due = |due: Option<Duration>| due.is_some_and(|at| at <= now);
        let tree = w.tree.as_ref().is_some_and(|t| t.in_flight.is_none() && is_due(t.due));
        let idle = w.folders_known.iter().filter(|(_, f)| f.listed && f.in_flight.is_none());
        let page = idle.filter(|(_, f)| is_due(f.due)).min_by_key(|(name, f)| (f.due, *name));
        let page = page.map(|(name, _)| name.clone());
        if !tree && page.is_none() {
            return None;
        }
        if waiting >= most {
            w.starved = true;
            self.end_windows(id);
            return None;
        }
        // The stamps of many folders are one call.
        let calls = w.folders_known.values().filter_map(|f| f.in_flight);
        let calls: BTreeSet<_> = calls.chain(w.tree.as_ref().and_then(|t| t.in_flight)).collect();
        if calls.len() >= AT_A_TIME {
            return None;
        }
        if tree {
            return Some(Turn::Hierarchy);
        }
        let survey = w.to_survey(now);
        match survey.is_empty() {
            true => page.map(Turn::Page),
            false => Some(Turn::Stamps(survey)),
        }
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

    pub(super) fn folder(&mut self, id: u64, folder_id: &str) -> Option<&mut Folder> {
        self.watches.get_mut(&id)?.folders_known.get_mut(folder_id).map(Box::as_mut)
    }

    /// A call is not under way any more.
    pub(super) fn sync_came_back(&mut self, endpoint: u32) {
        let syncs = &mut self.endpoint(endpoint).syncs;
        syncs.in_flight = syncs.in_flight.saturating_sub(1);
        self.dirty_syncs.insert(endpoint);
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
        self.sync_came_back(made.endpoint);
        let Some(folder) = self.folder(id, folder_id).filter(|f| f.in_flight == Some(call)) else { return };
        folder.in_flight = None;
        match result {
            Ok((SyncPage { sync_state: Some(state), includes_last, changes }, date)) => {
                // A server that goes on so for ever is asked more and more slowly.
                let nothing = changes.is_empty() && !includes_last;
                if !nothing {
                    folder.backoff.reset();
                }
                folder.missing = false;
                // Where the server does not tell its time, ours at the question is the nearest.
                let date = date.unwrap_or(made.sent.wall);
                self.page(id, folder_id, state, includes_last, changes, date);
                if nothing {
                    let text = "SyncFolderItems: the server says that there is more, and gives nothing";
                    self.sync_later(id, folder_id, &Error::new(ErrorKind::Protocol, text));
                }
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
        if std::mem::take(&mut folder.denied) {
            folder.dirty = folder.fills();
            if let Some(w) = self.watches.get_mut(&id) {
                w.undrained = true;
            }
        }
        let Some(folder) = self.folder(id, folder_id) else { return };
        let anew = folder.baseline.is_none()
            && changes
                .iter()
                .any(|c| matches!(c, SyncChange::Create(i) if folder.is_newest(Digest::of(&i.id.id))));
        if anew {
            self.state_reset(id, folder_id, "the server tells the folder from its beginning");
        }
        self.tell_doubts(id, folder_id, &changes);
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
            self.store_doubts(id, folder_id);
            self.store_folder(id, folder_id, &[]);
            return self.look_at_suspects(id);
        }
        if let Some(w) = self.watches.get_mut(&id) {
            w.read_at = now.mono;
        }
        let Some(folder) = self.folder(id, folder_id) else { return };
        // A change while the page was on its way may not be in it.
        folder.dirty &= folder.again;
        let again = folder.again;
        let due = if again { Duration::ZERO } else { self.until_audit() };
        let proved = self.watches.get(&id).map_or(now.wall, |w| w.proved);
        let caught_up = self.caught_up(id);
        let Some(folder) = self.folder(id, folder_id) else { return };
        (folder.due, folder.survey) = (Some(now.mono + due), true);
        folder.stamp = folder.next_stamp.take().or(folder.stamp.take());
        if let Some(from) = folder.baseline.take() {
            folder.read = Some(Reading { since: proved, until: now.wall });
            folder.first = (from == SystemTime::UNIX_EPOCH).then_some(date);
        } else if folder.read.is_some_and(|read| proved >= read.until) {
            folder.read = None;
        }
        if folder.broken && !folder.again {
            folder.filled = Some(date);
        }
        folder.broken &= folder.again;
        folder.certain = whole(date);
        folder.first_event = None;
        // The stream may tell late what sync has told.
        let since = now.mono.saturating_sub(folder.forgot);
        let forget = since >= BEHIND && caught_up.is_none_or(|ago| ago <= since);
        if forget {
            folder.forgot = now.mono;
            folder.first = None;
        }
        let forgotten = folder.told.rotate(forget);
        self.doubts_until(id, folder_id);
        self.store_doubts(id, folder_id);
        self.store_folder(id, folder_id, &forgotten);
        self.drained(id);
        self.look_at_suspects(id);
    }

    fn until_audit(&mut self) -> Duration {
        AUDIT.mul_f64(0.9 + 0.2 * self.rng.f64())
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
                    if !folder.broken && asked(Modified) {
                        folder.doubt(Doubt::new(item.id, Modified, item.is_read, now.wall));
                        return None;
                    }
                    if folder.baseline.is_some() || !asked(Modified) {
                        return None;
                    }
                    (Modified, item.id, item.is_read)
                } else if !asked(kind) {
                    return None;
                } else if !folder.broken && marks.has(Marks::SEEN_NEW) && !marks.has(Marks::UNREAD) {
                    folder.doubt(Doubt::new(item.id, kind, item.is_read, now.wall));
                    return None;
                } else {
                    let told = if kind == NewMail { Marks::TOLD_MAIL } else { Marks::TOLD_CREATED };
                    folder.told.mark(digest, told);
                    // What was missed, or read by dates, need not have been told: but what came after that was to be.
                    let due = match folder.baseline {
                        None => !folder.broken,
                        Some(_) => dated(&item) > w.streamed + SLACK,
                    };
                    if due && live && !marks.has(Marks::SEEN_NEW) {
                        folder.suspects.push((digest, now.mono));
                    }
                    (kind, item.id, item.is_read)
                }
            }
            SyncChange::Update(_) | SyncChange::ReadFlagChange { .. } if folder.baseline.is_some() => {
                return None;
            }
            SyncChange::ReadFlagChange { is_read: true, .. } if marks.has(Marks::OWN_READ) => return None,
            SyncChange::Update(_) | SyncChange::ReadFlagChange { .. } if !asked(Modified) => return None,
            SyncChange::Update(Item { id, .. }) | SyncChange::ReadFlagChange { id, .. }
                if !folder.broken && folder.told.recent(digest).has(Marks::SEEN_CHANGE) =>
            {
                folder.doubt(Doubt::new(id, Modified, None, now.wall));
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
        // Public folders cannot be synced, in whatever words a server says so.
        let public = self.watches.get(&id).is_some_and(|w| w.spec.folders.iter().any(FolderPath::is_public));
        let denied =
            verdict.denies_sync() || (public && error.code().is_some() && !verdict::throttles(error));
        if verdict == Verdict::FolderGone {
            let chosen = self.watches.get(&id).is_some_and(|w| w.tree.is_none());
            // One that was synced is gone; one that never was may be of a kind that cannot be synced.
            if chosen && self.folder(id, folder_id).is_some_and(|f| f.state.is_some()) {
                return self.folder_gone(id, error);
            }
            if self.may_be_dropped(id, folder_id) {
                return;
            }
        }
        if !denied {
            return self.sync_later(id, folder_id, error);
        }
        let audit = self.until_audit();
        let Some(w) = self.watches.get_mut(&id) else { return };
        let undrained = w.undrained;
        let Some(folder) = w.folders_known.get_mut(folder_id) else { return };
        let was_dirty = folder.dirty || (undrained && folder.baseline.is_some() && folder.broken);
        let before = std::mem::replace(&mut folder.denied, true);
        let certain = folder.certain;
        (folder.dirty, folder.again, folder.broken) = (false, false, true);
        // Somebody may give us the right.
        folder.due = Some(now + audit);
        if before {
            return;
        }
        let mut told = detail(error, None);
        told.message =
            Some(format!("the server does not let us catch up: {error}; what is missed will stay missed"));
        self.tell(id, EventKind::Error, told);
        if was_dirty {
            let since = self.certain(id).min(certain);
            self.tell_gap_since(id, since, Reason::Denied, Some(error.to_string()), Fill::None);
        }
        self.drained(id);
    }

    /// After a failure that may pass.
    fn sync_later(&mut self, id: u64, folder_id: &str, error: &Error) {
        let wait = self.sync_wait(id, folder_id, error);
        let now = self.now.mono;
        let Some(folder) = self.folder(id, folder_id) else { return };
        folder.due = Some(now + wait);
        let failures = folder.backoff.failures();
        if failures == 3 || failures.is_multiple_of(TOLD_EVERY) {
            let mut detail = detail(error, None);
            detail.retry_ms = Some(wait.as_millis() as u64);
            detail.message =
                Some(format!("catching up fails: {error} (failure {failures} in a row, it is tried again)"));
            self.tell(id, EventKind::Error, detail);
        }
    }

    fn sync_wait(&mut self, id: u64, folder_id: &str, error: &Error) -> Duration {
        let asked = error.retry_after().max(verdict::least_wait(error.code()).map(Duration::from_secs));
        let mut rng = self.rng.fork();
        self.folder(id, folder_id).map_or(Duration::ZERO, |f| f.backoff.next(&mut rng, asked))
    }
}

/// What a watch asks next.
enum Turn {
    /// Which folders there are.
    Hierarchy,
    /// Which of these have changed.
    Stamps(Vec<String>),
    /// What has changed in this one.
    Page(String),
}

/// The sync calls of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Watches that have a folder that is due.
    ready: BTreeSet<u64>,
    /// The watch that was served last.
    last: u64,
    pub in_flight: usize,
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

/// The later of the two dates; for one without dates the end of time, so that it is told rather than lost.
fn dated(item: &Item) -> SystemTime {
    let times = [&item.created, &item.received].into_iter().flatten().filter_map(|t| parse_time(t)).max();
    times.unwrap_or_else(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40))
}
