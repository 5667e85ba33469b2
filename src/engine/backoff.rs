//! How long to wait: doubling waits with jitter, and the gate that holds back a whole endpoint.

use std::time::Duration;

/// No wait of our own is longer.
const CEILING: Duration = Duration::from_secs(60);
/// No wait that a server asks for is obeyed longer.
const ASKED_CEILING: Duration = Duration::from_secs(600);

/// Waits 0, 1, 2, 4 … 60 seconds with jitter.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. What the server asked for is obeyed as a minimum, up to ten minutes.
    pub fn next(&mut self, rng: &mut fastrand::Rng, asked: Option<Duration>) -> Duration {
        let seconds = match self.failures {
            0 => 0,
            n => 1u64 << (n - 1).min(6),
        };
        self.failures = self.failures.saturating_add(1);
        let own = Duration::from_millis(seconds * rng.u64(800..=1200)).min(CEILING);
        match asked {
            // A little later than asked, so that not everybody comes back in the same instant.
            Some(asked) => own.max(asked.min(ASKED_CEILING) + Duration::from_millis(rng.u64(0..=500))),
            None => own,
        }
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures came in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Holds back all new calls and streams of an endpoint after a throttling answer: budgets belong to the account.
#[derive(Debug, Default)]
pub(super) struct Gate {
    until: Duration,
    backoff: Backoff,
    /// Only for want of a token.
    tokenless: bool,
}

impl Gate {
    /// Shuts it. Answers to requests that were under way already do not make the wait longer each.
    pub fn shut(&mut self, now: Duration, rng: &mut fastrand::Rng, asked: Option<Duration>) {
        self.tokenless = false;
        if now >= self.until {
            let wait = self.backoff.next(rng, asked).max(Duration::from_secs(1));
            self.until = now + wait;
        } else if let Some(asked) = asked {
            self.until = self.until.max(now + asked.min(ASKED_CEILING));
        }
    }

    /// Shuts it while the host owes a token.
    pub fn shut_without_token(&mut self, now: Duration, wait: Duration) {
        if now >= self.until {
            (self.until, self.tokenless) = (now + wait, true);
        }
    }

    /// The token is there. What a server has asked for stands.
    pub fn token_came(&mut self, at: Duration) {
        if self.tokenless {
            self.until = self.until.min(at);
        }
    }

    /// Something was answered well; true if that was not before the gate opened.
    pub fn worked(&mut self, now: Duration) -> bool {
        let open = now >= self.until;
        if open {
            self.backoff.reset();
        }
        open
    }

    /// When it opens, if it is shut now.
    pub fn shut_until(&self, now: Duration) -> Option<Duration> {
        (self.until > now).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A server in trouble would be asked too often, or a host would wait for hours.
    #[test]
    fn waits_double_up_to_a_minute_and_start_with_none() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut b = Backoff::default();
        let waits: Vec<f64> = (0..10).map(|_| b.next(&mut rng, None).as_secs_f64()).collect();
        for (wait, want) in waits.iter().zip([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!(*wait >= want * 0.79 && *wait <= want * 1.21 && *wait <= 60.0, "{waits:?}");
        }
        b.reset();
        assert_eq!(b.next(&mut rng, None), Duration::ZERO);
    }

    // A throttling server's BackOffMilliseconds would be ignored, or a nonsense value would silence a watch for days.
    #[test]
    fn what_the_server_asks_is_a_minimum_with_a_ceiling() {
        let mut rng = fastrand::Rng::with_seed(2);
        let asked = Duration::from_secs(178);
        let wait = Backoff::default().next(&mut rng, Some(asked));
        assert!(wait >= asked && wait < asked + Duration::from_secs(1), "{wait:?}");
        let wait = Backoff::default().next(&mut rng, Some(Duration::from_secs(1 << 40)));
        assert!(wait <= ASKED_CEILING + Duration::from_secs(1), "{wait:?}");
    }

    // Two hundred answers "busy" to two hundred calls would count as two hundred failures.
    #[test]
    fn answers_to_calls_under_way_do_not_lengthen_the_wait() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut gate = Gate::default();
        for _ in 0..200 {
            gate.shut(Duration::from_secs(5), &mut rng, None);
        }
        let until = gate.shut_until(Duration::from_secs(5)).unwrap();
        assert_eq!(until, Duration::from_secs(6));
        assert_eq!(gate.shut_until(until), None);
    }
}
