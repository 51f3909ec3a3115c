//! What is asked of every request before a route sees it: whom it names as its host,
//! which site's page sent it, and whether its connection may ask for that path.
//!
//! `connection` calls [`Guard::judge`]. A page of another site can make a browser on this
//! machine send requests here. `Host` tells when that site's name was pointed at this
//! address (DNS rebinding), `Origin` when it was not; a browser sets both, whatever the
//! page wants. Clients that are no browsers can write what they like there, which proves
//! nothing of them and is not meant to.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};
use axum::response::Response;

use super::audit::AuthFailure;
use super::http::ErrorForm;
use super::peer::{ConnectionInfo, PeerNetwork, PlaceKind};
use crate::channel::Host;
use crate::config::AccessSettings;

/// `[server] hosts` and `proxies`. All clones show the same ones.
#[derive(Debug, Clone, Default)]
pub struct Access {
    settings: Arc<RwLock<Arc<AccessSettings>>>,
}

impl Access {
    /// What a configuration says.
    #[must_use]
    pub fn new(settings: &AccessSettings) -> Self {
        Self { settings: Arc::new(RwLock::new(Arc::new(settings.clone()))) }
    }

    /// Puts what a new configuration says into effect, for open connections too; only
    /// whose share they take stays as it was.
    pub fn replace(&self, settings: &AccessSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings.clone());
    }

    /// Whose share a peer takes.
    pub(super) fn network_of(&self, peer: IpAddr) -> PeerNetwork {
        let peer = peer.to_canonical();
        match self.settings().proxies.iter().any(|range| range.contains(peer)) {
            true => PeerNetwork::Proxy(peer),
            false => PeerNetwork::of(peer),
        }
    }

    /// Whether a request names this server: by loopback, `localhost`, the address that was
    /// connected to or a host of `[server] hosts`, with any port. One of HTTP/1.0 may name
    /// nobody.
    pub(super) fn is_named_by(&self, uri: &Uri, headers: &HeaderMap, connection: &ConnectionInfo) -> bool {
        let settings = self.settings();
        let header = headers.get(header::HOST).map(|host| host.to_str().ok().and_then(authority_of));
        // Of the two the target is the one that counts (RFC 9112, section 3.2.2).
        let target = uri.authority().map(|authority| authority_of(authority.as_str()));
        let mut named = target.into_iter().chain(header);
        named.all(|named| {
            named.is_some_and(|named| names_this_server(named.host(), connection, &settings.hosts))
        })
    }

    fn settings(&self) -> Arc<AccessSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// On which listeners `Host` is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostCheck {
    /// On loopback.
    Always,
    /// On other addresses: health checks come with any host, so only when the
    /// configuration names hosts.
    WhenNamed,
    /// On the Unix socket, which no browser opens.
    Never,
}

/// Judges the requests of a listener.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    access: Access,
    host_check: HostCheck,
}

/// Why a request is not routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuardFault {
    /// HTTP/1.1 without `Host`, or more than one.
    NotOneHost,
    /// Another host.
    ForeignHost,
    /// A page of another site wants to change something.
    ForeignOrigin,
    /// The connection has a reserved place.
    NoPlace,
}

impl Guard {
    pub(super) fn new(access: Access, host_check: HostCheck) -> Self {
        Self { access, host_check }
    }

    /// Whether a request may go on.
    pub(super) fn judge<B>(
        &self,
        request: &Request<B>,
        connection: &ConnectionInfo,
    ) -> Result<(), GuardFault> {
        let host = only_host(request.version(), request.headers())?;
        if connection.place == PlaceKind::Reserved && !is_vital(request.uri().path()) {
            return Err(GuardFault::NoPlace);
        }
        let settings = self.access.settings();
        let is_checked = match self.host_check {
            HostCheck::Always => true,
            HostCheck::WhenNamed => !settings.hosts.is_empty(),
            HostCheck::Never => false,
        };
        if is_checked && !self.access.is_named_by(request.uri(), request.headers(), connection) {
            return Err(GuardFault::ForeignHost);
        }
        if !request.method().is_safe() {
            let mut origins = request.headers().get_all(header::ORIGIN).iter();
            if !origins.all(|origin| is_same_site(origin, host, &settings.hosts)) {
                return Err(GuardFault::ForeignOrigin);
            }
        }
        Ok(())
    }
}

/// The one `Host`; none in HTTP/1.0 without it.
fn only_host(version: Version, headers: &HeaderMap) -> Result<Option<&HeaderValue>, GuardFault> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(None),
        (Some(host), None) => Ok(Some(host)),
        (None, _) | (Some(_), Some(_)) => Err(GuardFault::NotOneHost),
    }
}

/// A host with or without a port; none for what has a user's name or a port that is none.
fn authority_of(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    let is_plain = authority.as_str() == authority.host() || authority.port_u16().is_some();
    (is_plain && !text.contains('@')).then_some(authority)
}

/// What is answered on a reserved place: whether the daemon lives, and how it is.
fn is_vital(path: &str) -> bool {
    matches!(path, "/livez" | "/-/healthy" | "/metrics")
}

