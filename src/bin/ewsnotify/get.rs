//! `ewsnotify get`: one item, as JSON or as the message itself.

use std::fs::File;
use std::io::{self, Write};

use ewsnotify::{Client, Fetch};
use serde::Serialize;

use crate::connect::Connect;
use crate::failure::{Failure, Outcome};
use crate::output::print;
use crate::text::clean_json;

const HELP: &str = "\
Examples:
  ewsnotify get --url mail.example.com --user ada@example.com --id AAMk…
  ewsnotify get --url mail.example.com --user ada@example.com --id AAMk… --mime > message.eml";

/// Print an item: its summary as JSON, or the whole message
///
/// Takes the id (and change key) that an event told.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,

    /// The item's id
    #[arg(long)]
    id: String,

    /// The item's change key, if an event told one
    #[arg(long, value_name = "KEY")]
    change_key: Option<String>,

    /// Print the message as it is (MIME) instead of JSON
    #[arg(long)]
    mime: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    item_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_key: Option<&'a str>,
    #[serde(flatten)]
    item: &'a ewsnotify::ItemContent,
}

pub fn run(args: &Args) -> Outcome {
    if args.connect.mailboxes().len() > 1 {
        return Err(Failure::usage("an item lies in one mailbox, and --mailbox was given several times"));
    }
    let client = Client::open(&args.connect.options()?)?;
    let fetch = if args.mime { Fetch::Mime } else { Fetch::Summary };
    let change_key = args.change_key.as_deref();
    let item = client.fetch_item(&ewsnotify::Options::new(), &args.id, change_key, fetch)?;
    if !args.mime {
        let line = serde_json::to_string(&Line { item_id: &args.id, change_key, item: &item })
            .map_err(|e| Failure::failed(format!("cannot write the item as JSON: {e}")))?;
        return Ok(print(&clean_json(line))?);
    }
    let path =
        item.mime_path.ok_or_else(|| Failure::failed("the server gave no MIME content of the item"))?;
    let failed = |e: io::Error| Failure::failed(format!("cannot read the message back from {path}: {e}"));
    let mut file = File::open(&path).map_err(failed)?;
    let mut out = io::stdout().lock();
    io::copy(&mut file, &mut out)?;
    // With option spool_dir it would stay.
    let _ = std::fs::remove_file(&path);
    Ok(out.flush()?)
}
