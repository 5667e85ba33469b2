//! Which folders there are, where a watch is of all of them: SyncFolderHierarchy of everything below the folder that people
//! see as the mailbox's top.
//!
//! Search folders are no folders here: they only repeat what happens elsewhere. An event of a folder that is not known (it may
//! be new, a search folder, or hidden) is told, and the hierarchy is asked: if it does not know the folder either, nothing of
//! it is told from then on.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::audit::AUDIT;
use super::backoff::Backoff;
use super::catch_up::BEHIND;
use super::folder::{Digest, Folder, Marks, Told, from_seconds, seconds};
use super::tell::{TOLD_EVERY, detail};
use super::verdict::{self, Verdict};
use super::{Call, CallId, Engine, Job};
use crate::event::{Detail, Fill, Origin};
use crate::proto::{Action, FolderChange, FolderRef, HierarchyPage, Id, Request, action};
use crate::{Error, ErrorKind, Event, EventKind, Reason};

/// The top of the folders that people see.
const TOP: &str = "msgfolderroot";
/// The hierarchy is asked so long after an event of a folder: one deed makes several.
const SOON: Duration = Duration::from_secs(1);
/// So many folders that are none of the watch's are remembered.
const OUTSIDE: usize = 1000;
/// More changes than this in one answer, over all its pages, are no hierarchy.
const MOST: usize = 1_000_000;

/// What is known of the folders' hierarchy.
#[derive(Debug)]
pub(super) struct Tree {
    /// `SyncState` of the last page of the last round.
    state: Option<String>,
    /// Whether the folders were listed once: what is new since is read from its first item on.
    pub known: bool,
    /// What is dated from then on is told of folders that were there from the beginning.
    pub since: SystemTime,
    /// As stored: no folder is less certain.
    pub certain: SystemTime,
    /// It is to be asked before a gap is filled.
    pub dirty: bool,
    /// Something was missed since the last round, so what the stream said is not all there was.
    broken: bool,
    /// What the round under way tells may be old already.
    pub again: bool,
    pub in_flight: Option<CallId>,
    /// When it is asked, monotonic; `None` while it is under way.
    pub due: Option<Duration>,
    round: Option<Round>,
    backoff: Backoff,
    pub denied: bool,
    /// When what was told was forgotten last.
    forgot: Duration,
    /// Folders that events spoke of and the hierarchy does not.
    pub outside: BTreeSet<Digest>,
    /// What the stream and the hierarchy said of the folders themselves.
    pub told: Told,
}

/// Pages that are asked for one after another.
#[derive(Debug)]
struct Round {
    /// Whether all folders are told, and not only what has changed.
    whole: bool,
    state: Option<String>,
    changes: Vec<FolderChange>,
    /// The folders that only events had spoken of when it began.
    heard: Vec<String>,
}

/// What the store keeps of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TreeRecord {
    state: Option<String>,
    known: bool,
    /// Seconds since 1970.
    since: u64,
    certain: u64,
    /// How many folders it goes with.
    folders: usize,
    outside: Vec<String>,
}

impl Tree {
    fn new(since: SystemTime) -> Tree {
        Tree {
            state: None,
            known: false,
            since,
            certain: SystemTime::UNIX_EPOCH,
            dirty: true,
            broken: false,
            again: false,
            in_flight: None,
            due: None,
            round: None,
            backoff: Backoff::default(),
            denied: false,
            forgot: Duration::ZERO,
            outside: BTreeSet::new(),
            told: Told::default(),
        }
    }

    /// `folders`: how many are left of those that it goes with.
    fn restored(record: &TreeRecord, folders: usize) -> Tree {
        let mut tree = Tree::new(from_seconds(record.since));
        if folders == record.folders {
            tree.state.clone_from(&record.state);
            tree.known = record.known;
        } else {
            // What the hierarchy told once it does not tell again.
            tree.since = tree.since.max(from_seconds(record.certain));
        }
        tree.certain = from_seconds(record.certain);
        tree.outside = record.outside.iter().filter_map(|hex| Digest::parse(hex)).collect();
        tree
    }

