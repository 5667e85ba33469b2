//! What an envelope says, as lines of JSON: events in the form that the library tells them in, with what only the wire has
//! (subscription, watermarks, `Status`), and a line for everything else.

use ewsnotify::proto::{
    Body, ConnectionStatus, Envelope, Fault, Folder, FolderChange, FoundAttachment, HierarchyPage, Id, Item,
    Mailbox, Notice, NoticeKind, Notification, Response, ResponseClass, Streamed, SyncChange, SyncPage,
    Target,
};
use serde::Serialize;

/// A line. Absent fields are left out.
#[derive(Debug, Default, Serialize)]
pub struct Line {
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_watermark: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more_events: Option<bool>,
    /// As the server wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_folder_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_item_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_folder_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_parent_folder_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread_count: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_read: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    /// Of an error on a stream: whose subscriptions it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<String>,
    /// Of a stream: whether it goes on (`ok`) or the server ends it (`closed`).
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// What kind of item, or which element that is not read further.
    #[serde(skip_serializing_if = "Option::is_none")]
    element: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    to: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_draft: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<ewsnotify::Attachment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder_class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    includes_last: Option<bool>,
}

/// The lines of an envelope, at least one.
pub fn lines(envelope: Envelope) -> Vec<Line> {
    let mut lines = Vec::new();
    let out = &mut lines;
    match envelope.body {
        Body::Fault(fault) => out.push(self::fault(fault)),
        Body::Subscribe(responses) => each(responses, "Subscribe", out, |subscribed, line, _| {
            line.subscription = subscribed.subscription_id;
            line.watermark = subscribed.watermark;
        }),
        Body::Streaming(responses) => each(responses, "GetStreamingEvents", out, streamed),
        Body::Events(responses) => each(responses, "GetEvents", out, notified),
        Body::Push(responses) => each(responses, "SendNotification", out, notified),
        Body::Unsubscribe(responses) => each(responses, "Unsubscribe", out, |(), _, _| {}),
        Body::Folders(responses) => each(responses, "GetFolder", out, |folders, _, out| {
            out.extend(folders.into_iter().map(|f| folder("Folder", f)));
        }),
        Body::FoundFolders(responses) => each(responses, "FindFolder", out, |page, line, out| {
            line.includes_last = page.as_ref().map(|page| page.includes_last);
            let folders = page.map(|page| page.folders).unwrap_or_default();
            out.extend(folders.into_iter().map(|f| folder("Folder", f)));
        }),
        Body::Items(responses) => each(responses, "GetItem", out, |items, _, out| {
            out.extend(items.into_iter().map(|i| item("Item", i)));
        }),
        Body::Attachments(responses) => each(responses, "GetAttachment", out, |found, _, out| {
            let one = |a: FoundAttachment| Line {
                element: Some(a.element),
                size: a.base64.map(|text| text.len() as u64),
                ..line("Attachment")
            };
            out.extend(found.into_iter().map(one));
        }),
        Body::Converted(responses) => each(responses, "ConvertId", out, |id, line, _| line.item_id = id),
        Body::Sync(responses) => each(responses, "SyncFolderItems", out, sync),
        Body::Hierarchy(responses) => each(responses, "SyncFolderHierarchy", out, hierarchy),
        Body::Update(responses) => each(responses, "UpdateItem", out, changed),
        Body::Move(responses) => each(responses, "MoveItem", out, changed),
        Body::Delete(responses) => each(responses, "DeleteItem", out, |(), _, _| {}),
        Body::Other(element) => out.push(Line { element: Some(element), ..line("Other") }),
    }
    lines
}

/// A line for what a response message says of itself, then one for each thing that it carries. The first is left out where
/// it says only that all is well and something follows.
fn each<T>(
    responses: Vec<Response<T>>,
    operation: &str,
    out: &mut Vec<Line>,
    mut carry: impl FnMut(T, &mut Line, &mut Vec<Line>),
) {
    for response in responses {
        let name = if response.class == ResponseClass::Error { "Error" } else { operation };
        let mut about = line(name);
        let bare = response.class == ResponseClass::Success && response.code.as_str() == "NoError";
        if !bare {
            about.code = Some(response.code.as_str().to_owned());
        }
        about.message = response.text;
        about.retry_ms = response.back_off.map(|d| d.as_millis() as u64);
        let mut carried = Vec::new();
        carry(response.body, &mut about, &mut carried);
        let says = !bare
            || about.subscription.is_some()
            || about.status.is_some()
            || about.sync_state.is_some()
            || about.item_id.is_some();
        if says || carried.is_empty() {
            out.push(about);
        }
        out.append(&mut carried);
    }
    if out.is_empty() {
        out.push(line(operation));
    }
}

