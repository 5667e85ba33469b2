//! Folders by their paths: looked for from a folder that the server knows, name by name, before they are subscribed to.
//!
//! The children are paged through and compared here: what a restriction by name does with upper and lower case, no server
//! promises.

use std::fmt;
use std::time::Duration;

use super::verdict::{self, Verdict};
use super::watch::{Step, Watch};
use super::{AfterAck, Answer, Call, Engine};
use crate::proto::{FolderPage, FolderRef, IdForm, Request, RequestVersion, distinguished_since};
use crate::{Error, ErrorKind};

/// How many folders are asked for at a time. A server gives a thousand at the most.
const PAGE: u32 = 500;
/// No folder has more in it.
const MOST: u32 = 1_000_000;

/// A folder as a host names it: by an id or a name that the server knows, and the names that lead down from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FolderPath {
    /// Where the path begins.
    pub from: FolderRef,
    /// Display names, from there down. None for that folder itself.
    pub names: Vec<String>,
    /// What form the id has, if it is none that other requests take: it is converted first.
    pub form: Option<IdForm>,
}

impl From<FolderRef> for FolderPath {
    fn from(from: FolderRef) -> FolderPath {
        FolderPath { from, names: Vec::new(), form: None }
    }
}

/// As option `folders` has it.
impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            FolderRef::Distinguished { name, .. } if name == "msgfolderroot" && !self.names.is_empty() => {}
            FolderRef::Id(id) if let Some(form) = self.form => {
                write!(f, "{}:{id}", form.name().to_ascii_lowercase())?;
            }
            FolderRef::Distinguished { name, .. } | FolderRef::Id(name) => f.write_str(name)?,
        }
        for name in &self.names {
            f.write_str("/")?;
            for c in name.chars() {
                if matches!(c, '/' | '\\' | ',') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl FolderPath {
    /// Whether it is a public folder, which is in nobody's mailbox.
    pub fn is_public(&self) -> bool {
        matches!(&self.from, FolderRef::Distinguished { name, .. } if name == "publicfoldersroot")
    }

    /// As far as so many names lead.
    fn down_to(&self, depth: usize) -> FolderPath {
        FolderPath { names: self.names[..depth].to_vec(), ..self.clone() }
    }

    /// Why a server that speaks this version cannot know where it begins.
    fn too_new_for(&self, version: RequestVersion) -> Option<Error> {
        let FolderRef::Distinguished { name, .. } = &self.from else { return None };
        let since = distinguished_since(name).filter(|since| *since > version)?;
        let text = format!(
            "the folder name {name} needs a server of {} or later, and this one speaks {}",
            since.name(),
            version.name()
        );
        Some(Error::new(ErrorKind::Unsupported, text))
    }
}

/// How far a watch's folders have been looked for, in their order.
#[derive(Debug, Default)]
pub(super) struct Search {
    done: Vec<Result<FolderRef, Error>>,
    /// Of the next one: how many of its names have led to which folder.
    depth: usize,
    at: Option<String>,
    /// How many of the folders there have been looked at, and which has the name but for upper and lower case.
    offset: u32,
    near: Option<String>,
    /// The first folder of the page before.
    first: Option<String>,
}

impl Search {
    /// The next question; `None` when all is known.
    fn next<'p>(
        &mut self,
        mut path: impl FnMut(usize) -> Option<&'p FolderPath>,
        version: RequestVersion,
        mailbox: &str,
    ) -> Option<Request> {
        while let Some(path) = path(self.done.len()) {
            if let Some(error) = path.too_new_for(version) {
                self.settle(Err(error));
                continue;
            }
            let at = match (&self.at, &path.from, path.form) {
                (Some(at), ..) => FolderRef::Id(at.clone()),
                (None, FolderRef::Id(id), Some(form)) => {
                    let (id, mailbox) = (id.clone(), mailbox.to_owned());
                    return Some(Request::ConvertId { form, id, mailbox });
                }
                (None, from, _) => from.clone(),
            };
            if self.depth < path.names.len() {
                return Some(Request::FindFolder { parent: at, offset: self.offset, most: PAGE });
            }
            self.settle(Ok(at));
        }
        None
    }

    /// The answer to the question; an error if it makes no sense.
    fn answered(&mut self, path: &FolderPath, answer: Answer) -> Result<(), Error> {
        match answer {
            Answer::FoundFolders(page) => self.page(path, page),
            Answer::Converted(id) => {
                self.at = Some(id);
                Ok(())
            }
            _ => Err(super::calls::no_answer()),
        }
    }

    /// What lies in the folder that was asked for.
    fn page(&mut self, path: &FolderPath, page: FolderPage) -> Result<(), Error> {
        let Some(name) = path.names.get(self.depth) else { return Ok(()) };
        let first = page.folders.first().map(|f| f.id.id.clone());
        let nonsense = if page.folders.iter().any(|f| f.id.id.is_empty()) {
            Some("the server gives a folder without an id")
        } else if self.offset > 0 && first.is_some() && first == self.first {
            Some("the server gives the same folders again, and says that there are more")
        } else {
            None
        };
        if let Some(nonsense) = nonsense {
            let from = std::mem::take(&mut self.offset);
            (self.first, self.near) = (None, None);
            let text = format!("looking for folder {path}: FindFolder, from number {from}: {nonsense}");
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        let named = |f: &&crate::proto::Folder| f.display_name.as_ref().is_some_and(|n| same(n, name));
        let exact = page.folders.iter().find(|f| f.display_name.as_ref() == Some(name));
        let near = self.near.take().or(page.folders.iter().find(named).map(|f| f.id.id.clone()));
        let count = page.folders.len() as u32;
        match (exact, near) {
            (Some(folder), _) => self.down(folder.id.id.clone()),
            (None, near) if !page.includes_last && count > 0 && self.offset < MOST => {
                self.offset += count;
                (self.first, self.near) = (first, near);
            }
            (None, Some(near)) => self.down(near),
            (None, None) => self.settle(Err(missing(path, self.depth))),
        }
        Ok(())
    }

    /// There is no looking into the folder that was asked for.
    fn refused(&mut self, path: &FolderPath, error: Error) {
        let what = match (&self.at, path.form) {
            (None, Some(_)) => format!("converting the id of folder {path}"),
            _ => format!("looking for folder {path}, in {}", path.down_to(self.depth)),
        };
        self.settle(Err(error.context(what)));
    }

    fn down(&mut self, id: String) {
        let depth = self.depth + 1;
        *self = Search { done: std::mem::take(&mut self.done), depth, at: Some(id), ..Search::default() };
    }

    fn settle(&mut self, found: Result<FolderRef, Error>) {
        let mut done = std::mem::take(&mut self.done);
        done.push(found);
        *self = Search { done, ..Search::default() };
    }

    /// Those of the first `count` that are there.
    fn found(&self, count: usize) -> Vec<FolderRef> {
        self.done.iter().take(count).filter_map(|found| found.as_ref().ok().cloned()).collect()
    }

    /// The answer for each of the watch's folders, those that were found having been asked for. `None` where that does not fit.
    pub fn answers(
        self,
        count: usize,
        asked: Vec<Result<String, Error>>,
    ) -> Option<Vec<Result<String, Error>>> {
        let mut asked = asked.into_iter();
        let answers = self.done.into_iter().take(count).map(|found| found.map(|_| asked.next()));
        let answers: Option<Vec<_>> = answers
            .map(|answer| match answer {
                Ok(answer) => answer,
                Err(error) => Some(Err(error)),
            })
            .collect();
        answers.filter(|_| asked.next().is_none())
    }
}

impl Watch {
    /// What is to be looked for: its folders, then where its items go.
    fn path(&self, place: usize) -> Option<&FolderPath> {
        match (&self.spec.after_ack, place.checked_sub(self.folders.len())) {
            (_, None) => self.folders.get(place),
            (AfterAck::Move(to), Some(0)) if !to.names.is_empty() || to.form.is_some() => Some(to),
            _ => None,
        }
    }
}

impl Engine {
    /// What to ask about a watch's folders. `None` if it has ended, nothing of them being there.
    pub(super) fn ask_folders(&mut self, id: u64) -> Option<Request> {
        let endpoint = self.watches.get(&id)?.spec.endpoint;
        let version = self.endpoint(endpoint).version;
        let w = self.watches.get_mut(&id)?;
        let mut search = std::mem::take(&mut w.search);
        let next = search.next(|place| w.path(place), version, &w.spec.mailbox);
        let count = w.folders.len();
        if next.is_some() {
            w.search = search;
            return next;
        }
        let found = search.found(count);
        let target = search.done.get(count);
        let failed = match target {
            Some(Err(_)) => Some(count),
            _ => found.is_empty().then_some(0),
        };
        w.move_to = target.and_then(|to| to.as_ref().ok().cloned());
        let Some(failed) = failed else {
            w.search = search;
            let folders = found.into_iter().chain(w.goes_to()).collect();
            return Some(Request::GetFolder { folders });
        };
        if let Some(Err(mut error)) = search.done.into_iter().nth(failed) {
            if failed == count {
                error = error.context("option after_ack");
            }
            self.not_preparing(id);
            self.stop(id, &error, verdict::of_error(&error));
        }
        None
    }

    /// Whether folders of a watch are still looked for.
    pub(super) fn searches(&self, id: u64) -> bool {
        self.watches.get(&id).is_some_and(|w| w.path(w.search.done.len()).is_some())
    }

    /// What was asked on the way to a folder was answered.
    pub(super) fn found_folders(&mut self, id: u64, made: &Call, answer: Result<Answer, Error>) {
        let Some(w) = self.watches.get_mut(&id) else { return };
        let mut search = std::mem::take(&mut w.search);
        let Some(path) = w.path(search.done.len()) else { return };
        let seen = match answer {
            Ok(answer) => search.answered(path, answer),
            // One folder of several may be out of reach.
            Err(error) if is_gone(&error) => {
                search.refused(path, error);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = seen {
            w.search = search;
            return self.step_failed(id, made, Step::Folders, error);
        }
        w.search = search;
        self.due(id, Step::Folders, Duration::ZERO);
    }
}

/// Follows paths by asking, for those who may wait for answers: where each leads, or why it does not. The outer error is one that
/// will pass.
pub(crate) fn follow(
    paths: &[FolderPath],
    version: RequestVersion,
    mailbox: &str,
    mut ask: impl FnMut(&Request) -> Result<Answer, Error>,
) -> Result<Vec<Result<FolderRef, Error>>, Error> {
    let mut search = Search::default();
    while let Some(request) = search.next(|place| paths.get(place), version, mailbox) {
        let Some(path) = paths.get(search.done.len()) else { break };
        match ask(&request) {
            Ok(answer) => search.answered(path, answer)?,
            Err(error) if error.code().is_some() && is_gone(&error) => search.refused(path, error),
            Err(error) => return Err(error),
        }
    }
    Ok(search.done)
}

/// Whether a failure says that there is no such folder for us, now and later.
pub(super) fn is_gone(error: &Error) -> bool {
    use Verdict::{FolderGone, ItemGone, ItemUnreadable, Stop};
    matches!(verdict::of_error(error), FolderGone | Stop | ItemGone | ItemUnreadable)
}

/// Folders of one parent whose names differ in upper and lower case alone are one to Exchange.
fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn missing(path: &FolderPath, depth: usize) -> Error {
    let (name, parent) = (&path.names[depth], path.down_to(depth));
    let place = match parent.names.is_empty()
        && matches!(&parent.from, FolderRef::Distinguished { name, .. } if name == "msgfolderroot")
    {
        true => "at the top of the mailbox".to_owned(),
        false => format!("in {parent}"),
    };
    let text = format!("folder {path} is not there: {place} is no folder {name:?}");
    Error::new(ErrorKind::Server, text).with_code("ErrorFolderNotFound")
}
