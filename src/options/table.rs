//! The table of keys. The parser, the README's table and the command's flags read it.

use std::time::Duration;

use super::folders;
use crate::net::{self, Endpoint};
use crate::{Error, ErrorKind, EventKind, Result};

/// What may be set where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionScope {
    /// Of the client as a whole.
    Client,
    /// Of a watch; a client's setting is the default for its watches.
    Watch,
}

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionKind {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both included.
    Number(u64, u64),
    /// A duration within bounds in seconds, both included.
    Duration(u64, u64),
    /// Kinds of events, separated by commas.
    Events,
    /// Folders, separated by commas: names as `inbox`, paths as `inbox/Tickets`, or `id:` and an id.
    Folders,
    /// What to do with an item: `none`, `read`, `delete`, or `move:` and a folder as in `Folders`.
    AfterAck,
    /// Places to connect to instead, separated by commas, each as curl's `--connect-to`: `host:port:host:port`.
    ConnectTo,
    /// Domains, separated by commas.
    Domains,
    /// Certificates by the hexadecimal digits of their SHA-256, separated by commas.
    Fingerprints,
    /// Names (each with what lies below it), addresses and networks as `192.0.2.0/24`, separated by commas; `*` for all.
    Hosts,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The path of a file or folder.
    Path,
    /// A text that is never printed.
    Secret,
    /// A text.
    Text,
}

/// A key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// Where it may be set.
    pub scope: OptionScope,
    /// What its value must be.
    pub kind: OptionKind,
    /// Its value where it is not set; empty for none.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn client(
    name: &'static str,
    kind: OptionKind,
    default: &'static str,
    meaning: &'static str,
) -> OptionSpec {
    OptionSpec { name, scope: OptionScope::Client, kind, default, meaning }
}

const fn watch(
    name: &'static str,
    kind: OptionKind,
    default: &'static str,
    meaning: &'static str,
) -> OptionSpec {
    OptionSpec { name, scope: OptionScope::Watch, kind, default, meaning }
}

use OptionKind::{
    AfterAck, Bool, ConnectTo, Domains, Duration as Time, Events, Fingerprints, Folders, Hosts, Number,
    OneOf, Path, Secret, Text,
};

