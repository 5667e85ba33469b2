//! HTTP/1.1, TLS, sockets and faults. No mail here.
//!
//! [`Sim`] is the running server; [`fault`] says what may go wrong on request, [`script`] reads that from a file, [`record`]
//! is what a test can ask afterwards. Inside: `shared` (what all threads see), `listen` (accept), `wire` (one socket, plain
//! or TLS), `http` (heads), `answer` (one request), `stream` (a hanging answer), `hostile` (bodies that no client may trust).

mod answer;
mod cert;
pub mod fault;
mod hostile;
mod http;
pub mod issuer;
mod listen;
mod ntlm;
mod out;
mod push;
pub mod record;
pub mod script;
mod shared;
mod stream;
mod wire;

use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use cert::{Certificate, TlsVersions};
pub use ntlm::{ExtendedProtection, Scheme};

use self::fault::{Cut, Fault};
use self::issuer::Issuer;
use self::listen::Running;
use self::record::{Request, Stats, StreamLog};
use self::script::{Control, Script};
use self::shared::{Settings, Shared};
use super::Style;
use super::exchange::Exchange;
use crate::{Error, ErrorKind, Result};

/// A running Exchange of our own on a loopback port. It stops, and every thread of it ends, when it is dropped.
///
/// ```no_run
/// let sim = ewsnotify::sim::Sim::builder().user("ada@example.test", "secret").start()?;
/// println!("{} trusts {}", sim.url(), sim.ca_file().unwrap().display());
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    address: SocketAddr,
    url: String,
    ca_pem: Option<String>,
    // Deleted when the server is dropped.
    ca_file: Option<tempfile::NamedTempFile>,
    running: Running,
}

/// How to start a [`Sim`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    style: Style,
    tls: bool,
    versions: TlsVersions,
    names: Vec<String>,
    certificate: Certificate,
    listen: SocketAddr,
    users: Vec<(String, String)>,
    offers: Vec<Scheme>,
    protection: ExtendedProtection,
    script: Script,
}

impl Sim {
    /// A server of Exchange's style with TLS on a free loopback port, without users.
    pub fn builder() -> Builder {
        Builder {
            style: Style::default(),
            tls: true,
            versions: TlsVersions::default(),
            names: Vec::new(),
            certificate: Certificate::default(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            users: Vec::new(),
            offers: vec![Scheme::Basic],
            protection: ExtendedProtection::default(),
            script: Script::default(),
        }
    }

    /// Where clients post to, such as `https://localhost:41234/EWS/Exchange.asmx`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the throw-away authority that signed the server's; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// A private file with [`ca_pem`](Self::ca_pem); it goes with the server.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_ref().map(|f| f.path())
    }

    /// The mailboxes behind the server.
    pub fn exchange(&self) -> &Exchange {
        &self.shared.exchange
    }

    /// Its token endpoint, and who may sign in by OAuth. EWS takes its tokens beside passwords.
    pub fn issuer(&self) -> &Issuer {
        &self.shared.issuer
    }

