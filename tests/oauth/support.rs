//! A company with a token endpoint, and a help desk that watches its mailbox.

use std::path::Path;
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use ewsnotify::{Client, Event, EventKind, Next, Options};

pub const ADA: &str = "ada@example.test";
pub const APP: &str = "11111111-2222-3333-4444-555555555555";
pub const APP_SECRET: &str = "app~secret+with/signs";
pub const CERT: &str = include_str!("app-cert.pem");

/// No test needs so long; it keeps a broken one from hanging.
pub const LONG: Duration = Duration::from_secs(60);

pub fn start() -> Sim {
    let sim = Sim::builder().user(ADA, "not used").start().unwrap();
    sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
    sim
}

/// The same with a user who has signed in, whose refresh token this is, and a folder for what is stored.
pub fn signed_in() -> (Sim, String, tempfile::TempDir) {
    let sim = start();
    sim.issuer().register(APP, None, None);
    let token = sim.issuer().sign_in(APP, ADA);
    (sim, token, tempfile::tempdir().unwrap())
}

/// The options of a watch that signs in with what the simulator's issuer gives.
pub fn options(sim: &Sim, more: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    let token_url = sim.token_url();
    options.set("url", sim.url()).unwrap().set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    options.set("oauth_token_url", &token_url).unwrap().set("oauth_client_id", APP).unwrap();
    options.set("catch_up", "false").unwrap();
    for (key, value) in more {
        options.set(key, value).unwrap();
    }
    options
}

/// Those of a user who has signed in, with this refresh token.
pub fn users(sim: &Sim, refresh_token: &str, store: &Path) -> Options {
    let store = store.to_str().unwrap();
    let more = [("user", ADA), ("oauth_refresh_token", refresh_token), ("oauth_token_store", store)];
    options(sim, &more)
}

/// The program's certificate and key, as files in a folder.
pub fn app_files(dir: &Path) -> (String, String) {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (cert, key) = (at("cert.pem"), at("key.pem"));
    std::fs::write(&cert, CERT).unwrap();
    std::fs::write(&key, include_str!("app-key.pem")).unwrap();
    (cert, key)
}

pub struct Desk {
    pub client: Client,
    pub events: Vec<Event>,
}

impl Desk {
    pub fn open(options: &Options) -> Desk {
        let client = Client::open(options).unwrap();
        client.watch(&Options::new()).unwrap();
        Desk { client, events: Vec::new() }
    }

    pub fn until(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let deadline = Instant::now() + LONG;
        loop {
            match self.client.next(deadline.saturating_duration_since(Instant::now())) {
                Next::Event(event) => {
                    self.events.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                }
                Next::Interrupted => {}
                other => panic!("{other:?} instead of {what}, after {}", self.told()),
            }
        }
    }

    pub fn connected(&mut self) {
        self.until("Connected", |e| e.kind == EventKind::Connected);
    }

    /// Delivers a mail, and waits until it is told.
    pub fn mail(&mut self, sim: &Sim, subject: &str) {
        let mime =
            format!("From: Bob <bob@example.test>\r\nTo: {ADA}\r\nSubject: {subject}\r\n\r\nHello.\r\n");
        let id = sim.exchange().deliver(ADA, mime.as_bytes()).unwrap();
        self.until("the mail", |e| e.kind == EventKind::NewMail && e.item_id.as_deref() == Some(&id));
    }

    pub fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|e| e.kind == kind).count()
    }

    pub fn told(&self) -> String {
        self.events.iter().map(|e| e.to_json() + "\n").collect()
    }
}
