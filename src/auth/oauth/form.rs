//! What is asked of a token endpoint: forms (RFC 6749, appendix B), in memory that is wiped.

use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::account::{Account, Issuer, Proof};
use super::{Random, hash};
use crate::auth::Secret;
use crate::net::Endpoint;
use crate::{Error, ErrorKind, Result};

/// A request that is ready to be sent: `POST`, `application/x-www-form-urlencoded`.
#[derive(Clone, Debug)]
pub struct Form {
    /// Where to.
    pub to: Endpoint,
    /// The body.
    pub body: Secret,
    /// What in it is secret beside what its makers know: the signature of an assertion.
    pub signature: Option<Secret>,
    /// Whether the endpoint may have acted on it although no answer came: then an answer is worth waiting for, because a refresh
    /// token may come with it that replaces the one that was sent.
    pub spends: bool,
}

/// The grant of device sign-ins (RFC 8628, section 3.4).
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Form {
    /// A token for the program itself (RFC 6749, section 4.4).
    ///
    /// # Errors
    /// `Invalid` where the program cannot prove who it is, and those of signing.
    pub fn client_credentials(
        account: &Account,
        claims: Option<&str>,
        now: SystemTime,
        random: &mut Random<'_>,
    ) -> Result<Form> {
        if account.proof == Proof::Nothing {
            let text = "a program that acts for itself needs a secret or a certificate to prove who it is \
                        (oauth_client_secret, or oauth_client_cert and oauth_client_key)";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let mut pairs = vec![("grant_type", "client_credentials"), ("scope", &account.scope)];
        pairs.extend(claims.map(|claims| ("claims", claims)));
        form(account, pairs, false, now, random)
    }

    /// A new token for a user who has signed in before (RFC 6749, section 6).
    pub fn refresh(
        account: &Account,
        refresh_token: &Secret,
        claims: Option<&str>,
        now: SystemTime,
        random: &mut Random<'_>,
    ) -> Result<Form> {
        let mut pairs = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
            ("scope", &account.scope),
        ];
        pairs.extend(claims.map(|claims| ("claims", claims)));
        form(account, pairs, true, now, random)
    }

    /// The tokens for a code that a browser brought back (RFC 6749, section 4.1.3; RFC 7636, section 4.5).
    pub fn code(
        account: &Account,
        code: &str,
        redirect: &str,
        verifier: &Secret,
        now: SystemTime,
        random: &mut Random<'_>,
    ) -> Result<Form> {
        let pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier.expose()),
            ("scope", &account.scope),
        ];
        form(account, pairs, true, now, random)
    }

    /// Begins a sign-in on another device (RFC 8628, section 3.1).
    ///
    /// # Errors
    /// `Invalid` where the issuer has no such endpoint.
    pub fn device(account: &Account) -> Result<Form> {
        let to = account.endpoints.device.clone().ok_or_else(|| {
            let text = "the issuer's endpoint for devices is not known: set oauth_device_url";
            Error::new(ErrorKind::Invalid, text)
        })?;
        let pairs = [("client_id", account.client_id.as_str()), ("scope", &account.scope)];
        Ok(Form { to, body: encode(&pairs), signature: None, spends: false })
    }

    /// Asks whether the user has signed in there (RFC 8628, section 3.4).
    pub fn device_token(
        account: &Account,
        device_code: &Secret,
        now: SystemTime,
        random: &mut Random<'_>,
    ) -> Result<Form> {
        let pairs = vec![("grant_type", DEVICE_GRANT), ("device_code", device_code.expose())];
        form(account, pairs, true, now, random)
    }
}

fn form(
    account: &Account,
    grant: Vec<(&str, &str)>,
    spends: bool,
    now: SystemTime,
    random: &mut Random<'_>,
) -> Result<Form> {
    let to = account.endpoints.token.clone();
    let mut signature = None;
    let assertion;
    let mut pairs: Vec<(&str, &str)> = grant;
    pairs.push(("client_id", &account.client_id));
    match &account.proof {
        Proof::Nothing => {}
        Proof::Secret(secret) => pairs.push(("client_secret", secret.expose())),
        Proof::Certificate(signer) => {
            let id = hash::random_text(random);
            let audience = to.to_string();
            let old = account.endpoints.issuer == Issuer::AdFs;
            assertion = signer.assertion(&account.client_id, &audience, id.expose(), now, old)?;
            signature = assertion.expose().rsplit('.').next().map(Secret::new);
            pairs.push(("client_assertion_type", ASSERTION));
            pairs.push(("client_assertion", assertion.expose()));
        }
    }
    Ok(Form { to, body: encode(&pairs), signature, spends })
}

/// `a=b&c=d`. All at once: a text that grows leaves copies behind that nobody wipes.
fn encode(pairs: &[(&str, &str)]) -> Secret {
    let length = |text| escaped(text).map(str::len).sum::<usize>();
    let all = pairs.iter().map(|(name, value)| length(name) + length(value) + 2).sum();
    let mut text = String::with_capacity(all);
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(escaped(name));
        text.push('=');
        text.extend(escaped(value));
    }
    Secret::new(text)
}

/// RFC 3986, section 2.1; a blank as `%20`, which forms and URLs both take.
pub(super) fn escaped(text: &str) -> PercentEncode<'_> {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, ESCAPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A secret with a '+' or a '&' in it would arrive as another one, and nobody would know why it is refused.
    #[test]
    fn every_letter_arrives_as_it_is() {
        let body = encode(&[("client_secret", "a+b&c=d %\u{e4}~"), ("x", "")]);
        assert_eq!(body.expose(), "client_secret=a%2Bb%26c%3Dd%20%25%C3%A4~&x=");
        assert!(body.expose().len() <= "client_secret=a%2Bb%26c%3Dd%20%25%C3%A4~&x=".len() + 1);
    }
}
