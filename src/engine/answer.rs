//! What an answer of the server's is to the engine: from the body of its envelope.

use std::time::SystemTime;

use super::Answer;
use crate::proto::{self, Body, Request, Response, Streamed};
use crate::{Error, ErrorKind, Result};

/// The answer to a request; an error that the server told, or that its answer is none. `date` is the server's time. Items with
/// their messages are not answered here.
pub(crate) fn of(request: &Request, body: Body, date: Option<SystemTime>) -> Result<Answer> {
    let name = match &body {
        Body::Other(name) => Some(name.clone()),
        _ => None,
    };
    let unexpected = || no_answer(request.operation(), name.as_deref());
    match (request, body) {
        (
            Request::SubscribeStreaming { .. }
            | Request::SubscribePull { .. }
            | Request::SubscribePush { .. },
            Body::Subscribe(responses),
        ) => {
            let subscribed = first(responses, request)?;
            let no_id =
                || Error::new(ErrorKind::Protocol, "the server's answer to Subscribe has no SubscriptionId");
            let id = subscribed.subscription_id.ok_or_else(no_id)?;
            Ok(Answer::Subscribed { id, watermark: subscribed.watermark, date })
        }
        (Request::GetFolder { folders }, Body::Folders(responses)) => {
            if responses.len() != folders.len() {
                return Err(unexpected());
            }
            let id = |mut found: Vec<proto::Folder>| match found.pop() {
                Some(folder) => Ok(folder.id.id),
                None => {
                    Err(Error::new(ErrorKind::Protocol, "the server's answer to GetFolder has no folder"))
                }
            };
            Ok(Answer::Folders(responses.into_iter().map(|r| succeed(r, request).and_then(id)).collect()))
        }
        (Request::GetFolderReplica { .. }, Body::Folders(responses)) => {
            let replica = |mut found: Vec<proto::Folder>| found.pop().and_then(|folder| folder.replica);
            first(responses, request).map(|found| Answer::ContentMailbox(replica(found)))
        }
        (Request::FindFolder { .. }, Body::FoundFolders(responses)) => {
            first(responses, request)?.map(Answer::FoundFolders).ok_or_else(unexpected)
        }
        (Request::GetEvents { .. }, Body::Events(responses)) => {
            first(responses, request)?.map(Answer::Events).ok_or_else(unexpected)
        }
        (Request::SyncFolderItems { .. }, Body::Sync(responses)) => {
            first(responses, request).map(|page| Answer::Synced { page, date })
        }
        (Request::SyncFolderHierarchy { .. }, Body::Hierarchy(responses)) => {
            first(responses, request).map(|page| Answer::Hierarchy { page, date })
        }
        (Request::GetFolderStamps { folders }, Body::Folders(responses)) => {
            if responses.len() != folders.len() {
                return Err(unexpected());
            }
            let stamp = |mut found: Vec<proto::Folder>| found.pop().map(|f| f.stamp).ok_or_else(unexpected);
            let stamps = responses.into_iter().map(|r| succeed(r, request).and_then(stamp)).collect();
            Ok(Answer::Stamps { stamps, date })
        }
        (Request::Unsubscribe { .. }, Body::Unsubscribe(responses)) => {
            first(responses, request).map(|()| Answer::Unsubscribed)
        }
        (Request::MarkRead { .. }, Body::Update(responses))
        | (Request::MoveItem { .. }, Body::Move(responses)) => {
            first(responses, request).map(|_| Answer::Acted)
        }
        (Request::DeleteItem { .. }, Body::Delete(responses)) => {
            first(responses, request).map(|()| Answer::Acted)
        }
        (Request::ConvertId { .. }, Body::Converted(responses)) => {
            first(responses, request)?.map(Answer::Converted).ok_or_else(unexpected)
        }
        (Request::GetItem { items, .. }, Body::Items(responses)) => {
            if responses.len() != items.len() {
                return Err(unexpected());
            }
            let one = |mut found: Vec<proto::Item>| found.pop().ok_or_else(unexpected);
            let mut found: Vec<Result<proto::Item>> =
                responses.into_iter().map(|r| succeed(r, request).and_then(one)).collect();
            match found.pop() {
                // A server that is too busy for the one thing that was asked is too busy.
                Some(Err(e)) if found.is_empty() => Err(e),
                last => {
                    found.extend(last);
                    Ok(Answer::Items(found))
                }
            }
        }
        _ => Err(unexpected()),
    }
}

/// The response messages of an envelope of a stream.
pub(crate) fn streamed(body: Body) -> Result<Vec<Response<Streamed>>> {
    match body {
        Body::Streaming(responses) => Ok(responses),
        Body::Fault(fault) => Err(proto::fault_error(&fault, "GetStreamingEvents")),
        body => Err(no_answer("GetStreamingEvents", Some(body.name()))),
    }
}

/// What the server said is an answer to something else, or to nothing; `name` is its element's.
pub(crate) fn no_answer(operation: &str, name: Option<&str>) -> Error {
    let said: String = match name {
        Some(name) => format!(" (<{}>)", name.chars().take(60).collect::<String>()),
        None => String::new(),
    };
    Error::new(ErrorKind::Protocol, format!("the server's answer{said} is no answer to {operation}"))
}

/// What the one response message of an answer carries.
pub(crate) fn first<T>(responses: Vec<Response<T>>, request: &Request) -> Result<T> {
    match responses.into_iter().next() {
        Some(response) => succeed(response, request),
        None => Err(Error::new(
            ErrorKind::Protocol,
            format!("the server's answer to {} is empty", request.operation()),
        )),
    }
}

fn succeed<T>(response: Response<T>, request: &Request) -> Result<T> {
    match response.error(request.operation()) {
        None => Ok(response.body),
        Some(e) => Err(e),
    }
}
