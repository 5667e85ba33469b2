//! A connection's requests one after the other: who asks, what is asked, which fault befalls it, the answer.

use std::io::Read;
use std::time::{Duration, SystemTime};

use base64::Engine;
use xml::reader::{EventReader, XmlEvent};

use super::fault::{Action, Due, Occasion};
use super::http::{self, Body, Head, NoHead, Reply};
use super::issuer::{Issuer, Place};
use super::ntlm::Scheme;
use super::out::Out;
use super::record::{End, Request};
use super::wire::{Io, Wire};
use super::{hostile, stream};
use crate::sim::exchange::Failure;
use crate::sim::{Answer, Style};

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

/// Who asks, and what the answer has to say of that.
#[derive(Default)]
struct SignIn {
    user: Option<String>,
    /// What is wrong with a token, for `WWW-Authenticate` beside the offers.
    challenge: Option<String>,
    /// What comes instead of them, in the middle of a sign-in.
    turn: Option<String>,
    /// The connection was signed in just now.
    by_connection: bool,
}

fn sign_in(wire: &mut Wire, head: &Head) -> SignIn {
    let Some((scheme, secret)) = head.header("authorization").and_then(|v| v.split_once(' ')) else {
        return SignIn { user: wire.ntlm.user().map(str::to_owned), ..SignIn::default() };
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return bearer(wire, secret);
    }
    let offered = wire.shared.offers.iter().find(|offer| offer.name().eq_ignore_ascii_case(scheme)).copied();
    match offered {
        Some(Scheme::Basic) => SignIn { user: basic(wire, secret), ..SignIn::default() },
        Some(scheme) => {
            let turn = wire.ntlm.hear(&wire.shared, secret);
            let turn = turn.map(|message| format!("{} {message}", scheme.name()));
            let user = wire.ntlm.user().map(str::to_owned);
            SignIn { by_connection: user.is_some(), user, turn, challenge: None }
        }
        None => SignIn::default(),
    }
}

fn bearer(wire: &Wire, token: &str) -> SignIn {
    match wire.shared.issuer.bearer(token.trim()) {
        Ok(bearer) => {
            if bearer.app_only {
                wire.shared.exchange.impersonates_only(&bearer.name);
            }
            SignIn { user: Some(bearer.name), ..SignIn::default() }
        }
        Err(challenge) => SignIn { challenge: Some(challenge), ..SignIn::default() },
    }
}

