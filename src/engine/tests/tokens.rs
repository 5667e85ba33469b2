//! Tokens that the host gives and keeps.

use super::*;
use crate::auth::Secret;

const ADA: &str = "ada";

fn no_token() -> Error {
    let wait = Some(Duration::from_secs(60));
    Error::new(ErrorKind::Auth, "the program has not given a token").with_retry_after(wait).no_token()
}

fn need(d: &mut Desk, reason: Reason) {
    let (account, resource) = (ADA.into(), "https://mail.example.test".to_owned());
    d.feed(Input::TokenNeeded { account, resource, reason, claims: None });
}

fn set(d: &mut Desk, renew_in: Option<u64>) {
    let renew_at = renew_in.map(|seconds| d.now.mono + Duration::from_secs(seconds));
    d.feed(Input::TokenSet { account: ADA.into(), renew_at });
}

fn rotated(d: &mut Desk, token: &str) {
    let input = Input::TokenRotated { account: ADA.into(), token: Secret::new(token) };
    d.engine.handle(d.now, input);
    d.execute();
}

/// A desk with a watch whose tokens the host gives.
fn desk() -> Desk {
    let mut d = Desk::new(settings());
    d.add(1, |s| s.account = Some(ADA.into()));
    d
}

fn streaming() -> (Desk, ConnId) {
    let mut d = desk();
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    d.told.clear();
    (d, conn)
}

// A program would fetch a token, and the watch would still wait for the end of its back-off; or be given up meanwhile.
#[test]
fn a_watch_waits_for_its_token_and_goes_on_at_once() {
    let mut d = desk();
    let (call, ..) = d.call();
    need(&mut d, Reason::TokenNeeded);
    d.fail(call, no_token());
    assert_eq!(d.story(), ["0 TokenNeeded TokenNeeded"], "and no Error beside it");
    assert_eq!(d.engine.status().watches[0].down, Some(Reason::TokenNeeded));
    d.wait(3.0);
    assert!(d.calls.is_empty());
    set(&mut d, None);
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    assert_eq!(d.story(), ["1 Connected"]);
}

// A program that has its token at hand answers sooner than the question comes to its end: the watch would begin a minute late.
#[test]
fn a_token_that_crosses_the_news_that_it_is_missing_is_used_at_once() {
    let mut d = desk();
    let (call, ..) = d.call();
    need(&mut d, Reason::TokenNeeded);
    set(&mut d, None);
    d.fail(call, no_token());
    d.wait(0.0);
    d.subscribe("s1");
    let (conn, _) = d.open();
    need(&mut d, Reason::TokenExpiring);
    set(&mut d, None);
    d.end(conn, Err(no_token()));
    d.wait(0.0);
    let (conn, _) = d.open();
    d.begin(conn);
    assert_eq!(d.engine.status().watches[0].down, None);
}

// A program that was not told again, or was told by every call, would not notice, or drown.
#[test]
fn a_token_that_is_owed_is_asked_for_every_five_minutes() {
    let mut d = desk();
    for minute in 0..20 {
        if let Some((call, ..)) = d.calls.pop_front() {
            need(&mut d, Reason::TokenNeeded);
            d.fail(call, no_token().context(minute));
        }
        d.wait(60.0);
    }
    let needs = d.told().iter().filter(|(_, kind)| *kind == EventKind::TokenNeeded).count();
    assert_eq!(needs, 5, "at the start, and after 5, 10, 15 and 20 minutes");
    set(&mut d, None);
    d.wait(0.0);
    assert!(!d.calls.is_empty(), "the watch was not given up");
    d.wait(600.0);
    assert!(d.told().iter().all(|(_, kind)| *kind != EventKind::TokenNeeded));
}

// Once an hour, when the token has ended just as the stream has, there would be a gap for nothing.
#[test]
fn a_short_wait_for_a_token_between_two_streams_is_no_gap() {
    let (mut d, conn) = streaming();
    let mut last = mail("s1", &["a"]);
    last.body.status = Some(Status::Closed);
    d.message(conn, last);
    d.end(conn, Ok(()));
    let (conn, _) = d.open();
    need(&mut d, Reason::TokenExpiring);
    d.end(conn, Err(no_token()));
    d.wait(10.0);
    assert!(d.opens.is_empty());
    set(&mut d, None);
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1"]);
    d.begin(conn);
    assert_eq!(
        d.story(),
        ["1 NewMail a", "1 Disconnected ClosedByServer", "0 TokenNeeded TokenExpiring", "1 Connected"]
    );
}

