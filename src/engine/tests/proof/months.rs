//! Ninety days of signing in: tokens that last an hour, a refresh token that changes with each, an issuer that is away for an
//! hour now and then, and a host that is killed every day.

use super::*;
use crate::auth::oauth::tests::world::{Process, World as Signing};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The account of all watches, and the process's keeper of its tokens.
pub(super) struct Account {
    signing: Signing,
    process: Process,
}

impl Account {
    fn new() -> Account {
        let signing = Signing::new(Duration::from_secs(HOUR));
        let process = signing.process(0);
        Account { signing, process }
    }

    /// A token for a request of now, which the server takes; or why there is none.
    pub fn token(&mut self, mono: Duration) -> Option<Error> {
        self.signing.now = mono + Duration::from_secs(1000);
        self.signing.issuer.down = mono.as_secs() / HOUR % 29 == 7;
        match self.signing.token(&mut self.process) {
            Ok(token) => {
                assert!(self.signing.issuer.takes(&token, self.signing.now), "an old token was used");
                None
            }
            Err(e) => Some(e.no_token()),
        }
    }

    pub fn killed(&mut self, life: u64) {
        let next = self.signing.process(life as usize);
        self.signing.kill(std::mem::replace(&mut self.process, next));
    }
}

// The help desk that worked for ninety minutes and then stopped; or that lost the mail of each hour without a token.
#[test]
fn nothing_is_lost_in_ninety_days() {
    let seed = number("EWSN_PROOF_SEED").unwrap_or(11);
    let mut world = World::new(seed, Schedule { faults: true, on_disk: false, xml: false });
    world.faults_until = Duration::ZERO;
    world.mail_until = Duration::from_secs(90 * DAY);
    world.quiet = Duration::from_secs(300);
    world.every = 1800.0;
    world.account = Some(Box::new(Account::new()));
    for day in 1..90 {
        let hour = world.rng.u64(..DAY);
        world.at(Duration::from_secs(day * DAY + hour), Act::Kill);
    }
    world.run();
    let account = world.account.as_ref().expect("it is there");
    let issuer = &account.signing.issuer;
    let (came, excused) = world.ledger.figures();
    println!("{came} items came, {excused} are not told, and a gap says so; {} renewals", issuer.requests);
    assert!(came > 5000, "{came}");
    assert_eq!(issuer.old, 0, "a refresh token was used twice");
    assert_eq!(account.signing.most, 1, "requests under way at a time");
    assert!((1900..2700).contains(&issuer.requests), "{} renewals", issuer.requests);
    assert_eq!(
        account.signing.stored().refresh_token.map(|t| t.expose().to_owned()).as_ref(),
        Some(&issuer.newest)
    );
    // About one in 29 hours is an outage; the token that there was covers the most of some.
    let hits = world.hits.to_string();
    assert!(hits.contains("no token"), "{hits}");
}
