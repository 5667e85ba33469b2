//! A string that must not be seen: wiped when dropped, `***` in every print, not to be serialised.

use std::fmt;
use std::sync::{Arc, Weak};

use zeroize::Zeroizing;

/// A password, a token, or the value of an `Authorization` header. A clone shares the bytes: there is one copy, wiped with the
/// last of its owners.
///
/// ```
/// let secret = ewsnotify::auth::Secret::new("hunter2");
/// assert_eq!(format!("{secret:?}"), "***");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

/// A secret that somebody else owns, for as long as he does.
pub(super) type Borrowed = Weak<Zeroizing<String>>;

impl Secret {
    /// Takes the string over. The bytes are wiped when this and its clones are dropped; copies that the caller keeps are his.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Arc::new(Zeroizing::new(text.into())))
    }

    /// The string itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn borrow(&self) -> Borrowed {
        Arc::downgrade(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    // A password in a log file is a password for everybody who reads logs.
    #[test]
    fn no_print_shows_it() {
        let secret = Secret::new("hunter2");
        let shown = format!("{secret:?} {secret:#?} {secret} {:?}", Some(vec![secret.clone()]));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(secret.expose(), "hunter2");
    }
}
