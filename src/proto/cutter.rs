//! Cuts the content of a message or an attachment out of an answer while it comes, so that a mail of a hundred megabytes
//! is never in memory.
//!
//! What is cut is base64 and white space that follow directly on the start tag of an element of a certain name; a mark is
//! left in its place, and all the rest is kept for the `xml` crate. That crate is asked whose the text with the mark is,
//! and what comes behind it, so nothing here need know of namespaces, of depth, or of what else may stand in an element.
//! What is needed is to tell tags from text: in a strict grammar, of which no reader has another opinion. At the first
//! byte beyond it the cutting ends, and the rest of the answer is kept as it comes.

use memchr::memchr;

use super::message::Envelope;
use super::read::read_envelope;
use crate::{Error, Result};

/// Stands where something was cut out, between characters for objects that are not in the text: base64 has none. A server that
/// writes it all the same only says that its content is what was cut.
const MARK: &str = "\u{FFFC}cut by ewsnotify\u{FFFC}";
/// The longest name of an element or attribute, with its prefix.
const LONGEST_NAME: usize = 128;

/// Takes the body of an answer in pieces, hands out the content, and keeps the rest.
///
/// ```
/// use ewsnotify::proto::{Body, Cutter};
/// let xml = "<Envelope xmlns='http://schemas.xmlsoap.org/soap/envelope/'><Body><GetItemResponse><ResponseMessages><x>
///     <Items><Message><MimeContent>aGVsbG8=</MimeContent><Subject>Hi</Subject></Message></Items>
///     </x></ResponseMessages></GetItemResponse></Body></Envelope>";
/// let (mut cutter, mut content) = (Cutter::new("MimeContent", 1000), Vec::new());
/// for piece in xml.as_bytes().chunks(7) {
///     cutter.push(piece, &mut |text| Ok(content.extend_from_slice(text)))?;
/// }
/// assert_eq!(content, b"aGVsbG8=");
/// let rest = cutter.finish();
/// let Body::Items(found) = rest.envelope()?.body else { panic!() };
/// let item = &found[0].body[0];
/// assert_eq!(item.subject.as_deref(), Some("Hi"));
/// assert_eq!(rest.behind(item.mime_base64.as_deref().unwrap()), Some(""), "nothing comes behind what was cut");
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Debug)]
pub struct Cutter {
    elements: [&'static str; 2],
    most: u64,
    rest: Vec<u8>,
    cut: bool,
    state: State,
    /// The name in the tag that is being read.
    name: Vec<u8>,
}

/// An answer without what was cut out of it.
#[derive(Debug)]
pub struct Rest {
    bytes: Vec<u8>,
    cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Outside of markup.
    Text,
    /// Behind the start tag that is looked for.
    Content,
    /// Behind `<`.
    Markup,
    /// So many bytes behind `<!` that begin a comment or CDATA.
    Bang(&'static [u8], usize),
    /// In a comment, behind so many `-`.
    Comment(u8),
    /// In CDATA, behind so many `]`.
    CData(u8),
    /// In a processing instruction; whether behind a `?`.
    Instruction(bool),
    Name,
    EndName,
    /// Behind an end tag's name.
    EndTag,
    /// In a start tag: where an attribute may begin.
    Tag,
    AttributeName,
    /// Behind an attribute's name.
    Equals,
    /// Behind `=`.
    Quote,
    /// In an attribute's value, in these quotes.
    Value(u8),
    /// Behind a value.
    Spaced,
    /// Behind the `/` of an empty element.
    Empty,
    /// Beyond the grammar.
    Off,
}

impl Cutter {
    /// Looks for the content of the first element of this local name that has one. `most` bounds the rest.
    pub fn new(element: &'static str, most: u64) -> Cutter {
        Cutter::of_either([element; 2], most)
    }

    /// The same where the element may have one of two names.
    pub fn of_either(elements: [&'static str; 2], most: u64) -> Cutter {
        Cutter { elements, most, rest: Vec::new(), cut: false, state: State::Text, name: Vec::new() }
    }

    /// Takes a piece. What is content in it goes to `out`, whose error ends it all.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where the rest is longer than it may be, and those of `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while !piece.is_empty() {
            let n = match self.state {
                State::Content => {
                    let end = piece.iter().position(|b| !is_content(*b));
                    let (content, behind) = piece.split_at(end.unwrap_or(piece.len()));
                    if !content.is_empty() {
                        if !std::mem::replace(&mut self.cut, true) {
                            self.keep(MARK.as_bytes())?;
                        }
                        out(content)?;
                    }
                    if !behind.is_empty() {
                        self.state = State::Text;
                    }
                    piece = behind;
                    continue;
                }
                State::Text => memchr(b'<', piece).map_or(piece.len(), |at| {
                    self.state = State::Markup;
                    at + 1
                }),
                State::Off => piece.len(),
                _ => self.markup(piece),
            };
            self.keep(&piece[..n])?;
            piece = &piece[n..];
        }
        Ok(())
    }

