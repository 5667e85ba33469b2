//! Both forms of output on stdout: lines for people at a terminal, the JSON form in a pipe or on request. One flushed line
//! an event.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use ewsnotify::{Client, Event};

use crate::status::StatusLines;
use crate::text::{self, Paint};

/// Where events go.
pub struct Output {
    /// `None` in the JSON form.
    paint: Option<Paint>,
    status: Option<StatusLines>,
}

impl Output {
    /// JSON if asked for, or where nobody reads along.
    pub fn new(json: bool) -> Output {
        let paint = (!json && io::stdout().is_terminal()).then(|| Paint(colours()));
        Output { paint, status: None }
    }

    /// As [`new`](Self::new), with lines at the bottom of a terminal that say how the connections are.
    pub fn with_status(json: bool) -> Output {
        let mut output = Output::new(json);
        let moving = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        output.status = output.paint.filter(|_| moving).map(StatusLines::new);
        output
    }

    /// For people, with or without colours; `None` in the JSON form.
    pub fn paint(&self) -> Option<Paint> {
        self.paint
    }

    /// Prints an event.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        let line = match self.paint {
            Some(paint) => text::event(event, paint),
            None => text::clean_json(event.to_json()),
        };
        self.line(&line)
    }

    /// Prints a line as it is, above the status.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        match &self.status {
            Some(status) => status.above(|| print(line)),
            None => print(line),
        }
    }

    /// Says at the bottom how the connections are.
    pub fn show(&mut self, client: &Client) {
        if let Some(status) = &mut self.status {
            status.show(client);
        }
    }

    /// Returns when what was printed is durable, where it goes into a file.
    pub fn sync(&self) -> io::Result<()> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if !out.metadata()?.is_file() {
            return Ok(());
        }
        match out.sync_data() {
            // Nothing that could be synced, as of some file systems of the kernel's own.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    /// Whether [`show`](Self::show) is to be called each second.
    pub fn has_status(&self) -> bool {
        self.status.is_some()
    }

    /// Takes the bottom lines away; what is printed from now on stays.
    pub fn end_status(&mut self) {
        self.status = None;
    }
}

/// One flushed line.
pub fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The convention of no-color.org, and terminals that have none.
fn colours() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !plain && !dumb
}
