//! The wire in XML, there and back: requests as the library writes them and an unbiased reader reads them, answers and streams as
//! servers write them and the library reads them, in pieces.

use std::fmt::Write;

use xml::reader::{EventReader, XmlEvent};

use super::*;
use crate::engine::answer;
use crate::proto::{FrameLimits, Framer, Header, StreamDecoder, read_envelope, write_request};
use forms::Form;

/// One end of a stream, and what is cut into pieces on its way.
#[derive(Default)]
pub(super) struct Pipe {
    framer: Option<Framer>,
    decoder: StreamDecoder,
    /// How many envelopes there were.
    sent: u64,
}

/// A response message of a stream on its way; with `spoil` it does not arrive whole. What the reader makes of it.
pub(super) fn sent(
    pipe: &mut Pipe,
    form: Form,
    rng: &mut fastrand::Rng,
    response: &Response<Streamed>,
    spoil: bool,
) -> Vec<Result<Vec<Response<Streamed>>, Error>> {
    let mut text = streamed(form, response);
    if spoil {
        // One attribute twice: the end is found, and the rest is no XML.
        text = text.replacen("ResponseClass=", "ResponseClass=\"\" ResponseClass=", 1);
    }
    if pipe.sent == 0 && form == Form::Gromox {
        text.insert_str(0, "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n");
    }
    pipe.sent += 1;
    let framer = pipe.framer.get_or_insert_with(|| Framer::new(FrameLimits::default()));
    let mut bytes = text.as_bytes();
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.usize(1..=bytes.len()));
        bytes = rest;
        framer.push(piece);
        while let Some(frame) = framer.next() {
            let read = frame.map_err(Error::from).and_then(|frame| pipe.decoder.decode(frame));
            out.push(read.and_then(|envelope| answer::streamed(envelope.body)));
        }
    }
    out
}

fn streamed(form: Form, response: &Response<Streamed>) -> String {
    let body = &response.body;
    let mut content = String::new();
    if !body.notifications.is_empty() {
        content += "<m:Notifications>";
        body.notifications.iter().for_each(|n| form.notification(&mut content, n));
        content += "</m:Notifications>";
    }
    if !body.error_subscription_ids.is_empty() {
        content += "<m:ErrorSubscriptionIds>";
        for id in &body.error_subscription_ids {
            let _ = write!(content, "<t:SubscriptionId>{id}</t:SubscriptionId>");
        }
        content += "</m:ErrorSubscriptionIds>";
    }
    if let Some(status) = body.status {
        let status = if status == Status::Ok { "OK" } else { "Closed" };
        let _ = write!(content, "<m:ConnectionStatus>{status}</m:ConnectionStatus>");
    }
    let class = if response.class == ResponseClass::Success { "Success" } else { "Error" };
    form.envelope(class, response.code.as_str(), &content)
}

/// The request as a server reads it.
pub(super) fn asked(request: &Request, version: RequestVersion) -> Request {
    let xml = write_request(request, &Header { version, impersonate: None }).expect("it can be written");
    let read = Element::read(&xml).body();
    let ids = |e: &Element| -> Vec<FolderRef> {
        e.all("FolderId").into_iter().map(|f| FolderRef::Id(f.attribute("Id"))).collect()
    };
    let kinds = |e: &Element| -> Vec<NoticeKind> {
        e.all("EventType").iter().map(|t| NoticeKind::of_element(&t.text).expect("a kind")).collect()
    };
    let text = |name: &str| read.all(name).first().map(|e| e.text.clone());
    let number = |name: &str| text(name).and_then(|t| t.parse().ok()).expect("a number");
    let id = || text("SubscriptionId").expect("an id");
    let understood = match read.name.as_str() {
        "GetFolder" => Request::GetFolder { folders: ids(&read) },
        "Subscribe" => {
            let (scope, events) = (Scope::Folders(ids(&read)), kinds(&read));
            let is = |kind: &str| !read.all(kind).is_empty();
            match () {
                () if is("PushSubscriptionRequest") => Request::SubscribePush {
                    scope,
                    events,
                    watermark: text("Watermark"),
                    status_minutes: number("StatusFrequency"),
                    url: PushUrl::new(&text("URL").expect("a URL")),
                },
                () if is("StreamingSubscriptionRequest") => Request::SubscribeStreaming { scope, events },
                () => Request::SubscribePull {
                    scope,
                    events,
                    timeout_minutes: number("Timeout"),
                    watermark: text("Watermark"),
                },
            }
        }
        "GetStreamingEvents" => Request::GetStreamingEvents {
            subscription_ids: read.all("SubscriptionId").into_iter().map(|e| e.text.clone()).collect(),
            minutes: number("ConnectionTimeout"),
        },
        "GetEvents" => Request::GetEvents {
            subscription_id: id(),
            // What stands for none.
            watermark: text("Watermark").filter(|w| w != "AAAAAA=="),
        },
        "Unsubscribe" => Request::Unsubscribe { subscription_id: id() },
        "GetItem" => {
            let items = read.all("ItemId").into_iter();
            let key =
                |e: &Element| e.attributes.iter().find(|(n, _)| n == "ChangeKey").map(|(_, v)| v.clone());
            Request::GetItem {
                items: items.map(|e| Id { id: e.attribute("Id"), change_key: key(e) }).collect(),
                mime: text("IncludeMimeContent").is_some(),
            }
        }
        "SyncFolderItems" => Request::SyncFolderItems {
            folder: ids(&read).pop().expect("a folder"),
            sync_state: text("SyncState"),
            max_changes: number("MaxChangesReturned"),
        },
        other => panic!("{other}"),
    };
    assert_eq!(understood, *request, "{}", String::from_utf8_lossy(&xml));
    understood
}

