//! `ewsnotify watch`: tells what happens in a mailbox until it is stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ewsnotify::{Client, Event, EventKind, Next, Options, Reason};

use crate::connect::{Connect, duration};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::stop::Stop;
use crate::text;

const HELP: &str = "\
Examples:
  ewsnotify watch --url mail.example.com --user ada@example.com --event NewMail --fetch summary
  ewsnotify watch --url mail.example.com --user svc@example.com --password-env EWS_PASSWORD \\
                  --mailbox support@example.com --folder inbox --folder sentitems --json
  ewsnotify watch --url mail.example.com --user ada@example.com --mode pull --option pull_interval=1m

It ends with 0 when it is stopped (Ctrl-C, SIGTERM, --for), with 4 when the server refuses the sign-in, and with 1 when
the watch had to be given up, or --for was over before a connection came about.";

/// Tell what happens in a mailbox
///
/// Reconnects by itself. At a terminal a line an event and the state of the connections at the bottom; in a pipe, or with
/// --json, one JSON object a line.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,

    /// Watch this folder: a name as inbox or sentitems, or `id:` and an id; may be given several times [default: inbox]
    #[arg(long = "folder", value_name = "FOLDER")]
    folders: Vec<String>,

    /// Watch all folders of the mailbox
    #[arg(long, conflicts_with = "folders")]
    all_folders: bool,

    /// Tell this kind of event: NewMail, Created, Deleted, Modified, Moved, Copied, FreeBusyChanged; may be given several
    /// times [default: all seven]
    #[arg(long = "event", value_name = "KIND")]
    events: Vec<String>,

    /// How to hear of events: on a hanging request, or by asking at an interval [default: streaming]
    #[arg(long, value_parser = ["streaming", "pull"])]
    mode: Option<String>,

    /// What to fetch of an item before it is told [default: none]
    #[arg(long, value_parser = ["none", "summary", "mime"])]
    fetch: Option<String>,

    /// End after this time, as 30s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Option<Duration>,

    /// Print JSON at a terminal too
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let options = args.options()?;
    let stop = Stop::listen()?;
    let client = Arc::new(Client::open(&options)?);
    let mut output = Output::with_status(args.json);
    stop.wake(&client);
    client.watch(&Options::new())?;

    let until = args.time.and_then(|time| Instant::now().checked_add(time));
    let told = tell(&client, &stop, until, &mut output);
    output.end_status();
    client.close();
    let told = told?;
    while let Next::Event(event) = client.next(Duration::ZERO) {
        output.event(&event)?;
    }
    match told.end {
        End::Stopped => Ok(()),
        End::TimeOver if told.connected => Ok(()),
        End::TimeOver => {
            let why = told.trouble.unwrap_or_else(|| "nothing was heard of the server".into());
            Err(Failure::failed(format!("no connection came about in the time of --for: {why}")))
        }
        End::GivenUp(failure) => Err(failure),
    }
}

struct Told {
    end: End,
    /// Whether there ever was a connection.
    connected: bool,
    /// What went wrong last.
    trouble: Option<String>,
}

enum End {
    Stopped,
    TimeOver,
    GivenUp(Failure),
}

/// Prints events until the end of the time, a signal, or the end of the watch.
fn tell(client: &Client, stop: &Stop, until: Option<Instant>, output: &mut Output) -> Outcome<Told> {
    let mut told = Told { end: End::Stopped, connected: false, trouble: None };
    while !stop.requested() {
        output.show(client);
        let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        let event =
            match client.next(if output.has_status() { left.min(Duration::from_secs(1)) } else { left }) {
                Next::Event(event) => event,
                Next::Closed => {
                    told.end = End::GivenUp(Failure::failed("the client closed by itself"));
                    return Ok(told);
                }
                _ => {
                    if until.is_some_and(|until| until <= Instant::now()) {
                        told.end = End::TimeOver;
                        return Ok(told);
                    }
                    continue;
                }
            };
        output.event(&event)?;
        match event.kind {
            EventKind::Connected => told.connected = true,
            EventKind::Error | EventKind::Disconnected => told.trouble = Some(text::reason(&event)),
            EventKind::Closed => {
                told.end = End::GivenUp(given_up(&event, told.trouble.as_deref()));
                return Ok(told);
            }
            _ => {}
        }
    }
    Ok(told)
}

/// Why a watch ended that nobody had closed.
fn given_up(closed: &Event, trouble: Option<&str>) -> Failure {
    let why = match (text::reason(closed), trouble) {
        (why, Some(trouble)) if closed.detail.as_ref().is_none_or(|d| d.message.is_none()) => {
            format!("{why}; {trouble}")
        }
        (why, _) => why,
    };
    let text = format!("the watch of {} was given up: {why}", closed.mailbox);
    match closed.detail.as_ref().and_then(|d| d.reason) {
        Some(Reason::SignInRefused) => Failure::sign_in(text),
        _ => Failure::failed(text),
    }
}

impl Args {
    fn options(&self) -> Outcome<Options> {
        // Before the connection's, which may ask for a password.
        let mut own = Options::new();
        for (key, words) in [("folders", &self.folders), ("events", &self.events)] {
            if !words.is_empty() {
                own.set(key, &words.join(","))?;
            }
        }
        let mut options = self.connect.options()?;
        for key in ["folders", "events"] {
            if let Some(value) = own.get(key) {
                options.set(key, value)?;
            }
        }
        if self.all_folders {
            options.set("all_folders", "true")?;
        }
        for (key, value) in [("mode", &self.mode), ("fetch", &self.fetch)] {
            if let Some(value) = value {
                options.set(key, value)?;
            }
        }
        Ok(options)
    }
}
