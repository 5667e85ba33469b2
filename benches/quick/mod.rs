//! The same job with quick-xml: an envelope of a stream into the same owned values, namespaces resolved.

use std::borrow::Cow;

use ewsnotify::proto::{
    ConnectionStatus, Id, Notice, NoticeKind, Notification, Response, ResponseClass, ResponseCode,
    ServerVersion, Streamed, Target,
};
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;

pub type Message = Response<Streamed>;

const OURS: [&str; 3] = [
    "http://schemas.xmlsoap.org/soap/envelope/",
    "http://schemas.microsoft.com/exchange/services/2006/messages",
    "http://schemas.microsoft.com/exchange/services/2006/types",
];

/// The response messages of an envelope.
pub fn read(xml: &[u8]) -> Option<Vec<Message>> {
    let mut reader = NsReader::from_str(std::str::from_utf8(xml).ok()?);
    let mut messages = Vec::new();
    let mut version = ServerVersion::default();
    let mut text = String::new();
    loop {
        let (namespace, event) = reader.read_resolved_event().ok()?;
        let ours = matches!(namespace, ResolveResult::Bound(ns) if OURS.contains(&ns.0));
        match event {
            Event::Start(start) => {
                text.clear();
                if ours {
                    open(&mut messages, &mut version, &start)?;
                }
            }
            Event::Empty(start) if ours => {
                open(&mut messages, &mut version, &start)?;
            }
            Event::Text(piece) => text.push_str(&piece.xml10_content()),
            Event::End(end) if ours => close(&mut messages, end.local_name().as_ref(), &text)?,
            Event::Eof => {
                std::hint::black_box(version);
                return Some(messages);
            }
            _ => {}
        }
    }
}

fn open(messages: &mut Vec<Message>, version: &mut ServerVersion, start: &BytesStart) -> Option<()> {
    let name = start.local_name();
    let name: &str = name.as_ref();
    if name == "GetStreamingEventsResponseMessage" {
        messages.push(Response {
            class: match attribute(start, "ResponseClass")?.as_str() {
                "Success" => ResponseClass::Success,
                "Warning" => ResponseClass::Warning,
                _ => ResponseClass::Error,
            },
            code: ResponseCode::NO_ERROR,
            text: None,
            back_off: None,
            body: Streamed::default(),
        });
        return Some(());
    }
    if name == "ServerVersionInfo" {
        let number = |name: &str| attribute(start, name).and_then(|v| v.parse().ok());
        version.major = number("MajorVersion");
        version.minor = number("MinorVersion");
        version.major_build = number("MajorBuildNumber");
        version.minor_build = number("MinorBuildNumber");
        version.version = attribute(start, "Version");
        return Some(());
    }
    let Some(message) = messages.last_mut() else { return Some(()) };
    if name == "Notification" {
        message.body.notifications.push(Notification::default());
        return Some(());
    }
    let Some(notification) = message.body.notifications.last_mut() else { return Some(()) };
    let kind = match name {
        "CopiedEvent" => NoticeKind::Copied,
        "CreatedEvent" => NoticeKind::Created,
        "DeletedEvent" => NoticeKind::Deleted,
        "FreeBusyChangedEvent" => NoticeKind::FreeBusyChanged,
        "ModifiedEvent" => NoticeKind::Modified,
        "MovedEvent" => NoticeKind::Moved,
        "NewMailEvent" => NoticeKind::NewMail,
        "StatusEvent" => NoticeKind::Status,
        _ => {
            let Some(notice) = notification.notices.last_mut() else { return Some(()) };
            match name {
                "ItemId" => notice.target = Some(Target::Item(id(start)?)),
                "FolderId" => notice.target = Some(Target::Folder(id(start)?)),
                "ParentFolderId" => notice.parent_folder_id = Some(id(start)?),
                "OldItemId" => notice.old_target = Some(Target::Item(id(start)?)),
                "OldFolderId" => notice.old_target = Some(Target::Folder(id(start)?)),
                "OldParentFolderId" => notice.old_parent_folder_id = Some(id(start)?),
                _ => {}
            }
            return Some(());
        }
    };
    notification.notices.push(Notice {
        kind,
        watermark: None,
        time_stamp: None,
        target: None,
        parent_folder_id: None,
        old_target: None,
        old_parent_folder_id: None,
        unread_count: None,
    });
    Some(())
}

fn close(messages: &mut [Message], name: &str, text: &str) -> Option<()> {
    let Some(message) = messages.last_mut() else { return Some(()) };
    match name {
        "ResponseCode" if text != "NoError" => message.code = ResponseCode(Cow::Owned(text.to_owned())),
        "MessageText" => message.text = Some(text.to_owned()),
        "ConnectionStatus" => {
            message.body.status =
                Some(if text == "Closed" { ConnectionStatus::Closed } else { ConnectionStatus::Ok });
        }
        _ => {}
    }
    let Some(notification) = message.body.notifications.last_mut() else { return Some(()) };
    match name {
        "SubscriptionId" => notification.subscription_id = text.to_owned(),
        "PreviousWatermark" => notification.previous_watermark = Some(text.to_owned()),
        "MoreEvents" => notification.more_events = text == "true",
        _ => {
            let Some(notice) = notification.notices.last_mut() else { return Some(()) };
            match name {
                "Watermark" => notice.watermark = Some(text.to_owned()),
                "TimeStamp" => notice.time_stamp = Some(text.to_owned()),
                "UnreadCount" => notice.unread_count = text.parse().ok(),
                _ => {}
            }
        }
    }
    Some(())
}

fn id(start: &BytesStart) -> Option<Id> {
    let mut id = Id::default();
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.ok()?;
        let value = attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0).ok()?.into_owned();
        match attribute.key.local_name().as_ref() {
            "Id" => id.id = value,
            "ChangeKey" => id.change_key = Some(value),
            _ => {}
        }
    }
    Some(id)
}

fn attribute(start: &BytesStart, name: &str) -> Option<String> {
    let found = start
        .attributes()
        .with_checks(false)
        .flatten()
        .find(|a| AsRef::<str>::as_ref(&a.key.local_name()) == name)?;
    Some(found.normalized_value(quick_xml::XmlVersion::Explicit1_0).ok()?.into_owned())
}
