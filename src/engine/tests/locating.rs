//! A watch whose server has to be found first.

use super::*;

fn found(endpoint: u32) -> Answer {
    Answer::Located { endpoint, affinity: "EX1".into() }
}

fn locating() -> Desk {
    let mut d = Desk::new(settings());
    d.add(1, |spec| (spec.endpoint, spec.locate) = (7, true));
    d
}

// Nothing must be asked of a server that nobody has found; then all goes to the one that was.
#[test]
fn the_server_is_found_before_it_is_asked() {
    let mut d = locating();
    assert!(d.calls.is_empty());
    let (call, watch, fresh) = d.locates.pop_front().expect("it is looked for");
    assert_eq!((watch, fresh), (1, false));
    d.answer(call, found(3));
    d.subscribe("s1");
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1"]);
    d.begin(conn);
    assert_eq!(d.told(), [(1, EventKind::Connected)]);
    assert_eq!(d.engine.status().connections[0].endpoint, 3);
}

// A look-up that fails is tried again, and told once; a refused sign-in is not tried until the account is locked.
#[test]
fn a_server_that_is_not_found_is_looked_for_again() {
    let mut d = locating();
    for n in 0..3 {
        let (call, ..) = d.locates.pop_front().expect("it is looked for");
        d.fail(call, error(ErrorKind::Connect));
        let told = d.told();
        assert_eq!(told.len(), usize::from(n == 0), "{told:?}");
        d.wait(3.0);
    }
    let (call, ..) = d.locates.pop_front().expect("and again");
    assert!(d.calls.is_empty() && d.locates.is_empty());
    d.fail(call, error(ErrorKind::Auth));
    assert_eq!(d.told(), [(1, EventKind::Error), (1, EventKind::Closed)]);
    d.wait(1000.0);
    assert!(d.locates.is_empty());
}

// A domain without Autodiscover would be looked for until somebody reads the log; one that had it gets time for a bad night.
#[test]
fn where_nobody_is_autodiscover_the_watch_ends() {
    let mut d = locating();
    let (call, ..) = d.locates.pop_front().unwrap();
    d.fail(call, error(ErrorKind::Protocol));
    let told: Vec<Event> = d.told.drain(..).collect();
    assert_eq!(told.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::Error, EventKind::Closed]);
    let detail = |e: &Event| e.detail.clone().unwrap();
    assert!(detail(&told[0]).message.unwrap().contains("autodiscover.DOMAIN"), "{told:?}");
    assert_eq!(detail(&told[1]).reason, Some(Reason::HttpError));

    let mut d = locating();
    let (call, ..) = d.locates.pop_front().unwrap();
    d.answer(call, found(3));
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    d.message(conn, bad_ids("ErrorMailboxMoveInProgress", &["s1"]));
    d.end(conn, Ok(()));
    d.wait(100.0);
    let (call, ..) = d.locates.pop_front().unwrap();
    d.fail(call, error(ErrorKind::Protocol));
    assert!(!d.told().contains(&(1, EventKind::Closed)));
    d.wait(100.0);
    assert_eq!(d.locates.len(), 1, "and again");
}

// Others of the found server must not wait for long for one that is still looked for.
#[test]
fn watches_that_are_found_share_a_stream() {
    let mut d = Desk::new(settings());
    for watch in 1..=3 {
        d.add(watch, |spec| (spec.endpoint, spec.locate) = (7, true));
    }
    let calls: Vec<CallId> = d.locates.drain(..).map(|(call, ..)| call).collect();
    for call in &calls[..2] {
        d.answer(*call, found(3));
    }
    d.subscribe_watch(1, "s1");
    d.subscribe_watch(2, "s2");
    d.wait(1.9);
    assert!(d.opens.is_empty(), "the third may come");
    d.wait(0.2);
    assert_eq!(d.open().1, ["s1", "s2"], "the third has not been found");
    d.answer(calls[2], found(4));
    d.subscribe_watch(3, "s3");
    assert_eq!(d.open().1, ["s3"], "it has another server");
}

