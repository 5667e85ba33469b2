//! What happened and what the host was told of it.

use super::*;

#[derive(Default)]
pub(super) struct Ledger {
    /// Each mailbox's mails, with when they came, and whether the world did something that may have lost them.
    mails: BTreeMap<usize, Vec<(SystemTime, bool)>>,
    watches: BTreeMap<u64, Told>,
    last_seq: u64,
    pub client_closed: bool,
    pub reasons: BTreeSet<&'static str>,
}

struct Told {
    mailbox: usize,
    /// From when on nothing may be missed.
    promised: Option<SystemTime>,
    mails: BTreeSet<usize>,
    gaps: Vec<(SystemTime, SystemTime)>,
    /// Those among them that speak of our own queues.
    overflows: Vec<(SystemTime, SystemTime)>,
    closed: bool,
}

impl Ledger {
    pub fn open(&mut self, watch: u64, mailbox: usize) {
        let told = Told {
            mailbox,
            promised: None,
            mails: BTreeSet::new(),
            gaps: Vec::new(),
            overflows: Vec::new(),
            closed: false,
        };
        self.watches.insert(watch, told);
        self.mails.entry(mailbox).or_default();
    }

    pub fn mail(&mut self, mailbox: usize, at: SystemTime) -> String {
        let mails = self.mails.entry(mailbox).or_default();
        mails.push((at, false));
        format!("mail-{mailbox}-{}", mails.len() - 1)
    }

    pub fn promise(&mut self, watch: u64, from: SystemTime) {
        if let Some(told) = self.watches.get_mut(&watch) {
            told.promised.get_or_insert(from);
        }
    }

    pub fn promised(&self, watch: u64) -> bool {
        self.watches.get(&watch).is_none_or(|t| t.promised.is_some())
    }

    pub fn excuse(&mut self, item: &str) {
        if let Some((mailbox, n)) = parse(item)
            && let Some(mail) = self.mails.get_mut(&mailbox).and_then(|m| m.get_mut(n))
        {
            mail.1 = true;
        }
    }

    /// An overflow of the engine's or of the host's queue, before other gaps are merged with it.
    pub fn overflow(&mut self, event: &Event) {
        if let (Some(detail), Some(told)) = (&event.detail, self.watches.get_mut(&event.watch))
            && detail.reason == Some(Reason::QueueOverflow)
            && let Some(since) = detail.since
        {
            told.overflows.push((since, event.time));
        }
    }

    pub fn is_of(&self, item: &str, mailbox: usize) -> bool {
        parse(item).is_some_and(|(m, _)| m == mailbox)
    }

    pub fn live(&self) -> usize {
        self.watches.values().filter(|t| !t.closed).count()
    }

    /// The host took an event.
    pub fn told(&mut self, event: Event, live: &BTreeMap<u64, usize>) {
        assert!(event.seq > self.last_seq, "seq rises");
        self.last_seq = event.seq;
        assert!(!self.client_closed, "the client's Closed is the last event: {event:?}");
        if event.watch == 0 {
            assert_eq!(event.kind, EventKind::Closed);
            self.client_closed = true;
            return;
        }
        let told = self.watches.get_mut(&event.watch).expect("a watch that was added");
        assert!(!told.closed, "told after Closed: {event:?}");
        match event.kind {
            EventKind::Closed => told.closed = true,
            EventKind::Gap => {
                let detail = gap_of(&event);
                let span = (detail.since.expect("checked"), event.time);
                told.gaps.push(span);
                self.reasons.insert(match detail.reason.expect("a gap has a reason") {
                    Reason::BadEnvelope => "gap: BadEnvelope",
                    Reason::ConnectionLost => "gap: ConnectionLost",
                    Reason::ForeignEvent => "gap: ForeignEvent",
                    Reason::MissedByServer => "gap: MissedByServer",
                    Reason::QueueOverflow => "gap: QueueOverflow",
                    Reason::Regrouped => "gap: Regrouped",
                    Reason::ServerError => "gap: ServerError",
                    Reason::SubscriptionLost => "gap: SubscriptionLost",
                    Reason::TakenOver => "gap: TakenOver",
                    Reason::Unanswered => "gap: Unanswered",
                    _ => "gap: other",
                });
            }
            kind if kind.is_mailbox() => {
                let item = event.item_id.expect("an item");
                let (mailbox, n) = parse(&item).unwrap_or_else(|| panic!("{item} is a stranger's"));
                assert_eq!(mailbox, told.mailbox, "told to the wrong watch");
                assert!(
                    told.mails.last().is_none_or(|last| *last < n),
                    "{item} is told again or out of order"
                );
                told.mails.insert(n);
            }
            _ => assert!(live.contains_key(&event.watch)),
        }
    }

    /// At rest: everything was told, or a gap says that it may be missing.
    pub fn check(&self, no_faults: bool) {
        for (watch, told) in self.watches.iter().filter(|(_, t)| !t.closed) {
            assert!(
                !no_faults || told.gaps.is_empty(),
                "a gap without a fault: watch {watch} {:?}",
                told.gaps
            );
            let promised = told.promised.unwrap_or_else(|| panic!("watch {watch} never began"));
            for (n, (at, excused)) in self.mails[&told.mailbox].iter().enumerate() {
                if *at < promised || told.mails.contains(&n) {
                    continue;
                }
                let when = at.duration_since(WALL + Duration::from_secs(1_000_000));
                let in_one = |gaps: &[(SystemTime, SystemTime)]| {
                    gaps.iter().any(|(since, until)| since <= at && at <= until)
                };
                let covered = in_one(&told.gaps);
                let story = || {
                    format!(
                        "mail-{}-{n} of {when:?}, watch {watch}, gaps {:?}",
                        told.mailbox,
                        spans(&told.gaps)
                    )
                };
                assert!(covered, "lost without a word: {}", story());
                assert!(
                    *excused || in_one(&told.overflows),
                    "not told, though nothing happened to it: {}",
                    story()
                );
            }
        }
    }
}

fn spans(gaps: &[(SystemTime, SystemTime)]) -> Vec<(f64, f64)> {
    let s = |t: &SystemTime| t.duration_since(WALL).map_or(0.0, |d| d.as_secs_f64() - 1e6);
    gaps.iter().map(|(a, b)| (s(a), s(b))).collect()
}

fn parse(item: &str) -> Option<(usize, usize)> {
    let (mailbox, n) = item.strip_prefix("mail-")?.split_once('-')?;
    Some((mailbox.parse().ok()?, n.parse().ok()?))
}
