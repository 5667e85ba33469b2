//! `ewsnotify decode`: what captured answers say, as JSON lines.
//!
//! XML is read as a stream, in bounded memory: each envelope is printed as soon as its last byte came. A capture with HTTP
//! heads is read whole first.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ewsnotify::proto::capture::{self, Part};
use ewsnotify::proto::{FrameError, FrameLimits, Framer, read_envelope};
use serde::Serialize;

use crate::failure::{Failure, Outcome, warn};
use crate::output::print;
use crate::text::{clean, clean_json};
use crate::wire;

const HELP: &str = "\
Examples:
  ewsnotify decode stream.txt
  curl -sN -u ada@example.com -H 'Content-Type: text/xml' -d @request.xml \\
       https://mail.example.com/EWS/Exchange.asmx | ewsnotify decode -

What cannot be read is told on stderr, with its place in the capture, and the command ends with 1 after it has printed all
else.";

/// The largest capture with HTTP heads.
const LARGEST: u64 = 1 << 30;

/// Print what captured answers of a server say, as JSON lines
///
/// Takes one envelope, a stream of envelopes, or raw HTTP answers with their heads and chunk framing. Events come in the
/// form that `watch --json` prints, with what only the wire has: subscription, watermarks, and the type Status.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The file; - for standard input
    file: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    let (name, mut input): (String, Box<dyn Read>) = if args.file == Path::new("-") {
        ("standard input".into(), Box::new(io::stdin().lock()))
    } else {
        let name = args.file.display().to_string();
        let file = File::open(&args.file).map_err(|e| Failure::failed(format!("cannot open {name}: {e}")))?;
        (name, Box::new(file))
    };
    let unreadable = |e: io::Error| Failure::failed(format!("cannot read {name}: {e}"));
    let mut decode = Decode { bad: false };
    // Enough to see what it is.
    let mut bytes = Vec::new();
    while bytes.trim_ascii_start().len() < 8 && fill(&mut input, &mut bytes).map_err(unreadable)? {}
    if is_xml(&bytes) {
        let mut framer = Framer::new(FrameLimits::default());
        let same = |offset| offset;
        loop {
            framer.push(&bytes);
            decode.envelopes(&mut framer, &same)?;
            bytes.clear();
            if !fill(&mut input, &mut bytes).map_err(unreadable)? {
                break;
            }
        }
        decode.end(&mut framer, &same);
    } else {
        input.take(LARGEST + 1 - bytes.len() as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Failure::failed(format!(
                "{name} is longer than {LARGEST} bytes, the most for a capture with HTTP heads"
            )));
        }
        decode.capture(&bytes)?;
    }
    if decode.bad { Err(Failure::said()) } else { Ok(()) }
}

struct Decode {
    bad: bool,
}

/// An answer that says something by its head.
#[derive(Serialize)]
struct Head {
    r#type: &'static str,
    http_status: u16,
}

impl Decode {
    fn capture(&mut self, bytes: &[u8]) -> Outcome {
        if bytes.trim_ascii().is_empty() {
            self.problem(0, "there is nothing in it");
        }
        let capture = capture::split(bytes);
        for part in &capture.parts {
            self.part(part)?;
        }
        for problem in &capture.problems {
            self.problem(problem.offset, &problem.text);
        }
        Ok(())
    }

    fn part(&mut self, part: &Part) -> Outcome {
        if let Some(http_status) = part.status.filter(|status| *status != 200 || part.bytes.is_empty()) {
            put(&Head { r#type: "Http", http_status })?;
        }
        // The page of a proxy, or a plain text, that goes with an error.
        if part.status.is_some_and(|status| status != 200) && !is_xml(&part.bytes) {
            return Ok(());
        }
        let mut framer = Framer::new(FrameLimits::default());
        let place = |offset| part.offset_in_capture(offset);
        for piece in part.bytes.chunks(64 * 1024) {
            framer.push(piece);
            self.envelopes(&mut framer, &place)?;
        }
        self.end(&mut framer, &place);
        Ok(())
    }

    fn envelopes(&mut self, framer: &mut Framer, place: &dyn Fn(u64) -> u64) -> Outcome {
        loop {
            let Some(found) = framer.next() else { return Ok(()) };
            let read = match found {
                Ok(bytes) => read_envelope(bytes).map_err(|e| (bytes.len() as u64, e)),
                Err(e) => {
                    self.frame_problem(&e, place);
                    continue;
                }
            };
            match read {
                Ok(envelope) => {
                    for line in wire::lines(envelope) {
                        put(&line)?;
                    }
                }
                Err((length, e)) => {
                    let start = framer.offset().saturating_sub(length);
                    self.problem(place(start), &format!("an envelope of {length} bytes: {e}"));
                }
            }
        }
    }

    fn end(&mut self, framer: &mut Framer, place: &dyn Fn(u64) -> u64) {
        if let Some(e) = framer.finish() {
            self.frame_problem(&e, place);
        }
    }

    fn frame_problem(&mut self, e: &FrameError, place: &dyn Fn(u64) -> u64) {
        let text = e.to_string();
        // The place in the body, where the place in the capture is told.
        let bare = text.strip_prefix(&format!("At byte {} of the answer: ", e.offset)).unwrap_or(&text);
        self.problem(place(e.offset), bare);
    }

    fn problem(&mut self, offset: u64, text: &str) {
        self.bad = true;
        warn(&format!("at byte {offset} of the capture: {}", clean(text)));
    }
}

fn put(line: &impl Serialize) -> Outcome {
    let json = serde_json::to_string(line).map_err(|e| Failure::failed(format!("cannot write JSON: {e}")))?;
    Ok(print(&clean_json(json))?)
}

/// Takes a piece of what comes; false at its end.
fn fill(input: &mut dyn Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let before = bytes.len();
    bytes.resize(before + 64 * 1024, 0);
    let read = loop {
        match input.read(&mut bytes[before..]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    bytes.truncate(before + *read.as_ref().unwrap_or(&0));
    Ok(read? > 0)
}

/// Whether it is XML as it stands, and no recording of HTTP (some of which begin with `<<<<<`).
fn is_xml(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    text.starts_with(b"<") && !text.starts_with(b"<<<")
}
