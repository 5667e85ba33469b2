//! Several processes of one account.

use std::process::{Command, Stdio};

use super::support::*;

const URL: &str = "EWSN_TEST_OAUTH_URL";

// Two workers that start in the same second: the second would send the refresh token that the first has spent, and the issuer
// would take both for a thief's.
#[test]
fn two_processes_renew_once() {
    let (sim, token, dir) = signed_in();
    let spawn = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "processes::role", "--nocapture", "--test-threads=1"]);
        command.env(URL, sim.url()).env("EWSN_TEST_TOKEN_URL", sim.token_url());
        command.env("EWSN_TEST_CA", sim.ca_file().unwrap()).env("EWSN_TEST_TOKEN", &token);
        command.env("EWSN_TEST_STORE", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..3).map(|_| spawn()).collect();
    for child in children {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let counts = sim.issuer().counts();
    assert_eq!((counts.requests, counts.old, counts.most), (1, 0, 1));
}

/// One of the processes.
#[test]
fn role() {
    let Ok(url) = std::env::var(URL) else { return };
    let var = |name: &str| std::env::var(name).unwrap();
    let mut options = ewsnotify::Options::new();
    options.set("url", &url).unwrap().set("ca_file", &var("EWSN_TEST_CA")).unwrap().set("user", ADA).unwrap();
    options.set("oauth_token_url", &var("EWSN_TEST_TOKEN_URL")).unwrap().set("oauth_client_id", APP).unwrap();
    options.set("oauth_refresh_token", &var("EWSN_TEST_TOKEN")).unwrap();
    options.set("oauth_token_store", &var("EWSN_TEST_STORE")).unwrap();
    let mut desk = Desk::open(&options);
    desk.connected();
    assert!(desk.client.close());
}
