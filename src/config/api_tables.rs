//! Reads `[api]`.
//!
//! Secrets come from files or systemd credentials. The one exception, an inline
//! `password_hash`, is never repeated in an error; `source` hides its line.

use std::path::Path;

use super::api::{
    AccessKey, AccountRole, ApiSettings, ClearText, FeatureName, InstanceSettings, Project, Quotas, User,
};
use super::password::PasswordHash;
use super::secret::{Secret, SecretPlaces};
use crate::channel::document::Place;
use crate::channel::reader::ViolationLog;
use crate::channel::reader::section::{Case, FieldReader, TableReader};
use crate::channel::violation::quoted;
use crate::channel::{Rule, Violation};

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
const SWITCHES: [(&str, bool); 2] = [("on", true), ("off", false)];
const HOME_DOMAIN: &str = "local";

/// Reads `[api]`; none when there is none or it is switched off. What is wrong
/// in a table that is switched off is reported all the same.
pub(super) fn read(
    root: &TableReader<'_>,
    places: &SecretPlaces,
    log: &mut ViolationLog<'_>,
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
    let instances = entries(&section, "instances", log, instance_of);
    let users = entries(&section, "users", log, |field, log| user_of(field, places, log));
    let access_keys = entries(&section, "access_keys", log, |field, log| access_key_of(field, places, log));
    refuse_twins(&instances, "instances", "id", |instance| instance.id.clone(), log);
    refuse_twins(&users, "users", "name", |user| format!("{}@{}", user.name, user.domain), log);
    refuse_twins(&access_keys, "access keys", "id", |key| key.id.clone(), log);
    let api = ApiSettings {
        project,
        instances: values(instances),
        users: values(users),
        access_keys: values(access_keys),
        clear_text,
        quotas,
    };
    enabled.then_some(api)
}

fn values<T>(entries: Vec<(T, Place)>) -> Vec<T> {
    entries.into_iter().map(|(value, _)| value).collect()
}

/// The good entries of a list of tables.
fn entries<T>(
    section: &TableReader<'_>,
    key: &str,
    log: &mut ViolationLog<'_>,
    read: impl Fn(&FieldReader<'_>, &mut ViolationLog<'_>) -> Option<T>,
) -> Vec<(T, Place)> {
    let Some(field) = section.field(key) else { return Vec::new() };
    let Some(items) = field.items(log) else { return Vec::new() };
    items.filter_map(|item| Some((read(&item, log)?, item.place()))).collect()
}

fn refuse_twins<T>(
    entries: &[(T, Place)],
    noun: &str,
    key: &str,
    identity: impl Fn(&T) -> String,
    log: &mut ViolationLog<'_>,
) {
    let mut seen = std::collections::HashMap::new();
    for (entry, place) in entries {
        let identity = identity(entry);
        let Some(first) = seen.get(&identity).copied() else {
            seen.insert(identity, *place);
            continue;
        };
        log.report(Violation {
            rule: Rule::Conflict,
            path: crate::channel::FieldPath::default().key("api").key(key),
            place: *place,
            message: format!("two {noun} are {}", quoted(&identity)),
            remedy: "rename or remove one of them".to_owned(),
            related: Some((first, "the first one".to_owned())),
        });
    }
}

fn project_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<Project> {
    let section = field.section("project", log)?;
    section.refuse_unknown_keys(&PROJECT_KEYS, log);
    let remedy = "write the 32 hexadecimal digits that requests have in their path";
    let id = section.required("id", remedy, log).and_then(|field| project_id_of(&field, log));
    let name = match section.field("name") {
        Some(field) => name_of(&field, log),
        None => Some(Project::default().name),
    };
    Some(Project { id: id?, name: name? })
}

/// Up to what has been measured: a body of 12 MiB holds about 100,000 members.
const MOST_OF_ANYTHING: u32 = 1_000_000;

