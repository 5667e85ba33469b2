//! Other ways to sign in than Basic: the shape must hold for those that talk several turns or refresh a token.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ewsnotify::auth::{Answer, Auth, Basic, ByOffer, Context, Fresh, Handshake, Ntlm, Secret};
use ewsnotify::net::{Cancel, Config, Counters, Endpoint, HttpLink, Link, Post, Rationed, Tls, Tries};
use ewsnotify::{ErrorKind, Result};

use crate::server::*;

fn link(server: &Server, auth: Arc<dyn Auth>) -> (HttpLink, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let endpoint = Endpoint::parse(&server.url()).unwrap();
    let tls = Arc::new(Tls::new(None).unwrap());
    (HttpLink::new(endpoint, config(), auth, tls, counters.clone()).unwrap(), counters)
}

/// As NTLM: nothing at first, then two turns, by which the socket is signed in.
#[derive(Debug)]
struct Turns;

struct TurnsOf(u32);

impl Auth for Turns {
    fn check(&self, _: &Endpoint, _: bool) -> Result<()> {
        Ok(())
    }
    fn start(&self) -> Box<dyn Handshake> {
        Box::new(TurnsOf(0))
    }
    fn ways(&self) -> &'static [&'static str] {
        &["T"]
    }
    fn who(&self) -> String {
        "somebody".into()
    }
}

impl Handshake for TurnsOf {
    fn first(&mut self, _: &Context<'_>) -> Result<Option<Secret>> {
        self.0 = 0;
        Ok(None)
    }
    fn challenged(&mut self, challenges: &[String], _: &Context<'_>) -> Result<Answer> {
        self.0 += 1;
        let expected = ["T", "T two"].get(self.0 as usize - 1);
        match expected {
            Some(expected) if challenges.iter().any(|c| c == expected) => {
                Ok(Answer::Again(Secret::new(format!("T answer-{}", self.0))))
            }
            _ => Ok(Answer::Refused),
        }
    }
}

/// Signs a socket in by two turns; `accept` says whether the last one is good.
fn turning(accept: bool) -> Server {
    Server::start(move |mut stream, _| {
        let mut signed_in = false;
        while let Some((head, body)) = read_request(&mut stream) {
            assert_eq!(body, b"<ask/>");
            let challenge = match header(&head, "authorization") {
                _ if signed_in => None,
                None => Some("WWW-Authenticate: Negotiate\r\nWWW-Authenticate: T\r\n"),
                Some("T answer-1") => Some("WWW-Authenticate: T two\r\n"),
                Some("T answer-2") if accept => None,
                Some(_) => Some("WWW-Authenticate: T\r\n"),
            };
            signed_in = challenge.is_none();
            let out = challenge
                .map_or_else(|| ok(ENVELOPE), |c| answer("401 Unauthorized", c, "<html>sign in</html>"));
            stream.write_all(&out).unwrap();
        }
    })
}

// NTLM signs the socket in, not the request: a turn on another socket begins anew, for ever.
#[test]
fn several_turns_stay_on_one_socket() {
    let server = turning(true);
    let (link, counters) = link(&server, Arc::new(Turns));
    for _ in 0..3 {
        link.call(&post(), &Cancel::new()).unwrap();
    }
    assert_eq!((server.accepted(), counters.sockets_opened()), (1, 1));
    drop(link.open(&post(), &Cancel::new()).unwrap());
    assert_eq!(server.accepted(), 2);
}

// A wrong password asked for again and again locks the account.
#[test]
fn a_refused_turn_ends() {
    let server = turning(false);
    let (link, counters) = link(&server, Arc::new(Turns));
    let e = link.call(&post(), &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.http_status()), (ErrorKind::Auth, Some(401)), "{e}");
    assert!(e.to_string().contains("somebody"), "{e}");
    assert_eq!((server.accepted(), counters.sockets_open()), (1, 0));
}

/// As OAuth: a token with each request, a fresh one once when it is refused.
#[derive(Debug, Default)]
struct Token(Arc<AtomicUsize>);

struct TokenOf(Arc<AtomicUsize>, bool);

impl Auth for Token {
    fn check(&self, _: &Endpoint, _: bool) -> Result<()> {
        Ok(())
    }
    fn start(&self) -> Box<dyn Handshake> {
        Box::new(TokenOf(self.0.clone(), false))
    }
    fn ways(&self) -> &'static [&'static str] {
        &["Bearer"]
    }
    fn who(&self) -> String {
        "a program".into()
    }
}

