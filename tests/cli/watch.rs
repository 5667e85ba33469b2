//! `watch`, against a simulator over TLS.

use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

use ewsnotify::sim::server::fault::{Action, Fault};
use rustix::process::Signal;

use crate::support::{
    DEADLINE, PASSWORD, Running, Terminal, USER, assert_no_secret, command, line, reach, run, sim,
};

const MAIL: &[u8] = b"From: =?utf-8?Q?J=C3=B6rg?= <joerg@example.test>\r\nSubject: Hello\r\n\r\nWorld\r\n";

// A program that reads the lines must see a mail in each mode, and must be able to stop the command without an error.
#[test]
fn tells_in_json_in_each_mode_and_ends_with_0_on_a_signal() {
    for (mode, signal) in [("streaming", Signal::INT), ("pull", Signal::TERM), ("push", Signal::INT)] {
        let sim = sim();
        let reach = reach(&sim);
        let mut rest =
            vec!["--mode", mode, "--fetch", "summary", "--event", "NewMail", "--option", "pull_interval=0s"];
        if mode == "push" {
            rest.extend(["--listen", "127.0.0.1:0"]);
        }
        let mut watch = Running::start(command(&line("watch", &reach, &rest)));
        watch.event("Connected");
        sim.exchange().deliver(USER, MAIL).unwrap();
        let told = watch.event("NewMail");
        assert_eq!(told["subject"], "Hello", "{told}");
        assert_eq!(told["from"], "Jörg <joerg@example.test>", "{told}");
        assert_eq!(told["mailbox"], USER, "{told}");
        assert_eq!(told["content"], "ok", "{told}");
        watch.signal(signal);
        let ended = watch.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.err, "", "{mode}");
        assert_eq!(ended.json().last().unwrap()["type"], "Closed", "{ended:?}");
        assert_no_secret(&ended);
    }
}

// Without --event all kinds are told, without --fetch only ids, and --for ends it.
#[test]
fn tells_all_kinds_by_default_and_ends_in_time() {
    let sim = sim();
    let reach = reach(&sim);
    let mut watch = Running::start(command(&line("watch", &reach, &["--json"])));
    watch.event("Connected");
    sim.exchange().deliver(USER, MAIL).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    while kinds.len() < 3 {
        let event = watch.json(|event| event["item_id"].is_string() || event["folder_id"].is_string());
        assert!(event.get("subject").is_none(), "{event}");
        kinds.insert(event["type"].as_str().unwrap().to_owned());
    }
    assert!(kinds.contains("NewMail") && kinds.contains("Created"), "{kinds:?}");
    drop(watch);

    // On a machine that is too slow for a connection in that time it says so.
    let ended = run(&line("watch", &reach, &["--for", "5s"]));
    let connected = ended.json().iter().any(|event| event["type"] == "Connected");
    assert_eq!(ended.code, Some(if connected { 0 } else { 1 }), "{ended:?}");
}

// Mail that a rule has put into some folder comes too, with the message itself.
#[test]
fn all_folders_with_their_messages_in_pull_mode() {
    let sim = sim();
    sim.exchange().create_folder(USER, "inbox", "Rules").unwrap();
    let reach = reach(&sim);
    let rest = [
        "--all-folders",
        "--mode",
        "pull",
        "--fetch",
        "mime",
        "--event",
        "NewMail",
        "--option",
        "pull_interval=0s",
    ];
    let mut watch = Running::start(command(&line("watch", &reach, &rest)));
    watch.event("Connected");
    let id = sim.exchange().deliver_into(USER, "Inbox/Rules", MAIL).unwrap();
    let told = watch.event("NewMail");
    assert_eq!((told["item_id"].as_str(), &told["content"]), (Some(&*id), &"ok".into()), "{told}");
    let path = std::path::PathBuf::from(told["mime_path"].as_str().unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), MAIL);
    watch.signal(Signal::INT);
    assert_eq!(watch.end().code, Some(0));
    assert!(!path.exists(), "what was private goes at the end");
    assert_eq!(sim.stats().of("GetStreamingEvents"), 0);
}