// Each mailbox that is found would have the stream of those before it opened anew, with a gap to be looked through for each.
#[test]
fn those_that_are_found_one_after_another_are_waited_for() {
    const WATCHES: u64 = 50;
    let mut d = Desk::new(settings());
    for watch in 1..=WATCHES {
        d.add(watch, |spec| (spec.endpoint, spec.locate) = (7, true));
    }
    for watch in 1..=WATCHES {
        let (call, ..) = d.locates.pop_front().unwrap();
        // The last but one is not found for now, and one has another server: nobody is waited for in vain.
        match watch {
            49 => {
                d.fail(call, error(ErrorKind::Connect));
                // It is looked for again at once, and then later.
                let (again, ..) = d.locates.pop_back().unwrap();
                d.fail(again, error(ErrorKind::Connect));
            }
            48 => d.answer(call, found(4)),
            _ => d.answer(call, found(3)),
        }
        if watch != 49 {
            d.subscribe_watch(watch, &format!("s{watch}"));
        }
        if watch < 49 {
            assert!(d.opens.is_empty(), "{watch}");
            d.wait(0.5);
        }
    }
    let mut opened: Vec<usize> = [d.open(), d.open()].iter().map(|(_, ids)| ids.len()).collect();
    opened.sort();
    assert_eq!(opened, [1, 48]);
    assert!(d.opens.is_empty() && d.aborts.is_empty(), "nothing is opened anew");
}

// A look-up that can come to nothing ends the watch: the host would take it for a cut connection, and wait.
#[test]
fn the_end_by_a_wrong_setting_is_told_as_such() {
    let mut d = locating();
    let (call, ..) = d.locates.pop_front().unwrap();
    d.fail(call, error(ErrorKind::Invalid));
    assert_eq!(d.story(), ["1 Error", "1 Closed Invalid"]);
    assert_eq!(d.engine.status().given_up[0].down, Some(Reason::Invalid));
}

// The host takes it back, or closes, while it is looked for.
#[test]
fn one_that_ends_while_it_is_looked_for() {
    let mut d = locating();
    let (call, ..) = d.locates.pop_front().unwrap();
    d.feed(Input::Remove(1));
    assert_eq!(d.told(), [(1, EventKind::Closed)]);
    d.answer(call, found(3));
    assert_eq!(d.forgotten, [1]);
    let mut d = locating();
    let (call, ..) = d.locates.pop_front().unwrap();
    d.feed(Input::Close);
    assert!(!d.finished);
    d.fail(call, error(ErrorKind::Closed));
    assert!(d.finished && d.calls.is_empty());
}

// A mailbox that was moved is looked for anew, and what was found before is not believed: else it would be asked for where it was,
// for a day.
#[test]
fn a_mailbox_that_has_moved_is_looked_for_again() {
    let mut d = locating();
    let (call, ..) = d.locates.pop_front().unwrap();
    d.answer(call, found(3));
    d.subscribe("s1");
    let (conn, _) = d.open();
    d.begin(conn);
    assert_eq!(d.told(), [(1, EventKind::Connected)]);
    d.message(conn, bad_ids("ErrorMailboxMoveInProgress", &["s1"]));
    d.end(conn, Ok(()));
    d.wait(100.0);
    assert!(d.calls.iter().all(|c| matches!(c.3, Request::Unsubscribe { .. })), "{:?}", d.calls);
    let (call, _, fresh) = d.locates.pop_front().expect("it is looked for");
    assert!(fresh);
    d.calls.clear();
    d.answer(call, found(4));
    d.subscribe("s2");
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s2"]);
    d.begin(conn);
    assert_eq!(d.engine.status().connections[0].endpoint, 4);
    let told: Vec<EventKind> = d.told().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(
        told,
        [EventKind::Disconnected, EventKind::Resubscribed, EventKind::Gap, EventKind::Connected]
    );
}

// One that is at no place which can be found must not be asked for without a pause.
#[test]
fn looking_again_and_again_takes_longer_each_time() {
    let mut d = locating();
    let mut looked = 0;
    for _ in 0..3600 {
        while let Some((call, ..)) = d.locates.pop_front() {
            looked += 1;
            d.answer(call, found(3));
            let (call, ..) = d.call();
            d.fail(call, coded("ErrorMailboxStoreUnavailable"));
        }
        d.wait(1.0);
    }
    assert!((10..150).contains(&looked), "{looked} times in an hour");
}