impl Handshake for TokenOf {
    fn first(&mut self, _: &Context<'_>) -> Result<Option<Secret>> {
        self.1 = false;
        Ok(Some(Secret::new(format!("Bearer {}", self.0.load(Ordering::SeqCst)))))
    }
    fn challenged(&mut self, _: &[String], cx: &Context<'_>) -> Result<Answer> {
        if std::mem::replace(&mut self.1, true) {
            return Ok(Answer::Refused);
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        self.first(cx).map(|token| {
            self.1 = true;
            token.map_or(Answer::Refused, Answer::Again)
        })
    }
}

// A token lasts an hour; without a refresh the watch ends then, with too many the token server locks us out.
#[test]
fn a_token_is_refreshed_once() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (keep, good) = (seen.clone(), Arc::new(AtomicUsize::new(1)));
    let wanted = good.clone();
    let server = Server::start(move |mut stream, _| {
        while let Some((head, _)) = read_request(&mut stream) {
            let token = header(&head, "authorization").unwrap().to_owned();
            let is_good = token == format!("Bearer {}", wanted.load(Ordering::SeqCst));
            keep.lock().unwrap().push(token);
            stream.write_all(&if is_good { ok(ENVELOPE) } else { answer("401 x", "", "") }).unwrap();
        }
    });
    let (link, _) = link(&server, Arc::new(Token::default()));
    link.call(&post(), &Cancel::new()).unwrap();
    link.call(&post(), &Cancel::new()).unwrap();
    drop(link.open(&post(), &Cancel::new()).unwrap());
    assert_eq!(*seen.lock().unwrap(), ["Bearer 0", "Bearer 1", "Bearer 1", "Bearer 1"]);
    good.store(9, Ordering::SeqCst);
    let e = link.call(&post(), &Cancel::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Auth, "{e}");
    assert_eq!(seen.lock().unwrap()[4..], ["Bearer 1", "Bearer 2"]);
}

/// The CHALLENGE message of [MS-NLMP] section 4.2.4.3.
const CHALLENGE: &str = "TlRMTVNTUAACAAAADAAMADgAAAAzgoriASNFZ4mrze8AAAAAAAAAACQAJABEAAAABgBwFwAAAA9TAGUAcgB2AGUAcgACAAwARABvAG0AYQ\
                         BpAG4AAQAMAFMAZQByAHYAZQByAAAAAAA=";

pub fn by_offer() -> Arc<ByOffer> {
    let fresh = || Ok(Fresh { now: std::time::SystemTime::UNIX_EPOCH, nonce: [7; 8] });
    let ntlm = Ntlm::new(USER, Secret::new(PASSWORD), fresh).unwrap();
    let basic = Basic::new(USER, Secret::new(PASSWORD)).unwrap();
    Arc::new(ByOffer::new(USER, ntlm, Some(basic)))
}

/// What a request says of the sign-in, and how long its body is.
fn turn(head: &str, body: &[u8]) -> (&'static str, usize) {
    let kind = match header(head, "authorization") {
        None => "-",
        Some(value) if value.starts_with("NTLM TlRMTVNTUAAB") => "negotiate",
        Some(value) if value.starts_with("NTLM TlRMTVNTUAAD") => "authenticate",
        Some(SIGNATURE) => "basic",
        Some(_) => "?",
    };
    (kind, body.len())
}

