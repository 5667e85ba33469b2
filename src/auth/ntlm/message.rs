//! The three messages ([MS-NLMP] section 2.2.1), byte for byte.

use zeroize::Zeroizing;

use super::target_info::TargetInfo;

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// A challenge without the version that newer servers put behind it.
const CHALLENGE_HEAD: usize = 48;
/// Before the payload of an AUTHENTICATE message: fields, flags, version, and the MIC where there is one.
const AUTHENTICATE_HEAD: usize = 72;
const MIC: std::ops::Range<usize> = 72..88;

/// [MS-NLMP] section 2.2.2.5.
mod flag {
    pub const UNICODE: u32 = 0x1;
    pub const REQUEST_TARGET: u32 = 0x4;
    pub const NTLM: u32 = 0x200;
    pub const ALWAYS_SIGN: u32 = 0x8000;
    pub const EXTENDED_SESSIONSECURITY: u32 = 0x8_0000;
    pub const TARGET_INFO: u32 = 0x80_0000;
    pub const VERSION: u32 = 0x200_0000;
    pub const STRENGTH_128: u32 = 0x2000_0000;
    pub const STRENGTH_56: u32 = 0x8000_0000;
}

/// What we can, and want. Neither signing nor sealing, so no key is exchanged; the strengths are there since servers may be set
/// up to refuse who lacks them.
const WANTED: u32 = flag::UNICODE
    | flag::REQUEST_TARGET
    | flag::NTLM
    | flag::ALWAYS_SIGN
    | flag::EXTENDED_SESSIONSECURITY
    | flag::TARGET_INFO
    | flag::VERSION
    | flag::STRENGTH_128
    | flag::STRENGTH_56;

/// Windows 10, NTLMSSP_REVISION_W2K3: no server goes by it, some want one to be there.
const VERSION: [u8; 8] = [10, 0, 0, 0, 0, 0, 0, 15];

/// The NEGOTIATE message: always the same, and without a name of ours or of this machine.
pub(super) fn negotiate() -> [u8; 40] {
    let mut out = [0; 40];
    out[..8].copy_from_slice(SIGNATURE);
    out[8..12].copy_from_slice(&1_u32.to_le_bytes());
    out[12..16].copy_from_slice(&WANTED.to_le_bytes());
    // Domain and workstation are not given: empty fields at the payload, which is the end.
    for field in [16, 24] {
        out[field + 4..field + 8].copy_from_slice(&40_u32.to_le_bytes());
    }
    out[32..].copy_from_slice(&VERSION);
    out
}

/// What a CHALLENGE message says.
#[derive(Debug, PartialEq)]
pub(super) struct Challenge<'a> {
    pub nonce: [u8; 8],
    pub target_info: TargetInfo<'a>,
    flags: u32,
}

impl<'a> Challenge<'a> {
    /// Reads it; `Err` says what is wrong with it.
    pub fn read(bytes: &'a [u8]) -> Result<Challenge<'a>, &'static str> {
        if bytes.len() < CHALLENGE_HEAD {
            return Err("it is too short");
        }
        if !bytes.starts_with(SIGNATURE) || bytes[8..12] != 2_u32.to_le_bytes() {
            return Err("it is no CHALLENGE message");
        }
        let flags = u32_at(bytes, 20).ok_or("it is too short")?;
        if flags & flag::UNICODE == 0 {
            return Err("the server does not speak Unicode");
        }
        if flags & flag::TARGET_INFO == 0 {
            return Err("the server knows only version 1 of NTLM, which is not safe and not spoken here");
        }
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&bytes[24..32]);
        let target_info = field(bytes, 40).ok_or("its target info is not in it")?;
        Ok(Challenge { nonce, target_info: TargetInfo::read(target_info)?, flags })
    }

    /// What both sides can.
    pub fn agreed(&self) -> u32 {
        (self.flags & WANTED) | flag::VERSION
    }
}

/// What goes into an AUTHENTICATE message. Texts are UTF-16, little-endian.
pub(super) struct Authenticate<'a> {
    pub flags: u32,
    pub version: [u8; 8],
    pub domain: &'a [u8],
    pub user: &'a [u8],
    pub workstation: &'a [u8],
    pub lm_response: &'a [u8],
    pub nt_response: &'a [u8],
    pub session_key: &'a [u8],
    /// Whether room is left for [`set_mic`].
    pub mic: bool,
}

impl Authenticate<'_> {
    /// One with a MIC, and without what is only for signing and sealing.
    pub fn new<'a>(flags: u32, domain: &'a [u8], user: &'a [u8], nt_response: &'a [u8]) -> Authenticate<'a> {
        Authenticate {
            flags,
            version: VERSION,
            domain,
            user,
            workstation: &[],
            // Where the server tells its time, the LM response is zeros: [MS-NLMP] section 3.1.5.1.2. Older ones do not get one either.
            lm_response: &[0; 24],
            nt_response,
            session_key: &[],
            mic: true,
        }
    }

    /// The message; `None` if a part is too long for it. Wiped, since the response lets its reader try passwords.
    pub fn write(&self) -> Option<Zeroizing<Vec<u8>>> {
        let head = if self.mic { MIC.end } else { AUTHENTICATE_HEAD };
        // As they lie in the payload, and where the head says so.
        let parts = [
            (self.domain, 28),
            (self.user, 36),
            (self.workstation, 44),
            (self.lm_response, 12),
            (self.nt_response, 20),
            (self.session_key, 52),
        ];
        // All at once: a buffer that grows leaves copies behind that nobody wipes.
        let len = head + parts.iter().map(|(part, _)| part.len()).sum::<usize>();
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.resize(head, 0);
        out[..8].copy_from_slice(SIGNATURE);
        out[8..12].copy_from_slice(&3_u32.to_le_bytes());
        out[60..64].copy_from_slice(&self.flags.to_le_bytes());
        out[64..72].copy_from_slice(&self.version);
        for (part, field) in parts {
            let (len, offset) = (u16::try_from(part.len()).ok()?, u32::try_from(out.len()).ok()?);
            out[field..field + 2].copy_from_slice(&len.to_le_bytes());
            out[field + 2..field + 4].copy_from_slice(&len.to_le_bytes());
            out[field + 4..field + 8].copy_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(part);
        }
        Some(out)
    }
}

/// Puts the MIC into a message that was written with room for it, and zeros in it.
pub(super) fn set_mic(message: &mut [u8], mic: &[u8; 16]) {
    message[MIC].copy_from_slice(mic);
}

/// The bytes that a field of length, room and offset points at.
fn field(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let len = usize::from(u16_at(bytes, at)?);
    let offset = usize::try_from(u32_at(bytes, at + 4)?).ok()?;
    if offset < CHALLENGE_HEAD {
        return None;
    }
    bytes.get(offset..offset.checked_add(len)?)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
