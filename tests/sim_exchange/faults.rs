//! Trouble on request: lost, deaf and passed-on subscriptions, restarts, failures, mailboxes that are away.

use std::time::Duration;

use ewsnotify::sim::exchange::{Failure, Fate};
use ewsnotify::sim::{Answer, Style};

use crate::support::{ADA, ALL_EVENTS, BOB, MAIL, Sim, code, request, stream_request, text, texts};

const GET_INBOX: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds>\
    <t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

fn fault(sim: &Sim, user: &str, soap: &str) -> (u16, String) {
    match sim.exchange.answer(user, soap.as_bytes()) {
        Answer::Whole { status, body } => (status, sim.note(&body)),
        Answer::Stream(_) => panic!("a fault was due"),
    }
}

/// A deaf subscription is the trap that only an audit finds: it answers, beats, and tells nothing.
#[test]
fn silent_death_answers_and_tells_nothing() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.subscribe(&["inbox"], &ALL_EVENTS);
    let mut open = sim.open(&[&id]);
    open.next();
    assert_eq!(sim.exchange.silent_death(ADA), 1);
    sim.exchange.deliver(ADA, MAIL).unwrap();
    open.idle();
    sim.exchange.advance(Duration::from_secs(30));
    assert_eq!(text(&open.next(), "ConnectionStatus").as_deref(), Some("OK"));
    assert!(sim.exchange.ledger().iter().all(|t| t.fate == Fate::Unheard));
    assert_eq!(sim.exchange.ledger().len(), 3);
}

/// After a restart gromox's numbers begin anew: an old id names somebody else's subscription.
#[test]
fn a_restart_forgets_and_gromox_counts_from_one_again() {
    let sim = Sim::new(Style::Gromox);
    let old = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    sim.exchange.restart();
    let new = sim.subscribe_as(BOB, &["inbox"], &["NewMailEvent"]);
    assert_eq!(old, new);
    let sim = Sim::new(Style::Exchange);
    let old = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let mut open = sim.open(&[&old]);
    open.next();
    sim.exchange.restart();
    assert_eq!(code(&open.last()), "ErrorSubscriptionNotFound");
    assert_ne!(old, sim.subscribe(&["inbox"], &["NewMailEvent"]));
}

/// An id that has passed to another mailbox tells that mailbox's events.
#[test]
fn an_id_can_pass_to_another_mailbox() {
    let sim = Sim::new(Style::Exchange);
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let mut open = sim.open(&[&id]);
    open.next();
    assert!(sim.exchange.pass_id_to_other(&id, BOB));
    sim.exchange.deliver(ADA, MAIL).unwrap();
    sim.name("bobs", &sim.exchange.deliver(BOB, MAIL).unwrap());
    sim.name("bobs inbox", &sim.exchange.folder_id(BOB, "inbox").unwrap());
    assert_eq!(open.lines(), ["NewMail bobs in bobs inbox"]);
}

/// A subscription that nobody streams can expire; an open stream keeps it.
#[test]
fn an_idle_subscription_can_expire() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.configure(|s| s.idle_life = Some(Duration::from_secs(300)));
    let id = sim.subscribe(&["inbox"], &["NewMailEvent"]);
    let mut open = sim.open(&[&id]);
    open.next();
    sim.exchange.advance(Duration::from_secs(400));
    assert_eq!(text(&open.next(), "ConnectionStatus").as_deref(), Some("OK"));
    open.cut();
    sim.exchange.deliver(ADA, MAIL).unwrap();
    sim.exchange.advance(Duration::from_secs(300));
    assert_eq!(code(&sim.open(&[&id]).last()), "ErrorSubscriptionNotFound");
    assert_eq!(sim.exchange.ledger()[0].fate, Fate::Lost);
}

/// Throttling comes as a message or as a fault, with how long to wait in either.
#[test]
fn failures_come_once_in_the_form_that_was_ordered() {
    let sim = Sim::new(Style::Exchange);
    let busy = || Failure::new("ErrorServerBusy").back_off(Duration::from_millis(1500));
    sim.exchange.fail_next("GetFolder", busy());
    sim.exchange.fail_next("GetFolder", busy().as_fault());
    let message = sim.ask(GET_INBOX);
    assert_eq!(code(&message), "ErrorServerBusy");
    assert!(
        message.contains("<m:MessageXml><t:Value Name=\"BackOffMilliseconds\">1500</t:Value></m:MessageXml>")
    );
    let (status, fault) = fault(&sim, ADA, &request("", GET_INBOX));
    assert_eq!(
        (status, code(&fault).as_str(), text(&fault, "Value").as_deref()),
        (500, "ErrorServerBusy", Some("1500"))
    );
    assert!(fault.contains(">a:ErrorServerBusy</faultcode>"), "{fault}");
    assert_eq!(code(&sim.ask(GET_INBOX)), "NoError");
    assert_eq!(sim.exchange.count("GetFolder"), 3);
    sim.exchange.fail_next("*", Failure::new("ErrorInternalServerError"));
    assert_eq!(code(&sim.ask(&stream_request(&["x"], 1))), "ErrorInternalServerError");
}

