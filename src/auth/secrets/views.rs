//! The forms in which a text may have a secret: the text itself, without escapes, and what its base64 and hex stand for.

use std::ops::Range;

use zeroize::Zeroizing;

/// Fewer digits hold nothing that is looked for.
const FEWEST_DIGITS: usize = 8;

/// Bytes, and where in the text each of them is from.
pub(super) struct View<'a> {
    bytes: Source<'a>,
    /// None where they are the text itself.
    spans: Option<Vec<Range<u32>>>,
    packed: bool,
}

enum Source<'a> {
    Text(&'a [u8]),
    Made(Zeroizing<Vec<u8>>),
}

impl View<'_> {
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Source::Text(bytes) => bytes,
            Source::Made(bytes) => bytes,
        }
    }

    /// Whether it was base64 or hex, so that a few bytes in it are many letters.
    pub fn is_packed(&self) -> bool {
        self.packed
    }

    /// Where bytes are from.
    pub fn origin(&self, range: Range<usize>) -> Range<usize> {
        match &self.spans {
            None => range,
            Some(spans) => {
                let (first, last) = (&spans[range.start], &spans[range.end - 1]);
                first.start as usize..last.end as usize
            }
        }
    }

    fn span(&self, at: usize) -> Range<u32> {
        match &self.spans {
            None => at as u32..at as u32 + 1,
            Some(spans) => spans[at].clone(),
        }
    }
}

