//! What is known of a folder beside its stream: how far sync has told it, and which items were told since.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::CallId;
use super::backoff::Backoff;
use super::doubts::Doubt;
use crate::EventKind;
use crate::proto::FolderStamp;

/// How many of the newest synced ids are kept: one of them coming back as new means that the server has begun anew.
const NEWEST: usize = 32;

/// Stands for an item's or folder's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Digest(pub u128);

impl Digest {
    /// FNV-1a, 128 bits: the same in every run and on every machine. Ids come from the mailbox's own server.
    pub fn of(id: &str) -> Digest {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        Digest(id.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
    }

    pub fn hex(self) -> String {
        format!("{:032x}", self.0)
    }

    pub fn parse(hex: &str) -> Option<Digest> {
        u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32).map(Digest)
    }
}

/// A short name for a long text: the same in every run and on every machine.
pub fn digest(text: &str) -> String {
    Digest::of(text).hex()
}

/// What happened to an item since a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(pub u16);

impl Marks {
    /// The stream said that it is new here, whether the host wanted to know or not.
    pub const SEEN_NEW: Marks = Marks(1);
    /// The host was told of it as `NewMail`.
    pub const TOLD_MAIL: Marks = Marks(2);
    /// As `Created`.
    pub const TOLD_CREATED: Marks = Marks(16);
    /// As `Moved` or `Copied`.
    pub const TOLD_HERE: Marks = Marks(128);
    /// The stream said that it has changed.
    pub const SEEN_CHANGE: Marks = Marks(4);
    /// The stream said that it is gone from here.
    pub const SEEN_GONE: Marks = Marks(8);
    /// The store knows that the host has acknowledged it as `NewMail`.
    pub const STORED_MAIL: Marks = Marks(32);
    /// The same of its being gone.
    pub const STORED_GONE: Marks = Marks(64);
    /// The same as `Created`.
    pub const STORED_CREATED: Marks = Marks(256);
    /// The same as `Moved` or `Copied`.
    pub const STORED_HERE: Marks = Marks(512);
    /// It came out of a folder that sync had not read so far in a gap, and the host was not told of it there.
    pub const UNREAD: Marks = Marks(1024);

    /// We have marked it as read ourselves.
    pub const OWN_READ: Marks = Marks(2048);

    /// What telling the host of a kind of event says of the item, and what its acknowledgement adds.
    pub fn of(kind: EventKind) -> Option<(Marks, Marks)> {
        Some(match kind {
            EventKind::NewMail => (Marks::SEEN_NEW.with(Marks::TOLD_MAIL), Marks::STORED_MAIL),
            EventKind::Created => (Marks::SEEN_NEW.with(Marks::TOLD_CREATED), Marks::STORED_CREATED),
            EventKind::Moved | EventKind::Copied => {
                (Marks::SEEN_NEW.with(Marks::TOLD_HERE), Marks::STORED_HERE)
            }
            EventKind::Deleted => (Marks::SEEN_GONE, Marks::STORED_GONE),
            _ => return None,
        })
    }

    pub fn has(self, other: Marks) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the host needs not be told of it as new of this kind: it was, or knows it as moved here.
    pub fn told_as(self, kind: EventKind) -> bool {
        let any = |marks: Marks| self.0 & marks.0 != 0;
        match kind {
            EventKind::NewMail => any(Marks::TOLD_MAIL.with(Marks::TOLD_HERE)),
            _ => any(Marks::TOLD_MAIL.with(Marks::TOLD_HERE).with(Marks::TOLD_CREATED)),
        }
    }

    pub fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    fn without(self, other: Marks) -> Marks {
        Marks(self.0 & !other.0)
    }

    /// What lies in the store.
    pub fn stored(self) -> Marks {
        let told = [Marks::STORED_MAIL, Marks::STORED_CREATED, Marks::STORED_HERE, Marks::STORED_GONE];
        Marks(self.0 & told.into_iter().fold(Marks::OWN_READ.0, |sum, m| sum | m.0))
    }

    /// What follows from what lay in the store.
    fn restored(self) -> Marks {
        let mut marks = self.stored();
        use EventKind::{Created, Deleted, Moved, NewMail};
        for (told, stored) in [NewMail, Created, Moved, Deleted].into_iter().filter_map(Marks::of) {
            if self.has(stored) {
                marks = marks.with(told);
            }
        }
        marks
    }
}

/// What the stream said of items since the last checkpoint, and for a while before: a server may tell an event after sync has
/// told what it tells.
#[derive(Debug, Default)]
pub(super) struct Told {
    now: HashMap<Digest, Marks>,
    before: HashMap<Digest, Marks>,
    /// What is forgotten next. What came into `before` just now is not among it.
    oldest: HashMap<Digest, Marks>,
}

impl Told {
    pub fn get(&self, item: Digest) -> Marks {
        let marks = |map: &HashMap<Digest, Marks>| map.get(&item).copied().unwrap_or_default();
        marks(&self.now).with(marks(&self.before)).with(marks(&self.oldest))
    }

