//! What a server offers to sign in by, and whether a sign-in of ours can go by any of it.

use crate::net::cut;

/// So many ways are named in a text.
const NAMED: usize = 8;

/// Where a way to sign in is enabled: the virtual directory of Exchange's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Directory {
    WebServices,
    Autodiscover,
}

/// What stands between the commas of some challenges.
pub(super) enum Element<'a> {
    /// A way's name, and what follows it: a token, or its first parameter.
    Way(&'a str, &'a str),
    /// A further parameter of the way before: `realm="x"`.
    Parameter(&'a str),
}

/// The elements of some challenges (`WWW-Authenticate`, RFC 9110, 11.6.1). One header may have several ways.
pub(super) fn elements(challenges: &[String]) -> impl Iterator<Item = Element<'_>> {
    challenges.iter().flat_map(|challenge| parts(challenge)).map(|part| {
        let part = part.trim();
        let (name, rest) = part.split_at(part.find([' ', '\t', '=']).unwrap_or(part.len()));
        match rest.trim_start() {
            value if value.starts_with('=') => Element::Parameter(part),
            rest => Element::Way(name, rest),
        }
    })
}

/// The names of the ways in some challenges, each once.
pub(crate) fn schemes(challenges: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for element in elements(challenges) {
        let Element::Way(name, _) = element else { continue };
        let name = cut(name, 30);
        if !name.is_empty() && !names.contains(&name) && names.len() < NAMED {
            names.push(name);
        }
    }
    names
}

/// What the challenges of a 401 offer: each way with the token that came with it.
pub(crate) struct Offers<'a>(Vec<(&'a str, Option<&'a str>)>);

impl<'a> Offers<'a> {
    pub fn read(challenges: &'a [String]) -> Offers<'a> {
        let ways = elements(challenges).filter_map(|element| match element {
            Element::Way(name, rest) => Some((name, Some(rest).filter(|rest| !rest.is_empty()))),
            Element::Parameter(_) => None,
        });
        Offers(ways.collect())
    }

    /// Whether this scheme is offered.
    pub fn has(&self, scheme: &str) -> bool {
        self.token(scheme).is_some()
    }

    /// What stands behind this scheme, if it is offered.
    pub fn token(&self, scheme: &str) -> Option<Option<&'a str>> {
        let mut found = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(scheme));
        let first = found.next()?.1;
        Some(first.or_else(|| found.find_map(|(_, token)| *token)))
    }
}

/// What stands between commas that are in no quotes.
pub(crate) fn parts(challenge: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    challenge.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == ',' && !quoted
    })
}

/// Whether a sign-in that goes by these is one with a token.
pub(crate) fn by_token(ways: &[&str]) -> bool {
    ways == ["Bearer"]
}

/// Why a sign-in that goes by one of `ways` cannot go by any of `offers`, and what to do about it. `None` where it can, and where
/// the server names none: it may take one all the same.
pub(crate) fn misfit(ways: &[&str], offers: &[String], directory: Directory) -> Option<String> {
    let fits = |offer: &String| ways.iter().any(|way| way.eq_ignore_ascii_case(offer));
    if offers.is_empty() || offers.iter().any(fits) {
        return None;
    }
    let (cmdlet, of) = match directory {
        Directory::WebServices => ("Set-WebServicesVirtualDirectory", "EWS"),
        Directory::Autodiscover => ("Set-AutodiscoverVirtualDirectory", "Autodiscover"),
    };
    let switch = match ways.first() {
        Some(&"Basic") => " -BasicAuthentication $true",
        Some(&"Bearer") => " -OAuthAuthentication $true",
        Some(&("NTLM" | "Negotiate")) => " -WindowsAuthentication $true",
        _ => "",
    };
    Some(format!(
        "the server offers {}, and this sign-in can only go by {}: have that enabled for {of} ({cmdlet}{switch}), or sign in by what \
         is offered",
        offers.join(", "),
        ways.join(" or ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(challenges: &[&str]) -> Vec<String> {
        schemes(&challenges.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
    }

    // Proxies join headers: a way that is overlooked would be called missing.
    #[test]
    fn the_ways_are_found_in_any_form() {
        assert_eq!(named(&["Negotiate", "NTLM", "Basic realm=\"a\""]), ["Negotiate", "NTLM", "Basic"]);
        assert_eq!(
            named(&["Negotiate, NTLM,Basic realm=\"a, b \\\" Digest, c\", charset = x, Bearer"]),
            ["Negotiate", "NTLM", "Basic", "Bearer"]
        );
        assert_eq!(named(&["NTLM TlRMTVNTUAAC==", "ntlm", "NTLM"]), ["NTLM", "ntlm"]);
        assert_eq!(named(&["", " , ", "=", "realm=x", "\"Basic"]), ["\"Basic"]);
        assert_eq!(named(&["a, b, c, d, e, f, g, h, i, j"]).len(), NAMED);
    }

    // Who is told to check a password that was never asked for looks in the wrong place.
    #[test]
    fn what_does_not_fit_is_said_with_what_to_do() {
        let offers = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for fits in [&["NTLM", "basic"][..], &[]] {
            assert_eq!(misfit(&["Basic"], &offers(fits), Directory::WebServices), None);
        }
        let text = misfit(&["Basic"], &offers(&["Negotiate", "NTLM"]), Directory::WebServices).unwrap();
        for words in ["offers Negotiate, NTLM,", "by Basic", "for EWS", "-BasicAuthentication $true"] {
            assert!(text.contains(words), "{text}");
        }
        let text = misfit(&["Negotiate", "NTLM"], &offers(&["Basic"]), Directory::Autodiscover).unwrap();
        for words in ["Negotiate or NTLM", "Set-AutodiscoverVirtualDirectory -WindowsAuthentication $true"] {
            assert!(text.contains(words), "{text}");
        }
    }

    // A realm with a comma in it must not offer a way that is not there, nor hide one that is.
    #[test]
    fn a_token_belongs_to_its_way() {
        let challenges = [
            r#"Basic realm="a, NTLM b\", Digest", charset=utf-8, negotiate"#,
            "NTLM",
            "NTLM TlRM==",
            "",
            ",",
        ];
        let challenges = challenges.map(str::to_owned);
        let offers = Offers::read(&challenges);
        assert_eq!(offers.token("ntlm"), Some(Some("TlRM==")));
        assert_eq!(offers.token("Negotiate"), Some(None));
        assert!(offers.has("basic") && !offers.has("Digest"));
    }
}
