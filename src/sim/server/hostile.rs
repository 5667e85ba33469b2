//! Bodies that no client may trust, made while they are sent.

use super::fault::Action;
use super::wire::Io;

/// Whether the action puts something else in an envelope's place.
pub(super) fn is(action: &Action) -> bool {
    matches!(
        action,
        Action::BadXml
            | Action::Oversize { .. }
            | Action::Dtd
            | Action::EntityBomb
            | Action::Attributes { .. }
            | Action::Nested { .. }
    )
}

/// Hands the bytes over piece by piece, none greater than 64 KiB but the broken copy of `envelope`.
pub(super) fn emit(
    action: &Action,
    envelope: &[u8],
    operation: &str,
    sink: &mut dyn FnMut(&[u8]) -> Io,
) -> Io {
    let operation = if operation.is_empty() { "GetStreamingEvents" } else { operation };
    let open = format!(
        "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap11:Header \
         xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\"><ServerVersionInfo MajorVersion=\"15\" \
         MinorVersion=\"1\" MajorBuildNumber=\"2507\" MinorBuildNumber=\"35\" Version=\"V2017_07_11\" \
         xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\" /></soap11:Header><soap11:Body \
         xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\"><m:{operation}Response \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><m:ResponseMessages>\
         <m:{operation}ResponseMessage ResponseClass=\"Success\"><m:MessageText"
    );
    let close = format!(
        "</m:MessageText><m:ResponseCode>NoError</m:ResponseCode></m:{operation}ResponseMessage></m:ResponseMessages>\
         </m:{operation}Response></soap11:Body></Envelope>"
    );
    let mut pieces = Pieces { full: Vec::with_capacity(PIECE), sink };
    match action {
        Action::BadXml => return (pieces.sink)(&broken(envelope)),
        Action::Oversize { bytes } => {
            pieces.add(open.as_bytes())?;
            pieces.add(b">")?;
            pieces.repeat(*bytes, |_, to| to.push(b'a'))?;
        }
        Action::Dtd => {
            pieces.add(b"<!DOCTYPE Envelope [<!ENTITY x SYSTEM \"file:///etc/hostname\">]>")?;
            pieces.add(open.as_bytes())?;
            pieces.add(b">&x;")?;
        }
        Action::EntityBomb => {
            pieces.add(b"<!DOCTYPE Envelope [<!ENTITY x0 \"ha\">")?;
            for i in 1..10 {
                let inner = format!("&x{};", i - 1).repeat(10);
                pieces.add(format!("<!ENTITY x{i} \"{inner}\">").as_bytes())?;
            }
            pieces.add(b"]>")?;
            pieces.add(open.as_bytes())?;
            pieces.add(b">&x9;")?;
        }
        Action::Attributes { count } => {
            pieces.add(open.as_bytes())?;
            pieces.repeat(*count, |i, to| to.extend_from_slice(format!(" a{i}=\"\"").as_bytes()))?;
            pieces.add(b">")?;
        }
        Action::Nested { depth } => {
            pieces.add(open.as_bytes())?;
            pieces.add(b">")?;
            pieces.repeat(*depth, |_, to| to.extend_from_slice(b"<t:n>"))?;
            pieces.repeat(*depth, |_, to| to.extend_from_slice(b"</t:n>"))?;
        }
        _ => pieces.add(open.as_bytes()).and_then(|()| pieces.add(b">"))?,
    }
    pieces.add(close.as_bytes())?;
    (pieces.sink)(&pieces.full)
}

const PIECE: usize = 64 << 10;

struct Pieces<'a> {
    full: Vec<u8>,
    sink: &'a mut dyn FnMut(&[u8]) -> Io,
}

impl Pieces<'_> {
    fn add(&mut self, bytes: &[u8]) -> Io {
        for part in bytes.chunks(PIECE) {
            if self.full.len() + part.len() > PIECE {
                (self.sink)(&self.full)?;
                self.full.clear();
            }
            self.full.extend_from_slice(part);
        }
        Ok(())
    }

    fn repeat(&mut self, times: u64, write: impl Fn(u64, &mut Vec<u8>)) -> Io {
        let mut one = Vec::new();
        for i in 0..times {
            one.clear();
            write(i, &mut one);
            self.add(&one)?;
        }
        Ok(())
    }
}

// The same with a wrong name in its last end tag but one: still as many starts as ends, so its frame can be found.
fn broken(envelope: &[u8]) -> Vec<u8> {
    let mut bytes = envelope.to_vec();
    let last = memchr::memmem::rfind(envelope, b"</").unwrap_or(0);
    match memchr::memmem::rfind(&envelope[..last], b"</") {
        Some(at) => {
            bytes.splice(at + 2..at + 2, *b"un");
        }
        None => bytes.extend_from_slice(b"<&"),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use xml::reader::{EventReader, XmlEvent};

    use super::*;

    fn made(action: &Action) -> Vec<u8> {
        let mut all = Vec::new();
        let mut keep = |piece: &[u8]| {
            assert!(piece.len() <= PIECE);
            all.extend_from_slice(piece);
            Ok(())
        };
        emit(action, b"<a><b>1</b></a>", "GetEvents", &mut keep).unwrap();
        all
    }

    // If a hostile body were broken by accident, a client that refuses it for that reason would seem safe.
    #[test]
    fn well_formed_but_for_what_is_meant() {
        for action in [
            Action::Oversize { bytes: 200_000 },
            Action::Nested { depth: 900 },
            Action::Attributes { count: 90 },
        ] {
            let bytes = made(&action);
            let config = xml::ParserConfig::new().max_data_length(1 << 30).max_attributes(1000);
            let names = EventReader::new_with_config(&bytes[..], config).into_iter().filter_map(|e| match e
                .unwrap_or_else(|e| panic!("{action:?}: {e}"))
            {
                XmlEvent::StartElement { name, .. } => Some(name.local_name),
                _ => None,
            });
            assert!(names.collect::<Vec<_>>().contains(&"GetEventsResponse".to_owned()), "{action:?}");
        }
        assert!(made(&Action::EntityBomb).starts_with(b"<!DOCTYPE"));
        assert_eq!(made(&Action::BadXml), b"<a><b>1</unb></a>");
    }
}
