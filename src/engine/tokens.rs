//! What the host is told of tokens: those that it owes, and refresh tokens that have changed and that only it keeps. Both go
//! ahead of all other events and are told again: without the one nothing comes, without the other nothing can be
//! signed in after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::group::Link;
use super::timers::Timer;
use super::verdict::Verdict;
use super::watch::Phase;
use super::{Engine, Nack};
use crate::auth::Secret;
use crate::event::Detail;
use crate::{Error, ErrorKind, Event, EventKind, Reason, Result};

/// After how long a token that the host owes is asked for again.
const OWED: Duration = Duration::from_secs(300);
/// After how long a new refresh token is told again.
const UNKEPT: Duration = Duration::from_secs(60);
/// A token that is refused sooner has never worked.
const WORKED: Duration = Duration::from_secs(60);
/// So many tokens in a row may be refused; then the next one is tried only after a while.
const REFUSED: u32 = 2;
const REFUSED_WAIT: Duration = Duration::from_secs(30);

/// The accounts of which the host was told.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    accounts: Vec<Account>,
    by_name: BTreeMap<Arc<str>, usize>,
    /// New refresh tokens that the host has and has not acknowledged: whose by `seq`, and which one.
    given: BTreeMap<u64, (usize, u64)>,
    /// Whose token came before the news that it was missing: who failed for it goes on at once.
    crossed: BTreeSet<usize>,
}

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    need: Option<Need>,
    /// How many tokens in a row were refused.
    refused: u32,
    /// When the host gave the last one.
    set_at: Option<Duration>,
    /// When the next token is due.
    renew_at: Option<Duration>,
    /// Whom the last one was for.
    resource: String,
    rotated: Option<Rotated>,
    /// How many refresh tokens there were.
    rotations: u64,
}

/// A token that the host owes.
#[derive(Debug)]
struct Need {
    reason: Reason,
    claims: Option<String>,
    again: Duration,
}

/// A refresh token that the host has not acknowledged.
#[derive(Debug)]
struct Rotated {
    token: Secret,
    again: Duration,
}

impl Engine {
    /// A token is needed: the host is told, once until it is there.
    pub(super) fn token_needed(
        &mut self,
        account: &Arc<str>,
        resource: String,
        reason: Reason,
        claims: Option<String>,
    ) {
        let (now, at) = (self.now.mono, self.account(account));
        let a = &mut self.tokens.accounts[at];
        a.resource = resource;
        let told = a.need.as_ref().map(|need| weight(need.reason));
        if told < Some(weight(reason)) {
            // Many requests may bring the news of one token, and one that has worked for a while has only ended.
            let at_once = a.set_at.is_some_and(|at| now < at + WORKED);
            a.refused = if reason == Reason::TokenRefused && at_once { a.refused + 1 } else { 0 };
            a.need = Some(Need { reason, claims, again: Duration::ZERO });
            self.token_due(at);
        }
    }

    /// The host has given one: who waited for it goes on.
    pub(super) fn token_set(&mut self, account: &Arc<str>, renew_at: Option<Duration>) {
        let (now, at) = (self.now.mono, self.account(account));
        let a = &mut self.tokens.accounts[at];
        (a.need, a.renew_at, a.set_at) = (None, renew_at, Some(now));
        self.delivery.drop_need(account);
        self.token_due(at);
        self.go_on_with_token(at);
    }

    /// Something failed for want of a token. The host may have answered the question for it already, as quick as it is.
    pub(super) fn token_was_missing(&mut self, watch: u64) {
        let Some(account) = self.watches.get(&watch).and_then(|w| w.spec.account.clone()) else { return };
        let at = self.account(&account);
        let a = &self.tokens.accounts[at];
        if a.need.is_none() && a.set_at.is_some() && !self.closing {
            self.tokens.crossed.insert(at);
        }
    }

    /// After all that follows from a failure.
    pub(super) fn tokens_crossed(&mut self) {
        while let Some(at) = self.tokens.crossed.pop_first() {
            self.go_on_with_token(at);
        }
    }

    /// Who waits for a token goes on.
    fn go_on_with_token(&mut self, at: usize) {
        let a = &self.tokens.accounts[at];
        let wait = if a.refused >= REFUSED { REFUSED_WAIT } else { Duration::ZERO };
        let (account, until) = (a.name.clone(), a.set_at.unwrap_or_default() + wait);
        let mut endpoints = BTreeSet::new();
        for id in self.watches_of(&account) {
            let Some(w) = self.watches.get(&id) else { continue };
            endpoints.insert(w.spec.endpoint);
            let waits = w.failing.or(w.down) == Some(Reason::TokenNeeded);
            let phase = w.phase;
            self.hasten(Timer::Sync(id), until);
            match phase {
                Phase::Due(_) if waits => self.hasten(Timer::Watch(id), until),
                Phase::Grouped(group)
                    if self.groups.get(&group).is_some_and(|g| matches!(g.link, Link::Waiting)) =>
                {
                    self.hasten(Timer::Group(group), until);
                }
                _ => {}
            }
        }
        for endpoint in endpoints {
            self.endpoint(endpoint).gate.token_came(until);
            for timer in [Timer::Fetch(endpoint), Timer::Syncs(endpoint), Timer::Act(endpoint)] {
                self.hasten(timer, until);
            }
        }
    }

    /// The host cannot give one: its watches end, loudly.
    pub(super) fn token_denied(&mut self, account: &Arc<str>, error: &Error) {
        let at = self.account(account);
        let a = &mut self.tokens.accounts[at];
        (a.need, a.renew_at) = (None, None);
        self.delivery.drop_need(account);
        self.token_due(at);
        for id in self.watches_of(account) {
            self.stop(id, error, Verdict::Stop);
        }
    }

