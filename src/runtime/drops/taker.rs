//! The thread that takes the files, in the order of their names.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::core::Core;
use super::super::push::{Notes, is_unsubscribe};
use super::super::threads::lock;
use super::files::{Unread, advice, put, read};
use super::{Drops, Wish};
use crate::engine::{PushAnswer, PushOutcome};
use crate::{Error, ErrorKind};

const UNWANTED: &str = "unwanted";
/// The system says when a file comes; where it does not (on network file systems), it is seen after so long.
const LOOK: Duration = Duration::from_secs(1);
/// So many files are taken before the folder is read anew.
const BATCH: usize = 256;
/// What was begun and not renamed after so long will not be.
const STALE: Duration = Duration::from_secs(3600);
/// So many subscriptions are remembered as unwanted, the newest; a file that is larger than they ever are is none of ours.
const MOST_UNWANTED: usize = 1000;
const LARGEST_UNWANTED: u64 = 4 << 20;
/// A file that cannot be read holds up those after it until it is so old, since they are to be taken in order.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many files that can be neither read nor removed are passed by; those that cannot be read are tried again after [`PATIENCE`].
const MOST_STUCK: usize = 10_000;

/// What the thread knows.
pub(super) struct Taker<'a> {
    drops: &'a Drops,
    news: Option<OwnedFd>,
    unwanted: VecDeque<String>,
    /// Whether the file is to be written.
    unwritten: bool,
    /// What was taken and cannot be removed.
    stuck: BTreeSet<OsString>,
    /// What cannot be read, and when it is tried again; it holds up nothing any more.
    unread: BTreeMap<OsString, Instant>,
    /// The file that could not be read, and since when.
    awaited: Option<(OsString, Instant)>,
    notes: Notes,
    write_failed: bool,
}

