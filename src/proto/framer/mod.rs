//! Cuts a stream of envelopes into envelopes, as soon as the last byte of each is there.
//!
//! The end of a root element is found by depth: tags, quoted attributes, comments, CDATA and processing instructions are
//! told apart, end tags must fit their start tags, nothing else is checked; the reader does that. Each byte is looked at
//! once or twice, however the stream is cut into pieces.
//!
//! After an error the framer looks for the next XML declaration or start tag called `Envelope`, whatever its prefix, and
//! goes on there. An envelope that is cut off is recognised when such a declaration, or a start tag that repeats the
//! envelope's own SOAP root to the byte, follows inside of it.

mod limits;
mod recovery;

use memchr::{memchr, memchr2, memmem};

pub use self::limits::{FrameError, FrameLimits};
use super::xml::{SOAP, SOAP12, check_encoding, excerpt, looks_like_html};
use crate::ErrorKind;

/// Cuts a stream into envelopes.
///
/// ```
/// use ewsnotify::proto::{FrameLimits, Framer};
/// let mut framer = Framer::new(FrameLimits::default());
/// let mut found = Vec::new();
/// for piece in [&b"<?xml version='1.0'?>\n<a><b"[..], b"/></a><c>", b"</c> <d>"] {
///     framer.push(piece);
///     while let Some(envelope) = framer.next() {
///         found.push(envelope?.to_vec());
///     }
/// }
/// assert_eq!(found, [&b"<a><b/></a>"[..], b"<c></c>"]);
/// assert!(framer.in_progress());
/// # Ok::<(), ewsnotify::proto::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Framer {
    limits: FrameLimits,
    buf: Vec<u8>,
    /// The offset in the stream of the buffer's first byte.
    base: u64,
    /// What lies before is done with. In an envelope: its first byte.
    start: usize,
    /// Where the search goes on.
    pos: usize,
    /// The first byte (`<`) of the markup that the search is in.
    mark: usize,
    state: State,
    /// Where the names of the open elements begin, from `start`.
    open: Vec<usize>,
    /// Length of the root's start tag.
    root: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between markup: in the text of an element, or between envelopes.
    Text,
    /// At a `<`, of which it is not clear yet what it begins.
    Markup,
    /// In a start tag, inside these quotes (0: outside).
    StartTag(u8),
    EndTag,
    Comment,
    CData,
    Instruction,
    /// Looking for the start of the next envelope.
    Lost,
}

/// The longest XML declaration or processing instruction.
const LONGEST_INSTRUCTION: usize = 64 << 10;

/// Why the search stops for now.
enum Stop {
    /// More bytes are needed.
    More,
    /// An envelope ends before `pos`.
    Envelope,
    Error(FrameError),
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new(limits: FrameLimits) -> Framer {
        Framer {
            limits,
            buf: Vec::new(),
            base: 0,
            start: 0,
            pos: 0,
            mark: 0,
            state: State::Text,
            open: Vec::new(),
            root: 0,
        }
    }

