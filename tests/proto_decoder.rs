//! The fast way through a stream and the `xml` crate must never differ, and the fast way must be the usual one.

use ewsnotify::proto::{Body, NoticeKind, StreamDecoder, read_envelope};
use proto_support::forms::{FORMS, Form};

mod proto_support;

/// An envelope as servers write them, heartbeats among them.
fn random_envelope(rng: &mut fastrand::Rng, form: Form) -> String {
    match rng.u8(..10) {
        0 => form.status("OK"),
        _ => {
            let notifications: Vec<_> = (0..rng.usize(1..4)).map(|_| form.random_notification(rng)).collect();
            form.notifications(&notifications)
        }
    }
}

// If the usual envelopes were read in full, a busy stream would take a hundred times the time.
#[test]
fn after_the_first_of_a_form_nearly_all_envelopes_take_the_fast_way() {
    for form in FORMS {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut decoder = StreamDecoder::new();
        for _ in 0..2000 {
            let xml = random_envelope(&mut rng, form);
            let fast = decoder.decode(xml.as_bytes()).unwrap();
            if decoder.fast().is_multiple_of(10) {
                assert_eq!(fast, read_envelope(xml.as_bytes()).unwrap(), "{form:?}, seed {seed}: {xml}");
            }
        }
        assert!(decoder.full() <= 20, "{form:?}, seed {seed}: {} of 2000 in full", decoder.full());
        assert_eq!(decoder.fast() + decoder.full(), 2000);
    }
}

// What is decoded must be what the server meant: compared with the values that the envelope was written from.
#[test]
fn the_fast_way_gives_the_values_that_were_written() {
    for form in FORMS {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut decoder = StreamDecoder::new();
        for _ in 0..500 {
            let notifications: Vec<_> =
                (0..rng.usize(1..4)).map(|_| form.random_notification(&mut rng)).collect();
            let xml = form.notifications(&notifications);
            let Body::Streaming(mut responses) = decoder.decode(xml.as_bytes()).unwrap().body else {
                panic!("{xml}")
            };
            assert_eq!(responses.remove(0).body.notifications, notifications, "{form:?}, seed {seed}");
            assert!(responses.is_empty());
        }
        assert!(decoder.fast() > 490);
    }
}

// A difference would be an event with a wrong id, a lost one, or one that never was: decided by how the stream began.
#[test]
fn mutated_envelopes_are_read_as_the_xml_crate_reads_them() {
    let seed = fastrand::u64(..);
    std::thread::scope(|scope| {
        for form in FORMS {
            scope.spawn(move || compare_mutants(form, seed));
        }
    });
}

fn compare_mutants(form: Form, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut accepted, mut refused, mut readable) = (0, 0, 0);
    for _ in 0..40 {
        let mut decoder = StreamDecoder::new();
        for _ in 0..3 {
            decoder.decode(random_envelope(&mut rng, form).as_bytes()).unwrap();
        }
        decoder.decode(form.notifications(&[form.random_notification(&mut rng)]).as_bytes()).unwrap();
        for _ in 0..300 {
            let envelope = form.notifications(&[form.random_notification(&mut rng)]);
            let mutant = mutate(&mut rng, envelope.into_bytes());
            let before = decoder.fast();
            let decoded = decoder.decode(&mutant).ok();
            // What was read in full is the xml crate's own answer.
            if decoder.fast() > before {
                let authority = read_envelope(&mutant).ok();
                assert_eq!(decoded, authority, "{form:?}, seed {seed}: {}", mutant.escape_ascii());
                accepted += 1;
            } else {
                refused += 1;
                readable += u32::from(decoded.is_some());
            }
        }
    }
    let counts =
        format!("{form:?}, seed {seed}: {accepted} accepted, {refused} refused, {readable} of them readable");
    assert!(accepted > 1000 && refused > 1000 && readable > 1000, "{counts}");
}

