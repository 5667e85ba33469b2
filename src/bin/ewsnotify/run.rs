//! `ewsnotify run --exec`: a command for each new mail.
//!
//! A mailbox's next mail is given only when the last is done with (`max_unacked=1`), and its command begins only when what
//! became of the last is durable. So a mailbox's commands run in order and one at a time, and a crash repeats one at the most.
//! Each runs on a thread of its own.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ewsnotify::{Client, Content, ErrorKind, Event, EventKind, Nack};
use serde::Serialize;

use crate::connect::duration;
use crate::exec::{Exec, Ran, keep_children};
use crate::failure::{Failure, Outcome, warn};
use crate::output::Output;
use crate::session::{Choice, Going, LOOK, Session, Step, Until, rfc3339};
use crate::text::{Colour, clean, clean_json, clock, span};

/// `EX_TEMPFAIL` of sysexits.h.
const TEMPFAIL: i32 = 75;
/// No wait before the next try grows longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

const HELP: &str = "\
The command gets the message (MIME) on its standard input, and in its environment EWSN_MAILBOX, EWSN_ITEM_ID,
EWSN_MESSAGE_ID, EWSN_SUBJECT (one line, at most 1024 bytes; by the sender, so quote it) and EWSN_ATTEMPT. What it prints
goes to stderr; a line of JSON on stdout tells how it ended.

  exit 0         done
  exit 75        not now (EX_TEMPFAIL): again later, each time after a longer wait
  anything else  failed, as are a signal and the time-out: again later, and after --attempts parked until --release

A mail whose content the server cannot give is failed too; one that cannot be had for now (the server is away, the disk is
full) comes again later, however often.

In order within a mailbox, but for mails that are tried again; side by side across mailboxes. After a crash the command may
run a second time for a mail; a try that a crash ended counts, so a mail that brings the machine down is parked too.

Example:
  ewsnotify run --url mail.example.com --user svc@example.com --password-env EWS_PASSWORD --state-dir DIR \\
                --exec 'rt-mailgate --queue General --action correspond --url https://rt.example.com/'

It ends with 0; with 3, at once, while another process has the state directory; with 5 when --for or --exit-when-drained
ended it and something is left; with 1, 2 and 4 as `watch` does.";

/// Run a command for each new mail
///
/// Catches up from the state directory first. Goes on until it is stopped, or as --for and --exit-when-drained say.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,

    /// The command, as for a shell
    #[arg(long, value_name = "CMD")]
    exec: String,

    #[command(flatten)]
    going: Going,

    /// How long the command may take; then it is ended with all that it has started
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    exec_timeout: Duration,

    /// Park a mail that the command has failed so often for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value = "5")]
    attempts: u32,

    /// How long to wait before the second try; doubled before each further one, up to an hour
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    retry_after: Duration,

    /// How many commands may run side by side, each for another mailbox
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), default_value = "8")]
    parallel: u16,

    /// End after this time, as 50s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Option<Duration>,
}

pub fn run(args: &Args) -> Outcome {
    let mut options = args.choice.options(None, Some(&args.going.state_dir))?;
    options.set("ack", "manual")?.set("max_unacked", "1")?.set("events", "NewMail")?.set("fetch", "mime")?;
    args.going.after_ack(&mut options)?;
    let failed = |e| Failure::failed(format!("cannot listen for the end of commands: {e}"));
    keep_children().map_err(failed)?;
    let until = Until { time: args.time, drained: args.going.exit_when_drained };
    let mut session = Session::open(&options, args.going.json, until)?;
    session.begin(&args.choice, &options)?;
    let parked = session.client.parked();
    session.release(&args.going.release)?;
    let still: BTreeSet<u64> = session.client.parked().iter().map(|p| p.id).collect();
    let released = parked.into_iter().filter(|p| !still.contains(&p.id)).filter_map(|p| p.event.item_id);
    let (send, results) = channel();
    let job = Job {
        exec: Exec {
            command: args.exec.clone(),
            timeout: args.exec_timeout,
            secrets: (args.choice.connect.secrets())
                .chain(args.choice.push.secret_env())
                .map(str::to_owned)
                .collect(),
        },
        attempts: args.attempts,
        retry_after: args.retry_after,
        released: released.collect(),
        put_off: Mutex::default(),
        client: session.client.clone(),
        results: send,
    };
    let mut jobs = Jobs { job: Arc::new(job), results, running: BTreeSet::new() };
    let played = play(&mut session, &mut jobs, args.parallel);
    // Whatever ended it: a command that runs is let finish, and what it came to is kept, also where nobody reads on.
    while !jobs.running.is_empty() {
        session.look();
        let _ = jobs.wait(LOOK, &mut session.output);
    }
    let to_the_last = !session.stopped();
    session.finish(played, to_the_last)
}

