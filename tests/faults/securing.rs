//! Cases of HTTPS: certificates, handshakes that end badly, and answers inside TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, PKCS_ECDSA_P521_SHA512, date_time_ymd,
};
use rustls::ServerConfig;

use crate::case::{Case, https};
use crate::identities::{
    Authority, Clients, Identity, Speaks, params, server, server_of_one_name, server_of_uncommon_key,
    server_with_a_foreign_key,
};
use crate::peer::Step;
use crate::uncommon::Uncommon;

const NAME: &str = "app.internal";
const TLS_SILENCE: &str = "connected, but no TLS handshake within 1s";

/// The certificates of the table.
struct Identities {
    root: Authority,
    stranger: Authority,
    good: Identity,
}

/// The cases; their files are written into `folder`.
pub(crate) fn cases(folder: &Path) -> Vec<Case> {
    let root = Authority::root("root");
    let good = root.issue(&params(&[NAME]));
    let own = Identities { stranger: Authority::root("stranger"), root, good };
    std::fs::write(folder.join("ca.pem"), &own.root.pem).expect("a folder to write to");
    own.root.issue(&params(&["client"])).write(folder, "client");
    own.stranger.issue(&params(&["client"])).write(folder, "stranger");
    let mut cases = certificates(&own);
    cases.extend(keys_and_paths(&own, folder));
    cases.extend(clients(&own));
    cases.extend(handshakes(&own));
    cases.extend(without_tls());
    cases.extend(inside(&own));
    cases
}

fn ok() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
}

fn send(bytes: &[u8]) -> Step {
    Step::Send(bytes.to_vec())
}

fn tls(config: ServerConfig) -> Step {
    Step::Tls(Arc::new(config))
}

fn plain(identity: &Identity) -> Step {
    tls(server(identity, Speaks::Both, &Clients::Anybody))
}

trait Verified {
    /// Verifies against the root, under the usual name.
    fn verified(self) -> Self;
}

impl Verified for Case {
    fn verified(self) -> Self {
        self.option("host = \"app.internal\"\ntls = { verify = true, ca_file = \"ca.pem\" }")
    }
}

fn certificates(own: &Identities) -> Vec<Case> {
    let shows = |name, about, identity: &Identity| {
        https(name, about).plays([plain(identity), Step::ReadRequest, ok()])
    };
    let mut expired = params(&[NAME]);
    expired.not_after = date_time_ymd(2021, 6, 30);
    let mut future = params(&[NAME]);
    future.not_before = date_time_ymd(2080, 1, 1);
    let mut for_clients = params(&[NAME]);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let own_signed = Identity::self_signed(&params(&[NAME]));
    let between = own.root.intermediate("between");
    let through = between.issue(&params(&[NAME]));
    let refused = "tls_certificate";
    vec![
        shows("cert-good", "a good certificate, verified", &own.good).verified().up("200 OK"),
        shows("cert-expired", "an expired certificate", &own.root.issue(&expired))
            .verified()
            .down(refused, "certificate expired 2021-06-30"),
        shows("cert-expired-unverified", "an expired certificate, not verified", &own.root.issue(&expired))
            .up("200 OK"),
        shows("cert-not-yet", "a certificate of the future", &own.root.issue(&future))
            .verified()
            .down(refused, "certificate not valid before 2080-01-01"),
        shows(
            "cert-not-yet-unverified",
            "a certificate of the future, not verified",
            &own.root.issue(&future),
        )
        .up("200 OK"),
        shows(
            "cert-wrong-name",
            "a certificate of another name",
            &own.root.issue(&params(&["other.internal"])),
        )
        .verified()
        .down(refused, "certificate not valid for name app.internal"),
        shows("cert-wrong-address", "a certificate of a name where an address is asked for", &own.good)
            .option("tls = { verify = true, ca_file = \"ca.pem\", server_name = \"192.0.2.1\" }")
            .down(refused, "certificate not valid for address 192.0.2.1"),
        shows("cert-wildcard", "a wildcard certificate", &own.root.issue(&params(&["*.apps.internal"])))
            .option("host = \"web.apps.internal\"\ntls = { verify = true, ca_file = \"ca.pem\" }")
            .up("200 OK"),
        shows("cert-self-signed", "a self-signed certificate", &own_signed)
            .verified()
            .down(refused, "self-signed certificate"),
        shows("cert-self-signed-unverified", "a self-signed certificate, not verified", &own_signed)
            .up("200 OK"),
        shows(
            "cert-unknown-ca",
            "a certificate of an unknown authority",
            &own.stranger.issue(&params(&[NAME])),
        )
        .verified()
        .down(refused, "certificate from an unknown issuer"),
        shows("cert-chain", "a certificate with its intermediate", &through).verified().up("200 OK"),
        shows(
            "cert-chain-missing",
            "a certificate without its intermediate",
            &through.clone().without_chain(),
        )
        .verified()
        .down(refused, "certificate from an unknown issuer"),
        shows("cert-for-clients", "a certificate for clients only", &own.root.issue(&for_clients))
            .verified()
            .down(refused, "certificate is not for servers"),
        https("cert-foreign-key", "a certificate whose key it does not have")
            .plays([tls(server_with_a_foreign_key(&own.good, &own_signed)), Step::ReadRequest, ok()])
            .down("tls_handshake", "the member does not hold the key of its certificate"),
        shows("cert-no-name-needed", "a certificate of another name, not verified", &own.good).up("200 OK"),
    ]
}