/// Shows every form: escapes are taken off up to twice, in any order.
pub(super) fn each(text: &[u8], see: &mut dyn FnMut(&View<'_>)) {
    let mut views = vec![View { bytes: Source::Text(text), spans: None, packed: false }];
    for _ in 0..2 {
        let mut plainer = Vec::new();
        for view in &views {
            see(view);
            packed(view, see);
            plainer.extend([percent, entity, backslash].iter().filter_map(|escape| without(view, *escape)));
        }
        views = plainer;
    }
    for view in &views {
        see(view);
        packed(view, see);
    }
}

/// What an escape at the beginning stands for, and how long it is.
type Escape = fn(&[u8]) -> Option<(char, usize)>;

/// The view without these escapes, if it has any.
fn without(view: &View<'_>, escape: Escape) -> Option<View<'static>> {
    let bytes = view.bytes();
    let begins = |b: &u8| matches!(b, b'%' | b'+' | b'&' | b'\\');
    let first = bytes.iter().enumerate().find(|(at, b)| begins(b) && escape(&bytes[*at..]).is_some())?.0;
    let mut made = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut spans = Vec::with_capacity(bytes.len());
    made.extend_from_slice(&bytes[..first]);
    spans.extend((0..first).map(|at| view.span(at)));
    let mut at = first;
    while at < bytes.len() {
        let found = if begins(&bytes[at]) { escape(&bytes[at..]) } else { None };
        let (c, length) = found.unwrap_or((char::from(bytes[at]), 1));
        let span = view.span(at).start..view.span(at + length - 1).end;
        match found {
            // A byte of its own, as UTF-8 or not.
            Some(_) if length == 3 && bytes[at] == b'%' => made.push(c as u8),
            Some(_) => made.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => made.push(bytes[at]),
        }
        spans.resize(made.len(), span);
        at += length;
    }
    Some(View { bytes: Source::Made(made), spans: Some(spans), packed: false })
}

/// Of a URL or a form (RFC 3986 section 2.1).
fn percent(bytes: &[u8]) -> Option<(char, usize)> {
    match bytes {
        [b'%', high, low, ..] => Some((char::from(digit(*high)? << 4 | digit(*low)?), 3)),
        [b'+', ..] => Some((' ', 1)),
        _ => None,
    }
}

/// Of XML and HTML.
fn entity(bytes: &[u8]) -> Option<(char, usize)> {
    let rest = bytes.strip_prefix(b"&")?;
    let length = rest.iter().take(12).position(|b| *b == b';')?;
    let name = std::str::from_utf8(&rest[..length]).ok()?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((c, length + 2))
}

/// Of JSON (RFC 8259 section 7), and of our own texts, which show what strangers say as `char::escape_debug` does.
fn backslash(bytes: &[u8]) -> Option<(char, usize)> {
    let rest = bytes.strip_prefix(b"\\")?;
    let hex =
        |digits: &[u8]| digits.iter().try_fold(0u32, |n, b| Some(n.checked_mul(16)? + u32::from(digit(*b)?)));
    let c = match rest {
        [b'u', b'{', code @ ..] => {
            let length = code.iter().take(7).position(|b| *b == b'}')?;
            return Some((char::from_u32(hex(&code[..length])?)?, length + 4));
        }
        [b'u', code @ ..] => {
            let first = hex(code.get(..4)?)?;
            return match (char::from_u32(first), code.get(4..10)) {
                (Some(c), _) => Some((c, 6)),
                (None, Some([b'\\', b'u', second @ ..])) => {
                    let units = [u16::try_from(first).ok()?, u16::try_from(hex(second)?).ok()?];
                    Some((char::decode_utf16(units).next()?.ok()?, 12))
                }
                _ => None,
            };
        }
        [b'b', ..] => '\u{8}',
        [b'f', ..] => '\u{c}',
        [b'n', ..] => '\n',
        [b'r', ..] => '\r',
        [b't', ..] => '\t',
        [b'0', ..] => '\0',
        [c @ (b'"' | b'\'' | b'\\' | b'/'), ..] => char::from(*c),
        _ => return None,
    };
    Some((c, 2))
}

/// What the runs of base64 and of hex stand for, from whichever letter on they are read.
fn packed(view: &View<'_>, see: &mut dyn FnMut(&View<'_>)) {
    let bytes = view.bytes();
    let mut at = 0;
    while at < bytes.len() {
        // A line of it may be broken; where it begins, no break counts.
        let run: Vec<usize> = (at..bytes.len())
            .take_while(|i| sextet(bytes[*i]).is_some() || (*i > at && matches!(bytes[*i], b'\r' | b'\n')))
            .filter(|i| sextet(bytes[*i]).is_some())
            .collect();
        let Some(last) = run.last() else {
            at += 1;
            continue;
        };
        at = last + 1;
        if run.len() >= FEWEST_DIGITS {
            for from in 0..4 {
                unpack(view, &run[from..], 6, |b| sextet(b).unwrap_or_default(), see);
            }
            let mut digits = &run[..];
            while let Some(begin) = digits.iter().position(|i| digit(bytes[*i]).is_some()) {
                digits = &digits[begin..];
                let length = digits.iter().take_while(|i| digit(bytes[**i]).is_some()).count();
                if length >= FEWEST_DIGITS {
                    for from in 0..2 {
                        unpack(view, &digits[from..length], 4, |b| digit(b).unwrap_or_default(), see);
                    }
                }
                digits = &digits[length..];
            }
        }
    }
}

/// Digits of so many bits each, as bytes.
fn unpack(
    view: &View<'_>,
    digits: &[usize],
    bits: usize,
    value: fn(u8) -> u8,
    see: &mut dyn FnMut(&View<'_>),
) {
    let bytes = view.bytes();
    let length = digits.len() * bits / 8;
    let mut made = Zeroizing::new(Vec::with_capacity(length));
    let (mut held, mut n) = (0u32, 0);
    for at in digits {
        held = held << bits | u32::from(value(bytes[*at]));
        n += bits;
        if n >= 8 {
            n -= 8;
            made.push((held >> n) as u8);
            held &= (1 << n) - 1;
        }
    }
    let span = |k: usize| {
        let (first, last) = (digits[k * 8 / bits], digits[(k * 8 + 7) / bits]);
        view.span(first).start..view.span(last).end
    };
    let spans = Some((0..made.len()).map(span).collect());
    see(&View { bytes: Source::Made(made), spans, packed: true });
}

fn digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|d| d as u8)
}

/// Of base64, of either alphabet (RFC 4648 sections 4 and 5).
fn sextet(b: u8) -> Option<u8> {
    Some(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}
