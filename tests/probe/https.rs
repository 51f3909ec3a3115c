//! HTTPS checks: certificates good and bad, handshakes that fail, mutual TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};

use rcgen::{BasicConstraints, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, Stream, version};

use vitald::channel::{
    ClientCertificate, ClientIdentity, CloseMode, HealthCheck, Host, HttpMethod, ProbeOptions, Protocol,
    TlsOptions, TlsVersion, VerifyCertificate,
};
use vitald::health::{MemberReason, Outcome, Report};
use vitald::testing::probe::{self, Plan, PlanError, Resolver, SystemLookup, Target};

use crate::certificates::{Authority, Pair, leaf, pem_file, version_one};
use crate::members::{
    BRIEF, Member, PATIENT, ending, expect, explain, hold, http_check, plan, reset, run, runtime,
};

const DAY: i64 = 24 * 3600;
/// 2020-01-01, the end of the certificates that have expired.
const LONG_AGO: i64 = 18262 * DAY;
/// 2096-01-01, the end of those that have not.
const FAR_AHEAD: i64 = 46021 * DAY;

fn https() -> Protocol {
    Protocol::Https(http_check(HttpMethod::Get, "200"))
}

fn failure(reason: MemberReason) -> Outcome {
    Outcome::Failure(reason)
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(crate) fn server(pair: &Pair) -> ServerConfig {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(pair.chain.clone(), pair.key.clone_key())
        .expect("a matching key")
}

/// What a member saw of one session.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    server_name: Option<String>,
    request: String,
    is_full: bool,
    client_certificates: usize,
}

/// An HTTPS member that answers 200, and what it saw.
fn member(config: ServerConfig) -> (Member, mpsc::Receiver<Session>) {
    let (sessions, seen) = mpsc::channel();
    let config = Arc::new(config);
    let member = Member::new(move |mut socket| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a session");
        let mut stream = Stream::new(&mut connection, &mut socket);
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            request.push(byte[0]);
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = stream.flush();
        let _ = sessions.send(Session {
            server_name: connection.server_name().map(str::to_owned),
            request: String::from_utf8_lossy(&request).into_owned(),
            is_full: !matches!(connection.handshake_kind(), Some(HandshakeKind::Resumed)),
            client_certificates: connection.peer_certificates().map_or(0, <[_]>::len),
        });
        hold(socket);
    });
    (member, seen)
}

fn verifying(ca: &Authority) -> ProbeOptions {
    let tls = TlsOptions { verify: VerifyCertificate::Yes, ca: Some(ca.file()), ..TlsOptions::default() };
    ProbeOptions { tls, ..ProbeOptions::default() }
}

fn named(mut options: ProbeOptions, name: &str) -> ProbeOptions {
    options.tls.server_name = Some(name.to_owned());
    options
}

/// Probes a member that shows this certificate.
fn shown(pair: &Pair, options: &ProbeOptions) -> Report {
    let (member, _seen) = member(server(pair));
    run(&plan(https(), PATIENT, options), member.address)
}

#[test]
fn a_good_certificate_is_a_success_verified_or_not() {
    let ca = Authority::new("our CA");
    let pair = ca.issue(&["127.0.0.1", "app.internal"], 2020, 2096);
    let all = [ProbeOptions::default(), verifying(&ca), named(verifying(&ca), "app.internal")];
    for options in all {
        let report = shown(&pair, &options);
        expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
        assert_eq!((report.status, report.certificate_not_after), (Some(200), Some(FAR_AHEAD)));
    }
}

#[test]
fn a_bad_certificate_is_refused_when_verified_and_its_expiry_known_anyway() {
    let (ca, other) = (Authority::new("our CA"), Authority::new("another CA"));
    let ip = ["127.0.0.1"];
    let cases = [
        (ca.issue(&ip, 2010, 2020), "certificate expired 2020-01-01", LONG_AGO),
        (ca.issue(&ip, 2095, 2096), "certificate not valid before 2095-01-01", FAR_AHEAD),
        (ca.issue(&["app.internal"], 2020, 2096), "certificate not valid for address 127.0.0.1", FAR_AHEAD),
        (Pair::self_signed(&ip), "self-signed certificate", FAR_AHEAD),
        (other.issue(&ip, 2020, 2096), "certificate from an unknown issuer", FAR_AHEAD),
    ];
    for (pair, detail, not_after) in cases {
        let report = shown(&pair, &verifying(&ca));
        expect(&report, failure(MemberReason::TlsCertificate), detail, "connect");
        assert_eq!(report.certificate_not_after, Some(not_after), "{detail}");
        let report = shown(&pair, &ProbeOptions::default());
        expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
        assert_eq!(report.certificate_not_after, Some(not_after), "{detail}");
    }
    let pair = ca.issue(&ip, 2020, 2096);
    let report = shown(&pair, &named(verifying(&ca), "app.internal"));
    let detail = "certificate not valid for name app.internal";
    expect(&report, failure(MemberReason::TlsCertificate), detail, "connect");
}

