//! Writes requests: every one valid against the schema of EWS, elements in its order.

use super::message::{DeleteType, FolderRef, Header, Id, NoticeKind, Request, RequestVersion, Scope};
use super::xml::Writer;
use crate::{Error, ErrorKind, Result};

/// What a summary of an item is made of.
const SUMMARY: [&str; 12] = [
    "item:ItemClass",
    "item:Subject",
    "item:DateTimeReceived",
    "item:DateTimeCreated",
    "item:Size",
    "item:IsDraft",
    "item:ParentFolderId",
    "item:Attachments",
    "message:From",
    "message:ToRecipients",
    "message:InternetMessageId",
    "message:IsRead",
];

/// What sync tells of an item: enough to know what kind of news it is, and since when.
const CHANGED_ITEM: [&str; 5] =
    ["item:ItemClass", "item:DateTimeReceived", "item:DateTimeCreated", "item:IsDraft", "message:IsRead"];

/// What sync tells of a folder.
const CHANGED_FOLDER: [&str; 3] = ["folder:ParentFolderId", "folder:FolderClass", "folder:DisplayName"];

/// The extended properties that a folder's stamp is made of, by tag, with their types.
const STAMP: [(&str, &str); 2] = [(COMMITTED, "SystemTime"), (DELETED, "Integer")];
/// PR_LOCAL_COMMIT_TIME_MAX.
pub(super) const COMMITTED: &str = "0x670A";
/// PR_DELETED_COUNT_TOTAL.
pub(super) const DELETED: &str = "0x670B";
/// PR_REPLICA_LIST.
pub(super) const REPLICAS: &str = "0x6698";

/// What stands for the watermark that a server never gave: the schema demands one that is not empty. gromox, which gives
/// none, does not look at it.
const NO_WATERMARK: &str = "AAAAAA==";

/// Writes a request as a SOAP envelope in UTF-8. A value that EWS or XML would refuse is [`ErrorKind::Invalid`].
///
/// ```
/// use ewsnotify::proto::{Header, Request, write_request};
/// let request = Request::Unsubscribe { subscription_id: "JQBz&".into() };
/// let xml = String::from_utf8(write_request(&request, &Header::default())?)?;
/// assert!(xml.contains("<m:Unsubscribe><m:SubscriptionId>JQBz&amp;</m:SubscriptionId></m:Unsubscribe>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_request(request: &Request, header: &Header) -> Result<Vec<u8>> {
    Writer::document("soap:Envelope", |w| {
        w.element("soap:Header", |w| write_header(w, header))?;
        w.element("soap:Body", |w| write_body(w, request, header.version))
    })
}

/// The value of the `SOAPAction` header of a request, without quotes.
pub fn soap_action(request: &Request) -> &'static str {
    macro_rules! action {
        ($operation:literal) => {
            concat!("http://schemas.microsoft.com/exchange/services/2006/messages/", $operation)
        };
    }
    match request {
        Request::SubscribeStreaming { .. }
        | Request::SubscribePull { .. }
        | Request::SubscribePush { .. } => {
            action!("Subscribe")
        }
        Request::GetStreamingEvents { .. } => action!("GetStreamingEvents"),
        Request::GetEvents { .. } => action!("GetEvents"),
        Request::Unsubscribe { .. } => action!("Unsubscribe"),
        Request::GetFolder { .. } | Request::GetFolderStamps { .. } | Request::GetFolderReplica { .. } => {
            action!("GetFolder")
        }
        Request::FindFolder { .. } => action!("FindFolder"),
        Request::GetItem { .. } => action!("GetItem"),
        Request::ConvertId { .. } => action!("ConvertId"),
        Request::GetAttachment { .. } => action!("GetAttachment"),
        Request::SyncFolderItems { .. } => action!("SyncFolderItems"),
        Request::SyncFolderHierarchy { .. } => action!("SyncFolderHierarchy"),
        Request::MarkRead { .. } => action!("UpdateItem"),
        Request::MoveItem { .. } => action!("MoveItem"),
        Request::DeleteItem { .. } => action!("DeleteItem"),
    }
}

impl Request {
    /// The operation that it asks for, by its name in the schema.
    ///
    /// ```
    /// use ewsnotify::proto::Request;
    /// assert_eq!(Request::MarkRead { items: vec![] }.operation(), "UpdateItem");
    /// ```
    pub fn operation(&self) -> &'static str {
        soap_action(self).rsplit('/').next().unwrap_or_default()
    }
}

