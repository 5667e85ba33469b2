//! `ewsnotify watch`: tells what happens in a mailbox until it is stopped.

use std::path::PathBuf;
use std::time::Duration;

use crate::connect::duration;
use crate::failure::Outcome;
use crate::session::{Choice, Session, Step, Until, Wanted};

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
    choice: Choice,

    #[command(flatten)]
    wanted: Wanted,

    /// Keep the state here: the next start tells what came meanwhile
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// End after this time, as 30s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Option<Duration>,

    /// Print JSON at a terminal too
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let options = args.choice.options(Some(&args.wanted), args.state_dir.as_deref())?;
    let mut session = Session::open(&options, args.json, Until { time: args.time, drained: false })?;
    session.begin(&args.choice, &options)?;
    let played = play(&mut session);
    session.finish(played, false)
}

fn play(session: &mut Session) -> Outcome {
    loop {
        match session.next() {
            Step::Event(event) => session.output.event(&event)?,
            Step::Idle => {}
            Step::End => return Ok(()),
        }
    }
}
