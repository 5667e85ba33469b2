//! The server itself: TLS, the sign-in, the rights, a stream.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Grade, Report, Topic, advice};
use crate::auth::{self, Auth};
use crate::autodiscover::Found;
use crate::engine::legacy_ids;
use crate::engine::paths::{self, FolderPath};
use crate::engine::{self, Answer, answer};
use crate::net::{self, Asker, Cancel, Cookies, Endpoint, HttpLink, Link, Opened, Post, Question, Tap, Told};
use crate::options::{Access, WatchConfig};
use crate::proto::{
    self, Body, FolderRef, FrameLimits, Framer, Header, NoticeKind, Request, RequestVersion, Scope,
    ServerVersion, StreamDecoder,
};
use crate::runtime;
use crate::{Error, ErrorKind, Mode, Result};

/// A certificate that expires sooner is a warning.
const SOON: Duration = Duration::from_secs(30 * 86_400);
/// A stream says `OK` at once.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);

/// All of it, as far as it goes.
pub(super) fn look(
    config: &WatchConfig,
    asker: &Asker,
    auth: Arc<dyn Auth>,
    endpoint: &Endpoint,
    found: Option<&Found>,
    cancel: &Cancel,
    report: &mut Report<'_>,
) -> Result<()> {
    let request = Request::GetFolder { folders: inbox() };
    let body = proto::write_request(&request, &Header::default())?;
    let soap_action = Some(proto::soap_action(&request));
    let question = Question::Post { body: &body, soap_action, mailbox: Some(&config.mailbox) };
    let told = match asker.ask(endpoint, &question, None, cancel) {
        Ok(told) => told,
        Err(e) if e.kind() == ErrorKind::Tls => return tell(report, Topic::Tls, e),
        Err(e) => return tell(report, Topic::Connection, e),
    };
    let by = asker.proxy(endpoint).map(|proxy| format!(", by the proxy {proxy}")).unwrap_or_default();
    report.say(Topic::Connection, Grade::Ok, format!("{endpoint} answers{by}"));
    look_at_tls(asker, endpoint, &told, report);
    if !look_at_offers(endpoint, &told, &*auth, report) {
        return Ok(());
    }
    let link_of = |net: &net::Config| {
        let (tls, counters, lookups) = (asker.tls.clone(), asker.counters.clone(), asker.lookups.clone());
        let link =
            HttpLink::with_lookups(endpoint.clone(), net.clone(), auth.clone(), tls, counters, lookups)?;
        Ok(link.tapped(asker.tap.clone()))
    };
    let mut link = match link_of(&config.net) {
        Ok(link) => link,
        // A password in clear text.
        Err(e) => return tell(report, Topic::SignIn, e),
    };
    if let Some(found) = found.filter(|_| config.seeks_content()) {
        let impersonate = (config.access == Access::Impersonate).then(|| config.mailbox.to_string());
        let header = Header { impersonate, ..Header::default() };
        match runtime::content_mailbox(config, &link, header, found, (asker, &*auth), cancel) {
            Ok(Some(content)) => {
                let text = format!("the content of the public folder is in {content}");
                report.say(Topic::Folders, Grade::Ok, text);
                link = link_of(&net::Config { public_folder_mailbox: Some(content), ..config.net.clone() })?;
            }
            Ok(None) => {}
            Err(e) => return tell(report, Topic::Connection, e),
        }
    }
    let mut server = Server {
        config,
        tap: asker.tap.clone(),
        taken: auth,
        link: Arc::new(link),
        cancel,
        version: RequestVersion::default(),
        cookies: Cookies::default(),
        said: None,
    };
    server.look(report)
}

/// Tells what failed; that it was ended is no finding.
fn tell(report: &mut Report<'_>, topic: Topic, error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Closed | ErrorKind::Internal => Err(error),
        _ => {
            let topic = if advice::is_limit(&error) { Topic::Limits } else { topic };
            report.fail(topic, &error);
            Ok(())
        }
    }
}

