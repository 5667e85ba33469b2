//! An item with its MIME, or an attachment, which goes into a file while it comes: one of any size costs little memory.

use super::links::Watch;
use super::spool::{Spool, Writer};
use crate::engine::answer::{self, first};
use crate::net::{Cancel, Post};
use crate::proto::{self, Body, Cutter, Header, Item, Request, Rest};
use crate::spooled::{Place, Spooled};
use crate::{Error, ErrorKind, Result};

/// What came.
pub(super) enum Fetched {
    /// The item and the file of its MIME, if the server gave any.
    Message(Box<Item>, Option<Spooled>),
    /// The MIME could not be kept, and the rest of the answer was not read: too large (`Limit`), no base64, no room.
    NotKept(Error),
}

/// Asks for one item with its MIME. An error is the server's or the network's.
pub(super) fn fetch(
    spool: &Spool,
    place: Option<Place>,
    watch: &Watch,
    header: &Header,
    request: &Request,
    cancel: &Cancel,
) -> Result<Fetched> {
    let cutter = Cutter::new("MimeContent", watch.config.net.max_response_bytes);
    let (rest, writer) = match cut(spool, place, watch, header, request, cancel, cutter)? {
        Ok(came) => came,
        Err(trouble) => return Ok(Fetched::NotKept(trouble)),
    };
    let responses = match rest.envelope().map_err(|e| wrong(watch, e.context(request.operation())))?.body {
        Body::Items(responses) => responses,
        Body::Fault(fault) => return Err(proto::fault_error(&fault, request.operation())),
        body => return Err(wrong(watch, answer::no_answer(request.operation(), Some(body.name())))),
    };
    let no_item = || wrong(watch, answer::no_answer(request.operation(), None));
    let mut item = first(responses, request)?.pop().ok_or_else(no_item)?;
    let Some(text) = item.mime_base64.take() else { return Ok(Fetched::Message(Box::new(item), None)) };
    Ok(match finish(writer, &rest, &text) {
        Ok(file) => Fetched::Message(Box::new(item), Some(file)),
        Err(trouble) => Fetched::NotKept(trouble),
    })
}

/// Asks for an attachment, and gives the file of its content: of an item, its MIME.
pub(super) fn attachment(
    spool: &Spool,
    watch: &Watch,
    header: &Header,
    request: &Request,
    cancel: &Cancel,
) -> Result<Spooled> {
    let cutter = Cutter::of_either(["Content", "MimeContent"], watch.config.net.max_response_bytes);
    let (rest, writer) = cut(spool, None, watch, header, request, cancel, cutter)??;
    let responses = match rest.envelope().map_err(|e| wrong(watch, e.context(request.operation())))?.body {
        Body::Attachments(responses) => responses,
        Body::Fault(fault) => return Err(proto::fault_error(&fault, request.operation())),
        body => return Err(wrong(watch, answer::no_answer(request.operation(), Some(body.name())))),
    };
    let none = || {
        wrong(
            watch,
            Error::new(ErrorKind::Protocol, "the server's answer to GetAttachment has no attachment"),
        )
    };
    let found = first(responses, request)?.pop().ok_or_else(none)?;
    match (found.base64, found.element.as_str()) {
        (Some(text), _) => finish(writer, &rest, &text),
        // One without a byte in it may come without the element.
        (None, "FileAttachment") => writer.finish(),
        (None, element) => {
            let text = format!(
                "the attachment is no file but a {element}, of which the server gives no MIME content: it cannot be saved"
            );
            Err(Error::new(ErrorKind::Unsupported, text))
        }
    }
}

/// Asks, and puts what is cut out of the answer into a file. The outer error is the server's or the network's, the inner one
/// says that the file could not be kept, and the rest of the answer was not read.
fn cut<'s>(
    spool: &'s Spool,
    place: Option<Place>,
    watch: &Watch,
    header: &Header,
    request: &Request,
    cancel: &Cancel,
    mut cutter: Cutter,
) -> Result<Result<(Rest, Writer<'s>)>> {
    let body = proto::write_request(request, header)?;
    let mailbox = Some(&*watch.config.mailbox);
    let post = Post {
        body: &body,
        soap_action: proto::soap_action(request),
        anchor_mailbox: mailbox,
        cookies: None,
    };
    let mut writer = spool.writer(watch.config.max_item_bytes, place);
    let mut trouble = None;
    let asked = watch.link.call_into(&post, cancel, &mut |piece| {
        cutter.push(piece, &mut |base64| {
            writer.write(base64).map_err(|e| {
                trouble = Some(e);
                Error::new(ErrorKind::Io, "the message cannot be kept")
            })
        })
    });
    if let Some(trouble) = trouble {
        return Ok(Err(trouble));
    }
    asked?;
    Ok(Ok((cutter.finish(), writer)))
}

fn finish(mut writer: Writer<'_>, rest: &Rest, text: &str) -> Result<Spooled> {
    let whole_or_behind = rest.behind(text).unwrap_or_else(|| {
        // Nothing was cut out of it: it is all here, and what was cut was no message.
        writer.begin_anew();
        text
    });
    writer.write(whole_or_behind.as_bytes())?;
    writer.finish()
}

/// An answer that cannot be understood, and whose it is.
fn wrong(watch: &Watch, error: Error) -> Error {
    error.context(watch.link.whom())
}
