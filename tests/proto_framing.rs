//! Streams cut in every way: the same envelopes come out, as soon as they are there, and a bad one costs only itself.

use ewsnotify::ErrorKind;
use ewsnotify::proto::{Body, FrameLimits, Framer, StreamDecoder, Target};
use proto_support::forms::{FORMS, Form};

mod proto_support;

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";

/// What came out: an envelope's bytes, or the kind and place of an error.
type Outcome = Result<Vec<u8>, (ErrorKind, u64)>;

fn frame<'a>(limits: FrameLimits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Outcome> {
    let mut framer = Framer::new(limits);
    let mut found = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(next) = framer.next() {
            found.push(next.map(<[u8]>::to_vec).map_err(|e| (e.kind, e.offset)));
        }
    }
    found.extend(framer.finish().map(|e| Err((e.kind, e.offset))));
    found
}

/// The ids of the items that an outcome tells of; None for an error of any kind.
fn items(decoder: &mut StreamDecoder, outcome: &Outcome) -> Option<Vec<String>> {
    let envelope = decoder.decode(outcome.as_ref().ok()?).ok()?;
    let Body::Streaming(responses) = envelope.body else { return None };
    let notices = responses.into_iter().flat_map(|r| r.body.notifications).flat_map(|n| n.notices);
    let id = |target| match target {
        Some(Target::Item(id) | Target::Folder(id)) => id.id,
        None => "none".to_owned(),
    };
    Some(notices.map(|n| id(n.target)).collect())
}

/// A small envelope with one event of an item. `{R}` in the parts stands for the prefix of SOAP with its colon.
fn envelope(item: &str) -> String {
    custom("", "", "", item)
}

fn custom(prefix: &str, in_header: &str, in_event: &str, item: &str) -> String {
    let (colon, declared) = match prefix {
        "" => (String::new(), "xmlns".to_owned()),
        p => (format!("{p}:"), format!("xmlns:{p}")),
    };
    format!(
        "<{colon}Envelope {declared}=\"http://schemas.xmlsoap.org/soap/envelope/\"><{colon}Header>{in_header}</{colon}Header>\
         <{colon}Body><G:GetStreamingEventsResponse xmlns:G=\"http://schemas.microsoft.com/exchange/services/2006/messages\">\
         <G:ResponseMessages><G:x ResponseClass='Success'><G:Notifications><G:Notification><G:SubscriptionId>S\
         </G:SubscriptionId><G:NewMailEvent>{in_event}<G:ItemId Id=\"{item}\"/></G:NewMailEvent></G:Notification>\
         </G:Notifications></G:x></G:ResponseMessages></G:GetStreamingEventsResponse></{colon}Body></{colon}Envelope>"
    )
}

/// A name, a stream, and the items that it tells of, None for each error.
type Stream = (&'static str, Vec<u8>, Vec<Option<&'static str>>);

