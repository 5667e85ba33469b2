//! The tokens of accounts that sign in by OAuth: asked for on a thread of its own, one request at a time.
//!
//! [`Keeper`](crate::auth::oauth::Keeper) decides, [`super::keepers`] says whose it is; here are the thread, who waits for it, the
//! endpoint and the store. Who has a token that is good still goes on with it; who has none waits, as long as its own request may take.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use zeroize::Zeroizing;

use super::accounts::Accounts;
use super::core::{Core, closed};
use super::keepers::{Kept, Seat};
use super::threads::{guarded, lock};
use crate::auth::oauth::{Denied, Form, Granted, Job, Moment, Next, Record, Step, answer};
use crate::auth::{Context, Secret, Tokens};
use crate::engine::Input;
use crate::net::{self, Asker, Cancel, Endpoint, Question};
use crate::options::{OAuth, SignIn};
use crate::{Error, ErrorKind, Result};

/// Whoever waits for a token looks so often whether they are to end.
const TICK: Duration = Duration::from_millis(50);
/// No longer is another process waited for.
const LONGEST_LOCK: Duration = Duration::from_secs(45);
/// Room for a TLS handshake and a request in a debug build.
const STACK: usize = 1024 * 1024;

/// The tokens of one account, for all in a client who sign in with them in the same way.
pub(crate) struct OAuthTokens {
    oauth: OAuth,
    asker: Asker,
    kept: Arc<Kept>,
    pub(super) seat: Seat,
    /// Ends what brings no refresh token.
    stop: Cancel,
    /// Ends requests that nobody else may end: with the answer a refresh token may come.
    end: Cancel,
    closing: AtomicBool,
    /// Only the token that there is may be used.
    spends_no_more: AtomicBool,
    /// Its own options stand in the way of asking: for the others of the account they say nothing.
    unfit: Mutex<Option<Error>>,
    core: Arc<OnceLock<Weak<Core>>>,
    this: Weak<OAuthTokens>,
}

impl Accounts {
    /// The tokens of an account, which all who sign in with it share.
    pub fn oauth(&self, oauth: &OAuth, asker: &Asker) -> Result<Arc<OAuthTokens>> {
        // Which public folder a watch is about is nothing to an issuer.
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
        let tokens = Kept::join(oauth, |kept, seat, this| OAuthTokens {
            oauth: oauth.clone(),
            asker,
            kept,
            seat,
            stop: Cancel::new(),
            end: Cancel::new(),
            closing: AtomicBool::new(false),
            spends_no_more: AtomicBool::new(false),
            unfit: Mutex::default(),
            core: self.core.clone(),
            this,
        })?;
        known.push(tokens.clone());
        Ok(tokens)
    }

    /// A watch is added: what an issuer has refused may be in order since.
    pub fn again(&self, sign_in: &SignIn) {
        let SignIn::OAuth(oauth) = sign_in else { return };
        let known = lock(&self.oauths).clone();
        for tokens in known.iter().filter(|tokens| tokens.oauth == *oauth) {
            let mut state = lock(&tokens.kept.state);
            *lock(&tokens.unfit) = None;
            let keeper = state.keeper(tokens.seat);
            keeper.prove_like(&oauth.account);
            keeper.again(tokens.now());
        }
    }

    /// Waits, to a time, for refresh tokens that are on their way to the host; where the host keeps them, no more are spent.
    pub fn finish_unkept(&self, until: Instant) {
        let known = lock(&self.oauths).clone();
        let unkept =
            |tokens: &&Arc<OAuthTokens>| tokens.kept.store.is_none() && !tokens.oauth.account.app_only;
        known.iter().filter(unkept).for_each(|tokens| tokens.spends_no_more.store(true, Ordering::SeqCst));
        known.iter().filter(unkept).for_each(|tokens| tokens.kept.wait_idle(tokens.seat.member, until));
    }

    /// Waits, to a time, for answers that may bring a refresh token, and ends the rest.
    pub fn finish(&self, until: Instant) {
        let known = lock(&self.oauths).clone();
        for tokens in &known {
            tokens.closing.store(true, Ordering::SeqCst);
            tokens.stop.cancel();
        }
        known.iter().for_each(|tokens| tokens.finish(until));
    }
}

impl OAuthTokens {
    fn now(&self) -> Moment {
        Moment { mono: self.kept.started.elapsed(), wall: SystemTime::now() }
    }

