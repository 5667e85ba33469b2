//! One question for many mailboxes, of which each search hears its own part.

use super::{Ask, Dialect, Search};
use crate::net::Told;
use crate::proto::autodiscover::{Autodiscovered, read_user_settings, write_user_settings};
use crate::{Error, ErrorKind, Result};

/// How many mailboxes one question may ask for. Exchange takes some 100, unless its administrator has set it otherwise, and refuses
/// more as a whole.
pub const MAX_TOGETHER: usize = 90;

impl Ask {
    /// Whether one question could ask for both.
    pub fn goes_with(&self, other: &Ask) -> bool {
        self.place.dialect == Dialect::Soap && self.place == other.place
    }

    /// One question instead of several that [go](Self::goes_with) with each other; what comes of it is for [`share`].
    ///
    /// ```
    /// use ewsnotify::autodiscover::{Ask, Search};
    ///
    /// let mut asks = Vec::new();
    /// for address in ["ada@example.test", "bob@example.test"] {
    ///     asks.extend(Search::new(address, "svc@example.test", &[], None)?.next()?);
    /// }
    /// let ask = Ask::together(&asks)?;
    /// assert!(String::from_utf8_lossy(&ask.body).contains("bob@example.test"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for nothing to ask, and for an address that cannot be sent.
    pub fn together<'a>(asks: impl IntoIterator<Item = &'a Ask>) -> Result<Ask> {
        let asks: Vec<&Ask> = asks.into_iter().collect();
        let first = asks.first().ok_or_else(|| Error::new(ErrorKind::Invalid, "there is nothing to ask"))?;
        let addresses: Vec<&str> = asks.iter().map(|ask| ask.address.as_str()).collect();
        let body = write_user_settings(&addresses, &first.place.endpoint.to_string())?;
        let Ask { place, address, .. } = (*first).clone();
        Ok(Ask { place, address, body })
    }
}

/// Gives each search its part of what came of one question for all, in the question's order: what is said of one mailbox is nothing
/// to the others. `false`: nobody has heard anything, since the server does not take lists, or not such long ones; each search
/// asks alone then.
pub fn share<'a>(searches: impl ExactSizeIterator<Item = &'a mut Search>, told: &Told) -> bool {
    let parts = match told.status {
        // Who has no time, or does not know us, or sends us elsewhere, says that to all.
        200 | 500 => match read_user_settings(&told.body) {
            Ok(parts) if parts.len() == searches.len() => Some(parts),
            Ok(parts) if matches!(&parts[..], [Autodiscovered::Refused { code, .. }] if code == "ServerBusy") => {
                None
            }
            _ => return false,
        },
        400 | 413 => return false,
        _ => None,
    };
    match parts {
        Some(parts) => searches.zip(parts).for_each(|(search, part)| search.hear_part(part)),
        None => searches.for_each(|search| search.hear(told)),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiscover::Outcome;

    const NAMES: [&str; 3] = ["ada@example.test", "bob@example.test", "eve@example.test"];

    fn searches() -> Vec<(Search, Ask)> {
        let begin = |name| {
            let mut search = Search::new(name, NAMES[0], &[], None).unwrap();
            let ask = search.next().unwrap().unwrap();
            (search, ask)
        };
        NAMES.into_iter().map(begin).collect()
    }

    /// Whether the searches have heard it, and what came of it for each.
    fn shared(status: u16, body: &str) -> (bool, Vec<Option<Outcome>>) {
        let mut all = searches();
        let heard = share(all.iter_mut().map(|(search, _)| search), &Told::of(status, body));
        (heard, all.iter().map(|(search, _)| search.steps().last().map(|s| s.outcome)).collect())
    }

    fn response(users: &str) -> String {
        format!(
            "<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/'><e:Body><GetUserSettingsResponseMessage><Response>{users}\
             </Response></GetUserSettingsResponseMessage></e:Body></e:Envelope>"
        )
    }

    // The answer for one mailbox must not be taken for that of another: each goes to its own, in the order of the question.
    #[test]
    fn each_search_hears_of_its_own_mailbox() {
        let all = searches();
        let ask = Ask::together(all.iter().map(|(_, ask)| ask)).unwrap();
        let body = String::from_utf8(ask.body).unwrap();
        let at: Vec<usize> = NAMES.iter().map(|name| body.find(&format!(">{name}<")).unwrap()).collect();
        assert!(at.is_sorted() && ask.place == all[0].1.place, "{body}");
        let users = response(
            "<ErrorCode>NoError</ErrorCode><UserResponses><UserResponse><ErrorCode>NoError</ErrorCode><UserSettings><UserSetting>\
             <Name>ExternalEwsUrl</Name><Value>https://ews.example.test/</Value></UserSetting></UserSettings></UserResponse>\
             <UserResponse><ErrorCode>InvalidUser</ErrorCode></UserResponse><UserResponse><ErrorCode>RedirectAddress</ErrorCode>\
             <RedirectTarget>eve@mail.example.test</RedirectTarget></UserResponse></UserResponses>",
        );
        let outcomes = [Outcome::Found, Outcome::Unknown, Outcome::Redirected].map(Some);
        assert_eq!(shared(200, &users), (true, outcomes.to_vec()));
        assert!(Ask::together([]).is_err());
    }

    // A list that is refused says nothing of its mailboxes; that the server is busy, or gone from there, holds for all of them, and
    // asking for each would make it worse.
    #[test]
    fn what_is_said_of_the_list_and_what_of_all() {
        let refused =
            |code: &str| response(&format!("<ErrorCode>{code}</ErrorCode><ErrorMessage>No.</ErrorMessage>"));
        let one = response(
            "<UserResponses><UserResponse><ErrorCode>InvalidUser</ErrorCode></UserResponse></UserResponses>",
        );
        let fault = "<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/'><e:Body><e:Fault><faultstring>No.</faultstring>\
                     </e:Fault></e:Body></e:Envelope>";
        for (status, body) in [
            (200, &*refused("InvalidRequest")),
            (200, &one),
            (500, fault),
            (200, "<html/>"),
            (400, ""),
            (413, ""),
        ] {
            assert_eq!(shared(status, body), (false, vec![None; 3]), "{status} {body}");
        }
        for (status, body, outcome) in [
            (200, &*refused("ServerBusy"), Outcome::Trouble),
            (503, "", Outcome::Trouble),
            (404, "", Outcome::NotAutodiscover),
            (401, "", Outcome::NoWayIn),
        ] {
            assert_eq!(shared(status, body), (true, vec![Some(outcome); 3]), "{status} {body}");
        }
    }

    // POX has room for one; and an answer of another place says nothing.
    #[test]
    fn what_goes_together() {
        let ask = searches().remove(0).1;
        let at = |dialect, host: &str| {
            let place =
                super::super::place(dialect, &format!("https://{host}/autodiscover/autodiscover.svc"));
            Ask { place: place.unwrap(), ..ask.clone() }
        };
        assert!(ask.goes_with(&at(Dialect::Soap, "example.test")));
        assert!(!ask.goes_with(&at(Dialect::Soap, "mail.example.test")));
        let pox = at(Dialect::Pox, "example.test");
        assert!(!pox.goes_with(&pox) && !ask.goes_with(&pox));
    }
}
