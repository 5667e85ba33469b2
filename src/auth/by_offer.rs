//! The way to sign in that the server offers, the strongest first: Kerberos where it is built in and there is a ticket, NTLM, then Basic.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::kerberos::{self, Kerberos};
use super::ntlm::{self, Scheme};
use super::offers::Offers;
use super::{Answer, Auth, Basic, Context, Handshake, Manner, Ntlm, Secret, in_the_clear};
use crate::Result;
use crate::net::{Endpoint, cut};

/// A user and a password, sent by a way that the server offers: nothing goes out before it has said which there are. What it said
/// is remembered, so that asking costs one turn and not one for each connection.
#[derive(Debug)]
pub struct ByOffer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    who: String,
    kerberos: Option<Kerberos>,
    /// Why Kerberos can never be taken, where somebody may wonder.
    no_kerberos: Option<String>,
    ntlm: Ntlm,
    basic: Option<Basic>,
    /// The last server, what was taken there, and when, if it was for want of a better way.
    taken: Mutex<Option<(Endpoint, Way, Option<SystemTime>)>>,
}

/// So long Kerberos is not tried again: a KDC may have been away, or a ticket have come since.
const SECOND_BEST_FOR: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Kerberos,
    Ntlm(Scheme),
    Basic,
}

/// Strongest first.
const WAYS: [Way; 4] = [Way::Kerberos, Way::Ntlm(Scheme::Ntlm), Way::Ntlm(Scheme::Negotiate), Way::Basic];

impl Way {
    fn scheme(self) -> &'static str {
        match self {
            Way::Kerberos => Scheme::Negotiate.name(),
            Way::Ntlm(scheme) => scheme.name(),
            Way::Basic => "Basic",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Way::Kerberos => "Kerberos",
            Way::Ntlm(_) => "NTLM",
            Way::Basic => "Basic",
        }
    }
}

impl ByOffer {
    /// Without `basic`, only NTLM is possible.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use ewsnotify::auth::{Auth, Basic, ByOffer, Fresh, Ntlm, Secret};
    ///
    /// let (user, password) = ("EXAMPLE\\ada", Secret::new("hunter2"));
    /// let fresh = || Ok(Fresh { now: SystemTime::now(), nonce: [7; 8] });
    /// let ntlm = Ntlm::new(user, password.clone(), fresh)?;
    /// let auth = ByOffer::new(user, ntlm, Some(Basic::new(user, password)?));
    /// assert_eq!(auth.ways(), ["NTLM", "Negotiate", "Basic"]);
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn new(user: &str, ntlm: Ntlm, basic: Option<Basic>) -> ByOffer {
        let who = format!("user {}", cut(user, 100));
        ByOffer(Arc::new(Inner {
            who,
            kerberos: None,
            no_kerberos: None,
            ntlm,
            basic,
            taken: Mutex::default(),
        }))
    }

    /// The same with Kerberos ahead of all, where there is a ticket. Before the first sign-in.
    #[cfg(feature = "gssapi")]
    pub fn with_kerberos(mut self, kerberos: Kerberos) -> ByOffer {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.kerberos = Some(kerberos);
        }
        self
    }

    /// The same without Kerberos though it is built in, and why. Before the first sign-in.
    #[cfg(feature = "gssapi")]
    pub(crate) fn without_kerberos(mut self, why: String) -> ByOffer {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.no_kerberos = Some(why);
        }
        self
    }
}

impl Inner {
    fn can(&self, way: Way) -> bool {
        match way {
            Way::Kerberos => self.kerberos.is_some(),
            Way::Ntlm(_) => true,
            Way::Basic => self.basic.is_some(),
        }
    }

    fn start(&self, way: Way) -> Taken {
        match (way, &self.kerberos, &self.basic) {
            (Way::Kerberos, Some(kerberos), _) => Taken::Kerberos(kerberos.turns(false)),
            (Way::Ntlm(scheme), ..) => Taken::Ntlm(self.ntlm.start(scheme)),
            (Way::Basic, _, Some(basic)) => Taken::Basic(basic.start()),
            (Way::Kerberos | Way::Basic, ..) => Taken::Nothing,
        }
    }

