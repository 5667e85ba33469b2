//! A mailbox with folders, its server, its host, and their links, all in one hand.

mod random;
mod server;

pub(super) use random::random;
use server::{Place, kind};

use super::*;
use crate::Event;

const TOP: &str = "f-top";

pub(in super::super) struct House {
    engine: Engine,
    now: Now,
    pub shelf: BTreeMap<String, Vec<u8>>,
    folders: BTreeMap<String, Place>,
    /// What became of folders, in order: in which other they are.
    tree: Vec<(String, Option<String>)>,
    age: u32,
    silent: bool,
    pub dated: bool,
    pub refuse: Option<&'static str>,
    /// A folder that cannot be read.
    pub secret: Option<&'static str>,
    /// Changes in a page.
    page: usize,
    up: bool,
    /// The subscription gives nothing any more.
    dead: bool,
    opens: VecDeque<(ConnId, String)>,
    conn: Option<ConnId>,
    subscription: String,
    subscriptions: u32,
    calls: VecDeque<(CallId, Request)>,
    answers: Vec<Input>,
    asked: BTreeMap<&'static str, usize>,
    pub most: usize,
    /// Events that the stream has not told so far.
    pub live_later: Vec<Notice>,
    told: Vec<Event>,
    read: [usize; 4],
    items: u32,
}

