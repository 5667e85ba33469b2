//! The bytes of answers: envelopes, response messages, faults, events, as Exchange or gromox write them. By hand, so
//! that a bug of the library's own writer or reader cannot hide here.

use std::time::SystemTime;

use super::super::Style;
use super::ids::{self, Guid};
use super::note::{Note, Thing, element};

const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema";
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
const TYPES: &str = super::tree::TYPES;
const MESSAGES: &str = super::tree::MESSAGES;
const ERRORS: &str = "http://schemas.microsoft.com/exchange/services/2006/errors";
const SOAP: &str = super::tree::SOAP;

/// Why something was refused, for a response message or a fault.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) text: String,
    /// Pairs of MessageXml.
    pub(super) values: Vec<(String, String)>,
}

impl Refusal {
    pub(super) fn new(code: &str, text: &str) -> Refusal {
        Refusal { code: code.to_owned(), text: text.to_owned(), values: Vec::new() }
    }
}

/// Text with what XML needs escaped. Characters that XML does not know go out as references, as Exchange does it.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => {
                out.push_str(&format!("&#x{:X};", c as u32))
            }
            c => out.push(c),
        }
    }
    out
}

/// `<t:Name>text</t:Name>`, escaped.
pub(super) fn leaf(name: &str, text: &str) -> String {
    format!("<t:{name}>{}</t:{name}>", escape(text))
}

/// A date as this kind of server writes it.
pub(super) fn date(style: Style, time: SystemTime) -> String {
    match style {
        Style::Exchange => humantime::format_rfc3339_seconds(time).to_string(),
        Style::Gromox => humantime::format_rfc3339_nanos(time).to_string(),
    }
}

/// A response message. `name` is the operation's.
pub(super) fn message(name: &str, result: Result<String, (Refusal, &str)>) -> String {
    match result {
        Ok(content) => named_message(&format!("{name}ResponseMessage"), None, &content),
        Err((refusal, empty)) => named_message(&format!("{name}ResponseMessage"), Some(&refusal), empty),
    }
}

pub(super) fn named_message(name: &str, refusal: Option<&Refusal>, content: &str) -> String {
    let head = match refusal {
        None => " ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>".to_owned(),
        Some(r) => {
            let values = match r.values.as_slice() {
                [] => String::new(),
                values => format!("<m:MessageXml>{}</m:MessageXml>", message_values(values)),
            };
            format!(
                " ResponseClass=\"Error\"><m:MessageText>{}</m:MessageText><m:ResponseCode>{}</m:ResponseCode>\
                 <m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>{values}",
                escape(&r.text),
                escape(&r.code)
            )
        }
    };
    format!("<m:{name}{head}{content}</m:{name}>")
}

/// The inside of an operation's response: its messages.
pub(super) fn messages(messages: &str) -> String {
    format!("<m:ResponseMessages>{messages}</m:ResponseMessages>")
}

/// A whole answer.
pub(super) fn envelope(style: Style, operation: &str, inner: &str) -> Vec<u8> {
    match style {
        Style::Exchange => format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"{SOAP}\"><s:Header><h:ServerVersionInfo \
             {} xmlns:h=\"{TYPES}\" xmlns=\"{TYPES}\" xmlns:xsd=\"{SCHEMA}\" xmlns:xsi=\"{INSTANCE}\"/></s:Header>\
             <s:Body xmlns:xsi=\"{INSTANCE}\" xmlns:xsd=\"{SCHEMA}\"><m:{operation}Response xmlns:m=\"{MESSAGES}\" \
             xmlns:t=\"{TYPES}\">{inner}</m:{operation}Response></s:Body></s:Envelope>",
            version(style)
        ),
        Style::Gromox => format!("{GROMOX_DECLARATION}{}", gromox(operation, inner)),
    }
    .into_bytes()
}

