//! The HTTP client that commands ask a running daemon with.
//!
//! One connection per question, HTTP/1.1: over the daemon's Unix socket, over
//! TLS or over plain TCP. `locate` finds where it is, `transport` gets there.

mod locate;
mod transport;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;

use super::console::printable;
pub(super) use locate::{ConfiguredPlaces, DaemonArguments};

/// Where the daemon listens by default.
pub(super) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9650);

/// A daemon with 100,000 members answers less than this.
const LARGEST_BODY: usize = 256 << 20;

const HEARS_CERTIFICATES_ONLY: &str =
    "It hears only clients with a certificate: ask over its Unix socket with --socket.";

/// A running daemon, as far as one knows it before asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DaemonUrl {
    place: Place,
    prefix: String,
    origin: Origin,
}

/// How to get to a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Http { host: String, port: u16 },
    Https { host: String, port: u16, trust: Trust },
    Socket(PathBuf),
}

/// Whose word counts for the certificate of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trust {
    /// The authorities that the system trusts.
    System,
    /// Those of `--ca-file`.
    File(PathBuf),
    /// Nobody's: the address is one of this machine, so nobody is in between.
    /// Its certificate was made for the names that others call it by.
    ThisMachine,
}

/// Why this place was chosen; error messages say it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Argument(&'static str),
    Config(PathBuf),
    Default,
}

impl fmt::Display for DaemonUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Http { host, port } => write!(f, "http://{host}:{port}{}", self.prefix),
            Place::Https { host, port, .. } => write!(f, "https://{host}:{port}{}", self.prefix),
            Place::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) => write!(f, "from {name}"),
            Self::Config(path) => write!(f, "from {}", path.display()),
            Self::Default => f.write_str("the default address"),
        }
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Answer {
    /// The `error` of a JSON answer, the API's `error_msg`, or the start of
    /// whatever came. Line ends stay, other control characters of it do not
    /// reach the terminal.
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

/// Why a daemon could not be asked, or what is wrong with its answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("--url {text:?}: {problem}; write it like http://127.0.0.1:9650")]
    BadUrl { text: String, problem: &'static str },
    #[error("cannot reach a daemon at {url} ({origin}): {problem}\n{remedy}")]
    Unreachable { url: String, origin: String, problem: String, absence: Absence, remedy: &'static str },
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

/// Whether nobody serves a place, as far as its silence tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// A socket that is not there or that no process has open.
    Certain,
    /// The network or a permission may be in the way.
    NotKnown,
}

/// What is sent besides the path.
struct Question<'q> {
    method: Method,
    /// One more header.
    header: Option<(&'static str, &'static str)>,
    body: &'q [u8],
}

impl DaemonUrl {
    /// Asks for a path.
    ///
    /// # Errors
    /// No answer, or none that is HTTP. A status of 4xx or 5xx is an answer.
    pub(super) async fn get(&self, path: &str, within: Duration) -> Result<Answer, ClientError> {
        self.ask(path, Question { method: Method::GET, header: None, body: &[] }, within).await
    }

    /// Asks for an action; `header` is the one that shows it was meant.
    ///
    /// # Errors
    /// As [`DaemonUrl::get`].
    pub(super) async fn post(
        &self,
        path: &str,
        header: (&'static str, &'static str),
        within: Duration,
    ) -> Result<Answer, ClientError> {
        self.ask(path, Question { method: Method::POST, header: Some(header), body: &[] }, within).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`DaemonUrl::get`].
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
        within: Duration,
    ) -> Result<Answer, ClientError> {
        let header = Some(("content-type", "application/json"));
        self.ask(path, Question { method, header, body }, within).await
    }

    async fn ask(&self, path: &str, question: Question<'_>, within: Duration) -> Result<Answer, ClientError> {
        match tokio::time::timeout(within, self.exchange(path, question)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { url: self.to_string(), within: within.into() }),
        }
    }

    async fn exchange(&self, path: &str, question: Question<'_>) -> Result<Answer, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the sender; its error also reaches the request below.
        tokio::spawn(connection);
        let host = match &self.place {
            Place::Http { host, port } | Place::Https { host, port, .. } => format!("{host}:{port}"),
            Place::Socket(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder()
            .method(question.method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("vitald/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close");
        if let Some((name, value)) = question.header {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(question.body)))
            .map_err(|problem| self.broken(&problem))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await.map_err(|problem| {
            match problem.downcast_ref::<LengthLimitError>() {
                Some(_) => ClientError::TooLarge { url: self.to_string() },
                None => self.broken(&*problem),
            }
        })?;
        Ok(Answer { status, body: body.to_bytes() })
    }

    /// What ended an exchange before its answer was whole.
    fn broken(&self, error: &dyn std::error::Error) -> ClientError {
        let (url, problem) = (self.to_string(), with_causes(error));
        // With TLS 1.3 a server says so only after the client's handshake is over.
        match problem.contains("CertificateRequired") {
            true => ClientError::Tls { url, problem, remedy: HEARS_CERTIFICATES_ONLY },
            false => ClientError::Protocol { url, problem },
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
