//! The decisions, without the deeds: subscribe, open, reopen, resubscribe, gap, fetch, hand out, back off, close.
//!
//! [`Engine`] takes [`Input`]s with the time they came at, and gives [`Command`]s. It knows no socket, thread or clock, so
//! an hour passes in a millisecond, and a seed replays a bug. Whoever feeds an input must execute the commands that
//! follow, in their order, before the next input ([`Engine::poll`] until `None`).

mod acks;
mod after_ack;
pub(crate) mod answer;
mod audit;
mod backoff;
mod calls;
mod catch_up;
mod coalesce;
mod delivery;
mod doubts;
mod fetch;
mod folder;
mod gates;
mod group;
mod heard;
mod hierarchy;
mod hold;
mod host_state;
mod interface;
pub(crate) mod legacy_ids;
mod losses;
mod mailbox;
mod owners;
mod pages;
pub(crate) mod paths;
mod pull;
mod push;
mod resume;
mod save;
mod seats;
mod status;
mod stream;
mod tell;
mod timers;
mod tokens;
mod verdict;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::proto::{NoticeKind, RequestVersion};
use crate::{EventKind, Reason};

use acks::{Opens, Ticket};
use after_ack::Actions;
use backoff::Gate;
use calls::{Call, Job};
use coalesce::Windows;
use fetch::{FetchId, Fetches, Wanted};
use group::{Group, GroupId, Learned, Link};
use host_state::HostState;
use owners::Owners;
use pages::Syncs;
use pull::Polls;
use push::Pushes;
use save::{Batch, Saves};
use timers::{Timer, Timers};
use tokens::Tokens;
use watch::Watch;

pub use acks::{Nack, Parked};
pub use after_ack::AfterAck;
use delivery::Delivery;
pub use delivery::Limits;
pub use fetch::item_content;
pub use folder::digest;
pub use interface::{Answer, CallId, Command, ConnId, Input, Now, Route, Settings, WatchMode, WatchSpec};
pub use paths::FolderPath;
pub use push::{PushAnswer, PushOutcome, PushPart, Pushed};
pub use save::{NUMBERS, SaveId};
pub use status::{ConnectionState, ConnectionStatus, Counters, Status, WatchState, WatchStatus};
pub(crate) use verdict::denies_sync;

/// The eight event elements as the host's kinds; `None` for `StatusEvent`.
pub fn event_kind(kind: NoticeKind) -> Option<EventKind> {
    Some(match kind {
        NoticeKind::Copied => EventKind::Copied,
        NoticeKind::Created => EventKind::Created,
        NoticeKind::Deleted => EventKind::Deleted,
        NoticeKind::FreeBusyChanged => EventKind::FreeBusyChanged,
        NoticeKind::Modified => EventKind::Modified,
        NoticeKind::Moved => EventKind::Moved,
        NoticeKind::NewMail => EventKind::NewMail,
        NoticeKind::Status => return None,
    })
}

/// All watches of a client and their connections.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    rng: fastrand::Rng,
    /// The time of the input that is being handled.
    now: Now,
    out: VecDeque<Command>,
    timers: Timers,
    endpoints: BTreeMap<u32, Endpoint>,
    watches: BTreeMap<u64, Watch>,
    /// How those stood, by name, that were given up and not begun anew.
    given_up: BTreeMap<Arc<str>, WatchStatus>,
    groups: BTreeMap<GroupId, Group>,
    /// Watches that are going to stream and whose server is being found: it may be that of any group.
    locating: BTreeSet<u64>,
    calls: BTreeMap<CallId, Call>,
    /// How many calls of a watch are under way.
    calls_of: BTreeMap<u64, usize>,
    conns: BTreeMap<ConnId, Conn>,
    items: BTreeMap<FetchId, Wanted>,
    /// Endpoints whose fetches are to be looked after when the input has been handled.
    dirty_fetches: BTreeSet<u32>,
    /// No further message is asked for until the host has taken some.
    spool_full: bool,
    /// The same for their syncs.
    dirty_syncs: BTreeSet<u32>,
    /// What waits for the host.
    delivery: Delivery,
    opens: Opens,
    windows: Windows,
    actions: Actions,
    pushes: Pushes,
    /// The state, where the host keeps it.
    host: Option<HostState>,
    /// Events to be given again, and when.
    again: BTreeSet<(Duration, Ticket)>,
    /// How many watches are given nothing before the host acknowledges something.
    blocked: usize,
    /// Changes that are not on their way to the store.
    unsaved: Batch,
    /// Watches of which something was acknowledged since the last batch.
    acked: BTreeSet<u64>,
    saves: Saves,
    tokens: Tokens,
    next_call: CallId,
    next_conn: ConnId,
    next_group: GroupId,
    next_fetch: FetchId,
    closing: bool,
    finished: bool,
    counters: Counters,
}

