//! The HTTP client that commands ask a running daemon with: a connection for each
//! request, HTTP/1.1, over the daemon's Unix socket, over TLS or over plain TCP.
//! `locate` says where the daemon is.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::console::printable;
use crate::channel::violation::quoted;
use crate::channel::{PemFile, TlsOptions, VerifyCertificate};
use crate::{config, probe};

/// A daemon with 100,000 members answers less than this.
const LARGEST_BODY: usize = 256 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

const CERTIFICATES_ONLY: &str =
    "It hears only clients with a certificate: ask over its Unix socket with --socket.";
const START_IT: &str =
    "Start it with `vitald run`, or name its address with --url or its socket with --socket.";
const ITS_GROUP: &str = "Its group may open it: be a member of that group, or ask as its owner.";

/// Where a running daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DaemonUrl {
    pub(super) endpoint: Endpoint,
    /// What every path begins with; no slash at its end.
    pub(super) prefix: String,
    /// Why this address was chosen: `from --url`.
    pub(super) origin: String,
    /// The socket that the configuration names and that is not there; this address was taken
    /// in its place.
    pub(super) absent_socket: Option<PathBuf>,
}

/// How to get to a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// HTTPS where there is a `trust`, else HTTP. An IPv6 address has its brackets.
    Tcp { host: String, port: u16, trust: Option<Trust> },
    /// The path of a Unix socket.
    Socket(PathBuf),
}

/// Who may vouch for the certificate of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// The authorities that the system trusts.
    System,
    /// Those of `--ca-file`.
    File(PathBuf),
    /// No authority: the address is one of this machine, so nobody is in between.
    /// The certificate was made for the names that others call the daemon by.
    ThisMachine,
}

impl fmt::Display for DaemonUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port, trust } => {
                let scheme = if trust.is_some() { "https" } else { "http" };
                write!(f, "{scheme}://{host}:{port}{}", self.prefix)
            }
            Endpoint::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a daemon answered, whole.
#[derive(Debug)]
pub(super) struct DaemonResponse {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl DaemonResponse {
    /// The `error` of a JSON body, the API's `error_msg`, or the start of whatever
    /// came. Line ends stay; no other control character of it reaches the terminal.
    pub(super) fn error_text(&self) -> String {
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let field = |name| parsed.as_ref().and_then(|value| value.get(name)?.as_str());
        let text = match field("error").or_else(|| field("error_msg")) {
            Some(text) => text.to_owned(),
            None => String::from_utf8_lossy(&self.body).chars().take(300).collect(),
        };
        let lines: Vec<String> = text.trim_end().lines().map(|line| printable(line, 1000)).collect();
        lines.join("\n")
    }
}

/// Whether a daemon that cannot be reached may run all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaemonPresence {
    /// It does not: its socket is not there, or no process has it open.
    Absent,
    /// It may: the network or a permission may be in the way.
    NotKnown,
}

