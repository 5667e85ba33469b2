//! The folder `push` in the state directory: a web process that is not ours puts what the server sent there, a file each, and
//! answers at once; here it is taken.
//!
//! A file has its final name, `*.xml`, from the moment that it is whole (it is written under a name that begins with a dot, and renamed), and
//! names go in the order of coming. What is whole and can never be read is thrown away, and told; what may be read later waits. The file `unwanted` has the
//! subscriptions, a line each, that the web process is to answer `Unsubscribe`.

mod files;
mod taker;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::pipe::{PipeFlags, pipe_with};

use self::taker::Taker;
use super::core::Core;
use super::threads::{guarded, lock};
use crate::net::no_pipe;
use crate::{Error, ErrorKind, Result};

const NAME: &str = "push";
const STACK: usize = 512 * 1024;

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
