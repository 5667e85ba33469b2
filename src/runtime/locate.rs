//! Autodiscover's questions, asked; and what was found, kept for a day.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::threads::lock;
use crate::auth::{Auth, Secrets};
use crate::autodiscover::{Dialect, Found, Place, Search, Step, domain};
use crate::net::{Asker, Cancel, Endpoint, Question};
use crate::options::WatchConfig;
use crate::{Error, ErrorKind, Result};

/// The documents say 24 hours.
const LIFE: Duration = Duration::from_secs(86_400);
/// When there are more, those that are too old are thrown away.
const MANY: usize = 20_000;

/// Asks what the search wants to know, to its end. `tell` hears of each step. Answers are read as they came; without what they quote of
/// secrets is what is told of them.
pub(crate) fn search(
    mut search: Search,
    asker: &Asker,
    auth: &dyn Auth,
    cancel: &Cancel,
    tell: &mut dyn FnMut(&Step),
) -> Result<Found> {
    let own = Secrets::default();
    auth.secrets().iter().for_each(|secret| own.add_beside(secret, &[&auth.who()]));
    while let Some(ask) = search.next()? {
        harmless(&own, &ask.place.endpoint)?;
        let (question, auth) = match ask.place.dialect {
            Dialect::Redirect => (Question::Get, None),
            _ => {
                let (soap_action, mailbox) = (ask.soap_action(), Some(ask.address.as_str()));
                (Question::Post { body: &ask.body, soap_action, mailbox }, Some(auth))
            }
        };
        let told = asker.ask(&ask.place.endpoint, &question, auth, cancel);
        // Nobody else would be asked with more success: a sign-in that a server refuses is an answer, and this one is missing, or
        // refused by the proxy.
        if let Err(e) = &told
            && (matches!(
                e.kind(),
                ErrorKind::Auth | ErrorKind::Closed | ErrorKind::Invalid | ErrorKind::Internal
            ) || e.is_no_token()
                || e.is_sign_in_needed())
        {
            return Err(told.err().unwrap_or_else(super::core::closed));
        }
        search.answered(told);
        if let Some(mut step) = search.steps().last().cloned() {
            asker.tap.secrets.clean(&mut step.text);
            tell(&step);
        }
    }
    let found = asker.tap.secrets.clean_result(search.finish())?;
    harmless(&own, found.ews())?;
    Ok(found)
}

/// A path is written into logs, the server's too: one that quotes the sign-in is not asked for.
fn harmless(own: &Secrets, endpoint: &Endpoint) -> Result<()> {
    match own.redact(endpoint.path()) {
        Cow::Borrowed(_) => Ok(()),
        Cow::Owned(path) => {
            let text = format!(
                "Autodiscover leads to {}{path}, which quotes what the sign-in was sent with, and is not followed: the server is set up wrongly",
                endpoint.origin()
            );
            Err(Error::new(ErrorKind::Invalid, text))
        }
    }
}

/// What was found.
#[derive(Default)]
pub(super) struct Locations(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By user and mailbox: when, and what.
    mailboxes: BTreeMap<(String, String), (Instant, Arc<Found>)>,
    /// By user and domain: who answered. Of thousands of mailboxes only the first has to try those who do not.
    places: BTreeMap<(String, String), Place>,
}

impl Locations {
    /// Where a watch's mailbox is; what is not known is asked, on the calling thread.
    pub fn find(
        &self,
        config: &WatchConfig,
        asker: &Asker,
        auth: &dyn Auth,
        fresh: bool,
        cancel: &Cancel,
    ) -> Result<Arc<Found>> {
        let mailbox = config.mailbox.to_lowercase();
        let key = (config.user.clone(), mailbox);
        let of_domain = (config.user.clone(), domain(&config.mailbox)?);
        if !fresh && let Some(found) = lock(&self.0).get(&key, Instant::now()) {
            return Ok(found);
        }
        let first = lock(&self.0).places.get(&of_domain).cloned();
        let started =
            Search::new(&config.mailbox, config.searcher(), &config.trusted_domains, first.as_ref())?;
        let found = Arc::new(search(started, asker, auth, cancel, &mut |_| ())?);
        let mut known = lock(&self.0);
        known.places.insert(of_domain, found.by.clone());
        known.put(key, Instant::now(), found.clone());
        Ok(found)
    }
}

impl Known {
    fn get(&self, key: &(String, String), now: Instant) -> Option<Arc<Found>> {
        let (at, found) = self.mailboxes.get(key)?;
        (now.saturating_duration_since(*at) < LIFE).then(|| found.clone())
    }

    fn put(&mut self, key: (String, String), now: Instant, found: Arc<Found>) {
        if self.mailboxes.len() >= MANY {
            self.mailboxes.retain(|_, (at, _)| now.saturating_duration_since(*at) < LIFE);
        }
        self.mailboxes.insert(key, (now, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A server that was moved would be asked for ever; or Autodiscover's for each watch, and each item.
    #[test]
    fn what_was_found_is_believed_for_a_day() {
        let endpoint = Endpoint::parse("mail.example.test").unwrap();
        let found = Arc::new(Found {
            address: "ada@example.test".into(),
            external: Some(endpoint.clone()),
            internal: None,
            grouping: None,
            version: None,
            schemas: None,
            by: Place { dialect: Dialect::Soap, endpoint },
        });
        let mut known = Known::default();
        let (key, now) = (("ada".to_owned(), "ada@example.test".to_owned()), Instant::now());
        assert!(known.get(&key, now).is_none());
        known.put(key.clone(), now, found);
        assert!(known.get(&key, now + LIFE - Duration::from_secs(1)).is_some());
        assert!(known.get(&key, now + LIFE).is_none());
    }
}
