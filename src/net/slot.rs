//! What an operation and the socket under it share while `ureq` stands between them: limits and the signature on the way
//! down, the exact error and what was seen on the way up.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::ask::Session;
use super::cancel::{Cancel, Registration, Wake};
use super::socket::{Limits, Socket, Stop};
use super::tap::Tap;
use super::tls;
use super::tries::{Tries, Try};
use super::url::Endpoint;
use super::wire_log::{self, Way};
use crate::auth::Secret;
use crate::{Error, ErrorKind, Result};

const AUTHORIZATION: &str = "Authorization";

/// How far an operation is: what a time-out or a break then means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    LookUp,
    Connect,
    /// The proxy is to connect.
    Tunnel,
    Handshake,
    Send,
    Head,
    Body,
}

/// One for each [`super::lane::Lane`], and so for each socket.
#[derive(Debug)]
pub(super) struct Slot {
    endpoint: Arc<Endpoint>,
    /// The proxy on the way there, for texts.
    proxy: Option<String>,
    tap: Arc<Tap>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cancel: Cancel,
    until: Instant,
    /// What `until` came from, for the text of a time-out.
    allowed: Duration,
    phase: Phase,
    /// Headers that are put in last, from memory that is wiped; each once.
    signatures: Vec<(&'static str, Secret)>,
    /// They have a password in them, of this user: it is not sent more often than it has to be.
    guard: Option<(Arc<Tries>, String)>,
    /// That password is on its way.
    attempt: Option<Try>,
    /// Those that went out: known until the operation is over, since the answer may quote them.
    sent: Vec<(&'static str, Secret)>,
    /// The request's head and body as the wire log shows them, until it goes out.
    request: Option<(String, String)>,
    /// The number of the connection in the wire log.
    connection: u64,
    /// Nothing of the request has gone out yet.
    head: bool,
    error: Option<Error>,
    socket: Weak<Socket>,
    registration: Option<Registration>,
    /// The server's, while its challenge is answered: TLS has a copy of its own all the while.
    certificate: Option<Box<[u8]>>,
    session: Option<Session>,
    fresh: bool,
    /// No new socket will do.
    stays: bool,
    /// Such a request met a socket that was gone.
    lost: bool,
    answered: bool,
    /// What an answer of status 456 says in its status line.
    unlock: Option<String>,
    /// The `Location` of the answer, where it quotes a secret.
    location: Option<Secret>,
}

impl Slot {
    pub fn new(endpoint: Arc<Endpoint>, proxy: Option<String>, tap: Arc<Tap>) -> Slot {
        let state = State {
            cancel: Cancel::new(),
            until: Instant::now(),
            allowed: Duration::ZERO,
            phase: Phase::Connect,
            signatures: Vec::new(),
            guard: None,
            attempt: None,
            sent: Vec::new(),
            request: None,
            connection: 0,
            head: true,
            error: None,
            socket: Weak::new(),
            registration: None,
            certificate: None,
            session: None,
            fresh: false,
            stays: false,
            lost: false,
            answered: false,
            unlock: None,
            location: None,
        };
        Slot { endpoint, proxy, tap, state: Mutex::new(state) }
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// A request begins. A socket that is still there from the one before is ended by this `cancel` from now on.
    pub fn begin(&self, cancel: &Cancel, until: Instant, allowed: Duration, authorization: Option<Secret>) {
        let mut state = self.state();
        state.cancel = cancel.clone();
        state.until = until;
        state.allowed = allowed;
        state.phase = Phase::Connect;
        state.signatures.clear();
        state.guard = None;
        state.sent.clear();
        state.request = None;
        state.head = true;
        state.error = None;
        state.fresh = false;
        state.stays = false;
        state.lost = false;
        state.answered = false;
        state.unlock = None;
        state.location = None;
        state.certificate = None;
        // One socket a slot: a request after the first registers it anew, since the cancel may be another.
        let socket = state.socket.clone();
        state.registration = (socket.strong_count() > 0).then(|| cancel.register(socket as Weak<dyn Wake>));
        drop(state);
        if let Some(authorization) = authorization {
            // Before it goes out: the answer may quote it.
            self.tap.secrets.add(&authorization);
            self.sign_with(AUTHORIZATION, authorization);
        }
    }

    /// A header that must not be seen goes out with the request that has begun.
    pub fn sign_with(&self, name: &'static str, value: Secret) {
        self.state().signatures.push((name, value));
    }

    /// What signs the request that has begun is a password of this user.
    pub fn guard(&self, tries: Arc<Tries>, who: String) {
        self.state().guard = Some((tries, who));
    }

    /// Waits, before a password goes out, until it may. The wait is for another's answer, and no part of the time for this one.
    pub fn pass(&self) -> Result<()> {
        let (guard, limits) = {
            let mut state = self.state();
            let guard = state.guard.take().filter(|_| state.attempt.is_none());
            (guard, Limits { cancel: state.cancel.clone(), until: state.until })
        };
        let Some((tries, who)) = guard else { return Ok(()) };
        let began = Instant::now();
        let attempt = tries.enter(&self.endpoint, &who, &limits)?;
        let mut state = self.state();
        state.until += began.elapsed();
        state.attempt = Some(attempt);
        Ok(())
    }

    /// What came of the password that went out, if one did: call [`Try::taken`] or [`Try::refused`], or drop it where nobody knows.
    pub fn take_attempt(&self) -> Option<Try> {
        self.state().attempt.take()
    }

    /// The connection was lost where the answer to it belongs.
    pub fn lost_attempt(&self) {
        if let Some(attempt) = &self.state().attempt {
            attempt.lost();
        }
    }

    /// The request is good on the socket that is there, and on no other.
    pub fn stay(&self) {
        self.state().stays = true;
    }

    /// Whether a new socket may be opened for the request; where not, it is noted as lost.
    pub fn may_connect(&self) -> bool {
        let mut state = self.state();
        state.lost = state.stays;
        !state.stays
    }

    /// Whether the request was not sent, since its socket was gone and it must [`stay`](Self::stay).
    pub fn was_lost(&self) -> bool {
        self.state().lost
    }

    /// The operation is over; the socket may stay, but nobody's cancel ends it.
    pub fn end(&self) {
        let mut state = self.state();
        state.registration = None;
        state.signatures.clear();
        state.guard = None;
        state.attempt = None;
        state.sent.clear();
        state.request = None;
        state.cancel = Cancel::new();
    }

    /// A new bound for what follows.
    pub fn allow(&self, until: Instant, allowed: Duration) {
        let mut state = self.state();
        state.until = until;
        state.allowed = allowed;
    }

    pub fn enter(&self, phase: Phase) {
        self.state().phase = phase;
    }

    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Until when the request may take, with what [`pass`](Self::pass) has waited: whatever goes on with it has that time, too.
    pub fn until(&self) -> Instant {
        self.state().until
    }

    pub fn limits(&self) -> Limits {
        let state = self.state();
        Limits { cancel: state.cancel.clone(), until: state.until }
    }

    pub fn is_cancelled(&self) -> bool {
        self.state().cancel.is_cancelled()
    }

    /// A connection came about for this request.
    pub fn connected(&self, socket: &Arc<Socket>, registration: Registration) {
        let mut state = self.state();
        state.socket = Arc::downgrade(socket);
        state.registration = Some(registration);
        state.fresh = true;
    }

    /// What follows is said over a new socket.
    pub fn number(&self) {
        self.state().connection = self.tap.wire_log.connection();
    }

    /// The server asks for a sign-in, by a connection that it has this certificate for.
    pub fn keep_certificate(&self, certificate: Option<&[u8]>) {
        self.state().certificate = certificate.map(Box::from);
    }

    /// See [`keep_certificate`](Self::keep_certificate).
    pub fn take_certificate(&self) -> Option<Box<[u8]>> {
        self.state().certificate.take()
    }

    /// What TLS agreed on.
    pub fn keep_session(&self, session: Session) {
        self.state().session = Some(session);
    }

    /// See [`keep_session`](Self::keep_session).
    pub fn session(&self) -> Option<Session> {
        self.state().session.clone()
    }

    /// The signatures for the request's head, once. It goes out now.
    pub fn take_signatures(&self) -> Vec<(&'static str, Secret)> {
        let mut state = self.state();
        let taken = std::mem::take(&mut state.signatures);
        state.sent.extend(taken.iter().cloned());
        let request = state.request.take();
        drop(state);
        if let Some((mut head, body)) = request {
            taken.iter().for_each(|(name, value)| head += &wire_log::signature(name, value.expose()));
            if !body.is_empty() {
                head += "\n\n";
            }
            self.say(Way::Out, &head, &body);
        }
        taken
    }

    /// Has the wire log show the request when it goes out.
    pub fn show_request(&self, head: String, body: String) {
        self.state().request = Some((head, body));
    }

    /// What is told of what goes and comes.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Writes into the wire log.
    pub fn say(&self, way: Way, first: &str, rest: &str) {
        if self.tap.wire_log.is_on() {
            let connection = self.state().connection;
            self.tap.wire_log.say(&self.tap.secrets, connection, way, first, rest);
        }
    }

    /// The same for what takes some making.
    pub fn say_lazily(&self, way: Way, first: impl FnOnce() -> Zeroizing<String>) {
        if self.tap.wire_log.is_on() {
            self.say(way, &first(), "");
        }
    }

    /// Whether what goes out is the begin of a request; once.
    pub fn take_head(&self) -> bool {
        std::mem::take(&mut self.state().head)
    }

    pub fn got_bytes(&self) {
        self.state().answered = true;
    }

    /// The words of a status line that says 456.
    pub fn unlock_by(&self, words: String) {
        self.state().unlock = Some(words);
    }

    /// See [`unlock_by`](Self::unlock_by).
    pub fn take_unlock(&self) -> Option<String> {
        self.state().unlock.take()
    }

    /// What the head says behind `Location`, before stars were put in the place of what it quotes.
    pub fn keep_location(&self, location: Secret) {
        self.state().location = Some(location);
    }

    /// See [`keep_location`](Self::keep_location).
    pub fn take_location(&self) -> Option<Secret> {
        self.state().location.take()
    }

    /// Whether the request went out on a socket kept from an earlier one, and not a byte came back.
    pub fn was_stale(&self) -> bool {
        let state = self.state();
        !state.fresh && !state.answered
    }

    /// Keeps the exact error, since `ureq` would blur it, and gives `ureq` something to stop for.
    pub fn fail(&self, error: Error) -> ureq::Error {
        self.state().error.get_or_insert(error);
        ureq::Error::Other("see the slot".into())
    }

    pub fn take_error(&self) -> Option<Error> {
        self.state().error.take()
    }

    /// What a wait's end means here.
    pub fn stopped(&self, stop: Stop, allowed: Option<Duration>) -> Error {
        let (phase, whole) = {
            let state = self.state();
            (state.phase, state.allowed)
        };
        let endpoint = &self.endpoint;
        let (whose, to, by) = match &self.proxy {
            None => ("its name".into(), String::new(), String::new()),
            Some(proxy) => (
                format!("the name of the proxy {proxy}"),
                format!(" to the proxy {proxy}"),
                format!(", by the proxy {proxy},"),
            ),
        };
        let doing = &match phase {
            Phase::LookUp => format!("while looking {whose} up"),
            Phase::Connect => format!("while connecting{to}"),
            Phase::Tunnel => {
                format!("while the proxy {} was to connect", self.proxy.as_deref().unwrap_or(""))
            }
            Phase::Handshake => format!("in the TLS handshake{by}").trim_end_matches(',').to_owned(),
            Phase::Send => "while sending the request".to_owned(),
            Phase::Head => "while waiting for the answer".to_owned(),
            Phase::Body => "while reading the answer".to_owned(),
        };
        let early = matches!(phase, Phase::LookUp | Phase::Connect | Phase::Tunnel | Phase::Handshake);
        match stop {
            Stop::Cancelled => Error::new(ErrorKind::Closed, format!("{endpoint}: closed {doing}")),
            Stop::TimedOut => {
                let kind = if early { ErrorKind::Connect } else { ErrorKind::Timeout };
                let allowed = humantime::format_duration(round(allowed.unwrap_or(whole)));
                let advice = match phase {
                    Phase::Tunnel => ": does it speak what option proxy says, and can it reach the server?",
                    _ => "",
                };
                Error::new(kind, format!("{endpoint}: time-out after {allowed} {doing}{advice}"))
            }
            Stop::Io(e) => {
                if let Some(refused) = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>())
                    && let Some(error) = tls::refused_after(endpoint, refused)
                {
                    return error;
                }
                let kind = if early { ErrorKind::Connect } else { ErrorKind::Io };
                let by_tls = e.get_ref().is_some_and(|e| e.is::<rustls::Error>());
                let what = match e.kind() {
                    io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
                    _ if by_tls => format!("TLS: {e}"),
                    _ => e.to_string(),
                };
                let advice = match (phase, e.kind()) {
                    (Phase::Connect, io::ErrorKind::ConnectionRefused) if self.proxy.is_some() => {
                        ": nothing listens there, or a firewall refuses: check option proxy"
                    }
                    (Phase::Connect, io::ErrorKind::ConnectionRefused) => {
                        ": nothing listens there, or a firewall refuses: check host and port"
                    }
                    _ => "",
                };
                Error::new(kind, format!("{endpoint}: {what} {doing}{advice}"))
            }
        }
    }

    /// Runs a step of connecting in its phase, with its own time-out within the operation's.
    pub fn step<T>(
        &self,
        phase: Phase,
        allowed: Duration,
        run: impl FnOnce(&Limits) -> Result<T, Stop>,
    ) -> Result<T> {
        self.enter(phase);
        let mut limits = self.limits();
        let own = Instant::now() + allowed;
        let whole = limits.until < own;
        limits.until = limits.until.min(own);
        run(&limits).map_err(|stop| self.stopped(stop, (!whole).then_some(allowed)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole milliseconds: a person reads it.
fn round(d: Duration) -> Duration {
    Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
