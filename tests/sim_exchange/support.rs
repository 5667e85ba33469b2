//! Asking the simulated Exchange, and reading what it says, by means that share nothing with it but the `xml` crate.

use std::cell::RefCell;
use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use ewsnotify::sim::exchange::{Exchange, Next, Stream};
use ewsnotify::sim::{Answer, Style};
use xml::reader::{EventReader, XmlEvent};

use crate::beside;

pub const ADA: &str = "ada@example.test";
pub const BOB: &str = "bob@example.test";
pub const MAIL: &[u8] = b"From: Zoe <zoe@example.test>\r\nTo: ada@example.test\r\nSubject: Hello\r\n\
    Message-ID: <1@example.test>\r\n\r\nHow are you?\r\n";
pub const ALL_EVENTS: [&str; 7] = [
    "CopiedEvent",
    "CreatedEvent",
    "DeletedEvent",
    "ModifiedEvent",
    "MovedEvent",
    "NewMailEvent",
    "FreeBusyChangedEvent",
];

/// An Exchange with the mailboxes of Ada and Bob, and all that was said.
pub struct Sim {
    pub exchange: Exchange,
    style: Style,
    said: RefCell<Vec<String>>,
    names: RefCell<HashMap<String, String>>,
}

/// An open stream of a simulation.
pub struct Open<'s> {
    sim: &'s Sim,
    pub stream: Option<Stream>,
}

impl Sim {
    pub fn new(style: Style) -> Sim {
        let exchange = Exchange::new(style);
        exchange.add_mailbox(ADA);
        exchange.add_mailbox(BOB);
        let sim = Sim { exchange, style, said: RefCell::default(), names: RefCell::default() };
        for folder in ["root", "msgfolderroot", "inbox", "drafts", "deleteditems", "calendar"] {
            sim.name(folder, &sim.exchange.folder_id(ADA, folder).unwrap());
        }
        for (folder, name) in [("recoverableitemsdeletions", "dumpster"), ("allitems", "allitems")] {
            sim.name(name, &sim.exchange.folder_id(ADA, folder).unwrap());
        }
        sim
    }

    /// Gives an id a name for [`lines`](Self::lines).
    pub fn name(&self, name: &str, id: &str) -> String {
        self.names.borrow_mut().insert(id.to_owned(), name.to_owned());
        id.to_owned()
    }

    /// Asks as Ada.
    pub fn ask(&self, body: &str) -> String {
        self.ask_as(ADA, "", body)
    }

    /// Asks as a user, with more in the header.
    pub fn ask_as(&self, user: &str, header: &str, body: &str) -> String {
        match self.post(user, header, body) {
            Answer::Whole { body, .. } => self.note(&body),
            Answer::Stream(_) => panic!("a stream came for {body}"),
        }
    }

    pub fn post(&self, user: &str, header: &str, body: &str) -> Answer {
        self.exchange.answer(user, request(header, body).as_bytes())
    }

    /// As [`ask`](Self::ask), and the request too must be valid.
    pub fn ask_valid(&self, body: &str) -> String {
        self.note(request("", body).as_bytes());
        self.ask(body)
    }

    pub fn subscribe(&self, folders: &[&str], events: &[&str]) -> String {
        self.subscribe_as(ADA, folders, events)
    }

    /// A streaming subscription; no folders are all folders.
    pub fn subscribe_as(&self, user: &str, folders: &[&str], events: &[&str]) -> String {
        let answer =
            self.ask_as(user, "", &subscribe_request("StreamingSubscriptionRequest", folders, events, ""));
        text(&answer, "SubscriptionId").unwrap_or_else(|| panic!("no subscription: {answer}"))
    }

