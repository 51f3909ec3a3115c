//! The daemon's own tables: `[server]`, `[prober]`, `[include]`, `[tls]`, `[ecs]`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::{MaxInFlight, ProberSettings, ServerSettings, ServerTlsSettings, StoreSettings, api_tables};
use crate::channel::document::{Kind, Place};
use crate::channel::reader::ViolationLog;
use crate::channel::reader::section::{DurationLimits, FieldReader, TableReader};
use crate::channel::reader::{ReadContext, client_identity_of, host};
use crate::channel::violation::quoted;
use crate::channel::{ClientIdentity, Host, Rule};

const ROOT_KEYS: [&str; 8] = ["server", "prober", "api", "store", "include", "tls", "ecs", "channels"];
const SERVER_KEYS: [&str; 3] = ["listen", "socket", "tls"];
const SERVER_TLS_KEYS: [&str; 3] = ["certificate", "key", "client_ca"];
const PROBER_KEYS: [&str; 4] = ["max_in_flight", "ready_within", "resolve_interval", "reference"];
const STORE_KEYS: [&str; 2] = ["path", "verdict_age_limit"];
const INCLUDE_KEYS: [&str; 1] = ["channels"];
const TLS_KEYS: [&str; 1] = ["backend_client_certificate"];
const IDENTITY_KEYS: [&str; 2] = ["certificate", "key"];

/// Every key of the main file outside its channels, by table. `[ecs]` has keys
/// of the user's choice.
pub const KNOWN_KEYS: [(&str, &[&str]); 15] = [
    ("vitald.toml", &ROOT_KEYS),
    ("server", &SERVER_KEYS),
    ("server.tls", &SERVER_TLS_KEYS),
    ("prober", &PROBER_KEYS),
    ("api", &api_tables::API_KEYS),
    ("api.project", &api_tables::PROJECT_KEYS),
    ("api.instances", &api_tables::INSTANCE_KEYS),
    ("features", &api_tables::FEATURE_KEYS),
    ("api.users", &api_tables::USER_KEYS),
    ("api.access_keys", &api_tables::ACCESS_KEY_KEYS),
    ("api.quotas", &api_tables::QUOTA_KEYS),
    ("store", &STORE_KEYS),
    ("include", &INCLUDE_KEYS),
    ("tls", &TLS_KEYS),
    ("backend_client_certificate", &IDENTITY_KEYS),
];

/// What the main file says besides its channels.
#[derive(Debug, Default)]
pub(super) struct MainSettings {
    pub(super) server: ServerSettings,
    pub(super) prober: ProberSettings,
    pub(super) store: StoreSettings,
    pub(super) include: Vec<Pattern>,
    pub(super) daemon_identity: DaemonIdentity,
    pub(super) ecs: HashMap<String, Host>,
}

/// `[tls] backend_client_certificate`.
#[derive(Debug, Default)]
pub(super) enum DaemonIdentity {
    /// Not written.
    #[default]
    None,
    /// Written and good.
    Good(ClientIdentity),
    /// Written and reported; that channels lack it now is no second mistake.
    Broken,
}

/// One pattern of `[include] channels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) text: String,
    pub(super) place: Place,
}

pub(super) fn read(
    root: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog<'_>,
) -> MainSettings {
    root.refuse_unknown_keys_with(&ROOT_KEYS, &misplaced_key, log);
    let mut tables = MainSettings::default();
    if let Some(field) = root.field("server")
        && let Some(server) = field.section("server table", log)
    {
        tables.server = server_of(&server, context, log);
    }
    if let Some(field) = root.field("prober")
        && let Some(prober) = field.section("prober table", log)
    {
        tables.prober = prober_of(&prober, log);
    }
    if let Some(field) = root.field("store")
        && let Some(store) = field.section("store table", log)
    {
        tables.store = store_of(&store, log);
    }
    if let Some(field) = root.field("include")
        && let Some(include) = field.section("include table", log)
    {
        tables.include = include_of(&include, log);
    }
    if let Some(field) = root.field("tls")
        && let Some(tls) = field.section("TLS table", log)
    {
        tls.refuse_unknown_keys(&TLS_KEYS, log);
        let before = log.breaches();
        let identity = identity_of(&tls, context, log);
        tables.daemon_identity = match identity {
            Some(identity) => DaemonIdentity::Good(identity),
            None if log.breaches() > before => DaemonIdentity::Broken,
            None => DaemonIdentity::None,
        };
    }
    if let Some(field) = root.field("ecs")
        && let Some(ecs) = field.section("ecs table", log)
    {
        tables.ecs =
            ecs.entries().filter_map(|(id, _, field)| Some((id.to_owned(), host(&field, log)?))).collect();
    }
    tables
}

