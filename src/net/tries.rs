//! How often a password is sent. An account is locked after a few wrong ones (Active Directory: mostly three to ten within half an hour),
//! whoever sends them. So of all the connections of a client one finds out whether a server takes a password, and the others wait for it;
//! and after a refusal nobody sends it for a while.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::socket::Limits;
use super::url::Endpoint;
use crate::auth::{Auth, Handshake, Secret};
use crate::{Error, ErrorKind, Result};

/// How long a password is not sent after one refusal in a row, and the next, and so on. One that was taken before may be refused by a
/// directory that has a bad minute, and the two passwords before the present one do not count as wrong (TechNet wiki, "Active Directory: Bad
/// Passwords and Account Lockout"): the engine asks twice more, 30 seconds apart. The last is longer than the time after which directories
/// count from the beginning, half an hour mostly.
const WAITS: [Duration; 4] =
    [Duration::from_secs(29), Duration::from_secs(29), Duration::from_secs(300), Duration::from_secs(2700)];
/// Where in [`WAITS`] it begins for one that was never taken.
const NEVER_TAKEN: usize = 2;
/// The same where the answer to it was lost this time and the time before.
const LOST_WAITS: [Duration; 3] =
    [Duration::from_secs(29), Duration::from_secs(300), Duration::from_secs(540)];
/// Refused by so many servers, it is not shown to another: the first may be a web server that has nothing to do with the mail.
const SERVERS: usize = 2;
/// Whoever waits for another's answer looks so often whether to end.
const TICK: Duration = Duration::from_millis(50);
/// When there are more servers, those that are of no account are forgotten.
const MANY: usize = 1000;

/// What the connections of a client know of one password: which servers have taken it, and which have refused it. See [`Rationed`].
///
/// Any thread.
#[derive(Default)]
pub struct Tries {
    known: Mutex<Known>,
    changed: Condvar,
    keep: Option<Box<dyn Keep>>,
}

/// What is known of a password over a restart.
pub(crate) trait Keep: Send + Sync {
    /// Who has refused it last: the server, how often in a row, when.
    fn refusals(&self) -> Vec<(String, usize, SystemTime)>;
    /// This server has, so often in a row.
    fn refused(&self, server: &str, refusals: usize);
    /// This server has taken it.
    fn taken(&self, server: &str);
    /// What to do to have it sent all the same, as the end of a sentence.
    fn way_out(&self) -> String;
}

#[derive(Default)]
struct Known {
    servers: BTreeMap<String, Server>,
}

#[derive(Default)]
struct Server {
    /// The last answer was that it is right.
    taken: bool,
    /// Somebody is finding out.
    trying: bool,
    /// In a row.
    refusals: usize,
    /// Answers that never came, in a row.
    lost: usize,
    shut: Option<Shut>,
}

/// It is not sent.
#[derive(Clone, Copy)]
struct Shut {
    since: Instant,
    until: Instant,
    refused: bool,
    /// It had been taken, so that it may be by the end of this.
    passes: bool,
    /// In an earlier run. By now the settings may lead to other servers.
    earlier: bool,
}

enum Look {
    /// It may be sent; true where nobody else may meanwhile.
    Go(bool),
    Wait,
    /// By this other server, where it is not the one that is asked.
    No(Shut, Option<String>),
}

impl Known {
    fn look(&mut self, server: &str, now: Instant) -> Look {
        let others = self.servers.iter().filter(|(name, _)| *name != server);
        let refuses = |shut: &Shut| shut.refused && !shut.earlier && shut.until > now;
        let refused: Vec<(Shut, String)> = others
            .filter_map(|(name, other)| other.shut.filter(refuses).map(|shut| (shut, name.clone())))
            .collect();
        let count = refused.len();
        let first = refused.into_iter().min_by_key(|(shut, _)| shut.until);
        if self.servers.len() >= MANY {
            self.servers.retain(|_, s| s.taken || s.trying || s.shut.is_some_and(|shut| shut.until > now));
        }
        let this = self.servers.entry(server.to_owned()).or_default();
        if let Some(shut) = &mut this.shut {
            // It is met by the settings of this run, too.
            shut.earlier = false;
        }
        match (this.shut.filter(|shut| shut.until > now), first) {
            (Some(shut), _) => Look::No(shut, None),
            _ if this.taken => Look::Go(false),
            (None, Some((shut, by))) if count >= SERVERS => Look::No(shut, Some(by)),
            _ if this.trying => Look::Wait,
            _ => {
                this.trying = true;
                Look::Go(true)
            }
        }
    }