/// Changes that a server, a proxy or an attacker could make; many keep the envelope well-formed.
fn mutate(rng: &mut fastrand::Rng, mut xml: Vec<u8>) -> Vec<u8> {
    const BYTES: &[u8] = b" <>/\"'&;=:tmAZ09+\t\n\r\0\x7F\x80\xC3\xFF![]-?";
    const PIECES: [&str; 28] = [
        "&amp;",
        "&#x41;",
        "&#0;",
        "<!-- x -->",
        "<![CDATA[a]]>",
        " ",
        "\n",
        "<?p?>",
        "x",
        "<t:Unknown/>",
        "<m:Unknown>1</m:Unknown>",
        "<x:y xmlns:x=\"u:v\">1</x:y>",
        "<t:StatusEvent/>",
        "<t:StatusEvent></t:StatusEvent>",
        "<t:Watermark>W</t:Watermark>",
        "<t:TimeStamp>T</t:TimeStamp>",
        "<t:ItemId Id=\"I\"/>",
        "<t:ItemId Id='I'/>",
        "<t:ItemId ChangeKey=\"C\" Id=\"I\" />",
        "<t:UnreadCount>3</t:UnreadCount>",
        "<t:UnreadCount>-3</t:UnreadCount>",
        "<t:MoreEvents>1</t:MoreEvents>",
        "<m:Notification><t:SubscriptionId>S</t:SubscriptionId></m:Notification>",
        "</m:Notification><m:Notification>",
        "<m:Notification><t:StatusEvent/></m:Notification>",
        " xmlns:t=\"u:v\"",
        "<t:NewMailEvent></t:NewMailEvent>",
        "]]>",
    ];
    for _ in 0..rng.usize(1..3) {
        // Mostly among the notifications: what is before them is the frame's.
        let from = if rng.u8(..4) == 0 { 0 } else { xml.len() / 2 };
        let at = rng.usize(from..xml.len());
        match rng.u8(..9) {
            0 => xml[at] = BYTES[rng.usize(..BYTES.len())],
            1 => xml[at] ^= 1 << rng.u8(..8),
            2 => {
                xml.remove(at);
            }
            3 => xml.insert(at, BYTES[rng.usize(..BYTES.len())]),
            4 => {
                let end = (at + rng.usize(1..40)).min(xml.len());
                xml.drain(at..end);
            }
            // The rest where they may fit: before or after a tag.
            5 | 6 => {
                let tags: Vec<usize> = (0..xml.len()).filter(|i| xml[*i] == b'<').collect();
                let tags = &tags[tags.len() / 2..];
                let (tag, piece) = (tags[rng.usize(..tags.len())], PIECES[rng.usize(..PIECES.len())]);
                xml.splice(tag..tag, piece.bytes());
            }
            7 => {
                // An element of the notifications twice, or not at all.
                let tags: Vec<usize> = (0..xml.len()).filter(|i| xml[*i] == b'<').collect();
                let (a, b) = (rng.usize(..tags.len()), rng.usize(1..6));
                let (from, to) = (tags[a], tags.get(a + b).copied().unwrap_or(xml.len()));
                let piece = xml[from..to].to_vec();
                xml.splice(
                    from..if rng.bool() { from } else { to },
                    if rng.bool() { piece } else { Vec::new() },
                );
            }
            _ => {
                // A change inside of a value.
                let quotes: Vec<usize> = (0..xml.len()).filter(|i| xml[*i] == b'"').collect();
                let at = quotes[rng.usize(..quotes.len())];
                xml.insert(at, b"aZ =+/x><'\xC3"[rng.usize(..11)]);
            }
        }
        if xml.is_empty() {
            xml.push(b'<');
        }
    }
    xml
}

// A server that never repeats a frame must not cost three times as much, nor fill the memory with frames.
#[test]
fn a_stream_that_never_repeats_its_frame_is_read_all_the_same() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut decoder = StreamDecoder::new();
    for round in 0..100 {
        let notification = Form::Exchange.random_notification(&mut rng);
        let xml = Form::Exchange
            .notifications(std::slice::from_ref(&notification))
            .replace("V2017_07_11", &format!("V{round}"));
        let Body::Streaming(responses) = decoder.decode(xml.as_bytes()).unwrap().body else {
            panic!("{xml}")
        };
        assert_eq!(responses[0].body.notifications, [notification]);
    }
    assert_eq!(decoder.full(), 100);
}

