//! Reads envelopes: what a server says, as values. The `xml` crate is the authority for all of it.
//!
//! Order does not matter, prefixes do not matter, missing parts are left empty, unknown ones skipped: see the list of
//! what real servers get wrong in each function's comment.

mod events;
mod folders;
mod items;
mod sync;

use std::borrow::Cow;
use std::time::Duration;

use super::message::{Body, Envelope, Fault, Response, ResponseClass, ResponseCode, ServerVersion};
use super::response_code::known;
use super::xml::{Limits, Reader, Start};
use crate::{Error, ErrorKind, Result};

/// The longest text of a server that is kept.
const LONGEST_TEXT: usize = 1024;
/// The longest wait that a server can impose.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(600);

/// Reads one SOAP envelope. A byte order mark, white space and an XML declaration may stand before it. Bytes that are not
/// UTF-8 and characters that XML forbids are read as U+FFFD.
///
/// ```
/// use ewsnotify::proto::{Body, read_envelope};
/// let xml = br#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><Fault>
///     <faultcode>a:ErrorServerBusy</faultcode><faultstring>Later.</faultstring></Fault></Body></Envelope>"#;
/// let Body::Fault(fault) = read_envelope(xml)?.body else { panic!() };
/// assert_eq!(fault.code.as_str(), "ErrorServerBusy");
/// # Ok::<(), ewsnotify::Error>(())
/// ```
pub fn read_envelope(bytes: &[u8]) -> Result<Envelope> {
    read_with(bytes, Limits::ANSWER)
}

/// The same for an envelope of a stream, where no text is long.
pub(crate) fn read_stream_envelope(bytes: &[u8]) -> Result<Envelope> {
    read_with(bytes, Limits::STREAM)
}

fn read_with(bytes: &[u8], limits: Limits) -> Result<Envelope> {
    Reader::new(bytes, limits)?.document(|r, root| match root.name.as_str() {
        "Envelope" => envelope(r),
        // The documentation shows an answer without its envelope.
        name if name.ends_with("Response") => match body(r, root)? {
            Body::Other(name) => Err(not_soap(&name)),
            body => Ok(Envelope { server_version: None, body }),
        },
        name => Err(not_soap(name)),
    })
}

fn not_soap(root: &str) -> Error {
    let root: String = root.chars().take(60).collect();
    Error::new(
        ErrorKind::Protocol,
        format!("The answer is XML, but not a SOAP envelope: its root is <{root}>."),
    )
}

