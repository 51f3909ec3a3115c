//! `microservice_info`: stored and answered, never asked for members.
//!
//! vitald reads no registry (docs/vendor-api.md, "MicroServiceCreate"). The rules of
//! [`crate::channel::reader`] have checked the object before it comes here; this
//! file keeps its documented fields. A Nacos password is not kept: nothing uses
//! it, and what is not stored cannot leak.

use serde::{Deserialize, Serialize};

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

/// The documented fields of `microservice_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `CSE`, `CCE`, `CCE_SERVICE` or `NACOS`.
    pub service_type: String,
    /// For `CSE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cse_info: Option<Cse>,
    /// For `CCE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cce_info: Option<Cce>,
    /// For `CCE_SERVICE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cce_service_info: Option<CceService>,
    /// For `NACOS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nacos_info: Option<Nacos>,
}

/// `cse_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cse {
    engine_id: String,
    service_id: String,
}

/// `cce_info`. With only `app_name`, the label is `app` = that name
/// (docs/vendor-api.md, "MicroServiceCreate").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cce {
    cluster_id: String,
    namespace: String,
    workload_type: String,
    app_name: String,
    label_key: String,
    label_value: String,
}

/// `cce_service_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CceService {
    cluster_id: String,
    namespace: String,
    service_name: String,
}

/// `nacos_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nacos {
    namespace: String,
    cluster_name: String,
    group_name: String,
    service_name: String,
    server_config: Vec<NacosServer>,
    user_info: NacosUser,
}

/// One entry of `server_config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NacosServer {
    ip_address: String,
    port: u16,
    grpc_port: u16,
}

/// `user_info`, the password masked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NacosUser {
    user_name: String,
    password: String,
}

impl Service {
    /// The fields of a checked object; only the part of its type is kept.
    #[must_use]
    pub fn read(info: &Value) -> Self {
        let service_type = text_of(info, "service_type");
        let part = |wanted: &str, key| field(info, key).filter(|_| service_type == wanted);
        Self {
            cse_info: part("CSE", "cse_info").map(|cse| Cse {
                engine_id: text_of(cse, "engine_id"),
                service_id: text_of(cse, "service_id"),
            }),
            cce_info: part("CCE", "cce_info").map(cce_of),
            cce_service_info: part("CCE_SERVICE", "cce_service_info").map(|service| CceService {
                cluster_id: text_of(service, "cluster_id"),
                namespace: text_of(service, "namespace"),
                service_name: text_of(service, "service_name"),
            }),
            nacos_info: part("NACOS", "nacos_info").map(nacos_of),
            service_type,
        }
    }

    /// Whether weights of groups may not be set by hand (docs/vendor-api.md, "Weights").
    #[must_use]
    pub fn fixes_group_weights(&self) -> bool {
        self.nacos_info.is_some()
    }
}

fn cce_of(cce: &Value) -> Cce {
    let app_name = text_of(cce, "app_name");
    let (mut label_key, mut label_value) = (text_of(cce, "label_key"), text_of(cce, "label_value"));
    if (label_key.is_empty() || label_value.is_empty()) && !app_name.is_empty() {
        (label_key, label_value) = ("app".to_owned(), app_name.clone());
    }
    Cce {
        cluster_id: text_of(cce, "cluster_id"),
        namespace: text_of(cce, "namespace"),
        workload_type: text_of(cce, "workload_type"),
        app_name,
        label_key,
        label_value,
    }
}

fn nacos_of(nacos: &Value) -> Nacos {
    let or = |key, default: &str| text_field(nacos, key).unwrap_or(default).to_owned();
    let servers = list_field(nacos, "server_config").unwrap_or_default().iter().map(|server| {
        let port = port_of(server, "port").unwrap_or(0);
        NacosServer {
            ip_address: text_of(server, "ip_address"),
            port,
            grpc_port: port_of(server, "grpc_port")
                .filter(|port| *port > 0)
                .unwrap_or(port.saturating_add(1000)),
        }
    });
    let user_name = field(nacos, "user_info").map(|user| text_of(user, "user_name")).unwrap_or_default();
    Nacos {
        namespace: text_of(nacos, "namespace"),
        cluster_name: or("cluster_name", "DEFAULT"),
        group_name: or("group_name", "DEFAULT_GROUP"),
        service_name: text_of(nacos, "service_name"),
        server_config: servers.collect(),
        user_info: NacosUser { user_name, password: MASK.to_owned() },
    }
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
