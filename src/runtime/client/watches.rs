//! Watches: begun and ended.

use std::sync::atomic::Ordering;

use super::super::core::closed;
use super::super::links::Watch;
use super::super::push;
use super::Client;
use crate::engine::{WatchMode, WatchSpec};
use crate::options::{Access, WatchConfig};
use crate::{Mode, Options, Result};

impl Client {
    /// Begins to watch a mailbox; returns at once with the number that its events carry.
    ///
    /// The options are those of a watch; what they leave out is as the client has it. One of the client is refused here, since
    /// it holds for all watches: [`OptionSpec::scope`](crate::OptionSpec::scope) tells which is whose.
    ///
    /// What goes wrong with the server is told by events: `Error` where the host can do something about it, and `Closed` as
    /// the last one of a watch that was given up.
    ///
    /// ```
    /// use ewsnotify::{Client, ErrorKind, Options};
    ///
    /// let client = Client::open(&Options::new())?;
    /// let e = client.watch(&Options::new()).unwrap_err();
    /// assert_eq!(e.kind(), ErrorKind::Invalid);
    /// assert!(e.to_string().contains("user"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for options that do not fit together or are the client's,
    /// [`ErrorKind::Tls`](crate::ErrorKind::Tls) or [`ErrorKind::Io`](crate::ErrorKind::Io) for a `ca_file` that cannot be
    /// used, [`ErrorKind::Closed`](crate::ErrorKind::Closed) after [`close`](Self::close).
    pub fn watch(&self, options: &Options) -> Result<u64> {
        if self.core.is_closing() {
            return Err(closed());
        }
        let config = self.config(options)?;
        let (endpoint, link) = self.core.links.link(&config)?;
        // After it has joined the account: what was refused may have been another client's, or by another secret.
        self.core.links.accounts.again(&config.sign_in);
        let id = self.last_watch.fetch_add(1, Ordering::Relaxed) + 1;
        let name = config.name();
        let spec = WatchSpec {
            watch: id,
            mailbox: config.mailbox.clone(),
            endpoint,
            affinity: config.affinity.clone(),
            own_budget: config.access == Access::Impersonate,
            account: config.sign_in.host_account().map(Into::into),
            folders: config.folders.clone(),
            events: config.events.clone(),
            mode: match config.mode {
                Mode::Streaming => WatchMode::Streaming { connection_minutes: config.connection_minutes },
                Mode::Pull => WatchMode::Pull {
                    interval: config.pull_interval,
                    quiet: config.pull_interval_max,
                    timeout_minutes: config.pull_timeout_minutes,
                },
                Mode::Push => {
                    let base = config.push_url.as_ref().map(|url| url.expose());
                    let secret = self.core.push_secret.as_ref();
                    let url = push::url(base, self.core.listener.as_deref(), secret)?;
                    self.core.start_drops()?;
                    WatchMode::Push {
                        url,
                        status_minutes: config.push_status_minutes,
                        silence: config.push_silence,
                    }
                }
            },
            fetch: config.fetch,
            catch_up: config.catch_up,
            since_all: config.since_all,
            ack: config.ack,
            max_unacked: config.max_unacked,
            coalesce: config.coalesce,
            after_ack: config.after_ack.clone(),
            stored: self.core.stored(&name)?,
            locate: config.endpoint.is_none(),
            name,
        };
        self.core.add(Watch { id, config, endpoint, link }, spec)?;
        Ok(id)
    }

    /// Ends a watch: its `Closed` event follows, and the server is told. Events of it that wait already are still given; with `ack=auto` the one
    /// that was given last counts as dealt with. The same may be watched again at once, also with other options; with a state it goes on where it stood, and is refused while the
    /// server is being asked to put an item of it away (`after_ack`).
    ///
    /// ```no_run
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// let watch = client.watch(&ewsnotify::Options::new())?;
    /// client.unwatch(watch)?;
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a number that no watch has, or one that has ended.
    pub fn unwatch(&self, watch: u64) -> Result<()> {
        self.core.remove(watch)
    }

    /// A watch's options, over the client's.
    pub(super) fn config(&self, options: &Options) -> Result<WatchConfig> {
        options.only_a_watchs()?;
        let options = options.over(&self.defaults);
        options.know(&self.core.tap.secrets);
        WatchConfig::read(&options)
    }
}
