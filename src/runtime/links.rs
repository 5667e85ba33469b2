//! Which watches share a server and a sign-in, and so a link: its pool of connections, its back-off, its workers.

use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use super::accounts::Accounts;
use super::locate::Locations;
use super::public_folders;
use super::threads::lock;
use crate::auth::{self, Auth};
use crate::autodiscover::Found;
use crate::net::{
    self, Asker, Cancel, Counters, Endpoint, HttpLink, Link, Lookups, Opened, Post, Rationed, Reply, Tap, Tls,
};
use crate::options::{Access, SignIn, WatchConfig, Ways};
use crate::proto::{Header, RequestVersion};
use crate::{Error, ErrorKind, Result};

/// A watch, as the runtime knows it.
#[derive(Clone)]
pub(super) struct Watch {
    pub id: u64,
    pub config: WatchConfig,
    pub endpoint: u32,
    pub link: Arc<dyn Link>,
}

impl Watch {
    pub fn header(&self, version: RequestVersion) -> Header {
        header(&self.config, version)
    }
}

fn header(config: &WatchConfig, version: RequestVersion) -> Header {
    let impersonate = (config.access == Access::Impersonate).then(|| config.mailbox.to_string());
    Header { version, impersonate }
}

/// What Autodiscover's answer comes to.
pub(super) struct Located {
    /// The number of the server, which watches of the same server and sign-in share.
    pub endpoint: u32,
    pub link: Arc<dyn Link>,
    /// `GroupingInformation`.
    pub affinity: Arc<str>,
}

/// The links of a client, the TLS states behind them, and what Autodiscover has found.
pub(super) struct Links {
    counters: Arc<Counters>,
    lookups: Arc<Lookups>,
    tap: Arc<Tap>,
    pub locations: Locations,
    pub accounts: Accounts,
    known: Mutex<Known>,
    this: Weak<Links>,
}

#[derive(Default)]
struct Known {
    /// One for all links with the same settings of TLS.
    tls: Vec<Arc<Tls>>,
    /// By number; without a link where the server has to be found first.
    links: Vec<(Key, Option<Arc<dyn Link>>)>,
}

#[derive(PartialEq)]
struct Key {
    endpoint: Option<Endpoint>,
    user: String,
    sign_in: SignIn,
    net: net::Config,
}

impl Links {
    pub fn new(counters: Arc<Counters>, lookups: Arc<Lookups>, tap: Arc<Tap>) -> Arc<Links> {
        Arc::new_cyclic(|this| Links {
            counters,
            lookups,
            tap,
            locations: Locations::default(),
            accounts: Accounts::default(),
            known: Mutex::default(),
            this: this.clone(),
        })
    }

    /// The link for a watch, and its number. Where the server has to be found first, a link that does so with its first call, and the
    /// number that stands for the looking.
    pub fn link(&self, config: &WatchConfig) -> Result<(u32, Arc<dyn Link>)> {
        match &config.endpoint {
            Some(endpoint) => self.link_to(config, endpoint),
            None => {
                let at = lock(&self.known).number(key(config, None), || Ok(None))?.0;
                // Whether the sign-in can be sent at all is told now, and not when the server is known.
                auth(config, &self.accounts, &self.asker(config)?)?;
                let (config, links) = (config.clone(), self.this.clone());
                Ok((at, Arc::new(Locating { config, links, found: Mutex::default() })))
            }
        }
    }

    /// Finds the server of a watch. `fresh`: although it was found within the last day. Blocks.
    pub fn locate(&self, config: &WatchConfig, fresh: bool, cancel: &Cancel) -> Result<Located> {
        let (asker, auth) = self.who_asks(config)?;
        let found = self.locations.find(config, &asker, &*auth, fresh, cancel)?;
        self.located(config, &found, (&asker, &*auth), fresh, cancel)
    }

    /// What was found, as a server that watches may share. Blocks only for a public folder, whose content may be elsewhere.
    pub fn located(
        &self,
        config: &WatchConfig,
        found: &Found,
        who: (&Asker, &dyn Auth),
        fresh: bool,
        cancel: &Cancel,
    ) -> Result<Located> {
        let (mut endpoint, mut link) = self.link_to(config, found.ews())?;
        if config.seeks_content() {
            let header = header(config, RequestVersion::default());
            let ask = || public_folders::content_mailbox(config, &*link, header, found, who, cancel);
            if let Some(content) = self.locations.content(config, fresh, ask)? {
                let net = net::Config { public_folder_mailbox: Some(content), ..config.net.clone() };
                (endpoint, link) = self.link_to(&WatchConfig { net, ..config.clone() }, found.ews())?;
            }
        }
        // What the host says of it counts.
        let affinity = match (&*config.affinity, &found.grouping) {
            ("", Some(grouping)) => grouping.as_str().into(),
            _ => config.affinity.clone(),
        };
        Ok(Located { endpoint, link, affinity })
    }

    /// Who asks for a watch's server, and how they sign in.
    pub fn who_asks(&self, config: &WatchConfig) -> Result<(Asker, Arc<dyn Auth>)> {
        let asker = self.asker(config)?;
        let auth = auth(config, &self.accounts, &asker)?;
        Ok((asker, auth))
    }

