//! The store of a state directory: one `redb` database, one table of it.
//!
//! A commit is durable when it returns, and what it writes does not depend on what is stored: some pages of 4 KiB, by the depth
//! of the tree. The whole file is checked when it is opened, so damage shows at the start and not in a later answer; and since
//! redb may still panic over a damaged file, its panics are caught here and told as errors.
//!
//! After a write or a sync has failed, redb wants its database opened anew, which the next call does: a full disk only has to
//! have room again. After a failed sync that is not enough: the system then counts pages as written that never reached the
//! disk. So all of the file is written once more first.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, Database, Durability, ReadableDatabase, StorageBackend, TableDefinition, TableHandle};

use super::files::{self, DataFile, trouble};
use super::lock::Lock;
use super::{Change, Store};
use crate::{Error, ErrorKind, Result};

/// The table's name has the version of what is in it.
const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("ewsnotify 1");

/// The engine reads everything once and then only writes, so a cache has little to do.
const CACHE: usize = 1 << 20;

/// A piece of the file when all of it is written anew.
const PIECE: u64 = 1 << 16;

/// Pairs in the file `state.redb` of a state directory that nobody else owns meanwhile.
pub(crate) struct Embedded {
    /// What the texts of errors name.
    file: String,
    disk: Disk,
    /// None after a failure, until the next call opens it anew.
    database: Mutex<Option<Database>>,
    owner: u32,
    // Below the database, which writes when it is dropped.
    _lock: Option<Lock>,
}

impl Embedded {
    /// Owns the state directory, which is made if there is none, and opens what is in it.
    pub fn open(dir: &Path) -> Result<Embedded> {
        let absolute = std::path::absolute(dir).map_err(|e| trouble("find the state directory", dir, &e))?;
        files::prepare(&absolute)?;
        let lock = Lock::take(&absolute)?;
        let path = absolute.join("state.redb");
        let file = DataFile::open(&absolute, &path)?;
        Embedded::start(path.display().to_string(), file, Some(lock))
    }

    /// A store on a disk of a test's own.
    #[cfg(test)]
    pub fn on(disk: impl StorageBackend) -> Result<Embedded> {
        Embedded::start("of a test".into(), disk, None)
    }

    fn start(file: String, disk: impl StorageBackend, lock: Option<Lock>) -> Result<Embedded> {
        let disk = Disk(Arc::new(Shared { disk: Box::new(disk), unsynced: AtomicBool::new(false) }));
        let owner = std::process::id();
        let store = Embedded { file, disk, database: Mutex::new(None), owner, _lock: lock };
        store.with("open", |_| Ok(()))?;
        Ok(store)
    }

    /// Does something with the database, opened anew if need be. Whatever goes wrong, the next call begins with a fresh one.
    fn with<T>(&self, what: &str, f: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T> {
        if self.owner != std::process::id() {
            let text = format!(
                "process {} has forked, and its state file {} is not the child's: open a client in the child",
                self.owner, self.file
            );
            return Err(Error::new(ErrorKind::State, text));
        }
        let mut database = self.database();
        let done = caught(|| {
            let open = match database.take() {
                Some(open) => open,
                None => self.reopen()?,
            };
            match caught(|| Ok(f(&open)?)) {
                Ok(done) => Ok((open, done)),
                Err(trouble) => {
                    let_go(Some(open));
                    Err(trouble)
                }
            }
        });
        match done {
            Ok((open, done)) => {
                *database = Some(open);
                Ok(done)
            }
            Err(Trouble::Redb(e)) => Err(self.explain(what, e)),
            Err(Trouble::Ours(e)) => Err(e),
            Err(Trouble::Panic(said)) => Err(self.damaged(what, &said)),
        }
    }

    fn reopen(&self) -> Result<Database, Trouble> {
        self.disk.mend()?;
        let database = Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create_with_backend(self.disk.clone())?;
        let names = tables(&database)?;
        match names.iter().find(|name| *name != TABLE.name()) {
            Some(name) if name.starts_with("ewsnotify ") => Err(Trouble::Ours(self.newer(name))),
            Some(name) => Err(Trouble::Ours(self.foreign(&format!("it has a table {name:?}")))),
            None if names.is_empty() => {
                let start = database.begin_write()?;
                start.open_table(TABLE)?;
                start.commit()?;
                Ok(database)
            }
            None => {
                // The right name with other types would show at the first read only.
                let read = database.begin_read()?;
                read.open_table(TABLE)?;
                Ok(database)
            }
        }
    }

    fn database(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, what: &str, e: redb::Error) -> Error {
        match e {
            redb::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => self.foreign(&e.to_string()),
            redb::Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.damaged(what, "it ends before its contents do")
            }
            redb::Error::Io(e) => trouble(&format!("{what} the state file"), Path::new(&self.file), &e),
            redb::Error::UpgradeRequired(version) => self.newer(&format!("file format {version}")),
            redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_) => {
                self.foreign(&e.to_string())
            }
            e => self.damaged(what, &e.to_string()),
        }
    }

    fn damaged(&self, what: &str, why: &str) -> Error {
        let text = format!(
            "cannot {what} the state file {}: it is damaged ({why}). Move it away or put a backup in its place; without it the next start begins anew",
            self.file
        );
        Error::new(ErrorKind::State, text)
    }

    fn newer(&self, what: &str) -> Error {
        let text = format!(
            "the state file {} was written by another version of ewsnotify ({what}): use that version, or another state directory",
            self.file
        );
        Error::new(ErrorKind::State, text)
    }

    fn foreign(&self, why: &str) -> Error {
        let text = format!(
            "the file {} is not a state file of ewsnotify ({why}): give another state directory, or move the file away",
            self.file
        );
        Error::new(ErrorKind::State, text)
    }
}