fn write_header(w: &mut Writer, header: &Header) -> Result<()> {
    w.empty("t:RequestServerVersion", &[("Version", header.version.name())])?;
    // The other one is of 2010.
    let address_of = match header.version {
        RequestVersion::Exchange2007Sp1 => "t:PrimarySmtpAddress",
        _ => "t:SmtpAddress",
    };
    match &header.impersonate {
        None => Ok(()),
        Some(address) => w.element("t:ExchangeImpersonation", |w| {
            w.element("t:ConnectingSID", |w| {
                w.text(address_of, non_empty(address, "the address to impersonate")?)
            })
        }),
    }
}

fn write_body(w: &mut Writer, request: &Request, version: RequestVersion) -> Result<()> {
    match request {
        Request::SubscribeStreaming { scope, events } => w.element("m:Subscribe", |w| {
            if version < RequestVersion::Exchange2010Sp1 {
                return Err(too_old("streaming", version));
            }
            write_scope(w, "m:StreamingSubscriptionRequest", scope, version, |w| {
                write_event_types(w, events, version)
            })
        }),
        Request::SubscribePull { scope, events, timeout_minutes, watermark } => {
            w.element("m:Subscribe", |w| {
                write_scope(w, "m:PullSubscriptionRequest", scope, version, |w| {
                    write_event_types(w, events, version)?;
                    if let Some(watermark) = watermark {
                        w.text("t:Watermark", non_empty(watermark, "the watermark")?)?;
                    }
                    w.text(
                        "t:Timeout",
                        &within(*timeout_minutes, 1, 1440, "the subscription's time-out in minutes")?,
                    )
                })
            })
        }
        Request::SubscribePush { scope, events, watermark, status_minutes, url } => {
            w.element("m:Subscribe", |w| {
                write_scope(w, "m:PushSubscriptionRequest", scope, version, |w| {
                    write_event_types(w, events, version)?;
                    if let Some(watermark) = watermark {
                        w.text("t:Watermark", non_empty(watermark, "the watermark")?)?;
                    }
                    let minutes = within(*status_minutes, 1, 1440, "the minutes between two signs of life")?;
                    w.text("t:StatusFrequency", &minutes)?;
                    w.text("t:URL", push_url(url)?)
                })
            })
        }
        Request::GetStreamingEvents { subscription_ids, minutes } => w.element("m:GetStreamingEvents", |w| {
            within(subscription_ids.len(), 1, 200, "the number of subscriptions of one stream")?;
            w.element("m:SubscriptionIds", |w| {
                subscription_ids
                    .iter()
                    .try_for_each(|id| w.text("t:SubscriptionId", non_empty(id, "a subscription id")?))
            })?;
            w.text("m:ConnectionTimeout", &within(*minutes, 1, 30, "the connection's minutes")?)
        }),
        Request::GetEvents { subscription_id, watermark } => w.element("m:GetEvents", |w| {
            w.text("m:SubscriptionId", non_empty(subscription_id, "a subscription id")?)?;
            w.text("m:Watermark", watermark.as_deref().unwrap_or(NO_WATERMARK))
        }),
        Request::Unsubscribe { subscription_id } => w.element("m:Unsubscribe", |w| {
            w.text("m:SubscriptionId", non_empty(subscription_id, "a subscription id")?)
        }),
        Request::GetFolder { folders } => w.element("m:GetFolder", |w| {
            w.element("m:FolderShape", |w| w.text("t:BaseShape", "Default"))?;
            write_folders(w, "m:FolderIds", folders)
        }),
        Request::GetFolderStamps { folders } => write_get_folder(w, &STAMP, folders),
        Request::GetFolderReplica { folder } => {
            write_get_folder(w, &[(REPLICAS, "Binary")], std::slice::from_ref(folder))
        }
        Request::FindFolder { parent, offset, most } => {
            w.element_with("m:FindFolder", &[("Traversal", "Shallow")], |w| {
                w.element("m:FolderShape", |w| {
                    w.text("t:BaseShape", "IdOnly")?;
                    write_properties(w, &["folder:DisplayName"])
                })?;
                let most = within(*most, 1, u32::MAX, "the number of folders to return")?;
                let view = [
                    ("MaxEntriesReturned", most.as_str()),
                    ("Offset", &offset.to_string()),
                    ("BasePoint", "Beginning"),
                ];
                w.empty("m:IndexedPageFolderView", &view)?;
                w.element("m:ParentFolderIds", |w| write_folder(w, parent))
            })
        }
        Request::GetItem { items, mime } => w.element("m:GetItem", |w| {
            w.element("m:ItemShape", |w| {
                w.text("t:BaseShape", "IdOnly")?;
                if *mime {
                    w.text("t:IncludeMimeContent", "true")?;
                }
                write_properties(w, &SUMMARY)
            })?;
            within(items.len(), 1, usize::MAX, "the number of items to get")?;
            w.element("m:ItemIds", |w| items.iter().try_for_each(|id| write_id(w, "t:ItemId", id)))
        }),
        Request::ConvertId { form, id, mailbox } => {
            w.element_with("m:ConvertId", &[("DestinationFormat", "EwsId")], |w| {
                let id = non_empty(id, "an id to convert")?;
                let mailbox = non_empty(mailbox, "the mailbox's address")?;
                let attributes = [("Format", form.name()), ("Id", id), ("Mailbox", mailbox)];
                w.element("m:SourceIds", |w| w.empty("t:AlternateId", &attributes))
            })
        }
        Request::GetAttachment { id } => w.element("m:GetAttachment", |w| {
            w.element("m:AttachmentShape", |w| w.text("t:IncludeMimeContent", "true"))?;
            let id = non_empty(id, "an attachment's id")?;
            w.element("m:AttachmentIds", |w| w.empty("t:AttachmentId", &[("Id", id)]))
        }),
        Request::SyncFolderItems { folder, sync_state, max_changes } => w.element("m:SyncFolderItems", |w| {
            w.element("m:ItemShape", |w| {
                w.text("t:BaseShape", "IdOnly")?;
                write_properties(w, &CHANGED_ITEM)
            })?;
            w.element("m:SyncFolderId", |w| write_folder(w, folder))?;
            if let Some(state) = sync_state {
                w.text("m:SyncState", non_empty(state, "the sync state")?)?;
            }
            w.text(
                "m:MaxChangesReturned",
                &within(*max_changes, 1, 512, "the number of changes to return")?,
            )?;
            // It is what a version without that element does.
            match version >= RequestVersion::Exchange2013Sp1 {
                true => w.text("m:SyncScope", "NormalItems"),
                false => Ok(()),
            }
        }),
        Request::SyncFolderHierarchy { root, sync_state } => w.element("m:SyncFolderHierarchy", |w| {
            w.element("m:FolderShape", |w| {
                w.text("t:BaseShape", "IdOnly")?;
                write_properties(w, &CHANGED_FOLDER)
            })?;
            w.element("m:SyncFolderId", |w| write_folder(w, root))?;
            match sync_state {
                Some(state) => w.text("m:SyncState", non_empty(state, "the sync state")?),
                None => Ok(()),
            }
        }),
        Request::MarkRead { items } => {
            let mut attributes =
                vec![("ConflictResolution", "AlwaysOverwrite"), ("MessageDisposition", "SaveOnly")];
            attributes.extend(no_receipts(version));
            w.element_with("m:UpdateItem", &attributes, |w| {
                within(items.len(), 1, usize::MAX, "the number of items to mark")?;
                w.element("m:ItemChanges", |w| items.iter().try_for_each(|item| write_mark(w, item)))
            })
        }
        Request::MoveItem { items, to } => w.element("m:MoveItem", |w| {
            w.element("m:ToFolderId", |w| write_folder(w, to))?;
            write_items(w, items)
        }),
        Request::DeleteItem { items, how } => {
            let how = match how {
                DeleteType::MoveToDeletedItems => "MoveToDeletedItems",
                DeleteType::HardDelete => "HardDelete",
            };
            // Appointments and tasks are refused without the second and the third.
            let mut attributes = vec![
                ("DeleteType", how),
                ("SendMeetingCancellations", "SendToNone"),
                ("AffectedTaskOccurrences", "AllOccurrences"),
            ];
            attributes.extend(no_receipts(version));
            w.element_with("m:DeleteItem", &attributes, |w| write_items(w, items))
        }
    }
}

