use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};

use super::*;

fn knowing(texts: &[&str]) -> (Secrets, Vec<Secret>) {
    let secrets = Secrets::default();
    let all: Vec<Secret> = texts.iter().map(|text| Secret::new(*text)).collect();
    all.iter().for_each(|secret| secrets.add(secret));
    (secrets, all)
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

/// Each piece of eight letters that the scan of the tests looks for: as it is, in hex, in base64 at each place.
fn pieces(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), hex(secret), hex(secret).to_uppercase()];
    for before in 0..3 {
        let encoded = BASE64_STANDARD.encode(["x".repeat(before).as_bytes(), secret.as_bytes()].concat());
        // Without what its neighbours have a part in.
        let own = (before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6;
        forms.push(encoded[own].to_owned());
    }
    let cut = |form: &String| -> Vec<String> {
        let bytes = form.as_bytes().windows(8);
        bytes.filter_map(|w| std::str::from_utf8(w).ok().map(str::to_owned)).collect()
    };
    forms.iter().flat_map(cut).collect()
}

#[track_caller]
fn none_left(text: &str, secret: &str) {
    for piece in pieces(secret) {
        assert!(!text.contains(&piece), "{piece} of {secret} is in {text}");
    }
}

const PASSWORD: &str = "Gr\u{fc}n & \"b\\lau\" <7>%2Bq";

// The text of an error goes into a ticket system, and with it whatever the server quotes of what it was sent.
#[test]
fn a_secret_leaves_a_text_in_each_form() {
    let (secrets, _owned) = knowing(&[PASSWORD]);
    let json = serde_json::to_string(PASSWORD).unwrap();
    let ascii: String = PASSWORD.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let xml =
        PASSWORD.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;").replace('\u{fc}', "&#xFC;");
    let percent: String = PASSWORD.bytes().map(|b| format!("%{b:02X}")).collect();
    let url = BASE64_URL_SAFE_NO_PAD.encode(PASSWORD);
    let wrapped = BASE64_STANDARD.encode(format!("ada@example.test:{PASSWORD}"));
    let wrapped = format!("{}\r\n{}", &wrapped[..30], &wrapped[30..]);
    let escaped = PASSWORD.escape_debug().to_string();
    let forms = [
        PASSWORD,
        &json,
        &ascii,
        &xml,
        &xml.replace('&', "&amp;"),
        &json.replace('&', "&amp;").replace('"', "&quot;"),
        &percent,
        &percent.to_lowercase(),
        &PASSWORD.replace('%', "%25").replace(' ', "+"),
        &url,
        &hex(PASSWORD),
        &hex(PASSWORD).to_uppercase(),
        &wrapped,
        &escaped,
    ];
    for form in forms {
        let text = format!("<p>it says {form}.</p>");
        let clean = secrets.redact(&text);
        none_left(&clean, PASSWORD);
        let begin = clean.strip_prefix("<p>it says ").unwrap_or_else(|| panic!("{text}: {clean}"));
        assert!(begin.ends_with(".</p>") && begin.contains("***"), "{text}: {clean}");
        for left in ["lau", "Gr", "7"] {
            assert!(!clean.contains(left), "{left} of {text}: {clean}");
        }
    }
    for before in ["", "a", "ab", "abc"] {
        let clean =
            secrets.redact(&BASE64_STANDARD.encode(format!("{before}{PASSWORD}{before}"))).into_owned();
        none_left(&clean, PASSWORD);
        assert!(clean.contains("***") && clean.len() < 16, "{clean}");
    }
}

// Our own texts are cut, and so are the server's: half a password is much of a password.
#[test]
fn what_a_cut_has_left_of_a_secret_goes_too() {
    let token: String = (0..500u32).map(|n| char::from(b'A' + (n * n % 25) as u8)).collect();
    for secret in ["hunter2hunter", "Tr0ub4dor&3 and more", &token] {
        let (secrets, _owned) = knowing(&[secret]);
        for form in [secret.to_owned(), hex(secret), BASE64_STANDARD.encode(format!("u:{secret}"))] {
            for length in 0..form.len().min(40) {
                for dots in ["", "...", "<"] {
                    let clean = secrets.redact(&format!("it begins {}{dots}", &form[..length])).into_owned();
                    none_left(&clean, secret);
                }
            }
        }
    }
}