    /// A refresh token has changed, and the host keeps it.
    pub(super) fn token_rotated(&mut self, account: Arc<str>, token: Secret) {
        let at = self.account(&account);
        let a = &mut self.tokens.accounts[at];
        a.rotations += 1;
        a.rotated = Some(Rotated { token, again: Duration::ZERO });
        self.token_due(at);
    }

    /// Tells what is due of an account.
    pub(super) fn token_due(&mut self, at: usize) {
        let (now, wall) = (self.now.mono, self.now.wall);
        let Some(name) = self.tokens.accounts.get(at).map(|a| a.name.clone()) else { return };
        let used = !self.watches_of(&name).is_empty();
        let Some(a) = self.tokens.accounts.get_mut(at) else { return };
        // Where nobody signs in with it, whoever comes next asks for it.
        if a.renew_at.take_if(|at| *at <= now).is_some() && a.need.is_none() && used {
            a.need = Some(Need { reason: Reason::TokenExpiring, claims: None, again: Duration::ZERO });
        }
        let mut due = Vec::new();
        let account = Some(a.name.to_string());
        if let Some(need) = a.need.as_mut().filter(|need| need.again <= now) {
            need.again = now + OWED;
            let detail = Detail {
                account: account.clone(),
                resource: Some(a.resource.clone()).filter(|r| !r.is_empty()),
                reason: Some(need.reason),
                claims: need.claims.clone(),
                ..Detail::default()
            };
            due.push((EventKind::TokenNeeded, detail));
        }
        if let Some(rotated) = a.rotated.as_mut().filter(|rotated| rotated.again <= now) {
            rotated.again = now + UNKEPT;
            let refresh_token = Some(rotated.token.clone());
            due.push((EventKind::TokenRotated, Detail { account, refresh_token, ..Detail::default() }));
        }
        let owed = a.need.as_ref().filter(|_| used).map(|need| need.again);
        let unkept = a.rotated.as_ref().map(|rotated| rotated.again);
        match [owed, a.renew_at, unkept].into_iter().flatten().min() {
            Some(next) if !self.closing => self.timers.set(Timer::Token(at), next),
            _ => self.timers.clear(Timer::Token(at)),
        }
        // Where nobody signs in with it, it is owed to nobody any more; whoever comes next asks anew.
        if !used {
            a.need = None;
        }
        for (kind, detail) in due {
            let event = Event::new(kind, 0, "".into(), wall);
            self.push(Event { detail: Some(Box::new(detail)), ..event });
        }
    }

    /// The host was given a new refresh token under this number.
    pub(super) fn rotated_taken(&mut self, event: &Event) {
        let account = event.detail.as_ref().and_then(|d| d.account.as_deref());
        let Some(at) = account.and_then(|name| self.tokens.by_name.get(name)).copied() else { return };
        let which = self.tokens.accounts[at].rotations;
        // It is told every minute, perhaps for days.
        self.tokens.given.retain(|_, (of, _)| *of != at);
        self.tokens.given.insert(event.seq, (at, which));
    }

    /// The host has kept it; false if it is not the number of one.
    pub(super) fn rotated_acked(&mut self, seq: u64) -> bool {
        let Some((at, which)) = self.tokens.given.remove(&seq) else { return false };
        let a = &mut self.tokens.accounts[at];
        if a.rotations == which {
            a.rotated = None;
        }
        self.token_due(at);
        true
    }

    /// The host could not keep it: it is told again. `None` if it is not the number of one.
    pub(super) fn rotated_nacked(&mut self, seq: u64, nack: Nack) -> Option<Result<()>> {
        let (at, _) = *self.tokens.given.get(&seq)?;
        let after = match nack {
            Nack::Retry(after) | Nack::Later(after) => after.min(UNKEPT),
            Nack::Park => {
                let text = format!("event {seq} is a TokenRotated: it can be given again, but not be parked");
                return Some(Err(Error::new(ErrorKind::Invalid, text)));
            }
        };
        self.tokens.given.remove(&seq);
        let again = self.now.mono + after;
        if let Some(rotated) = &mut self.tokens.accounts[at].rotated {
            rotated.again = again;
        }
        self.token_due(at);
        Some(Ok(()))
    }

    /// The client ends: what the host has not acknowledged is told once more.
    pub(super) fn give_last_tokens(&mut self) {
        for at in 0..self.tokens.accounts.len() {
            self.tokens.accounts[at].need = None;
            if let Some(rotated) = &mut self.tokens.accounts[at].rotated {
                rotated.again = Duration::ZERO;
                self.token_due(at);
            }
        }
    }

    fn account(&mut self, name: &Arc<str>) -> usize {
        if let Some(at) = self.tokens.by_name.get(name) {
            return *at;
        }
        let at = self.tokens.accounts.len();
        self.tokens.by_name.insert(name.clone(), at);
        self.tokens.accounts.push(Account {
            name: name.clone(),
            need: None,
            refused: 0,
            set_at: None,
            renew_at: None,
            resource: String::new(),
            rotated: None,
            rotations: 0,
        });
        at
    }

    fn watches_of(&self, account: &str) -> Vec<u64> {
        let of = self.watches.iter().filter(|(_, w)| w.spec.account.as_deref() == Some(account));
        of.map(|(id, _)| *id).collect()
    }

    /// Has a timer that is set ring no later than then.
    fn hasten(&mut self, timer: Timer, at: Duration) {
        if self.timers.get(timer).is_some_and(|set| set > at) {
            self.timers.set(timer, at);
        }
    }
}

/// What is told although another need was: the heavier.
fn weight(reason: Reason) -> u8 {
    match reason {
        Reason::TokenExpiring => 0,
        Reason::TokenNeeded => 1,
        _ => 2,
    }
}
