//! Passwords that go by NTLM, and its messages.

use std::io::Write;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::prelude::{BASE64_STANDARD, Engine};
use ewsnotify::sim::{ExtendedProtection, Scheme, Sim};
use ewsnotify::{Client, EventKind, Fetch, Options};

use super::known::{ADA, Known, WAYS, answer_of, forms_of, hear, ntlm_challenge};
use super::shown::{Shown, log_all, until};

fn options(url: &str, password: &str, wire: &str, auth: &str) -> Options {
    let mut options = Options::new();
    for (key, value) in [
        ("url", url),
        ("user", ADA),
        ("password", password),
        ("auth", auth),
        ("trace_wire", wire),
        ("log", "debug"),
    ] {
        options.set(key, value).unwrap();
    }
    options
}

// The right password, and a wrong one, which is often the right one of another account.
#[test]
fn a_server_that_wants_ntlm() {
    log_all();
    let (mut known, mut shown) = (Known::default(), Shown::default());
    let right = known.make("the password for NTLM", 24);
    let wrong = known.make("a wrong password for NTLM", 24);
    let folder = tempfile::tempdir().unwrap();
    let wire = folder.path().join("wire.log");
    for scheme in [Scheme::Ntlm, Scheme::Negotiate] {
        let sim = Sim::builder()
            .user(ADA, &right)
            .offers([scheme])
            .extended_protection(ExtendedProtection::Require)
            .start()
            .unwrap();
        for (auth, password) in [("ntlm", &right), ("auto", &right), ("ntlm", &wrong)] {
            let mut options = options(sim.url(), password, wire.to_str().unwrap(), auth);
            options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
            shown.add("the options", format!("{options:?}"));
            let client = Client::open(&options).unwrap();
            client.watch(&Options::new()).unwrap();
            let wanted = if password == &right { EventKind::Connected } else { EventKind::Closed };
            let mut events = Vec::new();
            until(&client, &mut events, |e| e.kind == wanted);
            shown.close(client, events);
        }
    }
    shown.files(folder.path());
    shown.assert_clean(&known);
    let wire = std::fs::read_to_string(wire).unwrap();
    for wanted in [
        "Authorization: NTLM ***",
        "Authorization: Negotiate ***",
        "www-authenticate: NTLM ***",
        "www-authenticate: Negotiate ***",
    ] {
        assert!(wire.contains(wanted), "{wanted}: {wire}");
    }
}

/// The bytes of an AUTHENTICATE message, and where what passwords can be tried against is in them: the response's proof, and the code of the
/// messages' integrity ([MS-NLMP] 2.2.1.3).
fn taken_apart(message: &str) -> (Vec<u8>, [Range<usize>; 2]) {
    let bytes = BASE64_STANDARD.decode(message).unwrap();
    let response = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    (bytes, [response..response + 16, 72..88])
}

/// A server that challenges, and quotes the answer in the next way.
fn challenging(seen: Arc<Mutex<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut sock in listener.incoming().flatten() {
            let seen = seen.clone();
            thread::spawn(move || {
                while let Some(request) = hear(&mut sock) {
                    let header = request.lines().find_map(|l| l.strip_prefix("Authorization: NTLM "));
                    let message = header.unwrap_or_default().to_owned();
                    let offer = match message.get(..12) {
                        None => "NTLM".to_owned(),
                        Some("TlRMTVNTUAAB") => format!("NTLM {}", ntlm_challenge()),
                        Some(_) => {
                            let way = {
                                let mut seen = seen.lock().unwrap();
                                seen.push(message.clone());
                                seen.len() % WAYS
                            };
                            let known = [("the message", &message[..]), ("the message", &message[..])];
                            // Whole, and from somewhere in the middle on.
                            let bytes = taken_apart(&message).0;
                            let shown = [&bytes[..], &bytes[51..]].into_iter().flat_map(forms_of);
                            let shown = shown.map(|(_, form)| form);
                            let said = format!("{} {request}", shown.collect::<Vec<_>>().join(" "));
                            let _ = sock.write_all(&answer_of(way, &said, port, &known));
                            return;
                        }
                    };
                    let head =
                        format!("HTTP/1.1 401 x\r\nWWW-Authenticate: {offer}\r\nContent-Length: 0\r\n\r\n");
                    if sock.write_all(head.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

// Who has the message may try passwords against it until one fits.
#[test]
fn a_server_that_quotes_the_message() {
    log_all();
    let (mut known, mut shown) = (Known::default(), Shown::default());
    let password = known.make("the password for a server that quotes NTLM", 24);
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let url = format!("http://127.0.0.1:{}/EWS/Exchange.asmx", challenging(seen.clone()));
    let folder = tempfile::tempdir().unwrap();
    let wire = folder.path().join("wire.log");
    for n in 0..2 * WAYS {
        let auth = ["ntlm", "auto"][n / WAYS];
        let client = Client::open(&options(&url, &password, wire.to_str().unwrap(), auth)).unwrap();
        shown.error(&client.get_item(0, "AAMk", None, Fetch::Summary).unwrap_err());
        shown.close(client, Vec::new());
    }
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 2 * WAYS, "{}", seen.len());
    for message in seen.iter() {
        let (bytes, proofs) = taken_apart(message);
        for at in proofs {
            known.add("the message", &message[(at.start * 8).div_ceil(6)..at.end * 8 / 6]);
            known.add_bytes("the message's bytes", &bytes[at]);
        }
    }
    assert!(shown.has("***"), "{}", shown.text());
    shown.files(folder.path());
    shown.assert_clean(&known);
}
