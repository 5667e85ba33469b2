//! Groups that live on one machine each: who finds it, who follows, who leaves, and whose budget is charged.

use super::*;
use crate::auth::Secret;

/// A watch on all folders of a mailbox that may share a stream with those of the same group.
fn of(group: &str) -> impl FnOnce(&mut WatchSpec) {
    let group = group.into();
    move |s| {
        s.folders.clear();
        s.affinity = group;
    }
}

fn impersonated(s: &mut WatchSpec) {
    s.folders.clear();
    s.own_budget = true;
}

fn cookie(server: &str) -> String {
    format!("X-BackEndOverrideCookie={server}~1; path=/")
}

impl Desk {
    /// The Subscribes under way: call, watch and anchor.
    fn subscribing(&self) -> Vec<(CallId, u64, String)> {
        let of = self.calls.iter().filter(|c| matches!(c.3, Request::SubscribeStreaming { .. }));
        of.map(|c| (c.0, c.1, self.ways[&c.0].anchor.to_string())).collect()
    }

    /// Answers a watch's Subscribe from a certain server.
    #[track_caller]
    fn subscribe_at(&mut self, watch: u64, id: &str, server: &str) {
        let at = self.calls.iter().position(|c| c.1 == watch).expect("a call of the watch");
        let (call, ..) = self.calls.remove(at).unwrap();
        self.ways[&call].cookies.set(&cookie(server));
        self.answer(call, Answer::Subscribed { id: id.to_owned(), watermark: None, date: None });
    }

    /// Two groups: watches 1 and 2 on server a, 3 and 4 on b. Their streams.
    fn two_groups(&mut self) -> [ConnId; 2] {
        for (watch, group) in [(1, "A"), (2, "A"), (3, "B"), (4, "B")] {
            self.add(watch, of(group));
        }
        for (watch, id, server) in [(1, "s1", "a"), (2, "s2", "a"), (3, "s3", "b"), (4, "s4", "b")] {
            self.subscribe_at(watch, id, server);
        }
        let conns = [["s1", "s2"], ["s3", "s4"]].map(|ids| {
            let (conn, on) = self.open();
            assert_eq!(on, ids);
            self.begin(conn);
            conn
        });
        self.told.clear();
        conns
    }
}

// Subscriptions of one stream would lie on several machines, and most of them be deaf.
#[test]
fn the_first_of_a_group_finds_the_machine_and_the_others_follow() {
    let mut d = Desk::new(settings());
    for watch in 1..=3 {
        d.add(watch, of("A"));
    }
    let [(_, 1, anchor)] = &d.subscribing()[..] else { panic!("{:?}", d.subscribing()) };
    assert_eq!(anchor, "user1@example.test");
    d.subscribe_at(1, "s1", "mbx7");
    for (call, _, anchor) in d.subscribing() {
        assert_eq!(anchor, "user1@example.test");
        let cookie = d.ways[&call].cookies.header();
        assert_eq!(cookie.as_ref().map(Secret::expose), Some("X-BackEndOverrideCookie=mbx7~1"));
    }
    d.subscribe_at(2, "s2", "mbx7");
    d.subscribe_at(3, "s3", "mbx7");
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1", "s2", "s3"]);
    let way = &d.stream_ways[&conn];
    assert_eq!((&*way.anchor, way.cookies.header().is_some()), ("user1@example.test", true));
    // To the same machine, too.
    d.begin(conn);
    d.feed(Input::Remove(2));
    let (call, _, request) = d.call();
    assert!(matches!(request, Request::Unsubscribe { .. }));
    assert_eq!(&*d.ways[&call].anchor, "user1@example.test");
}

