//! How a program proves who it is, as others read it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use ewsnotify::Options;

use super::support::*;

// Our own code reads what our own code has signed: what it gets wrong on both sides, Entra and AD FS would refuse, and no program with a
// certificate could sign in.
#[test]
fn what_a_program_signs_is_right_to_others() {
    let Some(python) = std::env::var_os("EWSN_PYTHON") else {
        eprintln!("not tested: EWSN_PYTHON is not set, so there is no PyJWT");
        return;
    };
    let sim = start();
    sim.issuer().register(APP, Some(APP_SECRET), None);
    // Each mail needs a further one, or so.
    sim.issuer().set_life(Duration::from_secs(1));
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = app_files(dir.path());
    let mut issuer = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oauth_issuer.py"))
        .args([APP, &cert, &sim.token_url(), sim.ca_file().unwrap().to_str().unwrap(), APP_SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(issuer.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let address = format!("http://127.0.0.1:{}", lines.next().unwrap());
    let ways = [
        ("oauth_token_url", "/other/token", "/other/token"),
        ("oauth_authority", "/adfs", "/adfs/oauth2/token"),
    ];
    for (whom, path, _) in ways {
        let mut options = Options::new();
        let ca_file = sim.ca_file().unwrap();
        options.set("url", sim.url()).unwrap().set("ca_file", ca_file.to_str().unwrap()).unwrap();
        options.set(whom, &format!("{address}{path}")).unwrap().set("oauth_client_id", APP).unwrap();
        options.set("oauth_client_cert", &cert).unwrap().set("oauth_client_key", &key).unwrap();
        options.set("mailbox", ADA).unwrap().set("fetch", "summary").unwrap();
        let mut desk = Desk::open(&options);
        desk.connected();
        let before = sim.issuer().counts().requests;
        while sim.issuer().counts().requests < before + 2 {
            desk.mail(&sim, "signed");
        }
        assert!(desk.client.close());
    }
    drop(issuer.stdin.take());
    assert!(issuer.wait().unwrap().success());
    let said: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert!(said.iter().all(|line| line.get("wrong").is_none()), "{said:#?}");
    for (_, _, place) in ways {
        assert!(said.iter().filter(|line| line["place"] == place).count() >= 3, "{said:#?}");
    }
    let ids: BTreeSet<_> = said.iter().map(|line| line["jti"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), said.len());
}
