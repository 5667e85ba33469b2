//! What a token endpoint answers (RFC 6749, sections 5.1 and 5.2), and what is to be done about it.

use std::time::Duration;

use serde::Deserialize;

use crate::auth::{Secret, is_token};
use crate::net::cut;
use crate::{Error, ErrorKind};

/// No answer is longer. A token of a user with many groups has some 10 KiB.
pub const MAX_BODY: usize = 128 * 1024;
/// Nor is a token.
const MAX_TOKEN: usize = 64 * 1024;
/// How long a token is taken to be good where the answer does not say so. One that ends before is renewed when the server refuses it.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(3600);
/// No longer life is believed: with continuous access evaluation it is 28 hours.
const MAX_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// No wait that an endpoint asks for is obeyed longer.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Tokens that were given.
#[derive(Clone, Debug)]
pub struct Granted {
    /// For the server.
    pub access_token: Secret,
    /// How long it is good.
    pub life: Duration,
    /// For the next renewal; without one the old one stays.
    pub refresh_token: Option<Secret>,
}

/// Why none were given.
#[derive(Debug)]
pub enum Denied {
    /// The user has not signed in yet (a device).
    Pending,
    /// The same, and we ask too often.
    SlowDown,
    /// Not now: ask again after a wait, which may be said.
    Later {
        /// What came.
        error: Error,
        /// What the endpoint asks to wait.
        after: Option<Duration>,
        /// A refresh token that came all the same: the one that was sent may be spent.
        refresh_token: Option<Secret>,
    },
    /// The user or the administrator must do something: nothing gets better by asking again.
    Act(Error),
    /// The same, but what was sent may be taken when that is done: a consent is missing, or a policy stands in the way.
    Policy(Error),
}

impl Denied {
    /// The error in it.
    pub fn error(self) -> Error {
        match self {
            Denied::Later { error, after, .. } => error.with_retry_after(after),
            Denied::Act(error) | Denied::Policy(error) => error,
            Denied::Pending | Denied::SlowDown => {
                Error::new(ErrorKind::State, "the user has not signed in yet")
                    .with_code("authorization_pending")
            }
        }
    }

    pub(super) fn later(text: String, after: Option<Duration>) -> Denied {
        // Nothing was sent to the mail server, which is what callers ask of this kind.
        let error = Error::new(ErrorKind::Connect, text);
        Denied::Later { error, after: after.map(|after| after.min(MAX_WAIT)), refresh_token: None }
    }
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow, default)]
    access_token: Option<Text<'a>>,
    #[serde(borrow, default)]
    token_type: Option<Text<'a>>,
    #[serde(default)]
    expires_in: Option<Number>,
    #[serde(borrow, default)]
    refresh_token: Option<Text<'a>>,
}

/// A text of the body, which is wiped with it; a copy where it has escapes, which is wiped too.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let std::borrow::Cow::Owned(text) = &mut self.0 {
            zeroize::Zeroize::zeroize(text);
        }
    }
}

/// Seconds: a number, or its digits in quotes, as older endpoints write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Broken(f64),
    Text(String),
}

impl Number {
    fn seconds(&self) -> Option<u64> {
        match self {
            Number::Whole(n) => u64::try_from(*n).ok(),
            Number::Broken(n) if n.is_finite() && *n >= 0.0 => Some(*n as u64),
            Number::Broken(_) => None,
            Number::Text(text) => text.trim().parse().ok(),
        }
    }
}

#[derive(Deserialize)]
struct Refused<'a> {
    #[serde(borrow)]
    error: Text<'a>,
    #[serde(borrow, default)]
    error_description: Option<Text<'a>>,
    #[serde(default)]
    error_codes: Vec<u64>,
}