/// Why a daemon could not be asked, or what is wrong with its answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("--url {}: {problem}; write it like http://127.0.0.1:9650", quoted(text))]
    BadUrl { text: String, problem: &'static str },
    #[error("cannot reach a daemon at {url} ({origin}): {problem}\n{remedy}")]
    Unreachable {
        url: String,
        origin: String,
        problem: String,
        presence: DaemonPresence,
        remedy: &'static str,
    },
    #[error("{url} does not speak TLS as it should: {problem}\n{remedy}")]
    Tls { url: String, problem: String, remedy: &'static str },
    #[error("--ca-file {path}: {problem}")]
    Authorities { path: String, problem: String },
    #[error("no whole answer from {url} within {within}")]
    Timeout { url: String, within: humantime::Duration },
    #[error("{url} did not answer as HTTP: {problem}")]
    Protocol { url: String, problem: String },
    #[error("the answer of {url} is larger than {LARGEST_BODY} bytes")]
    TooLarge { url: String },
    #[error("{url} answered {status}: {text}")]
    Refused { url: String, status: u16, text: String },
    #[error("{url} does not answer like vitald: {problem}\nIs another program listening there?")]
    NotVitald { url: String, problem: String },
}

impl DaemonUrl {
    /// Asks for a path.
    ///
    /// # Errors
    /// No answer, or none that is HTTP. A status of 4xx or 5xx is an answer.
    pub(super) async fn get(&self, path: &str, within: Duration) -> Result<DaemonResponse, ClientError> {
        self.send(Method::GET, path, None, &[], within).await
    }

    /// Sends a body, with one more header.
    ///
    /// # Errors
    /// As [`DaemonUrl::get`].
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, &'static str)>,
        body: &[u8],
        within: Duration,
    ) -> Result<DaemonResponse, ClientError> {
        match tokio::time::timeout(within, self.exchange(method, path, header, body)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { url: self.to_string(), within: within.into() }),
        }
    }

    /// The error that a response is to somebody who expected another status.
    pub(super) fn refused(&self, response: &DaemonResponse) -> ClientError {
        let (status, text) = (response.status, response.error_text());
        ClientError::Refused { url: self.to_string(), status, text }
    }

    /// The error that a body is to somebody who expected another form.
    pub(super) fn not_vitald(&self, problem: impl fmt::Display) -> ClientError {
        ClientError::NotVitald { url: self.to_string(), problem: problem.to_string() }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, &'static str)>,
        body: &[u8],
    ) -> Result<DaemonResponse, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the sender; its error also reaches the request below.
        tokio::spawn(connection);
        let host = match &self.endpoint {
            Endpoint::Tcp { host, port, .. } => format!("{host}:{port}"),
            Endpoint::Socket(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("vitald/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(Bytes::copy_from_slice(body))).map_err(|problem| self.broken(&problem))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await.map_err(|problem| {
            match problem.downcast_ref::<LengthLimitError>() {
                Some(_) => ClientError::TooLarge { url: self.to_string() },
                None => self.broken(&*problem),
            }
        })?;
        Ok(DaemonResponse { status, body: body.to_bytes() })
    }

    /// What ended an exchange before its answer was whole.
    fn broken(&self, error: &dyn Error) -> ClientError {
        let (url, problem) = (self.to_string(), with_causes(error));
        // With TLS 1.3 a server says so only after the client's handshake is over.
        match problem.contains("CertificateRequired") {
            true => ClientError::Tls { url, problem, remedy: CERTIFICATES_ONLY },
            false => ClientError::Protocol { url, problem },
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        let (host, port, trust) = match &self.endpoint {
            Endpoint::Tcp { host, port, trust } => (without_brackets(host), *port, trust),
            Endpoint::Socket(path) => return Ok(Box::new(self.connect_socket(path).await?)),
        };
        let Some(trust) = trust else { return Ok(Box::new(self.connect_tcp(host, port).await?)) };
        let settings = self.tls_settings(trust)?;
        let name = server_name(host).ok_or_else(|| {
            let problem = "the host is neither a DNS name nor an address".to_owned();
            self.unreachable(problem, DaemonPresence::NotKnown, START_IT)
        })?;
        let stream = self.connect_tcp(host, port).await?;
        Ok(Box::new(self.shake_hands(settings, name, stream).await?))
    }

    async fn connect_tcp(&self, host: &str, port: u16) -> Result<TcpStream, ClientError> {
        let problem = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => system_words(&error),
            Err(_) => format!("no connection within {}", humantime::Duration::from(CONNECT_TIMEOUT)),
        };
        Err(self.unreachable(problem, DaemonPresence::NotKnown, START_IT))
    }

    async fn connect_socket(&self, path: &Path) -> Result<UnixStream, ClientError> {
        UnixStream::connect(path).await.map_err(|error| {
            let presence = match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => DaemonPresence::Absent,
                _ => DaemonPresence::NotKnown,
            };
            let remedy = if error.kind() == ErrorKind::PermissionDenied { ITS_GROUP } else { START_IT };
            self.unreachable(system_words(&error), presence, remedy)
        })
    }

    async fn shake_hands(
        &self,
        settings: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let shaking = TlsConnector::from(settings).connect(name, stream);
        let (problem, remedy) = match tokio::time::timeout(CONNECT_TIMEOUT, shaking).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                let problem = with_causes(&error);
                let remedy = if problem.contains("CertificateRequired") {
                    CERTIFICATES_ONLY
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
    fn tls_settings(&self, trust: &Trust) -> Result<Arc<rustls::ClientConfig>, ClientError> {
        probe::prepare_tls();
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

    fn unreachable(&self, problem: String, presence: DaemonPresence, remedy: &'static str) -> ClientError {
        let (url, origin) = (self.to_string(), self.origin.clone());
        ClientError::Unreachable { url, origin, problem, presence, remedy }
    }
}

/// Bytes to and from a daemon.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

fn read_authorities(path: &Path) -> Result<PemFile, ClientError> {
    match config::read_regular_file(path, config::LARGEST_FILE) {
        Ok(pem) => Ok(PemFile { path: path.to_owned(), pem: pem.into() }),
        Err(problem) => Err(ClientError::Authorities {
            path: path.display().to_string(),
            problem: format!("cannot be read: {problem}"),
        }),
    }
}

fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    match host.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::from(address)),
        Err(_) => ServerName::try_from(host.trim_end_matches('.').to_owned()).ok(),
    }
}

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What a system call said, without `(os error 111)`.
fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}
