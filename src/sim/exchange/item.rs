//! An item: its MIME, and the fields that Exchange would read out of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mailparse::{DispositionType, MailAddr, MailHeaderMap, ParsedMail};

/// An item in a folder. Its number is the change that made it, so it rises with time within a mailbox.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) fields: Arc<Fields>,
    pub(super) is_read: bool,
    pub(super) draft: bool,
    pub(super) received: SystemTime,
    pub(super) created: SystemTime,
    pub(super) modified: SystemTime,
    /// The last change of its content.
    pub(super) changed: u64,
    /// The last change of its read flag.
    pub(super) flagged: u64,
}

impl Item {
    pub(super) fn last_change(&self) -> u64 {
        self.changed.max(self.flagged).max(self.number)
    }
}

/// Which kind of element it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    #[default]
    Message,
    Calendar,
    Contact,
    Task,
}

impl Class {
    pub(super) fn element(self) -> &'static str {
        match self {
            Class::Message => "Message",
            Class::Calendar => "CalendarItem",
            Class::Contact => "Contact",
            Class::Task => "Task",
        }
    }

    pub(super) fn of_element(name: &str) -> Option<Class> {
        match name {
            "Message" | "Item" => Some(Class::Message),
            "CalendarItem" => Some(Class::Calendar),
            "Contact" => Some(Class::Contact),
            "Task" => Some(Class::Task),
            _ => None,
        }
    }

    pub(super) fn item_class(self) -> &'static str {
        match self {
            Class::Message => "IPM.Note",
            Class::Calendar => "IPM.Appointment",
            Class::Contact => "IPM.Contact",
            Class::Task => "IPM.Task",
        }
    }
}

/// A name and an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) name: String,
    pub(super) email: String,
}

/// What is known of an attachment; its content is in the MIME, at this leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) leaf: usize,
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) content_id: Option<String>,
    pub(super) size: usize,
    pub(super) inline: bool,
}

/// The content of an item.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) class: Class,
    pub(super) mime: Arc<[u8]>,
    pub(super) subject: String,
    pub(super) from: Option<Address>,
    pub(super) sender: Option<Address>,
    pub(super) to: Vec<Address>,
    pub(super) cc: Vec<Address>,
    pub(super) bcc: Vec<Address>,
    pub(super) message_id: Option<String>,
    pub(super) in_reply_to: Option<String>,
    pub(super) references: Option<String>,
    pub(super) sent: Option<SystemTime>,
    /// The sender asks to be told when it is read.
    pub(super) wants_receipt: bool,
    pub(super) body: String,
    pub(super) body_is_html: bool,
    pub(super) importance: Option<String>,
    pub(super) categories: Vec<String>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) calendar: Option<Calendar>,
}

/// What a calendar item has beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    pub(super) location: String,
    pub(super) free_busy: String,
    pub(super) all_day: bool,
    pub(super) uid: String,
}

impl Fields {
    /// The size as a server counts it: the message and what the store adds.
    pub(super) fn size(&self) -> usize {
        self.mime.len() + 256
    }

