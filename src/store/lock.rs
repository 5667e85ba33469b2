//! Who owns a state directory: one client of one process at a time.
//!
//! The lock is a POSIX one (`fcntl`) on a file of its own, since that belongs to the process: a child that the host forks does
//! not have it, so a child that outlives its parent does not keep a restart out. Its price: it does not tell the clients of
//! one process apart, and whoever closes *any* descriptor of the file drops it. So a table of the process says which
//! directories are open, and the file is never opened while it has an entry.
//!
//! A forked child has copies of the table and of the descriptor. The entry counts only with the process's own id, and a copy
//! of a [`Lock`] never closes the descriptor: the child may have the lock itself by then.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::files::trouble;
use crate::{Error, ErrorKind, Result};

/// The name of the file in the state directory.
const NAME: &str = "lock";

/// The directories that are open, by device and inode, with the process that opened them.
static OPEN: Mutex<BTreeMap<(u64, u64), u32>> = Mutex::new(BTreeMap::new());

/// A state directory is owned until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    dir: (u64, u64),
    owner: u32,
    file: Option<File>,
}

impl Lock {
    /// Owns the directory, or says at once who does ([`ErrorKind::Locked`]).
    pub fn take(dir: &Path) -> Result<Lock> {
        let met = fs::metadata(dir).map_err(|e| trouble("look at the state directory", dir, &e))?;
        let id = (met.dev(), met.ino());
        let me = std::process::id();
        // Held to the end: two threads must not both find no entry.
        let mut open = open();
        if open.get(&id) == Some(&me) {
            return Err(locked(dir, "another client of this process"));
        }
        let path = dir.join(NAME);
        let mut options = OpenOptions::new();
        // It is never removed either: a second process could lock the file that was, a third the one that is.
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = options.open(&path).map_err(|e| trouble("open the lock file", &path, &e))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(locked(dir, &holder(&file))),
            Err(e) => return Err(trouble("lock the file", &path, &e.into())),
        }
        open.insert(id, me);
        Ok(Lock { dir: id, owner: me, file: Some(file) })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            std::mem::forget(self.file.take());
            return;
        }
        let mut open = open();
        // Closed first: while there is an entry, nobody else here opens the file.
        drop(self.file.take());
        open.remove(&self.dir);
    }
}

fn open() -> MutexGuard<'static, BTreeMap<(u64, u64), u32>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who has the lock, as far as the system says: not across containers.
fn holder(file: &File) -> String {
    match fcntl_getlk(file, &Flock::from(FlockType::WriteLock)) {
        Ok(Some(Flock { pid: Some(pid), .. })) => format!("process {}", pid.as_raw_nonzero()),
        _ => "another process".into(),
    }
}

fn locked(dir: &Path, holder: &str) -> Error {
    let text = format!(
        "the state directory {} is in use by {holder}: wait until that has ended, or give each its own directory",
        dir.display()
    );
    Error::new(ErrorKind::Locked, text)
}
