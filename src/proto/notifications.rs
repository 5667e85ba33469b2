//! The strict grammar of notifications in a known frame. It takes what Exchange and gromox write, to the byte, and leaves
//! everything else to the `xml` crate.
//!
//! It has no opinion of its own: elements without attributes other than `Id` and `ChangeKey`, in the schema's order, without
//! white space between them, with the prefixes of the frame; values that are printable ASCII without `&` and `<`, which
//! therefore mean themselves. Where in doubt, it refuses.

use memchr::memchr2;

use super::message::{Id, Notice, NoticeKind, Notification, Target};

/// The longest value that is read here; longer ones may meet the reader's limits.
const LONGEST_VALUE: usize = 4 << 10;
/// The most notifications and events that are read here; more may meet the reader's limits.
const MOST_THINGS: usize = 16 << 10;

/// The tags as they are written in one frame, with its prefixes.
#[derive(Clone, Debug)]
pub(super) struct Grammar {
    notification: Tags,
    subscription_id: Tags,
    previous_watermark: Tags,
    more_events: Tags,
    /// In the order of [`NoticeKind::ALL`].
    kinds: [Tags; 8],
    watermark: Tags,
    time_stamp: Tags,
    item_id: IdTag,
    folder_id: IdTag,
    parent_folder_id: IdTag,
    old_item_id: IdTag,
    old_folder_id: IdTag,
    old_parent_folder_id: IdTag,
    unread_count: Tags,
}

/// `<t:Name>` and `</t:Name>`.
#[derive(Clone, Debug)]
struct Tags {
    open: Box<str>,
    close: Box<str>,
}

/// `<t:Name Id="`.
#[derive(Clone, Debug)]
struct IdTag(Box<str>);

impl Grammar {
    /// The grammar for notifications such as these, by their prefixes; `outer` is that of their parent, with its colon.
    pub fn of(content: &[u8], outer: &str) -> Option<Grammar> {
        let text = std::str::from_utf8(content.get(..content.len().min(256))?).ok()?;
        let (notification, rest) = text.strip_prefix('<')?.split_once("Notification><")?;
        let (inner, _) = rest.split_once("SubscriptionId>")?;
        let plain = |prefix: &str| {
            let name = prefix.strip_suffix(':').unwrap_or(prefix);
            prefix.len() <= 16
                && name.bytes().all(|b| b.is_ascii_alphanumeric())
                && (prefix.is_empty() != prefix.ends_with(':'))
        };
        [outer, notification, inner].iter().all(|p| plain(p)).then(|| Grammar::new(notification, inner))
    }

    fn new(outer: &str, inner: &str) -> Grammar {
        let tags = |prefix: &str, name: &str| Tags {
            open: format!("<{prefix}{name}>").into(),
            close: format!("</{prefix}{name}>").into(),
        };
        let id = |name: &str| IdTag(format!("<{inner}{name} Id=\"").into());
        Grammar {
            notification: tags(outer, "Notification"),
            subscription_id: tags(inner, "SubscriptionId"),
            previous_watermark: tags(inner, "PreviousWatermark"),
            more_events: tags(inner, "MoreEvents"),
            kinds: NoticeKind::ALL.map(|kind| tags(inner, kind.element())),
            watermark: tags(inner, "Watermark"),
            time_stamp: tags(inner, "TimeStamp"),
            item_id: id("ItemId"),
            folder_id: id("FolderId"),
            parent_folder_id: id("ParentFolderId"),
            old_item_id: id("OldItemId"),
            old_folder_id: id("OldFolderId"),
            old_parent_folder_id: id("OldParentFolderId"),
            unread_count: tags(inner, "UnreadCount"),
        }
    }

    /// Reads notifications; None for anything that is not exactly in the grammar.
    pub fn read(&self, content: &[u8]) -> Option<Vec<Notification>> {
        if has_strange_bytes(content) {
            return None;
        }
        let mut at = Cursor { rest: std::str::from_utf8(content).ok()?, things: 0 };
        let mut found = Vec::new();
        while at.takes(&self.notification.open) {
            found.push(self.notification(&mut at)?);
        }
        at.rest.is_empty().then_some(found)
    }

    fn notification(&self, at: &mut Cursor) -> Option<Notification> {
        at.count()?;
        let subscription_id = at.text(&self.subscription_id)??.to_owned();
        let previous_watermark = at.text(&self.previous_watermark)?.map(str::to_owned);
        let more_events = match at.text(&self.more_events)? {
            Some("true") => true,
            Some("false") | None => false,
            Some(_) => return None,
        };
        // Most have one; a notice is large, and room for four of them would cost more than the reading.
        let mut notices = Vec::with_capacity(1);
        while !at.takes(&self.notification.close) {
            notices.push(self.notice(at)?);
        }
        Some(Notification { subscription_id, previous_watermark, more_events, notices })
    }

