//! Looks for secrets in whatever a program has shown: each piece of eight letters of them, as they are, in hex of both cases, and in
//! base64 at each of its three alignments.

#![allow(dead_code)] // Each test file is a crate of its own and uses what it needs.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::prelude::{BASE64_STANDARD, Engine};

const PIECE: usize = 8;

pub const ADA: &str = "ada@example.test";
pub const PASSWORD: &str = "kX7#vQ9<mZ2&pL4 w\"R8\\jT";
pub const COOKIE: &str = "9f3bd1c07ae84e52b6aa01";
pub const PUSH_SECRET: &str = "Zr4tUq8wLm2xNc6vBk0s";

/// What must not be found.
pub struct Scan {
    /// By what they begin with: the rest, and what it is.
    pieces: HashMap<[u8; PIECE], Vec<(Vec<u8>, String)>>,
}

/// A text in the forms in which servers, logs and tools show it: those that the scan looks for.
pub fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let mut forms = vec![("plain", secret.to_owned()), ("upper hex", hex.to_uppercase()), ("hex", hex)];
    for before in 0..3 {
        let encoded = BASE64_STANDARD.encode([&b"xx"[..before], secret.as_bytes()].concat());
        // Without the letters that its neighbours have a part in.
        let own = (before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6;
        forms.push(("base64", encoded[own].to_owned()));
    }
    forms
}

impl Scan {
    pub fn new(secrets: &[(&str, &str)]) -> Scan {
        let mut pieces: HashMap<[u8; PIECE], Vec<(Vec<u8>, String)>> = HashMap::new();
        for (name, secret) in secrets {
            for (form, text) in forms(secret) {
                // Eight letters are sixteen digits: half of them stand in the name of some file by chance.
                let length = if form.ends_with("hex") { 2 * PIECE } else { PIECE };
                for piece in text.as_bytes().windows(length) {
                    let what = format!("{name} ({form}): {}", String::from_utf8_lossy(piece));
                    let (begin, rest) = piece.split_at(PIECE);
                    let same: &mut Vec<_> = pieces.entry(begin.try_into().unwrap()).or_default();
                    same.push((rest.to_vec(), what));
                }
            }
        }
        Scan { pieces }
    }

    /// What is found in a text, with what stands round it.
    pub fn find(&self, text: &[u8]) -> Option<String> {
        text.windows(PIECE).enumerate().find_map(|(at, window)| {
            let rest = &text[at + PIECE..];
            let (_, what) = self.pieces.get(window)?.iter().find(|(more, _)| rest.starts_with(more))?;
            let line = text[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
            let begin = &text[line..(line + 100).min(at)];
            let round =
                [begin, &b" ... "[..], &text[at.saturating_sub(80)..text.len().min(at + 80)]].concat();
            Some(format!("{what}; in: {}", String::from_utf8_lossy(&round)))
        })
    }

    #[track_caller]
    pub fn assert_clean(&self, what: &str, text: impl AsRef<[u8]>) {
        if let Some(found) = self.find(text.as_ref()) {
            panic!("{what} shows {found}");
        }
    }
}

/// What a server sends back of a request, in every form that a secret may have in it.
pub fn quoted(text: &str, secrets: &[(&str, &str)]) -> String {
    let mut out = text.to_owned();
    for (_, secret) in secrets {
        out += &format!(" {}", serde_json::to_string(secret).unwrap());
        let percent: String = secret.bytes().map(|b| format!("%{b:02X}")).collect();
        out += &format!(" u={percent}&v=1");
        for (_, form) in forms(secret) {
            out += " ";
            out += &form;
        }
        out += &format!(" {}", BASE64_STANDARD.encode(format!("ada@example.test:{secret}")));
    }
    out
}

pub fn header() -> String {
    BASE64_STANDARD.encode(format!("{ADA}:{PASSWORD}"))
}

pub fn secrets() -> Vec<(&'static str, String)> {
    let own = |text: &str| text.to_owned();
    vec![
        ("the password", own(PASSWORD)),
        ("the header", header()),
        ("the cookie", own(COOKIE)),
        ("the push secret", own(PUSH_SECRET)),
    ]
}

pub fn borrowed<'a>(secrets: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    secrets.iter().map(|(name, secret)| (*name, secret.as_str())).collect()
}

