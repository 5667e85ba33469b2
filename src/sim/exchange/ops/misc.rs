//! What foreign clients ask for beside: names, time zones, settings of the mailbox, forms of ids.

use super::super::ids;
use super::super::tree::{Node, Ns};
use super::super::write::{Refusal, escape, leaf, message};
use super::{Call, Fail, Outcome, list};

pub(super) fn resolve_names(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["ParentFolderIds", "!UnresolvedEntry"])?;
    let entry = request.need("UnresolvedEntry")?.text().to_ascii_lowercase();
    let found: Vec<String> = call
        .world
        .mailboxes
        .values()
        .filter(|m| m.address.to_ascii_lowercase().starts_with(entry.trim_start_matches("smtp:")))
        .map(|m| {
            let name = m.address.split('@').next().unwrap_or_default();
            format!(
                "<t:Resolution><t:Mailbox>{}{}<t:RoutingType>SMTP</t:RoutingType>\
                 <t:MailboxType>Mailbox</t:MailboxType></t:Mailbox></t:Resolution>",
                leaf("Name", name),
                leaf("EmailAddress", &m.address)
            )
        })
        .collect();
    if found.is_empty() {
        return Err(Refusal::new("ErrorNameResolutionNoResults", "No results were found.").into());
    }
    let set = format!(
        "<m:ResolutionSet TotalItemsInView=\"{}\" IncludesLastItemInRange=\"true\">{}</m:ResolutionSet>",
        found.len(),
        found.concat()
    );
    Ok(Outcome::Messages(message(call.operation, Ok(set))))
}

pub(super) fn get_server_time_zones(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["Ids"])?;
    let full = request.attribute("ReturnFullTimeZoneData").is_none_or(|v| matches!(v, "true" | "1"));
    let inner = match full {
        false => "",
        true => {
            "<t:Periods><t:Period Bias=\"PT0S\" Name=\"Standard\" Id=\"UTC/Standard\"/></t:Periods><t:TransitionsGroups>\
             <t:TransitionsGroup Id=\"0\"><t:Transition><t:To Kind=\"Period\">UTC/Standard</t:To></t:Transition>\
             </t:TransitionsGroup></t:TransitionsGroups><t:Transitions><t:Transition><t:To Kind=\"Group\">0</t:To>\
             </t:Transition></t:Transitions>"
        }
    };
    let zones = format!(
        "<m:TimeZoneDefinitions><t:TimeZoneDefinition Name=\"(UTC) Coordinated Universal Time\" Id=\"UTC\">{inner}\
         </t:TimeZoneDefinition></m:TimeZoneDefinitions>"
    );
    Ok(Outcome::Messages(message(call.operation, Ok(zones))))
}

/// No mailbox here has any configuration stored.
pub(super) fn get_user_configuration(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!UserConfigurationName", "!UserConfigurationProperties"])?;
    let name = request.need("UserConfigurationName")?;
    if let Some(folder) = name.children.first() {
        call.folder(folder)?;
    }
    Err(Refusal::new("ErrorItemNotFound", "The specified object was not found in the store.").into())
}

/// Of Exchange 2007, and of MAPI, ids come in other forms; all others are given back as they came.
pub(super) fn convert_id(call: &mut Call<'_>, request: &Node) -> Result<Outcome, Fail> {
    request.sequence(Ns::Messages, &["!SourceIds"])?;
    let format = request.need_attribute("DestinationFormat")?.to_owned();
    call.each(list(request, "SourceIds")?, "", |call, node| {
        let id = node.need_attribute("Id")?;
        let mailbox = node.attribute("Mailbox").unwrap_or_default();
        if !mailbox.contains('@') {
            return Err(Refusal::new("ErrorInvalidSmtpAddress", "The SMTP address format is invalid.").into());
        }
        let form = node.attribute("Format").unwrap_or_default();
        let id = match ids::from_form(call.style, form, id) {
            Some(id) => id,
            None => call.parse_id(id).map(|_| id.to_owned())?,
        };
        Ok(format!(
            "<m:AlternateId xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"t:AlternateIdType\" \
             Format=\"{}\" Id=\"{}\" Mailbox=\"{}\"/>",
            escape(&format),
            escape(&id),
            escape(mailbox)
        ))
    })
}
