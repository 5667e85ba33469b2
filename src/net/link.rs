//! Requests over HTTP: whole answers from a small pool of kept sockets, hanging answers on sockets of their own.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zeroize::Zeroizing;

use super::answer::{self, Target};
use super::cancel::Cancel;
use super::counters::Counters;
use super::lane::{Answer, Ground, Lane, MAX_IDLE};
use super::lookup::Lookups;
use super::signing::Signing;
use super::tap::Tap;
use super::tls::Tls;
use super::url::Endpoint;
use super::{Config, Link, Opened, Post, Reply, Stream};
use crate::auth::{Auth, Context};
use crate::{Error, ErrorKind, Result};

/// Sockets kept for calls. More may be in use at a time, these are those that wait for the next call.
const MAX_KEPT: usize = 4;
const MAX_REDIRECTS: u32 = 3;
/// What is read of a page that nobody wants, so that its socket can be used again.
const MAX_DRAIN: u64 = 64 * 1024;
/// A long answer must bring so much in each `call_timeout`: a mail over a slow line takes its time, a server that sends a
/// byte now and then does not get it.
const PROGRESS: usize = 256 * 1024;
/// Enough of a body to see whether it is XML.
const BEGIN: usize = 4096;
/// The longest declaration and comments before the root element of a long answer.
const MAX_BEGIN: usize = 64 * 1024;

/// A server says something at once, and then every minute at least.
const GATHERED: &str = "a proxy or a load balancer on the way may gather answers before it passes them on: let it pass EWS through \
                        unbuffered (nginx: proxy_buffering off), or use mode=pull";

/// A link to one server with one sign-in.
pub struct HttpLink {
    ground: Arc<Ground>,
    auth: Arc<dyn Auth>,
    kept: Mutex<Vec<(Lane, Instant)>>,
}

impl HttpLink {
    /// Refuses at once what the sign-in must not do (a password in clear text to another machine). Opens nothing.
    pub fn new(
        endpoint: Endpoint,
        config: Config,
        auth: Arc<dyn Auth>,
        tls: Arc<Tls>,
        counters: Arc<Counters>,
    ) -> Result<HttpLink> {
        HttpLink::with_lookups(endpoint, config, auth, tls, counters, Lookups::system())
    }

    /// The same with look-ups of one's own.
    pub fn with_lookups(
        endpoint: Endpoint,
        config: Config,
        auth: Arc<dyn Auth>,
        tls: Arc<Tls>,
        counters: Arc<Counters>,
        lookups: Arc<Lookups>,
    ) -> Result<HttpLink> {
        auth.check(&endpoint, config.allow_plaintext)?;
        let signs_connections = auth.signs_connections();
        let ground = Ground {
            endpoint: Arc::new(endpoint),
            config,
            tls,
            counters,
            lookups,
            tap: Arc::default(),
            signs_connections,
            wants_session: false,
        };
        Ok(HttpLink { ground: Arc::new(ground), auth, kept: Mutex::default() }.tapped(Arc::default()))
    }

    /// The same with a tap that it shares with others. Before the first request.
    pub fn tapped(mut self, tap: Arc<Tap>) -> HttpLink {
        let who = self.auth.who();
        for secret in self.auth.secrets() {
            tap.secrets.add_beside(&secret, &[&who, self.ground.endpoint.host()]);
        }
        if let Some(proxy) = self.ground.config.proxy_for(&self.ground.endpoint) {
            proxy.tell_secrets(&tap.secrets);
        }
        if let Some(ground) = Arc::get_mut(&mut self.ground) {
            ground.tap = tap;
        }
        self
    }

