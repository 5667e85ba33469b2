//! Hearing by what the server sends.

use super::*;
use crate::proto::PushReply;

const STATUS: f64 = 600.0;
const OK: PushAnswer = PushAnswer::Reply(PushReply::Ok);
const UNSUBSCRIBE: PushAnswer = PushAnswer::Reply(PushReply::Unsubscribe);

fn by_push(spec: &mut WatchSpec) {
    spec.mode = WatchMode::Push {
        url: PushUrl::new("https://hook.example.test/s3cret"),
        status_minutes: 10,
        silence: Duration::from_secs(1200),
    };
}

/// Answers the Subscribe of a watch, with where its chain begins.
#[track_caller]
fn subscribed(d: &mut Desk, id: &str, mark: Option<&str>) {
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::SubscribePush { status_minutes: 10, .. }), "{request:?}");
    let watermark = mark.map(str::to_owned);
    d.answer(call, Answer::Subscribed { id: id.into(), watermark, date: None });
}

/// A watch that is about to be subscribed.
#[track_caller]
fn asking(watch: u64) -> Desk {
    let mut d = Desk::new(settings());
    d.add(watch, by_push);
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    d
}

/// One that has heard the server's first word.
#[track_caller]
fn connected() -> Desk {
    let mut d = asking(1);
    subscribed(&mut d, "p1", Some("w0"));
    assert_eq!(d.push(status("p1", "w0", "w1")), [PushOutcome::Taken]);
    assert_eq!(d.story(), ["1 Connected"]);
    d
}

type Message = Response<Option<Notification>>;

fn message(body: Option<Notification>) -> Message {
    let code = ResponseCode::NO_ERROR;
    Response { class: ResponseClass::Success, code, text: None, back_off: None, body }
}

fn failure(code: &str, body: Option<Notification>) -> Message {
    Response { class: ResponseClass::Error, code: ResponseCode(code.to_owned().into()), ..message(body) }
}

/// Mails, each with its watermark.
fn mails(id: &str, previous: &str, items: &[(&str, &str)]) -> Message {
    let notices = items.iter().map(|(item, mark)| {
        let mut n = notice(NoticeKind::NewMail, item, FOLDER);
        n.watermark = (!mark.is_empty()).then(|| (*mark).to_owned());
        n
    });
    let previous_watermark = (!previous.is_empty()).then(|| previous.to_owned());
    message(Some(Notification { previous_watermark, ..notification(id, notices.collect()) }))
}

fn status(id: &str, previous: &str, mark: &str) -> Message {
    let status = Notice {
        watermark: (!mark.is_empty()).then(|| mark.to_owned()),
        target: None,
        parent_folder_id: None,
        ..notice(NoticeKind::Status, "", "")
    };
    let previous_watermark = (!previous.is_empty()).then(|| previous.to_owned());
    message(Some(Notification { previous_watermark, ..notification(id, vec![status]) }))
}

impl Desk {
    fn push_all(&mut self, messages: Vec<Message>) -> Pushed {
        let pushed = self.engine.pushed(self.now, messages);
        self.feed(Input::Tick);
        pushed
    }

    /// One message, whose answer is OK.
    #[track_caller]
    fn push(&mut self, message: Message) -> Vec<PushOutcome> {
        let pushed = self.push_all(vec![message]);
        assert_eq!(pushed.answer, OK, "{:?}", pushed.parts);
        pushed.parts.iter().map(|p| p.outcome).collect()
    }

    #[track_caller]
    fn refused(&mut self, message: Message) {
        let pushed = self.push_all(vec![message]);
        assert_eq!((pushed.answer, pushed.parts[0].outcome), (UNSUBSCRIBE, PushOutcome::Unknown));
    }
}

