//! What `vitald status` reads, and what it means as a whole: the exit code.
//!
//! Of the daemon's JSON only the fields that are shown are read and unknown ones passed
//! over, so that an older client still understands a newer daemon. The verdict is that of
//! monitoring plugins: the worst channel decides.

use serde::Deserialize;

use crate::cli::console::printable;
use crate::cli::overrides::OverrideDocument;

/// `GET /v1/status`.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct StatusDocument {
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) started_at: Option<String>,
    /// When the status was taken, by the daemon's clock.
    #[serde(default)]
    pub(in crate::cli) taken_at: Option<String>,
    pub(in crate::cli) ready: bool,
    #[serde(default)]
    pub(in crate::cli) probes: Option<ProbesDocument>,
    #[serde(default)]
    pub(in crate::cli) store: Vec<StoreDocument>,
    #[serde(default)]
    pub(in crate::cli) overrides: Vec<OverrideDocument>,
    pub(in crate::cli) channels: Vec<ChannelDocument>,
}

/// How many probes run, and may.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct ProbesDocument {
    pub(in crate::cli) max_in_flight: usize,
    pub(in crate::cli) waiting: usize,
}

/// How writes of one kind into the state directory fare.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct StoreDocument {
    pub(in crate::cli) kind: String,
    pub(in crate::cli) error: Option<String>,
}

/// One channel.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct ChannelDocument {
    pub(in crate::cli) name: String,
    pub(in crate::cli) on_backup: bool,
    /// Its members are probed: one without a verdict is waiting for it.
    #[serde(default)]
    pub(in crate::cli) checked: bool,
    /// Keys that its checks take from `[defaults.probe]`.
    #[serde(default)]
    pub(in crate::cli) probe_defaults: Vec<String>,
    pub(in crate::cli) members: Vec<MemberDocument>,
}

/// One member.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct MemberDocument {
    pub(in crate::cli) address: String,
    /// Its id in the API.
    #[serde(default)]
    pub(in crate::cli) id: Option<String>,
    /// The name of its cloud server.
    #[serde(default)]
    pub(in crate::cli) name: Option<String>,
    #[serde(default)]
    pub(in crate::cli) group: Option<String>,
    pub(in crate::cli) backup: bool,
    pub(in crate::cli) enabled: bool,
    pub(in crate::cli) weight: u32,
    pub(in crate::cli) health: HealthWord,
    /// Whose verdict that is.
    #[serde(default)]
    pub(in crate::cli) verdict_from: Option<String>,
    /// What it was when it was checked last.
    #[serde(default)]
    pub(in crate::cli) last_known: Option<HealthWord>,
    pub(in crate::cli) in_rotation: bool,
    /// None in the moment before its driver has taken the member over.
    pub(in crate::cli) since: Option<String>,
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

impl HealthWord {
    /// The word people read.
    pub(in crate::cli) fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// A member's last probe.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct ProbeDocument {
    /// When it began.
    #[serde(default)]
    pub(in crate::cli) at: Option<String>,
    pub(in crate::cli) result: ProbeResult,
    pub(in crate::cli) reason: Option<String>,
    pub(in crate::cli) detail: Option<String>,
    /// Where it went.
    #[serde(default)]
    pub(in crate::cli) peer: Option<String>,
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
/// How things are, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Nothing to do.
    Healthy,
    /// Nothing is known to be wrong, but not every checked member has a verdict, or there
    /// is no channel.
    Unknown,
    /// Traffic flows, with fewer members than meant.
    Degraded,
    /// Some channel has nobody to take traffic.
    Critical,
}

impl Verdict {
    /// The word people read.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }
}

/// A verdict and one line for each thing that led to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assessment {
    pub(super) verdict: Verdict,
    pub(super) findings: Vec<String>,
}

/// Judges all channels.
pub(super) fn assess(ready: bool, channels: &[ChannelDocument]) -> Assessment {
    let mut assessment = Assessment { verdict: Verdict::Healthy, findings: Vec::new() };
    if channels.is_empty() {
        // An empty configuration is more often a lost one than a wanted one.
        assessment.verdict = Verdict::Unknown;
        assessment.findings.push("no channel is configured".to_owned());
    }
    for channel in channels {
        let (verdict, finding) = assess_channel(channel);
        assessment.verdict = assessment.verdict.max(verdict);
        assessment
            .findings
            .extend(finding.map(|finding| format!("{}: {finding}", printable(&channel.name, 64))));
    }
    if !ready {
        assessment.verdict = assessment.verdict.max(Verdict::Unknown);
        assessment.findings.push("not ready: some members have no verdict yet".to_owned());
    }
    assessment
}

