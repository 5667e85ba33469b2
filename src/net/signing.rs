//! The signing of one exchange, turn by turn: what goes out next, whether the request itself goes with it, and what to do where the
//! connection does not stay as long as the sign-in needs it.

use super::answer;
use super::lane::{Answer, Lane};
use crate::auth::{self, Auth, Context, Manner, Offers, Secret};
use crate::{Error, ErrorKind, Result};

/// A question for what is offered, a way that turns out not to be had, two turns of NTLM; some more where a socket was lost.
const MAX_CHALLENGES: u32 = 8;
/// How often a sign-in begins anew since its connection was lost in the middle.
const MAX_LOST: u32 = 2;

pub(super) struct Signing<'a> {
    auth: Option<&'a dyn Auth>,
    cx: Context<'a>,
    authorization: Option<Secret>,
    manner: Manner,
    challenges: u32,
    lost: u32,
    begun: bool,
}

impl<'a> Signing<'a> {
    /// The certificate in `cx` is that of the lane's socket, filled in here.
    pub fn new(auth: Option<&'a dyn Auth>, cx: Context<'a>) -> Signing<'a> {
        let (challenges, lost) = (MAX_CHALLENGES, MAX_LOST);
        Signing { auth, cx, authorization: None, manner: Manner::Request, challenges, lost, begun: false }
    }

    /// Before a request that is not an answer to a challenge.
    pub fn first(&mut self, lane: &mut Lane) -> Result<()> {
        self.authorization = lane.handshake.first(&self.cx)?;
        self.manner = lane.handshake.manner();
        Ok(())
    }

    /// The header that goes out, once.
    pub fn take(&mut self) -> Option<Secret> {
        self.authorization.take()
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
        let certificate = lane.slot.certificate();
        let cx = Context { certificate: certificate.as_deref(), ..self.cx };
        match lane.handshake.challenged(&answer::challenges(answer), &cx)? {
            auth::Answer::Refused => {
                answer.refusal = lane.handshake.refusal();
                return Ok(false);
            }
            auth::Answer::Again(header) => self.authorization = Some(header),
        }
        self.manner = lane.handshake.manner();
        if self.stays() && answer.closes {
            let text = format!(
                "{}: HTTP 401: the connection is closed after the server's challenge, by the server or a proxy on the way (HTTP/1.0 or \
                 Connection: close), so that NTLM, which signs a connection in, cannot go on: let it stay, or set auth=basic",
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
        if self.is_empty() && matches!(answer.status, 200 | 500) {
            let text = format!(
                "{}: HTTP {} to the first message of an NTLM sign-in, where a challenge (401) belongs: does something on the way take \
                 the Authorization header out?",
                self.cx.endpoint, answer.status
            );
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        // IIS says so where it is set up to ask at each request, or where it sees a proxy before it.
        if answer.header("persistent-auth").is_some_and(|v| v.trim().eq_ignore_ascii_case("false"))
            && let Some(auth) = self.auth
        {
            lane.handshake = auth.start();
        }
        Ok(())
    }
}
