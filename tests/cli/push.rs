//! `--mode push`, as people set it up from the command line.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ewsnotify::sim::Sim;
use rustix::process::Signal;

use crate::drain::mail;
use crate::support::{DEADLINE, Ended, Running, USER, assert_no_secret, command, line, reach, run, sim};

const SECRET: &str = "Zw1ebelfisch-0123456789";

/// A command with the secret in its environment.
fn with_secret(words: &[&str]) -> Command {
    let mut command = command(words);
    command.env("EWSN_TEST_SECRET", SECRET);
    command
}

/// A web server of one's own, in a process of its own: the example in Python. It ends with the test.
struct Web(Child, u16);

impl Web {
    fn start(state: &Path) -> Web {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-examples/python/push_wsgi.py");
        let mut python = Command::new("python3");
        python.arg(example).env("EWSNOTIFY_STATE_DIR", state).env("EWSNOTIFY_PUSH_SECRET", SECRET);
        let mut child =
            python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Web(child, port.trim().parse().expect("the port"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The URLs that the server was told to send to.
fn told(sim: &Sim) -> Vec<String> {
    let bodies = sim.requests().into_iter().filter(|r| r.operation == "Subscribe").map(|r| r.body);
    let url = |body: Vec<u8>| {
        let body = String::from_utf8(body).unwrap();
        let from = body.split_once("URL>").expect("a push subscription has one").1;
        from.split_once('<').unwrap().0.to_owned()
    };
    bodies.map(url).collect()
}

// Push with a web server of one's own needs no program: the page puts what comes into the state directory, the command tells it.
#[test]
fn a_web_server_of_ones_own() {
    let sim = sim();
    let state = tempfile::tempdir().unwrap();
    let web = Web::start(state.path());
    let reach = reach(&sim);
    let (url, dir) = (format!("http://127.0.0.1:{}/push/", web.1), state.path().to_str().unwrap());
    let rest =
        ["--mode", "push", "--push-url", &url, "--push-secret-env", "EWSN_TEST_SECRET", "--state-dir", dir];
    let rest = [&rest[..], &["--fetch", "summary", "--event", "NewMail"]].concat();
    for n in 1..=2 {
        let mut watch = Running::start(with_secret(&line("watch", &reach, &rest)));
        watch.event("Connected");
        sim.exchange().deliver(USER, &mail(n)).unwrap();
        watch.event("NewMail");
        watch.signal(Signal::INT);
        let ended = watch.end();
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert_no_secret(&ended);
        assert!(!ended.out.contains(SECRET), "{ended:?}");
    }
    assert_eq!(told(&sim), vec![format!("http://127.0.0.1:{}/push/{SECRET}", web.1); 2]);
}

// A proxy or a firewall that lets one URL through finds the next run there too; a script may want its secret in the query.
#[test]
fn the_url_stays_the_same_from_run_to_run() {
    let sim = sim();
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().to_str().unwrap();
    let reach = reach(&sim);
    let secret =
        ["--mode", "push", "--push-secret-env", "EWSN_TEST_SECRET", "--state-dir", dir, "--for", "60s"];
    for rest in [
        ["--listen", "127.0.0.1:0", "--push-url", "http://127.0.0.1:9/ews"],
        ["--push-url", "http://127.0.0.1:9/push.php?secret=", "--option", "catch_up=true"],
    ] {
        let rest = [&secret[..], &rest].concat();
        let before = sim.stats().of("Subscribe");
        let watch = Running::start(with_secret(&line("watch", &reach, &rest)));
        assert!(sim.wait_until(DEADLINE, |stats| stats.of("Subscribe") > before));
        watch.signal(Signal::TERM);
        watch.end();
    }
    let urls =
        [format!("http://127.0.0.1:9/ews/{SECRET}"), format!("http://127.0.0.1:9/push.php?secret={SECRET}")];
    assert_eq!(told(&sim), urls);
}

// The command of `run --exec` is somebody else's program, and may print its environment.
#[test]
fn the_secret_is_not_passed_on_to_the_command() {
    let sim = sim();
    let dir = tempfile::tempdir().unwrap();
    let (state, out) = (dir.path().join("state"), dir.path().join("out"));
    let exec = format!("env > {}", out.display());
    let rest = ["--mode", "push", "--listen", "127.0.0.1:0", "--push-secret-env", "EWSN_TEST_SECRET"];
    let rest = [&rest[..], &["--state-dir", state.to_str().unwrap(), "--exec", &exec]].concat();
    let reach = reach(&sim);
    let mut running = Running::start(with_secret(&line("run", &reach, &rest)));
    running.event("Connected");
    sim.exchange().deliver(USER, &mail(1)).unwrap();
    running.event("Ran");
    running.signal(Signal::TERM);
    let ended = running.end();
    assert_no_secret(&ended);
    let env = std::fs::read_to_string(out).unwrap();
    assert!(env.contains("EWSN_ITEM_ID=") && !env.contains(SECRET), "{env}");
}

// Each text names the flag that helps, so that following it leads on and not in a circle; and it comes before a password is asked for.
#[test]
fn what_does_not_fit_together_is_refused_with_what_to_do() {
    let push = ["--mode", "push"];
    let state = ["--push-url", "https://web.example.test/ews", "--state-dir", "/nowhere"];
    for (mode, rest, words) in [
        (&push[..], &[][..], &["--listen ADDRESS:PORT", "--push-url URL", "--state-dir DIR"][..]),
        (&push, &state[..2], &["add --state-dir DIR", "--listen ADDRESS:PORT"]),
        (&push, &["--listen", "0.0.0.0:0"], &["--push-url URL"]),
        (
            &push,
            &["--option", "push_url=https://web.example.test/x"],
            &["--push-url URL", "--push-secret-env VAR"],
        ),
        (&push, &["--option", "push_secret=x"], &["--push-secret-env VAR"]),
        (
            &push,
            &["--listen", "127.0.0.1:0", "--push-secret-env", SECRET],
            &["environment", "--push-secret-env"],
        ),
        (
            &push,
            &["--listen", "127.0.0.1:0", "--push-secret-env", "EWSN_TEST_SHORT"],
            &["at least 16", "--push-secret-env"],
        ),
        (&[], &["--listen", "127.0.0.1:0"], &["--listen is for", "add --mode push"]),
        (&[], &["--option", "push_listen=127.0.0.1:0"], &["--listen is for", "add --mode push"]),
        (&["--mode", "pull"], &state, &["--push-url is for", "add --mode push"]),
        (&[], &["--push-secret-env", "EWSN_TEST_SHORT"], &["--push-secret-env is for", "add --mode push"]),
    ] {
        let start = ["watch", "--url", "127.0.0.1:1", "--user", USER];
        let mut watch = command(&[&start[..], mode, rest].concat());
        watch.env("EWSN_TEST_SHORT", "tiny");
        let ended: Ended = Running::start(watch).end();
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{rest:?}: {ended:?}");
        for word in words {
            assert!(ended.err.contains(word), "{rest:?}: {word:?} is not in {:?}", ended.err);
        }
        assert!(!ended.err.contains(SECRET) && !ended.err.contains("tiny"), "{ended:?}");
    }
}

// The server has answered all that was asked: that nothing was heard of it would send people to the wrong place.
#[test]
fn a_push_that_does_not_come_is_not_called_a_silent_server() {
    let sim = sim();
    // Whoever is there never answers.
    let wrong = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", wrong.local_addr().unwrap());
    let rest = ["--mode", "push", "--listen", "127.0.0.1:0", "--push-url", &url, "--for", "2s"];
    let ended = run(&line("watch", &reach(&sim), &rest));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("no push has come") && ended.err.contains("--push-url"), "{ended:?}");
    assert!(!ended.err.contains("nothing has been heard"), "{ended:?}");
    assert_eq!(sim.stats().of("Subscribe"), 1);
}
