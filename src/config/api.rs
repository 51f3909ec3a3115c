//! `[api]`: who may use the management API, on which project; and how it is read.
//!
//! Secrets come from files or systemd credentials. The one exception, an inline
//! `password_hash`, is never repeated in an error; `diagnostics` hides its line. Nothing
//! secret in here has a text form.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use super::password::{PasswordHash, PasswordHashError};
use super::secret::{Secret, SecretPlaces};
use crate::channel::reader::ViolationLog;
use crate::channel::reader::section::{Case, FieldReader, TableReader};
use crate::channel::violation::quoted;
use crate::channel::{FieldPath, Rule, Violation};

/// `[api]`, switched on and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// `[api.project]`.
    pub project: Project,
    /// `[[api.instances]]`; empty means that one is made and kept in the store.
    pub instances: Vec<InstanceSettings>,
    /// `[[api.users]]`: who may log in with a password. No two share name and domain.
    pub users: Vec<User>,
    /// `[[api.access_keys]]`: who may sign. No two share an id.
    pub access_keys: Vec<AccessKey>,
    /// `insecure_allow_remote_without_tls`.
    pub clear_text: ClearText,
    /// `[api.quotas]`.
    pub quotas: Quotas,
}

/// The project all resources belong to, as in the paths of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// 32 lower-case hexadecimal digits.
    pub id: String,
    /// The vendor names its projects after regions, such as `cn-north-4`.
    pub name: String,
}

impl Default for Project {
    /// The project of a configuration that names none.
    fn default() -> Self {
        Self { id: "00000000000000000000000000000001".to_owned(), name: "local".to_owned() }
    }
}

/// How much the API may make (docs/vendor-api.md, "Quotas"). What is there already stays when
/// a limit is lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Channels that the API may make in one instance.
    pub channels: usize,
    /// Members of one channel.
    pub members: usize,
    /// Groups of one channel. No document names a limit; without one, a client
    /// could make every look at a member's group slow.
    pub groups: usize,
}

impl Default for Quotas {
    /// 200 channels of 200 members, as the vendor's dedicated gateways.
    fn default() -> Self {
        Self { channels: 200, members: 200, groups: 200 }
    }
}

/// One gateway instance that channels belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSettings {
    /// 32 hexadecimal digits, or a UUID with dashes.
    pub id: String,
    /// 1 to 64 characters.
    pub name: String,
    /// `features`, as written; each at most once.
    pub features: Vec<(FeatureName, FeatureSwitch)>,
}

/// How the configuration sets a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureSwitch {
    /// `on`
    On,
    /// `off`
    Off,
}

impl FeatureSwitch {
    /// The word in the configuration and in the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// A feature of an instance (docs/vendor-api.md, "Features").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeatureName {
    /// Channels may be renamed; while on, project-level calls are refused.
    VpcNameModifiable,
    /// Members show `health_status`.
    VpcHealthStatus,
    /// The client certificate of checks with `enable_client_ssl`.
    BackendClientCertificate,
    /// Members may be standby. Always on.
    VpcBackup,
}

impl FeatureName {
    /// All features, as they are listed.
    pub const ALL: [Self; 4] =
        [Self::VpcNameModifiable, Self::VpcHealthStatus, Self::BackendClientCertificate, Self::VpcBackup];

    /// The vendor's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::VpcNameModifiable => "vpc_name_modifiable",
            Self::VpcHealthStatus => "vpc_health_status",
            Self::BackendClientCertificate => "backend_client_certificate",
            Self::VpcBackup => "vpc_backup",
        }
    }

    /// The feature of that name.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }
}

/// Somebody who logs in with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The account that the user belongs to; `local` unless said otherwise.
    pub domain: String,
    /// `password_hash` or `password_hash_file`.
    pub password: PasswordHash,
    /// What the user may do.
    pub role: AccountRole,
}

/// A pair of access key and secret key, for signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// What requests name; not secret.
    pub id: String,
    /// From `secret_file`.
    pub secret_key: Secret,
    /// What its holder may do.
    pub role: AccountRole,
}

/// What somebody may do in the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountRole {
    /// Read only.
    Viewer,
    /// Everything.
    Admin,
}

impl AccountRole {
    /// The word in configurations and token answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

/// Whether the API may be offered to other machines without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClearText {
    /// Only on loopback addresses.
    #[default]
    LoopbackOnly,
    /// `insecure_allow_remote_without_tls = true`: passwords, tokens and
    /// answers travel readable for everybody on the way.
    EverywhereInsecurely,
}

