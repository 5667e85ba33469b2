//! The sequence, against servers that are lists of answers.

use super::*;

const ADA: &str = "ada@example.test";

/// What a place answers, by the end of its URL and the address that is asked for; everything else is out of reach.
type Answers<'a> = &'a [(&'a str, Result<Told>)];

struct Run {
    asked: Vec<String>,
    steps: Vec<(Outcome, String)>,
    result: Result<Found>,
}

fn run(search: Search, answers: Answers<'_>) -> Run {
    let mut search = search;
    let mut asked = Vec::new();
    while let Some(ask) = search.next().unwrap() {
        assert!(
            ask.place.endpoint.is_https() || (ask.place.dialect == Dialect::Redirect && ask.body.is_empty())
        );
        let (url, body) = (ask.place.endpoint.to_string(), String::from_utf8(ask.body).unwrap());
        let found = answers.iter().find(|(end, _)| match end.split_once(' ') {
            Some((end, address)) => url.ends_with(end) && body.contains(&format!(">{address}<")),
            None => url.ends_with(end),
        });
        asked.push(url);
        assert!(asked.len() < 100, "it never ends: {asked:?}");
        search.answered(match found {
            Some((_, Ok(told))) => Ok(told.clone()),
            Some((_, Err(e))) => Err(Error::new(e.kind(), e.to_string())),
            None => Err(Error::new(ErrorKind::Connect, "no such name")),
        });
    }
    let steps = search.steps().iter().map(|s| (s.outcome, s.text.clone())).collect();
    Run { asked, steps, result: search.finish() }
}

fn search() -> Search {
    Search::new(ADA, ADA, &[], None).unwrap()
}

fn status(status: u16) -> Result<Told> {
    Ok(Told::of(status, ""))
}

fn to(status: u16, location: &str) -> Result<Told> {
    Ok(Told { location: Some(location.into()), ..Told::of(status, "") })
}

fn unauthorized(offers: &[&str], signed: bool) -> Result<Told> {
    let offers = offers.iter().map(|o| (*o).to_owned()).collect();
    Ok(Told { offers, signed, ..Told::of(401, "") })
}

fn soap_user(user: &str) -> Result<Told> {
    Ok(Told::of(
        200,
        &format!(
            "<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/' xmlns='http://schemas.microsoft.com/exchange/2010/Autodiscover'>\
             <e:Body><GetUserSettingsResponseMessage><Response><ErrorCode>NoError</ErrorCode><UserResponses><UserResponse>{user}\
             </UserResponse></UserResponses></Response></GetUserSettingsResponseMessage></e:Body></e:Envelope>"
        ),
    ))
}

fn soap_settings(settings: &[(&str, &str)]) -> Result<Told> {
    let all: String = settings
        .iter()
        .map(|(name, value)| format!("<UserSetting><Name>{name}</Name><Value>{value}</Value></UserSetting>"))
        .collect();
    soap_user(&format!("<ErrorCode>NoError</ErrorCode><UserSettings>{all}</UserSettings>"))
}

fn soap_found(url: &str) -> Result<Told> {
    soap_settings(&[("ExternalEwsUrl", url), ("GroupingInformation", "EX1")])
}

fn soap_redirect(code: &str, to: &str) -> Result<Told> {
    soap_user(&format!("<ErrorCode>{code}</ErrorCode><RedirectTarget>{to}</RedirectTarget>"))
}

fn pox(account: &str) -> Result<Told> {
    Ok(Told::of(
        200,
        &format!("<Autodiscover><Response><Account>{account}</Account></Response></Autodiscover>"),
    ))
}

const HTML: &str = "<!DOCTYPE html><html><body>Welcome</body></html>";
const EWS: &str = "https://mail.example.test/EWS/Exchange.asmx";

// The order of the documents: a client that asks in another one finds another server, or none.
#[test]
fn the_order() {
    let run = run(search(), &[]);
    assert_eq!(
        run.asked,
        [
            "https://example.test/autodiscover/autodiscover.svc",
            "https://autodiscover.example.test/autodiscover/autodiscover.svc",
            "http://autodiscover.example.test/autodiscover/autodiscover.xml",
        ],
        "of one that is out of reach, the other dialect is too"
    );
    let e = run.result.unwrap_err();
    assert!(e.kind() == ErrorKind::Connect && e.is_retryable(), "{e}");
    assert!(e.to_string().contains("no such name") && e.to_string().contains("option url"), "{e}");
    let run = self::run(search(), &[(".svc", status(404)), (".xml", status(404))]);
    assert_eq!(run.asked.len(), 5, "both dialects of both: {:?}", run.asked);
    assert_eq!(run.result.unwrap_err().kind(), ErrorKind::Protocol);
}

// What passes by itself is asked again; what somebody has to set up is told as that, though the company's web server, which has
// nothing to do with it, is away.
#[test]
fn what_may_pass_is_told_from_what_is_set_up_wrongly() {
    let (mail, http) =
        ("/autodiscover.example.test/autodiscover/autodiscover", "http://autodiscover.example.test");
    let (svc, xml) = (format!("{mail}.svc"), format!("{mail}.xml"));
    let http = format!("{http}/autodiscover/autodiscover.xml");
    let away = || Err(Error::new(ErrorKind::Connect, "refused"));
    for (answers, kind) in [
        (vec![(&svc, status(404)), (&xml, status(404))], ErrorKind::Protocol),
        (
            vec![(&svc, Ok(Told::of(200, HTML))), (&xml, status(404)), (&http, status(404))],
            ErrorKind::Protocol,
        ),
        (vec![(&http, away()), (&svc, status(404)), (&xml, status(404))], ErrorKind::Protocol),
        (vec![(&svc, status(503)), (&xml, status(503))], ErrorKind::Connect),
        (vec![(&http, status(404)), (&svc, away())], ErrorKind::Connect),
    ] {
        let answers: Vec<(&str, Result<Told>)> =
            answers.into_iter().map(|(end, answer)| (end.as_str(), answer)).collect();
        let run = run(search(), &answers);
        let e = run.result.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
    }
}

// What ISPs and web hosts answer must not be taken for a server, nor end the search.
#[test]
fn what_is_no_autodiscover_is_passed_by() {
    let found = ("autodiscover.example.test/autodiscover/autodiscover.svc", soap_found(EWS));
    for answer in [
        Ok(Told::of(200, HTML)),
        Ok(Told::of(200, "")),
        Ok(Told::of(200, "<rss/>")),
        Ok(Told::of(200, "<Autodiscover/>")),
        Ok(Told::of(200, "\u{1}\u{2}")),
        status(403),
        status(404),
        status(500),
        status(503),
        to(301, "https://www.example.test/"),
        to(302, "https://login.other.test/?from=autodiscover"),
        to(308, ""),
        Err(Error::new(ErrorKind::Tls, "for another name")),
        Err(Error::new(ErrorKind::Limit, "too long")),
        pox(
            "<AccountType>email</AccountType><Action>settings</Action><Protocol><Type>IMAP</Type></Protocol>",
        ),
        soap_settings(&[]),
        soap_settings(&[("ExternalEwsUrl", "http://mail.example.test/EWS/Exchange.asmx")]),
    ] {
        let shown = format!("{answer:?}");
        let run =
            run(search(), &[found_first(&found), ("/example.test/autodiscover/autodiscover.svc", answer)]);
        let found = run.result.unwrap_or_else(|e| panic!("{shown}: {e}"));
        assert_eq!(
            (found.ews().to_string().as_str(), found.grouping.as_deref()),
            (EWS, Some("EX1")),
            "{shown}"
        );
    }
}

fn found_first<'a>(answer: &(&'a str, Result<Told>)) -> (&'a str, Result<Told>) {
    (answer.0, answer.1.as_ref().map(Told::clone).map_err(|e| Error::new(e.kind(), e.to_string())))
}

