//! The values that travel: what a request asks for and what a response says.
//!
//! Names are those of the EWS schema ([MS-OXWSNTIF], [MS-OXWSCORE], [MS-OXWSSYNC]). Ids, watermarks and sync states are
//! opaque: kept as they came, never parsed.

use std::borrow::Cow;
use std::time::Duration;

/// An id of an item or a folder with the change key that came with it, if one came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Id {
    /// The opaque id. It changes when an item moves.
    pub id: String,
    /// The opaque change key. In events it is a stub: good for reading, not for writing, never to be compared.
    pub change_key: Option<String>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A folder (`FolderId`, `OldFolderId`).
    Folder(Id),
    /// An item (`ItemId`, `OldItemId`).
    Item(Id),
}

/// The event elements of [MS-OXWSNTIF] 2.2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum NoticeKind {
    Copied,
    Created,
    Deleted,
    FreeBusyChanged,
    Modified,
    Moved,
    NewMail,
    Status,
}

impl NoticeKind {
    /// All kinds; those that a new mail brings stand first.
    pub const ALL: [NoticeKind; 8] = [
        NoticeKind::Created,
        NoticeKind::NewMail,
        NoticeKind::Modified,
        NoticeKind::Deleted,
        NoticeKind::Moved,
        NoticeKind::Copied,
        NoticeKind::FreeBusyChanged,
        NoticeKind::Status,
    ];

    /// The local name of its element.
    pub const fn element(self) -> &'static str {
        match self {
            NoticeKind::Copied => "CopiedEvent",
            NoticeKind::Created => "CreatedEvent",
            NoticeKind::Deleted => "DeletedEvent",
            NoticeKind::FreeBusyChanged => "FreeBusyChangedEvent",
            NoticeKind::Modified => "ModifiedEvent",
            NoticeKind::Moved => "MovedEvent",
            NoticeKind::NewMail => "NewMailEvent",
            NoticeKind::Status => "StatusEvent",
        }
    }

    /// The kind of an element with this local name.
    pub fn of_element(name: &str) -> Option<NoticeKind> {
        Self::ALL.into_iter().find(|kind| kind.element() == name)
    }
}

/// One event element, with every field that the schema gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which element it was.
    pub kind: NoticeKind,
    /// `Watermark`; absent in streams and from some servers.
    pub watermark: Option<String>,
    /// `TimeStamp` as written; absent in a `StatusEvent`.
    pub time_stamp: Option<String>,
    /// `ItemId` or `FolderId`.
    pub target: Option<Target>,
    /// `ParentFolderId`.
    pub parent_folder_id: Option<Id>,
    /// `OldItemId` or `OldFolderId`, in `MovedEvent` and `CopiedEvent`.
    pub old_target: Option<Target>,
    /// `OldParentFolderId`, in `MovedEvent` and `CopiedEvent`.
    pub old_parent_folder_id: Option<Id>,
    /// `UnreadCount`, in `ModifiedEvent` of a folder.
    pub unread_count: Option<i32>,
}

/// `Notification`: the events of one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    /// `SubscriptionId`.
    pub subscription_id: String,
    /// `PreviousWatermark`.
    pub previous_watermark: Option<String>,
    /// `MoreEvents`; false where absent.
    pub more_events: bool,
    /// The events in the order of the wire, `StatusEvent`s included.
    pub notices: Vec<Notice>,
}

/// `ResponseClass` of a response message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResponseClass {
    Success,
    Warning,
    Error,
}

/// `ResponseCode`: an open set. Some 520 are known, servers send more; each is kept as it came (trimmed).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub Cow<'static, str>);

impl ResponseCode {
    /// The code of success.
    pub const NO_ERROR: ResponseCode = ResponseCode(Cow::Borrowed("NoError"));

    /// The code as the server wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One response message: what it says of its success, and what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<T> {
    /// `ResponseClass`; a missing or unknown one is read as `Error` if the code is not `NoError`.
    pub class: ResponseClass,
    /// `ResponseCode`; `NoError` where absent in a success.
    pub code: ResponseCode,
    /// `MessageText`, cut at 1 KiB; None where absent or empty.
    pub text: Option<String>,
    /// `BackOffMilliseconds` of `MessageXml`, capped at ten minutes.
    pub back_off: Option<Duration>,
    /// What the message carries, whatever its class: gromox puts live notifications into error messages.
    pub body: T,
}