    pub fn open(&self, ids: &[&str]) -> Open<'_> {
        self.open_as(ADA, ids, 30)
    }

    pub fn open_as(&self, user: &str, ids: &[&str], minutes: u32) -> Open<'_> {
        match self.post(user, "", &stream_request(ids, minutes)) {
            Answer::Stream(stream) => Open { sim: self, stream: Some(stream) },
            Answer::Whole { body, .. } => panic!("no stream: {}", String::from_utf8_lossy(&body)),
        }
    }

    /// The events in an answer, in words: `Moved i2 in drafts, was i1 in inbox`.
    pub fn lines(&self, xml: &str) -> Vec<String> {
        let names = self.names.borrow();
        let name = |id: &String| names.get(id).cloned().unwrap_or_else(|| format!("?{id}"));
        let mut lines: Vec<String> = Vec::new();
        for event in events(xml) {
            let get = |key: &str| event.ids.get(key).map(&name);
            let mut line = event.kind.trim_end_matches("Event").to_owned();
            if let Some(id) = get("ItemId").or_else(|| get("FolderId")) {
                line += &format!(" {id}");
            }
            if let Some(parent) = get("ParentFolderId") {
                line += &format!(" in {parent}");
            }
            if let Some(old) = get("OldItemId").or_else(|| get("OldFolderId")) {
                line += &format!(", was {old} in {}", get("OldParentFolderId").unwrap_or_default());
            }
            if let Some(unread) = event.unread {
                line += &format!(", {unread} unread");
            }
            lines.push(line);
        }
        lines
    }

    pub fn note(&self, body: &[u8]) -> String {
        let text = String::from_utf8(body.to_vec()).expect("answers are UTF-8");
        well_formed(&text);
        if self.style == Style::Exchange && text.contains("<s:Fault>") {
            self.said.borrow_mut().push(fault_as_a_message(&text));
        }
        self.said.borrow_mut().push(text.clone());
        text
    }
}

impl Drop for Sim {
    /// All that was said in Exchange's style is valid by Microsoft's schemas.
    fn drop(&mut self) {
        if !std::thread::panicking() && self.style == Style::Exchange {
            validate(&self.said.borrow());
        }
    }
}

impl Open<'_> {
    /// The next envelope, which must be due.
    pub fn next(&mut self) -> String {
        match self.poll() {
            Next::Envelope(body) => self.sim.note(&body),
            other => panic!("an envelope was due, not {other:?}"),
        }
    }

    /// The last envelope, which must be due.
    pub fn last(&mut self) -> String {
        match self.poll() {
            Next::Last(body) => self.sim.note(&body),
            other => panic!("the last envelope was due, not {other:?}"),
        }
    }

    /// Nothing must be due.
    pub fn idle(&mut self) {
        let next = self.poll();
        assert!(matches!(next, Next::Idle), "nothing was due, but {next:?}");
    }

    /// The events of all envelopes that are due, in words.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Next::Envelope(body) = self.poll() {
            let text = self.sim.note(&body);
            lines.extend(self.sim.lines(&text));
        }
        lines
    }

    /// The socket is cut.
    pub fn cut(mut self) {
        self.sim.exchange.drop_stream(self.stream.take().unwrap());
    }

    fn poll(&mut self) -> Next {
        self.sim.exchange.next_envelope(self.stream.as_mut().unwrap(), Duration::ZERO)
    }
}

pub struct Event {
    pub kind: String,
    pub ids: HashMap<String, String>,
    pub unread: Option<String>,
    pub watermark: Option<String>,
}

/// The events in an answer, StatusEvents too.
pub fn events(xml: &str) -> Vec<Event> {
    let mut found: Vec<Event> = Vec::new();
    let (mut open, mut text) = (false, String::new());
    for event in EventReader::from_str(xml) {
        match event.unwrap() {
            XmlEvent::StartElement { name: n, attributes, .. } => {
                let name = n.local_name;
                text.clear();
                if ALL_EVENTS.contains(&name.as_str()) || name == "StatusEvent" {
                    open = true;
                    let kind = name.clone();
                    found.push(Event { kind, ids: HashMap::new(), unread: None, watermark: None });
                } else if let (true, Some(id)) = (open, attributes.iter().find(|a| a.name.local_name == "Id"))
                {
                    found.last_mut().unwrap().ids.insert(name.clone(), id.value.clone());
                }
            }
            XmlEvent::Characters(t) => text.push_str(&t),
            XmlEvent::EndElement { name: n } => match n.local_name.as_str() {
                "UnreadCount" if open => found.last_mut().unwrap().unread = Some(text.clone()),
                "Watermark" if open => found.last_mut().unwrap().watermark = Some(text.clone()),
                n if found.last().is_some_and(|e| e.kind == n) => open = false,
                _ => {}
            },
            _ => {}
        }
    }
    found
}

