//! What binds a sign-in to the TLS channel that it goes over: `tls-server-end-point` (RFC 5929 section 4). A server with Extended
//! Protection refuses a sign-in that came to somebody else first, who passed it on.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Reader, SliceReader, Tag, TagNumber, Tagged};
use md5::{Digest, Md5};
use ring::digest::{self, SHA256, SHA384, SHA512};

/// The application data of the binding to the server that has this certificate (DER); `None` where its signature says no hash, so
/// that nothing is defined.
pub(crate) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let hash = digest::digest(hash_of(certificate)?, certificate);
    Some([b"tls-server-end-point:", hash.as_ref()].concat())
}

/// The digest of a `gss_channel_bindings` structure without addresses, as `MsvAvChannelBindings` wants it ([MS-NLMP] section
/// 2.2.2.1).
pub(crate) fn md5_of_binding(certificate: &[u8]) -> Option<[u8; 16]> {
    let data = server_end_point(certificate)?;
    let mut md5 = Md5::new();
    // Types and lengths of the initiator's and the acceptor's address.
    md5.update([0; 16]);
    md5.update(u32::try_from(data.len()).ok()?.to_le_bytes());
    md5.update(&data);
    Some(md5.finalize().into())
}

/// What a refusal may mean: what to `check`, and where the channel was named, or there was one that could not be (`bound`), Extended
/// Protection. `or` is what else helps.
pub(super) fn refusal(check: &str, bound: Option<bool>, or: &str) -> String {
    let protection = match bound {
        Some(true) => {
            ", where a proxy before it ends TLS with another certificate: let the proxy have the server's certificate"
        }
        Some(false) => {
            ": its certificate is signed by an algorithm (Ed25519, say) for which no channel binding is defined (RFC 5929), so it needs \
             another certificate"
        }
        None => return check.to_owned(),
    };
    format!("{check}; if they are right, it may be the server's Extended Protection{protection}{or}")
}

/// The hash that the certificate is signed by; in place of MD5 and SHA-1, SHA-256 (RFC 5929 section 4.1).
fn hash_of(certificate: &[u8]) -> Option<&'static digest::Algorithm> {
    let (algorithm, parameters) = signature_algorithm(certificate).ok()?;
    match algorithm {
        // RSASSA-PSS (RFC 4055 section 3.1) says it in its parameters; SHA-1 where it does not.
        PSS => match pss_hash(parameters?).ok()? {
            None => Some(&SHA256),
            Some(hash) => by_hash(hash),
        },
        _ => by_signature(algorithm),
    }
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");

fn by_signature(algorithm: ObjectIdentifier) -> Option<&'static digest::Algorithm> {
    const MD5_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.4");
    const SHA1_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.5");
    const SHA256_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.11");
    const SHA384_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.12");
    const SHA512_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.13");
    const SHA1_ECDSA: ObjectIdentifier = oid("1.2.840.10045.4.1");
    const SHA256_ECDSA: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
    const SHA384_ECDSA: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
    const SHA512_ECDSA: ObjectIdentifier = oid("1.2.840.10045.4.3.4");
    match algorithm {
        MD5_RSA | SHA1_RSA | SHA256_RSA | SHA1_ECDSA | SHA256_ECDSA => Some(&SHA256),
        SHA384_RSA | SHA384_ECDSA => Some(&SHA384),
        SHA512_RSA | SHA512_ECDSA => Some(&SHA512),
        // Ed25519 among them, which signs without a hash of its own.
        _ => None,
    }
}