    /// Of an earlier run: this server had refused it so often in a row, the last time so long ago.
    fn resume(&mut self, server: String, refusals: usize, ago: Duration, now: Instant) {
        let wait = WAITS[refusals.saturating_sub(1).min(WAITS.len() - 1)];
        let shut = wait.checked_sub(ago).filter(|left| !left.is_zero()).map(|left| Shut {
            // The clock of the machine begins with the machine.
            since: now.checked_sub(ago).unwrap_or(now),
            until: now + left,
            refused: true,
            passes: false,
            earlier: true,
        });
        self.servers.insert(server, Server { refusals, shut, ..Server::default() });
    }

    /// Whether that is news.
    fn taken(&mut self, server: &str) -> bool {
        let this = self.servers.entry(server.to_owned()).or_default();
        let news = !this.taken;
        *this = Server { taken: true, trying: this.trying, ..Server::default() };
        news
    }

    /// Says how often in a row, where it is not sent again to find out whether it was for a moment only.
    fn refused(&mut self, server: &str, now: Instant) -> Option<usize> {
        let this = self.servers.entry(server.to_owned()).or_default();
        // Answers to what was under way already do not make the wait longer each.
        if this.shut.is_some_and(|shut| shut.refused && shut.until > now) {
            return None;
        }
        if !this.taken && this.refusals == 0 {
            this.refusals = NEVER_TAKEN;
        }
        let (wait, passes) = (WAITS[this.refusals.min(WAITS.len() - 1)], this.refusals < NEVER_TAKEN);
        this.refusals += 1;
        this.taken = false;
        this.shut = Some(Shut { since: now, until: now + wait, refused: true, passes, earlier: false });
        (!passes).then_some(this.refusals)
    }

    fn lost(&mut self, server: &str, now: Instant) {
        let this = self.servers.entry(server.to_owned()).or_default();
        // What was taken is right, and the network is not.
        if this.taken {
            return;
        }
        this.lost += 1;
        if let Some(row) = this.lost.checked_sub(2) {
            let wait = LOST_WAITS[row.min(LOST_WAITS.len() - 1)];
            this.shut =
                Some(Shut { since: now, until: now + wait, refused: false, passes: true, earlier: false });
        }
    }
}

impl Tries {
    /// With what is known over a restart.
    pub(crate) fn keeping(keep: Box<dyn Keep>) -> Tries {
        let (mut known, now) = (Known::default(), Instant::now());
        for (server, refusals, at) in keep.refusals() {
            known.resume(server, refusals, at.elapsed().unwrap_or_default(), now);
        }
        Tries { known: Mutex::new(known), keep: Some(keep), ..Tries::default() }
    }