/// The text of the first element with that local name.
pub fn text(xml: &str, name: &str) -> Option<String> {
    texts(xml, name).into_iter().next()
}

/// The texts of all elements with that local name.
pub fn texts(xml: &str, name: &str) -> Vec<String> {
    let (mut found, mut inside) = (Vec::new(), None::<String>);
    for event in EventReader::from_str(xml) {
        match event.unwrap() {
            XmlEvent::StartElement { name: n, .. } if n.local_name == name => inside = Some(String::new()),
            XmlEvent::Characters(t) | XmlEvent::Whitespace(t) => {
                if let Some(text) = &mut inside {
                    text.push_str(&t);
                }
            }
            XmlEvent::EndElement { name: n } if n.local_name == name => found.extend(inside.take()),
            _ => {}
        }
    }
    found
}

/// The values of the attribute Id of all elements with that local name.
pub fn ids(xml: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for event in EventReader::from_str(xml) {
        if let XmlEvent::StartElement { name: n, attributes, .. } = event.unwrap()
            && n.local_name == name
        {
            found.extend(attributes.into_iter().find(|a| a.name.local_name == "Id").map(|a| a.value));
        }
    }
    found
}

pub fn code(xml: &str) -> String {
    text(xml, "ResponseCode").unwrap_or_else(|| panic!("no response code in {xml}"))
}

pub fn request(header: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><soap:Header>\
         <t:RequestServerVersion Version=\"Exchange2013_SP1\"/>{header}</soap:Header><soap:Body>{body}</soap:Body>\
         </soap:Envelope>"
    )
}

pub fn subscribe_request(kind: &str, folders: &[&str], events: &[&str], more: &str) -> String {
    let types: String = events.iter().map(|e| format!("<t:EventType>{e}</t:EventType>")).collect();
    let (all, ids) = match folders {
        [] => (" SubscribeToAllFolders=\"true\"", String::new()),
        some => {
            ("", format!("<t:FolderIds>{}</t:FolderIds>", some.iter().map(|f| folder(f)).collect::<String>()))
        }
    };
    format!(
        "<m:Subscribe><m:{kind}{all}>{ids}<t:EventTypes>{types}</t:EventTypes>{more}</m:{kind}></m:Subscribe>"
    )
}

pub fn stream_request(ids: &[&str], minutes: u32) -> String {
    let ids: String = ids.iter().map(|id| format!("<t:SubscriptionId>{id}</t:SubscriptionId>")).collect();
    format!(
        "<m:GetStreamingEvents><m:SubscriptionIds>{ids}</m:SubscriptionIds><m:ConnectionTimeout>{minutes}\
         </m:ConnectionTimeout></m:GetStreamingEvents>"
    )
}

/// Marks a message as read, with these attributes beside.
pub fn mark(item: &str, attributes: &str) -> String {
    format!(
        "<m:UpdateItem ConflictResolution=\"AlwaysOverwrite\" {attributes}><m:ItemChanges><t:ItemChange>\
         <t:ItemId Id=\"{item}\"/><t:Updates><t:SetItemField><t:FieldURI FieldURI=\"message:IsRead\"/><t:Message>\
         <t:IsRead>true</t:IsRead></t:Message></t:SetItemField></t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>"
    )
}

/// A folder by well-known name or id.
pub fn folder(name_or_id: &str) -> String {
    match name_or_id.len() {
        0..=40 => format!("<t:DistinguishedFolderId Id=\"{name_or_id}\"/>"),
        _ => format!("<t:FolderId Id=\"{name_or_id}\"/>"),
    }
}

fn well_formed(xml: &str) {
    for event in EventReader::from_str(xml) {
        event.unwrap_or_else(|e| panic!("not well-formed: {e}: {xml}"));
    }
}

fn validate(said: &[String]) {
    if said.is_empty() {
        return;
    }
    let Some(schema) = beside::schema("ews/schemas/ews-oxws_mit_2016.xsd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (number, text) in said.iter().enumerate() {
        let file = folder.path().join(format!("{number}.xml"));
        std::fs::write(&file, as_the_schema_has_it(text)).unwrap();
        files.push(file);
    }
    for files in files.chunks(200) {
        let out = Command::new("xmllint")
            .args(["--noout", "--nonet", "--schema"])
            .arg(&schema)
            .args(files)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        let wrong: Vec<&str> = words.lines().filter(|l| !l.ends_with("validates")).take(5).collect();
        assert!(out.status.success(), "not valid by the schema: {wrong:#?}\n{}", first_wrong(&words, said));
    }
}

