//! The tokens of accounts that sign in by OAuth: asked for on the thread of whoever needs one, one request at a time.
//!
//! [`Keeper`] decides; here are its lock, its waiters, the endpoint and the store.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use zeroize::Zeroizing;

use super::accounts::Accounts;
use super::core::{Core, closed};
use super::threads::lock;
use crate::auth::oauth::{Denied, Form, Granted, Job, Keeper, Moment, Next, Record, Step, answer};
use crate::auth::{Context, Secret, Tokens};
use crate::engine::Input;
use crate::net::{self, Asker, Cancel, Endpoint, Question};
use crate::options::{OAuth, SignIn};
use crate::store::tokens::{TokenLock, TokenStore};
use crate::{Error, ErrorKind, Result};

/// Whoever waits for another's request looks so often whether they are to end.
const TICK: Duration = Duration::from_millis(50);
/// No longer is another process waited for.
const LONGEST_LOCK: Duration = Duration::from_secs(45);
/// Nor, nor the issuer, by whoever has a token that is good still; but a request that spends a refresh token is never cut short: its
/// answer may bring the next one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The tokens of one account, for all who sign in with them.
pub(crate) struct OAuthTokens {
    oauth: OAuth,
    asker: Asker,
    store: Option<TokenStore>,
    keeper: Mutex<Keeper>,
    changed: Condvar,
    /// The account's lock, from the reading of what is stored until the newest is.
    stored: Mutex<Option<TokenLock>>,
    started: Instant,
    /// Ends requests that nobody else may end: with the answer a refresh token may come.
    end: Cancel,
    closing: AtomicBool,
    /// Only the token that there is may be used.
    spends_no_more: AtomicBool,
    core: Arc<OnceLock<Weak<Core>>>,
}

impl Accounts {
    /// The tokens of an account, which all who sign in with it share.
    pub fn oauth(&self, oauth: &OAuth, asker: &Asker) -> Result<Arc<OAuthTokens>> {
        // Which public folder a watch is about is nothing to an issuer, and must not part an account.
        let config = net::Config { public_folder_mailbox: None, ..asker.config.clone().for_an_issuer() };
        let mut known = lock(&self.oauths);
        if let Some(tokens) =
            known.iter().find(|tokens| tokens.oauth == *oauth && tokens.asker.config == config)
        {
            return Ok(tokens.clone());
        }
        let tls = match config.tls == asker.config.tls {
            true => asker.tls.clone(),
            false => Arc::new(net::Tls::of(&config)?),
        };
        let asker = Asker { config, tls, ..asker.clone() };
        let tokens = Arc::new(OAuthTokens::open(oauth, asker, self.core.clone())?);
        known.push(tokens.clone());
        Ok(tokens)
    }

    /// A watch is added: what an issuer has refused may be in order since.
    pub fn again(&self, sign_in: &SignIn) {
        let SignIn::OAuth(oauth) = sign_in else { return };
        let known = lock(&self.oauths).clone();
        for tokens in known.iter().filter(|tokens| tokens.oauth == *oauth) {
            lock(&tokens.keeper).again(tokens.now());
        }
    }

    /// Waits, to a time, for refresh tokens that are on their way to the host; where the host keeps them, no more are spent.
    pub fn finish_unkept(&self, until: Instant) {
        let known = lock(&self.oauths).clone();
        let unkept = |tokens: &&Arc<OAuthTokens>| tokens.store.is_none() && !tokens.oauth.account.app_only;
        known.iter().filter(unkept).for_each(|tokens| tokens.spends_no_more.store(true, Ordering::SeqCst));
        known.iter().filter(unkept).for_each(|tokens| drop(tokens.wait_idle(until)));
    }

    /// Waits, to a time, for answers that may bring a refresh token, and ends the rest.
    pub fn finish(&self, until: Instant) {
        let known = lock(&self.oauths).clone();
        known.iter().for_each(|tokens| tokens.closing.store(true, Ordering::SeqCst));
        known.iter().for_each(|tokens| tokens.finish(until));
    }
}

impl OAuthTokens {
    /// Nothing is asked yet.
    fn open(oauth: &OAuth, asker: Asker, core: Arc<OnceLock<Weak<Core>>>) -> Result<OAuthTokens> {
        let store = oauth.store.as_deref().map(|dir: &Path| TokenStore::open(dir)).transpose()?;
        let keeper = Keeper::new(oauth.account.clone(), store.is_some(), fastrand::u64(..));
        Ok(OAuthTokens {
            oauth: oauth.clone(),
            asker,
            store,
            keeper: Mutex::new(keeper),
            changed: Condvar::new(),
            stored: Mutex::default(),
            started: Instant::now(),
            end: Cancel::new(),
            closing: AtomicBool::new(false),
            spends_no_more: AtomicBool::new(false),
            core,
        })
    }

