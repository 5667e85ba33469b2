//! Reads Autodiscover's answers, by the local names of elements: servers differ in prefixes and namespaces.

use super::{Autodiscovered, UserSettings};
use crate::proto::xml::{Limits, Reader, Start};
use crate::proto::{Fault, ServerVersion, fault_error};
use crate::{Error, ErrorKind, Result};

/// Reads the answer to a SOAP request: one of each mailbox, in the order of the request.
///
/// ```
/// use ewsnotify::proto::autodiscover::{Autodiscovered, read_user_settings};
///
/// let xml = br#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><GetUserSettingsResponseMessage><Response>
///     <UserResponses><UserResponse><ErrorCode>RedirectAddress</ErrorCode><RedirectTarget>ada@mail.example.test</RedirectTarget>
///     </UserResponse></UserResponses></Response></GetUserSettingsResponseMessage></Body></Envelope>"#;
/// let found = read_user_settings(xml)?;
/// assert_eq!(found, [Autodiscovered::RedirectAddress("ada@mail.example.test".into())]);
/// # Ok::<(), ewsnotify::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Protocol`] and [`ErrorKind::Limit`] for what is no such answer (a web page, nothing at all), and
/// [`ErrorKind::Server`] for a SOAP fault.
pub fn read_user_settings(bytes: &[u8]) -> Result<Vec<Autodiscovered>> {
    let (mut version, mut found, mut fault) = (None, None, None);
    Reader::new(bytes, Limits::STREAM)?.document(|r, root| {
        expect(&root, "Envelope", "SOAP")?;
        r.any_children(|r, start| match start.name.as_str() {
            "Header" => r.any_children(|r, start| {
                if start.name == "ServerVersionInfo" {
                    version = Some(server_version(r)?);
                }
                Ok(())
            }),
            "Body" => r.any_children(|r, start| {
                match start.name.as_str() {
                    "GetUserSettingsResponseMessage" => {
                        r.any_children(|r, start| {
                            if start.name == "Response" {
                                found = Some(response(r)?);
                            }
                            Ok(())
                        })?;
                    }
                    "Fault" => fault = Some(read_fault(r)?),
                    _ => {}
                }
                Ok(())
            }),
            _ => Ok(()),
        })
    })?;
    if let Some(fault) = fault {
        return Err(fault_error(&fault, "GetUserSettings"));
    }
    let mut found = found.ok_or_else(|| protocol("The answer is SOAP, but none of Autodiscover."))?;
    for user in &mut found {
        if let Autodiscovered::Settings(settings) = user {
            settings.server_version.clone_from(&version);
        }
    }
    Ok(found)
}

/// Reads the answer to a POX request.
///
/// ```
/// use ewsnotify::proto::autodiscover::{Autodiscovered, read_pox};
///
/// let xml = b"<Autodiscover><Response><Account><Action>settings</Action><Protocol><Type>EXPR</Type>\
///     <EwsUrl>https://mail.example.test/EWS/Exchange.asmx</EwsUrl></Protocol></Account></Response></Autodiscover>";
/// let Autodiscovered::Settings(found) = read_pox(xml)? else { panic!() };
/// assert_eq!(found.external_ews_url.as_deref(), Some("https://mail.example.test/EWS/Exchange.asmx"));
/// # Ok::<(), ewsnotify::Error>(())
/// ```
///
/// # Errors
/// As of [`read_user_settings`], faults apart.
pub fn read_pox(bytes: &[u8]) -> Result<Autodiscovered> {
    let mut found = None;
    Reader::new(bytes, Limits::STREAM)?.document(|r, root| {
        expect(&root, "Autodiscover", "POX")?;
        r.any_children(|r, start| {
            if start.name == "Response" {
                pox_response(r, &mut found)?;
            }
            Ok(())
        })
    })?;
    found.ok_or_else(|| protocol("The answer is one of Autodiscover with nothing in it."))
}