fn look_at_tls(asker: &Asker, endpoint: &Endpoint, told: &Told, report: &mut Report<'_>) {
    let Some(session) = &told.session else {
        let text = "plain http: everybody on the way can read the password and all mail; set the server up for https";
        return report.say(Topic::Tls, Grade::Warning, text);
    };
    let lacks = match session.version {
        "TLS 1.2" => "; the server does not offer TLS 1.3, which is no fault yet",
        _ => "",
    };
    report.say(Topic::Tls, Grade::Ok, format!("{} ({}){lacks}", session.version, session.suite));
    if !asker.config.tls.pins.is_empty() {
        let text = "the certificate is that of tls_pin: no authority, name or expiry is asked for";
        return report.say(Topic::Tls, Grade::Ok, text);
    }
    let Some(end) = asker.expires(endpoint, session) else { return };
    let day = humantime::format_rfc3339_seconds(end).to_string();
    let day = day.get(..10).unwrap_or_default();
    match end.duration_since(SystemTime::now()) {
        Ok(left) if left > SOON => {
            report.say(Topic::Tls, Grade::Ok, format!("the certificate is good until {day}"));
        }
        left => {
            let days = left.map_or(0, |left| left.as_secs() / 86_400);
            let text =
                format!("the certificate expires on {day}, in {days} days: the server needs a new one soon");
            report.say(Topic::Tls, Grade::Warning, text);
        }
    }
}

/// Whether it is worth while to sign in.
fn look_at_offers(endpoint: &Endpoint, told: &Told, auth: &dyn Auth, report: &mut Report<'_>) -> bool {
    if told.status != 401 {
        // What it means, the question with a sign-in tells.
        let status = told.status;
        let text = format!("{endpoint}: HTTP {status} without a sign-in, where an Exchange server says 401");
        report.say(Topic::SignIn, Grade::Warning, text);
        return true;
    }
    let misfit = auth::misfit(auth.ways(), &told.offers, auth::Directory::WebServices);
    // Some servers name tokens only to who comes with one.
    if let Some(misfit) = misfit.filter(|_| !auth::by_token(auth.ways())) {
        report.summary.sign_in = true;
        report.say(Topic::SignIn, Grade::Failed, misfit);
        return false;
    }
    match told.offers.is_empty() {
        true => {
            let text = "the server wants a sign-in and does not say by what way, as Exchange does: a proxy may have taken that out";
            report.say(Topic::SignIn, Grade::Warning, text);
        }
        false => {
            let taken = way_taken(auth.ways(), &told.offers);
            let text = format!("the server offers {}{taken}", told.offers.join(", "));
            report.say(Topic::SignIn, Grade::Ok, text);
        }
    }
    true
}

/// By which way the sign-in will go, and what is to be known of it.
fn way_taken(ways: &[&str], offers: &[String]) -> String {
    let offered = |way: &str| offers.iter().any(|offer| offer.eq_ignore_ascii_case(way));
    let Some(way) = ways.iter().find(|way| offered(way)) else { return String::new() };
    let has_ntlm = ways.contains(&"NTLM");
    match *way {
        "Negotiate" if !has_ntlm => "; Kerberos is taken, by Negotiate".to_owned(),
        "Negotiate" if auth::HAS_KERBEROS && ways.first() == Some(way) => {
            let else_ = ways.iter().skip(1).find(|way| offered(way)).unwrap_or(&"NTLM");
            format!("; Kerberos is taken, by Negotiate, where there is a ticket, else {else_}")
        }
        way if has_ntlm && offered("Negotiate") && !auth::HAS_KERBEROS => {
            format!("; {way} is taken; Kerberos is not built in (cargo feature gssapi)")
        }
        way => format!("; {way} is taken"),
    }
}

fn inbox() -> Vec<FolderRef> {
    vec![FolderRef::Distinguished { name: "inbox".into(), mailbox: None }]
}

