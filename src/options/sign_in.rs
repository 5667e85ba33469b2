//! How a watch signs in, and as whom it reaches the mailbox.

use super::Options;
use super::oauth::OAuth;
use crate::auth::{self, Secret};
use crate::net::Endpoint;
use crate::{Error, ErrorKind, Result};

/// How a mailbox is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Own,
    Delegate,
    Impersonate,
}

/// What a watch signs in with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SignIn {
    /// `user` and a password.
    Password(Secret, Ways),
    /// `user`'s ticket, or one that a password brings.
    Kerberos(Option<Secret>),
    /// Tokens that the host gives for this account.
    HostTokens(String),
    /// Tokens that an issuer gives.
    OAuth(OAuth),
}

/// Which ways a password may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    /// What the server offers.
    Offered,
    Basic,
    Ntlm,
}

impl SignIn {
    /// Whose tokens the host gives.
    pub fn host_account(&self) -> Option<&str> {
        match self {
            SignIn::HostTokens(account) => Some(account),
            SignIn::Password(..) | SignIn::Kerberos(_) | SignIn::OAuth(_) => None,
        }
    }

    /// Whether a program acts for itself: it has no mailbox, and impersonates.
    pub fn is_app_only(&self) -> bool {
        matches!(self, SignIn::OAuth(oauth) if oauth.account.app_only)
    }

    /// Whether a renewal would bring a refresh token that only a program that listens can keep.
    pub fn spends_what_is_kept_nowhere(&self) -> bool {
        matches!(self, SignIn::OAuth(oauth) if !oauth.account.app_only && oauth.store.is_none())
    }

    pub fn read(options: &Options, endpoint: Option<&Endpoint>, user: &str) -> Result<SignIn> {
        Ok(match options.value("auth") {
            _ if is_oauth(options) => SignIn::OAuth(OAuth::read(options, endpoint, user)?),
            "host" => SignIn::HostTokens(options.get("account").unwrap_or(user).to_owned()),
            "negotiate" => {
                // Refused now where it is not built in, or cannot be of that user.
                auth::Kerberos::new(user, None)?;
                SignIn::Kerberos(options.secret("password").cloned())
            }
            auth => {
                let password = options.secret("password").ok_or_else(|| missing("password"))?.clone();
                let ways = match auth {
                    "basic" => Ways::Basic,
                    "ntlm" => Ways::Ntlm,
                    _ => Ways::Offered,
                };
                SignIn::Password(password, ways)
            }
        })
    }
}

/// Whether an issuer gives the tokens.
pub(super) fn is_oauth(options: &Options) -> bool {
    match options.value("auth") {
        "oauth" => true,
        "auto" => options.get("oauth_client_id").is_some() && options.secret("password").is_none(),
        _ => false,
    }
}

pub(super) fn missing(key: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("option {key} is not set; a watch needs it"))
}

/// A program that acts for itself has no domain of its own: it is as much at home where the mailbox is.
pub(super) fn searcher<'a>(sign_in: &SignIn, user: &'a str, mailbox: &'a str) -> &'a str {
    if sign_in.is_app_only() && !user.contains('@') { mailbox } else { user }
}
