//! Who asks whom for which tokens.

use std::sync::Arc;

use super::assertion::Signer;
use super::hash;
use crate::auth::Secret;
use crate::net::Endpoint;
use crate::{Error, ErrorKind, Result};

/// Which of Microsoft's clouds the tenant is in: they have sign-in hosts and mail servers of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The one for everybody.
    #[default]
    Public,
    /// Of the government of the United States.
    UsGov,
    /// Of China, run by 21Vianet.
    China,
}

impl Cloud {
    /// Where its users sign in.
    pub fn login_host(self) -> &'static str {
        match self {
            Cloud::Public => "login.microsoftonline.com",
            Cloud::UsGov => "login.microsoftonline.us",
            Cloud::China => "login.partner.microsoftonline.cn",
        }
    }

    /// What tokens for its Exchange are asked for.
    pub fn resource(self) -> &'static str {
        match self {
            Cloud::Public => "https://outlook.office365.com",
            Cloud::UsGov => "https://outlook.office365.us",
            Cloud::China => "https://partner.outlook.cn",
        }
    }
}

/// Whose token endpoint it is, since they differ in what they want to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// Microsoft Entra ID.
    Entra,
    /// AD FS, on premises.
    AdFs,
    /// Another one, which keeps to the RFCs.
    Other,
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoints {
    /// Whose they are.
    pub issuer: Issuer,
    /// Gives tokens.
    pub token: Endpoint,
    /// Where a user's browser goes; it is none of ours to connect to.
    pub authorize: Option<Endpoint>,
    /// Begins a sign-in on another device.
    pub device: Option<Endpoint>,
}

impl Endpoints {
    /// Those of a tenant: its id, or one of its domains.
    ///
    /// ```
    /// use ewsnotify::auth::oauth::{Cloud, Endpoints};
    ///
    /// let endpoints = Endpoints::of_tenant("example.com", Cloud::Public)?;
    /// assert_eq!(endpoints.token.to_string(), "https://login.microsoftonline.com/example.com/oauth2/v2.0/token");
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for what can be neither.
    pub fn of_tenant(tenant: &str, cloud: Cloud) -> Result<Endpoints> {
        Endpoints::entra(&format!("https://{}", cloud.login_host()), tenant)
    }

    fn entra(origin: &str, tenant: &str) -> Result<Endpoints> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if tenant.is_empty() || tenant.len() > 255 || !tenant.chars().all(plain) {
            let text = "the tenant is neither an id (a GUID) nor a domain, as example.com";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let at = |what: &str| checked(&format!("{origin}/{tenant}/oauth2/v2.0/{what}"));
        Ok(Endpoints {
            issuer: Issuer::Entra,
            token: at("token")?,
            authorize: Some(at("authorize")?),
            device: Some(at("devicecode")?),
        })
    }

    /// Those of an authority: AD FS by its host or URL (`https://adfs.example.com/adfs`), or a tenant as Microsoft's
    /// libraries write it (`https://login.microsoftonline.com/example.com`).
    ///
    /// ```
    /// use ewsnotify::auth::oauth::Endpoints;
    ///
    /// let endpoints = Endpoints::of_authority("adfs.example.com")?;
    /// assert_eq!(endpoints.token.to_string(), "https://adfs.example.com/adfs/oauth2/token");
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for what is no URL, or one of plain http to another machine.
    pub fn of_authority(authority: &str) -> Result<Endpoints> {
        let authority = authority.trim().trim_end_matches('/');
        let rest = authority.split_once("://").map_or(authority, |(_, rest)| rest);
        let path = rest.split_once('/').map_or("adfs", |(_, path)| path);
        let origin = checked(authority)?.origin();
        let is_login = |host: &str| {
            [Cloud::Public, Cloud::UsGov, Cloud::China].iter().any(|cloud| cloud.login_host() == host)
        };
        if is_login(checked(&origin)?.host()) {
            return Endpoints::entra(&origin, path.split('/').next().unwrap_or_default());
        }
        let at = |what: &str| checked(&format!("{origin}/{path}/oauth2/{what}"));
        Ok(Endpoints {
            issuer: Issuer::AdFs,
            token: at("token")?,
            authorize: Some(at("authorize")?),
            device: Some(at("devicecode")?),
        })
    }

