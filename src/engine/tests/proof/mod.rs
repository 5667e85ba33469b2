//! The proof that nothing is lost: a server with folders, a host that is killed at every step, a store that forgets what it has
//! not answered, and a ledger, in virtual time, from a seed.
//!
//! Replay one with `EWSN_PROOF_SEED=n`; `EWSN_PROOF_RUNS=n` sets how many are tried.

mod faults;
#[path = "../../../../tests/proto_support/forms.rs"]
mod forms;
mod host;
mod keep;
mod ledger;
mod mailboxes;
mod months;
mod pushes;
mod schedules;
mod server;
mod soap;
mod states;
mod steps;
mod wire;

use super::*;
use crate::engine::Nack;
use crate::proto::{SyncChange, SyncPage};
use keep::Keep;
use ledger::Ledger;
use server::{Server, folder_of, is_watched};
use soap::Pipe;
use states::Hits;

const WALL: SystemTime = SystemTime::UNIX_EPOCH;
const START: u64 = 1_800_000_000;
/// So many seconds, and nothing is remembered of items that are done with.
const FORGETS: u64 = 5 * 3600;
/// Each run of the host has numbers of its own for its streams.
const LIFE: u32 = 32;

/// Something that is going to happen. What belongs to a run of the host names it.
enum Act {
    /// Something happens in a mailbox.
    Mailbox(usize),
    /// The server tells what it has not told yet of a mailbox.
    Tell(usize),
    Serve(u64, CallId, u64, Box<Request>),
    Answer(u64, CallId, Box<Result<Answer, Error>>),
    /// A stream's request reaches the server.
    Attach(u64, Vec<String>),
    Heartbeat(u64),
    /// A push subscription may have something to send.
    Send(String),
    /// A push arrives.
    Deliver(String, Box<pushes::Message>),
    /// One arrives late.
    Replay(Box<pushes::Message>),
    /// The server's time for a stream is over.
    Close(u64),
    /// The server notices that a socket is dead.
    Notice(u64),
    /// We notice that a socket is dead.
    Over(u64, Result<(), Error>),
    /// A batch is in the store, or is not.
    Saved(u64, SaveId),
    Fault,
    /// The host is killed.
    Kill,
    Host,
    /// The host deals with an event that it has kept.
    Deal(u64, usize, Box<Event>),
    Start,
    Tick,
}

/// A batch for the store.
type Changes = Vec<(String, Option<Vec<u8>>)>;

/// A socket: whether what is written on it arrives, and whether the server believes that.
struct Socket {
    arrives: bool,
    believed: bool,
    spoil: bool,
    /// Where all goes through XML.
    pipe: Box<Pipe>,
}

struct World {
    rng: fastrand::Rng,
    engine: Engine,
    settings: Settings,
    specs: Vec<WatchSpec>,
    up: bool,
    /// Its numbers are its own, and its watches are added.
    begun: bool,
    life: u64,
    mono: Duration,
    order: u64,
    acts: BTreeMap<(Duration, u64), Act>,
    tick: Option<Duration>,
    server: Server,
    sockets: BTreeMap<u64, Socket>,
    /// What the server has not told yet of each mailbox; what it told last; whether the next two are told the wrong way round.
    untold: Vec<VecDeque<Notice>>,
    last_told: Vec<Option<Notice>>,
    reorder: Vec<bool>,
    next_line: usize,
    kept: Keep,
    saving: Option<(SaveId, Changes)>,
    saves: SaveId,
    ledger: Ledger,
    faults: bool,
    faults_until: Duration,
    mail_until: Duration,
    every: f64,
    slow_host: bool,
    /// What was given and is acknowledged by asking for more.
    given: Option<(usize, Event)>,
    /// Taken, and not seen by the host before that batch is durable.
    unseen: Option<(SaveId, Event)>,
    /// The host is killed after so many steps.
    kill_in: Option<u32>,
    full_until: Duration,
    /// The next batch does not reach the disk.
    failing: bool,
    busy_until: Duration,
    refusing_until: Duration,
    slow_until: Duration,
    host_sleeps_until: Duration,
    unanswered: u32,
    /// The next sync of this mailbox is denied.
    denying: Option<usize>,
    denied: BTreeSet<usize>,
    /// What happens to the next push, and what the last ones were.
    push_fault: Option<&'static str>,
    history: VecDeque<(usize, pushes::Message)>,
    hits: Hits,
    trace: bool,
    /// How long it goes on at least when everything is over.
    quiet: Duration,
    /// All goes through XML.
    xml: bool,
    /// Whose tokens every request needs, if any.
    account: Option<Box<months::Account>>,
}

/// What kind of schedule a seed is for.
#[derive(Clone, Copy)]
struct Schedule {
    faults: bool,
    /// The state is a database on a disk that forgets.
    on_disk: bool,
    xml: bool,
}

