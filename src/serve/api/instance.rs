//! Instances and features (docs/vendor-api.md, "Features"), as the vendor's clients read them.

use std::net::SocketAddr;

use serde::Serialize;

use crate::catalog::{Feature, FeatureName, Id, Instance, KnownFeature, UnixSeconds};
use crate::channel::wire::AsText;

/// What stands for a private key that is never shown.
const MASK: &str = "******";

/// An instance in a list.
#[derive(Serialize)]
pub(super) struct InstanceAnswer<'r> {
    id: &'r str,
    project_id: &'r str,
    instance_name: &'r str,
    status: &'static str,
    instance_status: u8,
    r#type: &'static str,
    spec: &'static str,
    create_time: u64,
    enterprise_project_id: &'static str,
    eip_address: &'static str,
    charging_mode: u8,
    cbc_metadata: &'static str,
    loadbalancer_provider: &'static str,
    cbc_operation_locks: [(); 0],
}

/// An instance by itself.
#[derive(Serialize)]
pub(super) struct InstanceDetailAnswer<'r> {
    #[serde(flatten)]
    head: InstanceAnswer<'r>,
    description: &'static str,
    ingress_ip: String,
    ingress_ip_v6: String,
    instance_version: &'static str,
    supported_features: Vec<&'static str>,
    node_ips: NodeAddresses,
    privateips: Vec<AddressAnswer>,
}

#[derive(Serialize)]
struct NodeAddresses {
    livedata: Vec<String>,
    shubao: Vec<String>,
}

#[derive(Serialize)]
struct AddressAnswer {
    ip_address: String,
    bandwidth_size: u8,
}

/// A feature.
#[derive(Serialize)]
pub(super) struct FeatureAnswer<'r> {
    id: AsText<Id>,
    name: &'static str,
    enable: bool,
    config: String,
    instance_id: &'r str,
    update_time: AsText<UnixSeconds>,
}

impl<'r> InstanceAnswer<'r> {
    pub(super) fn of(instance: &'r Instance, project: &'r str) -> Self {
        Self {
            id: &instance.id,
            project_id: project,
            instance_name: &instance.name,
            status: "Running",
            instance_status: 6,
            r#type: "apig",
            spec: "BASIC",
            create_time: instance.created.millis(),
            enterprise_project_id: "0",
            eip_address: "",
            charging_mode: 0,
            cbc_metadata: "",
            loadbalancer_provider: "lvs",
            cbc_operation_locks: [],
        }
    }
}

impl<'r> InstanceDetailAnswer<'r> {
    pub(super) fn of(instance: &'r Instance, project: &'r str, addresses: &[SocketAddr]) -> Self {
        let first = |wanted: fn(&&SocketAddr) -> bool| {
            addresses.iter().find(wanted).map(|address| address.ip().to_string()).unwrap_or_default()
        };
        let all = || addresses.iter().map(|address| address.ip().to_string());
        Self {
            head: InstanceAnswer::of(instance, project),
            description: "",
            ingress_ip: first(|address| address.is_ipv4()),
            ingress_ip_v6: first(|address| address.is_ipv6()),
            instance_version: env!("CARGO_PKG_VERSION"),
            supported_features: instance.supported_features().map(FeatureName::word).collect(),
            node_ips: NodeAddresses { livedata: all().collect(), shubao: all().collect() },
            privateips: all().map(|ip_address| AddressAnswer { ip_address, bandwidth_size: 0 }).collect(),
        }
    }
}

impl<'r> FeatureAnswer<'r> {
    pub(super) fn of(instance: &'r Instance, name: KnownFeature, feature: &Feature) -> Self {
        let config = match name {
            KnownFeature::Effective(FeatureName::BackendClientCertificate) => without_key(&feature.config),
            KnownFeature::Effective(_) | KnownFeature::Stored(_) => feature.config.to_string(),
        };
        Self {
            id: AsText(feature.id),
            name: name.word(),
            enable: feature.is_on,
            config,
            instance_id: &instance.id,
            update_time: AsText(feature.updated),
        }
    }
}

/// The certificate's configuration with its private key masked.
fn without_key(config: &str) -> String {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_str(config) else {
        return String::new();
    };
    if let Some(key) = fields.get_mut("key") {
        *key = MASK.into();
    }
    serde_json::Value::Object(fields).to_string()
}
