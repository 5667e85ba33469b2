//! ResponseCode → what to do about it, as data, with the reason beside each row.
//!
//! The codes are those of MS-OXWSCDATA that can meet a client which watches and reads, and some newer ones of Exchange
//! Online. `Client`, `Server`, `Sender` and `Receiver` are SOAP's own, for faults that name no code of EWS.

/// What the engine does for a response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing: it went well.
    Proceed,
    /// Drop the subscription, subscribe anew without a watermark; what came between is a gap.
    Resubscribe,
    /// As `Resubscribe`, and find the mailbox's server anew first.
    Rediscover,
    /// Wait (`BackOffMilliseconds`, else exponential with jitter) and repeat the same.
    BackOff,
    /// As `BackOff`, but give up on the watch after five failures in a row.
    BackOffThenStop,
    /// Events were missed; the subscription stands.
    Missed,
    /// Speak an older `RequestServerVersion` and repeat, at the first request only; else as `Stop`.
    LowerVersion,
    /// The sync state is of no use: drop it and sync from the start.
    DropSyncState,
    /// A folder is gone or not ours to see.
    FolderGone,
    /// The sign-in is refused: stop the watch and say so.
    SignIn,
    /// It concerns this item alone, which is gone.
    ItemGone,
    /// It concerns this item alone, which cannot be read, or with which that cannot be done.
    ItemUnreadable,
    /// Give up on the watch and say why.
    Stop,
}

impl Action {
    /// Whether the same may work later without a change of settings.
    pub fn is_retryable(self) -> bool {
        !matches!(
            self,
            Action::SignIn | Action::Stop | Action::ItemGone | Action::ItemUnreadable | Action::FolderGone
        )
    }
}

/// What to do about a response code. An unknown one is [`Action::Stop`]: the set is open, and to repeat what nobody
/// understands helps nobody.
pub fn action(code: &str) -> Action {
    row(code).map_or(Action::Stop, |(_, action, _)| *action)
}

/// Every code of the table, with what to do about it.
#[cfg(test)]
pub(crate) fn response_codes() -> impl Iterator<Item = (&'static str, Action)> {
    TABLE.iter().map(|(code, action, _)| (*code, *action))
}

/// The code as a string that needs no memory of its own, where it is in the table.
pub(crate) fn known(code: &str) -> Option<&'static str> {
    row(code).map(|(code, _, _)| *code)
}

fn row(code: &str) -> Option<&'static Row> {
    TABLE.binary_search_by(|(known, _, _)| (*known).cmp(code)).ok().map(|i| &TABLE[i])
}

/// Code, what to do, why.
type Row = (&'static str, Action, &'static str);

