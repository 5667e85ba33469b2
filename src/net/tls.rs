//! The TLS state that all connections of a client share, and what its errors mean to a person.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, CertificateError, ClientConfig, OtherError, RootCertStore};
use zeroize::Zeroizing;

use super::Config;
use super::answer::cut;
use super::pin::{OtherCertificate, Pin, Pinned};
use super::url::Endpoint;
use crate::auth::pem;
use crate::{Error, ErrorKind, Result};

/// What TLS has to be like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// The certificates that the server may have. Where there are any, they count instead of authorities, names and expiry.
    pub pins: Vec<Pin>,
    /// No version before TLS 1.3.
    pub only_tls13: bool,
    /// Our own certificate and its chain (PEM), for servers that ask for one: those that a password would go to, which are EWS's and
    /// Autodiscover's. No issuer of tokens and no proxy is shown it.
    pub certificate: Option<PathBuf>,
    /// Its key (PEM); where not set, it is in the same file.
    pub key: Option<PathBuf>,
}

/// One for a client: whom to trust, and the sessions to resume. TLS 1.2 and 1.3 by ring. The machine's certificate
/// authorities are read at the first https connection; files that were named, also when they have changed since: certificates are
/// renewed while a program runs. What cannot be read then, or does not fit together yet, leaves what was read before.
#[derive(Debug, Default)]
pub struct Tls {
    ca_file: Option<PathBuf>,
    wanted: TlsConfig,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    files: Files,
    config: Option<Arc<ClientConfig>>,
}

/// What was read from the files.
#[derive(Clone, Debug, Default)]
struct Files {
    extra: Vec<CertificateDer<'static>>,
    own: Option<Arc<SingleCertAndKey>>,
    stamps: Vec<Stamp>,
}

/// What tells a file that was written anew: length, time of the last change, and on Unix the file itself.
type Stamp = Option<(u64, SystemTime, u64)>;

impl Tls {
    /// Trusts this machine's certificate authorities, and those in `ca_file` (PEM) too, if one is given. The file is read now.
    pub fn new(ca_file: Option<&Path>) -> Result<Tls> {
        Tls { ca_file: ca_file.map(Path::to_owned), ..Tls::default() }.begun()
    }

    /// The same with all that the settings say. Files are read now.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a file that cannot be read or has something else in it, and for a key that is not the certificate's.
    pub fn of(config: &Config) -> Result<Tls> {
        Tls { wanted: config.tls.clone(), ca_file: config.ca_file.clone(), ..Tls::default() }.begun()
    }

    /// Whether it is what [`of`](Self::of) makes of these settings.
    pub(crate) fn is_of(&self, config: &Config) -> bool {
        self.ca_file == config.ca_file && self.wanted == config.tls
    }

    fn begun(self) -> Result<Tls> {
        self.held().files = self.read()?;
        Ok(self)
    }

    fn read(&self) -> Result<Files> {
        // Before the reading: what is written meanwhile is read again.
        let stamps = self.stamps();
        let extra =
            self.ca_file.as_deref().map(|file| read_chain("ca_file", file)).transpose()?.unwrap_or_default();
        let own = self.wanted.certificate.as_deref();
        let own = own.map(|file| {
            let key = self.wanted.key.as_deref().unwrap_or(file);
            read_own(("tls_cert", file), ("tls_key", key))
        });
        let own = own.transpose()?;
        Ok(Files { extra, own, stamps })
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = [&self.ca_file, &self.wanted.certificate, &self.wanted.key];
        files.into_iter().flatten().map(|file| stamp(file)).collect()
    }

