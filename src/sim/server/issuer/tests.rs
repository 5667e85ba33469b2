use super::*;

const ADA: &str = "ada@example.test";
const URL: &str = "https://login.example.test/common/oauth2/v2.0/token";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// With a program that has a secret, and one that has none.
fn issuer() -> Issuer {
    let issuer = Issuer::default();
    issuer.register("desk", Some("s3cret"), None);
    issuer.register("app", None, None);
    issuer.browsers(&[ADA, "bob@example.test"]);
    issuer
}

fn ask(issuer: &Issuer, form: &str) -> (u16, Value) {
    let said = issuer.answer(Place::Token, URL, "", form.as_bytes());
    (said.status, serde_json::from_str(&said.body).unwrap())
}

/// The error, and Entra's number for it.
fn refused(issuer: &Issuer, form: &str) -> (String, u64) {
    let (status, body) = ask(issuer, form);
    assert!(status >= 400, "{form}: {body}");
    (body["error"].as_str().unwrap().to_owned(), body["error_codes"][0].as_u64().unwrap_or_default())
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_else(|| panic!("{name}: {body}"))
}

/// Where the browser is sent that goes there with this query.
fn sent(issuer: &Issuer, query: &str) -> String {
    let said = issuer.answer(Place::Authorize, "", query, b"");
    said.location.unwrap_or_else(|| panic!("{query}: {}", said.body))
}

fn begin(more: &str) -> String {
    let challenge = sha256(VERIFIER);
    format!(
        "client_id=app&redirect_uri=https://a.test/&code_challenge={challenge}&code_challenge_method=S256{more}"
    )
}

fn exchange(code: &str, verifier: &str) -> String {
    format!(
        "client_id=app&grant_type=authorization_code&code={code}&redirect_uri=https://a.test/&code_verifier={verifier}"
    )
}

// An endpoint that believes anybody lets tests pass of a client that proves nothing.
#[test]
fn a_program_has_to_prove_that_it_is_one() {
    let issuer = issuer();
    let own = "grant_type=client_credentials&scope=https://outlook.office365.com/.default";
    for (form, error, number) in [
        (format!("client_id=other&{own}"), "unauthorized_client", 700_016),
        (format!("client_id=desk&{own}"), "invalid_client", 7_000_215),
        (format!("client_id=desk&client_secret=s3cre%74%21&{own}"), "invalid_client", 7_000_215),
        (format!("client_id=desk&client_assertion=a.b.c&{own}"), "invalid_client", 7_000_215),
        (format!("client_id=app&{own}"), "invalid_client", 70_002),
        (
            "client_id=desk&client_secret=s3cret&grant_type=client_credentials&scope=EWS".into(),
            "invalid_scope",
            1_002_012,
        ),
        ("client_id=desk&client_secret=s3cret&grant_type=password".into(), "unsupported_grant_type", 70_003),
        (exchange("code1", VERIFIER).replace("client_id=app", "client_id=desk"), "invalid_client", 7_000_215),
    ] {
        assert_eq!(refused(&issuer, &form), (error.to_owned(), number), "{form}");
    }
    let (status, body) = ask(&issuer, &format!("client_id=desk&client_secret=s3cre%74&{own}"));
    assert_eq!((status, body.get("refresh_token")), (200, None), "{body}");
    let bearer = issuer.bearer(text(&body, "access_token")).unwrap();
    assert!(bearer.app_only && bearer.name == "desk");
    assert_eq!(issuer.counts().granted, 1);
}

// A code that is good twice, for another program or without the verifier would hide a client that does not keep it.
#[test]
fn a_code_is_good_once_and_for_who_has_begun() {
    let issuer = issuer();
    let code = |query: &str| {
        let to = sent(&issuer, query);
        to.split(['?', '&'])
            .find_map(|pair| pair.strip_prefix("code="))
            .unwrap_or_else(|| panic!("{to}"))
            .to_owned()
    };
    for query in [begin("").replace("S256", "plain"), begin("").replace("code_challenge=", "x=")] {
        assert!(sent(&issuer, &query).contains("error=invalid_request"), "{query}");
    }
    for query in
        [begin("").replace("client_id=app", "client_id=other"), begin("").replace("redirect_uri", "x")]
    {
        let said = issuer.answer(Place::Authorize, "", &query, b"");
        assert_eq!(
            (said.status, said.location),
            (400, None),
            "nobody is sent to where nobody has registered"
        );
    }
    for form in [
        exchange(&code(&begin("")), "another"),
        exchange(&code(&begin("")), VERIFIER).replace("//a.test", "//b.test"),
        exchange(&code(&begin("")), VERIFIER).replace("client_id=app", "client_id=desk&client_secret=s3cret"),
        exchange("code99", VERIFIER),
    ] {
        assert_eq!(refused(&issuer, &form), ("invalid_grant".to_owned(), 501_481), "{form}");
    }
    let to =
        sent(&issuer, &begin("&state=a%2Bb+c&login_hint=bob@example.test").replace("a.test/", "a.test/?x=1"));
    assert!(to.starts_with("https://a.test/?x=1&code=") && to.ends_with("&state=a%2Bb%20c"), "{to}");
    let good = exchange(&code(&begin("&login_hint=bob@example.test")), VERIFIER);
    let (_, body) = ask(&issuer, &good);
    assert_eq!(issuer.bearer(text(&body, "access_token")).unwrap().name, "bob@example.test");
    assert_eq!(refused(&issuer, &good), ("invalid_grant".to_owned(), 54_005));
    issuer.browser(None);
    assert!(sent(&issuer, &begin("&state=s")).ends_with("&state=s"));
    assert!(sent(&issuer, &begin("")).contains("error=access_denied"));
}

