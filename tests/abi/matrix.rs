//! What hosts do to a library beside calling it: fork, signals, exits without a word, threads that wait at the end, unloading.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use rustix::process::Signal;

use super::hosts::{ADA, Host, host, mail, options, python};
use super::{count, program};

fn sim() -> Sim {
    Sim::builder().user(ADA, "secret").start().unwrap()
}

/// A child that was forked (Python's multiprocessing) would wait for ever, or end the parent's connections.
#[test]
fn a_child_forked_by_python_is_refused_and_does_no_harm() {
    let (sim, dir) = (sim(), tempfile::tempdir().unwrap());
    let mut command = python();
    command.arg(program("fork.py")).arg(options(&sim).to_string()).arg(dir.path().join("state"));
    lives_on(&sim, &mut command);
}

/// The same with PHP, whose destructors run in the child.
#[test]
fn a_child_forked_by_php_is_refused_and_does_no_harm() {
    let sim = sim();
    lives_on(&sim, host("php").arg(program("fork.php")).arg(options(&sim).to_string()));
}

fn lives_on(sim: &Sim, command: &mut Command) {
    let mut host = Host::start(command);
    host.until("ready");
    let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], id.as_str());
    assert!(host.end().success());
}

/// A worker that is told to end, or a user's Ctrl-C, would wait until a mail comes.
#[test]
fn a_signal_ends_a_wait_of_a_minute() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut php = host("php");
        php.arg(program("until_signal.php"));
        let mut py = python();
        py.arg(program("until_signal.py"));
        for (name, mut command) in [("PHP", php), ("Python", py)] {
            let mut host = Host::start(&mut command);
            host.until("waiting");
            waits_in_poll(host.pid());
            let began = Instant::now();
            host.signal(signal);
            let status = host.end();
            let took = began.elapsed();
            assert_eq!(status.code(), Some(7), "{name} {signal:?}: {status}");
            // The figure is in the bench; this is only far less than the minute.
            assert!(took < Duration::from_secs(10), "{name} {signal:?}: {took:?}");
        }
    }
}

/// Until the process is in `poll(2)`: a signal before that meets the host's own code.
pub fn waits_in_poll(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(30);
    // poll and ppoll of x86-64, ppoll of others.
    let polls = ["7 ", "271 ", "73 "];
    loop {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).expect("of our own child");
        if polls.iter().any(|poll| call.starts_with(poll)) {
            return;
        }
        assert!(Instant::now() < deadline, "it does not wait in poll: {call}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn exits(times: u64, mut command: impl FnMut() -> Command) {
    for round in 0..times {
        let output = command().stderr(Stdio::piped()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(7), "{round}: {}: {out}{err}", output.status);
        assert_eq!(err, "", "{round}");
    }
}

/// A PHP script that ends in the middle would crash at its end, now and then.
#[test]
fn php_exits_without_closing() {
    let sim = sim();
    let script = "require getenv('EWSNOTIFY_WRAPPER'); $c = Ewsnotify\\Client::open(json_decode($argv[1], true)); $c->watch(); \
                  do { $e = $c->next(10000); } while ($e === null || $e['type'] !== 'Connected'); exit(7);";
    exits(count("EWSN_EXITS", 60), || {
        let mut command = host("php");
        command.args(["-r", script, "--"]).arg(options(&sim).to_string());
        command
    });
}

/// The same without the wrapper, whose destructor frees the client.
#[test]
fn php_exits_without_freeing() {
    let sim = sim();
    let script = "$f = FFI::cdef(file_get_contents(getenv('EWSNOTIFY_HEADER')), 'libewsnotify.so.0.1'); \
                  $c = $f->ewsn_open_json($argv[1]); $f->ewsn_watch_json($c, null); \
                  while (!str_contains($f->ewsn_next_json($c, 10000) ?? exit(1), '\"Connected\"')); exit(7);";
    exits(count("EWSN_EXITS", 60), || {
        let mut command = host("php");
        command.args(["-r", script, "--"]).arg(options(&sim).to_string());
        command
    });
}

const CONNECTS: &str = "import ewsnotify, json, os, sys, threading\n\
                        c = ewsnotify.Client(**json.loads(sys.argv[1]))\nc.watch()\n\
                        while c.next()['type'] != 'Connected': pass\n";

fn python_exits(rest: &str) {
    let sim = sim();
    exits(count("EWSN_EXITS", 60), || {
        let mut command = python();
        command.arg("-c").arg(format!("{CONNECTS}{rest}")).arg(options(&sim).to_string());
        command
    });
}

/// The same with Python, with the client kept where nothing frees it.
#[test]
fn python_exits_without_closing() {
    python_exits("ewsnotify.Client.__del__ = lambda c: None\nsys.exit(7)");
}

/// A thread that waits when the interpreter ends would bring it down.
#[test]
fn python_exits_with_a_thread_that_waits() {
    python_exits(
        "def wait():\n    while True: c.next(60)\n\
         def poll():\n    while True: c.next(0)\n\
         for f in (wait, poll): threading.Thread(target=f, daemon=True).start()\nsys.exit(7)",
    );
}

/// PHP lets the library go as soon as its FFI object goes: our threads would run on nothing.
#[test]
fn php_may_let_the_library_go_while_it_works() {
    for _ in 0..10 {
        let sim = sim();
        let mut host = Host::start(host("php").arg(program("unload.php")).arg(options(&sim).to_string()));
        host.until("unloaded");
        let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
        assert_eq!(host.until("NewMail")["item_id"], id.as_str());
        assert_eq!(host.end().code(), Some(7));
    }
}

/// Calls without number (a worker that runs for months) would grow: in each of three rounds, where an allocator takes some once.
#[test]
fn many_calls_cost_no_memory() {
    let script = "import ewsnotify\n\
                  rss = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])\n\
                  c = ewsnotify.Client()\nc.on_event(print)\n\
                  at = []\nfor i in range(12001):\n    c.next(0); c.status(); c.dispatch(0)\n\
                  \x20   if i in (2000, 5333, 8666, 12000): at.append(rss())\n\
                  grown = min(b - a for a, b in zip(at, at[1:]))\nassert grown < 100, at";
    let output = python().arg("-c").arg(script).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let script = "require getenv('EWSNOTIFY_WRAPPER'); $c = Ewsnotify\\Client::open(); $c->onEvent(fn () => null); \
                  $rss = fn () => (int) preg_replace('/.*VmRSS:\\s*(\\d+).*/s', '$1', file_get_contents('/proc/self/status')); \
                  $at = []; for ($i = 0; $i <= 12000; ++$i) { $c->next(0); $c->status(); $c->dispatch(0); \
                  if ($i === 2000) { $heap = memory_get_usage(); } \
                  if (in_array($i, [2000, 5333, 8666, 12000])) { $at[] = $rss(); } } \
                  $grown = min($at[1] - $at[0], $at[2] - $at[1], $at[3] - $at[2]); $heap = memory_get_usage() - $heap; \
                  if ($grown >= 100 || $heap > 10000) { fwrite(STDERR, \"$grown KiB, $heap B of PHP's\"); exit(1); }";
    let output = host("php").args(["-r", script]).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
