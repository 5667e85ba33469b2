//! The server says no, or nothing: refused sign-ins, failures in a row, throttling, limits, versions.

use super::*;

// A host whose password is wrong would lock its account out, or wait for ever without a word.
#[test]
fn a_refused_sign_in_at_the_start_stops_the_watch_loudly() {
    for error in
        [http(401), http(403), coded("ErrorPasswordExpired"), error(ErrorKind::Tls), http(404), http(302)]
    {
        let (mut d, call) = asking();
        d.fail(call, error);
        let told = d.told.pop_front().unwrap();
        assert_eq!(told.kind, EventKind::Error);
        assert!(told.detail.unwrap().message.unwrap().contains("add the watch again"));
        assert_eq!(d.told(), [(1, EventKind::Closed)]);
        d.wait(10_000.0);
        assert!(d.calls.is_empty() && d.opens.is_empty() && d.told.is_empty());
    }
}

// A domain controller that is down for a minute would end all watches; a changed password would be tried for ever.
#[test]
fn a_refusal_after_success_is_tried_twice_more_and_slowly() {
    let (mut d, conn) = streaming(1);
    d.wait(100.0);
    d.end(conn, Ok(()));
    let mut at = Vec::new();
    for _ in 0..3 {
        let (conn, _) = d.open();
        at.push(d.now.mono);
        d.end(conn, Err(http(401)));
        d.wait(70.0);
    }
    assert_eq!(d.story(), ["1 Disconnected ConnectionLost", "1 Error", "1 Closed SignInRefused"]);
    assert!(at.windows(2).all(|w| w[1] - w[0] >= Duration::from_secs(30)), "{at:?}");
    assert!(d.opens.is_empty());

    // The same in a call.
    let (mut d, _) = streaming(1);
    d.message(1, bad_ids("ErrorSubscriptionNotFound", &["s1"]));
    for _ in 0..3 {
        let (call, ..) = d.call();
        d.fail(call, http(403));
        d.wait(70.0);
    }
    assert_eq!(d.told().last(), Some(&(1, EventKind::Closed)));
    assert!(d.calls.iter().all(|c| matches!(c.3, Request::Unsubscribe { .. })), "{:?}", d.calls);
}

// The others of the same user have found the password refused, so that it is not sent for minutes: a watch that only asks whether it is
// would end, though the directory is well again and nothing was sent.
#[test]
fn a_watch_waits_until_its_password_is_sent_again() {
    let (mut d, _) = streaming(1);
    d.message(1, bad_ids("ErrorSubscriptionNotFound", &["s1"]));
    for _ in 0..2 {
        let (call, ..) = d.call();
        d.fail(call, http(401).with_retry_after(Some(Duration::from_secs(283))));
        d.wait(282.0);
        assert!(d.calls.is_empty(), "{:?}", d.calls);
        d.wait(2.0);
    }
    let (call, ..) = d.call();
    d.fail(call, http(401).with_retry_after(Some(Duration::from_secs(283))));
    assert_eq!(d.told().last(), Some(&(1, EventKind::Closed)), "nor for ever");
    // Who is signed in, or has another password, goes on meanwhile.
    d.add(2, |_| {});
    d.wait(0.0);
    let asked = d.calls.iter().any(|c| !matches!(c.3, Request::Unsubscribe { .. }));
    assert!(asked, "{:?}", d.calls);
}

// A directory has a bad moment, and one mailbox hears of it: a watch that is added just then would end, though its password is right.
#[test]
fn who_comes_while_a_good_password_is_refused_waits() {
    let (mut d, call) = asking();
    d.fail(call, http(401).with_refused_lately());
    assert_eq!(d.story(), ["1 Error"]);
    d.wait(29.0);
    assert!(d.calls.is_empty());
    d.wait(5.0);
    let (call, ..) = d.call();
    d.fail(call, http(401));
    assert_eq!(d.story(), ["1 Error", "1 Closed SignInRefused"]);
}

