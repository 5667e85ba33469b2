//! How servers are reached: TLS, proxies, time-outs.

use std::path::PathBuf;

use super::Options;
use super::config::{number, time};
use super::table::list;
use crate::net;
use crate::{Error, ErrorKind, Result};

/// How to talk to servers.
pub(crate) fn net_config(options: &Options) -> Result<net::Config> {
    let (proxy, no_proxy) = proxies(options)?;
    Ok(net::Config {
        connect_timeout: time(options, "connect_timeout"),
        lookup_timeout: time(options, "lookup_timeout"),
        call_timeout: time(options, "call_timeout"),
        idle_timeout: time(options, "idle_timeout"),
        max_response_bytes: number(options, "max_response_bytes"),
        user_agent: options.value("user_agent").to_owned(),
        ca_file: options.get("ca_file").map(PathBuf::from),
        tls: tls(options)?,
        proxy,
        no_proxy,
        allow_plaintext: options.value("allow_plaintext") == "true",
        connect_to: list(options.value("connect_to")).filter_map(|rule| rule.parse().ok()).collect(),
        public_folder_mailbox: None,
    })
}

fn tls(options: &Options) -> Result<net::TlsConfig> {
    let path = |key| options.get(key).map(PathBuf::from);
    let wanted = net::TlsConfig {
        pins: list(options.value("tls_pin")).filter_map(|pin| pin.parse().ok()).collect(),
        only_tls13: options.value("tls_min") == "1.3",
        certificate: path("tls_cert"),
        key: path("tls_key"),
    };
    if wanted.key.is_some() && wanted.certificate.is_none() {
        let text = "option tls_key is set without tls_cert, the certificate that it is the key of";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(wanted)
}

/// The value of option `proxy`.
pub(super) enum ByProxy {
    No,
    /// As the environment says.
    Environment,
    Yes(net::Proxy),
}

pub(super) fn proxy(value: &str) -> Result<ByProxy> {
    Ok(match value.trim() {
        "none" => ByProxy::No,
        "env" => ByProxy::Environment,
        value => ByProxy::Yes(value.parse().map_err(|e: Error| e.context("option proxy"))?),
    })
}

/// The proxy, and what is reached without it.
fn proxies(options: &Options) -> Result<(Option<net::Proxy>, net::NoProxy)> {
    let except = options.get("no_proxy").and_then(|text| text.parse().ok());
    let (proxy, by_default) =
        match options.secret("proxy").map_or(Ok(ByProxy::No), |value| proxy(value.expose()))? {
            ByProxy::No => (None, None),
            ByProxy::Yes(proxy) => (Some(proxy), None),
            ByProxy::Environment => {
                let found = net::Proxy::from_environment().map_err(|e| e.context("option proxy=env"))?;
                found.map_or((None, None), |(proxy, except)| (Some(proxy), Some(except)))
            }
        };
    Ok((proxy, except.or(by_default).unwrap_or_default()))
}
