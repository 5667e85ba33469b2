//! `decode`, on captures made by hand.

use std::io::Write;

use serde_json::{Value, json};

use crate::beside;
use crate::support::{Ended, Running, command, run, run_with};

const STREAM: &str = r#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><soap11:Header xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/"/><soap11:Body xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/"><m:GetStreamingEventsResponse xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><m:ResponseMessages><m:GetStreamingEventsResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>BODY</m:GetStreamingEventsResponseMessage></m:ResponseMessages></m:GetStreamingEventsResponse></soap11:Body></Envelope>"#;
const HEARTBEAT: &str = "<m:ConnectionStatus>OK</m:ConnectionStatus>";
const CLOSED: &str = "<m:ConnectionStatus>Closed</m:ConnectionStatus>";
const MOVED: &str = r#"<m:Notifications><m:Notification><t:SubscriptionId>sub-1</t:SubscriptionId><t:PreviousWatermark>w0</t:PreviousWatermark><t:MoreEvents>true</t:MoreEvents><t:MovedEvent><t:Watermark>w1</t:Watermark><t:TimeStamp>2026-11-22T09:30:00Z</t:TimeStamp><t:ItemId Id="new" ChangeKey="ck"/><t:ParentFolderId Id="f2"/><t:OldItemId Id="old"/><t:OldParentFolderId Id="f1"/></t:MovedEvent><t:StatusEvent><t:Watermark>w2</t:Watermark></t:StatusEvent></m:Notification></m:Notifications>"#;

fn envelope(body: &str) -> String {
    STREAM.replace("BODY", body)
}

fn moved() -> [Value; 2] {
    let about = json!({"subscription": "sub-1", "previous_watermark": "w0", "more_events": true});
    let mut first = json!({"type": "Moved", "watermark": "w1", "time": "2026-11-22T09:30:00Z", "item_id": "new",
        "change_key": "ck", "parent_folder_id": "f2", "old_item_id": "old", "old_parent_folder_id": "f1"});
    let mut second = json!({"type": "Status", "watermark": "w2"});
    for line in [&mut first, &mut second] {
        line.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
    }
    [first, second]
}

fn decode(capture: &str) -> Ended {
    run_with(&["decode", "-"], capture.as_bytes())
}

fn chunked(pieces: &[&str]) -> String {
    let mut http = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for piece in pieces {
        http += &format!("{:X}\r\n{piece}\r\n", piece.len());
    }
    http + "0\r\n\r\n"
}

