//! What a server sends by itself: to our own small listener, or to the host's web server, which hands it on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::core::Core;
use super::threads::guarded;
use crate::auth::Secret;
use crate::engine::{PushAnswer, Pushed};
use crate::net::{self, Answered, ListenConfig, Listener, Refused, Tap};
use crate::options::PushConfig;
use crate::proto::{self, PushReply, PushUrl};
use crate::push::{PushDone, PushFed};
use crate::{Error, ErrorKind, Level, Result};

/// A TLS handshake and reading XML, in a debug build.
const STACK: usize = 1024 * 1024;
/// What is refused again and again for the same reason is told so often.
const OFTEN: Duration = Duration::from_secs(60);

/// Opens the port, if the options want one.
pub(super) fn listen(config: &PushConfig, tap: &Arc<Tap>) -> Result<Option<Arc<Listener>>> {
    let Some(address) = &config.listen else { return Ok(None) };
    let address: SocketAddr = address.parse().map_err(|_| {
        invalid(format!(
            "option push_listen: \"{}\" is not an address and a port, as 127.0.0.1:8443, [::1]:8443 or 0.0.0.0:0",
            net::cut(address, 100)
        ))
    })?;
    let secret = config.secret.clone().map_or_else(net::random_secret, Ok)?;
    let tls = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => Some(net::server_tls(cert, key)?),
        (None, None) => None,
        _ => return Err(invalid("options push_cert and push_key belong together: one of them is not set")),
    };
    let listener = Listener::open(ListenConfig {
        address,
        tls,
        secret,
        tap: tap.clone(),
        connections: config.connections,
        max_bytes: config.max_bytes,
        timeout: config.timeout,
    })?;
    Ok(Some(Arc::new(listener)))
}

/// What the server is told to send to. `base` is option `push_url`; behind it comes the listener's secret, or else that of option
/// `push_secret`.
pub(super) fn url(
    base: Option<&str>,
    listener: Option<&Listener>,
    secret: Option<&Secret>,
) -> Result<PushUrl> {
    let base = base.map(PushUrl::new);
    if let Some(base) = &base {
        base.check().map_err(|e| e.context("option push_url"))?;
    }
    let Some(listener) = listener else {
        let base = base.ok_or_else(|| {
            invalid("mode=push needs option push_url, where your own web server takes notifications, or push_listen for one of the library's")
        })?;
        return secret.map_or(Ok(base.clone()), |secret| behind(&base, secret));
    };
    let own = || {
        let (address, scheme) = (listener.address(), if listener.is_tls() { "https" } else { "http" });
        match address.ip().is_unspecified() {
            true => {
                Err(invalid("option push_listen names no address that a server could send to: set push_url"))
            }
            false => Ok(PushUrl::new(&format!("{scheme}://{address}"))),
        }
    };
    let base = base.map_or_else(own, Ok)?;
    if base.expose().contains(['?', '#']) {
        return Err(invalid(
            "option push_url: with push_listen, the secret is put behind its path, so it has no query",
        ));
    }
    behind(&base, listener.secret())
}