/// A SOAP 1.1 or 1.2 fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `detail/ResponseCode`, else the local part of `faultcode` (`Client`, `ErrorServerBusy`, …).
    pub code: ResponseCode,
    /// `detail/Message`, else `faultstring` or `Reason/Text`, cut at 1 KiB.
    pub text: Option<String>,
    /// `BackOffMilliseconds` of the detail's `MessageXml`, capped at ten minutes.
    pub back_off: Option<Duration>,
}

/// `ServerVersionInfo` of the response header; each part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ServerVersion {
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub major_build: Option<u32>,
    pub minor_build: Option<u32>,
    pub version: Option<String>,
}

/// One SOAP envelope that came from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// From the header, where there is one.
    pub server_version: Option<ServerVersion>,
    /// The first child of the body.
    pub body: Body,
}

/// What an envelope's body holds. Response messages stand in the order of the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A fault.
    Fault(Fault),
    /// `SubscribeResponse`.
    Subscribe(Vec<Response<Subscribed>>),
    /// `GetStreamingEventsResponse`.
    Streaming(Vec<Response<Streamed>>),
    /// `GetEventsResponse`. The notification is absent in errors.
    Events(Vec<Response<Option<Notification>>>),
    /// `UnsubscribeResponse`.
    Unsubscribe(Vec<Response<()>>),
    /// `GetFolderResponse`.
    Folders(Vec<Response<Vec<Folder>>>),
    /// `FindFolderResponse`.
    FoundFolders(Vec<Response<Option<FolderPage>>>),
    /// `GetItemResponse`.
    Items(Vec<Response<Vec<Item>>>),
    /// `SyncFolderItemsResponse`.
    Sync(Vec<Response<SyncPage>>),
    /// `SyncFolderHierarchyResponse`.
    Hierarchy(Vec<Response<HierarchyPage>>),
    /// `ConvertIdResponse`: the id in the form that was asked for. Absent in errors.
    Converted(Vec<Response<Option<String>>>),
    /// `GetAttachmentResponse`.
    Attachments(Vec<Response<Vec<FoundAttachment>>>),
    /// `UpdateItemResponse`: the item's id with its new change key. Absent in errors.
    Update(Vec<Response<Option<Id>>>),
    /// `MoveItemResponse`: the item's new id. Absent in errors, and where it went to another mailbox.
    Move(Vec<Response<Option<Id>>>),
    /// `DeleteItemResponse`.
    Delete(Vec<Response<()>>),
    /// `SendNotification`: a push, whose response messages each carry a notification.
    Push(Vec<Response<Option<Notification>>>),
    /// Anything else, by the local name of its element.
    Other(String),
}

impl Body {
    /// The local name of its element.
    ///
    /// ```
    /// use ewsnotify::proto::Body;
    /// assert_eq!(Body::Folders(Vec::new()).name(), "GetFolderResponse");
    /// ```
    pub fn name(&self) -> &str {
        match self {
            Body::Fault(_) => "Fault",
            Body::Subscribe(_) => "SubscribeResponse",
            Body::Streaming(_) => "GetStreamingEventsResponse",
            Body::Events(_) => "GetEventsResponse",
            Body::Unsubscribe(_) => "UnsubscribeResponse",
            Body::Folders(_) => "GetFolderResponse",
            Body::FoundFolders(_) => "FindFolderResponse",
            Body::Items(_) => "GetItemResponse",
            Body::Sync(_) => "SyncFolderItemsResponse",
            Body::Hierarchy(_) => "SyncFolderHierarchyResponse",
            Body::Converted(_) => "ConvertIdResponse",
            Body::Attachments(_) => "GetAttachmentResponse",
            Body::Update(_) => "UpdateItemResponse",
            Body::Move(_) => "MoveItemResponse",
            Body::Delete(_) => "DeleteItemResponse",
            Body::Push(_) => "SendNotification",
            Body::Other(name) => name,
        }
    }
}

/// What `SubscribeResponseMessage` carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// `SubscriptionId`.
    pub subscription_id: Option<String>,
    /// `Watermark`: pull and push only, and not from every server.
    pub watermark: Option<String>,
}