#[test]
fn the_systems_trust_anchors_do_not_hold_ours() {
    let mut options = ProbeOptions::default();
    options.tls.verify = VerifyCertificate::Yes;
    let check = HealthCheck::once(https(), PATIENT, ClientCertificate::None);
    match Plan::new(&check, &options) {
        Ok(plan) => {
            let ca = Authority::new("our CA");
            let (member, _seen) = member(server(&ca.issue(&["127.0.0.1"], 2020, 2096)));
            let detail = "certificate from an unknown issuer";
            expect(&run(&plan, member.address), failure(MemberReason::TlsCertificate), detail, "connect");
        }
        // A machine without any, such as a bare container.
        Err(error) => assert!(matches!(error, PlanError::SystemTrustAnchors(_)), "{error}"),
    }
}

#[test]
fn a_ca_certificate_does_not_stand_for_a_server() {
    let ca = Authority::new("our CA");
    let mut params = leaf(&["127.0.0.1"], 2020, 2096);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let under = params.signed_by(&key, &ca.0).expect("a certificate");
    let report = shown(&Pair::new(under.der().clone(), &under.pem(), &key), &verifying(&ca));
    let detail = "certificate is a CA's own and cannot stand for a server";
    expect(&report, failure(MemberReason::TlsCertificate), detail, "connect");
}

#[test]
fn the_name_sent_is_the_configured_one_then_the_host_then_the_members() {
    let pair = Pair::self_signed(&["127.0.0.1"]);
    let (member, seen) = member(server(&pair));
    let host = |host: &str| ProbeOptions { host: Some(host.to_owned()), ..ProbeOptions::default() };
    let by_address = Host::Ip(member.address.ip());
    let by_name = Host::Name("localhost".into());
    let cases = [
        (&by_address, ProbeOptions::default(), None),
        (&by_name, ProbeOptions::default(), Some("localhost")),
        (&by_address, host("app.internal:8443"), Some("app.internal")),
        (&by_address, host("192.0.2.1"), None),
        (&by_name, host("[::1]:443"), None),
        (&by_name, named(host("app.internal"), "tls.internal"), Some("tls.internal")),
    ];
    let runtime = runtime();
    runtime.block_on(async {
        let (resolver, refresher) = Resolver::new(SystemLookup, PATIENT);
        let refreshing = tokio::spawn(refresher.run());
        for (host, options, name) in cases {
            let target = Target::new(host, member.address.port(), &resolver);
            let report = probe::run(&plan(https(), PATIENT, &options), &target).await;
            expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
            let session = seen.recv_timeout(PATIENT).expect("a session");
            assert_eq!(session.server_name.as_deref(), name);
        }
        refreshing.abort();
    });
}

#[test]
fn every_probe_shakes_hands_in_full() {
    let (member, seen) = member(server(&Pair::self_signed(&["127.0.0.1"])));
    let plan = plan(https(), PATIENT, &ProbeOptions::default());
    for _ in 0..3 {
        assert_eq!(run(&plan, member.address).outcome, Outcome::Success);
        let session = seen.recv_timeout(PATIENT).expect("a session");
        assert!(session.is_full);
        assert!(session.request.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"));
    }
}

fn mutual(ca: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca.0.der().clone()).expect("a CA");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().expect("a verifier");
    let pair = ca.issue(&["127.0.0.1"], 2020, 2096);
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(pair.chain, pair.key)
        .expect("a matching key")
}

fn presenting(pair: &Pair) -> Plan {
    let tls = TlsOptions { client: Some(pair.identity()), ..TlsOptions::default() };
    let options = ProbeOptions { tls, ..ProbeOptions::default() };
    let check = HealthCheck::once(https(), PATIENT, ClientCertificate::Present);
    Plan::new(&check, &options).expect("a plan")
}

