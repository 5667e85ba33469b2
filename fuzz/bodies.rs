//! What the fuzz targets do with their bytes. The tests run it too, so that it keeps compiling and holding.
#![allow(dead_code)]

use std::sync::LazyLock;

use ewsnotify::proto::{FrameLimits, Framer, StreamDecoder, capture, read_envelope, read_push};

/// Known frames of both servers, so that the fast way is taken; then the bytes as an envelope, and as the notifications
/// and the inside of an event of a known frame.
pub fn decode(data: &[u8]) {
    // Learning a frame costs fifty times what reading by it does; each run begins with a copy, so that it can be repeated.
    static KNOWING: LazyLock<[StreamDecoder; 2]> = LazyLock::new(|| {
        FRAMES.map(|(head, tail)| {
            let mut decoder = StreamDecoder::new();
            let first = [head, &EVENT.replace("{}", ""), tail].concat();
            decoder.decode(first.as_bytes()).expect("the frame is good");
            decoder
        })
    });
    for ((head, tail), knowing) in FRAMES.into_iter().zip(&*KNOWING) {
        let mut decoder = knowing.clone();
        let whole = |content: &[u8]| [head.as_bytes(), content, tail.as_bytes()].concat();
        let first = whole(EVENT.replace("{}", "").as_bytes());
        let (before, after) = EVENT.split_once("{}").expect("there is a place");
        let inside = [before.as_bytes(), data, after.as_bytes()].concat();
        for envelope in [data.to_vec(), whole(data), whole(&inside)] {
            let decoded = decoder.decode(&envelope);
            // Only texts that are too long for a stream may be read by one alone.
            if decoded.as_ref().is_err_and(|e| e.kind() == ewsnotify::ErrorKind::Limit) {
                continue;
            }
            assert_eq!(decoded.ok(), read_envelope(&envelope).ok(), "{}", envelope.escape_ascii());
        }
        assert!(decoder.decode(&first).is_ok());
        let push = [PUSH.0.as_bytes(), &inside, PUSH.1.as_bytes()].concat();
        let _ = (read_push(data), read_push(&push));
    }
}

/// The first byte says where to cut. Envelopes and errors are the same, and so is the state at the end.
pub fn framer(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let limits = FrameLimits::with_envelope(200);
    let size = usize::from(*cut) % 40 + 1;
    let frames = |size: usize| {
        let mut framer = Framer::new(limits);
        let mut found = Vec::new();
        for piece in stream.chunks(size) {
            framer.push(piece);
            while let Some(next) = framer.next() {
                found.push(next.map(<[u8]>::to_vec).map_err(|e| (e.kind, e.offset)));
            }
        }
        found.extend(framer.finish().map(|e| Err((e.kind, e.offset))));
        found
    };
    let whole = frames(stream.len().max(1));
    assert_eq!(frames(size), whole, "in pieces of {size}: {}", stream.escape_ascii());
    assert!(whole.iter().flatten().all(|envelope| envelope.len() <= limits.envelope));
    let _ = capture::split(data);
}

const EVENT: &str = "<m:Notification><t:SubscriptionId>S</t:SubscriptionId><t:NewMailEvent><t:TimeStamp>2026-01-01T00:00:00Z\
    </t:TimeStamp><t:ItemId Id=\"I\" ChangeKey=\"C\"/><t:ParentFolderId Id=\"P\"/>{}</t:NewMailEvent></m:Notification>";

const FRAMES: [(&str, &str); 2] = [
    (
        "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap11:Body \
         xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\"><m:GetStreamingEventsResponse \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><m:ResponseMessages>\
         <m:GetStreamingEventsResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
         <m:Notifications>",
        "</m:Notifications></m:GetStreamingEventsResponseMessage></m:ResponseMessages></m:GetStreamingEventsResponse>\
         </soap11:Body></Envelope>",
    ),
    (
        "<SOAP:Envelope xmlns:SOAP=\"http://schemas.xmlsoap.org/soap/envelope/\"><SOAP:Body>\
         <m:GetStreamingEventsResponse xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><m:ResponseMessages>\
         <m:GetStreamingEventsResponseMessage ResponseClass=\"Error\"><m:ResponseCode>ErrorInvalidSubscription\
         </m:ResponseCode><m:Notifications>",
        "</m:Notifications><m:ErrorSubscriptionIds><SubscriptionId>D</SubscriptionId></m:ErrorSubscriptionIds>\
         <m:ConnectionStatus>OK</m:ConnectionStatus></m:GetStreamingEventsResponseMessage></m:ResponseMessages>\
         </m:GetStreamingEventsResponse></SOAP:Body></SOAP:Envelope>",
    ),
];

const PUSH: (&str, &str) = (
    "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><m:SendNotification \
     xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
     xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><m:ResponseMessages>\
     <m:SendNotificationResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>",
    "</m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></s:Body></s:Envelope>",
);