// Who has just set push up would take a server that does not reach the URL for a healthy one.
#[test]
fn a_subscription_of_which_nothing_has_come_is_none_that_works() {
    let state = |d: &Desk| d.engine.status().watches[0].state;
    let mut d = asking(1);
    assert_eq!(state(&d), WatchState::Starting);
    let at = d.now.mono;
    subscribed(&mut d, "p1", Some("w0"));
    assert_eq!(state(&d), WatchState::Unheard { since: at });
    d.wait(600.0);
    assert_eq!(state(&d), WatchState::Unheard { since: at });
    // One after another: it is still the server that says nothing.
    d.wait(601.0);
    assert!(matches!(state(&d), WatchState::Reconnecting { .. }), "{:?}", state(&d));
    let at = d.now.mono;
    subscribed(&mut d, "p2", Some("w0"));
    assert_eq!(state(&d), WatchState::Unheard { since: at });
    assert_eq!(d.engine.status().watches[0].down, Some(Reason::IdleTimeout));
    d.push(status("p2", "w0", "w1"));
    assert_eq!(state(&d), WatchState::Connected);
}

// Push would tell nothing, or lose its place.
#[test]
fn what_goes_on_from_the_last_is_told() {
    let mut d = connected();
    assert!(d.calls.is_empty(), "nothing is asked");
    assert_eq!(d.push(mails("p1", "w1", &[("a", "w2"), ("b", "w3")])), [PushOutcome::Taken]);
    d.wait(STATUS);
    assert_eq!(
        d.push(status("p1", "w3", "w9")),
        [PushOutcome::Taken],
        "a sign of life moves the watermark on"
    );
    assert_eq!(d.push(mails("p1", "w9", &[("c", "w10")])), [PushOutcome::Taken]);
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b", "1 NewMail c"]);
    let status = d.engine.status();
    assert!(matches!(status.watches[0].state, WatchState::Connected));
    assert_eq!(status.counters.gaps, 0);
}

// A server repeats what was not answered in time: it would be told twice, or taken for a loss.
#[test]
fn a_repeat_is_answered_and_ignored() {
    let mut d = connected();
    let first = || mails("p1", "w1", &[("a", "w2")]);
    d.push(first());
    assert_eq!(d.push(first()), [PushOutcome::Repeated]);
    d.push(mails("p1", "w2", &[("b", "w3")]));
    for _ in 0..3 {
        assert_eq!(d.push(first()), [PushOutcome::Repeated]);
        assert_eq!(d.push(status("p1", "w0", "w1")), [PushOutcome::Repeated], "also an old sign of life");
    }
    d.push(mails("p1", "w3", &[("c", "w4")]));
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b", "1 NewMail c"]);
}

// Somebody who recorded an hour of notifications and sends them all again would have the watch believe in gaps.
#[test]
fn long_ago_is_still_a_repeat() {
    let mut d = connected();
    let mark = |n: usize| format!("m{n}");
    let batch = |n: usize| {
        let items: Vec<(String, String)> =
            (50 * n..50 * n + 50).map(|i| (format!("i{i}"), mark(i + 1))).collect();
        let items: Vec<(&str, &str)> =
            items.iter().map(|(item, mark)| (item.as_str(), mark.as_str())).collect();
        let previous = if n == 0 { "w1".to_owned() } else { mark(50 * n) };
        mails("p1", &previous, &items)
    };
    for n in 0..30 {
        assert_eq!(d.push(batch(n)), [PushOutcome::Taken]);
    }
    assert_eq!(d.told().len(), 1500);
    for n in 0..30 {
        assert_eq!(d.push(batch(n)), [PushOutcome::Repeated]);
    }
    assert_eq!(d.push(batch(30)), [PushOutcome::Taken]);
    assert_eq!(d.told().len(), 50);
}

// A retry may bring what happened meanwhile, too.
#[test]
fn of_a_retry_that_has_grown_only_what_is_new_is_told() {
    let mut d = connected();
    d.push(mails("p1", "w1", &[("a", "w2"), ("b", "w3")]));
    assert_eq!(d.push(mails("p1", "w1", &[("a", "w2"), ("b", "w3"), ("c", "w4")])), [PushOutcome::Taken]);
    assert_eq!(d.push(mails("p1", "w4", &[("d", "w5")])), [PushOutcome::Taken]);
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b", "1 NewMail c", "1 NewMail d"]);
}