// A token would end in the middle of a stream, and be asked for only when the stream could not be opened again.
#[test]
fn the_next_token_is_asked_for_ahead() {
    let (mut d, _) = streaming();
    set(&mut d, Some(3300));
    d.wait(3299.0);
    assert_eq!(d.story(), [""; 0]);
    d.wait(2.0);
    assert_eq!(d.story(), ["0 TokenNeeded TokenExpiring"]);
    // It is refused before its time: that is worth another word.
    need(&mut d, Reason::TokenRefused);
    need(&mut d, Reason::TokenRefused);
    assert_eq!(d.story(), ["0 TokenNeeded TokenRefused"]);
    set(&mut d, Some(3300));
    d.feed(Input::Remove(1));
    d.told.clear();
    d.wait(100_000.0);
    assert_eq!(d.story(), [""; 0], "nobody signs in with it any more");
}

// A program whose tokens are all refused would ask the server as fast as it can fetch them, until the account is locked.
#[test]
fn tokens_that_are_refused_one_after_the_other_wait() {
    let mut d = desk();
    let mut waits = Vec::new();
    for _ in 0..5 {
        let (call, ..) = d.call();
        need(&mut d, Reason::TokenRefused);
        d.fail(call, no_token());
        set(&mut d, None);
        let from = d.now.mono;
        while d.calls.is_empty() {
            d.wait(1.0);
        }
        waits.push((d.now.mono - from).as_secs());
    }
    assert_eq!(waits[..2], [0, 0]);
    assert!(waits[2..].iter().all(|wait| (30..=31).contains(wait)), "{waits:?}");
}

// Whoever takes a consent back would have a program that waits for ever, and says nothing.
#[test]
fn a_token_that_cannot_be_had_ends_the_accounts_watches() {
    let (mut d, conn) = streaming();
    d.add(2, |_| {});
    need(&mut d, Reason::TokenExpiring);
    let error = Error::sign_in_needed("account ada has to be signed in anew: the consent was taken back");
    d.told.clear();
    d.feed(Input::TokenDenied { account: ADA.into(), error });
    let message = d.told[0].detail.as_ref().and_then(|d| d.message.clone()).unwrap();
    assert!(message.contains("consent") && message.contains("add the watch again"), "{message}");
    assert_eq!(d.story(), ["1 Error", "1 Closed SignInRefused"]);
    assert_eq!(d.aborts, [conn]);
    d.wait(1000.0);
    assert_eq!(d.story(), [""; 0], "and no token is asked for");
    assert!(d.engine.watches(2));
}

/// The refresh token that the next event has, and its number.
fn next_token(d: &mut Desk) -> Option<(String, u64)> {
    let event = d.engine.take(d.now)?;
    assert_eq!(event.kind, EventKind::TokenRotated);
    let detail = event.detail.unwrap();
    assert_eq!(detail.account.as_deref(), Some(ADA));
    assert!(!format!("{detail:?}").contains("secret"), "a Debug text shows it: {detail:?}");
    Some((detail.refresh_token.unwrap().expose().to_owned(), event.seq))
}

// Behind ten thousand mails, the old refresh token would be kept when the program is killed: signed out for good.
#[test]
fn a_new_refresh_token_goes_first_and_comes_again_until_it_is_kept() {
    let (mut d, conn) = streaming();
    let body = Streamed { notifications: mail("s1", &["a", "b"]).body.notifications, ..Streamed::default() };
    let input = Input::Message { conn, responses: vec![response(ResponseClass::Success, "NoError", body)] };
    d.engine.handle(d.now, input);
    rotated(&mut d, "secret-1");
    rotated(&mut d, "secret-2");
    let (token, first) = next_token(&mut d).unwrap();
    assert_eq!(token, "secret-2", "the older one is of no use");
    while let Some(event) = d.engine.take(d.now) {
        assert_eq!(event.kind, EventKind::NewMail);
    }
    d.now.mono += Duration::from_secs(60);
    d.engine.handle(d.now, Input::Tick);
    let (token, seq) = next_token(&mut d).unwrap();
    assert!(token == "secret-2" && seq > first);
    d.engine.nack(d.now, seq, Nack::Retry(Duration::ZERO)).unwrap();
    assert!(d.engine.nack(d.now, seq, Nack::Retry(Duration::ZERO)).is_err(), "it has been given back");
    let (_, seq) = next_token(&mut d).unwrap();
    assert!(d.engine.nack(d.now, seq, Nack::Park).unwrap_err().to_string().contains("TokenRotated"));
    d.engine.ack(d.now, seq).unwrap();
    assert!(d.engine.ack(d.now, seq).is_err());
    d.wait(1000.0);
    assert_eq!(d.story(), [""; 0]);
}

