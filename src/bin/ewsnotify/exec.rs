//! One run of the command of `run --exec`: its input, its environment, its time.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use ewsnotify::Event;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::SIGCHLD;

/// The longest value in the environment.
const LONGEST: usize = 1024;
/// Between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(5);

/// What is run for each mail.
pub struct Exec {
    /// For the shell.
    pub command: String,
    pub timeout: Duration,
    /// The environment variables that hold the password and push's secret, which are not passed on.
    pub secrets: Vec<String>,
}

/// How it ended.
#[derive(Debug)]
pub enum Ran {
    Exited(i32),
    Killed(i32),
    TimedOut,
    /// It was begun, and nobody knows how it ended.
    Unknown(io::Error),
}

impl Exec {
    /// Runs it with this message. An error where it could not even begin.
    pub fn run(&self, event: &Event, mime: File) -> io::Result<Ran> {
        let item = event.item.as_deref();
        let text = |value: Option<&str>| environment(value.unwrap_or_default());
        let mut command = Command::new("/bin/sh");
        // The file itself is its input: whether and how far it reads is its own affair.
        command.arg("-c").arg(&self.command).stdin(mime);
        // Our lines are alone on stdout.
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        command
            .env("EWSN_MAILBOX", text(Some(&event.mailbox)))
            .env("EWSN_ITEM_ID", text(event.item_id.as_deref()))
            .env("EWSN_MESSAGE_ID", text(item.and_then(|i| i.message_id.as_deref())))
            .env("EWSN_SUBJECT", text(item.and_then(|i| i.subject.as_deref())))
            .env("EWSN_ATTEMPT", event.attempt.unwrap_or(1).to_string());
        for secret in &self.secrets {
            command.env_remove(secret);
        }
        // A group of its own: Ctrl-C is for us, who let it finish, and its time-out is for all that it has started.
        command.process_group(0);
        begin_and_wait(&mut command, self.timeout)
    }
}

/// Waits for it, and ends it with its group when its time is over.
fn begin_and_wait(command: &mut Command, timeout: Duration) -> io::Result<Ran> {
    let (give, given) = channel();
    let (send, ended) = channel();
    // It is left as a zombie until we are done with it: so its number, and its group's, belong to nobody else.
    let watch = move || {
        let Ok(pid) = given.recv() else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options).is_err_and(|e| e == Errno::INTR) {}
        let _ = send.send(());
    };
    // Before the command: one that runs with nobody to watch it could not be ended.
    std::thread::Builder::new().name("command".into()).stack_size(64 * 1024).spawn(watch)?;
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let _ = give.send(pid);
    let in_time = ended.recv_timeout(timeout).is_ok();
    if !in_time {
        let _ = kill_process_group(pid, Signal::TERM);
        // The shell is soon gone; what it has started may need its time, and may not want to end at all.
        std::thread::sleep(GRACE);
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let status: ExitStatus = match child.wait() {
        Ok(status) => status,
        Err(e) => return Ok(Ran::Unknown(e)),
    };
    Ok(match (in_time, status.code()) {
        (false, _) => Ran::TimedOut,
        (true, Some(code)) => Ran::Exited(code),
        (true, None) => Ran::Killed(status.signal().unwrap_or_default()),
    })
}

/// Has children that end wait for us, also where whoever started us had them vanish.
pub fn keep_children() -> io::Result<()> {
    signal_hook::flag::register(SIGCHLD, Arc::default()).map(drop)
}

/// A value without control characters, of bounded length, cut between characters.
fn environment(value: &str) -> String {
    let mut clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=LONGEST.min(clean.len())).rev().find(|at| clean.is_char_boundary(*at));
    clean.truncate(end.unwrap_or_default());
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    // A NUL would keep the command from starting, a line's end would forge a second line in a log, and half a character
    // would make a program choke that reads its environment as UTF-8.
    #[test]
    fn values_are_one_line_and_bounded() {
        assert_eq!(environment("a\0b\r\nc\x1b[0m\u{9b}d"), "a b  c [0m d");
        let long = environment(&format!("x{}", "ä".repeat(1000)));
        assert_eq!(long.len(), 1023);
        assert!(long.ends_with('ä'));
        assert_eq!(environment(&"x".repeat(1024)).len(), 1024);
    }
}
