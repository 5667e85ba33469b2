//! `ewsnotify simulate`: an Exchange to try programs against, until it is stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use ewsnotify::sim::{ExtendedProtection, Scheme, Sim, Style, server::script::Script};
use serde::Serialize;

use crate::connect::duration;
use crate::failure::{Failure, Outcome};
use crate::mails::mail;
use crate::output::print;
use crate::stop::Stop;

/// The program that the issuer knows; it has no secret.
const PROGRAM: &str = "demo";

const HELP: &str = "\
It prints one line of JSON when it is ready: `url` to connect to, `ca_file` with the certificate to trust, `users`, and `oauth`: a
program's `client_id`, and where it gets tokens (`authority` alone leads to the other addresses). Whoever comes to its pages signs in
at once, as the user whom the program names, else the first.

Try it:
  ewsnotify simulate --deliver-every 5s
and in another terminal, with the url and the ca_file that it printed:
  echo demo | ewsnotify watch --url URL --ca-file CA_FILE --user ada@example.test --password-stdin --fetch summary

By OAuth, with the authority that it printed (with --no-tls any browser trusts its pages):
  ewsnotify login --url URL --ca-file CA_FILE --user ada@example.test --client-id demo \\
    --option oauth_authority=AUTHORITY --state-dir DIR

Autodiscover is there too; option connect_to leads all names to the port that it printed:
  ewsnotify simulate --name autodiscover.example.test
  echo demo | ewsnotify check ada@example.test --ca-file CA_FILE --password-stdin --option connect_to=::127.0.0.1:PORT

A script says what goes wrong, a line each:
  on GetEvents nth=2 times=2 do status code=503 retry-after=5
  on GetStreamingEvents envelope=3 do bad-xml
  at 10s do cut-streams how=reset

The simulated users and their passwords are play things: never give it a real password, for its command line can be read
by every user of the machine.";

/// Run a simulated Exchange, for trying programs out
///
/// Mailboxes, subscriptions, streams, TLS with an authority of its own, and faults on request. Everything is forgotten at
/// the end (Ctrl-C or SIGTERM).
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Speak plain http
    #[arg(long)]
    no_tls: bool,

    /// Be a server of this name too, as autodiscover.example.test; may be given several times
    #[arg(long = "name", value_name = "HOST", value_parser = host)]
    names: Vec<String>,

    /// Let this user in, with a mailbox of that address; may be given several times [default: ada@example.test:demo]
    #[arg(long = "user", value_name = "NAME:PASSWORD")]
    users: Vec<String>,

    /// Deliver a message into each inbox, again and again after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    deliver_every: Option<Duration>,

    /// Whose bytes it speaks: those of Exchange 2013 and later, or of grommunio
    #[arg(long, value_enum, default_value = "exchange")]
    style: Whose,

    /// The ways to sign in that it offers and takes, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WAYS", default_value = "basic,oauth")]
    auth: Vec<Way>,

    /// Whether a sign-in by NTLM must name the TLS channel, as Exchange 2019 CU14 and later require it
    #[arg(long, value_enum, default_value = "off")]
    extended_protection: Protection,

    /// Let go wrong what this file says
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// A name that a certificate and a URL can have; any other would only be found wrong by who cannot reach it.
fn host(name: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    match name.len() <= 253 && name.split('.').all(label) {
        true => Ok(name.to_owned()),
        false => Err("the name of a host alone is wanted, as autodiscover.example.test"),
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Whose {
    Exchange,
    Gromox,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Basic,
    Ntlm,
    Negotiate,
    Oauth,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protection {
    Off,
    Allow,
    Require,
}

#[derive(Serialize)]
struct Ready<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    users: Vec<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oauth: Option<Issuer>,
}

/// Where tokens come from.
#[derive(Serialize)]
struct Issuer {
    client_id: &'static str,
    authority: String,
    token_url: String,
    authorize_url: String,
    device_url: String,
}

#[derive(Serialize)]
struct User<'a> {
    user: &'a str,
    password: &'a str,
}

pub fn run(args: &Args) -> Outcome {
    let users = args.users()?;
    let stop = Stop::listen()?;
    let sim = args.start(&users)?;
    let ca_file = sim.ca_file().map(|path| path.display().to_string());
    let oauth = args.auth.contains(&Way::Oauth).then(|| {
        sim.issuer().register(PROGRAM, None, None);
        sim.issuer().browsers(&users.iter().map(|(user, _)| *user).collect::<Vec<_>>());
        let authority = sim.authority();
        let at = |what: &str| format!("{authority}/oauth2/{what}");
        let (token_url, authorize_url, device_url) = (at("token"), at("authorize"), at("devicecode"));
        Issuer { client_id: PROGRAM, authority, token_url, authorize_url, device_url }
    });
    let ready = Ready {
        url: sim.url(),
        ca_file,
        users: users.iter().map(|&(user, password)| User { user, password }).collect(),
        oauth,
    };
    let line =
        serde_json::to_string(&ready).map_err(|e| Failure::failed(format!("cannot write JSON: {e}")))?;
    print(&line)?;

    let mut delivered = 0;
    while !stop.wait(args.deliver_every) {
        for (user, _) in &users {
            sim.exchange().deliver(user, &mail(delivered, user).mime)?;
        }
        delivered += 1;
    }
    Ok(())
}

impl Args {
    fn users(&self) -> Outcome<Vec<(&str, &str)>> {
        if self.users.is_empty() {
            return Ok(vec![("ada@example.test", "demo")]);
        }
        let split = |pair: &str| pair.find(':').is_some_and(|at| at > 0 && at + 1 < pair.len());
        if !self.users.iter().all(|pair| split(pair)) {
            return Err(Failure::usage("--user wants NAME:PASSWORD, as ada@example.test:secret"));
        }
        Ok(self.users.iter().filter_map(|pair| pair.split_once(':')).collect())
    }

    fn start(&self, users: &[(&str, &str)]) -> Outcome<Sim> {
        if self.deliver_every == Some(Duration::ZERO) {
            return Err(Failure::usage("--deliver-every wants more than 0 seconds"));
        }
        let style = match self.style {
            Whose::Exchange => Style::Exchange,
            Whose::Gromox => Style::Gromox,
        };
        let mut sim = Sim::builder().listen(self.listen).tls(!self.no_tls).style(style).names(&self.names);
        sim = sim.offers(self.auth.iter().filter_map(|way| match way {
            Way::Basic => Some(Scheme::Basic),
            Way::Ntlm => Some(Scheme::Ntlm),
            Way::Negotiate => Some(Scheme::Negotiate),
            // Offered as soon as a program is registered.
            Way::Oauth => None,
        }));
        sim = sim.extended_protection(match self.extended_protection {
            Protection::Off => ExtendedProtection::Off,
            Protection::Allow => ExtendedProtection::Allow,
            Protection::Require => ExtendedProtection::Require,
        });
        for (user, password) in users {
            sim = sim.user(*user, *password);
        }
        if let Some(file) = &self.script {
            let failed = |e| Failure::failed(format!("cannot read the script {}: {e}", file.display()));
            sim = sim.script(Script::parse(&std::fs::read_to_string(file).map_err(failed)?)?);
        }
        Ok(sim.start()?)
    }
}
