//! Real handshakes: certificates, replacing them, client authorities, limits.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Extension;
use axum::Router;
use axum::routing::get;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::channel::{ClientIdentity, Host, PemFile};
use crate::config::AccessSettings;
use crate::serve::peer::ConnectionInfo;
use crate::serve::{Access, Limits, Listener, run};

/// A certificate that vouches for itself and for others.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn identity(&self) -> ClientIdentity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["vitald.internal".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        ClientIdentity { certificate: file(&certificate.pem()), key: file(&key.serialize_pem()) }
    }

    fn server(&self, client_ca: Option<&Self>) -> ServerTlsSettings {
        ServerTlsSettings { identity: self.identity(), client_ca: client_ca.map(|ca| file(&ca.pem)) }
    }
}

fn file(pem: &str) -> PemFile {
    PemFile { path: PathBuf::from("test.pem"), pem: pem.as_bytes().into() }
}

/// A server that answers what it knows of its client.
fn serve(tls: &Tls, listener: TcpListener, limits: Limits) -> CancellationToken {
    let stop = CancellationToken::new();
    let router = Router::new().route(
        "/",
        get(|Extension(origin): Extension<ConnectionInfo>| async move { format!("{:?}", origin.transport) }),
    );
    let hosts = vec![Host::Name("vitald.internal".into())];
    let access = Access::new(&AccessSettings { hosts, ..AccessSettings::default() });
    let audit = crate::serve::Audit::new(crate::serve::AuditedCalls::OwnPages);
    tokio::spawn(run(
        Listener::Tcp(listener, Some(tls.clone())),
        router,
        stop.clone(),
        limits,
        access,
        audit,
    ));
    stop
}

/// A client that trusts one authority and may show a certificate.
async fn connect(
    address: SocketAddr,
    trusted: &Authority,
    identity: Option<&ClientIdentity>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> io::Result<client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem.as_bytes()).expect("PEM")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(tls_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(&identity.certificate.pem).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(&identity.key.pem).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    let name = ServerName::try_from("vitald.internal").expect("a name");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn ask(stream: &mut client::TlsStream<TcpStream>) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: vitald.internal\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"Tls") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[tokio::test]
async fn new_certificates_serve_new_connections_and_open_ones_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Tls::new(&old.server(None)).expect("good files");
    let (listener, address) = listener().await;
    let stop = serve(&tls, listener, Limits::default());

    let mut open = connect(address, &old, None, &BOTH).await.expect("trusted");
    assert!(ask(&mut open).await.expect("an answer").starts_with("HTTP/1.1 200"));
    let mut older = connect(address, &old, None, &[&rustls::version::TLS12]).await.expect("TLS 1.2");
    assert!(ask(&mut older).await.is_ok());

    tls.replace(&Tls::new(&new.server(None)).expect("good files"));
    assert!(connect(address, &old, None, &BOTH).await.is_err(), "the old certificate is gone");
    let mut renewed = connect(address, &new, None, &BOTH).await.expect("the new one is there");
    assert!(ask(&mut renewed).await.is_ok());
    assert!(ask(&mut open).await.is_ok(), "open connections stay");

    let mut broken = new.server(None);
    broken.identity.key = old.identity().key;
    let error = Tls::new(&broken).expect_err("another key").to_string();
    assert!(error.contains("[server.tls]"), "{error}");
    assert!(connect(address, &new, None, &BOTH).await.is_ok(), "the good ones stay");
    stop.cancel();
}

#[tokio::test]
async fn with_client_authorities_only_their_clients_are_heard() {
    let (own, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let tls = Tls::new(&own.server(Some(&clients))).expect("good files");
    let (listener, address) = listener().await;
    let stop = serve(&tls, listener, Limits::default());
    let heard = async |identity: Option<&ClientIdentity>| {
        let mut stream = connect(address, &own, identity, &BOTH).await?;
        // With TLS 1.3 a client learns that it was refused when it reads.
        ask(&mut stream).await
    };
    assert!(heard(Some(&clients.identity())).await.is_ok());
    assert!(heard(Some(&strangers.identity())).await.is_err());
    assert!(heard(None).await.is_err());
    stop.cancel();
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_dropped() {
    let own = Authority::new();
    let tls = Tls::new(&own.server(None)).expect("good files");
    let (listener, address) = listener().await;
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let stop = serve(&tls, listener, limits);
    let mut silent = TcpStream::connect(address).await.expect("connected");
    assert_eq!(silent.read(&mut [0; 1]).await.expect("closed"), 0);
    let mut stream = connect(address, &own, None, &BOTH).await.expect("others are served");
    assert!(ask(&mut stream).await.is_ok());
    // Plain HTTP is no handshake either.
    drop(stream);
    let mut plain = TcpStream::connect(address).await.expect("connected");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP/"));
    stop.cancel();
}

#[test]
fn nothing_of_the_key_is_printed() {
    let own = Authority::new();
    let server = own.server(None);
    let tls = Tls::new(&server).expect("good files");
    let text = format!("{tls:?} {server:?}");
    assert!(!text.contains("PRIVATE"), "{text}");
    assert!(!text.contains("45, 45, 45, 45"), "no PEM bytes: {text}");
}
