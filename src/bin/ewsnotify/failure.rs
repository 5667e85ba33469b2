//! How a command ends: exit codes, and the text on stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use ewsnotify::{Error, ErrorKind};

use crate::text::clean;

/// What a command comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not end with 0; or that it did, because nobody reads on.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    /// Empty where everything was said already.
    text: String,
}

impl Failure {
    /// Exit code 1.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure { code: 1, text: text.into() }
    }

    /// Exit code 2.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { code: 2, text: text.into() }
    }

    /// Exit code 4.
    pub fn sign_in(text: impl Into<String>) -> Failure {
        Failure { code: 4, text: text.into() }
    }

    /// Exit code 5.
    pub fn incomplete(text: impl Into<String>) -> Failure {
        Failure { code: 5, text: text.into() }
    }

    /// Whether it is that nobody reads standard output on.
    pub fn is_closed_pipe(&self) -> bool {
        self.code == 0
    }

    /// Exit code 1 where the text is on stderr already.
    pub fn said() -> Failure {
        Failure::failed("")
    }

    /// Help and version on stdout with 0; else the error on stderr with 2.
    pub fn from_clap(mut e: clap::Error) -> ExitCode {
        if !e.use_stderr() {
            // A closed pipe is no failure.
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
        let command = std::env::args().nth(1).unwrap_or_default();
        if let Some(text) = unrepeated(&e, &command) {
            warn(&format!("{text}\n\nFor more information, try '--help'."));
            return ExitCode::from(2);
        }
        hint(&mut e, &command);
        let text = e.to_string();
        match text.strip_prefix("error: ") {
            Some(rest) => warn(rest.trim_end()),
            // The help, where no command was given.
            None => drop(writeln!(io::stderr(), "{}", text.trim_end())),
        }
        ExitCode::from(2)
    }

    /// Says it on stderr.
    pub fn report(self) -> ExitCode {
        if !self.text.is_empty() {
            warn(&clean(&self.text));
        }
        ExitCode::from(self.code)
    }
}

/// The text for a word that nothing wants, without the word: it may be a password.
fn unrepeated(e: &clap::Error, command: &str) -> Option<String> {
    let told = |kind| e.get(kind).map(ToString::to_string);
    match e.kind() {
        clap::error::ErrorKind::UnknownArgument
            if told(ContextKind::InvalidArg).is_some_and(|word| !word.starts_with('-')) =>
        {
            let instead = match command {
                "watch" | "drain" | "run" => {
                    "; who signs in is given by --user ADDRESS, a mailbox by --mailbox ADDRESS, a folder by --folder FOLDER"
                }
                "get" => "; the item is given by --id ID, who signs in by --user ADDRESS",
                "check" => "; beside ADDRESS, the mailbox, there are only flags",
                _ => "",
            };
            Some(format!(
                "there is a word on the command line that no flag takes (it is not repeated here: it may be a password, \
                 which has its place in --password-env or --password-stdin){instead}"
            ))
        }
        // As --password-stdin=PASSWORD.
        clap::error::ErrorKind::TooManyValues => Some(format!(
            "{} takes no value, and was given one (it is not repeated here: it may be a password)",
            told(ContextKind::InvalidArg).unwrap_or_else(|| "a flag".into())
        )),
        _ => None,
    }
}

/// What is meant instead of a flag that there is not, where clap would lead into a wrong way.
fn hint(e: &mut clap::Error, command: &str) {
    let flag = e.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if e.kind() == clap::error::ErrorKind::UnknownArgument && command == "check" && flag == "--mailbox" {
        let tip = "the mailbox is ADDRESS, the word behind `check`; who signs in for it is given by --user";
        e.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    // It is there only to be refused.
    if e.get(ContextKind::SuggestedArg).is_some_and(|arg| arg.to_string() == "--password") {
        e.insert(ContextKind::SuggestedArg, ContextValue::String("--password-env".into()));
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match e.kind() {
            ErrorKind::Invalid => 2,
            ErrorKind::Locked => 3,
            ErrorKind::Auth => 4,
            _ => 1,
        };
        Failure { code, text: e.to_string() }
    }
}

/// Of writing to stdout: what else can fail has a text of its own.
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        match e.kind() {
            // As `yes | head`: the reader has what it wanted.
            io::ErrorKind::BrokenPipe => Failure { code: 0, text: String::new() },
            _ => Failure::failed(format!("cannot write to standard output: {e}")),
        }
    }
}

/// A text for people on stderr.
pub fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "ewsnotify: {text}");
}
