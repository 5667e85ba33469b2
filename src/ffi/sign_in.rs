//! A user signs in, for hosts that are no client: a web page, a set-up program.

use std::cell::RefCell;
use std::ffi::c_char;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::client::json_options;
use super::error::{Failure, guard, guard_or, report_panics};
use super::text::{optional, required};
use super::{EWSN_INTERRUPTED, EWSN_OK, EWSN_TIMEOUT};
use crate::auth::Secret;
use crate::net::Cancel;
use crate::sign_in::{Polled, SignIn};

thread_local! {
    static BEGUN: RefCell<Secret> = RefCell::new(Secret::new(""));
    static FINISHED: RefCell<Secret> = RefCell::new(Secret::new(""));
}

/// Begins the sign-in of a user by OAuth, without a client, so in any web process. `json` has the options of the watch:
/// `oauth_tenant` (or `oauth_authority`, `oauth_token_url`), `oauth_client_id`, `user`, with `oauth_client_secret` also
/// `oauth_grant=refresh_token`, and `oauth_token_store` or `state_dir` where the tokens are to be stored.
///
/// With a browser: `redirect_or_null` is the whole URL of the page that it comes back to, as it is registered for the program. JSON:
/// `url`, where to send it, and `kept`; nothing is sent here. On another device (`redirect_or_null` NULL), the issuer is asked:
/// `uri`, the page to open there, `user_code`, what to type into it, `whole_uri` (the page with the code, null where there is none),
/// `seconds`, how long that is good, and `kept`.
///
/// `kept` is what `ewsn_sign_in_finish_json` goes on with, in this process or another: letters, digits, `.`, `-` and `_`. **A secret**:
/// keep it in the user's session on the server, not in a cookie that others can read, nor in a page or a log. Valid until this
/// thread's next call of it, which wipes it; NULL where it fails: `EWSN_E_INVALID` for options that are missing or contradict.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_sign_in_begin_json(
    json: *const c_char,
    redirect_or_null: *const c_char,
) -> *const c_char {
    guard_or(std::ptr::null(), || {
        let _before = taken_back(&BEGUN);
        let sign_in = open(json)?;
        let begun = match optional("redirect_or_null", redirect_or_null)? {
            Some(redirect) => {
                let begun = sign_in.begin(redirect)?;
                secret_json(&Browser { url: &begun.url, kept: begun.kept.expose() })?
            }
            None => {
                let device = sign_in.device(&Cancel::new())?;
                secret_json(&Device {
                    uri: &device.uri,
                    user_code: &device.user_code,
                    whole_uri: device.whole_uri.as_deref(),
                    seconds: device.life.as_secs(),
                    kept: device.kept.expose(),
                })?
            }
        };
        lend_secret(&BEGUN, begun)
    })
}

/// Goes on with a sign-in that `ewsn_sign_in_begin_json` began, with the same options and its `kept`.
///
/// With a browser: `query_or_null` is what stands behind the `?` of the address that it came back to, as it came (in PHP
/// `$_SERVER['QUERY_STRING']`); the code in it is exchanged, once: take `kept` out of the session first. `timeout_ms` counts for
/// nothing then. On another device (`query_or_null` NULL): waits so many milliseconds at most until the user has signed in, asking as
/// often as the issuer allows; 0 asks where a question is due and waits for nobody, a negative one waits as long as the code is good.
///
/// `EWSN_OK`: the user has signed in. JSON: `stored`, whether the tokens are in the store, where watches with these options find
/// them and renew them; `lasting`, whether there is a refresh token; `expires_unix_ms`, of the access token; and where nothing is set to
/// store them in, `refresh_token` and `access_token`, for the host to keep: **secrets**. `EWSN_TIMEOUT` (not yet) or
/// `EWSN_INTERRUPTED` (a signal ended the wait), of another device: `kept`, in the place of the one before, `retry_ms`, how long
/// to the next question, and `trouble`, a text, where the issuer could not be asked: it is asked again. Valid until this thread's next call of it, which wipes it.
///
/// NULL where it fails. `EWSN_E_INVALID`: the query of another sign-in, or none; a `kept` that is none, or of other options.
/// `EWSN_E_AUTH`, and `ewsn_last_error_code` has the issuer's code: somebody said no (`access_denied`), the code was used or is too
/// old (`invalid_grant`, `expired_token`), and the like: begin again. `EWSN_E_IO` and others as of the network: the same may work, where
/// the issuer was not reached. No text has a secret; show them to people as they are, escaped for the page.
///
/// On the calling thread. A request takes `call_timeout`, and no more than 30 seconds; neither time nor signal cuts it short, since
/// tokens come once. Where another process is renewing this account's tokens, it is waited for, 45 seconds at most.
#[unsafe(no_mangle)]
pub extern "C" fn ewsn_sign_in_finish_json(
    json: *const c_char,
    kept: *const c_char,
    query_or_null: *const c_char,
    timeout_ms: i32,
) -> *const c_char {
    let mut text = std::ptr::null();
    guard(|| {
        let _before = taken_back(&FINISHED);
        let kept = Secret::new(required("kept", kept)?);
        let query = optional("query_or_null", query_or_null)?;
        let sign_in = open(json)?;
        let polled = match query {
            Some(query) => Polled::Done(sign_in.finish(&kept, query, &Cancel::new())?),
            None => {
                let timeout = u64::try_from(timeout_ms).map_or(Duration::MAX, Duration::from_millis);
                sign_in.poll(&kept, timeout, &Cancel::new())?
            }
        };
        let (status, answer) = match &polled {
            Polled::Done(done) => {
                let expires = SystemTime::now() + done.life;
                let handed = |token: &Secret| (!done.stored).then(|| token.clone());
                let (refresh_token, access_token) =
                    (done.refresh_token.as_ref().and_then(handed), handed(&done.access_token));
                let answer = Done {
                    stored: done.stored,
                    lasting: done.lasting,
                    expires_unix_ms: expires
                        .duration_since(SystemTime::UNIX_EPOCH)
                        .unwrap_or_default()
                        .as_millis() as u64,
                    refresh_token: refresh_token.as_ref().map(Secret::expose),
                    access_token: access_token.as_ref().map(Secret::expose),
                };
                (EWSN_OK, secret_json(&answer)?)
            }
            Polled::Pending { kept, due_in, interrupted, trouble } => {
                let trouble = trouble.as_ref().map(|e| e.to_string());
                let answer = Pending { kept: kept.expose(), retry_ms: due_in.as_millis() as u64, trouble };
                let status = if *interrupted { EWSN_INTERRUPTED } else { EWSN_TIMEOUT };
                (status, secret_json(&answer)?)
            }
        };
        text = lend_secret(&FINISHED, answer)?;
        Ok(status)
    });
    text
}

