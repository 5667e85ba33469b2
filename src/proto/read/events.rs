//! Subscribe, GetStreamingEvents, GetEvents and SendNotification: subscriptions and the events in notifications.

use super::super::message::{
    ConnectionStatus, Id, Notice, NoticeKind, Notification, Streamed, Subscribed, Target,
};
use super::super::xml::{Reader, Start};
use crate::Result;

/// A part of `SubscribeResponseMessage`.
pub(super) fn subscribed(r: &mut Reader, start: Start, into: &mut Subscribed) -> Result<()> {
    match start.name.as_str() {
        "SubscriptionId" => into.subscription_id = r.text()?,
        "Watermark" => into.watermark = r.text()?,
        _ => {}
    }
    Ok(())
}

/// A part of `GetStreamingEventsResponseMessage`. All parts are read, whatever the message's class: gromox tells of events
/// in messages of errors.
pub(super) fn streamed(r: &mut Reader, start: Start, into: &mut Streamed) -> Result<()> {
    match start.name.as_str() {
        "Notifications" => r.children(|r, start| {
            if start.name == "Notification" {
                r.count_thing()?;
                into.notifications.push(notification(r)?);
            }
            Ok(())
        }),
        "ErrorSubscriptionIds" => r.children(|r, start| {
            if start.name == "SubscriptionId" {
                r.count_thing()?;
                into.error_subscription_ids.extend(r.text()?);
            }
            Ok(())
        }),
        "ConnectionStatus" => {
            into.status = Some(match r.text()?.as_deref() {
                Some("Closed") => ConnectionStatus::Closed,
                _ => ConnectionStatus::Ok,
            });
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A part of a message that carries one notification: of `GetEventsResponse` and of a push.
pub(super) fn notified(r: &mut Reader, start: Start, into: &mut Option<Notification>) -> Result<()> {
    if start.name == "Notification" {
        *into = Some(notification(r)?);
    }
    Ok(())
}

fn notification(r: &mut Reader) -> Result<Notification> {
    let mut notification = Notification::default();
    r.children(|r, start| {
        match start.name.as_str() {
            "SubscriptionId" => notification.subscription_id = r.text()?.unwrap_or_default(),
            "PreviousWatermark" => notification.previous_watermark = r.text()?,
            "MoreEvents" => notification.more_events = r.boolean()?.unwrap_or(false),
            name => {
                if let Some(kind) = NoticeKind::of_element(name) {
                    r.count_thing()?;
                    notification.notices.push(notice(r, kind)?);
                }
            }
        }
        Ok(())
    })?;
    Ok(notification)
}

fn notice(r: &mut Reader, kind: NoticeKind) -> Result<Notice> {
    let mut notice = Notice {
        kind,
        watermark: None,
        time_stamp: None,
        target: None,
        parent_folder_id: None,
        old_target: None,
        old_parent_folder_id: None,
        unread_count: None,
    };
    r.children(|r, start| {
        match start.name.as_str() {
            "Watermark" => notice.watermark = r.text()?,
            "TimeStamp" => notice.time_stamp = r.text()?,
            "ItemId" => notice.target = id(start).map(Target::Item),
            "FolderId" => notice.target = id(start).map(Target::Folder),
            "ParentFolderId" => notice.parent_folder_id = id(start),
            "OldItemId" => notice.old_target = id(start).map(Target::Item),
            "OldFolderId" => notice.old_target = id(start).map(Target::Folder),
            "OldParentFolderId" => notice.old_parent_folder_id = id(start),
            "UnreadCount" => notice.unread_count = r.parse()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(notice)
}

/// The id in an element's attributes; None where it has no `Id`.
pub(super) fn id(mut start: Start) -> Option<Id> {
    let id = start.take("Id").filter(|id| !id.is_empty())?;
    Some(Id { id, change_key: start.take("ChangeKey").filter(|key| !key.is_empty()) })
}