impl Store for Embedded {
    fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.with("read", |database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            let mut found = Vec::new();
            for pair in table.range(prefix..)? {
                let (key, value) = pair?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.push((key.value().to_owned(), value.value().to_owned()));
            }
            Ok(found)
        })
    }

    fn commit(&self, changes: &[Change]) -> Result<()> {
        self.with("write to", |database| {
            let mut change = database.begin_write()?;
            change.set_durability(Durability::Immediate)?;
            {
                let mut table = change.open_table(TABLE)?;
                for Change { key, value } in changes {
                    match value {
                        Some(value) => table.insert(key.as_str(), value.as_slice())?,
                        None => table.remove(key.as_str())?,
                    };
                }
            }
            Ok(change.commit()?)
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let database = self.database().take();
        if self.owner == std::process::id() {
            let_go(database);
        } else {
            // A forked child's copy must not write, nor wait for threads that only the parent has.
            std::mem::forget(database);
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("file", &self.file).finish_non_exhaustive()
    }
}

enum Trouble {
    Redb(redb::Error),
    Ours(Error),
    Panic(String),
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(e: E) -> Trouble {
        Trouble::Redb(e.into())
    }
}

fn caught<T>(f: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(Trouble::Panic(said.to_owned()))
    })
}

/// Closes a database. It writes that this was in order; after a panic, it may panic once more, and the first one says more.
fn let_go(database: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}

fn tables(database: &Database) -> Result<Vec<String>, redb::Error> {
    let read = database.begin_read()?;
    let plain = read.list_tables()?.map(|table| table.name().to_owned());
    let multi = read.list_multimap_tables()?.map(|table| redb::MultimapTableHandle::name(&table).to_owned());
    Ok(plain.chain(multi).collect())
}

/// The disk, for one database after the other.
#[derive(Clone, Debug)]
struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disk: Box<dyn StorageBackend>,
    /// A sync has failed: what was written before it may be in the system's memory alone, without the system knowing.
    unsynced: AtomicBool,
}

impl Disk {
    /// Makes a disk fit to be opened again, whatever ended before.
    fn mend(&self) -> io::Result<()> {
        if self.0.unsynced.load(Ordering::Relaxed) {
            self.write_anew()?;
            self.0.unsynced.store(false, Ordering::Relaxed);
        }
        if self.is_half_made()? {
            self.set_len(0)?;
        }
        Ok(())
    }

    /// As long as not all of it is written, this is a crash within the commit that failed; nothing is committed meanwhile.
    fn write_anew(&self) -> io::Result<()> {
        let len = self.len()?;
        self.set_len(len)?;
        let mut piece = vec![0; PIECE as usize];
        for offset in (0..len).step_by(PIECE as usize) {
            let piece = &mut piece[..(len - offset).min(PIECE) as usize];
            self.read(offset, piece)?;
            self.write(offset, piece)?;
        }
        self.sync_data()
    }

    /// Whether the making of the file was cut short: redb writes its mark last, and until then only into the first page. It
    /// would refuse such a file as not its own.
    fn is_half_made(&self) -> io::Result<bool> {
        let len = self.len()?;
        let mut piece = vec![0; 9.min(len) as usize];
        self.read(0, &mut piece)?;
        if len == 0 || piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        piece.resize(PIECE as usize, 0);
        for offset in (4096..len).step_by(PIECE as usize) {
            let piece = &mut piece[..(len - offset).min(PIECE) as usize];
            self.read(offset, piece)?;
            if piece.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.0.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.0.disk.sync_data();
        if synced.is_err() {
            self.0.unsynced.store(true, Ordering::Relaxed);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.disk.write(offset, data)
    }
}
