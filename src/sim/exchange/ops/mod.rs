//! SOAP operations: from the bytes of a request to the bytes of an answer.

mod change_items;
mod folder_shape;
mod folders;
mod item_shape;
mod items;
mod misc;
mod notify;
mod sync;

use super::super::{Answer, Style};
use super::back_ends::{self, Machine, Routing};
use super::beside;
use super::budget::{self, Charge};
use super::ids::{self, Entry};
use super::mailbox::Mailbox;
use super::settings::Failure;
use super::stream::Stream;
use super::tree::{self, Node, Ns, Violation};
use super::world::World;
use super::write::{self, Refusal};

/// An operation's work: the request in, what there is to say out.
type Operation = fn(&mut Call<'_>, &Node) -> Result<Outcome, Fail>;

/// The operations, by the name of the request's element.
const OPERATIONS: [(&str, Operation); 25] = [
    ("ConvertId", misc::convert_id),
    ("CopyFolder", folders::copy_folder),
    ("CopyItem", change_items::copy_item),
    ("CreateFolder", folders::create_folder),
    ("CreateItem", change_items::create_item),
    ("DeleteFolder", folders::delete_folder),
    ("DeleteItem", change_items::delete_item),
    ("FindFolder", folders::find_folder),
    ("FindItem", items::find_item),
    ("GetAttachment", items::get_attachment),
    ("GetEvents", notify::get_events),
    ("GetFolder", folders::get_folder),
    ("GetItem", items::get_item),
    ("GetServerTimeZones", misc::get_server_time_zones),
    ("GetStreamingEvents", notify::get_streaming_events),
    ("GetUserConfiguration", misc::get_user_configuration),
    ("MoveFolder", folders::move_folder),
    ("MoveItem", change_items::move_item),
    ("ResolveNames", misc::resolve_names),
    ("Subscribe", notify::subscribe),
    ("SyncFolderHierarchy", sync::sync_folder_hierarchy),
    ("SyncFolderItems", sync::sync_folder_items),
    ("Unsubscribe", notify::unsubscribe),
    ("UpdateFolder", folders::update_folder),
    ("UpdateItem", change_items::update_item),
];

const VERSIONS: [&str; 19] = [
    "Exchange2007",
    "Exchange2007_SP1",
    "Exchange2009",
    "Exchange2010",
    "Exchange2010_SP1",
    "Exchange2010_SP2",
    "Exchange2012",
    "Exchange2013",
    "Exchange2013_SP1",
    "Exchange2015",
    "Exchange2016",
    "V2015_10_05",
    "V2016_01_06",
    "V2016_04_13",
    "V2016_07_13",
    "V2016_10_10",
    "V2017_01_07",
    "V2017_04_14",
    "V2017_07_11",
];

/// A request of a user.
pub(super) struct Call<'a> {
    world: &'a mut World,
    style: Style,
    operation: &'static str,
    /// Who signed in, in lower case.
    user: String,
    /// Whose rights count: the impersonated one, or the user.
    acting: String,
    /// The machine that answers.
    machine: Machine,
    /// The content of the public folders is in another mailbox than the request goes to.
    misses_public: bool,
    /// The place of the version that the client speaks in [`VERSIONS`].
    version: usize,
}

/// What an operation has to say.
pub(super) enum Outcome {
    /// Response messages.
    Messages(String),
    Stream(Stream),
}

/// Why an operation cannot be done at all.
pub(super) enum Fail {
    Fault(Refusal),
    Message(Refusal),
}

impl From<Violation> for Fail {
    fn from(violation: Violation) -> Fail {
        Fail::Fault(schema_violation(&violation.0))
    }
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Fail {
        Fail::Message(refusal)
    }
}

/// Answers a request; and the cookie that comes with it.
pub(super) fn answer(
    world: &mut World,
    user: &str,
    routing: &Routing<'_>,
    soap: &[u8],
) -> (Answer, Option<String>) {
    let style = world.style;
    let mut cookie = None;
    let answer = match run(world, user, routing, soap, &mut cookie) {
        Ok((name, Outcome::Messages(text))) => {
            whole(200, write::envelope(style, name, &write::messages(&text)))
        }
        Ok((_, Outcome::Stream(stream))) => Answer::Stream(stream),
        Err(refusal) => whole(fault_status(style), write::fault(style, &refusal)),
    };
    (answer, cookie)
}

