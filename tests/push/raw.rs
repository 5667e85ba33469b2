//! Requests to a listener that hide nothing of the bytes, and notifications to put in them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No test needs so long; it keeps a broken one from hanging.
pub const LONG: Duration = Duration::from_secs(60);
pub const SECRET: &str = "0123456789abcdef-not-to-be-guessed";

/// A connection of its own.
pub fn connect(address: SocketAddr) -> TcpStream {
    let sock = TcpStream::connect(address).unwrap();
    sock.set_read_timeout(Some(LONG)).unwrap();
    sock.set_write_timeout(Some(LONG)).unwrap();
    sock.set_nodelay(true).unwrap();
    sock
}

/// A request with its length.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: hook\r\nAccept: text/xml\r\nContent-Type: text/xml; charset=utf-8\r\nSoapaction: \
         \"http://schemas.microsoft.com/exchange/services/2006/messages/SendNotification\"\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// The path that the listener takes.
pub fn path() -> String {
    format!("/hook/{SECRET}")
}

/// An answer: its status and its body, whose length its head says. `None` where the other side ends first.
pub fn answer(link: &mut impl Read) -> Option<(u16, String)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match link.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length =
        head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    link.read_exact(&mut body).unwrap();
    Some((status, String::from_utf8(body).unwrap()))
}

/// Sends bytes on a connection of its own: the answer.
pub fn ask(address: SocketAddr, bytes: &[u8]) -> Option<(u16, String)> {
    let mut sock = connect(address);
    // It may be refused before all of it is sent.
    let _ = sock.write_all(bytes);
    answer(&mut sock)
}

/// A notification of a new mail.
pub fn notification(subscription: &str, previous: &str, mark: &str, item: &str) -> String {
    envelope(&format!(
        "<m:SendNotificationResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
         <m:Notification><t:SubscriptionId>{subscription}</t:SubscriptionId><t:PreviousWatermark>{previous}\
         </t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents><t:NewMailEvent><t:Watermark>{mark}</t:Watermark>\
         <t:TimeStamp>2026-11-22T09:30:00Z</t:TimeStamp><t:ItemId Id=\"{item}\" ChangeKey=\"CQAAAA==\"/>\
         <t:ParentFolderId Id=\"AAMi\" ChangeKey=\"AQAAAA==\"/></t:NewMailEvent></m:Notification>\
         </m:SendNotificationResponseMessage>"
    ))
}

/// As Exchange Online has been seen to write it.
pub fn envelope(messages: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap11:Envelope \
         xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap11:Header><t:RequestServerVersion \
         Version=\"Exchange2010\" xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></soap11:Header>\
         <soap11:Body><m:SendNotification xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><m:ResponseMessages>{messages}\
         </m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>"
    )
}
