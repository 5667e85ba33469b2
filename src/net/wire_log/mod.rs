//! Every request and answer, written to a file for whoever looks for what goes wrong.
//!
//! An entry begins with the time, the number of the connection and the direction: `>` is what we send, `<` what comes. Each further
//! line of it stands behind two spaces, so that nobody's text can pass for an entry. What must not be seen is left out: see
//! [`shown`].
//!
//! Nobody waits for the disk but the one thread that happens to write: others put their entries into a queue and go on.

mod shown;

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::auth::Secrets;
use crate::{Error, ErrorKind, Result};
use shown::MAX_BODY;
pub(super) use shown::{body, head, raw_head, signature};

/// At this size the file becomes `FILE.1`, in the place of an earlier one, and a new one begins.
const MAX_FILE: u64 = 16 << 20;
/// What waits for a slow disk; what is more is left out, and counted.
const MAX_QUEUE: usize = 4 << 20;

/// So much of what others add meanwhile does the thread write that happens to write.
const BATCHES: usize = 8;
/// How long turning it on or off waits for a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which way it goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Out,
    In,
}

/// The wire log of a client. Off at first; it costs one look at a flag then.
#[derive(Default)]
pub struct WireLog {
    on: AtomicBool,
    connections: AtomicU64,
    state: Mutex<State>,
    /// Nobody writes any more.
    rested: Condvar,
    trouble: OnceLock<Box<dyn Fn(Error) + Send + Sync>>,
}

#[derive(Default)]
struct State {
    log: Option<Log>,
    queue: VecDeque<String>,
    queued: usize,
    left_out: u64,
    /// A thread writes, and has the log.
    writing: bool,
}

struct Log {
    path: PathBuf,
    file: File,
    size: u64,
}

impl WireLog {
    /// Writes to this file (mode 0600, behind what is in it) from now on, or to none. What was said before is in the file then.
    ///
    /// ```
    /// let log = ewsnotify::net::WireLog::default();
    /// let dir = tempfile::tempdir()?;
    /// log.write_to(Some(&dir.path().join("wire.log")))?;
    /// assert!(log.is_on());
    /// log.write_to(None)?;
    /// assert!(log.write_to(Some(dir.path())).is_err()); // a folder is no file
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a file that cannot be opened, and then all stays as it was; and where the old one cannot be written to its
    /// end, or not within five seconds: then the log is off.
    pub fn write_to(&self, path: Option<&Path>) -> Result<()> {
        let log = path.map(|path| Log::open(path).map_err(|e| not_opened(path, &e))).transpose()?;
        // Nothing is added meanwhile.
        self.on.store(false, Ordering::Relaxed);
        let writes = |state: &mut State| state.writing;
        let (mut state, waited) = self
            .rested
            .wait_timeout_while(self.state(), PATIENCE, writes)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            let text =
                "the wire log is off, but its disk has not taken yet what is to be written: try again later";
            return Err(Error::new(ErrorKind::Io, text));
        }
        let (rest, left_out) = (std::mem::take(&mut state.queue), std::mem::take(&mut state.left_out));
        state.queued = 0;
        if let Some(mut old) = state.log.take() {
            old.write(rest, left_out)?;
        }
        self.on.store(log.is_some(), Ordering::Relaxed);
        state.log = log;
        Ok(())
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Who hears that it cannot be written any more. It is off then.
    pub(crate) fn on_trouble(&self, tell: impl Fn(Error) + Send + Sync + 'static) {
        let _ = self.trouble.set(Box::new(tell));
    }

    /// A number for a connection.
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes a head, and a body behind it.
    pub(super) fn say(&self, secrets: &Secrets, connection: u64, way: Way, first: &str, rest: &str) {
        if !self.is_on() {
            return;
        }
        let (first, rest) = (secrets.redact(first), secrets.redact(rest));
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let way = match way {
            Way::Out => '>',
            Way::In => '<',
        };
        let mut entry = String::with_capacity(first.len() + rest.len() + 80);
        let _ = write!(entry, "{time} {connection} {way} ");
        for (n, line) in first.lines().chain(rest.lines()).enumerate() {
            if n > 0 {
                entry.push_str("  ");
            }
            // A server's bytes must not steer the terminal of whoever reads it.
            line.chars().for_each(|c| match c {
                '\t' => entry.push(c),
                c if c.is_control() => entry.extend(c.escape_debug()),
                c => entry.push(c),
            });
            entry.push('\n');
        }
        self.put(entry);
    }

