//! How `status` and `reload` get to a daemon: TLS and Unix sockets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::support::{answer, command, run, vitald};

const GOOD: &str = r#"{"version":"0.1.0","started_at":"2026-01-01T00:00:00Z","ready":true,"channels":[
    {"name":"web","on_backup":false,"checked":false,"members":[
    {"address":"127.0.0.1:1","backup":false,"enabled":true,"weight":1,"health":"unknown","in_rotation":true}]}]}"#;

/// Answers one request on a socket; hands back its head.
fn serve_socket(path: &Path, body: &'static str) -> thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
        let head = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        stream.write_all(answer("200 OK", body).as_bytes()).expect("written");
        head
    })
}

#[test]
fn over_the_socket_that_is_named_or_configured() {
    let place = tempfile::tempdir().expect("tempdir");
    let socket = place.path().join("vitald.sock");
    let text = socket.to_str().expect("UTF-8");
    let server = serve_socket(&socket, GOOD);
    let outcome = vitald(&["status", "--socket", text]).expect_code(0);
    assert!(outcome.stdout.starts_with(&format!("healthy  {text}  vitald 0.1.0")), "{}", outcome.stdout);
    let head = server.join().expect("served");
    assert_eq!(head.first().map(String::as_str), Some("GET /v1/status HTTP/1.1"));
    assert!(head.iter().any(|line| line == "host: localhost"), "{head:?}");

    // Nobody serves it now.
    let outcome = vitald(&["status", "--socket", text]).expect_code(3);
    assert!(outcome.stderr.contains(text) && outcome.stderr.contains("refused"), "{}", outcome.stderr);
    std::fs::remove_file(&socket).expect("removed");
    let server = serve_socket(&socket, r#"{"channels":1,"members":2,"added":0,"removed":0,"restarted":0}"#);
    let config = place.path().join("vitald.toml");
    std::fs::write(&config, format!("[server]\nsocket = \"{text}\"\n")).expect("write");
    let outcome = run(command(&["reload"]).env("VITALD_CONFIG", &config)).expect_code(0);
    assert!(outcome.stdout.starts_with("reloaded: channels 1"), "{}", outcome.stdout);
    server.join().expect("served");
}

/// A daemon's certificate of its own authority, and the authority.
struct Certificates {
    authority: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn certificates() -> Certificates {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("good");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).expect("signed");
    let issuer = rcgen::Issuer::new(parameters, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned()];
    let own = rcgen::CertificateParams::new(names).expect("good").signed_by(&key, &issuer).expect("signed");
    Certificates {
        authority: authority.pem(),
        chain: vec![own.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

/// Serves TLS for as long as the test runs.
fn serve_tls(certificates: &Certificates, clients: Option<&str>) -> SocketAddr {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("good");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("good");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("good"))
        }
    };
    let config = builder.with_single_cert(certificates.chain.clone(), certificates.key.clone_key());
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("good")));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("set");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer("200 OK", GOOD).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
    });
    address
}

#[test]
fn over_tls_certificates_are_verified_where_somebody_may_be_between() {
    let place = tempfile::tempdir().expect("tempdir");
    let certificates = certificates();
    let authority = place.path().join("ca.pem");
    std::fs::write(&authority, &certificates.authority).expect("write");
    let authority = authority.to_str().expect("UTF-8");
    let address = serve_tls(&certificates, None);
    let by_name = format!("https://localhost:{}", address.port());
    let by_address = format!("https://{address}");

    let outcome = vitald(&["status", "--url", &by_name, "--ca-file", authority]).expect_code(0);
    assert!(outcome.stdout.starts_with(&format!("healthy  {by_name}")), "{}", outcome.stdout);
    // Unknown authority, another name, no authority, no TLS.
    let outcome = vitald(&["status", "--url", &by_address, "--ca-file", authority]).expect_code(3);
    assert!(outcome.stderr.contains("certificate"), "{}", outcome.stderr);
    let outcome = vitald(&["status", "--url", &by_name]).expect_code(3);
    assert!(outcome.stderr.contains("--ca-file"), "{}", outcome.stderr);
    let outcome = vitald(&["status", "--url", &by_name, "--ca-file", "absent.pem"]).expect_code(3);
    assert!(outcome.stderr.contains("--ca-file absent.pem: cannot be read"), "{}", outcome.stderr);
    let plain = format!("http://{address}");
    vitald(&["status", "--url", &plain, "--ca-file", authority]).expect_code(2);
    vitald(&["status", "--url", &plain]).expect_code(3);

    // The configuration's daemon is on this machine: nobody is between.
    let config = place.path().join("vitald.toml");
    let tls = "[server.tls]\ncertificate = \"x\"\nkey = \"y\"\n";
    std::fs::write(&config, format!("[server]\nlisten = \"{address}\"\n{tls}")).expect("write");
    let outcome = run(command(&["status"]).env("VITALD_CONFIG", &config)).expect_code(0);
    assert!(outcome.stdout.starts_with(&format!("healthy  {by_address}")), "{}", outcome.stdout);
}

#[test]
fn a_daemon_that_wants_certificates_is_asked_over_its_socket() {
    let certificates = certificates();
    let address = serve_tls(&certificates, Some(&certificates.authority));
    let place = tempfile::tempdir().expect("tempdir");
    let authority = place.path().join("ca.pem");
    std::fs::write(&authority, &certificates.authority).expect("write");
    let url = format!("https://localhost:{}", address.port());
    let outcome = vitald(&["status", "--url", &url, "--ca-file", authority.to_str().expect("UTF-8")]);
    let outcome = outcome.expect_code(3);
    assert!(outcome.stderr.contains("--socket"), "{}", outcome.stderr);
}
