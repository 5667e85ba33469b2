//! Which server has a mailbox: the sequence of questions by which Autodiscover finds it, without the asking.
//!
//! [`Search`] says what to ask next and reads the answers; it knows no socket, thread or clock. The order is that of Microsoft's
//! [documentation](https://learn.microsoft.com/exchange/client-developer/exchange-web-services/autodiscover-for-exchange), for
//! clients outside of the domain: `https://DOMAIN/autodiscover/autodiscover.svc` (SOAP) and `.xml` (POX), the same at
//! `autodiscover.DOMAIN`, then `http://autodiscover.DOMAIN`, of which only a redirect to https counts. DNS is not asked for SRV
//! records: no small resolver that blocks, and is well kept, knows them.
//!
//! Who is trusted with the sign-in: hosts of the user's own domain and below it, of Exchange Online, and of the domains that the
//! user has named. Who signs in as `DOMAIN\name` has no domain of their own. A redirect to anybody else is told and not followed. Of a server that has been trusted with the sign-in, the
//! address that it gives for EWS is taken as it is, if it is https.

mod together;
mod trust;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

pub use together::{MAX_TOGETHER, share};
use trust::Trust;
pub use trust::domain;

use crate::auth;
use crate::net::{Endpoint, Told};
use crate::proto::ServerVersion;
use crate::proto::autodiscover::{
    Autodiscovered, USER_SETTINGS_ACTION, UserSettings, read_pox, read_user_settings, write_pox,
    write_user_settings,
};
use crate::{Error, ErrorKind, Result};

/// Redirects that are followed, of any kind.
const MAX_HOPS: u32 = 10;

/// How a place is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// SOAP, `GetUserSettings`.
    Soap,
    /// POX.
    Pox,
    /// A bare GET over http, only for the redirect that it may bring.
    Redirect,
}

/// A place to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How.
    pub dialect: Dialect,
    /// Where.
    pub endpoint: Endpoint,
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where, and how. Only over https with a sign-in.
    pub place: Place,
    /// The mailbox that is asked for.
    pub address: String,
    /// What to send; nothing for a GET.
    pub body: Vec<u8>,
}

impl Ask {
    /// The `SOAPAction`, without quotes.
    pub fn soap_action(&self) -> Option<&'static str> {
        (self.place.dialect == Dialect::Soap).then_some(USER_SETTINGS_ACTION)
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The server.
    Found,
    /// A redirect that was followed.
    Redirected,
    /// A redirect that was not: nobody has confirmed its domain, or it is not https, or there were too many.
    NotFollowed,
    /// Nobody there: the name, the port, time.
    Unreachable,
    /// TLS failed.
    Tls,
    /// The sign-in was refused.
    SignIn,
    /// The server offers no way to sign in that ours could go.
    NoWayIn,
    /// Autodiscover answers, and does not know the mailbox.
    Unknown,
    /// Autodiscover answers that something is wrong with it now.
    Trouble,
    /// Somebody answers, but not Autodiscover.
    NotAutodiscover,
}

/// A place that was asked, and what it said.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where, and how.
    pub place: Place,
    /// What came of it.
    pub outcome: Outcome,
    /// The same for people, with what to do.
    pub text: String,
}

/// Where a mailbox is.
#[derive(Clone, Debug)]
pub struct Found {
    /// The mailbox's address, after redirects: its primary one, if the server said which that is.
    pub address: String,
    /// EWS for clients from outside.
    pub external: Option<Endpoint>,
    /// EWS for clients from inside.
    pub internal: Option<Endpoint>,
    /// Which of the servers behind the URL: mailboxes with the same URL and the same information may share a stream.
    pub grouping: Option<String>,
    /// The version of the server that answered.
    pub version: Option<ServerVersion>,
    /// The versions of EWS that it speaks.
    pub schemas: Option<String>,
    /// Who said so.
    pub by: Place,
}

impl Found {
    /// Where EWS is: from outside, or where the server names nothing else, from inside.
    ///
    /// There always is one.
    pub fn ews(&self) -> &Endpoint {
        self.external.as_ref().or(self.internal.as_ref()).unwrap_or(&self.by.endpoint)
    }
}

