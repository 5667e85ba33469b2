//! Questions beside EWS: the answer as it came, and the sign-in only for who asks for it.

use std::sync::{Arc, mpsc};

use ewsnotify::ErrorKind;
use ewsnotify::auth::{Basic, Bearer, Context, Secret, Tokens};
use ewsnotify::net::{Asker, Cancel, Config, Endpoint, Lookups, Question, Tls, Told};

use crate::server::*;
use crate::tls::{Authority, answering_with};

fn asker(config: Config) -> Asker {
    let tls = Arc::new(Tls::of(&config).unwrap());
    Asker { config, tls, counters: Arc::default(), lookups: Lookups::system(), tap: Arc::default() }
}

/// A GET without a sign-in.
pub fn get(url: &str, config: Config) -> ewsnotify::Result<Told> {
    asker(config).ask(&Endpoint::parse(url).unwrap(), &Question::Get, None, &Cancel::new()).map_err(harmless)
}

fn ask(url: &str, config: Config, sign_in: bool) -> ewsnotify::Result<Told> {
    let asker = asker(config);
    let auth = Basic::new(USER, Secret::new(PASSWORD)).unwrap();
    let question = Question::Post { body: b"<ask/>", soap_action: None, mailbox: Some(USER) };
    let auth = sign_in.then_some(&auth as _);
    asker.ask(&Endpoint::parse(url).unwrap(), &question, auth, &Cancel::new()).map_err(harmless)
}

/// A server over TLS with a list of answers, each for one request; the heads of the requests come out.
fn scripted(answers: Vec<Vec<u8>>) -> (Server, Authority, mpsc::Receiver<String>) {
    let authority = Authority::new();
    let (send, heads) = mpsc::channel();
    let config = authority.server_config("127.0.0.1", |_| (), rustls::ALL_VERSIONS);
    let server = answering_with(config, move |head, n| {
        let _ = send.send(head.to_owned());
        answers[n.min(answers.len() - 1)].clone()
    });
    (server, authority, heads)
}

fn url(server: &Server) -> String {
    format!("https://{}/autodiscover/autodiscover.svc", server.address)
}

fn unauthorized(offers: &str) -> Vec<u8> {
    answer("401 Unauthorized", offers, "")
}

// Whoever runs a company's web server would be given its passwords unasked.
#[test]
fn the_password_goes_only_to_who_asks_for_it() {
    for (answers, signed) in [
        (vec![ok(ENVELOPE)], false),
        (vec![answer("404 Not Found", "", "no")], false),
        (vec![answer("302 Found", "Location: https://elsewhere.test/\r\n", "")], false),
        (vec![unauthorized("WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n")], false),
        (vec![unauthorized("")], false),
        (
            vec![
                unauthorized("WWW-Authenticate: NTLM\r\nWWW-Authenticate: basic realm=\"x\"\r\n"),
                ok(ENVELOPE),
            ],
            true,
        ),
        (vec![unauthorized("WWW-Authenticate: Basic\r\n")], true),
    ] {
        let requests = answers.len().max(if signed { 2 } else { 1 });
        let (server, authority, heads) = scripted(answers);
        let told = ask(&url(&server), authority.config(), true).unwrap();
        let heads: Vec<String> = heads.try_iter().collect();
        assert_eq!((told.signed, heads.len()), (signed, requests), "{told:?}");
        assert!(header(&heads[0], "authorization").is_none(), "unasked");
        assert_eq!(heads.get(1).and_then(|h| header(h, "authorization")), signed.then_some(SIGNATURE));
    }
}

#[test]
fn without_a_sign_in_nothing_is_sent() {
    let (server, authority, heads) =
        scripted(vec![unauthorized("WWW-Authenticate: Basic\r\nWWW-Authenticate: NTLM\r\n")]);
    let told = ask(&url(&server), authority.config(), false).unwrap();
    assert_eq!(
        (told.status, told.signed, told.offers),
        (401, false, vec!["Basic".to_owned(), "NTLM".to_owned()])
    );
    assert_eq!(heads.try_iter().count(), 1);
    let session = told.session.unwrap();
    assert_eq!(session.version, "TLS 1.3");
}

