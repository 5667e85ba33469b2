//! Questions beside EWS: Autodiscover's, and what an administrator wants to know of a server. One request, and the answer as it
//! came; what it means is for others to say.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::ClientConnection;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use super::cancel::Cancel;
use super::counters::Counters;
use super::lane::{Answer, Ground, Lane, common_headers, value};
use super::link::{drain, read_whole};
use super::lookup::Lookups;
use super::proxy::Proxy;
use super::signing::Signing;
use super::tap::Tap;
use super::tls::{self, Tls};
use super::url::Endpoint;
use super::{Config, answer};
use crate::auth::{self, Auth, Context, Handshake, Secret};
use crate::{Error, Result};

/// No answer to such a question takes longer: where many addresses are tried in turn, a dead one must not hold the others up.
const LONGEST: Duration = Duration::from_secs(30);
/// Nor is one longer, and a page need not be read to its end.
const MAX_BODY: u64 = 1024 * 1024;
/// The longest answer of a token endpoint.
const MAX_FORM_ANSWER: u64 = 128 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// `GET`.
    Get,
    /// `POST` of XML.
    Post {
        /// The XML.
        body: &'a [u8],
        /// The operation's URI, without quotes, for SOAP.
        soap_action: Option<&'a str>,
        /// The mailbox by which Exchange finds the right machine.
        mailbox: Option<&'a str>,
    },
    /// `POST` of a form to a token endpoint, which answers with JSON, also where it refuses. Whoever wipes [`Told::body`]
    /// has wiped all of its answer.
    Form {
        /// `name=value` pairs.
        body: &'a [u8],
    },
}

/// An answer as it came, with all that it quotes of secrets: it is to be read, and what is said of it goes through
/// [`Secrets`](crate::auth::Secrets) on its way to people. Otherwise a server whose cookie is a word of an answer could make it unreadable.
#[derive(Clone, Debug)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The body; of a redirect or a 401, nothing.
    pub body: Vec<u8>,
    /// `Location`.
    pub location: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The ways to sign in that the server offers (`WWW-Authenticate`), by their names, as it said when it was asked without.
    pub offers: Vec<String>,
    /// The ways by which the sign-in could go that this was asked with; none without one.
    pub ways: &'static [&'static str],
    /// Whether a sign-in was sent.
    pub signed: bool,
    /// Where it was refused, or could not be sent: what more is known.
    pub(crate) refusal: Option<String>,
    /// What TLS agreed on; `None` over plain http.
    pub session: Option<Session>,
    pub(crate) headers: HeaderMap,
}

impl Told {
    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// An answer made by hand, for tests of those who read it.
    #[cfg(test)]
    pub(crate) fn of(status: u16, body: &str) -> Told {
        let body = body.as_bytes().to_vec();
        let headers = HeaderMap::new();
        Told {
            status,
            body,
            location: None,
            retry_after: None,
            offers: Vec::new(),
            ways: &["Basic"],
            signed: false,
            refusal: None,
            session: None,
            headers,
        }
    }
}

/// What TLS agreed on with a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// As `TLS 1.3`.
    pub version: &'static str,
    /// The cipher suite's name in the standard.
    pub suite: String,
    chain: Vec<CertificateDer<'static>>,
}

impl Session {
    pub(super) fn of(tls: &ClientConnection) -> Session {
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        let suite = tls.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite())).unwrap_or_default();
        let chain = tls.peer_certificates().unwrap_or_default();
        Session { version, suite, chain: chain.iter().map(|c| c.clone().into_owned()).collect() }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Session { version, suite, chain } = self;
        f.debug_struct("Session")
            .field("version", version)
            .field("suite", suite)
            .field("certificates", &chain.len())
            .finish()
    }
}

