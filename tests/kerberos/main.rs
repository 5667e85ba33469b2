//! Kerberos against others: MIT's KDC, a service by MIT's GSSAPI that requires channel binding, and Apache's mod_auth_gssapi. The command
//! is the client, in processes of its own: which tickets there are is a matter of the environment.
#![cfg(all(feature = "gssapi", feature = "cli"))]

mod realm;
mod services;
#[allow(dead_code)]
#[path = "../cli/support.rs"]
mod support;
#[path = "../net/tools.rs"]
mod tools;

/// For `tools`.
mod server {
    pub use crate::support::DEADLINE;
}

use std::process::Command;

use ewsnotify::sim::{Scheme, Sim};

use realm::{HOST, Realm, STRANGER, is_possible};
use services::{ADA, Service, apache, sim};
use support::{Ended, Running, command, wait_until};

/// A command on its way to a server, with the tickets of a cache.
fn client(realm: &Realm, cache: &str, subcommand: &str, reach: &[String], more: &[&str]) -> Command {
    let mut words = vec![subcommand];
    words.extend(reach.iter().map(String::as_str));
    words.extend(more);
    let mut command = command(&words);
    realm.env(&mut command, cache);
    command
}

const BY_KERBEROS: [&str; 4] = ["--option", "auth=negotiate", "--option", "log=info"];

fn check(realm: &Realm, cache: &str, reach: &[String], more: &[&str]) -> Ended {
    let mut words = vec![ADA, "--json"];
    words.extend(more);
    Running::start(client(realm, cache, "check", reach, &words)).end()
}

fn check_by_kerberos(realm: &Realm, cache: &str, reach: &[String]) -> Ended {
    check(realm, cache, reach, &BY_KERBEROS[..2])
}

/// That it ended with this code, and said all of this.
fn assert_ended(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:#?}");
    let said = format!("{}{}", ended.out, ended.err);
    for word in words {
        assert!(said.contains(word), "{word}: {ended:#?}");
    }
    support::assert_no_secret(ended);
}

// Exchange in a domain that has done with NTLM: calls and a stream are signed in by a ticket that names the channel, each connection once,
// and no request goes out twice.
#[test]
fn a_ticket_signs_connections_in() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let ended = check_by_kerberos(&realm, "cache", &service.reach("bound", HOST));
    assert_ended(&ended, 0, &["Kerberos is taken, by Negotiate", "may sign in", "a stream opens"]);
    let told = service.end();
    let came: Vec<&str> = told.iter().map(|(_, sign_in, _)| &**sign_in).collect();
    // What it offers, asked by `check`; then the calls' connection, and the stream's.
    let ticket = "ada@EXAMPLE.TEST";
    assert_eq!(came[..4], ["none", "none", ticket, "before"], "{told:#?}");
    assert_eq!(came.iter().filter(|sign_in| **sign_in == ticket).count(), 2, "{told:#?}");
    assert_eq!(came.iter().filter(|sign_in| **sign_in == "none").count(), 3, "{told:#?}");
    assert!(told[1..].iter().all(|(_, sign_in, body)| (sign_in == "none") == (*body == 0)), "{told:#?}");

    // Who keeps none signed in is served too, as some set IIS up.
    let service = Service::start(&realm, &sim);
    assert_ended(&check_by_kerberos(&realm, "cache", &service.reach("each", HOST)), 0, &["a stream opens"]);
    assert!(service.end().iter().all(|(_, sign_in, _)| sign_in == "none" || sign_in == ticket));
}

// With a password at hand for all else, the ticket is taken where there is one; nothing has to be set for it.
#[test]
fn kerberos_comes_first_where_there_is_a_ticket() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let reach = service.reach("bound", HOST);
    let password = ["--password-env", "EWSN_TEST_PASSWORD"];
    let ended = check(&realm, "cache", &reach, &password);
    assert_ended(
        &ended,
        0,
        &["where there is a ticket, else NTLM", &format!("{ADA} may sign in, by Kerberos")],
    );
    // Without one the server, which takes nothing else, is asked by NTLM; what was missing is said.
    let ended = check(&realm, "empty", &reach, &password);
    assert_ended(&ended, 4, &["looking for a ticket", "kinit"]);
}