/// What `GetStreamingEventsResponseMessage` carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// `Notifications`.
    pub notifications: Vec<Notification>,
    /// `ErrorSubscriptionIds`.
    pub error_subscription_ids: Vec<String>,
    /// `ConnectionStatus`; an unknown value is read as `Ok`.
    pub status: Option<ConnectionStatus>,
}

/// A page of `FindFolder`: `RootFolder`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderPage {
    /// `Folders`.
    pub folders: Vec<Folder>,
    /// `IncludesLastItemInRange`; true where absent.
    pub includes_last: bool,
}

/// `ConnectionStatus` of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ConnectionStatus {
    Ok,
    Closed,
}

/// A folder as `GetFolder` and `SyncFolderHierarchy` tell it. Fields that were not asked for are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Folder {
    /// The local name of its element (`Folder`, `CalendarFolder`, `SearchFolder`, …): an open set.
    pub element: String,
    pub id: Id,
    pub parent_id: Option<Id>,
    pub display_name: Option<String>,
    pub folder_class: Option<String>,
    pub total_count: Option<u32>,
    pub unread_count: Option<u32>,
    /// The two properties by which a change of its content can be seen cheaply.
    pub stamp: FolderStamp,
    /// `0x6698`, PR_REPLICA_LIST: of a public folder since Exchange 2013, the GUID of the mailbox that has its content, as text.
    pub replica: Option<String>,
}

impl Folder {
    /// Whether it only shows what lies in other folders: there is nothing in it to sync.
    pub fn is_search(&self) -> bool {
        self.element == "SearchFolder"
    }
}

/// What changes with every change of a folder's content. Two stamps of a folder that are equal and complete say that nothing
/// has happened in between; one with a part missing says nothing.
///
/// ```
/// use ewsnotify::proto::FolderStamp;
/// let before = FolderStamp { committed: Some("2026-07-01T10:00:00Z".into()), deleted: Some(3) };
/// assert!(before.same_as(&before.clone()));
/// assert!(!before.same_as(&FolderStamp { deleted: Some(4), ..before.clone() }));
/// assert!(!FolderStamp::default().same_as(&FolderStamp::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FolderStamp {
    /// `0x670A`, PR_LOCAL_COMMIT_TIME_MAX, as written: when something in it last changed.
    pub committed: Option<String>,
    /// `0x670B`, PR_DELETED_COUNT_TOTAL: how many items were ever deleted from it.
    pub deleted: Option<i64>,
}

impl FolderStamp {
    /// Whether nothing has happened between the two; false where a server did not tell both parts.
    pub fn same_as(&self, other: &FolderStamp) -> bool {
        self.committed.is_some() && self.deleted.is_some() && self == other
    }
}

/// An item as `GetItem` and `SyncFolderItems` tell it. Fields that were not asked for are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The local name of its element (`Message`, `CalendarItem`, …): an open set.
    pub element: String,
    /// `ItemId`.
    pub id: Id,
    /// `ParentFolderId`.
    pub parent_folder_id: Option<Id>,
    /// `ItemClass`.
    pub item_class: Option<String>,
    /// `Subject`.
    pub subject: Option<String>,
    /// `From`, else `Sender`.
    pub from: Option<Mailbox>,
    /// `ToRecipients`.
    pub to: Vec<Mailbox>,
    /// `DateTimeReceived` as written.
    pub received: Option<String>,
    /// `DateTimeCreated` as written.
    pub created: Option<String>,
    /// `InternetMessageId`.
    pub message_id: Option<String>,
    /// `Size` in bytes.
    pub size: Option<u64>,
    /// `IsRead`.
    pub is_read: Option<bool>,
    /// `IsDraft`.
    pub is_draft: Option<bool>,
    /// `Attachments`.
    pub attachments: Vec<crate::Attachment>,
    /// `MimeContent`: base64 as it came, white space and all.
    pub mime_base64: Option<String>,
}

/// An attachment as `GetAttachment` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundAttachment {
    /// The local name of its element: `FileAttachment`, `ItemAttachment`, `ReferenceAttachment`; an open set.
    pub element: String,
    /// Of a file, `Content`; of an item, its `MimeContent`: base64 as it came, white space and all.
    pub base64: Option<String>,
}

/// An address: `EmailAddressType` of [MS-OXWSCDATA].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// `Name`.
    pub name: Option<String>,
    /// `EmailAddress`; absent for senders that have none.
    pub address: Option<String>,
}