/// The secret as the last part of the path, or at the end of the query: a script may want it there, as in `push.php?secret=`.
fn behind(base: &PushUrl, secret: &Secret) -> Result<PushUrl> {
    let (base, secret) = (base.expose(), secret.expose());
    let url = Zeroizing::new(match base.contains('?') {
        true => format!("{base}{secret}"),
        false => format!("{}/{secret}", base.trim_end_matches('/')),
    });
    let url = PushUrl::new(&url);
    url.check().map_err(|e| e.context("options push_url and push_secret, the one behind the other"))?;
    Ok(url)
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

impl Core {
    /// Takes the body of a push; what is to be answered, at once.
    pub fn push(self: &Arc<Self>, body: &[u8]) -> Result<Pushed> {
        self.push_read(body).inspect_err(|_| self.push_refused())
    }

    fn push_read(self: &Arc<Self>, body: &[u8]) -> Result<Pushed> {
        if body.len() > self.max_push_bytes {
            let text = format!(
                "a notification of {} bytes is larger than option push_max_bytes allows ({})",
                body.len(),
                self.max_push_bytes
            );
            return Err(Error::too_large(text));
        }
        let messages = guarded("reading a push", || proto::read_push(body))?;
        guarded("taking a push", || Ok(self.pushed(messages)))
    }

    /// Begins to serve the port, if there is one.
    pub(super) fn start_listening(self: &Arc<Self>) -> Result<()> {
        let Some(listener) = self.listener.clone() else { return Ok(()) };
        self.log(Level::Info, format!("the push listener is open on {}", listener.address()));
        self.threads.spawn("ewsn-listen", STACK, {
            let core = self.clone();
            move || {
                // What strangers send does not keep the like of it from being told, once the server itself sends it.
                let (mut strangers, mut own) = (Notes::default(), Notes::default());
                let mut answer = |body: &[u8]| match core.push(body).map(|pushed| pushed.answer) {
                    Ok(PushAnswer::Reply(reply)) => Answered::Reply(reply.body()),
                    Ok(PushAnswer::Later) => Answered::Later,
                    Err(e) => Answered::Bad(e.to_string().trim_end_matches('.').to_owned()),
                };
                let mut note = |refused: Refused| {
                    if refused.lost {
                        core.push_refused();
                    }
                    let notes = if refused.lost { &mut own } else { &mut strangers };
                    let Some(line) = notes.line(&refused, Instant::now()) else { return };
                    if refused.lost {
                        let text = format!(
                            "{line}; the server tries again for a while and then drops the subscription: what it tells may be lost"
                        );
                        core.tell_trouble(&Error::new(ErrorKind::Protocol, text));
                    }
                    core.log(Level::Warn, line);
                };
                let served = guarded("listening for pushes", || {
                    listener.run(&mut answer, &mut note);
                    Ok(())
                });
                if let Err(e) = served {
                    core.tell_trouble(&e.context("nothing listens for pushes any more"));
                }
            }
        })
    }
}

impl From<Pushed> for PushFed {
    fn from(pushed: Pushed) -> PushFed {
        let (http_status, reply) = match pushed.answer {
            PushAnswer::Reply(reply) => (200, reply.body()),
            PushAnswer::Later => (503, ""),
        };
        let done = |p: crate::engine::PushPart| PushDone {
            subscription: p.subscription,
            watch: p.watch,
            outcome: p.outcome,
            events: p.events,
        };
        PushFed { http_status, reply, messages: pushed.parts.into_iter().map(done).collect() }
    }
}

/// Whether a push was answered with the end of its subscription.
pub(super) fn is_unsubscribe(pushed: &Pushed) -> bool {
    pushed.answer == PushAnswer::Reply(PushReply::Unsubscribe)
}

/// What was refused, so told that a flood of it does not flood the log.
#[derive(Default)]
pub(super) struct Notes(BTreeMap<&'static str, (Option<Instant>, u64)>);

impl Notes {
    /// Whether to tell of something now, with how many of its like were not told.
    pub fn is_due(&mut self, what: &'static str, now: Instant) -> Option<u64> {
        let (told, untold) = self.0.entry(what).or_default();
        if told.is_some_and(|at| now.saturating_duration_since(at) < OFTEN) {
            *untold += 1;
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(untold))
    }

    fn line(&mut self, refused: &Refused, now: Instant) -> Option<String> {
        let Refused { what, why, peer, lost } = refused;
        let more = match self.is_due(what, now)? {
            0 => String::new(),
            n => format!("; {n} more since the last such line"),
        };
        let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let whose = if *lost { ", with the right secret" } else { "" };
        Some(format!("push listener: refused {what}, from {peer}{whose}{why}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A stranger who knocks a million times would push everything else out of the log.
    #[test]
    fn what_is_refused_is_told_now_and_then() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        let refused =
            |what, lost| Refused { what, why: Some("since".into()), peer: [192, 0, 2, 7].into(), lost };
        let first = notes.line(&refused("this", false), now).unwrap();
        assert_eq!(first, "push listener: refused this, from 192.0.2.7: since");
        for _ in 0..1000 {
            assert_eq!(notes.line(&refused("this", false), now), None);
        }
        assert!(notes.line(&refused("that", false), now).is_some());
        assert!(notes.line(&refused("a third", true), now).unwrap().contains("right secret"));
        assert!(notes.line(&refused("this", false), now + OFTEN).unwrap().contains("1000 more"));
    }
}