/// Whether a listener speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    Plain,
    /// HTTPS.
    Tls,
}

/// Why the API must not be offered on an address. The texts name the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    /// Others could read passwords and tokens on the way.
    #[error("the management API would be on {0} without TLS, so that others could read passwords and tokens")]
    WithoutTls(SocketAddr),
    /// Nobody could prove who they are.
    #[error("the management API would be on {0}, and nobody could log in to it")]
    WithoutAccounts(SocketAddr),
}

impl Exposure {
    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::WithoutTls(_) => {
                "add [server.tls] with `certificate` and `key`, listen on 127.0.0.1 or [::1], or accept the \
                 danger with `insecure_allow_remote_without_tls = true` in [api]"
            }
            Self::WithoutAccounts(_) => {
                "add a user in [[api.users]] or an access key in [[api.access_keys]], or listen on 127.0.0.1 \
                 or [::1]"
            }
        }
    }
}

/// Whether the API may be offered on this address. Loopback always; elsewhere
/// only with TLS and somebody to log in, unless the configuration accepts clear
/// text in so many words. To be asked again when `--listen` moves the address.
///
/// # Errors
/// Why not.
pub fn judge_exposure(api: &ApiSettings, listen: SocketAddr, transport: Transport) -> Result<(), Exposure> {
    if listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if transport == Transport::Plain && api.clear_text == ClearText::LoopbackOnly {
        return Err(Exposure::WithoutTls(listen));
    }
    if api.users.is_empty() && api.access_keys.is_empty() {
        return Err(Exposure::WithoutAccounts(listen));
    }
    Ok(())
}

pub(super) const API_KEYS: [&str; 7] = [
    "enabled",
    "project",
    "instances",
    "users",
    "access_keys",
    "quotas",
    "insecure_allow_remote_without_tls",
];
pub(super) const QUOTA_KEYS: [&str; 3] = ["channels", "members", "groups"];
pub(super) const PROJECT_KEYS: [&str; 2] = ["id", "name"];
pub(super) const INSTANCE_KEYS: [&str; 3] = ["id", "name", "features"];
pub(super) const USER_KEYS: [&str; 5] = ["name", "domain", "password_hash", "password_hash_file", "role"];
pub(super) const ACCESS_KEY_KEYS: [&str; 3] = ["id", "secret_file", "role"];
pub(super) const FEATURE_KEYS: [&str; 4] = {
    let [modifiable, health, certificate, backup] = FeatureName::ALL;
    [modifiable.word(), health.word(), certificate.word(), backup.word()]
};

const ROLES: [(&str, AccountRole); 2] = [("admin", AccountRole::Admin), ("viewer", AccountRole::Viewer)];
const SWITCHES: [(&str, FeatureSwitch); 2] =
    [(FeatureSwitch::On.word(), FeatureSwitch::On), (FeatureSwitch::Off.word(), FeatureSwitch::Off)];
const ID_REMEDY: &str = "write the 32 hexadecimal digits that requests have in their path";

/// Reads `[api]`; none when there is none or it is switched off. What is wrong
/// in a table that is switched off is reported all the same.
pub(super) fn read(
    root: &TableReader<'_>,
    places: &SecretPlaces,
    log: &mut ViolationLog,
) -> Option<ApiSettings> {
    let field = root.field("api")?;
    let section = field.section("API table", log)?;
    section.refuse_unknown_keys(&API_KEYS, log);
    let enabled = section.field("enabled").and_then(|field| field.boolean(log)).unwrap_or(true);
    let insecure = section.field("insecure_allow_remote_without_tls");
    let clear_text = match insecure.and_then(|field| field.boolean(log)) {
        Some(true) => ClearText::EverywhereInsecurely,
        Some(false) | None => ClearText::LoopbackOnly,
    };
    let project = section.field("project").and_then(|field| project_of(&field, log)).unwrap_or_default();
    let quotas = section.field("quotas").map(|field| quotas_of(&field, log)).unwrap_or_default();
    let id = |instance: &InstanceSettings| instance.id.clone();
    let instances = entries(&section, "instances", ("instances", "id"), id, instance_of, log);
    let login = |user: &User| format!("{}@{}", user.name, user.domain);
    let read = |field: &FieldReader<'_>, log: &mut ViolationLog| user_of(field, places, log);
    let users = entries(&section, "users", ("users", "name"), login, read, log);
    let id = |key: &AccessKey| key.id.clone();
    let read = |field: &FieldReader<'_>, log: &mut ViolationLog| access_key_of(field, places, log);
    let access_keys = entries(&section, "access_keys", ("access keys", "id"), id, read, log);
    let api = ApiSettings { project, instances, users, access_keys, clear_text, quotas };
    enabled.then_some(api)
}

