//! Sending notifications to the URLs of push subscriptions.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::shared::Shared;
use super::wire::SLICE;
use crate::sim::exchange::{Post, Posted, PushFault};

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many are under way at a time.
const AT_A_TIME: usize = 64;
const MAX_ANSWER: usize = 64 << 10;

/// Sends what is due until the server stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let held: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    while !shared.stopped() {
        threads.retain(|t| !t.is_finished());
        if threads.len() >= AT_A_TIME {
            shared.pause(Instant::now() + Duration::from_millis(5));
            continue;
        }
        let Some(post) = shared.exchange.next_push(20 * SLICE) else { continue };
        let (of_post, held) = (shared.clone(), held.clone());
        let run = move || {
            let outcome = send(&of_post, &post, &held);
            of_post.exchange.pushed(&post, outcome);
        };
        if let Ok(thread) = std::thread::Builder::new().name("sim-poster".to_owned()).spawn(run) {
            threads.push(thread);
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn send(shared: &Shared, post: &Post, held: &Mutex<Vec<Vec<u8>>>) -> Posted {
    let once = |body: &[u8]| ask(shared, &post.url, body).unwrap_or(Posted::Failed);
    let held = || held.lock().unwrap_or_else(PoisonError::into_inner);
    match post.fault {
        Some(PushFault::Lost) => Posted::Ok,
        Some(PushFault::Held) => {
            held().push(post.body.clone());
            Posted::Ok
        }
        Some(PushFault::Unanswered) => {
            once(&post.body);
            Posted::Failed
        }
        Some(PushFault::Cut) => {
            once(&post.body[..post.body.len() / 2]);
            Posted::Failed
        }
        Some(PushFault::Repeated) => {
            once(&post.body);
            once(&post.body)
        }
        Some(PushFault::Error(..)) | None => {
            let outcome = once(&post.body);
            let late = std::mem::take(&mut *held());
            for body in late {
                let _ = once(&body);
            }
            outcome
        }
    }
}

/// One request and its answer.
fn ask(shared: &Shared, url: &str, body: &[u8]) -> io::Result<Posted> {
    let bad = || io::Error::from(io::ErrorKind::InvalidInput);
    let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
    let https = scheme.eq_ignore_ascii_case("https");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let port = if https { ":443" } else { ":80" };
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let address = match authority[after_brackets..].contains(':') {
        true => authority.to_owned(),
        false => format!("{authority}{port}"),
    };
    let address = address.to_socket_addrs()?.next().ok_or_else(bad)?;
    let sock = TcpStream::connect_timeout(&address, PATIENCE)?;
    sock.set_nodelay(true)?;
    sock.set_read_timeout(Some(SLICE))?;
    sock.set_write_timeout(Some(PATIENCE))?;
    // As Exchange Online writes it.
    let head = format!(
        "POST {path} HTTP/1.1\r\nAccept: text/xml\r\nContent-Type: text/xml; charset=utf-8\r\nSoapaction: \
         http://schemas.microsoft.com/exchange/services/2006/messages/SendNotification\r\nHost: {authority}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    match https {
        false => exchange(shared, sock, &request),
        true => {
            let host = authority.get(..authority.rfind(':').unwrap_or(authority.len())).unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(|_| bad())?;
            let config: Arc<ClientConfig> = shared.push_tls().map_err(io::Error::other)?;
            let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
            exchange(shared, StreamOwned::new(tls, sock), &request)
        }
    }
}

fn exchange(shared: &Shared, mut link: impl Read + Write, request: &[u8]) -> io::Result<Posted> {
    let until = Instant::now() + PATIENCE;
    let waits = |e: &io::Error| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    let over = || shared.stopped() || Instant::now() >= until;
    let mut rest = request;
    while !rest.is_empty() {
        match link.write(rest) {
            Ok(n) => rest = &rest[n..],
            // In a handshake, a write reads.
            Err(e) if waits(&e) && !over() => {}
            // It may have been refused before it was sent whole.
            Err(_) => break,
        }
    }
    let _ = link.flush();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while answer.len() < MAX_ANSWER {
        match link.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(e) if waits(&e) && !over() => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(e),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default();
    // Case matters.
    let says = |word: &str| body.contains(&format!("SubscriptionStatus>{word}</"));
    Ok(match status {
        "200" if says("OK") => Posted::Ok,
        "200" if says("Unsubscribe") => Posted::Unsubscribe,
        _ => Posted::Failed,
    })
}
