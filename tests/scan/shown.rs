//! What was shown, and the looking through it.

use std::path::Path;
use std::sync::{Mutex, Once};
use std::time::Duration;

use ewsnotify::{Client, Error, Event, Next};

use super::known::{Known, Scan};

/// No test needs so long; it keeps a broken one from hanging.
pub const LIMIT: Duration = Duration::from_secs(60);

/// All that any of our crates logs: everything at trace, `ureq_proto` at debug (at trace it logs the rows of heads, which is said
/// in the documents).
struct Logged;

static LOGGED: Mutex<String> = Mutex::new(String::new());

impl log::Log for Logged {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Debug || !metadata.target().starts_with("ureq_proto")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {} {}\n", record.level(), record.target(), record.args());
            LOGGED.lock().unwrap_or_else(|e| e.into_inner()).push_str(&line);
        }
    }

    fn flush(&self) {}
}

/// From here on the host has a logger.
pub fn log_all() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The library has none of its own: nothing is logged before the host says so.
        assert_eq!(log::max_level(), log::LevelFilter::Off);
        log::set_logger(&Logged).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

#[track_caller]
pub fn no_log_shows(scan: &Scan) {
    let logged = LOGGED.lock().unwrap_or_else(|e| e.into_inner());
    assert!(logged.contains("ureq"), "the logger hears nothing");
    scan.assert_clean("the log", &*logged);
}

/// Every text that is in a folder.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

pub fn shown(events: &[Event]) -> String {
    events.iter().map(|e| format!("{}\n{e:?}\n", e.to_json())).collect()
}

/// Takes events until one is as wanted.
pub fn until(client: &Client, events: &mut Vec<Event>, mut wanted: impl FnMut(&Event) -> bool) {
    loop {
        match client.next(LIMIT) {
            Next::Event(event) => {
                events.push(event);
                if wanted(events.last().unwrap()) {
                    return;
                }
            }
            other => panic!("{other:?} after {}", shown(events)),
        }
    }
}

/// All that was shown, kept until every secret is known.
#[derive(Default)]
pub struct Shown(Vec<(String, Vec<u8>)>);

impl Shown {
    pub fn add(&mut self, what: &str, text: impl Into<Vec<u8>>) {
        self.0.push((what.to_owned(), text.into()));
    }

    pub fn error(&mut self, e: &Error) {
        self.add("an error", format!("{e}\n{e:?}\n{:?}\n", e.code()));
    }

    pub fn events(&mut self, events: &[Event]) {
        self.add("an event", shown(events));
    }

    /// All files but the token store.
    pub fn files(&mut self, folder: &Path) {
        for (name, bytes) in files(folder) {
            let is_store = name.rsplit('/').next().is_some_and(|name| name.starts_with("oauth-"));
            if !is_store {
                self.add(&name, bytes);
            }
        }
    }

    /// Closes a client, and takes the rest of what it tells.
    pub fn close(&mut self, client: Client, mut events: Vec<Event>) {
        self.add("the status", format!("{:?} {client:?}", client.status()));
        self.add("the status", serde_json::to_string(&client.status()).unwrap());
        client.close();
        while let Next::Event(event) = client.next(LIMIT) {
            events.push(event);
        }
        self.events(&events);
    }

    /// Whether this stands anywhere.
    pub fn has(&self, text: &str) -> bool {
        self.0.iter().any(|(_, shown)| String::from_utf8_lossy(shown).contains(text))
    }

    /// All of it as text, for a test that fails.
    pub fn text(&self) -> String {
        self.0.iter().map(|(what, text)| format!("{what}: {}\n", String::from_utf8_lossy(text))).collect()
    }

    /// None of it, nor the log, has anything of these.
    #[track_caller]
    pub fn assert_clean(&self, known: &Known) {
        let scan = known.scan();
        self.0.iter().for_each(|(what, text)| scan.assert_clean(what, text));
        no_log_shows(&scan);
    }
}