/// A search for the server of one mailbox.
///
/// ```
/// use ewsnotify::autodiscover::Search;
///
/// let mut search = Search::new("ada@example.test", "ada@example.test", &[], None)?;
/// let ask = search.next()?.expect("something to ask");
/// assert_eq!(ask.place.endpoint.to_string(), "https://example.test/autodiscover/autodiscover.svc");
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Debug)]
pub struct Search {
    address: String,
    trust: Trust,
    /// The domain that is looked in first: its own host may be a web server that has nothing to do with mail.
    bare: String,
    queue: VecDeque<Place>,
    /// What was asked already, in the name of which address: a loop ends here.
    asked: BTreeSet<(String, Dialect, String)>,
    /// Host and port of those that need not be asked in the other dialect.
    useless: BTreeSet<(String, u16)>,
    asking: Option<Place>,
    hops: u32,
    steps: Vec<Step>,
    /// Whether what was refused is a token.
    by_token: bool,
    found: Option<Found>,
}

impl Search {
    /// A search for `mailbox`, in the name of `user`, who signs in. `trusted` are further domains that may see the sign-in; `first` is
    /// who answered for another mailbox of the same domain.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a mailbox that is no address, and where no domain is known to be trusted with the sign-in: a user
    /// without one, and a mailbox in a domain that is not among `trusted`.
    pub fn new(mailbox: &str, user: &str, trusted: &[String], first: Option<&Place>) -> Result<Search> {
        let own = domain(mailbox)?;
        let trust = Trust::new(domain(user).ok(), trusted);
        // An address may come from anybody; the sign-in does not go where it leads. The user's own server knows the mailboxes of
        // its organisation, whatever their domain.
        let bare = match trust.home() {
            _ if trust.covers(&own) => own,
            Some(home) => home.to_owned(),
            None => return Err(Error::new(ErrorKind::Invalid, words::no_home(mailbox, user, &own))),
        };
        let mut search = Search {
            address: mailbox.to_owned(),
            trust,
            bare: bare.clone(),
            queue: VecDeque::new(),
            asked: BTreeSet::new(),
            useless: BTreeSet::new(),
            asking: None,
            hops: 0,
            steps: Vec::new(),
            by_token: false,
            found: None,
        };
        search.queue.extend(first.filter(|p| search.trust.covers(p.endpoint.host())).cloned());
        search.look_in(&bare)?;
        Ok(search)
    }

    /// Queues the places of a domain.
    fn look_in(&mut self, domain: &str) -> Result<()> {
        for host in [domain.to_owned(), format!("autodiscover.{domain}")] {
            self.queue.push_back(place(Dialect::Soap, &format!("https://{host}{SOAP_PATH}"))?);
            self.queue.push_back(place(Dialect::Pox, &format!("https://{host}{POX_PATH}"))?);
        }
        self.queue.push_back(place(Dialect::Redirect, &format!("http://autodiscover.{domain}{POX_PATH}"))?);
        Ok(())
    }

