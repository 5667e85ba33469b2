//! One table of keys: the parser, the README's table and the command's flags read it.

use crate::{Error, ErrorKind, Result};

/// How a watch hears of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// A hanging request on which the server writes events as they happen.
    #[default]
    Streaming,
    /// A question for events at an interval.
    Pull,
}

/// What is fetched of an item before its event is handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fetch {
    /// Nothing: the event tells ids.
    #[default]
    None,
    /// Subject, sender, recipients, time, message id, size, attachments.
    Summary,
    /// The summary, and the whole message in a file.
    Mime,
}

/// Settings by key.
#[derive(Clone, Debug, Default)]
pub struct Options {}

impl Options {
    /// No settings.
    pub fn new() -> Options {
        Options::default()
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, _value: &str) -> Result<&mut Options> {
        Err(Error::new(ErrorKind::Invalid, format!("there is no option {key:?}")))
    }
}
