//! The wire, without a wire: bytes in, values out, and the other way round.
//!
//! Nothing here knows a socket, a thread or a clock.

mod message;
mod read;
mod response_code;
mod write;
mod xml;

pub use message::*;
pub use read::read_envelope;
pub use response_code::{Action, action};
pub use write::{soap_action, write_request};
