//! The rules: from a document to a channel, or to every rule it breaks.
//!
//! Called by `config` for files and by the management API for bodies. Never
//! stops at the first violation. Fields, ranges and defaults are those of the
//! vendor's request objects (docs/vendor-api.md, "Request objects"); where its sources
//! disagree, those chosen in "Where sources disagree".
//!
//! | file | what it reads |
//! |---|---|
//! | `members`, `health_check` | the parts of a channel, also one by one |
//! | `options` | `microservice_info`; `probe`, which only files have |
//! | `balance` | `balance`, which only files have |
//! | `text` | what names, hosts, paths and headers may hold |
//! | `section` | typed access to tables and fields |
//! | `context` | what the rules know besides the document, and where violations go |

mod balance;
mod context;
mod foreign_keys;
mod health_check;
mod members;
mod options;
pub mod section;
mod text;

#[cfg(test)]
mod tests;

pub use context::{ClientIdentityError, Dialect, FileProblem, ReadContext, ViolationLog};
pub use health_check::read_health_check;
pub use members::{MemberContext, read_group, read_groups, read_members};
pub use options::{ProbeTable, client_identity_of, probe_settings_of};
pub use text::{host, member_host};

use super::balance_options::BalanceOptions;
use super::document::{Kind, Value};
use super::model::{Channel, ClientCertificate, ProbeOptions};
use super::probe_settings::ProbeSettings;
use super::violation::{Rule, Violation};
use super::words::{ChannelKind, MemberType, Strategy};
use members::ReadGroups;
use section::{Case, FieldReader, TableReader};

const CHANNEL_KEYS: [&str; 13] = [
    "name",
    "port",
    "balance_strategy",
    "member_type",
    "type",
    "vpc_channel_type",
    "dict_code",
    "member_groups",
    "members",
    "vpc_health_config",
    "microservice_info",
    "probe",
    "balance",
];

/// Keys that the vendor's answers have and its requests do not.
const ANSWER_KEYS: [&str; 7] =
    ["id", "status", "create_time", "update_time", "vpc_channel_id", "instance_id", "instance_name"];

/// Every key a channel may hold, by the table it stands in. The reference in
/// `docs/config.md` and the commented `config/vitald.toml` are tested against it.
pub const KNOWN_KEYS: [(&str, &[&str]); 16] = [
    ("channel", &CHANNEL_KEYS),
    ("member_groups", &members::GROUP_KEYS),
    ("microservice_labels", &members::LABEL_KEYS),
    ("members", &members::MEMBER_KEYS),
    ("vpc_health_config", &health_check::KEYS),
    ("probe", &options::PROBE_KEYS),
    ("headers", &options::HEADER_KEYS),
    ("tls", &options::TLS_KEYS),
    ("balance", &balance::BALANCE_KEYS),
    ("microservice_info", &options::MICROSERVICE_KEYS),
    ("cse_info", &options::CSE_KEYS),
    ("cce_info", &options::CCE_KEYS),
    ("cce_service_info", &options::CCE_SERVICE_KEYS),
    ("nacos_info", &options::NACOS_KEYS),
    ("server_config", &options::NACOS_SERVER_KEYS),
    ("user_info", &options::NACOS_USER_KEYS),
];

/// Reads one channel.
///
/// # Errors
/// Every broken rule.
pub fn read_channel(
    document: &Value,
    dialect: Dialect,
    context: &dyn ReadContext,
) -> Result<Channel, Vec<Violation>> {
    let mut log = ViolationLog::new(dialect);
    let channel = read_channel_field(&FieldReader::document(document, "channel"), context, &mut log);
    log.finish(channel)
}