#[derive(Serialize)]
struct Browser<'a> {
    url: &'a str,
    kept: &'a str,
}

#[derive(Serialize)]
struct Device<'a> {
    uri: &'a str,
    user_code: &'a str,
    whole_uri: Option<&'a str>,
    seconds: u64,
    kept: &'a str,
}

#[derive(Serialize)]
struct Done<'a> {
    stored: bool,
    lasting: bool,
    expires_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
}

#[derive(Serialize)]
struct Pending<'a> {
    kept: &'a str,
    retry_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

fn open(json: *const c_char) -> Result<SignIn, Failure> {
    report_panics();
    Ok(SignIn::new(&json_options(json)?)?)
}

/// As text that ends with NUL, for C.
fn secret_json(answer: &impl Serialize) -> Result<Secret, Failure> {
    // Counted first: a text that grows leaves copies behind that nobody wipes.
    let failed = |e: serde_json::Error| Failure::new(super::EWSN_E_INTERNAL, e.to_string());
    let mut counted = Count(0);
    serde_json::to_writer(&mut counted, answer).map_err(failed)?;
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(counted.0 + 1));
    serde_json::to_writer(&mut *text, answer).map_err(failed)?;
    text.push(0);
    let text = String::from_utf8(std::mem::take(&mut *text));
    // JSON has neither: NUL is escaped in it.
    Ok(Secret::new(text.map_err(|_| Failure::new(super::EWSN_E_INTERNAL, "JSON that is not UTF-8"))?))
}

struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What was lent before, wiped when the call is over, also one that fails: until then an argument may be in it.
fn taken_back(place: &'static std::thread::LocalKey<RefCell<Secret>>) -> Option<Secret> {
    let taken =
        place.try_with(|place| Some(std::mem::replace(&mut *place.try_borrow_mut().ok()?, Secret::new(""))));
    taken.ok().flatten()
}

/// Gives it to the calling thread, until its next call of the same function, or its end.
fn lend_secret(
    place: &'static std::thread::LocalKey<RefCell<Secret>>,
    text: Secret,
) -> Result<*const c_char, Failure> {
    let lent = place.try_with(|place| {
        let mut place = place.try_borrow_mut().ok()?;
        *place = text;
        Some(place.expose().as_ptr().cast())
    });
    lent.ok().flatten().ok_or_else(|| Failure::invalid("this thread is ending"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The tokens of a sign-in would stay in a web server's thread for as long as the calls after it fail.
    #[test]
    fn a_call_that_fails_wipes_what_the_one_before_has_lent() {
        let options =
            cr#"{"user":"ada@example.test","oauth_tenant":"example.test","oauth_client_id":"desk"}"#;
        let back = c"https://desk.example.test/signed_in.php";
        assert!(!ewsn_sign_in_begin_json(options.as_ptr(), back.as_ptr()).is_null());
        assert!(BEGUN.with_borrow(|lent| lent.expose().contains("kept")));
        for json in [c"{}".as_ptr(), c"no JSON".as_ptr(), std::ptr::null()] {
            BEGUN.set(Secret::new("begun\0"));
            assert!(ewsn_sign_in_begin_json(json, back.as_ptr()).is_null());
            assert!(BEGUN.with_borrow(Secret::is_empty));
        }

        // `kept` may be in that text itself: it is read before that is wiped.
        for json in [options.as_ptr(), std::ptr::null()] {
            FINISHED.set(Secret::new("finished\0"));
            let lent = FINISHED.with_borrow(|lent| lent.expose().as_ptr().cast());
            assert!(ewsn_sign_in_finish_json(json, lent, c"code=x&state=y".as_ptr(), 0).is_null());
            assert!(FINISHED.with_borrow(Secret::is_empty));
        }
        FINISHED.set(Secret::new("finished\0"));
        assert!(ewsn_sign_in_finish_json(options.as_ptr(), std::ptr::null(), std::ptr::null(), 0).is_null());
        assert!(FINISHED.with_borrow(Secret::is_empty));
    }
}
