//! Channels for other rooms' unit tests, without a document to read.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// A channel on port 8080 that probes with `protocol`; none: not probed.
pub(crate) fn channel(name: &str, protocol: Option<Protocol>, members: Vec<Member>) -> Channel {
    Channel {
        name: name.to_owned(),
        port: NonZeroU16::new(8080).expect("not zero"),
        strategy: Strategy::WeightedRoundRobin,
        member_type: MemberType::Ip,
        kind: ChannelKind::Builtin,
        groups: Vec::new(),
        members,
        health_check: protocol.map(|protocol| HealthCheck {
            protocol,
            port: None,
            threshold_normal: 2,
            threshold_abnormal: 3,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            client_certificate: ClientCertificate::None,
            status: CheckStatus::On,
        }),
        probe: ProbeOptions::default(),
        balance: BalanceOptions::default(),
    }
}

/// An enabled primary at an address, or at a name, on the channel's port.
pub(crate) fn member(host: &str) -> Member {
    Member {
        host: host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip),
        port: None,
        weight: model::MemberWeight::Absent,
        role: Role::Primary,
        group: None,
        status: MemberStatus::Enabled,
        ecs: None,
    }
}

impl Channel {
    pub(crate) fn with_group(mut self, name: &str, weight: Option<u8>) -> Self {
        self.groups.push(MemberGroup {
            name: name.to_owned(),
            remark: String::new(),
            weight,
            microservice_version: String::new(),
            microservice_port: None,
            microservice_labels: Vec::new(),
            reference_vpc_channel_id: String::new(),
        });
        self
    }
}

impl Member {
    pub(crate) fn on_port(mut self, port: u16) -> Self {
        self.port = NonZeroU16::new(port);
        self
    }

    pub(crate) fn weighing(mut self, weight: u16) -> Self {
        self.weight = model::MemberWeight::Own(weight);
        self
    }

    pub(crate) fn standby(mut self) -> Self {
        self.role = Role::Backup;
        self
    }

    pub(crate) fn disabled(mut self) -> Self {
        self.status = MemberStatus::Disabled;
        self
    }

    pub(crate) fn in_group(mut self, group: &Arc<str>) -> Self {
        self.group = Some(Arc::clone(group));
        self
    }
}