// An old server speaks POX only; one from inside names no other URL.
#[test]
fn pox_and_urls_from_inside() {
    let account = format!(
        "<Action>settings</Action><Protocol><Type>EXCH</Type><EwsUrl>https://inside.example.test/EWS/Exchange.asmx</EwsUrl>\
         <GroupingInformation>G</GroupingInformation></Protocol><Protocol><Type>EXPR</Type><EwsUrl>{EWS}</EwsUrl></Protocol>"
    );
    let run = run(search(), &[(".svc", status(404)), (".xml", pox(&account))]);
    let found = run.result.unwrap();
    assert_eq!(found.external.unwrap().to_string(), EWS);
    assert_eq!(found.internal.unwrap().host(), "inside.example.test");
    assert_eq!((found.grouping.as_deref(), found.by.dialect), (Some("G"), Dialect::Pox));
    let run = self::run(search(), &[(".svc", soap_settings(&[("InternalEwsUrl", EWS)]))]);
    assert_eq!(run.result.unwrap().ews().to_string(), EWS);
}

// Where DNS knows only http: the redirect counts, nothing else does, and no password goes there.
#[test]
fn the_redirect_of_plain_http() {
    let redirect = "http://autodiscover.example.test/autodiscover/autodiscover.xml";
    let place = "https://mail.example.test/autodiscover/autodiscover.xml";
    let soap = "mail.example.test/autodiscover/autodiscover.svc";
    let run = run(search(), &[(redirect, to(302, place)), (soap, soap_found(EWS))]);
    assert_eq!(run.result.unwrap().ews().to_string(), EWS);
    for answer in [
        to(301, place),
        to(302, "http://mail.example.test/autodiscover/autodiscover.xml"),
        soap_found(EWS),
        status(200),
    ] {
        let run = self::run(search(), &[(redirect, answer), (soap, soap_found(EWS))]);
        assert!(run.result.is_err(), "{:?}", run.asked);
        assert!(!run.asked.iter().any(|url| url.contains("mail.example.test")), "{:?}", run.asked);
    }
}