fn streams() -> Vec<Stream> {
    let a = || envelope("a");
    let (b, c) = (|| envelope("b"), || envelope("c"));
    let ab = || vec![Some("a"), Some("b")];
    let lost = || vec![Some("a"), None, Some("c")];
    let mut all: Vec<Stream> = Vec::new();
    let mut add = |name, stream: &str, expected| all.push((name, stream.as_bytes().to_vec(), expected));

    add("back to back", &(a() + &b()), ab());
    add("declarations", &format!("{DECLARATION}{}\r\n{DECLARATION}{}", a(), b()), ab());
    add("a declaration on the second", &format!("{}{DECLARATION}{}", a(), b()), ab());
    add("byte order marks", &format!("\u{FEFF}{DECLARATION}{}\u{FEFF}{}\u{FEFF}", a(), b()), ab());
    add("white space", &format!(" \r\n\t{}\n\n \t{}\n", a(), b()), ab());
    add("comments between", &format!("<!-- <Envelope> -- > -->{}<!----><!-- ' -->{}", a(), b()), ab());
    add(
        "instructions between",
        &format!("<?a <Envelope?>{}<?xml-stylesheet href='x'?>{}<?b?>", a(), b()),
        ab(),
    );
    add(
        "spaces in tags",
        &(a().replace("</Envelope>", "</Envelope \n>").replace("<Body>", "<Body\t >") + &b()),
        ab(),
    );

    let header = |inside: &str| custom("", inside, "", "a") + &b();
    add("CDATA with an end", &header("<x><![CDATA[</x></Header></Envelope><Envelope>]] ]>]]></x>"), ab());
    add("a comment with an end", &header("<!-- </Header></Envelope> <![CDATA[ -->"), ab());
    add("an instruction with an end", &header("<?x </Header></Envelope> > ?>"), ab());
    add(
        "nested Envelope elements",
        &header("<Envelope xmlns='u:v'><Envelope/></Envelope><x:Envelope xmlns:x='u:v'/>"),
        ab(),
    );
    add("the same Envelope without its namespace", &header("<Envelope><Body></Body></Envelope>"), ab());
    add("quotes with tags in them", &header("<x a='>\">/' b=\"'>/>'\" c=''></x><x d=\">\"/>"), ab());
    add("quotes with ends in them", &header("<x a='/>'></x><x a=\"/>\" b='/>'></x>"), ab());
    add("unknown elements", &header("<u:v xmlns:u='u:v'><u:w><Body/>text</u:w></u:v><w/>"), ab());
    let event = |inside: &str| custom("", "", inside, "a") + &b();
    add("illegal references", &event("<G:Subject>&#x0;&#31;&#xD800;&#xFFFE;&amp;</G:Subject>"), ab());
    add("stray text", &event("stray > text ' \" &lt;"), ab());
    add("prefixes that change", &(custom("s", "", "", "a") + &custom("SOAP-ENV", "", "", "b")), ab());
    add("no events", "<a/><b></b>", vec![None, None]);

    let in_text = b().find("</G:SubscriptionId>").unwrap();
    add("cut off, then another one", &(a() + &b()[..in_text] + &c()), lost());
    add("cut off, then a declaration", &(a() + &b()[..in_text] + DECLARATION + &c()), lost());
    add("cut off in a tag", &(a() + &b()[..30] + &c()), lost());
    add("cut off in an end tag", &(a() + &b()[..b().len() - 3] + &c()), lost());
    add("a start tag without its end", &(a() + &b().replace("<Body>", "<Body><x>") + &c()), lost());
    add("an end tag without its start", &(a() + &b().replace("</Body>", "</Body></Body>") + &c()), lost());
    add("a tag that is none", &(a() + &b().replace("<Body>", "<Body>< x") + &c()), lost());
    add("a wrong attribute", &(a() + &b().replace("='Success'", "=Success") + &c()), lost());
    add("an unknown entity", &(a() + &b().replace(">S<", ">&nbsp;<") + &c()), lost());
    add("an unbound prefix", &(a() + &b().replace("<Body>", "<Body><u:v/>") + &c()), lost());
    add("a DTD", &(a() + "<!DOCTYPE x [<!ENTITY y 'z'>]>" + &c()), lost());
    add("a DTD inside", &(a() + &b().replace("<Body>", "<Body><!DOCTYPE x>") + &c()), lost());
    add("text", &(a() + "Service Unavailable" + &c()), lost());
    add("text with a declaration after it", &(a() + "503 < 504 & <x>" + DECLARATION + &c()), lost());
    add("a web page", &(a() + "<html><head><meta charset=x><br></head></html>" + &c()), lost());
    add("a web page with a DTD", &(a() + "<!DOCTYPE html><html><br></html>" + &c()), lost());
    add(
        "another encoding",
        &(a() + &DECLARATION.replace("utf-8", "utf-16") + &b() + &c()),
        vec![Some("a"), None, Some("b"), Some("c")],
    );
    add("an end tag alone", &(a() + "</Envelope>" + &c()), lost());
    add("CDATA between", &(a() + "<![CDATA[x]]>" + &c()), lost());
    add("cut off at the end", &(a() + &b() + &c()[..200]), vec![Some("a"), Some("b"), None]);
    add("cut off in a mark", &(a() + &b() + "<"), vec![Some("a"), Some("b"), None]);
    add("nothing", "", vec![]);

    let bad = |of: &[u8], by: &[u8]| {
        let stream = event("<G:Subject>@</G:Subject>").into_bytes();
        let at = stream.windows(of.len()).position(|w| w == of).unwrap();
        [&stream[..at], by, &stream[at + of.len()..]].concat()
    };
    all.push(("wrong UTF-8", bad(b"@", b"\xFF\xC3(\xE2\x82"), ab()));
    all.push(("a control character", bad(b"@", b"\x00\x0B"), ab()));
    all.push(("UTF-16", [a().as_bytes(), b"\xFF\xFE<\0a\0/\0>\0", c().as_bytes()].concat(), lost()));
    all
}

