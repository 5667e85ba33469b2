//! Flags that say which server, who signs in and which mailbox, as the library's options.

use std::path::PathBuf;
use std::time::Duration;

use ewsnotify::{OptionKind, Options};

use crate::failure::{Failure, Outcome};
use crate::password;

#[derive(clap::Args)]
pub struct Connect {
    /// The server: a host as mail.example.com, or a URL [default: Autodiscover finds it by the mailbox's address]
    #[arg(long, help_heading = "Server and mailbox")]
    url: Option<String>,

    /// Who signs in: an address, or DOMAIN\name on premises
    #[arg(long, help_heading = "Server and mailbox")]
    user: String,

    /// The mailbox, by its address; for watch, drain and run several times [default: that of --user]
    #[arg(long = "mailbox", value_name = "ADDRESS", help_heading = "Server and mailbox")]
    mailboxes: Vec<String>,

    #[command(flatten)]
    with: With,
}

/// The flags that are the same wherever a server is asked.
#[derive(clap::Args)]
pub struct With {
    /// Take the password from this environment variable
    #[arg(long, value_name = "VAR", help_heading = "Server and mailbox")]
    password_env: Option<String>,

    /// Take the password from the first line of standard input
    #[arg(long, conflicts_with = "password_env", help_heading = "Server and mailbox")]
    password_stdin: bool,

    /// Not offered: every user of the machine can read the command line
    #[arg(long, hide = true, num_args = 0..=1)]
    password: Option<Option<String>>,

    /// Trust the certificates in this file (PEM) beside the platform's
    #[arg(long, value_name = "FILE", help_heading = "Server and mailbox")]
    ca_file: Option<PathBuf>,

    /// Take an option that is a secret from an environment variable, as oauth_client_secret=APP_SECRET
    #[arg(long = "option-env", value_name = "KEY=VAR", help_heading = "Server and mailbox")]
    options_env: Vec<String>,

    /// Write every request and answer to this file, without secrets
    #[arg(long, value_name = "FILE", help_heading = "Server and mailbox")]
    trace_wire: Option<PathBuf>,

    /// Set any other option of the library; `ewsnotify options` lists them
    #[arg(long = "option", value_name = "KEY=VALUE", help_heading = "Server and mailbox")]
    options: Vec<String>,
}

impl Connect {
    /// The mailboxes that were named.
    pub fn mailboxes(&self) -> &[String] {
        &self.mailboxes
    }

    /// The environment variables that hold the password and other secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.with.secrets()
    }

    /// The options, the password among them; of several mailboxes, the first.
    pub fn options(&self) -> Outcome<Options> {
        let mut options = self.plain()?;
        self.add_password(&mut options)?;
        Ok(options)
    }

    /// The options without the password.
    pub fn plain(&self) -> Outcome<Options> {
        self.with.plain(self.url.as_deref(), &self.user, self.mailboxes.first().map(String::as_str))
    }

    /// Last: nobody is asked for a password before the rest is right.
    pub fn add_password(&self, options: &mut Options) -> Outcome {
        self.with.keeps_what_is_renewed(options)?;
        self.with.add_password(options, &self.user)
    }
}

impl With {
    /// The options, the password among them.
    pub fn options(&self, url: Option<&str>, user: &str, mailbox: Option<&str>) -> Outcome<Options> {
        let mut options = self.plain(url, user, mailbox)?;
        self.add_password(&mut options, user)?;
        Ok(options)
    }

