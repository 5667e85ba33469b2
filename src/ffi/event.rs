//! Events and their fields.

use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::error::{Failure, guard, guard_or};
use super::handle::{self, Kind, Value};
use super::text::c_string;
use super::{EWSN_OK, ewsn_event};
use crate::{Event, EventKind, Fill, Origin};

/// `NewMail`: a message was delivered into a watched folder.
pub const EWSN_NEW_MAIL: i32 = 1;
/// `Created`: an item or folder came to be in a watched folder.
pub const EWSN_CREATED: i32 = 2;
/// `Deleted`: an item or folder is gone for good.
pub const EWSN_DELETED: i32 = 3;
/// `Modified`: an item or folder changed.
pub const EWSN_MODIFIED: i32 = 4;
/// `Moved`: an item or folder moved; its id is new, the old one is in `EWSN_F_OLD_ITEM_ID` or `EWSN_F_OLD_FOLDER_ID`.
pub const EWSN_MOVED: i32 = 5;
/// `Copied`: an item or folder was copied.
pub const EWSN_COPIED: i32 = 6;
/// `FreeBusyChanged`: the free/busy times of a calendar changed.
pub const EWSN_FREE_BUSY_CHANGED: i32 = 7;
/// `Connected`: from here on events come live.
pub const EWSN_CONNECTED: i32 = 100;
/// `Disconnected`: the link is gone; the library reconnects by itself.
pub const EWSN_DISCONNECTED: i32 = 101;
/// `Resubscribed`: the server had lost the subscription; it was made anew.
pub const EWSN_RESUBSCRIBED: i32 = 102;
/// `Gap`: something may have been missed; says since when, why, and whether it will be told.
pub const EWSN_GAP: i32 = 103;
/// `Drained`: all that catch-up found has been handed out.
pub const EWSN_DRAINED: i32 = 104;
/// `TokenNeeded`: answer with `ewsn_set_token`. Ahead of all other events, and again every five minutes until it is answered.
pub const EWSN_TOKEN_NEEDED: i32 = 105;
/// `TokenRotated`: keep this refresh token in the place of the old one, then acknowledge the event. Ahead of all other events, and
/// again every minute until it is acknowledged.
pub const EWSN_TOKEN_ROTATED: i32 = 106;
/// `StateChanged`: keep this key and value (or remove the key, where there is no value), then acknowledge the event: only with
/// `ewsn_open_with_state_json`.
pub const EWSN_STATE_CHANGED: i32 = 107;
/// `Error`: something failed that the host should know of.
pub const EWSN_ERROR: i32 = 108;
/// `Log`: a line of the library's log, where option `log` asks for it.
pub const EWSN_LOG: i32 = 109;
/// `Closed`: the last event of a watch; with watch 0, of the client. A watch that was given up (a refused sign-in, a mailbox that is
/// gone) ends so too, by a reason that is not `closed-by-host`, and the client stays open: a program that has no other watch ends then, or it
/// waits for ever.
pub const EWSN_CLOSED_EVENT: i32 = 110;

