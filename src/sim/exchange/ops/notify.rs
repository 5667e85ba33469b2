//! Subscribe, GetStreamingEvents, GetEvents, Unsubscribe.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::super::Style;
use super::super::back_ends;
use super::super::ids;
use super::super::note::{Note, Watched, element};
use super::super::push::Hook;
use super::super::stream::{self, Stream};
use super::super::subscription::Mode;
use super::super::tree::{Node, Ns, Violation};
use super::super::write::{self, Refusal};
use super::{Call, Fail, Outcome, list};
use crate::event::EventKind;

const MAX_IDS: usize = 200;

pub(super) fn subscribe(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    let [ask] = request.children.as_slice() else {
        return Err(Violation("The element 'Subscribe' has invalid content.".into()).into());
    };
    let allowed: &[&str] = match ask.name.as_str() {
        _ if ask.ns != Ns::Messages => &[],
        "StreamingSubscriptionRequest" => &["FolderIds", "!EventTypes"],
        "PullSubscriptionRequest" => &["FolderIds", "!EventTypes", "Watermark", "!Timeout"],
        "PushSubscriptionRequest" => {
            &["FolderIds", "!EventTypes", "Watermark", "!StatusFrequency", "!URL", "CallerData"]
        }
        _ => &[],
    };
    if allowed.is_empty() {
        return Err(
            Violation(format!("The element 'Subscribe' has invalid child element '{}'.", ask.name)).into()
        );
    }
    ask.sequence(Ns::Types, allowed)?;
    if ask.name == "StreamingSubscriptionRequest" {
        call.since("Exchange2010_SP1", &ask.name)?;
    }
    if ask.attribute("SubscribeToAllFolders").is_some() {
        call.since("Exchange2010", "SubscribeToAllFolders")?;
    }
    if ask.need("EventTypes")?.children.iter().any(|kind| kind.text() == "FreeBusyChangedEvent") {
        call.since("Exchange2010", "FreeBusyChangedEvent")?;
    }
    let kinds = event_types(ask.need("EventTypes")?)?;
    let minutes = match ask.child("Timeout").or_else(|| ask.child("StatusFrequency")) {
        Some(node) => number(node, 1, 1440)?,
        None => 0,
    };
    let (key, watched) = watched(call, ask)?;
    let mailbox = call.mailbox(&key)?;
    let mut from = mailbox.last_event();
    if let Some(mark) = ask.child_text("Watermark") {
        from = ids::parse_watermark(mailbox.guid, mark)
            .filter(|e| mailbox.remembers(*e))
            .ok_or_else(bad_watermark)?;
    }
    let guid = mailbox.guid;
    if call.world.machine_of(&key).group != call.machine.group {
        return Err(back_ends::wrong_group().into());
    }
    if call.world.subscriptions_of(&key).len() >= call.world.settings.max_subscriptions {
        let text = "You have exceeded the available subscriptions for your account. Remove unnecessary subscriptions and \
                    try your request again.";
        return Err(Refusal::new("ErrorExceededSubscriptionCount", text).into());
    }
    let mut hook = None;
    let mode = match ask.name.as_str() {
        "StreamingSubscriptionRequest" => Mode::Streaming,
        "PullSubscriptionRequest" => Mode::Pull { minutes, from },
        _ => {
            let url = ask.child_text("URL").unwrap_or_default();
            if !(url.starts_with("http://") || url.starts_with("https://")) || url.len() >= 2083 {
                return Err(Refusal::new(
                    "ErrorInvalidPushSubscriptionUrl",
                    "The push subscription URL is invalid.",
                )
                .into());
            }
            hook = Some((url.to_owned(), minutes)).filter(|_| call.style == Style::Exchange);
            Mode::Push
        }
    };
    let user = call.user.clone();
    let id = call.world.subscribe(&user, &key, watched, kinds, mode).ok_or_else(super::no_mailbox)?;
    if let Some(made) = call.world.subscriptions.get_mut(&id) {
        made.server.clone_from(&call.machine.server);
    }
    if let Some((url, minutes)) = hook {
        let now = call.world.now();
        call.world.hook(&id, Hook::new(&url, minutes, from, now));
    }
    let mut content = format!("<m:SubscriptionId>{id}</m:SubscriptionId>");
    if mode != Mode::Streaming && call.style == Style::Exchange {
        content.push_str(&format!("<m:Watermark>{}</m:Watermark>", ids::watermark(guid, from)));
    }
    Ok(Outcome::Messages(write::message(call.operation, Ok(content))))
}