// The password of a company would go to whoever can write into its DNS or its web server.
#[test]
fn a_redirect_to_an_unknown_domain_is_told_and_not_followed() {
    let elsewhere = "https://autodiscover.hoster.test/autodiscover/autodiscover.svc";
    for answer in [
        to(302, elsewhere),
        soap_redirect("RedirectUrl", elsewhere),
        soap_redirect("RedirectAddress", "ada@hoster.test"),
    ] {
        let at = "autodiscover.example.test/autodiscover/autodiscover.svc";
        let hoster = ("hoster.test/autodiscover/autodiscover.svc", soap_found("https://ews.hoster.test"));
        let shown = format!("{answer:?}");
        let answers = [(at, answer), hoster];
        let run = run(search(), &answers);
        assert!(!run.asked.iter().any(|url| url.contains("hoster")), "{shown}: {:?}", run.asked);
        let e = run.result.unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("trusted_domains"), "{shown}: {e}");
        let trusted = Search::new(ADA, ADA, &["hoster.test".into()], None).unwrap();
        let found = self::run(trusted, &answers).result.unwrap_or_else(|e| panic!("{shown}: {e}"));
        assert_eq!(found.ews().host(), "ews.hoster.test", "{shown}");
    }
    // Exchange Online's own domains need no word.
    let online = "https://autodiscover-s.outlook.com/autodiscover/autodiscover.xml";
    let answers = [
        ("http://autodiscover.example.test/autodiscover/autodiscover.xml", to(302, online)),
        (
            "outlook.com/autodiscover/autodiscover.svc",
            soap_found("https://outlook.office365.com/EWS/Exchange.asmx"),
        ),
    ];
    assert_eq!(self::run(search(), &answers).result.unwrap().ews().host(), "outlook.office365.com");
}

