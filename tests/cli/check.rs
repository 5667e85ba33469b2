//! `ewsnotify check`: on a server as it should be, and on the worst ones. Of each it has to say what is wrong, in words that an
//! administrator can act on.

use std::io::{Read, Write};
use std::time::Duration;

use ewsnotify::sim::exchange::{Failure, Guide};
use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::sim::server::Builder;
use ewsnotify::sim::{Certificate, Scheme, Sim, TlsVersions};
use serde_json::Value;

use crate::company::{ADA, Company};
use crate::support::{Ended, PASSWORD, Running, Terminal, assert_no_secret, command, run};

const AUTODISCOVER: [&str; 2] = ["GetUserSettings", "Autodiscover"];

fn company(change: impl FnOnce(Builder) -> Builder) -> Company {
    Company::start(PASSWORD, change)
}

fn checked(connect_to: &str, ca_file: &str, rest: &[&str]) -> Ended {
    let connect_to = format!("connect_to={connect_to}");
    let mut words = vec![
        "check",
        ADA,
        "--password-env",
        "EWSN_TEST_PASSWORD",
        "--ca-file",
        ca_file,
        "--option",
        &connect_to,
    ];
    words.extend(rest);
    let ended = run(&words);
    assert_no_secret(&ended);
    ended
}

fn check(company: &Company, rest: &[&str]) -> Ended {
    checked(&company.connect_to(), &company.ca_file(), rest)
}

/// The messages of a grade.
fn of(ended: &Ended, grade: &str) -> Vec<String> {
    let found = ended.json().into_iter().filter(|f| f["grade"] == grade);
    found.map(|f| format!("{}: {}", f["check"].as_str().unwrap(), f["message"].as_str().unwrap())).collect()
}

#[track_caller]
fn says(ended: &Ended, grade: &str, words: &[&str]) {
    let messages = of(ended, grade);
    let found = messages.iter().any(|m| words.iter().all(|w| m.contains(w)));
    assert!(found, "no {grade} with {words:?}: {ended:#?}");
}

#[track_caller]
fn fails(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    says(ended, "failed", words);
}