    /// What to ask next; `None` where the search is over. The answer goes to [`answered`](Self::answered).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an address that cannot be sent.
    // No iterator: between two calls comes the answer.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Ask>> {
        while self.found.is_none()
            && let Some(place) = self.queue.pop_front()
        {
            let key = (self.address.to_lowercase(), place.dialect, place.endpoint.to_string());
            let at = (place.endpoint.host().to_owned(), place.endpoint.port());
            if self.useless.contains(&at) || !self.asked.insert(key) {
                continue;
            }
            let body = match place.dialect {
                Dialect::Soap => write_user_settings(&[&self.address], &place.endpoint.to_string())?,
                Dialect::Pox => write_pox(&self.address)?,
                Dialect::Redirect => Vec::new(),
            };
            self.asking = Some(place.clone());
            return Ok(Some(Ask { place, address: self.address.clone(), body }));
        }
        Ok(None)
    }

    /// What came of the last question.
    pub fn answered(&mut self, result: Result<Told>) {
        match result {
            Ok(told) => self.hear(&told),
            Err(error) => {
                let outcome = match error.kind() {
                    ErrorKind::Tls => Outcome::Tls,
                    _ if error.was_not_sent() => Outcome::SignIn,
                    ErrorKind::Limit | ErrorKind::Protocol => Outcome::NotAutodiscover,
                    _ => Outcome::Unreachable,
                };
                self.step(|_, _| (outcome, error.to_string()));
            }
        }
    }

    fn hear(&mut self, told: &Told) {
        self.step(|search, place| search.read(place, told));
    }

    /// The same, where others were asked for by the same question.
    fn hear_part(&mut self, part: Autodiscovered) {
        self.step(|search, place| search.part(place, part));
    }

    fn step(&mut self, read: impl FnOnce(&mut Search, &Place) -> (Outcome, String)) {
        let Some(place) = self.asking.take() else { return };
        let (outcome, text) = read(self, &place);
        if matches!(
            outcome,
            Outcome::Unreachable | Outcome::Tls | Outcome::SignIn | Outcome::NoWayIn | Outcome::Unknown
        ) {
            // The other dialect would meet the same; of a wrong password, too many tries lock the account.
            self.useless.insert((place.endpoint.host().to_owned(), place.endpoint.port()));
        }
        self.steps.push(Step { place, outcome, text });
    }

    fn read(&mut self, place: &Place, told: &Told) -> (Outcome, String) {
        if place.dialect == Dialect::Redirect {
            return match (told.status, told.location.as_deref()) {
                (302, Some(to)) if leads_to_autodiscover(to) => self.redirect_url(place, to),
                _ => (Outcome::NotAutodiscover, words::no_redirect(place, told)),
            };
        }
        match told.status {
            200 | 500 => {}
            300..=399 => {
                return match told.location.as_deref() {
                    Some(to) if leads_to_autodiscover(to) => self.redirect_url(place, to),
                    Some(to) => (Outcome::NotAutodiscover, words::elsewhere(place, told, to)),
                    None => (Outcome::NotAutodiscover, words::status(place, told)),
                };
            }
            401 => {
                self.by_token = auth::by_token(told.ways);
                let outcome = if told.signed { Outcome::SignIn } else { Outcome::NoWayIn };
                return (outcome, words::unauthorized(place, told));
            }
            408 | 429 | 502..=504 => return (Outcome::Trouble, words::status(place, told)),
            _ => return (Outcome::NotAutodiscover, words::status(place, told)),
        }
        let read = match place.dialect {
            Dialect::Soap => read_user_settings(&told.body).map(|mut users| users.pop()),
            _ => read_pox(&told.body).map(Some),
        };
        match read {
            Err(e) if e.kind() == ErrorKind::Server => (Outcome::Trouble, words::failed(place, &e)),
            Err(e) => (Outcome::NotAutodiscover, words::not_autodiscover(place, told, &e)),
            Ok(None) => (Outcome::NotAutodiscover, words::nothing(place)),
            Ok(Some(part)) => self.part(place, part),
        }
    }

    fn part(&mut self, place: &Place, part: Autodiscovered) -> (Outcome, String) {
        match part {
            Autodiscovered::Settings(settings) => self.settings(place, *settings),
            Autodiscovered::RedirectAddress(to) => self.redirect_address(place, &to),
            Autodiscovered::RedirectUrl(to) => self.redirect_url(place, &to),
            Autodiscovered::Refused { code, text } => {
                // 500 is POX's for an address that it does not know.
                let unknown =
                    matches!(code.as_str(), "InvalidUser" | "InvalidDomain" | "NotFederated" | "500");
                let outcome = if unknown { Outcome::Unknown } else { Outcome::Trouble };
                (outcome, words::refused(place, &self.address, &code, text.as_deref(), unknown))
            }
        }
    }

    fn settings(&mut self, place: &Place, settings: UserSettings) -> (Outcome, String) {
        let url = |text: &Option<String>| {
            text.as_deref().and_then(|text| Endpoint::parse(text).ok()).filter(Endpoint::is_https)
        };
        let (external, internal) = (url(&settings.external_ews_url), url(&settings.internal_ews_url));
        if external.is_none() && internal.is_none() {
            return (Outcome::NotAutodiscover, words::no_ews(place, &self.address, &settings));
        }
        let found = Found {
            address: settings.address.unwrap_or_else(|| self.address.clone()),
            external,
            internal,
            grouping: settings.grouping_information,
            version: settings.server_version,
            schemas: settings.ews_supported_schemas,
            by: place.clone(),
        };
        let text = words::found(place, &found);
        self.found = Some(found);
        (Outcome::Found, text)
    }

    fn redirect_url(&mut self, place: &Place, to: &str) -> (Outcome, String) {
        let refuse = |why| (Outcome::NotFollowed, words::not_followed(place, to, why));
        let to_url = match to.strip_prefix('/') {
            Some(path) if !path.starts_with('/') => format!("{}/{path}", place.endpoint.origin()),
            _ => to.to_owned(),
        };
        let Ok(endpoint) = Endpoint::parse(&to_url) else { return refuse(words::Why::NoUrl) };
        if !endpoint.is_https() {
            return refuse(words::Why::NotHttps);
        }
        if !self.trust.covers(endpoint.host()) {
            return refuse(words::Why::NotTrusted(endpoint.host()));
        }
        let path = endpoint.path().to_ascii_lowercase();
        let dialect = match place.dialect {
            _ if path.ends_with(".svc") => Dialect::Soap,
            _ if path.ends_with(".xml") => Dialect::Pox,
            Dialect::Redirect => Dialect::Pox,
            same => same,
        };
        let mut next = vec![Place { dialect, endpoint: endpoint.clone() }];
        if place.dialect == Dialect::Redirect
            && let Ok(soap) = self::place(Dialect::Soap, &format!("{}{SOAP_PATH}", endpoint.origin()))
        {
            // Only it tells of groups everywhere.
            next.insert(0, soap);
        }
        next.retain(|p| {
            !self.asked.contains(&(self.address.to_lowercase(), p.dialect, p.endpoint.to_string()))
        });
        if next.is_empty() {
            return refuse(words::Why::Loop);
        }
        if self.hop() {
            return refuse(words::Why::TooMany(MAX_HOPS));
        }
        for place in next.into_iter().rev() {
            self.queue.push_front(place);
        }
        (Outcome::Redirected, words::followed(place, &endpoint.to_string()))
    }

    fn redirect_address(&mut self, place: &Place, to: &str) -> (Outcome, String) {
        let refuse = |why| (Outcome::NotFollowed, words::not_followed(place, to, why));
        let Ok(domain) = domain(to) else { return refuse(words::Why::NoAddress) };
        if !self.trust.covers(&domain) {
            return refuse(words::Why::NotTrusted(&domain));
        }
        let lower = to.to_lowercase();
        if self.asked.iter().any(|(address, ..)| *address == lower) {
            return refuse(words::Why::Loop);
        }
        if self.hop() {
            return refuse(words::Why::TooMany(MAX_HOPS));
        }
        let before = std::mem::take(&mut self.queue);
        if self.look_in(&domain).is_err() {
            self.queue = before;
            return refuse(words::Why::NoAddress);
        }
        to.clone_into(&mut self.address);
        self.useless.clear();
        (Outcome::Redirected, words::followed(place, to))
    }

    /// Counts a redirect; whether it is one too many.
    fn hop(&mut self) -> bool {
        self.hops += 1;
        self.hops > MAX_HOPS
    }

    /// What was asked so far, in its order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The end: where the mailbox is.
    ///
    /// # Errors
    /// Where nothing was found, by what is to be done: [`ErrorKind::Auth`] (a sign-in was refused, or is of no way that is offered),
    /// [`ErrorKind::Invalid`] (a redirect that needs to be confirmed, an unknown mailbox), [`ErrorKind::Tls`],
    /// [`ErrorKind::Connect`] (may pass by itself), [`ErrorKind::Protocol`] (all that should know answer, and none of them is
    /// Autodiscover). The text has every step.
    pub fn finish(self) -> Result<Found> {
        if let Some(found) = self.found {
            return Ok(found);
        }
        let bare = &self.bare;
        let any = |outcome: Outcome| self.steps.iter().any(|s| s.outcome == outcome);
        // Many a company's web server has nothing to do with its mail, and a certificate for another name.
        let of_mail =
            |outcome| self.steps.iter().any(|s| s.outcome == outcome && s.place.endpoint.host() != *bare);
        // Over plain http nobody has to be there.
        let is_down = |s: &Step| {
            s.outcome == Outcome::Unreachable
                && s.place.endpoint.host() != *bare
                && s.place.dialect != Dialect::Redirect
        };
        let kind = match () {
            () if of_mail(Outcome::SignIn) || of_mail(Outcome::NoWayIn) => ErrorKind::Auth,
            // Who would know better has not got to it.
            () if any(Outcome::Trouble) => ErrorKind::Connect,
            () if any(Outcome::SignIn) || any(Outcome::NoWayIn) => ErrorKind::Auth,
            () if of_mail(Outcome::NotFollowed) || any(Outcome::Unknown) => ErrorKind::Invalid,
            () if of_mail(Outcome::Tls) => ErrorKind::Tls,
            () if self.steps.iter().any(is_down) => ErrorKind::Connect,
            () => ErrorKind::Protocol,
        };
        let error = Error::new(kind, words::all(&self.address, &self.steps));
        Err(match kind {
            ErrorKind::Auth if !any(Outcome::SignIn) => error.with_no_way_in(),
            ErrorKind::Auth if self.by_token => error.with_token_refused(),
            _ => error,
        })
    }
}

const SOAP_PATH: &str = "/autodiscover/autodiscover.svc";
const POX_PATH: &str = "/autodiscover/autodiscover.xml";

/// Whether a redirect of HTTP's is more than a web server's catch-all.
fn leads_to_autodiscover(url: &str) -> bool {
    url.to_ascii_lowercase().contains("/autodiscover/autodiscover.")
}

fn place(dialect: Dialect, url: &str) -> Result<Place> {
    Ok(Place { dialect, endpoint: Endpoint::parse(url)? })
}
