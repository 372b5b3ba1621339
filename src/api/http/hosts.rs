//! Rejects requests of other sites' web pages, because the service does not authenticate its callers and a browser on
//! the same machine reaches it. Such a page must not change an order (cross-site requests), and must not read one under
//! a name of its own that resolves to this machine (DNS rebinding). Other programs are not affected.

use std::net::Ipv4Addr;

use hyper::header::HOST;
use hyper::{Method, Request};

use super::cors::Cors;
use super::target::{is_cross_site, targets};
use crate::api::problem::{CROSS_SITE_REQUEST, Kind, MISDIRECTED_REQUEST, Problem};
use crate::api::server::known_host::KnownHost;
use crate::order::Invalid;

/// The names that the service answers to.
pub(super) struct Hosts {
    /// Whether it answers only to these.
    is_checked: bool,
    names: Vec<Name>,
}

/// A member of `ALLOWED_HOSTS`.
struct Name {
    /// In lower case; empty: any.
    name: String,
    /// Whether it is a pattern for the names below it.
    is_suffix: bool,
}

impl Hosts {
    /// Accepts addresses, `localhost` and these names; every name where the list is empty and `is_checked` is false.
    pub(super) fn new(is_checked: bool, names: &[String]) -> Hosts {
        let read = |name: &String| {
            let below = name.strip_prefix('*').unwrap_or(name).strip_prefix('.');
            let name = if name == "*" { "" } else { below.unwrap_or(name) };
            Name { name: name.to_ascii_lowercase(), is_suffix: below.is_some() }
        };
        Hosts { is_checked: is_checked || !names.is_empty(), names: names.iter().map(read).collect() }
    }

    /// Admits a request. `known` is the accepted host that its connection has named before.
    ///
    /// # Errors
    /// `misdirected_request`, `cross_site_request`, or [`Invalid`] where the request names no host correctly.
    pub(super) fn admit<B>(
        &self,
        request: &Request<B>,
        cors: &Cors,
        known: &KnownHost,
    ) -> Result<(), Problem> {
        if names_alone(request, known) {
            return Ok(());
        }
        let targets = targets(request)?;
        for target in targets.iter().flatten() {
            if self.is_checked && !self.answers_to(target.host) {
                let fix = "this service does not answer to that name; call it by its IP address or as localhost, or \
                           add the name to ALLOWED_HOSTS";
                return Err(rejected(MISDIRECTED_REQUEST, "Host", fix));
            }
        }
        if let Some(host) = request.headers().get(HOST) {
            known.set(host);
        }
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if is_safe
            || !is_cross_site(request.headers(), targets.into_iter().flatten().last())
            || cors.allows(request.headers())
        {
            return Ok(());
        }
        let fix =
            "a page of another site cannot change orders; add its origin to CORS_ALLOWED_ORIGINS if it may";
        Err(rejected(CROSS_SITE_REQUEST, "Origin", fix))
    }

    fn answers_to(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let fits = |name: &Name| match name.is_suffix {
            _ if name.name.is_empty() => true,
            true => host
                .len()
                .checked_sub(name.name.len() + 1)
                .and_then(|dot| host.split_at_checked(dot))
                .is_some_and(|(below, rest)| {
                    !below.is_empty()
                        && rest.strip_prefix('.').is_some_and(|rest| rest.eq_ignore_ascii_case(&name.name))
                }),
            false => host.eq_ignore_ascii_case(&name.name),
        };
        host.starts_with('[')
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<Ipv4Addr>().is_ok()
            || self.names.iter().any(fits)
    }
}

fn rejected(kind: Kind, field: &'static str, fix: &str) -> Problem {
    Problem::new(kind, Invalid::new(field, fix).to_string())
}

/// Whether a request names only that host, and has no header about the origin of a page.
fn names_alone<B>(request: &Request<B>, known: &KnownHost) -> bool {
    let mut hosts = 0;
    for (name, value) in request.headers() {
        match name.as_str() {
            "host" if known.is(value) => hosts += 1,
            "host" | "origin" | "sec-fetch-site" => return false,
            _ => {}
        }
    }
    hosts == 1 && request.uri().authority().is_none()
}

#[cfg(test)]
mod tests {
    use hyper::http::Version;

    use super::*;

    fn request(line: &str, headers: &[(&str, &str)]) -> Request<()> {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn code(hosts: &Hosts, request: &Request<()>) -> &'static str {
        let (cors, known) = (Cors::new(&["https://shop.example".to_owned()]), KnownHost::default());
        let code = || hosts.admit(request, &cors, &known).err().map_or("", |problem| problem.kind.code);
        let first = code();
        assert_eq!(code(), first, "a connection that has named its host before");
        first
    }

