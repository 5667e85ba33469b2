//! A host that forks.

use rustix::process::{Pid, test_kill_process};

use crate::host::{Host, Part, deliver, server};

// A daemon forks helpers. The helper's copy of the client must not disturb the daemon's; and when the daemon is killed, a
// helper that lives on must not keep its restart out, nor cost a mail.
#[test]
fn a_child_disturbs_nothing_and_keeps_nobody_out() {
    let sim = server();
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&sim, dir.path(), Part::Fork);
    let said = host.until("child");
    let words: Vec<&str> = said.split(' ').collect();
    assert_eq!(words[2], "Locked", "the directory is its parent's: {said}");
    let child = Pid::from_raw(words[1].parse().unwrap()).unwrap();

    // It has dropped its copy, and the parent goes on, on the same stream.
    let first = deliver(&sim, 1);
    assert_eq!(host.until("done"), format!("done {first}"));
    assert_eq!(sim.stats().of("GetStreamingEvents"), 1);

    let input = host.kill_and_leave();
    test_kill_process(child).expect("the child lives");
    let second = deliver(&sim, 2);
    let host = Host::start(&sim, dir.path(), Part::Work);
    assert_eq!(host.until("done"), format!("done {second}"));
    test_kill_process(child).expect("the child lives");
    drop(input);
    host.end();
}
