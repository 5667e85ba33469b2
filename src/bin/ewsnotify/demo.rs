//! `ewsnotify demo`: a simulated Exchange, a watch of it over real sockets and TLS, mail, a broken connection, and the
//! account at the end.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ewsnotify::sim::{Sim, server::fault::Cut};
use ewsnotify::{Client, Event, EventKind, Next, Options};

use crate::connect::duration;
use crate::failure::{Failure, Outcome};
use crate::mails::{self, Mail, mail};
use crate::output::Output;
use crate::stop::Stop;
use crate::text::{Colour, clean, reason};

const USER: &str = "ada@example.test";
const PASSWORD: &str = "play-thing";
const MAILS: usize = mails::MAILS_COUNT;
/// After so many mails the connection is cut.
const BEFORE: usize = 5;
/// So many come while it is down.
const MEANWHILE: usize = 3;
/// Waits between two steps: before each mail, before the cut, and before the server is back.
const PAUSES: u32 = MAILS as u32 + 2;
/// How long something is waited for that must come. Only a defect, or a very slow machine, needs all of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// See it work, without a server of your own
///
/// Starts a small Exchange in this process, watches a mailbox of it over the network stack of this machine, delivers mail,
/// cuts the connection in the middle, and compares what was delivered with what was told. Ends with 0 if nothing is
/// missing. Nothing leaves this machine.
#[derive(clap::Args)]
pub struct Args {
    /// How long the mail takes to come, as 20s or 1m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "20s")]
    time: Duration,

    /// Print JSON at a terminal too
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    if args.time < Duration::from_secs(1) || args.time > Duration::from_secs(86_400) {
        return Err(Failure::usage("--for wants a duration from 1s to 24h"));
    }
    let stop = Stop::listen()?;
    let sim = Sim::builder().user(USER, PASSWORD).start()?;
    let client = Arc::new(Client::open(&options(&sim)?)?);
    stop.wake(&client);
    let mut demo = Demo {
        sim: &sim,
        client: &client,
        stop: &stop,
        output: Output::with_status(args.json),
        pace: args.time / PAUSES,
        delivered: Vec::new(),
        told: Vec::new(),
        connected: 0,
        lost_links: 0,
        trouble: None,
    };
    let played = demo.play();
    demo.output.end_status();
    client.close();
    match played {
        Ok(()) => demo.account(),
        Err(Early::Stopped) => Ok(demo.say(Colour::Dim, "Stopped before the end: nothing was compared.")?),
        Err(Early::Closed(why)) => Err(Failure::failed(format!("the watch ended by itself: {why}"))),
        Err(Early::Failed(failure)) => Err(failure),
    }
}

fn options(sim: &Sim) -> Outcome<Options> {
    let mut options = Options::new();
    options.set("url", sim.url())?.set("user", USER)?.set("password", PASSWORD)?;
    if let Some(file) = sim.ca_file() {
        options.set("ca_file", &file.to_string_lossy())?;
    }
    options.set("events", "NewMail")?.set("fetch", "summary")?;
    Ok(options)
}

struct Demo<'a> {
    sim: &'a Sim,
    client: &'a Client,
    stop: &'a Stop,
    output: Output,
    /// Between two steps.
    pace: Duration,
    delivered: Vec<Mail>,
    /// Message id and subject of each NewMail, as the library told them.
    told: Vec<(String, String)>,
    connected: usize,
    lost_links: usize,
    /// The last Error.
    trouble: Option<String>,
}

