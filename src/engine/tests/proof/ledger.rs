//! What came and what the host was told of it, over all runs of the host.

use super::*;

#[derive(Default)]
pub(super) struct Ledger {
    mailboxes: Vec<Book>,
    /// Which line each item id stands for.
    lines: BTreeMap<String, usize>,
    last_seq: u64,
    pub reasons: BTreeSet<String>,
    pub events: u64,
    pub again: u64,
}

#[derive(Default)]
struct Book {
    /// Everything that came: when it came into a watched folder, each time.
    lines: BTreeMap<usize, Vec<SystemTime>>,
    /// When they were moved into a watched folder, and when the server told of them.
    moves: BTreeMap<usize, Vec<SystemTime>>,
    /// What a subscription was to tell that was dead without a word. Where it has gone since, nobody can know of it.
    unheard: BTreeSet<usize>,
    /// When each left the watched folders last.
    went: BTreeMap<usize, SystemTime>,
    /// Those that lay there before.
    old: BTreeSet<usize>,
    mails: BTreeSet<usize>,
    /// Since when it is promised that nothing is lost.
    since: Option<SystemTime>,
    told: BTreeSet<(usize, Told)>,
    /// Of this run of the host: items told as new, and whether they may be told again.
    run: BTreeMap<(String, EventKind), bool>,
    durable: BTreeSet<(String, EventKind)>,
    /// Acknowledged, and in the store when this batch is.
    waits: Vec<(SaveId, String, EventKind)>,
    gaps: Vec<(SystemTime, SystemTime, Fill, Reason)>,
    drained: bool,
    drained_at: Vec<SystemTime>,
}

/// When what lay there before everything came, where the host wants to know of it.
pub(super) const ALWAYS: SystemTime = SystemTime::UNIX_EPOCH;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Mail,
    New,
}

impl Ledger {
    pub fn mailbox(&mut self) {
        self.mailboxes.push(Book::default());
    }

    pub fn is(&mut self, item: &str, line: usize) {
        self.lines.insert(item.to_owned(), line);
    }

    /// It lay there before everything, and the host does not want to know.
    pub fn old(&mut self, mailbox: usize, line: usize) {
        self.mailboxes[mailbox].old.insert(line);
    }

    pub fn touched(&mut self, mailbox: usize, line: usize) {
        self.mailboxes[mailbox].old.remove(&line);
    }

    /// Something came into a watched folder, and the host wants to know.
    pub fn came(&mut self, mailbox: usize, line: usize, at: SystemTime, mail: bool) {
        let book = &mut self.mailboxes[mailbox];
        book.old.remove(&line);
        book.lines.entry(line).or_default().push(at);
        if mail {
            book.mails.insert(line);
        }
    }

    /// It was moved into a watched folder, whether the host wants to know of that or not. Where it was told of it neither before nor
    /// on the stream, sync can do so only if it is new to it: a folder whose state was lost is read by dates, and moves leave
    /// them as they are. That gap says so.
    pub fn moved(&mut self, mailbox: usize, line: usize, at: SystemTime) {
        self.mailboxes[mailbox].moves.entry(line).or_default().push(at);
    }

    /// The server does not tell of it, and nobody knows.
    pub fn unheard(&mut self, mailbox: usize, item: &str) {
        if let Some(line) = self.lines.get(item) {
            self.mailboxes[mailbox].unheard.insert(*line);
        }
    }

    /// It was deleted, or moved out of sight.
    pub fn went(&mut self, mailbox: usize, line: usize, at: SystemTime) {
        self.mailboxes[mailbox].went.insert(line, at);
    }

    /// The server tells of it, which can be a little later: a gap is about what it told, or would have told.
    pub fn tells(&mut self, mailbox: usize, item: &str, at: SystemTime) {
        if let Some(line) = self.lines.get(item) {
            self.mailboxes[mailbox].moves.entry(*line).or_default().push(at);
        }
    }

    pub fn promise(&mut self, mailbox: usize, at: SystemTime) {
        self.mailboxes[mailbox].since.get_or_insert(at);
    }

    /// The host is no more.
    pub fn killed(&mut self) {
        for book in &mut self.mailboxes {
            book.run.clear();
            book.waits.clear();
            book.drained = false;
        }
    }

    pub fn taken(&mut self, mailbox: usize, event: &Event) {
        self.events += 1;
        assert!(event.seq > self.last_seq, "seq rises over restarts: {} {}", event.seq, self.last_seq);
        self.last_seq = event.seq;
        let book = &mut self.mailboxes[mailbox];
        match event.kind {
            EventKind::Gap => {
                let detail = event.detail.as_ref().expect("a gap has a detail");
                let (since, reason) = (detail.since.expect("since"), detail.reason.expect("a reason"));
                let fill = detail.fill.expect("a gap says what will become of it");
                self.reasons.insert(format!("gap: {reason:?} {fill:?}"));
                book.gaps.push((since, event.time, fill, reason));
                book.drained &= fill == Fill::None;
            }
            EventKind::Drained => {
                book.drained = true;
                book.drained_at.push(event.time);
            }
            EventKind::NewMail | EventKind::Created => {
                let item = event.item_id.clone().expect("an item");
                let line = *self.lines.get(&item).expect("an item that is there");
                let key = (item, event.kind);
                assert!(!book.durable.contains(&key), "told again after its ack was durable: {key:?}");
                if let Some(again) = book.run.insert(key.clone(), false) {
                    assert!(again, "told twice as new in one run: {key:?}");
                    self.again += 1;
                }
                assert!(!book.old.contains(&line), "told as new, and lay there before: {key:?}");
            }
            EventKind::Closed => panic!("a watch has ended: {event:?}"),
            _ => {}
        }
    }

