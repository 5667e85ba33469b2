//! `simulate`, as other people's programs meet it.

use std::io::Write;
use std::net::TcpListener;

use rustix::process::Signal;

use crate::beside;
use crate::support::{Running, command, run, run_with};

// Two commands, two processes: what the first prints is all that the second needs.
#[test]
fn a_watch_finds_its_way_by_the_line_that_it_prints() {
    for style in ["exchange", "gromox"] {
        let words =
            ["simulate", "--style", style, "--user", "bob@example.test:se:cret", "--deliver-every", "200ms"];
        let mut sim = Running::start(command(&words));
        let ready = sim.json(|_| true);
        assert_eq!(ready["users"][0]["user"], "bob@example.test");
        assert_eq!(ready["users"][0]["password"], "se:cret");
        let (url, ca) = (ready["url"].as_str().unwrap(), ready["ca_file"].as_str().unwrap().to_owned());
        let words =
            ["watch", "--url", url, "--ca-file", &ca, "--user", "bob@example.test", "--password-stdin"];
        let mut watch =
            Running::start(command(&[&words[..], &["--fetch", "summary", "--event", "NewMail"]].concat()));
        watch.stdin.take().unwrap().write_all(b"se:cret\n").unwrap();
        for _ in 0..3 {
            let told = watch.event("NewMail");
            assert_eq!(told["content"], "ok", "{style}: {told}");
            assert!(told["subject"].is_string() && told["from"].is_string(), "{told}");
        }
        watch.signal(Signal::INT);
        assert_eq!(watch.end().code, Some(0));
        sim.signal(Signal::TERM);
        let ended = sim.end();
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert_eq!(ended.out.lines().count(), 1, "{ended:?}");
        assert!(!std::path::Path::new(&ca).exists(), "the certificate's file goes with it");
    }
}

// An address as IPv6 writes it, in --listen and in --url, with TLS on it; and mail for each of two users.
#[test]
fn it_listens_where_it_is_told_to() {
    if let Err(e) = TcpListener::bind("[::1]:0") {
        return beside::untested(&format!("this machine has no IPv6: {e}"));
    }
    let users = ["--user", "ada@example.test:a", "--user", "bob@example.test:b"];
    let words = [&["simulate", "--listen", "[::1]:0", "--deliver-every", "200ms"], &users[..]].concat();
    let mut sim = Running::start(command(&words));
    let ready = sim.json(|_| true);
    let (url, ca) = (ready["url"].as_str().unwrap(), ready["ca_file"].as_str().unwrap());
    assert!(url.starts_with("https://[::1]:"), "{url}");
    for (user, password) in [("ada@example.test", "a\n"), ("bob@example.test", "b\n")] {
        let words = ["watch", "--url", url, "--ca-file", ca, "--user", user, "--password-stdin"];
        let mut watch = Running::start(command(&words));
        watch.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        watch.event("NewMail");
        watch.signal(Signal::INT);
        assert_eq!(watch.end().code, Some(0));
    }
    sim.signal(Signal::INT);
    assert_eq!(sim.end().code, Some(0));
}

