//! Basic: user and password in every request (RFC 7617), so only over TLS, to this machine, or where the user insists.

use base64::prelude::{BASE64_STANDARD, Engine};
use zeroize::Zeroizing;

use super::{Answer, Auth, Context, Handshake, Secret, in_the_clear};
use crate::net::{Endpoint, cut};
use crate::{Error, ErrorKind, Result};

/// A user name and a password.
#[derive(Clone, Debug, PartialEq)]
pub struct Basic {
    user: String,
    password: Secret,
    header: Secret,
}

impl Basic {
    /// Both go out as UTF-8. A user name cannot hold a colon: the server takes what follows for the password.
    pub fn new(user: impl Into<String>, password: Secret) -> Result<Basic> {
        let user = user.into();
        let bad = |what: &str| {
            Err(Error::new(
                ErrorKind::Invalid,
                format!("the user name {what}: give the name that the server knows"),
            ))
        };
        if user.is_empty() {
            return bad("is empty");
        }
        if user.contains(':') {
            return bad("has a ':' in it, which Basic cannot send");
        }
        if user.chars().any(char::is_control) {
            return bad("has a control character in it");
        }
        if password.expose().chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the password has a control character in it (a line end, perhaps): Basic cannot send it",
            ));
        }
        let header = header(&user, &password);
        Ok(Basic { user, password, header })
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> &str {
        self.password.expose()
    }

    /// The value of the header that signs in.
    pub(crate) fn header(&self) -> &Secret {
        &self.header
    }
}

impl Auth for Basic {
    fn check(&self, endpoint: &Endpoint, allow_plaintext: bool) -> Result<()> {
        in_the_clear(endpoint, allow_plaintext, "the password")
    }

    fn start(&self) -> Box<dyn Handshake> {
        Box::new(Unasked(self.header.clone()))
    }

    fn ways(&self) -> &'static [&'static str] {
        &["Basic"]
    }

    fn who(&self) -> String {
        format!("user {}", cut(&self.user, 100))
    }

    fn secrets(&self) -> Vec<Secret> {
        vec![self.password.clone(), self.header.clone()]
    }
}

/// Every request has the header at once: the server's question would only cost a turn.
struct Unasked(Secret);

impl Handshake for Unasked {
    fn first(&mut self, _: &Context<'_>) -> Result<Option<Secret>> {
        Ok(Some(self.0.clone()))
    }

    fn challenged(&mut self, _: &[String], _: &Context<'_>) -> Result<Answer> {
        // The same again would get the same answer, and count as a second wrong password.
        Ok(Answer::Refused)
    }
}

fn header(user: &str, password: &Secret) -> Secret {
    // Exact capacities: a string that grows leaves copies behind that nobody wipes.
    let mut plain = Zeroizing::new(String::with_capacity(user.len() + 1 + password.expose().len()));
    plain.push_str(user);
    plain.push(':');
    plain.push_str(password.expose());
    let mut value = String::with_capacity("Basic ".len() + plain.len().div_ceil(3) * 4);
    value.push_str("Basic ");
    BASE64_STANDARD.encode_string(plain.as_bytes(), &mut value);
    Secret::new(value)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::auth::Secrets;
    use crate::net::Cancel;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }

    fn sent(user: &str, password: &str) -> String {
        let auth = Basic::new(user, Secret::new(password)).unwrap();
        let endpoint = endpoint("mail.example.test");
        let (cancel, until) = (Cancel::new(), Instant::now());
        let cx = Context { endpoint: &endpoint, certificate: None, cancel: &cancel, until };
        auth.start().first(&cx).unwrap().unwrap().expose().to_owned()
    }

    // A user with an umlaut could not sign in.
    #[test]
    fn the_header_is_utf_8_in_base64() {
        assert_eq!(sent("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(sent("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
        assert_eq!(sent("a", ":"), "Basic YTo6");
    }

    // "ada:x" with password "y" would sign in as "ada" with password "x:y": wrong passwords until the account is locked.
    #[test]
    fn names_that_basic_cannot_send_are_refused() {
        for user in ["a:b", "", "a\nb"] {
            let e = Basic::new(user, Secret::new("hunter2")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Invalid);
        }
        let e = Basic::new("ada", Secret::new("hunter2\n")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(!e.to_string().contains("hunter2"), "{e}");
    }

    // A password would cross the network in clear text without anybody having said so.
    #[test]
    fn clear_text_only_to_this_machine_or_on_demand() {
        let auth = Basic::new("ada", Secret::new("hunter2")).unwrap();
        for url in
            ["https://mail.example.test", "http://127.0.0.1:80", "http://[::1]", "http://localhost:8080"]
        {
            auth.check(&endpoint(url), false).unwrap();
        }
        let far = endpoint("http://mail.example.test");
        let e = auth.check(&far, false).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.to_string().contains("allow_plaintext"), "{e}");
        auth.check(&far, true).unwrap();
    }

    // An error page that quotes our request must not carry the password into a log.
    #[test]
    fn secrets_leave_quoted_text() {
        let auth = Basic::new("ada", Secret::new("hunter2")).unwrap();
        let secrets = Secrets::default();
        let own = auth.secrets();
        own.iter().for_each(|secret| secrets.add(secret));
        let page = format!("you sent {} and that is hunter2", sent("ada", "hunter2"));
        assert_eq!(secrets.redact(&page), "you sent Basic *** and that is ***");
        assert!(!format!("{auth:?}").contains("hunter2"));
        assert!(!format!("{auth:?}").contains("YWRhOmh1bnRlcjI"));
    }
}
