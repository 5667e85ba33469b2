//! Many mailboxes on several machines: by one service account that impersonates them, over real sockets.

#![cfg(feature = "sim")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use ewsnotify::{Client, Event, EventKind, Next, Options};

const SERVICE: &str = "service@example.test";
const LIMIT: Duration = Duration::from_secs(60);

struct Desk {
    sim: Sim,
    client: Client,
    watches: BTreeMap<String, u64>,
    /// What was told as new, by mailbox, and how often.
    told: BTreeMap<(String, String), u32>,
    gaps: BTreeMap<String, u32>,
    delivered: BTreeSet<(String, String)>,
}

impl Desk {
    fn new(settings: &[(&str, &str)]) -> Desk {
        let sim = Sim::builder().user(SERVICE, "secret").start().unwrap();
        sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
        let mut options = Options::new();
        let ca = sim.ca_file().unwrap().to_str().unwrap().to_owned();
        let common = [
            ("url", sim.url()),
            ("ca_file", &ca),
            ("user", SERVICE),
            ("password", "secret"),
            ("access", "impersonate"),
            ("events", "NewMail"),
        ];
        for (key, value) in common.iter().chain(settings) {
            options.set(key, value).unwrap();
        }
        let client = Client::open(&options).unwrap();
        let (told, gaps, delivered) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Desk { sim, client, watches: BTreeMap::new(), told, gaps, delivered }
    }

    /// Makes a mailbox on a machine, and watches it.
    fn add(&mut self, name: &str, group: &str, server: &str) {
        let address = format!("{name}@example.test");
        self.sim.exchange().add_mailbox(&address);
        self.sim.exchange().place_mailbox(&address, group, server).unwrap();
        self.watch(&address, group);
    }

    fn watch(&mut self, address: &str, group: &str) {
        let mut options = Options::new();
        options.set("mailbox", address).unwrap();
        if !group.is_empty() {
            options.set("affinity", group).unwrap();
        }
        self.watches.insert(address.to_owned(), self.client.watch(&options).unwrap());
    }

    fn deliver(&mut self, address: &str) {
        let n = self.delivered.len();
        let mail = format!("Subject: Mail {n}\r\n\r\nText\r\n");
        let id = self.sim.exchange().deliver(address, mail.as_bytes()).unwrap();
        self.delivered.insert((address.to_owned(), id));
    }

    fn take(&mut self, event: &Event) {
        let mailbox = event.mailbox.to_string();
        match event.kind {
            EventKind::NewMail => {
                *self.told.entry((mailbox, event.item_id.clone().unwrap())).or_default() += 1;
            }
            EventKind::Gap => *self.gaps.entry(mailbox).or_default() += 1,
            EventKind::Error => println!("{event:?}"),
            _ => {}
        }
    }

    /// Takes events until it is so.
    #[track_caller]
    fn until(&mut self, what: &str, mut so: impl FnMut(&Desk, Option<&Event>) -> bool) {
        let end = Instant::now() + LIMIT;
        let mut last = None;
        while !so(self, last.as_ref()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.client.next(left.min(Duration::from_millis(200))) {
                Next::Event(event) => {
                    self.take(&event);
                    last = Some(event);
                }
                _ if left.is_zero() => panic!("{what} never came: {:#?}", self.client.status()),
                _ => last = None,
            }
        }
    }

    fn all_connected(&mut self) {
        self.until("all connected", |d, _| {
            let status = d.client.status();
            status.watches.len() == d.watches.len() && status.watches.iter().all(|w| w.state == "connected")
        });
    }

    fn all_told(&mut self) {
        self.until("all told", |d, _| d.delivered.iter().all(|mail| d.told.contains_key(mail)));
        assert!(self.told.values().all(|times| *times == 1), "{:?}", self.told);
    }
}

// Each stream reads the subscriptions of one machine: those of other machines would be deaf.
#[test]
fn mailboxes_of_several_machines_are_all_told() {
    let mut d = Desk::new(&[]);
    let mut names = Vec::new();
    for n in 0..30 {
        let (group, server) = (format!("site{}", n % 3), format!("mbx{}.site{}.example.test", n % 2, n % 3));
        d.add(&format!("box{n}"), &group, &server);
        names.push(format!("box{n}@example.test"));
    }
    d.all_connected();
    assert_eq!(d.client.status().connections.len(), 3);
    names.iter().for_each(|name| d.deliver(name));
    d.all_told();
    assert_eq!(d.gaps, BTreeMap::new());
    // As Exchange's documentation wants it: one anchor a group, its cookie on everything after the first answer.
    let requests = d.sim.requests();
    let streams: Vec<_> = requests.iter().filter(|r| r.operation == "GetStreamingEvents").collect();
    assert_eq!(streams.len(), 3);
    for stream in streams {
        let anchor = stream.header("X-AnchorMailbox").unwrap();
        assert!(stream.header("Cookie").is_some_and(|c| c.contains("X-BackEndOverrideCookie=mbx")));
        assert_eq!(stream.header("X-PreferServerAffinity"), Some("true"));
        let body = String::from_utf8(stream.body.clone()).unwrap();
        assert!(body.contains(&format!("SmtpAddress>{anchor}<")), "charged to another mailbox: {body}");
        let of_group = requests
            .iter()
            .filter(|r| r.operation == "Subscribe" && r.header("X-AnchorMailbox") == Some(anchor));
        let (first, later): (Vec<_>, Vec<_>) = of_group.partition(|r| r.header("Cookie").is_none());
        assert_eq!((first.len(), later.len()), (1, 9), "{anchor}");
    }
}

