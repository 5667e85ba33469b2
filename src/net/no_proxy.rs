//! Which servers are reached without the proxy.

use std::net::IpAddr;
use std::str::FromStr;

use super::url::Host;
use crate::{Error, ErrorKind, Result};

/// Which servers are reached without the proxy, by the rules of curl's `NO_PROXY`.
///
/// ```
/// let except: ewsnotify::net::NoProxy = "example.test, 192.0.2.0/24, ::1".parse()?;
/// assert!("mail.example.test:443".parse::<ewsnotify::net::NoProxy>().is_err());
/// # Ok::<(), ewsnotify::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoProxy(pub(super) Vec<Rule>);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    All,
    /// A name, and all below it.
    Domain(String),
    /// Addresses that begin with so many bits of this one.
    Net(IpAddr, u32),
}

impl NoProxy {
    /// Whether the proxy is left out for a host. A name is not looked up for this.
    pub(super) fn covers(&self, host: &Host) -> bool {
        self.0.iter().any(|rule| match (rule, host) {
            (Rule::All, _) => true,
            (Rule::Domain(domain), Host::Name(name)) => {
                let before = name.strip_suffix(domain.as_str());
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }
            (Rule::Net(net, bits), Host::Ip(ip, _)) => begins_with(ip.to_canonical(), *net, *bits),
            _ => false,
        })
    }

    /// What is no rule in the environment is for other programs.
    pub(super) fn lenient(text: &str) -> NoProxy {
        NoProxy(words(text).filter_map(rule).collect())
    }
}

impl FromStr for NoProxy {
    type Err = Error;

    /// Names (each with what lies below it), addresses, and networks as `192.0.2.0/24`, separated by commas or blanks; `*` for all.
    fn from_str(text: &str) -> Result<NoProxy> {
        let rules = words(text).map(rule).collect::<Option<Vec<_>>>().filter(|rules| !rules.is_empty());
        rules.map(NoProxy).ok_or_else(|| {
            let text = "what goes without the proxy is a list of names, addresses and networks (192.0.2.0/24), without ports, or *";
            Error::new(ErrorKind::Invalid, text)
        })
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}

fn rule(word: &str) -> Option<Rule> {
    if word == "*" {
        return Some(Rule::All);
    }
    if let Some((net, bits)) = word.split_once('/') {
        let (net, bits): (IpAddr, u32) = (net.parse().ok()?, bits.parse().ok()?);
        return (bits <= width(net)).then_some(Rule::Net(net, bits));
    }
    let name = word.strip_prefix("*.").or(word.strip_prefix('.')).unwrap_or(word);
    match Host::parse(name).ok()? {
        Host::Ip(ip, _) => {
            let ip = ip.to_canonical();
            Some(Rule::Net(ip, width(ip)))
        }
        Host::Name(name) => Some(Rule::Domain(name)),
    }
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn begins_with(ip: IpAddr, net: IpAddr, bits: u32) -> bool {
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let rest = width(net) - bits;
    ip.is_ipv4() == net.is_ipv4() && (number(ip) ^ number(net)).checked_shr(rest).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    // A server of the intranet asked for at the proxy is not found; one of the internet asked for directly is a hang.
    #[test]
    fn exceptions_as_curl_has_them() {
        for (rules, host, covered) in [
            ("example.test", "example.test", true),
            ("example.test", "mail.example.test", true),
            (".Example.Test", "example.test", true),
            ("*.example.test", "mail.example.test", true),
            ("example.test.", "MAIL.example.test", true),
            ("example.test", "notexample.test", false),
            ("a.test, b.test", "b.test", true),
            ("a.test b.test", "b.test", true),
            ("*", "any.test", true),
            ("*", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.10", false),
            ("10.0.0.0/8", "10.200.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("192.0.2.128/25", "192.0.2.129", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "[2001:db8::1]", false),
            ("2001:db8::/32", "[2001:db8:1::1]", true),
            ("::/0", "[2001:db8::1]", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("10.0.0.0/8", "[::ffff:10.0.0.1]", true),
            ("10.0.0.0/8", "ten.test", false),
        ] {
            let except: NoProxy = rules.parse().unwrap_or_else(|e| panic!("{rules}: {e}"));
            assert_eq!(except.covers(&Host::parse(host).unwrap()), covered, "{rules} {host}");
        }
        for none in ["", " ,", "a.test:443", "10.0.0.0/33", "a.test/8", "http://a.test", "-", "0.0.1"] {
            assert!(none.parse::<NoProxy>().is_err(), "{none}");
        }
    }
}
