//! `ewsnotify login`: a user signs in once, and the tokens lie where watches find them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ewsnotify::ErrorKind;
use ewsnotify::net::Cancel;
use ewsnotify::sign_in::{SignIn, SignedIn};
use serde_json::json;

use crate::connect::With;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::stop::Stop;
use crate::text::{clean, clean_json};

const HELP: &str = "\
The user signs in on any device with a browser; the tokens go into the token store, in a file that only you can read, where
`watch`, `drain`, `run` and any program with the library find them, and renew them:

  ewsnotify login --user ada@example.com --tenant example.com --client-id ID --state-dir DIR
  ewsnotify watch --user ada@example.com --option oauth_tenant=example.com --option oauth_client_id=ID --state-dir DIR

With --browser the browser of this machine comes back to a port of this machine (register http://localhost for the program).

The program has to be registered with the issuer first: in Microsoft Entra ID under App registrations, with the delegated
permission EWS.AccessAsUser.All, and \"Allow public client flows\" where it has no secret.

It ends with 0 when the tokens are stored, and with 4 where somebody said no or nobody signed in.";

/// How long somebody may take at the browser.
const LONGEST: Duration = Duration::from_secs(900);
const TICK: Duration = Duration::from_millis(50);
/// A request for a page is not longer.
const MAX_REQUEST: usize = 16 * 1024;

/// Sign a user in (OAuth), and store the tokens for watches
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Who signs in: an address
    #[arg(long, help_heading = "Who and where")]
    user: String,

    /// The server: a host as mail.example.com, or a URL [default: Exchange Online]
    #[arg(long, help_heading = "Who and where")]
    url: Option<String>,

    /// The tenant in Microsoft Entra ID: its id, or one of its domains
    #[arg(long, value_name = "TENANT", help_heading = "Who and where")]
    tenant: Option<String>,

    /// The program's id, as it is registered
    #[arg(long, value_name = "ID", help_heading = "Who and where")]
    client_id: Option<String>,

    /// Store the tokens here, where the state of watches is
    #[arg(long, value_name = "DIR", help_heading = "Who and where")]
    state_dir: Option<PathBuf>,

    /// Sign in with a browser on this machine, instead of any
    #[arg(long)]
    browser: bool,

    #[command(flatten)]
    with: With,

    /// Print JSON at a terminal too
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let mut options = args.with.plain(args.url.as_deref(), &args.user, None)?;
    for (key, value) in [("oauth_tenant", &args.tenant), ("oauth_client_id", &args.client_id)] {
        if let Some(value) = value {
            options.set(key, value)?;
        }
    }
    if let Some(dir) = &args.state_dir {
        let dir = dir.to_str().ok_or_else(|| Failure::usage("the path of --state-dir is not UTF-8"))?;
        options.set("state_dir", dir)?;
    }
    let Some(store) = options.get("oauth_token_store").or(options.get("state_dir")).map(str::to_owned) else {
        return Err(Failure::usage(
            "nowhere to store the tokens: give --state-dir DIR, or --option oauth_token_store=DIR",
        ));
    };
    let sign_in = SignIn::new(&options)?;
    let mut output = Output::new(args.json);
    let stop = Stop::listen()?;
    let cancel = Cancel::new();
    let signed_in = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let done = match args.browser {
                true => browser(&sign_in, &cancel, &mut output),
                false => device(&sign_in, &cancel, &mut output),
            };
            (done, output)
        });
        while !work.is_finished() {
            if stop.wait(Some(TICK)) {
                cancel.cancel();
            }
        }
        work.join().map_err(|_| Failure::failed("the sign-in has ended by a bug; please report it"))
    });
    let (signed_in, mut output) = signed_in?;
    let SignedIn { lasting, .. } = signed_in?;
    let text = match output.paint() {
        None => clean_json(
            json!({"type": "SignedIn", "user": args.user, "store": store, "lasting": lasting}).to_string(),
        ),
        Some(_) if lasting => {
            format!("{} has signed in; the tokens are in {}", clean(&args.user), clean(&store))
        }
        Some(_) => format!(
            "{} has signed in, for an hour or so: the issuer gave no refresh token (does the scope have offline_access?)",
            clean(&args.user)
        ),
    };
    Ok(output.line(&text)?)
}

fn device(sign_in: &SignIn, cancel: &Cancel, output: &mut Output) -> Outcome<SignedIn> {
    let device = sign_in.device(cancel)?;
    let minutes = device.life.as_secs() / 60;
    let text = match output.paint() {
        None => {
            let json = json!({
                "type": "SignIn",
                "uri": device.uri,
                "user_code": device.user_code,
                "whole_uri": device.whole_uri,
                "seconds": device.life.as_secs(),
            });
            clean_json(json.to_string())
        }
        Some(_) => format!(
            "Open {} in a browser, on any device, and type the code {} (within {minutes} minutes)",
            clean(&device.uri),
            clean(&device.user_code)
        ),
    };
    output.line(&text)?;
    Ok(sign_in.wait(&device.kept, cancel)?)
}

fn browser(sign_in: &SignIn, cancel: &Cancel, output: &mut Output) -> Outcome<SignedIn> {
    let failed = |e| Failure::failed(format!("cannot listen for the browser on a port of this machine: {e}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // The name and not the address: that is what issuers let a program have with any port (RFC 8252, section 7.3).
    let redirect = format!("http://localhost:{}", listener.local_addr().map_err(failed)?.port());
    let begun = sign_in.begin(&redirect)?;
    let text = match output.paint() {
        None => clean_json(json!({"type": "SignIn", "uri": begun.url}).to_string()),
        Some(_) => format!("Open this in a browser on this machine:\n{}", clean(&begun.url)),
    };
    output.line(&text)?;
    let until = Instant::now() + LONGEST;
    loop {
        if cancel.is_cancelled() {
            return Err(Failure::sign_in("the sign-in was stopped"));
        }
        if Instant::now() >= until {
            return Err(Failure::sign_in("nobody has signed in within 15 minutes: begin again"));
        }
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(TICK);
            continue;
        };
        let Some(query) = asked(&mut stream) else {
            answer(&mut stream, "404 Not Found", "There is nothing here.");
            continue;
        };
        let signed_in = sign_in.finish(&begun.kept, &query, cancel);
        let (status, text) = match &signed_in {
            Ok(_) => ("200 OK", "Done: you can close this page."),
            // Of another sign-in, or somebody else's: the right one may come yet.
            Err(e) if e.kind() == ErrorKind::Invalid => {
                ("400 Bad Request", "This is not the sign-in that was begun here.")
            }
            Err(_) => ("200 OK", "It did not work. The program says why."),
        };
        answer(&mut stream, status, text);
        match signed_in {
            Err(e) if e.kind() == ErrorKind::Invalid => {}
            signed_in => return Ok(signed_in?),
        }
    }
}

/// The query of a `GET /?…`; any other request is none of ours.
fn asked(stream: &mut TcpStream) -> Option<String> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(5))).ok()?;
    let until = Instant::now() + Duration::from_secs(10);
    let (mut head, mut piece) = (Vec::new(), [0; 2048]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&piece[..n]);
        if head.len() > MAX_REQUEST || Instant::now() > until {
            return None;
        }
    }
    let line = std::str::from_utf8(&head).ok()?.lines().next()?;
    let path = line.strip_prefix("GET ")?.split(' ').next()?;
    path.strip_prefix("/?").map(str::to_owned)
}

fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let body = format!("<!DOCTYPE html><title>ewsnotify</title><p>{text}</p>");
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}
