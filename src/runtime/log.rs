//! Lines of the log: what the engine is told and what it commands, in words. They are events; nothing is written anywhere.

use super::core::State;
use crate::auth::Secrets;
use crate::engine::{Command, Input, PushAnswer, PushOutcome, Pushed};
use crate::event::Detail;
use crate::proto::PushReply;
use crate::{Error, Event, EventKind, Level};

/// A line is cut here: the errors of servers may be long.
const LONGEST: usize = 1000;

pub(super) struct Line {
    level: Level,
    /// The watch that it is of; 0 for none.
    watch: u64,
    text: String,
}

pub(super) fn line(level: Level, watch: u64, text: impl Into<String>) -> Option<Line> {
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
        Input::TokenNeeded { account, .. } => {
            line(Level::Info, 0, format!("a token of account {account} is needed"))
        }
        Input::TokenSet { account, .. } => {
            line(Level::Info, 0, format!("there is a token of account {account}"))
        }
        Input::TokenDenied { account, error } => line(Level::Warn, 0, format!("account {account}: {error}")),
        Input::TokenRotated { account, .. } => {
            line(Level::Info, 0, format!("the refresh token of account {account} has changed"))
        }
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
        Command::Unwanted(_) => line(Level::Debug, 0, "a push subscription is to end by the next answer"),
        Command::Wanted(_) | Command::Forget(_) | Command::Finished => None,
    }
}

/// What a server sent by itself.
pub(super) fn pushed(pushed: &Pushed) -> Option<Line> {
    let events: usize = pushed.parts.iter().map(|p| p.events).sum();
    let watch = pushed.parts.iter().find_map(|p| p.watch).unwrap_or(0);
    let is = |outcome| pushed.parts.iter().any(|p| p.outcome == outcome);
    match pushed.answer {
        PushAnswer::Later => {
            line(Level::Warn, 0, "a push was put off: too many come for subscriptions that are not there yet")
        }
        PushAnswer::Reply(PushReply::Unsubscribe) => {
            line(Level::Info, 0, "a push of a subscription that nobody here has was answered Unsubscribe")
        }
        PushAnswer::Reply(_) if is(PushOutcome::Gap) => line(
            Level::Warn,
            watch,
            format!("a push of {events} events does not go on from the last that came"),
        ),
        PushAnswer::Reply(_) if is(PushOutcome::Lost) => line(Level::Warn, watch, "a push tells of an error"),
        PushAnswer::Reply(_) if is(PushOutcome::Repeated) => {
            line(Level::Info, watch, "a push came once more")
        }
        PushAnswer::Reply(_) => line(Level::Debug, watch, format!("a push of {events} events")),
    }
}

/// Tells a line, where the host wants its level.
pub(super) fn tell(
    state: &mut State,
    secrets: &Secrets,
    now: std::time::SystemTime,
    wanted: Level,
    line: Option<Line>,
) {
    let Some(mut line) = line.filter(|line| line.level <= wanted) else { return };
    secrets.clean(&mut line.text);
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
