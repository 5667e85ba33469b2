//! Push for hosts with a web server of their own: what came, taken apart, and what to answer; no client is needed.

use serde::Serialize;

use crate::engine::event_kind;
use crate::proto::{self, Id, Notice, Notification, PushReply, Response, ResponseClass, Target};
use crate::{PushOutcome, Result};

/// A `SendNotification`: what the server sent by itself. In JSON, the names are those of the fields.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Push {
    /// The body to answer with, status 200 and `Content-Type: text/xml; charset=utf-8`, if the subscription is to go on.
    pub reply: &'static str,
    /// The same, if it is to end.
    pub unsubscribe: &'static str,
    /// Its messages; usually one.
    pub messages: Vec<PushMessage>,
}

/// What a server tells of one subscription.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct PushMessage {
    /// The subscription; `None` in an error that names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// What it goes on from: if that is not the newest watermark that came before, something did not come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_watermark: Option<String>,
    /// Its own newest watermark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// Whether more is to come at once.
    pub more_events: bool,
    /// The server's code, where it tells of an error: the subscription is gone then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What it says about that, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What happened, oldest first. A sign of life has the type `Status`.
    pub events: Vec<PushEvent>,
}

/// An event as the server wrote it.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct PushEvent {
    /// `NewMail` and so on, or `Status`.
    pub r#type: &'static str,
    /// Its watermark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// When it happened, as the server wrote it (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The item's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The change key of the item or folder: a stub on many servers, good for reading only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_key: Option<String>,
    /// The folder's id, where the event is about a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder_id: Option<String>,
    /// The folder that the item or folder is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_folder_id: Option<String>,
    /// What the item's id was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_item_id: Option<String>,
    /// What the folder's id was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_folder_id: Option<String>,
    /// The folder it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_parent_folder_id: Option<String>,
    /// The folder's count of unread items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_count: Option<i32>,
}

/// What a client made of a `SendNotification`: [`Client::push_feed`](crate::Client::push_feed). In JSON, the names are those of
/// the fields.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PushFed {
    /// The HTTP status to answer with: 200, or 503 where there is no room now and the server is to send it again.
    pub http_status: u16,
    /// The body to answer with, `Content-Type: text/xml; charset=utf-8`; empty with 503.
    pub reply: &'static str,
    /// What was done with each of its messages.
    pub messages: Vec<PushDone>,
}

/// What a client made of one message.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PushDone {
    /// Its subscription, if it names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// The watch that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<u64>,
    /// What became of it.
    pub outcome: PushOutcome,
    /// How many events of the mailbox are in it; [`Client::next`](crate::Client::next) gives those that the watch asks for.
    pub events: usize,
}

/// Takes a `SendNotification` apart, the body of a POST that Exchange sends by itself, and says what to answer. It needs no client,
/// connection or state, so it works in any web process. Who has a client gives the body to
/// [`Client::push_feed`](crate::Client::push_feed) instead, which also checks that nothing is missing.
///
/// ```
/// let body = br#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><SendNotification
///     xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><ResponseMessages>
///     <SendNotificationResponseMessage ResponseClass="Success"><ResponseCode>NoError</ResponseCode><Notification>
///     <SubscriptionId>HwBz=</SubscriptionId><PreviousWatermark>AQAA=</PreviousWatermark><MoreEvents>false</MoreEvents>
///     <NewMailEvent><Watermark>AQAB=</Watermark><TimeStamp>2026-11-22T09:30:00Z</TimeStamp><ItemId Id="AAMk"/>
///     <ParentFolderId Id="AAMi"/></NewMailEvent></Notification></SendNotificationResponseMessage></ResponseMessages>
///     </SendNotification></s:Body></s:Envelope>"#;
/// let push = ewsnotify::push_parse(body)?;
/// let message = &push.messages[0];
/// assert_eq!(message.subscription.as_deref(), Some("HwBz="));
/// assert_eq!((message.events[0].r#type, message.events[0].item_id.as_deref()), ("NewMail", Some("AAMk")));
/// assert!(push.reply.contains("OK"));
/// # Ok::<(), ewsnotify::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol) for what is no `SendNotification`, [`ErrorKind::Limit`](crate::ErrorKind::Limit)
/// for one that is beyond all bounds: to be answered with status 400.
pub fn push_parse(body: &[u8]) -> Result<Push> {
    let messages = proto::read_push(body)?.into_iter().map(message).collect();
    Ok(Push { reply: PushReply::Ok.body(), unsubscribe: PushReply::Unsubscribe.body(), messages })
}

impl Push {
    /// As one line of JSON.
    ///
    /// ```
    /// # let push = ewsnotify::push_parse(b"");
    /// assert!(push.is_err(), "nothing is no notification");
    /// ```
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl PushFed {
    /// As one line of JSON.
    ///
    /// ```
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// assert!(client.push_feed(b"").is_err(), "nothing is no notification");
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn message(response: Response<Option<Notification>>) -> PushMessage {
    let failed = response.class == ResponseClass::Error;
    let code = failed.then(|| response.code.as_str().to_owned());
    let about = PushMessage { code, message: response.text, ..PushMessage::default() };
    let Some(notification) = response.body else { return about };
    PushMessage {
        subscription: Some(notification.subscription_id),
        previous_watermark: notification.previous_watermark,
        watermark: notification.notices.iter().rev().find_map(|n| n.watermark.clone()),
        more_events: notification.more_events,
        events: notification.notices.into_iter().map(event).collect(),
        ..about
    }
}

fn event(notice: Notice) -> PushEvent {
    let apart = |target: Option<Target>| match target {
        Some(Target::Item(id)) => (Some(id), None),
        Some(Target::Folder(id)) => (None, Some(id)),
        None => (None, None),
    };
    let id = |id: Option<Id>| id.map(|id| id.id);
    let ((item, folder), (old_item, old_folder)) = (apart(notice.target), apart(notice.old_target));
    let key = item.as_ref().or(folder.as_ref()).and_then(|id| id.change_key.clone());
    PushEvent {
        r#type: event_kind(notice.kind).map_or("Status", |kind| kind.name()),
        watermark: notice.watermark,
        time: notice.time_stamp,
        item_id: id(item),
        change_key: key,
        folder_id: id(folder),
        parent_folder_id: id(notice.parent_folder_id),
        old_item_id: id(old_item),
        old_folder_id: id(old_folder),
        old_parent_folder_id: id(notice.old_parent_folder_id),
        unread_count: notice.unread_count,
    }
}
