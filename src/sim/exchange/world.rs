//! Everything behind the one lock: mailboxes, subscriptions, the clock, the ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use super::super::Style;
use super::autodiscover::Guide;
use super::back_ends::Machine;
use super::budget::Load;
use super::change::Editor;
use super::ids::{self, Guid};
use super::mailbox::Mailbox;
use super::note::{Note, Thing, Watched};
use super::push::{Hooks, PushFault};
use super::settings::{Failure, Fate, Settings, Told};
use super::stream::Open;
use super::subscription::{Mode, Subscription};
use crate::event::EventKind;

#[derive(Debug)]
pub(super) struct World {
    pub(super) style: Style,
    pub(super) settings: Settings,
    /// How far the clock was put forward.
    pub(super) ahead: Duration,
    /// By address in lower case.
    pub(super) mailboxes: BTreeMap<String, Mailbox>,
    by_guid: HashMap<Guid, String>,
    pub(super) subscriptions: HashMap<String, Subscription>,
    by_mailbox: HashMap<String, BTreeSet<String>>,
    /// No subscription dies before this.
    soonest_death: Option<Instant>,
    epoch: u64,
    made: u64,
    /// Where the mailboxes are, and ids of subscriptions that a move has ended.
    pub(super) machines: BTreeMap<String, Machine>,
    pub(super) moved: BTreeSet<String>,
    /// Ids that were given back while they were streamed.
    pub(super) unsubscribed: BTreeSet<String>,
    /// By connection.
    pub(super) streams: BTreeMap<u64, Open>,
    /// The requests under way.
    pub(super) load: Load,
    pub(super) connections: u64,
    pub(super) wakes: u64,
    pub(super) ledger: Vec<Told>,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) failures: Vec<(String, Failure)>,
    pub(super) no_impersonation: HashSet<String>,
    /// Programs that sign in for themselves.
    pub(super) no_mailbox: HashSet<String>,
    /// Items whose senders were told that they were read, or deleted unread.
    pub(super) receipts: Vec<String>,
    /// What Autodiscover says of addresses, where it was told; by address in lower case.
    pub(super) guides: HashMap<String, Guide>,
    /// What it says of other mailboxes.
    pub(super) ews_url: String,
    /// How the push subscriptions stand.
    pub(super) hooks: Hooks,
    pub(super) push_faults: VecDeque<PushFault>,
    pub(super) attempts: u64,
}

