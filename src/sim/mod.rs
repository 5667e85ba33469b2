//! An Exchange of our own, in the process: mailboxes, subscriptions, streams, TLS, and faults on request.
//!
//! Two halves: [`exchange`] knows mail and SOAP and no socket; [`server`] knows HTTP, TLS, sockets and faults and no mail.
//! They meet in [`Answer`] and [`exchange::Exchange`].

pub mod exchange;
pub mod server;

pub use server::{
    Builder, Certificate, ExtendedProtection, Scheme, Sim, TlsVersions, fault, issuer, record, script,
};

/// Whose bytes the simulator speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// As Exchange 2013 and later.
    #[default]
    Exchange,
    /// As gromox (grommunio) 3.10.
    Gromox,
}

/// What the exchange answers to one POST.
#[derive(Debug)]
pub enum Answer {
    /// A whole answer: the HTTP status (200, or 500 for a fault) and the envelope.
    Whole {
        /// The HTTP status.
        status: u16,
        /// The SOAP envelope.
        body: Vec<u8>,
    },
    /// A hanging answer: status 200, chunked; the server asks [`exchange::Exchange::next_envelope`] until it says the end.
    Stream(exchange::Stream),
}