struct Server<'a> {
    config: &'a WatchConfig,
    tap: Arc<Tap>,
    /// Knows which way was taken.
    taken: Arc<dyn Auth>,
    link: Arc<HttpLink>,
    cancel: &'a Cancel,
    version: RequestVersion,
    /// By which the stream reaches the machine that has the subscription.
    cookies: Cookies,
    /// What the server says it is.
    said: Option<ServerVersion>,
}

impl Server<'_> {
    fn look(&mut self, report: &mut Report<'_>) -> Result<()> {
        let mut folders: Vec<FolderPath> = match self.config.folders.is_empty() {
            // All folders are watched: any will do.
            true => inbox().into_iter().map(FolderPath::from).collect(),
            false => self.config.folders.clone(),
        };
        let mut found = self.find(&folders);
        if found.as_ref().is_ok_and(|found| legacy_ids::have_to_be_converted(&mut folders, found)) {
            found = self.find(&folders);
        }
        for remark in self.tap.take_remarks() {
            report.say(Topic::SignIn, Grade::Note, remark);
        }
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                let topic = if e.kind() == ErrorKind::Auth { Topic::SignIn } else { Topic::Connection };
                return tell(report, topic, e);
            }
        };
        let by = self.taken.taken(self.link.endpoint()).map(|way| format!(", by {way}")).unwrap_or_default();
        report.say(Topic::SignIn, Grade::Ok, format!("{} may sign in{by}", self.config.user));
        self.look_at_version(report);
        let mut ids = Vec::new();
        for (folder, found) in folders.iter().zip(found) {
            match found {
                Ok(id) => {
                    report.say(Topic::Folders, Grade::Ok, format!("{} is there", self.name(folder)));
                    ids.push(id);
                }
                Err(e) => tell(report, Topic::Folders, e.context(self.name(folder)))?,
            }
        }
        self.look_at_impersonation(report)?;
        if ids.is_empty() {
            return Ok(());
        }
        self.look_at_sync(&ids, report)?;
        self.look_at_subscription(ids, report)
    }

    /// The id of each folder, or why it has none for us.
    fn find(&mut self, folders: &[FolderPath]) -> Result<Vec<Result<String>>> {
        let impersonate = self.config.access == Access::Impersonate;
        let mailbox = self.config.mailbox.clone();
        let places = paths::follow(folders, self.version, &mailbox, |request| {
            self.ask_in_some_version(request, impersonate)
        })?;
        let there: Vec<FolderRef> = places.iter().filter_map(|place| place.as_ref().ok().cloned()).collect();
        let mut ids = match there.is_empty() {
            true => Vec::new(),
            false => match self.ask_in_some_version(&Request::GetFolder { folders: there }, impersonate)? {
                Answer::Folders(found) => found,
                _ => Vec::new(),
            },
        }
        .into_iter();
        Ok(places
            .into_iter()
            .filter_map(|place| place.map_or_else(|e| Some(Err(e)), |_| ids.next()))
            .collect())
    }

    fn name(&self, folder: &FolderPath) -> String {
        match &folder.from {
            FolderRef::Distinguished { .. } => format!("folder {folder} of {}", self.config.mailbox),
            FolderRef::Id(_) => format!("a folder of {}, named by its id,", self.config.mailbox),
        }
    }

    fn look_at_version(&self, report: &mut Report<'_>) {
        let spoken = match self.version {
            RequestVersion::Exchange2013Sp1 => "",
            _ => "; it speaks an older version of EWS, which is used",
        };
        match self.said.as_ref().and_then(ServerVersion::product) {
            Some(product) => {
                report.say(Topic::Version, Grade::Ok, format!("the server is {product}{spoken}"))
            }
            None => {
                let text = format!("the server does not say what it is{spoken}");
                report.say(Topic::Version, Grade::Note, text);
            }
        }
    }

    /// Whether the user may act in the mailbox's name, also where that is not asked for: it says which `access` would do.
    fn look_at_impersonation(&mut self, report: &mut Report<'_>) -> Result<()> {
        let (user, mailbox) = (&self.config.user, &self.config.mailbox);
        if self.config.access == Access::Impersonate {
            report.say(Topic::Impersonate, Grade::Ok, format!("{user} may impersonate {mailbox}"));
            return Ok(());
        }
        let asked =
            self.ask(&Request::GetFolder { folders: inbox() }, true).and_then(|answer| match answer {
                Answer::Folders(mut found) => found.pop().transpose(),
                _ => Ok(None),
            });
        match asked {
            Ok(_) => {
                let text = format!("{user} may impersonate {mailbox}: access=impersonate would do too");
                report.say(Topic::Impersonate, Grade::Ok, text);
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Internal) => Err(e),
            Err(e) => {
                let why = e.code().map_or_else(|| e.to_string(), str::to_owned);
                let text = format!(
                    "{user} may not impersonate {mailbox} ({why}), which is only needed for access=impersonate: the role is \
                     ApplicationImpersonation"
                );
                report.say(Topic::Impersonate, Grade::Note, text);
                Ok(())
            }
        }
    }

    fn look_at_sync(&mut self, ids: &[String], report: &mut Report<'_>) -> Result<()> {
        for id in ids {
            let folder = FolderRef::Id(id.clone());
            let request = Request::SyncFolderItems { folder, sync_state: None, max_changes: 1 };
            if let Err(e) = self.ask(&request, self.config.access == Access::Impersonate) {
                // A watch tries that a few times, whatever the server says of it.
                let is_public = self.config.folders.iter().any(FolderPath::is_public);
                if engine::denies_sync(&e) || (is_public && e.code().is_some()) {
                    let e = e.context(
                        "the watch works, but what it misses, while it is not connected or not running, is not filled in, since the \
                         folder's items cannot be synced (public folders never can)",
                    );
                    report.warn(Topic::Sync, &e);
                    return Ok(());
                }
                return tell(report, Topic::Sync, e.context("the folder's items cannot be synced"));
            }
        }
        report.say(Topic::Sync, Grade::Ok, "the folders' items can be synced: gaps will be filled");
        Ok(())
    }

    fn look_at_subscription(&mut self, ids: Vec<String>, report: &mut Report<'_>) -> Result<()> {
        let events = vec![NoticeKind::Copied, NoticeKind::Created, NoticeKind::Moved, NoticeKind::NewMail];
        let scope = match self.config.folders.is_empty() {
            true => Scope::AllFolders,
            false => Scope::Folders(ids.into_iter().map(FolderRef::Id).collect()),
        };
        let request = match self.config.mode {
            Mode::Streaming => Request::SubscribeStreaming { scope, events },
            // A push subscription would send to somebody; one to pull needs the same rights and the same version.
            Mode::Pull | Mode::Push => {
                Request::SubscribePull { scope, events, timeout_minutes: 1, watermark: None }
            }
        };
        let impersonate = self.config.access == Access::Impersonate;
        let (id, watermark) = match self.ask(&request, impersonate) {
            Ok(Answer::Subscribed { id, watermark, .. }) => (id, watermark),
            Ok(_) => return Ok(()),
            Err(e) => return tell(report, Topic::Subscribe, e),
        };
        report.say(Topic::Subscribe, Grade::Ok, "a subscription was made");
        let heard = match self.config.mode {
            Mode::Pull => {
                let request = Request::GetEvents { subscription_id: id.clone(), watermark };
                self.ask(&request, impersonate).map(|_| (Grade::Ok, "events can be asked for (mode=pull)"))
            }
            Mode::Push => {
                let text = "mode=push: whether the server reaches push_url cannot be tried from here";
                Ok((Grade::Note, text))
            }
            Mode::Streaming => self
                .stream(&id)
                .map(|()| (Grade::Ok, "a stream opens, and its messages come through at once")),
        };
        // Even where the stream was no success.
        let given_back = self.ask(&Request::Unsubscribe { subscription_id: id }, impersonate);
        match heard {
            Ok((grade, text)) => report.say(Topic::Stream, grade, text),
            Err(e) => tell(report, Topic::Stream, e)?,
        }
        if let Err(e) = given_back {
            tell(report, Topic::Subscribe, e.context("the subscription could not be given back"))?;
        }
        if report.summary.failed == 0 {
            report.say(Topic::Limits, Grade::Ok, "no limit of the server's was met");
        }
        Ok(())
    }

    /// Waits for a stream's first message, which a proxy that gathers answers holds back.
    fn stream(&self, id: &str) -> Result<()> {
        let request = Request::GetStreamingEvents { subscription_ids: vec![id.to_owned()], minutes: 1 };
        let body = proto::write_request(&request, &self.header(self.config.access == Access::Impersonate))?;
        let post = self.post(&request, &body);
        let mut stream = match self.link.open(&post, self.cancel)? {
            Opened::Stream(stream) => stream,
            Opened::Whole(reply) => {
                let responses = answer::streamed(proto::read_envelope(&reply.body)?.body)?;
                answer::first(responses, &request)?;
                return Err(Error::new(
                    ErrorKind::Protocol,
                    "the server answered instead of opening a stream",
                ));
            }
        };
        let (mut framer, mut decoder) = (Framer::new(FrameLimits::default()), StreamDecoder::new());
        let deadline = Instant::now() + FIRST_MESSAGE;
        let mut buf = [0; 4096];
        loop {
            let n = stream.read(&mut buf, Some(deadline)).map_err(|e| match e.kind() {
                ErrorKind::Timeout => {
                    let text = "the stream is open, but its first message did not come within 30 s, though a server sends it at \
                                once: a proxy or a load balancer on the way gathers answers before it passes them on; let it \
                                pass EWS through without buffering, or use mode=pull";
                    Error::new(ErrorKind::Timeout, text)
                }
                _ => e,
            })?;
            if n == 0 {
                return Err(Error::new(ErrorKind::Protocol, "the stream ended before its first message"));
            }
            framer.push(&buf[..n]);
            if let Some(frame) = framer.next() {
                let envelope = frame.map_err(Error::from).and_then(|bytes| decoder.decode(bytes))?;
                answer::first(answer::streamed(envelope.body)?, &request)?;
                return Ok(());
            }
        }
    }

    /// Asks, in the newest version that the server knows.
    fn ask_in_some_version(&mut self, request: &Request, impersonate: bool) -> Result<Answer> {
        loop {
            let asked = self.ask(request, impersonate);
            let Some(lower) = self.version.older() else { return asked };
            let code = asked.as_ref().err().and_then(Error::code);
            if code.map(proto::action) != Some(proto::Action::LowerVersion) {
                return asked;
            }
            self.version = lower;
        }
    }

    fn ask(&mut self, request: &Request, impersonate: bool) -> Result<Answer> {
        let body = proto::write_request(request, &self.header(impersonate))?;
        let reply = self.link.call(&self.post(request, &body), self.cancel)?;
        let whose = |e: Error| match e.kind() {
            ErrorKind::Protocol => e.context(self.link.endpoint()),
            _ => e,
        };
        let envelope =
            proto::read_envelope(&reply.body).map_err(|e| whose(e.context(request.operation())))?;
        self.said = envelope.server_version.or(self.said.take());
        match envelope.body {
            Body::Fault(fault) => Err(proto::fault_error(&fault, request.operation())),
            body => answer::of(request, body, reply.date).map_err(whose),
        }
    }

    fn post<'b>(&'b self, request: &Request, body: &'b [u8]) -> Post<'b> {
        let soap_action = proto::soap_action(request);
        Post { body, soap_action, anchor_mailbox: Some(&self.config.mailbox), cookies: Some(&self.cookies) }
    }

    fn header(&self, impersonate: bool) -> Header {
        Header { version: self.version, impersonate: impersonate.then(|| self.config.mailbox.to_string()) }
    }
}