fn quotas_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Quotas {
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

fn project_id_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<String> {
    let text = field.text(log)?;
    if is_hexadecimal(text) {
        return Some(text.to_owned());
    }
    let message = format!("`id` is {}, which is no project id", quoted(text));
    field.report(Rule::WrongFormat, message, "write 32 lower-case hexadecimal digits", log);
    None
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && is_hexadecimal(&text.replace('-', ""))
}

fn instance_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<InstanceSettings> {
    let section = field.section("instance", log)?;
    section.refuse_unknown_keys(&INSTANCE_KEYS, log);
    let remedy = "write the 32 hexadecimal digits that requests have in their path";
    let id = section.required("id", remedy, log).and_then(|field| {
        let text = field.text(log)?;
        if is_hexadecimal(text) || is_uuid(text) {
            return Some(text.to_owned());
        }
        let message = format!("`id` is {}, which is no instance id", quoted(text));
        let remedy = "write 32 lower-case hexadecimal digits, or a UUID";
        field.report(Rule::WrongFormat, message, remedy, log);
        None
    });
    let name = match section.field("name") {
        Some(field) => name_of(&field, log),
        None => Some("local".to_owned()),
    };
    let features = section.field("features").map_or_else(Vec::new, |field| features_of(&field, log));
    Some(InstanceSettings { id: id?, name: name?, features })
}

fn features_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Vec<(FeatureName, bool)> {
    let Some(section) = field.section("features table", log) else { return Vec::new() };
    section.refuse_unknown_keys(&FEATURE_KEYS, log);
    let switch =
        |name: FeatureName| Some((name, section.field(name.word())?.word(&SWITCHES, Case::Exact, log)?));
    FeatureName::ALL.into_iter().filter_map(switch).collect()
}

/// A name of 1 to 64 characters that no header or log line breaks on.
fn name_of(field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<String> {
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

fn user_of(field: &FieldReader<'_>, places: &SecretPlaces, log: &mut ViolationLog<'_>) -> Option<User> {
    let section = field.section("user", log)?;
    section.refuse_unknown_keys(&USER_KEYS, log);
    let name = section
        .required("name", "write the name that the user logs in with", log)
        .and_then(|field| name_of(&field, log));
    let domain = match section.field("domain") {
        Some(field) => name_of(&field, log),
        None => Some(HOME_DOMAIN.to_owned()),
    };
    let password = password_of(&section, places, log);
    let role = role_of(&section, log);
    Some(User { name: name?, domain: domain?, password: password?, role: role? })
}

fn password_of(
    section: &TableReader<'_>,
    places: &SecretPlaces,
    log: &mut ViolationLog<'_>,
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
    if field.key() == "password_hash" {
        return hash_of(text, &field, log);
    }
    let secret = secret_of(text, &field, places, log)?;
    let text = std::str::from_utf8(secret.expose()).unwrap_or_default();
    hash_of(text, &field, log)
}

fn hash_of(text: &str, field: &FieldReader<'_>, log: &mut ViolationLog<'_>) -> Option<PasswordHash> {
    match PasswordHash::parse(text) {
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
    log: &mut ViolationLog<'_>,
) -> Option<AccessKey> {
    let section = field.section("access key", log)?;
    section.refuse_unknown_keys(&ACCESS_KEY_KEYS, log);
    let id = section.required("id", "write the access key that clients sign with", log).and_then(|field| {
        let text = field.text(log)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if (1..=128).contains(&text.len()) && text.bytes().all(is_plain) {
            return Some(text.to_owned());
        }
        let message = format!("`id` is {}, which is no access key", quoted(text));
        let remedy = "write 1 to 128 letters, digits, hyphens and underscores";
        field.report(Rule::WrongFormat, message, remedy, log);
        None
    });
    let secret_key = section
        .required("secret_file", "name the file that holds the secret key", log)
        .and_then(|field| secret_of(field.text(log)?, &field, places, log));
    let role = role_of(&section, log);
    Some(AccessKey { id: id?, secret_key: secret_key?, role: role? })
}

fn role_of(section: &TableReader<'_>, log: &mut ViolationLog<'_>) -> Option<AccountRole> {
    section.required("role", "write \"admin\" or \"viewer\"", log)?.word(&ROLES, Case::Exact, log)
}

fn secret_of(
    file: &str,
    field: &FieldReader<'_>,
    places: &SecretPlaces,
    log: &mut ViolationLog<'_>,
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
