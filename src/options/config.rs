//! Options, read: what the runtime works with.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::folders::{folder, words};
use super::network::net_config;
use super::oauth::OAuth;
use super::sign_in::{Access, SignIn, is_oauth, missing, searcher};
use super::table::{domain, duration, event, list};
use super::{AUTO, Ack, Fetch, Mode, Options};
use crate::auth::Secret;
use crate::autodiscover;
use crate::engine::{self, AfterAck, FolderPath};
use crate::net::{self, Endpoint};
use crate::proto::FolderRef;
use crate::{Error, ErrorKind, EventKind, Level, Result};

/// Of a client.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    pub connections: usize,
    pub subscriptions_per_connection: usize,
    pub workers: usize,
    pub queue_events: usize,
    pub queue_bytes: usize,
    pub pending_events: usize,
    pub max_envelope_bytes: usize,
    pub state_dir: Option<PathBuf>,
    pub spool_dir: Option<PathBuf>,
    pub spool_bytes: u64,
    pub spool_files: usize,
    pub close_timeout: Duration,
    /// After how long the client closes by itself.
    pub drain: Option<Duration>,
    pub log: Option<Level>,
    /// Where every request and answer is written down.
    pub trace_wire: Option<PathBuf>,
    pub push: PushConfig,
}

/// Of a client's own web server.
#[derive(Clone, Debug)]
pub(crate) struct PushConfig {
    pub listen: Option<String>,
    pub secret: Option<Secret>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub connections: usize,
    pub max_bytes: usize,
    pub timeout: Duration,
}

/// Of a watch.
#[derive(Clone, Debug)]
pub(crate) struct WatchConfig {
    /// `None` where Autodiscover is to find it.
    pub endpoint: Option<Endpoint>,
    /// Where Autodiscover may send the sign-in.
    pub trusted_domains: Vec<String>,
    pub user: String,
    pub sign_in: SignIn,
    pub mailbox: Arc<str>,
    pub access: Access,
    /// Empty for all folders.
    pub folders: Vec<FolderPath>,
    pub events: Vec<EventKind>,
    pub mode: Mode,
    pub fetch: Fetch,
    pub catch_up: bool,
    pub since_all: bool,
    pub ack: Ack,
    pub max_unacked: usize,
    pub coalesce: Duration,
    pub after_ack: AfterAck,
    pub max_item_bytes: u64,
    pub connection_minutes: u32,
    pub affinity: Arc<str>,
    pub pull_interval: Duration,
    pub pull_interval_max: Duration,
    pub pull_timeout_minutes: u32,
    pub push_url: Option<Secret>,
    pub push_status_minutes: u32,
    pub push_silence: Duration,
    pub envelope_timeout: Duration,
    pub net: net::Config,
}

impl ClientConfig {
    pub fn read(options: &Options) -> ClientConfig {
        ClientConfig {
            connections: number(options, "connections"),
            subscriptions_per_connection: number(options, "subscriptions_per_connection"),
            workers: number(options, "workers"),
            queue_events: number(options, "queue_events"),
            queue_bytes: number(options, "queue_bytes"),
            pending_events: number(options, "pending_events"),
            max_envelope_bytes: number(options, "max_envelope_bytes"),
            state_dir: options.get("state_dir").map(PathBuf::from),
            spool_dir: options.get("spool_dir").map(PathBuf::from),
            spool_bytes: number(options, "spool_bytes"),
            spool_files: number(options, "spool_files"),
            close_timeout: time(options, "close_timeout"),
            drain: options
                .get("drain_seconds")
                .map(|_| Duration::from_secs(number(options, "drain_seconds"))),
            log: match options.value("log") {
                "warn" => Some(Level::Warn),
                "info" => Some(Level::Info),
                "debug" => Some(Level::Debug),
                _ => None,
            },
            trace_wire: options.get("trace_wire").map(PathBuf::from),
            push: PushConfig {
                listen: options.get("push_listen").map(str::to_owned),
                secret: options.secret("push_secret").cloned(),
                cert: options.get("push_cert").map(PathBuf::from),
                key: options.get("push_key").map(PathBuf::from),
                connections: number(options, "push_connections"),
                max_bytes: number(options, "push_max_bytes"),
                timeout: time(options, "push_timeout"),
            },
        }
    }
}