// Another domain's user of the same name is somebody else, whose ticket or password must not be taken for his.
#[test]
fn a_user_of_another_domain_is_not_taken_for_ours() {
    if !is_possible() {
        return;
    }
    let (mut realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let reach = service.reach("bound", HOST);
    let words = [ADA, "--user", "OTHER\\ada", "--password-env", "EWSN_TEST_PASSWORD"];
    let ended = Running::start(client(&realm, "cache", "check", &reach, &words)).end();
    assert_ended(&ended, 4, &["Kerberos cannot sign in OTHER", "NAME@REALM"]);
    let alone = [&words, &BY_KERBEROS[..2]].concat();
    let ended = Running::start(client(&realm, "cache", "check", &reach, &alone)).end();
    assert_ended(&ended, 2, &["Kerberos cannot sign in OTHER", "NAME@REALM"]);
    let told = service.end();
    assert!(told.iter().all(|(_, sign_in, _)| !sign_in.contains("ada")), "{told:#?}");
    assert_eq!(realm.stop(), 1, "by kinit alone");
}

// A server that takes both: whoever has no ticket signs in by NTLM as before, and can learn why.
#[test]
fn ntlm_is_taken_where_there_is_no_ticket() {
    if !is_possible() {
        return;
    }
    let realm = Realm::start("");
    let sim = Sim::builder()
        .names([HOST])
        .user(ADA, support::PASSWORD)
        .offers([Scheme::Negotiate, Scheme::Ntlm])
        .start()
        .unwrap();
    let place = format!("connect_to={HOST}:443:{}", sim.address());
    let ca = sim.ca_file().unwrap().to_str().unwrap();
    let reach = ["--url", HOST, "--option", &place, "--ca-file", ca].map(str::to_owned);
    let password = ["--password-env", "EWSN_TEST_PASSWORD"];
    let ended = check(&realm, "empty", &reach, &password);
    let why =
        format!("NTLM is taken, since Kerberos: looking for a ticket for HTTP@{HOST} as ada@EXAMPLE.TEST");
    assert_ended(&ended, 0, &[&why, "kinit", "may sign in, by NTLM"]);

    let words = [&["--user", ADA, "--option", "log=info", "--json"], &password[..]].concat();
    let mut watch = Running::start(client(&realm, "empty", "watch", &reach, &words));
    watch.json(|event| event["type"] == "Log" && event["message"].as_str().is_some_and(|m| m.contains(&why)));
    watch.event("Connected");
    watch.signal(rustix::process::Signal::TERM);
    assert_eq!(watch.end().code, Some(0));
}

// Who stands in the middle with a certificate that we trust must not be able to pass our sign-in on.
#[test]
fn a_sign_in_that_came_by_another_channel_is_refused() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let ended = check_by_kerberos(&realm, "cache", &service.reach("relay", HOST));
    let words = ["Kerberos was refused", "Extended Protection", "x-diaginfo: BadChannelBindingsError"];
    assert_ended(&ended, 4, &words);
    let told = service.end();
    assert_eq!(told.last().unwrap().1, "BadChannelBindingsError", "{told:#?}");
    assert_eq!(sim.requests().len(), 0, "nothing of it came through");
}

// A server that cannot prove itself by Kerberos has not been spoken to by Kerberos.
#[test]
fn a_server_that_does_not_prove_itself_is_not_believed() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let ended = check_by_kerberos(&realm, "cache", &service.reach("liar", HOST));
    assert_ended(&ended, 4, &["does not prove who the server is"]);
}

// Over plain http there is no certificate: whoever is on the way could let anybody in, and answer what he likes.
#[test]
fn over_plain_http_the_server_proves_itself() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let ended = check_by_kerberos(&realm, "cache", &service.reach_in_the_clear("plain"));
    assert_ended(&ended, 0, &["may sign in"]);
    let ended = check_by_kerberos(&realm, "cache", &service.reach_in_the_clear("silent"));
    assert_ended(&ended, 4, &["is missing, and over plain http nothing else proves who the server is"]);
}

// The web server of a domain may want Kerberos too, with a name that the KDC does not know: the mail is at the next.
#[test]
fn autodiscover_goes_on_where_the_kdc_does_not_know_a_server() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    sim.exchange().set_ews_url(&format!("https://{HOST}/EWS/Exchange.asmx"));
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let ended = check_by_kerberos(&realm, "cache", &service.reach_by_address("bound"));
    assert_ended(&ended, 0, &["https://example.test/autodiscover/autodiscover.svc: HTTP 401", "may sign in"]);
}

// Not all realms are in upper case.
#[test]
fn a_realm_in_lower_case_is_found() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::named("example.test", ""), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &[]);
    let reach = service.reach("bound", HOST);
    assert_ended(&check_by_kerberos(&realm, "cache", &reach), 0, &["may sign in"]);
    let words = [&BY_KERBEROS[..2], &["--password-env", "EWSN_TEST_PASSWORD"]].concat();
    assert_ended(&check(&realm, "empty", &reach, &words), 0, &["may sign in"]);
}