/// Reads a request as far as it says what is asked for, and on whose behalf.
fn asked<'a, 'w>(
    world: &'w mut World,
    user: &str,
    root: &'a Node,
) -> Result<(Call<'w>, &'a Node, Operation), Refusal> {
    if root.ns != Ns::Soap || root.name != "Envelope" {
        return Err(schema_violation("The root element is not a SOAP envelope."));
    }
    let request = root.child("Body").and_then(|body| body.children.first());
    let invalid = || Refusal::new("ErrorInvalidRequest", "The request is invalid.");
    let request = request.ok_or_else(invalid)?;
    let (name, operation) = OPERATIONS
        .iter()
        .copied()
        .find(|(name, _)| *name == request.name && request.ns == Ns::Messages)
        .ok_or_else(invalid)?;
    let style = world.style;
    let mut call = Call {
        world,
        style,
        operation: name,
        user: user.to_ascii_lowercase(),
        acting: String::new(),
        machine: Machine::default(),
        misses_public: false,
        version: VERSIONS.len(),
    };
    let header = root.child("Header");
    call.version = version(header, call.world.settings.newest_version)?;
    call.acting = call.who(header)?;
    Ok((call, request, operation))
}

/// Who is charged for a request; the status and body of the answer, if it is refused for the load.
pub(super) fn admit(world: &mut World, user: &str, soap: &[u8]) -> Result<Option<Charge>, (u16, Vec<u8>)> {
    if world.settings.service_time.is_zero() {
        // Nothing is ever under way.
        return Ok(None);
    }
    let style = world.style;
    let Ok(root) = tree::parse(soap) else { return Ok(None) };
    let Ok((call, ..)) = asked(world, user, &root) else { return Ok(None) };
    let (acting, name) = (call.acting, call.operation);
    budget::charge(call.world, &acting, name).map_err(|refused| match refused {
        Fail::Fault(refusal) => (fault_status(style), write::fault(style, &refusal)),
        Fail::Message(refusal) => {
            let message = write::message(name, Err((refusal, "")));
            (200, write::envelope(style, name, &write::messages(&message)))
        }
    })
}

fn run(
    world: &mut World,
    user: &str,
    routing: &Routing<'_>,
    soap: &[u8],
    cookie: &mut Option<String>,
) -> Result<(&'static str, Outcome), Refusal> {
    world.bury();
    let root = tree::parse(soap).map_err(|text| schema_violation(&text))?;
    let (mut call, request, operation) = asked(world, user, &root)?;
    let (style, name) = (call.style, call.operation);
    *call.world.counts.entry(name.to_owned()).or_default() += 1;
    call.machine = call.world.reached(&call.acting, routing);
    call.misses_public = call.world.misses_public(routing);
    *cookie = back_ends::cookie(&call.machine).filter(|_| routing.prefer);
    let outcome = match call.failure(name) {
        Some(failure) => Err(failure),
        None => operation(&mut call, request),
    };
    match outcome {
        Ok(outcome) => Ok((name, outcome)),
        Err(Fail::Message(refusal)) => {
            let message = match (style, name) {
                (Style::Gromox, "GetEvents") => write::named_message("x", Some(&refusal), ""),
                _ => write::message(name, Err((refusal, ""))),
            };
            Ok((name, Outcome::Messages(message)))
        }
        Err(Fail::Fault(refusal)) => Err(refusal),
    }
}