pub type Seen = Arc<Mutex<Vec<(usize, &'static str, usize)>>>;

/// A server that offers NTLM, and believes every answer. `odd` is asked first, with the connection's number, the request's number there,
/// and what the request says; `None` closes the connection.
pub fn ntlm_server(
    odd: impl Fn(usize, usize, &str) -> Option<Option<Vec<u8>>> + Send + Sync + 'static,
) -> (Server, Seen) {
    let turns = Seen::default();
    let keep = turns.clone();
    let server = Server::start(move |mut stream, number| {
        let (mut signed_in, mut n) = (false, 0);
        while let Some((head, body)) = read_request(&mut stream) {
            let (kind, len) = turn(&head, &body);
            keep.lock().unwrap().push((number, kind, len));
            let out = match odd(number, n, kind) {
                Some(Some(out)) => out,
                Some(None) => return,
                None => match kind {
                    "negotiate" => challenge(""),
                    "authenticate" => ok(ENVELOPE),
                    "-" if signed_in => ok(ENVELOPE),
                    _ => offer(),
                },
            };
            signed_in |= kind == "authenticate";
            n += 1;
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    });
    (server, turns)
}

fn offer() -> Vec<u8> {
    answer("401 Unauthorized", "WWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=x\r\n", "<html/>")
}

fn challenge(headers: &str) -> Vec<u8> {
    answer("401 Unauthorized", &format!("WWW-Authenticate: NTLM {CHALLENGE}\r\n{headers}"), "<html/>")
}

// Bodies of requests that wait for a sign-in are refused by some servers (413), and sent twice to the others.
#[test]
fn the_request_goes_out_with_the_answer_and_then_without_a_header() {
    let (server, turns) = ntlm_server(|_, _, _| None);
    let (link, counters) = link(&server, by_offer());
    for _ in 0..3 {
        link.call(&post(), &Cancel::new()).unwrap();
    }
    drop(link.open(&post(), &Cancel::new()).unwrap());
    let body = post().body.len();
    assert_eq!(
        *turns.lock().unwrap(),
        [
            // Which ways there are is not known yet.
            (0, "-", body),
            (0, "negotiate", 0),
            (0, "authenticate", body),
            (0, "-", body),
            (0, "-", body),
            (1, "negotiate", 0),
            (1, "authenticate", body),
        ]
    );
    assert_eq!(counters.sockets_opened(), 2);
}

// A proxy that closes connections as it likes must cost a turn, and not the watch; the answer to a challenge means nothing on another
// connection, where it would count as a wrong password.
#[test]
fn a_connection_that_is_lost_in_the_middle_begins_anew() {
    let kinds = |turns: &Seen| -> Vec<_> {
        turns.lock().unwrap().iter().map(|&(number, kind, _)| (number, kind)).collect()
    };
    // A connection ends when the answer comes, unread.
    let (server, turns) =
        ntlm_server(|number, _, kind| (number < 1 && kind == "authenticate").then_some(None));
    let (link, _) = link(&server, by_offer());
    link.call(&post(), &Cancel::new()).unwrap();
    let (ask, say) = ("negotiate", "authenticate");
    assert_eq!(kinds(&turns), [(0, "-"), (0, ask), (0, say), (1, ask), (1, say)]);
    // What may have been carried out is not asked a second time.
    let (server, turns) = ntlm_server(|_, _, kind| (kind == "authenticate").then_some(None));
    let (link, _) = self::link(&server, by_offer());
    let events = Post { soap_action: "http://example.test/ews/GetEvents", ..post() };
    let e = link.call(&events, &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), kinds(&turns).len()), (ErrorKind::Io, 3), "{e}");
    // It is given up when it was sent twice: each time may count as a wrong password.
    let e = link.call(&post(), &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), kinds(&turns).len()), (ErrorKind::Io, 3 + 4), "{e}");
    assert!(e.to_string().contains("counts as a wrong password"), "{e}");
}

// After each challenge the connection is gone: that never gets better, and somebody has to be told why.
#[test]
fn connections_that_never_stay_are_told() {
    let says = |headers: &'static str, version: &'static str| {
        let (server, turns) = ntlm_server(move |_, _, kind| {
            (kind == "negotiate").then(|| {
                let text = String::from_utf8(challenge(headers)).unwrap();
                Some(text.replace("HTTP/1.1", version).into_bytes())
            })
        });
        let (link, _) = link(&server, by_offer());
        let e = link.call(&post(), &Cancel::new()).unwrap_err();
        assert!(turns.lock().unwrap().iter().all(|(_, kind, _)| *kind != "authenticate"));
        e
    };
    for (headers, version) in [("Connection: close\r\n", "HTTP/1.1"), ("", "HTTP/1.0")] {
        let e = says(headers, version);
        assert_eq!((e.kind(), e.http_status()), (ErrorKind::Auth, Some(401)), "{e}");
        assert!(e.to_string().contains("closed after the server's challenge"), "{e}");
    }
    // Without a word: a page so long that its socket is left.
    let page = "x".repeat(200 * 1024);
    let (server, turns) = ntlm_server(move |_, _, kind| {
        (kind == "negotiate").then(|| {
            Some(answer("401 Unauthorized", &format!("WWW-Authenticate: NTLM {CHALLENGE}\r\n"), &page))
        })
    });
    let (link, _) = link(&server, by_offer());
    let e = link.call(&post(), &Cancel::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io, "{e}");
    assert!(e.to_string().contains("in the middle of a sign-in by NTLM or Kerberos"), "{e}");
    let turns = turns.lock().unwrap();
    assert!(turns.iter().all(|(_, kind, _)| *kind != "authenticate"), "not on another connection: {turns:?}");
    assert_eq!(turns.iter().filter(|(_, kind, _)| *kind == "negotiate").count(), 3, "bounded");
}

