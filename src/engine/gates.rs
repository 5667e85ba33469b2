//! Who is held back after a throttling answer: a whole endpoint, or a mailbox that has a budget of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Engine, verdict};
use crate::Error;

impl Engine {
    /// Holds the endpoint back if the error asks for that, or the watch alone, where it is its mailbox that is charged.
    pub(super) fn shut_gate(&mut self, watch: u64, endpoint: u32, error: &Error) {
        if !verdict::throttles(error) {
            return;
        }
        let now = self.now.mono;
        if error.awaits_token() {
            self.token_was_missing(watch);
            return self
                .endpoint(endpoint)
                .gate
                .shut_without_token(now, error.retry_after().unwrap_or_default());
        }
        let mut rng = self.rng.fork();
        let own = self.watches.get(&watch).is_some_and(|w| w.spec.own_budget);
        let of_the_mailbox = own && error.code().is_some() && !matches!(error.http_status(), Some(429 | 503));
        let e = self.endpoint(endpoint);
        let gate = match of_the_mailbox {
            true => e.gates.entry(watch).or_default(),
            false => &mut e.gate,
        };
        gate.shut(now, &mut rng, error.retry_after());
    }

    pub(super) fn shut_gate_of(&mut self, watch: u64, error: &Error) {
        if let Some(endpoint) = self.watches.get(&watch).map(|w| w.spec.endpoint) {
            self.shut_gate(watch, endpoint, error);
        }
    }

    /// Until when a watch must ask nothing, if its gate or the endpoint's is shut.
    pub(super) fn gate_until(&mut self, endpoint: u32, watch: u64) -> Option<Duration> {
        let now = self.now.mono;
        let e = self.endpoint(endpoint);
        e.gate.shut_until(now).max(e.gates.get(&watch).and_then(|gate| gate.shut_until(now)))
    }

    /// When to come back, if the endpoint's gate is shut: not all in the same instant.
    pub(super) fn gate_shut(&mut self, endpoint: u32) -> Option<Duration> {
        let now = self.now.mono;
        let until = self.endpoint(endpoint).gate.shut_until(now)?;
        Some(until + Duration::from_millis(self.rng.u64(0..=500)))
    }

    /// The same for a watch.
    pub(super) fn gate_shut_for(&mut self, endpoint: u32, watch: u64) -> Option<Duration> {
        let until = self.gate_until(endpoint, watch)?;
        Some(until + Duration::from_millis(self.rng.u64(0..=500)))
    }

    /// The watches of an endpoint whose own gates are shut, and until when.
    pub(super) fn gated(&mut self, endpoint: u32) -> BTreeMap<u64, Duration> {
        let now = self.now.mono;
        let gates = &self.endpoint(endpoint).gates;
        gates.iter().filter_map(|(watch, gate)| Some((*watch, gate.shut_until(now)?))).collect()
    }
}
