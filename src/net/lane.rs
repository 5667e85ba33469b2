//! One `ureq` agent with at most one socket: what a stream owns, and what the pool of calls keeps.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version, header};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout};
use ureq::{Agent, AsSendBody, BodyReader};

use super::ask::Session;
use super::connect_to;
use super::counters::Counters;
use super::lookup::Lookups;
use super::proxy::Proxy;
use super::slot::{Phase, Slot};
use super::socket::{Socket, Stop};
use super::tap::Tap;
use super::tls::Tls;
use super::transport::{Forward, HandshakeError, Wire, handshake};
use super::tunnel::Tunnel;
use super::url::{Endpoint, Host};
use super::wire_log::{self, Coming, Way};
use super::{Config, Cookies, Post};
use crate::auth::Handshake;
use crate::{Error, ErrorKind, Result};

/// An idle socket is not used again after this: servers close theirs after a minute or two, and a request that meets the
/// closing is a request lost.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(45);

/// What all lanes of a link have in common.
#[derive(Debug)]
pub(super) struct Ground {
    pub endpoint: Arc<Endpoint>,
    pub config: Config,
    pub tls: Arc<Tls>,
    pub counters: Arc<Counters>,
    pub lookups: Arc<Lookups>,
    pub tap: Arc<Tap>,
    /// Whether a connection may be signed in: see [`Auth::signs_connections`](crate::auth::Auth::signs_connections).
    pub signs_connections: bool,
    /// Whether [`Slot::session`] is to be kept.
    pub wants_session: bool,
}

pub(super) struct Lane {
    agent: Agent,
    pub slot: Arc<Slot>,
    /// The signing in on this lane's socket.
    pub handshake: Box<dyn Handshake>,
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Of status 456: what its status line says, which should be a URL.
    pub unlock: Option<String>,
    /// Whether the connection ends with it.
    pub closes: bool,
    /// Of a 401: what is known of it beside the offers.
    pub refusal: Option<String>,
    body: BodyReader<'static>,
    slot: Arc<Slot>,
    /// What of the body the wire log has not shown yet.
    coming: Option<Coming>,
    /// The error that ended the body: `ureq` forgets it and would tell a clean end to the next read.
    broken: Option<(ErrorKind, String)>,
}

impl Lane {
    pub fn new(ground: &Arc<Ground>, handshake: Box<dyn Handshake>) -> Lane {
        let proxy = ground.config.proxy_for(&ground.endpoint).map(Proxy::to_string);
        let slot = Arc::new(Slot::new(ground.endpoint.clone(), proxy, ground.tap.clone()));
        // No time-out of ureq's: the slot has one instant for everything, and the transport keeps to it.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(MAX_IDLE)
            .build();
        let agent =
            Agent::with_parts(config, Connect { ground: ground.clone(), slot: slot.clone() }, NoResolver);
        Lane { agent, slot, handshake }
    }

    /// Sends one request and waits for the head of its answer. [`Slot::begin`] comes before.
    pub fn send(&self, uri: Uri, post: &Post<'_>, config: &Config) -> Result<Answer> {
        let request = request(uri, post, config)?;
        if let Some(cookie) = post.cookies.and_then(Cookies::header) {
            self.slot.sign_with("Cookie", cookie);
        }
        self.show(&request, post.body);
        self.run(request)
    }

    /// Has the wire log show a request, when it goes out.
    pub fn show<B>(&self, request: &Request<B>, body: &[u8]) {
        if self.slot.tap().wire_log.is_on() {
            let first = format!("{} {}", request.method(), request.uri());
            let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
            let body = wire_log::body(content_type, body, body.len() as u64);
            self.slot.show_request(wire_log::head(&first, request.headers()), body);
        }
    }