// A proxy that shares its connections with others takes sign-ins apart; a server says so, or asks again.
#[test]
fn a_connection_that_is_not_signed_in_any_more_begins_anew() {
    let (server, turns) = ntlm_server(|_, _, kind| {
        let text =
            |headers: &str| answer("200 OK", &format!("Content-Type: text/xml\r\n{headers}"), ENVELOPE);
        (kind == "authenticate").then(|| Some(text("Persistent-Auth: false\r\n")))
    });
    let (link, _) = link(&server, by_offer());
    for _ in 0..2 {
        link.call(&post(), &Cancel::new()).unwrap();
    }
    let kinds: Vec<_> = turns.lock().unwrap().iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, ["-", "negotiate", "authenticate", "negotiate", "authenticate"]);

    let (server, turns) = ntlm_server(|_, n, kind| (n == 3 && kind == "-").then(|| Some(offer())));
    let (link, _) = self::link(&server, by_offer());
    for _ in 0..2 {
        link.call(&post(), &Cancel::new()).unwrap();
    }
    let kinds: Vec<_> = turns.lock().unwrap().iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, ["-", "negotiate", "authenticate", "-", "negotiate", "authenticate"]);
    assert_eq!(server.accepted(), 1);
}

// Whoever takes the header away makes the server answer an empty request: that is no answer to ours.
#[test]
fn an_answer_to_an_empty_request_is_not_taken_for_one() {
    for status in ["200 OK", "500 Internal Server Error"] {
        let (server, _) = ntlm_server(move |_, _, kind| {
            (kind == "negotiate").then(|| Some(answer(status, "Content-Type: text/xml\r\n", ENVELOPE)))
        });
        let (link, _) = link(&server, by_offer());
        let e = link.call(&post(), &Cancel::new()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Protocol, "{e}");
        assert!(e.to_string().contains("first message of a sign-in by NTLM or Kerberos"), "{e}");
    }
}

// A virtual directory that has moved must not end the watch; the sign-in goes on at the new place.
#[test]
fn a_redirect_in_the_middle_begins_anew_there() {
    let (server, turns) = ntlm_server(|_, n, kind| {
        (n == 1 && kind == "negotiate").then(|| Some(answer("302 Found", "Location: /ews2/x\r\n", "")))
    });
    let (link, _) = link(&server, by_offer());
    link.call(&post(), &Cancel::new()).unwrap();
    let kinds: Vec<_> = turns.lock().unwrap().iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, ["-", "negotiate", "negotiate", "authenticate"]);
}

// A wrong password must be tried once, by one way: each time counts, and after a few the account is locked.
#[test]
fn a_wrong_password_is_tried_once() {
    let (server, turns) = ntlm_server(|_, _, kind| (kind == "authenticate").then(|| Some(offer())));
    let (link, _) = link(&server, by_offer());
    let e = link.call(&post(), &Cancel::new()).map_err(harmless).unwrap_err();
    assert_eq!((e.kind(), e.http_status()), (ErrorKind::Auth, Some(401)), "{e}");
    assert!(e.to_string().contains("NTLM was refused: check name"), "{e}");
    let kinds: Vec<_> = turns.lock().unwrap().iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, ["-", "negotiate", "authenticate"]);
}

/// A link that knows how often the password was sent.
fn rationed(server: &Server) -> HttpLink {
    link(server, Arc::new(Rationed::new(by_offer(), Arc::default()))).0
}

// Something on the way resets the connection instead of passing the refusal on: retries, each of them harmless, would lock the account.
#[test]
fn a_sign_in_whose_answer_is_lost_is_not_repeated_for_ever() {
    let (server, turns) = ntlm_server(|_, _, kind| (kind == "authenticate").then_some(None));
    let link = rationed(&server);
    let e = link.call(&post(), &Cancel::new()).unwrap_err();
    assert_eq!((e.kind(), e.retry_after()), (ErrorKind::Io, None), "{e}");
    for _ in 0..5 {
        let e = link.call(&post(), &Cancel::new()).unwrap_err();
        assert!(e.kind() == ErrorKind::Io && e.retry_after().is_some(), "{e}");
        assert!(e.to_string().contains("a few wrong ones lock the account"), "{e}");
    }
    let sent = turns.lock().unwrap().iter().filter(|(_, kind, _)| *kind == "authenticate").count();
    assert_eq!(sent, 2);
}