/// What watches of one server and sign-in share.
#[derive(Debug, Default)]
struct Endpoint {
    version: RequestVersion,
    /// Whether the version has been answered well.
    version_works: bool,
    gate: Gate,
    /// Of watches whose mailbox has a budget of its own.
    gates: BTreeMap<u64, Gate>,
    /// Watches that wait for a seat in a group.
    seatless: BTreeSet<u64>,
    /// How many streams may stand, where the server has said so.
    learned: Option<Learned>,
    /// Streams whose watches have all gone and whose end has not come.
    orphans: usize,
    /// Whose each subscription is, and was.
    owners: Owners,
    polls: Polls,
    fetches: Fetches,
    syncs: Syncs,
}

/// A stream under way.
#[derive(Debug)]
struct Conn {
    endpoint: u32,
    group: Option<GroupId>,
    version: RequestVersion,
}

impl Engine {
    /// An engine without watches.
    pub fn new(settings: Settings) -> Engine {
        Engine {
            rng: fastrand::Rng::with_seed(settings.seed),
            delivery: Delivery::new(settings.queue),
            settings,
            now: Now { mono: Duration::ZERO, wall: SystemTime::UNIX_EPOCH },
            out: VecDeque::new(),
            timers: Timers::default(),
            endpoints: BTreeMap::new(),
            watches: BTreeMap::new(),
            given_up: BTreeMap::new(),
            groups: BTreeMap::new(),
            locating: BTreeSet::new(),
            calls: BTreeMap::new(),
            calls_of: BTreeMap::new(),
            conns: BTreeMap::new(),
            items: BTreeMap::new(),
            dirty_fetches: BTreeSet::new(),
            spool_full: false,
            dirty_syncs: BTreeSet::new(),
            opens: Opens::default(),
            windows: Windows::default(),
            actions: Actions::default(),
            pushes: Pushes::default(),
            host: None,
            again: BTreeSet::new(),
            blocked: 0,
            unsaved: BTreeMap::new(),
            acked: BTreeSet::new(),
            saves: Saves::default(),
            tokens: Tokens::default(),
            next_call: 0,
            next_conn: 0,
            next_group: 0,
            next_fetch: 0,
            closing: false,
            finished: false,
            counters: Counters::default(),
        }
    }

