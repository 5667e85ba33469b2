//! A mailbox with folders, its server, its host, and their links, all in one hand.

use super::*;
use crate::Event;
use crate::proto::{self, FolderChange, FolderStamp, HierarchyPage, SyncChange, SyncPage};

const TOP: &str = "f-top";
const OLD: &str = "1970-01-01T00:00:00Z";

/// A folder: what came and went, in order.
#[derive(Default)]
struct Place {
    /// `None` where the hierarchy does not tell of it.
    parent: Option<String>,
    search: bool,
    log: Vec<(String, bool, String)>,
    committed: u64,
    deleted: i64,
}

impl Place {
    fn items(&self, upto: usize) -> BTreeMap<&str, &str> {
        let mut items = BTreeMap::new();
        for (id, here, date) in &self.log[..upto] {
            match here {
                true => items.insert(id.as_str(), date.as_str()),
                false => items.remove(id.as_str()),
            };
        }
        items
    }
}

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

    fn serve(&mut self, request: Request) -> Result<Answer, Error> {
        *self.asked.entry(kind(&request)).or_default() += 1;
        let date = self.dated.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds()));
        match request {
            Request::SubscribeStreaming { scope, .. } => {
                assert_eq!(scope, Scope::AllFolders);
                self.subscriptions += 1;
                self.subscription = format!("s{}", self.subscriptions);
                self.dead = false;
                self.live_later.clear();
                Ok(Answer::Subscribed { id: self.subscription.clone(), watermark: None, date })
            }
            Request::Unsubscribe { .. } => Ok(Answer::Unsubscribed),
            Request::SyncFolderHierarchy { root, sync_state } => {
                let top = FolderRef::Distinguished { name: "msgfolderroot".into(), mailbox: None };
                assert_eq!(root, top);
                match self.refuse {
                    Some(code) => Err(coded(code)),
                    None => Ok(Answer::Hierarchy { page: self.hierarchy(sync_state)?, date }),
                }
            }
            Request::GetFolderStamps { folders } => {
                let stamp = |folder: &FolderRef| match folder {
                    FolderRef::Id(id) => match self.folders.get(id) {
                        Some(place) => Ok(FolderStamp {
                            committed: Some(at(place.committed)),
                            deleted: Some(place.deleted),
                        }),
                        None => Err(coded("ErrorFolderNotFound")),
                    },
                    other => panic!("{other:?}"),
                };
                Ok(Answer::Stamps { stamps: folders.iter().map(stamp).collect(), date })
            }
            Request::SyncFolderItems { folder: FolderRef::Id(id), sync_state, .. } => {
                let place = self.folders.get(&id).ok_or_else(|| coded("ErrorSyncFolderNotFound"))?;
                assert!(!place.search, "a search folder is synced");
                if self.secret == Some(&id) {
                    return Err(coded("ErrorAccessDenied"));
                }
                let known = sync_state.map_or(0, |s| s.parse::<usize>().expect("a state of ours"));
                let end = (known + self.page).min(place.log.len());
                let (before, after) = (place.items(known), place.items(end));
                let mut changes = Vec::new();
                let touched: BTreeSet<&String> = place.log[known..end].iter().map(|(id, ..)| id).collect();
                for id in touched {
                    match (before.contains_key(id.as_str()), after.get(id.as_str())) {
                        (false, Some(date)) => changes.push(SyncChange::Create(item(id, date))),
                        (true, None) => {
                            changes.push(SyncChange::Delete(Id { id: id.clone(), change_key: None }))
                        }
                        _ => {}
                    }
                }
                changes.reverse();
                let includes_last = end == place.log.len();
                let page = SyncPage { sync_state: Some(end.to_string()), includes_last, changes };
                Ok(Answer::Synced { page, date })
            }
            other => panic!("{other:?}"),
        }
    }

    fn hierarchy(&self, state: Option<String>) -> Result<HierarchyPage, Error> {
        let known = match state {
            None => 0,
            Some(state) => match state.split_once(':').expect("a state of ours") {
                (age, known) if age == self.age.to_string() => known.parse().expect("a state of ours"),
                _ if self.silent => 0,
                _ => return Err(coded("ErrorInvalidSyncStateData")),
            },
        };
        let whole = |upto: usize| {
            let mut folders = BTreeMap::new();
            for (id, parent) in &self.tree[..upto] {
                folders.insert(id.as_str(), parent.as_deref());
            }
            folders.retain(|_, parent| parent.is_some());
            folders
        };
        let end = if known == 0 { self.tree.len() } else { (known + self.page).min(self.tree.len()) };
        let (before, after) = (whole(known), whole(end));
        let mut changes = Vec::new();
        let touched: BTreeSet<&String> = self.tree[known..end].iter().map(|(id, _)| id).collect();
        for id in touched {
            let folder = after.get(id.as_str()).map(|parent| proto::Folder {
                element: if self.folders.get(id).is_some_and(|f| f.search) {
                    "SearchFolder"
                } else {
                    "Folder"
                }
                .into(),
                id: Id { id: id.clone(), change_key: None },
                parent_id: parent.map(|p| Id { id: p.to_owned(), change_key: None }),
                ..proto::Folder::default()
            });
            match (before.contains_key(id.as_str()), folder) {
                (false, Some(folder)) => changes.push(FolderChange::Create(folder)),
                (true, Some(folder)) => changes.push(FolderChange::Update(folder)),
                (true, None) => changes.push(FolderChange::Delete(Id { id: id.clone(), change_key: None })),
                (false, None) => {}
            }
        }
        let includes_last = end == self.tree.len();
        Ok(HierarchyPage { sync_state: Some(format!("{}:{end}", self.age)), includes_last, changes })
    }

    pub fn forget_hierarchy(&mut self, silent: bool) {
        self.age += 1;
        self.silent = silent;
    }

    fn seconds(&self) -> u64 {
        self.now.wall.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
    }

    /// Makes a folder; without a parent, a search folder.
    pub fn make(&mut self, id: &str, parent: Option<&str>) {
        let place = Place {
            parent: Some(parent.unwrap_or(TOP).to_owned()),
            search: parent.is_none(),
            committed: self.seconds(),
            ..Place::default()
        };
        self.tree.push((id.to_owned(), place.parent.clone()));
        self.tell_folder(NoticeKind::Created, id, parent.unwrap_or(TOP), None);
        self.folders.insert(id.to_owned(), place);
    }

    /// Moves a folder.
    pub fn adopt(&mut self, id: &str, parent: &str) {
        let from = self.folders.get(id).and_then(|f| f.parent.clone());
        let place = self.folders.entry(id.to_owned()).or_default();
        (place.parent, place.search) = (Some(parent.to_owned()), false);
        self.tree.push((id.to_owned(), Some(parent.to_owned())));
        self.tell_folder(NoticeKind::Moved, id, parent, Some(from.as_deref().unwrap_or("f-hidden")));
    }

    /// Takes a folder off, with all that is in it.
    pub fn drop_folder(&mut self, id: &str) {
        let is_in = |f: &Place| f.parent.as_deref() == Some(id);
        let below: Vec<String> =
            self.folders.iter().filter(|(_, f)| is_in(f)).map(|(id, _)| id.clone()).collect();
        below.iter().for_each(|id| self.drop_folder(id));
        if let Some(place) = self.folders.remove(id) {
            self.tree.push((id.to_owned(), None));
            self.tell_folder(NoticeKind::Deleted, id, &place.parent.unwrap_or_default(), None);
        }
    }

    pub fn put(&mut self, folder: &str, item: &str) {
        let date = at(self.seconds());
        self.add(folder, item, date);
        self.tell(NoticeKind::Created, item, folder, None);
        self.tell(NoticeKind::NewMail, item, folder, None);
    }

    pub fn put_old(&mut self, folder: &str, item: &str) {
        self.add(folder, item, OLD.into());
    }

    fn add(&mut self, folder: &str, item: &str, date: String) {
        let seconds = self.seconds();
        let place = self.folders.get_mut(folder).expect("a folder that is there");
        place.log.push((item.to_owned(), true, date));
        place.committed = seconds;
    }

    /// Deletes the folder's first item.
    pub fn take_out(&mut self, folder: &str) -> Option<String> {
        let seconds = self.seconds();
        let place = self.folders.get_mut(folder)?;
        let item = place.items(place.log.len()).keys().next()?.to_string();
        place.log.push((item.clone(), false, String::new()));
        place.deleted += 1;
        place.committed = seconds;
        self.tell(NoticeKind::Deleted, &item, folder, None);
        Some(item)
    }

    /// Moves the folder's first item, which is called differently then.
    fn move_item(&mut self, from: &str, to: &str) {
        let told = self.live_later.len();
        let Some(item) = self.take_out(from) else { return };
        self.live_later.truncate(told);
        let new = format!("{item}'");
        self.add(to, &new, OLD.into());
        self.tell(NoticeKind::Moved, &new, to, Some((&item, from)));
        self.tell(NoticeKind::Deleted, &item, "f-all", None);
        self.tell(NoticeKind::Created, &new, "f-all", None);
    }

    fn tell(&mut self, kind: NoticeKind, item: &str, folder: &str, old: Option<(&str, &str)>) {
        let mut notice = notice(kind, item, folder);
        if let Some((item, folder)) = old {
            notice.old_target = Some(Target::Item(Id { id: item.into(), change_key: None }));
            notice.old_parent_folder_id = Some(Id { id: folder.into(), change_key: None });
        }
        if self.up && !self.dead && self.conn.is_some() {
            self.live_later.push(notice);
        }
    }

    fn tell_folder(&mut self, kind: NoticeKind, folder: &str, parent: &str, from: Option<&str>) {
        let target = |id: &str| Some(Target::Folder(Id { id: id.into(), change_key: None }));
        let mut notice = notice(kind, "", parent);
        notice.target = target(folder);
        if let Some(from) = from {
            notice.old_target = target(folder);
            notice.old_parent_folder_id = Some(Id { id: from.into(), change_key: None });
        }
        if self.up && !self.dead && self.conn.is_some() {
            self.live_later.push(notice);
        }
    }

    /// The stream tells what it has not told so far.
    pub fn flush(&mut self) {
        let notices = std::mem::take(&mut self.live_later);
        if let Some(conn) = self.conn.filter(|_| !notices.is_empty()) {
            let notifications = vec![notification(&self.subscription, notices)];
            let body = Streamed { notifications, ..Streamed::default() };
            let response = response(ResponseClass::Success, "NoError", body);
            self.feed(Input::Message { conn, responses: vec![response] });
        }
    }

    /// The stream tells of an item in a folder, whether it is there or not.
    pub fn hear(&mut self, folder: &str, item: &str) {
        self.live_later = vec![notice(NoticeKind::NewMail, item, folder)];
        self.flush();
    }

    /// The stream tells of an item in the inbox, late.
    pub fn live(&mut self, item: &str) {
        self.hear(INBOX, item);
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

fn kind(request: &Request) -> &'static str {
    match request {
        Request::SyncFolderHierarchy { .. } => "hierarchy",
        Request::GetFolderStamps { .. } => "stamps",
        Request::SyncFolderItems { .. } => "items",
        _ => "other",
    }
}