/// A push as Exchange writes it and the library reads it.
pub(super) fn pushed(message: &pushes::Message) -> pushes::Message {
    let mut content = String::new();
    if let Some(notification) = &message.body {
        Form::Exchange.notification(&mut content, notification);
    }
    let class = if message.class == ResponseClass::Success { "Success" } else { "Error" };
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap11:Envelope xmlns:soap11=\"{SOAP}\"><soap11:Header><t:RequestServerVersion Version=\"Exchange2016\" {T}/></soap11:Header><soap11:Body><m:SendNotification {T} {M}><m:ResponseMessages><m:SendNotificationResponseMessage ResponseClass=\"{class}\"><m:ResponseCode>{}</m:ResponseCode>{content}</m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>",
        message.code.as_str()
    );
    let mut read = crate::proto::read_push(xml.as_bytes()).expect("the library reads it");
    assert_eq!(read.len(), 1);
    read.remove(0)
}

/// The answer as the library reads it, from the server's XML. What went wrong below HTTP stays as it is.
pub(super) fn answered(
    form: Form,
    rng: &mut fastrand::Rng,
    request: &Request,
    result: Result<Answer, Error>,
) -> Result<Answer, Error> {
    let operation = request.operation();
    let (xml, date) = match result {
        Err(error) => match error.code() {
            None => return Err(error),
            Some(code) if rng.bool() => (fault(code, error.retry_after()), None),
            Some(code) => {
                (whole(form, operation, &[message(form, operation, Err((code, error.retry_after())))]), None)
            }
        },
        Ok(answer) => {
            let date = match &answer {
                Answer::Synced { date, .. } | Answer::Subscribed { date, .. } => *date,
                _ => None,
            };
            let contents = contents(form, answer);
            let messages: Vec<String> = contents
                .iter()
                .map(|c| {
                    let c = c.as_ref().map(String::as_str);
                    message(form, operation, c.map_err(|code| (code.as_str(), None)))
                })
                .collect();
            (whole(form, operation, &messages), date)
        }
    };
    match read_envelope(xml.as_bytes()).expect("the library reads it").body {
        crate::proto::Body::Fault(fault) => Err(crate::proto::fault_error(&fault, operation)),
        body => answer::of(request, body, date),
    }
}

/// What stands in each response message, or the code of an error.
fn contents(form: Form, answer: Answer) -> Vec<Result<String, String>> {
    let of = |error: Error| error.code().expect("an error of the server's").to_owned();
    let one = |text: String| vec![Ok(text)];
    match answer {
        Answer::Subscribed { id, watermark, .. } => {
            let mut text = format!("<m:SubscriptionId>{id}</m:SubscriptionId>");
            if let Some(watermark) = watermark {
                let _ = write!(text, "<m:Watermark>{watermark}</m:Watermark>");
            }
            one(text)
        }
        Answer::Folders(folders) => {
            let folder =
                |id| format!("<m:Folders><t:Folder><t:FolderId Id=\"{id}\"/></t:Folder></m:Folders>");
            folders.into_iter().map(|f| f.map(folder).map_err(of)).collect()
        }
        Answer::Events(notification) => {
            let mut text = String::new();
            form.notification(&mut text, &notification);
            one(text)
        }
        Answer::Unsubscribed => one(String::new()),
        Answer::Items(items) => {
            let whole = |i: Item| format!("<m:Items>{}</m:Items>", item(&i));
            items.into_iter().map(|i| i.map(whole).map_err(of)).collect()
        }
        Answer::Synced { page, .. } => {
            let mut text = format!(
                "<m:SyncState>{}</m:SyncState><m:IncludesLastItemInRange>{}</m:IncludesLastItemInRange><m:Changes>",
                page.sync_state.expect("a state"),
                page.includes_last
            );
            for change in &page.changes {
                let _ = match change {
                    SyncChange::Create(i) => write!(text, "<t:Create>{}</t:Create>", item(i)),
                    SyncChange::Update(i) => write!(text, "<t:Update>{}</t:Update>", item(i)),
                    SyncChange::Delete(id) => write!(text, "<t:Delete>{}</t:Delete>", item_id(id)),
                    SyncChange::ReadFlagChange { id, is_read } => write!(
                        text,
                        "<t:ReadFlagChange>{}<t:IsRead>{is_read}</t:IsRead></t:ReadFlagChange>",
                        item_id(id)
                    ),
                };
            }
            one(text + "</m:Changes>")
        }
        other => panic!("{other:?}"),
    }
}

