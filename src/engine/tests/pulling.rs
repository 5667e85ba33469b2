//! Asking for events at an interval.

use super::*;

const INTERVAL: f64 = 30.0;

fn pulling(watermark: Option<&str>) -> Desk {
    let mut d = Desk::new(settings());
    d.add(1, |s| s.mode = pull(30, 60));
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::SubscribePull { timeout_minutes: 60, watermark: None, .. }));
    d.answer(
        call,
        Answer::Subscribed { id: "p1".into(), watermark: watermark.map(str::to_owned), date: None },
    );
    d
}

/// The question that was commanded, with its watermark.
#[track_caller]
fn asked(d: &mut Desk) -> (CallId, Option<String>) {
    let (call, _, request) = d.call();
    assert!(d.calls.is_empty(), "one question at a time");
    match request {
        Request::GetEvents { watermark, subscription_id } => {
            assert!(subscription_id.starts_with('p'));
            (call, watermark)
        }
        other => panic!("{other:?}"),
    }
}

fn events(items: &[(&str, &str)], more: bool) -> Answer {
    let notices = items.iter().map(|(item, mark)| {
        let mut n = notice(NoticeKind::NewMail, item, FOLDER);
        n.watermark = (!mark.is_empty()).then(|| (*mark).to_owned());
        n
    });
    Answer::Events(Notification { more_events: more, ..notification("p1", notices.collect()) })
}

fn nothing(mark: Option<&str>) -> Answer {
    let status = Notice {
        watermark: mark.map(str::to_owned),
        target: None,
        parent_folder_id: None,
        ..notice(NoticeKind::Status, "", "")
    };
    Answer::Events(notification("p1", vec![status]))
}

// Pull would be late by an interval, lose its place, or repeat what was told.
#[test]
fn it_asks_at_once_then_at_the_interval_and_follows_the_watermark() {
    let mut d = pulling(Some("w0"));
    let (call, mark) = asked(&mut d);
    assert_eq!(mark.as_deref(), Some("w0"));
    d.answer(call, nothing(Some("w1")));
    assert_eq!(d.told(), [(1, EventKind::Connected)]);
    d.wait(INTERVAL - 0.1);
    assert!(d.calls.is_empty());
    d.wait(0.2);
    let (call, mark) = asked(&mut d);
    assert_eq!(mark.as_deref(), Some("w1"), "a StatusEvent's watermark is kept");
    d.answer(call, events(&[("a", "w2"), ("b", "w3")], true));
    let (call, mark) = asked(&mut d);
    assert_eq!(mark.as_deref(), Some("w3"), "MoreEvents is drained at once");
    d.answer(call, events(&[("c", "w4")], false));
    assert!(d.calls.is_empty());
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b", "1 NewMail c"]);
    assert!(matches!(d.engine.status().watches[0].state, WatchState::Pulling));
}

// gromox sends no watermarks at all.
#[test]
fn it_works_without_watermarks() {
    let mut d = pulling(None);
    for round in 0..3 {
        let (call, mark) = asked(&mut d);
        assert_eq!(mark, None);
        let item = format!("m{round}");
        d.answer(call, events(&[(&item, "")], false));
        d.wait(INTERVAL + 0.1);
    }
    assert_eq!(d.story(), ["1 Connected", "1 NewMail m0", "1 NewMail m1", "1 NewMail m2"]);
}

// A server that says MoreEvents for ever would be asked without a pause.
#[test]
fn more_without_progress_is_no_loop() {
    let mut d = pulling(Some("w0"));
    let (call, _) = asked(&mut d);
    d.answer(call, events(&[("a", "w0")], true));
    assert!(d.calls.is_empty());
    d.wait(INTERVAL + 0.1);
    let (call, _) = asked(&mut d);
    d.answer(call, events(&[], true));
    assert!(d.calls.is_empty());
    // Nor if it moves its watermark each time and tells nothing.
    d.wait(INTERVAL * 4.0);
    let (call, _) = asked(&mut d);
    let mut status = notification("p1", vec![Notice { target: None, ..notice(NoticeKind::Status, "", "") }]);
    status.notices[0].watermark = Some("w9".into());
    status.more_events = true;
    d.answer(call, Answer::Events(status));
    assert!(d.calls.is_empty());
}

