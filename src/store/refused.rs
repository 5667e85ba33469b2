//! Passwords that servers have refused, for a program that a supervisor or a cron table starts anew each minute: without knowing, each
//! start would send a wrong one again, and soon lock the account.
//!
//! ```text
//!  DIR/refused.json  mode 0600, replaced as a whole; whoever removes it has the password sent at the next start
//! ```

use std::fs::{self, File};
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

/// The passwords of a state directory. Any thread.
#[derive(Debug)]
pub(crate) struct Refused {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    /// One for all: with a second, what is known of a password would tell twice as much.
    salt: u64,
    refused: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    server: String,
    user: String,
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
        let read = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
        let mut known = read.unwrap_or_else(|| Known { salt: fastrand::u64(..), refused: Vec::new() });
        let now = seconds();
        let ahead = known.refused.iter().any(|e| e.at > now);
        known.refused.iter_mut().for_each(|e| e.at = e.at.min(now));
        let refused = Refused { path, known: Mutex::new(known) };
        if ahead {
            // The clock was wrong then. If that cannot be written, each start waits anew until the clock is there.
            let _ = refused.write(&mut refused.known());
        }
        refused
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who has refused this password last: the server, how often in a row, and when.
    pub fn of(&self, user: &str, password: &Secret) -> Vec<(String, usize, SystemTime)> {
        let known = self.known();
        let mark = mark(known.salt, password);
        let ours = known.refused.iter().filter(|e| e.user == user && e.mark == mark);
        ours.map(|e| (e.server.clone(), e.refusals.min(100), UNIX_EPOCH + Duration::from_secs(e.at)))
            .collect()
    }

    /// A server has refused the password, so often in a row.
    pub fn add(&self, server: &str, user: &str, password: &Secret, refusals: usize) -> Result<()> {
        let mut known = self.known();
        let (server, user, mark) = (server.to_owned(), user.to_owned(), mark(known.salt, password));
        known.refused.retain(|e| e.server != server || e.user != user);
        known.refused.push(Entry { server, user, mark, refusals, at: seconds() });
        self.write(&mut known)
    }

    /// A server has taken a password of this user.
    pub fn remove(&self, server: &str, user: &str) -> Result<()> {
        let mut known = self.known();
        let before = known.refused.len();
        known.refused.retain(|e| e.server != server || e.user != user);
        if known.refused.len() == before {
            return Ok(());
        }
        self.write(&mut known).inspect_err(|_| {
            // A disk that is full has room for less. To know nothing does less harm than to hold a right one back.
            let _ = fs::remove_file(&self.path);
        })
    }

    fn write(&self, known: &mut Known) -> Result<()> {
        let mut written = || {
            let mut text = serde_json::to_vec(known)?;
            while text.len() as u64 > MAX_BYTES {
                // The oldest.
                known.refused.drain(..known.refused.len().div_ceil(2));
                text = serde_json::to_vec(known)?;
            }
            // Of mode 0600, and beside it, so that it can take its place.
            let mut file = tempfile::NamedTempFile::new_in(self.path.parent().unwrap_or(Path::new(".")))?;
            file.write_all(&text)?;
            file.persist(&self.path)?;
            Ok(())
        };
        written().map_err(|e| trouble("write", &self.path, &e))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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

    use serde_json::json;

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

    // A file that somebody has written to, a clock that was wrong, or a disk that is full, would keep a right password from being sent.
    #[test]
    fn what_cannot_be_right_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        for text in ["", "[{", "{}", "{\"salt\":0,\"refused\":[{\"server\":1}]}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(known(&Refused::open(dir.path()), "ada", "x"), [], "{text:?}");
        }
        let entry = json!({"server": SERVER, "user": "u", "mark": mark(7, &Secret::new("x")), "refusals": u32::MAX, "at": u64::MAX});
        fs::write(&path, json!({"salt": 7, "refused": [entry]}).to_string()).unwrap();
        for _ in 0..2 {
            let refused = Refused::open(dir.path());
            let of = refused.of("u", &Secret::new("x"));
            assert!(of.len() == 1 && of[0].1 == 100 && of[0].2 <= SystemTime::now(), "{of:?}");
            assert!(
                !fs::read_to_string(&path).unwrap().contains(&u64::MAX.to_string()),
                "each start would wait anew"
            );
        }
        let refused = Refused::open(dir.path());
        let long = "x".repeat(100_000);
        (0..5).for_each(|n| refused.add(&format!("{n}{long}"), "u", &Secret::new("x"), 1).unwrap());
        assert!(fs::metadata(&path).unwrap().len() <= MAX_BYTES);
        assert_eq!(known(&Refused::open(dir.path()), "u", "x").last().unwrap().0, format!("4{long}"));
    }

    // Two servers that refuse a password would tell twice as much of it: of a list of passwords, 32 bits leave one.
    #[test]
    fn a_password_is_marked_once() {
        let dir = tempfile::tempdir().unwrap();
        for server in ["https://a.test", "https://b.test"] {
            Refused::open(dir.path()).add(server, "ada", &Secret::new("wr0ng-one"), 3).unwrap();
        }
        let refused = Refused::open(dir.path());
        let marks: Vec<u16> = refused.known().refused.iter().map(|e| e.mark).collect();
        assert!(marks.len() == 2 && marks[0] == marks[1], "{marks:?}");
    }
}