impl WatchConfig {
    /// Reads a watch's options, its client's being merged in already.
    pub fn read(options: &Options) -> Result<WatchConfig> {
        let endpoint =
            Some(options.value("url")).filter(|url| *url != AUTO).map(Endpoint::parse).transpose()?;
        let app_only = is_oauth(options) && OAuth::is_app_only(options);
        let user = match options.get("user") {
            // Nobody signs in: the program is all there is.
            None if app_only => options.get("mailbox").and(options.get("oauth_client_id")),
            user => user,
        };
        let user = user.ok_or_else(|| missing(if app_only { "mailbox" } else { "user" }))?.to_owned();
        let sign_in = SignIn::read(options, endpoint.as_ref(), &user)?;
        let mailbox = options.get("mailbox").unwrap_or(&user);
        let trusted_domains: Vec<String> =
            list(options.value("trusted_domains")).filter_map(domain).collect();
        if endpoint.is_none() {
            // What could not even begin is told now, and not by an event.
            let user = searcher(&sign_in, &user, mailbox);
            autodiscover::Search::new(mailbox, user, &trusted_domains, None)
                .map_err(|e| e.context("option url is not set"))?;
        }
        let all_folders = options.value("all_folders") == "true";
        let access = match options.value("access") {
            "own" => Access::Own,
            "delegate" => Access::Delegate,
            "impersonate" => Access::Impersonate,
            "auto" if sign_in.is_app_only() => Access::Impersonate,
            _ if mailbox.eq_ignore_ascii_case(&user) => Access::Own,
            _ => Access::Delegate,
        };
        let folder_owner = (access == Access::Delegate).then(|| mailbox.to_owned());
        let folders = if all_folders { Vec::new() } else { folders(options.value("folders"), &folder_owner) };
        let after_ack = after_ack(options.value("after_ack"), &folder_owner);
        let mut events = Vec::new();
        for kind in list(options.value("events")).filter_map(event) {
            if !events.contains(&kind) {
                events.push(kind);
            }
        }
        let config = WatchConfig {
            endpoint,
            trusted_domains,
            mailbox: mailbox.into(),
            user,
            sign_in,
            access,
            folders,
            events,
            mode: match options.value("mode") {
                "pull" => Mode::Pull,
                "push" => Mode::Push,
                _ => Mode::Streaming,
            },
            fetch: match options.value("fetch") {
                "mime" => Fetch::Mime,
                "summary" => Fetch::Summary,
                _ => Fetch::None,
            },
            catch_up: options.value("catch_up") == "true",
            since_all: options.value("since") == "all",
            ack: if options.value("ack") == "manual" { Ack::Manual } else { Ack::Auto },
            max_unacked: number(options, "max_unacked"),
            coalesce: time(options, "coalesce"),
            after_ack,
            max_item_bytes: number(options, "max_item_bytes"),
            connection_minutes: number(options, "connection_minutes"),
            affinity: options.value("affinity").into(),
            pull_interval: time(options, "pull_interval"),
            pull_interval_max: time(options, "pull_interval_max"),
            pull_timeout_minutes: number(options, "pull_timeout_minutes"),
            push_url: options.secret("push_url").cloned(),
            push_status_minutes: number(options, "push_status_minutes"),
            push_silence: options.get("push_silence").map_or_else(
                || Duration::from_secs(120 * number::<u64>(options, "push_status_minutes")),
                |_| time(options, "push_silence"),
            ),
            envelope_timeout: time(options, "envelope_timeout"),
            net: net::Config {
                public_folder_mailbox: options.get("public_folder_mailbox").map(str::to_owned),
                ..net_config(options)?
            },
        };
        config.refuse_what_contradicts(options)?;
        Ok(config)
    }

    /// Settings that are right each by itself.
    fn refuse_what_contradicts(&self, options: &Options) -> Result<()> {
        fn invalid(text: impl Into<Cow<'static, str>>) -> Result<()> {
            Err(Error::new(ErrorKind::Invalid, text))
        }
        let all_folders = self.folders.is_empty();
        let plain = self.endpoint.as_ref().is_some_and(|e| !e.is_https() && !e.is_loopback());
        let guards = ["tls_pin", "tls_cert"].into_iter().filter(|key| options.get(key).is_some());
        let guards = guards.chain((options.value("tls_min") == "1.3").then_some("tls_min"));
        if let (true, Some(key)) = (plain, guards.into_iter().next()) {
            let text = format!(
                "option {key}: the url is plain http, where there is no certificate to look at: use https"
            );
            return invalid(text);
        }
        if self.sign_in.is_app_only() && self.access != Access::Impersonate {
            let text = "option access: a program that acts for itself (oauth_grant=client_credentials) has no mailbox and no rights \
                        of a delegate: set access=impersonate, or leave it out";
            return invalid(text);
        }
        if all_folders && self.access == Access::Delegate {
            // The request names no mailbox then, so the server would watch the user's own without a word.
            let text = format!(
                "option all_folders: the mailbox {} is not known to be that of {}, and all folders of somebody \
                 else's mailbox can only be watched by impersonation: set access=impersonate, or access=own if it is the user's own",
                self.mailbox, self.user
            );
            return invalid(text);
        }
        // By its id a folder may be anybody's.
        let private = |folder: &FolderPath| {
            !folder.is_public() && matches!(folder.from, FolderRef::Distinguished { .. })
        };
        if self.net.public_folder_mailbox.is_some() && (all_folders || self.folders.iter().any(private)) {
            let text = "option public_folder_mailbox: every request goes to that mailbox then, so only public folders can be watched, \
                        given as publicfoldersroot/… or by id: make another watch for other folders";
            return invalid(text);
        }
        if self.folders.len() > 1 && self.folders.iter().any(FolderPath::is_public) {
            let text = "option folders: Exchange has a subscription for each public folder alone: make a watch for each";
            return invalid(text);
        }
        // What goes into a watched folder would be told there as new, and acted on again.
        let told_again = match &self.after_ack {
            AfterAck::Move(to) => all_folders || self.folders.contains(to),
            AfterAck::Delete(_) => all_folders || self.folders.iter().any(is_deleted_items),
            _ => false,
        };
        if told_again {
            let text = format!(
                "option after_ack: {} brings items into a folder that is watched itself, where they would be told as new again: \
                 watch other folders",
                options.value("after_ack")
            );
            return invalid(text);
        }
        Ok(())
    }
}

