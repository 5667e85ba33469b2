//! Settings by key, for Rust, C, JSON and the command alike.

mod config;
mod folders;
mod network;
mod oauth;
mod sign_in;
mod table;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::auth::{Secret, Secrets};
use crate::net::Endpoint;
use crate::{Error, ErrorKind, Result};

/// The `url` of whoever has Autodiscover look for it.
const AUTO: &str = "auto";

pub(crate) use config::{ClientConfig, PushConfig, WatchConfig};
pub(crate) use network::net_config;
pub(crate) use oauth::OAuth;
pub(crate) use sign_in::{Access, SignIn, Ways};
pub use table::{OptionKind, OptionScope, OptionSpec};

/// How a watch hears of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// A hanging request on which the server writes events as they happen.
    #[default]
    Streaming,
    /// A question for events at an interval.
    Pull,
    /// Requests that the server sends when something has happened.
    Push,
}

/// What is fetched of an item before its event is handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fetch {
    /// Nothing: the event tells ids.
    #[default]
    None,
    /// Subject, sender, recipients, time, message id, size, attachments.
    Summary,
    /// The summary, and the whole message in a file.
    Mime,
}

/// How events are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ack {
    /// When the host asks for the next event, or closes.
    #[default]
    Auto,
    /// By the host, each by its `seq`.
    Manual,
}

/// A shorter secret could be guessed.
const SHORTEST_URL_SECRET: usize = 16;

/// Whether it can be a part of a URL as it is (RFC 3986, 2.3), and cannot be guessed.
fn is_url_secret(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.len() >= SHORTEST_URL_SECRET && text.bytes().all(plain)
}

/// Settings by key: of a client, of a watch, or of both. What a client was given is the default for its watches.
///
/// [`Options::table`] lists the keys with their types, defaults and meanings. A value is checked when it is set.
///
/// ```
/// use ewsnotify::Options;
///
/// let mut options = Options::new();
/// options.set("url", "mail.example.test")?.set("user", "ada@example.test")?;
/// options.set("idle_timeout", "90s")?;
/// options.set_json(r#"{"folders": ["inbox", "drafts"], "fetch": "summary"}"#)?;
/// assert_eq!(options.get("idle_timeout"), Some("90s"));
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Options {
    plain: BTreeMap<&'static str, String>,
    secret: BTreeMap<&'static str, Secret>,
}

impl Options {
    /// No settings.
    pub fn new() -> Options {
        Options::default()
    }

