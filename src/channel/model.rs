//! What a channel is once its rules have been checked.
//!
//! Values of these types come only from the readers of this room, so an invalid
//! channel cannot exist: ranges, group names, code sets and `timeout` against
//! `time_interval` hold by construction. Fields are those of `VpcCreate`,
//! `MemberInfo`, `MemberGroupCreate` and `VpcHealthConfig` of the vendor's API.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::balance_options::BalanceOptions;
use super::code_set::CodeSet;
use super::probe_header::ProbeHeader;
use super::words::{
    ChannelKind, CheckStatus, CloseMode, HttpMethod, MemberStatus, MemberType, ResolveFamily, Role, Strategy,
};

/// A VPC channel: members, how they are picked, and how they are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    pub(in crate::channel) name: String,
    pub(in crate::channel) port: NonZeroU16,
    pub(in crate::channel) strategy: Strategy,
    pub(in crate::channel) member_type: MemberType,
    pub(in crate::channel) kind: ChannelKind,
    pub(in crate::channel) groups: Vec<MemberGroup>,
    pub(in crate::channel) members: Vec<Member>,
    pub(in crate::channel) health_check: Option<HealthCheck>,
    pub(in crate::channel) probe: ProbeOptions,
    pub(in crate::channel) balance: BalanceOptions,
}

impl Channel {
    /// `name`: 3 to 64 characters, unique.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `port`: the port of every member that has none of its own.
    pub fn port(&self) -> NonZeroU16 {
        self.port
    }

    /// `balance_strategy`.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// `member_type`.
    pub fn member_type(&self) -> MemberType {
        self.member_type
    }

    /// `vpc_channel_type`, or what `type` says of it.
    pub fn kind(&self) -> ChannelKind {
        self.kind
    }

    /// `member_groups`, one per name.
    pub fn groups(&self) -> &[MemberGroup] {
        &self.groups
    }

    /// `members`, one per address and group.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// `vpc_health_config`; none: members are never probed.
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.health_check.as_ref()
    }

    /// `[channels.probe]`, vitald's own options.
    pub fn probe(&self) -> &ProbeOptions {
        &self.probe
    }

    /// `[channels.balance]`, vitald's own options.
    pub fn balance(&self) -> &BalanceOptions {
        &self.balance
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&MemberGroup> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The port traffic goes to: the group's `microservice_port` on a
    /// microservice channel, else the member's, else the channel's
    /// (docs/vendor-api.md, "Ports").
    pub fn traffic_port(&self, member: &Member) -> NonZeroU16 {
        let group = member.group().and_then(|name| self.group(name));
        group.and_then(|group| group.port_on(self.kind)).or(member.port).unwrap_or(self.port)
    }

    /// The port that is probed: `vpc_health_config.port`, else the member's
    /// traffic port (docs/vendor-api.md, "Ports").
    pub fn check_port(&self, member: &Member) -> NonZeroU16 {
        self.health_check.as_ref().and_then(|check| check.port).unwrap_or_else(|| self.traffic_port(member))
    }

    /// The effective weight: an operator's, else the group's if it has one, else the
    /// member's, else 1 (docs/vendor-api.md, "Weights"). 0 takes no new traffic.
    pub fn effective_weight(&self, member: &Member) -> u16 {
        if let Some(weight) = member.fixed_weight() {
            return weight;
        }
        let group_weight = member.group().and_then(|name| self.group(name)).and_then(|group| group.weight);
        group_weight.map(u16::from).or(member.weight()).unwrap_or(1)
    }

    /// What people and metrics call the member: `host:port` with the traffic port.
    pub fn member_address(&self, member: &Member) -> MemberAddress {
        MemberAddress { host: member.host.clone(), port: self.traffic_port(member).get() }
    }
}