fn by_hash(hash: ObjectIdentifier) -> Option<&'static digest::Algorithm> {
    const MD5: ObjectIdentifier = oid("1.2.840.113549.2.5");
    const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
    const SHA_256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
    const SHA_384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
    const SHA_512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");
    match hash {
        MD5 | SHA1 | SHA_256 => Some(&SHA256),
        SHA_384 => Some(&SHA384),
        SHA_512 => Some(&SHA512),
        _ => None,
    }
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }` (RFC 5280 section 4.1).
fn signature_algorithm(certificate: &[u8]) -> der::Result<(ObjectIdentifier, Option<AnyRef<'_>>)> {
    let mut reader = SliceReader::new(certificate)?;
    let found = reader.sequence(|fields| {
        fields.decode::<AnyRef<'_>>()?.tag().assert_eq(Tag::Sequence)?;
        let found = fields.sequence(|algorithm| {
            Ok::<_, der::Error>((algorithm.decode()?, algorithm.decode::<Option<AnyRef<'_>>>()?))
        })?;
        fields.decode::<AnyRef<'_>>()?.tag().assert_eq(Tag::BitString)?;
        Ok::<_, der::Error>(found)
    })?;
    reader.finish()?;
    Ok(found)
}

/// `RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] … DEFAULT sha1, … }`.
fn pss_hash(parameters: AnyRef<'_>) -> der::Result<Option<ObjectIdentifier>> {
    const HASH: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
    parameters.sequence(|fields| {
        let mut hash = None;
        while !fields.is_finished() {
            let field = fields.decode::<AnyRef<'_>>()?;
            if field.tag() == HASH {
                let mut inner = SliceReader::new(field.value())?;
                hash = Some(inner.sequence(|algorithm| {
                    let hash = algorithm.decode()?;
                    algorithm.decode::<Option<AnyRef<'_>>>()?;
                    Ok::<_, der::Error>(hash)
                })?);
            }
        }
        Ok(hash)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of an element.
    fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
        assert!(value.len() < 128);
        [&[tag, value.len() as u8], value].concat()
    }

    fn algorithm(oid: &str, parameters: &[u8]) -> Vec<u8> {
        tlv(0x30, &[tlv(6, ObjectIdentifier::new_unwrap(oid).as_bytes()), parameters.to_vec()].concat())
    }

    fn certificate(algorithm: Vec<u8>) -> Vec<u8> {
        tlv(0x30, &[tlv(0x30, b""), algorithm, tlv(3, &[0, 1, 2])].concat())
    }

    fn pss(parameters: &[u8]) -> Vec<u8> {
        algorithm("1.2.840.113549.1.1.10", &tlv(0x30, parameters))
    }

    fn hash(oid: &str) -> Vec<u8> {
        tlv(0xa0, &algorithm(oid, &[5, 0]))
    }

    // A server computes the same from its own certificate; with another hash, every sign-in is refused.
    #[test]
    fn each_signature_algorithm_has_its_hash() {
        let null = &[5, 0];
        let salt = tlv(0xa2, &tlv(2, &[64]));
        for (algorithm, expected) in [
            (algorithm("1.2.840.113549.1.1.4", null), Some(256)),
            (algorithm("1.2.840.113549.1.1.5", null), Some(256)),
            (algorithm("1.2.840.113549.1.1.11", null), Some(256)),
            (algorithm("1.2.840.113549.1.1.12", null), Some(384)),
            (algorithm("1.2.840.113549.1.1.13", null), Some(512)),
            (algorithm("1.2.840.10045.4.1", b""), Some(256)),
            (algorithm("1.2.840.10045.4.3.2", b""), Some(256)),
            (algorithm("1.2.840.10045.4.3.3", b""), Some(384)),
            (algorithm("1.2.840.10045.4.3.4", b""), Some(512)),
            (algorithm("1.3.101.112", b""), None),
            (pss(b""), Some(256)),
            (pss(&salt), Some(256)),
            (pss(&hash("1.3.14.3.2.26")), Some(256)),
            (pss(&hash("2.16.840.1.101.3.4.2.1")), Some(256)),
            (pss(&[hash("2.16.840.1.101.3.4.2.2"), salt.clone()].concat()), Some(384)),
            (pss(&hash("2.16.840.1.101.3.4.2.3")), Some(512)),
            (pss(&hash("2.16.840.1.101.3.4.2.8")), None),
        ] {
            let found = hash_of(&certificate(algorithm)).map(|hash| hash.output_len() * 8);
            assert_eq!(found, expected);
        }
    }

    // The structure's bytes, written by hand.
    #[test]
    fn the_structure_is_that_of_gss() {
        let certificate = certificate(algorithm("1.2.840.113549.1.1.11", &[5, 0]));
        let mut whole = vec![0; 16];
        whole.extend_from_slice(&[53, 0, 0, 0]);
        whole.extend_from_slice(b"tls-server-end-point:");
        whole.extend_from_slice(digest::digest(&SHA256, &certificate).as_ref());
        assert_eq!(md5_of_binding(&certificate), Some(Md5::digest(&whole).into()));
    }

    // A pinned certificate may be anything that its server likes.
    #[test]
    fn broken_certificates_have_no_binding() {
        let whole = certificate(pss(&hash("2.16.840.1.101.3.4.2.2")));
        assert!(hash_of(&whole).is_some());
        for end in 0..whole.len() {
            assert!(hash_of(&whole[..end]).is_none());
        }
        for at in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            let _ = hash_of(&bytes);
        }
        assert!(hash_of(&[&whole[..], b"x"].concat()).is_none());
    }
}
