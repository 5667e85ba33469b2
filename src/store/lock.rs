//! Files by which the processes of a machine, and the clients of one, keep out of each other's way: who owns a state directory, and
//! who renews the tokens of an account ([`super::tokens`]).
//!
//! The lock is a POSIX one (`fcntl`) on a file of its own, since that belongs to the process: a child that the host forks does
//! not have it, so a child that outlives its parent does not keep a restart out. Its price: it does not tell the clients of
//! one process apart, and whoever closes *any* descriptor of the file drops it. So a table of the process says which
//! are held, and the file is never opened while it has an entry.
//!
//! A forked child has copies of the table and of the descriptor. The entry counts only with the process's own id, and a copy
//! of a [`FileLock`] never closes the descriptor: the child may have the lock itself by then.

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

/// The directory, by device and inode, and the name in it.
type Key = (u64, u64, String);

/// What is held, with the process that took it.
static HELD: Mutex<BTreeMap<Key, u32>> = Mutex::new(BTreeMap::new());

/// A file is locked until this is dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    key: Key,
    owner: u32,
    file: Option<File>,
}

/// What came of a try.
#[derive(Debug)]
pub(super) enum Tried {
    Taken(FileLock),
    /// Somebody in this process has it.
    Here,
    /// Another process has it; its number, as far as the system says: not across containers.
    Elsewhere(Option<i32>),
}

impl FileLock {
    /// Takes the lock if it is free. The file is made where there is none, and never removed: a second process could lock the file that
    /// was, a third the one that is.
    pub fn take(dir: &Path, name: &str) -> Result<Tried> {
        let path = dir.join(name);
        let met = fs::metadata(dir).map_err(|e| trouble("look at the directory", dir, &e))?;
        let (key, me) = ((met.dev(), met.ino(), name.to_owned()), std::process::id());
        // Held to the end: two threads must not both find no entry.
        let mut held = held();
        if held.get(&key) == Some(&me) {
            return Ok(Tried::Here);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = options.open(&path).map_err(|e| trouble("open the lock file", &path, &e))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => {
                let holder = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok().flatten();
                let pid = holder.and_then(|lock| lock.pid).map(|pid| pid.as_raw_nonzero().get());
                return Ok(Tried::Elsewhere(pid));
            }
            Err(e) => return Err(trouble("lock the file", &path, &e.into())),
        }
        held.insert(key.clone(), me);
        Ok(Tried::Taken(FileLock { key, owner: me, file: Some(file) }))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            std::mem::forget(self.file.take());
            return;
        }
        let mut held = held();
        // Closed first: while there is an entry, nobody else here opens the file.
        drop(self.file.take());
        held.remove(&self.key);
    }
}

fn held() -> MutexGuard<'static, BTreeMap<Key, u32>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who owns a state directory: one client of one process at a time, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _lock: FileLock,
}

impl Lock {
    /// Owns the directory, or says at once who does ([`ErrorKind::Locked`]).
    pub fn take(dir: &Path) -> Result<Lock> {
        let holder = match FileLock::take(dir, NAME)? {
            Tried::Taken(lock) => return Ok(Lock { _lock: lock }),
            Tried::Here => "another client of this process".into(),
            Tried::Elsewhere(Some(pid)) => format!("process {pid}"),
            Tried::Elsewhere(None) => "another process".into(),
        };
        let text = format!(
            "the state directory {} is in use by {holder}: wait until that has ended, or give each its own directory",
            dir.display()
        );
        Err(Error::new(ErrorKind::Locked, text))
    }
}