/// To read or to delete a message without sending its read receipt. An older server refuses the attribute.
fn no_receipts(version: RequestVersion) -> Option<(&'static str, &'static str)> {
    (version >= RequestVersion::Exchange2013Sp1).then_some(("SuppressReadReceipts", "true"))
}

fn write_mark(w: &mut Writer, item: &str) -> Result<()> {
    w.element("t:ItemChange", |w| {
        write_item(w, item)?;
        w.element("t:Updates", |w| {
            w.element("t:SetItemField", |w| {
                w.empty("t:FieldURI", &[("FieldURI", "message:IsRead")])?;
                w.element("t:Message", |w| w.text("t:IsRead", "true"))
            })
        })
    })
}

fn write_items(w: &mut Writer, items: &[String]) -> Result<()> {
    within(items.len(), 1, usize::MAX, "the number of items")?;
    w.element("m:ItemIds", |w| items.iter().try_for_each(|item| write_item(w, item)))
}

fn write_item(w: &mut Writer, item: &str) -> Result<()> {
    w.empty("t:ItemId", &[("Id", non_empty(item, "an item's id")?)])
}

fn write_scope(
    w: &mut Writer,
    name: &str,
    scope: &Scope,
    version: RequestVersion,
    rest: impl FnOnce(&mut Writer) -> Result<()>,
) -> Result<()> {
    match scope {
        Scope::AllFolders if version < RequestVersion::Exchange2010Sp1 => {
            Err(too_old("a subscription to all folders", version))
        }
        Scope::AllFolders => w.element_with(name, &[("SubscribeToAllFolders", "true")], rest),
        Scope::Folders(folders) => w.element(name, |w| {
            write_folders(w, "t:FolderIds", folders)?;
            rest(w)
        }),
    }
}