// Autodiscover's first question over http is for everybody to read.
#[test]
fn over_plain_http_no_password_goes_even_where_it_is_asked_for() {
    let (send, heads) = mpsc::channel();
    let server = Server::start(move |mut stream, _| {
        while let Some((head, _)) = read_request(&mut stream) {
            let _ = send.send(head);
            let _ = std::io::Write::write_all(&mut stream, &unauthorized("WWW-Authenticate: Basic\r\n"));
        }
    });
    let told = ask(&server.url(), Config { allow_plaintext: true, ..config() }, true).unwrap();
    assert_eq!((told.status, told.signed), (401, false));
    assert!(heads.try_iter().all(|head| header(&head, "authorization").is_none()));
}

// A page without an end would fill the memory.
#[test]
fn an_answer_that_is_too_long_is_not_read() {
    let long = "x".repeat(2 << 20);
    let (server, authority, _) = scripted(vec![ok(&long)]);
    let e = ask(&url(&server), authority.config(), true).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
    // No option changes that.
    assert!(e.to_string().contains("1048576 bytes") && !e.to_string().contains("max_response_bytes"), "{e}");
}

// An administrator is told of a certificate before it expires.
#[test]
fn when_the_certificate_expires() {
    let (server, authority, _) = scripted(vec![ok(ENVELOPE)]);
    let config = authority.config();
    let told = ask(&url(&server), config.clone(), false).unwrap();
    let asker = asker(config);
    let end = asker.expires(&Endpoint::parse(&url(&server)).unwrap(), &told.session.unwrap()).unwrap();
    assert!(end > std::time::SystemTime::now());
}

// A stranger's web server would need one cookie, `a=Envelope`, to make the answers of every Autodiscover unreadable, so that no watch
// finds its server. And an address that quotes the password would have it in the server's log.
#[test]
fn a_cookie_cannot_spoil_what_is_read() {
    for (path, followed) in [("/EWS/Exchange.asmx".to_owned(), true), (format!("/EWS/{PASSWORD}"), false)] {
        let (told, lines) = checked(&path);
        assert!(told[0].contains("EWS is at https://"), "{told:#?}");
        assert!(!told.iter().any(|text| text.contains(PASSWORD)), "{told:#?}");
        let asked = lines.iter().any(|line| line == &format!("POST {path} HTTP/1.1"));
        assert_eq!(asked, followed, "{lines:#?}");
        let why = told.iter().any(|text| text.contains("quotes what the sign-in was sent with"));
        assert_eq!(why, !followed, "{told:#?}");
    }
}

// A load balancer whose cookie is the name of the server that the redirect leads to: nobody would know where.
#[test]
fn a_cookie_cannot_spoil_where_it_leads() {
    let to = "https://owa.example.test/autodiscover/autodiscover.xml";
    let (server, authority, _heads) = scripted(vec![
        unauthorized("WWW-Authenticate: Basic\r\nSet-Cookie: srv=owa.example.test; path=/\r\n"),
        answer("302 Found", &format!("Location: {to}\r\nX-Served-By: owa.example.test\r\n"), ""),
    ]);
    let told = ask(&url(&server), authority.config(), true).unwrap();
    assert_eq!((told.status, told.location.as_deref()), (302, Some(to)));
    assert_eq!(told.header("x-served-by"), Some("****************"), "what is only shown is without");
}

/// A check against a server that sets words of its own answers as cookies, and whose EWS is at this path: what it tells, and the first
/// lines that the server was sent.
fn checked(path: &str) -> (Vec<String>, Vec<String>) {
    let authority = Authority::new();
    let names = |params: &mut rcgen::CertificateParams| {
        let names = vec!["example.test".into(), "mail.example.test".into()];
        *params = rcgen::CertificateParams::new(names).unwrap();
    };
    let words = [
        "Envelope",
        "GetUserSettingsResponseMessage",
        "ExternalEwsUrl",
        "UserResponse",
        "mail.example.test",
        "Exchange.asmx",
    ];
    let cookies: String = words.iter().map(|word| format!("Set-Cookie: {word}={word}\r\n")).collect();
    let namespace = "http://schemas.microsoft.com/exchange/2010/Autodiscover";
    let envelope = format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><GetUserSettingsResponseMessage \
         xmlns=\"{namespace}\"><Response xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\"><ErrorCode>NoError</ErrorCode>\
         <UserResponses><UserResponse><ErrorCode>NoError</ErrorCode><UserSettings><UserSetting i:type=\"StringSetting\">\
         <Name>ExternalEwsUrl</Name><Value>https://mail.example.test{path}</Value></UserSetting></UserSettings>\
         </UserResponse></UserResponses></Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>"
    );
    let config = authority.server_config("example.test", names, rustls::ALL_VERSIONS);
    let (send, lines) = mpsc::channel();
    let server = answering_with(config, move |head, _| {
        let _ = send.send(head.lines().next().unwrap().to_owned());
        match header(head, "authorization") {
            Some(SIGNATURE) if head.contains("autodiscover.svc") => {
                answer("200 OK", &format!("Content-Type: text/xml\r\n{cookies}"), &envelope)
            }
            _ => unauthorized(&format!("WWW-Authenticate: Basic\r\n{cookies}")),
        }
    });
    let mut options = ewsnotify::Options::new();
    let (ca, to) = (authority.config().ca_file.unwrap(), format!("::127.0.0.1:{}", server.address.port()));
    for (key, value) in
        [("user", USER), ("password", PASSWORD), ("connect_to", &to), ("ca_file", ca.to_str().unwrap())]
    {
        options.set(key, value).unwrap();
    }
    let mut told = Vec::new();
    ewsnotify::check::check(&options, &Cancel::new(), &mut |finding| told.push(finding.message)).unwrap();
    (told, lines.try_iter().collect())
}

