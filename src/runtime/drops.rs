//! The folder `push` in the state directory: a web process that is not ours puts what the server sent there, a file each, and
//! answers at once; here it is taken.
//!
//! A file has its final name, `*.xml`, from the moment that it is whole (it is written under a name that begins with a dot, and renamed), and
//! names go in the order of coming. What is whole and can never be read is thrown away, and told; what may be read later waits. The file `unwanted` has the
//! subscriptions, a line each, that the web process is to answer `Unsubscribe`.

use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::core::Core;
use super::push::{Notes, is_unsubscribe};
use super::threads::{guarded, lock};
use crate::engine::{PushAnswer, PushOutcome};
use crate::net::no_pipe;
use crate::{Error, ErrorKind, Result};

const NAME: &str = "push";
const UNWANTED: &str = "unwanted";
const STACK: usize = 512 * 1024;
/// The system says when a file comes; where it does not (on network file systems), it is seen after so long.
const LOOK: Duration = Duration::from_secs(1);
/// So many files are taken before the folder is read anew.
const BATCH: usize = 256;
/// What was begun and not renamed after so long will not be.
const STALE: Duration = Duration::from_secs(3600);
/// So many subscriptions are remembered as unwanted, the newest; a file that is larger than they ever are is none of ours.
const MOST_UNWANTED: usize = 1000;
const LARGEST_UNWANTED: u64 = 4 << 20;
/// A file that cannot be read holds up those after it for so long, since they are to be taken in order.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many files that can be neither read nor removed are passed by.
const MOST_STUCK: usize = 10_000;

/// The folder, and the thread that looks after it.
pub(super) struct Drops {
    dir: PathBuf,
    max_bytes: u64,
    asleep: OwnedFd,
    wake: OwnedFd,
    stopped: AtomicBool,
    /// What was said of subscriptions and is not written yet, in that order.
    wishes: Mutex<Vec<(String, Wish)>>,
}

/// Whether a subscription is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is a watch's. Its id may have been another one's, as those of a server that counts from one again.
    Wanted,
    /// It is to be answered `Unsubscribe`.
    Unwanted,
}

impl Drops {
    /// Makes the folder, where there is none, and starts the thread.
    pub fn start(core: &Arc<Core>, state_dir: &Path, max_bytes: usize) -> Result<Arc<Drops>> {
        let dir = state_dir.join(NAME);
        let failed = |e: io::Error| Error::new(ErrorKind::Io, format!("cannot make {}: {e}", dir.display()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
        if !fs::symlink_metadata(&dir).map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        let (asleep, wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|e| no_pipe("who takes pushes out of files", e))?;
        let drops = Arc::new(Drops {
            dir,
            max_bytes: max_bytes as u64,
            asleep,
            wake,
            stopped: AtomicBool::new(false),
            wishes: Mutex::default(),
        });
        core.threads.spawn("ewsn-drops", STACK, {
            let (drops, core) = (drops.clone(), core.clone());
            move || {
                let run = guarded("taking pushes out of files", || {
                    Taker::new(&drops).run(&core);
                    Ok(())
                });
                if let Err(e) = run {
                    core.tell_trouble(&e.context("pushes in files are not taken any more"));
                }
            }
        })?;
        Ok(drops)
    }

    /// Has a subscription answered `Unsubscribe`, or not any more.
    pub fn note(&self, subscription: String, wish: Wish) {
        lock(&self.wishes).push((subscription, wish));
        self.wake();
    }

    /// Ends the thread once what is unwanted is written.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, b"!");
    }
}

/// What the thread knows.
struct Taker<'a> {
    drops: &'a Drops,
    news: Option<OwnedFd>,
    unwanted: VecDeque<String>,
    /// Whether the file is to be written.
    unwritten: bool,
    stuck: BTreeSet<OsString>,
    /// The file that could not be read, and since when.
    awaited: Option<(OsString, Instant)>,
    notes: Notes,
    write_failed: bool,
}

impl<'a> Taker<'a> {
    fn new(drops: &'a Drops) -> Taker<'a> {
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
            awaited: None,
            notes: Notes::default(),
            write_failed: false,
        }
    }