    /// Reads a message. What is not MIME at all becomes a body.
    pub(super) fn from_mime(mime: &[u8]) -> Fields {
        let mut fields = Fields { mime: mime.into(), ..Fields::default() };
        let Ok(mail) = mailparse::parse_mail(mime) else {
            fields.body = String::from_utf8_lossy(mime).into_owned();
            return fields;
        };
        let text = |name| mail.headers.get_first_value(name);
        fields.subject = text("Subject").unwrap_or_default();
        fields.from = addresses(&mail, "From").into_iter().next();
        fields.sender = addresses(&mail, "Sender").into_iter().next().or_else(|| fields.from.clone());
        fields.to = addresses(&mail, "To");
        fields.cc = addresses(&mail, "Cc");
        fields.bcc = addresses(&mail, "Bcc");
        fields.message_id = text("Message-ID").map(|id| id.trim().to_owned());
        fields.in_reply_to = text("In-Reply-To").map(|id| id.trim().to_owned());
        fields.references = text("References").map(|id| id.trim().to_owned());
        fields.sent = text("Date").and_then(|d| mailparse::dateparse(&d).ok()).and_then(from_unix);
        fields.wants_receipt = text("Disposition-Notification-To").is_some();
        fields.importance = text("Importance").and_then(|i| {
            ["Low", "Normal", "High"]
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(i.trim()))
                .map(str::to_owned)
        });
        for (leaf, part) in mail.parts().enumerate() {
            fields.take_part(leaf, part);
        }
        fields
    }

    fn take_part(&mut self, leaf: usize, part: &ParsedMail<'_>) {
        let kind = part.ctype.mimetype.to_ascii_lowercase();
        if kind.starts_with("multipart/") {
            return;
        }
        let disposition = part.get_content_disposition();
        let name = disposition.params.get("filename").or_else(|| part.ctype.params.get("name")).cloned();
        let is_text = kind == "text/plain" || kind == "text/html";
        if is_text && disposition.disposition != DispositionType::Attachment && name.is_none() {
            let html = kind == "text/html";
            // The HTML of an alternative wins over its plain text, as it does for Exchange.
            if self.body.is_empty() || (html && !self.body_is_html) {
                self.body = part.get_body().unwrap_or_default();
                self.body_is_html = html;
            }
            return;
        }
        let content_id = part.headers.get_first_value("Content-ID");
        let inline = disposition.disposition == DispositionType::Inline && content_id.is_some();
        self.attachments.push(Attachment {
            leaf,
            name: name.unwrap_or_else(|| format!("ATT{:05}", self.attachments.len() + 1)),
            content_type: kind,
            content_id: content_id.map(|id| id.trim().trim_matches(['<', '>']).to_owned()),
            size: part.get_body_raw().map_or(0, |b| b.len()),
            inline,
        });
    }

    /// The bytes of an attachment.
    pub(super) fn attachment_content(&self, attachment: &Attachment) -> Vec<u8> {
        mailparse::parse_mail(&self.mime)
            .ok()
            .and_then(|mail| mail.parts().nth(attachment.leaf).and_then(|part| part.get_body_raw().ok()))
            .unwrap_or_default()
    }

    /// Writes the MIME of an item that was made of fields.
    pub(super) fn write_mime(&mut self, number: u64) {
        let id = self.message_id.get_or_insert_with(|| format!("<{number}@ex01.simulated.example.test>"));
        let mut mime = String::new();
        let mut header = |name: &str, value: &str| mime.push_str(&format!("{name}: {value}\r\n"));
        if let Some(from) = &self.from {
            header("From", &mailbox_header(std::slice::from_ref(from)));
        }
        for (name, list) in [("To", &self.to), ("Cc", &self.cc), ("Bcc", &self.bcc)] {
            if !list.is_empty() {
                header(name, &mailbox_header(list));
            }
        }
        header("Subject", &encoded_word(&self.subject));
        header("Message-ID", id);
        if let Some(reply) = &self.in_reply_to {
            header("In-Reply-To", reply);
        }
        header("MIME-Version", "1.0");
        header(
            "Content-Type",
            if self.body_is_html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" },
        );
        header("Content-Transfer-Encoding", "8bit");
        mime.push_str("\r\n");
        mime.push_str(&self.body);
        self.mime = mime.into_bytes().into();
    }

    /// Puts a new subject into the message as it is, all else untouched.
    pub(super) fn replace_subject(&mut self, subject: &str) {
        self.subject = subject.to_owned();
        let line = format!("Subject: {}", encoded_word(subject));
        let mime = &self.mime;
        let mut out = Vec::with_capacity(mime.len() + line.len());
        let (mut at, mut done, mut dropping) = (0, false, false);
        while at < mime.len() {
            let end = memchr::memchr(b'\n', &mime[at..]).map_or(mime.len(), |n| at + n + 1);
            let text = &mime[at..end];
            if text == b"\n" || text == b"\r\n" {
                break;
            }
            let folded = text.first().is_some_and(|b| b" \t".contains(b));
            if text.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"subject:")) {
                dropping = true;
                if !done {
                    out.extend_from_slice(line.as_bytes());
                    out.extend_from_slice(b"\r\n");
                    done = true;
                }
            } else if !(dropping && folded) {
                dropping = false;
                out.extend_from_slice(text);
            }
            at = end;
        }
        if !done {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&mime[at..]);
        self.mime = out.into();
    }
}