/// A token.
const TOKEN: &str = "eyJ0eXAiOiJKV1QifQ.zwiebelfisch";

#[derive(Debug)]
struct OneToken;

impl Tokens for OneToken {
    fn token(&self, _: &Context<'_>) -> ewsnotify::Result<Secret> {
        Ok(Secret::new(TOKEN))
    }
    fn refused(&self, _: &Secret, _: Option<&str>) {}
    fn who(&self) -> String {
        "account ada".into()
    }
}

// Hybrid servers name tokens only to who comes with one: their mailboxes would not be found. And whoever serves a company's pages would be
// given tokens that are good for its mail.
#[test]
fn a_token_goes_to_who_names_it_also_where_it_has_to_be_asked() {
    let ask = |answers: Vec<Vec<u8>>| {
        let (server, authority, heads) = scripted(answers);
        let auth = Bearer::new(Arc::new(OneToken));
        let question = Question::Post { body: b"<ask/>", soap_action: None, mailbox: Some(USER) };
        let endpoint = Endpoint::parse(&url(&server)).unwrap();
        let told = asker(authority.config()).ask(&endpoint, &question, Some(&auth), &Cancel::new()).unwrap();
        let sent: Vec<String> =
            heads.try_iter().map(|head| header(&head, "authorization").unwrap_or("-").to_owned()).collect();
        (told, sent)
    };
    let (ntlm, bearer) = (
        "WWW-Authenticate: NTLM\r\n",
        "WWW-Authenticate: Bearer client_id=\"00000002\", authorization_uri=\"x\"\r\n",
    );
    let signed = format!("Bearer {TOKEN}");
    let (told, sent) = ask(vec![unauthorized(bearer), ok(ENVELOPE)]);
    assert_eq!((told.status, told.signed, sent), (200, true, vec!["-".to_owned(), signed.clone()]));
    for first in [ntlm, ""] {
        let (told, sent) = ask(vec![unauthorized(first), unauthorized(bearer), ok(ENVELOPE)]);
        assert_eq!((told.status, told.signed), (200, true));
        assert_eq!(sent, ["-", "Bearer", &signed]);
        assert_eq!(told.offers.last().map(String::as_str), Some("Bearer"));
    }
    for second in
        [unauthorized(ntlm), answer("400 Bad Request", "", "no"), ok(ENVELOPE), answer("302 Found", "", "")]
    {
        let (told, sent) = ask(vec![unauthorized(ntlm), second]);
        assert_eq!((told.status, told.signed, told.offers), (401, false, vec!["NTLM".to_owned()]));
        assert_eq!(sent, ["-", "Bearer"], "no token");
    }
    // A server that is restarted just then says nothing of what it takes: a watch would end for it.
    for status in ["429 Too Many Requests", "503 Service Unavailable", "504 Gateway Timeout"] {
        let (told, sent) = ask(vec![unauthorized(ntlm), answer(status, "Retry-After: 7\r\n", "")]);
        assert_eq!((Some(told.status), told.signed), (status[..3].parse().ok(), false));
        assert_eq!((told.retry_after, sent.len()), (Some(std::time::Duration::from_secs(7)), 2));
    }
    let (told, sent) = ask(vec![unauthorized(ntlm), unauthorized(bearer), unauthorized(bearer)]);
    assert_eq!((told.status, told.signed, sent.len()), (401, true, 3));
}
