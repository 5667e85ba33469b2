//! A small world of faults: a server, a network and a slow host around the engine, in virtual time, from a seed.
//!
//! Replay one with `EWSN_WORLD_SEED=n`; `EWSN_WORLD_RUNS=n` sets how many are tried.

mod calls;
mod deeds;
mod faults;
mod ledger;
mod schedules;
mod server;
mod wire;

use super::*;
use crate::engine::delivery::Pushed;
use ledger::Ledger;
use server::{Server, Stream, Style};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

/// Something that is going to happen.
enum Act {
    /// Mail comes into a mailbox.
    Mail(usize),
    /// Mail comes into a stranger's mailbox.
    StrangersMail,
    /// A call reaches the server.
    Serve(CallId, u64, Request),
    /// A call's answer reaches us.
    Answer(CallId, Result<Answer, Error>),
    /// A stream's request reaches the server.
    Attach(ConnId, Vec<String>),
    Heartbeat(ConnId),
    /// The server's time for a stream is over.
    Close(ConnId),
    /// The server notices that a socket is dead.
    Notice(ConnId),
    /// We notice that a socket is dead.
    Over(ConnId, Result<(), Error>),
    Fault,
    /// The host takes events.
    Host,
    /// The engine's own time.
    Tick,
}

struct World {
    seed: u64,
    rng: fastrand::Rng,
    engine: Engine,
    mono: Duration,
    order: u64,
    acts: BTreeMap<(Duration, u64), Act>,
    server: Server,
    ledger: Ledger,
    watches: BTreeMap<u64, usize>,
    next_watch: u64,
    pull: Vec<Option<Duration>>,
    fetch: Vec<Fetch>,
    /// Faults happen until then.
    faults_until: Duration,
    mail_until: Duration,
    mail_every: f64,
    refusing_until: Duration,
    busy_until: Duration,
    slow_until: Duration,
    host_sleeps_until: Duration,
    unanswered: u32,
    refusals: u32,
    /// Subscriptions whose answer is on its way to us.
    answered: BTreeSet<String>,
    /// Streams that are over for us.
    over: BTreeSet<ConnId>,
    asked: VecDeque<Duration>,
    finished: bool,
    /// The tick that is on its way.
    tick: Option<Duration>,
    hits: BTreeMap<&'static str, u64>,
    /// What happens is printed: a seed is replayed.
    trace: bool,
}

