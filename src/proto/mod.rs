//! The wire, without a wire: bytes in, values out, and the other way round.
//!
//! Nothing here knows a socket, a thread or a clock.

mod message;

pub use message::*;
mod response_code;
pub use response_code::{Action, action};
