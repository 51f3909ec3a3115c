//! Connections to a daemon: a Unix socket, TLS, plain TCP.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{Absence, ClientError, DaemonUrl, HEARS_CERTIFICATES_ONLY, Place, Trust, with_causes};
use crate::channel::{PemFile, TlsOptions, VerifyCertificate};
use crate::probe;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

const START_IT: &str =
    "Start it with `vitald run`, or name its address with --url or its socket with --socket.";

const ITS_GROUP: &str = "Its group may open it: be a member of that group, or ask as its owner.";

/// Bytes to and from a daemon.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl DaemonUrl {
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        match &self.place {
            Place::Http { host, port } => Ok(Box::new(self.connect_tcp(host, *port).await?)),
            Place::Https { host, port, trust } => {
                let settings = self.settings(trust)?;
                let name = server_name(host).ok_or_else(|| {
                    let problem = "the host is neither a DNS name nor an address".to_owned();
                    self.unreachable(problem, Absence::NotKnown, START_IT)
                })?;
                let stream = self.connect_tcp(host, *port).await?;
                Ok(Box::new(self.shake_hands(settings, name, stream).await?))
            }
            Place::Socket(path) => Ok(Box::new(self.connect_socket(path).await?)),
        }
    }

    async fn connect_tcp(&self, host: &str, port: u16) -> Result<TcpStream, ClientError> {
        let connecting = TcpStream::connect((without_brackets(host), port));
        let problem = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => system_words(&error),
            Err(_) => format!("no connection within {}", humantime::Duration::from(CONNECT_TIMEOUT)),
        };
        Err(self.unreachable(problem, Absence::NotKnown, START_IT))
    }

    async fn connect_socket(&self, path: &Path) -> Result<UnixStream, ClientError> {
        UnixStream::connect(path).await.map_err(|error| {
            let (absence, remedy) = match error.kind() {
                ErrorKind::PermissionDenied => (Absence::NotKnown, ITS_GROUP),
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => (Absence::Certain, START_IT),
                _ => (Absence::NotKnown, START_IT),
            };
            self.unreachable(system_words(&error), absence, remedy)
        })
    }

    async fn shake_hands(
        &self,
        settings: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
        stream: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ClientError> {
        let shaking = TlsConnector::from(settings).connect(name, stream);
        let (problem, remedy) = match tokio::time::timeout(CONNECT_TIMEOUT, shaking).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                let problem = with_causes(&error);
                let remedy = if problem.contains("CertificateRequired") {
                    HEARS_CERTIFICATES_ONLY
                } else if problem.contains("invalid peer certificate") {
                    "Name the authority of its certificate with --ca-file, and a host of its certificate in --url."
                } else {
                    "Does it speak plain HTTP? Then write http:// in --url."
                };
                (problem, remedy)
            }
            Err(_) => ("no TLS handshake within 3s".to_owned(), "Does it speak plain HTTP?"),
        };
        Err(ClientError::Tls { url: self.to_string(), problem, remedy })
    }

    /// TLS settings as probes have them: certificates are verified or not.
    fn settings(&self, trust: &Trust) -> Result<Arc<rustls::ClientConfig>, ClientError> {
        let (verify, ca) = match trust {
            Trust::ThisMachine => (VerifyCertificate::No, None),
            Trust::System => (VerifyCertificate::Yes, None),
            Trust::File(path) => (VerifyCertificate::Yes, Some(read_authorities(path)?)),
        };
        probe::tls_settings(&TlsOptions { verify, ca, ..TlsOptions::default() }).map_err(|error| {
            let problem = error.to_string();
            match trust {
                Trust::File(path) => ClientError::Authorities { path: path.display().to_string(), problem },
                Trust::System | Trust::ThisMachine => ClientError::Tls {
                    url: self.to_string(),
                    problem,
                    remedy: "Name the authority of its certificate with --ca-file.",
                },
            }
        })
    }

    fn unreachable(&self, problem: String, absence: Absence, remedy: &'static str) -> ClientError {
        let (url, origin) = (self.to_string(), self.origin.to_string());
        ClientError::Unreachable { url, origin, problem, absence, remedy }
    }
}

fn read_authorities(path: &Path) -> Result<PemFile, ClientError> {
    match std::fs::read(path) {
        Ok(pem) => Ok(PemFile { path: path.to_owned(), pem: pem.into() }),
        Err(error) => Err(ClientError::Authorities {
            path: path.display().to_string(),
            problem: format!("cannot be read: {}", system_words(&error)),
        }),
    }
}

fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    let host = without_brackets(host);
    match host.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::from(address)),
        Err(_) => ServerName::try_from(host.trim_end_matches('.').to_owned()).ok(),
    }
}

/// What a system call said, without `(os error 111)`.
fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}
