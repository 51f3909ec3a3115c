//! The main file's tables beside `[api]` and the channels: what they set, and how they
//! are read.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::access::{self, AccessSettings};
use super::api::{self, ApiSettings};
use crate::channel::document::{Kind, Place};
use crate::channel::reader::section::{DurationLimits, FieldReader, TableReader};
use crate::channel::reader::{
    ProbeTable, ReadContext, ViolationLog, client_identity_of, member_host, probe_settings_of,
};
use crate::channel::violation::quoted;
use crate::channel::{Channel, ClientIdentity, Host, PemFile, ProbeSettings, Rule};

/// Everything a configuration says, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[prober]`.
    pub prober: ProberSettings,
    /// `[api]`; none when it is absent or switched off.
    pub api: Option<ApiSettings>,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[tls] backend_client_certificate`, named after the vendor's gateway feature
    /// (docs/vendor-api.md, "Features").
    pub backend_client_certificate: Option<ClientIdentity>,
    /// `[defaults.probe]`: what every channel has that sets none of its own. Those of files
    /// are completed by it already.
    pub probe_defaults: ProbeSettings,
    /// `[ecs]`: addresses of cloud servers by their `ecs_id`.
    pub ecs: HashMap<String, Host>,
    /// The channels: those of the main file first, then one per included file,
    /// in the lexical order of their paths. No two share a name.
    pub channels: Vec<FileChannel>,
    /// What is no mistake but may not be meant, one line each: a pattern of `[include]`
    /// that names no file, a file that is passed over for its name.
    pub notes: Vec<String>,
}

/// A channel and the file it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct FileChannel {
    /// The channel.
    pub channel: Arc<Channel>,
    /// The file, as reached from the path that was loaded.
    pub file: PathBuf,
}

impl FileChannel {
    pub(super) fn new(channel: Channel, file: &Path) -> Self {
        Self { channel: Arc::new(channel), file: file.to_owned() }
    }
}

/// `[server]`: where the HTTP server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// `listen`; loopback unless said otherwise.
    pub listen: SocketAddr,
    /// `[server.tls]`; none for plain HTTP.
    pub tls: Option<ServerTlsSettings>,
    /// `socket`: a Unix socket beside the address, for the local command line.
    pub socket: Option<PathBuf>,
    /// `hosts` and `proxies`.
    pub access: AccessSettings,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9650));
        Self { listen, tls: None, socket: None, access: AccessSettings::default() }
    }
}

/// `[server.tls]`: read at every load, so a reload brings new certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsSettings {
    /// `certificate` and `key`.
    pub identity: ClientIdentity,
    /// `client_ca`: only clients with a certificate of these are heard.
    pub client_ca: Option<PemFile>,
}

/// `[store]`: what survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// `path`: the state directory; none when it is not named.
    pub path: Option<PathBuf>,
    /// `verdict_age_limit`: the age up to which a verdict is used again after a restart,
    /// counted from its last conclusive probe. 0 seconds to 1 day.
    pub verdict_age_limit: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { path: None, verdict_age_limit: Duration::from_secs(600) }
    }
}

/// `[prober]`: how the daemon probes, over all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProberSettings {
    /// `max_in_flight`: probes at once.
    pub max_in_flight: MaxInFlight,
    /// `drivers`: threads that probe.
    pub drivers: DriverNumber,
    /// `ready_within`: the daemon is ready once every member has a verdict, or
    /// after this long. 0 to 1 hour.
    pub ready_within: Duration,
    /// `reload_within`: a load of the configuration that takes longer on a reload is given
    /// up. 1 second to 1 minute.
    pub reload_within: Duration,
    /// `resolve_interval`: how often host names are resolved again. 1 second to
    /// 1 day.
    pub resolve_interval: Duration,
    /// `reference`: while none of these answers, a member's silence is counted as
    /// the prober's fault. Empty: it never is.
    pub reference: Vec<SocketAddr>,
    /// `min_channels`: a configuration whose files hold fewer channels is refused, at
    /// start and on reload. None refuses only a reload from some to none.
    pub min_channels: Option<u32>,
    /// `large_fall_percent`: a reload that takes away this share of at least ten members
    /// of files is logged as a warning. 1 to 100.
    pub large_fall_percent: u32,
}

impl Default for ProberSettings {
    fn default() -> Self {
        Self {
            max_in_flight: MaxInFlight::Auto,
            drivers: DriverNumber::Auto,
            ready_within: Duration::from_secs(10),
            reload_within: Duration::from_secs(30),
            resolve_interval: Duration::from_secs(30),
            reference: Vec::new(),
            min_channels: None,
            large_fall_percent: 50,
        }
    }
}

/// `drivers`: how many threads probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverNumber {
    /// `"auto"`: as few as the work needs, at most one for each core.
    #[default]
    Auto,
    /// A number, 1 to [`DriverNumber::MOST`].
    Fixed(NonZeroU16),
}

impl DriverNumber {
    /// More threads only cost memory: each makes tens of thousands of probes a second.
    pub const MOST: u16 = 16;
}

/// `max_in_flight`: how many probes may run at once, over all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaxInFlight {
    /// `"auto"`: what the limit on open files allows.
    #[default]
    Auto,
    /// A number, 1 to 1,000,000.
    Limit(NonZeroU32),
}

const ROOT_KEYS: [&str; 9] =
    ["server", "prober", "api", "store", "include", "tls", "ecs", "defaults", "channels"];
const SERVER_KEYS: [&str; 5] = ["listen", "socket", "tls", "hosts", "proxies"];
const SERVER_TLS_KEYS: [&str; 3] = ["certificate", "key", "client_ca"];
const PROBER_KEYS: [&str; 8] = [
    "max_in_flight",
    "drivers",
    "ready_within",
    "reload_within",
    "resolve_interval",
    "reference",
    "min_channels",
    "large_fall_percent",
];
const STORE_KEYS: [&str; 2] = ["path", "verdict_age_limit"];
const INCLUDE_KEYS: [&str; 1] = ["channels"];
const TLS_KEYS: [&str; 1] = ["backend_client_certificate"];
const DEFAULTS_KEYS: [&str; 1] = ["probe"];
const IDENTITY_KEYS: [&str; 2] = ["certificate", "key"];

/// Every key of the main file outside its channels, by table. `[ecs]` has keys
/// of the user's choice.
pub const KNOWN_KEYS: [(&str, &[&str]); 16] = [
    ("vitald.toml", &ROOT_KEYS),
    ("server", &SERVER_KEYS),
    ("server.tls", &SERVER_TLS_KEYS),
    ("prober", &PROBER_KEYS),
    ("api", &api::API_KEYS),
    ("api.project", &api::PROJECT_KEYS),
    ("api.instances", &api::INSTANCE_KEYS),
    ("features", &api::FEATURE_KEYS),
    ("api.users", &api::USER_KEYS),
    ("api.access_keys", &api::ACCESS_KEY_KEYS),
    ("api.quotas", &api::QUOTA_KEYS),
    ("store", &STORE_KEYS),
    ("include", &INCLUDE_KEYS),
    ("tls", &TLS_KEYS),
    ("defaults", &DEFAULTS_KEYS),
    ("backend_client_certificate", &IDENTITY_KEYS),
];

/// One pattern of `[include] channels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Reads the tables into `config`, and the patterns of `[include]`. If the daemon's
/// certificate is broken, `hushed` gets the rule that channels need it: that they lack it
/// is no second mistake.
pub(super) fn read(
    root: &TableReader<'_>,
    context: &dyn ReadContext,
    config: &mut Config,
    hushed: &mut Vec<Rule>,
    log: &mut ViolationLog,
) -> Vec<Pattern> {
    root.refuse_unknown_keys_with(&ROOT_KEYS, &misplaced_key, log);
    if let Some(server) = table(root, "server", "server table", log) {
        config.server = server_of(&server, context, log);
    }
    if let Some(prober) = table(root, "prober", "prober table", log) {
        config.prober = prober_of(&prober, log);
    }
    if let Some(store) = table(root, "store", "store table", log) {
        config.store = store_of(&store, log);
    }
    if let Some(tls) = table(root, "tls", "TLS table", log) {
        let before = log.count();
        tls.refuse_unknown_keys(&TLS_KEYS, log);
        let identity = table(&tls, "backend_client_certificate", "client certificate", log)
            .and_then(|identity| identity_of(&identity, &IDENTITY_KEYS, context, log));
        if identity.is_none() && log.count() > before {
            hushed.push(Rule::NoClientCertificate);
        }
        config.backend_client_certificate = identity;
    }
    if let Some(defaults) = table(root, "defaults", "table of defaults", log) {
        defaults.refuse_unknown_keys(&DEFAULTS_KEYS, log);
        let probe = table(&defaults, "probe", "probe table", log);
        let read = probe.map(|probe| probe_settings_of(&probe, ProbeTable::Defaults, context, log));
        config.probe_defaults = read.unwrap_or_default();
    }
    if let Some(ecs) = table(root, "ecs", "ecs table", log) {
        let addresses = ecs.entries();
        let addresses =
            addresses.filter_map(|(id, _, field)| Some((id.to_owned(), member_host(&field, context, log)?)));
        config.ecs = addresses.collect();
    }
    table(root, "include", "include table", log).map_or_else(Vec::new, |include| include_of(&include, log))
}

