//! Tiny servers, a thread for each connection, and links to them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ewsnotify::auth::{Basic, Secret};
use ewsnotify::net::{Config, Counters, Endpoint, HttpLink, Link, Opened, Post, Stream, Tls};

/// Far longer than anything here takes: only a hang meets it.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub const USER: &str = "ada@example.test";
pub const PASSWORD: &str = "hunter2-correct-horse";
/// What goes out for them.
pub const SIGNATURE: &str = "Basic YWRhQGV4YW1wbGUudGVzdDpodW50ZXIyLWNvcnJlY3QtaG9yc2U=";
pub const ENVELOPE: &str = "<Envelope>hello</Envelope>";

pub fn post() -> Post<'static> {
    Post {
        body: b"<ask/>",
        soap_action: "http://example.test/ews/GetFolder",
        anchor_mailbox: Some(USER),
        cookies: None,
    }
}

/// A server on a port of its own. It lives until the process ends; its threads end with their connections.
pub struct Server {
    pub address: SocketAddr,
    pub accepted: Arc<AtomicUsize>,
}

impl Server {
    /// `serve` gets each connection with its number from 0.
    pub fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (accepted.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serve) = (stream.unwrap(), serve.clone());
                // A test that hangs should fail by its own deadline, not leave threads that read for ever.
                stream.set_read_timeout(Some(DEADLINE * 3)).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(stream, number));
            }
        });
        Server { address, accepted }
    }

    /// Answers each request on each connection with these bytes, and keeps the connection.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Server {
        let answer = answer.into();
        Server::start(move |mut stream, _| {
            while read_request(&mut stream).is_some() {
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        })
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url(), config())
    }
}

/// A request's head and body; `None` at the end of the connection.
pub fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = header(&head, "content-length").map_or(0, |v| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|l| {
        let (n, v) = l.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| v.trim())
    })
}

/// A whole answer.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

pub fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", "Content-Type: text/xml; charset=utf-8\r\n", body)
}

pub fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

pub const CHUNKED_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Time-outs that only a hang meets; tests of time-outs shorten one.
pub fn config() -> Config {
    Config {
        connect_timeout: DEADLINE * 2,
        lookup_timeout: DEADLINE * 2,
        call_timeout: DEADLINE * 2,
        idle_timeout: DEADLINE * 2,
        ..Config::default()
    }
}

pub struct Client {
    pub link: Arc<HttpLink>,
    pub counters: Arc<Counters>,
}

impl Client {
    pub fn new(url: &str, config: Config) -> Client {
        let counters = Arc::new(Counters::default());
        let tls = Arc::new(Tls::of(&config).unwrap());
        let auth = Arc::new(Basic::new(USER, Secret::new(PASSWORD)).unwrap());
        let endpoint = Endpoint::parse(url).unwrap();
        let link = HttpLink::new(endpoint, config, auth, tls, counters.clone()).unwrap();
        Client { link: Arc::new(link), counters }
    }

    pub fn call(&self) -> ewsnotify::Result<ewsnotify::net::Reply> {
        self.link.call(&post(), &ewsnotify::net::Cancel::new()).map_err(harmless)
    }

    pub fn open(&self) -> ewsnotify::Result<Opened> {
        self.link.open(&post(), &ewsnotify::net::Cancel::new()).map_err(harmless)
    }

    pub fn stream(&self) -> Box<dyn Stream> {
        match self.open() {
            Ok(Opened::Stream(stream)) => stream,
            other => panic!("no stream: {other:?}"),
        }
    }
}

/// Every error that a test sees is searched for secrets.
pub fn harmless(error: ewsnotify::Error) -> ewsnotify::Error {
    let shown = format!("{error} {error:?} {error:#?}");
    for secret in [PASSWORD, SIGNATURE, SIGNATURE.strip_prefix("Basic ").unwrap()] {
        assert!(!shown.contains(secret), "a secret in {shown}");
    }
    error
}

/// Everything to the end, or to the error.
pub fn read_all(stream: &mut dyn Stream) -> (Vec<u8>, Option<ewsnotify::Error>) {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece, None) {
            Ok(0) => return (all, None),
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) => return (all, Some(harmless(e))),
        }
    }
}

/// Runs `work` on a thread and fails if it does not end.
pub fn within_deadline<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(DEADLINE).unwrap_or_else(|e| panic!("{what}: {e}"))
}

/// Waits for something that another thread will bring about.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "never came: {what}");
        thread::yield_now();
    }
}

/// A listener whose queue is full: connections to it neither come about nor are refused.
pub struct FullListener {
    pub url: String,
    _listener: std::os::fd::OwnedFd,
    _waiting: Vec<std::os::fd::OwnedFd>,
}

pub fn full_listener() -> FullListener {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};
    let new = || socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let listener = new();
    bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&listener, 1).unwrap();
    let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let fd = new();
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        let _ = connect(&fd, &address);
        let brief = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        let came = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&brief)).unwrap() > 0;
        waiting.push(fd);
        if !came {
            return FullListener { url: format!("http://{address}"), _listener: listener, _waiting: waiting };
        }
        assert!(waiting.len() < 100, "the queue never fills");
    }
}