/// Text: the watch's mailbox.
pub const EWSN_F_MAILBOX: i32 = 1;
/// Text: the item's id.
pub const EWSN_F_ITEM_ID: i32 = 2;
/// Text: the change key as the event told it.
pub const EWSN_F_CHANGE_KEY: i32 = 3;
/// Text: the folder's id, where the event is about a folder.
pub const EWSN_F_FOLDER_ID: i32 = 4;
/// Text: the folder that the item or folder is in.
pub const EWSN_F_PARENT_FOLDER_ID: i32 = 5;
/// Text: what the item's id was (`Moved`), or its original's (`Copied`).
pub const EWSN_F_OLD_ITEM_ID: i32 = 6;
/// Text: what the folder's id was.
pub const EWSN_F_OLD_FOLDER_ID: i32 = 7;
/// Text: the folder it was in.
pub const EWSN_F_OLD_PARENT_FOLDER_ID: i32 = 8;
/// Text: `live` or `catch-up`.
pub const EWSN_F_ORIGIN: i32 = 9;
/// Text: the subject. This and the following with option `fetch`.
pub const EWSN_F_SUBJECT: i32 = 10;
/// Text: the sender, `Name <address>`.
pub const EWSN_F_FROM: i32 = 11;
/// Text: the Internet message id.
pub const EWSN_F_MESSAGE_ID: i32 = 12;
/// Text: the file with the whole message. It is the host's to remove.
pub const EWSN_F_MIME_PATH: i32 = 13;
/// Text: what happened, for people.
pub const EWSN_F_MESSAGE: i32 = 14;
/// Text: the server's own response code.
pub const EWSN_F_SERVER_CODE: i32 = 15;
/// Text: of `EWSN_STATE_CHANGED`, the key.
pub const EWSN_F_KEY: i32 = 16;
/// Text: of `EWSN_STATE_CHANGED`, the value; none where the key is to be removed.
pub const EWSN_F_VALUE: i32 = 17;
/// Text: the recipients, a JSON array of texts.
pub const EWSN_F_TO: i32 = 18;
/// Text: when it was received, RFC 3339.
pub const EWSN_F_RECEIVED: i32 = 19;
/// Text: the attachments, a JSON array of objects.
pub const EWSN_F_ATTACHMENTS: i32 = 20;
/// Text: why, of lifecycle events.
pub const EWSN_F_REASON: i32 = 21;
/// Text: of a gap, when the last thing came that proves that nothing was missed, RFC 3339.
pub const EWSN_F_SINCE: i32 = 22;
/// Text: of a gap, `pending`, `partial` or `none`.
pub const EWSN_F_FILL: i32 = 23;
/// Text: what became of the content that `fetch` asked for.
pub const EWSN_F_CONTENT: i32 = 24;
/// Text: of a token, whose it is.
pub const EWSN_F_ACCOUNT: i32 = 25;
/// Text: of a token that is needed, whom it is for, as `https://mail.example.com`.
pub const EWSN_F_RESOURCE: i32 = 26;
/// Text: of a token that is needed, the claims that the server wants to be in it: JSON, to be sent to the token endpoint as its parameter
/// `claims`.
pub const EWSN_F_CLAIMS: i32 = 27;
/// Text: of `EWSN_TOKEN_ROTATED`, the new refresh token.
pub const EWSN_F_REFRESH_TOKEN: i32 = 29;
/// Text: of a line of the log, `warn`, `info` or `debug`.
pub const EWSN_F_LEVEL: i32 = 28;
/// Number: the folder's count of unread items.
pub const EWSN_F_UNREAD_COUNT: i32 = 50;
/// Number: the HTTP status.
pub const EWSN_F_HTTP_STATUS: i32 = 52;
/// Number: when the library tries again, in milliseconds.
pub const EWSN_F_RETRY_MS: i32 = 53;
/// Number: which attempt this is; 1 for the first.
pub const EWSN_F_ATTEMPT: i32 = 54;
/// Number: the size in bytes, as the server counts it.
pub const EWSN_F_SIZE: i32 = 56;
/// Number: 1 for read, 0 for unread.
pub const EWSN_F_IS_READ: i32 = 57;

/// What `ewsn_event_int` returns where there is nothing.
pub const EWSN_NONE: i32 = -1;

pub(super) struct Handle {
    event: Event,
    /// What the host has pointers into.
    lent: Mutex<Vec<(i32, Option<CString>)>>,
}

/// The JSON form, among the fields.
const JSON: i32 = 0;

impl Handle {
    pub fn new(event: Event) -> Handle {
        Handle { event, lent: Mutex::default() }
    }

    fn lend(&self, field: i32, text: impl FnOnce(&Event) -> Option<String>) -> *const c_char {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = lent.iter().position(|(lent, _)| *lent == field).unwrap_or_else(|| {
            lent.push((field, text(&self.event).map(|text| c_string(&text))));
            lent.len() - 1
        });
        // The text stays where it is until the handle is freed, whatever else is lent.
        lent[at].1.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
    }
}

fn find(e: *const ewsn_event) -> Result<Arc<Handle>, Failure> {
    match handle::find(e.cast(), Kind::Event)? {
        Value::Event(found) => Ok(found),
        _ => Err(Failure::invalid("not an event")),
    }
}