fn item(item: &Item) -> String {
    let mut text = format!("<t:Message>{}", item_id(&item.id));
    for (name, value) in [("DateTimeReceived", &item.received), ("DateTimeCreated", &item.created)] {
        if let Some(value) = value {
            let _ = write!(text, "<t:{name}>{value}</t:{name}>");
        }
    }
    text + "</t:Message>"
}

fn item_id(id: &Id) -> String {
    match &id.change_key {
        Some(key) => format!("<t:ItemId Id=\"{}\" ChangeKey=\"{key}\"/>", id.id),
        None => format!("<t:ItemId Id=\"{}\"/>", id.id),
    }
}

fn message(form: Form, operation: &str, content: Result<&str, (&str, Option<Duration>)>) -> String {
    let name = match form {
        Form::Gromox if operation == "GetEvents" => "x".to_owned(),
        _ => format!("{operation}ResponseMessage"),
    };
    match content {
        Ok(content) => format!(
            "<m:{name} ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>{content}</m:{name}>"
        ),
        Err((code, wait)) => {
            // As Exchange does: what an answer has is there, and empty.
            let empty = match operation {
                "SyncFolderItems" => {
                    "<m:SyncState/><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>"
                }
                "GetItem" => "<m:Items/>",
                "GetFolder" => "<m:Folders/>",
                _ => "",
            };
            format!(
                "<m:{name} ResponseClass=\"Error\"><m:MessageText>scripted</m:MessageText><m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>{}{empty}</m:{name}>",
                back_off("m", wait)
            )
        }
    }
}

fn back_off(prefix: &str, wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| {
        format!(
            "<{prefix}:MessageXml><t:Value Name=\"BackOffMilliseconds\">{}</t:Value></{prefix}:MessageXml>",
            wait.as_millis()
        )
    })
}

const T: &str = "xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"";
const M: &str = "xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"";
const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

fn whole(form: Form, operation: &str, messages: &[String]) -> String {
    let prefix = if form == Form::Gromox { "SOAP" } else { "s" };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><{prefix}:Envelope xmlns:{prefix}=\"{SOAP}\"><{prefix}:Header><t:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" {T}/></{prefix}:Header><{prefix}:Body><m:{operation}Response {M} {T}><m:ResponseMessages>{}</m:ResponseMessages></m:{operation}Response></{prefix}:Body></{prefix}:Envelope>",
        messages.concat()
    )
}

fn fault(code: &str, wait: Option<Duration>) -> String {
    format!(
        "<s:Envelope xmlns:s=\"{SOAP}\"><s:Body><s:Fault><faultcode xmlns:a=\"http://schemas.microsoft.com/exchange/services/2006/types\">a:{code}</faultcode><faultstring>scripted</faultstring><detail><e:ResponseCode xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">{code}</e:ResponseCode>{}</detail></s:Fault></s:Body></s:Envelope>",
        back_off("t", wait).replacen("<t:MessageXml>", &format!("<t:MessageXml {T}>"), 1)
    )
}

/// An element with all that is in it, by local names.
#[derive(Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn read(xml: &[u8]) -> Element {
        let mut open = vec![Element::default()];
        for event in EventReader::new(xml) {
            match event.expect("well-formed") {
                XmlEvent::StartElement { name, attributes, .. } => {
                    let attributes = attributes.into_iter().map(|a| (a.name.local_name, a.value)).collect();
                    open.push(Element { name: name.local_name, attributes, ..Element::default() });
                }
                XmlEvent::Characters(text) => open.last_mut().expect("a parent").text += &text,
                XmlEvent::EndElement { .. } => {
                    let done = open.pop().expect("it is open");
                    open.last_mut().expect("a parent").children.push(done);
                }
                _ => {}
            }
        }
        open.pop().and_then(|mut document| document.children.pop()).expect("a root")
    }

    /// What is in the SOAP body.
    fn body(self) -> Element {
        let body = self.children.into_iter().find(|e| e.name == "Body").expect("a body");
        body.children.into_iter().next().expect("an operation")
    }

    fn all(&self, name: &str) -> Vec<&Element> {
        let below = self.children.iter().flat_map(|e| e.all(name));
        self.children.iter().filter(|e| e.name == name).chain(below).collect()
    }

    fn attribute(&self, name: &str) -> String {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).expect("an attribute")
    }
}
