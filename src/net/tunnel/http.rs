//! An HTTP proxy (RFC 9110, 9.3.6).

use std::time::Duration;

use zeroize::Zeroizing;

use super::super::proxy::Proxy;
use super::super::wire_log;
use super::{Refusal, State, Tunnel, failed};
use crate::ErrorKind;
use crate::auth::schemes;

/// The longest head of an answer to CONNECT.
pub(super) const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

impl Tunnel<'_> {
    /// The head of the answer to CONNECT, if all of it is there: its length.
    pub(super) fn head(&mut self) -> Result<usize, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&self.input) {
            Ok(httparse::Status::Complete(used)) => {
                self.answer = Some(wire_log::raw_head(&self.input[..used]));
                let status = answer.code.unwrap_or_default();
                if (200..300).contains(&status) {
                    self.state = State::Open;
                    return Ok(used);
                }
                Err(self.refused(status, answer.reason.unwrap_or_default(), answer.headers))
            }
            Ok(httparse::Status::Partial) if self.input.len() <= MAX_HEAD => Ok(0),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Err(failed(format!("answered with a head that is too long: {}", self.right_kind())))
            }
            Err(_) if self.input.first() == Some(&0x15) => Err(failed(
                "speaks TLS on this port, which is not offered here: name one for plain http".into(),
            )),
            Err(_) => Err(failed(format!(
                "answered with what is no HTTP ({}): {}",
                self.begins(),
                self.right_kind()
            ))),
        }
    }

    fn refused(&self, status: u16, reason: &str, headers: &[httparse::Header<'_>]) -> Refusal {
        let target = self.target();
        let text = |name: &str| {
            let found = headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
            Some(String::from_utf8_lossy(found.value).trim().to_owned())
        };
        // Squid says there what its page says.
        let more = text("x-squid-error").map_or_else(String::new, |e| format!("; {}", self.quoted(e, 60)));
        let said = format!("HTTP {status} {}{more}", self.quoted(reason.to_owned(), 60));
        let (kind, what) = match status {
            // tinyproxy refuses with 401.
            401 | 407 => (ErrorKind::Auth, self.wants_sign_in(status, headers)),
            403 => (
                ErrorKind::Connect,
                format!("forbids a connection to {target} ({said}): its administrator has to allow it"),
            ),
            300..=399 => (
                ErrorKind::Connect,
                format!(
                    "redirects instead of connecting to {target} ({said}): it may want a sign-in with a browser first"
                ),
            ),
            400 | 404 | 405 | 501 => (
                ErrorKind::Connect,
                format!(
                    "makes no connection to {target} ({said}): is it a proxy, and may it CONNECT? check option proxy"
                ),
            ),
            500 | 502..=504 => (
                ErrorKind::Connect,
                format!(
                    "could not reach {target} ({said}): check host and port of the url, and whether the proxy knows that name"
                ),
            ),
            _ => (ErrorKind::Connect, format!("makes no connection to {target} ({said})")),
        };
        let retry_after = text("retry-after").and_then(|t| t.parse().ok());
        let retry_after = retry_after.map(|s: u64| Duration::from_secs(s.min(86_400)));
        Refusal { kind, what, http_status: Some(status), retry_after }
    }

    fn wants_sign_in(&self, status: u16, headers: &[httparse::Header<'_>]) -> String {
        let offers = headers.iter().filter(|h| h.name.eq_ignore_ascii_case("proxy-authenticate"));
        let offers: Vec<String> = offers.map(|h| String::from_utf8_lossy(h.value).into_owned()).collect();
        let offers: Vec<String> = schemes(&offers).into_iter().map(|name| self.quoted(name, 30)).collect();
        let all = offers.join(", ");
        if !offers.is_empty() && !offers.iter().any(|o| o.eq_ignore_ascii_case("basic")) {
            return format!(
                "wants a sign-in (HTTP {status}) and offers {all}, but no Basic, the only way that is possible here: its administrator can \
                 let this server through without, or a relay on this machine (cntlm, px) can sign in and be named as the proxy"
            );
        }
        match &self.proxy.login {
            Some(login) => format!(
                "refused the sign-in of {:?} (HTTP {status}): check user and password in option proxy",
                login.user()
            ),
            None => format!(
                "wants a sign-in (HTTP {status}): put user and password into option proxy, as http://user:password@host:port"
            ),
        }
    }
}

pub(super) fn connect(proxy: &Proxy, target: &str, user_agent: &str) -> Zeroizing<Vec<u8>> {
    // All at once: a buffer that grows leaves copies behind that nobody wipes.
    let signature = proxy.login.as_ref().map(|login| login.header().expose());
    let mut out = Zeroizing::new(Vec::with_capacity(
        256 + 2 * target.len() + user_agent.len() + signature.map_or(0, str::len),
    ));
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b"\r\n");
    };
    line(&["CONNECT ", target, " HTTP/1.1"]);
    line(&["Host: ", target]);
    if !user_agent.chars().any(char::is_control) {
        line(&["User-Agent: ", user_agent]);
    }
    if let Some(signature) = signature {
        line(&["Proxy-Authorization: ", signature]);
    }
    line(&[]);
    out
}
