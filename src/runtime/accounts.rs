//! The accounts that sign in with tokens: those whose tokens the host gives. Those of an issuer are in [`super::oauth`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use super::core::Core;
use super::oauth::OAuthTokens;
use super::threads::lock;
use crate::auth::{Context, Kerberos, Secret, Tokens, is_token};
use crate::engine::Input;
use crate::net::{Keep, Tries};
use crate::store::refused::Refused;
use crate::{Error, ErrorKind, Reason, Result};

/// While the host owes a token, what needs one is tried so often; when it comes, at once.
const OWED: Duration = Duration::from_secs(60);
/// A token is renewed so long before its end, and not before the last tenth of its life.
const AHEAD: Duration = Duration::from_secs(300);

/// A user, with a password where there is one.
type Whose = (String, Option<Secret>);

/// All accounts of a client.
#[derive(Default)]
pub(crate) struct Accounts {
    hosts: Mutex<BTreeMap<String, Arc<HostTokens>>>,
    pub(super) oauths: Mutex<Vec<Arc<OAuthTokens>>>,
    /// The newest refresh token that the host was told of, by what it calls the account, and its id.
    pub(super) told: Mutex<BTreeMap<(Arc<str>, String), Secret>>,
    /// What is known of each user's password, whatever mailbox and server it is for.
    passwords: Mutex<Vec<(String, Secret, Arc<Tries>)>>,
    /// And over a restart, where there is a state directory.
    refused: OnceLock<Arc<Refused>>,
    /// Those who sign in by Kerberos: what is known of a password or keytab is known to all of a client's connections.
    kerberos: Mutex<Vec<(Whose, Kerberos)>>,
    /// Where the host is told of what is needed; nowhere where there is no client (`check`).
    pub(super) core: Arc<OnceLock<Weak<Core>>>,
}

impl Accounts {
    /// From now on the host is told.
    pub(super) fn tell(&self, core: Weak<Core>) {
        // There is one client.
        let _ = self.core.set(core);
    }

    /// From now on refusals are kept over a restart.
    pub(super) fn keep_refusals(&self, refused: Refused) {
        // There is one state directory.
        let _ = self.refused.set(Arc::new(refused));
    }

    /// The sign-in by Kerberos of a user.
    pub(super) fn kerberos(&self, user: &str, password: &Option<Secret>) -> Result<Kerberos> {
        let mut known = lock(&self.kerberos);
        if let Some((_, known)) = known.iter().find(|((who, secret), _)| who == user && secret == password) {
            return Ok(known.clone());
        }
        let kerberos = Kerberos::new(user, password.clone())?;
        known.push(((user.to_owned(), password.clone()), kerberos.clone()));
        Ok(kerberos)
    }

    /// What is known of a user's password.
    pub(super) fn tries(&self, user: &str, password: &Secret) -> Arc<Tries> {
        let mut known = lock(&self.passwords);
        if let Some((.., tries)) = known.iter().find(|(who, secret, _)| who == user && secret == password) {
            return tries.clone();
        }
        let tries = Arc::new(match self.refused.get() {
            None => Tries::default(),
            Some(refused) => Tries::keeping(Box::new(Kept {
                refused: refused.clone(),
                user: user.to_owned(),
                password: password.clone(),
                core: self.core.clone(),
            })),
        });
        known.push((user.to_owned(), password.clone(), tries.clone()));
        tries
    }

    /// The tokens that the host gives for an account.
    pub fn host(&self, account: &str) -> Arc<HostTokens> {
        let make = || {
            let (account, core) = (account.into(), self.core.clone());
            Arc::new(HostTokens { account, held: Mutex::default(), core })
        };
        lock(&self.hosts).entry(account.to_owned()).or_insert_with(make).clone()
    }
}

/// A user's password in the state directory.
struct Kept {
    refused: Arc<Refused>,
    user: String,
    password: Secret,
    core: Arc<OnceLock<Weak<Core>>>,
}

impl Kept {
    /// What cannot be written counts until the end of this run.
    fn tell(&self, written: Result<()>) {
        let core = self.core.get().and_then(Weak::upgrade);
        if let (Err(e), Some(core)) = (written, core) {
            core.tell_trouble(&e);
        }
    }
}

impl Keep for Kept {
    fn refusals(&self) -> Vec<(String, usize, SystemTime)> {
        self.refused.of(&self.user, &self.password)
    }

    fn refused(&self, server: &str, refusals: usize) {
        self.tell(self.refused.add(server, &self.user, &self.password, refusals));
    }

    fn taken(&self, server: &str) {
        self.tell(self.refused.remove(server, &self.user));
    }

    fn way_out(&self) -> String {
        format!("to have this one sent all the same, remove {} and start anew", self.refused.path().display())
    }
}

/// The tokens of an account that the host gives: one at a time.
pub(crate) struct HostTokens {
    account: Arc<str>,
    held: Mutex<Held>,
    core: Arc<OnceLock<Weak<Core>>>,
}

#[derive(Default)]
struct Held {
    token: Option<Given>,
    /// The last one that a server did not take, and the claims that it wants.
    refused: Option<(Secret, Option<String>)>,
    /// Why the host has none.
    denied: Option<String>,
}

struct Given {
    token: Secret,
    expires: Option<SystemTime>,
}

