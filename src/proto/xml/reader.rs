//! A pull reader with depth, limits and a way to skip what is not known, without recursion.
//!
//! Elements are told apart by local name; those of foreign namespaces are skipped with all that is in them, and so is every
//! child that a caller does not consume. Text between elements is ignored where elements are expected.

use std::borrow::Cow;

use xml::attribute::OwnedAttribute;
use xml::reader::{EventReader, ParserConfig, XmlEvent};

use super::{excerpt, is_ours, looks_like_html, repair, skip_prolog};
use crate::{Error, ErrorKind, Result};

/// Bounds on a document, against a server that has gone mad or means harm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Elements inside each other.
    pub depth: usize,
    /// Attributes of an element.
    pub attributes: usize,
    /// Bytes of a name.
    pub name: usize,
    /// Bytes of an attribute's value.
    pub attribute: usize,
    /// Bytes of the namespaces in scope: the `xml` crate copies them for every element.
    pub namespaces: usize,
    /// Bytes of a text.
    pub text: usize,
    /// Things that a document tells of (events, items, changes, addresses …).
    pub things: usize,
}

impl Limits {
    /// For an envelope of a stream: no text in it is long.
    pub const STREAM: Limits = Limits { text: 256 << 10, ..Limits::ANSWER };
    /// For an answer, which may carry a mail of any size; who receives it bounds the whole.
    pub const ANSWER: Limits = Limits {
        depth: 256,
        attributes: 256,
        name: 1 << 10,
        attribute: 16 << 10,
        namespaces: 16 << 10,
        text: usize::MAX,
        things: 32 << 10,
    };
}

/// The start of an element: its local name and attributes.
pub(crate) struct Start {
    /// Without its prefix.
    pub name: String,
    attributes: Vec<OwnedAttribute>,
}

impl Start {
    /// An attribute's value, by local name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.name.local_name == name).map(|a| a.value.as_str())
    }

    /// The same, to keep.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let found = self.attributes.iter_mut().find(|a| a.name.local_name == name)?;
        Some(std::mem::take(&mut found.value))
    }
}

