//! The server: its folders, what it answers, and what its stream tells of them.

use super::*;
use crate::proto::{self, FolderChange, FolderStamp, HierarchyPage, SyncChange, SyncPage};

const OLD: &str = "1970-01-01T00:00:00Z";

/// A folder: what came and went, in order.
#[derive(Default)]
pub(super) struct Place {
    /// `None` where the hierarchy does not tell of it.
    pub(super) parent: Option<String>,
    pub(super) search: bool,
    pub(super) log: Vec<(String, bool, String)>,
    committed: u64,
    deleted: i64,
}

impl Place {
    pub(super) fn items(&self, upto: usize) -> BTreeMap<&str, &str> {
        let mut items = BTreeMap::new();
        for (id, here, date) in &self.log[..upto] {
            match here {
                true => items.insert(id.as_str(), date.as_str()),
                false => items.remove(id.as_str()),
            };
        }
        items
    }
}

impl House {
    pub(super) fn serve(&mut self, request: Request) -> Result<Answer, Error> {
        *self.asked.entry(kind(&request)).or_default() += 1;
        let date = self.dated.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds()));
        match request {
            Request::SubscribeStreaming { scope, .. } => {
                assert_eq!(scope, Scope::AllFolders);
                self.subscriptions += 1;
                self.subscription = format!("s{}", self.subscriptions);
                self.dead = false;
                self.live_later.clear();
                Ok(Answer::Subscribed { id: self.subscription.clone(), watermark: None, date })
            }
            Request::Unsubscribe { .. } => Ok(Answer::Unsubscribed),
            Request::SyncFolderHierarchy { root, sync_state } => {
                let top = FolderRef::Distinguished { name: "msgfolderroot".into(), mailbox: None };
                assert_eq!(root, top);
                match self.refuse {
                    Some(code) => Err(coded(code)),
                    None => Ok(Answer::Hierarchy { page: self.hierarchy(sync_state)?, date }),
                }
            }
            Request::GetFolderStamps { folders } => {
                let stamp = |folder: &FolderRef| match folder {
                    FolderRef::Id(id) => match self.folders.get(id) {
                        Some(place) => Ok(FolderStamp {
                            committed: Some(at(place.committed)),
                            deleted: Some(place.deleted),
                        }),
                        None => Err(coded("ErrorFolderNotFound")),
                    },
                    other => panic!("{other:?}"),
                };
                Ok(Answer::Stamps { stamps: folders.iter().map(stamp).collect(), date })
            }
            Request::SyncFolderItems { folder: FolderRef::Id(id), sync_state, .. } => {
                let place = self.folders.get(&id).ok_or_else(|| coded("ErrorSyncFolderNotFound"))?;
                assert!(!place.search, "a search folder is synced");
                if self.secret == Some(&id) {
                    return Err(coded("ErrorAccessDenied"));
                }
                let known = sync_state.map_or(0, |s| s.parse::<usize>().expect("a state of ours"));
                let end = (known + self.page).min(place.log.len());
                let (before, after) = (place.items(known), place.items(end));
                let mut changes = Vec::new();
                let touched: BTreeSet<&String> = place.log[known..end].iter().map(|(id, ..)| id).collect();
                for id in touched {
                    match (before.contains_key(id.as_str()), after.get(id.as_str())) {
                        (false, Some(date)) => changes.push(SyncChange::Create(item(id, date))),
                        (true, None) => {
                            changes.push(SyncChange::Delete(Id { id: id.clone(), change_key: None }))
                        }
                        _ => {}
                    }
                }
                changes.reverse();
                let includes_last = end == place.log.len();
                let page = SyncPage { sync_state: Some(end.to_string()), includes_last, changes };
                Ok(Answer::Synced { page, date })
            }
            other => panic!("{other:?}"),
        }
    }

    fn hierarchy(&self, state: Option<String>) -> Result<HierarchyPage, Error> {
        let known = match state {
            None => 0,
            Some(state) => match state.split_once(':').expect("a state of ours") {
                (age, known) if age == self.age.to_string() => known.parse().expect("a state of ours"),
                _ if self.silent => 0,
                _ => return Err(coded("ErrorInvalidSyncStateData")),
            },
        };
        let whole = |upto: usize| {
            let mut folders = BTreeMap::new();
            for (id, parent) in &self.tree[..upto] {
                folders.insert(id.as_str(), parent.as_deref());
            }
            folders.retain(|_, parent| parent.is_some());
            folders
        };
        let end = if known == 0 { self.tree.len() } else { (known + self.page).min(self.tree.len()) };
        let (before, after) = (whole(known), whole(end));
        let mut changes = Vec::new();
        let touched: BTreeSet<&String> = self.tree[known..end].iter().map(|(id, _)| id).collect();
        for id in touched {
            let folder = after.get(id.as_str()).map(|parent| proto::Folder {
                element: if self.folders.get(id).is_some_and(|f| f.search) {
                    "SearchFolder"
                } else {
                    "Folder"
                }
                .into(),
                id: Id { id: id.clone(), change_key: None },
                parent_id: parent.map(|p| Id { id: p.to_owned(), change_key: None }),
                ..proto::Folder::default()
            });
            match (before.contains_key(id.as_str()), folder) {
                (false, Some(folder)) => changes.push(FolderChange::Create(folder)),
                (true, Some(folder)) => changes.push(FolderChange::Update(folder)),
                (true, None) => changes.push(FolderChange::Delete(Id { id: id.clone(), change_key: None })),
                (false, None) => {}
            }
        }
        let includes_last = end == self.tree.len();
        Ok(HierarchyPage { sync_state: Some(format!("{}:{end}", self.age)), includes_last, changes })
    }

    pub fn forget_hierarchy(&mut self, silent: bool) {
        self.age += 1;
        self.silent = silent;
    }

    pub(super) fn seconds(&self) -> u64 {
        self.now.wall.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
    }

    /// Makes a folder; without a parent, a search folder.
    pub fn make(&mut self, id: &str, parent: Option<&str>) {
        let place = Place {
            parent: Some(parent.unwrap_or(TOP).to_owned()),
            search: parent.is_none(),
            committed: self.seconds(),
            ..Place::default()
        };
        self.tree.push((id.to_owned(), place.parent.clone()));
        self.tell_folder(NoticeKind::Created, id, parent.unwrap_or(TOP), None);
        self.folders.insert(id.to_owned(), place);
    }

    /// Moves a folder.
    pub fn adopt(&mut self, id: &str, parent: &str) {
        let from = self.folders.get(id).and_then(|f| f.parent.clone());
        let place = self.folders.entry(id.to_owned()).or_default();
        (place.parent, place.search) = (Some(parent.to_owned()), false);
        self.tree.push((id.to_owned(), Some(parent.to_owned())));
        self.tell_folder(NoticeKind::Moved, id, parent, Some(from.as_deref().unwrap_or("f-hidden")));
    }

    /// Takes a folder off, with all that is in it.
    pub fn drop_folder(&mut self, id: &str) {
        let is_in = |f: &Place| f.parent.as_deref() == Some(id);
        let below: Vec<String> =
            self.folders.iter().filter(|(_, f)| is_in(f)).map(|(id, _)| id.clone()).collect();
        below.iter().for_each(|id| self.drop_folder(id));
        if let Some(place) = self.folders.remove(id) {
            self.tree.push((id.to_owned(), None));
            self.tell_folder(NoticeKind::Deleted, id, &place.parent.unwrap_or_default(), None);
        }
    }

    pub fn put(&mut self, folder: &str, item: &str) {
        let date = at(self.seconds());
        self.add(folder, item, date);
        self.tell(NoticeKind::Created, item, folder, None);
        self.tell(NoticeKind::NewMail, item, folder, None);
    }

    pub fn put_old(&mut self, folder: &str, item: &str) {
        self.add(folder, item, OLD.into());
    }

    fn add(&mut self, folder: &str, item: &str, date: String) {
        let seconds = self.seconds();
        let place = self.folders.get_mut(folder).expect("a folder that is there");
        place.log.push((item.to_owned(), true, date));
        place.committed = seconds;
    }

    /// Deletes the folder's first item.
    pub fn take_out(&mut self, folder: &str) -> Option<String> {
        let seconds = self.seconds();
        let place = self.folders.get_mut(folder)?;
        let item = place.items(place.log.len()).keys().next()?.to_string();
        place.log.push((item.clone(), false, String::new()));
        place.deleted += 1;
        place.committed = seconds;
        self.tell(NoticeKind::Deleted, &item, folder, None);
        Some(item)
    }

    /// Moves the folder's first item, which is called differently then.
    pub(super) fn move_item(&mut self, from: &str, to: &str) {
        let told = self.live_later.len();
        let Some(item) = self.take_out(from) else { return };
        self.live_later.truncate(told);
        let new = format!("{item}'");
        self.add(to, &new, OLD.into());
        self.tell(NoticeKind::Moved, &new, to, Some((&item, from)));
        self.tell(NoticeKind::Deleted, &item, "f-all", None);
        self.tell(NoticeKind::Created, &new, "f-all", None);
    }

    fn tell(&mut self, kind: NoticeKind, item: &str, folder: &str, old: Option<(&str, &str)>) {
        let mut notice = notice(kind, item, folder);
        if let Some((item, folder)) = old {
            notice.old_target = Some(Target::Item(Id { id: item.into(), change_key: None }));
            notice.old_parent_folder_id = Some(Id { id: folder.into(), change_key: None });
        }
        if self.up && !self.dead && self.conn.is_some() {
            self.live_later.push(notice);
        }
    }

    fn tell_folder(&mut self, kind: NoticeKind, folder: &str, parent: &str, from: Option<&str>) {
        let target = |id: &str| Some(Target::Folder(Id { id: id.into(), change_key: None }));
        let mut notice = notice(kind, "", parent);
        notice.target = target(folder);
        if let Some(from) = from {
            notice.old_target = target(folder);
            notice.old_parent_folder_id = Some(Id { id: from.into(), change_key: None });
        }
        if self.up && !self.dead && self.conn.is_some() {
            self.live_later.push(notice);
        }
    }

    /// The stream tells what it has not told so far.
    pub fn flush(&mut self) {
        let notices = std::mem::take(&mut self.live_later);
        if let Some(conn) = self.conn.filter(|_| !notices.is_empty()) {
            let notifications = vec![notification(&self.subscription, notices)];
            let body = Streamed { notifications, ..Streamed::default() };
            let response = response(ResponseClass::Success, "NoError", body);
            self.feed(Input::Message { conn, responses: vec![response] });
        }
    }

    /// The stream tells of an item in a folder, whether it is there or not.
    pub fn hear(&mut self, folder: &str, item: &str) {
        self.live_later = vec![notice(NoticeKind::NewMail, item, folder)];
        self.flush();
    }

    /// The stream tells of an item in the inbox, late.
    pub fn live(&mut self, item: &str) {
        self.hear(INBOX, item);
    }
}

pub(super) fn kind(request: &Request) -> &'static str {
    match request {
        Request::SyncFolderHierarchy { .. } => "hierarchy",
        Request::GetFolderStamps { .. } => "stamps",
        Request::SyncFolderItems { .. } => "items",
        _ => "other",
    }
}

fn item(id: &str, date: &str) -> Item {
    Item { id: Id { id: id.to_owned(), change_key: None }, created: Some(date.to_owned()), ..Item::default() }
}

fn at(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
