//! Proxies: CONNECT and SOCKS5 with a sign-in, by fakes that can do everything wrong and by real ones (`reverse.rs` has the latter).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use ewsnotify::ErrorKind;
use ewsnotify::net::{Cancel, Config, Endpoint, HttpLink, Link, Tls};

use crate::asks::get;
use crate::relay::pump;
use crate::server::*;
use crate::signing::{by_offer, ntlm_server};
use crate::tls::{Authority, answering, answering_with};

/// For the proxy.
pub const PROXY_PASSWORD: &str = "Zwiebelfisch-4711";
/// What goes out for `ada` and it.
const PROXY_SIGNATURE: &str = "Basic YWRhOlp3aWViZWxmaXNjaC00NzEx";
const NAME: &str = "mail.example.invalid";

/// By a proxy, to a server that has the name.
fn by(proxy: &str, server: &Server, config: Config) -> Config {
    let place = format!("{NAME}:443:127.0.0.1:{}", server.address.port()).parse().unwrap();
    Config { proxy: Some(proxy.parse().unwrap()), connect_to: vec![place], ..config }
}

fn signed(proxy: &Server) -> String {
    format!("http://ada:{PROXY_PASSWORD}@{}", proxy.address)
}

fn call(config: Config) -> ewsnotify::Result<ewsnotify::net::Reply> {
    let called = Client::new(&format!("https://{NAME}"), config).call();
    called.inspect_err(|e| {
        let shown = format!("{e} {e:?}");
        assert!(!shown.contains(PROXY_PASSWORD) && !shown.contains(&PROXY_SIGNATURE[6..]), "{shown}");
    })
}

/// A proxy that makes connections, and tells the heads that it was sent.
fn connecting() -> (Server, mpsc::Receiver<String>) {
    let (send, heads) = mpsc::channel();
    let proxy = Server::start(move |mut stream, _| {
        let Some((head, _)) = read_request(&mut stream) else { return };
        let place = head.split(' ').nth(1).unwrap().to_owned();
        send.send(head).unwrap();
        let other = TcpStream::connect(place).unwrap();
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let _ = pump(stream, other);
    });
    (proxy, heads)
}

// The proxy's password is for the proxy, the server's for the server; and a connection that stands is used again.
#[test]
fn calls_go_through_and_each_sees_its_own_sign_in() {
    let authority = Authority::new();
    let (send, seen) = mpsc::channel();
    let server =
        answering_with(authority.server_config(NAME, |_| (), rustls::ALL_VERSIONS), move |head, _| {
            send.send(head.to_owned()).unwrap();
            ok(ENVELOPE)
        });
    let (proxy, heads) = connecting();
    let client = Client::new(&format!("https://{NAME}"), by(&signed(&proxy), &server, authority.config()));
    for _ in 0..3 {
        assert_eq!(client.call().unwrap().body, ENVELOPE.as_bytes());
        let head = seen.recv().unwrap();
        assert!(head.contains(SIGNATURE) && !head.to_lowercase().contains("proxy-"), "{head}");
    }
    let head = heads.recv().unwrap();
    assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", server.address.port())), "{head}");
    assert_eq!(header(&head, "proxy-authorization"), Some(PROXY_SIGNATURE));
    assert!(!head.contains(SIGNATURE), "{head}");
    assert_eq!((proxy.accepted(), client.counters.sockets_opened()), (1, 1));
    // Whose certificate it is counts as ever: the proxy is nobody to trust.
    let other = answering(Authority::new().server_config(NAME, |_| (), rustls::ALL_VERSIONS));
    let e = call(by(&signed(&proxy), &other, authority.config())).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
}

// The intranet's server, asked for at the proxy, is not found there.
#[test]
fn exceptions_go_directly() {
    let authority = Authority::new();
    let server = answering(authority.server_config(NAME, |_| (), rustls::ALL_VERSIONS));
    let (proxy, _heads) = connecting();
    let config = by(&signed(&proxy), &server, authority.config());
    call(Config { no_proxy: "example.invalid".parse().unwrap(), ..config.clone() }).unwrap();
    assert_eq!(proxy.accepted(), 0);
    call(config).unwrap();
    assert_eq!(proxy.accepted(), 1);
    // This machine's own server.
    let here = Server::answering(ok(ENVELOPE));
    let config = Config { proxy: Some(signed(&proxy).parse().unwrap()), ..crate::server::config() };
    Client::new(&here.url(), config).call().unwrap();
    assert_eq!(proxy.accepted(), 1);
}