/// Reads one document.
pub(crate) struct Reader<'a> {
    /// In a box, since it is large and would be moved about on the shallow stacks of streams.
    events: Box<EventReader<Source<'a>>>,
    limits: Limits,
    depth: usize,
    things: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of the document, or what is wrong with its first bytes.
    #[inline(never)]
    pub fn new(bytes: &'a [u8], limits: Limits) -> Result<Reader<'a>> {
        let body = skip_prolog(bytes).map_err(|e| protocol(format!("The answer cannot be read: {e}.")))?;
        if body.is_empty() {
            return Err(protocol("The answer is empty where XML was expected."));
        }
        if looks_like_html(body) {
            return Err(protocol(format!("The answer is a web page, not XML; it begins {}.", excerpt(body))));
        }
        if body[0] != b'<' {
            return Err(protocol(format!("The answer is not XML; it begins {}.", excerpt(body))));
        }
        let config = ParserConfig::new()
            .ignore_comments(true)
            .cdata_to_characters(true)
            .whitespace_to_characters(true)
            .coalesce_characters(true)
            .max_attributes(limits.attributes)
            .max_name_length(limits.name)
            .max_attribute_length(limits.attribute)
            .max_data_length(limits.text)
            .max_entity_expansion_depth(1)
            .max_entity_expansion_length(64);
        let text = repair::repair(body).ok_or_else(|| protocol("The answer is not text in UTF-8."))?;
        let events = Box::new(config.create_reader(Source { text, at: 0 }));
        Ok(Reader { events, limits, depth: 0, things: 0 })
    }

    /// Calls `root` for the root element, then reads to the end of the document.
    pub fn document<T>(mut self, root: impl FnOnce(&mut Self, Start) -> Result<T>) -> Result<T> {
        let start = loop {
            match self.next()? {
                Event::Start(start, _) => break start,
                Event::Document => return Err(protocol("The answer holds no XML element.")),
                Event::Text(_) | Event::End => {}
            }
        };
        let value = root(&mut self, start)?;
        loop {
            if let Event::Document = self.next()? {
                return Ok(value);
            }
        }
    }

    /// Calls `child` for each child element up to the end of the current element. What it does not consume is skipped.
    pub fn children(&mut self, child: impl FnMut(&mut Self, Start) -> Result<()>) -> Result<()> {
        self.each_child(false, child)
    }

    /// As [`children`](Self::children), also for elements of foreign namespaces.
    pub fn any_children(&mut self, child: impl FnMut(&mut Self, Start) -> Result<()>) -> Result<()> {
        self.each_child(true, child)
    }

    fn each_child(
        &mut self,
        foreign: bool,
        mut child: impl FnMut(&mut Self, Start) -> Result<()>,
    ) -> Result<()> {
        let parent = self.depth;
        loop {
            match self.next()? {
                Event::Start(start, ours) => {
                    if ours || foreign {
                        child(self, start)?;
                    }
                    while self.depth > parent {
                        self.next()?;
                    }
                }
                Event::End | Event::Document => return Ok(()),
                Event::Text(_) => {}
            }
        }
    }

    /// The text of the current element up to its end, as it is; elements in it are skipped.
    pub fn raw_text(&mut self) -> Result<String> {
        let parent = self.depth;
        let mut text = String::new();
        loop {
            match self.next()? {
                Event::Text(piece) if self.depth == parent => {
                    if text.is_empty() {
                        text = piece;
                    } else if text.len() + piece.len() > self.limits.text {
                        return Err(self.too_much("the text of an element is too long"));
                    } else {
                        text.push_str(&piece);
                    }
                }
                Event::Document => return Ok(text),
                Event::End if self.depth < parent => return Ok(text),
                Event::Text(_) | Event::Start(..) | Event::End => {}
            }
        }
    }

    /// The text of the current element without white space around it; None where nothing is left.
    pub fn text(&mut self) -> Result<Option<String>> {
        let text = self.raw_text()?;
        let trimmed = text.trim();
        Ok(match trimmed.len() {
            0 => None,
            n if n == text.len() => Some(text),
            _ => Some(trimmed.to_owned()),
        })
    }

    /// The text of the current element, read as `T`; None where it is not one.
    pub fn parse<T: std::str::FromStr>(&mut self) -> Result<Option<T>> {
        Ok(self.text()?.and_then(|t| t.parse().ok()))
    }

    /// The text of the current element as `xs:boolean`.
    pub fn boolean(&mut self) -> Result<Option<bool>> {
        Ok(match self.text()?.as_deref() {
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            _ => None,
        })
    }

    /// Counts a thing that the caller is about to keep, so that a small document cannot fill the memory.
    pub fn count_thing(&mut self) -> Result<()> {
        self.things += 1;
        match self.things > self.limits.things {
            true => Err(self.too_much("it tells of too many things at once")),
            false => Ok(()),
        }
    }

    fn next(&mut self) -> Result<Event> {
        loop {
            return Ok(match self.events.next().map_err(bad_xml)? {
                XmlEvent::StartElement { name, attributes, namespace } => {
                    self.depth += 1;
                    if self.depth > self.limits.depth {
                        return Err(self.too_much("its elements are nested too deeply"));
                    }
                    let scope: usize = namespace.0.iter().map(|(prefix, uri)| prefix.len() + uri.len()).sum();
                    if scope > self.limits.namespaces {
                        return Err(self.too_much("it declares too many namespaces"));
                    }
                    let ours = is_ours(name.namespace.as_deref());
                    Event::Start(Start { name: name.local_name, attributes }, ours)
                }
                XmlEvent::EndElement { .. } => {
                    self.depth = self.depth.saturating_sub(1);
                    Event::End
                }
                XmlEvent::Characters(text) | XmlEvent::CData(text) | XmlEvent::Whitespace(text) => {
                    Event::Text(text)
                }
                XmlEvent::EndDocument => Event::Document,
                XmlEvent::Doctype { .. } => {
                    return Err(protocol("The answer has a DTD (<!DOCTYPE …>), which SOAP forbids."));
                }
                XmlEvent::StartDocument { .. }
                | XmlEvent::ProcessingInstruction { .. }
                | XmlEvent::Comment(_) => continue,
            });
        }
    }

    fn too_much(&self, what: &str) -> Error {
        Error::new(ErrorKind::Limit, format!("The answer is beyond a limit: {what}."))
    }
}

enum Event {
    Start(Start, bool),
    End,
    Text(String),
    Document,
}

/// The bytes to parse. The `xml` crate takes them one at a time.
struct Source<'a> {
    text: Cow<'a, str>,
    at: usize,
}

impl std::io::Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.text.as_bytes()[self.at..];
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}

fn protocol(text: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Protocol, text)
}

fn bad_xml(error: xml::reader::Error) -> Error {
    let text = error.to_string();
    if text.contains("than allowed by the parser's configuration") {
        return Error::too_large(
            "The answer is beyond a limit: a name, a text or a list of attributes is too long.",
        );
    }
    let text: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    protocol(format!("The answer is not well-formed XML (line:column): {text}."))
}
