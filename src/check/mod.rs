//! What stands between a program and a mailbox: looks at everything that a watch needs, one thing after the other, and says of each
//! what was found, in words that an administrator can act on. The command `ewsnotify check` prints it.

mod advice;
mod server;

use serde::Serialize;

use crate::auth::{Auth, Secrets};
use crate::autodiscover::{Found, Outcome, Search, Step};
use crate::net::{Asker, Cancel, Counters, Lookups, Tap, Tls, cut};
use crate::options::WatchConfig;
use crate::runtime;
use crate::{Error, ErrorKind, Options, Result};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Topic {
    /// Where the server is, by the mailbox's address.
    Autodiscover,
    /// Whether the server can be reached at all.
    Connection,
    /// What TLS agrees on, and the certificate.
    Tls,
    /// Which ways to sign in the server offers, and whether ours works.
    SignIn,
    /// Which product answers.
    Version,
    /// The folders that are to be watched.
    Folders,
    /// The right to read what is in them.
    Sync,
    /// The right to subscribe.
    Subscribe,
    /// Whether events come through as they happen.
    Stream,
    /// The right to act in the name of mailboxes.
    Impersonate,
    /// Limits of the server's that were met.
    Limits,
}

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Nothing to do about it; for understanding the rest.
    Note,
    /// It works, and should be looked after.
    Warning,
    /// It does not work.
    Failed,
}

/// What was found of one thing.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Of what.
    pub check: Topic,
    /// How good it is.
    pub grade: Grade,
    /// In words: what was tried, what came back, and what to do.
    pub message: String,
    /// The server's response code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The HTTP status, where it is not 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

/// What it all comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How many things do not work.
    pub failed: usize,
    /// How many should be looked after.
    pub warnings: usize,
    /// Whether the server refused the sign-in, or offers none that is possible here.
    pub sign_in: bool,
}

/// Looks at everything that a watch with these options needs, on the calling thread; `tell` hears of each finding as it comes.
/// Nothing is changed: a subscription is made and given back.
///
/// ```
/// # #[cfg(feature = "sim")] {
/// use ewsnotify::{Options, check, net::Cancel, sim::Sim};
///
/// let sim = Sim::builder().user("ada@example.test", "secret").start()?;
/// let mut options = Options::new();
/// options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
/// options.set("user", "ada@example.test")?.set("password", "secret")?;
///
/// let summary = check::check(&options, &Cancel::new(), &mut |finding| println!("{}", finding.message))?;
/// assert_eq!(summary.failed, 0);
/// # }
/// # Ok::<(), ewsnotify::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`] for options that do not fit together, those of a `ca_file` that cannot be used, and
/// [`ErrorKind::Closed`] where `cancel` has ended it. What is wrong with the server is no error: it is told.
pub fn check(options: &Options, cancel: &Cancel, tell: &mut dyn FnMut(Finding)) -> Result<Summary> {
    let tap = std::sync::Arc::<Tap>::default();
    let summary = look(options, &tap, cancel, tell);
    tap.secrets.clean_result(summary)
}

fn look(
    options: &Options,
    tap: &std::sync::Arc<Tap>,
    cancel: &Cancel,
    tell: &mut dyn FnMut(Finding),
) -> Result<Summary> {
    options.know(&tap.secrets);
    let config = WatchConfig::read(options)?;
    if let Some(path) = options.get("trace_wire") {
        tap.wire_log.write_to(Some(path.as_ref())).map_err(|e| e.context("option trace_wire"))?;
    }
    let tls = std::sync::Arc::new(Tls::of(&config.net)?);
    let counters = std::sync::Arc::<Counters>::default();
    let asker =
        Asker { config: config.net.clone(), tls, counters, lookups: Lookups::system(), tap: tap.clone() };
    if config.sign_in.spends_what_is_kept_nowhere() {
        let text = "a check would renew oauth_refresh_token, and what comes in its place would be lost: set oauth_token_store or state_dir, \
                    where the program stores it too";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    let accounts = runtime::Accounts::default();
    let auth = runtime::auth(&config, &accounts, &asker)?;
    // The first question goes out without a sign-in, and may be answered with one that was sent before.
    auth.secrets().iter().for_each(|secret| tap.secrets.add_beside(secret, &[&config.user]));
    let mut report = Report { tell, secrets: &tap.secrets, summary: Summary::default() };
    let found = match &config.endpoint {
        Some(_) => None,
        None => discover(&config, &asker, &*auth, cancel, &mut report)?,
    };
    if let Some(endpoint) = config.endpoint.as_ref().or(found.as_ref().map(Found::ews)) {
        server::look(&config, &asker, auth, endpoint, found.as_ref(), cancel, &mut report)?;
    }
    Ok(report.summary)
}

/// Where findings go.
struct Report<'a> {
    tell: &'a mut dyn FnMut(Finding),
    secrets: &'a Secrets,
    summary: Summary,
}