impl<'a> Taker<'a> {
    pub fn new(drops: &'a Drops) -> Taker<'a> {
        // As careful as with any other file there: others may write into the folder.
        let known = read(&drops.dir.join(UNWANTED), LARGEST_UNWANTED).unwrap_or_default();
        let known = String::from_utf8_lossy(&known);
        let unwanted = known.lines().take(MOST_UNWANTED).map(str::to_owned).collect();
        Taker {
            news: news_of(&drops.dir),
            drops,
            unwanted,
            unwritten: false,
            stuck: BTreeSet::new(),
            unread: BTreeMap::new(),
            awaited: None,
            notes: Notes::default(),
            write_failed: false,
        }
    }

    pub fn run(mut self, core: &Arc<Core>) {
        loop {
            let stopped = self.drops.stopped.load(Ordering::SeqCst);
            // What is told after this is seen in the next round.
            self.hear();
            let more = !stopped && self.take(core);
            self.write_unwanted(core);
            if stopped {
                return;
            }
            if !more {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        let ready = |fd: BorrowedFd<'a>| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![ready(self.drops.asleep.as_fd())];
        if let Some(news) = &self.news {
            fds.push(PollFd::from_borrowed_fd(news.as_fd(), PollFlags::IN));
        }
        let wait = Timespec { tv_sec: LOOK.as_secs() as i64, tv_nsec: 0 };
        let _ = poll(&mut fds, Some(&wait));
    }

    /// Empties what has woken us, before what it woke us for is looked at.
    fn hear(&mut self) {
        let mut thrown_away = [0_u8; 4096];
        for fd in [Some(&self.drops.asleep), self.news.as_ref()].into_iter().flatten() {
            while matches!(rustix::io::read(fd, &mut thrown_away), Ok(n) if n > 0) {}
        }
        for (id, wish) in std::mem::take(&mut *lock(&self.drops.wishes)) {
            match wish {
                Wish::Unwanted => self.unwant(id),
                Wish::Wanted => self.want(&id),
            }
        }
    }

    fn want(&mut self, id: &str) {
        let known = self.unwanted.len();
        self.unwanted.retain(|unwanted| unwanted != id);
        self.unwritten |= self.unwanted.len() < known;
    }

    fn unwant(&mut self, id: String) {
        // A line each; an id of Exchange's is base64.
        if id.is_empty() || id.chars().any(char::is_control) || self.unwanted.contains(&id) {
            return;
        }
        self.unwanted.push_front(id);
        self.unwanted.truncate(MOST_UNWANTED);
        self.unwritten = true;
    }

    /// Takes the oldest files; whether there are more.
    fn take(&mut self, core: &Arc<Core>) -> bool {
        let names = match self.oldest() {
            Ok(names) => names,
            Err(e) => {
                self.fail(
                    core,
                    "folder",
                    format!("cannot read the folder {}: {e}", self.drops.dir.display()),
                );
                return false;
            }
        };
        let more = names.len() == BATCH;
        for name in names {
            if self.drops.stopped.load(Ordering::SeqCst) {
                return false;
            }
            let path = self.drops.dir.join(&name);
            let body = match read(&path, self.drops.max_bytes) {
                Ok(body) => body,
                Err(Unread::Gone) => {
                    self.unread.remove(&name);
                    continue;
                }
                Err(Unread::Never(e)) => {
                    self.fail(core, "file", format!("{} is thrown away: {e}", path.display()));
                    self.remove(core, &path, name);
                    continue;
                }
                Err(Unread::Later(e))
                    if self.waits(&name, age(fs::symlink_metadata(&path)), Instant::now()) =>
                {
                    let text =
                        format!("cannot read {}: {e}{}; it is tried again", path.display(), advice(&e));
                    self.fail(core, "later", text);
                    return false;
                }
                Err(Unread::Later(e)) => {
                    let text = format!(
                        "still cannot read {}: {e}{}; those after it go first, and it is tried each minute",
                        path.display(),
                        advice(&e)
                    );
                    self.fail(core, "passed by", text);
                    self.pass_by(name, Instant::now());
                    continue;
                }
            };
            self.unread.remove(&name);
            match core.push(&body) {
                Ok(pushed) if pushed.answer == PushAnswer::Later => return false,
                Ok(pushed) => {
                    if is_unsubscribe(&pushed) {
                        let unknown = |p: &&crate::engine::PushPart| p.outcome == PushOutcome::Unknown;
                        let ids = pushed.parts.iter().filter(unknown).filter_map(|p| p.subscription.clone());
                        ids.for_each(|id| self.unwant(id));
                    }
                }
                Err(e) => self.fail(core, "body", format!("{} is thrown away: {e}", path.display())),
            }
            self.remove(core, &path, name);
        }
        more
    }

    /// The names that are first in order. What was begun long ago goes.
    fn oldest(&self) -> io::Result<Vec<OsString>> {
        let mut first = BinaryHeap::new();
        for entry in fs::read_dir(&self.drops.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_bytes().starts_with(b".") {
                if age(entry.metadata()).is_some_and(|age| age > STALE) {
                    let _ = fs::remove_file(entry.path());
                }
            } else if name.as_bytes().ends_with(b".xml")
                && !self.stuck.contains(&name)
                && self.unread.get(&name).is_none_or(|at| *at <= Instant::now())
            {
                first.push(name);
                if first.len() > BATCH {
                    first.pop();
                }
            }
        }
        Ok(first.into_sorted_vec())
    }

    /// Whether a file that could not be read is still waited for. From when it was written, so that any number of them hold the others up no
    /// longer than one; where the clocks differ, each has its own time.
    fn waits(&mut self, name: &OsStr, age: Option<Duration>, now: Instant) -> bool {
        if self.unread.contains_key(name) || age.is_some_and(|age| age >= PATIENCE) {
            return false;
        }
        match &self.awaited {
            Some((awaited, since)) if awaited == name => now.saturating_duration_since(*since) < PATIENCE,
            _ => {
                self.awaited = Some((name.to_owned(), now));
                true
            }
        }
    }

    fn remove(&mut self, core: &Arc<Core>, path: &Path, name: OsString) {
        let removed = match fs::symlink_metadata(path) {
            Ok(met) if met.is_dir() => fs::remove_dir(path),
            _ => fs::remove_file(path),
        };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                self.fail(
                    core,
                    "remove",
                    format!("cannot remove {}: {e}; it is passed by from now on", path.display()),
                );
                // Beyond that the names come again, and are told again.
                if self.stuck.len() < MOST_STUCK {
                    self.stuck.insert(name);
                }
            }
            _ => {}
        }
    }

    fn pass_by(&mut self, name: OsString, now: Instant) {
        if self.unread.len() >= MOST_STUCK {
            // Some of them may be gone.
            self.unread.retain(|name, _| self.drops.dir.join(name).exists());
        }
        if self.unread.len() < MOST_STUCK {
            self.unread.insert(name, now + PATIENCE);
        }
    }

    /// Tells of a failure, of each kind now and then: a folder full of garbage must not fill the queue.
    fn fail(&mut self, core: &Arc<Core>, kind: &'static str, text: String) {
        if let Some(untold) = self.notes.is_due(kind, Instant::now()) {
            let more = if untold > 0 {
                format!(" ({untold} more of the kind since the last one)")
            } else {
                String::new()
            };
            core.tell_trouble(&Error::new(ErrorKind::Io, format!("a push in a file: {text}{more}")));
        }
    }

    fn write_unwanted(&mut self, core: &Arc<Core>) {
        if !self.unwritten {
            return;
        }
        let text: String = self.unwanted.iter().map(|id| format!("{id}\n")).collect();
        match put(&self.drops.dir.join(UNWANTED), text.as_bytes()) {
            Ok(()) => (self.unwritten, self.write_failed) = (false, false),
            Err(e) if !std::mem::replace(&mut self.write_failed, true) => {
                let text = format!(
                    "cannot write {}: {e}; it is tried again",
                    self.drops.dir.join(UNWANTED).display()
                );
                core.tell_trouble(&Error::new(ErrorKind::Io, text));
            }
            Err(_) => {}
        }
    }
}

/// How long ago a file was written; `None` where that is not known, or to come.
fn age(met: io::Result<Metadata>) -> Option<Duration> {
    SystemTime::now().duration_since(met.and_then(|met| met.modified()).ok()?).ok()
}

/// Where the system tells that a file has come.
#[cfg(target_os = "linux")]
fn news_of(dir: &Path) -> Option<OwnedFd> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let news = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    add_watch(&news, dir, WatchFlags::MOVED_TO | WatchFlags::ONLYDIR).ok()?;
    Some(news)
}

