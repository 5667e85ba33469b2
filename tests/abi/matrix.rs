//! What hosts do to a library beside calling it: fork, signals, exits without a word, threads that wait at the end, `longjmp`.

use std::process::Stdio;

use ewsnotify::sim::Sim;
use serde_json::json;

use super::hosts::{ADA, Host, compile, host, mail, python};
use super::program;

fn options(sim: &Sim) -> String {
    json!({ "url": sim.url(), "ca_file": sim.ca_file().unwrap(), "user": ADA, "password": "secret", "events": "NewMail" })
        .to_string()
}

/// A child that was forked (PHP-FPM, Python's multiprocessing) would wait for ever, or end the parent's connections.
#[test]
fn a_forked_child_is_refused_and_does_no_harm() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let mut host = Host::start(python().arg(program("fork.py")).arg(options(&sim)));
    host.until("ready");
    let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], id.as_str());
}

/// A host that ends in the middle would crash at its end, now and then.
#[test]
fn hosts_end_without_closing() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let wrapper = super::example("php/Ewsnotify.php");
    let php = format!(
        "require {:?}; $c = Ewsnotify\\Client::open(json_decode($argv[1], true)); $c->watch(); \
         do {{ $e = $c->next(10000); }} while ($e === null || $e['type'] !== 'Connected'); exit(7);",
        wrapper.to_str().unwrap()
    );
    let script = "import ewsnotify, json, sys, threading\n\
                  c = ewsnotify.Client(**json.loads(sys.argv[1]))\nc.watch()\n\
                  while c.next()['type'] != 'Connected': pass\n\
                  threading.Thread(target=lambda: c.next(60), daemon=True).start()\nsys.exit(7)";
    for round in 0..super::count("EWSN_EXITS", 24) {
        let mut command = if round % 2 == 0 {
            let mut command = host("php");
            command.arg("-r").arg(&php).arg("--");
            command
        } else {
            let mut command = python();
            command.arg("-c").arg(script);
            command
        };
        let output = command.arg(options(&sim)).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{round}: {output:?}");
    }
}

/// Calls without number (a worker that runs for months) would grow.
#[test]
fn many_calls_cost_no_memory() {
    let script = "import ewsnotify\n\
                  rss = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])\n\
                  c = ewsnotify.Client()\n\
                  for i in range(20000):\n    c.next(0); c.status()\n    if i == 2000: before = rss()\n\
                  grown = rss() - before\nassert grown < 300, grown";
    let output = python().arg("-c").arg(script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A callback that leaves the C way would leave the client locked.
#[test]
fn a_callback_may_leave_close_and_free() {
    let dir = tempfile::tempdir().unwrap();
    let leave = compile("cc", &program("leave.c"), &["-std=gnu99"], dir.path());
    let output = host(leave).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Memory of the host's would be read after it was freed, or never freed.
#[test]
fn sanitizers_and_valgrind_find_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let leave = compile("cc", &program("leave.c"), &["-std=gnu99", "-g"], dir.path());
    let output = std::process::Command::new("valgrind")
        .args([
            "--error-exitcode=9",
            "--leak-check=full",
            "--show-leak-kinds=definite,indirect",
            "--errors-for-leak-kinds=definite,indirect",
        ])
        .arg(&leave)
        .env("LD_LIBRARY_PATH", super::soname_folder(dir.path()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("ERROR SUMMARY: 0 errors"), "{log}");

    let flags = ["-std=gnu99", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let asan = compile("cc", &program("leave.c"), &flags, dir.path());
    let output = std::process::Command::new(&asan)
        .env("LD_LIBRARY_PATH", super::soname_folder(dir.path()))
        .env("ASAN_OPTIONS", "detect_leaks=0:verbosity=1")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("AddressSanitizer Init done"), "the sanitizer is not linked: {log}");
}