    /// Waits until the password may be sent to this server. An error says that it may not.
    pub(super) fn enter(self: &Arc<Self>, endpoint: &Endpoint, who: &str, limits: &Limits) -> Result<Try> {
        let server = endpoint.origin();
        let mut known = self.known();
        loop {
            let now = Instant::now();
            match known.look(&server, now) {
                Look::Go(alone) => return Ok(Try { tries: self.clone(), server, alone }),
                Look::No(shut, by) => return Err(self.not_sent(endpoint, who, shut, by, now)),
                Look::Wait if limits.cancel.is_cancelled() => {
                    let text = format!(
                        "{endpoint}: closed while waiting for the answer to another sign-in of {who}"
                    );
                    return Err(Error::new(ErrorKind::Closed, text));
                }
                Look::Wait if now >= limits.until => {
                    let text = format!(
                        "{endpoint}: time-out while waiting for the answer to another sign-in of {who}: only one at a time finds out \
                         whether the password is right"
                    );
                    return Err(Error::new(ErrorKind::Connect, text));
                }
                Look::Wait => {}
            }
            known = self.changed.wait_timeout(known, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn not_sent(
        &self,
        endpoint: &Endpoint,
        who: &str,
        shut: Shut,
        by: Option<String>,
        now: Instant,
    ) -> Error {
        let span =
            |span: Duration| humantime::format_duration(Duration::from_secs(span.as_secs())).to_string();
        let (ago, left) = (span(now - shut.since), span(shut.until - now + Duration::from_secs(1)));
        if !shut.refused {
            let text = format!(
                "{endpoint}: the connection was lost {ago} ago where the answer to the sign-in of {who} belongs, and the time before: it \
                 may have been refused, so for {left} the password is not sent again, since a few wrong ones lock the account"
            );
            return Error::new(ErrorKind::Io, text).with_retry_after(Some(shut.until - now));
        }
        let way_out = self.keep.as_ref().filter(|_| !shut.passes).map(|keep| format!("; {}", keep.way_out()));
        let refused = match by {
            None => format!("HTTP 401: the sign-in of {who} was refused {ago} ago"),
            Some(by) => format!("the sign-in of {who} was refused {ago} ago by {by}, and by another server"),
        };
        let text = format!(
            "{endpoint}: {refused}, and for {left} the same password is not sent again, since a few wrong ones lock the account; \
             another password is tried at once{}",
            way_out.unwrap_or_default()
        );
        // Whoever waits meets another answer then, and not this one once more.
        let error = Error::new(ErrorKind::Auth, text).with_http_status(401);
        let error = error.with_retry_after(Some(shut.until - now));
        if shut.passes { error.with_refused_lately() } else { error.with_not_sent() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tries").field("servers", &self.known().servers.len()).finish()
    }
}

/// The password is on its way. What came of it is told; dropped without, nobody knows.
#[derive(Debug)]
pub(super) struct Try {
    tries: Arc<Tries>,
    server: String,
    alone: bool,
}

impl Try {
    pub fn taken(self) {
        let news = self.tries.known().taken(&self.server);
        if let Some(keep) = self.tries.keep.as_ref().filter(|_| news) {
            keep.taken(&self.server);
        }
    }

    pub fn refused(self) {
        let refusals = self.tries.known().refused(&self.server, Instant::now());
        if let (Some(keep), Some(refusals)) = (&self.tries.keep, refusals) {
            keep.refused(&self.server, refusals);
        }
    }

    /// The connection ended where the answer belongs.
    pub fn lost(&self) {
        self.tries.known().lost(&self.server, Instant::now());
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if self.alone {
            if let Some(server) = self.tries.known().servers.get_mut(&self.server) {
                server.trying = false;
            }
            self.tries.changed.notify_all();
        }
    }
}

/// A sign-in with a password that is not sent more often than it has to be, whatever number of links and questions it is given to: they
/// share what is known of it.
///
/// ```
/// use std::sync::Arc;
/// use ewsnotify::auth::{Auth, Basic, Secret};
/// use ewsnotify::net::{Rationed, Tries};
///
/// let tries = Arc::new(Tries::default());
/// let basic = Basic::new("ada@example.test", Secret::new("hunter2"))?;
/// let auth = Rationed::new(Arc::new(basic), tries);
/// assert_eq!(auth.ways(), ["Basic"]);
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Debug)]
pub struct Rationed {
    auth: Arc<dyn Auth>,
    tries: Arc<Tries>,
}

impl Rationed {
    /// The same sign-in, counted by `tries`, which belong to one user and one password.
    pub fn new(auth: Arc<dyn Auth>, tries: Arc<Tries>) -> Rationed {
        Rationed { auth, tries }
    }
}

// Every method, also those that have a default, which would count without a word.
impl Auth for Rationed {
    fn check(&self, endpoint: &Endpoint, allow_plaintext: bool) -> Result<()> {
        self.auth.check(endpoint, allow_plaintext)
    }

    fn start(&self) -> Box<dyn Handshake> {
        self.auth.start()
    }

    fn ways(&self) -> &'static [&'static str] {
        self.auth.ways()
    }

    fn taken(&self, endpoint: &Endpoint) -> Option<&'static str> {
        self.auth.taken(endpoint)
    }

    fn who(&self) -> String {
        self.auth.who()
    }

    fn secrets(&self) -> Vec<Secret> {
        self.auth.secrets()
    }

    fn tries(&self) -> Option<&Arc<Tries>> {
        Some(&self.tries)
    }