// Anybody may write an address into a ticket; the password of the service account must not follow it home.
#[test]
fn a_mailbox_of_another_domain_is_asked_for_at_the_users_own() {
    let search = Search::new("eve@evil.test", "svc@example.test", &[], None).unwrap();
    let run = run(search, &[]);
    assert!(!run.asked.iter().any(|url| url.contains("evil")), "{:?}", run.asked);
    assert!(run.asked[0].contains("//example.test/"));
    let search = Search::new("ada@brand.test", "svc@example.test", &["brand.test".into()], None).unwrap();
    assert!(self::run(search, &[]).asked[0].contains("//brand.test/"));
    let search = Search::new("ada@sub.example.test", "svc@example.test", &[], None).unwrap();
    assert!(self::run(search, &[]).asked[0].contains("//sub.example.test/"));
    // Who signs in as DOMAIN\name has no domain to be trusted by: somebody has to name one.
    let e = Search::new("eve@evil.test", "EXAMPLE\\svc", &["example.test".into()], None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    for words in ["EXAMPLE\\svc", "eve@evil.test", "trusted_domains=evil.test", "option url"] {
        assert!(e.to_string().contains(words), "{words}: {e}");
    }
    let search = Search::new(ADA, "EXAMPLE\\svc", &["example.test".into()], None).unwrap();
    assert!(self::run(search, &[]).asked[0].contains("//example.test/"));
    let search = Search::new("ada@corp.onmicrosoft.com", "EXAMPLE\\svc", &[], None).unwrap();
    assert!(self::run(search, &[]).asked[0].contains("//corp.onmicrosoft.com/"));
    // Nor is the domain of an address that it gives instead.
    let e = Search::new("EXAMPLE\\svc", "EXAMPLE\\svc", &[], None).unwrap_err();
    assert!(e.to_string().contains("no mail address"), "{e}");
}

// An address in another domain of the same company: the answer for it counts, and its new name is kept.
#[test]
fn a_redirect_to_another_address() {
    let moved = "elvin@mail.example.test";
    let run = run(
        search(),
        &[
            ("/example.test/autodiscover/autodiscover.svc", soap_redirect("RedirectAddress", moved)),
            (
                "autodiscover.mail.example.test/autodiscover/autodiscover.svc elvin@mail.example.test",
                soap_found(EWS),
            ),
        ],
    );
    assert_eq!(run.result.unwrap().address, moved);
    assert_eq!(
        run.steps.iter().map(|s| s.0).collect::<Vec<_>>(),
        [Outcome::Redirected, Outcome::Unreachable, Outcome::Found]
    );
    let run = self::run(
        search(),
        &[
            (".svc", status(404)),
            (
                "/example.test/autodiscover/autodiscover.xml",
                pox(&format!("<Action>redirectAddr</Action><RedirectAddr>{moved}</RedirectAddr>")),
            ),
            (
                "/mail.example.test/autodiscover/autodiscover.xml",
                pox(
                    "<Action>redirectUrl</Action><RedirectUrl>https://x.example.test/autodiscover/autodiscover.xml</RedirectUrl>",
                ),
            ),
            (
                "/x.example.test/autodiscover/autodiscover.xml elvin@mail.example.test",
                pox(&format!(
                    "<Action>settings</Action><Protocol><Type>EXPR</Type><EwsUrl>{EWS}</EwsUrl></Protocol>"
                )),
            ),
        ],
    );
    assert_eq!(run.result.unwrap().ews().to_string(), EWS);
}

// A server that sends in a circle would keep a thread busy for ever, and an administrator guessing.
#[test]
fn circles_and_long_ways_end() {
    let a = "https://a.example.test/autodiscover/autodiscover.svc";
    let b = "https://b.example.test/autodiscover/autodiscover.svc";
    let answers = [
        ("/autodiscover.example.test/autodiscover/autodiscover.svc", soap_redirect("RedirectUrl", a)),
        ("/a.example.test/autodiscover/autodiscover.svc", to(302, b)),
        ("/b.example.test/autodiscover/autodiscover.svc", soap_redirect("RedirectUrl", a)),
    ];
    let run = run(search(), &answers);
    let (_, text) = run.steps.iter().find(|s| s.0 == Outcome::NotFollowed).unwrap();
    assert!(text.contains("in a circle"), "{text}");
    assert_eq!(run.result.unwrap_err().kind(), ErrorKind::Invalid);
    let answers = [(
        "/example.test/autodiscover/autodiscover.svc",
        soap_redirect("RedirectAddress", "bob@example.test"),
    )];
    let circle = [
        ("svc ada@example.test", soap_redirect("RedirectAddress", "bob@example.test")),
        ("svc bob@example.test", soap_redirect("RedirectAddress", "ADA@example.test")),
    ];
    assert!(self::run(search(), &answers).steps.iter().any(|s| s.0 == Outcome::Redirected));
    assert!(self::run(search(), &circle).steps.iter().any(|s| s.1.contains("in a circle")));
    // Each to the next, without end.
    let mut search = search();
    let mut asked = 0;
    while let Some(ask) = search.next().unwrap() {
        asked += 1;
        let next = format!("https://n{asked}.example.test/autodiscover/autodiscover.svc");
        search.answered(
            match ask.place.endpoint.host() == "example.test" || ask.place.endpoint.host().starts_with('n') {
                true => soap_redirect("RedirectUrl", &next),
                false => status(404),
            },
        );
    }
    assert!(asked < 20, "{asked}");
    assert!(search.steps().iter().any(|s| s.text.contains("more than 10")));
}

// A wrong password that is sent to every address in both dialects locks the account; and the host must hear of it.
#[test]
fn a_refused_sign_in() {
    let run = run(
        search(),
        &[(".svc", unauthorized(&["Basic", "NTLM"], true)), (".xml", unauthorized(&["Basic"], true))],
    );
    assert_eq!(run.asked.iter().filter(|url| url.starts_with("https")).count(), 2, "{:?}", run.asked);
    let e = run.result.unwrap_err();
    assert!(e.kind() == ErrorKind::Auth && e.to_string().contains("check user and password"), "{e}");
    // Where none was sent, the password is not what has to be checked.
    for offers in [&["NTLM"][..], &[]] {
        let run = self::run(search(), &[(".svc", unauthorized(offers, false))]);
        let (outcome, text) = &run.steps[0];
        assert!(*outcome == Outcome::NoWayIn && !text.contains("password"), "{text}");
        assert!(offers.is_empty() || text.contains("Set-AutodiscoverVirtualDirectory"), "{text}");
        let e = run.result.unwrap_err();
        assert!(e.kind() == ErrorKind::Auth && e.has_no_way_in(), "{e}");
    }
}

// A mailbox that is not there needs another address, not another try; a busy server needs another try.
#[test]
fn who_is_not_known_and_who_is_busy() {
    let user =
        |code: &str| soap_user(&format!("<ErrorCode>{code}</ErrorCode><ErrorMessage>No.</ErrorMessage>"));
    let run =
        run(search(), &[("autodiscover.example.test/autodiscover/autodiscover.svc", user("InvalidUser"))]);
    let e = run.result.unwrap_err();
    assert!(
        e.kind() == ErrorKind::Invalid && e.to_string().contains("does not know ada@example.test"),
        "{e}"
    );
    let run = self::run(
        search(),
        &[("autodiscover.example.test/autodiscover/autodiscover.svc", user("ServerBusy"))],
    );
    assert_eq!(run.result.unwrap_err().kind(), ErrorKind::Connect);
    let run = self::run(
        search(),
        &[(
            "autodiscover.example.test/autodiscover/autodiscover.svc",
            Err(Error::new(ErrorKind::Tls, "expired")),
        )],
    );
    assert_eq!(run.result.unwrap_err().kind(), ErrorKind::Tls);
}

// Thousands of mailboxes of a domain: only the first one tries those who do not answer.
#[test]
fn who_answered_for_the_domain_is_asked_first() {
    let place = Place {
        dialect: Dialect::Soap,
        endpoint: Endpoint::parse("https://autodiscover.example.test/autodiscover/autodiscover.svc").unwrap(),
    };
    let known = || Search::new(ADA, ADA, &[], Some(&place)).unwrap();
    let run = run(known(), &[("autodiscover.example.test/autodiscover/autodiscover.svc", soap_found(EWS))]);
    assert_eq!(run.asked.len(), 1);
    assert!(run.result.is_ok());
    // One of a domain that this watch does not trust is not.
    let elsewhere = Endpoint::parse("https://hoster.test/autodiscover/autodiscover.svc").unwrap();
    let other = Place { dialect: Dialect::Soap, endpoint: elsewhere };
    let run = self::run(Search::new(ADA, ADA, &[], Some(&other)).unwrap(), &[]);
    assert!(!run.asked.iter().any(|url| url.contains("hoster")), "{:?}", run.asked);
    // It may be gone: then all is as if it had never answered.
    let run = self::run(known(), &[("/example.test/autodiscover/autodiscover.svc", soap_found(EWS))]);
    assert!(run.result.is_ok());
}

// A server's text goes into events and logs: it must not carry anything that acts there, nor be long.
#[test]
fn strangers_texts_are_harmless() {
    let evil = format!("https://a.test/autodiscover/autodiscover.\u{1b}[2J{}", "x".repeat(5000));
    let run = run(search(), &[(".svc", to(302, &evil)), (".xml", to(302, &evil))]);
    let e = run.result.unwrap_err().to_string();
    assert!(!e.contains('\u{1b}') && e.len() < 4000, "{} {e}", e.len());
}
