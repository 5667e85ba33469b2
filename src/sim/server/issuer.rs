//! A token endpoint: programs that are registered with it, users who sign in, tokens that end, rotate, are revoked or refused.
//!
//! It knows forms and JSON and no socket. Bytes by hand, as Microsoft Entra ID writes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
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
const HTML: &str = "text/html; charset=utf-8";

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
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Pairs(pairs.map(|(name, value)| (plain(name), plain(value))).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

fn plain(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
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

fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
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

    /// Whether the program is the one that it says; whether it proved that.
    fn proven(&mut self, client: &str, url: &str, form: &Pairs) -> Result<bool, Said> {
        let Some(program) = self.programs.get_mut(client) else {
            let text = format!(
                "AADSTS700016: Application with identifier '{client}' was not found in the directory."
            );
            return Err(refused(400, "unauthorized_client", &text, &[700_016]));
        };
        let assertion = form.get("client_assertion");
        if let Some(certificate) = program.certificate.as_ref().filter(|_| !assertion.is_empty()) {
            let id = assertion_id(certificate, client, url, assertion).ok_or_else(|| {
                let text = "AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on \
                            application.";
                refused(401, "invalid_client", text, &[700_027])
            })?;
            if program.seen.contains(&id) {
                return Err(refused(
                    401,
                    "invalid_client",
                    "AADSTS700024: Client assertion was used before.",
                    &[700_024],
                ));
            }
            program.seen.push(id);
            return Ok(true);
        }
        match &program.secret {
            Some(secret) if form.get("client_secret") == secret => Ok(true),
            None if program.certificate.is_none() => Ok(false),
            _ => {
                let text = "AADSTS7000215: Invalid client secret provided.";
                Err(refused(401, "invalid_client", text, &[7_000_215]))
            }
        }
    }

    fn authorize(&mut self, query: &Pairs) -> Said {
        let redirect = query.get("redirect_uri").to_owned();
        let state = percent(query.get("state"));
        let to = |pairs: String| Said {
            status: 302,
            // One that has a query keeps it (RFC 6749, section 3.1.2).
            location: Some(format!(
                "{redirect}{}{pairs}&state={state}",
                if redirect.contains('?') { '&' } else { '?' }
            )),
            content_type: "",
            body: String::new(),
        };
        if redirect.is_empty() || !self.programs.contains_key(query.get("client_id")) {
            return refused(
                400,
                "invalid_request",
                "AADSTS900144: The request body must contain 'client_id'.",
                &[900_144],
            );
        }
        let challenge = query.get("code_challenge").to_owned();
        if query.get("code_challenge_method") != "S256" || challenge.len() != 43 {
            return to("error=invalid_request&error_description=AADSTS9002325%3A+Proof+Key+for+Code+Exchange+is+required".into());
        }
        let Some(user) = self.at_browser(query.get("login_hint")) else {
            return to("error=access_denied&error_description=AADSTS65004%3A+User+declined+to+consent".into());
        };
        let code = self.new_token("code");
        let kept =
            Code { client: query.get("client_id").to_owned(), user, redirect: redirect.clone(), challenge };
        self.codes.insert(code.clone(), kept);
        to(format!("code={code}"))
    }

    fn at_browser(&self, hint: &str) -> Option<String> {
        let users = &self.settings.browsers;
        users.iter().find(|user| *user == hint).or(users.first()).cloned()
    }

    /// The page that a device's code is typed into.
    fn device_page(&mut self, query: &Pairs) -> Said {
        let user = self.at_browser(query.get("user"));
        let code = query.get("user_code").trim().to_ascii_uppercase();
        let waiting =
            self.devices.values_mut().find(|device| device.user_code == code && device.user.is_none());
        let text = match (waiting, &user) {
            (Some(device), Some(user)) => {
                device.user = Some(Some(user.clone()));
                "Signed in: you can close this page."
            }
            (Some(device), None) => {
                device.user = Some(None);
                "Somebody said no: you can close this page."
            }
            (None, _) if code.is_empty() => {
                "<form>Code: <input name=user_code autofocus> <button>Next</button></form>"
            }
            (None, _) => "There is no such code.",
        };
        let body = format!("<!DOCTYPE html><title>Sign in</title><p>{text}");
        Said { status: 200, location: None, content_type: HTML, body }
    }

    fn device(&mut self, url: &str, form: &Pairs) -> Said {
        let client = form.get("client_id").to_owned();
        if !self.programs.contains_key(&client) {
            let text = format!(
                "AADSTS700016: Application with identifier '{client}' was not found in the directory."
            );
            return refused(400, "unauthorized_client", &text, &[700_016]);
        }
        let (device_code, interval) = (self.new_token("dc"), self.settings.device_interval);
        let user_code = format!("SIM{:05}", self.last);
        let page = url.rsplit_once('/').map_or(url, |(before, _)| before);
        let body = json!({
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": format!("{page}/devicelogin"),
            "verification_uri_complete": format!("{page}/devicelogin?user_code={user_code}"),
            "expires_in": 900,
            "interval": interval,
            "message": "To sign in, use a web browser.",
        });
        self.devices
            .insert(device_code, Device { client, user_code, user: None, asked: None, strict: interval > 1 });
        Said { status: 200, location: None, content_type: JSON, body: body.to_string() }
    }

    fn device_user(&mut self, client: &str, code: &str) -> Result<String, Said> {
        let interval = Duration::from_secs(self.settings.device_interval);
        let Some(device) = self.devices.get_mut(code).filter(|device| device.client == client) else {
            return Err(refused(
                400,
                "expired_token",
                "AADSTS70020: The device code has expired.",
                &[70_020],
            ));
        };
        let early = device.asked.replace(Instant::now()).is_some_and(|asked| asked.elapsed() < interval);
        match device.user.clone() {
            None if early && device.strict => Err(refused(400, "slow_down", "Too many requests.", &[])),
            None => {
                let text =
                    "AADSTS70016: OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
                Err(refused(400, "authorization_pending", text, &[70_016]))
            }
            Some(None) => {
                self.devices.remove(code);
                Err(refused(400, "authorization_declined", "AADSTS65004: The user said no.", &[65_004]))
            }
            Some(Some(user)) => {
                self.devices.remove(code);
                Ok(user)
            }
        }
    }
}

/// The `jti` of a good assertion: signed by the certificate's key, for this place, by this program, and not too old.
fn assertion_id(certificate: &str, client: &str, url: &str, assertion: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let read = |part: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let (header, claims) = (read(header)?, read(claims)?);
    let thumb = BASE64_URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &certificate));
    if header["typ"] != "JWT" || header["x5t#S256"] != thumb.as_str() {
        return None;
    }
    let algorithm = match header["alg"].as_str()? {
        "PS256" => webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        "RS256" => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
        _ => return None,
    };
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    webpki::EndEntityCert::try_from(&certificate)
        .ok()?
        .verify_signature(algorithm, signed.as_bytes(), &signature)
        .ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let good = claims["iss"] == client
        && claims["sub"] == client
        && claims["aud"] == url
        && claims["nbf"].as_u64()? <= now
        && claims["exp"].as_u64()? > now
        && claims["exp"].as_u64()? < now + 660;
    good.then(|| claims["jti"].as_str().map(str::to_owned)).flatten()
}
