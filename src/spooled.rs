//! A message's file, and the count of those that no host has taken yet.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// A message's file. It goes with the last one that holds it, unless a host was told of it.
#[derive(Clone, Debug)]
pub struct Spooled(Arc<SpooledFile>);

#[derive(Debug)]
struct SpooledFile {
    path: PathBuf,
    told: AtomicBool,
    place: Mutex<Option<Place>>,
}

/// How many messages are ahead of the host: asked for, or in a file that it has not been told of.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    files: AtomicUsize,
    bytes: AtomicU64,
}

/// One of them. It gives its place back when it goes.
#[derive(Debug)]
pub(crate) struct Place {
    ahead: Arc<Ahead>,
    bytes: u64,
}

impl Spooled {
    /// A file that is there already.
    pub(crate) fn new(path: PathBuf, place: Option<Place>) -> Spooled {
        Spooled(Arc::new(SpooledFile { path, told: AtomicBool::new(false), place: Mutex::new(place) }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The host is told of it: from here on the file is the host's.
    pub(crate) fn told(self) {
        self.0.told.store(true, SeqCst);
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl PartialEq for Spooled {
    fn eq(&self, other: &Spooled) -> bool {
        self.path() == other.path()
    }
}

impl Eq for Spooled {}

impl Drop for SpooledFile {
    fn drop(&mut self) {
        if !*self.told.get_mut() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Ahead {
    pub fn files(&self) -> usize {
        self.files.load(SeqCst)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }
}

impl Place {
    pub fn new(ahead: &Arc<Ahead>) -> Place {
        ahead.files.fetch_add(1, SeqCst);
        Place { ahead: ahead.clone(), bytes: 0 }
    }

    /// The file has this size now.
    pub fn resize(&mut self, bytes: u64) {
        self.ahead.bytes.fetch_add(bytes, SeqCst);
        self.ahead.bytes.fetch_sub(self.bytes, SeqCst);
        self.bytes = bytes;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.resize(0);
        self.ahead.files.fetch_sub(1, SeqCst);
    }
}
