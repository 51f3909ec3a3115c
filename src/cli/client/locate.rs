//! Where a running daemon is: what the arguments say, else what its
//! configuration says, else where it listens by default.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hyper::Uri;
use rustix::fs::{Access, access};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::DEFAULT_CONFIG;
use super::{ClientError, DEFAULT_LISTEN, DaemonUrl, Origin, Place, Trust};

/// `--url`, `--socket`, `--ca-file` and `--config`: where a running daemon is.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DaemonArguments {
    /// The daemon's address, http or https; default: where the configuration says it listens
    #[arg(long, value_name = "URL", env = "VITALD_URL", hide_env_values = true)]
    pub(in crate::cli) url: Option<String>,

    /// The daemon's Unix socket; default: the configuration's, if you may open it
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub(in crate::cli) socket: Option<PathBuf>,

    /// With https: the authorities to trust, PEM; default: the system's
    #[arg(long, value_name = "PATH", conflicts_with = "socket")]
    pub(in crate::cli) ca_file: Option<PathBuf>,

    /// The configuration whose `[server]` says where the daemon is
    #[arg(
        long,
        value_name = "PATH",
        env = "VITALD_CONFIG",
        default_value = DEFAULT_CONFIG,
        hide_env_values = true
    )]
    pub(in crate::cli) config: PathBuf,
}

impl DaemonUrl {
    /// The place that the arguments name, else where the configuration says the
    /// daemon is, its socket before its address, else the default.
    ///
    /// # Errors
    /// `--url` is no URL that can be asked.
    pub(in crate::cli) fn locate(arguments: &DaemonArguments) -> Result<Self, ClientError> {
        let DaemonArguments { url, socket, ca_file, config } = arguments;
        // Before --url, which a variable may have set.
        if let Some(path) = socket {
            return Ok(Self::socket_of_argument(path));
        }
        if let Some(text) = url {
            return Self::parse(text, ca_file.as_deref())
                .map_err(|problem| ClientError::BadUrl { text: text.clone(), problem });
        }
        let configured = ConfiguredPlaces::read(config);
        if let Some(socket) = configured.socket.filter(|socket| access(socket, Access::WRITE_OK).is_ok()) {
            return Ok(Self::socket_of_config(socket, config));
        }
        let origin = match configured.listen {
            Some(_) => Origin::Config(config.clone()),
            None => Origin::Default,
        };
        let (host, port) = host_and_port(configured.listen.unwrap_or(DEFAULT_LISTEN));
        let place = match (configured.speaks_tls, ca_file) {
            (false, _) => Place::Http { host, port },
            (true, None) => Place::Https { host, port, trust: Trust::ThisMachine },
            (true, Some(file)) => Place::Https { host, port, trust: Trust::File(file.clone()) },
        };
        Ok(Self { place, prefix: String::new(), origin })
    }

    /// A daemon of this very process.
    pub(in crate::cli) fn at(listen: SocketAddr) -> Self {
        let (host, port) = host_and_port(listen);
        Self {
            place: Place::Http { host, port },
            prefix: String::new(),
            origin: Origin::Argument("--listen"),
        }
    }

    /// The socket that `--socket` names.
    pub(in crate::cli) fn socket_of_argument(path: &Path) -> Self {
        Self::at_socket(path.to_owned(), Origin::Argument("--socket"))
    }

    /// The socket that a configuration names.
    pub(in crate::cli) fn socket_of_config(path: PathBuf, config: &Path) -> Self {
        Self::at_socket(path, Origin::Config(config.to_owned()))
    }

    fn at_socket(path: PathBuf, origin: Origin) -> Self {
        Self { place: Place::Socket(path), prefix: String::new(), origin }
    }

    fn parse(text: &str, ca_file: Option<&Path>) -> Result<Self, &'static str> {
        let uri: Uri = match text.contains("://") {
            true => text.parse(),
            false => format!("http://{text}").parse(),
        }
        .map_err(|_| "this is no URL")?;
        let usual_port = match uri.scheme_str() {
            Some("http") if ca_file.is_some() => return Err("--ca-file is for https"),
            Some("http") => 80,
            Some("https") => 443,
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
        let host = authority.host().to_owned();
        let place = match (uri.scheme_str(), ca_file) {
            (Some("https"), None) => Place::Https { host, port, trust: Trust::System },
            (Some("https"), Some(file)) => Place::Https { host, port, trust: Trust::File(file.to_owned()) },
            _ => Place::Http { host, port },
        };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { place, prefix, origin: Origin::Argument("--url") })
    }
}

/// A daemon that listens everywhere is asked on loopback.
fn host_and_port(listen: SocketAddr) -> (String, u16) {
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    (host, listen.port())
}

/// What a configuration says of where its daemon is. Everything else in it,
/// right or wrong, is of no concern here: a daemon can be asked by somebody who
/// may not read its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct ConfiguredPlaces {
    /// `[server] listen`.
    pub(in crate::cli) listen: Option<SocketAddr>,
    /// `[server] socket`.
    pub(in crate::cli) socket: Option<PathBuf>,
    /// `[store] path`.
    pub(in crate::cli) store: Option<PathBuf>,
    speaks_tls: bool,
}

impl ConfiguredPlaces {
    /// Reads the file, as far as it can be read.
    pub(in crate::cli) fn read(config: &Path) -> Self {
        #[derive(Deserialize)]
        struct Tables {
            server: Option<Server>,
            store: Option<Store>,
        }
        #[derive(Deserialize)]
        struct Server {
            listen: Option<String>,
            socket: Option<PathBuf>,
            tls: Option<IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct Store {
            path: Option<PathBuf>,
        }
        let tables: Option<Tables> =
            fs::read_to_string(config).ok().and_then(|text| toml::from_str(&text).ok());
        let Some(Tables { server, store }) = tables else { return Self::default() };
        let store = store.and_then(|store| store.path);
        let Some(server) = server else { return Self { store, ..Self::default() } };
        Self {
            listen: server.listen.and_then(|listen| listen.parse().ok()),
            socket: server.socket,
            store,
            speaks_tls: server.tls.is_some(),
        }
    }
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
        DaemonUrl::locate(&arguments).expect("a place")
    }

    #[test]
    fn the_place_is_found_in_a_config_that_has_other_faults() {
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
        assert_eq!(ConfiguredPlaces::read(&directory.path().join("absent")), ConfiguredPlaces::default());
    }

    #[test]
    fn the_socket_is_preferred_where_it_may_be_opened() {
        let directory = tempfile::tempdir().expect("tempdir");
        let socket = directory.path().join("vitald.sock");
        let text = format!("[server]\nlisten = \"127.0.0.1:1\"\nsocket = {socket:?}\n");
        assert_eq!(located(directory.path(), &text).to_string(), "http://127.0.0.1:1");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        assert_eq!(located(directory.path(), &text).to_string(), socket.display().to_string());
    }
}
