//! What a module may reach by HTTP: origins by name, and addresses beyond the public internet. Pure; `http.rs` asks it twice, for
//! the URL of a request and for the addresses that its name resolves to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use reqwest::Url;

use super::address::{is_metadata, is_public, plain};

/// Scheme, host and port that requests may go to: `https://api.example.com`, `http://10.1.2.3:8080`, or `https://*.example.com` for every
/// host under a domain (not for the domain itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: &'static str,
    host: String,
    /// The host stands for those under it.
    below: bool,
    port: u16,
}

impl FromStr for Origin {
    type Err = String;

    /// Reads an origin; a host alone means `https`. The error completes a sentence that began with the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let example =
            "write it like \"https://api.example.com\", \"http://10.1.2.3:8080\" or \"https://*.example.com\"";
        let wrong = |why: &str| format!("{why}; {example}");
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            Some(_) => return Err(wrong("has a scheme other than https and http")),
            None => ("https", text),
        };
        let (below, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        if rest.contains('*') {
            return Err(wrong("has a \"*\" elsewhere than before the domain"));
        }
        let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|e| wrong(&format!("is not an origin ({e})")))?;
        let bare = url.path() == "/" && !rest.ends_with('/') && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("has more than scheme, host and port, and nothing else is checked"));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(wrong("names no host"));
        };
        if below && is_address(host) {
            return Err(wrong("has a \"*\" before an address"));
        }
        Ok(Self { scheme, host: host.to_owned(), below, port })
    }
}

impl Origin {
    fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host_fits = match self.below {
            true => host.strip_suffix(&*self.host).is_some_and(|below| below.len() > 1 && below.ends_with('.')),
            false => host == self.host,
        };
        host_fits && url.scheme() == self.scheme && url.port_or_known_default() == Some(self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, below, port } = self;
        write!(f, "{scheme}://{}{host}", if *below { "*." } else { "" })?;
        match (*scheme, port) {
            ("https", 443) | ("http", 80) => Ok(()),
            _ => write!(f, ":{port}"),
        }
    }
}

/// What may be reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    pub(super) origins: Vec<Origin>,
    pub(super) networks: Vec<IpNet>,
}

impl Allowed {
    /// Whether a request may be tried. The error is a sentence with the remedy.
    pub(super) fn admit(&self, url: &Url) -> Result<(), String> {
        if self.origins.iter().any(|origin| origin.covers(url)) {
            return Ok(());
        }
        let origin = url.origin().ascii_serialization();
        Err(format!(
            "{origin} is not granted; if the module may reach it, add it to `allow` of [processor.grants.http]"
        ))
    }

    /// Whether this address, which a name resolved to, may be connected to.
    pub(super) fn reaches(&self, address: IpAddr) -> bool {
        let address = plain(address);
        let listed = |network: &IpNet| {
            let exactly = network.prefix_len() == network.max_prefix_len();
            network.contains(&address) && (exactly || !is_metadata(address))
        };
        is_public(address) || self.networks.iter().any(listed)
    }
}

/// Whether a URL's host is an address. URLs are normalised when they are parsed: `0x7f.1` and `2130706433` come as 127.0.0.1.
fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn allowed(origins: &[&str], networks: &[&str]) -> Allowed {
        Allowed {
            origins: origins.iter().map(|origin| origin.parse().unwrap()).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_and_nothing_else() {
        let allowed =
            allowed(&["api.example.com", "http://10.1.2.3:8080", "https://*.example.org", "http://[::1]:81"], &[]);
        let admits = |url: &str| allowed.admit(&Url::parse(url).unwrap()).is_ok();
        for url in [
            "https://api.example.com/v1?q=1",
            "https://API.example.com:443/",
            "http://10.1.2.3:8080/x",
            "http://167838211:8080/",
            "https://a.example.org/",
            "https://a.b.example.org/",
            "http://[0:0::1]:81/",
        ] {
            assert!(admits(url), "{url}");
        }
        for url in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://api.example.com.evil.test/",
            "https://evilapi.example.com/",
            "https://api.example.com@evil.test/",
            "https://example.org/",
            "https://.example.org/",
            "https://evilexample.org/",
            "http://10.1.2.3/",
            "http://[::ffff:10.1.2.3]:8080/",
            "http://169.254.169.254/metadata/instance",
            "http://2852039166/metadata/instance",
            "http://0xa9fea9fe/",
        ] {
            assert!(!admits(url), "{url}");
        }
        let refused = allowed.admit(&Url::parse("http://2852039166/metadata").unwrap()).unwrap_err();
        assert!(refused.starts_with("http://169.254.169.254 is not granted; if the module may"), "{refused}");
    }

    #[test]
    fn an_origin_that_says_more_or_less_is_refused_with_an_example() {
        for (text, why) in [
            ("https://api.example.com/v1", "more than scheme, host and port"),
            ("https://api.example.com/", "more than scheme, host and port"),
            ("https://api.example.com?x", "more than scheme, host and port"),
            ("https://user@api.example.com", "more than scheme, host and port"),
            ("ftp://api.example.com", "a scheme other than"),
            ("*", "elsewhere than before the domain"),
            ("https://api.*.com", "elsewhere than before the domain"),
            ("https://*.10.0.0.1", "before an address"),
            ("", "is not an origin"),
            ("https://", "is not an origin"),
        ] {
            let refused = text.parse::<Origin>().unwrap_err();
            assert!(refused.contains(why) && refused.contains("write it like"), "{text}: {refused}");
        }
        let shown =
            ["https://*.example.com", "http://10.1.2.3:8080"].map(|text| text.parse::<Origin>().unwrap().to_string());
        assert_eq!(shown, ["https://*.example.com", "http://10.1.2.3:8080"]);
    }

    #[test]
    fn addresses_beyond_the_public_internet_are_reached_where_they_are_listed() {
        let allowed = allowed(&[], &["10.1.0.0/16", "::1/128"]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "::1", "1.1.1.1"] {
            assert!(allowed.reaches(address.parse().unwrap()), "{address}");
        }
        for address in ["10.2.0.1", "127.0.0.1", "169.254.169.254", "::ffff:169.254.169.254"] {
            assert!(!allowed.reaches(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn metadata_services_are_listed_as_such_or_not_at_all() {
        let metadata =
            ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "64:ff9b::169.254.169.254"];
        let wide = allowed(&[], &["0.0.0.0/0", "::/0"]);
        for address in metadata {
            assert!(!wide.reaches(address.parse().unwrap()), "{address}");
        }
        assert!(wide.reaches("10.1.2.3".parse().unwrap()) && wide.reaches("64:ff9b::10.1.2.3".parse().unwrap()));
        let exact = allowed(&[], &["169.254.169.254/32"]);
        assert!(exact.reaches(metadata[0].parse().unwrap()) && exact.reaches(metadata[4].parse().unwrap()));
    }
}
