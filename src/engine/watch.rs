//! What is known of a watch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use super::folder::Folder;
use super::group::GroupId;
use super::hierarchy::Tree;
use super::hold::Held;
use super::paths::{FolderPath, Search};
use super::save::Stored;
use super::{AfterAck, CallId, Now, Route, WatchMode, WatchSpec};
use crate::cookies::Cookies;
use crate::proto::FolderRef;
use crate::{Ack, Error, Reason};

/// A server may tell a little after a stream's first message that its queue ran over before.
const SETTLED: Duration = Duration::from_secs(10);
/// How often a refused sign-in is tried again where it worked before.
const REFUSALS: u32 = 2;

/// What a watch does next by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Finding its server.
    Locate,
    /// `GetFolder`, and `FindFolder` before it where paths are given.
    Folders,
    /// `GetEvents` of an earlier run's subscription.
    Resume,
    /// `Subscribe`.
    Subscribe,
    /// `GetEvents`.
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its timer starts the step.
    Due(Step),
    /// The step's call is under way.
    Calling(Step, CallId),
    /// Subscribed, and waits for a stream to join.
    Lobby,
    /// In a group, which cares for its stream.
    Grouped(GroupId),
    /// Subscribed, and waits for what the server sends.
    Pushed,
}

/// What is known of what the server does with events while no answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// No stream takes them, so they are queued, since this time.
    Queued {
        /// Monotonic.
        from: Duration,
    },
    /// A stream gives them to us.
    Live,
    /// They may have been given to a connection that is no more.
    Broken(Reason),
}

/// A gap that the host has not been told of for certain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untold {
    pub since: SystemTime,
    pub until: SystemTime,
    /// Whether sync tells all of it that is still there.
    pub whole: bool,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub id: String,
    pub watermark: Option<String>,
    /// How it is reached.
    pub route: Option<Route>,
    /// When it was answered, monotonic.
    pub at: Duration,
    /// Whether it has told a mailbox event.
    pub told: bool,
}

#[derive(Debug)]
pub(super) struct Watch {
    pub spec: WatchSpec,
    /// What is still asked for; folders that are gone are taken out.
    pub folders: Vec<FolderPath>,
    /// How far they have been looked for.
    pub search: Search,
    /// Where items go after their acknowledgement, if that was given by a path and has been found.
    pub move_to: Option<FolderRef>,
    /// The folders' ids; empty for all folders.
    pub folder_ids: Vec<String>,
    /// What sync knows of them, by id. Boxed: a map's smallest node has room for eleven.
    pub folders_known: BTreeMap<String, Box<Folder>>,
    /// Which folders there are, where all of them are watched.
    pub tree: Option<Box<Tree>>,
    /// Failures to ask for the folders' stamps, and whether the server dates its answers, without which they say nothing.
    pub surveys: Backoff,
    pub undated: bool,
    /// What the store had of this watch and has not been taken up.
    pub stored: Stored,
    /// Catch-up has told something, or will, since `Drained`.
    pub undrained: bool,
    /// Sync waits until fewer events wait.
    pub starved: bool,
    /// How many events the host has, where it acknowledges them itself.
    pub unacked: usize,
    /// How many it was given in this run, where it acknowledges them itself.
    pub given: usize,
    pub phase: Phase,
    /// Whether its server was found once.
    pub located: bool,
    /// The group that it has a seat in.
    pub seat: Option<GroupId>,
    /// The group whose machine it must not go to again.
    pub shunned: Option<GroupId>,
    /// What leads to its subscription's machine, where it streams not.
    pub cookies: Arc<Cookies>,
    pub subscription: Option<Subscription>,
    /// The subscription and the watermark that the store has, or will have.
    pub place: Option<(String, String)>,
    /// While the server tells what it has remembered for this run: since when.
    pub went_on: Option<SystemTime>,
    /// When the last folder was read to its end, monotonic.
    pub read_at: Duration,
    /// What had happened by then, the server has told, where it has to be asked; monotonic.
    pub exhausted: Duration,
    /// An answer was not taken, since the host had no room for it.
    pub left_there: bool,
    /// How long it waits before the next question.
    pub pace: Duration,
    pub resubscribing: bool,
    pub certain: SystemTime,
    /// When the last gap was told, monotonic.
    pub gap_at: Option<Duration>,
    /// What is dated from then on, the stream tells: the time of the subscription or of a later gap.
    pub streamed: SystemTime,
    /// What the host has not taken yet of gaps. A kill must not make a checkpoint of it: what came and went in there, nobody tells.
    pub gap_untold: Option<Untold>,
    /// What `certain` was before the present stream.
    pub before: SystemTime,
    /// When something proved last that the subscription is this watch's, and alive: its making, or an event of its folders.
    pub proved: SystemTime,
    pub continuity: Continuity,
    /// Why the link is gone.
    pub down: Option<Reason>,
    /// Why the last attempt at whatever it needs failed.
    pub failing: Option<Reason>,
    /// Since when it is connected, monotonic.
    pub connected: Option<Duration>,
    pub told_down: bool,
    /// Whether its being left without a stream was told.
    pub told_full: bool,
    pub backoff: Backoff,
    pub losses: Backoff,
    pub folders_gone: u32,
    refusals: u32,
    /// Whether there ever was a good answer.
    pub has_worked: bool,
    /// Events that wait for content, and what must stay behind them.
    pub hold: VecDeque<Held>,
}

