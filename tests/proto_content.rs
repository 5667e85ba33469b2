//! The cutting of content against the `xml` crate: whatever the document and wherever it is split, what is cut and what is
//! left are together what the crate alone would have read.

use std::cell::Cell;

use ewsnotify::proto::{Base64Decoder, Body, Cutter, Envelope, read_envelope};
use ewsnotify::{ErrorKind, Result};

const SEEDS: u64 = 8_000;

/// Reads a document that comes in pieces; gives also how much was cut out of it.
fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Envelope, usize)> {
    let (mut cutter, mut cut) = (Cutter::new("MimeContent", 1 << 20), Vec::new());
    for piece in pieces {
        cutter.push(piece, &mut |text| {
            cut.extend_from_slice(text);
            Ok(())
        })?;
    }
    let cut = String::from_utf8(cut).unwrap();
    let rest = cutter.finish();
    let mut envelope = rest.envelope()?;
    for mime in mimes(&mut envelope) {
        if let Some(behind) = rest.behind(mime) {
            *mime = format!("{cut}{behind}");
        }
        normal(mime);
    }
    Ok((envelope, cut.len()))
}

fn whole(document: &[u8]) -> Result<Envelope> {
    let mut envelope = read_envelope(document)?;
    mimes(&mut envelope).for_each(normal);
    Ok(envelope)
}

fn mimes(envelope: &mut Envelope) -> impl Iterator<Item = &mut String> {
    let items = match &mut envelope.body {
        Body::Items(responses) => responses.as_mut_slice(),
        _ => &mut [],
    };
    items.iter_mut().flat_map(|response| &mut response.body).filter_map(|item| item.mime_base64.as_mut())
}

/// The crate makes one line end of CR LF; to base64 it is all the same.
fn normal(mime: &mut String) {
    mime.retain(|c| !c.is_ascii_whitespace());
}

#[track_caller]
fn same<'a>(document: &[u8], pieces: impl IntoIterator<Item = &'a [u8]>, about: &str) -> usize {
    let expected = whole(document);
    let got = in_pieces(pieces);
    match (expected, got) {
        (Ok(expected), Ok((got, cut))) => {
            assert_eq!(got, expected, "{about}: {}", document.escape_ascii());
            cut
        }
        (Err(expected), Err(got)) => {
            assert_eq!(got.kind(), expected.kind(), "{about}: {}", document.escape_ascii());
            0
        }
        (expected, got) => {
            panic!("{about}: {expected:?} alone, {got:?} cut: {}", document.escape_ascii());
        }
    }
}

fn document(content: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Body><m:GetItemResponse xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><m:ResponseMessages>\
         <m:GetItemResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode><m:Items>\
         <t:Message>{content}<t:Subject>A &lt;b></t:Subject></t:Message></m:Items></m:GetItemResponseMessage>\
         </m:ResponseMessages></m:GetItemResponse></s:Body></s:Envelope>"
    )
}