    fn known(&self, endpoint: &Endpoint) -> Option<Way> {
        // Nothing panics while it is held.
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, way, at) = taken.as_ref().filter(|(server, ..)| server == endpoint)?;
        let age = |at: SystemTime| self.ntlm.now().and_then(|now| now.duration_since(at).ok());
        let is_old = at.is_some_and(|at| age(at).is_none_or(|age| age >= SECOND_BEST_FOR));
        (!is_old).then_some(*way)
    }

    fn remember(&self, endpoint: &Endpoint, way: Option<Way>, at: Option<SystemTime>) {
        let taken = way.map(|way| (endpoint.clone(), way, at));
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = taken;
    }
}

impl Auth for ByOffer {
    /// NTLM over plain http is refused as Basic is: who listens could try passwords against what he saw, or use the connection.
    fn check(&self, endpoint: &Endpoint, allow_plaintext: bool) -> Result<()> {
        in_the_clear(endpoint, allow_plaintext, "the password")
    }

    fn start(&self) -> Box<dyn Handshake> {
        Box::new(Choosing {
            by: self.0.clone(),
            way: None,
            taken: Taken::Nothing,
            spent: Vec::new(),
            why_not: None,
            remark: None,
        })
    }

    fn who(&self) -> String {
        self.0.who.clone()
    }

    fn secrets(&self) -> Vec<Secret> {
        self.0.basic.as_ref().map_or_else(|| vec![self.0.ntlm.password().clone()], Basic::secrets)
    }

    fn signs_connections(&self) -> bool {
        true
    }

    fn ways(&self) -> &'static [&'static str] {
        match (&self.0.kerberos, &self.0.basic) {
            (Some(_), Some(_)) => &["Negotiate", "NTLM", "Basic"],
            (Some(_), None) => &["Negotiate", "NTLM"],
            (None, Some(_)) => &["NTLM", "Negotiate", "Basic"],
            (None, None) => &["NTLM", "Negotiate"],
        }
    }

    fn taken(&self, endpoint: &Endpoint) -> Option<&'static str> {
        self.0.known(endpoint).map(Way::name)
    }
}

/// The signing in on one socket, by what is offered.
struct Choosing {
    by: Arc<Inner>,
    way: Option<Way>,
    taken: Taken,
    /// Ways that turned out not to be had.
    spent: Vec<Way>,
    /// Of Kerberos: why.
    why_not: Option<String>,
    remark: Option<String>,
}

enum Taken {
    Nothing,
    Kerberos(kerberos::Turns),
    Ntlm(ntlm::Turns),
    Basic(Box<dyn Handshake>),
}

impl Taken {
    fn handshake(&self) -> Option<&dyn Handshake> {
        match self {
            Taken::Nothing => None,
            Taken::Kerberos(turns) => Some(turns),
            Taken::Ntlm(turns) => Some(turns),
            Taken::Basic(basic) => Some(&**basic),
        }
    }

    fn handshake_mut(&mut self) -> Option<&mut dyn Handshake> {
        match self {
            Taken::Nothing => None,
            Taken::Kerberos(turns) => Some(turns),
            Taken::Ntlm(turns) => Some(turns),
            Taken::Basic(basic) => Some(&mut **basic),
        }
    }
}

impl Choosing {
    fn take(&mut self, way: Way) {
        (self.way, self.taken) = (Some(way), self.by.start(way));
    }

    /// Whether the server has looked at the password. Another way would only try it a second time.
    fn was_tried(&self, offers: &Offers<'_>) -> bool {
        match &self.taken {
            // Kerberos shows a ticket.
            Taken::Nothing | Taken::Kerberos(_) => false,
            Taken::Ntlm(turns) => turns.was_tried(),
            // It is not remembered for ever: the server may have offered it when it was asked last.
            Taken::Basic(_) => offers.has("Basic"),
        }
    }

    /// Why it is not Kerberos.
    fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref().or(self.by.no_kerberos.as_deref())
    }

    fn give_up(&mut self, way: Way) {
        if let Taken::Kerberos(turns) = &self.taken {
            self.why_not = turns.refusal();
        }
        self.spent.push(way);
    }
}

impl Handshake for Choosing {
    fn first(&mut self, cx: &Context<'_>) -> Result<Option<Secret>> {
        if self.way.is_none()
            && let Some(way) = self.by.known(cx.endpoint)
        {
            self.take(way);
        }
        self.taken.handshake_mut().map_or(Ok(None), |taken| taken.first(cx))
    }