/// Asks. What the links of a client have in common, it has too.
#[derive(Clone, Debug)]
pub struct Asker {
    /// How to talk to servers.
    pub config: Config,
    /// Whom to trust.
    pub tls: Arc<Tls>,
    /// Where sockets are counted.
    pub counters: Arc<Counters>,
    /// The look-ups of names.
    pub lookups: Arc<Lookups>,
    /// What is told of it.
    pub tap: Arc<Tap>,
}

impl Asker {
    /// Asks once, and gives what came, whatever the status. A redirect is not followed.
    ///
    /// The sign-in goes only to a server that asks for it (401) and offers a way that it can go, and only over TLS: who merely
    /// serves pages under a company's name never sees a password. A server that does not name tokens is asked with an empty one first,
    /// since some name them only then.
    ///
    /// ```no_run
    /// use ewsnotify::net::{Asker, Cancel, Config, Endpoint, Lookups, Question, Tls};
    ///
    /// let tls = Tls::new(None)?.into();
    /// let (counters, lookups, tap) = (Default::default(), Lookups::system(), Default::default());
    /// let asker = Asker { config: Config::default(), tls, counters, lookups, tap };
    /// let endpoint = Endpoint::parse("mail.example.test")?;
    /// let told = asker.ask(&endpoint, &Question::Get, None, &Cancel::new())?;
    /// println!("it offers {:?} over {:?}", told.offers, told.session);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the network; `Limit` for an answer beyond 1 MiB; `Closed` where cancelled.
    pub fn ask(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
        auth: Option<&dyn Auth>,
        cancel: &Cancel,
    ) -> Result<Told> {
        if let Some(auth) = auth {
            for secret in auth.secrets() {
                self.tap.secrets.add_beside(&secret, &[&auth.who(), endpoint.host()]);
            }
        }
        if let Some(proxy) = self.proxy(endpoint) {
            proxy.tell_secrets(&self.tap.secrets);
        }
        self.tap.secrets.clean_result(self.asked(endpoint, question, auth, cancel))
    }

    fn asked(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
        auth: Option<&dyn Auth>,
        cancel: &Cancel,
    ) -> Result<Told> {
        let config = &self.config;
        let auth = auth.filter(|_| endpoint.is_https());
        let ground = Arc::new(Ground {
            endpoint: Arc::new(endpoint.clone()),
            config: config.clone(),
            tls: self.tls.clone(),
            counters: self.counters.clone(),
            tap: self.tap.clone(),
            lookups: self.lookups.clone(),
            signs_connections: auth.is_some_and(|a| a.signs_connections()),
            wants_session: true,
        });
        let mut lane = Lane::new(&ground, auth.map_or_else(|| Box::new(Nobody) as _, |a| a.start()));
        let allowed = config.call_timeout.min(LONGEST);
        let mut until = Instant::now() + allowed;
        let mut signing = Signing::new(auth, Context { endpoint, certificate: None, cancel, until });
        let (mut signed, mut offers) = (false, Vec::new());
        loop {
            signing.begin(&lane, until, allowed);
            let now = match *question {
                Question::Post { soap_action, mailbox, .. } if signing.is_empty() => {
                    Question::Post { body: &[], soap_action, mailbox }
                }
                question => question,
            };
            let sent = self.send(&lane, endpoint, &now);
            until = lane.slot.until();
            let mut answer = match sent {
                Err(e) if signing.begins_anew(&mut lane, &e, true)? => continue,
                sent => sent?,
            };
            if answer.status == 401 {
                if offers.is_empty() || signing.feels() {
                    let more = auth::schemes(&answer::challenges(&answer)).into_iter();
                    let more: Vec<String> = more.filter(|name| !offers.contains(name)).collect();
                    offers.extend(more);
                }
                if signing.asked(&mut lane, &mut answer)? {
                    signed |= !signing.is_empty() && !signing.feels();
                    drain(&mut answer)?;
                    continue;
                }
            }
            signing.finish(&mut lane, &answer)?;
            let location = lane.slot.take_location().map(|location| location.expose().to_owned());
            if signing.feels() && !matches!(answer.status, 408 | 429 | 502..=504) {
                // Whatever it says to an empty token, unless it has trouble: it wants a sign-in, and names none of ours.
                (answer.status, answer.refusal) = (401, None);
            }
            let is_form = matches!(question, Question::Form { .. });
            let wanted = !answer::is_redirect(answer.status) && (answer.status != 401 || is_form);
            let body = match wanted {
                true => {
                    let max = if is_form { MAX_FORM_ANSWER } else { MAX_BODY };
                    let longer =
                        || Error::too_large(format!("{endpoint}: the answer is longer than {max} bytes"));
                    std::mem::take(&mut *read_whole(&mut answer, max)?.ok_or_else(longer)?)
                }
                false => Vec::new(),
            };
            return Ok(Told {
                status: answer.status,
                body,
                location: location.or_else(|| answer.header("location").map(str::to_owned)),
                retry_after: answer::retry_after(&answer),
                offers,
                ways: auth.map_or(&[], |auth| auth.ways()),
                signed,
                refusal: answer.refusal.take(),
                session: lane.slot.session(),
                headers: std::mem::take(&mut answer.headers),
            });
        }
    }