// A chunk's end inside a tag, a quote or a character would lose or invent an event.
#[test]
fn every_split_of_every_stream_gives_the_same_envelopes_and_events() {
    for (name, stream, expected) in streams() {
        let limits = FrameLimits::default();
        let whole = frame(limits, [&stream[..]]);
        let mut decoder = StreamDecoder::new();
        let told: Vec<_> = whole.iter().map(|outcome| items(&mut decoder, outcome)).collect();
        let expected: Vec<Option<Vec<String>>> =
            expected.into_iter().map(|e| e.map(|id| vec![id.to_owned()])).collect();
        assert_eq!(told, expected, "{name}: {whole:?}");

        assert_eq!(frame(limits, stream.chunks(1)), whole, "{name}, byte by byte");
        for at in 0..=stream.len() {
            let pieces = frame(limits, [&stream[..at], &stream[at..]]);
            assert_eq!(pieces, whole, "{name}, cut at {at}");
            if stream.len() <= 4096 {
                let pieces: Vec<_> = pieces.iter().map(|outcome| items(&mut decoder, outcome)).collect();
                assert_eq!(pieces, told, "{name}, cut at {at}");
            }
        }
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..50 {
            let mut rest = &stream[..];
            let pieces = std::iter::from_fn(|| {
                let (piece, after) = rest.split_at(rng.usize(..=rest.len().min(200)));
                rest = after;
                (!piece.is_empty() || !rest.is_empty()).then_some(piece)
            });
            assert_eq!(frame(limits, pieces), whole, "{name}, seed {seed}");
        }
    }
}

// An event that waits for the next chunk comes up to a heartbeat too late.
#[test]
fn an_envelope_leaves_with_its_last_byte() {
    let mut rng = fastrand::Rng::with_seed(1);
    for form in FORMS {
        let mut framer = Framer::new(FrameLimits::default());
        for _ in 0..5 {
            let xml = form.notifications(&[form.random_notification(&mut rng)]);
            for (at, byte) in xml.bytes().enumerate() {
                framer.push(&[byte]);
                let last = at + 1 == xml.len();
                let out = framer.next().map(|e| e.unwrap().to_vec());
                assert_eq!(out.is_some(), last, "{form:?}: byte {at}");
                assert_eq!(framer.in_progress(), !last, "{form:?}: byte {at}");
                assert!(!last || out.unwrap() == xml.as_bytes());
            }
        }
    }
}

// Generated streams of both servers, at every byte, and decoded.
#[test]
fn streams_of_exchange_and_gromox_at_every_split() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for form in FORMS {
        let envelopes: Vec<String> = (0..4)
            .map(|n| match n {
                0 => form.status("OK"),
                3 => form.status("Closed"),
                _ => form.notifications(&[form.random_notification(&mut rng)]),
            })
            .collect();
        let declaration = if form == Form::Gromox { DECLARATION } else { "" };
        let stream = declaration.to_owned() + &envelopes.concat();
        let expected: Vec<Outcome> = envelopes.iter().map(|e| Ok(e.as_bytes().to_vec())).collect();
        for at in 0..stream.len() {
            let (one, two) = stream.as_bytes().split_at(at);
            assert_eq!(
                frame(FrameLimits::default(), [one, two]),
                expected,
                "{form:?}, seed {seed}, cut at {at}"
            );
        }
    }
}

