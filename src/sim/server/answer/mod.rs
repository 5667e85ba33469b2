//! A connection's requests one after the other: who asks, what is asked, which fault befalls it, the answer.

mod reply;
mod sign_in;

use std::io::Read;
use std::time::Duration;

use xml::reader::{EventReader, XmlEvent};

use self::reply::{PAGE, instead};
use self::sign_in::{SignIn, sign_in};
use super::fault::{Action, Due, Occasion};
use super::http::{self, Body, Head, NoHead, Reply};
use super::issuer::{Issuer, Place};
use super::out::Out;
use super::record::{End, Request};
use super::stream;
use super::wire::{Io, Wire};
use crate::sim::Answer;
use crate::sim::exchange::Failure;

/// Serves until somebody ends the connection; `Ok` if that is the server's own wish.
pub(super) fn serve(wire: &mut Wire) -> Io {
    if let Some(alert) = wire.shared.alert {
        return break_off(wire, alert);
    }
    if wire.shared.due(&Occasion::Connection).is_some() {
        return hold(wire);
    }
    while one(wire)? {}
    Ok(())
}

// Answers a ClientHello as a server does that knows nothing newer: with a fatal alert.
fn break_off(wire: &mut Wire, alert: u8) -> Io {
    loop {
        let whole =
            wire.inbox.get(3..5).map(|length| 5 + usize::from(length[0]) * 256 + usize::from(length[1]));
        if whole.is_some_and(|whole| wire.inbox.len() >= whole) {
            return wire.send(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, alert]);
        }
        if wire.fill()? == 0 {
            return Err(End::Client);
        }
    }
}

// Whatever comes is left unanswered.
fn hold(wire: &Wire) -> Io {
    let mut thrown_away = [0; 4096];
    loop {
        match (&wire.conn.sock).read(&mut thrown_away) {
            Ok(0) => return Err(wire.check().err().unwrap_or(End::Client)),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                wire.wait(rustix::event::PollFlags::IN, None)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(End::Client),
        }
    }
}

// One request; says whether the connection stays.
fn one(wire: &mut Wire) -> Io<bool> {
    let head = match http::read_head(wire)? {
        Ok(head) => head,
        Err(NoHead::End) => return Err(End::Client),
        Err(NoHead::Bad(status)) => return refuse(wire, status),
    };
    let SignIn { user, challenge, turn, by_connection } = sign_in(wire, &head);
    let length = match head.body_length() {
        Ok(length) => length,
        Err(status) => return refuse(wire, status),
    };
    // A client that waits before it sends its body needs no body read to be told 401.
    let unread = head.expects_continue() && user.is_none();
    let body = if unread { Vec::new() } else { read_body(wire, &head, length)? };
    let discovers = discovers(&head);
    let place = Place::of(&head.path);
    let operation = match discovers {
        _ if place.is_some() => place.map_or_else(String::new, |place| place.name().to_owned()),
        _ if head.method != "POST" => head.method.clone(),
        Some(Dialect::Soap) => "GetUserSettings".to_owned(),
        Some(Dialect::Pox) => "Autodiscover".to_owned(),
        None => operation(&body),
    };
    let mut exchange = Asked {
        number: wire.shared.requested(Request {
            connection: wire.conn.number,
            user: user.clone(),
            method: head.method.clone(),
            path: head.path.clone(),
            headers: head.recordable(),
            operation: operation.clone(),
            // Forms have secrets in them.
            body: if place.is_some() { Vec::new() } else { body.clone() },
            status: None,
        }),
        close: head.wants_close() || unread,
        head,
        operation,
        cookie: None,
        challenge,
        turn,
        by_connection,
    };
    // Not where nothing was tried, or a sign-in goes on.
    if user.is_none() && exchange.turn.is_none() && exchange.head.header("authorization").is_some() {
        wire.shared.held(|| wire.check())?;
    }
    if let Some(place) = place {
        exchange.issue(wire, place, &body)?;
        return Ok(!exchange.close);
    }
    if let Some(dialect) = discovers {
        let host = exchange.head.host();
        let (operation, asks) = (&exchange.operation, user.as_deref());
        let due = wire.shared.due(&Occasion::Request { operation, user: asks, host });
        exchange.discover(wire, dialect, user.is_some(), &body, due)?;
        return Ok(!exchange.close);
    }
    let Some(user) = user else {
        exchange.page(&mut Out::new(wire, None), 401, Vec::new(), "")?;
        return Ok(!exchange.close);
    };
    let path = exchange.head.path.split('?').next().unwrap_or_default();
    if !path.eq_ignore_ascii_case(http::PATH) {
        exchange.page(&mut Out::new(wire, None), 404, Vec::new(), PAGE)?;
    } else if exchange.head.method != "POST" {
        let allow = vec![("Allow", "POST".to_owned())];
        exchange.page(&mut Out::new(wire, None), 405, allow, PAGE)?;
    } else {
        let (operation, host) = (&exchange.operation, exchange.head.host());
        let due = wire.shared.due(&Occasion::Request { operation, user: Some(&user), host });
        exchange.carry_out(wire, &user, &body, due)?;
    }
    Ok(!exchange.close)
}