/// Reads an answer. `redact` takes our own secrets out of what the endpoint says.
pub fn read(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    redact: &dyn Fn(&str) -> String,
) -> Result<Granted, Denied> {
    if status != 200 {
        return Err(denied(status, body, retry_after, redact));
    }
    // serde_json's own text is not told: it may quote a token.
    let told: Option<Told<'_>> =
        (body.len() <= MAX_BODY).then(|| serde_json::from_slice(body).ok()).flatten();
    let Some(told) = told else {
        let text =
            format!("the answer is no JSON of a token endpoint ({}): is the address right?", kind_of(body));
        return Err(Denied::later(text, retry_after));
    };
    let token = |text: &Text<'_>| {
        let good = text.0.len() <= MAX_TOKEN && is_token(&text.0);
        // Exactly as long: no copies are left behind.
        good.then(|| Secret::new(String::from(&*text.0)))
    };
    let refresh_token = told.refresh_token.as_ref().and_then(token);
    let nonsense = |what: String| {
        let error = Error::new(ErrorKind::Connect, format!("the token endpoint's answer {what}"));
        Err(Denied::Later { error, after: retry_after, refresh_token: refresh_token.clone() })
    };
    let Some(access_token) = told.access_token.as_ref().and_then(token) else {
        if let Ok(Refused { .. }) = serde_json::from_slice(body) {
            // Some say no with a 200.
            return Err(denied(400, body, retry_after, redact));
        }
        return nonsense("has no access token that could be one".to_owned());
    };
    let token_type = told.token_type.as_ref().map_or("", |text| &text.0);
    if !token_type.eq_ignore_ascii_case("bearer") {
        return nonsense(format!(
            "has a token of type {:?}, and Bearer is wanted",
            cut(&redact(token_type), 30)
        ));
    }
    let life = match &told.expires_in {
        None => DEFAULT_LIFE,
        Some(number) => match number.seconds() {
            Some(seconds @ 1..) => Duration::from_secs(seconds).min(MAX_LIFE),
            _ => return nonsense("has a token that is good for no time (expires_in)".to_owned()),
        },
    };
    Ok(Granted { access_token, life, refresh_token })
}

/// What an answer other than 200 means.
pub(super) fn denied(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    redact: &dyn Fn(&str) -> String,
) -> Denied {
    let refused: Option<Refused<'_>> =
        (body.len() <= MAX_BODY).then(|| serde_json::from_slice(body).ok()).flatten();
    let Some(refused) = refused.filter(|refused| !refused.error.0.is_empty()) else {
        let what = match status {
            300..=399 => "a redirect, which is not followed: is the address right?".to_owned(),
            429 => "it is asked too often".to_owned(),
            500..=599 => "it is out of order, or a gateway before it".to_owned(),
            _ => format!("no answer of a token endpoint ({}): is the address right?", kind_of(body)),
        };
        return Denied::later(format!("HTTP {status}: {what}"), retry_after);
    };
    let code = cut(&redact(&refused.error.0), 60);
    let description = redact(first_line(refused.error_description.as_ref().map_or("", |text| &text.0)));
    let said = if description.is_empty() { String::new() } else { format!(": {}", cut(&description, 300)) };
    match code.as_str() {
        "authorization_pending" => return Denied::Pending,
        "slow_down" => return Denied::SlowDown,
        _ => {}
    }
    // 50196: we are taken for a loop; 90033: "a transient error has occurred".
    let passes = refused.error_codes.iter().any(|n| matches!(n, 50_196 | 90_033));
    if passes
        || status == 429
        || status >= 500
        || matches!(&*code, "temporarily_unavailable" | "server_error")
    {
        return Denied::later(format!("HTTP {status}: {code}{said}"), retry_after);
    }
    let text = format!("{code}{said}; {}", advice(&code, &refused.error_codes));
    let is_policy = refused.error_codes.iter().any(|n| CONSENT.contains(n) || POLICY.contains(n));
    let error = Error::new(ErrorKind::Auth, text).with_code(code);
    if is_policy { Denied::Policy(error) } else { Denied::Act(error) }
}

/// Entra's numbers for a consent that is missing.
const CONSENT: [u64; 3] = [65_001, 65_004, 90_094];
/// And for a policy of the organisation's.
const POLICY: [u64; 4] = [50_076, 50_079, 50_158, 53_003];

