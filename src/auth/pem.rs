//! Private keys out of PEM: wiped when they go, and no word of them in an error.

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error, PemObject};
use zeroize::Zeroizing;

/// The private key in a PEM text, or what is wrong with it.
pub(crate) fn private_key(text: &[u8]) -> Result<Zeroizing<PrivateKeyDer<'static>>, &'static str> {
    PrivateKeyDer::from_pem_slice(text).map(Zeroizing::new).map_err(|e| why(&e))
}

/// What is wrong with a PEM text. The parser's own words quote the line, which may be the key: all of it, where its line ends are lost.
pub(crate) fn why(error: &Error) -> &'static str {
    match error {
        Error::NoItemsFound => "there is none in it",
        Error::MissingSectionEnd { .. } => "it is cut off: there is no END line",
        Error::IllegalSectionStart { .. } => "a BEGIN line is broken: has it lost its line end?",
        Error::Base64Decode(_) => "what stands between BEGIN and END is no base64",
        _ => "it cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::private_key;

    // A key that was pasted into one line is a mistake of every day; its error goes into a ticket.
    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let key = include_str!("../../tests/oauth/app-key.pem");
        assert!(private_key(key.as_bytes()).is_ok());
        let body = key.lines().nth(3).unwrap();
        for (text, wanted) in [
            (String::new(), "none in it"),
            (key.replace("-----END", "-----"), "END"),
            (key.replace("KEY-----\n", "KEY----- "), "BEGIN line"),
            (key.replacen(&body[..8], "a*b?c=d!", 1), "base64"),
        ] {
            let why = private_key(text.as_bytes()).unwrap_err();
            assert!(why.contains(wanted), "{wanted}: {why}");
        }
    }
}