    /// Explicit ones.
    ///
    /// ```
    /// use ewsnotify::auth::oauth::Endpoints;
    ///
    /// assert!(Endpoints::of_urls("http://id.example.test/token", None, None).is_err(), "secrets in clear text");
    /// Endpoints::of_urls("https://id.example.test/token", None, None)?;
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for what is no URL, or one of plain http to another machine.
    pub fn of_urls(token: &str, authorize: Option<&str>, device: Option<&str>) -> Result<Endpoints> {
        Ok(Endpoints {
            issuer: Issuer::Other,
            token: checked(token)?,
            authorize: authorize.map(checked).transpose()?,
            device: device.map(checked).transpose()?,
        })
    }
}

/// An address that secrets may be sent to.
fn checked(url: &str) -> Result<Endpoint> {
    let endpoint = Endpoint::parse(url)?;
    if !endpoint.is_https() && !endpoint.is_loopback() {
        let text = format!(
            "{endpoint} is plain http to another machine: everybody on the way would see the tokens; use https"
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(endpoint)
}

/// How a program proves to the token endpoint who it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// It does not: a public client, as a program on a user's own machine.
    Nothing,
    /// By a secret that it shares with the issuer.
    Secret(Secret),
    /// By signing with the key of a certificate that the issuer knows (RFC 7523).
    Certificate(Arc<Signer>),
}

/// Who asks whom for which tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The program, as the issuer has registered it.
    pub client_id: String,
    /// Whom it asks.
    pub endpoints: Endpoints,
    /// How it proves who it is.
    pub proof: Proof,
    /// What the token is to be good for.
    pub scope: String,
    /// Whose mailbox it is about to act for; what is stored for one user is not used for another.
    pub user: String,
    /// Whether the program acts for itself (the grant `client_credentials`), and not for a user who has signed in.
    pub app_only: bool,
    /// The refresh token that the host was set up with. A newer one, which came with a renewal and is stored, counts more.
    pub refresh_token: Option<Secret>,
}

impl Account {
    /// What a token for `resource` is asked for, where nothing else is said: all that the program was given for itself, or EWS
    /// in a user's name, with a refresh token.
    ///
    /// ```
    /// use ewsnotify::auth::oauth::{Account, Cloud};
    ///
    /// let scope = Account::default_scope(Cloud::Public.resource(), true);
    /// assert_eq!(scope, "https://outlook.office365.com/.default");
    /// ```
    pub fn default_scope(resource: &str, app_only: bool) -> String {
        match app_only {
            true => format!("{resource}/.default"),
            false => format!("{resource}/EWS.AccessAsUser.All offline_access"),
        }
    }

    /// What its tokens are stored under: the same only where program, issuer, user, scope and kind of sign-in are.
    pub fn id(&self) -> String {
        let kind = if self.app_only { "app" } else { "user" };
        let user = if self.app_only { String::new() } else { self.user.to_lowercase() };
        let parts = [self.client_id.as_str(), &self.endpoints.token.to_string(), &self.scope, kind, &user];
        let mut text = String::new();
        for part in parts {
            text += &format!("{}:{part}\n", part.len());
        }
        hash::sha256(text.as_bytes())
    }

    /// By which a refresh token that the host gives is known again, without keeping it.
    pub fn given(&self) -> Option<String> {
        self.refresh_token.as_ref().map(|token| hash::sha256(token.expose().as_bytes()))
    }

    /// Who it is, for texts.
    pub fn who(&self) -> String {
        match self.app_only {
            true => format!("the program {:?}", self.client_id),
            false => format!("user {:?} by the program {:?}", self.user, self.client_id),
        }
    }

    /// What must not be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let secret = match &self.proof {
            Proof::Secret(secret) => Some(secret),
            _ => None,
        };
        secret.into_iter().chain(&self.refresh_token)
    }
}
