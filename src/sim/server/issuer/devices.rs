//! Users who sign in on another device (RFC 8628): a code for them to type in, and one for the program to ask with.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Device, JSON, Pairs, Said, State, refused};

impl State {
    pub(super) fn device(&mut self, url: &str, form: &Pairs) -> Said {
        let client = form.get("client_id").to_owned();
        if !self.programs.contains_key(&client) {
            let text = format!(
                "AADSTS700016: Application with identifier '{client}' was not found in the directory."
            );
            return refused(400, "unauthorized_client", &text, &[700_016]);
        }
        let (device_code, interval) = (self.new_token("dc"), self.settings.device_interval);
        let user_code = format!("SIM{:05}", self.last);
        let page = url.rsplit_once('/').map_or(url, |(before, _)| before);
        let body = json!({
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": format!("{page}/devicelogin"),
            "verification_uri_complete": format!("{page}/devicelogin?user_code={user_code}"),
            "expires_in": 900,
            "interval": interval,
            "message": "To sign in, use a web browser.",
        });
        self.devices
            .insert(device_code, Device { client, user_code, user: None, asked: None, strict: interval > 1 });
        Said { status: 200, location: None, content_type: JSON, body: body.to_string() }
    }

    pub(super) fn device_user(&mut self, client: &str, code: &str) -> Result<String, Said> {
        let interval = Duration::from_secs(self.settings.device_interval);
        let Some(device) = self.devices.get_mut(code).filter(|device| device.client == client) else {
            return Err(refused(
                400,
                "expired_token",
                "AADSTS70020: The device code has expired.",
                &[70_020],
            ));
        };
        let early = device.asked.replace(Instant::now()).is_some_and(|asked| asked.elapsed() < interval);
        match device.user.clone() {
            None if early && device.strict => Err(refused(400, "slow_down", "Too many requests.", &[])),
            None => {
                let text =
                    "AADSTS70016: OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
                Err(refused(400, "authorization_pending", text, &[70_016]))
            }
            Some(None) => {
                self.devices.remove(code);
                Err(refused(400, "authorization_declined", "AADSTS65004: The user said no.", &[65_004]))
            }
            Some(Some(user)) => {
                self.devices.remove(code);
                Ok(user)
            }
        }
    }
}