/// The good entries of a list of tables. No two may have the same identity, which stands
/// under a key of theirs.
fn entries<T>(
    section: &TableReader<'_>,
    list: &str,
    (noun, key): (&str, &str),
    identity: impl Fn(&T) -> String,
    read: impl Fn(&FieldReader<'_>, &mut ViolationLog) -> Option<T>,
    log: &mut ViolationLog,
) -> Vec<T> {
    let (mut entries, mut seen) = (Vec::new(), HashMap::new());
    let Some(field) = section.field(list) else { return entries };
    for item in field.items(log).into_iter().flatten() {
        let Some(entry) = read(&item, log) else { continue };
        let identity = identity(&entry);
        if let Some(first) = seen.get(&identity).copied() {
            log.report(Violation {
                rule: Rule::Conflict,
                path: FieldPath::default().key("api").key(key),
                place: item.place(),
                message: format!("two {noun} are {}", quoted(&identity)),
                remedy: "rename or remove one of them".to_owned(),
                related: Some((first, "the first one".to_owned())),
            });
        } else {
            seen.insert(identity, item.place());
        }
        entries.push(entry);
    }
    entries
}

fn project_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<Project> {
    let section = field.section("project", log)?;
    section.refuse_unknown_keys(&PROJECT_KEYS, log);
    let id = section.required("id", ID_REMEDY, log).and_then(|field| {
        let id = |text: &str| is_hexadecimal(text).then(|| text.to_owned());
        field.parsed(id, "project id", "write 32 lower-case hexadecimal digits", log)
    });
    let name = name_or(&section, "name", &Project::default().name, log);
    Some(Project { id: id?, name: name? })
}

/// Up to what has been measured: a body of 12 MiB holds about 100,000 members.
const MOST_OF_ANYTHING: u32 = 1_000_000;

fn quotas_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Quotas {
    let default = Quotas::default();
    let Some(section) = field.section("quotas table", log) else { return default };
    section.refuse_unknown_keys(&QUOTA_KEYS, log);
    let mut limit = |key| {
        let limit = section.field(key)?.number(1..=MOST_OF_ANYTHING, log)?;
        usize::try_from(limit).ok()
    };
    Quotas {
        channels: limit("channels").unwrap_or(default.channels),
        members: limit("members").unwrap_or(default.members),
        groups: limit("groups").unwrap_or(default.groups),
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && is_hexadecimal(&text.replace('-', ""))
}

fn instance_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<InstanceSettings> {
    let section = field.section("instance", log)?;
    section.refuse_unknown_keys(&INSTANCE_KEYS, log);
    let id = section.required("id", ID_REMEDY, log).and_then(|field| {
        let id = |text: &str| (is_hexadecimal(text) || is_uuid(text)).then(|| text.to_owned());
        field.parsed(id, "instance id", "write 32 lower-case hexadecimal digits, or a UUID", log)
    });
    let name = name_or(&section, "name", "local", log);
    let features = section.field("features").map_or_else(Vec::new, |field| features_of(&field, log));
    Some(InstanceSettings { id: id?, name: name?, features })
}

fn features_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Vec<(FeatureName, FeatureSwitch)> {
    let Some(section) = field.section("features table", log) else { return Vec::new() };
    section.refuse_unknown_keys(&FEATURE_KEYS, log);
    let switch =
        |name: FeatureName| Some((name, section.field(name.word())?.word(&SWITCHES, Case::Exact, log)?));
    FeatureName::ALL.into_iter().filter_map(switch).collect()
}

fn name_or(section: &TableReader<'_>, key: &str, default: &str, log: &mut ViolationLog) -> Option<String> {
    section.field(key).map_or_else(|| Some(default.to_owned()), |field| name_of(&field, log))
}

/// A name of 1 to 64 characters that no header or log line breaks on.
fn name_of(field: &FieldReader<'_>, log: &mut ViolationLog) -> Option<String> {
    let text = field.text(log)?;
    let length = text.chars().count();
    if !(1..=64).contains(&length) {
        let message = format!("`{}` has {length} characters", field.key());
        field.report(Rule::WrongLength, message, "write 1 to 64 characters", log);
        return None;
    }
    if text.chars().any(char::is_control) {
        let message = format!("`{}` is {}, with control characters", field.key(), quoted(text));
        field.report(Rule::WrongFormat, message, "write printable characters", log);
        return None;
    }
    Some(text.to_owned())
}

fn user_of(field: &FieldReader<'_>, places: &SecretPlaces, log: &mut ViolationLog) -> Option<User> {
    let section = field.section("user", log)?;
    section.refuse_unknown_keys(&USER_KEYS, log);
    let name = section
        .required("name", "write the name that the user logs in with", log)
        .and_then(|field| name_of(&field, log));
    let domain = name_or(&section, "domain", "local", log);
    let password = password_of(&section, places, log);
    let role = role_of(&section, log);
    Some(User { name: name?, domain: domain?, password: password?, role: role? })
}

fn password_of(
    section: &TableReader<'_>,
    places: &SecretPlaces,
    log: &mut ViolationLog,
) -> Option<PasswordHash> {
    let (inline, file) = (section.field("password_hash"), section.field("password_hash_file"));
    let field = match (inline, file) {
        (Some(_), Some(file)) => {
            let message = "a user has one password: `password_hash` or `password_hash_file`".to_owned();
            file.report(Rule::Conflict, message, "remove one of the two", log);
            return None;
        }
        (Some(inline), None) => inline,
        (None, Some(file)) => file,
        (None, None) => {
            let remedy = "make a hash with `vitald hash-password` and name its file here";
            section.report_missing("password_hash_file", remedy, log);
            return None;
        }
    };
    let text = field.text(log)?;
    let hash = if field.key() == "password_hash" {
        PasswordHash::parse(text)
    } else {
        let secret = secret_of(text, &field, places, log)?;
        let text = std::str::from_utf8(secret.expose()).map_err(|_| PasswordHashError::Form);
        text.and_then(PasswordHash::parse)
    };
    match hash {
        Ok(hash) => Some(hash),
        Err(error) => {
            let message = format!("`{}`: {error}", field.key());
            let remedy = "run `vitald hash-password`, type the password, and keep what it prints";
            field.report(Rule::WrongFormat, message, remedy, log);
            None
        }
    }
}

fn access_key_of(
    field: &FieldReader<'_>,
    places: &SecretPlaces,
    log: &mut ViolationLog,
) -> Option<AccessKey> {
    let section = field.section("access key", log)?;
    section.refuse_unknown_keys(&ACCESS_KEY_KEYS, log);
    let id = section.required("id", "write the access key that clients sign with", log).and_then(|field| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_id = |text: &str| (1..=128).contains(&text.len()) && text.bytes().all(is_plain);
        let remedy = "write 1 to 128 letters, digits, hyphens and underscores";
        field.parsed(|text| is_id(text).then(|| text.to_owned()), "access key", remedy, log)
    });
    let secret_key = section
        .required("secret_file", "name the file that holds the secret key", log)
        .and_then(|field| secret_key_of(&field, places, log));
    let role = role_of(&section, log);
    Some(AccessKey { id: id?, secret_key: secret_key?, role: role? })
}

/// Shorter secret keys can be found by whoever has seen one signature.
const SHORTEST_SECRET_KEY: usize = 16;

fn secret_key_of(field: &FieldReader<'_>, places: &SecretPlaces, log: &mut ViolationLog) -> Option<Secret> {
    let file = field.text(log)?;
    let secret = secret_of(file, field, places, log)?;
    let bytes = secret.expose();
    let length = std::str::from_utf8(bytes).map_or(bytes.len(), |text| text.chars().count());
    if length >= SHORTEST_SECRET_KEY {
        return Some(secret);
    }
    let plural = if length == 1 { "" } else { "s" };
    let message = format!(
        "`{}`: the secret key in {} has {length} character{plural}; at least {SHORTEST_SECRET_KEY} are needed",
        field.key(),
        quoted(file)
    );
    let remedy = "make one with `head -c 32 /dev/urandom | base64`, and give it to the clients";
    field.report(Rule::WrongLength, message, remedy, log);
    None
}

fn role_of(section: &TableReader<'_>, log: &mut ViolationLog) -> Option<AccountRole> {
    section.required("role", "write \"admin\" or \"viewer\"", log)?.word(&ROLES, Case::Exact, log)
}

fn secret_of(
    file: &str,
    field: &FieldReader<'_>,
    places: &SecretPlaces,
    log: &mut ViolationLog,
) -> Option<Secret> {
    match places.read(Path::new(file)) {
        Ok(secret) => Some(secret),
        Err(error) => {
            let message = format!("`{}`: {error}", field.key());
            field.report(Rule::BadFile, message, error.remedy(), log);
            None
        }
    }
}

#[cfg(test)]
mod tests;
