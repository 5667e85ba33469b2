//! What a server gave to be sent back with further requests, so that they reach the machine that holds the subscriptions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::auth::Secret;

/// More than a server needs; a stranger's are not kept without bound.
const MOST: usize = 16;
const LONGEST: usize = 4096;
/// By this one Exchange finds the machine again (Exchange documentation, "How to: Maintain affinity between a group of subscriptions
/// and the Mailbox server").
const BACK_END: &str = "X-BackEndOverrideCookie";

/// The cookies of a group of mailboxes at one server. The newest value of a name counts, whatever its path: there is one.
#[derive(Default)]
pub struct Cookies(Mutex<BTreeMap<String, Secret>>);

impl Cookies {
    /// Takes a `Set-Cookie` header.
    pub(crate) fn set(&self, header: &str) {
        let mut parts = header.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let (name, value) = (name.trim(), value.trim());
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b',');
        if name.is_empty() || name.len() + value.len() > LONGEST || !plain(name) || !plain(value) {
            return;
        }
        let is_over = parts.any(|attribute| {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let value = value.trim();
            match key.trim() {
                key if key.eq_ignore_ascii_case("max-age") => value.parse::<i64>().is_ok_and(|age| age <= 0),
                key if key.eq_ignore_ascii_case("expires") => {
                    httpdate::parse_http_date(value).is_ok_and(|at| at <= SystemTime::now())
                }
                _ => false,
            }
        });
        let mut cookies = self.lock();
        if is_over {
            cookies.remove(name);
        } else if cookies.len() < MOST || cookies.contains_key(name) {
            cookies.insert(name.to_owned(), Secret::new(value));
        }
    }

    /// What the `Cookie` header says, if there is anything to say.
    pub(crate) fn header(&self) -> Option<Secret> {
        let cookies = self.lock();
        let length = cookies.iter().map(|(name, value)| name.len() + value.expose().len() + 3).sum();
        // All at once: a string that grows leaves copies behind that nobody wipes.
        let mut text = String::with_capacity(length);
        for (name, value) in &*cookies {
            let between = if text.is_empty() { "" } else { "; " };
            for part in [between, name, "=", value.expose()] {
                text.push_str(part);
            }
        }
        (!text.is_empty()).then(|| Secret::new(text))
    }

    /// What a `Set-Cookie` header brings, if that may be as good as a password.
    pub(crate) fn secret(header: &str) -> Option<Secret> {
        let (name, value) = header.split(';').next()?.split_once('=')?;
        (name.trim() != BACK_END).then(|| Secret::new(value.trim()))
    }

    /// Those that may be as good as a password. The one that names a machine is none, and texts tell of machines.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let cookies = self.lock();
        cookies.iter().filter(|(name, _)| *name != BACK_END).map(|(_, value)| value.clone()).collect()
    }

    /// Whether both lead to the same machine, or neither to a certain one.
    pub(crate) fn same_machine(&self, other: &Cookies) -> bool {
        let machine = |cookies: &Cookies| cookies.lock().get(BACK_END).cloned();
        machine(self) == machine(other)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Secret>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Their names; the values are secrets.
impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(headers: &[&str]) -> Cookies {
        let cookies = Cookies::default();
        headers.iter().for_each(|header| cookies.set(header));
        cookies
    }

    // The next request would reach another machine, which knows none of the subscriptions.
    #[test]
    fn the_newest_value_is_sent_back() {
        let cookies = jar(&[
            "X-BackEndOverrideCookie=mbx01.example.test~1941996295; path=/; secure; HttpOnly",
            "exchangecookie=ab12; expires=Sun, 05-Dec-2077 10:00:00 GMT; path=/",
            "X-BackEndOverrideCookie=mbx02.example.test~1941996295; path=/",
        ]);
        let sent = "X-BackEndOverrideCookie=mbx02.example.test~1941996295; exchangecookie=ab12";
        assert_eq!(cookies.header().as_ref().map(Secret::expose), Some(sent));
        assert!(!cookies.same_machine(&Cookies::default()));
        assert!(cookies.same_machine(&jar(&["X-BackEndOverrideCookie=mbx02.example.test~1941996295"])));
    }

    // A server that takes a cookie back would be sent it for ever.
    #[test]
    fn what_is_taken_back_is_gone() {
        let gone = "a=; expires=Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(jar(&["a=1", gone]).header(), None);
        assert_eq!(jar(&["a=1", "a=1; Max-Age=0"]).header(), None);
        assert_eq!(Cookies::default().header(), None);
    }

    // A header could be split, or memory filled.
    #[test]
    fn nonsense_is_not_kept() {
        let long = format!("a={}", "x".repeat(5000));
        for bad in ["", "=", "novalue", "a b=1", "a=1\r\nX: y", "ä=1", &*long] {
            assert_eq!(jar(&[bad]).header(), None, "{bad:?}");
        }
        let cookies = Cookies::default();
        (0..1000).for_each(|n| cookies.set(&format!("c{n}=1")));
        assert_eq!(cookies.lock().len(), MOST);
    }

    // A cookie in a log is a way into the mailbox.
    #[test]
    fn values_are_not_printed() {
        let printed = format!("{:?}", jar(&["exchangecookie=topsecret"]));
        assert!(printed.contains("exchangecookie") && !printed.contains("topsecret"), "{printed}");
    }
}
