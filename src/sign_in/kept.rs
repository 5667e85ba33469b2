//! What a sign-in needs to go on, as one text: it may be finished by another process than the one that began it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::auth::Secret;
use crate::{Error, ErrorKind, Result};

/// It names itself, for whoever looks for it in a session, and its version.
const PREFIX: &str = "ewsn-sign-in-1.";
/// No text is longer.
const MAX_BYTES: usize = 64 * 1024;

/// What is kept of a sign-in.
pub(super) struct Kept {
    /// Whose it is: `Account::id`. A code belongs to the program, issuer and scope that asked for it.
    pub account: String,
    pub way: Way,
}

/// How the user signs in.
pub(super) enum Way {
    /// With a browser that comes back to a page of the host's.
    Browser { state: Secret, verifier: Secret, redirect: String },
    /// On another device.
    Device {
        code: Secret,
        /// How long to wait between two questions.
        interval: Duration,
        /// When the next one is due. The processes that the text goes through have no other clock in common.
        next: SystemTime,
        /// When the code ends.
        until: SystemTime,
    },
}

#[derive(Serialize, Deserialize)]
struct Text {
    account: String,
    way: WayText,
}

#[derive(Serialize, Deserialize)]
enum WayText {
    Browser { state: String, verifier: String, redirect: String },
    // In milliseconds, since 1970.
    Device { code: String, interval: u64, next: u64, until: u64 },
}

impl Drop for WayText {
    fn drop(&mut self) {
        match self {
            WayText::Browser { state, verifier, .. } => {
                state.zeroize();
                verifier.zeroize();
            }
            WayText::Device { code, .. } => code.zeroize(),
        }
    }
}

impl Kept {
    /// As text: letters, digits, `.`, `-` and `_`.
    pub fn write(&self) -> Secret {
        let (way, length) = match &self.way {
            Way::Browser { state, verifier, redirect } => {
                let [state, verifier] = [state, verifier].map(|secret| secret.expose().to_owned());
                let length = state.len() + verifier.len() + redirect.len();
                (WayText::Browser { state, verifier, redirect: redirect.clone() }, length)
            }
            Way::Device { code, interval, next, until } => {
                let code = code.expose().to_owned();
                let length = code.len();
                let interval = interval.as_millis() as u64;
                (WayText::Device { code, interval, next: millis(*next), until: millis(*until) }, length)
            }
        };
        let text = Text { account: self.account.clone(), way };
        // Enough for all of it, escapes too: a buffer that grows leaves copies behind that nobody wipes.
        let mut json = Zeroizing::new(Vec::with_capacity(512 + self.account.len() + 6 * length));
        // Nothing in it can fail to be written.
        let _ = serde_json::to_writer(&mut *json, &text);
        let mut out = String::with_capacity(PREFIX.len() + json.len() * 4 / 3 + 4);
        out += PREFIX;
        BASE64_URL_SAFE_NO_PAD.encode_string(&*json, &mut out);
        Secret::new(out)
    }

