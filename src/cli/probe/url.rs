//! One URL and its flags as a channel with one member, so that the rules, and
//! the probe, are those of a configuration.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args};
use hyper::Uri;
use toml::{Table, Value};

use super::round::{self, Subject};
use crate::channel::violation::quoted;
use crate::channel::{CodeSet, FieldPath};
use crate::cli::exit::CliError;
use crate::config;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// The shortest interval the rules take; the interval itself has no meaning here.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What a channel would say, for a URL.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options for a URL")]
pub(super) struct UrlOptions {
    /// Status codes that count as success, such as 200,201,210-299 [default: 200]
    #[arg(long, value_name = "CODES", requires = "url", value_parser = parse_codes)]
    http_code: Option<String>,

    /// The longest time of the whole probe, 10ms to 30s [default: 5s]
    #[arg(long, value_name = "DURATION", requires = "url")]
    timeout: Option<humantime::Duration>,

    /// The request's method [default: GET]
    #[arg(long, value_name = "METHOD", requires = "url", ignore_case = true, value_parser = ["GET", "HEAD"])]
    method: Option<String>,

    /// A request header; may be given more than once
    // Taken apart later: what clap refuses it prints, and this may be a secret.
    #[arg(long, value_name = "NAME:VALUE", requires = "url")]
    header: Vec<String>,

    /// The Host header and, for HTTPS, the server name
    #[arg(long, value_name = "HOST", requires = "url")]
    host: Option<String>,

    /// Which addresses of the URL's name are probed: v4, v6 or any [default: any]
    #[arg(long, value_name = "FAMILY", requires = "url", value_parser = ["v4", "v6", "any"])]
    resolve: Option<String>,

    /// End the connection with a FIN instead of a reset
    #[arg(long, requires = "url", action = ArgAction::SetTrue)]
    fin: bool,

    /// Verify the certificate
    #[arg(long, requires = "url", action = ArgAction::SetTrue)]
    verify: bool,

    /// Trust these CA certificates (PEM) instead of the system's
    #[arg(long, value_name = "PATH", requires = "verify")]
    ca_file: Option<PathBuf>,

    /// The name to send (SNI) and to verify
    #[arg(long, value_name = "NAME", requires = "url")]
    server_name: Option<String>,

    /// Present this client certificate chain (PEM)
    #[arg(long, value_name = "PATH", requires_all = ["url", "client_key"])]
    client_certificate: Option<PathBuf>,

    /// The client certificate's private key (PEM)
    #[arg(long, value_name = "PATH", requires = "client_certificate")]
    client_key: Option<PathBuf>,

    /// The lowest TLS version to accept, 1.2 or 1.3 [default: 1.2]
    #[arg(long, value_name = "VERSION", requires = "url", value_parser = ["1.2", "1.3"])]
    min_tls: Option<String>,
}

