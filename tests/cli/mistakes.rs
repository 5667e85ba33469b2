//! What people get wrong when they begin. Each text must say what was tried, with what, what came back, and what to do.

use std::net::TcpListener;

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::{Action, Fault};

use crate::support::{Ended, PASSWORD, Running, USER, assert_no_secret, command, sim};

/// `watch` with these words, the password by the environment.
fn watch(url: &str, words: &[&str]) -> Ended {
    watch_with(PASSWORD, url, words)
}

fn watch_with(password: &str, url: &str, words: &[&str]) -> Ended {
    let fixed =
        ["watch", "--url", url, "--user", USER, "--password-env", "EWSN_TEST_PASSWORD", "--for", "3s"];
    let mut watch = command(&[&fixed, words].concat());
    watch.env("EWSN_TEST_PASSWORD", password);
    let ended = Running::start(watch).end();
    assert_no_secret(&ended);
    ended
}

/// It ends with this code, and says all of this on stderr.
fn says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.err.starts_with("ewsnotify: "), "{ended:?}");
    for word in words {
        assert!(ended.err.contains(word), "{word:?} is not in {:?}", ended.err);
    }
}

fn ca(sim: &Sim) -> String {
    sim.ca_file().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_host_that_is_not_known() {
    let url = "https://mail.nowhere.invalid/EWS/Exchange.asmx";
    says(&watch("mail.nowhere.invalid", &[]), 1, &[url, USER, "check the host's name"]);
}

// A host of that name would be looked up, and nothing be found.
#[test]
fn auto_is_autodiscover_in_any_case() {
    for (url, rest) in [("Auto", &[][..]), ("mail.nowhere.invalid", &["--option", "url=AUTO"])] {
        let rest = [rest, &["--mailbox", "ada@nowhere.invalid"]].concat();
        says(&watch(url, &rest), 1, &["Autodiscover found no server for ada@nowhere.invalid"]);
    }
}

#[test]
fn a_port_where_nothing_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = watch(&format!("https://{free}"), &[]);
    says(&ended, 1, &[&free.to_string(), "refused", "check host and port"]);
}

#[test]
fn a_server_that_says_nothing_in_time() {
    let sim = sim();
    sim.add_fault(Fault::new(Action::NoHandshake).always());
    says(&watch(sim.url(), &["--ca-file", &ca(&sim)]), 1, &["nothing has been heard of", sim.url()]);
}

#[test]
fn http_and_https_mixed_up() {
    let sim = sim();
    let ended = watch(&sim.url().replace("https:", "http:"), &[]);
    says(&ended, 1, &["speaks TLS", "must begin with https", "check the url"]);
    let sim = Sim::builder().tls(false).user(USER, PASSWORD).start().unwrap();
    let ended = watch(&sim.url().replace("http:", "https:"), &[]);
    says(&ended, 1, &["plain http", "check the url"]);
}

#[test]
fn a_wrong_password() {
    let sim = sim();
    let ended = watch_with("wr0ng-Zwiebelfisch", sim.url(), &["--ca-file", &ca(&sim)]);
    says(&ended, 4, &[sim.url(), USER, "HTTP 401", "check user name and password"]);
    assert!(!ended.err.contains("wr0ng"), "{ended:?}");
}

#[test]
fn clear_text_to_another_machine() {
    let ended = watch("http://192.0.2.1", &[]);
    says(&ended, 2, &["http://192.0.2.1", "would see the password", "Use https", "allow_plaintext"]);
}

// No sign-in was tried, so a new one would not help: 1, not 4.
#[test]
fn an_authority_that_is_not_known() {
    let sim = sim();
    let ended = watch(sim.url(), &[]);
    says(&ended, 1, &[sim.url(), "does not know", "ca_file"]);
    assert!(!ended.err.contains("sign-in"), "{ended:?}");
    assert_eq!(sim.stats().unauthorized, 0);
}

#[test]
fn a_path_where_there_is_no_ews() {
    let sim = sim();
    let url = sim.url().replace("/EWS/Exchange.asmx", "/exchange");
    says(&watch(&url, &["--ca-file", &ca(&sim)]), 1, &[&url, "HTTP 404", "no EWS", "check the server's URL"]);
}

#[test]
fn a_portal_that_answers_with_a_page() {
    let sim = sim();
    sim.add_fault(Fault::new(Action::Html).always());
    let words = [sim.url(), "HTTP 200", "text/html", "<!DOCTYPE html", "portal"];
    says(&watch(sim.url(), &["--ca-file", &ca(&sim)]), 1, &words);
}

#[test]
fn a_mailbox_or_a_folder_that_is_not_there() {
    let sim = sim();
    let ca = ca(&sim);
    let nobody = "nobody@example.test";
    let ended = watch(sim.url(), &["--ca-file", &ca, "--mailbox", nobody]);
    says(&ended, 1, &[nobody, "ErrorNonExistentMailbox", "check the address of the mailbox"]);

    sim.exchange().add_mailbox(nobody);
    let ended = watch(sim.url(), &["--ca-file", &ca, "--mailbox", nobody]);
    says(&ended, 1, &[nobody, "right on the mailbox", "access"]);

    let ended = watch(sim.url(), &["--ca-file", &ca, "--folder", "id:AAMkbad"]);
    says(&ended, 1, &["ErrorInvalidIdMalformed", "check the ids in option folders"]);
    let ended = watch(sim.url(), &["--ca-file", &ca, "--folder", "inbx"]);
    says(&ended, 2, &["folders", "inbox", "\"inbx\""]);

    // Two flags became one folder of a name that nobody has.
    for folder in [r"inbox/x\", r"/Sent Items\"] {
        let ended = watch(sim.url(), &["--ca-file", &ca, "--folder", folder, "--folder", "sentitems"]);
        says(&ended, 2, &["folders", r"lone \ at its end"]);
    }
    let ended = watch(sim.url(), &["--ca-file", &ca, "--option", r"folders=sentitems,inbox/x\"]);
    says(&ended, 2, &["folders", r"lone \ at its end"]);
}
