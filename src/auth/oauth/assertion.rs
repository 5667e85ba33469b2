//! A program proves who it is by signing with the key of its certificate (RFC 7523, section 3; the header as Microsoft Entra ID
//! wants it: "Microsoft identity platform application authentication certificate credentials").

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::hash::{base64url, sha1, sha256};
use crate::auth::{Secret, pem};
use crate::{Error, ErrorKind, Result};

/// How long an assertion is good: it is used once, at once.
const LIFE: Duration = Duration::from_secs(300);
/// Clocks differ: it is good a while before it was made.
const BEFORE: Duration = Duration::from_secs(60);

/// A certificate and its key.
pub struct Signer {
    key: RsaKeyPair,
    sha256: String,
    sha1: String,
}

impl Signer {
    /// Reads both from PEM: the first certificate of a chain, and an RSA key of PKCS #8 or PKCS #1 that has no password.
    ///
    /// # Errors
    /// `Invalid` for what is neither, for a key of another sort, and for one that is not the certificate's.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Signer> {
        let bad = |what: &str| Error::new(ErrorKind::Invalid, what.to_owned());
        let certificate = CertificateDer::from_pem_slice(certificate)
            .map_err(|e| bad(&format!("there is no certificate (PEM) in it: {}", pem::why(&e))))?;
        let key = pem::private_key(key).map_err(|why| {
            bad(&format!("there is no private key (PEM) in it, or it has a password, which it must not have here: {why}"))
        })?;
        let key = match &*key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(bad("the private key is not of RSA, which is what issuers take")),
        };
        let key = key.map_err(|e| {
            bad(&format!("the private key cannot be used: {e} (RSA of 2048 bits or more is wanted)"))
        })?;
        // The public key stands in the certificate as it is.
        if memchr::memmem::find(&certificate, key.public_key().as_ref()).is_none() {
            return Err(bad("the private key is not the one of the certificate"));
        }
        Ok(Signer { key, sha256: sha256(&certificate), sha1: sha1(&certificate) })
    }

    /// The assertion (a JWT). `old`: as AD FS takes it, with RS256 and the certificate's SHA-1 beside.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        id: &str,
        now: SystemTime,
        old: bool,
    ) -> Result<Secret> {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut header = serde_json::json!({ "typ": "JWT", "x5t#S256": self.sha256 });
        header["alg"] = if old { "RS256" } else { "PS256" }.into();
        if old {
            header["x5t"] = self.sha1.as_str().into();
        }
        let claims = serde_json::json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": id,
            "nbf": seconds(now.checked_sub(BEFORE).unwrap_or(now)),
            "exp": seconds(now.checked_add(LIFE).unwrap_or(now)),
        });
        let text = format!(
            "{}.{}",
            base64url(header.to_string().as_bytes()),
            base64url(claims.to_string().as_bytes())
        );
        let mut signature = vec![0; self.key.public().modulus_len()];
        // The salt of PS256 is ring's own: it takes no other source.
        let random = SystemRandom::new();
        let signed = match old {
            true => self.key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature),
            false => self.key.sign(&RSA_PSS_SHA256, &random, text.as_bytes(), &mut signature),
        };
        signed.map_err(|_| {
            Error::new(
                ErrorKind::Internal,
                "signing with the client's certificate failed: the system gives no random bytes",
            )
        })?;
        let signature = base64url(&signature);
        let mut whole = String::with_capacity(text.len() + 1 + signature.len());
        whole.push_str(&text);
        whole.push('.');
        whole.push_str(&signature);
        Ok(Secret::new(whole))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// The same certificate, and so the same key.
impl PartialEq for Signer {
    fn eq(&self, other: &Signer) -> bool {
        self.sha256 == other.sha256
    }
}
