//! Writes elements of the three namespaces that a request is made of, with the `xml` crate's writer.

use xml::writer::{EmitterConfig, EventWriter, XmlEvent};

use super::{MESSAGES, SOAP, TYPES, is_xml_char};
use crate::{Error, ErrorKind, Result};

/// Writes one document into memory. Names carry their prefix: `soap:`, `m:` or `t:`.
pub(crate) struct Writer {
    events: EventWriter<Vec<u8>>,
}

impl Writer {
    /// A document with the three namespaces declared on its root, which `content` fills.
    pub fn document(root: &str, content: impl FnOnce(&mut Writer) -> Result<()>) -> Result<Vec<u8>> {
        Writer::document_of(root, &[("soap", SOAP), ("t", TYPES), ("m", MESSAGES)], content)
    }

    /// A document with other namespaces; one with an empty prefix is that of names without any.
    pub fn document_of(
        root: &str,
        namespaces: &[(&str, &str)],
        content: impl FnOnce(&mut Writer) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let config = EmitterConfig::new().pad_self_closing(false);
        let mut writer = Writer { events: config.create_writer(Vec::with_capacity(1024)) };
        let start =
            namespaces.iter().fold(XmlEvent::start_element(root), |start, (prefix, uri)| match *prefix {
                "" => start.default_ns(*uri),
                prefix => start.ns(prefix, *uri),
            });
        writer.put(start)?;
        content(&mut writer)?;
        writer.put(XmlEvent::end_element())?;
        Ok(writer.events.into_inner())
    }

    /// An element with what `content` writes into it.
    pub fn element(&mut self, name: &str, content: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        self.element_with(name, &[], content)
    }

    /// An element with attributes and what `content` writes into it.
    pub fn element_with(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        content: impl FnOnce(&mut Writer) -> Result<()>,
    ) -> Result<()> {
        let mut start = XmlEvent::start_element(name);
        for (key, value) in attributes {
            check_text(value)?;
            start = start.attr(*key, value);
        }
        self.put(start)?;
        content(self)?;
        self.put(XmlEvent::end_element())
    }

    /// An element without content.
    pub fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) -> Result<()> {
        self.element_with(name, attributes, |_| Ok(()))
    }

    /// An element with a text.
    pub fn text(&mut self, name: &str, text: &str) -> Result<()> {
        check_text(text)?;
        self.element(name, |w| w.put(XmlEvent::characters(text)))
    }

    fn put<'e>(&mut self, event: impl Into<XmlEvent<'e>>) -> Result<()> {
        self.events.write(event).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("A request could not be written as XML: {e}."))
        })
    }
}

/// Refuses what XML cannot carry, escaped or not.
pub(crate) fn check_text(text: &str) -> Result<()> {
    match text.chars().find(|c| !is_xml_char(*c)) {
        None => Ok(()),
        Some(c) => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "A value of the request has the character U+{:04X}, which XML cannot carry; take it out.",
                c as u32
            ),
        )),
    }
}
