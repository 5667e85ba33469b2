//! A request as a small tree. Reading is strict (well-formed XML, no DTD, bounded), and so is asking: what the schema
//! demands and is not there, or is there and not allowed, is a schema violation, as Exchange says it.

use xml::reader::{ParserConfig, XmlEvent};

pub(super) const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
pub(super) const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";
pub(super) const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";

const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 1_000_000;

/// Which namespace an element is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ns {
    Soap,
    Types,
    Messages,
    Other,
}

/// An element.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) ns: Ns,
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    pub(super) children: Vec<Node>,
    text: String,
}

/// A violation of the schema, in words.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

/// Reads a whole document.
pub(super) fn parse(bytes: &[u8]) -> Result<Node, String> {
    let config = ParserConfig::new().ignore_comments(true).cdata_to_characters(true);
    let mut open: Vec<Node> = Vec::new();
    let mut root = None;
    let mut nodes = 0;
    for event in config.create_reader(bytes) {
        match event.map_err(|e| e.to_string())? {
            XmlEvent::Doctype { .. } => {
                return Err("For security reasons DTD is prohibited in this XML document.".into());
            }
            XmlEvent::StartElement { name, attributes, .. } => {
                nodes += 1;
                if open.len() >= MAX_DEPTH || nodes > MAX_NODES {
                    return Err("The request is nested too deeply or has too many elements.".into());
                }
                let ns = match name.namespace.as_deref() {
                    Some(SOAP) => Ns::Soap,
                    Some(TYPES) => Ns::Types,
                    Some(MESSAGES) => Ns::Messages,
                    _ => Ns::Other,
                };
                let attributes = attributes.into_iter().map(|a| (a.name.local_name, a.value)).collect();
                open.push(Node {
                    ns,
                    name: name.local_name,
                    attributes,
                    children: Vec::new(),
                    text: String::new(),
                });
            }
            XmlEvent::EndElement { .. } => {
                if let Some(done) = open.pop() {
                    match open.last_mut() {
                        Some(parent) => parent.children.push(done),
                        None => root = Some(done),
                    }
                }
            }
            XmlEvent::Characters(text) | XmlEvent::Whitespace(text) => {
                if let Some(node) = open.last_mut() {
                    node.text.push_str(&text);
                }
            }
            _ => {}
        }
    }
    root.ok_or_else(|| "The request has no root element.".into())
}

impl Node {
    pub(super) fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The child at the end of a row of names.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.child(name))
    }

    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    /// The text as it stands, blanks included.
    pub(super) fn raw_text(&self) -> &str {
        &self.text
    }

    /// The text of a child, without white space around it.
    pub(super) fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(Node::text)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The child that must be there.
    pub(super) fn need(&self, name: &str) -> Result<&Node, Violation> {
        self.child(name).ok_or_else(|| {
            Violation(format!("The element '{}' has incomplete content. Expected: '{name}'.", self.name))
        })
    }

    pub(super) fn need_attribute(&self, name: &str) -> Result<&str, Violation> {
        self.attribute(name).ok_or_else(|| {
            Violation(format!("The required attribute '{name}' is missing on '{}'.", self.name))
        })
    }

    /// Checks the children against a sequence: `!` before a name demands it, `*` allows it again and again.
    pub(super) fn sequence(&self, ns: Ns, allowed: &[&str]) -> Result<(), Violation> {
        let mut place = 0;
        let mut seen = false;
        for child in &self.children {
            loop {
                let Some(rule) = allowed.get(place) else {
                    return Err(Violation(format!(
                        "The element '{}' has invalid child element '{}'.",
                        self.name, child.name
                    )));
                };
                let name = rule.trim_start_matches(['!', '*']);
                if name == child.name && child.ns == ns && (!seen || rule.contains('*')) {
                    seen = true;
                    break;
                }
                if rule.contains('!') && !seen {
                    return Err(Violation(format!(
                        "The element '{}' has invalid child element '{}'. Expected: '{name}'.",
                        self.name, child.name
                    )));
                }
                place += 1;
                seen = false;
            }
        }
        let rest = &allowed[(place + usize::from(seen)).min(allowed.len())..];
        match rest.iter().find(|r| r.contains('!')) {
            None => Ok(()),
            Some(rule) => Err(Violation(format!(
                "The element '{}' has incomplete content. Expected: '{}'.",
                self.name,
                rule.trim_start_matches(['!', '*'])
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simulator that lets wrong requests pass would let a client ship that no Exchange understands.
    #[test]
    fn a_sequence_is_checked_for_order_presence_and_namespace() {
        let ok = |xml: &str| {
            let xml = format!("<r xmlns='{TYPES}' xmlns:m='{MESSAGES}'>{xml}</r>");
            parse(xml.as_bytes()).unwrap().sequence(Ns::Types, &["a", "!b", "*c", "!d"]).is_ok()
        };
        assert!(ok("<a/><b/><c/><c/><d/>") && ok("<b/><d/>"));
        for wrong in
            ["<b/>", "<d/><b/>", "<a/><a/><b/><d/>", "<b/><d/><x/>", "<b/><m:d/>", "", "<a/>", "<b/><b/><d/>"]
        {
            assert!(!ok(wrong), "{wrong}");
        }
        assert!(parse(b"<!DOCTYPE a><a/>").is_err() && parse(b"<a>").is_err() && parse(b"").is_err());
    }
}
