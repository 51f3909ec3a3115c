//! Where the configuration is, and where a running daemon is: what the arguments say,
//! else what the configuration says, else where a daemon listens by default.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hyper::Uri;
use rustix::fs::{Access, access};

use super::client::{ClientError, DaemonUrl, Endpoint, Trust};
use super::console::Console;
use crate::config;

/// Where the configuration is unless `--config` or `VITALD_CONFIG` says otherwise.
pub(super) const CONFIG: &str = "/etc/vitald/vitald.toml";

/// Where a daemon listens unless its configuration says otherwise.
pub(super) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9650);

/// `--config`, the same for every command that reads one.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgument {
    /// The configuration file
    #[arg(long, value_name = "PATH", env = "VITALD_CONFIG", default_value = CONFIG, hide_env_values = true)]
    pub(super) config: PathBuf,
}

/// `--url`, `--socket`, `--ca-file` and `--config`: where a running daemon is.
#[derive(Debug, clap::Args)]
pub(super) struct DaemonArguments {
    /// The daemon's address, http or https; default: where the configuration says it listens
    #[arg(long, value_name = "URL", env = "VITALD_URL", hide_env_values = true)]
    url: Option<String>,

    /// The daemon's Unix socket; default: the configuration's, if you may open it
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,

    /// With https: the authorities to trust, PEM; default: the system's
    #[arg(long, value_name = "PATH", conflicts_with = "socket")]
    ca_file: Option<PathBuf>,

    /// The configuration whose `[server]` says where the daemon is
    #[arg(long, value_name = "PATH", env = "VITALD_CONFIG", default_value = CONFIG, hide_env_values = true)]
    config: PathBuf,
}

impl DaemonUrl {
    /// Where the arguments say that the daemon is, else where the configuration says
    /// so, its socket before its address, else the default address.
    ///
    /// # Errors
    /// `--url` is no URL that can be asked.
    pub(super) fn locate(arguments: &DaemonArguments) -> Result<Self, ClientError> {
        let DaemonArguments { url, socket, ca_file, config } = arguments;
        // Before --url, which a variable may have set.
        if let Some(path) = socket {
            return Ok(Self::at_socket(path.clone(), "--socket"));
        }
        if let Some(text) = url {
            return Self::parse(text, ca_file.as_deref())
                .map_err(|problem| ClientError::BadUrl { text: text.clone(), problem });
        }
        let configured = ConfiguredLocation::read(config);
        let absent = configured.socket.clone().filter(|socket| !socket.exists());
        if let Some(socket) = configured.socket.filter(|socket| access(socket, Access::WRITE_OK).is_ok()) {
            return Ok(Self::at_socket(socket, config.display()));
        }
        let origin = match configured.listen {
            Some(_) => format!("from {}", config.display()),
            None => "the default address".to_owned(),
        };
        let trust = match ca_file {
            _ if !configured.has_tls => None,
            None => Some(Trust::ThisMachine),
            Some(file) => Some(Trust::File(file.clone())),
        };
        let located = Self::listening_at(configured.listen.unwrap_or(DEFAULT_LISTEN), trust, origin);
        Ok(Self { absent_socket: absent, ..located })
    }

    /// Says which daemon has done something, where the configuration names a socket and
    /// another way was taken: another daemon may be there.
    pub(super) fn tell_of_default(&self, console: &Console) {
        if let Some(socket) = &self.absent_socket {
            console.message(format!("note: asked {self}, as there is no {}", socket.display()));
        }
    }

    /// A daemon of this very process.
    pub(super) fn at(listen: SocketAddr) -> Self {
        Self::listening_at(listen, None, "from --listen".to_owned())
    }

    /// A daemon that listens everywhere is asked on loopback.
    fn listening_at(listen: SocketAddr, trust: Option<Trust>, origin: String) -> Self {
        let host = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(ip) if ip.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let endpoint = Endpoint::Tcp { host, port: listen.port(), trust };
        Self { endpoint, prefix: String::new(), origin, absent_socket: None }
    }

    /// A daemon's Unix socket, and what named it.
    pub(super) fn at_socket(path: PathBuf, origin: impl Display) -> Self {
        let origin = format!("from {origin}");
        Self { endpoint: Endpoint::Socket(path), prefix: String::new(), origin, absent_socket: None }
    }