impl World {
    pub(super) fn new(style: Style) -> World {
        World {
            style,
            settings: Settings::of(style),
            ahead: Duration::ZERO,
            mailboxes: BTreeMap::new(),
            by_guid: HashMap::new(),
            subscriptions: HashMap::new(),
            by_mailbox: HashMap::new(),
            soonest_death: None,
            epoch: 0,
            machines: BTreeMap::new(),
            moved: BTreeSet::new(),
            unsubscribed: BTreeSet::new(),
            made: 0,
            streams: BTreeMap::new(),
            load: Load::default(),
            connections: 0,
            wakes: 0,
            ledger: Vec::new(),
            counts: BTreeMap::new(),
            failures: Vec::new(),
            no_impersonation: HashSet::new(),
            no_mailbox: HashSet::new(),
            receipts: Vec::new(),
            guides: HashMap::new(),
            ews_url: String::new(),
            hooks: Hooks::new(),
            push_faults: VecDeque::new(),
            attempts: 0,
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    pub(super) fn time(&self) -> SystemTime {
        SystemTime::now() + self.ahead
    }

    pub(super) fn add_mailbox(&mut self, address: &str) {
        let key = address.to_ascii_lowercase();
        if !self.mailboxes.contains_key(&key) {
            let mailbox = Mailbox::new(address, self.time());
            self.by_guid.insert(mailbox.guid, key.clone());
            self.mailboxes.insert(key, mailbox);
        }
    }

    /// The mailbox with that GUID, by its key.
    pub(super) fn key_of(&self, guid: Guid) -> Option<&str> {
        self.by_guid.get(&guid).map(String::as_str)
    }

    /// Changes a mailbox and lets every subscription hear of it.
    pub(super) fn edit<T>(&mut self, key: &str, change: impl FnOnce(&mut Editor<'_>) -> T) -> Option<T> {
        let (style, now) = (self.style, self.time());
        let legacy = self.settings.legacy_ids;
        let mailbox = self.mailboxes.get_mut(key)?;
        let done = change(&mut Editor { mailbox, style, now });
        mailbox.fresh.iter_mut().for_each(|note| note.legacy = legacy);
        let notes = mailbox.take_fresh();
        self.bury();
        let Some(ids) = self.by_mailbox.get(key) else { return Some(done) };
        for id in ids {
            let Some(subscription) = self.subscriptions.get_mut(id) else { continue };
            for note in &notes {
                if !subscription.wants(note) {
                    continue;
                }
                let fate = match subscription.mode {
                    _ if subscription.deaf => Fate::Unheard,
                    Mode::Push => continue,
                    Mode::Pull { .. } if style == Style::Exchange => continue,
                    _ if subscription.missed
                        || (subscription.stream.is_none()
                            && subscription.queue.len() >= self.settings.queue) =>
                    {
                        subscription.missed = true;
                        ring(&mut self.streams, subscription);
                        Fate::Overflowed
                    }
                    _ => {
                        subscription.queue.push_back(note.clone());
                        ring(&mut self.streams, subscription);
                        continue;
                    }
                };
                self.ledger.push(told(style, &self.mailboxes, subscription, note, fate, 0));
            }
        }
        if style == Style::Gromox {
            // A queue that ran over costs the subscription there.
            let over: Vec<String> = self.overflowed(key);
            over.iter().for_each(|id| self.lose(id));
        }
        Some(done)
    }

    pub(super) fn subscribe(
        &mut self,
        owner: &str,
        key: &str,
        watched: Watched,
        kinds: Vec<EventKind>,
        mode: Mode,
    ) -> Option<String> {
        self.made += 1;
        let guid = self.mailboxes.get(key)?.guid;
        let minutes = match mode {
            Mode::Pull { minutes, .. } => minutes,
            _ => (self.settings.idle_life.unwrap_or(Duration::from_secs(300)).as_secs() / 60) as u32,
        };
        let since_1601 = self.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let filetime = (since_1601.as_nanos() / 100) as u64 + 116_444_736_000_000_000;
        let id = ids::subscription_id(self.style, self.epoch, self.made, minutes, guid, filetime);
        let subscription = Subscription {
            id: id.clone(),
            owner: owner.to_owned(),
            server: String::new(),
            mailbox: key.to_owned(),
            watched,
            kinds,
            mode,
            queue: VecDeque::new(),
            missed: false,
            deaf: false,
            stream: None,
            dies: None,
        };
        self.by_mailbox.entry(key.to_owned()).or_default().insert(id.clone());
        self.subscriptions.insert(id.clone(), subscription);
        self.keep_alive(&id);
        Some(id)
    }

    /// How many subscriptions a mailbox has.
    pub(super) fn subscriptions_of(&self, key: &str) -> Vec<String> {
        self.by_mailbox.get(key).map(|ids| ids.iter().cloned().collect()).unwrap_or_default()
    }

    /// Somebody asked for it: its life begins anew.
    pub(super) fn keep_alive(&mut self, id: &str) {
        let now = self.now();
        let idle = self.settings.idle_life;
        if let Some(subscription) = self.subscriptions.get_mut(id) {
            subscription.dies = match subscription.mode {
                Mode::Pull { minutes, .. } => now.checked_add(Duration::from_secs(u64::from(minutes) * 60)),
                Mode::Streaming if subscription.stream.is_none() => {
                    idle.and_then(|life| now.checked_add(life))
                }
                _ => None,
            };
            self.soonest_death = [self.soonest_death, subscription.dies].into_iter().flatten().min();
        }
    }

    /// Ends the subscriptions whose time is over.
    pub(super) fn bury(&mut self) {
        let now = self.now();
        if self.soonest_death.is_none_or(|d| d > now) {
            return;
        }
        let dead: Vec<String> = self
            .subscriptions
            .values()
            .filter(|s| s.dies.is_some_and(|d| d <= now))
            .map(|s| s.id.clone())
            .collect();
        dead.iter().for_each(|id| self.lose(id));
        self.soonest_death = self.subscriptions.values().filter_map(|s| s.dies).min();
    }

    /// Forgets a subscription. What waited for it is lost.
    pub(super) fn lose(&mut self, id: &str) {
        self.unhook(id);
        let Some(mut subscription) = self.subscriptions.remove(id) else { return };
        ring(&mut self.streams, &subscription);
        if let Some(ids) = self.by_mailbox.get_mut(&subscription.mailbox) {
            ids.remove(id);
        }
        for note in std::mem::take(&mut subscription.queue) {
            self.ledger.push(told(self.style, &self.mailboxes, &subscription, &note, Fate::Lost, 0));
        }
    }

    /// The process of the server began anew: no subscription is left, and numbers start from the beginning.
    pub(super) fn restart(&mut self) {
        let all: Vec<String> = self.subscriptions.keys().cloned().collect();
        all.iter().for_each(|id| self.lose(id));
        self.epoch += 1;
        self.made = 0;
        self.streams.clear();
        if !self.settings.states_survive_restart {
            self.mailboxes.values_mut().for_each(Mailbox::forget_states);
        }
    }

    /// Wakes the stream that reads a subscription, since something happened to it.
    pub(super) fn ring_for(&mut self, id: &str) {
        if let Some(subscription) = self.subscriptions.get(id) {
            ring(&mut self.streams, subscription);
        }
    }

    /// Wakes every stream: time was put forward, or what counts for all is another.
    pub(super) fn ring_all(&mut self) {
        self.streams.values_mut().for_each(Open::ring);
    }

    /// Lets an id name a subscription on another mailbox from now on.
    pub(super) fn pass_on(&mut self, id: &str, key: &str) -> bool {
        if !self.mailboxes.contains_key(key) {
            return false;
        }
        let Some(subscription) = self.subscriptions.get_mut(id) else { return false };
        let before = std::mem::replace(&mut subscription.mailbox, key.to_owned());
        let queue = std::mem::take(&mut subscription.queue);
        if let Some(ids) = self.by_mailbox.get_mut(&before) {
            ids.remove(id);
        }
        self.by_mailbox.entry(key.to_owned()).or_default().insert(id.to_owned());
        for note in queue {
            if let Some(subscription) = self.subscriptions.get(id) {
                let mut entry = told(self.style, &self.mailboxes, subscription, &note, Fate::Lost, 0);
                entry.mailbox.clone_from(&before);
                self.ledger.push(entry);
            }
        }
        true
    }

    /// Takes up to a batch of events out of a subscription's queue, for that connection.
    pub(super) fn take(&mut self, id: &str, connection: u64) -> Vec<Note> {
        let batch = self.settings.batch;
        let Some(subscription) = self.subscriptions.get_mut(id) else { return Vec::new() };
        let count = subscription.queue.len().min(batch);
        let notes: Vec<Note> = subscription.queue.drain(..count).collect();
        self.record(id, &notes, connection);
        notes
    }

    /// Writes down what is told.
    pub(super) fn record(&mut self, id: &str, notes: &[Note], connection: u64) {
        self.write_down(id, notes, Fate::Told, connection);
    }

    pub(super) fn write_down(&mut self, id: &str, notes: &[Note], fate: Fate, connection: u64) {
        let Some(subscription) = self.subscriptions.get(id) else { return };
        for note in notes {
            self.ledger.push(told(self.style, &self.mailboxes, subscription, note, fate, connection));
        }
    }

    fn overflowed(&self, key: &str) -> Vec<String> {
        let ids = self.by_mailbox.get(key).into_iter().flatten();
        ids.filter(|id| self.subscriptions.get(*id).is_some_and(|s| s.missed)).cloned().collect()
    }
}

fn ring(streams: &mut BTreeMap<u64, Open>, subscription: &Subscription) {
    if let Some(open) = subscription.stream.and_then(|connection| streams.get_mut(&connection)) {
        open.ring();
    }
}

pub(super) fn told(
    style: Style,
    mailboxes: &BTreeMap<String, Mailbox>,
    subscription: &Subscription,
    note: &Note,
    fate: Fate,
    connection: u64,
) -> Told {
    let guid = mailboxes.get(&subscription.mailbox).map(|m| m.guid).unwrap_or_default();
    let (item_id, folder_id) = match note.thing {
        Thing::Item { folder, item } => (Some(ids::item_id(style, guid, folder, item)), None),
        Thing::Folder(folder) => (None, Some(ids::folder_id(style, guid, folder))),
    };
    Told {
        fate,
        subscription: subscription.id.clone(),
        connection,
        kind: note.kind,
        item_id,
        folder_id,
        seq: note.seq,
        mailbox: subscription.mailbox.clone(),
    }
}
