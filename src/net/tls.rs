//! The TLS state that all connections of a client share, and what its errors mean to a person.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::answer::cut;
use super::url::Endpoint;
use crate::{Error, ErrorKind, Result};

/// One for a client: whom to trust, and the sessions to resume. TLS 1.2 and 1.3 by ring. The machine's certificate
/// authorities are read at the first https connection.
#[derive(Debug, Default)]
pub struct Tls {
    extra: Vec<CertificateDer<'static>>,
    ca_file: Option<PathBuf>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Trusts this machine's certificate authorities, and those in `ca_file` (PEM) too, if one is given. The file is read now.
    pub fn new(ca_file: Option<&Path>) -> Result<Tls> {
        let extra = ca_file.map(read_ca_file).transpose()?.unwrap_or_default();
        Ok(Tls { extra, ca_file: ca_file.map(Path::to_owned), config: OnceLock::new() })
    }

    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        // Two threads may build one at the same time: the second is thrown away.
        let config = self.build()?;
        Ok(self.config.get_or_init(|| config).clone())
    }

    fn build(&self) -> Result<Arc<ClientConfig>> {
        let roots = self.roots()?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| {
                Error::new(ErrorKind::Internal, format!("the TLS library has no protocol version: {e}"))
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// Whom to trust.
    pub(super) fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let machine = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(machine.certs);
        for cert in &self.extra {
            roots.add(cert.clone()).map_err(|e| {
                let file = self.ca_file.as_deref().unwrap_or(Path::new("")).display();
                invalid(format!("ca_file {file}: a certificate in it cannot be used as an authority's: {e}"))
            })?;
        }
        if roots.is_empty() {
            let why = machine.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
            let text = format!(
                "this machine has no list of certificate authorities{why}: install it (ca-certificates), or name a \
                 file with your server's authority as ca_file"
            );
            return Err(Error::new(ErrorKind::Tls, text));
        }
        Ok(roots)
    }
}

fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| invalid(format!("ca_file {shown} cannot be read: {e}")))?;
    let certs = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| invalid(format!("ca_file {shown} is not PEM: {e}")))?;
    if certs.is_empty() {
        return Err(invalid(format!(
            "ca_file {shown} has no certificate in it: it must be PEM, with '-----BEGIN CERTIFICATE-----' lines"
        )));
    }
    Ok(certs)
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

/// A failed handshake, in words that say what to do.
pub(super) fn explain(endpoint: &Endpoint, error: &rustls::Error) -> Error {
    let what = match error {
        rustls::Error::InvalidCertificate(e) => certificate(endpoint, e),
        rustls::Error::InvalidMessage(_) => {
            "what came back is not TLS: is this a plain http port, or a proxy's page?".to_owned()
        }
        rustls::Error::PeerIncompatible(e) => {
            format!("the server offers nothing that is still safe ({e:?}): it must offer TLS 1.2 or 1.3")
        }
        rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
        ) => {
            format!("the server broke the handshake off ({error}): it may only offer versions before TLS 1.2")
        }
        e => format!("{e}"),
    };
    // A server that is just starting, or a balancer without one behind it: the only one that may pass by itself.
    let passing = matches!(error, rustls::Error::AlertReceived(AlertDescription::InternalError));
    let kind = if passing { ErrorKind::Connect } else { ErrorKind::Tls };
    Error::new(kind, format!("TLS with {endpoint}: {what}"))
}

/// When a certificate that has expired did so.
pub(super) fn expired_at(error: &CertificateError) -> Option<SystemTime> {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

fn certificate(endpoint: &Endpoint, error: &CertificateError) -> String {
    let host = endpoint.host();
    match error {
        CertificateError::UnknownIssuer => "the server's certificate was signed by an authority that this machine does \
             not know: if it is your own authority's, name the file with its certificate (PEM) as ca_file"
            .to_owned(),
        CertificateError::BadSignature => "the server's certificate was not signed by the authority of that name which this machine \
             knows: if that was made anew, name the file with its new certificate (PEM) as ca_file"
            .to_owned(),
        CertificateError::NotValidForName => {
            format!("the server's certificate is not for {host}: use the name that is in the certificate")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().take(8).map(|name| plain(name)).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!("the server's certificate is not for {host} but for {names}: use a name that is in the certificate")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: the server needs a new one (or this machine's clock is wrong); \
             a ca_file does not help here"
                .to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: is this machine's clock right?".to_owned()
        }
        e => format!(
            "the server's certificate is not accepted ({e}); a certificate that signs itself must be replaced by one \
             of an authority, whose certificate is then named as ca_file"
        ),
    }
}

/// A certificate's name without its sort: rustls gives `DnsName("mail.example.test")`, or `IpAddress(192.0.2.7)`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    cut(inner.trim_matches('"'), 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    // An administrator looks for the name as it stands in the certificate.
    #[test]
    fn names_are_plain() {
        for (given, shown) in [
            ("DnsName(\"*.example.test\")", "*.example.test"),
            ("IpAddress(192.0.2.7)", "192.0.2.7"),
            ("DirectoryName", "DirectoryName"),
            ("DnsName(\"a\u{1b}[2J\")", "a\\u{1b}[2J"),
        ] {
            assert_eq!(plain(given), shown);
        }
    }
}