    fn parse(text: &str, ca_file: Option<&Path>) -> Result<Self, &'static str> {
        let uri: Uri = match text.contains("://") {
            true => text.parse(),
            false => format!("http://{text}").parse(),
        }
        .map_err(|_| "this is no URL")?;
        let (usual_port, trust) = match (uri.scheme_str(), ca_file) {
            (Some("http"), Some(_)) => return Err("--ca-file is for https"),
            (Some("http"), None) => (80, None),
            (Some("https"), None) => (443, Some(Trust::System)),
            (Some("https"), Some(file)) => (443, Some(Trust::File(file.to_owned()))),
            _ => return Err("only http and https are spoken"),
        };
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
            None if authority.as_str() == authority.host() => usual_port,
            None => return Err("the port is not one from 1 to 65535"),
        };
        let endpoint = Endpoint::Tcp { host: authority.host().to_owned(), port, trust };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { endpoint, prefix, origin: "from --url".to_owned(), absent_socket: None })
    }
}

/// What a configuration says of where its daemon and its store are. Everything else
/// in it, right or wrong, is of no concern here: a daemon can be asked by somebody who
/// may not read its keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ConfiguredLocation {
    /// `[server] listen`.
    listen: Option<SocketAddr>,
    /// `[server] socket`.
    pub(super) socket: Option<PathBuf>,
    /// `[store] path`.
    pub(super) store: Option<PathBuf>,
    has_tls: bool,
}

impl ConfiguredLocation {
    /// Reads the file, as far as it can be read.
    pub(super) fn read(path: &Path) -> Self {
        let text = config::read_regular_file(path, config::LARGEST_FILE).ok();
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
        let tables: Option<toml::Table> = text.and_then(|text| text.parse().ok());
        let value = |table: &str, key: &str| tables.as_ref()?.get(table)?.get(key);
        let text = |table, key| value(table, key)?.as_str();
        Self {
            listen: text("server", "listen").and_then(|listen| listen.parse().ok()),
            socket: text("server", "socket").map(PathBuf::from),
            store: text("store", "path").map(PathBuf::from),
            has_tls: value("server", "tls").is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn urls_people_type() {
        let cases = [
            ("http://127.0.0.1:9650", "http://127.0.0.1:9650"),
            ("http://127.0.0.1:9650/", "http://127.0.0.1:9650"),
            ("127.0.0.1:9650", "http://127.0.0.1:9650"),
            ("vitald.internal", "http://vitald.internal:80"),
            ("https://vitald.internal", "https://vitald.internal:443"),
            ("http://[::1]:9650/lb/", "http://[::1]:9650/lb"),
        ];
        for (text, expected) in cases {
            assert_eq!(DaemonUrl::parse(text, None).expect(text).to_string(), expected);
        }
        for text in ["", "ftp://127.0.0.1", "http://", "http://u:p@h", "http://h:99999", "a b", "/v1"] {
            assert!(DaemonUrl::parse(text, None).is_err(), "{text}");
        }
        assert!(DaemonUrl::parse("http://h", Some(Path::new("ca.pem"))).is_err());
    }

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        let url = |listen: &str| DaemonUrl::at(listen.parse().expect(listen)).to_string();
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.1.2.3:9650"), "http://10.1.2.3:9650");
    }

    fn located(directory: &Path, text: &str) -> DaemonUrl {
        let config = directory.join("vitald.toml");
        fs::write(&config, text).expect("write");
        let arguments = DaemonArguments { url: None, socket: None, ca_file: None, config };
        DaemonUrl::locate(&arguments).expect("an address")
    }

    #[test]
    fn the_address_is_found_in_a_config_that_has_other_faults() {
        let directory = tempfile::tempdir().expect("tempdir");
        let place = |text: &str| located(directory.path(), text).to_string();
        assert_eq!(
            place("[server]\nlisten = \"127.0.0.1:1\"\nbogus = 2\n[[channels]]\n"),
            "http://127.0.0.1:1"
        );
        assert_eq!(place("[prober]\n"), "http://127.0.0.1:9650");
        assert_eq!(place("not toml"), "http://127.0.0.1:9650");
        assert_eq!(
            place("[server]\nlisten = \"[::]:1\"\n[server.tls]\ncertificate = \"x\"\n"),
            "https://[::1]:1"
        );
        assert_eq!(ConfiguredLocation::read(&directory.path().join("absent")), ConfiguredLocation::default());
    }

    #[test]
    fn the_socket_is_preferred_where_it_may_be_opened() {
        let directory = tempfile::tempdir().expect("tempdir");
        let socket = directory.path().join("vitald.sock");
        let text = format!("[server]\nlisten = \"127.0.0.1:1\"\nsocket = {socket:?}\n");
        assert_eq!(located(directory.path(), &text).to_string(), "http://127.0.0.1:1");
        let config = directory.path().join("vitald.toml");
        let arguments = DaemonArguments { url: None, socket: None, ca_file: None, config };
        let url = DaemonUrl::locate(&arguments).expect("an address");
        assert_eq!(url.absent_socket.as_deref(), Some(&*socket), "whoever changes something is told");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        assert_eq!(located(directory.path(), &text).to_string(), socket.display().to_string());
    }
}
