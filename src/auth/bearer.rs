//! Bearer tokens (RFC 6750): asked for before each request, and once more when a server has refused one.

use std::fmt::Debug;
use std::sync::Arc;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};

use super::offers::{Element, elements};
use super::{Answer, Auth, Context, Handshake, Secret, in_the_clear};
use crate::net::{Endpoint, cut};
use crate::{Error, ErrorKind, Result};

/// Where the tokens of an account come from.
pub trait Tokens: Send + Sync + Debug {
    /// A token that is good for now. It may block while one is fetched, up to `cx.until` and not beyond `cx.cancel`.
    fn token(&self, cx: &Context<'_>) -> Result<Secret>;

    /// A server has not taken this token; `claims` is its claims challenge, the JSON that a token endpoint takes as parameter `claims`.
    /// Told at most once a request.
    fn refused(&self, token: &Secret, claims: Option<&str>);

    /// Whose they are, for error texts.
    fn who(&self) -> String;

    /// What it has beside tokens that must not be shown: see [`Auth::secrets`].
    fn secrets(&self) -> Vec<Secret> {
        Vec::new()
    }
}

/// No claims challenge is longer.
const MAX_CLAIMS: usize = 4096;

/// Signs in with tokens.
#[derive(Debug)]
pub struct Bearer(Arc<dyn Tokens>);

impl Bearer {
    /// All connections of an account ask the same source.
    pub fn new(tokens: Arc<dyn Tokens>) -> Bearer {
        Bearer(tokens)
    }
}

impl Auth for Bearer {
    fn check(&self, endpoint: &Endpoint, allow_plaintext: bool) -> Result<()> {
        in_the_clear(endpoint, allow_plaintext, "the token")
    }

    fn start(&self) -> Box<dyn Handshake> {
        Box::new(Turn { tokens: self.0.clone(), sent: None, renewed: false, said: None })
    }

    fn ways(&self) -> &'static [&'static str] {
        &["Bearer"]
    }

    fn who(&self) -> String {
        self.0.who()
    }

    fn secrets(&self) -> Vec<Secret> {
        self.0.secrets()
    }
}

/// Whether a text can be a token (RFC 6750 section 2.1, and a little more); anything else would bring headers of its own along.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

struct Turn {
    tokens: Arc<dyn Tokens>,
    sent: Option<Secret>,
    /// Whether this request has had a second token already.
    renewed: bool,
    /// The server's word for what is wrong with the last one.
    said: Option<String>,
}

impl Turn {
    fn header(&mut self, cx: &Context<'_>) -> Result<Secret> {
        let token = self.tokens.token(cx)?;
        let text = token.expose();
        if !is_token(text) {
            let text = format!("the token of {} is none: it must be letters, digits and signs", self.who());
            return Err(Error::new(ErrorKind::Auth, text));
        }
        let mut header = String::with_capacity("Bearer ".len() + text.len());
        header.push_str("Bearer ");
        header.push_str(text);
        self.sent = Some(token);
        Ok(Secret::new(header))
    }

    fn who(&self) -> String {
        self.tokens.who()
    }
}

impl Handshake for Turn {
    fn first(&mut self, cx: &Context<'_>) -> Result<Option<Secret>> {
        self.renewed = false;
        self.header(cx).map(Some)
    }

    fn challenged(&mut self, challenges: &[String], cx: &Context<'_>) -> Result<Answer> {
        let Some(sent) = self.sent.take().filter(|_| !self.renewed) else { return Ok(Answer::Refused) };
        let Some(challenge) = Challenge::read(challenges) else {
            return Ok(Answer::Refused);
        };
        self.said.clone_from(&challenge.error);
        if !challenge.wants_another() {
            return Ok(Answer::Refused);
        }
        self.renewed = true;
        self.tokens.refused(&sent, challenge.claims.as_deref());
        let header = self.header(cx)?;
        match self.sent.as_ref() == Some(&sent) {
            true => Ok(Answer::Refused),
            false => Ok(Answer::Again(header)),
        }
    }

    fn refusal(&self) -> Option<String> {
        let said = self.said.as_deref().map(|said| format!(" ({})", cut(said, 60))).unwrap_or_default();
        let what = match self.said.as_deref() {
            Some("insufficient_scope") => {
                "it has no right to EWS: EWS.AccessAsUser.All for a user, full_access_as_app for a program of its own"
            }
            _ => {
                "it must be for this server (its audience: oauth_scope), in the name of a user who has a mailbox here, or of a program that \
                 may act for one (access=impersonate), and not have expired by this server's clock"
            }
        };
        Some(format!("the token was not taken{said}: {what}"))
    }
}

