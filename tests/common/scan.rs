//! Looks for secrets in whatever a program has shown: each piece of eight bytes of them, as they are, in hex of both cases, and in
//! base64 of both alphabets at each of its three alignments.
//!
//! No piece may be found by chance. So secrets are of letters of both cases and digits, and not of hex digits alone, of which names of
//! files and numbers of requests are made: then eight letters, and sixteen digits of hex, stand nowhere by themselves.

#![allow(dead_code)] // Each test file is a crate of its own and uses what it needs.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};

const PIECE: usize = 8;

pub const ADA: &str = "ada@example.test";
pub const PASSWORD: &str = "kX7#vQ9<mZ2&pL4 w\"R8\\jT";
pub const COOKIE: &str = "gZ7qUw3xJv9kTy5mRh2pLs";
pub const PUSH_SECRET: &str = "Zr4tUq8wLm2xNc6vBk0s";

/// What must not be found.
pub struct Scan {
    /// By what they begin with: the rest, and what it is.
    pieces: HashMap<[u8; PIECE], Vec<(Vec<u8>, String)>>,
}

/// A text in the forms in which servers, logs and tools show it: those that the scan looks for.
pub fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let packed = forms_of(secret.as_bytes());
    std::iter::once(("plain", secret.to_owned())).chain(packed).collect()
}

/// The same of bytes that are no text, without themselves.
pub fn forms_of(secret: &[u8]) -> Vec<(&'static str, String)> {
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let mut forms = vec![("upper hex", hex.to_uppercase()), ("hex", hex)];
    for before in 0..3 {
        let bytes = [&b"xx"[..before], secret].concat();
        // Without the letters that its neighbours have a part in.
        let own = (before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6;
        let encoded = BASE64_STANDARD.encode(&bytes);
        let url_safe = BASE64_URL_SAFE.encode(&bytes);
        if url_safe != encoded {
            forms.push(("base64url", url_safe[own.clone()].to_owned()));
        }
        forms.push(("base64", encoded[own].to_owned()));
    }
    forms
}

/// A secret for a test: `length` letters and digits, the same in each run and for no two names.
pub fn made(name: &str, length: usize) -> String {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.alphanumeric()).take(length).collect()
}

/// The secrets of a test, by what they are.
#[derive(Default)]
pub struct Known {
    pub texts: Vec<(String, String)>,
    bytes: Vec<(String, Vec<u8>)>,
}

impl Known {
    pub fn add(&mut self, name: &str, secret: &str) {
        self.texts.push((name.to_owned(), secret.to_owned()));
    }

    pub fn add_bytes(&mut self, name: &str, secret: &[u8]) {
        self.bytes.push((name.to_owned(), secret.to_vec()));
    }

    /// A new one.
    pub fn make(&mut self, name: &str, length: usize) -> String {
        let secret = made(name, length);
        self.add(name, &secret);
        secret
    }

    /// What is secret of a private key (PEM); what stands before is in the certificate too.
    pub fn add_key(&mut self, name: &str, pem: &str) {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64_STANDARD.decode(body).unwrap();
        // Of RSA, the end: exponents and the coefficient. Of P-256 in PKCS #8, the 32 bytes before the public point.
        let secret = if der.len() > 500 { &der[der.len() - 400..] } else { &der[36..68] };
        self.add_bytes(name, secret);
    }

    /// The keys, as they were added.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.iter().map(|(_, secret)| secret.as_slice())
    }

    pub fn borrowed(&self) -> Vec<(&str, &str)> {
        self.texts.iter().map(|(name, secret)| (name.as_str(), secret.as_str())).collect()
    }

    pub fn scan(&self) -> Scan {
        let mut scan = Scan::new(&self.borrowed());
        for (name, secret) in &self.bytes {
            scan.add_piece(name, "plain", secret);
            forms_of(secret).iter().for_each(|(form, text)| scan.add_piece(name, form, text.as_bytes()));
        }
        scan
    }
}

impl Scan {
    pub fn new(secrets: &[(&str, &str)]) -> Scan {
        let mut scan = Scan { pieces: HashMap::new() };
        for (name, secret) in secrets {
            forms(secret).iter().for_each(|(form, text)| scan.add_piece(name, form, text.as_bytes()));
        }
        scan
    }