/// Keys, chains and listed certificates out of the common.
fn keys_and_paths(own: &Identities, folder: &Path) -> Vec<Case> {
    let shows = |name, about, identity: &Identity| {
        https(name, about).plays([plain(identity), Step::ReadRequest, ok()])
    };
    let uncommon = |name, about, kind| {
        https(name, about).plays([tls(server_of_uncommon_key(kind)), Step::ReadRequest, ok()])
    };
    let listed = |name: &'static str, about, params: &CertificateParams| {
        let identity = Identity::self_signed(params);
        identity.write(folder, name);
        shows(name, about, &identity)
            .option(&format!("host = \"{NAME}\"\ntls = {{ verify = true, ca_file = \"{name}.pem\" }}"))
    };
    let mut ca = params(&[NAME]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut past = ca.clone();
    past.not_after = date_time_ymd(2021, 6, 30);
    let mut nameless = params(&[]);
    nameless.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut deepest = own.root.intermediate("1");
    for name in ["2", "3", "4", "5", "6"] {
        deepest = deepest.intermediate(name);
    }
    let too_deep = deepest.intermediate("7").issue(&params(&[NAME]));
    let needless: Vec<Identity> = (0..13).map(|_| own.stranger.issue(&params(&["other.internal"]))).collect();
    let twenty = deepest.issue(&params(&[NAME])).with_needless(&needless);
    assert_eq!(twenty.shown(), 20);
    let refused = "tls_certificate";
    vec![
        uncommon("key-rsa-1024", "an RSA key of 1024 bits, not verified", Uncommon::Rsa1024).up("200 OK"),
        uncommon("key-ed448", "an Ed448 key, not verified", Uncommon::Ed448).up("200 OK"),
        shows(
            "key-p521",
            "a P-521 key, verified",
            &own.root.issue_for(&params(&[NAME]), &PKCS_ECDSA_P521_SHA512),
        )
        .verified()
        .up("200 OK"),
        listed("cert-listed", "a CA's certificate, listed in `ca_file` as its own", &ca).up("200 OK"),
        listed("cert-listed-expired", "an expired certificate, listed in `ca_file`", &past)
            .down(refused, "certificate expired 2021-06-30"),
        listed("cert-nameless", "a certificate with a CN and no other name", &nameless)
            .down(refused, "certificate has no subjectAltName; its CN alone is not a name"),
        shows("cert-twenty", "20 certificates in the wrong order, 13 of them needless", &twenty)
            .verified()
            .up("200 OK"),
        shows("cert-too-deep", "a path over 7 authorities", &too_deep)
            .verified()
            .down(refused, "the path of certificates is deeper than 6 authorities"),
    ]
}