    fn notice(&self, at: &mut Cursor) -> Option<Notice> {
        at.count()?;
        let Some(kind) = self.kinds.iter().position(|tags| at.takes(&tags.open)) else {
            return self.empty_status(at);
        };
        let close = &self.kinds[kind].close;
        let mut notice = empty(NoticeKind::ALL[kind]);
        notice.watermark = at.text(&self.watermark)?.map(str::to_owned);
        notice.time_stamp = at.text(&self.time_stamp)?.map(str::to_owned);
        notice.target = at.target(&self.item_id, &self.folder_id)?;
        notice.parent_folder_id = at.id(&self.parent_folder_id)?;
        if at.takes(close) {
            return Some(notice);
        }
        notice.old_target = at.target(&self.old_item_id, &self.old_folder_id)?;
        notice.old_parent_folder_id = at.id(&self.old_parent_folder_id)?;
        if let Some(count) = at.text(&self.unread_count)? {
            notice.unread_count = Some(count.parse().ok()?);
        }
        at.takes(close).then_some(notice)
    }

    /// `<t:StatusEvent/>`.
    fn empty_status(&self, at: &mut Cursor) -> Option<Notice> {
        let open = &self.kinds[NoticeKind::ALL.len() - 1].open;
        let rest = at.rest.strip_prefix(&open[..open.len() - 1])?;
        at.rest = rest.strip_prefix("/>").or_else(|| rest.strip_prefix(" />"))?;
        Some(empty(NoticeKind::Status))
    }

    /// Notifications with all that the grammar knows, for a trial: every optional part there and not there.
    pub fn specimen(&self) -> String {
        let text = |tags: &Tags, value: &str| format!("{}{value}{}", tags.open, tags.close);
        let id = |tag: &IdTag, value: &str| format!("{}{value}\" ChangeKey=\"CQ+/{value}==\"/>", tag.0);
        let bare_id = |tag: &IdTag, value: &str| format!("{}{value}\" />", tag.0);
        let mut out = String::new();
        for (round, item) in [true, false].into_iter().enumerate() {
            let (target, old) = match item {
                true => (&self.item_id, &self.old_item_id),
                false => (&self.folder_id, &self.old_folder_id),
            };
            out += &self.notification.open;
            out += &text(&self.subscription_id, &format!("Sub+/={round}"));
            if item {
                out += &text(&self.previous_watermark, "Pre=");
                out += &text(&self.more_events, "true");
            }
            for tags in &self.kinds {
                out += &tags.open;
                out += &text(&self.watermark, "Wat=");
                out += &text(&self.time_stamp, "2026-01-02T03:04:05Z");
                out += &id(target, "Target");
                out += &bare_id(&self.parent_folder_id, "Parent");
                out += &id(old, "Old");
                out += &id(&self.old_parent_folder_id, "OldParent");
                out += &text(&self.unread_count, "7");
                out += &tags.close;
            }
            out += &format!("{}/>", self.kinds[NoticeKind::ALL.len() - 1].open.trim_end_matches('>'));
            out += &self.notification.close;
        }
        out
    }
}

/// Whether there is anything but printable ASCII, or a `&`. In blocks, which the compiler turns into vector instructions.
fn has_strange_bytes(content: &[u8]) -> bool {
    let strange = |found: u8, b: &u8| found | u8::from(b.wrapping_sub(0x20) > 0x5E) | u8::from(*b == b'&');
    let (blocks, rest) = content.as_chunks::<64>();
    blocks.iter().any(|block| block.iter().fold(0, strange) != 0) || rest.iter().fold(0, strange) != 0
}

fn empty(kind: NoticeKind) -> Notice {
    Notice {
        kind,
        watermark: None,
        time_stamp: None,
        target: None,
        parent_folder_id: None,
        old_target: None,
        old_parent_folder_id: None,
        unread_count: None,
    }
}

/// What is still to be read. Methods that may find an element give `Some(None)` where it is not there, and `None` where
/// something is that the grammar does not take.
struct Cursor<'a> {
    rest: &'a str,
    things: usize,
}

impl<'a> Cursor<'a> {
    fn takes(&mut self, literal: &str) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn text(&mut self, tags: &Tags) -> Option<Option<&'a str>> {
        if !self.takes(&tags.open) {
            return Some(None);
        }
        let value = self.value(b'<', b'>')?;
        (self.takes(&tags.close) && !value.starts_with(' ') && !value.ends_with(' ')).then_some(Some(value))
    }

    fn id(&mut self, tag: &IdTag) -> Option<Option<Id>> {
        if !self.takes(&tag.0) {
            return Some(None);
        }
        let id = self.value(b'"', b'<')?.to_owned();
        let mut change_key = None;
        if self.takes("\" ChangeKey=\"") {
            change_key = Some(self.value(b'"', b'<')?.to_owned());
        }
        (self.takes("\"/>") || self.takes("\" />")).then_some(Some(Id { id, change_key }))
    }

    fn target(&mut self, item: &IdTag, folder: &IdTag) -> Option<Option<Target>> {
        if let Some(id) = self.id(item)? {
            return Some(Some(Target::Item(id)));
        }
        Some(self.id(folder)?.map(Target::Folder))
    }

    /// Up to `end`, without it. `foul` must not come before.
    fn value(&mut self, end: u8, foul: u8) -> Option<&'a str> {
        let bytes = self.rest.as_bytes();
        let length = memchr2(end, foul, bytes)?;
        if bytes[length] != end || length == 0 || length > LONGEST_VALUE {
            return None;
        }
        let (value, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(value)
    }

    fn count(&mut self) -> Option<()> {
        self.things += 1;
        (self.things <= MOST_THINGS).then_some(())
    }
}