fn line(name: &str) -> Line {
    Line { r#type: name.to_owned(), ..Line::default() }
}

fn fault(fault: Fault) -> Line {
    Line {
        code: Some(fault.code.as_str().to_owned()),
        message: fault.text,
        retry_ms: fault.back_off.map(|d| d.as_millis() as u64),
        ..line("Fault")
    }
}

fn streamed(streamed: Streamed, about: &mut Line, out: &mut Vec<Line>) {
    about.status = streamed.status.map(|status| match status {
        ConnectionStatus::Ok => "ok",
        ConnectionStatus::Closed => "closed",
    });
    about.subscriptions = streamed.error_subscription_ids;
    for notification in streamed.notifications {
        notified(Some(notification), about, out);
    }
}

fn notified(notification: Option<Notification>, _about: &mut Line, out: &mut Vec<Line>) {
    let Some(notification) = notification else { return };
    let about = |line: Line| Line {
        subscription: Some(notification.subscription_id.clone()),
        previous_watermark: notification.previous_watermark.clone(),
        more_events: notification.more_events.then_some(true),
        ..line
    };
    if notification.notices.is_empty() {
        out.push(about(line("Notification")));
    }
    out.extend(notification.notices.iter().map(|notice| about(event(notice))));
}

fn event(notice: &Notice) -> Line {
    let mut line = line(match notice.kind {
        NoticeKind::Copied => "Copied",
        NoticeKind::Created => "Created",
        NoticeKind::Deleted => "Deleted",
        NoticeKind::FreeBusyChanged => "FreeBusyChanged",
        NoticeKind::Modified => "Modified",
        NoticeKind::Moved => "Moved",
        NoticeKind::NewMail => "NewMail",
        NoticeKind::Status => "Status",
    });
    line.watermark.clone_from(&notice.watermark);
    line.time.clone_from(&notice.time_stamp);
    line.unread_count = notice.unread_count;
    line.parent_folder_id = notice.parent_folder_id.as_ref().map(|id| id.id.clone());
    line.old_parent_folder_id = notice.old_parent_folder_id.as_ref().map(|id| id.id.clone());
    match &notice.target {
        Some(Target::Item(id)) => (line.item_id, line.change_key) = both(id),
        Some(Target::Folder(id)) => (line.folder_id, line.change_key) = both(id),
        None => {}
    }
    match &notice.old_target {
        Some(Target::Item(id)) => line.old_item_id = Some(id.id.clone()),
        Some(Target::Folder(id)) => line.old_folder_id = Some(id.id.clone()),
        None => {}
    }
    line
}

fn both(id: &Id) -> (Option<String>, Option<String>) {
    (Some(id.id.clone()), id.change_key.clone())
}

fn changed(id: Option<Id>, about: &mut Line, _: &mut Vec<Line>) {
    (about.item_id, about.change_key) = id.map_or((None, None), |id| (Some(id.id), id.change_key));
}

fn folder(name: &str, folder: Folder) -> Line {
    Line {
        element: Some(folder.element),
        folder_id: Some(folder.id.id),
        change_key: folder.id.change_key,
        parent_folder_id: folder.parent_id.map(|id| id.id),
        display_name: folder.display_name,
        folder_class: folder.folder_class,
        total_count: folder.total_count,
        unread_count: folder.unread_count.map(|n| i32::try_from(n).unwrap_or(i32::MAX)),
        committed: folder.stamp.committed,
        deleted_count: folder.stamp.deleted,
        ..line(name)
    }
}

fn item(name: &str, item: Item) -> Line {
    Line {
        element: Some(item.element),
        item_id: Some(item.id.id),
        change_key: item.id.change_key,
        parent_folder_id: item.parent_folder_id.map(|id| id.id),
        subject: item.subject,
        from: item.from.map(address),
        to: item.to.into_iter().map(address).collect(),
        received: item.received,
        created: item.created,
        message_id: item.message_id,
        size: item.size,
        is_read: item.is_read,
        is_draft: item.is_draft,
        attachments: item.attachments,
        mime_base64: item.mime_base64,
        ..line(name)
    }
}

fn address(mailbox: Mailbox) -> String {
    match (mailbox.name, mailbox.address) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default(),
    }
}

fn sync(page: SyncPage, about: &mut Line, out: &mut Vec<Line>) {
    about.sync_state = page.sync_state;
    about.includes_last = Some(page.includes_last);
    out.extend(page.changes.into_iter().map(|change| match change {
        SyncChange::Create(i) => item("Create", i),
        SyncChange::Update(i) => item("Update", i),
        SyncChange::Delete(id) => Line { item_id: Some(id.id), change_key: id.change_key, ..line("Delete") },
        SyncChange::ReadFlagChange { id, is_read } => Line {
            item_id: Some(id.id),
            change_key: id.change_key,
            is_read: Some(is_read),
            ..line("ReadFlagChange")
        },
    }));
}

fn hierarchy(page: HierarchyPage, about: &mut Line, out: &mut Vec<Line>) {
    about.sync_state = page.sync_state;
    about.includes_last = Some(page.includes_last);
    out.extend(page.changes.into_iter().map(|change| match change {
        FolderChange::Create(f) => folder("Create", f),
        FolderChange::Update(f) => folder("Update", f),
        FolderChange::Delete(id) => {
            Line { folder_id: Some(id.id), change_key: id.change_key, ..line("Delete") }
        }
    }));
}