/// A mailbox that is away says so for everything, and comes back.
#[test]
fn a_mailbox_can_be_away() {
    let sim = Sim::new(Style::Exchange);
    sim.exchange.set_offline(ADA, Some("ErrorMailboxStoreUnavailable")).unwrap();
    assert_eq!(code(&sim.ask(GET_INBOX)), "ErrorMailboxStoreUnavailable");
    sim.exchange.set_offline(ADA, None).unwrap();
    assert_eq!(code(&sim.ask(GET_INBOX)), "NoError");
}

/// Requests that no Exchange would take must not pass here.
#[test]
fn wrong_requests_are_faults() {
    let sim = Sim::new(Style::Exchange);
    for (soap, expected) in [
        ("".to_owned(), "ErrorSchemaValidation"),
        ("<a/>".to_owned(), "ErrorSchemaValidation"),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>".to_owned(), "ErrorSchemaValidation"),
        (request("", ""), "ErrorInvalidRequest"),
        (request("", "<m:FlyToTheMoon/>"), "ErrorInvalidRequest"),
        (request("", "<GetFolder/>"), "ErrorInvalidRequest"),
        (request("", "<m:GetFolder/>"), "ErrorSchemaValidation"),
        (request("", &stream_request(&["x"], 31)), "ErrorSchemaValidation"),
        (request("", &stream_request(&["x"], 0)), "ErrorSchemaValidation"),
        (request("", &stream_request(&[], 30)), "ErrorSchemaValidation"),
        (request("", &stream_request(&["x"], 30).replace("t:Sub", "m:Sub")), "ErrorSchemaValidation"),
        (request("", &GET_INBOX.replace("\"inbox\"", "\"Inbox\"")), "ErrorSchemaValidation"),
        (request("", GET_INBOX).replace("Exchange2013_SP1", "Exchange1999"), "ErrorInvalidServerVersion"),
        (request("<t:ExchangeImpersonation/>", GET_INBOX), "ErrorInvalidExchangeImpersonationHeaderData"),
    ] {
        let (status, fault) = fault(&sim, ADA, &soap);
        assert_eq!((status, code(&fault).as_str()), (500, expected), "{soap}");
    }
    let many: Vec<String> = (0..201).map(|n| format!("id{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(code(&sim.ask(&stream_request(&many, 30))), "ErrorInvalidArgument");
}

/// Whose rights count: the impersonated mailbox's, and nobody else's without a grant.
#[test]
fn impersonation_and_access() {
    let sim = Sim::new(Style::Exchange);
    let header = |address: &str| {
        format!(
            "<t:ExchangeImpersonation><t:ConnectingSID><t:SmtpAddress>{address}</t:SmtpAddress></t:ConnectingSID>\
             </t:ExchangeImpersonation>"
        )
    };
    let service = "service@example.test";
    assert_eq!(code(&sim.ask_as(service, "", GET_INBOX)), "ErrorNonExistentMailbox");
    let answer = sim.ask_as(service, &header(BOB), GET_INBOX);
    assert!(answer.contains(&sim.exchange.folder_id(BOB, "inbox").unwrap()));
    let (_, unknown) = fault(&sim, service, &request(&header("nobody@example.test"), GET_INBOX));
    assert_eq!(code(&unknown), "ErrorNonExistentMailbox");
    sim.exchange.deny_impersonation(service);
    let (_, denied) = fault(&sim, service, &request(&header(BOB), GET_INBOX));
    assert_eq!(code(&denied), "ErrorImpersonateUserDenied");

    let bobs = "<t:DistinguishedFolderId Id=\"inbox\"><t:Mailbox><t:EmailAddress>bob@example.test</t:EmailAddress>\
        </t:Mailbox></t:DistinguishedFolderId>";
    let ask = GET_INBOX.replace("<t:DistinguishedFolderId Id=\"inbox\"/>", bobs);
    assert_eq!(code(&sim.ask(&ask)), "ErrorAccessDenied");
    let by_id = format!("<t:FolderId Id=\"{}\"/>", sim.exchange.folder_id(BOB, "inbox").unwrap());
    let ask_by_id = GET_INBOX.replace("<t:DistinguishedFolderId Id=\"inbox\"/>", &by_id);
    assert_eq!(code(&sim.ask(&ask_by_id)), "ErrorAccessDenied");
    sim.exchange.grant(BOB, ADA).unwrap();
    assert_eq!(texts(&sim.ask(&ask), "ResponseCode"), ["NoError"]);
}
