//! Makes legal what servers write although XML forbids it: character references such as `&#x0;`, control characters, bytes
//! that are not UTF-8. Each becomes U+FFFD, as the body of a mail must not cost the mail.

use std::borrow::Cow;

use super::is_xml_char;

/// How much longer the text may become than the bytes; beyond, it is no text at all.
const MOST_GROWTH: usize = 1 << 20;

/// The text, borrowed where nothing had to be changed; None if nearly nothing of it is text.
pub(super) fn repair(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_xml_char) => Cow::Borrowed(text),
        _ => replace_characters(bytes)?.into(),
    };
    Some(match has_bad_reference(&text) {
        true => replace_references(&text).into(),
        false => text,
    })
}

fn replace_characters(bytes: &[u8]) -> Option<String> {
    let most = bytes.len() + (2 * bytes.len()).min(MOST_GROWTH);
    let mut out = String::with_capacity(most);
    for chunk in bytes.utf8_chunks() {
        if out.len() + chunk.valid().len() > most {
            return None;
        }
        for c in chunk.valid().chars() {
            out.push(if is_xml_char(c) { c } else { '\u{FFFD}' });
        }
        if !chunk.invalid().is_empty() {
            out.push('\u{FFFD}');
        }
    }
    (out.len() <= most).then_some(out)
}

fn has_bad_reference(text: &str) -> bool {
    memchr::memmem::find_iter(text.as_bytes(), b"&#").any(|at| bad_reference(&text[at..]).is_some())
}

/// Replaces bad references; not inside comments, CDATA and processing instructions, where they are no references.
fn replace_references(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'&', b'<', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let literal = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")]
            .iter()
            .find(|(start, _)| rest.starts_with(start));
        let length = match (literal, bad_reference(rest)) {
            (Some((start, end)), _) => {
                rest[start.len()..].find(end).map_or(rest.len(), |n| start.len() + n + end.len())
            }
            (None, Some(length)) => {
                out.push('\u{FFFD}');
                rest = &rest[length..];
                continue;
            }
            (None, None) => 1,
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// The length of the character reference at the start, if it names a character that XML does not have.
fn bad_reference(text: &str) -> Option<usize> {
    let body = text.strip_prefix("&#")?;
    let hex = body.strip_prefix(['x', 'X']);
    let digits = hex.unwrap_or(body);
    let radix = if hex.is_some() { 16 } else { 10 };
    let count = digits.bytes().take_while(|b| (*b as char).is_digit(radix)).count();
    if count == 0 || digits.as_bytes().get(count) != Some(&b';') {
        return None; // no reference at all: the reader says so
    }
    let good =
        u32::from_str_radix(&digits[..count], radix).ok().and_then(char::from_u32).is_some_and(is_xml_char);
    (!good).then(|| text.len() - digits.len() + count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A NUL in somebody's mail would make the whole answer unreadable.
    #[test]
    fn what_xml_forbids_becomes_a_replacement_character() {
        for (from, to) in [
            (
                &b"<a>&#x0;&#31;&#xD800;&#xFFFE;&#x110000;&#99999999999;</a>"[..],
                "<a>\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}</a>",
            ),
            (b"<a b='&#X1f;'/>", "<a b='\u{FFFD}'/>"),
            (b"<a>\x00\x1F\x7F\xEF\xBF\xBE</a>", "<a>\u{FFFD}\u{FFFD}\x7F\u{FFFD}</a>"),
            (b"<a>\xFF\xC3(</a>", "<a>\u{FFFD}\u{FFFD}(</a>"),
            (
                b"<!--&#0;--><![CDATA[&#0;]]><?p &#0;?>&#0;<![CDATA[&#0;",
                "<!--&#0;--><![CDATA[&#0;]]><?p &#0;?>\u{FFFD}<![CDATA[&#0;",
            ),
        ] {
            assert_eq!(repair(from).unwrap(), to);
        }
    }

    // Four times the memory of an answer, for something that is no text.
    #[test]
    fn what_is_no_text_is_given_up() {
        assert_eq!(repair(&vec![0xFF; 2 << 20]), None);
        assert_eq!(repair(&vec![0; 2 << 20]), None);
        assert!(repair(&vec![0xFF; 1 << 10]).is_some());
    }

    // What is good already must stay byte for byte, and cost nothing.
    #[test]
    fn good_text_is_borrowed() {
        for good in ["<a>&#xD;&#10;&amp;é\u{1F600}</a>", "&#;", "&#x", "&#12", "", "<![CDATA[x"] {
            assert!(matches!(repair(good.as_bytes()), Some(Cow::Borrowed(s)) if s == good), "{good}");
        }
    }
}