    fn run(mut self, core: &Arc<Core>) {
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
                Err(Unread::Gone) => continue,
                Err(Unread::Denied(e)) => {
                    self.fail(
                        core,
                        "permission",
                        format!("cannot read {}: {e}; the web process has to let us", path.display()),
                    );
                    self.pass_by(name);
                    continue;
                }
                Err(Unread::Never(e)) => {
                    self.fail(core, "file", format!("{} is thrown away: {e}", path.display()));
                    self.remove(core, &path, name);
                    continue;
                }
                Err(Unread::Later(e)) if self.waits(&name, Instant::now()) => {
                    self.fail(
                        core,
                        "later",
                        format!("cannot read {}: {e}; it is tried again", path.display()),
                    );
                    return false;
                }
                Err(Unread::Later(e)) => {
                    let text =
                        format!("still cannot read {}: {e}; it is passed by from now on", path.display());
                    self.fail(core, "passed by", text);
                    self.pass_by(name);
                    continue;
                }
            };
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
                let written = entry.metadata().and_then(|m| m.modified());
                let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
                if age.is_some_and(|age| age > STALE) {
                    let _ = fs::remove_file(entry.path());
                }
            } else if name.as_bytes().ends_with(b".xml") && !self.stuck.contains(&name) {
                first.push(name);
                if first.len() > BATCH {
                    first.pop();
                }
            }
        }
        Ok(first.into_sorted_vec())
    }

    /// Whether a file that could not be read is still waited for.
    fn waits(&mut self, name: &OsStr, now: Instant) -> bool {
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
                self.pass_by(name);
            }
            _ => {}
        }
    }

    fn pass_by(&mut self, name: OsString) {
        // Beyond that the names come again, and are told again.
        if self.stuck.len() < MOST_STUCK {
            self.stuck.insert(name);
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

/// Why a file was not read.
#[derive(Debug)]
enum Unread {
    /// Somebody has taken it.
    Gone,
    /// The web process keeps it to itself.
    Denied(io::Error),
    /// It can never be read.
    Never(String),
    /// It may pass by itself: no room for one more open file, no memory, a disk or a network that fails now.
    Later(io::Error),
}

impl From<io::Error> for Unread {
    fn from(e: io::Error) -> Unread {
        match e.kind() {
            io::ErrorKind::NotFound => Unread::Gone,
            io::ErrorKind::PermissionDenied => Unread::Denied(e),
            _ => Unread::Later(e),
        }
    }
}

fn read(path: &Path, max_bytes: u64) -> std::result::Result<Vec<u8>, Unread> {
    let no_file = || Unread::Never("it is no file".to_owned());
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // A link or a socket cannot even be opened.
        Err(_) if fs::symlink_metadata(path).is_ok_and(|met| !met.is_file()) => return Err(no_file()),
        Err(e) => return Err(e.into()),
    };
    let met = file.metadata()?;
    if !met.is_file() {
        return Err(no_file());
    }
    if met.len() > max_bytes {
        let text = format!("it has {} bytes, and option push_max_bytes allows {max_bytes}", met.len());
        return Err(Unread::Never(text));
    }
    let mut body = Vec::new();
    file.take(max_bytes).read_to_end(&mut body)?;
    Ok(body)
}

/// A new file takes the old one's name.
fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_file_name(".unwanted.new");
    let _ = fs::remove_file(&new);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    // Whatever the umask is: the web process reads it.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text)?;
    fs::rename(&new, path)
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
    use super::*;

    // A disk or a system that fails for a moment must not cost the mail that lies there whole; what will never be read must not
    // stay for ever.
    #[test]
    fn what_may_be_read_later_is_not_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "x".repeat(10)).unwrap();
        fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("file"), 10).unwrap(), b"xxxxxxxxxx");
        assert!(matches!(read(&at("file"), 9), Err(Unread::Never(why)) if why.contains("push_max_bytes")));
        for name in ["dir", "link", "loop", "socket"] {
            assert!(matches!(read(&at(name), 10), Err(Unread::Never(_))), "{name}");
        }
        assert!(matches!(read(&at("nothing"), 10), Err(Unread::Gone)));
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NOMEM, rustix::io::Errno::IO] {
            assert!(matches!(Unread::from(io::Error::from(errno)), Unread::Later(_)), "{errno}");
        }
        // A regular file whose first byte cannot be read (EIO).
        #[cfg(target_os = "linux")]
        assert!(matches!(read(Path::new("/proc/self/mem"), 10), Err(Unread::Later(_))));
    }

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
        assert!(taker.waits(OsStr::new("a.xml"), now));
        assert!(taker.waits(OsStr::new("a.xml"), now + PATIENCE - Duration::from_secs(1)));
        assert!(!taker.waits(OsStr::new("a.xml"), now + PATIENCE));
        assert!(taker.waits(OsStr::new("b.xml"), now + PATIENCE), "another one has its own time");
    }
}