// One mailbox that cannot be subscribed would keep two hundred waiting.
#[test]
fn when_the_first_cannot_another_finds_the_machine() {
    for code in ["ErrorMailboxStoreUnavailable", "ErrorNonExistentMailbox", "ErrorProxyRequestNotAllowed"] {
        let mut d = Desk::new(settings());
        (1..=3).for_each(|watch| d.add(watch, of("A")));
        let (call, ..) = d.call();
        d.fail(call, coded(code));
        let asking = d.subscribing();
        let [(_, 2, anchor)] = &asking[..] else { panic!("{code}: {asking:?}") };
        assert_eq!(anchor, "user2@example.test", "{code}");
        d.subscribe_at(2, "s2", "a");
        d.subscribe_at(3, "s3", "a");
        assert_eq!(d.open().1, ["s2", "s3"], "{code}");
    }
    // Or is taken back while it asks.
    let mut d = Desk::new(settings());
    (1..=2).for_each(|watch| d.add(watch, of("A")));
    d.feed(Input::Remove(1));
    assert!(d.subscribing().iter().any(|(_, watch, _)| *watch == 2), "{:?}", d.subscribing());
}

// Mailboxes of several sites cannot share a stream.
#[test]
fn groups_have_streams_of_their_own() {
    let mut d = Desk::new(settings());
    let [a, b] = d.two_groups();
    let ways = [a, b].map(|conn| d.stream_ways[&conn].cookies.header().unwrap());
    let ways = ways.each_ref().map(Secret::expose);
    assert_eq!(ways, ["X-BackEndOverrideCookie=a~1", "X-BackEndOverrideCookie=b~1"]);
}

// A mailbox that moves would be asked for where it was, for ever; or take its neighbours down.
#[test]
fn a_mailbox_that_moves_leaves_its_group_and_disturbs_nobody() {
    for error in [coded("ErrorProxyRequestNotAllowed"), coded("ErrorMailboxMoveInProgress")] {
        let mut d = Desk::new(settings());
        let [a, _] = d.two_groups();
        d.wait(100.0);
        d.told.clear();
        let mut moved = bad_ids("ErrorInvalidSubscription", &["s2"]);
        moved.text = Some("The mailbox is being moved: MailboxMoveStarted.".into());
        d.message(a, moved);
        assert!(d.aborts.is_empty());
        let (call, watch, _) = d.call();
        assert_eq!((watch, &*d.ways[&call].anchor), (2, "user2@example.test"));
        assert_eq!(d.ways[&call].cookies.header(), None, "the old machine's cookies lead to the old machine");
        d.fail(call, error);
        d.wait(700.0);
        d.subscribe_at(2, "s2b", "c");
        let (conn, ids) = d.open();
        assert_eq!(ids, ["s2b"]);
        d.begin(conn);
        assert!(d.aborts.is_empty());
        assert!(d.told().iter().all(|(watch, _)| *watch == 2));
    }
}

// Each mailbox that is added would cost all others a gap; or its stream would never go away.
#[test]
fn who_comes_later_has_a_stream_on_the_same_machine() {
    let mut d = Desk::new(settings());
    let [a, _] = d.two_groups();
    d.add(5, of("A"));
    d.subscribe_at(5, "s5", "a");
    let (late, ids) = d.open();
    assert_eq!(ids, ["s5"]);
    assert_eq!(d.stream_ways[&late].cookies.header(), d.stream_ways[&a].cookies.header());
    d.begin(late);
    assert!(d.aborts.is_empty());
    // A third stream for five mailboxes is one too many: the small one takes the next in.
    d.add(6, of("A"));
    d.subscribe_at(6, "s6", "a");
    assert_eq!(d.aborts, [late]);
    d.end(late, Err(error(ErrorKind::Closed)));
    let (late, ids) = d.open();
    assert_eq!(ids, ["s5", "s6"]);
    d.begin(late);
    // Both are between streams: one is enough.
    d.wait(100.0);
    d.end(a, Err(error(ErrorKind::Connect)));
    let (a, _) = d.open();
    d.end(a, Err(error(ErrorKind::Connect)));
    d.end(late, Err(error(ErrorKind::Connect)));
    d.wait(3.0);
    let all = d.opens.iter().filter_map(|o| match &o.3 {
        Request::GetStreamingEvents { subscription_ids, .. } => Some(subscription_ids.clone()),
        _ => None,
    });
    assert!(all.clone().any(|ids| ids == ["s1", "s2", "s5", "s6"]), "{:?}", all.collect::<Vec<_>>());
}