// gromox tells of live events in messages of errors: they must arrive, by the fast way too, with the error beside them.
#[test]
fn events_in_a_message_of_an_error_arrive_with_the_error() {
    let mut rng = fastrand::Rng::with_seed(8);
    let mut decoder = StreamDecoder::new();
    for _ in 0..3 {
        let notification = Form::Gromox.random_notification(&mut rng);
        let xml = Form::Gromox
            .notifications(std::slice::from_ref(&notification))
            .replace(
                "\"Success\"><m:ResponseCode>NoError",
                "\"Error\"><m:ResponseCode>ErrorInvalidSubscription",
            )
            .replace(
                "<m:ErrorSubscriptionIds/>",
                "<m:ErrorSubscriptionIds><SubscriptionId>/w=</SubscriptionId></m:ErrorSubscriptionIds>",
            );
        let Body::Streaming(responses) = decoder.decode(xml.as_bytes()).unwrap().body else {
            panic!("{xml}")
        };
        assert_eq!(responses[0].code.as_str(), "ErrorInvalidSubscription");
        assert_eq!(responses[0].body.error_subscription_ids, ["/w="]);
        assert_eq!(responses[0].body.notifications, [notification]);
    }
    assert_eq!((decoder.full(), decoder.fast()), (1, 2));
}

// A frame that stands in a comment, a CDATA section or an unknown element is none: its contents are no events.
#[test]
fn what_only_looks_like_notifications_is_never_taken_for_them() {
    let mut rng = fastrand::Rng::with_seed(9);
    let form = Form::Exchange;
    let hidden = |rng: &mut fastrand::Rng, before: &str, after: &str| {
        form.notifications(&[form.random_notification(rng)])
            .replace("<m:Notifications>", &format!("{before}<m:Notifications>"))
            .replace("</m:Notifications>", &format!("</m:Notifications>{after}"))
    };
    for (before, after) in [
        ("<!--", "-->"),
        ("<m:X><![CDATA[", "]]></m:X>"),
        ("<m:X>", "</m:X>"),
        ("<x:X xmlns:x='u:v'>", "</x:X>"),
        ("<m:Notifications/>", ""),
        ("<m:Notifications></m:Notifications>", ""),
        ("", "<m:Notifications></m:Notifications>"),
        ("<m:X xmlns:t='u:v'>", "</m:X>"),
    ] {
        let mut decoder = StreamDecoder::new();
        for _ in 0..4 {
            let xml = hidden(&mut rng, before, after);
            assert_eq!(decoder.decode(xml.as_bytes()).ok(), read_envelope(xml.as_bytes()).ok(), "{xml}");
            let good = form.notifications(&[form.random_notification(&mut rng)]);
            assert_eq!(decoder.decode(good.as_bytes()).ok(), read_envelope(good.as_bytes()).ok(), "{good}");
        }
    }
}

// A frame is only a guess until the xml crate has agreed: here the guess is a comment, and the events stand elsewhere.
#[test]
fn a_wrong_guess_at_the_frame_is_refused() {
    let mut rng = fastrand::Rng::with_seed(11);
    let form = Form::Exchange;
    let mut decoder = StreamDecoder::new();
    let real = form.random_notification(&mut rng);
    for _ in 0..4 {
        let commented = form.notifications(&[form.random_notification(&mut rng)]);
        let start = commented.find("<m:Notifications>").unwrap();
        let end = commented.find("</m:GetStreamingEventsResponseMessage>").unwrap();
        let comment = format!("<!--{}--><t:Notifications n=\"\">", &commented[start..end]);
        let xml = form.notifications(std::slice::from_ref(&real));
        let xml = xml
            .replace("<m:Notifications>", &comment)
            .replace("</m:Notifications></m:Get", "</t:Notifications></m:Get");
        let Body::Streaming(responses) = decoder.decode(xml.as_bytes()).unwrap().body else {
            panic!("{xml}")
        };
        assert_eq!(responses[0].body.notifications, std::slice::from_ref(&real), "{xml}");
    }
    assert_eq!(decoder.fast(), 0);
}

// Watermarks are not seen in streams today. A server that sends them must not be read wrongly.
#[test]
fn watermarks_and_status_events_belong_to_the_grammar() {
    let mut rng = fastrand::Rng::with_seed(10);
    let mut decoder = StreamDecoder::new();
    let form = Form::Exchange;
    for round in 0..20 {
        let mut notification = form.random_notification(&mut rng);
        notification.previous_watermark = Some(format!("P{round}="));
        let kind = NoticeKind::Status;
        notification.notices.push(form.random_notice(&mut rng, kind));
        for notice in &mut notification.notices {
            notice.watermark = Some(format!("W{round}="));
        }
        let xml = form.notifications(std::slice::from_ref(&notification));
        let Body::Streaming(responses) = decoder.decode(xml.as_bytes()).unwrap().body else {
            panic!("{xml}")
        };
        assert_eq!(responses[0].body.notifications, [notification]);
    }
    assert_eq!(decoder.full(), 1);
}
