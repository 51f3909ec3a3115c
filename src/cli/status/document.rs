//! The status JSON as this command reads it: only the fields it shows, unknown
//! ones passed over, so that an older client still understands a newer daemon.

use serde::Deserialize;

/// `GET /v1/status`.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct StatusDocument {
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) started_at: Option<String>,
    pub(in crate::cli) ready: bool,
    pub(in crate::cli) channels: Vec<ChannelDocument>,
}

/// One channel, also `GET /v1/channels/{name}`.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct ChannelDocument {
    pub(in crate::cli) name: String,
    pub(in crate::cli) on_backup: bool,
    pub(in crate::cli) members: Vec<MemberDocument>,
}

/// One member.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct MemberDocument {
    pub(in crate::cli) address: String,
    #[serde(default)]
    pub(in crate::cli) group: Option<String>,
    pub(in crate::cli) backup: bool,
    pub(in crate::cli) enabled: bool,
    pub(in crate::cli) weight: u32,
    pub(in crate::cli) health: HealthWord,
    pub(in crate::cli) in_rotation: bool,
    pub(in crate::cli) since: String,
    #[serde(default)]
    pub(in crate::cli) last_probe: Option<ProbeDocument>,
}

/// A member's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum HealthWord {
    Healthy,
    Unhealthy,
    #[serde(other)]
    Unknown,
}

/// A member's last probe.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct ProbeDocument {
    pub(in crate::cli) result: ProbeResult,
    pub(in crate::cli) reason: Option<String>,
    pub(in crate::cli) detail: Option<String>,
    pub(in crate::cli) seconds: f64,
}

/// What the last probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum ProbeResult {
    Success,
    Failure,
    #[serde(other)]
    Inconclusive,
}
