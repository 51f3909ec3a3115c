//! The status JSON as this command reads it: only the fields it shows, unknown
//! ones passed over, so that an older client still understands a newer daemon.

use serde::Deserialize;

/// `GET /v1/status`.
#[derive(Debug, Deserialize)]
pub(super) struct StatusDocument {
    pub(super) version: Option<String>,
    pub(super) started_at: Option<String>,
    pub(super) ready: bool,
    pub(super) channels: Vec<ChannelDocument>,
}

/// One channel, also `GET /v1/channels/{name}`.
#[derive(Debug, Deserialize)]
pub(super) struct ChannelDocument {
    pub(super) name: String,
    pub(super) on_backup: bool,
    pub(super) members: Vec<MemberDocument>,
}

/// One member.
#[derive(Debug, Deserialize)]
pub(super) struct MemberDocument {
    pub(super) address: String,
    #[serde(default)]
    pub(super) group: Option<String>,
    pub(super) backup: bool,
    pub(super) enabled: bool,
    pub(super) weight: u32,
    pub(super) health: HealthWord,
    pub(super) in_rotation: bool,
    pub(super) since: String,
    #[serde(default)]
    pub(super) last_probe: Option<ProbeDocument>,
}

/// A member's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HealthWord {
    Healthy,
    Unhealthy,
    #[serde(other)]
    Unknown,
}

/// A member's last probe.
#[derive(Debug, Deserialize)]
pub(super) struct ProbeDocument {
    pub(super) result: ProbeResult,
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) seconds: f64,
}

/// What the last probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProbeResult {
    Success,
    Failure,
    #[serde(other)]
    Inconclusive,
}
