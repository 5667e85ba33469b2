//! Events in words for a terminal. What servers and senders wrote is cleaned first: a subject must not move the cursor.

use std::fmt::Write as _;
use std::time::SystemTime;

use ewsnotify::{Attachment, Event, EventKind, Fill};
use serde::Serialize;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Paint {
    pub fn put(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Bold => 1,
            Colour::Dim => 2,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Cyan => 36,
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One line for an event.
pub fn event(event: &Event, paint: Paint) -> String {
    let mut line = paint.put(Colour::Dim, &clock(event.time));
    let (colour, name) = match event.kind {
        EventKind::Connected | EventKind::Resubscribed => (Colour::Green, event.kind.name()),
        EventKind::Disconnected | EventKind::Gap => (Colour::Yellow, event.kind.name()),
        EventKind::Error => (Colour::Red, event.kind.name()),
        EventKind::NewMail => (Colour::Bold, event.kind.name()),
        EventKind::Closed => (Colour::Dim, event.kind.name()),
        _ => (Colour::Cyan, event.kind.name()),
    };
    let _ = write!(line, "  {}", paint.put(colour, &format!("{name:<15}")));
    let told = if event.kind.is_mailbox() { mailbox(event, paint) } else { lifecycle(event) };
    if !told.is_empty() {
        let _ = write!(line, "  {told}");
    }
    line
}

fn mailbox(event: &Event, paint: Paint) -> String {
    let mut parts = Vec::new();
    if let Some(item) = &event.item {
        if let Some(from) = &item.from {
            parts.push(clean(from));
        }
        if let Some(subject) = &item.subject {
            parts.push(paint.put(Colour::Bold, &clean(subject)));
        }
        if !item.attachments.is_empty() {
            parts.push(paint.put(Colour::Dim, &attachments(&item.attachments)));
        }
        if let Some(path) = &item.mime_path {
            parts.push(clean(path));
        }
        if let Some(content) = &item.content
            && word(content) != "ok"
        {
            parts.push(format!("(its content is {})", word(content)));
        }
    }
    if parts.is_empty() {
        for (what, id) in [("item", &event.item_id), ("folder", &event.folder_id)] {
            if let Some(id) = id {
                parts.push(format!("{what} {}", short(id)));
            }
        }
    }
    for (what, id) in [("item", &event.old_item_id), ("folder", &event.old_folder_id)] {
        if let Some(id) = id {
            parts.push(format!("was {what} {}", short(id)));
        }
    }
    if let Some(unread) = event.unread_count {
        parts.push(format!("{unread} unread"));
    }
    parts.join("  ")
}

fn lifecycle(event: &Event) -> String {
    let Some(detail) = &event.detail else {
        return clean(&event.mailbox);
    };
    let mut parts = Vec::new();
    if let Some(since) = detail.since {
        parts.push(format!("something may have been missed since {}", clock(since)));
    }
    if let Some(reason) = &detail.reason {
        parts.push(word(reason));
    }
    match detail.fill {
        Some(Fill::None) => parts.push("nothing will fill it".into()),
        Some(Fill::Partial) => {
            parts.push("it is looked for, but some cannot be told from what is old".into())
        }
        Some(Fill::Pending) => parts.push("it is looked for now".into()),
        _ => {}
    }
    if let Some(status) = detail.http_status {
        parts.push(format!("HTTP status {status}"));
    }
    if let Some(code) = &detail.code {
        parts.push(clean(code));
    }
    if let Some(message) = &detail.message {
        parts.push(clean(message));
    }
    if let Some(ms) = detail.retry_ms {
        parts.push(if ms < 100 { "tried again at once".into() } else { format!("next try in {}", span(ms)) });
    }
    parts.join("; ")
}

/// Why, in as many words as the event has.
pub fn reason(event: &Event) -> String {
    let Some(detail) = &event.detail else {
        return event.kind.name().to_owned();
    };
    match (&detail.message, &detail.reason) {
        (Some(message), _) => message.clone(),
        (None, Some(reason)) => word(reason),
        (None, None) => event.kind.name().to_owned(),
    }
}

fn attachments(attachments: &[Attachment]) -> String {
    let mut names: Vec<String> =
        attachments.iter().take(5).map(|a| clean(a.name.as_deref().unwrap_or("without a name"))).collect();
    if attachments.len() > 5 {
        names.push(format!("{} more", attachments.len() - 5));
    }
    let s = if attachments.len() == 1 { "" } else { "s" };
    format!("[{} attachment{s}: {}]", attachments.len(), names.join(", "))
}

/// The end of an id: its beginning is the same for a whole mailbox.
fn short(id: &str) -> String {
    let count = id.chars().count();
    match count > 24 {
        true => format!("…{}", clean(&id.chars().skip(count - 22).collect::<String>())),
        false => clean(id),
    }
}

/// Milliseconds as people say them.
pub fn span(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..10 => format!("{s}.{} s", ms % 1000 / 100),
        s @ 10..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// The time of day, by UTC.
pub fn clock(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.get(11..).unwrap_or_default().to_owned()
}

/// One of the library's words, as in JSON.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Text of others as one line without control characters, and without marks that turn the direction of writing.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => ' ',
            c if is_unfit(c) => '\u{FFFD}',
            c => c,
        })
        .collect()
}

/// JSON whose strings have nothing that a terminal obeys: serde_json leaves DEL, the C1 controls (one of them begins an
/// escape sequence) and the marks of direction as they are.
pub fn clean_json(json: String) -> String {
    if !json.contains(is_unfit) {
        return json;
    }
    let mut clean = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match is_unfit(c) {
            // Only within a string, and all of them are in the first plane.
            true => drop(write!(clean, "\\u{:04x}", u32::from(c))),
            false => clean.push(c),
        }
    }
    clean
}

fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    // A sender who puts an escape sequence into the subject could otherwise rewrite the screen, or the window's title.
    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let evil = "a\x1b]0;owned\x07b\u{9b}31mc\u{202E}txt.exe\r\nd\x7f";
        let cleaned = clean(evil);
        assert!(!cleaned.contains(is_unfit), "{cleaned:?}");
        assert!(cleaned.contains("owned") && !cleaned.contains('\n'));

        let json = clean_json(serde_json::to_string(evil).unwrap());
        assert!(!json.contains(is_unfit), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), evil, "the value is the same");
    }

    #[test]
    fn ids_are_cut_between_characters() {
        assert_eq!(short("kurz"), "kurz");
        assert_eq!(short(&"ä".repeat(30)), format!("…{}", "ä".repeat(22)));
    }
}
