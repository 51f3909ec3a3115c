//! HTTPS members: certificates good and bad, with and without `verify`, and
//! mutual TLS that nginx requires.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::certificates::{Authority, Identity};
use crate::support::config::member;
use crate::support::{Daemon, Nginx, channel, http_check, wait};

/// The last second of the years that the certificates name.
const END_OF_2020: f64 = 1_609_372_800.0;
const END_OF_2090: f64 = 3_818_361_600.0;

/// nginx with a port for each kind of certificate, and the files a prober needs.
struct TlsPeers {
    nginx: Nginx,
    authority: PathBuf,
    _folder: TempDir,
    client: Identity,
    stranger: Identity,
}

const GOOD: u16 = 8443;
const EXPIRED: u16 = 8444;
const WRONG_NAME: u16 = 8445;
const OTHER_AUTHORITY: u16 = 8446;
const BY_ADDRESS: u16 = 8447;
const MUTUAL: u16 = 8448;
const ONLY_TLS_1_2: u16 = 8449;
const NOT_TLS: u16 = 8450;

impl TlsPeers {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ours = Authority::new(folder.path(), "ours");
        let others = Authority::new(folder.path(), "others");
        let nginx = Nginx::prepare(|_, ip| servers(&ours, &others, ip))?;
        let client = ours.issue("client", &["prober.internal"], 2090);
        let stranger = others.issue("stranger", &["prober.internal"], 2090);
        Some(Self { nginx, authority: ours.certificate, _folder: folder, client, stranger })
    }

    /// A channel over one port; `tls` is the inside of the `tls` table.
    fn channel(&self, name: &str, port: u16, more: &str, tls: &str) -> String {
        let tls = if tls.is_empty() { String::new() } else { format!("tls = {{ {tls} }}\n") };
        let check = format!("{}{more}\n[channels.probe]\n{tls}", http_check("HTTPS", "/health", "200"));
        channel(name, &check, &[member(self.nginx.ip, port)])
    }

    fn verify(&self) -> String {
        format!("verify = true, ca_file = \"{}\"", self.authority.display())
    }

    fn verify_name(&self) -> String {
        format!("{}, server_name = \"app.internal\"", self.verify())
    }

    /// Handshakes to a port that nginx saw fail.
    fn failed_handshakes(&self, port: u16) -> usize {
        self.nginx.errors_with(&format!(
            "while SSL handshaking, client: 127.0.0.1, server: {}:{port}",
            self.nginx.ip
        ))
    }
}

fn servers(ours: &Authority, others: &Authority, ip: Ipv4Addr) -> String {
    let block = |port: u16, identity: &Identity, more: &str| {
        format!(
            "    server {{ listen IP:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; {more} HEALTH }}\n",
            identity.certificate.display(),
            identity.key.display()
        )
    };
    let good = ours.issue("good", &["app.internal"], 2090);
    [
        block(GOOD, &good, ""),
        block(EXPIRED, &ours.issue("expired", &["app.internal"], 2020), ""),
        block(WRONG_NAME, &ours.issue("wrong-name", &["other.internal"], 2090), ""),
        block(OTHER_AUTHORITY, &others.issue("other-authority", &["app.internal"], 2090), ""),
        block(BY_ADDRESS, &ours.issue("by-address", &[&ip.to_string()], 2090), ""),
        block(
            MUTUAL,
            &good,
            &format!("ssl_verify_client on; ssl_client_certificate {};", ours.certificate.display()),
        ),
        block(ONLY_TLS_1_2, &good, "ssl_protocols TLSv1.2;"),
        format!("    server {{ listen IP:{NOT_TLS}; HEALTH }}\n"),
    ]
    .concat()
}

#[test]
fn without_verify_every_certificate_will_do() {
    let Some(peers) = TlsPeers::start() else { return };
    let ports = [GOOD, EXPIRED, WRONG_NAME, OTHER_AUTHORITY, BY_ADDRESS];
    let channels: String =
        ports.iter().map(|port| peers.channel(&format!("port-{port}"), *port, "", "")).collect();
    let daemon = Daemon::start(&channels);
    for port in ports {
        let up = daemon.wait_for_health(&format!("port-{port}"), &peers.nginx.member(port), "healthy");
        assert_eq!(up.status, Some(200));
        assert!(up.json.pointer("/last_probe/phases/tls").is_some_and(serde_json::Value::is_f64), "{up:?}");
    }
    // Members are addresses: no name is sent.
    assert!(peers.nginx.requests().iter().all(|request| request.field("sni").is_empty()));
    let metrics = daemon.metrics();
    for (port, end) in [(GOOD, END_OF_2090), (EXPIRED, END_OF_2020)] {
        let labels = [("channel", &*format!("port-{port}"))];
        let until = metrics.value("vitald_tls_certificate_not_after_timestamp_seconds", &labels);
        assert_eq!(until, Some(end), "port {port}");
    }
}

