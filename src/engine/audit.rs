//! Which folders have changed: asked for all at once by their stamps, so that only those are synced.
//!
//! A stamp is the time of a folder's last change, in whole seconds, and how many items were ever deleted from it. It counts for
//! as long as a later change is sure to alter it: not where it is as young as the answer that brings it. What is synced after a
//! stamp was brought knows all that the stamp tells of; while the folder is stamped so, there is nothing new in it.

use std::time::{Duration, SystemTime};

use super::folder::Folder;
use super::tell::parse_time;
use super::verdict::{self, Verdict};
use super::watch::Watch;
use super::{Call, CallId, Engine, Job};
use crate::Error;
use crate::proto::{FolderRef, FolderStamp, Request};

/// All folders are looked at so often, whatever the stream says.
pub(super) const AUDIT: Duration = Duration::from_secs(3600);
/// Fewer folders are synced without a question before.
const FEW: usize = 3;
/// Folders in a question.
const AT_ONCE: usize = 500;
/// A stamp may still be given to a later change, if it is not older than that.
const UNSETTLED: Duration = Duration::from_secs(2);
/// So many failures in a row, and the folders are synced one by one.
const TRIES: u32 = 3;

/// The folders' stamps, in the order of the question, and the server's time.
pub(super) type Stamps = (Vec<Result<FolderStamp, Error>>, Option<SystemTime>);

impl Watch {
    /// The folders whose stamps are to be asked for now; none if those that are due are synced straight away. Those whose
    /// time has not come yet are looked at too, so that there is one question for all.
    pub(super) fn to_survey(&self, now: Duration) -> Vec<String> {
        let idle =
            || self.folders_known.iter().filter(|(_, f)| f.listed && !f.denied && f.in_flight.is_none());
        let due = |due: Option<Duration>| due.is_some_and(|at| at <= now);
        if self.undated || idle().count() < FEW || !idle().any(|(_, f)| f.survey && due(f.due)) {
            return Vec::new();
        }
        let first = idle().filter(|(_, f)| f.survey && due(f.due));
        let rest = idle().filter(|(_, f)| f.survey && !due(f.due) && f.first_event.is_none());
        first.chain(rest).map(|(id, _)| id.clone()).take(AT_ONCE).collect()
    }
}

impl Engine {
    /// Asks for the stamps of folders.
    pub(super) fn ask_stamps(&mut self, id: u64, folders: Vec<String>) {
        let Some(endpoint) = self.watches.get(&id).map(|w| w.spec.endpoint) else { return };
        let request =
            Request::GetFolderStamps { folders: folders.iter().cloned().map(FolderRef::Id).collect() };
        self.endpoint(endpoint).syncs.in_flight += 1;
        let call = self.call(id, Job::Survey(folders.clone()), request);
        for folder in folders {
            if let Some(folder) = self.folder(id, &folder) {
                folder.in_flight = Some(call);
                (folder.due, folder.again, folder.survey) = (None, false, false);
            }
        }
    }

    /// The stamps came, or did not.
    pub(super) fn surveyed(
        &mut self,
        call: CallId,
        made: &Call,
        folders: Vec<String>,
        result: Result<Stamps, Error>,
    ) {
        let (id, now) = (made.watch, self.now.mono);
        self.sync_came_back(made.endpoint);
        let audit = now + AUDIT.mul_f64(0.9 + 0.2 * self.rng.f64());
        let failed = match &result {
            Ok(_) => None,
            Err(error) => Some(self.stamps_failed(id, made, error)),
        };
        let Some(w) = self.watches.get_mut(&id) else { return };
        let (mut stamps, date) = match result {
            Ok((stamps, date)) => {
                w.surveys.reset();
                w.undated = date.is_none();
                (stamps.into_iter().map(Result::ok).collect(), date)
            }
            Err(_) => (vec![None; folders.len()], None),
        };
        let mut clean = Vec::new();
        for (name, stamp) in folders.into_iter().zip(stamps.drain(..)) {
            let Some(folder) = w.folders_known.get_mut(&name).filter(|f| f.in_flight == Some(call)) else {
                continue;
            };
            folder.in_flight = None;
            if let Some(again) = failed {
                folder.due = Some(now + again.unwrap_or_default());
                folder.survey = again.is_some();
            } else if stamp.as_ref().is_some_and(|s| folder.is_as(s)) {
                (folder.dirty, folder.broken) = (false, false);
                (folder.due, folder.survey) = (Some(audit), true);
                folder.certain = date.unwrap_or(folder.certain).max(folder.certain);
                clean.push(name);
            } else {
                folder.next_stamp = stamp.filter(|s| date.is_some_and(|date| is_settled(s, date)));
                folder.due = Some(now);
            }
        }
        // Where there are many, one record says up to when they are certain.
        match w.tree {
            Some(_) => self.store_tree(id),
            None => clean.iter().for_each(|folder| self.store_folder(id, folder, &[])),
        }
        self.drained(id);
        self.sync_soon(id);
    }

    /// After how long the stamps are asked for again; `None` if the folders are synced without.
    fn stamps_failed(&mut self, id: u64, made: &Call, error: &Error) -> Option<Duration> {
        let mut rng = self.rng.fork();
        let verdict = verdict::of_error(error);
        if verdict == Verdict::LowerVersion && self.lower_version(made.endpoint, made.version) {
            return Some(Duration::ZERO);
        }
        if error.is_no_token() {
            return Some(error.retry_after().unwrap_or(Duration::from_secs(1)));
        }
        let w = self.watches.get_mut(&id)?;
        if verdict.denies_sync() || w.surveys.failures() + 1 >= TRIES {
            w.surveys.reset();
            return None;
        }
        let asked = error.retry_after().max(verdict::least_wait(error.code()).map(Duration::from_secs));
        Some(w.surveys.next(&mut rng, asked))
    }
}

impl Folder {
    /// Whether nothing has happened in it since it was synced, by its stamp of now.
    fn is_as(&self, stamp: &FolderStamp) -> bool {
        let synced = self.baseline.is_none() && self.state.is_some();
        // What was left to the stream is told with a page.
        let quiet = !self.again && self.first_event.is_none() && self.doubts.is_empty();
        synced && quiet && self.stamp.as_ref().is_some_and(|known| known.same_as(stamp))
    }
}

/// Whether every later change will alter a stamp that was brought then.
fn is_settled(stamp: &FolderStamp, date: SystemTime) -> bool {
    let committed = stamp.committed.as_deref().and_then(parse_time);
    committed.and_then(|at| at.checked_add(UNSETTLED)).is_some_and(|settled| settled <= date)
}