// Whoever looks for an event that was not told must find it in what was recorded.
#[test]
fn envelopes_streams_and_raw_answers() {
    let (moved_xml, first, last) = (envelope(MOVED), envelope(HEARTBEAT), envelope(CLOSED));
    let whole = format!("{first}{moved_xml}\r\n<?xml version=\"1.0\"?>{last}");
    let (a, b) = moved_xml.split_at(700);
    let expected = [
        vec![json!({"type": "GetStreamingEvents", "status": "ok"})],
        moved().to_vec(),
        vec![json!({"type": "GetStreamingEvents", "status": "closed"})],
    ]
    .concat();
    for capture in [whole.clone(), chunked(&[&first, a, b, &last]), format!("\u{feff} {whole}")] {
        let ended = decode(&capture);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert_eq!(ended.json(), expected);
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(whole.as_bytes()).unwrap();
    assert_eq!(run(&["decode", file.path().to_str().unwrap()]).json(), expected);
}

// One bad byte in an hour's recording must not hide the rest of it, nor go unsaid.
#[test]
fn what_cannot_be_read_is_told_with_its_place_after_the_rest() {
    let (good, bad) = (envelope(MOVED), envelope("<m:ConnectionStatus>OK</m:Nonsense>"));
    // Whole as far as its tags go, but no XML.
    let unreadable = envelope("<m:ConnectionStatus>&nope;</m:ConnectionStatus>");
    let cut = &good[..good.len() - 20];
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (capture, offsets) in [
        (format!("{good}{bad}{good}"), good.len()..good.len() + bad.len()),
        (format!("{good}\n{unreadable}{good}"), good.len() + 1..good.len() + 2),
        (format!("{good}\n{cut}"), good.len() + 1..good.len() + 2),
        (format!("{head}{:x}\r\n{good}\r\nfff\r\n{cut}", good.len()), head.len() + good.len()..usize::MAX),
        (format!("{head}{:x}\r\n{good}\r\nzz\r\n{good}", good.len()), head.len() + good.len()..usize::MAX),
    ] {
        let ended = decode(&capture);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.json()[..2], moved(), "{ended:?}");
        assert!(!ended.err.is_empty());
        for line in ended.err.lines() {
            let offset = line.strip_prefix("ewsnotify: at byte ").and_then(|rest| rest.split_once(' '));
            let offset: usize = offset.unwrap_or_else(|| panic!("{line}")).0.parse().unwrap();
            assert!(offsets.contains(&offset), "{offset} in {offsets:?}: {line}");
        }
    }
    // Good envelopes behind a bad one come too.
    assert_eq!(decode(&format!("{good}{bad}{good}")).json().len(), 4);
    for nonsense in ["", "hello", "<html><body>", "<!DOCTYPE html><html></html>", "\u{0}\u{1}", "<a>"] {
        let ended = decode(nonsense);
        assert_eq!(ended.code, Some(1), "{nonsense:?}: {ended:?}");
        assert!(ended.err.contains("at byte "), "{nonsense:?}: {ended:?}");
    }
    let missing = run(&["decode", "/nowhere/at/all"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("/nowhere/at/all"), "{missing:?}");
}

#[test]
fn other_answers() {
    let soap = |body: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
             xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><s:Body>{body}</s:Body></s:Envelope>"
        )
    };
    let response = |operation: &str, class: &str, inner: &str| {
        soap(&format!(
            "<m:{operation}Response><m:ResponseMessages><m:{operation}ResponseMessage ResponseClass=\"{class}\">{inner}\
             </m:{operation}ResponseMessage></m:ResponseMessages></m:{operation}Response>"
        ))
    };
    let ok = "<m:ResponseCode>NoError</m:ResponseCode>";
    for (xml, expected) in [
        (
            response(
                "Subscribe",
                "Success",
                &format!("{ok}<m:SubscriptionId>s</m:SubscriptionId><m:Watermark>w</m:Watermark>"),
            ),
            json!([{"type": "Subscribe", "subscription": "s", "watermark": "w"}]),
        ),
        (response("Unsubscribe", "Success", ok), json!([{"type": "Unsubscribe"}])),
        (
            response(
                "GetEvents",
                "Error",
                "<m:MessageText>Gone.</m:MessageText><m:ResponseCode>ErrorSubscriptionNotFound</m:ResponseCode>",
            ),
            json!([{"type": "Error", "code": "ErrorSubscriptionNotFound", "message": "Gone."}]),
        ),
        (
            response(
                "GetItem",
                "Success",
                &format!(
                    "{ok}<m:Items><t:Message><t:ItemId Id=\"i\" ChangeKey=\"c\"/><t:Subject>S</t:Subject></t:Message></m:Items>"
                ),
            ),
            json!([{"type": "Item", "element": "Message", "item_id": "i", "change_key": "c", "subject": "S"}]),
        ),
        (
            response(
                "SyncFolderItems",
                "Success",
                &format!(
                    "{ok}<m:SyncState>state</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>\
                 <m:Changes><t:Delete><t:ItemId Id=\"i\"/></t:Delete></m:Changes>"
                ),
            ),
            json!([{"type": "SyncFolderItems", "sync_state": "state", "includes_last": true}, {"type": "Delete", "item_id": "i"}]),
        ),
        (
            soap("<s:Fault><faultcode>s:Client</faultcode><faultstring>No.</faultstring></s:Fault>"),
            json!([{"type": "Fault", "code": "Client", "message": "No."}]),
        ),
        (soap("<m:Frobnicate/>"), json!([{"type": "Other", "element": "Frobnicate"}])),
    ] {
        let ended = decode(&xml);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert_eq!(Value::from(ended.json()), expected);
    }
    let ended = decode(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nNoHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        ended.json(),
        [json!({"type": "Http", "http_status": 401}), json!({"type": "Http", "http_status": 503})]
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

// `curl -N … | ewsnotify decode -`: an event must be seen when it comes, not when the stream ends.
#[test]
fn a_stream_is_told_as_it_comes() {
    let mut decode = Running::start(command(&["decode", "-"]));
    let mut stdin = decode.stdin.take().unwrap();
    stdin.write_all(envelope(MOVED).as_bytes()).unwrap();
    assert_eq!([decode.json(|_| true), decode.json(|_| true)], moved());
    stdin.write_all(envelope(CLOSED).as_bytes()).unwrap();
    assert_eq!(decode.json(|_| true)["status"], "closed");
    drop(stdin);
    assert_eq!(decode.end().code, Some(0));
}

// Real bytes, where they are at hand.
#[test]
fn recorded_streams() {
    let Some(dir) = beside::shared("ews/transcripts-gromox") else { return };
    let mut events = 0;
    for file in dir
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
    {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        if file.file_name().is_some_and(|name| name == "README.md") {
            continue;
        }
        let ended = run(&["decode", file.to_str().unwrap()]);
        let told = ended.json();
        assert!(!told.is_empty(), "{}: {ended:?}", file.display());
        for kind in ["NewMail", "Created", "Moved", "Deleted", "Copied"] {
            let response = text.split_once("<<<<< RESPONSE").map_or("", |(_, rest)| rest);
            let sent = response.matches(&format!("<t:{kind}Event>")).count();
            let got = told.iter().filter(|line| line["type"] == kind).count();
            assert_eq!(got, sent, "{kind} in {}: {}", file.display(), ended.err);
            events += got;
        }
    }
    assert!(events > 100, "{events}");
}