impl WatchConfig {
    /// Whether it is found out which public folder mailbox has the content of its folder.
    pub fn seeks_content(&self) -> bool {
        self.net.public_folder_mailbox.is_none() && self.folders.iter().any(FolderPath::is_public)
    }

    /// Whose domain is trusted with the sign-in.
    pub fn searcher(&self) -> &str {
        searcher(&self.sign_in, &self.user, &self.mailbox)
    }

    /// What the store calls the watch: the same for the same mailbox and folders on the same server, in whatever order.
    pub fn name(&self) -> Arc<str> {
        // Autodiscover may find another server next time, and it is the same mailbox still.
        let server = self.endpoint.as_ref().map_or(AUTO, Endpoint::host);
        let mut text = format!("{server}\n{}\n", self.mailbox.to_lowercase());
        // Names of a path are the same in upper and lower case, ids are not.
        let name = |folder: &FolderPath| match folder.names.is_empty() {
            true => folder.to_string(),
            false => folder.to_string().to_lowercase(),
        };
        let mut names: Vec<String> = self.folders.iter().map(name).collect();
        names.sort();
        for name in names {
            text += &name;
            text.push('\n');
        }
        engine::digest(&text).into()
    }
}

/// They were checked when they were set.
fn folders(value: &str, owner: &Option<String>) -> Vec<FolderPath> {
    let mut folders = Vec::new();
    for folder in words(value).filter_map(|word| folder(word, owner.as_deref()).ok()) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

fn after_ack(value: &str, owner: &Option<String>) -> AfterAck {
    match value.split_once(':') {
        Some((_, folder)) => folders(folder, owner).pop().map_or(AfterAck::None, AfterAck::Move),
        None if value == "read" => AfterAck::Read,
        None if value == "delete" => {
            AfterAck::Delete(FolderRef::Distinguished { name: "deleteditems".into(), mailbox: owner.clone() })
        }
        None => AfterAck::None,
    }
}

fn is_deleted_items(folder: &FolderPath) -> bool {
    folder.names.is_empty()
        && matches!(&folder.from, FolderRef::Distinguished { name, .. } if name == "deleteditems" || name == "archivedeleteditems")
}

/// A number of the table; it was checked against the table's bounds when it was set. Where the machine's words are too
/// short for it, the most that they hold.
pub(super) fn number<T: TryFrom<u64> + Bounded>(options: &Options, key: &'static str) -> T {
    let parsed = options.value(key).parse().ok();
    let number: u64 = parsed.unwrap_or_else(|| panic!("option {key} was checked when it was set"));
    T::try_from(number).unwrap_or(T::MOST)
}

pub(super) trait Bounded {
    const MOST: Self;
}

impl Bounded for u32 {
    const MOST: u32 = u32::MAX;
}

impl Bounded for u64 {
    const MOST: u64 = u64::MAX;
}

impl Bounded for usize {
    const MOST: usize = usize::MAX;
}

pub(super) fn time(options: &Options, key: &'static str) -> Duration {
    duration(options.value(key)).unwrap_or_else(|| panic!("option {key} was checked when it was set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Who writes the same folders down in another order would be told of nothing that came meanwhile.
    #[test]
    fn a_watch_has_the_same_name_whatever_the_order_of_its_folders() {
        let name = |folders: &str| {
            let mut options = Options::new();
            for (key, value) in
                [("url", "mail.example.test"), ("user", "ada@example.test"), ("password", "x")]
            {
                options.set(key, value).unwrap();
            }
            options.set("folders", folders).unwrap();
            WatchConfig::read(&options).unwrap().name()
        };
        assert_eq!(name("inbox,sentitems,id:AAMk"), name("id:AAMk,sentitems,Inbox,sentitems"));
        assert_eq!(name("inbox/Tickets,/Ärger"), name("/ärger,Inbox/tickets"));
        assert_ne!(name("inbox,sentitems"), name("inbox"));
        assert_ne!(name("inbox/a"), name("/inbox/a"));
    }

    // On a machine of 32 bits, where a usize is a u32, a limit of 4 GiB would bring the host's process down.
    #[test]
    fn a_number_beyond_the_machines_words_is_the_most_they_hold() {
        let mut options = Options::new();
        options.set("max_envelope_bytes", "4294967296").unwrap();
        assert_eq!(number::<u32>(&options, "max_envelope_bytes"), u32::MAX);
        assert_eq!(number::<u64>(&options, "max_envelope_bytes"), 1 << 32);
    }
}
