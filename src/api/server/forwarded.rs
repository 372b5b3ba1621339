//! The client of a request that arrives through a proxy. A trusted proxy names its client in `X-Forwarded-For` or
//! `Forwarded` (RFC 7239), of which the first takes precedence; from any other peer these headers are ignored, which
//! the caller of this file ensures. The list is read from its end: the client is the last address that is not a trusted
//! proxy, so a client must never be able to name another address as its own. An IPv6 form of an IPv4 address counts as
//! IPv4.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose forwarding headers count.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts the proxies of these networks.
    pub(in crate::api) fn new(networks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies(networks)
    }

    /// Whether that address is one of them.
    pub(in crate::api) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind a trusted proxy: the last address in the list that is not a trusted proxy itself. `None` where
    /// the proxy names none.
    pub(in crate::api) fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let listed = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let mut addresses: Vec<&str> = listed.flat_map(|text| text.split(',')).collect();
        if addresses.is_empty() {
            let listed = headers.get_all(FORWARDED).iter().filter_map(|value| value.to_str().ok());
            addresses = listed.flat_map(|text| text.split(',')).filter_map(for_parameter).collect();
        }
        let mut client = None;
        for text in addresses.into_iter().rev() {
            let Some(address) = address(text) else { break };
            client = Some(address);
            if !self.contains(address) {
                break;
            }
        }
        client
    }
}

/// The `for` of one element of `Forwarded`.
fn for_parameter(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, value)| value)
}

/// An address, with or without a port, quotes and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn client(headers: &[(HeaderName, &'static str)]) -> Option<String> {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let headers = headers.iter().map(|(name, text)| (name.clone(), HeaderValue::from_static(text)));
        proxies.client(&headers.collect()).map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
            ("192.0.2.7, 10.1.2.3,10.0.0.1", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443, fd00::2", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("10.0.0.9", "10.0.0.9"),
            ("192.0.2.7, unknown, 10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(client(&[(X_FORWARDED_FOR, text)]).as_deref(), Some(expected), "{text}");
        }
        let lines = [(X_FORWARDED_FOR, "198.51.100.1"), (X_FORWARDED_FOR, "192.0.2.7, 10.0.0.1")];
        assert_eq!(client(&lines).as_deref(), Some("192.0.2.7"));
        for text in ["", "unknown", "a, b"] {
            assert_eq!(client(&[(X_FORWARDED_FOR, text)]), None, "{text}");
        }
        assert_eq!(client(&[]), None);
    }

    #[test]
    fn the_client_is_read_from_the_standard_header_too() {
        for (text, expected) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=\"[2001:db8::1]:4711\";proto=http, for=10.0.0.1;by=10.0.0.2", "2001:db8::1"),
        ] {
            assert_eq!(client(&[(FORWARDED, text)]).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(client(&[(FORWARDED, "for=_hidden")]), None);
    }
}
