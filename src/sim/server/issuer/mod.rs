//! A token endpoint: programs that are registered with it, users who sign in, tokens that end, rotate, are revoked or refused.
//!
//! It knows forms and JSON and no socket. Bytes by hand, as Microsoft Entra ID writes them.

mod devices;
mod pages;
mod proof;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

const OFFER: &str = "Bearer client_id=\"00000002-0000-0ff1-ce00-000000000000\", \
trusted_issuers=\"00000001-0000-0000-c000-000000000000@*\", token_types=\"app_asserted_user_v1 service_asserted_app_v1\"";

/// The token endpoint of a [`Sim`](super::Sim), at `…/TENANT/oauth2/v2.0/token`, for any tenant, and as AD FS has it at
/// `…/adfs/oauth2/token`; beside it are `authorize`, `devicecode`, and for people `devicelogin`.
///
/// ```
/// # use ewsnotify::sim::Sim;
/// let sim = Sim::builder().user("ada@example.test", "secret").start()?;
/// sim.issuer().register("app-1", Some("app-secret"), None);
/// let refresh_token = sim.issuer().sign_in("app-1", "ada@example.test");
/// assert_eq!(sim.issuer().counts().requests, 0);
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Issuer {
    state: Mutex<State>,
    changed: Condvar,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Questions for a token.
    pub requests: usize,
    /// Those that were answered with one.
    pub granted: usize,
    /// Refresh tokens that came although they had been replaced.
    pub old: usize,
    /// Questions that are under way.
    pub under_way: usize,
    /// How many were at a time.
    pub most: usize,
}

#[derive(Debug, Default)]
struct State {
    programs: BTreeMap<String, Program>,
    settings: Settings,
    /// By access token.
    access: BTreeMap<String, Access>,
    /// By refresh token: program and user.
    refresh: BTreeMap<String, Refresh>,
    codes: BTreeMap<String, Code>,
    /// Codes that were exchanged.
    redeemed: BTreeSet<String>,
    devices: BTreeMap<String, Device>,
    refusals: VecDeque<Refusal>,
    counts: Counts,
    last: u64,
    /// What the next tokens end with.
    texts: VecDeque<String>,
}

#[derive(Debug)]
struct Settings {
    life: Duration,
    rotate: bool,
    device_interval: u64,
    claims: Option<Value>,
    browsers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            life: Duration::from_secs(3600),
            rotate: true,
            device_interval: 1,
            claims: None,
            browsers: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Program {
    secret: Option<String>,
    certificate: Option<String>,
    seen: Vec<String>,
}

#[derive(Debug)]
struct Access {
    until: Instant,
    who: Bearer,
    revoked: bool,
    claims: Option<Value>,
}

#[derive(Clone, Debug)]
struct Refresh {
    client: String,
    user: String,
    replaced: bool,
}

#[derive(Debug)]
struct Code {
    client: String,
    user: String,
    redirect: String,
    challenge: String,
}

#[derive(Debug)]
struct Device {
    client: String,
    user_code: String,
    /// `None` until the user has signed in or said no.
    user: Option<Option<String>>,
    asked: Option<Instant>,
    strict: bool,
}

#[derive(Clone, Debug)]
struct Refusal {
    status: u16,
    error: String,
    description: String,
    codes: Vec<u64>,
}

/// Who comes with an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The user, or the program.
    pub(super) name: String,
    /// Whether it is a program of its own.
    pub(super) app_only: bool,
}

const JSON: &str = "application/json; charset=utf-8";

/// An answer.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Token,
    Authorize,
    Device,
    DevicePage,
}

impl Place {
    pub(super) fn of(path: &str) -> Option<Place> {
        let path = path.split('?').next().unwrap_or_default();
        let (before, last) = path.rsplit_once('/')?;
        if !before.ends_with("/oauth2/v2.0") && !before.ends_with("/oauth2") {
            return None;
        }
        match last {
            "token" => Some(Place::Token),
            "authorize" => Some(Place::Authorize),
            "devicecode" => Some(Place::Device),
            "devicelogin" => Some(Place::DevicePage),
            _ => None,
        }
    }