/// Where a member is: an address, or a name still to be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A host name, at most 255 characters, kept as written.
    Name(Arc<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why no server can be reached at an address: it is the unspecified one (`0.0.0.0`,
/// `::`), at which the kernel would connect the prober to its own machine, or a multicast
/// address. None: there may be one.
pub fn unusable_address(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    if address.is_unspecified() {
        Some("the unspecified address, which no server has")
    } else if address.is_multicast() {
        Some("a multicast address, which no server has")
    } else {
        None
    }
}

/// `host:port`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberAddress {
    /// The host as the user gave it.
    pub host: Host,
    /// The traffic port, resolved.
    pub port: u16,
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// One backend server of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub(in crate::channel) host: Host,
    pub(in crate::channel) port: Option<NonZeroU16>,
    pub(in crate::channel) weight: MemberWeight,
    pub(in crate::channel) role: Role,
    pub(in crate::channel) group: Option<Arc<str>>,
    pub(in crate::channel) status: MemberStatus,
    pub(in crate::channel) ecs: Option<Box<EcsIdentity>>,
}

impl Member {
    /// `host`, or for an `ecs` member the address that stands for it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// `port` as given; none (or 0) inherits.
    pub fn port(&self) -> Option<NonZeroU16> {
        self.port
    }

    /// `weight` as given, 0 to 10000.
    pub fn weight(&self) -> Option<u16> {
        match self.weight {
            MemberWeight::Absent => None,
            MemberWeight::Own(weight) | MemberWeight::Fixed(weight) => Some(weight),
        }
    }

    /// The weight that an operator has given it at run time, which rules over its group's.
    pub fn fixed_weight(&self) -> Option<u16> {
        match self.weight {
            MemberWeight::Absent | MemberWeight::Own(_) => None,
            MemberWeight::Fixed(weight) => Some(weight),
        }
    }

    /// `is_backup`.
    pub fn role(&self) -> Role {
        self.role
    }

    /// `member_group_name`.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// `status`.
    pub fn status(&self) -> MemberStatus {
        self.status
    }

    /// `ecs_id` and `ecs_name` of an `ecs` member.
    pub fn ecs(&self) -> Option<&EcsIdentity> {
        self.ecs.as_deref()
    }
}

/// The weight of a member, in as little room as an `Option<u16>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::channel) enum MemberWeight {
    /// None was given.
    Absent,
    /// `weight`; that of the group rules over it.
    Own(u16),
    /// An operator's, which rules over that of the group.
    Fixed(u16),
}

impl From<Option<u16>> for MemberWeight {
    fn from(weight: Option<u16>) -> Self {
        weight.map_or(Self::Absent, Self::Own)
    }
}

/// How the vendor names a cloud server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsIdentity {
    /// `ecs_id`.
    pub id: String,
    /// `ecs_name`.
    pub name: String,
}

/// A named part of a channel's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberGroup {
    pub(in crate::channel) name: String,
    pub(in crate::channel) remark: String,
    pub(in crate::channel) weight: Option<u8>,
    pub(in crate::channel) microservice_version: String,
    pub(in crate::channel) microservice_port: Option<NonZeroU16>,
    pub(in crate::channel) microservice_labels: Vec<(String, String)>,
    pub(in crate::channel) reference_vpc_channel_id: String,
}

impl MemberGroup {
    /// `member_group_name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `member_group_remark`, empty when none was given.
    pub fn remark(&self) -> &str {
        &self.remark
    }

    /// `member_group_weight`, 0 to 100; overrides the weight of every member.
    pub fn weight(&self) -> Option<u8> {
        self.weight
    }

    /// `microservice_version`, empty when none was given.
    pub fn microservice_version(&self) -> &str {
        &self.microservice_version
    }

    /// `microservice_port`; none (or 0) inherits.
    pub fn microservice_port(&self) -> Option<NonZeroU16> {
        self.microservice_port
    }

    /// The port that rules over its members' own; none but on a microservice channel.
    pub(in crate::channel) fn port_on(&self, kind: ChannelKind) -> Option<NonZeroU16> {
        self.microservice_port.filter(|_| kind == ChannelKind::Microservice)
    }

    /// `microservice_labels` as (`label_name`, `label_value`).
    pub fn microservice_labels(&self) -> &[(String, String)] {
        &self.microservice_labels
    }

    /// `reference_vpc_channel_id`, empty when none was given.
    pub fn reference_vpc_channel_id(&self) -> &str {
        &self.reference_vpc_channel_id
    }
}

/// `vpc_health_config`: how members are checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    pub(in crate::channel) protocol: Protocol,
    pub(in crate::channel) port: Option<NonZeroU16>,
    pub(in crate::channel) threshold_normal: u8,
    pub(in crate::channel) threshold_abnormal: u8,
    pub(in crate::channel) interval: Duration,
    pub(in crate::channel) timeout: Duration,
    pub(in crate::channel) client_certificate: ClientCertificate,
    pub(in crate::channel) status: CheckStatus,
}

