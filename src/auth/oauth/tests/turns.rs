//! One turn at a time: refusals, outages, full disks, clocks.

use std::sync::Arc;
use std::time::Duration;

use super::world::*;
use crate::ErrorKind;
use crate::auth::Secret;
use crate::auth::oauth::*;

const HOUR: u64 = 3600;

fn started() -> (World, Process, Secret) {
    let mut world = World::new(Duration::from_secs(HOUR));
    let mut process = world.process(0);
    let token = world.token(&mut process).unwrap();
    (world, process, token)
}

// Whoever waits for a renewal that goes on in time would stand still for nothing; who uses what has ended is refused.
#[test]
fn it_is_renewed_ahead_and_used_meanwhile() {
    let (mut world, mut process, first) = started();
    world.pass(HOUR - 460);
    assert_eq!(world.token(&mut process).unwrap(), first);
    assert_eq!(world.issuer.requests, 1);
    world.pass(165);
    assert!(matches!(world.ask(&mut process), Step::Busy), "one renews it");
    let Step::Use(meanwhile) = world.ask(&mut process) else { panic!("the others go on") };
    assert_eq!(meanwhile, first);
    world.pass(300);
    assert!(matches!(world.ask(&mut process), Step::Busy), "now they wait");
    let second = world.token(&mut process).unwrap();
    assert_ne!(second, first);
    assert_eq!(world.issuer.requests, 2);
}

// Ten connections that see the same 401 must not make ten renewals; and one server that takes nothing must not make one with each
// request.
#[test]
fn a_token_that_is_refused_is_renewed_once() {
    let (mut world, mut process, first) = started();
    for _ in 0..10 {
        process.keeper.refused(&first, None, world.moment());
    }
    let second = world.token(&mut process).unwrap();
    process.keeper.refused(&first, None, world.moment());
    assert_eq!(world.token(&mut process).unwrap(), second);
    assert_eq!(world.issuer.requests, 2);
    process.keeper.refused(&second, None, world.moment());
    assert_eq!(world.token(&mut process).unwrap(), second, "it was renewed a moment ago");
    world.pass(31);
    process.keeper.refused(&first, None, world.moment());
    assert_eq!(world.token(&mut process).unwrap(), second, "late news of the old one");
    process.keeper.refused(&second, None, world.moment());
    assert_ne!(world.token(&mut process).unwrap(), second);
    assert_eq!(world.issuer.requests, 3);
}

// Conditional access wants to know more: without its claims the next token is as bad as the last.
#[test]
fn claims_go_to_the_issuer_once() {
    let (mut world, mut process, first) = started();
    let claims = r#"{"access_token":{"nbf":{"value":"1"}}}"#;
    process.keeper.refused(&first, Some(claims), world.moment());
    let second = world.token(&mut process).unwrap();
    let sent = world.issuer.claims[1].clone().unwrap();
    assert!(sent.starts_with("%7B%22access_token%22"), "{sent}");
    world.pass(31);
    process.keeper.refused(&second, None, world.moment());
    world.token(&mut process).unwrap();
    assert_eq!(world.issuer.claims[2], None);
}

// An endpoint that is down must not be asked by each thread again and again, nor end the watch.
#[test]
fn an_outage_is_waited_for() {
    let (mut world, mut process, first) = started();
    world.issuer.down = true;
    world.pass(HOUR - 300);
    assert_eq!(world.token(&mut process).unwrap(), first, "it is good still");
    world.pass(300);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let e = world.token(&mut process).unwrap_err();
        assert!(e.kind() == ErrorKind::Connect && e.is_retryable(), "{e}");
        let again = world.token(&mut process).unwrap_err();
        let wait = again.retry_after().unwrap();
        waits.push(wait.as_secs());
        world.now += wait;
    }
    assert!(waits.iter().all(|wait| *wait <= 375) && waits.last() > Some(&290), "{waits:?}");
    assert!(!process.keeper.needs_sign_in());
    world.issuer.down = false;
    assert!(world.token(&mut process).is_ok());
}

// A 429 that is not obeyed becomes a longer one.
#[test]
fn what_the_endpoint_asks_to_wait_is_waited() {
    let (world, mut process, _) = started();
    let denied = answer::read(429, b"", Some(Duration::from_secs(120)), &str::to_owned).unwrap_err();
    process.keeper.refused(&Secret::new("a1"), None, world.moment());
    process.keeper.answered(Err(denied), world.moment());
    let Step::Fail(e) = process.keeper.token(world.moment(), &mut |b| b.fill(1)) else { panic!() };
    assert!(e.retry_after() >= Some(Duration::from_secs(120)), "{e:?}");
    let ages = answer::read(503, b"", Some(Duration::from_secs(9_000_000)), &str::to_owned).unwrap_err();
    process.keeper.answered(Err(ages), world.moment());
    let Step::Fail(e) = process.keeper.token(world.moment(), &mut |b| b.fill(1)) else { panic!() };
    assert!(e.retry_after() <= Some(Duration::from_secs(4500)), "{e:?}");
}