/// An envelope of a stream. Only gromox's first has a declaration.
pub(super) fn stream_envelope(style: Style, first: bool, message: &str) -> Vec<u8> {
    let inner = messages(message);
    match style {
        Style::Exchange => format!(
            "<Envelope xmlns=\"{SOAP}\"><soap11:Header xmlns:soap11=\"{SOAP}\"><ServerVersionInfo {} xmlns=\"{TYPES}\" />\
             </soap11:Header><soap11:Body xmlns:soap11=\"{SOAP}\"><m:GetStreamingEventsResponse xmlns:xsd=\"{SCHEMA}\" \
             xmlns:xsi=\"{INSTANCE}\" xmlns:t=\"{TYPES}\" xmlns:m=\"{MESSAGES}\">{inner}</m:GetStreamingEventsResponse>\
             </soap11:Body></Envelope>",
            version(style)
        ),
        Style::Gromox => {
            let declaration = if first { GROMOX_DECLARATION } else { "" };
            format!("{declaration}{}", gromox("GetStreamingEvents", &inner))
        }
    }
    .into_bytes()
}

/// What Exchange sends to the URL of a push subscription; with a code, an error.
pub(super) fn push(code: Option<&str>, inside: &str) -> Vec<u8> {
    let refusal = code.map(|code| Refusal::new(code, "An error occurred while reading events."));
    let message = named_message("SendNotificationResponseMessage", refusal.as_ref(), inside);
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap11:Envelope xmlns:soap11=\"{SOAP}\"><soap11:Header>\
         <t:RequestServerVersion Version=\"Exchange2016\" xmlns:t=\"{TYPES}\"/></soap11:Header><soap11:Body>\
         <m:SendNotification xmlns:t=\"{TYPES}\" xmlns:m=\"{MESSAGES}\">{}</m:SendNotification></soap11:Body>\
         </soap11:Envelope>",
        messages(&message)
    )
    .into_bytes()
}

/// The notification in it.
pub(super) fn push_notification(id: &str, previous: &str, more: bool, events: &str) -> String {
    format!(
        "<m:Notification><t:SubscriptionId>{id}</t:SubscriptionId><t:PreviousWatermark>{previous}</t:PreviousWatermark>\
         <t:MoreEvents>{more}</t:MoreEvents>{events}</m:Notification>"
    )
}

/// A SOAP fault.
pub(super) fn fault(style: Style, refusal: &Refusal) -> Vec<u8> {
    let (code, text) = (escape(&refusal.code), escape(&refusal.text));
    match style {
        Style::Exchange => {
            let values = match refusal.values.as_slice() {
                [] => String::new(),
                values => {
                    format!("<t:MessageXml xmlns:t=\"{TYPES}\">{}</t:MessageXml>", fault_values(values))
                }
            };
            format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"{SOAP}\"><s:Body><s:Fault>\
                 <faultcode xmlns:a=\"{TYPES}\">a:{code}</faultcode><faultstring xml:lang=\"en-US\">{text}</faultstring>\
                 <detail><e:ResponseCode xmlns:e=\"{ERRORS}\">{code}</e:ResponseCode>\
                 <e:Message xmlns:e=\"{ERRORS}\">{text}</e:Message>{values}</detail></s:Fault></s:Body></s:Envelope>"
            )
        }
        Style::Gromox => format!(
            "<SOAP:Envelope xmlns:SOAP=\"{SOAP}\" xmlns:xsi=\"{INSTANCE}\" xmlns:xsd=\"{SCHEMA}\"><SOAP:Header/>\
             <SOAP:Body><SOAP:Fault><faultcode xsi:type=\"xsd:string\">{code}</faultcode>\
             <faultstring xsi:type=\"xsd:string\">{text}</faultstring></SOAP:Fault></SOAP:Body></SOAP:Envelope>"
        ),
    }
    .into_bytes()
}

