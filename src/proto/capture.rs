//! Captured bytes → the XML in them: a body as it is, or raw HTTP responses with their heads and chunk framing.
//!
//! For looking at what was recorded, so it takes what there is: a capture may begin with other lines, such as the request,
//! may have lost its carriage returns, and may end anywhere.

use memchr::{memchr, memmem};

use super::xml::excerpt;

/// What a capture holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capture {
    /// The bodies in it, in their order.
    pub parts: Vec<Part>,
    /// What could not be read of the framing; what is in the bodies is for others to say.
    pub problems: Vec<Problem>,
}

/// A body, without chunk framing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// The HTTP status; None for a capture without heads.
    pub status: Option<u16>,
    /// The body, or what there is of it.
    pub bytes: Vec<u8>,
    /// Where pieces of the body stand: offset in the body, offset in the capture.
    pieces: Vec<(usize, usize)>,
}

impl Part {
    /// Where a byte of the body stands in the capture.
    pub fn offset_in_capture(&self, in_body: u64) -> u64 {
        let (body, capture) =
            self.pieces.iter().rev().find(|(body, _)| *body as u64 <= in_body).copied().unwrap_or_default();
        capture as u64 + (in_body - body as u64)
    }

    fn take(&mut self, capture: &[u8], from: usize, to: usize) {
        self.pieces.push((self.bytes.len(), from));
        self.bytes.extend_from_slice(&capture[from..to]);
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where, in the capture.
    pub offset: u64,
    /// What.
    pub text: String,
}

/// Takes a capture apart.
///
/// ```
/// use ewsnotify::proto::capture;
/// let found = capture::split(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<a/>\r\n4\r\n<b/");
/// assert_eq!(found.parts[0].bytes, b"<a/><b/");
/// assert!(found.problems[0].text.contains("ends inside a chunk"));
/// ```
pub fn split(bytes: &[u8]) -> Capture {
    let mut capture = Capture::default();
    let mut at = match begins_as_xml(bytes) {
        true => None,
        false => next_response(bytes, 0),
    };
    if at.is_none() && !bytes.is_empty() {
        let mut part = Part::default();
        part.take(bytes, 0, bytes.len());
        capture.parts.push(part);
    }
    while let Some(start) = at {
        let end = response(bytes, start, &mut capture);
        at = next_response(bytes, end);
        let rest = &bytes[end..at.unwrap_or(bytes.len())];
        if !is_filler(rest) {
            capture.problem(end, format!("bytes after the end of a response: {}", excerpt(rest)));
        }
    }
    capture
}

impl Capture {
    fn problem(&mut self, offset: usize, text: impl Into<String>) {
        self.problems.push(Problem { offset: offset as u64, text: text.into() });
    }
}

fn begins_as_xml(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start().starts_with(b"<")
        && !bytes.starts_with(b"<<<") // a mark of a recording
}

/// Where the next status line stands.
fn next_response(bytes: &[u8], from: usize) -> Option<usize> {
    let status_line = b"HTTP/";
    if bytes[from..].starts_with(status_line) {
        return Some(from);
    }
    memmem::find(&bytes[from..], b"\nHTTP/").map(|at| from + at + 1)
}

/// White space, and lines of comment as recorders write them.
fn is_filler(bytes: &[u8]) -> bool {
    bytes.split(|b| *b == b'\n').all(|line| line.trim_ascii().is_empty() || line.starts_with(b"#"))
}

/// Reads the response that starts here, and says where it ends.
fn response(bytes: &[u8], start: usize, capture: &mut Capture) -> usize {
    let Some(body) = end_of_head(bytes, start) else {
        capture.problem(start, "a response's head without its end");
        return bytes.len();
    };
    let head = String::from_utf8_lossy(&bytes[start..body]);
    let status: Option<u16> = head.split_ascii_whitespace().nth(1).and_then(|code| code.parse().ok());
    let header = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    if let Some(encoding) = header("Content-Encoding").filter(|e| e != "identity") {
        let text = format!(
            "the body is compressed ({}); record it with Accept-Encoding: identity",
            excerpt(encoding.as_bytes())
        );
        capture.problem(start, text);
    }
    let mut part = Part { status, ..Part::default() };
    let end = if matches!(status, Some(100..200 | 204 | 304)) {
        return body;
    } else if header("Transfer-Encoding").is_some_and(|te| te.contains("chunked")) {
        chunks(bytes, body, &mut part, capture)
    } else {
        let length = header("Content-Length").and_then(|n| n.parse::<usize>().ok());
        let there = bytes.len() - body;
        if let Some(length) = length.filter(|n| *n > there) {
            capture.problem(
                bytes.len(),
                format!("the capture ends inside a body: {there} of {length} bytes are there"),
            );
        }
        let end = body + length.unwrap_or(there).min(there);
        part.take(bytes, body, end);
        end
    };
    capture.parts.push(part);
    end
}

/// Where the body begins: behind the first empty line.
fn end_of_head(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let end = at + memchr(b'\n', &bytes[at..])?;
        if bytes[at..end].trim_ascii().is_empty() {
            return Some(end + 1);
        }
        at = end + 1;
    }
}