impl HealthCheck {
    /// A check that no channel configures: what `vitald probe URL` runs once.
    /// One result decides, and the interval is the timeout.
    pub fn once(protocol: Protocol, timeout: Duration, client_certificate: ClientCertificate) -> Self {
        Self {
            protocol,
            port: None,
            threshold_normal: 1,
            threshold_abnormal: 1,
            interval: timeout,
            timeout,
            client_certificate,
            status: CheckStatus::On,
        }
    }

    /// `protocol`, with what only HTTP and HTTPS have.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// `port` as given; none (or 0) means the member's traffic port.
    pub fn port(&self) -> Option<NonZeroU16> {
        self.port
    }

    /// Successes in a row to become healthy, 1 to 10.
    pub fn threshold_normal(&self) -> u8 {
        self.threshold_normal
    }

    /// Failures in a row to become unhealthy, 1 to 10.
    pub fn threshold_abnormal(&self) -> u8 {
        self.threshold_abnormal
    }

    /// `time_interval`: from the start of one probe to the start of the next.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// `timeout`: the deadline of one whole probe, never above the interval.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// `enable_client_ssl`.
    pub fn client_certificate(&self) -> ClientCertificate {
        self.client_certificate
    }

    /// `status`.
    pub fn status(&self) -> CheckStatus {
        self.status
    }
}

/// `enable_client_ssl`: whether an HTTPS check presents a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClientCertificate {
    /// `false`, the default.
    #[default]
    None,
    /// `true`: the one of `[channels.probe] tls` or of the daemon's `[tls]`.
    Present,
}

/// `protocol` of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Success is an established connection.
    Tcp,
    /// Success is a status of the code set.
    Http(HttpCheck),
    /// The same over TLS.
    Https(HttpCheck),
}

impl Protocol {
    /// The API's lower-case word, as the service answers it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
            Self::Https(_) => "https",
        }
    }

    /// What only HTTP and HTTPS have.
    pub fn http(&self) -> Option<&HttpCheck> {
        match self {
            Self::Tcp => None,
            Self::Http(http) | Self::Https(http) => Some(http),
        }
    }
}

/// What an HTTP or HTTPS check asks, and which answers are good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// `path`: begins with `/`; only characters a request target may hold.
    pub path: String,
    /// `method`.
    pub method: HttpMethod,
    /// `http_code`.
    pub codes: CodeSet,
}

/// `[channels.probe]` completed by `[defaults.probe]`: vitald's own options; without
/// either, the documented behaviour.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProbeOptions {
    /// What a member counts as before its first verdict.
    pub initial_state: super::words::Health,
    /// `Host` header and, for HTTPS, server name; none: `host:port`.
    pub host: Option<String>,
    /// Extra request headers, names and values checked; no name twice.
    pub headers: Vec<ProbeHeader>,
    /// How a finished probe connection ends.
    pub close: CloseMode,
    /// Which addresses of a member's name are probed.
    pub resolve: ResolveFamily,
    /// TLS of HTTPS checks.
    pub tls: TlsOptions,
    /// The keys of `[defaults.probe]` that were taken because the channel has none of its
    /// own, in order: `host`, `headers.X-Key`, `tls.verify`.
    pub from_defaults: Vec<String>,
}

/// `[channels.probe] tls`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsOptions {
    /// Whether the member's certificate is verified.
    pub verify: VerifyCertificate,
    /// `ca_file`: trust anchors, PEM; none: the system's.
    pub ca: Option<PemFile>,
    /// `server_name`: overrides the name sent (SNI) and verified.
    pub server_name: Option<String>,
    /// The client certificate to present when `enable_client_ssl` is set.
    pub client: Option<ClientIdentity>,
    /// `min_version`.
    pub min_version: TlsVersion,
}

/// Whether a member's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VerifyCertificate {
    /// `false`, the default: members are addresses, the check is about reachability.
    #[default]
    No,
    /// `true`: against `ca_file` or the system's trust anchors.
    Yes,
}

/// The lowest TLS version a probe accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TlsVersion {
    /// `"1.2"`, the default.
    #[default]
    Tls12,
    /// `"1.3"`.
    Tls13,
}

impl TlsVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// The word in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// A PEM file that was read and holds what it should.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its bytes.
    pub pem: Arc<[u8]>,
}

impl fmt::Debug for PemFile {
    // Bytes stay out: the file may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A client certificate chain and its key, known to belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The chain, leaf first.
    pub certificate: PemFile,
    /// The private key.
    pub key: PemFile,
}
