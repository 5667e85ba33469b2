//! The names that folders have for EWS, whatever people call them: `DistinguishedFolderIdNameType` ([MS-OXWSFOLD] 2.2.5.1).

use super::message::RequestVersion;

/// A name, and the version of the schema that brought it.
type Row = (&'static str, RequestVersion);

use RequestVersion::{Exchange2007Sp1 as V2007, Exchange2010Sp1 as V2010, Exchange2013Sp1 as V2013};

/// In the order of the schema. The last ones are Exchange Online's, which it answers for whatever version is spoken.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    ("calendar", V2007), ("contacts", V2007), ("deleteditems", V2007), ("drafts", V2007), ("inbox", V2007),
    ("journal", V2007), ("notes", V2007), ("outbox", V2007), ("sentitems", V2007), ("tasks", V2007),
    ("msgfolderroot", V2007), ("publicfoldersroot", V2007), ("root", V2007), ("junkemail", V2007),
    ("searchfolders", V2007), ("voicemail", V2007),
    ("recoverableitemsroot", V2010), ("recoverableitemsdeletions", V2010), ("recoverableitemsversions", V2010),
    ("recoverableitemspurges", V2010), ("recoverableitemsdiscoveryholds", V2013),
    ("archiveroot", V2010), ("archivemsgfolderroot", V2010), ("archivedeleteditems", V2010), ("archiveinbox", V2013),
    ("archiverecoverableitemsroot", V2010), ("archiverecoverableitemsdeletions", V2010),
    ("archiverecoverableitemsversions", V2010), ("archiverecoverableitemspurges", V2010),
    ("archiverecoverableitemsdiscoveryholds", V2013),
    ("syncissues", V2013), ("conflicts", V2013), ("localfailures", V2013), ("serverfailures", V2013),
    ("recipientcache", V2013), ("quickcontacts", V2013), ("conversationhistory", V2013), ("adminauditlogs", V2013),
    ("todosearch", V2013), ("mycontacts", V2013), ("directory", V2013), ("imcontactlist", V2013),
    ("peopleconnect", V2013), ("favorites", V2013), ("mecontact", V2013), ("personmetadata", V2013),
    ("allcategorizeditems", V2013), ("allcontacts", V2013), ("allitems", V2013), ("allpersonmetadata", V2013),
    ("companycontacts", V2013), ("dlppolicyevaluation", V2013), ("fromfavoritesenders", V2013), ("inference", V2013),
    ("onenotepagepreviews", V2013), ("peoplecentricconversationbuddies", V2013), ("qedcdefaultretention", V2013),
    ("qedclongretention", V2013), ("qedcmediumretention", V2013), ("qedcshortretention", V2013),
    ("quarantinedemail", V2013), ("quarantinedemaildefaultcategory", V2013), ("recoverableitemssubstrateholds", V2013),
    ("relevantcontacts", V2013), ("sharepointnotifications", V2013), ("shortnotes", V2013), ("temporarysaves", V2013),
    ("usercuratedcontacts", V2013),
];

/// The oldest version in which a folder may be asked for by this name (lower case); `None` for a name that there is not.
///
/// ```
/// use ewsnotify::proto::{RequestVersion, distinguished_since};
/// assert_eq!(distinguished_since("archiveroot"), Some(RequestVersion::Exchange2010Sp1));
/// assert_eq!(distinguished_since("Inbox"), None, "the schema has it in lower case");
/// ```
pub fn distinguished_since(name: &str) -> Option<RequestVersion> {
    TABLE.iter().find(|(known, _)| *known == name).map(|(_, since)| *since)
}

/// All the names.
pub(crate) fn distinguished() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    // A name of the schema that is refused: a folder that nobody can watch by its name.
    #[test]
    fn every_name_of_the_schema_is_here() {
        let root = std::env::var_os("EWSN_SHARED").map_or("../shared".into(), std::path::PathBuf::from);
        let path = root.join("ews/schemas/oxws_mit_2016/MS-OXWSCDATA-types.xsd");
        let Ok(schema) = std::fs::read_to_string(&path) else {
            let _ =
                writeln!(std::io::stderr(), "not tested in distinguished: {} is not there", path.display());
            return;
        };
        let (_, rest) = schema.split_once("name=\"DistinguishedFolderIdNameType\"").unwrap();
        let (names, _) = rest.split_once("</xs:simpleType>").unwrap();
        let names: Vec<_> =
            names.split("enumeration value=\"").skip(1).filter_map(|s| s.split('"').next()).collect();
        let missing: Vec<_> = names.iter().filter(|name| distinguished_since(name).is_none()).collect();
        assert!(names.len() > 40 && missing.is_empty(), "{missing:?}");
    }
}