    /// Whom this talks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.ground.endpoint
    }

    /// Sends, signs when asked to, follows redirects within the server, until there is an answer to look at.
    fn exchange(&self, lane: &mut Lane, post: &Post<'_>, cancel: &Cancel) -> Result<Answer> {
        let Ground { endpoint, config, .. } = &*self.ground;
        let mut until = Instant::now() + config.call_timeout;
        let (mut path, mut redirects) = (endpoint.path().to_owned(), MAX_REDIRECTS);
        let mut signing =
            Signing::new(Some(&*self.auth), Context { endpoint, certificate: None, cancel, until });
        signing.first(lane)?;
        // A token's issuer may have taken its time: that is not the server's.
        until = until.max(Instant::now() + config.call_timeout);
        loop {
            signing.begin(lane, until, config.call_timeout);
            let uri = endpoint.uri(&path)?;
            let sent = match signing.is_empty() {
                true => lane.send(uri, &Post { body: &[], ..*post }, config),
                false => lane.send(uri, post, config),
            };
            until = lane.slot.until();
            let mut answer = match sent {
                Err(e) if signing.begins_anew(lane, &e, is_repeatable(post))? => continue,
                sent => sent?,
            };
            if let Some(cookies) = post.cookies {
                answer::set_cookies(&answer, cookies);
                cookies.secrets().iter().for_each(|cookie| self.ground.tap.secrets.add(cookie));
            }
            if answer::is_redirect(answer.status) {
                path = match answer::redirect(endpoint, &answer, redirects) {
                    Target::Here(path) => self.harmless(path, answer.status)?,
                    Target::Refused(error) => return Err(error),
                };
                redirects -= 1;
                signing.first(lane)?;
            } else if answer.status != 401 {
                signing.finish(lane, &answer)?;
                return Ok(answer);
            } else if !signing.challenged(lane, &mut answer)? {
                return Ok(answer);
            }
            drain(&mut answer)?;
        }
    }

    /// A path is written into logs, the server's and ours: one that has a secret in it is not asked for.
    fn harmless(&self, path: String, status: u16) -> Result<String> {
        let endpoint = &self.ground.endpoint;
        // The transport has put stars in its place.
        if !path.contains("******") {
            return Ok(path);
        }
        let text = format!(
            "{endpoint}: HTTP {status}: it redirects to {}, which quotes what the sign-in was sent with, and is not followed",
            answer::cut(&path, 200)
        );
        Err(Error::new(ErrorKind::Http, text).with_http_status(status))
    }

    /// [`HttpLink::exchange`], on a kept socket if there is one.
    fn exchange_kept(&self, post: &Post<'_>, cancel: &Cancel) -> Result<(Lane, Answer)> {
        if let Some(mut lane) = self.take_kept() {
            match self.exchange(&mut lane, post, cancel) {
                Err(e) if e.kind() == ErrorKind::Io && lane.slot.was_stale() && is_repeatable(post) => {}
                outcome => return outcome.map(|answer| (lane, answer)),
            }
        }
        let mut lane = self.lane();
        let answer = self.exchange(&mut lane, post, cancel)?;
        Ok((lane, answer))
    }

    fn lane(&self) -> Lane {
        Lane::new(&self.ground, self.auth.start())
    }

    fn take_kept(&self) -> Option<Lane> {
        let mut kept = self.kept();
        kept.retain(|(_, since)| since.elapsed() < MAX_IDLE);
        kept.pop().map(|(lane, _)| lane)
    }

    fn keep(&self, lane: Lane) {
        lane.slot.end();
        let mut kept = self.kept();
        kept.retain(|(_, since)| since.elapsed() < MAX_IDLE);
        if kept.len() < MAX_KEPT {
            kept.push((lane, Instant::now()));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Lane, Instant)>> {
        // Nothing panics while it is held.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole answer, if it is one that EWS gives.
    fn whole(&self, answer: &mut Answer) -> Result<Reply> {
        self.check_head(answer)?;
        let Ground { endpoint, config, .. } = &*self.ground;
        let mut body = read_whole(answer, config.max_response_bytes)?.ok_or_else(|| {
            let most = config.max_response_bytes;
            Error::too_large(format!(
                "{endpoint}: the answer is longer than {most} bytes (option max_response_bytes)"
            ))
        })?;
        if !answer::looks_like_xml(&body) {
            return Err(self.not_xml(answer, &body));
        }
        let body = std::mem::take(&mut *body);
        Ok(Reply { status: answer.status, body, date: answer::date(answer) })
    }

    /// The same piece by piece.
    fn pieces(
        &self,
        lane: &Lane,
        answer: &mut Answer,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.check_head(answer)?;
        let allowed = self.ground.config.call_timeout;
        let (mut piece, mut came) = ([0; 8192], 0);
        let mut read = |answer: &mut Answer, piece: &mut [u8]| -> Result<usize> {
            let n = answer.read(piece)?;
            came += n;
            if came >= PROGRESS {
                came = 0;
                lane.slot.allow(Instant::now() + allowed, allowed);
            }
            Ok(n)
        };
        let mut begin = Zeroizing::new(Vec::new());
        while begin.len() < BEGIN || (begin.len() < MAX_BEGIN && !answer::looks_like_xml(&begin)) {
            match read(answer, &mut piece)? {
                0 => break,
                n => append(&mut begin, &piece[..n]),
            }
        }
        if !answer::looks_like_xml(&begin) {
            return Err(self.not_xml(answer, &begin));
        }
        take(&begin)?;
        loop {
            match read(answer, &mut piece)? {
                0 => return Ok(()),
                n => take(&piece[..n])?,
            }
        }
    }

    fn check_head(&self, answer: &Answer) -> Result<()> {
        let endpoint = &*self.ground.endpoint;
        if !matches!(answer.status, 200 | 500) {
            return Err(answer::refused(
                endpoint,
                answer,
                &*self.auth,
                self.ground.config.tls.certificate.is_some(),
            ));
        }
        answer::encoded(endpoint, answer).map_or(Ok(()), Err)
    }

    fn not_xml(&self, answer: &Answer, body: &[u8]) -> Error {
        // Enough for the excerpt.
        let begin = Zeroizing::new(String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned());
        answer::not_xml(&self.ground.endpoint, answer, &self.ground.tap.secrets.redact(&begin))
    }
}

impl Link for HttpLink {
    fn call(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Reply> {
        self.shown(self.get(post, cancel))
    }

    fn call_into(
        &self,
        post: &Post<'_>,
        cancel: &Cancel,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.shown(self.get_into(post, cancel, take))
    }

    fn open(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Opened> {
        self.shown(self.hang(post, cancel))
    }

    fn whom(&self) -> String {
        self.ground.endpoint.to_string()
    }
}

impl HttpLink {
    /// What comes of a request, its error without what the server quotes of our secrets.
    fn shown<T>(&self, result: Result<T>) -> Result<T> {
        self.ground.tap.secrets.clean_result(result)
    }

    fn get(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Reply> {
        let (lane, mut answer) = self.exchange_kept(post, cancel)?;
        let reply = self.whole(&mut answer)?;
        drop(answer);
        // After a fault some servers (gromox) send a second answer that nobody asked for: that socket is not used again.
        if reply.status == 200 {
            self.keep(lane);
        }
        Ok(reply)
    }

    fn get_into(
        &self,
        post: &Post<'_>,
        cancel: &Cancel,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (lane, mut answer) = self.exchange_kept(post, cancel)?;
        self.pieces(&lane, &mut answer, take)?;
        let status = answer.status;
        drop(answer);
        if status == 200 {
            self.keep(lane);
        }
        Ok(())
    }

    fn hang(&self, post: &Post<'_>, cancel: &Cancel) -> Result<Opened> {
        let endpoint = &*self.ground.endpoint;
        let mut lane = self.lane();
        let mut answer = self.exchange(&mut lane, post, cancel).map_err(|e| match e.kind() {
            ErrorKind::Timeout => e.advice(GATHERED),
            _ => e,
        })?;
        if answer.status != 200 {
            return self.whole(&mut answer).map(Opened::Whole);
        }
        if let Some(error) = answer::encoded(endpoint, &answer) {
            return Err(error);
        }
        if answer::says_page(&answer) {
            let mut begin = Zeroizing::new(vec![0; 4096]);
            let mut len = 0;
            // What comes of it before it ends or fails is enough for a text.
            while len < begin.len() {
                match answer.read(&mut begin[len..]) {
                    Ok(n) if n > 0 => len += n,
                    Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
                    _ => break,
                }
            }
            return Err(self.not_xml(&answer, &begin[..len]));
        }
        // Nobody asks for them any more, and the stream may last.
        answer.headers = Default::default();
        let idle = self.ground.config.idle_timeout;
        Ok(Opened::Stream(Box::new(HttpStream { answer, lane, idle, silent: true })))
    }
}

impl fmt::Debug for HttpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLink").field("endpoint", &self.ground.endpoint).field("auth", &self.auth).finish()
    }
}

/// A hanging answer and the socket under it, which is closed with it.
struct HttpStream {
    answer: Answer,
    lane: Lane,
    idle: std::time::Duration,
    /// Nothing has come yet.
    silent: bool,
}

impl Stream for HttpStream {
    fn read(&mut self, buf: &mut [u8], deadline: Option<Instant>) -> Result<usize> {
        let now = Instant::now();
        let idle = now + self.idle;
        match deadline.filter(|d| *d < idle) {
            Some(at) => self.lane.slot.allow(at, at.saturating_duration_since(now)),
            None => self.lane.slot.allow(idle, self.idle),
        }
        let read = self.answer.read(buf);
        self.answer.show_so_far();
        match read {
            Err(e) if self.silent && e.kind() == ErrorKind::Timeout => Err(e.advice(GATHERED)),
            other => {
                self.silent = false;
                other
            }
        }
    }
}

/// Whether a request may be sent once more when a kept socket turned out to be closed and no byte of an answer came.
///
/// Most likely the server closed it for its age while our request was on the way, and never saw the request. If it did see
/// it, a repetition is harmless for what is sent here: getting and syncing only read; a second Subscribe leaves a
/// subscription that nobody asks, which the server forgets; a second Unsubscribe says that there is nothing. Only GetEvents
/// is never repeated: servers without watermarks (gromox) forget what they have answered, so the repetition would hide a
/// gap that has to be told.
fn is_repeatable(post: &Post<'_>) -> bool {
    !post.soap_action.ends_with("/GetEvents")
}

/// Reads an answer to its end; `None` if it is longer than `max`. It may quote what was sent: wiped, but where it is passed on.
pub(super) fn read_whole(answer: &mut Answer, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let said: Option<u64> = answer.header("content-length").and_then(|v| v.trim().parse().ok());
    if said.is_some_and(|n| n > max) {
        return Ok(None);
    }
    // What is said is believed up to a point: memory is for bytes that came.
    let mut body = Zeroizing::new(Vec::with_capacity(said.unwrap_or(0).min(256 * 1024) as usize));
    let mut piece = Zeroizing::new([0; 8192]);
    loop {
        match answer.read(&mut *piece)? {
            0 => return Ok(Some(body)),
            n if body.len() as u64 + n as u64 > max => return Ok(None),
            n => append(&mut body, &piece[..n]),
        }
    }
}

/// A buffer that grows by itself leaves copies behind that nobody wipes. A long one does: it is a list of mails and no page, and would be
/// in memory twice.
fn append(to: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let all = to.len() + bytes.len();
    if all > to.capacity() && all <= 256 * 1024 {
        let mut larger = Zeroizing::new(Vec::with_capacity(all.max(2 * to.capacity())));
        larger.extend_from_slice(to);
        *to = larger;
    }
    to.extend_from_slice(bytes);
}

/// Reads an answer that is not wanted to its end, so that the socket can go on; a long one is left, and its socket with it.
pub(super) fn drain(answer: &mut Answer) -> Result<()> {
    let mut piece = [0; 4096];
    let mut all = 0;
    while all < MAX_DRAIN {
        match answer.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => all += n as u64,
            Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Timeout) => return Err(e),
            // Broken: the next request opens a socket of its own.
            Err(_) => break,
        }
    }
    Ok(())
}