// What the server gave to an answer that was lost is gone, unless it repeats by watermark: one says so, one must not.
#[test]
fn an_unanswered_question_is_a_gap_only_without_a_watermark() {
    for (mark, failure, gap) in [
        (None, error(ErrorKind::Io), true),
        (None, error(ErrorKind::Timeout), true),
        (None, http(502), true),
        (None, error(ErrorKind::Connect), false),
        (None, http(503), false),
        (None, coded("ErrorServerBusy"), false),
        (Some("w1"), error(ErrorKind::Io), false),
        (Some("w1"), http(502), false),
    ] {
        let name = format!("{mark:?} {failure:?}");
        let mut d = pulling(mark);
        let (call, _) = asked(&mut d);
        d.answer(call, nothing(mark));
        let certain = d.now.wall;
        d.wait(INTERVAL + 0.1);
        let (call, before) = asked(&mut d);
        d.fail(call, failure);
        d.wait(5.0);
        let (call, after) = asked(&mut d);
        assert_eq!(before, after, "{name}: the same again");
        d.answer(call, events(&[("a", "w2")], false));
        let told: Vec<Event> = d.told.iter().filter(|e| e.kind == EventKind::Gap).cloned().collect();
        assert_eq!(told.len(), usize::from(gap), "{name}");
        if let Some(e) = told.first() {
            assert_eq!((gap_of(e).reason, gap_of(e).since), (Some(Reason::Unanswered), Some(certain)));
        }
        let kinds: Vec<EventKind> = d.told().iter().map(|t| t.1).filter(|k| *k != EventKind::Gap).collect();
        use EventKind::{Connected, Disconnected, NewMail};
        assert_eq!(kinds, [Connected, Disconnected, Connected, NewMail], "{name}");
    }
}

// A subscription that the server forgot would be asked for, for ever.
#[test]
fn a_lost_subscription_or_watermark_begins_anew_with_a_gap() {
    for code in ["ErrorSubscriptionNotFound", "ErrorInvalidWatermark", "ErrorExpiredSubscription"] {
        let mut d = pulling(Some("w0"));
        let (call, _) = asked(&mut d);
        d.answer(call, nothing(Some("w1")));
        d.wait(INTERVAL + 0.1);
        let (call, _) = asked(&mut d);
        d.fail(call, coded(code));
        let (call, _, request) = d.call();
        assert!(matches!(request, Request::SubscribePull { watermark: None, .. }));
        d.answer(call, Answer::Subscribed { id: "p2".into(), watermark: Some("n0".into()), date: None });
        let (call, mark) = asked(&mut d);
        assert_eq!(mark.as_deref(), Some("n0"));
        d.answer(call, nothing(Some("n1")));
        assert_eq!(
            d.story(),
            [
                "1 Connected",
                "1 Disconnected SubscriptionLost",
                "1 Resubscribed",
                "1 Gap SubscriptionLost",
                "1 Connected"
            ]
        );
    }
}

// Events that the server missed would be missed by the host too, without a word.
#[test]
fn what_the_server_missed_is_a_gap_and_a_later_failure_is_told_all_the_same() {
    let mut d = pulling(None);
    let (call, _) = asked(&mut d);
    d.fail(call, coded("ErrorMissedNotificationEvents"));
    d.wait(1.0);
    let (call, _) = asked(&mut d);
    d.fail(call, error(ErrorKind::Io));
    d.wait(5.0);
    let (call, _) = asked(&mut d);
    d.answer(call, nothing(None));
    assert_eq!(
        d.story(),
        [
            "1 Connected",
            "1 Gap MissedByServer",
            "1 Disconnected ConnectionLost",
            "1 Connected",
            "1 Gap Unanswered"
        ]
    );
}

// A stranger's events would be handed out, as they are kept from a stream.
#[test]
fn a_strangers_events_are_not_told() {
    let mut d = pulling(None);
    let (call, _) = asked(&mut d);
    let foreign = notification("p1", vec![notice(NoticeKind::NewMail, "theirs", "F-stranger")]);
    d.answer(call, Answer::Events(foreign));
    let (_, _, request) = d.call();
    assert!(matches!(request, Request::SubscribePull { .. }));
    assert_eq!(d.story(), ["1 Connected", "1 Disconnected ForeignEvent"]);
}

// A quiet mailbox would be asked ten thousand times a day for nothing, or a busy one be told late; and one that is never asked in
// its time is forgotten by the server.
#[test]
fn it_asks_quickly_while_events_come_and_slowly_while_none_do() {
    let pace = |quiet, minutes| {
        let mut d = Desk::new(settings());
        let interval = Duration::from_secs(10);
        let quiet = Duration::from_secs(quiet);
        d.add(1, |s| s.mode = WatchMode::Pull { interval, quiet, timeout_minutes: minutes });
        d.subscribe("p1");
        let mut waits = Vec::new();
        for round in 0..12 {
            let (call, _) = asked(&mut d);
            match round {
                8 => d.answer(call, events(&[("a", "w")], false)),
                _ => d.answer(call, nothing(Some("w"))),
            }
            let began = d.now.mono;
            while d.calls.is_empty() {
                d.wait(0.25);
            }
            waits.push((d.now.mono - began).as_secs());
        }
        waits
    };
    assert_eq!(pace(60, 30), [10, 15, 22, 33, 50, 60, 60, 60, 10, 15, 22, 33]);
    assert_eq!(pace(10, 30), [10; 12]);
    assert!(pace(3600, 2).iter().all(|wait| *wait <= 60), "half of the subscription's time");
}

