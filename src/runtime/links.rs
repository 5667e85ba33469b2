//! Which watches share a server and a sign-in, and so a link: its pool of connections, its back-off, its workers.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Result;
use crate::auth::{self, Secret};
use crate::net::{self, Counters, Endpoint, HttpLink, Link, Lookups, Tls};
use crate::options::{Access, WatchConfig};
use crate::proto::{Header, RequestVersion};

/// A watch, as the runtime knows it.
pub(super) struct Watch {
    pub id: u64,
    pub config: WatchConfig,
    pub endpoint: u32,
    pub link: Arc<dyn Link>,
}

impl Watch {
    pub fn header(&self, version: RequestVersion) -> Header {
        let impersonate =
            (self.config.access == Access::Impersonate).then(|| self.config.mailbox.to_string());
        Header { version, impersonate }
    }
}

/// The links of a client, and the TLS states behind them.
pub(super) struct Links {
    counters: Arc<Counters>,
    lookups: Arc<Lookups>,
    tls: Vec<(Option<PathBuf>, Arc<Tls>)>,
    links: Vec<(Key, Arc<dyn Link>)>,
}

#[derive(PartialEq)]
struct Key {
    endpoint: Endpoint,
    user: String,
    password: Secret,
    net: net::Config,
}

impl Links {
    pub fn new(counters: Arc<Counters>, lookups: Arc<Lookups>) -> Links {
        Links { counters, lookups, tls: Vec::new(), links: Vec::new() }
    }

    /// The link for a watch, and its number.
    pub fn link(&mut self, config: &WatchConfig) -> Result<(u32, Arc<dyn Link>)> {
        let key = Key {
            endpoint: config.endpoint.clone(),
            user: config.user.clone(),
            password: config.password.clone(),
            net: config.net.clone(),
        };
        if let Some(at) = self.links.iter().position(|(known, _)| *known == key) {
            return Ok((at as u32, self.links[at].1.clone()));
        }
        let auth = Arc::new(auth::Basic::new(&config.user, config.password.clone())?);
        let tls = self.tls(&config.net)?;
        let link = HttpLink::with_lookups(
            config.endpoint.clone(),
            config.net.clone(),
            auth,
            tls,
            self.counters.clone(),
            self.lookups.clone(),
        )?;
        self.links.push((key, Arc::new(link)));
        let at = self.links.len() - 1;
        Ok((at as u32, self.links[at].1.clone()))
    }

    /// Lets go of all; a link ends with its last user.
    pub fn clear(&mut self) {
        self.links.clear();
    }

    fn tls(&mut self, config: &net::Config) -> Result<Arc<Tls>> {
        if let Some((_, tls)) = self.tls.iter().find(|(file, _)| *file == config.ca_file) {
            return Ok(tls.clone());
        }
        let tls = Arc::new(Tls::new(config.ca_file.as_deref())?);
        self.tls.push((config.ca_file.clone(), tls.clone()));
        Ok(tls)
    }
}
