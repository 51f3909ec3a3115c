//! What makes another question and what does not, and the bytes of vitald 0.1.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::channel::{ClientIdentity, Health, ProbeHeader, SecretFile};

fn check() -> HealthCheck {
    HealthCheck {
        protocol: Protocol::Https(HttpCheck {
            path: "/health".to_owned(),
            method: HttpMethod::Get,
            codes: CodeSet::parse("200-299").unwrap(),
        }),
        port: NonZeroU16::new(8443),
        threshold_normal: 2,
        threshold_abnormal: 3,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        client_certificate: ClientCertificate::None,
        status: CheckStatus::On,
    }
}

fn file(path: &str, pem: &[u8]) -> PemFile {
    PemFile { path: PathBuf::from(path), pem: Arc::from(pem) }
}

fn options() -> ProbeOptions {
    ProbeOptions {
        initial_state: Health::Unknown,
        host: Some("shop.example".to_owned()),
        headers: vec![ProbeHeader::plain("a", "b"), ProbeHeader::plain("c", "d")],
        close: CloseMode::Reset,
        resolve: ResolveFamily::Any,
        tls: TlsOptions {
            verify: VerifyCertificate::Yes,
            ca: Some(file("ca.pem", b"ca")),
            server_name: Some("shop.example".to_owned()),
            client: Some(ClientIdentity {
                certificate: file("client.pem", b"certificate"),
                key: file("client.key", b"key"),
            }),
            min_version: TlsVersion::Tls12,
        },
        from_defaults: Vec::new(),
    }
}

fn http(check: &mut HealthCheck) -> &mut HttpCheck {
    match &mut check.protocol {
        Protocol::Https(http) => http,
        other => panic!("{other:?}"),
    }
}