    fn get(hosts: &Hosts, host: &str) -> &'static str {
        code(hosts, &request("GET /", &[("host", host)]))
    }

    #[test]
    fn a_checked_service_answers_to_addresses_localhost_and_its_names() {
        let names = ["orders.example", "*.Shop.example", ".inner.example"].map(str::to_owned);
        let hosts = Hosts::new(true, &names);
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "10.1.2.3",
            "localhost",
            "LocalHost:1",
            "localhost.",
            "localhost:",
            "orders.example",
            "ORDERS.example:443",
            "a.shop.example",
            "a.b.shop.example.",
            "x.inner.example",
        ] {
            assert_eq!(get(&hosts, host), "", "{host}");
        }
        for host in [
            "evil.example",
            "orders.example.evil.example",
            "xorders.example",
            "shop.example",
            ".shop.example",
            "xshop.example",
            "127.1",
            "2130706433",
            "localhost.evil.example",
            "xlocalhost",
            "127.0.0.1.evil.example",
            "%6cocalhost",
        ] {
            assert_eq!(get(&hosts, host), "misdirected_request", "{host}");
        }
        for host in
            ["", ":80", "a:b", "a:99999", "a:1:2", "a b", "a/b", "a@b", "::1", "[::1", "[a]", "[::1]x", "ä"]
        {
            for hosts in [&hosts, &Hosts::new(false, &[])] {
                assert_eq!(get(hosts, host), "invalid_request", "{host}");
            }
        }
        assert_eq!(get(&Hosts::new(false, &[]), "evil.example"), "");
        assert_eq!(get(&Hosts::new(false, &names[..1]), "evil.example"), "misdirected_request");
        assert_eq!(get(&Hosts::new(true, &["*".to_owned()]), "evil.example"), "");
    }

    #[test]
    fn a_host_is_named_once_and_a_whole_target_counts_too() {
        let hosts = Hosts::new(true, &[]);
        assert_eq!(code(&hosts, &request("GET /", &[])), "invalid_request");
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(code(&hosts, &request("GET /", &twice)), "invalid_request");
        let mut old = request("GET /", &[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(code(&hosts, &old), "");
        let whole = |uri: &str| code(&hosts, &request(&format!("GET {uri}"), &[("host", "localhost")]));
        assert_eq!(whole("http://localhost:1/orders"), "");
        assert_eq!(whole("http://evil.example/orders"), "misdirected_request");
        assert_eq!(whole("http://me@localhost/orders"), "invalid_request");
    }

    #[test]
    fn a_change_by_a_page_of_another_site_is_rejected() {
        let hosts = Hosts::new(false, &[]);
        let post = |headers: &[(&str, &str)]| {
            let headers = [&[("host", "orders.example:8080")], headers].concat();
            let unsafe_ones = ["POST", "PUT", "DELETE", "PATCH", "BREW"];
            let codes = unsafe_ones.map(|method| code(&hosts, &request(&format!("{method} /"), &headers)));
            assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(code(&hosts, &request(&format!("{method} /"), &headers)), "");
            }
            codes[0]
        };
        for headers in [
            &[][..],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "")],
            &[("origin", "http://orders.example:8080")],
            &[("origin", "https://ORDERS.example:8080")],
            &[("origin", "https://shop.example")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://shop.example")],
        ] {
            assert_eq!(post(headers), "", "{headers:?}");
        }
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site"), ("origin", "http://orders.example:8080")],
            &[("sec-fetch-site", ""), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "http://orders.example")],
            &[("origin", "http://orders.example:8080"), ("origin", "https://evil.example")],
        ] {
            assert_eq!(post(headers), "cross_site_request", "{headers:?}");
        }
    }

    #[test]
    fn an_origin_may_name_its_default_port() {
        let hosts = Hosts::new(false, &[]);
        for (host, origin, is_own) in [
            ("a.example", "https://a.example", true),
            ("a.example:443", "https://a.example", true),
            ("a.example:80", "http://a.example", true),
            ("a.example:80", "https://a.example", false),
            ("[::1]:8080", "http://[::1]:8080", true),
        ] {
            let code = code(&hosts, &request("POST /", &[("host", host), ("origin", origin)]));
            assert_eq!(code.is_empty(), is_own, "{host} {origin}");
        }
    }
}