fn chunks(bytes: &[u8], mut at: usize, part: &mut Part, capture: &mut Capture) -> usize {
    loop {
        let line_end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n);
        let line = &bytes[at..line_end];
        let size = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let data = (line_end + 1).min(bytes.len());
        match size {
            // Trailers, up to an empty line.
            Some(0) => return end_of_head(bytes, data).unwrap_or(data),
            Some(size) => {
                let end = data.saturating_add(size).min(bytes.len());
                part.take(bytes, data, end);
                if end - data < size {
                    capture.problem(
                        end,
                        format!("the capture ends inside a chunk: {} of {size} bytes are there", end - data),
                    );
                    return end;
                }
                at = end + bytes[end..].iter().take(2).take_while(|b| matches!(b, b'\r' | b'\n')).count();
            }
            None if is_filler(&bytes[at..]) => {
                capture.problem(at, "the body ends without its last chunk");
                return at;
            }
            None => {
                capture.problem(at, format!("no chunk's size where one was expected: {}", excerpt(line)));
                return next_response(bytes, at).unwrap_or(bytes.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(capture: &Capture) -> Vec<(Option<u16>, &str)> {
        capture.parts.iter().map(|p| (p.status, std::str::from_utf8(&p.bytes).unwrap())).collect()
    }

    // A capture that cannot be taken apart cannot be looked at.
    #[test]
    fn each_kind_of_capture() {
        let plain = split(b" <a/>\n<b/>");
        assert_eq!((bodies(&plain), plain.problems.len()), (vec![(None, " <a/>\n<b/>")], 0));
        assert_eq!(split(b""), Capture::default());
        assert_eq!(bodies(&split(b"text")), [(None, "text")]);

        let http = split(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\ncontent-LENGTH: 4\r\n\r\n<a/>HTTP/1.1 200 OK\r\n\r\n<b/>");
        assert_eq!((bodies(&http), http.problems.len()), (vec![(Some(500), "<a/>"), (Some(200), "<b/>")], 0));

        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n<a\r\n2\r\n/>\r\n0\r\n\r\n";
        let recorded =
            [b"# note\n>>>>> POST / HTTP/1.1\nHost: a\n\n<x/>\n<<<<<\n", &chunked[..], b"\n##### END\n"]
                .concat();
        let without_returns: Vec<u8> = chunked.iter().copied().filter(|b| *b != b'\r').collect();
        for bytes in [chunked.to_vec(), recorded, without_returns] {
            let found = split(&bytes);
            assert_eq!(bodies(&found), [(Some(200), "<a/>")], "{}", bytes.escape_ascii());
            assert_eq!(found.problems, []);
            let at = found.parts[0].offset_in_capture(2) as usize;
            assert_eq!(&bytes[at..at + 2], b"/>");
        }
    }

    // What was recorded before a break is what one looks for; and where it broke.
    #[test]
    fn what_is_broken_gives_what_there_is_and_says_where() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (bytes, body, at, word) in [
            (format!("{head}4\r\n<a/>\r\n9\r\n<b"), "<a/><b", 61, "2 of 9"),
            (format!("{head}4\r\n<a/>\r\n"), "<a/>", 56, "without its last chunk"),
            (format!("{head}4\r\n<a/>\r\nzz\r\n<b/>"), "<a/>", 56, "\"zz\\r\""),
            (format!("{head}FFFFFFFFFFFFFFFF\r\n<a/>"), "<a/>", 69, "inside a chunk"),
            (format!("{head}0\r\n\r\nmore"), "", 52, "\"more\""),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<a/>".into(), "<a/>", 42, "4 of 9"),
            ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n<a/>".into(), "<a/>", 0, "compressed"),
        ] {
            let found = split(bytes.as_bytes());
            assert_eq!(bodies(&found), [(Some(200), body)], "{bytes}");
            assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
            assert_eq!(found.problems[0].offset, at, "{:?}", found.problems);
            assert!(found.problems[0].text.contains(word), "{:?}", found.problems);
        }
        assert_eq!(split(b"HTTP/1.1 200 OK\r\nA: b").problems[0].offset, 0);
    }

    // A crash on somebody's broken recording.
    #[test]
    fn any_bytes_are_taken() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let words: [&[u8]; 12] = [
            b"HTTP/1.1 200 OK",
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"Transfer-Encoding: chunked",
            b"Content-Length: ",
            b"4",
            b"<a/>",
            b"0",
            b"#",
            b"FFFFFFFFFFFFFFFF",
            b"\xFF",
        ];
        for _ in 0..20_000 {
            let bytes: Vec<u8> =
                (0..rng.usize(..16)).flat_map(|_| words[rng.usize(..words.len())]).copied().collect();
            let found = split(&bytes);
            assert!(found.parts.iter().map(|p| p.bytes.len()).sum::<usize>() <= bytes.len(), "seed {seed}");
            assert!(found.problems.iter().all(|p| p.offset <= bytes.len() as u64), "seed {seed}");
        }
    }
}
