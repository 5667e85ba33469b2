//! Passwords that servers have refused, for a program that a supervisor or a cron table starts anew each minute: without knowing, each
//! start would send a wrong one again, and soon lock the account.
//!
//! ```text
//!  DIR/refused.json  mode 0600, replaced as a whole; whoever removes it has the password sent at the next start
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files::trouble;
use crate::Result;
use crate::auth::Secret;

const NAME: &str = "refused.json";
/// No file is longer.
const MAX_BYTES: u64 = 256 * 1024;
/// Of more, the oldest go.
const MANY: usize = 1000;

/// The passwords of a state directory. Any thread.
#[derive(Debug)]
pub(crate) struct Refused {
    path: PathBuf,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    server: String,
    user: String,
    salt: u64,
    /// Of the password: see [`mark`].
    mark: u16,
    /// In a row.
    refusals: usize,
    /// Seconds since 1970.
    at: u64,
}

impl Refused {
    /// In this directory, which is there. A file that is damaged or not there holds nothing.
    pub fn open(dir: &Path) -> Refused {
        let path = dir.join(NAME);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        let entries = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Refused { path, entries: Mutex::new(entries) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who has refused this password last: the server, how often in a row, and when.
    pub fn of(&self, user: &str, password: &Secret) -> Vec<(String, usize, SystemTime)> {
        let entries = self.entries();
        let ours = entries.iter().filter(|e| e.user == user && e.mark == mark(e.salt, password));
        ours.map(|e| (e.server.clone(), e.refusals, UNIX_EPOCH + Duration::from_secs(e.at.min(1 << 40))))
            .collect()
    }

    /// A server has refused the password, so often in a row.
    pub fn add(&self, server: &str, user: &str, password: &Secret, refusals: usize) -> Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let salt = fastrand::u64(..);
        let (server, user, mark) = (server.to_owned(), user.to_owned(), mark(salt, password));
        let mut entries = self.entries();
        entries.retain(|e| e.server != server || e.user != user);
        let surplus = (entries.len() + 1).saturating_sub(MANY);
        entries.drain(..surplus);
        entries.push(Entry { server, user, salt, mark, refusals, at });
        self.write(&entries)
    }

    /// A server has taken a password of this user.
    pub fn remove(&self, server: &str, user: &str) -> Result<()> {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|e| e.server != server || e.user != user);
        if entries.len() == before { Ok(()) } else { self.write(&entries) }
    }

    fn write(&self, entries: &[Entry]) -> Result<()> {
        let written = || {
            // Of mode 0600, and beside it, so that it can take its place.
            let mut file = tempfile::NamedTempFile::new_in(self.path.parent().unwrap_or(Path::new(".")))?;
            file.write_all(&serde_json::to_vec(entries)?)?;
            file.persist(&self.path)?;
            Ok(())
        };
        written().map_err(|e| trouble("write", &self.path, &e))
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Nothing panics while it is held.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sixteen bits tell a corrected password from the wrong one in all but one of 65,536 cases, and tell whoever reads the file nothing: of any
/// list of passwords he might try, thousands fit.
fn mark(salt: u64, password: &Secret) -> u16 {
    let mut text = Zeroizing::new(Vec::with_capacity(8 + password.expose().len()));
    text.extend(salt.to_le_bytes());
    text.extend(password.expose().as_bytes());
    let hash = ring::digest::digest(&ring::digest::SHA256, &text);
    u16::from_le_bytes([hash.as_ref()[0], hash.as_ref()[1]])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const SERVER: &str = "https://mail.example.test";

    fn known(refused: &Refused, user: &str, password: &str) -> Vec<(String, usize)> {
        let known = refused.of(user, &Secret::new(password));
        known.into_iter().map(|(server, refusals, _)| (server, refusals)).collect()
    }

    // A password that was corrected would wait for the end of the wrong one's time.
    #[test]
    fn it_knows_the_password_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = Secret::new("wr0ng-one");
        Refused::open(dir.path()).add(SERVER, "ada", &wrong, 3).unwrap();
        Refused::open(dir.path()).add(SERVER, "ada", &wrong, 4).unwrap();
        let refused = Refused::open(dir.path());
        assert_eq!(known(&refused, "ada", "wr0ng-one"), [(SERVER.to_owned(), 4)]);
        assert!(refused.of("ada", &wrong)[0].2.elapsed().unwrap() < Duration::from_secs(600));
        assert_eq!(known(&refused, "bob", "wr0ng-one"), []);
        // Of a hundred others, one is taken for it once in six hundred runs, and two never.
        let taken = (0..100).filter(|n| !known(&refused, "ada", &format!("right {n}")).is_empty()).count();
        assert!(taken < 2, "{taken}");
        assert_eq!(fs::metadata(refused.path()).unwrap().mode() & 0o777, 0o600);
        refused.remove(SERVER, "ada").unwrap();
        assert_eq!(known(&Refused::open(dir.path()), "ada", "wr0ng-one"), []);
    }

    // A file that somebody has written to, or a disk that is full, would keep the client from starting.
    #[test]
    fn what_cannot_be_read_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        for text in ["", "[{", "{}", "[{\"server\":1}]"] {
            fs::write(&path, text).unwrap();
            assert_eq!(known(&Refused::open(dir.path()), "ada", "x"), [], "{text:?}");
        }
        let at = format!(
            "[{{\"server\":\"s\",\"user\":\"u\",\"salt\":0,\"mark\":{},\"refusals\":1,\"at\":{}}}]",
            mark(0, &Secret::new("x")),
            u64::MAX
        );
        fs::write(&path, at).unwrap();
        assert_eq!(Refused::open(dir.path()).of("u", &Secret::new("x")).len(), 1);
        let refused = Refused::open(dir.path());
        (0..MANY + 5).for_each(|n| refused.add(&n.to_string(), "u", &Secret::new("x"), 1).unwrap());
        assert_eq!(refused.entries().len(), MANY);
    }
}