    /// Since the last checkpoint alone.
    pub fn recent(&self, item: Digest) -> Marks {
        self.now.get(&item).copied().unwrap_or_default()
    }

    pub fn mark(&mut self, item: Digest, marks: Marks) {
        let known = self.now.entry(item).or_default();
        *known = known.with(marks);
    }

    /// The host was not told after all.
    pub fn unmark(&mut self, item: Digest, marks: Marks) {
        for map in [&mut self.now, &mut self.before, &mut self.oldest] {
            if let Some(known) = map.get_mut(&item) {
                *known = known.without(marks);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.now.len()
    }

    /// A checkpoint. With `forget`, what was not new at the last time that was set is let go: those of it that lie in the store.
    pub fn rotate(&mut self, forget: bool) -> Vec<Digest> {
        let mut old = HashMap::new();
        if forget {
            old = std::mem::replace(&mut self.oldest, std::mem::take(&mut self.before));
        }
        for (item, marks) in std::mem::take(&mut self.now) {
            let known = self.before.entry(item).or_default();
            *known = known.with(marks);
        }
        let stored = |marks: Marks| marks.stored() != Marks::default();
        let gone = old.into_iter().filter(|(d, marks)| stored(*marks) && !stored(self.get(*d)));
        gone.map(|(d, _)| d).collect()
    }

    /// Of which items something lies in the store.
    pub fn stored(&self) -> impl Iterator<Item = Digest> {
        let all = self.now.iter().chain(&self.before).chain(&self.oldest);
        all.filter(|(_, marks)| marks.stored() != Marks::default()).map(|(item, _)| *item)
    }

    /// What lay in the store.
    pub fn restore(&mut self, item: Digest, marks: Marks) {
        self.mark(item, marks.restored());
    }
}

/// A folder that is watched and synced.
#[derive(Debug)]
pub(super) struct Folder {
    /// `SyncState` of the last page.
    pub state: Option<String>,
    /// The newest one last.
    newest: VecDeque<Digest>,
    /// How many of them came in the pages of the sync that is under way: a server tells its newest page first.
    fresh: usize,
    /// While the folder is read for the first time, or anew: what is dated from then on is told, older things are not.
    pub baseline: Option<SystemTime>,
    /// When that was done last, as long as no gap has told of it and the stream has not proved that it told of everything.
    pub read: Option<Reading>,
    pub told: Told,
    /// Something was missed: sync tells it, and until then live events of items wait for sync too.
    pub dirty: bool,
    /// Something was missed since the last checkpoint, so what the stream said is not all there was.
    pub broken: bool,
    /// With `since=all`, for a while: the server's time of the page that ended the first reading.
    pub first: Option<SystemTime>,
    /// The server's time of the page that filled the last gap: what had left the folder by then, it did not tell.
    pub filled: Option<SystemTime>,
    /// What sync tells may be old already: it is asked once more.
    pub again: bool,
    /// The server's time of the last checkpoint.
    pub certain: SystemTime,
    /// Where that was an earlier run's: since when its watch may have been without a stream that told of everything.
    streamed: Option<SystemTime>,
    pub in_flight: Option<CallId>,
    /// When sync is due, monotonic; `None` while it is not, or under way.
    pub due: Option<Duration>,
    /// When what was told was forgotten last.
    pub forgot: Duration,
    /// The first event since the last checkpoint.
    pub first_event: Option<Duration>,
    pub backoff: Backoff,
    /// The server does not let us sync.
    pub denied: bool,
    /// What the host was not told, because the stream would tell it.
    pub doubts: BTreeMap<Digest, Doubt>,
    /// New to sync while the stream was unbroken, and not told by it so far.
    pub suspects: Vec<(Digest, Duration)>,
    /// Whether it is one of the watch's. One that an event spoke of before the hierarchy did may not be.
    pub listed: bool,
    /// The server said once that it is not there.
    pub missing: bool,
    /// Whether its stamp is looked at before it is synced.
    pub survey: bool,
    /// What it was stamped with before the sync that `state` is of: while it is stamped so, nothing has happened in it.
    pub stamp: Option<FolderStamp>,
    /// The same for the sync that is under way, or next.
    pub next_stamp: Option<FolderStamp>,
}

/// A folder was read by dates: what is moved into it meanwhile may be dated too old, so the stream alone tells of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Reading {
    /// Up to when the stream had proved itself when it was done, our time.
    #[serde(with = "as_seconds")]
    pub since: SystemTime,
    /// When it was done, our time.
    #[serde(with = "as_seconds")]
    pub until: SystemTime,
}

/// What the store keeps of a folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FolderRecord {
    /// The folder's id.
    pub id: String,
    state: Option<String>,
    newest: Vec<String>,
    #[serde(default)]
    fresh: usize,
    /// Seconds since 1970.
    baseline: Option<u64>,
    certain: u64,
    /// The time up to which the stream was certain to have told of everything: not that of a checkpoint while there was none.
    #[serde(default)]
    streamed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<Reading>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unlisted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<(String, i64)>,
}