    fn now(&self) -> Moment {
        Moment { mono: self.started.elapsed(), wall: SystemTime::now() }
    }

    /// Does a job, and those that follow from it. An error is the caller's own: it was cancelled.
    fn work(&self, job: Job, cancel: &Cancel, until: Instant) -> Result<()> {
        let mut busy = Busy { tokens: self, done: false };
        let mut job = job;
        loop {
            let (next, keeper) = match job {
                Job::Load => match self.load(cancel, until) {
                    Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
                    loaded => {
                        let mut keeper = lock(&self.keeper);
                        (keeper.loaded(loaded, self.now(), &mut random), keeper)
                    }
                },
                Job::Ask(form) => match self.ask(&form, cancel) {
                    Err(Denied::Act(e)) if e.kind() == ErrorKind::Closed => return Err(closed()),
                    answer => {
                        let mut keeper = lock(&self.keeper);
                        (keeper.answered(answer, self.now()), keeper)
                    }
                },
                Job::Store(record) => {
                    let stored = self.save(&record);
                    let mut keeper = lock(&self.keeper);
                    (keeper.stored(stored, self.now()), keeper)
                }
                // Without a lock: the engine's is taken for it.
                Job::Tell(token) => {
                    if let Some(core) = self.core.get().and_then(Weak::upgrade) {
                        core.feed(Input::TokenRotated { account: self.oauth.name.clone(), token });
                    }
                    let mut keeper = lock(&self.keeper);
                    (keeper.told(), keeper)
                }
            };
            match next {
                Next::Go(then) => job = then,
                // Under the same lock: somebody else may begin as soon as it is free.
                Next::Done => {
                    busy.done = true;
                    self.release(&keeper);
                    return Ok(());
                }
            }
        }
    }

    /// A job is over: the account's lock goes back, and the others go on. At the end it goes back in any case: nobody here would store
    /// any more, and the client may be kept for long.
    fn release(&self, keeper: &Keeper) {
        if !keeper.keeps_lock() || self.end.is_cancelled() {
            *lock(&self.stored) = None;
        }
        self.changed.notify_all();
    }

    fn load(&self, cancel: &Cancel, until: Instant) -> Result<Option<Record>> {
        let Some(store) = &self.store else { return Ok(None) };
        let id = self.oauth.account.id();
        let longest = if self.has_good() { PATIENCE } else { LONGEST_LOCK };
        let until = until.min(Instant::now() + longest);
        let held = store.lock(&id, until, &|| cancel.is_cancelled())?;
        let bytes = held.read();
        *lock(&self.stored) = Some(held);
        let read = |bytes: Zeroizing<Vec<u8>>| Record::read(&bytes, &id);
        bytes?.map(read).transpose().map_err(|e| {
            e.context(format!(
                "the stored tokens of {} (oauth-{id}.json in the token store)",
                self.oauth.account.who()
            ))
        })
    }

    fn save(&self, record: &Record) -> Result<()> {
        match &*lock(&self.stored) {
            Some(held) => held.write(&record.write()),
            None => {
                Err(Error::new(ErrorKind::Internal, "tokens are to be stored without the account's lock"))
            }
        }
    }

    fn ask(&self, form: &Form, cancel: &Cancel) -> Result<Granted, Denied> {
        // What goes out, and what comes: the endpoint's words, and later a server's, may quote it.
        self.secrets().iter().for_each(|secret| self.know(secret));
        let cancel = if form.spends { &self.end } else { cancel };
        let mut asker = self.asker.clone();
        if !form.spends && self.has_good() {
            asker.config.call_timeout = asker.config.call_timeout.min(PATIENCE);
        }
        let granted = request(&asker, form, cancel)?;
        self.know(&granted.access_token);
        granted.refresh_token.iter().for_each(|token| self.know(token));
        Ok(granted)
    }

    fn has_good(&self) -> bool {
        lock(&self.keeper).good(self.now()).is_some()
    }

    fn know(&self, secret: &Secret) {
        let account = &self.oauth.account;
        let public = [account.user.as_str(), &account.client_id, account.endpoints.token.host()];
        self.asker.tap.secrets.add_beside(secret, &public);
    }

    /// Waits, to a time, until nobody does a job.
    fn wait_idle(&self, until: Instant) -> MutexGuard<'_, Keeper> {
        let mut keeper = lock(&self.keeper);
        while keeper.is_busy() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            keeper = self.changed.wait_timeout(keeper, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        keeper
    }