    /// The proxy by which a server is reached, if any.
    pub(crate) fn proxy(&self, endpoint: &Endpoint) -> Option<&Proxy> {
        self.config.proxy_for(endpoint)
    }

    fn send(&self, lane: &Lane, endpoint: &Endpoint, question: &Question<'_>) -> Result<Answer> {
        let uri = endpoint.uri(endpoint.path())?;
        match *question {
            Question::Get => {
                let mut request = Request::new(());
                *request.uri_mut() = uri;
                common_headers(request.headers_mut(), &self.config, None)?;
                lane.show(&request, &[]);
                lane.run(request)
            }
            Question::Post { body, soap_action, mailbox } => {
                let mut request = Request::new(body);
                *request.method_mut() = Method::POST;
                *request.uri_mut() = uri;
                let headers = request.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"));
                if let Some(action) = soap_action {
                    let action = value("the SOAP action", &format!("\"{action}\""))?;
                    headers.insert(HeaderName::from_static("soapaction"), action);
                }
                common_headers(headers, &self.config, mailbox)?;
                lane.show(&request, body);
                lane.run(request)
            }
            Question::Form { body } => {
                let mut request = Request::new(body);
                *request.method_mut() = Method::POST;
                *request.uri_mut() = uri;
                let headers = request.headers_mut();
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(header::CONTENT_TYPE, form);
                common_headers(headers, &self.config, None)?;
                headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
                lane.show(&request, body);
                lane.run(request)
            }
        }
    }

    /// When the server's certificate expires, if the machine's clock and the chain allow to tell.
    ///
    /// The certificate was found good already; it is looked at again with a clock that is far ahead, and what is said of it then
    /// has the date.
    pub fn expires(&self, endpoint: &Endpoint, session: &Session) -> Option<SystemTime> {
        let roots = Arc::new(self.tls.roots().ok()?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok()?;
        let (leaf, rest) = session.chain.split_first()?;
        let name: ServerName<'_> = endpoint.server_name().ok()?;
        let far = UnixTime::since_unix_epoch(Duration::from_secs(253_402_300_799));
        match verifier.verify_server_cert(leaf, rest, &name, &[], far) {
            Err(rustls::Error::InvalidCertificate(e)) => tls::expired_at(&e),
            _ => None,
        }
    }
}

/// Nobody signs in.
struct Nobody;

impl Handshake for Nobody {
    fn first(&mut self, _: &Context<'_>) -> Result<Option<Secret>> {
        Ok(None)
    }

    fn challenged(&mut self, _: &[String], _: &Context<'_>) -> Result<auth::Answer> {
        Ok(auth::Answer::Refused)
    }
}