pub fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// How the server says what it has to say.
pub const WAYS: usize = 16;

/// An answer that quotes the request, in the one way or the other.
pub fn answer(way: usize, request: &str, port: u16) -> Vec<u8> {
    let all = quoted(request, &borrowed(&secrets()));
    // A line of a head has no line's end in it, and an end.
    let line: String = all.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let short: String =
        quoted("", &borrowed(&secrets())[..2]).chars().filter(|c| c.is_ascii_graphic()).collect();
    let url: String = short.chars().filter(|c| c.is_ascii_alphanumeric() || "%=&+/-".contains(*c)).collect();
    let cookie = format!("Set-Cookie: exchangecookie={COOKIE}; path=/\r\n");
    let of = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\n{headers}{cookie}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let envelope = |body: &str| {
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
             xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\"><s:Body>{body}</s:Body></s:Envelope>"
        )
    };
    let fault = |text: &str| {
        envelope(&format!(
            "<s:Fault><faultcode>s:{}</faultcode><faultstring>{text}</faultstring><detail><e:ResponseCode>Error{}\
             </e:ResponseCode><e:Message>{text}</e:Message></detail></s:Fault>",
            xml(PASSWORD),
            header(),
        ))
    };
    let html = "Content-Type: text/html\r\n";
    let text = match way {
        0 => of("500 x", "Content-Type: text/xml\r\n", &fault(&xml(&all))),
        1 => of("500 x", "Content-Type: text/xml\r\n", &fault(&xml(&xml(&all)))),
        2 => {
            let code = header();
            let operation = if request.contains("<m:GetFolder") { "GetFolder" } else { "Subscribe" };
            let message = format!(
                "<m:{operation}ResponseMessage ResponseClass=\"Error\"><m:MessageText>{}</m:MessageText><m:ResponseCode>{code}\
                 </m:ResponseCode></m:{operation}ResponseMessage>",
                xml(&all)
            );
            let response = format!(
                "<m:{operation}Response><m:ResponseMessages>{message}</m:ResponseMessages></m:{operation}Response>"
            );
            of("200 OK", "Content-Type: text/xml\r\n", &envelope(&response))
        }
        3 => of("200 OK", html, &format!("<html>{}", xml(&all))),
        4 => of("503 x", html, &all),
        5 => of(
            "401 x",
            &format!("WWW-Authenticate: Basic realm=\"{short}\"\r\nWWW-Authenticate: {short} x\r\n"),
            "",
        ),
        6 => of(
            "403 x",
            &format!("X-DiagInfo: {line}\r\nrequest-id: {PASSWORD}\r\nX-FEServer: {}\r\n", header()),
            "",
        ),
        7 => of("302 x", &format!("Location: /ews/{url}?p={url}\r\n"), ""),
        8 => of("302 x", &format!("Location: https://other.example.test/{url}\r\n"), ""),
        9 => of("302 x", &format!("Location: http://127.0.0.1:{port}/owa/{url}\r\n"), ""),
        10 => of(&format!("456 https://{url}"), "", ""),
        11 => of("200 OK", &format!("Content-Encoding: {short}\r\n"), "x"),
        12 => of("200 OK", &format!("Content-Type: {short}\r\n"), "x"),
        13 => of("200 OK", "Content-Type: text/xml\r\n", &format!("<s:Envelope><s:{PASSWORD}>{}", header())),
        14 => {
            of("200 OK", "Content-Type: text/xml\r\n", &envelope(&format!("<m:{}/>{PASSWORD}</x>", header())))
        }
        _ => format!("HTTP/1.1 {PASSWORD}\r\n{}\r\n\r\n", header()),
    };
    text.into_bytes()
}

/// A server that has nothing to say but what it hears; each request in the next way.
pub fn echo(asked: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut sock in listener.incoming().flatten() {
            let Some(request) = hear(&mut sock) else { continue };
            let way = asked.fetch_add(1, Ordering::SeqCst) % WAYS;
            let _ = sock.write_all(&answer(way, &request, port));
        }
    });
    port
}

/// A whole request.
pub fn hear(sock: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let n = sock.read(&mut piece).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            return Some(text);
        }
    }
}