    /// The rest.
    pub fn finish(self) -> Rest {
        Rest { bytes: self.rest, cut: self.cut }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<()> {
        if (self.rest.len() + bytes.len()) as u64 > self.most {
            let text = format!(
                "the answer is longer than {} bytes (max_response_bytes), without the message's text",
                self.most
            );
            return Err(Error::too_large(text));
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// How many bytes of the piece are behind when the markup or the piece ends.
    fn markup(&mut self, piece: &[u8]) -> usize {
        for (at, byte) in piece.iter().enumerate() {
            self.state = self.next(*byte);
            if matches!(self.state, State::Text | State::Content | State::Off) {
                return at + 1;
            }
        }
        piece.len()
    }

    fn next(&mut self, byte: u8) -> State {
        use State::*;
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match (self.state, byte) {
            (Markup, b'/') => self.begin(EndName),
            (Markup, b'?') => Instruction(false),
            (Markup, b'!') => Bang(b"", 0),
            (Markup, _) => {
                self.begin(Name);
                self.named(byte, Name)
            }

            (Bang(_, 0), b'-') => Bang(b"--", 1),
            (Bang(_, 0), b'[') => Bang(b"[CDATA[", 1),
            (Bang(word, at), _) if word.get(at) == Some(&byte) => match (at + 1 == word.len(), word) {
                (false, _) => Bang(word, at + 1),
                (true, b"--") => Comment(0),
                (true, _) => CData(0),
            },
            // Two dashes end a comment, or it is none.
            (Comment(2), b'>') => Text,
            (Comment(2), _) => Off,
            (Comment(dashes), b'-') => Comment(dashes + 1),
            (Comment(_), _) => Comment(0),
            (CData(2), b'>') => Text,
            (CData(brackets), b']') => CData((brackets + 1).min(2)),
            (CData(_), _) => CData(0),
            (Instruction(true), b'>') => Text,
            (Instruction(_), _) => Instruction(byte == b'?'),

            (EndName, b'>') if self.is_name() => Text,
            (EndName, _) if space && self.is_name() => EndTag,
            (EndName, _) => self.named(byte, EndName),
            (EndTag, b'>') => Text,
            (EndTag, _) if space => EndTag,

            (Name, b'>') if self.is_name() => self.opened(),
            (Name, b'/') if self.is_name() => Empty,
            (Name, _) if space && self.is_name() => Tag,
            (Name, _) => self.named(byte, Name),
            (Tag | Spaced, b'>') => self.opened(),
            (Tag | Spaced, b'/') => Empty,
            (Tag | Spaced, _) if space => Tag,
            (Tag, _) => AttributeName.or_off(is_name_start(byte)),
            (AttributeName, b'=') => Quote,
            (AttributeName, _) if space => Equals,
            (AttributeName, _) => AttributeName.or_off(is_name_byte(byte) || byte == b':'),
            (Equals, b'=') => Quote,
            (Equals | Quote, _) if space => self.state,
            (Quote, b'"' | b'\'') => Value(byte),
            (Value(_), b'<') => Off,
            (Value(quote), _) if byte == quote => Spaced,
            (Value(quote), _) => Value(quote),
            (Empty, b'>') => Text,
            _ => Off,
        }
    }

    fn begin(&mut self, state: State) -> State {
        self.name.clear();
        state
    }

    /// One more byte of an element's name.
    fn named(&mut self, byte: u8, state: State) -> State {
        let fits = match self.name.last() {
            None | Some(b':') => is_name_start(byte),
            Some(_) => is_name_byte(byte) || (byte == b':' && !self.name.contains(&b':')),
        };
        self.name.push(byte);
        state.or_off(fits && self.name.len() <= LONGEST_NAME)
    }

    fn is_name(&self) -> bool {
        self.name.last().is_some_and(|last| *last != b':')
    }

    /// Behind a start tag.
    fn opened(&self) -> State {
        let local = self.name.rsplit(|b| *b == b':').next().unwrap_or_default();
        let wanted = self.elements.iter().any(|element| local == element.as_bytes());
        if !self.cut && wanted { State::Content } else { State::Text }
    }
}

impl State {
    fn or_off(self, good: bool) -> State {
        if good { self } else { State::Off }
    }
}

impl Rest {
    /// Reads it: see [`read_envelope`].
    ///
    /// # Errors
    /// Those of [`read_envelope`].
    pub fn envelope(&self) -> Result<Envelope> {
        read_envelope(&self.bytes)
    }

    /// If this is the text that something was cut out of: what comes behind that. It is nothing, but where the server wrote
    /// the content in an odd way. `None` for a text that is whole.
    pub fn behind<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.strip_prefix(MARK).filter(|_| self.cut)
    }
}

/// Base64 and the white space in it, which cannot be part of any markup.
fn is_content(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b' ' | b'\t' | b'\r' | b'\n')
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_name_byte(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
}