// A user whose sign-in has ended must be asked for it; a program that asks the issuer for ever is locked out.
#[test]
fn a_refusal_ends_the_asking_until_somebody_signs_in() {
    let (mut world, mut process, _) = started();
    world.issuer.newest = "revoked".into();
    world.pass(HOUR);
    let e = world.token(&mut process).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("invalid_grant")));
    let asked = world.issuer.requests;
    for _ in 0..100 {
        world.pass(60);
        let e = world.token(&mut process).unwrap_err();
        assert!(e.to_string().contains("AADSTS70008") && e.code() == Some("invalid_grant"), "{e}");
    }
    assert_eq!(world.issuer.requests, asked);
    // `ewsnotify login`, in another process.
    let mut signed_in = world.stored();
    signed_in.refresh_token = Some(Secret::new("fresh"));
    world.disk.file = Some(signed_in.write().to_vec());
    world.issuer = Authority::new(Duration::from_secs(HOUR));
    world.issuer.newest = "fresh".into();
    world.pass(11);
    assert!(world.token(&mut process).is_ok());
    assert!(!process.keeper.needs_sign_in());
}

// Whoever sets a new refresh token after `invalid_grant` expects it to be used; who restarts with the old one expects the newest.
#[test]
fn a_new_refresh_token_of_the_hosts_wins_and_an_old_one_does_not() {
    let (mut world, process, _) = started();
    world.kill(process);
    world.pass(2 * HOUR);
    let mut again = world.process(1);
    world.token(&mut again).unwrap();
    assert_eq!(world.issuer.old, 0, "the same option as before, r0, is spent");
    world.kill(again);
    world.account =
        Arc::new(Account { refresh_token: Some(Secret::new("other")), ..(*world.account).clone() });
    world.issuer.newest = "other".into();
    let mut other = world.process(2);
    world.token(&mut other).unwrap();
    assert_eq!(world.issuer.old, 0, "the new option counts");
    // The option is the old one still, and the user has signed in by the command since.
    let mut signed_in = world.stored();
    (signed_in.refresh_token, signed_in.given, signed_in.access_token) =
        (Some(Secret::new("login")), None, None);
    world.disk.file = Some(signed_in.write().to_vec());
    world.issuer = Authority::new(Duration::from_secs(HOUR));
    world.issuer.newest = "login".into();
    world.pass(2 * HOUR);
    let mut last = world.process(3);
    assert!(world.token(&mut last).is_err(), "the one that was given is tried first");
    world.issuer = Authority::new(Duration::from_secs(HOUR));
    world.issuer.newest = "login".into();
    world.pass(11);
    world.token(&mut last).unwrap();
}

// The newest refresh token must outlive a full disk; another process must not send the one before meanwhile.
#[test]
fn what_cannot_be_stored_is_not_used_and_not_lost() {
    let (mut world, mut process, first) = started();
    world.disk.full = true;
    world.pass(HOUR - 300);
    assert_eq!(world.token(&mut process).unwrap(), first, "the old one is good still");
    assert!(process.keeper.keeps_lock() && process.keeper.unstored().is_some());
    world.pass(400);
    let e = world.token(&mut process).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    let mut other = world.process(1);
    assert!(matches!(world.ask(&mut other), Step::Busy));
    assert!(!world.work(&mut other), "the lock is kept");
    assert_eq!(world.issuer.requests, 2, "it is not asked for once more");
    world.disk.full = false;
    world.pass(300);
    let token = world.token(&mut process).unwrap();
    assert!(world.issuer.takes(&token, world.now));
    assert!(!process.keeper.keeps_lock());
    assert_eq!(world.stored().refresh_token.unwrap().expose(), world.issuer.newest);
    while world.work(&mut other) {}
    assert_eq!(world.token(&mut other).unwrap(), token);
    assert_eq!((world.issuer.requests, world.issuer.old), (2, 0));
}

