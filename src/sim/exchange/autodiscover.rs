//! Autodiscover's answers, SOAP and POX: where a mailbox is, or who knows better. Bytes by hand, as the documentation shows them.

use super::super::Style;
use super::Exchange;
use super::tree::{Node, parse};
use super::world::World;
use super::write::escape;

const SOAP: &str = super::tree::SOAP;
const NAMESPACE: &str = "http://schemas.microsoft.com/exchange/2010/Autodiscover";

/// What Autodiscover says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guide {
    /// Where the mailbox is.
    Settings {
        /// `ExternalEwsUrl`.
        external: Option<String>,
        /// `InternalEwsUrl`.
        internal: Option<String>,
        /// `GroupingInformation`.
        grouping: Option<String>,
    },
    /// Ask for another address.
    RedirectAddress(String),
    /// Ask at another URL.
    RedirectUrl(String),
    /// An error, by SOAP's word for it, such as `InvalidUser`.
    Refuse(String),
}

impl Exchange {
    /// What Autodiscover is to say of an address from now on. Unless told, it gives the server's own URL and the group of
    /// the mailbox's machine (`EX1`, where it was not placed) for mailboxes that are there, and knows no others.
    pub fn guide(&self, address: &str, guide: Guide) {
        self.lock().guides.insert(address.to_ascii_lowercase(), guide);
    }

    /// The URL that Autodiscover gives, where it was told no other.
    pub fn set_ews_url(&self, url: &str) {
        url.clone_into(&mut self.lock().ews_url);
    }

    /// Answers a POST to `autodiscover.svc`: the HTTP status and the envelope.
    pub fn autodiscover_soap(&self, soap: &[u8]) -> (u16, Vec<u8>) {
        let world = self.lock();
        match asked(soap) {
            Some((users, settings)) => (200, soap_answer(&world, &users, &settings)),
            None => (500, fault()),
        }
    }

    /// Answers a POST to `autodiscover.xml`.
    pub fn autodiscover_pox(&self, xml: &[u8]) -> Vec<u8> {
        let world = self.lock();
        let root = parse(xml).ok().filter(|root| root.name == "Autodiscover");
        let address =
            root.as_ref().and_then(|root| find(root, "EMailAddress")).map(Node::text).unwrap_or_default();
        pox_answer(&world, address)
    }
}

/// Of a good request: the mailboxes and the settings that are asked for.
fn asked(soap: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let root = parse(soap).ok()?;
    let request = find(&root, "GetUserSettingsRequestMessage")?;
    let texts = |within: &str, name: &str| {
        let all = find(request, within).map(|node| every(node, name)).unwrap_or_default();
        all.into_iter().map(|node| node.text().to_owned()).collect::<Vec<_>>()
    };
    let (users, settings) = (texts("Users", "Mailbox"), texts("RequestedSettings", "Setting"));
    (!users.is_empty() && !settings.is_empty()).then_some((users, settings))
}

fn find<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    if node.name == name { Some(node) } else { node.children.iter().find_map(|child| find(child, name)) }
}

fn every<'a>(node: &'a Node, name: &str) -> Vec<&'a Node> {
    let mut found: Vec<&Node> = node.children.iter().flat_map(|child| every(child, name)).collect();
    if node.name == name {
        found.push(node);
    }
    found
}

fn guide(world: &World, address: &str) -> Guide {
    let key = address.to_ascii_lowercase();
    if let Some(guide) = world.guides.get(&key) {
        return guide.clone();
    }
    match world.mailboxes.contains_key(&key) {
        true => Guide::Settings {
            external: Some(world.ews_url.clone()),
            internal: None,
            grouping: Some(world.machines.get(&key).map_or("EX1", |machine| &machine.group).to_owned()),
        },
        false => Guide::Refuse("InvalidUser".to_owned()),
    }
}

fn soap_answer(world: &World, users: &[String], settings: &[String]) -> Vec<u8> {
    let response = match users.len() > world.settings.max_users {
        true => "<ErrorCode>InvalidRequest</ErrorCode><ErrorMessage>The number of users in the request is greater than the \
                 maximum.</ErrorMessage><UserResponses />"
            .to_owned(),
        false => {
            let users: String = users.iter().map(|user| soap_user(world, user, settings)).collect();
            format!("<ErrorCode>NoError</ErrorCode><ErrorMessage /><UserResponses>{users}</UserResponses>")
        }
    };
    let (minor, build, revision) = match world.style {
        Style::Exchange => (1, 2507, 39),
        Style::Gromox => (0, 847, 4040),
    };
    format!(
        "<s:Envelope xmlns:s=\"{SOAP}\" xmlns:a=\"http://www.w3.org/2005/08/addressing\"><s:Header>\
         <a:Action s:mustUnderstand=\"1\">http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/GetUserSettingsResponse\
         </a:Action><h:ServerVersionInfo xmlns:h=\"{NAMESPACE}\" xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <h:MajorVersion>15</h:MajorVersion><h:MinorVersion>{minor}</h:MinorVersion>\
         <h:MajorBuildNumber>{build}</h:MajorBuildNumber><h:MinorBuildNumber>{revision}</h:MinorBuildNumber>\
         <h:Version>Exchange2013_SP1</h:Version></h:ServerVersionInfo></s:Header><s:Body>\
         <GetUserSettingsResponseMessage xmlns=\"{NAMESPACE}\"><Response xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">\
         {response}</Response>\
         </GetUserSettingsResponseMessage></s:Body></s:Envelope>"
    )
    .into_bytes()
}

