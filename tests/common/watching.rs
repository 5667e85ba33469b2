//! A watch on a simulated mailbox, and the comparison of what happened with what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use ewsnotify::sim::exchange::{Fate, Told};
use ewsnotify::sim::fault::Cut;
use ewsnotify::sim::server::record::End;
use ewsnotify::sim::{Sim, Style};
use ewsnotify::{Client, Event, EventKind, Next, Options};

pub const ADA: &str = "ada@example.test";

/// How long anything may take before the test calls it a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Clocks of the two sides are one, but a message in flight may tell of a moment before the gap's `since`.
const IN_FLIGHT: Duration = Duration::from_secs(1);

pub struct Watching {
    pub sim: Sim,
    pub client: Client,
    pub events: Vec<Event>,
    style: Style,
    delivered: BTreeMap<String, SystemTime>,
    next_mail: u32,
}

/// A server with TLS whose streams say something often enough for short time-outs.
pub fn server(style: Style) -> Sim {
    let sim = Sim::builder().style(style).user(ADA, "secret").start().unwrap();
    sim.exchange().configure(|s| {
        s.heartbeat = Duration::from_millis(300);
        // A sign of life of a push each 300 ms, and soon another try.
        (s.push_minute, s.push_retry) = (Duration::from_millis(10), Duration::from_millis(20));
    });
    sim
}

/// In which ways a server of that style tells.
pub fn modes(style: Style) -> &'static [&'static str] {
    match style {
        Style::Exchange => &["streaming", "pull", "push"],
        _ => &["streaming", "pull"],
    }
}

impl Watching {
    /// A client whose watch is not yet connected.
    pub fn start(sim: Sim, settings: &[(&str, &str)]) -> Watching {
        let mut options = Options::new();
        options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
        if let Some(file) = sim.ca_file() {
            options.set("ca_file", file.to_str().unwrap()).unwrap();
        }
        options.set("pull_interval", "20ms").unwrap().set("pull_interval_max", "20ms").unwrap();
        // Only mode=push uses it.
        options.set("push_silence", "30s").unwrap();
        if settings.contains(&("mode", "push")) && !settings.iter().any(|(key, _)| *key == "push_url") {
            options.set("push_listen", "127.0.0.1:0").unwrap();
        }
        // What the streams alone bring: catch-up has tests of its own.
        options.set("catch_up", "false").unwrap();
        for (key, value) in settings {
            options.set(key, value).unwrap();
        }
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        Watching {
            style: sim.exchange().style(),
            sim,
            client,
            events: Vec::new(),
            delivered: BTreeMap::new(),
            next_mail: 0,
        }
    }