fn item(id: &str, date: &str) -> Item {
    Item { id: Id { id: id.to_owned(), change_key: None }, created: Some(date.to_owned()), ..Item::default() }
}

fn at(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// A mailbox in which much happens, with a link that breaks, a host that is killed, and a server that forgets.
pub(super) fn random(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut h = House::new();
    h.dated = rng.u8(..4) > 0;
    h.page = [1, 2, 5, 512][rng.usize(..4)];
    h.start();
    // Everything that came since the start, by what it is called now.
    let mut runs = vec![0];
    let mut log: Vec<Event> = Vec::new();
    for _ in 0..rng.usize(20..120) {
        let folders: Vec<String> =
            h.folders.iter().filter(|(_, f)| !f.search).map(|(id, _)| id.clone()).collect();
        let own: Vec<&String> = folders.iter().filter(|f| f.starts_with("g")).collect();
        let any = |rng: &mut fastrand::Rng| folders[rng.usize(..folders.len())].clone();
        let (one, other) = (any(&mut rng), any(&mut rng));
        h.items += 1;
        let name = format!("{}{:04}", if rng.bool() { "m" } else { "a" }, h.items);
        match rng.u8(..24) {
            0..=4 => h.put(&one, &name),
            5 | 6 => h.move_item(&one, &other),
            7 => drop(h.take_out(&one)),
            8 | 9 => {
                let folder = format!("g{:04}", h.items);
                h.make(&folder, (rng.u8(..6) > 0).then_some(one.as_str()));
                if rng.bool() && !h.folders[&folder].search {
                    h.put(&folder, &name);
                }
            }
            10 => {
                if let Some(folder) = own.get(rng.usize(..own.len().max(1))) {
                    let inside = |mut at: String| loop {
                        if at == **folder {
                            break true;
                        }
                        match h.folders.get(&at).and_then(|f| f.parent.clone()) {
                            Some(parent) => at = parent,
                            None => break false,
                        }
                    };
                    if !inside(one.clone()) {
                        h.adopt(folder, &one);
                    }
                }
            }
            11 => {
                if let Some(folder) = own.get(rng.usize(..own.len().max(1))) {
                    h.drop_folder(folder);
                }
            }
            12 | 13 => {
                h.cut();
                if rng.bool() {
                    h.subscription.clear();
                }
            }
            14 => h.mend(),
            15 => {
                // Killed in the middle of something.
                log.append(&mut h.told.clone());
                runs.push(log.len());
                h.kill();
                h.start();
            }
            16 => h.forget_hierarchy(rng.bool()),
            17 => {
                // A stream is not later than that.
                h.flush();
                h.wait(rng.u64(..100));
            }
            18 => h.pass(rng.u64(..3)),
            19 if rng.u8(..4) == 0 => {
                h.dead = true;
                h.live_later.clear();
            }
            20 | 21 => h.flush(),
            _ => {
                for _ in 0..rng.usize(..20) {
                    h.step(rng.usize(..8), rng.usize(..3));
                }
            }
        }
        let seconds = Duration::from_millis(rng.u64(..1500));
        h.now.wall += seconds;
        h.now.mono += seconds;
    }
    h.flush();
    h.mend();
    h.flush();
    h.beat_for(9000);
    log.append(&mut h.told.clone());
    runs.push(log.len());
    let missing: Vec<String> = h
        .folders
        .iter()
        .filter(|(_, f)| !f.search)
        .flat_map(|(folder, f)| {
            f.items(f.log.len()).keys().map(move |i| format!("{folder}/{i}")).collect::<Vec<_>>()
        })
        .filter(|place| {
            let item = place.split_once('/').map(|(_, item)| item);
            let told = |e: &&Event| {
                matches!(e.kind, EventKind::NewMail | EventKind::Moved) && e.item_id.as_deref() == item
            };
            !log.iter().any(|e| told(&e))
        })
        .collect();
    assert!(missing.is_empty(), "never told: {missing:?}");
    for run in runs.windows(2) {
        let mut seen = BTreeSet::new();
        // What a search folder repeats of moves is told before it is known as one.
        let moved = |e: &Event| e.item_id.as_ref().is_some_and(|id| id.ends_with('\''));
        let echo = |e: &&Event| e.kind == EventKind::Created && moved(e);
        for event in log[run[0]..run[1]].iter().filter(|e| !echo(e)) {
            if let (EventKind::NewMail | EventKind::Created, Some(id)) = (event.kind, &event.item_id) {
                assert!(seen.insert((event.kind.name(), id)), "told twice: {event:?}");
            }
            if let (EventKind::Created, Some(id)) = (event.kind, &event.folder_id) {
                assert!(seen.insert(("folder", id)), "told twice: {event:?}");
            }
        }
    }
    let last = |kind| log.iter().rposition(|e| e.kind == kind);
    assert!(last(EventKind::Drained) > last(EventKind::Gap), "a gap is never filled");
}
