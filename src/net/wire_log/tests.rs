use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::channel;

use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::auth::Secret;

fn shown_head(first: &str, headers: &[(&'static str, &str)]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    head(first, &map)
}

// A wire log is sent to whoever helps: with it would go the password, the session and the mailbox.
#[test]
fn heads_are_shown_without_what_signs_in() {
    let text = shown_head(
        "GET https://h.test/cb?code=AQAB-1&state=xyz HTTP/1.1",
        &[
            ("proxy-authorization", "Basic dXNlcjpodW50ZXIy"),
            ("cookie", "exchangecookie=ab12cd34; X-BackEndOverrideCookie=mbx01~19"),
            ("set-cookie", "cadata=QUJDREVGRw; path=/; HttpOnly"),
            ("www-authenticate", "NTLM TlRMTVNTUAACAAAA"),
            ("www-authenticate", "Negotiate oYGbMIGYoAMK"),
            ("www-authenticate", "Basic realm=\"h.test\""),
            ("x-backendoverridecookie", "mbx01~1941"),
            ("location", "/login?refresh_token=0.AAAA&x=1#top"),
            ("content-type", "text/xml"),
        ],
    );
    let wanted = "GET https://h.test/cb?code=***&state=xyz HTTP/1.1\nproxy-authorization: Basic ***\n\
                  cookie: exchangecookie=***; X-BackEndOverrideCookie=***\nset-cookie: cadata=***\n\
                  www-authenticate: NTLM ***\nwww-authenticate: Negotiate ***\nwww-authenticate: Basic realm=\"h.test\"\n\
                  x-backendoverridecookie: ***\nlocation: /login?refresh_token=***&x=1#top\ncontent-type: text/xml";
    assert_eq!(text, wanted);
    assert_eq!(signature("Authorization", "Bearer eyJ0"), "\nAuthorization: Bearer ***");
    assert_eq!(signature("Authorization", "eyJ0"), "\nAuthorization: ***");
    assert_eq!(signature("Cookie", "a=b"), "\nCookie: a=***");
}

// What goes to a proxy, and what a server posts to us, is bytes: a value that goes on in a further line must not go on in the log.
#[test]
fn raw_heads_are_shown_as_others() {
    let head =
        b"CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\nPROXY-Authorization:Basic dXNlcjpodW50ZXIy\r\n \
                 aHVudGVyMg: x\r\naHVudGVyMg\r\n\r\nhunter2";
    let wanted =
        "CONNECT h.test:443 HTTP/1.1\nHost: h.test:443\nPROXY-Authorization: Basic ***\n  ***\n  ***";
    assert_eq!(*raw_head(head), wanted);
}

// The same of bodies: of token endpoints, of a push subscription, and what is in a mail.
#[test]
fn bodies_are_shown_without_tokens_and_mails() {
    let show = |kind, text: &str| body(Some(kind), text.as_bytes(), text.len() as u64);
    let form =
        "grant_type=refresh_token&refresh_token=0.AX%2F&client_id=7&client_secret=s~3&device_code=G&code=1";
    let wanted =
        "grant_type=refresh_token&refresh_token=***&client_id=7&client_secret=***&device_code=***&code=***";
    assert_eq!(show("application/x-www-form-urlencoded; charset=utf-8", form), wanted);
    let json = r#"{"token_type":"Bearer","access_token" : "ey\"J0","id_token":7,"a":{"refresh_token":"0.AX"},"scope":"x"}"#;
    let wanted = r#"{"token_type":"Bearer","access_token": "***","id_token": "***","a":{"refresh_token": "***"},"scope":"x"}"#;
    assert_eq!(show("application/json", json), wanted);
    // Wherever it is cut off, and whatever its type is said to be.
    for end in 0..json.len() {
        let cut = show("text/plain", &json[..end]);
        assert!(!cut.contains("J0") && !cut.contains("0.AX") && !cut.contains(":7"), "{cut}");
    }
    let push =
        "<m:PushSubscriptionRequest><t:URL>https://web.test/hook/7fd2</t:URL></m:PushSubscriptionRequest>";
    assert!(show("text/xml", push).contains("<t:URL>***</t:URL>"));
    let mime = format!("<t:MimeContent>{}</t:MimeContent><t:Subject>Hi</t:Subject>", "QUJD".repeat(5000));
    let text = show("text/xml", &mime);
    assert!(text.len() < 200 && text.contains("\u{2026}(20000 bytes)<") && text.contains("Hi"), "{text}");
    let long = "<a/>".repeat(100_000);
    let text = show("text/xml", &long);
    assert!(text.len() < MAX_BODY + 100 && text.ends_with("\u{2026}(and 334464 bytes)"), "{}", text.len());
}

// What is written down of a stream must come while it goes on, and nothing of it in two.
#[test]
fn a_stream_is_shown_up_to_the_last_tag() {
    let mut coming = Coming::new(Some("text/xml"));
    coming.add(b"<a>hunt");
    assert_eq!(*coming.take_whole().unwrap(), "<a>");
    coming.add(b"er2");
    assert_eq!(coming.take_whole(), None);
    coming.add(b"</a><b");
    assert_eq!(*coming.take_whole().unwrap(), "hunter2</a>");
    assert_eq!(*coming.take().unwrap(), "<b");
    assert_eq!(coming.take(), None);
}

// A server's line must not pass for one of ours, nor steer a terminal; others must not read the file.
#[test]
fn the_file_is_the_owners_and_its_entries_cannot_be_forged() {
    let dir = tempfile::tempdir().unwrap();
    let (path, log, secrets) = (dir.path().join("wire.log"), WireLog::default(), Secrets::default());
    let password = Secret::new("correct horse");
    secrets.add(&password);
    fs::write(&path, "before\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    log.say(&secrets, 1, Way::Out, "not yet", "");
    log.write_to(Some(&path)).unwrap();
    log.say(&secrets, 7, Way::In, "HTTP/1.1 200 OK", "you sent correct horse\n2026 8 > forged\x1b[2J\r\nend");
    log.write_to(None).unwrap();
    log.say(&secrets, 1, Way::Out, "no more", "");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [before, first, rest @ ..] = &lines[..] else { panic!("{text}") };
    assert_eq!(*before, "before");
    assert!(first.ends_with("Z 7 < HTTP/1.1 200 OK"), "{first}");
    assert_eq!(rest, ["  you sent ***", "  2026 8 > forged\\u{1b}[2J", "  end"]);
}

// A log that nobody looks at would fill the disk.
#[test]
fn a_large_file_makes_room_for_a_new_one_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, log, secrets) = (dir.path().join("wire.log"), WireLog::default(), Secrets::default());
    log.write_to(Some(&path)).unwrap();
    let line = format!("{}\n", "x".repeat(1023)).repeat(1024);
    for _ in 0..40 {
        log.say(&secrets, 1, Way::In, "(body)", &line);
    }
    log.say(&secrets, 1, Way::In, "the last", "");
    log.write_to(None).unwrap();
    let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap();
    let most = MAX_FILE + (2 << 20);
    assert!(size("wire.log.1").len() >= MAX_FILE && size("wire.log.1").len() < most);
    assert!(size("wire.log").len() < most && size("wire.log").permissions().mode() & 0o777 == 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(fs::read_to_string(&path).unwrap().ends_with("the last\n"));
}

// A full disk must not stop a watch, nor be told with each request.
#[test]
fn a_full_disk_is_told_once_and_turns_it_off() {
    if !Path::new("/dev/full").exists() {
        eprintln!("there is no /dev/full here: not tried");
        return;
    }
    let (log, secrets) = (WireLog::default(), Secrets::default());
    let (send, told) = channel();
    log.on_trouble(move |e| send.send(e.to_string()).unwrap());
    log.write_to(Some(Path::new("/dev/full"))).unwrap();
    for _ in 0..3 {
        log.say(&secrets, 1, Way::Out, "POST", "");
    }
    let told: Vec<String> = told.try_iter().collect();
    assert!(told.len() == 1 && told[0].contains("/dev/full") && told[0].contains("it is off"), "{told:?}");
    assert!(!log.is_on());
    // It can be turned on again.
    let dir = tempfile::tempdir().unwrap();
    log.write_to(Some(&dir.path().join("wire.log"))).unwrap();
    log.say(&secrets, 1, Way::Out, "POST", "");
    assert!(fs::read_to_string(dir.path().join("wire.log")).unwrap().contains("POST"));
}

// A disk that hangs would hold up every stream of the client.
#[test]
fn who_does_not_write_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (path, log) = (dir.path().join("pipe"), Arc::new(WireLog::default()));
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let mut reader = File::options().read(true).write(true).open(&path).unwrap();
    log.write_to(Some(&path)).unwrap();
    let large = "x".repeat(1 << 20);
    let writer = std::thread::spawn({
        let log = log.clone();
        move || log.say(&Secrets::default(), 1, Way::In, "large", &large)
    });
    // Its first bytes are there, so it writes, and it cannot end: a pipe holds less.
    let mut first = [0; 16];
    reader.read_exact(&mut first).unwrap();
    for n in 0..100 {
        log.say(&Secrets::default(), 2, Way::In, &format!("small {n}"), "");
    }
    // Too much of it is left out, and counted.
    let huge = "y".repeat(MAX_QUEUE);
    log.say(&Secrets::default(), 2, Way::In, &huge, "");
    let mut text = String::from_utf8_lossy(&first).into_owned();
    let mut piece = vec![0; 1 << 16];
    while !text.ends_with("the disk was too slow\n") {
        let n = reader.read(&mut piece).unwrap();
        text.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    writer.join().unwrap();
    assert!(text.contains("small 99\n") && text.contains("1 entries are left out"), "{}", text.len());
}