pub(super) fn kind_number(kind: EventKind) -> i32 {
    match kind {
        EventKind::NewMail => EWSN_NEW_MAIL,
        EventKind::Created => EWSN_CREATED,
        EventKind::Deleted => EWSN_DELETED,
        EventKind::Modified => EWSN_MODIFIED,
        EventKind::Moved => EWSN_MOVED,
        EventKind::Copied => EWSN_COPIED,
        EventKind::FreeBusyChanged => EWSN_FREE_BUSY_CHANGED,
        EventKind::Connected => EWSN_CONNECTED,
        EventKind::Disconnected => EWSN_DISCONNECTED,
        EventKind::Resubscribed => EWSN_RESUBSCRIBED,
        EventKind::Gap => EWSN_GAP,
        EventKind::Drained => EWSN_DRAINED,
        EventKind::TokenNeeded => EWSN_TOKEN_NEEDED,
        EventKind::TokenRotated => EWSN_TOKEN_ROTATED,
        EventKind::StateChanged => EWSN_STATE_CHANGED,
        EventKind::Error => EWSN_ERROR,
        EventKind::Log => EWSN_LOG,
        EventKind::Closed => EWSN_CLOSED_EVENT,
    }
}

/// What kind of event it is: `EWSN_NEW_MAIL` and the like. 0 for a handle that is none.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_type(e: *const ewsn_event) -> i32 {
    guard_or(0, || Ok(kind_number(find(e)?.event.kind)))
}

/// The watch that it belongs to; 0 for the client as a whole.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_watch(e: *const ewsn_event) -> u64 {
    guard_or(0, || Ok(find(e)?.event.watch))
}

/// Its number, which rises with every event of a client and, with a state directory, over restarts: for `ewsn_ack`.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_seq(e: *const ewsn_event) -> u64 {
    guard_or(0, || Ok(find(e)?.event.seq))
}

/// When it happened, in milliseconds since 1970, by the server's clock where it told us.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_time_ms(e: *const ewsn_event) -> i64 {
    guard_or(0, || {
        let time = find(e)?.event.time;
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Ok(since.map_or_else(|e| -(e.duration().as_millis() as i64), |d| d.as_millis() as i64))
    })
}

/// A field that is a text (`EWSN_F_…`); NULL where the event has none. Belongs to the event.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_str(e: *const ewsn_event, field: i32) -> *const c_char {
    guard_or(std::ptr::null(), || {
        let found = find(e)?;
        let read = text_of(field).ok_or_else(|| {
            Failure::invalid(format!("there is no text field {field}: EWSN_F_MAILBOX and the like name one"))
        })?;
        Ok(found.lend(field, read))
    })
}

