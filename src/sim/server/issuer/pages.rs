//! What a browser sees: where a user signs in, and where the code of a device is typed in.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Code, Pairs, Said, State, refused};

const HTML: &str = "text/html; charset=utf-8";

impl State {
    pub(super) fn authorize(&mut self, query: &Pairs) -> Said {
        let redirect = query.get("redirect_uri").to_owned();
        let state = utf8_percent_encode(query.get("state"), NON_ALPHANUMERIC);
        let to = |pairs: String| Said {
            status: 302,
            // One that has a query keeps it (RFC 6749, section 3.1.2).
            location: Some(format!(
                "{redirect}{}{pairs}&state={state}",
                if redirect.contains('?') { '&' } else { '?' }
            )),
            content_type: "",
            body: String::new(),
        };
        if redirect.is_empty() || !self.programs.contains_key(query.get("client_id")) {
            return refused(
                400,
                "invalid_request",
                "AADSTS900144: The request body must contain 'client_id'.",
                &[900_144],
            );
        }
        let challenge = query.get("code_challenge").to_owned();
        if query.get("code_challenge_method") != "S256" || challenge.len() != 43 {
            return to("error=invalid_request&error_description=AADSTS9002325%3A+Proof+Key+for+Code+Exchange+is+required".into());
        }
        let Some(user) = self.at_browser(query.get("login_hint")) else {
            return to("error=access_denied&error_description=AADSTS65004%3A+User+declined+to+consent".into());
        };
        let code = self.new_token("code");
        let kept =
            Code { client: query.get("client_id").to_owned(), user, redirect: redirect.clone(), challenge };
        self.codes.insert(code.clone(), kept);
        to(format!("code={code}"))
    }

    fn at_browser(&self, hint: &str) -> Option<String> {
        let users = &self.settings.browsers;
        users.iter().find(|user| *user == hint).or(users.first()).cloned()
    }

    /// The page that a device's code is typed into.
    pub(super) fn device_page(&mut self, query: &Pairs) -> Said {
        let user = self.at_browser(query.get("user"));
        let code = query.get("user_code").trim().to_ascii_uppercase();
        let waiting =
            self.devices.values_mut().find(|device| device.user_code == code && device.user.is_none());
        let text = match (waiting, &user) {
            (Some(device), Some(user)) => {
                device.user = Some(Some(user.clone()));
                "Signed in: you can close this page."
            }
            (Some(device), None) => {
                device.user = Some(None);
                "Somebody said no: you can close this page."
            }
            (None, _) if code.is_empty() => {
                "<form>Code: <input name=user_code autofocus> <button>Next</button></form>"
            }
            (None, _) => "There is no such code.",
        };
        let body = format!("<!DOCTYPE html><title>Sign in</title><p>{text}");
        Said { status: 200, location: None, content_type: HTML, body }
    }
}
