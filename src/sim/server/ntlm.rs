//! NTLM and Negotiate as IIS asks for them: a connection signs in by three messages, and stays so. Nothing is taken but version 2
//! with a MIC. Written apart from the client's, so that a mistake made twice is not missed.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md4::{Digest, Md4};
use md5::Md5;

use super::shared::Shared;

/// A way to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// User and password in each request.
    Basic,
    /// NTLM, version 2.
    Ntlm,
    /// The same messages under the name of Negotiate; no Kerberos.
    Negotiate,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Scheme::Basic => "Basic",
            Scheme::Ntlm => "NTLM",
            Scheme::Negotiate => "Negotiate",
        }
    }
}

/// Whether a sign-in by NTLM must name the TLS channel that it comes by (IIS: `tokenChecking`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtendedProtection {
    /// It is not looked at.
    #[default]
    Off,
    /// One that names a channel must name the right one.
    Allow,
    /// It must. The default of Exchange 2019 CU14 and later.
    Require,
}

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    user: Option<String>,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    negotiate: Vec<u8>,
    challenge: Vec<u8>,
    nonce: [u8; 8],
}

impl Connection {
    /// Who has signed the connection in.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Takes a message; what goes back, if that is a challenge.
    pub(super) fn hear(&mut self, shared: &Shared, message: &str) -> Option<String> {
        self.user = None;
        let message = STANDARD.decode(message.trim()).ok()?;
        let asked = self.asked.take();
        match message.get(..12)?.strip_prefix(b"NTLMSSP\0")? {
            [1, 0, 0, 0] => {
                let nonce = fastrand::u64(..).to_le_bytes();
                let challenge = challenge(nonce, shared.exchange.time());
                let out = STANDARD.encode(&challenge);
                self.asked = Some(Asked { negotiate: message, challenge, nonce });
                Some(out)
            }
            [3, 0, 0, 0] => {
                self.user = asked.and_then(|asked| asked.check(shared, &message));
                None
            }
            _ => None,
        }
    }
}

impl Asked {
    // The user, if all of the AUTHENTICATE message is right.
    fn check(&self, shared: &Shared, message: &[u8]) -> Option<String> {
        let (domain, user) = (text(part(message, 28)?)?, text(part(message, 36)?)?);
        let response = part(message, 20)?;
        // Those of version 1 are 24 bytes long.
        let (proof, client) = response.split_at_checked(16).filter(|(_, client)| client.len() > 28)?;
        let name = if domain.is_empty() { user.clone() } else { format!("{domain}\\{user}") };
        let password = shared.password(&name)?;
        let nt_hash = Md4::digest(wide(&password));
        let key = hmac(&nt_hash, &[&wide(&user.to_uppercase()), &wide(&domain)]);
        if hmac(&key, &[&self.nonce, client]) != proof {
            return None;
        }
        let pairs = pairs(&client[28..])?;
        let pair = |id: u16| pairs.iter().find(|(at, _)| *at == id).map(|(_, value)| *value);
        let has_mic = pair(6).and_then(|flags| flags.first()).is_some_and(|flags| flags & 2 != 0);
        let mut bare = message.to_vec();
        bare.get_mut(72..88)?.fill(0);
        let mic = hmac(&hmac(&key, &[proof]), &[&self.negotiate, &self.challenge, &bare]);
        if !has_mic || mic != message[72..88] {
            return None;
        }
        let named = pair(10).filter(|binding| *binding != [0; 16]);
        let good = match (shared.protection, shared.channel) {
            (ExtendedProtection::Off, _) | (_, None) => true,
            (ExtendedProtection::Allow, Some(_)) if named.is_none() => true,
            (_, Some(channel)) => named == Some(&channel),
        };
        good.then_some(name)
    }
}

/// What a sign-in over TLS with this certificate (DER) has to name.
pub(super) fn channel(certificate: &[u8]) -> [u8; 16] {
    // Our certificates are signed with SHA-256.
    let hash = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut named = b"tls-server-end-point:".to_vec();
    named.extend_from_slice(hash.as_ref());
    let length = u32::try_from(named.len()).unwrap_or(u32::MAX).to_le_bytes();
    Md5::digest([&[0; 16][..], &length, &named].concat()).into()
}

fn challenge(nonce: [u8; 8], now: SystemTime) -> Vec<u8> {
    let since =
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(11_644_473_600);
    let time = u64::try_from(since.as_nanos() / 100).unwrap_or(u64::MAX);
    let mut info = Vec::new();
    for (id, value) in [
        (2_u16, wide("EXAMPLE")),
        (1, wide("EX1")),
        (4, wide("example.test")),
        (3, wide("ex1.example.test")),
        (7, time.to_le_bytes().to_vec()),
        (0, Vec::new()),
    ] {
        info.extend_from_slice(&id.to_le_bytes());
        info.extend_from_slice(&(value.len() as u16).to_le_bytes());
        info.extend_from_slice(&value);
    }
    let name = wide("EXAMPLE");
    let field = |value: &[u8], offset: usize| {
        let length = (value.len() as u16).to_le_bytes();
        [&length[..], &length, &(offset as u32).to_le_bytes()].concat()
    };
    // UNICODE, REQUEST_TARGET, NTLM, ALWAYS_SIGN, TARGET_TYPE_DOMAIN, EXTENDED_SESSIONSECURITY, TARGET_INFO, VERSION, 128, 56.
    let flags = 0xa289_8205_u32.to_le_bytes();
    let version = [10, 0, 0x63, 0x45, 0, 0, 0, 15];
    let (at_name, at_info) = (56, 56 + name.len());
    [
        &b"NTLMSSP\0\x02\0\0\0"[..],
        &field(&name, at_name),
        &flags,
        &nonce,
        &[0; 8],
        &field(&info, at_info),
        &version,
        &name,
        &info,
    ]
    .concat()
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(*bytes.get(at)?) | usize::from(*bytes.get(at + 1)?) << 8)
}

fn part(message: &[u8], field: usize) -> Option<&[u8]> {
    let (length, offset) = (number(message, field)?, number(message, field + 4)?);
    // No message is so long that the offset's upper half counts.
    message.get(offset..offset + length).filter(|_| number(message, field + 6) == Some(0))
}

fn pairs(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut pairs = Vec::new();
    loop {
        let (id, length) = (number(bytes, 0)?, number(bytes, 2)?);
        if id == 0 {
            return Some(pairs);
        }
        pairs.push((u16::try_from(id).ok()?, bytes.get(4..4 + length)?));
        bytes = &bytes[4 + length..];
    }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn text(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> =
        bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], *pair.get(1).unwrap_or(&0)])).collect();
    String::from_utf16(&units).ok()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}