fn first_wrong<'a>(words: &str, said: &'a [String]) -> &'a str {
    let line = words.lines().find(|l| l.ends_with("fails to validate")).unwrap_or_default();
    let number =
        line.split('/').next_back().and_then(|f| f.split('.').next()).and_then(|n| n.parse::<usize>().ok());
    number.and_then(|n| said.get(n)).map_or("", String::as_str)
}

/// A fault, whose inside must be what Exchange writes: no schema has it, but [MS-OXWUMS] 2.2.2.1 shows it. What it says is
/// put into a response message, so that the schema has a word on the code.
fn fault_as_a_message(xml: &str) -> String {
    let mut path: Vec<String> = Vec::new();
    let (mut shape, mut code, mut prefix) = (Vec::new(), String::new(), None);
    for event in EventReader::from_str(xml) {
        match event.unwrap() {
            XmlEvent::StartElement { name, namespace, .. } => {
                let space = name.namespace.as_deref().unwrap_or_default();
                path.push(format!("{}:{}", space.rsplit('/').next().unwrap(), name.local_name));
                if name.local_name == "faultcode" {
                    prefix = namespace.get("a").map(str::to_owned);
                }
                shape.push(path[2.min(path.len() - 1)..].join(" "));
            }
            XmlEvent::Characters(text) if path.last().is_some_and(|p| p == "errors:ResponseCode") => {
                code = text
            }
            XmlEvent::EndElement { .. } => drop(path.pop()),
            _ => {}
        }
    }
    // The envelope's namespace ends in a slash: nothing stands before the colon.
    let inside: Vec<&str> = shape.iter().filter_map(|p| p.strip_prefix(":Fault ")).collect();
    let start =
        [":faultcode", ":faultstring", ":detail", ":detail errors:ResponseCode", ":detail errors:Message"];
    assert!(inside.starts_with(&start), "{inside:?}: {xml}");
    let rest = &inside[start.len()..];
    assert!(rest.first().is_none_or(|first| *first == ":detail types:MessageXml"), "{rest:?}: {xml}");
    let values = ["Value", "LineNumber", "LinePosition", "Violation"];
    for part in rest.iter().skip(1) {
        let name =
            part.strip_prefix(":detail types:MessageXml types:").unwrap_or_else(|| panic!("{part}: {xml}"));
        assert!(values.contains(&name), "{name}: {xml}");
    }
    assert_eq!(text(xml, "faultcode"), Some(format!("a:{code}")), "{xml}");
    assert_eq!(prefix.as_deref(), Some("http://schemas.microsoft.com/exchange/services/2006/types"), "{xml}");
    assert_eq!(text(xml, "faultstring"), text(xml, "Message"), "{xml}");
    format!(
        "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body><GetItemResponse \
         xmlns=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><ResponseMessages>\
         <GetItemResponseMessage ResponseClass=\"Error\"><ResponseCode>{code}</ResponseCode><Items/>\
         </GetItemResponseMessage></ResponseMessages></GetItemResponse></Body></Envelope>"
    )
}

/// The three places where Exchange's own bytes are not as its schema says.
fn as_the_schema_has_it(text: &str) -> String {
    let mut text = text.to_owned();
    // The schema has the response message in the response's place; the documents' examples show it inside, as everywhere.
    text = text.replace("m:GetUserConfigurationResponse ", "m:GetItemResponse ");
    text = text.replace("m:GetUserConfigurationResponse>", "m:GetItemResponse>");
    if text.contains("<m:Notifications>") {
        text = text
            .replace("<m:Notification>", "<t:Notification>")
            .replace("</m:Notification>", "</t:Notification>");
    }
    if let (Some(start), Some(end)) =
        (text.find("<m:ErrorSubscriptionIds>"), text.find("</m:ErrorSubscriptionIds>"))
    {
        let inner = text[start..end].replace("m:SubscriptionId>", "t:SubscriptionId>");
        text.replace_range(start..end, &inner);
    }
    text
}
