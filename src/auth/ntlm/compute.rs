//! What is computed of the password and the challenge: version 2 only ([MS-NLMP] sections 3.3.2 and 3.1.5.1.2).

use hmac::{Hmac, KeyInit, Mac};
use md4::{Digest, Md4};
use md5::Md5;
use zeroize::Zeroizing;

/// A digest that a password could be tried against: wiped.
pub(super) type Key = Zeroizing<[u8; 16]>;

/// `NTOWFv2`.
pub(super) fn response_key(password: &str, user: &str, domain: &str) -> Key {
    let hash = Zeroizing::new(<[u8; 16]>::from(Md4::digest(&*utf16(password))));
    hmac(&hash, &[&utf16(&upper(user)), &utf16(domain)])
}

/// `temp`: the client's part of what the response is computed of (`NTLMv2_CLIENT_CHALLENGE`, section 2.2.2.7).
pub(super) fn client_part(time: &[u8; 8], nonce: &[u8; 8], target_info: &[u8]) -> Vec<u8> {
    [&[1, 1, 0, 0, 0, 0, 0, 0], &time[..], nonce, &[0; 4], target_info, &[0; 4]].concat()
}

/// `NTProofStr` with the client's part behind it, and the session's key.
pub(super) fn response(key: &Key, server_nonce: &[u8; 8], client_part: &[u8]) -> (Zeroizing<Vec<u8>>, Key) {
    let proof = hmac(key, &[server_nonce, client_part]);
    let session_key = hmac(key, &[&*proof]);
    (Zeroizing::new([&proof[..], client_part].concat()), session_key)
}

/// The MIC over the three messages, the last with zeros in its place.
pub(super) fn mic(session_key: &Key, messages: [&[u8]; 3]) -> Key {
    hmac(session_key, &messages)
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Md5>::new_from_slice(&**key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// Little-endian. Wiped: it may be a password.
pub(super) fn utf16(text: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    out
}

/// As Windows does it: letter by letter, so that a letter whose capital is more than one (ß) stays as it is.
fn upper(text: &str) -> String {
    text.chars()
        .map(|c| {
            let mut capital = c.to_uppercase();
            match (capital.next(), capital.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        })
        .collect()
}