type CheckEdit = (&'static str, fn(&mut HealthCheck));
type OptionEdit = (&'static str, fn(&mut ProbeOptions));

/// Changes of what is asked.
const CHECK_EDITS: [CheckEdit; 6] = [
    ("protocol tcp", |check| check.protocol = Protocol::Tcp),
    ("protocol http", |check| check.protocol = Protocol::Http(http(check).clone())),
    ("path", |check| http(check).path.push('z')),
    ("method", |check| http(check).method = HttpMethod::Head),
    ("http_code", |check| http(check).codes = CodeSet::parse("200-298").unwrap()),
    ("enable_client_ssl", |check| check.client_certificate = ClientCertificate::Present),
];

/// Changes of when and how often it is asked, of the port, which is each member's, and of
/// how the same is written.
const SAME_QUESTION: [CheckEdit; 9] = [
    ("http_code text", |check| http(check).codes = CodeSet::parse("200-298,299").unwrap()),
    ("port", |check| check.port = NonZeroU16::new(8444)),
    ("port 0", |check| check.port = None),
    ("threshold_normal", |check| check.threshold_normal = 3),
    ("threshold_abnormal", |check| check.threshold_abnormal = 2),
    ("time_interval", |check| check.interval = Duration::from_secs(6)),
    ("time_interval, part of a second", |check| check.interval += Duration::from_nanos(1)),
    ("timeout", |check| check.timeout = Duration::from_secs(3)),
    ("status", |check| check.status = CheckStatus::Off),
];

const SAME_OPTIONS: [OptionEdit; 3] = [
    ("initial_state healthy", |options| options.initial_state = Health::Healthy),
    ("initial_state unhealthy", |options| options.initial_state = Health::Unhealthy),
    ("close", |options| options.close = CloseMode::Fin),
];

const OPTION_EDITS: [OptionEdit; 22] = [
    ("host", |options| options.host = Some("other.example".to_owned())),
    ("no host", |options| options.host = None),
    ("empty host", |options| options.host = Some(String::new())),
    ("headers, one less", |options| drop(options.headers.pop())),
    ("headers, other value", |options| options.headers[0] = ProbeHeader::plain("a", "x")),
    ("headers, other name", |options| options.headers[0] = ProbeHeader::plain("x", "b")),
    ("headers, other order", |options| options.headers.reverse()),
    ("headers, moved border", |options| options.headers[0] = ProbeHeader::plain("ab", "")),
    ("headers, from a file", |options| options.headers[0] = secret("key", "b")),
    ("headers, from another file", |options| options.headers[0] = secret("other", "b")),
    ("headers, left out", |options| options.headers[0] = ProbeHeader::left_out("a")),
    ("resolve v4", |options| options.resolve = ResolveFamily::V4),
    ("resolve v6", |options| options.resolve = ResolveFamily::V6),
    ("verify", |options| options.tls.verify = VerifyCertificate::No),
    ("ca_file", |options| options.tls.ca = Some(file("other.pem", b"ca"))),
    ("no ca_file", |options| options.tls.ca = None),
    ("server_name", |options| options.tls.server_name = Some("other.example".to_owned())),
    ("no server_name", |options| options.tls.server_name = None),
    ("no client", |options| options.tls.client = None),
    ("client certificate", |options| client(options).certificate = file("other.pem", b"certificate")),
    ("client key", |options| client(options).key = file("other.key", b"key")),
    ("min_version", |options| options.tls.min_version = TlsVersion::Tls13),
];

fn secret(path: &str, text: &str) -> ProbeHeader {
    ProbeHeader::of_file("a", SecretFile { path: PathBuf::from(path), text: text.to_owned() })
}

fn client(options: &mut ProbeOptions) -> &mut ClientIdentity {
    options.tls.client.as_mut().expect("the example has a client certificate")
}

#[test]
fn what_is_asked_matters_and_no_two_changes_look_alike() {
    let mut seen = HashMap::from([(CheckQuestion::of(&check(), &options()), "nothing")]);
    for (what, edit) in CHECK_EDITS {
        let mut changed = check();
        edit(&mut changed);
        assert_ne!(changed, check(), "{what} is a change");
        let before = seen.insert(CheckQuestion::of(&changed, &options()), what);
        assert_eq!(before, None, "{what}");
    }
    for (what, edit) in OPTION_EDITS {
        let mut changed = options();
        edit(&mut changed);
        let before = seen.insert(CheckQuestion::of(&check(), &changed), what);
        assert_eq!(before, None, "{what}");
    }
    assert_eq!(seen.len(), 1 + CHECK_EDITS.len() + OPTION_EDITS.len());
}

#[test]
fn how_often_it_is_asked_does_not_matter() {
    let question = CheckQuestion::of(&check(), &options());
    for (what, edit) in SAME_QUESTION {
        let mut changed = check();
        edit(&mut changed);
        assert_ne!(changed, check(), "{what} is a change");
        assert_eq!(CheckQuestion::of(&changed, &options()), question, "{what}");
    }
    for (what, edit) in SAME_OPTIONS {
        let mut changed = options();
        edit(&mut changed);
        assert_eq!(CheckQuestion::of(&check(), &changed), question, "{what}");
    }
}

#[test]
fn what_a_protocol_does_not_have_does_not_matter() {
    let tcp = HealthCheck { protocol: Protocol::Tcp, ..check() };
    let http = HealthCheck { protocol: Protocol::Http(http(&mut check()).clone()), ..check() };
    for (what, edit) in OPTION_EDITS {
        let mut changed = options();
        edit(&mut changed);
        // Which addresses are probed matters to every protocol.
        changed.resolve = ResolveFamily::Any;
        assert_eq!(CheckQuestion::of(&tcp, &changed), CheckQuestion::of(&tcp, &options()), "{what}");
        let is_http = (&changed.host, &changed.headers) != (&options().host, &options().headers);
        let is_same = CheckQuestion::of(&http, &changed) == CheckQuestion::of(&http, &options());
        assert_eq!(is_same, !is_http, "{what}");
    }
}

#[test]
fn a_renewed_certificate_asks_the_same() {
    let mut renewed = options();
    renewed.tls.ca = Some(file("ca.pem", b"another ca"));
    client(&mut renewed).certificate = file("client.pem", b"another certificate");
    client(&mut renewed).key = file("client.key", b"another key");
    assert_eq!(CheckQuestion::of(&check(), &renewed), CheckQuestion::of(&check(), &options()));
}

#[test]
fn a_renewed_secret_asks_the_same_and_so_does_one_marked_as_such() {
    let with = |header| {
        let options = ProbeOptions { headers: vec![header], ..options() };
        CheckQuestion::of(&check(), &options)
    };
    assert_eq!(with(secret("key", "b")), with(secret("key", "another")));
    assert_eq!(with(ProbeHeader::secret("a", "b")), with(ProbeHeader::plain("a", "b")));
    let printed = format!("{:?}", with(ProbeHeader::secret("a", "b")));
    assert!(printed.starts_with("CheckQuestion { bytes: ") && printed.len() < 40, "{printed}");
}

/// The bytes are kept on disk, hashed: whoever changes them raises `QUESTION_VERSION`.
#[test]
fn the_bytes_of_a_question() {
    let mut expected = vec![2, 0, 1];
    expected.extend(7_u64.to_le_bytes());
    expected.extend(b"/health");
    expected.push(0);
    for word in CodeSet::parse("200-299").unwrap().words() {
        expected.extend(word.to_le_bytes());
    }
    expected.push(0);
    expected.extend(0_u64.to_le_bytes());
    let http = HealthCheck { protocol: Protocol::Http(http(&mut check()).clone()), ..check() };
    assert_eq!(CheckQuestion::of(&http, &ProbeOptions::default()).as_bytes(), expected);
}

#[test]
fn the_bytes_of_a_definition_are_those_of_version_1() {
    let tcp = HealthCheck { protocol: Protocol::Tcp, ..check() };
    let mut expected = vec![1, 0];
    expected.extend(8443_u64.to_le_bytes());
    expected.extend([2, 3]);
    for number in [5_u64, 0, 2, 0] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend([0, 1]);
    expected.extend(7_u64.to_le_bytes());
    expected.extend(b"unknown");
    expected.push(0);
    expected.extend(0_u64.to_le_bytes());
    expected.extend([0, 0, 0, 0, 0, 0, 12]);
    assert_eq!(CheckDefinition::of(&tcp, &ProbeOptions::default()).as_bytes(), expected);
}
