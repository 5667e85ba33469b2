//! What `watch`, `drain` and `run` have in common: the choice of mailboxes and folders, the loop until the end, and how it
//! stands with each mailbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ewsnotify::{Client, Event, EventKind, Fill, Next, Options, Reason};

use crate::connect::Connect;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::push::Push;
use crate::stop::Stop;
use crate::text;

/// How often the bottom line, the status file and the end are looked at while nothing happens.
pub const LOOK: Duration = Duration::from_secs(1);

/// Which mailboxes and folders, and how.
#[derive(clap::Args)]
pub struct Choice {
    #[command(flatten)]
    pub connect: Connect,

    /// Watch this folder: a name as inbox or sentitems, a path as inbox/Tickets or /Projects, or `id:` and an id; may be given
    /// several times [default: inbox]
    #[arg(long = "folder", value_name = "FOLDER")]
    folders: Vec<String>,

    /// Watch all folders of the mailbox
    #[arg(long, conflicts_with = "folders")]
    all_folders: bool,

    /// How to hear of events: on a hanging request, by asking at an interval, or by requests that the server sends
    /// [default: streaming]
    #[arg(long, value_parser = ["streaming", "pull", "push"])]
    mode: Option<String>,

    #[command(flatten)]
    pub push: Push,
}

/// What to be told.
#[derive(clap::Args)]
pub struct Wanted {
    /// Tell this kind of event: NewMail, Created, Deleted, Modified, Moved, Copied, FreeBusyChanged; may be given several
    /// times [default: all seven]
    #[arg(long = "event", value_name = "KIND")]
    events: Vec<String>,

    /// What to fetch of an item before it is told [default: none]
    #[arg(long, value_parser = ["none", "summary", "mime"])]
    fetch: Option<String>,
}

/// What `drain` and `run` have beside, since they go on where the last run stood.
#[derive(clap::Args)]
pub struct Going {
    /// Where the state is kept from run to run
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,

    /// End as soon as everything has been told
    #[arg(long)]
    pub exit_when_drained: bool,

    /// Give a parked event again, by its number in `ewsnotify status`, or all; may be given several times
    #[arg(long, value_name = "ID")]
    pub release: Vec<String>,

    /// What to do with an item that is done with: none, read, delete, move:FOLDER
    #[arg(long, value_name = "ACTION")]
    pub after_ack: Option<String>,

    /// Print JSON at a terminal too
    #[arg(long)]
    pub json: bool,
}

impl Going {
    /// The option of --after-ack, over what --option says.
    pub fn after_ack(&self, options: &mut Options) -> Outcome {
        if let Some(action) = &self.after_ack {
            options.set("after_ack", action).map_err(|e| Failure::usage(e.to_string()))?;
        }
        Ok(())
    }
}

impl Choice {
    /// The options, with those of the command itself over what --option says.
    pub fn options(&self, wanted: Option<&Wanted>, state_dir: Option<&Path>) -> Outcome<Options> {
        let mut options = self.connect.plain()?;
        for folder in &self.folders {
            // Each by itself: a `\` at the end of one would take the comma behind it for a part of its name.
            Options::new().set("folders", folder)?;
        }
        let none = Vec::new();
        for (key, words) in [("folders", &self.folders), ("events", wanted.map_or(&none, |w| &w.events))] {
            if !words.is_empty() {
                options.set(key, &words.join(","))?;
            }
        }
        if self.all_folders {
            options.set("all_folders", "true")?;
        }
        let fetch = wanted.and_then(|w| w.fetch.clone());
        for (key, value) in [("mode", &self.mode), ("fetch", &fetch), ("push_listen", &self.push.listen)] {
            if let Some(value) = value {
                options.set(key, value)?;
            }
        }
        if let Some(dir) = state_dir {
            let dir = dir.to_str().ok_or_else(|| Failure::usage("the path of --state-dir is not UTF-8"))?;
            options.set("state_dir", dir)?;
        }
        self.push.options(&mut options)?;
        self.connect.add_password(&mut options)?;
        Ok(options)
    }
}

/// When a command ends by itself.
#[derive(Clone, Copy, Default)]
pub struct Until {
    pub time: Option<Duration>,
    pub drained: bool,
}

/// Watches under way.
pub struct Session {
    pub client: Arc<Client>,
    pub output: Output,
    stop: Stop,
    until: Option<Instant>,
    until_drained: bool,
    mailboxes: BTreeMap<u64, Mailbox>,
    end: End,
    url: String,
    push: bool,
}