// Each stream of ten thousand mailboxes would be opened again and again, as they are ready one after the other; or the first would
// wait for the last.
#[test]
fn a_stream_waits_while_others_come_but_not_for_ever() {
    let mut d = Desk::new(settings());
    (1..=40).for_each(|watch| d.add(watch, of("A")));
    let mut next = 1..=40;
    let mut ready = |d: &mut Desk, pause: f64| {
        let watch = next.next().unwrap();
        d.subscribe_at(watch, &format!("s{watch:02}"), "a");
        let opened = !d.opens.is_empty();
        d.wait(pause);
        opened
    };
    // One a second and a half, for half a minute.
    assert!((0..20).all(|_| !ready(&mut d, 1.5)));
    let (_, ids) = d.open();
    assert_eq!(ids.len(), 20);
    // Nobody comes any more.
    let mut d = Desk::new(settings());
    (1..=3).for_each(|watch| d.add(watch, of("A")));
    d.subscribe_at(1, "s1", "a");
    d.wait(1.9);
    d.subscribe_at(2, "s2", "a");
    d.wait(1.9);
    assert!(d.opens.is_empty());
    d.wait(0.1);
    assert_eq!(d.open().1, ["s1", "s2"]);
}

// Streams of two machines would become one, which reads half of its subscriptions.
#[test]
fn streams_of_two_machines_do_not_become_one() {
    let mut d = Desk::new(settings());
    for watch in 1..=2 {
        d.add(watch, of(""));
    }
    // The second one is not where the first one is.
    d.subscribe_at(1, "s1", "a");
    let (call, ..) = d.call();
    d.fail(call, coded("ErrorProxyRequestNotAllowed"));
    let (one, _) = d.open();
    d.begin(one);
    d.wait(100.0);
    d.subscribe_at(2, "s2", "b");
    let (two, _) = d.open();
    d.begin(two);
    for conn in [one, two] {
        d.end(conn, Err(error(ErrorKind::Connect)));
    }
    d.wait(5.0);
    let mut again = vec![d.open().1, d.open().1];
    again.sort();
    assert_eq!(again, [["s1"], ["s2"]]);
}

// With impersonation the server charges each mailbox: one that is throttled would hold up ten thousand.
#[test]
fn a_mailbox_that_is_throttled_by_itself_delays_no_other() {
    for (impersonate, waiting) in [(true, false), (false, true)] {
        let mut d = Desk::new(settings());
        for watch in 1..=3 {
            d.add(watch, |s| {
                impersonated(s);
                s.own_budget = impersonate;
                s.affinity = format!("group{watch}").into();
            });
        }
        assert_eq!(d.subscribing().len(), 3);
        let (call, ..) = d.call();
        d.fail(call, coded("ErrorServerBusy").with_retry_after(Some(Duration::from_secs(100))));
        d.add(4, |s| {
            impersonated(s);
            s.own_budget = impersonate;
        });
        assert_eq!(d.subscribing().iter().all(|(_, watch, _)| *watch != 4), waiting);
        // The throttled one itself waits as long as it was told to.
        d.calls.clear();
        d.wait(99.0);
        assert!(d.subscribing().iter().all(|(_, watch, _)| *watch != 1));
        d.wait(3.0);
        assert!(d.subscribing().iter().any(|(_, watch, _)| *watch == 1));
    }
}

// What throttles the whole server would be taken for one mailbox's trouble.
#[test]
fn a_status_of_the_server_holds_everybody_back() {
    let mut d = Desk::new(settings());
    d.add(1, impersonated);
    let (call, ..) = d.call();
    d.fail(call, http(503));
    d.add(2, impersonated);
    assert!(d.calls.is_empty());
}

// The server allows fewer streams than we thought: the mailboxes of one would be deaf for ever.
#[test]
fn a_refused_stream_teaches_how_many_may_stand_and_its_mailboxes_go_onto_the_others() {
    let mut d = Desk::new(settings());
    let one = d.streaming(1, "s1");
    d.wait(100.0);
    d.add(2, |_| {});
    d.subscribe("s2");
    let (conn, _) = d.open();
    d.end(conn, Err(coded("ErrorExceededConnectionCount")));
    let told = d.told();
    assert!(told.contains(&(2, EventKind::Error)), "{told:?}");
    assert_eq!(d.aborts, [one]);
    d.end(one, Err(error(ErrorKind::Closed)));
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s1", "s2"]);
    d.begin(conn);
    // A further one is not even tried.
    d.wait(100.0);
    d.add(3, |_| {});
    d.subscribe("s3");
    assert_eq!(d.aborts, [one, conn]);
    d.end(conn, Err(error(ErrorKind::Closed)));
    assert_eq!(d.open().1, ["s1", "s2", "s3"]);
}