    /// Takes events until one is as wanted.
    pub fn until(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.client.next(deadline.saturating_duration_since(Instant::now())) {
                Next::Event(event) => {
                    self.events.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                }
                Next::Interrupted => {}
                other => panic!("{other:?} instead of {what}, after {:#?}", self.tail()),
            }
        }
    }

    pub fn connected(&mut self) -> Event {
        self.until("Connected", |e| e.kind == EventKind::Connected)
    }

    /// Delivers a mail; its item's id.
    pub fn deliver(&mut self) -> String {
        self.next_mail += 1;
        let mime = format!(
            "From: Bob <bob@example.test>\r\nTo: Ada <{ADA}>\r\nSubject: Mail {n}\r\nMessage-ID: <{n}@example.test>\r\n\r\nText {n}\r\n",
            n = self.next_mail
        );
        let at = SystemTime::now();
        let id = self.sim.exchange().deliver(ADA, mime.as_bytes()).unwrap();
        self.delivered.insert(id.clone(), at);
        id
    }

    /// Delivers mails until one is told: so the watch is connected, and everything before it has been told or lost.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let id = self.deliver();
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                if let Next::Event(event) = self.client.next(until.saturating_duration_since(Instant::now()))
                {
                    self.events.push(event.clone());
                    if event.kind == EventKind::NewMail && event.item_id.as_deref() == Some(&id) {
                        return;
                    }
                }
            }
        }
        panic!("no mail is told any more, after {:#?}", self.tail());
    }

    pub fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|e| e.kind == kind).count()
    }

    /// Compares what happened with what was told: everything exactly once, but for what was written to a dead socket, ran
    /// over, or happened while the server knew no subscription, and each of those is named by a `Gap`. The number of events
    /// that were lost.
    pub fn compare(&self) -> usize {
        self.compare_where(false)
    }

    /// The same, where the client itself may have dropped some: the server cannot know which. Their Gap goes by the times of
    /// the events, which are whole seconds.
    pub fn compare_where(&self, dropped: bool) -> usize {
        let mut told: BTreeMap<(EventKind, &str), usize> = BTreeMap::new();
        for event in self.events.iter().filter(|e| e.kind.is_mailbox()) {
            if let Some(id) = event.item_id.as_deref() {
                *told.entry((event.kind, id)).or_default() += 1;
            }
        }
        let lost_envelopes: Vec<String> = self
            .sim
            .streams()
            .iter()
            .flat_map(|s| s.lost.iter().map(|e| String::from_utf8_lossy(e).into_owned()))
            .collect();
        // A reset takes what its receiver has not read yet, though the kernel had taken it.
        let reset: BTreeSet<u64> = (self.sim.streams().iter())
            .filter(|s| s.end == Some(End::Cut(Cut::Reset)))
            .map(|s| s.in_ledger)
            .collect();
        let arrived = |told: &Told| match told.connection {
            // An answer to GetEvents: without watermarks, one that did not arrive is not given again.
            0 => self.style == Style::Exchange,
            stream => !reset.contains(&stream),
        };
        let mut expected: BTreeMap<(EventKind, String), (Fate, bool)> = BTreeMap::new();
        for entry in self.sim.exchange().ledger() {
            if let (true, Some(id)) = (entry.kind.is_mailbox(), &entry.item_id) {
                let sure = entry.fate == Fate::Told && arrived(&entry) && !dropped;
                // An answer to GetEvents that was lost is given again: the last word counts.
                expected.insert((entry.kind, id.clone()), (entry.fate, sure));
            }
        }
        let mut lost = 0;
        // What happened while the server knew no subscription is in no ledger.
        for id in self.delivered.keys() {
            for kind in [EventKind::Created, EventKind::NewMail] {
                expected.entry((kind, id.clone())).or_insert((Fate::Lost, false));
            }
        }
        for ((kind, id), (fate, sure)) in &expected {
            let times = told.remove(&(*kind, id.as_str())).unwrap_or(0);
            assert!(times <= 1, "{kind:?} of {id} was told {times} times\n{:#?}", self.tail());
            if times == 0 {
                let sure = *sure && !lost_envelopes.iter().any(|e| e.contains(id.as_str()));
                assert!(!sure, "{kind:?} of {id} was written and not told\n{:#?}", self.tail());
                let at = self.delivered[id];
                let named = self.events.iter().filter(|e| e.kind == EventKind::Gap).any(|gap| {
                    let since = gap.detail.as_ref().unwrap().since.unwrap();
                    since <= at + IN_FLIGHT && at <= gap.time + Duration::from_secs(dropped.into())
                });
                assert!(
                    named,
                    "{kind:?} of {id} at {at:?} was lost ({fate:?}) and no Gap names it\n{:#?}",
                    self.tail()
                );
                lost += 1;
            }
        }
        assert!(told.is_empty(), "told, but never happened: {told:?}");
        lost
    }

    /// Nothing was tried more often than the script asks for.
    pub fn assert_no_busy_loop(&self, most: u64) {
        let stats = self.sim.stats();
        let asked: u64 = stats.requests.iter().filter(|((o, _), _)| o != "GetEvents").map(|(_, n)| n).sum();
        assert!(asked <= most, "{asked} requests: {:?}", stats.requests);
        assert_eq!(stats.panics, 0);
    }

    fn tail(&self) -> Vec<String> {
        let from = self.events.len().saturating_sub(40);
        self.events[from..].iter().map(Event::to_json).collect()
    }
}
