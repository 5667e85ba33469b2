//! Every row of the table of response codes, wherever its code can come: the engine does what the row says. An unknown code ends as
//! documented.

use super::*;
use crate::proto::{Action, SyncPage, response_codes};

/// A code of which there is no row.
const UNKNOWN: &str = "ErrorOfTheYear2030";

/// All rows, and an unknown code with what is documented for it. What went well is no failure.
fn rows() -> Vec<(&'static str, Action)> {
    let rows: Vec<_> = response_codes().filter(|(_, action)| *action != Action::Proceed).collect();
    assert!(rows.len() > 130, "{}", rows.len());
    rows.into_iter().chain([(UNKNOWN, Action::Stop)]).collect()
}

/// How often the host was told that the watch has ended.
fn ends(d: &mut Desk) -> usize {
    d.told().iter().filter(|(_, kind)| *kind == EventKind::Closed).count()
}

/// The call that comes, after a wait of so many seconds at the most.
fn next_call(d: &mut Desk, seconds: u32) -> Option<(CallId, Request, RequestVersion)> {
    for _ in 0..=seconds {
        if let Some((call, _, version, request)) = d.calls.pop_front() {
            return Some((call, request, version));
        }
        d.wait(1.0);
    }
    None
}

// The steps that lead to a watch: a code that ends it for no reason, or is asked about for ever.
#[test]
fn a_row_in_the_answer_to_a_step() {
    for (code, action) in rows() {
        for subscribe in [false, true] {
            let about = format!("{code} {action:?} subscribe={subscribe}");
            let (mut d, mut call) = asking();
            if subscribe {
                d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
                call = d.call().0;
            }
            let step = if subscribe { "Subscribe" } else { "GetFolder" };
            d.fail(call, coded(code));
            match action {
                Action::BackOff
                | Action::Resubscribe
                | Action::Rediscover
                | Action::Missed
                | Action::DropSyncState => {
                    for _ in 0..8 {
                        let (call, request, _) = next_call(&mut d, 700).expect(&about);
                        assert_eq!(request.operation(), step, "{about}");
                        d.fail(call, coded(code));
                    }
                    assert_eq!(ends(&mut d), 0, "{about}");
                }
                Action::BackOffThenStop => {
                    for _ in 0..4 {
                        let (call, request, _) = next_call(&mut d, 700).expect(&about);
                        assert_eq!(request.operation(), step, "{about}");
                        d.fail(call, coded(code));
                    }
                    assert_eq!(ends(&mut d), 0, "{about}: it is tried five times");
                    if let Some((call, ..)) = next_call(&mut d, 700) {
                        d.fail(call, coded(code));
                    }
                    assert_eq!(ends(&mut d), 1, "{about}");
                }
                // Subscribe comes after an answer that was good: the version works, and is not to blame.
                Action::LowerVersion if !subscribe => {
                    for version in [
                        RequestVersion::Exchange2010Sp2,
                        RequestVersion::Exchange2010Sp1,
                        RequestVersion::Exchange2007Sp1,
                    ] {
                        let (call, request, spoken) = next_call(&mut d, 0).expect(&about);
                        assert_eq!((request.operation(), spoken), (step, version), "{about}");
                        d.fail(call, coded(code));
                    }
                    assert_eq!(ends(&mut d), 1, "{about}");
                }
                Action::LowerVersion
                | Action::SignIn
                | Action::Stop
                | Action::ItemGone
                | Action::ItemUnreadable => {
                    assert_eq!(ends(&mut d), 1, "{about}");
                }
                Action::FolderGone => assert_eq!(ends(&mut d), 1, "{about}: it was the only one"),
                Action::Proceed => unreachable!("it was left out"),
            }
            if d.engine.watches(1) {
                continue;
            }
            d.wait(1000.0);
            assert!(d.calls.is_empty() && d.opens.is_empty(), "{about}: an end is an end");
        }
    }
}