fn clients(own: &Identities) -> Vec<Case> {
    let wants = |name, about, speaks| {
        let config = server(&own.good, speaks, &Clients::SignedBy(&own.root));
        https(name, about).plays([tls(config), Step::ReadRequest, ok()])
    };
    let presents = |case: Case, file: &str| {
        case.check("enable_client_ssl = true")
            .option(&format!("tls = {{ client_certificate = \"{file}.pem\", client_key = \"{file}.key\" }}"))
    };
    let alert = |name| format!("the member ended the TLS session: alert {name}");
    vec![
        presents(
            wants("client-cert-given", "wants a client certificate and gets it", Speaks::Both),
            "client",
        )
        .up("200 OK"),
        wants("client-cert-missing-1.3", "wants a client certificate over TLS 1.3", Speaks::Only13)
            .down("tls_handshake", &alert("certificate_required"))
            .phases("connect+tls"),
        wants("client-cert-missing-1.2", "wants a client certificate over TLS 1.2", Speaks::Only12)
            .down("tls_handshake", &alert("certificate_required")),
        presents(
            wants("client-cert-refused-1.3", "refuses the client certificate over TLS 1.3", Speaks::Only13),
            "stranger",
        )
        .down("tls_handshake", &alert("unknown_ca"))
        .phases("connect+tls"),
        presents(
            wants("client-cert-refused-1.2", "refuses the client certificate over TLS 1.2", Speaks::Only12),
            "stranger",
        )
        .down("tls_handshake", &alert("unknown_ca")),
    ]
}

fn handshakes(own: &Identities) -> Vec<Case> {
    let of =
        |name, about, config: ServerConfig| https(name, about).plays([tls(config), Step::ReadRequest, ok()]);
    let good = |speaks| server(&own.good, speaks, &Clients::Anybody);
    let first = |name, about, change: fn(Vec<u8>) -> Vec<u8>, then: Step| {
        https(name, about).plays([Step::FirstFlight(Arc::new(good(Speaks::Both)), change), then])
    };
    let mut with_alpn = good(Speaks::Both);
    with_alpn.alpn_protocols = vec![b"h2".to_vec()];
    let alert = |name, about, number: u8, word: &str| {
        https(name, about)
            .plays([Step::ReadSome, Step::Send(vec![0x15, 3, 3, 0, 2, 2, number]), Step::Hold])
            .down("tls_handshake", &format!("the member ended the TLS session: alert {word}"))
    };
    let ended = "closed by the member during the TLS handshake";
    let reset = "reset by the member during the TLS handshake";
    vec![
        of("tls-1.2-only", "speaks TLS 1.2 only", good(Speaks::Only12)).up("200 OK"),
        of("tls-1.3-only", "speaks TLS 1.3 only", good(Speaks::Only13)).up("200 OK"),
        of("tls-too-old", "speaks TLS 1.2 where 1.3 is wanted", good(Speaks::Only12))
            .option("tls = { min_version = \"1.3\" }")
            .down(
                "tls_handshake",
                "the member ended the TLS session: alert protocol_version; vitald offers TLS 1.3",
            ),
        https("tls-1.1-only", "speaks TLS 1.1 only")
            .plays([Step::ReadSome, Step::Send(old_hello()), Step::Hold])
            .down("tls_handshake", "the member speaks TLS 1.1; vitald offers TLS 1.2 and 1.3"),
        of("tls-alpn-h2", "offers HTTP/2 by ALPN", with_alpn).up("200 OK"),
        of("tls-sni-known", "knows only the name that is asked for", server_of_one_name(&own.good, NAME))
            .option("host = \"app.internal\"")
            .up("200 OK"),
        of("tls-sni-refused", "knows only another name", server_of_one_name(&own.good, NAME))
            .option("host = \"other.internal\"")
            .down("tls_handshake", "the member ended the TLS session: alert access_denied"),
        of(
            "tls-sni-absent",
            "knows only a name, and is asked for an address",
            server_of_one_name(&own.good, NAME),
        )
        .down("tls_handshake", "the member ended the TLS session: alert access_denied"),
        https("tls-closed-at-once", "closes at once").plays([Step::Close]).down("tls_handshake", reset),
        https("tls-ended-at-once", "ends its direction at once")
            .plays([Step::HalfClose])
            .down("tls_handshake", ended),
        https("tls-closed-after-hello", "reads the hello and closes")
            .plays([Step::ReadSome, Step::Close])
            .down("tls_handshake", ended),
        https("tls-reset-after-hello", "reads the hello and resets")
            .plays([Step::ReadSome, Step::Reset])
            .down("tls_handshake", reset),
        https("tls-silent", "reads the hello and says nothing")
            .plays([Step::ReadSome, Step::Hold])
            .down("tls_timeout", TLS_SILENCE),
        first("tls-half-flight", "half of its first flight and then nothing", half, Step::Hold)
            .down("tls_timeout", TLS_SILENCE),
        first("tls-half-flight-closed", "half of its first flight and then the end", half, Step::HalfClose)
            .down("tls_handshake", ended),
        first("tls-broken-flight", "a first flight with a byte changed", broken, Step::Hold)
            .down("tls_handshake", "a message of the TLS handshake cannot be decrypted"),
        https("tls-drips", "its first flight, one byte each 20 ms")
            .plays([
                Step::ReadSome,
                Step::Drip(vec![0x16, 3, 3, 0x10, 0], Duration::from_millis(20)),
                Step::Drip(vec![0; 4096], Duration::from_millis(20)),
            ])
            .down("tls_timeout", TLS_SILENCE),
        https("tls-endless", "handshake records without end")
            .plays([Step::ReadSome, Step::Flood(endless_record())])
            .down("tls_handshake", "a message of the TLS handshake is too large"),
        alert(
            "tls-alert-handshake",
            "alert handshake_failure",
            40,
            "handshake_failure; vitald offers TLS 1.2 and 1.3 with ECDHE and AES-GCM or ChaCha20",
        ),
        alert(
            "tls-alert-version",
            "alert protocol_version",
            70,
            "protocol_version; vitald offers TLS 1.2 and 1.3",
        ),
        alert(
            "tls-alert-alpn",
            "alert no_application_protocol",
            120,
            "no_application_protocol: it wants another protocol, such as HTTP/2 alone; vitald speaks HTTP/1.1",
        ),
        alert("tls-alert-name", "alert unrecognized_name", 112, "unrecognized_name"),
        alert("tls-alert-internal", "alert internal_error", 80, "internal_error"),
        alert("tls-alert-unknown", "an alert that nobody knows", 199, "199"),
    ]
}