/// Why the demo did not come to its end.
enum Early {
    Stopped,
    Closed(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Early {
    fn from(e: E) -> Early {
        Early::Failed(e.into())
    }
}

impl Demo<'_> {
    fn play(&mut self) -> Result<(), Early> {
        let url = self.sim.url();
        self.say(Colour::Bold, &format!("A simulated Exchange runs at {url} (TLS, loopback only)."))?;
        self.say(
            Colour::Bold,
            &format!("A watch waits for new mail of {USER}; {MAILS} mails will come, and the connection will break once."),
        )?;
        self.client.watch(&Options::new())?;
        self.until(PATIENCE, |demo| demo.connected > 0)?;
        self.deliver(BEFORE)?;

        // What is on its way when a connection breaks is lost with it, so everything is let in first.
        self.until(PATIENCE, |demo| demo.all_told())?;
        self.pause()?;
        self.sim.refuse_connections(true);
        self.sim.cut_streams(Cut::Fin);
        self.say(Colour::Yellow, "---- The server is gone. Mail goes on arriving in the mailbox:")?;
        self.deliver(MEANWHILE)?;
        self.pause()?;
        self.sim.refuse_connections(false);
        self.say(Colour::Green, "---- The server is back. The library connects again by itself:")?;
        self.until(PATIENCE, |demo| demo.connected > 1)?;

        self.deliver(MAILS - BEFORE - MEANWHILE)?;
        self.until(PATIENCE, |demo| demo.all_told())
    }

    fn deliver(&mut self, count: usize) -> Result<(), Early> {
        for _ in 0..count {
            self.pause()?;
            let mail = mail(self.delivered.len(), USER);
            self.sim.exchange().deliver(USER, &mail.mime)?;
            self.delivered.push(mail);
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<(), Early> {
        self.until(self.pace, |_| false)
    }

    /// Takes events until `done`, or for so long.
    fn until(&mut self, time: Duration, done: impl Fn(&Demo) -> bool) -> Result<(), Early> {
        let until = Instant::now() + time;
        while !done(self) {
            if self.stop.requested() {
                return Err(Early::Stopped);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.output.show(self.client);
            match self.client.next(if self.output.has_status() {
                left.min(Duration::from_millis(500))
            } else {
                left
            }) {
                Next::Event(event) => self.take(event)?,
                Next::Closed => return Err(Early::Closed("the client is closed".into())),
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), Early> {
        self.output.event(&event)?;
        match event.kind {
            EventKind::Connected => self.connected += 1,
            EventKind::Disconnected => self.lost_links += 1,
            EventKind::NewMail => {
                let item = event.item.unwrap_or_default();
                self.told.push((item.message_id.unwrap_or_default(), item.subject.unwrap_or_default()));
            }
            EventKind::Gap => self.say(
                Colour::Dim,
                "     (A Gap says that something may have been missed. Catch-up looks for it now, as you will see.)",
            )?,
            EventKind::Error => self.trouble = Some(reason(&event)),
            EventKind::Closed => {
                return Err(Early::Closed(self.trouble.take().unwrap_or_else(|| reason(&event))));
            }
            _ => {}
        }
        Ok(())
    }

    fn all_told(&self) -> bool {
        self.told.len() >= self.delivered.len()
    }

    /// Compares what was delivered with what was told.
    fn account(mut self) -> Outcome {
        let times = |mail: &Mail| {
            self.told.iter().filter(|(id, subject)| *id == mail.message_id && subject == mail.subject).count()
        };
        let mut wrong = Vec::new();
        let mut lost = 0;
        for mail in &self.delivered {
            match times(mail) {
                0 => {
                    lost += 1;
                    wrong.push(format!("lost: {} {}", mail.message_id, mail.subject));
                }
                1 => {}
                n => wrong.push(format!("told {n} times: {} {}", mail.message_id, mail.subject)),
            }
        }
        for (id, subject) in &self.told {
            if !self.delivered.iter().any(|mail| mail.message_id == *id && mail.subject == subject) {
                wrong.push(format!("told, but never delivered so: {id} {subject}"));
            }
        }
        let connections = match (self.lost_links, self.connected.saturating_sub(1)) {
            (1, 1) => "1 connection lost and made again".to_owned(),
            (lost, made) => format!("{lost} connections lost, {made} made again"),
        };
        let (delivered, told) = (self.delivered.len(), self.told.len());
        let summary = format!("{delivered} mails delivered, {told} told, {lost} lost; {connections}.");
        self.say(if wrong.is_empty() { Colour::Green } else { Colour::Red }, &summary)?;
        for line in &wrong {
            self.say(Colour::Red, &clean(line))?;
        }
        if !wrong.is_empty() {
            return Err(Failure::failed("what was told is not what was delivered"));
        }
        self.say(Colour::Dim, "Next, with a mailbox of your own (the password is asked for):")?;
        self.say(
            Colour::Dim,
            "  ewsnotify watch --url mail.example.com --user you@example.com --event NewMail --fetch summary",
        )?;
        Ok(())
    }

    /// Says something for people: between the events at a terminal, on stderr beside JSON.
    fn say(&mut self, colour: Colour, text: &str) -> io::Result<()> {
        match self.output.paint() {
            Some(paint) => self.output.line(&paint.put(colour, text)),
            None => {
                let _ = writeln!(io::stderr(), "{text}");
                Ok(())
            }
        }
    }
}
