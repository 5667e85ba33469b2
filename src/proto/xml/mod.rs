//! Reading and writing XML with the `xml` crate, as SOAP servers write it and as their schema wants it.

mod prolog;
mod reader;
mod repair;
mod writer;

use prolog::skip_prolog;
pub(crate) use prolog::{check_encoding, looks_like_html};
pub(crate) use reader::{Limits, Reader, Start};
pub(crate) use writer::Writer;

/// SOAP 1.1.
pub(crate) const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
/// SOAP 1.2, which some servers use for faults.
pub(crate) const SOAP12: &str = "http://www.w3.org/2003/05/soap-envelope";
/// Requests, responses and their messages.
pub(crate) const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
/// What they are made of.
pub(crate) const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";
/// The detail of faults.
pub(crate) const ERRORS: &str = "http://schemas.microsoft.com/exchange/services/2006/errors";

/// Whether names in this namespace are ours to understand. Which of them is never asked: real servers mix them up.
fn is_ours(namespace: Option<&str>) -> bool {
    matches!(namespace, None | Some("" | SOAP | SOAP12 | MESSAGES | TYPES | ERRORS))
}

/// Whether XML 1.0 allows the character (production 2).
pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// A piece of what a server sent, for an error text: short, and with nothing in it that could act on a terminal or a log.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 60;
    let cut = &bytes[..bytes.len().min(LONGEST)];
    let dots = if bytes.len() > LONGEST { "…" } else { "" };
    format!("\"{}{dots}\"", cut.escape_ascii())
}
