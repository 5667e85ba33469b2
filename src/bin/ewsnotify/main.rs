//! The command `ewsnotify`: a file for each subcommand, `output` for both forms of output, `connect` for the options that
//! say which server and mailbox, `stop` for signals.

mod connect;
mod decode;
mod demo;
mod failure;
mod get;
mod mails;
mod options;
mod output;
mod password;
mod simulate;
mod status;
mod stop;
mod text;
mod watch;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Failure, Outcome};

const EXAMPLES: &str = "\
Try it without a server of your own:
  ewsnotify demo

Be told of new mail, with subject and sender (the password comes from the environment, or is asked for):
  ewsnotify watch --url mail.example.com --user ada@example.com --password-env EWS_PASSWORD \\
                  --event NewMail --fetch summary

The same for a program, a line of JSON an event:
  ewsnotify watch … --json | while read -r event; do …; done

Exit codes:
  0  done            3  another process owns the state directory
  1  failed          4  a sign-in is needed: the server refused the one it got
  2  wrong usage     5  ended incomplete";

/// Tells at once when something happens in an Exchange mailbox.
///
/// It speaks Exchange Web Services (Exchange 2013 and later, grommunio), keeps the connection alive by itself, and says
/// so where it may have missed something. At a terminal it prints for people, in a pipe a line of JSON an event.
#[derive(Parser)]
#[command(name = "ewsnotify", version, max_term_width = 100, after_help = EXAMPLES, subcommand_required = true)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Watch(watch::Args),
    Get(get::Args),
    Simulate(simulate::Args),
    Decode(decode::Args),
    Options(options::Args),
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(e) => return Failure::from_clap(&e),
    };
    let outcome: Outcome = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Options(args) => options::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