// Proxies let CONNECT through to port 443 only: Autodiscover's question over http would be lost.
#[test]
fn plain_http_is_sent_on() {
    let (send, heads) = mpsc::channel();
    let proxy = Server::start(move |mut stream, _| {
        while let Some((head, _)) = read_request(&mut stream) {
            send.send(head).unwrap();
            stream.write_all(&answer("302 Found", "Location: https://elsewhere.test/\r\n", "")).unwrap();
        }
    });
    let config = Config { proxy: Some(signed(&proxy).parse().unwrap()), ..config() };
    let told = get("http://autodiscover.example.invalid/autodiscover/autodiscover.xml", config).unwrap();
    assert_eq!((told.status, told.location.as_deref()), (302, Some("https://elsewhere.test/")));
    let head = heads.recv().unwrap();
    let line = "GET http://autodiscover.example.invalid/autodiscover/autodiscover.xml HTTP/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert_eq!(header(&head, "host"), Some("autodiscover.example.invalid"));
    assert_eq!(header(&head, "proxy-authorization"), Some(PROXY_SIGNATURE));
    assert!(!head.contains(SIGNATURE), "{head}");
}

/// A proxy that sends requests on by whatever connection is free, as Squid and the like do for all of their clients; and that connects
/// where it is asked to.
fn mixing(server: &Server) -> (Server, mpsc::Receiver<String>) {
    let (send, lines) = mpsc::channel();
    let at = server.address;
    let proxy = Server::start(move |mut stream, _| {
        while let Some((head, body)) = read_request(&mut stream) {
            send.send(head.lines().next().unwrap().to_owned()).unwrap();
            let mut other = TcpStream::connect(at).unwrap();
            if head.starts_with("CONNECT ") {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let _ = pump(stream, other);
                return;
            }
            other.write_all(&[head.as_bytes(), &body].concat()).unwrap();
            let (head, body) = read_request(&mut other).unwrap();
            stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        }
    });
    (proxy, lines)
}

// NTLM signs in a connection: the proxy's, by which others would then read this mailbox; or the sign-in is taken apart and refused,
// though name and password are right.
#[test]
fn ntlm_gets_a_connection_of_its_own_over_plain_http_too() {
    let (server, turns) = ntlm_server(|_, _, _| None);
    let (proxy, lines) = mixing(&server);
    let config = Config {
        proxy: Some(format!("http://{}", proxy.address).parse().unwrap()),
        allow_plaintext: true,
        ..config()
    };
    let endpoint = Endpoint::parse("http://mail.example.invalid/EWS/Exchange.asmx").unwrap();
    let link = HttpLink::new(
        endpoint,
        config.clone(),
        by_offer(),
        Arc::new(Tls::new(None).unwrap()),
        Arc::default(),
    )
    .unwrap();
    for _ in 0..2 {
        link.call(&post(), &Cancel::new()).unwrap();
    }
    let seen: Vec<_> =
        turns.lock().unwrap().iter().map(|&(connection, kind, _)| (connection, kind)).collect();
    assert_eq!(seen, [(0, "-"), (0, "negotiate"), (0, "authenticate"), (0, "-")]);
    assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["CONNECT mail.example.invalid:80 HTTP/1.1"]);
    // What signs each request by itself is sent on as ever.
    let basic = Client::new("http://mail.example.invalid/EWS/Exchange.asmx", config);
    let _ = basic.call();
    assert!(lines.try_iter().next().unwrap().starts_with("POST http://mail.example.invalid/EWS/"));
}