fn basic(wire: &Wire, secret: &str) -> Option<String> {
    let plain = base64::engine::general_purpose::STANDARD.decode(secret.trim()).ok()?;
    let colon = plain.iter().position(|b| *b == b':')?;
    let user = std::str::from_utf8(&plain[..colon]).ok()?;
    wire.shared.knows(user, &plain[colon + 1..]).then(|| user.to_owned())
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

const PAGE: &str = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \
\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\r\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n\
<title>Service unavailable</title>\r\n</head>\r\n<body>\r\n<h2>The page cannot be displayed</h2>\r\n<br>&nbsp;<hr>\r\n\
</body>\r\n</html>\r\n";

/// A page in an answer's place.
struct Page {
    status: u16,
    extra: Vec<(&'static str, String)>,
    body: String,
}

// What an action puts in the place of any answer, if it does.
fn instead(action: &Action) -> Option<Page> {
    let page = |status, body: &str| Some(Page { status, extra: Vec::new(), body: body.to_owned() });
    match action {
        Action::Status { code, retry_after, retry_date, body } => {
            let mut extra = Vec::new();
            if let Some(seconds) = retry_after {
                extra.push(("Retry-After", seconds.to_string()));
            }
            if let Some(at) = retry_date.and_then(|d| SystemTime::now().checked_add(d)) {
                extra.push(("Retry-After", httpdate::fmt_http_date(at)));
            }
            let body = body.as_deref().unwrap_or(if *code == 401 { "" } else { PAGE });
            Some(Page { status: *code, extra, body: body.to_owned() })
        }
        Action::Redirect { to } => {
            Some(Page { status: 302, extra: vec![("Location", to.clone())], body: PAGE.to_owned() })
        }
        Action::Html => page(200, PAGE),
        Action::Empty => page(200, ""),
        _ => None,
    }
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
        let wanted = if place == Place::Authorize { "GET" } else { "POST" };
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
        let content_type = if said.location.is_some() { "" } else { "application/json; charset=utf-8" };
        let mut bytes = reply.page(content_type, said.body.len()).finish(self.close);
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

    fn whole(&mut self, out: &mut Out<'_>, status: u16, mut body: Vec<u8>, due: Option<Due>) -> Io {
        self.answered(out, status);
        let (style, now) = (out.wire.shared.style, out.wire.shared.exchange.time());
        let action = due.map(|d| d.action);
        let many = match action {
            Some(Action::ManyChunks { size }) => Some(size.max(1)),
            _ => None,
        };
        if let Some(action) = action.filter(hostile::is) {
            let head = Reply::new(style, status, now).envelope(Body::Chunked, &self.head).finish(self.close);
            out.put(&head)?;
            hostile::emit(&action, &body, &self.operation, &mut |piece| stream::put_chunk(out, piece))?;
            out.put(b"0\r\n\r\n")?;
            return out.settle();
        }
        // Exchange's answers are chunked, gromox's have a length.
        if style == Style::Exchange || many.is_some() {
            let bytes = Reply::new(style, status, now)
                .envelope(Body::Chunked, &self.head)
                .cookie(self.cookie.as_deref())
                .persistent(self.by_connection);
            let mut bytes = bytes.finish(self.close);
            for piece in body.chunks(many.unwrap_or(usize::MAX)) {
                stream::add_chunk(&mut bytes, piece);
                if many.is_some() {
                    out.put(&bytes)?;
                    bytes.clear();
                }
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            out.put(&bytes)?;
        } else {
            let head = Reply::new(style, status, now).envelope(Body::Length(body.len()), &self.head);
            let mut bytes = head.finish(self.close);
            let stray = memchr::memmem::find(&body, b":Fault>").is_some();
            bytes.append(&mut body);
            if stray {
                bytes.extend_from_slice(&self.stray(now));
            }
            out.put(&bytes)?;
        }
        out.settle()
    }

    // After a fault gromox answers the same request once more, with an empty response.
    fn stray(&self, now: SystemTime) -> Vec<u8> {
        let empty = match self.operation.as_str() {
            "GetStreamingEvents" => "GetStreamingEvents".to_owned(),
            other => format!("m:{other}Response"),
        };
        let envelope = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <SOAP:Envelope xmlns:SOAP=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\
             <SOAP:Header><t:ServerVersionInfo xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
             MajorVersion=\"15\" MinorVersion=\"0\" MajorBuildNumber=\"847\" MinorBuildNumber=\"4040\" \
             Version=\"V2017_07_11\"/></SOAP:Header><SOAP:Body>\
             <{empty} xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
             xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></SOAP:Body></SOAP:Envelope>"
        );
        let mut bytes = Reply::new(Style::Gromox, 200, now)
            .envelope(Body::Length(envelope.len()), &self.head)
            .finish(self.close);
        bytes.extend_from_slice(envelope.as_bytes());
        bytes
    }

    // An answer without an envelope.
    fn page(&mut self, out: &mut Out<'_>, status: u16, extra: Vec<(&str, String)>, body: &str) -> Io {
        self.answered(out, status);
        let shared = &out.wire.shared;
        let mut reply = Reply::new(shared.style, status, shared.exchange.time());
        let (mut content_type, mut body) =
            (if body.is_empty() { "" } else { "text/html; charset=utf-8" }, body);
        for (name, value) in extra {
            reply = reply.header(name, &value);
        }
        match shared.style {
            _ if status == 401 && self.turn.is_some() => {
                reply = reply.header("WWW-Authenticate", self.turn.as_deref().unwrap_or_default());
            }
            Style::Exchange if status == 401 => {
                for offer in &shared.offers {
                    reply = reply.header(
                        "WWW-Authenticate",
                        match offer {
                            Scheme::Basic => "Basic realm=\"ex1.example.test\"",
                            other => other.name(),
                        },
                    );
                }
                if let Some(challenge) = self.challenge.clone().or_else(|| shared.issuer.offer()) {
                    reply = reply.header("WWW-Authenticate", &challenge);
                }
            }
            Style::Gromox if status == 401 => {
                (content_type, body) = ("text/plain; charset=utf-8", "Unauthorized\r\n");
                reply = reply
                    .header("Connection", if self.close { "close" } else { "keep-alive" })
                    .header("Keep-Alive", "timeout=180");
                for offer in &shared.offers {
                    reply = reply.header(
                        "WWW-Authenticate",
                        match offer {
                            Scheme::Basic => "Basic realm=\"msrpc realm\", charset=\"utf-8\"",
                            other => other.name(),
                        },
                    );
                }
            }
            _ => {}
        }
        let mut bytes = reply.page(content_type, body.len()).finish(self.close);
        if self.head.method != "HEAD" {
            bytes.extend_from_slice(body.as_bytes());
        }
        out.put(&bytes)?;
        out.settle()
    }

    // Before the first byte goes out: who has the answer finds it in the counters.
    fn answered(&self, out: &Out<'_>, status: u16) {
        out.wire.shared.answered(self.number, &self.operation, status);
    }
}
