//! `ewsnotify decode`: what a captured body says, as JSON lines.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use ewsnotify::proto::{FrameLimits, Framer, read_envelope};

use crate::failure::{Failure, Outcome, warn};
use crate::output::print;
use crate::text::{clean, clean_json};
use crate::wire;

const HELP: &str = "\
Examples:
  ewsnotify decode stream.txt
  curl … -i https://mail.example.com/EWS/Exchange.asmx | ewsnotify decode -

What cannot be read is told on stderr, with its place, and the command ends with 1 after all else was printed.";

/// Print what a captured answer of a server says, as JSON lines
///
/// One envelope, a stream of envelopes, or a raw HTTP answer with its chunk framing.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The file; - for standard input
    file: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    let mut input: Box<dyn Read> = match args.file.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(&args.file).map_err(|e| Failure::failed(format!("cannot open {}: {e}", args.file.display())))?),
    };
    let mut framer = Framer::new(FrameLimits::default());
    let mut piece = vec![0; 64 * 1024];
    let mut bad = false;
    loop {
        let n = match input.read(&mut piece) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Failure::failed(format!("cannot read {}: {e}", args.file.display()))),
        };
        framer.push(&piece[..n]);
        while let Some(found) = framer.next() {
            match found.map_err(ewsnotify::Error::from).and_then(|bytes| read_envelope(bytes)) {
                Ok(envelope) => {
                    for line in wire::lines(envelope) {
                        let json = serde_json::to_string(&line);
                        print(&clean_json(json.map_err(|e| Failure::failed(format!("cannot write JSON: {e}")))?))?;
                    }
                }
                Err(e) => {
                    bad = true;
                    warn(&clean(&e.to_string()));
                }
            }
        }
        if n == 0 {
            break;
        }
    }
    if bad { Err(Failure::said()) } else { Ok(()) }
}
