//! The tokens of one account: which one to use, when to renew it, what to store before it is used, when to give up.
//!
//! Whoever needs a token asks [`Keeper::token`]. One of them at a time is given a [`Job`] to do, without the keeper's lock: to read
//! what is stored, to ask the endpoint, to store. What came of it goes back in, and the next job comes out, until it is done.
//! The others use the token that there is while it is good, and else wait.
//!
//! ```text
//!  token() ── Begin(Load) ── loaded() ── Go(Ask) ── answered() ── Go(Store) ── stored() ── Done
//!     │          with a store: under the account's lock, from here to Done             │
//!     ├── Use(token)   good, and not due for renewal, or somebody renews it            │
//!     ├── Busy         somebody renews it, and there is none to use meanwhile          │
//!     └── Fail(error)  a back-off is not over, or the user has to sign in       (not stored: again later)
//! ```
//!
//! # What a crash can cost
//!
//! A refresh token that replaced the one before is stored before the access token that came with it is used or told, so what
//! is stored is always the newest that anything was done with. Between the endpoint's answer and the end of storing it, some
//! milliseconds, a crash loses the newest: then the next run sends the one before. Microsoft Entra ID goes on taking it; an issuer that
//! takes each only once refuses it (`invalid_grant`), and the user has to sign in. No client can do better.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::account::Account;
use super::answer::{Denied, Granted};
use super::form::Form;
use super::record::Record;
use super::{Moment, Random, hash};
use crate::auth::Secret;
use crate::{Error, ErrorKind, Result};

/// A token is renewed so long before its end, or a tenth of its life, whichever is less; up to a half earlier, so that many accounts do
/// not renew in the same second.
const AHEAD: Duration = Duration::from_secs(300);
/// A token is not used in its last seconds: the request has a way to go. Of a short one, a fortieth.
const LAST: Duration = Duration::from_secs(10);
/// The longest wait of our own before the endpoint, or the store, is tried again.
const CEILING: Duration = Duration::from_secs(300);
/// After a renewal because a server did not take a token, the next one for that reason waits so long: a server that takes none must
/// not cost a renewal with each request.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);
/// After how long what was refused may be tried again: an administrator may have changed something.
const SECOND_THOUGHT: Duration = Duration::from_secs(1800);
/// How often the store is looked at while the user has to sign in: another process may do that.
const LOOK: Duration = Duration::from_secs(10);
/// A token that is stored with a time so far ahead of ours was stored by another clock.
const ANOTHER_CLOCK: Duration = Duration::from_secs(300);
/// So many refresh tokens are known again: those of six weeks of hours.
const MAX_KNOWN: usize = 1024;

/// What a caller is to do.
#[derive(Debug)]
pub enum Step {
    /// Use this token.
    Use(Secret),
    /// Wait until whoever renews it is done, and ask again.
    Busy,
    /// Do this, then what [`Keeper::loaded`], [`Keeper::answered`], [`Keeper::stored`] and [`Keeper::told`] say, and ask again.
    Begin(Job),
    /// There is none.
    Fail(Error),
}

/// What is to be done without the keeper's lock.
#[derive(Debug)]
pub enum Job {
    /// Take the account's lock in the store, and read what is stored.
    Load,
    /// Ask the endpoint.
    Ask(Form),
    /// Store this, so that no power cut takes it, under the same lock.
    Store(Record),
    /// Tell the host that this refresh token has replaced another, or [`Keeper::for_host`], if that is a newer one: there is no store, so
    /// the host has to keep it.
    Tell(Secret),
}

/// How it goes on.
#[derive(Debug)]
pub enum Next {
    /// With this.
    Go(Job),
    /// It is over: let the others go on, and give the account's lock back, unless [`Keeper::keeps_lock`].
    Done,
}

