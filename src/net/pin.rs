//! A server that is known by its certificate itself, and not by who signed it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::{Error, ErrorKind};

/// The SHA-256 of a certificate (its fingerprint, of the whole of it in DER).
///
/// ```
/// let pin: ewsnotify::net::Pin = "A0:".repeat(32).trim_end_matches(':').parse()?;
/// assert_eq!(pin.to_string(), "a0".repeat(32));
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Pin {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Pin(bytes)
    }
}

impl FromStr for Pin {
    type Err = Error;

    /// 64 hexadecimal digits, in any case, with or without a colon between two and two, as `openssl x509 -fingerprint -sha256` has it.
    fn from_str(text: &str) -> Result<Pin, Error> {
        let bad = || {
            Error::new(
                ErrorKind::Invalid,
                "a certificate's fingerprint is the 64 hexadecimal digits of its SHA-256",
            )
        };
        let plain: String = match text.contains(':') {
            true if text.split(':').all(|pair| pair.len() == 2) => text.split(':').collect(),
            true => return Err(bad()),
            false => text.to_owned(),
        };
        if plain.len() != 64 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&plain[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Pin(bytes))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a certificate was not accepted: it is another one.
#[derive(Debug)]
pub(super) struct OtherCertificate(pub Pin);

impl fmt::Display for OtherCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate has the SHA-256 {}", self.0)
    }
}

impl std::error::Error for OtherCertificate {}

/// Accepts these certificates and no other, whatever name, authority and time of expiry they have. That the server has the key to
/// it is proven as ever.
#[derive(Debug)]
pub(super) struct Pinned {
    pins: Vec<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    pub fn new(pins: Vec<Pin>) -> Pinned {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        Pinned { pins, algorithms }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Pin::of(certificate);
        if self.pins.contains(&found) {
            return Ok(ServerCertVerified::assertion());
        }
        let why = OtherError(Arc::new(OtherCertificate(found)));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A digit read wrong refuses the right server, or trusts one that nobody has named.
    #[test]
    fn fingerprints_as_openssl_prints_them() {
        // SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Pin::of(b"abc").to_string(), known);
        assert_eq!(known.to_uppercase().parse::<Pin>().unwrap(), Pin::of(b"abc"));
        let pairs: Vec<&str> = (0..32).map(|at| &known[2 * at..2 * at + 2]).collect();
        assert_eq!(pairs.join(":").parse::<Pin>().unwrap(), Pin::of(b"abc"));
        for bad in [
            "",
            "ba78",
            &known[1..],
            &known.replace("ba", "xx"),
            &pairs.join("::"),
            &format!("{known}:"),
            &"\u{e9}".repeat(32),
        ] {
            assert!(bad.parse::<Pin>().is_err(), "{bad}");
        }
    }
}