/// A page of `SyncFolderItems`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncPage {
    /// `SyncState`; None where absent or empty (an error's empty state must never be stored).
    pub sync_state: Option<String>,
    /// `IncludesLastItemInRange`.
    pub includes_last: bool,
    /// `Changes` in the order of the wire (newest first).
    pub changes: Vec<SyncChange>,
}

/// A change that sync tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SyncChange {
    Create(Item),
    Update(Item),
    Delete(Id),
    ReadFlagChange { id: Id, is_read: bool },
}

/// A page of `SyncFolderHierarchy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HierarchyPage {
    /// `SyncState`; None where absent or empty (an error's empty state must never be stored).
    pub sync_state: Option<String>,
    /// `IncludesLastFolderInRange`.
    pub includes_last: bool,
    /// `Changes` in the order of the wire.
    pub changes: Vec<FolderChange>,
}

/// A change of a folder that sync tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FolderChange {
    Create(Folder),
    Update(Folder),
    Delete(Id),
}

/// `RequestServerVersion`: what we speak. Streaming needs 2010 SP1, pull and push 2007 SP1; the newest is tried first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum RequestVersion {
    Exchange2007Sp1,
    Exchange2010Sp1,
    Exchange2010Sp2,
    #[default]
    Exchange2013Sp1,
}

impl RequestVersion {
    /// As it stands in `RequestServerVersion`.
    pub const fn name(self) -> &'static str {
        match self {
            RequestVersion::Exchange2007Sp1 => "Exchange2007_SP1",
            RequestVersion::Exchange2010Sp1 => "Exchange2010_SP1",
            RequestVersion::Exchange2010Sp2 => "Exchange2010_SP2",
            RequestVersion::Exchange2013Sp1 => "Exchange2013_SP1",
        }
    }

    /// The next older one that we speak.
    pub const fn older(self) -> Option<RequestVersion> {
        match self {
            RequestVersion::Exchange2013Sp1 => Some(RequestVersion::Exchange2010Sp2),
            RequestVersion::Exchange2010Sp2 => Some(RequestVersion::Exchange2010Sp1),
            RequestVersion::Exchange2010Sp1 => Some(RequestVersion::Exchange2007Sp1),
            RequestVersion::Exchange2007Sp1 => None,
        }
    }
}

/// The SOAP header of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `RequestServerVersion`.
    pub version: RequestVersion,
    /// `ExchangeImpersonation` with this SMTP address.
    pub impersonate: Option<String>,
}

/// A form of ids that only `ConvertId` takes: `IdFormatType` of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdForm {
    /// That of Exchange 2007.
    EwsLegacyId,
    /// MAPI's `PR_ENTRYID`, in base64.
    EntryId,
    /// The same in hexadecimal digits.
    HexEntryId,
    /// That of Exchange's own store.
    StoreId,
    /// That of Outlook on the web.
    OwaId,
}

impl IdForm {
    /// All of them.
    pub const ALL: [IdForm; 5] =
        [IdForm::EwsLegacyId, IdForm::EntryId, IdForm::HexEntryId, IdForm::StoreId, IdForm::OwaId];

    /// The name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            IdForm::EwsLegacyId => "EwsLegacyId",
            IdForm::EntryId => "EntryId",
            IdForm::HexEntryId => "HexEntryId",
            IdForm::StoreId => "StoreId",
            IdForm::OwaId => "OwaId",
        }
    }
}

/// A folder in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FolderRef {
    /// `DistinguishedFolderId`: lower-case name (`inbox`), in the given mailbox or the caller's own.
    Distinguished {
        /// The name, as in the schema's `DistinguishedFolderIdNameType`.
        name: String,
        /// The mailbox's address, for somebody else's folder.
        mailbox: Option<String>,
    },
    /// `FolderId`.
    Id(String),
}

/// Which folders a subscription covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `SubscribeToAllFolders`.
    AllFolders,
    /// These folders, without their subfolders. At least one.
    Folders(Vec<FolderRef>),
}

/// Where a server is to send its notifications. There may be a secret in it, so no print shows it.
///
/// ```
/// use ewsnotify::proto::PushUrl;
/// let url = PushUrl::new("https://host.example.test/hook/s3cret");
/// assert!(!format!("{url:?}").contains("s3cret"));
/// assert!(url.expose().ends_with("s3cret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PushUrl(std::sync::Arc<zeroize::Zeroizing<String>>);