fn addresses(mail: &ParsedMail<'_>, name: &str) -> Vec<Address> {
    let mut all = Vec::new();
    for header in mail.headers.get_all_headers(name) {
        match mailparse::addrparse_header(header) {
            Ok(list) => {
                for address in list.into_inner() {
                    let group = match address {
                        MailAddr::Single(one) => vec![one],
                        MailAddr::Group(group) => group.addrs,
                    };
                    all.extend(
                        group
                            .into_iter()
                            .map(|a| Address { name: a.display_name.unwrap_or_default(), email: a.addr }),
                    );
                }
            }
            Err(_) => all.push(Address { name: header.get_value(), email: String::new() }),
        }
    }
    all
}

fn mailbox_header(list: &[Address]) -> String {
    let one = |a: &Address| match a.name.as_str() {
        "" => a.email.clone(),
        name if name.is_ascii() => {
            format!("\"{}\" <{}>", name.replace(['"', '\\', '\r', '\n'], " "), a.email)
        }
        name => format!("{} <{}>", encoded_word(name), a.email),
    };
    list.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A header's text as ASCII: RFC 2047 where it is not, cut into words of at most 75 characters.
fn encoded_word(text: &str) -> String {
    use base64::Engine;
    if text.is_ascii() && !text.contains(['\r', '\n']) {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if word.len() + c.len_utf8() > 42 {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encode = |w: String| format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(w));
    words.into_iter().map(encode).collect::<Vec<_>>().join("\r\n ")
}

fn from_unix(seconds: i64) -> Option<SystemTime> {
    u64::try_from(seconds).ok().and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "From: =?utf-8?Q?Zo=C3=AB?= <zoe@example.test>\r\nTo: Ada <ada@example.test>, bob@example.test\r\n\
        Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n again\r\nMessage-ID: <1@example.test>\r\nDate: Tue, 1 Jul 2025 10:00:00 +0200\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n\
        --b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\n";

    /// A wrong sender, subject or attachment would make the demo and every test of summaries compare with nonsense.
    #[test]
    fn fields_are_read_from_mime() {
        let fields = Fields::from_mime(MAIL.as_bytes());
        assert_eq!(fields.subject, "Grüße again");
        assert_eq!(fields.from, Some(Address { name: "Zoë".into(), email: "zoe@example.test".into() }));
        assert_eq!(fields.to.len(), 2);
        assert_eq!(fields.message_id.as_deref(), Some("<1@example.test>"));
        assert_eq!(fields.body.trim(), "hi");
        assert_eq!((fields.attachments.len(), fields.attachments[0].size), (1, 4));
        assert_eq!(fields.attachments[0].name, "a.pdf");
        assert_eq!(fields.attachment_content(&fields.attachments[0]), [0, 1, 2, 3]);
    }

    /// An update of the subject must not harm the rest of the message, which clients fetch as MIME.
    #[test]
    fn a_new_subject_leaves_the_rest() {
        let mut fields = Fields::from_mime(MAIL.as_bytes());
        fields.replace_subject("Später einmal, wenn das Wetter wirklich endlich schöner geworden ist");
        let again = Fields::from_mime(&fields.mime);
        assert_eq!(again.subject, fields.subject);
        assert_eq!((again.to, again.attachments, again.body), (fields.to, fields.attachments, fields.body));
    }
}