impl House {
    pub fn new() -> House {
        let mut h = House {
            engine: Engine::new(Settings { durable: true, syncs: 8, ..settings() }),
            now: Now {
                mono: Duration::from_secs(5),
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000),
            },
            shelf: BTreeMap::new(),
            folders: BTreeMap::new(),
            tree: Vec::new(),
            age: 0,
            silent: false,
            dated: true,
            refuse: None,
            secret: None,
            page: 512,
            up: true,
            dead: false,
            opens: VecDeque::new(),
            conn: None,
            subscription: String::new(),
            subscriptions: 0,
            calls: VecDeque::new(),
            answers: Vec::new(),
            asked: BTreeMap::new(),
            most: 0,
            live_later: Vec::new(),
            told: Vec::new(),
            read: [0; 4],
            items: 0,
        };
        h.folders.insert(TOP.into(), Place::default());
        h.make(INBOX, Some(TOP));
        h.make("f-deep", Some(INBOX));
        h
    }

    /// Begins to watch, with what is on the shelf, and lets all happen that is due.
    pub fn start(&mut self) {
        let first = self.shelf.get(NUMBERS).map_or(0, |n| String::from_utf8_lossy(n).parse().unwrap());
        self.engine.start_numbers(first);
        let mut spec = spec(1);
        spec.folders.clear();
        spec.catch_up = true;
        let prefix = format!("{}/", spec.name);
        let pairs = self.shelf.iter();
        let pairs = pairs.filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())));
        spec.stored = pairs.collect();
        self.feed(Input::Add(Box::new(spec)));
        self.mend();
    }

    /// Killed, and started anew.
    pub fn restart(&mut self) {
        self.wait(1);
        self.kill();
        self.start();
    }

    fn kill(&mut self) {
        self.engine = Engine::new(Settings { durable: true, syncs: 8, ..settings() });
        self.conn = None;
        self.subscription.clear();
        (self.dead, self.read) = (false, [0; 4]);
        self.calls.clear();
        self.opens.clear();
        self.answers.clear();
        self.live_later.clear();
        self.told.clear();
    }

    pub fn mono(&self) -> u64 {
        self.now.mono.as_secs()
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.engine.handle(self.now, input);
            loop {
                while let Some(command) = self.engine.poll() {
                    match command {
                        Command::Save { save, changes } => {
                            for (key, value) in changes {
                                match value {
                                    Some(value) => self.shelf.insert(key, value),
                                    None => self.shelf.remove(&key),
                                };
                            }
                            inputs.push_back(Input::Saved { save, result: Ok(()) });
                        }
                        Command::Open { conn, request, .. } => match request {
                            Request::GetStreamingEvents { subscription_ids, .. } => {
                                self.opens.push_back((conn, subscription_ids[0].clone()));
                            }
                            other => panic!("{other:?}"),
                        },
                        Command::Abort(conn) => {
                            self.conn = self.conn.filter(|c| *c != conn);
                            self.opens.retain(|(c, _)| *c != conn);
                            inputs.push_back(Input::Ended { conn, result: Err(error(ErrorKind::Closed)) });
                        }
                        Command::Call { call, request, .. } => self.calls.push_back((call, request)),
                        _ => {}
                    }
                }
                let sync = |r: &&(CallId, Request)| kind(&r.1) != "other";
                self.most = self.most.max(self.calls.iter().filter(sync).count());
                let Some(event) = self.engine.take(self.now) else { break };
                self.told.push(event);
            }
        }
    }

    /// Lets all happen that is due.
    pub fn mend(&mut self) {
        self.up = true;
        self.wait(3);
    }

    /// The stream breaks, and what it had not told is lost.
    pub fn cut(&mut self) {
        self.up = false;
        self.live_later.clear();
        if let Some(conn) = self.conn.take() {
            self.feed(Input::Ended { conn, result: Err(error(ErrorKind::Io)) });
        }
    }

    /// Lets time pass without anything else.
    pub fn pass(&mut self, seconds: u64) {
        self.now.wall += Duration::from_secs(seconds);
        self.now.mono += Duration::from_secs(seconds);
    }

    /// Lets time pass, with all that follows.
    pub fn wait(&mut self, seconds: u64) {
        let end = self.now.mono + Duration::from_secs(seconds);
        loop {
            while self.step(0, usize::MAX) {}
            let Some(at) = self.engine.wake_at().filter(|at| *at <= end) else { break };
            self.set(at.max(self.now.mono));
            self.feed(Input::Tick);
        }
        self.set(end);
    }

    /// The same, while the stream shows that it lives.
    pub fn beat_for(&mut self, seconds: u64) {
        for _ in 0..seconds / 30 {
            self.wait(30);
            if let Some(conn) = self.conn {
                self.feed(Input::Message { conn, responses: vec![ok()] });
            }
        }
        self.wait(1);
    }

    fn set(&mut self, mono: Duration) {
        self.now.wall += mono - self.now.mono;
        self.now.mono = mono;
    }

    /// One thing that is due happens: an answer of the server's, or its being asked.
    fn step(&mut self, which: usize, late: usize) -> bool {
        if !self.up {
            return false;
        }
        if let Some((conn, subscription)) = self.opens.pop_front() {
            if subscription == self.subscription {
                self.conn = Some(conn);
                self.feed(Input::Opened(conn));
                self.feed(Input::Message { conn, responses: vec![ok()] });
            } else {
                self.feed(Input::Opened(conn));
                let bad = bad_ids("ErrorSubscriptionNotFound", &[&subscription]);
                self.feed(Input::Message { conn, responses: vec![bad] });
            }
            return true;
        }
        if !self.answers.is_empty() && (self.answers.len() > late || late == usize::MAX) {
            let answer = self.answers.remove(which % self.answers.len());
            self.feed(answer);
            return true;
        }
        if self.calls.is_empty() {
            return false;
        }
        let (call, request) = self.calls.remove(which % self.calls.len()).expect("there is one");
        let result = self.serve(request);
        match late {
            usize::MAX => self.feed(Input::Called { call, result }),
            _ => self.answers.push(Input::Called { call, result }),
        }
        true
    }

    /// Lets all happen that takes no time.
    pub fn settle(&mut self) {
        self.up = true;
        while self.step(0, usize::MAX) || self.engine.wake_at().is_some_and(|at| at <= self.now.mono) {
            self.feed(Input::Tick);
        }
    }

    /// Lets all happen up to the answer to such a question, which is on its way.
    pub fn hold_answer_to(&mut self, kind: &'static str) {
        self.up = true;
        loop {
            let at = self.calls.iter().position(|(_, r)| self::kind(r) == kind);
            let Some((call, request)) = at.and_then(|at| self.calls.remove(at)) else {
                assert!(self.step(0, usize::MAX), "it is not asked");
                continue;
            };
            let result = self.serve(request);
            return self.answers.push(Input::Called { call, result });
        }
    }

    /// Answers all that is asked, but what is on its way.
    pub fn serve_calls(&mut self) {
        while let Some((call, request)) = self.calls.pop_front() {
            let result = self.serve(request);
            self.feed(Input::Called { call, result });
        }
    }

    /// No answer comes to what is asked.
    pub fn lose_calls(&mut self) {
        for (call, _) in std::mem::take(&mut self.calls) {
            self.feed(Input::Called { call, result: Err(error(ErrorKind::Io)) });
        }
    }

    /// Lets all happen up to the answer to such a question.
    pub fn serve_until(&mut self, kind: &'static str) {
        self.up = true;
        let before = self.asked(kind);
        while self.asked(kind) == before {
            assert!(self.step(0, usize::MAX), "it is not asked");
        }
        self.up = false;
    }

    pub fn asked(&self, kind: &str) -> usize {
        self.asked.get(kind).copied().unwrap_or_default()
    }

    fn since(&mut self, reader: usize) -> Vec<&Event> {
        let from = std::mem::replace(&mut self.read[reader], self.told.len());
        self.told[from..].iter().collect()
    }

    /// What was told since the last look at it, but for mailbox events.
    pub fn story(&mut self) -> Vec<String> {
        self.read = [self.told.len(), self.told.len(), self.told.len(), self.read[3]];
        let all = self.since(3).into_iter().filter(|e| !e.kind.is_mailbox());
        all.map(|e| e.kind.name().to_owned()).collect()
    }

    /// New mail, the same.
    pub fn mails(&mut self) -> Vec<String> {
        let mails = self.since(0).into_iter().filter(|e| e.kind == EventKind::NewMail);
        mails.filter_map(|e| e.item_id.clone()).collect()
    }

    /// Events of folders, the same.
    pub fn folder_events(&mut self) -> Vec<String> {
        let of = |e: &Event| Some(format!("{} {}", e.kind.name(), e.folder_id.as_ref()?));
        self.since(1).into_iter().filter_map(of).collect()
    }

    pub fn fills(&mut self) -> Vec<Fill> {
        self.since(2).into_iter().filter_map(|e| e.detail.as_ref()?.fill).collect()
    }

    pub fn last(&self) -> String {
        let last = self.told.iter().rfind(|e| !e.kind.is_mailbox());
        last.map(|e| e.kind.name().to_owned()).unwrap_or_default()
    }
}