    /// The options without the password.
    pub fn plain(&self, url: Option<&str>, user: &str, mailbox: Option<&str>) -> Outcome<Options> {
        if self.password.is_some() {
            return Err(Failure::usage(
                "a password has no place on the command line, where every user of the machine can read it: use \
                 --password-env or --password-stdin, or let it be asked for; and change the one that you gave",
            ));
        }
        let mut options = Options::new();
        // As curl: who has set HTTPS_PROXY expects it of a command.
        options.set("proxy", "env")?;
        options.set("user", user)?;
        if let Some(url) = url {
            options.set("url", url)?;
        }
        if let Some(mailbox) = mailbox {
            options.set("mailbox", mailbox)?;
        }
        if let Some(file) = &self.ca_file {
            let path = file.to_str().ok_or_else(|| Failure::usage("the path of --ca-file is not UTF-8"))?;
            options.set("ca_file", path)?;
        }
        if let Some(file) = &self.trace_wire {
            let path =
                file.to_str().ok_or_else(|| Failure::usage("the path of --trace-wire is not UTF-8"))?;
            options.set("trace_wire", path)?;
        }
        for pair in &self.options {
            set(&mut options, pair)?;
        }
        for pair in &self.options_env {
            // A name of a variable that is none is not repeated: somebody may have given the secret in its place.
            let wrong = || Failure::usage("--option-env wants KEY=VAR, the name of an environment variable");
            let (key, name) = pair.split_once('=').ok_or_else(wrong)?;
            options.set(key.trim(), &password::from_env(name.trim(), "--option-env")?)?;
        }
        Ok(options)
    }

    /// The environment variables that hold secrets.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let pairs = self.options_env.iter().filter_map(|pair| pair.split_once('='));
        self.password_env.as_deref().into_iter().chain(pairs.map(|(_, name)| name.trim()))
    }

    /// Refuses a refresh token without a place for those that come after it: a program is told of each by an event, which here would
    /// be printed, and kept by nobody.
    fn keeps_what_is_renewed(&self, options: &Options) -> Outcome {
        let is_given =
            |pair: &String| pair.split('=').next().unwrap_or_default().trim() == "oauth_refresh_token";
        let has_place = options.get("state_dir").or(options.get("oauth_token_store")).is_some();
        let is_spent = self.takes_tokens(options)
            && options.get("auth") != Some("host")
            && options.get("oauth_grant") != Some("client_credentials")
            && self.options_env.iter().any(is_given);
        if has_place || !is_spent {
            return Ok(());
        }
        Err(Failure::usage(
            "a renewal of oauth_refresh_token brings another in its place, which would be kept nowhere: give --option \
             oauth_token_store=DIR or, to watch, drain and run, --state-dir DIR",
        ))
    }

    /// Whether no password is wanted.
    fn takes_tokens(&self, options: &Options) -> bool {
        let wanted = self.password_env.is_some() || self.password_stdin;
        match options.get("auth") {
            Some("negotiate") => !wanted,
            Some(auth) => matches!(auth, "oauth" | "host"),
            None => options.get("oauth_client_id").is_some() && !wanted,
        }
    }

    fn add_password(&self, options: &mut Options, user: &str) -> Outcome {
        if self.takes_tokens(options) {
            return Ok(());
        }
        let password = password::read(self.password_env.as_deref(), self.password_stdin, user)?;
        options.set("password", &password)?;
        Ok(())
    }
}

fn set(options: &mut Options, pair: &str) -> Outcome {
    // What was given is not repeated here: it may hold a secret.
    let (key, value) = pair.split_once('=').ok_or_else(|| Failure::usage("--option wants KEY=VALUE"))?;
    let key = key.trim();
    // Without a sign-in, a proxy is no secret.
    let open = key == "proxy" && !value.contains('@');
    if !open && Options::table().iter().any(|spec| spec.name == key && spec.kind == OptionKind::Secret) {
        let instead = match key {
            "push_url" => "use --push-url URL, and --push-secret-env VAR for the secret behind it",
            "push_secret" => "use --push-secret-env VAR",
            "oauth_client_secret" | "oauth_refresh_token" => "use --option-env KEY=VAR",
            "proxy" => {
                "put it into the environment variable HTTPS_PROXY, or use --option-env KEY=VAR (without user and password it may stand here)"
            }
            _ => "for the password use --password-env or --password-stdin",
        };
        return Err(Failure::usage(format!(
            "option {key} is a secret and has no place on the command line, where every user of the machine can read it; \
             {instead}"
        )));
    }
    options.set(key, value)?;
    Ok(())
}

/// A duration of the command line: `20s`, `1m 30s`, or a number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => {
            humantime::parse_duration(text).map_err(|e| format!("{e}; a duration is as 20s, 5m or 1h 30m"))
        }
    }
}