    fn finish(&self, until: Instant) {
        let mut keeper = self.wait_idle(until);
        // Under the keeper's lock: whoever is busy still gives the account's lock back then (`release`).
        self.end.cancel();
        if keeper.is_busy() {
            return;
        }
        // Once more, for the disk may have room now.
        if let Some(record) = keeper.unstored().cloned() {
            let stored = self.save(&record);
            keeper.stored(stored, self.now());
        }
        self.release(&keeper);
    }

    /// What a host hears of it.
    fn failed(&self, e: &Error) -> Error {
        let text = format!("{} has no token: {e}", self.oauth.account.who());
        if e.kind() == ErrorKind::Auth {
            return Error::sign_in_needed(text).with_code(e.code().unwrap_or("interaction_required"));
        }
        let kind = e.kind();
        Error::new(kind, text).with_retry_after(e.retry_after()).no_token()
    }
}

impl Tokens for OAuthTokens {
    fn token(&self, cx: &Context<'_>) -> Result<Secret> {
        loop {
            if cx.cancel.is_cancelled() || self.closing.load(Ordering::SeqCst) {
                return Err(closed());
            }
            let mut keeper = lock(&self.keeper);
            // Under the keeper's lock: whoever waits for an end then sees a job that was begun before.
            if self.spends_no_more.load(Ordering::SeqCst) {
                return keeper.good(self.now()).ok_or_else(closed);
            }
            match keeper.token(self.now(), &mut random) {
                Step::Use(token) => return Ok(token),
                Step::Fail(e) => return Err(self.failed(&e)),
                Step::Busy => {
                    if Instant::now() >= cx.until {
                        let text = "another request for a token takes too long";
                        return Err(self.failed(&Error::new(ErrorKind::Timeout, text)));
                    }
                    drop(self.changed.wait_timeout(keeper, TICK));
                }
                Step::Begin(job) => {
                    drop(keeper);
                    self.work(job, cx.cancel, cx.until)?;
                }
            }
        }
    }

    fn refused(&self, token: &Secret, claims: Option<&str>) {
        let now = self.now();
        lock(&self.keeper).refused(token, claims, now);
    }

    fn who(&self) -> String {
        self.oauth.account.who()
    }

    fn secrets(&self) -> Vec<Secret> {
        let secrets = lock(&self.keeper).secrets().cloned().collect::<Vec<_>>();
        secrets.into_iter().chain(self.oauth.account.secrets().cloned()).collect()
    }
}

impl fmt::Debug for OAuthTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthTokens").field("account", &self.oauth.account).finish_non_exhaustive()
    }
}

/// A job is under way; however it ends, the next one may begin then.
struct Busy<'a> {
    tokens: &'a OAuthTokens,
    done: bool,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut keeper = lock(&self.tokens.keeper);
            keeper.abandoned();
            self.tokens.release(&keeper);
        }
    }
}

/// Sends a form, and reads the answer.
pub(crate) fn request(asker: &Asker, form: &Form, cancel: &Cancel) -> Result<Granted, Denied> {
    let redact = |text: &str| asker.tap.secrets.redact(text).into_owned();
    let (status, body, retry_after) = send(asker, form, cancel).map_err(|e| match e.kind() {
        // Of our own making: nothing gets better by asking again.
        ErrorKind::Closed | ErrorKind::Invalid | ErrorKind::Internal => Denied::Act(e),
        _ => Denied::Later { after: e.retry_after(), error: e, refresh_token: None },
    })?;
    answer::read(status, &body, retry_after, &redact).map_err(|denied| with_place(denied, &form.to))
}

/// Status, body, and `Retry-After`.
pub(crate) fn send(
    asker: &Asker,
    form: &Form,
    cancel: &Cancel,
) -> Result<(u16, Zeroizing<Vec<u8>>, Option<Duration>)> {
    let question = Question::Form { body: form.body.expose().as_bytes() };
    let told = asker.ask(&form.to, &question, None, cancel)?;
    Ok((told.status, Zeroizing::new(told.body), told.retry_after))
}

fn with_place(denied: Denied, to: &Endpoint) -> Denied {
    match denied {
        Denied::Act(e) => Denied::Act(e.context(to)),
        Denied::Policy(e) => Denied::Policy(e.context(to)),
        Denied::Later { error, after, refresh_token } => {
            Denied::Later { error: error.context(to), after, refresh_token }
        }
        other => other,
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random(bytes: &mut [u8]) {
    let random = rustls::crypto::ring::default_provider().secure_random;
    // A system without random numbers has no TLS either; nothing that could be guessed is used in their place.
    random.fill(bytes).unwrap_or_else(|_| panic!("the system gives no random numbers"));
}