/// What a server says of a token that it does not take.
#[derive(Debug, Default, PartialEq)]
struct Challenge {
    error: Option<String>,
    /// As JSON.
    claims: Option<String>,
}

impl Challenge {
    /// Reads `WWW-Authenticate` values; `None` if all are of other ways to sign in. One value may have several ways.
    fn read(values: &[String]) -> Option<Challenge> {
        let (mut found, mut ours) = (None, false);
        for element in elements(values) {
            let parameter = match element {
                Element::Parameter(parameter) => parameter,
                Element::Way(name, rest) => {
                    ours = name.eq_ignore_ascii_case("bearer");
                    rest
                }
            };
            if !ours {
                continue;
            }
            let challenge: &mut Challenge = found.get_or_insert_default();
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim().trim_matches('"').to_owned();
            match name.trim().to_ascii_lowercase().as_str() {
                "error" => challenge.error = Some(value),
                "claims" => challenge.claims = decoded(&value),
                _ => {}
            }
        }
        found
    }

    /// Whether another token may be taken: this one has expired, was revoked or lacks a claim. Servers that say nothing may
    /// mean that.
    fn wants_another(&self) -> bool {
        matches!(self.error.as_deref(), None | Some("invalid_token" | "insufficient_claims"))
            || self.claims.is_some()
    }
}