fn text_of(field: i32) -> Option<fn(&Event) -> Option<String>> {
    Some(match field {
        EWSN_F_MAILBOX => |e| Some(e.mailbox.to_string()).filter(|m| !m.is_empty()),
        EWSN_F_ITEM_ID => |e| e.item_id.clone(),
        EWSN_F_CHANGE_KEY => |e| e.change_key.clone(),
        EWSN_F_FOLDER_ID => |e| e.folder_id.clone(),
        EWSN_F_PARENT_FOLDER_ID => |e| e.parent_folder_id.clone(),
        EWSN_F_OLD_ITEM_ID => |e| e.old_item_id.clone(),
        EWSN_F_OLD_FOLDER_ID => |e| e.old_folder_id.clone(),
        EWSN_F_OLD_PARENT_FOLDER_ID => |e| e.old_parent_folder_id.clone(),
        EWSN_F_ORIGIN => |e| name::<Origin>(e.origin.as_ref()),
        EWSN_F_SUBJECT => |e| e.item.as_ref()?.subject.clone(),
        EWSN_F_FROM => |e| e.item.as_ref()?.from.clone(),
        EWSN_F_MESSAGE_ID => |e| e.item.as_ref()?.message_id.clone(),
        EWSN_F_MIME_PATH => |e| e.item.as_ref()?.mime_path.clone(),
        EWSN_F_MESSAGE => |e| e.detail.as_ref()?.message.clone(),
        EWSN_F_SERVER_CODE => |e| e.detail.as_ref()?.code.clone(),
        EWSN_F_KEY => |e| e.detail.as_ref()?.key.clone(),
        EWSN_F_VALUE => |e| e.detail.as_ref()?.value.clone(),
        EWSN_F_TO => |e| array(&e.item.as_ref()?.to),
        EWSN_F_RECEIVED => |e| e.item.as_ref()?.received.clone(),
        EWSN_F_ATTACHMENTS => |e| array(&e.item.as_ref()?.attachments),
        EWSN_F_REASON => |e| name(e.detail.as_ref()?.reason.as_ref()),
        EWSN_F_SINCE => |e| Some(humantime::format_rfc3339(e.detail.as_ref()?.since?).to_string()),
        EWSN_F_FILL => |e| name::<Fill>(e.detail.as_ref()?.fill.as_ref()),
        EWSN_F_ACCOUNT => |e| e.detail.as_ref()?.account.clone(),
        EWSN_F_RESOURCE => |e| e.detail.as_ref()?.resource.clone(),
        EWSN_F_CLAIMS => |e| e.detail.as_ref()?.claims.clone(),
        EWSN_F_REFRESH_TOKEN => |e| Some(e.detail.as_ref()?.refresh_token.as_ref()?.expose().to_owned()),
        EWSN_F_LEVEL => |e| name(e.detail.as_ref()?.level.as_ref()),
        EWSN_F_CONTENT => |e| name(e.item.as_ref()?.content.as_ref()),
        _ => return None,
    })
}

/// The word that stands for a value in JSON.
fn name<T: serde::Serialize>(value: Option<&T>) -> Option<String> {
    match serde_json::to_value(value?) {
        Ok(serde_json::Value::String(name)) => Some(name),
        _ => None,
    }
}

fn array<T: serde::Serialize>(values: &[T]) -> Option<String> {
    if values.is_empty() { None } else { serde_json::to_string(values).ok() }
}

/// A field that is a number (`EWSN_F_…`); `EWSN_NONE` where the event has none.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_int(e: *const ewsn_event, field: i32) -> i64 {
    guard_or(EWSN_NONE.into(), || {
        let found = find(e)?;
        let (event, item, detail) = (&found.event, found.event.item.as_ref(), found.event.detail.as_ref());
        let number = match field {
            EWSN_F_UNREAD_COUNT => event.unread_count.map(i64::from),
            EWSN_F_HTTP_STATUS => detail.and_then(|d| d.http_status).map(i64::from),
            EWSN_F_RETRY_MS => detail.and_then(|d| d.retry_ms).map(|ms| ms.min(i64::MAX as u64) as i64),
            EWSN_F_ATTEMPT => event.kind.is_mailbox().then(|| event.attempt.unwrap_or(1).into()),
            EWSN_F_SIZE => item.and_then(|i| i.size).map(|size| size.min(i64::MAX as u64) as i64),
            EWSN_F_IS_READ => event.is_read.or_else(|| item.and_then(|i| i.is_read)).map(i64::from),
            _ => {
                let text = format!("there is no number field {field}: EWSN_F_SIZE and the like name one");
                return Err(Failure::invalid(text));
            }
        };
        Ok(number.unwrap_or(EWSN_NONE.into()))
    })
}

/// The event as one line of JSON. Belongs to the event.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_json(e: *const ewsn_event) -> *const c_char {
    guard_or(std::ptr::null(), || Ok(find(e)?.lend(JSON, |event| Some(event.to_json()))))
}

/// Another handle of the same event, to be kept where the first goes: after a callback has returned. To be freed with
/// `ewsn_event_free`.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_dup(e: *const ewsn_event) -> *mut ewsn_event {
    guard_or(std::ptr::null_mut(), || handle::insert_event(Handle::new(find(e)?.event.clone())))
}

/// Frees an event and the texts that were read from it. It acknowledges nothing. NULL, and one that was freed already, do no
/// harm.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_event_free(e: *mut ewsn_event) {
    guard(|| {
        drop(handle::remove(e.cast(), Kind::Event));
        Ok(EWSN_OK)
    });
}
