//! GetItem, FindItem, GetAttachment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::ids::Entry;
use super::super::item::Item;
use super::super::tree::{Node, Ns, Violation};
use super::super::write::{Refusal, leaf};
use super::folders::Page;
use super::item_shape::{ItemShape, attachment_element, parse_attachment_id};
use super::{Call, Fail, Outcome, list, no_folder, no_item};

pub(super) fn get_item(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!ItemShape", "!ItemIds"])?;
    let shape = ItemShape::of(request.need("ItemShape")?, false)?;
    call.each(list(request, "ItemIds")?, "<m:Items/>", |call, node| {
        let (key, folder, item) = call.item(node)?;
        written(call, &shape, &key, folder, item)
    })
}

pub(super) fn find_item(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    if request.need_attribute("Traversal")? != "Shallow" {
        return Err(Refusal::new("ErrorInvalidTraversal", "Only Shallow is kept here.").into());
    }
    request.sequence(
        Ns::Messages,
        &[
            "!ItemShape",
            "IndexedPageItemView",
            "FractionalPageItemView",
            "SeekToConditionPageItemView",
            "CalendarView",
            "ContactsView",
            "GroupBy",
            "DistinguishedGroupBy",
            "Restriction",
            "SortOrder",
            "!ParentFolderIds",
            "QueryString",
        ],
    )?;
    let shape = ItemShape::of(request.need("ItemShape")?, true)?;
    let page = Page::of(request.child("IndexedPageItemView"));
    let test = request.child("Restriction").map(restriction).transpose()?;
    call.each(list(request, "ParentFolderIds")?, "", |call, node| {
        let (key, number) = call.folder(node)?;
        let mailbox = call.mailbox(&key)?;
        let folder = mailbox.folders.get(&number).ok_or_else(no_folder)?;
        // Newest first, as Exchange does without a SortOrder.
        let items = folder.items.values().rev().filter(|item| test.as_ref().is_none_or(|t| t.holds(item)));
        let items: Vec<&Item> = items.collect();
        let (slice, attributes) = page.cut(&items);
        let written: String =
            slice.iter().map(|item| shape.write(call.style, mailbox, folder, item)).collect();
        Ok(format!("<m:RootFolder {attributes}><t:Items>{written}</t:Items></m:RootFolder>"))
    })
}

pub(super) fn get_attachment(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["AttachmentShape", "!AttachmentIds"])?;
    let mime = request.at(&["AttachmentShape", "IncludeMimeContent"]).is_some_and(|m| m.text() == "true");
    call.each(list(request, "AttachmentIds")?, "<m:Attachments/>", |call, node| {
        let id = node.need_attribute("Id")?;
        let bad = || Refusal::new("ErrorInvalidAttachmentId", "The attachment id is invalid.");
        let (item, place) = parse_attachment_id(id).ok_or_else(bad)?;
        let Entry::Item { mailbox, folder, item } = call.parse_id(&item)? else { return Err(bad().into()) };
        let key = call.world.key_of(mailbox).ok_or_else(no_item)?.to_owned();
        let home = call.mailbox(&key)?.folders.get(&folder).ok_or_else(no_item)?;
        let fields = &home.items.get(&item).ok_or_else(no_item)?.fields;
        let attachment = fields.attachments.iter().find(|a| a.leaf == place).ok_or_else(bad)?;
        let content = BASE64.encode(fields.attachment_content(attachment));
        let element = attachment_element(attachment);
        let content = match element {
            "FileAttachment" => format!("<t:Content>{content}</t:Content>"),
            "ItemAttachment" if mime => {
                format!("<t:Message><t:MimeContent CharacterSet=\"UTF-8\">{content}</t:MimeContent></t:Message>")
            }
            "ItemAttachment" => "<t:Message/>".to_owned(),
            _ => String::new(),
        };
        Ok(format!(
            "<m:Attachments><t:{element}><t:AttachmentId Id=\"{id}\"/>{}{}{content}</t:{element}></m:Attachments>",
            leaf("Name", &attachment.name),
            leaf("ContentType", &attachment.content_type)
        ))
    })
}

/// An item in an answer.
pub(super) fn written(
    call: &Call<'_>,
    shape: &ItemShape,
    key: &str,
    folder: u64,
    item: u64,
) -> Result<String, Fail> {
    let mailbox = call.mailbox(key)?;
    let folder = mailbox.folders.get(&folder).ok_or_else(no_item)?;
    let item = folder.items.get(&item).ok_or_else(no_item)?;
    Ok(format!("<m:Items>{}</m:Items>", shape.write(call.style, mailbox, folder, item)))
}

/// The few restrictions that are understood: equality and containment of a subject or a message id, and the read flag.
struct Test {
    field: String,
    value: String,
    contains: bool,
}

fn restriction(node: &Node) -> Result<Test, Fail> {
    let unsupported = || Refusal::new("ErrorUnsupportedPathForQuery", "That restriction is not kept here.");
    let [test] = node.children.as_slice() else {
        return Err(Violation("The element 'Restriction' has invalid content.".into()).into());
    };
    let field =
        test.child("FieldURI").and_then(|f| f.attribute("FieldURI")).ok_or_else(unsupported)?.to_owned();
    let constant = match test.name.as_str() {
        "IsEqualTo" => test.at(&["FieldURIOrConstant", "Constant"]),
        "Contains" => test.child("Constant"),
        _ => None,
    };
    let value = constant.and_then(|c| c.attribute("Value")).ok_or_else(unsupported)?.to_lowercase();
    match field.as_str() {
        "item:Subject" | "message:InternetMessageId" | "message:IsRead" => {
            Ok(Test { field, value, contains: test.name == "Contains" })
        }
        _ => Err(unsupported().into()),
    }
}

impl Test {
    fn holds(&self, item: &Item) -> bool {
        let text = match self.field.as_str() {
            "item:Subject" => item.fields.subject.to_lowercase(),
            "message:IsRead" => item.is_read.to_string(),
            _ => item.fields.message_id.clone().unwrap_or_default().to_lowercase(),
        };
        if self.contains { text.contains(&self.value) } else { text == self.value }
    }
}
