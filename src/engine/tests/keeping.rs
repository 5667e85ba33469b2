//! Acknowledgements, and what a restart finds in the store.

use super::*;
use crate::engine::Nack;
use crate::proto::{SyncChange, SyncPage};

/// A store that the test looks into, and how many bytes it was given.
#[derive(Default)]
pub(super) struct Shelf(pub BTreeMap<String, Vec<u8>>, pub usize);

impl Shelf {
    pub fn commit(&mut self, changes: Vec<(String, Option<Vec<u8>>)>) {
        for (key, value) in changes {
            self.1 += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    pub fn of(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let prefix = format!("{name}/");
        let pairs = self.0.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())));
        pairs.collect()
    }
}

/// A host with an engine, a store and a mailbox whose changes sync tells.
struct Run {
    engine: Engine,
    now: Now,
    shelf: Shelf,
    /// Ids in the folder, oldest first; the state of sync is how many of them were told.
    mailbox: Vec<String>,
    conn: ConnId,
    /// The store takes nothing.
    full: bool,
    /// On the server, of this run and of killed ones; how many it allows; the last one's number.
    subscribed: Vec<String>,
    most: usize,
    last: u32,
    /// What had to be durable before the last event was seen.
    waited: Option<SaveId>,
}

impl Run {
    fn start(shelf: Shelf, mailbox: Vec<String>, change: impl FnOnce(&mut WatchSpec)) -> Run {
        Run::start_at(shelf, mailbox, Vec::new(), 0, change)
    }

    fn start_at(
        shelf: Shelf,
        mailbox: Vec<String>,
        subscribed: Vec<String>,
        last: u32,
        change: impl FnOnce(&mut WatchSpec),
    ) -> Run {
        let mut engine = Engine::new(Settings { durable: true, ..settings() });
        let first = shelf.0.get(NUMBERS).map_or(0, |n| String::from_utf8_lossy(n).parse().unwrap());
        assert!(engine.start_numbers(first).is_some(), "taken before anything is told");
        let now =
            Now { mono: Duration::from_secs(5), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) };
        let mut run = Run {
            engine,
            now,
            shelf,
            mailbox,
            conn: 0,
            full: false,
            subscribed,
            most: 2,
            last,
            waited: None,
        };
        let mut spec = spec(1);
        spec.catch_up = true;
        spec.stored = run.shelf.of(&spec.name);
        change(&mut spec);
        run.feed(Input::Add(spec));
        run
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        loop {
            while let Some(command) = self.engine.poll() {
                inputs.extend(self.execute(command));
            }
            let Some(input) = inputs.pop_front() else { return };
            self.engine.handle(self.now, input);
        }
    }

    fn execute(&mut self, command: Command) -> Vec<Input> {
        match command {
            Command::Save { save, .. } if self.full => {
                vec![Input::Saved { save, result: Err(error(ErrorKind::State)) }]
            }
            Command::Save { save, changes } => {
                self.shelf.commit(changes);
                vec![Input::Saved { save, result: Ok(()) }]
            }
            Command::Open { conn, .. } => {
                self.conn = conn;
                vec![Input::Opened(conn), Input::Message { conn, responses: vec![ok()] }]
            }
            Command::Call { call, request, .. } => {
                let answer = match request {
                    Request::GetFolder { .. } => Answer::Folders(vec![Ok(FOLDER.into())]),
                    Request::SubscribeStreaming { .. } if self.subscribed.len() == self.most => {
                        let result = Err(coded("ErrorExceededSubscriptionCount"));
                        return vec![Input::Called { call, result }];
                    }
                    Request::SubscribeStreaming { .. } => {
                        self.last += 1;
                        self.subscribed.push(format!("s{}", self.last));
                        Answer::Subscribed { id: format!("s{}", self.last), watermark: None, date: None }
                    }
                    Request::SyncFolderItems { sync_state, .. } => {
                        let known: usize = sync_state.map_or(0, |s| s.parse().unwrap());
                        let create = |id: &String| {
                            let id = Id { id: id.clone(), change_key: None };
                            // Older than every start.
                            let created = Some("1999-01-01T00:00:00Z".into());
                            SyncChange::Create(Item { id, created, ..Item::default() })
                        };
                        let changes = self.mailbox[known..].iter().rev().map(create).collect();
                        let sync_state = Some(self.mailbox.len().to_string());
                        Answer::Synced {
                            page: SyncPage { sync_state, includes_last: true, changes },
                            date: None,
                        }
                    }
                    Request::Unsubscribe { subscription_id } => {
                        self.subscribed.retain(|s| *s != subscription_id);
                        Answer::Unsubscribed
                    }
                    other => panic!("{other:?}"),
                };
                vec![Input::Called { call, result: Ok(answer) }]
            }
            _ => Vec::new(),
        }
    }

    fn mail(&mut self, id: &str) {
        self.mailbox.push(id.to_owned());
        let subscription = self.engine.watches[&1].subscription.as_ref().unwrap().id.clone();
        self.feed(Input::Message { conn: self.conn, responses: vec![mail(&subscription, &[id])] });
    }

    /// The next mailbox event, as `Kind id attempt`, and its number.
    fn next(&mut self) -> Option<(String, u64)> {
        loop {
            let event = self.engine.take(self.now)?;
            self.waited = self.engine.awaited();
            self.feed(Input::Tick);
            if let Some(id) = &event.item_id {
                let attempt = event.attempt.map_or(String::new(), |n| format!(" {n}"));
                return Some((format!("{} {id}{attempt}", event.kind.name()), event.seq));
            }
        }
    }

    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).map(|(text, _)| text).collect()
    }

    fn ack(&mut self, seq: u64) {
        self.engine.ack(self.now, seq).unwrap();
        self.feed(Input::Tick);
    }

    fn nack(&mut self, seq: u64, nack: Nack) {
        self.engine.nack(self.now, seq, nack).unwrap();
        self.feed(Input::Tick);
    }

    fn wait(&mut self, seconds: u64) {
        let end = self.now.mono + Duration::from_secs(seconds);
        while let Some(at) = self.engine.wake_at().filter(|at| *at <= end) {
            self.now.mono = self.now.mono.max(at);
            self.feed(Input::Tick);
        }
        self.now.mono = end;
    }

    /// Killed, and started anew.
    fn restart(self, change: impl FnOnce(&mut WatchSpec)) -> Run {
        Run::start_at(self.shelf, self.mailbox, self.subscribed, self.last, change)
    }
}