impl Folder {
    /// One that was never synced. What is dated from `since` on is told.
    pub fn new(since: SystemTime) -> Folder {
        Folder {
            state: None,
            newest: VecDeque::new(),
            fresh: 0,
            baseline: Some(since),
            read: None,
            told: Told::default(),
            dirty: false,
            broken: false,
            first: None,
            filled: None,
            again: false,
            certain: since,
            streamed: None,
            in_flight: None,
            due: None,
            forgot: Duration::ZERO,
            first_event: None,
            backoff: Backoff::default(),
            denied: false,
            doubts: BTreeMap::new(),
            suspects: Vec::new(),
            listed: true,
            missing: false,
            survey: false,
            stamp: None,
            next_stamp: None,
        }
    }

    /// One that may be the watch's. `certain` is the time up to which nothing in it was missed.
    pub fn heard_of(since: SystemTime, certain: SystemTime) -> Folder {
        let mut folder = Folder::new(since);
        (folder.certain, folder.listed) = (certain, false);
        folder
    }

    pub fn restored(record: &FolderRecord) -> Folder {
        let mut folder = Folder::new(from_seconds(record.certain));
        folder.state.clone_from(&record.state);
        folder.newest = record.newest.iter().filter_map(|hex| Digest::parse(hex)).collect();
        folder.fresh = record.fresh.min(folder.newest.len());
        folder.baseline = record.baseline.map(from_seconds);
        folder.read = record.read;
        folder.streamed = record.streamed.map(from_seconds);
        folder.listed = !record.unlisted;
        let stamp = |(committed, deleted)| FolderStamp { committed: Some(committed), deleted: Some(deleted) };
        folder.stamp = record.stamp.clone().map(stamp);
        folder
    }

    /// `streamed`: up to when it is certain that the stream has told of everything.
    pub fn record(&self, id: &str, streamed: SystemTime) -> FolderRecord {
        FolderRecord {
            id: id.to_owned(),
            state: self.state.clone(),
            newest: self.newest.iter().map(|d| d.hex()).collect(),
            fresh: self.fresh,
            baseline: self.baseline.map(seconds),
            certain: seconds(self.certain),
            streamed: Some(seconds(streamed)),
            // Seconds are rounded down, and it must not be over before it was.
            read: self.read.map(|r| Reading { until: r.until + Duration::from_secs(1), ..r }),
            unlisted: !self.listed,
            stamp: self.stamp.clone().and_then(|s| Some((s.committed?, s.deleted?))),
        }
    }

    /// Up to when it is certain that a run before this one has missed nothing.
    pub fn certain_before(&self) -> SystemTime {
        let others = [self.streamed, self.read.map(|read| read.since)];
        others.into_iter().flatten().fold(self.certain, SystemTime::min)
    }

    /// Whether sync can and will tell what is missed.
    pub fn fills(&self) -> bool {
        !self.denied && self.baseline.is_none()
    }

    /// A page told these as new, oldest first; whether it was the last one.
    pub fn synced_new(&mut self, items: &[Digest], last: bool) {
        let at = self.newest.len() - self.fresh.min(self.newest.len());
        for (i, item) in items.iter().enumerate() {
            self.newest.insert(at + i, *item);
        }
        let more = self.newest.len().saturating_sub(NEWEST);
        self.newest.drain(..more);
        self.fresh = if last { 0 } else { (self.fresh + items.len()).min(self.newest.len()) };
    }

    /// Whether sync has told it as new before, of late.
    pub fn is_newest(&self, item: Digest) -> bool {
        self.newest.contains(&item)
    }

    /// All that was is let go: what is dated from then on is told. The marks that go.
    pub fn begin_at(&mut self, since: SystemTime) -> Vec<Digest> {
        self.state = None;
        self.fresh = 0;
        self.newest.clear();
        self.baseline = Some(since);
        (0..3).flat_map(|_| self.told.rotate(true)).collect()
    }

    /// The server has lost our state, or we have lost its: the folder is read anew.
    pub fn begin_anew(&mut self) {
        self.state = None;
        self.fresh = 0;
        // Whoever is dated in the very second of the last checkpoint may have been told before it.
        let told = Marks::SEEN_NEW.with(Marks::TOLD_MAIL).with(Marks::TOLD_CREATED);
        let newest = std::mem::take(&mut self.newest);
        for item in newest.into_iter().filter(|item| !self.doubts.contains_key(item)) {
            self.told.mark(item, told);
        }
        self.baseline = Some(self.certain);
        self.broken = true;
        self.dirty = false;
    }
}

/// The second that a time lies in: servers date their items by whole seconds.
pub(super) fn whole(time: SystemTime) -> SystemTime {
    from_seconds(seconds(time))
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Times in the store.
mod as_seconds {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(super::seconds(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        u64::deserialize(d).map(super::from_seconds)
    }
}

pub(super) fn from_seconds(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(1 << 40))
}
