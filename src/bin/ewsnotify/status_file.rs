//! `ewsnotify status` shows `status.json`, which the library writes into a state directory.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, print};
use crate::text::{Colour, clean, clean_json, span};

const NAME: &str = "status.json";
/// One that is older, of a program that has not ended, is not to be trusted.
const STALE: Duration = Duration::from_secs(60);

const HELP: &str = "\
States: connected; catching-up (connected, and looking for what was missed); starting; awaiting-push (subscribed by push, and
the server has sent nothing yet: it may not reach the URL); degraded (the link is gone and is tried again); sign-in-needed (the server refuses the password); gone (given up: the program was told why).

A web page reads the file itself: DIR/status.json, written every ten seconds at least, mode 0644. The directory is made
with mode 0700, so let others through first: chmod 711 DIR. All else in it stays unreadable for them.";

/// Show how it stands with the mailboxes of a state directory
///
/// Reads what a running `watch`, `drain` or `run`, or another program with the library, writes there; the server is not asked.
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
            "cannot read {}: {what}; it is written while a program watches with this state directory",
            path.display()
        ))
    };
    let bytes = fs::read(&path).map_err(|e| failed(&e))?;
    let picture: Picture = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
    let age = humantime::parse_rfc3339(&picture.time).ok().and_then(|time| time.elapsed().ok());
    let stale = picture.running && age.is_none_or(|age| age > STALE);
    let output = Output::new(args.json);
    let Some(paint) = output.paint() else {
        let mut all: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
        all["stale"] = stale.into();
        let json = serde_json::to_string(&all).map_err(|e| failed(&e))?;
        return Ok(print(&clean_json(json))?);
    };
    let ago = age.map_or("at an unknown time".into(), |age| format!("{} ago", span(age.as_millis() as u64)));
    let head = format!("{}, process {}", clean(&picture.program), picture.pid);
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
        if let Some(since) = &m.unheard_since {
            let age = humantime::parse_rfc3339(since).ok().and_then(|since| since.elapsed().ok());
            let ago = age.map_or(clean(since), |age| format!("{} ago", span(age.as_millis() as u64)));
            print(&format!(
                "{:wide$}  subscribed {ago}, and the server has sent nothing yet: can it reach --push-url, through its own proxy and a \
                 firewall, and does it trust the certificate there?",
                ""
            ))?;
        }
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

/// What the file says, as far as it is shown to people.
#[derive(Deserialize)]
struct Picture {
    program: String,
    pid: u32,
    time: String,
    running: bool,
    mailboxes: Vec<Mailbox>,
    parked: Vec<Parked>,
}

#[derive(Deserialize)]
struct Mailbox {
    mailbox: String,
    state: String,
    #[serde(default)]
    last_success: Option<String>,
    #[serde(default)]
    unheard_since: Option<String>,
    backlog: usize,
    parked: usize,
}

#[derive(Deserialize)]
struct Parked {
    id: u64,
    mailbox: String,
    r#type: String,
    attempts: u32,
}
