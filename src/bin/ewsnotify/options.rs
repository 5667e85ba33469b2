//! `ewsnotify options`: the table of the library's options.

use std::fmt::Write as _;

use ewsnotify::{OptionKind, OptionScope, OptionSpec, Options};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, print};
use crate::text::Colour;

/// List the options of the library
///
/// Those of --option, of `Options::set` in Rust, and of JSON. At a terminal as a table; in a pipe, or with --json, one
/// JSON object a line.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON at a terminal too
    #[arg(long)]
    json: bool,

    /// Print the table as Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    scope: &'static str,
    r#type: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    default: &'a str,
    meaning: &'a str,
}

pub fn run(args: &Args) -> Outcome {
    let output = Output::new(args.json);
    if args.markdown {
        return Ok(print(markdown().trim_end())?);
    }
    let lines = Options::table().iter().map(|spec| Line {
        name: spec.name,
        scope: scope(spec),
        r#type: kind(spec.kind),
        default: spec.default,
        meaning: spec.meaning,
    });
    let Some(paint) = output.paint() else {
        for line in lines {
            let json = serde_json::to_string(&line);
            print(&json.map_err(|e| Failure::failed(format!("cannot write an option as JSON: {e}")))?)?;
        }
        return Ok(());
    };
    let width = Options::table().iter().map(|spec| spec.name.len()).max().unwrap_or_default();
    for line in lines {
        let name = paint.put(Colour::Bold, &format!("{:width$}", line.name));
        let mut facts = format!("{}, {}", line.scope, line.r#type);
        if !line.default.is_empty() {
            let _ = write!(facts, "; default {}", line.default);
        }
        print(&format!("{name}  {}\n{:width$}  {}", line.meaning, "", paint.put(Colour::Dim, &facts)))?;
    }
    Ok(())
}

fn markdown() -> String {
    let mut table =
        String::from("| Key | Of | Value | Default | Meaning |\n| --- | --- | --- | --- | --- |\n");
    for spec in Options::table() {
        let default = if spec.default.is_empty() { String::new() } else { format!("`{}`", spec.default) };
        let (name, scope, kind) = (spec.name, scope(spec), kind(spec.kind));
        let row =
            [&format!("`{name}`"), scope, &kind, &default, spec.meaning].map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

fn scope(spec: &OptionSpec) -> &'static str {
    match spec.scope {
        OptionScope::Client => "client",
        _ => "watch",
    }
}

fn kind(kind: OptionKind) -> String {
    match kind {
        OptionKind::Bool => "true or false".into(),
        OptionKind::Number(min, max) => format!("{min} to {max}"),
        OptionKind::Duration(min, max) => format!("duration, {} to {}", span(min), span(max)),
        OptionKind::Events => "list of kinds".into(),
        OptionKind::Folders => "list of folders".into(),
        OptionKind::OneOf(words) => words.join(", "),
        OptionKind::AfterAck => "none, read, delete, move:FOLDER".into(),
        OptionKind::ConnectTo => "list of host:port:host:port".into(),
        OptionKind::Domains => "list of domains".into(),
        OptionKind::Fingerprints => "list of SHA-256".into(),
        OptionKind::Hosts => "list of hosts".into(),
        OptionKind::Path => "path".into(),
        OptionKind::Secret => "secret text".into(),
        _ => "text".into(),
    }
}

fn span(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}
