//! What a status means as a whole: the exit code of `vitald status`.
//!
//! The order is that of monitoring plugins: the worst channel decides.

use super::document::{ChannelDocument, HealthWord};
use crate::cli::console::printable;

/// How things are, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Nothing to do.
    Healthy,
    /// Nothing is wrong, but not every member has a first verdict.
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
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) findings: Vec<String>,
}

/// Judges all channels.
pub(super) fn judge(ready: bool, channels: &[ChannelDocument]) -> Judgement {
    let mut judgement = Judgement { verdict: Verdict::Healthy, findings: Vec::new() };
    if channels.is_empty() {
        judgement.findings.push("no channel is configured".to_owned());
    }
    for channel in channels {
        let (verdict, finding) = judge_channel(channel);
        judgement.verdict = judgement.verdict.max(verdict);
        judgement
            .findings
            .extend(finding.map(|finding| format!("{}: {finding}", printable(&channel.name, 64))));
    }
    if !ready {
        judgement.verdict = judgement.verdict.max(Verdict::Unknown);
        judgement.findings.push("not ready: some members have no verdict yet".to_owned());
    }
    judgement
}

fn judge_channel(channel: &ChannelDocument) -> (Verdict, Option<String>) {
    let enabled = channel.members.iter().filter(|member| member.enabled).count();
    let unhealthy = channel.members.iter().filter(|m| m.enabled && m.health == HealthWord::Unhealthy).count();
    let in_rotation = channel.members.iter().any(|member| member.in_rotation);
    let usable =
        channel.members.iter().any(|m| m.in_rotation && m.weight > 0 && m.health != HealthWord::Unhealthy);
    if !usable {
        let finding = match (channel.members.len(), enabled) {
            (0, _) => "it has no members".to_owned(),
            (_, 0) => "every member is disabled".to_owned(),
            (_, enabled) if enabled == unhealthy && in_rotation => {
                format!(
                    "all {enabled} enabled members are unhealthy, traffic goes to all of them (fail_open)"
                )
            }
            (_, enabled) if enabled == unhealthy => {
                format!("nobody takes traffic: all {enabled} enabled members are unhealthy")
            }
            _ => "nobody takes traffic: every member in rotation has weight 0".to_owned(),
        };
        return (Verdict::Critical, Some(finding));
    }
    let unhealthy = (unhealthy > 0).then(|| format!("{unhealthy} of {enabled} enabled members unhealthy"));
    match (channel.on_backup, unhealthy) {
        (true, Some(unhealthy)) => (Verdict::Degraded, Some(format!("on standby members, {unhealthy}"))),
        (true, None) => (Verdict::Degraded, Some("on standby members".to_owned())),
        (false, Some(unhealthy)) => (Verdict::Degraded, Some(unhealthy)),
        (false, None) => (Verdict::Healthy, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::MemberDocument;
    use super::*;

    /// `"healthy 5 in"`: health, weight, then `in`, `out` or `off`.
    fn member(text: &str) -> MemberDocument {
        let words: Vec<&str> = text.split(' ').collect();
        MemberDocument {
            address: "10.0.0.1:80".to_owned(),
            group: None,
            backup: false,
            enabled: words[2] != "off",
            weight: words[1].parse().expect("weight"),
            health: match words[0] {
                "healthy" => HealthWord::Healthy,
                "unhealthy" => HealthWord::Unhealthy,
                _ => HealthWord::Unknown,
            },
            in_rotation: words[2] == "in",
            since: String::new(),
            last_probe: None,
        }
    }

    fn channel(on_backup: bool, members: &[&str]) -> ChannelDocument {
        let members = members.iter().map(|text| member(text)).collect();
        ChannelDocument { name: "web".to_owned(), on_backup, members }
    }

    /// What it shows, ready, the channels, and what is expected.
    type Case = (&'static str, bool, Vec<ChannelDocument>, Verdict, &'static [&'static str]);

    #[test]
    fn the_worst_channel_decides() {
        let fine = || channel(false, &["healthy 1 in", "healthy 1 in"]);
        let cases: [Case; 12] = [
            ("all well", true, vec![fine()], Verdict::Healthy, &[]),
            (
                "unchecked members are no fault",
                true,
                vec![channel(false, &["unknown 1 in"])],
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
                vec![channel(false, &["unknown 1 in"])],
                Verdict::Unknown,
                &["not ready: some members have no verdict yet"],
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
                &["web: 1 of 2 enabled members unhealthy", "not ready: some members have no verdict yet"],
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
                &["web: all 1 enabled members are unhealthy, traffic goes to all of them (fail_open)"],
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
                vec![channel(false, &["healthy 0 in", "unhealthy 1 out"])],
                Verdict::Critical,
                &["web: nobody takes traffic: every member in rotation has weight 0"],
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
            let judgement = judge(ready, &channels);
            assert_eq!(judgement.verdict, verdict, "{case}");
            assert_eq!(judgement.findings, findings, "{case}");
        }
        assert_eq!(judge(true, &[]).verdict, Verdict::Healthy);
    }
}
