//! `demo`, as a newcomer runs it.

use rustix::process::Signal;

use crate::support::{Running, Terminal, command, run};

// The first command of the README: mail with subjects and senders, a break that is survived, nothing lost.
#[test]
fn in_a_pipe_it_tells_every_mail_and_the_break() {
    let ended = run(&["demo", "--for", "3s"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events = ended.json();
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!(count("NewMail"), 12, "{ended:?}");
    assert_eq!((count("Connected"), count("Disconnected"), count("Gap")), (2, 1, 1), "{ended:?}");
    let mails: Vec<_> = events.iter().filter(|event| event["type"] == "NewMail").collect();
    assert!(
        mails
            .iter()
            .any(|m| m["subject"] == "契約書の確認のお願い"
                && m["attachments"][0]["name"] == "契約書-2026.pdf")
    );
    assert!(mails.iter().any(|m| m["from"] == "Zoë Lemaître <zoe@lemaitre.example>"));
    let gap = events.iter().position(|event| event["type"] == "Gap").unwrap();
    // Partial where the break comes so soon that it reaches into the first look at the folder.
    assert!(events[gap]["fill"] == "pending" || events[gap]["fill"] == "partial", "{}", events[gap]);
    let later = events[gap..].iter().filter(|event| event["type"] == "NewMail").count();
    assert!(later >= 7, "three mails came while the link was down, and four later: {ended:?}");
    assert!(
        ended.err.contains("12 mails delivered, 12 told, 0 lost; 1 connection lost and made again."),
        "{ended:?}"
    );
}

#[test]
fn at_a_terminal_it_explains_itself() {
    let (code, screen) = Terminal::start(command(&["demo", "--for", "3s"])).end();
    assert_eq!(code, Some(0), "{screen}");
    for text in [
        "A simulated Exchange runs at https://localhost:",
        "Jürgen Müller & Söhne <rechnung@mueller-soehne.example>",
        "Rechnung Nr. 2026-1147 für Büromöbel",
        "[2 attachments: rapport-oktober.xlsx, konton.csv]",
        "The server is gone",
        "Disconnected",
        "The server is back",
        "Gap",
        "12 mails delivered, 12 told, 0 lost; 1 connection lost and made again.",
        "ewsnotify watch --url",
    ] {
        assert!(screen.contains(text), "{text}: {screen}");
    }
}

// Ctrl-C in the middle is no failure, and leaves nothing running.
#[test]
fn it_can_be_stopped() {
    let mut demo = Running::start(command(&["demo", "--for", "1h"]));
    demo.event("Connected");
    demo.signal(Signal::INT);
    let ended = demo.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("Stopped before the end"), "{ended:?}");
}

#[test]
fn a_time_that_makes_no_sense_is_refused() {
    for time in ["0s", "900ms", "25h", "x"] {
        assert_eq!(run(&["demo", "--for", time]).code, Some(2), "{time}");
    }
}