    /// Reads it, for `account`.
    ///
    /// # Errors
    /// `Invalid` for what is none, or was begun for another account; what is in it is not repeated.
    pub fn read(text: &str, account: &str) -> Result<Kept> {
        let bad = |what: &str| Err(Error::new(ErrorKind::Invalid, what.to_owned()));
        let body = text.trim().strip_prefix(PREFIX).filter(|body| body.len() <= MAX_BYTES);
        let json = body.and_then(|body| BASE64_URL_SAFE_NO_PAD.decode(body).ok()).map(Zeroizing::new);
        let Some(mut text) = json.and_then(|json| serde_json::from_slice::<Text>(&json).ok()) else {
            return bad(
                "what was kept of the sign-in is not what it began with (`kept`), or is cut off: begin again",
            );
        };
        if text.account != account {
            return bad(
                "the sign-in was begun with other options: program (oauth_client_id), issuer, scope and user have to be the same; \
                 begin again",
            );
        }
        let secret = |text: &mut String| Secret::new(std::mem::take(text));
        let at = |millis: u64| UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH);
        let way = match &mut text.way {
            // Without a state every query would be that of this sign-in.
            WayText::Browser { state, .. } if state.is_empty() => {
                return bad("what was kept of the sign-in has no state: begin again");
            }
            WayText::Browser { state, verifier, redirect } => Way::Browser {
                state: secret(state),
                verifier: secret(verifier),
                redirect: std::mem::take(redirect),
            },
            WayText::Device { code, interval, next, until } => Way::Device {
                code: secret(code),
                interval: Duration::from_millis(*interval),
                next: at(*next),
                until: at(*until),
            },
        };
        Ok(Kept { account: std::mem::take(&mut text.account), way })
    }
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [Kept; 2] {
        let browser = Way::Browser {
            state: Secret::new("hunter2-state"),
            verifier: Secret::new("hunter2-verifier\u{1}"),
            redirect: "https://desk.example.test/ä?a=\"b\"".into(),
        };
        let device = Way::Device {
            code: Secret::new("hunter2-code"),
            interval: Duration::from_secs(5),
            next: UNIX_EPOCH + Duration::from_millis(1_234_567),
            until: UNIX_EPOCH + Duration::from_millis(5_000_000),
        };
        [browser, device].map(|way| Kept { account: "acc".into(), way })
    }

    // A session is restored by others, cut by a cookie's limit, or forged: that must be told, and not take a web process down.
    #[test]
    fn what_was_kept_comes_back_whole_or_is_refused() {
        for kept in both() {
            let text = kept.write();
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            assert!(text.expose().chars().all(plain), "it goes through sessions, forms and C as it is");
            let read = Kept::read(text.expose(), "acc").unwrap();
            match (kept.way, read.way) {
                (
                    Way::Browser { state, verifier, redirect },
                    Way::Browser { state: s, verifier: v, redirect: r },
                ) => {
                    assert_eq!((state, verifier, redirect), (s, v, r));
                }
                (
                    Way::Device { code, interval, next, until },
                    Way::Device { code: c, interval: i, next: n, until: u },
                ) => {
                    assert_eq!((code, interval, next, until), (c, i, n, u));
                }
                _ => panic!("another way"),
            }
            let other = Kept::read(text.expose(), "other").err().unwrap();
            assert!(other.to_string().contains("other options"), "{other}");
            for end in 0..text.expose().len() {
                let e = Kept::read(&text.expose()[..end], "acc").err().unwrap();
                assert!(e.kind() == ErrorKind::Invalid && !e.to_string().contains("hunter2"), "{e}");
            }
        }
        let big = format!("{PREFIX}{}", "A".repeat(MAX_BYTES + 1));
        for text in ["", "x", PREFIX, &big, "ewsn-sign-in-2.e30", "ewsn-sign-in-1.e30"] {
            assert!(Kept::read(text, "acc").is_err(), "{text:.40}");
        }
        let stateless = Kept {
            account: "acc".into(),
            way: Way::Browser { state: Secret::new(""), verifier: Secret::new("v"), redirect: "r".into() },
        };
        assert!(Kept::read(stateless.write().expose(), "acc").is_err(), "any query would do");
    }

    // No bytes whatever may panic, or be taken for a sign-in of years.
    #[test]
    fn random_bytes_do_no_harm() {
        let mut random = fastrand::Rng::with_seed(11);
        for kept in both() {
            let whole = kept.write();
            for _ in 0..2000 {
                let mut bytes = whole.expose().as_bytes().to_vec();
                let at = random.usize(PREFIX.len()..bytes.len());
                bytes[at] = random.u8(32..127);
                let _ = Kept::read(std::str::from_utf8(&bytes).unwrap(), "acc");
            }
        }
        let far = br#"{"account":"acc","way":{"Device":{"code":"c","interval":18446744073709551615,"next":18446744073709551615,"until":18446744073709551615}}}"#;
        let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(far));
        assert!(Kept::read(&text, "acc").is_ok());
    }
}
