//! Several machines: which has a mailbox, which answers a request, and a mailbox that moves.

use std::collections::BTreeSet;

use super::Exchange;
use super::world::World;
use super::write::Refusal;
use crate::Result;

/// By what a request finds its machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Routing<'a> {
    /// `X-AnchorMailbox`.
    pub anchor: Option<&'a str>,
    /// `X-PublicFolderMailbox`.
    pub public: Option<&'a str>,
    /// `X-PreferServerAffinity: true`.
    pub prefer: bool,
    /// The value of the cookie `X-BackEndOverrideCookie`.
    pub cookie: Option<&'a str>,
}

/// A machine, and the group of machines whose mailboxes it can watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) group: String,
    pub(super) server: String,
}

impl Exchange {
    /// Puts a mailbox on a machine. Each machine watches all mailboxes of its group, and no other; a stream reads the subscriptions
    /// of one machine. A mailbox that was elsewhere before has moved: its subscriptions are lost, and those who ask are told of the
    /// move. Without a call of this there is one machine for all.
    pub fn place_mailbox(&self, address: &str, group: &str, server: &str) -> Result<()> {
        self.on(address, |world, key| {
            let machine = Machine { group: group.to_owned(), server: server.to_owned() };
            if world.machines.insert(key.to_owned(), machine.clone()).is_some_and(|before| before != machine)
            {
                let lost: BTreeSet<String> = world.subscriptions_of(key).into_iter().collect();
                lost.iter().for_each(|id| world.lose(id));
                world.moved.extend(lost);
            }
            Ok(())
        })
    }
}

impl World {
    pub(super) fn machine_of(&self, key: &str) -> Machine {
        self.machines.get(key).cloned().unwrap_or_default()
    }

    /// The machine that answers.
    pub(super) fn reached(&self, acting: &str, routing: &Routing<'_>) -> Machine {
        let named = routing.cookie.filter(|_| routing.prefer).and_then(|value| value.split('~').next());
        let by_cookie = named.and_then(|server| self.machines.values().find(|m| m.server == server));
        let anchor = routing.anchor.map(str::to_ascii_lowercase).filter(|a| self.mailboxes.contains_key(a));
        by_cookie.cloned().unwrap_or_else(|| self.machine_of(anchor.as_deref().unwrap_or(acting)))
    }
}

impl World {
    /// Whether a request does not reach the mailbox that has the content of the public folders.
    pub(super) fn misses_public(&self, routing: &Routing<'_>) -> bool {
        let there =
            |header: Option<&str>, address: &str| header.is_some_and(|h| h.eq_ignore_ascii_case(address));
        let content = self.settings.public_folder_mailbox.as_deref();
        content.is_some_and(|address| !there(routing.public, address) || !there(routing.anchor, address))
    }
}

/// The cookie by which the machine is found again.
pub(super) fn cookie(machine: &Machine) -> Option<String> {
    let server = Some(&machine.server).filter(|server| !server.is_empty())?;
    Some(format!("X-BackEndOverrideCookie={server}~1941996295; path=/; secure; HttpOnly"))
}

pub(super) fn has_moved() -> Refusal {
    Refusal::new("ErrorInvalidSubscription", "The mailbox is being moved: MailboxMoveStarted.")
}

pub(super) fn wrong_group() -> Refusal {
    Refusal::new("ErrorProxyRequestNotAllowed", "The mailbox is on a server that this one must not proxy to.")
}