#[test]
fn mutual_tls_wants_the_right_certificate() {
    let (ca, other) = (Authority::new("our CA"), Authority::new("another CA"));
    let handshake = failure(MemberReason::TlsHandshake);
    // TLS 1.3: the client is done before the server has looked at its
    // certificate; the refusal arrives instead of the answer.
    let (modern, seen) = member(mutual(&ca, &[&version::TLS13]));
    let report = run(&presenting(&ca.issue(&["prober"], 2020, 2096)), modern.address);
    expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
    assert_eq!(seen.recv_timeout(PATIENT).expect("a session").client_certificates, 1);
    let report = run(&plan(https(), PATIENT, &ProbeOptions::default()), modern.address);
    let detail = "the member ended the TLS session: alert certificate_required";
    expect(&report, handshake, detail, "connect+tls");
    let report = run(&presenting(&other.issue(&["prober"], 2020, 2096)), modern.address);
    let detail = "the member ended the TLS session: alert unknown_ca";
    expect(&report, handshake, detail, "connect+tls");
    // TLS 1.2: the handshake itself fails.
    let (older, _seen) = member(mutual(&ca, &[&version::TLS12]));
    let report = run(&presenting(&ca.issue(&["prober"], 2020, 2096)), older.address);
    expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
    let report = run(&plan(https(), PATIENT, &ProbeOptions::default()), older.address);
    let detail = "the member ended the TLS session: alert certificate_required";
    expect(&report, handshake, detail, "connect");
}

#[test]
fn a_member_without_tls_is_named_as_such() {
    let handshake = failure(MemberReason::TlsHandshake);
    let answer = |answer: &'static [u8]| {
        Member::new(move |mut socket| {
            let mut hello = [0; 64];
            let _ = socket.read(&mut hello);
            let _ = socket.write_all(answer);
            hold(socket);
        })
    };
    let plan = plan(https(), PATIENT, &ProbeOptions::default());
    let report = run(&plan, answer(b"HTTP/1.1 400 Bad Request\r\n\r\n").address);
    let detail = "the member speaks plain HTTP: \"HTTP/1.1 400 Bad Request\"";
    expect(&report, handshake, detail, "connect");
    let report = run(&plan, answer(b"SSH-2.0-OpenSSH_9.2\r\n").address);
    expect(&report, handshake, "the member does not speak TLS", "connect");
    // A fatal alert, handshake_failure.
    let report = run(&plan, answer(b"\x15\x03\x03\0\x02\x02\x28").address);
    let detail = "the member ended the TLS session: alert handshake_failure; \
                  vitald offers TLS 1.2 and 1.3 with ECDHE and AES-GCM or ChaCha20";
    expect(&report, handshake, detail, "connect");
}

#[test]
fn a_handshake_that_stops_has_its_own_words() {
    type Behave = fn(TcpStream);
    let handshake = failure(MemberReason::TlsHandshake);
    let cases: [(Behave, Outcome, &str); 3] = [
        (hold, failure(MemberReason::TlsTimeout), "connected, but no TLS handshake within 200ms"),
        (
            |mut socket| {
                let _ = socket.read(&mut [0; 4096]);
            },
            handshake,
            "closed by the member during the TLS handshake",
        ),
        (
            |mut socket| {
                let _ = socket.read(&mut [0; 4096]);
                reset(socket);
            },
            handshake,
            "reset by the member during the TLS handshake",
        ),
    ];
    let plan = plan(https(), BRIEF, &ProbeOptions::default());
    for (behave, outcome, detail) in cases {
        let member = Member::new(behave);
        expect(&run(&plan, member.address), outcome, detail, "connect");
    }
}

/// A member that shakes hands and then treats the session as `behave` says.
fn after_handshake(behave: impl Fn(&mut ServerConnection, TcpStream) + Send + 'static) -> Member {
    let config = Arc::new(server(&Pair::self_signed(&["127.0.0.1"])));
    Member::new(move |mut socket| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a session");
        while connection.is_handshaking() {
            if connection.complete_io(&mut socket).is_err() {
                return;
            }
        }
        let mut request = [0; 4096];
        let _ = Stream::new(&mut connection, &mut socket).read(&mut request);
        behave(&mut connection, socket);
    })
}

