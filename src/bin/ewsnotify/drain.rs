//! `ewsnotify drain`: tells what came since the last run, stays live for a while, and ends.

use std::time::Duration;

use ewsnotify::{ErrorKind, Event};

use crate::connect::duration;
use crate::failure::{Failure, Outcome};
use crate::session::{Choice, Going, Session, Step, Until, Wanted};

const HELP: &str = "\
Example, for cron, each minute:
  ewsnotify drain --url mail.example.com --user svc@example.com --password-stdin --state-dir DIR --event NewMail --for 50s

The first run begins with what comes from then on, or with all that lies there (--option since=all). An event is
acknowledged after its line is written (to the disk, where it goes into a file), and before the next: after a crash at
most the last line comes again. --fetch mime wants --option spool_dir=DIR, so that the messages stay.

It ends with 0 when everything was told; with 3, at once, while another process has the state directory; with 5 when
something is left that the next run will tell, or was missed for good; with 1, 2 and 4 as `watch` does.";

/// Tell what came since the last run, and end: for cron
///
/// Catches up from the state directory, stays live until the time of --for is over, and ends. Prints as `watch` does.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,

    #[command(flatten)]
    wanted: Wanted,

    #[command(flatten)]
    going: Going,

    /// End after this time, as 50s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "50s")]
    time: Duration,
}

pub fn run(args: &Args) -> Outcome {
    let mut options = args.choice.options(Some(&args.wanted), Some(&args.going.state_dir))?;
    options.set("ack", "manual")?;
    args.going.after_ack(&mut options)?;
    if options.get("fetch") == Some("mime") && options.get("spool_dir").is_none() {
        return Err(Failure::usage(
            "--fetch mime wants a folder whose messages stay when the command has ended: --option spool_dir=DIR",
        ));
    }
    let until = Until { time: Some(args.time), drained: args.going.exit_when_drained };
    let mut session = Session::open(&options, args.going.json, until)?;
    session.begin(&args.choice, &options)?;
    session.release(&args.going.release)?;
    let played = play(&mut session);
    session.finish(played, true)
}

fn play(session: &mut Session) -> Outcome {
    loop {
        match session.next() {
            Step::Event(event) => {
                session.output.event(&event)?;
                ack(session, &event)?;
            }
            Step::Idle => {}
            Step::End => return Ok(()),
        }
    }
}

/// Returns when the line and that it was told are durable. Only events of items are kept until then.
fn ack(session: &Session, event: &Event) -> Outcome {
    if !event.kind.is_mailbox() || event.item_id.is_none() {
        return Ok(());
    }
    session.output.sync()?;
    match session.client.ack(event.seq) {
        // The watch has ended meanwhile: its next run may tell the event again.
        Err(e) if e.kind() == ErrorKind::Invalid => Ok(()),
        acked => Ok(acked?),
    }
}
