//! After an error: what is said of it, and where the next envelope begins.

use memchr::memchr;

use super::super::xml::excerpt;
use super::{FrameError, Framer, State, Stop, ends_name};
use crate::ErrorKind;

/// The longest name that can be an envelope's start after an error.
const LONGEST_ENVELOPE_NAME: usize = 80;

impl Framer {
    /// Looks for the start of the next envelope after an error.
    pub(super) fn lost(&mut self) -> Option<Stop> {
        loop {
            let Some(at) = memchr(b'<', &self.buf[self.pos..]) else {
                self.pos = self.buf.len();
                self.start = self.pos;
                return Some(Stop::More);
            };
            self.pos += at;
            self.start = self.pos;
            match begins_envelope(&self.buf[self.pos..]) {
                Some(true) => {
                    self.state = State::Text;
                    return None;
                }
                Some(false) => self.pos += 1,
                None => return Some(Stop::More),
            }
        }
    }

    /// Another tag begins at `at`, inside of one.
    pub(super) fn tag_without_end(&mut self, at: usize) -> Stop {
        let text = format!("a tag without its end: {}", excerpt(&self.buf[self.mark..at]));
        self.lose(self.mark, at + 1, at, text)
    }

    /// Whether the envelope is too long if it goes up to `at`. What comes of a stream must not depend on how it is cut, so
    /// whatever needs bytes beyond the limit to be seen is not seen.
    pub(super) fn too_far(&self, at: usize) -> bool {
        at - self.start > self.limits.envelope
    }

    pub(super) fn too_long(&mut self) -> Stop {
        let begun = excerpt(&self.buf[self.start..]);
        let text = format!("an envelope is longer than {} bytes; it begins {begun}", self.limits.envelope);
        let error = self.error_at(self.start, ErrorKind::Limit, text);
        self.go_on_at(self.start + self.limits.envelope, error)
    }

    /// Another envelope begins at the mark, inside this one.
    pub(super) fn cut_off(&mut self) -> Stop {
        let text = format!(
            "an envelope of which {} bytes came is followed by another one without having ended; it begins {}",
            self.mark - self.start,
            excerpt(&self.buf[self.start..])
        );
        let error = self.error_at(self.start, ErrorKind::Protocol, text);
        self.go_on_at(self.mark, error)
    }

    /// Ends the envelope with an error at `at`, which the bytes up to `seen` show.
    pub(super) fn lose(&mut self, at: usize, seen: usize, go_on: usize, text: String) -> Stop {
        if self.too_far(seen) {
            return self.too_long();
        }
        let error = self.error_at(at, ErrorKind::Protocol, text);
        self.go_on_at(go_on, error)
    }

    pub(super) fn lose_by_limit(&mut self, go_on: usize, text: String) -> Stop {
        let error = self.error_at(self.mark, ErrorKind::Limit, text);
        self.go_on_at(go_on, error)
    }

    pub(super) fn error_at(&self, at: usize, kind: ErrorKind, text: String) -> FrameError {
        FrameError { offset: self.base + at as u64, kind, text }
    }

    pub(super) fn go_on_at(&mut self, at: usize, error: FrameError) -> Stop {
        self.open.clear();
        self.state = State::Lost;
        self.pos = at;
        self.start = at;
        Stop::Error(error)
    }
}

/// Whether an envelope or an XML declaration begins at this `<`; None if more bytes are needed to tell.
fn begins_envelope(bytes: &[u8]) -> Option<bool> {
    let name = &bytes[1..];
    let longest = &name[..name.len().min(LONGEST_ENVELOPE_NAME)];
    let name = match longest.iter().skip(1).position(|b| ends_name(*b) || *b == b'<') {
        Some(end) => &longest[..end + 1],
        None if longest.len() < LONGEST_ENVELOPE_NAME => return None,
        None => return Some(false),
    };
    Some(name == b"?xml" || name == b"Envelope" || name.ends_with(b":Envelope"))
}