    fn add_piece(&mut self, name: &str, form: &str, text: &[u8]) {
        // Eight bytes are sixteen digits.
        let length = if form.ends_with("hex") { 2 * PIECE } else { PIECE };
        for piece in text.windows(length) {
            let what = format!("{name} ({form}): {}", String::from_utf8_lossy(piece));
            let (begin, rest) = piece.split_at(PIECE);
            let same: &mut Vec<_> = self.pieces.entry(begin.try_into().unwrap()).or_default();
            same.push((rest.to_vec(), what));
        }
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
        out += &format!(" {}", BASE64_STANDARD.encode(format!("somebody:{secret}")));
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
    answer_of(way, request, port, &borrowed(&secrets()))
}

/// The same by a server that knows these secrets, two or more.
pub fn answer_of(way: usize, request: &str, port: u16, known: &[(&str, &str)]) -> Vec<u8> {
    let (first, second) = (known[0].1, known[1].1);
    let all = quoted(request, known);
    // A line of a head has no line's end in it, and an end.
    let line: String = all.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let short: String = quoted("", &known[..2]).chars().filter(|c| c.is_ascii_graphic()).collect();
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
            xml(first),
            second,
        ))
    };
    let html = "Content-Type: text/html\r\n";
    let text = match way {
        0 => of("500 x", "Content-Type: text/xml\r\n", &fault(&xml(&all))),
        1 => of("500 x", "Content-Type: text/xml\r\n", &fault(&xml(&xml(&all)))),
        2 => {
            let code = second;
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
        6 => {
            of("403 x", &format!("X-DiagInfo: {line}\r\nrequest-id: {first}\r\nX-FEServer: {second}\r\n"), "")
        }
        7 => of("302 x", &format!("Location: /ews/{url}?p={url}\r\n"), ""),
        8 => of("302 x", &format!("Location: https://other.example.test/{url}\r\n"), ""),
        9 => of("302 x", &format!("Location: http://127.0.0.1:{port}/owa/{url}\r\n"), ""),
        10 => of(&format!("456 https://{url}"), "", ""),
        11 => of("200 OK", &format!("Content-Encoding: {short}\r\n"), "x"),
        12 => of("200 OK", &format!("Content-Type: {short}\r\n"), "x"),
        13 => of("200 OK", "Content-Type: text/xml\r\n", &format!("<s:Envelope><s:{first}>{second}")),
        14 => of("200 OK", "Content-Type: text/xml\r\n", &envelope(&format!("<m:{second}/>{first}</x>"))),
        _ => format!("HTTP/1.1 {first}\r\n{second}\r\n\r\n"),
    };
    text.into_bytes()
}

/// How a token endpoint says no.
pub const NOES: usize = 10;

/// A refusal that quotes the form, in the one way or the other, by an endpoint that knows these secrets, one or more.
pub fn no(way: usize, form: &str, known: &[(&str, &str)]) -> Vec<u8> {
    let all = quoted(form, known);
    let line: String = all.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let (json, first) = ("Content-Type: application/json\r\n", known[0].1);
    let refused = |error: &str, text: &str| {
        serde_json::json!({ "error": error, "error_description": text, "error_codes": [7] }).to_string()
    };
    let of = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let text = match way {
        0 => of("400 x", json, &refused("invalid_grant", &format!("AADSTS70008: {all}"))),
        1 => of("400 x", json, &refused(first, &format!("{first} {all}"))),
        2 => of("401 x", json, &refused("invalid_client", &format!("the secret {first} is wrong"))),
        3 => of("503 x", "Content-Type: text/html\r\n", &all),
        4 => of("302 x", &format!("Location: https://other.example.test/?{line}\r\n"), ""),
        5 => of("200 OK", json, &format!("{{\"token_type\":\"{first}\",\"access_token\":\"a-token\"}}")),
        6 => of("200 OK", json, &refused("interaction_required", &all)),
        7 => of(
            &format!("400 {first}"),
            &format!("{json}X-Trace: {line}\r\nWWW-Authenticate: Bearer {line}\r\n"),
            &all,
        ),
        8 => format!("HTTP/1.1 {first}\r\n{line}\r\n\r\n"),
        _ => of("500 x", json, &refused("server_error", &format!("{} {all}", "x".repeat(280)))),
    };
    text.into_bytes()
}

/// A server that has nothing to say but what it hears; each request in the next way.
pub fn echo(asked: Arc<AtomicUsize>) -> u16 {
    serve(move |request, port| {
        let way = asked.fetch_add(1, Ordering::SeqCst) % WAYS;
        Some(answer(way, request, port))
    })
}

/// A server of one request a connection, at a port.
pub fn serve(mut answer: impl FnMut(&str, u16) -> Option<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut sock in listener.incoming().flatten() {
            let Some(request) = hear(&mut sock) else { continue };
            if let Some(answer) = answer(&request, port) {
                let _ = sock.write_all(&answer);
            }
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

/// A challenge with nothing special in it: the signature, type 2, no target, flags that everybody knows.
pub fn ntlm_challenge() -> String {
    let mut message = b"NTLMSSP\0\x02\0\0\0\0\0\0\0\x38\0\0\0\x33\x82\x8a\xe2".to_vec();
    // The server's number; reserved; target info: a time of day, and the end.
    message.extend_from_slice(b"\x01\x23\x45\x67\x89\xab\xcd\xef\0\0\0\0\0\0\0\0\x10\0\x10\0\x38\0\0\0");
    message.extend_from_slice(b"\x06\x01\xb1\x1d\0\0\0\x0f");
    message.extend_from_slice(b"\x07\0\x08\0\0\0\xd6\x52\x3e\x8c\xdc\x01\0\0\0\0");
    BASE64_STANDARD.encode(message)
}