fn assess_channel(channel: &ChannelDocument) -> (Verdict, Option<String>) {
    let enabled = channel.members.iter().filter(|member| member.enabled).count();
    let unhealthy = channel.members.iter().filter(|m| m.enabled && m.health == HealthWord::Unhealthy).count();
    let in_rotation = channel.members.iter().filter(|member| member.in_rotation).count();
    let usable =
        channel.members.iter().any(|m| m.in_rotation && m.weight > 0 && m.health != HealthWord::Unhealthy);
    if !usable {
        let finding = match (channel.members.len(), enabled) {
            (0, _) => "it has no members".to_owned(),
            (_, 0) => "every member is disabled".to_owned(),
            (_, enabled) => {
                let why = match enabled == unhealthy {
                    true => format!("all {enabled} enabled members are unhealthy"),
                    false => "all enabled members that are not unhealthy have weight 0".to_owned(),
                };
                match in_rotation {
                    0 => format!("nobody takes traffic: {why}"),
                    _ => format!("{why}, traffic goes to {in_rotation} of {enabled} (fail_open)"),
                }
            }
        };
        return (Verdict::Critical, Some(finding));
    }
    let mut verdict = Verdict::Healthy;
    let mut findings = Vec::new();
    if channel.on_backup {
        verdict = Verdict::Degraded;
        findings.push("on standby members".to_owned());
    }
    if unhealthy > 0 {
        verdict = Verdict::Degraded;
        findings.push(format!("{unhealthy} of {enabled} enabled members unhealthy"));
    }
    if let Some(waiting) = without_verdict(channel, enabled) {
        verdict = verdict.max(Verdict::Unknown);
        findings.push(waiting);
    }
    (verdict, (!findings.is_empty()).then(|| findings.join(", ")))
}

