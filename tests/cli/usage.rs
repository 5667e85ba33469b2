//! What a newcomer meets: help, wrong usage; and passwords in the wrong place.

use crate::support::{PASSWORD, USER, assert_no_secret, run};

#[test]
fn help_is_help_and_wrong_usage_is_2() {
    let help = run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for word in [
        "demo",
        "watch",
        "drain",
        "run",
        "status",
        "check",
        "get",
        "simulate",
        "decode",
        "options",
        "Exit codes",
        "--fetch summary",
    ] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    for subcommand in
        ["demo", "watch", "drain", "run", "status", "check", "get", "simulate", "decode", "options"]
    {
        let help = run(&[subcommand, "--help"]);
        assert_eq!(help.code, Some(0));
        assert!(help.out.contains("Usage: ewsnotify"), "{}", help.out);
        assert!(!help.out.contains("--password "), "{}", help.out);
        let wrong = run(&[subcommand, "--frobnicate"]);
        assert_eq!(wrong.code, Some(2));
        assert!(wrong.err.starts_with("ewsnotify: ") && wrong.err.contains("--frobnicate"), "{wrong:?}");
        assert_eq!(wrong.out, "");
    }
    assert_eq!(run(&[]).code, Some(2));
    assert_eq!(run(&["frobnicate"]).code, Some(2));
    let version = run(&["--version"]);
    assert_eq!(
        (version.code, version.out.trim()),
        (Some(0), concat!("ewsnotify ", env!("CARGO_PKG_VERSION")))
    );
}

// A password in the wrong place must not go on into a log with the error.
#[test]
fn a_password_in_the_wrong_place_is_refused_and_not_repeated() {
    let secret = format!("password={PASSWORD}");
    let url = format!("https://{USER}:{PASSWORD}@127.0.0.1:1/");
    let long = format!("--password={PASSWORD}");
    let start = ["watch", "--url", "127.0.0.1:1", "--user", USER];
    for rest in [
        vec!["--password-stdin", "--option", &secret],
        vec!["--password", PASSWORD],
        vec![&long],
        vec!["--password-env", PASSWORD],
        vec!["--password-env", "EWSN_TEST_PASSWORD", "--option", PASSWORD],
        vec!["-p", PASSWORD],
        vec!["--pass", PASSWORD],
        vec!["--url", &url],
    ] {
        let ended = run(&start.iter().copied().chain(rest.iter().copied()).collect::<Vec<_>>());
        assert_eq!(ended.code, Some(2), "{rest:?}: {ended:?}");
        assert_no_secret(&ended);
    }
    // With all else in its place: the option alone is the reason.
    let words = ["--password-env", "EWSN_TEST_PASSWORD", "--for", "1s", "--option", &secret];
    let ended = run(&[&start[..], &words].concat());
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("option password is a secret"), "{ended:?}");
    assert_no_secret(&ended);
    let words =
        ["watch", "--url", &url, "--user", USER, "--password-env", "EWSN_TEST_PASSWORD", "--for", "1s"];
    let ended = run(&words);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_no_secret(&ended);
}

// A word too many is a password often enough: its place is told, and the word is not. A flag that there is not must not lead to one
// that is refused.
#[test]
fn a_word_that_nothing_wants_is_not_repeated_and_a_hint_leads_on() {
    let stdin = format!("--password-stdin={PASSWORD}");
    for (words, hints) in [
        (&["check", USER, PASSWORD][..], &["--password-env", "beside ADDRESS"][..]),
        (&["watch", PASSWORD], &["--user ADDRESS", "--mailbox ADDRESS", "--folder FOLDER"]),
        (&["drain", "--user", USER, "--state-dir", "x", PASSWORD], &["--user ADDRESS"]),
        (&["get", PASSWORD], &["--id ID", "--user ADDRESS"]),
        (&["demo", PASSWORD], &["--password-env"]),
        (&["watch", &stdin], &["--password-stdin takes no value"]),
        (&["watch", "--pasword", PASSWORD], &["--pasword", "'--password-env'"]),
        (&["check", USER, "--mailbox", USER], &["--mailbox", "the mailbox is ADDRESS", "--user"]),
    ] {
        let ended = run(words);
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        assert_no_secret(&ended);
        assert!(!ended.err.contains("'--password'"), "{words:?}: {ended:?}");
        for hint in hints {
            assert!(ended.err.contains(hint), "{words:?}: {hint:?} is not in {:?}", ended.err);
        }
    }
}