// GetEvents, which alone tells a pull that its subscription is lost.
#[test]
fn a_row_in_the_answer_to_get_events() {
    for (code, action) in rows() {
        let about = format!("{code} {action:?}");
        let mut d = Desk::new(settings());
        d.add(1, |s| s.mode = pull(10, 30));
        d.subscribe("s1");
        let (call, ..) = d.call();
        d.answer(call, Answer::Events(notification("s1", Vec::new())));
        d.wait(10.0);
        let (call, ..) = d.call();
        d.told.clear();
        d.fail(call, coded(code));
        let kinds: Vec<EventKind> = d.told().into_iter().map(|(_, kind)| kind).collect();
        let next = next_call(&mut d, 700).map(|(_, request, _)| request.operation());
        match action {
            Action::Resubscribe | Action::Rediscover => {
                assert_eq!((kinds, next), (vec![EventKind::Disconnected], Some("Subscribe")), "{about}");
            }
            Action::Missed => {
                assert_eq!((kinds, next), (vec![EventKind::Gap], Some("GetEvents")), "{about}");
            }
            Action::BackOff | Action::BackOffThenStop | Action::DropSyncState => {
                assert_eq!((kinds, next), (vec![EventKind::Disconnected], Some("GetEvents")), "{about}");
            }
            Action::LowerVersion
            | Action::SignIn
            | Action::Stop
            | Action::ItemGone
            | Action::ItemUnreadable
            | Action::FolderGone => {
                assert_eq!(kinds, [EventKind::Error, EventKind::Closed], "{about}");
                assert_eq!(next, Some("Unsubscribe"), "{about}");
            }
            Action::Proceed => unreachable!("it was left out"),
        }
    }
}

// An error of a stream that names one of two subscriptions: what is its neighbour's fault is not the other's.
#[test]
fn a_row_of_one_subscription_of_a_stream() {
    for (code, action) in rows() {
        let about = format!("{code} {action:?}");
        let (mut d, conn) = streaming(2);
        d.wait(100.0);
        d.message(conn, bad_ids(code, &["s1"]));
        let told = d.told();
        assert!(told.iter().all(|(watch, _)| *watch == 1), "{about}: {told:?}");
        let kinds: Vec<EventKind> = told.into_iter().map(|(_, kind)| kind).collect();
        match action {
            Action::Missed => {
                assert_eq!(kinds, [EventKind::Gap], "{about}");
                assert!(d.calls.is_empty(), "{about}: the subscription stands");
            }
            Action::Stop | Action::SignIn | Action::FolderGone => {
                assert_eq!(kinds, [EventKind::Error, EventKind::Closed], "{about}");
                assert!(matches!(d.call().2, Request::Unsubscribe { .. }), "{about}");
            }
            // A new one is made; where the old one may stand, it is taken off.
            _ => {
                assert_eq!(kinds, [EventKind::Disconnected], "{about}");
                let mut next = next_call(&mut d, 700).unwrap().1.operation();
                let stands = !matches!(action, Action::Resubscribe | Action::Rediscover);
                assert_eq!(next == "Unsubscribe", stands, "{about}");
                if stands {
                    next = next_call(&mut d, 700).unwrap().1.operation();
                }
                assert_eq!(next, "Subscribe", "{about}");
            }
        }
        d.told.clear();
        d.message(conn, mail("s2", &["other"]));
        if code != verdict::TOO_MANY_STREAMS && !verdict::throttling_code(Some(code)) {
            assert_eq!(d.story().last().map(String::as_str), Some("2 NewMail other"), "{about}");
        }
    }
}

// A fault in the place of a stream: it concerns all that is on it.
#[test]
fn a_row_in_the_place_of_a_stream() {
    for (code, action) in rows() {
        let about = format!("{code} {action:?}");
        let (mut d, conn) = streaming(1);
        d.wait(100.0);
        d.message(conn, closed());
        d.end(conn, Ok(()));
        d.told.clear();
        let (conn, _) = d.open();
        d.end(conn, Err(coded(code)));
        let kinds: Vec<EventKind> = d.told().into_iter().map(|(_, kind)| kind).collect();
        let mut reopened = false;
        for _ in 0..700 {
            if reopened || !d.calls.is_empty() {
                break;
            }
            d.wait(1.0);
            reopened = !d.opens.is_empty();
        }
        let next = d.calls.front().map(|c| c.3.operation());
        match action {
            Action::Resubscribe | Action::Rediscover => assert_eq!(next, Some("Subscribe"), "{about}"),
            Action::Stop | Action::SignIn | Action::FolderGone | Action::LowerVersion => {
                assert_eq!(kinds, [EventKind::Error, EventKind::Closed], "{about}");
                assert_eq!((next, reopened), (Some("Unsubscribe"), false), "{about}");
            }
            _ => assert!(reopened && !kinds.contains(&EventKind::Closed), "{about}: {kinds:?}"),
        }
    }
}