    /// What it is called among the operations.
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Token => "Token",
            Place::Authorize => "Authorize",
            Place::Device => "DeviceCode",
            Place::DevicePage => "DeviceLogin",
        }
    }

    /// Whether a browser comes there.
    pub(super) fn is_page(self) -> bool {
        matches!(self, Place::Authorize | Place::DevicePage)
    }
}

impl Issuer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a program: with a secret, with a certificate (PEM), or with neither as a public one.
    pub fn register(&self, client_id: &str, secret: Option<&str>, certificate: Option<&str>) {
        let program = Program {
            secret: secret.map(str::to_owned),
            certificate: certificate.map(str::to_owned),
            seen: Vec::new(),
        };
        self.lock().programs.insert(client_id.to_owned(), program);
    }

    /// How long access tokens are good from now on; an hour unless told.
    pub fn set_life(&self, life: Duration) {
        self.lock().settings.life = life;
    }

    /// Whether each renewal brings a new refresh token, and the one before is not taken any more; it does unless told.
    pub fn rotate(&self, rotate: bool) {
        self.lock().settings.rotate = rotate;
    }

    /// A refresh token of a user who has signed in to the program.
    pub fn sign_in(&self, client_id: &str, user: &str) -> String {
        self.lock().new_refresh(client_id, user)
    }

    /// What the next tokens and codes end with, in turn, in place of random texts: for tests that look for them.
    pub fn next_texts(&self, texts: impl IntoIterator<Item = String>) {
        self.lock().texts.extend(texts);
    }

    /// Who sits at the browser that comes to `authorize` or `devicelogin`: the user, who says yes; or nobody, who says no.
    pub fn browser(&self, user: Option<&str>) {
        self.browsers(user.as_slice());
    }

    /// The same for several users: the one whom the program names (`login_hint`), else the first.
    pub fn browsers(&self, users: &[&str]) {
        self.lock().settings.browsers = users.iter().map(|user| (*user).to_owned()).collect();
    }

    /// What a browser does that goes to this address, and where the issuer sends it then: the query that the program sees.
    pub fn visit(&self, url: &str) -> Option<String> {
        let (_, query) = url.split_once('?')?;
        let said = self.answer(Place::Authorize, url, query, b"");
        said.location?.split_once('?').map(|(_, query)| query.to_owned())
    }

    /// The user types the code of a device in, and signs in, or says no.
    pub fn device(&self, user_code: &str, user: Option<&str>) {
        let mut state = self.lock();
        if let Some(device) = state.devices.values_mut().find(|device| device.user_code == user_code) {
            device.user = Some(user.map(str::to_owned));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The interval that devices are told, in seconds; who asks sooner is told to slow down.
    pub fn device_interval(&self, seconds: u64) {
        self.lock().settings.device_interval = seconds;
    }

    /// The next question is refused with this error, in Entra's form.
    pub fn refuse_next(&self, status: u16, error: &str, description: &str, codes: &[u64]) {
        let (error, description, codes) = (error.to_owned(), description.to_owned(), codes.to_vec());
        self.lock().refusals.push_back(Refusal { status, error, description, codes });
    }

    /// No access token that was given is taken any more.
    pub fn revoke_access(&self) {
        self.lock().access.values_mut().for_each(|access| access.revoked = true);
    }

    /// No refresh token is taken any more: the users have to sign in.
    pub fn revoke_refresh(&self) {
        self.lock().refresh.clear();
    }

    /// The server takes only tokens that were asked for with these claims, and says so in its challenge.
    pub fn demand_claims(&self, claims: Value) {
        self.lock().settings.claims = Some(claims);
    }

    /// Whether this refresh token is the newest of its family.
    pub fn is_newest(&self, refresh_token: &str) -> bool {
        self.lock().refresh.get(refresh_token).is_some_and(|refresh| !refresh.replaced)
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// A question for a token begins; another thread may ask meanwhile.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.counts.requests += 1;
        state.counts.under_way += 1;
        state.counts.most = state.counts.most.max(state.counts.under_way);
    }

    /// It was answered, or its connection has gone.
    pub(super) fn end(&self) {
        self.lock().counts.under_way -= 1;
    }

    /// Answers a request.
    pub(super) fn answer(&self, place: Place, url: &str, query: &str, body: &[u8]) -> Said {
        let body = String::from_utf8_lossy(body);
        let mut state = self.lock();
        match place {
            Place::Token => state.token(url, &Pairs::read(&body)),
            Place::Device => state.device(url, &Pairs::read(&body)),
            Place::Authorize => state.authorize(&Pairs::read(query)),
            Place::DevicePage => state.device_page(&Pairs::read(query)),
        }
    }

    /// That tokens are taken, where any can be had.
    pub(super) fn offer(&self) -> Option<String> {
        (!self.lock().programs.is_empty()).then(|| OFFER.to_owned())
    }

    /// Who comes with this token; or the challenge, where it is none.
    pub(super) fn bearer(&self, token: &str) -> Result<Bearer, String> {
        let state = self.lock();
        let challenge = |error: &str, claims: Option<&Value>| {
            let claims = claims.map(|c| format!(", claims=\"{}\"", BASE64_STANDARD.encode(c.to_string())));
            Err(format!("{OFFER}, error=\"{error}\"{}", claims.unwrap_or_default()))
        };
        let access =
            state.access.get(token).filter(|access| !access.revoked && Instant::now() < access.until);
        let Some(access) = access else { return challenge("invalid_token", None) };
        if state.settings.claims.is_some() && access.claims != state.settings.claims {
            return challenge("insufficient_claims", state.settings.claims.as_ref());
        }
        Ok(access.who.clone())
    }
}

/// The pairs of a form or a query.
struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn read(text: &str) -> Pairs {
        let plain = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Pairs(pairs.map(|(name, value)| (plain(name), plain(value))).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

fn refused(status: u16, error: &str, description: &str, codes: &[u64]) -> Said {
    let body = json!({
        "error": error,
        "error_description": format!("{description}\r\nTrace ID: 0a1b2c3d-0000-0000-0000-000000000000\r\nTimestamp: 2026-01-01 00:00:00Z"),
        "error_codes": codes,
        "timestamp": "2026-01-01 00:00:00Z",
        "trace_id": "0a1b2c3d-0000-0000-0000-000000000000",
    });
    Said { status, location: None, content_type: JSON, body: body.to_string() }
}

fn sha256(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
}

impl State {
    fn new_token(&mut self, prefix: &str) -> String {
        self.last += 1;
        let random = || format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        format!("{prefix}{}.{}", self.last, self.texts.pop_front().unwrap_or_else(random))
    }

    fn new_refresh(&mut self, client: &str, user: &str) -> String {
        let token = self.new_token("rt");
        let refresh = Refresh { client: client.to_owned(), user: user.to_owned(), replaced: false };
        self.refresh.insert(token.clone(), refresh);
        token
    }

    fn token(&mut self, url: &str, form: &Pairs) -> Said {
        if let Some(Refusal { status, error, description, codes }) = self.refusals.pop_front() {
            return refused(status, &error, &description, &codes);
        }
        let claims = form.get("claims");
        if !claims.is_empty() && serde_json::from_str::<serde_json::Map<String, Value>>(claims).is_err() {
            let text = "The request's parameter 'claims' is no JSON object.";
            return refused(400, "invalid_request", text, &[]);
        }
        let client = form.get("client_id").to_owned();
        let is_confidential = match self.proven(&client, url, form) {
            Ok(is_confidential) => is_confidential,
            Err(said) => return said,
        };
        let (user, old) = match form.get("grant_type") {
            "client_credentials" if !is_confidential => {
                let text =
                    "AADSTS70002: The request body must contain 'client_assertion' or 'client_secret'.";
                return refused(401, "invalid_client", text, &[70_002]);
            }
            "client_credentials" if !form.get("scope").ends_with("/.default") => {
                let text = "AADSTS1002012: The provided value for scope is not valid. Client credential flows must have a scope \
                            value with /.default suffixed to the resource identifier.";
                return refused(400, "invalid_scope", text, &[1_002_012]);
            }
            "client_credentials" => (None, None),
            "refresh_token" => {
                let token = form.get("refresh_token");
                let known = self.refresh.get(token).filter(|refresh| refresh.client == client).cloned();
                match known {
                    Some(refresh) if !refresh.replaced => (Some(refresh.user), Some(token.to_owned())),
                    Some(refresh) => {
                        self.counts.old += 1;
                        // Somebody has stolen it, perhaps: the whole family goes.
                        self.refresh.retain(|_, other| other.user != refresh.user);
                        let text = "AADSTS700082: The refresh token was used before.";
                        return refused(400, "invalid_grant", text, &[700_082]);
                    }
                    None => {
                        let text = "AADSTS70000: The provided value for the input parameter 'refresh_token' is not valid.";
                        return refused(400, "invalid_grant", text, &[70_000]);
                    }
                }
            }
            "authorization_code" => {
                let text = form.get("code");
                if self.redeemed.contains(text) {
                    let text = "AADSTS54005: OAuth2 Authorization code was already redeemed, please retry with a new valid code or use \
                                an existing refresh token.";
                    return refused(400, "invalid_grant", text, &[54_005]);
                }
                let code = self.codes.remove(text);
                let good = code.filter(|code| {
                    code.client == client
                        && code.redirect == form.get("redirect_uri")
                        && code.challenge == sha256(form.get("code_verifier"))
                });
                let Some(code) = good else {
                    let text = "AADSTS501481: The Code_Verifier does not match the code_challenge supplied in the authorization \
                                request.";
                    return refused(400, "invalid_grant", text, &[501_481]);
                };
                self.redeemed.insert(text.to_owned());
                (Some(code.user), None)
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                match self.device_user(&client, form.get("device_code")) {
                    Ok(user) => (Some(user), None),
                    Err(said) => return said,
                }
            }
            _ => {
                return refused(
                    400,
                    "unsupported_grant_type",
                    "AADSTS70003: The app requested an unsupported grant type.",
                    &[70_003],
                );
            }
        };
        self.grant(&client, user, old, form)
    }

    fn grant(&mut self, client: &str, user: Option<String>, old: Option<String>, form: &Pairs) -> Said {
        let access = self.new_token("at");
        let who = match &user {
            Some(user) => Bearer { name: user.clone(), app_only: false },
            None => Bearer { name: client.to_owned(), app_only: true },
        };
        let claims = serde_json::from_str(form.get("claims")).ok();
        let until = Instant::now() + self.settings.life;
        self.access.insert(access.clone(), Access { until, who, revoked: false, claims });
        let mut body = json!({
            "token_type": "Bearer",
            "scope": form.get("scope"),
            "expires_in": self.settings.life.as_secs(),
            "ext_expires_in": self.settings.life.as_secs(),
            "access_token": access,
        });
        let rotates = old.is_none() || self.settings.rotate;
        if let Some(user) = user.filter(|_| rotates) {
            if let Some(old) = old.and_then(|old| self.refresh.get_mut(&old)) {
                old.replaced = true;
            }
            body["refresh_token"] = self.new_refresh(client, &user).into();
        }
        self.counts.granted += 1;
        Said { status: 200, location: None, content_type: JSON, body: body.to_string() }
    }
}