fn manual(spec: &mut WatchSpec) {
    spec.ack = Ack::Manual;
    spec.events = vec![EventKind::NewMail];
}

// Mail that came while the program was not running would never be told; mail that was dealt with would be dealt with twice.
#[test]
fn a_restart_tells_what_was_not_acknowledged_and_nothing_else() {
    let mut run = Run::start(Shelf::default(), vec!["old".into()], manual);
    assert_eq!(run.told(), [""; 0]);
    run.mail("a");
    run.mail("b");
    let (text, seq) = run.next().unwrap();
    assert_eq!(text, "NewMail a");
    run.ack(seq);
    assert_eq!(run.next().unwrap().0, "NewMail b");
    run.mailbox.push("while away".into());
    let mut run = run.restart(manual);
    assert_eq!(run.told(), ["NewMail b 2", "NewMail while away"]);
    // Also behind a checkpoint, which knows them all.
    run.wait(4000);
    let mut run = run.restart(manual);
    let mut told = Vec::new();
    while let Some((text, seq)) = run.next() {
        assert!(seq > 10_000, "above every earlier run's: {seq}");
        told.push(text);
        run.ack(seq);
    }
    assert_eq!(told, ["NewMail b 3", "NewMail while away 2"]);
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
    run.wait(10_000);
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
    // Nothing is left but the folder, the subscription and the numbers.
    run.wait(10_000);
    let keys: Vec<&String> = run.shelf.0.keys().filter(|k| k.contains("/d/") || k.contains("/p/")).collect();
    assert!(keys.is_empty(), "{keys:?}");
}

// A host that asks for the next event has dealt with the last: it need not say so.
#[test]
fn asking_for_more_acknowledges_and_close_does_too() {
    let auto = |spec: &mut WatchSpec| spec.events = vec![EventKind::NewMail];
    let mut run = Run::start(Shelf::default(), Vec::new(), auto);
    for id in ["a", "b", "c"] {
        run.mail(id);
    }
    assert_eq!(run.next().unwrap().0, "NewMail a");
    assert_eq!(run.next().unwrap().0, "NewMail b");
    run.wait(1);
    // Killed while it deals with b.
    let mut run = run.restart(auto);
    assert_eq!(run.next().unwrap().0, "NewMail b");
    run.feed(Input::Close);
    let mut run = run.restart(auto);
    assert_eq!(run.told(), ["NewMail c"]);
}