impl World {
    fn new(seed: u64, form: Schedule) -> World {
        let faults = form.faults;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mailboxes = rng.usize(1..=3);
        let slow_host = faults && rng.u8(..3) == 0;
        let queue = match slow_host {
            true => Limits { events: rng.usize(4..16), bytes: 1 << 20 },
            false => Limits { events: 10_000, bytes: 1 << 24 },
        };
        let settings = Settings {
            connections: 4,
            syncs: rng.usize(1..=2),
            fetches: 2,
            pending_events: if slow_host { 6 } else { 1000 },
            queue,
            durable: true,
            seed: rng.u64(..),
            ..super::settings()
        };
        let faults_until = Duration::from_secs(if faults { 200 } else { 0 });
        let mut world = World {
            engine: Engine::new(settings.clone()),
            settings,
            specs: Vec::new(),
            up: false,
            begun: false,
            life: 0,
            mono: Duration::ZERO,
            order: 0,
            acts: BTreeMap::new(),
            tick: None,
            server: Server::new(rng.bool(), if faults { 12 } else { 10_000 }),
            sockets: BTreeMap::new(),
            untold: Vec::new(),
            last_told: Vec::new(),
            reorder: Vec::new(),
            next_line: 0,
            kept: if form.on_disk { Keep::on_disk() } else { Keep::default() },
            xml: form.xml,
            account: None,
            saving: None,
            saves: 0,
            ledger: Ledger::default(),
            faults,
            faults_until,
            mail_until: faults_until + Duration::from_secs(120),
            every: [3.0, 6.0, 18.0][rng.usize(..3)],
            slow_host,
            given: None,
            unseen: None,
            kill_in: None,
            full_until: Duration::ZERO,
            failing: false,
            busy_until: Duration::ZERO,
            refusing_until: Duration::ZERO,
            slow_until: Duration::ZERO,
            host_sleeps_until: Duration::ZERO,
            unanswered: 0,
            denying: None,
            denied: BTreeSet::new(),
            push_fault: None,
            history: VecDeque::new(),
            hits: Hits::default(),
            trace: number("EWSN_PROOF_SEED").is_some(),
            quiet: Duration::from_secs(match seed % 16 {
                0 => FORGETS,
                // An audit comes once more.
                1..4 => 70 * 60,
                _ => 300,
            }),
            rng,
        };
        for mailbox in 0..mailboxes {
            world.mailbox(mailbox);
        }
        if faults {
            world.later(10.0, Act::Fault);
        }
        world.later(0.5, Act::Host);
        world.start();
        world
    }

    fn now(&self) -> Now {
        Now { mono: self.mono, wall: WALL + Duration::from_secs(START) + self.mono }
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

    fn run(&mut self) {
        let end = self.mail_until + self.quiet;
        let last = self.mail_until + Duration::from_secs(5 * 3600);
        while let Some((&(at, order), _)) = self.acts.first_key_value() {
            // Not in the middle of the last writing.
            let over = at > last && (self.engine.is_saved() || at > last + Duration::from_secs(60));
            if over || (at > end && self.is_settled()) {
                break;
            }
            self.mono = self.mono.max(at);
            if let Some(act) = self.acts.remove(&(at, order)) {
                self.act(act);
            }
        }
        self.at_rest();
    }

    /// Whether nothing is under way.
    fn is_settled(&self) -> bool {
        let known = self.engine.watches.values().flat_map(|w| w.folders_known.values());
        let busy =
            known.filter(|f| f.dirty || f.again || f.denied || f.in_flight.is_some() || f.baseline.is_some());
        self.up
            && self.engine.is_saved()
            && self.engine.opens.by_ticket.is_empty()
            && self.engine.waiting_events() == 0
            && busy.count() == 0
            && self.engine.watches.iter().all(|(id, w)| {
                w.connected.is_some() && self.has_asked(*id, w) && self.is_told(*id as usize - 1, w)
            })
    }

    /// Whether the server has nothing more for a watch that has to ask, and has said so since its folders were read.
    fn has_asked(&self, id: u64, watch: &crate::engine::watch::Watch) -> bool {
        let patience = watch.slowest() + Duration::from_secs(10);
        self.engine.caught_up(id).is_none_or(|ago| !watch.left_there && !watch.undrained && ago <= patience)
    }

    /// Whether the watch's subscription is alive. Only an audit finds out that one tells nothing, or is somebody else's.
    fn is_told(&self, mailbox: usize, watch: &crate::engine::watch::Watch) -> bool {
        let subscription = watch.subscription.as_ref().and_then(|s| self.server.subs.get(&s.id));
        subscription.is_some_and(|s| !s.dead && s.mailbox == mailbox)
    }

    /// Nothing is left, and nothing is missing.
    fn at_rest(&mut self) {
        for watch in self.engine.status().watches {
            assert!(
                matches!(watch.state, WatchState::Connected | WatchState::Pulling) && watch.held == 0,
                "faults are long over: {watch:?}"
            );
        }
        for mailbox in 0..self.specs.len() {
            let folders = (0..2).filter_map(|f| self.server.folders.get(&folder_of(mailbox, f)));
            let there = folders.flat_map(|f| f.values().map(|t| t.line)).collect();
            self.ledger.check(mailbox, &there, self.faults, self.denied.contains(&mailbox));
        }
        assert!(self.engine.is_saved(), "something was never written");
        assert!(
            self.engine.opens.by_ticket.is_empty(),
            "never acknowledged: {:?}",
            self.engine.opens.by_ticket
        );
        let left = |key: &&String| {
            key.contains("/p/")
                || (self.quiet.as_secs() == FORGETS)
                    && key.contains("/d/")
                    && !self.denied.iter().any(|m| key.starts_with(&*self.specs[*m].name))
        };
        let left: Vec<&String> = self.kept.sure.keys().filter(left).collect();
        assert!(left.is_empty(), "left in the store: {left:?}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
