//! The HTTP client that `status` and `reload` ask a running daemon with.
//!
//! One connection per question, HTTP/1.1, no TLS: the daemon listens on
//! loopback or behind a proxy of the operator's.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::DaemonArguments;
use super::console::printable;

/// Where the daemon listens by default.
pub(super) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9650);

/// A daemon with 100,000 members answers less than this.
const LARGEST_BODY: usize = 256 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A running daemon, as far as one knows it before asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DaemonUrl {
    host: String,
    port: u16,
    prefix: String,
    origin: Origin,
}

/// Why this URL was chosen; error messages say it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Argument,
    Config(PathBuf),
    Default,
}

impl fmt::Display for DaemonUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.prefix)
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Answer {
    /// The `error` of a JSON answer, or the start of whatever came. Line ends
    /// stay, other control characters of it do not reach the terminal.
    pub(super) fn error_text(&self) -> String {
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let text = match parsed.as_ref().and_then(|value| value.get("error")?.as_str()) {
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
    Unreachable { url: String, origin: String, problem: String, remedy: &'static str },
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
    /// The URL of `--url`, else where the configuration says the daemon
    /// listens, else the default.
    ///
    /// # Errors
    /// `--url` is no URL that can be asked.
    pub(super) fn locate(arguments: &DaemonArguments) -> Result<Self, ClientError> {
        let config = &arguments.config;
        if let Some(text) = &arguments.url {
            return Self::parse(text).map_err(|problem| ClientError::BadUrl { text: text.clone(), problem });
        }
        Ok(match configured_listen(config) {
            Some(listen) => Self::of_listen(listen, Origin::Config(config.clone())),
            None => Self::of_listen(DEFAULT_LISTEN, Origin::Default),
        })
    }

    /// A daemon of this very process.
    pub(super) fn at(listen: SocketAddr) -> Self {
        Self::of_listen(listen, Origin::Argument)
    }

    fn of_listen(listen: SocketAddr, origin: Origin) -> Self {
        // A daemon that listens everywhere is asked on loopback.
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { host, port: listen.port(), prefix: String::new(), origin }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = match text.contains("://") {
            true => text.parse(),
            false => format!("http://{text}").parse(),
        }
        .map_err(|_| "this is no URL")?;
        if uri.scheme_str() != Some("http") {
            return Err("only http is spoken");
        }
        let authority = uri.authority().ok_or("the host is missing")?;
        if authority.as_str().contains('@') {
            return Err("a user name or password is not supported");
        }
        if authority.host().is_empty() {
            return Err("the host is missing");
        }
        // A port that is no port is passed over by the parser, not refused.
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => 80,
            None => return Err("the port is not one from 1 to 65535"),
        };
        Ok(Self {
            host: authority.host().to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            origin: Origin::Argument,
        })
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// No answer, or none that is HTTP. A status of 4xx or 5xx is an answer.
    pub(super) async fn get(&self, path: &str, within: Duration) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, None, within).await
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
        self.ask(Method::POST, path, Some(header), within).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, &'static str)>,
        within: Duration,
    ) -> Result<Answer, ClientError> {
        match tokio::time::timeout(within, self.exchange(method, path, header)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { url: self.to_string(), within: within.into() }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        extra: Option<(&'static str, &'static str)>,
    ) -> Result<Answer, ClientError> {
        let protocol = |problem: hyper::Error| ClientError::Protocol {
            url: self.to_string(),
            problem: with_causes(&problem),
        };
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(protocol)?;
        // Ends with the sender; its error also reaches the request below.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::USER_AGENT, concat!("vitald/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close");
        if let Some((name, value)) = extra {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new()).map_err(|problem| ClientError::Protocol {
            url: self.to_string(),
            problem: problem.to_string(),
        })?;
        let response = sender.send_request(request).await.map_err(protocol)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await.map_err(|problem| {
            match problem.downcast_ref::<LengthLimitError>() {
                Some(_) => ClientError::TooLarge { url: self.to_string() },
                None => ClientError::Protocol { url: self.to_string(), problem: with_causes(&*problem) },
            }
        })?;
        Ok(Answer { status, body: body.to_bytes() })
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let problem = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, self.port))).await
        {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => system_words(&error),
            Err(_) => format!("no connection within {}", humantime::Duration::from(CONNECT_TIMEOUT)),
        };
        Err(ClientError::Unreachable {
            url: self.to_string(),
            origin: match &self.origin {
                Origin::Argument => "from --url".to_owned(),
                Origin::Config(path) => format!("from {}", path.display()),
                Origin::Default => "the default address".to_owned(),
            },
            problem,
            remedy: "Start it with `vitald run`, or name its address with --url.",
        })
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

/// `[server] listen`, if the file can be read. Everything else in it, right or
/// wrong, is of no concern here: a daemon can be asked by somebody who may not
/// read its keys.
fn configured_listen(config: &Path) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct OnlyServer {
        server: OnlyListen,
    }
    #[derive(Deserialize)]
    struct OnlyListen {
        listen: String,
    }
    let text = fs::read_to_string(config).ok()?;
    let only: OnlyServer = toml::from_str(&text).ok()?;
    only.server.listen.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_people_type() {
        let cases = [
            ("http://127.0.0.1:9650", "http://127.0.0.1:9650"),
            ("http://127.0.0.1:9650/", "http://127.0.0.1:9650"),
            ("127.0.0.1:9650", "http://127.0.0.1:9650"),
            ("vitald.internal", "http://vitald.internal:80"),
            ("http://[::1]:9650/lb/", "http://[::1]:9650/lb"),
        ];
        for (text, expected) in cases {
            assert_eq!(DaemonUrl::parse(text).expect(text).to_string(), expected);
        }
        for text in ["", "https://127.0.0.1", "http://", "http://u:p@h", "http://h:99999", "a b", "/v1"] {
            assert!(DaemonUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        let url =
            |listen: &str| DaemonUrl::of_listen(listen.parse().expect(listen), Origin::Default).to_string();
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.1.2.3:9650"), "http://10.1.2.3:9650");
    }

    #[test]
    fn the_listen_address_is_found_in_a_config_that_has_other_faults() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("vitald.toml");
        let listen = |text: &str| {
            fs::write(&path, text).expect("write");
            configured_listen(&path)
        };
        assert_eq!(
            listen("[server]\nlisten = \"127.0.0.1:1\"\nbogus = 2\n[[channels]]\n"),
            "127.0.0.1:1".parse().ok()
        );
        assert_eq!(listen("[prober]\n"), None);
        assert_eq!(listen("not toml"), None);
        assert_eq!(configured_listen(&directory.path().join("absent.toml")), None);
    }
}
