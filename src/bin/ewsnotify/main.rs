//! The command `ewsnotify`: a file for each subcommand, `output` for both forms of output, `connect` for the options that
//! say which server and mailbox, `session` for what `watch`, `drain` and `run` have in common,
//! `stop` for signals.

mod check;
mod connect;
mod decode;
mod demo;
mod drain;
mod exec;
mod failure;
mod get;
mod login;
mod mails;
mod options;
mod output;
mod password;
mod push;
mod run;
mod session;
mod simulate;
mod status;
mod status_file;
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

Find out what stands between you and a mailbox:
  ewsnotify check ada@example.com

Be told of new mail, with subject and sender (the password comes from the environment, or is asked for):
  ewsnotify watch --url mail.example.com --user ada@example.com --password-env EWS_PASSWORD \\
                  --event NewMail --fetch summary

The same for a program, a line of JSON an event:
  ewsnotify watch … --json | while read -r event; do …; done

From cron, each minute, with all that came in between:
  ewsnotify drain … --state-dir DIR --for 50s

A command for each new mail, which it gets on its standard input:
  ewsnotify run --exec 'rt-mailgate …' --state-dir DIR …

Exit codes:
  0  done            3  another process owns the state directory
  1  failed          4  a sign-in is needed: the server refused the one it got
  2  wrong usage     5  ended incomplete";

/// Tells at once when something happens in an Exchange mailbox.
///
/// It speaks Exchange Web Services (Exchange 2007 SP1 and later, grommunio), keeps the connection alive by itself, and says
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
    Drain(drain::Args),
    Run(run::Args),
    Status(status_file::Args),
    Check(check::Args),
    Get(get::Args),
    Login(login::Args),
    Simulate(simulate::Args),
    Decode(decode::Args),
    Options(options::Args),
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(e) => return Failure::from_clap(e),
    };
    let outcome: Outcome = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status_file::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Login(args) => login::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Options(args) => options::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