#[test]
fn what_happens_after_the_handshake_is_named_as_over_plain_http() {
    let brief = plan(https(), BRIEF, &ProbeOptions::default());
    let expect = |member: &Member, reason, detail: &str| {
        expect(&run(&brief, member.address), failure(reason), detail, "connect+tls");
    };
    let stalled = after_handshake(|_, socket| hold(socket));
    let detail = "connected, but no whole response head within 200ms";
    expect(&stalled, MemberReason::ResponseTimeout, detail);
    let closed = after_handshake(|_, socket| drop(socket));
    expect(&closed, MemberReason::Closed, "closed by the member before it answered");
    let parted = after_handshake(|connection, mut socket| {
        connection.send_close_notify();
        let _ = connection.complete_io(&mut socket);
        hold(socket);
    });
    expect(&parted, MemberReason::Closed, "closed by the member before it answered");
    let was_reset = after_handshake(|_, socket| reset(socket));
    expect(&was_reset, MemberReason::Reset, "connection reset by the member");
}

#[test]
fn heads_over_tls_have_the_same_limits() {
    let member = after_handshake(|connection, mut socket| {
        let mut stream = Stream::new(connection, &mut socket);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(&[b'y'; 4096]).is_ok() {}
    });
    let report = run(&plan(https(), PATIENT, &ProbeOptions::default()), member.address);
    assert_eq!(report.outcome, failure(MemberReason::Protocol), "{report:?}");
    assert_eq!(report.detail, "no end of the response head within 65536 bytes");
}

#[test]
fn a_version_below_the_lowest_is_refused() {
    let pair = Pair::self_signed(&["127.0.0.1"]);
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(pair.chain, pair.key)
        .expect("a matching key");
    let (member, _seen) = member(config);
    let mut options = ProbeOptions::default();
    let (report, explanation) = explain(&plan(https(), PATIENT, &options), member.address);
    expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
    assert_eq!(explanation.tls.and_then(|tls| tls.version).as_deref(), Some("TLS 1.2"));
    options.tls.min_version = TlsVersion::Tls13;
    let report = run(&plan(https(), PATIENT, &options), member.address);
    let detail = "the member ended the TLS session: alert protocol_version; vitald offers TLS 1.3";
    expect(&report, failure(MemberReason::TlsHandshake), detail, "connect");
}

/// Shows a certificate whose key it does not hold, or none at all.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

fn showing(key: Option<CertifiedKey>) -> ServerConfig {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(key.map(Arc::new))))
}

/// Shows a certificate whatever its key is.
pub(crate) fn with_key(shown: &Pair, key: &Pair) -> ServerConfig {
    let key = provider().key_provider.load_private_key(key.key.clone_key()).expect("a key");
    showing(Some(CertifiedKey::new(shown.chain.clone(), key)))
}

#[test]
fn a_member_must_hold_the_key_of_its_certificate() {
    let (own, stolen) = (Pair::self_signed(&["127.0.0.1"]), Pair::self_signed(&["127.0.0.1"]));
    let (member, _seen) = member(with_key(&stolen, &own));
    let report = run(&plan(https(), PATIENT, &ProbeOptions::default()), member.address);
    let detail = "the member does not hold the key of its certificate";
    expect(&report, failure(MemberReason::TlsHandshake), detail, "connect");
}

#[test]
fn an_old_certificate_is_good_enough_where_nothing_is_verified() {
    let (certificate, key) = version_one();
    let pair = Pair::new(certificate, "", &key);
    for version in [&version::TLS12, &version::TLS13] {
        let key = provider().key_provider.load_private_key(pair.key.clone_key()).expect("a key");
        let shows = Shows(Some(Arc::new(CertifiedKey::new(pair.chain.clone(), key))));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shows));
        let (member, _seen) = member(config);
        let report = run(&plan(https(), PATIENT, &ProbeOptions::default()), member.address);
        expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
        assert_eq!(report.certificate_not_after, Some(FAR_AHEAD));
        let report = run(&plan(https(), PATIENT, &verifying(&Authority::new("our CA"))), member.address);
        assert_eq!(report.outcome, failure(MemberReason::TlsCertificate), "{report:?}");
        assert_eq!(report.certificate_not_after, Some(FAR_AHEAD));
    }
    // The key must be held all the same.
    let (member, _seen) = member(with_key(&pair, &Pair::self_signed(&["127.0.0.1"])));
    let report = run(&plan(https(), PATIENT, &ProbeOptions::default()), member.address);
    let detail = "the member does not hold the key of its certificate";
    expect(&report, failure(MemberReason::TlsHandshake), detail, "connect");
}

