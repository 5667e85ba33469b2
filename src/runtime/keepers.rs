//! Who keeps the tokens of an account: one for all clients of the process, so that there is never more than one request for a token
//! under way, and no refresh token is sent twice.
//!
//! It is the same account where program, issuer, user, scope and store are ([`Account::id`]); time-outs, proxies and what the
//! host calls it make no other. Each client has a member here, which asks in its own way.
//!
//! # Whose refresh token counts
//!
//! Hosts may give different ones for one account, by mistake or because the user has signed in anew. One that the account has had already,
//! given or come by renewal, however old, leads to the newest. One that it has not had is a line of its own: nobody gets a token by it
//! before the issuer has taken it, so that made-up ones lead to nobody's mail and spoil nothing. When it has, it is the newest, and the
//! lines before it that have worked go: whoever came by them signs in with this one from then on. So the one that was given last wins, if it is
//! any good; and one that is given after `sign-in-refused` is tried at once.
//!
//! Who gives none goes on with a line that works, or else with what is stored. So does whose own is refused, where what is stored came of a
//! login to which none had been given: that much a watch may have that gives none at all.
//!
//! A program that acts for itself has no refresh token; who proves itself otherwise is a line of its own, which stays.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::oauth::OAuthTokens;
use super::threads::lock;
use crate::Result;
use crate::auth::oauth::{Account, Keeper};
use crate::options::OAuth;
use crate::store::tokens::{TokenLock, TokenStore};

/// The accounts, with the process that has them: a child that was forked has a copy of the table, and nobody who does what is under way
/// in it.
static KEPT: Mutex<Vec<(u32, Weak<Kept>)>> = Mutex::new(Vec::new());

/// An account of the process.
pub(super) struct Kept {
    id: String,
    pub store: Option<TokenStore>,
    pub state: Mutex<State>,
    pub changed: Condvar,
    /// The account's lock, from the reading of what is stored until the newest is.
    pub stored: Mutex<Option<TokenLock>>,
    pub started: Instant,
}

#[derive(Default)]
pub(super) struct State {
    /// The oldest first; never empty.
    lines: Vec<Line>,
    /// The member that does a job, in whichever line.
    pub worker: Option<u64>,
    members: Vec<Member>,
    last: u64,
}

struct Line {
    number: u64,
    /// Those whose place it has taken.
    took: Vec<u64>,
    keeper: Keeper,
}

struct Member {
    number: u64,
    tokens: Weak<OAuthTokens>,
}

/// Where a member belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub member: u64,
    line: u64,
}

impl Kept {
    /// Takes part in the keeping of an account.
    pub fn join(
        oauth: &OAuth,
        make: impl FnOnce(Arc<Kept>, Seat, Weak<OAuthTokens>) -> OAuthTokens,
    ) -> Result<Arc<OAuthTokens>> {
        let store = oauth.store.as_deref().map(TokenStore::open).transpose()?;
        let (id, me) = (oauth.account.id(), std::process::id());
        let mut table = lock(&KEPT);
        table.retain(|(process, kept)| *process == me && kept.strong_count() > 0);
        let mut known = table.iter().filter_map(|(_, kept)| kept.upgrade());
        let found = known.find(|kept| kept.id == id && kept.store == store);
        let kept = found.unwrap_or_else(|| {
            let (state, stored) = (Mutex::default(), Mutex::default());
            let (changed, started) = (Condvar::new(), Instant::now());
            let kept = Arc::new(Kept { id, store, state, changed, stored, started });
            table.push((me, Arc::downgrade(&kept)));
            kept
        });
        let mut state = lock(&kept.state);
        let seat = state.seat(&oauth.account, kept.store.is_some());
        let tokens = Arc::new_cyclic(|this| make(kept.clone(), seat, this.clone()));
        state.members.push(Member { number: seat.member, tokens: Arc::downgrade(&tokens) });
        drop(state);
        Ok(tokens)
    }