    fn challenged(&mut self, challenges: &[String], cx: &Context<'_>) -> Result<Answer> {
        let offers = Offers::read(challenges);
        if let (Some(way), Some(taken)) = (self.way, self.taken.handshake_mut()) {
            if let Answer::Again(header) = taken.challenged(challenges, cx)? {
                return Ok(Answer::Again(header));
            }
            if self.was_tried(&offers) {
                return Ok(Answer::Refused);
            }
            self.give_up(way);
        }
        for way in WAYS {
            if !self.by.can(way) || self.spent.contains(&way) || !offers.has(way.scheme()) {
                continue;
            }
            self.take(way);
            let at = self.why_not.as_ref().and_then(|_| self.by.ntlm.now());
            self.by.remember(cx.endpoint, Some(way), at);
            if let Some(header) = self.first(cx)? {
                let why =
                    self.why_not().filter(|_| way != Way::Kerberos && offers.has(Way::Kerberos.scheme()));
                self.remark = why.map(|why| format!("{}: {} is taken, since {why}", cx.endpoint, way.name()));
                return Ok(Answer::Again(header));
            }
            self.give_up(way);
        }
        self.by.remember(cx.endpoint, None, None);
        Ok(Answer::Refused)
    }

    fn answered(&mut self, status: u16, challenges: &[String], cx: &Context<'_>) -> Result<()> {
        self.taken.handshake_mut().map_or(Ok(()), |taken| taken.answered(status, challenges, cx))
    }

    fn remark(&mut self) -> Option<String> {
        self.remark.take()
    }

    fn shows_password(&self) -> bool {
        !matches!(self.taken, Taken::Kerberos(_))
    }

    fn manner(&self) -> Manner {
        self.taken.handshake().map_or(Manner::Request, |taken| taken.manner())
    }

