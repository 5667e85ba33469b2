//! How it stands with a watch when something goes wrong, so that each fault is seen to hit each state.

use super::*;

/// The states, for the table.
pub(super) const STATES: [&str; 11] = [
    "down",
    "beginning",
    "starting",
    "resubscribing",
    "connecting",
    "baseline",
    "filling a gap",
    "checkpoint",
    "live",
    // Beside one of the others.
    "unacknowledged",
    "saving",
];

/// How often each fault hit each state.
#[derive(Clone, Default)]
pub(super) struct Hits(pub BTreeMap<&'static str, [u64; STATES.len()]>);

impl Hits {
    pub fn add(&mut self, other: Hits) {
        for (fault, counts) in other.0 {
            let all = self.0.entry(fault).or_default();
            all.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
    }

    /// What never happened, though it was to: each fault in each state but those where it can hardly happen.
    pub fn missing(&self, faults: &[(&'static str, &[&str])]) -> Vec<String> {
        let mut missing = Vec::new();
        for (fault, hardly) in faults {
            let counts = self.0.get(fault).copied().unwrap_or_default();
            let zeros = STATES.iter().zip(counts).filter(|(state, n)| *n == 0 && !hardly.contains(state));
            missing.extend(zeros.map(|(state, _)| format!("{fault} never hit {state}")));
        }
        let unknown = self.0.keys().filter(|fault| faults.iter().all(|(known, _)| known != *fault));
        missing.extend(unknown.map(|fault| format!("{fault} is in no list")));
        missing
    }
}

impl std::fmt::Display for Hits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:36} {}", "", STATES.map(|s| format!("{s:>14}")).concat())?;
        for (fault, counts) in &self.0 {
            writeln!(f, "{fault:36} {}", counts.map(|n| format!("{n:>14}")).concat())?;
        }
        Ok(())
    }
}

impl World {
    /// Something goes wrong for everybody.
    pub(super) fn hit(&mut self, what: &'static str) {
        for mailbox in 0..self.specs.len() {
            self.hit_of(what, mailbox);
        }
    }

    /// Something goes wrong with subscriptions.
    pub(super) fn hit_ids(&mut self, what: &'static str, ids: &[String]) {
        if !self.up {
            return;
        }
        let of = self.engine.watches.iter();
        let of = of.filter(|(_, w)| w.subscription.as_ref().is_some_and(|s| ids.contains(&s.id)));
        let of: Vec<usize> = of.map(|(w, _)| *w as usize - 1).collect();
        of.into_iter().for_each(|mailbox| self.hit_of(what, mailbox));
    }

    /// Something goes wrong on a stream.
    pub(super) fn hit_on(&mut self, what: &'static str, conn: u64) {
        let on = self.server.subs.values().filter(|s| s.conn == Some(conn) && s.mailbox < 100);
        let on: BTreeSet<usize> = on.map(|s| s.mailbox).collect();
        on.into_iter().for_each(|mailbox| self.hit_of(what, mailbox));
    }

    /// Something goes wrong for a mailbox.
    pub(super) fn hit_of(&mut self, what: &'static str, mailbox: usize) {
        if self.trace {
            println!("{:9.3} * {what} ({mailbox})", self.mono.as_secs_f64());
        }
        let state = self.state(mailbox);
        let watch = mailbox as u64 + 1;
        let held = self.up && self.engine.opens.by_ticket.values().any(|o| o.event.watch == watch);
        let saving = self.up && self.saving.is_some();
        let counts = self.hits.0.entry(what).or_default();
        for (name, count) in STATES.iter().zip(counts) {
            let is = *name == state || (held && *name == "unacknowledged") || (saving && *name == "saving");
            *count += u64::from(is);
        }
    }

    fn state(&self, mailbox: usize) -> &'static str {
        if !self.up {
            return "down";
        }
        let Some(watch) = self.engine.watches.get(&(mailbox as u64 + 1)) else { return "beginning" };
        let folders = || watch.folders_known.values();
        match watch.connected {
            None if watch.resubscribing => "resubscribing",
            None if !watch.has_worked => "starting",
            None => "connecting",
            Some(_) if folders().any(|f| f.baseline.is_some()) => "baseline",
            Some(_) if folders().any(|f| f.dirty || f.again) => "filling a gap",
            Some(_) if folders().any(|f| f.in_flight.is_some()) => "checkpoint",
            Some(_) => "live",
        }
    }
}