// Ten thousand questions would keep the workers from fetching a single item.
#[test]
fn questions_take_turns_and_leave_workers_free() {
    let mut d = Desk::new(Settings { fetches: 2, ..settings() });
    for watch in 1..=7 {
        d.add(watch, |s| {
            s.folders.clear();
            s.mode = pull(30, 60);
        });
        let (call, ..) = d.calls.pop_back().unwrap();
        d.answer(call, Answer::Subscribed { id: format!("p{watch}"), watermark: None, date: None });
    }
    for round in 0..3 {
        let mut order = Vec::new();
        while let Some((call, watch, ..)) = d.calls.pop_front() {
            assert!(d.calls.len() < 2, "{} at a time", d.calls.len() + 1);
            order.push(watch);
            let id = format!("p{watch}");
            d.answer(call, Answer::Events(notification(&id, Vec::new())));
        }
        order.sort();
        assert_eq!(order, (1..=7).collect::<Vec<_>>(), "round {round}");
        d.wait(30.1);
    }
    // One that is taken back while it waits or asks gives its turn away.
    assert_eq!(d.calls.iter().map(|c| c.1).collect::<Vec<_>>().len(), 2);
    let asking = d.calls.iter().map(|c| c.1).collect::<Vec<_>>();
    let waiting: Vec<u64> = (1..=7).filter(|w| !asking.contains(w)).collect();
    d.feed(Input::Remove(waiting[0]));
    d.feed(Input::Remove(asking[0]));
    let mut seen = BTreeSet::new();
    while let Some((call, watch, _, request)) = d.calls.pop_front() {
        if matches!(request, Request::GetEvents { .. }) {
            seen.insert(watch);
            d.answer(call, Answer::Events(notification(&format!("p{watch}"), Vec::new())));
        } else {
            d.answer(call, Answer::Unsubscribed);
        }
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

// Its turn would be lost with it, and those behind it never asked for again.
#[test]
fn a_throttled_watch_gives_its_turn_away() {
    let mut d = Desk::new(Settings { fetches: 1, ..settings() });
    for watch in 1..=3 {
        d.add(watch, |s| {
            s.folders.clear();
            s.own_budget = true;
            s.mode = pull(30, 60);
        });
        let (call, ..) = d.calls.pop_back().unwrap();
        d.answer(call, Answer::Subscribed { id: format!("p{watch}"), watermark: None, date: None });
    }
    // 1 asks, 2 and 3 wait; 2 is throttled for something else of its own.
    let (asking, 1, ..) = d.calls.pop_front().unwrap() else { panic!("{:?}", d.calls) };
    let busy = coded("ErrorServerBusy").with_retry_after(Some(Duration::from_secs(600)));
    d.engine.shut_gate(2, 1, &busy);
    d.answer(asking, Answer::Events(notification("p1", Vec::new())));
    let (call, watch, ..) = d.calls.pop_front().expect("the next one has the turn");
    assert_eq!(watch, 3);
    d.answer(call, Answer::Events(notification("p3", Vec::new())));
}

// A host that is slow would lose what the server would have kept for it.
#[test]
fn what_has_no_room_is_left_at_the_server() {
    let mut d = Desk::new(Settings { queue: Limits { events: 4, bytes: 1 << 20 }, ..settings() });
    d.add(1, |s| s.mode = pull(30, 60));
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    let (call, ..) = d.call();
    d.answer(call, Answer::Subscribed { id: "p1".into(), watermark: Some("w0".into()), date: None });
    let feed = |d: &mut Desk, call, answer| {
        // The host takes nothing.
        d.engine.handle(d.now, Input::Called { call, result: Ok(answer) });
        while let Some(command) = d.engine.poll() {
            if let Command::Call { call, watch, version, request, .. } = command {
                d.calls.push_back((call, watch, version, request));
            }
        }
    };
    let (call, _) = asked(&mut d);
    feed(&mut d, call, events(&[("a", "w1"), ("b", "w2"), ("c", "w3")], true));
    let (call, mark) = asked(&mut d);
    assert_eq!(mark.as_deref(), Some("w3"));
    feed(&mut d, call, events(&[("d", "w4"), ("e", "w5"), ("f", "w6")], false));
    assert!(d.calls.is_empty());
    // The host takes what there is, and so it comes again.
    d.feed(Input::Tick);
    assert_eq!(d.story(), ["1 Connected", "1 NewMail a", "1 NewMail b", "1 NewMail c"]);
    d.wait(31.0);
    d.feed(Input::Tick);
    let (call, mark) = asked(&mut d);
    assert_eq!(mark.as_deref(), Some("w3"), "the same question");
    d.answer(call, events(&[("d", "w4"), ("e", "w5"), ("f", "w6")], false));
    assert_eq!(d.story(), ["1 NewMail d", "1 NewMail e", "1 NewMail f"]);
}