/// Sorted by code. Codes that are not here are kept as they came.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    ("Client", Action::Stop, "a fault without a code of EWS: our request is at fault"),
    ("ErrorADOperation", Action::BackOff, "the directory is down"),
    ("ErrorADUnavailable", Action::BackOff, "the directory is down"),
    ("ErrorAccessDenied", Action::Stop, "no right"),
    ("ErrorAccountDisabled", Action::Stop, "the mailbox cannot be used"),
    ("ErrorAccountSuspend", Action::Stop, "the mailbox cannot be used"),
    ("ErrorAccountSuspendShowTierUpgrade", Action::Stop, "the mailbox cannot be used"),
    ("ErrorAffectedTaskOccurrencesRequired", Action::ItemUnreadable, "no message, and to be deleted otherwise"),
    ("ErrorArchiveMailboxNotEnabled", Action::Stop, "of archives, which we do not ask for"),
    ("ErrorArchiveMailboxSearchFailed", Action::Stop, "of archives, which we do not ask for"),
    ("ErrorArchiveMailboxServiceDiscoveryFailed", Action::Stop, "of archives, which we do not ask for"),
    ("ErrorAutoDiscoverFailed", Action::BackOff, "the server's own Autodiscover failed"),
    ("ErrorBatchProcessingStopped", Action::BackOff, "an earlier part of the batch stopped it: ask for the rest again"),
    ("ErrorCalendarCannotMoveOrCopyOccurrence", Action::ItemUnreadable, "it cannot be moved there"),
    ("ErrorCalendarCannotUpdateDeletedItem", Action::ItemUnreadable, "it cannot be marked as read"),
    ("ErrorCallerIsInvalidADAccount", Action::SignIn, "the token is not accepted"),
    ("ErrorCannotDeleteObject", Action::ItemUnreadable, "it cannot be deleted: on hold, or of a kind that cannot"),
    ("ErrorCannotDeleteTaskOccurrence", Action::ItemUnreadable, "it cannot be deleted: on hold, or of a kind that cannot"),
    ("ErrorCannotFindUser", Action::Stop, "no such mailbox here"),
    ("ErrorCannotUseFolderIdForItemId", Action::ItemUnreadable, "the id of a folder"),
    ("ErrorCannotUseItemIdForFolderId", Action::Stop, "the id of an item where a folder was to be named"),
    ("ErrorChangeKeyRequired", Action::ItemUnreadable, "of writing: the server wants a change key, which events do not give"),
    ("ErrorChangeKeyRequiredForWriteOperations", Action::ItemUnreadable, "of writing: the server wants a change key, which events do not give"),
    ("ErrorClientDisconnected", Action::BackOff, "the server lost its store, or us"),
    ("ErrorConnectionFailed", Action::BackOff, "the server lost its store, or us"),
    ("ErrorContentConversionFailed", Action::ItemUnreadable, "the server cannot make sense of it"),
    ("ErrorCorruptData", Action::Stop, "the folder is damaged"),
    ("ErrorCrossMailboxMoveCopy", Action::ItemUnreadable, "it cannot be moved there"),
    ("ErrorCrossSiteRequest", Action::Rediscover, "the wrong server for this mailbox"),
    ("ErrorDataSizeLimitExceeded", Action::ItemUnreadable, "too big for the server"),
    ("ErrorDeleteItemsFailed", Action::ItemUnreadable, "it cannot be deleted: on hold, or of a kind that cannot"),
    ("ErrorDuplicateSOAPHeader", Action::LowerVersion, "our request is not understood: perhaps too new"),
    ("ErrorEventNotFound", Action::Resubscribe, "the watermark's event is gone, and the subscription with it"),
    ("ErrorExceededChannelSubscriptionCount", Action::BackOff, "too many subscriptions: old ones must run out first"),
    ("ErrorExceededConnectionCount", Action::BackOff, "too many requests or streams at a time"),
    ("ErrorExceededFindCountLimit", Action::BackOffThenStop, "too much at once"),
    ("ErrorExceededSubscriptionCount", Action::BackOff, "too many subscriptions: old ones must run out first"),
    ("ErrorExpiredSubscription", Action::Resubscribe, "it ran out while we asked"),
    ("ErrorFolderCorrupt", Action::Stop, "the folder is damaged"),
    ("ErrorFolderNotFound", Action::FolderGone, "gone, or no right to see it"),
    ("ErrorFolderPropertRequestFailed", Action::Stop, "the folder's properties cannot be read"),
    ("ErrorFolderPropertyRequestFailed", Action::Stop, "the folder's properties cannot be read"),
    ("ErrorImpersonateUserDenied", Action::Stop, "no right to impersonate, or nobody of that name"),
    ("ErrorImpersonationDenied", Action::Stop, "no right to impersonate, or nobody of that name"),
    ("ErrorImpersonationFailed", Action::BackOffThenStop, "a trouble of the server; or none"),
    ("ErrorIncorrectSchemaVersion", Action::LowerVersion, "the server is older than what we speak"),
    ("ErrorIncorrectUpdatePropertyCount", Action::ItemUnreadable, "it cannot be marked as read"),
    ("ErrorInsufficientResources", Action::BackOff, "overloaded"),
    ("ErrorInternalServerError", Action::BackOffThenStop, "anything; may be our request's own fault"),
    ("ErrorInternalServerTransientError", Action::BackOff, "the server asks to try again"),
    ("ErrorInvalidArgument", Action::LowerVersion, "our request is not understood: perhaps too new"),
    ("ErrorInvalidAuthorizationContext", Action::SignIn, "the token is not accepted"),
    ("ErrorInvalidChangeKey", Action::ItemUnreadable, "no id of this mailbox"),
    ("ErrorInvalidClientSecurityContext", Action::SignIn, "the token is not accepted"),
    ("ErrorInvalidExchangeImpersonationHeaderData", Action::Stop, "no right to impersonate, or nobody of that name"),
    ("ErrorInvalidId", Action::ItemUnreadable, "no id of this mailbox"),
    ("ErrorInvalidIdEmpty", Action::ItemUnreadable, "no id of this mailbox"),
    ("ErrorInvalidIdMalformed", Action::ItemUnreadable, "no id of this mailbox"),
    ("ErrorInvalidIdMalformedEwsLegacyIdFormat", Action::ItemUnreadable, "an id in the form of Exchange 2007, which is converted first, once"),
    ("ErrorInvalidIdMonikerTooLong", Action::ItemUnreadable, "no id of this mailbox"),
    ("ErrorInvalidIdStoreObjectIdTooLong", Action::ItemUnreadable, "no id of this mailbox"),
    ("ErrorInvalidIdXml", Action::ItemUnreadable, "no id of this mailbox"),
    ("ErrorInvalidLicense", Action::Stop, "blocked by a policy"),
    ("ErrorInvalidPropertySet", Action::ItemUnreadable, "it cannot be marked as read"),
    ("ErrorInvalidPullSubscriptionId", Action::Stop, "the id of another kind of subscription"),
    ("ErrorInvalidPushSubscriptionUrl", Action::Stop, "empty, too long, or not http(s)"),
    ("ErrorInvalidRequest", Action::LowerVersion, "our request is not understood: perhaps too new"),
    ("ErrorInvalidSchemaVersionForMailboxVersion", Action::LowerVersion, "the server is older than what we speak"),
    ("ErrorInvalidServerVersion", Action::LowerVersion, "the server is older than what we speak"),
    ("ErrorInvalidSubscription", Action::Resubscribe, "no longer valid: a restart, or its mailbox moved"),
    ("ErrorInvalidSubscriptionRequest", Action::Stop, "folders of several mailboxes, or of several public folders, in one request"),
    ("ErrorInvalidSyncStateData", Action::DropSyncState, "the state is of no use"),
    ("ErrorInvalidWatermark", Action::Resubscribe, "bad or too old: begin without one"),
    ("ErrorIrresolvableConflict", Action::BackOff, "somebody else changed it at the same moment"),
    ("ErrorItemCorrupt", Action::ItemUnreadable, "the server cannot make sense of it"),
    ("ErrorItemNotFound", Action::ItemGone, "deleted, or moved under a new id"),
    ("ErrorItemPropertyRequestFailed", Action::ItemUnreadable, "the server cannot make sense of it"),
    ("ErrorItemSave", Action::ItemUnreadable, "it cannot be marked as read"),
    ("ErrorItemSavePropertyError", Action::ItemUnreadable, "it cannot be marked as read"),
    ("ErrorMailboxConfiguration", Action::Stop, "the mailbox cannot be used"),
    ("ErrorMailboxFailover", Action::Rediscover, "another server is taking over"),
    ("ErrorMailboxLogonFailed", Action::Stop, "the mailbox cannot be used"),
    ("ErrorMailboxMoveInProgress", Action::Rediscover, "the mailbox is being moved"),
    ("ErrorMailboxStoreUnavailable", Action::Rediscover, "its store is offline; it may come up elsewhere"),
    ("ErrorMessageDispositionRequired", Action::ItemUnreadable, "no message, and to be changed otherwise"),
    ("ErrorMessageSizeExceeded", Action::ItemUnreadable, "too big for the server"),
    ("ErrorMimeContentConversionFailed", Action::ItemUnreadable, "the server cannot make sense of it"),
    ("ErrorMissedNotificationEvents", Action::Missed, "the server's queue ran over; the subscription stands"),
    ("ErrorMissingArgument", Action::LowerVersion, "our request is not understood: perhaps too new"),
    ("ErrorMissingExchangePrincipal", Action::Stop, "no such mailbox here"),
    ("ErrorMoveCopyFailed", Action::ItemUnreadable, "it cannot be moved there"),
    ("ErrorNewChannelConnectionOpened", Action::Resubscribe, "another connection took the subscription; a new one of our own does not fight with it"),
    ("ErrorNewEventStreamConnectionOpened", Action::Resubscribe, "another connection took the subscription; a new one of our own does not fight with it"),
    ("ErrorNoApplicableProxyCASServersAvailable", Action::Rediscover, "the wrong server for this mailbox"),
    ("ErrorNoDestinationCASDueToKerberosRequirements", Action::Rediscover, "the wrong server for this mailbox"),
    ("ErrorNoDestinationCASDueToSSLRequirements", Action::Rediscover, "the wrong server for this mailbox"),
    ("ErrorNoDestinationCASDueToVersionMismatch", Action::Rediscover, "the wrong server for this mailbox"),
    ("ErrorNoOAuthServerAvailableForRequest", Action::SignIn, "the token is not accepted"),
    ("ErrorNoPublicFolderReplicaAvailable", Action::BackOffThenStop, "the public folders are not to be had now; perhaps never"),
    ("ErrorNoPublicFolderServerAvailable", Action::BackOffThenStop, "the public folders are not to be had now; perhaps never"),
    ("ErrorNoRespondingCASInDestinationSite", Action::Rediscover, "the wrong server for this mailbox"),
    ("ErrorNonExistentMailbox", Action::Stop, "no such mailbox here"),
    ("ErrorNonPrimarySmtpAddress", Action::Stop, "an alias: the text names the primary address, use that"),
    ("ErrorNotEnoughMemory", Action::BackOff, "overloaded"),
    ("ErrorObjectTypeChanged", Action::ItemUnreadable, "it is there as something else"),
    ("ErrorOperationNotAllowedWithPublicFolderRoot", Action::Stop, "the root of the public folders is no folder to watch"),
    ("ErrorOrganizationAccessBlocked", Action::Stop, "blocked by a policy"),
    ("ErrorParentFolderNotFound", Action::FolderGone, "gone, or no right to see it"),
    ("ErrorParsingXMLResponse", Action::LowerVersion, "our request is not understood: perhaps too new"),
    ("ErrorPasswordChangeRequired", Action::SignIn, "a person must set a new password"),
    ("ErrorPasswordExpired", Action::SignIn, "a person must set a new password"),
    ("ErrorPropertyUpdate", Action::ItemUnreadable, "it cannot be marked as read"),
    ("ErrorProxiedSubscriptionCallFailure", Action::Rediscover, "the subscription lives on another server, which did not answer"),
    ("ErrorProxyCallFailed", Action::Rediscover, "routing between servers failed: drop the cookies"),
    ("ErrorProxyRequestNotAllowed", Action::Rediscover, "this server cannot route to the mailbox's"),
    ("ErrorProxyRequestProcessingFailed", Action::Rediscover, "this server cannot route to the mailbox's"),
    ("ErrorProxyServiceDiscoveryFailed", Action::Rediscover, "this server cannot route to the mailbox's"),
    ("ErrorProxyTokenExpired", Action::Rediscover, "routing between servers failed: drop the cookies"),
    ("ErrorPublicFolderMailboxDiscoveryFailed", Action::BackOffThenStop, "the public folders are not to be had now; perhaps never"),
    ("ErrorPublicFolderOperationFailed", Action::BackOffThenStop, "the public folders are not to be had now; perhaps never"),
    ("ErrorPublicFolderRequestProcessingFailed", Action::BackOffThenStop, "the public folders are not to be had now; perhaps never"),
    ("ErrorPublicFolderServerNotFound", Action::BackOffThenStop, "the public folders are not to be had now; perhaps never"),
    ("ErrorPublicFolderSyncException", Action::BackOffThenStop, "the public folders are not to be had now; perhaps never"),
    ("ErrorQuotaExceeded", Action::BackOff, "the mailbox is full; reading goes on"),
    ("ErrorReadEventsFailed", Action::Rediscover, "the server could not read its events and dropped the subscription"),
    ("ErrorRequestAborted", Action::BackOff, "the server lost its store, or us"),
    ("ErrorRequestStreamTooBig", Action::BackOffThenStop, "too much at once"),
    ("ErrorResponseSchemaValidation", Action::LowerVersion, "our request is not understood: perhaps too new"),
    ("ErrorResultSetTooBig", Action::BackOffThenStop, "too much at once"),
    ("ErrorSchemaValidation", Action::LowerVersion, "our request is not understood: perhaps too new"),
    ("ErrorSendMeetingCancellationsRequired", Action::ItemUnreadable, "no message, and to be deleted otherwise"),
    ("ErrorSendMeetingInvitationsOrCancellationsRequired", Action::ItemUnreadable, "no message, and to be changed otherwise"),
    ("ErrorServerBusy", Action::BackOff, "throttled; says for how long, mostly"),
    ("ErrorServiceDiscoveryFailed", Action::Rediscover, "this server cannot route to the mailbox's"),
    ("ErrorServiceUnavailable", Action::BackOff, "down"),
    ("ErrorStaleObject", Action::BackOff, "somebody else changed it at the same moment"),
    ("ErrorSubscriptionAccessDenied", Action::Stop, "another account made the subscription"),
    ("ErrorSubscriptionDelegateAccessNotSupported", Action::Stop, "not the mailbox's owner: impersonate"),
    ("ErrorSubscriptionNotFound", Action::Resubscribe, "expired, or the server has forgotten it"),
    ("ErrorSubscriptionUnsubscribed", Action::Resubscribe, "somebody ended it, and it was not us"),
    ("ErrorSubscriptionUnsubsribed", Action::Resubscribe, "somebody ended it, and it was not us"),
    ("ErrorSubscriptionsDisabledForGroup", Action::Stop, "groups have no subscriptions"),
    ("ErrorSyncFolderNotFound", Action::FolderGone, "gone, or no right to see it"),
    ("ErrorTimeoutExpired", Action::BackOff, "not finished in time"),
    ("ErrorToFolderNotFound", Action::FolderGone, "gone, or no right to see it"),
    ("ErrorTokenSerializationDenied", Action::SignIn, "the token is not accepted"),
    ("ErrorTooManyObjectsOpened", Action::BackOff, "an inner limit of the store"),
    ("ErrorUMServerUnavailable", Action::BackOff, "down"),
    ("ErrorUpdatePropertyMismatch", Action::ItemUnreadable, "it cannot be marked as read"),
    ("ErrorUserNotAllowedByPolicy", Action::Stop, "blocked by a policy"),
    ("ErrorVirusDetected", Action::ItemUnreadable, "the virus scanner holds it"),
    ("ErrorVirusMessageDeleted", Action::ItemUnreadable, "the virus scanner deleted it"),
    ("ErrorWrongServerVersion", Action::Rediscover, "the wrong server for this mailbox"),
    ("ErrorWrongServerVersionDelegate", Action::Rediscover, "the wrong server for this mailbox"),
    ("NoError", Action::Proceed, "it went well"),
    ("Receiver", Action::BackOffThenStop, "a fault without a code of EWS: the server is at fault"),
    ("Sender", Action::Stop, "a fault without a code of EWS: our request is at fault"),
    ("Server", Action::BackOffThenStop, "a fault without a code of EWS: the server is at fault"),
];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    // A row out of order would never be found, and its code would stop the watch.
    #[test]
    fn the_table_is_sorted_and_each_row_is_found() {
        assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
        for (code, action_of_row, why) in TABLE {
            assert_eq!(action(code), *action_of_row, "{code}");
            assert!(!why.is_empty(), "{code}");
        }
    }

    // A wrong row: a lost subscription would end the watch, or a busy server would be hammered.
    #[test]
    fn what_matters_most() {
        for (code, expected) in [
            ("NoError", Action::Proceed),
            ("ErrorSubscriptionNotFound", Action::Resubscribe),
            ("ErrorNewEventStreamConnectionOpened", Action::Resubscribe),
            ("ErrorReadEventsFailed", Action::Rediscover),
            ("ErrorMissedNotificationEvents", Action::Missed),
            ("ErrorServerBusy", Action::BackOff),
            ("ErrorInternalServerError", Action::BackOffThenStop),
            ("ErrorImpersonationFailed", Action::BackOffThenStop),
            ("ErrorInvalidServerVersion", Action::LowerVersion),
            ("ErrorInvalidSyncStateData", Action::DropSyncState),
            ("ErrorSyncFolderNotFound", Action::FolderGone),
            ("ErrorIrresolvableConflict", Action::BackOff),
            ("ErrorMoveCopyFailed", Action::ItemUnreadable),
            ("ErrorPasswordExpired", Action::SignIn),
            ("ErrorItemNotFound", Action::ItemGone),
            ("ErrorNonExistentMailbox", Action::Stop),
            ("ErrorOfTheYear2030", Action::Stop),
            ("", Action::Stop),
        ] {
            assert_eq!(action(code), expected, "{code}");
        }
    }

    // A code that the facts of the wire name and the table does not: the watch would stop for no good reason.
    #[test]
    fn every_code_of_the_schema_that_the_protocol_sheet_names_is_here() {
        let root =
            std::env::var_os("EWSN_SHARED").map_or("../shared".into(), std::path::PathBuf::from).join("ews");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).ok();
        let schema = read("schemas/oxws_mit_2016/MS-OXWSCDATA-messages.xsd");
        let (Some(sheet), Some(schema)) = (read("protocol.md"), schema) else {
            // Not `eprintln`, which is only shown of a test that fails.
            let _ =
                writeln!(std::io::stderr(), "not tested in response_code: {} is not there", root.display());
            return;
        };
        let (_, sheet) = sheet.split_once("### ResponseCode").unwrap();
        let (sheet, _) = sheet.split_once("\n## ").unwrap();
        let named: Vec<&str> = sheet
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|w| w.starts_with("Error") && *w != "Error")
            .collect();
        let in_schema = |code: &str| schema.contains(&format!("<xs:enumeration value=\"{code}\""));
        let missing: Vec<_> = named.iter().filter(|code| in_schema(code) && known(code).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(named.iter().filter(|code| in_schema(code)).count() > 100);
    }
}