#[test]
fn with_verify_only_the_right_certificate_will_do() {
    let Some(peers) = TlsPeers::start() else { return };
    let bad = [EXPIRED, WRONG_NAME, OTHER_AUTHORITY];
    let mut channels = peers.channel("good", GOOD, "", &peers.verify_name())
        + &peers.channel("by-address", BY_ADDRESS, "", &peers.verify())
        + &peers.channel("name-missing", GOOD, "", &peers.verify());
    for port in bad {
        channels += &peers.channel(&format!("port-{port}"), port, "", &peers.verify_name());
    }
    let daemon = Daemon::start(&channels);
    daemon.wait_for_health("good", &peers.nginx.member(GOOD), "healthy");
    daemon.wait_for_health("by-address", &peers.nginx.member(BY_ADDRESS), "healthy");
    // Without a name the address itself must be in the certificate.
    let unnamed = daemon.wait_for_health("name-missing", &peers.nginx.member(GOOD), "unhealthy");
    assert_eq!(unnamed.reason.as_deref(), Some("tls_certificate"));
    for port in bad {
        let (name, address) = (format!("port-{port}"), peers.nginx.member(port));
        let down = daemon.wait_for_health(&name, &address, "unhealthy");
        assert_eq!(down.reason.as_deref(), Some("tls_certificate"), "port {port}: {down:?}");
        assert_eq!(down.status, None);
        // As counted by the server: a failed handshake for each probe.
        wait::until("the same count on both sides", || {
            let before = peers.failed_handshakes(port);
            let counted = daemon.probes(&name, &address);
            (peers.failed_handshakes(port) == before && counted == before as f64 && before >= 3).then_some(())
        });
        assert!(peers.nginx.requests_to(port).is_empty(), "a request was sent to a peer that is not trusted");
    }
    // The end of a certificate is known even when it was refused.
    let labels = [("channel", &*format!("port-{EXPIRED}"))];
    let until = daemon.metrics().value("vitald_tls_certificate_not_after_timestamp_seconds", &labels);
    assert_eq!(until, Some(END_OF_2020));
}

#[test]
fn the_configured_name_is_sent() {
    let Some(peers) = TlsPeers::start() else { return };
    let by_host =
        format!("{}\n[channels.probe]\nhost = \"app.internal\"\n", http_check("HTTPS", "/health", "200"));
    let channels = peers.channel("by-tls", GOOD, "", "server_name = \"app.internal\"")
        + &channel("by-host", &by_host, &[member(peers.nginx.ip, BY_ADDRESS)]);
    let daemon = Daemon::start(&channels);
    daemon.wait_for_health("by-tls", &peers.nginx.member(GOOD), "healthy");
    daemon.wait_for_health("by-host", &peers.nginx.member(BY_ADDRESS), "healthy");
    for request in peers.nginx.requests() {
        assert_eq!(request.field("sni"), "app.internal");
        assert_eq!(request.field("tls"), "TLSv1.3");
        let host = match request.port == u64::from(GOOD) {
            true => peers.nginx.member(GOOD),
            false => "app.internal".to_owned(),
        };
        assert_eq!(request.field("host"), host);
    }
}

#[test]
fn mutual_tls_needs_the_right_client_certificate() {
    let Some(peers) = TlsPeers::start() else { return };
    let present = |identity: &Identity| {
        format!(
            "client_certificate = \"{}\", client_key = \"{}\"",
            identity.certificate.display(),
            identity.key.display()
        )
    };
    let on = "enable_client_ssl = true\n";
    let channels = peers.channel("without", MUTUAL, "", "")
        + &peers.channel("with", MUTUAL, on, &present(&peers.client))
        + &peers.channel("stranger", MUTUAL, on, &present(&peers.stranger))
        + &peers.channel("daemon-wide", MUTUAL, on, "");
    let daemon_wide = format!(
        "[tls]\nbackend_client_certificate = {{ certificate = \"{}\", key = \"{}\" }}\n\n",
        peers.client.certificate.display(),
        peers.client.key.display()
    );
    let daemon = Daemon::start(&(daemon_wide + &channels));
    let address = peers.nginx.member(MUTUAL);
    for name in ["with", "daemon-wide"] {
        daemon.wait_for_health(name, &address, "healthy");
    }
    // nginx lets the handshake pass and then answers 400.
    for name in ["without", "stranger"] {
        let down = daemon.wait_for_health(name, &address, "unhealthy");
        assert_eq!((down.reason.as_deref(), down.status), (Some("status"), Some(400)), "{name}");
    }
    let mut verified: Vec<(u64, String)> = peers
        .nginx
        .requests()
        .iter()
        .map(|request| (request.status, request.field("client").split(':').next().unwrap_or("").to_owned()))
        .collect();
    verified.sort();
    verified.dedup();
    assert_eq!(verified, [(200, "SUCCESS".to_owned()), (400, "FAILED".to_owned()), (400, "NONE".to_owned())]);
}

#[test]
fn a_version_or_a_protocol_that_does_not_fit_is_a_failed_handshake() {
    let Some(peers) = TlsPeers::start() else { return };
    let channels = peers.channel("old", ONLY_TLS_1_2, "", "")
        + &peers.channel("too-old", ONLY_TLS_1_2, "", "min_version = \"1.3\"")
        + &peers.channel("plain", NOT_TLS, "", "");
    let daemon = Daemon::start(&channels);
    daemon.wait_for_health("old", &peers.nginx.member(ONLY_TLS_1_2), "healthy");
    for (name, port) in [("too-old", ONLY_TLS_1_2), ("plain", NOT_TLS)] {
        let down = daemon.wait_for_health(name, &peers.nginx.member(port), "unhealthy");
        assert_eq!(down.reason.as_deref(), Some("tls_handshake"), "{name}: {down:?}");
    }
}
