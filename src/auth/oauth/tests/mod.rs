//! The keeper in virtual time, with an endpoint, a store and processes of our own.

mod months;
mod turns;
pub(crate) mod world;