    /// For a connection.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let mut held = self.held();
        if self.stamps() != held.files.stamps
            && let Ok(files) = self.read()
            && let Ok(config) = self.build(&files)
        {
            *held = Held { files, config: Some(config) };
        }
        if let Some(config) = &held.config {
            return Ok(config.clone());
        }
        let config = self.build(&held.files)?;
        held.config = Some(config.clone());
        Ok(config)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Should anything panic while it is held, it is still whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build(&self, files: &Files) -> Result<Arc<ClientConfig>> {
        let versions = match self.wanted.only_tls13 {
            true => &[&rustls::version::TLS13][..],
            false => rustls::DEFAULT_VERSIONS,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|e| {
                Error::new(ErrorKind::Internal, format!("the TLS library has no protocol version: {e}"))
            })?;
        let config = match self.wanted.pins.is_empty() {
            true => config.with_root_certificates(self.roots_of(files)?),
            false => {
                let pinned = Arc::new(Pinned::new(self.wanted.pins.clone()));
                config.dangerous().with_custom_certificate_verifier(pinned)
            }
        };
        Ok(Arc::new(match &files.own {
            Some(own) => config.with_client_cert_resolver(own.clone()),
            None => config.with_no_client_auth(),
        }))
    }

    /// Whom to trust.
    pub(super) fn roots(&self) -> Result<RootCertStore> {
        let files = self.held().files.clone();
        self.roots_of(&files)
    }

    fn roots_of(&self, files: &Files) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let machine = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(machine.certs);
        for cert in &files.extra {
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

fn stamp(file: &Path) -> Stamp {
    let about = std::fs::metadata(file).ok()?;
    Some((about.len(), about.modified().ok()?, about.ino()))
}

/// The certificates in the file that an option names.
fn read_chain(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    // The key may stand in the same file.
    let bytes = std::fs::read(path).map(Zeroizing::new);
    let bytes = bytes.map_err(|e| invalid(format!("{option} {shown} cannot be read: {e}")))?;
    let certs = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| invalid(format!("{option} {shown} is not PEM: {}", pem::why(&e))))?;
    if certs.is_empty() {
        return Err(invalid(format!(
            "{option} {shown} has no certificate in it: it must be PEM, with '-----BEGIN CERTIFICATE-----' lines"
        )));
    }
    Ok(certs)
}

/// Our own certificate with its chain, and the key to it, from the files that two options name.
pub(super) fn read_own(
    (option, file): (&str, &Path),
    (key_option, key_file): (&str, &Path),
) -> Result<Arc<SingleCertAndKey>> {
    let (shown, shown_key) = (file.display(), key_file.display());
    let chain = read_chain(option, file)?;
    let bytes = std::fs::read(key_file)
        .map_err(|e| invalid(format!("{key_option} {shown_key} cannot be read: {e}")))
        .map(Zeroizing::new)?;
    let key = pem::private_key(&bytes).map_err(|why| {
        let what = match memchr::memmem::find(&bytes, b"ENCRYPTED") {
            Some(_) => "is protected by a passphrase, which cannot be given here: take it off (openssl pkey)"
                .to_owned(),
            None => format!("has no private key that can be read, in PEM: {why}"),
        };
        invalid(format!("{key_option} {shown_key} {what}"))
    })?;
    let own = certified(chain, &key).map_err(|e| {
        invalid(match e {
            rustls::Error::InconsistentKeys(_) => {
                format!(
                    "{key_option} {shown_key} is not the key of the certificate that comes first in {option} {shown}"
                )
            }
            e => format!("{option} {shown} and {key_option} {shown_key} cannot be used: {e}"),
        })
    })?;
    Ok(Arc::new(SingleCertAndKey::from(own)))
}

/// As `CertifiedKey::from_der`, which takes the key and does not wipe it.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> std::result::Result<CertifiedKey, rustls::Error> {
    let own = CertifiedKey::new(chain, rustls::crypto::ring::sign::any_supported_type(key)?);
    match own.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(own),
        Err(e) => Err(e),
    }
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

/// What it is that a server lacks which breaks a handshake off. Windows before Server 2016 has no suite of ECDHE_RSA with GCM
/// ("TLS Cipher Suites in Windows 8.1", which is Server 2012 R2).
const TOO_OLD: &str = "it may offer only versions before TLS 1.2, or only cipher suites with CBC or RC4, as Windows Server before \
                       2016 does with an RSA certificate; suites of ECDHE with AES-GCM or ChaCha20 are needed: an ECDSA certificate, \
                       a newer system or a reverse proxy brings them";

