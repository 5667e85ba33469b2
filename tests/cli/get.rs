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

// What is attached, byte for byte: a file, and a message that was forwarded as such.
#[test]
fn an_attachment() {
    let sim = sim();
    let inner = "Subject: inner\r\n\r\nInner text";
    let mail = format!(
        "Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
         Content-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nAAECAwT/\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--b--\r\n"
    );
    let id = sim.exchange().deliver(USER, mail.as_bytes()).unwrap();
    let reach = reach(&sim);
    let json = run(&line("get", &reach, &["--id", &id])).json().remove(0);
    let attachments = json["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 2, "{json}");
    let get = |n: usize| {
        let id = attachments[n]["id"].as_str().unwrap();
        let got = command(&line("get", &reach, &["--attachment", id])).output().unwrap();
        assert_eq!(got.status.code(), Some(0), "{got:?}");
        got.stdout
    };
    assert_eq!(get(0), [0, 1, 2, 3, 4, 255]);
    assert_eq!(String::from_utf8_lossy(&get(1)).trim_end(), inner);

    let ended = run(&line("get", &reach, &["--attachment", "nobody"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("ErrorInvalidAttachmentId") && ended.out.is_empty(), "{ended:?}");
    for bad in [&["--attachment", "x", "--id", "y"][..], &[][..]] {
        assert_eq!(run(&line("get", &reach, bad)).code, Some(2), "{bad:?}");
    }
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