// What did not come would be missed without a word.
#[test]
fn a_break_of_the_chain_is_a_gap() {
    let mut d = connected();
    d.wait(60.0);
    let certain = d.now.wall - Duration::from_secs(60);
    assert_eq!(d.push(mails("p1", "w2", &[("b", "w3")])), [PushOutcome::Gap]);
    let gap = d.told.iter().find(|e| e.kind == EventKind::Gap).cloned().unwrap();
    assert_eq!(gap_of(&gap).reason, Some(Reason::NotificationLost));
    assert!(gap_of(&gap).since.unwrap() <= certain);
    assert_eq!(d.push(mails("p1", "w3", &[("c", "w4")])), [PushOutcome::Taken], "it goes on from there");
    assert_eq!(d.story(), ["1 Gap NotificationLost", "1 NewMail b", "1 NewMail c"]);
    // The one that was missing comes after all: it is told, and what follows is no gap.
    assert_eq!(d.push(mails("p1", "w1", &[("a", "w2")])), [PushOutcome::Late]);
    assert_eq!(d.push(mails("p1", "w1", &[("a", "w2")])), [PushOutcome::Repeated]);
    assert_eq!(d.push(mails("p1", "w4", &[("d", "w5")])), [PushOutcome::Taken]);
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail d"]);
}

// A sign of life may overtake mail: that mail would be taken for a repeat.
#[test]
fn a_sign_of_life_that_overtakes_is_a_gap_and_what_it_overtook_is_told() {
    let mut d = connected();
    for _ in 0..2 {
        d.push(status("p1", "w2", "w2"));
    }
    assert_eq!(d.story(), ["1 Gap NotificationLost"]);
    assert_eq!(d.push(mails("p1", "w1", &[("a", "w2")])), [PushOutcome::Late]);
    assert_eq!(d.push(mails("p1", "w1", &[("a", "w2")])), [PushOutcome::Repeated]);
    assert_eq!(d.push(mails("p1", "w2", &[("b", "w3")])), [PushOutcome::Taken]);
    assert_eq!(d.story(), ["1 NewMail a", "1 NewMail b"]);
}

// The very first notification may be the one that is lost.
#[test]
fn the_chain_begins_with_the_answer_to_subscribe() {
    let mut d = asking(1);
    subscribed(&mut d, "p1", Some("w0"));
    assert_eq!(d.push(mails("p1", "w7", &[("a", "w8")])), [PushOutcome::Gap]);
    assert_eq!(d.story(), ["1 Connected", "1 Gap NotificationLost", "1 NewMail a"]);
}

// A server that gives no watermarks would be a gap with every word.
#[test]
fn without_watermarks_there_is_nothing_to_check() {
    let mut d = asking(1);
    subscribed(&mut d, "p1", None);
    d.push(status("p1", "", ""));
    d.push(mails("p1", "", &[("a", "")]));
    d.push(mails("p1", "", &[("b", "")]));
    assert_eq!(d.story(), ["1 Connected", "1 NewMail a", "1 NewMail b"]);
}

// The server checks the URL before it answers Subscribe: that would be answered Unsubscribe, and end the subscription.
#[test]
fn a_notification_may_come_before_the_answer_to_subscribe() {
    let mut d = asking(1);
    assert_eq!(d.push(status("p1", "w0", "w1")), [PushOutcome::Early]);
    assert_eq!(d.push(mails("p1", "w1", &[("a", "w2")])), [PushOutcome::Early]);
    assert_eq!(d.push(mails("strange", "x1", &[("theirs", "x2")])), [PushOutcome::Early]);
    assert!(d.told.is_empty());
    subscribed(&mut d, "p1", Some("w0"));
    assert_eq!(d.story(), ["1 Connected", "1 NewMail a"]);
    // Whose answer has come and is another: nobody's.
    d.refused(mails("strange", "x2", &[("theirs", "x3")]));
    assert_eq!(d.push(mails("p1", "w2", &[("b", "w3")])), [PushOutcome::Taken]);
    assert_eq!(d.story(), ["1 NewMail b"]);
}