fn parse_codes(text: &str) -> Result<String, String> {
    match CodeSet::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The headers of the flags.
///
/// # Errors
/// Usage: one without a colon. It is not repeated.
fn headers_of(options: &UrlOptions) -> Result<Table, CliError> {
    let parts = options.header.iter().map(|text| {
        let (name, value) = text.split_once(':')?;
        Some((name.trim().to_owned(), Value::from(value.trim())))
    });
    let headers: Option<Table> = parts.collect();
    headers.ok_or_else(|| CliError::Usage("--header: write it like X-Probe:vitald".to_owned()))
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
struct ProbeUrl {
    scheme: Scheme,
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Tcp,
    Http,
    Https,
}

impl Scheme {
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The one member that a URL and its flags stand for.
///
/// # Errors
/// Usage: no URL, a flag that does not belong to its scheme, a value that a
/// channel could not have. Certificates that cannot be used.
pub(super) fn subjects(text: &str, options: &UrlOptions) -> Result<Vec<Subject>, CliError> {
    let url = parse(text).map_err(|problem| {
        CliError::Usage(format!(
            "{}: {problem}; write http://HOST:PORT/PATH, https://... or tcp://HOST:PORT",
            quoted(text)
        ))
    })?;
    refuse_foreign_flags(&url, options)?;
    // Paths of flags are relative to where the user is.
    let channel = channel(&url, options, headers_of(options)?);
    let config = config::parse("the command line", &channel, Path::new(""));
    let config = config.map_err(|diagnostics| {
        let lines = diagnostics
            .errors()
            .iter()
            .map(|error| format!("{}: {}; {}", flag_of(&error.path), error.message, error.remedy));
        CliError::Usage(lines.collect::<Vec<_>>().join("\n"))
    })?;
    let subjects: Result<Vec<_>, _> =
        config.channels.iter().map(|file| round::subjects(&file.channel)).collect();
    let subjects = subjects.map_err(|error| CliError::Preparation(error.to_string()))?;
    Ok(subjects.into_iter().flatten().collect())
}

fn parse(text: &str) -> Result<ProbeUrl, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "this is no URL")?;
    let (scheme, default_port) = match uri.scheme_str() {
        Some("tcp") => (Scheme::Tcp, None),
        Some("http") => (Scheme::Http, Some(80)),
        Some("https") => (Scheme::Https, Some(443)),
        Some(_) => return Err("only http, https and tcp can be probed"),
        None => return Err("the scheme is missing"),
    };
    let authority = uri.authority().ok_or("the host is missing")?;
    if authority.as_str().contains('@') {
        return Err("a user name or password is not supported; use --header");
    }
    let host = authority.host();
    let port = match authority.port_u16() {
        Some(0) => return Err("the port is not one from 1 to 65535"),
        Some(port) => port,
        None if authority.as_str() != host => return Err("the port is not one from 1 to 65535"),
        None => default_port.ok_or("the port is missing")?,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("the host is missing");
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if scheme == Scheme::Tcp && !matches!(path, "" | "/") {
        return Err("a tcp URL has no path");
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(ProbeUrl { scheme, host: host.to_owned(), port, path })
}

/// A flag without effect would mislead, so it is refused.
fn refuse_foreign_flags(url: &ProbeUrl, options: &UrlOptions) -> Result<(), CliError> {
    let scheme = url.scheme;
    if options.resolve.is_some() && url.host.parse::<IpAddr>().is_ok() {
        let message = format!("--resolve has no effect on the address {}; it is for names", url.host);
        return Err(CliError::Usage(message));
    }
    let http = [
        ("--http-code", options.http_code.is_some()),
        ("--method", options.method.is_some()),
        ("--header", !options.header.is_empty()),
        ("--host", options.host.is_some()),
    ];
    let tls = [
        ("--verify", options.verify),
        ("--server-name", options.server_name.is_some()),
        ("--client-certificate", options.client_certificate.is_some()),
        ("--min-tls", options.min_tls.is_some()),
    ];
    let foreign_http = http.into_iter().filter(|_| scheme == Scheme::Tcp);
    let foreign_tls = tls.into_iter().filter(|_| scheme != Scheme::Https);
    let given: Vec<&str> =
        foreign_http.chain(foreign_tls).filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect();
    match given.is_empty() {
        true => Ok(()),
        false => {
            Err(CliError::Usage(format!("{} has no effect on a {} URL", given.join(", "), scheme.word())))
        }
    }
}

/// The channel as a configuration would have it.
fn channel(url: &ProbeUrl, options: &UrlOptions, headers: Table) -> String {
    let is_http = url.scheme != Scheme::Tcp;
    let timeout = options.timeout.map_or(DEFAULT_TIMEOUT, Into::into);
    let method = options.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
    let code = options.http_code.as_deref().unwrap_or("200");
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().as_ref().into());
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let host = Table::from_iter([("host".to_owned(), Value::from(url.host.as_str()))]);
    let lines: [(&str, Option<Value>); 24] = [
        ("name", Some(format!("url-{}", url.scheme.word()).into())),
        ("port", Some(i64::from(url.port).into())),
        ("balance_strategy", Some(1.into())),
        ("member_type", Some("ip".into())),
        ("members", Some(Value::Array(vec![host.into()]))),
        ("vpc_health_config.protocol", Some(url.scheme.word().into())),
        ("vpc_health_config.timeout", Some(duration(timeout))),
        ("vpc_health_config.time_interval", Some(duration(timeout.max(SHORTEST_INTERVAL)))),
        ("vpc_health_config.threshold_normal", Some(1.into())),
        ("vpc_health_config.threshold_abnormal", Some(1.into())),
        ("vpc_health_config.path", is_http.then(|| url.path.as_str().into())),
        ("vpc_health_config.http_code", is_http.then(|| code.into())),
        ("vpc_health_config.method", is_http.then(|| method.into())),
        ("vpc_health_config.enable_client_ssl", is_http.then(|| options.client_certificate.is_some().into())),
        ("probe.host", text(&options.host)),
        ("probe.resolve", text(&options.resolve)),
        ("probe.close", options.fin.then(|| "fin".into())),
        ("probe.headers", (!headers.is_empty()).then(|| headers.into())),
        ("probe.tls.verify", options.verify.then(|| true.into())),
        ("probe.tls.ca_file", path(&options.ca_file)),
        ("probe.tls.server_name", text(&options.server_name)),
        ("probe.tls.client_certificate", path(&options.client_certificate)),
        ("probe.tls.client_key", path(&options.client_key)),
        ("probe.tls.min_version", text(&options.min_tls)),
    ];
    let lines = lines.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}\n", value?)));
    format!("[[channels]]\n{}", lines.collect::<String>())
}

fn duration(duration: Duration) -> Value {
    humantime::format_duration(duration).to_string().replace(' ', "").into()
}

/// The flag, or the part of the URL, that a field of the channel came from.
fn flag_of(path: &FieldPath) -> &'static str {
    let is_header =
        path.0.iter().any(|step| matches!(step, crate::channel::PathSegment::Key(key) if key == "headers"));
    if is_header {
        return "--header";
    }
    match path.field() {
        Some("http_code") => "--http-code",
        Some("timeout" | "time_interval") => "--timeout",
        Some("host") if path.to_string().contains("probe") => "--host",
        Some("host") => "the URL's host",
        Some("path") => "the URL's path",
        Some("ca_file") => "--ca-file",
        Some("server_name") => "--server-name",
        Some("client_certificate" | "enable_client_ssl") => "--client-certificate",
        Some("client_key") => "--client-key",
        _ => "the URL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_what() {
        let url = |scheme, host: &str, port, path: &str| ProbeUrl {
            scheme,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        };
        let cases = [
            ("http://10.0.0.7", url(Scheme::Http, "10.0.0.7", 80, "/")),
            ("http://10.0.0.7:8080/health?deep=1", url(Scheme::Http, "10.0.0.7", 8080, "/health?deep=1")),
            ("https://app.internal/x", url(Scheme::Https, "app.internal", 443, "/x")),
            ("https://[::1]:8443/", url(Scheme::Https, "::1", 8443, "/")),
            ("tcp://db:5432", url(Scheme::Tcp, "db", 5432, "/")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        let cases = [
            ("10.0.0.7:80", "the scheme is missing"),
            ("/health", "the scheme is missing"),
            ("ftp://h/", "only http, https and tcp can be probed"),
            ("tcp://db", "the port is missing"),
            ("tcp://db:5432/x", "a tcp URL has no path"),
            ("http://h:99999/", "the port is not one from 1 to 65535"),
            ("http://h:0/", "the port is not one from 1 to 65535"),
            ("http://user@h/", "a user name or password is not supported; use --header"),
            ("http://", "this is no URL"),
        ];
        for (text, problem) in cases {
            assert_eq!(parse(text), Err(problem), "{text}");
        }
    }
}
