//! A user signs in, for a program that then watches the mailbox without them: with a browser that comes back to a web page of the
//! program's, or on another device.
//!
//! Each begins in one call and ends in another, which may be in another process: what has to get from the one to the other is one text
//! (`kept`), for the user's session. It is a secret: who has it, and the query that the browser comes back with, has the sign-in.
//!
//! ```
//! # #[cfg(feature = "sim")] {
//! # use ewsnotify::sim::Sim;
//! use ewsnotify::net::Cancel;
//! use ewsnotify::sign_in::SignIn;
//!
//! # let sim = Sim::builder().user("ada@example.test", "secret").start()?;
//! # sim.issuer().register("helpdesk", None, None);
//! # sim.issuer().browser(Some("ada@example.test"));
//! # let mut options = ewsnotify::Options::new();
//! # options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
//! # options.set("oauth_authorize_url", &sim.token_url().replace("/token", "/authorize"))?;
//! # options.set("oauth_token_url", &sim.token_url())?.set("oauth_client_id", "helpdesk")?.set("user", "ada@example.test")?;
//! // The options of the watch: oauth_tenant, oauth_client_id, user, and oauth_token_store or state_dir.
//! let sign_in = SignIn::new(&options)?;
//!
//! // First page: the browser goes to `begun.url`; `begun.kept` stays in the user's session.
//! let begun = sign_in.begin("https://helpdesk.example.com/signed-in")?;
//! # let query = sim.issuer().visit(&begun.url).unwrap();
//!
//! // Second page: the browser is back, with a query.
//! let signed_in = sign_in.finish(&begun.kept, &query, &Cancel::new())?;
//! assert!(signed_in.refresh_token.is_some());
//! # }
//! # Ok::<(), ewsnotify::Error>(())
//! ```

mod kept;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::kept::{Kept, Way};
use crate::auth::Secret;
use crate::auth::oauth::device::MAX_INTERVAL;
use crate::auth::oauth::{self, Authorization, Denied, Form, Granted, Pending, Record};
use crate::net::{Asker, Cancel, Counters, Lookups, Tap, Tls, Wake};
use crate::options::{self, OAuth};
use crate::runtime::{self, Waited, Waker};
use crate::store::tokens::{TokenLock, TokenStore};
use crate::{Error, ErrorKind, Options, Result};

/// How long another process that renews the tokens is waited for.
const LOCK: Duration = Duration::from_secs(45);

/// Signs users in with an issuer. No client is needed, and no thread goes on with it; any thread may call it.
#[derive(Debug)]
pub struct SignIn {
    oauth: OAuth,
    asker: Asker,
}

/// A sign-in with a browser that has begun.
#[derive(Clone)]
#[non_exhaustive]
pub struct Begun {
    /// Where to send the browser.
    pub url: String,
    /// For [`SignIn::finish`].
    pub kept: Secret,
}

/// The URL has what proves that it is this sign-in's.
impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("url", &self.url.split('?').next()).finish_non_exhaustive()
    }
}

/// A sign-in on another device that has begun: what to show to the user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Device {
    /// What the user types.
    pub user_code: String,
    /// Where.
    pub uri: String,
    /// The same with the code in it, where the issuer has such a page.
    pub whole_uri: Option<String>,
    /// How long the code is good.
    pub life: Duration,
    /// For [`SignIn::poll`] or [`SignIn::wait`].
    pub kept: Secret,
}

/// What a sign-in has come to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// For option `oauth_refresh_token`; where the tokens are [stored](Self::stored), watches find it there.
    pub refresh_token: Option<Secret>,
    /// Good at once.
    pub access_token: Secret,
    /// How long that is.
    pub life: Duration,
    /// Whether both are in the store (`oauth_token_store`, or `state_dir`).
    pub stored: bool,
    /// Whether there is a refresh token from now on, so that the sign-in lasts: the one that came, or, where none did, the one that is
    /// stored from before.
    pub lasting: bool,
}

/// How a sign-in on another device stands.
#[derive(Debug)]
#[non_exhaustive]
pub enum Polled {
    /// The user has signed in.
    Done(SignedIn),
    /// Not yet.
    Pending {
        /// In the place of the one before, for the next call: it has when the next question is due.
        kept: Secret,
        /// How long until then.
        due_in: Duration,
        /// Whether a signal has ended the wait.
        interrupted: bool,
        /// What came of this call's last question, where the issuer was not reached or gave no answer: it is asked again, less often.
        trouble: Option<Error>,
    },
}

