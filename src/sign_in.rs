//! A user signs in, for a program that then watches the mailbox without them: with a browser that comes back to a web page of the
//! program's, or on another device.
//!
//! ```
//! # #[cfg(feature = "sim")] {
//! # use ewsnotify::sim::Sim;
//! use ewsnotify::net::Cancel;
//! use ewsnotify::sign_in::{SignIn, code};
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
//! // First page: the browser goes to `begun.url`; state and verifier are kept in the user's session.
//! let begun = sign_in.begin("https://helpdesk.example.com/signed-in")?;
//! # let query = sim.issuer().visit(&begun.url).unwrap();
//!
//! // Second page: the browser is back, with a query.
//! let code = code(&query, &begun.state)?;
//! let signed_in =
//!     sign_in.finish(&code, "https://helpdesk.example.com/signed-in", &begun.verifier, &Cancel::new())?;
//! assert!(signed_in.refresh_token.is_some());
//! # }
//! # Ok::<(), ewsnotify::Error>(())
//! ```

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::auth::Secret;
use crate::auth::oauth::{Authorization, Denied, Form, Granted, Pending, Record};
use crate::net::{Asker, Cancel, Counters, Lookups, Tap, Tls};
use crate::options::{self, OAuth};
use crate::store::tokens::TokenStore;
use crate::{Error, ErrorKind, Options, Result, runtime};

pub use crate::auth::oauth::Device;

/// How long another process that renews the tokens is waited for.
const LOCK: Duration = Duration::from_secs(45);
const TICK: Duration = Duration::from_millis(50);

/// Signs users in with an issuer.
#[derive(Debug)]
pub struct SignIn {
    oauth: OAuth,
    asker: Asker,
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
}

/// The code, from the query that a browser came back with (what stands behind the `?`).
///
/// ```
/// use ewsnotify::auth::Secret;
///
/// let state = Secret::new("kept-in-the-session");
/// let code = ewsnotify::sign_in::code("code=0.AX&state=kept-in-the-session", &state)?;
/// assert_eq!(code.expose(), "0.AX");
/// # Ok::<(), ewsnotify::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Auth`] with the issuer's code where somebody said no; [`ErrorKind::Invalid`] for the query of another sign-in, or none.
pub fn code(query: &str, state: &Secret) -> Result<Secret> {
    Authorization::code(query, state)
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

    /// Begins a sign-in with a browser (RFC 6749, section 4.1, with PKCE, RFC 7636). `redirect` is where it comes back to, as it is
    /// registered for the program. See [the module](self).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the issuer's address for browsers is not known.
    pub fn begin(&self, redirect: &str) -> Result<Authorization> {
        Authorization::begin(&self.oauth.account, redirect, &mut runtime::random)
    }

    /// Exchanges the code that the browser brought back for tokens, and stores them, on the calling thread. See [the module](self).
    ///
    /// # Errors
    /// [`ErrorKind::Auth`] with the issuer's code where it refuses; those of the network; those of storing, which leave nothing behind:
    /// the sign-in has to begin again.
    pub fn finish(
        &self,
        code: &Secret,
        redirect: &str,
        verifier: &Secret,
        cancel: &Cancel,
    ) -> Result<SignedIn> {
        let account = &self.oauth.account;
        let form =
            Form::code(account, code.expose(), redirect, verifier, SystemTime::now(), &mut runtime::random)?;
        let granted = self.ask(&form, cancel).map_err(Denied::error)?;
        self.keep(granted, cancel)
    }

    /// Begins a sign-in on another device (RFC 8628): show the user [`Device::user_code`] and [`Device::uri`], then
    /// [`wait`](Self::wait).
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
    /// let signed_in = sign_in.wait(device, &Cancel::new())?;
    /// assert!(signed_in.refresh_token.is_some());
    /// # }
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the issuer's address for devices is not known; [`ErrorKind::Auth`] where it refuses; those of the network.
    pub fn device(&self, cancel: &Cancel) -> Result<Device> {
        let form = Form::device(&self.oauth.account)?;
        let (status, body, retry_after) = runtime::send(&self.asker, &form, cancel)?;
        Device::read(status, &body, retry_after).map_err(|e| e.context(&form.to))
    }

    /// Waits until the user has signed in there, asking as often as the issuer allows, and stores the tokens. See
    /// [`device`](Self::device).
    ///
    /// # Errors
    /// [`ErrorKind::Auth`] where the user said no or the code is too old; [`ErrorKind::Closed`] where it was cancelled; those of storing.
    pub fn wait(&self, mut device: Device, cancel: &Cancel) -> Result<SignedIn> {
        let until = Instant::now() + device.life;
        let account = &self.oauth.account;
        loop {
            let next = Instant::now() + device.interval;
            while Instant::now() < next {
                if cancel.is_cancelled() {
                    return Err(Error::new(ErrorKind::Closed, "the sign-in was cancelled"));
                }
                thread::sleep(TICK.min(next.saturating_duration_since(Instant::now())));
            }
            if Instant::now() >= until {
                let text = "nobody has signed in while the code was good: begin again";
                return Err(Error::new(ErrorKind::Auth, text).with_code("expired_token"));
            }
            let form = Form::device_token(account, &device.code, SystemTime::now(), &mut runtime::random)?;
            match device.answered(self.ask(&form, cancel)) {
                Pending::Done(granted) => return self.keep(granted, cancel),
                Pending::Wait => {}
                Pending::Over(e) => return Err(e),
            }
        }
    }

    fn ask(&self, form: &Form, cancel: &Cancel) -> Result<Granted, Denied> {
        runtime::request(&self.asker, form, cancel)
    }

    /// Stores what was given, if there is a place for it.
    fn keep(&self, granted: Granted, cancel: &Cancel) -> Result<SignedIn> {
        let Granted { access_token, life, refresh_token } = granted;
        let stored = self.oauth.store.is_some();
        if let Some(dir) = &self.oauth.store {
            let id = self.oauth.account.id();
            let lock = TokenStore::open(dir)?.lock(&id, Instant::now() + LOCK, &|| cancel.is_cancelled())?;
            // What the host had been given before is older than this sign-in.
            let before = lock.read().ok().flatten().and_then(|bytes| Record::read(&bytes, &id).ok());
            let (given, kept) = before.map_or((None, None), |before| (before.given, before.refresh_token));
            // An answer without one says nothing of the one that is stored, which may be good for months; it goes on with what was given
            // when it was stored.
            let (given, newest) = match (&refresh_token, kept) {
                (None, Some(kept)) => (given, Some(kept)),
                _ => (self.oauth.account.given().or(given), refresh_token.clone()),
            };
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
        Ok(SignedIn { refresh_token, access_token, life, stored })
    }
}