pub(super) fn get_streaming_events(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!SubscriptionIds", "!ConnectionTimeout"])?;
    let asked = list(request, "SubscriptionIds")?;
    request.need("SubscriptionIds")?.sequence(Ns::Types, &["!*SubscriptionId"])?;
    let minutes = number(request.need("ConnectionTimeout")?, 1, 30)?;
    if asked.len() > MAX_IDS {
        let text = format!("At most {MAX_IDS} subscription ids can be asked for at a time.");
        return Err(Refusal::new("ErrorInvalidArgument", &text).into());
    }
    // Who impersonates is charged nothing: the mailbox is.
    let open = call.world.streams.values().filter(|open| open.charged == call.acting).count();
    if call.world.settings.max_streams.is_some_and(|most| open >= most) {
        let text = "You have exceeded the available concurrent connections for your account. Try again once your other \
                    requests have completed.";
        return Err(Refusal::new("ErrorExceededConnectionCount", text).into());
    }
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut refusal = None;
    for node in asked {
        let id = node.text().to_owned();
        if good.contains(&id) || bad.contains(&id) {
            continue;
        }
        match readable(call, &id, |mode| mode == Mode::Streaming) {
            Ok(()) => good.push(id),
            Err(why) if call.style == Style::Gromox && why.code == "ErrorInvalidId" => {
                return Err(Fail::Fault(Refusal::new("SOAP:Client", "E-3201: invalid subscription ID")));
            }
            Err(why) => {
                refusal.get_or_insert(why);
                bad.push(id);
            }
        }
    }
    if call.style == Style::Gromox {
        refusal = refusal.map(|_| Refusal::new("ErrorInvalidSubscription", "Subscription is invalid."));
    }
    let life = call.world.settings.stream_life.unwrap_or(Duration::from_secs(u64::from(minutes) * 60));
    let now = call.world.now();
    let ends = now.checked_add(life).unwrap_or(now);
    let refusal = refusal.unwrap_or_else(stream::not_found);
    let charged = call.acting.clone();
    Ok(Outcome::Stream(Stream::open(call.world, &charged, good, bad, refusal, ends)))
}

pub(super) fn get_events(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!SubscriptionId", "!Watermark"])?;
    let id = request.need("SubscriptionId")?.text().to_owned();
    let mark = request.need("Watermark")?.text().to_owned();
    if let Err(why) = readable(call, &id, |mode| matches!(mode, Mode::Pull { .. })) {
        return Err(match (call.style, why.code.as_str()) {
            (Style::Gromox, "ErrorInvalidId") => {
                Fail::Fault(Refusal::new("SOAP:Client", "E-3201: invalid subscription ID"))
            }
            (Style::Gromox, _) => {
                Refusal::new("ErrorInvalidSubscription", "E-3202: invalid subscription").into()
            }
            _ => why.into(),
        });
    }
    call.world.keep_alive(&id);
    match call.style {
        Style::Exchange => pull_by_watermark(call, &id, &mark),
        Style::Gromox => Ok(pull_by_queue(call, &id)),
    }
}

pub(super) fn unsubscribe(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!SubscriptionId"])?;
    let id = request.need("SubscriptionId")?.text().to_owned();
    readable(call, &id, |mode| mode != Mode::Push)?;
    if call.world.subscriptions.get(&id).is_some_and(|s| s.stream.is_some()) {
        call.world.unsubscribed.insert(id.clone());
    }
    call.world.lose(&id);
    Ok(Outcome::Messages(write::message(call.operation, Ok(String::new()))))
}

/// Whether an id names a subscription of the right kind that belongs to the caller.
fn readable(call: &Call<'_>, id: &str, right: impl Fn(Mode) -> bool) -> Result<(), Refusal> {
    if !ids::is_subscription_id(call.style, id) {
        return Err(match call.style {
            Style::Exchange => Refusal::new("ErrorInvalidSubscription", "Subscription is invalid."),
            Style::Gromox => Refusal::new("ErrorInvalidId", "invalid subscription ID"),
        });
    }
    let found = call.world.subscriptions.get(id).filter(|s| s.server == call.machine.server);
    let Some(subscription) = found else {
        return Err(match call.style {
            Style::Exchange if call.world.moved.contains(id) => back_ends::has_moved(),
            Style::Exchange => stream::not_found(),
            Style::Gromox => Refusal::new("ErrorSubscriptionNotFound", "Subscription not found"),
        });
    };
    if subscription.owner != call.user {
        let text = "The caller does not have access to the subscription.";
        return Err(Refusal::new("ErrorSubscriptionAccessDenied", text));
    }
    match right(subscription.mode) {
        true => Ok(()),
        false if subscription.mode == Mode::Push => Err(Refusal::new(
            "ErrorInvalidPullSubscriptionId",
            "The subscription is not a pull subscription.",
        )),
        false => Err(Refusal::new("ErrorInvalidSubscription", "Subscription is invalid.")),
    }
}

