//! Push: what a server sends by itself, and what it is answered ([MS-OXWSNTIF] 3.1.4.4, `SendNotification`).

use super::message::{Body, Notification, Response};
use super::read::read_stream_envelope;
use crate::{Error, ErrorKind, Result};

/// The answer to a `SendNotification`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushReply {
    /// It came; the subscription goes on.
    Ok,
    /// It came; the subscription is to end.
    Unsubscribe,
}

impl PushReply {
    /// The body to answer with: status 200, `Content-Type: text/xml; charset=utf-8`.
    ///
    /// ```
    /// use ewsnotify::proto::PushReply;
    /// assert!(PushReply::Ok.body().contains("<m:SubscriptionStatus>OK</m:SubscriptionStatus>"));
    /// ```
    pub fn body(self) -> &'static str {
        macro_rules! result {
            ($status:literal) => {
                concat!(
                    r#"<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>"#,
                    r#"<m:SendNotificationResult xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"><m:SubscriptionStatus>"#,
                    $status,
                    "</m:SubscriptionStatus></m:SendNotificationResult></s:Body></s:Envelope>"
                )
            };
        }
        match self {
            PushReply::Ok => result!("OK"),
            PushReply::Unsubscribe => result!("Unsubscribe"),
        }
    }
}

/// Reads a `SendNotification`: its response messages, each with its notification, which errors may lack. What stands in the
/// header, and in which namespace, does not matter.
///
/// ```
/// # let body = ewsnotify::proto::PushReply::Ok.body();
/// // An answer is no notification.
/// assert_eq!(ewsnotify::proto::read_push(body.as_bytes()).unwrap_err().kind(), ewsnotify::ErrorKind::Protocol);
/// ```
///
/// # Errors
/// [`ErrorKind::Protocol`] for what is no XML or no `SendNotification`, [`ErrorKind::Limit`] for more than a server's message
/// can hold.
pub fn read_push(body: &[u8]) -> Result<Vec<Response<Option<Notification>>>> {
    match read_stream_envelope(body).map_err(|e| e.context("SendNotification"))?.body {
        Body::Push(messages) if !messages.is_empty() => Ok(messages),
        Body::Push(_) => Err(Error::new(ErrorKind::Protocol, "SendNotification: there is no message in it")),
        body => {
            let name: String = body.name().chars().take(60).collect();
            Err(Error::new(ErrorKind::Protocol, format!("what came is no SendNotification, but <{name}>")))
        }
    }
}
