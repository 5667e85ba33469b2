//! What a server that has gone mad can send, and the memory that it may take: 32 MiB for the whole process. One test alone
//! in its process, so that no other one's memory is counted.

use ewsnotify::ErrorKind;
use ewsnotify::proto::{FrameLimits, Framer, StreamDecoder, read_envelope};
use proto_support::forms::Form;

mod proto_support;

const PIECE: usize = 16 << 10;

/// Sends bytes as a stream, in pieces; gives the errors of framing and decoding.
fn stream(pieces: impl Iterator<Item = Vec<u8>>, decoder: &mut StreamDecoder) -> Vec<ErrorKind> {
    let mut framer = Framer::new(FrameLimits::default());
    let mut errors = Vec::new();
    for piece in pieces {
        framer.push(&piece);
        while let Some(envelope) = framer.next() {
            match envelope {
                Ok(envelope) => errors.extend(decoder.decode(envelope).err().map(|e| e.kind())),
                Err(error) => errors.push(error.kind),
            }
        }
    }
    errors
}

/// A head, a filling up to a size, a tail.
fn filled<'a>(
    head: &'a str,
    filling: &'a str,
    size: usize,
    tail: &'a str,
) -> impl Iterator<Item = Vec<u8>> + 'a {
    let each = PIECE / filling.len();
    let middle = (0..size / (each * filling.len())).map(move |_| filling.repeat(each).into_bytes());
    std::iter::once(head.as_bytes().to_vec()).chain(middle).chain(std::iter::once(tail.as_bytes().to_vec()))
}

fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib >> 10)
}

// A host with ten thousand mailboxes would be killed for want of memory by one of them.
#[test]
fn hostile_answers_end_in_a_clear_error_within_32_mib() {
    let mut rng = fastrand::Rng::with_seed(1);
    let form = Form::Exchange;
    let good = form.notifications(&[form.random_notification(&mut rng)]);
    let (head, tail) = good.split_once("<t:SubscriptionId>").unwrap();
    let tail = &tail[tail.find("</m:Notification>").unwrap()..];
    const SIZE: usize = (8 << 20) - (64 << 10);
    let mut learned = StreamDecoder::new();
    learned.decode(good.as_bytes()).unwrap();

    let check = |name: &str, errors: Vec<ErrorKind>, expected: &[ErrorKind]| {
        assert_eq!(errors, expected, "{name}");
        if let Some(peak) = peak_mib() {
            assert!(peak <= 32, "{name}: {peak} MiB");
        }
    };
    let limit = [ErrorKind::Limit];
    let protocol = [ErrorKind::Protocol];
    for decoder in [&mut StreamDecoder::new(), &mut learned] {
        check("a gigabyte of text", stream(filled("<a>", "text ", 1 << 30, "</a>"), decoder), &limit);
        check("elements without end", stream(filled("<a>", "<b></b>", 64 << 20, ""), decoder), &limit);
        check("events", stream(filled(head, "<t:StatusEvent/>", SIZE, tail), decoder), &limit);
        check("unknown elements", stream(filled(head, "<t:X/>", 256 << 10, tail), decoder), &[]);
        let open = format!("{head}<t:SubscriptionId>");
        let close = format!("</t:SubscriptionId>{tail}");
        check("a long id", stream(filled(&open, "S", SIZE, &close), decoder), &limit);
        let bytes = (0..500).map(|_| vec![0xFF; PIECE]);
        let bytes = [b"<a>".to_vec()].into_iter().chain(bytes).chain([b"</a>".to_vec()]);
        check("no UTF-8", stream(bytes, decoder), &protocol);
        check("a long attribute", stream(filled("<a b='", "x", SIZE, "'/>"), decoder), &limit);
        check("a long name", stream(filled("<a", "x", SIZE, "/>"), decoder), &limit);
        check(
            "nested elements",
            stream([b"<a>".repeat(10_000), b"</a>".repeat(10_000)].into_iter(), decoder),
            &limit,
        );
    }
    let attributes = || (0..1_000_000).map(|n| format!(" a{n:x}=''").into_bytes());
    let element = || [b"<a".to_vec()].into_iter().chain(attributes()).chain([b"/>".to_vec()]);
    check("a million attributes in a stream", stream(element(), &mut learned), &limit);
    let kind = |xml: &[u8]| read_envelope(xml).map_err(|e| e.kind()).err().into_iter().collect();
    let mut whole = Vec::with_capacity(11 << 20);
    element().for_each(|piece| whole.extend_from_slice(&piece));
    check("a million attributes", kind(&whole), &limit);
    drop(whole);
    let entities = (1..30).map(|n| format!("<!ENTITY e{n} '&e{};&e{};'>", n - 1, n - 1)).collect::<String>();
    let bomb = format!("<!DOCTYPE a [<!ENTITY e0 'boom'>{entities}]><a>&e29;</a>");
    check("an entity bomb", kind(bomb.as_bytes()), &protocol);
    check("an entity bomb in a stream", stream([bomb.into_bytes()].into_iter(), &mut learned), &protocol);
    check(
        "nested elements",
        kind(("<Envelope>".repeat(10_000) + &"</Envelope>".repeat(10_000)).as_bytes()),
        &limit,
    );
}