// A machine that was asleep, or whose clock was set, must neither use what has ended nor take what is good for ended for ever.
#[test]
fn clocks_that_jump() {
    let (mut world, mut process, first) = started();
    // Asleep for two hours: the monotonic clock has not moved.
    world.skew = 2 * HOUR as i64;
    world.issuer.down = true;
    assert!(world.token(&mut process).is_err(), "what has ended is not used");
    world.issuer.down = false;
    world.pass(5);
    let second = world.token(&mut process).unwrap();
    assert_ne!(second, first);
    // Set back by a day: it is good by the other clock, and ends by it.
    world.skew = -86_400;
    assert_eq!(world.token(&mut process).unwrap(), second);
    let mut restarted = world.process(1);
    world.token(&mut restarted).unwrap();
    assert_eq!(world.issuer.requests, 3, "what is stored with a time that has not come yet is not believed");
    world.pass(HOUR);
    let later = world.token(&mut process).unwrap();
    assert!(world.issuer.takes(&later, world.now));
    assert_eq!(world.issuer.old, 0);
}

// A worker that panicked would leave all others waiting for ever.
#[test]
fn a_job_that_is_abandoned_is_begun_anew() {
    let mut world = World::new(Duration::from_secs(HOUR));
    let mut process = world.process(0);
    assert!(matches!(world.ask(&mut process), Step::Busy));
    process.job = None;
    process.keeper.abandoned();
    assert!(world.token(&mut process).is_ok());
}

// A damaged file is told, again and again, and the issuer is left alone: what it holds may be the newest.
#[test]
fn a_damaged_store_is_told() {
    let (mut world, process, _) = started();
    world.kill(process);
    world.disk.file = Some(b"{".to_vec());
    let mut process = world.process(1);
    let e = world.token(&mut process).unwrap_err();
    assert!(e.kind() == ErrorKind::State && e.to_string().contains("damaged"), "{e}");
    assert_eq!(world.issuer.requests, 1);
}

// Without a store the host has to hear of each new refresh token, or its next start is with one that is spent.
#[test]
fn without_a_store_the_host_is_told_of_rotation() {
    let mut world = World::new(Duration::from_secs(HOUR));
    let mut process = world.process(0);
    process.keeper = Keeper::new(world.account.clone(), false, 1);
    assert!(matches!(world.ask(&mut process), Step::Busy));
    while matches!(process.job, Some(Job::Ask(_))) {
        world.work(&mut process);
    }
    assert!(process.keeper.is_busy() && world.told.is_empty(), "an end now would lose it");
    world.token(&mut process).unwrap();
    world.work(&mut process);
    assert!(!process.keeper.is_busy());
    let told: Vec<_> = world.told.iter().map(|token| token.expose().to_owned()).collect();
    assert_eq!(told, [world.issuer.newest.clone()]);
    assert!(world.disk.file.is_none());
}

// An answer without a refresh token leaves the old one, and is no change to store first.
#[test]
fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let (mut world, mut process, _) = started();
    world.pass(HOUR);
    assert!(matches!(world.ask(&mut process), Step::Busy));
    world.work(&mut process);
    let body = br#"{"token_type":"Bearer","expires_in":3600,"access_token":"plain"}"#;
    let answer = answer::read(200, body, None, &str::to_owned);
    world.disk.full = true;
    let Next::Go(Job::Store(record)) = process.keeper.answered(answer, world.moment()) else { panic!() };
    assert_eq!(record.refresh_token.as_ref().unwrap().expose(), world.issuer.newest);
    process.job = Some(Job::Store(record));
    world.work(&mut process);
    assert_eq!(world.token(&mut process).unwrap().expose(), "plain", "a full disk is no reason to stop");
    assert!(!process.keeper.keeps_lock());
}

