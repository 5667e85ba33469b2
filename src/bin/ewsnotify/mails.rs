//! A dozen messages as people send them, for `demo` and `simulate`: multipart, attachments, encoded words in several
//! character sets, folded headers. They lie in `mails/` as they would on a disk.

use std::time::SystemTime;

/// A message that was made, and what a reader of it must see.
pub struct Mail {
    /// With its angle brackets.
    pub message_id: String,
    pub subject: &'static str,
    pub mime: Vec<u8>,
}

/// The `n`-th message, counted from 0, for this recipient. After a dozen they come again, with message ids of their own.
pub fn mail(n: usize, to: &str) -> Mail {
    let (subject, text) = MAILS[n % MAILS.len()];
    let message_id = format!("<{}.{n}@ewsnotify.example>", to.split('@').next().unwrap_or(to));
    let text = text
        .replace("{{to}}", &format!("<{to}>"))
        .replace("{{date}}", &httpdate::fmt_http_date(SystemTime::now()))
        .replace("{{message-id}}", &message_id);
    Mail { message_id, subject, mime: text.replace('\n', "\r\n").into_bytes() }
}

/// How many there are before they come again.
pub const MAILS_COUNT: usize = MAILS.len();

static MAILS: &[(&str, &str)] = &[
    ("Printer on the second floor is out of toner again", include_str!("mails/01-printer.eml")),
    ("Rechnung Nr. 2026-1147 für Büromöbel", include_str!("mails/02-invoice.eml")),
    (
        "☕ Your order #88213 is on its way – two parcels, arriving Tuesday",
        include_str!("mails/03-order.eml"),
    ),
    ("RE: Minutes of Monday's meeting", include_str!("mails/04-reply.eml")),
    ("Les photos de l’été à Genève", include_str!("mails/05-photos.eml")),
    ("Månadsrapport: försäljning och översikt", include_str!("mails/06-report.eml")),
    ("Invitation: trajectory review, Thursday 10:00", include_str!("mails/07-invitation.eml")),
    ("Fwd: Error 1202 during the descent", include_str!("mails/08-forward.eml")),
    ("Žádost o podporu: nejde přihlášení", include_str!("mails/09-ticket.eml")),
    ("契約書の確認のお願い", include_str!("mails/10-contract.eml")),
    (
        "[types] Call for papers: substitution, thirty years on, with a long subject that was folded",
        include_str!("mails/11-list.eml"),
    ),
    ("Scan from the second floor (3 pages)", include_str!("mails/12-scan.eml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    // A simulator that delivers one message twice would hide a loss in somebody's test.
    #[test]
    fn ids_differ_and_nothing_is_left_to_fill_in() {
        let mut ids = std::collections::BTreeSet::new();
        for n in 0..2 * MAILS_COUNT {
            let mail = mail(n, "ada@example.test");
            assert!(ids.insert(mail.message_id));
            assert!(!mail.mime.windows(2).any(|w| w == b"{{"), "{}", mail.subject);
        }
    }
}