    /// Begins a job; who asked for a token does not have to wait for it. Where there is no client, as in a check, it is done at once.
    fn begin(&self, job: Job, cancel: &Cancel) -> Result<()> {
        let Some(tokens) = self.this.upgrade() else { return Err(closed()) };
        let mut busy = Busy { tokens, done: false };
        match self.core.get().and_then(Weak::upgrade) {
            None => busy.work(job, cancel),
            Some(core) => core.threads.spawn("ewsn-token", STACK, move || {
                let stop = busy.tokens.stop.clone();
                let done = guarded("asking for a token", || busy.work(job, &stop));
                if let Err(e) = done
                    && e.kind() == ErrorKind::Internal
                {
                    busy.failed(e);
                }
            }),
        }
    }

    fn load(&self, cancel: &Cancel) -> Result<Option<Record>> {
        let Some(store) = &self.kept.store else { return Ok(None) };
        let id = self.oauth.account.id();
        let mut stored = lock(&self.kept.stored);
        // There is one already where what another line has cannot be stored.
        let held = match stored.take() {
            Some(held) => held,
            None => store.lock(&id, Instant::now() + LONGEST_LOCK, &|| cancel.is_cancelled())?,
        };
        let bytes = stored.insert(held).read();
        drop(stored);
        let read = |bytes: Zeroizing<Vec<u8>>| Record::read(&bytes, &id);
        bytes?.map(read).transpose().map_err(|e| {
            e.context(format!(
                "the stored tokens of {} (oauth-{id}.json in the token store)",
                self.oauth.account.who()
            ))
        })
    }

    fn save(&self, record: &Record) -> Result<()> {
        match &*lock(&self.kept.stored) {
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
        let granted = request(&self.asker, form, cancel)?;
        let like = lock(&self.kept.state).like(self.seat);
        for tokens in &like {
            tokens.know(&granted.access_token);
            granted.refresh_token.iter().for_each(|token| tokens.know(token));
        }
        Ok(granted)
    }

    fn know(&self, secret: &Secret) {
        let account = &self.oauth.account;
        let public = [account.user.as_str(), &account.client_id, account.endpoints.token.host()];
        self.asker.tap.secrets.add_beside(secret, &public);
    }

    /// The host is told of the newest refresh token, unless it has it: once for each name of the account, though it may sign in with it in
    /// several ways. Without the lock of what is kept, for the engine's is taken.
    fn tell(&self, newest: &Secret) {
        let Some(core) = self.core.get().and_then(Weak::upgrade) else { return };
        let account = self.oauth.name.clone();
        let key = (account.clone(), self.oauth.account.id());
        // Until it is told: whoever finds it told may end then.
        let mut told = lock(&core.links.accounts.told);
        if told.get(&key).or(self.oauth.account.refresh_token.as_ref()) != Some(newest) {
            told.insert(key, newest.clone());
            core.feed(Input::TokenRotated { account, token: newest.clone() });
        }
    }

    fn finish(&self, until: Instant) {
        let Seat { member, .. } = self.seat;
        self.kept.wait_idle(member, until);
        self.end.cancel();
        let is_last = self.kept.leave(member);
        let mut state = lock(&self.kept.state);
        // Whoever is busy still gives the account's lock back then (`release`).
        if !is_last || state.worker.is_some() {
            return;
        }
        // Once more, for the disk may have room now.
        if let Some(keeper) = state.unstored()
            && let Some(record) = keeper.unstored().cloned()
        {
            let stored = self.save(&record);
            keeper.stored(stored, self.now());
        }
        self.kept.release(&state);
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
            if cx.cancel.is_cancelled() {
                return Err(closed());
            }
            let mut state = lock(&self.kept.state);
            // Under the lock: whoever waits for an end then sees a job that was begun before.
            if self.closing.load(Ordering::SeqCst) {
                return Err(closed());
            }
            let elsewhere = state.worker.is_some();
            let (now, keeper) = (self.now(), state.keeper(self.seat));
            let good = keeper.good(now);
            if self.spends_no_more.load(Ordering::SeqCst) {
                return good.ok_or_else(closed);
            }
            if let Some(e) = &*lock(&self.unfit) {
                return good.ok_or_else(|| self.failed(e));
            }
            let step = match &good {
                // One request for the account at a time, though it be of another line.
                _ if !elsewhere || keeper.is_busy() => keeper.token(now, &mut random),
                Some(token) => Step::Use(token.clone()),
                None => Step::Busy,
            };
            match step {
                Step::Use(token) => {
                    let newest = keeper.for_host().cloned();
                    drop(state);
                    // Who has joined late has not heard of it.
                    newest.iter().for_each(|newest| self.tell(newest));
                    return Ok(token);
                }
                Step::Fail(e) => return Err(self.failed(&e)),
                Step::Busy if Instant::now() < cx.until => {
                    drop(self.kept.changed.wait_timeout(state, TICK));
                }
                Step::Busy => {
                    let text = format!(
                        "the request for one, to {}, takes too long, or another process that has to end first does",
                        self.oauth.account.endpoints.token
                    );
                    return Err(self.failed(&Error::new(ErrorKind::Timeout, text)));
                }
                Step::Begin(job) => {
                    state.worker = Some(self.seat.member);
                    drop(state);
                    let begun = self.begin(job, cx.cancel);
                    match good {
                        Some(token) => return Ok(token),
                        None => begun?,
                    }
                }
            }
        }
    }