// "When that is done, add the watch again" would be no help before half an hour is over, or the process is started anew.
#[test]
fn a_watch_that_is_added_again_has_the_issuer_asked_once() {
    let refused = |process: &mut Process, world: &World, number: u32| {
        let body = format!(r#"{{"error":"invalid_grant","error_codes":[{number}]}}"#);
        let denied = answer::read(400, body.as_bytes(), None, &str::to_owned);
        process.keeper.refused(&Secret::new("a1"), None, world.moment());
        process.keeper.answered(denied, world.moment());
    };
    // A consent that was missing, and is given now.
    let (mut world, mut process, _) = started();
    refused(&mut process, &world, 65_001);
    assert!(world.token(&mut process).is_err() && world.issuer.requests == 1);
    process.keeper.again(world.moment());
    assert!(world.token(&mut process).is_ok() && world.issuer.requests == 2);
    // A refresh token that is none any more is not sent again, but a login counts at once.
    let (mut world, mut process, _) = started();
    refused(&mut process, &world, 70_008);
    process.keeper.again(world.moment());
    let e = world.token(&mut process).unwrap_err();
    assert!(e.code() == Some("invalid_grant") && world.issuer.requests == 1, "{e}");
    let mut signed_in = world.stored();
    (signed_in.refresh_token, signed_in.access_token) = (Some(Secret::new("fresh")), None);
    world.disk.file = Some(signed_in.write().to_vec());
    world.issuer.newest = "fresh".into();
    process.keeper.again(world.moment());
    assert!(
        world.token(&mut process).is_err(),
        "many watches are added at once, and the issuer is left alone"
    );
    world.pass(11);
    process.keeper.again(world.moment());
    assert!(world.token(&mut process).is_ok());
    // What the endpoint asks to wait is waited.
    let (mut world, mut process, _) = started();
    let later = answer::read(429, b"", Some(Duration::from_secs(120)), &str::to_owned).unwrap_err();
    process.keeper.refused(&Secret::new("a1"), None, world.moment());
    process.keeper.answered(Err(later), world.moment());
    process.keeper.again(world.moment());
    assert!(world.token(&mut process).is_err() && world.issuer.requests == 1);
}

// The administrator has set the new client secret, and the program would not ask for half an hour; nor for a second correction.
#[test]
fn another_proof_is_tried_at_once() {
    let (mut world, mut process, _) = started();
    let asked = world.issuer.requests;
    for secret in ["mistyped", "right"] {
        let denied = answer::read(401, br#"{"error":"invalid_client"}"#, None, &str::to_owned);
        process.keeper.refused(&Secret::new("a1"), None, world.moment());
        process.keeper.answered(denied, world.moment());
        process.keeper.again(world.moment());
        let proof = Proof::Secret(Secret::new(secret));
        process.keeper.prove_like(&Account { proof, ..Account::clone(&world.account) });
        assert!(matches!(world.ask(&mut process), Step::Busy), "{secret}");
        process.job = None;
        process.keeper.abandoned();
    }
    assert!(world.token(&mut process).is_ok() && world.issuer.requests == asked + 1);
}

// Whoever knows the user's name, and the store, would read the user's mail by a refresh token that is none, on the second try.
#[test]
fn a_refresh_token_that_was_never_taken_leads_to_nothing_stored() {
    let (mut world, mut process, _) = started();
    let good = world.account.clone();
    world.account =
        Arc::new(Account { refresh_token: Some(Secret::new("made-up")), ..Account::clone(&good) });
    let mut made_up = world.process(1);
    // The issuer forgives a guess.
    let denied = answer::read(400, br#"{"error":"invalid_grant"}"#, None, &str::to_owned);
    assert!(matches!(world.ask(&mut made_up), Step::Busy));
    while matches!(made_up.job, Some(Job::Load)) {
        world.work(&mut made_up);
    }
    made_up.job = None;
    made_up.keeper.answered(denied, world.moment());
    world.disk.owner = None;
    for _ in 0..3 {
        world.pass(60);
        made_up.keeper.again(world.moment());
        assert_eq!(world.token(&mut made_up).unwrap_err().code(), Some("invalid_grant"));
    }
    assert!(!made_up.keeper.works() && world.issuer.requests == 1);
    // Who gives none has what is stored, not what a guess leads to; and leaves what had been given as it was.
    let none = Account { refresh_token: None, ..Account::clone(&good) };
    assert!(process.keeper.knows(&none) && !made_up.keeper.knows(&none));
    world.account = Arc::new(none);
    let mut reader = world.process(2);
    world.pass(2 * HOUR);
    world.token(&mut reader).unwrap();
    assert_eq!(world.stored().given, good.given());
    assert!(world.token(&mut process).is_ok() && world.issuer.old == 0);
}

// A host that starts a watch with the refresh token that it kept last week would send one that is spent, and the issuer would end the
// sign-in for all.
#[test]
fn what_was_given_or_came_is_known_again() {
    let (mut world, mut process, _) = started();
    let given =
        |token: &str| Account { refresh_token: Some(Secret::new(token)), ..Account::clone(&world.account) };
    let (first, other) = (given("r0"), given("other"));
    let mut kept = vec![first.clone(), given(&world.issuer.newest)];
    for _ in 0..40 {
        world.pass(HOUR);
        world.token(&mut process).unwrap();
        kept.push(Account { refresh_token: Some(Secret::new(world.issuer.newest.clone())), ..first.clone() });
    }
    assert!(kept.iter().all(|account| process.keeper.knows(account)));
    assert!(!process.keeper.knows(&other) && process.keeper.works());
    // One that takes its place knows what it knew.
    let mut newer = Keeper::new(Arc::new(other.clone()), true, 1);
    assert!(!newer.works() && !newer.knows(&first));
    newer.replace(&process.keeper);
    assert!(kept.iter().chain([&other]).all(|account| newer.knows(account)));
    // A program that acts for itself is known by how it proves that.
    let program = |secret: &str| Account { proof: Proof::Secret(Secret::new(secret)), ..account(None) };
    let keeper = Keeper::new(Arc::new(program("one")), false, 1);
    assert!(keeper.knows(&program("one")) && !keeper.knows(&program("two")));
}
