//! What a server gave to be sent back with further requests, so that they reach the machine that holds the subscriptions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::auth::Secret;

/// More than a server needs; a stranger's are not kept without bound.
const MOST: usize = 50;
/// The longest one (RFC 6265 section 6.1).
const LONGEST: usize = 4096;
/// All of them, with what is between them: web servers refuse lines of more than 8 KiB (nginx), and heads of more than 16 KiB (IIS), which
/// have to hold a token or a ticket too.
const ALL: usize = 8000;
/// By this one Exchange finds the machine again (Exchange documentation, "How to: Maintain affinity between a group of subscriptions
/// and the Mailbox server").
const BACK_END: &str = "X-BackEndOverrideCookie";

/// The cookies of a group of mailboxes at one server. The newest value of a name counts, whatever its path: there is one.
#[derive(Default)]
pub struct Cookies(Mutex<Jar>);

#[derive(Default)]
struct Jar {
    cookies: BTreeMap<String, Cookie>,
    /// The number of the last one that was set.
    newest: u64,
}

struct Cookie {
    value: Secret,
    number: u64,
}

impl Jar {
    /// Lets go of the oldest until what is sent is short enough. The one that names the machine stays.
    fn shrink(&mut self) {
        let length = |jar: &Jar| -> usize {
            jar.cookies.iter().map(|(name, cookie)| name.len() + cookie.value.expose().len() + 3).sum()
        };
        while self.cookies.len() > MOST || length(self) > ALL {
            let others = self.cookies.iter().filter(|(name, _)| *name != BACK_END);
            let Some(oldest) = others.min_by_key(|(_, cookie)| cookie.number).map(|(name, _)| name.clone())
            else {
                return;
            };
            self.cookies.remove(&oldest);
        }
    }
}

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
        let mut jar = self.lock();
        if is_over {
            jar.cookies.remove(name);
            return;
        }
        jar.newest += 1;
        let cookie = Cookie { value: Secret::new(value), number: jar.newest };
        jar.cookies.insert(name.to_owned(), cookie);
        jar.shrink();
    }

    /// What the `Cookie` header says, if there is anything to say.
    pub(crate) fn header(&self) -> Option<Secret> {
        let jar = self.lock();
        let length =
            jar.cookies.iter().map(|(name, cookie)| name.len() + cookie.value.expose().len() + 3).sum();
        // All at once: a string that grows leaves copies behind that nobody wipes.
        let mut text = String::with_capacity(length);
        for (name, cookie) in &jar.cookies {
            let between = if text.is_empty() { "" } else { "; " };
            for part in [between, name, "=", cookie.value.expose()] {
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
        let jar = self.lock();
        let others = jar.cookies.iter().filter(|(name, _)| *name != BACK_END);
        others.map(|(_, cookie)| cookie.value.clone()).collect()
    }

    /// Whether both lead to the same machine, or neither to a certain one.
    pub(crate) fn same_machine(&self, other: &Cookies) -> bool {
        let machine =
            |cookies: &Cookies| cookies.lock().cookies.get(BACK_END).map(|cookie| cookie.value.clone());
        machine(self) == machine(other)
    }

    fn lock(&self) -> MutexGuard<'_, Jar> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Their names; the values are secrets.
impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().cookies.keys()).finish()
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
        assert_eq!(cookies.lock().cookies.len(), MOST);
    }

    // A head of 64 KiB is refused by every server: a balancer that sets one cookie after another would end the watch.
    #[test]
    fn what_is_sent_back_has_a_bound_and_the_newest_stay() {
        let cookies = jar(&["X-BackEndOverrideCookie=mbx01.example.test~1"]);
        let long = "x".repeat(3000);
        (0..20).for_each(|n| cookies.set(&format!("c{n}={long}")));
        let sent = cookies.header().unwrap();
        let names: Vec<_> = sent.expose().split("; ").map(|c| c.split('=').next().unwrap()).collect();
        assert_eq!(names, [BACK_END, "c18", "c19"]);
        assert!(sent.expose().len() <= ALL, "{}", sent.expose().len());
        // One that comes again is no old one.
        cookies.set(&format!("c18={long}"));
        cookies.set(&format!("c20={long}"));
        assert!(cookies.header().unwrap().expose().contains("c18=") && cookies.lock().cookies.len() == 3);
    }

    // A cookie in a log is a way into the mailbox.
    #[test]
    fn values_are_not_printed() {
        let printed = format!("{:?}", jar(&["exchangecookie=topsecret"]));
        assert!(printed.contains("exchangecookie") && !printed.contains("topsecret"), "{printed}");
    }
}
