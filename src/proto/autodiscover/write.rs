//! Writes Autodiscover's requests.

use crate::proto::xml::{SOAP, Writer};
use crate::{Error, ErrorKind, Result};

/// The `SOAPAction` of [`write_user_settings`]' request, without quotes.
pub const USER_SETTINGS_ACTION: &str =
    "http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/GetUserSettings";

const SOAP_NAMESPACE: &str = "http://schemas.microsoft.com/exchange/2010/Autodiscover";
const ADDRESSING: &str = "http://www.w3.org/2005/08/addressing";
const POX_REQUEST: &str = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006";
const POX_RESPONSE: &str = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";
const WANTED: [&str; 5] = [
    "AutoDiscoverSMTPAddress",
    "InternalEwsUrl",
    "ExternalEwsUrl",
    "EwsSupportedSchemas",
    "GroupingInformation",
];

/// A SOAP request for the settings of some mailboxes, which goes to `url`.
///
/// ```
/// use ewsnotify::proto::autodiscover::write_user_settings;
///
/// let url = "https://example.test/autodiscover/autodiscover.svc";
/// let xml = String::from_utf8(write_user_settings(&["ada@example.test"], url)?)?;
/// assert!(xml.contains("<a:User><a:Mailbox>ada@example.test</a:Mailbox></a:User>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`] where an address is empty, or has a character that XML cannot carry.
pub fn write_user_settings(addresses: &[&str], url: &str) -> Result<Vec<u8>> {
    let namespaces = [("soap", SOAP), ("a", SOAP_NAMESPACE), ("wsa", ADDRESSING)];
    Writer::document_of("soap:Envelope", &namespaces, |w| {
        w.element("soap:Header", |w| {
            w.text("a:RequestedServerVersion", "Exchange2013")?;
            w.text("wsa:Action", USER_SETTINGS_ACTION)?;
            w.text("wsa:To", url)
        })?;
        w.element("soap:Body", |w| {
            w.element("a:GetUserSettingsRequestMessage", |w| {
                w.element("a:Request", |w| {
                    w.element("a:Users", |w| {
                        addresses.iter().try_for_each(|address| {
                            w.element("a:User", |w| w.text("a:Mailbox", not_empty(address)?))
                        })
                    })?;
                    w.element("a:RequestedSettings", |w| {
                        WANTED.iter().try_for_each(|setting| w.text("a:Setting", setting))
                    })
                })
            })
        })
    })
}

/// A POX request for the settings of a mailbox.
///
/// ```
/// use ewsnotify::proto::autodiscover::write_pox;
///
/// let xml = String::from_utf8(write_pox("ada@example.test")?)?;
/// assert!(xml.contains("<EMailAddress>ada@example.test</EMailAddress>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As of [`write_user_settings`].
pub fn write_pox(address: &str) -> Result<Vec<u8>> {
    Writer::document_of("Autodiscover", &[("", POX_REQUEST)], |w| {
        w.element("Request", |w| {
            w.text("EMailAddress", not_empty(address)?)?;
            w.text("AcceptableResponseSchema", POX_RESPONSE)
        })
    })
}

fn not_empty(address: &str) -> Result<&str> {
    match address.is_empty() {
        true => Err(Error::new(ErrorKind::Invalid, "the address to look up is empty")),
        false => Ok(address),
    }
}
