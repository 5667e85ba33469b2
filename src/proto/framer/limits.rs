//! What a stream may hold, and what is said where it does not keep to it.

use std::fmt;

use crate::{Error, ErrorKind};

/// Bounds on what a stream may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameLimits {
    /// Bytes of an envelope, without the XML declaration before it.
    pub envelope: usize,
    /// Elements inside each other.
    pub depth: usize,
    /// Bytes of an element's name, with its prefix.
    pub name: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        FrameLimits { envelope: 8 << 20, depth: 256, name: 1 << 10 }
    }
}

impl FrameLimits {
    /// The defaults with another bound on an envelope's bytes.
    pub fn with_envelope(bytes: usize) -> FrameLimits {
        FrameLimits { envelope: bytes, ..FrameLimits::default() }
    }
}

/// What is wrong with a stream, and where. It costs the envelope that it is in, not those after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The offset in the stream of what is wrong; of its envelope's first byte for one that is too long or cut off.
    pub offset: u64,
    /// [`ErrorKind::Limit`] for a bound that was met, else [`ErrorKind::Protocol`].
    pub kind: ErrorKind,
    pub(super) text: String,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "At byte {} of the answer: {}.", self.offset, self.text)
    }
}

impl std::error::Error for FrameError {}

impl From<FrameError> for Error {
    fn from(e: FrameError) -> Error {
        Error::new(e.kind, e.to_string())
    }
}