    /// A member has ended. With the last one the account is forgotten: what is to live on is in the store, or with the host.
    pub fn leave(self: &Arc<Self>, member: u64) -> bool {
        let mut table = lock(&KEPT);
        let mut state = lock(&self.state);
        state.members.retain(|m| m.number != member && m.tokens.strong_count() > 0);
        if state.members.is_empty() {
            table.retain(|(_, kept)| !std::ptr::eq(kept.as_ptr(), Arc::as_ptr(self)));
        }
        state.members.is_empty()
    }

    /// A job is over: the account's lock goes back, and the others go on. At the end it goes back in any case: nobody here would store
    /// any more, and the clients may be kept for long.
    pub fn release(&self, state: &State) {
        if !state.lines.iter().any(|line| line.keeper.keeps_lock()) || state.members.is_empty() {
            *lock(&self.stored) = None;
        }
        self.changed.notify_all();
    }

    /// Waits, to a time, until this member does no job.
    pub fn wait_idle(&self, member: u64, until: Instant) {
        let mut state = lock(&self.state);
        while state.worker == Some(member) && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn seat(&mut self, account: &Arc<Account>, durable: bool) -> Seat {
        self.last += 1;
        let member = self.last;
        let known = self.lines.iter_mut().filter(|line| line.keeper.knows(account));
        let line = match known.max_by_key(|line| (line.keeper.works(), line.number)) {
            Some(line) => {
                line.keeper.prove_like(account);
                line.number
            }
            None => {
                let keeper = Keeper::new(account.clone(), durable, fastrand::u64(..));
                self.lines.push(Line { number: member, took: Vec::new(), keeper });
                member
            }
        };
        Seat { member, line }
    }

    /// The keeper of a seat: that of its line, or of the one that has taken its place.
    pub fn keeper(&mut self, seat: Seat) -> &mut Keeper {
        let at = self.at(seat);
        &mut self.lines[at].keeper
    }

    fn at(&self, seat: Seat) -> usize {
        let is_its = |line: &Line| line.number == seat.line || line.took.contains(&seat.line);
        // There always is one.
        self.lines.iter().position(is_its).unwrap_or_default()
    }

    /// Something has come of a job: where a line of a user works, the newest that does stays of those that have worked, or that go by what
    /// is stored, which is of such a line now. One that was given a refresh token and never worked stays by itself: nobody knows that it
    /// is the user's.
    pub fn settle(&mut self, seat: Seat) {
        let at = self.at(seat);
        let is_good = |line: &&Line| line.keeper.works() && !line.keeper.needs_sign_in();
        let line = &self.lines[at];
        if self.lines.len() == 1 || !is_good(&line) || line.keeper.account().app_only {
            return;
        }
        let began = line.number;
        let newest = self.lines.iter().rfind(is_good).map_or(began, |line| line.number);
        let goes = |line: &Line| {
            line.number != newest && (line.keeper.works() || line.keeper.account().given().is_none())
        };
        let (gone, stay) = std::mem::take(&mut self.lines).into_iter().partition(goes);
        let gone: Vec<Line> = gone;
        self.lines = stay;
        let Some(stays) = self.lines.iter_mut().find(|line| line.number == newest) else { return };
        if gone.iter().any(|line| line.number == began) {
            stays.keeper.store_anew();
        }
        for line in gone.into_iter().rev() {
            stays.keeper.replace(&line.keeper);
            stays.took.extend(line.took);
            stays.took.push(line.number);
        }
    }

    /// All members that sign in as this one does.
    pub fn like(&self, seat: Seat) -> Vec<Arc<OAuthTokens>> {
        let at = self.at(seat);
        let members = self.members.iter().filter_map(|member| member.tokens.upgrade());
        members.filter(|tokens| self.at(tokens.seat) == at).collect()
    }

    /// The keeper of what could not be stored, if there is anything.
    pub fn unstored(&mut self) -> Option<&mut Keeper> {
        self.lines.iter_mut().map(|line| &mut line.keeper).find(|keeper| keeper.unstored().is_some())
    }
}
