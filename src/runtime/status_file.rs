//! `status.json` in the state directory: how it stands, for web pages and scripts that read it without the library.
//!
//! It is replaced as a whole (a new file takes the old one's name), and is readable by all who can reach it: it tells addresses
//! and counts, nothing of a message.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::core::Picture;
use crate::event::{rfc3339, rfc3339_opt};
use crate::{Error, ErrorKind, Reason, Result};

const NAME: &str = "status.json";
/// How often it is looked whether something has changed.
pub(super) const OFTEN: Duration = Duration::from_secs(2);
/// How often it is written when nothing has.
const SELDOM: Duration = Duration::from_secs(10);
/// Parked events that are listed.
pub(super) const LISTED: usize = 100;

/// What the file says.
#[derive(Serialize)]
struct Written<'a> {
    /// The file name of the program that writes it.
    program: &'a str,
    pid: u32,
    #[serde(serialize_with = "rfc3339")]
    time: SystemTime,
    /// False once the client was closed in order.
    running: bool,
    mailboxes: &'a [Mailbox],
    /// The first of them.
    parked: &'a [Parked],
}

#[derive(Clone, PartialEq, Serialize)]
struct Mailbox {
    mailbox: String,
    state: &'static str,
    /// Why it is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// Since when there is a subscription by push of which nothing has come.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339_opt")]
    unheard_since: Option<SystemTime>,
    /// Up to when it is certain that nothing was missed; of an earlier run where this one has not got so far.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339_opt")]
    last_success: Option<SystemTime>,
    /// Events that are not done with, the parked ones apart.
    backlog: usize,
    parked: usize,
    /// The host is given no more before it acknowledges something.
    waits_for_host: bool,
}

#[derive(Clone, PartialEq, Serialize)]
struct Parked {
    id: u64,
    mailbox: String,
    r#type: &'static str,
    item_id: String,
    attempts: u32,
}

/// The writer.
pub(super) struct StatusFile {
    path: PathBuf,
    program: String,
    /// The last success of each mailbox, as an earlier run had written it.
    before: BTreeMap<String, SystemTime>,
    mailboxes: Vec<Mailbox>,
    parked: Vec<Parked>,
    looked: Option<Instant>,
    written: Option<Instant>,
    failed: bool,
}

impl StatusFile {
    pub fn new(dir: &Path) -> StatusFile {
        let path = dir.join(NAME);
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(Path::file_name).unwrap_or_default();
        StatusFile {
            program: program.to_string_lossy().into_owned(),
            before: successes(&path),
            path,
            mailboxes: Vec::new(),
            parked: Vec::new(),
            looked: None,
            written: None,
            failed: false,
        }
    }

    /// Writes it if it is time; `picture` is asked for how it stands. An error is told the first time in a row.
    pub fn look(&mut self, picture: impl FnOnce() -> Picture) -> Result<()> {
        if self.looked.is_some_and(|at| at.elapsed() < OFTEN) {
            return Ok(());
        }
        let changed = self.refresh(picture());
        // Before the first watch there is nothing to say.
        if self.mailboxes.is_empty() && self.written.is_none() {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        match changed || self.written.is_none_or(|at| at.elapsed() >= SELDOM) {
            true => self.write(true),
            false => Ok(()),
        }
    }

    /// The client was closed; what it was like then stays.
    pub fn end(&mut self, picture: Picture) {
        self.refresh(picture);
        if !self.mailboxes.is_empty() || self.written.is_some() {
            let _ = self.write(false);
        }
    }

    /// Whether anything has changed but that time goes on.
    fn refresh(&mut self, picture: Picture) -> bool {
        let (status, parked) = picture;
        let mailboxes = status.watches.into_iter().map(|w| Mailbox {
            last_success: w.last_success.or_else(|| self.before.get(&*w.mailbox).copied()),
            mailbox: w.mailbox.to_string(),
            state: w.state,
            reason: w.reason,
            unheard_since: w
                .unheard_ms
                .and_then(|ms| SystemTime::now().checked_sub(Duration::from_millis(ms))),
            backlog: w.backlog + w.later,
            parked: w.parked,
            waits_for_host: w.waits_for_host,
        });
        let mailboxes: Vec<Mailbox> = mailboxes.collect();
        let parked = parked.into_iter().map(|p| Parked {
            id: p.id,
            mailbox: p.event.mailbox.to_string(),
            r#type: p.event.kind.name(),
            item_id: p.event.item_id.unwrap_or_default(),
            attempts: p.attempts,
        });
        let parked: Vec<Parked> = parked.collect();
        let same = |(a, b): (&Mailbox, &Mailbox)| {
            let b = Mailbox { last_success: a.last_success, unheard_since: a.unheard_since, ..b.clone() };
            *a == b
        };
        let changed = parked != self.parked
            || mailboxes.len() != self.mailboxes.len()
            || !mailboxes.iter().zip(&self.mailboxes).all(same);
        (self.mailboxes, self.parked) = (mailboxes, parked);
        changed
    }

    fn write(&mut self, running: bool) -> Result<()> {
        self.written = Some(Instant::now());
        let written = Written {
            program: &self.program,
            pid: std::process::id(),
            time: SystemTime::now(),
            running,
            mailboxes: &self.mailboxes,
            parked: &self.parked,
        };
        let result = put(&self.path, &written);
        let failed_before = std::mem::replace(&mut self.failed, result.is_err());
        match result {
            Err(e) if !failed_before => {
                let text = format!("cannot write {}: {e}; all else goes on", self.path.display());
                Err(Error::new(ErrorKind::Io, text))
            }
            _ => Ok(()),
        }
    }
}

fn put(path: &Path, written: &Written<'_>) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    // Whatever the umask is: whoever may enter the directory may read it.
    file.set_permissions(Permissions::from_mode(0o644))?;
    let mut text = serde_json::to_vec_pretty(written)?;
    text.push(b'\n');
    file.write_all(&text)?;
    fs::rename(&new, path)
}

/// The last success of each mailbox, as the file has it.
fn successes(path: &Path) -> BTreeMap<String, SystemTime> {
    let text = fs::read(path).unwrap_or_default();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let mailboxes = file["mailboxes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let success = |m: &serde_json::Value| {
        let time = humantime::parse_rfc3339(m["last_success"].as_str()?).ok()?;
        Some((m["mailbox"].as_str()?.to_owned(), time))
    };
    mailboxes.iter().filter_map(success).collect()
}
