//! Which public folder mailbox has a folder's content: the folder knows the mailbox's GUID, and Autodiscover its address
//! ([Exchange documentation](https://learn.microsoft.com/exchange/client-developer/exchange-web-services/how-to-route-public-folder-content-requests)).

use super::locate;
use super::workers::exchange;
use crate::auth::Auth;
use crate::autodiscover::{Found, Search, domain};
use crate::engine::{Answer, answer, paths};
use crate::net::{Asker, Cancel, Link};
use crate::options::WatchConfig;
use crate::proto::{Header, Request, RequestVersion};
use crate::{Error, ErrorKind, Result};

/// Its address; `None` where nobody says, so that the server's own choice has to do: before Exchange 2013, say, whose public folders are in no mailbox.
/// Blocks.
///
/// # Errors
/// What may pass.
pub(crate) fn content_mailbox(
    config: &WatchConfig,
    link: &dyn Link,
    header: Header,
    found: &Found,
    (asker, auth): (&Asker, &dyn Auth),
    cancel: &Cancel,
) -> Result<Option<String>> {
    let ask = |request: &Request| {
        let (body, date) = exchange(link, &header, request, (&config.mailbox, None), cancel)?;
        answer::of(request, body, date)
    };
    let look = || {
        let mut places = paths::follow(&config.folders, RequestVersion::default(), &config.mailbox, ask)?;
        let Some(folder) = places.pop().transpose()? else { return Ok(None) };
        let Answer::ContentMailbox(Some(guid)) = ask(&Request::GetFolderReplica { folder })? else {
            return Ok(None);
        };
        let address = format!("{guid}@{}", domain(&config.mailbox)?);
        let by = Some(&found.by);
        let search = Search::new(&address, config.searcher(), &config.trusted_domains, by)?;
        let address = match locate::search(search, asker, auth, cancel, &mut |_| ()) {
            // An answer, but not where it is.
            Err(e) if e.kind() == ErrorKind::Protocol => return Ok(None),
            found => found?.address,
        };
        // It goes into a header.
        Ok(Some(address).filter(|a| a.contains('@') && a.bytes().all(|b| b.is_ascii_graphic())))
    };
    look().or_else(|e: Error| if e.is_retryable() || cancel.is_cancelled() { Err(e) } else { Ok(None) })
}