// Catch-up: a code that ends it, or is asked about for ever, or drops a state that is good.
#[test]
fn a_row_in_the_answer_to_sync() {
    for (code, action) in rows() {
        let about = format!("{code} {action:?}");
        let mut d = Desk::new(settings());
        d.add(1, |s| s.catch_up = true);
        d.subscribe("s1");
        let (conn, _) = d.open();
        d.begin(conn);
        let page = |state: &str| SyncPage {
            sync_state: Some(state.into()),
            includes_last: true,
            changes: Vec::new(),
        };
        let (call, ..) = d.call();
        d.answer(call, Answer::Synced { page: page("good"), date: None });
        // A gap, so that there is something to lose.
        d.message(conn, bad_ids("ErrorMissedNotificationEvents", &["s1"]));
        let (call, _, request) = d.call();
        assert!(
            matches!(&request, Request::SyncFolderItems { sync_state: Some(s), .. } if s == "good"),
            "{request:?}"
        );
        d.told.clear();
        d.fail(call, coded(code));
        let denied = d.told.iter().any(|e| {
            let message = e.detail.as_ref().and_then(|d| d.message.as_deref()).unwrap_or_default();
            message.contains("does not let us catch up")
        });
        assert_eq!(
            ends(&mut d),
            usize::from(action == Action::FolderGone),
            "{about}: who cannot sync can still be told"
        );
        let next = next_call(&mut d, 700).map(|(_, request, _)| request);
        let state = match &next {
            Some(Request::SyncFolderItems { sync_state, .. }) => Some(sync_state.as_deref()),
            _ => None,
        };
        match action {
            Action::BackOff | Action::BackOffThenStop | Action::Missed => {
                assert_eq!((denied, state), (false, Some(Some("good"))), "{about}");
            }
            Action::DropSyncState => assert_eq!((denied, state), (false, Some(None)), "{about}"),
            Action::FolderGone => {
                assert!(
                    matches!(next, Some(Request::Unsubscribe { .. })),
                    "{about}: it was synced, so it is gone"
                );
            }
            _ => assert!(denied && state.is_none(), "{about}: {next:?}"),
        }
    }
}

// The content of an item: what concerns one costs no other, and no code makes an event wait for ever.
#[test]
fn a_row_in_the_answer_to_a_fetch() {
    for (code, action) in rows() {
        if code == legacy_ids::LEGACY_ID {
            continue; // It has a test of its own, in `fetching`.
        }
        let about = format!("{code} {action:?}");
        let mut d = Desk::new(settings());
        d.add(1, |s| s.fetch = Fetch::Summary);
        d.subscribe("s1");
        let (conn, _) = d.open();
        d.begin(conn);
        d.told.clear();
        d.message(conn, mail("s1", &["a"]));
        let mut asked = 0;
        while let Some((call, request, _)) = next_call(&mut d, 700) {
            assert_eq!(request.operation(), "GetItem", "{about}");
            asked += 1;
            d.fail(call, coded(code));
        }
        let (times, content) = match action {
            Action::ItemGone => (1, "Gone"),
            Action::ItemUnreadable => (1, "Unreadable"),
            Action::BackOff | Action::BackOffThenStop | Action::DropSyncState => (6, "Unavailable"),
            _ => (1, "Unavailable"),
        };
        assert_eq!((asked, d.story()), (times, vec![format!("1 NewMail a {content}")]), "{about}");
        assert!(d.engine.watches(1), "{about}");
    }
}

// What is done with an item after its acknowledgement: a refusal ends nothing, and is told.
#[test]
fn a_row_in_the_answer_to_what_is_done_with_an_item() {
    for (code, action) in rows() {
        if code == legacy_ids::LEGACY_ID {
            continue; // It is converted first: see `fetching`.
        }
        let about = format!("{code} {action:?}");
        let mut d = Desk::new(settings());
        d.add(1, |s| s.after_ack = deleted());
        d.subscribe("s1");
        let (conn, _) = d.open();
        d.begin(conn);
        d.told.clear();
        d.message(conn, mail("s1", &["a"]));
        d.told.clear();
        let mut asked = 0;
        while let Some((call, request, _)) = next_call(&mut d, 700) {
            assert_eq!(request.operation(), "DeleteItem", "{about}");
            asked += 1;
            if asked < 50 {
                d.fail(call, coded(code));
            } else {
                d.answer(call, Answer::Acted);
            }
        }
        let throttled = verdict::throttling_code(Some(code));
        let (times, told): (_, &[&str]) = match action {
            // What is gone is deleted.
            Action::ItemGone => (1, &[]),
            // Who throttles refuses nothing.
            Action::BackOff if throttled => (50, &[]),
            Action::BackOff | Action::BackOffThenStop | Action::DropSyncState | Action::Missed => {
                (6, &["1 Error a"])
            }
            _ => (1, &["1 Error a"]),
        };
        let story = d.story();
        assert_eq!(
            (asked, story.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
            (times, told),
            "{about}"
        );
        assert!(d.engine.watches(1), "{about}");
    }
}
