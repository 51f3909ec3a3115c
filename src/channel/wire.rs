//! The wire form of a channel and its parts: what stands under each key of the
//! vendor's objects (docs/vendor-api.md, "Request objects"). Records, exports and
//! answers choose keys and their order, and add ids and times.

use std::num::NonZeroU16;
use std::time::Duration;

use super::model::{Channel, ClientCertificate, HealthCheck, Host, Member, MemberGroup};
use super::words::Role;

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WireValue<'c> {
    /// A string; empty where nothing was given.
    Text(&'c str),
    /// A host as a string.
    Host(&'c Host),
    /// A whole number.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
    /// `microservice_labels`.
    Labels(&'c [(String, String)]),
}
use WireValue::{Flag, Labels, Number, Text};

/// A part of a channel that goes over the wire.
pub trait Wire {
    /// What stands under a key of its request object; none where the key is none
    /// of its own, or is left out because nothing was given.
    fn wire(&self, key: &str) -> Option<WireValue<'_>>;
}

fn port(port: Option<NonZeroU16>) -> WireValue<'static> {
    Number(port.map_or(0, NonZeroU16::get).into())
}

/// Whole seconds. Files may have fractions, the wire has none: rounded up, so
/// that a check never looks more eager than it is.
fn seconds(duration: Duration) -> WireValue<'static> {
    Number(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

impl Wire for Channel {
    fn wire(&self, key: &str) -> Option<WireValue<'_>> {
        Some(match key {
            "name" => Text(&self.name),
            "port" => port(Some(self.port)),
            "balance_strategy" => Number(self.strategy.number().into()),
            "member_type" => Text(self.member_type.word()),
            "vpc_channel_type" => Text(self.kind.word()),
            // Checked and not kept: it has no effect.
            "dict_code" => Text(""),
            _ => return None,
        })
    }
}

impl Wire for MemberGroup {
    fn wire(&self, key: &str) -> Option<WireValue<'_>> {
        Some(match key {
            "member_group_name" => Text(&self.name),
            "member_group_remark" => Text(&self.remark),
            "member_group_weight" => Number(self.weight?.into()),
            "dict_code" => Text(""),
            "microservice_version" => Text(&self.microservice_version),
            "microservice_port" => port(self.microservice_port),
            "microservice_labels" => Labels(&self.microservice_labels),
            "reference_vpc_channel_id" => Text(&self.reference_vpc_channel_id),
            _ => return None,
        })
    }
}

impl Wire for Member {
    fn wire(&self, key: &str) -> Option<WireValue<'_>> {
        Some(match key {
            "host" => WireValue::Host(&self.host),
            "port" => port(self.port),
            "weight" => Number(self.weight()?.into()),
            "is_backup" => Flag(self.role == Role::Backup),
            "member_group_name" => Text(self.group().unwrap_or_default()),
            "status" => Number(self.status.number().into()),
            "ecs_id" => Text(&self.ecs()?.id),
            "ecs_name" => Text(&self.ecs()?.name),
            _ => return None,
        })
    }
}

impl Wire for HealthCheck {
    fn wire(&self, key: &str) -> Option<WireValue<'_>> {
        let http = self.protocol.http();
        Some(match key {
            "protocol" => Text(self.protocol.word()),
            "path" => Text(http.map_or("", |http| &http.path)),
            "method" => Text(http.map_or("", |http| http.method.word())),
            "http_code" => Text(http.map_or("", |http| http.codes.text())),
            "port" => port(self.port),
            "threshold_normal" => Number(self.threshold_normal.into()),
            "threshold_abnormal" => Number(self.threshold_abnormal.into()),
            "time_interval" => seconds(self.interval),
            "timeout" => seconds(self.timeout),
            "enable_client_ssl" => Flag(self.client_certificate == ClientCertificate::Present),
            "status" => Number(self.status.number().into()),
            _ => return None,
        })
    }
}

#[cfg(feature = "daemon")]
mod json {
    use std::fmt;

    use serde::ser::{Serialize, SerializeMap as _, Serializer};

    use super::{Wire, WireValue};

    /// Some keys of a part as a JSON object, in this order.
    #[derive(Clone, Copy)]
    pub struct WireObject<'c> {
        part: &'c dyn Wire,
        keys: &'static [&'static str],
        keeps_empty: bool,
    }

    impl<'c> WireObject<'c> {
        /// With empty texts and lists, as answers have them.
        pub fn full(part: &'c dyn Wire, keys: &'static [&'static str]) -> Self {
            Self { part, keys, keeps_empty: true }
        }

        /// Without them, as users write a channel.
        pub fn brief(part: &'c dyn Wire, keys: &'static [&'static str]) -> Self {
            Self { part, keys, keeps_empty: false }
        }
    }

    impl Serialize for WireObject<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            for key in self.keys {
                match self.part.wire(key) {
                    None => {}
                    Some(WireValue::Text("") | WireValue::Labels([])) if !self.keeps_empty => {}
                    Some(value) => map.serialize_entry(key, &value)?,
                }
            }
            map.end()
        }
    }

    impl Serialize for WireValue<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            #[derive(serde::Serialize)]
            struct Label<'c> {
                label_name: &'c str,
                label_value: &'c str,
            }
            match self {
                Self::Text(text) => serializer.serialize_str(text),
                Self::Host(host) => serializer.collect_str(host),
                Self::Number(number) => serializer.serialize_u64(*number),
                Self::Flag(flag) => serializer.serialize_bool(*flag),
                Self::Labels(labels) => serializer.collect_seq(
                    labels.iter().map(|(label_name, label_value)| Label { label_name, label_value }),
                ),
            }
        }
    }

    /// Something by the text that people read: ids, times, hosts.
    pub struct AsText<T>(pub T);

    impl<T: fmt::Display> Serialize for AsText<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&self.0)
        }
    }
}
#[cfg(feature = "daemon")]
pub use json::{AsText, WireObject};
