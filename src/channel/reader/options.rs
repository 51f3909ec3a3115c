//! The rules of the tables that not every channel has: `microservice_info`
//! (docs/vendor-api.md, "MicroServiceCreate"), and vitald's own `probe`, in files only.
//!
//! vitald reads no registry: `microservice_info` is checked, so that a channel
//! that the vendor would refuse is refused here, and decides the channel's kind.

use std::collections::HashMap;

use super::super::document::{Kind, Place};
use super::super::model::{ClientIdentity, TlsVersion, VerifyCertificate};
use super::super::probe_header::{ProbeHeader, SecretFile};
use super::super::probe_settings::{ProbeSettings, TlsSettings};
use super::super::violation::{Rule, Violation, quoted};
use super::super::words::{CloseMode, Health, ResolveFamily};
use super::context::{ClientIdentityError, FileProblem, ReadContext, ViolationLog};
use super::section::{Case, FieldReader, TableReader};
use super::text;

pub(super) const PROBE_KEYS: [&str; 6] = ["initial_state", "host", "headers", "close", "resolve", "tls"];
/// Of a header that is written as a table.
pub(super) const HEADER_KEYS: [&str; 3] = ["value", "file", "secret"];
pub(super) const TLS_KEYS: [&str; 6] =
    ["verify", "ca_file", "server_name", "client_certificate", "client_key", "min_version"];
/// Those of the defaults: the others have theirs in `[tls]`.
const TLS_DEFAULT_KEYS: [&str; 4] = ["verify", "ca_file", "server_name", "min_version"];

/// Which table holds settings of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeTable {
    /// A channel's `probe`.
    Channel,
    /// `[defaults.probe]`, for all channels that say nothing else.
    Defaults,
}

