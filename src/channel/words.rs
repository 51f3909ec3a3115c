//! The closed vocabularies of a channel: each documented number or word as a variant.
//!
//! Numbers and words are those of the vendor's API (`vpc-channels` request
//! fields); `parse` in the readers maps them, the answers print them back.

/// `balance_strategy`: how the next member is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// 1, `wrr`: weighted round robin.
    WeightedRoundRobin = 1,
    /// 2, `wleastconn`: weighted least connections.
    WeightedLeastConnections = 2,
    /// 3, `source`: hash of the client's address.
    SourceHash = 3,
    /// 4, `uri`: hash of the request's URI.
    UriHash = 4,
}

impl Strategy {
    /// All strategies, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::WeightedRoundRobin, Self::WeightedLeastConnections, Self::SourceHash, Self::UriHash];

    /// The number of the vendor's API.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The short word used in files, status and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::WeightedRoundRobin => "wrr",
            Self::WeightedLeastConnections => "wleastconn",
            Self::SourceHash => "source",
            Self::UriHash => "uri",
        }
    }
}

/// `member_type`: what a member's `host` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberType {
    /// `ip`: an address or host name given by the user.
    Ip,
    /// `ecs`: a cloud server, named by `ecs_id` and `ecs_name`. The default.
    Ecs,
}

impl MemberType {
    /// The API's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ecs => "ecs",
        }
    }
}

/// `vpc_channel_type`, and the older `type` (2 or 3): where members come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// `builtin`, 2: servers listed in the channel.
    Builtin,
    /// `microservice`, 3: a registry's service; here with static members.
    Microservice,
    /// `reference`: groups that stand for other channels.
    Reference,
}

impl ChannelKind {
    /// The API's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Microservice => "microservice",
            Self::Reference => "reference",
        }
    }
}

/// `is_backup`: whether a member takes part from the start or only when no
/// primary is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// Takes traffic whenever it is in rotation.
    #[default]
    Primary,
    /// A standby member: takes traffic only when no primary is in rotation.
    Backup,
}

/// A member's `status`: the user's switch, not a health result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemberStatus {
    /// 1: takes requests.
    #[default]
    Enabled = 1,
    /// 2: takes none. Still probed, so that enabling is immediate.
    Disabled = 2,
}

impl MemberStatus {
    /// All values, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Enabled, Self::Disabled];

    /// The number of the vendor's API.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The health config's `status`: whether members are checked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CheckStatus {
    /// 1: members are probed.
    #[default]
    On = 1,
    /// 2: members are not probed and stay unknown.
    Off = 2,
}

impl CheckStatus {
    /// All values, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::On, Self::Off];

    /// The number of the vendor's API.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// `health_status`: what the probes have shown of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Health {
    /// No threshold has been reached yet, or nothing is probed.
    #[default]
    Unknown,
    /// `threshold_normal` successes in a row.
    Healthy,
    /// `threshold_abnormal` failures in a row.
    Unhealthy,
}

impl Health {
    /// All values, in the order used for per-value arrays.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Healthy, Self::Unhealthy];

    /// The API's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// The position in [`Health::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// `method` of an HTTP check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpMethod {
    /// `GET`, the default.
    #[default]
    Get,
    /// `HEAD`.
    Head,
}

impl HttpMethod {
    /// The word of the request line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

/// `[channels.probe] close`: how a finished probe connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CloseMode {
    /// A reset: no TIME_WAIT on either side, and a TCP check leaves the
    /// member's application asleep where the kernel allows.
    #[default]
    Reset,
    /// An orderly FIN, for members that log resets.
    Fin,
}

impl CloseMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Reset, Self::Fin];

    /// The word in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Fin => "fin",
        }
    }
}

/// `[channels.probe] resolve`: which addresses of a member's name are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResolveFamily {
    /// `any`: those of both families, in the resolver's order.
    #[default]
    Any,
    /// `v4`: IPv4 addresses alone.
    V4,
    /// `v6`: IPv6 addresses alone.
    V6,
}

impl ResolveFamily {
    /// All, the default first.
    pub const ALL: [Self; 3] = [Self::Any, Self::V4, Self::V6];

    /// The word in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// `[channels.balance] fail_open`: what happens when nobody is in rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FailOpen {
    /// `false`: nobody takes traffic. The documented behaviour.
    #[default]
    Closed,
    /// `true`: every enabled member takes traffic by its weight; as equals, if all of
    /// these are 0.
    AllEnabled,
}