fn envelope(r: &mut Reader) -> Result<Envelope> {
    let mut server_version = None;
    let mut found = None;
    r.children(|r, start| match start.name.as_str() {
        "Header" => r.children(|_, start| {
            if start.name == "ServerVersionInfo" {
                server_version = Some(version(start));
            }
            Ok(())
        }),
        "Body" => r.any_children(|r, start| {
            if found.is_none() {
                found = Some(body(r, start)?);
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    match found {
        Some(body) => Ok(Envelope { server_version, body }),
        None => {
            Err(Error::new(ErrorKind::Protocol, "The answer is a SOAP envelope with nothing in its body."))
        }
    }
}

fn version(mut start: Start) -> ServerVersion {
    let number = |name| start.attribute(name).and_then(|v| v.trim().parse().ok());
    let (major, minor) = (number("MajorVersion"), number("MinorVersion"));
    let (major_build, minor_build) = (number("MajorBuildNumber"), number("MinorBuildNumber"));
    ServerVersion { major, minor, major_build, minor_build, version: start.take("Version") }
}

fn body(r: &mut Reader, start: Start) -> Result<Body> {
    Ok(match start.name.as_str() {
        "Fault" => Body::Fault(fault(r)?),
        "SubscribeResponse" => Body::Subscribe(responses(r, events::subscribed)?),
        "GetStreamingEventsResponse" => Body::Streaming(responses(r, events::streamed)?),
        "GetEventsResponse" => Body::Events(responses(r, events::notified)?),
        "SendNotification" => Body::Push(responses(r, events::notified)?),
        "UnsubscribeResponse" => Body::Unsubscribe(responses(r, |_, _, ()| Ok(()))?),
        "GetFolderResponse" => Body::Folders(responses(r, folders::folders)?),
        "FindFolderResponse" => Body::FoundFolders(responses(r, folders::page)?),
        "GetItemResponse" => Body::Items(responses(r, items::items)?),
        "SyncFolderItemsResponse" => Body::Sync(responses(r, sync::items_page)?),
        "SyncFolderHierarchyResponse" => Body::Hierarchy(responses(r, sync::hierarchy_page)?),
        "ConvertIdResponse" => Body::Converted(responses(r, items::converted)?),
        "GetAttachmentResponse" => Body::Attachments(responses(r, items::found_attachments)?),
        "UpdateItemResponse" => Body::Update(responses(r, items::item_id)?),
        "MoveItemResponse" => Body::Move(responses(r, items::item_id)?),
        "DeleteItemResponse" => Body::Delete(responses(r, |_, _, ()| Ok(()))?),
        _ => Body::Other(start.name),
    })
}

/// `ResponseMessages`, whose children may have any name (gromox calls that of GetEvents `x`). `part` reads a child of a
/// message that is not one of those which every message has.
fn responses<T: Default>(
    r: &mut Reader,
    part: impl Fn(&mut Reader, Start, &mut T) -> Result<()>,
) -> Result<Vec<Response<T>>> {
    let mut found = Vec::new();
    messages(r, &mut |r, start| {
        let mut body = T::default();
        let Response { class, code, text, back_off, body: () } =
            message(r, start, &mut |r, child| part(r, child, &mut body))?;
        found.push(Response { class, code, text, back_off, body });
        Ok(())
    })?;
    Ok(found)
}

/// What reads a child. The same code serves all sorts of responses: as generics, its copies would be a hundredth of the library.
type Part<'a> = &'a mut dyn FnMut(&mut Reader, Start) -> Result<()>;

fn messages(r: &mut Reader, each: Part<'_>) -> Result<()> {
    r.children(|r, start| match start.name.as_str() {
        "ResponseMessages" => r.children(|r, start| {
            r.count_thing()?;
            each(r, start)
        }),
        _ => Ok(()),
    })
}

/// What every message has.
fn message(r: &mut Reader, start: Start, part: Part<'_>) -> Result<Response<()>> {
    let (mut code, mut text, mut back_off) = (None, None, None);
    r.children(|r, child| {
        match child.name.as_str() {
            "ResponseCode" => code = r.text()?.map(response_code),
            "MessageText" => text = r.text()?.map(cut),
            "MessageXml" => back_off = message_xml(r)?,
            "DescriptiveLinkKey" => {}
            _ => part(r, child)?,
        }
        Ok(())
    })?;
    let class = match (start.attribute("ResponseClass").map(str::trim), &code) {
        (Some("Success"), _) => ResponseClass::Success,
        (Some("Warning"), _) => ResponseClass::Warning,
        (Some("Error"), _) => ResponseClass::Error,
        (_, None) => ResponseClass::Success,
        (_, Some(code)) if *code == ResponseCode::NO_ERROR => ResponseClass::Success,
        (_, Some(_)) => ResponseClass::Error,
    };
    let code = code.unwrap_or(match class {
        ResponseClass::Error => ResponseCode(Cow::Borrowed("")),
        ResponseClass::Success | ResponseClass::Warning => ResponseCode::NO_ERROR,
    });
    Ok(Response { class, code, text, back_off, body: () })
}

/// A fault of SOAP 1.1 (`faultcode`, `faultstring`, `detail`) or 1.2 (`Code`, `Reason`, `Detail`).
#[inline(never)]
fn fault(r: &mut Reader) -> Result<Fault> {
    let (mut outer_code, mut outer_text) = (None, None);
    let (mut code, mut text, mut back_off) = (None, None, None);
    r.children(|r, start| {
        match start.name.as_str() {
            "faultcode" => outer_code = r.text()?.map(local_code),
            "faultstring" => outer_text = r.text()?,
            "Code" => r.children(|r, start| {
                match start.name.as_str() {
                    "Value" if outer_code.is_none() => outer_code = r.text()?.map(local_code),
                    // Where there is one it says more: <Value>Sender</Value><Subcode><Value>ErrorServerBusy</Value>…
                    "Subcode" => r.children(|r, start| {
                        if start.name == "Value" {
                            outer_code = r.text()?.map(local_code).or(outer_code.take());
                        }
                        Ok(())
                    })?,
                    _ => {}
                }
                Ok(())
            })?,
            "Reason" => r.children(|r, start| {
                if start.name == "Text" && outer_text.is_none() {
                    outer_text = r.text()?;
                }
                Ok(())
            })?,
            "detail" | "Detail" => r.children(|r, start| {
                match start.name.as_str() {
                    "ResponseCode" => code = r.text()?.map(response_code),
                    "Message" => text = r.text()?,
                    "MessageXml" => back_off = message_xml(r)?,
                    _ => {}
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    let code = code.or(outer_code).unwrap_or(ResponseCode(Cow::Borrowed("")));
    Ok(Fault { code, text: text.or(outer_text).map(cut), back_off })
}

/// `BackOffMilliseconds` in a `MessageXml`: `<Value Name="BackOffMilliseconds">5000</Value>` or an element of that name.
/// Nonsense is ignored, and so is 0, which tells nothing.
fn message_xml(r: &mut Reader) -> Result<Option<Duration>> {
    const NAME: &str = "BackOffMilliseconds";
    let mut found = None;
    r.children(|r, start| {
        if start.name == NAME
            || (start.name == "Value" && start.attribute("Name").map(str::trim) == Some(NAME))
        {
            found = r.parse::<u64>()?.filter(|ms| *ms > 0).or(found);
        }
        Ok(())
    })?;
    Ok(found.map(|ms| Duration::from_millis(ms).min(LONGEST_BACK_OFF)))
}

fn response_code(code: String) -> ResponseCode {
    match known(&code) {
        Some(code) => ResponseCode(Cow::Borrowed(code)),
        None => ResponseCode(Cow::Owned(cut(code))),
    }
}

/// The local part of a fault code: `a:ErrorServerBusy` → `ErrorServerBusy`.
fn local_code(code: String) -> ResponseCode {
    response_code(code.rsplit(':').next().unwrap_or_default().trim().to_owned())
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.shrink_to_fit();
    }
    text
}