// Who sends without end while a Subscribe is under way would take the memory.
#[test]
fn what_comes_before_the_answer_is_bounded() {
    let mut d = asking(1);
    let early = (0..).find(|n| {
        let pushed = d.push_all(vec![mails(&format!("x{n}"), "w", &[("a", "w1")])]);
        pushed.answer == PushAnswer::Later
    });
    assert_eq!(early, Some(256));
    let huge: Vec<(&str, &str)> = vec![("a", "w"); 10_001];
    let mut d = asking(1);
    assert_eq!(d.push_all(vec![mails("x", "w", &huge)]).answer, PushAnswer::Later);
    // The answer makes room.
    subscribed(&mut d, "p1", Some("w0"));
    d.refused(mails("x", "w", &huge));
}

// A subscription that has died without a word would never be missed.
#[test]
fn after_silence_there_is_a_new_subscription_and_a_gap() {
    let mut d = connected();
    d.wait(1199.0);
    assert!(d.calls.is_empty());
    d.push(status("p1", "w1", "w1"));
    d.wait(1199.0);
    assert!(d.calls.is_empty(), "a sign of life is one");
    d.wait(2.0);
    subscribed(&mut d, "p2", Some("v0"));
    assert_eq!(d.unwanted, ["p1"]);
    d.push(status("p2", "v0", "v0"));
    assert_eq!(
        d.story(),
        ["1 Disconnected IdleTimeout", "1 Resubscribed", "1 Gap IdleTimeout", "1 Connected"]
    );
    // It was not dead after all.
    d.refused(mails("p1", "w1", &[("a", "w2")]));
    assert!(d.told.is_empty());
}

// A server that began anew gives an id out again that was ended: a web process that knows it as such would end it at once.
#[test]
fn whoever_answers_for_a_subscription_is_told_that_it_begins() {
    let mut d = connected();
    assert_eq!(d.wanted, ["p1"]);
    d.wait(1201.0);
    assert_eq!(d.unwanted, ["p1"]);
    subscribed(&mut d, "p1", Some("v0"));
    assert_eq!(d.wanted, ["p1", "p1"]);
}

// Without sync, what was missed would stay missed though the server remembers it; with a watermark that is too old there would be
// no subscription at all.
#[test]
fn a_new_subscription_goes_on_from_the_last_watermark_if_the_server_remembers() {
    let from = |request: &Request| match request {
        Request::SubscribePush { watermark, .. } => watermark.clone(),
        other => panic!("{other:?}"),
    };
    let mut d = connected();
    d.push(mails("p1", "w1", &[("a", "w2")]));
    d.wait(1201.0);
    let (call, _, request) = d.call();
    assert_eq!(from(&request).as_deref(), Some("w2"));
    d.answer(call, Answer::Subscribed { id: "p2".into(), watermark: Some("w2".into()), date: None });
    d.push(mails("p2", "w2", &[("missed", "w3")]));
    assert!(d.story().contains(&"1 NewMail missed".to_owned()));
    d.wait(1201.0);
    let (call, _, request) = d.call();
    assert_eq!(from(&request).as_deref(), Some("w3"));
    d.fail(call, coded("ErrorInvalidWatermark"));
    let (call, _, request) = d.call();
    assert_eq!(from(&request), None, "at once");
    d.fail(call, coded("ErrorInvalidWatermark"));
    assert!(d.calls.is_empty(), "and then not again without end");
}