// A watch that nobody tends: a keytab brings tickets by itself, and Apache passes events on as they come.
#[test]
fn a_keytab_keeps_a_watch_behind_apache() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    let Some(apache) = apache(&realm, &sim) else { return };
    let words = [&["--user", ADA, "--fetch", "summary", "--json"], &BY_KERBEROS[..]].concat();
    let mut command = client(&realm, "of the keytab", "watch", &apache.reach, &words);
    command.env("KRB5_CLIENT_KTNAME", realm.path("ada.keytab"));
    let mut watch = Running::start(command);
    watch.event("Connected");
    for n in 0..3 {
        let mail = format!("Subject: number {n}\r\n\r\n");
        sim.exchange().deliver(ADA, mail.as_bytes()).unwrap();
        assert_eq!(watch.event("NewMail")["subject"], format!("number {n}"), "{}", apache.daemon.log());
    }
    watch.signal(rustix::process::Signal::TERM);
    assert_eq!(watch.end().code, Some(0));
    assert!(realm.has_ticket("of the keytab"), "it was fetched by the keytab");
    let by_apache = sim.requests().iter().all(|r| r.header("authorization").is_some());
    assert!(by_apache && !sim.requests().is_empty());
}

// By a password alone, which nothing is kept of.
#[test]
fn a_password_gets_a_ticket() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    let words = [&BY_KERBEROS[..2], &["--password-env", "EWSN_TEST_PASSWORD"]].concat();
    let ended = check(&realm, "empty", &service.reach("bound", HOST), &words);
    assert_ended(&ended, 0, &["may sign in"]);
    assert!(!realm.has_ticket("empty"), "nothing is kept");
}

// A wrong password is tried once for all mailboxes of the user's, or the account would be locked; and the watches end.
#[test]
fn a_wrong_password_is_tried_once() {
    if !is_possible() {
        return;
    }
    let (mut realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    let (one, other) = ("carol@example.test", "dora@example.test");
    let words = ["--user", ADA, "--mailbox", one, "--mailbox", other, "--json", "--password-stdin"];
    let words = [&words, &BY_KERBEROS[..2]].concat();
    let mut watch = Running::start(client(&realm, "empty", "watch", &service.reach("bound", HOST), &words));
    std::io::Write::write_all(&mut watch.stdin.take().unwrap(), b"wrong").unwrap();
    let ended = watch.end();
    assert_ended(&ended, 4, &["signing in to the KDC by the password", "check the password", one, other]);
    assert_eq!(ended.out.matches("\"reason\":\"sign-in-refused\"").count(), 2, "{ended:#?}");
    assert_eq!(realm.stop(), 1, "{ended:#?}");
}

// What is missing, and what to do: each of these would else be "401".
#[test]
fn what_is_missing_is_told() {
    if !is_possible() {
        return;
    }
    let (mut realm, sim) = (Realm::start(""), sim());
    let service = Service::start(&realm, &sim);
    let (reach, stranger) = (service.reach("bound", HOST), service.reach("bound", STRANGER));
    realm.kinit("cache", &[]);
    let text = "not found in Kerberos database";
    let ended = check_by_kerberos(&realm, "cache", &stranger);
    assert_ended(&ended, 4, &[text, &format!("the KDC does not know HTTP/{STRANGER}"), "setspn"]);
    // Somebody else's ticket is not taken: it would be somebody else's mailbox.
    let ended =
        check(&realm, "cache", &reach, &[&BY_KERBEROS[..2], &["--user", "bob@example.test"]].concat());
    assert_ended(&ended, 4, &["bob@EXAMPLE.TEST", "user has to be the principal that klist shows"]);
    // No ticket at all, which ends a watch: it is no use to ask again.
    let words = [&["--user", ADA, "--json"], &BY_KERBEROS[..2]].concat();
    let watch = Running::start(client(&realm, "empty", "watch", &reach, &words)).end();
    assert_ended(&watch, 4, &["kinit", "KRB5_CLIENT_KTNAME", "\"type\":\"Closed\""]);
    // The KDC is away: that may pass.
    realm.stop();
    let ended = check_by_kerberos(&realm, "cache", &reach);
    assert_ended(&ended, 1, &["Cannot contact any KDC for realm", "does the KDC run"]);
    let mut watch = Running::start(client(&realm, "cache", "watch", &reach, &words));
    watch.json(|event| {
        event["type"] == "Error"
            && event["message"].as_str().is_some_and(|m| m.contains("Cannot contact any KDC"))
    });
    watch.signal(rustix::process::Signal::TERM);
    watch.end();
    let told = service.end();
    assert!(told.iter().all(|(_, sign_in, _)| sign_in == "none"), "no token went out: {told:#?}");
}

// A ticket lasts ten hours, a watch months.
#[test]
fn a_ticket_that_has_expired_is_told() {
    if !is_possible() {
        return;
    }
    let (realm, sim) = (Realm::start("clockskew = 1"), sim());
    let service = Service::start(&realm, &sim);
    realm.kinit("cache", &["-l", "1s"]);
    let reach = service.reach("bound", HOST);
    let mut ended = None;
    // A KDC is lenient, by the skew that is allowed.
    wait_until("the ticket expires", || {
        let check = check_by_kerberos(&realm, "cache", &reach);
        ended = Some(check).filter(|check| check.code != Some(0));
        ended.is_some()
    });
    assert_ended(&ended.unwrap(), 4, &["expired", "renew it with kinit", "k5start"]);
}
