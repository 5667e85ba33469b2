//! How a folder is written: its element, its properties, in the order of the schema.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::super::Style;
use super::super::ids;
use super::super::mailbox::{Folder, Mailbox};
use super::super::tree::{Node, Ns, Violation};
use super::super::write::{date, escape, leaf};

/// Which properties were asked for.
pub(super) struct FolderShape {
    base: Base,
    extra: Vec<String>,
    /// Tags of extended properties, as they were written.
    tags: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Base {
    IdOnly,
    Default,
    All,
}

impl Base {
    pub(super) fn of(shape: &Node) -> Result<Base, Violation> {
        match shape.need("BaseShape")?.text() {
            "IdOnly" => Ok(Base::IdOnly),
            "Default" => Ok(Base::Default),
            "AllProperties" => Ok(Base::All),
            other => Err(Violation(format!(
                "The 'BaseShape' element is invalid - The value '{other}' is invalid."
            ))),
        }
    }
}

impl FolderShape {
    pub(super) const ID_ONLY: FolderShape =
        FolderShape { base: Base::IdOnly, extra: Vec::new(), tags: Vec::new() };

    pub(super) fn of(shape: &Node) -> Result<FolderShape, Violation> {
        shape.sequence(Ns::Types, &["!BaseShape", "AdditionalProperties"])?;
        let extra = shape.child("AdditionalProperties").map(|p| p.children.as_slice()).unwrap_or_default();
        let tag = |p: &Node| {
            Some((
                p.attribute("PropertyTag")?.to_owned(),
                p.attribute("PropertyType").unwrap_or_default().to_owned(),
            ))
        };
        Ok(FolderShape {
            base: Base::of(shape)?,
            extra: extra.iter().filter_map(|p| p.attribute("FieldURI")).map(str::to_owned).collect(),
            tags: extra.iter().filter_map(tag).collect(),
        })
    }

    fn wants(&self, uri: &str, from: Base) -> bool {
        self.base >= from || self.extra.iter().any(|e| e == uri)
    }

    /// The folder's element.
    pub(super) fn write(&self, style: Style, mailbox: &Mailbox, folder: &Folder) -> String {
        let guid = mailbox.guid;
        let element = match folder.class.as_str() {
            _ if folder.is_search() => "SearchFolder",
            "IPF.Appointment" => "CalendarFolder",
            "IPF.Contact" => "ContactsFolder",
            "IPF.Task" => "TasksFolder",
            _ => "Folder",
        };
        let id = |name: &str, number: u64, change: u64| {
            format!(
                "<t:{name} Id=\"{}\" ChangeKey=\"{}\"/>",
                ids::folder_id(style, guid, number),
                ids::change_key(style, 1, guid, change)
            )
        };
        let mut out = format!("<t:{element}>{}", id("FolderId", folder.number, folder.changed));
        if self.wants("folder:ParentFolderId", Base::All) {
            let changed = mailbox.folders.get(&folder.parent).map_or(0, |p| p.changed);
            out.push_str(&id("ParentFolderId", folder.parent, changed));
        }
        if self.wants("folder:FolderClass", Base::All) && !folder.class.is_empty() {
            out.push_str(&leaf("FolderClass", &folder.class));
        }
        if self.wants("folder:DisplayName", Base::Default) {
            out.push_str(&leaf("DisplayName", &folder.name));
        }
        if self.wants("folder:TotalCount", Base::Default) {
            out.push_str(&leaf("TotalCount", &folder.items.len().to_string()));
        }
        if self.wants("folder:ChildFolderCount", Base::Default) {
            out.push_str(&leaf(
                "ChildFolderCount",
                &mailbox.children(folder.number, false).len().to_string(),
            ));
        }
        for (tag, kind) in &self.tags {
            out.push_str(&extended(style, mailbox, folder, tag, kind));
        }
        if self.wants("folder:EffectiveRights", Base::All) {
            out.push_str(EFFECTIVE_RIGHTS);
        }
        if self.wants("folder:DistinguishedFolderId", Base::All) {
            let name = folder.well_known.filter(|name| *name != "allitems");
            out.push_str(&name.map(|name| leaf("DistinguishedFolderId", name)).unwrap_or_default());
        }
        let counts_unread = matches!(element, "Folder" | "TasksFolder" | "SearchFolder");
        if counts_unread && self.wants("folder:UnreadCount", Base::Default) {
            out.push_str(&leaf("UnreadCount", &folder.unread.to_string()));
        }
        out.push_str(&format!("</t:{element}>"));
        out
    }
}

pub(super) const EFFECTIVE_RIGHTS: &str = "<t:EffectiveRights><t:CreateAssociated>true</t:CreateAssociated>\
    <t:CreateContents>true</t:CreateContents><t:CreateHierarchy>true</t:CreateHierarchy><t:Delete>true</t:Delete>\
    <t:Modify>true</t:Modify><t:Read>true</t:Read><t:ViewPrivateItems>true</t:ViewPrivateItems></t:EffectiveRights>";

/// The two properties by which a change of a folder can be seen cheaply, and who has a public folder's content.
fn extended(style: Style, mailbox: &Mailbox, folder: &Folder, tag: &str, kind: &str) -> String {
    let value = match tag.to_ascii_lowercase().as_str() {
        "0x670a" => date(style, folder.touched),
        "0x670b" => folder.gone.len().to_string(),
        "0x6698" => match mailbox.replica {
            Some(guid) => BASE64.encode(format!("{}\0", ids::guid_text(guid))),
            None => return String::new(),
        },
        _ => return String::new(),
    };
    format!(
        "<t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"{}\" PropertyType=\"{}\"/>{}</t:ExtendedProperty>",
        escape(tag),
        escape(kind),
        leaf("Value", &value)
    )
}
