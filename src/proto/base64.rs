//! Base64 that comes in pieces, with white space anywhere: what `xs:base64Binary` allows and servers write.

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use base64::{DecodeError, Engine};

use crate::{Error, ErrorKind, Result};

/// Whole groups of four.
const BLOCK: usize = 16 << 10;

/// Decodes base64 in pieces, in constant memory.
///
/// ```
/// use ewsnotify::proto::Base64Decoder;
/// let (mut decoder, mut plain) = (Base64Decoder::default(), Vec::new());
/// let mut out = |bytes: &[u8]| Ok(plain.extend_from_slice(bytes));
/// decoder.push(b"aGVs\r\nbG", &mut out)?;
/// decoder.push(b"8=\n", &mut out)?;
/// decoder.finish(&mut out)?;
/// assert_eq!(plain, b"hello");
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Base64Decoder {
    /// What is not decoded yet. A full block waits until more comes: the last one alone may end in padding.
    block: Vec<u8>,
    plain: Vec<u8>,
    /// Characters before the block.
    before: u64,
}

impl Base64Decoder {
    /// Takes a piece; bytes that are complete go to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] for what is no base64, and those of `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for part in piece.split(u8::is_ascii_whitespace) {
            let mut part = part;
            while !part.is_empty() {
                if self.block.len() == BLOCK {
                    self.decode(&STANDARD_NO_PAD, out)?;
                }
                let (now, later) = part.split_at(part.len().min(BLOCK - self.block.len()));
                self.block.extend_from_slice(now);
                part = later;
            }
        }
        Ok(())
    }

    /// The end: the last bytes go to `out`.
    ///
    /// # Errors
    /// As [`push`](Self::push): also for a last group that is not whole.
    pub fn finish(mut self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.decode(&STANDARD, out)
    }

    fn decode(&mut self, engine: &impl Engine, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.plain.clear();
        engine.decode_vec(&self.block, &mut self.plain).map_err(|e| self.bad(&e))?;
        self.before += self.block.len() as u64;
        self.block.clear();
        if self.plain.is_empty() { Ok(()) } else { out(&self.plain) }
    }

    fn bad(&self, error: &DecodeError) -> Error {
        let what = match *error {
            DecodeError::InvalidByte(at, byte) | DecodeError::InvalidLastSymbol(at, byte) => {
                format!("'{}' is character {} of it", byte.escape_ascii(), self.before + at as u64 + 1)
            }
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => {
                format!("it ends within a group, after {} characters", self.before + self.block.len() as u64)
            }
        };
        Error::new(
            ErrorKind::Protocol,
            format!("the message's text in the server's answer is no base64: {what}"),
        )
    }
}
