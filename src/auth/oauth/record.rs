//! What is stored of an account: as JSON, so that other programs of the host's can read it in need.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::auth::{Secret, is_token};
use crate::{Error, ErrorKind, Result};

/// No record is longer.
pub const MAX_BYTES: usize = 256 * 1024;
const VERSION: u32 = 1;

/// What survives a restart, and what the processes of one account share.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Whose it is: [`Account::id`](super::Account::id).
    pub account: String,
    /// By which the refresh token is known that the host had given when this was stored.
    pub given: Option<String>,
    /// The newest refresh token.
    pub refresh_token: Option<Secret>,
    /// The newest access token.
    pub access_token: Option<Secret>,
    /// When that came.
    pub since: SystemTime,
    /// When it ends.
    pub until: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    account: String,
    given: Option<String>,
    refresh_token: Option<String>,
    access_token: Option<String>,
    /// In milliseconds since 1970.
    since: u64,
    until: u64,
}

impl Drop for Text {
    fn drop(&mut self) {
        self.refresh_token.zeroize();
        self.access_token.zeroize();
    }
}

impl Record {
    /// As text.
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        let millis = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let text = Text {
            version: VERSION,
            account: self.account.clone(),
            given: self.given.clone(),
            refresh_token: self.refresh_token.as_ref().map(|t| t.expose().to_owned()),
            access_token: self.access_token.as_ref().map(|t| t.expose().to_owned()),
            since: millis(self.since),
            until: millis(self.until),
        };
        let length = |text: &Option<Secret>| text.as_ref().map_or(0, |t| t.expose().len());
        // Enough for all of it: a buffer that grows leaves copies behind that nobody wipes. Tokens have no escapes.
        let room = 1024 + length(&self.refresh_token) + length(&self.access_token) + self.account.len();
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        // Nothing in it can fail to be written.
        let _ = serde_json::to_writer_pretty(&mut *out, &text);
        out.push(b'\n');
        out
    }

    /// Reads it, for `account`.
    ///
    /// # Errors
    /// `State` for what is none, is of another account, or of a newer version of the library; what is in it is not repeated.
    pub fn read(bytes: &[u8], account: &str) -> Result<Record> {
        let bad = |what: &str| Err(Error::new(ErrorKind::State, what.to_owned()));
        let text: Option<Text> =
            (bytes.len() <= MAX_BYTES).then(|| serde_json::from_slice(bytes).ok()).flatten();
        let Some(mut text) = text else { return bad("it is damaged: no JSON of stored tokens") };
        if text.version != VERSION {
            return bad("it is of another version of this library");
        }
        if text.account != account {
            return bad("it is of another account");
        }
        let at = |millis: u64| UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH);
        let token = |text: &mut Option<String>| {
            let token = text.take().map(Secret::new);
            token.filter(|t| is_token(t.expose()))
        };
        Ok(Record {
            account: std::mem::take(&mut text.account),
            given: text.given.take(),
            refresh_token: token(&mut text.refresh_token),
            access_token: token(&mut text.access_token),
            since: at(text.since),
            until: at(text.until),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A file that a power cut has cut, or somebody has edited, must be told as such; a panic would take the host down.
    #[test]
    fn what_is_damaged_is_told_and_never_shown() {
        let record = Record {
            account: "acc".into(),
            given: Some("g".into()),
            refresh_token: Some(Secret::new("hunter2-refresh")),
            access_token: Some(Secret::new("hunter2-access")),
            since: UNIX_EPOCH + Duration::from_millis(1_234_567),
            until: UNIX_EPOCH + Duration::from_millis(5_000_000),
        };
        let whole = record.write();
        assert_eq!(Record::read(&whole, "acc").unwrap(), record);
        assert!(Record::read(&whole, "other").unwrap_err().to_string().contains("another account"));
        for end in 0..whole.len() - 2 {
            let e = Record::read(&whole[..end], "acc").unwrap_err();
            assert!(e.kind() == ErrorKind::State && !e.to_string().contains("hunter2"), "{e}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let mut bytes = whole.to_vec();
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            let _ = Record::read(&bytes, "acc");
        }
        let far = br#"{"version":1,"account":"acc","given":null,"refresh_token":null,"access_token":null,"since":18446744073709551615,"until":18446744073709551615}"#;
        assert!(Record::read(far, "acc").is_ok());
    }
}