/// A ServerHello of TLS 1.1.
fn old_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0xc0, 0x13, 0]);
    hello
}

fn half(mut flight: Vec<u8>) -> Vec<u8> {
    flight.truncate(flight.len() / 2);
    flight
}

/// The last byte belongs to an encrypted record.
fn broken(mut flight: Vec<u8>) -> Vec<u8> {
    if let Some(last) = flight.last_mut() {
        *last ^= 1;
    }
    flight
}

/// A handshake message of the type "certificate" that never ends.
fn endless_record() -> Vec<u8> {
    let mut record = vec![0x16, 3, 3, 0x40, 0];
    record.extend_from_slice(&[0x0b, 0xff, 0xff, 0xff]);
    record.resize(5 + 0x4000, 0);
    record
}

/// Members that do not speak TLS at all.
fn without_tls() -> Vec<Case> {
    let not_tls = "the member does not speak TLS";
    vec![
        https("plain-http-eager", "plain HTTP that answers what it does not understand")
            .plays([Step::ReadSome, send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Step::Close])
            .down("tls_handshake", "the member speaks plain HTTP: \"HTTP/1.1 400 Bad Request\""),
        https("plain-http-waiting", "plain HTTP that waits for the end of a request")
            .plays([Step::ReadRequest, ok()])
            .down("tls_timeout", TLS_SILENCE),
        https("plain-ssh", "an SSH server")
            .plays([send(b"SSH-2.0-OpenSSH_9.2\r\n"), Step::Hold])
            .down("tls_handshake", not_tls),
        https("plain-smtp", "a mail server")
            .plays([send(b"220 mail.example ESMTP\r\n"), Step::Hold])
            .down("tls_handshake", not_tls),
        https("plain-echo", "an echo server").plays([Step::Echo]).down(
            "tls_handshake",
            "the member answers with a ClientHello: it sends back what it gets, or is a TLS client",
        ),
        https("plain-zeros", "zeros").plays([send(&[0; 64]), Step::Hold]).down("tls_handshake", not_tls),
    ]
}

