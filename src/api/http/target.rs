//! The host that a request is for, and whether the page that made the request comes from that host. Browsers state the
//! page's origin in `Sec-Fetch-Site`, which takes precedence, or `Origin`; other programs send neither, and their
//! requests are never cross-site. A request of HTTP/1.1 must have exactly one `Host`; the target of its request line
//! takes precedence. Nothing here rejects a host that is legal: `hosts` has the list of accepted ones.

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::http::Version;
use hyper::{HeaderMap, Request};

use crate::order::Invalid;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The host that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

impl Target<'_> {
    fn read(text: &str) -> Option<Target<'_>> {
        let (host, port) = match text.rfind(']') {
            Some(end) => text.split_at(end + 1),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            // A colon without a number is legal, and has no effect.
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
            None if port.is_empty() => None,
            None => return None,
        };
        let is_legal = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte))
            }
        };
        is_legal.then_some(Target { host, port })
    }
}

/// The targets that a request names: `Host`, and the one of its request line, which takes precedence. A request of
/// HTTP/1.0 may name none.
///
/// # Errors
/// [`Invalid`] where `Host` is missing, given twice, or not a host.
pub(super) fn targets<B>(request: &Request<B>) -> Result<[Option<Target<'_>>; 2], Invalid> {
    let invalid = |fix| Invalid::new("Host", fix);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => None,
        (None, _) => return Err(invalid("send this header; HTTP/1.1 requires it")),
        (Some(host), None) => Some(host),
        (Some(_), Some(_)) => return Err(invalid("send this header once")),
    };
    let wanted = || invalid("send a name or an IP address, and a port where it is not the default one");
    let host = host.map(|host| host.to_str().ok().and_then(Target::read).ok_or_else(wanted)).transpose()?;
    let authority =
        request.uri().authority().map(|authority| Target::read(authority.as_str()).ok_or_else(wanted));
    Ok([host, authority.transpose()?])
}

/// Whether a page of another site made the request. Modern browsers state that in `Sec-Fetch-Site`; older ones name the
/// page's origin, which must then be the service itself. The rule is that of Go's `http.CrossOriginProtection`.
pub(super) fn is_cross_site(headers: &HeaderMap, target: Option<Target<'_>>) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().filter(|site| !site.is_empty()).peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| site == "same-origin" || site == "none");
    }
    let is_own = |origin: &str| {
        let (scheme, rest) = origin.split_once("://")?;
        let (origin, target) = (Target::read(rest)?, target?);
        let usual = match scheme {
            "https" => 443,
            _ => 80,
        };
        let same_port = origin.port.unwrap_or(usual) == target.port.unwrap_or(usual);
        Some(same_port && origin.host.eq_ignore_ascii_case(target.host))
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    !origins.all(|origin| origin.to_str().ok().and_then(is_own) == Some(true))
}
