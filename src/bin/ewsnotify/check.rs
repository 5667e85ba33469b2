//! `ewsnotify check`: what stands between a program and a mailbox.

use ewsnotify::check::{Finding, Grade, check};
use ewsnotify::net::Cancel;

use crate::connect::With;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, print};
use crate::text::{Colour, Paint, clean, clean_json, word};

const HELP: &str = "\
Examples:
  ewsnotify check ada@example.com
  ewsnotify check ada@example.com --url mail.example.com
  ewsnotify check support@example.com --user svc@example.com --password-env EWS_PASSWORD --option access=impersonate

It looks for the server (Autodiscover), at its TLS and the ways to sign in that it offers, signs in, and tries what a watch
needs: the folders, syncing them, a subscription, a stream. Nothing in the mailbox is changed.

It ends with 0 where a watch would work, with 4 where the sign-in is refused, and else with 1.";

/// Find out what stands between a program and a mailbox
///
/// Says of each step what was found, and what to do about it. In a pipe, or with --json, one JSON object a line.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The mailbox, by its address
    #[arg(value_name = "ADDRESS")]
    address: String,

    /// The server: a host as mail.example.com, or a URL [default: Autodiscover finds it by the mailbox's address]
    #[arg(long, help_heading = "Server and mailbox")]
    url: Option<String>,

    /// Who signs in: an address, or DOMAIN\name on premises [default: ADDRESS]
    #[arg(long, help_heading = "Server and mailbox")]
    user: Option<String>,

    #[command(flatten)]
    with: With,

    /// Print JSON at a terminal too
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let user = args.user.as_deref().unwrap_or(&args.address);
    let options = args.with.options(args.url.as_deref(), user, Some(&args.address))?;
    let output = Output::new(args.json);
    let mut printed = Ok(());
    let summary = check(&options, &Cancel::new(), &mut |finding| {
        let line = match output.paint() {
            Some(paint) => human(&finding, paint),
            None => clean_json(serde_json::to_string(&finding).unwrap_or_default()),
        };
        // Nobody reads on, perhaps; the check is short.
        if printed.is_ok() {
            printed = print(&line);
        }
    })?;
    printed?;
    let things = |n: usize| if n == 1 { "1 thing".to_owned() } else { format!("{n} things") };
    match summary.failed {
        0 => Ok(()),
        n if summary.sign_in => {
            Err(Failure::sign_in(format!("{} failed, the sign-in among them", things(n))))
        }
        n => Err(Failure::failed(format!("{} failed", things(n)))),
    }
}

fn human(finding: &Finding, paint: Paint) -> String {
    let (colour, mark) = match finding.grade {
        Grade::Ok => (Colour::Green, "✓"),
        Grade::Warning => (Colour::Yellow, "!"),
        Grade::Failed => (Colour::Red, "✗"),
        _ => (Colour::Dim, "·"),
    };
    let topic = paint.put(Colour::Bold, &format!("{:<12}", word(&finding.check)));
    format!("{} {topic}  {}", paint.put(colour, mark), clean(&finding.message))
}