    fn refusal(&self) -> Option<String> {
        let refusal = match &self.taken {
            Taken::Ntlm(turns) if turns.was_tried() && self.why_not.is_none() => return turns.refusal(),
            Taken::Ntlm(turns) if turns.was_tried() => turns.refusal(),
            Taken::Basic(_) if !self.spent.contains(&Way::Basic) => None,
            _ => Some(match self.by.basic {
                Some(_) => {
                    "neither NTLM nor Basic, which are possible with a password here, is to be had there"
                        .to_owned()
                }
                None => "NTLM (auth=ntlm) is not to be had there".to_owned(),
            }),
        };
        match (refusal, self.why_not()) {
            (Some(refusal), Some(why)) => Some(format!("{refusal}; {why}")),
            (refusal, why) => refusal.or_else(|| why.map(str::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use super::super::Fresh;
    use super::*;
    use crate::net::Cancel;

    fn by_offer(basic: bool) -> ByOffer {
        let ntlm = Ntlm::new("EXAMPLE\\ada", Secret::new("hunter2"), || {
            Ok(Fresh { now: SystemTime::UNIX_EPOCH, nonce: [7; 8] })
        });
        let basic = basic.then(|| Basic::new("EXAMPLE\\ada", Secret::new("hunter2")).unwrap());
        ByOffer::new("EXAMPLE\\ada", ntlm.unwrap(), basic)
    }

    /// What goes out on one socket: before the first request, and after each of these 401s.
    fn socket(auth: &ByOffer, host: &str, unauthorized: &[&[&str]]) -> Vec<String> {
        let endpoint = Endpoint::parse(host).unwrap();
        let cancel = Cancel::new();
        let cx = Context { endpoint: &endpoint, certificate: None, cancel: &cancel, until: Instant::now() };
        let shown = |header: &str| match header.split_once(' ') {
            Some((scheme, token)) => format!("{scheme} {}", &token[..token.len().min(12)]),
            None => header.to_owned(),
        };
        let mut handshake = auth.start();
        let mut out =
            vec![handshake.first(&cx).unwrap().map_or("-".to_owned(), |header| shown(header.expose()))];
        for challenges in unauthorized {
            let challenges: Vec<String> = challenges.iter().map(|&c| c.to_owned()).collect();
            out.push(match handshake.challenged(&challenges, &cx).unwrap() {
                Answer::Again(header) => shown(header.expose()),
                Answer::Refused => "refused".to_owned(),
            });
        }
        out
    }

    const ASK: &str = "TlRMTVNTUAAB";
    const BASIC: &str = "Basic RVhBTVBMRVxh";

    // The password would go out in Basic although the server can do better, or before it has said what it can.
    #[test]
    fn the_strongest_that_is_offered_is_taken_and_remembered() {
        let (ntlm, negotiate) = (format!("NTLM {ASK}"), format!("Negotiate {ASK}"));
        for (offers, taken) in [
            (&["Negotiate", "NTLM", "Basic realm=x"][..], &ntlm[..]),
            (&["Basic, Negotiate"], &negotiate),
            (&["Bearer", "basic"], BASIC),
            (&["Bearer", "Digest"], "refused"),
            (&[], "refused"),
        ] {
            let auth = by_offer(true);
            assert_eq!(socket(&auth, "a.test", &[offers]), ["-", taken]);
            let next = if taken == "refused" { "-" } else { taken };
            assert_eq!(socket(&auth, "a.test", &[]), [next], "the next socket knows");
            assert_eq!(socket(&auth, "b.test", &[]), ["-"], "another server was not asked");
        }
        assert_eq!(socket(&by_offer(false), "a.test", &[&["Basic"]]), ["-", "refused"], "auth=ntlm");
    }

    // Where Negotiate is Kerberos only, nobody could sign in although Basic is offered. But a wrong password must not be tried by
    // every way there is: that locks the account.
    #[test]
    fn a_way_that_is_not_to_be_had_is_left_and_a_refused_password_is_not() {
        let auth = by_offer(true);
        let offers: &[&str] = &["Negotiate", "Basic"];
        let negotiate = format!("Negotiate {ASK}");
        assert_eq!(socket(&auth, "a.test", &[offers, offers, offers]), ["-", &negotiate, BASIC, "refused"]);
        assert_eq!(
            socket(&auth, "a.test", &[&["NTLM"]]),
            [BASIC, &format!("NTLM {ASK}")],
            "Basic was switched off"
        );
        assert_eq!(socket(&auth, "a.test", &[&["Basic"]]), [&format!("NTLM {ASK}"), BASIC], "and on again");
        let challenge = format!("NTLM {}", super::super::ntlm::tests::challenge());
        let both: &[&str] = &["NTLM", "Basic"];
        let auth = by_offer(true);
        let sent = socket(&auth, "a.test", &[both, &[&challenge], both]);
        assert_eq!(sent, ["-", &format!("NTLM {ASK}"), "NTLM TlRMTVNTUAAD", "refused"]);
    }

    // A KDC that is away for a minute, at boot say, would cost a link its Kerberos for months.
    #[test]
    fn a_second_best_way_is_remembered_for_minutes() {
        static NOW: AtomicU64 = AtomicU64::new(1_000_000);
        let fresh = || {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed));
            Ok(Fresh { now, nonce: [7; 8] })
        };
        let ntlm = Ntlm::new("ada", Secret::new("hunter2"), fresh).unwrap();
        let (inner, endpoint) = (ByOffer::new("ada", ntlm, None).0, Endpoint::parse("a.test").unwrap());
        let way = Some(Way::Ntlm(Scheme::Ntlm));
        inner.remember(&endpoint, way, inner.ntlm.now());
        NOW.fetch_add(599, Ordering::Relaxed);
        assert_eq!(inner.known(&endpoint), way);
        NOW.fetch_add(1, Ordering::Relaxed);
        assert_eq!(inner.known(&endpoint), None);
        inner.remember(&endpoint, way, None);
        NOW.fetch_add(1_000_000, Ordering::Relaxed);
        assert_eq!(inner.known(&endpoint), way, "the best that there is");
    }

    // What is not known cannot be taken out of a page that quotes it.
    #[test]
    fn the_password_is_told_as_a_secret() {
        for basic in [true, false] {
            let auth = by_offer(basic);
            assert!(auth.secrets().iter().any(|secret| secret.expose() == "hunter2"));
            assert!(!format!("{auth:?}").contains("hunter2"));
        }
    }

    // The hash of a password is as good as the password to who listens long enough.
    #[test]
    fn no_plain_http_to_another_machine() {
        let auth = by_offer(false);
        let far = Endpoint::parse("http://mail.example.test").unwrap();
        assert!(auth.check(&far, false).unwrap_err().to_string().contains("allow_plaintext"));
        auth.check(&far, true).unwrap();
        auth.check(&Endpoint::parse("http://127.0.0.1").unwrap(), false).unwrap();
        auth.check(&Endpoint::parse("mail.example.test").unwrap(), false).unwrap();
    }
}