/// A claims challenge comes as JSON in base64 (Microsoft identity platform, "Claims challenges, claims requests, and client
/// capabilities"). What is something else is none: a token endpoint would refuse it, and the account with it.
fn decoded(claims: &str) -> Option<String> {
    const ANY: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |alphabet| GeneralPurpose::new(alphabet, ANY).decode(claims);
    let bytes = decode(&alphabet::STANDARD).or_else(|_| decode(&alphabet::URL_SAFE)).ok()?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_CLAIMS)?;
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok().then_some(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::net::Cancel;

    #[derive(Debug, Default)]
    struct Source {
        /// The tokens to give, the last one again and again.
        tokens: Mutex<Vec<&'static str>>,
        refused: Mutex<Vec<(String, Option<String>)>>,
    }

    impl Tokens for Source {
        fn token(&self, _: &Context<'_>) -> Result<Secret> {
            let mut tokens = self.tokens.lock().unwrap();
            let next = if tokens.len() > 1 { tokens.remove(0) } else { tokens[0] };
            Ok(Secret::new(next))
        }

        fn refused(&self, token: &Secret, claims: Option<&str>) {
            self.refused.lock().unwrap().push((token.expose().to_owned(), claims.map(str::to_owned)));
        }

        fn who(&self) -> String {
            "account ada".into()
        }
    }

    fn run(tokens: &[&'static str], challenges: &[&str]) -> (Arc<Source>, Vec<String>) {
        let source = Arc::new(Source { tokens: Mutex::new(tokens.to_vec()), ..Source::default() });
        let endpoint = Endpoint::parse("mail.example.test").unwrap();
        let cancel = Cancel::new();
        let cx = Context { endpoint: &endpoint, certificate: None, cancel: &cancel, until: Instant::now() };
        let mut turn = Bearer::new(source.clone()).start();
        let mut sent = vec![turn.first(&cx).unwrap().unwrap().expose().to_owned()];
        for challenge in challenges {
            match turn.challenged(&[(*challenge).to_owned()], &cx).unwrap() {
                Answer::Again(header) => sent.push(header.expose().to_owned()),
                Answer::Refused => sent.push("refused".to_owned()),
            }
        }
        (source, sent)
    }

    // A watch would stop after an hour, when its token has expired; or ask for tokens for ever where the account has no right.
    #[test]
    fn a_refused_token_is_renewed_once_a_request() {
        let expired = r#"Bearer client_id="00000002", error="invalid_token""#;
        let (source, sent) = run(&["a", "b", "c"], &[expired, expired]);
        assert_eq!(sent, ["Bearer a", "Bearer b", "refused"]);
        assert_eq!(*source.refused.lock().unwrap(), [("a".to_owned(), None)]);
        assert_eq!(run(&["a"], &[expired]).1, ["Bearer a", "refused"], "there is no other");
        assert_eq!(run(&["a", "b"], &["Bearer"]).1, ["Bearer a", "Bearer b"]);
        for other in [r#"Basic realm="x""#, r#"Bearer error="insufficient_scope""#, "NTLM"] {
            assert_eq!(run(&["a", "b"], &[other]).1, ["Bearer a", "refused"], "{other}");
        }
    }

    // Who is told to check a password, and has none, looks in the wrong place.
    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let refusal = |challenges: &[&str]| {
            let source = Source { tokens: Mutex::new(vec!["a", "b"]), ..Source::default() };
            let endpoint = Endpoint::parse("mail.example.test").unwrap();
            let cancel = Cancel::new();
            let cx =
                Context { endpoint: &endpoint, certificate: None, cancel: &cancel, until: Instant::now() };
            let mut turn = Bearer::new(Arc::new(source)).start();
            turn.first(&cx).unwrap();
            for challenge in challenges {
                let _ = turn.challenged(&[(*challenge).to_owned()], &cx).unwrap();
            }
            turn.refusal().unwrap()
        };
        let invalid = r#"Bearer error="invalid_token""#;
        let said = refusal(&[invalid, invalid]);
        assert!(said.contains("not taken (invalid_token): it must be for this server"), "{said}");
        let said = refusal(&[r#"Bearer error="insufficient_scope""#]);
        assert!(said.contains("full_access_as_app") && !said.contains("audience"), "{said}");
        assert!(refusal(&["Negotiate"]).contains("not taken: it must"));
    }

    // A proxy joins headers: a token that was revoked would not be renewed, and the watch would end.
    #[test]
    fn a_challenge_among_others_is_found() {
        let joined = r#"Negotiate, NTLM TlRM==, Basic realm="Bearer error=x", bearer error="invalid_token", claims="eyJhIjoxfQ==""#;
        let (source, sent) = run(&["a", "b"], &[joined]);
        assert_eq!(sent, ["Bearer a", "Bearer b"]);
        assert_eq!(source.refused.lock().unwrap()[0].1.as_deref(), Some(r#"{"a":1}"#));
        let others =
            r#"Basic error="invalid_token", Bearer error="insufficient_scope", NTLM error="invalid_token""#;
        assert_eq!(run(&["a", "b"], &[others]).1, ["Bearer a", "refused"]);
    }

    // Without the claims, the next token would be as bad as the last: conditional access would lock the account out.
    #[test]
    fn a_claims_challenge_is_handed_on() {
        for claims in ["eyJhIjoxfQ==", "eyJhIjoxfQ"] {
            let challenge = format!(
                r#"Bearer realm="", authorization_uri="https://login.test/x=y, z", error=insufficient_claims, claims="{claims}""#
            );
            let (source, sent) = run(&["a", "b"], &[&challenge]);
            assert_eq!(sent, ["Bearer a", "Bearer b"]);
            assert_eq!(*source.refused.lock().unwrap(), [("a".to_owned(), Some(r#"{"a":1}"#.to_owned()))]);
        }
    }

    // What is no claims challenge would be sent to the issuer, which refuses it: the account would be taken for one that has to sign in.
    #[test]
    fn claims_that_are_no_json_are_dropped_and_another_token_is_asked_for() {
        for bad in ["%%%", "eyJh=x", &BASE64_STANDARD.encode("[1]"), &BASE64_STANDARD.encode(large())] {
            let challenge = format!(r#"Bearer error="insufficient_claims", claims="{bad}""#);
            let (source, sent) = run(&["a", "b"], &[&challenge]);
            assert_eq!(sent, ["Bearer a", "Bearer b"], "{bad}");
            assert_eq!(*source.refused.lock().unwrap(), [("a".to_owned(), None)], "{bad}");
        }
    }

    fn large() -> String {
        format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_CLAIMS))
    }

    // Whatever a server sends, it must come to an end.
    #[test]
    fn broken_challenges_are_read_as_far_as_they_go() {
        for broken in [
            "",
            "Bearer =",
            r#"Bearer error=""#,
            r#"bearer error="invalid_token"#,
            "Bearer ,,,=,=\"\"\"",
            "Bearer a=b=c",
        ] {
            let _ = Challenge::read(&[broken.to_owned()]);
        }
        assert_eq!(
            Challenge::read(&[r#"bearer error="invalid_token"#.to_owned()]).unwrap().error.as_deref(),
            Some("invalid_token")
        );
        assert_eq!(Challenge::read(&["Negotiate".to_owned()]), None);
    }

    // A token with a line end in it would bring a header of its own.
    #[test]
    fn what_is_no_token_is_not_sent() {
        for bad in ["", "a b", "a\r\nX: y", "ä"] {
            let source = Arc::new(Source { tokens: Mutex::new(vec![bad]), ..Source::default() });
            let endpoint = Endpoint::parse("mail.example.test").unwrap();
            let cancel = Cancel::new();
            let cx =
                Context { endpoint: &endpoint, certificate: None, cancel: &cancel, until: Instant::now() };
            let e = Bearer::new(source).start().first(&cx).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Auth);
        }
    }
}
