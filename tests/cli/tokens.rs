//! The command shows no token, nor what one is had by: not in a pipe, at a terminal, in its errors or in the files that it writes, but for
//! the token store.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::Cut;
use rustix::process::Signal;

use crate::scan::known::{ADA, Known, NOES, no, serve};
use crate::support::{Ended, Running, Terminal, command};

const APP: &str = "11111111-2222-3333-4444-555555555555";

/// A company whose issuer gives tokens and codes that are known.
struct Company {
    sim: Sim,
    known: Known,
    folder: tempfile::TempDir,
    /// That of the program, if it has one.
    secret: Option<String>,
}

impl Company {
    fn start(name: &str, has_secret: bool) -> Company {
        let (mut known, sim) = (Known::default(), Sim::builder().user(ADA, "not used here").start().unwrap());
        let texts: Vec<String> = (0..20).map(|n| known.make(&format!("{name}, token {n}"), 70)).collect();
        sim.issuer().next_texts(texts);
        let secret = has_secret.then(|| known.make("the client secret", 40));
        sim.issuer().register(APP, secret.as_deref(), None);
        Company { sim, known, folder: tempfile::tempdir().unwrap(), secret }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A command that signs in here, with the secret of the program where it has one.
    fn command(&self, words: &[&str], token_url: &str) -> Command {
        let mut command = command(words);
        command.args(["--url", self.sim.url(), "--ca-file", self.sim.ca_file().unwrap().to_str().unwrap()]);
        command.args(["--trace-wire", &self.path("wire.log")]);
        for (key, value) in [
            ("oauth_client_id", APP),
            ("oauth_token_url", token_url),
            ("oauth_authorize_url", &token_url.replace("/token", "/authorize")),
            ("oauth_device_url", &token_url.replace("/token", "/devicecode")),
        ] {
            command.args(["--option", &format!("{key}={value}")]);
        }
        if let Some(secret) = &self.secret {
            command.args(["--option-env", "oauth_client_secret=EWSN_TEST_SECRET"]);
            command.env("EWSN_TEST_SECRET", secret);
        }
        command
    }

    fn begin(&self, words: &[&str]) -> Running {
        Running::start(self.command(words, &self.sim.token_url()))
    }

    fn at_a_terminal(&self, words: &[&str]) -> Terminal {
        Terminal::start(self.command(words, &self.sim.token_url()))
    }

    #[track_caller]
    fn assert_clean(&self, what: &str, ended: Ended) -> Ended {
        self.known.scan().assert_clean(what, format!("{} {}", ended.out, ended.err));
        ended
    }

    /// The wire log, and every file but the token store, which has the tokens.
    fn assert_files_are_clean(&self, wanted: &[&str]) {
        let (scan, mut stores) = (self.known.scan(), 0);
        for path in files(self.folder.path()) {
            let (name, bytes) = (path.display().to_string(), std::fs::read(&path).unwrap());
            if path.file_name().unwrap().to_str().unwrap().starts_with("oauth-") && name.ends_with(".json") {
                assert!(scan.find(&bytes).is_some(), "the scan knows the tokens that there are");
                stores += 1;
            } else {
                scan.assert_clean(&name, bytes);
            }
        }
        assert_eq!(stores, 1, "{:?}", files(self.folder.path()));
        let wire = std::fs::read_to_string(self.path("wire.log")).unwrap();
        for wanted in wanted.iter().chain(&["Authorization: Bearer ***", "\"access_token\": \"***\""]) {
            assert!(wire.contains(wanted), "{wanted}: {wire}");
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

// A service that runs for months, whose output goes to a log: one renewal would leave a token in it, good for every mailbox.
#[test]
fn a_watch_by_a_client_secret() {
    let company = Company::start("a secret", true);
    let state = company.path("state");
    let watch = ["watch", "--user", ADA, "--state-dir", &state, "--fetch", "mime"];
    let mut running = company.begin(&watch);
    running.event("Connected");
    company.sim.exchange().deliver(ADA, b"Subject: One\r\n\r\nText").unwrap();
    running.event("NewMail");
    // What it has is not taken any more.
    company.sim.issuer().revoke_access();
    company.sim.cut_streams(Cut::Fin);
    running.event("Connected");
    running.signal(Signal::INT);
    company.assert_clean("watch", running.end());
    let mut terminal = company.at_a_terminal(&watch);
    company.sim.exchange().deliver(ADA, b"Subject: Again\r\n\r\nText").unwrap();
    terminal.until("Again");
    terminal.signal(Signal::INT);
    company.known.scan().assert_clean("watch at a terminal", terminal.end().1);
    let ended = company.assert_clean("check", company.begin(&["check", ADA]).end());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    company.known.scan().assert_clean("check at a terminal", company.at_a_terminal(&["check", ADA]).end().1);
    company.assert_files_are_clean(&["client_secret=***"]);
}

// What is on the screen when a user signs in is on a projector, or in a recording.
#[test]
fn a_sign_in_on_another_device() {
    let company = Company::start("a device", false);
    let state = company.path("state");
    let login = ["login", "--user", ADA, "--state-dir", &state];
    let mut running = company.begin(&login);
    let shown = running.json(|line| line["type"] == "SignIn");
    company.sim.issuer().device(shown["user_code"].as_str().unwrap(), Some(ADA));
    let ended = company.assert_clean("login", running.end());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Somebody says no.
    let mut running = company.begin(&login);
    let shown = running.json(|line| line["type"] == "SignIn");
    company.sim.issuer().device(shown["user_code"].as_str().unwrap(), None);
    let ended = company.assert_clean("login that is declined", running.end());
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let mut terminal = company.at_a_terminal(&login);
    terminal.until("SIM");
    let text = terminal.text();
    let code: String = text[text.find("SIM").unwrap()..].chars().take(8).collect();
    company.sim.issuer().device(&code, Some(ADA));
    let (exit, text) = terminal.end();
    assert_eq!(exit, Some(0), "{text}");
    company.known.scan().assert_clean("login at a terminal", text);
    let mut running = company.begin(&["watch", "--user", ADA, "--state-dir", &state]);
    running.event("Connected");
    company.sim.exchange().deliver(ADA, b"Subject: Hello\r\n\r\nText").unwrap();
    running.event("NewMail");
    running.signal(Signal::INT);
    company.assert_clean("watch", running.end());
    // The consent is taken back.
    company.sim.issuer().revoke_refresh();
    company.sim.issuer().revoke_access();
    let ended = company.begin(&["watch", "--user", ADA, "--state-dir", &state]).end();
    assert_eq!(company.assert_clean("watch without consent", ended).code, Some(4));
    company.assert_files_are_clean(&["device_code=***", "\"device_code\": \"***\"", "refresh_token=***"]);
}

// invalid_client with the secret in its text: what the command prints is what goes into the ticket.
#[test]
fn what_an_issuer_quotes_is_not_printed() {
    let company = Company::start("quoted", true);
    let secret = company.secret.clone().unwrap();
    let way = Arc::new(AtomicUsize::new(0));
    let port = serve({
        let (way, secret) = (way.clone(), secret.clone());
        move |form, _| {
            // A sign-in that only begins has no secret in it.
            let known = if form.contains(&secret) { secret.as_str() } else { "nothing" };
            Some(no(way.load(Ordering::SeqCst), form, &[("the client secret", known)]))
        }
    });
    let url = format!("http://127.0.0.1:{port}/oauth2/v2.0/token");
    let state = company.path("state");
    let mut printed = String::new();
    for n in 0..NOES {
        way.store(n, Ordering::SeqCst);
        for words in [
            &["check", ADA][..],
            &["get", "--user", ADA, "--id", "AAMk"],
            &["login", "--user", ADA, "--state-dir", &state],
            &["drain", "--user", ADA, "--state-dir", &state, "--for", "1s", "--option", "log=debug"],
        ] {
            let ended = Running::start(company.command(words, &url)).end();
            let ended = company.assert_clean(words[0], ended);
            assert_ne!(ended.code, Some(0), "{n} {words:?}: {ended:?}");
            printed += &format!("{} {}", ended.out, ended.err);
        }
        let check = Terminal::start(company.command(&["check", ADA], &url));
        company.known.scan().assert_clean("check at a terminal", check.end().1);
    }
    assert!(printed.contains("the secret *** is wrong"), "{printed}");
    let scan = company.known.scan();
    for path in files(company.folder.path()) {
        scan.assert_clean(&path.display().to_string(), std::fs::read(&path).unwrap());
    }
    let wire = std::fs::read_to_string(company.path("wire.log")).unwrap();
    assert!(wire.contains("client_secret=***"), "{wire}");
}