/// What is known of a mailbox by its events.
#[derive(Default)]
struct Mailbox {
    name: String,
    /// Whether there ever was a connection.
    connected: bool,
    drained: bool,
    /// Why something that was missed will not be told.
    unfilled: Option<String>,
    /// What went wrong last.
    trouble: Option<String>,
    ended: Option<Ended>,
}

struct Ended {
    sign_in: bool,
    text: String,
}

/// What came.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub enum Step {
    Event(Event),
    /// Nothing for now: a second is over, or somebody called `wake`.
    Idle,
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    TimeOver,
    Drained,
    Closed,
}

impl Session {
    /// Opens a client; the state directory is ours from then on.
    pub fn open(options: &Options, json: bool, until: Until) -> Outcome<Session> {
        let stop = Stop::listen()?;
        let client = Arc::new(Client::open(options)?);
        stop.wake(&client);
        Ok(Session {
            client,
            output: Output::with_status(json),
            stop,
            until: until.time.and_then(|time| Instant::now().checked_add(time)),
            until_drained: until.drained,
            mailboxes: BTreeMap::new(),
            end: End::Stopped,
            url: options.get("url").unwrap_or("the server").to_owned(),
            push: options.get("mode") == Some("push"),
        })
    }

    /// Begins to watch.
    pub fn begin(&mut self, choice: &Choice, options: &Options) -> Outcome {
        let names = choice.connect.mailboxes();
        let alone = [options.get("mailbox").or_else(|| options.get("user")).unwrap_or_default().to_owned()];
        for name in if names.is_empty() { &alone } else { names } {
            let mut own = Options::new();
            own.set("mailbox", name)?;
            let watch = self.client.watch(&own)?;
            self.mailboxes.insert(watch, Mailbox { name: name.clone(), ..Mailbox::default() });
        }
        Ok(())
    }

    /// Parked events are told again: those of these numbers, or all.
    pub fn release(&self, ids: &[String]) -> Outcome {
        for id in ids {
            let ids = match (id.as_str(), id.parse()) {
                ("all", _) => self.client.parked().iter().map(|p| p.id).collect(),
                (_, Ok(id)) => vec![id],
                _ => {
                    return Err(Failure::usage(
                        "--release wants a number that `ewsnotify status` shows, or all",
                    ));
                }
            };
            for id in ids {
                self.client.release(id)?;
            }
        }
        Ok(())
    }

    /// Waits for what comes next.
    pub fn next(&mut self) -> Step {
        if self.stop.requested() {
            return self.over(End::Stopped);
        }
        self.look();
        if self.mailboxes.values().all(|m| m.ended.is_some()) {
            return self.over(End::Closed);
        }
        if self.until_drained && self.left_over(false).is_none() {
            return self.over(End::Drained);
        }
        let left = self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        // Before an event is taken: one that is taken and not told would be lost.
        if left == Duration::ZERO {
            return self.over(End::TimeOver);
        }
        let looks = self.output.has_status() || self.until_drained;
        match self.client.next(if looks { left.min(LOOK) } else { left }) {
            Next::Event(event) => {
                self.note(&event);
                Step::Event(event)
            }
            Next::Closed => self.over(End::Closed),
            _ => Step::Idle,
        }
    }

