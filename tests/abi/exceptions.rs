//! Handlers that fail.

use super::hosts::{ADA, Host, host, mail, options, python};

use ewsnotify::sim::Sim;

const PYTHON: &str = r#"
import json, sys, ewsnotify
with ewsnotify.Client(**json.loads(sys.argv[1])) as client:
    client.watch()
    for event in client:
        print(json.dumps(event), flush=True)
        if event["type"] == "NewMail":
            if sys.argv[2] == "fails":
                raise OSError("the disk is full")
            break
"#;

const PHP: &str = r#"
require getenv('EWSNOTIFY_WRAPPER');
$client = Ewsnotify\Client::open(json_decode($argv[1], true));
$client->watch();
while ($event = $client->next(60000)) {
    echo json_encode($event), "\n";
    if ($event['type'] === 'NewMail') {
        if ($argv[2] === 'fails') {
            fwrite(STDERR, 'the disk is full');
            throw new Exception('the disk is full');
        }
        break;
    }
}
$client->close();
"#;

/// A mail whose handler failed would never be told again: closing on the way out would acknowledge it. And one that was dealt with last
/// before an orderly end would be told at each start.
#[test]
fn what_an_exception_has_interrupted_is_told_again() {
    for (program, arguments) in [("python", ["-c", PYTHON]), ("php", ["-r", PHP])] {
        let sim = Sim::builder().user(ADA, "secret").start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(&sim);
        options["state_dir"] = dir.path().to_str().unwrap().into();
        let run = |way: &str| {
            let mut command = if program == "php" { host("php") } else { python() };
            // What it says of its failure is wanted, and no part of the test's own output.
            command.args(arguments).args([&options.to_string(), way]).stderr(std::process::Stdio::null());
            Host::start(&mut command)
        };
        let mut first = run("fails");
        first.until("Connected");
        let one = sim.exchange().deliver(ADA, &mail(1)).unwrap();
        assert_eq!(first.until("NewMail")["item_id"], one.as_str(), "{program}");
        assert!(!first.end().success(), "{program}");
        for way in ["fails", "deals with it"] {
            let mut again = run(way);
            assert_eq!(again.until("NewMail")["item_id"], one.as_str(), "{program}, {way}");
            assert_eq!(again.end().success(), way != "fails", "{program}");
        }
        let mut last = run("deals with it");
        last.until("Connected");
        let two = sim.exchange().deliver(ADA, &mail(2)).unwrap();
        assert_eq!(last.until("NewMail")["item_id"], two.as_str(), "{program}");
        assert!(last.end().success(), "{program}");
        let mut after = run("deals with it");
        after.until("Connected");
        let three = sim.exchange().deliver(ADA, &mail(3)).unwrap();
        assert_eq!(after.until("NewMail")["item_id"], three.as_str(), "{program}");
        assert!(after.end().success(), "{program}");
    }
}
