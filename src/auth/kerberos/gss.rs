//! The system's GSSAPI (RFC 2743; MIT Kerberos or Heimdal), by way of `libgssapi`. Its calls block: they ask the KDC, and read files.

use std::sync::Arc;

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::error::Error as GssError;
use libgssapi::name::Name;
use libgssapi::oid::{
    GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, Oid, OidSet,
};

use super::User;
use super::failure::{Failure, is_of_nobody, words};
use super::tried::Claim;

/// `GSS_C_CHANNEL_BOUND_FLAG` (MIT 1.19 and later, Heimdal 8), which the crate does not name; older ones ignore it.
const CHANNEL_BOUND: u32 = 2048;

/// Whom to ask for, and in whose name.
pub(super) struct Ask {
    pub user: Arc<User>,
    pub host: String,
    /// The application data of the channel binding (RFC 5929 section 4).
    pub binding: Option<Vec<u8>>,
}

/// A sign-in that has begun.
pub(super) struct Turn {
    context: ClientCtx,
    binding: Option<Vec<u8>>,
}

impl Ask {
    /// The first token for the server.
    pub fn begin(self, claim: Claim) -> Result<(Turn, Vec<u8>), Failure> {
        let begun = self.begin_now();
        claim.end(&begun);
        begun
    }

    fn begin_now(&self) -> Result<(Turn, Vec<u8>), Failure> {
        // Kerberos by itself first: it finds the user, fetches the ticket, and says exactly what is missing, where SPNEGO only says
        // that it has nothing to negotiate. The ticket is at hand then.
        let (user, credentials) = self.credentials()?;
        let getting = |e| self.failure("getting a ticket", &e);
        self.context(GSS_MECH_KRB5, credentials)?.step(None, self.binding.as_deref()).map_err(getting)?;
        let beginning = |e| self.failure("beginning the sign-in", &e);
        let credentials = self.credentials_of(user, GSS_MECH_SPNEGO).map_err(beginning)?;
        let mut context = self.context(GSS_MECH_SPNEGO, credentials)?;
        let token = context.step(None, self.binding.as_deref()).map_err(beginning)?;
        let token = token.map(|token| token.to_vec()).unwrap_or_default();
        Ok((Turn { context, binding: self.binding.clone() }, token))
    }

    fn context(&self, mechanism: Oid<'static>, credentials: Cred) -> Result<ClientCtx, Failure> {
        let service = format!("HTTP@{}", self.host);
        let target = Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE))
            .map_err(|e| self.failure("naming the service", &e))?;
        let mut flags = CtxFlags::GSS_C_MUTUAL_FLAG;
        if self.binding.is_some() {
            // Says that we do name the channel: a server that would also take who does not must not take it from us
            // ([MS-KILE] section 3.2.5.8, KERB_AP_OPTIONS_CBT).
            flags |= CtxFlags::from_bits_retain(CHANNEL_BOUND);
        }
        Ok(ClientCtx::new(Some(credentials), target, flags, Some(mechanism)))
    }

    /// The first principal that there are credentials for, and these.
    fn credentials(&self) -> Result<(&str, Cred), Failure> {
        let doing = match self.user.password {
            Some(_) => "signing in to the KDC by the password",
            None => "looking for a ticket",
        };
        let users = &self.user.principals;
        let of = |user| self.credentials_of(user, GSS_MECH_KRB5).map(|found| (user, found));
        let found = match (of(&users[0]), users.get(1)) {
            // Only where nobody of that name has been asked about: a wrong password is not tried twice.
            (Err(nobody), Some(other)) if is_of_nobody(&nobody) => {
                of(other).map_err(|e| if is_of_nobody(&e) { nobody } else { e })
            }
            (found, _) => found,
        };
        found.map_err(|e| self.failure(doing, &e))
    }

    /// From the password, or the process's own: a ticket in its cache, or a keytab for clients.
    fn credentials_of(&self, user: &str, mechanism: Oid<'static>) -> Result<Cred, GssError> {
        let name = Name::new(user.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))?;
        let mechanisms = OidSet::singleton(mechanism)?;
        let (name, mechanisms) = (Some(&name), Some(&mechanisms));
        match &self.user.password {
            Some(password) => {
                Cred::acquire_with_password(name, password.expose(), None, CredUsage::Initiate, mechanisms)
            }
            None => Cred::acquire(name, None, CredUsage::Initiate, mechanisms),
        }
    }

    fn failure(&self, doing: &str, e: &GssError) -> Failure {
        let User { principals, password, .. } = &*self.user;
        Failure::new(doing, &self.host, &principals.join(" or "), password.is_some(), e)
    }
}

impl Turn {
    /// The next token, after one of the server's; `None` where the server needs no more.
    pub fn step(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let next = self.context.step(Some(token), self.binding.as_deref());
        next.map(|token| token.map(|token| token.to_vec())).map_err(|e| words(&e))
    }

    /// Whether the server has proved who it is.
    pub fn is_complete(&self) -> bool {
        self.context.is_complete()
    }
}