// A word of every other text replaced: nobody could read them, and everybody would know the password.
#[test]
fn what_is_no_secret_stays() {
    let (secrets, _owned) = knowing(&["Exchange2019!", "secret", "password", "abcde"]);
    let text = "is this an Exchange server? the secret of push_secret; check name and password (abcde)";
    assert!(matches!(secrets.redact(text), Cow::Borrowed(_)), "{}", secrets.redact(text));
    assert_eq!(secrets.redact("you sent Exchange2019!, sir"), "you sent ***, sir");
    let (secrets, secret) = (Secrets::default(), Secret::new("mail.example.test-7"));
    secrets.add_beside(&secret, &["mail.example.test"]);
    assert_eq!(secrets.redact("mail.example.test: HTTP 500"), "mail.example.test: HTTP 500");
    assert_eq!(secrets.redact("(mail.example.test-7)"), "(***)");
    let (secrets, _owned) = knowing(&["hunter2"]);
    assert_eq!(secrets.redact("hunter hunter2 aHVudGVyMg=="), "hunter *** ***==");
}

// A header is sent with the scheme's name before it, which texts are full of.
#[test]
fn of_a_header_what_follows_the_scheme_is_secret() {
    let (secrets, _owned) = knowing(&["Basic YWRhOmh1bnRlcjI=", "Negotiate TlRMTVNTUAABAAAA"]);
    let text = "the server offers Negotiate, Basic realm; you sent Basic YWRhOmh1bnRlcjI= (TlRMTVNTUAABAAAA)";
    assert_eq!(secrets.redact(text), "the server offers Negotiate, Basic realm; you sent Basic *** (***)");
}

// Whoever has a message of NTLM can try passwords against it, and a server may have taken it apart before it quotes it.
#[test]
fn a_message_leaves_a_text_in_whatever_form_its_bytes_are_shown() {
    let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
    message.extend((0..300u32).map(|n| if n < 40 { 0 } else { (n * n % 251) as u8 }));
    let header = format!("NTLM {}", BASE64_STANDARD.encode(&message));
    let (secrets, _owned) = knowing(&[&header]);
    let hex: String = message.iter().map(|b| format!("{b:02X}")).collect();
    for text in [&hex, &hex[120..200], &BASE64_STANDARD.encode(&message[71..]), &header] {
        let clean = secrets.redact(text);
        assert!(clean.len() < 12 && clean.contains("***"), "{text}: {clean}");
    }
    let watermark = "AQAAAHjVUEEhWKBElahPiTIR/PZMDAAAAAAAAAE=, 0000000000000000000000";
    assert_eq!(secrets.redact(watermark), watermark);
    assert!(secrets.read().has(header.as_bytes()), "it is known once");
}

// Tokens come and go for months: what is known of them must not grow for months.
#[test]
fn the_dead_are_forgotten_and_the_living_are_not() {
    let (secrets, _owned) = knowing(&["correct horse battery"]);
    for n in 0..10_000 {
        let token = Secret::new(format!("token number {n}: {}", "x".repeat(100)));
        secrets.add(&token);
        assert!(secrets.redact(token.expose()).len() < 20);
    }
    let known = secrets.read();
    assert!(known.secrets.len() < 200 && known.pieces.len() < 4000, "{secrets:?} {}", known.pieces.len());
    drop(known);
    assert_eq!(secrets.redact("correct horse battery!"), "***!");
    // Of two with the same text, one stays.
    let (one, two) = (Secret::new("the same text"), Secret::new("the same text"));
    secrets.add(&one);
    drop(one);
    secrets.add(&two);
    assert_eq!(secrets.redact("is it the same text?"), "is it ***?");
}

// A stranger's text may be anything: it must come back as it was, and quickly.
#[test]
fn any_text_is_taken() {
    let (secrets, _owned) = knowing(&[PASSWORD, "short6", &"long".repeat(100)]);
    let letters: Vec<char> = "\u{fc}&%\\+u{}#x;amp quot/AbZ09=\"<\n\u{1F600}GrNn\u{e9}".chars().collect();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..2000 {
        let text: String = (0..rng.usize(..200)).map(|_| letters[rng.usize(..letters.len())]).collect();
        assert_eq!(secrets.redact(&text), text);
        let with = format!("{text}{PASSWORD}{text}");
        none_left(&secrets.redact(&with), PASSWORD);
    }
    let long = "%26amp;".repeat(10_000);
    assert_eq!(secrets.redact(&long).len(), long.len());
}
