//! exchangelib (PyPI), a client that we did not write, works against the simulator over TLS.
//!
//! The simulator is the double that all other tests trust: if it spoke a dialect of our own, they would prove nothing.
//! `.ci/exchangelib` makes the Python environment; without one that has exchangelib the test says so and passes.
#![cfg(feature = "sim")]

use std::path::PathBuf;
use std::process::Command;

use ewsnotify::sim::Sim;

const USER: &str = "ada@example.test";

/// Who develops against the simulator with another client would meet errors that no Exchange makes.
#[test]
fn exchangelib_subscribes_fetches_syncs_and_gets_the_errors_it_expects() {
    let Some(python) = python() else {
        eprintln!("no Python with exchangelib here (run .ci/exchangelib): not tested");
        return;
    };
    let sim = Sim::builder().user(USER, "geheim & <mehr>").start().unwrap();
    let out = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exchangelib_client.py"))
        .args([sim.url(), USER, "geheim & <mehr>"])
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
        "refused: a bad and a dead item id",
        "refused: a wrong password: UnauthorizedError",
        "all done",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} is missing in:\n{said}");
    }
    assert_eq!(sim.exchange().subscriptions(USER), [""; 0], "all was given back");
}

/// The environment that `.ci/exchangelib` made, or any Python that has exchangelib.
fn python() -> Option<PathBuf> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let own = target.parent()?.join("exchangelib/bin/python");
    let set = std::env::var_os("EWSN_PYTHON").map(PathBuf::from);
    let has = |python: &PathBuf| {
        Command::new(python).args(["-c", "import exchangelib"]).output().is_ok_and(|out| out.status.success())
    };
    set.into_iter().chain([own, PathBuf::from("python3")]).find(has)
}
