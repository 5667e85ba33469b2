//! Envelopes as Exchange and gromox write them on a stream, made up here.
#![allow(dead_code)]

use std::fmt::Write;

use ewsnotify::proto::{Id, Notice, NoticeKind, Notification, Target};

/// Whose way of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Exchange,
    Gromox,
}

pub const FORMS: [Form; 2] = [Form::Exchange, Form::Gromox];

pub const KINDS: [NoticeKind; 8] = [
    NoticeKind::Copied,
    NoticeKind::Created,
    NoticeKind::Deleted,
    NoticeKind::FreeBusyChanged,
    NoticeKind::Modified,
    NoticeKind::Moved,
    NoticeKind::NewMail,
    NoticeKind::Status,
];

impl Form {
    /// An envelope of a stream with what stands behind the response code.
    pub fn envelope(self, class: &str, code: &str, content: &str) -> String {
        let (head, tail) = match self {
            Form::Exchange => (
                "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\">\
                 <soap11:Header xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\">\
                 <ServerVersionInfo xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                 xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" MajorVersion=\"15\" MinorVersion=\"2\" \
                 MajorBuildNumber=\"1544\" MinorBuildNumber=\"11\" Version=\"V2017_07_11\" \
                 xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\" /></soap11:Header>\
                 <soap11:Body xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\">\
                 <m:GetStreamingEventsResponse xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                 xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
                 xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
                 xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\">",
                "</m:GetStreamingEventsResponse></soap11:Body></Envelope>",
            ),
            Form::Gromox => (
                "<SOAP:Envelope xmlns:SOAP=\"http://schemas.xmlsoap.org/soap/envelope/\" \
                 xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                 xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><SOAP:Header><t:ServerVersionInfo \
                 xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" MajorVersion=\"15\" \
                 MinorVersion=\"0\" MajorBuildNumber=\"847\" MinorBuildNumber=\"4040\" Version=\"V2017_07_11\"/>\
                 </SOAP:Header><SOAP:Body><m:GetStreamingEventsResponse \
                 xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
                 xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">",
                "</m:GetStreamingEventsResponse></SOAP:Body></SOAP:Envelope>",
            ),
        };
        format!(
            "{head}<m:ResponseMessages><m:GetStreamingEventsResponseMessage ResponseClass=\"{class}\">\
             <m:ResponseCode>{code}</m:ResponseCode>{content}</m:GetStreamingEventsResponseMessage>\
             </m:ResponseMessages>{tail}"
        )
    }

    /// An envelope with notifications.
    pub fn notifications(self, notifications: &[Notification]) -> String {
        let mut content = String::from("<m:Notifications>");
        for notification in notifications {
            self.notification(&mut content, notification);
        }
        content += "</m:Notifications>";
        if self == Form::Gromox {
            content += "<m:ErrorSubscriptionIds/><m:ConnectionStatus>OK</m:ConnectionStatus>";
        }
        self.envelope("Success", "NoError", &content)
    }

    /// What the server writes when there is nothing to tell: the connection stands, or is closed.
    pub fn status(self, status: &str) -> String {
        let parts = if self == Form::Gromox { "<m:Notifications/><m:ErrorSubscriptionIds/>" } else { "" };
        let content = format!("{parts}<m:ConnectionStatus>{status}</m:ConnectionStatus>");
        self.envelope("Success", "NoError", &content)
    }

    /// A notification, as it stands in a stream and in an answer to GetEvents.
    pub fn notification(self, out: &mut String, notification: &Notification) {
        *out += "<m:Notification>";
        text(out, "SubscriptionId", Some(&notification.subscription_id));
        text(out, "PreviousWatermark", notification.previous_watermark.as_ref());
        if self == Form::Gromox || notification.more_events {
            text(out, "MoreEvents", Some(&notification.more_events.to_string()));
        }
        for notice in &notification.notices {
            self.notice(out, notice);
        }
        *out += "</m:Notification>";
    }