    /// Where tokens are asked for; `…/authorize` and `…/devicecode` are beside it.
    ///
    /// ```
    /// let sim = ewsnotify::sim::Sim::builder().start()?;
    /// assert!(sim.token_url().ends_with("/sim/oauth2/v2.0/token"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn token_url(&self) -> String {
        let origin = self.url.strip_suffix(http::PATH).unwrap_or(&self.url);
        format!("{origin}/sim/oauth2/v2.0/token")
    }

    /// The same as an authority in the manner of AD FS: for option `oauth_authority`, which needs none of the other addresses.
    ///
    /// ```
    /// let sim = ewsnotify::sim::Sim::builder().start()?;
    /// assert!(sim.authority().ends_with("/adfs"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn authority(&self) -> String {
        format!("{}/adfs", self.url.strip_suffix(http::PATH).unwrap_or(&self.url))
    }

    /// Lets one more user in, with a mailbox of the same address.
    pub fn add_user(&self, address: &str, password: &str) {
        self.shared.add_user(address, password);
    }

    /// Trusts this authority (PEM) when it sends to an https URL of a push subscription, beside its own.
    pub fn trust_pushes(&self, ca_pem: &str) {
        self.shared.trust_pushes(ca_pem);
    }

    /// From now on this fault waits for its request. Faults are asked in the order in which they were added.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.add_fault(fault);
    }

    /// Forgets all faults that have not happened yet.
    pub fn clear_faults(&self) {
        self.shared.clear_faults();
    }

    /// How many faults still wait for a request, or for another one. One that is for every request always does.
    pub fn waiting_faults(&self) -> usize {
        self.shared.waiting_faults()
    }

    /// Cuts all connections with an open stream and returns when their subscriptions are given back and their sockets closed.
    ///
    /// After [`Cut::Fin`] a client that reads on gets all that [`streams`](Self::streams) calls written. After [`Cut::Reset`]
    /// the client's kernel may throw away what the client had not read yet.
    pub fn cut_streams(&self, how: Cut) {
        self.shared.cut(how, true);
    }

    /// As [`cut_streams`](Self::cut_streams), for all connections.
    pub fn cut_connections(&self, how: Cut) {
        self.shared.cut(how, false);
    }

    /// Makes the open streams half-open: the sockets stay, and nothing passes in either direction.
    ///
    /// The exchange does not know: as with a real dead link its envelopes go into the send buffer (256 KiB), where they are
    /// lost if the connection never comes back. [`resume`](Self::resume) sends them on.
    pub fn stall_streams(&self) {
        self.shared.stall();
    }

    /// Ends every stall: what was held back is sent.
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// With `true`, new connections are reset at once, as by a server that is being restarted, until it is called with `false`.
    pub fn refuse_connections(&self, refuse: bool) {
        self.shared.refuse(refuse);
    }

    /// With `true`, who signs in with what is wrong waits for the 401 that says so, until it is called with `false`: so that a test can see
    /// who else signs in meanwhile.
    ///
    /// ```
    /// # use ewsnotify::sim::Sim;
    /// let sim = Sim::builder().user("ada@example.test", "secret").start()?;
    /// sim.hold_refusals(true);
    /// assert_eq!(sim.stats().held, 0);
    /// sim.hold_refusals(false);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn hold_refusals(&self, hold: bool) {
        self.shared.hold_refusals(hold);
    }

    /// Does one thing of a script's schedule now.
    pub fn control(&self, control: &Control) {
        self.shared.control(control);
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The requests that came in, oldest first: the newest 4,096, or fewer if their bodies are beyond 64 MiB.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests()
    }

    /// All streams there ever were, oldest first, and what became of their envelopes.
    pub fn streams(&self) -> Vec<StreamLog> {
        self.shared.streams()
    }

    /// Waits until `done` is content with the counters (or with whatever else it looks at), or until `limit` is over; says
    /// whether it was.
    pub fn wait_until(&self, limit: Duration, done: impl FnMut(&Stats) -> bool) -> bool {
        self.shared.wait_until(limit, done)
    }

    /// Stops the server as dropping it does, and gives the counters after that: no thread and no connection is left.
    pub fn stop(mut self) -> Stats {
        self.end();
        self.stats()
    }

    fn end(&mut self) {
        self.shared.stop();
        self.running.join();
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.end();
    }
}

impl Builder {
    /// Whose bytes it speaks; [`Style::Exchange`] unless told.
    pub fn style(mut self, style: Style) -> Builder {
        self.style = style;
        self
    }

    /// Whether it speaks TLS; `true` unless told.
    pub fn tls(mut self, tls: bool) -> Builder {
        self.tls = tls;
        self
    }

    /// Which versions of TLS it accepts; both unless told.
    pub fn tls_versions(mut self, versions: TlsVersions) -> Builder {
        self.versions = versions;
        self
    }

