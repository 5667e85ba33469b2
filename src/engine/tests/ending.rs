//! How watches and the client end.

use super::*;

// A watch that was taken back would leave its subscription on the server, where it counts against a limit.
#[test]
fn remove_closes_at_once_and_unsubscribes() {
    let (mut d, conn) = streaming(2);
    d.feed(Input::Remove(1));
    assert_eq!(d.story(), ["1 Closed ClosedByHost"]);
    let (call, watch, request) = d.call();
    assert!(
        watch == 1 && matches!(request, Request::Unsubscribe { subscription_id } if subscription_id == "s1")
    );
    d.fail(call, error(ErrorKind::Io));
    d.message(conn, mail("s1", &["late"]));
    d.message(conn, mail("s2", &["a"]));
    assert!(d.aborts.is_empty());
    assert_eq!(d.story(), ["2 NewMail a"]);
    d.feed(Input::Remove(2));
    assert_eq!(d.aborts, [conn]);
    // A Subscribe that is answered after its watch was taken back.
    d.add(3, |s| s.folders.clear());
    let (unsubscribe, ..) = d.call();
    d.answer(unsubscribe, Answer::Unsubscribed);
    let (call, ..) = d.call();
    d.feed(Input::Remove(3));
    d.told.clear();
    d.answer(call, Answer::Subscribed { id: "s3".into(), watermark: None, date: None });
    let (_, watch, request) = d.call();
    assert!(
        watch == 3 && matches!(request, Request::Unsubscribe { subscription_id } if subscription_id == "s3")
    );
    assert!(d.told.is_empty());
}

// close() would hang on a server that does not answer, or lose the Closed events, or leave streams behind.
#[test]
fn close_tells_at_once_and_finishes_when_the_network_has() {
    let (mut d, conn) = streaming(1);
    d.add(2, |s| s.folders.clear());
    let (subscribing, ..) = d.call();
    d.feed(Input::Close);
    assert_eq!(d.told(), [(1, EventKind::Closed), (2, EventKind::Closed), (0, EventKind::Closed)]);
    assert_eq!(d.aborts, [conn]);
    assert_eq!(d.engine.wake_at(), None);
    let (unsubscribing, ..) = d.call();
    // Whatever comes now is told to nobody.
    d.message(conn, mail("s1", &["late"]));
    d.add(3, |_| {});
    d.feed(Input::Close);
    d.feed(Input::Tick);
    d.answer(subscribing, Answer::Subscribed { id: "s2".into(), watermark: None, date: None });
    let (late, watch, request) = d.call();
    assert!(watch == 2 && matches!(request, Request::Unsubscribe { .. }));
    d.end(conn, Err(error(ErrorKind::Closed)));
    d.fail(unsubscribing, error(ErrorKind::Io));
    assert!(!d.finished);
    d.fail(late, error(ErrorKind::Timeout));
    assert!(d.finished && d.told.is_empty());

    let mut d = Desk::new(settings());
    d.feed(Input::Close);
    assert!(d.finished);
    assert_eq!(d.told(), [(0, EventKind::Closed)]);
}

// A late word of a thread that is long over would bring the engine down.
#[test]
fn words_about_unknown_calls_and_streams_are_ignored() {
    let (mut d, conn) = streaming(1);
    d.fail(99, error(ErrorKind::Io));
    d.answer(99, Answer::Unsubscribed);
    d.end(99, Ok(()));
    d.begin(99);
    d.feed(Input::BadEnvelope { conn: 99, error: error(ErrorKind::Protocol) });
    d.feed(Input::Remove(99));
    d.end(conn, Ok(()));
    d.end(conn, Ok(()));
    assert_eq!(d.opens.len(), 1);
    assert_eq!(d.story(), ["1 Disconnected ConnectionLost"]);
}

// The runtime would hold on to watches that are no more, or look for them in vain when it is to unsubscribe.
#[test]
fn a_watch_is_forgotten_after_the_last_word_about_it() {
    let (mut d, _) = streaming(1);
    d.add(2, |_| {});
    d.feed(Input::Remove(1));
    assert!(d.forgotten.is_empty());
    let at = d.calls.iter().position(|c| matches!(c.3, Request::Unsubscribe { .. })).unwrap();
    let (unsubscribing, ..) = d.calls.remove(at).unwrap();
    d.answer(unsubscribing, Answer::Unsubscribed);
    assert_eq!(d.forgotten, [1]);

    // One that ends while it is asked something, and one while nothing is asked.
    let (asking, ..) = d.call();
    d.feed(Input::Remove(2));
    assert_eq!(d.forgotten, [1]);
    d.fail(asking, error(ErrorKind::Io));
    assert_eq!(d.forgotten, [1, 2]);
    d.add(3, |_| {});
    let (asking, ..) = d.call();
    d.fail(asking, error(ErrorKind::Invalid));
    assert_eq!(d.forgotten, [1, 2, 3]);

    d.told();
    d.streaming(4, "s4");
    d.feed(Input::Close);
    let (unsubscribing, ..) = d.call();
    d.answer(unsubscribing, Answer::Unsubscribed);
    assert_eq!(d.forgotten, [1, 2, 3, 4]);
}
