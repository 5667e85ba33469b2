//! Autodiscover's two dialects: SOAP `GetUserSettings` ([MS-OXWSADISC]) and POX, "plain old XML" ([MS-OXDSCLI]).

mod read;
mod write;

use super::ServerVersion;

pub use read::{read_pox, read_user_settings};
pub use write::{USER_SETTINGS_ACTION, write_pox, write_user_settings};

/// What Autodiscover says of a mailbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Autodiscovered {
    /// Where it is.
    Settings(Box<UserSettings>),
    /// Ask again for this address.
    RedirectAddress(String),
    /// Ask again at this URL.
    RedirectUrl(String),
    /// Nothing, and why.
    Refused {
        /// The code: a word of SOAP's, or a number of POX's.
        code: String,
        /// For people.
        text: Option<String>,
    },
}

/// The settings of a mailbox that matter here. All texts are the server's, as they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserSettings {
    /// The mailbox's primary address.
    pub address: Option<String>,
    /// Where EWS is for clients from outside.
    pub external_ews_url: Option<String>,
    /// Where EWS is for clients from inside.
    pub internal_ews_url: Option<String>,
    /// Which of the servers behind the URL the mailbox is on: mailboxes with the same URL and the same information may share a
    /// stream.
    pub grouping_information: Option<String>,
    /// The versions of EWS that the server speaks, separated by commas.
    pub ews_supported_schemas: Option<String>,
    /// The version of the server.
    pub server_version: Option<ServerVersion>,
}