/// Contents that a mail may have, and what is cut out of them.
const CONTENTS: &[(&str, usize)] = &[
    ("<t:MimeContent CharacterSet=\"UTF-8\">QUJDRA==</t:MimeContent>", 8),
    ("<t:MimeContent\n a = '>' b=\"/>\" >\r\n QUJD\r\nRA==\r\n</t:MimeContent\n>", 15),
    ("<MimeContent xmlns='http://schemas.microsoft.com/exchange/services/2006/types'>QUJD</MimeContent>", 4),
    ("<t:MimeContent/>", 0),
    ("<t:MimeContent></t:MimeContent>", 0),
    ("<t:MimeContent> </t:MimeContent>", 1),
    ("<t:MimeContent>QUJD<!-- yes -->RA==</t:MimeContent>", 4),
    ("<t:MimeContent><!-- yes -->QUJDRA==</t:MimeContent>", 0),
    ("<t:MimeContent><![CDATA[QUJDRA==]]></t:MimeContent>", 0),
    ("<t:MimeContent>QUJD<![CDATA[RA==]]></t:MimeContent>", 4),
    ("<t:MimeContent>QUJD&#13;&#10;RA==</t:MimeContent>", 4),
    ("<t:MimeContent>QUJD&#x0;RA==</t:MimeContent>", 4),
    ("<t:MimeContent>QUJD/></t:MimeContent>", 5),
    ("<t:MimeContent>QUJD]]></t:MimeContent>", 0),
    ("<t:MimeContent>QU\u{fffc}JD</t:MimeContent>", 2),
    ("<t:MimeContent>\u{fffc}QUJD</t:MimeContent>", 0),
    ("<t:MimeContent>QU<t:X>YZ</t:X>JD</t:MimeContent>", 2),
    ("<t:MimeContent>QU<?p <t:MimeContent>?>JD</t:MimeContent>", 2),
    // In places that are none of the message.
    ("<!-- <t:MimeContent>WFla</t:MimeContent> --><t:MimeContent>QUJD</t:MimeContent>", 4),
    ("<![CDATA[<t:MimeContent>WFla]]><t:MimeContent>QUJD</t:MimeContent>", 4),
    ("<?p <t:MimeContent>WFla?><t:MimeContent>QUJD</t:MimeContent>", 4),
    ("<t:X a='<t:MimeContent>WFla'/><t:MimeContent>QUJD</t:MimeContent>", 0),
    ("<t:X a='&lt;t:MimeContent>WFla'/><t:MimeContent>QUJD</t:MimeContent>", 4),
    ("<t:X><t:MimeContent>WFla</t:MimeContent></t:X><t:MimeContent>QUJD</t:MimeContent>", 4),
    ("<x:MimeContent xmlns:x='urn:x'>WFla</x:MimeContent><t:MimeContent>QUJD</t:MimeContent>", 4),
    ("<t:MimeContent>WFla</t:MimeContent><t:MimeContent>QUJD</t:MimeContent>", 4),
    ("<t:MimeContent>WFla<t:MimeContent>QUJD</t:MimeContent></t:MimeContent>", 4),
    ("<t:XMimeContent>WFla</t:XMimeContent><t:MimeContents>WFla</t:MimeContents>", 0),
    ("<MimeContent:t xmlns:MimeContent='urn:x'>WFla</MimeContent:t>", 0),
    // A name that is beyond the grammar here and good XML: all of it goes the long way.
    ("<t:\u{e9}l\u{e9}ment/><t:MimeContent>QUJD</t:MimeContent>", 0),
    ("<t:MimeContent>QUJD</t:MimeContent><t:\u{e9}l\u{e9}ment>&amp;</t:\u{e9}l\u{e9}ment>", 4),
    // Broken.
    ("<t:MimeContent>QUJD<!-- no --->RA==</t:MimeContent>", 0),
    ("<t:MimeContent>QUJD", 0),
    ("<t:MimeContent>QUJD</t:Mime>", 0),
    ("<t:MimeContent a>QUJD</t:MimeContent>", 0),
    ("<t:MimeContent a='1' a='2'>QUJD</t:MimeContent>", 0),
    ("<t:MimeContent a='1'b='2'>QUJD</t:MimeContent>", 0),
    ("<u:MimeContent>QUJD</u:MimeContent>", 0),
    ("< t:MimeContent>QUJD</t:MimeContent>", 0),
    ("<t:MimeContent>QUJD</ t:MimeContent>", 0),
    ("<t:MimeContent>QUJD&nope;</t:MimeContent>", 0),
    ("<!DOCTYPE x><t:MimeContent>QUJD</t:MimeContent>", 0),
];

// A mail would come with bytes of something else in it, or without some of its own, where a server writes it in an odd way.
#[test]
fn what_is_cut_and_what_is_left_are_what_the_xml_crate_reads() {
    for (content, cut) in CONTENTS {
        let document = document(content);
        let bytes = document.as_bytes();
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(same(bytes, [a, b], content), *cut, "{content} at {at}");
        }
        assert_eq!(same(bytes, bytes.chunks(1), content), *cut, "{content}");
    }
}

// The same for what nobody has thought of.
#[test]
fn mutated_documents_are_read_as_the_xml_crate_reads_them() {
    const PIECES: &[&str] = &[
        "<!--",
        "-->",
        "--",
        "<![CDATA[",
        "]]>",
        "<?p ",
        "?>",
        "<t:MimeContent>",
        "</t:MimeContent>",
        "<t:MimeContent a='",
        "<MimeContent xmlns='urn:x'>",
        "</MimeContent>",
        "<m:Items>",
        "</m:Items>",
        "<t:Message>",
        "</t:Message>",
        "/>",
        "/",
        "<",
        ">",
        "'",
        "\"",
        "=",
        "&#10;",
        "&lt;",
        "&",
        ";",
        "]",
        "-",
        "?",
        "!",
        " ",
        "\r\n",
        "QUJD",
        "t:",
        ":",
        "\u{fffd}",
        "\u{e9}",
        "xmlns:u='urn:u'",
        "<t:Subject>",
        "</t:Subject>",
    ];
    // They may stand in many places.
    const GOOD: &[&str] = &[
        " ",
        "\r\n",
        "QUJD",
        "&#10;",
        "&amp;",
        "\u{e9}",
        "<!-- <t:MimeContent>QUJD -->",
        "<![CDATA[<t:MimeContent>QUJD]]>",
        "<?p <t:MimeContent>QUJD?>",
        "<t:MimeContent>QUJD</t:MimeContent>",
        "<t:MimeContent/>",
        "<x>QUJD</x>",
        " a='>'",
        "<MimeContent xmlns='urn:x'>QUJD</MimeContent>",
        "</t:MimeContent><t:MimeContent>",
        "=",
        "/",
        "--",
        "-",
        "?",
        "]",
        "]]",
    ];
    let base: u64 = std::env::var("EWSN_CONTENT_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let (mut good, mut cuts) = (0, 0);
    for seed in base..base + SEEDS {
        let about = format!("EWSN_CONTENT_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = document(rng.choice(CONTENTS).unwrap().0).into_bytes();
        // Most of it near the content.
        let middle = memchr::memmem::find(&bytes, b"<t:Message>").unwrap();
        for _ in 0..rng.usize(1..3) {
            let from = if rng.u8(..4) == 0 { 0 } else { middle.min(bytes.len()) };
            let mut at = rng.usize(from..=bytes.len());
            if rng.u8(..4) > 0 {
                // Between tags, most of the time.
                at += bytes[at..].iter().position(|b| *b == b'>').map_or(0, |n| n + 1);
            }
            match rng.u8(..8) {
                0..=4 => drop(bytes.splice(at..at, rng.choice(GOOD).unwrap().bytes())),
                5 => drop(bytes.splice(at..at, rng.choice(PIECES).unwrap().bytes())),
                6 => drop(bytes.drain(at..bytes.len().min(at + rng.usize(1..12)))),
                _ => {
                    let end = bytes.len().min(at + rng.usize(1..60));
                    let again = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, again));
                }
            }
        }
        let mut pieces = Vec::new();
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let (piece, behind) = left.split_at(rng.usize(1..=left.len().min(64)));
            pieces.push(piece);
            left = behind;
        }
        good += usize::from(whole(&bytes).is_ok());
        cuts += usize::from(same(&bytes, pieces, &about) > 0);
    }
    // It must not be a test of error messages.
    assert!(
        good > SEEDS as usize / 10 && cuts > SEEDS as usize / 20,
        "{good} were good, of {cuts} something was cut"
    );
}

