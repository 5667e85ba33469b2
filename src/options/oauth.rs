//! The options of a sign-in by OAuth, read: what is missing, and what contradicts, is told at once.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{AUTO, Options};
use crate::auth::oauth::{Account, Cloud, Endpoints, Issuer, Proof, Signer};
use crate::net::Endpoint;
use crate::{Error, ErrorKind, Result};

/// A sign-in by OAuth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OAuth {
    pub account: Arc<Account>,
    /// What the host calls it.
    pub name: Arc<str>,
    /// Where its tokens are stored.
    pub store: Option<PathBuf>,
}

/// Hosts of Exchange Online, whose tokens are for the cloud and not for a server.
const ONLINE: [&str; 4] =
    ["outlook.office365.com", "outlook.office.com", "outlook.office365.us", "partner.outlook.cn"];

impl OAuth {
    /// Whether the program acts for itself.
    pub fn is_app_only(options: &Options) -> bool {
        match options.value("oauth_grant") {
            "client_credentials" => true,
            "refresh_token" => false,
            _ => options.secret("oauth_refresh_token").is_none() && has_proof(options),
        }
    }

    /// Those of a watch. `endpoint` is the mail server, where it is known; `user` is who signs in.
    pub fn read(options: &Options, endpoint: Option<&Endpoint>, user: &str) -> Result<OAuth> {
        let oauth = OAuth::read_some(options, endpoint, user)?;
        if !oauth.account.app_only && oauth.account.refresh_token.is_none() && oauth.store.is_none() {
            return Err(bad(
                "option oauth_refresh_token is not set, and there is no state_dir or oauth_token_store in which a sign-in could be \
                 stored: set one of them, and run `ewsnotify login`",
            ));
        }
        Ok(oauth)
    }

    /// Those of a sign-in that is about to be.
    pub fn for_sign_in(options: &Options) -> Result<OAuth> {
        let url = Some(options.value("url")).filter(|url| *url != AUTO);
        let user =
            options.get("user").ok_or_else(|| bad("option user is not set: it says who is to sign in"))?;
        OAuth::read_some(options, url.map(Endpoint::parse).transpose()?.as_ref(), user)
    }

    fn read_some(options: &Options, endpoint: Option<&Endpoint>, user: &str) -> Result<OAuth> {
        let client_id = options.get("oauth_client_id").ok_or_else(|| {
            bad("option oauth_client_id is not set: it is the program's id, as the issuer has registered it")
        })?;
        let endpoints = endpoints(options)?;
        let app_only = OAuth::is_app_only(options);
        let proof = proof(options)?;
        let refresh_token = options.secret("oauth_refresh_token").cloned();
        if app_only && proof == Proof::Nothing {
            return Err(bad(
                "oauth_grant=client_credentials needs oauth_client_secret, or oauth_client_cert and oauth_client_key: a \
                 program that acts for itself has to prove who it is",
            ));
        }
        if app_only && refresh_token.is_some() {
            return Err(bad(
                "oauth_grant=client_credentials and oauth_refresh_token exclude each other: a program that acts for itself \
                 has no refresh token",
            ));
        }
        let store = options.get("oauth_token_store").or(options.get("state_dir")).map(PathBuf::from);
        let scope = match options.get("oauth_scope") {
            Some(scope) => scope.to_owned(),
            None => Account::default_scope(&resource(options, &endpoints, endpoint)?, app_only),
        };
        let (client_id, user) = (client_id.to_owned(), user.to_owned());
        let name = options.get("account").unwrap_or(&user).into();
        let account = Account { client_id, endpoints, proof, scope, user, app_only, refresh_token };
        Ok(OAuth { account: Arc::new(account), name, store })
    }
}

fn has_proof(options: &Options) -> bool {
    options.secret("oauth_client_secret").is_some() || options.get("oauth_client_cert").is_some()
}

fn endpoints(options: &Options) -> Result<Endpoints> {
    let said = ["oauth_tenant", "oauth_authority", "oauth_token_url"];
    let set: Vec<&str> = said.into_iter().filter(|key| options.get(key).is_some()).collect();
    match set[..] {
        [key] => {
            let value = options.value(key);
            let read = match key {
                "oauth_tenant" => Endpoints::of_tenant(value, cloud(options)),
                "oauth_authority" => Endpoints::of_authority(value),
                _ => Endpoints::of_urls(
                    value,
                    options.get("oauth_authorize_url"),
                    options.get("oauth_device_url"),
                ),
            };
            read.map_err(|e| e.context(format!("option {key}")))
        }
        [] => Err(bad(
            "whom to ask for tokens is not set: oauth_tenant (Microsoft Entra ID), oauth_authority (AD FS), or oauth_token_url",
        )),
        _ => Err(bad(&format!(
            "options {} exclude each other: each says whom to ask for tokens",
            set.join(" and ")
        ))),
    }
}

fn cloud(options: &Options) -> Cloud {
    match options.value("oauth_cloud") {
        "usgov" => Cloud::UsGov,
        "china" => Cloud::China,
        _ => Cloud::Public,
    }
}