/// Events of a subscription. `marks` gives each its watermark (pull of Exchange); `blank` is what stands before `/>`.
pub(super) fn events(style: Style, mailbox: Guid, notes: &[Note], marks: bool, blank: &str) -> String {
    let mut out = String::new();
    for note in notes {
        let name = element(note.kind);
        out.push_str(&format!("<t:{name}>"));
        if marks {
            out.push_str(&leaf("Watermark", &ids::watermark(mailbox, note.seq)));
        }
        out.push_str(&leaf("TimeStamp", &date(style, note.at)));
        thing(&mut out, style, mailbox, "", note.thing, note.legacy, blank);
        folder(&mut out, style, mailbox, "ParentFolderId", note.parent, blank);
        if let Some((old, parent)) = note.old {
            thing(&mut out, style, mailbox, "Old", old, note.legacy, blank);
            folder(&mut out, style, mailbox, "OldParentFolderId", parent, blank);
        }
        if let Some(unread) = note.unread {
            out.push_str(&leaf("UnreadCount", &unread.to_string()));
        }
        out.push_str(&format!("</t:{name}>"));
    }
    out
}

const GROMOX_DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

fn version(style: Style) -> &'static str {
    match style {
        Style::Exchange => {
            "MajorVersion=\"15\" MinorVersion=\"1\" MajorBuildNumber=\"2507\" MinorBuildNumber=\"39\" \
             Version=\"V2017_07_11\""
        }
        Style::Gromox => {
            "MajorVersion=\"15\" MinorVersion=\"0\" MajorBuildNumber=\"847\" MinorBuildNumber=\"4040\" \
             Version=\"V2017_07_11\""
        }
    }
}

fn gromox(operation: &str, inner: &str) -> String {
    format!(
        "<SOAP:Envelope xmlns:SOAP=\"{SOAP}\" xmlns:xsi=\"{INSTANCE}\" xmlns:xsd=\"{SCHEMA}\"><SOAP:Header>\
         <t:ServerVersionInfo xmlns:t=\"{TYPES}\" {}/></SOAP:Header><SOAP:Body><m:{operation}Response \
         xmlns:m=\"{MESSAGES}\" xmlns:t=\"{TYPES}\">{inner}</m:{operation}Response></SOAP:Body></SOAP:Envelope>",
        version(Style::Gromox)
    )
}

fn thing(out: &mut String, style: Style, mailbox: Guid, old: &str, thing: Thing, legacy: bool, blank: &str) {
    match thing {
        Thing::Item { folder, item } => {
            let id = ids::item_id(style, mailbox, folder, item);
            let id = if legacy { ids::to_legacy(&id) } else { id };
            id_element(out, style, &format!("{old}ItemId"), &id, ids::ITEM_STUB, blank);
        }
        Thing::Folder(number) => folder(out, style, mailbox, &format!("{old}FolderId"), number, blank),
    }
}

fn folder(out: &mut String, style: Style, mailbox: Guid, name: &str, number: u64, blank: &str) {
    id_element(out, style, name, &ids::folder_id(style, mailbox, number), ids::FOLDER_STUB, blank);
}

fn id_element(out: &mut String, style: Style, name: &str, id: &str, stub: &str, blank: &str) {
    match style {
        Style::Exchange => out.push_str(&format!("<t:{name} Id=\"{id}\" ChangeKey=\"{stub}\"{blank}/>")),
        Style::Gromox => out.push_str(&format!("<t:{name} Id=\"{id}\"/>")),
    }
}

fn message_values(values: &[(String, String)]) -> String {
    values.iter().map(|(n, v)| format!("<t:Value Name=\"{}\">{}</t:Value>", escape(n), escape(v))).collect()
}

/// In faults the particulars of a schema violation are elements of their own.
fn fault_values(values: &[(String, String)]) -> String {
    let own = ["LineNumber", "LinePosition", "Violation"];
    values
        .iter()
        .map(|(n, v)| match own.contains(&n.as_str()) {
            true => leaf(n, v),
            false => message_values(&[(n.clone(), v.clone())]),
        })
        .collect()
}
