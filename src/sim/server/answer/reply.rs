//! What an answer looks like: a whole envelope, or a page in its place.

use std::time::SystemTime;

use super::super::fault::{Action, Due};
use super::super::http::{Body, Reply};
use super::super::ntlm::Scheme;
use super::super::out::Out;
use super::super::wire::Io;
use super::super::{hostile, stream};
use super::Asked;
use crate::sim::Style;

pub(super) const PAGE: &str = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \
\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\r\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n\
<title>Service unavailable</title>\r\n</head>\r\n<body>\r\n<h2>The page cannot be displayed</h2>\r\n<br>&nbsp;<hr>\r\n\
</body>\r\n</html>\r\n";

/// A page in an answer's place.
pub(super) struct Page {
    pub status: u16,
    pub extra: Vec<(&'static str, String)>,
    pub body: String,
}

// What an action puts in the place of any answer, if it does.
pub(super) fn instead(action: &Action) -> Option<Page> {
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

impl Asked {
    pub(super) fn whole(
        &mut self,
        out: &mut Out<'_>,
        status: u16,
        mut body: Vec<u8>,
        due: Option<Due>,
    ) -> Io {
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
    pub(super) fn page(
        &mut self,
        out: &mut Out<'_>,
        status: u16,
        extra: Vec<(&str, String)>,
        body: &str,
    ) -> Io {
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
                reply = offers(reply, &shared.offers, "Basic realm=\"ex1.example.test\"");
                if let Some(challenge) = self.challenge.clone().or_else(|| shared.issuer.offer()) {
                    reply = reply.header("WWW-Authenticate", &challenge);
                }
            }
            Style::Gromox if status == 401 => {
                (content_type, body) = ("text/plain; charset=utf-8", "Unauthorized\r\n");
                reply = reply
                    .header("Connection", if self.close { "close" } else { "keep-alive" })
                    .header("Keep-Alive", "timeout=180");
                reply = offers(reply, &shared.offers, "Basic realm=\"msrpc realm\", charset=\"utf-8\"");
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
    pub(super) fn answered(&self, out: &Out<'_>, status: u16) {
        out.wire.shared.answered(self.number, &self.operation, status);
    }
}

/// The ways to sign in, of which Basic has parameters.
fn offers(mut reply: Reply, offers: &[Scheme], basic: &str) -> Reply {
    for offer in offers {
        let text = if *offer == Scheme::Basic { basic } else { offer.name() };
        reply = reply.header("WWW-Authenticate", text);
    }
    reply
}
