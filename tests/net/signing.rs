//! Other ways to sign in than Basic: the shape must hold for those that talk several turns or refresh a token.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ewsnotify::auth::{Answer, Auth, Context, Handshake, Secret};
use ewsnotify::net::{Cancel, Counters, Endpoint, HttpLink, Link, Tls};
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