    /// Takes what came. Then call [`next`](Self::next) until it has nothing more, before the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.discard();
        let needed = self.buf.len() + bytes.len();
        if needed > self.buf.capacity() {
            // Doubling, but never much beyond the largest envelope.
            let doubled = (2 * self.buf.capacity()).min(self.limits.envelope.saturating_add(64 << 10));
            self.buf.reserve_exact(needed.max(doubled) - self.buf.len());
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next envelope, from the `<` of its root to its end, without what stood before it; or what is wrong with it.
    /// `None` if more bytes are needed.
    #[allow(clippy::should_implement_trait)] // it lends
    pub fn next(&mut self) -> Option<Result<&[u8], FrameError>> {
        match self.search() {
            Stop::More => {
                if self.start == self.buf.len() {
                    self.discard();
                }
                None
            }
            Stop::Error(error) => Some(Err(error)),
            Stop::Envelope => {
                let from = std::mem::replace(&mut self.start, self.pos);
                Some(Ok(&self.buf[from..self.pos]))
            }
        }
    }

    /// Whether an envelope has begun and its end has not come.
    pub fn in_progress(&self) -> bool {
        match self.state {
            State::Lost => false,
            State::Text => !self.open.is_empty(),
            _ => true,
        }
    }

    /// How many bytes of the stream are done with: the offset of the envelope in progress, or of what comes next.
    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Says that the stream has ended, and what is wrong with that: an envelope without its end. The framer is ready for
    /// another stream then.
    pub fn finish(&mut self) -> Option<FrameError> {
        let cut_off = self.in_progress() || (self.state == State::Text && self.pos < self.buf.len());
        let error = cut_off.then(|| {
            let begun = &self.buf[self.start..];
            let text = format!(
                "the stream ends inside an envelope of which {} bytes came; it begins {}",
                begun.len(),
                excerpt(begun)
            );
            self.error_at(self.start, ErrorKind::Protocol, text)
        });
        *self = Framer::new(self.limits);
        error
    }

    /// Forgets what is done with. Most streams are idle most of the time: an empty buffer keeps no memory.
    fn discard(&mut self) {
        if self.start > 0 {
            self.base += self.start as u64;
            self.pos -= self.start;
            self.mark = self.mark.saturating_sub(self.start);
            self.buf.drain(..self.start);
            self.start = 0;
        }
        if self.buf.is_empty() {
            self.buf = Vec::new();
        }
    }

    fn search(&mut self) -> Stop {
        loop {
            let step = match self.state {
                State::Text if self.open.is_empty() => self.between(),
                State::Text => self.text(),
                State::Markup => self.markup(),
                State::StartTag(quote) => self.start_tag(quote),
                State::EndTag => self.end_tag(),
                State::Comment => self.until(b"-->"),
                State::CData => self.until(b"]]>"),
                State::Instruction => self.instruction(),
                State::Lost => self.lost(),
            };
            if let Some(stop) = step {
                return match stop {
                    Stop::More if self.state != State::Lost && self.too_far(self.buf.len()) => {
                        self.too_long()
                    }
                    stop => stop,
                };
            }
        }
    }

    /// Between envelopes: white space, byte order marks, markup.
    fn between(&mut self) -> Option<Stop> {
        loop {
            self.start = self.pos;
            let rest = &self.buf[self.pos..];
            match rest {
                [] => return Some(Stop::More),
                [b' ' | b'\t' | b'\r' | b'\n', ..] => self.pos += 1,
                [b'<', ..] => {
                    self.state = State::Markup;
                    self.mark = self.pos;
                    return None;
                }
                [0xEF, 0xBB, 0xBF, ..] => self.pos += 3,
                [0xEF] | [0xEF, 0xBB] => return Some(Stop::More),
                [0xFF | 0xFE | 0x00, ..] => {
                    let text =
                        format!("the encoding is not UTF-8, perhaps UTF-16; it begins {}", excerpt(rest));
                    return Some(self.lose(self.pos, self.pos + 1, self.pos + 1, text));
                }
                _ => {
                    let text = format!("text where an envelope was expected; it begins {}", excerpt(rest));
                    return Some(self.lose(self.pos, self.pos + 1, self.pos + 1, text));
                }
            }
        }
    }

    fn text(&mut self) -> Option<Stop> {
        match memchr(b'<', &self.buf[self.pos..]) {
            Some(at) => {
                self.mark = self.pos + at;
                self.pos = self.mark;
                self.state = State::Markup;
                None
            }
            None => {
                self.pos = self.buf.len();
                Some(Stop::More)
            }
        }
    }

    /// What a `<` begins.
    fn markup(&mut self) -> Option<Stop> {
        let rest = &self.buf[self.mark..];
        match rest {
            [_] => return Some(Stop::More),
            [_, b'/', ..] => {
                self.state = State::EndTag;
                self.pos = self.mark + 2;
            }
            [_, b'?', ..] => {
                self.state = State::Instruction;
                self.pos = self.mark + 2;
            }
            [_, b'!', b'-', b'-', ..] => {
                self.state = State::Comment;
                self.pos = self.mark + 4;
            }
            [_, b'!', ..] if !self.open.is_empty() && rest.starts_with(b"<![CDATA[") => {
                self.state = State::CData;
                self.pos = self.mark + 9;
            }
            [_, b'!', ..] if b"<!--".starts_with(rest) => return Some(Stop::More),
            [_, b'!', ..] if !self.open.is_empty() && b"<![CDATA[".starts_with(rest) => {
                return Some(Stop::More);
            }
            [_, b'!', b'D' | b'd', ..] => {
                let what =
                    if looks_like_html(rest) { "a web page, not XML" } else { "a DTD, which SOAP forbids" };
                let text = format!("{what}; it begins {}", excerpt(rest));
                return Some(self.lose(self.mark, self.mark + 3, self.mark + 1, text));
            }
            [_, first, ..] if first.is_ascii_alphabetic() || matches!(first, b'_' | b':' | 0x80..) => {
                return self.start_tag_at_once();
            }
            _ => {
                let text = format!("a tag that is none: {}", excerpt(rest));
                let alike = |of: &[u8]| rest.iter().zip(of).take_while(|(a, b)| a == b).count();
                let seen = self.mark + 1 + alike(b"<!--").max(alike(b"<![CDATA["));
                return Some(self.lose(self.mark, seen, self.mark + 1, text));
            }
        }
        None
    }

    /// A start tag of which nothing was looked at yet; nearly always it is there as a whole.
    fn start_tag_at_once(&mut self) -> Option<Stop> {
        let tag = &self.buf[self.mark + 1..];
        if let Some(end) = memchr2(b'<', b'>', tag)
            && tag[end] == b'>'
            && quotes_are_closed(&tag[..end])
        {
            return self.end_of_start_tag(self.mark + 1 + end);
        }
        self.state = State::StartTag(0);
        self.pos = self.mark + 1;
        None
    }

    /// A start tag that is cut by a piece's end, or has `>` or single quotes in its attributes.
    fn start_tag(&mut self, mut quote: u8) -> Option<Stop> {
        for at in self.pos..self.buf.len() {
            match self.buf[at] {
                b'<' => return Some(self.tag_without_end(at)),
                b'>' if quote == 0 => return self.end_of_start_tag(at),
                b @ (b'"' | b'\'') if quote == 0 => quote = b,
                b if b == quote => quote = 0,
                _ => {}
            }
        }
        self.state = State::StartTag(quote);
        self.pos = self.buf.len();
        Some(Stop::More)
    }

    fn end_of_start_tag(&mut self, end: usize) -> Option<Stop> {
        let seen = end + 1;
        if self.too_far(seen) {
            return Some(self.too_long());
        }
        let tag = &self.buf[self.mark..seen];
        let empty = tag[tag.len() - 2] == b'/';
        if tag.len() > self.limits.name && !tag[1..][..self.limits.name].iter().any(|b| ends_name(*b)) {
            let text = format!("a name is longer than {} bytes", self.limits.name);
            return Some(self.lose_by_limit(end, text));
        }
        if self.open.is_empty() {
            if looks_like_html(tag) {
                let text = format!("a web page, not XML; it begins {}", excerpt(tag));
                return Some(self.lose(self.mark, seen, end, text));
            }
            self.root = tag.len();
        } else if tag.len() == self.root && *tag == self.buf[self.start..][..tag.len()] && is_soap(tag) {
            return Some(self.cut_off());
        } else if self.open.len() >= self.limits.depth {
            let text = format!("elements are nested more than {} deep", self.limits.depth);
            return Some(self.lose_by_limit(end, text));
        }
        self.state = State::Text;
        self.pos = seen;
        if empty {
            return self.open.is_empty().then_some(Stop::Envelope);
        }
        self.open.push(self.mark + 1 - self.start);
        None
    }

    fn end_tag(&mut self) -> Option<Stop> {
        let Some(end) = memchr2(b'>', b'<', &self.buf[self.pos..]).map(|at| self.pos + at) else {
            self.pos = self.buf.len();
            return Some(Stop::More);
        };
        if self.buf[end] == b'<' {
            return Some(self.tag_without_end(end));
        }
        if self.too_far(end + 1) {
            return Some(self.too_long());
        }
        let name = self.buf[self.mark + 2..end].trim_ascii_end();
        let fits = self.open.last().is_some_and(|at| {
            let opened = &self.buf[self.start + at..];
            opened.starts_with(name) && opened.get(name.len()).is_some_and(|b| ends_name(*b))
        });
        if !fits {
            let text = format!("an end tag without its start tag: {}", excerpt(&self.buf[self.mark..=end]));
            return Some(self.lose(self.mark, end, end, text));
        }
        self.open.pop();
        self.state = State::Text;
        self.pos = end + 1;
        self.open.is_empty().then_some(Stop::Envelope)
    }

    /// In a comment or CDATA.
    fn until(&mut self, end: &[u8]) -> Option<Stop> {
        let found = memmem::find(&self.buf[self.pos..], end);
        let between_envelopes = self.open.is_empty();
        match found {
            Some(at) => {
                self.pos += at + end.len();
                self.state = State::Text;
            }
            None => self.pos = self.pos.max((self.buf.len() + 1).saturating_sub(end.len())),
        }
        if between_envelopes {
            self.start = self.pos;
        }
        found.is_none().then_some(Stop::More)
    }

    /// In a processing instruction or XML declaration.
    fn instruction(&mut self) -> Option<Stop> {
        let found = memmem::find(&self.buf[self.pos..], b"?>").map(|at| self.pos + at + 2);
        let end = found.unwrap_or(self.buf.len());
        if self.too_far(end) {
            return Some(self.too_long());
        }
        if end - self.mark > LONGEST_INSTRUCTION {
            let text = "an XML declaration or processing instruction without its end".into();
            return Some(self.lose_by_limit(self.mark + LONGEST_INSTRUCTION, text));
        }
        if found.is_none() {
            self.pos = self.pos.max(end - 1);
            return Some(Stop::More);
        }
        let instruction = &self.buf[self.mark..end];
        let declaration = instruction.starts_with(b"<?xml") && ends_name(instruction[5]);
        if declaration && !self.open.is_empty() {
            return Some(self.cut_off());
        }
        if declaration && let Err(text) = check_encoding(&instruction[5..instruction.len() - 2]) {
            return Some(self.lose(self.mark, end, end, text));
        }
        self.state = State::Text;
        self.pos = end;
        None
    }
}

/// Whether a tag has no single quotes and an even number of double ones. In blocks, which the compiler turns into vector
/// instructions.
fn quotes_are_closed(tag: &[u8]) -> bool {
    const BLOCK: usize = 32;
    if tag.len() < BLOCK && memchr2(b'"', b'\'', tag).is_none() {
        return true;
    }
    let (mut odd, mut single) = ([0_u8; BLOCK], [0_u8; BLOCK]);
    let mut look = |block: &[u8; BLOCK]| {
        for (n, b) in block.iter().enumerate() {
            odd[n] ^= u8::from(*b == b'"');
            single[n] |= u8::from(*b == b'\'');
        }
    };
    let (blocks, rest) = tag.as_chunks::<BLOCK>();
    blocks.iter().for_each(&mut look);
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    look(&last);
    single == [0; BLOCK] && odd.iter().fold(0, |all, n| all ^ n) == 0
}

/// Whether a start tag declares a SOAP namespace.
fn is_soap(tag: &[u8]) -> bool {
    [SOAP, SOAP12].iter().any(|uri| memmem::find(tag, uri.as_bytes()).is_some())
}

fn ends_name(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>' | b'?')
}
