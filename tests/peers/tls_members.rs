//! HTTPS members of the kinds that only openssl can make: keys that the TLS library does
//! not know or thinks too short, versions and suites of long ago, and renegotiation. And
//! the first handshake of a daemon.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::address::own_address;
use crate::support::config::{member, pace};
use crate::support::daemon::vitald;
use crate::support::process::{Process, peer_program};
use crate::support::{Daemon, channel, wait};

const PORT: u16 = 8443;

/// openssl, and a folder for what it makes.
struct Openssl {
    program: PathBuf,
    folder: TempDir,
    ip: Ipv4Addr,
}

impl Openssl {
    fn find() -> Option<Self> {
        let program = peer_program("openssl")?;
        Some(Self { program, folder: tempfile::tempdir().expect("a temporary folder"), ip: own_address() })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs it in the folder, with arguments that hold no blanks.
    fn run(&self, arguments: &str) {
        let output = Command::new(&self.program)
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .output()
            .expect("openssl can be started");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `NAME.key`, by the arguments of `genpkey`.
    fn key(&self, name: &str, kind: &str) {
        self.run(&format!("genpkey {kind} -out {name}.key"));
    }

    /// `NAME.pem` for `NAME.key`, signed by itself, with these arguments of `req`.
    fn certificate(&self, name: &str, more: &str) {
        self.run(&format!("req -x509 -key {name}.key -out {name}.pem -subj /CN={name} -days 30{more}"));
    }

    /// `NAME.pem` for `NAME.key`, signed by another.
    fn signed_certificate(&self, name: &str, by: &str, more: &str) {
        fs::write(self.path("names"), format!("subjectAltName=IP:{}\n", self.ip)).expect("a folder");
        self.run(&format!("req -new -key {name}.key -out {name}.csr -subj /CN={name}"));
        self.run(&format!(
            "x509 -req -in {name}.csr -out {name}.pem -CA {by}.pem -CAkey {by}.key -set_serial 2 -days 30 \
             -extfile names{more}"
        ));
    }

    fn server(&self, name: &str, more: &str) -> Command {
        let mut command = Command::new(&self.program);
        let accept = format!("{}:{PORT}", self.ip);
        command
            .args(["s_server", "-accept", &accept, "-cert", &format!("{name}.pem")])
            .args(["-key", &format!("{name}.key")])
            .args(more.split_ascii_whitespace())
            .current_dir(self.folder.path());
        command
    }

    /// Probes `openssl s_server` with this certificate once; the probe of `--json`.
    fn probe(&self, name: &str, server: &str, prober: &[&str]) -> Value {
        let mut command = self.server(name, &format!("-www -cipher DEFAULT:@SECLEVEL=0 {server}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let _member = Process::new(command.spawn().expect("openssl can be started"));
        self.wait_until_it_listens();
        let url = format!("https://{}:{PORT}/", self.ip);
        let output = vitald()
            .args(["probe", &url, "--explain", "--json", "--timeout", "10s"])
            .args(prober)
            .output()
            .expect("vitald can be started");
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json.pointer("/probes/0").cloned().expect("one probe")
    }

    fn wait_until_it_listens(&self) {
        wait::until("openssl s_server", || TcpStream::connect((self.ip, PORT)).ok());
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[track_caller]
fn fails(probe: &Value, reason: &str, detail: &str) {
    assert_eq!((text(probe, "/reason"), text(probe, "/detail")), (reason, detail), "{probe:#}");
}

/// The key of the certificate is used where it can be, and else believed, and that is said.
#[test]
fn no_key_of_a_member_fails_a_check_that_verifies_nothing() {
    let Some(openssl) = Openssl::find() else { return };
    let rsa = "-algorithm RSA -pkeyopt rsa_keygen_bits:";
    let pss = "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:";
    let ec = "-algorithm EC -pkeyopt ec_paramgen_curve:";
    // The name, how it is made, arguments of the server, and what could not be used.
    let cases = [
        ("rsa512", format!("{rsa}512"), "-tls1_2", "an RSA key of 512 bits"),
        ("rsa768", format!("{rsa}768"), "-tls1_2", "an RSA key of 768 bits"),
        ("rsa768", String::new(), "-tls1_3", "an RSA key of 768 bits"),
        ("rsa1024", format!("{rsa}1024"), "-tls1_2", "an RSA key of 1024 bits"),
        ("rsa1024", String::new(), "-tls1_3", "an RSA key of 1024 bits"),
        // As a member signs that knows nothing of PSS: that can be proved.
        ("rsa1024", String::new(), "-tls1_2 -sigalgs rsa_pkcs1_sha256", ""),
        ("rsa1024", String::new(), "-tls1_2 -sigalgs RSA+SHA1", ""),
        ("rsa1536", format!("{rsa}1536"), "-tls1_3", "an RSA key of 1536 bits"),
        ("rsa2048", format!("{rsa}2048"), "-tls1_2", ""),
        ("rsa2048", String::new(), "-tls1_3", ""),
        ("p521", format!("{ec}P-521"), "-tls1_3", ""),
        ("p384", format!("{ec}P-384"), "-tls1_2", ""),
        ("ed25519", "-algorithm ED25519".to_owned(), "-tls1_2", ""),
        ("ed448", "-algorithm ED448".to_owned(), "-tls1_3", "an Ed448 key"),
        ("ed448", String::new(), "-tls1_2", "an Ed448 key"),
        ("pss2048", format!("{pss}2048"), "-tls1_3", ""),
        ("pss1024", format!("{pss}1024"), "-tls1_3", "an RSA key of 1024 bits"),
    ];
    for (name, kind, server, unproven) in cases {
        if !kind.is_empty() {
            openssl.key(name, &kind);
            openssl.certificate(name, "");
        }
        let probe = openssl.probe(name, server, &[]);
        assert_eq!(text(&probe, "/result"), "success", "{name} {server}: {probe:#}");
        assert_eq!(text(&probe, "/explanation/tls/unproven_key"), unproven, "{name} {server}");
    }
    let probe = openssl.probe("pss2048", "-tls1_2", &[]);
    let detail = "the member's key is for RSA-PSS alone: vitald can use it over TLS 1.3, not over 1.2";
    fails(&probe, "tls_handshake", detail);
}

#[test]
fn chains_of_p521_and_rsa_pss_are_verified() {
    let Some(openssl) = Openssl::find() else { return };
    let pss_parameters = "-pkeyopt rsa_pss_keygen_md:sha256 -pkeyopt rsa_pss_keygen_mgf1_md:sha256 \
                          -pkeyopt rsa_pss_keygen_saltlen:32";
    openssl.key("any-pss", "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048");
    openssl.key("one-pss", &format!("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 {pss_parameters}"));
    openssl.key("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048");
    openssl.key("p521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521");
    openssl.key("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    let signs = [
        ("any-pss", " -sha384 -sigopt rsa_pss_saltlen:48"),
        ("one-pss", " -sha256 -sigopt rsa_pss_saltlen:32"),
        ("rsa", " -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:64"),
        ("p521", " -sha512"),
        ("p256", " -sha512"),
    ];
    for (authority, how) in signs {
        openssl.certificate(authority, how);
        for (leaf, kind) in [("leaf-p521", "P-521"), ("leaf-p384", "P-384")]
            .map(|(leaf, curve)| (leaf, format!("EC -pkeyopt ec_paramgen_curve:{curve}")))
        {
            openssl.key(leaf, &format!("-algorithm {kind}"));
            openssl.signed_certificate(leaf, authority, how);
            let file = openssl.path(&format!("{authority}.pem"));
            let probe = openssl.probe(leaf, "-tls1_3", &["--verify", "--ca-file", &file]);
            assert_eq!(text(&probe, "/result"), "success", "{leaf} by {authority}: {probe:#}");
            assert_eq!(text(&probe, "/explanation/tls/unproven_key"), "");
        }
    }
    // A key that is too short proves nothing where certificates are verified.
    openssl.key("short", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024");
    openssl.signed_certificate("short", "rsa", " -sha256");
    let probe = openssl.probe("short", "-tls1_3", &["--verify", "--ca-file", &openssl.path("rsa.pem")]);
    let detail = "the member signs with what cannot be verified: an RSA key of 1024 bits";
    fails(&probe, "tls_handshake", detail);
}

/// `openssl req -x509` as everybody types it: a certificate of a CA.
#[test]
fn a_certificate_listed_in_ca_file_is_accepted_as_the_members_own() {
    let Some(openssl) = Openssl::find() else { return };
    openssl.key("own", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    openssl.certificate("own", &format!(" -addext subjectAltName=IP:{}", openssl.ip));
    let own = openssl.path("own.pem");
    let probe = openssl.probe("own", "", &["--verify", "--ca-file", &own]);
    assert_eq!(text(&probe, "/result"), "success", "{probe:#}");
    let wrong = openssl.probe("own", "", &["--verify", "--ca-file", &own, "--server-name", "app.internal"]);
    fails(&wrong, "tls_certificate", "certificate not valid for name app.internal");
    openssl.key("nameless", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    openssl.certificate("nameless", "");
    let nameless = openssl.path("nameless.pem");
    let probe = openssl.probe("nameless", "", &["--verify", "--ca-file", &nameless]);
    let detail = "certificate has no subjectAltName; its CN alone is not a name";
    fails(&probe, "tls_certificate", detail);
}

#[test]
fn a_member_of_old_versions_or_suites_is_told_what_vitald_offers() {
    let Some(openssl) = Openssl::find() else { return };
    openssl.key("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048");
    openssl.certificate("rsa", "");
    let suites = "the member ended the TLS session: alert handshake_failure; \
                  vitald offers TLS 1.2 and 1.3 with ECDHE and AES-GCM or ChaCha20";
    let versions = "the member ended the TLS session: alert protocol_version; vitald offers TLS 1.2 and 1.3";
    for (server, detail) in [
        ("-tls1", versions),
        ("-tls1_1", versions),
        ("-tls1_2 -cipher AES128-SHA:@SECLEVEL=0", suites),
        ("-tls1_2 -cipher ECDHE-RSA-AES128-SHA:@SECLEVEL=0", suites),
        ("-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0", suites),
    ] {
        let probe = openssl.probe("rsa", server, &[]);
        fails(&probe, "tls_handshake", detail);
        let offered = |list: &str| probe.pointer(&format!("/explanation/tls/offered/{list}")).cloned();
        assert_eq!(offered("groups"), Some(serde_json::json!(["X25519", "secp256r1", "secp384r1"])));
        assert_eq!(offered("versions"), Some(serde_json::json!(["TLS 1.3", "TLS 1.2"])));
        assert!(offered("suites").is_some_and(|suites| suites.as_array().is_some_and(|all| all.len() == 9)));
    }
    let probe = openssl.probe("rsa", "-tls1_2", &["--min-tls", "1.3"]);
    fails(
        &probe,
        "tls_handshake",
        "the member ended the TLS session: alert protocol_version; vitald offers TLS 1.3",
    );
}

#[test]
fn a_member_that_asks_to_renegotiate_is_named_as_such() {
    let Some(openssl) = Openssl::find() else { return };
    openssl.key("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    openssl.certificate("p256", "");
    let mut command = openssl.server("p256", "-tls1_2");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl can be started");
    let (mut input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let _member = Process::new(child);
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("ACCEPT")), "it listens");
    let url = format!("https://{}:{PORT}/", openssl.ip);
    let prober = vitald()
        .args(["probe", &url, "--json", "--timeout", "10s"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("vitald can be started");
    assert!(lines.any(|line| line.starts_with("GET / ")), "the request came");
    // Its command for a new handshake.
    input.write_all(b"r\n").expect("openssl reads");
    let output = prober.wait_with_output().expect("vitald ends");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let detail = "the member asked to renegotiate; vitald does not (alert handshake_failure)";
    fails(json.pointer("/probes/0").expect("one probe"), "tls_handshake", detail);
}

/// Client keys: those that the library has, and for the others an error that names them.
#[test]
fn a_client_key_of_a_kind_that_cannot_sign_is_an_error_of_the_configuration() {
    let Some(openssl) = Openssl::find() else { return };
    let kinds = [
        ("p521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521", true),
        ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048", true),
        ("ed25519", "-algorithm ED25519", true),
        ("pss", "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", false),
        ("ed448", "-algorithm ED448", false),
        ("short", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024", false),
    ];
    for (name, kind, is_good) in kinds {
        openssl.key(name, kind);
        openssl.certificate(name, "");
        let config = Path::new(&openssl.path("vitald.toml")).to_owned();
        let identity = format!("{{ certificate = \"{name}.pem\", key = \"{name}.key\" }}");
        fs::write(&config, format!("[tls]\nbackend_client_certificate = {identity}\n")).expect("a folder");
        let output =
            vitald().arg("check").arg("--config").arg(&config).output().expect("vitald can be started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), is_good, "{name}: {said}");
        assert_eq!(said.contains("use RSA of 2048 to 8192 bits"), !is_good, "{name}: {said}");
    }
}

/// The first probe of a daemon is the first handshake of its process.
#[test]
fn the_first_probe_of_a_daemon_is_as_quick_as_the_others() {
    let listener = TcpListener::bind((own_address(), 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let _ = socket.read(&mut [0; 4096]);
            // A fatal alert, internal_error.
            let _ = socket.write_all(b"\x15\x03\x03\0\x02\x02\x50");
        }
    });
    let check =
        format!("protocol = \"HTTPS\"\npath = \"/\"\nhttp_code = \"200\"\n{}", pace(2, 2, "5s", "1s"));
    let channel = channel("tls", &check, &[member(address.ip(), address.port())]);
    // One of three, as the machine may do something else in a millisecond.
    let quickest = (0..3)
        .map(|_| {
            let daemon = Daemon::start(&channel);
            let json = wait::until("the first probe", || {
                let json = daemon.json("/v1/channels/tls");
                json.pointer("/members/0/last_probe/seconds").is_some_and(Value::is_f64).then_some(json)
            });
            let seconds = json.pointer("/members/0/last_probe/seconds").and_then(Value::as_f64);
            seconds.expect("a time")
        })
        .fold(f64::INFINITY, f64::min);
    // Gathering entropy takes 40 ms and more; all of this probe about one.
    assert!(quickest < 0.025, "{quickest} s");
}