/// Whether a host, with any port, is this server.
fn names_this_server(host: &str, connection: &ConnectionInfo, hosts: &[Host]) -> bool {
    let is_local = match address_of(host) {
        Some(address) => address.is_loopback() || connection.local == Some(address),
        None => host.eq_ignore_ascii_case("localhost"),
    };
    is_local || is_listed(host, hosts)
}

fn is_listed(host: &str, hosts: &[Host]) -> bool {
    let address = address_of(host);
    hosts.iter().any(|listed| match listed {
        Host::Ip(listed) => address == Some(listed.to_canonical()),
        Host::Name(listed) => listed.eq_ignore_ascii_case(host),
    })
}

/// A host that is an address, perhaps in brackets.
fn address_of(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Whether a page of this origin is one of this server's own: of the host and port that
/// the request names, or of a host that the configuration names.
fn is_same_site(origin: &HeaderValue, host: Option<&HeaderValue>, hosts: &[Host]) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let (rest, usual_port) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        // `null`, and other schemes.
        (None, None) => return false,
    };
    let Some(origin) = authority_of(rest) else { return false };
    let host = host.and_then(|host| authority_of(host.to_str().ok()?));
    let port = |authority: &Authority| authority.port_u16().unwrap_or(usual_port);
    let is_own = host
        .is_some_and(|host| host.host().eq_ignore_ascii_case(origin.host()) && port(&host) == port(&origin));
    is_own || is_listed(origin.host(), hosts)
}

impl GuardFault {
    /// What the audit calls it; none where the sender's rights are not the reason.
    pub(super) fn failure(self) -> Option<AuthFailure> {
        match self {
            Self::ForeignHost => Some(AuthFailure::Host),
            Self::ForeignOrigin => Some(AuthFailure::Origin),
            Self::NotOneHost | Self::NoPlace => None,
        }
    }