    /// The same for any request.
    pub fn run(&self, request: Request<impl AsSendBody>) -> Result<Answer> {
        let response = self.agent.run(request).map_err(|e| {
            let error = blurred(&self.slot, e);
            self.slot.say(Way::In, &format!("({error})"), "");
            error
        })?;
        self.slot.enter(Phase::Body);
        let (parts, body) = Response::into_parts(response);
        let closes = parts.version < Version::HTTP_11
            || parts.headers.get_all(header::CONNECTION).iter().any(|v| {
                v.to_str().is_ok_and(|v| v.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
            });
        for cookie in
            parts.headers.get_all(header::SET_COOKIE).iter().filter_map(|v| Cookies::secret(v.to_str().ok()?))
        {
            self.slot.tap().secrets.add(&cookie);
        }
        if self.slot.tap().wire_log.is_on() {
            let first = format!("{:?} {}", parts.version, parts.status);
            self.slot.say(Way::In, &wire_log::head(&first, &parts.headers), "");
        }
        Ok(Answer {
            status: parts.status.as_u16(),
            closes,
            refusal: None,
            headers: parts.headers,
            unlock: self.slot.take_unlock(),
            body: body.into_reader(),
            slot: self.slot.clone(),
            coming: None,
            broken: None,
        })
    }
}

impl Answer {
    /// Some bytes of the body; 0 at its end.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        if let Some((kind, text)) = &self.broken {
            return Err(Error::new(*kind, text.clone()));
        }
        // Also where bytes are at hand still: nothing comes after a close.
        if self.slot.is_cancelled() {
            return Err(self.slot.stopped(Stop::Cancelled, None));
        }
        loop {
            match self.body.read(buf) {
                Ok(n) => {
                    self.show(&buf[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let error = blurred(&self.slot, ureq::Error::from(e));
                    self.show(&[]);
                    self.slot.say(Way::In, &format!("({error})"), "");
                    // After a time-out the stream stands where it stood, and reading may go on.
                    if error.kind() != ErrorKind::Timeout {
                        self.broken = Some((error.kind(), error.to_string()));
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Has the wire log show what came of the body; nothing is its end.
    fn show(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            if let Some(text) = self.coming.take().and_then(|mut coming| coming.take()) {
                self.slot.say(Way::In, "(body)", &text);
            }
        } else if self.slot.tap().wire_log.is_on() {
            let new = || Coming::new(self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()));
            self.coming.get_or_insert_with(new).add(bytes);
        }
    }

    /// Has the wire log show what came of a body that goes on.
    pub fn show_so_far(&mut self) {
        if let Some(text) = self.coming.as_mut().and_then(Coming::take_whole) {
            self.slot.say(Way::In, "(body)", &text);
        }
    }

    /// The value of a header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.show(&[]);
    }
}

fn request<'a>(uri: Uri, post: &Post<'a>, config: &Config) -> Result<Request<&'a [u8]>> {
    let mut request = Request::new(post.body);
    *request.method_mut() = ureq::http::Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"));
    let action = value("the SOAP action", &format!("\"{}\"", post.soap_action))?;
    headers.insert(HeaderName::from_static("soapaction"), action);
    let public = config.public_folder_mailbox.as_deref();
    common_headers(headers, config, public.or(post.anchor_mailbox))?;
    if let Some(public) = public {
        let public = value("option public_folder_mailbox", public)?;
        headers.insert(HeaderName::from_static("x-publicfoldermailbox"), public);
    }
    if post.cookies.is_some() {
        headers.insert(HeaderName::from_static("x-preferserveraffinity"), HeaderValue::from_static("true"));
    }
    Ok(request)
}

/// What every request says.
pub(super) fn common_headers(headers: &mut HeaderMap, config: &Config, mailbox: Option<&str>) -> Result<()> {
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/xml"));
    // A compressed stream is held back until a block is full, heartbeats and all.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::USER_AGENT, value("user_agent", &config.user_agent)?);
    if let Some(mailbox) = mailbox {
        headers.insert(HeaderName::from_static("x-anchormailbox"), value("the mailbox", mailbox)?);
    }
    headers.insert(HeaderName::from_static("client-request-id"), value("the request id", &guid())?);
    headers.insert(HeaderName::from_static("return-client-request-id"), HeaderValue::from_static("true"));
    Ok(())
}

pub(super) fn value(what: &str, text: &str) -> Result<HeaderValue> {
    let bad = |why| Error::new(ErrorKind::Invalid, format!("{what} cannot be sent in a header: it {why}"));
    if text.len() > 1024 {
        return Err(bad("is longer than 1,024 bytes"));
    }
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| bad("has a control character in it"))
}