    /// Whether the end was asked for, by a signal or by the time.
    pub fn is_over(&self) -> bool {
        self.stopped() || self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Whether the end was asked for by a signal.
    pub fn stopped(&self) -> bool {
        self.stop.requested()
    }

    /// Says how it stands, where somebody looks.
    pub fn look(&mut self) {
        self.output.show(&self.client);
    }

    /// Closes the client and tells what is told of that. What all comes to, with how it went until here: for a command that
    /// is to hand out all there is, something that is left over is a failure, also where nobody reads on.
    pub fn finish(mut self, mut told: Outcome, to_the_last: bool) -> Outcome {
        self.output.end_status();
        let left_over = to_the_last.then(|| self.left_over(true)).flatten();
        self.client.close();
        while let Next::Event(event) = self.client.next(Duration::ZERO) {
            if told.is_ok() {
                told = self.output.event(&event).map_err(Failure::from);
            }
        }
        if let Err(e) = told
            && !e.is_closed_pipe()
        {
            return Err(e);
        }
        let given_up = |m: &Mailbox| m.ended.as_ref().map(|e| (e.sign_in, e.text.clone()));
        let mut given_up: Vec<_> = self.mailboxes.values().filter_map(given_up).collect();
        given_up.sort_by_key(|(sign_in, _)| !sign_in);
        if let Some((sign_in, _)) = given_up.first() {
            let sign_in = *sign_in;
            let text = given_up.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n");
            return Err(if sign_in { Failure::sign_in(text) } else { Failure::failed(text) });
        }
        match self.end {
            End::Closed => return Err(Failure::failed("the client closed by itself")),
            End::TimeOver => {
                if let Some(m) = self.mailboxes.values().find(|m| !m.connected) {
                    let why = m.trouble.clone().unwrap_or_else(|| self.silence());
                    let text = format!("no connection came about in the time of --for: {}: {why}", m.name);
                    return Err(Failure::failed(text));
                }
            }
            End::Stopped | End::Drained => {}
        }
        left_over.map_or(Ok(()), |text| Err(Failure::incomplete(text)))
    }

    /// Why there was no connection where no error came either.
    fn silence(&self) -> String {
        let url = text::clean(&self.url);
        // Whether it took the subscription is nowhere told; it is connected with its first request.
        match self.push {
            true => format!(
                "no push has come, and no error either: {url} has not answered yet, or what it sends does not reach the \
                 address of --listen or --push-url"
            ),
            false => format!("nothing has been heard of {url} yet"),
        }
    }

    /// What has not been handed out, or never will be. While it goes on (`!at_end`), only what will come by itself counts.
    fn left_over(&self, at_end: bool) -> Option<String> {
        let watches = self.client.status().watches;
        for (id, mailbox) in self.mailboxes.iter().filter(|(_, m)| m.ended.is_none()) {
            let name = &mailbox.name;
            let watch = watches.iter().find(|w| w.watch == *id);
            let (backlog, later) = watch.map_or((0, 0), |w| (w.backlog, w.later));
            let acting = watch.map_or(0, |w| w.acting);
            let behind = watch.is_some_and(|w| w.catching_up);
            match &mailbox.unfilled {
                Some(why) if at_end => {
                    return Some(format!("{name}: something was missed and will not be told: {why}"));
                }
                _ if !mailbox.drained && (mailbox.unfilled.is_none() || behind) => {
                    let why = mailbox.trouble.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                    return Some(format!(
                        "{name}: catch-up was not through{why}; the next run goes on there"
                    ));
                }
                _ if backlog > 0 => {
                    return Some(format!(
                        "{name}: {backlog} events were not handed out; the next run tells them"
                    ));
                }
                _ if acting > 0 => {
                    return Some(format!(
                        "{name}: {acting} items are still to be marked, moved or deleted; the next run does that"
                    ));
                }
                _ if at_end && later > 0 => {
                    return Some(format!(
                        "{name}: {later} events were put off; the next run tells them again"
                    ));
                }
                _ => {}
            }
        }
        None
    }

    fn over(&mut self, end: End) -> Step {
        // The event that says so may not have been taken: `run` takes none while no command can begin.
        for watch in self.client.status().watches.iter().filter(|w| w.is_connected()) {
            if let Some(mailbox) = self.mailboxes.get_mut(&watch.watch) {
                mailbox.connected = true;
            }
        }
        self.end = end;
        Step::End
    }

    fn note(&mut self, event: &Event) {
        let Some(mailbox) = self.mailboxes.get_mut(&event.watch) else { return };
        match event.kind {
            EventKind::Connected => mailbox.connected = true,
            EventKind::Error | EventKind::Disconnected => mailbox.trouble = Some(text::reason(event)),
            EventKind::Drained => mailbox.drained = true,
            EventKind::Gap => {
                mailbox.drained = false;
                if event.detail.as_ref().and_then(|d| d.fill) == Some(Fill::None) {
                    mailbox.unfilled = Some(text::reason(event));
                }
            }
            EventKind::Closed => {
                mailbox.ended = Some(given_up(event, mailbox.trouble.as_deref()));
            }
            _ => {}
        }
    }
}

/// Why a watch ended that nobody had closed.
fn given_up(closed: &Event, trouble: Option<&str>) -> Ended {
    let why = match (text::reason(closed), trouble) {
        (why, Some(trouble)) if closed.detail.as_ref().is_none_or(|d| d.message.is_none()) => {
            format!("{why}; {trouble}")
        }
        (why, _) => why,
    };
    let text = format!("the watch of {} was given up: {why}", closed.mailbox);
    let sign_in = closed.detail.as_ref().and_then(|d| d.reason) == Some(Reason::SignInRefused);
    Ended { sign_in, text }
}

/// A time for machines.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