    /// The answer, in the form of the path that was asked for.
    pub(super) fn into_answer(self, form: ErrorForm) -> Response {
        let (status, error_code, text) = match self {
            Self::NoPlace => return form.no_place(),
            Self::NotOneHost => (
                StatusCode::BAD_REQUEST,
                "APIG.0201",
                "a request of HTTP/1.1 has one Host header: send exactly one",
            ),
            Self::ForeignHost => (
                StatusCode::MISDIRECTED_REQUEST,
                "APIG.0201",
                "the Host header names another server: send the request to 127.0.0.1, [::1], localhost or \
                 the address that is listened on, or name the host in [server] hosts",
            ),
            Self::ForeignOrigin => (
                StatusCode::FORBIDDEN,
                "APIG.1005",
                "a page of another site may change nothing here: send the request without an Origin header, \
                 or name the site's host in [server] hosts",
            ),
        };
        form.answer(status, error_code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::api::Transport;

    fn settings(hosts: &[&str]) -> AccessSettings {
        let host = |text: &&str| match text.parse() {
            Ok(address) => Host::Ip(address),
            Err(_) => Host::Name((*text).into()),
        };
        AccessSettings { hosts: hosts.iter().map(host).collect(), ..AccessSettings::default() }
    }

    fn connection() -> ConnectionInfo {
        let local = "10.0.0.9:9650".parse().ok();
        ConnectionInfo::network("10.0.0.1:5".parse().expect("an address"), local, Transport::Plain)
    }

    fn judge(
        check: HostCheck,
        hosts: &[&str],
        method: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), GuardFault> {
        let mut request = Request::builder().method(method).uri("/livez");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let guard = Guard::new(Access::new(&settings(hosts)), check);
        guard.judge(&request.body(()).expect("a request"), &connection())
    }

    #[test]
    fn on_loopback_a_request_names_this_machine_or_a_listed_host() {
        let verdict =
            |host: &str| judge(HostCheck::Always, &["vitald.example", "192.0.2.7"], "GET", &[("host", host)]);
        for host in [
            "127.0.0.1:9650",
            "127.9.9.9",
            "[::1]:80",
            "localhost",
            "LOCALHOST:1",
            "10.0.0.9",
            "[::ffff:10.0.0.9]:9650",
            "vitald.example",
            "Vitald.Example:8443",
            "192.0.2.7:1",
        ] {
            assert_eq!(verdict(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "vitald.example.evil.example",
            "10.0.0.1:9650",
            "192.0.2.8",
            "",
            "a b",
            "evil@127.0.0.1",
            "127.0.0.1:x",
            "127.0.0.1:9650.evil.example",
            "2130706433",
            "0.0.0.0",
        ] {
            assert_eq!(verdict(host), Err(GuardFault::ForeignHost), "{host}");
        }
    }

    #[test]
    fn elsewhere_the_host_is_checked_when_hosts_are_named_and_on_the_socket_never() {
        let other = [("host", "evil.example")];
        assert_eq!(judge(HostCheck::WhenNamed, &[], "GET", &other), Ok(()));
        let named = &["vitald.example"][..];
        assert_eq!(judge(HostCheck::WhenNamed, named, "GET", &other), Err(GuardFault::ForeignHost));
        assert_eq!(judge(HostCheck::WhenNamed, named, "GET", &[("host", "10.0.0.9:9650")]), Ok(()));
        assert_eq!(judge(HostCheck::Never, named, "GET", &other), Ok(()));
    }

    #[test]
    fn the_target_counts_as_the_host_does() {
        let guard = Guard::new(Access::default(), HostCheck::Always);
        let verdict = |target: &str, host: &str| {
            let request = Request::get(target).header("host", host).body(()).expect("a request");
            guard.judge(&request, &connection())
        };
        assert_eq!(verdict("http://127.0.0.1/livez", "127.0.0.1"), Ok(()));
        assert_eq!(verdict("http://evil.example/livez", "127.0.0.1"), Err(GuardFault::ForeignHost));
        assert_eq!(verdict("http://127.0.0.1/livez", "evil.example"), Err(GuardFault::ForeignHost));
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        for check in [HostCheck::Always, HostCheck::WhenNamed, HostCheck::Never] {
            let two = [("host", "localhost"), ("host", "localhost")];
            assert_eq!(judge(check, &[], "GET", &two), Err(GuardFault::NotOneHost));
            assert_eq!(judge(check, &[], "GET", &[]), Err(GuardFault::NotOneHost));
        }
        let mut old = Request::get("/livez").version(Version::HTTP_10).body(()).expect("a request");
        let guard = Guard::new(Access::default(), HostCheck::Always);
        assert_eq!(guard.judge(&old, &connection()), Ok(()), "HTTP/1.0 knows no Host");
        for _ in 0..2 {
            old.headers_mut().append("host", HeaderValue::from_static("localhost"));
        }
        assert_eq!(guard.judge(&old, &connection()), Err(GuardFault::NotOneHost));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let verdict = |method: &str, origin: &str| {
            let headers = [("host", "127.0.0.1:9650"), ("origin", origin)];
            judge(HostCheck::Always, &["vitald.example"], method, &headers)
        };
        let own = ["http://127.0.0.1:9650", "https://vitald.example", "http://Vitald.example:8080"];
        let foreign = [
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:9651",
            "https://127.0.0.1",
            "http://localhost:9650",
            "file://",
            "http://127.0.0.1:9650.evil.example",
            "http://vitald.example:80.evil.example",
            "http://evil@127.0.0.1:9650",
            "http://evil@vitald.example",
            "chrome-extension://abc",
        ];
        for method in ["POST", "PUT", "DELETE", "PATCH", "ANYTHING"] {
            for origin in own {
                assert_eq!(verdict(method, origin), Ok(()), "{method} {origin}");
            }
            for origin in foreign {
                assert_eq!(verdict(method, origin), Err(GuardFault::ForeignOrigin), "{method} {origin}");
            }
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(verdict(method, "http://evil.example"), Ok(()), "{method}");
        }
        let usual = |host: &str, origin: &str| {
            judge(HostCheck::WhenNamed, &[], "POST", &[("host", host), ("origin", origin)])
        };
        assert_eq!(usual("lb.internal", "https://lb.internal"), Ok(()));
        assert_eq!(usual("lb.internal:443", "https://lb.internal"), Ok(()));
        assert_eq!(usual("lb.internal:80", "https://lb.internal"), Err(GuardFault::ForeignOrigin));
        let no_port = usual("127.0.0.1", "http://127.0.0.1:46993.evil");
        assert_eq!(no_port, Err(GuardFault::ForeignOrigin));
    }

    #[test]
    fn a_reserved_place_is_for_liveness_and_metrics() {
        let guard = Guard::new(Access::default(), HostCheck::Always);
        let reserved = ConnectionInfo { place: PlaceKind::Reserved, ..connection() };
        for (path, expected) in [
            ("/livez", Ok(())),
            ("/-/healthy", Ok(())),
            ("/metrics?detail=channel", Ok(())),
            ("/v1/status", Err(GuardFault::NoPlace)),
            ("/v2/p/apigw/instances", Err(GuardFault::NoPlace)),
        ] {
            let request = Request::get(path).header("host", "localhost").body(()).expect("a request");
            assert_eq!(guard.judge(&request, &reserved), expected, "{path}");
        }
    }

    #[test]
    fn proxies_and_their_networks_are_known() {
        let proxies = ["192.0.2.0/28", "2001:db8::5"].map(|text| text.parse().expect(text));
        let access = Access::new(&AccessSettings { proxies: proxies.to_vec(), ..AccessSettings::default() });
        let of = |text: &str| access.network_of(text.parse().expect(text));
        assert!(!of("192.0.2.15").is_limited() && !of("::ffff:192.0.2.1").is_limited());
        assert!(of("192.0.2.16").is_limited() && of("2001:db8::6").is_limited());
        assert_eq!(of("2001:db8::5"), PeerNetwork::Proxy("2001:db8::5".parse().expect("an address")));
        access.replace(&AccessSettings::default());
        assert!(of("192.0.2.15").is_limited());
    }
}