#[test]
fn a_refused_server_name_is_a_failed_handshake() {
    let (member, _seen) = member(showing(None));
    let options = named(ProbeOptions::default(), "unknown.internal");
    let report = run(&plan(https(), PATIENT, &options), member.address);
    let detail = "the member ended the TLS session: alert access_denied";
    expect(&report, failure(MemberReason::TlsHandshake), detail, "connect");
}

#[test]
fn an_orderly_end_says_goodbye_inside_the_session() {
    let (endings, seen) = mpsc::channel();
    let member = after_handshake(move |connection, mut socket| {
        let mut stream = Stream::new(connection, &mut socket);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        // Ok(0) is a close_notify; an end of stream without one is an error.
        let last = stream.read(&mut [0; 64]).map_err(|error| error.kind());
        endings.send((last, ending(&socket))).expect("a waiting test");
    });
    let options = ProbeOptions { close: CloseMode::Fin, ..ProbeOptions::default() };
    let report = run(&plan(https(), PATIENT, &options), member.address);
    expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
    assert_eq!(seen.recv_timeout(PATIENT), Ok((Ok(0), "fin")));
}

#[test]
fn an_explanation_shows_the_certificate_even_when_it_was_refused() {
    let ca = Authority::new("our CA");
    let (member, _seen) = member(server(&ca.issue(&["app.internal", "192.0.2.7"], 2020, 2096)));
    let plan = plan(https(), PATIENT, &named(verifying(&ca), "other.internal"));
    let (report, explanation) = explain(&plan, member.address);
    let detail = "certificate not valid for name other.internal";
    expect(&report, failure(MemberReason::TlsCertificate), detail, "connect");
    let tls = explanation.tls.expect("a handshake");
    assert_eq!(tls.server_name, "other.internal");
    assert_eq!(tls.version.as_deref(), Some("TLS 1.3"));
    assert!(tls.cipher.is_some_and(|cipher| cipher.starts_with("TLS13_")));
    assert_eq!(tls.verification_error.as_deref(), Some(detail));
    let certificate = tls.certificate.expect("a certificate");
    assert_eq!(certificate.names, ["app.internal", "192.0.2.7"]);
    assert!(certificate.subject.contains("CN=a member"), "{certificate:?}");
    assert!(certificate.issuer.contains("CN=our CA"), "{certificate:?}");
    assert_eq!(certificate.not_after, FAR_AHEAD);
}

#[test]
fn plans_that_cannot_be_made_say_why() {
    let failing = |check: ClientCertificate, options: &ProbeOptions| {
        let check = HealthCheck::once(https(), PATIENT, check);
        Plan::new(&check, options).expect_err("no plan").to_string()
    };
    let none = ClientCertificate::None;
    assert!(matches!(
        Plan::new(&HealthCheck::once(https(), PATIENT, ClientCertificate::Present), &ProbeOptions::default()),
        Err(PlanError::NoClientIdentity)
    ));
    let mut options = ProbeOptions::default();
    options.tls.verify = VerifyCertificate::Yes;
    options.tls.ca = Some(pem_file("empty.pem", "nothing"));
    assert_eq!(
        failing(none, &options),
        "empty.pem holds no usable CA certificate: there is no certificate in it"
    );
    let options = named(ProbeOptions::default(), "not a name");
    assert_eq!(
        failing(none, &options),
        "\"not a name\" is neither a DNS name nor an IP address, so it cannot be a TLS server name"
    );
    let (one, two) = (Pair::self_signed(&["one"]), Pair::self_signed(&["two"]));
    let identity = ClientIdentity { key: two.identity().key, ..one.identity() };
    let tls = TlsOptions { client: Some(identity), ..TlsOptions::default() };
    let options = ProbeOptions { tls, ..ProbeOptions::default() };
    let message = failing(ClientCertificate::Present, &options);
    assert!(message.starts_with("the client certificate client.pem cannot be used: "), "{message}");
    // What rustls reads back is what was written.
    assert!(CertificateDer::from_pem_slice(one.pem.0.as_bytes()).is_ok());
}