// One that came with the last word of a program that is being ended would be lost.
#[test]
fn a_refresh_token_that_is_not_kept_is_told_again_at_the_end() {
    let (mut d, _) = streaming();
    rotated(&mut d, "secret-1");
    let (_, seq) = next_token(&mut d).unwrap();
    // An acknowledgement of an older one keeps nothing of the newer.
    rotated(&mut d, "secret-2");
    d.engine.ack(d.now, seq).unwrap();
    d.engine.handle(d.now, Input::Close);
    d.execute();
    let (token, seq) = next_token(&mut d).unwrap();
    assert_eq!(token, "secret-2");
    d.engine.ack(d.now, seq).unwrap();
    rotated(&mut d, "secret-3");
    assert_eq!(next_token(&mut d).unwrap().0, "secret-3", "one that comes while it closes");
}

/// A mail comes on the stream, and its summary is asked for.
fn mail_to_fetch() -> (Desk, ConnId, CallId) {
    let mut d = Desk::new(settings());
    d.add(1, |s| (s.account, s.fetch) = (Some(ADA.into()), Fetch::Summary));
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    d.message(conn, mail("s1", &["a"]));
    d.told.clear();
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::GetItem { .. }), "{request:?}");
    (d, conn, call)
}

// A program that needs five minutes for a token would be given its mails without what it asked for.
#[test]
fn an_item_waits_for_a_token_however_long_that_takes() {
    let (mut d, _, mut call) = mail_to_fetch();
    for _ in 0..20 {
        need(&mut d, Reason::TokenExpiring);
        d.fail(call, no_token());
        while d.calls.is_empty() {
            d.wait(10.0);
        }
        (call, ..) = d.call();
    }
    let item = Item { id: Id { id: "a".into(), change_key: None }, ..Item::default() };
    d.answer(call, Answer::Items(vec![Ok(item)]));
    assert!(d.story().contains(&"1 NewMail a Ok".to_owned()));
}

// The mails of a whole half hour would come without their content, and be done with, before anybody hears that the sign-in is over.
#[test]
fn whatever_is_asked_hears_that_the_sign_in_is_over() {
    let (mut d, conn, call) = mail_to_fetch();
    d.fail(call, Error::sign_in_needed("invalid_grant").with_code("invalid_grant"));
    assert_eq!(d.story(), ["1 NewMail a Unavailable", "1 Error", "1 Closed SignInRefused"]);
    assert_eq!(d.aborts, [conn]);
}

// A watch that is taken back and added again would wait for a token that nobody is asked for.
#[test]
fn who_comes_back_asks_anew() {
    let mut d = desk();
    let (call, ..) = d.call();
    need(&mut d, Reason::TokenNeeded);
    d.fail(call, no_token());
    d.feed(Input::Remove(1));
    d.wait(1000.0);
    d.told.clear();
    d.add(2, |s| s.account = Some(ADA.into()));
    let (call, ..) = d.call();
    need(&mut d, Reason::TokenNeeded);
    d.fail(call, no_token());
    assert_eq!(d.story(), ["0 TokenNeeded TokenNeeded"]);
}

// Where nobody knows when a token ends, each ends by a refusal: from the third hour on there would be a pause after each.
#[test]
fn a_token_that_has_worked_may_be_refused() {
    let (mut d, mut conn) = streaming();
    for _ in 0..6 {
        d.wait(3600.0);
        d.end(conn, Err(Error::new(ErrorKind::Io, "reset")));
        while d.opens.is_empty() {
            d.wait(1.0);
        }
        let (refused, _) = d.open();
        // Several requests bring the news.
        (0..5).for_each(|_| need(&mut d, Reason::TokenRefused));
        d.end(refused, Err(no_token()));
        set(&mut d, None);
        (conn, _) = d.open();
        d.begin(conn);
    }
}

// The server asked for ten minutes of quiet, and a token that came meanwhile would have everybody ask at once.
#[test]
fn a_token_does_not_end_a_wait_that_the_server_asked_for() {
    let mut d = desk();
    let (call, ..) = d.call();
    let busy = Error::new(ErrorKind::Server, "busy").with_code("ErrorServerBusy");
    d.fail(call, busy.with_retry_after(Some(Duration::from_secs(300))));
    set(&mut d, None);
    d.wait(299.0);
    assert!(d.calls.is_empty());
    d.wait(2.0);
    assert!(!d.calls.is_empty());
}