    /// What asks beside EWS: Autodiscover, and for tokens.
    fn asker(&self, config: &WatchConfig) -> Result<Asker> {
        let tls = lock(&self.known).tls(&config.net)?;
        let (counters, lookups, tap) = (self.counters.clone(), self.lookups.clone(), self.tap.clone());
        Ok(Asker { config: config.net.clone(), tls, counters, lookups, tap })
    }

    fn link_to(&self, config: &WatchConfig, endpoint: &Endpoint) -> Result<(u32, Arc<dyn Link>)> {
        let asker = self.asker(config)?;
        let mut known = lock(&self.known);
        let tls = known.tls(&config.net)?;
        let (at, link) = known.number(key(config, Some(endpoint.clone())), || {
            let (net, auth) = (config.net.clone(), auth(config, &self.accounts, &asker)?);
            let (counters, lookups) = (self.counters.clone(), self.lookups.clone());
            let link = HttpLink::with_lookups(endpoint.clone(), net, auth, tls, counters, lookups)?;
            Ok(Some(Arc::new(link.tapped(self.tap.clone())) as Arc<dyn Link>))
        })?;
        let link =
            link.ok_or_else(|| Error::new(ErrorKind::Internal, "a server that is known has no link"))?;
        Ok((at, link))
    }

    /// Lets go of all; a link ends with its last user.
    pub fn clear(&self) {
        lock(&self.known).links.clear();
    }
}

impl Known {
    fn number(
        &mut self,
        key: Key,
        make: impl FnOnce() -> Result<Option<Arc<dyn Link>>>,
    ) -> Result<(u32, Option<Arc<dyn Link>>)> {
        if let Some(at) = self.links.iter().position(|(known, _)| *known == key) {
            return Ok((at as u32, self.links[at].1.clone()));
        }
        let link = make()?;
        self.links.push((key, link.clone()));
        Ok((self.links.len() as u32 - 1, link))
    }

    fn tls(&mut self, config: &net::Config) -> Result<Arc<Tls>> {
        if let Some(tls) = self.tls.iter().find(|tls| tls.is_of(config)) {
            return Ok(tls.clone());
        }
        let tls = Arc::new(Tls::of(config)?);
        self.tls.push(tls.clone());
        Ok(tls)
    }
}

fn key(config: &WatchConfig, endpoint: Option<Endpoint>) -> Key {
    let (user, sign_in) = (config.user.clone(), config.sign_in.clone());
    Key { endpoint, user, sign_in, net: config.net.clone() }
}

pub(crate) fn auth(config: &WatchConfig, accounts: &Accounts, asker: &Asker) -> Result<Arc<dyn Auth>> {
    Ok(match &config.sign_in {
        SignIn::Password(password, ways) => {
            let user = &config.user;
            let basic = || auth::Basic::new(user, password.clone());
            let ntlm = || auth::Ntlm::new(user, password.clone(), fresh);
            let auth: Arc<dyn Auth> = match ways {
                Ways::Basic => Arc::new(basic()?),
                Ways::Ntlm => Arc::new(auth::ByOffer::new(user, ntlm()?, None)),
                Ways::Offered => {
                    let by_offer = auth::ByOffer::new(user, ntlm()?, Some(basic()?));
                    #[cfg(feature = "gssapi")]
                    let by_offer = match accounts.kerberos(user, &None) {
                        Ok(kerberos) => by_offer.with_kerberos(kerberos),
                        Err(why) => by_offer.without_kerberos(why.to_string()),
                    };
                    Arc::new(by_offer)
                }
            };
            Arc::new(Rationed::new(auth, accounts.tries(user, password)))
        }
        SignIn::Kerberos(password) => Arc::new(accounts.kerberos(&config.user, password)?),
        SignIn::HostTokens(account) => Arc::new(auth::Bearer::new(accounts.host(account))),
        SignIn::OAuth(oauth) => Arc::new(auth::Bearer::new(accounts.oauth(oauth, asker)?)),
    })
}

/// What `auth` may not have of its own.
fn fresh() -> Result<auth::Fresh> {
    let mut nonce = [0; 8];
    net::random(&mut nonce)?;
    Ok(auth::Fresh { now: SystemTime::now(), nonce })
}

/// Finds the server of a watch whenever something is asked: what was found before is at hand. For what is asked before the engine
/// has heard which server it is: what a run before has left to fetch, and what the host asks itself.
struct Locating {
    config: WatchConfig,
    links: Weak<Links>,
    /// The one that was found last.
    found: Mutex<Option<Arc<dyn Link>>>,
}

impl Locating {
    fn link(&self, cancel: &Cancel) -> Result<Arc<dyn Link>> {
        let links = self.links.upgrade().ok_or_else(super::core::closed)?;
        let link = links.locate(&self.config, false, cancel)?.link;
        *lock(&self.found) = Some(link.clone());
        Ok(link)
    }
}

impl Link for Locating {
    fn call(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Reply> {
        self.link(cancel)?.call(post, cancel)
    }

    fn call_into(
        &self,
        post: &Post<'_>,
        cancel: &Cancel,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.link(cancel)?.call_into(post, cancel, take)
    }

    fn open(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Opened> {
        self.link(cancel)?.open(post, cancel)
    }

    fn whom(&self) -> String {
        let found = lock(&self.found);
        found.as_ref().map_or_else(|| format!("the server of {}", self.config.mailbox), |link| link.whom())
    }
}