// A mailbox that is moved to another site would never be heard of again, or take its neighbours' stream down.
#[test]
fn a_mailbox_that_moves_is_followed() {
    let mut d = Desk::new(&[]);
    for name in ["ada", "bob", "eve"] {
        d.add(name, "site1", "mbx1.example.test");
    }
    d.all_connected();
    d.sim.exchange().place_mailbox("bob@example.test", "site2", "mbx2.example.test").unwrap();
    d.until("bob is lost", |_, e| {
        e.is_some_and(|e| e.kind == EventKind::Disconnected && &*e.mailbox == "bob@example.test")
    });
    for name in ["ada@example.test", "bob@example.test", "eve@example.test"] {
        d.deliver(name);
    }
    d.all_told();
    d.all_connected();
    assert_eq!(d.gaps.keys().map(String::as_str).collect::<Vec<_>>(), ["bob@example.test"]);
    assert_eq!(d.client.status().connections.len(), 2);
}

// Hosts add and remove mailboxes while mail comes: what comes meanwhile would be lost or told twice.
#[test]
fn a_hundred_come_and_a_hundred_go_under_load() {
    let mut d = Desk::new(&[]);
    for n in 0..120 {
        d.add(&format!("old{n}"), "site1", "mbx1.example.test");
    }
    d.all_connected();
    for n in 0..100 {
        d.deliver(&format!("old{}@example.test", n % 20 + 100));
        d.add(&format!("new{n}"), "site1", "mbx1.example.test");
        d.deliver(&format!("old{}@example.test", n % 20 + 100));
        let gone = d.watches.remove(&format!("old{n}@example.test")).unwrap();
        d.client.unwatch(gone).unwrap();
        if let Next::Event(event) = d.client.next(Duration::ZERO) {
            d.take(&event);
        }
    }
    d.all_connected();
    for name in d.watches.keys().cloned().collect::<Vec<_>>() {
        d.deliver(&name);
    }
    d.all_told();
    // Nobody is left on the server but those that are watched.
    d.until("the others are given back", |d, _| {
        let left = |n| d.sim.exchange().subscriptions(&format!("old{n}@example.test"));
        (0..100).all(|n| left(n).is_empty())
    });
    let streams = d.client.status().connections.len();
    assert!(streams <= 3, "{streams} streams for 120 mailboxes");
}

// The server's limits are an account's with delegate access and a mailbox's with impersonation.
#[test]
fn the_servers_limit_of_streams_is_kept_to() {
    let mut d = Desk::new(&[("subscriptions_per_connection", "5")]);
    d.sim.exchange().configure(|s| s.max_streams = Some(1));
    for n in 0..20 {
        d.add(&format!("box{n}"), "", "mbx1.example.test");
    }
    d.all_connected();
    assert_eq!(d.client.status().connections.len(), 4, "each is charged to another mailbox");
    for n in 0..20 {
        d.deliver(&format!("box{n}@example.test"));
    }
    d.all_told();
}

// With delegate access the second stream is refused: half of the mailboxes would be deaf.
#[test]
fn an_account_with_one_stream_puts_all_on_it() {
    let mut d = Desk::new(&[("access", "delegate")]);
    d.sim.exchange().configure(|s| s.max_streams = Some(1));
    for n in 0..4 {
        let address = format!("box{n}@example.test");
        d.sim.exchange().add_mailbox(&address);
        d.sim.exchange().grant(&address, SERVICE).unwrap();
        d.watch(&address, "");
        d.all_connected();
    }
    assert_eq!(d.client.status().connections.len(), 1);
    for n in 0..4 {
        d.deliver(&format!("box{n}@example.test"));
    }
    d.all_told();
}

// Exchange lets a mailbox be synced by five at a time, and refuses the sixth for a while.
#[test]
fn a_mailbox_is_synced_by_no_more_at_a_time_than_the_server_allows() {
    let mut d = Desk::new(&[("all_folders", "true"), ("workers", "64")]);
    d.sim.exchange().add_mailbox("ada@example.test");
    for n in 0..24 {
        let folder = format!("Folder {n}");
        d.sim.exchange().create_folder("ada@example.test", "inbox", &folder).unwrap();
        let path = format!("inbox/{folder}");
        d.sim.exchange().deliver_into("ada@example.test", &path, b"Subject: Old\r\n\r\nText\r\n").unwrap();
    }
    d.sim.exchange().configure(|s| s.service_time = Duration::from_millis(30));
    d.watch("ada@example.test", "");
    d.until("all folders are read", |_, e| e.is_some_and(|e| e.kind == EventKind::Drained));
    let syncs = d.sim.requests().iter().filter(|r| r.operation == "SyncFolderItems").count();
    assert!(syncs >= 24, "{syncs}");
    assert_eq!(d.sim.exchange().refused(), 0);
}

// Others work with the account too, and what is left of its budget is less than we ask for at a time.
#[test]
fn an_account_that_may_ask_twice_at_a_time_is_told_everything_all_the_same() {
    let mut d = Desk::new(&[("access", "delegate")]);
    d.sim.exchange().configure(|s| {
        s.service_time = Duration::from_millis(20);
        s.max_requests = 2;
    });
    for n in 0..6 {
        let address = format!("box{n}@example.test");
        d.sim.exchange().add_mailbox(&address);
        d.sim.exchange().grant(&address, SERVICE).unwrap();
        d.watch(&address, "");
    }
    d.all_connected();
    for n in 0..30 {
        d.deliver(&format!("box{}@example.test", n % 6));
    }
    d.all_told();
    assert!(d.sim.exchange().refused() > 0);
}
