//! A user signs in with a browser: the authorization code flow (RFC 6749, section 4.1) with PKCE (RFC 7636).

use std::fmt;

use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::account::Account;
use super::form::escaped;
use super::{Random, hash};
use crate::auth::{Secret, Secrets};
use crate::net::cut;
use crate::{Error, ErrorKind, Result};

/// No query is longer: a code of Entra's has some 2 KiB.
const MAX_QUERY: usize = 64 * 1024;

/// A sign-in that has begun.
#[derive(Clone)]
pub struct Authorization {
    /// Where to send the browser.
    pub url: String,
    /// Comes back with the browser; another one comes from somebody else's sign-in.
    pub state: Secret,
    /// Proves that the code was asked for here. It is never shown to the browser.
    pub verifier: Secret,
}

impl Authorization {
    /// Begins. `redirect` is where the browser comes back to, as it is registered for the program.
    ///
    /// # Errors
    /// `Invalid` where the issuer's address for browsers is not known, and for an account of the program's own.
    pub fn begin(account: &Account, redirect: &str, random: &mut Random<'_>) -> Result<Authorization> {
        let bad = |text: &str| Err(Error::new(ErrorKind::Invalid, text.to_owned()));
        if account.app_only {
            return bad("a program that acts for itself has no user who could sign in");
        }
        // RFC 6749, section 3.1.2. A path alone, as pages link to each other, would be found out by the user, at the issuer.
        let plain = redirect.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !plain || !redirect.contains(':') || redirect.len() > 2000 {
            return bad(
                "where the browser is to come back to (the redirect URI) is no whole URL without a #, as \
                        https://desk.example.com/signed-in",
            );
        }
        let Some(authorize) = &account.endpoints.authorize else {
            return bad("the issuer's address for browsers is not known: set oauth_authorize_url");
        };
        let (state, verifier) = (hash::random_text(random), hash::random_text(random));
        let challenge = hash::sha256(verifier.expose().as_bytes());
        let mut url = authorize.to_string();
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", account.client_id.as_str()),
            ("redirect_uri", redirect),
            ("response_mode", "query"),
            ("scope", &account.scope),
            ("state", state.expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if account.user.contains('@') {
            pairs.push(("login_hint", &account.user));
        }
        for (n, (name, value)) in pairs.into_iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.extend(escaped(name));
            url.push('=');
            url.extend(escaped(value));
        }
        Ok(Authorization { url, state, verifier })
    }

    /// The code, from the query that the browser came back with (what stands behind `?`). What else is in it is left alone: issuers
    /// add to it (`session_state`, `iss`).
    ///
    /// # Errors
    /// `Auth` with the issuer's code where the user or the issuer refused; `Invalid` for a query of another sign-in, one that says
    /// something twice (RFC 6749, section 3.1), or none.
    pub fn code(query: &str, state: &Secret) -> Result<Secret> {
        if query.len() > MAX_QUERY {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the browser came back with a query that is too long: begin again",
            ));
        }
        let all = |wanted: &'static str| {
            let pairs = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
        };
        if let Some(name) = ["state", "error", "code"].into_iter().find(|name| all(name).count() > 1) {
            let text = format!("the browser came back with more than one {name}: begin again");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let find = |wanted| all(wanted).next().map(unescaped);
        let came = find("state").unwrap_or_default();
        if !bool::from(came.as_bytes().ct_eq(state.expose().as_bytes())) {
            let text = "the browser came back from another sign-in (its state is not the one that was sent): begin again";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        if let Some(error) = find("error") {
            let secrets = Secrets::default();
            secrets.add(state);
            let said = |text: &str, most| cut(&secrets.redact(text), most);
            let description = find("error_description").unwrap_or_default();
            let code = said(&error, 60);
            let description = said(super::answer::first_line(&description), 300);
            let text = format!("the sign-in was refused: {code}: {description}");
            return Err(Error::new(ErrorKind::Auth, text).with_code(code));
        }
        match find("code") {
            Some(mut code) if !code.is_empty() => Ok(Secret::new(std::mem::take(&mut *code))),
            _ => Err(Error::new(ErrorKind::Invalid, "the browser came back without a code: begin again")),
        }
    }
}

/// All at once: a text that grows leaves copies behind that nobody wipes.
fn unescaped(value: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len()));
    for (n, piece) in value.split('+').enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        out.extend(percent_decode_str(piece));
    }
    Zeroizing::new(match std::str::from_utf8(&out) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(&out).into_owned(),
    })
}

/// The URL has the state in it.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.url.split('?').next();
        f.debug_struct("Authorization").field("url", &place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Without these a code that leaks from the browser's history signs a stranger in as the user, or the user as a stranger.
    #[test]
    fn only_the_sign_in_that_was_begun_is_finished() {
        let state = Secret::new("st-1");
        assert_eq!(Authorization::code("code=a%2Bb&state=st-1", &state).unwrap().expose(), "a+b");
        // What is no escape stands for itself.
        for (query, code) in
            [("%zz%4", "%zz%4"), ("a+b%2B%2b", "a b++"), ("%+4%", "% 4%"), ("%ff%C3%A9", "\u{fffd}\u{e9}")]
        {
            let found = Authorization::code(&format!("code={query}&state=st-1"), &state).unwrap();
            assert_eq!(found.expose(), code, "{query}");
        }
        let more = "?iss=https%3A%2F%2Flogin.example.test&code=0.AX&x&state=st-1&session_state=s&=&error_description=odd";
        assert_eq!(Authorization::code(more, &state).unwrap().expose(), "0.AX");
        let long = format!("code={}&state=st-1", "x".repeat(MAX_QUERY));
        for query in [
            "code=x&state=st-2",
            "code=x",
            "",
            "state=st-1",
            "state=st-1&code=",
            "%",
            "code=%zz",
            "code=mine&code=yours&state=st-1",
            "code=x&state=st-1&state=st-2",
            "code=x&state=st-2&state=st-1",
            "error=access_denied&state=st-2",
            &long,
        ] {
            let e = Authorization::code(query, &state).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Invalid, "{query:.60}");
            assert!(!e.to_string().contains("mine") && !e.to_string().contains("st-"), "{e}");
        }
        let e =
            Authorization::code("error=access_denied&error_description=No+way%0d%0aTrace&state=st-1", &state);
        let e = e.unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("access_denied")));
        assert_eq!(e.to_string(), "the sign-in was refused: access_denied: No way");
    }

    // The example of RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_the_standards() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(hash::sha256(verifier.as_bytes()), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
