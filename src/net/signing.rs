//! The signing of one exchange, turn by turn: what goes out next, whether the request itself goes with it, and what to do where the
//! connection does not stay as long as the sign-in needs it.

use std::time::{Duration, Instant};

use super::answer;
use super::lane::{Answer, Lane};
use super::tries::Try;
use crate::auth::{self, Auth, Context, Manner, Offers, Secret};
use crate::{Error, ErrorKind, Result};

/// A question for what is offered, a way that turns out not to be had, two turns of NTLM or one of Kerberos; some more where a socket was lost.
const MAX_CHALLENGES: u32 = 8;
/// How often a sign-in begins anew since its connection was lost in the middle.
const MAX_LOST: u32 = 2;
/// How often the message that has the password's proof goes out for one request, where no answer comes: the server may have refused it, and
/// each time counts as a wrong password.
const MAX_UNANSWERED: u32 = 2;

pub(super) struct Signing<'a> {
    auth: Option<&'a dyn Auth>,
    cx: Context<'a>,
    authorization: Option<Secret>,
    manner: Manner,
    challenges: u32,
    lost: u32,
    unanswered: u32,
    begun: bool,
    sent: Sent,
    feeler: Feeler,
}

/// Some servers name tokens only to who comes with one: hybrid Exchange, say. So one that has not named them is asked with an empty one, as
/// Outlook does, and the token itself still goes only to who names them.
#[derive(Clone, Copy, PartialEq)]
enum Feeler {
    No,
    /// It goes out next, or is out.
    Out,
    /// It was answered.
    Back,
}

/// What the request that went out last is signed by.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    /// Nothing, or what is no password.
    Other,
    Basic,
    /// A first message of NTLM's, which proves nothing yet.
    Opening,
    /// Its last message.
    Closing,
}