impl HostTokens {
    /// The host gives one. What it gives counts until `expires`, or until a server does not take it.
    pub fn set(&self, token: Secret, expires: Option<SystemTime>, now: SystemTime) -> Result<()> {
        let account = &self.account;
        let bad = |why: String| Err(Error::new(ErrorKind::Invalid, why));
        if !is_token(token.expose()) {
            return bad(format!(
                "the token for account {account} is none: it must be letters, digits and signs, without the word Bearer"
            ));
        }
        if expires.is_some_and(|at| at <= now) {
            return bad(format!("the token for account {account} has expired already: fetch a new one"));
        }
        let mut held = lock(&self.held);
        if held.refused.as_ref().is_some_and(|(refused, _)| *refused == token) {
            return bad(format!(
                "the token for account {account} is the one that the server did not take: fetch a new one"
            ));
        }
        held.denied = None;
        // What it wanted, it has.
        if let Some((_, claims)) = &mut held.refused {
            *claims = None;
        }
        held.token = Some(Given { token, expires });
        drop(held);
        let renew_at =
            expires.map(|at| at.duration_since(now).unwrap_or_default()).map(|left| left - ahead(left));
        self.feed(|core| Input::TokenSet {
            account: account.clone(),
            renew_at: renew_at.map(|wait| core.time_in(wait)),
        });
        Ok(())
    }

    /// The host has none to give.
    pub fn deny(&self, why: &str) {
        let mut held = lock(&self.held);
        held.token = None;
        held.denied = Some(why.to_owned());
        drop(held);
        let error = denied(&self.account, why);
        self.feed(|_| Input::TokenDenied { account: self.account.clone(), error });
    }

    fn feed(&self, input: impl FnOnce(&Core) -> Input) {
        if let Some(core) = self.core.get().and_then(Weak::upgrade) {
            let input = input(&core);
            core.feed(input);
        }
    }
}

impl Tokens for HostTokens {
    fn token(&self, cx: &Context<'_>) -> Result<Secret> {
        let held = lock(&self.held);
        if let Some(why) = &held.denied {
            return Err(denied(&self.account, why));
        }
        let now = SystemTime::now();
        let expired = |given: &Given| given.expires.is_some_and(|at| at <= now);
        let reason = match &held.token {
            Some(given) if !expired(given) => return Ok(given.token.clone()),
            Some(_) => Reason::TokenExpiring,
            None if held.refused.is_some() => Reason::TokenRefused,
            None => Reason::TokenNeeded,
        };
        let claims = held.refused.as_ref().and_then(|(_, claims)| claims.clone());
        drop(held);
        let (account, resource) = (self.account.clone(), cx.endpoint.origin());
        self.feed(|_| Input::TokenNeeded { account, resource, reason, claims });
        let text = format!(
            "{}: the program has not given a token for account {} yet: it is asked for one by the event TokenNeeded, and answers \
             with set_token",
            cx.endpoint, self.account
        );
        Err(Error::new(ErrorKind::Auth, text).with_retry_after(Some(OWED)).no_token())
    }

    fn refused(&self, token: &Secret, claims: Option<&str>) {
        let mut held = lock(&self.held);
        // Many requests may bring the news of one token.
        if held.token.as_ref().is_some_and(|given| given.token == *token) {
            held.token = None;
            held.refused = Some((token.clone(), claims.map(str::to_owned)));
        }
    }

    fn who(&self) -> String {
        format!("account {:?}", &*self.account)
    }
}

impl fmt::Debug for HostTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTokens").field("account", &self.account).finish_non_exhaustive()
    }
}

fn denied(account: &str, why: &str) -> Error {
    let cut: String = why.chars().take(500).collect();
    Error::sign_in_needed(format!("account {account} has to be signed in anew: {cut}"))
}

/// How long before its end a token that lasts so long is renewed.
fn ahead(life: Duration) -> Duration {
    AHEAD.min(life / 10)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::net::{Cancel, Endpoint};

    fn ask(tokens: &HostTokens) -> Result<Secret> {
        let endpoint = Endpoint::parse("mail.example.test").unwrap();
        let cancel = Cancel::new();
        tokens.token(&Context {
            endpoint: &endpoint,
            certificate: None,
            cancel: &cancel,
            until: Instant::now(),
        })
    }

    // A host that gives the refused token again and again would be asked for it as fast as the server can refuse it.
    #[test]
    fn a_token_that_was_refused_is_not_taken_again() {
        let tokens = Accounts::default().host("ada");
        let now = SystemTime::now();
        assert!(ask(&tokens).unwrap_err().awaits_token());
        tokens.set(Secret::new("one"), None, now).unwrap();
        assert_eq!(ask(&tokens).unwrap().expose(), "one");
        tokens.refused(&Secret::new("other"), None);
        assert_eq!(ask(&tokens).unwrap().expose(), "one", "news of an older one");
        tokens.refused(&Secret::new("one"), None);
        assert!(ask(&tokens).unwrap_err().awaits_token());
        let e = tokens.set(Secret::new("one"), None, now).unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && !e.to_string().contains("one:"), "{e}");
        tokens.set(Secret::new("two"), None, now).unwrap();
        assert_eq!(ask(&tokens).unwrap().expose(), "two");
    }

    // A watch would be stopped for an hour-old token that the host gave by mistake, or a line end would bring a header along.
    #[test]
    fn what_can_be_no_token_is_refused_at_once() {
        let tokens = Accounts::default().host("ada");
        let now = SystemTime::now();
        for (token, expires) in [("", None), ("Bearer abc", None), ("a\nb", None), ("abc", Some(now))] {
            assert_eq!(tokens.set(Secret::new(token), expires, now).unwrap_err().kind(), ErrorKind::Invalid);
        }
        tokens.deny("consent was taken back");
        let e = ask(&tokens).unwrap_err();
        assert!(e.is_sign_in_needed() && e.to_string().contains("consent"), "{e}");
        tokens.set(Secret::new("abc"), Some(now + Duration::from_secs(60)), now).unwrap();
        assert!(ask(&tokens).is_ok());
    }
}
