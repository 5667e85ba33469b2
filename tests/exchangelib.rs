//! exchangelib (PyPI), a client that we did not write, works against the simulator over TLS.
//!
//! The simulator is the double that all other tests trust: if it spoke a dialect of our own, they would prove nothing.
//! `tests/run` makes the Python environment; without it the test says so and passes.
#![cfg(feature = "sim")]

#[path = "common/beside.rs"]
mod beside;

use std::path::PathBuf;
use std::process::Command;

use ewsnotify::proto::PushReply;
use ewsnotify::proto::autodiscover::write_user_settings;
use ewsnotify::sim::Sim;
use ewsnotify::sim::exchange::Guide;
use ewsnotify::{Client, Options};

const USER: &str = "ada@example.test";

/// Who develops against the simulator with another client would meet errors that no Exchange makes.
#[test]
fn exchangelib_subscribes_fetches_syncs_and_gets_the_errors_it_expects() {
    let Some(python) = python() else {
        beside::untested("EWSN_PYTHON names no Python with exchangelib; tests/run makes one");
        return;
    };
    let sim = Sim::builder().user(USER, "geheim & <mehr>").start().unwrap();
    let guide = |address: &str, guide| sim.exchange().guide(address, guide);
    guide("moved@example.test", Guide::RedirectAddress("ada@mail.example.test".into()));
    let svc = "https://mail.example.test/autodiscover/autodiscover.svc";
    guide("elsewhere@example.test", Guide::RedirectUrl(svc.into()));
    let mut options = Options::new();
    let secret = "0123456789abcdef";
    options.set("push_listen", "127.0.0.1:0").unwrap().set("push_secret", secret).unwrap();
    let receiver = Client::open(&options).unwrap();
    let url = format!("http://{}/{secret}", receiver.push_address().unwrap());
    let out = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exchangelib_client.py"))
        .args([sim.url(), USER, "geheim & <mehr>", &url, PushReply::Ok.body()])
        .env("REQUESTS_CA_BUNDLE", sim.ca_file().unwrap())
        .env("PYTHONIOENCODING", "utf-8")
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .output()
        .unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "exchangelib failed after:\n{said}\nwith:\n{wrong}");
    for line in [
        "event: CopiedEvent",
        "event: CreatedEvent",
        "event: DeletedEvent",
        "event: FreeBusyChangedEvent",
        "event: ModifiedEvent",
        "event: MovedEvent",
        "event: NewMailEvent",
        "item: by the id of its event",
        "sync: create, read_flag_change, delete",
        "unsubscribed",
        "push: a status, then events that go on from it",
        "push: unsubscribed by the answer",
        "push: our receiver's replies",
        "sync: pages, moves, deletions, a moved folder, a bad state",
        "refused: a bad and a dead item id",
        "refused: a wrong password: UnauthorizedError",
        "autodiscover: Exchange2013_SP1",
        "autodiscover: redirect_address ada@mail.example.test",
        "autodiscover: redirect_url https://mail.example.test/autodiscover/autodiscover.svc",
        "autodiscover: nobody is not known",
        "autodiscover: each of several gets its own answer",
        "all done",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} is missing in:\n{said}");
    }
    assert_eq!(sim.exchange().subscriptions(USER), [""; 0], "all was given back");
    // And it asks for several mailboxes in our words.
    let users = |body: &[u8]| {
        let text = String::from_utf8_lossy(body).into_owned();
        let (_, users) = text.split_once("<a:Users>").unwrap();
        users.split_once("</a:Users>").unwrap().0.to_owned()
    };
    let several = [USER, "nobody@example.test", "moved@example.test"];
    let ours = users(&write_user_settings(&several, svc).unwrap());
    let asked = sim.requests().into_iter().rev().find(|r| r.operation == "GetUserSettings").unwrap();
    assert_eq!(users(&asked.body), ours);
}

/// The Python that `tests/run` made. Where that is not set, the test cannot be made; where it is, it must work.
fn python() -> Option<PathBuf> {
    std::env::var_os("EWSN_PYTHON").map(PathBuf::from)
}