    /// Takes what happened at a time. Commands may follow: [`poll`](Self::poll) until `None`.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Called { call, result } => self.called(call, result),
            Input::Ended { conn, result } => self.ended(conn, result),
            Input::Saved { save, result } => self.saved(save, result),
            Input::TokenRotated { account, token } => self.token_rotated(account, token),
            _ if self.closing => {}
            Input::Add(spec) => self.add(*spec),
            Input::Remove(watch) => self.remove(watch),
            Input::Opened(conn) => self.opened(conn),
            Input::Message { conn, responses } => self.message(conn, responses),
            Input::BadEnvelope { conn, error } => self.bad_envelope(conn, &error),
            Input::SpoolFull(full) => self.spool_full(full),
            Input::TokenNeeded { account, resource, reason, claims } => {
                self.token_needed(&account, resource, reason, claims);
            }
            Input::TokenSet { account, renew_at } => self.token_set(&account, renew_at),
            Input::TokenDenied { account, error } => self.token_denied(&account, &error),
            Input::Tick => {}
            Input::Close => self.close(),
        }
        self.finish_input();
    }

    /// What follows from everything that was handled.
    fn finish_input(&mut self) {
        self.tokens_crossed();
        while let Some(timer) = self.timers.pop(self.now.mono) {
            match timer {
                Timer::Watch(watch) => self.watch_due(watch),
                Timer::Push(watch) => self.push_is_silent(watch),
                Timer::Lobby(group) => self.leave_lobby(group),
                Timer::Group(group) => self.group_due(group),
                Timer::Fetch(endpoint) => self.pump_fetches(endpoint),
                Timer::Sync(watch) => self.sync_soon(watch),
                Timer::Syncs(endpoint) => self.pump_syncs(endpoint),
                Timer::Suspect(watch) => self.look_at_suspects(watch),
                Timer::Again => self.again_due(),
                Timer::Window => self.windows_due(),
                Timer::Act(endpoint) => self.pump_actions(endpoint),
                Timer::Pair => self.give_pair(),
                Timer::Save => drop(self.save_now()),
                Timer::Token(account) => self.token_due(account),
            }
        }
        while let Some(endpoint) = self.dirty_fetches.pop_first() {
            self.pump_fetches(endpoint);
        }
        while let Some(endpoint) = self.dirty_syncs.pop_first() {
            self.pump_syncs(endpoint);
        }
        while let Some(endpoint) = self.actions.dirty.pop_first() {
            self.pump_actions(endpoint);
        }
        let idle = self.calls.is_empty() && self.conns.is_empty() && self.is_saved();
        let idle = idle && self.actions.is_empty();
        if self.closing && !self.finished && idle {
            self.finished = true;
            self.out.push_back(Command::Finished);
        }
    }

    /// The next command.
    pub fn poll(&mut self) -> Option<Command> {
        self.out.pop_front()
    }

    /// The monotonic time at which [`Input::Tick`] is wanted, if nothing happens before.
    pub fn wake_at(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Whether a watch was added and has not ended.
    pub fn watches(&self, watch: u64) -> bool {
        self.watches.contains_key(&watch)
    }

    /// Whether the store is still changed in the name of a watch: it has not ended, or what it began after an acknowledgement has
    /// not.
    pub fn keeps_state(&self, watch: u64) -> bool {
        self.watches(watch) || self.actions.len(watch) > 0
    }

    /// Says so if a watch has ended and nothing of it is under way.
    fn forget(&mut self, watch: u64) {
        let busy = self.calls_of.contains_key(&watch) || self.actions.len(watch) > 0;
        if !self.watches.contains_key(&watch) && !busy {
            self.forget_push(watch);
            self.out.push_back(Command::Forget(watch));
        }
    }

    /// Tells the end, at once; what the network has to say about it comes later.
    fn close(&mut self) {
        self.ack_taken();
        // What the next run can go on with stays on the server, for as long as that keeps it.
        let goes_on = |(id, w): &(&u64, &Watch)| {
            self.settings.durable && (w.stored.resume.is_some() || self.resume(**id).is_some())
        };
        let left: BTreeSet<u64> = self.watches.iter().filter(goes_on).map(|(id, _)| *id).collect();
        for id in self.watches.keys().copied().collect::<Vec<_>>() {
            if !left.contains(&id) {
                self.unstore_subscriptions(id);
            }
            self.leave_windows(id);
        }
        self.acked.extend(&left);
        self.save_now();
        self.give_last_state();
        self.closing = true;
        self.timers.clear_all();
        self.give_last_tokens();
        self.delivery.close();
        self.items.clear();
        self.dirty_fetches.clear();
        self.leave_actions(None);
        let watches = std::mem::take(&mut self.watches);
        for (id, watch) in &watches {
            self.tell_closed(*id, watch.spec.mailbox.clone(), Reason::ClosedByHost);
        }
        self.tell_closed(0, "".into(), Reason::ClosedByHost);
        for group in std::mem::take(&mut self.groups).into_values() {
            if let Link::Hanging(conn) = group.link {
                self.out.push_back(Command::Abort(conn));
            }
        }
        for conn in self.conns.values_mut() {
            conn.group = None;
        }
        for (id, watch) in watches {
            if let Some(s) = watch.subscription.filter(|_| !left.contains(&id)) {
                self.unsubscribe(id, watch.spec.endpoint, s.id, s.route);
            }
            self.forget(id);
        }
        self.opens = Opens::default();
        for endpoint in self.endpoints.values_mut() {
            endpoint.seatless.clear();
        }
    }

    fn endpoint(&mut self, endpoint: u32) -> &mut Endpoint {
        self.endpoints.entry(endpoint).or_default()
    }
}

#[cfg(test)]
mod tests;