#[rustfmt::skip]
pub(super) static TABLE: &[OptionSpec] = &[
    watch("url", Text, "auto", "the server: a host, or a URL, in which what is missing becomes https and /EWS/Exchange.asmx; auto: Autodiscover finds it by the mailbox's address"),
    watch("user", Text, "", "who signs in: an address, or DOMAIN\\name on premises"),
    watch("password", Secret, "", "the password of `user`"),
    watch("auth", OneOf(&["auto", "basic", "ntlm", "negotiate", "host", "oauth"]), "auto", "how to sign in: with `user` and `password` by NTLM (version 2, with channel binding; ntlm) or Basic (basic), by Kerberos (negotiate; where it is built in, cargo feature gssapi) with a ticket that the system has for `user`, or that it gets by a keytab or `password`, with tokens that the program gives when it is told `TokenNeeded` (host), or with tokens that the library asks an issuer for (oauth); auto: oauth where `oauth_client_id` is set and `password` is not, else what the server offers, Kerberos where it is built in and there is a ticket, then NTLM, then Basic"),
    watch("account", Text, "", "auth=host: by which name tokens are asked for and given; watches with the same one share them; `user` where not set"),
    watch("oauth_client_id", Text, "", "auth=oauth: the program's id, as the issuer has registered it"),
    watch("oauth_tenant", Text, "", "auth=oauth: the tenant in Microsoft Entra ID: its id, or one of its domains"),
    watch("oauth_cloud", OneOf(&["public", "usgov", "china"]), "public", "auth=oauth: which of Microsoft's clouds the tenant is in"),
    watch("oauth_authority", Text, "", "auth=oauth: instead of a tenant, AD FS, by its host or URL, as https://adfs.example.com/adfs"),
    watch("oauth_token_url", Text, "", "auth=oauth: instead of both, the token endpoint of any issuer; with `oauth_authorize_url` and `oauth_device_url` beside, where a user is to sign in"),
    watch("oauth_authorize_url", Text, "", "auth=oauth: with `oauth_token_url`, where a browser goes to sign in"),
    watch("oauth_device_url", Text, "", "auth=oauth: with `oauth_token_url`, where a sign-in on another device begins"),
    watch("oauth_client_secret", Secret, "", "auth=oauth: by which the program proves who it is; or by a certificate, or not at all (a public client)"),
    watch("oauth_client_cert", Path, "", "auth=oauth: the program's certificate (PEM)"),
    watch("oauth_client_key", Path, "", "auth=oauth: its RSA key (PEM), without a password; where not set, it stands in `oauth_client_cert`"),
    watch("oauth_grant", OneOf(&["auto", "client_credentials", "refresh_token"]), "auto", "auth=oauth: whether the program acts for itself (client_credentials, always with access=impersonate) or for a user who has signed in; auto: for itself where it can prove who it is and has no `oauth_refresh_token`"),
    watch("oauth_refresh_token", Secret, "", "auth=oauth: of a user's sign-in; a newer one that came by renewal and is stored counts more, until another one is set here. Where not set, the one that `ewsnotify login` has stored"),
    watch("oauth_scope", Text, "", "auth=oauth: what the token is to be good for; by default EWS, of Exchange Online or of the server that `url` names"),
    watch("oauth_token_store", Path, "", "auth=oauth: the directory in which tokens are stored, which several programs of one account may share; `state_dir` where not set. Without both, the program is told `TokenRotated` and keeps them"),
    watch("mailbox", Text, "", "the mailbox to watch, by its address; `user` where not set"),
    watch("access", OneOf(&["auto", "own", "delegate", "impersonate"]), "auto",
        "how the mailbox is reached: as `user`'s own, by a right that `user` has on it, or by impersonation; auto: own if `mailbox` is `user`, else delegate"),
    watch("folders", Folders, "inbox", "the folders to watch, without their subfolders: names as `inbox` or `sentitems`, paths of display names that begin there or at the mailbox's top (`inbox/Tickets`, `/Projects`), or `id:` and an id (of another form than EwsId: `ewslegacyid:`, `entryid:`, `hexentryid:`, `storeid:`, `owaid:`); in a path `\\/` and `\\,` are part of a name"),
    watch("public_folder_mailbox", Text, "", "public folders: the address of the public folder mailbox that holds their content, where that is not the one that the server takes for this user (Exchange 2013 and later; found by itself where `url` is not set and the folder is given by its path; `Get-PublicFolder` tells its name as ContentMailboxName): requests carry it as X-PublicFolderMailbox and X-AnchorMailbox"),
    watch("all_folders", Bool, "false", "watch all folders below the mailbox's top instead, those that are made later too; search folders are none"),
    watch("events", Events, "NewMail,Created,Deleted,Modified,Moved,Copied,FreeBusyChanged", "which kinds of events to tell"),
    watch("mode", OneOf(&["streaming", "pull", "push"]), "streaming", "how to hear of events: on a stream, by asking at an interval, or by requests that the server sends to a web server of yours (`push_url`) or the library's (`push_listen`)"),
    watch("fetch", OneOf(&["none", "summary", "mime"]), "none", "what to fetch of an item before its event is told; mime puts the whole message into a file"),
    watch("catch_up", Bool, "true", "find what was missed by comparing the folders with what is known of them: after the start, after each gap, and now and then"),
    watch("since", OneOf(&["now", "all"]), "now", "whether the first start tells what lies in the folders already"),
    watch("ack", OneOf(&["auto", "manual"]), "auto", "how events are acknowledged: when the next one is asked for, or by the host, each by its seq"),
    watch("max_unacked", Number(1, 100_000), "100", "ack=manual: how many events the host may have unacknowledged before it is given no more"),
    watch("after_ack", AfterAck, "none", "what to do with an item when the event that told it as new is acknowledged: mark it as read (without a read receipt), move it into a folder (`move:junkemail`, `move:inbox/Done`, `move:id:` and an id), or delete it (into the deleted items)"),
    watch("coalesce", Time(0, 3600), "0s", "tell one event for what happens to an item within this time, and at the end of it: NewMail rather than Created rather than Modified; Deleted, Moved and Copied are always told, and at once"),
    watch("max_item_bytes", Number(1024, 1 << 40), "157286400", "fetch=mime: how large a message may be; a larger one is told with content=too-large"),
    watch("connection_minutes", Number(1, 30), "29", "how long a stream lasts before the server ends it and it is opened again"),
    watch("pull_interval", Time(0, 86_400), "10s", "mode=pull: how long to wait between two questions while events come"),
    watch("pull_interval_max", Time(0, 86_400), "30s", "mode=pull: how long at the most while none come: from question to question by a half more, and never more than half of `pull_timeout_minutes`"),
    watch("pull_timeout_minutes", Number(1, 1440), "30", "mode=pull: after how long without a question the server may drop the subscription; until then a restart with the same state goes on with it, and is told also what was moved, or came and went, meanwhile"),
    watch("trusted_domains", Domains, "", "url=auto: domains that Autodiscover may send the sign-in to, each with what lies below it, beside that of the user's own address and those of Exchange Online; with user=DOMAIN\\name, that of the mailbox has to be named here"),
    watch("connect_to", ConnectTo, "", "other places to connect to, as curl's --connect-to: `host:port:host:port`, from where to where; an empty host or port fits any, or stays; the certificate must be that of the first"),
    watch("push_url", Secret, "", "mode=push: where the server is to send to, as it reaches us, through a proxy too; without `push_secret`, which is put behind it; with `push_listen` by default the listener's own address"),
    watch("push_status_minutes", Number(1, 1440), "30", "mode=push: after how many minutes without an event the server sends a sign of life; where it does not reach us, it tries for so long and then drops the subscription"),
    watch("push_silence", Time(1, 604_800), "", "mode=push: after how long without anything the subscription is taken for dead and made anew; twice `push_status_minutes` where not set"),
    watch("ca_file", Path, "", "certificates (PEM) to trust beside the platform's; read again when it changes"),
    watch("tls_pin", Fingerprints, "", "the SHA-256 of the server's certificate, as `openssl x509 -fingerprint -sha256` prints it, several for the time of a change: then it counts alone, and no authority, name or expiry; who issues tokens is not meant"),
    watch("tls_min", OneOf(&["1.2", "1.3"]), "1.2", "the lowest version of TLS"),
    watch("tls_cert", Path, "", "our own certificate and its chain (PEM), for a server that asks for one; read again when it changes"),
    watch("tls_key", Path, "", "the key of `tls_cert` (PEM, without a passphrase); in the same file where not set"),
    watch("proxy", Secret, "none", "the proxy by which servers are reached, those of this machine apart: `http://host:port` or `socks5://host:port`, with `user:password@` in front of the host where it wants that; env: what HTTPS_PROXY, ALL_PROXY and NO_PROXY say (the command's default); none"),
    watch("no_proxy", Hosts, "", "what is reached without the proxy: names (each with what lies below it), addresses, networks as `10.0.0.0/8`; `*` for all; with proxy=env instead of NO_PROXY"),
    watch("affinity", Text, "", "mode=streaming: which mailboxes may share a stream: those with the same text here, as Autodiscover tells it (GroupingInformation); where not set, all of a server until it says otherwise"),
    watch("allow_plaintext", Bool, "false", "sign in over plain http to other hosts than this one, where everybody on the way sees the password or token, or (NTLM) can try passwords and take the connection over"),
    watch("connect_timeout", Time(1, 600), "10s", "for making a connection, the TLS handshake included"),
    watch("lookup_timeout", Time(1, 600), "10s", "for looking a name up"),
    watch("call_timeout", Time(1, 3600), "100s", "for a whole answer, for the head of a stream's, and for each 256 KiB of a message's"),
    watch("idle_timeout", Time(1, 86_400), "120s", "after how long without a byte a stream is taken for dead"),
    watch("envelope_timeout", Time(1, 3600), "60s", "how long one message on a stream may take from its first to its last byte"),
    watch("user_agent", Text, concat!("ewsnotify/", env!("CARGO_PKG_VERSION")), "what the server's administrator sees"),
    client("connections", Number(1, 1000), "10", "how many streams to one server may stand at a time for one user; fewer where the server refuses more. With access=impersonate each is charged to another mailbox, and there are as many as it takes"),
    client("subscriptions_per_connection", Number(1, 200), "200", "how many mailboxes share a stream"),
    client("workers", Number(1, 64), "8", "how many threads ask the server things beside the streams"),
    client("queue_events", Number(1, 10_000_000), "10000", "how many events wait for the host before further ones are dropped with a Gap"),
    client("queue_bytes", Number(4096, 1 << 40), "16777216", "how many bytes of events wait"),
    client("pending_events", Number(1, 1_000_000), "1000", "how many events of a watch wait for the content that `fetch` asks for"),
    client("max_envelope_bytes", Number(16_384, 1 << 32), "8388608", "how large one message on a stream may be"),
    client("max_response_bytes", Number(16_384, 1 << 40), "67108864", "how large any other answer may be, the text of messages apart"),
    client("state_dir", Path, "", "where the state is kept over restarts, for each server, mailbox and set of folders, and status.json for a web page; where not set, or with other folders, a restart begins anew"),
    client("spool_dir", Path, "", "where fetch=mime puts its files, which are the host's then; where not set, a folder `spool` in the state directory, or else a private temporary one, and what still lies there goes at the end"),
    client("spool_bytes", Number(0, 1 << 50), "1073741824", "how many bytes of messages the host has not taken yet may lie in the spool; then fetching waits for the host"),
    client("spool_files", Number(1, 1_000_000), "100", "how many such messages may lie there; one of each watch always may"),
    client("push_listen", Text, "", "mode=push: the address and port of a small web server of the library's, as 127.0.0.1:8443; port 0 takes a free one"),
    client("push_secret", Secret, "", "mode=push: what is put behind `push_url`, as the last part of its path, or at the end of its query if it has one: 16 letters or more; with push_listen the last part of a request's path has to be that, and where it is not set there is a new one for each client"),
    client("push_cert", Path, "", "push_listen: the certificate and its chain (PEM) for https; plain http without, for a proxy on this machine"),
    client("push_key", Path, "", "push_listen: the key of `push_cert` (PEM)"),
    client("push_connections", Number(1, 10_000), "100", "push_listen: how many connections may stand at a time; for one more, the oldest that has not shown the secret goes"),
    client("push_max_bytes", Number(16_384, 1 << 30), "1048576", "mode=push: how large a notification may be"),
    client("push_timeout", Time(1, 600), "10s", "push_listen: how long a request may take, from the connection, or from its first byte where the connection stood before, to its last"),
    client("drain_seconds", Number(1, 1 << 31), "", "so many seconds after it was opened, the client closes by itself: for a job that tells what came since the last one"),
    client("dispatch", OneOf(&["host", "thread"]), "host", "C interface: who calls the registered callback: the host's thread in `ewsn_dispatch`, or a thread of the library's (C and C++ only)"),
    client("log", OneOf(&["off", "warn", "info", "debug"]), "off", "how much of what the library does is told as `Log` events"),
    client("trace_wire", Path, "", "a file (mode 0600) that gets every request and answer, without secrets, and of mails only their beginning: for whoever looks for what goes wrong; at 16 MiB it becomes FILE.1, and a new one begins"),
    client("close_timeout", Time(0, 600), "2s", "how long closing may wait for the server to be told"),
];