// Somebody at a terminal sees a line an event and how the connection is; what a sender wrote cannot move the cursor.
#[test]
fn at_a_terminal_it_is_readable_and_harmless() {
    let sim = sim();
    let reach = reach(&sim);
    let rest = ["--fetch", "summary", "--event", "NewMail"];
    let mut watch = Terminal::start(command(&line("watch", &reach, &rest)));
    watch.until("Connected");
    // ESC ] 0 ; … BEL sets the window's title; U+009B begins an escape sequence too; U+202E turns the direction round.
    let subject = "=?utf-8?B?G10wO293bmVkB8KbMzFtIOKArmV4ZS50eHQ=?=";
    let mime = format!("From: eve@example.test\r\nSubject: {subject} end\r\n\r\n.\r\n");
    sim.exchange().deliver(USER, mime.as_bytes()).unwrap();
    watch.until("exe.txt");
    watch.until("●\x1b[0m open for");
    watch.signal(Signal::INT);
    let (code, screen) = watch.end();
    assert_eq!(code, Some(0), "{screen:?}");
    assert!(screen.contains("eve@example.test"), "{screen:?}");
    assert!(screen.contains("\x1b[1mNewMail"), "coloured: {screen:?}");
    for evil in ["\x1b]0;", "\u{9b}", "\u{202e}", "\x07"] {
        assert!(!screen.contains(evil), "{evil:?} in {screen:?}");
    }
    assert!(!screen.contains('{') && !screen.contains(PASSWORD), "{screen:?}");
}

// In pull mode there is no connection to tell of, but how it stands with the mailbox.
#[test]
fn at_a_terminal_pull_mode_has_its_line_too() {
    let sim = sim();
    let reach = reach(&sim);
    let mut watch = Terminal::start(command(&line("watch", &reach, &["--mode", "pull"])));
    watch.until(&format!("●\x1b[0m connected, {USER}"));
    watch.signal(Signal::INT);
    let (code, screen) = watch.end();
    assert_eq!(code, Some(0), "{screen:?}");
}

#[test]
fn at_a_terminal_no_color_is_respected() {
    let sim = sim();
    let reach = reach(&sim);
    let mut plain = command(&line("watch", &reach, &["--event", "NewMail"]));
    let mut watch = Terminal::start({
        plain.env("NO_COLOR", "1").env("TERM", "dumb");
        plain
    });
    watch.until("Connected");
    watch.signal(Signal::TERM);
    let (code, screen) = watch.end();
    assert_eq!(code, Some(0));
    assert!(!screen.contains('\x1b'), "{screen:?}");
}

// The password is asked for at a terminal, and what is typed is not shown.
#[test]
fn asks_for_the_password_in_silence() {
    let sim = sim();
    let reach = reach(&sim);
    let mut args = vec!["watch"];
    args.extend(reach.iter().map(String::as_str));
    let mut watch = Terminal::start(command(&args));
    watch.until(&format!("Password of {USER}: "));
    watch.write(&format!("{PASSWORD}\n"));
    watch.until("Connected");
    watch.signal(Signal::INT);
    let (code, screen) = watch.end();
    assert_eq!(code, Some(0), "{screen:?}");
    assert!(!screen.contains(PASSWORD), "{screen:?}");
}

#[test]
fn takes_the_password_from_stdin() {
    let sim = sim();
    let reach = reach(&sim);
    let mut args = vec!["watch"];
    args.extend(reach.iter().map(String::as_str));
    args.push("--password-stdin");
    // Not the last line without its end, and not a second line.
    for stdin in [format!("{PASSWORD}\r\nmore\n"), PASSWORD.to_owned()] {
        let mut watch = Running::start(command(&args));
        watch.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        watch.event("Connected");
        watch.signal(Signal::INT);
        let ended = watch.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_no_secret(&ended);
    }
    // Nothing to ask, nobody to ask: what to do is said.
    args.pop();
    let ended = run(&args);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("--password-env") && ended.err.contains("--password-stdin"), "{ended:?}");
}

