//! The rules of `microservice_info` (docs/vendor-api.md, "MicroServiceCreate").
//!
//! vitald reads no registry: the information is checked, so that a channel that
//! the vendor would refuse is refused here, and decides the channel's kind.

use super::section::{Case, FieldReader, TableReader, ViolationLog};
use super::text;

pub(super) const KEYS: [&str; 5] = ["service_type", "cse_info", "cce_info", "cce_service_info", "nacos_info"];
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

/// Checks the whole object.
pub(super) fn check(section: &TableReader<'_>, log: &mut ViolationLog<'_>) {
    section.refuse_unknown_keys(&KEYS, log);
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

fn check_cce(info: &TableReader<'_>, log: &mut ViolationLog<'_>) {
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

fn check_nacos(info: &TableReader<'_>, log: &mut ViolationLog<'_>) {
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
    log: &mut ViolationLog<'_>,
) -> Option<TableReader<'d>> {
    field?.section(noun, log)
}

fn check_texts(section: &TableReader<'_>, texts: &[(&str, usize, Need)], log: &mut ViolationLog<'_>) {
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
