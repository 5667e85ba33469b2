//! A throw-away authority and the server's certificate, made anew for each server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::{Error, ErrorKind, Result};

/// Which versions of TLS the server accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// Only 1.2.
    Tls12,
    /// Only 1.3.
    Tls13,
    /// None that is still safe: each handshake ends with the alert `protocol_version`, as of a server that knows TLS 1.0.
    Old,
    /// 1.2 with ciphers that nobody should use any more: each handshake ends with the alert `handshake_failure`.
    OldCiphers,
}

impl TlsVersions {
    /// The alert that ends each handshake.
    pub(super) fn alert(self) -> Option<u8> {
        match self {
            TlsVersions::Old => Some(70),
            TlsVersions::OldCiphers => Some(40),
            _ => None,
        }
    }
}

/// What is wrong with the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Certificate {
    /// Nothing.
    #[default]
    Good,
    /// It has expired yesterday.
    Expired,
    /// It is for `other.example.test` only.
    WrongName,
}

pub(super) struct Made {
    pub(super) config: Arc<ServerConfig>,
    pub(super) ca_pem: String,
    /// The server's certificate (DER).
    pub(super) certificate: Vec<u8>,
}

/// A certificate for localhost, the loopback addresses, `ip` and `more`.
pub(super) fn make(ip: IpAddr, versions: TlsVersions, more: &[String], wrong: Certificate) -> Result<Made> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "ewsnotify simulator, throw-away authority");
    limit_life(&mut ca);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().map_err(failed)?).map_err(failed)?;

    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !ip.is_loopback() && !ip.is_unspecified() {
        names.push(ip.to_string());
    }
    names.extend_from_slice(more);
    if wrong == Certificate::WrongName {
        names = vec!["other.example.test".to_owned()];
    }
    let mut leaf = CertificateParams::new(names).map_err(failed)?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python 3.13 and later refuse a certificate without it.
    leaf.use_authority_key_identifier_extension = true;
    limit_life(&mut leaf);
    if wrong == Certificate::Expired {
        leaf.not_before = (SystemTime::now() - 90 * DAY).into();
        leaf.not_after = (SystemTime::now() - DAY).into();
    }
    let key = KeyPair::generate().map_err(failed)?;
    let leaf = leaf.signed_by(&key, &ca).map_err(failed)?;

    let accepted: &[&rustls::SupportedProtocolVersion] = match versions {
        TlsVersions::Both | TlsVersions::Old | TlsVersions::OldCiphers => {
            &[&rustls::version::TLS12, &rustls::version::TLS13]
        }
        TlsVersions::Tls12 => &[&rustls::version::TLS12],
        TlsVersions::Tls13 => &[&rustls::version::TLS13],
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(accepted)
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .map_err(failed)?;
    Ok(Made { config: Arc::new(config), ca_pem: ca.pem(), certificate: leaf.der().to_vec() })
}

const DAY: Duration = Duration::from_secs(86_400);

// From yesterday, for clocks that differ, and for a year: some clients refuse longer ones.
fn limit_life(params: &mut CertificateParams) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 365 * DAY).into();
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Tls, format!("simulator: making a certificate failed: {why}"))
}
