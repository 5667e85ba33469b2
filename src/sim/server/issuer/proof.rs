//! Whether a program is the one that it says: by its secret, or by an assertion (RFC 7523) that its certificate's key has signed.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::{Pairs, Said, State, refused};

impl State {
    /// Whether the program is the one that it says; whether it proved that.
    pub(super) fn proven(&mut self, client: &str, url: &str, form: &Pairs) -> Result<bool, Said> {
        let Some(program) = self.programs.get_mut(client) else {
            let text = format!(
                "AADSTS700016: Application with identifier '{client}' was not found in the directory."
            );
            return Err(refused(400, "unauthorized_client", &text, &[700_016]));
        };
        let assertion = form.get("client_assertion");
        if let Some(certificate) = program.certificate.as_ref().filter(|_| !assertion.is_empty()) {
            let id = assertion_id(certificate, client, url, assertion).ok_or_else(|| {
                let text = "AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on \
                            application.";
                refused(401, "invalid_client", text, &[700_027])
            })?;
            if program.seen.contains(&id) {
                return Err(refused(
                    401,
                    "invalid_client",
                    "AADSTS700024: Client assertion was used before.",
                    &[700_024],
                ));
            }
            program.seen.push(id);
            return Ok(true);
        }
        match &program.secret {
            Some(secret) if form.get("client_secret") == secret => Ok(true),
            None if program.certificate.is_none() => Ok(false),
            _ => {
                let text = "AADSTS7000215: Invalid client secret provided.";
                Err(refused(401, "invalid_client", text, &[7_000_215]))
            }
        }
    }
}

/// The `jti` of a good assertion: signed by the certificate's key, for this place, by this program, and not too old.
fn assertion_id(certificate: &str, client: &str, url: &str, assertion: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let read = |part: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let (header, claims) = (read(header)?, read(claims)?);
    let thumb = BASE64_URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &certificate));
    if header["typ"] != "JWT" || header["x5t#S256"] != thumb.as_str() {
        return None;
    }
    let algorithm = match header["alg"].as_str()? {
        "PS256" => webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        "RS256" => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
        _ => return None,
    };
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    webpki::EndEntityCert::try_from(&certificate)
        .ok()?
        .verify_signature(algorithm, signed.as_bytes(), &signature)
        .ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let good = claims["iss"] == client
        && claims["sub"] == client
        && claims["aud"] == url
        && claims["nbf"].as_u64()? <= now
        && claims["exp"].as_u64()? > now
        && claims["exp"].as_u64()? < now + 660;
    good.then(|| claims["jti"].as_str().map(str::to_owned)).flatten()
}
