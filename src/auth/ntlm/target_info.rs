//! The list of pairs that the server says of itself with, and that we send back with more ([MS-NLMP] section 2.2.2.1).

use super::compute::utf16;
use super::message::u16_at;

/// `MsvAv…`.
mod id {
    pub const EOL: u16 = 0;
    pub const FLAGS: u16 = 6;
    pub const TIMESTAMP: u16 = 7;
    pub const TARGET_NAME: u16 = 9;
    pub const CHANNEL_BINDINGS: u16 = 10;
}

/// In `MsvAvFlags`: the AUTHENTICATE message has a MIC.
const HAS_MIC: u32 = 2;

/// A server's, read.
#[derive(Debug, PartialEq)]
pub(super) struct TargetInfo<'a> {
    /// Without the end.
    pairs: Vec<(u16, &'a [u8])>,
    flags: u32,
    /// The server's time.
    pub timestamp: Option<[u8; 8]>,
}

impl<'a> TargetInfo<'a> {
    pub fn read(mut bytes: &'a [u8]) -> Result<TargetInfo<'a>, &'static str> {
        let cut = "its target info is cut off";
        let mut info = TargetInfo { pairs: Vec::new(), flags: 0, timestamp: None };
        loop {
            let (id, len) = u16_at(bytes, 0).zip(u16_at(bytes, 2)).ok_or(cut)?;
            let (value, rest) = bytes[4..].split_at_checked(usize::from(len)).ok_or(cut)?;
            bytes = rest;
            match id {
                id::EOL => return Ok(info),
                id::FLAGS => {
                    let flags = value.try_into().map_err(|_| "its flags are of a wrong length")?;
                    info.flags = u32::from_le_bytes(flags);
                }
                // Ours to say.
                id::TARGET_NAME | id::CHANNEL_BINDINGS => {}
                id::TIMESTAMP => {
                    info.timestamp = Some(value.try_into().map_err(|_| "its time is of a wrong length")?);
                    info.pairs.push((id, value));
                }
                _ => info.pairs.push((id, value)),
            }
        }
    }

    /// As it goes back: with the flag for the MIC, the service that we believe to talk to, and the channel's binding (zeros for none).
    pub fn answer(&self, host: &str, binding: &[u8; 16]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut add = |id: u16, value: &[u8]| {
            out.extend_from_slice(&id.to_le_bytes());
            // Those of the server fit, since they came so; ours is the name of a host.
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(value);
        };
        for (id, value) in &self.pairs {
            add(*id, value);
        }
        add(id::FLAGS, &(self.flags | HAS_MIC).to_le_bytes());
        add(id::CHANNEL_BINDINGS, binding);
        add(id::TARGET_NAME, &utf16(&format!("HTTP/{host}")));
        add(id::EOL, &[]);
        out
    }
}