impl PushUrl {
    /// Takes a URL as it is; [`write_request`](super::write_request) refuses what EWS would.
    pub fn new(url: &str) -> PushUrl {
        PushUrl(std::sync::Arc::new(zeroize::Zeroizing::new(url.to_owned())))
    }

    /// Whether EWS would take it: for one that is too long it has a code of its own (`ErrorInvalidPushSubscriptionUrl`).
    ///
    /// ```
    /// use ewsnotify::proto::PushUrl;
    /// assert!(PushUrl::new("https://host.example.test/hook").check().is_ok());
    /// assert!(PushUrl::new("gopher://host.example.test").check().is_err());
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid). The text does not repeat the URL.
    pub fn check(&self) -> crate::Result<()> {
        let url = self.expose();
        let scheme = ["http://", "https://"].iter().any(|s| {
            url.get(..s.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(s)) && url.len() > s.len()
        });
        match scheme && url.len() < 2083 && url.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(()),
            false => Err(crate::Error::new(
                crate::ErrorKind::Invalid,
                "the URL for push must be http or https, of printable ASCII, and shorter than 2083 characters",
            )),
        }
    }

    /// The URL itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PushUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A request that the library can write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Request {
    /// `Subscribe` with a `StreamingSubscriptionRequest`.
    SubscribeStreaming { scope: Scope, events: Vec<NoticeKind> },
    /// `Subscribe` with a `PullSubscriptionRequest`; `timeout_minutes` is 1–1440.
    SubscribePull { scope: Scope, events: Vec<NoticeKind>, timeout_minutes: u32, watermark: Option<String> },
    /// `Subscribe` with a `PushSubscriptionRequest`; `status_minutes` is `StatusFrequency`, 1–1440.
    SubscribePush {
        scope: Scope,
        events: Vec<NoticeKind>,
        watermark: Option<String>,
        status_minutes: u32,
        url: PushUrl,
    },
    /// `GetStreamingEvents`; 1–200 ids, `minutes` is 1–30.
    GetStreamingEvents { subscription_ids: Vec<String>, minutes: u32 },
    /// `GetEvents`. The schema demands a watermark; where the server never gave one, a placeholder is written.
    GetEvents { subscription_id: String, watermark: Option<String> },
    /// `Unsubscribe`.
    Unsubscribe { subscription_id: String },
    /// `GetFolder` with the ids and names (`BaseShape` Default).
    GetFolder { folders: Vec<FolderRef> },
    /// `GetFolder` with the ids and [`FolderStamp`]s.
    GetFolderStamps { folders: Vec<FolderRef> },
    /// `GetFolder` of a public folder, with the mailbox that has its content.
    GetFolderReplica { folder: FolderRef },
    /// `FindFolder` of what lies directly in a folder, from the place `offset` on: ids and names. `most` is at least 1.
    FindFolder { parent: FolderRef, offset: u32, most: u32 },
    /// `GetItem`: the summary's fields, and `MimeContent` if asked.
    GetItem { items: Vec<Id>, mime: bool },
    /// `ConvertId` of an id of another form into that of today (`EwsId`).
    ConvertId { form: IdForm, id: String, mailbox: String },
    /// `GetAttachment` with its content; that of an item is its `MimeContent`.
    GetAttachment { id: String },
    /// `SyncFolderItems` of normal items, shape `IdOnly` with class, dates, draft and read flag; `max_changes` is 1–512.
    SyncFolderItems { folder: FolderRef, sync_state: Option<String>, max_changes: u32 },
    /// `SyncFolderHierarchy` of everything below `root`, shape `IdOnly` with parent, class and name.
    SyncFolderHierarchy { root: FolderRef, sync_state: Option<String> },
    /// `UpdateItem` that marks messages as read, whatever else was changed. Read receipts are suppressed from
    /// [`RequestVersion::Exchange2013Sp1`] on; before, they cannot be. Ids go without change keys: those of events are stubs.
    MarkRead { items: Vec<String> },
    /// `MoveItem`; the items get new ids.
    MoveItem { items: Vec<String>, to: FolderRef },
    /// `DeleteItem`, without read receipts as in `MarkRead`, and without telling anybody that a meeting is off.
    DeleteItem { items: Vec<String>, how: DeleteType },
}

/// How `DeleteItem` deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum DeleteType {
    MoveToDeletedItems,
    HardDelete,
}
