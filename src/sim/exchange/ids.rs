//! Ids as the servers make them: as long, as opaque, and dead once the thing has moved. Everything is in the id itself
//! (mailbox, folder, item), so nothing has to be remembered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::Style;

pub(super) type Guid = [u8; 16];

/// What an id names, in the mailbox with that GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder { mailbox: Guid, folder: u64 },
    Item { mailbox: Guid, folder: u64, item: u64 },
}

/// A GUID that is the same in every run: of a mailbox's address, of a subscription's number.
pub(super) fn guid_of(text: &str) -> Guid {
    let mut guid = [0; 16];
    for (half, seed) in [(0, 0xcbf2_9ce4_8422_2325_u64), (8, 0x9e37_79b9_7f4a_7c15)] {
        let hash = text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        guid[half..half + 8].copy_from_slice(&hash.to_be_bytes());
    }
    guid
}

pub(super) fn folder_id(style: Style, mailbox: Guid, folder: u64) -> String {
    wrap(style, mailbox, entry_id(mailbox, folder, None))
}

pub(super) fn item_id(style: Style, mailbox: Guid, folder: u64, item: u64) -> String {
    wrap(style, mailbox, entry_id(mailbox, folder, Some(item)))
}

/// What an id names; `None` if it is none that this kind of server makes.
pub(super) fn parse(style: Style, id: &str) -> Option<Entry> {
    let bytes = BASE64.decode(id).ok()?;
    let entry = match style {
        Style::Exchange => bytes.get(42..bytes.len().checked_sub(1)?)?,
        Style::Gromox => bytes.get(..bytes.len().checked_sub(1)?)?,
    };
    let mailbox: Guid = entry.get(4..20)?.try_into().ok()?;
    let folder = counter(entry.get(38..44)?);
    // Made anew and compared: so only the exact form passes, and no byte goes unchecked.
    match entry.len() {
        46 if folder_id(style, mailbox, folder) == id => Some(Entry::Folder { mailbox, folder }),
        70 => {
            let item = counter(entry.get(62..68)?);
            (item_id(style, mailbox, folder, item) == id).then_some(Entry::Item { mailbox, folder, item })
        }
        _ => None,
    }
}

/// The same id in the form of Exchange 2007: the bytes begin with 1.
pub(super) fn to_legacy(id: &str) -> String {
    let mut bytes = vec![1];
    bytes.extend(BASE64.decode(id).unwrap_or_default());
    BASE64.encode(bytes)
}

/// An id of that form in the one of today.
pub(super) fn from_legacy(style: Style, id: &str) -> Option<String> {
    let bytes = BASE64.decode(id).ok()?;
    let id = BASE64.encode(bytes.strip_prefix(&[1])?);
    parse(style, &id).map(|_| id)
}

/// A folder's id in another form: that of Exchange 2007, or one of MAPI's.
pub(super) fn in_form(style: Style, form: &str, id: &str) -> Option<String> {
    let Entry::Folder { mailbox, folder } = parse(style, id)? else { return None };
    let entry = entry_id(mailbox, folder, None);
    match form {
        "EwsLegacyId" => Some(to_legacy(id)),
        "EntryId" => Some(BASE64.encode(entry)),
        "HexEntryId" => Some(entry.iter().map(|b| format!("{b:02X}")).collect()),
        _ => None,
    }
}

