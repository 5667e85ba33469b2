//! What all threads of a server see: the exchange, the users, the faults, and the book of connections and requests.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::fault::{Cut, Due, Fault, Faults, Occasion};
use super::issuer::Issuer;
use super::ntlm::{ExtendedProtection, Scheme};
use super::record::{End, Request, Stats, StreamLog};
use super::script::Control;
use super::wire::{Io, SLICE};
use crate::sim::Style;
use crate::sim::exchange::Exchange;

const MAX_REQUESTS: usize = 4096;
const MAX_REQUEST_BYTES: usize = 64 << 20;

pub(super) struct Settings {
    pub(super) style: Style,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// TLS's alert that ends each handshake.
    pub(super) alert: Option<u8>,
    pub(super) offers: Vec<Scheme>,
    pub(super) protection: ExtendedProtection,
    /// What a sign-in has to name, with TLS.
    pub(super) channel: Option<[u8; 16]>,
    pub(super) users: HashMap<String, Vec<u8>>,
}

pub(super) struct Shared {
    pub(super) exchange: Exchange,
    pub(super) issuer: Issuer,
    pub(super) style: Style,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) alert: Option<u8>,
    pub(super) offers: Vec<Scheme>,
    pub(super) protection: ExtendedProtection,
    /// What a sign-in has to name, with TLS.
    pub(super) channel: Option<[u8; 16]>,
    // By address in lower case.
    users: RwLock<HashMap<String, Vec<u8>>>,
    faults: Mutex<Faults>,
    stop: AtomicBool,
    refuse: AtomicBool,
    holds_refusals: AtomicBool,
    book: Mutex<Book>,
    changed: Condvar,
    /// Whom to trust with pushes (PEM).
    push_roots: Mutex<Vec<String>>,
}

/// A connection as other threads see it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) number: u64,
    pub(super) sock: TcpStream,
    cut: AtomicU8,
    stalled: AtomicBool,
    streaming: AtomicBool,
}

