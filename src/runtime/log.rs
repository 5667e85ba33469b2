//! Lines of the log: what the engine is told and what it commands, in words. They are events; nothing is written anywhere.

use super::core::State;
use crate::engine::{Command, Input};
use crate::event::Detail;
use crate::{Error, Event, EventKind, Level};

/// A line is cut here: the errors of servers may be long.
const LONGEST: usize = 1000;

pub(super) struct Line {
    level: Level,
    /// The watch that it is of; 0 for none.
    watch: u64,
    text: String,
}

fn line(level: Level, watch: u64, text: impl Into<String>) -> Option<Line> {
    Some(Line { level, watch, text: text.into() })
}

fn outcome<T>(what: String, result: &Result<T, Error>, good: Level, done: &str) -> Option<Line> {
    match result {
        Ok(_) => line(good, 0, format!("{what} {done}")),
        Err(e) => line(Level::Warn, 0, format!("{what}: {e}")),
    }
}

/// What happened.
pub(super) fn input(input: &Input) -> Option<Line> {
    match input {
        Input::Add(spec) => {
            line(Level::Info, spec.watch, format!("watch {} of {} begins", spec.watch, spec.mailbox))
        }
        Input::Remove(watch) => line(Level::Info, *watch, format!("watch {watch} is to end")),
        Input::Called { call, result } => {
            outcome(format!("call {call}"), result, Level::Debug, "is answered")
        }
        Input::Opened(conn) => line(Level::Info, 0, format!("stream {conn} is open")),
        Input::Message { conn, responses } => {
            line(Level::Debug, 0, format!("stream {conn}: {} response messages", responses.len()))
        }
        Input::BadEnvelope { conn, error } => line(Level::Warn, 0, format!("stream {conn}: {error}")),
        Input::Ended { conn, result } => outcome(format!("stream {conn}"), result, Level::Info, "has ended"),
        Input::SpoolFull(true) => line(Level::Info, 0, "the spool is full: messages wait for the host"),
        Input::SpoolFull(false) => line(Level::Info, 0, "the spool has room again"),
        Input::Saved { save, result } => outcome(format!("save {save}"), result, Level::Debug, "is done"),
        Input::Close => line(Level::Info, 0, "the client closes"),
        Input::Tick => None,
    }
}

/// What is to be done.
pub(super) fn command(command: &Command) -> Option<Line> {
    match command {
        Command::Call { call, watch, request, .. } => {
            line(Level::Debug, *watch, format!("call {call}: {}", request.operation()))
        }
        Command::Locate { call, watch, .. } => {
            line(Level::Debug, *watch, format!("call {call}: Autodiscover"))
        }
        Command::Open { conn, watch, .. } => line(Level::Info, *watch, format!("stream {conn} is opened")),
        Command::Abort(conn) => line(Level::Debug, 0, format!("stream {conn} is shut")),
        Command::Save { save, changes } => {
            line(Level::Debug, 0, format!("save {save}: {} keys", changes.len()))
        }
        Command::Forget(_) | Command::Finished => None,
    }
}

/// Tells a line, where the host wants its level.
pub(super) fn tell(state: &mut State, now: std::time::SystemTime, wanted: Level, line: Option<Line>) {
    let Some(mut line) = line.filter(|line| line.level <= wanted) else { return };
    if let Some((at, _)) = line.text.char_indices().nth(LONGEST) {
        line.text.truncate(at);
        line.text.push('…');
    }
    let mailbox =
        state.watches.get(&line.watch).map(|watch| watch.config.mailbox.clone()).unwrap_or_default();
    let detail = Detail { level: Some(line.level), message: Some(line.text), ..Detail::default() };
    let event = Event::new(EventKind::Log, line.watch, mailbox, now);
    state.engine.tell_log(Event { detail: Some(Box::new(detail)), ..event });
}
