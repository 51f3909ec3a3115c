//! HTTPS members of uncommon keys, chains and protocols, and the first handshake of a
//! process.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, GeneralSubtree, IsCa, KeyPair,
    NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SignatureAlgorithm,
};
use rustls::{ServerConfig, ServerConnection, Stream, SupportedProtocolVersion, version};

use vitald::channel::{HttpMethod, ProbeOptions, Protocol, TlsOptions, VerifyCertificate};
use vitald::health::{MemberReason, Outcome, Report};

use crate::certificates::{Authority, Pair, leaf, pem_file};
use crate::https::{provider, server, with_key};
use crate::members::{Member, PATIENT, expect, explain, hold, http_check, plan, run};
use crate::uncommon::Uncommon;

fn https() -> Protocol {
    Protocol::Https(http_check(HttpMethod::Get, "200"))
}

/// A member that answers `answer` inside TLS.
fn answering(config: ServerConfig, answer: &'static [u8]) -> Member {
    let config = Arc::new(config);
    Member::new(move |mut socket| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a session");
        let mut stream = Stream::new(&mut connection, &mut socket);
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer);
        let _ = stream.flush();
        hold(socket);
    })
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn verifying(pem: &str) -> ProbeOptions {
    let tls = TlsOptions {
        verify: VerifyCertificate::Yes,
        ca: Some(pem_file("ca.pem", pem)),
        ..TlsOptions::default()
    };
    ProbeOptions { tls, ..ProbeOptions::default() }
}

fn probe(config: ServerConfig, options: &ProbeOptions) -> Report {
    run(&plan(https(), PATIENT, options), answering(config, OK).address)
}

#[track_caller]
fn refused(report: &Report, detail: &str) {
    expect(report, Outcome::Failure(MemberReason::TlsCertificate), detail, "connect");
}

#[test]
fn a_key_that_cannot_be_used_is_believed_where_nothing_is_verified_and_that_is_said() {
    for (kind, key) in [(Uncommon::Rsa1024, "an RSA key of 1024 bits"), (Uncommon::Ed448, "an Ed448 key")] {
        let versions: [&[&SupportedProtocolVersion]; 2] = [&[&version::TLS13], &[&version::TLS12]];
        for versions in versions {
            // No suite of the library's server for TLS 1.2 signs with Ed448.
            if matches!(kind, Uncommon::Ed448) && versions == [&version::TLS12] {
                continue;
            }
            let config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .expect("versions")
                .with_no_client_auth()
                .with_cert_resolver(kind.resolver());
            let member = answering(config, OK);
            let (report, trace) = explain(&plan(https(), PATIENT, &ProbeOptions::default()), member.address);
            expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
            assert_eq!(trace.tls.and_then(|tls| tls.unproven_key).as_deref(), Some(key));
        }
    }
}

#[test]
fn a_key_that_was_proved_is_not_spoken_of() {
    let member = answering(server(&Pair::self_signed(&["127.0.0.1"])), OK);
    let (report, trace) = explain(&plan(https(), PATIENT, &ProbeOptions::default()), member.address);
    assert_eq!(report.outcome, Outcome::Success);
    let tls = trace.tls.expect("a handshake");
    assert_eq!(tls.unproven_key, None);
    assert_eq!(tls.offer.groups, ["X25519", "secp256r1", "secp384r1"]);
    assert_eq!(tls.offer.versions, ["TLS 1.3", "TLS 1.2"]);
    assert!(tls.offer.signatures.iter().any(|scheme| scheme == "ed448"));
}

fn pair_of(params: &CertificateParams, key: &KeyPair, by: &CertifiedIssuer<'static, KeyPair>) -> Pair {
    let certificate = params.signed_by(key, by).expect("a certificate");
    Pair::new(certificate.der().clone(), &certificate.pem(), key)
}

fn authority(name: &str, key: KeyPair, is_ca: IsCa) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(authority_params(name, is_ca), key).expect("a certificate")
}

fn authority_params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params
}