// All that a user sees of a proxy that fails is this text: it says that it was the proxy, which one, and what to do.
#[test]
fn refusals_name_the_proxy() {
    let authority = Authority::new();
    let server = answering(authority.server_config(NAME, |_| (), rustls::ALL_VERSIONS));
    let page = answer("502 Bad Gateway", "Content-Type: text/html\r\n", &"<p>gone</p>".repeat(9000));
    let echo = answer(&format!("403 you sent {PROXY_SIGNATURE} {PROXY_PASSWORD}"), "", "");
    for (said, kind, status, words) in [
        (
            answer("407 x", "Proxy-Authenticate: Basic realm=\"x\"\r\n", ""),
            ErrorKind::Auth,
            Some(407),
            "refused the sign-in of \"ada\"",
        ),
        (
            answer("407 x", "Proxy-Authenticate: NTLM\r\n", ""),
            ErrorKind::Auth,
            Some(407),
            "offers NTLM, but no Basic",
        ),
        (page, ErrorKind::Connect, Some(502), "could not reach 127.0.0.1:"),
        (echo, ErrorKind::Connect, Some(403), "forbids a connection to 127.0.0.1:"),
        (b"220 mail ESMTP\r\n".to_vec(), ErrorKind::Connect, None, "no HTTP (it begins"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>".to_vec(), ErrorKind::Connect, None, "more than was asked for"),
    ] {
        let proxy = Server::answering(said);
        let e = call(by(&signed(&proxy), &server, authority.config())).unwrap_err();
        assert_eq!((e.kind(), e.http_status()), (kind, status), "{e}");
        assert!(
            e.to_string().contains(words)
                && e.to_string().contains(&format!("proxy http://{}", proxy.address)),
            "{e}"
        );
        assert_eq!(server.accepted(), 0);
    }
    // It says yes, and is nobody.
    let proxy = Server::start(|mut stream, _| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let e = call(by(&signed(&proxy), &server, authority.config())).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.to_string().contains("proxy's page"), "{e}");
}

// Each try with a wrong password counts until the account is locked, and Autodiscover has five places to ask.
#[test]
fn a_refused_sign_in_ends_the_search_for_the_server() {
    let proxy = Server::answering(answer("407 x", "Proxy-Authenticate: Basic realm=\"x\"\r\n", ""));
    let mut options = ewsnotify::Options::new();
    for (key, value) in [("user", USER), ("password", PASSWORD), ("proxy", &signed(&proxy))] {
        options.set(key, value).unwrap();
    }
    let mut told = Vec::new();
    let summary = ewsnotify::check::check(&options, &Cancel::new(), &mut |f| told.push(f.message)).unwrap();
    assert!(summary.failed == 1 && summary.sign_in, "{told:#?}");
    assert!(told.last().unwrap().contains("refused the sign-in of \"ada\""), "{told:#?}");
    assert_eq!(proxy.accepted(), 1);
}

// A proxy that is gone, or was never one.
#[test]
fn nobody_there() {
    let authority = Authority::new();
    let server = answering(authority.server_config(NAME, |_| (), rustls::ALL_VERSIONS));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let e = call(by(&format!("http://{closed}"), &server, authority.config())).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Connect);
    let words = [&*format!("while connecting to the proxy http://{closed}"), "check option proxy"];
    assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
    let e = call(by("http://proxy.example.invalid:1", &server, authority.config())).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Connect);
    let words = ["looking up \"proxy.example.invalid\"", "in option proxy"];
    assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
    for (said, words) in [(&b""[..], "without an answer"), (b"HTTP/1.1 200", "in the middle of its answer")] {
        let proxy = Server::start(move |mut stream, _| {
            read_request(&mut stream);
            let _ = stream.write_all(said);
        });
        let e = call(by(&signed(&proxy), &server, authority.config())).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
        assert!(e.to_string().contains(words), "{e}");
    }
}

// A proxy that says nothing, or never ends what it says, would hold a watch up for ever, and `close` with it.
#[test]
fn silence_and_endless_answers_end() {
    let authority = Authority::new();
    let server = answering(authority.server_config(NAME, |_| (), rustls::ALL_VERSIONS));
    for (scheme, said) in
        [("http", &b""[..]), ("http", b"HTTP/1.1 200 OK\r\nX: "), ("socks5", b""), ("socks5", b"\x05")]
    {
        let proxy = Server::start(move |mut stream, _| {
            let _ = stream.write_all(said);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let url = format!("{scheme}://ada:{PROXY_PASSWORD}@{}", proxy.address);
        let short = Config { connect_timeout: Duration::from_millis(100), ..authority.config() };
        let e = call(by(&url, &server, short)).unwrap_err();
        assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Connect, true), "{e}");
        let words =
            format!("time-out after 100ms while the proxy {scheme}://{} was to connect", proxy.address);
        assert!(e.to_string().contains(&words), "{e}");
        // A close from another thread does not wait for the time-out.
        let client = Client::new(&format!("https://{NAME}"), by(&url, &server, authority.config()));
        let (cancel, link) = (Cancel::new(), client.link.clone());
        let ended = {
            let cancel = cancel.clone();
            thread::spawn(move || ewsnotify::net::Link::call(&*link, &post(), &cancel).map(drop))
        };
        eventually("the proxy is asked", || proxy.accepted() == 2);
        cancel.cancel();
        let e = within_deadline("the call", move || ended.join().unwrap()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Closed, "{e}");
        assert_eq!(client.counters.sockets_open(), 0);
    }
    let proxy = Server::start(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    let e = call(by(&signed(&proxy), &server, authority.config())).unwrap_err();
    assert!(e.to_string().contains("too long"), "{e}");
}