    /// Sets a key. Lists are separated by commas; durations are as `90s`, `2m`, or a number of seconds.
    ///
    /// ```
    /// let mut options = ewsnotify::Options::new();
    /// assert!(options.set("connection_minutes", "31").unwrap_err().to_string().contains("1 to 30"));
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a key that is not in the table or a value that does not fit it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<&mut Options> {
        let spec = table::find(key)?;
        spec.check(value)?;
        let mut value = value;
        if spec.name == "url" {
            match value.trim().eq_ignore_ascii_case(AUTO) {
                // In another case it would be looked up as the name of a host, in vain.
                true => value = AUTO,
                // One with a password in it would be printed with the rest.
                false => drop(Endpoint::parse(value.trim())?),
            }
        }
        if spec.name == "push_secret" && !is_url_secret(value) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "option push_secret: at least {SHORTEST_URL_SECRET} letters, digits, '-', '.', '_' and '~' are wanted, since it \
                     is part of a URL"
                ),
            ));
        }
        if spec.name == "proxy" {
            network::proxy(value)?;
        }
        if spec.kind == OptionKind::Secret {
            self.secret.insert(spec.name, Secret::new(value));
        } else {
            self.plain.insert(spec.name, value.trim().to_owned());
        }
        Ok(self)
    }

    /// Sets every key of a JSON object. A list may be an array of strings; numbers and truth values are taken as such.
    ///
    /// ```
    /// let mut options = ewsnotify::Options::new();
    /// options.set_json(r#"{"url": "mail.example.test", "all_folders": true, "events": ["NewMail", "Moved"]}"#)?;
    /// assert_eq!(options.get("events"), Some("NewMail,Moved"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for text that is no JSON object, an unknown key, or a value that does not fit. Nothing is
    /// set then.
    pub fn set_json(&mut self, json: &str) -> Result<&mut Options> {
        let object = Parsed(serde_json::from_str(json).map_err(|e| {
            // serde_json quotes what it read, which may be a password: only the place is told.
            let text = format!("the options are no JSON object: line {}, column {}", e.line(), e.column());
            Error::new(ErrorKind::Invalid, text)
        })?);
        let mut next = self.clone();
        for (key, value) in &object.0 {
            let spec = table::find(key)?;
            if let (OptionKind::Folders, serde_json::Value::Array(folders)) = (spec.kind, value) {
                // Each by itself: a \ at the end of one would guard the comma that joins it to the next, and make one folder of two.
                folders.iter().filter_map(|f| f.as_str()).try_for_each(|folder| spec.check(folder))?;
            }
            next.set(key, &flatten(key, value)?)?;
        }
        *self = next;
        Ok(self)
    }

    /// The value that a key was given, as text; `None` for one that was not set, and for secrets.
    ///
    /// ```
    /// let mut options = ewsnotify::Options::new();
    /// options.set("password", "hush")?;
    /// assert_eq!(options.get("password"), None);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn get(&self, key: &str) -> Option<&str> {
        self.plain.get(key).map(String::as_str)
    }

    /// The table of keys.
    ///
    /// ```
    /// let idle = ewsnotify::Options::table().iter().find(|o| o.name == "idle_timeout").unwrap();
    /// assert_eq!(idle.default, "120s");
    /// ```
    pub fn table() -> &'static [OptionSpec] {
        table::TABLE
    }

    /// Refuses settings of the client, which would do nothing for a watch.
    pub(crate) fn only_a_watchs(&self) -> Result<()> {
        for key in self.plain.keys().chain(self.secret.keys()) {
            if table::find(key)?.scope == OptionScope::Client {
                let text = format!(
                    "option {key} is one of the client, not of a watch: set it where the client is opened"
                );
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        }
        Ok(())
    }

    /// These settings, and those of `defaults` for keys that are not set here.
    pub(crate) fn over(&self, defaults: &Options) -> Options {
        let mut merged = defaults.clone();
        // Two ways to name the same thing: the nearer one counts.
        if self.plain.contains_key("folders") && !self.plain.contains_key("all_folders") {
            merged.plain.remove("all_folders");
        }
        merged.plain.extend(self.plain.iter().map(|(k, v)| (*k, v.clone())));
        merged.secret.extend(self.secret.iter().map(|(k, v)| (*k, v.clone())));
        merged
    }

    /// Has the secrets among them known, so that they leave every text: see [`Secrets`].
    pub(crate) fn know(&self, secrets: &Secrets) {
        let url = self.value("url");
        let public = [self.value("user"), self.value("mailbox"), url, self.value("user_agent")];
        for secret in self.secret.values() {
            // Of a URL, the password is secret, and what stands behind the host may be.
            let Some((_, rest)) = secret.expose().split_once("://") else {
                secrets.add_beside(secret, &public);
                continue;
            };
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let signed = host.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.1, host)));
            let (password, host) = signed.unwrap_or(("", host));
            for part in [password, path] {
                secrets.keep(Secret::new(part), &[&public[..], &[host]].concat());
            }
        }
    }

    /// The value of a key of the table, or its default.
    fn value(&self, key: &'static str) -> &str {
        match self.plain.get(key) {
            Some(value) => value,
            None => table::find(key).map(|spec| spec.default).unwrap_or_default(),
        }
    }

    fn secret(&self, key: &'static str) -> Option<&Secret> {
        self.secret.get(key)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.plain).entries(&self.secret).finish()
    }
}

/// An object of JSON. One of its texts may be a password, so they are wiped when it goes.
struct Parsed(serde_json::Map<String, serde_json::Value>);

impl Drop for Parsed {
    fn drop(&mut self) {
        fn wipe(value: &mut serde_json::Value) {
            match value {
                serde_json::Value::String(text) => text.zeroize(),
                serde_json::Value::Array(values) => values.iter_mut().for_each(wipe),
                serde_json::Value::Object(object) => object.values_mut().for_each(wipe),
                _ => {}
            }
        }
        self.0.values_mut().for_each(wipe);
    }
}