fn soap_user(world: &World, address: &str, wanted: &[String]) -> String {
    let address = &world.address_of(address);
    let redirect = |code: &str, text: &str, to: &str| {
        format!(
            "<UserResponse><ErrorCode>{code}</ErrorCode><ErrorMessage>{text}</ErrorMessage><RedirectTarget>{}</RedirectTarget>\
             <UserSettingErrors /><UserSettings /></UserResponse>",
            escape(to)
        )
    };
    let (external, internal, grouping) = match guide(world, address) {
        Guide::Settings { external, internal, grouping } => (external, internal, grouping),
        Guide::RedirectAddress(to) => return redirect("RedirectAddress", "Redirection address.", &to),
        Guide::RedirectUrl(to) => return redirect("RedirectUrl", "Redirection URL.", &to),
        Guide::Refuse(code) => {
            return format!(
                "<UserResponse><ErrorCode>{}</ErrorCode><ErrorMessage>Invalid user: '{}'</ErrorMessage>\
                 <RedirectTarget i:nil=\"true\" /><UserSettingErrors /><UserSettings /></UserResponse>",
                escape(&code),
                escape(address)
            );
        }
    };
    let (mut settings, mut errors) = (String::new(), String::new());
    for name in wanted {
        let value = match name.as_str() {
            "AutoDiscoverSMTPAddress" => Some(address.clone()),
            "UserDisplayName" => Some(address.split('@').next().unwrap_or_default().to_owned()),
            "ExternalEwsUrl" => external.clone(),
            "InternalEwsUrl" => internal.clone(),
            "GroupingInformation" => grouping.clone(),
            "EwsSupportedSchemas" => Some(
                "Exchange2007, Exchange2007_SP1, Exchange2010, Exchange2010_SP1, Exchange2010_SP2, Exchange2013, Exchange2013_SP1"
                    .to_owned(),
            ),
            _ => None,
        };
        match value {
            Some(value) => settings.push_str(&format!(
                "<UserSetting i:type=\"StringSetting\"><Name>{name}</Name><Value>{}</Value></UserSetting>",
                escape(&value)
            )),
            None => errors.push_str(&format!(
                "<UserSettingError><ErrorCode>SettingIsNotAvailable</ErrorCode><ErrorMessage>The setting is not available.\
                 </ErrorMessage><SettingName>{}</SettingName></UserSettingError>",
                escape(name)
            )),
        }
    }
    format!(
        "<UserResponse><ErrorCode>NoError</ErrorCode><ErrorMessage>No error.</ErrorMessage><RedirectTarget i:nil=\"true\" />\
         <UserSettingErrors>{errors}</UserSettingErrors><UserSettings>{settings}</UserSettings></UserResponse>"
    )
}

fn fault() -> Vec<u8> {
    format!(
        "<s:Envelope xmlns:s=\"{SOAP}\"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring xml:lang=\"en-US\">\
         The request is no GetUserSettings.</faultstring></s:Fault></s:Body></s:Envelope>"
    )
    .into_bytes()
}

fn pox_answer(world: &World, address: &str) -> Vec<u8> {
    let account = match guide(world, address) {
        Guide::RedirectAddress(to) => {
            format!(
                "<Account><Action>redirectAddr</Action><RedirectAddr>{}</RedirectAddr></Account>",
                escape(&to)
            )
        }
        Guide::RedirectUrl(to) => {
            format!(
                "<Account><Action>redirectUrl</Action><RedirectUrl>{}</RedirectUrl></Account>",
                escape(&to)
            )
        }
        Guide::Refuse(code) => {
            let (number, text) = match code.as_str() {
                "InvalidUser" => ("500", "The email address can't be found."),
                _ => ("600", "Invalid Request"),
            };
            return format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover \
                 xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\"><Response>\
                 <Error Time=\"10:31:42.1233453\" Id=\"2422600485\"><ErrorCode>{number}</ErrorCode><Message>{text}</Message>\
                 <DebugData /></Error></Response></Autodiscover>"
            )
            .into_bytes();
        }
        Guide::Settings { external, internal, grouping } => {
            let leaf = |name: &str, text: &Option<String>| {
                text.as_ref().map(|text| format!("<{name}>{}</{name}>", escape(text))).unwrap_or_default()
            };
            format!(
                "<User><DisplayName>{0}</DisplayName><AutoDiscoverSMTPAddress>{0}</AutoDiscoverSMTPAddress></User>\
                 <Account><AccountType>email</AccountType><Action>settings</Action><MicrosoftOnline>False</MicrosoftOnline>\
                 <Protocol><Type>EXCH</Type><ServerVersion>73C18A13</ServerVersion>{1}{3}</Protocol>\
                 <Protocol><Type>EXPR</Type><Server>mail.example.test</Server>{2}{3}</Protocol></Account>",
                escape(address),
                leaf("EwsUrl", &internal),
                leaf("EwsUrl", &external),
                leaf("GroupingInformation", &grouping),
            )
        }
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover \
         xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\"><Response \
         xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\">{account}</Response></Autodiscover>"
    )
    .into_bytes()
}
