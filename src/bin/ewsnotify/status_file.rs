//! `status.json` in the state directory: how it stands, for people, scripts and web pages; and `ewsnotify status`, which
//! shows it.
//!
//! It is written by the command that owns the directory, whole and at once (a new file takes the old one's name), and is
//! readable by all who can reach it (mode 0644): it tells addresses and counts, nothing of a message.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ewsnotify::{Client, Reason, WatchStatus};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, warn};
use crate::output::{Output, print};
use crate::session::rfc3339;
use crate::text::{Colour, clean, clean_json, span, word};

const NAME: &str = "status.json";
/// How often it is written at the most, and when nothing has changed.
const OFTEN: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(10);
/// One that is older, of a command that has not ended, is not to be trusted.
const STALE: Duration = Duration::from_secs(60);
/// Parked events that are listed.
const LISTED: usize = 100;

const HELP: &str = "\
States: connected; catching-up (connected, and looking for what was missed); starting; degraded (the link is gone and is
tried again); sign-in-needed and gone (given up: the command tells why).

A web page reads the file itself: DIR/status.json, written every ten seconds at least, mode 0644. The directory is made
with mode 0700, so let others through first: chmod 711 DIR. All else in it stays unreadable for them.";

/// Show how it stands with the mailboxes of a state directory
///
/// Reads what a running `watch`, `drain` or `run` writes there; the server is not asked.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The state directory
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,

    /// Print JSON at a terminal too
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let path = args.state_dir.join(NAME);
    let failed = |what: &dyn std::fmt::Display| {
        Failure::failed(format!(
            "cannot read {}: {what}; `watch`, `drain` and `run` write it with --state-dir",
            path.display()
        ))
    };
    let bytes = fs::read(&path).map_err(|e| failed(&e))?;
    let mut picture: Picture = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
    let age = humantime::parse_rfc3339(&picture.time).ok().and_then(|time| time.elapsed().ok());
    let stale = picture.running && age.is_none_or(|age| age > STALE);
    picture.stale = Some(stale);
    let output = Output::new(args.json);
    let Some(paint) = output.paint() else {
        let json = serde_json::to_string(&picture).map_err(|e| failed(&e))?;
        return Ok(print(&clean_json(json))?);
    };
    let ago = age.map_or("at an unknown time".into(), |age| format!("{} ago", span(age.as_millis() as u64)));
    let head = format!("ewsnotify {}, process {}", clean(&picture.command), picture.pid);
    print(&match (picture.running, stale) {
        (true, false) => format!("{head}, runs; written {ago}"),
        (true, true) => paint.put(Colour::Red, &format!("{head}, was killed or hangs; written {ago}")),
        (false, _) => format!("{head}, ended {ago}"),
    })?;
    let wide = picture.mailboxes.iter().map(|m| m.mailbox.chars().count()).max().unwrap_or(0).max(7);
    let title = format!(
        "{:wide$}  {:14}  {:20}  {:>7}  {:>6}",
        "MAILBOX", "STATE", "LAST SUCCESS", "BACKLOG", "PARKED"
    );
    print(&paint.put(Colour::Dim, &title))?;
    for m in &picture.mailboxes {
        let colour = match m.state.as_str() {
            "connected" => Colour::Green,
            "sign-in-needed" | "gone" => Colour::Red,
            _ => Colour::Yellow,
        };
        let state = paint.put(colour, &format!("{:14}", clean(&m.state)));
        let success = clean(m.last_success.as_deref().unwrap_or("never"));
        let (name, backlog, parked) = (clean(&m.mailbox), m.backlog, m.parked);
        print(&format!("{name:wide$}  {state}  {success:20}  {backlog:>7}  {parked:>6}"))?;
    }
    for p in &picture.parked {
        let (id, kind, mailbox) = (p.id, clean(&p.r#type), clean(&p.mailbox));
        print(&format!(
            "parked {id}: {kind} of {mailbox}, given {} times; --release {id} tells it again",
            p.attempts
        ))?;
    }
    Ok(())
}

/// What the file says.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Picture {
    command: String,
    pid: u32,
    /// When it was written.
    time: String,
    /// False once the command has ended in order.
    running: bool,
    /// Only as `ewsnotify status` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stale: Option<bool>,
    mailboxes: Vec<Mailbox>,
    /// The first hundred.
    parked: Vec<Parked>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Mailbox {
    mailbox: String,
    state: String,
    /// Why it is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Up to when it is certain that nothing was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_success: Option<String>,
    /// Events that are not done with, the parked ones apart.
    backlog: usize,
    parked: usize,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Parked {
    id: u64,
    mailbox: String,
    r#type: String,
    item_id: String,
    attempts: u32,
}

/// The writer.
pub struct StatusFile {
    path: PathBuf,
    picture: Picture,
    /// What an earlier run knew.
    before: Vec<Mailbox>,
    watches: BTreeMap<u64, Mailbox>,
    looked: Option<Instant>,
    written: Option<Instant>,
    warned: bool,
}

impl StatusFile {
    pub fn new(command: &str, dir: PathBuf) -> StatusFile {
        let picture =
            Picture { command: command.into(), pid: std::process::id(), running: true, ..Picture::default() };
        let path = dir.join(NAME);
        let old = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Picture>(&bytes).ok());
        let before = old.map(|p| p.mailboxes).unwrap_or_default();
        StatusFile {
            path,
            picture,
            before,
            watches: BTreeMap::new(),
            looked: None,
            written: None,
            warned: false,
        }
    }

    /// A watch, with what an earlier run knew of its mailbox.
    pub fn add(&mut self, watch: u64, name: &str) {
        let old = self.before.iter().find(|m| m.mailbox == name).cloned();
        let old = old.unwrap_or_else(|| Mailbox { mailbox: name.into(), ..Mailbox::default() });
        self.watches.insert(watch, Mailbox { state: "starting".into(), reason: None, ..old });
    }

    /// The watch was given up.
    pub fn ended(&mut self, watch: u64, sign_in: bool) {
        if let Some(mailbox) = self.watches.get_mut(&watch) {
            mailbox.state = if sign_in { "sign-in-needed" } else { "gone" }.into();
        }
    }

    /// Writes it if it is time.
    pub fn look(&mut self, client: &Client) {
        if self.looked.is_some_and(|at| at.elapsed() < OFTEN) {
            return;
        }
        self.looked = Some(Instant::now());
        let changed = self.refresh(client);
        if changed || self.written.is_none_or(|at| at.elapsed() >= SELDOM) {
            self.write();
        }
    }

    /// The command ends; the last picture stays.
    pub fn end(&mut self, client: &Client) {
        self.refresh(client);
        self.picture.running = false;
        self.write();
    }

    fn refresh(&mut self, client: &Client) -> bool {
        for status in client.status().watches {
            if let Some(mailbox) = self.watches.get_mut(&status.watch) {
                mailbox.update(&status);
            }
        }
        let mailboxes: Vec<Mailbox> = self.watches.values().cloned().collect();
        let parked = client.parked().into_iter().take(LISTED).map(|p| Parked {
            id: p.id,
            mailbox: p.event.mailbox.to_string(),
            r#type: p.event.kind.name().into(),
            item_id: p.event.item_id.unwrap_or_default(),
            attempts: p.attempts,
        });
        let parked: Vec<Parked> = parked.collect();
        let changed = mailboxes != self.picture.mailboxes || parked != self.picture.parked;
        self.picture.mailboxes = mailboxes;
        self.picture.parked = parked;
        changed
    }

    fn write(&mut self) {
        self.picture.time = rfc3339(SystemTime::now());
        self.written = Some(Instant::now());
        if let Err(e) = put(&self.path, &self.picture)
            && !std::mem::replace(&mut self.warned, true)
        {
            warn(&format!("cannot write {}: {e}; it goes on without", self.path.display()));
        }
    }
}

impl Mailbox {
    fn update(&mut self, status: &WatchStatus) {
        let refused = status.reason == Some(Reason::SignInRefused);
        self.state = match status.state {
            "connected" if status.catching_up => "catching-up",
            "connected" => "connected",
            "starting" => "starting",
            _ if refused => "sign-in-needed",
            _ => "degraded",
        }
        .into();
        self.reason = status.reason.map(|reason| word(&reason));
        if let Some(time) = status.last_success {
            self.last_success = Some(rfc3339(time));
        }
        self.backlog = status.backlog + status.later;
        self.parked = status.parked;
    }
}

fn put(path: &Path, picture: &Picture) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    // Whatever the umask is: whoever may enter the directory may read it.
    file.set_permissions(Permissions::from_mode(0o644))?;
    let mut text = serde_json::to_vec_pretty(picture)?;
    text.push(b'\n');
    file.write_all(&text)?;
    fs::rename(&new, path)
}