/// A random UUID (version 4), by which an administrator finds a request in the server's log.
fn guid() -> String {
    let bits = fastrand::u128(..) & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The exact error, where the transport left one; else what `ureq` itself found.
fn blurred(slot: &Slot, error: ureq::Error) -> Error {
    if let Some(exact) = slot.take_error() {
        return exact;
    }
    let endpoint = slot.endpoint();
    match error {
        ureq::Error::Io(e) => slot.stopped(Stop::Io(e), None),
        ureq::Error::BodyStalled => slot.stopped(Stop::Io(io::ErrorKind::UnexpectedEof.into()), None),
        ureq::Error::Protocol(e) => {
            Error::new(ErrorKind::Protocol, format!("{endpoint}: the answer is not good HTTP: {e}"))
        }
        ureq::Error::LargeResponseHeader(..) => {
            Error::new(ErrorKind::Limit, format!("{endpoint}: the head of the answer is too long"))
        }
        e => Error::new(ErrorKind::Protocol, format!("{endpoint}: the request failed: {e}")),
    }
}

/// Looks up, connects, has a proxy connect, shakes hands.
#[derive(Debug)]
struct Connect {
    ground: Arc<Ground>,
    slot: Arc<Slot>,
}

impl Connector<()> for Connect {
    type Out = Wire;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<Wire>, ureq::Error> {
        if !self.slot.may_connect() {
            let text = format!(
                "{}: the connection was closed in the middle of a sign-in by NTLM or Kerberos, several times, by the server or a proxy on \
                 the way: they need connections that stay",
                self.ground.endpoint
            );
            return Err(self.slot.fail(Error::new(ErrorKind::Io, text)));
        }
        self.establish().map(Some).map_err(|e| self.slot.fail(e))
    }
}

impl Connect {
    fn establish(&self) -> Result<Wire> {
        let Ground { endpoint, config, tls, counters, .. } = &*self.ground;
        // Before any socket: what is wrong with our own files is no matter of the server's.
        let client = if endpoint.is_https() {
            let client = ClientConnection::new(tls.client_config()?, endpoint.server_name()?);
            Some(client.map_err(|e| tls.explain(endpoint, &e))?)
        } else {
            None
        };
        let (host, port) = connect_to::place(&config.connect_to, endpoint);
        let proxy = config.proxy_for(endpoint);
        let addresses = match proxy {
            Some(proxy) => self.addresses(proxy.host(), proxy.port(), " in option proxy")?,
            None => self.addresses(host, port, "")?,
        };
        let (socket, registration) = self.slot.step(Phase::Connect, config.connect_timeout, |limits| {
            Socket::connect(&addresses, limits, counters)
        })?;
        self.slot.number();
        let mut forward = None;
        match proxy {
            // As curl has it: what would only be sent on is sent on, and all else gets a connection. So does a sign-in by NTLM: who sends
            // requests on does so by connections that others use too, and they would be signed in as well.
            Some(proxy)
                if proxy.sends_on()
                    && client.is_none()
                    && endpoint.is_at(host, port)
                    && !self.ground.signs_connections =>
            {
                forward = Some(Forward::new(endpoint, proxy));
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy, host, port, &config.user_agent);
                self.slot.say_lazily(Way::Out, || tunnel.shown());
                let dug = self
                    .slot
                    .step(Phase::Tunnel, config.connect_timeout, |limits| tunnel.dig(&socket, limits));
                if let Some(answer) = tunnel.answer() {
                    self.slot.say(Way::In, answer, "");
                }
                dug?.map_err(|refusal| refusal.into_error(endpoint, proxy))?;
            }
            None => {}
        }
        let Some(mut client) = client else {
            self.slot.connected(&socket, registration);
            return Ok(Wire::new(socket, None, forward, self.slot.clone()));
        };
        let mut refused = None;
        self.slot.step(Phase::Handshake, config.connect_timeout, |limits| {
            match handshake(&mut client, &socket, limits) {
                Err(HandshakeError::Stop(stop)) => Err(stop),
                Err(HandshakeError::Tls(e)) => {
                    refused = Some(e);
                    Ok(())
                }
                Ok(()) => Ok(()),
            }
        })?;
        if let Some(e) = refused {
            return Err(tls.explain(endpoint, &e));
        }
        self.slot.connected(&socket, registration);
        if self.ground.wants_session {
            self.slot.keep_session(Session::of(&client));
        }
        Ok(Wire::new(socket, Some(Box::new(client)), None, self.slot.clone()))
    }

    /// Where to connect to. `option` says where the host's name stands, for texts.
    fn addresses(&self, host: &Host, port: u16, option: &str) -> Result<Vec<SocketAddr>> {
        let Ground { endpoint, config, counters, lookups, .. } = &*self.ground;
        let mut found = match host {
            Host::Ip(ip, _) => vec![*ip],
            Host::Name(name) => {
                self.slot.enter(Phase::LookUp);
                let limits = self.slot.limits();
                let until = limits.until.min(std::time::Instant::now() + config.lookup_timeout);
                lookups
                    .find(name, option, until, &limits.cancel, counters)
                    .map_err(|e| e.context(endpoint))?
            }
        };
        if endpoint.is_loopback() {
            // "localhost" stands for this machine where clear text is concerned, so it has to be this machine.
            found.retain(|ip| ip.to_canonical().is_loopback());
        }
        if found.is_empty() {
            let text = format!("{endpoint}: {:?} has no address of this machine", endpoint.host());
            return Err(Error::new(ErrorKind::Connect, text));
        }
        Ok(alternate(found).into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

/// The families in turn, beginning with the resolver's first choice: a family without a route costs one attempt.
fn alternate(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = found.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        found.into_iter().partition(|ip| ip.is_ipv6() == first_is_v6);
    let mut both = (first.into_iter().fuse(), second.into_iter().fuse());
    let mut out = Vec::new();
    loop {
        let before = out.len();
        out.extend(both.0.next());
        out.extend(both.1.next());
        if out.len() == before {
            return out;
        }
    }
}

/// `ureq` asks its resolver before it looks whether a socket is there already; ours is asked by [`Connect`], when needed.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("slot", &self.slot).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Administrators look for this form in the server's logs.
    #[test]
    fn a_guid_looks_like_one() {
        for _ in 0..1000 {
            let id = guid();
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        }
        assert_ne!(guid(), guid());
    }

    // A host with a dead IPv6 route would cost a time-out for each of its IPv6 addresses.
    #[test]
    fn address_families_take_turns() {
        let ips = |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|t| t.parse().unwrap()).collect() };
        let given = ips(&["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(alternate(given), ips(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]));
        assert_eq!(alternate(Vec::new()), ips(&[]));
    }

    // A line end in a header's value would let a mailbox name write headers.
    #[test]
    fn header_values_cannot_break_out() {
        assert!(value("x", "a\r\nX-Evil: 1").is_err());
        assert!(value("x", &"a".repeat(2000)).is_err());
        assert!(value("x", "j\u{f6}rg@example.test").is_ok());
    }
}
