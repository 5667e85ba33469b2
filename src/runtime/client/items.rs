//! Items and attachments, asked for on the calling thread.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::super::content::{self, Fetched};
use super::super::core::closed;
use super::super::links::Watch;
use super::super::spool::Spool;
use super::super::workers;
use super::Client;
use crate::engine::legacy_ids::LEGACY_ID;
use crate::engine::{Answer, answer, item_content};
use crate::net::{Cancel, cut};
use crate::proto::{Body, Id, IdForm, Request, RequestVersion};
use crate::spooled::Spooled;
use crate::{Error, ErrorKind, Fetch, ItemContent, Options, Result};

impl Client {
    /// Asks for an item by its id and change key, on the calling thread and a connection of its own. Watch 0 stands for the
    /// client's own options.
    ///
    /// ```no_run
    /// # use ewsnotify::{Client, Fetch, Options};
    /// # let client = Client::open(&Options::new())?;
    /// # let watch = 1;
    /// let item = client.get_item(watch, "AAMk…", None, Fetch::Summary)?;
    /// println!("{:?}", item.subject);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Server`] with the server's code (`ErrorItemNotFound` for one that is gone), those of the network, and
    /// [`ErrorKind::Invalid`] for a number that no watch has.
    pub fn get_item(
        &self,
        watch: u64,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        let watch = self.one_to_ask(watch)?;
        self.shown(self.ask_item(&watch, id, change_key, fetch))
    }

    /// Asks for a whole message, on the calling thread and a connection of its own, and puts it into a new file, mode 0600.
    ///
    /// ```no_run
    /// # let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// # let watch = 1;
    /// client.save_mime(watch, "AAMk…", None, "mail.eml".as_ref())?;
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`get_item`](Self::get_item), and [`ErrorKind::Io`] for a file that is there already or cannot be written; a
    /// part of it is not left behind.
    pub fn save_mime(&self, watch: u64, id: &str, change_key: Option<&str>, path: &Path) -> Result<()> {
        save(path, || {
            let item = self.get_item(watch, id, change_key, Fetch::Mime)?;
            let no_mime = || Error::new(ErrorKind::Protocol, "the server's answer has no MIME content");
            item.mime_path.map(|path| Spooled::new(path.into(), None)).ok_or_else(no_mime)
        })
    }

    /// Asks for an attachment by the id that a summary told ([`Attachment::id`](crate::Attachment::id)), on the calling thread
    /// and a connection of its own, and puts its content into a new file, mode 0600: a file as it is, an attached item as the
    /// whole message (MIME). Watch 0 stands for the client's own options. ([MS-OXWSATT] 3.1.4.3)
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use ewsnotify::{Client, Fetch, Options, sim::Sim};
    ///
    /// let sim = Sim::builder().user("ada@example.test", "secret").start()?;
    /// let mime = b"Subject: Bill\r\nContent-Type: text/csv; name=bill.csv\r\n\
    ///     Content-Disposition: attachment; filename=bill.csv\r\n\r\n1;2;3";
    /// let id = sim.exchange().deliver("ada@example.test", mime)?;
    /// let mut options = Options::new();
    /// options.set("url", sim.url())?.set("ca_file", sim.ca_file().unwrap().to_str().unwrap())?;
    /// options.set("user", "ada@example.test")?.set("password", "secret")?;
    ///
    /// let client = Client::open(&options)?;
    /// let bill = client.get_item(0, &id, None, Fetch::Summary)?.attachments.remove(0);
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join(bill.name.unwrap());
    /// client.save_attachment(0, &bill.id.unwrap(), &path)?;
    /// assert_eq!(std::fs::read(path)?, b"1;2;3");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`save_mime`](Self::save_mime); [`ErrorKind::Unsupported`] for an attachment that has no content of its own, as
    /// a link to a file elsewhere; [`ErrorKind::Limit`] for one that is larger than option `max_item_bytes`.
    pub fn save_attachment(&self, watch: u64, id: &str, path: &Path) -> Result<()> {
        let watch = self.one_to_ask(watch)?;
        let request = Request::GetAttachment { id: id.to_owned() };
        save(path, || {
            let got = self.in_its_version(&watch, |version, cancel| {
                content::attachment(&self.core.spool, &watch, &watch.header(version), &request, cancel)
            });
            self.shown(got.map_err(|e| of_what("attachment", id, &watch, e)))
        })
    }

    /// As [`get_item`](Self::get_item), without a watch: nothing is subscribed to. The options say where, as for
    /// [`watch`](Self::watch).
    ///
    /// ```no_run
    /// use ewsnotify::{Client, Fetch, Options};
    ///
    /// let mut options = Options::new();
    /// options.set("url", "mail.example.test")?.set("user", "ada@example.test")?.set("password", "secret")?;
    /// let item = Client::open(&options)?.fetch_item(&Options::new(), "AAMk…", None, Fetch::Summary)?;
    /// println!("{:?}", item.subject);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch) and of [`get_item`](Self::get_item).
    pub fn fetch_item(
        &self,
        options: &Options,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        self.shown(self.ask_item(&self.unwatched(options)?, id, change_key, fetch))
    }

    /// A watch, or what stands for one: the client's own options.
    fn one_to_ask(&self, watch: u64) -> Result<Arc<Watch>> {
        match watch {
            0 => self.unwatched(&Options::new()).map(Arc::new),
            watch => self.core.watch(watch),
        }
    }

    /// What asks as a watch would, and is none.
    fn unwatched(&self, options: &Options) -> Result<Watch> {
        if self.core.is_closing() {
            return Err(closed());
        }
        let config = self.config(options)?;
        let (endpoint, link) = self.core.links.link(&config)?;
        Ok(Watch { id: 0, config, endpoint, link })
    }

    /// Asks in the version that the server speaks, or in older ones while none has worked.
    fn in_its_version<T>(
        &self,
        watch: &Watch,
        mut ask: impl FnMut(RequestVersion, &Cancel) -> Result<T>,
    ) -> Result<T> {
        self.core.aside(|cancel| {
            let mut version = self.core.version(watch.endpoint);
            loop {
                match ask(version, cancel) {
                    Err(e) => version = self.core.lower_version(watch.endpoint, version, &e).ok_or(e)?,
                    Ok(answer) => {
                        self.core.version_works(watch.endpoint, version);
                        return Ok(answer);
                    }
                }
            }
        })
    }

    fn convert(&self, watch: &Watch, id: &str) -> Result<String> {
        let (form, mailbox) = (IdForm::EwsLegacyId, watch.config.mailbox.to_string());
        let request = Request::ConvertId { form, id: id.to_owned(), mailbox };
        let anchor = (&*watch.config.mailbox, None);
        let (body, date) = self.in_its_version(watch, |version, cancel| {
            workers::exchange(&*watch.link, &watch.header(version), &request, anchor, cancel)
        })?;
        match answer::of(&request, body, date).map_err(|e| workers::of_server(&*watch.link, e))? {
            Answer::Converted(id) => Ok(id),
            _ => Err(answer::no_answer("ConvertId", None)),
        }
    }

    fn ask_item(
        &self,
        watch: &Watch,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        let asked = self.ask_any_item(watch, id, change_key, fetch);
        asked.map_err(|e| of_what("item", id, watch, e))
    }

    fn ask_any_item(
        &self,
        watch: &Watch,
        id: &str,
        change_key: Option<&str>,
        fetch: Fetch,
    ) -> Result<ItemContent> {
        let mime = fetch == Fetch::Mime;
        let item = Id { id: id.to_owned(), change_key: change_key.map(str::to_owned) };
        let request = Request::GetItem { items: vec![item], mime };
        let fetch = |request: &Request| {
            self.in_its_version(watch, |version, cancel| {
                get(&self.core.spool, watch, version, request, cancel)
            })
        };
        let fetched = match fetch(&request) {
            // As events of some servers have them.
            Err(e) if e.code() == Some(LEGACY_ID) => {
                let id = Id { id: self.convert(watch, id)?, change_key: None };
                fetch(&Request::GetItem { items: vec![id], mime })?
            }
            fetched => fetched?,
        };
        let (item, mime) = match fetched {
            Fetched::Message(item, mime) => (*item, mime),
            Fetched::NotKept(why) => return Err(why),
        };
        let mut content = item_content(item, mime);
        content.told();
        Ok(content)
    }
}