// How Autodiscover is asked, if it is.
#[derive(Clone, Copy)]
enum Dialect {
    Soap,
    Pox,
}

fn discovers(head: &Head) -> Option<Dialect> {
    let path = head.path.split('?').next().unwrap_or_default();
    match path {
        _ if path.eq_ignore_ascii_case(http::AUTODISCOVER_SOAP) => Some(Dialect::Soap),
        _ if path.eq_ignore_ascii_case(http::AUTODISCOVER_POX) => Some(Dialect::Pox),
        _ => None,
    }
}

// Before the request is understood.
fn refuse(wire: &mut Wire, status: u16) -> Io<bool> {
    wire.shared.answered(usize::MAX, "", status);
    let head = Reply::new(wire.shared.style, status, wire.shared.exchange.time()).page("", 0).finish(true);
    wire.send(&head)?;
    Ok(false)
}

fn read_body(wire: &mut Wire, head: &Head, length: usize) -> Io<Vec<u8>> {
    if head.expects_continue() && wire.inbox.is_empty() {
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    while wire.inbox.len() < length {
        if wire.fill()? == 0 {
            return Err(End::Client);
        }
    }
    let rest = wire.inbox.split_off(length);
    Ok(std::mem::replace(&mut wire.inbox, rest))
}

// The local name of the SOAP body's first child; empty if there is none.
fn operation(soap: &[u8]) -> String {
    let mut in_body = false;
    for event in EventReader::new(soap) {
        match event {
            Ok(XmlEvent::StartElement { name, .. }) if in_body => return name.local_name,
            Ok(XmlEvent::StartElement { name, .. }) => in_body = name.local_name == "Body",
            Ok(_) => {}
            Err(_) => break,
        }
    }
    String::new()
}

/// A question for a token, while it is under way.
struct Counted<'a>(&'a Issuer);