impl Tls {
    /// A failed handshake, in words that say what to do.
    pub(super) fn explain(&self, endpoint: &Endpoint, error: &rustls::Error) -> Error {
        let what = match error {
            rustls::Error::InvalidCertificate(e) => certificate(endpoint, e),
            rustls::Error::InvalidMessage(_) => {
                "what came back is not TLS: is this a plain http port, or a proxy's page?".to_owned()
            }
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(_)
                if self.wanted.only_tls13 =>
            {
                format!(
                    "tls_min=1.3 is set, and the server does not speak TLS 1.3 ({error}): enable it there, or set tls_min=1.2"
                )
            }
            rustls::Error::PeerIncompatible(e) => {
                format!(
                    "the server offers nothing that is still safe ({e:?}): it must offer TLS 1.2 or 1.3: {TOO_OLD}"
                )
            }
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                format!("the server broke the handshake off ({error}): {TOO_OLD}")
            }
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
                let own = match self.wanted.certificate {
                    Some(_) => "or it may refuse the certificate of tls_cert",
                    None => "or it may want a certificate of the client's (tls_cert)",
                };
                format!("the server broke the handshake off ({error}): {TOO_OLD}; {own}")
            }
            rustls::Error::AlertReceived(alert) if about_own(*alert) => {
                own_refused(*alert, self.wanted.certificate.is_some())
            }
            e => format!("{e}"),
        };
        // A server that is just starting, or a balancer without one behind it: the only one that may pass by itself.
        let passing = matches!(error, rustls::Error::AlertReceived(AlertDescription::InternalError));
        let kind = if passing { ErrorKind::Connect } else { ErrorKind::Tls };
        Error::new(kind, format!("TLS with {endpoint}: {what}"))
    }
}

/// A server of TLS 1.3 that wants another certificate of ours says so when the handshake is over for us.
pub(super) fn refused_after(endpoint: &Endpoint, error: &rustls::Error) -> Option<Error> {
    let rustls::Error::AlertReceived(alert) = error else { return None };
    let missing = *alert == AlertDescription::CertificateRequired;
    about_own(*alert).then(|| {
        Error::new(ErrorKind::Tls, format!("TLS with {endpoint}: {}", own_refused(*alert, !missing)))
    })
}

/// Whether an alert is about the certificate that we have sent, or have not.
fn about_own(alert: AlertDescription) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, DecryptError, NoCertificate, UnknownCA, UnsupportedCertificate,
    };
    matches!(
        alert,
        AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateRevoked
            | CertificateUnknown
            | DecryptError
            | NoCertificate
            | UnknownCA
            | UnsupportedCertificate
    )
}

fn own_refused(alert: AlertDescription, sent: bool) -> String {
    match sent {
        true => format!(
            "the server refused our certificate (tls_cert) with {alert:?}: it must be from an authority that the server trusts, for \
             clients, and still valid"
        ),
        false => {
            format!("the server wants a certificate of the client's ({alert:?}): set tls_cert and tls_key")
        }
    }
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
        CertificateError::Other(OtherError(e)) if e.is::<OtherCertificate>() => format!(
            "the server's certificate is none of tls_pin: {e}; if the server got a new one, compare it there and set tls_pin to it"
        ),
        CertificateError::UnknownIssuer => "the server's certificate was signed by an authority that this machine does \
             not know: if it is your own authority's, or that of a proxy which opens TLS, name the file with its certificate (PEM) as \
             ca_file; if it has signed itself, set tls_pin to its SHA-256"
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
            "the server's certificate is not accepted ({e}): replace one that signs itself by one of an authority, whose certificate is \
             then named as ca_file, or set tls_pin to its SHA-256"
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