fn play(session: &mut Session, jobs: &mut Jobs, parallel: u16) -> Outcome {
    loop {
        jobs.tell(&mut session.output)?;
        // To be given a mail counts as a try: only where its command can begin.
        while jobs.running.len() >= usize::from(parallel) && !session.is_over() {
            session.look();
            jobs.wait(LOOK, &mut session.output)?;
        }
        match session.next() {
            Step::Event(event) if event.kind == EventKind::NewMail => {
                let file = Removed(event.item.as_ref().and_then(|i| i.mime_path.clone()));
                let seq = event.seq;
                let begun = begin(session, jobs, event, file);
                if !matches!(begun, Ok(true))
                    && let Err(e) = jobs.job.client.nack(seq, Nack::Later(Duration::ZERO))
                {
                    warn(&clean(&format!("that a mail was not tried is not kept: {e}")));
                }
                begun?;
            }
            Step::Event(event) => session.output.event(&event)?,
            Step::Idle => {}
            Step::End => return Ok(()),
        }
    }
}

/// Begins with a mail; false where the end came first.
fn begin(session: &mut Session, jobs: &mut Jobs, event: Event, file: Removed) -> Outcome<bool> {
    // The mailbox's last command has ended, and that is about to be durable.
    while jobs.running.contains(&event.watch) {
        if session.is_over() {
            return Ok(false);
        }
        session.look();
        jobs.wait(LOOK, &mut session.output)?;
    }
    jobs.start(event, file)?;
    Ok(true)
}

/// A message's file, which goes with this.
struct Removed(Option<String>);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The commands under way.
struct Jobs {
    job: Arc<Job>,
    results: Receiver<Line>,
    /// The watches whose they are.
    running: BTreeSet<u64>,
}

/// What is done with each mail.
struct Job {
    exec: Exec,
    attempts: u32,
    retry_after: Duration,
    /// Mails that were parked: they get another try.
    released: BTreeSet<String>,
    /// How often each mail was put off by exit 75, of those that are.
    put_off: Mutex<HashMap<String, u32>>,
    client: Arc<Client>,
    results: Sender<Line>,
}

/// How it went with a mail.
#[derive(Serialize)]
struct Line {
    #[serde(skip)]
    watch: u64,
    r#type: &'static str,
    time: String,
    mailbox: String,
    item_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    attempt: u32,
    /// `done`, `later`, `again`, `parked` or `gone`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    took_ms: u64,
}

impl Jobs {
    fn start(&mut self, event: Event, file: Removed) -> Outcome {
        let (job, watch) = (self.job.clone(), event.watch);
        let thread = std::thread::Builder::new().name("mail".into()).stack_size(256 * 1024);
        let failed = |e| Failure::failed(format!("cannot start a thread: {e}"));
        let run = move || {
            let line = job.run(&event, file);
            let _ = job.results.send(line);
            job.client.wake();
        };
        thread.spawn(run).map_err(failed)?;
        self.running.insert(watch);
        Ok(())
    }

    /// Prints what has ended.
    fn tell(&mut self, output: &mut Output) -> Outcome {
        while let Ok(line) = self.results.try_recv() {
            self.ended(&line, output)?;
        }
        Ok(())
    }