    fn signs_connections(&self) -> bool {
        self.auth.signs_connections()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://mail.example.test";

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// When it may be sent, in whole seconds, if whoever may is refused each time.
    fn refused_from(known: &mut Known, start: Instant, until: u64) -> Vec<u64> {
        let mut at = Vec::new();
        for second in 0..until {
            let now = start + seconds(second);
            if let Look::Go(alone) = known.look(SERVER, now) {
                at.push(second);
                known.servers.get_mut(SERVER).unwrap().trying &= !alone;
                known.refused(SERVER, now);
            }
        }
        at
    }

    // A host that adds its watch again and again with a wrong password would lock the account within seconds.
    #[test]
    fn a_wrong_password_is_sent_ever_more_seldom() {
        let (mut known, start) = (Known::default(), Instant::now());
        assert_eq!(refused_from(&mut known, start, 6000), [0, 300, 3000, 5700]);
        // One that was taken may be refused for a minute.
        known.taken(SERVER);
        assert_eq!(refused_from(&mut known, start + seconds(6000), 4000), [0, 29, 58, 358, 3058]);
        known.taken(SERVER);
        assert!(
            matches!(known.look(SERVER, start + seconds(10_000)), Look::Go(false)),
            "it is right after all"
        );
    }

    // A supervisor that starts a program anew every minute would lock the account as well.
    #[test]
    fn an_earlier_runs_refusals_count() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert_eq!(known.refused(SERVER, now), Some(3));
        for (ago, expected) in
            [(0, vec![300, 3000]), (290, vec![10, 2710]), (300, vec![0, 2700]), (999_999, vec![0, 2700])]
        {
            let mut next = Known::default();
            next.resume(SERVER.to_owned(), 3, seconds(ago), now);
            assert_eq!(refused_from(&mut next, now, 3600), expected, "{ago} s ago");
        }
        // Elsewhere it may be right, whatever others said in that run.
        let mut next = Known::default();
        for server in ["https://a.test", "https://b.test"] {
            next.resume(server.to_owned(), 3, seconds(1), now);
        }
        assert!(matches!(next.look(SERVER, now), Look::Go(true)));
        // But where they are met again, no further one is shown the same.
        for server in ["https://a.test", "https://b.test", "https://c.test"] {
            assert!(matches!(next.look(server, now), Look::No(..)), "{server}");
        }
        known.taken(SERVER);
        assert_eq!(known.refused(SERVER, now), None, "it may be for a minute");
    }

    // Eight workers would each find out that the password is wrong.
    #[test]
    fn one_finds_out_and_the_others_wait() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(matches!(known.look(SERVER, now), Look::Go(true)));
        assert!(matches!(known.look(SERVER, now), Look::Wait));
        assert!(matches!(known.look("https://other.test", now), Look::Go(true)), "by server");
        known.taken(SERVER);
        assert!(matches!(known.look(SERVER, now), Look::Go(false)));
        // What was under way together counts as one refusal.
        for _ in 0..8 {
            known.refused(SERVER, now);
        }
        let Look::No(shut, _) = known.look(SERVER, now) else { panic!("sent") };
        assert_eq!((shut.until - now, shut.refused, shut.passes), (WAITS[0], true, true));
    }

    // Autodiscover has many places to ask, and all may ask one directory.
    #[test]
    fn what_two_servers_have_refused_no_third_is_shown() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.taken("https://c.test");
        for server in ["https://a.test", "https://b.test"] {
            assert!(matches!(known.look(server, now), Look::Go(true)), "{server}");
            known.refused(server, now);
        }
        assert!(matches!(known.look("https://d.test", now), Look::No(..)));
        assert!(matches!(known.look("https://c.test", now), Look::Go(false)), "which has taken it");
        assert!(matches!(known.look("https://d.test", now + seconds(301)), Look::Go(true)));
    }

    // Something on the way that resets connections instead of passing a 401 on: the account would be locked by retries.
    #[test]
    fn answers_that_are_lost_count_as_well() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.lost(SERVER, now);
        assert!(matches!(known.look(SERVER, now), Look::Go(true)), "it may be the network");
        known.lost(SERVER, now);
        let Look::No(shut, _) = known.look(SERVER, now) else { panic!("sent") };
        assert_eq!((shut.until - now, shut.refused), (LOST_WAITS[0], false));
        known.lost(SERVER, now + seconds(30));
        assert!(matches!(known.look(SERVER, now + seconds(300)), Look::No(..)));
        known.taken(SERVER);
        (0..9).for_each(|_| known.lost(SERVER, now));
        assert!(matches!(known.look(SERVER, now), Look::Go(false)), "a right one");
    }

    // A client that is closed would wait for a server that hangs.
    #[test]
    fn who_waits_can_be_ended() {
        let tries = Arc::new(Tries::default());
        let endpoint = Endpoint::parse(SERVER).unwrap();
        let cancel = crate::net::Cancel::new();
        let limits = Limits { cancel: cancel.clone(), until: Instant::now() };
        let first = tries.enter(&endpoint, "ada", &limits).unwrap();
        let e = tries.enter(&endpoint, "ada", &limits).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
        cancel.cancel();
        assert_eq!(tries.enter(&endpoint, "ada", &limits).unwrap_err().kind(), ErrorKind::Closed);
        first.refused();
        let e = tries.enter(&endpoint, "ada", &limits).unwrap_err();
        assert_eq!((e.kind(), e.http_status()), (ErrorKind::Auth, Some(401)), "{e}");
        // A watch that has worked asks when it may be sent; sooner, each such answer would count as a refusal, and the third ends it.
        let wait = e.retry_after().unwrap();
        assert!(wait > WAITS[1] && wait <= WAITS[NEVER_TAKEN], "{wait:?}");
    }
}