#[cfg(not(target_os = "linux"))]
fn news_of(_: &Path) -> Option<OwnedFd> {
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn drops(dir: &Path) -> Drops {
        let (asleep, wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let (dir, stopped, wishes) = (dir.to_owned(), AtomicBool::new(false), Mutex::default());
        Drops { dir, max_bytes: 10, asleep, wake, stopped, wishes }
    }

    // The web process would end the new subscription of a server that gives an old id out again, and nothing come of it.
    #[test]
    fn an_id_that_is_given_out_again_is_wanted_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(UNWANTED), "a\nb\n").unwrap();
        let drops = drops(dir.path());
        let mut taker = Taker::new(&drops);
        drops.note("b".into(), Wish::Wanted);
        drops.note("c".into(), Wish::Wanted);
        taker.hear();
        assert!(taker.unwritten && taker.unwanted == ["a"], "{:?}", taker.unwanted);
        // In the order in which it was said.
        for (id, wish) in
            [("b", Wish::Unwanted), ("a", Wish::Wanted), ("a", Wish::Unwanted), ("b", Wish::Wanted)]
        {
            drops.note(id.into(), wish);
        }
        taker.hear();
        assert_eq!(taker.unwanted, ["a"]);
        taker.unwritten = false;
        drops.note("d".into(), Wish::Wanted);
        taker.hear();
        assert!(!taker.unwritten, "there is nothing to write");
    }

    // One bad sector must not hold up all that comes after it for ever.
    #[test]
    fn a_file_that_cannot_be_read_is_waited_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let drops = drops(dir.path());
        let (mut taker, now) = (Taker::new(&drops), Instant::now());
        assert!(taker.waits(OsStr::new("a.xml"), None, now));
        assert!(taker.waits(OsStr::new("a.xml"), None, now + PATIENCE - Duration::from_secs(1)));
        assert!(!taker.waits(OsStr::new("a.xml"), None, now + PATIENCE));
        assert!(taker.waits(OsStr::new("b.xml"), None, now + PATIENCE), "another one has its own time");
        // A web process with the wrong umask has left many: they held up those that can be read, a minute each.
        let old = |secs| Some(Duration::from_secs(secs));
        assert!(taker.waits(OsStr::new("c.xml"), old(59), now));
        assert!(!taker.waits(OsStr::new("d.xml"), old(60), now));
        assert!(!taker.waits(OsStr::new("c.xml"), old(61), now));
        // What is passed by is tried again, and holds up nobody then; until its mode was mended, say.
        fs::write(dir.path().join("a.xml"), "x").unwrap();
        taker.pass_by("a.xml".into(), now);
        assert!(taker.oldest().unwrap().is_empty());
        assert!(!taker.waits(OsStr::new("a.xml"), None, now + PATIENCE));
        taker.unread.insert("a.xml".into(), now);
        assert_eq!(taker.oldest().unwrap(), ["a.xml"]);
    }
}