impl Call<'_> {
    /// Whether the client speaks this version of the schema, or a later one.
    fn speaks(&self, version: &str) -> bool {
        VERSIONS.iter().position(|v| *v == version).is_some_and(|place| self.version >= place)
    }

    /// Refuses what came into the schema with a later version than the client speaks, as servers of that time do.
    fn since(&self, version: &str, what: &str) -> Result<(), Violation> {
        match self.speaks(version) || self.world.settings.newest_version.is_none() {
            true => Ok(()),
            false => Err(Violation(format!("'{what}' is not known in this version."))),
        }
    }

    /// Whose rights are to count.
    fn who(&self, header: Option<&Node>) -> Result<String, Refusal> {
        let Some(impersonation) = header.and_then(|header| header.child("ExchangeImpersonation")) else {
            if self.world.no_mailbox.contains(&self.user) {
                let text = "ExchangeImpersonation SOAP header must be present for this type of OAuth token.";
                return Err(Refusal::new("ErrorInvalidExchangeImpersonationHeaderData", text));
            }
            return Ok(self.user.clone());
        };
        let mut names = vec!["PrincipalName", "PrimarySmtpAddress", "SmtpAddress"];
        if self.since("Exchange2010", "SmtpAddress").is_err() {
            names.pop();
        }
        let address = impersonation
            .child("ConnectingSID")
            .and_then(|sid| sid.children.iter().find(|c| names.contains(&c.name.as_str())))
            .map(|c| c.text().to_ascii_lowercase())
            .filter(|a| !a.is_empty());
        let Some(address) = address else {
            let text = "The ExchangeImpersonation SOAP header is invalid.";
            return Err(Refusal::new("ErrorInvalidExchangeImpersonationHeaderData", text));
        };
        if self.world.no_impersonation.contains(&self.user) {
            let text = "The account does not have permission to impersonate the requested user.";
            return Err(Refusal::new("ErrorImpersonateUserDenied", text));
        }
        if !self.world.mailboxes.contains_key(&address) {
            return Err(no_mailbox());
        }
        Ok(address)
    }

    /// The failure that was ordered for this operation, if any.
    fn failure(&mut self, name: &str) -> Option<Fail> {
        let fits = |(of, failure): &(String, Failure)| {
            (of == name || of == "*") && failure.mailbox.as_ref().is_none_or(|m| *m == self.acting)
        };
        let place = self.world.failures.iter().position(fits)?;
        let (_, failure) = self.world.failures.get_mut(place)?;
        failure.times = failure.times.saturating_sub(1);
        let Failure { code, text, back_off, as_fault, times, .. } = failure.clone();
        if times == 0 {
            self.world.failures.remove(place);
        }
        let wait = back_off.map(|b| ("BackOffMilliseconds".to_owned(), b.as_millis().to_string()));
        let refusal = Refusal { code, text, values: wait.into_iter().collect() };
        Some(if as_fault { Fail::Fault(refusal) } else { Fail::Message(refusal) })
    }

    /// The mailbox with that key, if it is there and the caller may open it.
    fn mailbox(&self, key: &str) -> Result<&Mailbox, Refusal> {
        let mailbox = self.world.mailboxes.get(key).ok_or_else(no_mailbox)?;
        if let Some(code) = &mailbox.offline {
            return Err(Refusal::new(code, "The mailbox database is temporarily unavailable."));
        }
        // Of the hierarchy every public folder mailbox has a copy.
        let hierarchy = matches!(self.operation, "FindFolder" | "GetFolder");
        if self.world.is_public(key) && self.misses_public && !hierarchy {
            // Which code it is, is not documented.
            return Err(no_public());
        }
        let open = self.acting == key || self.world.is_public(key) || mailbox.granted.contains(&self.acting);
        if !open {
            let text = "Access is denied. Check credentials and try again.";
            return Err(Refusal::new("ErrorAccessDenied", text));
        }
        Ok(mailbox)
    }

    /// The mailbox and folder that a FolderId or DistinguishedFolderId names.
    fn folder(&self, node: &Node) -> Result<(String, u64), Fail> {
        let id = node.need_attribute("Id")?;
        if node.name == "DistinguishedFolderId" {
            let key = node.at(&["Mailbox", "EmailAddress"]).map(|a| a.text().to_ascii_lowercase());
            let key = key.unwrap_or_else(|| self.acting.clone());
            if !DISTINGUISHED.split(' ').any(|name| name == id) {
                let text = "The 'Id' attribute is invalid - The value is invalid according to its datatype.";
                return Err(Fail::Fault(schema_violation(text)));
            }
            if let Some(since) = crate::proto::distinguished_since(id) {
                self.since(since.name(), id)?;
            }
            let (key, name) = beside::place(key, id);
            if self.world.is_public(&key) && !self.world.mailboxes.contains_key(&key) {
                return Err(no_public().into());
            }
            // Not everybody has an archive.
            if name != id && !self.world.mailboxes.contains_key(&key) {
                return Err(no_folder().into());
            }
            let number = self.mailbox(&key)?.well_known(name).ok_or_else(no_folder)?;
            return Ok((key, number));
        }
        match self.parse_id(id)? {
            Entry::Folder { mailbox, folder } => {
                let key = self.world.key_of(mailbox).ok_or_else(no_folder)?.to_owned();
                match self.mailbox(&key)?.folders.contains_key(&folder) {
                    true => Ok((key, folder)),
                    false => Err(no_folder().into()),
                }
            }
            Entry::Item { .. } => {
                Err(Refusal::new("ErrorCannotUseItemIdForFolderId", "Id must be a folder id.").into())
            }
        }
    }

    /// The mailbox, folder and item that an ItemId names.
    fn item(&self, node: &Node) -> Result<(String, u64, u64), Fail> {
        match self.parse_id(node.need_attribute("Id")?)? {
            Entry::Item { mailbox, folder, item } => {
                let key = self.world.key_of(mailbox).ok_or_else(no_item)?.to_owned();
                let home = self.mailbox(&key)?.folders.get(&folder).ok_or_else(no_item)?;
                match home.items.contains_key(&item) {
                    true => Ok((key, folder, item)),
                    false => Err(no_item().into()),
                }
            }
            Entry::Folder { .. } => {
                Err(Refusal::new("ErrorCannotUseFolderIdForItemId", "Id must be an item id.").into())
            }
        }
    }

    fn parse_id(&self, id: &str) -> Result<Entry, Refusal> {
        match ids::parse(self.style, id) {
            Some(entry) => Ok(entry),
            None if ids::from_legacy(self.style, id).is_some() => {
                let text = "The EWS Id is in EwsLegacyId format which is not supported by the Exchange version specified by \
                            your request. Please use the ConvertId method to convert from EwsLegacyId to EwsId format.";
                Err(Refusal::new("ErrorInvalidIdMalformedEwsLegacyIdFormat", text))
            }
            None if id.is_empty() => Err(Refusal::new("ErrorInvalidIdEmpty", "Id is empty.")),
            None => Err(Refusal::new("ErrorInvalidIdMalformed", "Id is malformed.")),
        }
    }

    /// A response message for each of many things, in the order asked. `empty` is what an error holds in place of them.
    fn each<'n>(
        &mut self,
        nodes: impl IntoIterator<Item = &'n Node>,
        empty: &str,
        mut one: impl FnMut(&mut Self, &'n Node) -> Result<String, Fail>,
    ) -> Result<Outcome, Fail> {
        let mut out = String::new();
        for node in nodes {
            let message = match one(self, node) {
                Ok(content) => Ok(content),
                Err(Fail::Message(refusal)) => Err((refusal, empty)),
                Err(fault) => return Err(fault),
            };
            out.push_str(&write::message(self.operation, message));
        }
        Ok(Outcome::Messages(out))
    }
}