#[test]
fn p521_p384_and_ed25519_are_verified_over_both_versions() {
    let kinds: [&'static SignatureAlgorithm; 3] =
        [&PKCS_ECDSA_P521_SHA512, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
    for kind in kinds {
        let key = || KeyPair::generate_for(kind).expect("a key");
        let root = authority("root", key(), IsCa::Ca(BasicConstraints::Unconstrained));
        let pair = pair_of(&leaf(&["127.0.0.1"], 2020, 2096), &key(), &root);
        for version in [&version::TLS12, &version::TLS13] {
            let config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(pair.chain.clone(), pair.key.clone_key())
                .expect("a matching key");
            let report = probe(config, &verifying(&root.pem()));
            expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
        }
    }
}

#[test]
fn what_ca_file_lists_is_good_as_a_members_own_by_name_and_date() {
    let own = |names: &[&str], from, to, is_ca| {
        let mut params = leaf(names, from, to);
        params.is_ca = is_ca;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Pair::new(certificate.der().clone(), &certificate.pem(), &key)
    };
    let ip = ["127.0.0.1"];
    let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
    let listed = |pair: &Pair| probe(server(pair), &verifying(&pair.pem.0));
    // What `openssl req -x509` makes, and a leaf that somebody else signed.
    expect(&listed(&own(&ip, 2020, 2096, ca())), Outcome::Success, "200 OK", "connect+tls+response");
    let foreign = Authority::new("another CA").issue(&ip, 2020, 2096);
    expect(&listed(&foreign), Outcome::Success, "200 OK", "connect+tls+response");
    refused(
        &listed(&own(&["app.internal"], 2020, 2096, ca())),
        "certificate not valid for address 127.0.0.1",
    );
    refused(&listed(&own(&ip, 2010, 2020, ca())), "certificate expired 2020-01-01");
    refused(&listed(&own(&ip, 2095, 2096, ca())), "certificate not valid before 2095-01-01");
    let nameless = "certificate has no subjectAltName; its CN alone is not a name";
    refused(&listed(&own(&[], 2020, 2096, ca())), nameless);
    // The key counts for a listed certificate as well.
    let stolen = own(&ip, 2020, 2096, ca());
    let report = probe(with_key(&stolen, &own(&ip, 2020, 2096, ca())), &verifying(&stolen.pem.0));
    let detail = "the member does not hold the key of its certificate";
    expect(&report, Outcome::Failure(MemberReason::TlsHandshake), detail, "connect");
}

/// A root, so many authorities under each other, and a leaf of the last: the leaf first.
fn path(authorities: usize) -> (String, Pair) {
    let key = || KeyPair::generate().expect("a key");
    let any = || IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority("root", key(), any());
    let pem = root.pem();
    let (mut last, mut chain) = (root, Vec::new());
    for number in 0..authorities {
        let params = authority_params(&format!("authority {number}"), any());
        let next = CertifiedIssuer::signed_by(params, key(), &last).expect("a certificate");
        chain.insert(0, next.der().clone());
        last = next;
    }
    let mut pair = pair_of(&leaf(&["127.0.0.1"], 2020, 2096), &key(), &last);
    pair.chain.extend(chain);
    (pem, pair)
}

#[test]
fn twenty_certificates_are_read_in_any_order_needed_or_not() {
    let (root, mut pair) = path(6);
    pair.chain.get_mut(1..).expect("authorities").reverse();
    while pair.chain.len() < 20 {
        let (_, other) = path(1);
        // The first is always the member's own.
        pair.chain.insert(1, other.chain.into_iter().last().expect("an authority"));
    }
    for options in [verifying(&root), ProbeOptions::default()] {
        let report = probe(server(&pair), &options);
        expect(&report, Outcome::Success, "200 OK", "connect+tls+response");
    }
}

#[test]
fn a_path_deeper_than_the_librarys_six_authorities_is_named() {
    let (root, pair) = path(7);
    let report = probe(server(&pair), &verifying(&root));
    refused(&report, "the path of certificates is deeper than 6 authorities");
    assert_eq!(probe(server(&pair), &ProbeOptions::default()).outcome, Outcome::Success);
}

#[test]
fn what_an_authority_may_not_sign_is_named() {
    let key = || KeyPair::generate().expect("a key");
    let member = leaf(&["app.internal"], 2020, 2096);
    let named = |root: &CertifiedIssuer<'static, KeyPair>, pair: &Pair| {
        let mut options = verifying(&root.pem());
        options.tls.server_name = Some("app.internal".to_owned());
        probe(server(pair), &options)
    };
    let mut params = authority_params("root", IsCa::Ca(BasicConstraints::Unconstrained));
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let root = CertifiedIssuer::self_signed(params, key()).expect("a certificate");
    let pair = pair_of(&member, &key(), &root);
    refused(&named(&root, &pair), "certificate's names are not the authority's to sign");

    let root = authority("root", key(), IsCa::Ca(BasicConstraints::Unconstrained));
    let short = authority_params("short", IsCa::Ca(BasicConstraints::Constrained(0)));
    let short = CertifiedIssuer::signed_by(short, key(), &root).expect("a certificate");
    let under = authority_params("under", IsCa::Ca(BasicConstraints::Unconstrained));
    let under = CertifiedIssuer::signed_by(under, key(), &short).expect("a certificate");
    let mut pair = pair_of(&member, &key(), &under);
    pair.chain.extend([under.der().clone(), short.der().clone()]);
    refused(&named(&root, &pair), "an authority does not allow so long a path of certificates");

    let plain = CertifiedIssuer::signed_by(leaf(&["x"], 2020, 2096), key(), &root).expect("a certificate");
    let mut pair = pair_of(&member, &key(), &plain);
    pair.chain.push(plain.der().clone());
    refused(&named(&root, &pair), "certificate signed by one that is no authority's");
}

#[test]
fn a_member_of_http_2_alone_is_named_as_such() {
    // SETTINGS, as a server opens the connection (RFC 9113, 3.4).
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    let detail = "the member speaks HTTP/2 alone; vitald speaks HTTP/1.1";
    let inside = answering(server(&Pair::self_signed(&["127.0.0.1"])), settings);
    let report = run(&plan(https(), PATIENT, &ProbeOptions::default()), inside.address);
    expect(&report, Outcome::Failure(MemberReason::Protocol), detail, "connect+tls+response");
    let plain = Member::answering(*settings);
    let protocol = Protocol::Http(http_check(HttpMethod::Get, "200"));
    let report = run(&plan(protocol, PATIENT, &ProbeOptions::default()), plain.address);
    expect(&report, Outcome::Failure(MemberReason::Protocol), detail, "connect+response");
}

/// Each run of the command is a process of its own. What the first handshake of one costs
/// comes before the probe's time begins. (A member cannot tell: the kernel holds back the
/// end of its handshake until the first bytes go with it.)
#[test]
fn the_first_handshake_of_a_process_is_as_quick_as_the_others() {
    let member = Member::new(|mut socket| {
        let _ = socket.read(&mut [0; 4096]);
        // A fatal alert, internal_error.
        let _ = socket.write_all(b"\x15\x03\x03\0\x02\x02\x50");
        hold(socket);
    });
    let url = format!("https://{}/", member.address);
    let seconds = |_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitald"));
        let output = command.args(["probe", &url, "--json", "--timeout", "10s"]).output();
        let json: serde_json::Value =
            serde_json::from_slice(&output.expect("vitald can be started").stdout).expect("JSON");
        let probe = json.pointer("/probes/0").expect("one probe");
        let detail = "the member ended the TLS session: alert internal_error";
        assert_eq!(probe.get("detail").and_then(serde_json::Value::as_str), Some(detail));
        probe.get("seconds").and_then(serde_json::Value::as_f64).expect("a time")
    };
    let quickest = (0..10).map(seconds).fold(f64::INFINITY, f64::min);
    // Gathering entropy takes 40 ms and more; all of this probe about one.
    assert!(quickest < 0.025, "{quickest} s");
}