fn flatten(key: &str, value: &serde_json::Value) -> Result<Zeroizing<String>> {
    use serde_json::Value;
    fn one(value: &Value) -> Option<Cow<'_, str>> {
        match value {
            Value::String(text) => Some(text.into()),
            Value::Number(number) => Some(number.to_string().into()),
            Value::Bool(truth) => Some(truth.to_string().into()),
            _ => None,
        }
    }
    let text = match value {
        Value::Array(values) => values.iter().map(one).collect::<Option<Vec<_>>>().map(|v| v.join(",")),
        value => one(value).map(Cow::into_owned),
    };
    text.map(Zeroizing::new).ok_or_else(|| {
        Error::new(
            ErrorKind::Invalid,
            format!("option {key}: a text, a number, true, false or a list is wanted"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // A password in a log or an error is a password lost.
    #[test]
    fn secrets_are_not_printed() {
        let mut options = Options::new();
        options.set("password", "s3cr3t-value").unwrap();
        assert!(!format!("{options:?}").contains("s3cr3t-value"));
        let e = options.set_json(r#"{"password": "s3cr3t-value", "nope": 1}"#).unwrap_err();
        assert!(!format!("{e:?} {e}").contains("s3cr3t-value"));
        let e = options.set_json(r#"{"password": "s3cr3t-value}"#).unwrap_err();
        assert!(!format!("{e:?} {e}").contains("s3cr3t-value"));
        let e = options.set_json(r#"{"password": ["s3cr3t-value", {}]}"#).unwrap_err();
        assert!(!format!("{e:?} {e}").contains("s3cr3t-value"));
        let e = options.set("proxy", "http://ada:s3cr3t-value@proxy.example.test").unwrap_err();
        assert!(!format!("{e:?} {e}").contains("s3cr3t-value"));
        options.set("proxy", "http://ada:s3cr3t-value@proxy.example.test:3128").unwrap();
        assert!(!format!("{options:?}").contains("s3cr3t-value"));
        let e = options.set("url", "https://ada:s3cr3t-value@mail.example.test").unwrap_err();
        assert!(!format!("{e:?} {e} {options:?}").contains("s3cr3t-value"));
    }

    // A typing error must not be taken for a setting.
    #[test]
    fn unknown_keys_and_bad_values_are_refused() {
        let mut options = Options::new();
        let e = options.set("idle_timout", "5s").unwrap_err().to_string();
        assert!(e.contains("idle_timeout"), "names the nearest key: {e}");
        for (key, value) in [
            ("idle_timeout", "soon"),
            ("idle_timeout", "-3"),
            ("connection_minutes", "0"),
            ("connection_minutes", "31"),
            ("all_folders", "maybe"),
            ("events", "NewMial"),
            ("events", ""),
            ("mode", "polling"),
            ("push_status_minutes", "0"),
            ("push_connections", "0"),
            ("push_timeout", "0s"),
            ("push_max_bytes", "100"),
            ("folders", "Support"),
            ("folders", ",,"),
            ("after_ack", "move:/a,/b"),
            ("after_ack", "move:nowhere"),
            ("user", ""),
            ("connect_to", "mail.example.test:443"),
            ("connect_to", ","),
            ("trusted_domains", "https://example.test"),
            ("proxy", "https://proxy.example.test:3128"),
            ("proxy", "http://proxy.example.test"),
            ("no_proxy", "example.test:443"),
            ("tls_pin", "sha256"),
            ("tls_min", "1.1"),
            ("password", "x\n"),
            ("oauth_client_secret", "x\r\n"),
            ("oauth_refresh_token", "x\ny"),
            ("proxy", "http://proxy.example.test:3128\n"),
        ] {
            let e = options.set(key, value).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Invalid, "{key}={value}");
            assert!(e.to_string().contains(key), "{e}");
        }
        let e = options.set("password", "").unwrap_err().to_string();
        assert!(e.contains("not empty"), "as where a variable is not set: {e}");
        let e = options.set("password", "secret\n").unwrap_err().to_string();
        assert!(e.contains("line end") && !e.contains("secret"), "as where a file was read: {e}");
        options.set("password", " x ").unwrap();
        assert!(options.set_json(r#"{"mode": "pull", "bad": 1}"#).is_err());
        assert_eq!(options.get("mode"), None, "nothing is set on an error");
    }

    // `Auto` would be looked up as the name of a host, and the watch told that there is no such server.
    #[test]
    fn auto_is_meant_in_any_case() {
        for auto in ["auto", "Auto", " AUTO "] {
            let mut options = Options::new();
            options.set("url", auto).unwrap().set("user", "ada@example.test").unwrap();
            options.set("password", "x").unwrap();
            assert_eq!(options.get("url"), Some("auto"), "{auto}");
            assert!(WatchConfig::read(&options).unwrap().endpoint.is_none(), "{auto}");
        }
    }

    // Two folders of a list would become one that nobody has.
    #[test]
    fn each_folder_of_an_array_is_checked_by_itself() {
        let mut options = Options::new();
        for folders in [r#"["inbox/a\\\\", "drafts"]"#, r#"["inbox/a\\,b", "drafts"]"#] {
            options.set_json(&format!(r#"{{"folders": {folders}}}"#)).unwrap();
        }
        for folders in [r#"["inbox/a\\", "drafts"]"#, r#"["drafts", "inbox/a\\"]"#, r#"["inbox", "Support"]"#]
        {
            let e = options.set_json(&format!(r#"{{"folders": {folders}}}"#)).unwrap_err();
            assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("folders"), "{folders}: {e}");
        }
    }

    #[test]
    fn every_default_is_a_value_that_can_be_set() {
        for spec in Options::table() {
            if !spec.default.is_empty() {
                Options::new().set(spec.name, spec.default).unwrap();
            }
        }
    }

    #[test]
    fn a_watch_overrides_its_client() {
        let mut client = Options::new();
        client.set("fetch", "mime").unwrap().set("all_folders", "true").unwrap();
        let mut watch = Options::new();
        watch.set("folders", "drafts").unwrap();
        let merged = watch.over(&client);
        assert_eq!(merged.value("fetch"), "mime");
        assert_eq!(merged.value("folders"), "drafts");
        assert_eq!(merged.value("all_folders"), "false");
    }
}