    fn refused(&self, token: &Secret, claims: Option<&str>) {
        let now = self.now();
        lock(&self.kept.state).keeper(self.seat).refused(token, claims, now);
    }

    fn who(&self) -> String {
        self.oauth.account.who()
    }

    fn secrets(&self) -> Vec<Secret> {
        let secrets = lock(&self.kept.state).keeper(self.seat).secrets().cloned().collect::<Vec<_>>();
        secrets.into_iter().chain(self.oauth.account.secrets().cloned()).collect()
    }
}

impl fmt::Debug for OAuthTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthTokens").field("account", &self.oauth.account).finish_non_exhaustive()
    }
}

/// A job is under way; however it ends, the next one may begin then.
struct Busy {
    tokens: Arc<OAuthTokens>,
    done: bool,
}

impl Busy {
    /// Does a job, and those that follow from it. An error is the caller's own: it was cancelled.
    fn work(&mut self, mut job: Job, cancel: &Cancel) -> Result<()> {
        let tokens = self.tokens.clone();
        let (kept, seat) = (&tokens.kept, tokens.seat);
        loop {
            let (next, mut state) = match job {
                Job::Load => match tokens.load(cancel) {
                    Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
                    loaded => {
                        let mut state = lock(&kept.state);
                        (state.keeper(seat).loaded(loaded, tokens.now(), &mut random), state)
                    }
                },
                Job::Ask(form) => match tokens.ask(&form, cancel) {
                    Err(Denied::Act(e)) if e.kind() == ErrorKind::Closed => return Err(closed()),
                    Err(Denied::Act(e)) if e.kind() == ErrorKind::Invalid => {
                        *lock(&tokens.unfit) = Some(e);
                        return Ok(());
                    }
                    answer => {
                        let mut state = lock(&kept.state);
                        (state.keeper(seat).answered(answer, tokens.now()), state)
                    }
                },
                Job::Store(record) => {
                    let stored = tokens.save(&record);
                    let mut state = lock(&kept.state);
                    (state.keeper(seat).stored(stored, tokens.now()), state)
                }
                // Without a lock: the engines' are taken for it.
                Job::Tell(token) => {
                    let mut state = lock(&kept.state);
                    // Another line may have taken this one's place with what it brought.
                    let newest = state.keeper(seat).for_host().cloned().unwrap_or(token);
                    let like = state.like(seat);
                    drop(state);
                    like.iter().for_each(|tokens| tokens.tell(&newest));
                    let mut state = lock(&kept.state);
                    (state.keeper(seat).told(), state)
                }
            };
            state.settle(seat);
            match next {
                Next::Go(then) => job = then,
                // Under the same lock: somebody else may begin as soon as it is free.
                Next::Done => {
                    self.done = true;
                    state.worker = None;
                    kept.release(&state);
                    return Ok(());
                }
            }
        }
    }

    /// It has failed by a bug of ours: it must not be begun again and again.
    fn failed(&mut self, e: Error) {
        let tokens = &self.tokens;
        let mut state = lock(&tokens.kept.state);
        state.keeper(tokens.seat).loaded(Err(e), tokens.now(), &mut random);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.done {
            let mut state = lock(&self.tokens.kept.state);
            state.keeper(self.tokens.seat).abandoned();
            state.worker = None;
            self.tokens.kept.release(&state);
        }
    }
}

/// Sends a form, and reads the answer.
pub(crate) fn request(asker: &Asker, form: &Form, cancel: &Cancel) -> Result<Granted, Denied> {
    form.signature.iter().for_each(|signature| asker.tap.secrets.add(signature));
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