/// What tokens are asked for, without being told: Exchange Online, or the server on premises.
fn resource(options: &Options, endpoints: &Endpoints, endpoint: Option<&Endpoint>) -> Result<String> {
    let online = cloud(options).resource();
    match endpoint {
        Some(endpoint) if !ONLINE.contains(&endpoint.host()) => Ok(format!("https://{}", endpoint.host())),
        None if endpoints.issuer != Issuer::Entra => Err(bad(
            "option oauth_scope is not set, and while Autodiscover looks for the server it is not known what a token is for: set \
             it, as https://mail.example.com/EWS.AccessAsUser.All, or set url",
        )),
        _ => Ok(online.to_owned()),
    }
}

fn proof(options: &Options) -> Result<Proof> {
    let secret = options.secret("oauth_client_secret");
    match (options.get("oauth_client_cert"), options.get("oauth_client_key"), secret) {
        (Some(_), _, Some(_)) => Err(bad(
            "options oauth_client_secret and oauth_client_cert exclude each other: the program proves who it is by one of them",
        )),
        (None, None, Some(secret)) => Ok(Proof::Secret(secret.clone())),
        (None, None, None) => Ok(Proof::Nothing),
        (None, Some(_), _) => {
            Err(bad("option oauth_client_key is set without oauth_client_cert, its certificate"))
        }
        (Some(cert), key, None) => {
            let read = |path: &str, option: &str| {
                fs::read(path)
                    .map(Zeroizing::new)
                    .map_err(|e| bad(&format!("option {option}: cannot read {path}: {e}")))
            };
            // Both may stand in one file.
            let key_path = key.unwrap_or(cert);
            let (certificate, key) = (read(cert, "oauth_client_cert")?, read(key_path, "oauth_client_key")?);
            let signer = Signer::from_pem(&certificate, &key);
            let signer = signer.map_err(|e| {
                e.context(format!("options oauth_client_cert ({cert}) and oauth_client_key ({key_path})"))
            })?;
            Ok(Proof::Certificate(Arc::new(signer)))
        }
    }
}

fn bad(text: &str) -> Error {
    Error::new(ErrorKind::Invalid, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<OAuth> {
        let mut options = Options::new();
        for (key, value) in pairs {
            options.set(key, value).unwrap();
        }
        let endpoint = options.get("url").map(|url| Endpoint::parse(url).unwrap());
        OAuth::read(&options, endpoint.as_ref(), "ada@example.test")
    }

    // A configuration that cannot work would be found out by a refusal of the issuer's, whose words help nobody.
    #[test]
    fn what_is_missing_or_contradicts_is_told_by_name() {
        let (id, tenant) = (("oauth_client_id", "app"), ("oauth_tenant", "example.test"));
        let (secret, refresh) = (("oauth_client_secret", "s"), ("oauth_refresh_token", "r"));
        for (pairs, wanted) in [
            (vec![tenant, secret], "oauth_client_id"),
            (vec![id, secret], "oauth_tenant"),
            (vec![id, secret, tenant, ("oauth_authority", "adfs.example.test")], "exclude each other"),
            (vec![id, tenant], "ewsnotify login"),
            (vec![id, tenant, ("oauth_grant", "client_credentials")], "prove who it is"),
            (vec![id, tenant, secret, refresh, ("oauth_grant", "client_credentials")], "exclude each other"),
            (vec![id, tenant, secret, ("oauth_client_cert", "/c")], "exclude each other"),
            (vec![id, tenant, ("oauth_client_key", "/k")], "oauth_client_cert"),
            (vec![id, tenant, ("oauth_client_cert", "/nowhere/c.pem")], "cannot read /nowhere/c.pem"),
            (vec![id, ("oauth_authority", "http://adfs.example.test"), secret], "plain http"),
            (vec![id, ("oauth_authority", "adfs.example.test"), secret], "oauth_scope"),
            (vec![id, ("oauth_tenant", "a/b"), secret], "oauth_tenant"),
        ] {
            let e = read(&pairs).unwrap_err();
            assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains(wanted), "{pairs:?}: {e}");
        }
    }

    // A token for the wrong server is refused by the right one.
    #[test]
    fn tokens_are_asked_for_the_server() {
        let (id, secret) = (("oauth_client_id", "app"), ("oauth_client_secret", "s"));
        let refresh = ("oauth_refresh_token", "r");
        for (pairs, scope) in [
            (vec![id, secret, ("oauth_tenant", "t")], "https://outlook.office365.com/.default"),
            (
                vec![id, refresh, ("oauth_tenant", "t"), ("oauth_cloud", "usgov")],
                "https://outlook.office365.us/EWS.AccessAsUser.All offline_access",
            ),
            (
                vec![id, secret, ("oauth_tenant", "t"), ("url", "mail.example.test")],
                "https://mail.example.test/.default",
            ),
            (
                vec![id, refresh, ("oauth_authority", "adfs.example.test"), ("url", "mail.example.test")],
                "https://mail.example.test/EWS.AccessAsUser.All offline_access",
            ),
            (vec![id, secret, ("oauth_token_url", "https://id.test/token"), ("oauth_scope", "x y")], "x y"),
        ] {
            let read = read(&pairs).unwrap();
            assert_eq!(read.account.scope, scope, "{pairs:?}");
            assert!(!format!("{read:?}").contains("\"s\""), "{read:?}");
        }
    }
}