fn server_of(
    section: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog<'_>,
) -> ServerSettings {
    section.refuse_unknown_keys(&SERVER_KEYS, log);
    let listen = section.field("listen").and_then(|field| {
        let text = field.text(log)?;
        let address = text.parse::<SocketAddr>().ok();
        if address.is_none() {
            let message = format!("`listen` is {}, which is no address and port", quoted(text));
            let remedy = "write an address and a port: \"127.0.0.1:9650\", \"0.0.0.0:9650\" or \"[::]:9650\"";
            field.report(Rule::WrongFormat, message, remedy, log);
        }
        address
    });
    let socket = section.field("socket").and_then(|field| socket_of(&field, log));
    let tls = section.field("tls").and_then(|field| {
        let section = field.section("server TLS table", log)?;
        server_tls_of(&section, context, log)
    });
    ServerSettings { listen: listen.unwrap_or(ServerSettings::default().listen), tls, socket }
}

/// Linux holds 107 bytes of a socket's path; one is needed while it is bound.
const LONGEST_SOCKET: usize = 106;

/// An absolute path: where the daemon was started is nobody's business.
fn socket_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<PathBuf> {
    let text = field.text(log)?;
    if text.starts_with('/') && text.len() <= LONGEST_SOCKET && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    let message = format!("`socket` is {}, which is no path for a Unix socket", quoted(text));
    let remedy = "write an absolute path of at most 106 bytes, such as \"/run/vitald/vitald.sock\"";
    field.report(Rule::WrongFormat, message, remedy, log);
    None
}

fn server_tls_of(
    section: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog<'_>,
) -> Option<ServerTlsSettings> {
    section.refuse_unknown_keys(&SERVER_TLS_KEYS, log);
    if section.is_empty() {
        section.report_missing("certificate", "give `certificate` and `key`, two PEM files", log);
    }
    let identity = client_identity_of(section, ("certificate", "key"), context, log);
    let client_ca = match section.field("client_ca") {
        None => None,
        Some(field) => match context.trust_anchors(field.text(log)?) {
            Ok(anchors) => Some(anchors),
            Err(problem) => {
                let message = format!("`client_ca`: {problem}");
                let remedy = "name a PEM file that holds the authorities of your clients' certificates";
                field.report(Rule::BadFile, message, remedy, log);
                return None;
            }
        },
    };
    Some(ServerTlsSettings { identity: identity?, client_ca })
}

fn prober_of(section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> ProberSettings {
    section.refuse_unknown_keys(&PROBER_KEYS, log);
    let default = ProberSettings::default();
    let max_in_flight = section.field("max_in_flight").and_then(|field| max_in_flight_of(&field, log));
    let ready = DurationLimits { least: Duration::ZERO, least_seconds: 0, most_seconds: 3600 };
    let ready_within = section.field("ready_within").and_then(|field| field.duration(&ready, log));
    let resolve = DurationLimits { least: Duration::from_secs(1), least_seconds: 1, most_seconds: 86_400 };
    let resolve_interval = section.field("resolve_interval").and_then(|field| field.duration(&resolve, log));
    ProberSettings {
        max_in_flight: max_in_flight.unwrap_or_default(),
        ready_within: ready_within.unwrap_or(default.ready_within),
        resolve_interval: resolve_interval.unwrap_or(default.resolve_interval),
        reference: section.field("reference").map_or_else(Vec::new, |field| reference_of(&field, log)),
    }
}

/// Addresses only: a name would need the network that is to be judged.
fn reference_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Vec<SocketAddr> {
    let mut targets = Vec::new();
    for item in field.items(log).into_iter().flatten() {
        let Some(text) = item.text(log) else { continue };
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => targets.push(address),
            _ => {
                let message =
                    format!("a target of `reference` is {}, which is no address and port", quoted(text));
                let remedy =
                    "write an IP address and a port, such as \"192.0.2.1:53\" or \"[2001:db8::1]:443\"";
                item.report(Rule::WrongFormat, message, remedy, log);
            }
        }
    }
    targets
}