impl SignIn {
    /// With the options of a watch: who asks whom for what (`oauth_…`), who signs in (`user`), and where it is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for options that are missing or contradict, and for those of a program that acts for itself: nobody signs in.
    pub fn new(options: &Options) -> Result<SignIn> {
        let oauth = OAuth::for_sign_in(options)?;
        if oauth.account.app_only {
            let text = "a program that acts for itself (a client secret or a certificate, and no user) has nobody who could sign in: for \
                        a user of it, set oauth_grant=refresh_token";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let config = options::net_config(options)?.for_an_issuer();
        let tls = Arc::new(Tls::of(&config)?);
        let (counters, tap) = (Arc::<Counters>::default(), Arc::<Tap>::default());
        oauth.account.secrets().for_each(|secret| tap.secrets.add(secret));
        if let Some(path) = options.get("trace_wire") {
            tap.wire_log.write_to(Some(path.as_ref())).map_err(|e| e.context("option trace_wire"))?;
        }
        Ok(SignIn { oauth, asker: Asker { config, tls, counters, lookups: Lookups::system(), tap } })
    }

    /// Begins a sign-in with a browser (RFC 6749, section 4.1, with PKCE, RFC 7636). `redirect` is where it comes back to: a whole URL,
    /// as it is registered for the program. Nothing is sent. See [the module](self).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the issuer's address for browsers is not known, and for a `redirect` that is none; those of a store
    /// that cannot be used.
    pub fn begin(&self, redirect: &str) -> Result<Begun> {
        // Before anybody signs in for nothing.
        self.store()?;
        let Authorization { url, state, verifier } =
            Authorization::begin(&self.oauth.account, redirect, &mut runtime::random)?;
        let way = Way::Browser { state, verifier, redirect: redirect.to_owned() };
        Ok(Begun { url, kept: self.kept(way) })
    }

    /// Exchanges the code that the browser brought back for tokens, and stores them, on the calling thread. `query` is what stands behind
    /// the `?` of the address that the browser came back to; more than is known in it does no harm. See [the module](self).
    ///
    /// It takes as long as the issuer: `call_timeout`, and 30 seconds at most; and up to 45 where another process renews this account's
    /// tokens. A code is good once, and for some minutes: after an error the sign-in has to begin again, but where nothing was reached
    /// ([`ErrorKind::Connect`]) the same may work.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for the query of another sign-in, or none, and where `kept` is not what this sign-in began with;
    /// [`ErrorKind::Auth`] with the issuer's code where somebody said no (`access_denied`) or the issuer refuses (`invalid_grant` for a
    /// code that was used or is too old); those of the network; those of storing.
    pub fn finish(&self, kept: &Secret, query: &str, cancel: &Cancel) -> Result<SignedIn> {
        let Way::Browser { state, verifier, redirect } = self.read(kept)? else {
            let text = "this sign-in was begun for another device: no browser comes back from it";
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        [&state, &verifier].into_iter().for_each(|secret| self.know(secret));
        let code = self.asker.tap.secrets.clean_result(Authorization::code(query, &state))?;
        self.know(&code);
        let account = &self.oauth.account;
        let form = Form::code(
            account,
            code.expose(),
            &redirect,
            &verifier,
            SystemTime::now(),
            &mut runtime::random,
        )?;
        let lock = self.lock(cancel)?;
        let granted = self.ask(&form, cancel).map_err(Denied::error)?;
        self.keep(granted, lock)
    }

    /// Begins a sign-in on another device (RFC 8628): show the user [`Device::user_code`] and [`Device::uri`], then
    /// [`wait`](Self::wait), or [`poll`](Self::poll).
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// # use ewsnotify::{net::Cancel, sign_in::SignIn, sim::Sim};
    /// # let sim = Sim::builder().user("ada@example.test", "secret").start()?;
    /// # sim.issuer().register("helpdesk", None, None);
    /// # let mut options = ewsnotify::Options::new();
    /// # options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
    /// # options.set("oauth_device_url", &sim.token_url().replace("/token", "/devicecode"))?;
    /// # options.set("oauth_token_url", &sim.token_url())?.set("oauth_client_id", "helpdesk")?.set("user", "ada@example.test")?;
    /// let sign_in = SignIn::new(&options)?;
    /// let device = sign_in.device(&Cancel::new())?;
    /// println!("Open {} and type {}", device.uri, device.user_code);
    /// # sim.issuer().device(&device.user_code, Some("ada@example.test"));
    /// let signed_in = sign_in.wait(&device.kept, &Cancel::new())?;
    /// assert!(signed_in.refresh_token.is_some());
    /// # }
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the issuer's address for devices is not known; [`ErrorKind::Auth`] where it refuses; those of the
    /// network, and of a store that cannot be used.
    pub fn device(&self, cancel: &Cancel) -> Result<Device> {
        self.store()?;
        let form = Form::device(&self.oauth.account)?;
        let (status, body, retry_after) = runtime::send(&self.asker, &form, cancel)?;
        let redact = |text: &str| self.asker.tap.secrets.redact(text).into_owned();
        let read = oauth::Device::read(status, &body, retry_after, &redact);
        let oauth::Device { code, user_code, uri, whole_uri, life, interval } =
            read.map_err(|e| e.context(&form.to))?;
        let now = SystemTime::now();
        let kept = self.kept(Way::Device { code, interval, next: now + interval, until: now + life });
        Ok(Device { user_code, uri, whole_uri, life, kept })
    }

    /// Waits, so long at most, until the user has signed in there, asking as often as the issuer allows, and stores the tokens. With no
    /// time it asks once where a question is due, else not at all: for a page that is loaded again and again. A signal ends the wait.
    ///
    /// A question that is under way is waited for (as in [`finish`](Self::finish)), also beyond the time: its answer may be the tokens,
    /// which are given once.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// # use std::time::Duration;
    /// # use ewsnotify::{net::Cancel, sign_in::{Polled, SignIn}, sim::Sim};
    /// # let sim = Sim::builder().user("ada@example.test", "secret").start()?;
    /// # sim.issuer().register("helpdesk", None, None);
    /// # let mut options = ewsnotify::Options::new();
    /// # options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
    /// # options.set("oauth_device_url", &sim.token_url().replace("/token", "/devicecode"))?;
    /// # options.set("oauth_token_url", &sim.token_url())?.set("oauth_client_id", "helpdesk")?.set("user", "ada@example.test")?;
    /// # let sign_in = SignIn::new(&options)?;
    /// let mut kept = sign_in.device(&Cancel::new())?.kept;
    /// match sign_in.poll(&kept, Duration::ZERO, &Cancel::new())? {
    ///     Polled::Done(_) => println!("signed in"),
    ///     Polled::Pending { kept: next, .. } => kept = next,
    ///     _ => {}
    /// }
    /// # }
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Auth`] where the user said no or the code is too old; [`ErrorKind::Closed`] where it was cancelled;
    /// [`ErrorKind::Invalid`] where `kept` is not what this sign-in began with; those of storing.
    pub fn poll(&self, kept: &Secret, timeout: Duration, cancel: &Cancel) -> Result<Polled> {
        let Way::Device { code, mut interval, mut next, until } = self.read(kept)? else {
            let text = "this sign-in was begun with a browser: it goes on with the query that the browser comes back with";
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        self.know(&code);
        let started = Instant::now();
        let sleeper = Arc::new(Sleeper(Waker::new()?));
        let as_wake: Arc<dyn Wake> = sleeper.clone();
        let _woken = cancel.register(Arc::downgrade(&as_wake));
        interval = interval.min(MAX_INTERVAL);
        let mut trouble: Option<Error> = None;
        loop {
            if SystemTime::now() >= until {
                let mut text = "nobody has signed in while the code was good: begin again".to_owned();
                if let Some(e) = trouble {
                    text += &format!("; the last question for it came to nothing: {e}");
                }
                return Err(Error::new(ErrorKind::Auth, text).with_code("expired_token"));
            }
            // A clock that was set back must not make anybody wait for longer.
            let due_in = next.duration_since(SystemTime::now()).unwrap_or_default().min(interval);
            let left = timeout.saturating_sub(started.elapsed());
            let waited = sleeper.0.sleep(due_in.min(left));
            if cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Closed, "the sign-in was cancelled"));
            }
            let interrupted = waited == Waited::Interrupted;
            if interrupted || left < due_in {
                let due_in = next.duration_since(SystemTime::now()).unwrap_or_default().min(interval);
                let kept = self.kept(Way::Device { code, interval, next, until });
                return Ok(Polled::Pending { kept, due_in, interrupted, trouble });
            }
            let form =
                Form::device_token(&self.oauth.account, &code, SystemTime::now(), &mut runtime::random)?;
            let lock = self.lock(cancel)?;
            match Pending::of(self.ask(&form, cancel), &mut interval) {
                Pending::Done(granted) => return self.keep(granted, lock).map(Polled::Done),
                Pending::Wait(why) => (next, trouble) = (SystemTime::now() + interval, why),
                Pending::Over(e) => return Err(e),
            }
        }
    }

    /// The same for as long as the code is good, whatever signals come. See [`device`](Self::device).
    ///
    /// # Errors
    /// Those of [`poll`](Self::poll).
    pub fn wait(&self, kept: &Secret, cancel: &Cancel) -> Result<SignedIn> {
        let mut kept = kept.clone();
        loop {
            match self.poll(&kept, Duration::MAX, cancel)? {
                Polled::Done(signed_in) => return Ok(signed_in),
                Polled::Pending { kept: next, .. } => kept = next,
            }
        }
    }

    fn kept(&self, way: Way) -> Secret {
        Kept { account: self.oauth.account.id(), way }.write()
    }

    fn read(&self, kept: &Secret) -> Result<Way> {
        self.know(kept);
        Ok(Kept::read(kept.expose(), &self.oauth.account.id())?.way)
    }

    /// What must not be shown, whoever quotes it.
    fn know(&self, secret: &Secret) {
        let account = &self.oauth.account;
        let public = [account.user.as_str(), &account.client_id, account.endpoints.token.host()];
        self.asker.tap.secrets.add_beside(secret, &public);
    }

    fn ask(&self, form: &Form, cancel: &Cancel) -> Result<Granted, Denied> {
        let granted = runtime::request(&self.asker, form, cancel)?;
        self.know(&granted.access_token);
        granted.refresh_token.iter().for_each(|token| self.know(token));
        Ok(granted)
    }

    fn store(&self) -> Result<Option<TokenStore>> {
        self.oauth.store.as_deref().map(TokenStore::open).transpose()
    }

    /// The account's lock, if there is a place to store tokens in: taken before a code is spent, for what comes for it is lost where it
    /// cannot be stored.
    fn lock(&self, cancel: &Cancel) -> Result<Option<TokenLock>> {
        let until = Instant::now() + LOCK;
        let lock = |store: TokenStore| store.lock(&self.oauth.account.id(), until, &|| cancel.is_cancelled());
        self.store()?.map(lock).transpose()
    }

    /// Stores what was given, if there is a place for it.
    fn keep(&self, granted: Granted, lock: Option<TokenLock>) -> Result<SignedIn> {
        let Granted { access_token, life, refresh_token } = granted;
        let stored = lock.is_some();
        let mut lasting = refresh_token.is_some();
        if let Some(lock) = lock {
            let id = self.oauth.account.id();
            // What the host had been given before is older than this sign-in.
            let before = lock.read().ok().flatten().and_then(|bytes| Record::read(&bytes, &id).ok());
            let (given, kept) = before.map_or((None, None), |before| (before.given, before.refresh_token));
            // An answer without one says nothing of the one that is stored, which may be good for months; it goes on with what was given
            // when it was stored.
            let (given, newest) = match (&refresh_token, kept) {
                (None, Some(kept)) => (given, Some(kept)),
                _ => (self.oauth.account.given().or(given), refresh_token.clone()),
            };
            lasting = newest.is_some();
            let since = SystemTime::now();
            let record = Record {
                account: id,
                given,
                refresh_token: newest,
                access_token: Some(access_token.clone()),
                since,
                until: since + life,
            };
            lock.write(&record.write())?;
        }
        Ok(SignedIn { refresh_token, access_token, life, stored, lasting })
    }
}

/// Whoever waits for a user; a cancel ends it.
struct Sleeper(Arc<Waker>);

impl Wake for Sleeper {
    fn wake(&self) {
        self.0.wake();
    }
}
