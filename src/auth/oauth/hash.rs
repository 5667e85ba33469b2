//! SHA-2 and base64 as the RFCs want them.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use ring::digest;

use super::Random;
use crate::auth::Secret;

/// SHA-256, in base64url without padding.
pub(super) fn sha256(bytes: &[u8]) -> String {
    base64url(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// SHA-1, by which AD FS knows certificates (RFC 7515, section 4.1.7).
pub(super) fn sha1(bytes: &[u8]) -> String {
    base64url(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// 256 bits that nobody can guess, as text.
pub(super) fn random_text(random: &mut Random<'_>) -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    random(&mut *bytes);
    Secret::new(base64url(&*bytes))
}
