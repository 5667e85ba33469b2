//! Autodiscover's questions, asked; and what was found, kept for a day.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::threads::lock;
use crate::auth::{Auth, Secrets};
use crate::autodiscover::{Ask, Dialect, Found, Outcome, Place, Search, Step, domain};
use crate::net::{Asker, Cancel, Endpoint, Question, Told};
use crate::options::WatchConfig;
use crate::{Error, ErrorKind, Result};

/// The documents say 24 hours.
const LIFE: Duration = Duration::from_secs(86_400);
/// For how long a place is asked for one mailbox at a time once it has not answered for several.
const SINGLY: Duration = Duration::from_secs(600);
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
    while let Some(ask) = search.next()? {
        let told = put(&ask, asker, auth, cancel);
        match told {
            Err(e) if is_final(&e) => return Err(e),
            told => search.answered(told),
        }
        if let Some(mut step) = search.steps().last().cloned() {
            asker.tap.secrets.clean(&mut step.text);
            tell(&step);
        }
    }
    conclude(search, asker, auth)
}

/// Asks one question.
pub(super) fn put(ask: &Ask, asker: &Asker, auth: &dyn Auth, cancel: &Cancel) -> Result<Told> {
    harmless(auth, &ask.place.endpoint)?;
    let (question, auth) = match ask.place.dialect {
        Dialect::Redirect => (Question::Get, None),
        _ => {
            let (soap_action, mailbox) = (ask.soap_action(), Some(ask.address.as_str()));
            (Question::Post { body: &ask.body, soap_action, mailbox }, Some(auth))
        }
    };
    asker.ask(&ask.place.endpoint, &question, auth, cancel)
}

/// Whether nobody else would be asked with more success: a sign-in that a server refuses is an answer, and this one is missing, or
/// refused by the proxy.
pub(super) fn is_final(e: &Error) -> bool {
    // A web server that refuses the password may stand before the one that takes it.
    (e.kind() == ErrorKind::Auth && !e.was_not_sent())
        || matches!(e.kind(), ErrorKind::Closed | ErrorKind::Invalid | ErrorKind::Internal)
        || e.is_no_token()
        || e.is_sign_in_needed()
}

/// What a search that has nothing more to ask has found.
pub(super) fn conclude(search: Search, asker: &Asker, auth: &dyn Auth) -> Result<Found> {
    let found = asker.tap.secrets.clean_result(search.finish())?;
    harmless(auth, found.ews())?;
    Ok(found)
}

