//! Hosts that have the tokens themselves: they are asked for each, keep the refresh token, and end with 4 when their user has to sign
//! in anew, with 1 when the mailbox is given up otherwise.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use ewsnotify::sim::Sim;
use ewsnotify::sim::fault::Cut;
use serde_json::{Value, json};

use super::example;
use super::hosts::{ADA, Host, ended, host, mail, python};
use super::install::compile;

fn issuer() -> (Sim, String) {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    sim.issuer().register("desk", None, None);
    let refresh = sim.issuer().sign_in("desk", ADA);
    (sim, refresh)
}

fn options(sim: &Sim) -> Value {
    json!({ "url": sim.url(), "ca_file": sim.ca_file().unwrap(), "user": ADA, "auth": "host", "events": "NewMail" })
}

/// From the first token to the day when there is none any more.
fn lives(sim: &Sim, command: &mut Command) {
    let mut options = options(sim);
    options["mailbox"] = "nobody@example.test".into();
    let mut host = Host::start(command.env("EWSNOTIFY_OPTIONS", options.to_string()));
    host.until("TokenNeeded");
    host.until("Closed");
    assert_eq!(host.end().code(), Some(1));

    options.as_object_mut().unwrap().remove("mailbox");
    command.env("EWSNOTIFY_OPTIONS", options.to_string());
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(ended(&mut command.stdout(full).spawn().unwrap()).code(), Some(1));

    let mut host = Host::start(command.stdout(Stdio::piped()));
    let need = host.until("TokenNeeded");
    assert_eq!((&need["account"], &need["reason"]), (&json!(ADA), &json!("token-needed")));
    assert!(sim.url().starts_with(need["resource"].as_str().unwrap()), "{need}");
    host.until("Connected");
    let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], id.as_str());

    // Conditional access: another token of the same sort would be as bad, and claims that the issuer cannot read would be the account's end.
    let claims = json!({"access_token": {"nbf": {"essential": true, "value": "1700000000"}}});
    sim.issuer().demand_claims(claims.clone());
    sim.cut_streams(Cut::Reset);
    let need = host.until("TokenNeeded");
    assert_eq!(need["reason"], "token-refused");
    assert_eq!(serde_json::from_str::<Value>(need["claims"].as_str().unwrap()).unwrap(), claims);
    let id = sim.exchange().deliver(ADA, &mail(2)).unwrap();
    assert_eq!(host.until("NewMail")["item_id"], id.as_str());

    sim.issuer().revoke_refresh();
    sim.issuer().revoke_access();
    sim.cut_streams(Cut::Reset);
    let error = host.until("Error");
    assert!(error["message"].as_str().unwrap().contains("invalid_grant"), "{error}");
    assert_eq!(host.until("Closed")["reason"], "sign-in-refused");
    assert_eq!(host.end().code(), Some(4));
}

fn with_a_refresh_token(mut command: Command) {
    let (sim, refresh) = issuer();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("refresh-token");
    std::fs::write(&file, &refresh).unwrap();
    command.args([sim.token_url(), "desk".to_owned()]).arg(&file);
    let newest = |file: &Path| std::fs::read_to_string(file).unwrap();
    lives(&sim, &mut command);
    assert_ne!(newest(&file), refresh, "the issuer gave another one");
}

/// A help desk in PHP would stop after an hour, or lose its user's sign-in with the first renewal, and end as if all were well.
#[test]
fn php_gives_its_own_tokens() {
    let mut command = host("php");
    command.arg(example("php/own_tokens.php"));
    with_a_refresh_token(command);
}

/// The same in Python.
#[test]
fn python_gives_its_own_tokens() {
    let mut command = python();
    command.arg(example("python/own_tokens.py"));
    with_a_refresh_token(command);
}

/// The same in C, by a command that asks the token endpoint.
#[test]
fn c_gives_its_own_tokens() {
    let (sim, refresh) = issuer();
    sim.issuer().rotate(false);
    let dir = tempfile::tempdir().unwrap();
    let program = compile("cc", &example("c/own_tokens.c"), &["-std=c99"], dir.path());
    let ask = format!(
        "curl -sS --cacert '{}' -d grant_type=refresh_token -d client_id=desk -d refresh_token='{refresh}' \
         ${{EWSN_CLAIMS:+--data-urlencode \"claims=$EWSN_CLAIMS\"}} '{}'",
        sim.ca_file().unwrap().display(),
        sim.token_url()
    );
    lives(&sim, host(program).arg(ask));
}
