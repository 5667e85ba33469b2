//! Who may see the sign-in.

use crate::net::{Endpoint, cut};
use crate::{Error, ErrorKind, Result};

/// Microsoft's own, for Exchange Online in its several clouds.
const ONLINE: [&str; 5] =
    ["outlook.com", "office365.com", "onmicrosoft.com", "office365.us", "partner.outlook.cn"];

/// The domains that are trusted, each with what lies below it. Without a list of public suffixes nobody knows whether two names
/// belong to the same owner, so a name beside another is not trusted for it.
#[derive(Debug)]
pub(super) struct Trust {
    home: Option<String>,
    others: Vec<String>,
}

impl Trust {
    /// `home` is the domain of whoever signs in, if the name has one.
    pub fn new(home: Option<String>, others: &[String]) -> Trust {
        Trust { home, others: others.iter().map(|d| d.to_ascii_lowercase()).collect() }
    }

    pub fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }

    /// Whether a host (or a domain), in lower case, may see the sign-in.
    pub fn covers(&self, host: &str) -> bool {
        let others = self.others.iter().map(String::as_str).chain(ONLINE);
        self.home().into_iter().chain(others).any(|domain| {
            host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        })
    }
}

/// The domain of an address, in lower case.
///
/// ```
/// assert_eq!(ewsnotify::autodiscover::domain("Ada@Example.test")?, "example.test");
/// assert!(ewsnotify::autodiscover::domain("EXAMPLE\\ada").is_err());
/// # Ok::<(), ewsnotify::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`] for what is no address.
pub fn domain(address: &str) -> Result<String> {
    let shown = cut(address, 100);
    let bad = || {
        let text = format!(
            "\"{shown}\" is no mail address that Autodiscover could look up: give one as mailbox or user, or the server as url"
        );
        Error::new(ErrorKind::Invalid, text)
    };
    let (name, domain) = address.rsplit_once('@').ok_or_else(bad)?;
    if name.is_empty() || domain.contains([':', '/', '[']) {
        return Err(bad());
    }
    let endpoint = Endpoint::parse(&format!("https://{domain}")).map_err(|e| match domain.is_ascii() {
        true => bad(),
        false => e.context(format_args!("the domain of \"{shown}\"")),
    })?;
    Ok(endpoint.host().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The mailboxes of a company with an umlaut, whose hosts are in DNS and in certificates by another name.
    #[test]
    fn a_domain_beyond_ascii() {
        assert_eq!(domain("ada@M\u{fc}nchen.test").unwrap(), "xn--mnchen-3ya.test");
        let e = domain("ada@\u{645}\u{62b}.test").unwrap_err().to_string();
        assert!(e.contains("xn--"), "{e}");
    }

    // evil-example.test is not example.test: the password would be somebody else's.
    #[test]
    fn only_what_lies_below() {
        let trust = Trust::new(Some("example.test".into()), &["Hoster.test".into()]);
        for yes in [
            "example.test",
            "mail.example.test",
            "a.hoster.test",
            "autodiscover-s.outlook.com",
            "x.mail.onmicrosoft.com",
        ] {
            assert!(trust.covers(yes), "{yes}");
        }
        for no in [
            "evil-example.test",
            "test",
            "example.test.evil.test",
            "notoutlook.com",
            "outlook.com.evil.test",
            "",
        ] {
            assert!(!trust.covers(no), "{no}");
        }
    }

    #[test]
    fn domains_of_addresses() {
        assert_eq!(domain("\"a@b\"@Mail.Example.test.").unwrap(), "mail.example.test");
        for bad in [
            "",
            "ada",
            "@example.test",
            "ada@",
            "ada@a b",
            "ada@x:443",
            "ada@x/y",
            "EXAMPLE\\ada",
            "ada@[::1]",
            "a@b?c",
        ] {
            assert_eq!(domain(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