// One bad mail would stop a help desk, or be lost.
#[test]
fn an_event_is_given_again_or_parked() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    run.mail("bad");
    run.mail("good");
    let (_, bad) = run.next().unwrap();
    run.nack(bad, Nack::Retry(Duration::from_secs(60)));
    let (text, good) = run.next().unwrap();
    assert_eq!(text, "NewMail good", "others do not wait");
    run.ack(good);
    assert_eq!(run.told(), [""; 0]);
    run.wait(60);
    let (text, bad) = run.next().unwrap();
    assert_eq!(text, "NewMail bad 2");
    run.nack(bad, Nack::Park);
    run.wait(100_000);
    assert_eq!(run.told(), [""; 0]);
    // It is parked in the next run too, attempts and all.
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
    let parked = run.engine.parked();
    assert_eq!((parked.len(), parked[0].attempts), (1, 2));
    run.engine.release(run.now, parked[0].id).unwrap();
    let (text, bad) = run.next().unwrap();
    assert_eq!(text, "NewMail bad 3");
    run.ack(bad);
    assert!(run.engine.ack(run.now, bad).is_err(), "twice");
    let mut run = run.restart(manual);
    assert_eq!(run.told(), [""; 0]);
}

// A mail that crashes the host would crash it for ever: nobody would see that it is always the same one.
#[test]
fn an_attempt_counts_from_the_hand_out_on() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    run.mail("deadly");
    run.mail("behind it");
    for attempt in ["", " 2", " 3"] {
        assert_eq!(run.next().unwrap().0, format!("NewMail deadly{attempt}"));
        assert!(run.waited.is_some(), "it is durable before the host sees it");
        run = run.restart(manual);
    }
    // What was not the mail's fault counts none.
    let (text, deadly) = run.next().unwrap();
    assert_eq!(text, "NewMail deadly 4");
    run.nack(deadly, Nack::Later(Duration::ZERO));
    let mut run = run.restart(manual);
    let (text, deadly) = run.next().unwrap();
    assert_eq!(text, "NewMail deadly 4");
    run.nack(deadly, Nack::Park);
    assert_eq!(run.engine.parked()[0].attempts, 4);
    let mut run = run.restart(manual);
    assert_eq!(run.engine.parked()[0].attempts, 4);
    // It was not given before, and sync does not tell any of them a second time.
    let (text, seq) = run.next().unwrap();
    assert_eq!(text, "NewMail behind it");
    run.ack(seq);
    run.wait(4000);
    assert_eq!(run.told(), [""; 0]);
}

// With a large backlog each acknowledgement would write more than the last, until the disk does nothing else.
#[test]
fn what_a_hand_out_and_an_acknowledgement_write_does_not_grow_with_the_backlog() {
    let written = |backlog: usize| {
        let mut run = Run::start(Shelf::default(), Vec::new(), manual);
        (0..backlog).for_each(|n| run.mail(&format!("m{n:05}")));
        run.shelf.1 = 0;
        for _ in 0..10 {
            let (_, seq) = run.next().unwrap();
            run.ack(seq);
        }
        run.shelf.1
    };
    let few = written(10);
    assert!(few > 0);
    assert_eq!(written(2000), few);
}

// A host that never acknowledges would be given everything there is, and hold up the others.
#[test]
fn who_does_not_acknowledge_is_given_no_more() {
    let mut run = Run::start(Shelf::default(), Vec::new(), |spec| {
        manual(spec);
        spec.max_unacked = 2;
    });
    for n in 0..5 {
        run.mail(&format!("m{n}"));
    }
    let (_, first) = run.next().unwrap();
    assert_eq!(run.told().len(), 1);
    assert!(!run.engine.has_event());
    run.ack(first);
    assert!(run.engine.has_event());
    assert_eq!(run.told(), ["NewMail m2"]);
}

// A program that is killed again and again would use up the server's subscriptions, and not be let in any more.
#[test]
fn subscriptions_of_killed_runs_are_given_up_when_the_server_is_full() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    for _ in 0..10 {
        run = run.restart(manual);
        run.wait(10);
        assert!(run.engine.watches[&1].subscription.is_some());
    }
    run.feed(Input::Close);
    assert!(run.shelf.0.keys().all(|key| !key.ends_with("/s")), "closed in order, nothing is left");
}

// A full disk would lose what was acknowledged meanwhile, or what was not.
#[test]
fn what_could_not_be_written_is_written_later() {
    let mut run = Run::start(Shelf::default(), Vec::new(), manual);
    run.mail("a");
    run.mail("b");
    run.full = true;
    let (_, a) = run.next().unwrap();
    run.ack(a);
    run.wait(1000);
    assert!(!run.engine.is_saved());
    run.full = false;
    run.wait(100);
    assert!(run.engine.is_saved());
    let mut run = run.restart(manual);
    assert_eq!(run.told(), ["NewMail b"]);
}
