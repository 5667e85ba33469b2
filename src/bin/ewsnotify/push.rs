//! Flags that say where the server sends to, with `--mode push`.

use std::net::SocketAddr;

use ewsnotify::Options;

use crate::failure::{Failure, Outcome};
use crate::password;

#[derive(clap::Args)]
pub struct Push {
    /// Take the server's requests (--mode push) on this address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Push")]
    pub listen: Option<String>,

    /// Where the server is to send them to, as it reaches --listen [default: that address]; or, without --listen, a web server
    /// of yours, which puts each body into the folder `push` in --state-dir. The secret is put behind it
    #[arg(long, value_name = "URL", help_heading = "Push")]
    push_url: Option<String>,

    /// Take the secret from this environment variable, so that the URL stays the same from run to run [default: with --listen
    /// a new one each time, else none]
    #[arg(long, value_name = "VAR", help_heading = "Push")]
    push_secret_env: Option<String>,
}

impl Push {
    /// The environment variable that holds the secret.
    pub fn secret_env(&self) -> Option<&str> {
        self.push_secret_env.as_deref()
    }

    /// Sets the options, where all else is set but the password. What does not fit together is refused here, in the words of
    /// the command line.
    pub fn options(&self, options: &mut Options) -> Outcome {
        let listen = options.get("push_listen").map(str::to_owned);
        if options.get("mode") != Some("push") {
            let given = [
                ("--listen", listen.is_some()),
                ("--push-url", self.push_url.is_some()),
                ("--push-secret-env", self.push_secret_env.is_some()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                None => Ok(()),
                Some((flag, _)) => Err(Failure::usage(format!(
                    "{flag} is for requests that the server sends, and this mode has none: add --mode push, or leave it out"
                ))),
            };
        }
        self.fits(listen.as_deref(), options.get("state_dir").is_some())?;
        if let Some(url) = &self.push_url {
            options.set("push_url", url)?;
        }
        if let Some(name) = &self.push_secret_env {
            let secret = password::from_env(name, "--push-secret-env")?;
            options
                .set("push_secret", &secret)
                .map_err(|e| Failure::usage(format!("the secret of --push-secret-env: {e}")))?;
        }
        Ok(())
    }

    /// Whether there is a place that the server can send to, and a way from there to here.
    fn fits(&self, listen: Option<&str>, state_dir: bool) -> Outcome {
        let nowhere = |listen: &str| listen.parse().is_ok_and(|a: SocketAddr| a.ip().is_unspecified());
        let text = match (listen, &self.push_url) {
            (Some(listen), None) if nowhere(listen) => {
                "--listen names no address that a server could send to: say with --push-url URL how it reaches that port"
            }
            (None, None) => {
                "--mode push wants a place for the server to send to: --listen ADDRESS:PORT takes its requests here; for a web \
                 server of your own give --push-url URL and --state-dir DIR, and have it put each body into the folder push in \
                 DIR, as ffi-examples/php/push.php does"
            }
            (None, Some(_)) if !state_dir => {
                "--push-url without --listen names a web server of your own, which puts each body into the folder push of the \
                 state directory: add --state-dir DIR; or add --listen ADDRESS:PORT to take the requests here"
            }
            _ => return Ok(()),
        };
        Err(Failure::usage(text))
    }
}
