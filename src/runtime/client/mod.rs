//! What a host holds. Here it is opened and closed; what it does is in the modules.

mod events;
mod items;
mod push;
mod tokens;
mod watches;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use self::events::{Events, Next};
use super::core::Core;
use super::signal::Waker;
use super::status::Status;
use crate::net::Lookups;
use crate::options::ClientConfig;
use crate::{Error, ErrorKind, Options, Result};

/// One process's watches, their connections and the queue of their events.
///
/// Any method may be called from any thread, also from several at once; each event goes to one of those that wait. Dropping
/// the client closes it.
///
/// A child that the host forks has a copy without threads: it can be dropped, which leaves the parent's client alone, and
/// nothing else. The child may open a client of its own.
///
/// ```
/// # #[cfg(feature = "sim")] {
/// use ewsnotify::{Client, EventKind, Options, sim::Sim};
///
/// let sim = Sim::builder().user("ada@example.test", "secret").start()?;
/// let mut options = Options::new();
/// options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
/// options.set("user", "ada@example.test")?.set("password", "secret")?.set("fetch", "summary")?;
///
/// let client = Client::open(&options)?;
/// client.watch(&Options::new())?;
/// for event in &client {
///     match event.kind {
///         EventKind::Connected => drop(sim.exchange().deliver("ada@example.test", b"Subject: Hello\r\n\r\nWorld")),
///         EventKind::NewMail => {
///             assert_eq!(event.item.unwrap().subject.as_deref(), Some("Hello"));
///             break;
///         }
///         _ => {}
///     }
/// }
/// # }
/// # Ok::<(), ewsnotify::Error>(())
/// ```
pub struct Client {
    pub(super) core: Arc<Core>,
    defaults: Options,
    close_timeout: Duration,
    last_watch: AtomicU64,
    /// The process that opened it.
    owner: u32,
}

/// What a host has kept: keys and values.
pub(crate) type Pairs = Vec<(String, Vec<u8>)>;

impl Client {
    /// Makes a client. Nothing is sent before the first [`watch`](Self::watch).
    ///
    /// The options are those of the client and the defaults of its watches.
    ///
    /// ```
    /// let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert_eq!(client.status().threads, 1);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::Limit`] where the system gives no pipe or thread. With a state directory:
    /// [`ErrorKind::Locked`] while another process has it, [`ErrorKind::Invalid`] where other users could write to it,
    /// [`ErrorKind::State`] where what it holds is damaged or of another version, [`ErrorKind::Io`] for what the disk says.
    pub fn open(options: &Options) -> Result<Client> {
        Client::with_waker(options, None, Waker::new()?)
    }

