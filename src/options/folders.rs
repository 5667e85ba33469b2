//! How folders are written in options: by a name of EWS's, by id, or by path.

use crate::engine::FolderPath;
use crate::proto::{FolderRef, IdForm, distinguished, distinguished_since};

/// The top of the folders that people see.
const TOP: &str = "msgfolderroot";
/// The top of those that a whole organisation shares, which are in nobody's mailbox.
const PUBLIC: &str = "publicfoldersroot";

/// The words of a list of folders. A comma behind `\` is part of a name.
pub(super) fn words(value: &str) -> impl Iterator<Item = &str> {
    split(value, ',').into_iter().map(str::trim).filter(|word| !word.is_empty())
}

/// The folder that a word names, in the mailbox of `owner` or the user's own; or what is wrong with the word.
pub(super) fn folder(word: &str, owner: Option<&str>) -> Result<FolderPath, String> {
    if dangles(word) {
        return Err(r"for each folder a word without a lone \ at its end (it guards what stands behind it; \\ is one in a name)".into());
    }
    if let Some(id) = word.strip_prefix("id:") {
        return match id.is_empty() {
            true => Err("an id behind id:".into()),
            false => Ok(FolderRef::Id(id.to_owned()).into()),
        };
    }
    if let Some((form, id)) = word.split_once(':')
        && let Some(form) = IdForm::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(form))
    {
        return match id.is_empty() {
            true => Err(format!("an id behind {}:", form.name().to_ascii_lowercase())),
            false => Ok(FolderPath { form: Some(form), ..FolderRef::Id(id.to_owned()).into() }),
        };
    }
    let mut names = split(word, '/');
    let from = match known(names[0]) {
        // A name at the top may be one of EWS's too: then the stroke before it tells.
        None if names.len() > 1 && names[0].is_empty() => {
            names.remove(0);
            TOP.to_owned()
        }
        None if names.len() > 1 => TOP.to_owned(),
        None => return Err(wanted(word)),
        Some(name) => {
            names.remove(0);
            name
        }
    };
    if names.iter().any(|name| name.trim().is_empty()) {
        return Err("a path without empty names".into());
    }
    let mailbox = owner.filter(|_| from != PUBLIC).map(str::to_owned);
    let names = names.into_iter().map(plain).collect();
    Ok(FolderPath { from: FolderRef::Distinguished { name: from, mailbox }, names, form: None })
}

fn known(word: &str) -> Option<String> {
    let name = word.to_ascii_lowercase();
    distinguished_since(&name).map(|_| name)
}

fn wanted(word: &str) -> String {
    let name = word.to_ascii_lowercase();
    let near = distinguished().map(|known| (super::table::distance(known, &name), known)).min();
    let hint = match near {
        Some((distance, known)) if distance <= 2 => format!("{known} may be meant; "),
        _ => String::new(),
    };
    format!(
        "for each folder a name as inbox, id: and an id, or a path as inbox/Tickets ({hint}one at the top of the mailbox is written with / before its name)"
    )
}

/// The parts between separators that no `\` stands before. At least one.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

/// Whether the last `\` has nothing to guard: it is a typing error, or was to guard the separator behind it.
fn dangles(text: &str) -> bool {
    text.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// Without the `\` before what it guards.
fn plain(text: &str) -> String {
    let (mut plain, mut escaped) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str) -> Result<(String, Vec<String>), String> {
        folder(word, None).map(|folder| match folder.from {
            FolderRef::Distinguished { name, .. } => (name, folder.names),
            FolderRef::Id(id) => (format!("id:{id}"), folder.names),
        })
    }

    // A path that is taken for a name, or the other way round, watches the wrong folder without a word.
    #[test]
    fn a_word_is_a_name_an_id_or_a_path() {
        let rows: [(&str, &str, &[&str]); 13] = [
            ("Inbox", "inbox", &[]),
            ("inbox/Tickets", "inbox", &["Tickets"]),
            ("INBOX/Tickets/Ärger & Co", "inbox", &["Tickets", "Ärger & Co"]),
            ("/Inbox/Tickets", "msgfolderroot", &["Inbox", "Tickets"]),
            ("/Projekte", "msgfolderroot", &["Projekte"]),
            ("受信トレイ/チケット", "msgfolderroot", &["受信トレイ", "チケット"]),
            (r"inbox/In\/Out/a\\b\,c", "inbox", &["In/Out", r"a\b,c"]),
            (r"inbox/x\\", "inbox", &[r"x\"]),
            (r"\inbox/x", "msgfolderroot", &["inbox", "x"]),
            ("publicfoldersroot/News", "publicfoldersroot", &["News"]),
            ("archivemsgfolderroot/2019", "archivemsgfolderroot", &["2019"]),
            ("id:AAMk/+=", "id:AAMk/+=", &[]),
            ("allitems", "allitems", &[]),
        ];
        for (word, from, names) in rows {
            let (found, path) = read(word).unwrap();
            assert_eq!((found.as_str(), path.as_slice()), (from, names.map_strings().as_slice()), "{word}");
        }
        let list: Vec<_> = words(r"inbox, /a\, b ,, id:x").collect();
        assert_eq!(list, ["inbox", r"/a\, b", "id:x"]);
    }

    trait Strings {
        fn map_strings(&self) -> Vec<String>;
    }

    impl Strings for &[&str] {
        fn map_strings(&self) -> Vec<String> {
            self.iter().map(|s| (*s).to_owned()).collect()
        }
    }

    // A typing error that is taken for a folder of that name: the watch ends when the server has been asked, if ever.
    #[test]
    fn what_is_none_of_them_is_refused_with_a_hint() {
        for (word, hint) in [
            ("inbx", "inbox may be meant"),
            ("Tickets", "/ before its name"),
            ("id:", "an id"),
            ("OwaId:", "an id behind owaid:"),
            ("inbox//x", "empty"),
            ("inbox/", "empty"),
            ("/", "empty"),
            (r"inbox/x\", r"lone \ at its end"),
            (r"/Sent Items\\\", r"lone \ at its end"),
            (r"id:AAMk\", r"lone \ at its end"),
        ] {
            let error = read(word).unwrap_err();
            assert!(error.contains(hint), "{word}: {error}");
        }
    }

    // Public folders are in nobody's mailbox; the rest is in the owner's.
    #[test]
    fn a_folder_is_in_its_owners_mailbox() {
        let owner = |word| match folder(word, Some("bob@example.test")).unwrap().from {
            FolderRef::Distinguished { mailbox, .. } => mailbox,
            FolderRef::Id(_) => None,
        };
        assert_eq!(owner("/Tickets").as_deref(), Some("bob@example.test"));
        assert_eq!(owner("archiveinbox").as_deref(), Some("bob@example.test"));
        assert_eq!(owner("publicfoldersroot/News"), None);
    }

    // An error names the folder as the host wrote it, so that it finds the line.
    #[test]
    fn a_folder_is_shown_as_it_is_written() {
        for word in
            ["inbox", r"inbox/In\/Out/a\\b\,c", "/Projekte/2026", "id", "hexentryid:00AB", "owaid:Rg/+="]
        {
            let shown = match word {
                "id" => folder("id:id", None),
                word => folder(word, None),
            };
            assert_eq!(shown.unwrap().to_string(), word);
        }
    }
}
