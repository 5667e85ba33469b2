//! How a command ends: exit codes, and the text on stderr.

use std::io::{self, Write};
use std::process::ExitCode;

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
    pub fn from_clap(e: &clap::Error) -> ExitCode {
        if !e.use_stderr() {
            // A closed pipe is no failure.
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
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