impl<'a> Signing<'a> {
    /// The certificate in `cx` is that of the lane's socket, filled in here.
    pub fn new(auth: Option<&'a dyn Auth>, cx: Context<'a>) -> Signing<'a> {
        let (challenges, lost) = (MAX_CHALLENGES, MAX_LOST);
        let (manner, sent) = (Manner::Request, Sent::Other);
        Signing {
            auth,
            cx,
            authorization: None,
            manner,
            challenges,
            lost,
            unanswered: 0,
            begun: false,
            sent,
            feeler: Feeler::No,
        }
    }

    /// Before a request that is not an answer to a challenge.
    pub fn first(&mut self, lane: &mut Lane) -> Result<()> {
        self.authorization = lane.handshake.first(&self.cx)?;
        self.manner = lane.handshake.manner();
        Ok(())
    }

    /// A request begins on the lane, with the header that goes out now.
    pub fn begin(&mut self, lane: &Lane, until: Instant, allowed: Duration) {
        let header = self.authorization.take();
        self.sent = match (&header, self.manner) {
            _ if !lane.handshake.shows_password() => Sent::Other,
            (Some(_), Manner::Opening) => Sent::Opening,
            (Some(_), Manner::Closing) => Sent::Closing,
            (Some(header), Manner::Request) if header.expose().starts_with("Basic ") => Sent::Basic,
            _ => Sent::Other,
        };
        lane.slot.begin(self.cx.cancel, until, allowed, header);
        if self.feels() {
            lane.slot.sign_with("Authorization", Secret::new("Bearer"));
        }
        if self.stays() {
            lane.slot.stay();
        }
        if self.sent != Sent::Other
            && let Some(auth) = self.auth
            && let Some(tries) = auth.tries()
        {
            lane.slot.guard(tries.clone(), auth.who());
        }
    }

    /// Whether what goes out, or is out, only asks whether tokens are taken.
    pub fn feels(&self) -> bool {
        self.feeler == Feeler::Out
    }

    /// Whether an empty body goes out in the request's place.
    pub fn is_empty(&self) -> bool {
        self.manner == Manner::Opening
    }

    /// Whether only the socket will do that is there.
    pub fn stays(&self) -> bool {
        self.manner == Manner::Closing
    }

    /// After an error: whether the sign-in began anew, for its connection was lost in the middle. `repeat`: although the request
    /// may have been seen.
    pub fn begins_anew(&mut self, lane: &mut Lane, error: &Error, repeat: bool) -> Result<bool> {
        let in_the_middle = matches!(self.manner, Manner::Opening | Manner::Closing);
        let harmless = lane.slot.was_lost() || (lane.slot.was_stale() && (repeat || self.is_empty()));
        let unanswered = !lane.slot.was_lost() && matches!(error.kind(), ErrorKind::Io | ErrorKind::Timeout);
        if unanswered && matches!(self.sent, Sent::Basic | Sent::Closing) {
            lane.slot.lost_attempt();
        }
        if unanswered && self.sent == Sent::Closing {
            self.unanswered += 1;
            if self.unanswered == MAX_UNANSWERED {
                // Nor is it to be repeated by anybody else.
                lane.slot.got_bytes();
                let text = format!(
                    "{error}: this was the last message of an NTLM sign-in, and for the second time no answer came to it: it may have been \
                     refused, and each time counts as a wrong password; see whether something on the way closes connections"
                );
                return Err(Error::new(error.kind(), text));
            }
        }
        if error.kind() != ErrorKind::Io || !in_the_middle || !harmless || self.lost == 0 {
            return Ok(false);
        }
        let Some(auth) = self.auth else { return Ok(false) };
        self.lost -= 1;
        lane.handshake = auth.start();
        self.first(lane)?;
        Ok(true)
    }

    /// After a 401: whether there is something to send now. Where not, the answer knows why, if we do.
    pub fn challenged(&mut self, lane: &mut Lane, answer: &mut Answer) -> Result<bool> {
        if self.challenges == 0 {
            return Ok(false);
        }
        self.challenges -= 1;
        let certificate = lane.slot.take_certificate();
        let cx = Context { certificate: certificate.as_deref(), ..self.cx };
        let challenges = answer::challenges(answer);
        match lane.handshake.challenged(&challenges, &cx)? {
            auth::Answer::Refused => {
                answer.refusal = lane.handshake.refusal();
                let attempt = lane.slot.take_attempt();
                // Who does not offer Basic has not looked at it.
                let looked = match self.sent {
                    Sent::Closing => true,
                    Sent::Basic => challenges.is_empty() || Offers::read(&challenges).has("Basic"),
                    Sent::Opening | Sent::Other => false,
                };
                if let Some(attempt) = attempt.filter(|_| looked) {
                    attempt.refused();
                }
                return Ok(false);
            }
            auth::Answer::Again(header) => self.authorization = Some(header),
        }
        if let Some(remark) = lane.handshake.remark() {
            lane.slot.tap().remark(remark);
        }
        self.manner = lane.handshake.manner();
        if self.stays() && answer.closes {
            let text = format!(
                "{}: HTTP 401: the connection is closed after the server's challenge, by the server or a proxy on the way (HTTP/1.0 or \
                 Connection: close), so that NTLM and Kerberos, which sign a connection in, cannot go on: let it stay, or set auth=basic",
                self.cx.endpoint
            );
            return Err(Error::new(ErrorKind::Auth, text).with_http_status(401));
        }
        Ok(true)
    }

    /// The same for who has sent nothing unasked: a header goes out only by a way that the server has named.
    pub fn asked(&mut self, lane: &mut Lane, answer: &mut Answer) -> Result<bool> {
        let challenges = answer::challenges(answer);
        let names = |header: &Option<Secret>| {
            let scheme = header.as_ref().and_then(|header| header.expose().split(' ').next());
            scheme.is_some_and(|scheme| Offers::read(&challenges).has(scheme))
        };
        if !self.begun {
            let by_token = self.auth.is_some_and(|auth| auth::by_token(auth.ways()));
            match self.feeler {
                Feeler::No if by_token && !Offers::read(&challenges).has("Bearer") => {
                    self.feeler = Feeler::Out;
                    return Ok(true);
                }
                Feeler::Out if !Offers::read(&challenges).has("Bearer") => return Ok(false),
                _ => self.feeler = Feeler::Back,
            }
            self.begun = true;
            self.first(lane)?;
            if names(&self.authorization) {
                return Ok(true);
            }
        }
        Ok(self.challenged(lane, answer)? && names(&self.authorization))
    }

    /// The answer that all is for.
    pub fn finish(&self, lane: &mut Lane, answer: &Answer) -> Result<()> {
        let attempt = lane.slot.take_attempt();
        match (self.sent, answer.status) {
            // A gateway answers before anybody has looked at a header, and a connection is signed in before anything else.
            (Sent::Basic, 200 | 500) | (Sent::Closing, 200..=500) => attempt.into_iter().for_each(Try::taken),
            _ => drop(attempt),
        }
        if self.is_empty() && matches!(answer.status, 200 | 500) {
            let text = format!(
                "{}: HTTP {} to the first message of a sign-in by NTLM or Kerberos, where a challenge (401) belongs: does something on \
                 the way take the Authorization header out, or let everybody in?",
                self.cx.endpoint, answer.status
            );
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        lane.handshake.answered(answer.status, &answer::challenges(answer), &self.cx)?;
        // IIS says so where it is set up to ask at each request, or where it sees a proxy before it.
        if answer.header("persistent-auth").is_some_and(|v| v.trim().eq_ignore_ascii_case("false"))
            && let Some(auth) = self.auth
        {
            lane.handshake = auth.start();
        }
        Ok(())
    }
}
