//! OAuth 2: from an account's settings to its access token, for months. No socket, no clock and no file: requests go out as
//! [`Form`]s, answers come in as bytes, and time comes with each call.
//!
//! - [`Account`]: who asks whom for what. [`Proof`] is how the program proves who it is: nothing, a secret, or a certificate.
//! - [`form`]: the requests (RFC 6749, 7523, 8628); [`answer`]: what comes back.
//! - [`pkce`]: a user signs in with a browser (RFC 7636); [`device`]: on another device (RFC 8628).
//! - [`Keeper`]: when to renew, who renews, what to store first, when to give up. [`Record`] is what is stored.

pub mod account;
pub mod answer;
pub mod assertion;
pub mod device;
pub mod form;
mod hash;
pub mod keeper;
pub mod pkce;
pub mod record;
#[cfg(test)]
pub(crate) mod tests;

use std::time::{Duration, SystemTime};

pub use account::{Account, Cloud, Endpoints, Issuer, Proof};
pub use answer::{Denied, Granted};
pub use assertion::Signer;
pub use device::{Device, Pending};
pub use form::Form;
pub use keeper::{Job, Keeper, Next, Step};
pub use pkce::Authorization;
pub use record::Record;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic, since whenever: it stands still while the machine sleeps.
    pub mono: Duration,
    /// Wall: it may be set to another time.
    pub wall: SystemTime,
}

/// Fills bytes that nobody can guess.
pub type Random<'a> = dyn FnMut(&mut [u8]) + 'a;