pub(super) fn find(key: &str) -> Result<&'static OptionSpec> {
    if let Some(spec) = TABLE.iter().find(|spec| spec.name == key) {
        return Ok(spec);
    }
    let near = TABLE.iter().map(|spec| (distance(spec.name, key), spec.name)).min().filter(|(d, _)| *d <= 3);
    let hint = near.map(|(_, name)| format!(" (is {name} meant?)")).unwrap_or_default();
    let shown = net::cut(key, 60);
    Err(Error::new(
        ErrorKind::Invalid,
        format!("there is no option \"{shown}\"{hint}; `ewsnotify options` lists them"),
    ))
}

impl OptionSpec {
    pub(super) fn check(&self, value: &str) -> Result<()> {
        // A secret is kept as it is: a password may begin or end with a blank.
        let value = if self.kind == Secret { value } else { value.trim() };
        self.problem(value).map_or(Ok(()), |wanted| {
            let given = match self.kind {
                Secret => String::new(),
                _ => format!(", not \"{}\"", net::cut(value, 60)),
            };
            Err(Error::new(ErrorKind::Invalid, format!("option {}: {wanted} is wanted{given}", self.name)))
        })
    }

    /// What is wanted, if the value is not it.
    fn problem(&self, value: &str) -> Option<String> {
        let bad = |ok: bool, wanted: String| (!ok).then_some(wanted);
        match self.kind {
            Bool => bad(matches!(value, "true" | "false"), "true or false".into()),
            Number(min, max) => {
                let ok = value.parse().is_ok_and(|n| (min..=max).contains(&n));
                bad(ok, format!("a whole number from {min} to {max}"))
            }
            Time(min, max) => {
                let ok = duration(value)
                    .is_some_and(|d| d >= Duration::from_secs(min) && d <= Duration::from_secs(max));
                bad(ok, format!("a duration from {min} s to {max} s, as 90s or 2m,"))
            }
            Events => {
                let ok = list(value).next().is_some() && list(value).all(|word| event(word).is_some());
                bad(ok, format!("a list of {}", EventKind::MAILBOX.map(EventKind::name).join(", ")))
            }
            Folders => {
                let wrong = folders::words(value).find_map(|word| folders::folder(word, None).err());
                wrong.or_else(|| bad(folders::words(value).next().is_some(), "a list of folders".into()))
            }
            AfterAck => {
                let Some(to) = value.strip_prefix("move:") else {
                    let ok = matches!(value, "none" | "read" | "delete");
                    return bad(ok, "one of none, read, delete, or move: and a folder,".into());
                };
                let mut words = folders::words(to);
                match (words.next(), words.next()) {
                    (Some(word), None) => folders::folder(word, None).err(),
                    _ => Some("move: and one folder".into()),
                }
            }
            ConnectTo => {
                let ok = list(value).next().is_some()
                    && list(value).all(|rule| rule.parse::<net::ConnectTo>().is_ok());
                bad(ok, "a list of host:port:host:port".into())
            }
            Domains => {
                let ok = list(value).next().is_some() && list(value).all(|word| domain(word).is_some());
                bad(ok, "a list of domains, as example.com,".into())
            }
            Fingerprints => {
                let ok =
                    list(value).next().is_some() && list(value).all(|pin| pin.parse::<net::Pin>().is_ok());
                bad(ok, "a list of certificates by their SHA-256 (64 hexadecimal digits)".into())
            }
            Hosts => bad(
                value.parse::<net::NoProxy>().is_ok(),
                "a list of names, addresses and networks (192.0.2.0/24), without ports,".into(),
            ),
            OneOf(words) => bad(words.contains(&value), format!("one of {}", words.join(", "))),
            Path | Secret | Text => {
                let lines = value.trim_end_matches(['\n', '\r']);
                let empty = bad(!value.trim().is_empty(), "a text that is not empty".into());
                empty
                    .or_else(|| bad(!lines.contains(['\0', '\n', '\r']), "a text of one line".into()))
                    .or_else(|| {
                        let wanted =
                            "a text without a line end, which a file that was read has at its end (trim it),";
                        bad(lines == value, wanted.into())
                    })
            }
        }
    }
}

/// The words of a list.
pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

pub(super) fn event(word: &str) -> Option<EventKind> {
    EventKind::MAILBOX.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(word))
}

/// A domain in lower case, if it is one.
pub(super) fn domain(word: &str) -> Option<String> {
    if word.contains([':', '/']) {
        return None;
    }
    Endpoint::parse(word).ok().map(|endpoint| endpoint.host().to_owned())
}

/// A number of seconds, or a duration as `1m 30s`.
pub(super) fn duration(value: &str) -> Option<Duration> {
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(value).ok(),
    }
}

/// How many letters must be put in, taken out or changed to make one word of the other.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