#[test]
fn a_script_makes_it_fail_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "on * times=always do status code=503 retry-after=1\n").unwrap();
    let script = script.to_str().unwrap();
    let mut sim = Running::start(command(&["simulate", "--no-tls", "--script", script]));
    let ready = sim.json(|_| true);
    assert!(
        ready.get("ca_file").is_none() && ready["url"].as_str().unwrap().starts_with("http://"),
        "{ready}"
    );
    let user = ready["users"][0]["user"].as_str().unwrap();
    let words = ["watch", "--url", ready["url"].as_str().unwrap(), "--user", user, "--password-stdin"];
    let mut watch = Running::start(command(&words));
    watch
        .stdin
        .take()
        .unwrap()
        .write_all(ready["users"][0]["password"].as_str().unwrap().as_bytes())
        .unwrap();
    let told = watch.json(|event| event["http_status"] == 503);
    assert!(told["retry_ms"].is_u64(), "{told}");
    watch.signal(Signal::INT);
    assert_eq!(watch.end().code, Some(0));
    sim.signal(Signal::INT);
    assert_eq!(sim.end().code, Some(0));

    std::fs::write(script, "on * do frobnicate\n").unwrap();
    let ended = run(&["simulate", "--script", script]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("line 1") && ended.err.contains("frobnicate"), "{ended:?}");
    assert_eq!(run(&["simulate", "--script", "/nowhere/at/all"]).code, Some(1));
    assert_eq!(run(&["simulate", "--user", "nobody"]).code, Some(2));
    assert_eq!(run(&["simulate", "--deliver-every", "0s"]).code, Some(2));
    for name in ["", "a b", "https://x.test", "x.test:443", ".x.test"] {
        let ended = run(&["simulate", "--name", name]);
        assert_eq!(ended.code, Some(2), "{name:?}: {ended:?}");
        assert!(ended.err.contains("as autodiscover.example.test"), "{name:?}: {ended:?}");
    }
}

// Who writes a program that finds its server by Autodiscover has a server to find.
#[test]
fn autodiscover_by_another_name() {
    let mut sim = Running::start(command(&["simulate", "--name", "autodiscover.example.test"]));
    let ready = sim.json(|ready| ready["url"].is_string());
    let port: String = ready["url"].as_str().unwrap().chars().filter(char::is_ascii_digit).collect();
    let connect_to = format!("connect_to=::127.0.0.1:{port}");
    let ca = ready["ca_file"].as_str().unwrap();
    let user = ready["users"][0]["user"].as_str().unwrap();
    let words = ["check", user, "--ca-file", ca, "--password-stdin", "--option", &connect_to];
    let ended = run_with(&words, ready["users"][0]["password"].as_str().unwrap().as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.out.contains("autodiscover.example.test/autodiscover/autodiscover.svc"), "{ended:#?}");
    sim.signal(Signal::TERM);
    assert_eq!(sim.end().code, Some(0));
}

// As Exchange SE is set up: `check` says which way is taken, and what stands in the way of whoever insists on another.
#[test]
fn a_server_with_ntlm_and_extended_protection() {
    let words = ["simulate", "--auth", "negotiate,ntlm", "--extended-protection", "require"];
    let mut sim = Running::start(command(&words));
    let ready = sim.json(|ready| ready["url"].is_string());
    let (url, ca) = (ready["url"].as_str().unwrap(), ready["ca_file"].as_str().unwrap());
    let check = |more: &[&str], password: &[u8]| {
        let words =
            ["check", "ada@example.test", "--url", url, "--ca-file", ca, "--password-stdin", "--json"];
        run_with(&[&words[..], more].concat(), password)
    };
    let ended = check(&[], b"demo");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let taken = match cfg!(feature = "gssapi") {
        true => "Kerberos is taken, by Negotiate, where there is a ticket, else NTLM",
        false => "NTLM is taken; Kerberos is not built in (cargo feature gssapi)",
    };
    assert!(ended.out.contains(&format!("the server offers Negotiate, NTLM; {taken}")), "{ended:#?}");
    assert!(ended.out.contains("ada@example.test may sign in, by NTLM"), "{ended:#?}");
    let ended = check(&["--option", "auth=basic"], b"demo");
    assert_eq!(ended.code, Some(4), "{ended:#?}");
    assert!(ended.out.contains("Negotiate, NTLM"), "{ended:#?}");
    let ended = check(&[], b"wrong");
    assert_eq!(ended.code, Some(4), "{ended:#?}");
    assert!(ended.out.contains("check name") && ended.out.contains("Extended Protection"), "{ended:#?}");
    sim.signal(Signal::TERM);
    assert_eq!(sim.end().code, Some(0));
}