    /// `folders`: how many there are, and up to when all are `certain`.
    pub fn record(&self, folders: usize, certain: Option<SystemTime>) -> TreeRecord {
        TreeRecord {
            state: self.state.clone(),
            known: self.known,
            since: seconds(self.since),
            certain: seconds(certain.unwrap_or(SystemTime::UNIX_EPOCH)),
            folders,
            outside: self.outside.iter().map(|d| d.hex()).collect(),
        }
    }

    /// Whether there may be folders that are not known.
    pub fn is_behind(&self) -> bool {
        self.dirty && !self.denied
    }

    /// Whether all folders are known.
    pub fn is_clean(&self) -> bool {
        self.known && !self.dirty && !self.denied
    }

    /// Something may have been missed. What of it will be filled, as far as new folders are concerned.
    pub fn missed(&mut self, now: Duration) -> Fill {
        if self.denied {
            return Fill::None;
        }
        (self.dirty, self.broken, self.again) = (true, true, true);
        self.due = Some(now);
        if self.known { Fill::Pending } else { Fill::Partial }
    }

    /// An event has spoken of a change.
    pub fn soon(&mut self, now: Duration) {
        self.again = true;
        if !self.denied {
            self.due = Some(self.due.map_or(now + SOON, |due| due.min(now + SOON)));
        }
    }

    /// A folder is none of the watch's.
    fn keep_out(&mut self, folder: Digest) {
        if self.outside.len() >= OUTSIDE {
            self.outside.clear();
        }
        self.outside.insert(folder);
    }
}

impl Engine {
    /// Takes up what is stored of all folders, once, and makes the hierarchy due. Whether something was stored.
    pub(super) fn take_up_tree(&mut self, id: u64, since: SystemTime) -> bool {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let mut restored = false;
        let tree = w.tree.get_or_insert_with(|| {
            w.folders_known = w.stored.take_all();
            let record = w.stored.tree.take();
            restored = record.is_some() || !w.folders_known.is_empty();
            let listed = w.folders_known.values().filter(|f| f.listed).count();
            Box::new(record.map_or_else(|| Tree::new(since), |record| Tree::restored(&record, listed)))
        });
        if !tree.denied {
            tree.due = Some(now);
        }
        self.store_tree(id);
        restored
    }

