//! The wire, without a wire: bytes in, values out, and the other way round.
//!
//! Nothing here knows a socket, a thread or a clock.

pub mod autodiscover;
mod base64;
pub mod capture;
mod cutter;
mod distinguished;
mod failure;
mod framer;
mod message;
mod notifications;
mod push;
mod read;
mod response_code;
mod stream_decoder;
mod version;
mod write;
mod xml;

pub use self::base64::Base64Decoder;
pub use cutter::{Cutter, Rest};
pub(crate) use distinguished::distinguished;
pub use distinguished::distinguished_since;
pub use failure::fault_error;
pub use framer::{FrameError, FrameLimits, Framer};
pub use message::*;
pub use push::{PushReply, read_push};
pub use read::read_envelope;
#[cfg(test)]
pub(crate) use response_code::response_codes;
pub use response_code::{Action, action};
pub use stream_decoder::StreamDecoder;
pub use write::{soap_action, write_request};