// A notification that is larger than push_max_bytes was asked for again with each new subscription, and refused again, without end.
#[test]
fn what_was_refused_is_not_asked_for_again() {
    let from = |request: &Request| match request {
        Request::SubscribePush { watermark, .. } => watermark.clone(),
        other => panic!("{other:?}"),
    };
    let mut d = connected();
    d.push(mails("p1", "w1", &[("a", "w2")]));
    d.engine.push_refused();
    d.story();
    d.wait(1201.0);
    let (call, _, request) = d.call();
    assert_eq!(from(&request), None, "from now on");
    d.answer(call, Answer::Subscribed { id: "p2".into(), watermark: Some("w9".into()), date: None });
    d.push(status("p2", "w9", "w10"));
    let story = d.story();
    assert!(story.iter().any(|line| line.contains("Gap") && line.contains("NotificationLost")), "{story:?}");
    // It was another's: what comes of this one goes on from the last.
    d.engine.push_refused();
    d.push(mails("p2", "w10", &[("b", "w11")]));
    d.wait(1201.0);
    let (_, _, request) = d.call();
    assert_eq!(from(&request).as_deref(), Some("w11"));
}

// An administrator whose firewall keeps the server out would wait for ever.
#[test]
fn a_server_that_does_not_reach_us_is_told() {
    let mut d = asking(1);
    subscribed(&mut d, "p1", Some("w0"));
    d.wait(119.0);
    assert!(d.told.is_empty());
    d.wait(2.0);
    let event = d.told.pop_front().unwrap();
    assert_eq!(event.kind, EventKind::Error);
    let text = event.detail.unwrap().message.unwrap();
    assert!(text.contains("push_url") && text.contains("firewall"), "{text}");
    d.wait(1000.0);
    assert!(d.told.is_empty(), "once");
    d.wait(200.0);
    assert_eq!(d.story(), ["1 Disconnected IdleTimeout"]);
    let (_, _, request) = d.call();
    assert!(matches!(request, Request::SubscribePush { .. }), "and it is tried again");
}

// An error means that the subscription is gone; one that names nobody is not to be lost either.
#[test]
fn an_error_push_makes_a_new_subscription() {
    let with = |message: Message| {
        let mut d = connected();
        let pushed = d.push_all(vec![message]);
        assert_eq!((pushed.answer, pushed.parts[0].outcome), (OK, PushOutcome::Lost));
        subscribed(&mut d, "p2", Some("v0"));
        d.push(status("p2", "v0", "v0"));
        assert_eq!(
            d.story(),
            ["1 Disconnected SubscriptionLost", "1 Resubscribed", "1 Gap SubscriptionLost", "1 Connected"]
        );
        d.refused(mails("p1", "w1", &[("a", "w2")]));
    };
    with(failure("ErrorReadEventsFailed", status("p1", "w1", "w1").body));
    with(failure("ErrorReadEventsFailed", None));
    // Of several watches nobody knows which; it is told, and falls silent.
    let mut d = connected();
    d.add(2, by_push);
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    subscribed(&mut d, "q1", Some("w0"));
    assert_eq!(d.push(failure("ErrorReadEventsFailed", None)), [PushOutcome::Lost]);
    let event = d.told.pop_front().unwrap();
    assert_eq!((event.kind, event.watch), (EventKind::Error, 0));
    assert!(event.detail.unwrap().message.unwrap().contains("for which mailbox"));
    assert!(d.calls.is_empty() && d.told.is_empty());
}

// An Unsubscribe by a call is refused by Exchange; without any, it would go on sending for ever.
#[test]
fn subscriptions_end_by_the_answer() {
    let mut d = connected();
    d.feed(Input::Remove(1));
    assert!(d.calls.is_empty(), "{:?}", d.calls);
    assert_eq!(
        (d.unwanted.clone(), d.story()),
        (vec!["p1".to_owned()], vec!["1 Closed ClosedByHost".to_owned()])
    );
    assert_eq!(d.forgotten, [1]);
    d.refused(mails("p1", "w1", &[("a", "w2")]));

    let mut d = connected();
    d.feed(Input::Close);
    assert!(d.finished && d.calls.is_empty());
    assert_eq!(d.unwanted, ["p1"]);
    d.told.clear();
    d.refused(mails("p1", "w1", &[("a", "w2")]));
    d.refused(failure("ErrorReadEventsFailed", None));
    assert!(d.told.is_empty());

    // Taken back while its Subscribe was under way.
    let mut d = asking(1);
    let (call, ..) = d.call();
    d.feed(Input::Remove(1));
    d.refused(status("p1", "w0", "w1"));
    d.answer(call, Answer::Subscribed { id: "p1".into(), watermark: None, date: None });
    assert!(d.calls.is_empty());
    assert_eq!((d.unwanted.clone(), d.forgotten.clone()), (vec!["p1".to_owned()], vec![1]));
}