// Every step is told, and nothing is left behind on the server.
#[test]
fn a_server_as_it_should_be() {
    let company = company(|b| b);
    let ended = check(&company, &[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:#?}");
    assert_eq!((of(&ended, "failed"), of(&ended, "warning")), (vec![], vec![]));
    for words in [
        ["autodiscover: https://example.test/autodiscover/autodiscover.svc", "Exchange 2016 (15.1.2507.39)"],
        [
            "autodiscover: EWS of ada@example.test is at https://mail.example.test/EWS/Exchange.asmx",
            "GroupingInformation EX1",
        ],
        ["connection: https://mail.example.test/EWS/Exchange.asmx", "answers"],
        ["tls: TLS 1.3", "TLS13_"],
        ["tls: the certificate is good until 20", ""],
        ["sign-in: the server offers Basic; Basic is taken", ""],
        ["sign-in: ada@example.test may sign in", ""],
        ["version: the server is Exchange 2016 (15.1.2507.39)", ""],
        ["folders: folder inbox of ada@example.test is there", ""],
        ["impersonate: ada@example.test may impersonate", ""],
        ["sync: ", "gaps will be filled"],
        ["subscribe: ", "made"],
        ["stream: ", "at once"],
        ["limits: no limit", ""],
    ] {
        says(&ended, "ok", &words);
    }
    assert_eq!(company.sim.exchange().subscriptions(ADA), [""; 0]);
    let ended = check(&company, &["--url", "mail.example.test", "--option", "mode=pull"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(of(&ended, "ok").iter().all(|m| !m.starts_with("autodiscover")));
    says(&ended, "ok", &["mode=pull"]);
    let push = ["--url", "mail.example.test", "--option", "mode=push", "--option", "push_listen=127.0.0.1:0"];
    let ended = check(&company, &push);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    says(&ended, "note", &["stream: mode=push", "push_url"]);
    // It has push, and no streaming.
    company.sim.exchange().configure(|s| s.newest_version = Some("Exchange2007_SP1"));
    let ended = check(&company, &push);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    says(&ended, "ok", &["subscribe: ", "made"]);
    assert_eq!(company.sim.exchange().subscriptions(ADA), [""; 0]);
}

#[test]
fn lines_for_people_at_a_terminal() {
    let company = company(|b| b);
    let (ca, connect_to) = (company.ca_file(), format!("connect_to={}", company.connect_to()));
    let words =
        ["check", ADA, "--password-env", "EWSN_TEST_PASSWORD", "--ca-file", &ca, "--option", &connect_to];
    let (code, screen) = Terminal::start(command(&words)).end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(
        screen.contains("\u{1b}[32m✓") && screen.contains("may sign in") && !screen.contains("{\""),
        "{screen}"
    );
}

// Web hosts and ISPs answer everything with a page.
#[test]
fn html_on_200() {
    let company = company(|b| b);
    AUTODISCOVER.iter().for_each(|o| company.sim.add_fault(Fault::new(Action::Html).on(*o).always()));
    let ended = check(&company, &[]);
    says(
        &ended,
        "note",
        &[
            "https://autodiscover.example.test/autodiscover/autodiscover.svc",
            "HTTP 200",
            "text/html",
            "not Autodiscover",
            "web page",
        ],
    );
    fails(&ended, &["no server was found for ada@example.test", "_autodiscover._tcp.example.test", "--url"]);
    company.sim.add_fault(Fault::new(Action::Html).always());
    let ended = check(&company, &["--url", "mail.example.test"]);
    fails(&ended, &["no EWS answer", "portal"]);
    // An empty answer is no better.
    company.sim.clear_faults();
    AUTODISCOVER.iter().for_each(|o| company.sim.add_fault(Fault::new(Action::Empty).on(*o).always()));
    says(&check(&company, &[]), "note", &["HTTP 200", "empty"]);
}

#[test]
fn a_redirect_loop() {
    let company = company(|b| b);
    let here = "https://autodiscover.example.test/autodiscover/autodiscover.svc";
    company.sim.exchange().guide(ADA, Guide::RedirectUrl(here.into()));
    let ended = check(&company, &[]);
    says(&ended, "warning", &[here, "in a circle", "set up wrongly"]);
    fails(&ended, &["no server was found"]);
    company.sim.clear_faults();
    AUTODISCOVER.iter().for_each(|o| {
        company.sim.add_fault(Fault::new(Action::Redirect { to: here.into() }).on(*o).always())
    });
    says(&check(&company, &[]), "warning", &["in a circle"]);
}

#[test]
fn a_redirect_to_a_domain_that_nobody_has_confirmed() {
    let company = company(|b| b);
    company.sim.exchange().guide(ADA, Guide::RedirectAddress("ada@hoster.test".into()));
    let ended = check(&company, &[]);
    says(&ended, "warning", &["ada@hoster.test", "not followed", "trusted_domains=hoster.test"]);
    fails(&ended, &["nobody has confirmed"]);
}

#[test]
fn http_only() {
    let company = company(|b| b);
    let http = Sim::builder().tls(false).user(ADA, PASSWORD).start().unwrap();
    let connect_to = company.connect(company.closed(), http.address().port());
    let ended = checked(&connect_to, &company.ca_file(), &[]);
    says(&ended, "note", &["https://example.test/", "nothing listens there, or a firewall refuses"]);
    says(&ended, "note", &["http://autodiscover.example.test/", "no redirect to https"]);
    fails(&ended, &["no server was found", "who may be one does not answer", "DNS"]);
    assert!(!ended.out.contains("nobody could be reached"), "{ended:#?}");
    // Nobody gave one.
    assert!(of(&ended, "note").iter().all(|m| !m.contains("the url")), "{ended:#?}");
    // TLS is not even spoken where it should be.
    let connect_to = company.connect(http.address().port(), http.address().port());
    let ended = checked(&connect_to, &company.ca_file(), &["--url", "mail.example.test"]);
    fails(&ended, &["tls: ", "not TLS", "plain http port"]);
    // The password does not go out in clear text because somebody wrote http.
    let ended = checked(&connect_to, &company.ca_file(), &["--url", "http://mail.example.test"]);
    says(&ended, "warning", &["tls: plain http", "https"]);
    fails(&ended, &["everybody on the way would see the password"]);
    assert!(http.requests().iter().all(|r| r.user.is_none()));
}

#[test]
fn certificates() {
    for (certificate, words) in [
        (Certificate::Expired, ["has expired", "needs a new one"]),
        (Certificate::WrongName, ["example.test but for ", "other.example.test: use"]),
    ] {
        let company = company(|b| b.certificate(certificate));
        let ended = check(&company, &[]);
        says(&ended, "warning", &words);
        fails(&ended, &["no server was found", "TLS"]);
        let ended = check(&company, &["--url", "mail.example.test"]);
        fails(&ended, &words);
        // Another authority of the same name, as after it was made anew.
        let other = Company::start(PASSWORD, |b| b);
        let ended = checked(&other.connect_to(), &company.ca_file(), &["--url", "mail.example.test"]);
        fails(&ended, &["not signed by the authority", "ca_file"]);
    }
}

#[test]
fn old_tls() {
    for versions in [TlsVersions::Old, TlsVersions::OldCiphers] {
        let company = company(|b| b.tls_versions(versions));
        let ended = check(&company, &[]);
        says(&ended, "warning", &["broke the handshake off", "TLS 1.2", "CBC"]);
        fails(&ended, &["no server was found", "TLS"]);
        let ended = check(&company, &["--url", "mail.example.test"]);
        fails(&ended, &["tls: ", "broke the handshake off", "TLS 1.2"]);
    }
    let company = company(|b| b.tls_versions(TlsVersions::Tls12));
    says(&check(&company, &[]), "ok", &["tls: TLS 1.2", "does not offer TLS 1.3"]);
}

#[test]
fn the_sign_in() {
    let company = company(|b| b);
    let wrong = |rest: &[&str]| {
        let connect_to = format!("connect_to={}", company.connect_to());
        let ca = company.ca_file();
        let mut words = vec!["check", ADA, "--password-stdin", "--ca-file", &ca, "--option", &connect_to];
        words.extend(rest);
        crate::support::run_with(&words, b"not the password\n")
    };
    for (rest, grade) in [(&[][..], "warning"), (&["--url", "mail.example.test"], "failed")] {
        let ended = wrong(rest);
        assert_eq!(ended.code, Some(4), "{ended:#?}");
        says(&ended, grade, &["refused", "password"]);
        assert!(ended.err.contains("the sign-in among them"), "{ended:#?}");
    }
    // Where the password cannot go, it does not.
    let without = Company::start(PASSWORD, |b| b.offers([Scheme::Negotiate, Scheme::Ntlm]));
    let basic = ["--option", "auth=basic"];
    let ended = check(&without, &[&["--url", "mail.example.test"], &basic[..]].concat());
    assert_eq!(ended.code, Some(4), "{ended:#?}");
    says(
        &ended,
        "failed",
        &["sign-in: ", "offers Negotiate, NTLM", "only go by Basic", "-BasicAuthentication $true"],
    );
    assert_eq!(of(&ended, "failed").len(), 1, "{ended:#?}");
    let ended = check(&without, &basic);
    assert_eq!(ended.code, Some(4), "{ended:#?}");
    says(&ended, "warning", &["offers Negotiate, NTLM", "Set-AutodiscoverVirtualDirectory"]);
    says(&ended, "failed", &["no way to sign in that is possible", "enabled"]);
    let sent = |name: &str| name.eq_ignore_ascii_case("authorization");
    assert!(without.sim.requests().iter().all(|r| !r.headers.iter().any(|(name, _)| sent(name))));
    // Of somebody else's mailbox, by the user's own address.
    company.sim.add_user("svc@example.test", PASSWORD);
    let ended = check(&company, &["--user", "svc@example.test"]);
    fails(&ended, &["ErrorAccessDenied", "access=impersonate"]);
    says(&ended, "ok", &["svc@example.test may impersonate ada@example.test"]);
    let impersonate = ["--user", "svc@example.test", "--option", "access=impersonate"];
    assert_eq!(check(&company, &impersonate).code, Some(0));
    company.sim.exchange().deny_impersonation("svc@example.test");
    fails(&check(&company, &impersonate), &["ErrorImpersonat", "ApplicationImpersonation"]);
    company.sim.exchange().grant(ADA, "svc@example.test").unwrap();
    let ended = check(&company, &["--user", "svc@example.test"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    says(&ended, "note", &["may not impersonate"]);
}

#[test]
fn rights_and_limits() {
    let company = company(|b| b);
    let exchange = company.sim.exchange();
    exchange.refuse_sync(ADA, Some("ErrorAccessDenied")).unwrap();
    let ended = check(&company, &[]);
    assert_eq!(ended.code, Some(0), "a watch works without: {ended:#?}");
    says(&ended, "warning", &["sync: ", "is not filled in", "ErrorAccessDenied"]);
    // What passes by itself says nothing about the right to.
    exchange.refuse_sync(ADA, Some("ErrorServerBusy")).unwrap();
    fails(&check(&company, &[]), &["limits: ", "cannot be synced", "ErrorServerBusy"]);
    exchange.refuse_sync(ADA, None).unwrap();
    exchange.fail_next("Subscribe", Failure::new("ErrorExceededSubscriptionCount"));
    fails(&check(&company, &[]), &["limits: ", "ErrorExceededSubscriptionCount", "EwsMaxSubscriptions"]);
    exchange
        .fail_next("GetFolder", Failure::new("ErrorServerBusy").back_off(Duration::from_secs(1)).as_fault());
    fails(&check(&company, &[]), &["limits: ", "ErrorServerBusy", "throttles"]);
    let ended = check(&company, &["--option", "folders=id:AAAA"]);
    fails(&ended, &["folders: ", "ErrorInvalidId"]);
    let tickets = exchange.create_folder(ADA, "inbox", "Tickets").unwrap();
    for (word, form) in [("id", "EwsLegacyId"), ("hexentryid", "HexEntryId")] {
        let old = exchange.id_in_form(&tickets, form).unwrap();
        let ended = check(&company, &["--option", &format!("folders={word}:{old}")]);
        says(&ended, "ok", &["folders: a folder of ada@example.test", "is there"]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
    let ended = check(&company, &["--option", "folders=inbox/tickets,/Gone"]);
    says(&ended, "ok", &["folders: folder inbox/tickets", "is there"]);
    fails(&ended, &["folders: folder /Gone", "at the top of the mailbox is no folder \"Gone\""]);
    let public = exchange.add_public_folders();
    exchange.create_folder(&public, "msgfolderroot", "News").unwrap();
    exchange.place_public_folders("pf7@example.test");
    let ended = check(&company, &["--option", "folders=publicfoldersroot/news"]);
    says(&ended, "ok", &["the content of the public folder is in pf7@example.test"]);
    says(&ended, "ok", &["folders: folder publicfoldersroot/news", "is there"]);
    says(&ended, "ok", &["a subscription was made"]);
    says(&ended, "warning", &["sync: the watch works, but what it misses"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    company.sim.add_fault(Fault::new(Action::Html).on("GetStreamingEvents").always());
    fails(&check(&company, &[]), &["stream: ", "no EWS answer"]);
    assert_eq!(exchange.subscriptions(ADA), [""; 0], "given back all the same");
}

// Who has set HTTPS_PROXY for curl expects it of a command, and has to see what the proxy said.
#[test]
fn by_the_proxy_of_the_environment() {
    let company = company(|b| b);
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = proxy.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut asker in proxy.incoming().map_while(Result::ok) {
            let _ = asker.read(&mut [0; 4096]);
            let _ = asker.write_all(b"HTTP/1.1 403 Filtered\r\n\r\n");
        }
    });
    let (ca, connect_to) = (company.ca_file(), format!("connect_to={}", company.connect_to()));
    let url = ["--url", "mail.example.test", "--ca-file", &ca, "--option", &connect_to];
    let check = |rest: &[&str]| {
        let words = [&["check", ADA, "--password-env", "EWSN_TEST_PASSWORD"][..], &url, rest].concat();
        let mut command = command(&words);
        command.env("HTTPS_PROXY", format!("http://ada:Blindschleiche@{place}"));
        command.env("NO_PROXY", "elsewhere.test").env_remove("no_proxy");
        let ended = Running::start(command).end();
        assert!(!format!("{ended:?}").contains("Blindschleiche"), "{ended:?}");
        ended
    };
    let ended = check(&[]);
    let words =
        ["connection: ", &*format!("the proxy http://{place} forbids"), "HTTP 403 Filtered", "administrator"];
    fails(&ended, &words);
    for rest in [["--option", "proxy=none"], ["--option", "no_proxy=example.test"]] {
        assert_eq!(check(&rest).code, Some(0), "{rest:?}");
    }
    // A sign-in on the command line is everybody's to read, a proxy without one is not secret.
    let ended = check(&["--option", &format!("proxy=http://ada:Blindschleiche@{place}")]);
    assert!(ended.code == Some(2) && ended.err.contains("HTTPS_PROXY"), "{ended:?}");
    fails(&check(&["--option", &format!("proxy=http://{place}")]), &words);
    let closed = company.closed();
    let ended = check(&["--option", &format!("proxy=socks5://127.0.0.1:{closed}")]);
    fails(&ended, &["while connecting to the proxy socks5://", "check option proxy"]);
}

// A pipe gets JSON of a known form.
#[test]
fn the_json_form() {
    let company = company(|b| b);
    for line in check(&company, &[]).json() {
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert!(["check", "grade", "message"].iter().all(|k| line[k].is_string()), "{keys:?}");
    }
    for (grade, code) in [("warning", "ErrorAccessDenied"), ("failed", "ErrorServerBusy")] {
        company.sim.exchange().refuse_sync(ADA, Some(code)).unwrap();
        let found: Vec<Value> =
            check(&company, &[]).json().into_iter().filter(|f| f["grade"] == grade).collect();
        assert_eq!(found[0]["code"], code);
    }
}

#[test]
fn wrong_usage() {
    for (words, says) in [
        (&["check"][..], "ADDRESS"),
        (&["check", "EXAMPLE\\ada", "--password-stdin"], "no mail address"),
        (
            &["check", ADA, "--password-stdin", "--option", "connect_to=mail.example.test"],
            "host:port:host:port",
        ),
    ] {
        let ended = crate::support::run_with(words, b"x\n");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(says), "{ended:?}");
    }
}