    /// Waits for one to end.
    fn wait(&mut self, timeout: Duration, output: &mut Output) -> Outcome {
        match self.results.recv_timeout(timeout) {
            Ok(line) => self.ended(&line, output),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    fn ended(&mut self, line: &Line, output: &mut Output) -> Outcome {
        self.running.remove(&line.watch);
        let text = match output.paint() {
            None => {
                let json = serde_json::to_string(line);
                clean_json(json.map_err(|e| Failure::failed(format!("cannot write JSON: {e}")))?)
            }
            Some(paint) => {
                let colour = match line.outcome {
                    "done" => Colour::Green,
                    "parked" => Colour::Red,
                    _ => Colour::Yellow,
                };
                let time = paint.put(Colour::Dim, &clock(SystemTime::now()));
                let outcome = paint.put(colour, &format!("{:<15}", line.outcome));
                let subject = clean(line.subject.as_deref().unwrap_or_default());
                let again = line.retry_ms.map(|ms| format!("; again in {}", span(ms))).unwrap_or_default();
                let why =
                    line.message.as_ref().map(|m| format!("  ({}{again})", clean(m))).unwrap_or_default();
                format!(
                    "{time}  {outcome}  {}  {}{why}",
                    clean(&line.mailbox),
                    paint.put(Colour::Bold, &subject)
                )
            }
        };
        Ok(output.line(&text)?)
    }
}

/// What a mail comes to.
enum Verdict {
    Done,
    Gone,
    /// No fault of the mail.
    Later,
    Failed,
    /// No further try would help.
    Hopeless,
}

impl Job {
    fn run(&self, event: &Event, file: Removed) -> Line {
        let begun = Instant::now();
        let attempt = event.attempt.unwrap_or(1);
        let item_id = event.item_id.clone().unwrap_or_default();
        let mut line = Line {
            watch: event.watch,
            r#type: "Ran",
            time: rfc3339(SystemTime::now()),
            mailbox: event.mailbox.to_string(),
            item_id: item_id.clone(),
            message_id: event.item.as_ref().and_then(|i| i.message_id.clone()),
            subject: event.item.as_ref().and_then(|i| i.subject.clone()),
            attempt,
            outcome: "done",
            exit: None,
            signal: None,
            message: None,
            retry_ms: None,
            took_ms: 0,
        };
        let verdict = if attempt > self.attempts && !self.released.contains(&item_id) {
            // The last try has no result: this program, or the machine, ended with it.
            line.message =
                Some(format!("it was tried {} times, and the last time ended us too", attempt - 1));
            Verdict::Hopeless
        } else {
            self.verdict(event, file.0.as_deref(), &mut line)
        };
        drop(file);
        let settled = match verdict {
            Verdict::Done | Verdict::Gone => {
                line.outcome = if matches!(verdict, Verdict::Done) { "done" } else { "gone" };
                self.times_put_off(&item_id, false);
                self.client.ack(event.seq)
            }
            Verdict::Later => {
                let wait = self.wait(self.times_put_off(&item_id, true));
                (line.outcome, line.retry_ms) = ("later", Some(wait.as_millis() as u64));
                self.client.nack(event.seq, Nack::Later(wait))
            }
            Verdict::Failed if attempt < self.attempts => {
                let wait = self.wait(attempt);
                (line.outcome, line.retry_ms) = ("again", Some(wait.as_millis() as u64));
                self.client.nack(event.seq, Nack::Retry(wait))
            }
            Verdict::Failed | Verdict::Hopeless => {
                line.outcome = "parked";
                self.times_put_off(&item_id, false);
                self.client.nack(event.seq, Nack::Park)
            }
        };
        // One that its watch does not know any more, because that was given up, comes again with the next run.
        if let Err(e) = settled
            && e.kind() != ErrorKind::Invalid
        {
            warn(&clean(&format!("what became of a mail of {} is not kept: {e}", event.mailbox)));
        }
        line.took_ms = begun.elapsed().as_millis() as u64;
        line
    }

    fn verdict(&self, event: &Event, path: Option<&str>, line: &mut Line) -> Verdict {
        let Some(path) = path else {
            let content = event.item.as_ref().and_then(|i| i.content);
            let why = event.detail.as_ref().and_then(|d| d.message.clone());
            let (verdict, text) = match content {
                Some(Content::Gone) => (Verdict::Gone, "it was gone before it could be read"),
                Some(Content::TooLarge) => (Verdict::Hopeless, "it is too large"),
                Some(Content::Unreadable) => (Verdict::Failed, "it cannot be read"),
                _ => (Verdict::Later, "its content could not be fetched"),
            };
            line.message = Some(why.map_or(text.to_owned(), |why| format!("{text}: {why}")));
            return verdict;
        };
        match File::open(path).and_then(|mime| self.exec.run(event, mime)) {
            Ok(Ran::Exited(code)) => {
                line.exit = Some(code);
                match code {
                    0 => return Verdict::Done,
                    TEMPFAIL => {
                        line.message = Some("the command said: not now".into());
                        return Verdict::Later;
                    }
                    _ => line.message = Some(format!("the command ended with {code}")),
                }
            }
            Ok(Ran::Killed(signal)) => {
                line.signal = Some(signal);
                line.message = Some(format!("the command was ended by signal {signal}"));
            }
            // It may have done all of its work: not without end.
            Ok(Ran::Unknown(e)) => line.message = Some(format!("how the command ended cannot be known: {e}")),
            Ok(Ran::TimedOut) => line.message = Some("the command took longer than --exec-timeout".into()),
            Err(e) => {
                line.message = Some(format!("the command could not be started: {e}"));
                return Verdict::Later;
            }
        }
        Verdict::Failed
    }

    /// Grows with each time: 1, 2, 4, … times --retry-after.
    fn wait(&self, times: u32) -> Duration {
        let factor = 1 << times.saturating_sub(1).min(20);
        self.retry_after.saturating_mul(factor).min(LONGEST_WAIT.max(self.retry_after))
    }

    /// How often a mail was put off, this time included; or forgets it.
    fn times_put_off(&self, item: &str, again: bool) -> u32 {
        let mut put_off = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        if !again {
            return put_off.remove(item).unwrap_or_default();
        }
        let times = put_off.entry(item.to_owned()).or_default();
        *times = times.saturating_add(1);
        *times
    }
}
