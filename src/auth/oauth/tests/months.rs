//! Long runs: what must hold over months.

use std::time::Duration;

use super::world::*;
use crate::ErrorKind;
use crate::auth::Secret;
use crate::auth::oauth::*;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

// The help desk that stopped after ninety minutes; and the one that stopped after a month, when the issuer saw a refresh token
// for the second time and took the whole account's tokens away.
#[test]
fn ninety_days() {
    for seed in 0..2 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(Duration::from_secs(HOUR));
        let mut processes = [world.process(0), world.process(1)];
        let (mut restarts, mut outages, mut failed, mut used) = ([0; 2], 0, 0, 0);
        let end = world.now + Duration::from_secs(90 * DAY);
        let (mut up_at, mut down_at) = (None, world.now + Duration::from_secs(rng.u64(DAY..4 * DAY)));
        let mut calm = world.now;
        let mut restart_at = [world.now.as_secs() + DAY, world.now.as_secs() + DAY / 2];
        while world.now < end {
            world.pass(rng.u64(1..240));
            if up_at.is_some_and(|at| world.now >= at) {
                (world.issuer.down, up_at) = (false, None);
                // A back-off may run on for a while.
                calm = world.now + Duration::from_secs(400);
            } else if up_at.is_none() && world.now >= down_at {
                world.issuer.down = true;
                outages += 1;
                up_at = Some(world.now + Duration::from_secs(HOUR));
                down_at = world.now + Duration::from_secs(rng.u64(DAY..4 * DAY));
            }
            for n in 0..2 {
                // Once a day the process is started anew, when it is at rest.
                if world.now.as_secs() >= restart_at[n]
                    && processes[n].job.is_none()
                    && !processes[n].keeper.keeps_lock()
                {
                    restart_at[n] += DAY;
                    restarts[n] += 1;
                    let fresh = world.process(n);
                    let old = std::mem::replace(&mut processes[n], fresh);
                    world.kill(old);
                }
                // Some threads need a token while a renewal goes on, step by step.
                for _ in 0..rng.usize(1..6) {
                    match world.ask(&mut processes[n]) {
                        Step::Use(token) => {
                            used += 1;
                            assert!(
                                world.issuer.takes(&token, world.now),
                                "an old token was used, seed {seed}"
                            );
                            // What came with it, or is newer.
                            let number = |token: &Secret| token.expose()[1..].parse::<usize>().unwrap();
                            let stored = number(&world.stored().refresh_token.unwrap());
                            assert!(stored >= number(&token), "not durable, seed {seed}");
                        }
                        Step::Fail(e) => {
                            failed += 1;
                            assert_eq!(e.kind(), ErrorKind::Connect, "{e}, seed {seed}");
                            assert!(
                                world.issuer.down || world.now < calm,
                                "without a reason, seed {seed}: {e}"
                            );
                        }
                        Step::Busy | Step::Begin(_) => {}
                    }
                    if rng.bool() {
                        world.work(&mut processes[n]);
                    }
                    // A renewal takes a while, but not for ever.
                    if rng.u8(..4) == 0 {
                        world.pass(1);
                    }
                }
            }
        }
        assert_eq!(world.issuer.old, 0, "a refresh token was used twice, seed {seed}");
        assert_eq!(world.most, 1, "requests under way at a time, seed {seed}");
        assert!(restarts[0] >= 88 && restarts[1] >= 88 && outages > 20, "{restarts:?} {outages}");
        // One an hour, not one a process: some more after outages.
        assert!((2000..2700).contains(&world.issuer.requests), "{} renewals", world.issuer.requests);
        assert!(used > 50_000, "{used} used, {failed} failed");
    }
}

// A crash at each point of a renewal. What is lost is what the issuer gave and nobody could store.
#[test]
fn a_crash_at_every_point_of_a_renewal() {
    for grace in [true, false] {
        // Load, the request on its way, its answer, storing: after how many steps it crashes.
        for steps in 0..=5 {
            let mut world = World::new(Duration::from_secs(HOUR));
            world.issuer.grace = grace;
            let mut process = world.process(0);
            world.token(&mut process).unwrap();
            world.pass(HOUR);
            assert!(matches!(world.ask(&mut process), Step::Busy));
            for _ in 0..steps {
                world.work(&mut process);
            }
            // The answer came, or was on the way, and is not stored.
            let lost = steps == 3;
            world.kill(process);
            let mut next = world.process(1);
            let token = world.token(&mut next);
            match (lost, grace) {
                (true, false) => {
                    let e = token.unwrap_err();
                    assert_eq!(
                        (e.kind(), e.code()),
                        (ErrorKind::Auth, Some("invalid_grant")),
                        "{steps}: {e}"
                    );
                    assert!(next.keeper.needs_sign_in());
                }
                _ => {
                    let token = token.unwrap_or_else(|e| panic!("{steps}: {e}"));
                    assert!(world.issuer.takes(&token, world.now), "{steps}");
                    assert_eq!(
                        world.stored().refresh_token.unwrap().expose(),
                        world.issuer.newest,
                        "{steps}"
                    );
                }
            }
            assert_eq!(world.issuer.old, usize::from(lost), "{steps}");
        }
    }
}

// Two programs of one account that start in the same second: the second would send a refresh token that the first has spent.
#[test]
fn two_processes_need_one_request() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(Duration::from_secs(HOUR));
        let mut processes = [world.process(0), world.process(1), world.process(2)];
        let mut done = [false; 3];
        while done != [true; 3] {
            let n = rng.usize(..3);
            match world.ask(&mut processes[n]) {
                Step::Use(token) => done[n] = world.issuer.takes(&token, world.now),
                Step::Fail(e) => panic!("{e}"),
                Step::Busy | Step::Begin(_) => drop(world.work(&mut processes[n])),
            }
        }
        assert_eq!((world.issuer.requests, world.most, world.issuer.old), (1, 1, 0), "seed {seed}");
    }
}