/// An id of another form in the one of today.
pub(super) fn from_form(style: Style, form: &str, id: &str) -> Option<String> {
    let entry = match form {
        "EwsLegacyId" => return from_legacy(style, id),
        "EntryId" => BASE64.decode(id).ok()?,
        "HexEntryId" => {
            let byte = |at| u8::from_str_radix(id.get(at..at + 2)?, 16).ok();
            (0..id.len()).step_by(2).map(byte).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let id = wrap(style, entry.get(4..20)?.try_into().ok()?, entry);
    parse(style, &id).map(|_| id)
}

/// The change key of an item or folder as GetItem and GetFolder tell it.
pub(super) fn change_key(style: Style, first: u8, mailbox: Guid, change: u64) -> String {
    let mut bytes = Vec::with_capacity(30);
    match style {
        Style::Exchange => {
            bytes.extend_from_slice(&[first, 0, 0, 0, 0x16, 0, 0, 0]);
            bytes.extend_from_slice(&mailbox);
        }
        Style::Gromox => bytes.extend_from_slice(&replica(mailbox)),
    }
    bytes.extend_from_slice(&change.to_be_bytes()[2..]);
    BASE64.encode(bytes)
}

/// The stubs that events carry in place of change keys.
pub(super) const ITEM_STUB: &str = "CQAAAA==";
pub(super) const FOLDER_STUB: &str = "AQAAAA==";

/// A place in a mailbox's table of events.
pub(super) fn watermark(mailbox: Guid, event: u64) -> String {
    let mut bytes = Vec::with_capacity(30);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&event.to_le_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(&mailbox);
    BASE64.encode(bytes)
}

pub(super) fn parse_watermark(mailbox: Guid, text: &str) -> Option<u64> {
    let bytes = BASE64.decode(text).ok()?;
    let event = u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?);
    (watermark(mailbox, event) == text).then_some(event)
}

/// The server's name that Exchange writes into a subscription's id.
const SERVER: &str = "ex01.simulated.example.test";

/// A subscription's id. gromox: its number and its life in minutes. Exchange: server, GUID, time made, mailbox.
pub(super) fn subscription_id(
    style: Style,
    epoch: u64,
    number: u64,
    minutes: u32,
    mailbox: Guid,
    filetime: u64,
) -> String {
    let mut bytes = Vec::new();
    match style {
        Style::Gromox => {
            bytes.extend_from_slice(&(number as u32).to_le_bytes());
            bytes.extend_from_slice(&minutes.to_le_bytes());
        }
        Style::Exchange => {
            bytes.extend_from_slice(&(SERVER.len() as u16).to_le_bytes());
            bytes.extend_from_slice(SERVER.as_bytes());
            bytes.extend_from_slice(&16u32.to_le_bytes());
            bytes.extend_from_slice(&guid_of(&format!("subscription {epoch} {number}")));
            bytes.extend_from_slice(&filetime.to_le_bytes());
            bytes.extend_from_slice(&16u32.to_le_bytes());
            bytes.extend_from_slice(&mailbox);
        }
    }
    BASE64.encode(bytes)
}

/// Whether a subscription's id has the form that this kind of server makes.
pub(super) fn is_subscription_id(style: Style, id: &str) -> bool {
    let Ok(bytes) = BASE64.decode(id) else { return false };
    match style {
        Style::Gromox => bytes.len() == 8,
        Style::Exchange => {
            let Some((name, rest)) = bytes.split_first_chunk::<2>() else { return false };
            let name = usize::from(u16::from_le_bytes(*name));
            rest.get(name..).is_some_and(|r| {
                r.starts_with(&[16, 0, 0, 0])
                    && (r.len() == 28 || (r.len() == 48 && r[28..].starts_with(&[16, 0, 0, 0])))
            })
        }
    }
}

fn counter(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| (n << 8) | u64::from(*b))
}

/// The GUID that numbers folders and items in the store.
fn replica(mailbox: Guid) -> Guid {
    let mut guid = mailbox;
    guid.reverse();
    guid
}

fn entry_id(mailbox: Guid, folder: u64, item: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(70);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&mailbox);
    bytes.extend_from_slice(&[if item.is_some() { 7 } else { 1 }, 0]);
    for number in std::iter::once(folder).chain(item) {
        bytes.extend_from_slice(&replica(mailbox));
        bytes.extend_from_slice(&number.to_be_bytes()[2..]);
        bytes.extend_from_slice(&[0; 2]);
    }
    bytes
}

fn wrap(style: Style, mailbox: Guid, entry: Vec<u8>) -> String {
    let mut bytes = Vec::with_capacity(113);
    match style {
        Style::Exchange => {
            bytes.extend_from_slice(&[0, 3, 0x24, 0]);
            bytes.extend_from_slice(guid_text(mailbox).as_bytes());
            bytes.extend_from_slice(&(entry.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&entry);
            bytes.push(0);
        }
        Style::Gromox => {
            bytes.extend_from_slice(&entry);
            bytes.push(if entry.len() == 46 { 2 } else { 3 });
        }
    }
    BASE64.encode(bytes)
}

pub(super) fn guid_text(guid: Guid) -> String {
    let hex: String = guid.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id that does not lead back to its item, or one that is nobody's and is taken for somebody's, makes the
    /// simulator answer for the wrong item.
    #[test]
    fn ids_lead_back_and_nothing_else_passes() {
        let mailbox = guid_of("ada@example.test");
        for style in [Style::Exchange, Style::Gromox] {
            let id = item_id(style, mailbox, 13, 7_000_001);
            assert_eq!(parse(style, &id), Some(Entry::Item { mailbox, folder: 13, item: 7_000_001 }));
            let folder = folder_id(style, mailbox, 13);
            assert_eq!(parse(style, &folder), Some(Entry::Folder { mailbox, folder: 13 }));
            assert_eq!(parse(style, &id[..id.len() - 4]), None);
            assert_eq!(parse(style, "AAMkAD"), None);
            assert_eq!(parse(style, ""), None);
            let sub = subscription_id(style, 0, 1, 5, mailbox, 1);
            assert!(is_subscription_id(style, &sub) && !is_subscription_id(style, "AAAA"));
        }
        assert_eq!(item_id(Style::Exchange, mailbox, 13, 1).len(), 152);
        assert_eq!(watermark(mailbox, 4).len(), 40);
        assert_eq!(parse_watermark(mailbox, &watermark(mailbox, 4)), Some(4));
        assert_eq!(parse_watermark(guid_of("other"), &watermark(mailbox, 4)), None);
    }
}