// A script must be able to tell a refused sign-in from everything else.
#[test]
fn a_refused_sign_in_ends_it_with_4() {
    for mode in ["streaming", "pull"] {
        let sim = sim();
        let reach = reach(&sim);
        let mut watch = command(&line("watch", &reach, &["--mode", mode]));
        watch.env("EWSN_TEST_PASSWORD", "wr0ng-Zwiebelfisch");
        let ended = Running::start(watch).end();
        assert_eq!(ended.code, Some(4), "{ended:?}");
        assert!(ended.err.starts_with("ewsnotify: ") && ended.err.contains(USER), "{ended:?}");
        assert!(!ended.err.contains("wr0ng") && !ended.out.contains("wr0ng"), "{ended:?}");
        assert_eq!(ended.json().last().unwrap()["type"], "Closed", "{ended:?}");
    }
}

// A watch that was given up is not a watch that saw nothing: 1, and why.
#[test]
fn a_watch_that_is_given_up_ends_it_with_1() {
    let sim = sim();
    sim.add_fault(
        Fault::new(Action::Status { code: 404, retry_after: None, retry_date: None, body: None }).always(),
    );
    let reach = reach(&sim);
    let ended = run(&line("watch", &reach, &[]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("404"), "{ended:?}");
}

// No server: it goes on trying, and says at the end of its time that there never was one.
#[test]
fn a_server_that_is_not_there_ends_it_with_1() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for host in [format!("https://127.0.0.1:{port}"), "https://nowhere.invalid".to_owned()] {
        let words =
            ["watch", "--url", &host, "--user", USER, "--password-env", "EWSN_TEST_PASSWORD", "--for", "2s"];
        let ended = run(&words);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.starts_with("ewsnotify: no connection came about"), "{ended:?}");
        assert_no_secret(&ended);
    }
}

// As `ewsnotify watch … | head -1`: the reader has what it wanted.
#[test]
fn a_closed_pipe_ends_it_quietly() {
    let sim = sim();
    let reach = reach(&sim);
    for args in [line("watch", &reach, &[]), vec!["options"], vec!["options", "--markdown"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended =
            command(&args).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{args:?}");
    }
}

// Ctrl-C must work while a server that does not answer is being waited for.
#[test]
fn it_can_be_stopped_before_there_is_a_connection() {
    let sim = sim();
    sim.add_fault(Fault::new(Action::NoHandshake).always());
    let reach = reach(&sim);
    let rest = ["--option", "connect_timeout=600s", "--option", "call_timeout=600s"];
    let watch = Running::start(command(&line("watch", &reach, &rest)));
    assert!(sim.wait_until(DEADLINE, |stats| stats.accepted > 0));
    watch.signal(Signal::INT);
    let ended = watch.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

// Ctrl-C must not wait for a server that does not answer any more: its last word is waited for as long as close_timeout
// says, two seconds, and not as long as an answer may take (call_timeout).
#[test]
fn a_server_that_hangs_at_the_end_is_not_waited_for() {
    let sim = sim();
    let reach = reach(&sim);
    let mut watch = Running::start(command(&line("watch", &reach, &["--option", "call_timeout=1h"])));
    watch.event("Connected");
    sim.add_fault(Fault::new(Action::NoAnswer).on("Unsubscribe").always());
    watch.signal(Signal::INT);
    let ended = watch.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(ended.json().last().unwrap()["type"], "Closed", "{ended:?}");
}

// A second mailbox's folders are another matter; a folder that does not exist must not be taken for a quiet one.
#[test]
fn wrong_values_are_refused_before_anything_is_sent() {
    let sim = sim();
    let reach = reach(&sim);
    for (rest, says) in [
        (vec!["--event", "NewMial"], "NewMail"),
        (vec!["--folder", "Support"], "folders"),
        (vec!["--option", "idle_timout=5s"], "idle_timeout"),
        (vec!["--option", "idle_timeout"], "KEY=VALUE"),
        (vec!["--mode", "polling"], "streaming"),
        (vec!["--for", "soon"], "--for"),
        (vec!["--folder", "inbox", "--all-folders"], "--all-folders"),
    ] {
        let ended = run(&line("watch", &reach, &rest));
        assert_eq!(ended.code, Some(2), "{rest:?}: {ended:?}");
        assert!(ended.err.starts_with("ewsnotify: ") && ended.err.contains(says), "{rest:?}: {ended:?}");
        assert_eq!(ended.out, "");
    }
    assert_eq!(sim.stats().accepted, 0);
}