/// Reads one of the two tables: a key that is not there stays open. `config` reads the
/// defaults with it.
pub fn probe_settings_of(
    section: &TableReader<'_>,
    table: ProbeTable,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> ProbeSettings {
    section.refuse_unknown_keys(&PROBE_KEYS, log);
    let states = Health::ALL.map(|health| (health.word(), health));
    let closes = CloseMode::ALL.map(|close| (close.word(), close));
    let initial_state =
        section.field("initial_state").and_then(|field| field.word(&states, Case::Exact, log));
    let close = section.field("close").and_then(|field| field.word(&closes, Case::Exact, log));
    let families = ResolveFamily::ALL.map(|family| (family.word(), family));
    let resolve = section.field("resolve").and_then(|field| field.word(&families, Case::Exact, log));
    let host = section.field("host").and_then(|field| text::authority(&field, log));
    let headers = section.field("headers").map(|field| headers_of(&field, context, log)).unwrap_or_default();
    let tls = section
        .field("tls")
        .and_then(|field| Some(tls_of(&field.section("TLS table", log)?, table, context, log)))
        .unwrap_or_default();
    ProbeSettings { initial_state, host, headers, close, resolve, tls }
}

/// Extra request headers. Those that frame the request are ours to send: a
/// second one would make servers read the request in different ways (RFC 9112, 11.2).
fn headers_of(
    field: &FieldReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Vec<ProbeHeader> {
    let Some(section) = field.section("header table", log) else { return Vec::new() };
    let mut headers = Vec::new();
    let mut seen: HashMap<String, Place> = HashMap::new();
    for (name, name_place, value) in section.entries() {
        let lower = name.to_ascii_lowercase();
        if !text::is_token(name) {
            // What follows a colon was meant as the value, which may be a secret: it is in
            // no message and no path.
            let shown = name.split(':').next().unwrap_or_default();
            let rest = if shown == name { "" } else { " and what follows it" };
            let message = format!("{}{rest} is no header name", quoted(shown));
            let violation = value.violation(Rule::WrongFormat, message, "use letters, digits and `-`");
            log.report(Violation { place: name_place, path: section.path().key(shown), ..violation });
            continue;
        }
        let mut breach = |rule, message: String, remedy: &str, related| {
            let violation = value.violation(rule, message, remedy);
            log.report(Violation { place: name_place, related, ..violation });
        };
        let reserved = match lower.as_str() {
            "host" => Some("set `host` in [channels.probe] instead"),
            "connection" => Some("remove it; every probe is one request on a connection of its own"),
            "content-length" | "transfer-encoding" => Some("remove it; a probe has no body"),
            _ => None,
        };
        if let Some(remedy) = reserved {
            breach(
                Rule::Conflict,
                format!("the header {} is set by the probe itself", quoted(name)),
                remedy,
                None,
            );
            continue;
        }
        if let Some(first) = seen.insert(lower, name_place) {
            let related = Some((first, "the first one".to_owned()));
            breach(
                Rule::Conflict,
                format!("the header {} is given twice; case does not tell headers apart", quoted(name)),
                "remove one of them",
                related,
            );
            continue;
        }
        headers.extend(header_of(name, &value, context, log));
    }
    headers
}

/// One header: a text; `false`, with which it is left out; or a table, which says where
/// the value is and whether it is a secret.
fn header_of(
    name: &str,
    field: &FieldReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<ProbeHeader> {
    match field.kind() {
        Kind::String(_) => Some(ProbeHeader::plain(name, text::header_value(field, log)?)),
        Kind::Boolean(false) => Some(ProbeHeader::left_out(name)),
        Kind::Table(_) => header_of_table(name, &field.section("header", log)?, context, log),
        _ => {
            let remedy =
                "write the value in quotes, a table with `value` or `file`, or false to leave it out";
            field.report_type("a string, a table or false", remedy, log);
            None
        }
    }
}

fn header_of_table(
    name: &str,
    section: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<ProbeHeader> {
    section.refuse_unknown_keys(&HEADER_KEYS, log);
    let secret_field = section.field("secret");
    let secret = secret_field.map(|field| field.boolean(log));
    match (section.field("value"), section.field("file")) {
        (Some(value), None) => {
            let value = text::header_value(&value, log)?;
            Some(match secret {
                Some(Some(true)) => ProbeHeader::secret(name, value),
                _ => ProbeHeader::plain(name, value),
            })
        }
        (None, Some(file)) => {
            if let (Some(field), Some(Some(false))) = (secret_field, secret) {
                let message = "what a header has in a file is a secret".to_owned();
                let remedy = "remove `secret`, or write the value itself as `value`";
                field.report(Rule::Conflict, message, remedy, log);
            }
            secret_of(&file, context, log).map(|file| ProbeHeader::of_file(name, file))
        }
        (Some(_), Some(file)) => {
            let message = "a header has one value: `value` or `file`".to_owned();
            file.report(Rule::Conflict, message, "remove one of the two", log);
            None
        }
        (None, None) => {
            section.report_missing("value", "write the value, or name the `file` that holds it", log);
            None
        }
    }
}

/// The file that holds a header's value. What it holds is in no violation.
fn secret_of(
    field: &FieldReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<SecretFile> {
    let path = field.text(log)?;
    let read = context.secret_file(path).and_then(|file| match text::as_header_value(&file.text) {
        Some(text) => Ok(SecretFile { text, ..file }),
        None => Err(FileProblem {
            problem: format!("{} holds what no header value may", file.path.display()),
            remedy: text::HEADER_REMEDY,
        }),
    });
    read.map_err(|FileProblem { problem, remedy }| {
        field.report(Rule::BadFile, format!("`{}`: {problem}", field.key()), remedy, log);
    })
    .ok()
}

fn tls_of(
    section: &TableReader<'_>,
    table: ProbeTable,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> TlsSettings {
    match table {
        ProbeTable::Channel => section.refuse_unknown_keys(&TLS_KEYS, log),
        ProbeTable::Defaults => {
            section.refuse_unknown_keys_with(&TLS_DEFAULT_KEYS, &client_certificate_key, log);
        }
    }
    let verify_field = section.field("verify");
    let verify = verify_field.and_then(|field| field.boolean(log)).map(|is_on| match is_on {
        true => VerifyCertificate::Yes,
        false => VerifyCertificate::No,
    });
    let default = || context.probe_defaults().and_then(|defaults| defaults.tls.verify);
    let is_off = match (verify_field, verify) {
        (None, _) => default().is_none_or(|verify| verify == VerifyCertificate::No),
        // A value of another type is the one mistake.
        (Some(_), verify) => verify == Some(VerifyCertificate::No),
    };
    let versions = TlsVersion::ALL.map(|version| (version.word(), version));
    let min_version = section.field("min_version").and_then(|field| field.word(&versions, Case::Exact, log));
    let server_name = section.field("server_name").and_then(|field| text::server_name(&field, log));
    let ca = section.field("ca_file").and_then(|field| {
        // Written for a purpose, and without `verify` it would silently have none.
        // A default may wait for channels that verify.
        if is_off && table == ProbeTable::Channel {
            let message = "`ca_file` has no effect unless `verify` is true".to_owned();
            field.report(Rule::Conflict, message, "write verify = true, or remove `ca_file`", log);
        }
        let path = field.text(log)?;
        let anchors = context.trust_anchors(path);
        anchors.map_err(|problem| report_file(&field, path, &problem, log)).ok()
    });
    let client = match table {
        ProbeTable::Channel => {
            client_identity_of(section, ("client_certificate", "client_key"), context, log)
        }
        ProbeTable::Defaults => None,
    };
    TlsSettings { verify, ca, server_name, client, min_version }
}

/// Where the default of these two keys stands.
fn client_certificate_key(key: &str) -> Option<String> {
    ["client_certificate", "client_key"].contains(&key).then(|| {
        "write `backend_client_certificate` in [tls]; it is the one of all channels without their own"
            .to_owned()
    })
}

/// A certificate and its key, under two keys of a section that must be given
/// together. `config` reads the daemon's own pair with it.
pub fn client_identity_of(
    section: &TableReader<'_>,
    (certificate_key, key_key): (&str, &str),
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<ClientIdentity> {
    let (certificate, key) = match (section.field(certificate_key), section.field(key_key)) {
        (None, None) => return None,
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            let remedy = format!("give `{key_key}`, the file of the certificate's private key");
            section.report_missing(key_key, &remedy, log);
            return None;
        }
        (None, Some(_)) => {
            let remedy = format!("give `{certificate_key}`, the file of the key's certificate");
            section.report_missing(certificate_key, &remedy, log);
            return None;
        }
    };
    let (certificate_path, key_path) = (certificate.text(log), key.text(log));
    let (certificate_path, key_path) = (certificate_path?, key_path?);
    match context.client_identity(certificate_path, key_path) {
        Ok(identity) => return Some(identity),
        Err(ClientIdentityError::Certificate(problem)) => {
            report_file(&certificate, certificate_path, &problem, log);
        }
        Err(ClientIdentityError::Key(problem)) => report_file(&key, key_path, &problem, log),
        Err(ClientIdentityError::Exposed(FileProblem { problem, remedy })) => {
            key.report(Rule::BadFile, format!("`{}`: {problem}", key.key()), remedy, log);
        }
        Err(ClientIdentityError::Mismatch) => {
            let message = format!("{} is not the key of {}", quoted(key_path), quoted(certificate_path));
            let remedy = "give the key that the certificate was made for";
            let violation = key.violation(Rule::CertificateKeyMismatch, message, remedy);
            let related = Some((certificate.place(), "the certificate".to_owned()));
            log.report(Violation { related, ..violation });
        }
    }
    None
}

fn report_file(field: &FieldReader<'_>, path: &str, problem: &str, log: &mut ViolationLog) {
    let message = format!("cannot use {}: {problem}", quoted(path));
    let remedy = "give a PEM file that the daemon may read; paths are relative to the file that names them";
    field.report(Rule::BadFile, message, remedy, log);
}

pub(super) const MICROSERVICE_KEYS: [&str; 5] =
    ["service_type", "cse_info", "cce_info", "cce_service_info", "nacos_info"];
pub(super) const CSE_KEYS: [&str; 2] = ["engine_id", "service_id"];
pub(super) const CCE_KEYS: [&str; 6] =
    ["cluster_id", "namespace", "workload_type", "app_name", "label_key", "label_value"];
pub(super) const CCE_SERVICE_KEYS: [&str; 3] = ["cluster_id", "namespace", "service_name"];
pub(super) const NACOS_KEYS: [&str; 6] =
    ["namespace", "cluster_name", "group_name", "service_name", "server_config", "user_info"];
pub(super) const NACOS_SERVER_KEYS: [&str; 3] = ["ip_address", "port", "grpc_port"];
pub(super) const NACOS_USER_KEYS: [&str; 2] = ["user_name", "password"];

/// Whether a text key must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}
use Need::{Optional, Required};

/// Checks `microservice_info`.
pub(super) fn check_microservice(section: &TableReader<'_>, log: &mut ViolationLog) {
    section.refuse_unknown_keys(&MICROSERVICE_KEYS, log);
    let types = [
        ("CSE", "cse_info"),
        ("CCE", "cce_info"),
        ("CCE_SERVICE", "cce_service_info"),
        ("NACOS", "nacos_info"),
    ];
    let service_type = match section.filled("service_type") {
        Some(field) => field.word(&types, Case::Exact, log),
        None => {
            section.report_missing(
                "service_type",
                "write service_type = \"CSE\", \"CCE\", \"CCE_SERVICE\" or \"NACOS\"",
                log,
            );
            None
        }
    };
    // Only the object of the type is read: API clients send the others empty.
    let Some(key) = service_type else { return };
    let remedy = format!("describe the service in `{key}`");
    let Some(field) = section.required(key, &remedy, log) else { return };
    let Some(info) = field.section("service", log) else { return };
    match key {
        "cse_info" => {
            info.refuse_unknown_keys(&CSE_KEYS, log);
            check_texts(&info, &[("engine_id", 64, Required), ("service_id", 64, Required)], log);
        }
        "cce_info" => check_cce(&info, log),
        "cce_service_info" => {
            info.refuse_unknown_keys(&CCE_SERVICE_KEYS, log);
            let texts =
                [("cluster_id", 64, Required), ("namespace", 63, Required), ("service_name", 64, Required)];
            check_texts(&info, &texts, log);
        }
        _ => check_nacos(&info, log),
    }
}

fn check_cce(info: &TableReader<'_>, log: &mut ViolationLog) {
    info.refuse_unknown_keys(&CCE_KEYS, log);
    let texts = [
        ("cluster_id", 64, Required),
        ("namespace", 64, Required),
        ("app_name", 64, Optional),
        ("label_key", 64, Optional),
        ("label_value", 64, Optional),
    ];
    check_texts(info, &texts, log);
    let workloads = [("deployment", ()), ("statefulset", ()), ("daemonset", ())];
    let remedy = "write workload_type = \"deployment\", \"statefulset\" or \"daemonset\"";
    if let Some(field) = info.required("workload_type", remedy, log) {
        field.word(&workloads, Case::Exact, log);
    }
    let has_label = info.filled("label_key").is_some() && info.filled("label_value").is_some();
    if info.filled("app_name").is_none() && !has_label {
        info.report_missing("app_name", "give `app_name`, or `label_key` and `label_value`", log);
    }
}

fn check_nacos(info: &TableReader<'_>, log: &mut ViolationLog) {
    info.refuse_unknown_keys(&NACOS_KEYS, log);
    let texts = [
        ("namespace", 64, Optional),
        ("cluster_name", 64, Optional),
        ("group_name", 128, Optional),
        ("service_name", 512, Required),
    ];
    check_texts(info, &texts, log);
    if let Some(user) =
        section_of(info.required("user_info", "give `user_name` and `password`", log), "user", log)
    {
        user.refuse_unknown_keys(&NACOS_USER_KEYS, log);
        check_texts(&user, &[("user_name", 256, Required), ("password", 256, Required)], log);
    }
    let Some(servers) = info.required("server_config", "list the Nacos servers", log) else { return };
    let Some(items) = servers.items(log) else { return };
    for item in items {
        let Some(server) = item.section("Nacos server", log) else { continue };
        server.refuse_unknown_keys(&NACOS_SERVER_KEYS, log);
        if let Some(field) = server.required("ip_address", "give the server's address", log) {
            text::host(&field, log);
        }
        if let Some(field) = server.required("port", "give the server's port, such as 8848", log) {
            field.number(1..=65535_u16, log);
        }
        if let Some(field) = server.field("grpc_port") {
            field.number(0..=65535_u16, log);
        }
    }
}

fn section_of<'d>(
    field: Option<FieldReader<'d>>,
    noun: &'static str,
    log: &mut ViolationLog,
) -> Option<TableReader<'d>> {
    field?.section(noun, log)
}

fn check_texts(section: &TableReader<'_>, texts: &[(&str, usize, Need)], log: &mut ViolationLog) {
    for (key, most, need) in texts {
        match (section.filled(key), need) {
            (Some(field), _) => {
                text::with_length(&field, 1, *most, log);
            }
            (None, Required) => section.report_missing(key, "the service type needs it", log),
            (None, Optional) => {}
        }
    }
}
