//! The load that a mailbox may make: requests at a time, and of those SyncFolderItems.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use super::Exchange;
use super::ops::Fail;
use super::world::World;
use super::write::Refusal;

/// What is under way, by who is charged for it: the user, or whom it impersonates.
#[derive(Debug, Default)]
pub(super) struct Load {
    under_way: BTreeMap<String, UnderWay>,
    refused: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    requests: usize,
    syncs: usize,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Charge {
    acting: String,
    sync: bool,
}

/// Takes a request on, unless there are too many.
pub(super) fn charge(world: &mut World, acting: &str, operation: &str) -> Result<Option<Charge>, Fail> {
    // Streams have a limit of their own.
    if operation == "GetStreamingEvents" {
        return Ok(None);
    }
    let sync = operation == "SyncFolderItems";
    let (most, most_syncs) = (world.settings.max_requests, world.settings.max_syncs);
    let load = &mut world.load;
    let busy = load.under_way.get(acting).copied().unwrap_or_default();
    if busy.requests >= most {
        load.refused += 1;
        let text = "You have exceeded the available concurrent connections for your account. Try again once your other \
                    requests have completed.";
        let values = [("Policy", "MaxConcurrency".into()), ("MaxConcurrencyLimit", most.to_string())];
        return Err(Fail::Fault(refusal("ErrorExceededConnectionCount", text, values)));
    }
    if sync && busy.syncs >= most_syncs {
        load.refused += 1;
        let text = "The server cannot service this request right now. Try again later.";
        let values = [("BackOffMilliseconds", "5000".into()), ("Policy", "ConcurrentSyncCalls".into())];
        return Err(Fail::Message(refusal("ErrorServerBusy", text, values)));
    }
    let busy = load.under_way.entry(acting.to_owned()).or_default();
    busy.requests += 1;
    busy.syncs += usize::from(sync);
    Ok(Some(Charge { acting: acting.to_owned(), sync }))
}

fn refusal<const N: usize>(code: &str, text: &str, values: [(&str, String); N]) -> Refusal {
    let values = values.map(|(name, value)| (name.to_owned(), value)).to_vec();
    Refusal { values, ..Refusal::new(code, text) }
}

impl World {
    pub(super) fn release(&mut self, charge: Charge) {
        let Some(busy) = self.load.under_way.get_mut(&charge.acting) else { return };
        busy.requests -= 1;
        busy.syncs -= usize::from(charge.sync);
        if busy.requests == 0 {
            self.load.under_way.remove(&charge.acting);
        }
    }
}

impl Exchange {
    /// How many requests were refused since too many were under way; see [`Settings::max_requests`](super::Settings).
    pub fn refused(&self) -> u64 {
        self.lock().load.refused
    }

    /// As long as the server is at work on a request; others go on meanwhile.
    pub(super) fn work<'a>(&'a self, mut world: MutexGuard<'a, World>) -> MutexGuard<'a, World> {
        let wakes = world.wakes;
        let until = Instant::now() + world.settings.service_time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || world.wakes != wakes {
                return world;
            }
            world = self.changed.wait_timeout(world, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