    /// As [`open`](Self::open), for a host that keeps the state itself, in a database of its own: `pairs` is what it has.
    ///
    /// What is to be kept comes as [`StateChanged`](crate::EventKind::StateChanged) events, whatever kinds the watches ask for: the
    /// host writes `value` under `key`, or removes the key where there is no value, and then acknowledges the event by its
    /// `seq`, also with `ack=auto`. The next one comes after that, ahead of other events. An event of a mailbox is
    /// acknowledged for good when the host has acknowledged the `StateChanged` events that follow its acknowledgement: after a
    /// crash before that it comes again. Nothing is lost if the host goes after any of them. After [`close`](Self::close)
    /// [`next`](Self::next) gives what is left of them at once, before the `Closed` events.
    ///
    /// An attempt that a crash ended counts where the host had acknowledged the `StateChanged` that follows its hand-out.
    ///
    /// Keys and values are text, a key of 120 bytes at most; what they mean may change with the library's version. Values are as
    /// large as what the server calls a folder's state, usually a few KiB.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use std::collections::BTreeMap;
    /// use ewsnotify::{Client, EventKind, Options, sim::Sim};
    ///
    /// let sim = Sim::builder().user("ada@example.test", "secret").start()?;
    /// let mut options = Options::new();
    /// options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
    /// options.set("user", "ada@example.test")?.set("password", "secret")?;
    ///
    /// let mut table: BTreeMap<String, String> = BTreeMap::new(); // stands for a table of the host's database
    /// for subject in ["first", "second"] {
    ///     let client = Client::open_with_state(&options, table.clone())?;
    ///     client.watch(&Options::new())?;
    ///     for event in &client {
    ///         match event.kind {
    ///             EventKind::StateChanged => {
    ///                 let detail = event.detail.unwrap();
    ///                 match detail.value {
    ///                     Some(value) => table.insert(detail.key.unwrap(), value),
    ///                     None => table.remove(&detail.key.unwrap()),
    ///                 };
    ///                 client.ack(event.seq)?;
    ///             }
    ///             EventKind::Drained => {
    ///                 sim.exchange().deliver("ada@example.test", format!("Subject: {subject}\r\n\r\n").as_bytes())?;
    ///             }
    ///             EventKind::NewMail => {
    ///                 client.close(); // what is left of the state still comes
    ///             }
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// assert!(table.len() > 2);
    /// # }
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ErrorKind::Invalid`] with option `state_dir`, which says that somebody else keeps the state;
    /// [`ErrorKind::State`] for pairs that are none of ours.
    pub fn open_with_state(
        options: &Options,
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Client> {
        let pairs = pairs.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        Client::with_waker(options, Some(pairs), Waker::new()?)
    }

    /// One whose waits somebody else can end.
    pub(crate) fn with_waker(options: &Options, pairs: Option<Pairs>, waker: Arc<Waker>) -> Result<Client> {
        if pairs.is_some() && options.get("state_dir").is_some() {
            let text =
                "option state_dir is set, and the host wants to keep the state itself: take one of the two";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Client::start(options, Lookups::system(), pairs, waker)
    }

    pub(super) fn start(
        options: &Options,
        lookups: Arc<Lookups>,
        pairs: Option<Pairs>,
        waker: Arc<Waker>,
    ) -> Result<Client> {
        let config = ClientConfig::read(options);
        let core = Core::start(&config, lookups, pairs, waker)?;
        options.know(&core.tap.secrets);
        Ok(Client {
            core,
            defaults: options.clone(),
            close_timeout: config.close_timeout,
            last_watch: AtomicU64::new(0),
            owner: std::process::id(),
        })
    }

    /// What comes of asking a server, its error fit to be shown. Events are cleaned where they leave [`Core`].
    fn shown<T>(&self, result: Result<T>) -> Result<T> {
        self.core.tap.secrets.clean_result(result)
    }

    /// What is going on. With a state directory most of it lies there too, as `status.json`, for those who do not have the library.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert_eq!(client.status().queued, 0);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Writes every request and answer from now on to this file (mode 0600, behind what is in it), or to none any more: for whoever
    /// looks for what goes wrong. What is said to token endpoints and to a proxy (CONNECT; SOCKS5 in a line each way), and the pushes that came
    /// to `push_listen` and knew the secret, are among that. Passwords, tokens, cookies and other secrets are left out, of mails all but their beginning; who
    /// writes to whom about what is not. At 16 MiB the file becomes `FILE.1`, and a new one begins. Option `trace_wire` does
    /// the same from the start.
    ///
    /// A file that cannot be written any more (the disk is full) is told once, by an `Error` event, and is written no further; all
    /// else goes on.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// # let folder = tempfile::tempdir()?;
    /// client.trace_wire(Some(&folder.path().join("wire.log")))?;
    /// client.trace_wire(None)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a file that cannot be opened; what was so before stays.
    pub fn trace_wire(&self, path: Option<&Path>) -> Result<()> {
        self.core.tap.wire_log.write_to(path)
    }

    /// Option `close_timeout`.
    pub(crate) fn close_timeout(&self) -> Duration {
        self.close_timeout
    }

    /// Closes the client, within option `close_timeout`: see [`close_within`](Self::close_within).
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert!(client.close());
    /// assert!(client.close(), "again does no harm");
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn close(&self) -> bool {
        self.close_within(self.close_timeout)
    }

    /// Closes the client from any thread and in every state: during a connect, a look-up or a blocked read, twice, from two
    /// threads.
    ///
    /// Events that wait are dropped but for `Closed`: one for each watch, and the client's own as the last of all. What was
    /// dropped, and what the host has and has not acknowledged, the next run tells, if there is a state directory. With
    /// `ack=auto` the event that was given last counts as dealt with; a client that is dropped instead, as by a panic or a `?` in
    /// the midst of an event, has that one told again. The server
    /// is told (Unsubscribe) as far as the time allows, but of what the next run can go on with (mode=pull, with a state); then
    /// every socket is shut. True once all threads have ended, which
    /// only a machine that is short of everything delays; a name look-up cannot be ended, and is left to itself.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert!(client.close_within(std::time::Duration::ZERO));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn close_within(&self, timeout: Duration) -> bool {
        self.end(timeout, true)
    }

    /// Closes it, within option `close_timeout`, but within two seconds, if that was not done; the event that was given last does not
    /// count as dealt with.
    pub(crate) fn abandon(&self) {
        // Whoever collects garbage, or ends the process, may be the one who waits.
        let allowed = self.close_timeout.min(Duration::from_secs(2));
        let timeout = if self.core.is_closing() { Duration::ZERO } else { allowed };
        self.end(timeout, false);
    }

    fn end(&self, timeout: Duration, dealt_with: bool) -> bool {
        // A forked child's copy: connections, files and the state directory are its parent's, and there is no thread here.
        if self.owner != std::process::id() {
            return true;
        }
        let ended = self.core.close(timeout, dealt_with);
        // With them go the sockets that were kept for further calls.
        self.core.links.clear();
        ended
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Readable exactly while [`Client::next`] would return at once. For event loops: never read from it.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core.signal.as_fd()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("defaults", &self.defaults)
            .field("closing", &self.core.is_closing())
            .finish()
    }
}