fn store_of(section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> StoreSettings {
    section.refuse_unknown_keys(&STORE_KEYS, log);
    let path = section.field("path").and_then(|field| {
        let text = field.text(log)?;
        // Where the daemon was started is nobody's business.
        if text.starts_with('/') && !text.contains('\0') {
            return Some(PathBuf::from(text));
        }
        let message = format!("`path` is {}, which is no absolute path", quoted(text));
        let remedy = "write the path of a directory, such as \"/var/lib/vitald\"";
        field.report(Rule::WrongFormat, message, remedy, log);
        None
    });
    let limits = DurationLimits { least: Duration::ZERO, least_seconds: 0, most_seconds: 86_400 };
    let limit = section.field("verdict_age_limit").and_then(|field| field.duration(&limits, log));
    StoreSettings { path, verdict_age_limit: limit.unwrap_or(StoreSettings::default().verdict_age_limit) }
}

fn max_in_flight_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<MaxInFlight> {
    match field.kind() {
        Kind::String(word) if word == "auto" => Some(MaxInFlight::Auto),
        Kind::String(word) => {
            let message = format!("`max_in_flight` is {}, not a number or \"auto\"", quoted(word));
            field.report(Rule::UnknownWord, message, "write \"auto\", or a number without quotes", log);
            None
        }
        Kind::Integer(_) => {
            let number = field.number(1..=1_000_000_u32, log)?;
            NonZeroU32::new(number).map(MaxInFlight::Limit)
        }
        _ => {
            field.report_type("a number or \"auto\"", "write \"auto\", or a number from 1 to 1000000", log);
            None
        }
    }
}

/// `channels`: a pattern, or a list of them.
fn include_of(section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> Vec<Pattern> {
    section.refuse_unknown_keys(&INCLUDE_KEYS, log);
    let Some(field) = section.field("channels") else { return Vec::new() };
    let mut patterns = Vec::new();
    let mut add = |field: &FieldReader<'_>, log: &mut ViolationLog<'_>| {
        let Some(text) = field.text(log) else { return };
        match glob::Pattern::new(text) {
            Ok(_) => patterns.push(Pattern { text: text.to_owned(), place: field.place() }),
            Err(error) => {
                let message = format!("{} is no file pattern: {}", quoted(text), error.msg);
                let remedy = "write a path with `*`, `?` and [sets], such as \"channels.d/*.toml\"";
                field.report(Rule::WrongFormat, message, remedy, log);
            }
        }
    };
    if let Kind::Array(_) = field.kind() {
        for item in field.items(log).into_iter().flatten() {
            add(&item, log);
        }
    } else {
        add(&field, log);
    }
    patterns
}

/// `backend_client_certificate`, named after the vendor's gateway feature
/// (docs/vendor-api.md, "Features").
fn identity_of(
    tls: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog<'_>,
) -> Option<ClientIdentity> {
    let field = tls.field("backend_client_certificate")?;
    let section = field.section("client certificate", log)?;
    section.refuse_unknown_keys(&IDENTITY_KEYS, log);
    if section.is_empty() {
        section.report_missing("certificate", "give `certificate` and `key`, two PEM files", log);
    }
    client_identity_of(&section, ("certificate", "key"), context, log)
}

fn misplaced_key(key: &str) -> Option<String> {
    let table = match key {
        "listen" | "socket" => "[server]",
        "max_in_flight" | "ready_within" | "resolve_interval" | "reference" => "[prober]",
        "path" | "verdict_age_limit" => "[store]",
        "name" | "port" | "balance_strategy" | "members" | "member_groups" | "vpc_health_config" => {
            return Some(
                "write a channel under [[channels]], or in a file of its own that [include] names".to_owned(),
            );
        }
        _ => return None,
    };
    Some(format!("move it into {table}"))
}