/// The tokens of one account.
#[derive(Debug)]
pub struct Keeper {
    account: Arc<Account>,
    durable: bool,
    held: Option<Held>,
    refresh_token: Option<Secret>,
    /// Where it was given none: which one had been given when what it took from the store was stored.
    given_before: Option<String>,
    /// By which those that it was given, or that came, are known again.
    known: VecDeque<String>,
    /// There was a token by it.
    works: bool,
    /// The same, where the issuer does not take it any more.
    spent: Option<Secret>,
    /// Not for its own sake, but for a consent or a policy, which may change.
    may_be_taken: bool,
    /// When a watch was last added after a refusal.
    began_anew: Option<Duration>,
    /// Somebody does a job.
    busy: bool,
    trouble: Option<Trouble>,
    failures: u32,
    unstored: Option<Unstored>,
    claims: Option<String>,
    /// When a server last did not take a token, with which claims challenge.
    last_refused: Option<(Duration, Option<String>)>,
    rng: fastrand::Rng,
}

#[derive(Clone, Debug)]
struct Held {
    token: Secret,
    renew: Moment,
    until: Moment,
    /// A server did not take it.
    refused: bool,
}

#[derive(Debug)]
struct Unstored {
    record: Record,
    /// What may be used then.
    held: Option<Held>,
    /// A renewed refresh token is in it, and so it must not be used before it is stored.
    rotated: bool,
    /// The last try was in vain.
    failed: bool,
}

/// Why there is no new token, and until when nobody asks again.
#[derive(Debug)]
struct Trouble {
    kind: ErrorKind,
    text: String,
    code: Option<String>,
    until: Duration,
}

impl Trouble {
    fn error(&self, now: Moment) -> Error {
        let mut error = Error::new(self.kind, self.text.clone());
        if let Some(code) = &self.code {
            error = error.with_code(code.clone());
        }
        let left = self.until.saturating_sub(now.mono);
        error.with_retry_after((self.kind != ErrorKind::Auth).then_some(left))
    }
}

impl Held {
    fn is_good(&self, now: Moment) -> bool {
        !self.refused && now.mono < self.until.mono && now.wall < self.until.wall
    }

    fn is_due(&self, now: Moment) -> bool {
        !self.is_good(now) || now.mono >= self.renew.mono || now.wall >= self.renew.wall
    }
}