impl Report<'_> {
    fn say(&mut self, check: Topic, grade: Grade, message: impl Into<String>) {
        self.add(Finding { check, grade, message: message.into(), code: None, http_status: None });
    }

    /// Something that failed, with what to do.
    fn fail(&mut self, check: Topic, error: &Error) {
        if error.kind() == ErrorKind::Auth {
            self.summary.sign_in = true;
        }
        let message = match advice::of(error) {
            Some(advice) => format!("{error}: {advice}"),
            None => error.to_string(),
        };
        let (code, http_status) = (error.code().map(str::to_owned), error.http_status());
        self.add(Finding { check, grade: Grade::Failed, message, code, http_status });
    }

    /// Something that is refused, and that a watch does without.
    fn warn(&mut self, check: Topic, error: &Error) {
        let (code, http_status) = (error.code().map(str::to_owned), error.http_status());
        let message = error.to_string();
        self.add(Finding { check, grade: Grade::Warning, message, code, http_status });
    }

    fn add(&mut self, mut finding: Finding) {
        self.secrets.clean(&mut finding.message);
        finding.code.iter_mut().for_each(|code| self.secrets.clean(code));
        match finding.grade {
            Grade::Failed => self.summary.failed += 1,
            Grade::Warning => self.summary.warnings += 1,
            _ => {}
        }
        (self.tell)(finding);
    }
}

/// Each candidate of Autodiscover's, and what came of them.
fn discover(
    config: &WatchConfig,
    asker: &Asker,
    auth: &dyn Auth,
    cancel: &Cancel,
    report: &mut Report<'_>,
) -> Result<Option<Found>> {
    let search = Search::new(&config.mailbox, config.searcher(), &config.trusted_domains, None)?;
    let mut outcomes = Vec::new();
    let found = runtime::search(search, asker, auth, cancel, &mut |step: &Step| {
        outcomes.push(step.outcome);
        report.say(Topic::Autodiscover, grade(step.outcome), step.text.clone());
    });
    match found {
        Ok(found) => {
            let mut text = format!("EWS of {} is at {}", found.address, found.ews());
            match (&found.external, &found.internal) {
                (Some(external), Some(internal)) if external != internal => {
                    text += &format!(" from outside, and at {internal} from inside");
                }
                (None, _) => text += ", which is for clients from inside: no ExternalUrl is set for EWS",
                _ => {}
            }
            if let Some(grouping) = &found.grouping {
                text += &format!("; GroupingInformation {}", cut(grouping, 60));
            }
            let grade = if found.external.is_some() { Grade::Ok } else { Grade::Warning };
            report.say(Topic::Autodiscover, grade, text);
            Ok(Some(found))
        }
        Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::Internal) => Err(e),
        // No step's: it says itself whose sign-in it is.
        Err(e)
            if e.kind() == ErrorKind::Auth && !e.has_no_way_in() && !outcomes.contains(&Outcome::SignIn) =>
        {
            report.fail(Topic::Connection, &e);
            Ok(None)
        }
        // It was found, and is not what may be asked.
        Err(e) if outcomes.contains(&Outcome::Found) => {
            report.fail(Topic::Autodiscover, &e);
            Ok(None)
        }
        Err(e) => {
            report.summary.sign_in |= e.kind() == ErrorKind::Auth;
            let text =
                advice::nothing_found(&e, &outcomes, &config.mailbox, crate::auth::by_token(auth.ways()));
            report.say(Topic::Autodiscover, Grade::Failed, text);
            Ok(None)
        }
    }
}

fn grade(outcome: Outcome) -> Grade {
    match outcome {
        Outcome::Found => Grade::Ok,
        Outcome::Redirected | Outcome::Unreachable | Outcome::NotAutodiscover => Grade::Note,
        _ => Grade::Warning,
    }
}
