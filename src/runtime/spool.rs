//! Whole messages as files of mode 0600, in `spool_dir` or in a private folder that is removed at the end.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::threads::lock;
use crate::event::Spooled;
use crate::{Error, ErrorKind, Result};

/// So long a list of files costs nothing.
const LIST: usize = 256;

pub(super) struct Spool {
    given: Option<PathBuf>,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    private: Option<tempfile::TempDir>,
    /// What the files weigh that we wrote, less those seen to be gone.
    bytes: u64,
    written: Vec<(PathBuf, u64)>,
    /// How long the list may grow before it is looked through again.
    look_at: usize,
}

impl Spool {
    pub fn new(given: Option<PathBuf>, limit: u64) -> Spool {
        // A host that changes its folder later (a daemon does) finds its messages all the same.
        let given = given.map(|dir| std::path::absolute(&dir).unwrap_or(dir));
        Spool { given, limit, state: Mutex::default() }
    }

    /// Writes a message that came in base64; its file, which goes unless a host is told of it.
    pub fn write(&self, base64: &str) -> Result<Spooled> {
        let mut plain = base64.to_owned().into_bytes();
        plain.retain(|b| !b.is_ascii_whitespace());
        let mime = STANDARD.decode(&plain).map_err(|e| {
            Error::new(ErrorKind::Protocol, format!("the message's MimeContent is no base64: {e}"))
        })?;
        let size = mime.len() as u64;
        let mut state = lock(&self.state);
        self.make_room(&mut state, size)?;
        let dir = self.dir(&mut state)?;
        let (path, mut file) = create(&dir)?;
        if let Err(e) = file.write_all(&mime).and_then(|()| file.flush()) {
            // Half a message is worse than none.
            let _ = fs::remove_file(&path);
            return Err(trouble("write the message to", &path, &e));
        }
        state.bytes += size;
        state.written.push((path.clone(), size));
        Ok(Spooled::new(path))
    }

    fn make_room(&self, state: &mut State, size: u64) -> Result<()> {
        // A list twice as long as it was after the last look is looked through, so that it stays about as long as what lies
        // there, and a file costs a few looks in all.
        if state.bytes + size > self.limit || state.written.len() >= state.look_at.max(LIST) {
            state.written.retain(|(path, _)| path.exists());
            state.bytes = state.written.iter().map(|(_, size)| size).sum();
            state.look_at = 2 * state.written.len();
        }
        if state.bytes + size > self.limit {
            let text = format!(
                "the message's {size} bytes do not fit: files of {} bytes lie in the spool, and option spool_bytes is {}; remove those that are done with",
                state.bytes, self.limit
            );
            return Err(Error::too_large(text));
        }
        Ok(())
    }

    fn dir(&self, state: &mut State) -> Result<PathBuf> {
        if let Some(dir) = &self.given {
            fs::create_dir_all(dir).map_err(|e| trouble("make the folder of option spool_dir,", dir, &e))?;
            return Ok(dir.clone());
        }
        if state.private.is_none() {
            let made = tempfile::Builder::new().prefix("ewsnotify-").tempdir();
            let made = made.map_err(|e| trouble("make a private folder in", &std::env::temp_dir(), &e))?;
            state.private = Some(made);
        }
        Ok(state.private.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default())
    }
}

/// A new file that nobody else can have opened, or foreseen.
fn create(dir: &Path) -> Result<(PathBuf, fs::File)> {
    for _ in 0..16 {
        let path = dir.join(format!("{:016x}.eml", fastrand::u64(..)));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(trouble("make the file", &path, &e)),
        }
    }
    Err(Error::new(ErrorKind::Io, format!("cannot find a free name for a message in {}", dir.display())))
}

fn trouble(what: &str, path: &Path, e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    // A message must not be read by other users of the machine, and must not outlive the client.
    #[test]
    fn files_are_private_and_go_with_the_client() {
        let spool = Spool::new(None, 100);
        let file = spool.write("aGVs\r\n bG8=").unwrap();
        let path = file.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(spool);
        assert!(!path.exists());
    }

    // A host that never removes files must not fill the disk, and one that does must not run dry.
    #[test]
    fn the_spool_is_bounded_by_what_still_lies_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(Some(dir.path().join("deep/er")), 8);
        let first = spool.write("aGVsbG8=").unwrap();
        let e = spool.write("aGVsbG8=").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit);
        assert!(e.to_string().contains("spool_bytes"), "{e}");
        fs::remove_file(first.path()).unwrap();
        spool.write("aGVsbG8=").unwrap();
        assert_eq!(spool.write("!").unwrap_err().kind(), ErrorKind::Protocol);
    }

    // A host that takes its messages away would see its memory grow with each of them, for months.
    #[test]
    fn files_that_are_gone_are_forgotten_long_before_the_spool_is_full() {
        let spool = Spool::new(None, u64::MAX);
        for _ in 0..3 * LIST {
            drop(spool.write("aGVsbG8=").unwrap());
        }
        assert!(lock(&spool.state).written.len() <= LIST);
        let kept: Vec<_> = (0..3 * LIST).map(|_| spool.write("aGVsbG8=").unwrap()).collect();
        let state = lock(&spool.state);
        assert!(kept.iter().all(|file| state.written.iter().any(|(path, _)| path == file.path())));
    }

    // A daemon changes to the root folder after its start: the files would go there, and their paths lead nowhere.
    #[test]
    fn a_relative_folder_stays_where_it_was_when_the_client_was_opened() {
        let given = Spool::new(Some("some/where".into()), 8).given.unwrap();
        assert_eq!(given, std::env::current_dir().unwrap().join("some/where"));
    }
}