/// Reads one channel that stands somewhere in a larger document, such as an
/// entry of `[[channels]]`.
pub fn read_channel_field(
    field: &FieldReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<Channel> {
    let before = log.count();
    let section = field.section("channel", log)?;
    let channel = channel_of(&section, context, log);
    channel.filter(|_| log.count() == before)
}

fn channel_of(
    section: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<Channel> {
    section.refuse_unknown_keys_with(&CHANNEL_KEYS, &misplaced_key, log);
    if log.dialect == Dialect::File && section.field("channels").is_some() {
        // A main file where a channel was expected: reported above, once.
        return None;
    }
    if let Some(field) = section.filled("dict_code") {
        text::dict_code(&field, log);
    }
    let name = name_of(section, log);
    let port = section
        .required("port", "give the port that members have unless they say otherwise: port = 8080", log)
        .and_then(|field| field.number(1..=65535_u16, log))
        .and_then(std::num::NonZeroU16::new);
    let strategy = strategy_of(section, log);
    let member_types = [MemberType::Ip, MemberType::Ecs].map(|member_type| (member_type.word(), member_type));
    let member_type = match section.filled("member_type") {
        Some(field) => field.word(&member_types, Case::Exact, log),
        // Documented as required and as having this default; clients omit it
        // (docs/vendor-api.md, "Where sources disagree").
        None => Some(MemberType::Ecs),
    };
    let kind = kind_of(section, log);
    let ReadGroups { groups, names } =
        section.field("member_groups").map(|field| members::groups_of(&field, log)).unwrap_or_default();
    let members = match (section.field("members"), member_type) {
        (Some(field), _) if kind == ChannelKind::Reference => {
            refuse_members_of_reference(&field, log);
            Vec::new()
        }
        (Some(field), Some(member_type)) => {
            // With a bad port the members are still checked; any port will do.
            let port = port.unwrap_or(std::num::NonZeroU16::MIN);
            let channel = MemberContext { member_type, kind, port, groups: &groups };
            members::members_of(&field, channel, &names, context, log)
        }
        (Some(_), None) | (None, _) => Vec::new(),
    };
    let mut probe = probe_of(section, context, log);
    let balance = balance_of(section, strategy, context, log);
    let health_section =
        section.field("vpc_health_config").and_then(|field| field.section("health config", log));
    let health_check = health_section.and_then(|health| health_check::health_check_of(&health, log));
    // With faulty options, a certificate that was meant may only look absent.
    if let (Some(health), Some(probe)) = (health_section, &probe) {
        health_check::check_client_certificate(&health, probe, context, log);
    }
    // The daemon's certificate serves where the channel has none of its own.
    if let (Some(check), Some(probe)) = (&health_check, &mut probe)
        && check.client_certificate() == ClientCertificate::Present
        && probe.tls.client.is_none()
    {
        probe.tls.client = context.daemon_client_identity();
    }
    Some(Channel {
        name: name?.to_owned(),
        port: port?,
        strategy: strategy?,
        member_type: member_type?,
        kind,
        groups,
        members,
        health_check,
        probe: probe?,
        balance,
    })
}

fn name_of<'s>(section: &'s TableReader<'_>, log: &mut ViolationLog) -> Option<&'s str> {
    let field = section.required("name", "name the channel: name = \"web\"", log)?;
    text::name(&field, log)
}

/// 1 to 4; in files also the short words. Required although one document prints
/// a default (docs/vendor-api.md, "Where sources disagree").
fn strategy_of(section: &TableReader<'_>, log: &mut ViolationLog) -> Option<Strategy> {
    let meaning = "1 is wrr, 2 wleastconn, 3 source, 4 uri";
    let field = section.required("balance_strategy", &format!("write a number: {meaning}"), log)?;
    if let (Kind::String(_), Dialect::File) = (field.kind(), log.dialect) {
        return field.word(&Strategy::ALL.map(|strategy| (strategy.word(), strategy)), Case::Exact, log);
    }
    field.choice(&Strategy::ALL.map(|strategy| (i128::from(strategy.number()), strategy)), meaning, log)
}

/// The channel's kind from `type`, `vpc_channel_type` and `microservice_info`
/// (docs/vendor-api.md, "VpcCreate"): the word decides; the older number must agree with it; the
/// number alone means a microservice only with information about one.
fn kind_of(section: &TableReader<'_>, log: &mut ViolationLog) -> ChannelKind {
    let types = [(0, None), (2, Some(ChannelKind::Builtin)), (3, Some(ChannelKind::Microservice))];
    let type_field = section.field("type");
    let number =
        type_field.and_then(|field| field.choice(&types, "2 is server, 3 is microservice", log)).flatten();
    let words = [ChannelKind::Builtin, ChannelKind::Microservice, ChannelKind::Reference]
        .map(|kind| (kind.word(), kind));
    let word_field = section.filled("vpc_channel_type");
    let word = word_field.and_then(|field| field.word(&words, Case::Exact, log));
    let info = section.field("microservice_info");
    let info = info.and_then(|field| field.section("microservice", log)).filter(|info| !info.is_empty());
    if let (Some(number), Some(word), Some(type_field), Some(word_field)) =
        (number, word, type_field, word_field)
        && number != word
    {
        let message = format!("`type` says {}, `vpc_channel_type` says {}", number.word(), word.word());
        let violation = type_field.violation(Rule::Conflict, message, "remove `type`; it is being retired");
        let related = Some((word_field.place(), "the other one".to_owned()));
        log.report(Violation { related, ..violation });
    }
    let kind = match (word, number) {
        (Some(word), _) => word,
        (None, Some(ChannelKind::Microservice)) if info.is_some() => ChannelKind::Microservice,
        (None, _) => ChannelKind::Builtin,
    };
    match info {
        Some(info) if kind == ChannelKind::Microservice => options::check_microservice(&info, log),
        None if kind == ChannelKind::Microservice => {
            section.report_missing(
                "microservice_info",
                "describe the service, or remove `vpc_channel_type`",
                log,
            );
        }
        // Clients send the object with empty leaves for other kinds.
        Some(_) | None => {}
    }
    kind
}

/// The API ignores the members of a reference channel (docs/vendor-api.md, "Reference channels"); in a file
/// they would be lost silently.
fn refuse_members_of_reference(field: &FieldReader<'_>, log: &mut ViolationLog) {
    if log.dialect == Dialect::File && !matches!(field.kind(), Kind::Array(items) if items.is_empty()) {
        let message = "a reference channel has no members of its own".to_owned();
        let remedy = "remove them; its groups name other channels by `reference_vpc_channel_id`";
        field.report(Rule::Conflict, message, remedy, log);
    }
}

/// `probe`, completed by the defaults. `None` when it breaks a rule. API bodies do not have
/// it; what is in effect for their channels is computed when they are put into the catalog.
fn probe_of(
    section: &TableReader<'_>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> Option<ProbeOptions> {
    if log.dialect == Dialect::Api {
        return Some(ProbeOptions::default());
    }
    let own = match section.field("probe") {
        Some(field) => {
            let before = log.count();
            let table = field.section("probe table", log)?;
            let own = probe_settings_of(&table, ProbeTable::Channel, context, log);
            Some(own).filter(|_| log.count() == before)?
        }
        None => ProbeSettings::default(),
    };
    Some(own.complete(context.probe_defaults()))
}

/// `balance`, which API bodies do not have.
fn balance_of(
    section: &TableReader<'_>,
    strategy: Option<Strategy>,
    context: &dyn ReadContext,
    log: &mut ViolationLog,
) -> BalanceOptions {
    let field = section.field("balance").filter(|_| log.dialect == Dialect::File);
    field
        .and_then(|field| field.section("balance table", log))
        .map(|table| balance::balance_of(&table, strategy, context, log))
        .unwrap_or_default()
}

/// Where a key that no channel has may have been meant to stand.
fn misplaced_key(key: &str) -> Option<String> {
    if key == "channels" {
        return Some(
            "a channel file holds one channel; write its keys at the top, without [[channels]]".to_owned(),
        );
    }
    if ANSWER_KEYS.contains(&key) {
        return Some("remove it; it is part of the API's answers, not of its requests".to_owned());
    }
    if health_check::KEYS.contains(&key) {
        return Some("move it into `vpc_health_config`".to_owned());
    }
    if options::PROBE_KEYS.contains(&key) {
        return Some("move it into `probe`".to_owned());
    }
    if balance::BALANCE_KEYS.contains(&key) {
        return Some("move it into `balance`".to_owned());
    }
    if ["weight", "is_backup", "ecs_id", "ecs_name"].contains(&key) {
        return Some("move it into `members`".to_owned());
    }
    None
}