    /// Asks which folders there are now.
    pub(super) fn ask_hierarchy(&mut self, id: u64) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let endpoint = w.spec.endpoint;
        let Some(tree) = &mut w.tree else { return };
        tree.due = None;
        let round = tree.round.get_or_insert_with(|| {
            tree.again = false;
            let heard = w.folders_known.iter().filter(|(_, f)| !f.listed).map(|(id, _)| id.clone());
            Round {
                whole: tree.state.is_none(),
                state: tree.state.clone(),
                changes: Vec::new(),
                heard: heard.collect(),
            }
        });
        let root = FolderRef::Distinguished { name: TOP.to_owned(), mailbox: None };
        let request = Request::SyncFolderHierarchy { root, sync_state: round.state.clone() };
        self.endpoint(endpoint).syncs.in_flight += 1;
        let call = self.call(id, Job::Hierarchy, request);
        if let Some(tree) = self.tree(id) {
            tree.in_flight = Some(call);
        }
    }

    fn tree(&mut self, id: u64) -> Option<&mut Tree> {
        self.watches.get_mut(&id)?.tree.as_deref_mut()
    }

    /// A page of the hierarchy came, or did not.
    pub(super) fn hierarchy_came(
        &mut self,
        call: CallId,
        made: &Call,
        result: Result<(HierarchyPage, Option<SystemTime>), Error>,
    ) {
        let (id, now) = (made.watch, self.now.mono);
        self.sync_came_back(made.endpoint);
        let Some(tree) = self.tree(id).filter(|t| t.in_flight == Some(call)) else { return };
        tree.in_flight = None;
        let page = result.and_then(|(page, date)| {
            let Some(state) = page.sync_state else {
                let text = "the answer to SyncFolderHierarchy has no SyncState";
                return Err(Error::new(ErrorKind::Protocol, text));
            };
            let held = tree.round.as_ref().map_or(0, |r| r.changes.len());
            if held + page.changes.len() > MOST {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("the server tells of more than {MOST} folders"),
                ));
            }
            Ok((state, page.includes_last, page.changes, date))
        });
        match (page, &mut tree.round) {
            (Ok((state, false, changes, _)), Some(round)) => {
                round.state = Some(state);
                round.changes.extend(changes);
                tree.due = Some(now);
            }
            (Ok((state, true, changes, date)), round) => {
                tree.backoff.reset();
                if let Some(mut round) = round.take() {
                    round.changes.extend(changes);
                    self.listed(id, state, round, date.unwrap_or(made.sent.wall));
                }
            }
            (Ok(_), None) => {}
            (Err(error), _) => self.hierarchy_failed(id, made, &error),
        }
        self.sync_soon(id);
    }

    /// All pages of a round are here.
    fn listed(&mut self, id: u64, state: String, round: Round, date: SystemTime) {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return };
        let Some(tree) = &mut w.tree else { return };
        let folders = &w.folders_known;
        let is_listed = |id: &str| folders.get(id).is_some_and(|f| f.listed);
        let repeats = |c: &FolderChange| matches!(c, FolderChange::Create(f) if is_listed(&f.id.id));
        if !round.whole && round.changes.iter().any(repeats) {
            // It has begun anew without a word. What is left out is gone only where all is sure to be told.
            (tree.state, tree.due) = (None, Some(now));
            return;
        }
        let first = !tree.known;
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        let (mut here, mut above) = (BTreeSet::new(), BTreeSet::new());
        for change in round.changes {
            match change {
                FolderChange::Create(folder) | FolderChange::Update(folder) if folder.is_search() => {
                    tree.keep_out(Digest::of(&folder.id.id));
                }
                FolderChange::Create(folder) | FolderChange::Update(folder) => {
                    tree.outside.remove(&Digest::of(&folder.id.id));
                    here.insert(folder.id.id.clone());
                    above.extend(folder.parent_id.as_ref().map(|p| p.id.clone()));
                    found.push(folder);
                }
                FolderChange::Delete(folder) => gone.push(folder),
            }
        }
        // The top is not among those below it; there may be items in it all the same.
        let top = above.difference(&here).filter(|id| round.whole && !is_listed(id)).cloned();
        let top: Vec<String> = top.collect();
        if round.whole {
            let left =
                folders.iter().filter(|(id, f)| f.listed && !here.contains(*id) && !above.contains(*id));
            gone.extend(left.map(|(id, _)| Id { id: id.clone(), change_key: None }));
        }
        let since = if first { tree.since } else { SystemTime::UNIX_EPOCH };
        for folder in top {
            self.list_folder(id, &folder, since, date);
        }
        for folder in found {
            let known = !self.list_folder(id, &folder.id.id, since, date);
            // What is known and told anew has not changed, for all we know.
            if !(first || known && round.whole) {
                let kind = if known { EventKind::Modified } else { EventKind::Created };
                self.folder_found(id, kind, folder.id, folder.parent_id);
            }
        }
        for folder in gone {
            if self.drop_folder(id, &folder.id) && !first {
                self.folder_found(id, EventKind::Deleted, folder, None);
            }
        }
        self.round_over(id, state, &round.heard);
    }

    /// A folder is one of the watch's. Whether that is new.
    fn list_folder(&mut self, id: u64, folder_id: &str, since: SystemTime, date: SystemTime) -> bool {
        let now = self.now.mono;
        let Some(w) = self.watches.get_mut(&id) else { return false };
        let folder = w.folders_known.entry(folder_id.to_owned()).or_insert_with(|| {
            let certain = if since == SystemTime::UNIX_EPOCH { date } else { since };
            Box::new(Folder::heard_of(since, certain))
        });
        let new = !std::mem::replace(&mut folder.listed, true);
        if new {
            (folder.due, folder.survey) = (Some(now), true);
            self.store_folder(id, folder_id, &[]);
        }
        new
    }

    /// A folder is none of the watch's any more. Whether it was one.
    fn drop_folder(&mut self, id: u64, folder_id: &str) -> bool {
        let folder = self.watches.get_mut(&id).and_then(|w| w.folders_known.remove(folder_id));
        if let Some(folder) = &folder {
            self.unstore_folder(id, folder_id, folder);
        }
        folder.is_some()
    }

    /// What became of a folder, which the stream may have told.
    fn folder_found(&mut self, id: u64, kind: EventKind, folder: Id, parent: Option<Id>) {
        let now = self.now.wall;
        let Some(w) = self.watches.get_mut(&id) else { return };
        let Some(tree) = &mut w.tree else { return };
        let digest = Digest::of(&folder.id);
        let known = tree.told.get(digest);
        let tell = match kind {
            EventKind::Created => !known.has(Marks::SEEN_NEW),
            EventKind::Deleted => !known.has(Marks::SEEN_GONE),
            _ => tree.broken || !known.has(Marks::SEEN_CHANGE),
        };
        if let Some((told, _)) = Marks::of(kind) {
            tree.told.mark(digest, told);
        }
        if !tell || !w.spec.events.contains(&kind) {
            return;
        }
        let mut event = Event::new(kind, id, w.spec.mailbox.clone(), now);
        event.origin = Some(Origin::CatchUp);
        (event.folder_id, event.change_key) = (Some(folder.id), folder.change_key);
        event.parent_folder_id = parent.map(|p| p.id);
        self.hand_out(id, event);
    }

    /// What follows from a round that is over. `heard`: folders that it had to tell of, if they are any of the watch's.
    fn round_over(&mut self, id: u64, state: String, heard: &[String]) {
        let now = self.now.mono;
        let audit = now + AUDIT.mul_f64(0.9 + 0.2 * self.rng.f64());
        for folder in heard {
            if self.folder(id, folder).is_some_and(|f| !f.listed) {
                self.drop_folder(id, folder);
                if let Some(tree) = self.tree(id) {
                    tree.keep_out(Digest::of(folder));
                }
            }
        }
        let caught_up = self.caught_up(id);
        let Some(w) = self.watches.get_mut(&id) else { return };
        let Some(tree) = &mut w.tree else { return };
        (tree.state, tree.known) = (Some(state), true);
        tree.dirty &= tree.again;
        tree.broken &= tree.again;
        tree.due = Some(tree.due.filter(|_| tree.again).unwrap_or(audit));
        let since = now.saturating_sub(tree.forgot);
        let forget = since >= BEHIND && caught_up.is_none_or(|ago| ago <= since);
        if forget {
            tree.forgot = now;
        }
        tree.told.rotate(forget);
        // Those that the server said are not there, and that the hierarchy has not taken off.
        for folder in w.folders_known.values_mut().filter(|f| f.missing && f.due.is_none()) {
            folder.due = Some(now);
        }
        self.store_tree(id);
        self.drained(id);
    }

    fn hierarchy_failed(&mut self, id: u64, made: &Call, error: &Error) {
        let now = self.now.mono;
        let asked = error.retry_after().max(verdict::least_wait(error.code()).map(Duration::from_secs));
        let mut rng = self.rng.fork();
        let verdict = verdict::of_error(error);
        let lower = verdict == Verdict::LowerVersion && self.lower_version(made.endpoint, made.version);
        let Some(tree) = self.tree(id) else { return };
        tree.round = None;
        if lower {
            tree.due = Some(now);
            return;
        }
        let lost = error.code().is_some_and(|code| action(code) == Action::DropSyncState);
        if lost && tree.state.take().is_some() {
            tree.due = Some(now);
            return;
        }
        let wait = tree.backoff.next(&mut rng, asked);
        if !verdict.denies_sync() {
            tree.due = Some(now + wait);
            let failures = tree.backoff.failures();
            if failures == 3 || failures.is_multiple_of(TOLD_EVERY) {
                let mut detail = detail(error, None);
                detail.retry_ms = Some(wait.as_millis() as u64);
                detail.message = Some(format!(
                    "asking for the folders fails: {error} (failure {failures} in a row, it is tried again)"
                ));
                self.tell(id, EventKind::Error, detail);
            }
            return;
        }
        let broken = tree.broken;
        (tree.denied, tree.due) = (true, None);
        tree.outside.clear();
        let Some(w) = self.watches.get_mut(&id) else { return };
        w.folders_known.retain(|_, f| f.listed);
        let message = format!(
            "the server does not let us list the folders: {error}; what is missed in folders that are not known stays missed"
        );
        self.tell(id, EventKind::Error, Detail { message: Some(message), ..detail(error, None) });
        if broken {
            let since = self.certain(id);
            self.tell_gap_since(id, since, Reason::Denied, Some(error.to_string()), Fill::None);
        }
    }
}
