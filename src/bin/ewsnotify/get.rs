//! `ewsnotify get`: one item, as JSON or as the message itself, or one of its attachments.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use ewsnotify::{Client, Fetch};
use serde::Serialize;

use crate::connect::Connect;
use crate::failure::{Failure, Outcome};
use crate::output::print;
use crate::stop::Stop;
use crate::text::clean_json;

const HELP: &str = "\
Examples:
  ewsnotify get --url mail.example.com --user ada@example.com --id AAMk…
  ewsnotify get --url mail.example.com --user ada@example.com --id AAMk… --mime > message.eml
  ewsnotify get --url mail.example.com --user ada@example.com --attachment AAMk… > invoice.pdf";

/// Print an item: its summary as JSON, or the whole message
///
/// Takes the id (and change key) that an event told, or the id of an attachment, as `attachments` of the JSON tell it.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,

    /// The item's id
    #[arg(long, required_unless_present = "attachment")]
    id: Option<String>,

    /// The item's change key, if an event told one
    #[arg(long, value_name = "KEY")]
    change_key: Option<String>,

    /// Print the message as it is (MIME) instead of JSON
    #[arg(long)]
    mime: bool,

    /// Print the content of the attachment with this id instead; of an attached item, its message
    #[arg(long, value_name = "ID", conflicts_with_all = ["id", "change_key", "mime"])]
    attachment: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    item_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_key: Option<&'a str>,
    #[serde(flatten)]
    item: &'a ewsnotify::ItemContent,
}

/// What was asked for.
enum Got {
    Line(String),
    /// It has no name any more: nothing is left behind, however long the printing takes and however it ends.
    Content(File),
}

pub fn run(args: &Args) -> Outcome {
    if args.connect.mailboxes().len() > 1 {
        return Err(Failure::usage("an item lies in one mailbox, and --mailbox was given several times"));
    }
    let options = args.connect.options()?;
    let stop = Stop::listen()?;
    let client = Arc::new(Client::open(&options)?);
    stop.close(&client);
    let got = match &args.attachment {
        Some(id) => attachment(&client, id),
        None => item(&client, args),
    };
    if stop.let_go(client) {
        return Err(Failure::failed("stopped by a signal before all of it had come; nothing was printed"));
    }
    match got? {
        Got::Line(line) => Ok(print(&line)?),
        Got::Content(mut file) => {
            let mut out = io::stdout().lock();
            io::copy(&mut file, &mut out)?;
            Ok(out.flush()?)
        }
    }
}

fn item(client: &Client, args: &Args) -> Outcome<Got> {
    let id = args.id.as_deref().unwrap_or_default();
    let fetch = if args.mime { Fetch::Mime } else { Fetch::Summary };
    let change_key = args.change_key.as_deref();
    let item = client.fetch_item(&ewsnotify::Options::new(), id, change_key, fetch)?;
    if !args.mime {
        let line = serde_json::to_string(&Line { item_id: id, change_key, item: &item })
            .map_err(|e| Failure::failed(format!("cannot write the item as JSON: {e}")))?;
        return Ok(Got::Line(clean_json(line)));
    }
    let path =
        item.mime_path.ok_or_else(|| Failure::failed("the server gave no MIME content of the item"))?;
    let file = open(path.as_ref())?;
    // With option spool_dir it would stay.
    let _ = std::fs::remove_file(&path);
    Ok(Got::Content(file))
}

fn attachment(client: &Client, id: &str) -> Outcome<Got> {
    let failed = |e: io::Error| Failure::failed(format!("cannot make a folder for the attachment: {e}"));
    let private = Permissions::from_mode(0o700);
    let folder =
        tempfile::Builder::new().prefix("ewsnotify-").permissions(private).tempdir().map_err(failed)?;
    let path = folder.path().join("attachment");
    client.save_attachment(0, id, &path)?;
    Ok(Got::Content(open(&path)?))
}

fn open(path: &Path) -> Outcome<File> {
    File::open(path).map_err(|e| Failure::failed(format!("cannot read back {}: {e}", path.display())))
}