/// What is to be done, by the code, and by Entra's numbers where they say more.
fn advice(code: &str, numbers: &[u64]) -> &'static str {
    let any = |wanted: &[u64]| numbers.iter().any(|n| wanted.contains(n));
    if any(&[65_004]) || matches!(code, "access_denied" | "authorization_declined") {
        return "the user or the administrator declined: begin the sign-in again";
    }
    if any(&CONSENT) {
        return "the user or the administrator has to consent to what the program asks for";
    }
    if any(&[7_000_215, 7_000_222]) {
        return "the client secret is wrong or has expired: set a new one (oauth_client_secret)";
    }
    if any(&[700_027, 700_023]) {
        return "the issuer does not know the certificate, or it has expired: register it (oauth_client_cert)";
    }
    if any(&[90_002, 900_021, 900_023]) {
        return "there is no such tenant: check oauth_tenant";
    }
    if any(&[700_016]) {
        return "the tenant does not know the program: check oauth_client_id and oauth_tenant";
    }
    if any(&POLICY) {
        return "the user has to sign in anew, as the organisation's policy wants it (`ewsnotify login`)";
    }
    match code {
        "invalid_grant" | "interaction_required" | "login_required" => {
            "the user has to sign in anew: by `ewsnotify login` or the program's own page; or set a new oauth_refresh_token"
        }
        "consent_required" => "the user or the administrator has to consent to what the program asks for",
        "invalid_client" => {
            "the issuer does not take the program's proof: check oauth_client_id, and the secret or the certificate"
        }
        "unauthorized_client" | "unsupported_grant_type" => {
            "the program may not sign in this way: the administrator has to allow it where it is registered"
        }
        "invalid_scope" | "invalid_resource" | "invalid_target" => "check oauth_scope",
        "expired_token" | "code_expired" => "the code is too old: begin the sign-in again",
        _ => "the administrator has to look at how the program is registered with the issuer",
    }
}

/// Entra's descriptions go on with trace ids and times, in lines of their own or behind.
pub(super) fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.find("Trace ID:").map_or(line, |at| &line[..at]).trim()
}