/// What happens once the session stands.
fn inside(own: &Identities) -> Vec<Case> {
    let session = || plain(&own.good);
    let after = |name, about, steps: &[Step]| {
        let mut script = vec![session(), Step::ReadRequest];
        script.extend_from_slice(steps);
        https(name, about).plays(script)
    };
    let silence = "connected, but no whole response head within 1s";
    let wait = Step::Pause(Duration::from_millis(50));
    vec![
        after("inside-500", "500", &[send(b"HTTP/1.1 500 Odd\r\n\r\n")]).down("status", "500 Odd"),
        after("inside-silent", "reads the request and says nothing", &[Step::Hold])
            .down("response_timeout", silence),
        https("inside-never-reads", "shakes hands and does nothing more")
            .plays([session(), Step::Pause(Duration::from_secs(3600))])
            .down("response_timeout", silence),
        after(
            "inside-half-head",
            "half a head and then nothing",
            &[send(b"HTTP/1.1 200 OK\r\n"), Step::Hold],
        )
        .down("response_timeout", silence),
        after("inside-close-notify", "ends the session in order before it answers", &[Step::HalfClose])
            .down("closed", "closed by the member before it answered"),
        after("inside-cut", "closes without a word", &[Step::Close])
            .down("closed", "closed by the member before it answered"),
        after("inside-cut-in-head", "closes inside the head", &[send(b"HTTP/1.1 200"), Step::Close])
            .down("closed", "closed by the member inside the response head"),
        after("inside-reset", "resets", &[Step::Reset]).down("reset", "connection reset by the member"),
        after(
            "inside-no-close-notify",
            "answers and closes without ending the session",
            &[ok(), Step::Close],
        )
        .up("200 OK"),
        after("inside-answer-then-reset", "answers and resets", &[ok(), wait, Step::Reset]).up("200 OK"),
        after("inside-not-http", "something that is not HTTP", &[send(b"nonsense\r\n")])
            .down("protocol", "the answer is not HTTP/1.x: it begins with \"nonsense\""),
        after("inside-broken-record", "a record that cannot be decrypted", &[Step::SendRaw(broken_record())])
            .down("protocol", "a broken TLS record: it cannot be decrypted"),
        after(
            "inside-plain-text",
            "plain text past the session",
            &[Step::SendRaw(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())],
        )
        .down("protocol", "a broken TLS record: what came is not TLS"),
        after(
            "inside-alert",
            "alert internal_error past the session",
            &[Step::SendRaw(vec![0x15, 3, 3, 0, 2, 2, 80])],
        )
        .down("protocol", "a broken TLS record: it cannot be decrypted"),
        after(
            "inside-endless-head",
            "a head without end",
            &[send(b"HTTP/1.1 200 OK\r\nX: "), Step::Flood(vec![b'x'; 4096])],
        )
        .down("protocol", "no end of the response head within 65536 bytes"),
        after("inside-http2", "HTTP/2 alone", &[send(b"\0\0\0\x04\0\0\0\0\0"), Step::Hold])
            .down("protocol", "the member speaks HTTP/2 alone; vitald speaks HTTP/1.1"),
        after("inside-interim", "100 and then 200", &[send(b"HTTP/1.1 100 Continue\r\n\r\n"), ok()])
            .up("200 OK"),
        after(
            "inside-drips",
            "a good answer, one byte each 100 ms",
            &[Step::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Duration::from_millis(100)), Step::Hold],
        )
        .down("response_timeout", silence),
    ]
}

/// A record of application data that no key has made.
fn broken_record() -> Vec<u8> {
    let mut record = vec![0x17, 3, 3, 0, 64];
    record.resize(5 + 64, 0x5a);
    record
}