// A refresh token that stays good hides a client that loses the one that replaces it.
#[test]
fn a_refresh_token_that_was_replaced_is_good_for_nothing() {
    let issuer = issuer();
    let form = |token: &str| format!("client_id=app&grant_type=refresh_token&refresh_token={token}");
    assert_eq!(refused(&issuer, &form("rt0")), ("invalid_grant".to_owned(), 70_000));
    issuer.rotate(false);
    let first = issuer.sign_in("app", ADA);
    assert_eq!(ask(&issuer, &form(&first)).1.get("refresh_token"), None);
    issuer.rotate(true);
    let (_, body) = ask(&issuer, &form(&first));
    let second = text(&body, "refresh_token").to_owned();
    assert!(issuer.is_newest(&second) && !issuer.is_newest(&first));
    // The access token ends; and does not do where claims are wanted that it was not asked for with.
    let token = text(&body, "access_token");
    assert!(issuer.bearer(token).is_ok());
    issuer.demand_claims(json!({"access_token": {"nbf": {"essential": true}}}));
    assert!(issuer.bearer(token).unwrap_err().contains("insufficient_claims"));
    let claims = "&claims=%7B%22access_token%22%3A%7B%22nbf%22%3A%7B%22essential%22%3Atrue%7D%7D%7D";
    let (_, body) = ask(&issuer, &(form(&second) + claims));
    assert!(issuer.bearer(text(&body, "access_token")).is_ok());
    issuer.set_life(Duration::ZERO);
    let third = text(&body, "refresh_token").to_owned();
    let (_, body) = ask(&issuer, &(form(&third) + claims));
    assert!(issuer.bearer(text(&body, "access_token")).unwrap_err().contains("invalid_token"));
    assert_eq!(refused(&issuer, &form(&first)), ("invalid_grant".to_owned(), 700_082));
    // Somebody may have stolen it, so the whole family is gone.
    assert_eq!(refused(&issuer, &form(text(&body, "refresh_token"))), ("invalid_grant".to_owned(), 70_000));
    assert_eq!(issuer.counts().old, 1);
}

// A device that may ask as often as it likes hides a client that does.
#[test]
fn a_device_waits_for_its_user() {
    let issuer = issuer();
    let begin = |client: &str| {
        let said = issuer.answer(Place::Device, URL, "", format!("client_id={client}").as_bytes());
        (said.status, serde_json::from_str::<Value>(&said.body).unwrap())
    };
    let form = |body: &Value| {
        let code = text(body, "device_code");
        format!("client_id=app&grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code={code}")
    };
    let page = |code: &str| issuer.answer(Place::DevicePage, "", &format!("user_code={code}"), b"").body;
    let error = |body: &Value| refused(&issuer, &form(body)).0;
    assert_eq!(begin("other").0, 400);
    let (_, body) = begin("app");
    assert_eq!(text(&body, "verification_uri"), "https://login.example.test/common/oauth2/v2.0/devicelogin");
    assert_eq!(
        (error(&body), error(&body)),
        ("authorization_pending".into(), "authorization_pending".into())
    );
    assert_eq!(
        refused(&issuer, &form(&body).replace("client_id=app", "client_id=desk&client_secret=s3cret")).0,
        "expired_token"
    );
    issuer.device_interval(60);
    let (_, strict) = begin("app");
    assert_eq!((error(&strict), error(&strict)), ("authorization_pending".into(), "slow_down".into()));
    // As people type it in.
    assert!(page("").contains("<form>") && page("SIM0").contains("no such code"));
    assert!(page(&format!("+{}%20", text(&body, "user_code").to_lowercase())).contains("Signed in"));
    assert!(page(text(&body, "user_code")).contains("no such code"), "once");
    let (status, tokens) = ask(&issuer, &form(&body));
    assert_eq!((status, issuer.bearer(text(&tokens, "access_token")).unwrap().name.as_str()), (200, ADA));
    assert_eq!(error(&body), "expired_token");
    issuer.browser(None);
    assert!(page(text(&strict, "user_code")).contains("said no"));
    assert_eq!(error(&strict), "authorization_declined");
}