/// What came instead of JSON, without a word of it: it may be anybody's.
fn kind_of(body: &[u8]) -> &'static str {
    match body.trim_ascii_start().first() {
        None => "nothing",
        Some(b'<') => "a page",
        Some(b'{') => "JSON of another sort, or broken off",
        Some(_) => "a text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &str) -> Result<Granted, Denied> {
        read(200, body.as_bytes(), None, &|t| t.to_owned())
    }

    fn no(status: u16, body: &str) -> Denied {
        read(status, body.as_bytes(), None, &|t| t.replace("hunter2", "***")).unwrap_err()
    }

    // What endpoints write in other forms must not end the watch after an hour, or never renew.
    #[test]
    fn good_answers_are_read() {
        let full = ok(
            r#"{"token_type":"Bearer","expires_in":3599,"access_token":"aT.x-y_z","refresh_token":"rT","foo":[1]}"#,
        );
        let full = full.unwrap();
        assert_eq!((full.access_token.expose(), full.life.as_secs()), ("aT.x-y_z", 3599));
        assert_eq!(full.refresh_token.unwrap().expose(), "rT");
        let old = ok(r#"{"token_type":"bearer","expires_in":"3600","access_token":"a\/b"}"#).unwrap();
        assert_eq!((old.access_token.expose(), old.life.as_secs()), ("a/b", 3600));
        assert!(old.refresh_token.is_none());
        let unsaid = ok(r#"{"token_type":"Bearer","access_token":"a"}"#).unwrap();
        assert_eq!(unsaid.life, DEFAULT_LIFE);
        let ages = ok(r#"{"token_type":"Bearer","access_token":"a","expires_in":99999999999}"#).unwrap();
        assert_eq!(ages.life, MAX_LIFE);
    }

    // A portal's page taken for a refusal would ask the user to sign in; taken for a token it would be sent to the server.
    #[test]
    fn nonsense_is_tried_again_and_never_used() {
        for body in [
            "",
            "<html>",
            "{",
            "[]",
            "null",
            "{}",
            "x",
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":7,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","token_type":"Bearer","expires_in":0}"#,
            r#"{"access_token":"a","token_type":"Bearer","expires_in":-5}"#,
            r#"{"access_token":"a","token_type":"Bearer","expires_in":"soon"}"#,
        ] {
            let Err(Denied::Later { error, .. }) = ok(body) else { panic!("{body}") };
            assert!(error.is_retryable(), "{body}");
        }
        let long = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "a".repeat(MAX_BODY));
        assert!(matches!(ok(&long), Err(Denied::Later { .. })));
        for status in [301, 404, 429, 500, 502, 503] {
            assert!(matches!(no(status, "<html>busy</html>"), Denied::Later { .. }), "{status}");
        }
        let spent = ok(r#"{"token_type":"pop","access_token":"a","refresh_token":"newest"}"#);
        let Err(Denied::Later { refresh_token: Some(newest), .. }) = spent else {
            panic!("the newest is lost")
        };
        assert_eq!(newest.expose(), "newest");
    }

    // Who must act, and what to do, is all that an administrator at night wants to know; the rest is for the log's reader never.
    #[test]
    fn refusals_say_what_to_do_and_show_no_secret() {
        let body = r#"{"error":"invalid_grant","error_description":"AADSTS70008: The refresh token hunter2 has expired.\r\nTrace ID: 1\r\nTimestamp: x","error_codes":[70008]}"#;
        let Denied::Act(e) = no(400, body) else { panic!() };
        assert_eq!((e.kind(), e.code()), (ErrorKind::Auth, Some("invalid_grant")));
        assert_eq!(
            e.to_string(),
            "invalid_grant: AADSTS70008: The refresh token *** has expired.; the user has to sign in anew: by `ewsnotify login` \
             or the program's own page; or set a new oauth_refresh_token"
        );
        for (error, numbers, wanted) in [
            ("invalid_client", "[7000222]", "oauth_client_secret"),
            ("invalid_client", "[700027]", "oauth_client_cert"),
            ("invalid_grant", "[65001]", "consent"),
            ("authorization_declined", "[65004]", "declined: begin the sign-in again"),
            ("access_denied", "[]", "declined: begin the sign-in again"),
            ("interaction_required", "[50076]", "login"),
            ("consent_required", "[]", "consent"),
            ("unauthorized_client", "[700016]", "oauth_client_id"),
            ("invalid_scope", "[]", "oauth_scope"),
            ("made_up", "[]", "administrator"),
        ] {
            let body = format!(r#"{{"error":"{error}","error_codes":{numbers}}}"#);
            let (Denied::Act(e) | Denied::Policy(e)) = no(400, &body) else { panic!("{error}") };
            assert!(e.to_string().contains(wanted) && e.code() == Some(error), "{e}");
        }
        assert!(matches!(no(400, r#"{"error":"authorization_pending"}"#), Denied::Pending));
        assert!(matches!(no(400, r#"{"error":"slow_down"}"#), Denied::SlowDown));
        assert!(matches!(no(503, r#"{"error":"server_error"}"#), Denied::Later { .. }));
        assert!(matches!(no(400, r#"{"error":"temporarily_unavailable"}"#), Denied::Later { .. }));
        assert!(matches!(
            no(400, r#"{"error":"invalid_grant","error_codes":[90033]}"#),
            Denied::Later { .. }
        ));
        assert!(matches!(ok(r#"{"error":"invalid_grant"}"#), Err(Denied::Act(_))));
        let evil =
            no(400, "{\"error\":\"a\\u001b[2J\",\"error_description\":\"\\u0007\"}").error().to_string();
        assert!(!evil.contains('\u{1b}') && !evil.contains('\u{7}'), "{evil}");
    }

    // Any bytes: an answer, no panic.
    #[test]
    fn random_answers_never_panic() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            "\"access_token\"",
            ":",
            ",",
            "\"error\"",
            "\"a\"",
            "7",
            "-1e9",
            "null",
            "\"expires_in\"",
            "\"token_type\"",
            "\"Bearer\"",
            "\\u00",
            "\"",
            "true",
            "\u{e9}",
            " ",
        ];
        for _ in 0..20_000 {
            let body: String =
                (0..random.usize(..24)).map(|_| pieces[random.usize(..pieces.len())]).collect();
            let status = [200, 400, 401, 500, 302][random.usize(..5)];
            let _ = read(status, body.as_bytes(), None, &|t| t.to_owned());
        }
    }
}
