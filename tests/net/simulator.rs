//! Against the simulator, which is written by other hands.

use std::sync::Arc;

use ewsnotify::ErrorKind;
use ewsnotify::auth::{Basic, Secret};
use ewsnotify::net::{Cancel, Config, Endpoint, HttpLink, Link, Post, Tls};
use ewsnotify::sim::server::Sim;

use crate::server::*;

const GET_FOLDER: &[u8] = br#"<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"
 xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><s:Body><m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape>
 </m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder></s:Body></s:Envelope>"#;

// Two ends that only agree with themselves prove nothing.
#[test]
fn a_call_with_the_right_and_the_wrong_password() {
    let sim = Sim::builder().user(USER, PASSWORD).start().unwrap();
    let config = Config { ca_file: sim.ca_file().map(Into::into), ..config() };
    let tls = Arc::new(Tls::new(config.ca_file.as_deref()).unwrap());
    let call = |password: &str| {
        let auth = Arc::new(Basic::new(USER, Secret::new(password)).unwrap());
        let endpoint = Endpoint::parse(sim.url()).unwrap();
        let link = HttpLink::new(endpoint, config.clone(), auth, tls.clone(), Arc::default()).unwrap();
        let post = Post { body: GET_FOLDER, ..post() };
        link.call(&post, &Cancel::new()).map_err(harmless)
    };
    let reply = call(PASSWORD).unwrap();
    let text = String::from_utf8(reply.body).unwrap();
    assert!(reply.status == 200 && text.contains("GetFolderResponse") && text.contains("NoError"), "{text}");
    let e = call("wrong").unwrap_err();
    assert_eq!((e.kind(), e.http_status()), (ErrorKind::Auth, Some(401)), "{e}");
}
