//! What a host holds.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::content::{self, Fetched};
use super::core::{Core, Taken, closed};
use super::links::Watch;
use super::push;
use super::signal::Waker;
use super::spool::Spool;
use super::status::Status;
use super::workers;
use crate::engine::legacy_ids::LEGACY_ID;
use crate::engine::{Answer, Nack, Parked, WatchMode, WatchSpec, answer, item_content};
use crate::net::{Cancel, Lookups, cut};
use crate::options::{Access, ClientConfig, WatchConfig};
use crate::proto::{Body, Id, Request, RequestVersion};
use crate::push::PushFed;
use crate::spooled::Spooled;
use crate::{Error, ErrorKind, Event, Fetch, ItemContent, Mode, Options, Result};

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

/// What [`Client::next`] brought.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would cost an allocation an event"
)]
#[non_exhaustive]
pub enum Next {
    /// An event.
    Event(Event),
    /// The time was over before one came.
    TimedOut,
    /// A signal or [`Client::wake`] ended the wait.
    Interrupted,
    /// The client is closed, and every event was taken: none will come any more.
    Closed,
}

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
    /// [`ErrorKind::Invalid`] for options that do not fit together or are the client's, [`ErrorKind::Tls`] or [`ErrorKind::Io`] for a `ca_file`
    /// that cannot be used, [`ErrorKind::Closed`] after [`close`](Self::close).
    pub fn watch(&self, options: &Options) -> Result<u64> {
        if self.core.is_closing() {
            return Err(closed());
        }
        let config = self.config(options)?;
        self.core.links.accounts.again(&config.sign_in);
        let (endpoint, link) = self.core.links.link(&config)?;
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

    /// Ends a watch: its `Closed` event follows, and the server is told. Events of it that wait already are still given. The same
    /// may be watched again at once, also with other options; with a state it goes on where it stood, and is refused while the
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
    /// [`ErrorKind::Invalid`] for a number that no watch has, or one that has ended.
    pub fn unwatch(&self, watch: u64) -> Result<()> {
        self.core.remove(watch)
    }

    /// Waits for the next event, for so long at the most. The wait sits in `poll(2)`, so a signal ends it at once. With
    /// `ack=manual` and a state directory, that an event is handed out is on the disk before it is given: a disk that hangs
    /// holds the call up beyond its time.
    ///
    /// With `ack=auto`, asking for the next event says that the last one has been dealt with. That is written within 100
    /// milliseconds, and by [`close`](Self::close): after a crash before that, the event comes again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ewsnotify::{Client, Next, Options};
    ///
    /// let client = Client::open(&Options::new())?;
    /// assert!(matches!(client.next(Duration::ZERO), Next::TimedOut));
    /// client.close();
    /// while let Next::Event(event) = client.next(Duration::MAX) {
    ///     assert_eq!(event.kind, ewsnotify::EventKind::Closed);
    /// }
    /// assert!(matches!(client.next(Duration::MAX), Next::Closed));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn next(&self, timeout: Duration) -> Next {
        match self.core.take(Some(timeout)) {
            Taken::Event(event) => Next::Event(event),
            Taken::TimedOut => Next::TimedOut,
            Taken::Interrupted => Next::Interrupted,
            Taken::Closed => Next::Closed,
        }
    }

    /// Says that an event has been dealt with, by its `seq`: it will not be told again. Returns when that is durable, if the
    /// client has a state directory. For watches with `ack=manual`; with `ack=auto`, asking for the next event says it.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// let e = client.ack(7).unwrap_err(); // no event has been given
    /// assert_eq!(e.kind(), ewsnotify::ErrorKind::Invalid);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an event that waits for no acknowledgement, [`ErrorKind::Io`] or [`ErrorKind::State`] where
    /// it could not be written: it is tried again, and until then a restart would tell the event again.
    pub fn ack(&self, seq: u64) -> Result<()> {
        self.core.settle(|engine, now| engine.ack(now, seq))
    }

    /// Says that an event could not be dealt with: it is told again later, or kept until it is released. Others do not wait
    /// for it. Returns when that is durable, if the client has a state directory: how often it was given, and that it is parked,
    /// are known after a restart, which gives what is not parked again at once.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// let e = client.nack(7, ewsnotify::Nack::Park).unwrap_err(); // no event has been given
    /// assert_eq!(e.kind(), ewsnotify::ErrorKind::Invalid);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack(&self, seq: u64, nack: Nack) -> Result<()> {
        self.core.settle(|engine, now| engine.nack(now, seq, nack))
    }

    /// The events that are parked.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert!(client.parked().is_empty());
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn parked(&self) -> Vec<Parked> {
        self.core.parked()
    }

    /// Tells a parked event again, by its `id` in [`parked`](Self::parked).
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert!(client.release(1).is_err()); // nothing is parked
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a number under which nothing is parked; else as [`ack`](Self::ack).
    pub fn release(&self, id: u64) -> Result<()> {
        self.core.settle(|engine, now| engine.release(now, id))
    }

    /// The events, one after the other, until the client is closed. Signals and [`wake`](Self::wake) do not end it.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// client.close();
    /// assert_eq!(client.events().count(), 1); // the client's own Closed
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn events(&self) -> Events<'_> {
        Events { client: self }
    }

    /// Ends one wait in [`next`](Self::next): the one that is under way, else the next.
    ///
    /// ```
    /// # use ewsnotify::{Client, Next, Options};
    /// let client = Client::open(&Options::new())?;
    /// client.wake();
    /// assert!(matches!(client.next(std::time::Duration::MAX), Next::Interrupted));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn wake(&self) {
        self.core.wake();
    }

    /// Asks for an item by its id and change key, on the calling thread and a connection of its own. Watch 0 stands for the
    /// client's own options.
    ///
    /// ```no_run
    /// # use ewsnotify::{Client, Fetch, Options};
    /// # let client = Client::open(&Options::new())?;
    /// # let watch = 1;
    /// let item = client.get_item(watch, "AAMk…", None, Fetch::Summary)?;
    /// println!("{:?}", item.subject);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Server`] with the server's code (`ErrorItemNotFound` for one that is gone), those of the network, and
    /// [`ErrorKind::Invalid`] for a number that no watch has.
    pub fn get_item(
        &self,
        watch: u64,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        let watch = self.one_to_ask(watch)?;
        self.shown(self.ask_item(&watch, id, change_key, fetch))
    }

    /// Asks for a whole message, on the calling thread and a connection of its own, and puts it into a new file, mode 0600.
    ///
    /// ```no_run
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// # let watch = 1;
    /// client.save_mime(watch, "AAMk…", None, "mail.eml".as_ref())?;
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`get_item`](Self::get_item), and [`ErrorKind::Io`] for a file that is there already or cannot be written; a
    /// part of it is not left behind.
    pub fn save_mime(&self, watch: u64, id: &str, change_key: Option<&str>, path: &Path) -> Result<()> {
        save(path, || {
            let item = self.get_item(watch, id, change_key, Fetch::Mime)?;
            let no_mime = || Error::new(ErrorKind::Protocol, "the server's answer has no MIME content");
            item.mime_path.map(|path| Spooled::new(path.into(), None)).ok_or_else(no_mime)
        })
    }

    /// Asks for an attachment by the id that a summary told ([`Attachment::id`](crate::Attachment::id)), on the calling thread
    /// and a connection of its own, and puts its content into a new file, mode 0600: a file as it is, an attached item as the
    /// whole message (MIME). Watch 0 stands for the client's own options. ([MS-OXWSATT] 3.1.4.3)
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use ewsnotify::{Client, Fetch, Options, sim::Sim};
    ///
    /// let sim = Sim::builder().user("ada@example.test", "secret").start()?;
    /// let mime = b"Subject: Bill\r\nContent-Type: text/csv; name=bill.csv\r\n\
    ///     Content-Disposition: attachment; filename=bill.csv\r\n\r\n1;2;3";
    /// let id = sim.exchange().deliver("ada@example.test", mime)?;
    /// let mut options = Options::new();
    /// options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
    /// options.set("user", "ada@example.test")?.set("password", "secret")?;
    ///
    /// let client = Client::open(&options)?;
    /// let bill = client.get_item(0, &id, None, Fetch::Summary)?.attachments.remove(0);
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join(bill.name.unwrap());
    /// client.save_attachment(0, &bill.id.unwrap(), &path)?;
    /// assert_eq!(std::fs::read(path)?, b"1;2;3");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`save_mime`](Self::save_mime); [`ErrorKind::Unsupported`] for an attachment that has no content of its own, as
    /// a link to a file elsewhere; [`ErrorKind::Limit`] for one that is larger than option `max_item_bytes`.
    pub fn save_attachment(&self, watch: u64, id: &str, path: &Path) -> Result<()> {
        let watch = self.one_to_ask(watch)?;
        let request = Request::GetAttachment { id: id.to_owned() };
        save(path, || {
            let got = self.in_its_version(&watch, |version, cancel| {
                content::attachment(&self.core.spool, &watch, &watch.header(version), &request, cancel)
            });
            self.shown(got.map_err(|e| of_what("attachment", id, &watch, e)))
        })
    }

    /// As [`get_item`](Self::get_item), without a watch: nothing is subscribed to. The options say where, as for
    /// [`watch`](Self::watch).
    ///
    /// ```no_run
    /// use ewsnotify::{Client, Fetch, Options};
    ///
    /// let mut options = Options::new();
    /// options.set("url", "mail.example.test")?.set("user", "ada@example.test")?.set("password", "secret")?;
    /// let item = Client::open(&options)?.fetch_item(&Options::new(), "AAMk…", None, Fetch::Summary)?;
    /// println!("{:?}", item.subject);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch) and of [`get_item`](Self::get_item).
    pub fn fetch_item(
        &self,
        options: &Options,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        self.shown(self.ask_item(&self.unwatched(options)?, id, change_key, fetch))
    }

    /// What comes of asking a server, its error fit to be shown. Events are cleaned where they leave [`Core`].
    fn shown<T>(&self, result: Result<T>) -> Result<T> {
        self.core.tap.secrets.clean_result(result)
    }

    /// A watch, or what stands for one: the client's own options.
    fn one_to_ask(&self, watch: u64) -> Result<Arc<Watch>> {
        match watch {
            0 => self.unwatched(&Options::new()).map(Arc::new),
            watch => self.core.watch(watch),
        }
    }

    /// What asks as a watch would, and is none.
    fn unwatched(&self, options: &Options) -> Result<Watch> {
        if self.core.is_closing() {
            return Err(closed());
        }
        let config = self.config(options)?;
        let (endpoint, link) = self.core.links.link(&config)?;
        Ok(Watch { id: 0, config, endpoint, link })
    }

    fn convert(&self, watch: &Watch, id: &str) -> Result<String> {
        let request = Request::ConvertId { id: id.to_owned(), mailbox: watch.config.mailbox.to_string() };
        let anchor = (&*watch.config.mailbox, None);
        let (body, date) = self.in_its_version(watch, |version, cancel| {
            workers::exchange(&*watch.link, &watch.header(version), &request, anchor, cancel)
        })?;
        match answer::of(&request, body, date).map_err(|e| workers::of_server(&*watch.link, e))? {
            Answer::Converted(id) => Ok(id),
            _ => Err(answer::no_answer("ConvertId", None)),
        }
    }

    /// Asks in the version that the server speaks, or in older ones while none has worked.
    fn in_its_version<T>(
        &self,
        watch: &Watch,
        mut ask: impl FnMut(RequestVersion, &Cancel) -> Result<T>,
    ) -> Result<T> {
        self.core.aside(|cancel| {
            let mut version = self.core.version(watch.endpoint);
            loop {
                match ask(version, cancel) {
                    Err(e) => version = self.core.lower_version(watch.endpoint, version, &e).ok_or(e)?,
                    Ok(answer) => {
                        self.core.version_works(watch.endpoint, version);
                        return Ok(answer);
                    }
                }
            }
        })
    }

    /// A watch's options, over the client's.
    fn config(&self, options: &Options) -> Result<WatchConfig> {
        options.only_a_watchs()?;
        let options = options.over(&self.defaults);
        options.know(&self.core.tap.secrets);
        WatchConfig::read(&options)
    }

    fn ask_item(
        &self,
        watch: &Watch,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        let asked = self.ask_any_item(watch, id, change_key, fetch);
        asked.map_err(|e| of_what("item", id, watch, e))
    }

    fn ask_any_item(
        &self,
        watch: &Watch,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        let mime = fetch == Fetch::Mime;
        let item = Id { id: id.to_owned(), change_key: change_key.map(str::to_owned) };
        let request = Request::GetItem { items: vec![item], mime };
        let fetch = |request: &Request| {
            self.in_its_version(watch, |version, cancel| {
                ask_item(&self.core.spool, watch, version, request, cancel)
            })
        };
        let fetched = match fetch(&request) {
            // As events of some servers have them.
            Err(e) if e.code() == Some(LEGACY_ID) => {
                let id = Id { id: self.convert(watch, id)?, change_key: None };
                fetch(&Request::GetItem { items: vec![id], mime })?
            }
            fetched => fetched?,
        };
        let (item, mime) = match fetched {
            Fetched::Message(item, mime) => (*item, mime),
            Fetched::NotKept(why) => return Err(why),
        };
        let mut content = item_content(item, mime);
        content.told();
        Ok(content)
    }

    /// Takes the body of a POST that Exchange sent to the host's own web server (`mode=push` with option `push_url`), and says what to
    /// answer. It returns at once: fetching, catching up and the host's own work come later. The events come by
    /// [`next`](Self::next), in their order and with the promises of a stream. After [`close`](Self::close), and for subscriptions
    /// that this client does not have, the answer is `Unsubscribe`.
    ///
    /// A web process without a client uses [`push_parse`](crate::push_parse), or puts the body into the folder `push` of the
    /// client's state directory, as the examples in `ffi-examples` do.
    ///
    /// ```
    /// let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// # let body = br#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><SendNotification
    /// #     xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><ResponseMessages>
    /// #     <SendNotificationResponseMessage ResponseClass="Success"><Notification><SubscriptionId>HwBz=</SubscriptionId>
    /// #     <StatusEvent/></Notification></SendNotificationResponseMessage></ResponseMessages></SendNotification>
    /// #     </s:Body></s:Envelope>"#;
    /// let fed = client.push_feed(body)?; // of somebody else's subscription
    /// assert_eq!(fed.http_status, 200);
    /// assert!(fed.reply.contains("Unsubscribe"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] and [`ErrorKind::Limit`] for a body that is no notification: to be answered with status 400.
    pub fn push_feed(&self, body: &[u8]) -> Result<PushFed> {
        self.shown(self.core.push(body).map(PushFed::from))
    }

    /// Where the library's own listener is, with option `push_listen`: for a port that the system chose.
    ///
    /// ```
    /// let mut options = ewsnotify::Options::new();
    /// options.set("push_listen", "127.0.0.1:0")?;
    /// let client = ewsnotify::Client::open(&options)?;
    /// assert!(client.push_address().is_some_and(|address| address.port() > 0));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn push_address(&self) -> Option<SocketAddr> {
        self.core.listener.as_ref().map(|listener| listener.address())
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
    /// looks for what goes wrong. Passwords, tokens, cookies and other secrets are left out, of mails all but their beginning; who
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
    /// dropped, and what the host has and has not acknowledged, the next run tells, if there is a state directory; with
    /// `ack=auto` the event that was given last counts as dealt with. The server
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
        // A forked child's copy: connections, files and the state directory are its parent's, and there is no thread here.
        if self.owner != std::process::id() {
            return true;
        }
        let ended = self.core.close(timeout);
        // With them go the sockets that were kept for further calls.
        self.core.links.clear();
        ended
    }
}