fn write_event_types(w: &mut Writer, events: &[NoticeKind], version: RequestVersion) -> Result<()> {
    // It came with 2010; before, nothing is told of it.
    let unknown =
        |kind: &NoticeKind| *kind == NoticeKind::FreeBusyChanged && version < RequestVersion::Exchange2010Sp1;
    let known: Vec<_> = events.iter().filter(|kind| !unknown(kind)).collect();
    within(known.len(), 1, usize::MAX, "the number of event types")?;
    w.element("t:EventTypes", |w| {
        known.iter().try_for_each(|kind| match kind {
            NoticeKind::Status => Err(invalid("A StatusEvent cannot be subscribed to; it comes by itself.")),
            kind => w.text("t:EventType", kind.element()),
        })
    })
}

fn write_folders(w: &mut Writer, name: &str, folders: &[FolderRef]) -> Result<()> {
    within(folders.len(), 1, usize::MAX, "the number of folders")?;
    w.element(name, |w| folders.iter().try_for_each(|folder| write_folder(w, folder)))
}

fn write_folder(w: &mut Writer, folder: &FolderRef) -> Result<()> {
    match folder {
        FolderRef::Id(id) => w.empty("t:FolderId", &[("Id", non_empty(id, "a folder's id")?)]),
        FolderRef::Distinguished { name, mailbox } => {
            let name = non_empty(name, "a folder's name")?;
            w.element_with("t:DistinguishedFolderId", &[("Id", name)], |w| match mailbox {
                None => Ok(()),
                Some(mailbox) => w.element("t:Mailbox", |w| {
                    w.text("t:EmailAddress", non_empty(mailbox, "the mailbox's address")?)
                }),
            })
        }
    }
}

fn write_id(w: &mut Writer, name: &str, id: &Id) -> Result<()> {
    let value = non_empty(&id.id, "an item's id")?;
    match &id.change_key {
        Some(key) => w.empty(name, &[("Id", value), ("ChangeKey", key)]),
        None => w.empty(name, &[("Id", value)]),
    }
}

/// `GetFolder` with ids and these properties, each with its type.
fn write_get_folder(w: &mut Writer, properties: &[(&str, &str)], folders: &[FolderRef]) -> Result<()> {
    w.element("m:GetFolder", |w| {
        w.element("m:FolderShape", |w| {
            w.text("t:BaseShape", "IdOnly")?;
            w.element("t:AdditionalProperties", |w| {
                properties.iter().try_for_each(|(tag, kind)| {
                    w.empty("t:ExtendedFieldURI", &[("PropertyTag", tag), ("PropertyType", kind)])
                })
            })
        })?;
        write_folders(w, "m:FolderIds", folders)
    })
}

fn write_properties(w: &mut Writer, names: &[&str]) -> Result<()> {
    w.element("t:AdditionalProperties", |w| {
        names.iter().try_for_each(|name| w.empty("t:FieldURI", &[("FieldURI", name)]))
    })
}

fn within<N: PartialOrd + std::fmt::Display + Copy>(value: N, low: N, high: N, what: &str) -> Result<String> {
    if value < low || value > high {
        return Err(invalid(format!(
            "A request cannot be written: {what} is {value}; allowed is {low} to {high}."
        )));
    }
    Ok(value.to_string())
}

fn non_empty<'v>(value: &'v str, what: &str) -> Result<&'v str> {
    match value.is_empty() {
        true => Err(invalid(format!("A request cannot be written: {what} is empty."))),
        false => Ok(value),
    }
}

/// A URL that EWS takes for push.
fn push_url(url: &super::PushUrl) -> Result<&str> {
    url.check().map_err(|e| e.context("A request cannot be written"))?;
    Ok(url.expose())
}

fn too_old(what: &str, version: RequestVersion) -> Error {
    let text =
        format!("{what} needs a server of Exchange2010_SP1 or later, and this one speaks {}", version.name());
    Error::new(ErrorKind::Unsupported, text)
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, text)
}
