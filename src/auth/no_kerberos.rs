//! What stands in the place of Kerberos where it is not built in.

use super::{Answer, Auth, Context, Handshake, Secret};
use crate::net::Endpoint;
use crate::{Error, ErrorKind, Result};

#[derive(Clone, Copy, Debug)]
enum Never {}

/// There is none.
#[derive(Clone, Debug)]
pub struct Kerberos(Never);

impl Kerberos {
    pub fn new(_: &str, _: Option<Secret>) -> Result<Kerberos> {
        let text = "Kerberos (auth=negotiate) is not built into this library: build it with the cargo feature gssapi, or sign in by NTLM \
                    (auth=ntlm), which servers that offer Negotiate mostly take too";
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    pub(super) fn turns(&self, _: bool) -> Turns {
        match self.0 {}
    }
}

impl Auth for Kerberos {
    fn check(&self, _: &Endpoint, _: bool) -> Result<()> {
        match self.0 {}
    }

    fn start(&self) -> Box<dyn Handshake> {
        match self.0 {}
    }

    fn ways(&self) -> &'static [&'static str] {
        match self.0 {}
    }

    fn who(&self) -> String {
        match self.0 {}
    }
}

pub(super) struct Turns(Never);

impl Handshake for Turns {
    fn first(&mut self, _: &Context<'_>) -> Result<Option<Secret>> {
        match self.0 {}
    }

    fn challenged(&mut self, _: &[String], _: &Context<'_>) -> Result<Answer> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use crate::{Client, ErrorKind, Options};

    // Whoever wants Kerberos and nothing else must not hear of a missing password.
    #[test]
    fn it_is_refused_with_what_to_do() {
        let mut options = Options::new();
        options.set("url", "mail.example.test").unwrap().set("user", "ada@example.test").unwrap();
        let client = Client::open(options.set("auth", "negotiate").unwrap()).unwrap();
        let e = client.watch(&Options::new()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert!(e.to_string().contains("cargo feature gssapi"), "{e}");
    }
}