#[derive(Default)]
struct Book {
    stats: Stats,
    conns: BTreeMap<u64, Arc<Conn>>,
    requests: VecDeque<Request>,
    request_bytes: usize,
    // How many requests were forgotten at the front.
    forgotten: usize,
    streams: Vec<StreamLog>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("style", &self.style)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Shared {
        Shared {
            exchange: Exchange::new(settings.style),
            issuer: Issuer::default(),
            style: settings.style,
            tls: settings.tls,
            alert: settings.alert,
            offers: settings.offers,
            protection: settings.protection,
            channel: settings.channel,
            users: RwLock::new(settings.users),
            faults: Mutex::default(),
            stop: AtomicBool::new(false),
            refuse: AtomicBool::new(false),
            holds_refusals: AtomicBool::new(false),
            book: Mutex::default(),
            changed: Condvar::new(),
            push_roots: Mutex::default(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- users and faults ----

    pub(super) fn add_user(&self, address: &str, password: &str) {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        users.insert(address.to_lowercase(), password.as_bytes().to_vec());
        self.exchange.add_mailbox(address);
    }

    pub(super) fn knows(&self, user: &str, password: &[u8]) -> bool {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(&user.to_lowercase()).is_some_and(|p| p == password)
    }

    /// The password of a user, as NTLM needs it.
    pub(super) fn password(&self, user: &str) -> Option<String> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(&user.to_lowercase()).map(|p| String::from_utf8_lossy(p).into_owned())
    }

    pub(super) fn trust_pushes(&self, pem: &str) {
        self.push_roots.lock().unwrap_or_else(PoisonError::into_inner).push(pem.to_owned());
    }

    /// TLS for a push.
    pub(super) fn push_tls(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for pem in &*self.push_roots.lock().unwrap_or_else(PoisonError::into_inner) {
            let certs = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
            roots.add_parsable_certificates(certs);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    pub(super) fn add_fault(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).add(fault);
    }

    pub(super) fn waiting_faults(&self) -> usize {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).waiting()
    }

    pub(super) fn clear_faults(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn due(&self, occasion: &Occasion<'_>) -> Option<Due> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).due(occasion)
    }

    // ---- control ----

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let book = self.book();
        for conn in book.conns.values() {
            let _ = conn.sock.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
        drop(book);
        self.exchange.wake_all();
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuse.load(Ordering::SeqCst)
    }

    pub(super) fn hold_refusals(&self, hold: bool) {
        self.holds_refusals.store(hold, Ordering::SeqCst);
        drop(self.book());
        self.changed.notify_all();
    }

    /// Before a sign-in is refused: waits while refusals are held back and the connection may go on.
    pub(super) fn held(&self, goes_on: impl Fn() -> Io) -> Io {
        let mut book = self.book();
        book.stats.held += 1;
        self.changed.notify_all();
        while self.holds_refusals.load(Ordering::SeqCst) && goes_on().is_ok() {
            book = self.changed.wait(book).unwrap_or_else(PoisonError::into_inner);
        }
        book.stats.held -= 1;
        goes_on()
    }

    /// Cuts what is open now and waits until those connections have ended.
    pub(super) fn cut(&self, how: Cut, only_streams: bool) {
        let mut book = self.book();
        let mut cut = Vec::new();
        for conn in book.conns.values().filter(|c| !only_streams || c.streaming.load(Ordering::SeqCst)) {
            conn.cut.store(if how == Cut::Fin { 1 } else { 2 }, Ordering::SeqCst);
            // Only wakes the thread; nothing goes to the client.
            let _ = conn.sock.shutdown(Shutdown::Read);
            cut.push(conn.number);
        }
        self.changed.notify_all();
        drop(book);
        self.exchange.wake_all();
        book = self.book();
        while !self.stopped() && cut.iter().any(|n| book.conns.contains_key(n)) {
            book = self.changed.wait(book).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn stall(&self) {
        for conn in self.book().conns.values().filter(|c| c.streaming.load(Ordering::SeqCst)) {
            conn.stalled.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn resume(&self) {
        for conn in self.book().conns.values() {
            conn.stalled.store(false, Ordering::SeqCst);
        }
        self.changed.notify_all();
        self.exchange.wake_all();
    }

    pub(super) fn control(&self, control: &Control) {
        match control {
            Control::CutStreams { how } => self.cut(*how, true),
            Control::CutConnections { how } => self.cut(*how, false),
            Control::StallStreams => self.stall(),
            Control::Resume => self.resume(),
            Control::Restart { how } => {
                self.cut(*how, false);
                self.exchange.restart();
            }
            Control::LoseSubscriptions { user } => {
                self.exchange.lose_subscription(user);
            }
            Control::SilentDeath { user } => {
                self.exchange.silent_death(user);
            }
            // A script may name a mailbox that is not there; nothing happens to it then.
            Control::ForgetStates { user, folder } => {
                let _ = self.exchange.forget_states(user, folder.as_deref());
            }
            Control::RefuseSync { user, code } => {
                let _ = self.exchange.refuse_sync(user, code.as_deref());
            }
            Control::Refuse => self.refuse(true),
            Control::Accept => self.refuse(false),
        }
    }

    /// Sleeps, but not longer than the server lives; says whether it still does.
    pub(super) fn pause(&self, until: Instant) -> bool {
        let mut book = self.book();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.stopped() || left.is_zero() {
                return !self.stopped();
            }
            book = self.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    // ---- the book ----

    pub(super) fn thread_started(&self) {
        self.book().stats.threads += 1;
    }

    pub(super) fn thread_ended(&self) {
        let mut book = self.book();
        book.stats.threads -= 1;
        book.stats.panics += u64::from(std::thread::panicking());
        self.changed.notify_all();
    }

    /// `None` if the server has stopped meanwhile.
    pub(super) fn open(&self, sock: TcpStream) -> Option<Arc<Conn>> {
        let mut book = self.book();
        if self.stopped() {
            return None;
        }
        book.stats.accepted += 1;
        book.stats.open += 1;
        let conn = Arc::new(Conn {
            number: book.stats.accepted,
            sock,
            cut: AtomicU8::new(0),
            stalled: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
        });
        book.conns.insert(conn.number, conn.clone());
        self.changed.notify_all();
        Some(conn)
    }

    /// A request may come by a connection.
    pub(super) fn ready(&self) {
        self.book().stats.ready += 1;
        self.changed.notify_all();
    }

    /// Takes the connection out of the book and closes its socket, in this order: who sees it gone from the book must also
    /// find the socket closed, so both happen under the lock.
    pub(super) fn close(&self, conn: Arc<Conn>) {
        let mut book = self.book();
        book.conns.remove(&conn.number);
        book.stats.open -= 1;
        drop(conn);
        self.changed.notify_all();
    }

    /// Writes a request down; the number is for [`answered`](Self::answered).
    pub(super) fn requested(&self, request: Request) -> usize {
        let mut book = self.book();
        book.request_bytes += request.body.len();
        book.requests.push_back(request);
        while book.requests.len() > MAX_REQUESTS
            || (book.request_bytes > MAX_REQUEST_BYTES && book.requests.len() > 1)
        {
            if let Some(old) = book.requests.pop_front() {
                book.request_bytes -= old.body.len();
                book.forgotten += 1;
            }
        }
        book.forgotten + book.requests.len() - 1
    }

    pub(super) fn answered(&self, number: usize, operation: &str, status: u16) {
        let mut book = self.book();
        if let Some(i) = number.checked_sub(book.forgotten)
            && let Some(request) = book.requests.get_mut(i)
        {
            request.status = Some(status);
        }
        *book.stats.requests.entry((operation.to_owned(), status)).or_default() += 1;
        book.stats.unauthorized += u64::from(status == 401);
        self.changed.notify_all();
    }

    pub(super) fn stream_opened(&self, conn: &Conn, in_ledger: u64, user: &str) -> usize {
        let mut book = self.book();
        conn.streaming.store(true, Ordering::SeqCst);
        book.stats.streams += 1;
        book.streams.push(StreamLog {
            connection: conn.number,
            in_ledger,
            user: user.to_owned(),
            written: 0,
            bytes: 0,
            lost: Vec::new(),
            end: None,
        });
        self.changed.notify_all();
        book.streams.len() - 1
    }

    pub(super) fn stream_moved(&self, number: usize, change: impl FnOnce(&mut StreamLog)) {
        let mut book = self.book();
        if let Some(log) = book.streams.get_mut(number) {
            change(log);
        }
        self.changed.notify_all();
    }

    pub(super) fn stream_ended(&self, conn: &Conn, number: usize, end: End) {
        let mut book = self.book();
        conn.streaming.store(false, Ordering::SeqCst);
        book.stats.streams -= 1;
        if let Some(log) = book.streams.get_mut(number) {
            log.end = Some(end);
        }
        self.changed.notify_all();
    }

    pub(super) fn stats(&self) -> Stats {
        self.book().stats.clone()
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.book().requests.iter().cloned().collect()
    }

    pub(super) fn streams(&self) -> Vec<StreamLog> {
        self.book().streams.clone()
    }

    pub(super) fn wait_until(&self, limit: Duration, mut done: impl FnMut(&Stats) -> bool) -> bool {
        let until = Instant::now() + limit;
        loop {
            // Without the lock: `done` may ask for more than the counters, also of the exchange, whose changes wake nobody
            // here. So it is asked again after a slice.
            if done(&self.stats()) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let book = self.book();
            drop(self.changed.wait_timeout(book, left.min(SLICE)).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Conn {
    pub(super) fn cut(&self) -> Option<Cut> {
        match self.cut.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Cut::Fin),
            _ => Some(Cut::Reset),
        }
    }

    pub(super) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }

    pub(super) fn set_stalled(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }
}