impl Keeper {
    /// `durable`: there is a store, which outlives this; other processes may use it too.
    pub fn new(account: Arc<Account>, durable: bool, seed: u64) -> Keeper {
        let refresh_token = account.refresh_token.clone();
        let known = account.given().into_iter().collect();
        Keeper {
            account,
            durable,
            held: None,
            refresh_token,
            given_before: None,
            known,
            works: false,
            spent: None,
            may_be_taken: false,
            began_anew: None,
            busy: false,
            trouble: None,
            failures: 0,
            unstored: None,
            claims: None,
            last_refused: None,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whose tokens they are.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether this is a sign-in of the same account that goes on from one that it has: with a refresh token that it was given or that
    /// came by renewal, however old, or without one of its own, where this works or has none either: otherwise what is stored may be
    /// better. Of a program that acts for itself, with the same proof.
    pub fn knows(&self, other: &Account) -> bool {
        match other.given() {
            _ if other.app_only => other.proof == self.account.proof,
            Some(given) => self.known.contains(&given),
            None => self.works || self.account.given().is_none(),
        }
    }

    /// How the program proves who it is may have changed since; the latest word of the host counts, and is tried at once.
    pub fn prove_like(&mut self, other: &Account) {
        if self.account.proof != other.proof {
            self.account = Arc::new(Account { proof: other.proof.clone(), ..Account::clone(&self.account) });
            self.began_anew = None;
            if let Some(trouble) = self.trouble.as_mut().filter(|t| t.kind == ErrorKind::Auth) {
                // The reason stays, for when there is no better one.
                trouble.until = Duration::ZERO;
            }
        }
    }

    /// Whether the issuer, or what is stored, has given a token for what it was set up with.
    pub fn works(&self) -> bool {
        self.works
    }

    /// It takes the place of another one of the same account: what that knew, it knows too.
    pub fn replace(&mut self, older: &Keeper) {
        for known in older.known.iter().rev() {
            if !self.known.contains(known) && self.known.len() < MAX_KNOWN {
                self.known.push_front(known.clone());
            }
        }
    }

    /// One whose place it takes has stored its own over what this one had stored: with the next request it is renewed, and stored.
    pub fn store_anew(&mut self) {
        if let Some(held) = self.held.as_mut().filter(|_| self.durable) {
            held.renew = Moment { mono: Duration::ZERO, wall: SystemTime::UNIX_EPOCH };
        }
    }

    /// A newer refresh token came.
    fn renew(&mut self, newest: Secret) {
        if self.refresh_token.as_ref() != Some(&newest) {
            self.known.push_back(hash::sha256(newest.expose().as_bytes()));
            if self.known.len() > MAX_KNOWN {
                self.known.pop_front();
            }
            self.refresh_token = Some(newest);
        }
    }

    /// A token, or what to do for one.
    pub fn token(&mut self, now: Moment, random: &mut Random<'_>) -> Step {
        let good = self.good(now);
        let due = self.held.as_ref().is_none_or(|held| held.is_due(now)) || self.unstored.is_some();
        let waits = self.trouble.as_ref().filter(|trouble| now.mono < trouble.until);
        match (good, waits) {
            (Some(token), _) if !due || self.busy => Step::Use(token),
            (None, _) if self.busy => Step::Busy,
            (Some(token), Some(_)) => Step::Use(token),
            (None, Some(trouble)) => Step::Fail(trouble.error(now)),
            _ => match self.begin(now, random) {
                Ok(job) => {
                    self.busy = true;
                    Step::Begin(job)
                }
                Err(e) => {
                    self.give_up(e, now);
                    Step::Fail(self.trouble.as_ref().map_or_else(no_reason, |trouble| trouble.error(now)))
                }
            },
        }
    }

    fn begin(&mut self, now: Moment, random: &mut Random<'_>) -> Result<Job> {
        if let Some(unstored) = &self.unstored {
            return Ok(Job::Store(unstored.record.clone()));
        }
        if self.durable { Ok(Job::Load) } else { self.ask(now, random).map(Job::Ask) }
    }

    fn ask(&mut self, now: Moment, random: &mut Random<'_>) -> Result<Form> {
        let claims = self.claims.as_deref();
        if self.account.app_only {
            return Form::client_credentials(&self.account, claims, now.wall, random);
        }
        let sign_in = |why: &str| {
            let text = format!(
                "{} has to sign in: {why}; run `ewsnotify login`, or set oauth_refresh_token",
                self.account.who()
            );
            Error::new(ErrorKind::Auth, text).with_code("interaction_required")
        };
        let Some(refresh_token) = &self.refresh_token else {
            return Err(sign_in("there is no refresh token, neither given nor stored"));
        };
        if self.spent.as_ref() == Some(refresh_token) {
            return Err(sign_in("the issuer does not take the refresh token any more (invalid_grant)"));
        }
        Form::refresh(&self.account, refresh_token, claims, now.wall, random)
    }

    /// What was stored: `None` where nothing was, yet.
    pub fn loaded(&mut self, stored: Result<Option<Record>>, now: Moment, random: &mut Random<'_>) -> Next {
        match stored {
            Err(e) => {
                self.back_off(&e, None, now);
                return self.done();
            }
            Ok(Some(record)) => self.adopt(record, now),
            Ok(None) => {}
        }
        // Another process was quicker.
        if self.held.as_ref().is_some_and(|held| !held.is_due(now)) {
            self.well();
            return self.done();
        }
        match self.ask(now, random) {
            Ok(form) => Next::Go(Job::Ask(form)),
            Err(e) => {
                self.give_up(e, now);
                self.done()
            }
        }
    }

    /// Takes what is stored, unless the host was given another refresh token since, and that is good. One that never was leads to nothing
    /// that came of another one that was given.
    fn adopt(&mut self, record: Record, now: Moment) {
        let given = self.account.given();
        let is_spent = self.spent.is_some() && self.spent == self.account.refresh_token;
        let may_have_it = is_spent && (self.works || record.given.is_none());
        if given.is_some() && given != record.given && !may_have_it {
            return;
        }
        self.given_before = record.given.filter(|_| given.is_none());
        if let Some(newest) = record.refresh_token {
            self.renew(newest);
        }
        let is_new = |token: &Secret| self.held.as_ref().is_none_or(|held| held.token != *token);
        if let Some(token) = record.access_token.filter(is_new)
            && record.since <= now.wall + ANOTHER_CLOCK
            && let Ok(left) = record.until.duration_since(now.wall)
        {
            let life = record.until.duration_since(record.since).unwrap_or(left);
            self.held = Some(self.hold(token, life, left.min(life), now));
        }
    }

    /// A token of which so much is left.
    fn hold(&mut self, token: Secret, life: Duration, left: Duration, now: Moment) -> Held {
        let ahead = AHEAD.min(life / 10).mul_f64(1.0 + self.rng.f64() / 2.0);
        let at = |before: Duration| {
            let after = left.saturating_sub(before);
            Moment { mono: now.mono + after, wall: now.wall.checked_add(after).unwrap_or(now.wall) }
        };
        Held { token, renew: at(ahead), until: at(LAST.min(life / 40)), refused: false }
    }

    /// What the endpoint said.
    pub fn answered(&mut self, answer: Result<Granted, Denied>, now: Moment) -> Next {
        match answer {
            Ok(granted) => self.granted(granted, now),
            Err(denied @ (Denied::Act(_) | Denied::Policy(_))) => {
                let is_policy = matches!(denied, Denied::Policy(_));
                let e = denied.error();
                if e.code() == Some("invalid_grant") {
                    self.spent = self.refresh_token.clone();
                    self.may_be_taken = is_policy;
                }
                self.give_up(e, now);
                self.done()
            }
            Err(Denied::Later { error, after, refresh_token }) => {
                self.back_off(&error, after, now);
                match refresh_token {
                    // There is no token to use, and the old one may be spent: what is kept is the newest all the same.
                    Some(newest) if self.durable => {
                        let record = self.record(None, Some(newest.clone()), now.wall, now.wall);
                        self.renew(newest);
                        let unstored =
                            Unstored { record: record.clone(), held: None, rotated: true, failed: false };
                        self.unstored = Some(unstored);
                        Next::Go(Job::Store(record))
                    }
                    Some(newest) => {
                        self.renew(newest.clone());
                        Next::Go(Job::Tell(newest))
                    }
                    None => self.done(),
                }
            }
            Err(e @ (Denied::Pending | Denied::SlowDown)) => {
                self.back_off(&e.error(), None, now);
                self.done()
            }
        }
    }

    fn granted(&mut self, granted: Granted, now: Moment) -> Next {
        let Granted { access_token, life, refresh_token } = granted;
        let rotated = refresh_token.as_ref().is_some_and(|new| self.refresh_token.as_ref() != Some(new));
        let held = self.hold(access_token.clone(), life, life, now);
        self.claims = None;
        if let Some(newest) = refresh_token {
            self.renew(newest);
        }
        if !self.durable {
            self.held = Some(held);
            self.well();
            return match self.refresh_token.clone().filter(|_| rotated) {
                Some(newest) => Next::Go(Job::Tell(newest)),
                None => self.done(),
            };
        }
        let until = now.wall.checked_add(life).unwrap_or(now.wall);
        let record = self.record(Some(access_token), self.refresh_token.clone(), now.wall, until);
        self.unstored = Some(Unstored { record: record.clone(), held: Some(held), rotated, failed: false });
        Next::Go(Job::Store(record))
    }

    fn record(
        &self,
        access_token: Option<Secret>,
        refresh_token: Option<Secret>,
        since: SystemTime,
        until: SystemTime,
    ) -> Record {
        let account = self.account.id();
        let given = self.account.given().or_else(|| self.given_before.clone());
        Record { account, given, refresh_token, access_token, since, until }
    }

    /// Whether it was stored.
    pub fn stored(&mut self, stored: Result<()>, now: Moment) -> Next {
        let Some(mut unstored) = self.unstored.take() else { return self.done() };
        match stored {
            Err(e) if unstored.rotated => {
                unstored.failed = true;
                self.unstored = Some(unstored);
                self.back_off(&e, None, now);
            }
            // Without a renewed refresh token nothing is lost by it but some requests of other processes.
            Ok(()) | Err(_) => {
                // Where only a refresh token came, the back-off stands.
                if let Some(held) = unstored.held {
                    self.held = Some(held);
                    self.well();
                }
            }
        }
        self.done()
    }

    /// A watch is added, as the text of a refusal says one should when what it names is done: what is stored is read, and the issuer
    /// asked, once more; not with a refresh token that it has refused for its own sake. Back-offs stand, and of many watches that are
    /// added one after the other the first one counts.
    pub fn again(&mut self, now: Moment) {
        let is_soon = self.began_anew.is_some_and(|at| now.mono < at + LOOK);
        let Some(trouble) = self.trouble.as_mut().filter(|t| t.kind == ErrorKind::Auth) else { return };
        if is_soon || self.busy {
            return;
        }
        self.began_anew = Some(now.mono);
        // The reason stays, for when there is no better one.
        trouble.until = now.mono;
        if self.may_be_taken {
            self.spent = None;
        }
    }

    /// Whoever had a job has gone without saying what came of it.
    pub fn abandoned(&mut self) {
        self.busy = false;
    }

    /// Whether somebody does a job.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether the account's lock must be kept although nobody does a job: the newest refresh token is not stored yet, and another
    /// process would take the one before from the store.
    pub fn keeps_lock(&self) -> bool {
        self.unstored.is_some()
    }

    /// What could not be stored, if anything.
    pub fn unstored(&self) -> Option<&Record> {
        self.unstored.as_ref().filter(|unstored| unstored.failed).map(|unstored| &unstored.record)
    }

    /// The host was told of a refresh token: until then it is a job under way, which an end has to wait for.
    pub fn told(&mut self) -> Next {
        self.done()
    }

    /// The token that there is, if it is good still.
    pub fn good(&self, now: Moment) -> Option<Secret> {
        self.held.as_ref().filter(|held| held.is_good(now)).map(|held| held.token.clone())
    }

    /// The newest refresh token, where it is the host that has to keep it.
    pub fn for_host(&self) -> Option<&Secret> {
        self.refresh_token.as_ref().filter(|_| !self.durable)
    }

    /// What must not be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.held.as_ref().map(|held| &held.token).into_iter().chain(&self.refresh_token)
    }

    /// Whether the user or the administrator has to do something.
    pub fn needs_sign_in(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.kind == ErrorKind::Auth)
    }