/// Exchange: the mailbox's table of events after the watermark, as often as it is asked for.
fn pull_by_watermark(call: &mut Call<'_>, id: &str, mark: &str) -> Result<Outcome, Fail> {
    let batch = call.world.settings.batch;
    let Some(subscription) = call.world.subscriptions.get(id) else { return Err(stream::not_found().into()) };
    let mailbox = call.world.mailboxes.get(&subscription.mailbox).ok_or_else(super::no_mailbox)?;
    let Mode::Pull { from, .. } = subscription.mode else { return Err(stream::not_found().into()) };
    let after = ids::parse_watermark(mailbox.guid, mark);
    let after = after.filter(|e| *e >= from && mailbox.remembers(*e)).ok_or_else(bad_watermark)?;
    let skip = mailbox.table.partition_point(|note| note.seq <= after);
    let wanted = mailbox.table.iter().skip(skip).filter(|n| !subscription.deaf && subscription.wants(n));
    let mut notes: Vec<Note> = wanted.take(batch + 1).cloned().collect();
    let more = notes.len() > batch;
    notes.truncate(batch);
    let events = match notes.as_slice() {
        [] => {
            let to = if subscription.deaf { after } else { mailbox.last_event() };
            format!(
                "<t:StatusEvent>{}</t:StatusEvent>",
                write::leaf("Watermark", &ids::watermark(mailbox.guid, to))
            )
        }
        notes => write::events(call.style, mailbox.guid, notes, true, ""),
    };
    let content = format!(
        "<m:Notification><t:SubscriptionId>{id}</t:SubscriptionId><t:PreviousWatermark>{mark}</t:PreviousWatermark>\
         <t:MoreEvents>{more}</t:MoreEvents>{events}</m:Notification>"
    );
    call.world.record(id, &notes, 0);
    Ok(Outcome::Messages(write::message(call.operation, Ok(content))))
}

/// gromox: what waits is told once. There are no watermarks.
fn pull_by_queue(call: &mut Call<'_>, id: &str) -> Outcome {
    let notes = call.world.take(id, 0);
    let subscription = call.world.subscriptions.get(id);
    let more = subscription.is_some_and(|s| !s.queue.is_empty());
    let mailbox = subscription.and_then(|s| call.world.mailboxes.get(&s.mailbox));
    let guid = mailbox.map(|m| m.guid).unwrap_or_default();
    let events = match notes.as_slice() {
        [] => "<t:StatusEvent/>".to_owned(),
        notes => write::events(call.style, guid, notes, false, ""),
    };
    let content = format!(
        "<m:Notification><t:SubscriptionId>{id}</t:SubscriptionId><t:MoreEvents>{more}</t:MoreEvents>{events}\
         </m:Notification>"
    );
    Outcome::Messages(write::named_message("x", None, &content))
}

fn event_types(node: &Node) -> Result<Vec<EventKind>, Violation> {
    node.sequence(Ns::Types, &["!*EventType"])?;
    let named = |n: &Node| EventKind::MAILBOX.into_iter().find(|k| element(*k) == n.text());
    node.children
        .iter()
        .map(|n| {
            named(n).ok_or_else(|| Violation(format!("The 'EventType' element is invalid: '{}'.", n.text())))
        })
        .collect()
}

/// The mailbox and the folders that a subscription is for.
fn watched(call: &Call<'_>, ask: &Node) -> Result<(String, Watched), Fail> {
    let all = ask.attribute("SubscribeToAllFolders").is_some_and(|v| matches!(v, "true" | "1"));
    let invalid = |text: &str| Fail::from(Refusal::new("ErrorInvalidSubscriptionRequest", text));
    match (ask.child("FolderIds"), all) {
        (Some(_), true) => Err(invalid("FolderIds cannot be given with SubscribeToAllFolders.")),
        (None, false) => Err(invalid("Neither folders nor SubscribeToAllFolders were given.")),
        (None, true) => Ok((call.acting.clone(), Watched::All)),
        (Some(ids), false) => {
            if ids.children.is_empty() {
                return Err(Violation("The element 'FolderIds' has incomplete content.".into()).into());
            }
            let mut folders = BTreeSet::new();
            let mut mailbox: Option<String> = None;
            for node in &ids.children {
                let (key, folder) = match call.folder(node) {
                    Err(Fail::Message(r))
                        if call.style == Style::Gromox && r.code == "ErrorInvalidIdMalformed" =>
                    {
                        return Err(Fail::Fault(Refusal::new("ErrorInvalidId", "E-3216: invalid ID type")));
                    }
                    found => found?,
                };
                if mailbox.get_or_insert_with(|| key.clone()) != &key {
                    return Err(invalid("Subscriptions are not supported for folders of several mailboxes."));
                }
                folders.insert(folder);
            }
            let public = mailbox.as_ref().is_some_and(|key| call.world.is_public(key));
            if public && folders.len() > 1 {
                return Err(invalid("Subscriptions are not supported for several public folders."));
            }
            Ok((mailbox.unwrap_or_default(), Watched::Folders(folders)))
        }
    }
}

fn number(node: &Node, least: u32, most: u32) -> Result<u32, Violation> {
    node.text().parse().ok().filter(|n| (least..=most).contains(n)).ok_or_else(|| {
        Violation(format!("The '{}' element is invalid - The value '{}' is invalid.", node.name, node.text()))
    })
}

fn bad_watermark() -> Refusal {
    Refusal::new("ErrorInvalidWatermark", "The watermark used for creating this subscription was not found.")
}