    fn put(&self, entry: String) {
        let mut state = self.state();
        if state.queued + entry.len() > MAX_QUEUE {
            state.left_out += 1;
            return;
        }
        state.queued += entry.len();
        state.queue.push_back(entry);
        if state.writing {
            return;
        }
        let Some(mut log) = state.log.take() else {
            state.queue.clear();
            state.queued = 0;
            return;
        };
        state.writing = true;
        let mut result = Ok(());
        let mut batches = 0;
        // What comes faster than the disk is left to the next one: this thread has a server to listen to.
        while result.is_ok() && batches < BATCHES && (!state.queue.is_empty() || state.left_out > 0) {
            let batch = std::mem::take(&mut state.queue);
            let left_out = std::mem::take(&mut state.left_out);
            state.queued = 0;
            batches += 1;
            drop(state);
            result = log.write(batch, left_out);
            state = self.state();
        }
        state.writing = false;
        match &result {
            Ok(()) => state.log = Some(log),
            Err(_) => {
                self.on.store(false, Ordering::Relaxed);
                (state.queue, state.queued) = (VecDeque::new(), 0);
            }
        }
        drop(state);
        self.rested.notify_all();
        if let (Err(e), Some(tell)) = (result, self.trouble.get()) {
            tell(e);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn open(path: &Path) -> io::Result<Log> {
        // Opening a pipe that nobody reads would hold the caller up for ever.
        let now = OFlags::NONBLOCK.bits() as i32;
        let file = File::options().append(true).create(true).mode(0o600).custom_flags(now).open(path)?;
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
        let found = file.metadata()?;
        if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            // It was there before: what comes now is for its owner only.
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        Ok(Log { path: path.to_owned(), file, size: found.len() })
    }

    fn write(&mut self, batch: VecDeque<String>, left_out: u64) -> Result<()> {
        let mut put = || {
            for entry in &batch {
                self.file.write_all(entry.as_bytes())?;
                self.size += entry.len() as u64;
            }
            if left_out > 0 {
                writeln!(self.file, "{left_out} entries are left out here: the disk was too slow")?;
            }
            if self.size < MAX_FILE || !self.file.metadata()?.is_file() {
                return Ok(());
            }
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            *self = Log::open(&self.path)?;
            Ok(())
        };
        put().map_err(|e| failed(&self.path, &e))
    }
}

fn not_opened(path: &Path, e: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("the wire log {} cannot be opened: {e}", path.display()))
}

fn failed(path: &Path, e: &io::Error) -> Error {
    let text =
        format!("the wire log {} cannot be written: {e}; it is off, and all else goes on", path.display());
    Error::new(ErrorKind::Io, text)
}

/// What of an answer's body has come and is not written yet.
pub(super) struct Coming {
    content_type: Option<String>,
    bytes: Zeroizing<Vec<u8>>,
    length: u64,
}

impl Coming {
    pub fn new(content_type: Option<&str>) -> Coming {
        // All at once: what is left behind by growing is not wiped.
        let bytes = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        Coming { content_type: content_type.map(str::to_owned), bytes, length: 0 }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        let room = MAX_BODY - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
    }

    /// The body as far as it came; nothing if there is none.
    pub fn take(&mut self) -> Option<Zeroizing<String>> {
        let text = (self.length > 0).then(|| body(self.content_type.as_deref(), &self.bytes, self.length));
        let text = text.map(Zeroizing::new);
        self.bytes.clear();
        self.length = 0;
        text
    }

    /// Of one that goes on: up to the last tag's end, so that nothing is cut in two.
    pub fn take_whole(&mut self) -> Option<Zeroizing<String>> {
        let end = memchr::memrchr(b'>', &self.bytes)? + 1;
        if self.length > self.bytes.len() as u64 {
            return self.take();
        }
        let text = body(self.content_type.as_deref(), &self.bytes[..end], end as u64);
        self.bytes.drain(..end);
        self.length = self.bytes.len() as u64;
        Some(Zeroizing::new(text))
    }
}

impl fmt::Debug for WireLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireLog").field("on", &self.is_on()).finish()
    }
}

#[cfg(test)]
mod tests;