/// A path is written into logs, the server's too: one that quotes the sign-in is not asked for.
fn harmless(auth: &dyn Auth, endpoint: &Endpoint) -> Result<()> {
    let own = Secrets::default();
    auth.secrets().iter().for_each(|secret| own.add_beside(secret, &[&auth.who()]));
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

/// User, mailbox, and whom the watch trusts beside them: where it may be led, another may not.
type Whose = (String, String, Vec<String>);

/// What was found.
#[derive(Default)]
pub(super) struct Locations(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// When, and what.
    mailboxes: BTreeMap<Whose, (Instant, Arc<Found>)>,
    /// By user and domain: who answered. Of thousands of mailboxes only the first has to try those who do not.
    places: BTreeMap<(String, String), Place>,
    /// By user, mailbox and folder: when, and who has the content of that public folder.
    contents: BTreeMap<(String, String, String), (Instant, Option<String>)>,
    /// By URL: until when it is not asked for several mailboxes at once, since it has not answered that.
    singly: BTreeMap<String, Instant>,
}

/// How the search for a mailbox begins.
pub(super) enum Begun {
    /// It was found before.
    Found(Arc<Found>),
    /// It has to be asked for.
    Search(Box<Search>),
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
        match self.begin(config, fresh)? {
            Begun::Found(found) => Ok(found),
            Begun::Search(begun) => {
                let mut steps = Vec::new();
                let found = search(*begun, asker, auth, cancel, &mut |step| steps.push(step.clone()))?;
                self.keep(config, &steps, found)
            }
        }
    }

    /// What is known of a watch's mailbox, or the search for it. `fresh`: what was found before is not to be believed.
    pub fn begin(&self, config: &WatchConfig, fresh: bool) -> Result<Begun> {
        let known = lock(&self.0);
        let key = whose(config);
        if !fresh && let Some(found) = known.get(&key, Instant::now()) {
            return Ok(Begun::Found(found));
        }
        let first = known.places.get(&of_domain(config)?);
        let search = Search::new(&config.mailbox, config.searcher(), &config.trusted_domains, first)?;
        Ok(Begun::Search(Box::new(search)))
    }

    /// Keeps what was found, in these steps.
    pub fn keep(&self, config: &WatchConfig, steps: &[Step], found: Found) -> Result<Arc<Found>> {
        let (found, of_domain) = (Arc::new(found), of_domain(config)?);
        let mut known = lock(&self.0);
        // One mailbox of a domain that is elsewhere does not lead the others there.
        let answers = |place: &Place| {
            let knows = |s: &Step| matches!(s.outcome, Outcome::Redirected | Outcome::Unknown);
            steps.iter().any(|s| s.place == *place && knows(s))
        };
        if !known.places.get(&of_domain).is_some_and(answers) {
            known.places.insert(of_domain, found.by.clone());
        }
        let key = whose(config);
        known.put(key, Instant::now(), found.clone());
        Ok(found)
    }

    /// Who has the content of a watch's public folder, as is known, or as `ask` finds out.
    pub fn content(
        &self,
        config: &WatchConfig,
        fresh: bool,
        ask: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<Option<String>> {
        let folder = config.folders.first().map(ToString::to_string).unwrap_or_default();
        let key = (config.user.clone(), config.mailbox.to_lowercase(), folder);
        let known = lock(&self.0).contents.get(&key).filter(|(at, _)| !fresh && at.elapsed() < LIFE).cloned();
        if let Some((_, content)) = known {
            return Ok(content);
        }
        let content = ask()?;
        let contents = &mut lock(&self.0).contents;
        if contents.len() >= MANY {
            contents.retain(|_, (at, _)| at.elapsed() < LIFE);
        }
        contents.insert(key, (Instant::now(), content.clone()));
        Ok(content)
    }

    /// Whether this place answers for the mailbox's domain.
    pub fn answers(&self, config: &WatchConfig, place: &Place) -> bool {
        of_domain(config).is_ok_and(|domain| lock(&self.0).places.get(&domain) == Some(place))
    }

    /// Whether a place may be asked for several mailboxes at once.
    pub fn takes_lists(&self, place: &Place, now: Instant) -> bool {
        lock(&self.0).singly.get(&place.endpoint.to_string()).is_none_or(|until| *until <= now)
    }

    /// It has not answered that.
    pub fn takes_no_lists(&self, place: &Place, now: Instant) {
        let singly = &mut lock(&self.0).singly;
        singly.retain(|_, until| *until > now);
        singly.insert(place.endpoint.to_string(), now + SINGLY);
    }
}

fn whose(config: &WatchConfig) -> Whose {
    (config.user.clone(), config.mailbox.to_lowercase(), config.trusted_domains.clone())
}

fn of_domain(config: &WatchConfig) -> Result<(String, String)> {
    Ok((config.user.clone(), domain(&config.mailbox)?))
}

impl Known {
    fn get(&self, key: &Whose, now: Instant) -> Option<Arc<Found>> {
        let (at, found) = self.mailboxes.get(key)?;
        (now.saturating_duration_since(*at) < LIFE).then(|| found.clone())
    }

    fn put(&mut self, key: Whose, now: Instant, found: Arc<Found>) {
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
        let (key, now) = (("ada".to_owned(), "ada@example.test".to_owned(), Vec::new()), Instant::now());
        assert!(known.get(&key, now).is_none());
        known.put(key.clone(), now, found);
        assert!(known.get(&key, now + LIFE - Duration::from_secs(1)).is_some());
        assert!(known.get(&key, now + LIFE).is_none());
    }
}
