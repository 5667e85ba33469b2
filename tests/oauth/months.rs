//! A token that ends again and again while the stream stands.

use std::time::{Duration, Instant};

use ewsnotify::EventKind;

use super::support::*;

// The help desk that worked for ninety minutes and then stopped. With EWSN_OAUTH_SECONDS=60 for a minute.
#[test]
fn two_second_tokens_while_the_stream_stands() {
    let seconds = std::env::var("EWSN_OAUTH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    let (sim, token, dir) = signed_in();
    sim.issuer().set_life(Duration::from_secs(2));
    let mut options = users(&sim, &token, dir.path());
    // Each event is a request, with a token that is good.
    options.set("fetch", "summary").unwrap();
    let mut desk = Desk::open(&options);
    desk.connected();
    let (until, mut mails) = (Instant::now() + Duration::from_secs(seconds), 0);
    while Instant::now() < until {
        mails += 1;
        desk.mail(&sim, &format!("mail {mails}"));
    }
    let counts = sim.issuer().counts();
    assert_eq!(desk.count(EventKind::NewMail), mails, "{}", desk.told());
    assert_eq!(
        desk.count(EventKind::Disconnected) + desk.count(EventKind::Gap) + desk.count(EventKind::Error),
        0
    );
    assert!(counts.granted as u64 >= seconds / 3, "{counts:?}");
    assert_eq!((counts.old, counts.most, counts.requests), (0, 1, counts.granted), "{counts:?}");
    assert!(desk.client.close());
    println!("{mails} mails, {} renewals in {seconds} s", counts.granted);
    // The latest refresh token is the one that is stored.
    let mut files = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let file = files.find(|p| p.extension().is_some_and(|e| e == "json")).unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(sim.issuer().is_newest(stored["refresh_token"].as_str().unwrap()));
}