// Somebody else had the streams for a while: who finds no room meanwhile would be deaf for ever.
#[test]
fn what_a_server_said_of_its_limit_counts_for_an_hour() {
    let mut d = Desk::new(Settings { subscriptions_per_connection: 2, ..settings() });
    let one = d.streaming(1, "s1");
    d.wait(100.0);
    d.add(2, of("B"));
    d.subscribe_at(2, "s2", "b");
    let (conn, ids) = d.open();
    assert_eq!(ids, ["s2"]);
    d.end(conn, Err(coded("ErrorExceededConnectionCount")));
    // Its own stream is on another machine: it is tried again. There is no room for one more.
    d.add(3, of("C"));
    assert!(d.subscribing().is_empty());
    let told = d.told();
    assert!(told.contains(&(3, EventKind::Error)), "{told:?}");
    d.wait(3500.0);
    assert!(d.subscribing().is_empty());
    d.wait(101.0);
    assert_eq!(d.subscribing().iter().map(|(_, watch, _)| *watch).collect::<Vec<_>>(), [3]);
    assert!(!d.aborts.contains(&one));
}

// A mailbox that is throttled would be asked for its items all the same, until none of them can be had.
#[test]
fn nothing_is_fetched_of_a_mailbox_that_is_throttled_by_itself() {
    let mut d = Desk::new(settings());
    for watch in 1..=2 {
        d.add(watch, |s| {
            impersonated(s);
            s.fetch = crate::Fetch::Summary;
            s.affinity = format!("group{watch}").into();
        });
    }
    d.subscribe_at(1, "s1", "a");
    d.subscribe_at(2, "s2", "b");
    let (one, _) = d.open();
    let (two, _) = d.open();
    d.begin(one);
    d.begin(two);
    d.message(one, streamed("s1", vec![notice(NoticeKind::NewMail, "a1", FOLDER)]));
    let (call, watch, _) = d.call();
    assert_eq!(watch, 1);
    d.fail(call, coded("ErrorServerBusy").with_retry_after(Some(Duration::from_secs(100))));
    for (conn, id, item) in [(one, "s1", "a2"), (two, "s2", "b1")] {
        d.message(conn, streamed(id, vec![notice(NoticeKind::NewMail, item, FOLDER)]));
    }
    assert_eq!(d.calls.iter().map(|c| c.1).collect::<Vec<_>>(), [2], "the other is asked for at once");
    d.calls.clear();
    d.wait(99.0);
    assert!(d.calls.is_empty(), "{:?}", d.calls);
    d.wait(10.0);
    assert!(d.calls.iter().all(|c| c.1 == 1) && !d.calls.is_empty(), "{:?}", d.calls);
}

// The mailbox that is charged has its streams already: its group would wait for it.
#[test]
fn with_impersonation_another_mailbox_is_charged() {
    let mut d = Desk::new(settings());
    for watch in 1..=2 {
        d.add(watch, impersonated);
    }
    d.subscribe_at(1, "s1", "a");
    d.subscribe_at(2, "s2", "a");
    let (conn, watch, ..) = d.opens.pop_front().unwrap();
    assert_eq!(watch, 1);
    d.end(conn, Err(coded("ErrorExceededConnectionCount")));
    d.wait(60.0);
    let (conn, watch, ..) = d.opens.pop_front().unwrap();
    assert_eq!((watch, &*d.stream_ways[&conn].anchor), (2, "user2@example.test"));
}

fn streamed(subscription: &str, notices: Vec<Notice>) -> Response<Streamed> {
    let notifications = vec![notification(subscription, notices)];
    response(ResponseClass::Success, "NoError", Streamed { notifications, ..Streamed::default() })
}