// The same with the password itself, asked for on the connection or shown at once.
#[test]
fn a_password_whose_answer_is_lost_is_not_repeated_for_ever() {
    let basic = || Arc::new(Basic::new(USER, Secret::new(PASSWORD)).unwrap());
    for auth in [basic() as Arc<dyn Auth>, by_offer()] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let server = Server::start(move |mut stream, _| {
            while let Some((head, _)) = read_request(&mut stream) {
                if header(&head, "authorization").is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                let offer = answer("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", "");
                stream.write_all(&offer).unwrap();
            }
        });
        let (link, _) = link(&server, Arc::new(Rationed::new(auth, Arc::default())));
        for n in 0..5 {
            let e = link.call(&post(), &Cancel::new()).unwrap_err();
            assert_eq!((e.kind(), e.retry_after().is_some()), (ErrorKind::Io, n >= 2), "{e}");
        }
        assert_eq!(sent.load(Ordering::SeqCst), 2);
    }
}

// A server that is slow just when somebody else's sign-in has hung: the time waited for that one was taken from this one's second turn, whose
// answer was not waited for, and each counts as a wrong password.
#[test]
fn what_is_waited_for_another_is_no_part_of_ones_own_time() {
    let (asked, hangs) = std::sync::mpsc::channel();
    let asked = Mutex::new(asked);
    let (server, turns) = ntlm_server(move |number, _, kind| match (number, kind) {
        (0, "authenticate") => {
            asked.lock().unwrap().send(()).unwrap();
            // Longer than the client waits.
            std::thread::sleep(SLOW * 2);
            Some(None)
        }
        (_, "authenticate") => {
            std::thread::sleep(SLOW);
            None
        }
        _ => None,
    });
    const SLOW: Duration = Duration::from_secs(1);
    let tries: Arc<Tries> = Arc::default();
    let link = |call_timeout| {
        let auth = Arc::new(Rationed::new(by_offer(), tries.clone()));
        let endpoint = Endpoint::parse(&server.url()).unwrap();
        let (tls, counters) = (Arc::new(Tls::new(None).unwrap()), Arc::default());
        HttpLink::new(endpoint, Config { call_timeout, ..config() }, auth, tls, counters).unwrap()
    };
    let (first, second) = (link(SLOW), link(SLOW * 3 / 2));
    std::thread::scope(|scope| {
        let first = scope.spawn(move || first.call(&post(), &Cancel::new()).unwrap_err());
        hangs.recv().unwrap();
        second.call(&post(), &Cancel::new()).unwrap();
        assert_eq!(first.join().unwrap().kind(), ErrorKind::Timeout);
    });
    assert_eq!(turns.lock().unwrap().iter().filter(|(_, kind, _)| *kind == "authenticate").count(), 2);
}

// One that is right is not slowed down by what the network does, nor by whoever comes first and never gets an answer.
#[test]
fn a_right_password_is_sent_as_often_as_it_has_to_be() {
    let (server, turns) =
        ntlm_server(|number, _, kind| (number > 0 && number < 9 && kind == "authenticate").then_some(None));
    let link = rationed(&server);
    let events = Post { soap_action: "http://example.test/ews/GetEvents", ..post() };
    link.call(&events, &Cancel::new()).unwrap();
    for _ in 0..4 {
        assert!(link.open(&post(), &Cancel::new()).is_err());
    }
    drop(link.open(&post(), &Cancel::new()).unwrap());
    assert_eq!(turns.lock().unwrap().iter().filter(|(_, kind, _)| *kind == "authenticate").count(), 10);

    let (server, _) = ntlm_server(|number, _, kind| (number == 0 && kind == "-").then_some(None));
    let link = Arc::new(rationed(&server));
    assert_eq!(link.call(&post(), &Cancel::new()).unwrap_err().kind(), ErrorKind::Io);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let link = link.clone();
            std::thread::spawn(move || link.call(&post(), &Cancel::new()).map(drop))
        })
        .collect();
    calls.into_iter().for_each(|call| call.join().unwrap().unwrap());
}
