//! A user signs in on another device: a short code, typed into a page (RFC 8628).

use std::time::Duration;

use serde::Deserialize;

use super::answer::{self, Denied, Granted};
use crate::auth::Secret;
use crate::net::cut;
use crate::{Error, ErrorKind, Result};

/// Where no interval is said (section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// What each `slow_down` adds (section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// No interval is longer.
pub const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// No code is waited for longer.
const MAX_LIFE: Duration = Duration::from_secs(3600);

/// A sign-in that has begun: what to show to the user, and when to ask for its token.
#[derive(Clone, Debug)]
pub struct Device {
    /// For the token endpoint.
    pub code: Secret,
    /// What the user types.
    pub user_code: String,
    /// Where.
    pub uri: String,
    /// The same with the code in it, where the issuer has such a page.
    pub whole_uri: Option<String>,
    /// How long the code is good.
    pub life: Duration,
    /// How long to wait before each question.
    pub interval: Duration,
}

/// What a question for the token came to.
#[derive(Debug)]
pub enum Pending {
    /// The user has signed in.
    Done(Granted),
    /// Not yet: ask again after the interval. With what came instead of an answer, where the issuer is in trouble.
    Wait(Option<Error>),
    /// It is over: the code is too old, or the user said no.
    Over(Error),
}

#[derive(Deserialize)]
struct Told {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
}

impl Device {
    /// Reads the answer to [`Form::device`](super::Form::device). `redact` takes our own secrets out of what the endpoint says.
    ///
    /// # Errors
    /// As of [`answer::read`], and `Protocol` for what is none.
    pub fn read(
        status: u16,
        body: &[u8],
        retry_after: Option<Duration>,
        redact: &dyn Fn(&str) -> String,
    ) -> Result<Device> {
        if status != 200 {
            return Err(answer::denied(status, body, retry_after, redact).error());
        }
        let told: Option<Told> =
            (body.len() <= answer::MAX_BODY).then(|| serde_json::from_slice(body).ok()).flatten();
        let told = told.ok_or_else(|| {
            let text = "the answer to the question for a device code is none (RFC 8628, section 3.2): is the address right?";
            Error::new(ErrorKind::Protocol, text)
        })?;
        let code = Secret::new(told.device_code);
        // They are shown at a terminal, and opened with a browser.
        let page = |uri: String| {
            uri.starts_with("https://")
                || uri.starts_with("http://localhost")
                || uri.starts_with("http://127.0.0.1")
        };
        let shown = cut(&told.user_code, 40);
        if told.user_code.is_empty() || shown != told.user_code || !page(told.verification_uri.clone()) {
            let text =
                "the answer to the question for a device code has no code or no https page to type it into";
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        let interval =
            told.interval.map_or(INTERVAL, Duration::from_secs).clamp(Duration::from_secs(1), MAX_INTERVAL);
        Ok(Device {
            code,
            user_code: told.user_code,
            uri: cut(&told.verification_uri, 500),
            whole_uri: told
                .verification_uri_complete
                .filter(|uri| page(uri.clone()))
                .map(|uri| cut(&uri, 500)),
            life: Duration::from_secs(told.expires_in).min(MAX_LIFE),
            interval,
        })
    }
}

impl Pending {
    /// What an answer to [`Form::device_token`](super::Form::device_token) means. It makes the interval longer where the issuer says so, or
    /// cannot be reached.
    pub fn of(answer: Result<Granted, Denied>, interval: &mut Duration) -> Pending {
        match answer {
            Ok(granted) => Pending::Done(granted),
            Err(Denied::Pending) => Pending::Wait(None),
            Err(denied @ (Denied::SlowDown | Denied::Later { .. })) => {
                *interval = (*interval + SLOWER).min(MAX_INTERVAL);
                let is_trouble = matches!(denied, Denied::Later { .. });
                Pending::Wait(is_trouble.then(|| denied.error()))
            }
            Err(Denied::Act(e) | Denied::Policy(e)) => Pending::Over(e),
        }
    }
}
