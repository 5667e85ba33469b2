//! `ewsnotify login`: a user signs in, and `watch` goes on from there.

use std::io::{Read, Write};
use std::net::TcpStream;

use ewsnotify::sim::Sim;

use crate::support::{Running, USER, command, run};

const APP: &str = "login-app";

struct Desk {
    sim: Sim,
    dir: tempfile::TempDir,
}

impl Desk {
    fn start() -> Desk {
        let sim = Sim::builder().user(USER, "not used").start().unwrap();
        sim.issuer().register(APP, None, None);
        Desk { sim, dir: tempfile::tempdir().unwrap() }
    }

    /// The words of a command that signs in here.
    fn words<'a>(&self, command: &'a str, more: &[&'a str]) -> Vec<String> {
        let place = |what: &str| self.sim.token_url().replace("/token", what);
        let mut words: Vec<String> =
            vec![command.into(), "--user".into(), USER.into(), "--url".into(), self.sim.url().into()];
        words.extend(["--ca-file".into(), self.sim.ca_file().unwrap().to_str().unwrap().into()]);
        words.extend(["--state-dir".into(), self.dir.path().to_str().unwrap().into()]);
        for option in [
            format!("oauth_client_id={APP}"),
            format!("oauth_token_url={}", self.sim.token_url()),
            format!("oauth_authorize_url={}", place("/authorize")),
            format!("oauth_device_url={}", place("/devicecode")),
        ] {
            words.extend(["--option".into(), option]);
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    fn begin(&self, verb: &str, more: &[&str]) -> Running {
        let words = self.words(verb, more);
        Running::start(command(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

// Without this an administrator would have to make a refresh token by hand, and nobody knows how.
#[test]
fn a_user_signs_in_on_another_device_and_is_watched() {
    let desk = Desk::start();
    let mut login = desk.begin("login", &[]);
    let shown = login.json(|line| line["type"] == "SignIn");
    desk.sim.issuer().device(shown["user_code"].as_str().unwrap(), Some(USER));
    let ended = login.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.out.contains(r#""type":"SignedIn""#) && ended.out.contains(r#""lasting":true"#),
        "{ended:?}"
    );
    let mut watch = desk.begin("watch", &[]);
    watch.json(|line| line["type"] == "Connected");
    drop(watch);
    // Somebody has taken the consent back: the next run says so, and what to do.
    desk.sim.issuer().revoke_refresh();
    desk.sim.issuer().revoke_access();
    let ended = desk.begin("watch", &[]).end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("ewsnotify login") || ended.out.contains("ewsnotify login"), "{ended:?}");
}

// A page of another sign-in, or a stranger's on the same machine, must not sign somebody else in.
#[test]
fn a_user_signs_in_with_a_browser_of_this_machine() {
    let desk = Desk::start();
    desk.sim.issuer().browser(Some(USER));
    let mut login = desk.begin("login", &["--browser"]);
    let shown = login.json(|line| line["type"] == "SignIn");
    let url = shown["uri"].as_str().unwrap().to_owned();
    let port = url.split("localhost%3A").nth(1).unwrap().split('&').next().unwrap().parse::<u16>().unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert!(get("/favicon.ico").starts_with("HTTP/1.1 404"));
    assert!(get("/?code=stolen&state=guessed").starts_with("HTTP/1.1 400"));
    let query = desk.sim.issuer().visit(&url).unwrap();
    assert!(get(&format!("/?{query}")).contains("Done"));
    let ended = login.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    desk.sim.issuer().browser(None);
    let mut login = desk.begin("login", &["--browser"]);
    let url = login.json(|line| line["type"] == "SignIn")["uri"].as_str().unwrap().to_owned();
    let port = url.split("localhost%3A").nth(1).unwrap().split('&').next().unwrap().parse::<u16>().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /?{} HTTP/1.1\r\n\r\n", desk.sim.issuer().visit(&url).unwrap()).unwrap();
    let ended = login.end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("access_denied"), "{ended:?}");
}

// Tokens that are stored nowhere are a sign-in for nothing.
#[test]
fn what_is_missing_is_said_before_anybody_signs_in() {
    let ended = run(&["login", "--user", USER, "--tenant", "example.test", "--client-id", APP]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("--state-dir"), "{ended:?}");
    let ended = run(&["watch", "--user", USER, "--option", "oauth_client_secret=hunter2secret"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("--option-env") && !ended.err.contains("hunter2"), "{ended:?}");
}

// The new refresh token would be printed with the events, into a log, each time; and the next start would send one that is spent.
#[test]
fn a_refresh_token_without_a_place_for_the_next_is_refused() {
    let desk = Desk::start();
    let token = desk.sim.issuer().sign_in(APP, USER);
    let store = format!("oauth_token_store={}", desk.dir.path().to_str().unwrap());
    let begin = |verb: &'static str, more: &[&'static str], kept: bool| {
        let mut words = desk.words(verb, more);
        let at = words.iter().position(|word| word == "--state-dir").unwrap();
        words.drain(at..at + 2);
        words.extend(["--option-env".into(), "oauth_refresh_token=EWSN_TEST_REFRESH".into()]);
        if kept {
            words.extend(["--option".into(), store.clone()]);
        }
        let mut command = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("EWSN_TEST_REFRESH", &token);
        Running::start(command)
    };
    for (verb, more) in [("watch", &["--for", "3s"][..]), ("get", &["--id", "AAMk"])] {
        let ended = begin(verb, more, false).end();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains("--state-dir") && ended.err.contains("oauth_token_store"), "{ended:?}");
        assert!(!ended.out.contains("TokenRotated"), "{ended:?}");
    }
    assert_eq!(desk.sim.issuer().counts().requests, 0);
    begin("watch", &[], true).json(|line| line["type"] == "Connected");
}

// Who wants to see a sign-in before they have an issuer copies these lines: they must work as they stand.
#[test]
fn the_readme_s_commands_for_who_tries_a_sign_in_work_as_they_stand() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("<!-- login -->").nth(1).unwrap().split("<!-- /login -->").next().unwrap();
    let lines: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("ewsnotify ")).collect();
    let [simulate, login, watch] = lines[..] else { panic!("{lines:?}") };
    let (dir, origin) = (tempfile::tempdir().unwrap(), "127.0.0.1:8025");
    let begin = |line: &str, to: &str| {
        let line = line.replace(origin, to).replace("/tmp/ewsnotify-try", dir.path().to_str().unwrap());
        Running::start(command(&line.split(' ').collect::<Vec<_>>()))
    };
    let mut sim = begin(&simulate.replace("5s", "200ms"), "127.0.0.1:0");
    let ready = sim.json(|_| true);
    let to = ready["url"].as_str().unwrap().split('/').nth(2).unwrap().to_owned();
    let oauth = &ready["oauth"];
    assert_eq!(oauth["authority"], format!("http://{to}/adfs"), "{ready}");
    for key in ["token_url", "authorize_url", "device_url"] {
        assert!(oauth[key].as_str().unwrap().starts_with(oauth["authority"].as_str().unwrap()), "{ready}");
    }
    let page = |path: &str| {
        let mut stream = TcpStream::connect(&to).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };

    let mut signing = begin(login, &to);
    let shown = signing.json(|line| line["type"] == "SignIn");
    let path = shown["uri"].as_str().unwrap().split(&to).nth(1).unwrap().to_owned();
    assert!(page(&path).contains("<form>"), "a page to type the code into");
    assert!(page(&format!("{path}?user_code=nonsense")).contains("no such code"));
    let code = shown["user_code"].as_str().unwrap();
    assert!(page(&format!("{path}?user_code={code}")).contains("Signed in"));
    let ended = signing.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut watching = begin(watch, &to);
    watching.event("NewMail");
    drop(watching);

    // And with a browser: its page sends it back at once.
    let mut signing = begin(&format!("{login} --browser"), &to);
    let shown = signing.json(|line| line["type"] == "SignIn");
    let sent = page(shown["uri"].as_str().unwrap().split(&to).nth(1).unwrap());
    let back = sent.lines().find_map(|line| line.strip_prefix("Location: http://localhost:")).unwrap();
    let (port, query) = back.split_once('?').unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
    write!(stream, "GET /?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let ended = signing.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