fn table<'t>(
    parent: &'t TableReader<'_>,
    key: &'t str,
    noun: &'static str,
    log: &mut ViolationLog,
) -> Option<TableReader<'t>> {
    parent.field(key)?.section(noun, log)
}

const ADDRESS_REMEDY: &str =
    "write an address and a port: \"127.0.0.1:9650\", \"0.0.0.0:9650\" or \"[::]:9650\"";
const SOCKET_REMEDY: &str =
    "write an absolute path of at most 106 bytes, such as \"/run/vitald/vitald.sock\"";

/// Linux holds 107 bytes of a socket's path; one is needed while it is bound.
const LONGEST_SOCKET: usize = 106;

fn server_of(section: &TableReader<'_>, context: &dyn ReadContext, log: &mut ViolationLog) -> ServerSettings {
    section.refuse_unknown_keys(&SERVER_KEYS, log);
    let listen = section
        .field("listen")
        .and_then(|field| field.parsed(|text| text.parse().ok(), "address and port", ADDRESS_REMEDY, log));
    let socket = section.field("socket").and_then(|field| {
        let path = |text: &str| absolute_path(text).filter(|_| text.len() <= LONGEST_SOCKET);
        field.parsed(path, "path for a Unix socket", SOCKET_REMEDY, log)
    });
    let tls = table(section, "tls", "server TLS table", log)
        .and_then(|section| server_tls_of(&section, context, log));
    let listen = listen.unwrap_or(ServerSettings::default().listen);
    ServerSettings { listen, tls, socket, access: access::read(section, log) }
}

