//! What may stand before the root element: a byte order mark, white space, the XML declaration.

use super::excerpt;

/// The bytes from behind the byte order mark, white space and XML declaration on. An error text if the encoding is not
/// one that we read.
pub(crate) fn skip_prolog(bytes: &[u8]) -> Result<&[u8], String> {
    if bytes.starts_with(&[0xFF, 0xFE])
        || bytes.starts_with(&[0xFE, 0xFF])
        || bytes.iter().take(2).any(|b| *b == 0)
    {
        return Err("the encoding is UTF-16 or UTF-32; only UTF-8 is understood".into());
    }
    let rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    if !is_declaration(rest) {
        return Ok(rest);
    }
    let end = memchr::memmem::find(rest, b"?>").ok_or("the XML declaration has no end")?;
    check_encoding(&rest[..end])?;
    Ok(rest[end + 2..].trim_ascii_start())
}

/// Whether an XML declaration begins here, not just any processing instruction.
fn is_declaration(bytes: &[u8]) -> bool {
    bytes.starts_with(b"<?xml") && bytes.get(5).is_some_and(|b| b.is_ascii_whitespace() || *b == b'?')
}

/// Looks at the encoding that an XML declaration (`<?xml …`, without its `?>`) names. Everything but UTF-8 and its subset
/// US-ASCII is refused: no Exchange speaks it, and guessing would corrupt names and ids.
pub(crate) fn check_encoding(declaration: &[u8]) -> Result<(), String> {
    let Some(at) = memchr::memmem::find(declaration, b"encoding") else { return Ok(()) };
    let value = declaration[at + b"encoding".len()..].trim_ascii_start();
    let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
    let quote = value.first().copied().filter(|q| matches!(q, b'"' | b'\''));
    let name = match quote {
        Some(quote) => value[1..].split(|b| *b == quote).next().unwrap_or_default(),
        None => value,
    };
    let known: [&[u8]; 4] = [b"utf-8", b"utf8", b"us-ascii", b"ascii"];
    if known.iter().any(|k| name.eq_ignore_ascii_case(k)) {
        return Ok(());
    }
    Err(format!("the encoding is {}; only UTF-8 is understood", excerpt(name)))
}

/// Whether the bytes begin as a web page does.
pub(crate) fn looks_like_html(bytes: &[u8]) -> bool {
    let starts = |with: &[u8]| bytes.get(..with.len()).is_some_and(|b| b.eq_ignore_ascii_case(with));
    starts(b"<html") || starts(b"<!doctype html")
}

#[cfg(test)]
mod tests {
    use super::*;

    // A declared encoding that is ignored turns ids into others without a word.
    #[test]
    fn encodings() {
        for good in [
            "",
            " version='1.0'",
            " version=\"1.0\" encoding=\"UTF-8\"",
            " encoding = 'utf-8' standalone='yes'",
        ] {
            let xml = format!("\u{FEFF} \n<?xml{good}?>\n<a/>");
            assert_eq!(skip_prolog(xml.as_bytes()), Ok(&b"<a/>"[..]), "{good}");
        }
        for bad in ["encoding='UTF-16'", "encoding=\"iso-8859-1\"", "encoding=windows-1252", "encoding"] {
            let xml = format!("<?xml version='1.0' {bad}?><a/>");
            assert!(skip_prolog(xml.as_bytes()).unwrap_err().contains("only UTF-8"), "{bad}");
        }
        assert!(skip_prolog(b"\xFF\xFE<\0a\0").unwrap_err().contains("UTF-16"));
        assert!(skip_prolog(b"<\0a\0/\0>\0").unwrap_err().contains("UTF-16"));
        assert_eq!(skip_prolog(b"<?xml-stylesheet?><a/>"), Ok(&b"<?xml-stylesheet?><a/>"[..]));
        assert_eq!(skip_prolog(b""), Ok(&b""[..]));
    }
}