// A body with several messages would be answered for one of them only.
#[test]
fn several_messages_in_one() {
    let mut d = connected();
    d.add(2, by_push);
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    subscribed(&mut d, "q1", Some("w0"));
    let pushed = d.push_all(vec![
        mails("p1", "w1", &[("a", "w2")]),
        mails("nobodys", "w1", &[("x", "w2")]),
        mails("q1", "w0", &[("b", "w1"), ("c", "w2")]),
    ]);
    assert_eq!(pushed.answer, OK, "one of them is ours");
    let outcomes: Vec<_> = pushed.parts.iter().map(|p| (p.watch, p.outcome, p.events)).collect();
    assert_eq!(
        outcomes,
        [(Some(1), PushOutcome::Taken, 1), (None, PushOutcome::Unknown, 1), (Some(2), PushOutcome::Taken, 2)]
    );
    assert_eq!(d.story(), ["1 NewMail a", "2 Connected", "2 NewMail b", "2 NewMail c"]);
}

// A stranger's events would be handed out, as they are kept from a stream.
#[test]
fn a_strangers_events_are_not_told() {
    let mut d = connected();
    let mut theirs = mails("p1", "w1", &[("theirs", "w2")]);
    theirs.body.as_mut().unwrap().notices[0].parent_folder_id =
        Some(Id { id: "F-x".into(), change_key: None });
    d.push(theirs);
    assert_eq!(d.story(), ["1 Disconnected ForeignEvent"]);
    subscribed(&mut d, "p2", Some("v0"));
    d.refused(mails("p1", "w2", &[("a", "w3")]));
}

// A server that began anew counts from one again: a watch's new subscription would be nobody's, and deaf for an hour.
#[test]
fn an_id_that_another_watch_has_had_is_heard() {
    let mut d = connected();
    d.add(2, by_push);
    let (call, ..) = d.call();
    d.answer(call, Answer::Folders(vec![Ok(FOLDER.into())]));
    // The other one has lost it, and gets another.
    subscribed(&mut d, "p1", Some("v0"));
    d.wait(1.0);
    subscribed(&mut d, "p2", Some("u0"));
    d.story();
    assert_eq!(d.push(mails("p1", "v0", &[("a", "v1")])), [PushOutcome::Taken]);
    assert_eq!(d.push(mails("p2", "u0", &[("b", "u1")])), [PushOutcome::Taken]);
    let story = d.story();
    assert!(
        story.contains(&"2 NewMail a".to_owned()) && story.contains(&"1 NewMail b".to_owned()),
        "{story:?}"
    );
    // Both are watched over.
    d.wait(1201.0);
    assert_eq!(d.calls.iter().map(|c| c.1).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
}

// While a new subscription is asked for, an error without a name would make a second one beside it.
#[test]
fn an_error_without_a_name_is_no_second_loss() {
    let mut d = connected();
    let mut foreign = notice(NoticeKind::NewMail, "x", "somebody else's");
    foreign.watermark = Some("w2".into());
    let previous_watermark = Some("w1".into());
    d.push(message(Some(Notification { previous_watermark, ..notification("p1", vec![foreign]) })));
    d.wait(1.0);
    assert_eq!(d.calls.len(), 1, "it is subscribed anew: {:?}", d.calls);
    d.push_all(vec![failure("ErrorReadEventsFailed", None)]);
    d.wait(10.0);
    assert_eq!(d.calls.len(), 1, "{:?}", d.calls);
    subscribed(&mut d, "p2", Some("u0"));
    assert_eq!(d.push(mails("p2", "u0", &[("b", "u1")])), [PushOutcome::Taken]);
    d.wait(1201.0);
    assert!(!d.calls.is_empty(), "its silence is noticed");
}