impl World {
    fn new(seed: u64, faults: bool) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mailboxes = rng.usize(1..=4);
        let slow_host = faults && rng.u8(..4) == 0;
        let settings = Settings {
            connections: if faults { rng.usize(1..=4) } else { 10 },
            subscriptions_per_connection: if faults { [1, 2, 200, 200][rng.usize(..4)] } else { 200 },
            fetches: rng.usize(1..=4),
            pending_events: if faults { rng.usize(2..=50) } else { 1000 },
            seed: rng.u64(..),
            ..super::settings()
        };
        let settings = Settings {
            // Room for everybody: a watch without room has a test of its own.
            subscriptions_per_connection: settings.subscriptions_per_connection.max(mailboxes),
            ..settings
        };
        let pulls = rng.u8(..3) == 0;
        let limits = if slow_host {
            Limits { events: 12, bytes: 1 << 20 }
        } else {
            Limits { events: 100_000, bytes: 1 << 30 }
        };
        let settings = Settings { queue: limits, ..settings };
        let pull = (0..mailboxes)
            .map(|_| (pulls && rng.bool()).then(|| Duration::from_secs(rng.u64(3..20))))
            .collect();
        let fetch =
            (0..mailboxes).map(|_| if rng.u8(..4) == 0 { Fetch::Summary } else { Fetch::None }).collect();
        let style = if rng.bool() { Style::Exchange } else { Style::Gromox };
        let faults_until = Duration::from_secs(if faults { 300 } else { 0 });
        let mut world = World {
            seed,
            engine: Engine::new(settings),
            mono: Duration::ZERO,
            order: 0,
            acts: BTreeMap::new(),
            server: Server::new(style, if faults { 12 } else { 10_000 }),
            ledger: Ledger::default(),
            watches: BTreeMap::new(),
            next_watch: 0,
            pull,
            fetch,
            faults_until,
            mail_until: faults_until + Duration::from_secs(300),
            mail_every: [3.0, 8.0, 20.0][rng.usize(..3)],
            refusing_until: Duration::ZERO,
            busy_until: Duration::ZERO,
            slow_until: Duration::ZERO,
            host_sleeps_until: Duration::ZERO,
            unanswered: 0,
            refusals: 0,
            answered: BTreeSet::new(),
            over: BTreeSet::new(),
            asked: VecDeque::new(),
            finished: false,
            tick: None,
            hits: BTreeMap::new(),
            trace: number("EWSN_WORLD_SEED").is_some(),
            rng,
        };
        for mailbox in 0..mailboxes {
            world.watch(mailbox);
            world.later(1.0, Act::Mail(mailbox));
        }
        world.later(5.0, Act::StrangersMail);
        world.later(0.1, Act::Host);
        if faults {
            world.later(10.0, Act::Fault);
        }
        world
    }

    fn now(&self) -> Now {
        Now { mono: self.mono, wall: WALL + Duration::from_secs(1_000_000) + self.mono }
    }

    /// In so many seconds on average, at random.
    fn later(&mut self, seconds: f64, act: Act) {
        let at = self.mono + Duration::from_secs_f64(self.rng.f64() * 2.0 * seconds);
        self.at(at, act);
    }

    fn at(&mut self, at: Duration, act: Act) {
        self.order += 1;
        self.acts.insert((at, self.order), act);
    }

    fn hit(&mut self, fault: &'static str) {
        if self.trace {
            println!("{:9.3} * {fault}", self.mono.as_secs_f64());
        }
        *self.hits.entry(fault).or_default() += 1;
    }

    fn watch(&mut self, mailbox: usize) {
        self.next_watch += 1;
        let watch = self.next_watch;
        self.watches.insert(watch, mailbox);
        self.ledger.open(watch, mailbox);
        let mut spec = spec(watch);
        if let Some(interval) = self.pull[mailbox] {
            spec.mode = WatchMode::Pull { interval, quiet: 3 * interval, timeout_minutes: 30 };
        }
        spec.fetch = self.fetch[mailbox];
        self.feed(Input::Add(Box::new(spec)));
    }

    fn run(&mut self) {
        let quiet = self.mail_until + Duration::from_secs(300);
        while let Some((&(at, order), _)) = self.acts.first_key_value() {
            // A stream may be between two lives just then.
            let all_well = || {
                let status = self.engine.status();
                let well = |w: &WatchStatus| {
                    let connected = matches!(w.state, WatchState::Connected | WatchState::Pulling);
                    connected && w.held == 0 && !w.catching_up
                };
                status.watches.iter().all(well)
            };
            if at > quiet && (at > quiet + Duration::from_secs(60) || all_well()) {
                break;
            }
            self.mono = self.mono.max(at);
            if let Some(act) = self.acts.remove(&(at, order)) {
                self.act(act);
            }
        }
        self.mono = self.mono.max(quiet);
        self.host_takes(usize::MAX);
        for watch in self.engine.status().watches {
            assert!(
                matches!(watch.state, WatchState::Connected | WatchState::Pulling) && watch.held == 0,
                "faults are long over: {watch:?}"
            );
        }
        self.ledger.check(self.hits.is_empty());
        assert_eq!(self.ledger.live(), self.watches.len());
        self.close();
    }

    fn close(&mut self) {
        if self.rng.bool() {
            // In the middle of something.
            for conn in self.live_streams() {
                self.cut(conn, 5.0, 5.0, Err(error(ErrorKind::Io)));
            }
            self.feed(Input::Tick);
        }
        self.feed(Input::Close);
        self.host_takes(usize::MAX);
        assert!(self.ledger.client_closed, "Closed of the client is told at once");
        assert_eq!(self.ledger.live(), 0);
        while let Some((&(at, order), _)) = self.acts.first_key_value() {
            self.mono = self.mono.max(at);
            use Act::{Answer, Attach, Over, Serve, Tick};
            if let Some(act @ (Serve(..) | Answer(..) | Attach(..) | Over(..) | Tick)) =
                self.acts.remove(&(at, order))
            {
                self.act(act);
            }
        }
        assert!(self.finished, "Close never finished");
        assert_eq!(self.engine.wake_at(), None);
        self.host_takes(usize::MAX);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Tick => {
                if self.engine.wake_at().is_some_and(|at| at <= self.mono) {
                    self.tick = None;
                    self.feed(Input::Tick);
                }
            }
            Act::Mail(mailbox) => {
                let wall = self.now().wall;
                let item = self.ledger.mail(mailbox, wall);
                let folder = format!("F{mailbox}");
                self.put(&folder, &item);
                if self.mono < self.mail_until {
                    self.later(self.mail_every, Act::Mail(mailbox));
                }
            }
            Act::StrangersMail => {
                self.put("F-stranger", "stranger-mail");
                self.later(10.0, Act::StrangersMail);
            }
            Act::Serve(call, watch, request) => {
                let result = self.serve(watch, request);
                let slow = if self.mono < self.slow_until { 15.0 } else { 0.05 };
                self.later(slow, Act::Answer(call, result));
            }
            Act::Answer(call, result) => {
                let items: Vec<String> = match &result {
                    Ok(Answer::Events(n)) => n.notices.iter().filter_map(item_of).collect(),
                    _ => Vec::new(),
                };
                if let Ok(Answer::Subscribed { id, .. }) = &result {
                    self.answered.remove(id);
                }
                let before = self.engine.counters.events;
                self.feed(Input::Called { call, result });
                // It came too late: the watch has another subscription by now.
                if self.engine.counters.events == before {
                    items.iter().for_each(|item| self.ledger.excuse(item));
                }
            }
            Act::Attach(conn, ids) => self.attach(conn, ids),
            Act::Heartbeat(conn) => {
                if self.server.streams.get(&conn).is_some_and(|s| s.server_alive) {
                    self.write(conn, ok(), &[]);
                    self.at(self.mono + Duration::from_secs(30), Act::Heartbeat(conn));
                }
            }
            Act::Close(conn) => {
                if self.server.streams.get(&conn).is_some_and(|s| s.server_alive) {
                    self.write(conn, closed(), &[]);
                    self.cut(conn, 0.01, 0.0, Ok(()));
                    self.server.detach(conn);
                }
            }
            Act::Notice(conn) => self.server.detach(conn),
            Act::Over(conn, result) => {
                self.server.detach(conn);
                self.server.streams.remove(&conn);
                self.over.insert(conn);
                self.feed(Input::Ended { conn, result });
            }
            Act::Fault => {
                if self.mono < self.faults_until {
                    self.fault();
                    self.later(9.0, Act::Fault);
                }
            }
            Act::Host => {
                if self.mono >= self.host_sleeps_until {
                    let some = self.rng.usize(1..60);
                    self.host_takes(some);
                }
                self.later(2.0, Act::Host);
            }
        }
    }

    fn host_takes(&mut self, most: usize) {
        for _ in 0..most {
            let Some(event) = self.engine.take(self.now()) else { break };
            self.ledger.told(event, &self.watches);
        }
        // As the runtime does: what follows from the taking is done.
        self.feed(Input::Tick);
    }
}

fn item_of(notice: &Notice) -> Option<String> {
    match &notice.target {
        Some(Target::Item(id)) => Some(id.id.clone()),
        _ => None,
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
