//! Tokens that the host gives.

use std::time::SystemTime;

use super::super::core::closed;
use super::Client;
use crate::Result;
use crate::auth::Secret;

impl Client {
    /// Gives a token to sign in with, as the answer to [`TokenNeeded`](crate::EventKind::TokenNeeded) or ahead of it: for all watches
    /// with `auth=host` and this account (option `account`, by default `user`). Those that wait for it go on at once.
    ///
    /// `expires` is when it ends, an absolute time; some five minutes before, the next one is asked for. Without it, when a server
    /// does not take it any more.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use ewsnotify::auth::Secret;
    ///
    /// let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// client.set_token("ada@example.test", Secret::new("eyJ0eXAi"), Some(SystemTime::now() + Duration::from_secs(3600)))?;
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for what cannot be a token, for one that has expired, and for one
    /// that a server has refused; [`ErrorKind::Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn set_token(&self, account: &str, token: Secret, expires: Option<SystemTime>) -> Result<()> {
        if self.core.is_closing() {
            return Err(closed());
        }
        self.core.tap.secrets.add(&token);
        self.core.links.accounts.host(account).set(token, expires, SystemTime::now())
    }

    /// Says that there is no token for an account, and will be none before somebody signs in: the account's watches end with an
    /// `Error` that has the reason, and `Closed` with `sign-in-refused`. A later token is for watches that are added then.
    ///
    /// ```
    /// let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// client.deny_token("ada@example.test", "invalid_grant: the consent was taken back")?;
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn deny_token(&self, account: &str, why: &str) -> Result<()> {
        if self.core.is_closing() {
            return Err(closed());
        }
        self.core.links.accounts.host(account).deny(why);
        Ok(())
    }
}