    /// The host gives it back.
    pub fn nacked(&mut self, mailbox: usize, event: &Event) {
        if let Some(item) = &event.item_id {
            self.mailboxes[mailbox].run.insert((item.clone(), event.kind), true);
        }
    }

    /// The host is done with it; durable with that batch.
    pub fn acked(&mut self, mailbox: usize, event: &Event, save: SaveId) {
        use EventKind::{Copied, Created, Moved, NewMail};
        let book = &mut self.mailboxes[mailbox];
        let Some(item) = &event.item_id else { return };
        let Some(line) = self.lines.get(item) else { return };
        let here = event.parent_folder_id.as_deref().is_some_and(is_watched);
        if here && matches!(event.kind, NewMail | Created | Copied | Moved) {
            book.told.insert((*line, Told::New));
            if event.kind != Created {
                book.told.insert((*line, Told::Mail));
            }
        }
        if matches!(event.kind, NewMail | Created) {
            book.waits.push((save, item.clone(), event.kind));
        }
    }

    pub fn saved(&mut self, save: SaveId) {
        for book in &mut self.mailboxes {
            let (done, waits) = std::mem::take(&mut book.waits).into_iter().partition(|(s, ..)| *s <= save);
            book.waits = waits;
            let done: Vec<(SaveId, String, EventKind)> = done;
            book.durable.extend(done.into_iter().map(|(_, item, kind)| (item, kind)));
        }
    }

    /// At rest. `there`: the lines that lie in watched folders. What was not told is in a gap that says that nothing fills it, or it
    /// came in a gap and went before that was filled.
    pub fn check(&self, mailbox: usize, there: &BTreeSet<usize>, faults: bool, denied: bool) {
        let book = &self.mailboxes[mailbox];
        let since = book.since.expect("the watch has begun");
        assert!(faults || book.gaps.is_empty(), "a gap without a fault: {:?}", book.gaps);
        assert!(book.drained || denied, "the last gap is filled, and nobody says so");
        for (line, times) in &book.lines {
            let told = |told| book.told.contains(&(*line, told));
            let good = told(Told::New) && (!book.mails.contains(line) || told(Told::Mail));
            if good || times.iter().all(|t| *t < since && *t != ALWAYS) {
                continue;
            }
            let went = book.went.get(line).filter(|_| !there.contains(line));
            // What lay there before is told by the first reading, if it is still there.
            let unread =
                |went: &SystemTime| *went < since || book.drained_at.first().is_none_or(|read| went <= read);
            // And what was gone before the promise began, wherever it had been, is none of it.
            let before = times.iter().all(|t| *t == ALWAYS) && went.is_some_and(unread);
            if before || went.is_some_and(|went| *went < since) {
                continue;
            }
            let excused = times.iter().chain(book.moves.get(line).into_iter().flatten()).any(|t| {
                book.gaps.iter().any(|(a, b, fill, _)| {
                    let slack = Duration::from_secs(1);
                    // Until a gap is filled, live events wait for sync too.
                    let filled = book.drained_at.iter().find(|at| *at >= b);
                    let before = |t: SystemTime| filled.is_none_or(|filled| t <= *filled);
                    let gone = went.is_some_and(|went| before(*went) && before(*t));
                    *a <= *t + slack && (gone || (*fill != Fill::Pending && *t <= *b + slack))
                })
            });
            assert!(
                excused || (went.is_some() && book.unheard.contains(line)),
                "mailbox {mailbox}: line {line}, called {:?}, was lost without a word; it went at {:?}, it came at {:?}, promised since {:?}, new {} mail {}; gaps {:?}",
                self.lines.iter().filter(|(_, l)| *l == line).map(|(item, _)| item).collect::<Vec<_>>(),
                went.map(seconds),
                times.iter().map(seconds).collect::<Vec<_>>(),
                seconds(&since),
                told(Told::New),
                told(Told::Mail),
                book.gaps.iter().map(|(a, b, f, r)| (seconds(a), seconds(b), f, r)).collect::<Vec<_>>()
            );
        }
    }

    /// How many came, and how many of them were not told because a gap said so.
    pub fn figures(&self) -> (usize, usize) {
        let all = self.mailboxes.iter().map(|b| b.lines.len()).sum();
        let told = |b: &Book| b.lines.keys().filter(|l| b.told.contains(&(**l, Told::New))).count();
        (all, all - self.mailboxes.iter().map(told).sum::<usize>())
    }
}

fn seconds(t: &SystemTime) -> f64 {
    t.duration_since(WALL).map_or(-1.0, |d| d.as_secs_f64())
}