/// Says of what an error is: who asks for one thing after the other must know which of them failed, and where.
fn of_what(what: &str, id: &str, watch: &Watch, error: Error) -> Error {
    let (id, server) = (cut(id, 200), watch.link.whom());
    match error.to_string().starts_with(&server) {
        true => error.context(format!("{what} {id}")),
        false => error.context(format!("{what} {id} at {server}")),
    }
}

/// Puts what comes into a new file, which is not left behind if it does not.
fn save(path: &Path, ask: impl FnOnce() -> Result<Spooled>) -> Result<()> {
    let failed =
        |e: std::io::Error| Error::new(ErrorKind::Io, format!("cannot write {}: {e}", path.display()));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let saved = ask().and_then(|spooled| {
        let copied = File::open(spooled.path()).and_then(|mut from| std::io::copy(&mut from, &mut file));
        copied.map(drop).map_err(failed)
    });
    if saved.is_err() {
        let _ = std::fs::remove_file(path);
    }
    saved
}

fn ask_item(
    spool: &Spool,
    watch: &Watch,
    version: RequestVersion,
    request: &Request,
    cancel: &Cancel,
) -> Result<Fetched> {
    let header = watch.header(version);
    if let Request::GetItem { mime: true, .. } = request {
        return content::fetch(spool, None, watch, &header, request, cancel);
    }
    let (body, _) = workers::exchange(&*watch.link, &header, request, (&watch.config.mailbox, None), cancel)?;
    let responses = match body {
        Body::Items(responses) => Ok(responses),
        body => Err(answer::no_answer("GetItem", Some(body.name()))),
    };
    let no_item = || Error::new(ErrorKind::Protocol, "the server's answer to GetItem has no item");
    let item = responses
        .and_then(|responses| answer::first(responses, request)?.pop().ok_or_else(no_item))
        .map_err(|e| workers::of_server(&*watch.link, e))?;
    Ok(Fetched::Message(Box::new(item), None))
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
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

/// The events of a client: see [`Client::events`].
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a Client,
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            match self.client.core.take(None) {
                Taken::Event(event) => return Some(event),
                Taken::Closed => return None,
                Taken::TimedOut | Taken::Interrupted => {}
            }
        }
    }
}

impl<'a> IntoIterator for &'a Client {
    type Item = Event;
    type IntoIter = Events<'a>;

    fn into_iter(self) -> Events<'a> {
        self.events()
    }
}
