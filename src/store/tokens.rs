//! Tokens of accounts: a file each, which the processes of an account share.
//!
//! ```text
//!  DIR/oauth-ID.json   mode 0600, replaced as a whole; ID is of the account: see `auth::oauth::Account::id`
//!  DIR/oauth-ID.lock   empty, never removed: who renews the account's tokens has a POSIX lock on it
//! ```
//!
//! DIR is a state directory, or one that several share (option `oauth_token_store`). The lock is one of
//! [`super::lock`]: a child that the host forks does not have it, and clients of one process are kept apart too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::files::{is_trusted, prepare, trouble};
use super::lock::{FileLock, Tried};
use crate::{Error, ErrorKind, Result};

/// No file is longer.
const MAX_BYTES: u64 = 256 * 1024;
/// How often it is looked whether the lock is free: a renewal takes a fraction of a second.
const TICK: Duration = Duration::from_millis(20);

/// A directory of tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenStore(PathBuf);

/// The right to read and to replace the tokens of one account, until it is dropped.
#[derive(Debug)]
pub(crate) struct TokenLock {
    dir: PathBuf,
    account: String,
    _lock: FileLock,
}

impl TokenStore {
    /// In this directory, which is made where there is none, and refused where other users can write to it.
    pub fn open(dir: &Path) -> Result<TokenStore> {
        prepare(dir)?;
        // By one name, whichever way leads to it.
        Ok(TokenStore(fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned())))
    }

    /// Waits for the account's lock, until a time, or until `stop` says so.
    pub fn lock(&self, account: &str, until: Instant, stop: &dyn Fn() -> bool) -> Result<TokenLock> {
        let TokenStore(dir) = self;
        loop {
            if let Tried::Taken(lock) = FileLock::take(dir, &format!("oauth-{account}.lock"))? {
                return Ok(TokenLock { dir: dir.clone(), account: account.to_owned(), _lock: lock });
            }
            if stop() {
                return Err(Error::new(
                    ErrorKind::Closed,
                    "cancelled while another process renewed the tokens",
                ));
            }
            if Instant::now() >= until {
                let text = format!(
                    "another process has been renewing the tokens in {} for too long (oauth-{account}.lock): does it hang, or can \
                     it not store them?",
                    dir.display()
                );
                return Err(Error::new(ErrorKind::Connect, text));
            }
            thread::sleep(TICK);
        }
    }
}

impl TokenLock {
    fn path(&self) -> PathBuf {
        self.dir.join(format!("oauth-{}.json", self.account))
    }

    /// What is stored, if anything is.
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let path = self.path();
        let mut options = OpenOptions::new();
        options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let failed = |e: &io::Error| trouble("read the stored tokens", &path, e);
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&e)),
        };
        let met = file.metadata().map_err(|e| failed(&e))?;
        let bad = |what: &str| {
            let text = format!("the stored tokens in {} cannot be used: {what}", path.display());
            Err(Error::new(ErrorKind::State, text))
        };
        if !met.is_file() || met.len() > MAX_BYTES {
            return bad("that is no file of them; remove it, and sign in anew");
        }
        if !is_trusted(met.uid()) || met.mode() & 0o077 != 0 {
            return bad(
                "other users can read or write it; if that is all right, chmod 600, else remove it and sign in anew",
            );
        }
        // All at once: a buffer that grows leaves copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
        Ok(Some(bytes))
    }

    /// Replaces what is stored; returns when no power cut takes it any more. After an error the old or the new is there, whole.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let (path, new) = (self.path(), self.dir.join(format!("oauth-{}.new", self.account)));
        let failed = |e: io::Error| trouble("store the tokens in", &path, &e);
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            // One that a crash has left.
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&new).map_err(failed)?;
        let written =
            file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, &path));
        if let Err(e) = written {
            let _ = fs::remove_file(&new);
            return Err(failed(e));
        }
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn lock(store: &TokenStore) -> TokenLock {
        store.lock("abc", Instant::now() + Duration::from_secs(60), &|| false).unwrap()
    }

    // A refresh token that others can read is everybody's mailbox; one that a crash cuts in half is nobody's.
    #[test]
    fn it_is_private_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::open(dir.path()).unwrap();
        let held = lock(&store);
        assert!(held.read().unwrap().is_none());
        held.write(b"first").unwrap();
        let file = dir.path().join("oauth-abc.json");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        // What a crash before the renaming leaves.
        fs::write(dir.path().join("oauth-abc.new"), b"half").unwrap();
        held.write(b"second").unwrap();
        assert_eq!(held.read().unwrap().unwrap().as_slice(), b"second");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let e = held.read().unwrap_err();
        assert!(e.kind() == ErrorKind::State && e.to_string().contains("chmod 600"), "{e}");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(held.read().unwrap_err().to_string().contains("symbolic link"));
        fs::remove_file(&file).unwrap();
        let large = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert!(held.read().is_err());
    }

    // Two clients of one process share a POSIX lock without knowing: both would send the same refresh token.
    #[test]
    fn one_at_a_time_within_a_process_too() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::open(dir.path()).unwrap();
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (store, inside) = (store.clone(), inside.clone());
                thread::spawn(move || {
                    for _ in 0..5 {
                        let held = lock(&store);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        let n = held.read().unwrap().map_or(0, |b| b.len());
                        held.write(&vec![b'x'; n + 1]).unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(lock(&store).read().unwrap().unwrap().len(), 20);
        let first = lock(&store);
        let e = store.lock("abc", Instant::now(), &|| false).unwrap_err();
        assert!(e.is_retryable() && e.to_string().contains("another process"), "{e}");
        let late = Instant::now() + Duration::from_secs(600);
        assert_eq!(store.lock("abc", late, &|| true).unwrap_err().kind(), ErrorKind::Closed);
        assert!(
            store.lock("other", Instant::now(), &|| false).is_ok(),
            "accounts do not wait for each other"
        );
        drop(first);
    }
}