/// The version that the client speaks, by its place; the newest if it does not say.
fn version(header: Option<&Node>, newest: Option<&str>) -> Result<usize, Refusal> {
    let asked = header.and_then(|h| h.child("RequestServerVersion")).and_then(|v| v.attribute("Version"));
    let place = |version: &str| VERSIONS.iter().position(|v| *v == version);
    let newest = newest.and_then(place).unwrap_or(VERSIONS.len());
    let Some(asked) = asked else { return Ok(newest) };
    let text = "The specified server version is invalid.";
    let unknown = || Refusal::new("ErrorInvalidServerVersion", text);
    place(asked).filter(|asked| *asked <= newest).ok_or_else(unknown)
}

/// The names that DistinguishedFolderId may have; lower case only. Most of them no mailbox here has.
const DISTINGUISHED: &str = "calendar contacts deleteditems drafts inbox journal notes outbox sentitems tasks msgfolderroot \
    publicfoldersroot root junkemail searchfolders voicemail recoverableitemsroot \
    recoverableitemsdeletions recoverableitemsversions recoverableitemspurges \
    recoverableitemsdiscoveryholds archiveroot archivemsgfolderroot archivedeleteditems archiveinbox \
    archiverecoverableitemsroot archiverecoverableitemsdeletions archiverecoverableitemsversions \
    archiverecoverableitemspurges archiverecoverableitemsdiscoveryholds syncissues conflicts \
    localfailures serverfailures recipientcache quickcontacts conversationhistory adminauditlogs \
    todosearch mycontacts directory imcontactlist peopleconnect favorites mecontact personmetadata \
    allcategorizeditems allcontacts allitems allpersonmetadata companycontacts dlppolicyevaluation \
    fromfavoritesenders inference onenotepagepreviews peoplecentricconversationbuddies \
    qedcdefaultretention qedclongretention qedcmediumretention qedcshortretention quarantinedemail \
    quarantinedemaildefaultcategory recoverableitemssubstrateholds relevantcontacts \
    sharepointnotifications shortnotes temporarysaves usercuratedcontacts";

/// The nodes in a list such as ItemIds, which must not be empty.
fn list<'n>(request: &'n Node, name: &str) -> Result<&'n [Node], Violation> {
    let list = request.need(name)?;
    match list.children.as_slice() {
        [] => Err(Violation(format!("The element '{name}' has incomplete content."))),
        nodes => Ok(nodes),
    }
}

/// gromox sends its faults with status 200.
fn fault_status(style: Style) -> u16 {
    if style == Style::Exchange { 500 } else { 200 }
}

fn whole(status: u16, body: Vec<u8>) -> Answer {
    Answer::Whole { status, body }
}

fn schema_violation(text: &str) -> Refusal {
    let values = [("LineNumber", "1"), ("LinePosition", "1"), ("Violation", text)];
    Refusal {
        code: "ErrorSchemaValidation".to_owned(),
        text: format!("The request failed schema validation: {text}"),
        values: values.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
    }
}

fn no_mailbox() -> Refusal {
    Refusal::new("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.")
}

fn no_public() -> Refusal {
    Refusal::new("ErrorNoPublicFolderReplicaAvailable", "There is no public folder replica available.")
}

fn no_folder() -> Refusal {
    Refusal::new("ErrorFolderNotFound", "The specified folder could not be found in the store.")
}

fn no_item() -> Refusal {
    Refusal::new("ErrorItemNotFound", "The specified object was not found in the store.")
}
