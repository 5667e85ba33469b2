//! Who asks.

use base64::Engine;

use super::super::http::Head;
use super::super::ntlm::Scheme;
use super::super::wire::Wire;

/// Who asks, and what the answer has to say of that.
#[derive(Default)]
pub(super) struct SignIn {
    pub user: Option<String>,
    /// What is wrong with a token, for `WWW-Authenticate` beside the offers.
    pub challenge: Option<String>,
    /// What comes instead of them, in the middle of a sign-in.
    pub turn: Option<String>,
    /// The connection was signed in just now.
    pub by_connection: bool,
}

pub(super) fn sign_in(wire: &mut Wire, head: &Head) -> SignIn {
    let Some((scheme, secret)) = head.header("authorization").and_then(|v| v.split_once(' ')) else {
        return SignIn { user: wire.ntlm.user().map(str::to_owned), ..SignIn::default() };
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return bearer(wire, secret);
    }
    let offered = wire.shared.offers.iter().find(|offer| offer.name().eq_ignore_ascii_case(scheme)).copied();
    match offered {
        Some(Scheme::Basic) => SignIn { user: basic(wire, secret), ..SignIn::default() },
        Some(scheme) => {
            let turn = wire.ntlm.hear(&wire.shared, secret);
            let turn = turn.map(|message| format!("{} {message}", scheme.name()));
            let user = wire.ntlm.user().map(str::to_owned);
            SignIn { by_connection: user.is_some(), user, turn, challenge: None }
        }
        None => SignIn::default(),
    }
}

fn bearer(wire: &Wire, token: &str) -> SignIn {
    match wire.shared.issuer.bearer(token.trim()) {
        Ok(bearer) => {
            if bearer.app_only {
                wire.shared.exchange.impersonates_only(&bearer.name);
            }
            SignIn { user: Some(bearer.name), ..SignIn::default() }
        }
        Err(challenge) => SignIn { challenge: Some(challenge), ..SignIn::default() },
    }
}

fn basic(wire: &Wire, secret: &str) -> Option<String> {
    let plain = base64::engine::general_purpose::STANDARD.decode(secret.trim()).ok()?;
    let colon = plain.iter().position(|b| *b == b':')?;
    let user = std::str::from_utf8(&plain[..colon]).ok()?;
    wire.shared.knows(user, &plain[colon + 1..]).then(|| user.to_owned())
}