impl<'a> Counted<'a> {
    fn begin(issuer: &'a Issuer) -> Counted<'a> {
        issuer.begin();
        Counted(issuer)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A request that was understood, and its number in the record.
struct Asked {
    number: usize,
    head: Head,
    operation: String,
    close: bool,
    /// What comes with the answer.
    cookie: Option<String>,
    /// What is wrong with the token that came.
    challenge: Option<String>,
    /// The next message of a sign-in.
    turn: Option<String>,
    by_connection: bool,
}

impl Asked {
    fn carry_out(&mut self, wire: &mut Wire, user: &str, soap: &[u8], due: Option<Due>) -> Io {
        let mut out = Out::new(wire, due.as_ref());
        if let Some(page) = due.as_ref().and_then(|d| instead(&d.action)) {
            return self.page(&mut out, page.status, page.extra, &page.body);
        }
        match due.as_ref().map(|d| &d.action) {
            Some(Action::Refuse { code, back_off }) => {
                let mut failure = Failure::new(code);
                if let Some(wait) = back_off {
                    failure = failure.back_off(Duration::from_millis(*wait));
                }
                out.wire.shared.exchange.fail_next(&self.operation, failure);
            }
            Some(Action::Busy { back_off }) => {
                let failure =
                    Failure::new("ErrorServerBusy").back_off(Duration::from_millis(*back_off)).as_fault();
                out.wire.shared.exchange.fail_next(&self.operation, failure);
            }
            _ => {}
        }
        let (answer, cookie) = out.wire.shared.exchange.answer_at(user, &self.head.routing(), soap);
        self.cookie = cookie;
        if matches!(due, Some(Due { action: Action::NoAnswer, .. })) {
            let end = out.never();
            if let Answer::Stream(stream) = answer {
                out.wire.shared.exchange.drop_stream(stream);
            }
            return end;
        }
        match answer {
            Answer::Whole { status, body } => self.whole(&mut out, status, body, due),
            Answer::Stream(stream) => {
                self.answered(&out, 200);
                let head = Reply::new(out.wire.shared.style, 200, out.wire.shared.exchange.time())
                    .envelope(Body::Stream, &self.head)
                    .cookie(self.cookie.as_deref())
                    .persistent(self.by_connection)
                    .finish(self.close);
                stream::run(&mut out, &head, stream, user, &self.operation, due)
            }
        }
    }

    // A question for a token.
    fn issue(&mut self, wire: &mut Wire, place: Place, body: &[u8]) -> Io {
        let shared = wire.shared.clone();
        let counted = (place == Place::Token).then(|| Counted::begin(&shared.issuer));
        let occasion = Occasion::Request { operation: place.name(), user: None, host: self.head.host() };
        let due = shared.due(&occasion);
        let mut out = Out::new(wire, due.as_ref());
        if let Some(page) = due.as_ref().and_then(|d| instead(&d.action)) {
            return self.page(&mut out, page.status, page.extra, &page.body);
        }
        let wanted = if place.is_page() { "GET" } else { "POST" };
        if self.head.method != wanted {
            return self.page(&mut out, 405, vec![("Allow", wanted.to_owned())], PAGE);
        }
        let scheme = if shared.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", self.head.header("host").unwrap_or_default(), self.head.path);
        let query = self.head.path.split_once('?').map_or("", |(_, query)| query);
        let said = shared.issuer.answer(place, &url, query, body);
        if matches!(due, Some(Due { action: Action::NoAnswer, .. })) {
            return out.never();
        }
        self.answered(&out, said.status);
        drop(counted);
        let mut reply = Reply::new(shared.style, said.status, shared.exchange.time());
        if let Some(location) = &said.location {
            reply = reply.header("Location", location);
        }
        let reply = reply.header("Cache-Control", "no-store, no-cache");
        let mut bytes = reply.page(said.content_type, said.body.len()).finish(self.close);
        bytes.extend_from_slice(said.body.as_bytes());
        out.put(&bytes)?;
        out.settle()
    }

    // Autodiscover. A web server of the same name may answer before anybody has signed in.
    fn discover(
        &mut self,
        wire: &mut Wire,
        dialect: Dialect,
        signed_in: bool,
        body: &[u8],
        due: Option<Due>,
    ) -> Io {
        let mut out = Out::new(wire, due.as_ref());
        if let Some(page) = due.as_ref().and_then(|d| instead(&d.action)) {
            return self.page(&mut out, page.status, page.extra, &page.body);
        }
        if !signed_in {
            return self.page(&mut out, 401, Vec::new(), "");
        }
        if self.head.method != "POST" {
            return self.page(&mut out, 405, vec![("Allow", "POST".to_owned())], PAGE);
        }
        if matches!(due, Some(Due { action: Action::NoAnswer, .. })) {
            return out.never();
        }
        let (status, answer) = match dialect {
            Dialect::Soap => out.wire.shared.exchange.autodiscover_soap(body),
            Dialect::Pox => (200, out.wire.shared.exchange.autodiscover_pox(body)),
        };
        self.whole(&mut out, status, answer, due)
    }
}
