//! The bodies of the fuzz targets on random pieces of XML, a little in every run of the tests.

#[path = "../fuzz/bodies.rs"]
mod bodies;

const WORDS: [&str; 44] = [
    "<",
    ">",
    "/>",
    "\"",
    "'",
    "=",
    " ",
    "&",
    ";",
    "a",
    "\n",
    "\0",
    "\u{FEFF}",
    "<a>",
    "</a>",
    "<a/>",
    "<a b=\">\">",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?xml version='1.0'?>",
    "<?",
    "?>",
    "<!DOCTYPE a>",
    "<Envelope>",
    "</Envelope>",
    "<s:Envelope ",
    "<html>",
    "<Envelope xmlns='http://schemas.xmlsoap.org/soap/envelope/'>",
    "</m:Notification>",
    "<m:Notification>",
    "<t:StatusEvent/>",
    "<t:SubscriptionId>S</t:SubscriptionId>",
    "<t:NewMailEvent>",
    "</t:NewMailEvent>",
    "<t:ItemId Id=\"x\"/>",
    "<t:UnreadCount>1</t:UnreadCount>",
    "<t:OldItemId Id=\"x\" />",
    "<t:Watermark>W</t:Watermark>",
    "<t:MoreEvents>true</t:MoreEvents>",
    "é",
    "</m:Notifications>",
    "<m:Notifications>",
];

fn random(rng: &mut fastrand::Rng, longest: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..rng.usize(..longest)).flat_map(|_| WORDS[rng.usize(..WORDS.len())].bytes()).collect();
    if !bytes.is_empty() && rng.u8(..4) == 0 {
        let at = rng.usize(..bytes.len());
        bytes[at] = rng.u8(..);
    }
    bytes
}

// Envelopes that come out or not depending on where a chunk ends.
#[test]
fn framing_does_not_depend_on_the_cut() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..30_000 {
        let data = random(&mut rng, 24);
        let ran = std::panic::catch_unwind(|| bodies::framer(&data));
        assert!(ran.is_ok(), "seed {seed}, round {round}");
    }
}

// Events that are there or not depending on what came before.
#[test]
fn decoding_does_not_depend_on_the_way() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..3_000 {
        let data = random(&mut rng, 6);
        let ran = std::panic::catch_unwind(|| bodies::decode(&data));
        assert!(ran.is_ok(), "seed {seed}, round {round}");
    }
}