/// A path that does not depend on where the daemon was started.
fn absolute_path(text: &str) -> Option<PathBuf> {
    (text.starts_with('/') && !text.contains('\0')).then(|| PathBuf::from(text))
}

fn server_tls_of(
    section: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<ServerTlsSettings> {
    let identity = identity_of(section, &SERVER_TLS_KEYS, context, log);
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

/// `certificate` and `key` of a table whose keys are `known`.
fn identity_of(
    section: &TableReader<'_>,
    known: &[&str],
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<ClientIdentity> {
    section.refuse_unknown_keys(known, log);
    if section.is_empty() {
        section.report_missing("certificate", "give `certificate` and `key`, two PEM files", log);
    }
    client_identity_of(section, ("certificate", "key"), context, log)
}

fn prober_of(section: &TableReader<'_>, log: &mut ViolationLog) -> ProberSettings {
    section.refuse_unknown_keys(&PROBER_KEYS, log);
    let default = ProberSettings::default();
    let max_in_flight = section
        .field("max_in_flight")
        .and_then(|field| number_or_auto("max_in_flight", &field, 1_000_000, log))
        .map(|number| number.map_or(MaxInFlight::Auto, MaxInFlight::Limit));
    let drivers = section
        .field("drivers")
        .and_then(|field| number_or_auto("drivers", &field, DriverNumber::MOST.into(), log))
        .map(|number| number.and_then(|number| NonZeroU16::try_from(number).ok()))
        .map(|number| number.map_or(DriverNumber::Auto, DriverNumber::Fixed));
    let number = |key, range, log: &mut ViolationLog| section.field(key)?.number(range, log);
    let min_channels = number("min_channels", 0..=1_000_000_u32, log);
    let large_fall_percent = number("large_fall_percent", 1..=100_u32, log);
    let mut duration = |key, least_seconds, most_seconds| {
        let limits =
            DurationLimits { least: Duration::from_secs(least_seconds), least_seconds, most_seconds };
        section.field(key)?.duration(&limits, log)
    };
    ProberSettings {
        max_in_flight: max_in_flight.unwrap_or_default(),
        drivers: drivers.unwrap_or_default(),
        ready_within: duration("ready_within", 0, 3600).unwrap_or(default.ready_within),
        reload_within: duration("reload_within", 1, 60).unwrap_or(default.reload_within),
        resolve_interval: duration("resolve_interval", 1, 86_400).unwrap_or(default.resolve_interval),
        reference: section.field("reference").map_or_else(Vec::new, |field| reference_of(&field, log)),
        min_channels,
        large_fall_percent: large_fall_percent.unwrap_or(default.large_fall_percent),
    }
}

/// Addresses only: a name would need the network that is to be judged.
fn reference_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Vec<SocketAddr> {
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

/// A number from 1 to `most`; the inner none is the word "auto".
fn number_or_auto(
    key: &str,
    field: &FieldReader<'_>,
    most: u32,
    log: &mut ViolationLog,
) -> Option<Option<NonZeroU32>> {
    match field.kind() {
        Kind::String(word) if word == "auto" => return Some(None),
        Kind::String(word) => {
            let message = format!("`{key}` is {}, not a number or \"auto\"", quoted(word));
            field.report(Rule::UnknownWord, message, "write \"auto\", or a number without quotes", log);
        }
        Kind::Integer(_) => return field.number(1..=most, log).map(NonZeroU32::new),
        _ => {
            let remedy = format!("write \"auto\", or a number from 1 to {most}");
            field.report_type("a number or \"auto\"", &remedy, log);
        }
    }
    None
}

fn store_of(section: &TableReader<'_>, log: &mut ViolationLog) -> StoreSettings {
    section.refuse_unknown_keys(&STORE_KEYS, log);
    let path = section.field("path").and_then(|field| {
        let remedy = "write the path of a directory, such as \"/var/lib/vitald\"";
        field.parsed(absolute_path, "absolute path", remedy, log)
    });
    let limits = DurationLimits { least: Duration::ZERO, least_seconds: 0, most_seconds: 86_400 };
    let limit = section.field("verdict_age_limit").and_then(|field| field.duration(&limits, log));
    StoreSettings { path, verdict_age_limit: limit.unwrap_or(StoreSettings::default().verdict_age_limit) }
}

/// `channels`: a pattern, or a list of them.
fn include_of(section: &TableReader<'_>, log: &mut ViolationLog) -> Vec<Pattern> {
    section.refuse_unknown_keys(&INCLUDE_KEYS, log);
    let Some(field) = section.field("channels") else { return Vec::new() };
    let mut patterns = Vec::new();
    let mut add = |field: &FieldReader<'_>, log: &mut ViolationLog| {
        let Some(text) = field.text(log) else { return };
        if text == "**" || text.ends_with("/**") {
            let message = format!("{} names directories only", quoted(text));
            let remedy = format!("write \"{text}/*\" for the files in them");
            return field.report(Rule::WrongFormat, message, remedy, log);
        }
        match glob::Pattern::new(text) {
            Ok(_) => patterns.push(Pattern { text: text.to_owned(), place: field.place() }),
            Err(error) => {
                let message = format!("{} is no file pattern: {}", quoted(text), error.msg);
                let remedy = "write a path with `*`, `?` and [sets], such as \"channels.d/*.toml\"";
                field.report(Rule::WrongFormat, message, remedy, log);
            }
        }
    };
    match field.kind() {
        Kind::Array(_) => field.items(log).into_iter().flatten().for_each(|item| add(&item, log)),
        _ => add(&field, log),
    }
    patterns
}

fn misplaced_key(key: &str) -> Option<String> {
    let table = match key {
        "listen" | "socket" | "hosts" | "proxies" => "[server]",
        key if PROBER_KEYS.contains(&key) => "[prober]",
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
