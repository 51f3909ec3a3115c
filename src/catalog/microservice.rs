//! `microservice_info`: stored and answered, never asked for members.
//!
//! vitald reads no registry (docs/vendor-api.md, "MicroServiceCreate"). The rules of
//! [`crate::channel::reader`] have checked the object before it comes here; this
//! file keeps its documented fields. A Nacos password is not kept: nothing uses
//! it, and what is not stored cannot leak.

use serde::{Serialize, Serializer};

use super::body::{field, list_field, text_field};
use super::ids::Id;
use super::ids::UnixSeconds;
use crate::channel::document::{Kind, Value};

/// What stands for a password that was given and not kept.
const MASK: &str = "******";

/// What a microservice channel was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Microservice {
    /// Its id.
    pub id: Id,
    /// When it was made.
    pub created: UnixSeconds,
    /// When it was last changed.
    pub updated: UnixSeconds,
    /// What the user wrote.
    pub service: Service,
}

/// The documented fields of `microservice_info`, in their order: its type, and
/// the object that this type has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Service(Fields);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields(Vec<(&'static str, ServiceField)>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum ServiceField {
    Text(String),
    Port(u16),
    Object(Fields),
    List(Vec<Fields>),
}
use ServiceField::{List, Object, Port, Text};

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, field)| (key, field)))
    }
}

impl Service {
    /// The fields of a checked object; only the part of its type is kept.
    pub fn read(info: &Value) -> Self {
        let service_type = text_of(info, "service_type");
        let (key, read): (_, fn(&Value) -> Fields) = match service_type.as_str() {
            "CSE" => ("cse_info", |cse| texts(cse, &["engine_id", "service_id"])),
            "CCE" => ("cce_info", cce_of),
            "CCE_SERVICE" => {
                ("cce_service_info", |service| texts(service, &["cluster_id", "namespace", "service_name"]))
            }
            _ => ("nacos_info", nacos_of),
        };
        let described = field(info, key).map(|described| (key, Object(read(described))));
        Self(Fields([("service_type", Text(service_type))].into_iter().chain(described).collect()))
    }

    /// Whether weights of groups may not be set by hand (docs/vendor-api.md, "Weights").
    pub fn fixes_group_weights(&self) -> bool {
        self.0.0.iter().any(|(key, _)| *key == "nacos_info")
    }
}

/// As it was written: the label that `app_name` alone means (docs/vendor-api.md,
/// "MicroServiceCreate") is not answered, because a client that compares what it wrote
/// with what it reads would see a difference.
fn cce_of(cce: &Value) -> Fields {
    texts(cce, &["cluster_id", "namespace", "workload_type", "app_name", "label_key", "label_value"])
}

fn nacos_of(nacos: &Value) -> Fields {
    let or = |key, default: &str| Text(text_field(nacos, key).unwrap_or(default).to_owned());
    let servers = list_field(nacos, "server_config").unwrap_or_default().iter().map(|server| {
        let port = port_of(server, "port").unwrap_or(0);
        let grpc_port = port_of(server, "grpc_port").filter(|port| *port > 0);
        Fields(vec![
            ("ip_address", Text(text_of(server, "ip_address"))),
            ("port", Port(port)),
            ("grpc_port", Port(grpc_port.unwrap_or(port.saturating_add(1000)))),
        ])
    });
    let user_name = field(nacos, "user_info").map(|user| text_of(user, "user_name")).unwrap_or_default();
    Fields(vec![
        ("namespace", Text(text_of(nacos, "namespace"))),
        ("cluster_name", or("cluster_name", "DEFAULT")),
        ("group_name", or("group_name", "DEFAULT_GROUP")),
        ("service_name", Text(text_of(nacos, "service_name"))),
        ("server_config", List(servers.collect())),
        (
            "user_info",
            Object(Fields(vec![("user_name", Text(user_name)), ("password", Text(MASK.to_owned()))])),
        ),
    ])
}

fn texts(table: &Value, keys: &[&'static str]) -> Fields {
    Fields(keys.iter().map(|key| (*key, Text(text_of(table, key)))).collect())
}

fn text_of(table: &Value, key: &str) -> String {
    text_field(table, key).unwrap_or_default().to_owned()
}

fn port_of(table: &Value, key: &str) -> Option<u16> {
    match field(table, key)?.kind {
        Kind::Integer(port) => u16::try_from(port).ok(),
        _ => None,
    }
}