// A server under repair sends everybody to a page of patience: each watch would end within seconds; a server that has moved
// would be asked for ever, as if it were down.
#[test]
fn being_sent_elsewhere_after_success_is_tried_twice_more_and_slowly() {
    let (mut d, conn) = streaming(1);
    d.wait(100.0);
    d.end(conn, Ok(()));
    for _ in 0..2 {
        let (conn, _) = d.open();
        d.end(conn, Err(http(302)));
        d.wait(29.0);
        assert!(d.opens.is_empty());
        d.wait(41.0);
    }
    let (conn, _) = d.open();
    d.end(conn, Err(http(302)));
    let advice = d.told[1].detail.as_ref().unwrap().message.clone().unwrap();
    assert!(advice.contains("check the server's URL"), "{advice}");
    assert_eq!(d.story(), ["1 Disconnected ConnectionLost", "1 Error", "1 Closed HttpError"]);
}

// A server that is down would be silent, or flood the host with the same error.
#[test]
fn failures_in_a_row_are_told_at_the_first_and_each_tenth() {
    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    for n in 1..=20 {
        d.wait(80.0);
        let (call, ..) = d.call();
        d.fail(call, error(ErrorKind::Connect));
        if n == 1 {
            let detail = d.told.front().unwrap().detail.clone().unwrap();
            assert!(detail.retry_ms == Some(0) && detail.message.is_some());
        }
    }
    assert_eq!(d.told(), [(1, EventKind::Error); 3]);

    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    d.subscribe("s1");
    for _ in 1..=20 {
        d.wait(80.0);
        let (conn, _) = d.open();
        d.end(conn, Err(error(ErrorKind::Connect)));
    }
    use EventKind::{Disconnected, Error};
    assert_eq!(d.told(), [(1, Disconnected), (1, Error), (1, Error)]);
}

// A throttling server would be asked by everybody at once, again and again.
#[test]
fn a_busy_answer_holds_the_whole_endpoint_back_but_no_other() {
    let (mut d, call) = asking();
    d.fail(call, coded("ErrorServerBusy").with_retry_after(Some(Duration::from_secs(90))));
    d.add(2, |_| {});
    d.wait(89.0);
    assert!(d.calls.is_empty());
    d.add(3, |s| s.endpoint = 2);
    assert_eq!(d.call().1, 3);
    d.wait(3.0);
    assert_eq!(d.calls.len(), 2);
    let detail = d.told.front().unwrap().detail.clone().unwrap();
    assert_eq!(detail.code.as_deref(), Some("ErrorServerBusy"));
    assert!(detail.retry_ms.is_some_and(|ms| (90_000..91_000).contains(&ms)));
}

// Too many subscriptions or streams: asking every second would keep the limit used up.
#[test]
fn limits_that_free_themselves_slowly_are_waited_for() {
    for (code, least) in [("ErrorExceededSubscriptionCount", 120.0), ("ErrorExceededConnectionCount", 5.0)] {
        let (mut d, call) = asking();
        d.fail(call, coded(code));
        assert_eq!(d.told(), [(1, EventKind::Error)]);
        d.wait(least - 1.0);
        assert!(d.calls.is_empty());
        d.wait(10.0);
        assert_eq!(d.calls.len(), 1);
    }
}

// An Exchange 2010 would refuse everything, or a new one would be spoken to in an old version after one odd answer.
#[test]
fn the_version_is_lowered_only_until_one_has_worked() {
    let mut d = Desk::new(settings());
    d.add(1, |_| {});
    d.add(2, |_| {});
    let (first, _, version, _) = d.calls.pop_front().unwrap();
    let (second, ..) = d.calls.pop_front().unwrap();
    assert_eq!(version, RequestVersion::Exchange2013Sp1);
    d.fail(first, coded("ErrorInvalidServerVersion"));
    d.fail(second, coded("ErrorInvalidServerVersion"));
    let versions: Vec<_> = d.calls.iter().map(|c| c.2).collect();
    assert_eq!(versions, [RequestVersion::Exchange2010Sp2; 2]);
    let (first, ..) = d.call();
    d.fail(first, coded("ErrorSchemaValidation"));
    assert_eq!(d.calls.back().unwrap().2, RequestVersion::Exchange2010Sp1);
    let (second, ..) = d.call();
    d.answer(second, Answer::Folders(vec![Ok(FOLDER.into())]));
    assert!(d.calls.iter().all(|c| c.2 == RequestVersion::Exchange2010Sp1));
    assert!(d.told.is_empty());
    // One has worked: the same answer now means that the request is wrong.
    let (call, watch, _) = d.call();
    d.fail(call, coded("ErrorInvalidServerVersion"));
    assert_eq!(d.told(), [(watch, EventKind::Error), (watch, EventKind::Closed)]);
}