fn expect(root: &Start, name: &str, dialect: &str) -> Result<()> {
    if root.name == name {
        return Ok(());
    }
    let root: String = root.name.chars().take(60).collect();
    Err(protocol(format!("The answer is XML, but none of Autodiscover's {dialect}: its root is <{root}>.")))
}

fn response(r: &mut Reader) -> Result<Vec<Autodiscovered>> {
    let (mut code, mut text, mut users) = (None, None, Vec::new());
    r.any_children(|r, start| {
        match start.name.as_str() {
            "ErrorCode" => code = r.text()?,
            "ErrorMessage" => text = r.text()?,
            "UserResponses" => r.any_children(|r, start| {
                if start.name == "UserResponse" {
                    r.count_thing()?;
                    users.push(user(r)?);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    match code.filter(|code| code != "NoError") {
        Some(code) => Ok(vec![Autodiscovered::Refused { code: cut(code), text: text.map(cut) }]),
        None => Ok(users),
    }
}

fn user(r: &mut Reader) -> Result<Autodiscovered> {
    let (mut code, mut text, mut target) = (None, None, None);
    let mut settings = UserSettings::default();
    r.any_children(|r, start| {
        match start.name.as_str() {
            "ErrorCode" => code = r.text()?,
            "ErrorMessage" => text = r.text()?,
            "RedirectTarget" => target = r.text()?,
            "UserSettings" => r.any_children(|r, start| {
                if start.name == "UserSetting" {
                    setting(r, &mut settings)?;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    let code = code.unwrap_or_else(|| "NoError".into());
    Ok(match (code.as_str(), target) {
        ("NoError", _) => Autodiscovered::Settings(Box::new(settings)),
        ("RedirectAddress", Some(to)) => Autodiscovered::RedirectAddress(to),
        ("RedirectUrl", Some(to)) => Autodiscovered::RedirectUrl(to),
        _ => Autodiscovered::Refused { code: cut(code), text: text.map(cut) },
    })
}

fn setting(r: &mut Reader, into: &mut UserSettings) -> Result<()> {
    let (mut name, mut value) = (None, None);
    r.any_children(|r, start| {
        match start.name.as_str() {
            "Name" => name = r.text()?,
            "Value" => value = r.text()?,
            _ => {}
        }
        Ok(())
    })?;
    match name.as_deref() {
        Some("AutoDiscoverSMTPAddress") => into.address = value,
        Some("ExternalEwsUrl") => into.external_ews_url = value,
        Some("InternalEwsUrl") => into.internal_ews_url = value,
        Some("GroupingInformation") => into.grouping_information = value,
        Some("EwsSupportedSchemas") => into.ews_supported_schemas = value,
        _ => {}
    }
    Ok(())
}

/// `ServerVersionInfo`, whose parts are elements here and not attributes.
fn server_version(r: &mut Reader) -> Result<ServerVersion> {
    let mut version = ServerVersion::default();
    r.any_children(|r, start| {
        match start.name.as_str() {
            "MajorVersion" => version.major = r.parse()?,
            "MinorVersion" => version.minor = r.parse()?,
            "MajorBuildNumber" => version.major_build = r.parse()?,
            "MinorBuildNumber" => version.minor_build = r.parse()?,
            "Version" => version.version = r.text()?.map(cut),
            _ => {}
        }
        Ok(())
    })?;
    Ok(version)
}

fn read_fault(r: &mut Reader) -> Result<Fault> {
    let (mut code, mut text) = (None, None);
    r.any_children(|r, start| {
        match start.name.as_str() {
            "faultcode" => code = r.text()?,
            "faultstring" => text = r.text()?,
            _ => {}
        }
        Ok(())
    })?;
    let code = code.unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned();
    Ok(Fault { code: crate::proto::ResponseCode(cut(code).into()), text: text.map(cut), back_off: None })
}

fn pox_response(r: &mut Reader, found: &mut Option<Autodiscovered>) -> Result<()> {
    let mut address = None;
    let mut account = None;
    r.any_children(|r, start| {
        match start.name.as_str() {
            "User" => r.any_children(|r, start| {
                if start.name == "AutoDiscoverSMTPAddress" {
                    address = r.text()?;
                }
                Ok(())
            })?,
            "Account" => account = Some(pox_account(r)?),
            "Error" => {
                let (mut code, mut text) = (None, None);
                r.any_children(|r, start| {
                    match start.name.as_str() {
                        "ErrorCode" => code = r.text()?,
                        "Message" => text = r.text()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                let code = cut(code.unwrap_or_default());
                *found = Some(Autodiscovered::Refused { code, text: text.map(cut) });
            }
            _ => {}
        }
        Ok(())
    })?;
    match account {
        Some(Autodiscovered::Settings(mut settings)) => {
            settings.address = address;
            *found = Some(Autodiscovered::Settings(settings));
        }
        Some(account) => *found = Some(account),
        None => {}
    }
    Ok(())
}

fn pox_account(r: &mut Reader) -> Result<Autodiscovered> {
    let (mut action, mut to_address, mut to_url) = (None, None, None);
    let mut protocols = Vec::new();
    r.any_children(|r, start| {
        match start.name.as_str() {
            "Action" => action = r.text()?,
            "RedirectAddr" => to_address = r.text()?,
            "RedirectUrl" => to_url = r.text()?,
            "Protocol" => {
                r.count_thing()?;
                // `Type` is an attribute in the form for MAPI over HTTP, else an element.
                protocols.push(pox_protocol(r, start)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    match (action.as_deref(), to_address, to_url) {
        (Some("redirectAddr"), Some(to), _) => return Ok(Autodiscovered::RedirectAddress(to)),
        (Some("redirectUrl"), _, Some(to)) => return Ok(Autodiscovered::RedirectUrl(to)),
        _ => {}
    }
    let mut settings = UserSettings::default();
    for wanted in ["EXPR", "EXHTTP", "EXCH"] {
        for p in protocols.iter_mut().filter(|p| p.kind.as_deref() == Some(wanted)) {
            let url = match wanted {
                "EXCH" => &mut settings.internal_ews_url,
                _ => &mut settings.external_ews_url,
            };
            *url = url.take().or(p.ews_url.take()).or(p.as_url.take());
            settings.grouping_information = settings.grouping_information.take().or(p.grouping.take());
            settings.server_version = settings.server_version.take().or(p.version.take());
        }
    }
    Ok(Autodiscovered::Settings(Box::new(settings)))
}

#[derive(Default)]
struct Protocol {
    kind: Option<String>,
    ews_url: Option<String>,
    /// The availability service, which is EWS.
    as_url: Option<String>,
    grouping: Option<String>,
    version: Option<ServerVersion>,
}

fn pox_protocol(r: &mut Reader, mut start: Start) -> Result<Protocol> {
    let mut protocol = Protocol { kind: start.take("Type"), ..Protocol::default() };
    r.any_children(|r, start| {
        match start.name.as_str() {
            "Type" => protocol.kind = r.text()?,
            "EwsUrl" => protocol.ews_url = r.text()?,
            "ASUrl" => protocol.as_url = r.text()?,
            "GroupingInformation" => protocol.grouping = r.text()?,
            "ServerVersion" => protocol.version = r.text()?.and_then(|text| packed_version(&text)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(protocol)
}

/// `73C08204`: four bits of flags, six each of the major and minor version, one of flags, and 15 of the build.
fn packed_version(text: &str) -> Option<ServerVersion> {
    let bits = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 8)?;
    Some(ServerVersion {
        major: Some(bits >> 22 & 0x3f),
        minor: Some(bits >> 16 & 0x3f),
        major_build: Some(bits & 0x7fff),
        minor_build: None,
        version: None,
    })
}

fn protocol(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Protocol, text)
}

/// A server's text, as much of it as a person reads.
fn cut(text: String) -> String {
    text.chars().take(300).collect()
}