// Without bounds a server that has gone mad takes the host's memory.
#[test]
fn limits_cost_the_envelope_and_not_the_next() {
    let good = envelope("a");
    let deep = |n: usize| "<x>".repeat(n) + &"</x>".repeat(n);
    let limits = FrameLimits::with_envelope(2000);
    for (name, bad, place) in [
        ("long", envelope(&"x".repeat(2000)), 0),
        ("endless", format!("<x>{}", "x".repeat(5000)), 0),
        ("endless tag", format!("<x {}", "x".repeat(5000)), 0),
        ("endless end tag", format!("<x></x {}", "x".repeat(5000)), 0),
        ("endless comment", format!("<x><!-- {}", "x".repeat(5000)), 0),
        ("deep", deep(257), 3 * 256),
        ("a long name", format!("<{}/>", "x".repeat(1500)), 0),
    ] {
        let stream = good.clone() + &bad + &good;
        for size in [1, 7, 100, 10_000] {
            let out = frame(limits, stream.as_bytes().chunks(size));
            let expected: [Outcome; 3] = [
                Ok(good.clone().into_bytes()),
                Err((ErrorKind::Limit, good.len() as u64 + place)),
                Ok(good.clone().into_bytes()),
            ];
            assert!(
                out == expected,
                "{name}, in pieces of {size}: {:?}",
                out.iter().map(|o| o.as_ref().map(Vec::len)).collect::<Vec<_>>()
            );
        }
    }
    // Up to the bound all is well.
    let exact = format!("<x>{}</x>", "x".repeat(2000 - 7));
    assert_eq!(frame(limits, [exact.as_bytes()]), [Ok(exact.clone().into_bytes())]);
    assert!(frame(limits, [format!("{}</x>", &exact[..exact.len() - 3]).as_bytes()])[0].is_err());
    assert_eq!(frame(FrameLimits::default(), [deep(256).as_bytes()]).len(), 1);
}

// The text of an error is all that an operator has: it must say what came and where, and be safe to print.
#[test]
fn errors_say_where_and_what_came() {
    for (stream, words) in [
        (
            &b"<a/> \n\x1B[31mGateway Time-out"[..],
            &["byte 6", "text where an envelope was expected", "\\x1b[31mGateway"][..],
        ),
        (b"<!DOCTYPE html><html>", &["web page"]),
        (b"<HTML lang='en'>", &["web page"]),
        (b"<!DOCTYPE x [", &["DTD"]),
        (b"\xFF\xFE<\0", &["UTF-16"]),
        (b"<?xml version='1.0' encoding='iso-8859-1'?>", &["iso-8859-1", "UTF-8"]),
        (b"<a></b>", &["byte 3", "</b>"]),
    ] {
        let mut framer = Framer::new(FrameLimits::default());
        framer.push(stream);
        let error = std::iter::from_fn(|| framer.next().map(|e| e.err())).flatten().next().unwrap();
        let text = ewsnotify::Error::from(error).to_string();
        for word in words {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains('\x1B') && text.len() < 250, "{text}");
    }
    let mut framer = Framer::new(FrameLimits::default());
    framer.push(b"<a/><b><c>");
    while framer.next().is_some() {}
    assert_eq!(framer.offset(), 4);
    let error = framer.finish().unwrap();
    assert_eq!(error.offset, 4);
    assert!(error.to_string().contains("6 bytes"), "{error}");
    assert!(!framer.in_progress() && framer.finish().is_none());
}

// Time that grows with the square of an envelope's length: a slow proxy that sends byte by byte would take all CPU.
#[test]
fn a_large_envelope_in_single_bytes_is_looked_at_once() {
    let text = "x".repeat(200_000);
    let stream = format!(
        "<a b=\"{text}\" c='{text}'><!--{text}--><![CDATA[{text}]]>{text}<?p {}?></a>",
        &text[..60_000]
    );
    assert_eq!(frame(FrameLimits::default(), stream.as_bytes().chunks(1)), [Ok(stream.clone().into_bytes())]);
    // The same for errors: each of these starts over at once.
    let hostile = "<Envelope ".repeat(200_000);
    assert!(frame(FrameLimits::default(), [hostile.as_bytes()]).len() > 1000);
}
