//! `get`, against a simulator over TLS.

use crate::support::{Running, USER, assert_no_secret, command, line, reach, run, sim};

const MAIL: &[u8] =
    b"From: Bob <bob@example.test>\r\nTo: ada@example.test\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
Message-ID: <1@example.test>\r\n\r\nHello\r\n";

// The id of an event leads to its item: the summary, or the very bytes that were sent. Nothing is subscribed to.
#[test]
fn an_item_as_json_and_as_mime() {
    let sim = sim();
    let id = sim.exchange().deliver(USER, MAIL).unwrap();
    let reach = reach(&sim);
    let ended = run(&line("get", &reach, &["--id", &id]));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    let json = &ended.json()[0];
    assert_eq!(json["item_id"], id);
    assert_eq!(
        (&json["subject"], &json["from"]),
        (&"Grüße".into(), &"Bob <bob@example.test>".into()),
        "{json}"
    );
    assert_eq!(json["message_id"], "<1@example.test>");

    let mime = command(&line("get", &reach, &["--id", &id, "--mime"])).output().unwrap();
    assert_eq!(mime.status.code(), Some(0), "{mime:?}");
    assert_eq!(String::from_utf8_lossy(&mime.stdout), String::from_utf8_lossy(MAIL));
    assert_eq!(sim.stats().of("Subscribe"), 0);
    assert!(sim.stats().of("GetItem") >= 2);
}

#[test]
fn what_fails_is_told_by_the_exit_code() {
    let sim = sim();
    let reach = reach(&sim);
    let id = sim.exchange().deliver(USER, MAIL).unwrap();
    let ended = run(&line("get", &reach, &["--id", "bm8gc3VjaCBpdGVt"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.starts_with("ewsnotify: ") && ended.err.contains("Error"), "{ended:?}");
    assert_no_secret(&ended);

    let mut wrong = command(&line("get", &reach, &["--id", &id]));
    wrong.env("EWSN_TEST_PASSWORD", "wr0ng");
    let ended = Running::start(wrong).end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(!ended.err.contains("wr0ng"), "{ended:?}");
}