/// How many enabled members of a checked channel have no verdict, and since when the
/// first of them waits.
fn without_verdict(channel: &ChannelDocument, enabled: usize) -> Option<String> {
    let waiting = || channel.members.iter().filter(|m| m.enabled && m.health == HealthWord::Unknown);
    if !channel.checked || waiting().next().is_none() {
        return None;
    }
    let count = format!("{} of {enabled} enabled members without a verdict", waiting().count());
    // Times of one form and one zone are ordered as their texts are.
    match waiting().filter_map(|member| member.since.as_deref()).min() {
        Some(since) => Some(format!("{count} since {}", printable(since, 40))),
        None => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"healthy 5 in 12:00"`: health, weight, then `in`, `out` or `off`, and since when.
    fn member(text: &str) -> MemberDocument {
        let words: Vec<&str> = text.split(' ').collect();
        MemberDocument {
            address: "10.0.0.1:80".to_owned(),
            id: None,
            name: None,
            group: None,
            backup: false,
            enabled: words[2] != "off",
            weight: words[1].parse().expect("weight"),
            health: match words[0] {
                "healthy" => HealthWord::Healthy,
                "unhealthy" => HealthWord::Unhealthy,
                _ => HealthWord::Unknown,
            },
            verdict_from: None,
            last_known: None,
            in_rotation: words[2] == "in",
            since: words.get(3).map(|&since| since.to_owned()),
            last_probe: None,
        }
    }

    fn channel(on_backup: bool, members: &[&str]) -> ChannelDocument {
        let members = members.iter().map(|text| member(text)).collect();
        ChannelDocument {
            name: "web".to_owned(),
            on_backup,
            checked: true,
            probe_defaults: Vec::new(),
            members,
        }
    }

    fn unchecked(members: &[&str]) -> ChannelDocument {
        ChannelDocument { checked: false, ..channel(false, members) }
    }

    /// What it shows, ready, the channels, and what is expected.
    type Case = (&'static str, bool, Vec<ChannelDocument>, Verdict, &'static [&'static str]);

    #[test]
    fn the_worst_channel_decides() {
        let fine = || channel(false, &["healthy 1 in", "healthy 1 in"]);
        let cases: [Case; 18] = [
            ("all well", true, vec![fine()], Verdict::Healthy, &[]),
            (
                "unchecked members are no fault",
                true,
                vec![unchecked(&["unknown 1 in"])],
                Verdict::Healthy,
                &[],
            ),
            (
                "a disabled unhealthy one neither",
                true,
                vec![channel(false, &["healthy 1 in", "unhealthy 1 off"])],
                Verdict::Healthy,
                &[],
            ),
            (
                "starting",
                false,
                vec![unchecked(&["unknown 1 in"])],
                Verdict::Unknown,
                &["not ready: some members have no verdict yet"],
            ),
            (
                "three without a verdict, ready or not",
                true,
                vec![channel(
                    false,
                    &[
                        "healthy 1 in 12:00",
                        "unknown 1 in 12:02",
                        "unknown 1 in 12:01",
                        "unknown 1 in",
                        "unknown 1 off",
                    ],
                )],
                Verdict::Unknown,
                &["web: 3 of 4 enabled members without a verdict since 12:01"],
            ),
            (
                "no driver has taken it over yet",
                true,
                vec![channel(false, &["healthy 1 in 12:00", "unknown 1 in"])],
                Verdict::Unknown,
                &["web: 1 of 2 enabled members without a verdict"],
            ),
            (
                "something is worse than unknown",
                true,
                vec![channel(true, &["unhealthy 1 out 12:00", "unknown 1 in 12:01"])],
                Verdict::Degraded,
                &[
                    "web: on standby members, 1 of 2 enabled members unhealthy, 1 of 2 enabled members without a verdict since 12:01",
                ],
            ),
            (
                "one down",
                true,
                vec![fine(), channel(false, &["healthy 1 in", "unhealthy 1 out"])],
                Verdict::Degraded,
                &["web: 1 of 2 enabled members unhealthy"],
            ),
            (
                "one down while starting",
                false,
                vec![channel(false, &["unknown 1 in", "unhealthy 1 out"])],
                Verdict::Degraded,
                &[
                    "web: 1 of 2 enabled members unhealthy, 1 of 2 enabled members without a verdict",
                    "not ready: some members have no verdict yet",
                ],
            ),
            (
                "on standby",
                true,
                vec![channel(true, &["unhealthy 1 out", "healthy 1 in"])],
                Verdict::Degraded,
                &["web: on standby members, 1 of 2 enabled members unhealthy"],
            ),
            (
                "all down",
                true,
                vec![channel(false, &["unhealthy 1 out"]), fine()],
                Verdict::Critical,
                &["web: nobody takes traffic: all 1 enabled members are unhealthy"],
            ),
            (
                "all down, fail open",
                true,
                vec![channel(false, &["unhealthy 1 in"])],
                Verdict::Critical,
                &["web: all 1 enabled members are unhealthy, traffic goes to 1 of 1 (fail_open)"],
            ),
            (
                "all disabled",
                true,
                vec![channel(false, &["healthy 1 off"])],
                Verdict::Critical,
                &["web: every member is disabled"],
            ),
            (
                "weight 0",
                true,
                vec![channel(false, &["healthy 0 out", "unhealthy 1 out"])],
                Verdict::Critical,
                &["web: nobody takes traffic: all enabled members that are not unhealthy have weight 0"],
            ),
            (
                "weight 0, fail open by weights",
                true,
                vec![channel(false, &["healthy 0 out", "unhealthy 1 in"])],
                Verdict::Critical,
                &["web: all enabled members that are not unhealthy have weight 0, \
                   traffic goes to 1 of 2 (fail_open)"],
            ),
            (
                "weight 0, fail open as equals",
                true,
                vec![channel(false, &["healthy 0 in", "healthy 0 in"])],
                Verdict::Critical,
                &["web: all enabled members that are not unhealthy have weight 0, \
                   traffic goes to 2 of 2 (fail_open)"],
            ),
            (
                "a drained primary beside one that works is no fault",
                true,
                vec![channel(false, &["healthy 0 out", "healthy 1 in"])],
                Verdict::Healthy,
                &[],
            ),
            (
                "empty channel",
                true,
                vec![channel(false, &[])],
                Verdict::Critical,
                &["web: it has no members"],
            ),
        ];
        for (case, ready, channels, verdict, findings) in cases {
            let assessment = assess(ready, &channels);
            assert_eq!(assessment.verdict, verdict, "{case}");
            assert_eq!(assessment.findings, findings, "{case}");
        }
        let nothing = assess(true, &[]);
        assert_eq!((nothing.verdict, &*nothing.findings[0]), (Verdict::Unknown, "no channel is configured"));
    }
}