/// Says of what an error is: who asks for one thing after the other must know which of them failed, and where.
fn of_what(what: &str, id: &str, watch: &Watch, error: Error) -> Error {
    let (id, server) = (cut(id, 200), watch.link.whom());
    match error.to_string().starts_with(&server) {
        true => error.context(format!("{what} {id}")),
        false => error.context(format!("{what} {id} at {server}")),
    }
}

/// Puts what comes into a new file, which is not left behind if it does not.
fn save(path: &Path, ask: impl FnOnce() -> Result<Spooled>) -> Result<()> {
    let failed =
        |e: std::io::Error| Error::new(ErrorKind::Io, format!("cannot write {}: {e}", path.display()));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let saved = ask().and_then(|spooled| {
        let copied = File::open(spooled.path()).and_then(|mut from| std::io::copy(&mut from, &mut file));
        copied.map(drop).map_err(failed)
    });
    if saved.is_err() {
        let _ = std::fs::remove_file(path);
    }
    saved
}

fn get(
    spool: &Spool,
    watch: &Watch,
    version: RequestVersion,
    request: &Request,
    cancel: &Cancel,
) -> Result<Fetched> {
    let header = watch.header(version);
    if let Request::GetItem { mime: true, .. } = request {
        return content::fetch(spool, None, watch, &header, request, cancel);
    }
    let (body, _) = workers::exchange(&*watch.link, &header, request, (&watch.config.mailbox, None), cancel)?;
    let responses = match body {
        Body::Items(responses) => Ok(responses),
        body => Err(answer::no_answer("GetItem", Some(body.name()))),
    };
    let no_item = || Error::new(ErrorKind::Protocol, "the server's answer to GetItem has no item");
    let item = responses
        .and_then(|responses| answer::first(responses, request)?.pop().ok_or_else(no_item))
        .map_err(|e| workers::of_server(&*watch.link, e))?;
    Ok(Fetched::Message(Box::new(item), None))
}