/// What a watch does first at its server.
pub(super) fn first_step(spec: &WatchSpec) -> Step {
    if spec.folders.is_empty() { Step::Subscribe } else { Step::Folders }
}

impl Watch {
    pub fn new(spec: WatchSpec, now: Now) -> Watch {
        Watch {
            folders: spec.folders.clone(),
            search: Search::default(),
            move_to: None,
            folder_ids: Vec::new(),
            folders_known: BTreeMap::new(),
            tree: None,
            surveys: Backoff::default(),
            undated: false,
            stored: Stored::default(),
            undrained: true,
            starved: false,
            unacked: 0,
            given: 0,
            located: false,
            phase: Phase::Due(if spec.locate { Step::Locate } else { first_step(&spec) }),
            spec,
            seat: None,
            shunned: None,
            cookies: Arc::default(),
            subscription: None,
            place: None,
            went_on: None,
            read_at: Duration::ZERO,
            exhausted: now.mono,
            left_there: false,
            pace: Duration::ZERO,
            resubscribing: false,
            certain: now.wall,
            gap_at: None,
            streamed: now.wall,
            gap_untold: None,
            before: now.wall,
            proved: now.wall,
            continuity: Continuity::Queued { from: now.mono },
            down: None,
            failing: None,
            connected: None,
            told_down: false,
            told_full: false,
            backoff: Backoff::default(),
            losses: Backoff::default(),
            folders_gone: 0,
            refusals: 0,
            has_worked: false,
            hold: VecDeque::new(),
        }
    }

    pub fn group(&self) -> Option<GroupId> {
        match self.phase {
            Phase::Grouped(group) => Some(group),
            _ => None,
        }
    }

    /// Whether the host has to acknowledge something before it is given more.
    pub fn is_blocked(&self) -> bool {
        self.spec.ack == Ack::Manual && self.unacked >= self.spec.max_unacked
    }

    /// What is done with its items, a path being followed if that has been done.
    pub fn after_ack(&self) -> AfterAck {
        match (&self.spec.after_ack, &self.move_to) {
            (AfterAck::Move(_), Some(to)) => AfterAck::Move(to.clone().into()),
            (what, _) => what.clone(),
        }
    }

    /// The folder that its items go to, where only the server can tell whether it is one of those watched: two names are compared
    /// when the options are read, and a path is followed.
    pub fn goes_to(&self) -> Option<FolderRef> {
        let to = match &self.spec.after_ack {
            AfterAck::Delete(to) => to,
            AfterAck::Move(to) if to.names.is_empty() && to.form.is_none() => &to.from,
            _ => return None,
        };
        let named = |f: &FolderRef| matches!(f, FolderRef::Distinguished { .. });
        let compared = named(to) && self.folders.iter().all(|f| f.names.is_empty() && named(&f.from));
        // In a public folder mailbox there is nobody's folder.
        let elsewhere = named(to) && self.folders.iter().any(FolderPath::is_public);
        (!compared && !elsewhere).then(|| to.clone())
    }

    /// Whether its subscription is of a kind that Exchange 2007 has not.
    pub fn needs_2010(&self) -> bool {
        self.is_streaming() || self.folder_ids.is_empty()
    }

    pub fn is_streaming(&self) -> bool {
        matches!(self.spec.mode, WatchMode::Streaming { .. })
    }

    /// Whether its stream is old enough that the server would have told what it lost before the stream.
    pub fn has_settled(&self, now: Duration) -> bool {
        self.connected.is_some_and(|since| now.saturating_sub(since) >= SETTLED)
    }

    /// Events come: earlier refusals and failures are forgotten.
    pub fn worked(&mut self) {
        self.has_worked = true;
        self.refusals = 0;
        self.backoff.reset();
    }

    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// A connection may have been given events that never came here. The first reason of a stretch is told.
    pub fn doubt(&mut self, reason: Reason) {
        if !matches!(self.continuity, Continuity::Broken(_)) {
            self.continuity = Continuity::Broken(reason);
        }
    }

    /// Whether a refused sign-in may be tried again.
    pub fn may_be_refused(&mut self, error: &Error) -> bool {
        self.refusals += 1;
        (self.has_worked || error.was_refused_lately()) && self.refusals <= REFUSALS
    }
}