    /// Further names that the certificate is for, beside `localhost`: how a client gets from them to this server is its own affair
    /// (option `connect_to`).
    pub fn names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Builder {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    /// What is wrong with the certificate; nothing unless told.
    pub fn certificate(mut self, certificate: Certificate) -> Builder {
        self.certificate = certificate;
        self
    }

    /// The address to listen on; `127.0.0.1:0`, a free port, unless told.
    pub fn listen(mut self, address: SocketAddr) -> Builder {
        self.listen = address;
        self
    }

    /// A user who may sign in, with a mailbox of the same address.
    pub fn user(mut self, address: impl Into<String>, password: impl Into<String>) -> Builder {
        self.users.push((address.into(), password.into()));
        self
    }

    /// The ways to sign in that a 401 names and that are taken, in this order; Basic alone unless told.
    ///
    /// ```no_run
    /// use ewsnotify::sim::{ExtendedProtection, Scheme, Sim};
    /// // As Exchange SE is set up.
    /// let sim = Sim::builder()
    ///     .user("ada@example.test", "secret")
    ///     .offers([Scheme::Negotiate, Scheme::Ntlm])
    ///     .extended_protection(ExtendedProtection::Require)
    ///     .start()?;
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn offers(mut self, offers: impl IntoIterator<Item = Scheme>) -> Builder {
        self.offers = offers.into_iter().collect();
        self
    }

    /// Whether a sign-in by NTLM must name the TLS channel; it is not looked at unless told.
    pub fn extended_protection(mut self, protection: ExtendedProtection) -> Builder {
        self.protection = protection;
        self
    }

    /// Adds a fault.
    pub fn fault(mut self, fault: Fault) -> Builder {
        self.script.faults.push(fault);
        self
    }

    /// Adds the faults and the schedule of a script; its clock starts with the server.
    pub fn script(mut self, script: Script) -> Builder {
        self.script.faults.extend(script.faults);
        self.script.schedule.extend(script.schedule);
        self
    }

    /// Opens the port and starts the threads.
    pub fn start(self) -> Result<Sim> {
        let listener = TcpListener::bind(self.listen)
            .map_err(|e| failed(format_args!("opening {} to listen on", self.listen), e))?;
        let address = listener.local_addr().map_err(|e| failed("asking for the port", e))?;
        let (tls, ca_pem, ca_file, channel) = if self.tls {
            let made = cert::make(address.ip(), self.versions, &self.names, self.certificate)?;
            let file = private_file(&made.ca_pem)?;
            let config = Some(made.config).filter(|_| self.versions.alert().is_none());
            (config, Some(made.ca_pem), Some(file), Some(ntlm::channel(&made.certificate)))
        } else {
            (None, None, None, None)
        };
        let host = match address.ip() {
            // Not for ::1: there are machines whose localhost is 127.0.0.1 alone.
            ip if ip.is_unspecified() || (ip.is_ipv4() && ip.is_loopback()) => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{host}:{}{}", address.port(), http::PATH);
        let shared = Arc::new(Shared::new(Settings {
            style: self.style,
            tls,
            alert: self.versions.alert().filter(|_| self.tls),
            offers: self.offers,
            protection: self.protection,
            channel,
            users: HashMap::new(),
        }));
        shared.exchange.set_ews_url(&url);
        if let Some(pem) = &ca_pem {
            shared.trust_pushes(pem);
        }
        for (user, password) in &self.users {
            shared.add_user(user, password);
        }
        for fault in self.script.faults {
            shared.add_fault(fault);
        }
        let running = listen::start(listener, &shared, self.script.schedule)?;
        Ok(Sim { shared, address, url, ca_pem, ca_file, running })
    }
}

fn private_file(pem: &str) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("ewsnotify-ca-")
        .suffix(".pem")
        .tempfile()
        .map_err(|e| failed("making a temporary file for the certificate", e))?;
    file.write_all(pem.as_bytes()).map_err(|e| failed("writing the certificate's file", e))?;
    Ok(file)
}

fn failed(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("simulator: {what} failed: {why}"))
}