// Base64 that comes in pieces must be what it is as a whole: every byte, and every reason to refuse it.
#[test]
fn base64_in_pieces_is_what_it_is_as_a_whole() {
    use base64::Engine;
    let whole = |text: &[u8]| {
        let mut text = text.to_vec();
        text.retain(|b| !b.is_ascii_whitespace());
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    };
    for seed in 0..3_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let length = if rng.u8(..4) == 0 { rng.usize(12_000..40_000) } else { rng.usize(..40) };
        let plain: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
        let mut text = base64::engine::general_purpose::STANDARD.encode(&plain).into_bytes();
        for _ in 0..rng.usize(..4) {
            let at = rng.usize(..=text.len());
            match rng.u8(..8) {
                0 => drop(text.splice(at..at, *b"=")),
                1 => text.truncate(at),
                2 => drop(text.splice(at..at, [rng.u8(..)])),
                _ => drop(text.splice(at..at, *b" \r\n")),
            }
        }
        let (mut decoder, mut got) = (Base64Decoder::default(), Vec::new());
        let mut out = |bytes: &[u8]| {
            got.extend_from_slice(bytes);
            Ok(())
        };
        let mut left = text.as_slice();
        let mut outcome = Ok(());
        while !left.is_empty() && outcome.is_ok() {
            let (piece, behind) = left.split_at(rng.usize(1..=left.len().min(20_000)));
            outcome = decoder.push(piece, &mut out);
            left = behind;
        }
        let outcome = outcome.and_then(|()| decoder.finish(&mut out));
        match whole(&text) {
            Some(whole) => {
                outcome.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert!(whole == got, "seed {seed}");
            }
            None => {
                let e = outcome.expect_err(&format!("seed {seed}"));
                assert_eq!(e.kind(), ErrorKind::Protocol, "seed {seed}");
                assert!(e.to_string().contains("no base64"), "seed {seed}: {e}");
            }
        }
    }
}

// A server could fill the memory beside the content; and what takes the content must be able to say that it is enough.
#[test]
fn the_rest_is_bounded_and_the_taker_ends_it() {
    let mut cutter = Cutter::new("MimeContent", 1000);
    let mut ignore = |_: &[u8]| Ok(());
    cutter.push(b"<a><MimeContent>", &mut ignore).unwrap();
    for _ in 0..1000 {
        cutter.push(&b"QUJD".repeat(250), &mut ignore).unwrap();
    }
    cutter.push(b"</MimeContent>", &mut ignore).unwrap();
    let e = cutter.push(&b" ".repeat(1000), &mut ignore).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit);
    assert!(e.to_string().contains("max_response_bytes"), "{e}");

    let calls = Cell::new(0);
    let mut cutter = Cutter::new("MimeContent", 1000);
    let stop = |_: &[u8]| {
        calls.set(calls.get() + 1);
        read_envelope(b"").map(drop)
    };
    assert!(cutter.push(b"<a><MimeContent>QUJD</MimeContent>", &mut { stop }).is_err());
    assert_eq!(calls.get(), 1);
}

// An attachment comes in an element of another name.
#[test]
fn any_element_can_be_cut() {
    let (mut cutter, mut cut) = (Cutter::new("Content", 1000), Vec::new());
    let xml = b"<a><t:ContentType>text/plain</t:ContentType><t:ContentId>1</t:ContentId><t:Content>QUJD</t:Content></a>";
    let mut out = |text: &[u8]| {
        cut.extend_from_slice(text);
        Ok(())
    };
    cutter.push(xml, &mut out).unwrap();
    assert_eq!(cut, b"QUJD");
}