    fn notice(self, out: &mut String, notice: &Notice) {
        let end = self.empty_end();
        if notice.kind == NoticeKind::Status && notice.watermark.is_none() {
            let _ = write!(out, "<t:StatusEvent{end}");
            return;
        }
        let _ = write!(out, "<t:{:?}Event>", notice.kind);
        text(out, "Watermark", notice.watermark.as_ref());
        text(out, "TimeStamp", notice.time_stamp.as_ref());
        target(out, "", notice.target.as_ref(), end);
        id(out, "ParentFolderId", notice.parent_folder_id.as_ref(), end);
        target(out, "Old", notice.old_target.as_ref(), end);
        id(out, "OldParentFolderId", notice.old_parent_folder_id.as_ref(), end);
        text(out, "UnreadCount", notice.unread_count.map(|n| n.to_string()).as_ref());
        let _ = write!(out, "</t:{:?}Event>", notice.kind);
    }

    fn empty_end(self) -> &'static str {
        match self {
            Form::Exchange => " />",
            Form::Gromox => "/>",
        }
    }

    /// An id as long as the server's.
    pub fn id(self, rng: &mut fastrand::Rng, long: bool) -> Id {
        match self {
            Form::Exchange => {
                Id { id: base64(rng, if long { 152 } else { 120 }), change_key: Some("CQAAAA==".into()) }
            }
            Form::Gromox => Id { id: base64(rng, if long { 92 } else { 64 }), change_key: None },
        }
    }

    /// An event of a kind, with what the server gives it.
    pub fn random_notice(self, rng: &mut fastrand::Rng, kind: NoticeKind) -> Notice {
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
        if kind == NoticeKind::Status {
            return notice;
        }
        let fraction =
            if self == Form::Gromox { format!(".{:09}", rng.u32(..1_000_000_000)) } else { String::new() };
        notice.time_stamp = Some(format!(
            "2026-{:02}-{:02}T10:20:{:02}{fraction}Z",
            rng.u8(1..13),
            rng.u8(1..29),
            rng.u8(..60)
        ));
        let folder = rng.u8(..4) == 0;
        let pick = |rng: &mut fastrand::Rng| match folder {
            true => Target::Folder(self.id(rng, false)),
            false => Target::Item(self.id(rng, true)),
        };
        notice.target = Some(pick(rng));
        notice.parent_folder_id = Some(self.id(rng, false));
        if matches!(kind, NoticeKind::Moved | NoticeKind::Copied) {
            notice.old_target = Some(pick(rng));
            notice.old_parent_folder_id = Some(self.id(rng, false));
        }
        if folder && kind == NoticeKind::Modified && rng.bool() {
            notice.unread_count = Some(rng.i32(..1000).max(0));
        }
        notice
    }

    /// A notification of some events of any kind.
    pub fn random_notification(self, rng: &mut fastrand::Rng) -> Notification {
        let notices = (0..rng.usize(1..5)).map(|_| {
            let kind = KINDS[rng.usize(..KINDS.len())];
            self.random_notice(rng, kind)
        });
        Notification {
            notices: notices.collect(),
            subscription_id: self.subscription_id(rng),
            previous_watermark: None,
            more_events: rng.u8(..10) == 0,
        }
    }

    pub fn subscription_id(self, rng: &mut fastrand::Rng) -> String {
        base64(rng, if self == Form::Exchange { 84 } else { 12 })
    }
}

fn text(out: &mut String, name: &str, value: Option<&String>) {
    if let Some(value) = value {
        let _ = write!(out, "<t:{name}>{value}</t:{name}>");
    }
}

fn target(out: &mut String, old: &str, target: Option<&Target>, end: &str) {
    match target {
        Some(Target::Item(item)) => id(out, &format!("{old}ItemId"), Some(item), end),
        Some(Target::Folder(folder)) => id(out, &format!("{old}FolderId"), Some(folder), end),
        None => {}
    }
}

fn id(out: &mut String, name: &str, id: Option<&Id>, end: &str) {
    let Some(id) = id else { return };
    let _ = write!(out, "<t:{name} Id=\"{}\"", id.id);
    if let Some(key) = &id.change_key {
        let _ = write!(out, " ChangeKey=\"{key}\"");
    }
    *out += end;
}

fn base64(rng: &mut fastrand::Rng, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text: String = (1..length).map(|_| LETTERS[rng.usize(..64)] as char).collect();
    text.push('=');
    text
}