    /// A server did not take this token; `claims` is its claims challenge, as JSON. However many say so of one token, it is renewed once.
    pub fn refused(&mut self, token: &Secret, claims: Option<&str>, now: Moment) {
        let Some(held) = self.held.as_mut().filter(|held| held.token == *token && !held.refused) else {
            return;
        };
        let claims = claims.map(str::to_owned);
        let again = self.last_refused.as_ref().is_some_and(|(at, with)| {
            now.mono < *at + REFUSED_AGAIN && (claims.is_none() || claims == *with)
        });
        if again {
            return;
        }
        held.refused = true;
        self.last_refused = Some((now.mono, claims.clone()));
        if claims.is_some() {
            self.claims = claims;
        }
    }

    fn done(&mut self) -> Next {
        self.busy = false;
        Next::Done
    }

    fn well(&mut self) {
        self.trouble = None;
        self.failures = 0;
        self.works = true;
    }

    fn back_off(&mut self, error: &Error, asked: Option<Duration>, now: Moment) {
        let own = Duration::from_secs(1 << self.failures.min(9)).min(CEILING);
        self.failures = self.failures.saturating_add(1);
        let wait = own.max(asked.unwrap_or_default()).mul_f64(1.0 + self.rng.f64() / 4.0);
        self.trouble = Some(Trouble {
            kind: error.kind(),
            text: error.to_string(),
            code: error.code().map(str::to_owned),
            until: now.mono + wait,
        });
    }

    fn give_up(&mut self, error: Error, now: Moment) {
        let spent = self.refresh_token.is_none() || self.spent == self.refresh_token;
        let wait = if spent && !self.account.app_only && self.durable { LOOK } else { SECOND_THOUGHT };
        let until = now.mono + wait;
        match &mut self.trouble {
            // What the issuer said when it refused says more.
            Some(before) if spent && before.kind == ErrorKind::Auth => before.until = until,
            _ => {
                let code = error.code().map(str::to_owned);
                self.trouble = Some(Trouble { kind: error.kind(), text: error.to_string(), code, until });
            }
        }
    }
}

fn no_reason() -> Error {
    Error::new(ErrorKind::Internal, "there is no token, and no reason for it")
}
